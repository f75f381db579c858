"""The house keeps its own rules: who may import whom, where SQL stands, who reads the environment."""

import ast
import re
from pathlib import Path

import pytest

import pgpull

SOURCE = Path(pgpull.__file__).parent

# From the ground up; a module imports only from floors below its own.
FLOORS = [
    {"errors", "inheriting", "starting"},
    {"asking", "bastions", "embedded", "nearby", "outlets", "private_files"},
    {"arguments", "endpoints", "patience", "periods", "shapes"},
    {"masking"},
    {"manners", "model", "relations"},
    {"archives", "compatibility", "corrections", "pacing", "plans", "resolving", "splitting"},
    {"columnar", "findings", "pages", "places", "results", "requesting", "sql", "substitutes", "toml_lines"},
    {"choosing", "diagnosis", "digesting", "drift", "narrowing", "ordering", "placeholders", "programs"},
    {"overwriting", "rejects_file", "selecting"},
    {"objecting", "tunnels"},
    {"reaching"},
    {"connecting"},
    {"fitting"},
    {"exposed", "matching"},
    {"ruling"},
    {"planning", "recipe_models", "recipes", "sessions", "storing", "streams"},
    {"packing", "parting", "reading", "spooling", "watching", "workers"},
    {"swapping", "unpacking"},
    {"recipe_file", "bags", "catalog", "drifting", "dumping", "guarding", "listening", "rejecting"},
    {"making", "merging", "scoping"},
    {"applying", "comparing", "creating", "finishing", "privacy", "standing", "versions"},
    {"laying"},
    {"origins"},
    {"discovering", "looking", "moving", "pruning", "waiting"},
    {"deciding", "relating", "sharing"},
    {"preparing", "pulling", "trying"},
    {"exporting", "failing", "siding"},
    {"waves"},
    {"running"},
    {"walking"},
    {"stretching"},
    {"calling", "checking", "diffing", "rehearsing", "surveying"},
    {"json_facts", "retrying", "seeding", "wording"},
    {"config_file", "logfile", "motion", "picture"},
    {"printing"},
    {"reporting", "settings"},
    {"completing", "manual"},
    {"options"},
    {"demo", "dispatching", "fixtures", "hooks"},
    {"commands"},
    {"cli"},
    {"scripts"},
]
FLOOR = {name: floor for floor, names in enumerate(FLOORS) for name in names}

SQL_WORDS = re.compile(r"\b(SELECT .* FROM|INSERT INTO|DELETE FROM|UPDATE \w+ SET|COPY .* (FROM|TO) STD)\b")


def modules() -> list[Path]:
    return sorted(path for path in SOURCE.rglob("*.py") if path.parent != SOURCE or path.stem[0] != "_")


def name_of(path: Path) -> str:
    return ".".join(path.relative_to(SOURCE).with_suffix("").parts)


def imported(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module == "pgpull":
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("pgpull."):
            found.add((node.module or "").split(".")[1])
    return found & FLOOR.keys()


@pytest.mark.parametrize("path", modules(), ids=name_of)
def test_imports_point_downwards_only(path: Path) -> None:
    name = path.relative_to(SOURCE).parts[0].removesuffix(".py")
    assert name in FLOOR, f"{name} has no floor in this test"
    upwards = {other for other in imported(path) - {name} if FLOOR[other] >= FLOOR[name]}
    assert not upwards


@pytest.mark.parametrize("path", modules(), ids=name_of)
def test_sql_words_stand_in_sql_alone(path: Path) -> None:
    if path.relative_to(SOURCE).parts[0] == "sql":
        pytest.skip("this is where they stand")
    strings = [
        node.value
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    ]
    assert not [text for text in strings if SQL_WORDS.search(text)]


@pytest.mark.parametrize("path", modules(), ids=name_of)
def test_settings_alone_read_the_environment(path: Path) -> None:
    if name_of(path) not in ("settings", "inheriting"):  # a program that is started gets it handed on
        assert not re.search(r"\bos\.(environ|getenv)\b", path.read_text())
