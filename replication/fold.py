"""What several transactions come to, table by table: pure, so that it can be compared with doing them one by one.

Only what holds after the last of them is ever visible at the destination, so a key that changed ten times is written
once. A table without a key is a bag of whole rows: what counts is how many of each there are.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from . import wire
from .wire import Row


@dataclass(slots=True)
class Net:
    """What to do to one table, in this order: empty it (of this origin's rows), delete, put."""

    emptied: bool = False
    rows: dict[Row, Row | None] = field(default_factory=dict)  #: with a key: by key the last row, None for deleted
    counts: dict[Row, int] = field(default_factory=dict)  #: without: by row how many more, or fewer where negative

    @property
    def puts(self) -> list[Row]:
        """Rows to write over what stands under their keys, or to add."""
        keyed = [row for row in self.rows.values() if row is not None]
        return keyed + [row for row, count in self.counts.items() for _ in range(count)]

    @property
    def deleted_keys(self) -> list[Row]:
        return [] if self.emptied else [key for key, row in self.rows.items() if row is None]

    @property
    def fewer(self) -> dict[Row, int]:
        """By whole row how many of it to delete."""
        return {} if self.emptied else {row: -count for row, count in self.counts.items() if count < 0}


def fold(changes: Iterable[wire.Change], keys: Sequence[tuple[int, ...] | None]) -> dict[int, Net]:
    """By table number the net effect of the changes, in order. `keys` says where in a row its key is, None without.

    Raises wire.WireError for a change that no offer of these tables allows.
    """
    nets: dict[int, Net] = {}
    for change in changes:
        if change.table >= len(keys):
            raise wire.WireError("a change of a table that was not offered")
        if change.kind is wire.Kind.TRUNCATE:
            nets[change.table] = Net(emptied=True)
            continue
        net = nets.get(change.table)
        if net is None:
            net = nets[change.table] = Net()
        key = keys[change.table]
        old, new = change.old, change.new
        if (old is None and change.kind is wire.Kind.DELETE) or (
            (new is None) is not (change.kind is wire.Kind.DELETE)
        ):
            raise wire.WireError(f"{change.kind.name} with the wrong rows")
        if key is None:
            if old is not None:
                net.counts[old] = net.counts.get(old, 0) - 1
            if new is not None:
                net.counts[new] = net.counts.get(new, 0) + 1
        else:
            if old is not None:
                net.rows[old] = None
            if new is not None:
                net.rows[tuple([new[place] for place in key])] = new
    return nets
