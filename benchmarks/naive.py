"""The script that everybody writes first: read all rows, insert them in batches, skip those that are there.

It is here to be compared with, so it is written the usual way and no worse. What it gets wrong is part of the
comparison: jsonb becomes Python and back, which rounds long numbers and turns the JSON value null into none.
"""

from __future__ import annotations

import json
import os

from sqlalchemy import Row, create_engine, text

BATCH_SIZE = 1000

SELECT = text("SELECT message_id, role, parts, created_at, thread_id, annotations FROM askwealth.message")

INSERT = text("""
    INSERT INTO askwealth.message (message_id, role, parts, created_at, thread_id, annotations)
    VALUES (:message_id, :role, :parts, :created_at, :thread_id, :annotations)
    ON CONFLICT (message_id) DO NOTHING
""")


def load_messages(server_url: str, local_url: str) -> int:
    """Copy the table.

    Args:
        server_url: where the rows are.
        local_url: where they go.

    Returns:
        How many rows were read.
    """
    with create_engine(with_driver(server_url)).connect() as server:
        rows = server.execute(SELECT).fetchall()
    with create_engine(with_driver(local_url)).connect() as local:
        for start in range(0, len(rows), BATCH_SIZE):
            batch = rows[start : start + BATCH_SIZE]
            local.execute(INSERT, [as_parameters(row) for row in batch])
            local.commit()
    return len(rows)


def with_driver(url: str) -> str:
    """Return a URL that makes SQLAlchemy use psycopg."""
    return url.replace("postgresql://", "postgresql+psycopg://", 1)


def as_parameters(row: Row[tuple[object, ...]]) -> dict[str, object]:
    """Return a row as the parameters of :data:`INSERT`."""
    values = dict(row._mapping)
    values["parts"] = json.dumps(values["parts"])
    values["annotations"] = None if values["annotations"] is None else json.dumps(values["annotations"])
    return values


if __name__ == "__main__":
    print(load_messages(os.environ["SERVER_DB_URL"], os.environ["LOCAL_DB_URL"]))
