"""pgpull.toml: rules for tables, and recipes with parameters."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import psycopg
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from pgpull import PlanError, Report, SettingsError, UsageError, diff, pull
from pgpull.config_file import recipes as read_settings
from pgpull.model import Job
from pgpull.plans import Method
from pgpull.recipe_file import read
from pgpull.recipes import Entry, Recipes
from pgpull.requesting import make_request
from pgpull.shapes import TableName, TablePattern
from tests.conftest import MakePair
from tests.support import Pair
from tests.test_cli import PGPULL, ROOT, SCRIPT, TABLES, call, on

MESSAGES = """
[defaults]
on_conflict = "update"

[tables."askwealth.message"]
without = ["annotations"]

[tables."askwealth.*"]
keep = ["title"]

[recipes.thread]
description = "One thread"
with_parents = true
parameters = { id = "the thread's uuid", since = { help = "first day", default = "2020-01-01" } }
tables = [
    { table = "askwealth.message", equals = { thread_id = "{id}" }, since = "{since}" },
]

[recipes.messages]
parameters = { from = "first day", to = "end", thread = "uuid" }

[[recipes.messages.tables]]
table = "askwealth.message"
since = "{from}"
until = "{to}"
where = "thread_id = {thread} -- and no other"
"""


def recipes(text: str = MESSAGES, name: str = "pgpull.toml") -> Recipes:
    return read(Path(name), text)


def refused(text: str) -> SettingsError:
    with pytest.raises(SettingsError) as caught:
        recipes(text)
    return caught.value


# --- what is said more closely wins ------------------------------------------------------------------------


def request_for(job: Job, table: str) -> Any:
    name = TableName.parse(table)
    return next(wanted.of(name) for wanted in job.wanted if wanted.pattern.matches(name))


def test_rules_for_a_table_win_over_defaults_and_the_command_line_over_both() -> None:
    job = recipes().job([Entry("askwealth.message")], {"on_conflict": "skip"})
    asked = request_for(job, "askwealth.message")
    assert (asked.on_conflict, asked.without) == ("skip", ("annotations",))
    assert (
        request_for(recipes().job([Entry("askwealth.message")], {}), "askwealth.message").on_conflict
        == "update"
    )


def test_a_pattern_means_each_table_with_its_own_rules() -> None:
    job = recipes().job([Entry("askwealth.*")], {})
    assert request_for(job, "askwealth.message").without == ("annotations",)
    assert request_for(job, "askwealth.thread").keep == ("title",)
    assert request_for(recipes().job([Entry("*.*")], {}), "other.table").keep == ()


@pytest.mark.parametrize(
    ("said", "then"), [({}, "update"), ({"on_conflict": "skip", "without": ["v"]}, "skip")]
)
def test_tables_that_come_along_follow_their_own_rules_and_what_is_said_of_all(
    said: dict[str, Any], then: str
) -> None:
    text = MESSAGES.replace("[defaults]\n", "[defaults]\nwithout = ['embedding']\n")
    file = recipes(text + "\n[tables.'s.first']\nbatch_size = 7\n")
    job = file.job([Entry("s.first")], said, with_parents=True)
    along = [
        next(
            rule.of(TableName.parse(name)) for rule in job.rules if rule.pattern.matches(TableName.parse(name))
        )
        for name in ("askwealth.message", "other.table")
    ]
    assert [asked.on_conflict for asked in along] == [then] * 2
    assert [asked.without for asked in along] == [("annotations",), ()]
    assert along[1].batch_rows != 7


def test_a_recipe_fills_its_parameters_in() -> None:
    job = recipes().recipe("thread", {"id": "7"}, {})
    asked = request_for(job, "askwealth.message")
    assert asked.scope.equals == (("thread_id", "7"),)
    assert asked.scope.window.since.isoformat() == "2020-01-01T00:00:00+00:00"
    assert job.with_parents


def test_the_command_line_wins_over_a_recipe() -> None:
    job = recipes().recipe("thread", {"id": "7"}, {"on_conflict": "skip"})
    assert request_for(job, "askwealth.message").on_conflict == "skip"


def test_a_value_in_a_condition_is_a_quoted_text() -> None:
    job = recipes().recipe(
        "messages", {"from": "2025-01-01", "to": "2025-02-01", "thread": "x' or true --"}, {}
    )
    assert request_for(job, "askwealth.message").scope.where == "thread_id = ('x'' or true --') -- and no other"


def test_the_rule_that_names_a_table_wins_over_patterns_wherever_it_stands() -> None:
    file = recipes("[tables.'s.*']\nkeep = ['p']\n[tables.'s.t']\nkeep = ['e']\n[tables.'*.*']\nkeep = ['q']\n")
    for asked in ("s.t", "s.*"):
        assert request_for(file.job([Entry(asked)], {}), "s.t").keep == ("e",)
    assert request_for(file.job([Entry("s.u")], {}), "s.u").keep == ("p",)


def test_a_standing_window_waits_for_an_end() -> None:
    file = recipes("[tables.t]\nwindow = 'changed_at'\n")
    assert request_for(file.job([Entry("t")], {}), "t").scope.window is None
    for words in ({"since": "2025-01-01"}, {"new": True}):
        assert request_for(file.job([Entry("t")], words), "t").scope.window.column == "changed_at"


def test_a_window_asked_for_without_an_end_is_refused() -> None:
    with pytest.raises(UsageError, match="has no end"):
        recipes("[tables.t]\nwindow = 'changed_at'\n").job([Entry("t")], {"window": "made_at"})


def test_rules_of_tables_that_a_pattern_does_not_mean_have_no_say() -> None:
    file = recipes("[tables.'other.t']\nsince = 2025-06-01\n")
    assert len(file.job([Entry("s.*")], {"until": "2025-01-01"}).wanted) == 1


def test_dates_and_numbers_need_no_quotes() -> None:
    file = recipes(
        "[tables.t]\nsince = 2025-01-31\nmax_errors = 5\nequals = { a = 1, b = true, c = 2025-01-31 }\n"
    )
    asked = request_for(file.job([Entry("t")], {}), "t")
    assert asked.scope.window.since.isoformat() == "2025-01-31T00:00:00+00:00"
    assert asked.scope.equals == (("a", "1"), ("b", "true"), ("c", "2025-01-31"))
    assert str(asked.max_errors) == "5"


OPTIONAL = """
[recipes.r]
parameters = { from = { optional = true }, thread = { optional = true } }
tables = [{ table = "t", window = "at", since = "{from}", equals = { thread_id = "{thread}" } }]
"""


def test_what_an_optional_parameter_would_be_put_into_goes_with_it() -> None:
    none = request_for(recipes(OPTIONAL).recipe("r", {}, {}), "t").scope
    assert (none.window, none.equals) == (None, ())
    both = request_for(recipes(OPTIONAL).recipe("r", {"from": "2025-01-01", "thread": "7"}, {}), "t").scope
    assert (both.window.column, both.equals) == ("at", (("thread_id", "7"),))


@pytest.mark.parametrize("where", ["tags @> '{urgent}'", "v ~ '^a$' and tags = '{x,y}'", 'x = "{q}"'])
def test_braces_in_a_text_are_its_own_where_they_name_no_parameter(where: str) -> None:
    quoted = where.replace('"', '\\"')
    text = f'[recipes.r]\nparameters = {{id = ""}}\nwhere = "{quoted} and id = {{id}}"\ntables = ["t"]\n'
    job = recipes(text).recipe("r", {"id": "1"}, {})
    assert request_for(job, "t").scope.where == f"{where} and id = ('1')"


def test_a_pyproject_may_hold_it_all() -> None:
    text = MESSAGES.replace("[recipes", "[tool.pgpull.recipes").replace("[tables", "[tool.pgpull.tables")
    text = text.replace("[[recipes", "[[tool.pgpull.recipes").replace("[defaults]", "[tool.pgpull.defaults]")
    found = recipes("[project]\nname = 'x'\n" + text, "pyproject.toml")
    assert [offer.name for offer in found.offers] == ["thread", "messages"]


# --- what is wrong is named with its line -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "line", "said", "hint"),
    [
        ("[defaults]\non_conflit = 'skip'\n", 2, "'on_conflit' is not known here", "did you mean on_conflict?"),
        ("\n\n[recipe.x]\ntables = []\n", 3, "'recipe' is not known here", "did you mean recipes?"),
        ("[defaults]\nbatch_size = 0\n", 2, "greater than or equal to 1", ""),
        ("[defaults]\non_conflict = 'merge'\n", 2, "not skip or update: 'merge'", "skip leaves"),
        ("[tables.'a.b'.mask]\nx = 'emial'\n", 2, "tables.\"a.b\".mask.x: 'emial' is no mask", "email"),
        ("[mask]\n\n'*x*' = { days = 'one' }\n", 3, "not a number of days: 'one'", "days = -30"),
        ("[mask]\nx = { sql = ' ' }\n", 2, "the SQL expression is empty", "{value}"),
        ("[mask]\nx = { 'a..b' = 'null' }\n", 2, "not a path: 'a..b'", "contact.email"),
        ("[mask]\nx = 3\n", 2, "not a mask: 3", "scrub"),
        ("[recipes.r]\ntables = ['t']\nmask = {}\n", 3, "masks hold whatever pulls a table", "[mask]"),
        ("[tables.'a.b']\nxyz = {}\n", 2, "'xyz' is not known here", "allowed: since"),
        ("[defaults]\nsince = 'yesterday'\n", 2, "not a date: 'yesterday'", "write a date"),
        ("[defaults]\nsince = '{x}'\n", 2, "not a date: '{x}'", "only recipes have parameters"),
        ("[defaults]\nmax_errors = 'few'\n", 2, "not a number or a percentage: 'few'", "2%"),
        ("[defaults]\ntimezone = 'Mars'\n", 2, "no time zone is called 'Mars'", "IANA"),
        ("[defaults]\noverlap = 'soon'\n", 2, "not a stretch of time: 'soon'", "15min"),
        ("[defaults]\nwhere = ' '\n", 2, "it is empty", "leave it out"),
        ("[defaults]\nverify = 'yes'\n", 2, "not true or false: 'yes'", ""),
        ("defaults = 5\n", 1, "defaults: not a table: 5", ""),
        ("[recipes.r]\n\ntables = [{since = 2025-01-01}]\n", 3, "tables[1]: table is missing", ""),
        ("[recipes.r]\nparameters = {str = {hlp = ''}}\ntables = ['a']\n", 2, "parameters.str.hlp", "help?"),
        ("[recipes.r]\nparameters = {'a b' = ''}\ntables = ['a']\n", 2, "letters, digits and _", ""),
        ("[recipes.r]\nequals = {a = 'x{y}'}\nparameters = {y = ''}\ntables = ['a']\n", 2, "a part of", ""),
        ("[recipes.r]\nsince = '{frm}'\nparameters = {from = ''}\ntables = ['a']\n", 2, "{frm}", "mean from?"),
        ("[tables.'a.b.c']\nkeep = []\n", 1, "not a table's name", ""),
        ("[recipes.r]\ntables = [\n  'a.b',\n  { tabel = 'a.b' },\n]\n", 4, "'tabel' is", "mean table?"),
        ("[recipes.r]\ntables = []\n", 2, "it is empty", ""),
        (
            "[[recipes.r.tables]]\ntable = 'a'\n[[recipes.r.tables]]\ntable = 'b'\nwher = 'x'\n",
            5,
            "'wher'",
            "where",
        ),
        ("[recipes.r]\nwhere = 'a = {x}'\ntables = ['a']\n", 2, "{x} is no parameter", ""),
        ("[recipes.r]\nparameters = {x = ''}\ntables = ['a']\n", 2, "used nowhere: write {x}", ""),
        (
            "[recipes.r]\nparameters = {x = ''}\nwhere = \"a = '{x}'\"\ntables = ['a']\n",
            3,
            "stands in quotes",
            "",
        ),
        (
            "[recipes.r]\nparameters = {x = ''}\nwhere = 'a = {x} /* */'\ntables = ['a']\n",
            3,
            "may not hold /*",
            "",
        ),
        (
            "[recipes.r]\nparameters = {x = {optional = true}}\nwhere = 'a = {x}'\ntables = ['a']\n",
            3,
            "{x} is optional",
            "",
        ),
        (
            "[recipes.r]\nsince = '{x}'\nparameters = {x = {optional = true, default = 'y'}}\ntables = ['a']\n",
            3,
            "has a default, and is optional",
            "keep one",
        ),
    ],
)
def test_what_makes_no_sense_is_refused_with_its_line(text: str, line: int, said: str, hint: str) -> None:
    error = refused(text)
    assert f"pgpull.toml, line {line}: " in error.message
    assert said in error.message
    assert hint in error.hint


def test_what_is_no_toml_is_refused_with_its_line() -> None:
    assert "line 2" in refused("[defaults]\nwhere = \n").message


def test_parameters_are_asked_for_by_name() -> None:
    with pytest.raises(UsageError, match="there is no recipe 'tread'") as caught:
        recipes().recipe("tread", {}, {})
    assert "did you mean thread?" in caught.value.hint
    with pytest.raises(UsageError, match=r"needs id \(the thread's uuid\)") as caught:
        recipes().recipe("thread", {}, {})
    assert "--set id=VALUE" in caught.value.hint
    with pytest.raises(UsageError, match="has no parameter 'idd'"):
        recipes().recipe("thread", {"idd": "1"}, {})


# --- on real servers ----------------------------------------------------------------------------------------


# Pieces that conditions are made of, and what would let a value out of its quotes in one or the other.
PIECES = ["v = ", "{x}", "{x}", "'", '"', "E", "U&", "N", "\\", "--", "/*", "*/", "\n", "$", "$$", "$a$"]
PIECES += ["(", ")", "''", "'a'", '"v"', "'{x}'", " ", "::text", " and ", " or ", "||", ";", "%", "%s", ":x"]
PIECES += ["{", "}", "~ "]
ESCAPES = ["'", "''", '"', "\\", "\\'", "$$", "$a$", "*/", "--", "/*", "\n", ")", "(", ";", "E'", " ", "{x}"]
ESCAPES += ["%s", "|| canary() ||", " or canary() "]

values = st.one_of(
    st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=8),
    st.lists(st.sampled_from(ESCAPES), max_size=6).map("".join),
)
conditions = st.one_of(
    st.lists(st.sampled_from(PIECES), min_size=1, max_size=9).map("".join),
    st.sampled_from(["v = {x}", "v in ({x}, {x})", "v ~ 'a$' and v = {x} -- it's", "v = any({x}::text[])"]),
)


def filled(where: str, value: str) -> str | None:
    """Return a condition with its value put in; None if it is refused as it stands."""
    text = f"[recipes.r]\nparameters = {{x = ''}}\nwhere = {json.dumps(where)}\ntables = ['t']\n"
    try:
        return str(request_for(recipes(text).recipe("r", {"x": value}, {}), "t").scope.where)
    except SettingsError:
        return None


def verdict(connection: psycopg.Connection, where: str) -> tuple[str, bool]:
    """Return what the server's parser makes of a condition, and whether a function of a value's was called."""
    try:
        with connection.transaction():
            connection.execute(f"SELECT FROM t WHERE ({where}\n) LIMIT 0".encode(), binary=True)
    except psycopg.Error as error:
        return error.sqlstate or "", "function canary()" in (error.diag.message_primary or "")
    return "00000", False


@pytest.fixture
def parser(make_pair: MakePair) -> Iterator[psycopg.Connection]:
    pair = make_pair(schema="create table t (id int primary key, v text)")
    with psycopg.connect(pair.source_url, autocommit=True) as connection:
        yield connection


@settings(max_examples=400, deadline=None, suppress_health_check=list(HealthCheck))
@given(conditions, values)
@example("v = 'a {x}", "|| canary() --")
@example('v = "a {x}', '" = v or canary() --')
@example("v = E{x}", "\\' or canary() --")
@example("v = {x}\n'\\' or v = {x}", "|| canary() --\\")
@example("v = 'a'{x}", "' or canary() --")
@example("v = E'\\' || {x} || ''", "|| canary() --")
@example("v = $$ {x}", "$$ or canary() --")
@example("v = 1 /* {x}", "*/ or canary() --")
@example("v = 1 -- {x}", "\n or canary() --")
def test_no_value_can_leave_its_place_in_any_condition(
    parser: psycopg.Connection, where: str, value: str
) -> None:
    statement, plain = filled(where, value), filled(where, "1")
    assert (statement is None) == (plain is None)
    if statement is None or plain is None:
        return
    found, expected = verdict(parser, statement), verdict(parser, plain)
    assert not found[1]
    # a value may be wrong for a type (class 22), but cannot make or break the syntax
    assert found == expected or "22" in (found[0][:2], expected[0][:2])


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(values)
def test_a_value_in_a_condition_means_itself(parser: psycopg.Connection, value: str) -> None:
    with parser.transaction(force_rollback=True):
        parser.execute("insert into t values (1, %s), (2, 'other' || %s)", (value, value))
        where = filled("v = {x} and v in ({x}, {x}::text) -- it's", value)
        found = parser.execute(f"SELECT id FROM t WHERE ({where}\n)".encode()).fetchall()
    assert found == [(1,)]


def pulled(pair: Pair, table: str, **words: Any) -> Report:
    return pull(table, source=pair.source_url, target=pair.target_url, retries=0, **words)


def test_columns_that_are_left_out_stay_on_the_server(make_pair: MakePair) -> None:
    pair = make_pair(schema="create table t (id int primary key, v text, secret text)")
    pair.source("insert into t values (1, 'a', 'hush')")
    report = pulled(pair, "t", without=["secret"], on_conflict="update", verify=True)
    assert report.plan.columns == ("id", "v")
    assert pair.target("select * from t") == [(1, "a", None)]
    assert pulled(pair, "t", without=["secret"], on_conflict="update").tally.skipped == 1


def test_an_update_keeps_what_it_is_told_to_keep(make_pair: MakePair) -> None:
    pair = make_pair(schema="create table t (id int primary key, v text, note text)")
    pair.source("insert into t values (1, 'a', 'theirs'), (2, 'b', 'theirs')")
    pair.target("insert into t values (1, 'old', 'mine')")
    words: dict[str, Any] = {"keep": ["note"], "on_conflict": "update", "verify": True}
    assert pulled(pair, "t", **words).tally.updated == 1
    assert pair.target("select * from t order by 1") == [(1, "a", "mine"), (2, "b", "theirs")]
    pair.source("update t set note = 'new'")
    assert pulled(pair, "t", **words).tally.updated == 0


@pytest.mark.parametrize("words", [{"without": ["nix"]}, {"keep": ["nix"]}])
def test_a_column_that_is_not_there_is_refused_by_name(make_pair: MakePair, words: dict[str, Any]) -> None:
    pair = make_pair(schema="create table t (id int primary key)")
    with pytest.raises(PlanError, match="no column nix"):
        pulled(pair, "t", **words)


def test_what_has_to_be_filled_here_cannot_be_left_out(make_pair: MakePair) -> None:
    pair = make_pair(schema="create table t (id int primary key, v int not null)")
    with pytest.raises(PlanError, match=r"t\.v is NOT NULL without a default, and it is left out") as caught:
        pulled(pair, "t", without=["v"])
    assert "ALTER COLUMN" in caught.value.hint


def test_a_key_cannot_be_left_out(make_pair: MakePair) -> None:
    pair = make_pair(schema="create table t (id int primary key, v int)")
    with pytest.raises(PlanError, match="id cannot be left out"):
        pulled(pair, "t", without=["id"])


def test_what_is_to_be_kept_is_not_replaced(make_pair: MakePair) -> None:
    pair = make_pair(schema="create table t (id int primary key, note text)")
    pair.source("insert into t values (1, 'theirs')")
    pair.target("insert into t values (1, 'mine')")
    with pytest.raises(PlanError, match="--replace would lose the local note") as caught:
        pulled(pair, "t", keep=["note"], replace=True)
    assert "--on-conflict update" in caught.value.hint
    assert pair.target("select * from t") == [(1, "mine")]


def test_a_diff_passes_over_columns_that_are_left_out_or_kept(make_pair: MakePair) -> None:
    pair = make_pair(schema="create table t (id int primary key, v text, note text)")
    pair.source("insert into t values (1, 'theirs', 'theirs')")
    pair.target("insert into t values (1, 'mine', 'mine')")
    for words, equal in (({"without": ["v"]}, False), ({"without": ["v"], "keep": ["note"]}, True)):
        [found] = diff("t", source=pair.source_url, target=pair.target_url, **cast(Any, words))
        assert found.equal == equal
    done = call(PGPULL, "diff", "t", "--without", "v", "--keep", "note", **on(pair))
    assert done.returncode == 0, done.stderr


def test_row_versions_are_not_believed_of_other_columns(make_pair: MakePair) -> None:
    pair = make_pair(schema="create table t (id int primary key, v text, note text)")
    pair.source("insert into t select g, 'a', 'theirs' from generate_series(1, 12000) g", "analyze t")
    pair.target("insert into t select g, 'a', 'mine' from generate_series(1, 12000) g", "analyze t")
    kept = pulled(pair, "t", keep=["note"], on_conflict="update")
    assert (kept.tally.skipped, pulled(pair, "t", keep=["note"], on_conflict="update").plan.method) == (
        12000,
        Method.VERSIONS,
    )
    assert pulled(pair, "t", on_conflict="update").tally.updated == 12000


SCRIPT_AS_RECIPE = (ROOT / "docs" / "recipes.md").read_text().split("```toml\n")[1].split("```")[0]


GIVEN = {"from": "2025-01-02", "to": "2025-01-04", "thread": "0d7a9e04-6c2d-9b1a-f3a4-6f0f0c5b9c1e"}


@pytest.mark.parametrize("chosen", ["", "from", "to", "from to", "thread", "from to thread"])
def test_the_script_is_a_recipe_whatever_is_left_out(chosen: str) -> None:
    given = {name: GIVEN[name] for name in chosen.split()}
    scripts = make_request(
        "askwealth.message",
        since=given.get("from"),
        until=given.get("to"),
        equals={"thread_id": given["thread"]} if "thread" in given else None,
        max_errors="5%",  # the file's own default, which the script follows, too
    )
    assert recipes(SCRIPT_AS_RECIPE).recipe("messages", given, {}).single == scripts


def test_the_script_and_its_recipe_bring_the_same(pair: Pair, tmp_path: Path) -> None:
    pair.add_messages("source", 100)
    (tmp_path / "pgpull.toml").write_text(SCRIPT_AS_RECIPE)
    first, end = GIVEN["from"], GIVEN["to"]
    script = call(SCRIPT, "--from-date", first, "--to-date", end, **on(pair))
    here = pair.images("target", "askwealth.message")
    pair.target("truncate askwealth.message")
    recipe = call(PGPULL, "run", "messages", "--set", f"from={first}", "--set", f"to={end}", **on(pair))
    assert (script.returncode, recipe.returncode) == (0, 0), script.stderr + recipe.stderr
    assert pair.images("target", "askwealth.message") == here
    said = [re.findall("^(?:WHAT|HOW|fetched).*", done.stdout, re.MULTILINE) for done in (script, recipe)]
    assert said[0] == said[1]


def test_the_command_line_lists_runs_and_rehearses_recipes(pair: Pair, tmp_path: Path) -> None:
    pair.add_messages("source", 20)
    file = tmp_path / "pgpull.toml"
    file.write_text(MESSAGES)
    listed = call(PGPULL, "run", "--config", str(file), **on(pair))
    assert re.search(r"thread +One thread", listed.stdout)
    assert "--set id=...  the thread's uuid\n" in listed.stdout
    assert "--set since=...  first day (default: 2020-01-01)\n" in listed.stdout
    [(thread,)] = pair.source("select thread_id::text from askwealth.message limit 1")
    words = ["run", "thread", "--set", f"id={thread}", "--config", str(file)]
    dry = call(PGPULL, *words, "--dry-run", **on(pair))
    assert "nothing was written" in dry.stdout
    done = call(PGPULL, *words, **on(pair))
    assert done.returncode == 0, done.stderr
    assert "askwealth.message: fetched 10 = inserted 10" in done.stdout
    assert pair.target("select count(annotations) from askwealth.message") == [(0,)]
    wrong = call(PGPULL, "run", "thread", "--config", str(file), **on(pair))
    assert wrong.returncode == 2
    assert "hint: add --set id=VALUE" in wrong.stderr


@pytest.fixture
def ruled(pair: Pair, tmp_path: Path) -> Pair:
    """Give a pair beside a file with a rule for its table."""
    pair.add_messages("source", 30)
    (tmp_path / "pgpull.toml").write_text(
        "[tables.'askwealth.message']\nwithout = ['annotations']\nwindow = 'created_at'\nuntil = 2025-01-02\n"
    )
    return pair


@pytest.mark.parametrize("command", [[*PGPULL, "pull", "askwealth.message"], [*TABLES, "askwealth.*"], SCRIPT])
def test_rules_hold_whatever_pulls(ruled: Pair, command: list[str]) -> None:
    done = call(command, **on(ruled))
    assert done.returncode == 0, done.stderr
    assert ruled.target("select count(*), count(annotations) from askwealth.message") == [(24, 0)]


def test_rules_hold_where_nothing_is_pulled(ruled: Pair) -> None:
    shown = call(PGPULL, "status", "askwealth.message", **on(ruled))
    assert "24 missing here" in shown.stdout
    assert "24 missing here" in call(SCRIPT, "--status", **on(ruled)).stdout
    assert "5 columns" in call(PGPULL, "check", "askwealth.message", **on(ruled)).stdout
    pulled(ruled, "askwealth.message", until="2025-01-02", without=["annotations"])
    assert call(PGPULL, "diff", "askwealth.message", **on(ruled)).returncode == 0


@pytest.mark.parametrize(
    ("words", "said", "hint"),
    [
        (["r", "--set", "x=1", "--set", "x=2"], "--set gives x a value twice", "one value"),
        (["r", "--set", "S3cret"], "--set is not NAME=VALUE", "--set id="),
        (["--set", "x=1"], "no recipe is named", "pgpull run RECIPE"),
        (["r", "--set", "x=1", "--config", "nix.toml"], "nix.toml cannot be read", "--config"),
    ],
)
def test_a_wrong_word_for_a_recipe_is_refused_before_anything_is_asked(
    tmp_path: Path, words: list[str], said: str, hint: str
) -> None:
    text = "[recipes.r]\nparameters = {x = ''}\nwhere = 'a = {x}'\ntables = ['t']\n"
    (tmp_path / "pgpull.toml").write_text(text)
    done = call(PGPULL, "run", *words)
    assert done.returncode == 2
    assert said in done.stderr
    assert hint in done.stderr
    assert "S3cret" not in done.stderr


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("[tool.pgpull.recipes.r]\ntables = ['t']\n", "r"),
        ("tool.pgpull.recipes.r.tables = ['t']\n", "r"),
        ("[tool.pgpullx]\na = 1\n", "above"),
        ("# pgpull\n[project\n", "above"),
        ("tool = 'pgpull'\n", "above"),
    ],
)
def test_a_pyproject_is_taken_where_it_has_a_word_for_us(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, found: str
) -> None:
    (tmp_path / "pgpull.toml").write_text("[recipes.above]\ntables = ['t']\n")
    deep = tmp_path / "deep"
    deep.mkdir()
    (deep / "pyproject.toml").write_text(text)
    monkeypatch.chdir(deep)
    assert list(read_settings().recipes) == [found]


def test_pgpull_toml_wins_over_the_pyproject_beside_it(tmp_path: Path) -> None:
    (tmp_path / "pgpull.toml").write_text("[recipes.ours]\ntables = ['t']\n")
    (tmp_path / "pyproject.toml").write_text("[tool.pgpull.recipes.theirs]\ntables = ['t']\n")
    assert list(read_settings().recipes) == ["ours"]


def test_who_has_no_file_does_not_wait_for_its_models() -> None:
    asked = "import sys, pgpull.cli as c; c.recipes(); print('pgpull.recipe_file' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", asked], text=True, capture_output=True, check=True)
    assert done.stdout == "False\n"


def test_a_pattern_within_another_means_what_both_mean() -> None:
    both = TablePattern.parse("a.*").within(TablePattern.parse("*.b"))
    assert both.matches(TableName("a", "b"))
    assert not both.matches(TableName("a", "c"))
