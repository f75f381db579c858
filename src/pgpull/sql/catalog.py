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


PROCESS: Final = SQL("SELECT pg_backend_pid()")


# Open to everybody, unless somebody closed it. Two questions: a CASE would check both branches' privileges.
MAY_KNOW_SYSTEM: Final = SQL("SELECT has_function_privilege('pg_catalog.pg_control_system()', 'EXECUTE')")


SYSTEM: Final = SQL("SELECT system_identifier::text FROM pg_control_system()")


MADE_BY_PEOPLE: Final = """n.nspname NOT IN ('information_schema', 'pgpull') AND n.nspname NOT LIKE 'pg\\_%'
       AND n.nspname NOT LIKE 'pgpull\\_archive\\_%'
       AND NOT EXISTS (SELECT FROM pg_depend
                        WHERE classid = 'pg_class'::regclass AND objid = c.oid AND deptype = 'e')"""
"""The condition that a table ``c`` in a schema ``n`` is neither the system's nor an extension's, nor ours."""


# Which tables there are, for a pattern. Of a partition, the root that it belongs to.
NAMES: Final = SQL(f"""
    SELECT n.nspname, c.relname, root_in.nspname, root.relname
      FROM pg_class AS c
      JOIN pg_namespace AS n ON n.oid = c.relnamespace
      LEFT JOIN pg_class AS root ON c.relispartition AND root.oid = pg_partition_root(c.oid)
      LEFT JOIN pg_namespace AS root_in ON root_in.oid = root.relnamespace
     WHERE c.relkind IN ('r', 'p')
       AND {MADE_BY_PEOPLE}
     ORDER BY n.nspname, c.relname
""")


# How many pages a table has at most in one file, and how many bytes in all. What a partitioned table holds, its
# leaves do; of any other there is no tree.
EXTENT: Final = SQL("""
    SELECT max(pg_relation_size(relid)) / current_setting('block_size')::bigint,
           sum(pg_table_size(relid))::bigint
      FROM (SELECT relid FROM pg_partition_tree(%(table)s) UNION SELECT %(table)s::regclass) AS files
""")


PRIVILEGES: Final = """
           ARRAY(SELECT p FROM unnest('{SELECT,INSERT,UPDATE,DELETE}'::text[]) AS p
                  WHERE has_schema_privilege(n.oid, 'USAGE')
                    AND CASE p WHEN 'DELETE' THEN has_table_privilege(c.oid, p)
                               ELSE has_table_privilege(c.oid, p) OR has_any_column_privilege(c.oid, p) END)"""
"""What the role may do with a table ``c`` in a schema ``n``, as an array."""


# The questions below are asked for many tables at once; the first column of an answer is the table's oid.

TABLES: Final = SQL(f"""
    SELECT c.oid,
           n.nspname,
           c.relname,
           c.relkind,
           pg_has_role(c.relowner, 'USAGE'),
           {PRIVILEGES},
           c.relkind = 'r' AND EXISTS (SELECT FROM pg_inherits WHERE inhparent = c.oid),
           root_in.nspname,
           root.relname,
           ARRAY(WITH RECURSIVE above AS (
                     SELECT inhparent AS oid, 1 AS steps FROM pg_inherits WHERE inhrelid = c.oid
                     UNION
                     SELECT i.inhparent, above.steps + 1
                       FROM above JOIN pg_inherits AS i ON i.inhrelid = above.oid
                 )
                 SELECT ARRAY[a_in.nspname, a.relname]::text[]
                   FROM above
                   JOIN pg_class AS a ON a.oid = above.oid
                   JOIN pg_namespace AS a_in ON a_in.oid = a.relnamespace
                  ORDER BY above.steps)
      FROM unnest(%(schemas)s::text[], %(names)s::text[]) AS wanted (schema, name)
      JOIN pg_namespace AS n ON n.nspname = wanted.schema
      JOIN pg_class AS c ON c.relnamespace = n.oid AND c.relname = wanted.name
      LEFT JOIN pg_class AS root ON c.relispartition AND root.oid = pg_partition_root(c.oid)
      LEFT JOIN pg_namespace AS root_in ON root_in.oid = root.relnamespace
""")


COLUMNS: Final = SQL("""
    WITH RECURSIVE below AS (      -- from a domain down to the type it is made of
        SELECT a.attrelid, a.attnum, a.atttypid AS oid
          FROM pg_attribute AS a
         WHERE a.attrelid = ANY (%(oids)s::oid[]) AND a.attnum > 0 AND NOT a.attisdropped
        UNION ALL
        SELECT below.attrelid, below.attnum, t.typbasetype
          FROM below JOIN pg_type AS t ON t.oid = below.oid
         WHERE t.typtype = 'd'
    )
    SELECT a.attrelid,
           a.attname,
           a.attnotnull,
           a.atthasdef,
           a.attgenerated <> '',
           a.attidentity,
           has_column_privilege(a.attrelid, a.attnum, 'SELECT'),
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
      JOIN below ON below.attrelid = a.attrelid AND below.attnum = a.attnum
      JOIN pg_type AS t ON t.oid = below.oid AND t.typtype <> 'd'
      LEFT JOIN pg_type AS e ON e.oid = t.typelem AND t.typcategory = 'A'
      LEFT JOIN pg_depend AS d
             ON d.classid = 'pg_type'::regclass AND d.objid = t.oid AND d.deptype = 'e'
      LEFT JOIN pg_extension AS x ON x.oid = d.refobjid
     ORDER BY a.attrelid, a.attnum
""")


# One that lets rows overlap nowhere (WITHOUT OVERLAPS, PostgreSQL 18) is unique, and decides no conflict. Where
# an old row may be NULL, or two keys that differ are the same to their column, it is no key.
KEYS: Final = SQL("""
    SELECT i.indrelid,
           ARRAY(SELECT a.attname
                   FROM unnest(i.indkey[0:i.indnkeyatts - 1]) WITH ORDINALITY AS k (attnum, place)
                   JOIN pg_attribute AS a ON a.attrelid = i.indrelid AND a.attnum = k.attnum
                  ORDER BY k.place)::text[],
           i.indisprimary,
           NOT i.indimmediate OR i.indisexclusion
      FROM pg_index AS i
     WHERE i.indrelid = ANY (%(oids)s::oid[])
       AND i.indisunique AND i.indisvalid AND i.indpred IS NULL AND i.indexprs IS NULL
       AND NOT EXISTS (SELECT FROM pg_attribute AS a
                        WHERE a.attrelid = i.indrelid
                          AND a.attnum = ANY (i.indkey[0:i.indnkeyatts - 1]) AND NOT a.attnotnull)
       AND NOT EXISTS (SELECT FROM pg_constraint AS r
                        WHERE r.conrelid = i.indrelid AND r.contype = 'n' AND NOT r.convalidated
                          AND r.conkey && i.indkey[0:i.indnkeyatts - 1]::int2[])
       AND NOT EXISTS (SELECT FROM unnest(i.indkey::int2[], i.indcollation::oid[]) AS k (attnum, finer)
                         JOIN pg_attribute AS a ON a.attrelid = i.indrelid AND a.attnum = k.attnum
                         JOIN pg_collation AS c ON c.oid = a.attcollation AND NOT c.collisdeterministic
                        WHERE k.finer <> a.attcollation)
     ORDER BY i.indisprimary DESC, i.indimmediate AND NOT i.indisexclusion DESC, i.indnkeyatts, i.indexrelid
""")


# A table, and its partitions of any level.
_TREE: Final = """
    WITH tree AS (
        SELECT t.oid AS root, p.relid::oid AS oid
          FROM unnest(%(oids)s::oid[]) AS t (oid), pg_partition_tree(t.oid::regclass) AS p
        UNION SELECT t.oid, t.oid FROM unnest(%(oids)s::oid[]) AS t (oid)
    )"""

_ENDS: Final = """
           ARRAY(SELECT a.attname FROM unnest(r.conkey) WITH ORDINALITY AS k (attnum, place)
                   JOIN pg_attribute AS a ON a.attrelid = r.conrelid AND a.attnum = k.attnum
                  ORDER BY k.place)::text[],
           ARRAY(SELECT a.attname FROM unnest(r.confkey) WITH ORDINALITY AS k (attnum, place)
                   JOIN pg_attribute AS a ON a.attrelid = r.confrelid AND a.attnum = k.attnum
                  ORDER BY k.place)::text[],
           coalesce(to_jsonb(r) ->> 'conperiod', 'false') = 'true'   -- there since PostgreSQL 18"""


# Those of its partitions too, each with the one that it is there for; PostgreSQL 12 has no tgparentid.
TRIGGERS: Final = SQL(f"""{_TREE}
    SELECT tree.root, t.oid, coalesce(to_jsonb(t) ->> 'tgparentid', '0')::oid, t.tgname, n.nspname, c.relname,
           t.tgenabled,
           t.tgtype & 20 <> 0,        -- 4 INSERT, 16 UPDATE (pg_trigger.h)
           t.tgtype & 8 <> 0          -- 8 DELETE
      FROM tree
      JOIN pg_trigger AS t ON t.tgrelid = tree.oid
      JOIN pg_class AS c ON c.oid = t.tgrelid
      JOIN pg_namespace AS n ON n.oid = c.relnamespace
     -- up to PostgreSQL 14, those of partitions are internal, as are the ones that constraints are made of
     WHERE t.tgtype & 28 <> 0
       AND (NOT t.tgisinternal
            OR (t.tgconstraint = 0 AND coalesce(to_jsonb(t) ->> 'tgparentid', '0') <> '0'))
     ORDER BY t.tgrelid <> tree.root, t.tgname, n.nspname, c.relname
""")


# Foreign keys that refer to it or to one of its partitions. Those that partitions have for their root are the
# root's; but what refers to the root refers to a partition that stands alone.
REFERENCES: Final = SQL(f"""{_TREE}
    SELECT tree.root, r.conname, n.nspname, c.relname, root_in.nspname, root.relname, c.relkind,{_ENDS}
      FROM tree
      JOIN pg_constraint AS r ON r.contype = 'f' AND r.confrelid = tree.oid
      JOIN pg_class AS c ON c.oid = r.conrelid
      JOIN pg_namespace AS n ON n.oid = c.relnamespace
      JOIN pg_class AS root ON root.oid = coalesce(pg_partition_root(r.conrelid), r.conrelid)
      JOIN pg_namespace AS root_in ON root_in.oid = root.relnamespace
     WHERE NOT EXISTS (SELECT FROM pg_constraint AS whole
                         JOIN tree AS other ON other.oid = whole.confrelid AND other.root = tree.root
                        WHERE whole.oid = r.conparentid)
     ORDER BY r.conname, n.nspname, c.relname
""")


# Foreign keys that it or one of its partitions has; those that partitions have for their root are the root's.
# What is referred to may be a partition: then the root that its rows are asked for under is told too. A key
# that is not enforced (PostgreSQL 18) refuses nothing, and may lack its parents.
FOREIGN_KEYS: Final = SQL(f"""{_TREE}
    SELECT tree.root, r.conname, mine_in.nspname, mine.relname, n.nspname, c.relname,
           root_in.nspname, root.relname, c.relkind,{_ENDS}
      FROM tree
      JOIN pg_constraint AS r ON r.contype = 'f' AND r.conrelid = tree.oid
      JOIN pg_class AS mine ON mine.oid = r.conrelid
      JOIN pg_namespace AS mine_in ON mine_in.oid = mine.relnamespace
      JOIN pg_class AS c ON c.oid = r.confrelid
      JOIN pg_namespace AS n ON n.oid = c.relnamespace
      JOIN pg_class AS root ON root.oid = coalesce(pg_partition_root(r.confrelid), r.confrelid)
      JOIN pg_namespace AS root_in ON root_in.oid = root.relnamespace
     WHERE coalesce(to_jsonb(r) ->> 'conenforced', 'true') = 'true'
       AND NOT EXISTS (SELECT FROM pg_constraint AS whole
                         JOIN tree AS other ON other.oid = whole.conrelid AND other.root = tree.root
                        WHERE whole.oid = r.conparentid)
     ORDER BY r.conname, r.conrelid
""")


# What a row's values may depend on besides the row itself: if any of it changes, row versions mean nothing.
STANDING: Final = SQL(f"""{_TREE}, labels AS MATERIALIZED (
        SELECT string_agg(concat_ws(' ', e.enumtypid, e.enumsortorder, e.enumlabel), ','
                          ORDER BY e.enumtypid, e.enumsortorder) AS text
          FROM pg_enum AS e
    )
    SELECT tree.root,
           greatest(sum(c.reltuples), 0)::bigint,
           bool_and(c.relkind = 'p' OR coalesce(m.amname = 'heap', false))
               AND has_table_privilege(tree.root, 'SELECT'),
           md5(concat_ws(';',
               string_agg(c.oid::text, ',' ORDER BY c.oid),
               (SELECT string_agg(concat_ws(' ', a.attnum, a.attname, a.atttypid, a.atttypmod, a.attgenerated),
                                  ',' ORDER BY a.attnum)
                  FROM pg_attribute AS a
                 WHERE a.attrelid = tree.root AND a.attnum > 0 AND NOT a.attisdropped),
               (SELECT text FROM labels)))
      FROM tree
      JOIN pg_class AS c ON c.oid = tree.oid AND (c.relkind <> 'p' OR c.oid = tree.root)
      LEFT JOIN pg_am AS m ON m.oid = c.relam
     GROUP BY tree.root
""")


SEQUENCES: Final = SQL("""
    SELECT d.refobjid, n.nspname, s.relname, a.attname
      FROM pg_depend AS d
      JOIN pg_class AS s ON s.oid = d.objid AND s.relkind = 'S'
      JOIN pg_namespace AS n ON n.oid = s.relnamespace
      JOIN pg_attribute AS a ON a.attrelid = d.refobjid AND a.attnum = d.refobjsubid
     WHERE d.classid = 'pg_class'::regclass AND d.refclassid = 'pg_class'::regclass
       AND d.refobjid = ANY (%(oids)s::oid[]) AND d.deptype IN ('a', 'i')
       AND a.atttypid IN ('int2'::regtype, 'int4'::regtype, 'int8'::regtype)
     ORDER BY d.refobjid, a.attnum
""")
