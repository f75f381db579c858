"""What a user sees: words in, words and exit codes out; never a traceback, never a secret."""

from __future__ import annotations

import json
import os
import re
import stat
import subprocess
import sys
from pathlib import Path

import psycopg
import pytest

from pgpull import embedded
from tests.conftest import MakePair, Say
from tests.support import Pair, programs
from tests.support.schema import validated

ROOT = Path(__file__).parents[1]
SCRIPT = [sys.executable, str(ROOT / "data_migrations" / "load_messages.py")]
TABLES = [sys.executable, str(ROOT / "data_migrations" / "load_tables.py")]
PGPULL = [sys.executable, "-m", "pgpull"]

Done = subprocess.CompletedProcess[str]


def call(program: list[str], *words: str, **environment: str) -> Done:
    """Run a program as a user does, with nothing but these settings in the environment."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("SERVER_DB", "LOCAL_DB", "PG"))
    }
    done = programs.run([*program, *words], {**kept, "COLUMNS": "100", **environment})
    assert "Traceback" not in done.stderr + done.stdout
    if "--json" in words:
        assert validated(done.stdout)["exit_code"] == done.returncode
    return done


def on(pair: Pair, **more: str) -> dict[str, str]:
    """Return the settings that lead to a pair."""
    return {"SERVER_DB_URL": pair.source_url, "LOCAL_DB_URL": pair.target_url} | more


def squeezed(text: str) -> str:
    return " ".join(text.split())


# --- the main job ----------------------------------------------------------------------------------------


def test_the_script_pulls_by_date_and_thread_and_says_what_it_did(pair: Pair) -> None:
    pair.add_messages("source", 100)
    done = call(SCRIPT, "--from-date", "2025-01-02", "--to-date", "2025-01-04", **on(pair))
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    for piece in (
        "FROM ",
        "TO ",
        "askwealth.message: 2025-01-02T00:00:00+00:00 <= created_at < 2025-01-04T00:00:00+00:00",
        "source read only",
        "fetched 48 = inserted 48 + updated 0 + skipped 0 + failed 0",
    ):
        assert piece in done.stdout
    thread = str(pair.source("select thread_id from askwealth.message limit 1")[0][0])
    done = call(SCRIPT, "--thread-id", thread.upper(), "--on-conflict", "update", **on(pair))
    assert f"thread_id = {thread}" in done.stdout
    assert "fetched 10 =" in done.stdout
    done = call(SCRIPT, **on(pair))
    assert "fetched 100 = inserted" in done.stdout


def test_the_scripts_function_is_there_for_python(
    pair: Pair, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    pair.add_messages("source", 100)
    (tmp_path / ".env").write_text("".join(f"{name}='{value}'\n" for name, value in on(pair).items()))
    monkeypatch.syspath_prepend(ROOT)
    from data_migrations.load_messages import load_messages

    assert load_messages("2025-01-02", "2025-01-03").tally.inserted == 24
    assert load_messages().tally.inserted == 76


@pytest.mark.parametrize("program", [[*PGPULL, "pull"], TABLES], ids=["pgpull pull", "load_tables.py"])
def test_any_table_is_pulled_by_the_command_and_the_other_script(
    make_pair: MakePair, program: list[str]
) -> None:
    pair = make_pair(schema='create schema s; create table s."T" (id int primary key, at date, kind text)')
    pair.source(
        "insert into s.\"T\" select g, date '2025-01-01' + g, 'k' || g % 2 from generate_series(0, 9) g"
    )
    words = ["s.T", "--window", "at", "--since", "2025-01-03", "--until", "2025-01-09"]
    done = call(program, *words, "--equals", "kind=k0", "--where", "id <> 4", **on(pair))
    assert done.returncode == 0, done.stderr
    assert pair.target('select id from s."T" order by 1') == [(2,), (6,)]


def test_json_on_stdout_is_one_object_and_words_go_to_stderr(pair: Pair) -> None:
    pair.add_messages("source", 5)
    done = call(SCRIPT, "--json", "--from-date", "2025-01-01", **on(pair))
    report = json.loads(done.stdout)
    assert report["tally"] == {"fetched": 5, "inserted": 5, "updated": 0, "skipped": 0, "failed": 0}
    assert report["exit_code"] == 0
    assert report["since"] == "2025-01-01T00:00:00+00:00"
    assert "FROM " in done.stderr
    done = call(SCRIPT, "--json", "--quiet", "--thread-id", "x", **on(pair))
    assert json.loads(done.stdout)["exit_code"] == done.returncode == 2


def test_quiet_says_nothing_when_all_is_well_and_verbose_names_each_batch(pair: Pair) -> None:
    pair.add_messages("source", 5)
    done = call(SCRIPT, "--verbose", "--batch-size", "2", **on(pair))
    assert len(re.findall("rows so far", done.stdout)) == 3
    done = call(SCRIPT, "--quiet", **on(pair))
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_the_log_file_holds_the_same_facts_and_is_the_owners_alone(pair: Pair, tmp_path: Path) -> None:
    pair.add_messages("source", 5)
    call(SCRIPT, "--quiet", "--log-file", "pull.log", **on(pair))
    call(SCRIPT, "--log-file", "pull.log", "--from-date", "never", **on(pair))
    log = (tmp_path / "pull.log").read_text()
    for piece in (
        "INFO    FROM postgresql://",
        "fetched 5 = inserted 5",
        "ERROR   --from-date is not a date: 'never'",
    ):
        assert piece in log
    assert all(
        re.match(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z (INFO|DEBUG|ERROR|WARNING) ", line)
        for line in log.splitlines()
    )
    assert stat.S_IMODE((tmp_path / "pull.log").stat().st_mode) == 0o600


def test_a_log_file_on_a_full_disk_costs_the_log_and_not_the_run(pair: Pair) -> None:
    pair.add_messages("source", 5)
    done = call(SCRIPT, "--log-file", "/dev/full", **on(pair))
    assert done.returncode == 0
    assert "log file /dev/full cannot be written any more" in done.stderr
    assert pair.same("askwealth.message")


def test_rejects_are_logged_kept_and_told_by_the_exit_code(make_pair: MakePair, tmp_path: Path) -> None:
    pair = make_pair()
    pair.add_messages("source", 50)
    pair.target("alter table askwealth.message add constraint no_user check (role <> 'user')")
    done = call(SCRIPT, "--log-file", "log", **on(pair))
    assert done.returncode == 4
    assert "fetched 50 = inserted 25 + updated 0 + skipped 0 + failed 25" in done.stdout
    assert "23514 check_violation on no_user" in done.stderr
    assert done.stderr.count("refused askwealth.message message_id=") == 20
    assert "more rows are refused" in done.stderr
    assert "askwealth.message.rejects.jsonl" in done.stderr
    assert (tmp_path / "log").read_text().count("refused askwealth.message message_id=") == 25
    assert len((tmp_path / "askwealth.message.rejects.jsonl").read_text().splitlines()) == 25
    done = call(SCRIPT, "--max-errors", "10%", "--rejects", "mine.jsonl", "--json", **on(pair))
    assert done.returncode == 4
    assert json.loads(done.stdout)["tally"]["failed"] == 25
    assert "25 of 50 rows were refused, more than 10% allowed" in done.stderr


@pytest.mark.parametrize("program", [SCRIPT, TABLES, [*PGPULL, "pull"], PGPULL])
def test_help_and_version_are_there(program: list[str]) -> None:
    assert call(program, "--help").returncode == 0
    if "pull" not in program:
        assert re.fullmatch(r"pgpull \d+\.\d+\.\d+\n", call(program, "--version").stdout)


# A small program in between: the system counts the memory of whoever forks, until the exec, as the child's.
MEASURED = [
    sys.executable,
    "-S",
    "-c",
    "import resource, subprocess, sys; subprocess.run(sys.argv[1:], check=True);"
    "print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)",
]


@pytest.mark.parametrize(("jobs", "most"), [(1, 85_000_000), (4, 110_000_000)])
def test_the_client_stays_small_however_large_the_table(pair: Pair, jobs: int, most: int) -> None:
    pair.add_messages("source", 14_000, step="1 minute")
    pair.source(
        "update askwealth.message set parts = to_jsonb((select string_agg(md5(message_id::text || i), '')"
        " from generate_series(1, 250) i))"
    )
    assert pair.source("select sum(pg_column_size(parts)) > 1e8 from askwealth.message") == [(True,)]
    for _ in ("first", "again"):
        words = [*PGPULL, "pull", "askwealth.message", "--quiet", "--jobs", str(jobs)]
        env = {**os.environ, **on(pair)}
        done = subprocess.run([*MEASURED, *words], env=env, text=True, capture_output=True, check=False)
        assert done.returncode == 0, done.stderr
        peak = int(done.stdout) * (1 if sys.platform == "darwin" else 1024)
        assert peak < most


# --- what goes wrong -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--from-date", "2025-13-01"], "--from-date is not a date: '2025-13-01'"),
        (["--from-date", "2025-02-01", "--to-date", "2025-01-01"], "is not before --to-date"),
        (["--thread-id", "abc"], "--thread-id is not a uuid: 'abc'"),
        (["--thread-id", ""], "--thread-id is not a uuid: ''"),
        (["--timezone", "Mars"], "no time zone is called 'Mars'"),
        (["--max-errors", "some"], "not a number or a percentage: 'some'"),
        (["--env-file", "nope"], "settings file nope cannot be read"),
        (["--log-file", "no/such/log"], "log file no/such/log cannot be opened"),
        (["--rejects", "no/such/file"], "rejects file no/such/file cannot be written: there is no folder"),
        (["--rejects", "."], "cannot be written: it is a folder"),
        (["--batch-size", "0"], "--batch-size"),
        (["--on-conflict", "replace"], "--on-conflict"),
        (["--show", "3"], "--show has no effect without --dry-run"),
        (["--overlap", "2h"], "--overlap has no effect without --new"),
        (["--max-delete", "5"], "--max-delete has no effect without --mirror"),
        (["--timezone", "M\udcffrs"], r"not UTF-8: M\xffrs"),
        (["--nonsense"], "--nonsense"),
        (["surplus"], "surplus"),
    ],
)
def test_words_that_make_no_sense_end_with_2_and_the_way_to_say_it(words: list[str], said: str) -> None:
    done = call(SCRIPT, *words, SERVER_DB_HOST="127.0.0.1", LOCAL_DB_HOST="127.0.0.1")
    assert done.returncode == 2
    assert said in squeezed(done.stderr)
    assert done.stdout == ""


def test_an_option_works_with_another_one_that_stands_in_the_file(
    pair: Pair, say: Say, own_folder: Path
) -> None:
    (own_folder / ".env").write_text("".join(f"{name}='{value}'\n" for name, value in on(pair).items()))
    (own_folder / "pgpull.toml").write_text("[defaults]\nmirror = true\n")
    assert say("pull", "askwealth.message", "--max-delete", "5")[0] == 0
    assert say("pull", "askwealth.message", "--overlap", "1d")[0] == 2


def test_nothing_set_ends_with_2_and_the_way_on() -> None:
    done = call(SCRIPT)
    assert done.returncode == 2
    assert "neither SERVER_DB_URL nor SERVER_DB_HOST" in done.stderr
    assert "hint: copy .env.example to .env" in done.stderr


def refused(done: Done, said: str, hint: str) -> None:
    """Check that a run ended before it wrote anything, with a fact and a hint."""
    assert done.returncode == 3, done.stderr
    error, _, rest = done.stderr.partition("\nhint: ")
    assert error.startswith("error: ")
    assert said in error
    assert hint in rest


def test_a_database_that_does_not_let_us_in_is_named_with_the_reason(pair: Pair) -> None:
    tcp = pair.url("source", via="tcp")
    wrong = re.sub(r":[^:@/]+@", ":S3cret@", tcp)
    cases = [
        (wrong, "password authentication failed", "check SERVER_DB_USER and SERVER_DB_PASSWORD"),
        (pair.url("source", user="nobody_here"), 'role "nobody_here" does not exist', "createuser"),
        (tcp.rpartition("/")[0] + "/nope", 'database "nope" does not exist', "check SERVER_DB_NAME"),
        ("postgresql://u@no-such-host.invalid/app", "no-such-host.invalid", "check the host"),
        ("postgresql://u@127.0.0.1:1/app", "Connection refused", "is Postgres running there"),
        ("postgresql://u@/app?host=/nonexistent", "No such file or directory", "is Postgres running there"),
        (f"{tcp}?sslmode=nonsense", "sslmode", "check the options"),
        ("postgresql:///?service=nope", 'service "nope" not found', "services are defined"),
    ]
    for url, said, hint in cases:
        done = call(SCRIPT, **on(pair, SERVER_DB_URL=url))
        refused(done, said, hint)
        assert "cannot connect to the server (postgresql://" in done.stderr
        assert "S3cret" not in done.stderr
    done = call(SCRIPT, **on(pair, LOCAL_DB_URL="postgresql://127.0.0.1:1/app"))
    refused(done, "cannot connect to local", "LOCAL_DB_URL=embedded")


def test_tls_that_is_demanded_and_missing_is_named(pair: Pair) -> None:
    if pair.source("show ssl") != [("off",)]:
        pytest.skip("this server has TLS on")
    done = call(SCRIPT, **on(pair, SERVER_DB_URL=pair.url("source", via="tcp") + "?sslmode=require"))
    refused(done, "does not support SSL", "sslmode=prefer")


def test_tls_is_used_where_the_server_has_it(make_pair: MakePair, oldest: int) -> None:
    secure = make_pair(oldest)
    certificate = secure.source_server.enable_tls()  # until the next test has it
    url = secure.url("source", via="tcp")
    assert call(SCRIPT, **on(secure, SERVER_DB_URL=f"{url}?sslmode=require")).returncode == 0
    verified = f"{url}?sslmode=verify-ca&sslrootcert={certificate}"
    assert call(SCRIPT, **on(secure, SERVER_DB_URL=verified)).returncode == 0
    refused(
        call(SCRIPT, **on(secure, SERVER_DB_URL=f"{url}?sslmode=verify-ca&sslrootcert=/nonexistent")),
        "root certificate",
        "sslrootcert",
    )


def test_what_libpq_reads_itself_keeps_working(pair: Pair, tmp_path: Path) -> None:
    pair.add_messages("source", 5)
    server = pair.source_server
    password = pair.url("source", via="tcp").split(":")[2].split("@")[0].replace("%20", " ")
    passfile = tmp_path / "pgpass"
    passfile.write_text(f"127.0.0.1:{server.port}:{pair.source_db}:postgres:{password}\n")
    passfile.chmod(0o600)
    services = tmp_path / "services"
    services.write_text(f"[prod]\nhost=127.0.0.1\nport={server.port}\ndbname={pair.source_db}\nuser=postgres\n")
    libpq = {"PGPASSFILE": str(passfile), "PGSERVICEFILE": str(services)}
    done = call(SCRIPT, **on(pair, SERVER_DB_URL="postgresql:///?service=prod", **libpq))
    assert done.returncode == 0, done.stderr
    from_parts = {"SERVER_DB_USER": "postgres", "PGHOST": str(server.folder), "PGPORT": str(server.port)}
    done = call(SCRIPT, LOCAL_DB_URL=pair.target_url, SERVER_DB_NAME=pair.source_db, **from_parts)
    assert done.returncode == 0, done.stderr


def test_what_is_not_there_is_named_with_what_there_is(pair: Pair) -> None:
    refused(
        call([*PGPULL, "pull"], "askwealth.mesage", **on(pair)),
        "no table askwealth.mesage",
        "askwealth.message",
    )
    refused(call([*PGPULL, "pull"], "message", **on(pair)), "no table public.message", "askwealth.message\n")
    refused(call([*PGPULL, "pull"], "nope.message", **on(pair)), "no schema nope", "askwealth")
    words = ["askwealth.message", "--equals", "colour=red"]
    refused(call([*PGPULL, "pull"], *words, **on(pair)), "no column colour", "message_id, role")
    pair.target("drop table askwealth.message")
    refused(call(SCRIPT, **on(pair)), "local", 'CREATE TABLE "askwealth"."message"')


def test_a_table_that_is_the_source_itself_is_refused(pair: Pair) -> None:
    done = call(SCRIPT, **on(pair, LOCAL_DB_URL=pair.url("source", via="tcp")))
    refused(done, "same database", "check LOCAL_DB_URL")


def test_no_secret_is_seen_anywhere(pair: Pair, tmp_path: Path) -> None:
    pair.add_messages("source", 20)
    pair.target("alter table askwealth.message add constraint no_user check (role <> 'user')")
    source, target = (pair.url(side, via="tcp") for side in ("source", "target"))
    password = "superuser of the tests"
    assert password.replace(" ", "%20") in source
    outputs = []
    for words in ([], ["--verbose"], ["--json"], ["--thread-id", "x"]):
        done = call(SCRIPT, *words, "--log-file", "log", SERVER_DB_URL=source, LOCAL_DB_URL=target)
        outputs += [done.stdout, done.stderr]
    outputs += [path.read_text() for path in tmp_path.iterdir()]
    for output in outputs:
        assert password not in output
        assert password.replace(" ", "%20") not in output


@pytest.mark.parametrize("no_color", ["", "1"])
def test_a_pipe_gets_plain_lines(pair: Pair, no_color: str) -> None:
    pair.add_messages("source", 5)
    done = call(SCRIPT, **on(pair, NO_COLOR=no_color))
    assert "\x1b" not in done.stdout
    assert max(map(len, done.stdout.splitlines())) > 100  # long lines stay whole


def test_people_without_a_postgres_get_a_private_one_and_the_table_in_it(pair: Pair, tmp_path: Path) -> None:
    pair.add_messages("source", 20)
    settings = {"SERVER_DB_URL": pair.source_url, "LOCAL_DB_URL": "embedded:here/data"}
    try:
        checked = call(PGPULL, "check", "askwealth.message", **settings)
        assert checked.returncode == 0, checked.stdout
        assert "a pull makes it" in checked.stdout
        wrong = call(PGPULL, "check", "askwealth.message", "--window", "no_such", **settings)
        assert (wrong.returncode, "no_such" in wrong.stdout) == (3, True)
        foretold = call(SCRIPT, "--dry-run", **settings)
        assert "fetched 20 = inserted 20" in foretold.stdout, foretold.stderr
        assert "a pull makes it" in call(PGPULL, "check", "askwealth.message", **settings).stdout
        done = call(SCRIPT, **settings)
        assert done.returncode == 0, done.stderr
        assert "fetched 20 = inserted 20" in done.stdout
        assert (tmp_path / "here" / "data" / "data" / "PG_VERSION").exists()
        assert "skipped 20" in call(SCRIPT, **settings).stdout
    finally:
        embedded.stop(tmp_path / "here" / "data")


def test_the_private_postgres_is_shown_started_and_stopped(tmp_path: Path) -> None:
    settings = {"LOCAL_DB_URL": "embedded:here/data"}
    try:
        shown = call(PGPULL, "embedded", **settings)
        assert (shown.returncode, "not running" in shown.stdout) == (0, True)
        assert not (tmp_path / "here").exists()
        started = call(PGPULL, "embedded", "--start", **settings)
        assert started.returncode == 0, started.stderr
        [url] = re.findall(r"^URL +(\S+)$", started.stdout, re.MULTILINE)
        with psycopg.connect(url) as connection:
            assert connection.execute("select 1").fetchone() == (1,)
        assert url in call(PGPULL, "embedded", **settings).stdout
        assert "not running" in call(PGPULL, "embedded", "--stop", **settings).stdout
        assert not embedded.is_running(tmp_path / "here" / "data")
    finally:
        embedded.stop(tmp_path / "here" / "data")


def test_a_local_that_is_no_private_postgres_is_neither_started_nor_stopped(pair: Pair) -> None:
    done = call(PGPULL, "embedded", "--stop", **on(pair))
    assert (done.returncode, "local is no embedded Postgres" in done.stderr) == (2, True)
    done = call(PGPULL, "embedded", "--stop", "--start", **on(pair))
    assert (done.returncode, "contradict each other" in done.stderr) == (2, True)
