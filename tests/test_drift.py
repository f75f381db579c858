"""Two sides that differ: what is harmless is noted, the rest refused; the statement given puts it right."""

from __future__ import annotations

import re
from contextlib import closing
from pathlib import Path

import pytest

from pgpull import PlanError, forecast, pull
from pgpull.creating import Made, create_missing
from pgpull.endpoints import parse_url
from pgpull.results import Report
from pgpull.sessions import open_source, open_target
from pgpull.shapes import TableName
from tests.conftest import MakePair
from tests.support import Pair

CORPUS = Path(__file__).parents[2] / "shared" / "corpus" / "pgsync"


def pulled(pair: Pair, table: str = "t", **words: object) -> Report:
    return pull(table, source=pair.source_url, target=pair.target_url, **words)  # type: ignore[arg-type]


def statements(text: str) -> list[str]:
    """Take the statements out of a note or a hint."""
    given = text.partition("run on local: ")[2]
    return re.findall(r"[A-Z].*?;", given)


DRIFTS = [
    # the server's table, the local one, what the note says, rows refused while it stands
    ("id int primary key, v int", "id int primary key", "local has no column v", 0),
    ("id int primary key, v mood", "id int primary key", "local has no column v", 0),
    ("id int primary key, v text", "id int primary key, v varchar(2)", "v is text on the server", 1),
    ("id int primary key, v text", "id int primary key, v text not null", "v may be NULL on the server", 1),
    ("id int primary key, v text", "id int primary key, v text check (v <> 'long')", "CHECK", 1),
    ("id int primary key, v text", "id int primary key, v text unique", "UNIQUE (v)", 1),
    ("id int primary key, v int", "id int primary key, v int references other", "FOREIGN KEY (v)", 2),
    ("id int primary key, v text", "id int primary key, v text, exclude (v with =)", "EXCLUDE USING btree", 1),
]
VALUES = {"int": "(1, 1), (2, 2), (3, null)", "text": "(1, 'long'), (2, 'x'), (3, 'x'), (4, null)"}


@pytest.mark.parametrize(("theirs", "ours", "said", "refused"), DRIFTS)
def test_what_differs_harmlessly_is_noted_until_the_statement_given_is_run(
    make_pair: MakePair, theirs: str, ours: str, said: str, refused: int
) -> None:
    pair = make_pair(
        schema=f"create type mood as enum ('it''s', 'ok'); create table t ({theirs})",
        target_schema=f"create table other (id int primary key); create table t ({ours})",
    )
    kind = theirs.split()[-1]
    pair.source(f"insert into t values {VALUES.get(kind, '(1, null)')}")
    report = pulled(pair)
    [note] = [note for note in report.plan.notes if said in note]
    assert report.tally.failed == refused
    for statement in statements(note):
        pair.target(statement)
    again = pulled(pair, on_conflict="update")
    assert not [note for note in again.plan.notes if said in note]
    assert again.tally.failed == 0
    assert pair.same("t")


def test_a_unique_index_that_is_no_constraint_is_dropped_as_an_index(make_pair: MakePair) -> None:
    table = "create schema s; create table s.t (id int primary key, v text);"
    index = 'create unique index "No two" on s.t (lower(v)) where v is not null'
    pair = make_pair(schema=table, target_schema=table + index)
    [note] = pulled(pair, "s.t").plan.notes
    assert "UNIQUE (lower(v)) WHERE (v IS NOT NULL)" in note
    for statement in statements(note):
        pair.target(statement)
    assert pulled(pair, "s.t").plan.notes == ()


LABELS = [
    (["a", "b", "c"], ["a", "b"]),
    (["a", "b", "c"], ["b"]),
    (["a", "b", "c", "d"], ["b", "d"]),
    (["it's", "b"], ["z"]),
    (["a"], []),
]


@pytest.mark.parametrize(("theirs", "ours"), LABELS)
@pytest.mark.parametrize("kind", ["mood", "mood[]", "held"])
def test_labels_that_local_lacks_are_noted_and_rows_that_use_them_refused(
    make_pair: MakePair, theirs: list[str], ours: list[str], kind: str
) -> None:
    def schema(labels: list[str]) -> str:
        listed = ", ".join("'" + label.replace("'", "''") + "'" for label in labels)
        return (
            f"create type mood as enum ({listed}); create domain held as mood;"
            f" create table t (id serial primary key, v {kind})"
        )

    pair = make_pair(schema=schema(theirs), target_schema=schema(ours))
    label = "array[l]" if kind == "mood[]" else "l"
    pair.source(f"insert into t (v) select {label} from unnest(enum_range(null::mood)) l")
    report = pulled(pair)
    [note] = report.plan.notes
    assert report.tally.failed == len(set(theirs) - set(ours))
    for statement in statements(note):
        pair.target(statement)
    [(now,)] = pair.target("select enum_range(null::mood)::text[]")
    assert [label for label in now if label in theirs] == theirs
    again = pulled(pair)
    assert not again.tally.failed
    assert not again.plan.notes
    assert pair.same("t")


SAME = """
    create table other (id int primary key, code text unique);
    create table t (id int primary key, v text not null, w text,
                    other int, code text,
                    {constraints});
"""


def test_the_same_rules_by_other_names_in_another_order_are_no_drift(make_pair: MakePair) -> None:
    theirs = """constraint a check (length(v) > 0), constraint b foreign key (other) references other,
                constraint c unique (v)"""
    ours = """constraint u unique (w, v), constraint f foreign key (other) references other,
              constraint k check (length(v) > 0)"""
    pair = make_pair(schema=SAME.format(constraints=theirs), target_schema=SAME.format(constraints=ours))
    assert pulled(pair).plan.notes == ()


def test_another_search_path_is_no_drift(make_pair: MakePair) -> None:
    schema = """create schema s; create function s.long(text) returns boolean language sql as 'select true';
        create table s.other (id int primary key);
        create table s.t (id int primary key, v text check (s.long(v)), other int references s.other);"""
    pair = make_pair(schema=schema)
    pair.target(f"alter database {pair.target_db} set search_path to s, public")
    assert pulled(pair, "s.t").plan.notes == ()


REFUSED = [
    ("id int primary key, v int", "v int", "lacks the server's key"),
    ("id int primary key, v int", "other int primary key, v int", "other is NOT NULL without"),
    ("id int primary key, v int", "id int, v int primary key", "lacks the server's key"),
    ("id int primary key", "v int", "share no column"),
    ("id int primary key, v json", "id int primary key, v int", "v is json on the server"),
]


@pytest.mark.parametrize(("theirs", "ours", "said"), REFUSED)
def test_what_differs_fatally_is_put_right_by_the_statement_given(
    make_pair: MakePair, theirs: str, ours: str, said: str
) -> None:
    pair = make_pair(schema=f"create table t ({theirs})", target_schema=f"create table t ({ours})")
    with pytest.raises(PlanError, match=said):
        pulled(pair)
    while refusal := refused(pair):
        for statement in statements(refusal.hint):
            pair.target(statement)
    assert pulled(pair).tally.failed == 0


def refused(pair: Pair) -> PlanError | None:
    try:
        pulled(pair)
    except PlanError as error:
        return error
    return None


def test_a_missing_table_names_create_missing_first(make_pair: MakePair) -> None:
    pair = make_pair(schema="create table t (id int primary key)", target_schema="")
    with pytest.raises(PlanError, match=r"no table public.t") as caught:
        pulled(pair)
    assert caught.value.hint.startswith("run the same command with --create-missing")


@pytest.fixture
def differing(make_pair: MakePair) -> Pair:
    if not CORPUS.exists():
        pytest.skip(f"{CORPUS} is not on this machine")
    schemas = [(CORPUS / f"schema{number}.sql").read_text() for number in (1, 2)]
    return make_pair(schema=schemas[0], target_schema=schemas[1])


def test_two_databases_that_differ_on_purpose(differing: Pair) -> None:
    notes = {
        table: pulled(differing, table).plan.notes
        for table in ('"Users"', "posts", "comments", "books", "robots", "excluded", "other.pets")
    }
    assert [note for note in notes.pop('"Users"') if "no column zip_code" in note]
    assert notes.pop("robots") == ("local triggers do not fire for pulled rows: nope_trigger",)
    assert set(notes.values()) == {()}
    with pytest.raises(PlanError, match="share no column"):
        pulled(differing, "authors")
    with pytest.raises(PlanError, match=r"no table public.stores"):
        pulled(differing, "stores")


def test_what_local_lacks_of_a_database_that_differs_is_made_and_pulled(differing: Pair) -> None:
    with (
        open_source(parse_url(differing.source_url, "source")) as source,
        closing(open_target(parse_url(differing.target_url, "target"))) as local,
    ):
        tables = [TableName("public", name) for name in ("stores", "posts", "comments")]
        assert create_missing(source, local, tables) == Made((TableName("public", "stores"),))
    assert pulled(differing, "stores").tally.failed == 0


def test_the_statement_that_lets_a_primary_key_be_empty_runs(make_pair: MakePair) -> None:
    pair = make_pair(
        schema="create table t (id int, v text, boss int)",
        target_schema="create table t (id int primary key, v text, boss int references t)",
    )
    plan = forecast("t", source=pair.source_url, target=pair.target_url).plan
    [note] = [note for note in plan.notes if note.startswith("id may be NULL")]
    assert note.count("DROP CONSTRAINT") == 1
    pair.target("alter table t drop constraint t_boss_fkey", note.partition("run on local: ")[2])


def test_what_the_server_asks_of_new_rows_alone_is_a_note(make_pair: MakePair) -> None:
    schema = "create table p (id int primary key); create table t (id int primary key, p int)"
    pair = make_pair(schema=schema)
    for side, valid in ((pair.source, " not valid"), (pair.target, "")):
        side(
            f"alter table t add check (id > 0){valid}", f"alter table t add foreign key (p) references p{valid}"
        )
    notes = forecast("t", source=pair.source_url, target=pair.target_url).plan.notes
    assert sum("which the server asks of new rows alone" in note for note in notes) == 2
    pair.source("alter table t validate constraint t_id_check", "alter table t validate constraint t_p_fkey")
    notes = forecast("t", source=pair.source_url, target=pair.target_url).plan.notes
    assert not any("which the server" in note for note in notes)


def test_what_local_does_not_enforce_is_no_note(make_pair: MakePair, newest: int) -> None:
    if newest < 18:
        pytest.skip("PostgreSQL 18 is not on this machine")
    schema = "create table p (id int primary key); create table t (id int primary key, p int)"
    pair = make_pair(newest, newest, schema=schema)
    pair.target(
        "alter table t add check (id > 0) not enforced",
        "alter table t add foreign key (p) references p not enforced",
    )
    notes = forecast("t", source=pair.source_url, target=pair.target_url).plan.notes
    assert not any("which the server has not" in note for note in notes)
