"""``python -m pgpull``."""

from pgpull.cli import main

main()
