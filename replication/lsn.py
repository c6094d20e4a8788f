"""Positions in a write-ahead log, kept apart from other numbers by type.

Which position means what, everywhere in this package: a *position* is the end of a transaction's commit record
(pgoutput's `end_lsn`), that is, where to go on. A transaction is behind position p if its commit record ends at or
before p. PostgreSQL skips a transaction when its commit record *starts* before the position that START_REPLICATION
names (SnapBuildXactNeedsSkip in snapbuild.c), so that going on from `end_lsn` neither repeats nor loses one.
"""

from __future__ import annotations

from typing import Self


class Lsn(int):
    """A position in one server's log; greater is later. Positions of two servers must never be compared.

    >>> str(Lsn.parse("16/B374D848"))
    '16/B374D848'
    """

    __slots__ = ()

    @classmethod
    def parse(cls, text: str) -> Self:
        """The position that PostgreSQL prints as `X/Y`. Raises ValueError where the text is not one."""
        high, slash, low = text.partition("/")
        if not slash or not 0 < len(high) <= 8 or not 0 < len(low) <= 8:
            raise ValueError(f"not a position in a log: {text!r}")
        return cls(int(high, 16) << 32 | int(low, 16))

    def __str__(self) -> str:
        return f"{self >> 32:X}/{self & 0xFFFFFFFF:X}"

    def __repr__(self) -> str:
        return f"Lsn({str(self)!r})"


LSN_NONE = Lsn(0)
"""Before everything: PostgreSQL's InvalidXLogRecPtr, which no record has."""
