"""A connection to PostgreSQL that moves values as bytes and never looks into them.

Over `psycopg.pq` (libpq), its socket watched by the running event loop. One task uses a connection at a time, except
that `ReplicationConnection.confirm` may be called by another. What the bytes mean does not belong here.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass
from typing import Self

from psycopg import pq
from psycopg.conninfo import make_conninfo

from ..catalog.errors import CONNECTION_FAILURE, PROTOCOL_VIOLATION, DomicileError
from . import pgoutput
from .lsn import Lsn

CONNECT_PATIENCE_S = 10.0
FLIGHT_QUERIES_MAX = 500
"""Of one pipelined flight: far below where two full socket buffers could wait for each other, since results are read
while the flight is being sent."""

_OK = (pq.ExecStatus.COMMAND_OK, pq.ExecStatus.TUPLES_OK, pq.ExecStatus.EMPTY_QUERY)
_POLLING = pq.PollingStatus

Row = tuple[bytes | None, ...]
"""A row's values, each in its type's binary format; None is NULL."""


@dataclass(frozen=True, slots=True)
class Query:
    """A prepared statement to run: its name, and its parameters in binary format."""

    name: bytes
    parameters: Sequence[bytes | None] = ()


class Connection:
    """Made by `connect`; closed by `close`, after which nothing else may be called."""

    def __init__(self, pgconn: pq.abc.PGconn) -> None:
        self._pg = pgconn
        self._loop = asyncio.get_running_loop()

    @classmethod
    async def connect(cls, conninfo: str, **options: str) -> Self:
        """A connection in UTF-8 and binary peace. Raises DomicileError 08006 where there is none in time."""
        text = make_conninfo(conninfo, client_encoding="UTF8", **options)
        pgconn = pq.PGconn.connect_start(text.encode())
        try:
            async with asyncio.timeout(CONNECT_PATIENCE_S):
                while (status := pgconn.connect_poll()) != _POLLING.OK:
                    if status == _POLLING.FAILED:
                        raise DomicileError(CONNECTION_FAILURE, _text(pgconn.error_message))
                    await _ready(pgconn.socket, write=status == _POLLING.WRITING)
        except TimeoutError:
            pgconn.finish()
            raise DomicileError(
                CONNECTION_FAILURE, f"the region's PostgreSQL did not answer in {CONNECT_PATIENCE_S:.0f} s"
            ) from None
        except BaseException:
            pgconn.finish()
            raise
        pgconn.nonblocking = 1
        return cls(pgconn)

    @property
    def server_version(self) -> int:
        return self._pg.server_version

    def close(self) -> None:
        """Ends the connection at once; the server rolls back what is open."""
        self._pg.finish()

    async def execute(self, sql: str) -> list[Row]:
        """The rows, in text format, of the last of the statements. Raises DomicileError in the server's words."""
        self._pg.send_query(sql.encode())
        result = None
        for result in await self._results():
            _check(result)
        return [] if result is None else list(rows(result))

    async def value(self, sql: str) -> str | None:
        """The first column of the one row."""
        cell = (await self.execute(sql))[0][0]
        return None if cell is None else cell.decode()

    async def prepare(self, name: bytes, sql: str, types: Sequence[int] = ()) -> None:
        """`types` are the parameters' type OIDs, so that no name need be looked up; PostgreSQL infers what is left."""
        self._pg.send_prepare(name, sql.encode(), list(types))
        for result in await self._results():
            _check(result)

    async def run(self, query: Query) -> pq.abc.PGresult:
        """The result, in binary format."""
        self._pg.send_query_prepared(
            query.name, query.parameters, [pq.Format.BINARY] * len(query.parameters), pq.Format.BINARY
        )
        return _check((await self._results())[-1])

    async def flight(self, queries: Sequence[Query]) -> list[pq.abc.PGresult]:
        """The results of all, in one round trip. After an error nothing later has run; then close the connection.

        Raises ValueError for more than FLIGHT_QUERIES_MAX queries.
        """
        if len(queries) > FLIGHT_QUERIES_MAX:
            raise ValueError(f"{len(queries)} queries in one flight")
        self._pg.enter_pipeline_mode()
        for query in queries:
            formats = [pq.Format.BINARY] * len(query.parameters)
            self._pg.send_query_prepared(query.name, query.parameters, formats, pq.Format.BINARY)
        self._pg.pipeline_sync()
        await self._flush()
        results: list[pq.abc.PGresult] = []
        # A query's results end with None; the Sync's result has none behind it.
        while True:
            while self._pg.is_busy():
                await self._more()
            result = self._pg.get_result()
            if result is None:
                continue
            if result.status == pq.ExecStatus.PIPELINE_SYNC:
                break
            results.append(_check(result))
        self._pg.exit_pipeline_mode()
        return results

    async def copy_out(self, sql: str) -> AsyncIterator[bytes]:
        """The bodies of CopyData, one for each row and one for the trailer; the header stands before the first."""
        self._pg.send_query(sql.encode())
        await self._flush()
        await self._wait_idle()
        first = self._pg.get_result()
        assert first is not None
        if first.status != pq.ExecStatus.COPY_OUT:
            _check(first)
            raise DomicileError(PROTOCOL_VIOLATION, "the statement was no COPY TO STDOUT")
        while True:
            size, data = self._pg.get_copy_data(1)
            if size > 0:
                yield bytes(data)
            elif size == 0:
                await self._more()
            else:
                break
        for result in await self._results():
            _check(result)

    # --- waiting

    async def _results(self) -> list[pq.abc.PGresult]:
        await self._flush()
        results: list[pq.abc.PGresult] = []
        while True:
            await self._wait_idle()
            result = self._pg.get_result()
            if result is None:
                return results
            results.append(result)

    async def _wait_idle(self) -> None:
        while self._pg.is_busy():
            await self._more()

    async def _flush(self) -> None:
        while self._pg.flush():
            # The server may be waiting for us to read before it reads on.
            await _ready(self._pg.socket, write=True, read=True)
            self._consume()

    async def _more(self) -> None:
        await _ready(self._pg.socket)
        self._consume()

    def _consume(self) -> None:
        try:
            self._pg.consume_input()
        except Exception as e:
            raise DomicileError(CONNECTION_FAILURE, f"the region's PostgreSQL went away: {e}") from e


class ReplicationConnection(Connection):
    """A connection to the WAL sender, in the one database that it is to decode."""

    @classmethod
    async def connect(cls, conninfo: str, **options: str) -> Self:
        return await super().connect(conninfo, replication="database", **options)

    async def start(self, slot: str, publication: str, position: Lsn) -> None:
        """Starts the stream of transactions whose commit record starts at `position` or later.

        PostgreSQL moves `position` up to what the slot has confirmed, in silence: compare before. Raises
        DomicileError 55006 while another process reads the slot.
        """
        options = f"proto_version '1', binary 'true', messages 'true', publication_names '\"{publication}\"'"
        self._pg.send_query(f'START_REPLICATION SLOT "{slot}" LOGICAL {position} ({options})'.encode())
        await self._flush()
        await self._wait_idle()
        result = self._pg.get_result()
        assert result is not None
        if result.status != pq.ExecStatus.COPY_BOTH:
            _check(result)
            raise DomicileError(PROTOCOL_VIOLATION, "the server did not start the stream")

    async def read(self, bytes_max: int) -> list[pgoutput.XLogData | pgoutput.Keepalive]:
        """What has arrived, at least one frame, no more than about `bytes_max`; waits for the first.

        Raises DomicileError where the stream ends.
        """
        frames: list[pgoutput.XLogData | pgoutput.Keepalive] = []
        size_total = 0
        drained = False
        while size_total < bytes_max:
            size, data = self._pg.get_copy_data(1)
            if size > 0:
                frames.append(pgoutput.frame(bytes(data)))
                size_total += size
                drained = False
            elif size < 0:
                for result in await self._results():
                    _check(result)
                raise DomicileError(CONNECTION_FAILURE, "the region's PostgreSQL ended the stream")
            elif not frames:
                await self._more()
            elif drained:
                break
            else:
                self._consume()  # what the socket holds by now, without waiting for more
                drained = True
        return frames

    def confirm(self, position: Lsn, now: pgoutput.PgTime) -> None:
        """Says that everything before `position` is durable where it was to go: the slot may move there."""
        self._pg.put_copy_data(pgoutput.standby_status(position, now))
        self._pg.flush()  # the rest goes with the next one; a status is 34 bytes


async def _ready(fd: int, *, write: bool = False, read: bool | None = None) -> None:
    """Returns when the socket can be read (or, where asked for, written)."""
    loop = asyncio.get_running_loop()
    future: asyncio.Future[None] = loop.create_future()

    def done() -> None:
        if not future.done():
            future.set_result(None)

    reading = read if read is not None else not write
    if reading:
        loop.add_reader(fd, done)
    if write:
        loop.add_writer(fd, done)
    try:
        await future
    finally:
        if reading:
            loop.remove_reader(fd)
        if write:
            loop.remove_writer(fd)


def _check(result: pq.abc.PGresult) -> pq.abc.PGresult:
    """The result, or DomicileError in the server's words.

    The words may hold a row's values (DETAIL, CONTEXT, a failed cast): they may be shown at home and nowhere else.
    """
    if result.status in _OK:
        return result
    field = pq.DiagnosticField
    raise DomicileError(
        _text(result.error_field(field.SQLSTATE)) or CONNECTION_FAILURE,
        _text(result.error_field(field.MESSAGE_PRIMARY)) or _text(result.error_message),
        _text(result.error_field(field.MESSAGE_DETAIL)) or None,
        _text(result.error_field(field.MESSAGE_HINT)) or None,
    )


def _text(value: bytes | None) -> str:
    return value.decode(errors="replace").strip() if value else ""


def rows(result: pq.abc.PGresult) -> Iterator[Row]:
    """The rows of a result, each value the bytes that the server sent."""
    get = result.get_value
    columns = range(result.nfields)
    return (tuple([get(r, c) for c in columns]) for r in range(result.ntuples))
