"""Says in what two outcomes differ."""

from __future__ import annotations

import re
from collections import Counter

from tests.differential.corpus import is_ordered
from tests.differential.drivers import Outcome

SHOWN_MAX = 3

SCRUBBED = re.compile(r"value withheld|its text may hold values and stays there")
"""What another region's guard puts in the place of a value: on purpose not the words of one PostgreSQL."""


def difference(text: str, got: Outcome, truth: Outcome, *, words: bool = False, state: str = "") -> str:
    """What is wrong with the answer `got` to the statement, or an empty text."""
    if state:
        return "" if got.sqlstate == state else f"state {got.sqlstate or 'none'} ({got.message}), not {state}"
    if got.sqlstate != truth.sqlstate:
        return f"got {got.sqlstate or got.tag} {got.message!r}, not {truth.sqlstate or truth.tag} {truth.message!r}"
    if got.message != truth.message and not words and not SCRUBBED.search(got.message):
        return f"says {got.message!r}, not {truth.message!r}"
    if got.tag != truth.tag:
        return f"tag {got.tag!r}, not {truth.tag!r}"
    if got.columns != truth.columns:
        return f"columns {got.columns}, not {truth.columns}"
    if is_ordered(text):
        for number, (a, b) in enumerate(zip(got.rows, truth.rows, strict=False)):
            if a != b:
                return f"row {number} is {a}, not {b}"
    elif Counter(got.rows) != Counter(truth.rows):
        more, less = Counter(got.rows) - Counter(truth.rows), Counter(truth.rows) - Counter(got.rows)
        return f"has {list(more)[:SHOWN_MAX]} and lacks {list(less)[:SHOWN_MAX]}"
    return "" if len(got.rows) == len(truth.rows) else f"{len(got.rows)} rows, not {len(truth.rows)}"
