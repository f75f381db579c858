"""Typer's commands with pages of help of our own, and with errors as everywhere else.

What Click finds wrong with the words, such as an unknown option, is told as a fact and a hint, and as JSON
where JSON was asked for. Click's own classes are named nowhere: Typer brings them from different places.
"""

from __future__ import annotations

import difflib
import sys
from collections.abc import Iterable, Sequence
from enum import Enum
from typing import Any, Final

from rich.console import Console
from typer.core import TyperCommand, TyperGroup

from pgpull import outlets
from pgpull.errors import UsageError
from pgpull.pages import HELP, Entry, Page, prose_of, show
from pgpull.reporting import Reporter

_FOR_HELP: Final = {
    "--help": "Show this page.",
    "--install-completion": "Let TAB complete in this shell.",
    "--show-completion": "Print what --install-completion would install.",
}
"""Options that are not ours, in our words."""


class Command(TyperCommand):
    """A command."""

    def main(self, args: Sequence[str] | None = None, *more: Any, **how: Any) -> Any:
        """Run the command, as Click does; see :func:`_run`."""
        return _run(super().main, args, *more, **how)

    def collect_usage_pieces(self, ctx: Any) -> list[str]:
        """Return what follows the command's name."""
        return ["[OPTIONS]", *map(_name, _arguments(self.get_params(ctx)))]

    def format_help(self, ctx: Any, formatter: Any) -> None:  # noqa: ARG002
        """Print the page of help."""
        show(_page(self, ctx), Console(highlight=False))


class Group(TyperGroup):
    """The command that has the others."""

    def main(self, args: Sequence[str] | None = None, *more: Any, **how: Any) -> Any:
        """Run one of the commands, as Click does; see :func:`_run`."""
        return _run(super().main, args, *more, **how)

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Find the command that is named.

        Raises:
            UsageError: there is none of that name.
        """
        name, known = args[0], self.list_commands(ctx)
        if not (name in known or name.startswith("-") or ctx.resilient_parsing):
            close = difflib.get_close_matches(name, known, n=1)
            hint = f"did you mean {ctx.command_path} {close[0]}?" if close else _see(ctx)
            raise UsageError(f"No such command {name!r}", hint)
        return super().resolve_command(ctx, args)

    def collect_usage_pieces(self, ctx: Any) -> list[str]:  # noqa: ARG002
        """Return what follows the program's name."""
        return ["COMMAND", "[OPTIONS]", "..."]

    def format_help(self, ctx: Any, formatter: Any) -> None:  # noqa: ARG002
        """Print the page of help."""
        commands = [self.get_command(ctx, name) for name in self.list_commands(ctx)]
        entries = [
            Entry(command.name or "", prose_of(command.help or "").summary)
            for command in commands
            if command and not command.hidden
        ]
        show(_page(self, ctx, entries), Console(highlight=False))


def _run(main: Any, args: Sequence[str] | None, *more: Any, **how: Any) -> Any:
    """Run Click's ``main``, which ends the process unless ``standalone_mode`` is false, and tell its errors."""
    if not how.get("standalone_mode", True):
        return main(args, *more, **how)
    outlets.open_closed()
    words = sys.argv[1:] if args is None else args
    try:
        code = main(args, *more, **{**how, "standalone_mode": False})
        sys.stdout.flush()
    except OSError as error:  # help and the like; what a command fails at, it tells itself
        code = _unwritten(error)
    except SystemExit as end:  # which is Typer's own where nobody reads on
        code = _unwritten(end.__context__) if isinstance(end.__context__, BrokenPipeError) else end.code
    except UsageError as error:
        code = _told(error, words)
    except Exception as error:
        code = _told_of_click(error, words)
    sys.exit(code if isinstance(code, int) else 0)


def _unwritten(error: OSError) -> int:
    """Tell that stdout takes nothing more, and return the exit code; a reader who has left is no error."""
    if error.filename is not None:  # it is a file's, not stdout's
        raise error
    outlets.lead_nowhere(1)
    if isinstance(error, BrokenPipeError):
        return outlets.CLOSED
    Reporter().failed(UsageError(f"stdout cannot be written: {error.strerror}"))
    return 1


def _told(error: UsageError, words: Sequence[str]) -> int:
    """Tell an error, and return its exit code."""
    reporter = Reporter(machine="--json" in words)
    reporter.only_looks()
    reporter.failed(error)
    return error.exit_code


def _told_of_click(error: Exception, words: Sequence[str]) -> int:
    """Tell an error of Click's, and return its exit code; any other is raised again."""
    kind = type(error).__name__
    if kind == "NoArgsIsHelpError":  # its page has been shown
        return UsageError.exit_code
    if kind == "Abort":  # what it makes of Ctrl-C
        Reporter(machine="--json" in words).interrupted()
        return 130
    if not hasattr(error, "format_message"):
        raise error
    context = getattr(error, "ctx", None)
    return _told(UsageError(_fact(error), _see(context) if context else ""), words)


def _see(context: Any) -> str:
    return f"see: {context.command_path} --help"


def _fact(error: Any) -> str:
    """Return what Click says, in one line; newer Typers say of values what pydantic says to programmers."""
    fact = " ".join(error.format_message().split()).rstrip(".").replace(": Value error, ", ": ", 1)
    cause = error.__cause__
    if "Input should be" in fact and hasattr(cause, "errors"):
        value = cause.errors()[0]["input"]
        fact = fact.replace("Input should be", f"{str(value)!r} is not", 1).partition(", unable to")[0]
    return fact


def _page(command: Any, context: Any, commands: Iterable[Entry] = ()) -> Page:
    shown = [each for each in command.get_params(context) if not getattr(each, "hidden", False)]
    options = [each for each in shown if each.param_type_name == "option"]
    return Page(
        usage=" ".join([context.command_path, *command.collect_usage_pieces(context)]),
        prose=prose_of(command.help or ""),
        commands=tuple(commands),
        arguments=tuple(Entry(_name(each), each.help or "") for each in _arguments(shown)),
        options=tuple(map(_entry, options)),
    )


def _arguments(parameters: Iterable[Any]) -> list[Any]:
    return [each for each in parameters if each.param_type_name == "argument"]


def _name(argument: Any) -> str:
    return str(argument.metavar or argument.name.upper())


def _entry(option: Any) -> Entry:
    longest = max(option.opts, key=len)
    for_help = _FOR_HELP.get(longest)
    return Entry(
        name=_spelled(option),
        meaning=for_help or option.help or "",
        panel=HELP if for_help else option.rich_help_panel or "Options",
        default=_default(option),
    )


def _spelled(option: Any) -> str:
    """Write an option as it is typed: the short word first, and what stands after it."""
    words = ", ".join(sorted(option.opts, key=len))
    if option.secondary_opts:
        words += f", {', '.join(option.secondary_opts)}"
    if option.is_flag:
        return words
    return f"{words} {option.metavar or option.name.upper()}"


def _default(option: Any) -> str:
    value = option.default
    if option.is_flag or not option.show_default or value in (None, "", [], ()) or callable(value):
        return ""
    return str(value.value if isinstance(value, Enum) else value)
