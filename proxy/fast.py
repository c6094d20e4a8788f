"""The hot path: one statement, at home, with nothing to do but forward. No task, future or timer.

Whatever is not of this kind is left to the session's own way (`Session._batch`), which does the same and everything
else; nothing here decides otherwise than it would.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from ..catalog.errors import DomicileError
from ..planner.plan import Home, Keyed, Kind, Plan
from . import execute
from . import messages as m
from .backend import Backend
from .messages import B, F, Run
from .statement import LONG_STATEMENT_BYTES, Bound, Statement

if TYPE_CHECKING:
    from .session import Session

_QUERY = (F.QUERY,)
_UNNAMED = {
    (F.PARSE, F.BIND, F.EXECUTE, F.SYNC),
    (F.PARSE, F.BIND, F.DESCRIBE, F.EXECUTE, F.SYNC),
}
_NAMED = {(F.BIND, F.EXECUTE, F.SYNC), (F.BIND, F.DESCRIBE, F.EXECUTE, F.SYNC)}
_KINDS = frozenset({Kind.READ, Kind.WRITE})


def relay(session: Session, buffer: bytes, runs: list[Run]) -> bool:
    """Starts it and returns True, if what has come is one whole statement of that kind and a backend is free."""
    transaction = session.transaction
    if transaction.open or transaction.pinned is not None:
        return False
    shape = tuple([run.type for run in runs])
    try:
        if shape == _QUERY:
            plans = session.gateway.plans_now(m.query(buffer[5 : runs[0].end]), session.search_path, session.role)
            if len(plans) != 1 or not _plain(session, plans[0], None):
                return False
            return _start(session, buffer, swallow_parse=False)
        if shape in _UNNAMED:
            return _unnamed(session, buffer, runs)
        if shape in _NAMED:
            return _named(session, buffer, runs)
    except DomicileError:
        return False  # the session's own way says it, in its place
    return False


def _plain(session: Session, plan: Plan, bound: Bound | None) -> bool:
    """Whether the statement runs at home, in the client's own text, and leaves nothing behind in the backend."""
    if plan.kind not in _KINDS or session.gateway.here in plan.texts or plan.pins is not None:
        return False
    placement = plan.placement
    if isinstance(placement, Home):
        return True
    if not isinstance(placement, Keyed) or (plan.parameters_max and bound is None):
        return False
    if bound is None:
        bound = Bound(Statement("", plan.text, (), plan))
    elif any(bound.formats) and 0 in bound.statement.known_types[: len(bound.values)]:
        return False
    return execute.regions_of(session, bound) == (session.gateway.here,)


def _unnamed(session: Session, buffer: bytes, runs: list[Run]) -> bool:
    parse = m.parse(buffer[runs[0].start + 5 : runs[0].end])
    bind = m.bind(buffer[runs[1].start + 5 : runs[1].end])
    if parse.name or bind.portal or bind.statement or not _of_unnamed_portal(buffer, runs[2:-1]):
        return False
    if len(parse.text) > LONG_STATEMENT_BYTES:
        return False
    plans = session.gateway.plans_now(parse.text, session.search_path, session.role)
    if len(plans) != 1:
        return False
    statement = Statement("", parse.text, parse.types, plans[0])
    bound = Bound(statement, "", bind.formats, bind.values, bind.result_formats)
    if not _plain(session, plans[0], bound) or not _start(session, buffer, swallow_parse=False):
        return False
    session.statements[""] = statement
    return True


def _named(session: Session, buffer: bytes, runs: list[Run]) -> bool:
    bind = m.bind(buffer[runs[0].start + 5 : runs[0].end])
    statement = session.statements.get(bind.statement)
    if statement is None or not bind.statement or bind.portal or not _of_unnamed_portal(buffer, runs[1:-1]):
        return False
    bound = Bound(statement, "", bind.formats, bind.values, bind.result_formats)
    if not _plain(session, statement.plan, bound):
        return False
    return _start(session, buffer[runs[1].start :], swallow_parse=True, bound=bound)


def _of_unnamed_portal(buffer: bytes, runs: list[Run]) -> bool:
    """Whether Describe and Execute are of the unnamed portal, without a row limit."""
    for run in runs:
        body = buffer[run.start + 5 : run.end]
        if body != (b"P\0" if run.type == F.DESCRIBE else bytes(5)):
            return False
    return True


def _start(session: Session, data: bytes, *, swallow_parse: bool, bound: Bound | None = None) -> bool:
    gateway = session.gateway
    backend = gateway.pool(gateway.here, session.role).take_idle()
    if backend is None:
        return False
    if backend.settings != session.transaction.settings:
        gateway.pool(gateway.here, session.role).give(backend)
        return False
    forget: object = None
    if bound is not None:
        key = (bound.plan.text, bound.statement.known_types)
        name, missing, evicted = backend.statement(key)
        head = m.build_bind("", name, bound.formats, bound.values, bound.result_formats)
        if missing:
            head = m.build_parse(name, bound.plan.text, bound.statement.known_types) + head
            forget = key
        if evicted is not None:
            # A Close of its own would owe a reply: left to the session's own way.
            backend.prepared[key] = evicted
            gateway.pool(gateway.here, session.role).give(backend)
            return False
        data = head + data
        swallow_parse = missing
    backend.owner = session
    if not backend.relay(data, _Relay(session, backend, swallow_parse, forget)):
        gateway.pool(gateway.here, session.role).give(backend)
        return False
    session.relay_started(backend)
    return True


class _Relay:
    """The replies to it: all forwarded as they come, but for ReadyForQuery, which is the gateway's to say."""

    __slots__ = ("_backend", "_done", "_forget", "_session", "_swallow")

    def __init__(self, session: Session, backend: Backend, swallow_parse: bool, forget: object) -> None:
        self._session: Session | None = session
        self._backend = backend
        self._swallow = swallow_parse
        self._forget = forget
        self._done: asyncio.Future[None] | None = None

    def received(self, backend: Backend, buffer: bytes, runs: list[Run]) -> bool:
        if not runs:
            return False
        start, end = runs[0].start, runs[-1].end
        session = self._session
        ready = runs[-1].type == B.READY
        if ready:
            backend.status = chr(buffer[end - 1])
            end = runs[-1].start
        if session is None:
            return ready
        if self._swallow and runs[0].type == B.PARSE_COMPLETE:
            start = runs[0].end
            self._swallow = False
        elif self._forget is not None and any(run.type == B.ERROR for run in runs) and self._swallow:
            backend.forget(self._forget)
        if any(run.type == B.PARAMETER_STATUS for run in runs):
            for run in runs:
                if run.type == B.PARAMETER_STATUS:
                    backend.parameter_status(buffer[run.start + 5 : run.end])
        session.write(buffer[start:end] + (m.READY["I"] if ready else b""))
        return ready

    def landed(self) -> None:
        if self._session is not None:
            self._session.relay_landed(self._backend)
        if self._done is not None and not self._done.done():
            self._done.set_result(None)

    def failed_with(self, error: DomicileError) -> None:
        if self._session is not None:
            self._session.relay_landed(self._backend)
            self._session.write(m.build_error(error) + m.READY["I"])
        if self._done is not None and not self._done.done():
            self._done.set_exception(error)

    def abandon(self) -> asyncio.Future[None]:
        self._session = None
        if self._done is None:
            self._done = asyncio.get_running_loop().create_future()
        return self._done
