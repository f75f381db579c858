"""Questions and statements for making tables that local lacks."""

from __future__ import annotations

from typing import Final

from psycopg.sql import SQL, Composed, Identifier

# Tables, their partitions, and whatever those are made of: what a thing depends on, and what its own parts
# depend on (manual: 52.18, pg_depend). Foreign keys and triggers are no such parts: those can be left out.
# Below 16384 (FirstNormalObjectId) are things that every server has.
NEEDED: Final = SQL("""
    WITH RECURSIVE wanted AS (
        SELECT c.oid
          FROM unnest(%(schemas)s::text[], %(names)s::text[]) AS w (schema, name)
          JOIN pg_namespace AS n ON n.nspname = w.schema
          JOIN pg_class AS c ON c.relnamespace = n.oid AND c.relname = w.name
        UNION
        SELECT c.oid
          FROM wanted CROSS JOIN LATERAL pg_partition_tree(wanted.oid::regclass) AS p
          JOIN pg_class AS c ON c.oid = p.relid AND c.relkind IN ('r', 'p')
    ), needed AS (
        SELECT 'pg_class'::regclass::oid AS class, oid FROM wanted
        UNION
        SELECT further.class, further.oid
          FROM needed CROSS JOIN LATERAL (
              SELECT d.refclassid, d.refobjid
                FROM pg_depend AS d
               WHERE d.classid = needed.class AND d.objid = needed.oid
                 AND d.refobjid >= 16384 AND d.refclassid <> 'pg_am'::regclass
                 AND NOT (    d.classid = 'pg_class'::regclass AND d.refclassid = 'pg_class'::regclass
                          AND EXISTS (SELECT FROM pg_class AS s WHERE s.oid = d.objid AND s.relkind = 'S'))
              UNION ALL
              SELECT d.classid, d.objid
                FROM pg_depend AS d
               WHERE d.refclassid = needed.class AND d.refobjid = needed.oid AND d.deptype IN ('a', 'i', 'S')
                 AND (   d.classid = 'pg_attrdef'::regclass
                      OR d.classid = 'pg_constraint'::regclass
                         AND EXISTS (SELECT FROM pg_constraint AS r WHERE r.oid = d.objid AND r.contype <> 'f')
                      OR d.classid = 'pg_class'::regclass
                         AND EXISTS (SELECT FROM pg_class AS i
                                      WHERE i.oid = d.objid AND i.relkind IN ('i', 'I', 'S')))
          ) AS further (class, oid)
    )
    SELECT needed.class::bigint,
           needed.oid::bigint,
           CASE WHEN needed.class = 'pg_class'::regclass THEN c.relkind::text
                ELSE needed.class::regclass::text END,
           -- quoted where it has to be; as it stands, where we ask ourselves
           coalesce(n.nspname, (parse_ident(known.schema))[1], ''),
           coalesce(c.relname, address.object_names[1]),
           known.type || ' ' || known.identity,
           address.type,
           address.object_names,
           address.object_args,
           EXISTS (SELECT FROM pg_depend AS d
                    WHERE d.classid = needed.class AND d.objid = needed.oid AND d.deptype = 'i')
      FROM needed
      LEFT JOIN pg_class AS c ON needed.class = 'pg_class'::regclass AND c.oid = needed.oid
      LEFT JOIN pg_namespace AS n ON n.oid = c.relnamespace
      LEFT JOIN pg_type AS t ON needed.class = 'pg_type'::regclass AND t.oid = needed.oid
     CROSS JOIN LATERAL pg_identify_object(needed.class, needed.oid, 0) AS known
     CROSS JOIN LATERAL pg_identify_object_as_address(needed.class, needed.oid, 0) AS address
     WHERE needed.class NOT IN ('pg_attrdef'::regclass, 'pg_constraint'::regclass, 'pg_rewrite'::regclass)
       AND (c.oid IS NULL OR c.relkind NOT IN ('i', 'I', 't', 'c'))
       -- types that come by themselves: arrays, multiranges, those of a table's rows
       AND (t.oid IS NULL OR t.typtype = 'c' AND EXISTS (SELECT FROM pg_class AS alone
                                                          WHERE alone.oid = t.typrelid AND alone.relkind = 'c')
            OR t.typtype NOT IN ('c', 'm') AND NOT EXISTS (SELECT FROM pg_type AS e WHERE e.typarray = t.oid))
       -- what comes with an extension
       AND NOT EXISTS (SELECT FROM pg_depend AS d
                        WHERE d.classid = needed.class AND d.objid = needed.oid AND d.deptype = 'e')
     ORDER BY needed.class, needed.oid
""")


EXTENSIONS: Final = SQL("""
    SELECT x.extname, n.nspname
      FROM pg_extension AS x JOIN pg_namespace AS n ON n.oid = x.extnamespace
     WHERE x.extname = ANY (%(names)s)
""")


AVAILABLE: Final = SQL("SELECT name FROM pg_available_extensions WHERE name = ANY (%(names)s)")


SCHEMAS: Final = SQL("SELECT nspname FROM pg_namespace WHERE nspname = ANY (%(names)s)")


RELATIONS: Final = SQL("""
    SELECT n.nspname, c.relname
      FROM unnest(%(schemas)s::text[], %(names)s::text[]) AS w (schema, name)
      JOIN pg_namespace AS n ON n.nspname = w.schema
      JOIN pg_class AS c ON c.relnamespace = n.oid AND c.relname = w.name
""")


# Fails where there is no such thing; its name comes from pg_identify_object_as_address on the other side.
ADDRESS: Final = SQL("SELECT FROM pg_get_object_address(%s, %s, %s)")


# The tables of a list, for the questions below.
_TABLES: Final = SQL("""
    WITH tables AS (
        SELECT c.oid, n.nspname AS schema, c.relname AS name, c.relispartition
          FROM unnest(%(schemas)s::text[], %(names)s::text[]) AS w (schema, name)
          JOIN pg_namespace AS n ON n.nspname = w.schema
          JOIN pg_class AS c ON c.relnamespace = n.oid AND c.relname = w.name
    )
""")


# What tables have on the source and do not get here. PostgreSQL 12 has no pg_trigger.tgparentid.
NEVER_MADE: Final = _TABLES + SQL("""
    SELECT 'triggers', tables.schema, tables.name, t.tgname
      FROM tables JOIN pg_trigger AS t ON t.tgrelid = tables.oid
     WHERE NOT t.tgisinternal AND coalesce(to_jsonb(t) ->> 'tgparentid', '0') = '0'
    UNION ALL
    SELECT 'rules', tables.schema, tables.name, r.rulename
      FROM tables JOIN pg_rewrite AS r ON r.ev_class = tables.oid
    UNION ALL
    SELECT 'statistics objects', tables.schema, tables.name, s.stxname
      FROM tables JOIN pg_statistic_ext AS s ON s.stxrelid = tables.oid
    UNION ALL
    SELECT 'row-level policies', tables.schema, tables.name, p.polname
      FROM tables JOIN pg_policy AS p ON p.polrelid = tables.oid
    UNION ALL      -- their rows are elsewhere, on another server that may be a production server, too
    SELECT 'foreign tables that are partitions', tables.schema, tables.name, f.relname
      FROM tables
      JOIN pg_inherits AS h ON h.inhparent = tables.oid
      JOIN pg_class AS f ON f.oid = h.inhrelid AND f.relkind = 'f'
     ORDER BY 1, 2, 3, 4
""")


FOREIGN_KEYS: Final = _TABLES + SQL("""
    SELECT r.oid::bigint, r.conname, tables.schema, tables.name, n.nspname, c.relname
      FROM tables
      JOIN pg_constraint AS r ON r.conrelid = tables.oid AND r.contype = 'f'
      JOIN pg_class AS c ON c.oid = r.confrelid
      JOIN pg_namespace AS n ON n.oid = c.relnamespace
""")


# Partitions whose partitioned table is not one of the tables, and their indexes.
ATTACHED_ELSEWHERE: Final = _TABLES + SQL("""
    , alone AS (
        SELECT tables.* FROM tables JOIN pg_inherits AS h ON h.inhrelid = tables.oid
         WHERE tables.relispartition AND h.inhparent NOT IN (SELECT oid FROM tables)
    )
    SELECT schema, name FROM alone
    UNION ALL
    SELECT alone.schema, c.relname
      FROM alone
      JOIN pg_index AS i ON i.indrelid = alone.oid
      JOIN pg_class AS c ON c.oid = i.indexrelid
""")


# As pg_dump's own scripts begin: names are qualified, and bodies may name what comes later.
PREPARE: Final = SQL("SET LOCAL search_path TO ''; SET LOCAL check_function_bodies TO off")
AS_PREPARED: Final = SQL("SELECT current_setting('search_path'), current_setting('check_function_bodies')")
AFTERWARDS: Final = SQL(
    "SELECT set_config('search_path', %s, true), set_config('check_function_bodies', %s, true)"
)


def create_schema(name: str) -> Composed:
    """Make a schema."""
    return SQL("CREATE SCHEMA {};").format(Identifier(name))


def create_extension(name: str, schema: str) -> Composed:
    """Make an extension where the source has it."""
    return SQL("CREATE EXTENSION {} SCHEMA {};").format(Identifier(name), Identifier(schema))


def move_extension(name: str, schema: str) -> Composed:
    """Put an extension where the source has it: types are named with their schema."""
    return SQL("ALTER EXTENSION {} SET SCHEMA {};").format(Identifier(name), Identifier(schema))
