"""Whole databases: made from a template, and dropped."""

from __future__ import annotations

from psycopg.sql import SQL, Composed, Identifier, Literal


def create(name: str) -> Composed:
    """Make an empty database."""
    return SQL("CREATE DATABASE {}").format(Identifier(name))


def clone(name: str, template: str) -> Composed:
    """Make a database that holds what another one does; nobody may be connected to that one."""
    return SQL("CREATE DATABASE {} TEMPLATE {}").format(Identifier(name), Identifier(template))


def end_sessions(name: str) -> Composed:
    """End the sessions that are in a database (DROP DATABASE does it itself from PostgreSQL 13 on)."""
    question = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = {}"
    return SQL(question).format(Literal(name))


def drop(name: str) -> Composed:
    """Drop a database that nobody is connected to."""
    return SQL("DROP DATABASE IF EXISTS {}").format(Identifier(name))
