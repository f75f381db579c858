"""Statements about row versions: what is remembered in the local database of both sides' transactions."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from psycopg.sql import SQL, Composed, Literal

from pgpull.shapes import Shape
from pgpull.sql.parts import rows_of, young

# One row for each table and source: a small thing, and an ordinary table, so that it survives a crash exactly
# as the rows that it speaks of do.
CREATE: Final = (
    SQL("CREATE SCHEMA IF NOT EXISTS pgpull"),
    SQL("""
        CREATE TABLE IF NOT EXISTS pgpull.known_equal (
            binding text NOT NULL,
            scope text NOT NULL,
            source_horizon bigint NOT NULL,
            target_horizon bigint NOT NULL,
            noted_at timestamptz NOT NULL DEFAULT now(),
            PRIMARY KEY (binding, scope)
        )
    """),
)

EXISTS: Final = SQL("SELECT to_regclass('pgpull.known_equal') IS NOT NULL")

KNOWN: Final = SQL("""
    SELECT scope, source_horizon, target_horizon FROM pgpull.known_equal
     WHERE binding = %(binding)s
     ORDER BY source_horizon DESC
""")

FORGET: Final = SQL("DELETE FROM pgpull.known_equal WHERE binding = %(binding)s AND scope = ANY (%(scopes)s)")

REMEMBER: Final = SQL("""
    INSERT INTO pgpull.known_equal (binding, scope, source_horizon, target_horizon)
    VALUES (%(binding)s, %(scope)s, %(source_horizon)s, %(target_horizon)s)
""")

# The oldest transaction that is still running, and the number that the next one gets, as 64-bit numbers
# (manual: 9.27.9, Transaction ID and Snapshot Information Functions; the functions of all versions).
HORIZONS: Final = SQL("""
    SELECT txid_snapshot_xmin(txid_current_snapshot()), txid_snapshot_xmax(txid_current_snapshot())
""")


def written_by_others(shape: Shape, horizon: int, own: Iterable[int]) -> Composed:
    """Ask how far the transactions have come, and whether others than our own wrote rows of a table since."""
    ours = Literal("{" + ",".join(str(number % 2**32) for number in own) + "}")
    return SQL(
        "SELECT txid_snapshot_xmin(txid_current_snapshot()),"
        " EXISTS (SELECT FROM {} WHERE {} AND NOT xmin = ANY ({}::xid[]))"
    ).format(rows_of(shape), young(horizon), ours)
