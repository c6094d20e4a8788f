"""A database with the mask functions and their checker in it, and nothing else of Domicile."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg

from domicile.embedded import EmbeddedServer

PARTS = Path(__file__).parents[2] / "sql" / "parts"

# What the parts before these make, as far as masks need it.
BEFORE = """
create schema domicile;
grant usage on schema domicile to domicile_views;
"""

TABLES = """
create domain public.mail as text check (value ~ '@');
create domain public.small as int check (value < 100);
create type public.tier as enum ('bronze', 'gold');
create table public.people (
    id bigint primary key, email varchar(60) unique, name text collate "C", born date, seen timestamptz,
    salary int, price numeric(5,2), code uuid unique, doc jsonb, note varchar(10), consent boolean,
    tier public.tier, mail public.mail, few public.small, tags text[], ip inet, "Odd Col" text,
    code4 char(4), big bigint, posix text collate "POSIX"
);
create table public.orders (
    id bigint primary key, customer_email varchar(60) references public.people (email), paid boolean
);
create table public.keyless (amount int);
insert into public.people values
    (1, 'anna@example.com', 'Anna Ängström', '1990-05-17', '2024-03-05 06:07:08+00', 51234, 12.34,
     '5e5c7a0e-3b1f-4a55-9d0b-0c5f2d6f0a01', '{"ssn": "123", "city": "Oslo"}', 'n', true, 'gold', 'a@b', 7,
     '{x,y}', '10.1.2.3', 'odd', 'ab', 77),
    (2, 'bob@example.com', 'not-a-number', '1985-01-01', '2023-12-31 23:59:59+00', 0, 999.99,
     '5e5c7a0e-3b1f-4a55-9d0b-0c5f2d6f0a02', '[1]', '', false, 'bronze', 'b@b', 8, '{}', '2001:db8::5', '', '', -77),
    (3, null, null, null, null, null, null, null, null, null, null, null, null, null, null, null, null, null, null);
"""


@contextmanager
def mask_database(server: EmbeddedServer, owner: str | None = None) -> Iterator[psycopg.Connection[tuple[Any, ...]]]:
    """A superuser's autocommit connection to a fresh database; it and its roles are gone afterwards.

    With `owner` it belongs to a role of that name, no superuser, and everything in it but the tables is that role's.
    """
    name = f"masks_{owner or 'plain'}"
    roles = {row[0] for row in server.run_sql("select rolname from pg_roles")}
    if "domicile_views" not in roles:
        server.run_sql("create role domicile_views nologin")
    if owner:
        server.run_sql(f"create role {owner} nologin; grant domicile_views to {owner}")  # as 00_roles.sql has it
    server.run_sql(f"create database {name}" + (f" owner {owner}" if owner else ""))
    connection = psycopg.connect(server.dsn(database=name), autocommit=True)
    try:
        if owner:
            connection.execute(f"set role {owner}".encode())
        connection.execute(BEFORE)
        for part in sorted(PARTS.glob("2*_mask*.sql")):
            connection.execute(part.read_bytes())
        connection.execute("reset role")
        connection.execute(TABLES)
        yield connection
    finally:
        connection.close()
        server.run_sql(f"drop database {name} with (force)")
        for (role,) in server.run_sql("select rolname from pg_roles"):
            if role not in roles:
                server.run_sql(f'drop role "{role}"')
