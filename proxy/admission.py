"""Which statements a guard admits from another region: a pure function from text to verdict.

The text is parsed by PostgreSQL's own parser and every node of the tree is looked at: a statement kind, an
expression, a function, a type or a relation that is not on the allow-lists of admission_names.py is refused. Behind
this wall stands another: the role in which the statement runs holds privileges on its border schema alone. So a
misreading here costs an error from PostgreSQL, not a leak.

What may be named: relations of the caller's border schemas (`to_eu`, `to_eu$sales`), written out or found by the
search_path; names of WITH queries; functions on the list, unqualified or of pg_catalog, and those of the border
schemas, which Domicile alone makes. Never a relation whose name begins with `pg_`: the system's catalogs need no
schema to be found.

What does not belong here: the protocol (guard.py), what leaves with errors (scrub.py).
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from pglast.parser import ParseError, parse_sql_json

from ..catalog.errors import (
    FEATURE_NOT_SUPPORTED,
    INSUFFICIENT_PRIVILEGE,
    PROGRAM_LIMIT_EXCEEDED,
    SYNTAX_ERROR,
    DomicileError,
)
from ..catalog.names import RegionName, border_schema
from .admission_names import (
    COPY_OPTIONS,
    EXPLAIN_OPTIONS,
    FIXED_SETTINGS,
    FUNCTIONS,
    NODES,
    OBJECT_TYPES,
    SESSION_FUNCTIONS,
    SETTINGS,
    SHOWN,
)

PREPARED_TRANSACTION = re.compile(r"domicile:([a-z][a-z0-9_]*):[A-Za-z0-9_:.-]{1,150}\Z")
"""The names that gateways give to prepared transactions: `domicile:<coordinator's region>:…`, and the caller may name
its own only. PostgreSQL takes at most 200 bytes."""

TRANSACTION_KINDS = frozenset(
    {
        "TRANS_STMT_BEGIN",
        "TRANS_STMT_START",
        "TRANS_STMT_COMMIT",
        "TRANS_STMT_ROLLBACK",
        "TRANS_STMT_SAVEPOINT",
        "TRANS_STMT_RELEASE",
        "TRANS_STMT_ROLLBACK_TO",
        "TRANS_STMT_PREPARE",
        "TRANS_STMT_COMMIT_PREPARED",
        "TRANS_STMT_ROLLBACK_PREPARED",
    }
)
QUERIES = frozenset({"SelectStmt", "InsertStmt", "UpdateStmt", "DeleteStmt", "MergeStmt"})


@dataclass(frozen=True, slots=True)
class Statement:
    """One admitted statement, as far as the ledger must know it."""

    tables: tuple[str, ...]  #: border relations named, as `schema.name`; the search_path's stand without schema
    defines: str | None = None  #: the cursor or prepared statement that will give rows of `tables`
    uses: str | None = None  #: the cursor or prepared statement that gives rows now


@dataclass(frozen=True, slots=True)
class Rules:
    """For whom, and what the region's configuration adds to the list of functions."""

    here: RegionName
    caller: RegionName
    functions: frozenset[str] = frozenset()


def admit(text: str, rules: Rules) -> tuple[Statement, ...]:
    """The statements of the text, all admitted. Raises DomicileError for the first thing that is not: 42501 or 0A000
    naming the construct, 42601 where the text is no SQL, 54000 where it is nested beyond reading."""
    try:
        tree = parse_sql_json(text)
        document = json.loads(tree)
    except ParseError as e:
        message, position = str(e.args[0]), e.args[1] if len(e.args) > 1 else None
        if "exhausted" in message or "exceeded" in message:
            raise DomicileError(PROGRAM_LIMIT_EXCEEDED, f"statement can't be read: {message}") from None
        at = position + 1 if isinstance(position, int) and position >= 0 else None
        raise DomicileError(SYNTAX_ERROR, message, position=at) from None
    except RecursionError:
        raise DomicileError(
            PROGRAM_LIMIT_EXCEEDED,
            "statement is nested too deeply for the guard to read",
            hint="Write a long chain of operators as a list: = any (array[…]), IN (…).",
        ) from None
    except UnicodeEncodeError:
        raise DomicileError(SYNTAX_ERROR, "statement is not valid UTF-8") from None
    reader = _Reader(text, rules, has_ctes='"ctename"' in tree)
    return tuple(reader.statement(s["stmt"]) for s in document.get("stmts", ()))


class _Reader:
    """Reads one statement's tree. `tables` collects what it names."""

    def __init__(self, text: str, rules: Rules, *, has_ctes: bool) -> None:
        self._text = text
        self._has_ctes = has_ctes
        self._rules = rules
        self._schemas = border_schema("public", rules.caller)
        self._tables: dict[str, None] = {}
        self._ctes: set[str] = set()

    def statement(self, node: Mapping[str, Any]) -> Statement:
        self._tables = {}
        self._ctes = set()
        ((kind, body),) = node.items()
        if kind in QUERIES:
            self._walk(node)
            return Statement(tuple(sorted(self._tables)))
        read = _STATEMENTS.get(kind)
        if read is None:
            raise self._refused(_spoken(kind), body)
        return read(self, body)

    # --- statement kinds -----------------------------------------------------------------------------------------

    def transaction(self, body: Mapping[str, Any]) -> Statement:
        if body["kind"] not in TRANSACTION_KINDS:
            raise self._refused(_spoken(body["kind"]), body)
        gid = body.get("gid")
        match = PREPARED_TRANSACTION.match(gid) if gid is not None else None
        if gid is not None and (match is None or match[1] != self._rules.caller):
            raise self._refused(f'a prepared transaction named "{gid}"', body)
        return Statement(())

    def set(self, body: Mapping[str, Any]) -> Statement:
        name = body.get("name", "").lower()
        if body["kind"] == "VAR_RESET_ALL":
            return Statement(())
        if body["kind"] == "VAR_SET_MULTI":
            # SET TRANSACTION … and SET SESSION CHARACTERISTICS …; the third of the kind imports a snapshot.
            if name not in ("transaction", "session characteristics"):
                raise self._refused(f"SET {name.upper()}", body)
            return Statement(())
        if name not in SETTINGS:
            raise self._refused(f'SET of "{name}"', body)
        fixed = FIXED_SETTINGS.get(name)
        if fixed is not None and body["kind"] == "VAR_SET_VALUE":
            values = [_constant(a) for a in body.get("args", ())]
            if len(values) != 1 or str(values[0]).lower() not in fixed:
                raise self._refused(f'SET of "{name}" to another value than {min(fixed)}', body)
        return Statement(())

    def show(self, body: Mapping[str, Any]) -> Statement:
        if body["name"].lower() not in SHOWN:
            raise self._refused(f'SHOW of "{body["name"]}"', body)
        return Statement(())

    def explain(self, body: Mapping[str, Any]) -> Statement:
        for option in body.get("options", ()):
            name, value = option["DefElem"]["defname"], option["DefElem"].get("arg")
            off = value is not None and str(_constant({"A_Const": value} if "A_Const" not in value else value)).lower()
            if name not in EXPLAIN_OPTIONS or (name == "analyze" and off not in ("false", "off", "0")):
                raise self._refused(
                    f"EXPLAIN with {name.upper()}", body, "EXPLAIN without it shows the plan and runs nothing."
                )
        return self._query(body["query"])

    def declare(self, body: Mapping[str, Any]) -> Statement:
        inner = self._query(body["query"])
        return Statement(inner.tables, defines=body["portalname"])

    def fetch(self, body: Mapping[str, Any]) -> Statement:
        return Statement((), uses=body["portalname"])

    def prepare(self, body: Mapping[str, Any]) -> Statement:
        self._walk(body.get("argtypes", ()))
        return Statement(self._query(body["query"]).tables, defines=body["name"])

    def execute(self, body: Mapping[str, Any]) -> Statement:
        self._walk(body.get("params", ()))
        return Statement(tuple(sorted(self._tables)), uses=body["name"])

    def copy(self, body: Mapping[str, Any]) -> Statement:
        if body.get("filename") or body.get("is_program"):
            raise self._refused("COPY of a file or program", body, "COPY … FROM STDIN and TO STDOUT are admitted.")
        for option in body.get("options", ()):
            if option["DefElem"]["defname"] not in COPY_OPTIONS:
                raise self._refused(f"COPY with {option['DefElem']['defname'].upper()}", body)
            if option["DefElem"]["defname"] == "encoding":
                value = option["DefElem"].get("arg", {})
                if str(_constant(value)).lower() not in FIXED_SETTINGS["client_encoding"]:
                    raise self._refused("COPY in another encoding than UTF8", body)
        if "relation" in body:
            self._relation(body["relation"])
        if "query" in body:
            self._query(body["query"])
        self._walk(body.get("whereClause", ()))
        return Statement(tuple(sorted(self._tables)))

    def plain(self, _: Mapping[str, Any]) -> Statement:
        return Statement(())

    def _query(self, node: Mapping[str, Any]) -> Statement:
        ((kind, body),) = node.items()
        if kind not in QUERIES:
            raise self._refused(_spoken(kind), body)
        self._walk(node)
        return Statement(tuple(sorted(self._tables)))

    # --- the tree ------------------------------------------------------------------------------------------------

    def _walk(self, root: Any) -> None:
        """Looks at every node below. A dict's capitalised key is a node's name; a field that can hold one kind only
        holds it bare, and is known by its members (`relname`, `names`)."""
        if self._has_ctes:
            self._collect_ctes(root)
        todo: list[Any] = [root]
        while todo:
            value = todo.pop()
            if value.__class__ is not dict:
                if value.__class__ is list or value.__class__ is tuple:
                    todo.extend(value)
                continue
            if "relname" in value:
                self._relation(value)
            elif "names" in value:
                self._type(value)
            for key, child in value.items():
                if child.__class__ is list:
                    todo.extend(child)
                elif child.__class__ is dict:
                    if "A" <= key[0] <= "Z":
                        if key not in NODES:
                            raise self._refused(_spoken(key), child)
                        if key == "FuncCall":
                            self._function(child)
                        elif key == "A_Expr":
                            self._operator(child)
                    elif key == "intoClause":
                        raise self._refused("SELECT INTO", child)
                    todo.append(child)

    def _collect_ctes(self, root: Any) -> None:
        # Names of WITH queries are collected over the whole statement, scopes left aside: a name too many is no
        # danger, for what is not a WITH query there is a relation of the border schema or nothing.
        todo: list[Any] = [root]
        while todo:
            value = todo.pop()
            if isinstance(value, list | tuple):
                todo.extend(value)
            elif isinstance(value, dict):
                if "ctename" in value:
                    self._ctes.add(value["ctename"])
                todo.extend(c for c in value.values() if isinstance(c, dict | list))

    def _relation(self, relation: Mapping[str, Any]) -> None:
        name, schema = relation["relname"], relation.get("schemaname")
        if "catalogname" in relation:
            raise self._refused(f'a table of database "{relation["catalogname"]}"', relation)
        if schema is None:
            if name.startswith("pg_"):
                raise self._refused(f'the system catalog "{name}"', relation, _CATALOGS)
            if name not in self._ctes:
                self._tables[name] = None
            return
        if not self._is_border(schema):
            hint = _CATALOGS
            if schema not in ("pg_catalog", "information_schema"):
                here, caller = self._rules.here, self._rules.caller
                hint = f'What region {caller} may see of region {here} is in schema "{self._schemas}".'
            raise self._refused(f'table "{schema}.{name}"', relation, hint)
        self._tables[f"{schema}.{name}"] = None

    def _is_border(self, schema: str) -> bool:
        return schema == self._schemas or schema.startswith(self._schemas + "$")

    def _function(self, call: Mapping[str, Any]) -> None:
        *schema, name = _names(call["funcname"])
        if not schema or schema == ["pg_catalog"]:
            if name in FUNCTIONS or name in SESSION_FUNCTIONS or (not schema and name in self._rules.functions):
                return
        elif len(schema) == 1 and self._is_border(schema[0]):
            return
        raise self._refused(
            f"function {'.'.join((*schema, name))}()",
            call,
            f"Run it in region {self._rules.caller} over the rows that come, or let the DBA of region "
            f"{self._rules.here} add it to [guard] functions.",
        )

    def _operator(self, expression: Mapping[str, Any]) -> None:
        names = _names(expression.get("name", ()))
        if len(names) > 1 and names[0] != "pg_catalog":
            raise self._refused(f"OPERATOR({'.'.join(names)})", expression)

    def _type(self, type_name: Mapping[str, Any]) -> None:
        # An array type's own name is that of its element behind underscores.
        name = _names(type_name["names"])[-1]
        if name.lstrip("_") in OBJECT_TYPES:
            raise self._refused(f"type {name}", type_name)

    def _refused(self, construct: str, node: Mapping[str, Any], hint: str | None = None) -> DomicileError:
        location = node.get("location") if isinstance(node, Mapping) else None
        position = None
        if isinstance(location, int) and location >= 0:
            position = len(self._text.encode()[:location].decode(errors="ignore")) + 1
        return DomicileError(
            INSUFFICIENT_PRIVILEGE if hint is _CATALOGS or "table" in construct else FEATURE_NOT_SUPPORTED,
            f"the guard of region {self._rules.here} does not admit {construct} from region {self._rules.caller}",
            hint=hint,
            position=position,
        )


_CATALOGS = "Catalog queries are answered by the gateway's own region."

_STATEMENTS: Mapping[str, Callable[[_Reader, Mapping[str, Any]], Statement]] = {
    "TransactionStmt": _Reader.transaction,
    "VariableSetStmt": _Reader.set,
    "VariableShowStmt": _Reader.show,
    "ExplainStmt": _Reader.explain,
    "DeclareCursorStmt": _Reader.declare,
    "FetchStmt": _Reader.fetch,
    "ClosePortalStmt": _Reader.plain,
    "PrepareStmt": _Reader.prepare,
    "ExecuteStmt": _Reader.execute,
    "DeallocateStmt": _Reader.plain,
    "DiscardStmt": _Reader.plain,
    "ConstraintsSetStmt": _Reader.plain,
    "CopyStmt": _Reader.copy,
}


def _names(nodes: Iterable[Mapping[str, Any]]) -> list[str]:
    return [n["String"].get("sval", "") for n in nodes]


def _constant(node: Mapping[str, Any]) -> object:
    """The value of a constant node, in either of the forms that the tree has for it; else None."""
    value = node.get("A_Const", node)
    for kind, member in (("String", "sval"), ("Integer", "ival"), ("Boolean", "boolval"), ("Float", "fval")):
        if kind in value:
            return value[kind].get(member, 0)
        if member in value:
            inner = value[member]
            return inner.get(member, 0) if isinstance(inner, dict) else inner
    return None


def _spoken(node: str) -> str:
    """A node's name as the reader of an error knows it: `AlterTableStmt` is ALTER TABLE."""
    known = {
        "ViewStmt": "CREATE VIEW",
        "IndexStmt": "CREATE INDEX",
        "CreateStmt": "CREATE TABLE",
        "CreatedbStmt": "CREATE DATABASE",
        "LockStmt": "LOCK",
        "RuleStmt": "CREATE RULE",
        "NotifyStmt": "NOTIFY",
        "ListenStmt": "LISTEN",
        "UnlistenStmt": "UNLISTEN",
        "RangeTableSample": "TABLESAMPLE",
    }
    if node in known:
        return known[node]
    words = re.sub(r"^TRANS_STMT_|Stmt$", "", node)
    return re.sub(r"(?<=[a-z])(?=[A-Z])", " ", words).replace("_", " ").upper()
