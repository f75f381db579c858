"""What all commands share: their options, and how what they ask for is carried out."""

# no lazy annotations: Typer reads those of the options

import functools
import gc
import inspect
import logging
import signal
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Annotated, Any, get_type_hints

import typer

from pgpull import completing
from pgpull.calling import check_sides, run, run_export
from pgpull.checking import Inspection, checkup_of
from pgpull.diffing import Matter, differences
from pgpull.endpoints import Endpoint
from pgpull.errors import PgpullError, UsageError
from pgpull.manners import Manners
from pgpull.model import DEFAULT_BATCH_ROWS, DEFAULT_MAX_DELETE, Job, OnConflict, Request, Scope, Wanted
from pgpull.origins import Origin
from pgpull.outlets import CLOSED, OutputClosed
from pgpull.packing import Export
from pgpull.pages import ALONG, HELP, OUTPUT, ROWS, SAFETY, SERVER, SETTINGS, WRITING
from pgpull.patience import DEFAULT_RETRIES
from pgpull.places import place_of
from pgpull.reaching import kept_open
from pgpull.reading import whole
from pgpull.recipes import Entry, Recipes
from pgpull.rehearsing import DEFAULT_EXAMPLES, rehearse, rehearse_job
from pgpull.reporting import Reporter
from pgpull.requesting import default_rejects
from pgpull.retrying import retry
from pgpull.settings import load, load_source, load_target, recipes
from pgpull.shapes import TableName, TablePattern
from pgpull.surveying import Question, survey


@dataclass(frozen=True, slots=True)
class Loading:
    """What is to be brought out of an archive."""

    archive: str
    """Its folder, or its URL."""
    job: Job


@dataclass(frozen=True, slots=True)
class ByFiles:
    """What is to be brought by way of an archive."""

    archive: str
    """The folder, or the URL, where it is to stand."""
    request: Request


@dataclass(frozen=True, slots=True)
class Retry:
    """Refused rows that are to be tried again."""

    rejects: Path
    on_conflict: OnConflict


Asked = Export | Request | Job | Question | Matter | Inspection | Recipes | Loading | Retry | ByFiles


def _print_version(asked: bool) -> None:
    if asked:
        from pgpull import __version__  # read when asked for

        typer.echo(f"pgpull {__version__}")
        raise typer.Exit


Version = Annotated[
    bool,
    typer.Option(
        "--version",
        callback=_print_version,
        is_eager=True,
        rich_help_panel=HELP,
        help="Print the version, and end.",
    ),
]

rows = functools.partial(typer.Option, rich_help_panel=ROWS)
writing = functools.partial(typer.Option, rich_help_panel=WRITING)
_along = functools.partial(typer.Option, rich_help_panel=ALONG)
_safety = functools.partial(typer.Option, rich_help_panel=SAFETY)
_server = functools.partial(typer.Option, rich_help_panel=SERVER)
_settings = functools.partial(typer.Option, rich_help_panel=SETTINGS)
_output = functools.partial(typer.Option, rich_help_panel=OUTPUT)


@dataclass(frozen=True)
class Options:
    """The options that every pulling command has; each field is one, in the panel of its page that fits."""

    new: Annotated[bool, rows("--new", help="Only rows from the newest one here on, less the overlap.")] = False
    overlap: Annotated[str, rows(metavar="TIME", help="How far --new looks back: 90s, 15min, 1h, 2d.")] = "1h"
    timezone: Annotated[
        str,
        rows(
            metavar="ZONE",
            autocompletion=completing.zones,
            help="Zone of dates without one, such as Europe/Berlin.",
        ),
    ] = "UTC"
    without: Annotated[list[str] | None, rows(metavar="COLUMN", help="Leave this column out. Repeatable.")] = (
        None
    )
    on_conflict: Annotated[
        OnConflict, writing(metavar="skip|update", help="What happens to a row whose key is here already.")
    ] = OnConflict.SKIP
    keep: Annotated[
        list[str] | None,
        writing(metavar="COLUMN", help="An update leaves this local column alone. Repeatable."),
    ] = None
    mirror: Annotated[
        bool, writing("--mirror", help="Delete rows in scope here that the server no longer has.")
    ] = False
    replace: Annotated[
        bool, writing("--replace", help="Delete the scope here and load it anew, in one transaction.")
    ] = False
    batch_size: Annotated[int, writing(min=1, metavar="N", help="Rows committed together at most.")] = (
        DEFAULT_BATCH_ROWS
    )
    row_versions: Annotated[
        bool,
        writing(help="Remember transaction numbers, in the schema pgpull here, to make updates quick."),
    ] = True
    with_parents: Annotated[
        bool, _along("--with-parents", help="Bring the rows, too, that pulled rows refer to.")
    ] = False
    with_children: Annotated[
        list[str] | None,
        _along(
            metavar="TABLE",
            autocompletion=completing.tables,
            help="Bring rows of this table that refer to pulled ones. Repeatable.",
        ),
    ] = None
    create_missing: Annotated[
        bool, _along("--create-missing", help="Make tables that local lacks, with what they need.")
    ] = False
    dry_run: Annotated[bool, _safety("--dry-run", help="Say what would be done, and write nothing.")] = False
    show: Annotated[
        int, _safety(min=0, metavar="N", help="How many of the rows to insert a dry run shows.")
    ] = DEFAULT_EXAMPLES
    verify: Annotated[
        bool, _safety("--verify", help="Compare both sides once more at the end, by a hash of each row.")
    ] = False
    mask_strict: Annotated[
        bool, _safety("--mask-strict", help="Stop at columns that look personal and have no mask rule.")
    ] = False
    max_delete: Annotated[
        str, _safety(metavar="N|N%", help="How many of the rows in scope here --mirror may delete.")
    ] = str(DEFAULT_MAX_DELETE)
    max_errors: Annotated[
        str | None, _safety(metavar="N|N%", help="Stop when more rows fail: a number or a share.")
    ] = None
    rejects: Annotated[
        Path | None,
        _safety(metavar="FILE", help="Keep refused rows here (default: SCHEMA.TABLE.rejects.jsonl)."),
    ] = None
    allow_target: Annotated[
        list[str] | None,
        _safety(metavar="HOST", help="Let local be on this host, not on this machine. Repeatable."),
    ] = None
    jobs: Annotated[
        int | None,
        _server(min=1, metavar="N", help="Workers that share a large table (default: 2 to 4, by the machine)."),
    ] = None
    max_rate: Annotated[
        list[str] | None,
        _server(metavar="RATE", help="Read no faster than 20MB/s, or 5000rows/s. Repeatable."),
    ] = None
    pause_when: Annotated[
        list[str] | None,
        _server(metavar="LINE", help="Pause while lag>30s, or active>40. Repeatable."),
    ] = None
    no_snapshot: Annotated[
        bool,
        _server("--no-snapshot", help="Read in short transactions, one stretch of keys each."),
    ] = False
    retries: Annotated[int, _server(min=0, metavar="N", help="Tries to get a lost connection back.")] = (
        DEFAULT_RETRIES
    )
    config: Annotated[
        Path | None,
        _settings(metavar="FILE", help="Rules and recipes (default: the next pgpull.toml upwards)."),
    ] = None
    env_file: Annotated[
        Path | None,
        _settings(metavar="FILE", help="Where both sides are (default: the next .env from here upwards)."),
    ] = None
    json: Annotated[bool, _output("--json", help="Print the report to stdout as JSON; words go to stderr.")] = (
        False
    )
    quiet: Annotated[bool, _output("--quiet", "-q", help="Print only what went wrong.")] = False
    verbose: Annotated[bool, _output("--verbose", "-v", help="Print each batch; trace bugs.")] = False
    log_file: Annotated[Path | None, _output(metavar="FILE", help="Write the same facts here, with times.")] = (
        None
    )
    version: Version = False
    given: frozenset[str] = field(default=frozenset(), metadata={"is_option": False})
    """The options that stand on the command line."""

    def said(self) -> dict[str, Any]:
        """Return what the user says on the command line, and no default: it wins over what a file says."""
        return {name: getattr(self, name) for name in _SAYINGS if name in self.given}

    def request(self, table: str, **what: Any) -> Request:
        """Make the request for a table, with these options, under the rules of the file.

        Args:
            table: ``schema.table``.
            what: the scope, as :func:`pgpull.requesting.make_request` takes it.

        Raises:
            UsageError: a word makes no sense.
        """
        return recipes(self.config).request(TableName.parse(table), _merged(self.said(), what))

    def scope(self, table: str, **what: Any) -> dict[str, Any]:
        """Return which rows of a table are meant: what is said, and else what the rules of the file say.

        Raises:
            UsageError: the name is none.
        """
        file = recipes(self.config)
        standing = file.rules_for(TableName.parse(table))
        return _merged(
            {"mask": file.masks}, {n: w for n, w in standing.items() if n in _SCOPE}, self.said(), what
        )

    def job(self, tables: Sequence[str], exclude: Sequence[str] = (), **what: Any) -> Job:
        """Make a job out of tables and what is asked for of each, with these options.

        Raises:
            UsageError: a name is none, or a word makes no sense.
        """
        if not tables:
            raise UsageError("no table is named", "name one, or a pattern such as 'askwealth.*'")
        words = _merged(self.said(), what)
        return recipes(self.config).job(map(Entry, tables), words, exclude=exclude, **self.along)

    def job_of(self, request: Request) -> Job:
        """Make a job of a request that is made already, and of what comes along."""
        job = recipes(self.config).job((), self.said(), **self.along)
        return replace(job, wanted=(Wanted(TablePattern.of(request.table), request),))

    @property
    def manners(self) -> Manners:
        """How the run behaves towards the server."""
        return Manners.of(
            jobs=self.jobs,
            max_rate=self.max_rate or (),
            pause_when=self.pause_when or (),
            snapshot=not self.no_snapshot,
        )

    @property
    def along(self) -> dict[str, Any]:
        """What comes along."""
        return {
            "with_parents": self.with_parents,
            "with_children": self.with_children or (),
            "create_missing": self.create_missing,
        }


_SAYINGS = (
    *("on_conflict", "max_errors", "timezone", "new", "overlap", "mirror", "max_delete", "replace"),
    *("verify", "row_versions", "batch_size", "without", "keep", "mask_strict"),
)
"""Options that say something of a table's rows, and may stand in a file as well."""


def _merged(*layers: Mapping[str, Any]) -> dict[str, Any]:
    """Put what was said together; what comes later wins, where it says anything at all."""
    return {name: word for layer in layers for name, word in layer.items() if word not in (None, {}, [])}


_SCOPE = ("since", "until", "window", "equals", "where", "timezone")
"""What may stand in a file of which rows are meant."""


_LOOKING = ("env_file", "config", "timezone", "log_file", "version", "json", "quiet", "verbose")
"""The options that make sense where nothing is written."""


def pulls(command: Callable[..., Asked]) -> Callable[..., None]:
    """Make a command out of a function from words to what is asked: it gets the common options, and is run.

    Args:
        command: takes its own arguments and ``options``; its docstring is the command's help.
    """
    return _expanded(command, [f.name for f in fields(Options) if f.metadata.get("is_option", True)])


def looks(command: Callable[..., Question]) -> Callable[..., None]:
    """Make a command that only looks, as :func:`pulls` makes one: it gets fewer options."""
    return _expanded(command, _LOOKING)


def compares(command: Callable[..., Matter]) -> Callable[..., None]:
    """Make a command that compares rows, as :func:`looks` makes one: it may pass over columns."""
    return _expanded(command, (*_LOOKING, "without", "keep"))


def checks(command: Callable[..., Inspection]) -> Callable[..., None]:
    """Make a command that looks at what may be written, as :func:`looks` makes one."""
    return _expanded(command, (*_LOOKING, "allow_target"))


def retries(command: Callable[..., Retry]) -> Callable[..., None]:
    """Make a command that tries rows again, as :func:`looks` makes one: it may lose connections."""
    return _expanded(command, ("env_file", "log_file", "version", "json", "quiet", "verbose", *_RETRYING))


_RETRYING = ("allow_target", "retries")


def exports(command: Callable[..., Export]) -> Callable[..., None]:
    """Make a command that reads the server and writes files, as :func:`looks` makes one."""
    return _expanded(
        command, (*_LOOKING, "without", "mask_strict", "jobs", "max_rate", "pause_when", "retries")
    )


def _expanded(command: Callable[..., Asked], names: Sequence[str]) -> Callable[..., None]:
    own = [p for p in inspect.signature(command).parameters.values() if p.name != "options"]
    hints = get_type_hints(Options, include_extras=True)
    common = [
        inspect.Parameter(f.name, inspect.Parameter.KEYWORD_ONLY, default=f.default, annotation=hints[f.name])
        for f in fields(Options)
        if f.name in names
    ]

    @functools.wraps(command)
    def expanded(context: typer.Context, **given: Any) -> None:
        said = {name for name in names if _is_said(context, name)}
        common = {name: given.pop(name) for name in names}
        options = Options(**common, given=frozenset(said))

        def asked() -> Asked:
            for value in (*given.values(), *common.values()):
                _check_text(value)
            return command(**given, options=options)

        raise typer.Exit(_carried_out(options, asked))

    first = inspect.Parameter("context", inspect.Parameter.POSITIONAL_OR_KEYWORD, annotation=typer.Context)
    parameters = [first, *own, *common]
    expanded.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    expanded.__annotations__ = {p.name: p.annotation for p in parameters}
    return expanded


def _check_text(value: Any) -> None:
    """Make sure that words are text: the shell hands on whatever bytes it is given.

    Raises:
        UsageError: one is not.
    """
    for word in value if isinstance(value, list) else [value]:
        if isinstance(word, str) and any("\udc80" <= letter <= "\udcff" for letter in word):
            shown = word.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
            raise UsageError(f"a word on the command line is not UTF-8: {shown}", "write it in UTF-8")


def _is_said(context: typer.Context, name: str) -> bool:
    """Whether an option stands on the command line."""
    source = context.get_parameter_source(name)
    return source is not None and source.name == "COMMANDLINE"


def _carried_out(options: Options, asked: Callable[[], Asked]) -> int:
    """Pull what is asked for, or show it, tell the user how it goes, and return the exit code."""
    gc.freeze()  # what was imported stays: looking through it on leaving takes 0.2 s
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
            return reporter.ended(_do(reporter, options, _not_in_vain(options, asked())))
        except PgpullError as error:
            return failed(reporter, error)
        except OutputClosed:
            reporter.left()
            return CLOSED
        except KeyboardInterrupt:
            reporter.interrupted()
            return 130
        except Exception as error:
            reporter.broke(error)
            return 1


def _not_in_vain(options: Options, asked: Asked) -> Asked:
    """Refuse an option that says how another one is to work, where that one is not there: it was forgotten."""
    requests = _requests(asked)
    for option, other, has_other in (
        ("show", "--dry-run", options.dry_run),
        ("overlap", "--new", any(request.new is not None for request in requests)),
        ("max_delete", "--mirror", any(request.mirror for request in requests)),
    ):
        if option in options.given and not has_other:
            word = f"--{option.replace('_', '-')}"
            raise UsageError(f"{word} has no effect without {other}", f"add {other}, or leave out {word}")
    return asked


def _requests(asked: Asked) -> Sequence[Request]:
    match asked:
        case Request():
            return [asked]
        case Job():
            return [wanted.request for wanted in asked.wanted]
        case Loading():
            return _requests(asked.job)
        case ByFiles():
            return [asked.request]
        case _:
            return ()


def _do(reporter: Reporter, options: Options, asked: Asked) -> int:
    match asked:
        case Question():
            return _show(reporter, options, asked)
        case Matter():
            return _diff(reporter, options, asked)
        case Inspection():
            return _check(reporter, options, asked)
        case Export():
            return _export(reporter, options, asked)
        case Request():
            return _do(reporter, options, options.job_of(asked))
        case Recipes():
            return _offer(reporter, asked)
        case Loading():
            target = load_target(options.env_file)
            with whole(asked.archive) as archive:
                return _move(reporter, options, asked.job, archive, target)
        case ByFiles():
            return _pull_by_files(reporter, options, asked)
        case Retry():
            return _retry(reporter, options, asked)
        case Job():
            settings = load(options.env_file)
            return _move(reporter, options, asked, settings.source, settings.target)


def _move(reporter: Reporter, options: Options, job: Job, source: Origin, target: Endpoint) -> int:
    go = _foretell if options.dry_run else _pull
    return go(reporter, options, job, source, target)


def _foretell(reporter: Reporter, options: Options, job: Job, source: Origin, target: Endpoint) -> int:
    reporter.only_looks()
    request = job.single
    if request is None:
        if "show" in options.given:
            reporter.noticed("--show has no effect here: rows are shown where one table is named")
        outlook = rehearse_job(job, source, target, allowed=options.allow_target or (), listener=reporter)
        reporter.foresaw(outlook)
        return outlook.exit_code
    forecast = rehearse(
        request,
        source,
        target,
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


def _pull(reporter: Reporter, options: Options, job: Job, source: Origin, target: Endpoint) -> int:
    summary = run(
        job,
        source,
        target,
        rejects=options.rejects or default_rejects(job),
        allowed=options.allow_target or (),
        retries=options.retries,
        manners=options.manners,
        listener=reporter,
    )
    if job.single:
        reporter.finished(summary.reports[0])
    else:
        reporter.summed_up(summary)
    return summary.exit_code


def _pull_by_files(reporter: Reporter, options: Options, asked: ByFiles) -> int:
    """Export the rows in scope, and load them all from there: an archive of them needs no scope any more."""
    job = options.job_of(asked.request)
    _check_files(asked.request, job, options)
    settings = load(options.env_file)
    if options.dry_run:
        return _foretell(reporter, options, job, settings.source, settings.target)
    export = Export(job, place_of(asked.archive), overwrite=True)
    with kept_open(settings.source):
        check_sides(settings.source, settings.target, options.allow_target or ())
        exported = run_export(
            export, settings.source, retries=options.retries, manners=options.manners, listener=reporter
        )
    reporter.noticed(f"{exported.manifest.rows:,} rows are in {exported.archive}")
    every = tuple(replace(wanted, request=replace(wanted.request, scope=Scope())) for wanted in job.wanted)
    here = replace(options, pause_when=None)
    with whole(asked.archive) as archive:
        return _pull(reporter, here, replace(job, wanted=every), archive, settings.target)


def _check_files(request: Request, job: Job, options: Options) -> None:
    if options.no_snapshot:
        raise UsageError(
            "an archive is of one instant of the server, and --no-snapshot reads many",
            "leave out --no-snapshot, or --csv",
        )
    along = ("--with-parents", job.with_parents), ("--with-children", bool(job.with_children))
    for option, given in (*along, ("--new", request.new is not None)):
        if given:
            raise UsageError(
                f"{option} has to look at both sides together, and --csv takes one after the other",
                f"leave out {option}, or --csv",
            )


def _retry(reporter: Reporter, options: Options, asked: Retry) -> int:
    summary = retry(
        asked.rejects,
        target=load_target(options.env_file),
        on_conflict=asked.on_conflict,
        allow_target=options.allow_target or (),
        retries=options.retries,
        listener=reporter,
    )
    reporter.summed_up(summary)
    return summary.exit_code


def _export(reporter: Reporter, options: Options, asked: Export) -> int:
    reporter.only_looks()
    source = load_source(options.env_file)
    exported = run_export(asked, source, retries=options.retries, manners=options.manners, listener=reporter)
    reporter.exported(exported)
    return 0


def _offer(reporter: Reporter, offered: Recipes) -> int:
    reporter.only_looks()
    reporter.offered(offered)
    return 0


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
