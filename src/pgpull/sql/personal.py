"""Questions about what looks personal: answered by counts and by names, never by values."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from psycopg.sql import SQL, Composable, Composed, Identifier, Literal

from pgpull.masking import EVERY, PERSONAL
from pgpull.model import Scope
from pgpull.shapes import Shape
from pgpull.sql.parts import condition, rows_of
from pgpull.sql.scrubbing import is_address, is_number

# A key with a colon behind it, as one would name a variable: what else stands there may be somebody's address.
_KEYS: Final = SQL(
    "LATERAL (SELECT DISTINCT m[1] AS k FROM regexp_matches({}::text, {}, 'g') AS m) AS keys WHERE keys.k ~* {}"
)
_NAME: Final = "[A-Za-z_][A-Za-z0-9_ -]{0,62}"
_KEY: Final = Literal(rf'"({_NAME})"\s*:')

# Document by document, so that no more than one is taken apart at a time.
_PATHS: Final = SQL("""({some}) AS s, LATERAL (
    WITH RECURSIVE walk (path, name, v) AS (
        SELECT '{{}}'::text[], '', s.{column}
         UNION ALL
        SELECT walk.path || below.name, below.name, below.v
          FROM walk, LATERAL (
               SELECT k, v
                 FROM jsonb_each(
                          CASE jsonb_typeof(walk.v) WHEN 'object' THEN walk.v ELSE '{{}}' END
                      ) AS o (k, v)
                UNION ALL
               SELECT {every}, v
                 FROM jsonb_array_elements(
                          CASE jsonb_typeof(walk.v) WHEN 'array' THEN walk.v ELSE '[]' END
                      ) AS a (v)
               ) AS below (name, v)
    )
    SELECT DISTINCT path FROM walk WHERE name ~* {personal} AND name ~ {plain}
) AS paths""")


def paths_in_some(shape: Shape, column: str, scope: Scope, timezone: str, rows: int) -> Composed:
    """Ask which keys lead to those that look personal in the first documents of a scope."""
    some = _some(shape, column, scope, timezone, rows)
    return SQL("SELECT DISTINCT paths.path FROM {} ORDER BY paths.path").format(_paths(column, some))


def count_paths(shape: Shape, column: str, scope: Scope, timezone: str) -> Composed:
    """Count the documents that have a key which looks personal, by the keys that lead to it."""
    paths = _paths(column, _every(shape, column, scope, timezone))
    return SQL("SELECT paths.path, count(*) FROM {} GROUP BY paths.path ORDER BY paths.path").format(paths)


def _paths(column: str, some: Composed) -> Composed:
    return _PATHS.format(
        column=Identifier(column),
        some=some,
        every=Literal(EVERY),
        personal=Literal(PERSONAL),
        plain=Literal(f"^{_NAME}$"),
    )


def _every(shape: Shape, column: str, scope: Scope, timezone: str) -> Composed:
    return SQL("SELECT {} FROM {}{}").format(
        Identifier(column), rows_of(shape), condition(scope, shape, timezone)
    )


def _some(shape: Shape, column: str, scope: Scope, timezone: str, rows: int) -> Composed:
    return SQL("{} LIMIT {}").format(_every(shape, column, scope, timezone), rows)


def keys_in_some(shape: Shape, column: str, scope: Scope, timezone: str, rows: int) -> Composed:
    """Ask for the keys that look personal in the first documents of a scope."""
    some = _some(shape, column, scope, timezone, rows)
    return SQL("SELECT DISTINCT keys.k FROM ({}) AS s, {} ORDER BY keys.k").format(some, _keys(column))


def count_keys(shape: Shape, column: str, scope: Scope, timezone: str) -> Composed:
    """Count the documents that have a key which looks personal, key by key."""
    every = _every(shape, column, scope, timezone)
    return SQL("SELECT keys.k, count(*) FROM ({}) AS s, {} GROUP BY keys.k ORDER BY keys.k").format(
        every, _keys(column)
    )


def _keys(column: str) -> Composed:
    return _KEYS.format(Identifier("s", column), _KEY, Literal(PERSONAL))


def count_values(shape: Shape, columns: Sequence[str], scope: Scope, timezone: str) -> Composed:
    """Count the rows, and for each column those with a value, with an address in it, and with a long number."""
    counts: list[Composable] = [SQL("count(*)")]
    for name in columns:
        text = SQL("{}::text").format(Identifier(name))
        counts.append(SQL("count({})").format(Identifier(name)))
        counts += [
            SQL("count(*) FILTER (WHERE {})").format(found) for found in (is_address(text), is_number(text))
        ]
    return SQL("SELECT {} FROM {}{}").format(
        SQL(", ").join(counts), rows_of(shape), condition(scope, shape, timezone)
    )
