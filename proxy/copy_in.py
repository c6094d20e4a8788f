"""COPY … FROM STDIN: relayed to one region, or split by home as it streams."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING

from ..catalog import errors as e
from ..catalog.errors import DomicileError
from ..catalog.names import RegionName
from ..planner.plan import At, Home, Probe
from ..planner.route import home_of_value, no_parent
from ..planner.strategies.copy import CopyIn, CopyKey
from . import execute
from . import messages as m
from .backend import Backend, Exchange, Reply
from .copy_rows import Format, Row, Splitter
from .messages import F
from .statement import Bound
from .transaction import ServerError
from .values import text_of

if TYPE_CHECKING:
    from .session import Session

CHUNK_BYTES = 1 << 16
"""Rows for one region are gathered up to this much before they are sent."""


HOMES_MAX = 100_000
"""Keys whose home a COPY remembers: for child rows each new one is a look-up."""


WRONG_OBJECT_TYPE = "42809"


async def run(session: Session, bound: Bound) -> None:
    """Reads the client's data and gives it to the regions. Sends up to CommandComplete. Raises ServerError or
    DomicileError; nothing is stored then."""
    placement = bound.plan.placement
    home = session.gateway.here
    if isinstance(placement, Home | At):
        region = placement.region if isinstance(placement, At) else home
        load = _Load(session, region)
        await load.open(execute.text_for(session, bound.plan, region))
        session.out(load.response)
        session.copy_ended_batch()
        await _relay(session, load)
        session.out(await load.close())
    else:
        await _split(session, bound)


class _Load:
    """A COPY under way at one region."""

    def __init__(self, session: Session, region: RegionName) -> None:
        self.region = region
        self.response = b""  #: CopyInResponse, whole
        self.gathered: list[bytes] = []
        self.gathered_bytes = 0
        self._session = session
        self._backend: Backend | None = None
        self._exchange: Exchange | None = None

    async def open(self, text: str) -> None:
        """Begins it. Raises ServerError where PostgreSQL refuses."""
        session = self._session
        backend = await session.transaction.use(self.region, writes=True)
        self._backend = backend
        flight = session.transaction.prefix(backend)
        flight.parse("", text)
        flight.bind("", "")
        flight.execute(Reply.FORWARD)
        flight.flush()
        exchange = self._exchange = backend.fly(flight, session.out)
        exchange.notice = session.out
        answered = asyncio.get_running_loop().create_future()
        exchange.copy_in = answered
        exchange.failed = lambda: None if answered.done() else answered.set_result(b"")
        self.response = await answered
        if not self.response:
            backend.send(m.SYNC)
            await self._end()
        exchange.failed = session.nudge

    @property
    def failed(self) -> bool:
        exchange = self._exchange
        return exchange is not None and (exchange.error is not None or exchange.done.done())

    async def send(self, data: bytes) -> None:
        """CopyData messages, whole. Returns when the region takes more."""
        assert self._backend is not None
        self._backend.send(data)
        await self._backend.drained()

    async def close(self) -> bytes:
        """Ends the data; the tag, whole."""
        assert self._backend is not None
        self._backend.send((m.COPY_DONE if not self.failed else b"") + m.SYNC)
        return await self._end()

    async def abandon(self, why: str) -> None:
        """Makes the region forget what it got. Never raises."""
        if self._backend is None or self._exchange is None or self._exchange.done.done():
            return
        self._backend.send((b"" if self.failed else m.message(F.COPY_FAIL, m.cstring(why))) + m.SYNC)
        try:
            await self._end()
        except (ServerError, DomicileError):
            return

    async def _end(self) -> bytes:
        backend, exchange = self._backend, self._exchange
        assert backend is not None
        assert exchange is not None
        failed = True
        try:
            await exchange.done
            failed = exchange.error is not None
        finally:
            if not backend.busy:
                self._session.transaction.landed(backend, failed)
        if exchange.error is not None:
            abroad = self.region != self._session.gateway.here
            if abroad and m.error_of(exchange.error[5:]).sqlstate == WRONG_OBJECT_TYPE:
                # PostgreSQL says so only when it has asked for the rows.
                raise DomicileError(
                    e.FEATURE_NOT_SUPPORTED,
                    f"region {self.region} takes no COPY of rows from here",
                    detail="PostgreSQL copies into a view only where its INSERTs are a trigger's.",
                    hint="Use INSERT.",
                )
            raise ServerError(exchange.error)
        return exchange.tags[-1]


async def _data(session: Session, failed: Callable[[], bool]) -> bytes | None:
    """The next CopyData (its body), or None at CopyDone. Raises 57014 at CopyFail; b"" when a load has failed."""
    while True:
        message = await session.message_or(failed)
        if message is None:
            return b""
        if message.type == F.COPY_DATA:
            return message.body
        if message.type == F.COPY_DONE:
            return None
        if message.type == F.COPY_FAIL:
            raise DomicileError(
                e.QUERY_CANCELED,
                f"COPY from stdin failed: {message.body.rstrip(bytes(1)).decode(errors='replace')}",
            )
        if message.type == F.TERMINATE:
            raise asyncio.CancelledError
        if message.type not in (F.FLUSH, F.SYNC):
            raise DomicileError(
                e.PROTOCOL_VIOLATION, f"unexpected message type 0x{message.type:02X} during COPY from stdin"
            )


async def _relay(session: Session, load: _Load) -> None:
    try:
        while (data := await _data(session, lambda: load.failed)) is not None:
            if load.failed:
                break
            await load.send(m.message(F.COPY_DATA, data))
    except DomicileError as error:
        await load.abandon(error.message)
        raise


async def _split(session: Session, bound: Bound) -> None:
    """Each row to its home. One region's rows are one COPY there, opened at its first row."""
    detail = bound.plan.detail
    assert isinstance(detail, CopyIn)
    options = detail.options
    if options.encoding is not None and options.encoding.lower() not in ("utf8", "utf-8"):
        raise DomicileError(
            e.FEATURE_NOT_SUPPORTED, f"COPY with encoding {options.encoding} over regions", hint="Send it as UTF8."
        )
    where = detail.home
    positions = (where.position,) if isinstance(where, CopyKey) else where.positions
    splitter = Splitter(
        Format(
            options.format,
            options.delimiter.encode(),
            options.null.encode(),
            options.header,
            options.quote.encode(),
            options.escape.encode(),
        ),
        positions,
    )
    binary = options.format == "binary"
    catalog = session.gateway.catalog()
    types = [column.type_oid if (column := detail.table.column(detail.columns[i])) else 0 for i in positions]
    homes: dict[tuple[bytes | None, ...], RegionName] = {}
    loads: dict[RegionName, _Load] = {}

    async def know_homes(rows: list[Row]) -> None:
        new = list(dict.fromkeys(row.key for row in rows if row.key not in homes))
        if len(homes) + len(new) > HOMES_MAX:
            homes.clear()
            new = list(dict.fromkeys(row.key for row in rows))
        texts = [tuple(text_of(v, int(binary), oid) for v, oid in zip(key, types, strict=True)) for key in new]
        if isinstance(where, CopyKey):
            for key, (text,) in zip(new, texts, strict=True):
                homes[key] = home_of_value(where.key, text, catalog)
            return
        found = await execute.probe(session, where.texts, texts)
        for key, values in zip(new, texts, strict=True):
            region = found.get(values)
            if region is None:
                assert detail.table.key is not None
                assert detail.table.key.parent is not None
                shown = ", ".join(f"{detail.columns[i]} = {v}" for i, v in zip(positions, values, strict=True))
                raise no_parent(Probe(detail.table.key.parent, {}, (), shown))
            homes[key] = region

    async def give(rows: list[Row]) -> None:
        await know_homes(rows)
        for row in rows:
            region = homes[row.key]
            load = loads.get(region)
            if load is None:
                load = loads[region] = _Load(session, region)
                await load.open(execute.text_for(session, bound.plan, region))
                if splitter.head:
                    await load.send(m.message(F.COPY_DATA, splitter.head))
            load.gathered.append(row.data)
            load.gathered_bytes += len(row.data)
            if load.gathered_bytes >= CHUNK_BYTES:
                await send(load)

    async def send(load: _Load) -> None:
        if load.gathered:
            await load.send(m.message(F.COPY_DATA, b"".join(load.gathered)))
            load.gathered.clear()
            load.gathered_bytes = 0

    # Which regions there will be is known only as the rows come.
    own = not session.transaction.open
    if own:
        session.transaction.begin("BEGIN", implicit=True)
    columns = len(detail.columns)
    code = int(binary).to_bytes(2, "big")
    session.out(m.message(m.B.COPY_IN, bytes((int(binary),)) + columns.to_bytes(2, "big") + code * columns))
    session.copy_ended_batch()
    try:
        while (data := await _data(session, lambda: any(load.failed for load in loads.values()))) is not None:
            if any(load.failed for load in loads.values()):
                break
            await give(splitter.feed(data + b"".join(session.copied())))
        else:
            await give(splitter.finish())
        for load in loads.values():
            if splitter.tail and not load.failed:
                load.gathered.append(splitter.tail)
            await send(load)
        # One that failed comes first: its error is what the client hears, and the others are abandoned.
        tags = [await load.close() for load in sorted(loads.values(), key=lambda load: not load.failed)]
    except (DomicileError, ServerError) as error:
        why = error.message if isinstance(error, DomicileError) else "another region refused its rows"
        await asyncio.gather(*(load.abandon(why) for load in loads.values()))
        raise
    if own:
        await session.transaction.commit()
    session.out(execute.add_tags(tags) if tags else m.build_command_complete("COPY 0"))
