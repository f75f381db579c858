"""What the documentation shows, works: its commands and its Python are run as they stand."""

from __future__ import annotations

import os
import re
import shlex
import sys
from pathlib import Path

import pytest
from typer.main import get_command

from pgpull import export
from pgpull.cli import app
from pgpull.pages import prose_of
from tests.conftest import MakePair
from tests.support import STANDARD_SCHEMA, Pair, programs

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted(ROOT.glob("data_migrations/*.md")), *sorted(ROOT.glob("docs/*.md"))]

HELP = get_command(app).commands.values()  # type: ignore[attr-defined]

SCHEMA = f"""{STANDARD_SCHEMA}
    create table askwealth.document (document_id uuid primary key, title text, created_at timestamptz not null);
    create table askwealth.chunk (
        chunk_id uuid primary key,
        document_id uuid not null references askwealth.document,
        created_at timestamptz not null default now()
    );
"""


def blocks(page: Path, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", page.read_text(), re.MULTILINE | re.DOTALL)


def commands() -> list[str]:
    """Return the lines that call pgpull or a script; setting up and `make` are CI's own first steps."""
    lines = [line for page in PAGES for block in blocks(page, "sh") for line in block.splitlines()]
    lines += [command for page in HELP for command, _ in prose_of(page.help or "").examples]
    ours = (
        "pgpull pull",
        "pgpull run",
        "pgpull status",
        "pgpull diff",
        "pgpull check",
        "pgpull export",
        "pgpull load",
        "python data_migrations/",
    )
    return sorted({line for line in lines if line.startswith(ours)})


@pytest.fixture
def production(make_pair: MakePair, tmp_path: Path) -> Pair:
    pair = make_pair(schema=SCHEMA)
    pair.add_messages("source", 100)
    pair.source("insert into askwealth.thread select distinct thread_id, 'a thread' from askwealth.message")
    pair.source("insert into askwealth.document values (gen_random_uuid(), 'a document', '2025-03-01')")
    pair.source("insert into askwealth.chunk select gen_random_uuid(), document_id from askwealth.document")
    (tmp_path / ".env").write_text(f"SERVER_DB_URL='{pair.source_url}'\nLOCAL_DB_URL='{pair.target_url}'\n")
    (tmp_path / "pgpull.toml").write_text(blocks(ROOT / "docs" / "recipes.md", "toml")[0])
    (tmp_path / "data_migrations").symlink_to(ROOT / "data_migrations")
    return pair


def test_the_pages_show_commands() -> None:
    assert len(commands()) >= 8


@pytest.mark.parametrize("command", commands())
def test_each_command_shown_does_what_it_should(production: Pair, command: str) -> None:
    words = shlex.split(command, comments=True)
    if words[1] == "load":
        export("askwealth.*", source=production.source_url, to=words[2])
    starts = {"pgpull": [sys.executable, "-m", "pgpull"], "python": [sys.executable]}
    done = programs.run([*starts[words[0]], *words[1:]], os.environ)
    # what differs, a diff says by its exit code
    assert done.returncode in ((0, 5) if words[1] == "diff" else (0,)), done.stderr
    if words[:2] == ["pgpull", "run"] and len(words) == 2:
        assert "--set from=" in done.stdout
        return
    proof = {
        "status": "newest here",
        "--status": "newest here",
        "diff": "missing here",
        "check": "a pull can run",
        "export": "archived",
    }
    assert next((proof[word] for word in words if word in proof), "fetched") in done.stdout


@pytest.mark.parametrize("page", [page for page in PAGES if blocks(page, "python")], ids=lambda page: page.stem)
def test_the_python_shown_runs(production: Pair, page: Path) -> None:
    names = {"SERVER_DB_URL": production.source_url, "LOCAL_DB_URL": production.target_url}
    for block in blocks(page, "python"):
        exec(compile(block, str(page), "exec"), names)


def test_every_option_is_on_the_operators_page_and_every_documented_one_exists() -> None:
    page = (ROOT / "data_migrations" / "README.md").read_text()
    known: set[str] = set()
    scripts = [[str(ROOT / "data_migrations" / name)] for name in ("load_messages.py", "load_tables.py")]
    for words in (
        *scripts,
        ["-m", "pgpull", "status"],
        ["-m", "pgpull", "diff"],
        ["-m", "pgpull", "check"],
        ["-m", "pgpull", "embedded"],
        ["-m", "pgpull", "export"],
        ["-m", "pgpull", "load"],
        ["-m", "pgpull", "retry"],
        ["-m", "pgpull", "run"],
    ):
        command, wide = [sys.executable, *words, "--help"], {**os.environ, "COLUMNS": "200"}
        known |= set(re.findall(r"--[a-z][a-z-]+", programs.run(command, wide).stdout))
    assert known - {"--help", "--version"} <= set(re.findall(r"--[a-z][a-z-]+", page))
    assert set(re.findall(r"`(--[a-z-]+)", page)) <= known


def test_links_lead_somewhere() -> None:
    for page in [*PAGES, ROOT / "CONTRIBUTING.md"]:
        for target in re.findall(r"\]\(([^)#:]+)\)", page.read_text()):
            assert (page.parent / target).exists(), f"{page.name}: {target}"
