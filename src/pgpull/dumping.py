"""What pg_dump says of a database's tables and types: a statement, or some, for each thing."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby

from pgpull.errors import PlanError
from pgpull.programs import Dumper, run_beside
from pgpull.sessions import Session
from pgpull.shapes import TableName

_ALWAYS = (
    "--schema-only",
    "--no-owner",
    "--no-privileges",
    "--no-comments",
    "--no-publications",
    "--no-subscriptions",
    "--no-security-labels",
    "--no-tablespaces",
    "--encoding=UTF8",
    # ACCESS SHARE waits behind a migration only, and whoever comes later waits behind us
    "--lock-wait-timeout=10s",
    # puts a line with catalog numbers over each thing
    "--verbose",
)

_NAMES_A_PATTERN = 200
"""Each pattern is a query, and an argument may have 128 kB."""

_HEAD = re.compile(
    r"^--\n-- TOC entry \d+ \(class (\d+) OID (\d+)\)\n(?:-- Dependencies:[ \d]*\n)?"
    r"-- Name: (.*); Type: ([A-Z ]+); Schema: (.*); Owner: .*\n--\n\n",
    re.MULTILINE,
)

# Defaults of the session that follow a thing's head: the target's own are as good.
_SETTING = re.compile(r"\A(?:SET default_\w+ = [^;]*;\s+)+")

_TAIL = re.compile(r"\n\n--\n-- PostgreSQL database dump complete\n.*\Z", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Entry:
    """A thing that pg_dump would make, and its statements."""

    kind: str
    """Such as ``TABLE``, ``FK CONSTRAINT``."""
    address: tuple[int, int]
    """The catalog that holds it and its number there; noughts for what is no object of its own."""
    schema: str
    name: str
    """Of tables' parts, both names: ``message message_pkey``. Line breaks are spaces."""
    statements: str

    @property
    def one_line(self) -> str:
        """Its statements for a hint."""
        return self.statements.replace("\n    ", " ").replace("\n);", " );")

    def __str__(self) -> str:
        return f"{self.kind.lower()} {self.name}" + (f" in {self.schema}" if self.schema != "-" else "")


def dump_tables(dumper: Dumper, source: Session, relations: Iterable[TableName]) -> list[Entry]:
    """Ask pg_dump for tables, sequences and views, each with all that is a part of it.

    Raises:
        PlanError: pg_dump fails: a table is locked, or may not be read.
    """
    patterns = [f"--table={pattern}" for pattern in _patterns(relations)]
    return _dump(dumper, source, [*patterns, "--strict-names"])


def dump_others(dumper: Dumper, source: Session, schemas: Iterable[str] | None) -> list[Entry]:
    """Ask pg_dump for everything but tables: types, functions and so on. No table is locked for it.

    Args:
        dumper: the program.
        source: the server.
        schemas: those it may leave all others for; None for what is in no schema, too.

    Raises:
        PlanError: pg_dump fails.
    """
    only = [f"--schema={_literal(schema)}" for schema in schemas or ()]
    return _dump(dumper, source, [*only, "--exclude-table=*.*"])


def _patterns(relations: Iterable[TableName]) -> Iterator[str]:
    """Name relations as pg_dump reads names: what stands in double quotes is meant literally."""
    for schema, tables in groupby(sorted(relations, key=_spelled), lambda table: table.schema):
        names = [_literal(table.name) for table in tables]
        for start in range(0, len(names), _NAMES_A_PATTERN):
            yield f"{_literal(schema)}.({'|'.join(names[start : start + _NAMES_A_PATTERN])})"


def _spelled(table: TableName) -> tuple[str, str]:
    return table.schema, table.name


def _literal(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _dump(dumper: Dumper, source: Session, chosen: Sequence[str]) -> list[Entry]:
    done = run_beside(source.connection, [str(dumper.path), *_ALWAYS, *chosen])
    if done.returncode != 0:
        raise _failed(done.stderr)
    return list(entries(done.stdout))


def _failed(said: str) -> PlanError:
    errors = re.findall(r"^pg_dump: (?:error|detail): (.*)$", said, re.MULTILINE) or [said.strip()[-300:]]
    fact = re.sub(r"^.*\bERROR:\s+", "", errors[0])
    hint = "run the same command again, or make the tables by hand: pg_dump --schema-only"
    if "permission denied" in fact:
        hint = (
            "pg_dump locks what it describes, against ALTER TABLE, and that takes SELECT: ask the owner for it"
        )
    elif "timeout" in fact:
        hint = "somebody alters the table: run the same command again when they are done"
    return PlanError(f"pg_dump cannot describe the server's tables: {fact}", hint)


def entries(script: str) -> Iterator[Entry]:
    """Take a verbose script of pg_dump apart."""
    heads = list(_HEAD.finditer(script))
    ends = [head.start() for head in heads[1:]] + [len(script)]
    for head, end in zip(heads, ends, strict=True):
        body = _TAIL.sub("", script[head.end() : end])
        number, oid, name, kind, schema = head.groups()
        statements = _SETTING.sub("", body).strip()
        yield Entry(kind, (int(number), int(oid)), schema, name, statements)
