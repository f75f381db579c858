"""Copy the table with dlt, as its documentation does: ``python dlt_copy.py replace`` or ``... merge``.

Run by the Python of an environment with ``dlt[postgres,sql-database]`` and ``pyarrow``, its quickest backend.
"""

import os
import sys

import dlt
from dlt.destinations import postgres
from dlt.sources.sql_database import sql_table

SOURCE = os.environ["SERVER_DB_URL"].replace("postgresql://", "postgresql+psycopg2://")
# dlt wants a host and a password in the URL; libpq takes the host that is named last: the socket's folder
TARGET = os.environ["LOCAL_DB_URL"].replace("postgres@/", "postgres:none@localhost:5432/")


def main(disposition: str) -> None:
    """Load the table."""
    table = sql_table(
        credentials=SOURCE,
        schema="askwealth",
        table="message",
        backend="pyarrow",
        reflection_level="full_with_precision",
        chunk_size=50_000,
    )
    table.apply_hints(write_disposition=disposition, primary_key="message_id")
    pipeline = dlt.pipeline(
        "benchmark",
        destination=postgres(credentials=TARGET),
        dataset_name="peer_dlt",
        pipelines_dir=os.environ["BENCHMARK_STATE"],
    )
    pipeline.run(table)


if __name__ == "__main__":
    main(sys.argv[1])
