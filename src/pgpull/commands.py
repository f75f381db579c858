"""Commands out of functions from words to what is asked for: each gets the options that it has in common."""

import functools
import inspect
from collections.abc import Callable, Sequence
from dataclasses import fields
from typing import Any, Final, get_type_hints

import typer

from pgpull.checking import Inspection
from pgpull.diffing import Matter
from pgpull.dispatching import Asked, Retry, carried_out
from pgpull.errors import UsageError
from pgpull.manual import Command
from pgpull.options import LOOKING, PULLING, Options, ScopeOptions
from pgpull.packing import Export
from pgpull.surveying import Question


def pulls(command: Callable[..., Asked]) -> Callable[..., None]:
    """Make a command out of a function from words to what is asked: it gets the common options, and is run.

    Args:
        command: takes its own arguments, ``options``, and ``scope`` if rows can be chosen; its docstring is the
            command's help.
    """
    return _expanded(command, PULLING)


def looks(command: Callable[..., Question]) -> Callable[..., None]:
    """Make a command that only looks, as :func:`pulls` makes one: it gets fewer options."""
    return _expanded(command, LOOKING)


def compares(command: Callable[..., Matter]) -> Callable[..., None]:
    """Make a command that compares rows, as :func:`looks` makes one: it may pass over columns."""
    return _expanded(command, (*LOOKING, "without", "keep"))


def checks(command: Callable[..., Inspection]) -> Callable[..., None]:
    """Make a command that looks at what may be written, as :func:`looks` makes one."""
    return _expanded(command, (*LOOKING, "allow_target"))


def retries(command: Callable[..., Retry]) -> Callable[..., None]:
    """Make a command that tries rows again, as :func:`looks` makes one: it may lose connections."""
    return _expanded(command, ("env_file", "log_file", "version", "json", "quiet", "verbose", *_RETRYING))


_RETRYING = ("allow_target", "retries")


def exports(command: Callable[..., Export]) -> Callable[..., None]:
    """Make a command that reads the server and writes files, as :func:`looks` makes one."""
    return _expanded(command, (*LOOKING, "without", "mask_strict", "jobs", "max_rate", "pause_when", "retries"))


def _expanded(command: Callable[..., Asked], names: Sequence[str]) -> Callable[..., None]:
    """Have a command take an option for each field of what it takes as ``scope`` and ``options``.

    Args:
        command: takes ``options``, and may take a ``scope``.
        names: the fields of :class:`Options` that make sense for it.
    """
    declared = inspect.signature(command).parameters
    own = [p for p in declared.values() if p.name not in ("scope", "options")]
    scope = _fields_as_parameters(ScopeOptions) if "scope" in declared else []
    common = [p for p in _fields_as_parameters(Options) if p.name in names]

    @functools.wraps(command)
    def expanded(context: typer.Context, **given: Any) -> None:
        said = frozenset(name for name in names if _is_said(context, name))
        options = Options(**{p.name: given[p.name] for p in common}, given=said)

        def asked() -> Asked:
            for value in given.values():
                _check_text(value)
            words = {p.name: given[p.name] for p in own}
            if scope:
                words["scope"] = ScopeOptions(**{p.name: given[p.name] for p in scope})
            return command(**words, options=options)

        raise typer.Exit(carried_out(options, asked))

    first = inspect.Parameter("context", inspect.Parameter.POSITIONAL_OR_KEYWORD, annotation=typer.Context)
    arguments = [p for p in own if p.kind is not inspect.Parameter.KEYWORD_ONLY]
    parameters = [first, *arguments, *scope, *(p for p in own if p not in arguments), *common]
    expanded.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    expanded.__annotations__ = {p.name: p.annotation for p in parameters}
    return expanded


def _fields_as_parameters(group: type[ScopeOptions | Options]) -> list[inspect.Parameter]:
    hints = get_type_hints(group, include_extras=True)
    return [
        inspect.Parameter(f.name, inspect.Parameter.KEYWORD_ONLY, default=f.default, annotation=hints[f.name])
        for f in fields(group)
    ]


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


HELP: Final = {"help_option_names": ["-h", "--help"]}


def script(command: Callable[..., Asked]) -> typer.Typer:
    """Make a program of its own out of a function from words to what is asked; see :func:`pulls`."""
    return single(pulls(command))


def single(command: Callable[..., None]) -> typer.Typer:
    """Make a program of its own out of a command."""
    program = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    program.command(cls=Command, context_settings=HELP)(command)
    return program
