"""What a check found. Values."""

from __future__ import annotations

from dataclasses import dataclass
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
