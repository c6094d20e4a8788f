"""Statements that the gateway answers or tracks itself: transactions, settings, prepared statements, cursors."""

from __future__ import annotations

import json
import uuid
from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING

from ..catalog import errors as e
from ..catalog.errors import DomicileError
from ..catalog.names import RegionName, quote_identifier, quote_literal
from ..planner import ddl
from ..planner import session as details
from ..planner.plan import Fragment, Kind, Plan
from . import delivery, execute
from . import messages as m
from . import settings as guc
from .backend import Reply
from .statement import Bound, Statement
from .transaction import Local, ServerError

if TYPE_CHECKING:
    from .session import Session

WARNING_ACTIVE_TRANSACTION = "25001"
WARNING_NO_TRANSACTION = "25P01"


async def run(session: Session, bound: Bound) -> None:
    """Answers a statement whose kind is in HANDLED, up to CommandComplete. Raises DomicileError or ServerError."""
    await _DO[bound.plan.kind](session, bound)


def returns_rows(plan: Plan) -> bool:
    """Whether Describe must ask the home region what the statement returns."""
    return plan.kind is Kind.SHOW or isinstance(plan.detail, details.FetchCursor)


def _tag(session: Session, tag: str) -> None:
    session.out(m.build_command_complete(tag))


async def _at_home(session: Session, bound: Bound) -> None:
    await execute.at_one(session, session.gateway.here, bound.plan.text, bound)


# --- transactions -------------------------------------------------------------------------------------------------


async def _begin(session: Session, bound: Bound) -> None:
    transaction = session.transaction
    if transaction.status == "T":
        session.notice(
            DomicileError(WARNING_ACTIVE_TRANSACTION, "there is already a transaction in progress", severity="WARNING")
        )
    else:
        transaction.begin(bound.plan.text)
    words = bound.plan.text.split(None, 1)
    _tag(session, "START TRANSACTION" if words and words[0].upper() == "START" else "BEGIN")


async def _end(session: Session, bound: Bound, commit: bool) -> None:
    transaction = session.transaction
    chain = isinstance(bound.plan.detail, details.End) and bound.plan.detail.chain
    if transaction.status == "I":
        if chain:
            word = "COMMIT" if commit else "ROLLBACK"
            raise DomicileError(WARNING_NO_TRANSACTION, f"{word} AND CHAIN can only be used in transaction blocks")
        session.notice(DomicileError(WARNING_NO_TRANSACTION, "there is no transaction in progress", severity="WARNING"))
    text = transaction.begun_with
    commit = commit and transaction.status != "E"
    if commit:
        await transaction.commit()
    else:
        await transaction.rollback()
    if chain:
        transaction.begin(text)
    _tag(session, "COMMIT" if commit else "ROLLBACK")


async def _commit(session: Session, bound: Bound) -> None:
    await _end(session, bound, commit=True)


async def _rollback(session: Session, bound: Bound) -> None:
    await _end(session, bound, commit=False)


async def _savepoint(session: Session, bound: Bound) -> None:
    detail = bound.plan.detail
    assert isinstance(detail, details.Savepoint)
    transaction = session.transaction
    word = {"savepoint": "SAVEPOINT", "release": "RELEASE SAVEPOINT", "rollback to": "ROLLBACK TO SAVEPOINT"}[
        detail.action
    ]
    if transaction.status == "I":
        raise DomicileError(WARNING_NO_TRANSACTION, f"{word} can only be used in transaction blocks")
    if transaction.status == "E" and detail.action != "rollback to":
        raise DomicileError(
            e.IN_FAILED_TRANSACTION, "current transaction is aborted, commands ignored until end of transaction block"
        )
    if detail.action == "savepoint":
        await transaction.savepoint(detail.name)
        _tag(session, "SAVEPOINT")
    elif detail.action == "release":
        await transaction.release(detail.name)
        _tag(session, "RELEASE")
    else:
        await transaction.rollback_to(detail.name)
        _tag(session, "ROLLBACK")


# --- settings -----------------------------------------------------------------------------------------------------


async def _set(session: Session, bound: Bound) -> None:
    detail = bound.plan.detail
    transaction = session.transaction
    if isinstance(detail, details.ResetAll):
        await _assign(session, bound.plan.text, None)
        session.reset_settings()
        await session.refresh_search_path()
        _tag(session, "RESET")
        return
    if not isinstance(detail, details.Setting):  # SET TRANSACTION, SET SESSION CHARACTERISTICS, SET CONSTRAINTS
        if isinstance(detail, details.TransactionModes) and detail.session:
            await session.pin()
        await _at_home(session, bound)
        everywhere = isinstance(detail, details.TransactionModes) and not detail.session
        await transaction.set_local(Local(bound.plan.text, bound.plan.text if everywhere else None))
        return
    name = detail.name.lower()
    if name == "standard_conforming_strings" and detail.values and detail.values[0].lower() in _FALSE:
        raise DomicileError(
            e.FEATURE_NOT_SUPPORTED,
            "standard_conforming_strings can't be turned off through a gateway",
            hint="Write E'…' where a backslash is an escape.",
        )
    if name == "client_encoding":
        if detail.values and detail.values[0].strip("'\"").lower() not in ("utf8", "unicode", "utf-8"):
            raise DomicileError(
                e.FEATURE_NOT_SUPPORTED,
                f"client_encoding {detail.values[0]} is not supported yet",
                hint="Set it to UTF8.",
            )
        _tag(session, "SET")
        return
    if detail.local:
        await _at_home(session, bound)
        abroad = None
        if name in guc.ABROAD and transaction.open:
            (shown,) = await _values(session, f"SHOW {quote_identifier(name)}")
            abroad = guc.set_command(name, (shown or b"").decode()).replace("SET", "SET LOCAL", 1)
        await transaction.set_local(Local(bound.plan.text, abroad))
    elif name in ("role", "session_authorization"):
        await session.pin()
        await _at_home(session, bound)
        transaction.role_set = detail.values not in (None, ("none",))
    else:
        initial = session.initial_setting(name) if detail.values is None else None
        text = bound.plan.text if initial is None else guc.set_command(name, initial)
        value = await _assign(session, text, name)
        if detail.values is None and initial is None:
            transaction.settings.pop(name, None)
        else:
            transaction.settings[name] = value
        _tag(session, "RESET" if bound.plan.text.lstrip()[:5].upper() == "RESET" else "SET")
    if name == "search_path":
        await session.refresh_search_path()


async def _assign(session: Session, text: str, name: str | None) -> str:
    """Runs a SET or RESET at home and gives the canonical value that is then in force, which the backend is known to
    have from then on. `name` None is RESET ALL."""
    transaction = session.transaction
    backend = await transaction.use(session.gateway.here)
    failed = True
    try:
        flight = transaction.prefix(backend)
        flight.parse("", text)
        flight.bind("", "")
        flight.execute(Reply.SWALLOW)
        flight.parse("", f"SHOW {quote_identifier(name or 'server_version')}")
        flight.bind("", "")
        flight.execute(Reply.COLLECT)
        flight.sync()
        exchange = backend.fly(flight)
        exchange.notice = session.out
        await exchange.done
        failed = exchange.error is not None
        if exchange.error is not None:
            raise ServerError(exchange.error)
        value = (m.data_row(exchange.rows[-1])[0] or b"").decode()
        session.tell_parameters(backend)
        if name is None:
            backend.settings = {}
        else:
            backend.settings = {**backend.settings, name: value}
        return value
    finally:
        if not backend.busy:
            transaction.landed(backend, failed)


_FALSE = frozenset({"off", "false", "no", "0"})


# --- prepared statements ------------------------------------------------------------------------------------------


async def _prepare(session: Session, bound: Bound) -> None:
    """SQL's PREPARE makes the same kind of statement as the protocol's Parse, in the same name space."""
    detail = bound.plan.detail
    assert isinstance(detail, details.Prepare)
    if detail.name in session.statements:
        raise DomicileError(e.DUPLICATE_STATEMENT, f'prepared statement "{detail.name}" already exists')
    types: tuple[int, ...] = ()
    if detail.types:
        asked = ", ".join(f"{quote_literal(name)}::regtype::oid" for name in detail.types)
        types = tuple(int(oid or b"0") for oid in await _values(session, f"SELECT {asked}"))
    plan = await session.gateway.plan(detail.text, session.search_path, session.role)
    statement = Statement(detail.name, detail.text, types, plan)
    await session.described(statement)
    session.statements[detail.name] = statement
    _tag(session, "PREPARE")


async def _execute(session: Session, bound: Bound) -> None:
    detail = bound.plan.detail
    assert isinstance(detail, details.Execute)
    statement = session.statements.get(detail.name)
    if statement is None:
        raise DomicileError(e.UNDEFINED_STATEMENT, f'prepared statement "{detail.name}" does not exist')
    wanted = len((await session.described(statement)).types)
    if len(detail.arguments) != wanted:
        raise DomicileError(
            e.SYNTAX_ERROR,
            f'wrong number of parameters for prepared statement "{detail.name}"',
            detail=f"Expected {wanted} parameters but got {len(detail.arguments)}.",
        )
    if all(detail.known):
        values = [None if value is None else value.encode() for value in detail.constants]
    else:
        values = await _values(session, f"SELECT {', '.join(f'({argument})::text' for argument in detail.arguments)}")
    inner = Bound(
        statement,
        values=tuple(values),
        result_formats=bound.result_formats,
        tell_description=bound.tell_description,
        tell_no_data=bound.tell_no_data,
    )
    inner.rows_max = bound.rows_max
    await execute.execute(session, inner)


async def _values(session: Session, query: str) -> list[bytes | None]:
    """The one row of a query of the gateway's own, at home, in text format."""
    asked = Bound(Statement("", query, (), execute.READ))
    rows, _ = await execute.collect(session, Fragment(session.gateway.here, query), asked)
    return m.data_row(rows[0])


async def _deallocate(session: Session, bound: Bound) -> None:
    detail = bound.plan.detail
    assert isinstance(detail, details.Deallocate)
    if not session.forget(detail.name):
        raise DomicileError(e.UNDEFINED_STATEMENT, f'prepared statement "{detail.name}" does not exist')
    _tag(session, "DEALLOCATE" if detail.name is not None else "DEALLOCATE ALL")


async def _discard(session: Session, bound: Bound) -> None:
    detail = bound.plan.detail
    assert isinstance(detail, details.Discard)
    if detail.target != "all":
        await _at_home(session, bound)
        return
    if session.transaction.open:
        raise DomicileError(WARNING_ACTIVE_TRANSACTION, "DISCARD ALL cannot run inside a transaction block")
    if session.transaction.pinned is not None:
        await _at_home(session, bound)
        session.unpin()
    else:
        _tag(session, "DISCARD ALL")
    session.forget(None)
    session.reset_settings()
    await session.refresh_search_path()


# --- cursors, channels, Domicile's own ----------------------------------------------------------------------------


async def _cursor(session: Session, bound: Bound) -> None:
    """DECLARE runs in the region of its rows; FETCH, MOVE and CLOSE follow it there."""
    detail = bound.plan.detail
    home = session.gateway.here
    if isinstance(detail, details.DeclareCursor):
        await execute.know_types(session, bound)
        region, *more = execute.regions_of(session, bound)
        if more or (detail.hold and region != home):
            raise DomicileError(
                e.FEATURE_NOT_SUPPORTED,
                "a cursor over several regions" if more else f"a cursor WITH HOLD in region {region}",
                hint="Read the rows by SELECT, or declare the cursor over rows of one region, without HOLD.",
            )
        await execute.at_one(session, region, execute.text_for(session, bound.plan, region), bound)
        session.cursors[detail.name] = region
        return
    name = detail.name if isinstance(detail, details.FetchCursor | details.CloseCursor) else None
    if name is None:  # CLOSE ALL
        parts = [region for region in session.transaction.parts if region != home]
        for region in parts:
            await execute.fly(session, Fragment(region, bound.plan.text), bound, execute.unshaped(bound))
    region = session.cursors.get(name, home) if name is not None else home
    tag = await execute.fly(session, Fragment(region, bound.plan.text), bound, execute.unshaped(bound))
    session.out(tag)


async def _listen(session: Session, bound: Bound) -> None:
    detail = bound.plan.detail
    if isinstance(detail, details.Channel) and detail.action == "listen":
        raise DomicileError(
            e.FEATURE_NOT_SUPPORTED,
            "LISTEN is not supported through the gateway yet",
            hint="Listen on a direct connection to the region's server.",
        )
    await _at_home(session, bound)


async def _domicile(session: Session, bound: Bound) -> None:
    """Domicile's own DDL: a change of this region's catalog, and a proposal to the other regions."""
    call = bound.plan.detail
    assert isinstance(call, ddl.Call)
    home = session.gateway.here
    change = {"id": str(uuid.uuid4()), "function": call.function, "arguments": dict(call.arguments)}
    text = f"SELECT domicile.propose({quote_literal(json.dumps(change, ensure_ascii=False))}::jsonb)"
    inner = Bound(Statement("", text, (), await session.gateway.plan(text, session.search_path, session.role)))
    await execute.collect(session, Fragment(home, text), inner)
    others = list(session.gateway.catalog().others())
    if others:
        states: Mapping[RegionName, str] = {}
        if not session.transaction.open:  # else it is sent when it is committed
            states = await delivery.deliver(session.gateway, str(change["id"]))
        told = "; ".join(f"{region}: {states.get(region, 'unsent')}" for region in others)
        session.notice(
            DomicileError(
                "00000",
                f"region {home} has taken the change; {told}",
                detail="A region's own copy of the policy decides what leaves it. Where the change waits, a role of "
                f"that region approves it: select domicile.approve('{change['id']}');",
                hint="select * from domicile.outstanding tells which regions have not made it yet.",
                severity="NOTICE",
            )
        )
    _tag(session, call.function.upper().replace("_", " "))


_DO: dict[Kind, Callable[[Session, Bound], Awaitable[None]]] = {
    Kind.BEGIN: _begin,
    Kind.COMMIT: _commit,
    Kind.ROLLBACK: _rollback,
    Kind.SAVEPOINT: _savepoint,
    Kind.SET: _set,
    Kind.SHOW: _at_home,
    Kind.PREPARE: _prepare,
    Kind.EXECUTE: _execute,
    Kind.DEALLOCATE: _deallocate,
    Kind.DISCARD: _discard,
    Kind.CURSOR: _cursor,
    Kind.LISTEN: _listen,
    Kind.DOMICILE: _domicile,
}

HANDLED = frozenset(_DO)
