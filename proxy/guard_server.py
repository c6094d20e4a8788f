"""The guard's connections to its own PostgreSQL: TLS where it is configured, the log-in, and then bytes.

PostgreSQL must ask for SCRAM: a server that lets foreign roles in without has no wall behind the guard.
"""

from __future__ import annotations

import asyncio
import ssl
from typing import Protocol, cast

from ..catalog.errors import CANNOT_CONNECT_NOW, INVALID_AUTHORIZATION, DomicileError
from . import messages as m
from .messages import B, F, Run, Walker
from .scram import ScramClient, ScramKeys


class Login:
    """The log-in to PostgreSQL, sans IO: messages in, bytes to send out."""

    def __init__(self, user: str, database: str, secret: ScramKeys | str, parameters: dict[str, str]) -> None:
        self.parameters: dict[str, str] = {}
        self.pid = 0
        self.key = b""
        self._done = False
        self._startup = {"user": user, "database": database, **parameters}
        self._scram = ScramClient(secret)
        self._verified = False

    @property
    def keys(self) -> ScramKeys | None:
        """After a log-in: what makes the next one cheaper."""
        return self._scram.keys

    def done(self) -> bool:
        return self._done

    def start(self) -> bytes:
        return m.build_startup(self._startup)

    def received(self, message: m.Message) -> bytes:
        """What to send in answer. Raises DomicileError for PostgreSQL's refusal and for what is no log-in."""
        kind, body = message
        if kind == B.AUTHENTICATION:
            return self._authenticate(int.from_bytes(body[:4], "big"), body[4:])
        if kind == B.PARAMETER_STATUS:
            name, value = body.split(b"\0")[:2]
            self.parameters[name.decode()] = value.decode()
        elif kind == B.KEY_DATA:
            self.pid, self.key = int.from_bytes(body[:4], "big"), body[4:]
        elif kind == B.ERROR:
            raise m.error_of(body)
        elif kind == B.READY:
            self._done = True
        return b""

    def _authenticate(self, code: int, body: bytes) -> bytes:
        if code == 0 and self._verified:
            return b""
        if code == 10 and b"SCRAM-SHA-256" in body.split(b"\0"):
            first = self._scram.first()
            return m.message(F.PASSWORD, m.cstring("SCRAM-SHA-256") + len(first).to_bytes(4, "big") + first)
        if code == 11:
            return m.message(F.PASSWORD, self._scram.final(body))
        if code == 12:
            self._scram.verify(body)
            self._verified = True
            return b""
        # `trust` too: a server that asks foreign roles for no secret lets in whoever reaches it.
        raise DomicileError(
            INVALID_AUTHORIZATION,
            "PostgreSQL does not ask foreign roles for SCRAM-SHA-256",
            hint="Set scram-sha-256 for the guard's address in pg_hba.conf.",
        )


class Reader(Protocol):
    """Who takes what PostgreSQL sends after the log-in."""

    def relay(self, buffer: bytes, runs: list[Run]) -> None: ...

    def end(self) -> None: ...

    def pause(self) -> None: ...

    def resume(self) -> None: ...


class Server(asyncio.Protocol):
    """A connection to PostgreSQL, of one caller.

    `ready` resolves when it is logged in, or fails with the reason; `closed` when the connection has ended.
    """

    def __init__(self, login: Login, caller: Reader) -> None:
        self.login = login
        self.ready: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.ready.add_done_callback(_heard)
        self.closed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._caller = caller
        self._walker = Walker()
        self._transport: asyncio.Transport | None = None
        self._closing: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's TLS transport is one in all but name.
        self._transport = transport = cast(asyncio.Transport, transport)
        transport.write(self.login.start())

    def data_received(self, data: bytes) -> None:
        try:
            buffer, runs = self._walker.feed(data)
            if self.login.done():
                self._caller.relay(buffer, runs)
                return
            for message in m.messages(buffer, runs):
                if answer := self.login.received(message):
                    self.write(answer)
            if self.login.done() and not self.ready.done():
                self.ready.set_result(None)
        except DomicileError as error:
            self._fail(error)

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = self._closing = None
        self._fail(DomicileError(CANNOT_CONNECT_NOW, "PostgreSQL closed the connection"))
        self.closed.set_result(None)

    def _fail(self, error: DomicileError) -> None:
        if not self.ready.done():
            self.ready.set_exception(error)
        elif self.login.done():
            self._caller.end()
        self.close()

    def write(self, data: bytes) -> None:
        if self._transport is not None:
            self._transport.write(data)

    def close(self) -> None:
        transport, self._transport = self._transport, None
        if transport is not None and not transport.is_closing():
            self._closing = transport
            transport.write(m.TERMINATE)
            transport.close()

    def abort(self) -> None:
        if self._closing is not None:
            self._closing.abort()

    def pause_writing(self) -> None:
        self._caller.pause()

    def resume_writing(self) -> None:
        self._caller.resume()

    def pause(self) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.pause_reading()

    def resume(self) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.resume_reading()


def _heard(ready: asyncio.Future[None]) -> None:
    """Nobody waits for `ready` where TLS failed before: its exception is no surprise."""
    if not ready.cancelled():
        ready.exception()


class AskForTls(asyncio.Protocol):
    """Asks PostgreSQL for TLS; `granted` resolves when the handshake may begin."""

    def __init__(self) -> None:
        self.granted: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        cast(asyncio.Transport, transport).write((8).to_bytes(4, "big") + m.SSL_REQUEST.to_bytes(4, "big"))

    def data_received(self, data: bytes) -> None:
        # More than the one byte would be text slipped in before the encryption (CVE-2021-23222).
        if data == b"S":
            self.granted.set_result(None)
        else:
            self.granted.set_exception(ssl.SSLError("PostgreSQL does not offer TLS; see [postgres] sslmode"))

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.granted.done():
            self.granted.set_exception(exc or ConnectionResetError("PostgreSQL closed the connection"))
