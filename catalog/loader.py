"""The catalog snapshot, loaded from the region's own PostgreSQL and followed: the one place here that does IO.

The version is asked for a few times a second, the snapshot only when the version has grown. A region that can't be
reached, or a snapshot that can't be read, leaves the last one standing: a node goes on by what it knows, and each
region's PostgreSQL enforces its own truth whatever a node believes.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable
from typing import TypeAlias

import asyncpg
import tenacity

from .configuration import Postgres
from .snapshot import Catalog, parse

POLL_S = 0.25
RETRY_S_MAX = 5.0
CONTROL_CONNECTIONS_MAX = 4
"""Control connections of one node: catalog, log-in secrets and verifiers, egress counts, audit."""

ControlPool: TypeAlias = "asyncpg.Pool[asyncpg.Record]"

UNREACHABLE = (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError)
"""What asking a server may end with when it is away, not ready, or not (yet) what it should be."""

_log = logging.getLogger("domicile.catalog")


async def control_pool(postgres: Postgres, application_name: str, *, connect_timeout_s: float = 10) -> ControlPool:
    """The node's own connections to its PostgreSQL, made when first needed and again when one is lost: creating the
    pool needs no server. `search_path` is pg_catalog, so that every name is written out."""
    return await asyncpg.create_pool(
        host=postgres.host,
        port=postgres.port,
        database=postgres.database,
        user=postgres.user,
        password=postgres.password,
        ssl=postgres.ssl_context() or False,
        timeout=connect_timeout_s,
        command_timeout=60,
        min_size=0,
        max_size=CONTROL_CONNECTIONS_MAX,
        server_settings={"application_name": application_name, "search_path": "pg_catalog"},
    )


class CatalogFollower:
    """Holds the current snapshot and tells of every new one.

    Callbacks run in the event loop, in the order in which they subscribed, with the new snapshot; versions only grow.
    """

    def __init__(self, pool: ControlPool, *, poll_s: float = POLL_S) -> None:
        self._pool = pool
        self._poll_s = poll_s
        self._catalog: Catalog | None = None
        self._subscribers: list[Callable[[Catalog], None]] = []
        self._nudged = asyncio.Event()
        self._loading = asyncio.Lock()
        self._task: asyncio.Task[None] | None = None
        self.reachable = False
        """Whether the last time of asking got an answer."""

    @property
    def catalog(self) -> Catalog:
        """The current snapshot. Raises RuntimeError before `start`."""
        if self._catalog is None:
            raise RuntimeError("the catalog has not been loaded")
        return self._catalog

    def subscribe(self, callback: Callable[[Catalog], None]) -> None:
        self._subscribers.append(callback)

    def nudge(self) -> None:
        """Ask now instead of at the next poll: somebody says that there is news."""
        self._nudged.set()

    async def start(self, deadline_s: float = 30.0) -> Catalog:
        """Loads the first snapshot, then follows. Raises what the last attempt raised after `deadline_s`."""
        await self._retrying(tenacity.stop_after_delay(deadline_s))(self.refresh)
        self._task = asyncio.create_task(self._follow(), name="domicile catalog")
        return self.catalog

    async def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
            self._task = None

    async def refresh(self) -> Catalog:
        """Asks once: the snapshot as of now. Raises one of UNREACHABLE, or ValueError or KeyError for a snapshot that
        is none."""
        async with self._loading:
            try:
                async with self._pool.acquire() as connection:
                    version = await connection.fetchval("select domicile.version()")
                    if self._catalog is None or version != self._catalog.version:
                        new = parse(await connection.fetchval("select domicile.snapshot()"))
                        changed = self._catalog is None or new.version > self._catalog.version
                        if changed:
                            self._catalog = new
                            for callback in self._subscribers:
                                callback(new)
            except UNREACHABLE:
                self.reachable = False
                raise
            self.reachable = True
            return self.catalog

    async def _follow(self) -> None:
        while True:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._nudged.wait(), self._poll_s)
            self._nudged.clear()
            await self._retrying(tenacity.stop_never)(self.refresh)

    def _retrying(self, stop: tenacity.stop.stop_base) -> tenacity.AsyncRetrying:
        return tenacity.AsyncRetrying(
            retry=tenacity.retry_if_exception_type((*UNREACHABLE, ValueError, KeyError)),
            wait=tenacity.wait_exponential(POLL_S, RETRY_S_MAX) + tenacity.wait_random(0, POLL_S),
            stop=stop,
            before_sleep=_say_why,
            reraise=True,
        )


def _say_why(state: tenacity.RetryCallState) -> None:
    error = state.outcome.exception() if state.outcome else None
    level = logging.WARNING if state.attempt_number == 1 else logging.DEBUG
    _log.log(level, "the catalog can't be read, the last one stands: %s: %s", type(error).__name__, error)
