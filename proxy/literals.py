"""Lifts plain literals out of a simple Query's text, so that statements that differ in them alone share a plan.

One regex for the plain case; whatever could make a quote or a digit mean something else (escapes, dollar quotes, quoted
names, comments, prefixed strings) is left alone, and the statement is planned by its exact text.
"""

from __future__ import annotations

import re

_SUSPICIOUS = re.compile(r"[\\$\"]|--|/\*|&'")
"""Backslashes, `$1` and `$q$`, quoted names, comments and `U&'…'`, wherever they stand: inside a string too."""

_TOKEN = re.compile(
    r"'((?:[^']|'')*)'(\s*')?"  # a string, and one that continues it
    r"|[A-Za-z_]\w*(')?"  # a word, and a string that it is the prefix of: E'…', B'…'
    r"|(?<![\w.])(\d+)(?![\w.])"  # a whole number
    r"|\d[\w.]*",  # any other number, left as it is
    re.ASCII,
)


def lift(text: str) -> tuple[str, list[str]] | None:
    """(the text with $1, $2 … in the literals' place, their values as text), or None where it must stay as it is.

    >>> lift("select v from t where id = 42 and n = 'O''Hara'")
    ("select v from t where id = $1 and n = $2", ['42', "O'Hara"])

    The lifted text is only ever planned: what is executed is the client's own.
    """
    if _SUSPICIOUS.search(text) or not text.isascii():
        return None
    values: list[str] = []
    plain = True

    def lifted(match: re.Match[str]) -> str:
        nonlocal plain
        string, continued, prefixed, number = match.groups()
        if continued or prefixed:
            plain = False
        if string is None and number is None:
            return match.group()
        values.append(number if string is None else string.replace("''", "'"))
        return f"${len(values)}"

    result = _TOKEN.sub(lifted, text)
    return (result, values) if plain and "'" not in result else None
