"""Everything in a TOML file is found in the line where it stands."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Iterator
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from pgpull.toml_lines import Place, line_of, lines

ODD = '''
a = 1   # b = 2
"q\\u0041 k".'l.m' . z = 2
[t."x.y" . deep]
text = """
[not.a.table]
not = "a key" \\""" """"
literal = \'\'\'
[[nor.this]]
\'\'\'\'
empty = ""
at = 1979-05-27 07:32:00 # a blank in it
[[l]]
b = [ 1, [2,
   3, # }, ]
], { n.o = 1, p = "}" }, "a,]b"
]
[[l]]
[l.sub]
b = true
[[l.inner]]
[[l.inner]]
c = \'#\'
'''


def places(value: Any, place: Place = ()) -> Iterator[Place]:
    """Yield the way to everything that a parsed file holds."""
    steps = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for step, inner in steps:
        yield (*place, step)
        yield from places(inner, (*place, step))


def test_all_that_the_parser_finds_has_a_line_and_nothing_else_has() -> None:
    assert set(lines(ODD)) == set(places(tomllib.loads(ODD)))


def test_odd_places_are_found_in_their_lines() -> None:
    wanted: dict[Place, int] = {
        ("a",): 2,
        ("qA k", "l.m", "z"): 3,
        ("t", "x.y", "deep"): 4,
        ("t", "x.y", "deep", "literal"): 8,
        ("t", "x.y", "deep", "at"): 12,
        ("l", 0, "b", 1, 0): 14,
        ("l", 0, "b", 1, 1): 15,
        ("l", 0, "b", 2, "p"): 16,
        ("l", 0, "b", 3): 16,
        ("l", 1): 18,
        ("l", 1, "sub", "b"): 20,
        ("l", 1, "inner", 1, "c"): 23,
    }
    assert {place: line_of(ODD, place) for place in wanted} == wanted


def test_what_is_not_there_is_in_the_line_of_the_closest_that_is() -> None:
    assert line_of(ODD, ("l", 1, "sub", "nothing", 3)) == 19
    assert line_of(ODD, ("nowhere",)) == 1


# --- any file -----------------------------------------------------------------------------------------------

keys = st.text(st.sampled_from("ab.\"' #=[]{},é"), max_size=4)
scalars = st.one_of(
    st.integers().map(str),
    st.booleans().map(lambda truth: str(truth).lower()),
    st.text(st.sampled_from("ab'\"\\#=[]{},"), max_size=6).map(json.dumps),
    st.sampled_from(["'''\n[x]\n'''", '"""\na = 1\n"""', "1979-05-27 07:32:00", "1e5", "inf", "'#'"]),
)
blanks = st.sampled_from([" ", "", "\t"])
gaps = st.sampled_from(["", " ", "\n", " # ],}\n", "\n\n"])


class Writer:
    """Writes a file, and knows in which line it wrote what."""

    def __init__(self, draw: Any) -> None:
        self.draw = draw
        self.text = ""
        self.known: dict[Place, int] = {}

    def say(self, text: str) -> None:
        self.text += text

    def note(self, place: Place) -> None:
        self.known.setdefault(place, self.text.count("\n") + 1)

    def key(self, name: str) -> None:
        self.say(json.dumps(name) if "'" in name or self.draw(st.booleans()) else f"'{name}'")

    def pair(self, place: Place, depth: int) -> None:
        self.note(place)
        self.key(str(place[-1]))
        self.say(self.draw(blanks) + "=" + self.draw(blanks))
        self.value(place, depth)

    def value(self, place: Place, depth: int) -> None:
        kind = self.draw(st.sampled_from("stl" if depth else "s"))
        if kind == "s":
            self.say(self.draw(scalars))
        elif kind == "t":
            self.say("{")
            for number, name in enumerate(self.draw(st.lists(keys, max_size=3, unique=True))):
                self.say(", " if number else self.draw(blanks))
                self.pair((*place, name), depth - 1)
            self.say("}")
        else:
            self.say("[" + self.draw(gaps))
            for number in range(self.draw(st.integers(0, 3))):
                self.say(f",{self.draw(gaps)}" if number else "")
                self.note((*place, number))
                self.value((*place, number), depth - 1)
            self.say(self.draw(gaps) + "]")

    def pairs(self, place: Place) -> None:
        for name in self.draw(st.lists(keys, max_size=3, unique=True)):
            self.say(self.draw(gaps))
            self.pair((*place, name), 2)
            self.say("\n")

    def table(self, name: str) -> None:
        many = self.draw(st.integers(0, 2))
        for number in range(many or 1):
            place: Place = (name, number) if many else (name,)
            self.note((name,))
            self.note(place)
            self.say("[[" if many else "[")
            self.key(name)
            self.say("]] # x\n" if many else "]\n")
            self.pairs(place)


@given(st.data())
def test_any_file_is_read_as_it_was_written(data: st.DataObject) -> None:
    writer = Writer(data.draw)
    first, *rest = data.draw(st.lists(keys, min_size=1, max_size=4, unique=True))
    writer.pair((first,), 2)
    writer.say("\n")
    for name in rest:
        writer.table(name)
    assert set(places(tomllib.loads(writer.text))) == set(writer.known)
    assert lines(writer.text) == writer.known
