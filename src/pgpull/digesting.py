"""Which hash tells rows apart on both sides alike. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from pgpull.plans import Digest, Image
from pgpull.shapes import Column, Identity

# Types whose equality is identity: any two values that differ to the eye get different hashes, and one value
# has one hash on every server. Not so numeric (1.0 = 1.00), floats (0 = -0), jsonb, interval (24:00 = 1 day),
# citext, arrays (whose bounds are not hashed), enums (hashed by oid).
_NATIVE: Final = frozenset(
    "bool bytea date int2 int4 int8 macaddr oid text time timestamp timestamptz uuid varchar".split()
)

_HASHES_RECORDS: Final = 14
"""The first major version that has hash_record_extended."""


def digest_of(pairs: Iterable[tuple[Column, Column]], source: Identity, target: Identity) -> Digest:
    """Choose how to hash some columns.

    Args:
        pairs: each column as the source and as the target has it.
        source: the server's database.
        target: the local one.
    """
    return Digest(
        images=tuple(_image(theirs, ours) for theirs, ours in pairs),
        by_record=min(source.major, target.major) >= _HASHES_RECORDS,
        # a SQL_ASCII database does not know what encoding its text is in: bytes are compared with bytes
        convert=source.encoding != target.encoding and "SQL_ASCII" not in (source.encoding, target.encoding),
    )


def _image(theirs: Column, ours: Column) -> Image:
    if theirs.type.base != ours.type.base:
        return Image(ours.name, by_way_of=_common(theirs, ours))
    # char(5) and char(6) pad the same value differently: cast to text, they are alike
    native = ours.type.base in _NATIVE or (ours.type.base == "bpchar" and theirs.type.name == ours.type.name)
    return Image(ours.name, ours.type.base if ours.type.builtin and native else None)


def _common(theirs: Column, ours: Column) -> str | None:
    """Return the type that spells the values of two types alike; None where their own texts have to do."""
    both = {theirs.type.base, ours.type.base}
    common = (
        ({"int2", "int4", "int8", "numeric"}, "numeric"),
        ({"date", "timestamp", "timestamptz"}, "timestamptz"),
        ({"json", "jsonb"}, "jsonb"),
    )
    return next((name for kinds, name in common if both <= kinds), None)
