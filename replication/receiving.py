"""The destination's end of a session: performs what `core.Receiver` decides, on the link and the database."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from dataclasses import replace

import psycopg

from ..catalog.errors import PROTOCOL_VIOLATION, RETRYABLE, DomicileError
from . import core, wire
from .apply import Applier, note_failure
from .link import Link
from .lsn import LSN_NONE
from .postgres import Connection
from .sending import CHANGED, FAILURES, TICK_S, SessionEnded, first_error

_log = logging.getLogger("domicile.replication")


class Receiving:
    """One session with one origin, whose certificate has been checked. Done by `run`."""

    def __init__(self, conninfo: str, link: Link, region: str, origin: str) -> None:
        self._conninfo = conninfo
        self._link = link
        now = asyncio.get_running_loop().time()
        self._state = core.Receiver(region, origin, None, None, heard_at=now, said_at=now)
        self._work: asyncio.Queue[wire.Offer | tuple[core.Work, ...]] = asyncio.Queue(1)  # the core waits for each
        self._room = asyncio.Event()
        self._tasks = asyncio.TaskGroup()
        self.progressed = False
        """Whether the copy has moved in this session: then whatever ended it, to call again at once is right."""

    async def run(self) -> None:
        """Takes what the origin sends until the session ends, however that is. Closes all that it was given.

        What a DBA must mend stands in domicile.progress by then.
        """
        connection = None
        try:
            connection = await Connection.connect(
                self._conninfo, application_name=f"domicile from {self._state.origin}"
            )
            applier = Applier(connection, self._state.origin)
            copy, position = await applier.standing()
            self._state = replace(self._state, copy=copy, position=position)
            async with self._tasks:
                self._handle(core.Opened())
                self._tasks.create_task(self._listen())
                self._tasks.create_task(self._tick())
                self._tasks.create_task(self._apply(applier))
        except* SessionEnded:
            pass
        except* FAILURES as group:
            await self._tell(first_error(group))
        finally:
            if connection is not None:
                connection.close()
            await self._link.close()

    async def _listen(self) -> None:
        async for frame, size in self._link.frames():
            self._handle(core.Received(frame, size))
            while self._state.full:
                self._room.clear()
                await self._room.wait()

    async def _tick(self) -> None:
        while True:
            await asyncio.sleep(TICK_S)
            self._handle(core.Tick())

    async def _apply(self, applier: Applier) -> None:
        while True:
            work = await self._work.get()
            if isinstance(work, wire.Offer):
                await applier.prepare(work, self._state.position)
                self._handle(core.Prepared())
                continue
            position = await applier.apply(work)
            self.progressed |= position > (self._state.position or LSN_NONE)
            self._handle(core.Applied(position))
            self._room.set()

    def _handle(self, event: core.Event) -> None:
        self._state, effects = self._state.step(event, asyncio.get_running_loop().time())
        for effect in effects:
            match effect:
                case core.Send(frame):
                    self._link.send(frame)
                case core.Prepare(offer):
                    self._work.put_nowait(offer)
                case core.Apply(work):
                    self._work.put_nowait(work)
                case core.Close(reason, heard):
                    if reason is not None:
                        self._link.send(reason)
                    _log.info("session with %s ended: %s", self._state.origin, reason or heard)
                    if heard is not None and heard != CHANGED:
                        raise DomicileError(heard.sqlstate, f"region {self._state.origin}: {heard.message}")
                    raise SessionEnded

    async def _tell(self, error: BaseException) -> None:
        """Says that it failed: all of it here, and to the origin no words that could hold a row."""
        _log.warning("session with %s failed: %s", self._state.origin, error)
        state = error.sqlstate if isinstance(error, DomicileError) else PROTOCOL_VIOLATION
        lost = isinstance(error, OSError | psycopg.Error) or state in RETRYABLE
        with contextlib.suppress(*FAILURES):
            self._link.send(
                wire.Refuse(
                    state,
                    f"region {self._state.region} can't take the copy",
                    "There, select * from domicile.freshness says why.",
                )
            )
        if lost:  # it will be tried again, and age says the rest
            return
        with contextlib.suppress(*FAILURES):
            connection = await Connection.connect(self._conninfo)
            try:
                await note_failure(connection, self._state.origin, str(error))
            finally:
                connection.close()
