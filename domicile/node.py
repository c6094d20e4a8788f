"""A region's node: gateway, guard and agent in one process and one event loop, and what they stand on.

The node's own connections to PostgreSQL (as `domicile_node`) follow the catalog, read verifiers and log-in secrets,
write the ledger and call the audit. Losing them stops nothing that runs: they are made again, and meanwhile the last
snapshot stands.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence

import redis.asyncio
import redis.exceptions
import tenacity
from cryptography import x509
from cryptography.hazmat.primitives import serialization

from . import certificates
from .catalog.configuration import Configuration
from .catalog.configuration import Gateway as GatewayOptions
from .catalog.errors import CANNOT_CONNECT_NOW, DomicileError
from .catalog.loader import UNREACHABLE, CatalogFollower, ControlPool, control_pool
from .catalog.names import RegionName
from .proxy.egress import FLUSH_S, Egress, Ledger
from .proxy.gateway import Gateway, PeerAddress
from .proxy.guard import Guard
from .proxy.scram import endpoint_binding
from .replication.agent import Agent

AUDIT_S = 1.0
"""How long a change that no event trigger sees (a role's membership, a grant on a database) may go unnoticed."""

START_PATIENCE_S = 30.0
"""How long PostgreSQL may take to be there when the node starts."""

REDIS_RETRY_S_MAX = 5.0
PORT_TAKEN = "55006"

_CHANNEL = "domicile:catalog"

_log = logging.getLogger("domicile.node")


class Node:
    """Runs between `start` and `stop`."""

    def __init__(self, configuration: Configuration) -> None:
        self.configuration = configuration
        self.gateway: Gateway | None = None
        self.guard: Guard | None = None
        self.agent: Agent | None = None
        self.ledger: Ledger | None = None
        self._follower: CatalogFollower | None = None
        self._pool: ControlPool | None = None
        self._tasks: list[asyncio.Task[None]] = []
        self._findings: frozenset[tuple[str, str]] = frozenset()

    async def start(self) -> None:
        """Everything listens when this returns. Raises DomicileError that says what is in the way: PostgreSQL away or
        another region than configured, a port that is taken, a certificate that is none."""
        configuration = self.configuration
        self._pool = pool = await control_pool(
            configuration.postgres,
            f"domicile node of {configuration.region}",
            connect_timeout_s=configuration.gateway.connect_timeout_s,
        )
        self._follower = follower = CatalogFollower(pool)
        try:
            await follower.start(START_PATIENCE_S)
        except UNREACHABLE as e:
            where = f"{configuration.postgres.host}:{configuration.postgres.port}"
            raise DomicileError(
                CANNOT_CONNECT_NOW,
                f"PostgreSQL of region {configuration.region} at {where} can't be asked for its catalog",
                detail=str(e),
                hint=f"`domicile doctor {configuration.source}` looks at every part of the way.",
            ) from e
        if follower.catalog.here != configuration.region:
            raise DomicileError(
                PORT_TAKEN,
                f"database {configuration.postgres.database} is region {follower.catalog.here}, "
                f"the configuration is of region {configuration.region}",
                hint="Name the region's own database in [postgres], or the right region.",
            )
        self.ledger = Ledger(self._write_ledger)
        if configuration.guard is not None:
            self.guard = Guard(
                configuration.region,
                configuration.guard,
                configuration.postgres,
                lambda: follower.catalog,
                pool,
                self.ledger,
            )
            follower.subscribe(self.guard.catalog_changed)
            await _listening("guard", self.guard.start)
        if configuration.agent is not None:
            self.agent = Agent(configuration)
            await _listening("agent", self.agent.start)
        self._tasks = [
            asyncio.create_task(self._each(AUDIT_S, self._audit), name="domicile audit"),
            asyncio.create_task(self._each(FLUSH_S, self.ledger.flush), name="domicile ledger"),
        ]
        if configuration.redis_url is not None:
            self._tasks.append(asyncio.create_task(self._follow_redis(configuration.redis_url), name="domicile redis"))
        options = configuration.gateway
        self.gateway = Gateway(
            configuration, lambda: follower.catalog, pool, self._peers(), _client_tls(options), _binding(options)
        )
        await _listening("gateway", self.gateway.start)

    async def stop(self) -> None:
        """Ends sessions and connections, writes what the ledger still holds, and leaves nothing running. May be called
        after a `start` that failed."""
        for part in (self.gateway, self.agent, self.guard):
            if part is not None:
                await part.stop()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self.ledger is not None:
            await self.ledger.flush()
        if self._follower is not None:
            await self._follower.stop()
        if self._pool is not None:
            try:
                async with asyncio.timeout(5):
                    await self._pool.close()
            except (TimeoutError, *UNREACHABLE):
                self._pool.terminate()

    def _peers(self) -> dict[RegionName, PeerAddress]:
        guard = self.configuration.guard
        if guard is None:
            return {}
        tls = certificates.caller_context(certificates.RegionFiles(guard.certificate, guard.key, guard.authority))
        return {
            name: PeerAddress(peer.guard.host, peer.guard.port, tls, certificates.server_name(name))
            for name, peer in self.configuration.regions.items()
        }

    # --- what goes on beside -------------------------------------------------------------------------------------

    async def _each(self, pause_s: float, work: Callable[[], Awaitable[None]]) -> None:
        while True:
            await asyncio.sleep(pause_s)
            await work()

    async def _audit(self) -> None:
        assert self._pool is not None
        try:
            rows = await self._pool.fetch("select finding, object, repaired from domicile.audit()")
        except UNREACHABLE as e:
            _log.debug("the audit could not be called: %s", e)  # the follower says that the server is away
            return
        found = frozenset((r["finding"], r["object"]) for r in rows)
        for row in rows:
            if (row["finding"], row["object"]) not in self._findings:
                state = "put right" if row["repaired"] else "still open"
                _log.warning("audit, %s: %s: %s", state, row["finding"], row["object"])
        self._findings = found

    async def _write_ledger(self, entries: Sequence[Egress]) -> None:
        assert self._pool is not None
        assert self._follower is not None
        version = self._follower.catalog.version
        await self._pool.executemany(
            "insert into domicile.egress (destination, role, via, relation, rows, bytes, version) "
            "values ($1, $2, 'guard', $3, $4, $5, $6)",
            [(e.destination, e.role, e.relation, e.rows, e.bytes, version) for e in entries],
        )

    async def _follow_redis(self, url: str) -> None:
        """News of the catalog through Redis: other gateways of the region need not wait for their next poll."""
        follower = self._follower
        assert follower is not None
        news = asyncio.Event()
        follower.subscribe(lambda _: news.set())
        async for attempt in tenacity.AsyncRetrying(
            retry=tenacity.retry_if_exception_type((redis.exceptions.RedisError, OSError)),
            wait=tenacity.wait_exponential(0.1, REDIS_RETRY_S_MAX) + tenacity.wait_random(0, 0.1),
            before_sleep=_say_that_redis_is_away,
        ):
            with attempt:
                async with redis.asyncio.from_url(url) as client:
                    await self._exchange_news(client, follower, news)

    async def _exchange_news(self, client: redis.asyncio.Redis, follower: CatalogFollower, news: asyncio.Event) -> None:
        """Tells of versions that were seen here, and asks at once for those that were seen elsewhere. Ends only by
        an error."""
        channel = f"{_CHANNEL}:{self.configuration.region}"

        async def tell() -> None:
            while True:
                await news.wait()
                news.clear()
                await client.publish(channel, str(follower.catalog.version))

        async def listen() -> None:
            async with client.pubsub() as subscription:
                await subscription.subscribe(channel)
                async for message in subscription.listen():
                    if message["type"] == "message" and int(message["data"]) > follower.catalog.version:
                        follower.nudge()

        both = [asyncio.create_task(tell()), asyncio.create_task(listen())]
        try:
            await asyncio.gather(*both)
        finally:
            for task in both:
                task.cancel()
            await asyncio.gather(*both, return_exceptions=True)


async def run(configuration: Configuration, ready: Callable[[], None] = lambda: None) -> None:
    """Runs the node until SIGTERM or SIGINT, then stops it cleanly. `ready` is called when everything listens."""
    loop = asyncio.get_running_loop()
    asked = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, asked.set)
    async with running(configuration):
        ready()
        _log.info("region %s: gateway at %s", configuration.region, configuration.gateway.listen)
        await asked.wait()
        _log.info("stopping")


@contextlib.asynccontextmanager
async def running(configuration: Configuration) -> AsyncIterator[Node]:
    """The node, started; stopped at the end, also where the start fails."""
    node = Node(configuration)
    try:
        await node.start()
        yield node
    finally:
        await node.stop()


def _say_that_redis_is_away(state: tenacity.RetryCallState) -> None:
    error = state.outcome.exception() if state.outcome else None
    level = logging.WARNING if state.attempt_number == 1 else logging.DEBUG
    _log.log(level, "Redis can't be reached, the catalog is polled: %s", error)


async def _listening(part: str, start: Callable[[], Awaitable[None]]) -> None:
    try:
        await start()
    except OSError as e:
        raise DomicileError(
            PORT_TAKEN,
            f"[{part}] can't listen: {e.strerror or e}",
            hint=f"Give [{part}] listen another address or port, or stop what uses it.",
        ) from e


def _binding(options: GatewayOptions) -> bytes | None:
    """What SCRAM-SHA-256-PLUS binds a client's log-in to: the gateway's own certificate."""
    if options.certificate is None or options.key is None:
        return None
    certificate = x509.load_pem_x509_certificate(options.certificate.read_bytes())
    return endpoint_binding(certificate.public_bytes(serialization.Encoding.DER))


def _client_tls(options: GatewayOptions) -> ssl.SSLContext | None:
    if options.certificate is None or options.key is None:
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.load_cert_chain(options.certificate, options.key)
    context.set_alpn_protocols(["postgresql"])
    return context
