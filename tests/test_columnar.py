"""Rows go from CSV to Parquet with their types, and come back as they were."""

from __future__ import annotations

from pathlib import Path

import pytest
from pyarrow import parquet

from pgpull.columnar import retype, to_csv, to_parquet
from pgpull.errors import PlanError
from pgpull.shapes import Column, ColumnType


def _column(base: str, name: str = "", builtin: bool = True) -> Column:
    return Column(f"{base} {name}", ColumnType(name or base, base, 1, "b", "U", builtin, True))


TYPED = [
    *map(_column, "bool int2 int8 oid float4 float8 date timestamp timestamptz bytea".split()),
    _column("numeric", "numeric(10,2)"),
]
AS_TEXT = [
    *map(_column, "text jsonb uuid interval numeric _int4".split()),
    _column("numeric", "numeric(5,7)"),
    _column("numeric", "numeric(39,2)"),
    _column("int4", "theirs", builtin=False),
]
ROWS = (
    b"t,32767,-9223372036854775808,4294967295,0.1,1e+300,2025-01-31,2025-01-31 23:59:59.5,"
    b'2025-01-31 00:00:00+00,\\x00ff,-0.05,"a\n""b","{""a"": 1.0}",,01:00:00,NaN,"{1,NULL}",,,1\n'
    b",,,,,,,,,,,,,,,,,,,\n"
    b"f,0,0,0,NaN,-Infinity,0001-01-01,9999-12-31 23:59:59.999999,1999-01-01 00:00:00.000001+00,"
    b'\\x,99999999.99,"",,,,,,,,\n'
)


def _parquet(folder: Path, rows: bytes, columns: list[Column], as_text: tuple[str, ...] = ()) -> frozenset[str]:
    csv = folder / "rows.csv"
    csv.write_bytes(rows)
    return to_parquet(csv, folder / "rows.parquet", columns, as_text, "zstd")


def _back(folder: Path, rows: int = 0) -> bytes:
    return b"".join(to_csv(folder / "rows.parquet", rows))


def _values(rows: bytes) -> bytes:
    """Take quotes away that are only one way of writing; NULL stays apart from empty."""
    return rows.replace(b'""', b"!").replace(b'"', b"").replace(b"Infinity", b"inf").replace(b"NaN", b"nan")


def test_rows_come_back_from_parquet_as_they_were(tmp_path: Path) -> None:
    assert _parquet(tmp_path, ROWS, [*TYPED, *AS_TEXT]) == frozenset()
    assert _values(_back(tmp_path)) == _values(ROWS)


def test_columns_have_the_type_that_takes_their_values_exactly(tmp_path: Path) -> None:
    _parquet(tmp_path, ROWS, [*TYPED, *AS_TEXT])
    types = [str(kind) for kind in parquet.read_schema(tmp_path / "rows.parquet").types]
    assert types[: len(TYPED)] == [
        *("bool", "int16", "int64", "uint32", "float", "double", "date32[day]"),
        *("timestamp[us]", "timestamp[us, tz=UTC]", "binary", "decimal128(10, 2)"),
    ]
    assert set(types[len(TYPED) :]) == {"string"}


@pytest.mark.parametrize(
    ("base", "odd"),
    [
        ("date", "infinity"),
        ("date", "0044-03-15 BC"),
        ("date", "10000-01-01"),
        ("timestamp", "-infinity"),
        ("timestamp", "294276-12-31 23:59:59.999999"),
        ("timestamptz", "infinity"),
        ("timestamptz", "0044-03-15 00:00:00+00 BC"),
        ("numeric", "NaN"),
    ],
)
def test_a_column_with_a_value_that_no_type_takes_is_text(tmp_path: Path, base: str, odd: str) -> None:
    column = _column(base, "numeric(10,2)" if base == "numeric" else "")
    assert _parquet(tmp_path, f"{odd}\n\n".encode(), [column]) == {column.name}
    assert _back(tmp_path) == f'"{odd}"\n\n'.encode()


def test_a_file_is_written_anew_as_text_where_a_later_one_of_its_table_is(tmp_path: Path) -> None:
    _parquet(tmp_path, ROWS, [*TYPED, *AS_TEXT])
    retype(tmp_path / "rows.parquet", [TYPED[6].name, TYPED[7].name, TYPED[10].name], None)
    types = [str(kind) for kind in parquet.read_schema(tmp_path / "rows.parquet").types]
    assert {types[6], types[7], types[10]} == {"string"}
    assert _values(_back(tmp_path)) == _values(ROWS)


def test_null_is_apart_from_empty_in_a_single_column(tmp_path: Path) -> None:
    rows = b'\n""\n"\\."\n\n'
    _parquet(tmp_path, rows, [_column("text")])
    assert _back(tmp_path) == rows


@pytest.mark.parametrize("text", ["\ufeff", "\ufeff\ufeffa", '"\ufeff,"', "a\ufeff"])
def test_a_value_keeps_its_mark_of_byte_order_at_the_very_beginning(tmp_path: Path, text: str) -> None:
    rows = f"{text},1\n{text},2\n".encode()
    _parquet(tmp_path, rows, [_column("text"), _column("int4")])
    assert _values(_back(tmp_path)) == _values(rows)


@pytest.mark.parametrize("rows", [b"\\x\n" * 12, b"\n" * 12, b"\\x\n\\x0a\n\n\\x0bff\n\\x\n"])
def test_bytes_come_back_however_few_there_are(tmp_path: Path, rows: bytes) -> None:
    _parquet(tmp_path, rows, [_column("bytea")])
    assert _values(_back(tmp_path)) == rows


def test_rows_without_columns_and_columns_without_rows_come_back(tmp_path: Path) -> None:
    _parquet(tmp_path, b"\n\n\n", [])
    assert _back(tmp_path, 3) == b"\n\n\n"
    _parquet(tmp_path, b"", TYPED)
    assert _back(tmp_path) == b""
    assert parquet.read_schema(tmp_path / "rows.parquet").names == [column.name for column in TYPED]


@pytest.mark.parametrize("ours", [True, False])
def test_wide_rows_come_back_a_few_megabytes_at_a_time(tmp_path: Path, ours: bool) -> None:
    rows = b"".join(b"%d,%0100000d\n" % (n, n) for n in range(300))
    _parquet(tmp_path, rows, [_column("int4"), _column("text")])
    if not ours:
        parquet.write_table(parquet.read_table(tmp_path / "rows.parquet"), tmp_path / "rows.parquet")
    pieces = list(to_csv(tmp_path / "rows.parquet", 300))
    assert _values(b"".join(pieces)) == rows
    assert max(map(len, pieces)) < 10_000_000


def test_text_that_is_not_utf_8_asks_for_csv_and_is_not_shown(tmp_path: Path) -> None:
    with pytest.raises(PlanError, match="UTF-8") as caught:
        _parquet(tmp_path, b"secret\xff\n", [_column("text")])
    assert "secret" not in f"{caught.value.message} {caught.value.hint}"
    assert "--format" in caught.value.hint
