"""What the page on automation shows can be run, and what goes into hooks and images is there."""

from __future__ import annotations

import configparser
import json
import os
import re
import shlex
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from pgpull import UsageError, export, hooks, load
from tests.conftest import MakePair
from tests.support import STANDARD_SCHEMA, Pair, programs
from tests.test_cli import PGPULL, call, on
from tests.test_docs import ROOT, blocks, production

__all__ = ["production"]  # a fixture

PAGE = ROOT / "docs" / "automation.md"
WORKFLOW, PRECOMMIT, COMPOSE = (yaml.safe_load(block) for block in blocks(PAGE, "yaml"))
SERVICE, TIMER = blocks(PAGE, "ini")


def unit(text: str) -> configparser.ConfigParser:
    read = configparser.ConfigParser(interpolation=None)
    read.optionxform = str  # type: ignore[method-assign, assignment]
    read.read_string(text)
    return read


def shown() -> list[str]:
    """Return the words after ``pgpull`` of every command on the page that a machine would run."""
    [cron] = blocks(PAGE, "crontab")
    steps = [step["run"] for step in WORKFLOW["jobs"]["test"]["steps"] if "run" in step]
    lines = [cron, unit(SERVICE)["Service"]["ExecStart"], f"pgpull {COMPOSE['services']['pgpull']['command']}"]
    lines += [line for line in steps if line.startswith("pgpull ")]
    return [line.strip().partition("pgpull ")[2].partition(" > ")[0] for line in lines]


@pytest.mark.parametrize("words", [re.sub(r"^.*/pgpull ", "", line) for line in shown()])
def test_each_command_that_a_machine_would_run_works(words: str, production: Pair) -> None:
    arguments = shlex.split(words.rpartition("/pgpull ")[2])
    done = call(PGPULL, *arguments, **on(production))
    assert done.returncode == 0, done.stderr
    if "--quiet" in arguments:
        assert (done.stdout, done.stderr) == ("", "")


def test_the_workflow_is_one_and_waits_for_its_postgres() -> None:
    job = WORKFLOW["jobs"]["test"]
    assert {"runs-on", "services", "steps"} <= job.keys()
    assert all(("run" in step) != ("uses" in step) for step in job["steps"])
    postgres = job["services"]["postgres"]
    assert "--health-cmd pg_isready" in postgres["options"]
    assert "localhost:5432" in job["env"]["LOCAL_DB_URL"]
    assert "secrets." in job["env"]["SERVER_DB_URL"]


def test_the_steps_of_the_workflow_fill_an_empty_postgres(make_pair: MakePair, newest: int) -> None:
    pair = make_pair(newest, newest, schema=STANDARD_SCHEMA, target_schema="")
    pair.add_messages("source", 10)
    for words in (step.get("run", "").partition(" > ")[0] for step in WORKFLOW["jobs"]["test"]["steps"]):
        if words.startswith("pgpull "):
            done = call(PGPULL, *shlex.split(words)[1:], **on(pair))
            assert done.returncode == 0, done.stderr
    assert pair.same("askwealth.message")


def test_the_line_for_jq_fits_what_is_printed(production: Pair) -> None:
    done = call(PGPULL, "pull", "askwealth.message", "--json", **on(production))
    assert json.loads(done.stdout)["tally"]["failed"] == 0
    assert any(
        "jq -e '.tally.failed == 0'" in step.get("run", "") for step in WORKFLOW["jobs"]["test"]["steps"]
    )


def test_the_units_have_what_systemd_asks_for() -> None:
    assert unit(SERVICE)["Service"]["Type"] == "oneshot"
    assert unit(TIMER)["Install"]["WantedBy"] == "timers.target"
    assert unit(TIMER)["Timer"]["OnCalendar"]


# --- hooks -----------------------------------------------------------------------------------------------

HOOKS: list[dict[str, Any]] = yaml.safe_load((ROOT / ".pre-commit-hooks.yaml").read_text())


def test_the_hooks_that_the_page_names_are_there() -> None:
    named = {hook["id"] for repo in PRECOMMIT["repos"] for hook in repo["hooks"]}
    assert named == {hook["id"] for hook in HOOKS}
    for hook in HOOKS:
        assert {"id", "name", "entry", "language", "files"} <= hook.keys()
        assert hook["entry"].split()[:3] == ["python", "-m", "pgpull.hooks"]


@pytest.mark.parametrize(
    ("hook", "file", "meant"),
    [
        ("pgpull-config", "pgpull.toml", True),
        ("pgpull-config", "sub/pyproject.toml", True),
        ("pgpull-config", "my-pgpull.toml.bak", False),
        ("pgpull-archive", "tests/fixtures/week/manifest.json", True),
        ("pgpull-archive", "week/askwealth.message/0001.csv.gz", True),
        ("pgpull-archive", "week/notes.md", False),
        ("pgpull-masked", "week/manifest.json", True),
    ],
)
def test_the_hooks_mean_the_files_that_they_should(hook: str, file: str, meant: bool) -> None:
    [pattern] = [each["files"] for each in HOOKS if each["id"] == hook]
    assert bool(re.search(pattern, file)) is meant


def test_a_config_that_makes_no_sense_is_named_with_its_line(own_folder: Path) -> None:
    good, bad, other = (
        own_folder / "pgpull.toml",
        own_folder / "a" / "pgpull.toml",
        own_folder / "pyproject.toml",
    )
    bad.parent.mkdir()
    good.write_text(blocks(ROOT / "docs" / "recipes.md", "toml")[0])
    bad.write_text("[defaults]\nmirrror = true\n")
    other.write_text('[project]\nname = "theirs"\n')
    command = [sys.executable, "-m", "pgpull.hooks"]
    done = programs.run([*command, str(good), str(other)], os.environ)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    done = programs.run([*command, str(good), str(bad)], os.environ)
    assert done.returncode == 1
    assert "a/pgpull.toml, line 2: defaults.mirrror: 'mirrror' is not known here" in done.stderr


def test_an_archive_that_was_altered_is_named_once(
    own_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = own_folder / "week"
    (folder / "s.t").mkdir(parents=True)
    (folder / "manifest.json").write_text("{}")
    (folder / "s.t" / "0001.csv").write_text("1\n")
    names = [str(folder / "manifest.json"), str(folder / "s.t" / "0001.csv"), str(own_folder / "other.csv")]
    assert hooks.main(names) == 1
    assert capsys.readouterr().err.count("error: ") == 1
    (folder / "manifest.json").write_text('{"name": "a web app", "manifest_version": 3}')
    assert hooks.main([*names, "--masked"]) == 0


def test_an_archive_with_what_looks_personal_is_refused_until_masked_or_ruled_on(
    make_pair: MakePair, own_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pair = make_pair(
        schema="create schema s; create table s.person (id int primary key, email text, city text)"
    )
    pair.source("insert into s.person values (1, 'ann@example.com', 'Ulm')")
    export("s.person", source=pair.source_url, to=own_folder / "bare")
    manifest = str(own_folder / "bare" / "manifest.json")
    assert hooks.main([manifest]) == 0
    assert hooks.main([manifest, "--masked"]) == 1
    capsys.readouterr()
    assert hooks.main(["--masked", manifest]) == 1
    said = capsys.readouterr().err
    assert "s.person that look personal, or have a mask rule, and are not masked: email, city" in said
    assert "ann@" not in said
    (own_folder / "pgpull.toml").write_text('[mask]\nemail = "email"\ncity = "keep"\n')
    assert hooks.main(["--masked", manifest]) == 1
    assert "not masked: email\n" in capsys.readouterr().err
    (own_folder / "pgpull.toml").write_text('[mask]\nemail = "keep"\ncity = "keep"\n')
    assert hooks.main(["--masked", manifest]) == 0
    (own_folder / "bare" / "s.person" / "0001.csv").write_text("2,bob@example.com,Ulm\n")
    assert hooks.main([manifest]) == 1


def test_parquet_is_found_whole_where_nothing_is_installed_to_read_it(
    pair: Pair, own_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pair.add_messages("source", 3)
    export("askwealth.message", source=pair.source_url, to=own_folder / "week", format="parquet")
    for name in ("pyarrow", "pyarrow.csv", "pyarrow.parquet"):
        monkeypatch.setitem(sys.modules, name, None)
    assert hooks.main([str(own_folder / "week" / "manifest.json")]) == 0
    with pytest.raises(UsageError, match="Parquet needs pyarrow"):
        load(own_folder / "week", target=pair.target_url)


# --- the image -------------------------------------------------------------------------------------------


def instructions() -> list[tuple[str, str]]:
    """Read the Dockerfile: each instruction and what it is given, comments left out."""
    text = re.sub(r"^#.*\n", "", (ROOT / "Dockerfile").read_text(), flags=re.MULTILINE).replace("\\\n", " ")
    return [
        (word, rest.strip()) for word, _, rest in (line.partition(" ") for line in text.splitlines()) if word
    ]


def test_the_image_copies_only_what_is_there_and_is_not_kept_out() -> None:
    allowed = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    for word, rest in instructions():
        if word == "COPY" and not rest.startswith("--from="):
            *sources, _ = rest.split()
            assert set(sources) <= allowed
            assert all((ROOT / source).exists() for source in sources)
    assert (ROOT / ".dockerignore").read_text().splitlines()[1] == "*"


def test_the_image_runs_as_nobody_in_particular_and_starts_the_program() -> None:
    words = instructions()
    last = [word for word, _ in words].index("FROM", 1)
    final = dict(words[last:])
    assert final["USER"] == "pgpull"
    assert json.loads(final["ENTRYPOINT"]) == ["pgpull"]
    assert call(PGPULL, *json.loads(final["CMD"])).returncode == 0
    assert [word for word, _ in words].count("FROM") == 2
    assert not {word for word, _ in words} - {
        "FROM",
        "WORKDIR",
        "COPY",
        "RUN",
        "ENV",
        "USER",
        "ENTRYPOINT",
        "CMD",
    }


def test_what_the_image_installs_is_an_extra_that_there_is() -> None:
    [install] = [rest for word, rest in instructions() if word == "RUN" and "pip install" in rest]
    extras = re.findall(r"'\.\[([\w,]+)\]'", install)[0].split(",")
    project = (ROOT / "pyproject.toml").read_text()
    assert all(re.search(rf"^{extra} = \[", project, re.MULTILINE) for extra in extras)
