"""What a script for tables of one's own is made of; ``data_migrations/load_messages.py`` shows how."""

from pgpull.starting import starting

with starting():
    from pgpull.arguments import uuid_text
    from pgpull.calling import pull
    from pgpull.cli import pull as pull_any_table
    from pgpull.commands import script, single
    from pgpull.config_file import recipes
    from pgpull.dispatching import ByFiles
    from pgpull.errors import UsageError
    from pgpull.model import Request
    from pgpull.options import Options, rows
    from pgpull.results import Report
    from pgpull.settings import load as settings
    from pgpull.surveying import Question

__all__ = [
    "ByFiles",
    "Options",
    "Question",
    "Report",
    "Request",
    "UsageError",
    "pull",
    "pull_any_table",
    "recipes",
    "rows",
    "script",
    "settings",
    "single",
    "uuid_text",
]
