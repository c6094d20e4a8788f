"""Backends kept for reuse, one pool for each (region, role, database). First come, first served."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable

from ..catalog.errors import TOO_MANY_CONNECTIONS, DomicileError
from .backend import Backend

WAITERS_MAX = 10_000
"""Sessions that may queue for one pool; beyond it a statement fails at once."""


class Pool:
    """At most `size` backends. `take` hands out an idle one (the last one given back, its caches are warm), opens a
    new one, or waits its turn for at most `wait_s` seconds: then 53300 that says so."""

    def __init__(self, what: str, size: int, wait_s: float, open_backend: Callable[[], Awaitable[Backend]]) -> None:
        self.what = what
        self.size = size
        self.wait_s = wait_s
        self._open = open_backend
        self._idle: list[Backend] = []
        self._waiting: deque[asyncio.Future[Backend | None]] = deque()
        self._used: set[Backend] = set()
        self._opening = 0
        self._giving: set[asyncio.Task[None]] = set()

    @property
    def total(self) -> int:
        return len(self._idle) + len(self._used) + self._opening

    def take_idle(self) -> Backend | None:
        """An idle backend at once, or None: the way of a statement that need not wait."""
        while self._idle:
            backend = self._idle.pop()
            if backend.lost is None:
                self._used.add(backend)
                return backend
        return None

    async def take(self) -> Backend:
        """A backend of one's own until `give`. Raises 57P03 or 08006 where the region is down, 53300 in time."""
        backend = self.take_idle()
        if backend is not None:
            return backend
        if self.total < self.size:
            return await self._open_one()
        if len(self._waiting) >= WAITERS_MAX:
            raise self._full()
        turn: asyncio.Future[Backend | None] = asyncio.get_running_loop().create_future()
        self._waiting.append(turn)
        try:
            async with asyncio.timeout(self.wait_s):
                given = await turn
        except TimeoutError:
            raise self._full() from None
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled() and (late := turn.result()) is not None:
                self.give(late)
            raise
        finally:
            if not turn.done():
                turn.cancel()
        return given if given is not None else await self._open_one()

    def give(self, backend: Backend) -> None:
        """Gives a backend back. One that is lost, busy or in a transaction is closed and its place goes on."""
        backend.owner = None
        backend.on_parameter = None
        if not backend.quiet.is_set():
            task = asyncio.ensure_future(self._give_when_quiet(backend))
            self._giving.add(task)
            task.add_done_callback(self._giving.discard)
            return
        self._used.discard(backend)
        if backend.lost is not None or backend.busy or backend.status != "I":
            backend.close()
            self._next(None)
            return
        self._next(backend)

    async def _give_when_quiet(self, backend: Backend) -> None:
        await backend.quiet.wait()
        self.give(backend)

    def close(self) -> None:
        for backend in (*self._idle, *self._used):
            backend.close()
        self._idle.clear()

    def lost(self, backend: Backend) -> None:
        """An idle connection ended by itself."""
        if backend in self._idle:
            self._idle.remove(backend)
            self._next(None)

    def _next(self, backend: Backend | None) -> None:
        while self._waiting:
            turn = self._waiting.popleft()
            if not turn.done():
                if backend is not None:
                    self._used.add(backend)
                turn.set_result(backend)
                return
        if backend is not None:
            self._idle.append(backend)

    async def _open_one(self) -> Backend:
        self._opening += 1
        try:
            backend = await self._open()
        except BaseException:
            self._next(None)
            raise
        finally:
            self._opening -= 1
        backend.on_lost = self.lost
        self._used.add(backend)
        return backend

    def _full(self) -> DomicileError:
        return DomicileError(
            TOO_MANY_CONNECTIONS,
            f"no connection to {self.what} became free in {self.wait_s:g} seconds",
            detail=f"All {self.size} are in use and {len(self._waiting)} statements wait.",
            hint="Raise gateway.pool_size or gateway.query_wait_timeout_s, or look for transactions left open.",
        )
