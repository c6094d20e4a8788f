"""Regions with agents: a database each, the in-database half, certificates, and an agent that a test starts."""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from domicile import certificates
from domicile.catalog import configuration
from domicile.catalog.names import RegionName
from domicile.embedded import EmbeddedServer, free_port
from domicile.replication.agent import Agent
from domicile.sql.build import script
from tests.conftest import Database, MakeDatabase

NODE_PASSWORD = "of the node"
PATIENCE_S = 60.0


@dataclass
class Region:
    """A region of a test: its database, and its agent where one runs."""

    name: str
    number: int
    database: Database
    file: Path  #: its domicile.toml
    owner: str | None = None  #: who has installed Domicile and runs the statements of the test; None: the superuser
    sent: bytearray = field(default_factory=bytearray)  #: all that the agent has said to others, before TLS
    agent: Agent | None = None

    def sql(self, text: str, *parameters: object) -> list[tuple[Any, ...]]:
        if self.owner is None:
            return self.database.run_sql(text, *parameters)
        with self.database.connect(self.owner) as connection:
            cursor = connection.execute(text.encode(), parameters or None)
            while cursor.nextset():
                pass
            return cursor.fetchall() if cursor.description else []

    async def start(self) -> None:
        self.agent = Agent(configuration.load(self.file), beat_s=0.05, observer=self.sent.extend)
        await self.agent.start()

    async def stop(self) -> None:
        if self.agent is not None:
            await self.agent.stop()
            self.agent = None


@dataclass
class Federation:
    regions: Mapping[str, Region]

    def __getitem__(self, name: str) -> Region:
        return self.regions[name]

    def everywhere(self, text: str) -> None:
        for region in self.regions.values():
            region.sql(text)

    def pin(self, table: str, by: str = "home") -> None:
        """Makes the table pinned in each region, by a column that names the region."""
        for region in self.regions.values():
            region.sql("select domicile.set_locality(%s::regclass, 'pinned', by => array[%s])", table, by)

    def policy(
        self,
        region: str,
        table: str,
        *,
        rows: str | None = None,
        clear: list[str] | None = None,
        masks: dict[str, str] | None = None,
        copy: bool = True,
    ) -> None:
        """Puts a policy for all regions in the place of the one that the region has for the table."""
        at = self[region]
        there = at.sql("select 1 from domicile.policy where rel = %s::regclass", table)
        at.sql(
            f"select domicile.{'alter' if there else 'create'}_policy"
            "('p', %s::regclass, rows => %s, clear => %s::text[], masks => %s, options => %s)",
            table,
            rows,
            clear or [],
            json.dumps(masks or {}),
            json.dumps({"copy": copy}),
        )

    async def start(self) -> None:
        for region in self.regions.values():
            await region.start()

    async def stop(self) -> None:
        for region in self.regions.values():
            await region.stop()

    async def settled(self, origin: str, destination: str) -> None:
        """Returns when all that is committed at the origin by now has been applied at the destination."""
        at = self[origin].sql("select clock_timestamp()")[0][0]
        await until(
            lambda: self[destination].sql(
                "select 1 from domicile.progress where origin = %s and state = 'streaming' and as_of >= %s", origin, at
            ),
            lambda: self[destination].sql("select * from domicile.progress"),
        )


async def until(condition: Callable[[], object], otherwise: Callable[[], object] = lambda: "") -> None:
    """Returns when the condition holds; fails, with what `otherwise` says, when it has not in PATIENCE_S."""
    deadline = time.monotonic() + PATIENCE_S
    while not await asyncio.to_thread(condition):
        if time.monotonic() > deadline:
            pytest.fail(f"not so after {PATIENCE_S} s: {otherwise()}")
        await asyncio.sleep(0.02)


def load_catalog(database: Database, names: Sequence[str], owner: str | None) -> None:
    with database.connect(owner) as connection:
        connection.execute(script().encode())
        for name in names:
            connection.execute(f"select domicile.create_region('{name}', '{name.upper()}')".encode())
    # Where no CREATEROLE user can hand on REPLICATION, whoever runs the service must give it.
    database.server.run_sql(f"alter role domicile_node replication password '{NODE_PASSWORD}'")


def make_region(
    name: str, number: int, database: Database, ports: Mapping[str, int], files: Mapping[Any, Any], folder: Path
) -> Region:
    mine = files[RegionName(name)]
    toml = f"""
        region = "{name}"
        postgres = {{ port = {database.server.port}, database = "{database.name}", password = "{NODE_PASSWORD}" }}
        gateway = {{ listen = "127.0.0.1:1" }}
        agent = {{ listen = "127.0.0.1:{ports[name]}" }}
        [guard]
        listen = "127.0.0.1:2"
        certificate = "{mine.certificate}"
        key = "{mine.key}"
        authority = "{mine.authority}"
        """
    for other, port in ports.items():
        if other != name:
            toml += f"""
        [regions.{other}]
        guard = "127.0.0.1:3"
        agent = "127.0.0.1:{port}"
        """
    file = folder / f"{name}.toml"
    file.write_text(toml)
    return Region(name, number, database, file)


@pytest.fixture(scope="session")
def certificate_files(tmp_path_factory: pytest.TempPathFactory) -> Mapping[Any, Any]:
    return certificates.make(tmp_path_factory.mktemp("certificates"), ["us", "eu", "ap"])


@dataclass
class Make:
    """Makes a federation: `make(server, "us", "eu")`, each region a database of its own. No agent runs yet.

    With `managed` Domicile is installed as cloud services allow it: by the databases' owner, who is no superuser.
    """

    make_database: MakeDatabase
    files: Mapping[Any, Any]
    folder: Path
    made: list[Federation] = field(default_factory=list)

    def __call__(self, server: EmbeddedServer, *names: str, managed: bool = False) -> Federation:
        ports = {name: free_port() for name in names}
        template = self.make_database(server)
        owner = "service" if managed else None
        if owner:
            server.run_sql(f"create role {owner} login createrole createdb replication password '{owner}'")
            server.run_sql(f"alter database {template.name} owner to {owner}")
        load_catalog(template, names, owner)
        regions = {
            name: make_region(
                name, number, self.make_database(server, template=template.name), ports, self.files, self.folder
            )
            for number, name in enumerate(names, 1)
        }
        for region in regions.values():
            region.owner = owner
            if owner:
                server.run_sql(f"alter database {region.database.name} owner to {owner}")
            region.sql(f"select domicile.set_here('{region.name}')")
        self.made.append(Federation(regions))
        return self.made[-1]


@pytest.fixture(autouse=True)
def no_fault_of_the_agent(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """What a session may end with is a warning; an error in the log is a fault in the code."""
    yield
    faults = [r.getMessage() for r in caplog.get_records("call") if r.levelno >= logging.ERROR]
    assert not faults


@pytest_asyncio.fixture
async def make_federation(
    make_database: MakeDatabase, certificate_files: Mapping[Any, Any], tmp_path: Path
) -> AsyncIterator[Make]:
    make = Make(make_database, certificate_files, tmp_path)
    yield make
    for federation in make.made:
        await federation.stop()


@pytest.fixture
def federation(server: EmbeddedServer, make_federation: Make) -> Federation:
    """Regions us and eu on one server, on each version in turn."""
    return make_federation(server, "us", "eu")


@pytest.fixture
def federation18(server18: EmbeddedServer, make_federation: Make) -> Federation:
    """Regions us and eu on one server, for what does not depend on the version."""
    return make_federation(server18, "us", "eu")
