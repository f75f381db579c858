"""Whole databases: made from a template, and dropped."""

from __future__ import annotations

from psycopg.sql import SQL, Composed, Identifier


def create(name: str) -> Composed:
    """Make an empty database."""
    return SQL("CREATE DATABASE {}").format(Identifier(name))


def clone(name: str, template: str) -> Composed:
    """Make a database that holds what another one does; nobody may be connected to that one."""
    return SQL("CREATE DATABASE {} TEMPLATE {}").format(Identifier(name), Identifier(template))


def drop(name: str) -> Composed:
    """Drop a database, and end the sessions that are in it."""
    return SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(Identifier(name))
