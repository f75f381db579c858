"""How a pull is called: the functions of the package, and what the commands call."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing, nullcontext
from pathlib import Path
from typing import Final, Literal, TypedDict, Unpack

from sqlalchemy.engine import URL

from pgpull.archives import Compression, Format
from pgpull.arguments import several
from pgpull.endpoints import Endpoint, endpoint_of
from pgpull.exporting import Exported, export_to
from pgpull.guarding import guard
from pgpull.listening import Listener
from pgpull.manners import Manners
from pgpull.model import Job, Wanted
from pgpull.origins import Origin, paced
from pgpull.packing import Export
from pgpull.patience import DEFAULT_RETRIES, Patience
from pgpull.places import place_of
from pgpull.pulling import Bench
from pgpull.reading import whole
from pgpull.rejects_file import RejectsFile
from pgpull.requesting import (
    ANY,
    RowWords,
    Words,
    check_words,
    default_rejects,
    make_job,
    said_job,
    said_request,
)
from pgpull.results import Report, Summary
from pgpull.sessions import open_source, open_target
from pgpull.shapes import TablePattern
from pgpull.stretching import walk_in_stretches
from pgpull.substitutes import Archive
from pgpull.walking import walk
from pgpull.workers import default_jobs

EVERYTHING: Final = ("*.*",)
"""The pattern of an archive's tables, where none is named."""


def pull(
    table: str,
    *,
    source: str | URL | Endpoint,
    target: str | URL | Endpoint,
    create_missing: bool = False,
    rejects: str | Path | None = None,
    allow_target: str | Sequence[str] = (),
    retries: int = DEFAULT_RETRIES,
    jobs: int | None = None,
    max_rate: str | Sequence[str] = (),
    pause_when: str | Sequence[str] = (),
    snapshot: bool = True,
    listener: Listener | None = None,
    **words: Unpack[Words],
) -> Report:
    """Bring the rows of a table, or those in scope, from the source to the target.

    Args:
        table: ``schema.table``, the same on both sides.
        source: URL of the server's database, only ever read.
        target: URL of the local database.
        create_missing: make the table if local lacks it, with all that it needs.
        rejects: file for refused rows, JSON lines, mode 0600, made if there is one;
            ``SCHEMA.TABLE.rejects.jsonl`` in the working directory unless named.
        allow_target: hosts besides this machine that may be written.
        retries: how often a lost connection is opened again, with longer and longer pauses.
        jobs: how many workers move the rows of a large table, each with a connection to both sides;
            2 to 4 by the machine, unless said.
        max_rate: how much is read from the source in a second at most: ``"20MB/s"``, ``"5000rows/s"``, or both.
        pause_when: when to pause: ``"lag>30s"`` while a replica lags behind, ``"active>40"`` while so many
            sessions of others are at work on the source; or both.
        snapshot: whether all is read at one instant of the source; else one stretch of keys after the other,
            each in a short transaction.
        listener: hears how it goes on.
        words: which rows, and how they are written:

            - ``since``: first instant of the window, included; a date, a datetime, or ISO 8601 text.
            - ``until``: end of the window, excluded.
            - ``window``: the column that the window stands on; ``created_at`` unless named.
            - ``equals``: columns and the values that rows in scope have there.
            - ``where``: an SQL condition on the source's rows.
            - ``timezone``: the IANA zone that dates without an offset are read in; UTC unless named.
            - ``new``: only from the newest local row on, less the ``overlap`` (``"1h"``).
            - ``on_conflict``: ``skip`` or ``update`` a row whose key is in the target already.
            - ``mirror``: also delete local rows in scope that the source no longer has, but not more than
              ``max_delete`` (``"10%"``).
            - ``replace``: delete the scope and load it anew, in one transaction.
            - ``verify``: compare both sides once more at the end.
            - ``row_versions``: whether transaction numbers may be remembered to save time; they are.
            - ``batch_size``: rows that are committed together, at most.
            - ``without``: columns that stay out; ``keep``: those that an update leaves as they are here.
            - ``mask``: what the server puts in the place of values, in the words of ``pgpull.toml``:
              ``{"schema.table": {"column": "scrub"}, "*email*": "email"}``; ``mask_strict`` stops at what looks
              personal and is not ruled on. The key is the source's own: ``Endpoint.mask_key``.
            - ``max_errors``: stop when more rows than this fail: a number, or a percentage such as ``"2%"``.

    Returns:
        What was done. ``report.tally`` adds up: fetched = inserted + updated + skipped + failed.

    Raises:
        UsageError: an argument makes no sense, or there is none of that name.
        Refused: a connection, a guard or the plan stood in the way; nothing was written.
        Stopped: the run ended before its end; whole batches are in.
        Unequal: it was to be verified, and the two sides differ.
    """
    wanted = Wanted(TablePattern.parse_plain(table), said_request(table, **words))
    job = Job((wanted,), create_missing=create_missing)
    way = Way(
        rejects=rejects,
        allow_target=allow_target,
        retries=retries,
        jobs=jobs,
        max_rate=max_rate,
        pause_when=pause_when,
        snapshot=snapshot,
        listener=listener,
    )
    [report] = _run(job, source, target, way).reports
    return report


class Way(TypedDict, total=False):
    """How a pull goes on, whatever it pulls; see :func:`pull`."""

    rejects: str | Path | None
    allow_target: str | Sequence[str]
    retries: int
    jobs: int | None
    max_rate: str | Sequence[str]
    pause_when: str | Sequence[str]
    snapshot: bool
    listener: Listener | None


def pull_tables(
    *tables: str,
    source: str | URL | Endpoint,
    target: str | URL | Endpoint,
    exclude: Sequence[str] = (),
    with_parents: bool = False,
    with_children: Sequence[str] = (),
    create_missing: bool = False,
    way: Way | None = None,
    **words: Unpack[Words],
) -> Summary:
    """Bring the rows of several tables, all at one instant of the source, parents before children.

    Args:
        tables: names or patterns: ``"askwealth.document"``, ``"askwealth.*"``.
        source: URL of the server's database, only ever read.
        target: URL of the local database.
        exclude: names or patterns of tables that stay out of it.
        with_parents: bring the rows, too, that pulled rows refer to and that local lacks.
        with_children: tables whose rows come along that refer to pulled rows.
        create_missing: make tables that local lacks, with all that they need.
        way: how it goes on: ``rejects``, ``allow_target``, ``retries``, ``jobs``, ``max_rate``, ``pause_when``,
            ``snapshot``, ``listener``, as :func:`pull` has them; refused rows of all tables go to one file,
            ``pgpull.rejects.jsonl`` unless named.
        words: which rows of each table, and how they are written, as :func:`pull` has them.

    Returns:
        What was done: a report for each table that went through, a failure for each that did not.

    Raises:
        UsageError: an argument makes no sense.
        Refused: a connection or a guard stood in the way; nothing was written.
        Stopped: a connection was lost for good; whole batches are in.
    """
    check_words(words, Words, Way)
    job = said_job(
        tables,
        words,
        exclude=exclude,
        with_parents=with_parents,
        with_children=with_children,
        create_missing=create_missing,
    )
    return _run(job, source, target, _checked(way))


def load(
    archive: str | Path,
    *tables: str,
    target: str | URL | Endpoint,
    exclude: Sequence[str] = (),
    with_parents: bool = False,
    with_children: Sequence[str] = (),
    create_missing: bool = False,
    way: Way | None = None,
    **words: Unpack[Words],
) -> Summary:
    """Bring the rows of an archive, as :func:`pull_tables` brings those of a server.

    Args:
        archive: its folder, or the URL of one.
        tables: names or patterns; none for all that it has.
        target: URL of the local database.
        exclude: names or patterns of tables that stay out of it.
        with_parents: bring the rows, too, that loaded rows refer to and that local lacks.
        with_children: tables whose rows come along that refer to loaded rows.
        create_missing: make tables that local lacks, with their columns and their key.
        way: how it goes on, as :func:`pull_tables` takes it, but for what concerns a server.
        words: which rows of each table, and how they are written, as :func:`pull` has them.

    Returns:
        What was done: a report for each table that went through, a failure for each that did not.

    Raises:
        UsageError: an argument makes no sense.
        Refused: the archive is not whole, or a guard stood in the way; nothing was written.
        Stopped: the run ended before its end; whole batches are in.
    """
    check_words(words, Words, Way)
    job = said_job(
        tables or EVERYTHING,
        words,
        exclude=exclude,
        with_parents=with_parents,
        with_children=with_children,
        create_missing=create_missing,
    )
    with whole(archive) as found:
        return _run(job, found, target, _checked(way))


def export(
    *tables: str,
    source: str | URL | Endpoint,
    to: str | Path,
    format: Format = "csv",
    compress: Compression | None = None,
    by: Literal["month"] | None = None,
    overwrite: bool = False,
    exclude: Sequence[str] = (),
    way: Way | None = None,
    **words: Unpack[RowWords],
) -> Exported:
    """Write the rows of tables, or those in scope, to an archive: files with a manifest.

    Args:
        tables: names or patterns: ``"askwealth.document"``, ``"askwealth.*"``.
        source: URL of the server's database, only ever read.
        to: a folder, or a URL that fsspec knows: ``"s3://bucket/folder"``.
        format: ``"csv"``, as COPY writes it, or ``"parquet"``.
        compress: ``"gzip"`` or ``"zstd"``; Parquet is compressed by zstd unless named.
        by: ``"month"`` gives each month of the window's column a folder of its own.
        overwrite: whether an archive that stands there may go.
        exclude: names or patterns of tables that stay out of it.
        way: how it goes on: ``retries``, ``jobs``, ``max_rate``, ``pause_when``, ``listener``, as :func:`pull`
            has them.
        words: which rows of each table, and ``without`` which columns, as :func:`pull` has them.

    Returns:
        What was written.

    Raises:
        UsageError: an argument makes no sense, or a library is not installed.
        Refused: there is no connection, or something cannot be read or written.
        Stopped: the source went away, or gave up. No archive was written.
    """
    check_words(words, RowWords, Way)
    if by is not None:
        words["months"] = True
    asked = Export(
        job=make_job(tables, said_request(ANY, **words), exclude=exclude),
        to=place_of(to),
        format=format,
        compression=compress,
        by_month=by is not None,
        overwrite=overwrite,
    )
    way = _checked(way)
    retries, hears = way.get("retries", DEFAULT_RETRIES), way.get("listener")
    return run_export(
        asked, endpoint_of(source, "source"), retries=retries, manners=_manners(way), listener=hears
    )


def check_sides(source: Endpoint, target: Endpoint, allowed: Sequence[str] = ()) -> None:
    """Make sure that local may be written and is not the server, before rows go by way of files.

    Raises:
        Refused: it may not, or is, or there is no connection.
    """
    with closing(open_target(target)) as local, open_source(source) as server:
        guard(server, local, allowed)


def run_export(
    asked: Export,
    source: Endpoint,
    *,
    retries: int = DEFAULT_RETRIES,
    manners: Manners = Manners(),  # noqa: B008 - a frozen value
    listener: Listener | None = None,
) -> Exported:
    """Write an archive; see :func:`pgpull.export`."""
    hears = listener or Listener()
    with paced(source, manners, hears.told) as pace:
        jobs = manners.jobs or default_jobs()
        return export_to(asked, source, jobs, pace, Patience(retries, hears.noticed), hears)


def _checked(way: Way | None) -> Way:
    check_words(way or {}, Way)
    return way or {}


def _run(job: Job, source: str | URL | Origin, target: str | URL | Endpoint, way: Way) -> Summary:
    rejects = way.get("rejects")
    return run(
        job,
        source if isinstance(source, Archive) else endpoint_of(source, "source"),
        endpoint_of(target, "target"),
        rejects=Path(rejects) if rejects else default_rejects(job),
        allowed=several(way.get("allow_target", ())),
        retries=way.get("retries", DEFAULT_RETRIES),
        manners=_manners(way),
        listener=way.get("listener"),
    )


def _manners(way: Way) -> Manners:
    return Manners.of(
        jobs=way.get("jobs"),
        max_rate=way.get("max_rate", ()),
        pause_when=way.get("pause_when", ()),
        snapshot=way.get("snapshot", True),
    )


def run(
    job: Job,
    source: Origin,
    target: Endpoint,
    *,
    rejects: Path | RejectsFile,
    allowed: Sequence[str] = (),
    retries: int = DEFAULT_RETRIES,
    manners: Manners = Manners(),  # noqa: B008 - a frozen value
    listener: Listener | None = None,
) -> Summary:
    """Do a job; see :func:`pgpull.pull` for the arguments, :func:`pgpull.pull_tables` for all else.

    A job that is a single table raises what goes wrong with it.
    """
    hears = listener or Listener()
    with (
        RejectsFile(rejects) if isinstance(rejects, Path) else nullcontext(rejects) as file,
        closing(open_target(target)) as local,
        paced(source, manners, hears.told) as pace,
    ):
        patience, jobs = Patience(retries, hears.noticed), manners.jobs or default_jobs()
        bench = Bench(local, file, hears, patience, jobs, pace)
        if isinstance(source, Archive) or manners.snapshot:
            return walk(job, source, bench, allowed)
        return walk_in_stretches(job, source, bench, allowed)
