"""Personal data found in free text, replaced in place: expressions for texts and for JSON documents.

What is looked for is one regular expression of bounded repetitions, so that no text, however hostile, takes
longer than in proportion to its length. What it finds is taken out with what stands between (both in one pass
over the text each), masked, and put back in order.
"""

from __future__ import annotations

from typing import Final

from psycopg.sql import SQL, Composable, Composed, Literal

# --- the keyed hash --------------------------------------------------------------------------------------

_KEYED: Final = SQL("encode(sha256(textsend(current_setting('pgpull.mask_key') || {})), 'hex')")


def hashed(text: Composable) -> Composed:
    """Hash a text with the key, twice, so that nobody can go on from one hash to the hash of a longer text.

    The result is 64 hexadecimal digits.
    """
    return _KEYED.format(_KEYED.format(text))


# --- what is looked for ----------------------------------------------------------------------------------

# All but ASCII's own signs and blanks, and those of Unicode; so that letters of all languages are letters,
# whatever the database's collation takes for one.
_NO_SIGNS: Final = (
    r"\u0001-\u002c\u002f\u003a-\u0040\u005b-\u0060\u007b-\u00a9\u00ab-\u00b4\u00b6-\u00b9\u00bb-\u00bf"
    r"\u2000-\u206f\u3000-\u303f\uff00-\uff20"
)
_WORD: Final = rf"[^{_NO_SIGNS}]"
# The same with _ % + ~. One bracket: what has to stand before a place is known from the last sign then.
_LOCAL: Final = (
    r"[^\u0001-\u0024\u0026-\u002a\u002c\u002f\u003a-\u0040\u005b-\u005e\u0060\u007b-\u007d\u007f-\u00a9"
    r"\u00ab-\u00b4\u00b6-\u00b9\u00bb-\u00bf\u2000-\u206f\u3000-\u303f\uff00-\uff20]"
)
_LETTER: Final = rf"[^-.0-9{_NO_SIGNS}]"
# As a text has it, as an address in a link does, and at full width.
_SIGN: Final = r"(?:@|%40|\uff20)"
_AT: Final = rf"{_SIGN}{_WORD}+\.{_LETTER}{{2}}(?:{_LOCAL}*[^-.{_NO_SIGNS}])?"
# A text may hold JSON or code: an address that follows on an escape does not begin with its letter.
_ESCAPE: Final = r"\\(?:u[0-9A-Fa-f]{4}|[nrtbf])"
# It begins where such letters begin: so no letter is looked at for each one before it.
_ADDRESS: Final = Literal(rf"(?<!{_LOCAL}){_LOCAL}+{_AT}|{_ESCAPE}{_LOCAL}+{_AT}")

_COUNTRIES: Final = (
    "A[DELOTZ]|B[AEGHIRY]|C[HRYZ]|D[EJKO]|E[EGS]|F[IKOR]|G[BEILRT]|H[NRU]|I[ELQST]|JO|K[WZ]|L[BCITUVY]|M[CDEKNRTU]"
    "|N[ILO]|OM|P[KLST]|QA|R[OSU]|S[ACDEIKMOTV]|T[LNR]|UA|V[AG]|XK|YE"
)
_IBAN: Final = (
    rf"(?:{_COUNTRIES})[0-9]{{2}}(?:[A-Z0-9]{{11,30}}"
    r"|[ -][A-Z0-9]{4}(?:[ -](?=[A-Z]{0,3}[0-9])[A-Z0-9]{4}){1,6}(?:[ -][0-9]{1,3})?)"
)

_GAP: Final = r"[ ().\-/\u00a0\u2009-\u2015\u202f]"
_ONE: Final = r"[ \-\u00a0\u2010\u2011\u202f]"
_ALONE: Final = r"(?<![0-9A-Za-z_.-])"
_ENDS: Final = r"(?![0-9A-Za-z_])"
_NUMBERS: Final = (
    # of cards, and any that are so long
    r"[0-9]{13,64}",
    rf"[0-9]{{4}}(?:{_ONE}[0-9]{{4}}){{2}}{_ONE}[0-9]{{1,7}}",
    rf"[0-9]{{4}}{_ONE}[0-9]{{6}}{_ONE}[0-9]{{4,5}}",
    # of accounts, on their own
    rf"(?<![0-9A-Za-z_])[0-9]{{8,12}}{_ENDS}",
    rf"{_ALONE}[0-9]{{3}}-[0-9]{{2}}-[0-9]{{4}}{_ENDS}",
    # of telephones: with the country's, or as they are dialled at home
    rf"\+\(?[0-9](?:{_GAP}{{0,3}}[0-9]){{6,14}}",
    rf"{_ALONE}00[0-9]{{1,3}}(?:{_GAP}{{0,3}}[0-9]){{6,14}}",
    rf"{_ALONE}\(?0[0-9]{{1,5}}\)?(?:{_GAP}{{1,3}}[0-9]{{2,12}}){{1,5}}",
    rf"{_ALONE}(?:1[ .-])?(?:\([0-9]{{3}}\) ?|[0-9]{{3}}[ .-])[0-9]{{3}}[ .-][0-9]{{4}}{_ENDS}",
)

_HEX: Final = "[0-9A-Fa-f]"
# What looks like a number and is none: it is found, so that nothing inside of it is, and stays.
_NO_NUMBERS: Final = (
    rf"{_HEX}{{8}}-{_HEX}{{4}}-{_HEX}{{4}}-{_HEX}{{4}}-{_HEX}{{12}}{_ENDS}",
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}(?:[T ][0-9]{2}:[0-9]{2}(?::[0-9]{2}(?:\.[0-9]{1,9})?)?)?(?![0-9])",
    r"[0-9]{1,2}[./-][0-9]{1,2}[./-][0-9]{2,4}(?![0-9])",
    r"[0-9]{1,7}\.[0-9]{1,12}(?![0-9])",
    r"\\u[0-9A-Fa-f]{4}",
)

# The automaton of a regular expression is made anew for each search, at a cost that grows with its size times
# that of others beside it. So a small one finds whatever has a digit in it, with the letters that touch it;
# what is found is short, and only a few of those are looked at by larger ones: a tenth of the time.
_RUN: Final = (
    rf"{_NO_NUMBERS[0]}|[A-Za-z_]*[+(]*[0-9]"
    rf"(?:{_GAP}{{0,4}}[0-9]|[A-Za-z_]+[0-9]| [A-Z]{{4}} [0-9])*[A-Za-z_]*"
)
# An escape is found by itself, so that its letter is not the number's; where there is none, that costs nothing.
_RUN_OR_ESCAPE: Final = rf"\\[nrtbf]|{_RUN}"
_DIGITS: Final = (
    rf"[0-9]{{8}}|[0-9]{{2}}{_GAP}[0-9]{{4}}|\+\(?[0-9]|(?<![0-9_.-])\(?0[0-9]+[-/.() \u00a0-\u202f]+[0-9]{{2}}"
    rf"|{_ALONE}00[0-9]"
)
"""A text that this does not find has none of the numbers; so most are looked through once."""
_WORTH: Final = Literal(rf"{_SIGN}|\\[u/]|{_DIGITS}")
"""The same for a string as JSON spells it, and for addresses."""
_ENOUGH: Final = Literal(rf"[0-9](?:{_GAP}{{0,4}}[0-9]){{6}}")
_IBAN_INSIDE: Final = Literal(rf"(?:{_COUNTRIES})[0-9]{{2}}[ -]?[A-Z0-9]{{4}}")
_STAYS: Final = Literal("^(?:" + "|".join(_NO_NUMBERS) + ")(?:[A-Za-z]|[T ][0-9]{2})?$")
_WHOLE: Final = Literal(
    rf"^(?:\+[0-9]+[-0-9 ]*|[0-9]{{8,}}|[0-9]{{4}}{_ONE}[0-9]{{4}}{_ONE}[0-9]{{4}}{_ONE}[0-9]{{4}})$"
)
_NUMBER: Final = Literal("|".join((*_NUMBERS, *_NO_NUMBERS)))
_NUMBER_OR_IBAN: Final = Literal("|".join((_IBAN, *_NUMBERS, *_NO_NUMBERS)))

_STRING: Final = Literal(r'"(?:[^"\\]|\\.)*"(?:\s*:)?')
"""A string of a JSON document; with the colon behind it, a key."""

# --- what comes in its place -----------------------------------------------------------------------------

# Sign by sign: everything between stays, and each of them is followed by a digit.
DIGITS_OF: Final = SQL(
    "(SELECT string_agg(p.s || substr({digits}, p.i::int, 1), '' ORDER BY p.i)"
    " FROM regexp_split_to_table({text}, {signs}) WITH ORDINALITY AS p (s, i))"
)


def _number(found: Composable) -> Composed:
    """A number of the same form; no valid card's (the last digit makes the sum of Luhn's algorithm end in 1).

    Zeros in front stay. Numbers with a plus begin with 999, which is no country's; long ones with 9, which is
    no international card's.
    """
    body = SQL(
        "left(substring(q.d from '^0*') ||"
        " CASE WHEN {found} LIKE '+%' THEN '999' WHEN length(q.d) > 12 THEN '9' ELSE '' END ||"
        " repeat(translate(q.h, 'abcdef', '012345'), 1 + length(q.d) / 64), length(q.d) - 1)"
    ).format(found=found)
    check = SQL(
        "((11 - (SELECT sum(CASE WHEN (length(w.b) - g) % 2 = 0 THEN c * 2 / 10 + c * 2 % 10 ELSE c END) FROM"
        " generate_series(1, length(w.b)) AS g, CAST(substr(w.b, g, 1) AS int) AS c) % 10) % 10)::text"
    )
    return SQL(
        "(SELECT {spread} FROM (SELECT w.b || {check} AS d FROM (SELECT {body} AS b FROM"
        " (SELECT d, {hash} AS h FROM (SELECT regexp_replace({found}, '[^0-9]', '', 'g') AS d OFFSET 0) AS q0"
        " OFFSET 0) AS q OFFSET 0) AS w OFFSET 0) AS x)"
    ).format(
        spread=DIGITS_OF.format(digits=SQL("x.d"), text=found, signs=Literal("[0-9]")),
        check=check,
        body=body,
        hash=hashed(SQL("d")),
        found=found,
    )


def _iban(found: Composable) -> Composed:
    """A number of the same country and form; no valid one, as 00 are no check digits."""
    plain = SQL("regexp_replace({}, '[^0-9A-Z]', '', 'g')").format(found)
    digits = SQL("left('00' || translate({}, 'abcdef', '012345'), length({}) - 2)").format(hashed(plain), plain)
    return SQL("left({found}, 2) || (SELECT {spread} FROM (SELECT {digits} AS d OFFSET 0) AS x)").format(
        found=found,
        spread=DIGITS_OF.format(
            digits=SQL("x.d"), text=SQL("substr({}, 3)").format(found), signs=Literal("[0-9A-Z]")
        ),
        digits=digits,
    )


def _in_place_of_run(run: Composable) -> Composed:
    """What comes in the place of a run of digits: of numbers in it, or of all of it."""
    found = SQL("o.m[1]")
    return SQL(
        "CASE WHEN {run} !~ {enough} OR {run} ~ {stays} THEN {run}"
        " WHEN length({run}) < 64 AND {run} ~ {whole} THEN {number}"
        " WHEN {run} ~ {iban} THEN {with_iban} ELSE {others} END"
    ).format(
        run=run,
        enough=_ENOUGH,
        stays=_STAYS,
        whole=_WHOLE,
        number=_number(run),
        iban=_IBAN_INSIDE,
        with_iban=_with_each(run, _NUMBER_OR_IBAN, _in_place_of_number(found), "o"),
        others=_with_each(run, _NUMBER, _in_place_of_number(found), "o"),
    )


def _in_place_of_number(found: Composable) -> Composed:
    return SQL(
        "CASE WHEN {found} ~ {stays} THEN {found} WHEN {found} ~ '^[A-Z]{{2}}' THEN {iban}"
        " WHEN {found} !~ {enough} THEN {found} ELSE {number} END"
    ).format(found=found, stays=_STAYS, enough=_ENOUGH, iban=_iban(found), number=_number(found))


def address_for(text: Composable, digits: int = 16) -> Composed:
    """An address that nobody has, for a text; of letters, in which nobody finds a number."""
    made = SQL("'user_' || left(translate({}, '0123456789', 'ghijklmnop'), {}) || '@example.com'")
    return made.format(hashed(text), digits)


def _in_place_of_address(found: Composable) -> Composed:
    return SQL(
        "CASE WHEN {found} LIKE '\\\\u____%' AND {found} ~ {escape} THEN left({found}, 6) || {after_six}"
        " WHEN {found} LIKE '\\\\%' THEN left({found}, 2) || {after_two} ELSE {all} END"
    ).format(
        found=found,
        escape=Literal(r"^\\u[0-9A-Fa-f]{4}"),
        after_six=address_for(SQL("substr({}, 7)").format(found)),
        after_two=address_for(SQL("substr({}, 3)").format(found)),
        all=address_for(SQL("regexp_replace({}, {}, '@')").format(found, Literal(_SIGN))),
    )


def _with_each(text: Composable, wanted: Composable, mask: Composable, name: str) -> Composed:
    """A text with something else in the place of each thing that is found in it, as ``name.m[1]``."""
    return SQL(
        "(SELECT string_agg({r}.s || coalesce({mask}, ''), '' ORDER BY {r}.i)"
        " FROM ROWS FROM (regexp_split_to_table({text}, {wanted}), regexp_matches({text}, {wanted}, 'g'))"
        " WITH ORDINALITY AS {r} (s, m, i))"
    ).format(text=text, mask=mask, wanted=wanted, r=SQL(name))


def is_address(text: Composable) -> Composed:
    """Whether a text holds an address."""
    return SQL("{0} ~ {1} AND {0} ~ {2}").format(text, Literal(_SIGN), _ADDRESS)


def is_number(text: Composable) -> Composed:
    """Whether a text holds a number as telephones, cards and accounts have them."""
    return SQL("{0} ~ {1} AND {0} ~ {2}").format(text, Literal(_DIGITS), Literal("|".join((_IBAN, *_NUMBERS))))


def scrub_text(text: Composable) -> Composed:
    """A text with all that was found in it replaced, first addresses, then numbers; NULL stays NULL."""
    found, once = SQL("r.m[1]"), SQL("a.t")
    addresses = SQL("CASE WHEN {text} ~ {sign} THEN {all} ELSE {text} END").format(
        text=text, sign=Literal(_SIGN), all=_with_each(text, _ADDRESS, _in_place_of_address(found), "r")
    )
    run = SQL("CASE WHEN strpos({}, {}) > 0 THEN {} ELSE {} END").format(
        once, Literal("\\"), Literal(_RUN_OR_ESCAPE), Literal(_RUN)
    )
    numbers = SQL("CASE WHEN {text} ~ {digits} THEN {all} ELSE {text} END").format(
        text=once, digits=Literal(_DIGITS), all=_with_each(once, run, _in_place_of_run(found), "r")
    )
    return SQL("(SELECT {} FROM (SELECT {} AS t OFFSET 0) AS a)").format(numbers, addresses)


def scrub_json(value: Composable, kind: str) -> Composed:
    r"""A document with all that was found in its strings replaced; keys, numbers and the form stay.

    Each string is spelled out before it is looked through, as ``\n`` may stand before an address, and is
    spelled as JSON again. Those in which nothing was found stay as they are spelled.

    Args:
        value: the document.
        kind: ``json`` or ``jsonb``.
    """
    # a json keeps escapes of anything, such as \u0040 for @
    token = (_escaped_token if kind == "json" else _plain_token)(SQL("r.m[1]"))
    masked = SQL(
        "CASE WHEN r.m[1] IS NULL THEN '' WHEN right(r.m[1], 1) = ':' OR r.m[1] !~ {worth} THEN r.m[1]"
        " ELSE (SELECT CASE WHEN y.t = x.t THEN r.m[1] ELSE to_json(y.t)::text END"
        " FROM (SELECT {token} AS t OFFSET 0) AS x, LATERAL (SELECT {scrubbed} AS t OFFSET 0) AS y) END"
    ).format(worth=_WORTH, token=token, scrubbed=scrub_text(SQL("x.t")))
    return SQL(
        "CASE WHEN {value}::text ~ {worth} THEN (SELECT string_agg(r.s || {masked}, '' ORDER BY r.i)"
        " FROM (SELECT {value}::text AS t OFFSET 0) AS j, LATERAL ROWS FROM"
        " (regexp_split_to_table(j.t, {string}), regexp_matches(j.t, {string}, 'g'))"
        " WITH ORDINALITY AS r (s, m, i))::{kind} ELSE {value} END"
    ).format(value=value, worth=_WORTH, masked=masked, string=_STRING, kind=SQL(kind))


def _plain_token(token: Composable) -> Composed:
    return SQL("{}::jsonb #>> '{{}}'").format(token)


# Text holds no NUL, and half a pair of surrogates is no character. An escaped backslash escapes nothing more.
_HIGH: Final = r"\\u[dD][89abAB][0-9A-Fa-f]{2}"
_LOW: Final = r"\\u[dD][c-fC-F][0-9A-Fa-f]{2}"
_NO_TEXT: Final = rf"(\\\\|{_HIGH}{_LOW})|\\u0000|{_HIGH}|{_LOW}"


def _escaped_token(token: Composable) -> Composed:
    return _plain_token(
        SQL("(CASE WHEN {0} ~ {1} THEN regexp_replace({0}, {2}, '\\1', 'g') ELSE {0} END)").format(
            token, Literal(r"\\u(?:0000|[dD])"), Literal(_NO_TEXT)
        )
    )
