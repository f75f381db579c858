"""An archive in place of the source: laid out in the target's database as far as it has to be asked."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from typing import Final

import psycopg

from pgpull import catalog, scoping, selecting
from pgpull.archives import ArchivedTable
from pgpull.diagnosis import TARGET, fact, translated
from pgpull.errors import ArchiveError, PgpullError, PlanError
from pgpull.making import make_table
from pgpull.model import Job, Request, Scope
from pgpull.pacing import NO_PACE, Pace
from pgpull.reading import Damaged, chunks
from pgpull.sessions import Session, open_another, open_source
from pgpull.shapes import Shape, TableName
from pgpull.sql import laying as sql
from pgpull.substitutes import TEXT, Archive, Substitute, brings_others, layout, may_flow, shape_of, within
from pgpull.unpacking import changed

_NARROWER: Final = "is local's encoding another than the archive's? UTF8 takes everything"
_UNKNOWN: Final = (
    "the server's database is SQL_ASCII, and has text that is in no encoding: pull from the server itself, or"
    " load into an empty table; then such rows are refused one by one"
)


@contextmanager
def in_place_of_source(
    archive: Archive,
    target: Session,
    job: Job,
    *,
    streams: bool = True,
    share: bool = False,
    pace: Pace = NO_PACE,
    noticed: Callable[[str], None] = lambda _: None,
) -> Iterator[Session]:
    """Open a session that sees an archive's tables as if they were a server's, until the block ends.

    It is in the target's database, and can only read.

    Args:
        archive: which was found whole.
        target: the local side, which may be written.
        job: what is asked for.
        streams: whether rows may go from the files into COPY, and are only read; else all is laid out.
        share: whether other sessions are to see the same instant.
        pace: holds those back who read it.
        noticed: called with what was made.

    Raises:
        PlanError: there is no place to lay it out.
        Stopped: a file was changed since the archive was found whole.
        ConnectionLost: the target went away.
    """
    _drop_left_over(target)
    tables = _asked(archive, job)
    ours = catalog.shapes_of(target, tables)
    if job.create_missing and streams and not brings_others(job):  # else it is made when it is known what comes
        ours |= _made(target, [each for table, each in tables.items() if table not in ours], noticed)
    laid = _to_lay(archive, target, job, ours, streams)
    with _laid_out(archive, target, laid) as shapes:
        others = {each.table: shape_of(each, None, None) for each in archive.manifest.tables}
        substitute = Substitute(archive, {**others, **shapes})
        with open_source(target.endpoint, share=share, pace=pace, substitute=substitute) as session:
            yield session


def _asked(archive: Archive, job: Job) -> dict[TableName, ArchivedTable]:
    """Return the tables that a job may need."""
    there = {each.table: each for each in archive.manifest.tables}
    if brings_others(job):
        return there
    names = {table: each.shape.root for table, each in there.items()}
    wanted = {request.table for request in selecting.requests(job, names)}
    return {table: each for table, each in there.items() if table in wanted}


def make_archived(
    target: Session, substitute: Substitute, tables: Sequence[TableName], noticed: Callable[[str], None]
) -> None:
    """Make tables of an archive that the target lacks, as far as its manifest knows them.

    Args:
        target: the local side.
        substitute: what stands in place of the source.
        tables: those that are asked for.
        noticed: called with what was made.

    Raises:
        PlanError: a table cannot be made.
        ConnectionLost: the target went away.
    """
    here = catalog.shapes_of(target, tables)
    lacking = [substitute.table(table) for table in tables if table not in here and table in substitute.shapes]
    _made(target, lacking, noticed)


def _made(
    target: Session, tables: Sequence[ArchivedTable], noticed: Callable[[str], None]
) -> dict[TableName, Shape]:
    """Make tables that the target lacks, as far as a manifest knows them."""
    made = {}
    for each in tables:
        if shape := make_table(target, shape_of(each, None, None)):
            made[each.table] = shape
    if made:
        names = ", ".join(map(str, made))
        noticed(f"made {names}, each with its columns and its key: an archive knows no more of a table")
    return made


def _to_lay(
    archive: Archive, target: Session, job: Job, ours: Mapping[TableName, Shape], streams: bool
) -> list[ArchivedTable]:
    asked = _asked(archive, job)
    if brings_others(job) or not streams:
        return list(asked.values())
    names = {table: each.shape.root for table, each in asked.items()}
    requests = {request.table: request for request in selecting.requests(job, names)}
    return [
        each
        for table, each in asked.items()
        if not _flows(target, within(requests[table], each), each, ours.get(table))
    ]


def _flows(target: Session, request: Request, archived: ArchivedTable, shape: Shape | None) -> bool:
    filled = shape is not None and scoping.holds_rows(target, shape, Scope(), request.timezone)
    return may_flow(request, archived, shape, filled=filled)


# --- scratch tables --------------------------------------------------------------------------------------


@contextmanager
def _laid_out(
    archive: Archive, target: Session, tables: Sequence[ArchivedTable]
) -> Iterator[Mapping[TableName, Shape]]:
    """Lay tables out for the length of a block; a session of its own keeps them, whatever becomes of others."""
    if not tables:
        yield {}
        return
    _check_allowed(target)
    number = secrets.randbits(32)
    with closing(open_another(target)) as keeper:
        places = _places(number, tables)
        try:
            with translated(TARGET, keeper.connection):
                keeper.connection.execute(sql.hold(number))
                for schema in {stored.schema for stored in places.values()}:
                    keeper.connection.execute(sql.create_schema(schema))
            yield {each.table: _lay(keeper, archive, each, places[each.table]) for each in tables}
        finally:
            _drop(keeper, {stored.schema for stored in places.values()})


def _check_allowed(target: Session) -> None:
    with translated(TARGET, target.connection):
        row = target.connection.execute(sql.MAY_MAKE).fetchone()
    if row and not row[0]:
        raise PlanError(
            f"role {target.identity.role} may not make schemas in local's {target.identity.database}, and the"
            " archive has to be laid out there to be compared",
            f"have its owner run: GRANT CREATE ON DATABASE ... TO {target.identity.role};",
        )


def _places(number: int, tables: Sequence[ArchivedTable]) -> dict[TableName, TableName]:
    """Name scratch tables like the tables, as conditions name them; a schema stands for each of theirs."""
    schemas = {name: place for place, name in enumerate(dict.fromkeys(each.table.schema for each in tables))}
    return {
        each.table: TableName(f"{sql.PREFIX}{number:08x}_{schemas[each.table.schema]}", each.table.name)
        for each in tables
    }


def _lay(keeper: Session, archive: Archive, archived: ArchivedTable, stored: TableName) -> Shape:
    """Lay a table out; as text, where a value is none of its type here: it will be refused by itself."""
    connection = keeper.connection
    with translated(TARGET, connection):
        columns = layout(archived, _built_in(connection, archived))
        try:
            _fill(connection, archive, archived, stored, columns)
        except psycopg.DataError:
            columns = tuple((name, TEXT) for name, _ in columns)
            try:
                _fill(connection, archive, archived, stored, columns)
            except psycopg.DataError as error:
                raise ArchiveError(
                    f"local does not take the text of {archived.table}: {fact(error)} ({error.sqlstate})",
                    _UNKNOWN if archive.manifest.encoding == "SQL_ASCII" else _NARROWER,
                ) from error
        connection.execute(sql.analyze(stored))
    return shape_of(archived, stored, dict(columns))


def _built_in(connection: psycopg.Connection, archived: ArchivedTable) -> set[str]:
    names = [column.type.base for column in archived.shape.columns]
    return {name for (name,) in connection.execute(sql.BUILT_IN, {"names": names})}


def _fill(
    connection: psycopg.Connection,
    archive: Archive,
    archived: ArchivedTable,
    stored: TableName,
    columns: Sequence[tuple[str, str]],
) -> None:
    with connection.transaction(), connection.cursor() as cursor:
        cursor.execute(sql.create(stored, columns))
        for file in archived.files:
            try:
                with cursor.copy(sql.copy(stored, columns)) as copy:
                    for chunk in chunks(archive, file):
                        copy.write(chunk)
            except Damaged as error:
                raise changed(archive, file) from error
            if cursor.rowcount != file.rows:
                raise changed(archive, file)


def _drop(keeper: Session, schemas: set[str]) -> None:
    """Drop scratch tables, on another connection if need be; the next load drops what is left then."""
    with suppress(psycopg.Error, PgpullError):
        with suppress(psycopg.OperationalError):  # that it is gone shows only when it is asked something
            if not keeper.broken_off:
                _drop_on(keeper, schemas)
                return
        with closing(open_another(keeper)) as another:
            _drop_on(another, schemas)


def _drop_on(session: Session, schemas: set[str]) -> None:
    for schema in schemas:
        session.connection.execute(sql.drop_schema(schema))


def _drop_left_over(target: Session) -> None:
    """Drop what a load has left that was killed: nobody holds its number any more."""
    with translated(TARGET, target.connection), suppress(psycopg.OperationalError, psycopg.ProgrammingError):
        for (schema,) in target.connection.execute(sql.LEFT_OVER).fetchall():
            number = int(schema.removeprefix(sql.PREFIX)[:8], 16)
            held = target.connection.execute(sql.hold(number)).fetchone()
            if held and held[0]:
                target.connection.execute(sql.drop_schema(schema))
                target.connection.execute(sql.release(number))
