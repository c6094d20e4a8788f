"""How the tour asks: through the nearest gateway, straight at a far server, or as what a gateway is beyond the border.

Every answer says what came back, how long it took, and what crossed which ocean: the relay counts it, so it is known
and not claimed.
"""

from __future__ import annotations

import asyncio
import csv
import io
import os
import re
import socket
import ssl
import struct
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import permutations
from typing import Any, Literal, TypeAlias

import asyncpg
import psycopg

from .federation import Federation
from .regions import DATABASE

Client = Literal["psycopg", "asyncpg", "psql"]
AnyConnection: TypeAlias = "psycopg.Connection[Any]"

CLIENT_PATIENCE_S = 60.0


@dataclass(frozen=True, slots=True)
class Answer:
    columns: tuple[str, ...] = ()
    rows: tuple[tuple[Any, ...], ...] = ()
    status: str = ""  #: the command tag
    sqlstate: str = ""  #: empty where there was no error
    message: str = ""
    detail: str = ""
    times_ms: tuple[float, ...] = ()  #: of each run, in order
    crossed: Mapping[str, int] = field(default_factory=dict)  #: bytes to and from each other region

    @property
    def failed(self) -> bool:
        return bool(self.sqlstate)

    @property
    def first_ms(self) -> float:
        """With whatever had to be opened first."""
        return self.times_ms[0]

    @property
    def ms(self) -> float:
        """The best of the runs: what the way costs when everything is warm and nothing else runs here."""
        return min(self.times_ms)

    @property
    def text(self) -> str:
        """All that came back, for looking whether something is in it that must not be."""
        return "\n".join([*(str(row) for row in self.rows), self.status, self.message, self.detail])

    def column(self, name: str) -> list[Any]:
        at = self.columns.index(name)
        return [row[at] for row in self.rows]


class Asker:
    """Keeps its connections open, as an application does."""

    def __init__(self, federation: Federation) -> None:
        self.federation = federation
        self._open: dict[str, AnyConnection] = {}

    def close(self) -> None:
        for connection in self._open.values():
            connection.close()
        self._open.clear()

    def connection(self, dsn: str) -> AnyConnection:
        connection = self._open.get(dsn)
        if connection is None or connection.closed:
            connection = self._open[dsn] = psycopg.connect(dsn, autocommit=True, connect_timeout=15)
        return connection

    def gateway(
        self,
        here: str,
        statement: str,
        parameters: Sequence[object] = (),
        *,
        role: str = "app",
        client: Client = "psycopg",
        times: int = 1,
    ) -> Answer:
        """What a client in `here` gets from the nearest gateway."""
        dsn = self.federation.regions[here].gateway_dsn(role)
        before = self._bytes()
        if client == "psql":
            answer = self._psql(dsn, statement, times)
        elif client == "asyncpg":
            answer = asyncio.run(_asyncpg(dsn, statement, parameters, times))
        else:
            answer = self._psycopg(dsn, statement, parameters, times)
        return _with_crossed(answer, before, self._bytes())

    def gateway_rows(self, here: str, statement: str, *, role: str = "app") -> tuple[tuple[Any, ...], ...]:
        """Only the rows, without a look at the relay: for asking again and again."""
        return self._psycopg(self.federation.regions[here].gateway_dsn(role), statement, (), 1).rows

    def far(self, here: str, there: str, statement: str, *, role: str = "app", times: int = 1) -> Answer:
        """The naive way: a client in `here` with a connection to the server of `there`."""
        return self._psycopg(self.federation.far_dsn(here, there, role), statement, (), times)

    def direct(self, region: str, statement: str, *, role: str = "postgres") -> Answer:
        """At a region's server, from beside it: how the tour looks what is really there."""
        return self._psycopg(self.federation.regions[region].direct_dsn(role), statement, (), 1)

    def foreign(self, here: str, there: str, statement: str, *, role: str = "app") -> Answer:
        """As role@here straight at the server of `there`: the most that a broken or bribed gateway of `here` has."""
        return self._psycopg(self.federation.foreign_dsn(here, there, role), statement, (), 1)

    def knock(self, region: str, *, certificate_of: str | None) -> str:
        """What a region's guard does with a client that says it is role app: "let in", or how it ended."""
        context = ssl.create_default_context()
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        if certificate_of:
            files = self.federation.folder / "certificates"
            context.load_cert_chain(files / f"{certificate_of}.crt", files / f"{certificate_of}.key")
        port = self.federation.regions[region].guard_port
        startup = b"user\0app\0database\0" + DATABASE.encode() + b"\0\0"
        try:
            with (
                socket.create_connection(("127.0.0.1", port), CLIENT_PATIENCE_S) as plain,
                context.wrap_socket(plain) as tls,
            ):
                tls.sendall(struct.pack("!II", len(startup) + 8, 0x30000) + startup)
                answer = tls.recv(1)
                return "let in" if answer == b"R" else "the guard hung up" if not answer else "refused"
        except ssl.SSLError as e:
            return (e.reason or str(e)).replace("_", " ").lower()
        except ConnectionError as e:
            return str(e)

    def cold_ms(self, here: str, there: str, statement: str) -> float:
        """What the naive way costs when the connection must be opened first."""
        begin = time.perf_counter()
        with psycopg.connect(self.federation.far_dsn(here, there), autocommit=True) as connection:
            connection.execute(statement.encode()).fetchall()
        return (time.perf_counter() - begin) * 1e3

    def explain(self, here: str, statement: str, *, role: str = "app") -> list[str]:
        """The gateway's own lines of EXPLAIN: strategy, regions, key, reasons."""
        rows = self._psycopg(self.federation.regions[here].gateway_dsn(role), "explain " + statement, (), 1).rows
        lines = [str(row[0]) for row in rows]
        end = next((n for n, line in enumerate(lines) if line.startswith("Region ")), len(lines))
        return lines[:end]

    def _bytes(self) -> dict[tuple[str, str], int]:
        status = {link["link"]: sum(link["bytes"].values()) for link in self.federation.relay.status()}
        return {(a, b): status[f"{a}>{b}"] for a, b in permutations(self.federation.regions, 2)}

    def _psycopg(self, dsn: str, statement: str, parameters: Sequence[object], times: int) -> Answer:
        connection = self.connection(dsn)
        taken: list[float] = []
        cursor = connection.cursor()
        try:
            for _ in range(times):
                begin = time.perf_counter()
                cursor.execute(statement.encode(), parameters or None)
                rows = cursor.fetchall() if cursor.description else []
                taken.append((time.perf_counter() - begin) * 1e3)
        except psycopg.Error as e:
            return _refused(e, taken or [(time.perf_counter() - begin) * 1e3])
        columns = tuple(c.name for c in cursor.description or ())
        return Answer(columns, tuple(rows), cursor.statusmessage or "", times_ms=tuple(taken))

    def _psql(self, dsn: str, statement: str, times: int) -> Answer:
        """What the real psql prints: once to look at, `times` times to time."""
        parts: dict[str, Any] = dict(psycopg.conninfo.conninfo_to_dict(dsn))
        script = "\\timing on\n" + f"{statement.strip().rstrip(';')};\n" * times
        region = next(iter(self.federation.regions.values()))
        environment = {**os.environ, "PGPASSWORD": str(parts.pop("password")), "PGCONNECT_TIMEOUT": "15"}
        said = subprocess.run(
            [
                region.server.binaries / "psql",
                *("-X", "-q", "--csv", "-v", "VERBOSITY=verbose", "-v", "SHOW_CONTEXT=never"),
                psycopg.conninfo.make_conninfo(**parts),
            ],
            input=script,
            capture_output=True,
            text=True,
            encoding="utf-8",
            env=environment,
            timeout=CLIENT_PATIENCE_S,
        )
        pieces = re.split(r"^Time: ([\d.]+) ms.*\n", said.stdout, flags=re.MULTILINE)
        taken = tuple(float(p) for p in pieces[1::2])
        if found := re.search(r"ERROR:  (\w{5}): (.*)", said.stderr):
            return Answer(sqlstate=found[1], message=found[2], times_ms=taken or (0.0,))
        if said.returncode != 0 or not taken:
            return Answer(sqlstate="XX000", message=said.stderr.strip(), times_ms=(0.0,))
        table = list(csv.reader(io.StringIO(pieces[0])))
        rows = tuple(tuple(value if value != "" else None for value in row) for row in table[1:])
        return Answer(tuple(table[0]) if table else (), rows, times_ms=taken)


async def _asyncpg(dsn: str, statement: str, parameters: Sequence[object], times: int) -> Answer:
    parts: dict[str, Any] = dict(psycopg.conninfo.conninfo_to_dict(dsn))
    connection = await asyncpg.connect(
        host=parts["host"],
        port=int(parts["port"]),
        user=parts["user"],
        password=parts["password"],
        database=parts["dbname"],
        timeout=15,
    )
    taken: list[float] = []
    try:
        prepared = await connection.prepare(statement)
        for _ in range(times):
            begin = time.perf_counter()
            records = await prepared.fetch(*parameters)
            taken.append((time.perf_counter() - begin) * 1e3)
        columns = tuple(a.name for a in prepared.get_attributes())
        return Answer(
            columns, tuple(tuple(r.values()) for r in records), prepared.get_statusmsg() or "", times_ms=tuple(taken)
        )
    except asyncpg.PostgresError as e:
        return Answer(sqlstate=str(e.sqlstate), message=str(e), times_ms=tuple(taken) or (0.0,))
    finally:
        await connection.close()


def _refused(error: psycopg.Error, taken: Sequence[float]) -> Answer:
    diagnosis = error.diag
    return Answer(
        sqlstate=diagnosis.sqlstate or error.sqlstate or "08006",
        message=diagnosis.message_primary or str(error).strip(),
        detail=diagnosis.message_detail or "",
        times_ms=tuple(taken),
    )


def _with_crossed(
    answer: Answer, before: Mapping[tuple[str, str], int], after: Mapping[tuple[str, str], int]
) -> Answer:
    crossed: dict[str, int] = {}
    for link, count in after.items():
        if grown := count - before[link]:
            crossed[link[1]] = crossed.get(link[1], 0) + grown
    return replace(answer, crossed=crossed)


def until(condition: Callable[[], bool], patience_s: float, every_s: float = 0.001) -> float | None:
    """Seconds until the condition held, asked again and again; None where it did not within the patience."""
    begin = time.perf_counter()
    while time.perf_counter() - begin < patience_s:
        if condition():
            return time.perf_counter() - begin
        time.sleep(every_s)
    return None
