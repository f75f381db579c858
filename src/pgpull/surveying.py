"""What is here, and what is on the server: rows by day on both sides, one count a side. Nothing is written."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, replace
from datetime import date, datetime
from typing import Any, Final
from zoneinfo import ZoneInfo

import psycopg
from sqlalchemy.engine import URL

from pgpull import catalog, objecting, privacy, scoping
from pgpull.diagnosis import translated
from pgpull.endpoints import Endpoint, endpoint_of
from pgpull.errors import ConnectionLost, PlanError
from pgpull.model import Request, Scope, Window
from pgpull.periods import Counts, Period, Unit, finest_that_fits, fold
from pgpull.requesting import DEFAULT_WINDOW, make_request
from pgpull.sessions import Session, open_source, open_target
from pgpull.shapes import Shape, TableName
from pgpull.sql.status import count_by_day

_EPOCH: Final = date(1970, 1, 1).toordinal()

Moment = date | datetime
"""What a date column holds: a date, a wall-clock time, or an instant, which is told in the user's zone."""


@dataclass(frozen=True, slots=True)
class Question:
    """What the user wants to see: the rows of a scope, by the days of a column."""

    request: Request
    column: str = DEFAULT_WINDOW
    unit: Unit | None = None
    """None for the shortest whose picture fits."""


@dataclass(frozen=True, slots=True)
class Survey:
    """What both sides hold of a scope. Counts only: equal counts are not equal rows."""

    question: Question
    unit: Unit
    timezone: str | None
    """The zone that days begin and end in; None where the column holds dates or wall-clock times."""
    periods: tuple[Period, ...]
    """In order of time; those without a row on either side are left out."""
    undated: Counts
    """Rows without a date."""
    infinite: Counts
    """Rows whose date is infinite, or outside the years 1 to 9999."""
    first_missing: date | None
    """The first day that has fewer rows here."""
    newest_source: Moment | None
    newest_target: Moment | None
    source: str
    target: str
    snapshot: datetime
    """The instant of the source that was looked at."""

    @property
    def table(self) -> TableName:
        """The table's name, the same on both sides."""
        return self.question.request.table

    @property
    def total(self) -> Counts:
        """All rows in scope."""
        return sum((period.counts for period in self.periods), self.undated + self.infinite)


@dataclass(frozen=True, slots=True)
class _Side:
    """What one side answered."""

    days: Mapping[date, int]
    undated: int
    infinite: int
    newest: Moment | None


def make_question(
    table: str,
    *,
    since: str | date | datetime | None = None,
    until: str | date | datetime | None = None,
    window: str | None = None,
    by: str | None = None,
    **what: Any,
) -> Question:
    """Turn what people write into the value that is asked; see :func:`status` for the arguments.

    Raises:
        UsageError: an argument makes no sense.
    """
    has_end = since is not None or until is not None
    request = make_request(table, since=since, until=until, window=window if has_end else None, **what)
    return Question(request, window or DEFAULT_WINDOW, None if by is None else Unit.parse(by))


def status(
    table: str,
    *,
    source: str | URL | Endpoint,
    target: str | URL | Endpoint,
    since: str | date | datetime | None = None,
    until: str | date | datetime | None = None,
    window: str | None = None,
    equals: Mapping[str, object] | None = None,
    where: str | None = None,
    by: str | None = None,
    timezone: str = "UTC",
) -> Survey:
    """Count the rows of a table, or those in scope, by time on both sides. Nothing is written.

    Args:
        table: ``schema.table``, the same on both sides.
        source: URL of the server's database.
        target: URL of the local database.
        since: first instant of the window, included; a date, a datetime, or ISO 8601 text.
        until: end of the window, excluded.
        window: the date column that rows are counted by, and that the window stands on; ``created_at`` unless
            named.
        equals: columns and the values that rows in scope have there.
        where: an SQL condition that both sides understand.
        by: ``day``, ``week``, ``month`` or ``year``; the shortest whose picture fits unless named.
        timezone: the IANA zone that days begin and end in, and that dates without an offset are read in.

    Returns:
        What was counted. Equal counts are not equal rows.

    Raises:
        UsageError: an argument makes no sense.
        Refused: a side cannot be reached, or does not have the table, the column or what the scope names.
        Stopped: a side did not answer.
    """
    question = make_question(
        table, since=since, until=until, window=window, equals=equals, where=where, by=by, timezone=timezone
    )
    return survey(question, endpoint_of(source, "source"), endpoint_of(target, "target"))


def survey(question: Question, source: Endpoint, target: Endpoint) -> Survey:
    """Ask both sides; see :func:`status` for what is returned and raised."""
    try:
        with closing(open_target(target)) as local, open_source(source) as server:
            return _survey(question, server, local)
    except ConnectionLost as error:
        raise ConnectionLost(error.message, "nothing was written; run the same command again") from error


def _survey(question: Question, source: Session, target: Session) -> Survey:
    shapes = _shapes(question, source, target)
    theirs, ours = _at_once(lambda side: _count(side, shapes[side.side], question), source, target)
    days = {
        day: Counts.of(theirs.days.get(day, 0), ours.days.get(day, 0))
        for day in sorted({*theirs.days, *ours.days})
    }
    unit = question.unit or finest_that_fits(days)
    zoned = any(_base(shape, question) == "timestamptz" for shape in shapes.values())
    return Survey(
        question=question,
        unit=unit,
        timezone=question.request.timezone if zoned else None,
        periods=fold(days, unit),
        undated=Counts.of(theirs.undated, ours.undated),
        infinite=Counts.of(theirs.infinite, ours.infinite),
        first_missing=next((day for day, counts in days.items() if counts.missing), None),
        newest_source=theirs.newest,
        newest_target=ours.newest,
        source=source.described,
        target=target.described,
        snapshot=source.identity.now,
    )


# --- may it be asked -------------------------------------------------------------------------------------


def _shapes(question: Question, source: Session, target: Session) -> dict[str, Shape]:
    """Look at the table on both sides, and make sure that both understand the question."""
    shapes: dict[str, Shape] = {}
    for session in (source, target):
        table = question.request.table
        shape = catalog.shapes_of(session, [table]).get(table)
        if shape is None:
            raise catalog.missing_table(session, table, shapes.get(source.side))
        catalog.check_kind(session, shape)
        if session is source:
            shape, _ = privacy.masked(source, replace(question.request, scope=_scope(question)), shape)
        _check(question, session, shape)
        shapes[session.side] = shape
    return shapes


def _scope(question: Question) -> Scope:
    """The rows in scope, and the column that they are counted by."""
    scope = question.request.scope
    return replace(scope, window=scope.window or Window(question.column))


def _check(question: Question, session: Session, shape: Shape) -> None:
    request = question.request
    try:
        objecting.check_scope(replace(request.scope, window=Window(question.column)), shape)
    except PlanError as error:
        raise PlanError(f"{session.side}: {error.message}", error.hint) from error
    scoping.check_condition(session, request.scope, shape, request.timezone)


def _base(shape: Shape, question: Question) -> str:
    column = shape.column(question.column)
    assert column is not None, "the question was checked"
    return column.type.base


# --- asking ----------------------------------------------------------------------------------------------


def _at_once(ask: Callable[[Session], _Side], source: Session, target: Session) -> tuple[_Side, _Side]:
    """Ask both sides at the same time; whatever ends the one ends the other."""
    with ThreadPoolExecutor(max_workers=1) as thread:
        ours = thread.submit(ask, target)
        try:
            return ask(source), ours.result()
        except BaseException:
            target.cancel()
            raise


def _count(session: Session, shape: Shape, question: Question) -> _Side:
    request, column = question.request, shape.column(question.column)
    assert column is not None, "the question was checked"
    statement = count_by_day(shape, request.scope, column, request.timezone)
    with translated(session.side, session.connection):
        try:
            answer = session.connection.execute(statement).fetchall()
        except psycopg.errors.InvalidParameterValue as error:
            if request.timezone not in (error.diag.message_primary or ""):
                raise
            raise PlanError(
                f"{session.side} knows no time zone {request.timezone}",
                "its time zones are older than yours: use another name for it",
            ) from error
    return _side(answer, column.type.base, ZoneInfo(request.timezone))


def _side(answer: Iterable[tuple[Any, ...]], base: str, zone: ZoneInfo) -> _Side:
    days: dict[date, int] = {}
    newest: list[Moment] = []
    undated = infinite = 0
    for number, is_undated, rows, latest in answer:
        if is_undated:
            undated += rows
        elif dated := _dated(number, latest, base, zone):
            days[dated[0]] = rows
            newest.append(dated[1])
        else:
            infinite += rows
    return _Side(days, undated, infinite, max(newest, default=None))


def _dated(number: int | None, latest: str, base: str, zone: ZoneInfo) -> tuple[date, Moment] | None:
    """Return a day and its newest value, or None for a day that is not in Python's calendar."""
    if number is None:
        return None
    try:
        day = date.fromordinal(_EPOCH + number)
        if base == "date":
            return day, day
        moment = datetime.fromisoformat(latest)
        return day, moment if moment.tzinfo is None else moment.astimezone(zone)
    except (ValueError, OverflowError):
        return None
