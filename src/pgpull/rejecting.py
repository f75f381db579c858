"""A refused row made legible.

The main path never looks into a row. Only here, and only for a row that stands alone and was refused, its
fields are taken apart; those in a binary form are spelled out by the target itself.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import psycopg
from psycopg.generators import execute
from psycopg.pq import ExecStatus

from pgpull.diagnosis import FOREIGN_KEY_VIOLATION, column_in_copy, condition, fact
from pgpull.plans import Plan, Wire
from pgpull.results import Reject
from pgpull.shapes import Column, ForeignKey, quoted
from pgpull.sql import staging as sql
from pgpull.streams import Batch, fields


def reject_of(plan: Plan, batch: Batch, error: psycopg.Error, connection: psycopg.Connection) -> Reject:
    """Make a reject of a batch of one row.

    Args:
        plan: what was being done.
        batch: the row, alone.
        error: what the target said of it.
        connection: the target's, idle; it spells out binary values.

    Raises:
        psycopg.Error: the connection went away.
    """
    cells = _cells(plan, batch, connection)
    values = {name: None if cell is None else _readable(cell) for name, cell in cells.items()}
    odd = {name: cell.hex() for name, cell in cells.items() if cell is not None and not _is_utf8(cell)}
    return reject_with(plan, values, error, odd)


def reject_with(
    plan: Plan, values: Mapping[str, str | None], error: psycopg.Error, odd: Mapping[str, str] | None = None
) -> Reject:
    """Make a reject of a row's values, spelled out, and what the target said of them.

    Args:
        plan: what was being done.
        values: of the columns that travel.
        error: what the target said.
        odd: the bytes of those that are no UTF-8, in hexadecimal digits.
    """
    diagnosis = error.diag
    return Reject(
        table=plan.table,
        key={name: values[name] for name in plan.keys},
        values=values,
        sqlstate=error.sqlstate or "",
        condition=condition(error.sqlstate or ""),
        fact=fact(error),
        message="; ".join(filter(None, (diagnosis.message_primary, diagnosis.message_detail))),
        constraint=diagnosis.constraint_name,
        odd=odd or {},
        column=diagnosis.column_name or (column if (column := column_in_copy(error)) in values else None),
    )


def orphan(plan: Plan, row: Sequence[str | None], key: ForeignKey) -> Reject:
    """Make a reject of a row whose parent is nowhere, in the words that the target would have used.

    Args:
        plan: what was being done.
        row: the values of the columns that travel, spelled out.
        key: by which it has no parent.
    """
    values = dict(zip(plan.columns, row, strict=True))
    names, missing = ", ".join(key.columns), ", ".join(values[name] or "" for name in key.columns)
    table, parent = quoted(plan.table.name), quoted(key.table.name)
    fact = f"insert or update on table {table} violates foreign key constraint {quoted(key.name)}"
    return Reject(
        table=plan.table,
        key={name: values[name] for name in plan.keys},
        values=values,
        sqlstate=FOREIGN_KEY_VIOLATION,
        condition=condition(FOREIGN_KEY_VIOLATION),
        fact=fact,
        message=f"{fact}; Key ({names})=({missing}) is not present in table {parent}.",
        constraint=key.name,
    )


def _cells(plan: Plan, batch: Batch, connection: psycopg.Connection) -> dict[str, bytes | None]:
    cells = fields(batch.rows[0], batch.wire)
    columns = {column.name: column for column in plan.target.columns}
    return {
        name: None if cell is None else _spelled(cell, columns[name], batch.wire, connection)
        for name, cell in zip(plan.columns, cells, strict=True)
    }


def _spelled(cell: bytes, column: Column, wire: Wire, connection: psycopg.Connection) -> bytes:
    if wire is not Wire.BINARY or _is_text(column):
        return cell
    with connection.transaction() as trial:  # what cannot be read must not end a transaction around it
        connection.pgconn.send_query_params(sql.SPELL, [cell], [column.type.oid], [1])
        [result] = connection.wait(execute(connection.pgconn))
        if result.status == ExecStatus.TUPLES_OK:
            return result.get_value(0, 0) or b""
        raise psycopg.Rollback(trial)
    return f"\\x{cell.hex()}".encode()


def _readable(cell: bytes) -> str:
    return cell.decode("utf-8", "backslashreplace")


def _is_utf8(cell: bytes) -> bool:
    try:
        cell.decode()
    except UnicodeDecodeError:
        return False
    return True


def _is_text(column: Column) -> bool:
    """A string's or an enum's binary form is its text, which the target may be unable to read."""
    return column.type.category == "S" or column.type.kind == "e" or column.type.base in ("json", "citext")
