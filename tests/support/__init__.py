"""What tests stand on: servers that may be broken, a network that may be cut, and pairs of databases."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from tests.support.proxy import Proxy, through
from tests.support.servers import Server, Statement, Unavailable, Via, available_versions, free_port

__all__ = [
    "STANDARD_SCHEMA",
    "Pair",
    "Proxy",
    "Server",
    "Side",
    "Unavailable",
    "available_versions",
    "free_port",
    "through",
]

Side = Literal["source", "target"]
Rows = list[tuple[Any, ...]]

# A message names its thread, and no foreign key says so.
STANDARD_SCHEMA = """
create schema askwealth;
create table askwealth.thread (
    thread_id uuid primary key,
    title text not null,
    created_at timestamptz not null default now()
);
create table askwealth.message (
    message_id uuid primary key,
    role text not null,
    parts jsonb not null,
    created_at timestamptz not null,
    thread_id uuid,
    annotations jsonb
);
create index on askwealth.message (created_at);
create index on askwealth.message (thread_id);
"""

# Row n of a seed is always the same row, wherever and whenever it is made.
MESSAGES = """
insert into askwealth.message (message_id, role, parts, created_at, thread_id, annotations)
select md5(format('%s message %s', '{seed}', n))::uuid,
       case n % 2 when 0 then 'user' else 'assistant' end,
       jsonb_build_array(jsonb_build_object('type', 'text', 'text', repeat(md5(n::text) || ' ', 1 + n % 5))),
       timestamptz '{start}' + n * interval '{step}',
       md5(format('%s thread %s', '{seed}', n / 10))::uuid,
       case when n % 3 = 0 then jsonb_build_object('n', n) end
from generate_series({first}, {first} + {count} - 1) n
"""


@dataclass(frozen=True)
class Pair:
    """Two fresh databases: one plays the production server, one is the developer's own."""

    source_server: Server
    target_server: Server
    source_db: str
    target_db: str

    @property
    def source_url(self) -> str:
        """The source, through its socket, as the superuser."""
        return self.url("source")

    @property
    def target_url(self) -> str:
        """The target, through its socket, as the superuser."""
        return self.url("target")

    def url(self, side: Side, user: str = "postgres", password: str | None = None, via: Via = "socket") -> str:
        """Name a side for a client."""
        return self.server(side).url(self.database(side), user, password, via)

    def source_through(self, proxy: Proxy) -> str:
        """Name the source for a client behind a proxy."""
        return through(self.url("source", via="tcp"), proxy)

    def target_through(self, proxy: Proxy) -> str:
        """Name the target for a client behind a proxy."""
        return through(self.url("target", via="tcp"), proxy)

    def server(self, side: Side) -> Server:
        """Return the server of a side."""
        return self.source_server if side == "source" else self.target_server

    def database(self, side: Side) -> str:
        """Return the name of a side's database."""
        return self.source_db if side == "source" else self.target_db

    def run(self, side: Side, *statements: Statement) -> Rows:
        """Execute statements on a side and return the rows of the last, if it has any."""
        return self.server(side).query(self.database(side), *statements)

    def source(self, *statements: Statement) -> Rows:
        """Execute statements on the source and return the rows of the last, if it has any."""
        return self.run("source", *statements)

    def target(self, *statements: Statement) -> Rows:
        """Execute statements on the target and return the rows of the last, if it has any."""
        return self.run("target", *statements)

    def rows(self, side: Side, table: str, order: str = "1") -> Rows:
        """Return the rows of a table as Python values, which not every value has: see :meth:`images`."""
        return self.run(side, f"select * from {table} order by {order}")

    def images(self, side: Side, table: str, columns: str = "*") -> list[str]:
        """Return the rows of a table as PostgreSQL writes them, sorted: exact for every type."""
        return sorted(
            image for (image,) in self.run(side, f"select t::text from (select {columns} from {table}) t")
        )

    def same(self, table: str, columns: str = "*") -> bool:
        """Say whether both sides hold the same rows."""
        return self.images("source", table, columns) == self.images("target", table, columns)

    def add_messages(
        self,
        side: Side,
        count: int,
        start: str = "2025-01-01",
        step: str = "1 hour",
        seed: str = "",
        first: int = 0,
    ) -> None:
        """Add messages number ``first`` and on: ten to a thread, each a step younger than the one before."""
        self.run(side, MESSAGES.format(count=count, start=start, step=step, seed=seed, first=first))
