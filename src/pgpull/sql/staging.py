"""What takes rows into the target: straight, or by way of the stage."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from psycopg.sql import SQL, Composable, Composed, Identifier, Literal

from pgpull.plans import Plan, Wire
from pgpull.shapes import OwnedSequence, Shape, Trigger
from pgpull.sql.parts import listed, name_of, rows_of, same_key

STAGE: Final = Identifier("pg_temp", "pgpull_stage")


SPELL: Final = b"SELECT $1::text"


CHECK_CONSTRAINTS_NOW: Final = SQL("SET CONSTRAINTS ALL IMMEDIATE")


# A stage of an earlier pass, whose columns may have been others.
DROP_STAGE: Final = SQL("DROP TABLE IF EXISTS {}").format(STAGE)


EMPTY_STAGE: Final = SQL("TRUNCATE {}").format(STAGE)


CURRENT_TRANSACTION: Final = SQL("SELECT txid_current_if_assigned()")


def create_stage(plan: Plan) -> Composed:
    """Make the stage: the target's columns and types, none of its constraints, emptied by each commit."""
    return SQL("CREATE TEMP TABLE {} ON COMMIT DELETE ROWS AS SELECT {} FROM {} WITH NO DATA").format(
        Identifier("pgpull_stage"), listed(plan.columns), rows_of(plan.target)
    )


def _copy_in(target: Composable, columns: Sequence[str], wire: Wire) -> Composed:
    named = SQL("({}) ").format(listed(columns)) if columns else SQL("")  # an empty list is no list
    return SQL("COPY {} {}FROM STDIN (FORMAT {})").format(target, named, SQL(wire.value))


def copy_straight(plan: Plan) -> Composed:
    """Take rows straight into the table."""
    return _copy_in(name_of(plan.table), plan.columns, plan.wire)


def copy_to_stage(plan: Plan) -> Composed:
    """Take rows into the stage."""
    return _copy_in(STAGE, plan.columns, plan.wire)


def insert_missing(plan: Plan, stage: Composable = STAGE) -> Composed:
    """Insert the staged rows whose key the target does not have; all of them, where there is no key.

    Asking first leaves defaults and sequences of existing rows alone; ON CONFLICT passes over a row that
    somebody else inserted in between.
    """
    if plan.key is None:
        return SQL("INSERT INTO {} ({}) OVERRIDING SYSTEM VALUE SELECT {} FROM {} AS s").format(
            name_of(plan.table), listed(plan.columns), listed(plan.columns, "s"), stage
        )
    key = plan.key
    arbiter = SQL(" ON CONFLICT ({}) DO NOTHING").format(listed(key.columns))
    return SQL(
        "INSERT INTO {table} ({columns}) OVERRIDING SYSTEM VALUE SELECT {staged} FROM {stage} AS s"
        " WHERE NOT EXISTS (SELECT FROM {rows} AS t WHERE {same_key}){arbiter}"
    ).format(
        table=name_of(plan.table),
        columns=listed(plan.columns),
        staged=listed(plan.columns, "s"),
        stage=stage,
        rows=rows_of(plan.target),
        same_key=same_key(key),
        arbiter=Composed([]) if key.deferrable else arbiter,
    )


def update_changed(plan: Plan, stage: Composable = STAGE) -> Composed:
    """Update the rows that the stage has another value for.

    ``*<>`` compares the stored bytes of two records (manual: 9.25.6, Composite Type Comparison). It needs no
    equality of the types, so json and point can be compared, and it sees what equality does not: jsonb 1.0
    and 1.00, a numeric's scale, minus zero, letter case in citext.
    """
    return SQL(
        "UPDATE {rows} AS t SET {values} FROM {stage} AS s"
        " WHERE {same_key} AND ROW({ours})::record *<> ROW({theirs})::record"
    ).format(
        rows=rows_of(plan.target),
        values=SQL(", ").join(
            SQL("{} = {}").format(Identifier(name), Identifier("s", name)) for name in plan.updated
        ),
        stage=stage,
        same_key=same_key(plan.the_key),
        ours=listed(plan.updated, "t"),
        theirs=listed(plan.updated, "s"),
    )


def disable_trigger(trigger: Trigger) -> Composed:
    """Keep a trigger from firing; undone in the same transaction."""
    return SQL("ALTER TABLE {} DISABLE TRIGGER {}").format(_that_has(trigger), Identifier(trigger.name))


def enable_trigger(trigger: Trigger) -> Composed:
    """Put a trigger back as it stood."""
    how = SQL("ENABLE ALWAYS") if trigger.enabled == "A" else SQL("ENABLE")
    return SQL("ALTER TABLE {} {} TRIGGER {}").format(_that_has(trigger), how, Identifier(trigger.name))


def _that_has(trigger: Trigger) -> Composable:
    return SQL("ONLY {}").format(name_of(trigger.table)) if trigger.alone else name_of(trigger.table)


def advance(sequence: OwnedSequence, shape: Shape) -> Composed:
    """Move a sequence up to its column's largest value (down, if it counts down); never back."""
    return SQL("""
        SELECT setval(s.seqrelid::regclass, top.value)
          FROM pg_sequence AS s
         CROSS JOIN {sequence} AS now
         CROSS JOIN LATERAL (      -- two plain aggregates: an index on the column answers either
                SELECT (CASE WHEN s.seqincrement > 0 THEN (SELECT max({column}) FROM {rows})
                             ELSE (SELECT min({column}) FROM {rows}) END)::bigint AS value) AS top
         WHERE s.seqrelid = {literal}::regclass
           AND top.value BETWEEN s.seqmin AND s.seqmax
           AND (   sign(s.seqincrement) * (top.value - now.last_value) > 0
                OR (top.value = now.last_value AND NOT now.is_called))
    """).format(
        literal=Literal(str(sequence.name)),
        column=Identifier(sequence.column),
        rows=rows_of(shape),
        sequence=name_of(sequence.name),
    )
