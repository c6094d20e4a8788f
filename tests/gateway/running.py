"""A gateway in a process of its own, in front of one database: what needs no border.

Not in a thread: libpq blocks in C with Python's lock held (cancel, PQgetResult), and the gateway could not answer.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from pathlib import Path

import uvloop

from domicile.catalog import configuration
from domicile.catalog.loader import control_pool
from domicile.catalog.names import RegionName
from domicile.catalog.snapshot import Catalog, Region
from domicile.embedded import free_port
from domicile.proxy.gateway import Gateway
from tests.conftest import Database

VERIFIER = """
create schema domicile;
grant usage on schema domicile to public;
create function domicile.verifier(role text) returns text language sql security definer
    as $$ select rolpassword from pg_authid where rolname = role and rolcanlogin $$;
"""


def prepare(database: Database, *roles: str) -> None:
    """Makes the database one that a gateway can serve, with roles whose passwords are their names."""
    database.run_sql(VERIFIER)
    for role in ("domicile_node", *roles):
        database.run_sql(f"create role {role} login password '{role}'")
        database.run_sql(f"grant create, usage on schema public to {role}")


@contextmanager
def running(database: Database, **gateway: object) -> Iterator[int]:
    """The port of a gateway that listens until the block ends. `gateway` holds settings of its section."""
    port = free_port()
    options = "".join(f"{name} = {value}\n" for name, value in gateway.items())
    text = f"""
region = "us"
[postgres]
host = "127.0.0.1"
port = {database.server.port}
database = "{database.name}"
user = "domicile_node"
password = "domicile_node"
[gateway]
listen = "127.0.0.1:{port}"
{options}
"""
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe()
    process = context.Process(target=_serve, args=(text, there), daemon=True)
    process.start()
    there.close()
    try:
        assert here.recv() == "ready"
        yield port
        assert process.is_alive(), "the gateway died"
    finally:
        process.terminate()
        process.join(20)
        here.close()
        assert process.exitcode == 0


def _serve(text: str, ready: Connection) -> None:
    uvloop.run(_live(text, ready))


async def _live(text: str, ready: Connection) -> None:
    settings = configuration.parse(text, folder=Path("/"))
    us = RegionName("us")
    catalog = Catalog(1, us, {us: Region(us, 1, "CCPA")}, {})
    control = await control_pool(settings.postgres, "gateway under test")
    gateway = Gateway(settings, lambda: catalog, control, {})
    await gateway.start()
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    ready.send("ready")
    await stop.wait()
    await gateway.stop()
    await control.close()
