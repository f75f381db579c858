"""Questions of a check: how a connection stands, and what a role may do."""

from __future__ import annotations

from typing import Final

from psycopg.sql import SQL, Composed

from pgpull.shapes import TableName
from pgpull.sql.catalog import MADE_BY_PEOPLE, PRIVILEGES
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
TABLES: Final = SQL(f"""
    SELECT n.nspname, c.relname, {PRIVILEGES}
      FROM pg_class AS c
      JOIN pg_namespace AS n ON n.oid = c.relnamespace
     WHERE c.relkind IN ('r', 'p') AND NOT c.relispartition AND c.relpersistence <> 't'
       AND {MADE_BY_PEOPLE}
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
