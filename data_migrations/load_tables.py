#!/usr/bin/env python
"""Load any table from the server into the local database; README.md beside this file tells how."""

from pgpull.cli import pull, single

main = single(pull)

if __name__ == "__main__":
    main()
