"""Statements for rows that wait for a row which they refer to, and which comes later."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from psycopg.sql import SQL, Composable, Composed, Identifier, Literal

from pgpull.model import OnConflict, Plan, Tie
from pgpull.sql import STAGE, insert_missing, update_changed
from pgpull.sql.parts import listed, name_of, rows_of, same_key


def waiting(place: int) -> Identifier:
    """The table in which the rows wait that are bound for the table of that place."""
    return Identifier("pg_temp", f"pgpull_waiting_{place}")


def drop(plan: Plan) -> Composed:
    """Forget the rows that wait."""
    return SQL("DROP TABLE IF EXISTS {}").format(waiting(plan.place))


def create(plan: Plan) -> Composed:
    """Make a place to wait in: the target's columns and types, none of its constraints."""
    return SQL("CREATE TEMP TABLE {} AS SELECT {} FROM {} WITH NO DATA").format(
        Identifier(f"pgpull_waiting_{plan.place}"), listed(plan.columns), rows_of(plan.target)
    )


def set_aside(plan: Plan) -> Composed:
    """Let those of the staged rows wait that refer to a row which is not there."""
    lacking = SQL(" OR ").join(_lacks(plan, tie) for tie in plan.ties)
    return SQL(
        "WITH moved AS (DELETE FROM {stage} AS s WHERE {settled}({lacking}) RETURNING {columns})"
        " INSERT INTO {waiting} SELECT * FROM moved"
    ).format(
        stage=STAGE,
        settled=_unless_settled(plan),
        lacking=lacking,
        columns=listed(plan.columns, "s"),
        waiting=waiting(plan.place),
    )


def set_all_aside(plan: Plan) -> Composed:
    """Let all of the staged rows wait."""
    return SQL("INSERT INTO {} SELECT {} FROM {} AS s").format(
        waiting(plan.place), listed(plan.columns, "s"), STAGE
    )


def _unless_settled(plan: Plan) -> Composable:
    """A row that is here already, and is left alone, needs nothing."""
    if plan.key is None or plan.request.on_conflict is OnConflict.UPDATE:
        return SQL("")
    here = SQL("NOT EXISTS (SELECT FROM {} AS t WHERE {}) AND ")
    return here.format(rows_of(plan.target), same_key(plan.key))


def _lacks(plan: Plan, tie: Tie, *elsewhere: Composable) -> Composed:
    """The condition that the row ``s`` refers to one that is neither in the table nor elsewhere."""
    key = tie.key
    refers = [SQL("s.{} IS NOT NULL").format(Identifier(name)) for name in key.columns]
    parents: list[Composable] = [
        (SQL("") if key.kind == "p" else SQL("ONLY ")) + name_of(key.table),
        *elsewhere,
    ]
    absent = [SQL("NOT EXISTS (SELECT FROM {} AS p WHERE {})").format(p, _refers(tie)) for p in parents]
    if key.table == plan.table:
        itself = (
            SQL("s.{} = s.{}").format(Identifier(own), Identifier(theirs))
            for own, theirs in zip(key.columns, key.referred, strict=True)
        )
        absent.append(SQL("({}) IS NOT TRUE").format(SQL(" AND ").join(itself)))
    return SQL("({})").format(SQL(" AND ").join([*refers, *absent]))


def _refers(tie: Tie) -> Composed:
    return SQL(" AND ").join(
        SQL("p.{} = s.{}").format(Identifier(theirs), Identifier(own))
        for own, theirs in zip(tie.key.columns, tie.key.referred, strict=True)
    )


def index(tie: Tie) -> Composed:
    """Let the waiting rows be found that a foreign key refers to."""
    return SQL("CREATE INDEX ON {} ({})").format(waiting(tie.parent), listed(tie.key.referred))


def analyze(plan: Plan) -> Composed:
    """Tell the planner how many rows wait."""
    return SQL("ANALYZE {}").format(waiting(plan.place))


def take_orphans(plan: Plan, tie: Tie, parent_waits: bool, rows: int) -> Composed:
    """Take out some of the rows whose parent is neither there nor waiting as well, spelled out."""
    elsewhere = [waiting(tie.parent)] if parent_waits else []
    return SQL(
        "DELETE FROM {waiting} AS w WHERE w.ctid = ANY (ARRAY(SELECT s.ctid FROM {waiting} AS s"
        " WHERE {lacks} LIMIT {rows})) RETURNING {texts}"
    ).format(
        waiting=waiting(plan.place),
        lacks=_lacks(plan, tie, *elsewhere),
        rows=Literal(rows),
        texts=_texts(plan.columns),
    )


def _texts(columns: Iterable[str]) -> Composed:
    return SQL(", ").join(SQL("w.{}::text").format(Identifier(name)) for name in columns)


def together(plans: Sequence[Plan]) -> Composed:
    """Write all waiting rows of some tables at once, and tell of each how many were inserted, and updated.

    Foreign keys are checked when the statement ends (manual: SQL-SET-CONSTRAINTS; 7.8.4, Data-Modifying
    Statements in WITH), so rows may refer to each other in any circle, and no constraint has to be deferrable.
    """
    steps = [*_steps(plans)]
    words = SQL(", ").join(SQL("{} AS ({} RETURNING 1)").format(Identifier(name), step) for name, step in steps)
    counts = SQL(", ").join(SQL("(SELECT count(*) FROM {})").format(Identifier(name)) for name, _ in steps)
    return SQL("WITH {} SELECT {}").format(words, counts)


def _steps(plans: Sequence[Plan]) -> Iterator[tuple[str, Composed]]:
    for plan in plans:
        yield f"inserted_{plan.place}", insert_missing(plan, waiting(plan.place))
        if updates(plan):
            yield f"updated_{plan.place}", update_changed(plan, waiting(plan.place))


def updates(plan: Plan) -> bool:
    """Tell whether rows that are here already are updated."""
    return plan.request.on_conflict is OnConflict.UPDATE and plan.key is not None and bool(plan.updated)


def count(plan: Plan) -> Composed:
    """Count the rows that wait."""
    return SQL("SELECT count(*) FROM {}").format(waiting(plan.place))


def places(plan: Plan, after: str, rows: int) -> Composed:
    """Say where some of the rows stand that wait."""
    return SQL("SELECT ctid::text FROM {} AS w WHERE w.ctid > {}::tid ORDER BY w.ctid LIMIT {}").format(
        waiting(plan.place), Literal(after), Literal(rows)
    )


def stage_one(plan: Plan, ctid: str) -> Composed:
    """Put one of the waiting rows into the stage."""
    return SQL("INSERT INTO {} SELECT {} FROM {} AS s WHERE ctid = {}::tid").format(
        STAGE, listed(plan.columns, "s"), waiting(plan.place), Literal(ctid)
    )


def take_one(plan: Plan, ctid: str) -> Composed:
    """Take one of the waiting rows out, spelled out."""
    return SQL("DELETE FROM {} AS w WHERE ctid = {}::tid RETURNING {}").format(
        waiting(plan.place), Literal(ctid), _texts(plan.columns)
    )
