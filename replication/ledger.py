"""What was sent, counted as it leaves, for the ledger of what crossed the border (domicile.egress)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ..catalog.names import quote_literal
from . import wire
from .postgres import Connection

ENTRIES_MAX = 10_000
"""Different (destination, table, version) between two writings; beyond it the table's name is left out."""


@dataclass(slots=True)
class Count:
    columns: tuple[str, ...]
    rows: int = 0
    bytes: int = 0


class Ledger:
    """Counts until `write` has written. A row that is sent twice, since a session broke, has left twice."""

    def __init__(self) -> None:
        self._counts: dict[tuple[str, str | None, int], Count] = {}

    def count(self, offer: wire.Offer, destination: str, changes: Sequence[wire.Change]) -> None:
        """Counts what the changes tell the destination: whole rows, and keys of deleted ones."""
        for change in changes:
            table = offer.tables[change.table]
            key: tuple[str, str | None, int] = (destination, f"{table.schema}.{table.name}", offer.policy_version)
            count = self._counts.get(key)
            if count is None:
                if len(self._counts) >= ENTRIES_MAX:
                    key = (destination, None, offer.policy_version)
                count = self._counts.setdefault(key, Count(tuple(name for name, _ in table.columns)))
            count.rows += 1
            count.bytes += sum(wire.row_bytes(row) for row in (change.old, change.new) if row is not None)

    async def write(self, connection: Connection) -> None:
        """Writes the counts, one row for each destination and table. What can't be written is kept."""
        if not self._counts:
            return
        counts, self._counts = self._counts, {}
        rows = ", ".join(
            f"({quote_literal(destination)}, 'stream', {_literal(relation)}, {_array(count.columns)},"
            f" {count.rows}, {count.bytes}, {version})"
            for (destination, relation, version), count in counts.items()
        )
        try:
            await connection.execute(
                "insert into domicile.egress (destination, via, relation, columns, rows, bytes, version) values " + rows
            )
        except BaseException:
            for key, count in counts.items():
                later = self._counts.setdefault(key, Count(count.columns))
                later.rows += count.rows
                later.bytes += count.bytes
            raise


def _literal(text: str | None) -> str:
    return "null" if text is None else quote_literal(text)


def _array(names: Sequence[str]) -> str:
    return f"array[{', '.join(map(quote_literal, names))}]::text[]"
