"""The origin's log as changes of the tables that are copied: the slot, and what pgoutput says about them.

`Assembler` is pure: messages in, steps of transactions out. `Slots` makes, finds and drops the slot of a destination.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import tenacity

from ..catalog.errors import DomicileError
from ..catalog.names import quote_literal
from . import pgoutput, wire
from .core import Slot
from .lsn import Lsn
from .pgoutput import PgTime
from .postgres import Connection, ReplicationConnection
from .transform import OfferChanged, RawChange, SourceTable, raw_change, source_table, without_identity

BEAT_PREFIX = "domicile.beat"
SLOT_BUSY = "55006"
SLOT_PATIENCE_ATTEMPTS = 40
SLOT_PATIENCE_S = 0.25
"""How often and in what steps to wait for the WAL sender of a session that has just ended to let go of the slot."""


@dataclass(frozen=True, slots=True)
class SourceOffer:
    """What this region's policies copy to a destination, and the fingerprint by which a change of it is seen."""

    version: int
    tables: tuple[SourceTable, ...]
    fingerprint: str


def source_offer(document: dict[str, Any]) -> SourceOffer:
    """What domicile.stream_offer's document says."""
    digest = hashlib.sha256(json.dumps(document["tables"], sort_keys=True).encode()).hexdigest()
    return SourceOffer(int(document["version"]), tuple(map(source_table, document["tables"])), digest)


@dataclass(frozen=True, slots=True)
class Ended:
    """A transaction is whole. `position` is where its commit record ends."""

    position: Lsn
    committed_at: PgTime


@dataclass(frozen=True, slots=True)
class Beaten:
    """Our own heartbeat: all that was committed before `at` stands before it in the log."""

    position: Lsn
    at: PgTime


class Assembler:
    """From pgoutput's messages to what happened to the copied tables."""

    def __init__(self, tables: Sequence[SourceTable], token: str) -> None:
        """`token` is in our own heartbeats: any role may write a logical message, and only ours tell the time."""
        self._by_name = {(t.name.schema, t.name.name): (n, t) for n, t in enumerate(tables)}
        self._by_oid: dict[int, tuple[int, SourceTable] | None] = {}
        self._token = token.encode()
        self._beat: PgTime | None = None

    def step(self, message: pgoutput.Message) -> list[RawChange] | Ended | Beaten | None:
        """What the message means here; None where that is nothing.

        Raises OfferChanged for a table whose columns are not as they were offered, DomicileError naming a table that
        the log does not describe well enough.
        """
        match message:
            case pgoutput.Insert() | pgoutput.Update() | pgoutput.Delete():
                known = self._by_oid.get(message.relation)
                return None if known is None else [raw_change(message, *known)]
            case pgoutput.Commit(_, end, at):
                if self._beat is not None:  # before PostgreSQL 17 a heartbeat is a transaction of its own
                    beat, self._beat = self._beat, None
                    return Beaten(end, beat)
                return Ended(end, at)
            case pgoutput.LogicalMessage(transactional, position, prefix, content) if prefix == BEAT_PREFIX:
                token, _, time = content.partition(b" ")
                if token != self._token:
                    return None
                if transactional:
                    self._beat = PgTime(int(time))
                    return None
                return Beaten(position, PgTime(int(time)))
            case pgoutput.Relation():
                self._by_oid[message.oid] = self._known(message)
            case pgoutput.Truncate(relations):
                known_ones = [k for k in map(self._by_oid.get, relations) if k is not None]
                return [RawChange(wire.Kind.TRUNCATE, number) for number, _ in known_ones]
        return None

    def _known(self, relation: pgoutput.Relation) -> tuple[int, SourceTable] | None:
        known = self._by_name.get((relation.schema, relation.name))
        if known is None:
            return None
        table = known[1]
        there = [(c.name, c.type_oid) for c in relation.columns]
        all_columns = [(c.name, c.type_oid) for c in table.columns]
        stored = [(c.name, c.type_oid) for c in table.columns if not c.generated]
        # From 18 on generated columns can be in the log, and with REPLICA IDENTITY FULL must be.
        if relation.oid != table.oid or there not in (all_columns, stored):
            raise OfferChanged
        if relation.identity != "f":
            raise without_identity(table)
        return known


class Slots:
    """The slot that feeds one destination. `control` is this region's own connection, used by one task at a time."""

    def __init__(self, control: Connection, destination: str) -> None:
        self._control = control
        self._destination = destination
        self.name = ""  #: of the slot and of the publication; known after the first call of any method

    async def offer(self) -> SourceOffer:
        """What the policies copy to the destination now."""
        text = await self._control.value(f"select domicile.stream_offer({quote_literal(self._destination)})")
        return source_offer(json.loads(text or "{}"))

    async def find(self, offer: SourceOffer) -> Slot | None:
        """The slot, if there is one that serves this offer and has lost nothing."""
        await self._named()
        found = await self._control.execute(
            "select s.copy, r.confirmed_flush_lsn, pg_current_wal_insert_lsn()"
            " from domicile.subscription s join pg_replication_slots r on r.slot_name = s.slot"
            " and r.database = current_database() and r.wal_status <> 'lost' and r.confirmed_flush_lsn is not null"
            f" where s.destination = {quote_literal(self._destination)}"
            f" and s.fingerprint = {quote_literal(offer.fingerprint)}"
        )
        if not found:
            return None
        copy, confirmed, end = (cell.decode() for cell in found[0] if cell is not None)
        return Slot(copy, Lsn.parse(confirmed), Lsn.parse(end))

    async def make(self, replication: ReplicationConnection, offer: SourceOffer, copy: str) -> tuple[Lsn, str]:
        """Makes the slot anew: where its stream begins, and the snapshot that shows all before that.

        The snapshot is there until `replication` is used again.
        """
        await self.drop()
        await self._control.execute(f"select domicile.stream_publish({quote_literal(self._destination)})")
        made = await replication.execute(
            f"CREATE_REPLICATION_SLOT \"{self.name}\" LOGICAL pgoutput (SNAPSHOT 'export')"
        )
        _, position, snapshot, _ = (cell.decode() for cell in made[0] if cell is not None)
        values = (self._destination, self.name, copy, offer.fingerprint)
        await self._control.execute(
            "insert into domicile.subscription (destination, slot, copy, fingerprint, version, state)"
            f" values ({', '.join(map(quote_literal, values))}, {offer.version}, 'copying')"
        )
        return Lsn.parse(position), snapshot

    async def drop(self, attempts: int = SLOT_PATIENCE_ATTEMPTS) -> None:
        """Drops slot, publication and subscription; nothing where there are none.

        Raises DomicileError 55006 where the slot is still being read after so many attempts.
        """
        await self._named()
        async for attempt in _while_busy(attempts):
            with attempt:
                await self._control.execute(
                    "select pg_drop_replication_slot(slot_name) from pg_replication_slots"
                    f" where slot_name = {quote_literal(self.name)} and database = current_database()"
                )
        await self._control.execute(f"select domicile.stream_unpublish({quote_literal(self._destination)})")

    async def start(self, replication: ReplicationConnection, position: Lsn) -> None:
        """Starts the stream at `position`, once the WAL sender of an earlier session has let go of the slot."""
        await self._named()
        async for attempt in _while_busy():
            with attempt:
                await replication.start(self.name, self.name, position)
        await self.note("streaming")

    async def note(self, state: str, reason: str | None = None) -> None:
        """Writes into domicile.subscription how it stands; nothing where there is no subscription."""
        words = "null" if reason is None else quote_literal(reason)
        await self._control.execute(
            f"update domicile.subscription set state = {quote_literal(state)}, reason = {words}, since ="
            f" clock_timestamp() where destination = {quote_literal(self._destination)}"
            f" and (state, reason) is distinct from ({quote_literal(state)}, {words})"
        )

    async def _named(self) -> None:
        if not self.name:
            name = await self._control.value(f"select domicile.stream_slot({quote_literal(self._destination)})")
            self.name = name or ""


def _while_busy(attempts: int = SLOT_PATIENCE_ATTEMPTS) -> tenacity.AsyncRetrying:
    return tenacity.AsyncRetrying(
        retry=tenacity.retry_if_exception(lambda e: isinstance(e, DomicileError) and e.sqlstate == SLOT_BUSY),
        wait=tenacity.wait_fixed(SLOT_PATIENCE_S),
        stop=tenacity.stop_after_attempt(attempts),
        reraise=True,
    )
