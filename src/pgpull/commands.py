"""What all commands share: their options, and how what they ask for is carried out."""

# no lazy annotations: Typer reads those of the options

import functools
import inspect
import logging
import signal
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Annotated, Any, get_type_hints

import typer

from pgpull.checking import Inspection, checkup_of
from pgpull.diffing import Matter, differences
from pgpull.errors import PgpullError
from pgpull.model import DEFAULT_BATCH_ROWS, DEFAULT_MAX_DELETE, Job, OnConflict, Request
from pgpull.patience import DEFAULT_RETRIES
from pgpull.rehearsing import DEFAULT_EXAMPLES, rehearse, rehearse_job
from pgpull.reporting import Reporter
from pgpull.requesting import default_rejects, make_job, make_request
from pgpull.running import run
from pgpull.settings import load
from pgpull.shapes import TableName
from pgpull.surveying import Question, survey

Asked = Request | Job | Question | Matter | Inspection


def _print_version(asked: bool) -> None:
    if asked:
        from pgpull import __version__  # read when asked for

        typer.echo(f"pgpull {__version__}")
        raise typer.Exit


Version = Annotated[
    bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version, and end.")
]


@dataclass(frozen=True)
class Options:
    """The options that every pulling command has; each field is one."""

    on_conflict: Annotated[
        OnConflict, typer.Option(help="What happens to a row whose key is here already.")
    ] = OnConflict.SKIP
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be done, and write nothing.")] = (
        False
    )
    show: Annotated[
        int, typer.Option(min=0, metavar="N", help="How many of the rows to insert a dry run shows.")
    ] = DEFAULT_EXAMPLES
    new: Annotated[
        bool, typer.Option("--new", help="Only rows from the newest one here on, less the overlap.")
    ] = False
    overlap: Annotated[
        str, typer.Option(metavar="TIME", help="How far --new looks back: 90s, 15min, 1h, 2d.")
    ] = "1h"
    mirror: Annotated[
        bool, typer.Option("--mirror", help="Delete rows in scope here that the server no longer has.")
    ] = False
    max_delete: Annotated[
        str, typer.Option(metavar="N|N%", help="How many of the rows in scope here --mirror may delete.")
    ] = str(DEFAULT_MAX_DELETE)
    with_parents: Annotated[
        bool, typer.Option("--with-parents", help="Bring the rows, too, that pulled rows refer to.")
    ] = False
    with_children: Annotated[
        list[str] | None,
        typer.Option(metavar="TABLE", help="Bring rows of this table that refer to pulled ones. Repeatable."),
    ] = None
    create_missing: Annotated[
        bool, typer.Option("--create-missing", help="Make tables that local lacks, with what they need.")
    ] = False
    replace: Annotated[
        bool, typer.Option("--replace", help="Delete the scope here and load it anew, in one transaction.")
    ] = False
    verify: Annotated[
        bool, typer.Option("--verify", help="Compare both sides once more at the end, by a hash of each row.")
    ] = False
    row_versions: Annotated[
        bool,
        typer.Option(help="Remember transaction numbers, in the schema pgpull here, to make updates quick."),
    ] = True
    batch_size: Annotated[int, typer.Option(min=1, help="Rows committed together at most.")] = (
        DEFAULT_BATCH_ROWS
    )
    max_errors: Annotated[
        str | None, typer.Option(metavar="N|N%", help="Stop when more rows fail: a number or a share.")
    ] = None
    rejects: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Keep refused rows here (default: SCHEMA.TABLE.rejects.jsonl)."),
    ] = None
    log_file: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write the same facts here, with times.")
    ] = None
    env_file: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Settings (default: the next .env from here upwards)."),
    ] = None
    allow_target: Annotated[
        list[str] | None,
        typer.Option(metavar="HOST", help="Let local be on this host, not on this machine. Repeatable."),
    ] = None
    timezone: Annotated[
        str, typer.Option(metavar="ZONE", help="Zone of dates without one, such as Europe/Berlin.")
    ] = "UTC"
    retries: Annotated[int, typer.Option(min=0, help="Tries to get a lost connection back.")] = DEFAULT_RETRIES
    version: Version = False
    json: Annotated[bool, typer.Option("--json", help="Print the report to stdout as JSON.")] = False
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print only what went wrong.")] = False
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Print each batch; trace bugs.")] = False

    def request(self, table: str | TableName, **what: Any) -> Request:
        """Make the request for a table, with these options.

        Args:
            table: ``schema.table``.
            what: the scope, as :func:`pgpull.requesting.make_request` takes it.

        Raises:
            UsageError: a word makes no sense.
        """
        return make_request(
            table,
            on_conflict=self.on_conflict,
            batch_size=self.batch_size,
            max_errors=self.max_errors,
            timezone=self.timezone,
            new=self.new,
            overlap=self.overlap,
            mirror=self.mirror,
            max_delete=self.max_delete,
            replace=self.replace,
            verify=self.verify,
            row_versions=self.row_versions,
            **what,
        )

    def job(self, tables: Sequence[str | TableName], request: Request, exclude: Sequence[str] = ()) -> Job:
        """Make a job out of tables and what is asked for of each, with these options.

        Raises:
            UsageError: a name is none.
        """
        return make_job(
            tables,
            request,
            exclude=exclude,
            with_parents=self.with_parents,
            with_children=self.with_children or (),
            create_missing=self.create_missing,
        )


_LOOKING = ("env_file", "timezone", "log_file", "version", "json", "quiet", "verbose")
"""The options that make sense where nothing is written."""


def pulls(command: Callable[..., Asked]) -> Callable[..., None]:
    """Make a command out of a function from words to what is asked: it gets the common options, and is run.

    Args:
        command: takes its own arguments and ``options``; its docstring is the command's help.
    """
    return _expanded(command, [f.name for f in fields(Options)])


def looks(command: Callable[..., Question | Matter]) -> Callable[..., None]:
    """Make a command that only looks, as :func:`pulls` makes one: it gets fewer options."""
    return _expanded(command, _LOOKING)


def checks(command: Callable[..., Inspection]) -> Callable[..., None]:
    """Make a command that looks at what may be written, as :func:`looks` makes one."""
    return _expanded(command, (*_LOOKING, "allow_target"))


def _expanded(command: Callable[..., Asked], names: Sequence[str]) -> Callable[..., None]:
    own = [p for p in inspect.signature(command).parameters.values() if p.name != "options"]
    hints = get_type_hints(Options, include_extras=True)
    common = [
        inspect.Parameter(f.name, inspect.Parameter.KEYWORD_ONLY, default=f.default, annotation=hints[f.name])
        for f in fields(Options)
        if f.name in names
    ]

    @functools.wraps(command)
    def expanded(**given: Any) -> None:
        options = Options(**{name: given.pop(name) for name in names})
        raise typer.Exit(_carried_out(options, lambda: command(**given, options=options)))

    parameters = [*own, *common]
    expanded.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    expanded.__annotations__ = {p.name: p.annotation for p in parameters}
    return expanded


def _carried_out(options: Options, asked: Callable[[], Asked]) -> int:
    """Pull what is asked for, or show it, tell the user how it goes, and return the exit code."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # ends like Ctrl-C: tidily
    logging.getLogger("psycopg").addHandler(logging.NullHandler())  # what it warns of, we say ourselves
    try:
        reporter = Reporter(
            machine=options.json, quiet=options.quiet, verbose=options.verbose, log_file=options.log_file
        )
    except PgpullError as error:
        return failed(Reporter(machine=options.json), error)
    with reporter:
        try:
            return _do(reporter, options, asked())
        except PgpullError as error:
            return failed(reporter, error)
        except KeyboardInterrupt:
            reporter.interrupted()
            return 130
        except Exception as error:
            reporter.broke(error)
            return 1


def _do(reporter: Reporter, options: Options, asked: Asked) -> int:
    match asked:
        case Question():
            return _show(reporter, options, asked)
        case Matter():
            return _diff(reporter, options, asked)
        case Inspection():
            return _check(reporter, options, asked)
        case Request():
            return _do(reporter, options, options.job([asked.table], asked))
        case Job() if options.dry_run:
            return _foretell(reporter, options, asked)
        case Job():
            return _pull(reporter, options, asked)


def _foretell(reporter: Reporter, options: Options, job: Job) -> int:
    reporter.only_looks()
    settings = load(options.env_file)
    request = job.single
    if request is None:
        outlook = rehearse_job(
            job, settings.source, settings.target, allowed=options.allow_target or (), listener=reporter
        )
        reporter.foresaw(outlook)
        return outlook.exit_code
    forecast = rehearse(
        request,
        settings.source,
        settings.target,
        allowed=options.allow_target or (),
        examples=options.show,
        listener=reporter,
    )
    reporter.foretold(forecast)
    return forecast.exit_code


def _diff(reporter: Reporter, options: Options, matter: Matter) -> int:
    reporter.only_looks()
    settings = load(options.env_file)
    found = list(differences(matter, settings.source, settings.target, reporter))
    reporter.compared(found, matter.keys)
    return max(difference.exit_code for difference in found)


def _check(reporter: Reporter, options: Options, inspection: Inspection) -> int:
    reporter.only_looks()
    settings = load(options.env_file)
    found = checkup_of(inspection, settings.source, settings.target, options.allow_target or ())
    reporter.checked(found)
    return found.exit_code


def _pull(reporter: Reporter, options: Options, job: Job) -> int:
    settings = load(options.env_file)
    summary = run(
        job,
        settings.source,
        settings.target,
        rejects=options.rejects or default_rejects(job),
        allowed=options.allow_target or (),
        retries=options.retries,
        listener=reporter,
    )
    if job.single:
        reporter.finished(summary.reports[0])
    else:
        reporter.summed_up(summary)
    return summary.exit_code


def _show(reporter: Reporter, options: Options, question: Question) -> int:
    reporter.only_looks()
    settings = load(options.env_file)
    said = ("--env-file", str(options.env_file)) if options.env_file else ()
    reporter.surveyed(survey(question, settings.source, settings.target), said)
    return 0


def failed(reporter: Reporter, error: PgpullError) -> int:
    """Report an error, and return its exit code."""
    reporter.failed(error)
    return error.exit_code
