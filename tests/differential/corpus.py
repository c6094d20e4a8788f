"""Reads corpus.sql: entries of a title, marks, and statements.

    -- # a title                      begins an entry; the entries between two `-- ##` lines share nothing
    -- # a title [refused]            its last statement is refused with 0A000 by every gateway
    -- # a title [refused us ap]      … by the gateways of these regions; elsewhere it is answered
    -- # a title [state 23514 us]     the last statement's SQLSTATE is this, not the oracle's (regions optional)
    -- # a title [words]              the last statement's error has the oracle's SQLSTATE in other words
    -- values ["DE", null]            the parameters of the next statement
    -- data 1\tx                      a line for the COPY FROM STDIN before it

Statements end with `;` at the end of a line. An entry takes back what it wrote.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field

from tests.differential.world import text_of, values_of

REGIONS = ("us", "eu", "ap")


@dataclass
class Step:
    text: str
    values: Sequence[str | None] = ()
    data: bytes | None = None


@dataclass
class Entry:
    title: str
    steps: list[Step] = field(default_factory=list)
    refused: frozenset[str] = frozenset()  #: regions
    state: str = ""
    state_in: frozenset[str] = frozenset()
    words: bool = False


_MARK = re.compile(r"\[([^\]]+)\]")


def _entry(line: str) -> Entry:
    entry = Entry(_MARK.sub("", line).strip())
    for mark in _MARK.findall(line):
        word, *rest = mark.split()
        if word == "refused":
            entry.refused = frozenset(rest or REGIONS)
        elif word == "state":
            entry.state, entry.state_in = rest[0], frozenset(rest[1:] or REGIONS)
        elif word == "words":
            entry.words = True
        else:
            raise ValueError(f"mark {mark!r} is not known: {line}")
    return entry


def entries(name: str = "corpus.sql") -> list[Entry]:
    """The entries of a corpus, in its order. Raises ValueError for what it can't read."""
    found: list[Entry] = []
    text, values = "", []  # type: tuple[str, list[str | None]]
    for line in text_of(name).splitlines():
        if line.startswith("-- # "):
            found.append(_entry(line[5:]))
        elif line.startswith("-- values "):
            values = values_of(line[10:])
        elif line.startswith("-- data "):
            step = found[-1].steps[-1]
            step.data = (step.data or b"") + line[8:].encode() + b"\n"
        elif line.startswith("-- ") or (not text and not line.strip()):
            continue
        else:
            text += line
            if line.endswith(";"):
                found[-1].steps.append(Step(text[:-1], values))
                text, values = "", []
            else:
                text += "\n"
    if text:
        raise ValueError(f"a statement does not end: {text}")
    return found


_ORDER = re.compile(r"\border by\b", re.IGNORECASE)


def is_ordered(text: str) -> bool:
    """Whether the statement itself has an ORDER BY, not only a subquery or a window of it."""
    flat, before = text, ""
    while flat != before:
        before, flat = flat, re.sub(r"\([^()]*\)", "", flat)
    return bool(_ORDER.search(flat))
