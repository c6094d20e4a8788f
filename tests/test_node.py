"""A node against a real region: what it says when it can't start, and what it does beside serving."""

from __future__ import annotations

import asyncio
import functools
import logging
import shutil
import socket
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest

from domicile import node
from domicile.catalog.configuration import Configuration, parse
from domicile.catalog.errors import DomicileError
from domicile.catalog.loader import CatalogFollower
from domicile.certificates import make
from domicile.embedded import EmbeddedServer, free_port
from domicile.init import install
from domicile.status import ask_guard, files_of
from tests.conftest import Database, require

SHOP = """
create table customers (id bigint primary key, region text not null, name text);
insert into customers select n, 'us', 'name ' || n from generate_series(1, 50) n;
create role app login password 'app';
grant select on customers to app;
select domicile.set_locality('customers', 'pinned', by => '{region}');
select domicile.create_policy('abroad', 'customers', clear => '{id,region}');
"""


@pytest.fixture(scope="module")
def region(servers_folder: Path) -> Iterator[Database]:
    """A server of its own: what a node does to it is seen nowhere else."""
    with EmbeddedServer(servers_folder / "node") as server:
        server.run_sql("create database node")
        database = Database(server, "node")
        install(database.dsn, region="us", regions={"us": "X", "eu": "X"}, node_password="node")
        database.run_sql(SHOP)
        yield database
    server.remove()


Configure = Callable[..., Configuration]


@pytest.fixture
def configure(region: Database, tmp_path: Path) -> Configure:
    """A function `configure(**ports) -> Configuration` of region us; ports not given are picked."""
    make(tmp_path, ["us", "eu"])

    def configure(
        name: str = "us", postgres: int | None = None, rest: str = "", tls: str = "", **ports: int
    ) -> Configuration:
        text = f"""
            region = "{name}"
            [postgres]
            port = {postgres or region.server.port}
            database = "node"
            password = "node"
            [gateway]
            listen = "127.0.0.1:{ports.get("gateway") or free_port()}"
            {tls}
            [guard]
            listen = "127.0.0.1:{ports.get("guard") or free_port()}"
            certificate = "us.crt"
            key = "us.key"
            authority = "authority.crt"
            [regions.{"eu" if name == "us" else "us"}]
            guard = "127.0.0.1:1"
            {rest}
        """
        return parse(text, folder=tmp_path, environment={})

    return configure


async def refusal(configuration: Configuration) -> DomicileError:
    with pytest.raises(DomicileError) as caught:
        async with node.running(configuration):
            pass
    return caught.value


@pytest.mark.parametrize("part", ["gateway", "guard"])
async def test_a_taken_port_is_named(part: str, configure: Configure) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        error = await refusal(configure(**{part: taken.getsockname()[1]}))
    assert error.message.startswith(f"[{part}] can't listen")
    assert "another address or port" in (error.hint or "")


async def test_a_database_of_another_region_is_refused(configure: Configure) -> None:
    error = await refusal(configure("eu"))
    assert error.message == "database node is region us, the configuration is of region eu"


async def test_a_server_that_is_away_is_named(configure: Configure, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(node, "START_PATIENCE_S", 0.1)
    error = await refusal(configure(postgres=1))
    assert error.sqlstate == "57P03"
    assert error.message.startswith("PostgreSQL of region us at 127.0.0.1:1 can't be asked")


async def test_clients_log_in_bound_to_the_gateways_own_certificate(configure: Configure) -> None:
    configuration = configure(tls='certificate = "us.crt"\nkey = "us.key"')
    port = configuration.gateway.listen.port
    dsn = f"host=127.0.0.1 port={port} dbname=node user=app password=app sslmode=require channel_binding=require"

    def ask() -> object:
        with psycopg.connect(dsn) as connection:
            assert connection.pgconn.used_password
            return connection.execute("select count(*) from customers where region = 'us'").fetchone()

    async with node.running(configuration):
        assert await asyncio.to_thread(ask) == (50,)


async def test_a_started_node_answers_at_its_guard(configure: Configure) -> None:
    configuration = configure()
    async with node.running(configuration) as running:
        assert running.guard is not None
        assert configuration.guard is not None
        files = files_of(configuration)
        assert files is not None
        eu = type(files)(files.certificate.with_name("eu.crt"), files.key.with_name("eu.key"), files.authority)
        status = await asyncio.to_thread(ask_guard, configuration.guard.listen, running.configuration.region, eu)
        assert (status.region, status.open_findings) == ("us", 0)
        assert abs(status.clock_ahead_s) < 60


async def test_the_ledger_is_written_and_chained(configure: Configure, region: Database) -> None:
    async with node.running(configure()) as running:
        assert running.ledger is not None
        for rows in (3, 4):
            running.ledger.count(node.RegionName("eu"), "app", ["public.customers"], rows, 100)
            await running.ledger.flush()
        running.ledger.count(node.RegionName("eu"), "app", [], 1, 10)
    # What was counted last is written by the stop.
    entries = region.run_sql(
        "select destination, role, via, relation, rows, bytes, digest from domicile.egress order by id"
    )
    assert [e[:6] for e in entries] == [
        ("eu", "app", "guard", "public.customers", 3, 100),
        ("eu", "app", "guard", "public.customers", 4, 100),
        ("eu", "app", "guard", None, 1, 10),
    ]
    assert len({e[6] for e in entries}) == 3


class Heard(logging.Handler):
    """Sets `event` at the first record that holds the text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.text = text
        self.event = asyncio.Event()

    def emit(self, record: logging.LogRecord) -> None:
        if self.text in record.getMessage():
            self.event.set()


async def test_the_audit_puts_right_what_no_event_trigger_sees_and_says_so(
    configure: Configure, region: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(node, "AUDIT_S", 0.02)
    heard = Heard("app@eu")
    logging.getLogger("domicile.node").addHandler(heard)
    try:
        async with node.running(configure()):
            region.run_sql('grant pg_read_all_data to "app@eu"')
            async with asyncio.timeout(30):
                await heard.event.wait()
    finally:
        logging.getLogger("domicile.node").removeHandler(heard)
    member = "select count(*) from pg_auth_members m join pg_roles r on r.oid = m.member where r.rolname = 'app@eu'"
    assert region.run_sql(member) == [(0,)]


@pytest.fixture
def redis_url(tmp_path: Path) -> Iterator[str]:
    program = shutil.which("redis-server")
    require(program, "redis-server (apt-get install redis-server)")
    assert program is not None
    port = free_port()
    server = subprocess.Popen(
        [program, "--port", str(port), "--save", "", "--dir", str(tmp_path)], stdout=subprocess.PIPE, text=True
    )
    assert server.stdout is not None
    for line in server.stdout:
        if "Ready to accept connections" in line:
            break
    yield f"redis://127.0.0.1:{port}/0"
    server.terminate()
    server.communicate()


async def test_news_of_the_catalog_travels_by_redis(
    configure: Configure, region: Database, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    rest = f'[redis]\nurl = "{redis_url}"'
    async with node.running(configure(rest=rest)):
        monkeypatch.setattr(node, "CatalogFollower", functools.partial(CatalogFollower, poll_s=3600))
        async with node.running(configure(rest=rest)) as deaf:
            assert deaf._follower is not None
            before = deaf._follower.catalog.version
            heard = asyncio.Event()
            deaf._follower.subscribe(lambda _: heard.set())
            # The subscription is set up beside: changes go on until one was heard of.
            async with asyncio.timeout(30):
                while not heard.is_set():
                    region.run_sql("select domicile.alter_policy('abroad', 'customers', clear => '{id}')")
                    region.run_sql("select domicile.alter_policy('abroad', 'customers', clear => '{id,region}')")
                    await asyncio.sleep(0.05)
            assert deaf._follower.catalog.version > before


async def test_without_redis_the_catalog_is_polled(
    configure: Configure, region: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(node, "REDIS_RETRY_S_MAX", 0.01)
    tried_again = Heard("Redis can't be reached")
    logging.getLogger("domicile.node").addHandler(tried_again)
    async with node.running(configure(rest='[redis]\nurl = "redis://127.0.0.1:1/0"')) as running:
        assert running._follower is not None
        heard = asyncio.Event()
        running._follower.subscribe(lambda _: heard.set())
        region.run_sql("select domicile.create_policy('more', 'customers', roles => '{app}', clear => '{id}')")
        async with asyncio.timeout(30):
            await heard.wait()
            await tried_again.event.wait()
        assert all(not task.done() for task in running._tasks)
    logging.getLogger("domicile.node").removeHandler(tried_again)


async def test_a_server_that_restarts_is_found_again(configure: Configure, region: Database) -> None:
    configuration = configure()
    async with node.running(configuration) as running:
        assert running._follower is not None
        with region.connect() as connection, pytest.raises(psycopg.OperationalError):
            connection.execute(
                "select pg_terminate_backend(pid) from pg_stat_activity where pid <> pg_backend_pid()"
                " and usename = 'domicile_node'"
            )
            connection.execute("select pg_terminate_backend(pg_backend_pid())")
        region.run_sql("select domicile.drop_policy('more', 'customers')")
        heard = asyncio.Event()
        running._follower.subscribe(lambda _: heard.set())
        region.run_sql("select domicile.create_policy('more', 'customers', roles => '{app}', clear => '{id}')")
        async with asyncio.timeout(30):
            await heard.wait()
        assert running._follower.reachable
