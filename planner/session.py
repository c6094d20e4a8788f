"""What the gateway must know of statements that it answers or tracks itself: transactions, settings, prepared
statements, cursors, channels, EXPLAIN. `details` puts it into `Plan.detail`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ..catalog.errors import FEATURE_NOT_SUPPORTED, DomicileError
from .keys import literal_of
from .parse import Node, Statement, names, only, scan
from .plan import Kind, Plan
from .resolve import Facts


@dataclass(frozen=True, slots=True)
class TransactionModes:
    """BEGIN, START TRANSACTION, SET TRANSACTION, SET SESSION CHARACTERISTICS; None where a mode is not named."""

    isolation: str | None = None
    read_only: bool | None = None
    deferrable: bool | None = None
    snapshot: str | None = None  #: SET TRANSACTION SNAPSHOT
    session: bool = False  #: SET SESSION CHARACTERISTICS: for the transactions that follow


@dataclass(frozen=True, slots=True)
class End:
    """COMMIT, END, ROLLBACK, ABORT."""

    chain: bool = False


@dataclass(frozen=True, slots=True)
class Savepoint:
    action: str  #: "savepoint", "release" or "rollback to"
    name: str


@dataclass(frozen=True, slots=True)
class Setting:
    """SET and RESET of one setting. `values` None is DEFAULT or RESET; names are PostgreSQL's (`timezone`)."""

    name: str
    values: tuple[str, ...] | None
    local: bool = False


@dataclass(frozen=True, slots=True)
class ResetAll:
    pass


@dataclass(frozen=True, slots=True)
class Constraints:
    """SET CONSTRAINTS; `names` () is ALL."""

    deferred: bool
    names: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Show:
    name: str  #: "all" for SHOW ALL


@dataclass(frozen=True, slots=True)
class Prepare:
    name: str
    types: tuple[str, ...]  #: as the client wrote them
    text: str  #: the statement after AS
    offset: int  #: where it begins, in bytes


@dataclass(frozen=True, slots=True)
class Execute:
    name: str
    arguments: tuple[str, ...]  #: each as the client wrote it
    constants: tuple[str | None, ...]  #: the value of each; meaningful only where `known` says so
    known: tuple[bool, ...] = ()


@dataclass(frozen=True, slots=True)
class Deallocate:
    name: str | None  #: None is ALL


@dataclass(frozen=True, slots=True)
class Discard:
    target: str  #: "all", "plans", "sequences" or "temp"


@dataclass(frozen=True, slots=True)
class DeclareCursor:
    name: str
    hold: bool
    binary: bool
    text: str  #: the query after FOR
    offset: int


@dataclass(frozen=True, slots=True)
class FetchCursor:
    name: str
    move: bool


@dataclass(frozen=True, slots=True)
class CloseCursor:
    name: str | None  #: None is ALL


@dataclass(frozen=True, slots=True)
class Channel:
    action: str  #: "listen", "unlisten" or "notify"
    name: str | None  #: None is `*`
    payload: str | None = None


@dataclass(frozen=True, slots=True)
class Explain:
    """EXPLAIN of a statement. The gateway answers it with `explain(inner, …)` where `inner` touches managed tables."""

    inner: Plan
    analyze: bool
    options: tuple[tuple[str, str | None], ...]  #: as written: (("format", "json"),)
    offset: int  #: where the inner statement begins, in bytes


_CURSOR_BINARY, _CURSOR_HOLD = 0x0001, 0x0020


def details(statement: Statement, text: str) -> tuple[Kind, Any] | None:
    """The kind and detail of a session statement; None for any other. Raises 0A000 for two-phase commit by hand."""
    kind, body = statement.kind, statement.body
    if kind == "TransactionStmt":
        return _transaction(body)
    if kind == "VariableSetStmt":
        return Kind.SET, _set(body)
    if kind == "ConstraintsSetStmt":
        found = [c["RangeVar"] for c in body.get("constraints", [])]
        return Kind.SET, Constraints(bool(body.get("deferred")), tuple(c["relname"] for c in found))
    if kind == "VariableShowStmt":
        return Kind.SHOW, Show(body["name"])
    if kind == "PrepareStmt":
        offset = _after(text, "AS")
        types: tuple[str, ...] = ()
        if body.get("argtypes"):
            types = tuple(_list_in_parentheses(text))
        return Kind.PREPARE, Prepare(body["name"], types, _from(text, offset), offset)
    if kind == "ExecuteStmt":
        values = [_constant(p) for p in body.get("params", [])]
        arguments = tuple(_list_in_parentheses(text)) if values else ()
        return Kind.EXECUTE, Execute(body["name"], arguments, tuple(v for _, v in values), tuple(k for k, _ in values))
    if kind == "DeallocateStmt":
        return Kind.DEALLOCATE, Deallocate(None if body.get("isall") else body["name"])
    if kind == "DiscardStmt":
        target = str(body.get("target", "DISCARD_ALL")).removeprefix("DISCARD_").lower()
        return Kind.DISCARD, Discard(target)
    if kind == "FetchStmt":
        return Kind.CURSOR, FetchCursor(body["portalname"], bool(body.get("ismove")))
    if kind == "ClosePortalStmt":
        return Kind.CURSOR, CloseCursor(body.get("portalname"))
    if kind == "ListenStmt":
        return Kind.LISTEN, Channel("listen", body["conditionname"])
    if kind == "UnlistenStmt":
        return Kind.LISTEN, Channel("unlisten", body.get("conditionname"))
    if kind == "NotifyStmt":
        return Kind.LISTEN, Channel("notify", body["conditionname"], body.get("payload", ""))
    return None


_PINNING_CALLS = frozenset(
    {
        *("pg_advisory_lock", "pg_advisory_lock_shared", "pg_try_advisory_lock", "pg_try_advisory_lock_shared"),
        *("set_config", "setseed"),
    }
)


def pins(statement: Statement, detail: object = None, found: Facts | None = None) -> str | None:
    """What of the statement stays with the backend after it, so that the session must keep that one; None if nothing.

    What functions and DO blocks do inside is not seen.
    """
    if isinstance(detail, DeclareCursor) and detail.hold:
        return "a cursor WITH HOLD"
    if isinstance(detail, Channel) and detail.action == "listen":
        return "LISTEN"
    if statement.kind == "LoadStmt":
        return "LOAD"
    for name, _ in found.local_functions if found is not None else ():
        if name.removeprefix("pg_catalog.") in _PINNING_CALLS:
            return name
    if statement.kind in _QUIET or statement.kind.startswith("Drop"):
        return None
    for place in ("relation", "view", "sequence", "into", "intoClause"):
        named = statement.body.get(place, {})
        named = named.get("rel", named) if isinstance(named, dict) else {}
        if named.get("relpersistence") == "t" or named.get("schemaname") == "pg_temp":
            return "a temporary table"
    return None


_QUIET = frozenset({"TransactionStmt", "VariableSetStmt", "VariableShowStmt", "ExecuteStmt", "FetchStmt"})


def declare_cursor(body: Node, text: str) -> DeclareCursor:
    options, offset = int(body.get("options", 0)), _after(text, "FOR")
    return DeclareCursor(
        body["portalname"],
        bool(options & _CURSOR_HOLD),
        bool(options & _CURSOR_BINARY),
        _from(text, offset),
        offset,
    )


def explain_options(body: Node, text: str) -> tuple[tuple[tuple[str, str | None], ...], bool, int]:
    """The options as written, whether ANALYZE is on, and the byte offset of the inner statement."""
    options: list[tuple[str, str | None]] = []
    for option in body.get("options", []):
        element = option["DefElem"]
        options.append((element["defname"], option_value(element.get("arg"))))
    analyze = any(n == "analyze" and (v or "true").lower() in ("true", "on", "1") for n, v in options)
    tokens = scan(text)
    at = next(i for i, t in enumerate(tokens) if t.name == "EXPLAIN") + 1
    if options and tokens[at].name == "ASCII_40":
        depth = 0
        while True:
            depth += {"ASCII_40": 1, "ASCII_41": -1}.get(tokens[at].name, 0)
            at += 1
            if depth == 0:
                break
    while tokens[at].name in ("ANALYZE", "ANALYSE", "VERBOSE"):
        at += 1
    return tuple(options), analyze, tokens[at].start


def _transaction(body: Node) -> tuple[Kind, Any]:
    kind = body["kind"].removeprefix("TRANS_STMT_")
    if kind in ("BEGIN", "START"):
        return Kind.BEGIN, _modes(body.get("options", []))
    if kind in ("COMMIT", "ROLLBACK"):
        return Kind[kind], End(bool(body.get("chain")))
    if kind in ("SAVEPOINT", "RELEASE", "ROLLBACK_TO"):
        return Kind.SAVEPOINT, Savepoint(kind.lower().replace("_", " "), body["savepoint_name"])
    raise DomicileError(
        FEATURE_NOT_SUPPORTED,
        f"{kind.replace('_', ' ')} is not supported through the gateway",
        hint="The gateway itself commits over regions; prepare transactions at a region's own server.",
    )


def _modes(options: list[Node], session: bool = False) -> TransactionModes:
    modes: dict[str, Any] = {}
    for option in options:
        element = option["DefElem"]
        value = option_value(element.get("arg"))
        name = element["defname"].removeprefix("transaction_")
        modes[name] = value == "1" if name in ("read_only", "deferrable") else value
    return TransactionModes(
        modes.get("isolation"), modes.get("read_only"), modes.get("deferrable"), modes.get("snapshot"), session
    )


def _set(body: Node) -> Setting | ResetAll | TransactionModes:
    kind = body["kind"]
    if kind == "VAR_RESET_ALL":
        return ResetAll()
    if kind == "VAR_SET_MULTI":
        if body["name"] == "TRANSACTION SNAPSHOT":
            return TransactionModes(snapshot=_constant(body["args"][0])[1])
        return _modes(body["args"], body["name"] == "SESSION CHARACTERISTICS")
    values = None
    if kind == "VAR_SET_VALUE":
        values = tuple(_setting_value(a) for a in body.get("args", []))
    return Setting(body["name"], values, bool(body.get("is_local")))


def _setting_value(node: Node) -> str:
    kind, body = only(node)
    if kind == "TypeCast":  # SET TIME ZONE INTERVAL '+02:00' HOUR TO MINUTE
        return f"INTERVAL '{_setting_value(body['arg'])}'"
    value = literal_of(body) if kind == "A_Const" else None
    if value is None and kind == "A_Const":
        return str(body.get("fval", {}).get("fval", ""))
    return "" if value is None or value.text is None else value.text


def _constant(node: Node) -> tuple[bool, str | None]:
    """Whether the node is a constant, and its text."""
    kind, body = only(node)
    if kind != "A_Const":
        return False, None
    if "fval" in body:
        return True, str(body["fval"]["fval"])
    value = literal_of(body)
    return value is not None, None if value is None else value.text


def option_value(arg: Node | None) -> str | None:
    if not arg:
        return None
    kind, body = only(arg)
    if kind == "A_Const":
        value = literal_of(body)
        return None if value is None else value.text
    if kind == "String":
        return str(body.get("sval", ""))
    if kind == "Integer":
        return str(body.get("ival", 0))
    if kind == "Float":
        return str(body.get("fval", ""))
    if kind == "Boolean":
        return "true" if body.get("boolval") else "false"
    return names([arg])[0] if names([arg]) else None


def _after(text: str, keyword: str) -> int:
    """The byte offset of the token after the first `keyword` outside of parentheses."""
    depth, found = 0, False
    for token in scan(text):
        if found:
            return token.start
        depth += {"ASCII_40": 1, "ASCII_41": -1}.get(token.name, 0)
        found = found or (depth == 0 and token.name == keyword)
    return len(text.encode())


def _from(text: str, offset: int) -> str:
    return text.encode()[offset:].decode()


def _list_in_parentheses(text: str) -> list[str]:
    """The items, as written, of the first list in parentheses."""
    source, depth, start, found = text.encode(), 0, 0, []
    for token in scan(text):
        if token.name in ("ASCII_40", "ASCII_91"):
            depth += 1
            if depth == 1:
                start = token.end
        elif token.name in ("ASCII_41", "ASCII_93"):
            depth -= 1
            if depth == 0:
                found.append(source[start : token.start].decode().strip())
                break
        elif token.name == "ASCII_44" and depth == 1:
            found.append(source[start : token.start].decode().strip())
            start = token.end
    return found
