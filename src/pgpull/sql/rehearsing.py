"""Statements of a rehearsal: a temporary table with the target's constraints takes rows in its place."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from hashlib import sha256
from typing import Final

from psycopg.sql import SQL, Composable, Composed, Identifier, Literal

from pgpull.model import OnConflict
from pgpull.plans import Plan
from pgpull.shapes import ForeignKey, TableName, UniqueRule
from pgpull.sql.parts import listed, name_of, outside, rows_of, same_key, verbatim
from pgpull.sql.pruning import is_not_extra
from pgpull.sql.referring import filled, lacks, with_parts
from pgpull.sql.relating import to_move
from pgpull.sql.staging import STAGE

TRIAL: Final = TableName("pg_temp", "pgpull_trial")
TOGETHER: Final = TableName("pg_temp", "pgpull_together")
_TRIAL: Final = Identifier("pg_temp", "pgpull_trial")
_TOGETHER: Final = Identifier("pg_temp", "pgpull_together")

# --- the trial -------------------------------------------------------------------------------------------

DROP: Final = SQL("DROP TABLE IF EXISTS {}, {}").format(_TRIAL, _TOGETHER)


def create_trial(plan: Plan) -> Composed:
    """Make the trial: the target's columns and checks, and its key; no trigger, no sequence."""
    unique = SQL(", UNIQUE ({})").format(listed(plan.keys)) if plan.keys else SQL("")
    return SQL("CREATE TEMP TABLE pgpull_trial (LIKE {} INCLUDING CONSTRAINTS INCLUDING GENERATED{})").format(
        name_of(plan.table), unique
    )


def create_together(plan: Plan) -> Composed:
    """Make the table in which the rows of the trial meet each other: with the target's indexes."""
    return SQL("CREATE TEMP TABLE pgpull_together (LIKE {} INCLUDING INDEXES)").format(name_of(plan.table))


LET_KEY_GO: Final = SQL("ALTER TABLE {} DROP CONSTRAINT IF EXISTS pgpull_together_pkey").format(_TOGETHER)


def bring_together(plan: Plan) -> Composed:
    """Let the rows of the trial meet as they came in; a row that meets an earlier one is left out."""
    return SQL("INSERT INTO {} ({}) SELECT {} FROM {} ORDER BY ctid ON CONFLICT DO NOTHING").format(
        _TOGETHER, listed(plan.columns), listed(plan.columns), _TRIAL
    )


def drop_left_out(plan: Plan) -> Composed:
    """Take the rows out of the trial that were left out."""
    same = SQL(" AND ").join(SQL("g.{0} = s.{0}").format(Identifier(name)) for name in plan.keys)
    return SQL("DELETE FROM {} AS s WHERE NOT EXISTS (SELECT FROM {} AS g WHERE {})").format(
        _TRIAL, _TOGETHER, same
    )


def let_be_null(table: TableName, columns: Iterable[str]) -> Composed:
    """Let columns be empty that nobody fills in the rehearsal."""
    changes = (SQL("ALTER COLUMN {} DROP NOT NULL").format(Identifier(name)) for name in columns)
    return SQL("ALTER TABLE {} ").format(name_of(table)) + SQL(", ").join(changes)


def _stays(plan: Plan) -> Composed:
    """The target's rows as they are when the rows of the trial come to them."""
    if plan.request.mirror and plan.comparison and plan.comparison.extra:
        return SQL("(SELECT * FROM {} AS r WHERE {})").format(rows_of(plan.target), is_not_extra(plan, "r"))
    if not plan.request.replace:
        return rows_of(plan.target)
    stays = outside(plan.request.scope, plan.target, plan.request.timezone)
    return SQL("(SELECT * FROM {}{})").format(rows_of(plan.target), stays)


def insert_tried(plan: Plan) -> Composed:
    """Take the staged rows into the trial, but for those that a pull would skip."""
    meets: Composable = SQL("false")
    if plan.key and plan.request.on_conflict is OnConflict.SKIP:
        meets = same_key(plan.key)
    elif plan.key:
        meets = SQL("{} AND NOT ({})").format(same_key(plan.key), _unlike(plan))
    return SQL(
        "INSERT INTO {} ({}) SELECT {} FROM {} AS s WHERE NOT EXISTS (SELECT FROM {} AS t WHERE {})"
    ).format(_TRIAL, listed(plan.columns), listed(plan.columns, "s"), STAGE, _stays(plan), meets)


def count_updates(plan: Plan) -> Composed:
    """Count in each column the rows of the trial that are there with another value."""
    differs = [
        SQL("count(*) FILTER (WHERE ROW(t.{0})::record *<> ROW(s.{0})::record)").format(Identifier(name))
        for name in plan.updated
    ]
    return SQL("SELECT {} FROM {} AS s JOIN {} AS t ON {}").format(
        SQL(", ").join(differs), _TRIAL, _stays(plan), same_key(plan.the_key)
    )


def _unlike(plan: Plan) -> Composable:
    if not plan.updated:
        return SQL("false")
    return SQL("ROW({})::record *<> ROW({})::record").format(
        listed(plan.updated, "t"), listed(plan.updated, "s")
    )


def drop_clashing(plan: Plan, rule: UniqueRule) -> Composed:
    """Take the rows out of the trial that clash with a row that stays as it is."""
    numbers = range(len(rule.expressions))
    names = [Identifier(f"pgpull {number}") for number in numbers]
    made = SQL(", ").join(
        SQL("{} AS {}").format(verbatim(text), name) for text, name in zip(rule.expressions, names, strict=True)
    )
    met = SQL(" AND ").join(_meets(rule, number, names[number]) for number in numbers)
    only = SQL(" WHERE {}").format(verbatim(rule.predicate)) if rule.predicate else SQL("")
    other = SQL(" AND NOT EXISTS (SELECT FROM {} AS x WHERE {})").format(
        _TRIAL, SQL(" AND ").join(SQL("x.{0} = t.{0}").format(Identifier(name)) for name in plan.keys)
    )
    return SQL(
        "DELETE FROM {trial} AS d WHERE EXISTS ("
        "SELECT FROM (SELECT ctid AS place, {made} FROM {trial}{only}) AS s"
        " JOIN (SELECT {keys}{comma}{made} FROM {stays} AS t{only}) AS t ON {met}{other}"
        " WHERE s.place = d.ctid)"
    ).format(
        trial=_TRIAL,
        made=made,
        only=only,
        keys=listed(plan.keys),
        comma=SQL(", ") if plan.keys else SQL(""),
        stays=_stays(plan),
        met=met,
        other=other if plan.keys else SQL(""),
    )


def _meets(rule: UniqueRule, number: int, name: Composable) -> Composed:
    if rule.operators:
        return SQL("s.{} {} t.{}").format(name, verbatim(rule.operators[number]), name)
    same = SQL("IS NOT DISTINCT FROM") if rule.nulls_clash else SQL("=")
    return SQL("s.{} {} t.{}").format(name, same, name)


def _coming(table: TableName) -> str:
    """The name of the table of the rows that would come in; any table's own name may fill all 63 bytes."""
    return f"pgpull_coming_{sha256(str(table).encode()).hexdigest()[:32]}"


def keep_coming(plan: Plan, columns: Sequence[str], *, tried: bool) -> Iterator[Composed]:
    """Keep some columns of the rows that would come in, for tables that refer to them."""
    name = _coming(plan.table)
    yield SQL("DROP TABLE IF EXISTS {}").format(Identifier("pg_temp", name))
    rows: Composable = SQL("{} WHERE false").format(rows_of(plan.target))
    if plan.request.only_related and plan.why:
        rows = to_move(plan)
    elif tried:
        rows = SQL("{} AS s").format(_TRIAL)
    yield SQL("CREATE TEMP TABLE {} AS SELECT {} FROM {}").format(Identifier(name), listed(columns), rows)
    if columns:
        yield SQL("CREATE INDEX ON {} ({})").format(Identifier("pg_temp", name), listed(columns))


def drop_orphans(plan: Plan, key: ForeignKey, coming: TableName | None = None) -> Composed:
    """Take the rows out of the trial whose parent is not there, nor about to come in.

    Args:
        plan: whose rows are tried.
        key: by which they refer to their parents.
        coming: the parents' table, where rows of it would come in before.
    """
    known: list[Composable] = [with_parts(key.table, key.kind)]
    if key.table == plan.table:
        known = [_stays(plan), _TRIAL]
    if coming is not None:
        known.append(Identifier("pg_temp", _coming(coming)))
    return SQL("DELETE FROM {} AS s WHERE {} AND {}").format(_TRIAL, filled(key, "s"), lacks(key, "s", known))


def drop_homeless(partitions: Sequence[str]) -> Composed:
    """Take the rows out of the trial that belong into no partition."""
    homes = SQL(" OR ").join(SQL("({})").format(verbatim(text)) for text in partitions)
    return SQL("DELETE FROM {} WHERE ({}) IS NOT TRUE").format(_TRIAL, homes)


ANALYZE: Final = SQL("ANALYZE {}").format(_TRIAL)

COUNT: Final = SQL("SELECT count(*) FROM {}").format(_TRIAL)


def count_there(plan: Plan) -> Composed:
    """Count the rows of the trial whose key is there."""
    return SQL("SELECT count(*) FROM {} AS s JOIN {} AS t ON {}").format(
        _TRIAL, _stays(plan), same_key(plan.the_key)
    )


# --- a look at the source --------------------------------------------------------------------------------


def some_rows(plan: Plan, where: Composable, most: int, width: int) -> Composed:
    """Spell out the source's first rows that meet a condition, each value cut to a width."""
    values = SQL(", ").join(
        SQL("left({}::text, {})").format(Identifier(name), Literal(width)) for name in plan.columns
    )
    return SQL("SELECT {} FROM {} WHERE {} LIMIT {}").format(values, rows_of(plan.source), where, Literal(most))
