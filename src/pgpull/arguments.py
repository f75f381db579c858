"""What people write, read into values: dates, time zones, uuids.

A date without a zone means another instant in every session, so each end of a window is resolved once, here,
in a named time zone, and printed as the instant it is.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import UTC, date, datetime, time, timedelta
from uuid import UUID
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pgpull.errors import UsageError


def zone(name: str) -> ZoneInfo:
    """Return the time zone of that IANA name.

    Raises:
        UsageError: there is none.
    """
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise UsageError(
            f"no time zone is called {name!r}", "use an IANA name, such as UTC or Europe/Berlin"
        ) from None


def several(words: str | Iterable[str]) -> tuple[str, ...]:
    """Take one word for several."""
    return (words,) if isinstance(words, str) else tuple(words)


def instant(value: str | date | datetime, timezone: str, what: str = "date") -> datetime:
    """Resolve a date, or a date and time, to an instant in UTC.

    Args:
        value: a date (its first moment is meant), a datetime, or either as ISO 8601 text.
        timezone: the IANA name that a value without an offset is read in.
        what: what the value is called, for the error message.

    Raises:
        UsageError: the text is no date, or lies outside the years 1 to 9999.
    """
    moment = _parse(value, what) if isinstance(value, str) else value
    if not isinstance(moment, datetime):
        moment = datetime.combine(moment, time())
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=zone(timezone))
    try:
        moment.astimezone(zone(timezone))  # as it will be told, and compared with columns without a zone
        return moment.astimezone(UTC)
    except OverflowError:
        raise _not_a_date(str(value), what) from None


def _parse(text: str, what: str) -> datetime:
    try:
        return datetime.fromisoformat(text.strip())
    except ValueError:
        raise _not_a_date(text, what) from None


def _not_a_date(text: str, what: str) -> UsageError:
    hint = "write a date or an ISO instant: 2025-01-31, 2025-01-31T18:30, 2025-01-31T18:30:00+02:00"
    return UsageError(f"{what} is not a date: {text!r}", hint)


def ordered(
    since: datetime | None, until: datetime | None, names: tuple[str, str] = ("since", "until")
) -> None:
    """Make sure that a window ends after it starts.

    Raises:
        UsageError: it does not, so no row can be in it.
    """
    if since is not None and until is not None and since >= until:
        raise UsageError(
            f"{names[0]} ({since.isoformat()}) is not before {names[1]} ({until.isoformat()})",
            f"{names[0]} is included, {names[1]} is not: a single day ends on the next one",
        )


def uuid_text(value: str | UUID, what: str) -> str:
    """Return a uuid in its usual spelling.

    Raises:
        UsageError: the text is no uuid.
    """
    try:
        return str(UUID(str(value)))
    except ValueError:
        hint = "a uuid looks like this: 6f9619ff-8b86-d011-b42d-00c04fc964ff"
        raise UsageError(f"{what} is not a uuid: {str(value)!r}", hint) from None


_UNITS = {"s": "seconds", "m": "minutes", "min": "minutes", "h": "hours", "d": "days", "w": "weeks"}
_DURATION = re.compile(r"(\d+(?:\.\d+)?)\s*(" + "|".join(sorted(_UNITS, key=len, reverse=True)) + ")")


def duration(value: str | timedelta, what: str) -> timedelta:
    """Read a stretch of time: ``90s``, ``15min``, ``1h``, ``2d``, ``1w``.

    Raises:
        UsageError: the text is none.
    """
    if isinstance(value, timedelta):
        return value
    match = _DURATION.fullmatch(value.strip())
    try:
        if match:
            return timedelta(**{_UNITS[match[2]]: float(match[1])})
    except OverflowError:
        pass
    raise UsageError(f"{what} is not a stretch of time: {value!r}", "write 90s, 15min, 1h, 2d or 1w")
