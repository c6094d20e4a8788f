"""`domicile policy show` and `diff`: what crosses the border now, and what would if a file of policies were run.

The file holds policies in either form, `CREATE RESIDENCY POLICY …` or `select domicile.create_policy(…)`, as it would
be run; `diff` runs domicile.policy_diff for each, in a transaction that is rolled back.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, TypeAlias

import psycopg
from pglast.parser import ParseError, scan
from rich.console import Console
from rich.table import Table

from .catalog.errors import FEATURE_NOT_SUPPORTED, SYNTAX_ERROR, DomicileError
from .catalog.snapshot import parse as parse_snapshot
from .planner import ddl

Connection: TypeAlias = "psycopg.Connection[Any]"

_CALL = re.compile(r"\s*select\s+domicile\.(create|alter)_policy\s*\(", re.IGNORECASE)


def statements(text: str) -> Iterator[str]:
    """The statements of a file, comments and empty ones left out. Raises 42601 where it can't be read."""
    begin = 0  # pglast counts characters
    meaning = False
    try:
        tokens = scan(text)
    except ParseError as e:
        raise DomicileError(SYNTAX_ERROR, str(e.args[0])) from None
    for token in tokens:
        if token.name in ("SQL_COMMENT", "C_COMMENT"):
            if not meaning:
                begin = token.end + 1
        elif token.name == "ASCII_59":  # the semicolon
            if meaning:
                yield text[begin : token.start].strip()
            begin, meaning = token.end + 1, False
        else:
            meaning = True
    if meaning:
        yield text[begin:].strip()


def diff(connection: Connection, text: str) -> list[tuple[str, list[dict[str, Any]]]]:
    """For each policy of the text: the statement, and the rows of domicile.policy_diff. Changes nothing.

    Raises DomicileError for a statement that makes no policy; psycopg.Error for a policy that PostgreSQL refuses.
    """
    found = []
    for statement in statements(text):
        call = _as_diff(connection, statement)
        with connection.transaction(force_rollback=True):
            cursor = connection.execute(call.encode())
            names = [c.name for c in cursor.description or ()]
            found.append((statement, [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]))
    return found


def _as_diff(connection: Connection, statement: str) -> str:
    if match := _CALL.match(statement):
        return f"select * from domicile.policy_diff({statement[match.end() :]}"
    if ddl.is_domicile(statement):
        snapshot = connection.execute("select domicile.snapshot()").fetchone()
        assert snapshot is not None
        call = ddl.parse(statement, parse_snapshot(snapshot[0]), ("public",), "")
        if call.function in ("create_policy", "alter_policy"):
            written = call.sql
            return f"select * from domicile.policy_diff({written[written.index('(') + 1 :]}"
    raise DomicileError(
        FEATURE_NOT_SUPPORTED,
        f"this is no policy: {statement.splitlines()[0][:80]}",
        hint="Write CREATE RESIDENCY POLICY …, or select domicile.create_policy(…), in a file of its own.",
    )


def print_diff(connection: Connection, text: str) -> int:
    """Prints what would change; 0 where nothing more would cross than now, 1 where something would."""
    console = Console()
    more = False
    for statement, rows in diff(connection, text):
        console.print(statement.splitlines()[0], style="bold", markup=False, highlight=False)
        if not rows:
            console.print("  nothing would change")
            continue
        table = Table("column", "to", "role", "before", "after", "as it would cross")
        for row in rows:
            more = more or row["newly"]
            samples = "\n".join("NULL" if s is None else s for s in row["samples"] or ())
            table.add_row(
                row["column_name"],
                row["destination"],
                row["role"],
                row["before"],
                row["after"],
                samples,
                style="yellow" if row["newly"] else None,
            )
        console.print(table)
    return 1 if more else 0


def print_exposure(connection: Connection, relation: str | None) -> int:
    """Prints domicile.exposure, of one table or of all."""
    table = Table("table", "column", "to", "role", "seen", "by", "rows", "policy")
    for row in connection.execute(
        'select "table"::text, "column", destination, role, exposure, mask, rows, policy from domicile.exposure '
        'where %(relation)s::text is null or "table" = %(relation)s::regclass order by 1, 3, 4',
        {"relation": relation},
    ):
        table.add_row(*("" if value is None else str(value) for value in row))
    Console().print(table)
    return 0
