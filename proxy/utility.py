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
from .transaction import ServerError

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
        if transaction.open:
            transaction.local.append(bound.plan.text)
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
        if transaction.open:
            transaction.local.append(bound.plan.text)
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
    if bound.plan.tables:
        raise DomicileError(
            e.FEATURE_NOT_SUPPORTED,
            "PREPARE of a statement over a managed table is not supported yet",
            hint="Prepare it by the extended protocol, as drivers do, or send it as it is.",
        )
    await session.pin()
    await _at_home(session, bound)


async def _execute(session: Session, bound: Bound) -> None:
    if session.transaction.pinned is None:
        detail = bound.plan.detail
        name = detail.name if isinstance(detail, details.Execute) else ""
        raise DomicileError(e.UNDEFINED_STATEMENT, f'prepared statement "{name}" does not exist')
    await _at_home(session, bound)


async def _deallocate(session: Session, bound: Bound) -> None:
    detail = bound.plan.detail
    assert isinstance(detail, details.Deallocate)
    known = session.forget(detail.name)
    if session.transaction.pinned is not None and (detail.name is None or not known):
        await _at_home(session, bound)
        session.transaction.pinned.prepared.clear()
        return
    if not known:
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
    await _at_home(session, bound)


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


async def _show_setting(session: Session, bound: Bound) -> None:
    await _at_home(session, bound)


_DO: dict[Kind, Callable[[Session, Bound], Awaitable[None]]] = {
    Kind.BEGIN: _begin,
    Kind.COMMIT: _commit,
    Kind.ROLLBACK: _rollback,
    Kind.SAVEPOINT: _savepoint,
    Kind.SET: _set,
    Kind.SHOW: _show_setting,
    Kind.PREPARE: _prepare,
    Kind.EXECUTE: _execute,
    Kind.DEALLOCATE: _deallocate,
    Kind.DISCARD: _discard,
    Kind.CURSOR: _cursor,
    Kind.LISTEN: _listen,
    Kind.DOMICILE: _domicile,
}

HANDLED = frozenset(_DO)
