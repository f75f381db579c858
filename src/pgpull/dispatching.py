"""What is asked for, who does it, how it is told, and with which exit code it ends."""

import gc
import logging
import signal
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from pgpull.calling import check_sides, run, run_export
from pgpull.checking import Inspection, checkup_of
from pgpull.config_file import recipes
from pgpull.diffing import Matter, differences
from pgpull.endpoints import Endpoint
from pgpull.errors import PgpullError, UsageError
from pgpull.model import Job, OnConflict, Request, Scope
from pgpull.options import Options
from pgpull.origins import Origin
from pgpull.outlets import CLOSED, OutputClosed
from pgpull.packing import Export
from pgpull.places import place_of
from pgpull.reaching import kept_open
from pgpull.reading import whole
from pgpull.recipes import Recipes
from pgpull.rehearsing import rehearse, rehearse_job
from pgpull.rejects_file import RejectsFile
from pgpull.reporting import Reporter
from pgpull.requesting import default_rejects
from pgpull.retrying import retry
from pgpull.settings import load, load_source, load_target
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


def carried_out(options: Options, asked: Callable[[], Asked]) -> int:
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
            _warn_if_bare(reporter, asked, settings.source)
            return _move(reporter, options, asked, settings.source, settings.target)


def _warn_if_bare(reporter: Reporter, job: Job, source: Endpoint) -> None:
    """Say so where somebody who has a key to mask with has no masks: the file with them may be elsewhere."""
    if source.mask_key and not any(wanted.request.masks for wanted in job.wanted):
        reporter.noticed(
            "PGPULL_MASK_KEY is set, and no mask is: values come as they are."
            " pgpull.toml is looked for from here upwards; --config FILE names one"
        )


def _move(reporter: Reporter, options: Options, job: Job, source: Origin, target: Endpoint) -> int:
    go = _foretell if options.dry_run else _pull
    return go(reporter, options, job, source, target)


def _foretell(reporter: Reporter, options: Options, job: Job, source: Origin, target: Endpoint) -> int:
    reporter.only_looks()
    if options.no_snapshot:
        raise UsageError(
            "--no-snapshot reads in short transactions, and --dry-run looks at one instant",
            "leave out one of the two; --max-rate and --pause-when hold a dry run back as well",
        )
    allowed, manners = options.allow_target or (), options.manners
    if job.single is not None:
        forecast = rehearse(
            job,
            source,
            target,
            allowed=allowed,
            examples=options.show,
            manners=manners,
            listener=reporter,
        )
        reporter.foretold(forecast)
        return forecast.exit_code
    if "show" in options.given:
        reporter.noticed("--show has no effect here: rows are shown where one table is named")
    outlook = rehearse_job(job, source, target, allowed=allowed, manners=manners, listener=reporter)
    reporter.foresaw(outlook)
    return outlook.exit_code


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
        rejects=_rejects(options, job),
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


def _rejects(options: Options, job: Job) -> Path:
    return options.rejects or default_rejects(job)


def _pull_by_files(reporter: Reporter, options: Options, asked: ByFiles) -> int:
    """Export the rows in scope, and load them all from there: an archive of them needs no scope any more."""
    job = options.job_of(asked.request)
    _check_files(asked.request, job, options)
    settings = load(options.env_file)
    _warn_if_bare(reporter, job, settings.source)
    if options.dry_run:
        return _foretell(reporter, options, job, settings.source, settings.target)
    export = Export(job, place_of(asked.archive), overwrite=True)
    # a place for rejects is made sure of before rows are read for an hour
    with RejectsFile(_rejects(options, job)), kept_open(settings.source):
        check_sides(settings.source, settings.target, options.allow_target or ())
        exported = run_export(
            export, settings.source, retries=options.retries, manners=options.manners, listener=reporter
        )
    reporter.told(f"{exported.manifest.rows:,} rows are in {exported.archive}")
    every = tuple(replace(wanted, request=_all_of(wanted.request)) for wanted in job.wanted)
    here = replace(options, pause_when=None)
    with whole(asked.archive) as archive:
        return _pull(reporter, here, replace(job, wanted=every), archive, settings.target)


def _all_of(request: Request) -> Request:
    """Ask for all that an archive holds; the condition under which rows go that are here is said again."""
    return replace(request, scope=Scope(where=request.scope.where if request.deletes else None))


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
    _warn_if_bare(reporter, asked.job, source)
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
    files = (("--env-file", options.env_file), ("--config", options.config))
    said = [word for option, file in files if file for word in (option, str(file))]
    ruled = recipes(options.config) != Recipes()
    reporter.surveyed(survey(question, settings.source, settings.target), said, ruled=ruled)
    return 0


def failed(reporter: Reporter, error: PgpullError) -> int:
    """Report an error, and return its exit code."""
    reporter.failed(error)
    return error.exit_code
