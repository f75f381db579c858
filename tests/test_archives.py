"""What a manifest says survives the way through its file, and what is none is refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from pgpull.archives import MANIFEST, ArchivedFile, ArchivedTable, Manifest
from pgpull.errors import ArchiveError
from pgpull.model import Scope, Stretch, Window
from pgpull.shapes import (
    Column,
    ColumnType,
    ForeignKey,
    Key,
    OwnedSequence,
    Reference,
    Shape,
    TableName,
    Trigger,
)

ORDER, PERSON = TableName("public", 'Or"der'), TableName("public", "person")
UUID = ColumnType("uuid", "uuid", 2950, "b", "U", True, True)
LABELS = ColumnType("label[]", "_label", 70_000, "b", "A", False, True, "label", False, "labels")
INSTANT = datetime(2025, 1, 31, 23, 59, 59, 999_999, tzinfo=UTC)

SHAPE = Shape(
    table=ORDER,
    kind="p",
    columns=(Column("id", UUID, True, True, False, "a"), Column("ma\nrks", LABELS, readable=False)),
    keys=(Key(("id",)), Key(("id", "ma\nrks"), False, True)),
    triggers=(Trigger("stamp", ORDER, "O", True, False),),
    sequences=(OwnedSequence(TableName("public", "order_id"), "id"),),
    references=(Reference("line_order", PERSON, PERSON, "r", ("order_id",), ("id",)),),
    foreign_keys=(ForeignKey("order_person", ORDER, PERSON, PERSON, "r", ("id",), ("id",)),),
    rows=12,
    standing="abc",
    root=PERSON,
    privileges=frozenset({"SELECT", "INSERT"}),
)

TABLE = ArchivedTable(
    shape=SHAPE,
    columns=("id", "ma\nrks"),
    scope=Scope(Window("id", INSTANT, None), (("id", "ä"),), "x = '\t'", Stretch(("id",), None, ("1",))),
    masks={"ma\nrks": "hash"},
    rows=3,
    files=(
        ArchivedFile("public.order/0001.csv.gz", 2, 10, "0" * 64),
        ArchivedFile("public.order/month=2025-01/0001.csv.gz", 1, 0, "f" * 64),
    ),
    timezone="Europe/Berlin",
    by="id",
    as_text=("id",),
)

MADE = Manifest("0.1.0", "postgresql://host/db", INSTANT, "UTF8", "csv", "gzip", (TABLE,))


def test_a_manifest_survives_the_way_through_its_file() -> None:
    plain = replace(MADE, format="parquet", compression=None, tables=())
    assert Manifest.from_json(MADE.to_json()) == MADE
    assert Manifest.from_json(plain.to_json()) == plain


def test_a_manifest_adds_up_and_finds_its_tables() -> None:
    assert (MADE.rows, len(MADE.files)) == (3, 2)
    assert MADE.table(ORDER) == TABLE
    assert MADE.table(PERSON) is None


def test_what_a_later_pgpull_adds_to_the_same_format_is_passed_over() -> None:
    assert Manifest.from_json(json.dumps(json.loads(MADE.to_json()) | {"weather": "fine"})) == MADE


@pytest.mark.parametrize("text", ["", "{", "[]", "null", "{}", '{"name": "a web app"}', "\x00", "[" * 100_000])
def test_a_file_that_is_no_manifest_is_refused(text: str) -> None:
    with pytest.raises(ArchiveError, match=MANIFEST):
        Manifest.from_json(text)


def test_a_manifest_cut_short_is_refused_wherever_it_ends() -> None:
    text = MADE.to_json().rstrip()
    for end in range(0, len(text), 97):
        with pytest.raises(ArchiveError):
            Manifest.from_json(text[:end])


def test_an_archive_of_a_newer_pgpull_says_which_and_asks_for_it() -> None:
    with pytest.raises(ArchiveError, match=r"format 2, written by pgpull 9\.1") as caught:
        Manifest.from_json(json.dumps(json.loads(MADE.to_json()) | {"format_version": 2, "version": "9.1"}))
    assert caught.value.hint == "install a newer pgpull"


def _table(name: str, value: object) -> Callable[[dict[str, Any]], None]:
    def change(found: dict[str, Any]) -> None:
        found["tables"][0][name] = value

    return change


def _type(name: str) -> Callable[[dict[str, Any]], None]:
    def change(found: dict[str, Any]) -> None:
        found["tables"][0]["shape"]["columns"][0]["type"]["name"] = name

    return change


def _file(name: str, value: object) -> Callable[[dict[str, Any]], None]:
    def change(found: dict[str, Any]) -> None:
        found["tables"][0]["files"][0][name] = value

    return change


def _again(found: dict[str, Any]) -> None:
    found["tables"] *= 2


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (_table("rows", 4), "counts 4 rows"),
        (_table("columns", ["id", "else"]), "does not say what"),
        (_table("columns", ["id", "id"]), "twice"),
        (_table("shape", None), "not as pgpull writes it"),
        (_again, "twice"),
        (_type("int); drop table t; --"), "a type that cannot be"),
        (_type("text, lo_import($$/etc/passwd$$)"), "a type that cannot be"),
        (_type("int(1) or f(2)"), "a type that cannot be"),
        (_file("rows", -1), "what cannot be"),
        (_file("sha256", "abc"), "what cannot be"),
        (_file("path", "../0001.csv"), "outside of the archive"),
        (_file("path", "/etc/passwd"), "outside of the archive"),
        (_file("path", "a/../../b"), "outside of the archive"),
        (_file("path", "a\\..\\..\\b"), "outside of the archive"),
        (_file("path", "C:/b"), "outside of the archive"),
        (_file("path", "manifest.json"), "outside of the archive"),
        (_file("path", "a//b"), "outside of the archive"),
        (_file("path", TABLE.files[1].path), "twice"),
        (lambda found: found.update(format_version=0), "never was"),
        (lambda found: found.update(format_version=True), "never was"),
        (lambda found: found.update(format_version="1"), "never was"),
        (lambda found: found.update(format="orc"), "not as pgpull writes it"),
        (lambda found: found.update(snapshot="yesterday"), "not as pgpull writes it"),
    ],
)
def test_a_manifest_that_contradicts_itself_is_refused(
    change: Callable[[dict[str, Any]], None], said: str
) -> None:
    found = json.loads(MADE.to_json())
    change(found)
    with pytest.raises(ArchiveError, match=said):
        Manifest.from_json(json.dumps(found))
