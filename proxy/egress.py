"""What left this region, counted as it leaves and written to the ledger (`domicile.egress`) every second.

A result that reads several tables counts for each of them: the ledger says at most how much of a table went where,
never too little. Counts that can't be written are kept and written later.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import NamedTuple

from ..catalog.names import RegionName

ENTRIES_MAX = 50_000
"""Different (destination, role, relation) between two flushes; beyond it the relation is left out."""

FLUSH_S = 1.0

_log = logging.getLogger("domicile.egress")


class Egress(NamedTuple):
    destination: RegionName
    role: str  #: as its own region knows it
    relation: str | None  #: `public.customers`; None: no table was named, or which one is not known
    rows: int
    bytes: int


class Ledger:
    """Counts, and hands the counts to `write` at each flush."""

    def __init__(self, write: Callable[[Sequence[Egress]], Awaitable[None]]) -> None:
        self._write = write
        self._counts: dict[tuple[RegionName, str, str | None], list[int]] = {}

    def count(self, destination: RegionName, role: str, relations: Sequence[str], rows: int, size_bytes: int) -> None:
        for relation in relations or (None,):
            entry = self._counts.get((destination, role, relation))
            if entry is None:
                known = relation if len(self._counts) < ENTRIES_MAX else None
                entry = self._counts.setdefault((destination, role, known), [0, 0])
            entry[0] += rows
            entry[1] += size_bytes

    async def flush(self) -> None:
        """Writes what was counted since the last time. Where that fails, it is counted still."""
        counts, self._counts = self._counts, {}
        if not counts:
            return
        try:
            await self._write([Egress(*key, rows, size) for key, (rows, size) in counts.items()])
        except Exception as e:
            for (destination, role, relation), (rows, size) in counts.items():
                self.count(destination, role, () if relation is None else (relation,), rows, size)
            _log.warning("the ledger can't be written, its counts are kept: %s: %s", type(e).__name__, e)
