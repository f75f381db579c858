"""A million messages, the same on every machine, made by the server itself.

The text is random letters in word-like groups, so it does not compress. Its length has a median of 700 bytes
and a tail to 20 KB; a million rows are about 1.2 GB of table. One message in a thousand carries a number that
is longer than any float of Python.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import LiteralString

import psycopg

TABLE = "askwealth.message"

SCHEMA = b"""
drop schema if exists askwealth cascade;
create schema askwealth;
create table askwealth.message (
    message_id  uuid primary key,
    role        text not null,
    parts       jsonb not null,
    created_at  timestamptz not null,
    thread_id   uuid not null,
    annotations jsonb
);
create index message_created_at on askwealth.message (created_at);
create index message_thread_id on askwealth.message (thread_id);
"""

# 64 bytes of hash make 86 characters; digits and signs become the spaces between the words.
# The length is 660 * exp(0.9 z), and the JSON around it 40 more; z is normally distributed, made of two
# uniform numbers in Box and Muller's way.
ROWS: LiteralString = """
insert into askwealth.message
select md5('message ' || i)::uuid,
       (array['user', 'assistant', 'user', 'assistant', 'tool'])[1 + mod(i, 5)],
       jsonb_build_array(jsonb_build_object('type', 'text', 'text', words)),
       timestamptz '2024-02-01 00:00:00+00' + i * interval '52.512345 seconds',
       md5('thread ' || i / 10)::uuid,
       case
           when mod(i, 1000) = 0 then '{"ledger": 1234567890123456789012345678901234567890.10}'
           when mod(i, 2) = 0 then jsonb_build_object('tokens', mod(i, 4000), 'id', md5('note ' || i))
       end
from generate_series(%(first)s::integer, %(last)s::integer) as i
cross join lateral (
    select ((hashint8extended(i, 1) & 1048575) + 1) / 1048577.0::float8 as u,
           (hashint8extended(i, 2) & 1048575) / 1048576.0::float8 as v
) as uniform
cross join lateral (
    select least(20000, greatest(20, 660 * exp(0.9 * sqrt(-2 * ln(u)) * cos(2 * pi() * v))))::integer as length
) as lengths
cross join lateral (
    select left(string_agg(translate(hashed, E'0123456789+/=\\n', repeat(' ', 14)), ''), length) as words
    from generate_series(0, length / 87) as k
    cross join lateral encode(sha512(int8send(i * 1000::bigint + k)), 'base64') as hashed
) as texts
"""

# Hashing is what takes the time, so more than one processor helps.
WORKERS = 2
ROWS_AT_ONCE = 20_000


def make_table(url: str) -> None:
    """Make the table, empty, with its three indexes; drop what was there.

    Args:
        url: the database.
    """
    with psycopg.connect(url) as connection:
        connection.execute(SCHEMA)


def make_rows(url: str, rows: int) -> None:
    """Fill the table.

    Args:
        url: the database, with the table and no rows in it.
        rows: how many.
    """
    starts = range(0, rows, ROWS_AT_ONCE)
    with ThreadPoolExecutor(WORKERS) as workers:
        list(workers.map(lambda first: _make_some(url, first, min(first + ROWS_AT_ONCE, rows) - 1), starts))
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("vacuum (analyze) askwealth.message")


def _make_some(url: str, first: int, last: int) -> None:
    with psycopg.connect(url) as connection:
        connection.execute(ROWS, {"first": first, "last": last})
