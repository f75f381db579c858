"""Questions of a check: how a connection stands, and what a role may do."""

from __future__ import annotations

from typing import Final

from psycopg.sql import SQL, Composed

from pgpull.shapes import TableName
from pgpull.sql.parts import name_of

# A setting that this version does not know is NULL.
STANDING: Final = SQL("""
    SELECT pg_backend_pid(),
           (SELECT s.version FROM pg_stat_ssl AS s WHERE s.pid = pg_backend_pid()),
           (SELECT r.rolsuper FROM pg_roles AS r WHERE r.rolname = current_user),
           has_database_privilege(current_database(), 'TEMP'),
           has_database_privilege(current_database(), 'CREATE'),
           current_setting('hot_standby_feedback'),
           current_setting('max_standby_streaming_delay'),
           current_setting('statement_timeout'),
           coalesce(current_setting('transaction_timeout', true), '0'),
           extract(epoch FROM clock_timestamp())::double precision
""")


# Tables that people made, less partitions, and what the role may do with each.
TABLES: Final = SQL("""
    SELECT n.nspname, c.relname,
           ARRAY(SELECT p FROM unnest('{SELECT,INSERT,UPDATE,DELETE}'::text[]) AS p
                  WHERE has_schema_privilege(n.oid, 'USAGE')
                    AND CASE p WHEN 'DELETE' THEN has_table_privilege(c.oid, p)
                               ELSE has_table_privilege(c.oid, p) OR has_any_column_privilege(c.oid, p) END)
      FROM pg_class AS c
      JOIN pg_namespace AS n ON n.oid = c.relnamespace
     WHERE c.relkind IN ('r', 'p') AND NOT c.relispartition AND c.relpersistence <> 't'
       AND n.nspname NOT IN ('pg_catalog', 'information_schema', 'pgpull') AND n.nspname !~ '^pg_toast'
       AND NOT EXISTS (SELECT FROM pg_depend AS d
                        WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'e')
     ORDER BY n.nspname, c.relname
""")


# Whether policies come between the role and the rows, whatever row_security says.
HIDES_ROWS: Final = SQL("SELECT row_security_active(%(table)s::regclass)")


RELATIONS: Final = SQL("""
    SELECT n.nspname, c.relname
      FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace
     WHERE c.relkind IN ('r', 'p')
""")


def holds_rows(table: TableName) -> Composed:
    """Ask whether a table holds a row."""
    return SQL("SELECT EXISTS (SELECT FROM {})").format(name_of(table))
