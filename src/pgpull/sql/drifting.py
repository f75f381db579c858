"""Questions about what two databases may hold against each other's rows."""

from __future__ import annotations

from typing import Final

from psycopg.sql import SQL

# Definitions qualify every name, so that both sides spell them alike.
QUALIFIED: Final = SQL("SET LOCAL search_path TO ''")


_TABLES: Final = SQL("""
    WITH RECURSIVE tables AS (
        SELECT c.oid, n.nspname AS schema, c.relname AS name
          FROM unnest(%(schemas)s::text[], %(names)s::text[]) AS w (schema, name)
          JOIN pg_namespace AS n ON n.nspname = w.schema
          JOIN pg_class AS c ON c.relnamespace = n.oid AND c.relname = w.name
    )
""")


CHECKS: Final = _TABLES + SQL("""
    SELECT tables.schema, tables.name, r.conname, pg_get_constraintdef(r.oid)
      FROM tables JOIN pg_constraint AS r ON r.conrelid = tables.oid AND r.contype IN ('c', 'x')
     ORDER BY r.conname
""")


UNIQUES: Final = _TABLES + SQL("""
    SELECT tables.schema, tables.name, x.relname, r.oid IS NOT NULL,
           ARRAY(SELECT pg_get_indexdef(i.indexrelid, k, false)
                   FROM generate_series(1, i.indnkeyatts) AS k)::text[],
           coalesce(pg_get_expr(i.indpred, i.indrelid), '')
      FROM tables
      JOIN pg_index AS i ON i.indrelid = tables.oid AND i.indisunique AND i.indisvalid
      JOIN pg_class AS x ON x.oid = i.indexrelid
      LEFT JOIN pg_constraint AS r ON r.conindid = i.indexrelid AND r.conrelid = i.indrelid
                                    AND r.contype IN ('p', 'u', 'x')
     ORDER BY x.relname
""")


FOREIGN_KEYS: Final = _TABLES + SQL("""
    SELECT tables.schema, tables.name, r.conname, n.nspname, c.relname,
           ARRAY(SELECT a.attname FROM unnest(r.conkey) WITH ORDINALITY AS k (attnum, place)
                   JOIN pg_attribute AS a ON a.attrelid = r.conrelid AND a.attnum = k.attnum
                  ORDER BY k.place)::text[],
           ARRAY(SELECT a.attname FROM unnest(r.confkey) WITH ORDINALITY AS k (attnum, place)
                   JOIN pg_attribute AS a ON a.attrelid = r.confrelid AND a.attnum = k.attnum
                  ORDER BY k.place)::text[],
           r.convalidated,
           coalesce(to_jsonb(r) ->> 'conperiod', 'false') = 'true'       -- there since PostgreSQL 18
      FROM tables
      JOIN pg_constraint AS r ON r.conrelid = tables.oid AND r.contype = 'f'
           AND coalesce(to_jsonb(r) ->> 'conenforced', 'true') = 'true'  -- likewise
      JOIN pg_class AS c ON c.oid = r.confrelid
      JOIN pg_namespace AS n ON n.oid = c.relnamespace
     ORDER BY r.conname
""")


# Of columns that hold labels, in arrays or domains too: from the column's type down to the enum.
ENUMS: Final = _TABLES + SQL("""
    , below AS (
        SELECT tables.schema, tables.name, a.attname, a.attnum, a.atttypid AS oid
          FROM tables
          JOIN pg_attribute AS a ON a.attrelid = tables.oid AND a.attnum > 0 AND NOT a.attisdropped
        UNION ALL
        SELECT below.schema, below.name, below.attname, below.attnum,
               CASE t.typtype WHEN 'd' THEN t.typbasetype ELSE t.typelem END
          FROM below JOIN pg_type AS t ON t.oid = below.oid
         WHERE t.typtype = 'd' OR t.typelem <> 0 AND t.typcategory = 'A'
    )
    SELECT below.schema, below.name, below.attname, n.nspname, t.typname,
           ARRAY(SELECT e.enumlabel FROM pg_enum AS e WHERE e.enumtypid = t.oid
                  ORDER BY e.enumsortorder)::text[]
      FROM below
      JOIN pg_type AS t ON t.oid = below.oid AND t.typtype = 'e'
      JOIN pg_namespace AS n ON n.oid = t.typnamespace
     ORDER BY below.attnum
""")


ENUM_TYPES: Final = SQL("""
    SELECT n.nspname, t.typname
      FROM pg_type AS t JOIN pg_namespace AS n ON n.oid = t.typnamespace
     WHERE t.typtype = 'e'
""")
