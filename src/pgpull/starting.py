"""The first half second of a program, in which it reads its modules."""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def starting() -> Iterator[None]:
    """Read modules inside a block: soon, and ended by Ctrl-C in one line, with exit code 130."""
    gc.disable()  # what is imported stays: to look for what does not takes a twentieth of a second
    try:
        yield
    except KeyboardInterrupt:
        print("interrupted; nothing was written", file=sys.stderr, flush=True)
        os._exit(130)  # sys.exit would end by the signal where the interrupt came in a text that was executed
    gc.enable()
