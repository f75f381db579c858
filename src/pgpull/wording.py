"""Plans, tallies, rejects and reports in words. Pure.

Never a password. Never a row's value, but for the key of a reject.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict
from datetime import UTC

from pgpull.archives import ArchivedTable
from pgpull.findings import Checkup, Finding, Level
from pgpull.model import Request, Scope
from pgpull.packing import narrowed
from pgpull.plans import Comparison, Method, Plan, Strategy
from pgpull.recipes import Parameter, Recipes
from pgpull.resolving import is_local
from pgpull.results import Difference, Failure, Forecast, Reject, Report, Tally
from pgpull.sessions import Session


def size_text(size: float) -> str:
    """Return a number of bytes as people read it: ``1.2 GB``."""
    for unit in ("bytes", "kB", "MB", "GB"):
        if size < 1000:
            return f"{size:,.0f} {unit}" if unit == "bytes" else f"{size:,.1f} {unit}"
        size /= 1000
    return f"{size:,.1f} TB"


def time_text(seconds: float) -> str:
    """Return a duration as people read it: ``2.1 s``, ``3 min 05 s``."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02} min"


def scope_text(scope: Scope) -> str:
    """Return a scope as a condition, with the instants that its dates were resolved to."""
    parts = [f"{name} = {value}" for name, value in scope.equals]
    if window := scope.window:
        since = f"{window.since.isoformat()} <= " if window.since else ""
        until = f" < {window.until.isoformat()}" if window.until else ""
        parts.insert(0, f"{since}{window.column}{until}")
    if scope.where:
        parts.append(scope.where)
    return " and ".join(parts) or "all rows"


def tally_text(tally: Tally) -> str:
    """Return a tally as the sum that it is."""
    counts = asdict(tally)
    fetched = counts.pop("fetched")
    return f"fetched {fetched:,} = " + " + ".join(f"{name} {count:,}" for name, count in counts.items())


def short_tally_text(tally: Tally) -> str:
    """Return a tally as a sum of what there is of it, for a line among many."""
    counts = asdict(tally)
    fetched = counts.pop("fetched")
    parts = [f"{name} {count:,}" for name, count in counts.items() if count]
    return f"fetched {fetched:,}" + (f" = {' + '.join(parts)}" if parts else "")


def outcome_lines(report: Report) -> list[str]:
    """Return what else there is to say of a pull that went well."""
    lines = []
    if report.deleted:
        what = "to make room" if report.plan.request.replace else "that the server no longer has"
        lines.append(f"deleted {report.deleted:,} local rows {what}")
    if report.verified:
        lines.append("verified: every row in scope hashes to the same on both sides")
    return lines


def pace_text(tally: Tally, size: int, seconds: float) -> str:
    """Return how much came in how long."""
    return pace_of(tally.fetched, size, seconds)


def pace_of(rows: int, size: int, seconds: float) -> str:
    """Return how much was read in how long."""
    rate = rows / seconds if seconds else 0
    return f"{size_text(size)} in {time_text(seconds)}, {rate:,.0f} rows/s"


def reject_text(reject: Reject) -> str:
    """Return a reject in one line: its key and the reason, none of its other values."""
    key = ", ".join(f"{name}={in_one_line(value)}" for name, value in reject.key.items())
    place = f" on {reject.constraint}" if reject.constraint else f" in {reject.column}" if reject.column else ""
    return f"refused {reject.table} {key}: {reject.sqlstate} {reject.condition}{place}: {reject.fact}"


def in_one_line(value: str | None) -> str:
    """Spell out line breaks and what drives a terminal."""
    return value if value and value.isprintable() else json.dumps(value, ensure_ascii=False)


def banner_lines(plan: Plan, source: Session, target: Session) -> list[tuple[str, str]]:
    """Return who is read, who is written, what is meant and under which guards, as label and text."""
    request, guess = plan.request, plan.estimate
    about = f", about {guess.rows:,} rows, {size_text(guess.bytes)}" if guess else ""
    instant = source.identity.now.astimezone(UTC).isoformat(timespec="seconds")
    read, elsewhere = f"source read only, at {instant}", ", and another database than the source"
    if source.substitute is not None:
        read, elsewhere = f"the archive is whole, of {instant}", ""
    return [
        ("FROM", _origin(source)),
        ("TO", target.described),
        ("WHAT", f"{plan.table}: {scope_text(request.scope)}{about}"),
        (
            "GUARD",
            f"{read}; target is {_place(target)}{elsewhere}",
        ),
        *(("NOTE", note) for note in plan.notes),
    ]


def done_line(report: Report) -> str:
    """Return what became of one of several tables, in a line."""
    plan = report.plan
    why = f"; along {', '.join(plan.why)}" if plan.why else ""
    deleted = f"; deleted {report.deleted:,}" if report.deleted else ""
    kept = f"; kept {report.kept:,} that others refer to" if report.kept else ""
    return f"{in_one_line(str(plan.table))}: {short_tally_text(report.tally)}{deleted}{kept}{why}"


def offer_lines(recipes: Recipes) -> list[str]:
    """Return which recipes there are, and their parameters."""
    if not recipes.offers:
        where = (
            f"{recipes.path} holds no recipe" if recipes.path else "there is no pgpull.toml from here upwards"
        )
        return [f"{where}; docs/recipes.md shows how to write one"]
    lines = []
    for offer in recipes.offers:
        lines.append(f"{offer.name}  {offer.description}".rstrip())
        for parameter in offer.parameters:
            lines.append(f"    --set {parameter.name}=...  {parameter.help} {_unless_set(parameter)}".rstrip())
    return lines


def _unless_set(parameter: Parameter) -> str:
    if parameter.optional:
        return "(may be left out)"
    return f"(default: {parameter.default})" if parameter.default is not None else ""


def opening_lines(plans: Sequence[Plan], source: Session, target: Session) -> list[tuple[str, str]]:
    """Return who is read, who is written, and which tables in which order, as label and text."""
    if not plans:
        return []
    [who, to, _, guard, *_] = banner_lines(plans[0], source, target)
    rows = sum(plan.estimate.rows for plan in plans if plan.estimate)
    size = sum(plan.estimate.bytes for plan in plans if plan.estimate)
    names = [str(plan.table) for plan in plans]
    shown = ", ".join(names[:_NAMED]) + (f" and {len(names) - _NAMED} more" if len(names) > _NAMED else "")
    what = f"{len(plans)} tables, about {rows:,} rows, {size_text(size)}: {shown}"
    notes = [("NOTE", f"{plan.table}: {note}") for plan in plans for note in plan.notes]
    return [who, to, ("WHAT", what), guard, *notes]


_NAMED = 12
"""Tables that are named before the rows begin to move."""

_HOW = {
    Strategy.NOTHING: "nothing moves",
    Strategy.STRAIGHT: "straight into the table",
    Strategy.KEYED: "by key",
    Strategy.MERGE: "all rows in scope are read and merged",
}


def plan_lines(plan: Plan) -> list[tuple[str, str]]:
    """Return what a comparison found and how rows move, as label and text."""
    found, lines = plan.comparison, []
    if found:
        lines.append(("FOUND", comparison_text(found, plan.request)))
    by = f" by {', '.join(plan.keys)}" if plan.keys else ", without a key"
    details = f"; {len(plan.columns)} columns, {plan.wire},{by}; batches of {plan.request.batch_rows:,}"
    shares = f"{len(plan.parts)} parts" if plan.parts else "the keys"
    details += f"; {plan.jobs} workers share {shares}" if plan.jobs > 1 else ""
    details += f"; {plan.jobs} worker{'s' * (plan.jobs > 1)} only: {plan.alone}" if plan.alone else ""
    how = f"{_HOW[plan.strategy]}: {plan.reason}"
    lines.append(("HOW", how if plan.strategy is Strategy.NOTHING else how + details))
    return lines


def comparison_text(found: Comparison, request: Request) -> str:
    """Return what a comparison found, in a line."""
    present = "here already" if found.method is Method.KEYS else "the same"
    parts = [f"{found.missing:,} missing"]
    if found.method is Method.VERSIONS:
        parts.append(f"{found.changed:,} written since")
    elif found.method is Method.HASHES:
        parts.append(f"{found.changed:,} changed")
    parts.append(f"{found.same:,} {present}")
    if found.extra is not None:
        parts.append(
            f"{found.extra:,} here only" + (", to be deleted" if request.mirror and found.extra else "")
        )
    return f"{', '.join(parts)}; compared by {found.method}, {size_text(found.bytes)} from the server"


def _origin(source: Session) -> str:
    if source.substitute is not None:
        archive = source.substitute.archive
        return f"the archive {archive.name}, of {archive.manifest.source}"
    return source.described


def export_lines(plans: Sequence[Plan], source: Session, archive: str) -> list[tuple[str, str]]:
    """Return who is read, what is meant and where it goes, as label and text."""
    return [
        ("FROM", _origin(source)),
        ("TO", archive),
        *(("WHAT", _what(plan)) for plan in plans),
        ("GUARD", f"source read only, at {source.identity.now.astimezone(UTC).isoformat(timespec='seconds')}"),
        *(("NOTE", note) for plan in plans for note in plan.notes),
    ]


def _what(plan: Plan) -> str:
    guess = plan.estimate
    about = f", about {guess.rows:,} rows, {size_text(guess.bytes)}" if guess else ""
    return (
        f"{plan.table}: {scope_text(plan.request.scope) if narrowed(plan.request.scope) else 'all rows'}{about}"
    )


def export_line(table: ArchivedTable) -> str:
    """Return what became of one table of an export."""
    size = size_text(sum(file.size for file in table.files))
    files = "1 file" if len(table.files) == 1 else f"{len(table.files):,} files"
    text = f"; as text: {', '.join(table.as_text)}" if table.as_text else ""
    return f"{in_one_line(str(table.table))}: {table.rows:,} rows, {size} in {files}{text}"


def _place(target: Session) -> str:
    return "on this machine" if is_local(target.address) else f"{target.address}, which was allowed"


def forecast_lines(forecast: Forecast) -> list[tuple[str, str]]:
    """Return what a pull would do, as label and text."""
    tally, plan = forecast.tally, forecast.plan
    columns = ", ".join(f"{name} in {rows:,}" for name, rows in forecast.differing)
    reasons = ", ".join(f"{refusal.rows:,} for {refusal.reason}" for refusal in forecast.refusals)
    lines = [
        ("insert", _rows(tally.inserted)),
        ("update", _rows(tally.updated, columns)),
        ("skip", _rows(tally.skipped)),
        ("refuse", _rows(tally.failed, reasons)),
    ]
    if plan.request.deletes:
        kept = f"{forecast.kept:,} more are kept, as other rows refer to them" if forecast.kept else ""
        lines.append(("delete", _rows(forecast.deleted, kept)))
    move = f"{_rows(forecast.estimate.rows)}, about {size_text(forecast.estimate.bytes)}"
    return [*lines, ("move", f"{move}; the server finds the scope by {plan.access}")]


def _rows(count: int, more: str = "") -> str:
    return f"{count:>11,} {'row' if count == 1 else 'rows'}" + (f": {more}" if more else "")


def example_lines(forecast: Forecast) -> list[str]:
    """Return some rows that would be inserted, one a line; values of rows, for the screen alone."""
    return [
        "  ".join(f"{name}={_short(value)}" for name, value in example.items()) for example in forecast.examples
    ]


_SHORT = 36


def _short(value: str | None) -> str:
    text = "NULL" if value is None else in_one_line(value)
    return f"{text[: _SHORT - 1]}…" if text and len(text) > _SHORT else text or "''"


def difference_lines(difference: Difference) -> list[str]:
    """Return how a table differs, and the first keys that do."""
    found, plan = difference.comparison, difference.plan
    extra = "" if found.extra is None else f", {found.extra:,} here only"
    verdict = "equal" if found.equal else "DIFFERENT"
    head = (
        f"{plan.table}: {verdict}: {found.same:,} the same, {found.missing:,} missing here,"
        f" {found.changed:,} changed{extra}"
    )
    names = {"missing": "missing", "changed": "changed", "extra": "here only"}
    keys = [
        f"  {names[state]:<9} " + ", ".join(f"{name}={in_one_line(value)}" for name, value in key.items())
        for state, key in difference.keys
    ]
    total = found.wanted + (found.extra or 0)
    more = [f"  and {total - len(keys):,} more"] if total > len(keys) else []
    return [head, *keys, *more]


def failures_text(failures: Sequence[Failure]) -> str:
    """Return how many tables failed, and which."""
    names = ", ".join(in_one_line(str(failure.table)) or "" for failure in failures)
    return f"{_tables(len(failures))} failed: {names}"


def _tables(count: int) -> str:
    return f"{count:,} {'table' if count == 1 else 'tables'}"


def outlook_line(forecast: Forecast) -> str:
    """Return what a pull of several tables would do with one, in a line; nothing, where nothing comes along."""
    plan = forecast.plan
    if plan.request.only_related and not forecast.tally.fetched:
        return ""
    why = f"; along {', '.join(plan.why)}" if plan.why else ""
    deleted = f"; delete {forecast.deleted:,}" if forecast.deleted else ""
    reasons = ", ".join(f"{refusal.rows:,} for {refusal.reason}" for refusal in forecast.refusals)
    refused = f"; refused: {reasons}" if reasons else ""
    return f"{in_one_line(str(plan.table))}: {short_tally_text(forecast.tally)}{deleted}{refused}{why}"


# --- a checkup -------------------------------------------------------------------------------------------


def checkup_lines(checkup: Checkup) -> Iterator[tuple[str, Level | None]]:
    """Return what was found, under the name of what was looked at; the level of each line, for its colour."""
    for subject in dict.fromkeys(finding.subject for finding in checkup.findings):
        yield subject, None
        for finding in (each for each in checkup.findings if each.subject == subject):
            yield f"  {finding.level:<7}  {finding.fact}", finding.level
            if finding.hint:
                yield f"           hint: {finding.hint}", None
    yield verdict(checkup), Level.PROBLEM if checkup.problems else Level.OK


def verdict(checkup: Checkup) -> str:
    """Return the sum of it in one line."""
    counts = _counted(checkup.problems, "problem"), _counted(checkup.notes, "note")
    said = ", ".join(count for count in counts if count) or "all well"
    return f"{said}: a pull {'would be refused' if checkup.problems else 'can run'}"


def _counted(findings: Iterable[Finding], what: str) -> str:
    number = len(list(findings))
    return f"{number} {what}{'' if number == 1 else 's'}" if number else ""
