"""What looks personal, and has no rule that is for it. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator

from pgpull.errors import PlanError
from pgpull.fitting import header, passes_over, quoted_key
from pgpull.masking import EVERY, Kind, MaskRule, Masks, Path, looks_personal
from pgpull.shapes import DOCUMENTS, Column, Shape


def unruled(masks: Masks, shape: Shape, columns: Iterable[Column]) -> Iterator[Column]:
    """Yield the columns that look personal by their names and have no rule that is for them."""
    for column in columns:
        rule = masks.rule_for(shape.names, column.name)
        if is_named_so(column) and (rule is None or is_left_bare(rule, column)):
            yield column


def is_named_so(column: Column) -> bool:
    """Tell whether a column looks personal by its name."""
    return looks_personal(column.name) and column.type.category not in "BE"


def is_left_bare(rule: MaskRule, column: Column) -> bool:
    """Tell whether a pattern means a column, and its mask does not."""
    return rule.mask.kind is not Kind.KEEP and passes_over(rule, column)


def passed_over(masks: Masks, shape: Shape) -> Iterator[str]:
    """Say which columns look personal and are not masked, though a pattern means their names."""
    for column in shape.columns:
        rule = masks.rule_for(shape.names, column.name)
        if rule and is_named_so(column) and is_left_bare(rule, column):
            why = left_bare(rule, column)
            yield f"{quoted_key(column.name)} {why}; where it is to be masked, give it a rule by its name"


def left_bare(rule: MaskRule, column: Column) -> str:
    """Say that a pattern's mask passes a column over."""
    return f'is {column.type.name} and stays as it is: the mask {rule.mask} of "{rule.column}" is for texts'


def documents(
    masks: Masks, shape: Shape, columns: Iterable[Column]
) -> Iterator[tuple[Column, tuple[Path, ...]]]:
    """Yield the columns of documents that have no rule for all of their keys, and the paths that have one."""
    for column in columns:
        rule = masks.rule_for(shape.names, column.name)
        if column.type.base in DOCUMENTS and (rule is None or rule.mask.kind is Kind.PATHS):
            yield column, tuple(path for path, _ in rule.mask.paths) if rule else ()


def is_led_to(path: Path, ruled: Iterable[Path]) -> bool:
    """Tell whether a rule leads to a place in a document, or to something that it is a part of."""
    return any(
        len(rule) <= len(path) and all(step in (EVERY, own) for step, own in zip(rule, path, strict=False))
        for rule in ruled
    )


def not_ruled_on(shape: Shape, names: Collection[str]) -> PlanError:
    """Say what looks personal and has no rule."""
    first = next(iter(names))
    example = f'{quoted_key(first)} = "keep", or a mask'
    if " (key " in first:
        column, _, key = first.removesuffix(")").partition(" (key ")
        example = f'{quoted_key(column)} = {{ "{key}" = "keep" }}, or a mask; or "scrub" for all of it'
    return PlanError(
        f"{shape.table} has what looks personal and has no mask rule: {', '.join(names)}",
        f"rule on each in pgpull.toml, under {header(shape.table)}: {example}",
    )
