"""Which replies are owed to the caller of a guard, and of which tables their rows are."""

from __future__ import annotations

from collections import deque

from .messages import B, F

Tables = tuple[str, ...]


class Owed:
    """What was asked of PostgreSQL and not answered yet, in order; knows for each row which tables it is of.

    Where the replies do not fit (only a caller that breaks the protocol can do that), `lost` is set and rows are
    counted without a table from then on.
    """

    __slots__ = ("copying_in", "lost", "queue")

    def __init__(self) -> None:
        self.queue: deque[tuple[int, list[Tables]]] = deque()
        self.copying_in = False
        self.lost = False

    def asked(self, kind: int, tables: list[Tables]) -> None:
        if kind == F.SYNC and self.copying_in:
            return  # PostgreSQL ignores it while it waits for data
        self.queue.append((kind, tables))

    def tables(self) -> Tables:
        if self.lost or not self.queue:
            return ()
        tables = self.queue[0][1]
        return tables[0] if tables else ()

    def answered(self, kind: int) -> None:
        queue = self.queue
        if kind == B.READY:
            while queue and queue.popleft()[0] not in (F.SYNC, F.QUERY):
                pass
            return
        if not queue:
            self.lost = True
            return
        asked, tables = queue[0]
        if kind == B.ERROR:
            self.copying_in = False
            while queue and queue[0][0] not in (F.SYNC, F.QUERY):
                queue.popleft()
        elif kind in (B.COMMAND_COMPLETE, B.EMPTY_QUERY, B.PORTAL_SUSPENDED):
            if asked == F.QUERY:
                del tables[:1]
            else:
                queue.popleft()
        elif kind in (B.PARSE_COMPLETE, B.BIND_COMPLETE, B.CLOSE_COMPLETE):
            queue.popleft()
        elif kind in (B.ROW_DESCRIPTION, B.NO_DATA):
            if asked == F.DESCRIBE:
                queue.popleft()
        elif kind == B.COPY_IN:
            self.copying_in = True
            while len(queue) > 1 and queue[1][0] == F.SYNC:
                del queue[1]
