"""The agent of one region: sends the copies that its policies allow, takes those that others offer.

It listens for the agents of other regions, which come to fetch their copies, and calls those agents to fetch its own:
who takes a copy calls, so that an edge region need not be reachable to be fed. Each pair of regions has sessions of
its own, with slot, connections and pace of their own; one that is down or slow stops no other.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import secrets
import socket
from collections.abc import Mapping

import tenacity
from psycopg.conninfo import make_conninfo

from ..catalog.configuration import Configuration, Endpoint, Postgres
from ..catalog.errors import DomicileError
from ..catalog.names import RegionName, quote_literal
from ..certificates import RegionFiles, caller_context, guard_context, peer_region, server_name
from .ledger import Ledger
from .link import Link, Observer
from .postgres import Connection
from .receiving import Receiving
from .sending import FAILURES, Sending
from .source import SLOT_BUSY, Slots

BEAT_S = 0.5
"""How often the time is written into the log: an idle copy is known to be no older. Each beat is about 100 bytes."""
CALL_PATIENCE_S = 10.0  #: for TCP and TLS together
RETRY_S_MIN, RETRY_S_MAX = 0.1, 5.0
CANCEL_AGAIN_S = 0.5
OBSERVED_SESSIONS_MAX = 1_024  #: agents that may be connected at once; a federation of 1,023 regions has fewer

_log = logging.getLogger("domicile.replication")


class NotProgressed(Exception):
    """A session ended before it had moved the copy on: the next one waits longer."""


class Agent:
    """Runs between `start` and `stop`. Needs `[agent]` and `[guard]` in the configuration."""

    def __init__(
        self, configuration: Configuration, *, beat_s: float = BEAT_S, observer: Observer | None = None
    ) -> None:
        """`observer` is shown every byte that is sent to other agents, before TLS."""
        if configuration.agent is None or configuration.guard is None:
            raise ValueError("an agent needs [agent] and [guard] in the configuration")
        guard = configuration.guard
        files = RegionFiles(guard.certificate, guard.key, guard.authority)
        self._here = configuration.region
        self._listen_at = configuration.agent.listen
        self._peers: Mapping[RegionName, Endpoint | None] = {
            name: peer.agent for name, peer in configuration.regions.items()
        }
        self._conninfo = conninfo(configuration.postgres)
        self._listening = guard_context(files)
        self._calling = caller_context(files)
        self._beat_s = beat_s
        self._observer = observer
        # In our heartbeats, so that nobody else's logical message can claim that a copy is fresh.
        self._token = secrets.token_hex(16)
        self._ledger = Ledger()
        self._server: asyncio.Server | None = None
        self._sessions: dict[RegionName, tuple[asyncio.Task[None], Sending | None]] = {}
        self._tasks: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        """Listens, and returns; copies begin as other agents are reached. Raises OSError for a port that is taken."""
        self._server = await asyncio.start_server(
            self._called,
            self._listen_at.host,
            self._listen_at.port,
            ssl=self._listening,
            ssl_handshake_timeout=CALL_PATIENCE_S,
            backlog=OBSERVED_SESSIONS_MAX,
        )
        self._tasks = [asyncio.create_task(self._beat(), name="domicile beat")]
        self._tasks += [
            asyncio.create_task(self._fetch(region, endpoint), name=f"domicile copies of {region}")
            for region, endpoint in self._peers.items()
            if endpoint is not None
        ]

    async def stop(self) -> None:
        """Ends every session and returns when nothing of the agent runs any more. What is not acknowledged stays in
        the slots of the regions that sent it."""
        if self._server is not None:
            self._server.close()
        running = {*self._tasks, *(task for task, _ in self._sessions.values())}
        # Again and again: a task group in which something has just failed forgets that it was cancelled (in 3.11).
        while running:
            for task in running:
                task.cancel()
            _, running = await asyncio.wait(running, timeout=CANCEL_AGAIN_S)
        if self._server is not None:
            await self._server.wait_closed()
        with contextlib.suppress(*FAILURES):
            connection = await Connection.connect(self._conninfo, application_name="domicile ledger")
            try:
                await self._ledger.write(connection)
            finally:
                connection.close()
        self._tasks = []
        self._sessions = {}

    # --- sending

    async def _called(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        caller = peer_region(writer.get_extra_info("peercert"))
        link = Link(reader, writer, self._observer)
        if caller is None or caller not in self._peers:
            _log.warning("an agent of %s called, which is no region of this federation", caller or "nobody")
            await link.close()
            return
        _keep_alive(writer)
        task = asyncio.current_task()
        assert task is not None
        # The newest session of a region is the one: an older one is a half-open link, or a second agent.
        older = self._sessions.get(caller)
        self._sessions[caller] = (task, None)
        while older is not None and not older[0].done():
            older[0].cancel()
            await asyncio.wait([older[0]], timeout=CANCEL_AGAIN_S)
        try:
            session = await Sending.open(
                self._conninfo,
                link,
                self._here,
                caller,
                token=self._token,
                new_copy=secrets.token_hex(16),
                ledger=self._ledger,
            )
            if self._sessions[caller][0] is task:
                self._sessions[caller] = (task, session)
            await session.run()
        except FAILURES as e:
            _log.warning("a session with %s could not begin: %s", caller, e)
            await link.close()
        except Exception:
            _log.exception("a fault of the agent in a session with %s", caller)
            await link.close()
        except asyncio.CancelledError:
            # asyncio's server holds the task and would log the cancellation as an error.
            writer.transport.abort()
        finally:
            if caller in self._sessions and self._sessions[caller][0] is task:
                del self._sessions[caller]

    async def _beat(self) -> None:
        """Writes heartbeats and the ledger, and looks whether what is offered has changed whenever the catalog has."""
        async for attempt in self._retrying():
            with attempt:
                connection = await Connection.connect(self._conninfo, application_name="domicile beat")
                try:
                    await self._beat_over(connection)
                finally:
                    connection.close()

    async def _beat_over(self, connection: Connection) -> None:
        seen = None
        while True:
            news = await connection.value(f"select domicile.stream_beat({quote_literal(self._token)})")
            if news != seen:
                seen = news if await self._look_at_offers(connection) else None
            await self._ledger.write(connection)
            await asyncio.sleep(self._beat_s)

    async def _look_at_offers(self, connection: Connection) -> bool:
        """Ends the sessions whose offer has changed, and drops the slots of regions that get nothing any more.

        False where one is still being read: look again. The heartbeat does not wait for it.
        """
        done = True
        fed = {
            row[0].decode()
            for row in await connection.execute("select destination from domicile.subscription")
            if row[0]
        }
        for destination in fed | set(self._sessions):
            slots = Slots(connection, destination)
            offer = await slots.offer()
            _, session = self._sessions.get(RegionName(destination), (None, None))
            if session is not None:
                session.offered(offer)
            elif not offer.tables and RegionName(destination) not in self._sessions:
                try:
                    await slots.drop(attempts=1)
                except DomicileError as e:
                    if e.sqlstate != SLOT_BUSY:
                        raise
                    done = False
        return done

    # --- taking

    async def _fetch(self, region: RegionName, endpoint: Endpoint) -> None:
        """Keeps the copies of a region: one session after the other, at once after one that moved them on."""
        while True:
            async for attempt in self._retrying():
                with attempt:
                    await self._take(region, endpoint)

    async def _take(self, region: RegionName, endpoint: Endpoint) -> None:
        async with asyncio.timeout(CALL_PATIENCE_S):
            reader, writer = await asyncio.open_connection(
                endpoint.host, endpoint.port, ssl=self._calling, server_hostname=server_name(region)
            )
        _keep_alive(writer)
        session = Receiving(self._conninfo, Link(reader, writer, self._observer), self._here, region)
        await session.run()
        if not session.progressed:
            raise NotProgressed

    def _retrying(self) -> tenacity.AsyncRetrying:
        return tenacity.AsyncRetrying(
            # A fault of our own as well: it stands in the log, and copies that stop for ever would be worse.
            retry=tenacity.retry_if_exception_type(Exception),
            before_sleep=_say_why,
            wait=tenacity.wait_exponential(RETRY_S_MIN, RETRY_S_MAX) + tenacity.wait_random(0, RETRY_S_MIN),
            stop=tenacity.stop_never,
            reraise=True,
        )


def _say_why(state: tenacity.RetryCallState) -> None:
    error = state.outcome.exception() if state.outcome else None
    if not isinstance(error, (*FAILURES, NotProgressed)):
        _log.error("a fault of the agent, tried again", exc_info=error)
    elif state.attempt_number == 1 and not isinstance(error, NotProgressed):
        _log.warning("tried again: %s", error)


def conninfo(postgres: Postgres) -> str:
    """The node's connection to its own PostgreSQL, for libpq."""
    more = {"sslrootcert": str(postgres.sslrootcert)} if postgres.sslrootcert else {}
    return make_conninfo(
        host=postgres.host,
        port=postgres.port,
        dbname=postgres.database,
        user=postgres.user,
        password=postgres.password,
        sslmode="disable" if postgres.by_socket else postgres.sslmode,
        **more,
    )


def _keep_alive(writer: asyncio.StreamWriter) -> None:
    handle: socket.socket | None = writer.get_extra_info("socket")
    with contextlib.suppress(OSError):
        if handle is not None:
            handle.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
