"""Code that reads and writes messages, tested on a real thread."""

import psycopg

from pgpull.seeding import Seed


def roles(connection: psycopg.Connection) -> list[str]:
    """Return who said what (in place of code of yours)."""
    rows = connection.execute("select role from askwealth.message order by created_at")
    return [role for (role,) in rows]


def test_a_thread_has_what_both_sides_said(pgpull_database: str) -> None:
    with psycopg.connect(pgpull_database) as connection:
        assert set(roles(connection)) == {"user", "assistant"}


def test_what_a_test_does_stays_with_it(pgpull_database: str) -> None:
    with psycopg.connect(pgpull_database) as connection:
        connection.execute("delete from askwealth.message where role = 'user'")
        assert set(roles(connection)) == {"assistant"}


def test_one_test_wants_more_rows(pgpull_database: str, pgpull_seed: Seed) -> None:
    brought = pgpull_seed("askwealth.message", since="2025-01-01", until="2025-01-02")
    with psycopg.connect(pgpull_database) as connection:
        assert len(roles(connection)) > brought.tally.inserted > 0
