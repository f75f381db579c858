"""Questions to a database about itself and its tables."""

from __future__ import annotations

from typing import Final

from psycopg.sql import SQL

IDENTITY: Final = SQL("""
    SELECT current_database(),
           current_user,
           (SELECT oid FROM pg_database WHERE datname = current_database()),
           pg_postmaster_start_time()::text,
           greatest(pg_postmaster_start_time(), pg_stat_get_bgwriter_stat_reset_time())::text,
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
