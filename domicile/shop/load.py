"""Makes the shop in a database: roles, tables, and rows by COPY."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from importlib import resources
from typing import Any

from psycopg import Connection, sql

from .generate import Shop

ROLES = ("app", "analyst", "dba")
OWNER = "dba"

EVERYWHERE = ("countries", "country_region", "products")  #: every region needs them whole
PINNED = ("customers", "orders", "order_items")  #: parents first


def script(name: str) -> str:
    """The text of one of the shop's SQL files: schema, roles, localities or policies."""
    return resources.files(__package__).joinpath(f"{name}.sql").read_text(encoding="utf-8")


def create_roles(connection: Connection[Any], passwords: Mapping[str, str]) -> None:
    """Makes app, analyst and dba with these passwords, or gives them these where they exist already."""
    for role in ROLES:
        exists = connection.execute("select from pg_roles where rolname = %s", (role,)).fetchone() is not None
        connection.execute(
            sql.SQL("{} role {} login password {}").format(
                sql.SQL("alter" if exists else "create"), sql.Identifier(role), sql.Literal(passwords[role])
            )
        )


def create_tables(connection: Connection[Any]) -> None:
    """Makes the empty tables, which belong to dba, and grants app and analyst what they need."""
    with connection.transaction():
        connection.execute(sql.SQL("grant create on schema public to {}").format(sql.Identifier(OWNER)))
        connection.execute(sql.SQL("set local role {}").format(sql.Identifier(OWNER)))
        connection.execute(script("schema").encode())
        connection.execute(script("roles").encode())


def fill(connection: Connection[Any], shop: Shop, tables: Iterable[str]) -> None:
    """Copies the shop's rows into these tables, and sets the sequences of their ids behind them. Needs a superuser."""
    with connection.transaction():
        # Foreign keys are not looked up row by row, which takes as long as the rest: what is generated fits.
        connection.execute("set local session_replication_role = replica")
        for table in tables:
            with (
                connection.cursor() as cursor,
                cursor.copy(sql.SQL("copy {} from stdin").format(sql.Identifier(table))) as copy,
            ):
                for row in getattr(shop, table)():
                    copy.write_row(row)
            if table in ("customers", "orders"):
                name = sql.Literal(table)
                connection.execute(
                    sql.SQL("select setval(pg_get_serial_sequence({}, 'id'), max(id)) from {}").format(
                        name, sql.Identifier(table)
                    )
                )
