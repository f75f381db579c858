"""Bad rows are found, named and kept; all the others go in."""

from __future__ import annotations

import errno
import fcntl
import json
import stat
from pathlib import Path
from typing import Any

import pytest

from pgpull import Reject, SettingsError, Stopped, pull, retry
from pgpull.listening import Listener
from pgpull.rejects_file import RejectsFile
from pgpull.wording import reject_text
from tests.conftest import MakePair
from tests.support import Pair

ROWS = 40


class Ear(Listener):
    """A listener that keeps what it hears."""

    def __init__(self) -> None:
        super().__init__()
        self.rejects: list[Reject] = []

    def rejected(self, reject: Reject) -> None:
        self.rejects.append(reject)


def pulled(pair: Pair, table: str = "t", **what: Any) -> tuple[Any, list[Reject], list[dict[str, Any]]]:
    """Pull, and return the tally, the rejects heard of, and those in the file."""
    ear = Ear()
    what.setdefault("rejects", "rejects.jsonl")
    what.setdefault("retries", 0)
    report = pull(table, source=pair.source_url, target=pair.target_url, listener=ear, **what)
    file = Path(what["rejects"])
    kept = [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []
    return report.tally, ear.rejects, kept


BAD: dict[str, tuple[str, str, str, str, str, str]] = {
    # what: source column, target column, good value, bad value, SQLSTATE, constraint or column
    "check": ("v int", "v int constraint positive check (v > 0)", "g", "-g", "23514", "positive"),
    "not null": ("v int", "v int not null", "g", "null", "23502", "v"),
    "unique": ("v int", "v int constraint other unique", "g", "1000", "23505", "other"),
    "parent": ("v int", "v int constraint child references p", "g", "2000", "23503", "child"),
    "deferred parent": (
        "v int",
        "v int constraint child references p deferrable initially deferred",
        "g",
        "2000",
        "23503",
        "child",
    ),
    "enum label": ("v text", "v mood", "'happy'", "'sad'", "22P02", "v"),
    "same enum, missing label": ("v mood", "v mood", "'happy'", "'grim'", "22P02", "v"),
    "length": ("v varchar(9)", "v varchar(3)", "'abc'", "'abcd'", "22001", "v"),
    "number's range": ("v bigint", "v int", "g", "1::bigint << 40", "22003", "v"),
    "numeric's range": ("v numeric", "v numeric(4,2)", "g", "12345", "22003", "v"),
    "NUL in json": ("v json", "v jsonb", "'{}'", r"""$${"a": "\u0000"}$$""", "22P05", "v"),
    "syntax": ("v text", "v int", "'7'", "'seven'", "22P02", "v"),
    "domain": ("v int", "v positive_int", "g", "-1", "23514", "positive_int_check"),
    "exclusion": ("v int4range", "v int4range", "int4range(g, g + 1)", "int4range(0, 9999)", "23P01", "apart"),
    "a function's own": ("v text", "v text check (picky(v))", "'ok'", "'no'", "P0001", ""),
    "a SQLSTATE of one's own": ("v int", "v int check (moody(v))", "g", "-1", "MY001", ""),
    "index entry's size": (
        "v text",
        "v text unique",
        "g::text",
        "(select string_agg(md5((g * 1000 + i)::text), '') from generate_series(1, 300) i)",
        "54000",
        "",
    ),
}

PREPARE = """
    create table p (id int primary key); insert into p select generate_series(1, 100);
    create type mood as enum ('happy');
    create domain positive_int as int check (value > 0);
    create function picky(text) returns boolean language plpgsql as
        $$ begin if $1 = 'no' then raise 'the value % is a secret', $1; end if; return true; end $$;
    create function moody(int) returns boolean language plpgsql as
        $$ begin if $1 < 0 then raise sqlstate 'MY001'; end if; return true; end $$;
"""


@pytest.mark.parametrize("on_conflict", ["skip", "update"])
@pytest.mark.parametrize("what", BAD)
def test_rows_that_cannot_go_in_are_kept_and_all_others_go_in(
    make_pair: MakePair, what: str, on_conflict: str
) -> None:
    theirs, ours, good, bad, sqlstate, where = BAD[what]
    exclude = ", constraint apart exclude using gist (v with &&)" if what == "exclusion" else ""
    pair = make_pair(
        schema=f"create type mood as enum ('happy', 'grim'); create table t (id int primary key, {theirs})",
        target_schema=f"{PREPARE} create table t (id int primary key, {ours}{exclude})",
    )
    if what in ("unique", "exclusion"):
        pair.target(f"insert into t select 999, {bad.replace('g', '1')}") if what == "unique" else pair.target(
            "insert into t values (999, int4range(8000, 9000))"
        )
    if what == "same enum, missing label":
        assert pair.target("select 'the target lacks a label'") is not None
    bad_ids = (1, 17, 18, ROWS)  # the first row, two in the middle, the last
    pair.source(
        f"insert into t select g, {good} from generate_series(1, {ROWS}) g"
        f" where g <> all (array{list(bad_ids)})",
        f"insert into t select g, {bad} from unnest(array{list(bad_ids)}) g",
        # one heap order: the first, the middle and the last row of the first batch and of the table
        "create table ordered as select * from t order by id",
        "truncate t",
        "insert into t select * from ordered",
    )
    tally, heard, kept = pulled(pair, batch_size=17, on_conflict=on_conflict)
    assert (tally.fetched, tally.inserted, tally.failed) == (ROWS, ROWS - 4, 4)
    assert [reject.key for reject in heard] == [{"id": str(number)} for number in bad_ids]
    assert {reject.sqlstate for reject in heard} == {sqlstate}
    assert {reject.constraint or reject.column or "" for reject in heard} >= ({where} if where else set())
    assert [record["key"]["id"] for record in kept] == [str(number) for number in bad_ids]
    expected: dict[str, str] = dict(pair.source("select id::text, v::text from t"))
    assert all(
        record["values"] == {"id": record["key"]["id"], "v": expected[record["key"]["id"]]} for record in kept
    )
    assert pair.target("select count(*) from t where id <= 100 and id <> all (array[1, 17, 18, 40])") == [(36,)]


def test_a_batch_of_bad_rows_only_is_kept_whole(make_pair: MakePair) -> None:
    pair = make_pair(
        schema="create table t (id int primary key)",
        target_schema="create table t (id int primary key check (id > 100))",
    )
    pair.source("insert into t select generate_series(1, 130)")
    tally, heard, kept = pulled(pair, batch_size=50)
    assert (tally.inserted, tally.failed, len(heard), len(kept)) == (30, 100, 100, 100)


@pytest.mark.parametrize("encoding", ["LATIN1", "SQL_ASCII"])
def test_text_that_the_other_encoding_lacks_is_kept(make_pair: MakePair, encoding: str) -> None:
    pair = make_pair()
    other = (
        {"source": "UTF8", "target": encoding}
        if encoding == "LATIN1"
        else {"source": encoding, "target": "UTF8"}
    )
    for side in ("source", "target"):
        server, name = pair.server(side), pair.database(side)
        server.drop_database(name)
        server.create_database(name, template="template0", encoding=other[side])
        server.sql(name, "create table t (id int primary key, v text)")
    if encoding == "LATIN1":
        pair.source("insert into t values (1, 'café'), (2, '🦊'), (3, 'plain')")
    else:
        pair.source(
            "set client_encoding = 'SQL_ASCII'", "insert into t values (1, 'plain'), (2, e'\\xff'), (3, 'x')"
        )
    tally, heard, kept = pulled(pair)
    assert (tally.inserted, tally.failed) == (2, 1)
    assert heard[0].key == {"id": "2"}
    assert heard[0].sqlstate in ("22P05", "22021")
    assert kept[0]["values"]["v"] == ("🦊" if encoding == "LATIN1" else "\\xff")


@pytest.mark.parametrize(
    ("kind", "make"),
    [
        ("regclass", "create table secret_thing ()"),
        ("regnamespace", "create schema secret_thing"),
        ("regtype", "create type secret_thing as enum ()"),
        ("regproc", "create function secret_thing() returns int language sql as 'select 1'"),
    ],
)
def test_a_value_that_names_what_local_has_not_is_a_reject_and_is_not_shown(
    make_pair: MakePair, kind: str, make: str
) -> None:
    pair = make_pair(schema=f"create table t (id int primary key, v {kind})")
    pair.source(make, "insert into t values (1, 'secret_thing'), (2, null)")
    tally, heard, kept = pulled(pair)
    assert (tally.inserted, tally.failed) == (1, 1)
    assert heard[0].column == "v"
    assert "secret_thing" not in "".join(reject_text(heard[0]))
    assert kept[0]["values"]["v"] == "secret_thing"


def test_no_piece_of_a_row_is_taken_for_a_column_s_name(make_pair: MakePair) -> None:
    pair = make_pair(
        schema="create table t (v text, w xml)",
        target_schema="create table t (v text, w xml) partition by list (v);"
        " create table a partition of t for values in ('a')",
    )
    pair.source("insert into t values ('Lindenstrasse 12, bei Meier wohnhaft', null), ('a', null)")
    tally, heard, _ = pulled(pair)
    assert (tally.inserted, tally.failed, heard[0].column) == (1, 1, None)
    assert "Meier" not in "".join(reject_text(heard[0]))


def test_a_rule_that_misses_a_table_is_not_the_rows_fault(make_pair: MakePair) -> None:
    broken = """create table other (id int); create function good(v int) returns bool language sql as
        'select exists (select from other)'; create domain d as int check (good(value));
        create table t (id int primary key, v d); drop table other"""
    pair = make_pair(schema="create table t (id int primary key, v int)", target_schema=broken)
    pair.source("insert into t values (1, 1), (2, 2)")
    with pytest.raises(Stopped, match="42P01"):
        pulled(pair)


@pytest.mark.parametrize("last", [True, False])
@pytest.mark.parametrize("words", [{}, {"replace": True}])
def test_a_value_that_local_cannot_read_takes_no_other_row_along(
    make_pair: MakePair, words: dict[str, Any], last: bool
) -> None:
    pair = make_pair()
    sides = [
        (pair.source_server, pair.source_db, "SQL_ASCII"),
        (pair.target_server, pair.target_db, "UTF8"),
    ]
    for server, name, encoding in sides:
        server.drop_database(name)
        server.create_database(name, template="template0", encoding=encoding)
        server.sql(name, "create table t (v text[])")
    rows = [f"insert into t values (array['{value}'])" for value in ("a", "b", "c", "d")]
    rows.insert(4 if last else 2, "insert into t values (array[e'\\xff'])")
    pair.source("set client_encoding = 'SQL_ASCII'", *rows)
    tally, _, kept = pulled(pair, "t", batch_size=2, **words)
    assert (tally.inserted, tally.failed, len(kept)) == (4, 1, 1)
    assert pair.target("select v[1] from t order by 1") == [("a",), ("b",), ("c",), ("d",)]


def test_the_rejects_file_is_the_owners_alone_and_is_added_to(make_pair: MakePair, tmp_path: Path) -> None:
    pair = make_pair(
        schema="create table t (id int primary key)",
        target_schema="create table t (id int primary key check (id > 1))",
    )
    pair.source("insert into t values (1), (2)")
    file = tmp_path / "rejects.jsonl"
    file.write_text('{"from": "an earlier run"}\n')
    file.chmod(0o644)
    pulled(pair, rejects=str(file))
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert len(file.read_text().splitlines()) == 2


def test_no_rejects_no_file(pair: Pair, tmp_path: Path) -> None:
    pair.add_messages("source", 3)
    pulled(pair, "askwealth.message")
    assert list(tmp_path.iterdir()) == []


def test_a_rejects_file_that_cannot_be_written_stops_the_run_rather_than_lose_a_row(
    make_pair: MakePair,
) -> None:
    pair = make_pair(
        schema="create table t (id int primary key)",
        target_schema="create table t (id int primary key check (id > 1))",
    )
    pair.source("insert into t values (1), (2)")
    with pytest.raises(SettingsError, match=r"rejects file .* cannot be written: there is no folder"):
        pulled(pair, rejects="no/such/folder/rejects.jsonl")
    with pytest.raises(Stopped, match="No space left"):
        pulled(pair, rejects="/dev/full")


@pytest.mark.parametrize(
    "what", ["enum label", "NUL in json", "syntax", "a function's own", "unique", "length"]
)
def test_a_line_about_a_reject_shows_its_key_and_none_of_its_other_values(
    make_pair: MakePair, what: str
) -> None:
    theirs, ours, _, _, sqlstate, _ = BAD[what]
    secret = {"NUL in json": r'{"a": "S3cret \u0000"}', "unique": "31337", "a function's own": "no"}.get(
        what, "S3cret"
    )
    pair = make_pair(
        schema=f"create table t (id int primary key, {theirs})",
        target_schema=f"{PREPARE} create table t (id int primary key, {ours})",
    )
    pair.source(f"insert into t values (4711, '{secret}')")
    if what == "unique":
        pair.target(f"insert into t values (1, {secret})")
    _, heard, kept = pulled(pair)
    line = reject_text(heard[0])
    assert "id=4711" in line
    assert sqlstate in line
    for word in ("S3cret", "31337", "secret"):
        assert word not in line
    assert kept[0]["values"]["v"] == secret


def test_a_value_full_of_quotes_is_hidden_whole(make_pair: MakePair) -> None:
    pair = make_pair(
        schema="create table t (id int primary key, v text)",
        target_schema="create table t (id int primary key, v int[])",
    )
    pair.source("""insert into t values (1, '"Bob" "bob@x.io" and "more')""")
    _, heard, _ = pulled(pair)
    assert "Bob" not in reject_text(heard[0])
    assert "bob" not in reject_text(heard[0])


def test_values_of_every_kind_are_spelled_out_in_the_file(make_pair: MakePair) -> None:
    columns = "a uuid, b timestamptz, c jsonb, d int[], e bytea, f numeric, g text, h boolean, i float8"
    pair = make_pair(
        schema=f"create table t (id int primary key, {columns})",
        target_schema=f"create table t (id int primary key, {columns}, check (id <> 1))",
    )
    pair.source(
        r"""insert into t values (1, '6f9619ff-8b86-d011-b42d-00c04fc964ff', 'infinity', '{"a": 1.00}',
            '{1,NULL}', '\x00ff', 'NaN', e'tab\t, \\, line\n', true, '-0')"""
    )
    expected = dict(
        zip(
            ("id", *"abcdefghi"),
            pair.source(
                "select id::text, a::text, b::text, c::text, d::text, e::text, f::text, g, h::text, i::text"
                " from t"
            )[0],
            strict=True,
        )
    )
    assert pulled(pair)[2][0]["values"] == expected
    pair.target("alter table t alter a type text")  # now the rows travel as text
    assert pulled(pair)[2][-1]["values"] == expected | {"h": "t"}


def test_what_another_pull_has_added_to_the_file_meanwhile_stays(make_pair: MakePair) -> None:
    pair = make_pair(
        schema="create table t (id int primary key)",
        target_schema="create table t (id int primary key check (id > 0))",
    )
    pair.source("insert into t select generate_series(-3, 3)")
    path = Path("shared.jsonl")
    _, [reject, *_], _ = pulled(pair, rejects="other.jsonl")
    with RejectsFile(path) as ours, RejectsFile(path) as theirs:
        ours.add(reject)
        theirs.add(reject)
        ours.begin_anew()
        assert len(path.read_text().splitlines()) == 2
        ours.add(reject)
        theirs.begin_anew()
    assert all(json.loads(line)["table"] for line in path.read_text().splitlines())
    with RejectsFile(Path("alone.jsonl")) as alone:
        alone.add(reject)
        alone.begin_anew()
        alone.add(reject)
        alone.begin_anew()
    assert Path("alone.jsonl").read_text() == ""


def test_a_file_system_without_locks_is_written_all_the_same(
    make_pair: MakePair, monkeypatch: pytest.MonkeyPatch
) -> None:
    def none_here(*_: Any) -> None:
        raise OSError(errno.EBADF, "Bad file descriptor")

    monkeypatch.setattr(fcntl, "flock", none_here)
    pair = make_pair(schema="create table t (id int)", target_schema="create table t (id int check (id > 1))")
    pair.source("insert into t values (1), (2)")
    tally, _, kept = pulled(pair)
    assert (tally.inserted, len(kept)) == (1, 1)
    pair.target("alter table t drop constraint t_id_check")
    assert retry("rejects.jsonl", target=pair.target_url).tally.inserted == 1
