"""Statements for tables without a key, whose rows are told apart by what they hold, and counted.

*Lacking* is a temporary table of the target: a hash of a row, and how many copies of such a row local lacks;
less than none, if it has too many.
"""

from __future__ import annotations

from typing import Final

from psycopg.sql import SQL, Composable, Composed, Identifier, Literal

from pgpull.model import Plan, Wire
from pgpull.shapes import Shape
from pgpull.sql.comparing import digest, sum_of
from pgpull.sql.parts import condition, listed, rows_of

WIRE: Final = Wire.BINARY

_THEIRS: Final = Identifier("pg_temp", "pgpull_bag")
_LACKING: Final = Identifier("pg_temp", "pgpull_lacking")

DROP: Final = SQL("DROP TABLE IF EXISTS {}, {}").format(_THEIRS, _LACKING)

CREATE: Final = SQL("CREATE TEMP TABLE pgpull_bag (hash bigint, copies bigint)")

TAKE: Final = SQL("COPY {} FROM STDIN (FORMAT {})").format(_THEIRS, SQL(WIRE.value))

COUNT: Final = SQL(
    "SELECT coalesce(sum(greatest(lack, 0)), 0)::bigint, coalesce(sum(greatest(-lack, 0)), 0)::bigint FROM {}"
).format(_LACKING)

# What no column of a user's is likely to be called.
_HASH: Final = Identifier("pgpull hash of the row")
_COPY: Final = Identifier("pgpull copy of the row")


def _hashed(plan: Plan, shape: Shape, encoding: str, what: Composable) -> Composed:
    """The rows in scope with their hashes; in the whole table, where the scope is not understood."""
    scope: Composed = Composed([])
    if shape is plan.source or plan.scope_here:
        scope = condition(plan.request.scope, shape, plan.request.timezone)
    return SQL("SELECT {}{} AS {} FROM {}{}").format(
        what, digest(plan.full_digest, encoding), _HASH, rows_of(shape), scope
    )


def _numbered(plan: Plan, shape: Shape, encoding: str, what: Composable) -> Composed:
    """The same, with the copies of a row numbered."""
    return SQL("SELECT *, row_number() OVER (PARTITION BY {hash}) AS {copy} FROM ({hashed}) AS hashed").format(
        hash=_HASH, copy=_COPY, hashed=_hashed(plan, shape, encoding, what)
    )


def total(plan: Plan, shape: Shape, encoding: str) -> Composed:
    """Count the rows in scope, and sum up their hashes: two sides that agree hold the same rows."""
    return SQL("SELECT count(*), {} FROM ({}) AS hashed").format(
        sum_of(plan.full_digest, _HASH), _hashed(plan, shape, encoding, SQL(""))
    )


def copy_out(plan: Plan, encoding: str) -> Composed:
    """Send each hash, and how many rows have it."""
    return SQL("COPY (SELECT {0}, count(*) FROM ({1}) AS hashed GROUP BY 1) TO STDOUT (FORMAT {2})").format(
        _HASH, _hashed(plan, plan.source, encoding, SQL("")), SQL(WIRE.value)
    )


def create_lacking(plan: Plan, encoding: str) -> Composed:
    """Make *lacking* of what the source sent, and of what is here."""
    return SQL(
        "CREATE TEMP TABLE pgpull_lacking AS"
        " SELECT coalesce(s.hash, t.hash) AS hash, coalesce(s.copies, 0) - coalesce(t.copies, 0) AS lack"
        " FROM {theirs} AS s FULL JOIN"
        " (SELECT {hash} AS hash, count(*) AS copies FROM ({ours}) AS hashed GROUP BY 1) AS t"
        " ON s.hash = t.hash WHERE s.copies IS DISTINCT FROM t.copies"
    ).format(theirs=_THEIRS, hash=_HASH, ours=_hashed(plan, plan.target, encoding, SQL("")))


def batches(hashes: int, cursor: str) -> Composed:
    """Open a cursor on what lacks: each of its rows is a batch, an array of hashes and one of copies."""
    return SQL(
        "DECLARE {cursor} CURSOR WITH HOLD FOR"
        " SELECT array_agg(hash)::text, array_agg(lack)::text FROM"
        " (SELECT hash, lack, (row_number() OVER () - 1) / {hashes} AS batch FROM {lacking} WHERE lack > 0)"
        " AS numbered GROUP BY batch ORDER BY batch"
    ).format(cursor=Identifier(cursor), hashes=Literal(hashes), lacking=_LACKING)


def copy_lacking(plan: Plan, encoding: str, hashes: str, copies: str) -> Composed:
    """Send as many copies of some rows as lack."""
    columns = listed(plan.columns) + SQL(", ") if plan.columns else SQL("")
    return SQL(
        "COPY (SELECT {columns} FROM ({numbered}) AS s"
        " JOIN unnest({hashes}::bigint[], {copies}::bigint[]) AS lacking (hash, lack)"
        " ON s.{hash} = lacking.hash AND s.{copy} <= lacking.lack) TO STDOUT (FORMAT {wire})"
    ).format(
        columns=listed(plan.columns, "s"),
        numbered=_numbered(plan, plan.source, encoding, columns),
        hashes=Literal(hashes),
        copies=Literal(copies),
        hash=_HASH,
        copy=_COPY,
        wire=SQL(plan.wire.value),
    )


def delete_surplus(plan: Plan, encoding: str) -> Composed:
    """Delete as many copies of a row as there are too many; a ctid alone may stand in several partitions."""
    return SQL(
        "DELETE FROM {rows} AS t USING (SELECT s.* FROM ({numbered}) AS s JOIN {lacking} AS l"
        " ON s.{hash} = l.hash AND s.{copy} <= -l.lack) AS s"
        ' WHERE t.ctid = s."pgpull ctid" AND t.tableoid = s."pgpull tableoid"'
    ).format(
        rows=rows_of(plan.target),
        numbered=_numbered(
            plan,
            plan.target,
            encoding,
            SQL('ctid AS "pgpull ctid", tableoid AS "pgpull tableoid", '),
        ),
        lacking=_LACKING,
        hash=_HASH,
        copy=_COPY,
    )
