"""Domicile's own DDL, which is sugar for functions of the schema `domicile`; and what PostgreSQL's DDL names.

The grammar is small and stands in `_Parser`, a method a statement. Tokens are PostgreSQL's own (pglast's scanner), so
quoting, comments and case behave as everywhere; expressions are cut out of the text as the client wrote them.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass

from pglast import parser

from ..catalog.errors import SYNTAX_ERROR, DomicileError
from ..catalog.names import QualifiedName, quote_identifier, quote_literal
from ..catalog.snapshot import Catalog
from .names import resolve
from .parse import Node, Statement, Token, names, only, position, scan

Value = str | bool | int | None | tuple[str, ...] | Mapping[str, object]


@dataclass(frozen=True, slots=True)
class Call:
    """A call of `domicile.<function>` with named arguments; `sql` is the statement that the home region runs."""

    function: str
    arguments: tuple[tuple[str, Value], ...]

    @property
    def sql(self) -> str:
        """`SELECT domicile.drop_region(name => 'eu')`"""
        given = ", ".join(f"{quote_identifier(n)} => {_written(v)}" for n, v in self.arguments)
        return f"SELECT domicile.{quote_identifier(self.function)}({given})"


def _written(value: Value) -> str:
    if value is None:
        return "NULL"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value)
    if isinstance(value, str):
        return quote_literal(value)
    if isinstance(value, tuple):
        return f"ARRAY[{', '.join(map(quote_literal, value))}]::text[]"
    return quote_literal(json.dumps(value, ensure_ascii=False)) + "::jsonb"


_SKIP = r"(?:\s|--[^\n]*\n|/\*.*?\*/)"
_DOMICILE = re.compile(
    rf"{_SKIP}*(?:(?:create|alter|drop){_SKIP}+(?:region\b|residency{_SKIP}+policy\b)"
    rf"|alter{_SKIP}+table\b.*?\bset{_SKIP}+locality\b)",
    re.IGNORECASE | re.DOTALL,
)


def is_domicile(sql: str) -> bool:
    """True for a text that begins as Domicile's own DDL does. Ask only where PostgreSQL's grammar has said no."""
    return _DOMICILE.match(sql) is not None


def parse(sql: str, catalog: Catalog, path: tuple[str, ...], role: str) -> Call:
    """The call that the statement stands for. Raises 42601 with the position where it is not one."""
    return _Parser(sql).statement()


@dataclass(frozen=True, slots=True)
class _Token:
    text: str  #: as written; an identifier folded and unquoted, a string's value
    kind: str  #: "word", "quoted", "string", "number" or the character itself
    start: int
    end: int


class _Parser:
    def __init__(self, sql: str) -> None:
        self.sql, self.source = sql, sql.encode()
        self.tokens = [self.token(t) for t in scan(sql)]
        self.at = 0

    def token(self, t: Token) -> _Token:
        raw = self.source[t.start : t.end].decode()
        if raw.startswith('"'):
            return _Token(raw[1:-1].replace('""', '"'), "quoted", t.start, t.end)
        if t.name == "SCONST":
            return _Token(_string_value(raw), "string", t.start, t.end)
        if t.name in ("ICONST", "FCONST"):
            return _Token(raw, "number", t.start, t.end)
        if t.name == "IDENT" or t.keyword:
            return _Token(raw.lower(), "word", t.start, t.end)
        return _Token(raw, raw, t.start, t.end)

    # --- statements -------------------------------------------------------------------------------------------

    def statement(self) -> Call:
        verb = self.word("CREATE", "ALTER", "DROP")
        if verb == "alter" and self.take("TABLE"):
            call = self.set_locality()
        elif self.take("REGION"):
            call = self.region(verb)
        else:
            self.word("RESIDENCY")
            self.word("POLICY")
            call = self.drop_policy() if verb == "drop" else self.policy(verb)
        self.take(";")
        if self.at < len(self.tokens):
            raise self.error(f'syntax error at or near "{self.shown()}"')
        return call

    def region(self, verb: str) -> Call:
        """CREATE REGION name WITH (jurisdiction = '…' [, number = n] [, marker = '…']); DROP REGION name"""
        if verb == "alter":
            self.at -= 1
            raise self.error("a region can be created and dropped, not altered")
        name = self.name("a region's name")
        if verb == "drop":
            return Call("drop_region", (("name", name),))
        options: dict[str, Value] = {}
        if self.take("WITH"):
            options = self.options(
                ("jurisdiction", "number", "marker"),
                {"host": "Where a region's servers are is said in each node's domicile.toml."},
            )
        if "jurisdiction" not in options:
            raise self.error(
                f'region "{name}" needs a jurisdiction', hint=f"CREATE REGION {name} WITH (jurisdiction = 'GDPR');"
            )
        return Call("create_region", (("name", name), *options.items()))

    def set_locality(self) -> Call:
        """ALTER TABLE t SET LOCALITY GLOBAL | LOCAL | REGIONAL [IN region] | PINNED BY (column) [USING mapping]
        | PINNED WITH parent [(columns)], each [WITH (move = true, accept = '…')]"""
        self.take("ONLY")
        arguments: dict[str, Value] = {"rel": self.table()}
        self.word("SET")
        self.word("LOCALITY")
        locality = self.word("PINNED", "GLOBAL", "REGIONAL", "LOCAL")
        arguments["locality"] = locality
        if locality == "regional" and self.take("IN"):
            self.take("REGION")
            arguments["home"] = self.name("a region's name")
        if locality == "pinned":
            if self.word("BY", "WITH") == "by":
                arguments["by"] = self.columns()
                if self.take("USING"):
                    arguments["mapping"] = self.table()
            else:
                arguments["parent"] = self.table()
                if self.peek("("):
                    arguments["by"] = self.columns()
        if self.take("WITH"):
            arguments.update(self.options(("move", "accept")))
            if isinstance(arguments.get("accept"), str):
                arguments["accept"] = (str(arguments["accept"]),)
        return Call("set_locality", tuple(arguments.items()))

    def policy(self, verb: str) -> Call:
        """CREATE | ALTER RESIDENCY POLICY name ON table [TO REGION ALL | TO REGION a, … | TO JURISDICTION j, …]
        [FOR ROLE r, …] [ROWS (condition)] [CLEAR (columns)] [MASK (column = expression, …)]
        [WITH (option = value, …)]"""
        arguments: dict[str, Value] = {"name": self.name("a policy's name")}
        self.word("ON")
        arguments["rel"] = self.table()
        seen: set[str] = set()
        while self.at < len(self.tokens) and not self.peek(";"):
            clause = self.word("TO", "FOR", "ROWS", "CLEAR", "MASK", "WITH")
            if clause in seen:
                self.at -= 1
                raise self.error(f"{clause.upper()} is given twice")
            seen.add(clause)
            if clause == "to":
                if self.word("REGION", "JURISDICTION") == "region":
                    if not self.take("ALL"):
                        arguments["regions"] = self.names("a region's name")
                else:
                    arguments["jurisdictions"] = self.names("a jurisdiction")
            elif clause == "for":
                self.word("ROLE")
                arguments["roles"] = self.names("a role's name")
            elif clause == "rows":
                arguments["rows"] = self.expression(inside=True)
            elif clause == "clear":
                arguments["clear"] = self.columns()
            elif clause == "mask":
                arguments["masks"] = self.masks()
            else:
                arguments["options"] = self.options(("copy", "reads", "max_staleness", "insert"))
        return Call(f"{verb}_policy", tuple(arguments.items()))

    def drop_policy(self) -> Call:
        """DROP RESIDENCY POLICY name ON table"""
        name = self.name("a policy's name")
        self.word("ON")
        return Call("drop_policy", (("name", name), ("rel", self.table())))

    # --- pieces -----------------------------------------------------------------------------------------------

    def masks(self) -> Mapping[str, object]:
        found: dict[str, object] = {}
        self.punctuation("(")
        while True:
            column = self.name("a column's name")
            if column in found:
                self.at -= 1
                raise self.error(f'column "{column}" is masked twice')
            self.punctuation("=")
            found[column] = self.expression()
            if not self.take(","):
                break
        self.punctuation(")")
        return found

    def options(self, known: tuple[str, ...], elsewhere: Mapping[str, str] | None = None) -> dict[str, Value]:
        found: dict[str, Value] = {}
        self.punctuation("(")
        while True:
            option = self.name("an option's name")
            if option not in known:
                self.at -= 1
                hint = (elsewhere or {}).get(option, f"The options are {', '.join(known)}.")
                raise self.error(f'there is no option "{option}" here', hint=hint)
            found[option] = self.value() if self.take("=") else True
            if not self.take(","):
                break
        self.punctuation(")")
        return found

    def value(self) -> Value:
        if self.peek("("):
            return self.columns()
        token = self.next("a value")
        if token.kind == "number" and token.text.isdigit():
            return int(token.text)
        if token.kind == "word" and token.text in ("true", "on"):
            return True
        if token.kind == "word" and token.text in ("false", "off"):
            return False
        if token.kind in ("word", "quoted", "string", "number"):
            return token.text
        self.at -= 1
        raise self.error(f'syntax error at or near "{self.shown()}": a value is expected')

    def expression(self, inside: bool = False) -> str:
        """The text up to the comma or parenthesis that ends it; `inside` reads one in parentheses of its own."""
        if inside:
            self.punctuation("(")
        start, depth = self.at, 0
        while self.at < len(self.tokens):
            kind = self.tokens[self.at].kind
            if depth == 0 and (kind == ")" or (kind == "," and not inside)):
                break
            depth += {"(": 1, "[": 1, ")": -1, "]": -1}.get(kind, 0)
            self.at += 1
        if self.at == start:
            raise self.error("an expression is expected")
        text = self.source[self.tokens[start].start : self.tokens[self.at - 1].end].decode()
        self.check(text, self.tokens[start].start)
        if inside:
            self.punctuation(")")
        return text

    def check(self, text: str, offset: int) -> None:
        prefix = "SELECT "
        try:
            tree = json.loads(parser.parse_sql_json(prefix + text))
        except parser.ParseError as error:
            place = error.args[1] if len(error.args) > 1 and error.args[1] is not None else len(prefix + text)
            start = (position(self.sql, offset) or 1) + max(int(place) - len(prefix), 0)
            raise DomicileError(SYNTAX_ERROR, str(error.args[0]), position=start) from None
        select = tree["stmts"][0]["stmt"].get("SelectStmt", {})
        alone = len(tree["stmts"]) == 1 and len(select.get("targetList", [])) == 1
        if (
            not alone
            or set(select) - {"targetList", "limitOption", "op"}
            or "name" in select["targetList"][0]["ResTarget"]
        ):
            raise DomicileError(SYNTAX_ERROR, "one expression is expected", position=position(self.sql, offset))

    def columns(self) -> tuple[str, ...]:
        self.punctuation("(")
        found = [self.name("a column's name")]
        while self.take(","):
            found.append(self.name("a column's name"))
        self.punctuation(")")
        return tuple(found)

    def names(self, what: str) -> tuple[str, ...]:
        found = [self.name(what)]
        while self.take(","):
            found.append(self.name(what))
        return tuple(found)

    def name(self, what: str) -> str:
        token = self.next(what)
        if token.kind in ("word", "quoted", "string"):
            return token.text
        self.at -= 1
        raise self.error(f'syntax error at or near "{self.shown()}": {what} is expected')

    def table(self) -> str:
        """A table's name as regclass reads it."""
        parts = [self.name("a table's name")]
        while self.take("."):
            parts.append(self.name("a table's name"))
        return ".".join(map(quote_identifier, parts))

    # --- tokens -----------------------------------------------------------------------------------------------

    def peek(self, text: str) -> bool:
        if self.at >= len(self.tokens):
            return False
        token = self.tokens[self.at]
        return token.kind == text or (token.kind == "word" and token.text == text.lower())

    def take(self, text: str) -> bool:
        found = self.peek(text)
        self.at += found
        return found

    def word(self, *choices: str) -> str:
        for choice in choices:
            if self.take(choice):
                return choice.lower()
        expected = choices[0] if len(choices) == 1 else f"{', '.join(choices[:-1])} or {choices[-1]}"
        raise self.error(f'syntax error at or near "{self.shown()}": {expected} is expected')

    def punctuation(self, text: str) -> None:
        if not self.take(text):
            raise self.error(f'syntax error at or near "{self.shown()}": "{text}" is expected')

    def next(self, what: str) -> _Token:
        if self.at >= len(self.tokens):
            raise self.error(f"syntax error at end of input: {what} is expected")
        self.at += 1
        return self.tokens[self.at - 1]

    def shown(self) -> str:
        if self.at >= len(self.tokens):
            return "end of input"
        token = self.tokens[self.at]
        return self.source[token.start : token.end].decode()

    def error(self, message: str, hint: str | None = None) -> DomicileError:
        message = message.replace('at or near "end of input"', "at end of input")
        offset = self.tokens[self.at].start if self.at < len(self.tokens) else len(self.source)
        return DomicileError(SYNTAX_ERROR, message, hint=hint, position=position(self.sql, offset))


def _string_value(raw: str) -> str:
    """The value of a string literal as PostgreSQL's own parser reads it."""
    tree = json.loads(parser.parse_sql_json("SELECT " + raw))
    constant = tree["stmts"][0]["stmt"]["SelectStmt"]["targetList"][0]["ResTarget"]["val"]["A_Const"]
    return str(constant["sval"].get("sval", ""))


# --- PostgreSQL's own DDL -----------------------------------------------------------------------------------------

_OF_TABLES = frozenset({"OBJECT_TABLE", "OBJECT_VIEW", "OBJECT_MATVIEW", "OBJECT_FOREIGN_TABLE"})
_ON_TABLES = frozenset({"OBJECT_TRIGGER", "OBJECT_RULE", "OBJECT_POLICY", "OBJECT_COLUMN", "OBJECT_TABCONSTRAINT"})


def named_objects(statement: Statement, catalog: Catalog, path: tuple[str, ...], role: str) -> list[QualifiedName]:
    """The managed tables that DROP, COMMENT and their like name as lists of strings, and not as relations."""
    body: Node = statement.body
    kind = body.get("removeType") or body.get("objtype") or body.get("objectType") or body.get("renameType")
    objects = [*body.get("objects", ()), *([body["object"]] if isinstance(body.get("object"), dict) else ())]
    found = []
    for item in objects:
        node, value = only(item)
        if node != "List" or kind not in _OF_TABLES | _ON_TABLES:
            continue
        parts = names(value.get("items", []))
        parts = parts[:-1] if kind in _ON_TABLES else parts
        if parts:
            schema = parts[-2] if len(parts) > 1 else None
            named = resolve(catalog, path, role, schema, parts[-1])
            if named.table is not None:
                found.append(named.name)
    return found


_COMMANDS = {
    "AlterTableStmt": "ALTER TABLE",
    "IndexStmt": "CREATE INDEX",
    "TruncateStmt": "TRUNCATE",
    "LockStmt": "LOCK",
    "VacuumStmt": "VACUUM or ANALYZE",
    "ViewStmt": "a view",
    "CreateTrigStmt": "a trigger",
    "GrantStmt": "GRANT or REVOKE",
    "RenameStmt": "ALTER … RENAME",
    "DropStmt": "DROP",
    "CommentStmt": "COMMENT",
    "CreateStmt": "a table that refers to a row",
}


def command(kind: str) -> str:
    """How a utility statement is called in a message.

    >>> command("IndexStmt"), command("ClusterStmt")
    ('CREATE INDEX', 'CLUSTER')
    """
    if kind in _COMMANDS:
        return _COMMANDS[kind]
    return re.sub(r"(?<=[a-z])(?=[A-Z])", " ", kind.removesuffix("Stmt")).upper()
