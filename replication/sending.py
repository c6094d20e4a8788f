"""The origin's end of a session: performs what `core.Sender` decides, on the link, the log and the database."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Sequence
from typing import TypeVar

import psycopg

from ..catalog.errors import DomicileError
from . import core, pgoutput, snapshot, wire
from .ledger import Ledger
from .link import Link
from .lsn import Lsn
from .pgoutput import PgTime
from .postgres import Connection, ReplicationConnection
from .source import Assembler, Beaten, Ended, Slots, SourceOffer
from .transform import OfferChanged, RawChange, Transform

READ_BYTES_MAX = 1 << 20  #: of log that is masked in one round trip
TICK_S = 1.0
POSTGRES_EPOCH_S = 946_684_800  #: 2000-01-01 in Unix time

CHANGED = wire.Refuse("55000", "what is copied has changed; call again")

_log = logging.getLogger("domicile.replication")

Step = list[RawChange] | Ended | Beaten
C = TypeVar("C", bound=Connection)

FAILURES = (DomicileError, wire.WireError, pgoutput.PgOutputError, psycopg.Error, OSError)
"""What a session may end with; anything else is a fault of ours, and is raised."""


class SessionEnded(Exception):
    """The core has closed the session."""


class Sending:
    """One session with one destination, whose certificate has been checked. Made by `open`, done by `run`."""

    def __init__(
        self,
        conninfo: str,
        link: Link,
        control: Connection,
        slots: Slots,
        offer: SourceOffer,
        state: core.Sender,
        token: str,
        ledger: Ledger,
    ) -> None:
        self._conninfo = conninfo
        self._link = link
        self._control = control
        self._slots = slots
        self._offer = offer
        self._state = state
        self._token = token
        self._ledger = ledger
        self._replication: ReplicationConnection | None = None
        self._log_is_read = False
        self._connections: list[Connection] = [control]
        self._tasks = asyncio.TaskGroup()

    @classmethod
    async def open(
        cls, conninfo: str, link: Link, region: str, destination: str, *, token: str, new_copy: str, ledger: Ledger
    ) -> Sending:
        """A session that offers what the policies of `region` copy to `destination` now.

        `token` is in this agent's heartbeats, `new_copy` names the copy that the session makes if it must, `ledger`
        counts what is sent.
        """
        control = await Connection.connect(conninfo, application_name=f"domicile to {destination}")
        try:
            await control.execute("set search_path = pg_catalog")
            slots = Slots(control, destination)
            offer = await slots.offer()
            now = asyncio.get_running_loop().time()
            state = core.Sender(
                region,
                destination,
                offer.version,
                tuple(t.offered() for t in offer.tables),
                new_copy,
                await slots.find(offer) if offer.tables else None,
                heard_at=now,
                said_at=now,
            )
        except BaseException:
            control.close()
            raise
        return cls(conninfo, link, control, slots, offer, state, token, ledger)

    async def run(self) -> None:
        """Serves the destination until the session ends, however that is. Closes all that it has opened."""
        try:
            async with self._tasks:
                self._tasks.create_task(self._listen())
                self._tasks.create_task(self._tick())
        except* SessionEnded:
            pass
        except* FAILURES as group:
            await self._tell(first_error(group))
        finally:
            for connection in self._connections:
                connection.close()
            await self._link.close()

    def offered(self, offer: SourceOffer) -> None:
        """The policies copy this now: ends the session where that is not what it has offered."""
        if offer.fingerprint != self._offer.fingerprint:
            with contextlib.suppress(SessionEnded):
                self._handle(core.Failed(CHANGED))

    # --- what arrives, and time

    async def _listen(self) -> None:
        async for frame, size in self._link.frames():
            self._handle(core.Received(frame, size))

    async def _tick(self) -> None:
        while True:
            await asyncio.sleep(TICK_S)
            self._handle(core.Tick())
            # The WAL sender ends a connection that it does not hear of (wal_sender_timeout).
            self._confirm()

    # --- what the core wants

    def _handle(self, event: core.Event) -> None:
        self._state, effects = self._state.step(event, asyncio.get_running_loop().time())
        for effect in effects:
            match effect:
                case core.Send(frame):
                    self._link.send(frame)
                case core.Confirm():
                    self._confirm()
                case core.StartCopy():
                    self._tasks.create_task(self._copy())
                case core.StartStream(position):
                    self._tasks.create_task(self._stream(position))
                case core.Close(reason, heard):
                    if reason is not None:
                        self._link.send(reason)
                    said = reason or heard
                    _log.info("session with %s ended: %s", self._state.destination, said)
                    raise SessionEnded

    def _confirm(self) -> None:
        # Before the log is read, what was acknowledged is where reading begins.
        if self._log_is_read and self._replication is not None:
            self._replication.confirm(self._state.confirmed, _now())

    async def _produce(self, frame: wire.Changes | wire.Commit | wire.Beat | wire.Copied) -> None:
        if isinstance(frame, wire.Changes) and self._state.offer is not None:
            self._ledger.count(self._state.offer, self._state.destination, frame.changes)
        self._handle(core.Produced(frame))
        await self._link.drain()

    # --- the first copy

    async def _copy(self) -> None:
        if not self._offer.tables:
            # Nothing to send, so no slot that could hold the log back; the session waits for a policy.
            await self._slots.drop()
            await self._produce(wire.Copied(await self._log_end(), await self._clock()))
            return
        self._replication = await self._connect(ReplicationConnection)
        begun = await self._clock()
        position, exported = await self._slots.make(self._replication, self._offer, self._state.new_copy)
        reader = await self._connect(Connection)
        async for changes in snapshot.copy(reader, exported, self._offer.tables):
            await self._produce(changes)
        reader.close()
        await self._produce(wire.Copied(position, begun))

    # --- the stream

    async def _stream(self, position: Lsn) -> None:
        if not self._offer.tables:
            return
        if self._replication is None:
            self._replication = await self._connect(ReplicationConnection)
        replication = self._replication
        transform = await Transform.open(await self._connect(Connection), self._offer.tables, self._offer.version)
        await self._slots.start(replication, position)
        self._log_is_read = True
        assembler = Assembler(self._offer.tables, self._token)
        while True:
            steps: list[Step] = []
            try:
                for frame in await replication.read(READ_BYTES_MAX):
                    if isinstance(frame, pgoutput.XLogData):
                        step = assembler.step(pgoutput.decode(frame.payload))
                        if step is not None:
                            steps.append(step)
                    elif frame.reply_wanted:
                        self._confirm()
                masked = await self._mask(transform, [c for s in steps if isinstance(s, list) for c in s])
            except OfferChanged:
                self._handle(core.Failed(CHANGED))
                return
            await self._ship(steps, masked)

    async def _mask(self, transform: Transform, raw: Sequence[RawChange]) -> list[wire.Change | None]:
        if not raw:
            return []
        try:
            return await transform.mask(raw)
        except (OfferChanged, DomicileError) as e:
            offer = await self._slots.offer()
            if offer.fingerprint != self._offer.fingerprint:
                raise OfferChanged from e
            if isinstance(e, DomicileError):
                raise
        # Another change of the catalog than one of this offer: the masks are the same.
        transform.version = offer.version
        return await transform.mask(raw)

    async def _ship(self, steps: Sequence[Step], masked: Sequence[wire.Change | None]) -> None:
        changes = iter(masked)
        batch: list[wire.Change] = []
        size = 0
        for step in steps:
            if isinstance(step, list):
                for change in [next(changes) for _ in step]:
                    if change is None:
                        continue
                    batch.append(change)
                    size += sum(wire.row_bytes(row) for row in (change.old, change.new) if row is not None)
                if size < wire.CHANGES_BYTES_GOAL:
                    continue
            if batch:
                await self._produce(wire.Changes(tuple(batch)))
                batch, size = [], 0
            # A transaction of which the destination may see nothing is not even mentioned.
            if isinstance(step, Ended) and self._state.in_transaction:
                await self._produce(wire.Commit(step.position, step.committed_at))
            elif isinstance(step, Beaten):
                await self._produce(wire.Beat(step.position, step.at))
        if batch:
            await self._produce(wire.Changes(tuple(batch)))

    # --- the rest

    async def _connect(self, kind: type[C]) -> C:
        connection = await kind.connect(self._conninfo, application_name=f"domicile to {self._state.destination}")
        self._connections.append(connection)
        return connection

    async def _clock(self) -> PgTime:
        text = await self._control.value(
            "select (extract(epoch from clock_timestamp() - timestamptz '2000-01-01 00:00+00') * 1000000)::bigint"
        )
        return PgTime(int(text or 0))

    async def _log_end(self) -> Lsn:
        return Lsn.parse(await self._control.value("select pg_current_wal_insert_lsn()") or "")

    async def _tell(self, error: BaseException) -> None:
        """Says that it failed: all of it here, and to the destination no words that could hold a row."""
        state = error.sqlstate if isinstance(error, DomicileError) else "XX000"
        _log.warning("session with %s failed: %s", self._state.destination, error)
        if isinstance(error, DomicileError) and not error.retryable:
            with contextlib.suppress(*FAILURES):
                await self._slots.note("failed", str(error))
        with contextlib.suppress(*FAILURES):
            self._link.send(
                wire.Refuse(
                    state,
                    f"region {self._state.region} can't go on with the copy",
                    "There, select * from domicile.sending says why; here it is tried again.",
                )
            )


def first_error(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """The first that is no group itself: the others are its consequences."""
    error: BaseException = group
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


def _now() -> PgTime:
    return PgTime(int((time.time() - POSTGRES_EPOCH_S) * 1_000_000))
