"""A guard before a real PostgreSQL, in a loop of its own, and the ways to call it.

The region is `us`. What eu may see stands in a hand-made `to_eu`: the guard is tested here for itself, not through
what the in-database half would refuse too.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

import psycopg
import pytest
import uvloop

from domicile.catalog.configuration import Endpoint, Postgres
from domicile.catalog.configuration import Guard as GuardOptions
from domicile.catalog.loader import control_pool
from domicile.catalog.names import RegionName, region_name
from domicile.catalog.snapshot import Catalog, Region
from domicile.certificates import RegionFiles, caller_context, make, server_name
from domicile.embedded import EmbeddedServer
from domicile.proxy import messages as m
from domicile.proxy.egress import Egress, Ledger
from domicile.proxy.guard import Guard
from domicile.proxy.scram import Verifier
from tests.conftest import Database

T = TypeVar("T")
US, EU, AP = map(region_name, ("us", "eu", "ap"))
SECRET = "a secret of 256 bits"

CANARIES = ("canary-mail", "canary-name", "canary-born", "canary-note")
"""Values of the base table that no policy lets out; nothing that leaves the guard may hold one."""

SCHEMA = """
create table public.customers (
    id integer primary key,
    email text unique,
    name text not null,
    tier integer not null check (tier < 90),
    note text,
    hidden boolean not null default false
);
insert into public.customers
select n, 'canary-mail-' || n, 'canary-name-' || n, n % 5, 'canary-note-' || n, n = 7 from generate_series(1, 1000) n;
create table public.orders (id integer primary key, customer_id integer references public.customers deferrable);
insert into public.orders select n, n from generate_series(1, 100) n;

create schema to_eu;
create view to_eu.customers with (security_barrier) as
    select id, null::text as email, left(name, 1) || '***' as name, tier, hidden from public.customers where not hidden;
create view to_eu.orders as select id, customer_id from public.orders;
create table public.inbox (word text);
create view to_eu.inbox as select word from public.inbox;
create function public.take() returns trigger language plpgsql security definer as $$
begin
    insert into public.inbox values (new.word);
    return new;
end $$;
create trigger take instead of insert on to_eu.inbox for each row execute function public.take();
create schema "to_eu$sales";
create view "to_eu$sales".regions as select 'north' as name;

create function public.speak() returns trigger language plpgsql as $$
begin
    raise notice 'old row %', old;
    if new.tier = 66 then
        raise exception 'customer % is canary', old.email using errcode = '23514', hint = old.name;
    end if;
    if new.tier = 67 then perform (old.email)::int; end if;
    return new;
end $$;
create trigger speak before update on public.customers for each row execute function public.speak();

create schema domicile;
create table domicile.setting (name text, value text);
insert into domicile.setting values ('here', 'us');
create table domicile.finding (repaired boolean);
insert into domicile.finding values (true), (false);
create function domicile.version() returns bigint language sql as 'select 17::bigint';
create function domicile.refuse() returns integer language plpgsql set search_path = pg_catalog as $$
begin
    raise check_violation using message = 'this row is not at home here', detail = 'canary-note', hint = 'Move it.';
end $$;
create function to_eu.ask() returns integer language sql security definer set search_path = pg_catalog
    as 'select domicile.refuse()';
create function domicile.login_secret(role text, region text) returns text language plpgsql as $$
begin
    if role || '@' || region not in ('app@eu', 'stranger@eu') then
        raise invalid_authorization_specification using
            message = format('role "%s" of region "%s" is not known in region "us"', role, region);
    end if;
    return current_setting('domicile.test_secret', true);
end $$;
"""


def set_secret(database: Database, role: str, secret: str) -> None:
    """Sets the role's password and, for app@eu, what domicile.login_secret says."""
    database.run_sql(f"alter role \"{role}\" password '{Verifier.derive(secret, iterations=1)}'")
    if role == "app@eu":
        database.run_sql(f"alter database {database.name} set domicile.test_secret = '{secret}'")


@pytest.fixture(scope="module")
def database(server18: EmbeddedServer) -> Iterator[Database]:
    """The database as the guard finds it: `app@eu` with the guard's secret, `stranger@eu` with another."""
    made = Database(server18, "guarded")
    server18.run_sql("create database guarded")
    made.run_sql(SCHEMA)
    for role, secret in (("app@eu", SECRET), ("stranger@eu", "another")):
        made.run_sql(f'create role "{role}" login')
        made.run_sql(f'alter role "{role}" set search_path = to_eu')
        set_secret(made, role, secret)
    made.run_sql(
        """
        grant usage on schema to_eu, "to_eu$sales" to "app@eu";
        grant select on all tables in schema to_eu, "to_eu$sales" to "app@eu";
        grant insert (id, tier), update (tier), delete on to_eu.customers to "app@eu";
        grant insert, update, delete on to_eu.orders, to_eu.inbox to "app@eu"
        """
    )
    yield made
    server18.run_sql("drop database guarded with (force)")
    server18.run_sql('drop role "app@eu", "stranger@eu"')


@dataclass
class Recorded:
    """What would have been written to the ledger."""

    entries: list[Egress] = field(default_factory=list)

    async def write(self, entries: Sequence[Egress]) -> None:
        self.entries.extend(entries)

    def rows(self, relation: str | None) -> int:
        return sum(e.rows for e in self.entries if e.relation == relation)


class Running:
    """The guard in a thread with its own uvloop."""

    def __init__(self, options: GuardOptions, postgres: Postgres, files: dict[RegionName, RegionFiles]) -> None:
        self.files = files
        self.recorded = Recorded()
        self._sockets: list[socket.socket] = []
        self.ledger = Ledger(self.recorded.write)
        self.loop = uvloop.new_event_loop()
        self._thread = threading.Thread(target=self.loop.run_forever)
        self._thread.start()
        regions = {r: Region(r, n, "X") for n, r in enumerate((US, EU, AP), 1)}
        self.catalog = Catalog(1, US, regions, {})
        self.pool = self.run(control_pool(postgres, "guard test"))
        self.guard = Guard(US, options, postgres, lambda: self.catalog, self.pool, self.ledger)
        self.run(self.guard.start())

    def run(self, coroutine: Any) -> Any:
        future: Future[Any] = asyncio.run_coroutine_threadsafe(coroutine, self.loop)
        return future.result(30)

    def call(self, function: Callable[[], T]) -> T:
        """The function's result, run in the guard's loop."""

        async def run() -> T:
            return function()

        result: T = self.run(run())
        return result

    def flushed(self) -> Recorded:
        self.run(self.ledger.flush())
        return self.recorded

    def connect(self, user: str = "app", region: RegionName = EU, **options: Any) -> psycopg.Connection[Any]:
        """By libpq, straight at the guard: `sslnegotiation=direct` is what a gateway does."""
        mine = self.files[region]
        return psycopg.connect(
            **{
                "host": server_name(US),
                "hostaddr": "127.0.0.1",
                "port": self.guard.port,
                "user": user,
                "dbname": "any",
                "sslmode": "verify-full",
                "sslnegotiation": "direct",
                "sslcert": str(mine.certificate),
                "sslkey": str(mine.key),
                "sslrootcert": str(mine.authority),
                "autocommit": True,
            }
            | options
        )

    def raw(self, region: RegionName = EU, user: str | None = "app") -> Wire:
        """A socket in TLS; logged in where `user` is given."""
        sock = socket.create_connection(("127.0.0.1", self.guard.port), timeout=20)
        wire = Wire(caller_context(self.files[region]).wrap_socket(sock, server_hostname=server_name(US)))
        self._sockets.append(wire.sock)
        if user is not None:
            wire.send(m.build_startup({"user": user, "database": "any", "client_encoding": "UTF8"}))
            wire.until(m.B.READY)
        return wire

    def hang_up(self) -> None:
        """Closes the raw sockets, and returns when the guard has let all of its connections go."""
        while self._sockets:
            self._sockets.pop().close()
        while self.call(lambda: sum(self.guard.per_region.values())):
            pass

    def stop(self) -> None:
        self.hang_up()
        self.run(self.guard.stop())
        self.run(self.pool.close())
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join()
        self.loop.close()


class Wire:
    """The protocol by hand. `received` keeps every byte that came."""

    def __init__(self, sock: ssl.SSLSocket) -> None:
        self.sock = sock
        self.received = bytearray()
        self._walker = m.Walker()
        self._messages: list[m.Message] = []

    def send(self, *parts: bytes) -> None:
        self.sock.sendall(b"".join(parts))

    def until(self, kind: int) -> list[m.Message]:
        """The messages up to the first of this kind; all there were, where the connection ends before."""
        taken: list[m.Message] = []
        while True:
            while self._messages:
                taken.append(self._messages.pop(0))
                if taken[-1].type == kind:
                    return taken
            chunk = self.sock.recv(65536)
            if not chunk:
                return taken
            self.received += chunk
            self._messages.extend(m.messages(*self._walker.feed(chunk)))

    def until_any(self) -> list[m.Message]:
        """The messages of the next bytes; one at least, unless the connection ends."""
        while not self._messages:
            chunk = self.sock.recv(65536)
            if not chunk:
                break
            self.received += chunk
            self._messages.extend(m.messages(*self._walker.feed(chunk)))
        taken, self._messages = self._messages, []
        return taken

    def ask(self, *parts: bytes) -> list[m.Message]:
        self.send(*parts)
        return self.until(m.B.READY)


@pytest.fixture(scope="session")
def federation(tmp_path_factory: pytest.TempPathFactory) -> dict[RegionName, RegionFiles]:
    return dict(make(tmp_path_factory.mktemp("federation"), [US, EU, AP]))


@pytest.fixture(scope="session")
def strangers(tmp_path_factory: pytest.TempPathFactory) -> dict[RegionName, RegionFiles]:
    """Another federation's certificates, for the same names."""
    return dict(make(tmp_path_factory.mktemp("strangers"), [US, EU, AP]))


def options_for(files: RegionFiles) -> GuardOptions:
    return GuardOptions(
        listen=Endpoint("127.0.0.1", 0),
        certificate=files.certificate,
        key=files.key,
        authority=files.authority,
        connections_max=20,
        statement_bytes_max=1_000_000,
        functions=frozenset({"allowed_by_the_dba"}),
        login_timeout_s=20,
    )


def postgres_of(database: Database) -> Postgres:
    server = database.server
    return Postgres("127.0.0.1", server.port, database.name, "postgres", server.password, "disable", None)


StartGuard = Callable[..., Running]


@pytest.fixture
def start_guard(database: Database, federation: dict[RegionName, RegionFiles]) -> Iterator[StartGuard]:
    """A function `start_guard(**options) -> Running`; every guard started is stopped at the end."""
    running: list[Running] = []

    def start(**changes: Any) -> Running:
        options = replace(options_for(federation[US]), **changes)
        running.append(Running(options, postgres_of(database), federation))
        return running[-1]

    yield start
    for each in running:
        each.stop()


@pytest.fixture(scope="module")
def shared_guard(database: Database, federation: dict[RegionName, RegionFiles]) -> Iterator[Running]:
    running = Running(options_for(federation[US]), postgres_of(database), federation)
    yield running
    running.stop()


@pytest.fixture
def guard(shared_guard: Running) -> Iterator[Running]:
    """One guard for all tests of a module, its ledger empty, its connections closed after each."""
    shared_guard.flushed().entries.clear()
    yield shared_guard
    shared_guard.hang_up()
