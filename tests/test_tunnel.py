"""Through a bastion, by the system's own ssh to a real sshd: there and back, and never left standing."""

from __future__ import annotations

import os
import pty
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import psutil
import psycopg
import pytest

from pgpull import ConnectFailed, Listener, SettingsError, parting, pull, status, tunnels
from pgpull.bastions import Bastion, hint_for, reason
from pgpull.endpoints import Endpoint
from pgpull.settings import load
from tests.conftest import MakePair
from tests.support import Pair, Unavailable, free_port, programs
from tests.support.sshd import Sshd, make_key

TABLE = "askwealth.message"
KEEPER = 11


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sshd]:
    """Give the sshd of these tests."""
    try:
        started = Sshd(tmp_path_factory.mktemp("sshd"))
        started.start()
    except Unavailable as error:
        pytest.skip(str(error))
    yield started
    started.stop()


@pytest.fixture
def sshd(daemon: Sshd) -> Iterator[Sshd]:
    """Give the sshd as it is at first."""
    yield daemon
    daemon.know_host()
    daemon.client()
    left = [child for child in psutil.Process().children(recursive=True) if child.name() == "ssh"]
    assert not left


def env(pair: Pair, sshd: Sshd, folder: Path, *lines: str, url: str = "") -> Path:
    file = folder / ".env"
    url = url or pair.url("source", via="tcp")
    file.write_text(
        "\n".join([f"SERVER_DB_URL='{url}'", f"LOCAL_DB_URL='{pair.target_url}'", *sshd.settings, *lines])
    )
    return file


def pulled(pair: Pair, sshd: Sshd, folder: Path, *lines: str, url: str = "", **words: Any) -> Any:
    settings = load(env(pair, sshd, folder, *lines, url=url))
    return pull(TABLE, source=settings.source, target=settings.target, **words)


# --- there and back --------------------------------------------------------------------------------------


def test_rows_come_through_a_bastion_and_it_is_named(pair: Pair, sshd: Sshd, tmp_path: Path) -> None:
    pair.add_messages("source", 50)
    before = sshd.logins
    assert pulled(pair, sshd, tmp_path, verify=True).tally.inserted == 50
    assert pair.same(TABLE)
    assert sshd.logins == before + 1
    address = re.escape(f"postgresql://postgres@127.0.0.1:{pair.source_server.port}/{pair.source_db}")
    assert re.fullmatch(f"{address} via bastion", str(load().source))


def test_every_command_goes_the_same_way(pair: Pair, sshd: Sshd, tmp_path: Path) -> None:
    pair.add_messages("source", 5)
    env(pair, sshd, tmp_path)
    for words, said in (
        (["check"], "through an ssh tunnel"),
        (["pull", TABLE, "--dry-run"], "via bastion"),
        (["status", TABLE], "via bastion"),
        (["diff", TABLE], "missing here"),
        (["export", TABLE, "--to", "archive"], "archived 5 rows"),
        (["pull", TABLE, "--no-snapshot"], "via bastion"),
    ):
        before = sshd.logins
        done = run(*words)
        assert said in done.stdout, done.stderr
        assert sshd.logins == before + 1


def run(*words: str) -> programs.Done:
    return programs.run([sys.executable, "-m", "pgpull", *words], os.environ)


def test_workers_share_one_way(pair: Pair, sshd: Sshd, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parting, "WORTH_BYTES", 0)
    pair.add_messages("source", 3000)
    before = sshd.logins

    class Count(Listener):
        sessions = 0

        def progressed(self, *_: object) -> None:
            rows = pair.source("select count(*) from pg_stat_activity where application_name = 'pgpull'")
            self.sessions = max(self.sessions, *rows[0])

    count = Count()
    assert pulled(pair, sshd, tmp_path, jobs=3, batch_size=200, listener=count).tally.inserted == 3000
    assert count.sessions == 3
    assert sshd.logins == before + 1


def test_a_key_of_an_agent_opens_it_too(pair: Pair, sshd: Sshd, tmp_path: Path) -> None:
    if not (shutil.which("ssh-agent") and shutil.which("ssh-add")):
        pytest.skip("there is no ssh-agent on this machine")
    socket = Path(tunnels._own_folder()) / "agent"
    agent = subprocess.Popen(["ssh-agent", "-D", "-a", str(socket)], stdout=subprocess.DEVNULL)
    try:
        wait_until(socket.exists)
        adding = {**os.environ, "SSH_AUTH_SOCK": str(socket)}
        subprocess.run(["ssh-add", "-q", str(sshd.folder / "key")], env=adding, check=True)
        sshd.client(key="no_such_key", agent=str(socket))
        assert pulled(pair, sshd, tmp_path).tally.fetched == 0
        subprocess.run(["ssh-add", "-q", "-D"], env=adding, check=True, capture_output=True)
        with pytest.raises(ConnectFailed, match="Permission denied"):
            pulled(pair, sshd, tmp_path)
    finally:
        agent.kill()
        agent.wait()
        shutil.rmtree(socket.parent)


def wait_until(condition: Callable[[], object], seconds: float = 20.0) -> None:
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.02)


def test_the_password_file_is_asked_for_the_port_that_the_user_knows(
    pair: Pair, sshd: Sshd, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = pair.source_server
    passfile = tmp_path / "pgpass"
    passfile.write_text(f"localhost:{server.port}:{pair.source_db}:postgres:superuser of the tests\n")
    passfile.chmod(0o600)
    monkeypatch.setenv("PGPASSFILE", str(passfile))
    url = f"postgresql://postgres@localhost:{server.port}/{pair.source_db}"
    assert pulled(pair, sshd, tmp_path, url=url).tally.fetched == 0


def test_a_socket_of_the_bastion_is_reached(pair: Pair, sshd: Sshd, tmp_path: Path) -> None:
    pair.add_messages("source", 5)
    assert pulled(pair, sshd, tmp_path, url=pair.source_url).tally.inserted == 5


def test_the_certificate_is_held_against_the_name_that_the_user_knows(
    make_pair: MakePair, oldest: int, sshd: Sshd, tmp_path: Path
) -> None:
    pair = make_pair(oldest)
    certificate = pair.source_server.enable_tls()  # until the next test has it
    url = pair.url("source", via="tcp").replace("127.0.0.1", "localhost")
    tls = f"?sslmode=verify-full&sslrootcert={certificate}"
    assert pulled(pair, sshd, tmp_path, url=url + tls).tally.fetched == 0
    wrong = f"{url.replace('localhost', 'db.example.com')}{tls}&hostaddr=127.0.0.1"
    with pytest.raises(ConnectFailed, match="does not match host name"):
        pulled(pair, sshd, tmp_path, url=wrong)


def test_pg_dump_takes_the_same_way(make_pair: MakePair, sshd: Sshd, tmp_path: Path) -> None:
    pair = make_pair(schema="create table t (id int primary key)", target_schema="")
    pair.source("insert into t values (1)")
    env(pair, sshd, tmp_path)
    before = sshd.logins
    done = run("pull", "t", "--create-missing")
    assert done.returncode == 0, done.stderr
    assert pair.target("select * from t") == [(1,)]
    assert sshd.logins == before + 1


# --- what ssh says ---------------------------------------------------------------------------------------


def refused(pair: Pair, sshd: Sshd, folder: Path, *lines: str, url: str = "") -> tuple[str, str]:
    with pytest.raises(ConnectFailed) as caught:
        pulled(pair, sshd, folder, *lines, url=url)
    assert "superuser" not in caught.value.message
    return caught.value.message, caught.value.hint


def test_a_changed_host_key_is_refused(pair: Pair, sshd: Sshd, tmp_path: Path) -> None:
    make_key(tmp_path / "other_key")
    shutil.copy(tmp_path / "other_key.pub", sshd.folder / "other_key.pub")
    sshd.know_host("other_key")
    before = sshd.logins
    message, hint = refused(pair, sshd, tmp_path)
    assert "bastion" in message
    assert "REMOTE HOST IDENTIFICATION HAS CHANGED" in message
    assert "somebody may stand in between" in hint
    assert sshd.logins == before


def test_a_host_that_is_not_known_is_refused(pair: Pair, sshd: Sshd, tmp_path: Path) -> None:
    (sshd.folder / "known_hosts").write_text("")
    message, hint = refused(pair, sshd, tmp_path)
    assert "Host key verification failed" in message
    assert "once by hand" in hint
    assert (sshd.folder / "known_hosts").read_text() == ""


def test_a_refused_key_is_named(pair: Pair, sshd: Sshd, tmp_path: Path) -> None:
    make_key(sshd.folder / "stranger") if not (sshd.folder / "stranger").exists() else None
    sshd.client(key="stranger")
    message, hint = refused(pair, sshd, tmp_path)
    assert "Permission denied (publickey)" in message
    assert "ssh-add" in hint


def test_a_port_that_nobody_listens_on_behind_it_is_named(pair: Pair, sshd: Sshd, tmp_path: Path) -> None:
    port = free_port()
    message, hint = refused(pair, sshd, tmp_path, url=f"postgresql://u:pw@127.0.0.1:{port}/app")
    assert (
        f"cannot reach 127.0.0.1:{port} from the bastion bastion: connect failed: Connection refused" in message
    )
    assert "is Postgres running there" in hint


def test_a_host_that_the_bastion_does_not_know_is_named(pair: Pair, sshd: Sshd, tmp_path: Path) -> None:
    message, hint = refused(pair, sshd, tmp_path, url="postgresql://u:pw@no-such-host.invalid/app")
    assert "cannot reach no-such-host.invalid:5432 from the bastion bastion" in message
    assert hint


def test_a_bastion_that_is_not_there_is_named(pair: Pair, sshd: Sshd, tmp_path: Path) -> None:
    options = f"SERVER_SSH_OPTIONS='-F {sshd.folder}/ssh_config'"
    message, hint = refused(pair, sshd, tmp_path, f"SERVER_SSH=127.0.0.1:{free_port()}", options)
    assert "Connection refused" in message
    assert "is the bastion up" in hint
    message, hint = refused(pair, sshd, tmp_path, "SERVER_SSH=me@no-such-bastion.invalid", options)
    assert "Could not resolve hostname no-such-bastion.invalid" in message
    assert "check the host in SERVER_SSH" in hint


def test_options_that_ssh_does_not_know_are_named(pair: Pair, sshd: Sshd, tmp_path: Path) -> None:
    message, hint = refused(pair, sshd, tmp_path, "SERVER_SSH_OPTIONS='-o NoSuchOption=1'")
    assert "nosuchoption" in message.lower()
    assert "SERVER_SSH_OPTIONS" in hint


def test_a_machine_without_ssh_is_told_so(
    pair: Pair, sshd: Sshd, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    message, hint = refused(pair, sshd, tmp_path)
    assert "there is no ssh on this machine" in message
    assert "openssh-client" in hint


def test_a_bastion_that_forwards_nothing_is_named(pair: Pair, tmp_path: Path) -> None:
    folder = tmp_path / "strict"
    folder.mkdir()
    with Sshd(folder, "AllowTcpForwarding no") as strict:
        message, hint = refused(pair, strict, tmp_path)
    assert "administratively prohibited" in message
    assert "AllowTcpForwarding" in hint


# --- however it ends -------------------------------------------------------------------------------------


@pytest.mark.usefixtures("hasty")
def test_a_lost_way_is_opened_again(pair: Pair, sshd: Sshd, tmp_path: Path) -> None:
    pair.add_messages("source", 2000)

    class Cut(Listener):
        done_so = False

        def progressed(self, *_: object) -> None:
            if not self.done_so:
                self.done_so = True
                sshd.cut()

    before = sshd.logins
    waits = "pg_sleep(case when created_at = '2025-01-01 00:00:00+00' then 0.2 else 0 end) is not null"
    report = pulled(pair, sshd, tmp_path, batch_size=100, listener=Cut(), where=waits)
    assert report.tally.fetched == report.tally.inserted + report.tally.skipped
    assert pair.same(TABLE)
    assert sshd.logins >= before + 1


@pytest.mark.usefixtures("hasty")
def test_a_way_that_hangs_is_given_up_and_opened_again(pair: Pair, sshd: Sshd, tmp_path: Path) -> None:
    pair.add_messages("source", 20)

    class Freeze(Listener):
        done_so = False

        def planned(self, *_: object) -> None:
            if not self.done_so:
                self.done_so = True
                sshd.freeze()

    soon = f"SERVER_SSH_OPTIONS='-F {sshd.folder}/ssh_config -o ServerAliveInterval=1 -o ServerAliveCountMax=1'"
    report = pulled(pair, sshd, tmp_path, soon, listener=Freeze())
    sshd.cut()
    assert (report.tally.inserted, report.passes) == (20, 2)


@pytest.mark.usefixtures("hasty")
def test_a_way_that_does_not_come_back_ends_the_run_with_the_words_of_ssh(pair: Pair, tmp_path: Path) -> None:
    pair.add_messages("source", 2000)
    folder = tmp_path / "mortal"
    folder.mkdir()
    with Sshd(folder) as mortal:

        class Stop(Listener):
            def planned(self, *_: object) -> None:
                mortal.stop()

        with pytest.raises(Exception, match="Connection refused") as caught:
            pulled(pair, mortal, tmp_path, retries=2, listener=Stop())
        assert "connection to the server was lost" in str(caught.value)


@pytest.mark.parametrize(
    ("end", "through"),
    [
        (signal.SIGKILL, ()),
        (signal.SIGTERM, ()),
        (signal.SIGHUP, ()),  # its terminal is closed: all that runs there hears of it
        (signal.SIGKILL, ("SERVER_SSH=inner", "SERVER_SSH_OPTIONS='-F {folder}/ssh_config -J bastion'")),
    ],
)
def test_ssh_ends_with_us_whatever_ends_us(
    pair: Pair, sshd: Sshd, tmp_path: Path, end: signal.Signals, through: tuple[str, ...]
) -> None:
    pair.add_messages("source", 10)
    env(pair, sshd, tmp_path, *(line.format(folder=sshd.folder) for line in through))
    waits = f"pg_advisory_xact_lock_shared({KEEPER}) is not null"
    with gate(pair):
        command = [sys.executable, "-m", "pgpull", "pull", TABLE, "--where", waits]
        nowhere = subprocess.DEVNULL
        ours = subprocess.Popen(command, stdout=nowhere, stderr=nowhere, start_new_session=True)
        wait_until(lambda: waiting(pair))
        children = psutil.Process(ours.pid).children(recursive=True)
        assert [child.name() for child in children].count("ssh") == (2 if through else 1)
        [folder] = {str(word).partition("/open:")[0] for word in ssh_words(children) if "/open:" in word}
        assert Path(folder).is_dir()
        os.killpg(ours.pid, end) if end is signal.SIGHUP else ours.send_signal(end)
        ours.wait(20)
    _, alive = psutil.wait_procs(children, timeout=10)
    assert not [child for child in alive if child.is_running() and child.status() != psutil.STATUS_ZOMBIE]
    assert not Path(folder).exists()


def ssh_words(children: list[psutil.Process]) -> list[str]:
    return [word for child in children if child.name() == "ssh" for word in child.cmdline()]


def waiting(pair: Pair) -> bool:
    return bool(pair.source("select 1 from pg_locks where locktype = 'advisory' and not granted"))


@contextmanager
def gate(pair: Pair) -> Iterator[None]:
    """Hold the source back."""
    with psycopg.connect(pair.source_url) as connection:
        connection.execute("select pg_advisory_xact_lock(%s)", [KEEPER])
        yield


def test_on_a_terminal_ssh_asks_for_what_it_needs(pair: Pair, sshd: Sshd, tmp_path: Path) -> None:
    make_key(tmp_path / "locked", "open sesame")
    shutil.copy(tmp_path / "locked", sshd.folder / "locked")
    keys = sshd.folder / "authorized_keys"
    before = keys.read_text()
    keys.write_text(before + (tmp_path / "locked.pub").read_text())
    sshd.client(key="locked")
    env(pair, sshd, tmp_path)
    try:
        assert "Permission denied" in run("check").stdout  # nobody is there to ask
        said = on_a_terminal([sys.executable, "-m", "pgpull", "check"], "passphrase", "open sesame\n")
        assert "through an ssh tunnel" in said
    finally:
        keys.write_text(before)
        (sshd.folder / "locked").unlink()


def on_a_terminal(command: list[str], question: str, answer: str) -> str:
    """Run a command on a terminal of its own, answer a question, and return all that stood there."""
    pid, terminal = pty.fork()
    if pid == 0:
        os.execv(command[0], command)
    said = b""
    with os.fdopen(terminal, "r+b", buffering=0) as line, suppress(OSError):  # it ends with an error on Linux
        while more := line.read(1000):
            said += more
            if answer and question.encode() in said:
                line.write(answer.encode())
                answer = ""
    os.waitpid(pid, 0)
    return said.decode(errors="replace")


# --- how it is written -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "destination", "port"),
    [
        ("me@bastion", "me@bastion", ""),
        ("bastion:2222", "bastion", "2222"),
        ("me@bastion:2222", "me@bastion", "2222"),
        ("me@[2001:db8::1]:22", "me@2001:db8::1", "22"),
        ("2001:db8::1", "2001:db8::1", ""),
        ("ssh://me@bastion:2222", "ssh://me@bastion:2222", ""),
    ],
)
def test_a_bastion_is_written_as_ssh_has_it(text: str, destination: str, port: str) -> None:
    bastion = Bastion.parse(text)
    assert (bastion.destination, bastion.port) == (destination, port)
    command = bastion.command("ssh", ("1:a:2",), asks=False)
    assert command[-2:] == ["--", destination]
    assert "BatchMode=yes" in command
    assert "BatchMode=yes" not in bastion.command("ssh", ("1:a:2",), asks=True)


@pytest.mark.parametrize("text", ["-oProxyCommand=evil", "two words", "me@bastion:99999", " "])
def test_what_is_no_bastion_is_refused(text: str) -> None:
    with pytest.raises(SettingsError, match="SERVER_SSH"):
        Bastion.parse(text)


def test_options_are_read_as_a_shell_does() -> None:
    assert Bastion.parse("b", "-i 'a file' -J jump").options == ("-i", "a file", "-J", "jump")
    with pytest.raises(SettingsError, match="SERVER_SSH_OPTIONS"):
        Bastion.parse("b", "-i 'a file")


def test_a_banner_is_no_reason() -> None:
    banner = "Warning: Permanently added 'x' to the list.\n@@@@@@@@\n@ WARNING: it changed! @\n"
    said = f"{banner}me@x: Permission denied.\n"
    assert reason(said) == "WARNING: it changed!; me@x: Permission denied"
    assert hint_for("something new", Bastion("me@x")) == "does it work by hand? ssh me@x"
    assert "ssh -p 77 me@x" in hint_for("me@x: Permission denied", Bastion.parse("me@x:77"))


def test_several_hosts_do_not_fit_through_one_way(pair: Pair) -> None:
    source = Endpoint({"host": "a,b", "dbname": "app"}, bastion=Bastion("x"))
    with pytest.raises(SettingsError, match="several"):
        status(TABLE, source=source, target=pair.target_url)
