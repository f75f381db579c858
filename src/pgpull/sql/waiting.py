"""Statements for rows that wait for a row which they refer to, and which comes later."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Final

from psycopg.sql import SQL, Composable, Composed, Identifier, Literal

from pgpull.model import OnConflict
from pgpull.plans import Plan, Tie
from pgpull.sql.parts import listed, rows_of, same_key
from pgpull.sql.referring import filled, lacks, refers, with_parts
from pgpull.sql.staging import STAGE, insert_missing, update_changed


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
    """Let those of the staged rows wait that refer to a row which is not there, and which may come."""
    lacking = SQL(" OR ").join(_lacks(plan, tie) for tie in plan.ties if tie.parents)
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


def take_staged_orphans(plan: Plan) -> Composed:
    """Take those of the staged rows out that refer to a row which is not there, and which will not come.

    Each is spelled out, after the number of the tie.
    """
    lacking = [(number, _lacks(plan, tie)) for number, tie in enumerate(plan.ties) if not tie.parents]
    return SQL("DELETE FROM {stage} AS s WHERE {settled}({any}) RETURNING CASE {which} END, {texts}").format(
        stage=STAGE,
        settled=_unless_settled(plan),
        any=SQL(" OR ").join(lacks for _, lacks in lacking),
        which=SQL(" ").join(SQL("WHEN {} THEN {}").format(lacks, number) for number, lacks in lacking),
        texts=_texts(plan.columns, "s"),
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


def _lacks(plan: Plan, tie: Tie, elsewhere: Sequence[Composable] = ()) -> Composed:
    """The condition that the row ``s`` refers to one that is neither in the table nor elsewhere."""
    key = tie.key
    parents = [with_parts(key.table, key.kind), *elsewhere]
    if plan.place in tie.parents:
        parents.append(SQL("(SELECT {})").format(listed(key.referred, "s")))  # a row may refer to itself
    conditions = [filled(key, "s"), lacks(key, "s", parents)]
    if plan.updates:  # an update that leaves the reference as it is needs no parent
        unchanged = SQL(" AND ").join(
            SQL("t.{0} IS NOT DISTINCT FROM s.{0}").format(Identifier(name)) for name in key.columns
        )
        conditions.append(
            SQL("NOT EXISTS (SELECT FROM {} AS t WHERE {} AND {})").format(
                rows_of(plan.target), same_key(plan.the_key), unchanged
            )
        )
    return SQL("({})").format(SQL(" AND ").join(conditions))


def index(plan: Plan, columns: Sequence[str]) -> Composed:
    """Let waiting rows be found by some columns."""
    return SQL("CREATE INDEX ON {} ({})").format(waiting(plan.place), listed(columns))


def analyze(plan: Plan) -> Composed:
    """Tell the planner how many rows wait."""
    return SQL("ANALYZE {}").format(waiting(plan.place))


# --- rows whose parent is nowhere ------------------------------------------------------------------------

_LOST: Final = Identifier("pg_temp", "pgpull_lost")

DROP_LOST: Final = SQL("DROP TABLE IF EXISTS {}").format(_LOST)

# Which row of which table waits in vain, and by which tie. As text, since no recursion could tell one tid from
# another before PostgreSQL 14.
CREATE_LOST: Final = SQL("CREATE TEMP TABLE pgpull_lost (place integer, spot text, tie integer)")


def find_lost(plan: Plan, number: int, waits: Iterable[int]) -> Composed:
    """Note the waiting rows whose parent by a tie of that number is neither there nor waiting as well.

    Args:
        plan: whose rows wait.
        number: of the tie.
        waits: the places of the tables that have rows waiting.
    """
    tie = plan.ties[number]
    elsewhere = [waiting(place) for place in tie.parents if place in waits]
    return SQL("INSERT INTO {} SELECT {}, s.ctid::text, {} FROM {} AS s WHERE {}").format(
        _LOST, plan.place, number, waiting(plan.place), _lacks(plan, tie, elsewhere)
    )


def follow_lost(plans: Sequence[Plan]) -> Composed | None:
    """Note the rows that wait for one of these, and those that wait for them; None where rows cannot."""
    steps = [
        _step(plan, number, tie, parent.place)
        for plan in plans
        for number, tie in enumerate(plan.ties)
        for parent in plans
        if parent.place in tie.parents and tie.key.on == plan.table
    ]
    if not steps:
        return None
    return SQL(
        "WITH RECURSIVE found AS (SELECT * FROM {lost} UNION"
        " SELECT more.* FROM found AS f CROSS JOIN LATERAL ({steps}) AS more (place, spot, tie)),"
        " forgotten AS (DELETE FROM {lost})"
        " INSERT INTO {lost} SELECT DISTINCT ON (place, spot) * FROM found ORDER BY place, spot, tie"
    ).format(lost=_LOST, steps=SQL(" UNION ALL ").join(steps))


def _step(plan: Plan, number: int, tie: Tie, parent: int) -> Composed:
    return SQL(
        "SELECT {place}, s.ctid::text, {number} FROM {parents} AS lost JOIN {waiting} AS s ON {refers}"
        " WHERE f.place = {parent} AND lost.ctid = f.spot::tid AND {lacks}"
    ).format(
        place=plan.place,
        number=number,
        parents=waiting(parent),
        waiting=waiting(plan.place),
        refers=refers(tie.key, "s", "lost"),
        parent=parent,
        lacks=_lacks(plan, tie),
    )


def take_lost(plan: Plan, number: int, rows: int) -> Composed:
    """Take some of these rows out that have no parent by the tie of that number, spelled out."""
    return SQL(
        "WITH gone AS (DELETE FROM {lost} WHERE ctid = ANY (ARRAY(SELECT ctid FROM {lost}"
        " WHERE place = {place} AND tie = {number} LIMIT {rows})) RETURNING spot::tid)"
        " DELETE FROM {waiting} AS w USING gone WHERE w.ctid = gone.spot RETURNING {texts}"
    ).format(
        lost=_LOST,
        place=plan.place,
        number=number,
        rows=rows,
        waiting=waiting(plan.place),
        texts=_texts(plan.columns),
    )


def _texts(columns: Iterable[str], row: str = "w") -> Composed:
    return SQL(", ").join(SQL("{}::text").format(Identifier(row, name)) for name in columns)


# --- all others ------------------------------------------------------------------------------------------


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
        if plan.updates:
            yield f"updated_{plan.place}", update_changed(plan, waiting(plan.place))


def stage_some(plan: Plan, first: str, last: str) -> Composed:
    """Put the waiting rows that stand between two places into the stage, both included."""
    return SQL("INSERT INTO {} SELECT {} FROM {} AS s WHERE s.ctid BETWEEN {}::tid AND {}::tid").format(
        STAGE, listed(plan.columns, "s"), waiting(plan.place), Literal(first), Literal(last)
    )


def count(plan: Plan) -> Composed:
    """Count the rows that wait."""
    return SQL("SELECT count(*) FROM {}").format(waiting(plan.place))


FIRST_PLACE: Final = "(0,0)"
LAST_PLACE: Final = "(4294967295,65535)"


def places(plan: Plan, after: str, rows: int, *, backwards: bool = False) -> Composed:
    """Say where some of the rows stand that wait, from a place on."""
    statement = "SELECT ctid::text FROM {} AS w WHERE w.ctid > {}::tid ORDER BY w.ctid LIMIT {}"
    if backwards:
        statement = "SELECT ctid::text FROM {} AS w WHERE w.ctid < {}::tid ORDER BY w.ctid DESC LIMIT {}"
    return SQL(statement).format(waiting(plan.place), Literal(after), rows)


def take_one(plan: Plan, ctid: str) -> Composed:
    """Take one of the waiting rows out, spelled out."""
    return SQL("DELETE FROM {} AS w WHERE ctid = {}::tid RETURNING {}").format(
        waiting(plan.place), Literal(ctid), _texts(plan.columns)
    )
