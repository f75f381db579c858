"""Whether two tables hold the same rows, and which keys differ: :func:`diff`."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TextIO, Unpack

from sqlalchemy.engine import URL

from pgpull import preparing
from pgpull.comparing import all_keys, compare_in_full, some_keys
from pgpull.endpoints import Endpoint, endpoint_of
from pgpull.errors import SettingsError
from pgpull.listening import Listener
from pgpull.looking import look, see
from pgpull.model import Job, Request
from pgpull.private_files import open_private
from pgpull.requesting import ANY, RowWords, check_words, make_job, make_request
from pgpull.results import Difference
from pgpull.sessions import Session, open_source, open_target

_NAMED = 10
"""Keys that a difference names."""


@dataclass(frozen=True, slots=True)
class Matter:
    """What is to be compared, and where the keys go that differ."""

    job: Job
    keys: Path | None = None


def diff(
    *tables: str,
    source: str | URL | Endpoint,
    target: str | URL | Endpoint,
    keys: str | Path | None = None,
    listener: Listener | None = None,
    **words: Unpack[RowWords],
) -> list[Difference]:
    """Compare tables, or their rows in scope, by a hash of each row; all at one instant of the source.

    Args:
        tables: names or patterns, the same on both sides.
        source: URL of the server's database, only ever read.
        target: URL of the local database; only temporary tables are made there.
        keys: file for all keys that differ, JSON lines, mode 0600; written anew.
        listener: hears how it goes on.
        words: which rows: ``since``, ``until``, ``window``, ``equals``, ``where``, ``timezone``, as
            :func:`pgpull.pull` takes them; columns that are left out (``without``) or kept as they are here
            (``keep``) are not compared.

    Returns:
        A difference for each table; ``difference.equal`` tells.

    Raises:
        UsageError: an argument makes no sense.
        Refused: a connection or the plan stood in the way.
        Stopped: a connection was lost.
    """
    check_words(words, RowWords)
    job = make_job(tables, make_request(ANY, **words))
    matter = Matter(job, Path(keys) if keys else None)
    return list(differences(matter, endpoint_of(source, "source"), endpoint_of(target, "target"), listener))


def differences(
    matter: Matter, source: Endpoint, target: Endpoint, listener: Listener | None = None
) -> Iterator[Difference]:
    """Compare what each request means; see :func:`diff`."""
    hears = listener or Listener()
    with closing(open_target(target)) as local, open_source(source) as server, _file(matter.keys) as file:
        for request in preparing.requests(server, matter.job):
            yield _difference(server, local, request, file, hears)


@contextmanager
def _file(path: Path | None) -> Iterator[TextIO | None]:
    """Have a file for keys, if one is named; the disk may be full at any line of it, the last one included."""
    if path is None:
        yield None
        return
    try:
        with os.fdopen(open_private(path), "w", encoding="utf-8") as file:
            if path.is_file():
                file.truncate(0)
            yield file
    except OSError as error:
        raise SettingsError(
            f"the file {path} cannot be written: {error.strerror}", "name another with --keys"
        ) from None


def _difference(
    source: Session, target: Session, request: Request, file: TextIO | None, listener: Listener
) -> Difference:
    started = time.monotonic()
    plan = look(source, target, request, see(source, target, [request.table]))
    listener.looked(plan, source, target)
    found = compare_in_full(source, target, plan)
    plan = replace(plan, method=found.method, comparison=found)
    for state, key in all_keys(target, plan) if file else ():
        line = {"table": str(plan.table), "difference": state, "key": key}
        print(json.dumps(line, ensure_ascii=False), file=file)
    return Difference(
        plan=plan,
        comparison=found,
        keys=tuple(some_keys(target, plan, _NAMED)),
        snapshot=source.identity.now,
        seconds=time.monotonic() - started,
    )
