"""What the tests stand on: real PostgreSQL servers, started once a session, thrown away at its end.

`server18` and `server15` are single servers, `three_servers` the regions us, eu and ap; `make_database`
gives a fresh database on any of them and takes it away, with every role that the test made, when the test
ends.
"""

from __future__ import annotations

import itertools
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
import pytest

from domicile.catalog.names import quote_identifier
from domicile.demo.federation import Federation
from domicile.demo.regions import no_distance
from domicile.embedded import EmbeddedServer, find_binaries

REGIONS = ("us", "eu", "ap")

POSTGRES_15 = Path("/usr/lib/postgresql/15/bin")


def require(condition: object, what: str) -> None:
    """Skips the test where `what` is missing here; fails it where DOMICILE_REQUIRE_ALL=1 says that all
    must be run.
    """
    if condition:
        return
    if os.environ.get("DOMICILE_REQUIRE_ALL") == "1":
        pytest.fail(f"DOMICILE_REQUIRE_ALL=1, and this is missing: {what}")
    pytest.skip(f"needs {what}")


@dataclass(frozen=True, slots=True)
class Database:
    """A database of a test server. Its superuser is `postgres`."""

    server: EmbeddedServer
    name: str

    @property
    def dsn(self) -> str:
        return self.server.dsn(database=self.name)

    def dsn_of(self, user: str, password: str) -> str:
        return self.server.dsn(user, self.name, password)

    def connect(self, user: str | None = None, password: str = "") -> psycopg.Connection[tuple[Any, ...]]:
        """An autocommit connection of the superuser or of `user`, whose password is its name unless given."""
        dsn = self.dsn if user is None else self.dsn_of(user, password or user)
        return psycopg.connect(dsn, autocommit=True)

    def run_sql(self, sql: str, *parameters: object) -> list[tuple[Any, ...]]:
        return self.server.run_sql(sql, *parameters, database=self.name)


MakeDatabase = Callable[..., Database]


@pytest.fixture(scope="session")
def servers_folder() -> Iterator[Path]:
    # Not pytest's own temporary folder: the user that servers run as could not enter it.
    folder = Path(tempfile.mkdtemp(prefix="domicile-test-"))
    folder.chmod(0o711)
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


def _server(folder: Path, pg_bin: Path | None = None) -> Iterator[EmbeddedServer]:
    server = EmbeddedServer(folder, binaries=find_binaries(pg_bin))
    server.start()
    yield server
    server.remove()


@pytest.fixture(scope="session")
def server18(servers_folder: Path) -> Iterator[EmbeddedServer]:
    """A running PostgreSQL 18, the wheel's: no contrib modules, no TLS, no ICU."""
    yield from _server(servers_folder / "18")


@pytest.fixture(scope="session")
def server15(servers_folder: Path) -> Iterator[EmbeddedServer]:
    """A running PostgreSQL 15, the oldest that Domicile serves: Debian's, with TLS and ICU."""
    require((POSTGRES_15 / "initdb").exists(), f"PostgreSQL 15 in {POSTGRES_15} (apt-get install postgresql-15)")
    yield from _server(servers_folder / "15", POSTGRES_15)


@pytest.fixture(scope="session", params=[18, 15])
def server(request: pytest.FixtureRequest) -> EmbeddedServer:
    """Each of the oldest and the newest PostgreSQL in turn: a test that asks for it runs on both."""
    chosen: EmbeddedServer = request.getfixturevalue(f"server{request.param}")
    return chosen


@pytest.fixture(scope="session")
def three_servers(servers_folder: Path) -> Iterator[Mapping[str, EmbeddedServer]]:
    """Running PostgreSQL 18 servers by region: us, eu, ap. Nothing of Domicile is in them."""
    servers = {name: EmbeddedServer(servers_folder / name) for name in REGIONS}
    with ThreadPoolExecutor(len(servers)) as threads:
        list(threads.map(EmbeddedServer.start, servers.values()))
    yield servers
    for each in servers.values():
        each.remove()


@pytest.fixture(scope="session")
def federation(servers_folder: Path) -> Iterator[Federation]:
    """Three regions at work: servers, a shop of 100 customers under its policies, nodes as real processes, no distance.

    Tests share it: they take back what they wrote. See domicile/demo/federation.py for its ways to connect.
    """
    running = Federation(servers_folder / "federation", ports=None, customers=100, round_trips_ms=no_distance())
    running.start()
    yield running
    running.stop()


_numbers = itertools.count(1)


@pytest.fixture
def make_database() -> Iterator[MakeDatabase]:
    """A function `make_database(server, *, template="template1", name=None) -> Database`.

    Databases, their replication slots and the roles that came to be meanwhile are dropped when the test ends.
    """
    made: list[Database] = []
    roles_before: dict[EmbeddedServer, set[str]] = {}

    def make(server: EmbeddedServer, *, template: str = "template1", name: str | None = None) -> Database:
        roles_before.setdefault(server, _roles(server))
        database = Database(server, name or f"test_{next(_numbers)}")
        server.run_sql(f"create database {quote_identifier(database.name)} template {quote_identifier(template)}")
        made.append(database)
        return database

    yield make
    for database in reversed(made):
        _drop(database)
    for server, before in roles_before.items():
        _drop_roles(server, _roles(server) - before)


def _drop_roles(server: EmbeddedServer, roles: set[str]) -> None:
    if not roles:
        return
    names = ", ".join(map(quote_identifier, sorted(roles)))
    with server.connect() as connection:
        # What they hold on databases, and what PUBLIC had of these before Domicile closed it.
        connection.execute(f"drop owned by {names}".encode())
        connection.execute(f"drop role {names}".encode())
        connection.execute("grant connect on database postgres, template1 to public")
        connection.execute("grant temporary on database postgres to public")


def _roles(server: EmbeddedServer) -> set[str]:
    return {row[0] for row in server.run_sql("select rolname from pg_roles")}


def _drop(database: Database) -> None:
    with database.server.connect() as connection:
        connection.execute(
            "select pg_terminate_backend(pid, 5000) from pg_stat_activity"
            " where datname = %s and pid <> pg_backend_pid()",
            (database.name,),
        )
        for (slot,) in connection.execute(
            "select slot_name from pg_replication_slots where database = %s", (database.name,)
        ).fetchall():
            connection.execute("select pg_drop_replication_slot(%s)", (slot,))
        for (gid,) in connection.execute(
            "select gid from pg_prepared_xacts where database = %s", (database.name,)
        ).fetchall():
            # Only from inside its database can a prepared transaction be ended.
            database.run_sql(f"rollback prepared '{gid}'")
        connection.execute(f"drop database {quote_identifier(database.name)} with (force)".encode())
