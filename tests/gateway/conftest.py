"""A gateway in front of one plain database, for what has nothing to do with borders."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
import pytest

from domicile.embedded import EmbeddedServer
from tests.conftest import Database
from tests.gateway.running import prepare, running


@dataclass(frozen=True, slots=True)
class Front:
    """One database, reached directly and through a gateway, as role `app`."""

    database: Database
    port: int

    @property
    def dsn(self) -> str:
        return f"host=127.0.0.1 port={self.port} dbname={self.database.name} user=app password=app"

    @property
    def url(self) -> str:
        return f"postgresql://app:app@127.0.0.1:{self.port}/{self.database.name}"

    def connect(self, **options: Any) -> psycopg.Connection[tuple[Any, ...]]:
        return psycopg.connect(self.dsn, **{"autocommit": True, **options})

    def direct(self, **options: Any) -> psycopg.Connection[tuple[Any, ...]]:
        return psycopg.connect(self.database.dsn_of("app", "app"), **{"autocommit": True, **options})


@pytest.fixture(scope="session")
def plain(servers_folder: Path) -> Iterator[Front]:
    """A gateway with a pool of four, in front of a database that manages no table. The server is its own: the roles
    stay as long as the session."""
    with EmbeddedServer(servers_folder / "gateway") as server:
        server.run_sql("create database plain")
        database = Database(server, "plain")
        prepare(database, "app")
        with running(database, pool_size=4, query_wait_timeout_s=20) as port:
            front = Front(database, port)
            with front.direct() as connection:
                connection.execute("create table items (id int primary key, name text, amount numeric(10, 2))")
                connection.execute("insert into items select i, 'item ' || i, i * 1.10 from generate_series(1, 1000) i")
            yield front
    server.remove()
