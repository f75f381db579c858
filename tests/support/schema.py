"""What a command prints with ``--json``, held against the schema that pgpull ships."""

from __future__ import annotations

import json
from functools import cache
from importlib.resources import files
from typing import Any

from jsonschema import Draft202012Validator


@cache
def schema() -> dict[str, Any]:
    """Return the schema."""
    read: dict[str, Any] = json.loads(files("pgpull").joinpath("schemas/output.json").read_text())
    return read


@cache
def kinds() -> tuple[str, ...]:
    """Name every kind of object there is."""
    return tuple(each["$ref"].rpartition("/")[2] for each in schema()["oneOf"])


@cache
def _validator(kind: str) -> Draft202012Validator:
    described = {"$ref": f"#/$defs/{kind}", "$defs": schema()["$defs"]}
    return Draft202012Validator(described, format_checker=Draft202012Validator.FORMAT_CHECKER)


def validated(text: str) -> dict[str, Any]:
    """Return the one object that was printed, once it is as the schema says."""
    assert text.count("\n") == 1, "one object, on one line"
    told: dict[str, Any] = json.loads(text)
    assert told.get("kind") in kinds(), "a new kind is described in src/pgpull/schemas/output.json"
    _validator(told["kind"]).validate(told)
    return told
