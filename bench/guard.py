"""What the guard adds: `python -m bench.guard`. One connection, the same statements straight and by way of the guard.

Both ways are taken in turns in one run, so that a noisy machine disturbs both; the ratio of medians is what counts.
The straight way is without TLS and without any look at statements: the difference is all that the guard does.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import psycopg
import uvloop

from domicile.catalog.configuration import Endpoint, Postgres
from domicile.catalog.configuration import Guard as GuardOptions
from domicile.catalog.loader import control_pool
from domicile.catalog.names import region_name
from domicile.catalog.snapshot import Catalog, Region
from domicile.certificates import RegionFiles, make, server_name
from domicile.embedded import EmbeddedServer
from domicile.init import install
from domicile.proxy.egress import Egress, Ledger
from domicile.proxy.guard import Guard

ROUNDS = 2_000
TURNS = 5
US, EU = region_name("us"), region_name("eu")

SHOP = """
create table customers (id bigint primary key, region text not null, name text not null);
insert into customers select n, 'us', 'name ' || n from generate_series(1, 10000) n;
create role app login password 'app';
grant select on customers to app;
select domicile.set_locality('customers', 'pinned', by => '{region}');
select domicile.create_policy('abroad', 'customers', clear => '{id,region,name}');
"""


def serve(postgres: Postgres, files: RegionFiles, ready: Connection) -> None:
    """The guard, in a process of its own."""

    async def nowhere(_: Sequence[Egress]) -> None:
        return

    async def run() -> None:
        pool = await control_pool(postgres, "bench")
        catalog = Catalog(1, US, {US: Region(US, 1, "X"), EU: Region(EU, 2, "X")}, {})
        options = GuardOptions(
            listen=Endpoint("127.0.0.1", 0),
            certificate=files.certificate,
            key=files.key,
            authority=files.authority,
            connections_max=100,
            statement_bytes_max=1_000_000,
            functions=frozenset(),
            login_timeout_s=10,
        )
        guard = Guard(US, options, postgres, lambda: catalog, pool, Ledger(nowhere))
        await guard.start()
        ready.send(guard.port)
        await asyncio.Event().wait()

    uvloop.run(run())


def timed(work: Callable[[], object], rounds: int) -> list[float]:
    times = []
    for _ in range(rounds):
        begin = time.perf_counter()
        work()
        times.append((time.perf_counter() - begin) * 1e6)
    return times


def measure(name: str, connections: dict[str, psycopg.Connection[Any]], sql: str, rounds: int, **how: bool) -> None:
    times: dict[str, list[float]] = {way: [] for way in connections}
    for turn in range(TURNS + 1):
        for way, connection in connections.items():
            seen = timed(lambda c=connection: c.execute(sql.encode(), **how).fetchall(), rounds // TURNS)  # type: ignore[misc]
            if turn:  # the first turn warms up
                times[way] += seen
    median = {way: statistics.median(seen) for way, seen in times.items()}
    straight, guarded = median["straight"], median["guarded"]
    print(f"{name:32} {straight:10.0f} {guarded:10.0f} {guarded - straight:+10.0f} {guarded / straight:8.2f}")


def main() -> None:
    folder = Path(tempfile.mkdtemp(prefix="domicile-bench-"))
    folder.chmod(0o711)
    server = EmbeddedServer(folder / "us")
    server.start()
    process: multiprocessing.Process | None = None
    try:
        server.run_sql("create database bench")
        dsn = server.dsn(database="bench")
        install(dsn, region="us", regions={"us": "X", "eu": "X"}, node_password="node")
        with psycopg.connect(dsn, autocommit=True) as connection:
            connection.execute(SHOP.encode())
            row = connection.execute("select domicile.login_secret('app', 'eu')").fetchone()
        assert row is not None
        files = make(folder / "certificates", [US, EU])
        postgres = Postgres("127.0.0.1", server.port, "bench", "domicile_node", "node", "disable", None)
        ours, theirs = multiprocessing.Pipe()
        process = multiprocessing.get_context("spawn").Process(target=serve, args=(postgres, files[US], theirs))
        process.start()
        port = ours.recv()
        mine = files[EU]
        connections = {
            "straight": psycopg.connect(server.dsn("app@eu", "bench", row[0]), autocommit=True),
            "guarded": psycopg.connect(
                host=server_name(US),
                hostaddr="127.0.0.1",
                port=port,
                user="app",
                dbname="bench",
                sslmode="verify-full",
                sslnegotiation="direct",
                sslcert=str(mine.certificate),
                sslkey=str(mine.key),
                sslrootcert=str(mine.authority),
                autocommit=True,
            ),
        }
        print(f"{'microseconds, medians':32} {'straight':>10} {'guarded':>10} {'added':>10} {'ratio':>8}")
        measure("one row by key, simple", connections, "select * from customers where id = 77", ROUNDS)
        measure("one row by key, prepared", connections, "select * from customers where id = 77", ROUNDS, prepare=True)
        measure("1,000 rows", connections, "select * from customers where id <= 1000", ROUNDS // 5)
        measure("10,000 rows", connections, "select * from customers", ROUNDS // 20)
        for connection in connections.values():
            connection.close()
    finally:
        if process is not None:
            process.terminate()
            process.join()
        server.remove()


if __name__ == "__main__":
    main()
