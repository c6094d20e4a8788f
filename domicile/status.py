"""`domicile status`: how every region is, asked from one of them: its own server directly, the others at their guards.

A guard tells whoever holds a region's certificate which region it is, its versions, its clock, and how many findings
of the audit are open; never what they are.
"""

from __future__ import annotations

import json
import socket
import ssl
import time
from collections.abc import Mapping
from dataclasses import dataclass

import psycopg
from rich.console import Console
from rich.table import Table

from . import certificates
from .catalog.configuration import Configuration, Endpoint, Postgres
from .catalog.errors import CONNECTION_FAILURE, DomicileError
from .catalog.names import RegionName
from .proxy import messages as m
from .proxy.guard import STATUS_ROLE, STATUS_SQL
from .proxy.messages import B

PATIENCE_S = 10.0
"""For one region to answer, TLS included."""


@dataclass(frozen=True, slots=True)
class Status:
    """What a region says of itself, and how long it took to say it."""

    region: str
    catalog_version: int
    open_findings: int
    clock_ahead_s: float  #: of its server's clock before ours, the way there and back halved
    collation: str
    server_version: str
    round_trip_s: float


def ask_guard(endpoint: Endpoint, region: RegionName, files: certificates.RegionFiles) -> Status:
    """Asks the guard of `region`. Raises DomicileError: what it says, or 08006 where it can't be reached or is another
    region."""
    try:
        with socket.create_connection(endpoint, PATIENCE_S) as plain:
            context = certificates.caller_context(files)
            with context.wrap_socket(plain, server_hostname=certificates.server_name(region)) as sock:
                begin = time.monotonic()
                sock.sendall(m.build_startup({"user": STATUS_ROLE}))
                told = _read(sock)
                return _status(told, time.monotonic() - begin)
    except (OSError, KeyError, ValueError) as e:
        why = getattr(e, "verify_message", None) or getattr(e, "reason", None) or getattr(e, "strerror", None) or str(e)
        raise DomicileError(
            CONNECTION_FAILURE,
            f"the guard of region {region} at {endpoint} can't be asked: {why}",
            hint="Is its node up, its [guard] listen reachable from here, and the certificate of the same authority?",
        ) from e


def ask_postgres(postgres: Postgres) -> Status:
    """Asks a region's own server, as the node. Raises psycopg.Error."""
    with psycopg.connect(conninfo(postgres), autocommit=True) as connection:
        begin = time.monotonic()
        row = connection.execute(STATUS_SQL.encode()).fetchone()
        assert row is not None
        return _status({k: str(v) for k, v in json.loads(row[0]).items()}, time.monotonic() - begin)


def conninfo(postgres: Postgres) -> str:
    """How psycopg reaches the region's own server as the node's role."""
    tls = {} if postgres.by_socket else {"sslmode": postgres.sslmode}
    if postgres.sslmode == "verify-full":
        tls["sslrootcert"] = str(postgres.sslrootcert or "system")
    return psycopg.conninfo.make_conninfo(
        host=postgres.host,
        port=postgres.port,
        dbname=postgres.database,
        user=postgres.user,
        password=postgres.password,
        connect_timeout=round(PATIENCE_S),
        **tls,
    )


def files_of(configuration: Configuration) -> certificates.RegionFiles | None:
    """The certificates by which this region speaks to others."""
    guard = configuration.guard
    return certificates.RegionFiles(guard.certificate, guard.key, guard.authority) if guard else None


def command(configuration: Configuration) -> int:
    """Prints a line for each region; 0 where all answered and nothing is open."""
    table = Table("region", "reached", "round trip", "PostgreSQL", "catalog", "open findings")
    reasons = []
    well = True
    files = files_of(configuration)
    for name, endpoint in ((configuration.region, None), *((n, p.guard) for n, p in configuration.regions.items())):
        try:
            if endpoint is None:
                status = ask_postgres(configuration.postgres)
            else:
                assert files is not None
                status = ask_guard(endpoint, name, files)
        except (DomicileError, psycopg.Error) as e:
            reasons.append(e.message if isinstance(e, DomicileError) else str(e).strip())
            table.add_row(name, "[red]no[/red]")
            well = False
            continue
        well = well and status.open_findings == 0
        table.add_row(
            name,
            "here" if endpoint is None else str(endpoint),
            f"{status.round_trip_s * 1000:.1f} ms",
            status.server_version.split(" ")[0],
            str(status.catalog_version),
            str(status.open_findings),
        )
    console = Console()
    console.print(table)
    for reason in reasons:
        console.print(reason, markup=False, highlight=False, soft_wrap=True)
    try:
        with psycopg.connect(conninfo(configuration.postgres), autocommit=True) as connection:
            _print_findings(console, connection)
            _print_copies(console, connection)
    except psycopg.Error:
        pass  # said above
    return 0 if well else 1


def _print_findings(console: Console, connection: psycopg.Connection[tuple[object, ...]]) -> None:
    for finding, about in connection.execute("select finding, object from domicile.finding where not repaired"):
        console.print(f"open: {about}: {finding}", markup=False, highlight=False, soft_wrap=True)


def _print_copies(console: Console, connection: psycopg.Connection[tuple[object, ...]]) -> None:
    rows = connection.execute(
        "select relation::text, region, state, coalesce(round(extract(epoch from age)::numeric, 1) || ' s', 'never') "
        "from domicile.freshness order by 2, 1"
    ).fetchall()
    if rows:
        copies = Table("copy of", "from", "state", "age")
        for row in rows:
            copies.add_row(*map(str, row))
        console.print(copies)


def _read(sock: ssl.SSLSocket) -> dict[str, str]:
    """The ParameterStatus messages up to ReadyForQuery. Raises what an ErrorResponse says."""
    walker = m.Walker()
    told: dict[str, str] = {}
    while chunk := sock.recv(65536):
        for kind, body in m.messages(*walker.feed(chunk)):
            if kind == B.ERROR:
                raise m.error_of(body)
            if kind == B.PARAMETER_STATUS:
                name, value = body.decode().split("\0")[:2]
                told[name] = value
            if kind == B.READY:
                return told
    raise ConnectionResetError("it closed the connection")


def _status(told: Mapping[str, str], took_s: float) -> Status:
    return Status(
        region=told["domicile.region"],
        catalog_version=int(told["domicile.catalog_version"]),
        open_findings=int(told["domicile.open_findings"]),
        clock_ahead_s=float(told["domicile.clock"]) - (time.time() - took_s / 2),
        collation=told["domicile.collation"],
        server_version=told["server_version"],
        round_trip_s=took_s,
    )
