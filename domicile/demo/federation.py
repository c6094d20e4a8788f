"""Three regions on one machine: servers, the shop, the border, the relay that is the distance, and the nodes.

Everything lies in one folder:

    lock                 held while a federation runs from this folder
    state.json           that all of it was made, and what was seen while rows moved home (the tour shows it)
    connections.json     while it runs, when it is ready: how to reach everything; mode 0600
    certificates/        the federation's authority and the regions' certificates
    us/ eu/ ap/          of each region: data, server.log, domicile.toml, node.log, and its roles' passwords

The demo runs it with 30,000 customers and real distances, the tests with a hundred and none.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from itertools import permutations
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import psycopg
from psycopg import sql

from domicile import certificates, init, processes
from domicile.catalog.errors import DomicileError
from domicile.catalog.names import region_name
from domicile.embedded import (
    OBJECT_IN_USE,
    Binaries,
    EmbeddedServer,
    FolderLock,
    find_binaries,
    free_port,
    port_is_taken,
)
from domicile.move import move_home
from domicile.relay import Link, RelayProcess
from domicile.shop import load
from domicile.shop.generate import CUSTOMERS, Shop

from .regions import DATABASE, FULL_REGION, PORTS, REGIONS, ROUND_TRIPS_MS, pair

NODE_PATIENCE_S = 60.0
NODE_STOP_PATIENCE_S = 5.0
LAYOUT = 1  #: of the folder; a state of another one is not taken over

Report = Callable[[str], None]
"""Told what is being done now, in a few words."""


@dataclass(slots=True)
class Region:
    """One region of a running federation."""

    name: str
    server: EmbeddedServer
    gateway_port: int
    guard_port: int
    agent_port: int
    passwords: dict[str, str]  #: of app, analyst, dba and domicile_node
    node: subprocess.Popen[bytes] | None = None

    @property
    def folder(self) -> Path:
        return self.server.folder

    def gateway_dsn(self, role: str = "app", **options: str) -> str:
        """How a client of this region connects: to the nearest gateway."""
        return self._dsn(self.gateway_port, role, options)

    def direct_dsn(self, role: str = "app", port: int | None = None, **options: str) -> str:
        """Straight to this region's PostgreSQL, or to it by way of a relay's port."""
        return self._dsn(port or self.server.port, role, options)

    def _dsn(self, port: int, role: str, options: Mapping[str, str]) -> str:
        password = self.server.password if role == "postgres" else self.passwords[role]
        return psycopg.conninfo.make_conninfo(
            host="127.0.0.1", port=port, user=role, password=password, dbname=DATABASE, **options
        )


@dataclass(frozen=True, slots=True)
class Moved:
    """What was seen when the full database was pinned and its rows moved home."""

    rows: Mapping[str, Mapping[str, int]]  #: by table and region
    before: int  #: customers in the one full database
    seconds: float


@dataclass
class Federation:
    """Three regions in one folder. `start` makes what is not there yet; `stop` ends every process."""

    folder: Path
    ports: tuple[int, ...] | None = PORTS  #: of the gateways; None picks free ones
    pg_bin: Path | None = None
    round_trips_ms: Mapping[frozenset[str], float] = field(default_factory=lambda: dict(ROUND_TRIPS_MS))
    customers: int | None = None  #: None: as many as the folder holds, 30,000 in a new one
    nodes: bool = True  #: False leaves out gateways, guards and agents
    durable: bool = False
    regions: dict[str, Region] = field(default_factory=dict)
    moved: Moved | None = None
    _lock: FolderLock | None = None
    _relay: RelayProcess | None = None

    @property
    def connections_file(self) -> Path:
        return self.folder / "connections.json"

    @property
    def _state_file(self) -> Path:
        return self.folder / "state.json"

    @property
    def relay(self) -> RelayProcess:
        if self._relay is None:
            raise RuntimeError("the relay runs between start and stop")
        return self._relay

    def round_trip_ms(self, a: str, b: str) -> float:
        return 0.0 if a == b else self.round_trips_ms[pair(a, b)]

    def far_dsn(self, here: str, there: str, role: str = "app") -> str:
        """The naive way: from here straight to the server of `there`, over the same distance as the nodes."""
        if here == there:
            return self.regions[there].direct_dsn(role)
        return self.regions[there].direct_dsn(role, self.relay.port(f"{here}>{there} direct"))

    def foreign_dsn(self, here: str, there: str, role: str = "app") -> str:
        """What nobody but the guard of `there` has: `role@here` logged in straight at the server of `there`."""
        with self.regions[there].server.connect(DATABASE) as connection:
            row = connection.execute("select domicile.login_secret(%s, %s)", (role, here)).fetchone()
        assert row is not None
        return psycopg.conninfo.make_conninfo(
            host="127.0.0.1",
            port=self.regions[there].server.port,
            user=f"{role}@{here}",
            password=row[0],
            dbname=DATABASE,
        )

    def connect(self, region: str, role: str = "app", *, direct: bool = False) -> psycopg.Connection[tuple[Any, ...]]:
        """An autocommit connection to a region's gateway, or straight to its server; the caller closes it."""
        there = self.regions[region]
        return psycopg.connect(there.direct_dsn(role) if direct else there.gateway_dsn(role), autocommit=True)

    # --- start

    def start(self, report: Report = lambda _: None, *, fresh: bool = False) -> None:
        """Everything runs and answers when this returns. On an error everything is stopped again.

        Raises DomicileError: a taken port, a folder in use, a full disk, and what else the parts refuse.
        """
        binaries = find_binaries(self.pg_bin)
        self.folder.mkdir(parents=True, exist_ok=True, mode=0o711)
        self._lock = FolderLock(self.folder, "demo")
        try:
            self._start(binaries, report, fresh)
        except BaseException:
            self.stop()
            raise

    def _start(self, binaries: Binaries, report: Report, fresh: bool) -> None:
        gateway_ports = self._gateway_ports()
        self.connections_file.unlink(missing_ok=True)
        for name, port in zip(REGIONS, gateway_ports, strict=True):
            server = EmbeddedServer(self.folder / name, binaries=binaries, durable=self.durable)
            self.regions[name] = Region(name, server, port, free_port(), free_port(), {})
        state = None if fresh else self._read_state()
        if state is None:
            # A folder that was only half made is made anew as well.
            self._remove_all()
        report("starting PostgreSQL in three regions")
        self._each_region(lambda region: region.server.start())
        for region in self.regions.values():
            region.passwords = _passwords(region.folder / "passwords.json")
        if state is None:
            self._make(report, self.customers or CUSTOMERS)
        else:
            self.moved = Moved(**state["moved"])
        report("opening the oceans between them")
        self._start_relay()
        if self.nodes:
            report("starting gateways, guards and agents")
            self._start_nodes()
        self._write_connections()

    def _gateway_ports(self) -> tuple[int, ...]:
        if self.ports is None:
            return tuple(free_port() for _ in REGIONS)
        for name, port in zip(REGIONS, self.ports, strict=True):
            if port_is_taken(port):
                raise DomicileError(
                    OBJECT_IN_USE,
                    f"port {port} for region {name} is taken by another program",
                    hint="Choose others: --port FIRST, or --ports US,EU,AP.",
                )
        return self.ports

    def _read_state(self) -> dict[str, Any] | None:
        try:
            state: dict[str, Any] = json.loads(self._state_file.read_text())
        except (FileNotFoundError, ValueError):
            return None
        if state.get("layout") != LAYOUT:
            return None
        held = state["moved"]["before"]
        if self.customers not in (None, held):
            raise DomicileError(
                "F0000",
                f"the folder {self.folder} holds a shop of {held:,} customers, not {self.customers:,}",
                hint="--fresh makes it anew.",
            )
        return state

    def _remove_all(self) -> None:
        self._state_file.unlink(missing_ok=True)
        for region in self.regions.values():
            region.server.remove()
        shutil.rmtree(self.folder / "certificates", ignore_errors=True)

    def _each_region(self, work: Callable[[Region], None]) -> None:
        with ThreadPoolExecutor(len(self.regions)) as threads:
            list(threads.map(work, self.regions.values()))

    # --- making the regions' databases

    def _make(self, report: Report, customers: int) -> None:
        shop = Shop(customers)
        report(f"loading a shop with {customers:,} customers into {FULL_REGION}, and drawing the border")

        def make(region: Region) -> None:
            self._make_shop(region, shop)
            self._make_border(region, customers)

        self._each_region(make)
        report("moving every row home")
        begin = time.monotonic()
        with contextlib.ExitStack() as stack:
            opened = {
                name: stack.enter_context(region.server.connect(DATABASE)) for name, region in self.regions.items()
            }
            full = self.regions[FULL_REGION].server
            rows = move_home(opened.pop(FULL_REGION), opened, connect_here=lambda: full.connect(DATABASE))
        self.moved = Moved(rows, customers, time.monotonic() - begin)
        _write_private(self._state_file, json.dumps({"layout": LAYOUT, "moved": asdict(self.moved)}))

    def _make_shop(self, region: Region, shop: Shop) -> None:
        with region.server.connect() as connection:
            load.create_roles(connection, region.passwords)
            connection.execute(
                sql.SQL("create database {} owner {}").format(sql.Identifier(DATABASE), sql.Identifier(load.OWNER))
            )
        with region.server.connect(DATABASE) as connection:
            load.create_tables(connection)
            load.fill(connection, shop, load.EVERYWHERE + (load.PINNED if region.name == FULL_REGION else ()))
            connection.execute("analyze")

    def _make_border(self, region: Region, customers: int) -> None:
        init.install(
            region.server.dsn(database=DATABASE),
            region=region.name,
            regions=REGIONS,
            node_password=region.passwords["domicile_node"],
        )
        with region.server.connect(DATABASE) as connection:
            connection.execute("grant domicile_admin to dba")
            connection.execute(load.script("localities").encode())
            if region.name != FULL_REGION:
                # New ids must stay above those of the rows that come home.
                connection.execute(
                    "select domicile.align_ids('customers', %s), domicile.align_ids('orders', %s)",
                    (customers, customers),
                )
            connection.execute(load.script("policies").encode())

    # --- relay and nodes

    def _start_relay(self) -> None:
        links: list[Link] = []
        for here, there in permutations(self.regions, 2):
            region, distance = self.regions[there], self.round_trip_ms(here, there)
            for name, port in (
                (f"{here}>{there}", region.guard_port),
                (f"{here}>{there} agent", region.agent_port),
                (f"{here}>{there} direct", region.server.port),
            ):
                links.append(Link(name, ("127.0.0.1", port), distance))
        self._relay = RelayProcess(links, log=self.folder / "relay.log")
        self._relay.start()

    def _start_nodes(self) -> None:
        files = certificates.make(self.folder / "certificates", list(self.regions))
        for region in self.regions.values():
            mine = files[region_name(region.name)]
            _write_private(region.folder / "domicile.toml", self._configuration(region, mine))
            self.start_node(region.name, wait=False)
        for name in self.regions:
            self._await_node(name)

    def _configuration(self, region: Region, files: certificates.RegionFiles) -> str:
        others = "".join(
            f"\n[regions.{name}]\n"
            f'guard = "127.0.0.1:{self.relay.port(f"{region.name}>{name}")}"\n'
            f'agent = "127.0.0.1:{self.relay.port(f"{region.name}>{name} agent")}"\n'
            for name in self.regions
            if name != region.name
        )
        return (
            f'region = "{region.name}"\n\n'
            "[postgres]\n"
            f'host = "127.0.0.1"\nport = {region.server.port}\ndatabase = "{DATABASE}"\n'
            f'user = "domicile_node"\npassword = "{region.passwords["domicile_node"]}"\n\n'
            f'[gateway]\nlisten = "127.0.0.1:{region.gateway_port}"\n\n'
            f'[guard]\nlisten = "127.0.0.1:{region.guard_port}"\n'
            f'certificate = "{files.certificate}"\nkey = "{files.key}"\nauthority = "{files.authority}"\n\n'
            f'[agent]\nlisten = "127.0.0.1:{region.agent_port}"\n' + others
        )

    def start_node(self, name: str, *, wait: bool = True) -> None:
        """Starts a region's node (again); with `wait` returns when it serves."""
        region = self.regions[name]
        region.node = processes.spawn(
            [sys.executable, "-m", "domicile", "up", region.folder / "domicile.toml"],
            log=region.folder / "node.log",
        )
        if wait:
            self._await_node(name)

    def _await_node(self, name: str) -> None:
        region = self.regions[name]
        deadline = time.monotonic() + NODE_PATIENCE_S
        reason = ""
        while time.monotonic() < deadline:
            if region.node is None or region.node.poll() is not None:
                reason = "it ended"
                break
            try:
                with psycopg.connect(region.gateway_dsn(), autocommit=True, connect_timeout=5) as connection:
                    connection.execute("select 1")
                return
            except psycopg.OperationalError as e:
                reason = str(e)
                time.sleep(0.02)
        log = (region.folder / "node.log").read_text(errors="replace").splitlines()[-12:]
        raise DomicileError("58000", f"the node of region {name} does not serve: {reason}", detail="\n".join(log))

    def stop_node(self, name: str, first: signal.Signals = signal.SIGTERM) -> None:
        """Ends a region's node; SIGKILL as `first` ends it as a crash would."""
        node, self.regions[name].node = self.regions[name].node, None
        if node is not None:
            processes.stop(node, first, NODE_STOP_PATIENCE_S)

    def _write_connections(self) -> None:
        document: dict[str, Any] = {"regions": {}, "distances": {}}
        for name, region in self.regions.items():
            here = {"host": "127.0.0.1"}
            document["regions"][name] = {
                "jurisdiction": REGIONS[name],
                "database": DATABASE,
                "gateway": {**here, "port": region.gateway_port},
                "guard": {**here, "port": region.guard_port},
                "direct": {**here, "port": region.server.port},
                "roles": {**region.passwords, "postgres": region.server.password},
            }
        for here_, there in permutations(self.regions, 2):
            document["distances"][f"{here_}>{there}"] = {
                "round_trip_ms": self.round_trip_ms(here_, there),
                "guard_port": self.relay.port(f"{here_}>{there}"),
                "direct_port": self.relay.port(f"{here_}>{there} direct"),
            }
        _write_private(self.connections_file, json.dumps(document, indent=2) + "\n")

    # --- stop

    def ended(self) -> Iterator[str]:
        """What has ended by itself since it was started: for each part its name and where its log is."""
        for name, region in self.regions.items():
            if region.server.pid is None:
                yield f"PostgreSQL of {name} ({region.server.log})"
            if region.node is not None and region.node.poll() is not None:
                yield f"the node of {name} ({region.folder / 'node.log'})"

    def stop(self) -> None:
        """Ends nodes, then the relay, then servers, and lets go of the folder. May be called at any time."""
        self.connections_file.unlink(missing_ok=True)
        if self.regions:
            self._each_region(lambda region: self.stop_node(region.name))
        if self._relay is not None:
            self._relay.stop()
            self._relay = None
        if self.regions:
            self._each_region(lambda region: region.server.stop())
        if self._lock is not None:
            self._lock.release()
            self._lock = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()


def _passwords(path: Path) -> dict[str, str]:
    """The region's passwords, made and kept the first time."""
    if not path.exists():
        made = {role: secrets.token_urlsafe(12) for role in (*load.ROLES, "domicile_node")}
        _write_private(path, json.dumps(made))
    read: dict[str, str] = json.loads(path.read_text())
    return read


def _write_private(path: Path, text: str) -> None:
    """Written beside and moved into place, readable by us alone from its first byte."""
    beside = path.with_name(path.name + ".new")
    beside.unlink(missing_ok=True)
    with os.fdopen(os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(text)
    beside.replace(path)
