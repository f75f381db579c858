"""Statements for tables without a key, whose rows are told apart by what they hold, and counted.

*Lacking* is a temporary table of the target: a hash of a row, and how many copies of such a row local lacks;
less than none, if it has too many.
"""

from __future__ import annotations

from typing import Final

from psycopg.sql import SQL, Composable, Composed, Identifier, Literal

from pgpull.plans import Plan, Wire
from pgpull.shapes import Shape
from pgpull.sql.hashing import digest, sum_of
from pgpull.sql.parts import listed, outside, rows_of, scope_of
from pgpull.sql.pruning import PART, PLACE

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
_COPIES: Final = Identifier("pgpull copies of the row")


# A number of our own, and the table's.
TAKE_TURNS: Final = SQL(
    "SELECT pg_advisory_xact_lock(1885958252, to_regclass(%(table)s)::oid::bigint::bit(32)::int)"
)


def _hashed(plan: Plan, shape: Shape, encoding: str, what: Composable) -> Composed:
    """The rows in scope with their hashes; in the whole table, where the scope is not understood."""
    scope: Composed = Composed([])
    if shape is plan.source or plan.scope_here:
        scope = scope_of(plan, shape)
    return SQL("SELECT {}{} AS {} FROM {}{}").format(
        what, digest(plan.full_digest, encoding), _HASH, rows_of(shape), scope
    )


def _some_of(plan: Plan, shape: Shape, encoding: str, what: Composable, wanted: Composable) -> Composed:
    """As many copies of some rows as are wanted: *wanted* has a hash and a number of copies in each row.

    Copies are numbered, and so sorted, only of rows that are wanted.
    """
    return SQL(
        "SELECT * FROM (SELECT s.*, w.copies AS {copies}, row_number() OVER (PARTITION BY w.hash) AS {copy}"
        " FROM ({hashed}) AS s JOIN {wanted} AS w ON s.{hash} = w.hash) AS numbered WHERE {copy} <= {copies}"
    ).format(
        hash=_HASH,
        copy=_COPY,
        copies=_COPIES,
        hashed=_hashed(plan, shape, encoding, what),
        wanted=wanted,
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
    """Open a cursor on what is missing: each of its rows is a batch, an array of hashes and one of copies."""
    return SQL(
        "DECLARE {cursor} CURSOR WITH HOLD FOR"
        " SELECT array_agg(hash)::text, array_agg(lack)::text FROM"
        " (SELECT hash, lack, (row_number() OVER () - 1) / {hashes} AS batch FROM {lacking} WHERE lack > 0)"
        " AS numbered GROUP BY batch ORDER BY batch"
    ).format(cursor=Identifier(cursor), hashes=Literal(hashes), lacking=_LACKING)


def copy_lacking(plan: Plan, encoding: str, hashes: str, copies: str) -> Composed:
    """Send as many copies of some rows as lack."""
    columns = listed(plan.columns) + SQL(", ") if plan.columns else SQL("")
    wanted = SQL("(SELECT * FROM unnest({}::bigint[], {}::bigint[]) AS w (hash, copies))")
    rows = _some_of(plan, plan.source, encoding, columns, wanted.format(Literal(hashes), Literal(copies)))
    return SQL("COPY (SELECT {} FROM ({}) AS s) TO STDOUT (FORMAT {})").format(
        listed(plan.columns, "s"), rows, SQL(plan.wire.value)
    )


# --- rows that the target has too many of ----------------------------------------------------------------

CLEAR: Final = SQL("TRUNCATE {}").format(_THEIRS)


def copy_outside(plan: Plan, encoding: str) -> Composed:
    """Send each hash that rows have which are not in scope, and how many do."""
    return SQL(
        "COPY (SELECT {digest}, count(*) FROM {rows}{outside} GROUP BY 1) TO STDOUT (FORMAT {wire})"
    ).format(
        digest=digest(plan.full_digest, encoding),
        rows=rows_of(plan.source),
        outside=outside(plan.request.scope, plan.source, plan.request.timezone),
        wire=SQL(WIRE.value),
    )


SPARE: Final = SQL(
    "UPDATE {} AS l SET lack = least(0, l.lack + s.copies) FROM {} AS s WHERE l.hash = s.hash AND l.lack < 0"
).format(_LACKING, _THEIRS)


def _surplus(plan: Plan) -> str:
    """The table of what the target has too much of: it outlives the next comparison."""
    return f"pgpull_surplus_{plan.place}"


def keep_surplus(plan: Plan) -> Composed:
    """Put aside how many copies of which rows are too many."""
    return SQL("CREATE TEMP TABLE {} AS SELECT hash, -lack AS copies FROM {} WHERE lack < 0").format(
        Identifier(_surplus(plan)), _LACKING
    )


def drop_surplus(plan: Plan) -> Composed:
    """Forget it."""
    return SQL("DROP TABLE IF EXISTS {}").format(Identifier("pg_temp", _surplus(plan)))


def create_extra(plan: Plan, encoding: str) -> Composed:
    """Choose as many rows as are too many, and note where they stand."""
    place = SQL("ctid AS {}, tableoid AS {}, ").format(Identifier(PLACE), Identifier(PART))
    return SQL("CREATE TEMP TABLE {extra} AS SELECT {place}, {part} FROM ({numbered}) AS s").format(
        extra=Identifier(f"pgpull_extra_{plan.place}"),
        place=Identifier(PLACE),
        part=Identifier(PART),
        numbered=_some_of(plan, plan.target, encoding, place, Identifier("pg_temp", _surplus(plan))),
    )
