#!/usr/bin/env python
"""Load any table from the server into the local database; README.md beside this file tells how."""

from pgpull.scripts import pull_any_table, single

main = single(pull_any_table)

if __name__ == "__main__":
    main()
