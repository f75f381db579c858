"""The command ``pgpull``, also as ``python -m pgpull``."""

import gc
import os
import sys


def main() -> None:
    """Run the ``pgpull`` command."""
    gc.disable()  # what is imported stays: to look for what does not takes a twentieth of a second
    try:
        from pgpull.cli import main as run
    except KeyboardInterrupt:
        print("interrupted; nothing was written", file=sys.stderr, flush=True)
        os._exit(130)  # sys.exit would end by the signal where the interrupt came in a text that was executed
    gc.enable()
    run()


if __name__ == "__main__":
    main()
