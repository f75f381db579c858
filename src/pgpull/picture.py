"""A survey as bars in a terminal. Pure: no row's value but the periods and the newest date."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, time
from itertools import accumulate, pairwise
from typing import Final
from zoneinfo import ZoneInfo

from rich.text import Text

from pgpull.periods import Counts, Gap, Period, Unit, with_gaps
from pgpull.requesting import DEFAULT_WINDOW
from pgpull.surveying import Moment, Survey
from pgpull.wording import scope_text


@dataclass(frozen=True, slots=True)
class Marks:
    """What bars are drawn with. The marks differ in more than colour."""

    both: str
    missing: str
    surplus: str
    gap: str


BLOCKS: Final = Marks("█", "░", "+", "…")
ASCII: Final = Marks("#", ".", "+", "...")

_BOTH, _MISSING, _SURPLUS, _CALM = "green", "yellow", "magenta", "dim"
_WIDEST_BAR: Final = 72

# The words beside the bars, and how short bars may become before the words do.
_WORDINGS: Final = ((16, ("missing here", "more here")), (8, ("missing", "more")), (4, ("", "")))

_LABELS: Final = {Unit.DAY: "day", Unit.WEEK: "week from", Unit.MONTH: "month", Unit.YEAR: "year"}


def heading_lines(survey: Survey) -> list[tuple[str, str]]:
    """Return who was asked for what, as label and text."""
    scope = scope_text(survey.question.request.scope)
    per = f"{survey.unit} of {survey.question.column}" + (f", in {survey.timezone}" if survey.timezone else "")
    return [
        ("SERVER", survey.source),
        ("LOCAL", survey.target),
        ("WHAT", f"{survey.table}: {scope}; rows per {per}"),
    ]


def picture(
    survey: Survey, width: int, marks: Marks = BLOCKS, said: Sequence[str] = (), *, ruled: bool = False
) -> Iterator[Text]:
    """Draw a survey, line by line.

    Args:
        survey: what was counted.
        width: columns of the screen.
        marks: what to draw with.
        said: words of the user's that a pull needs as well, such as ``--env-file FILE``.
        ruled: whether there are rules, which a pull would follow where it does not say otherwise.
    """
    if not survey.total.rows:
        yield Text("no row in scope on either side")
        return
    yield from _table(survey, width, marks)
    yield _legend(survey.total, marks)
    yield _labelled("newest on the server", _newest(survey.newest_source))
    yield _labelled("newest here         ", _newest(survey.newest_target))
    yield _next(survey, said, ruled)


def _labelled(label: str, text: str) -> Text:
    return Text.assemble((label, "bold cyan"), "  ", text)


def _newest(moment: Moment | None) -> str:
    return moment.isoformat() if moment else "none"


# --- the table -------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Layout:
    """How wide each column is."""

    label: int
    source: int
    target: int
    bar: int
    scale: int
    """The rows that the longest bar stands for."""
    words: tuple[str, str]
    """What is said beside a bar of rows that are missing, and of rows that are more; nothing, if empty."""

    @classmethod
    def of(cls, survey: Survey, rows: Sequence[tuple[str, Counts]], width: int) -> _Layout:
        """Fit the columns to a screen: first the bars become short, then the words beside them."""
        label = max(map(len, ("total", _LABELS[survey.unit], *(name for name, _ in rows))))
        source = max(len("server"), len(f"{survey.total.source:,}"))
        target = max(len("local"), len(f"{survey.total.target:,}"))
        rest = width - label - source - target - 6
        for shortest, words in _WORDINGS:
            bar = rest - max(len(_remark(counts, words)) + 2 for _, counts in rows)
            if bar >= shortest:
                break
        scale = max(counts.source + counts.surplus for _, counts in rows)
        return cls(label, source, target, min(max(bar, shortest), _WIDEST_BAR), scale, words)

    def line(self, label: str, source: str, target: str) -> str:
        return f"{label:<{self.label}}  {source:>{self.source}}  {target:>{self.target}}"


def _table(survey: Survey, width: int, marks: Marks) -> Iterator[Text]:
    lines = with_gaps(survey.periods, survey.unit)
    rows = [(_label(line, survey.unit), line.counts) for line in lines if isinstance(line, Period)]
    apart = _apart(survey)
    layout = _Layout.of(survey, [*rows, *apart], width)
    yield Text(layout.line(_LABELS[survey.unit], "server", "local"), "bold")
    for line in lines:
        if isinstance(line, Gap):
            yield Text(f"{marks.gap} {line.periods:,} {survey.unit}s without rows", _CALM)
        else:
            yield _row(_label(line, survey.unit), line.counts, layout, marks)
    for name, counts in apart:
        yield _row(name, counts, layout, marks)
    yield from _total(survey.total, layout, width)


def _apart(survey: Survey) -> list[tuple[str, Counts]]:
    both = ("no date", survey.undated), ("infinite", survey.infinite)
    return [(name, counts) for name, counts in both if counts.rows]


def _label(period: Period, unit: Unit) -> str:
    return period.start.isoformat()[: {Unit.MONTH: 7, Unit.YEAR: 4}.get(unit)]


def _row(label: str, counts: Counts, layout: _Layout, marks: Marks) -> Text:
    numbers = layout.line(label, f"{counts.source:,}", f"{counts.target:,}")
    if not counts.rows:
        return Text(numbers, _CALM)
    both, missing, surplus = _cells(counts, layout)
    line = Text.assemble(
        numbers + "  ",
        (marks.both * both, _BOTH),
        (marks.missing * missing, _MISSING),
        (marks.surplus * surplus, _SURPLUS),
    )
    if remark := _remark(counts, layout.words):
        line.append(" " * (layout.bar - both - missing - surplus + 2))
        line.append(remark, _MISSING if counts.missing else _SURPLUS)
    return line


def _cells(counts: Counts, layout: _Layout) -> list[int]:
    """Share a bar out: what is there at all has a cell, however small its share."""
    parts = (counts.both, counts.missing, counts.surplus)
    edges = [round(rows * layout.bar / layout.scale) for rows in accumulate(parts, initial=0)]
    widths = (end - start for start, end in pairwise(edges))
    cells = [max(1, cells) if rows else 0 for rows, cells in zip(parts, widths, strict=True)]
    while sum(cells) > layout.bar:
        cells[cells.index(max(cells))] -= 1
    return cells


def _remark(counts: Counts, words: tuple[str, str]) -> str:
    parts = zip((counts.missing, counts.surplus), words, strict=True)
    return ", ".join(f"{rows:,} {word}" for rows, word in parts if rows and word)


def _total(total: Counts, layout: _Layout, width: int) -> Iterator[Text]:
    numbers = layout.line("total", f"{total.source:,}", f"{total.target:,}")
    remark = _remark(total, _WORDINGS[0][1])
    if len(numbers) + 2 + len(remark) <= width:
        yield Text(f"{numbers}  {remark}".rstrip(), "bold")
    else:
        yield Text(numbers, "bold")
        yield Text(remark, "bold")


def _legend(total: Counts, marks: Marks) -> Text:
    """Explain the marks that are there; where both sides agree there is nothing to explain."""
    parts = [(marks.missing, _MISSING, "missing here")] if total.missing else []
    parts += [(marks.surplus, _SURPLUS, "more here")] if total.surplus else []
    legend = Text("")
    for mark, style, meaning in [(marks.both, _BOTH, "on both"), *parts] if parts else ():
        legend.append(mark, style).append(f" {meaning}  ", _CALM)
    legend.rstrip()
    return legend


# --- what next -------------------------------------------------------------------------------------------


def _next(survey: Survey, said: Sequence[str], ruled: bool) -> Text:
    if survey.total.missing:
        words = shlex.join(pull_words(survey, said, ruled=ruled))
        return _labelled("to bring what is missing:", words)
    return Text("Nothing is missing here, as far as counts can tell: they do not compare the rows.", _CALM)


def pull_words(survey: Survey, said: Sequence[str] = (), *, ruled: bool = False) -> list[str]:
    """Return the command that brings what is missing, from the first missing day on.

    Args:
        survey: what was counted.
        said: words of the user's that a pull needs as well.
        ruled: whether there are rules, so that what is usual has to be said.
    """
    request = survey.question.request
    since, until = _ends(survey)
    words = ["pgpull", "pull", str(survey.table)]
    if (since or until) and (ruled or survey.question.column != DEFAULT_WINDOW):
        words += ["--window", survey.question.column]
    for option, instant in (("--since", since), ("--until", until)):
        if instant:
            words += [option, _as_written(instant, request.timezone)]
    if (since or until) and (ruled or request.timezone != "UTC"):
        words += ["--timezone", request.timezone]
    for name, value in request.scope.equals:
        words += ["--equals", f"{name}={value}"]
    if request.scope.where:
        words += ["--where", request.scope.where]
    return [*words, *said]


def _ends(survey: Survey) -> tuple[datetime | None, datetime | None]:
    """Return the window of what is missing: that of the scope, from the first missing day on."""
    request = survey.question.request
    window = request.scope.window
    since, until = (window.since, window.until) if window else (None, None)
    dateless = survey.undated.missing or survey.infinite.missing
    if survey.first_missing and not dateless:
        day = datetime.combine(survey.first_missing, time(), ZoneInfo(request.timezone))
        since = max(since, day) if since else day
    return since, until


def _as_written(instant: datetime, timezone: str) -> str:
    """Spell an instant as a user would: a midnight as its date."""
    wall_clock = instant.astimezone(ZoneInfo(timezone))
    return wall_clock.date().isoformat() if wall_clock.time() == time() else wall_clock.isoformat()
