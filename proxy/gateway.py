"""The gateway of one region: what all its client sessions share."""

from __future__ import annotations

import asyncio
import hmac
import secrets
import ssl
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from .. import planner
from ..catalog.configuration import Configuration
from ..catalog.errors import ADMIN_SHUTDOWN, CANNOT_CONNECT_NOW, SYNTAX_ERROR, DomicileError
from ..catalog.loader import UNREACHABLE
from ..catalog.names import RegionName
from ..catalog.snapshot import Catalog
from ..planner.plan import Append, Home, Kind, Plan
from . import delivery, recovery
from .backend import Address, Backend, connect
from .pool import Pool
from .scram import ScramKeys, Verifier
from .session import Session
from .statement import LONG_STATEMENT_BYTES

PLAN_CACHE_BYTES_MAX = 16 << 20
"""Bounded by bytes, not by count: five hundred large statements once took a rival's whole memory."""

PLAN_BYTES_EACH = 2_000
"""What a plan is taken to weigh beside its text: measured once with tracemalloc, rounded up."""


class Control(Protocol):
    """The node's control connection to its own PostgreSQL, as domicile_node."""

    async def fetchval(self, query: str, *args: object) -> Any: ...

    async def fetch(self, query: str, *args: object) -> Any: ...


@dataclass(frozen=True, slots=True)
class PeerAddress:
    """Where another region's guard is, and how to prove oneself there."""

    host: str
    port: int
    tls: ssl.SSLContext
    server_hostname: str | None


class Gateway:
    """Listens for clients. `catalog()` gives the present snapshot; `control` reads verifiers and types."""

    def __init__(
        self,
        configuration: Configuration,
        catalog: Callable[[], Catalog],
        control: Control,
        peers: dict[RegionName, PeerAddress],
        client_tls: ssl.SSLContext | None = None,
        binding: bytes | None = None,
    ) -> None:
        self.configuration = configuration
        self.settings = configuration.gateway
        self.here = configuration.region
        self.database = configuration.postgres.database
        self.catalog = catalog
        self.control = control
        self.client_tls = client_tls
        self.binding = binding  #: of the certificate in `client_tls`, for SCRAM-SHA-256-PLUS
        self.keys: dict[str, ScramKeys] = {}
        self.array_types: dict[int, int] = {}
        self.sessions: dict[int, Session] = {}
        self._peers = peers
        self._pools: dict[tuple[RegionName, str], Pool] = {}
        self._plans: OrderedDict[tuple[str, tuple[str, ...], int], tuple[Plan, ...]] = OrderedDict()
        self._plans_bytes = 0
        self._made_up = secrets.token_bytes(32)
        self._server: asyncio.Server | None = None
        self._next_pid = secrets.randbelow(1 << 20) + 1
        self._tasks: set[asyncio.Task[Any]] = set()
        self._watches: list[asyncio.Task[None]] = []

    # --- life ----------------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Listens. Raises OSError where the port is taken."""
        rows = await self.control.fetch("select oid::int8, typarray::int8 from pg_type where typarray <> 0")
        self.array_types = {row[0]: row[1] for row in rows}
        loop = asyncio.get_running_loop()
        listen = self.settings.listen
        self._server = await loop.create_server(lambda: Session(self), listen.host, listen.port)
        self._watches = [self.spawn(recovery.watch(self)), self.spawn(delivery.watch(self))]

    async def stop(self) -> None:
        """Ends all sessions with 57P01 and closes every connection."""
        if self._server is not None:
            self._server.close()
        for watch in self._watches:
            watch.cancel()
        for session in list(self.sessions.values()):
            session.terminate(DomicileError(ADMIN_SHUTDOWN, "the gateway is shutting down", severity="FATAL"))
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for pool in self._pools.values():
            pool.close()
        if self._server is not None:
            await self._server.wait_closed()

    def spawn(self, coroutine: Any) -> asyncio.Task[Any]:
        """A task that is kept until it ends."""
        task = asyncio.get_running_loop().create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    # --- sessions ------------------------------------------------------------------------------------------------

    def admit(self, session: Session) -> tuple[int, bytes]:
        """A process id and a cancel key for a session that has logged in."""
        while self._next_pid in self.sessions:
            self._next_pid += 1
        pid = self._next_pid
        self._next_pid = (self._next_pid + 1) & 0x3FFFFFFF or 1
        self.sessions[pid] = session
        return pid, secrets.token_bytes(4)

    def dismiss(self, pid: int) -> None:
        self.sessions.pop(pid, None)

    def cancel(self, pid: int, key: bytes) -> None:
        """Cancels what the session with this pid runs, if the key is its own. Says nothing, as PostgreSQL."""
        session = self.sessions.get(pid)
        if session is not None and hmac.compare_digest(session.cancel_key, key):
            self.spawn(session.cancel())

    async def verifier(self, role: str) -> tuple[Verifier, bool]:
        """(verifier, whether the role may log in): for a role that may not, one that no password fits."""
        try:
            text = await self.control.fetchval("select domicile.verifier($1)", role)
        except UNREACHABLE as fault:
            raise DomicileError(
                CANNOT_CONNECT_NOW, f"region {self.here} can't be reached: no log-in can be checked", detail=str(fault)
            ) from None
        try:
            if text is not None:
                return Verifier.parse(text), True
        except ValueError:
            pass
        return Verifier.made_up(self._made_up, role), False

    # --- backends ------------------------------------------------------------------------------------------------

    def pool(self, region: RegionName, role: str) -> Pool:
        """The pool of backends that are logged in as this role (abroad: as role@here) in the region."""
        pool = self._pools.get((region, role))
        if pool is None:

            async def open_backend() -> Backend:
                return await connect(self.address(region), role, self.keys.get(role) if region == self.here else None)

            pool = Pool(
                f"region {region} as {role}", self.settings.pool_size, self.settings.query_wait_timeout_s, open_backend
            )
            self._pools[region, role] = pool
        return pool

    def warm(self, role: str) -> None:
        """Opens a connection to each other region for a role that has just logged in: the first query abroad then
        costs one round trip, not the four of a new connection."""
        for region in self.catalog().others():
            pool = self.pool(region, role)
            if pool.total == 0 and region in self._peers:
                self.spawn(self._warm(pool))

    async def _warm(self, pool: Pool) -> None:
        try:
            pool.give(await pool.take())
        except DomicileError:
            return  # the first statement that needs the region will say why

    def address(self, region: RegionName) -> Address:
        timeout_s = self.settings.connect_timeout_s
        if region == self.here:
            pg = self.configuration.postgres
            tls = pg.ssl_context()
            return Address(
                region, pg.host, pg.port, pg.database, tls, pg.host if tls else None, tls is not None, timeout_s
            )
        peer = self._peers.get(region)
        if peer is None:
            raise DomicileError(
                CANNOT_CONNECT_NOW,
                f"region {region} can't be reached: this node does not know the way to it",
                hint=f"Add [regions.{region}] with its guard's address to this node's configuration.",
            )
        return Address(
            region,
            peer.host,
            peer.port,
            self.database,
            peer.tls,
            peer.server_hostname,
            connect_timeout_s=timeout_s,
        )

    # --- plans ---------------------------------------------------------------------------------------------------

    async def plans(self, text: str, search_path: tuple[str, ...], role: str) -> tuple[Plan, ...]:
        """The plans of a simple Query's statements, from the cache or made now. Raises DomicileError."""
        if len(text) > LONG_STATEMENT_BYTES and (text, search_path, self.catalog().version) not in self._plans:
            return await asyncio.to_thread(self._make_plans, text, self.catalog(), search_path, role)
        return self.plans_now(text, search_path, role)

    def plans_now(self, text: str, search_path: tuple[str, ...], role: str) -> tuple[Plan, ...]:
        """The same, without giving way to other sessions meanwhile."""
        catalog = self.catalog()
        key = (text, search_path, catalog.version)
        plans = self._plans.get(key)
        if plans is not None:
            self._plans.move_to_end(key)
            return plans
        plans = self._make_plans(text, catalog, search_path, role)
        self._keep(key, plans)
        return plans

    def _keep(self, key: tuple[str, tuple[str, ...], int], plans: tuple[Plan, ...]) -> None:
        self._plans[key] = plans
        self._plans_bytes += 2 * len(key[0]) + PLAN_BYTES_EACH
        while self._plans_bytes > PLAN_CACHE_BYTES_MAX:
            (old, _, _), _ = self._plans.popitem(last=False)
            self._plans_bytes -= 2 * len(old) + PLAN_BYTES_EACH

    def template_now(self, lifted: str, search_path: tuple[str, ...], role: str) -> Plan | None:
        """The plan of a text whose literals were lifted; None where it has none of its own (several statements, or
        `$1` where the grammar wants a literal). Says where the statement runs, never what is executed."""
        key = (lifted, search_path, -self.catalog().version)
        plans = self._plans.get(key)
        if plans is None:
            try:
                plans = self._make_plans(lifted, self.catalog(), search_path, role)
            except DomicileError:
                plans = ()
            self._keep(key, plans)
        return plans[0] if len(plans) == 1 else None

    async def plan(self, text: str, search_path: tuple[str, ...], role: str) -> Plan:
        """The plan of a statement of the extended protocol: one, or none. Raises DomicileError."""
        plans = await self.plans(text, search_path, role)
        if len(plans) > 1:
            raise DomicileError(SYNTAX_ERROR, "cannot insert multiple commands into a prepared statement")
        return plans[0] if plans else EMPTY

    @staticmethod
    def _make_plans(text: str, catalog: Catalog, search_path: tuple[str, ...], role: str) -> tuple[Plan, ...]:
        return tuple(planner.plan(one, catalog, search_path, role) for one in planner.split(text))


EMPTY = Plan(Kind.EMPTY, "", Home("an empty statement"), Append())
