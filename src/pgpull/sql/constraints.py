"""Questions about what may refuse a row for its values."""

from __future__ import annotations

from typing import Final

from psycopg.sql import SQL

# Every unique index and exclusion constraint, its columns or expressions, and the operators that tell two rows
# apart. indnullsnotdistinct is there since PostgreSQL 15.
UNIQUE_RULES: Final = SQL("""
    SELECT c.relname,
           ARRAY(SELECT pg_get_indexdef(i.indexrelid, k, true)
                   FROM generate_series(1, i.indnkeyatts) AS k ORDER BY k),
           coalesce(ARRAY(SELECT format('OPERATOR(%%I.%%s)', n.nspname, o.oprname)
                            FROM unnest(x.conexclop) WITH ORDINALITY AS e (oid, place)
                            JOIN pg_operator AS o ON o.oid = e.oid
                            JOIN pg_namespace AS n ON n.oid = o.oprnamespace
                           ORDER BY e.place), '{}'),
           pg_get_expr(i.indpred, i.indrelid),
           coalesce((to_jsonb(i) ->> 'indnullsnotdistinct')::boolean, false),
           i.indexprs IS NULL AND i.indpred IS NULL,
           NOT i.indimmediate,
           ARRAY(SELECT a.attname FROM pg_attribute AS a
                  WHERE a.attrelid = i.indrelid AND a.attnum = ANY (i.indkey[0:i.indnkeyatts - 1]))::text[]
      FROM pg_index AS i
      JOIN pg_class AS c ON c.oid = i.indexrelid
      LEFT JOIN pg_constraint AS x ON x.conindid = i.indexrelid AND x.contype = 'x'
     WHERE i.indrelid = to_regclass(%(table)s) AND (i.indisunique OR i.indisexclusion) AND i.indisvalid
     ORDER BY i.indexrelid
""")


# Whether anything but indexes and foreign keys may refuse a row for its values: checks, domains, what is
# computed from other columns, and partitions.
OTHER_RULES: Final = SQL("""
    SELECT EXISTS (SELECT FROM pg_constraint WHERE conrelid = c.oid AND contype = 'c')
           OR c.relkind = 'p'
           OR EXISTS (SELECT FROM pg_attribute AS a JOIN pg_type AS t ON t.oid = a.atttypid
                       WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
                         AND (t.typtype = 'd' OR a.attgenerated <> ''))
      FROM pg_class AS c
     WHERE c.oid = to_regclass(%(table)s)
""")


PARTITIONS: Final = SQL("""
    SELECT pg_get_partition_constraintdef(p.relid)
      FROM pg_partition_tree(to_regclass(%(table)s)) AS p
     WHERE p.isleaf
""")
