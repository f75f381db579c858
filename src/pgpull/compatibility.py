"""Whether values of one type are values of another: in binary, as text, and when they are compared. Pure."""

from __future__ import annotations

from typing import Final

from pgpull.shapes import DOCUMENTS, TIMES, Column, ColumnType

# Binary forms that hold oids, which mean something else on another server, or that are sent but not taken.
CATALOG_BOUND: Final = frozenset(
    "regclass regcollation regconfig regdictionary regnamespace regoper regoperator regproc regprocedure"
    " regrole regtype aclitem xml pg_node_tree pg_ndistinct pg_dependencies pg_mcv_list".split()
)

_OF_ONE_ORDER: Final = frozenset(
    "int2 int4 int8 numeric float4 float8 money oid uuid bool bytea bit varbit inet cidr macaddr macaddr8"
    " date time timetz timestamp timestamptz interval".split()
)

# Extension types whose send and receive functions are known to give back what they took.
_KNOWN_EXTENSION_TYPES: Final = frozenset({"citext", "halfvec", "hstore", "sparsevec", "vector"})


def text_carries(theirs: ColumnType, ours: ColumnType) -> bool:
    """Tell whether text can carry values from one type to the other, row by row at least.

    Text of any type can be stored as text, and text may spell a value of any type; numbers go to numbers
    and times to times. What does not fit in a row is a reject, not a reason to refuse the table.
    """
    if theirs.base == ours.base or "S" in (theirs.category, ours.category):
        return True
    if {theirs.base, ours.base} == set(DOCUMENTS) or {theirs.kind, ours.kind} == {"e"}:
        return True
    return theirs.category == ours.category and theirs.category in "ND"


def drifted(theirs: Column, ours: Column) -> bool:
    """Tell whether two columns have types that are written otherwise."""
    return _unqualified(theirs.type.name) != _unqualified(ours.type.name)


def spelled_alike(theirs: Column, ours: Column) -> bool:
    """Tell whether a key's text means the same on both sides: fewer digits make another of it."""
    if theirs.type.widest == ours.type.widest:
        return True
    return theirs.type.base == ours.type.base and _keeps(theirs.type, ours.type)


def _keeps(theirs: ColumnType, ours: ColumnType) -> bool:
    """Whether a type of the same base keeps all digits of the other's values."""
    narrow = "(" in ours.name and not (ours.base in TIMES and "(6)" in ours.name)
    return not narrow or _unqualified(theirs.name) == _unqualified(ours.name)


def tells_alike(theirs: ColumnType, ours: ColumnType) -> bool:
    """Tell whether an instant, or a value to be equal to, means the same rows by either type.

    Args:
        theirs: the server's; an archive's is text where local could not have it.
        ours: the local one.
    """
    if theirs.base in TIMES and ours.base in TIMES:
        return theirs.base == ours.base and _keeps(theirs, ours)
    return (_unqualified(theirs.name) == "citext") == (_unqualified(ours.name) == "citext")


def has_one_order(kind: ColumnType) -> bool:
    """Tell whether values of a type stand in the same order everywhere: a collation or labels may differ."""
    return kind.builtin and kind.base in _OF_ONE_ORDER


def travels(kind: ColumnType) -> bool:
    """Tell whether the binary form of a type's values means the same on every server."""
    if not kind.has_binary or kind.base in CATALOG_BOUND:
        return False
    if kind.kind == "e":
        return True  # an enum is sent as its label
    if kind.element is not None:
        return kind.element_builtin and kind.element not in CATALOG_BOUND
    return kind.builtin or (kind.extension is not None and kind.base in _KNOWN_EXTENSION_TYPES)


def _unqualified(type_name: str) -> str:
    """An extension's type may live in different schemas on the two sides."""
    return type_name.rpartition(".")[2]
