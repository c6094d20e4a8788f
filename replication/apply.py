"""The destination's end in the database: whole transactions and the progress row, in one transaction.

A batch is folded to its net effect and goes to PostgreSQL in one flight, as arrays of the copy table's row type. The
progress row is changed only from the position where this process left it: a second agent at work, or a copy that
was withdrawn meanwhile, changes nothing and is told.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ..catalog.names import quote_identifier, quote_literal
from . import wire
from .core import Work
from .fold import fold
from .lsn import Lsn
from .postgres import FLIGHT_QUERIES_MAX, Connection, Query, Row
from .transform import Images

_NUMBER = struct.Struct("!q")  # bigint, and timestamptz as PostgreSQL counts
_TEXT, _BIGINT, _TIMESTAMPTZ = 25, 20, 1184
_OWN_STATEMENTS = (
    (b"begin", "begin", ()),
    (b"commit", "commit", ()),
    (b"end", "select domicile.copy_end($1)", (_TEXT,)),
    (
        b"progress",
        "select domicile.copy_progress($1, $2, $3, $4, $5, $6, $7)",
        (_TEXT, _TEXT, _BIGINT, _BIGINT, _BIGINT, _TIMESTAMPTZ, _TIMESTAMPTZ),
    ),
)


@dataclass(frozen=True, slots=True)
class CopyTable:
    """A table of schema abroad, made for an offered one. Numbered as the offer numbers."""

    schema: str
    name: str
    columns: tuple[str, ...]  #: all, the origin's column first
    sent: tuple[str, ...]
    key: tuple[str, ...]
    places: tuple[int | None, ...]  #: for each column after the origin's where in a sent row it is; None: withheld
    images: Images

    def image(self, row: Row, origin: bytes) -> Row:
        """The row of this table that a sent row is. Raises WireError where it has not the offered columns."""
        if len(row) != len(self.sent):
            raise wire.WireError(f"a row of {len(row)} columns, where {len(self.sent)} were offered")
        return (origin, *[None if place is None else row[place] for place in self.places])

    def image_of_key(self, key: Row) -> Row:
        """A row of this table of which only the key is set."""
        if len(key) != len(self.key):
            raise wire.WireError(f"a key of {len(key)} columns, where {len(self.key)} were offered")
        values = dict(zip(self.key, key, strict=True))
        return tuple([values.get(name) for name in self.columns])

    @property
    def key_places(self) -> tuple[int, ...] | None:
        """Where in a sent row the key is; None where the table is kept without one."""
        return tuple(map(self.sent.index, self.key)) if self.key else None

    def statements(self) -> dict[str, str]:
        """By what they do: $1 is an array of the row type (for `fewer` one row), $2 the origin."""
        target = f"{quote_identifier(self.schema)}.{quote_identifier(self.name)}"
        origin = quote_identifier(self.columns[0])
        names = ", ".join(map(quote_identifier, self.columns))
        rest = [quote_identifier(c) for c in self.columns[1:] if c not in self.key]
        put = f"insert into {target} ({names}) select {names} from pg_catalog.unnest($1)"
        if self.key:
            key = ", ".join([origin, *map(quote_identifier, self.key)])
            update = ", ".join(f"{c} = excluded.{c}" for c in rest)
            put += f" on conflict ({key}) do " + (f"update set {update}" if rest else "nothing")
        same = " and ".join(f"c.{quote_identifier(k)} = d.{quote_identifier(k)}" for k in self.key)
        statements = {"put": put, "empty": f"delete from {target} where {origin} = $1"}
        if self.key:
            statements["delete"] = (
                f"delete from {target} c using pg_catalog.unnest($1) d where c.{origin} = $2 and {same}"
            )
        else:
            # The rows' own bytes are compared: a type need not have an equality.
            statements["fewer"] = (
                f"delete from {target} where ctid = any (array(select c.ctid from {target} c"
                f" where c.{origin} = $2 and c *= $1 limit $3))"
            )
        return statements


class Applier:
    """The copies of one origin in this region's PostgreSQL. Uses `connection` alone."""

    def __init__(self, connection: Connection, origin: str) -> None:
        self._connection = connection
        self._origin = origin
        self._tables: list[CopyTable] = []
        self._copy = ""
        self._position: Lsn | None = None  #: durable
        self._open = False  #: a transaction of the database is

    async def standing(self) -> tuple[str | None, Lsn | None]:
        """The copy that is held of the origin and its position; None where there is none."""
        await self._connection.execute(
            "set search_path = pg_catalog;"
            # An acknowledged transaction must be durable, whatever this server's default is.
            " select set_config('synchronous_commit', 'on', false)"
            " where current_setting('synchronous_commit') = 'off'"
        )
        found = await self._connection.execute(
            f"select copy, lsn from domicile.progress where origin = {quote_literal(self._origin)}"
        )
        copy, lsn = found[0] if found else (None, None)
        if copy is None or lsn is None:
            return None, None
        return copy.decode(), Lsn.parse(lsn.decode())

    async def prepare(self, offer: wire.Offer, position: Lsn | None) -> None:
        """Makes what the offer needs; unless it resumes at `position`, withdraws what was held of the origin.

        Raises DomicileError, naming table and columns, where the offer does not fit the tables that are here.
        """
        tables = json.dumps(
            [{"schema": t.schema, "name": t.name, "columns": t.columns, "key": t.key} for t in offer.tables]
        )
        if not offer.resume:
            # In a transaction of its own: what is no longer offered goes, even if what is offered does not fit.
            await self._connection.execute(f"select domicile.copy_withdraw({quote_literal(self._origin)})")
        text = await self._connection.value(
            f"select domicile.copy_begin({quote_literal(self._origin)}, {quote_literal(offer.copy)},"
            f" {offer.resume}, {quote_literal(tables)})"
        )
        self._copy = offer.copy
        self._position = position
        made = json.loads(text or "[]")
        self._tables = [copy_table(o, m) for o, m in zip(offer.tables, made, strict=True)]
        for number, (table, document) in enumerate(zip(self._tables, made, strict=True)):
            array, row = int(document["row_array"]), int(document["row"])
            types = {"put": [array], "delete": [array, _TEXT], "empty": [_TEXT], "fewer": [row, _TEXT, _BIGINT]}
            for what, sql in table.statements().items():
                await self._connection.prepare(named(what, number), sql, types[what])
        for name, sql, parameters in _OWN_STATEMENTS:
            await self._connection.prepare(name, sql, parameters)
        if position is not None:
            await self._connection.execute(
                "update domicile.progress set state = 'streaming', reason = null"
                f" where origin = {quote_literal(self._origin)}"
            )

    async def apply(self, work: Sequence[Work]) -> Lsn:
        """Applies the work in order and returns what is durable after it.

        What a Commit, Beat or Copied ends is committed together with the progress; the changes of a last transaction
        that is not whole yet stay in an open one. Raises DomicileError: then nothing of this batch is durable, and
        the connection is to be closed.
        """
        last = max((n for n, item in enumerate(work) if not isinstance(item, wire.Changes)), default=-1)
        whole, begun = work[: last + 1], work[last + 1 :]
        if whole:
            await self._commit(whole)
        if begun:
            await self._send(self._queries(begun))
        return self._position or Lsn(0)

    async def _commit(self, work: Sequence[Work]) -> None:
        ends = [item for item in work if not isinstance(item, wire.Changes)]
        commits = [e for e in ends if isinstance(e, wire.Commit)]
        tells_time = [e for e in ends if isinstance(e, wire.Beat | wire.Copied)]
        position = ends[-1].position
        queries = self._queries(work)
        if any(isinstance(e, wire.Copied) for e in ends):
            queries.append(Query(b"end", [self._origin.encode()]))
        progress = [
            self._origin.encode(),
            self._copy.encode(),
            None if self._position is None else _NUMBER.pack(self._position),
            _NUMBER.pack(position),
            _NUMBER.pack(len(commits)),
            _NUMBER.pack(commits[-1].committed_at) if commits else None,
            _NUMBER.pack(tells_time[-1].at) if tells_time else None,
        ]
        await self._send([*queries, Query(b"progress", progress), Query(b"commit")])
        self._open = False
        self._position = position

    def _queries(self, work: Sequence[Work]) -> list[Query]:
        changes = (change for item in work if isinstance(item, wire.Changes) for change in item.changes)
        nets = fold(changes, [t.key_places for t in self._tables])
        origin = self._origin.encode()
        queries: list[Query] = []
        for number, net in nets.items():
            table = self._tables[number]
            if net.emptied:
                queries.append(Query(named("empty", number), [origin]))
            if keys := net.deleted_keys:
                array = table.images.array([table.image_of_key(key) for key in keys])
                queries.append(Query(named("delete", number), [array, origin]))
            for row, count in net.fewer.items():
                record = table.images.record(table.image(row, origin))
                queries.append(Query(named("fewer", number), [record, origin, _NUMBER.pack(count)]))
            if puts := net.puts:
                array = table.images.array([table.image(row, origin) for row in puts])
                queries.append(Query(named("put", number), [array]))
        return queries

    async def _send(self, queries: list[Query]) -> None:
        if not self._open:
            queries.insert(0, Query(b"begin"))
            self._open = True
        for start in range(0, len(queries), FLIGHT_QUERIES_MAX):
            await self._connection.flight(queries[start : start + FLIGHT_QUERIES_MAX])


def named(what: str, table: int) -> bytes:
    """The prepared statement's name."""
    return f"{what}{table}".encode()


def copy_table(offered: wire.OfferedTable, made: dict[str, Any]) -> CopyTable:
    """The table that domicile.copy_begin has made for an offered one."""
    columns = tuple(name for name, _ in made["columns"])
    sent = tuple(name for name, _ in offered.columns)
    places = {name: place for place, name in enumerate(sent)}
    return CopyTable(
        made["schema"],
        made["name"],
        columns,
        sent,
        offered.key,
        tuple(places.get(name) for name in columns[1:]),
        Images(int(made["row"]), [int(oid) for _, oid in made["columns"]]),
    )


async def note_failure(connection: Connection, origin: str, reason: str) -> None:
    """Writes into domicile.progress that the copy of the origin can't go on, and why."""
    await connection.execute(
        "insert into domicile.progress as p (origin, state, reason)"
        f" values ({quote_literal(origin)}, 'failed', {quote_literal(reason)})"
        " on conflict (origin) do update set state = excluded.state, reason = excluded.reason"
    )
