"""Three regions at work, rows in us that nobody abroad may see a letter of, and the three ways to come near them."""

from __future__ import annotations

import ssl
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import psycopg
import pytest
from psycopg.pq import ExecStatus

from domicile.catalog.names import region_name
from domicile.certificates import RegionFiles, caller_context, make, server_name
from domicile.demo.federation import Federation

DATABASE = "shop"

CANARIES = ("qcanaryname", "qcanarymail", "qcanaryphone", "qcanarynote")
"""In us's masked and withheld columns. A mask shows a name's first letter, so that is none of a canary."""

HOLES = """
create function public.leak() returns setof text language sql security definer as 'select phone from public.customers';
create view public.leaky_view as select * from public.customers;
create materialized view public.leaky_materialized as select * from public.customers;
create procedure public.leak_by_procedure() language plpgsql security definer as $$
    begin raise notice '%', (select string_agg(phone, ',') from public.customers); end $$;
create aggregate public.leaky_sum(integer) (sfunc = pg_catalog.int4pl, stype = integer);
create statistics public.leaky on email, name from public.customers;
grant select on public.leaky_view, public.leaky_materialized to public;
grant execute on function public.leak() to public;
grant select (phone) on public.customers to public;
grant execute on procedure public.leak_by_procedure() to public;
select lo_from_bytea(424242, 'qcanarynote');
create function public.leak_later() returns setof text language sql security definer
    as 'select note from public.customers';
analyze public.customers;
"""
"""What a careless owner of the database in us makes, after init, and grants to everybody."""

NO_HOLES = """
select lo_unlink(424242);
drop function public.leak_later();
drop aggregate public.leaky_sum(integer);
drop statistics public.leaky;
drop procedure public.leak_by_procedure();
drop materialized view public.leaky_materialized;
drop view public.leaky_view;
drop function public.leak();
revoke select (phone) on public.customers from public, domicile_local;
"""

PLANT = """
insert into customers (country, name, email, phone, note, consent)
values ('US', 'Xqcanaryname', 'qcanarymail', 'qcanaryphone', 'qcanarynote', false) returning id
"""


@dataclass(frozen=True, slots=True)
class Answer:
    """All that a statement brought back, as one text, and the SQLSTATE with which it was refused, if it was."""

    sqlstate: str | None
    text: str


NO_TRANSACTION = (
    "create database",
    "create tablespace",
    "alter system",
    "create subscription",
    "drop database",
    "reindex d",
)


def ask(connection: psycopg.Connection[Any], statement: str) -> Answer:
    """Runs the text in a transaction that is rolled back, by the simple protocol, and takes down all that comes."""
    heard: list[str] = []

    def note(diagnostic: psycopg.errors.Diagnostic) -> None:
        heard.append(all_of(diagnostic))

    connection.add_notice_handler(note)
    sqlstate = None
    if not statement.startswith(NO_TRANSACTION):
        connection.execute("begin")
    # By libpq's own calls: several statements, copies and errors in whatever order they come.
    wire = connection.pgconn
    wire.send_query(statement.encode())
    while (result := wire.get_result()) is not None:
        if result.status == ExecStatus.COPY_OUT:
            while (part := wire.get_copy_data(0))[0] > 0:
                heard.append(bytes(part[1]).decode())
        elif result.status == ExecStatus.COPY_IN:
            wire.put_copy_end(b"nothing to copy")
        elif result.status == ExecStatus.FATAL_ERROR:
            diagnostic = psycopg.errors.Diagnostic(result)
            sqlstate = diagnostic.sqlstate or "lost"
            heard.append(all_of(diagnostic))
        rows, columns = range(result.ntuples), range(result.nfields)
        heard.extend(str([result.get_value(row, column) for column in columns]) for row in rows)
    if not connection.closed:
        connection.execute("rollback")
        heard.extend(f"{n.channel} {n.payload}" for n in connection.notifies(timeout=0))
    connection.remove_notice_handler(note)
    return Answer(sqlstate, "\n".join(heard))


def all_of(diagnostic: psycopg.errors.Diagnostic) -> str:
    words = ("message_primary", "message_detail", "message_hint", "context", "internal_query", "constraint_name")
    return " | ".join(str(getattr(diagnostic, word)) for word in words)


def found(text: str, canaries: Sequence[str] = CANARIES) -> list[str]:
    return [c for c in canaries if c in text.lower()]


@dataclass(frozen=True, slots=True)
class Border:
    """The federation, and the ways from eu to us."""

    federation: Federation
    files: dict[str, RegionFiles]
    strangers: dict[str, RegionFiles]  #: another authority's, for the same names

    def direct(self, role: str = "app", here: str = "eu", there: str = "us") -> psycopg.Connection[Any]:
        """As `role@here`, straight at the server of `there`: what a broken guard of `there` could do."""
        return psycopg.connect(self.federation.foreign_dsn(here, there, role), autocommit=True)

    def guard(self, role: str = "app", here: str = "eu", there: str = "us", **options: Any) -> psycopg.Connection[Any]:
        """Through the guard of `there`, with the certificate of `here`: what a broken gateway of `here` could do."""
        mine = self.files[here]
        return psycopg.connect(
            **{
                "host": server_name(region_name(there)),
                "hostaddr": "127.0.0.1",
                "port": self.federation.regions[there].guard_port,
                "user": role,
                "dbname": DATABASE,
                "sslmode": "verify-full",
                "sslnegotiation": "direct",
                "sslcert": str(mine.certificate),
                "sslkey": str(mine.key),
                "sslrootcert": str(mine.authority),
                "autocommit": True,
                "connect_timeout": 20,
            }
            | options
        )

    def gateway(self, role: str = "app", here: str = "eu") -> psycopg.Connection[Any]:
        return self.federation.connect(here, role)

    def owner(self, there: str = "us") -> psycopg.Connection[Any]:
        return self.federation.regions[there].server.connect(DATABASE)

    def context(self, here: str = "eu", *, strangers: bool = False) -> ssl.SSLContext:
        return caller_context((self.strangers if strangers else self.files)[here])


@pytest.fixture(scope="session")
def border(federation: Federation, tmp_path_factory: pytest.TempPathFactory) -> Border:
    names = list(federation.regions)
    mine = {str(k): v for k, v in make(federation.folder / "certificates", names).items()}
    strangers = {str(k): v for k, v in make(tmp_path_factory.mktemp("strangers"), names).items()}
    return Border(federation, mine, strangers)


@contextmanager
def planted(border: Border) -> Iterator[int]:
    """The id of a customer at home in us whose every masked and withheld column is a canary, who does not consent."""
    with border.owner() as us:
        row = us.execute(PLANT).fetchone()
        assert row is not None
        try:
            yield int(row[0])
        finally:
            us.execute("delete from customers where id = %s", row)


@pytest.fixture(scope="module")
def hidden(border: Border) -> Iterator[int]:
    with planted(border) as customer:
        yield customer


@pytest.fixture(scope="module")
def careless(border: Border, hidden: int) -> Iterator[None]:
    """us as a careless owner leaves it: with functions, views and grants that would show everything to anybody."""
    with border.owner() as us:
        us.execute(HOLES.encode())
        yield
        us.execute(NO_HOLES.encode())
