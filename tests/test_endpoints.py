"""Every way of writing where a database is, and none of showing its password."""

from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pgpull.endpoints import Endpoint, parse_url
from pgpull.errors import SettingsError


@pytest.mark.parametrize(
    "scheme", ["postgres", "postgresql", "postgresql+psycopg", "postgresql+psycopg2", "POSTGRES"]
)
def test_urls_are_taken_as_teams_have_them(scheme: str) -> None:
    endpoint = parse_url(f"{scheme}://me:pw@db.example.com:6432/app?sslmode=require", "SERVER_DB_URL")
    assert endpoint.parameters == {
        "user": "me",
        "password": "pw",
        "host": "db.example.com",
        "port": "6432",
        "dbname": "app",
        "sslmode": "require",
    }
    assert str(endpoint) == "postgresql://me@db.example.com:6432/app"


def test_libpqs_own_forms_are_taken() -> None:
    assert parse_url("host=/tmp dbname=app", "X").parameters == {"host": "/tmp", "dbname": "app"}
    assert parse_url("postgresql:///app?service=prod", "X").parameters["service"] == "prod"
    assert parse_url("postgresql://[::1]:5432/app", "X").parameters["host"] == "::1"
    assert parse_url("postgresql://a,b:1,c:2/app", "X").parameters["host"] == "a,b,c"
    assert str(parse_url("postgresql://a,b/app", "X")) == "postgresql://a,b/app"
    assert parse_url("postgresql://", "X").parameters == {}
    assert parse_url("postgresql://me@db:5432?sslmode=require", "X").parameters["sslmode"] == "require"
    assert parse_url("postgresql://me@db?sslrootcert=/ca.pem", "X").parameters["host"] == "db"


@given(st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), min_size=1, max_size=20))
def test_any_password_can_be_written_and_is_never_shown(password: str) -> None:
    endpoint = parse_url(f"postgresql://me:{quote(password, safe='')}@db/app", "X")
    assert endpoint.parameters["password"] == password
    assert str(endpoint) == "postgresql://me@db/app"
    assert repr(endpoint) == "Endpoint()"


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://me:se@cret@db/app",
        "postgresql://me:se/cret@db/app",
        "postgresql://me:se:cret/x@db/app",
        "postgresql://me:100%cret@db/app",
        "mysql://me:secret@db/app",
        "postgresql://me:secret@db:port/app",
        "postgresql://me:secret@db/app?nonsense=1",
        "secret",
        "",
    ],
)
def test_a_url_that_cannot_be_read_is_refused_without_showing_it(url: str) -> None:
    with pytest.raises(SettingsError) as caught:
        parse_url(url, "SERVER_DB_URL")
    assert "SERVER_DB_URL" in caught.value.message
    for word in ("cret", "nonsense=1"):
        assert word not in caught.value.message + caught.value.hint
    assert caught.value.__cause__ is None


def test_a_shown_url_can_be_given_to_psql() -> None:
    socket = Endpoint({"host": "/run/postgresql", "port": "5433", "dbname": "my db", "user": "a b"})
    assert str(socket) == "postgresql://a%20b@/my%20db?host=/run/postgresql&port=5433"
    assert parse_url(str(socket), "X") == socket
