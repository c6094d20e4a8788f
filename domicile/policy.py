"""`domicile policy show`, `diff` and `apply`: what crosses the border now, what would if a file of policies were run,
and running it in all regions or none.

The file holds policies in either form, `CREATE RESIDENCY POLICY …` or `select domicile.create_policy(…)`, as it would
be run; `diff` runs domicile.policy_diff for each, in a transaction that is rolled back.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
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


def apply(dsns: Sequence[str], text: str) -> tuple[list[str], list[str]]:
    """Runs the statements of the text in every region given, all or none (two-phase commit). The regions that have
    taken them, and those of the federation that were not given, to which the change is still to come.

    Raises DomicileError for a region given twice or a text that is no SQL, psycopg.Error for what PostgreSQL refuses:
    nothing is changed then. Only a crash between the two phases leaves prepared transactions, `domicile:policy:…`.
    """
    parts = list(statements(text))
    gid = f"domicile:policy:{secrets.token_hex(8)}"
    with ExitStack() as stack:
        regions: dict[str, Connection] = {}
        known: set[str] = set()
        for dsn in dsns:
            connection = stack.enter_context(psycopg.connect(dsn))
            snapshot = connection.execute("select domicile.snapshot()").fetchone()
            assert snapshot is not None
            catalog = parse_snapshot(snapshot[0])
            connection.rollback()
            if catalog.here in regions:
                raise DomicileError("42710", f"two connection strings lead to region {catalog.here}")
            regions[catalog.here] = connection
            known |= {str(name) for name in catalog.regions}
            connection.tpc_begin(connection.xid(0, gid, ""))
            for part in parts:
                call = ddl.parse(part, catalog, ("public",), "").sql if ddl.is_domicile(part) else part
                connection.execute(call.encode())
        for connection in regions.values():
            connection.tpc_prepare()
        for connection in regions.values():
            connection.tpc_commit()
        return sorted(regions), sorted(known - set(regions))


def print_apply(dsns: Sequence[str], text: str) -> int:
    """Applies, and prints which regions have it; 0 where all of the federation's have, 1 where some are to come."""
    taken, to_come = apply(dsns, text)
    console = Console()
    console.print(f"applied in {', '.join(taken)}, all of it or none", highlight=False)
    if to_come:
        console.print(
            f"still to come: {', '.join(to_come)}; until then these show what their present policies say",
            style="yellow",
            highlight=False,
        )
    return 1 if to_come else 0


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
