"""What programs inherit that pgpull starts: the environment, less what is secret in it."""

from __future__ import annotations

import os
import re
from typing import Final

_SECRET: Final = re.compile(r"PG(SSL)?PASSWORD|\w+_DB_(URL|PASSWORD)|PGPULL_\w*KEY")


def environment() -> dict[str, str]:
    """Return the variables for a program that has no use for our secrets: other accounts may see them there."""
    return {name: value for name, value in os.environ.items() if not _SECRET.fullmatch(name)}
