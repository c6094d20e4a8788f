"""A session's transaction, which may have a part in several regions. The gateway owns its status.

BEGIN is answered at once; a region's part is opened at its first touch: the session's settings, BEGIN with its
options and the savepoints so far travel in the statement's own flight. An error in any part fails them all.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from ..catalog.errors import (
    FEATURE_NOT_SUPPORTED,
    INTERNAL_ERROR,
    TRANSACTION_RESOLUTION_UNKNOWN,
    DomicileError,
)
from ..catalog.names import RegionName, quote_identifier, quote_literal
from . import settings as guc
from .backend import Backend, Exchange, Flight


class Coordinator(Protocol):
    """The home region's record of transactions over several regions."""

    async def begin(self, regions: Sequence[RegionName]) -> str:
        """A name for the transaction, noted durably before any region prepares."""

    def end(self, gid: str) -> None:
        """Every region has done what the verdict says."""


class ServerError(Exception):
    """A region's own ErrorResponse, passed through as the bytes that came."""

    def __init__(self, raw: bytes) -> None:
        super().__init__(raw)
        self.raw = raw


DRAIN_S = 0.5
DRAINS_MAX = 10
"""How long, and how often, a statement whose client is gone is cancelled before its connection is given up."""


@dataclass(slots=True)
class Part:
    """One region's part. `settings_before` is what is in force there again after a rollback."""

    backend: Backend
    begun: bool = False
    settings_before: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Local:
    """What holds until the transaction's end: the client's text, and what other regions get instead, if anything."""

    text: str
    abroad: str | None = None


@dataclass(slots=True)
class Savepoint:
    name: str
    settings: dict[str, str]
    local: int  #: how many SET LOCAL there were


class Transaction:
    """`status` is what ReadyForQuery tells the client: 'I', 'T' or 'E'. `implicit` is a transaction of several
    statements before one Sync or in one Query, which the client does not see."""

    def __init__(
        self,
        home: RegionName,
        take: Callable[[RegionName], Awaitable[Backend]],
        give: Callable[[Backend], None],
        coordinator: Coordinator,
    ) -> None:
        self.home = home
        self.coordinator = coordinator
        self.status = "I"
        self.implicit = False
        self.settings: dict[str, str] = {}  #: by lower-case name, canonical value
        self.local: list[Local] = []  #: SET LOCAL and SET TRANSACTION so far in this transaction
        self.parts: dict[RegionName, Part] = {}
        self.wrote: list[RegionName] = []
        self.pinned: Backend | None = None
        self.role_set = False  #: SET ROLE is in force, at home
        self._take = take
        self._give = give
        self._begin = "BEGIN"
        self._savepoints: list[Savepoint] = []
        self._settings_at_begin: dict[str, str] = {}

    @property
    def open(self) -> bool:
        """Whether statements belong to a transaction of several statements."""
        return self.status != "I" or self.implicit

    @property
    def begun_with(self) -> str:
        """The text that opened it, with its modes."""
        return self._begin

    # --- a statement's backend -----------------------------------------------------------------------------------

    async def use(self, region: RegionName, *, writes: bool = False) -> Backend:
        """A backend of the region for one flight: the transaction's part there, or one from the pool."""
        if self.role_set and region != self.home:
            raise DomicileError(
                FEATURE_NOT_SUPPORTED,
                f"region {region} can't be used while SET ROLE is in force",
                hint="RESET ROLE, or log in as that role.",
            )
        part = self.parts.get(region)
        if part is None:
            backend = self.pinned if region == self.home and self.pinned is not None else await self._take(region)
            part = Part(backend)
            self.parts[region] = part
        if writes and region not in self.wrote:
            self.wrote.append(region)
        return part.backend

    def wrote_nothing(self, region: RegionName) -> None:
        """What was taken for a write there had no row to write: the region need not prepare for it."""
        if region in self.wrote:
            self.wrote.remove(region)

    def prefix(self, backend: Backend) -> Flight:
        """A flight that begins with what the backend still lacks of the session's state."""
        flight = Flight()
        part = self.parts[backend.region]
        wanted = self.settings if backend.region == self.home else guc.abroad(self.settings)
        if not part.begun:
            part.settings_before = dict(backend.settings)
        for command in guc.difference(backend.settings, wanted):
            flight.command(command)
        backend.settings = dict(wanted)
        if self.open and not part.begun:
            flight.command(self._begin)
            for local in self.local:
                text = local.text if backend.region == self.home else local.abroad
                if text is not None:
                    flight.command(text)
            for savepoint in self._savepoints:
                flight.command(f"SAVEPOINT {quote_identifier(savepoint.name)}")
        part.begun = True
        return flight

    def landed(self, backend: Backend, failed: bool) -> None:
        """After a flight: outside a transaction the backend goes back to its pool."""
        part = self.parts.get(backend.region)
        if part is None or part.backend is not backend:
            return
        if not self.open:
            if failed:
                backend.settings = part.settings_before
            del self.parts[backend.region]
            self._return(backend)
            self.wrote.clear()
        elif failed and backend.status == "I":
            # The flight failed before its BEGIN took hold.
            backend.settings = part.settings_before
            part.begun = False

    def _return(self, backend: Backend) -> None:
        if backend is not self.pinned:
            self._give(backend)

    async def set_local(self, local: Local) -> None:
        """Notes what the home part has done already, for parts to come, and does it in the other parts."""
        if not self.open:
            return
        if local.abroad is not None:
            begun = [part for region, part in self.parts.items() if region != self.home and part.begun]
            await self._all_take(begun, local.abroad)
        self.local.append(local)

    # --- its ends ------------------------------------------------------------------------------------------------

    def begin(self, text: str, *, implicit: bool = False) -> None:
        """Opens it, at no region yet. An implicit one becomes the client's own by BEGIN."""
        if not self.open:
            self._settings_at_begin = dict(self.settings)
        if not self.parts:
            self._begin = text
        self.implicit = implicit
        self.status = "I" if implicit else "T"

    def fail(self) -> None:
        """A statement failed: the client's transaction waits for ROLLBACK; an implicit one is rolled back by
        `rollback`."""
        if self.status == "T":
            self.status = "E"

    async def commit(self) -> None:
        """Commits every part, all or none. Raises ServerError where PostgreSQL refuses, DomicileError where a region is
        lost: nothing is committed then, but for 08007, which says that this is not known."""
        if len(self.wrote) > 1:
            await self._commit_several()
        else:
            await self._commit_one()
        for part in self.parts.values():
            self._return(part.backend)
        self._over()

    async def _commit_one(self) -> None:
        # The part that wrote goes first: it alone can refuse, and then the others have nothing to keep.
        for region in sorted(self.parts, key=lambda region: region not in self.wrote):
            part = self.parts[region]
            if not part.begun:
                continue
            try:
                exchange = await self._command(part, "COMMIT")
            except DomicileError as lost:
                wrote = region in self.wrote
                await self.rollback()
                if wrote:
                    raise _unknown(region, lost) from None
                raise
            if exchange.error is not None:
                await self.rollback()
                raise ServerError(exchange.error)

    async def _commit_several(self) -> None:
        """Two-phase commit. The home region's part never prepares: its plain COMMIT, with the verdict in it, decides
        (the "last agent" of the literature). What a crash leaves is finished by `recovery.py`."""
        home = self.home
        foreign = [region for region in self.wrote if region != home]
        if home not in self.parts:
            await self.use(home)
        gid = await self.coordinator.begin(foreign)
        try:
            await self._all_take(
                [self.parts[region] for region in foreign], f"PREPARE TRANSACTION {quote_literal(gid)}"
            )
        except (DomicileError, ServerError):
            await self._undo(gid, foreign)
            raise
        part = self.parts[home]
        flight = self.prefix(part.backend)
        flight.command(f"SELECT domicile.decide({quote_literal(gid)})")
        flight.command("COMMIT")
        flight.sync()
        try:
            exchange = await part.backend.run(flight)
        except DomicileError as lost:
            # Whether home committed is not known here; recovery asks it, and the others follow.
            await self.rollback()
            raise _unknown(home, lost) from None
        if exchange.error is not None:
            await self._undo(gid, foreign)
            raise ServerError(exchange.error)
        readers = [part for region, part in self.parts.items() if region not in self.wrote and region != home]
        await asyncio.gather(*(self._command(p, "COMMIT") for p in readers if p.begun), return_exceptions=True)
        try:
            await self._all_take([self.parts[region] for region in foreign], f"COMMIT PREPARED {quote_literal(gid)}")
        except (DomicileError, ServerError):
            return  # it is decided: recovery finishes it
        self.coordinator.end(gid)

    async def _undo(self, gid: str, foreign: list[RegionName]) -> None:
        """Rolls back what was prepared and what was not; recovery does it where a region is away."""
        prepared = [self.parts[region] for region in foreign if self.parts[region].backend.status == "I"]
        results = await asyncio.gather(
            *(self._command(part, f"ROLLBACK PREPARED {quote_literal(gid)}") for part in prepared),
            return_exceptions=True,
        )
        clean = all(not isinstance(r, BaseException) and r.error is None for r in results)
        await self.rollback()
        if clean and len(prepared) == len(foreign):
            self.coordinator.end(gid)

    @staticmethod
    async def _command(part: Part, command: str) -> Exchange:
        flight = Flight()
        flight.command(command)
        flight.sync()
        return await part.backend.run(flight)

    async def _all_take(self, parts: Sequence[Part], command: str) -> None:
        """The command in every part, at once. Raises the first refusal when all have answered."""
        results = await asyncio.gather(*(self._command(part, command) for part in parts), return_exceptions=True)
        for result in results:
            if isinstance(result, DomicileError):
                raise result
            if isinstance(result, BaseException):
                raise DomicileError(INTERNAL_ERROR, str(result)) from result
            if result.error is not None:
                raise ServerError(result.error)

    async def rollback(self) -> None:
        """Rolls every part back, whatever its state, and gives the backends back. Never raises."""
        parts, self.parts = list(self.parts.values()), {}
        settings = self._settings_at_begin if self.open else self.settings
        await asyncio.gather(*(self._roll_back(part) for part in parts))
        self.settings = settings
        self._over()

    async def _roll_back(self, part: Part) -> None:
        backend = part.backend
        if backend.lost is None and backend.busy:  # its client is gone: what runs is cancelled, and drained
            backend.abandon()  # first: from here on it is given back here, and nowhere else
            for _ in range(DRAINS_MAX):
                # A request that comes before the statement has begun is without effect, so it is sent again.
                await backend.cancel()
                if await backend.settle(DRAIN_S):
                    break
            else:
                backend.close()
        if backend.lost is None and backend.status != "I":
            with contextlib.suppress(DomicileError):
                await self._command(part, "ROLLBACK")
            backend.settings = part.settings_before
        self._return(backend)

    def _over(self) -> None:
        self.parts.clear()
        self.wrote.clear()
        self.local.clear()
        self._savepoints.clear()
        self.status = "I"
        self.implicit = False

    # --- savepoints ----------------------------------------------------------------------------------------------

    async def savepoint(self, name: str) -> None:
        await self._all_begun(f"SAVEPOINT {quote_identifier(name)}")
        self._savepoints.append(Savepoint(name, dict(self.settings), len(self.local)))

    async def release(self, name: str) -> None:
        index = self._find(name)
        await self._all_begun(f"RELEASE SAVEPOINT {quote_identifier(name)}")
        del self._savepoints[index:]

    async def rollback_to(self, name: str) -> None:
        index = self._find(name)
        savepoint = self._savepoints[index]
        await self._all_begun(f"ROLLBACK TO SAVEPOINT {quote_identifier(name)}")
        del self._savepoints[index + 1 :]
        self.settings = dict(savepoint.settings)
        del self.local[savepoint.local :]
        for region, part in self.parts.items():
            part.backend.settings = dict(self.settings) if region == self.home else guc.abroad(self.settings)
        self.status = "T"

    async def _all_begun(self, command: str) -> None:
        await self._all_take([part for part in self.parts.values() if part.begun], command)

    def _find(self, name: str) -> int:
        for index in range(len(self._savepoints) - 1, -1, -1):
            if self._savepoints[index].name == name:
                return index
        raise DomicileError("3B001", f'savepoint "{name}" does not exist')


def _unknown(region: RegionName, lost: DomicileError) -> DomicileError:
    return DomicileError(
        TRANSACTION_RESOLUTION_UNKNOWN,
        f"region {region} was lost while it committed: whether it did is not known",
        detail=lost.detail,
        hint="Look whether the rows are there before you try again.",
    )
