"""PostgreSQL's own grammar (libpg_query through pglast), its errors in PostgreSQL's shape.

The tree is the JSON one: a node is `{"SelectStmt": {...}}`, its fields plain dicts, lists and values; kinds begin with
a capital, fields do not. Locations in it are byte offsets into the UTF-8 text. Nothing is cached here.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from itertools import accumulate
from typing import Any, NamedTuple

from pglast import parser

from ..catalog.errors import SYNTAX_ERROR, DomicileError

Node = dict[str, Any]

STATEMENT_TOO_COMPLEX = "54001"
CHARACTER_NOT_IN_REPERTOIRE = "22021"


class Statement(NamedTuple):
    """One statement's node and where its text stands in the whole, in bytes; `end` is exclusive."""

    kind: str
    body: Node
    start: int
    end: int


def parse(sql: str) -> tuple[Statement, ...]:
    """The statements of the text; empty text gives ().

    Raises DomicileError 42601 with PostgreSQL's message and position, 54001 where it is nested too deeply, 22021 where
    the text holds what UTF-8 can't carry.
    """
    check_text(sql)
    try:
        document = json.loads(parser.parse_sql_json(sql))
    except parser.ParseError as error:
        raise _syntax_error(error) from None
    except RecursionError:
        raise too_complex() from None
    size = -1
    found = []
    for raw in document["stmts"]:
        ((kind, body),) = raw["stmt"].items()
        start = raw.get("stmt_location", 0)
        length = raw.get("stmt_len", 0)
        if not length:
            size = len(sql.encode()) if size < 0 else size
            length = size - start
        found.append(Statement(kind, body, start, start + length))
    return tuple(found)


def split(sql: str) -> tuple[str, ...]:
    """The statements of a simple-protocol text, each with its comments, without the semicolons; () for empty text.

    Domicile's own DDL, which PostgreSQL's grammar does not know, is split off by its scanner and is given as it is.
    """
    from .ddl import is_domicile  # the only use of that half of the grammar here

    try:
        statements = parse(sql)
    except DomicileError as error:
        if error.sqlstate != SYNTAX_ERROR or "\0" in sql:
            raise
        return _split_scanned(sql, error, is_domicile)
    text = sql.encode()
    pieces, end = [], 0
    for statement in statements:
        before = text[end : statement.start]
        semicolons = before.count(b";")
        start = statement.start
        if semicolons == (1 if end else 0):  # what stands before holds comments that belong to the statement
            start = end + before.find(b";") + 1 if end else 0
        end = statement.end
        pieces.append(text[start:end].decode().strip())
    return tuple(pieces)


def _split_scanned(sql: str, error: DomicileError, is_domicile: Any) -> tuple[str, ...]:
    try:
        pieces = tuple(parser.split(sql, with_parser=False))
    except parser.ParseError:
        raise error from None
    if not any(map(is_domicile, pieces)):
        raise error
    for piece in pieces:
        if not is_domicile(piece):
            parse(piece)
    return pieces


class Token(NamedTuple):
    """A token: its name (`SELECT`, `IDENT`, `ASCII_40` for a parenthesis) and its bytes, end exclusive."""

    name: str
    keyword: bool
    start: int
    end: int


def scan(text: str) -> list[Token]:
    """The tokens of the text, comments left out. (pglast counts characters; these are bytes.)

    >>> [tuple(t) for t in scan("'é' x")]
    [('SCONST', False, 0, 4), ('IDENT', False, 5, 6)]
    """
    try:
        found = parser.scan(text)
    except parser.ParseError as error:
        raise _syntax_error(error) from None
    places: Sequence[int] = range(len(text) + 1)
    if not text.isascii():
        places = list(accumulate((len(c.encode()) for c in text), initial=0))
    return [
        Token(t.name, t.kind != "NO_KEYWORD", places[t.start], places[t.end + 1])
        for t in found
        if t.name not in ("SQL_COMMENT", "C_COMMENT")
    ]


def check_text(sql: str) -> None:
    """Raises where PostgreSQL's parser would read less than the text (a NUL ends it) or could not read it at all."""
    if "\0" in sql:
        raise DomicileError(SYNTAX_ERROR, "the statement holds a NUL character", position=sql.index("\0") + 1)
    try:
        sql.encode()
    except UnicodeEncodeError as error:
        raise DomicileError(
            CHARACTER_NOT_IN_REPERTOIRE, "the statement holds what UTF-8 can't encode", position=error.start + 1
        ) from None


def too_complex() -> DomicileError:
    return DomicileError(
        STATEMENT_TOO_COMPLEX,
        "the statement is nested too deeply for the gateway",
        hint="Split the expression, or use an IN list or a join instead of a long chain of operators.",
    )


def _syntax_error(error: parser.ParseError) -> DomicileError:
    message = str(error.args[0])
    location = error.args[1] if len(error.args) > 1 else None
    if "stack depth limit" in message or "memory exhausted" in message:
        return too_complex()
    return DomicileError(SYNTAX_ERROR, message, position=None if location is None else int(location) + 1)


def position(sql: str, offset: int | None) -> int | None:
    """The byte offset as a character position from 1, as ErrorResponse carries it."""
    if offset is None or offset < 0:
        return None
    return len(sql.encode()[:offset].decode(errors="ignore")) + 1


def names(fields: list[Node]) -> tuple[str, ...]:
    """The strings of a list of String nodes; what is not a string (`*`) is left out.

    >>> names([{"String": {"sval": "public"}}, {"A_Star": {}}])
    ('public',)
    """
    return tuple(f["String"].get("sval", "") for f in fields if "String" in f)


def only(node: Node) -> tuple[str, Any]:
    """A node's kind and body."""
    for kind, body in node.items():
        return kind, body
    return "", {}


def walk(node: Any) -> Iterator[tuple[str, Node]]:
    """Every (kind, body) below the node, itself included, in no promised order."""
    stack = [node]
    while stack:
        here = stack.pop()
        if isinstance(here, list):
            stack.extend(here)
        elif isinstance(here, dict):
            for key, value in here.items():
                if isinstance(value, dict | list):
                    stack.append(value)
                    if key[0].isupper() and isinstance(value, dict):
                        yield key, value
