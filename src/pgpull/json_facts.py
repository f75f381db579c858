"""Reports, forecasts and the rest as ``--json`` prints them; schemas/output.json describes each. Pure.

Never a password. Never a row's value, but for the key of a row that differs and the examples of a dry run.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, date
from typing import Any

from pgpull.exporting import Exported
from pgpull.findings import Checkup
from pgpull.periods import Counts
from pgpull.plans import Comparison
from pgpull.results import Difference, Failure, Forecast, Outlook, Report, Summary
from pgpull.surveying import Survey


def report_json(report: Report) -> dict[str, Any]:
    """Return a report as a machine reads it."""
    plan, window = report.plan, report.plan.request.scope.window
    return {
        "table": str(plan.table),
        "tally": asdict(report.tally),
        "bytes": report.bytes,
        "seconds": round(report.seconds, 3),
        "snapshot": report.snapshot.astimezone(UTC).isoformat(),
        "passes": report.passes,
        "deleted": report.deleted,
        "kept": report.kept,
        "verified": report.verified,
        "comparison": comparison_json(plan.comparison),
        "strategy": plan.strategy,
        "jobs": plan.jobs,
        "reason": plan.reason,
        "wire": plan.wire,
        "key": plan.keys,
        "columns": plan.columns,
        "since": _iso(window.since if window else None),
        "until": _iso(window.until if window else None),
        "notes": plan.notes,
        "why": plan.why,
        "rejects": str(report.rejects) if report.rejects else None,
    }


def summary_json(summary: Summary) -> dict[str, Any]:
    """Return what a pull of several tables did as a machine reads it."""
    return {
        "tables": [report_json(report) for report in summary.reports],
        "failures": _failures_json(summary.failures),
        "tally": asdict(summary.tally),
        "bytes": summary.bytes,
        "seconds": round(summary.seconds, 3),
        "snapshot": summary.snapshot.astimezone(UTC).isoformat(),
        "passes": summary.passes,
    }


def forecast_json(forecast: Forecast) -> dict[str, Any]:
    """Return a forecast as a machine reads it."""
    plan = forecast.plan
    return {
        "dry_run": True,
        "table": str(plan.table),
        "tally": asdict(forecast.tally),
        "deleted": forecast.deleted,
        "kept": forecast.kept,
        "differing": dict(forecast.differing),
        "refusals": [asdict(refusal) for refusal in forecast.refusals],
        "move": asdict(forecast.estimate),
        "access": plan.access,
        "comparison": comparison_json(plan.comparison),
        "strategy": plan.strategy,
        "reason": plan.reason,
        "examples": forecast.examples,
        "notes": plan.notes,
        "bytes": forecast.bytes,
        "seconds": round(forecast.seconds, 3),
        "snapshot": forecast.snapshot.astimezone(UTC).isoformat(),
    }


def outlook_json(outlook: Outlook) -> dict[str, Any]:
    """Return what a pull of several tables would do as a machine reads it."""
    return {
        "dry_run": True,
        "tables": [forecast_json(forecast) for forecast in outlook.forecasts],
        "failures": _failures_json(outlook.failures),
        "tally": asdict(outlook.tally),
        "seconds": round(outlook.seconds, 3),
        "snapshot": outlook.snapshot.astimezone(UTC).isoformat(),
    }


def difference_json(difference: Difference) -> dict[str, Any]:
    """Return a difference as a machine reads it."""
    return {
        "table": str(difference.plan.table),
        "equal": difference.equal,
        "comparison": comparison_json(difference.comparison),
        "keys": [{"difference": state, "key": key} for state, key in difference.keys],
        "snapshot": difference.snapshot.astimezone(UTC).isoformat(),
        "seconds": round(difference.seconds, 3),
    }


def export_json(exported: Exported) -> dict[str, Any]:
    """Return what a machine wants to know of an archive that was written."""
    manifest = exported.manifest
    return {
        "archive": exported.archive,
        "format": manifest.format,
        "compression": manifest.compression,
        "snapshot": manifest.snapshot.isoformat(),
        "tables": [
            {
                "table": str(table.table),
                "rows": table.rows,
                "files": len(table.files),
                "bytes": sum(file.size for file in table.files),
            }
            for table in manifest.tables
        ],
        "rows": manifest.rows,
        "bytes": exported.bytes,
        "seconds": round(exported.seconds, 3),
        "passes": exported.passes,
    }


def comparison_json(found: Comparison | None) -> dict[str, Any] | None:
    """Return what a comparison found as a machine reads it; None where nothing had to be compared."""
    if found is None:
        return None
    return {**asdict(found), "same": found.same}


def _failures_json(failures: Sequence[Failure]) -> list[dict[str, Any]]:
    return [
        {
            "table": str(failure.table),
            "error": failure.error.message,
            "hint": failure.error.hint,
            "tally": asdict(failure.tally),
        }
        for failure in failures
    ]


def survey_json(survey: Survey) -> dict[str, Any]:
    """Return a survey as a machine reads it."""
    window, total = survey.question.request.scope.window, survey.total
    return {
        "table": str(survey.table),
        "column": survey.question.column,
        "timezone": survey.timezone,
        "since": _iso(window.since if window else None),
        "until": _iso(window.until if window else None),
        "snapshot": survey.snapshot.astimezone(UTC).isoformat(),
        "unit": survey.unit,
        "periods": [{"start": _iso(period.start), **_counts(period.counts)} for period in survey.periods],
        "undated": _counts(survey.undated),
        "infinite": _counts(survey.infinite),
        "total": _counts(total),
        "first_missing": _iso(survey.first_missing),
        "newest": {"source": _iso(survey.newest_source), "target": _iso(survey.newest_target)},
    }


def checkup_json(checkup: Checkup) -> dict[str, object]:
    """Return what was found for a machine."""
    return {
        "findings": [asdict(finding) for finding in checkup.findings],
        "problems": len(checkup.problems),
        "notes": len(checkup.notes),
    }


def _counts(counts: Counts) -> dict[str, int]:
    return {
        "source": counts.source,
        "target": counts.target,
        "missing": counts.missing,
        "surplus": counts.surplus,
    }


def _iso(moment: date | None) -> str | None:
    return moment.isoformat() if moment else None
