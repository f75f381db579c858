"""Text to request, report to text, error to exit code. The library's first customer."""

import shlex
from collections.abc import Iterator, Sequence
from dataclasses import replace
from enum import StrEnum
from functools import partial
from importlib.resources import files
from pathlib import Path
from typing import Annotated

import typer

from pgpull import completing, embedded
from pgpull.archives import Compression
from pgpull.calling import EVERYTHING
from pgpull.checking import Inspection
from pgpull.commands import HELP, checks, compares, exports, looks, pulls, retries
from pgpull.config_file import recipes
from pgpull.diffing import Matter
from pgpull.dispatching import Loading, Retry, failed
from pgpull.embedded.programs import binary
from pgpull.errors import PgpullError, UsageError
from pgpull.manual import Command, Group
from pgpull.model import Job, OnConflict
from pgpull.options import Options, ScopeOptions, Version, rows, writing
from pgpull.outlets import UNWRITTEN
from pgpull.packing import Export
from pgpull.pages import ARCHIVE, OUTPUT, SAFETY, SETTINGS
from pgpull.periods import Unit
from pgpull.places import place_of
from pgpull.printing import Printer
from pgpull.recipes import Recipes
from pgpull.reporting import Reporter
from pgpull.settings import embedded_folder
from pgpull.surveying import Question, make_question

app = typer.Typer(cls=Group, no_args_is_help=True, pretty_exceptions_enable=False, context_settings=HELP)


# --- the commands ----------------------------------------------------------------------------------------


@app.callback()
def pgpull(version: Version = False) -> None:
    """Bring rows of a production Postgres into your own Postgres: exact, fast, safe, re-runnable.

    Both sides are named in a file .env, as SERVER_DB_URL and LOCAL_DB_URL. The server is only ever read, and
    only a Postgres on this machine is written. Each command can be run again at any time: both sides are
    compared, and only what differs moves.

    Examples:
        pgpull check
            Do both sides answer, and could a pull run? Nothing is written.
        pgpull pull askwealth.message --since 2025-01-01
            Bring the messages of a period.
        pgpull status askwealth.message
            See what is here, and what is missing.
        pgpull demo
            Try it all on two private servers.
    """


Table = Annotated[
    str,
    typer.Argument(
        metavar="SCHEMA.TABLE", autocompletion=completing.tables, help="The same name on both sides."
    ),
]
_archive = partial(typer.Option, rich_help_panel=ARCHIVE)


class FileFormat(StrEnum):
    """What an archive's files are."""

    CSV = "csv"
    PARQUET = "parquet"


class Packing(StrEnum):
    """How an archive's files are compressed."""

    GZIP = "gzip"
    ZSTD = "zstd"


_COMPRESSIONS: dict[Packing, Compression] = {Packing.GZIP: "gzip", Packing.ZSTD: "zstd"}


class By(StrEnum):
    """What an archive's folders stand for."""

    MONTH = "month"


Tables = Annotated[
    list[str],
    typer.Argument(
        metavar="SCHEMA.TABLE...",
        autocompletion=completing.tables,
        help="Named alike on both sides; askwealth.* means several.",
    ),
]
Exclude = Annotated[
    list[str] | None,
    rows(
        metavar="SCHEMA.TABLE",
        autocompletion=completing.tables,
        help="Leave these tables out. Repeatable.",
    ),
]


@app.command(cls=Command)
@pulls
def pull(
    tables: Tables,
    exclude: Exclude = None,
    *,
    scope: ScopeOptions,
    options: Options,
) -> Job:
    """Bring the rows of tables, or those in scope, from the server into local.

    Both sides are compared first, and only what differs moves, in batches that are committed one by one; so the
    same command goes on where one was ended, and does nothing where all is in. Several tables are read at one
    instant, those that others refer to first. A row that local refuses is kept in a file of rejects, and the
    others go in.

    Examples:
        pgpull pull askwealth.message --since 2025-01-01 --until 2025-02-01
            The messages of a month: from the first day on, to before the last.
        pgpull pull askwealth.message --since 2025-01-01 --on-conflict update --dry-run
            What would come, and which rows here would change? Nothing is written.
        pgpull pull askwealth.message --new
            Only what came since the last pull.
        pgpull pull "askwealth.*" --exclude askwealth.message --create-missing
            Every other table of a schema, made here where it is missing.
        pgpull pull askwealth.document --with-children askwealth.chunk --verify
            Documents with what refers to them, compared once more at the end.
    """
    return options.job(tables, exclude or (), **scope.words)


@app.command(cls=Command)
@exports
def export(
    tables: Annotated[
        list[str],
        typer.Argument(
            metavar="SCHEMA.TABLE...",
            autocompletion=completing.tables,
            help="Tables of the server; askwealth.* means several.",
        ),
    ],
    to: Annotated[
        str, _archive("--to", metavar="DIR|URL", help="Where it goes: a folder, or s3://bucket/folder.")
    ],
    exclude: Exclude = None,
    *,
    scope: ScopeOptions,
    file_format: Annotated[
        FileFormat, _archive("--format", metavar="csv|parquet", help="What its files are.")
    ] = FileFormat.CSV,
    compress: Annotated[
        Packing | None,
        _archive(metavar="gzip|zstd", help="How they are compressed (default: CSV not, Parquet by zstd)."),
    ] = None,
    by: Annotated[
        By | None, _archive(metavar="month", help="A folder for each month of the window's column.")
    ] = None,
    overwrite: Annotated[
        bool, _archive("--overwrite", help="Replace an archive that stands there, once this one is whole.")
    ] = False,
    options: Options,
) -> Export:
    """Write the rows of tables, or those in scope, to an archive. Nothing is written to a database.

    An archive is a folder of files with a manifest, or the same in an object store: one person takes it, and a
    team loads it without asking the server again. All tables are read at one instant. It stands under its name
    only when it is whole; what a killed export leaves is replaced by the next.

    Examples:
        pgpull export askwealth.message --since 2025-01-01 --to messages --overwrite
            The messages of a period, as CSV.
        pgpull export "askwealth.*" --to nightly --compress zstd --overwrite
            A whole schema, in small files.
        pgpull export askwealth.message --to lake --format parquet --by month --overwrite
            For DuckDB, Spark or Trino: Parquet, a folder a month.

    Exit codes:
        0    the archive is whole
        1    a bug in pgpull
        2    an option or a setting makes no sense, or a library is not installed
        3    no archive was written: no connection, no such table, no place for it, or the server went away
        130  you pressed Ctrl-C; no archive was written
    """
    job = options.job(tables, exclude or (), **scope.words, months=bool(by) or None)
    return Export(
        job=job,
        to=place_of(to),
        format="parquet" if file_format is FileFormat.PARQUET else "csv",
        compression=_COMPRESSIONS[compress] if compress else None,
        by_month=by is not None,
        overwrite=overwrite,
    )


@app.command("load", cls=Command)
@pulls
def load_archive(
    archive: Annotated[str, typer.Argument(metavar="DIR", help="An archive's folder, or its URL.")],
    tables: Annotated[
        list[str] | None,
        typer.Argument(metavar="[SCHEMA.TABLE...]", help="Names or patterns; none for all that it has."),
    ] = None,
    exclude: Exclude = None,
    *,
    scope: ScopeOptions,
    options: Options,
) -> Loading:
    """Bring the rows of an archive into local, as a pull brings those of a server, which is not needed.

    The archive is what `pgpull export` wrote: all its files are held against its manifest before anything is
    written. Everything that a pull can do is to be had: windows, upserts, dry runs, mirrors, rejects.

    Examples:
        pgpull load messages-2025
            All tables of an archive.
        pgpull load nightly askwealth.message --since 2025-01-01 --on-conflict update
            The messages of a period, taken over as they were then.
        pgpull load messages-2025 --dry-run
            How do local and the archive differ? Nothing is written.
    """
    return Loading(archive, options.job(tables or EVERYTHING, exclude or (), **scope.words))


@app.command("retry", cls=Command)
@retries
def retry_rejects(
    rejects: Annotated[
        Path, typer.Argument(metavar="REJECTS", help="The file in which a pull has kept refused rows.")
    ],
    on_conflict: Annotated[
        OnConflict, writing(metavar="skip|update", help="What happens to a row whose key is here already.")
    ] = OnConflict.UPDATE,
    *,
    options: Options,  # noqa: ARG001
) -> Retry:
    """Load refused rows again: corrected ones, or as they are once their reason is gone.

    Each line of the file is a row: correct what stands under "values", where a value is text as Postgres writes
    it, or null. Rows that go in leave the file; those that are refused again stay there, with the new message.
    When no row is left, the file is removed.

    Examples:
        pgpull retry askwealth.message.rejects.jsonl
            Try them all again.
    """
    return Retry(rejects, on_conflict)


@app.command("run", cls=Command)
@pulls
def run_recipe(
    recipe: Annotated[
        str | None,
        typer.Argument(
            metavar="[RECIPE]",
            autocompletion=completing.recipe_names,
            help="One of pgpull.toml; without one, they are listed.",
        ),
    ] = None,
    values: Annotated[
        list[str] | None,
        rows(
            "--set",
            metavar="NAME=VALUE",
            autocompletion=completing.parameters,
            help="Give a parameter its value. Repeatable.",
        ),
    ] = None,
    *,
    options: Options,
) -> Job | Recipes:
    """Pull what a recipe of pgpull.toml says.

    A recipe is a pull with a name and parameters. Without a name, the recipes and their parameters are listed.
    What stands on the command line wins over the file.

    Examples:
        pgpull run
            Which recipes are there?
        pgpull run messages --set from=2025-01-01 --dry-run
            What would this one do?
    """
    file = recipes(options.config)
    if recipe is None:
        if values:
            raise UsageError("--set gives a parameter its value, and no recipe is named", "pgpull run RECIPE")
        return file
    along = {name: word for name, word in options.along.items() if word}
    return file.recipe(recipe, _assigned(values or ()), {**options.said(), **along})


def _assigned(texts: Sequence[str]) -> dict[str, str]:
    """Read the values of parameters; in what is wrong with one, the value is not repeated."""
    values: dict[str, str] = {}
    for text in texts:
        name, sign, value = text.partition("=")
        if not (name and sign):
            raise UsageError("--set is not NAME=VALUE: there is no = after a name", "write --set id=...")
        if name in values:
            raise UsageError(f"--set gives {name} a value twice", "a parameter has one value")
        values[name] = value
    return values


@app.command(cls=Command)
@looks
def status(
    table: Table,
    *,
    scope: ScopeOptions,
    by: Annotated[
        Unit | None, rows(metavar="day|week|month|year", help="Length of a period (default: what fits).")
    ] = None,
    options: Options,
) -> Question:
    """Show how many rows the server and local hold, by time. Nothing is written.

    Each side is asked for one count of its rows by day. Equal counts are not equal rows: pgpull diff compares
    those.

    Examples:
        pgpull status askwealth.message
            The whole table, in periods that fit on a screen.
        pgpull status askwealth.message --by week --since 2025-01-01
            Week by week, from a day on.

    Exit codes:
        0    it was counted, whatever the counts
        1    a bug in pgpull
        2    an option or a setting makes no sense
        3    no connection, or no such table
        130  you pressed Ctrl-C
    """
    return make_question(table, by=by, **options.scope(table, **scope.words))


@app.command(cls=Command)
@compares
def diff(
    tables: Annotated[
        list[str],
        typer.Argument(
            metavar="SCHEMA.TABLE...", autocompletion=completing.tables, help="Named alike on both sides."
        ),
    ],
    *,
    scope: ScopeOptions,
    keys: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", rich_help_panel=OUTPUT, help="Write every key that differs here, as JSON lines."
        ),
    ] = None,
    options: Options,
) -> Matter:
    """Compare tables, or their rows in scope, row by row. Nothing is written.

    Keys are compared first, then what the rows hold, by a hash that each side computes; some of the keys that
    differ are shown.

    Examples:
        pgpull diff askwealth.message --since 2025-01-01
            Are the rows of a time the same on both sides?
        pgpull diff askwealth.message askwealth.thread --keys differing.jsonl
            Which rows are not? The file gets every key.

    Exit codes:
        0    both sides are equal
        1    a bug in pgpull
        2    an option or a setting makes no sense
        3    no connection, or two sides that do not fit
        5    the two sides differ
        130  you pressed Ctrl-C
    """
    return Matter(options.job(tables, **scope.words), keys)


@app.command(cls=Command)
@checks
def check(
    tables: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[SCHEMA.TABLE...]",
            autocompletion=completing.tables,
            help="Names or patterns; none for the connections alone.",
        ),
    ] = None,
    *,
    scope: ScopeOptions,
    privacy: Annotated[
        bool,
        typer.Option(
            "--privacy",
            rich_help_panel=SAFETY,
            help="Count rows that look personal, by name and by value; shows no value.",
        ),
    ] = False,
    options: Options,
) -> Inspection:
    """Say whether a pull could run, and what to know first. Nothing is written.

    Without a table it looks at both connections, and at what their roles may do; with tables, at each of them
    too. A problem is what a pull would be refused for; a note is worth knowing, and comes with the statement
    that puts it right, where there is one.

    Examples:
        pgpull check
            Do both sides answer?
        pgpull check "askwealth.*"
            Do all tables of a schema fit?
        pgpull check askwealth.message --window created_at
            Would windows on this column find an index?
        pgpull check --privacy askwealth.message
            What in it looks personal, and in how many rows?

    Exit codes:
        0    a pull could run
        1    a bug in pgpull
        2    an option or a setting makes no sense
        3    a pull would be refused
        130  you pressed Ctrl-C
    """
    if not tables:
        _check_no_scope(scope)
        return Inspection(options.job(["*.*"]), privacy=True) if privacy else Inspection()
    idle = scope.window if scope.since is None and scope.until is None else None
    job = options.job(tables, **(replace(scope, window=None) if idle else scope).words)
    return Inspection(job, idle, privacy)


def _check_no_scope(scope: ScopeOptions) -> None:
    if scope != ScopeOptions():
        raise UsageError(
            "which rows are meant is said, and not of which table",
            "name a table, or a pattern: pgpull check 'askwealth.*' --since 2025-01-01",
        )


@app.command("demo", cls=Command)
def run_demo(
    folder: Annotated[
        Path, typer.Option("--dir", metavar="DIR", rich_help_panel=SETTINGS, help="Where it all lives.")
    ] = Path("pgpull-demo"),
    rows: Annotated[
        int | None,
        typer.Option(min=1, metavar="N", rich_help_panel=SETTINGS, help="Messages on the pretended server."),
    ] = None,
    stop: Annotated[
        bool,
        typer.Option("--stop", rich_help_panel=SETTINGS, help="Stop the two servers, and remove their data."),
    ] = False,
) -> None:
    """Start two private Postgres servers, and pull between them.

    Everything lives in one folder, and outlives the command, so that you can look around and pull again; --stop
    ends both servers and removes what the demo made.

    Examples:
        pgpull demo
            Needs no Postgres, no root, no settings.
        pgpull demo --stop
            And it is gone again.

    Exit codes:
        0    both sides are equal in the end
        1    a bug in pgpull
        2    the programs of PostgreSQL are missing, or the folder cannot be used
        3    a server does not start
        5    the two sides differ: rows were changed by hand
        130  you pressed Ctrl-C
    """
    from pgpull import demo  # no other command has to wait for it

    count = rows or demo.DEFAULT_ROWS
    try:
        raise typer.Exit(demo.stop(folder, typer.echo) if stop else demo.run(folder, count, typer.echo))
    except PgpullError as error:
        raise typer.Exit(failed(Reporter(), error)) from None


@app.command("embedded", cls=Command)
def private_postgres(
    *,
    start: Annotated[bool, typer.Option("--start", rich_help_panel=SETTINGS, help="Start it.")] = False,
    stop: Annotated[
        bool, typer.Option("--stop", rich_help_panel=SETTINGS, help="Stop it; its data stay.")
    ] = False,
    env_file: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", rich_help_panel=SETTINGS, help="Settings (default: the next .env upwards)."
        ),
    ] = None,
) -> None:
    """Show the private Postgres that LOCAL_DB_URL=embedded brings; start it, or stop it.

    Whatever needs it starts it, and leaves it running, so that your app can use it, too: by the URL that is
    shown. To be rid of it, stop it and delete its folder.

    Examples:
        pgpull embedded
            Where is it, and by which URL can it be reached?
        pgpull embedded --stop
            Until it is needed again.

    Exit codes:
        0    it was shown, started or stopped
        1    a bug in pgpull
        2    local is no embedded Postgres, or its programs are missing
        3    it does not start, or does not stop
        130  you pressed Ctrl-C
    """
    try:
        if start and stop:
            raise UsageError("--start and --stop contradict each other", "leave out one of the two")
        folder = embedded_folder(env_file)
        if stop:
            embedded.stop(folder)
        printer = Printer()
        printer.labelled([*_standing(folder, start=start)])
        raise typer.Exit(UNWRITTEN if printer.failed else 0)
    except PgpullError as error:
        raise typer.Exit(failed(Reporter(), error)) from None


def _standing(folder: Path, *, start: bool) -> Iterator[tuple[str, str]]:
    """Say how the private Postgres of a folder stands."""
    yield "FOLDER", f"{folder}"
    if not start and not embedded.is_running(folder):
        yield "SERVER", "not running; whatever needs it starts it, and so does pgpull embedded --start"
        return
    url = embedded.start(folder)
    yield "SERVER", "running"
    yield "URL", url
    yield "PSQL", f"{binary('psql')} {shlex.quote(url)}"


@app.command("schema", cls=Command)
def print_schema() -> None:
    """Print the JSON Schema of what the commands print with --json.

    One schema describes every kind of object; its field kind says which one a command printed.

    Examples:
        pgpull schema
            What are the fields, and what do they mean?

    Exit codes:
        0  it was printed
    """
    typer.echo(files("pgpull").joinpath("schemas/output.json").read_text(encoding="utf-8"), nl=False)


def main() -> None:
    """Run the ``pgpull`` command."""
    app()
