"""The guard: where other regions' gateways come in, and the only way in for a foreign role.

TLS from the first byte, certificates on both sides: the caller's says which region it is, so eu can be nobody but
`…@eu`. Inside, the PostgreSQL protocol, the caller as client: it names a role of its own and is logged in to this
region's PostgreSQL as "role@caller", with a secret that never leaves this region. Each connection stands for one of
PostgreSQL; the calling gateway pools.

From the caller every message is walked: only the types that a client sends, only statements that admission.py admits.
What is refused is put in PostgreSQL's hands all the same: the statement is replaced by one that can't be parsed, and
PostgreSQL's error by the guard's own. So the error stands in its place among the replies, everything up to Sync is
skipped, and a transaction fails, exactly as with any other error, by PostgreSQL's doing.

From PostgreSQL every message is walked: errors are scrubbed (scrub.py), notices and notifications dropped, rows
counted for the ledger (egress.py).

The hot path is two callbacks and one write per chunk and direction. No task, future or timer per statement.
"""

from __future__ import annotations

import asyncio
import contextlib
import hmac
import json
import logging
import secrets
import struct
from collections import Counter, OrderedDict, deque
from collections.abc import Callable
from typing import Any, Protocol, cast

import tenacity

from .. import certificates
from ..catalog.configuration import Guard as GuardOptions
from ..catalog.configuration import Postgres
from ..catalog.errors import (
    CANNOT_CONNECT_NOW,
    FEATURE_NOT_SUPPORTED,
    INVALID_AUTHORIZATION,
    INVALID_PASSWORD,
    PROGRAM_LIMIT_EXCEEDED,
    PROTOCOL_VIOLATION,
    TOO_MANY_CONNECTIONS,
    DomicileError,
)
from ..catalog.names import RegionName, foreign_role
from ..catalog.snapshot import Catalog
from . import messages as m
from .admission import Rules, Statement, admit
from .admission_names import FIXED_SETTINGS, OBJECT_TYPE_OIDS, SETTINGS
from .egress import Ledger
from .guard_server import AskForTls, Login, Server
from .keepalive import keep_alive
from .messages import B, F, Run, Walker
from .owed import Owed, Tables
from .scram import ScramKeys
from .scrub import scrub

CALLER_MESSAGE_BYTES_MAX = 64 << 20
"""The longest message (parameters, COPY data) that a caller may send: what one connection can make the guard hold."""

ADMISSIONS_BYTES_MAX = 16 << 20
"""Texts kept with their verdicts, over all callers."""

ADMISSION_OVERHEAD_BYTES = 500
"""What a verdict weighs beside its text."""

LONG_STATEMENT_BYTES = 30_000
"""A text beyond this is read in a thread: reading it takes milliseconds, and other connections go on."""

KEYS_MAX = 10_000
"""Log-in keys kept, one for each (region, role)."""

NAMES_MAX = 10_000
"""Statements, portals and cursors of one connection that the ledger knows the tables of."""

REFUSALS_MAX = 1_000
"""Refused statements of one connection whose errors are still to come: an honest gateway waits for one."""

STATUS_ROLE = "domicile_status"
"""Who logs in by this name is told how the region is, in ParameterStatus messages, and nothing else. No role of a
database may have a name that begins so."""

STATUS_SQL = """
select json_build_object(
    'domicile.region', (select value from domicile.setting where name = 'here'),
    'domicile.catalog_version', domicile.version(),
    'domicile.open_findings', (select count(*) from domicile.finding where not repaired),
    'domicile.clock', extract(epoch from clock_timestamp()),
    'domicile.collation', (select concat_ws(' ', d ->> 'datlocprovider', coalesce(d ->> 'datlocale',
        d ->> 'daticulocale', d ->> 'datcollate'), d ->> 'datcollversion')
        from pg_database p, to_jsonb(p) d where datname = current_database()),
    'server_version', current_setting('server_version'))::text
"""

OWED_MAX = 10_000
"""Messages of one connection that PostgreSQL has not answered yet; beyond it the guard stops reading from the caller
until half of them are answered. PostgreSQL holds back at most 8 kB of replies, some 1,600, so that it can't wait for
more from the caller meanwhile."""


CLOSE_S = 2.0
"""How long a last message may take to be read."""

_LENGTH = struct.Struct("!I")

_log = logging.getLogger("domicile.guard")


class Control(Protocol):
    """The node's control connection to its own PostgreSQL."""

    async def fetchval(self, query: str, *args: object) -> Any: ...


class Guard:
    """Listens for other regions. `catalog()` gives the present snapshot: who is no region in it is not let in."""

    def __init__(
        self,
        here: RegionName,
        options: GuardOptions,
        postgres: Postgres,
        catalog: Callable[[], Catalog],
        control: Control,
        ledger: Ledger,
    ) -> None:
        self.here = here
        self.options = options
        self.postgres = postgres
        self.catalog = catalog
        self.ledger = ledger
        self.connections: dict[int, _Caller] = {}  #: by the process id that the guard gave out
        self.per_region: Counter[RegionName] = Counter()
        self.admissions = Admissions(options.statement_bytes_max)
        self._control = control
        self._postgres_tls = postgres.ssl_context()
        self._keys: OrderedDict[str, ScramKeys | str] = OrderedDict()
        self._callers: set[_Caller] = set()
        self._servers: set[Server] = set()
        self._alone = asyncio.Event()
        self._alone.set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None

    async def start(self) -> None:
        """Listens. Raises OSError where the port is taken, ssl.SSLError where a certificate is none."""
        files = certificates.RegionFiles(self.options.certificate, self.options.key, self.options.authority)
        self._server = await asyncio.get_running_loop().create_server(
            lambda: _Caller(self),
            self.options.listen.host,
            self.options.listen.port,
            ssl=certificates.guard_context(files),
            ssl_handshake_timeout=self.options.login_timeout_s,
            backlog=1024,
        )

    @property
    def port(self) -> int:
        """The port that is listened on (the configured one may be 0)."""
        assert self._server is not None
        return int(self._server.sockets[0].getsockname()[1])

    async def stop(self) -> None:
        """Stops listening and closes every connection; PostgreSQL rolls back what was open. Takes CLOSE_S at most."""
        if self._server is not None:
            self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for caller in list(self._callers):
            caller.end(DomicileError("57P01", "the guard is shutting down", severity="FATAL"))
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(CLOSE_S):
                await self._alone.wait()
        if self._servers:
            await asyncio.wait([server.closed for server in self._servers], timeout=CLOSE_S)
        for caller in list(self._callers):
            caller.abort()
        for server in list(self._servers):
            server.abort()

    def catalog_changed(self, catalog: Catalog) -> None:
        """Ends the connections of regions that the catalog does not know any more: a region is shut out at once."""
        for caller in list(self._callers):
            if caller.region is not None and caller.region not in catalog.regions:
                caller.end(caller.unknown())

    # --- what connections share ----------------------------------------------------------------------------------

    def spawn(self, coroutine: Any) -> None:
        task = asyncio.get_running_loop().create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def enter(self, caller: _Caller) -> None:
        self._callers.add(caller)
        self._alone.clear()

    def leave(self, caller: _Caller) -> None:
        self._callers.discard(caller)
        if not self._callers:
            self._alone.set()

    def give_key(self, caller: _Caller) -> tuple[int, bytes]:
        """A process id and a cancel key of the guard's own: the caller learns nothing of PostgreSQL's."""
        pid = secrets.randbelow(0x7FFFFFFF) + 1
        while pid in self.connections:
            pid = secrets.randbelow(0x7FFFFFFF) + 1
        self.connections[pid] = caller
        return pid, secrets.token_bytes(4)

    async def open(self, caller: _Caller, role: str, region: RegionName, parameters: dict[str, str]) -> Server:
        """A connection to PostgreSQL that is logged in as role@region. Raises DomicileError, fit to be sent."""
        name = foreign_role(role, region)

        async def attempt() -> Server:
            secret = self._keys.get(name)
            if secret is None:
                secret = str(await self._control.fetchval("select domicile.login_secret($1, $2)", role, region))
            server = await self._connect(Login(name, self.postgres.database, secret, parameters), caller)
            self._keys[name] = server.login.keys or secret
            self._keys.move_to_end(name)
            while len(self._keys) > KEYS_MAX:
                self._keys.popitem(last=False)
            return server

        def forget(_: tenacity.RetryCallState) -> None:
            self._keys.pop(name, None)  # the guard's key was changed since

        again = tenacity.AsyncRetrying(
            retry=tenacity.retry_if_exception(lambda e: getattr(e, "sqlstate", None) == INVALID_PASSWORD),
            stop=tenacity.stop_after_attempt(2),
            before_sleep=forget,
            reraise=True,
        )
        return await again(attempt)

    async def _connect(self, login: Login, caller: _Caller) -> Server:
        loop = asyncio.get_running_loop()
        server = Server(login, caller)
        pg = self.postgres
        if pg.by_socket:
            await loop.create_unix_connection(lambda: server, f"{pg.host}/.s.PGSQL.{pg.port}")
        elif self._postgres_tls is None:
            await loop.create_connection(lambda: server, pg.host, pg.port)
        else:
            asking = AskForTls()
            transport, _ = await loop.create_connection(lambda: asking, pg.host, pg.port)
            try:
                await asking.granted
                inside = await loop.start_tls(transport, server, self._postgres_tls, server_hostname=pg.host)
                assert inside is not None
            except BaseException:
                transport.abort()
                raise
            server.connection_made(inside)
        self._servers.add(server)
        server.closed.add_done_callback(lambda _: self._servers.discard(server))
        try:
            await server.ready
        except BaseException:
            server.close()
            raise
        return server

    async def ask_status(self) -> str:
        return str(await self._control.fetchval(STATUS_SQL))

    async def cancel(self, pid: int, key: bytes, region: RegionName) -> None:
        """Cancels what the connection with this pid runs, if key and region are its own. Says nothing, as
        PostgreSQL."""
        caller = self.connections.get(pid)
        if caller is None or caller.region != region or not hmac.compare_digest(caller.key, key):
            return
        if caller.server is not None:
            await self.cancel_server(caller.server)

    async def cancel_server(self, server: Server) -> None:
        pg = self.postgres
        with contextlib.suppress(OSError, TimeoutError):
            async with asyncio.timeout(self.options.login_timeout_s):
                if pg.by_socket:
                    reader, writer = await asyncio.open_unix_connection(f"{pg.host}/.s.PGSQL.{pg.port}")
                else:
                    # PostgreSQL takes a cancel request without TLS too; it holds no secret but its own.
                    reader, writer = await asyncio.open_connection(pg.host, pg.port)
                writer.write(m.build_cancel(server.login.pid, server.login.key))
                await reader.read(
                    1
                )  # PostgreSQL closes when it has sent the signal: later it could hit the next statement
                writer.close()
                await writer.wait_closed()


class Admissions:
    """Verdicts by caller and text, the least recently used forgotten first."""

    def __init__(self, statement_bytes_max: int, bytes_max: int = ADMISSIONS_BYTES_MAX) -> None:
        self.statement_bytes_max = statement_bytes_max
        self._bytes_max = bytes_max
        self._bytes = 0
        self._verdicts: OrderedDict[tuple[RegionName, str], tuple[Statement, ...] | DomicileError] = OrderedDict()

    def known(self, text: str, rules: Rules) -> tuple[Statement, ...] | DomicileError | None:
        key = (rules.caller, text)
        verdict = self._verdicts.get(key)
        if verdict is not None:
            self._verdicts.move_to_end(key)
        return verdict

    def judge(self, text: str, rules: Rules) -> tuple[Statement, ...] | DomicileError:
        """The statements, or the error with which the text is refused. A pure function: may run in a thread."""
        if len(text) > self.statement_bytes_max or len(text.encode()) > self.statement_bytes_max:
            return DomicileError(
                PROGRAM_LIMIT_EXCEEDED,
                f"statement of {len(text.encode())} bytes; the guard of region {rules.here} admits "
                f"{self.statement_bytes_max}",
                hint="Send values as parameters or by COPY, or raise [guard] statement_bytes_max there.",
            )
        try:
            return admit(text, rules)
        except DomicileError as error:
            return error

    def keep(self, text: str, rules: Rules, verdict: tuple[Statement, ...] | DomicileError) -> None:
        weight = len(text) + ADMISSION_OVERHEAD_BYTES
        if weight > self._bytes_max // 4:
            return
        if (rules.caller, text) not in self._verdicts:
            self._bytes += weight
        self._verdicts[(rules.caller, text)] = verdict
        while self._bytes > self._bytes_max:
            (_, old), _ = self._verdicts.popitem(last=False)
            self._bytes -= len(old) + ADMISSION_OVERHEAD_BYTES

    @property
    def size_bytes(self) -> int:
        return self._bytes


# --- the caller's side ---------------------------------------------------------------------------------------------

_PASSED = frozenset({F.BIND, F.EXECUTE, F.DESCRIBE, F.CLOSE, F.FLUSH, F.SYNC, F.COPY_DATA, F.COPY_DONE, F.COPY_FAIL})

_MARK = "domicile refusal "
_MARKED = _MARK.encode()


class _Caller(asyncio.Protocol):
    """A connection of another region's gateway."""

    def __init__(self, guard: Guard) -> None:
        self.region: RegionName | None = None
        self.role = ""
        self.key = b""
        self.server: Server | None = None
        self.owed = Owed()
        self._guard = guard
        self._rules: Rules | None = None
        self._pid = 0
        self._transport: asyncio.Transport | None = None
        self._closing: asyncio.Transport | None = None
        self._startup: bytearray | None = bytearray()
        self._walker = Walker(CALLER_MESSAGE_BYTES_MAX)
        self._statements: OrderedDict[str, tuple[Statement, ...]] = OrderedDict()
        self._portals: OrderedDict[str, tuple[Statement, ...]] = OrderedDict()
        self._named: OrderedDict[str, Tables] = OrderedDict()
        self._refusals: deque[tuple[int, DomicileError]] = deque()
        self._refused = 0
        self._judging = False
        self._crowded = False
        self._unread: list[bytes] = []
        self._timer: asyncio.TimerHandle | None = None

    # --- coming and going ----------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's TLS transport is one in all but name.
        self._transport = transport = cast(asyncio.Transport, transport)
        keep_alive(transport)
        guard = self._guard
        guard.enter(self)
        self.region = certificates.peer_region(transport.get_extra_info("peercert"))
        if self.region is None or self.region == guard.here or self.region not in guard.catalog().regions:
            self.end(self.unknown())
            self.region = None
            return
        guard.per_region[self.region] += 1
        if guard.per_region[self.region] > guard.options.connections_max:
            self.end(
                DomicileError(
                    TOO_MANY_CONNECTIONS,
                    f"region {guard.here} takes {guard.options.connections_max} connections of region {self.region}",
                    hint="Lower [gateway] pool_size in the calling region, or raise [guard] connections_max in the "
                    "one called.",
                    severity="FATAL",
                )
            )
            return
        self._rules = Rules(guard.here, self.region, guard.options.functions)
        self._timer = asyncio.get_running_loop().call_later(guard.options.login_timeout_s, self._too_slow)

    def unknown(self) -> DomicileError:
        here = self._guard.here
        name = f"region {self.region}" if self.region else "whoever holds this certificate"
        return DomicileError(
            INVALID_AUTHORIZATION,
            f"{name} is no other region that region {here} knows",
            hint=f"select domicile.create_region(…) in region {here}, as domicile init does.",
            severity="FATAL",
        )

    def connection_lost(self, exc: Exception | None) -> None:
        guard = self._guard
        guard.leave(self)
        self._transport = self._closing = None
        if self.region is not None:
            guard.per_region[self.region] -= 1
        if self._pid:
            guard.connections.pop(self._pid, None)
        if self._timer is not None:
            self._timer.cancel()
        if self.server is not None:
            if self.owed.queue:  # nobody waits for what still runs
                guard.spawn(guard.cancel_server(self.server))
            self.server.close()

    def end(self, error: DomicileError | None = None) -> None:
        """Says why, where there is something to say, and closes both sides."""
        transport, self._transport = self._transport, None
        if transport is not None:
            if error is not None:
                transport.write(m.build_error(error, "FATAL"))
            transport.close()
            self._closing = transport
            asyncio.get_running_loop().call_later(CLOSE_S, self.abort)  # a caller that never reads

    def abort(self) -> None:
        if self._closing is not None:
            self._closing.abort()
            self._closing = None

    def _too_slow(self) -> None:
        self.end(DomicileError("57014", "canceling authentication due to timeout", severity="FATAL"))

    # --- back-pressure -------------------------------------------------------------------------------------------

    def pause_writing(self) -> None:
        if self.server is not None:
            self.server.pause()

    def resume_writing(self) -> None:
        if self.server is not None:
            self.server.resume()

    def pause(self) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.pause_reading()

    def resume(self) -> None:
        if self._judging or self._crowded:
            return
        if self._transport is not None and not self._transport.is_closing():
            self._transport.resume_reading()

    # --- from the caller -----------------------------------------------------------------------------------------

    def data_received(self, data: bytes) -> None:
        if self._transport is None:
            return
        if self._judging:
            self._unread.append(data)  # what was read before reading was paused
            return
        try:
            if self._startup is not None:
                self._start(data)
            elif self.server is None:
                raise DomicileError(PROTOCOL_VIOLATION, "message before the log-in's end")
            else:
                self._forward(*self._walker.feed(data))
        except DomicileError as error:
            _log.warning("region %s broke the protocol: %s", self.region, error)
            self.end(error)

    def _start(self, data: bytes) -> None:
        assert self._startup is not None
        self._startup += data
        if len(self._startup) < 4:
            return
        length = int.from_bytes(self._startup[:4], "big")
        if not 8 <= length <= m.STARTUP_BYTES_MAX:
            raise DomicileError(PROTOCOL_VIOLATION, "invalid length of startup packet")
        if len(self._startup) < length:
            return
        if len(self._startup) > length:
            raise DomicileError(PROTOCOL_VIOLATION, "message before the log-in's end")
        startup = m.startup(bytes(self._startup[4:]))
        self._startup = None
        assert self.region is not None
        if startup.code == m.CANCEL_REQUEST:
            self._guard.spawn(self._cancel(startup.cancel_pid, startup.cancel_key, self.region))
            return
        if startup.code >> 16 != 3:
            raise DomicileError(
                FEATURE_NOT_SUPPORTED,
                f"unsupported frontend protocol {startup.code >> 16}.{startup.code & 0xFFFF}: guards speak 3.0 in TLS",
            )
        self._guard.spawn(self._log_in(startup, self.region))

    async def _cancel(self, pid: int, key: bytes, region: RegionName) -> None:
        await self._guard.cancel(pid, key, region)
        self.end()

    async def _log_in(self, startup: m.Startup, region: RegionName) -> None:
        guard = self._guard
        try:
            self.role = startup.parameters.get("user", "")
            if self.role == STATUS_ROLE:
                await self._tell_status()
                return
            parameters = _settings_of(startup.parameters, guard.here, region)
            server = await guard.open(self, self.role, region, parameters)
        except (OSError, TimeoutError) as e:
            _log.warning("PostgreSQL can't be reached: %s", e)
            self.end(DomicileError(CANNOT_CONNECT_NOW, f"PostgreSQL of region {guard.here} can't be reached"))
            return
        except ValueError as e:  # a name that PostgreSQL would cut
            self.end(DomicileError(INVALID_AUTHORIZATION, str(e)))
            return
        except Exception as e:
            self.end(_log_in_error(e, guard.here, self.role, region))
            return
        if self._transport is None:  # the caller has gone meanwhile, or was too slow
            server.close()
            return
        if self._timer is not None:
            self._timer.cancel()
        self.server = server
        self._pid, self.key = guard.give_key(self)
        login = server.login
        self._transport.write(
            b"".join(
                (
                    m.message(B.NEGOTIATE, bytes(8)) if startup.code != m.PROTOCOL_3_0 else b"",
                    m.AUTHENTICATION_OK,
                    *(m.build_parameter_status(k, v) for k, v in login.parameters.items()),
                    m.build_key_data(self._pid, self.key),
                    m.READY["I"],
                )
            )
        )

    async def _tell_status(self) -> None:
        status = json.loads(await self._guard.ask_status())
        if self._transport is not None:
            parts = (m.build_parameter_status(k, str(v)) for k, v in status.items())
            self._transport.write(b"".join((m.AUTHENTICATION_OK, *parts, m.READY["I"])))
            self.end()

    def _forward(self, buffer: bytes, runs: list[Run]) -> None:
        """Sends the messages on, the refused ones replaced. Stops at a long text until a thread has read it."""
        out: list[bytes] = []
        start = runs[0].start if runs else 0
        for index, run in enumerate(runs):
            kind = run.type
            if kind in _PASSED:
                self._note(kind, buffer, run)
                continue
            if kind == F.QUERY or kind == F.PARSE:
                body = buffer[run.start + 5 : run.end]
                parsed = m.parse(body) if kind == F.PARSE else m.Parse("", m.query(body), ())
                verdict = self._verdict(parsed)
                if verdict is None:
                    out.append(buffer[start : run.start])
                    self._write(out)
                    self._guard.spawn(self._judge(parsed.text, buffer, runs[index:]))
                    return
                refused = isinstance(verdict, DomicileError)
                if not isinstance(verdict, DomicileError):
                    self._admitted(kind, parsed.name, verdict)
                    continue
            elif kind == F.FUNCTION_CALL:
                refused, kind = True, F.QUERY
                verdict = self._refusal("function call by OID")
            elif kind == F.TERMINATE:
                out.append(buffer[start : run.start])
                self._write(out)
                self.end()
                return
            else:
                raise DomicileError(PROTOCOL_VIOLATION, f"invalid frontend message type {kind}")
            if refused:
                assert isinstance(verdict, DomicileError)
                out.append(buffer[start : run.start])
                out.append(self._replacement(kind, verdict))
                start = run.end
        if runs:
            out.append(buffer[start : runs[-1].end])
            self._write(out)
        if len(self.owed.queue) > OWED_MAX and not self._crowded:
            self._crowded = True
            self.pause()

    def _write(self, out: list[bytes]) -> None:
        if self.server is not None:
            self.server.write(out[0] if len(out) == 1 else b"".join(out))

    def _verdict(self, parsed: m.Parse) -> tuple[Statement, ...] | DomicileError | None:
        """None where a thread must read the text first."""
        assert self._rules is not None
        if parsed.types and not OBJECT_TYPE_OIDS.isdisjoint(parsed.types):
            return self._refusal("a parameter of an object identifier type")
        admissions = self._guard.admissions
        verdict = admissions.known(parsed.text, self._rules)
        if verdict is None:
            if LONG_STATEMENT_BYTES < len(parsed.text) <= admissions.statement_bytes_max:
                return None
            verdict = admissions.judge(parsed.text, self._rules)
            admissions.keep(parsed.text, self._rules, verdict)
        return verdict

    async def _judge(self, text: str, buffer: bytes, runs: list[Run]) -> None:
        assert self._rules is not None
        self._judging = True
        self.pause()
        admissions = self._guard.admissions
        verdict = await asyncio.get_running_loop().run_in_executor(None, admissions.judge, text, self._rules)
        admissions.keep(text, self._rules, verdict)
        self._judging = False
        if self._transport is None:
            return
        try:
            self._forward(buffer, runs)
            while self._unread and not self._judging:
                self._forward(*self._walker.feed(self._unread.pop(0)))
        except DomicileError as error:
            self.end(error)
            return
        self.resume()

    def _refusal(self, construct: str) -> DomicileError:
        return DomicileError(
            FEATURE_NOT_SUPPORTED,
            f"the guard of region {self._guard.here} does not admit a {construct} from region {self.region}",
        )

    def _replacement(self, kind: int, error: DomicileError) -> bytes:
        """A message that PostgreSQL answers with a syntax error, by whose mark the guard's own is put in its place."""
        self._refused += 1
        self._refusals.append((self._refused, error))
        if len(self._refusals) > REFUSALS_MAX:
            raise DomicileError(PROTOCOL_VIOLATION, f"over {REFUSALS_MAX} refused statements in one pipeline")
        self.owed.asked(kind, [])
        _log.info("region %s role %s: %s", self.region, self.role, error)
        text = f'"{_MARK}{self._refused}"'
        return m.build_query(text) if kind == F.QUERY else m.build_parse("", text)

    def refusal_for(self, body: bytes) -> DomicileError | None:
        """The guard's error that stands for this one of PostgreSQL; refusals before it were skipped with others."""
        if _MARKED not in body or not self._refusals:
            return None
        for field in body.split(b"\0"):
            if field[:1] == b"M" and _MARKED in field:
                digits = field.partition(_MARKED)[2]
                number = int(digits[: len(digits) - len(digits.lstrip(b"0123456789"))] or b"0")
                while self._refusals and self._refusals[0][0] <= number:
                    at, error = self._refusals.popleft()
                    if at == number:
                        return error
        return None

    # --- the ledger's knowledge of names -------------------------------------------------------------------------

    def _admitted(self, kind: int, name: str, statements: tuple[Statement, ...]) -> None:
        for statement in statements:
            if statement.defines is not None:
                _remember(self._named, statement.defines, statement.tables)
        if kind == F.QUERY:
            self.owed.asked(kind, [self._tables(s) for s in statements])
        else:
            _remember(self._statements, name, statements)
            self.owed.asked(kind, [])

    def _tables(self, statement: Statement) -> Tables:
        return self._named.get(statement.uses, ()) if statement.uses is not None else statement.tables

    def _note(self, kind: int, buffer: bytes, run: Run) -> None:
        owed = self.owed
        if kind == F.EXECUTE:
            portal, _ = m.execute(buffer[run.start + 5 : run.end])
            owed.asked(kind, [self._tables(s) for s in self._portals.get(portal, ())])
        elif kind == F.BIND:
            portal_end = buffer.find(b"\0", run.start + 5, run.end)
            statement_end = buffer.find(b"\0", portal_end + 1, run.end)
            if portal_end < 0 or statement_end < 0:
                raise DomicileError(PROTOCOL_VIOLATION, "invalid Bind message")
            portal = buffer[run.start + 5 : portal_end].decode(errors="replace")
            statement = buffer[portal_end + 1 : statement_end].decode(errors="replace")
            _remember(self._portals, portal, self._statements.get(statement, ()))
            owed.asked(kind, [])
        elif kind in (F.DESCRIBE, F.CLOSE, F.SYNC):
            owed.asked(kind, [])
        elif kind in (F.COPY_DONE, F.COPY_FAIL):
            owed.copying_in = False

    # --- from PostgreSQL -----------------------------------------------------------------------------------------

    def relay(self, buffer: bytes, runs: list[Run]) -> None:
        """Sends PostgreSQL's messages on to the caller: errors scrubbed, notices dropped, rows counted."""
        out: list[bytes] = []
        start = runs[0].start if runs else 0
        owed = self.owed
        for run in runs:
            kind = run.type
            if kind == B.DATA_ROW or kind == B.COPY_DATA:
                self._count(buffer, run)
            elif kind == B.ERROR:
                body = buffer[run.start + 5 : run.end]
                refusal = self.refusal_for(body)
                out.append(buffer[start : run.start])
                out.append(m.build_error(refusal) if refusal else m.message(B.ERROR, scrub(body, self._guard.here)))
                start = run.end
                owed.answered(kind)
            elif kind == B.NOTICE or kind == B.NOTIFICATION:
                out.append(buffer[start : run.start])
                start = run.end
            elif kind == B.COPY_BOTH:
                raise DomicileError(PROTOCOL_VIOLATION, "replication in a guarded connection")
            elif kind != B.PARAMETER_STATUS:
                owed.answered(kind)
        if self._crowded and len(owed.queue) < OWED_MAX // 2:
            self._crowded = False
            self.resume()
        if runs and self._transport is not None:
            out.append(buffer[start : runs[-1].end])
            self._transport.write(out[0] if len(out) == 1 else b"".join(out))

    def _count(self, buffer: bytes, run: Run) -> None:
        position, end, rows = run.start, run.end, 0
        unpack = _LENGTH.unpack_from
        while position < end:
            position += 1 + unpack(buffer, position + 1)[0]
            rows += 1
        assert self.region is not None
        tables = [_source(t, self.region) for t in self.owed.tables()]
        self._guard.ledger.count(self.region, self.role, tables, rows, run.end - run.start)


def _remember(names: OrderedDict[str, Any], name: str, value: object) -> None:
    names[name] = value
    if len(names) > NAMES_MAX:
        names.popitem(last=False)


def _source(table: str, region: RegionName) -> str:
    """The table behind a border view's name: `customers` and `to_eu.customers` are public.customers."""
    schema, dot, name = table.partition(".")
    if not dot:
        return f"public.{schema}"
    return f"{schema.removeprefix(f'to_{region}').removeprefix('$') or 'public'}.{name}"


def _settings_of(parameters: dict[str, str], here: RegionName, caller: RegionName) -> dict[str, str]:
    """What of a startup message goes to PostgreSQL. Raises DomicileError for what may not be set from abroad."""
    settings = {"application_name": f"domicile guard for {caller}"}
    for name, value in parameters.items():
        lower = name.lower()
        if lower in ("user", "database") or lower.startswith("_pq_."):
            continue
        fixed = FIXED_SETTINGS.get(lower)
        if lower not in SETTINGS or (fixed is not None and value.strip("'\"").lower() not in fixed):
            raise DomicileError(
                FEATURE_NOT_SUPPORTED,
                f'the guard of region {here} does not admit startup parameter "{name}" from region {caller}',
                severity="FATAL",
            )
        settings[lower] = value
    return settings | {
        "client_encoding": "UTF8",
        "standard_conforming_strings": "on",
        # A statement whose caller has vanished is cancelled; where the cancel came too early, PostgreSQL looks itself.
        "client_connection_check_interval": "1s",
    }


def _log_in_error(error: Exception, here: RegionName, role: str, region: RegionName) -> DomicileError:
    sqlstate = getattr(error, "sqlstate", None)
    if sqlstate == INVALID_PASSWORD or not sqlstate:
        _log.error("log-in as %s@%s failed: %s: %s", role, region, type(error).__name__, error)
        return DomicileError(
            INVALID_AUTHORIZATION if sqlstate else CANNOT_CONNECT_NOW,
            f'region {here} could not log in "{role}@{region}"',
            hint=f"Its guard's log says why; `domicile doctor` in region {here} looks at the role.",
            severity="FATAL",
        )
    return DomicileError(
        sqlstate,
        getattr(error, "message", None) or str(error),
        hint=getattr(error, "hint", None),
        severity="FATAL",
    )
