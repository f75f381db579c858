"""The options that several commands have, each in the panel of its page that fits, and what they ask for."""

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Annotated, Any

import typer

from pgpull import completing
from pgpull.config_file import recipes
from pgpull.errors import UsageError
from pgpull.manners import Manners
from pgpull.model import DEFAULT_BATCH_ROWS, DEFAULT_MAX_DELETE, Job, OnConflict, Request, Wanted
from pgpull.pages import ALONG, HELP, OUTPUT, ROWS, SAFETY, SERVER, SETTINGS, WRITING
from pgpull.patience import DEFAULT_RETRIES
from pgpull.recipes import Entry
from pgpull.rehearsing import DEFAULT_EXAMPLES
from pgpull.shapes import TableName, TablePattern


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
class ScopeOptions:
    """The options that say which rows of a table are meant, in the panel of rows."""

    since: Annotated[str | None, rows(metavar="DATE", help="Start of the window, included.")] = None
    until: Annotated[str | None, rows(metavar="DATE", help="End of the window, excluded.")] = None
    window: Annotated[
        str | None, rows(metavar="COLUMN", help="What the window stands on (default: created_at).")
    ] = None
    equals: Annotated[
        list[str] | None, rows(metavar="COLUMN=VALUE", help="Only rows with this value. Repeatable.")
    ] = None
    where: Annotated[str | None, rows(metavar="SQL", help="Only rows that meet a condition.")] = None

    @property
    def words(self) -> dict[str, Any]:
        """The scope, as :func:`pgpull.requesting.make_request` takes it.

        Raises:
            UsageError: a pair of column and value is none.
        """
        return {
            "since": self.since,
            "until": self.until,
            "window": self.window,
            "equals": _equals(self.equals),
            "where": self.where,
            "window_names": ("--since", "--until"),
        }


def _equals(texts: list[str] | None) -> dict[str, str]:
    pairs = dict(map(_equal, texts or ()))
    if len(pairs) < len(texts or ()):
        raise UsageError("--equals names a column twice", "use --where for one of several values")
    return pairs


def _equal(text: str) -> tuple[str, str]:
    column, sign, value = text.partition("=")
    if not (column and sign):
        raise UsageError(f"--equals is not COLUMN=VALUE: {text!r}", "write --equals role=user")
    return column, value


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


LOOKING = ("env_file", "config", "timezone", "log_file", "version", "json", "quiet", "verbose")
"""The options that make sense where nothing is written."""

PULLING = tuple(each.name for each in fields(Options) if each.metadata.get("is_option", True))
"""All of them."""
