"""With ``--json`` every command prints one object, as the schema that is shipped says."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
import sys
from enum import StrEnum
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from pgpull.findings import Level
from pgpull.periods import Unit
from pgpull.plans import Method, Strategy, Wire
from tests.conftest import Say
from tests.support import Pair, programs
from tests.support.schema import kinds, schema, validated
from tests.test_docs import ROOT, blocks, production

__all__ = ["production"]  # a fixture

M = "askwealth.message"
OUTPUTS: list[tuple[str, int, list[str]]] = [
    ("differences", 5, ["diff", M, "askwealth.document"]),
    ("report", 0, ["pull", M, "--since", "2025-01-02", "--until", "2025-01-03"]),
    ("report", 0, ["pull", M, "--on-conflict", "update", "--verify", "--mirror", "--max-delete", "50%"]),
    ("report", 0, ["run", "messages", "--set", "from=2025-01-04"]),
    ("report", 4, ["pull", "askwealth.thread", "--max-errors", "100%"]),
    ("summary", 0, ["pull", "askwealth.*", "--exclude", "askwealth.thread", "--with-parents"]),
    ("summary", 4, ["pull", M, "askwealth.thread", "--max-errors", "100%"]),
    ("forecast", 0, ["pull", M, "--dry-run", "--show", "2"]),
    ("forecast", 0, ["pull", "askwealth.thread", "--dry-run", "--on-conflict", "update"]),
    ("outlook", 0, ["pull", "askwealth.*", "--dry-run"]),
    ("outlook", 3, ["pull", M, "askwealth.nowhere", "--dry-run"]),
    ("differences", 0, ["diff", M, "--since", "2030-01-01"]),
    ("survey", 0, ["status", M, "--by", "week", "--since", "2025-01-01"]),
    ("survey", 0, ["status", M, "--until", "2000-01-01"]),
    ("checkup", 0, ["check"]),
    ("checkup", 0, ["check", "askwealth.*", "--window", "created_at"]),
    ("checkup", 3, ["check", "askwealth.nowhere"]),
    ("recipes", 0, ["run"]),
    ("export", 0, ["export", M, "--to", "messages"]),
    ("export", 0, ["export", "askwealth.*", "--to", "lake", "--format", "parquet", "--by", "month"]),
    ("error", 3, ["export", M, "--to", "messages"]),
    ("report", 0, ["load", "messages", M]),
    ("error", 3, ["load", "nowhere"]),
    ("summary", 4, ["retry", "askwealth.thread.rejects.jsonl"]),
    ("error", 2, ["pull", M, "--since", "yesterday"]),
    ("error", 2, ["pull", M, "--colour", "red"]),
    ("error", 2, ["run", "nothing"]),
    ("error", 2, ["status", M, "--log-file", "no/such/folder/log"]),
    ("error", 3, ["pull", "askwealth.nowhere"]),
    ("error", 3, ["diff", "askwealth.nowhere"]),
    ("error", 4, ["pull", "askwealth.thread", "--max-errors", "0"]),
]
"""Every kind there is, with the exit code. A new kind gets its lines here."""


@pytest.fixture
def databases(production: Pair) -> Pair:
    production.add_messages("target", 5, seed="only here")
    production.target("alter table askwealth.thread add constraint none_of_them check (title <> 'a thread')")
    return production


@pytest.mark.usefixtures("databases")
def test_what_every_command_prints_is_as_the_schema_says(say: Say) -> None:
    for kind, code, words in OUTPUTS:
        exit_code, out, _ = say(*words, "--json", "--quiet")
        told = validated(out)
        assert (told["kind"], told["exit_code"], exit_code) == (kind, code, code), (words, told)


def test_every_kind_is_tried() -> None:
    assert {kind for kind, _, _ in OUTPUTS} == set(kinds())


def test_the_schema_is_one_and_the_command_prints_it(say: Say) -> None:
    Draft202012Validator.check_schema(schema())
    code, out, err = say("schema")
    assert (code, json.loads(out), err) == (0, schema(), "")


@pytest.mark.parametrize(
    ("values", "enum"),
    [
        (schema()["$defs"]["strategy"], Strategy),
        (schema()["$defs"]["wire"], Wire),
        (schema()["$defs"]["comparison"]["properties"]["method"], Method),
        (schema()["$defs"]["finding"]["properties"]["level"], Level),
        (schema()["$defs"]["survey"]["properties"]["unit"], Unit),
    ],
    ids=["strategy", "wire", "method", "level", "unit"],
)
def test_the_schema_knows_all_values_of_what_has_few(values: dict[str, Any], enum: type[StrEnum]) -> None:
    assert values["enum"] == list(enum)


def test_every_kind_is_on_the_page() -> None:
    page = (ROOT / "docs" / "json.md").read_text()
    assert {f"`{kind}`" for kind in kinds()} <= set(page.replace("|", " ").split())
    [error] = blocks(ROOT / "docs" / "json.md", "json")
    assert validated(error)["exit_code"] == 2


@pytest.mark.usefixtures("production")
def test_the_lines_with_jq_work() -> None:
    if shutil.which("jq") is None:
        pytest.skip("jq is not installed")
    said = []
    for line in "".join(blocks(ROOT / "docs" / "json.md", "bash")).splitlines():
        ours, _, theirs = line.partition(" | jq ")
        printed = programs.run([sys.executable, "-m", *shlex.split(ours)], os.environ).stdout
        jq = subprocess.run(
            ["jq", *shlex.split(theirs)], input=printed, text=True, capture_output=True, check=False
        )
        said.append(jq.stdout.strip())
    assert said[0] == "100"
    assert said[2].splitlines()[0].split("\t")[0] == "askwealth.document"
    assert said[-2:] == ["true", json.loads(blocks(ROOT / "docs" / "json.md", "json")[0])["hint"]]
