"""What people ask for, read into the value that is planned from. Pure."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping, Sequence
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Final, TypedDict, Unpack

from pgpull.arguments import duration, instant, ordered, zone
from pgpull.errors import UsageError
from pgpull.masking import Masks, rules_of
from pgpull.model import (
    DEFAULT_BATCH_ROWS,
    DEFAULT_MAX_DELETE,
    Job,
    Limit,
    OnConflict,
    Request,
    Scope,
    Wanted,
    Window,
)
from pgpull.shapes import TableName, TablePattern

ANY: Final = TableName("", "")
"""In place of a table's name, where it is not known yet, or any will do."""

DEFAULT_WINDOW = "created_at"
DEFAULT_OVERLAP = timedelta(hours=1)


_OURS: Final = ("window_names", "months")
"""Words that only pgpull itself says."""


class ScopeWords(TypedDict, total=False):
    """Which rows are meant."""

    since: str | date | datetime | None
    until: str | date | datetime | None
    window: str | None
    equals: Mapping[str, object] | None
    where: str | None
    timezone: str
    window_names: tuple[str, str]
    months: bool


class RowWords(ScopeWords, total=False):
    """Which rows are meant, and which of their columns."""

    without: Sequence[str]
    keep: Sequence[str]
    mask: Mapping[str, object] | Masks
    mask_strict: bool


class Words(RowWords, total=False):
    """Which rows are meant, and how they are written."""

    on_conflict: str
    batch_size: int
    max_errors: str | int | None
    mirror: bool
    max_delete: str | int
    replace: bool
    new: bool
    overlap: str | timedelta
    verify: bool
    row_versions: bool


class JobWords(TypedDict, total=False):
    """Which tables are meant, and what comes along."""

    exclude: Sequence[str]
    with_parents: bool
    with_children: Sequence[str]
    create_missing: bool


def make_job(tables: Sequence[str | TableName], request: Request, **words: Unpack[JobWords]) -> Job:
    """Ask for the same of some tables.

    Args:
        tables: names or patterns (``askwealth.*``).
        request: what is asked for of each; the table that it names stands in for theirs.
        words: which of the tables are not meant, and what comes along.

    Raises:
        UsageError: a word makes no sense.
    """
    if not tables:
        raise UsageError("no table is named", "name one, or a pattern such as 'askwealth.*'")
    patterns = (TablePattern.of(t) if isinstance(t, TableName) else TablePattern.parse(t) for t in tables)
    return job_of((Wanted(pattern, request) for pattern in patterns), **words)


def said_job(tables: Sequence[str], words: Words, **along: Unpack[JobWords]) -> Job:
    """Ask for what somebody has said himself of some tables; see :func:`said_request` and :func:`make_job`.

    Raises:
        UsageError: a word makes no sense.
    """
    return make_job(tables, said_request(ANY, **words), **along)


def job_of(wanted: Iterable[Wanted], **words: Unpack[JobWords]) -> Job:
    """Make a job; see :func:`make_job` for the words.

    Raises:
        UsageError: a word makes no sense.
    """
    return Job(
        wanted=tuple(wanted),
        exclude=tuple(map(TablePattern.parse, words.get("exclude", ()))),
        with_parents=words.get("with_parents", False),
        with_children=tuple(map(TablePattern.parse, words.get("with_children", ()))),
        create_missing=words.get("create_missing", False),
    )


def make_request(table: str | TableName, **words: Unpack[Words]) -> Request:
    """Turn what people write into a request; :func:`pgpull.pull` says what each word means.

    Raises:
        UsageError: a word makes no sense.
    """
    timezone = words.get("timezone", "UTC")
    zone(timezone)
    new = words.get("new", False)
    max_errors = words.get("max_errors")
    return Request(
        table=table if isinstance(table, TableName) else TableName.parse(table),
        scope=_scope(words, timezone, new),
        on_conflict=OnConflict.parse(words.get("on_conflict", OnConflict.SKIP)),
        batch_rows=words.get("batch_size", DEFAULT_BATCH_ROWS),
        max_errors=None if max_errors is None else Limit.parse(str(max_errors), "--max-errors"),
        timezone=timezone,
        mirror=words.get("mirror", False),
        max_delete=Limit.parse(str(words.get("max_delete", DEFAULT_MAX_DELETE)), "--max-delete"),
        replace=words.get("replace", False),
        new=duration(words.get("overlap", DEFAULT_OVERLAP), "overlap") if new else None,
        verify=words.get("verify", False),
        use_versions=words.get("row_versions", True),
        without=tuple(words.get("without", ())),
        keep=tuple(words.get("keep", ())),
        masks=_masks(words),
    )


def said_request(table: str | TableName, **words: Unpack[Words]) -> Request:
    """Turn what somebody has said himself, all of it, into a request; see :func:`make_request`.

    Raises:
        UsageError: a word makes no sense, or says how another one is to work that was forgotten.
    """
    check_words(words, Words)
    for word, other in (("overlap", "new"), ("max_delete", "mirror")):
        if word in words and other not in words:
            raise UsageError(f"{word} has no effect without {other}", f"add {other}=True, or leave out {word}")
    return make_request(table, **words)


_ELSEWHERE: Final = {
    "dry_run": "pgpull.forecast says what a pull would do, and writes nothing",
    **dict.fromkeys(JobWords.__annotations__, "pgpull.pull_tables takes it"),
}
"""What is an argument of other functions, or an option of the command alone."""


def check_words(words: Mapping[str, object], kind: type, way: type | None = None) -> None:
    """Refuse a word that nobody would read: what it was to say would go unheard.

    Args:
        words: what somebody has said.
        kind: the typed dictionary that says which words there are.
        way: that of the words which are said as ``way``.

    Raises:
        UsageError: there is no such word.
    """
    for word in words:
        if word not in kind.__annotations__:
            by_way = way is not None and word in way.__annotations__
            meant = f'it is a part of way: way={{"{word}": ...}}' if by_way else _meant(word, kind)
            raise UsageError(f"there is no argument {word}", meant)


def _meant(word: str, kind: type) -> str:
    known = [name for name in kind.__annotations__ if name not in _OURS]
    if word not in _ELSEWHERE and (close := difflib.get_close_matches(word, known, n=1)):
        return f"did you mean {close[0]}?"
    return _ELSEWHERE.get(word, f"there are: {', '.join(known)}")


def _masks(words: RowWords) -> Masks:
    said = words.get("mask", {})
    masks = said if isinstance(said, Masks) else Masks.of_rules(rules_of(said))
    return masks.strictly() if words.get("mask_strict") else masks


def _scope(words: ScopeWords, timezone: str, new: bool) -> Scope:
    names = words.get("window_names", ("since", "until"))
    since, until, window = words.get("since"), words.get("until"), words.get("window")
    first = None if since is None else instant(since, timezone, names[0])
    end = None if until is None else instant(until, timezone, names[1])
    ordered(first, end, names)
    equals, where = words.get("equals") or {}, words.get("where")
    needed = bool(first or end or new or words.get("months"))
    _check_filters(None if needed else window, equals, where)
    return Scope(
        window=Window(window or DEFAULT_WINDOW, first, end) if needed else None,
        equals=tuple((name, str(value)) for name, value in equals.items()),
        where=where,
    )


def _check_filters(idle_window: str | None, equals: Mapping[str, object], where: str | None) -> None:
    """Refuse a filter that says nothing: left out without a word, it would bring the whole table."""
    if idle_window is not None:
        raise UsageError(f"the window on {idle_window} has no end", "give its start, its end, or both")
    if where is not None and not where.strip():
        raise UsageError("the condition is empty", "leave it out to have all rows")
    for name, value in equals.items():
        if value is None:
            raise UsageError(f"{name} cannot equal None", f'for rows without a value: where="{name} IS NULL"')


def default_rejects(job: Job) -> Path:
    """Return where rejects go unless the user names a file."""
    if job.single is None:
        return Path("pgpull.rejects.jsonl")
    table = job.single.table
    return Path(f"{table.schema}.{table.name}.rejects.jsonl".replace("/", "_"))
