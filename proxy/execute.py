"""Runs a plan: at one region, or at several and makes one answer of theirs.

Nothing here reads SQL: a `Plan` says where a statement may run and what text each region gets. Rows pass through as
the bytes that came; what several regions' rows need afterwards, the home region's PostgreSQL does.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from typing import TYPE_CHECKING, TypeVar

from .. import planner
from ..catalog import errors as e
from ..catalog.errors import DomicileError
from ..catalog.names import RegionName
from ..planner.plan import (
    Append,
    Finish,
    Fragment,
    Home,
    Keyed,
    Kind,
    Literal,
    LookUp,
    Plan,
    Probe,
    Refused,
    RowHomes,
)
from ..planner.session import Execute, FetchCursor
from ..planner.strategies.copy import CopyOptions
from . import copy_in, explain, utility
from . import messages as m
from .backend import Backend, Exchange, Flight, Reply
from .statement import Bound, Described, Statement
from .transaction import Part, ServerError
from .values import array_literal, text_of

if TYPE_CHECKING:
    from .session import Session

FINISH_BYTES_MAX = 64 << 20
"""Rows that `merge` and `combine` may bring home; beyond it the statement fails with 54000 and a hint."""

PROBES_MAX = 1_000
"""Keys whose home is asked for in one flight."""

FIRST_USER_OID = 16384
"""FirstNormalObjectId of PostgreSQL: types below it have the same OID in every region."""


async def execute(session: Session, bound: Bound) -> None:
    """Runs the statement and sends its answer up to CommandComplete. Raises DomicileError or ServerError."""
    plan = bound.plan
    if plan.kind is Kind.EMPTY:
        session.out(m.EMPTY_QUERY_RESPONSE)
    elif plan.kind in utility.HANDLED:
        await utility.run(session, bound)
    elif plan.kind is Kind.EXPLAIN:
        await explain.run(session, bound)
    elif plan.kind is Kind.COPY_IN:
        await copy_in.run(session, bound)
    elif bound.running is not None or bound.ended:
        await _continue(session, bound)
    elif isinstance(plan.placement, RowHomes):
        await _insert(session, bound, plan.placement)
    elif isinstance(plan.placement, LookUp):
        await _look_up(session, bound)
    else:
        try:
            regions = regions_of(session, bound) if plan.parameters_max == 0 else await _regions_bound(session, bound)
        except DomicileError as refused:
            if refused.sqlstate == e.FEATURE_NOT_SUPPORTED and plan.kind in (Kind.READ, Kind.WRITE):
                await session.described(bound.statement)  # what PostgreSQL itself refuses, it says in its own words
            raise
        if len(regions) == 1:
            await at_one(session, regions[0], text_for(session, plan, regions[0]), bound)
        else:
            await _at_several(session, regions, bound)


# --- which regions ------------------------------------------------------------------------------------------------


def text_for(session: Session, plan: Plan, region: RegionName) -> str:
    """The statement's text as the region must get it."""
    text = plan.texts.get(region)
    if text is None:
        if region != session.gateway.here:
            raise DomicileError(e.INTERNAL_ERROR, f"the plan has no text for region {region}")
        text = plan.text
    return text


def regions_of(session: Session, bound: Bound) -> tuple[RegionName, ...]:
    """The regions of a plan without parameters, or whose parameters' types are known."""
    return planner.regions(bound.plan, session.gateway.catalog(), lambda number: parameter_text(bound, number))


async def _regions_bound(session: Session, bound: Bound) -> tuple[RegionName, ...]:
    if isinstance(bound.plan.placement, Keyed):
        await know_types(session, bound)
    return regions_of(session, bound)


async def know_types(session: Session, bound: Bound) -> None:
    """Makes sure that every parameter's type is known: a region may get a text that does not use all of them."""
    if bound.values and len([oid for oid in bound.statement.types if oid]) < len(bound.values):
        await session.described(bound.statement)


def parameter_text(bound: Bound, number: int) -> str | None:
    """The value of $number as text. Raises 08P01 where it was not bound."""
    index = number - 1
    if not 0 <= index < len(bound.values):
        raise DomicileError(
            e.PROTOCOL_VIOLATION,
            f"bind message supplies {len(bound.values)} parameters, but the statement requires {number}",
        )
    formats = bound.formats
    code = 0 if not formats else formats[0] if len(formats) == 1 else formats[index]
    types = bound.statement.known_types
    return text_of(bound.values[index], code, types[index] if index < len(types) else 0)


# --- what a statement looks like ----------------------------------------------------------------------------------


async def describe(session: Session, statement: Statement) -> Described:
    """Parses the statement at home and tells what PostgreSQL says of it. Raises ServerError."""
    kind = statement.plan.kind
    if kind is Kind.EXPLAIN:
        return Described((), explain.DESCRIPTION)
    if kind is Kind.EMPTY or (
        kind is not Kind.EXECUTE and kind in utility.HANDLED and not utility.returns_rows(statement.plan)
    ):
        return Described((), m.NO_DATA)
    home = session.gateway.here
    detail = statement.plan.detail
    if isinstance(detail, Execute):
        prepared = session.statements.get(detail.name)
        return Described((), (await session.described(prepared)).description if prepared is not None else m.NO_DATA)
    region = session.cursors.get(detail.name, home) if isinstance(detail, FetchCursor) else home
    text = statement.plan.texts.get(home, statement.plan.text)
    return await _describe_text(session, text, statement.types, region)


async def _describe_text(
    session: Session, text: str, types: Sequence[int], region: RegionName | None = None
) -> Described:
    backend = await session.transaction.use(region or session.gateway.here)
    failed = True
    try:
        flight = session.transaction.prefix(backend)
        flight.parse("", text, types)
        flight.describe("S")
        flight.sync()
        exchange = await backend.run(flight)
        failed = exchange.error is not None
    finally:
        _landed(session, backend, failed)
    if exchange.error is not None:
        raise ServerError(exchange.error)
    assert exchange.description is not None
    return Described(exchange.parameter_types, exchange.description)


async def describe_cursor(session: Session, name: str) -> None:
    """Describe of a portal that SQL declared (DECLARE): the part where it lives knows it."""
    part = session.transaction.parts.get(session.cursors.get(name, session.gateway.here))
    if part is None:
        raise DomicileError(e.UNDEFINED_PORTAL, f'portal "{name}" does not exist')
    flight = session.transaction.prefix(part.backend)
    flight.describe("P", name)
    flight.sync()
    exchange = await part.backend.run(flight)
    if exchange.error is not None:
        raise ServerError(exchange.error)
    if exchange.description is not None:
        session.out(exchange.description)


# --- one region ---------------------------------------------------------------------------------------------------


def _landed(session: Session, backend: Backend, failed: bool) -> None:
    """Gives the backend back, unless its flight is still under way: the session is ending then, and cleans up."""
    if not backend.busy:
        session.transaction.landed(backend, failed)


class _Shape:
    """Tells the client the shape of the result once, in the home region's terms, before the first row."""

    def __init__(self, bound: Bound, described: Described | None) -> None:
        self._tell = bound.tell_description
        self._tell_no_data = bound.tell_no_data
        self._described = described.formatted(bound.result_formats) if described is not None else None
        self.changed: RegionName | None = None

    def hook(self, session: Session, region: RegionName, exchange: Exchange) -> Callable[[bytes], bytes]:
        """What to forward for the region's own description: the home region's, the first time, or nothing."""

        def described(raw: bytes) -> bytes:
            told = raw if self._described is None else self._described
            if not _alike(told, raw):
                self.changed = region
                exchange.write = None
                return b""
            if region != session.gateway.here:
                exchange.row_hook = element_types(told, session.gateway.array_types)
            tell, self._tell = self._tell, False
            return told if tell and (told[0] == m.B.ROW_DESCRIPTION or self._tell_no_data) else b""

        return described

    def check(self) -> None:
        """Raises 0A000 where a region's columns are not those that the client was told."""
        if self.changed is not None:
            raise DomicileError(
                e.FEATURE_NOT_SUPPORTED,
                "cached plan must not change result type",
                detail=f"Region {self.changed} has other columns than the home region for this statement.",
                hint="Apply the same DDL in every region, and list columns instead of *.",
            )


def unshaped(bound: Bound) -> _Shape:
    """For what the home region can't describe: the region's own description is told."""
    return _Shape(bound, None)


def element_types(description: bytes, array_types: Mapping[int, int]) -> Callable[[bytes], bytes] | None:
    """What puts this region's OIDs in the place of another's: a binary array names its elements' type, and a type that
    users made has another OID in each region. None where no column is such an array."""
    if description[0] != m.B.ROW_DESCRIPTION:
        return None
    fields = m.row_description(description[5:])
    elements = {array: element for element, array in array_types.items() if array >= FIRST_USER_OID}
    found = {i: elements[f.type_oid] for i, f in enumerate(fields) if f.format and f.type_oid in elements}
    if not found:
        return None

    def translate(rows: bytes) -> bytes:
        patched = bytearray(rows)
        position = 0
        while position < len(rows):
            end = position + 1 + int.from_bytes(rows[position + 1 : position + 5], "big")
            position += 7
            for i in range(len(fields)):
                size = int.from_bytes(rows[position : position + 4], "big", signed=True)
                position += 4
                if i in found and size >= 12:  # dimensions, a flag for NULLs, the elements' type
                    patched[position + 8 : position + 12] = found[i].to_bytes(4, "big")
                position += max(size, 0)
            position = end
        return bytes(patched)

    return translate


def _alike(home: bytes, there: bytes) -> bool:
    """Whether two descriptions have the same names and, as far as OIDs agree between regions, the same types."""
    if home[0] != there[0]:
        return False
    if home[0] != m.B.ROW_DESCRIPTION:
        return True
    a, b = m.row_description(home[5:]), m.row_description(there[5:])
    return len(a) == len(b) and all(
        x.name == y.name
        and (x.type_oid == y.type_oid or (x.type_oid >= FIRST_USER_OID and y.type_oid >= FIRST_USER_OID))
        for x, y in zip(a, b, strict=True)
    )


def _load(
    flight: Flight, backend: Backend, fragment: Fragment, bound: Bound, portal: str, abroad: bool
) -> object | None:
    """Parse (where missing) and Bind of the fragment; the key to forget if its Parse fails."""
    values, formats, types = bound.values, bound.formats, bound.statement.known_types
    if fragment.parameters is not None:
        numbers = [n - 1 for n in fragment.parameters]
        values = tuple(bound.values[i] for i in numbers)
        formats = formats if len(formats) < 2 else tuple(formats[i] for i in numbers)
        types = tuple(types[i] if i < len(types) else 0 for i in numbers)
    if abroad:
        types = tuple(0 if oid >= FIRST_USER_OID else oid for oid in types)
    if bound.statement.name:
        key = (fragment.text, types)
        name, missing, evicted = backend.statement(key)
        if evicted is not None:
            flight.close("S", evicted)
        if missing:
            flight.parse(name, fragment.text, types)
        flight.bind(portal, name, formats, values, bound.result_formats)
        return key if missing else None
    flight.parse("", fragment.text, types)
    flight.bind(portal, "", formats, values, bound.result_formats)
    return None


async def at_one(session: Session, region: RegionName, text: str, bound: Bound) -> None:
    """The statement in one region, its answer forwarded as it comes."""
    tag = await fly(session, Fragment(region, text), bound, await _shape(session, bound, [region]))
    session.out(tag)


async def _shape(session: Session, bound: Bound, regions: Sequence[RegionName]) -> _Shape:
    home = session.gateway.here
    described = None
    if any(region != home for region in regions) and bound.plan.returns_rows:
        described = await session.described(bound.statement)
    return _Shape(bound, described)


async def fly(
    session: Session,
    fragment: Fragment,
    bound: Bound,
    shape: _Shape,
    reply: Reply = Reply.FORWARD,
    started: Callable[[Exchange, Backend], None] | None = None,
) -> bytes:
    """One fragment at its region; rows are forwarded (or collected by `started`'s exchange). The tag, whole.

    Raises ServerError, or DomicileError where the region is lost or its columns differ.
    """
    plan = bound.plan
    transaction = session.transaction
    # A function that is not known to be harmless may write, at home.
    writes = plan.kind is Kind.WRITE or (bool(plan.calls) and transaction.open)
    wrote_before = fragment.region in transaction.wrote
    backend = await transaction.use(fragment.region, writes=writes)
    exchange: Exchange | None = None
    forget: object | None = None
    failed = True
    try:
        if plan.kind is Kind.DDL and not transaction.open:
            await _settle_settings(session, backend)
        flight = transaction.prefix(backend)
        portal = bound.portal if transaction.open else ""
        forget = _load(flight, backend, fragment, bound, portal, fragment.region != session.gateway.here)
        flight.describe("P", portal)
        flight.execute(reply, portal, bound.rows_max)
        flight.sync()
        exchange = backend.fly(flight, session.out, FINISH_BYTES_MAX)
        exchange.describe_hook = shape.hook(session, fragment.region, exchange)
        exchange.notice = session.out
        if started is not None:
            started(exchange, backend)
        await exchange.done
        failed = exchange.error is not None
    finally:
        if failed and forget is not None:
            backend.forget(forget)
        suspended = exchange is not None and not failed and exchange.tags and exchange.tags[-1] == m.PORTAL_SUSPENDED
        _landed(session, backend, failed)
    if exchange.error is not None:
        raise ServerError(exchange.error)
    shape.check()
    if writes and not wrote_before and not plan.calls and exchange.tags[-1].endswith(b" 0\0"):
        transaction.wrote_nothing(fragment.region)
    if suspended and transaction.open:
        bound.running = backend
    elif suspended or bound.rows_max:
        bound.ended = True
    return exchange.tags[-1]


async def _settle_settings(session: Session, backend: Backend) -> None:
    """Settings in a flight of their own: VACUUM and its like refuse to run behind another command."""
    flight = session.transaction.prefix(backend)
    if flight.out:
        flight.sync()
        exchange = await backend.run(flight)
        if exchange.error is not None:
            raise ServerError(exchange.error)


async def _continue(session: Session, bound: Bound) -> None:
    """The next rows of a portal that a row limit suspended."""
    backend = bound.running
    if backend is None:
        session.out(m.build_command_complete("SELECT 0"))
        return
    flight = session.transaction.prefix(backend)
    flight.execute(Reply.FORWARD, bound.portal, bound.rows_max)
    flight.sync()
    exchange = backend.fly(flight, session.out)
    exchange.notice = session.out
    await exchange.done
    if exchange.error is not None:
        raise ServerError(exchange.error)
    if exchange.tags[-1] != m.PORTAL_SUSPENDED:
        bound.running, bound.ended = None, True
    session.out(exchange.tags[-1])


# --- several regions ----------------------------------------------------------------------------------------------


async def _at_several(session: Session, regions: Sequence[RegionName], bound: Bound) -> None:
    gather = bound.plan.gather
    if isinstance(gather, Refused):
        raise gather.error
    if bound.plan.kind is Kind.COPY_OUT:
        await _copy_out(session, regions, bound)
    elif isinstance(gather, Append):
        await _append(session, regions, bound)
    else:
        await _finish(session, regions, bound, gather)


_T = TypeVar("_T")


async def together(session: Session, work: Sequence[Awaitable[_T]]) -> list[_T]:
    """The results of all, run at once. At the first failure the others are cancelled where they run, and the failure
    is raised when they have ended: nothing goes on behind the client's back."""
    tasks = [asyncio.ensure_future(w) for w in work]
    try:
        done, pending = await asyncio.wait(tasks, return_when=asyncio.FIRST_EXCEPTION)
        failure = next((f for t in done if (f := t.exception()) is not None), None)
        if failure is not None:
            if pending:
                await session.cancel()
                await asyncio.wait(pending)
            raise failure
        return [task.result() for task in tasks]
    finally:
        for task in tasks:
            if not task.done():
                task.cancel()
            elif not task.cancelled():
                task.exception()  # one failure is told; the others are not to be missed by the event loop


async def _append(session: Session, regions: Sequence[RegionName], bound: Bound) -> None:
    """`append`: rows pass as they come, in any order of regions; tags are added up."""
    plan = bound.plan
    if bound.rows_max:
        bound.rows_max = 0  # a row limit over several regions: all rows, as if the limit were larger
    shape = await _shape(session, bound, regions)
    tags = await together(
        session, [fly(session, Fragment(r, text_for(session, plan, r)), bound, shape) for r in regions]
    )
    session.out(add_tags(tags))


async def _copy_out(session: Session, regions: Sequence[RegionName], bound: Bound) -> None:
    """COPY … TO STDOUT, text or CSV: one CopyOutResponse, the rows of all regions, the header line once."""
    plan = bound.plan
    options = plan.detail
    header = isinstance(options, CopyOptions) and options.header
    opened = False

    def rows_of(first: bool) -> Callable[[bytes], None]:
        """Takes what one region sends; its header line is the first CopyData message (PostgreSQL, copyto.c)."""
        walker = m.Walker()
        drop_header = header and not first

        def write(data: bytes) -> None:
            nonlocal drop_header, opened
            for kind, body in m.messages(*walker.feed(data)):
                if kind == m.B.COPY_OUT and not opened:
                    opened = True
                    session.out(m.message(kind, body))
                elif kind == m.B.COPY_DATA and drop_header:
                    drop_header = False
                elif kind == m.B.COPY_DATA:
                    session.out(m.message(kind, body))

        return write

    async def one(region: RegionName, first: bool) -> bytes:
        def redirect(exchange: Exchange, backend: Backend) -> None:
            exchange.write = rows_of(first)

        fragment = Fragment(region, text_for(session, plan, region))
        return await fly(session, fragment, bound, unshaped(bound), started=redirect)

    # The region whose header is kept comes first, else a row of another could stand above it.
    tags = [await one(regions[0], True)]
    tags += await together(session, [one(region, False) for region in regions[1:]])
    session.out(m.COPY_DONE)
    session.out(add_tags(tags))


def add_tags(tags: Sequence[bytes]) -> bytes:
    """One CommandComplete for several: their counts added."""
    words = tags[0][5:-1].decode().split(" ")
    if len(tags) == 1 or not words[-1].isdigit():
        return tags[0]
    words[-1] = str(sum(int(tag[5:-1].rsplit(b" ", 1)[1]) for tag in tags))
    return m.build_command_complete(" ".join(words))


async def collect(session: Session, fragment: Fragment, bound: Bound) -> tuple[list[bytes], bytes]:
    """A fragment's rows (DataRow bodies) and its description, kept for the gateway."""
    kept: list[Exchange] = []
    await fly(session, fragment, bound, _Shape(bound, None), Reply.COLLECT, lambda exchange, _: kept.append(exchange))
    exchange = kept[0]
    if exchange.rows_bytes > FINISH_BYTES_MAX:
        raise DomicileError(
            e.PROGRAM_LIMIT_EXCEEDED,
            f"the rows of region {fragment.region} that must be brought home exceed {FINISH_BYTES_MAX >> 20} MB",
            hint="Add a LIMIT or a condition, or name the residency key.",
        )
    return exchange.rows, exchange.description or m.NO_DATA


async def _finish(session: Session, regions: Sequence[RegionName], bound: Bound, finish: Finish) -> None:
    """`merge` and `combine`: each region runs its fragment, the home region's PostgreSQL runs `final` over the rows."""
    # Its types, and what the client is told: unnest has lost the modifiers of the columns' types.
    described = await session.described(bound.statement)
    inner = Bound(
        Statement(bound.statement.name, bound.statement.text, bound.statement.known_types, bound.plan),
        formats=bound.formats,
        values=bound.values,
    )
    results = await together(session, [collect(session, Fragment(r, finish.fragments[r]), inner) for r in regions])
    home = session.gateway.here
    types = bound.statement.known_types
    if home in regions:
        description = results[list(regions).index(home)][1]
    else:
        description = (await _describe_text(session, finish.fragments[home], types)).description
    fields = m.row_description(description[5:])
    columns: list[list[bytes | None]] = [[] for _ in range(finish.width)]
    for rows, _ in results:
        for row in rows:
            for column, value in zip(columns, m.data_row(row), strict=True):
                column.append(value)
    array_types = []
    for field in fields:
        oid = session.gateway.array_types.get(field.type_oid)
        if oid is None:
            raise DomicileError(
                e.FEATURE_NOT_SUPPORTED,
                f"column {field.name.decode()} of several regions has a type that can't be gathered",
                hint="Name the residency key, so that one region answers.",
            )
        array_types.append(oid)
    numbers = [n - 1 for n in finish.parameters]
    formats = bound.formats
    final = Bound(
        Statement(
            bound.statement.name,
            finish.final,
            (*array_types, *(types[i] if i < len(types) else 0 for i in numbers)),
            bound.plan,
        ),
        formats=(
            *(0 for _ in array_types),
            *(0 if not formats else formats[0 if len(formats) == 1 else i] for i in numbers),
        ),
        values=(*map(array_literal, columns), *(bound.values[i] for i in numbers)),
        result_formats=bound.result_formats,
        tell_description=bound.tell_description,
        tell_no_data=bound.tell_no_data,
    )
    session.out(await fly(session, Fragment(home, finish.final), final, _Shape(final, described)))


async def _look_up(session: Session, bound: Bound) -> None:
    """By a key that is unique over the federation: the local region first; no row there, then the others at once."""
    plan = bound.plan
    home, *others = regions_of(session, bound)
    bound.rows_max = 0
    shape = await _shape(session, bound, [home])
    tag = await fly(session, Fragment(home, text_for(session, plan, home)), bound, shape)
    if tag.endswith(b" 0\0") and others:
        bound.tell_description = False
        shape = await _shape(session, bound, others)
        fragments = [Fragment(region, text_for(session, plan, region)) for region in others]
        if plan.kind is Kind.READ and not session.transaction.open:
            tag = await _first_found(session, bound, shape, fragments)
        else:
            tag = add_tags(await together(session, [fly(session, fragment, bound, shape) for fragment in fragments]))
    session.out(tag)


async def _first_found(session: Session, bound: Bound, shape: _Shape, fragments: Sequence[Fragment]) -> bytes:
    """The tag of the first region that has the row: no other can have it, so none is waited for, nor does it matter
    whether it could answer. Where no region has it, all must have said so."""
    flights: dict[asyncio.Task[bytes], tuple[Fragment, list[tuple[Exchange, Backend]]]] = {}
    for fragment in fragments:
        started: list[tuple[Exchange, Backend]] = []
        task = asyncio.ensure_future(fly(session, fragment, bound, shape, started=_keep_in(started)))
        flights[task] = (fragment, started)
    pending = set(flights)
    failure: BaseException | None = None
    empty = b""
    try:
        while pending:
            done, pending = await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                if (fault := task.exception()) is not None:
                    failure = failure or fault
                elif not (empty := task.result()).endswith(b" 0\0"):
                    return task.result()
        if failure is not None:
            raise failure
        return empty
    finally:
        for task in pending:
            fragment, started = flights[task]
            part = session.transaction.parts.pop(fragment.region, None)
            if not started or part is None:
                task.cancel()  # it still waits for a backend
            else:
                started[0][0].write = started[0][0].notice = None
                session.gateway.spawn(_drain(session, task, part))


def _keep_in(started: list[tuple[Exchange, Backend]]) -> Callable[[Exchange, Backend], None]:
    return lambda exchange, backend: started.append((exchange, backend))


async def _drain(session: Session, task: asyncio.Task[bytes], part: Part) -> None:
    """Waits for a flight whose answer nobody needs, and gives its backend back."""
    await asyncio.wait([task])
    if task.cancelled() or task.exception() is not None:
        part.backend.settings = part.settings_before
    session.give(part.backend)


# --- rows to their homes ------------------------------------------------------------------------------------------


async def _insert(session: Session, bound: Bound, placement: RowHomes) -> None:
    """INSERT … VALUES: each row goes to its home."""
    await know_types(session, bound)
    catalog = session.gateway.catalog()
    named = planner.row_homes(bound.plan, catalog, lambda number: parameter_text(bound, number))
    homes = []
    for row in named:
        if isinstance(row, Probe):
            region = (await probe(session, row.texts, [_probed(bound, row)])).get(_probed(bound, row))
            if region is None:
                raise planner.no_parent(row)
            homes.append(region)
        else:
            homes.append(row)
    planner.allowed(bound.plan, catalog, tuple(dict.fromkeys(homes)))
    fragments = planner.split_insert(bound.plan, homes)
    regions = [fragment.region for fragment in fragments]
    shape = await _shape(session, bound, regions)
    async with whole(session, len(fragments) > 1):
        tags = await together(session, [fly(session, fragment, bound, shape) for fragment in fragments])
    session.out(add_tags(tags))


@contextlib.asynccontextmanager
async def whole(session: Session, several: bool) -> AsyncIterator[None]:
    """Makes a statement that writes in several regions all or nothing, where no transaction of the client does."""
    transaction = session.transaction
    if not several or transaction.open:
        yield
        return
    transaction.begin("BEGIN", implicit=True)
    yield  # an error is dealt with where all are: the implicit transaction is rolled back
    await transaction.commit()


Key = tuple[str | None, ...]


async def probe(session: Session, texts: Mapping[RegionName, str], keys: Sequence[Key]) -> dict[Key, RegionName]:
    """The regions where the rows with these keys live; a key that no region has is left out.

    `texts` ask for one key each, as $1…; a region is asked for all that it may have in one flight: here first, then the
    others at once.
    """

    async def ask(region: RegionName, wanted: Sequence[Key]) -> list[Key]:
        part = session.transaction.parts.get(region)
        inside = part is not None and not part.backend.busy
        backend = part.backend if part is not None and inside else await session.take(region)
        try:
            flight = session.transaction.prefix(backend) if inside else Flight()
            flight.parse("", texts[region])
            for key in wanted:
                flight.bind("", "", (), [None if value is None else value.encode() for value in key])
                flight.execute(Reply.COLLECT)
            flight.sync()
            exchange = await backend.run(flight)
        finally:
            if not inside:
                session.give(backend)
        if exchange.error is not None:
            raise ServerError(exchange.error)
        return [key for key, tag in zip(wanted, exchange.tags, strict=True) if not tag.endswith(b" 0\0")]

    homes: dict[Key, RegionName] = {}
    for start in range(0, len(keys), PROBES_MAX):
        some = keys[start : start + PROBES_MAX]
        here = session.gateway.here
        homes.update(dict.fromkeys(await ask(here, some), here))
        missing = [key for key in some if key not in homes]
        if missing:
            others = list(session.gateway.catalog().others())
            for region, found in zip(others, await together(session, [ask(r, missing) for r in others]), strict=True):
                homes.update(dict.fromkeys(found, region))
    return homes


def _probed(bound: Bound, row: Probe) -> Key:
    return tuple(
        source.text if isinstance(source, Literal) else parameter_text(bound, source.number) for source in row.sources
    )


READ = Plan(Kind.READ, "", Home("a look-up of the parent's home"), Append(), returns_rows=True)
