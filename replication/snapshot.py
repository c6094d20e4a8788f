"""The first copy: the rows that a slot's exported snapshot shows, masked as the stream masks them.

The slot comes first, so that what is committed after the snapshot is in the stream, and what was committed before is
in the rows: no gap and no overlap.
"""

from __future__ import annotations

import struct
from collections.abc import AsyncIterator, Sequence

from ..catalog.names import quote_literal
from . import wire
from .postgres import Connection, Row
from .transform import ACT_AS_VIEWS, SourceTable

_COPY_HEADER = b"PGCOPY\n\xff\r\n\0" + bytes(8)  # signature, no flags, no header extension
_COPY_TRAILER = b"\xff\xff"
_COLUMNS = struct.Struct("!h")
_LENGTH = struct.Struct("!i")


async def copy(connection: Connection, snapshot: str, tables: Sequence[SourceTable]) -> AsyncIterator[wire.Changes]:
    """Every visible row of the tables, masked, in frames of about CHANGES_BYTES_GOAL. Uses `connection` up."""
    await connection.execute(ACT_AS_VIEWS)
    await connection.execute("begin isolation level repeatable read, read only")
    await connection.execute(f"set transaction snapshot {quote_literal(snapshot)}")
    for number, table in enumerate(tables):
        batch: list[wire.Change] = []
        size = 0
        first = True
        async for body in connection.copy_out(f"copy ({table.copying()}) to stdout (format binary)"):
            start = len(_COPY_HEADER) if first else 0
            first = False
            if body[start:] in (b"", _COPY_TRAILER):
                continue
            batch.append(wire.Change(wire.Kind.INSERT, number, None, _row(body, start)))
            size += len(body)
            if size >= wire.CHANGES_BYTES_GOAL:
                yield wire.Changes(tuple(batch))
                batch, size = [], 0
        if batch:
            yield wire.Changes(tuple(batch))


def _row(body: bytes, at: int) -> Row:
    """The binary COPY tuple that begins at `at`."""
    columns = _COLUMNS.unpack_from(body, at)[0]
    at += _COLUMNS.size
    values: list[bytes | None] = []
    for _ in range(columns):
        length = _LENGTH.unpack_from(body, at)[0]
        at += _LENGTH.size
        if length < 0:
            values.append(None)
        else:
            values.append(body[at : at + length])
            at += length
    return tuple(values)
