"""Text to request, report to text, error to exit code. The library's first customer."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated

import typer

from pgpull.checking import Inspection
from pgpull.commands import Asked, Options, Version, checks, compares, failed, looks, pulls
from pgpull.diffing import Matter
from pgpull.errors import PgpullError, UsageError
from pgpull.model import Job
from pgpull.periods import Unit
from pgpull.recipes import Recipes
from pgpull.reporting import Reporter
from pgpull.settings import recipes
from pgpull.surveying import Question, make_question

_HELP = {"help_option_names": ["-h", "--help"]}

app = typer.Typer(
    help="Bring rows of a production Postgres into your own Postgres: exact, fast, safe, re-runnable.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings=_HELP,
)


# --- the commands ----------------------------------------------------------------------------------------


@app.callback()
def pgpull(version: Version = False) -> None:
    """Bring rows of a production Postgres into your own Postgres."""


def _equal(text: str) -> tuple[str, str]:
    column, sign, value = text.partition("=")
    if not (column and sign):
        raise UsageError(f"--equals is not COLUMN=VALUE: {text!r}", "write --equals role=user")
    return column, value


def _equals(texts: list[str] | None) -> dict[str, str]:
    pairs = dict(map(_equal, texts or ()))
    if len(pairs) < len(texts or ()):
        raise UsageError("--equals names a column twice", "use --where for one of several values")
    return pairs


Table = Annotated[str, typer.Argument(metavar="SCHEMA.TABLE", help="The same name on both sides.")]
Since = Annotated[str | None, typer.Option(metavar="DATE", help="Start of the window, included.")]
Until = Annotated[str | None, typer.Option(metavar="DATE", help="End of the window, excluded.")]
WindowColumn = Annotated[
    str | None, typer.Option(metavar="COLUMN", help="What the window stands on (default: created_at).")
]
Equals = Annotated[
    list[str] | None, typer.Option(metavar="COLUMN=VALUE", help="Only rows with this value. Repeatable.")
]
Where = Annotated[str | None, typer.Option(metavar="SQL", help="Only rows that meet a condition.")]
_WINDOW_NAMES = ("--since", "--until")


Tables = Annotated[
    list[str],
    typer.Argument(metavar="SCHEMA.TABLE...", help="Named alike on both sides; askwealth.* means several."),
]
Exclude = Annotated[
    list[str] | None, typer.Option(metavar="SCHEMA.TABLE", help="Leave these tables out. Repeatable.")
]


@app.command()
@pulls
def pull(
    tables: Tables,
    exclude: Exclude = None,
    since: Since = None,
    until: Until = None,
    window: WindowColumn = None,
    equals: Equals = None,
    where: Where = None,
    *,
    options: Options,
) -> Job:
    """Bring the rows of tables, or those in scope, from the server into local."""
    return options.job(
        tables,
        exclude or (),
        since=since,
        until=until,
        window=window,
        equals=_equals(equals),
        where=where,
        window_names=_WINDOW_NAMES,
    )


@app.command("run")
@pulls
def run_recipe(
    recipe: Annotated[
        str | None, typer.Argument(help="A recipe of pgpull.toml; without one, they are listed.")
    ] = None,
    values: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="NAME=VALUE", help="Give a parameter its value. Repeatable."),
    ] = None,
    *,
    options: Options,
) -> Job | Recipes:
    """Pull what a recipe of pgpull.toml says."""
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


@app.command()
@looks
def status(
    table: Table,
    since: Since = None,
    until: Until = None,
    window: Annotated[
        str | None, typer.Option(metavar="COLUMN", help="Date column to count by (default: created_at).")
    ] = None,
    equals: Equals = None,
    where: Where = None,
    by: Annotated[Unit | None, typer.Option(help="Length of a period (default: what fits).")] = None,
    *,
    options: Options,
) -> Question:
    """Show how many rows the server and local hold, by time. Nothing is written."""
    scope = options.scope(table, since=since, until=until, window=window, equals=_equals(equals), where=where)
    return make_question(table, by=by, window_names=_WINDOW_NAMES, **scope)


@app.command()
@compares
def diff(
    tables: Annotated[list[str], typer.Argument(metavar="SCHEMA.TABLE...", help="Named alike on both sides.")],
    since: Since = None,
    until: Until = None,
    window: WindowColumn = None,
    equals: Equals = None,
    where: Where = None,
    keys: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write every key that differs here, as JSON lines.")
    ] = None,
    *,
    options: Options,
) -> Matter:
    """Compare tables, or their rows in scope. Exit code 0 if they are equal, 5 if not; nothing is written."""
    job = options.job(
        tables,
        since=since,
        until=until,
        window=window,
        equals=_equals(equals),
        where=where,
        window_names=_WINDOW_NAMES,
    )
    return Matter(job, keys)


@app.command()
@checks
def check(
    tables: Annotated[
        list[str] | None,
        typer.Argument(metavar="[SCHEMA.TABLE...]", help="Names or patterns; none for the connections alone."),
    ] = None,
    since: Since = None,
    until: Until = None,
    window: Annotated[
        str | None, typer.Option(metavar="COLUMN", help="What windows stand on: has it an index on the server?")
    ] = None,
    equals: Equals = None,
    where: Where = None,
    *,
    options: Options,
) -> Inspection:
    """Say whether a pull could run, and what to know first. Exit code 3 if it could not; nothing is written."""
    if not tables:
        return Inspection()
    idle = window if since is None and until is None else None
    job = options.job(
        tables,
        since=since,
        until=until,
        window=None if idle else window,
        equals=_equals(equals),
        where=where,
        window_names=_WINDOW_NAMES,
    )
    return Inspection(job, idle)


@app.command("demo")
def run_demo(
    folder: Annotated[Path, typer.Option("--dir", metavar="DIR", help="Where it all lives.")] = Path(
        "pgpull-demo"
    ),
    rows: Annotated[int | None, typer.Option(min=1, help="Messages on the pretended server.")] = None,
    stop: Annotated[bool, typer.Option("--stop", help="Stop the two servers, and remove their data.")] = False,
) -> None:
    """Start two private Postgres servers, and pull between them."""
    from pgpull import demo  # no other command has to wait for it

    count = rows or demo.DEFAULT_ROWS
    try:
        raise typer.Exit(demo.stop(folder, typer.echo) if stop else demo.run(folder, count, typer.echo))
    except PgpullError as error:
        raise typer.Exit(failed(Reporter(), error)) from None


def script(command: Callable[..., Asked]) -> typer.Typer:
    """Make a program of its own out of a function from words to what is asked; see :func:`pulls`."""
    return single(pulls(command))


def single(command: Callable[..., None]) -> typer.Typer:
    """Make a program of its own out of a command."""
    program = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    program.command(context_settings=_HELP)(command)
    return program


def main() -> None:
    """Run the ``pgpull`` command."""
    app()
