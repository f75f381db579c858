"""Hashes of rows that two servers, of whatever versions and encodings, come to alike."""

from __future__ import annotations

from typing import Final

from psycopg.sql import SQL, Composable, Composed, Identifier

from pgpull.plans import Digest, Image

# For one such column there is no need to make a record of it first. All there since PostgreSQL 11.
_OWN_HASH: Final = {
    "int2": "hashint2extended({}, 0)",
    "int4": "hashint4extended({}, 0)",
    "int8": "hashint8extended({0}, {0} >> 32)",
    "text": "hashtextextended({}, 0)",
    "uuid": "uuid_hash_extended({}, 0)",
}

# Hashed by their bytes as text, whatever their collation takes for equal.
_TEXTS: Final = ("bpchar", "text", "varchar")

# The hash of eight bytes folds them into four first, so that int8 0 and 4294967297 have the same
# (hashfunc.c, hashint8extended). As the bytes that they are sent as, all of them count.
_BYTES: Final = {
    "int8": "int8send",
    "time": "time_send",
    "timestamp": "timestamp_send",
    "timestamptz": "timestamptz_send",
}


def digest(of: Digest, encoding: str) -> Composed:
    """Hash columns of a row so that any two rows that differ in them get different hashes, 2^-64 aside.

    A hash of the row as it stands would not do: it takes what is equal for the same, and jsonb 1.0 and 1.00,
    numeric 1.0 and 1.00, 0 and -0 are equal. So the columns are hashed as their text, but for the types whose
    equality is identity. Text is hashed by its bytes, whatever its collation takes for equal.

    Args:
        of: which columns, and how.
        encoding: that of the database which is asked.
    """
    images = [_image(image, of, encoding) for image in of.images]
    if not images:
        return Composed([SQL("0::bigint")])
    if not of.by_record:
        return SQL("hashtextextended(ROW({})::text, 0)").format(SQL(", ").join(images))
    if len(images) == 1 and (function := _OWN_HASH.get(of.images[0].native or "")) and not of.convert:
        return SQL("coalesce({}, 0)").format(SQL(function).format(_plain(of.images[0])))
    return SQL("hash_record_extended(ROW({}), 0)").format(SQL(", ").join(images))


def sum_of(of: Digest, hashed: Composable) -> Composed:
    """Sum up hashes so that sets of different rows have different sums, 2^-64 aside.

    A record's hash is itself a sum over its columns (rowtypes.c, hash_record_extended): rows that swap the
    values of a column would come to the same together. Hashed once more, they do not.
    """
    if of.by_record and len(of.images) > 1:
        hashed = SQL('hashtextextended({}::text COLLATE "C", 0)').format(hashed)
    return SQL("coalesce(sum({}), 0)::text").format(hashed)


def _image(image: Image, of: Digest, encoding: str) -> Composable:
    if image.native and image.native not in _TEXTS and of.by_record:
        sent = _BYTES.get(image.native)
        return SQL("{}({})").format(SQL(sent), _plain(image)) if sent else _plain(image)
    as_text = _as_text(image)
    if not of.convert:
        return as_text
    if not of.by_record:
        return SQL("encode(convert_to({}, 'UTF8'), 'hex')").format(as_text)
    # the bytes of a bytea are hashed as those of a text are
    return as_text if encoding == "UTF8" else SQL("convert_to({}, 'UTF8')").format(as_text)


def _plain(image: Image) -> Composable:
    """The value as it is, below any domain."""
    if image.native in _TEXTS:
        return _as_text(image)
    return SQL("{}::pg_catalog.{}").format(Identifier(image.column), SQL(image.native or "text"))


def _as_text(image: Image) -> Composable:
    column = Identifier(image.column)
    if image.native == "bpchar":  # cast to text, it would lose the blanks at its end
        return SQL('textin(bpcharout({})) COLLATE "C"').format(column)
    value: Composable = column
    if image.by_way_of == "numeric":
        # whatever its scale; trim_scale came with PostgreSQL 13
        value = SQL(
            "CASE WHEN strpos({0}::numeric::text, '.') > 0"
            " THEN rtrim(rtrim({0}::numeric::text, '0'), '.') ELSE {0}::numeric::text END"
        ).format(column)
    elif image.by_way_of:
        value = SQL("{}::{}").format(column, SQL(image.by_way_of))
    return SQL('({})::text COLLATE "C"').format(value)
