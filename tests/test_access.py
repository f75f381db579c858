"""Every way in: TLS unless somebody says otherwise, certificates, and passwords that a command prints."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from pgpull import ConnectFailed, Listener, SettingsError, asking, check, pull, reaching
from pgpull.resolving import resolve
from pgpull.settings import load
from tests.conftest import MakePair
from tests.support import Pair, Side, Unavailable, available_versions

TABLE = "askwealth.message"

# An address of the loopback that does not look like one: it stands for a host elsewhere.
ELSEWHERE = "127.1"


def elsewhere(url: str) -> str:
    return url.replace("127.0.0.1", ELSEWHERE)


def tells_tls(**parameters: str) -> bool:
    resolved = resolve(parameters)
    return resolved.tls_unsaid and not resolved.is_local


@pytest.mark.parametrize(
    ("parameters", "local"),
    [
        ({}, True),
        ({"host": "/run/postgresql"}, True),
        ({"host": "@abstract"}, True),
        ({"host": "localhost"}, True),
        ({"host": "127.0.0.1"}, True),
        ({"host": "::1"}, True),
        ({"host": "db", "hostaddr": "127.0.0.1"}, True),
        ({"host": "/run/postgresql,localhost"}, True),
        ({"host": "db.example.com"}, False),
        ({"host": "192.0.2.7"}, False),
        ({"host": "localhost", "hostaddr": "192.0.2.7"}, False),
        ({"host": "localhost,db.example.com"}, False),
    ],
)
def test_tls_is_asked_for_unless_the_source_is_on_this_machine(parameters: dict[str, str], local: bool) -> None:
    assert resolve(parameters).is_local is local
    assert tells_tls(**parameters) is not local


def test_whoever_says_something_of_tls_is_listened_to(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    services = tmp_path / "services"
    services.write_text("[says]\nhost=db\nsslmode=prefer\n[says_not]\nhost=db\nport=77\n")
    monkeypatch.setenv("PGSERVICEFILE", str(services))
    for mode in ("disable", "allow", "prefer", "require", "verify-full"):
        assert not tells_tls(host="db", sslmode=mode)
    assert not tells_tls(service="says")
    assert tells_tls(service="says_not")
    assert resolve({"service": "says_not"}).port == "77"
    assert not tells_tls(host="db", sslrootcert="system")  # libpq itself asks for more then
    assert tells_tls(host="db", sslrootcert="/a/file")
    monkeypatch.setenv("PGSERVICE", "says")
    assert not tells_tls()
    monkeypatch.delenv("PGSERVICE")
    monkeypatch.setenv("PGSSLMODE", "prefer")
    assert not tells_tls(host="db")
    assert not tells_tls(service="says_not")


def test_a_server_without_tls_is_refused_and_the_hint_says_how_to_go_without(pair: Pair) -> None:
    pair.add_messages("source", 3)
    url = elsewhere(pair.url("source", via="tcp"))
    for look in (pull, check):
        if look is check:
            assert any(
                "does not support SSL" in f.fact for f in check(source=url, target=pair.target_url).findings
            )
            continue
        with pytest.raises(ConnectFailed, match="does not support SSL") as caught:
            pull(TABLE, source=url, target=pair.target_url)
        assert "SERVER_DB_SSLMODE=prefer" in caught.value.hint
        assert "can read the rows" in caught.value.hint
    assert pull(TABLE, source=f"{url}?sslmode=prefer", target=pair.target_url).tally.inserted == 3


def test_libpqs_own_setting_lets_a_server_be_without_tls(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PGSSLMODE", "prefer")
    url = elsewhere(pair.url("source", via="tcp"))
    assert pull(TABLE, source=url, target=pair.target_url).tally.fetched == 0


def test_a_local_source_and_the_target_stay_as_libpq_has_them(pair: Pair) -> None:
    target = elsewhere(pair.url("target", via="tcp"))
    assert pull(TABLE, source=pair.url("source", via="tcp"), target=target).tally.fetched == 0


# --- with TLS on -----------------------------------------------------------------------------------------


Secure = tuple[Pair, Path]


@pytest.fixture
def secure(make_pair: MakePair) -> Secure:
    """Give a pair whose source has TLS until the next test has its server, and the certificate of that."""
    for version in available_versions():
        pair = make_pair(version)
        with suppress(Unavailable):
            return pair, pair.source_server.enable_tls()
    pytest.skip("no PostgreSQL of this machine has TLS")


def test_tls_is_used_without_a_word(secure: Secure) -> None:
    pair, _ = secure
    checkup = check(source=elsewhere(pair.url("source", via="tcp")), target=pair.target_url)
    assert any("encrypted by TLSv1" in finding.fact for finding in checkup.findings)


def test_a_certificate_is_checked_where_that_is_asked_for(secure: Secure, tmp_path: Path) -> None:
    pair, certificate = secure
    url = pair.url("source", via="tcp")
    full = f"{url}?sslmode=verify-full&sslrootcert={certificate}"
    assert pull(TABLE, source=full, target=pair.target_url).tally.fetched == 0
    other_name = full.replace("@127.0.0.1", "@db.example.com") + "&hostaddr=127.0.0.1"
    with pytest.raises(ConnectFailed, match="does not match host name") as caught:
        pull(TABLE, source=other_name, target=pair.target_url)
    assert "as the certificate has it" in caught.value.hint
    other = tmp_path / "other.crt"
    make_certificate(tmp_path, "other", "/CN=other")
    with pytest.raises(ConnectFailed, match="certificate verify failed") as caught:
        pull(TABLE, source=f"{url}?sslmode=verify-full&sslrootcert={other}", target=pair.target_url)
    assert "SERVER_DB_SSLROOTCERT" in caught.value.hint


def make_certificate(folder: Path, name: str, subject: str, *signed: str) -> None:
    made = f"openssl req -x509 -nodes -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -days 2 -subj {subject}"
    files = ("-keyout", f"{name}.key", "-out", f"{name}.crt")
    subprocess.run([*made.split(), *files, *signed], cwd=folder, check=True, capture_output=True)
    (folder / f"{name}.key").chmod(0o600)


def test_a_client_certificate_lets_us_in(
    secure: Secure, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pair, certificate = secure
    server = pair.source_server
    pair.source("create role certified login superuser")
    make_certificate(tmp_path, "mine", "/CN=certified")
    shutil.copy(tmp_path / "mine.crt", server.folder / "clients.crt")
    (server.folder / "clients.crt").chmod(0o644)
    hba = server.data / "pg_hba.conf"
    before = hba.read_text()
    try:
        hba.write_text(f"hostssl all certified 127.0.0.1/32 cert\n{before}")
        server.configure(ssl_ca_file=str(server.folder / "clients.crt"))
        env = tmp_path / ".env"
        lines = [
            f"SERVER_DB_URL=postgresql://certified@127.0.0.1:{server.port}/{pair.source_db}",
            f"SERVER_DB_SSLROOTCERT={certificate}",
            "SERVER_DB_SSLMODE=verify-full",
            f"LOCAL_DB_URL='{pair.target_url}'",
        ]
        env.write_text("\n".join(lines))
        with pytest.raises(ConnectFailed, match="certificate") as caught:
            pull_by(load(env))
        assert "SERVER_DB_SSLCERT" in caught.value.hint
        monkeypatch.setenv("HOME", str(tmp_path))
        lines += ["SERVER_DB_SSLCERT=~/mine.crt", "SERVER_DB_SSLKEY=~/mine.key"]
        env.write_text("\n".join(lines))
        assert pull_by(load(env)).tally.fetched == 0
        (tmp_path / "mine.key").chmod(0o644)
        with pytest.raises(ConnectFailed, match="private key") as caught:
            pull_by(load(env))
        assert "chmod 600" in caught.value.hint
    finally:
        hba.write_text(before)
        server.configure(ssl_ca_file=None)
        pair.source("drop role certified")


def pull_by(settings: Any, **words: Any) -> Any:
    return pull(TABLE, source=settings.source, target=settings.target, **words)


# --- passwords that a command prints ---------------------------------------------------------------------


@pytest.fixture(autouse=True)
def none_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reaching, "_passwords", asking.Passwords())


@pytest.fixture
def dated(pair: Pair) -> Iterator[Pair]:
    """Give a pair with a role on both sides whose password changes."""
    pair.add_messages("source", 40)
    sides: tuple[Side, Side] = ("source", "target")
    for side in sides:
        pair.run(side, "drop role if exists dated", "create role dated login superuser password 'first'")
    yield pair
    for side in sides:
        pair.run(side, "drop role dated")


def asked(folder: Path, password: str = "first") -> tuple[str, Callable[[], int]]:
    """Return a command that prints a password, and how often it was run."""
    (folder / "password").write_text(f"{password}\n")
    calls = folder / "calls"
    calls.touch()
    return f"echo x >> {calls}; cat {folder / 'password'}", lambda: calls.read_text().count("x")


def by_command(pair: Pair, folder: Path, command: str, *lines: str) -> Path:
    env = folder / ".env"
    url = pair.url("source", user="dated", via="tcp")
    env.write_text(
        f"SERVER_DB_URL='{url}'\nSERVER_DB_PASSWORD_COMMAND='{command}'\n"
        f"LOCAL_DB_URL='{pair.target_url}'\n" + "\n".join(lines)
    )
    return env


def test_a_command_prints_the_password_of_either_side(dated: Pair, tmp_path: Path) -> None:
    command, count = asked(tmp_path)
    env = by_command(dated, tmp_path, command)
    local = dated.url("target", user="dated", via="tcp")
    text = env.read_text().replace(dated.target_url, local)
    env.write_text(f"{text}LOCAL_DB_PASSWORD_COMMAND='{command}'\n")
    assert pull_by(load(env)).tally.inserted == 40
    assert count() == 1  # both sides' sessions were opened within seconds
    assert "first" not in repr(load(env))


def test_a_password_that_is_taken_no_more_is_asked_for_anew(dated: Pair, tmp_path: Path) -> None:
    command, count = asked(tmp_path)
    settings = load(by_command(dated, tmp_path, command))
    assert pull_by(settings).tally.inserted == 40
    dated.source("alter role dated password 'second'")
    (tmp_path / "password").write_text("second\n")
    assert pull_by(settings).tally.skipped == 40
    assert count() == 2
    dated.source("alter role dated password 'third'")
    with pytest.raises(ConnectFailed, match="password authentication failed") as caught:
        pull_by(settings)
    assert "SERVER_DB_PASSWORD_COMMAND" in caught.value.hint
    assert "second" not in str(caught.value)


def test_a_password_is_asked_for_again_after_some_seconds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    command, count = asked(tmp_path)
    passwords = asking.Passwords()
    assert {passwords.ask(command, "X")[0] for _ in range(3)} == {"first"}
    assert count() == 1
    monkeypatch.setattr(asking, "FRESH_SECONDS", 0.0)
    passwords.ask(command, "X")
    assert count() == 2


@pytest.mark.usefixtures("hasty")
def test_a_reconnect_takes_the_password_of_then(dated: Pair, tmp_path: Path) -> None:
    command, _ = asked(tmp_path)

    class Rotate(Listener):
        rotated = False

        def planned(self, *_: object) -> None:
            if not self.rotated:
                self.rotated = True
                dated.source("alter role dated password 'second'")
                (tmp_path / "password").write_text("second\n")
                dated.source("select pg_terminate_backend(pid) from pg_stat_activity where usename = 'dated'")

    report = pull_by(load(by_command(dated, tmp_path, command)), listener=Rotate())
    assert (report.tally.inserted, report.passes) == (40, 2)


@pytest.mark.parametrize(
    ("command", "said"),
    [
        ("exit 3", "exit status 3, 0 characters"),
        ("true", "exit status 0, 0 characters"),
        ("echo; echo", "gave no password"),
        ("echo S3cret; exit 1", "exit status 1, 7 characters"),
        ("echo S3cret; echo S3cret", "printed 2 lines"),
        (r"printf 'S3cret\377'", "not UTF-8"),
        ("no-such-program-here S3cret 2>/dev/null", "exit status 127"),
    ],
)
def test_a_command_that_prints_no_password_is_an_error_without_what_it_printed(command: str, said: str) -> None:
    with pytest.raises(SettingsError) as caught:
        asking.printed(command, "SERVER_DB_PASSWORD_COMMAND", "password")
    assert said in caught.value.message
    assert caught.value.message.startswith("SERVER_DB_PASSWORD_COMMAND")
    assert "run it by hand" in caught.value.hint
    assert "S3cret" not in caught.value.message + caught.value.hint


def test_only_the_ends_newline_is_no_part_of_a_password() -> None:
    assert asking.printed("printf ' a b \\n'", "X", "password") == " a b "
    assert asking.printed("printf 'ab'", "X", "password") == "ab"


def test_a_command_that_waits_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(asking, "COMMAND_SECONDS", 0.1)
    with pytest.raises(SettingsError, match=r"printed nothing within 0\.1 s"):
        asking.printed("exec sleep 5", "X", "password")


def test_a_command_that_fails_on_connecting_is_named_with_the_database(pair: Pair, tmp_path: Path) -> None:
    settings = load(by_command(pair, tmp_path, "exit 3"))
    with pytest.raises(ConnectFailed, match="SERVER_DB_PASSWORD_COMMAND gave no password: exit status 3"):
        pull_by(settings)


def test_two_places_for_a_password_contradict_each_other(tmp_path: Path) -> None:
    for other in ("SERVER_DB_URL=postgresql://u:S3cret@db/app", "SERVER_DB_HOST=db\nSERVER_DB_PASSWORD=S3cret"):
        (tmp_path / ".env").write_text(
            f"{other}\nSERVER_DB_PASSWORD_COMMAND=echo\nLOCAL_DB_URL=postgresql:///a\n"
        )
        with pytest.raises(SettingsError, match="PASSWORD_COMMAND contradict") as caught:
            load(tmp_path / ".env")
        assert "S3cret" not in str(caught.value)
