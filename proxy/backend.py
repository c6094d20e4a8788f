"""One connection to a region: straight to PostgreSQL at home, through the peer's guard abroad.

A *flight* is what is written to a backend in one go, and the queue of replies that it owes; it always ends in Sync,
so that one ReadyForQuery ends it whatever happened. Replies are walked by their length and matched with that queue:
the connection is free when the last ReadyForQuery owed has come, never because bytes look like one.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections import OrderedDict, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Protocol, TypeVar, cast

from ..catalog.errors import CANNOT_CONNECT_NOW, CONNECTION_FAILURE, DomicileError
from ..catalog.names import RegionName
from . import messages as m
from .keepalive import keep_alive
from .messages import B, Run, Walker
from .scram import ScramClient, ScramKeys

PREPARED_MAX = 200
"""Statements kept prepared on one backend; PgBouncer's max_prepared_statements has the same default."""

CANCEL_TIMEOUT_S = 10.0
"""A cancel request is given up after this; the statement goes on, as PostgreSQL's contract for cancel allows."""


@dataclass(frozen=True, slots=True)
class Address:
    """Where a region's backends are reached. `tls` is None for the home PostgreSQL on a trusted network."""

    region: RegionName
    host: str  #: a name or address, or the folder of a Unix socket
    port: int
    database: str
    tls: ssl.SSLContext | None = None
    server_hostname: str | None = None
    asks_for_tls: bool = False  #: PostgreSQL's own way: SSLRequest first. A guard takes TLS at once
    connect_timeout_s: float = 10.0  #: from connect to ReadyForQuery


class Reply(IntEnum):
    """What becomes of the replies to one message of a flight."""

    SWALLOW = 0  #: the gateway's own doing, the client never sees it
    FORWARD = 1  #: to the client as it comes
    COLLECT = 2  #: kept for the gateway


class Flight:
    """Messages to write, and the replies owed for them, in order."""

    __slots__ = ("out", "owed")

    def __init__(self) -> None:
        self.out: list[bytes] = []
        self.owed: deque[tuple[int, Reply]] = deque()

    def command(self, sql: str) -> None:
        """A statement of the gateway's own (BEGIN, settings, SAVEPOINT), its replies swallowed."""
        self.parse("", sql)
        self.bind("", "")
        self.execute(Reply.SWALLOW)

    def parse(self, name: str, text: str, types: Sequence[int] = ()) -> None:
        self.out.append(m.build_parse(name, text, types))
        self.owed.append((m.F.PARSE, Reply.SWALLOW))

    def bind(
        self,
        portal: str,
        statement: str,
        formats: Sequence[int] = (),
        values: Sequence[bytes | None] = (),
        result_formats: Sequence[int] = (),
    ) -> None:
        self.out.append(m.build_bind(portal, statement, formats, values, result_formats))
        self.owed.append((m.F.BIND, Reply.SWALLOW))

    def describe(self, what: str, name: str = "") -> None:
        """The description is kept in `Exchange.description` (and `.parameter_types` for a statement)."""
        self.out.append(m.build_describe(what, name))
        self.owed.append((m.F.DESCRIBE, Reply.COLLECT))

    def execute(self, reply: Reply, portal: str = "", rows_max: int = 0) -> None:
        self.out.append(m.build_execute(portal, rows_max))
        self.owed.append((m.F.EXECUTE, reply))

    def close(self, what: str, name: str) -> None:
        self.out.append(m.build_close(what, name))
        self.owed.append((m.F.CLOSE, Reply.SWALLOW))

    def query(self, sql: str, reply: Reply) -> None:
        """A simple Query, which brings its own ReadyForQuery: only ever last, instead of `sync`."""
        self.out.append(m.build_query(sql))
        self.owed.append((m.F.QUERY, reply))

    def sync(self) -> None:
        self.out.append(m.SYNC)
        self.owed.append((m.F.SYNC, Reply.SWALLOW))

    def flush(self) -> None:
        """Instead of `sync` for COPY FROM STDIN: the server ignores a Sync that comes while it waits for data, so
        the Sync follows the data (`Exchange.copy_in`). The reply owed is the same."""
        self.out.append(m.FLUSH)
        self.owed.append((m.F.SYNC, Reply.SWALLOW))


class Receiver(Protocol):
    """What takes the replies to a flight."""

    def received(self, backend: Backend, buffer: bytes, runs: list[Run]) -> bool:
        """Takes whole messages; True when the last ReadyForQuery owed was among them."""

    def landed(self) -> None:
        """The connection is free."""

    def failed_with(self, error: DomicileError) -> None:
        """The connection is lost."""

    def abandon(self) -> asyncio.Future[None]:
        """Nobody wants the replies any more; resolves when they have come, or fails."""


class Exchange:
    """The replies to one flight. `write` gets the bytes that are forwarded; `done` resolves at the last ReadyForQuery,
    or fails with DomicileError when the connection is lost before.

    An ErrorResponse is kept in `error` as the bytes that came, and ends everything up to Sync; whoever awaits `done`
    decides what the client is told.
    """

    __slots__ = (
        "copy_in",
        "describe_hook",
        "description",
        "done",
        "error",
        "failed",
        "notice",
        "owed",
        "parameter_types",
        "row_hook",
        "rows",
        "rows_bytes",
        "rows_bytes_max",
        "tags",
        "write",
    )

    def __init__(
        self,
        flight: Flight,
        loop: asyncio.AbstractEventLoop,
        write: Callable[[bytes], None] | None = None,
        rows_bytes_max: int = 64 << 20,
    ) -> None:
        self.owed = flight.owed
        self.write = write
        self.notice: Callable[[bytes], None] | None = None
        self.done: asyncio.Future[None] = loop.create_future()
        self.error: bytes | None = None
        self.tags: list[bytes] = []  #: CommandComplete, EmptyQueryResponse and PortalSuspended messages of what was
        #: not swallowed, whole
        self.description: bytes | None = None  #: RowDescription whole, or NoData
        self.parameter_types: tuple[int, ...] = ()
        self.rows: list[bytes] = []  #: collected DataRow bodies
        self.rows_bytes = 0
        self.rows_bytes_max = rows_bytes_max
        self.copy_in: asyncio.Future[bytes] | None = None  #: resolves with CopyInResponse
        self.describe_hook: Callable[[bytes], bytes] | None = None  #: what to forward for a description
        self.row_hook: Callable[[bytes], bytes] | None = None  #: what to forward for DataRow messages
        self.failed: Callable[[], None] | None = None  #: called once at an ErrorResponse

    def received(self, backend: Backend, buffer: bytes, runs: list[Run]) -> bool:
        """Takes what came; True when the last ReadyForQuery owed was among it."""
        owed = self.owed
        out: list[bytes] = []
        for run in runs:
            kind = run.type
            if kind == B.PARAMETER_STATUS:
                backend.parameter_status(buffer[run.start + 5 : run.end])
                continue
            if kind == B.NOTICE or kind == B.NOTIFICATION:
                if self.notice is not None:
                    if out:
                        self._forward(out)
                    self.notice(buffer[run.start : run.end])
                continue
            if kind == B.ERROR:
                self.error = self.error or buffer[run.start : run.end]
                while owed and owed[0][0] != m.F.SYNC and owed[0][0] != m.F.QUERY:
                    owed.popleft()
                if self.failed is not None:
                    self.failed()
                continue
            if kind == B.READY:
                backend.status = chr(buffer[run.start + 5])
                owed.popleft()
                if not owed:
                    if out:
                        self._forward(out)
                    return True
                continue
            asked, reply = owed[0]
            if kind == B.DATA_ROW:
                if reply is Reply.FORWARD:
                    data = buffer[run.start : run.end]
                    out.append(data if self.row_hook is None else self.row_hook(data))
                elif reply is Reply.COLLECT:
                    self.rows_bytes += run.end - run.start
                    if self.rows_bytes <= self.rows_bytes_max:
                        self.rows.extend(body for _, body in m.messages(buffer, (run,)))
                    else:
                        self.rows.clear()  # counted still, so that whoever asked can say that it was too much
            elif kind == B.COMMAND_COMPLETE or kind == B.EMPTY_QUERY or kind == B.PORTAL_SUSPENDED:
                if asked == m.F.QUERY:
                    if reply is Reply.FORWARD:
                        out.append(buffer[run.start : run.end])
                else:
                    if reply is not Reply.SWALLOW:
                        self.tags.append(buffer[run.start : run.end])
                    owed.popleft()
            elif kind == B.ROW_DESCRIPTION or kind == B.NO_DATA:
                if asked == m.F.DESCRIBE:
                    self.description = buffer[run.start : run.end]
                    owed.popleft()
                    if self.describe_hook is not None and (told := self.describe_hook(self.description)):
                        out.append(told)
                elif reply is Reply.FORWARD:
                    out.append(buffer[run.start : run.end])
            elif kind == B.PARAMETER_DESCRIPTION:
                self.parameter_types = m.parameter_description(buffer[run.start + 5 : run.end])
            elif kind == B.PARSE_COMPLETE or kind == B.BIND_COMPLETE or kind == B.CLOSE_COMPLETE:
                owed.popleft()
            elif kind == B.COPY_IN:
                if self.copy_in is not None and not self.copy_in.done():
                    self.copy_in.set_result(buffer[run.start : run.end])
                if self.copy_in is None and reply is Reply.FORWARD:
                    out.append(buffer[run.start : run.end])
            elif reply is Reply.FORWARD:  # COPY out: its response, data and end
                out.append(buffer[run.start : run.end])
        if out:
            self._forward(out)
        return False

    def landed(self) -> None:
        if not self.done.done():
            self.done.set_result(None)

    def failed_with(self, error: DomicileError) -> None:
        self.error = None  # a good-bye that the server may have said: the loss itself is what the client must hear
        if not self.done.done():
            self.done.set_exception(error)
        if self.failed is not None:
            self.failed()

    def abandon(self) -> asyncio.Future[None]:
        self.write = self.notice = None
        return self.done

    def _forward(self, out: list[bytes]) -> None:
        if self.write is not None:
            self.write(out[0] if len(out) == 1 else b"".join(out))
        out.clear()


class Backend(asyncio.Protocol):
    """A logged-in connection. `status` is PostgreSQL's own ('I', 'T', 'E'); `settings` and `prepared` are what the
    gateway knows to be in force on it."""

    def __init__(self, address: Address, role: str, secret: ScramKeys | str | None) -> None:
        self.address = address
        self.region = address.region
        self.role = role
        self.parameters: dict[str, str] = {}
        self.pid = 0
        self.key = b""
        self.status = "I"
        self.settings: dict[str, str] = {}
        self.prepared: OrderedDict[object, str] = OrderedDict()
        self.owner: object = None  #: the session that uses it
        self.on_parameter: Callable[[str, str], None] | None = None
        self.on_lost: Callable[[Backend], None] | None = None
        self.lost: DomicileError | None = None
        self._secret = secret
        self._walker = Walker()
        self._transport: asyncio.Transport | None = None
        self._exchange: Receiver | None = None
        self._loop = asyncio.get_running_loop()
        self.ready: asyncio.Future[None] = self._loop.create_future()
        self._scram: ScramClient | None = None
        self._names = 0
        self._cancels = 0
        self.quiet = asyncio.Event()  #: no cancel request is on its way
        self.quiet.set()
        self._writable = asyncio.Event()
        self._writable.set()
        self._last_error: DomicileError | None = None

    # --- use -----------------------------------------------------------------------------------------------------

    def fly(
        self, flight: Flight, write: Callable[[bytes], None] | None = None, rows_bytes_max: int = 64 << 20
    ) -> Exchange:
        """Writes the flight; its replies go to the exchange returned. One flight at a time."""
        exchange = Exchange(flight, self._loop, write, rows_bytes_max)
        if self.lost is not None or self._transport is None:
            exchange.done.set_exception(self.lost or self._gone())
            return exchange
        assert self._exchange is None, "one flight at a time"
        self._exchange = exchange
        self._transport.write(b"".join(flight.out))
        return exchange

    async def run(self, flight: Flight) -> Exchange:
        """The flight's replies, all there. Raises DomicileError where the connection is lost; an error that
        PostgreSQL reports is in `error`."""
        exchange = self.fly(flight)
        await exchange.done
        return exchange

    def abandon(self) -> None:
        """Nobody wants the replies to the flight under way any more: its receiver is not told when it lands."""
        if self._exchange is not None:
            self._exchange.abandon()

    async def settle(self, wait_s: float) -> bool:
        """Whether the flight under way, abandoned, has landed within `wait_s` seconds."""
        exchange = self._exchange
        if exchange is None:
            return True
        try:
            async with asyncio.timeout(wait_s):
                await asyncio.shield(exchange.abandon())
        except TimeoutError:
            return False
        except DomicileError:
            return True
        return True

    def relay(self, data: bytes, receiver: Receiver) -> bool:
        """Writes a flight that `receiver` understands. False where the connection is lost."""
        if self.lost is not None or self._transport is None:
            return False
        self._exchange = receiver
        self._transport.write(data)
        return True

    def send(self, data: bytes) -> None:
        """Further bytes of a COPY FROM STDIN under way."""
        if self._transport is not None and self.lost is None:
            self._transport.write(data)

    async def drained(self) -> None:
        """Returns when the connection takes more bytes: back-pressure towards whoever sends."""
        await self._writable.wait()

    @property
    def busy(self) -> bool:
        return self._exchange is not None

    def statement(self, key: object) -> tuple[str, bool, str | None]:
        """(server-side name, whether it must be parsed first, a name to close first) for a statement kept prepared.

        At most PREPARED_MAX are kept, the least recently used goes first.
        """
        name = self.prepared.get(key)
        if name is not None:
            self.prepared.move_to_end(key)
            return name, False, None
        self._names += 1
        name = f"d{self._names}"
        self.prepared[key] = name
        evicted = self.prepared.popitem(last=False)[1] if len(self.prepared) > PREPARED_MAX else None
        return name, True, evicted

    def forget(self, key: object) -> None:
        """The statement's Parse did not succeed."""
        self.prepared.pop(key, None)

    def pause(self) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.pause_reading()

    def resume(self) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.resume_reading()

    def close(self) -> None:
        """Ends the connection; what is under way fails with 08006."""
        transport, self._transport = self._transport, None
        if transport is not None:
            if not self.busy:
                transport.write(m.TERMINATE)
            transport.close()
        self.lost = self.lost or self._gone("it was closed")

    async def cancel(self) -> None:
        """Asks the region to cancel what runs on this connection. Best effort, as PostgreSQL's is.

        Until PostgreSQL has taken the request the connection is not `quiet`: given to another client meanwhile, that
        client's statement would be cancelled.
        """
        self._cancels += 1
        self.quiet.clear()
        try:
            async with asyncio.timeout(CANCEL_TIMEOUT_S):
                transport, closed = await _dial(self.address, _UntilClosed)
                transport.write(m.build_cancel(self.pid, self.key))
                await closed.event.wait()  # PostgreSQL closes when it has sent the signal
        except (OSError, TimeoutError):
            return
        finally:
            self._cancels -= 1
            if not self._cancels:
                self.quiet.set()

    # --- the connection ------------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is none of asyncio's classes
        keep_alive(self._transport)
        parameters = {"user": self.role, "database": self.address.database, "client_encoding": "UTF8"}
        self._transport.write(m.build_startup(parameters))

    def data_received(self, data: bytes) -> None:
        try:
            buffer, runs = self._walker.feed(data)
            if self._exchange is not None:
                if self._exchange.received(self, buffer, runs):
                    exchange, self._exchange = self._exchange, None
                    exchange.landed()
            elif not self.ready.done():
                for message in m.messages(buffer, runs):
                    self._log_in(message)
            else:
                for message in m.messages(buffer, runs):
                    self._idle(message)
        except (DomicileError, IndexError) as error:  # the peer broke the protocol
            self._fail(error if isinstance(error, DomicileError) else self._gone("it broke the protocol"))

    def connection_lost(self, exc: Exception | None) -> None:
        self._fail(self._gone(str(exc)) if exc else self._gone())

    def pause_writing(self) -> None:
        self._writable.clear()

    def resume_writing(self) -> None:
        self._writable.set()

    def parameter_status(self, body: bytes) -> None:
        name, value = (part.decode() for part in body.split(b"\0")[:2])
        self.parameters[name] = value
        if self.on_parameter is not None:
            self.on_parameter(name, value)

    def _log_in(self, message: m.Message) -> None:
        kind, body = message
        if kind == B.AUTHENTICATION:
            self._authenticate(int.from_bytes(body[:4], "big"), body[4:])
        elif kind == B.PARAMETER_STATUS:
            self.parameter_status(body)
        elif kind == B.KEY_DATA:
            self.pid, self.key = int.from_bytes(body[:4], "big"), body[4:]
        elif kind == B.READY:
            self._secret = None
            self.ready.set_result(None)
        elif kind == B.ERROR:
            self.ready.set_exception(m.error_of(body))
        elif kind != B.NOTICE and kind != B.NEGOTIATE:
            raise self._gone("it broke the protocol")

    def _authenticate(self, code: int, body: bytes) -> None:
        assert self._transport is not None
        if code == 0:
            return
        if code == 10 and self._secret is not None and b"SCRAM-SHA-256" in body.split(b"\0"):
            self._scram = ScramClient(self._secret)
            first = self._scram.first()
            self._transport.write(
                m.message(m.F.PASSWORD, m.cstring("SCRAM-SHA-256") + len(first).to_bytes(4, "big") + first)
            )
        elif code == 11 and self._scram is not None:
            self._transport.write(m.message(m.F.PASSWORD, self._scram.final(body)))
        elif code == 12 and self._scram is not None:
            self._scram.verify(body)
        else:
            raise DomicileError(
                "28000",
                f"region {self.region} asks for an authentication that the gateway does not offer",
                hint="Set scram-sha-256 for the gateway's address in pg_hba.conf.",
            )

    def _idle(self, message: m.Message) -> None:
        if message.type == B.PARAMETER_STATUS:
            self.parameter_status(message.body)
        elif message.type == B.ERROR:  # e.g. 57P01, the server shuts down
            self._last_error = m.error_of(message.body)

    def _gone(self, why: str = "") -> DomicileError:
        return DomicileError(
            CONNECTION_FAILURE,
            f"connection to region {self.region} was lost",
            detail=(self._last_error.message if self._last_error else why) or None,
            hint="What was under way there is rolled back unless it was committed; try again.",
        )

    def _fail(self, error: DomicileError) -> None:
        if self.lost is None:
            self.lost = error
        transport, self._transport = self._transport, None
        if transport is not None:
            transport.close()
        if not self.ready.done():
            self.ready.set_exception(error)
        exchange, self._exchange = self._exchange, None
        if exchange is not None:
            exchange.failed_with(error)
        self._writable.set()
        if self.on_lost is not None:
            self.on_lost(self)


class _UntilClosed(asyncio.Protocol):
    def __init__(self) -> None:
        self.event = asyncio.Event()

    def connection_lost(self, exc: Exception | None) -> None:
        self.event.set()


_P = TypeVar("_P", bound=asyncio.Protocol)


async def _dial(address: Address, protocol: Callable[[], _P]) -> tuple[asyncio.Transport, _P]:
    """A connection with the address's kind of TLS, nothing sent on it yet. Raises OSError or ssl.SSLError."""
    loop = asyncio.get_running_loop()
    if address.host.startswith("/"):
        return await loop.create_unix_connection(protocol, f"{address.host}/.s.PGSQL.{address.port}")
    hostname = address.server_hostname if address.tls is not None else None
    if not address.asks_for_tls:
        return await loop.create_connection(
            protocol, address.host, address.port, ssl=address.tls, server_hostname=hostname
        )
    found = await loop.getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM)
    family, kind, number, _, where = found[0]
    sock = socket.socket(family, kind, number)
    try:
        sock.setblocking(False)
        await loop.sock_connect(sock, where)
        await loop.sock_sendall(sock, (8).to_bytes(4, "big") + m.SSL_REQUEST.to_bytes(4, "big"))
        if await loop.sock_recv(sock, 1) != b"S":
            raise OSError("the server does not speak TLS")
        return await loop.create_connection(protocol, sock=sock, ssl=address.tls, server_hostname=hostname)
    except BaseException:
        sock.close()
        raise


async def connect(address: Address, role: str, secret: ScramKeys | str | None) -> Backend:
    """A logged-in backend. Raises what PostgreSQL or the guard said (28P01, 3D000, …), or 57P03 naming the region
    where nothing answers in `address.connect_timeout_s`."""
    backend = Backend(address, role, secret)
    try:
        async with asyncio.timeout(address.connect_timeout_s):
            await _dial(address, lambda: backend)
            await asyncio.shield(backend.ready)
    except (OSError, TimeoutError) as fault:  # ssl.SSLError is an OSError
        backend.close()
        if backend.ready.done():
            backend.ready.exception()
        else:
            backend.ready.cancel()
        raise DomicileError(
            CANNOT_CONNECT_NOW,
            f"region {address.region} can't be reached",
            detail=str(fault) or f"no answer within {address.connect_timeout_s:g} seconds",
            hint="Statements for other regions are not affected; try again when it is back.",
        ) from None
    except DomicileError:
        backend.close()
        raise
    return backend
