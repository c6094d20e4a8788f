"""The follower against a real server whose `domicile` schema is two functions over a table."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator

import asyncpg
import pytest

from domicile.catalog.configuration import Postgres
from domicile.catalog.loader import CatalogFollower, ControlPool, control_pool
from domicile.catalog.snapshot import Catalog
from domicile.embedded import EmbeddedServer
from tests.conftest import Database, MakeDatabase

SCHEMA = """
create schema domicile;
create table domicile.document (version bigint, snapshot jsonb);
create function domicile.version() returns bigint language sql as 'select version from domicile.document';
create function domicile.snapshot() returns jsonb language sql as 'select snapshot from domicile.document';
"""


def postgres(database: Database) -> Postgres:
    server = database.server
    return Postgres("127.0.0.1", server.port, database.name, "postgres", server.password, "disable", None)


def write(database: Database, version: int, snapshot: object = None) -> None:
    document = {"version": version, "here": "us", "regions": [], "tables": [], "mappings": {}, "opaque": []}
    with database.connect() as connection, connection.transaction():
        connection.execute("delete from domicile.document")
        connection.execute("insert into domicile.document values (%s, %s)", (version, json.dumps(snapshot or document)))


@pytest.fixture
def database(server18: EmbeddedServer, make_database: MakeDatabase) -> Database:
    made = make_database(server18)
    made.run_sql(SCHEMA)
    write(made, 1)
    return made


@pytest.fixture
async def pool(database: Database) -> AsyncIterator[ControlPool]:
    pool = await control_pool(postgres(database), "test")
    yield pool
    await pool.close()


@pytest.fixture
async def follower(pool: ControlPool) -> AsyncIterator[CatalogFollower]:
    follower = CatalogFollower(pool, poll_s=0.01)
    yield follower
    await follower.stop()


async def until_version(follower: CatalogFollower, version: int) -> Catalog:
    seen: asyncio.Queue[Catalog] = asyncio.Queue()
    follower.subscribe(seen.put_nowait)
    if follower.catalog.version == version:
        return follower.catalog
    async with asyncio.timeout(20):
        while (catalog := await seen.get()).version != version:
            pass
    return catalog


async def test_the_first_snapshot_is_there_after_start(follower: CatalogFollower) -> None:
    with pytest.raises(RuntimeError):
        _ = follower.catalog
    assert (await follower.start()).version == 1
    assert follower.reachable


async def test_a_new_version_reaches_every_subscriber(follower: CatalogFollower, database: Database) -> None:
    await follower.start()
    versions: list[int] = []
    follower.subscribe(lambda c: versions.append(c.version))
    write(database, 2)
    await until_version(follower, 2)
    await follower.refresh()
    assert versions == [2]


async def test_a_snapshot_that_is_none_leaves_the_last_one(follower: CatalogFollower, database: Database) -> None:
    await follower.start()
    write(database, 2, {"version": 2})
    with pytest.raises(KeyError):
        await follower.refresh()
    assert follower.catalog.version == 1
    write(database, 3)
    await until_version(follower, 3)


async def test_lost_connections_are_made_again(follower: CatalogFollower, database: Database) -> None:
    await follower.start()
    with database.connect() as connection:
        connection.execute("select pg_terminate_backend(pid) from pg_stat_activity where application_name = 'test'")
    write(database, 2)
    await until_version(follower, 2)
    assert follower.reachable


async def test_a_server_that_is_not_ready_is_waited_for(follower: CatalogFollower, database: Database) -> None:
    database.run_sql("alter function domicile.snapshot() rename to not_yet")
    with pytest.raises(asyncpg.UndefinedFunctionError):
        await follower.refresh()
    starting = asyncio.create_task(follower.start(deadline_s=20))
    database.run_sql("alter function domicile.not_yet() rename to snapshot")
    assert (await starting).version == 1


async def test_a_server_that_never_is_ready_is_reported(follower: CatalogFollower, database: Database) -> None:
    database.run_sql("drop schema domicile cascade")
    with pytest.raises(asyncpg.InvalidSchemaNameError, match="domicile"):
        await follower.start(deadline_s=0.1)
    assert not follower.reachable
