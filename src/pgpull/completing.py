"""What TAB offers beside options: recipes, their parameters, tables, zones. What goes wrong, nobody hears of.

Tables are those of the local database, if that answers within a second: TAB never asks the server.
"""

from __future__ import annotations

import re
import threading
from contextlib import suppress
from pathlib import Path
from typing import Any, Final
from zoneinfo import available_timezones

import psycopg
from psycopg.conninfo import make_conninfo

from pgpull import config_file, settings
from pgpull.recipes import Offer
from pgpull.sql.catalog import NAMES

_SECONDS: Final = 1.0
"""How long a user waits for TAB at most, once the program runs."""

_PLAIN: Final = re.compile(r"[a-z_][a-z0-9_]*\.[a-z_][a-z0-9_]*")
"""A name that neither a shell nor SQL wants quoted."""

Found = list[tuple[str, str]]


def recipe_names(ctx: Any, incomplete: str) -> Found:
    """Offer the recipes of pgpull.toml, with their descriptions."""
    return [(each.name, each.description) for each in _offers(ctx) if each.name.startswith(incomplete)]


def parameters(ctx: Any, incomplete: str) -> Found:
    """Offer the parameters of the recipe that is named, each to be followed by its value; else those of all."""
    named = ctx.params.get("recipe")  # unset where --set still lacks its value, as Click then reads no further
    offers = [offer for offer in _offers(ctx) if named in (None, offer.name)]
    helps = {each.name: each.help for offer in offers for each in offer.parameters}
    return [(f"{name}=", what) for name, what in helps.items() if name.startswith(incomplete)]


def tables(ctx: Any, incomplete: str) -> Found:
    """Offer the tables of the local database."""
    return [(name, "") for name in _names(ctx) if name.startswith(incomplete)]


def zones(incomplete: str) -> list[str]:
    """Offer the time zones that there are."""
    return sorted(zone for zone in available_timezones() if zone.startswith(incomplete))


def _offers(ctx: Any) -> tuple[Offer, ...]:
    try:
        return config_file.recipes(_path(ctx, "config")).offers
    except Exception:
        return ()


def _path(ctx: Any, name: str) -> Path | None:
    """Return a file that stands on the command line already."""
    value = ctx.params.get(name)
    return Path(value) if value else None


def _names(ctx: Any) -> list[str]:
    """Ask for the tables, and wait no longer than a user would."""
    found: list[str] = []
    asking = threading.Thread(target=_ask, args=(ctx, found), daemon=True)
    asking.start()
    asking.join(_SECONDS)
    return list(found)


def _ask(ctx: Any, found: list[str]) -> None:
    with suppress(Exception):
        target = settings.seen_target(_path(ctx, "env_file"))
        if target is None:
            return
        with psycopg.connect(make_conninfo(**target.parameters), application_name="pgpull") as local:
            rows = local.execute(NAMES).fetchall()
        names = dict.fromkeys(f"{root_in or schema}.{root or name}" for schema, name, root_in, root in rows)
        found += filter(_PLAIN.fullmatch, names)
