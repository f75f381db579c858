"""A million messages, the same on every machine, made by the server itself.

The text is random letters in word-like groups, which do not compress, or else prose: passages of the manual
that every Python carries, which compress to a half. Its length has a median of 700 bytes and a tail to 20 KB; a
million rows are about 1.2 GB of table, less of prose. One message in a thousand carries a number that is longer
than any float of Python.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from enum import StrEnum
from pydoc_data.topics import topics
from typing import LiteralString

import psycopg
from benchmarks.servers import Server

TABLE = "askwealth.message"

SCHEMA = """
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


class Text(StrEnum):
    """What people say in their messages."""

    LETTERS = "letters"
    PROSE = "prose"


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
cross join lateral
"""

# 64 bytes of hash make 86 characters; digits and signs become the spaces between the words.
LETTERS: LiteralString = """(
    select left(string_agg(translate(hashed, E'0123456789+/=\\n', repeat(' ', 14)), ''), length) as words
    from generate_series(0, length / 87) as k
    cross join lateral encode(sha512(int8send(i * 1000::bigint + k)), 'base64') as hashed
) as texts
"""

PROSE: LiteralString = """(
    select convert_from(substring(
        pages from 1 + mod(hashint8extended(i, 3) & 1048575, length(pages) - 20000)::integer for length
    ), 'UTF8') as words
    from (select %(pages)s::bytea) as book (pages)
) as texts
"""

PAGES = "\n".join(topics[name] for name in sorted(topics)).encode("ascii", "ignore")
"""Of which the passages are; bytes, as those are found by their place at once."""

FILLED: dict[Text, LiteralString] = {Text.LETTERS: ROWS + LETTERS, Text.PROSE: ROWS + PROSE}

# More of them: the texts of the first under other keys, times and threads, which takes less time to make.
COPIES: LiteralString = """
insert into askwealth.message
select md5('message ' || i)::uuid, role, parts,
       timestamptz '2024-02-01 00:00:00+00' + i * interval '5.2512345 seconds',
       md5('thread ' || i / 10)::uuid, annotations
from (select *, %(first)s - 1 + row_number() over () as i
        from (select * from askwealth.message offset %(offset)s limit %(count)s) as chosen) as numbered
"""

DISTINCT = 1_000_000
"""So many messages have texts of their own in the largest tables."""

# Three rows in ten, wherever they are in the table.
GAPS = "uuid_hash_extended(message_id, 1) & 1023 < 307"

# One row in a hundred, wherever it is in the table.
CHOSEN = "mod(uuid_hash_extended(message_id, 0), 100) = 0"

CHANGE = f"""
update askwealth.message set annotations = coalesce(annotations, '{{}}') || '{{"edited": true}}' where {CHOSEN}
"""

CHANGE_BACK = f"""
update askwealth.message set annotations = nullif(annotations - 'edited', '{{}}') where {CHOSEN}
"""

# Hashing is what takes the time, so more than one processor helps.
WORKERS = 2
ROWS_AT_ONCE = 20_000
ROWS_COPIED = 500_000


@dataclass(frozen=True)
class Written:
    """How many rows were written, and how."""

    inserted: int = 0
    updated: int = 0


Extent = tuple[int, int]


def make_table(server: Server) -> None:
    """Make the table, empty, with its three indexes; drop what was there."""
    server.tell(SCHEMA)


def make_rows(server: Server, rows: int, text: Text = Text.LETTERS) -> None:
    """Fill the table.

    Args:
        server: the database, with the table and no rows in it.
        rows: how many.
        text: what the messages say.
    """
    _make(server, 0, rows, text)
    vacuum(server)


def make_up_to(server: Server, rows: int) -> None:
    """Have the table hold so many rows, whatever it held; those beyond the first million repeat their texts.

    Args:
        server: the database.
        rows: how many.
    """
    there = _there(server)
    if there > rows or there < min(rows, DISTINCT):
        make_table(server)
        make_rows(server, min(rows, DISTINCT))
        there = min(rows, DISTINCT)
    for first in range(there, rows, ROWS_COPIED):
        with psycopg.connect(server.url) as connection:
            some = {"first": first, "offset": first % DISTINCT, "count": min(ROWS_COPIED, rows - first)}
            connection.execute(COPIES, some)
    vacuum(server)


def _there(server: Server) -> int:
    if not server.ask(f"select to_regclass('{TABLE}') is not null"):
        return 0
    return int(server.ask(f"select count(*) from {TABLE}"))


def make_gaps(server: Server) -> int:
    """Delete three rows in ten, and return how many these were."""
    return server.tell(f"delete from {TABLE} where {GAPS}")


def change_some(server: Server, rows: int, text: Text = Text.LETTERS) -> Written:
    """Change one row in a hundred, and add as many new ones; return how many.

    Args:
        server: the database, with the table as it was made.
        rows: how many were made.
        text: what the new messages say.
    """
    updated = server.tell(CHANGE)
    _make(server, rows, rows + _share(rows), text)
    vacuum(server)
    return Written(inserted=_share(rows), updated=updated)


def change_back(server: Server, rows: int) -> None:
    """Make every row what it was before :func:`change_some`, and delete those that were new."""
    new = f"generate_series({rows}, {rows + _share(rows) - 1})"
    server.tell(f"delete from {TABLE} using {new} as i where message_id = md5('message ' || i)::uuid")
    server.tell(CHANGE_BACK)
    vacuum(server)


def vacuum(server: Server) -> None:
    """Do what autovacuum does in time: the first reader of new rows marks them, page by page."""
    server.tell(f"vacuum (analyze) {TABLE}")


def extent(server: Server) -> Extent:
    """Return how many rows there are, and a hash of them all that ignores their order."""
    question = f"select count(*), coalesce(sum(hashtextextended(t::text, 0)), 0) from {TABLE} t"
    rows, total = server.ask_row(question)
    return int(rows), int(total)


def is_as_made(server: Server, rows: int, text: Text) -> bool:
    """Say whether the table has so many rows, and none of them is left changed by a run that was cut off."""
    if not server.ask(f"select to_regclass('{TABLE}') is not null"):
        return False
    question = f"select count(*), count(*) filter (where annotations ? 'edited') from {TABLE}"
    line_breaks = (
        rf"select bool_or(strpos(parts::text, '\n') > 0) from (select parts from {TABLE} limit 100) as first"
    )
    return server.ask_row(question) == (rows, 0) and server.ask(line_breaks) == (text is Text.PROSE)


def size(server: Server) -> int:
    """Return the bytes of the table, without its indexes."""
    return int(server.ask(f"select pg_table_size('{TABLE}')"))


def _share(rows: int) -> int:
    return max(1, rows // 100)


def _make(server: Server, first: int, end: int, text: Text) -> None:
    def make_some(start: int) -> None:
        with psycopg.connect(server.url) as connection:
            last = min(start + ROWS_AT_ONCE, end) - 1
            connection.execute(FILLED[text], {"first": start, "last": last, "pages": PAGES})

    with ThreadPoolExecutor(WORKERS) as workers:
        list(workers.map(make_some, range(first, end, ROWS_AT_ONCE)))
