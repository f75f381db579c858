"""Every SQL statement that pgpull sends, as functions from values to psycopg compositions.

Nothing here runs anything, and no other module holds SQL words. The fixed statements come first, then the
conditions of a scope, then what is said to the source and what is said to the target.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Final

from psycopg.sql import SQL, Composable, Composed, Identifier, Literal

from pgpull.model import Column, Key, OwnedSequence, Plan, Reference, Scope, Shape, TableName, Trigger, Wire
from pgpull.sql.parts import condition, instant_of, listed, name_of, outside, rows_of, same_key, verbatim

# --- asking a database about itself and its tables -------------------------------------------------------

IDENTITY: Final = SQL("""
    SELECT current_database(),
           current_user,
           (SELECT oid FROM pg_database WHERE datname = current_database()),
           pg_postmaster_start_time()::text,
           greatest(pg_postmaster_start_time(), (SELECT stats_reset FROM pg_stat_bgwriter))::text,
           current_setting('server_version'),
           current_setting('server_version_num')::integer / 10000,
           current_setting('server_encoding'),
           pg_is_in_recovery(),
           current_setting('transaction_read_only')::boolean,
           current_setting('transaction_isolation'),
           transaction_timestamp(),
           txid_snapshot_xmin(txid_current_snapshot())
""")

# Open to everybody, unless somebody closed it. Two questions: a CASE would check both branches' privileges.
MAY_KNOW_SYSTEM: Final = SQL("SELECT has_function_privilege('pg_catalog.pg_control_system()', 'EXECUTE')")

SYSTEM: Final = SQL("SELECT system_identifier::text FROM pg_control_system()")

TABLE: Final = SQL("""
    SELECT c.oid,
           c.relkind,
           pg_has_role(c.relowner, 'USAGE'),
           ARRAY(SELECT p FROM unnest('{SELECT,INSERT,UPDATE,DELETE}'::text[]) AS p
                  WHERE has_schema_privilege(n.oid, 'USAGE')
                    AND CASE p WHEN 'DELETE' THEN has_table_privilege(c.oid, p)
                               ELSE has_table_privilege(c.oid, p) OR has_any_column_privilege(c.oid, p) END),
           c.relkind = 'r' AND EXISTS (SELECT FROM pg_inherits WHERE inhparent = c.oid)
      FROM pg_class AS c
      JOIN pg_namespace AS n ON n.oid = c.relnamespace
     WHERE n.nspname = %(schema)s AND c.relname = %(name)s
""")

COLUMNS: Final = SQL("""
    WITH RECURSIVE below AS (      -- from a domain down to the type it is made of
        SELECT a.attnum, a.atttypid AS oid
          FROM pg_attribute AS a
         WHERE a.attrelid = %(oid)s AND a.attnum > 0 AND NOT a.attisdropped
        UNION ALL
        SELECT below.attnum, t.typbasetype
          FROM below JOIN pg_type AS t ON t.oid = below.oid
         WHERE t.typtype = 'd'
    )
    SELECT a.attname,
           a.attnotnull,
           a.atthasdef,
           a.attgenerated <> '',
           a.attidentity,
           has_column_privilege(%(oid)s::oid, a.attnum, 'SELECT'),
           format_type(a.atttypid, a.atttypmod),
           t.typname,
           t.oid,
           t.typtype,
           t.typcategory,
           t.oid < 16384,          -- FirstNormalObjectId: below it, oids are the same on every server
           t.typsend <> 0 AND t.typreceive <> 0,
           e.typname,
           coalesce(e.oid < 16384, false),
           x.extname
      FROM pg_attribute AS a
      JOIN below ON below.attnum = a.attnum
      JOIN pg_type AS t ON t.oid = below.oid AND t.typtype <> 'd'
      LEFT JOIN pg_type AS e ON e.oid = t.typelem AND t.typcategory = 'A'
      LEFT JOIN pg_depend AS d
             ON d.classid = 'pg_type'::regclass AND d.objid = t.oid AND d.deptype = 'e'
      LEFT JOIN pg_extension AS x ON x.oid = d.refobjid
     WHERE a.attrelid = %(oid)s AND a.attnum > 0
     ORDER BY a.attnum
""")

KEYS: Final = SQL("""
    SELECT ARRAY(SELECT a.attname
                   FROM unnest(i.indkey[0:i.indnkeyatts - 1]) WITH ORDINALITY AS k (attnum, place)
                   JOIN pg_attribute AS a ON a.attrelid = i.indrelid AND a.attnum = k.attnum
                  ORDER BY k.place)::text[],
           i.indisprimary,
           NOT i.indimmediate
      FROM pg_index AS i
     WHERE i.indrelid = %(oid)s
       AND i.indisunique AND i.indisvalid AND i.indpred IS NULL AND i.indexprs IS NULL
       AND NOT EXISTS (SELECT FROM pg_attribute AS a
                        WHERE a.attrelid = i.indrelid
                          AND a.attnum = ANY (i.indkey[0:i.indnkeyatts - 1]) AND NOT a.attnotnull)
     ORDER BY i.indisprimary DESC, i.indimmediate DESC, i.indnkeyatts, i.indexrelid
""")

# Those of its partitions too, unless they have them for their root, whose own stands for them.
TRIGGERS: Final = SQL("""
    WITH tables AS (
        SELECT p.relid::oid AS oid FROM pg_partition_tree(%(oid)s::oid::regclass) AS p
        UNION SELECT %(oid)s::oid
    )
    SELECT t.tgname, n.nspname, c.relname, t.tgenabled,
           t.tgtype & 20 <> 0,        -- 4 INSERT, 16 UPDATE (pg_trigger.h)
           t.tgtype & 8 <> 0          -- 8 DELETE
      FROM pg_trigger AS t
      JOIN pg_class AS c ON c.oid = t.tgrelid
      JOIN pg_namespace AS n ON n.oid = c.relnamespace
     WHERE t.tgrelid IN (SELECT oid FROM tables) AND NOT t.tgisinternal AND t.tgenabled IN ('O', 'A')
       AND t.tgtype & 28 <> 0
       AND (t.tgrelid = %(oid)s OR coalesce(to_jsonb(t) ->> 'tgparentid', '0') = '0')  -- PostgreSQL 12 has none
     ORDER BY t.tgrelid <> %(oid)s, t.tgname, n.nspname, c.relname
""")

# Foreign keys that refer to it or to one of its partitions. Those that partitions have for their root are the
# root's; but what refers to the root refers to a partition that stands alone.
REFERENCES: Final = SQL("""
    WITH tables AS (
        SELECT p.relid::oid AS oid FROM pg_partition_tree(%(oid)s::oid::regclass) AS p
        UNION SELECT %(oid)s::oid
    )
    SELECT r.conname, n.nspname, c.relname, c.relkind,
           ARRAY(SELECT a.attname FROM unnest(r.conkey) WITH ORDINALITY AS k (attnum, place)
                   JOIN pg_attribute AS a ON a.attrelid = r.conrelid AND a.attnum = k.attnum
                  ORDER BY k.place)::text[],
           ARRAY(SELECT a.attname FROM unnest(r.confkey) WITH ORDINALITY AS k (attnum, place)
                   JOIN pg_attribute AS a ON a.attrelid = r.confrelid AND a.attnum = k.attnum
                  ORDER BY k.place)::text[]
      FROM pg_constraint AS r
      JOIN pg_class AS c ON c.oid = r.conrelid
      JOIN pg_namespace AS n ON n.oid = c.relnamespace
     WHERE r.contype = 'f' AND r.confrelid IN (SELECT oid FROM tables)
       AND NOT EXISTS (SELECT FROM pg_constraint AS whole
                        WHERE whole.oid = r.conparentid AND whole.confrelid IN (SELECT oid FROM tables))
     ORDER BY r.conname, n.nspname, c.relname
""")

# What a row's values may hang on beside the row itself: if any of it changes, row versions mean nothing more.
STANDING: Final = SQL("""
    WITH leaves AS (
        SELECT p.relid::oid AS oid FROM pg_partition_tree(%(oid)s::oid::regclass) AS p WHERE p.isleaf
        UNION SELECT %(oid)s::oid
    )
    SELECT greatest(sum(c.reltuples), 0)::bigint,
           bool_and(c.relkind = 'p' OR coalesce(m.amname = 'heap', false))
               AND has_table_privilege(%(oid)s::oid, 'SELECT'),
           md5(concat_ws(';',
               string_agg(c.oid::text, ',' ORDER BY c.oid),
               (SELECT string_agg(concat_ws(' ', a.attnum, a.attname, a.atttypid, a.atttypmod, a.attgenerated),
                                  ',' ORDER BY a.attnum)
                  FROM pg_attribute AS a
                 WHERE a.attrelid = %(oid)s AND a.attnum > 0 AND NOT a.attisdropped),
               (SELECT string_agg(concat_ws(' ', e.enumtypid, e.enumsortorder, e.enumlabel), ','
                                  ORDER BY e.enumtypid, e.enumsortorder)
                  FROM pg_enum AS e)))
      FROM leaves
      JOIN pg_class AS c ON c.oid = leaves.oid
      LEFT JOIN pg_am AS m ON m.oid = c.relam
""")

SEQUENCES: Final = SQL("""
    SELECT n.nspname, s.relname, a.attname
      FROM pg_depend AS d
      JOIN pg_class AS s ON s.oid = d.objid AND s.relkind = 'S'
      JOIN pg_namespace AS n ON n.oid = s.relnamespace
      JOIN pg_attribute AS a ON a.attrelid = d.refobjid AND a.attnum = d.refobjsubid
     WHERE d.classid = 'pg_class'::regclass AND d.refclassid = 'pg_class'::regclass
       AND d.refobjid = %(oid)s AND d.deptype IN ('a', 'i')
       AND a.atttypid IN ('int2'::regtype, 'int4'::regtype, 'int8'::regtype)
     ORDER BY a.attnum
""")


# --- a session's settings --------------------------------------------------------------------------------


def pin(settings: Mapping[str, str], *, in_transaction: bool) -> Composed:
    """Set each setting, for this transaction alone or for the session."""
    calls = (
        SQL("set_config({}, {}, {})").format(Literal(name), Literal(value), Literal(in_transaction))
        for name, value in settings.items()
    )
    return SQL("SELECT ") + SQL(", ").join(calls)


def pin_where_unlimited(settings: Mapping[str, str]) -> Composed:
    """Set each timeout for this transaction, unless the server has its own, which stays, or knows of none."""
    calls = (
        SQL("CASE WHEN current_setting({0}, true) = '0' THEN set_config({0}, {1}, true) END").format(
            Literal(name), Literal(value)
        )
        for name, value in settings.items()
    )
    return SQL("SELECT ") + SQL(", ").join(calls)


# --- to the source ---------------------------------------------------------------------------------------


def _select(plan: Plan) -> Composed:
    scope = condition(plan.request.scope, plan.source, plan.request.timezone)
    return SQL("SELECT {} FROM {}").format(listed(plan.columns), rows_of(plan.source)) + scope


def probe(scope: Scope, shape: Shape, timezone: str) -> Composed:
    """Ask for no row at all: the parser then says what is wrong with a scope."""
    return SQL("SELECT FROM {}{} LIMIT 0").format(rows_of(shape), condition(scope, shape, timezone))


def probe_alone(where: str, shape: Shape) -> Composed:
    """Ask for no row with a user's condition outside of any parentheses: it may not close ours."""
    return SQL("SELECT FROM {} WHERE {}\n LIMIT 0").format(rows_of(shape), verbatim(where))


def explain(plan: Plan) -> Composed:
    """Ask the planner for its estimate; never ANALYZE, which would run the query."""
    return SQL("EXPLAIN (FORMAT JSON) ") + _select(plan)


def copy_out(plan: Plan) -> Composed:
    """Send the rows in scope; new rows oldest first, as the next pull begins at the newest that is here."""
    window, order = plan.request.scope.window, Composed([])
    if plan.request.new is not None and window is not None:
        order = SQL(" ORDER BY {}").format(Identifier(window.column))
    return SQL("COPY ({}{}) TO STDOUT (FORMAT {})").format(_select(plan), order, SQL(plan.wire.value))


# --- to the target ---------------------------------------------------------------------------------------

STAGE: Final = Identifier("pg_temp", "pgpull_stage")

SPELL: Final = b"SELECT $1::text"

CHECK_CONSTRAINTS_NOW: Final = SQL("SET CONSTRAINTS ALL IMMEDIATE")


# A stage of an earlier pass, whose columns may have been others.
DROP_STAGE: Final = SQL("DROP TABLE IF EXISTS {}").format(STAGE)


EMPTY_STAGE: Final = SQL("TRUNCATE {}").format(STAGE)

CURRENT_TRANSACTION: Final = SQL("SELECT txid_current_if_assigned()")


def any_row(shape: Shape, scope: Scope, timezone: str) -> Composed:
    """Ask whether the table holds a row in scope."""
    scoped = condition(scope, shape, timezone)
    return SQL("SELECT EXISTS (SELECT FROM {}{})").format(rows_of(shape), scoped)


def newest(shape: Shape, scope: Scope, timezone: str, now: datetime) -> Composed:
    """Ask for the newest value of the window's column in scope up to now, spelled as an instant in UTC.

    A row of the future would keep all rows of today out.
    """
    assert scope.window is not None, "who asks for the newest row has a window"
    column = Identifier(scope.window.column)
    instant = SQL("max({})").format(column)
    found = shape.column(scope.window.column)
    if found and found.type.base != "timestamptz":
        instant = SQL("max({})::timestamp AT TIME ZONE {}").format(column, Literal(timezone))
    # a calendar begins where Python's does
    real = SQL("{} BETWEEN '0001-01-03' AND {}").format(column, instant_of(now, found, timezone))
    return SQL(
        """SELECT to_char({} AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US+00:00') FROM {}{}"""
    ).format(instant, rows_of(shape), condition(scope, shape, timezone, [real]))


def create_stage(plan: Plan) -> Composed:
    """Make the stage: the target's columns and types, none of its constraints, emptied by each commit."""
    return SQL("CREATE TEMP TABLE {} ON COMMIT DELETE ROWS AS SELECT {} FROM {} WITH NO DATA").format(
        Identifier("pgpull_stage"), listed(plan.columns), rows_of(plan.target)
    )


def _copy_in(target: Composable, columns: Sequence[str], wire: Wire) -> Composed:
    return SQL("COPY {} ({}) FROM STDIN (FORMAT {})").format(target, listed(columns), SQL(wire.value))


def copy_straight(plan: Plan) -> Composed:
    """Take rows straight into the table."""
    return _copy_in(name_of(plan.table), plan.columns, plan.wire)


def copy_to_stage(plan: Plan) -> Composed:
    """Take rows into the stage."""
    return _copy_in(STAGE, plan.columns, plan.wire)


def insert_missing(plan: Plan) -> Composed:
    """Insert the staged rows whose key the target does not have.

    Asking first leaves defaults and sequences of existing rows alone; ON CONFLICT passes over a row that
    somebody else inserted in between.
    """
    key = plan.the_key
    arbiter = SQL(" ON CONFLICT ({}) DO NOTHING").format(listed(key.columns))
    return SQL(
        "INSERT INTO {table} ({columns}) OVERRIDING SYSTEM VALUE SELECT {staged} FROM {stage} AS s"
        " WHERE NOT EXISTS (SELECT FROM {rows} AS t WHERE {same_key}){arbiter}"
    ).format(
        table=name_of(plan.table),
        columns=listed(plan.columns),
        staged=listed(plan.columns, "s"),
        stage=STAGE,
        rows=rows_of(plan.target),
        same_key=same_key(key),
        arbiter=Composed([]) if key.deferrable else arbiter,
    )


def update_changed(plan: Plan) -> Composed:
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
        stage=STAGE,
        same_key=same_key(plan.the_key),
        ours=listed(plan.updated, "t"),
        theirs=listed(plan.updated, "s"),
    )


def delete_scope(plan: Plan) -> Composed:
    """Delete the target's rows in scope."""
    scope = condition(plan.request.scope, plan.target, plan.request.timezone)
    return SQL("DELETE FROM {}{}").format(rows_of(plan.target), scope)


def count_scope(plan: Plan) -> Composed:
    """Count the target's rows in scope."""
    scope = condition(plan.request.scope, plan.target, plan.request.timezone)
    return SQL("SELECT count(*) FROM {}{}").format(rows_of(plan.target), scope)


def lock_children(reference: Reference) -> Composed:
    """Keep others from adding rows that refer to the table, until the transaction ends."""
    return SQL("LOCK TABLE {} IN SHARE ROW EXCLUSIVE MODE").format(name_of(reference.table))


def any_referring(plan: Plan, reference: Reference) -> Composed:
    """Ask whether a row that stays refers to one of the target's rows in scope."""
    words = plan.request.scope, plan.target, plan.request.timezone
    child = SQL("") if reference.kind == "p" else SQL("ONLY ")
    stays = outside(*words) if reference.table == plan.table else SQL("")
    same = SQL(" AND ").join(
        SQL("c.{} = p.{}").format(Identifier(own), Identifier(theirs))
        for own, theirs in zip(reference.columns, reference.referred, strict=True)
    )
    return SQL(
        "SELECT EXISTS (SELECT FROM (SELECT * FROM {parents}{scope}) AS p"
        " JOIN (SELECT * FROM {child}{stays}) AS c ON {same})"
    ).format(
        parents=rows_of(plan.target),
        scope=condition(*words),
        child=child + name_of(reference.table),
        stays=stays,
        same=same,
    )


def disable_trigger(trigger: Trigger) -> Composed:
    """Keep a trigger from firing; undone in the same transaction."""
    return SQL("ALTER TABLE {} DISABLE TRIGGER {}").format(name_of(trigger.table), Identifier(trigger.name))


def enable_trigger(trigger: Trigger) -> Composed:
    """Put a trigger back as it stood."""
    how = SQL("ENABLE ALWAYS") if trigger.enabled == "A" else SQL("ENABLE")
    return SQL("ALTER TABLE {} {} TRIGGER {}").format(name_of(trigger.table), how, Identifier(trigger.name))


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


# --- what a hint tells the user to run -------------------------------------------------------------------


def create_table(shape: Shape) -> Composed:
    """Make a table that takes another table's rows: its columns and its key, nothing else."""
    lines = [
        SQL("{} {}{}").format(
            Identifier(column.name),
            verbatim(column.type.name),
            SQL(" NOT NULL") if column.not_null else SQL(""),
        )
        for column in shape.columns
    ]
    if shape.keys:
        lines.append(SQL("PRIMARY KEY ({})").format(listed(shape.keys[0].columns)))
    return SQL("CREATE SCHEMA IF NOT EXISTS {}; CREATE TABLE {} ({});").format(
        Identifier(shape.table.schema), name_of(shape.table), SQL(", ").join(lines)
    )


def add_column(table: TableName, column: Column) -> Composed:
    """Add a column that one side lacks."""
    return SQL("ALTER TABLE {} ADD COLUMN {} {};").format(
        name_of(table), Identifier(column.name), verbatim(column.type.name)
    )


def change_type(table: TableName, column: Column) -> Composed:
    """Give a column the type it has on the other side."""
    name = Identifier(column.name)
    return SQL("ALTER TABLE {0} ALTER COLUMN {1} TYPE {2} USING {1}::text::{2};").format(
        name_of(table), name, verbatim(column.type.name)
    )


def drop_not_null(table: TableName, column: Column) -> Composed:
    """Let a column be empty that the other side does not have."""
    return SQL("ALTER TABLE {} ALTER COLUMN {} DROP NOT NULL;").format(name_of(table), Identifier(column.name))


def add_key(table: TableName, key: Key) -> Composed:
    """Make columns the table's primary key."""
    return SQL("ALTER TABLE {} ADD PRIMARY KEY ({});").format(name_of(table), listed(key.columns))


def grant(privileges: Sequence[str], table: TableName, role: str) -> Composed:
    """Let a role do what it may not."""
    return SQL("GRANT USAGE ON SCHEMA {} TO {}; GRANT {} ON {} TO {};").format(
        Identifier(table.schema),
        Identifier(role),
        verbatim(", ".join(privileges)),
        name_of(table),
        Identifier(role),
    )
