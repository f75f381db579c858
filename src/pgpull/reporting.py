"""What is said of a run, to whoever asked for it."""

from __future__ import annotations

import logging
import time
import traceback
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from rich.text import Text

from pgpull import outlets
from pgpull.errors import PgpullError
from pgpull.exporting import Exported
from pgpull.findings import Checkup, Level
from pgpull.json_facts import (
    checkup_json,
    difference_json,
    export_json,
    forecast_json,
    outlook_json,
    report_json,
    summary_json,
    survey_json,
)
from pgpull.listening import Listener
from pgpull.motion import Motion
from pgpull.picture import ASCII, BLOCKS, heading_lines, picture
from pgpull.plans import Plan, Strategy
from pgpull.printing import Printer
from pgpull.recipes import Recipes
from pgpull.results import Difference, Failure, Forecast, Outlook, Reject, Report, Summary, Tally
from pgpull.sessions import Session
from pgpull.surveying import Survey
from pgpull.wording import (
    banner_lines,
    checkup_lines,
    difference_lines,
    done_line,
    example_lines,
    export_line,
    export_lines,
    failures_text,
    forecast_lines,
    in_one_line,
    offer_lines,
    opening_lines,
    outcome_lines,
    outlook_line,
    pace_of,
    pace_text,
    plan_lines,
    reject_text,
    size_text,
    tally_text,
    time_text,
)

_SHOWN_REJECTS: Final = 20
_PLAIN_SECONDS: Final = 10.0
"""Between two lines of progress where there is no terminal to draw a bar on."""


class Reporter(Listener):
    """Tells a person, a log file or a machine how a pull goes; a :class:`~pgpull.listening.Listener`.

    Args:
        machine: print one JSON object to stdout at the end, and what is for people to stderr.
        quiet: for people, only what went wrong.
        verbose: each batch as well.
        log_file: where the same facts go, with their times in UTC.

    Raises:
        SettingsError: the log file cannot be opened.
    """

    def __init__(
        self, *, machine: bool = False, quiet: bool = False, verbose: bool = False, log_file: Path | None = None
    ) -> None:
        self._verbose = verbose
        self._printer = Printer(machine=machine, quiet=quiet, log_file=log_file)
        self._motion = Motion(self._printer.out)
        self._writes = True
        self._many = False
        self._rejected = 0
        self._expected = 0
        self._started = self._told = time.monotonic()
        self._tally = Tally()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._motion.stop()
        self._printer.close()

    # --- as a listener -----------------------------------------------------------------------------------

    def looked(self, plan: Plan, source: Session, target: Session) -> None:
        """Print the banner."""
        self._motion.stop()
        if not self._many:
            self._printer.labelled(banner_lines(plan, source, target))
        self._motion.spin("comparing both sides")

    def planned(self, plan: Plan, source: Session, target: Session) -> None:  # noqa: ARG002
        """Print how rows will move, and begin to show progress."""
        self._motion.stop()
        if not self._many:
            self._printer.labelled(plan_lines(plan))
        guess, found = plan.estimate, plan.comparison
        self._expected = found.rows if found else guess.rows if guess else 0
        self._started = self._told = time.monotonic()
        if not self._writes:
            self._motion.spin("trying what would move")
        elif plan.strategy is not Strategy.NOTHING:
            self._motion.fill(self._expected)

    def progressed(self, tally: Tally, size: int) -> None:
        """Move the bar, or print a line now and then."""
        self._tally = tally
        pace = pace_text(tally, size, time.monotonic() - self._started)
        self._printer.record(logging.DEBUG, f"{tally_text(tally)}; {pace}")
        self._came(tally.fetched, pace)

    def _came(self, rows: int, pace: str) -> None:
        now = time.monotonic()
        self._motion.came(rows, self._expected, pace)
        if self._verbose or (not self._motion.shows_rows and now - self._told >= _PLAIN_SECONDS):
            self._told = now
            self._printer.say(f"{rows:,} rows so far, {pace}")

    def rejected(self, reject: Reject) -> None:
        """Say which row was refused and why; a flood goes to the files only."""
        self._rejected += 1
        text = reject_text(reject)
        self._printer.record(logging.WARNING, text)
        if self._rejected <= _SHOWN_REJECTS:
            self._printer.warn_aloud(text)
        elif self._rejected == _SHOWN_REJECTS + 1:
            self._printer.warn_aloud("more rows are refused; the rejects file has them all")

    def noticed(self, text: str) -> None:
        """Say what happened on the way."""
        self._printer.warn(text)

    def told(self, text: str) -> None:
        """Say what goes as it was asked."""
        self._printer.tell(text)

    def only_looks(self) -> None:
        """Hear that nothing will be written: what is said of an early end says so, and holds no tally."""
        self._writes = False

    # --- how it ended ------------------------------------------------------------------------------------

    def finished(self, report: Report) -> None:
        """Print the summary."""
        self._motion.stop()
        pace = pace_text(report.tally, report.bytes, report.seconds)
        self._printer.say(tally_text(report.tally), "bold red" if report.tally.failed else "bold green")
        self._printer.say(f"{pace}; as of {report.snapshot.isoformat(timespec='seconds')}")
        self._printer.record(logging.INFO, f"{tally_text(report.tally)}; {pace}")
        for text in outcome_lines(report):
            self._printer.tell(text)
        if report.kept:
            self._printer.warn(
                f"{report.kept:,} local rows that the server no longer has were kept: other rows refer to them"
            )
        if report.passes > 1:
            self._printer.warn(
                f"the server was read {report.passes} times, as its connection was lost or it ended a read:"
                " rows that were in by then were fetched again and skipped"
            )
        self._say_where_rejects_are(report.rejects)
        self._print_json("report", report_json(report), report.exit_code)

    def opened(self, plans: Sequence[Plan], source: Session, target: Session) -> None:
        """Print the banner of a pull of several tables."""
        self._motion.stop()
        self._many = True
        self._printer.labelled(opening_lines(plans, source, target))

    def done(self, report: Report) -> None:
        """Print what became of one of several tables."""
        self._motion.stop()
        if report.plan.request.only_related and not report.tally.fetched:
            return
        line = done_line(report)
        self._printer.tell(line, "red" if report.tally.failed else "green")

    def packing(self, plans: Sequence[Plan], source: Session, archive: str) -> None:
        """Print the banner of an export, and begin to show progress."""
        self._motion.stop()
        self._printer.labelled(export_lines(plans, source, archive))
        self._expected = sum(plan.estimate.rows for plan in plans if plan.estimate)
        self._started = self._told = time.monotonic()
        self._motion.fill(self._expected)

    def packed(self, rows: int, size: int) -> None:
        """Move the bar, or print a line now and then."""
        pace = pace_of(rows, size, time.monotonic() - self._started)
        self._printer.record(logging.DEBUG, f"{rows:,} rows so far, {pace}")
        self._came(rows, pace)

    def exported(self, exported: Exported) -> None:
        """Print what an archive holds."""
        self._motion.stop()
        for table in exported.manifest.tables:
            self._printer.tell(export_line(table), "green")
        whole = f"archived {exported.manifest.rows:,} rows in {exported.archive}"
        seconds = f"{size_text(exported.bytes)} in {time_text(exported.seconds)}"
        self._printer.say(whole, "bold green")
        self._printer.say(f"{seconds}; as of {exported.manifest.snapshot.isoformat(timespec='seconds')}")
        self._printer.record(logging.INFO, f"{whole}; {seconds}")
        self._print_json("export", export_json(exported), 0)

    def failed_at(self, failure: Failure) -> None:
        """Say which of several tables could not be pulled, and why."""
        self._motion.stop()
        message = f"{in_one_line(str(failure.table))}: {failure.error.message}"
        self._printer.error(message, failure.error.hint, "failed")

    def summed_up(self, summary: Summary) -> None:
        """Print the summary of several tables."""
        self._motion.stop()
        pace = pace_text(summary.tally, summary.bytes, summary.seconds)
        total = f"{len(summary.reports)} tables: {tally_text(summary.tally)}"
        failed = summary.tally.failed or summary.failures
        self._printer.say(total, "bold red" if failed else "bold green")
        self._printer.say(f"{pace}; as of {summary.snapshot.isoformat(timespec='seconds')}")
        self._printer.record(logging.INFO, f"{total}; {pace}")
        if summary.failures:
            self._printer.warn(failures_text(summary.failures))
        rejects = (report.rejects for report in summary.reports if report.rejects)
        self._say_where_rejects_are(next(rejects, None))
        self._print_json("summary", summary_json(summary), summary.exit_code)

    def foretold(self, forecast: Forecast) -> None:
        """Print what a pull would do. The rows that it shows go to the screen only."""
        self._motion.stop()
        self._printer.say("dry run: nothing was written; a pull would", "bold")
        for label, text in forecast_lines(forecast):
            self._printer.say(f"  {label:<6} {text}")
            self._printer.record(logging.INFO, f"would {label}: {text.strip()}")
        if forecast.examples:
            self._printer.say(f"the first {len(forecast.examples)} of the rows to insert:")
        for line in example_lines(forecast):  # on a screen, one line for a row
            wrap = not self._printer.out.is_terminal
            self._printer.out.print(Text(f"  {line}", "dim"), no_wrap=True, overflow="ellipsis", soft_wrap=wrap)
        self._printer.say(f"its tally: {tally_text(forecast.tally)}", "bold")
        self._print_json("forecast", forecast_json(forecast), forecast.exit_code)

    def foresaw(self, outlook: Outlook) -> None:
        """Print what a pull of several tables would do."""
        self._motion.stop()
        self._printer.say("dry run: nothing was written; a pull would do this", "bold")
        for forecast in outlook.forecasts:
            line = outlook_line(forecast)
            if line:
                self._printer.tell(line, "red" if forecast.tally.failed else "green")
        self._printer.say(f"its tally: {len(outlook.forecasts)} tables: {tally_text(outlook.tally)}", "bold")
        if outlook.failures:
            self._printer.warn(failures_text(outlook.failures))
        self._print_json("outlook", outlook_json(outlook), outlook.exit_code)

    def compared(self, differences: Sequence[Difference], keys: Path | None) -> None:
        """Print how tables differ."""
        self._motion.stop()
        for difference in differences:
            head, *rest = difference_lines(difference)
            self._printer.tell(head, "bold green" if difference.equal else "bold red")
            if self._printer.quiet and not difference.equal:
                self._printer.warn_aloud(head)
            for line in rest:
                self._printer.say(line)
        code = max((difference.exit_code for difference in differences), default=0)
        if keys and code:
            self._printer.warn(f"all keys that differ are in {keys} (readable by you alone)")
        self._print_json("differences", {"tables": [difference_json(each) for each in differences]}, code)

    def offered(self, recipes: Recipes) -> None:
        """Print which recipes there are."""
        for line in offer_lines(recipes):
            self._printer.say(line)
        self._print_json("recipes", {"recipes": [asdict(offer) for offer in recipes.offers]}, 0)

    def checked(self, checkup: Checkup) -> None:
        """Print what stands in the way of a pull, and what to know first."""
        self._motion.stop()
        colours = {Level.OK: "green", Level.NOTE: "yellow", Level.PROBLEM: "bold red", None: ""}
        for line, level in checkup_lines(checkup):
            self._printer.tell(line, colours[level])
        for finding in checkup.problems if self._printer.quiet else ():
            self._printer.error(f"{finding.subject}: {finding.fact}", finding.hint)
        self._print_json("checkup", checkup_json(checkup), checkup.exit_code)

    def surveyed(self, survey: Survey, said: Sequence[str] = (), *, ruled: bool = False) -> None:
        """Show what is here.

        Args:
            survey: what was counted.
            said: words of the user's that a pull needs as well.
            ruled: whether a file has rules, which would hold where a pull does not say otherwise.
        """
        if self._printer.machine:
            return self._print_json("survey", survey_json(survey), 0)
        out = self._printer.out
        self._printer.labelled(heading_lines(survey))
        self._printer.say("")
        marks = ASCII if out.options.ascii_only else BLOCKS
        for line in picture(survey, out.width, marks, said, ruled=ruled):
            self._printer.record(logging.INFO, line.plain)
            out.print(line, soft_wrap=True)
        return None

    def failed(self, error: PgpullError) -> None:
        """Print an error: the fact, the hint, and what is in by now."""
        self._motion.stop()
        self._print_error(error.message, error.hint)
        self._print_json("error", {"error": error.message, "hint": error.hint}, error.exit_code)

    def interrupted(self) -> None:
        """Say what is in after Ctrl-C, and how to go on."""
        self._motion.stop()
        hint = f"{self._kept}; run the same command again to go on"
        self._print_error("interrupted", hint)
        self._print_json("error", {"error": "interrupted", "hint": hint}, 130)

    def broke(self, error: BaseException) -> None:
        """Own up to a bug. The error's own words may hold anything, so only its kind is shown."""
        self._motion.stop()
        fact = f"internal error: {type(error).__name__}"
        hint = f"this is a bug in pgpull; --verbose shows where. {self._kept.capitalize()}"
        self._print_error(fact, hint)
        if self._verbose:
            frames = "".join(traceback.format_tb(error.__traceback__))
            self._printer.complain(frames)
        self._print_json("error", {"error": fact, "hint": hint}, 1)

    def ended(self, exit_code: int) -> int:
        """Return the exit code of a run that ended with one, by whether it could be told."""
        return exit_code or (outlets.UNWRITTEN if self._printer.failed else 0)

    def left(self) -> None:
        """Hear that nobody reads what is said any more; only the log file is told."""
        self._printer.record(logging.INFO, f"ended, as nobody reads stdout any more; {self._kept}")

    @property
    def _kept(self) -> str:
        return "whole batches are in" if self._writes else "nothing was written"

    def _say_where_rejects_are(self, rejects: Path | None) -> None:
        if rejects:
            self._printer.warn(
                f"refused rows are kept in {rejects} (readable by you alone: it holds their values)"
            )

    def _print_error(self, message: str, hint: str) -> None:
        """Print why a run ended, and what is in by now."""
        self._printer.error(message, hint)
        if self._tally.fetched:
            self._printer.record(logging.INFO, f"so far: {tally_text(self._tally)}")
            self._printer.complain(f"so far: {tally_text(self._tally)}")

    def _print_json(self, kind: str, facts: dict[str, object], exit_code: int) -> None:
        """Print what a machine gets, as schemas/output.json says for its kind."""
        tally = {"tally": asdict(self._tally)} if self._writes and "tally" not in facts else {}
        self._printer.json({"kind": kind, **facts, **tally, "exit_code": exit_code})
