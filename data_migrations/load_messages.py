#!/usr/bin/env python
"""Load askwealth.message from the server into the local database; README.md beside this file tells how."""

from datetime import date, datetime
from typing import Annotated
from uuid import UUID

from pgpull.scripts import (
    ByFiles,
    Options,
    Question,
    Report,
    Request,
    UsageError,
    pull,
    recipes,
    rows,
    script,
    settings,
    uuid_text,
)

TABLE = "askwealth.message"


def load_messages(
    from_date: str | date | datetime | None = None,
    to_date: str | date | datetime | None = None,
    thread_id: str | UUID | None = None,
) -> Report:
    """Load the messages from ``from_date`` (included) to ``to_date`` (excluded), of one thread or of all."""
    sides = settings()
    thread = {"thread_id": uuid_text(thread_id, "thread_id")} if thread_id is not None else None
    return pull(
        TABLE,
        source=sides.source,
        target=sides.target,
        since=from_date,
        until=to_date,
        equals=thread,
        mask=recipes().masks,
    )


@script
def main(
    from_date: Annotated[str | None, rows(metavar="DATE", help="First day or instant, included.")] = None,
    to_date: Annotated[str | None, rows(metavar="DATE", help="Before this day or instant.")] = None,
    thread_id: Annotated[str | None, rows(metavar="UUID", help="Only messages of this thread.")] = None,
    status: Annotated[bool, rows("--status", help="Only show what is here and on the server.")] = False,
    csv: Annotated[
        str | None, rows(metavar="DIR", help="By way of files: export to DIR, and load from it.")
    ] = None,
    *,
    options: Options,
) -> Request | Question | ByFiles:
    """Load askwealth.message from the server into the local database.

    Examples:
        python data_migrations/load_messages.py --from-date 2025-01-01 --to-date 2025-09-15
            The messages of a period.
        python data_migrations/load_messages.py --new
            Only what came since the last time.
        python data_migrations/load_messages.py --from-date 2025-01-01 --csv messages-2025
            By way of files, which others can load as well.
    """
    thread = {"thread_id": uuid_text(thread_id, "--thread-id")} if thread_id is not None else None
    names = ("--from-date", "--to-date")
    request = options.request(TABLE, since=from_date, until=to_date, equals=thread, window_names=names)
    if csv is not None:
        if status:
            raise UsageError("--status only looks, and --csv moves rows", "leave out one of the two")
        return ByFiles(csv, request)
    return Question(request) if status else request


if __name__ == "__main__":
    main()
