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
from .backend import PREPARED_MAX, Backend
from .literals import lift
from .messages import B, F, Run
from .statement import LONG_STATEMENT_BYTES, Bound, Statement
from .values import TEXT

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
    if transaction.open or transaction.pinned is not None or not session.client_reads:
        return False
    shape = tuple([run.type for run in runs])
    try:
        if shape == _QUERY:
            text = m.query(buffer[5 : runs[0].end])
            if len(text) > LONG_STATEMENT_BYTES or not _plain_query(session, text):
                return False
            return _start(session, buffer)
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


def _plain_query(session: Session, text: str) -> bool:
    """The same for a simple Query, by the plan that it shares with all that differ from it in plain literals alone."""
    found = lift(text)
    if found is None:
        plans = session.gateway.plans_now(text, session.search_path, session.role)
        return len(plans) == 1 and _plain(session, plans[0], None)
    lifted, values = found
    plan = session.gateway.template_now(lifted, session.search_path, session.role)
    if plan is None:
        return False
    if isinstance(plan.placement, Home):
        return _plain(session, plan, None)
    statement = Statement("", lifted, (TEXT,) * len(values), plan)
    return _plain(session, plan, Bound(statement, values=tuple(value.encode() for value in values)))


def _unnamed(session: Session, buffer: bytes, runs: list[Run]) -> bool:
    body = buffer[runs[1].start + 5 : runs[1].end]
    if body[:2] != b"\0\0" or not _of_unnamed_portal(buffer, runs[2:-1]):
        return False
    statement = session.seen(buffer[runs[0].start + 5 : runs[0].end])
    if statement is None or not _runs_here(session, statement, body) or not _start(session, buffer):
        return False
    session.statements[""] = statement
    return True


def _named(session: Session, buffer: bytes, runs: list[Run]) -> bool:
    body = buffer[runs[0].start + 5 : runs[0].end]
    end = body.find(b"\0", 1)
    if body[:1] != b"\0" or end < 2 or not _of_unnamed_portal(buffer, runs[1:-1]):
        return False
    statement = session.statements.get(body[1:end].decode())
    if statement is None or not _runs_here(session, statement, body):
        return False
    return _start(session, buffer[runs[1].start :], statement, body[end + 1 :])


def _runs_here(session: Session, statement: Statement, body: bytes) -> bool:
    """Whether the statement, bound so, is plain; the values are looked at only where they say the region."""
    if isinstance(statement.plan.placement, Home):
        return _plain(session, statement.plan, None)
    bind = m.bind(body)
    return _plain(session, statement.plan, Bound(statement, "", bind.formats, bind.values, bind.result_formats))


def _of_unnamed_portal(buffer: bytes, runs: list[Run]) -> bool:
    """Whether Describe and Execute are of the unnamed portal, without a row limit."""
    for run in runs:
        body = buffer[run.start + 5 : run.end]
        if body != (b"P\0" if run.type == F.DESCRIBE else bytes(5)):
            return False
    return True


def _start(session: Session, data: bytes, named: Statement | None = None, bound: bytes = b"") -> bool:
    """Sends `data`; before it, for a named statement, Bind with the backend's own name for it, and Parse where that is
    missing. `bound` is what follows the names in the client's Bind."""
    gateway = session.gateway
    pool = gateway.pool(gateway.here, session.role)
    backend = pool.take_idle()
    if backend is None:
        return False
    if backend.settings != session.transaction.settings:
        pool.give(backend)
        return False
    forget: object = None
    if named is not None:
        key = (named.plan.text, named.known_types)
        if key not in backend.prepared and len(backend.prepared) >= PREPARED_MAX:
            pool.give(backend)  # a Close would owe a reply of its own: left to the session's own way
            return False
        name, missing, _ = backend.statement(key)
        data = m.message(F.BIND, b"\0" + name.encode() + b"\0" + bound) + data
        if missing:
            data = m.build_parse(name, named.plan.text, named.known_types) + data
            forget = key
    backend.owner = session
    if not backend.relay(data, _Relay(session, backend, forget)):
        pool.give(backend)
        return False
    session.relay_started(backend)
    return True


class _Relay:
    """The replies to it: all forwarded as they come, but for ReadyForQuery, which is the gateway's to say."""

    __slots__ = ("_backend", "_done", "_forget", "_session", "_swallow")

    def __init__(self, session: Session, backend: Backend, forget: object) -> None:
        self._session: Session | None = session
        self._backend = backend
        self._swallow = forget is not None  #: ParseComplete of a Parse that the client did not send
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
