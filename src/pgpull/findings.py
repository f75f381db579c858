"""What a check found: values, their words and their JSON. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from enum import StrEnum

from pgpull.errors import PgpullError


class Level(StrEnum):
    """How much a finding matters."""

    OK = "ok"
    NOTE = "note"
    """A pull can run, and this is worth knowing first."""
    PROBLEM = "problem"
    """A pull would be refused."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at."""

    subject: str
    """``the server``, ``local``, ``both sides``, or a table."""
    level: Level
    fact: str
    hint: str = ""


@dataclass(frozen=True, slots=True)
class Checkup:
    """Everything that was looked at, in order."""

    findings: tuple[Finding, ...]

    @property
    def problems(self) -> tuple[Finding, ...]:
        """What stands in the way of a pull."""
        return tuple(finding for finding in self.findings if finding.level is Level.PROBLEM)

    @property
    def notes(self) -> tuple[Finding, ...]:
        """What is worth knowing first."""
        return tuple(finding for finding in self.findings if finding.level is Level.NOTE)

    @property
    def exit_code(self) -> int:
        """0 when a pull could run, 3 when something stands in its way."""
        return 3 if self.problems else 0


def good(subject: object, fact: str) -> Finding:
    """Make a finding that all is well."""
    return Finding(str(subject), Level.OK, fact)


def note(subject: object, fact: str, hint: str = "") -> Finding:
    """Make a finding that is worth knowing."""
    return Finding(str(subject), Level.NOTE, fact, hint)


def problem(subject: object, error: PgpullError) -> Finding:
    """Make a finding of what a pull would be refused for."""
    return Finding(str(subject), Level.PROBLEM, error.message, error.hint)


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


def checkup_json(checkup: Checkup) -> dict[str, object]:
    """Return what was found for a machine."""
    return {
        "findings": [asdict(finding) for finding in checkup.findings],
        "problems": len(checkup.problems),
        "notes": len(checkup.notes),
    }
