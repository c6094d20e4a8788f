"""docs/install.md, followed step by step on three real servers: each command and each file as it stands there.

Only names change: the servers' and nodes' host names and ports become this machine's, `domicile` the one under test.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import psycopg
import pytest

from domicile.embedded import EmbeddedServer, free_port
from tests.conftest import REGIONS, Database, MakeDatabase

MANUAL = Path(__file__).parents[1] / "docs" / "install.md"
REPOSITORY = MANUAL.parents[1]

SHOP = """
create table customers (id bigint primary key, country text not null, name text not null, email text unique);
create role app login password 'app';
grant select, insert, update, delete on customers to app;
"""
CUSTOMERS = {
    "us": "(1, 'US', 'Ada', 'ada@shop.example')",
    "eu": "(2, 'DE', 'Käthe', 'kaethe@shop.example')",
    "ap": "(3, 'JP', 'Yuki', 'yuki@shop.example')",
}
BLOCK = re.compile(r"(?:`(?P<name>[\w.]+)`:\n\n)?```(?P<kind>\w+)\n(?P<text>.*?)```", re.S)


class Follower:
    """Follows the manual in a folder."""

    def __init__(self, folder: Path, databases: Mapping[str, Database]) -> None:
        self.folder = folder
        self.gateways = {region: free_port() for region in databases}
        self.nodes: list[subprocess.Popen[bytes]] = []
        self._names: dict[str, str] = {}
        for region, database in databases.items():
            ports = {"6432": self.gateways[region], "6442": free_port(), "6443": free_port()}
            port = database.server.port
            self._names[f'host = "{region}-db.example.com"\nport = 5432'] = f'host = "127.0.0.1"\nport = {port}'
            self._names |= {f"{region}-node.example.com:{old}": f"127.0.0.1:{new}" for old, new in ports.items()}
            self._names[f"host={region}-node.example.com port=6432"] = f"host=127.0.0.1 port={ports['6432']}"
        self._names['database = "shop"'] = f'database = "{databases["us"].name}"'
        self._names["dbname=shop"] = f"dbname={databases['us'].name}"
        psql = databases["us"].server.binaries.folder
        self._environment = dict(os.environ) | {
            "PATH": f"{folder / 'bin'}:{psql}:{os.environ['PATH']}",
            "PYTHONPATH": str(REPOSITORY),
            "PGPASSWORD": "app",
            **{f"{region.upper()}_DSN": database.dsn for region, database in databases.items()},
        }
        (folder / "bin").mkdir()
        command = folder / "bin" / "domicile"
        command.write_text(f'#!/bin/sh\nexec {sys.executable} -m domicile "$@"\n')
        command.chmod(0o755)

    def renamed(self, text: str) -> str:
        for name, ours in self._names.items():
            text = text.replace(name, ours)
        return text

    def write(self, name: str, text: str) -> None:
        region = name.removesuffix(".toml")
        for port in ("6432", "6442", "6443"):
            # What listens on all addresses of a region's own machine listens on one port of this one.
            own = self._names.get(f"{region}-node.example.com:{port}")
            text = text.replace(f'"0.0.0.0:{port}"', f'"{own}"')
        (self.folder / name).write_text(self.renamed(text))

    def run(self, line: str) -> str:
        if line.endswith(" &"):
            node = subprocess.Popen(
                self.renamed(line.removesuffix(" &")).split(),
                cwd=self.folder,
                env=self._environment,
                stdout=subprocess.PIPE,
            )
            self.nodes.append(node)
            assert node.stdout is not None
            assert b" is up" in node.stdout.readline(), line
            return ""
        done = subprocess.run(
            self.renamed(line), shell=True, cwd=self.folder, env=self._environment, capture_output=True, text=True
        )
        assert done.returncode == 0, f"{line}\n{done.stdout}\n{done.stderr}"
        return done.stdout

    def stop(self) -> None:
        for node in self.nodes:
            node.send_signal(signal.SIGTERM)
        for node in self.nodes:
            assert node.wait(20) == 0
            assert node.stdout is not None
            node.stdout.close()


@pytest.fixture
def databases(three_servers: Mapping[str, EmbeddedServer], make_database: MakeDatabase) -> Mapping[str, Database]:
    made = {region: make_database(three_servers[region], name="installed") for region in REGIONS}
    for region, database in made.items():
        database.run_sql(SHOP + f"insert into customers values {CUSTOMERS[region]}")
    return made


@pytest.fixture
def follower(tmp_path: Path, databases: Mapping[str, Database]) -> Iterator[Follower]:
    follower = Follower(tmp_path, databases)
    yield follower
    follower.stop()


def test_the_manual_leads_from_three_servers_to_one_database(follower: Follower) -> None:
    said = ""
    commands = 0
    for block in BLOCK.finditer(MANUAL.read_text()):
        if block["name"]:
            follower.write(block["name"], block["text"])
            continue
        for line in block["text"].splitlines():
            if not line.startswith("export "):
                said += follower.run(line)
                commands += 1
    assert commands == 18
    assert "Ada" in said
    assert "kaethe@shop.example" not in said
    assert re.search(r" 2 \| DE +\| K\*\*\* +\| [0-9a-f]{32}", said)
    assert "Regions: eu" in said
    assert len(follower.nodes) == 3
    dsn = f"host=127.0.0.1 port={follower.gateways['eu']} dbname=installed user=app password=app"
    with psycopg.connect(dsn, autocommit=True) as eu:
        assert eu.execute("select name from customers where country = 'DE'").fetchall() == [("Käthe",)]
        assert eu.execute("select name from customers where country = 'JP'").fetchall() == [("Y***",)]
