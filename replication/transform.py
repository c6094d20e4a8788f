"""The border of the stream: raw row images go in, what the destination may see comes out.

The masks and the row filter are SQL of this region's own catalog, evaluated by this region's PostgreSQL over the
*decoded* image, sent to it as an array of the table's row type. The row itself is never read again: it may have
changed since. What leaves this module has been masked; `RawChange` never leaves the process.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ..catalog.errors import FEATURE_NOT_SUPPORTED, DomicileError
from ..catalog.names import QualifiedName, quote_identifier
from . import pgoutput, wire
from .postgres import Connection, Query, Row, rows

OBJECT_NOT_IN_PREREQUISITE_STATE = "55000"

_ARRAY_HEADER = struct.Struct("!iiIii")  # dimensions, has NULLs, element type, length, lower bound
_FIELD = struct.Struct("!Ii")  # type, length
_INT = struct.Struct("!i")


class OfferChanged(Exception):
    """The catalog is no longer what the offer was made from: end the session, and begin another."""


@dataclass(frozen=True, slots=True)
class SourceColumn:
    name: str
    type_name: str
    type_oid: int
    generated: str | None  #: its expression: the log does not carry it, so it is computed again from the image
    mask: str | None  #: SQL over the row's columns; None: withheld


@dataclass(frozen=True, slots=True)
class SourceTable:
    """A table that is copied to a destination, as this region's catalog has it."""

    name: QualifiedName
    oid: int
    row_oid: int  #: of its row type
    row_array_oid: int
    columns: tuple[SourceColumn, ...]  #: all of the row type, in its order
    rows: str | None  #: SQL: which rows may be seen; None: all
    key: tuple[str, ...]

    @property
    def sent(self) -> tuple[SourceColumn, ...]:
        return tuple(c for c in self.columns if c.mask is not None)

    @property
    def key_places(self) -> tuple[int, ...]:
        """Where in the sent row the key's values are; all places where there is no key."""
        names = [c.name for c in self.sent]
        return tuple(map(names.index, self.key)) if self.key else tuple(range(len(names)))

    def offered(self) -> wire.OfferedTable:
        return wire.OfferedTable(
            self.name.schema, self.name.name, tuple((c.name, c.type_name) for c in self.sent), self.key
        )

    def masking(self) -> str:
        """SQL over $1, an array of the row type: the place (from 1) and the masked columns of each visible row."""
        columns = ", ".join(quote_identifier(c.name) for c in self.columns)
        source = f"pg_catalog.unnest($1) with ordinality as t ({columns}, {_PLACE})"
        if any(c.generated for c in self.columns):
            computed = ", ".join(
                f"({c.generated}) as {quote_identifier(c.name)}" if c.generated else quote_identifier(c.name)
                for c in self.columns
            )
            source = f"(select {computed}, {_PLACE} from {source}) as t"
        shown = ", ".join([_PLACE, *self._masks()])
        return f"select {shown} from {source}{self._where()} order by {_PLACE}"

    def copying(self) -> str:
        """SQL: the masked columns of every visible row of the table."""
        return f"select {', '.join(self._masks())} from {self.name} as t{self._where()}"

    def _masks(self) -> list[str]:
        return [f"({c.mask})" for c in self.sent]

    def _where(self) -> str:
        return f" where ({self.rows})" if self.rows else ""


_PLACE = quote_identifier("domicile place")  # no application's column has such a name


def source_table(document: dict[str, Any]) -> SourceTable:
    """What one table of domicile.stream_offer's document says."""
    return SourceTable(
        QualifiedName(document["schema"], document["name"]),
        int(document["oid"]),
        int(document["row"]),
        int(document["row_array"]),
        tuple(
            SourceColumn(c["name"], c["type"], int(c["type_oid"]), c["generated"], c["mask"])
            for c in document["columns"]
        ),
        document["rows"],
        tuple(document["key"]),
    )


@dataclass(frozen=True, slots=True)
class RawChange:
    """A change as the log has it: whole images in clear. `table` counts from 0 as the offer does."""

    kind: wire.Kind
    table: int
    old: Row | None = None
    new: Row | None = None


class Images:
    """Makes PostgreSQL's binary array of a row type from row images: columns of `types`, in the row type's order."""

    __slots__ = ("_fields", "_nulls", "_row_oid", "_types")

    def __init__(self, row_oid: int, types: Sequence[int]) -> None:
        self._row_oid = row_oid
        self._types = tuple(struct.pack("!I", oid) for oid in types)
        self._nulls = tuple(_FIELD.pack(oid, -1) for oid in types)
        self._fields = _INT.pack(len(types))

    def record(self, row: Row) -> bytes:
        """One row, as record_recv takes it."""
        parts = [self._fields]
        for type_, null, value in zip(self._types, self._nulls, row, strict=True):
            if value is None:
                parts.append(null)
            else:
                parts.append(type_)
                parts.append(_INT.pack(len(value)))
                parts.append(value)
        return b"".join(parts)

    def array(self, images: Sequence[Row]) -> bytes:
        """The rows, as array_recv takes them."""
        parts = [_ARRAY_HEADER.pack(1, 0, self._row_oid, len(images), 1)]
        for image in images:
            record = self.record(image)
            parts.append(_INT.pack(len(record)))
            parts.append(record)
        return b"".join(parts)


class Transform:
    """Masks changes for one destination, over a connection of its own. Made by `open`."""

    def __init__(self, connection: Connection, tables: Sequence[SourceTable], version: int) -> None:
        self._connection = connection
        self._tables = tables
        self._images = [Images(t.row_oid, [c.type_oid for c in t.columns]) for t in tables]
        self._keys = [t.key_places for t in tables]
        self.version = version
        """Of the catalog that the masks were read from; set it anew once they are known to be the same."""

    @classmethod
    async def open(cls, connection: Connection, tables: Sequence[SourceTable], version: int) -> Transform:
        """A transform for the catalog's `version`. Raises DomicileError for a mask that does not compile."""
        await connection.execute(ACT_AS_VIEWS)
        await connection.prepare(b"version", "select pg_catalog.int8send(domicile.version())")
        for number, table in enumerate(tables):
            await connection.prepare(b"mask%d" % number, table.masking(), [table.row_array_oid])
        return cls(connection, tables, version)

    async def mask(self, raw: Sequence[RawChange]) -> list[wire.Change | None]:
        """For each change what the destination may see of it, None where that is nothing.

        A row that enters the filter is inserted, one that leaves it is deleted, and an update whose visible columns
        are the same bytes as before is nothing. One round trip. Raises OfferChanged where the catalog has moved on,
        DomicileError where a mask raises or the table is another by now: its words may hold values.
        """
        images: list[list[Row]] = [[] for _ in self._tables]
        for change in raw:
            for image in (change.old, change.new):
                if image is not None:
                    images[change.table].append(image)
        used = [n for n, rows_of in enumerate(images) if rows_of]
        flight = [Query(b"mask%d" % n, [self._images[n].array(images[n])]) for n in used]
        # The version is asked for last: masks that were used under an older one are thrown away.
        *results, version = await self._connection.flight([*flight, Query(b"version")])
        if int.from_bytes(version.get_value(0, 0) or b"", "big") != self.version:
            raise OfferChanged
        visible: list[dict[int, Row]] = [{} for _ in self._tables]
        for number, result in zip(used, results, strict=True):
            visible[number] = {int.from_bytes(r[0] or b"", "big"): r[1:] for r in rows(result)}
        places = [0] * len(self._tables)
        masked: list[wire.Change | None] = []
        for change in raw:
            seen = visible[change.table]
            old = new = None
            if change.old is not None:
                places[change.table] += 1
                old = seen.get(places[change.table])
            if change.new is not None:
                places[change.table] += 1
                new = seen.get(places[change.table])
            masked.append(_visible_change(change, old, new, self._keys[change.table]))
        return masked


ACT_AS_VIEWS = "set role domicile_views; set search_path = pg_catalog; set timezone = 'UTC'"
"""The role that may read what the border's views show; and no setting of this server's may change a mask."""


def _visible_change(change: RawChange, old: Row | None, new: Row | None, key: tuple[int, ...]) -> wire.Change | None:
    if change.kind is wire.Kind.TRUNCATE:
        return wire.Change(wire.Kind.TRUNCATE, change.table)
    if old is None and new is None:
        return None
    if old is None:
        return wire.Change(wire.Kind.INSERT, change.table, None, new)
    old_key = tuple([old[place] for place in key])
    if new is None:
        return wire.Change(wire.Kind.DELETE, change.table, old_key)
    if old == new:
        return None
    new_key = tuple([new[place] for place in key])
    return wire.Change(wire.Kind.UPDATE, change.table, old_key if old_key != new_key else None, new)


def raw_change(
    message: pgoutput.Insert | pgoutput.Update | pgoutput.Delete, number: int, table: SourceTable
) -> RawChange:
    """The change with whole images, unchanged TOAST filled in from the old row, generated columns NULL.

    Raises DomicileError, naming the table, where the log does not hold what that takes.
    """
    match message:
        case pgoutput.Insert(_, new):
            return RawChange(wire.Kind.INSERT, number, None, _image(table, new))
        case pgoutput.Delete(_, old, True):
            return RawChange(wire.Kind.DELETE, number, _image(table, old))
        case pgoutput.Update(_, old, new, True) if old is not None:
            filled = tuple([o if n is pgoutput.UNCHANGED else n for o, n in zip(old, new, strict=True)])
            return RawChange(wire.Kind.UPDATE, number, _image(table, old), _image(table, filled))
    raise without_identity(table)


def without_identity(table: SourceTable) -> DomicileError:
    return DomicileError(
        OBJECT_NOT_IN_PREREQUISITE_STATE,
        f"table {table.name} is copied and has not REPLICA IDENTITY FULL",
        "Without the old row nobody can tell what an update changed of what another region may see.",
        f"ALTER TABLE {table.name} REPLICA IDENTITY FULL;",
    )


def _image(table: SourceTable, values: pgoutput.Tuple) -> Row:
    image: list[bytes | None] = []
    for value in values:
        if value is None or isinstance(value, bytes):
            image.append(value)
        elif isinstance(value, pgoutput.Text):
            raise DomicileError(
                FEATURE_NOT_SUPPORTED,
                f"table {table.name} has a column whose type has no binary format, and can't be copied",
                hint="Leave the table out of the policy's copy option.",
            )
        else:
            raise without_identity(table)
    if len(image) != len(table.columns):
        stored = iter(image)
        return tuple([None if c.generated else next(stored) for c in table.columns])
    return tuple(image)
