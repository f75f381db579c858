"""Rows in Parquet: from CSV as COPY writes it, and back, a column at a time in Arrow's own code.

A column gets the type that takes exactly its values. What Arrow has no such type for is Postgres' text, and so
is a whole column once one of its values does not fit: ``infinity``, a year before 1 or after 9999, NaN as a
numeric.
"""

from __future__ import annotations

import binascii
import re
from codecs import BOM_UTF8
from collections.abc import Collection, Iterator, Sequence
from io import BytesIO
from pathlib import Path
from typing import IO, Any, Final

from pgpull.archives import Compression
from pgpull.errors import PlanError, UsageError
from pgpull.shapes import Column, ColumnType

_NUMERIC: Final = re.compile(r"numeric\((\d+),(\d+)\)")

_WIDEST_DECIMAL: Final = 38
"""Digits in 128 bits."""

_FRACTION: Final = r"\.?0*$"

_ROWS_AT_ONCE: Final = 8192

_BLOCK: Final = 8 * 1024 * 1024
"""Bytes: what is read of a CSV file at once, and about what rows on their way back take."""

Arrow = Any
"""What is pyarrow's: it has no types of its own that a checker could read."""


def check_installed() -> None:
    """Make sure that Parquet can be read and written.

    Raises:
        UsageError: it cannot.
    """
    try:
        import pyarrow.csv
        import pyarrow.parquet  # noqa: F401
    except ImportError as error:
        raise UsageError(
            "Parquet needs pyarrow, which is not installed", "pip install 'pgpull[parquet]'"
        ) from error


def type_of(kind: ColumnType) -> Arrow:
    """Return the Arrow type that takes a column's values exactly, but for odd ones; text if there is none."""
    import pyarrow as arrow

    plain = {
        "bool": arrow.bool_(),
        "int2": arrow.int16(),
        "int4": arrow.int32(),
        "int8": arrow.int64(),
        "oid": arrow.uint32(),
        "float4": arrow.float32(),
        "float8": arrow.float64(),
        "date": arrow.date32(),
        "timestamp": arrow.timestamp("us"),
        "timestamptz": arrow.timestamp("us", "UTC"),
        "bytea": arrow.binary(),
    }
    if not kind.builtin:
        return arrow.string()
    if kind.base == "numeric" and (match := _NUMERIC.fullmatch(kind.name)):
        precision, scale = int(match[1]), int(match[2])
        if scale <= precision <= _WIDEST_DECIMAL:
            return arrow.decimal128(precision, scale)
    return plain.get(kind.base, arrow.string())


# --- to Parquet ------------------------------------------------------------------------------------------


def to_parquet(
    csv: Path, file: Path, columns: Sequence[Column], as_text: Collection[str], compression: Compression | None
) -> frozenset[str]:
    """Write the rows of a CSV file to a Parquet file.

    Args:
        csv: as COPY writes it, in UTF-8, without a header.
        file: to be written.
        columns: of the rows, in their order.
        as_text: columns that stay Postgres' text.
        compression: of the pages.

    Returns:
        The columns that are text though their type has a better one: those given, and those found here.

    Raises:
        PlanError: its text is not UTF-8.
    """
    rows = _read(csv, columns)
    made, odd = [], set(as_text)
    for column, texts in zip(columns, rows.columns, strict=True):
        fits = None if column.name in odd else _typed(texts, type_of(column.type))
        if fits is None:
            odd.add(column.name)
        made.append(texts if fits is None else fits)
    _write(made, [column.name for column in columns], file, compression)
    return frozenset(odd)


def _read(csv: Path, columns: Sequence[Column]) -> Arrow:
    """Read all values as text; what is empty and not quoted is NULL."""
    import pyarrow as arrow
    from pyarrow import csv as reader

    names = [f"{place}" for place in range(len(columns))]
    types = dict.fromkeys(names, arrow.string())
    size = csv.stat().st_size
    if not size or not columns:
        return arrow.schema(types.items()).empty_table()
    try:
        return reader.read_csv(
            _with_its_mark(csv),
            # no value is cut in two where a block takes them all
            read_options=reader.ReadOptions(column_names=names, block_size=max(_BLOCK, size + len(BOM_UTF8))),
            parse_options=reader.ParseOptions(newlines_in_values=True, ignore_empty_lines=False),
            convert_options=reader.ConvertOptions(
                column_types=types, null_values=[""], strings_can_be_null=True, quoted_strings_can_be_null=False
            ),
        )
    except arrow.ArrowInvalid:  # its message quotes values
        raise PlanError(
            "Parquet holds text in UTF-8, and the server's is not",
            "leave out --format parquet: CSV takes it as it is",
        ) from None


def _with_its_mark(csv: Path) -> Path | BytesIO:
    """Return a file so that a value at its beginning keeps U+FEFF, which Arrow would drop as a mark."""
    with csv.open("rb") as file:
        if file.read(len(BOM_UTF8)) != BOM_UTF8:
            return csv
        return BytesIO(BOM_UTF8 * 2 + file.read())


def _typed(texts: Arrow, kind: Arrow) -> Arrow | None:
    """Return values as what they are; None if there are some that the type does not take."""
    import pyarrow as arrow
    from pyarrow import compute

    if kind == arrow.string():
        return texts
    if kind == arrow.bool_():
        return compute.equal(texts, "t")
    if kind == arrow.binary():
        return arrow.chunked_array([_from_hex(chunk) for chunk in texts.chunks], kind)
    try:
        return compute.cast(texts, kind)
    except arrow.ArrowInvalid:
        return None


def _from_hex(texts: Arrow) -> Arrow:
    r"""Read ``\x0aff``, all values at once."""
    import pyarrow as arrow
    from pyarrow import compute

    # nothing is NULL on the way: a slice of what is not there would have a length below zero
    # (and binary_slice fails where most values are empty: pyarrow 26, "Negative buffer resize")
    digits = compute.utf8_slice_codeunits(compute.fill_null(texts, "\\x"), 2)
    _, places, data = digits.buffers()
    ends = arrow.Array.from_buffers(arrow.int32(), len(digits) + 1, [None, places])
    halves = compute.divide(ends, arrow.scalar(2, arrow.int32())).buffers()[1]
    raw = arrow.py_buffer(binascii.unhexlify(memoryview(data)[: ends[-1].as_py()] if data else b""))
    values = arrow.Array.from_buffers(arrow.binary(), len(digits), [None, halves, raw])
    return compute.if_else(texts.is_valid(), values, None)


def _write(columns: Sequence[Arrow], names: Sequence[str], file: Path, compression: Compression | None) -> None:
    import pyarrow as arrow
    from pyarrow import parquet

    table = arrow.Table.from_arrays(columns, names=list(names))
    parquet.write_table(
        table,
        file,
        compression=compression or "none",
        # a page is full only after so many values (1024 if nothing is said), and is read as a whole
        write_batch_size=_rows_at_once(table.nbytes, len(table)),
    )


def retype(file: Path, as_text: Collection[str], compression: Compression | None) -> None:
    """Write a Parquet file anew, with more of its columns as text, as other files of its table have them.

    Args:
        file: which.
        as_text: columns that are to be text.
        compression: of the pages.
    """
    import pyarrow as arrow
    from pyarrow import parquet

    table = parquet.read_table(file, partitioning=None)
    made = [
        _text(column) if name in as_text and column.type != arrow.string() else column
        for name, column in zip(table.column_names, table.columns, strict=True)
    ]
    _write(made, table.column_names, file, compression)


# --- from Parquet ----------------------------------------------------------------------------------------


def to_csv(file: Path | IO[bytes], rows: int) -> Iterator[bytes]:
    """Yield the rows of a Parquet file as COPY reads CSV, some at a time.

    Args:
        file: as :func:`to_parquet` wrote it.
        rows: how many there are; a file without columns does not know.
    """
    import pyarrow as arrow
    from pyarrow import csv, parquet

    whole = parquet.ParquetFile(file, buffer_size=_BLOCK)
    if not len(whole.schema_arrow):
        yield b"\n" * rows
        return
    how = csv.WriteOptions(include_header=False, quoting_style="needed")
    for batch in _batches(whole):
        texts = [_text(arrow.chunked_array([column])) for column in batch.columns]
        made = BytesIO()
        csv.write_csv(
            arrow.Table.from_arrays(texts, names=[str(place) for place in range(len(texts))]), made, how
        )
        yield made.getvalue()


def _batches(whole: Arrow) -> Iterator[Arrow]:
    """Yield the rows some at a time: fewer, the wider they are."""
    for number in range(whole.num_row_groups):
        group = whole.metadata.row_group(number)
        some = _rows_at_once(group.total_byte_size, group.num_rows)
        yield from whole.iter_batches(batch_size=some, row_groups=[number])


def _rows_at_once(size: int, rows: int) -> int:
    """Return how many rows take about a block, where so many take that many bytes."""
    return min(max(_BLOCK * rows // max(size, 1), 1), _ROWS_AT_ONCE)


def _text(values: Arrow) -> Arrow:
    """Spell values as Postgres reads them."""
    import pyarrow as arrow
    from pyarrow import compute

    if arrow.types.is_binary(values.type):
        return arrow.chunked_array([_to_hex(chunk) for chunk in values.chunks], arrow.string())
    if arrow.types.is_boolean(values.type):
        return compute.if_else(values, "t", "f")
    texts = compute.cast(values, arrow.string())
    if not arrow.types.is_timestamp(values.type):
        return texts
    if values.type.tz is None:
        return compute.replace_substring_regex(texts, _FRACTION, "")
    short = compute.replace_substring_regex(compute.utf8_rtrim(texts, "Z"), _FRACTION, "")
    return compute.binary_join_element_wise(short, "+00", "")


def _to_hex(values: Arrow) -> Arrow:
    import pyarrow as arrow
    from pyarrow import compute

    filled = compute.fill_null(values, b"")
    _, places, data = filled.buffers()
    # a piece of a longer array has places of its own in the middle of that one's bytes
    ends = arrow.Array.from_buffers(arrow.int32(), len(filled) + 1, [None, places], offset=filled.offset)
    first, last = ends[0], ends[-1]
    doubled = compute.multiply(compute.subtract(ends, first), arrow.scalar(2, arrow.int32())).buffers()[1]
    bytes_here = memoryview(data)[first.as_py() : last.as_py()] if data else b""
    digits = arrow.py_buffer(binascii.hexlify(bytes_here))
    texts = arrow.Array.from_buffers(arrow.string(), len(values), [None, doubled, digits])
    return compute.if_else(values.is_valid(), compute.binary_join_element_wise("\\x", texts, ""), None)
