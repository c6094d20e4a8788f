"""What of an error may cross a border: a pure function over the body of an ErrorResponse.

Values of rows that policy hides stand in DETAIL ("Key (email)=(…)", "Failing row contains (…)"), in CONTEXT and the
internal query, and, where PostgreSQL evaluates something over the base row (an index expression, a CHECK, a row
filter), in the message itself ("invalid input syntax for type integer: …"). Whatever a function RAISEs may hold
anything, under any SQLSTATE. So:

 - DETAIL, CONTEXT and the internal query never pass; notices and notifications never do (guard.py drops them);
 - a message passes where its SQLSTATE's class says that PostgreSQL's own code made it of names and of the client's
   text; in class 22 (data exceptions) only by the templates below, the value cut off;
 - what RAISE made passes only from Domicile's own functions, which put no row's values into a message;
 - all else becomes a text that says no more than its SQLSTATE does. Messages in another language match no template,
   and so withhold more, never less.

Names pass (constraints, columns, tables): clients map errors by them, and the border views carry the same ones.
"""

from __future__ import annotations

import re

from ..catalog.names import RegionName

_CLASSES_THAT_PASS = frozenset(
    {
        "00",  # success
        "03",  # statement not yet complete
        "08",  # connection
        "0A",  # not supported
        "20",  # case not found
        "21",  # cardinality
        "23",  # constraints: names only, values stand in DETAIL
        "24",  # cursor state
        "25",  # transaction state
        "26",  # statement name
        "27",  # triggered data change
        "28",  # authorization
        "2B",  # dependent privileges
        "2D",  # transaction termination
        "34",  # cursor name
        "3B",  # savepoint
        "3D",  # catalog name
        "3F",  # schema name
        "40",  # rollback: serialization, deadlock
        "42",  # syntax and access: names and the client's own text
        "44",  # WITH CHECK OPTION
        "53",  # resources
        "54",  # limits
        "55",  # object state
        "57",  # intervention: cancel, shutdown
    }
)

_DATA_TEMPLATES = tuple(
    re.compile(p)
    for p in (
        r"division by zero\Z",
        r"(smallint|integer|bigint|oid|money|interval|timestamp|date|numeric|cidr|inet|\"char\") out of range\Z",
        r"value out of range: (overflow|underflow)\Z",
        r"numeric field overflow\Z",
        r"interval field value out of range\Z",
        r"value too long for type [a-z ]+\(\d+\)\Z",
        r"bit string length \d+ does not match type bit\(\d+\)\Z",
        r"null value not allowed\b",
        r"(LIMIT|OFFSET) must not be negative\Z",
        r"cannot take (square root|logarithm) of (a negative number|zero)\Z",
        r"zero raised to a negative power is undefined\Z",
        r"a negative number raised to a non-integer power yields a complex result\Z",
        r"negative substring length not allowed\Z",
        r"step size cannot (equal zero|be NaN|be infinity)\Z",
        r"requested length too large\Z",
        r"array (must not contain nulls|subscript out of range|size exceeds the maximum allowed.*)\Z",
        r"cannot (get array length of|extract elements from|call \w+ on) (an? )?(non-)?(array|scalar|object)\Z",
        r"range lower bound must be less than or equal to range upper bound\Z",
        r"malformed (array|record|range|multirange) literal(?=:)",
        r"invalid input (syntax|value) for (type|enum) [\w. \"\[\]()]+?(?=:)",
        r"(date/time|time zone|interval) field value out of range(?=:)",
        r"(date|timestamp|interval) out of range(?=:)",
        r"invalid byte sequence for encoding \"UTF8\"(?=:)",
        r"invalid regular expression(?=:)",
        r"invalid escape string\Z",
        r"insufficient data left in message\Z",
        r"incorrect binary data format( in bind parameter \d+)?\Z",
        r"unsupported format code(?=:)",
        r"missing data for column \"[^\"]*\"\Z",
        r"extra data after last expected column\Z",
        r"invalid value for parameter \"\w+\"(?=:)",
        r"parameter \"\w+\" requires a (Boolean|numeric) value\Z",
        r"cursor can only scan forward\Z",
    )
)

_OUT_OF_RANGE = re.compile(r"value \".*\" is (out of range for type [\w ]+)\Z", re.S)

_OWN_FUNCTION = re.compile(rb"PL/pgSQL function domicile\.\w+\(")

_KEPT = frozenset(b"SVCMHPstcdnFLR")
"""Severity, SQLSTATE, message, hint, position, names of objects, and where in PostgreSQL's source it was raised."""


def scrub(body: bytes, region: RegionName) -> bytes:
    """The ErrorResponse's body as it may leave `region`. Never raises: what can't be read becomes XX000."""
    fields = [(f[0], f[1:]) for f in body.split(b"\0") if f]
    by_letter = dict(fields)
    sqlstate = by_letter.get(ord("C"), b"XX000").decode("ascii", "replace")
    message = by_letter.get(ord("M"), b"").decode("utf-8", "replace")
    source = by_letter.get(ord("F"), b"")
    context = by_letter.get(ord("W"), b"")
    passed = _message(sqlstate, message, source, context)
    out = []
    for letter, value in fields:
        if letter not in _KEPT:
            continue
        if letter == ord("M"):
            value = (passed or _withheld(sqlstate, region)).encode()
        elif letter == ord("H") and passed != message:
            continue  # a hint is as free as the message that it came with
        out.append(bytes((letter,)) + value + b"\0")
    if ord("M") not in by_letter:
        out.append(b"M" + _withheld(sqlstate, region).encode() + b"\0")
    return b"".join(out) + b"\0"


def _message(sqlstate: str, message: str, source: bytes, context: bytes) -> str | None:
    """What of the message may pass; None for nothing."""
    if source.startswith(b"pl") or source == b"":
        # plpgsql's pl_exec.c, plpy_elog.c, plperl.c: the text is what a function's author wrote into RAISE.
        return message if _OWN_FUNCTION.match(context) else None
    kind = sqlstate[:2]
    if kind in _CLASSES_THAT_PASS:
        return message
    if kind == "22":
        if match := _OUT_OF_RANGE.match(message):
            return f"value {match[1]} (value withheld)"
        for template in _DATA_TEMPLATES:
            if match := template.match(message):
                return message if match.end() == len(message) else f"{match[0].rstrip()} (value withheld)"
    return None


def _withheld(sqlstate: str, region: RegionName) -> str:
    what = "data exception" if sqlstate.startswith("22") else "error"
    return f"{what} {sqlstate} in region {region}; its text may hold values and stays there"
