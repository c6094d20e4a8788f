"""One client: log-in, then its messages in order, one batch (up to Sync, Flush or Query) at a time.

Where does a query go? `_query` (simple) or `_batch` (extended) → `Gateway.plan` → `execute.execute`. Statements and
portals of the extended protocol are virtual: they are the session's own, and reach a region when they are executed.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, cast

from ..catalog import errors as e
from ..catalog.errors import DomicileError
from ..catalog.names import RegionName
from ..planner.plan import Kind, Plan
from . import execute, fast
from . import messages as m
from .backend import Backend, Flight, Reply
from .messages import F, Walker
from .recovery import Coordination
from .scram import ScramServer
from .settings import REPORTED_AT_LOGIN, parse_options
from .statement import LONG_STATEMENT_BYTES, Bound, Described, Statement
from .transaction import Part, ServerError, Transaction

if TYPE_CHECKING:
    from .gateway import Gateway

_log = logging.getLogger("domicile.gateway")

INBOX_BYTES_MAX = 1 << 20
"""Beyond this much unread input the client is not read from until the session has caught up."""

BATCH_MESSAGES_MAX = 10_000
"""A longer pipeline without Sync is run in pieces, within one implicit transaction."""

STATEMENTS_MAX = 10_000
"""Prepared statements of one session; a driver that keeps more has a leak."""

SEEN_MAX = 256
"""Unnamed statements that a session remembers, by their Parse message."""

COPY_BYTES = 1 << 18
"""Data of COPY FROM STDIN that is looked at together."""

OUT_BYTES = 1 << 16
"""Output is gathered up to this much within a batch before it is written."""

_TEXT_ENCODINGS = frozenset({"utf8", "unicode", "utf-8"})


class Session(asyncio.Protocol):
    def __init__(self, gateway: Gateway) -> None:
        self.gateway = gateway
        self.role = ""
        self.cancel_key = b""
        self.search_path: tuple[str, ...] = ()
        self.transaction = Transaction(gateway.here, self.take, self.give, Coordination(gateway, ""))
        self._pid = 0
        self._transport: asyncio.Transport | None = None
        self._walker: Walker | None = None
        self._startup = b""
        self._inbox: deque[m.Message] = deque()
        self._inbox_bytes = 0
        self._reading = True
        self._wake: asyncio.Future[None] | None = None
        self._gone = False
        self._task: asyncio.Task[None] | None = None
        self._out: list[bytes] = []
        self._out_bytes = 0
        self.relaying = False  #: fast.py is at work: the task waits
        self._idle = False
        self.statements: dict[str, Statement] = {}
        self.cursors: dict[str, RegionName] = {}  #: where SQL's cursors live
        self._portals: dict[str, Bound] = {}
        self._told: dict[str, str] = {}
        self._seen: dict[bytes, Statement] = {}
        self._seen_under: tuple[int, tuple[str, ...]] = (0, ())
        self._initial: dict[str, str] = {}
        self._batch_ends = False
        self._can_write = asyncio.Event()
        self._can_write.set()

    # --- the socket ----------------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is none of asyncio's classes
        if self._task is None:
            self._task = self.gateway.spawn(self._live())

    def data_received(self, data: bytes) -> None:
        if self._walker is None:
            self._startup += data
            if len(self._startup) > m.STARTUP_BYTES_MAX:
                self.terminate(
                    DomicileError(e.PROTOCOL_VIOLATION, "invalid length of startup packet", severity="FATAL")
                )
            self._awake()
            return
        try:
            buffer, runs = self._walker.feed(data)
        except DomicileError as error:
            error.severity = "FATAL"
            self.terminate(error)
            return
        if runs:
            if self._idle and not self._inbox and fast.relay(self, buffer, runs):
                return
            self._inbox.extend(m.messages(buffer, runs))
            self._inbox_bytes += len(buffer)
            if self._inbox_bytes > INBOX_BYTES_MAX and self._reading and self._transport is not None:
                self._transport.pause_reading()
                self._reading = False
            self._awake()

    def connection_lost(self, exc: Exception | None) -> None:
        self._gone = True
        self._transport = None
        self._can_write.set()
        if self._task is not None:
            self._task.cancel()

    def pause_writing(self) -> None:
        """The client does not read as fast as regions answer: they are not read from either."""
        self._can_write.clear()
        for part in self.transaction.parts.values():
            part.backend.pause()

    def resume_writing(self) -> None:
        self._can_write.set()
        for part in self.transaction.parts.values():
            part.backend.resume()

    @property
    def client_reads(self) -> bool:
        """Whether the client takes what it is sent; while it does not, regions are not read from."""
        return self._can_write.is_set()

    def terminate(self, error: DomicileError) -> None:
        """Tells the client why, then closes."""
        if self._transport is not None:
            self._transport.write(b"".join(self._out) + m.build_error(error))
            self._transport.close()
        self._out.clear()
        self._gone = True
        self._awake()

    def _awake(self) -> None:
        if self._wake is not None and not self._wake.done():
            self._wake.set_result(None)

    async def _sleep(self) -> None:
        self._wake = asyncio.get_running_loop().create_future()
        try:
            await self._wake
        finally:
            self._wake = None

    async def message(self) -> m.Message:
        """The client's next message. Raises CancelledError when the client is gone."""
        while not self._inbox or self.relaying:
            if self._gone:
                raise asyncio.CancelledError
            self.flush()
            await self._sleep()
        return self._pop()

    async def message_or(self, failed: Callable[[], bool]) -> m.Message | None:
        """The client's next message, or None as soon as `failed()` (whoever makes it true calls `nudge`)."""
        while not self._inbox and not failed():
            if self._gone:
                raise asyncio.CancelledError
            self.flush()
            await self._sleep()
        return None if failed() else self._pop()

    def copied(self) -> list[bytes]:
        """The bodies of the CopyData messages that have come already, up to COPY_BYTES."""
        found: list[bytes] = []
        size = 0
        while self._inbox and self._inbox[0].type == F.COPY_DATA and size < COPY_BYTES:
            found.append(self._pop().body)
            size += len(found[-1])
        return found

    def nudge(self) -> None:
        """Something that `message` or `message_or` waits for may have happened."""
        self._awake()

    def write(self, data: bytes) -> None:
        """To the client at once: only while nothing waits in `out`."""
        if self._transport is not None:
            self._transport.write(data)

    def _pop(self) -> m.Message:
        message = self._inbox.popleft()
        if not self._inbox:
            self._inbox_bytes = 0
            if not self._reading and self._transport is not None:
                self._transport.resume_reading()
                self._reading = True
        return message

    def out(self, data: bytes) -> None:
        """To the client, in order; written at the latest when the batch ends."""
        self._out.append(data)
        self._out_bytes += len(data)
        if self._out_bytes > OUT_BYTES:
            self.flush()

    def flush(self) -> None:
        if self._out:
            if self._transport is not None:
                self._transport.write(b"".join(self._out))
            self._out.clear()
            self._out_bytes = 0

    # --- life ----------------------------------------------------------------------------------------------------

    async def _live(self) -> None:
        try:
            async with asyncio.timeout(self.gateway.settings.login_timeout_s):
                if not await self._log_in():
                    return
            while True:
                await self._batch(await self._read_batch())
        except TimeoutError:
            self.terminate(DomicileError("57014", "canceling authentication due to timeout", severity="FATAL"))
        except DomicileError as error:
            error.severity = "FATAL"
            self.terminate(error)
        except ServerError as error:
            if self._transport is not None:
                self._transport.write(b"".join(self._out) + error.raw)
        except (asyncio.CancelledError, ConnectionError):
            pass
        except Exception:
            _log.exception("a session of %s failed", self.role or "a client that had not logged in")
            self.terminate(DomicileError(e.INTERNAL_ERROR, "the gateway failed; its log says why", severity="FATAL"))
        finally:
            self._gone = True
            if self._transport is not None:
                self._transport.close()
            if self._pid:
                self.gateway.dismiss(self._pid)
            self.gateway.spawn(self._clean_up())

    async def _clean_up(self) -> None:
        """After the client: what it left open is rolled back, and the backends go back to their pools."""
        pinned, self.transaction.pinned = self.transaction.pinned, None
        await self.transaction.rollback()
        if pinned is not None:
            pinned.close()
            self.give(pinned)

    async def _startup_packet(self) -> m.Startup:
        while True:
            if len(self._startup) >= 4:
                size = int.from_bytes(self._startup[:4], "big")
                if not 8 <= size <= m.STARTUP_BYTES_MAX:
                    raise DomicileError(e.PROTOCOL_VIOLATION, "invalid length of startup packet")
                if len(self._startup) >= size:
                    body, self._startup = self._startup[4:size], self._startup[size:]
                    return m.startup(body)
            if self._gone:
                raise asyncio.CancelledError
            await self._sleep()

    async def _log_in(self) -> bool:
        binding: bytes | None = None
        while True:
            startup = await self._startup_packet()
            if startup.code == m.CANCEL_REQUEST:
                self.gateway.cancel(startup.cancel_pid, startup.cancel_key)
                return False
            if startup.code not in (m.SSL_REQUEST, m.GSSENC_REQUEST):
                break
            assert self._transport is not None
            if self._startup:
                raise DomicileError(e.PROTOCOL_VIOLATION, "received unencrypted data after SSL request")
            tls = self.gateway.client_tls if startup.code == m.SSL_REQUEST else None
            if tls is None or binding is not None:
                self._transport.write(b"N")
                continue
            self._transport.write(b"S")
            transport = await asyncio.get_running_loop().start_tls(self._transport, self, tls, server_side=True)
            self._transport = cast(asyncio.Transport, transport)
            binding = self.gateway.binding
        if startup.code >> 16 != 3:
            raise DomicileError(
                e.FEATURE_NOT_SUPPORTED,
                f"unsupported frontend protocol {startup.code >> 16}.{startup.code & 0xFFFF}: server supports 3.0",
            )
        self._walker = Walker(m.SMALL_MESSAGE_BYTES_MAX)
        asked = startup.parameters
        unknown = [name for name in asked if name.startswith("_pq_.")]
        if startup.code & 0xFFFF or unknown:
            body = (0).to_bytes(4, "big") + len(unknown).to_bytes(4, "big") + b"".join(map(m.cstring, unknown))
            self.out(m.message(m.B.NEGOTIATE, body))
        if not asked.get("user"):
            raise DomicileError(e.INVALID_AUTHORIZATION, "no PostgreSQL user name specified in startup packet")
        if asked.get("replication", "false").lower() not in ("false", "off", "no", "0"):
            raise DomicileError(e.FEATURE_NOT_SUPPORTED, "replication connections do not go through a gateway")
        self.role = asked["user"]
        self.transaction.coordinator = Coordination(self.gateway, self.role)
        initial = self._initial_settings(asked)
        await self._authenticate(binding)
        database = asked.get("database") or self.role
        if database != self.gateway.database:
            raise DomicileError(
                e.INVALID_CATALOG_NAME,
                f'database "{database}" does not exist',
                hint=f'This gateway serves database "{self.gateway.database}".',
            )
        if len(self.gateway.sessions) >= self.gateway.settings.clients_max:
            raise DomicileError(
                e.TOO_MANY_CONNECTIONS,
                f"the gateway serves {len(self.gateway.sessions)} clients, which is its limit",
                hint="Raise gateway.clients_max, or start another gateway.",
            )
        self.transaction.settings = initial
        parameters = await self._greet()
        self._initial = dict(self.transaction.settings)
        self._walker.bytes_max = m.MESSAGE_BYTES_MAX
        self._pid, self.cancel_key = self.gateway.admit(self)
        self.out(m.AUTHENTICATION_OK)
        for name in REPORTED_AT_LOGIN:
            if name in parameters:
                self._parameter(name, parameters[name])
        self.out(m.build_key_data(self._pid, self.cancel_key))
        self.out(m.READY["I"])
        self.flush()
        self.gateway.warm(self.role)
        return True

    def _initial_settings(self, asked: dict[str, str]) -> dict[str, str]:
        try:
            settings = parse_options(asked.get("options", ""))
        except ValueError as fault:
            raise DomicileError("42601", f"invalid command-line argument for server process: {fault}") from None
        for name, value in asked.items():
            if name not in ("user", "database", "options", "replication") and not name.startswith("_pq_."):
                settings[name.lower()] = value
        encoding = settings.pop("client_encoding", "UTF8").strip("'\"").lower()
        if encoding not in _TEXT_ENCODINGS:
            raise DomicileError(
                e.FEATURE_NOT_SUPPORTED,
                f"client_encoding {encoding} is not supported yet",
                hint="Set PGCLIENTENCODING or client_encoding to UTF8.",
            )
        return settings

    async def _authenticate(self, binding: bytes | None) -> None:
        verifier, exists = await self.gateway.verifier(self.role)
        scram = ScramServer(self.role, verifier, exists=exists, binding=binding)
        offer = b"".join(map(m.cstring, scram.mechanisms)) + b"\0"
        self.out(m.message(m.B.AUTHENTICATION, (10).to_bytes(4, "big") + offer))
        first = await self._password()
        mechanism, _, rest = first.partition(b"\0")
        if len(rest) < 4:
            raise DomicileError(e.PROTOCOL_VIOLATION, "invalid SASLInitialResponse message")
        answer = scram.first(mechanism.decode(errors="replace"), rest[4:])
        self.out(m.message(m.B.AUTHENTICATION, (11).to_bytes(4, "big") + answer))
        answer = scram.final(await self._password())
        self.out(m.message(m.B.AUTHENTICATION, (12).to_bytes(4, "big") + answer))
        assert scram.keys is not None
        self.gateway.keys[self.role] = scram.keys

    async def _password(self) -> bytes:
        message = await self.message()
        if message.type != F.PASSWORD:
            raise DomicileError(e.PROTOCOL_VIOLATION, f"expected SASL response, got message type {message.type}")
        return message.body

    async def _greet(self) -> dict[str, str]:
        """Puts the initial settings in force at home, which checks them, and learns what a client must be told."""
        backend = await self.transaction.use(self.gateway.here)
        failed = True
        try:
            flight = self.transaction.prefix(backend)
            self._ask_search_path(flight)
            exchange = await backend.run(flight)
            failed = exchange.error is not None
            if exchange.error is not None:
                raise m.error_of(exchange.error[5:])
            self._learn_search_path(exchange.rows[-1])
            return dict(backend.parameters)
        finally:
            self.transaction.landed(backend, failed)

    def _ask_search_path(self, flight: Flight) -> None:
        flight.parse("", "select array_to_string(current_schemas(false), E'\\x01')")
        flight.bind("", "")
        flight.execute(Reply.COLLECT)
        flight.sync()

    def _learn_search_path(self, row: bytes) -> None:
        text = m.data_row(row)[0]
        self.search_path = tuple(text.decode().split("\x01")) if text else ()

    def _parameter(self, name: str, value: str) -> None:
        if self._told.get(name) != value and name != "client_encoding":
            self._told[name] = value
            self.out(m.build_parameter_status(name, value))
        elif name == "client_encoding" and name not in self._told:
            self._told[name] = "UTF8"
            self.out(m.build_parameter_status(name, "UTF8"))

    def tell_parameters(self, backend: Backend) -> None:
        """Tells the client what it does not know yet. PostgreSQL reports a change against what it said last on that
        connection, which may have been to another client."""
        for name, value in backend.parameters.items():
            self._parameter(name, value)

    async def take(self, region: RegionName) -> Backend:
        """A backend of the region from its pool, until `give`."""
        pool = self.gateway.pool(region, self.role)
        backend = pool.take_idle() or await pool.take()
        backend.owner = self
        if region == self.gateway.here:
            backend.on_parameter = self._parameter if self._pid else None
        if not self._can_write.is_set():
            backend.pause()
        return backend

    def give(self, backend: Backend) -> None:
        backend.resume()
        self.gateway.pool(backend.region, self.role).give(backend)

    async def cancel(self) -> None:
        """Cancels what runs for this client now, in every region in use."""
        busy = [p.backend for p in self.transaction.parts.values() if p.backend.busy and p.backend.owner is self]
        await asyncio.gather(*(backend.cancel() for backend in busy))

    # --- batches -------------------------------------------------------------------------------------------------

    async def _read_batch(self) -> list[m.Message]:
        batch: list[m.Message] = []
        while len(batch) < BATCH_MESSAGES_MAX:
            self._idle = not batch
            message = await self.message()
            self._idle = False
            batch.append(message)
            if message.type in _ENDS_BATCH:
                break
        return batch

    async def _batch(self, batch: list[m.Message]) -> None:
        last = batch[-1]
        if last.type == F.TERMINATE:
            raise asyncio.CancelledError
        if last.type == F.QUERY and len(batch) == 1:
            await self._query(m.query(last.body))
            return
        executes = sum(message.type == F.EXECUTE for message in batch)
        transaction = self.transaction
        if executes and not transaction.open and (executes > 1 or last.type != F.SYNC):
            transaction.begin("BEGIN", implicit=True)
        self._batch_ends = False
        for index, message in enumerate(batch):
            following = batch[index + 1] if index + 1 < len(batch) else None
            try:
                await self._message(message, following)
            except (DomicileError, ServerError) as error:
                await self._failed(error)
                await self._skip_to_sync([] if self._batch_ends else batch[index + 1 :])
                return
            if self._batch_ends:
                return
        self.flush()

    async def _failed(self, error: DomicileError | ServerError) -> None:
        """Tells the client, and leaves no transaction that it does not know of."""
        if isinstance(error, DomicileError):
            self.out(m.build_error(error))
        else:
            self.out(error.raw)
        if self.transaction.implicit:
            await self.transaction.rollback()
        elif self.transaction.open:
            self.transaction.fail()
        self._drop_portals()

    async def _skip_to_sync(self, rest: list[m.Message]) -> None:
        """After an error everything is skipped to Sync (PostgreSQL documentation, "Extended Query")."""
        pending = deque(rest)
        while True:
            message = pending.popleft() if pending else await self.message()
            if message.type == F.SYNC:
                await self._sync()
                return
            if message.type == F.TERMINATE:
                raise asyncio.CancelledError

    async def _sync(self) -> None:
        if self.transaction.implicit:
            try:
                await self.transaction.commit()
            except (DomicileError, ServerError) as error:
                await self._failed(error)
        if self.transaction.status == "I":
            self._drop_portals()
        self.out(m.READY[self.transaction.status])
        self.flush()

    def _drop_portals(self) -> None:
        self._portals.clear()
        if self.transaction.status == "I":
            self.cursors.clear()  # those WITH HOLD live at home, where one looks for a cursor anyway

    async def _message(self, message: m.Message, following: m.Message | None) -> None:
        kind, body = message
        if kind == F.PARSE:
            await self._parse(m.parse(body), following)
        elif kind == F.BIND:
            self._bind(m.bind(body))
        elif kind == F.DESCRIBE:
            await self._describe(*m.target(body), following)
        elif kind == F.EXECUTE:
            await self._execute(*m.execute(body))
        elif kind == F.CLOSE:
            self._close(*m.target(body))
        elif kind == F.SYNC:
            await self._sync()
        elif kind == F.QUERY:
            await self._query(m.query(body))
        elif kind == F.FUNCTION_CALL:  # like Query, it is answered with ReadyForQuery and has no Sync
            await self._failed(
                DomicileError(
                    e.FEATURE_NOT_SUPPORTED,
                    "function calls by protocol message are not supported through the gateway yet",
                    hint="Call the function by SELECT; for large objects, connect to the region's own server.",
                )
            )
            await self._sync()
        elif kind not in (F.FLUSH, F.COPY_DATA, F.COPY_DONE, F.COPY_FAIL):
            raise DomicileError(e.PROTOCOL_VIOLATION, f"invalid frontend message type {kind}")

    # --- the extended protocol -----------------------------------------------------------------------------------

    async def _parse(self, parse: m.Parse, following: m.Message | None) -> None:
        if parse.name and parse.name in self.statements:
            raise DomicileError(e.DUPLICATE_STATEMENT, f'prepared statement "{parse.name}" already exists')
        if len(self.statements) >= STATEMENTS_MAX:
            raise DomicileError(
                e.PROGRAM_LIMIT_EXCEEDED, f"a session may keep {STATEMENTS_MAX} prepared statements", hint="Close some."
            )
        self.statements.pop("", None)
        plan = await self.gateway.plan(parse.text, self.search_path, self.role)
        self._refuse_in_failed(plan)
        statement = Statement(parse.name, parse.text, parse.types, plan)
        if following is None or following.type != F.BIND:
            await self.described(statement)  # errors come at Parse, as from PostgreSQL
        self.statements[parse.name] = statement
        self.out(m.PARSE_COMPLETE)

    def _bind(self, bind: m.Bind) -> None:
        statement = self.statements.get(bind.statement)
        if statement is None:
            raise DomicileError(e.UNDEFINED_STATEMENT, f'prepared statement "{bind.statement}" does not exist')
        if bind.portal and bind.portal in self._portals:
            raise DomicileError("42P03", f'cursor "{bind.portal}" already exists')
        self._refuse_in_failed(statement.plan)
        self._portals[bind.portal] = Bound(statement, bind.portal, bind.formats, bind.values, bind.result_formats)
        self.out(m.BIND_COMPLETE)

    async def _describe(self, what: str, name: str, following: m.Message | None) -> None:
        if what == "S":
            statement = self.statements.get(name)
            if statement is None:
                raise DomicileError(e.UNDEFINED_STATEMENT, f'prepared statement "{name}" does not exist')
            described = await self.described(statement)
            self.out(m.build_parameter_description(described.types))
            self.out(described.description)
            return
        bound = self._portals.get(name)
        if bound is None:
            await execute.describe_cursor(self, name)
        elif following is not None and following.type == F.EXECUTE and m.execute(following.body)[0] == name:
            bound.tell_description = bound.tell_no_data = True
        else:
            self.out((await self.described(bound.statement)).formatted(bound.result_formats))

    async def _execute(self, portal: str, rows_max: int) -> None:
        bound = self._portals.get(portal)
        if bound is None:
            raise DomicileError(e.UNDEFINED_PORTAL, f'portal "{portal}" does not exist')
        bound.rows_max = rows_max
        await self._run(bound)

    def _close(self, what: str, name: str) -> None:
        if what == "S":
            self.statements.pop(name, None)
        else:
            self._portals.pop(name, None)
        self.out(m.CLOSE_COMPLETE)

    async def described(self, statement: Statement) -> Described:
        """What the home region says of the statement. Kept with the statement. Raises ServerError."""
        if statement.described is None:
            statement.described = await execute.describe(self, statement)
        return statement.described

    def forget(self, name: str | None) -> bool:
        """DEALLOCATE: drops a prepared statement (None: all). False where there is none of that name."""
        if name is None:
            self.statements.clear()
            return True
        return self.statements.pop(name, None) is not None

    # --- the simple protocol -------------------------------------------------------------------------------------

    async def _query(self, text: str) -> None:
        try:
            await self._run_query(text)
        except (DomicileError, ServerError) as error:
            await self._failed(error)
        await self._sync()

    async def _run_query(self, text: str) -> None:
        self._portals.pop("", None)
        self.statements.pop("", None)
        plans = await self.gateway.plans(text, self.search_path, self.role)
        if not plans:
            self.out(m.EMPTY_QUERY_RESPONSE)
            return
        several = len(plans) > 1
        if several and not self.transaction.open:
            self.transaction.begin("BEGIN", implicit=True)
        for plan in plans:
            await self._run(Bound(Statement("", plan.text, (), plan), tell_description=True))
            if several and not self.transaction.open:  # a COMMIT in the middle: what follows is a new one
                self.transaction.begin("BEGIN", implicit=True)

    async def _run(self, bound: Bound) -> None:
        plan = bound.plan
        self._refuse_in_failed(plan)
        if self.transaction.pinned is None and plan.pins is not None:
            await self.pin()
        await execute.execute(self, bound)
        if self._pinned_search_path(plan):
            await self.refresh_search_path()

    def seen(self, body: bytes) -> Statement | None:
        """The unnamed statement of this Parse (its body), planned once while names mean the same. None for a named or
        an empty one, or a long text. Raises DomicileError."""
        version = (self.gateway.catalog().version, self.search_path)
        if self._seen_under != version or len(self._seen) >= SEEN_MAX:
            self._seen.clear()
            self._seen_under = version
        statement = self._seen.get(body)
        if statement is None:
            parse = m.parse(body)
            if parse.name or len(parse.text) > LONG_STATEMENT_BYTES:
                return None
            plans = self.gateway.plans_now(parse.text, self.search_path, self.role)
            if len(plans) != 1:
                return None
            statement = self._seen[body] = Statement("", parse.text, parse.types, plans[0])
        return statement

    def relay_started(self, backend: Backend) -> None:
        """fast.py has sent a statement: the task waits until it has landed."""
        self.relaying = True
        self.transaction.parts[backend.region] = Part(backend, True, backend.settings)

    def relay_landed(self, backend: Backend) -> None:
        self.relaying = False
        self.transaction.parts.pop(backend.region, None)
        self.gateway.pool(backend.region, self.role).give(backend)
        if self._inbox or self._gone:
            self._awake()

    def _pinned_search_path(self, plan: Plan) -> bool:
        return self.transaction.pinned is not None and "set_config" in plan.text.lower()

    async def pin(self) -> None:
        """Keeps one home backend for this client, until it ends or says DISCARD ALL."""
        if self.transaction.pinned is None:
            part = self.transaction.parts.get(self.gateway.here)
            self.transaction.pinned = part.backend if part is not None else await self.take(self.gateway.here)

    def unpin(self) -> None:
        """After DISCARD ALL: the backend is as new, and goes back unless a transaction holds it."""
        backend, self.transaction.pinned = self.transaction.pinned, None
        if backend is not None and self.gateway.here not in self.transaction.parts:
            backend.settings.clear()
            backend.prepared.clear()
            self.give(backend)

    async def refresh_search_path(self) -> None:
        """Learns the schemas that unqualified names are looked up in, after a change. Not in a failed transaction."""
        if self.transaction.status == "E":
            return
        backend = await self.transaction.use(self.gateway.here)
        failed = True
        try:
            flight = self.transaction.prefix(backend)
            self._ask_search_path(flight)
            exchange = await backend.run(flight)
            failed = exchange.error is not None
            if exchange.error is None:
                self._learn_search_path(exchange.rows[-1])
        finally:
            self.transaction.landed(backend, failed)

    def reset_settings(self) -> None:
        """RESET ALL: what the client asked for when it connected."""
        self.transaction.settings = dict(self._initial)

    def initial_setting(self, name: str) -> str | None:
        return self._initial.get(name)

    def _refuse_in_failed(self, plan: Plan) -> None:
        if self.transaction.status == "E" and plan.kind not in (Kind.ROLLBACK, Kind.COMMIT, Kind.SAVEPOINT):
            raise DomicileError(
                e.IN_FAILED_TRANSACTION,
                "current transaction is aborted, commands ignored until end of transaction block",
            )

    def copy_ended_batch(self) -> None:
        """COPY FROM STDIN asks for the client's data: what the batch still holds came before it and is ignored, as
        PostgreSQL ignores a Sync while it waits for data."""
        self._batch_ends = True

    def notice(self, error: DomicileError) -> None:
        self.out(m.build_error(error, kind=m.B.NOTICE))


_ENDS_BATCH = frozenset({F.SYNC, F.FLUSH, F.QUERY, F.TERMINATE, F.FUNCTION_CALL})
