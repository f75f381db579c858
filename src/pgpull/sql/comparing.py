"""Statements of a comparison: what the source sends of each row, and how the target tells the rows apart.

Two temporary tables of the target hold it all, so that the client's memory stays as it is: *theirs* has what
the source sent, *differing* the keys of the rows that differ and how.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

from psycopg.sql import SQL, Composable, Composed, Identifier, Literal

from pgpull.plans import Digest, Plan
from pgpull.shapes import Shape
from pgpull.sql.hashing import digest, sum_of
from pgpull.sql.parts import is_here, listed, rows_of, same_key, scope_of, verbatim, young

THEIRS: Final = Identifier("pg_temp", "pgpull_theirs")
DIFFERING: Final = Identifier("pg_temp", "pgpull_differing")
_DIGEST: Final = Identifier("pgpull digest")
STATE: Final = Identifier("pgpull state")

MISSING: Final = "missing"
CHANGED: Final = "changed"
EXTRA: Final = "extra"

# Keys are looked up in bulk here, not a batch at a time. What a row costs on its way from a worker is next to
# nothing beside the hashing of it, of which the planner knows no cost.
IN_BULK: Final = SQL("""
    SELECT set_config('enable_hashjoin', 'on', true), set_config('enable_mergejoin', 'on', true),
           set_config('parallel_tuple_cost', '0.001', true)
""")

# A pass that broke off has left its cursor open.
CLOSE_ALL: Final = SQL("CLOSE ALL")

IN_BATCHES: Final = SQL("""
    SELECT set_config('enable_hashjoin', 'off', true), set_config('enable_mergejoin', 'off', true)
""")

DROP: Final = SQL("DROP TABLE IF EXISTS {}, {}").format(THEIRS, DIFFERING)

# --- either side: fingerprints ---------------------------------------------------------------------------


def fingerprint(plan: Plan, shape: Shape, encoding: str, buckets: int) -> Composed:
    """Count and sum up the hashes of the keys in scope, in buckets: two sides that agree have the same keys."""
    return SQL(
        "SELECT h & {mask}, count(*), {sum} FROM (SELECT {digest} AS h FROM {rows}{scope}) AS hashed GROUP BY 1"
    ).format(
        mask=Literal(buckets - 1),
        sum=sum_of(plan.key_digest, SQL("h")),
        digest=digest(plan.key_digest, encoding),
        rows=rows_of(shape),
        scope=scope_of(plan, shape),
    )


def _in_buckets(plan: Plan, encoding: str, buckets: int, wanted: Sequence[int] | None) -> Iterable[Composable]:
    if wanted is not None:
        numbers = Literal("{" + ",".join(map(str, wanted)) + "}")
        hashed = digest(plan.key_digest, encoding)
        yield SQL("({} & {}) = ANY ({}::bigint[])").format(hashed, Literal(buckets - 1), numbers)


# --- to the source ---------------------------------------------------------------------------------------


def _copy_out(plan: Plan, columns: Composable, where: Composed) -> Composed:
    return SQL("COPY (SELECT {} FROM {}{}) TO STDOUT (FORMAT {})").format(
        columns, rows_of(plan.source), where, SQL(plan.key_wire.value)
    )


def copy_keys(plan: Plan, encoding: str, buckets: int, wanted: Sequence[int] | None) -> Composed:
    """Send the keys in scope, or those of some buckets of it."""
    more = _in_buckets(plan, encoding, buckets, wanted)
    return _copy_out(plan, listed(plan.keys), scope_of(plan, plan.source, *more))


def copy_digests(plan: Plan, of: Digest, encoding: str) -> Composed:
    """Send the keys in scope, and a hash of each row."""
    columns = SQL("{}, {}").format(listed(plan.keys), digest(of, encoding))
    return _copy_out(plan, columns, scope_of(plan, plan.source))


def copy_young(plan: Plan, horizon: int) -> Composed:
    """Send the keys of the rows in scope that were written since."""
    return _copy_out(plan, listed(plan.keys), scope_of(plan, plan.source, young(horizon)))


def keyed(plan: Plan, keys: Sequence[str]) -> Composed:
    """The condition that a row has one of these keys; each text is an array of one column's values.

    Values that have a form of their own inside, as arrays and records have, come as their texts.
    """
    arrays, values = [], []
    for number, (name, texts) in enumerate(zip(plan.keys, keys, strict=True)):
        kind, value = verbatim(plan.key_type(name)), Identifier(f"v{number}")
        if _is_simple(plan, name):
            arrays.append(SQL("{}::{}[]").format(Literal(texts), kind))
            values.append(SQL("{}").format(value))
        else:
            arrays.append(SQL("{}::text[]").format(Literal(texts)))
            values.append(SQL("{}::{}").format(value, kind))
    if len(arrays) == 1 and _is_simple(plan, plan.keys[0]):
        return SQL("{} = ANY ({})").format(listed(plan.keys), arrays[0])
    return SQL("({}) IN (SELECT {} FROM unnest({}) AS k ({}))").format(
        listed(plan.keys),
        SQL(", ").join(values),
        SQL(", ").join(arrays),
        SQL(", ").join(Identifier(f"v{number}") for number in range(len(arrays))),
    )


def _is_simple(plan: Plan, name: str) -> bool:
    column = plan.source.column(name)
    return column is not None and column.type.simple


def copy_keyed(plan: Plan, keys: Sequence[str], *, anywhere: bool = False) -> Composed:
    """Send the rows that have one of these keys and are in scope, or anywhere."""
    which = keyed(plan, keys)
    return SQL("COPY (SELECT {} FROM {}{}) TO STDOUT (FORMAT {})").format(
        listed(plan.columns),
        rows_of(plan.source),
        SQL(" WHERE ") + which if anywhere else scope_of(plan, plan.source, which),
        SQL(plan.wire.value),
    )


def copy_keyed_keys(plan: Plan, keys: Sequence[str]) -> Composed:
    """Send those of these keys that the source has, in scope or not."""
    return _copy_out(plan, listed(plan.keys), SQL(" WHERE ") + keyed(plan, keys))


# --- to the target ---------------------------------------------------------------------------------------


def create_theirs(plan: Plan) -> Composed:
    """Make *theirs*, empty: the target's own types, none of its constraints."""
    return SQL("CREATE TEMP TABLE pgpull_theirs AS SELECT {}, 0::bigint AS {} FROM {} WITH NO DATA").format(
        listed(plan.keys), _DIGEST, rows_of(plan.target)
    )


def create_differing(plan: Plan) -> Composed:
    """Make *differing*, empty."""
    return SQL("CREATE TEMP TABLE pgpull_differing AS SELECT {}, ''::text AS {} FROM {} WITH NO DATA").format(
        listed(plan.keys), STATE, rows_of(plan.target)
    )


def create_differing_by_hashes(plan: Plan, of: Digest, encoding: str) -> Composed:
    """Make *differing* with the keys whose row is not on the target, or hashes to something else there.

    The hashes are computed where the rows are read, so that no wide row goes through the join, and so that
    the servers' workers may help: no INSERT would let them. Rows out of scope are not hashed: a row that is
    out of scope here and in scope there differs.
    """
    absent: Composable = SQL("t.{} IS NULL").format(_DIGEST)
    if scope_of(plan, plan.target).as_string(None) and plan.scope_here:
        absent = SQL("{} AND NOT {}").format(absent, is_here(plan))
    return SQL(
        "CREATE TEMP TABLE pgpull_differing AS"
        " SELECT {theirs}, CASE WHEN {absent} THEN {missing} ELSE {changed} END::text AS {state}"
        " FROM {stage} AS s LEFT JOIN (SELECT {keys}, {digest} AS {hash} FROM {rows}{scope}) AS t ON {same_key}"
        " WHERE t.{hash} IS DISTINCT FROM s.{hash}"
    ).format(
        theirs=listed(plan.keys, "s"),
        absent=absent,
        missing=Literal(MISSING),
        changed=Literal(CHANGED),
        state=STATE,
        stage=THEIRS,
        keys=listed(plan.keys),
        digest=digest(of, encoding),
        rows=rows_of(plan.target),
        scope=_hashed(plan),
        same_key=same_key(plan.the_key),
        hash=_DIGEST,
    )


def _hashed(plan: Plan) -> Composable:
    """The condition of the target's rows that are hashed: in scope, if it can tell which are."""
    if plan.scope_here:
        return scope_of(plan, plan.target)
    if plan.request.scope.stretch:  # there will be another for the rest
        return SQL(" WHERE ({0}) IN (SELECT {0} FROM {1})").format(listed(plan.keys), THEIRS)
    return SQL("")


def clear_theirs() -> Composed:
    """Make room for what the source sends next."""
    return SQL("TRUNCATE {}").format(THEIRS)


def copy_theirs(plan: Plan, *, digests: bool) -> Composed:
    """Take what the source sends."""
    columns = [listed(plan.keys), _DIGEST] if digests else [listed(plan.keys)]
    return SQL("COPY {} ({}) FROM STDIN (FORMAT {})").format(
        THEIRS, SQL(", ").join(columns), SQL(plan.key_wire.value)
    )


def _insert(plan: Plan, state: str, prefix: str, source: Composed) -> Composed:
    return (
        SQL("INSERT INTO {} SELECT {}, {} FROM ").format(DIFFERING, listed(plan.keys, prefix), Literal(state))
        + source
    )


def _noted(plan: Plan) -> Composed:
    return SQL("EXISTS (SELECT FROM {} AS t WHERE {})").format(DIFFERING, same_key(plan.the_key))


def find_missing(plan: Plan) -> Composed:
    """Note the keys that the source sent and the target does not have, in scope or not."""
    found = SQL("{} AS s WHERE NOT {} AND NOT {}").format(THEIRS, is_here(plan), _noted(plan))
    return _insert(plan, MISSING, "s", found)


def find_touched_here(plan: Plan, horizon: int) -> Composed:
    """Note the keys of the rows that somebody wrote here since, in scope or not."""
    ours = SQL("(SELECT {} FROM {} WHERE {}) AS t").format(
        listed(plan.keys), rows_of(plan.target), young(horizon)
    )
    return _insert(plan, CHANGED, "t", ours)


def find_touched(plan: Plan) -> Composed:
    """Note the keys that the source sent, as written since, and the target has; those noted already aside."""
    found = SQL("{} AS s WHERE {} AND NOT {}").format(THEIRS, is_here(plan), _noted(plan))
    return _insert(plan, CHANGED, "s", found)


def find_extra(plan: Plan, encoding: str, buckets: int, wanted: Sequence[int] | None) -> Composed:
    """Note the keys in scope here that the source did not send."""
    more = _in_buckets(plan, encoding, buckets, wanted)
    ours = SQL("(SELECT {} FROM {}{}) AS t").format(
        listed(plan.keys), rows_of(plan.target), scope_of(plan, plan.target, *more)
    )
    return _insert(
        plan,
        EXTRA,
        "t",
        SQL("{} WHERE NOT EXISTS (SELECT FROM {} AS s WHERE {})").format(ours, THEIRS, same_key(plan.the_key)),
    )


def absent_fingerprint(plan: Plan, encoding: str, buckets: int) -> Composed:
    """Count and sum up the hashes of the keys in *theirs* that the target does not have in scope."""
    ours = SQL("SELECT FROM (SELECT {} FROM {}{}) AS t WHERE {}").format(
        listed(plan.keys), rows_of(plan.target), scope_of(plan, plan.target), same_key(plan.the_key)
    )
    return SQL(
        "SELECT h & {mask}, count(*), {sum}"
        " FROM (SELECT {digest} AS h FROM {theirs} AS s WHERE NOT EXISTS ({ours})) AS hashed GROUP BY 1"
    ).format(
        mask=Literal(buckets - 1),
        sum=sum_of(plan.key_digest, SQL("h")),
        digest=digest(plan.key_digest, encoding),
        theirs=THEIRS,
        ours=ours,
    )


COUNT_STATES: Final = SQL("SELECT {}, count(*) FROM {} GROUP BY 1").format(STATE, DIFFERING)


def forget_those_there(plan: Plan) -> Composed:
    """Take out of the extra keys those that the source sent: it has them, outside of the scope."""
    return SQL("DELETE FROM {} AS t USING {} AS s WHERE t.{} = {} AND {}").format(
        DIFFERING, THEIRS, STATE, Literal(EXTRA), same_key(plan.the_key)
    )


def in_state(state: str) -> Composed:
    """The keys that differ in one way; a table and a condition."""
    return SQL("{} AS s WHERE s.{} = {}").format(DIFFERING, STATE, Literal(state))


def key_batches(plan: Plan, which: Composed, rows: int, cursor: str) -> Composed:
    """Open a cursor on some keys: each of its rows is a batch, with an array for each column."""
    arrays = SQL(", ").join(
        SQL("array_agg({}{})::text").format(
            Identifier(name), SQL("") if _is_simple(plan, name) else SQL("::text")
        )
        for name in plan.keys
    )
    return SQL(
        "DECLARE {cursor} CURSOR WITH HOLD FOR SELECT {arrays} FROM"
        " (SELECT {keys}, (row_number() OVER () - 1) / {rows} AS {batch}"
        " FROM {which})"
        " AS numbered GROUP BY {batch} ORDER BY {batch}"
    ).format(
        cursor=Identifier(cursor),
        arrays=arrays,
        keys=listed(plan.keys, "s"),
        rows=Literal(rows),
        batch=Identifier("pgpull batch"),
        which=which,
    )


def fetch(cursor: str) -> Composed:
    """Take the next row of a cursor."""
    return SQL("FETCH {}").format(Identifier(cursor))


def close(cursor: str) -> Composed:
    """Be done with a cursor."""
    return SQL("CLOSE {}").format(Identifier(cursor))


def differing_keys(plan: Plan, most: int | None = None) -> Composed:
    """Spell out the keys that differ, and how, sorted."""
    texts = SQL(", ").join(SQL("{}::text").format(Identifier(name)) for name in plan.keys)
    return SQL("SELECT {}, {} FROM {} ORDER BY 1, {}").format(STATE, texts, DIFFERING, listed(plan.keys)) + (
        SQL(" LIMIT {}").format(Literal(most)) if most is not None else SQL("")
    )
