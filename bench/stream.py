"""How fast copies follow: `python -m bench.stream [--quick]`.

Two regions on one machine, each a PostgreSQL server and an agent in a process of its own, no distance between them.
PostgreSQL's own logical replication does the same work between the same servers in the same run; the ratios are what
counts on a noisy machine. Nothing is durable against a crash of the machine, on either side (fsync is off).

Ends with lines `RESULT <name> <value> <unit> aim <aim> ok|short`.
"""

from __future__ import annotations

import argparse
import asyncio
import multiprocessing
import statistics
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psycopg
import uvloop

from domicile import certificates
from domicile.catalog import configuration
from domicile.embedded import EmbeddedServer, free_port
from domicile.replication.agent import Agent
from domicile.sql.build import script

PASSWORD = "node"
PATIENCE_S = 300.0
SMALL_WRITERS = 8

TABLE = """
    create table {0} (id bigint primary key, email text, name text, amount int, born date, home text)
"""
ROWS = """
    insert into {0} select i, 'user' || i || '@example.com', 'Name ' || i, i % 5000, date '1950-01-01' + i % 20000, 'eu'
    from generate_series({1}, {2}) i
"""
MASKS = """{
    "email": "domicile.pseudonym(email)", "name": "domicile.partial(name, 1)",
    "born": "domicile.generalize(born, ''year'')"
}"""

Connection = psycopg.Connection[tuple[Any, ...]]


def run_agent(file: str) -> None:
    async def run() -> None:
        await Agent(configuration.load(file)).start()
        await asyncio.Event().wait()

    uvloop.run(run())


def wait_for(connection: Connection, query: str, poll_s: float = 0.001) -> float:
    """Returns when the query's one value is true: the moment, by the monotonic clock."""
    deadline = time.perf_counter() + PATIENCE_S
    while True:
        row = connection.execute(query.encode()).fetchone()
        now = time.perf_counter()
        if row and row[0]:
            return now
        if now > deadline:
            raise TimeoutError(query)
        time.sleep(poll_s)


def peak_memory_mb(pid: int | None) -> float:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) / 1024
    raise LookupError("no VmHWM")


def percentile(values: list[float], share: float) -> float:
    return sorted(values)[min(len(values) - 1, int(len(values) * share))]


class Report:
    def __init__(self) -> None:
        self.lines: list[str] = []

    def less(self, name: str, value: float, unit: str, aim: float) -> None:
        self.lines.append(f"RESULT {name} {value:.2f} {unit} aim {aim:g} {'ok' if value <= aim else 'short'}")
        print(self.lines[-1], flush=True)

    def more(self, name: str, value: float, unit: str, aim: float) -> None:
        self.lines.append(f"RESULT {name} {value:.2f} {unit} aim {aim:g} {'ok' if value >= aim else 'short'}")
        print(self.lines[-1], flush=True)


def set_up(servers: dict[str, EmbeddedServer], folder: Path) -> list[str]:
    """Installs the in-database half and the tables; returns the agents' configurations."""
    ports = {name: free_port() for name in servers}
    files = certificates.make(folder / "certificates", list(servers))
    result = []
    for name, server in servers.items():
        server.run_sql(script())
        for region in servers:
            server.run_sql(f"select domicile.create_region('{region}', '{region.upper()}')")
        server.run_sql(f"select domicile.set_here('{name}'); alter role domicile_node password '{PASSWORD}'")
        for table in ("clear", "masked", "small"):
            server.run_sql(TABLE.format(table))
            server.run_sql(f"select domicile.set_locality('{table}', 'pinned', by => '{{home}}')")
        server.run_sql(TABLE.format("plain") + ";" + TABLE.format("plain_small"))
        mine = files[configuration.region_name(name)]
        [other] = [region for region in servers if region != name]
        file = folder / f"{name}.toml"
        file.write_text(f"""
            region = "{name}"
            postgres = {{ port = {server.port}, database = "postgres", password = "{PASSWORD}" }}
            gateway = {{ listen = "127.0.0.1:1" }}
            agent = {{ listen = "127.0.0.1:{ports[name]}" }}
            [guard]
            listen = "127.0.0.1:2"
            certificate = "{mine.certificate}"
            key = "{mine.key}"
            authority = "{mine.authority}"
            [regions.{other}]
            guard = "127.0.0.1:3"
            agent = "127.0.0.1:{ports[other]}"
            """)
        result.append(str(file))
    return result


def policy(eu: EmbeddedServer, table: str) -> None:
    what = (
        "clear => '{id,home}', masks => '{}'"
        if table == "none"
        else f"clear => '{{id,amount,home}}', masks => '{MASKS}'"
        if table == "masked"
        else "clear => '{id,email,name,amount,born,home}'"
    )
    eu.run_sql(f"select domicile.create_policy('p', '{table}', {what}, options => '{{\"copy\": true}}')")


def snapshot(eu: EmbeddedServer, us: EmbeddedServer, rows: int, report: Report) -> None:
    """The first copy of a filled table, beside COPY to COPY with the same masks."""
    eu.run_sql(ROWS.format("masked", 1, rows))
    policy(eu, "masked")  # from here on its border view is there, which holds the masks for COPY to COPY
    with us.connect() as watching:
        start = time.perf_counter()
        end = wait_for(
            watching,
            "select exists (select from domicile.freshness where relation = 'masked'::regclass and state = 'streaming')"
            f" and (select count(*) = {rows} from abroad.masked)",
            0.01,
        )
    ours = rows / (end - start)
    us.run_sql("create table plain_copy (like masked)")
    with eu.connect() as source, us.connect() as target:
        start = time.perf_counter()
        with (
            source.cursor().copy("copy (select * from to_us.masked) to stdout (format binary)") as out,
            target.cursor().copy("copy plain_copy from stdin (format binary)") as into,
        ):
            for data in out:
                into.write(data)
        theirs = rows / (time.perf_counter() - start)
    print(f"snapshot: {ours:,.0f} rows/s; COPY to COPY with the same masks {theirs:,.0f} rows/s")
    report.more("snapshot_ratio", ours / theirs, "of_copy_to_copy", 0.7)


def big_transaction(eu: EmbeddedServer, us: EmbeddedServer, rows: int, report: Report) -> None:
    """From the commit of one large transaction to its being visible."""
    rates = {}
    for table, copy in (("plain", "plain"), ("clear", "abroad.clear"), ("masked", "abroad.masked")):
        with eu.connect() as writing, us.connect() as watching:
            before = us.run_sql(f"select count(*) from {copy}")[0][0]
            first = 10_000_000
            with writing.transaction():
                writing.execute(ROWS.format(table, first, first + rows - 1).encode())
            start = time.perf_counter()
            end = wait_for(watching, f"select count(*) = {before + rows} from {copy}", 0.02)
            rates[table] = rows / (end - start)
    print(
        f"a transaction of {rows:,} rows: PostgreSQL's own replication {rates['plain']:,.0f} rows/s,"
        f" copies in clear {rates['clear']:,.0f}, with three masks {rates['masked']:,.0f}"
    )
    report.more("large_transaction_clear_ratio", rates["clear"] / rates["plain"], "of_postgresql", 0.8)
    report.more("large_transaction_masked_ratio", rates["masked"] / rates["plain"], "of_postgresql", 0.6)


def latency(
    eu: EmbeddedServer, us: EmbeddedServer, table: str, copy: str, rate: int, seconds: float
) -> tuple[list[float], float]:
    """For single-row transactions at a rate: milliseconds from commit to visible for each, and the rate kept."""
    count = int(rate * seconds)
    committed: list[float] = []
    first = 100_000_000

    def write() -> None:
        with eu.connect() as writing:
            start = time.perf_counter()
            for n in range(count):
                wait = start + n / rate - time.perf_counter()
                if wait > 0:
                    time.sleep(wait)
                values = f"({first + n}, 'user{n}@example.com', 'Name {n}', 1, '1999-09-09', 'eu')"
                writing.execute(f"insert into {table} values {values}".encode())
                committed.append(time.perf_counter())

    seen: list[float] = []
    writer = threading.Thread(target=write)
    with us.connect() as watching:
        query = f"select coalesce(max(id), 0) from {copy} where id >= {first}".encode()
        watching.execute(query)
        writer.start()
        while len(seen) < count:
            row = watching.execute(query).fetchone()
            assert row
            now = time.perf_counter()
            seen += [now] * (row[0] - first + 1 - len(seen))
            time.sleep(0.0002)
        writer.join()
    kept = count / (committed[-1] - committed[0])
    # Seen before the commit had returned to the writer is seen at once.
    return [max(0.0, (s - c) * 1000) for s, c in zip(seen, committed, strict=True)], kept


def small_transactions(eu: EmbeddedServer, us: EmbeddedServer, seconds: int, report: Report) -> None:
    """Single-row transactions from many writers, as fast as pgbench makes them."""
    rates = {}
    for table, copy in (("plain_small", "plain_small"), ("small", "abroad.small")):
        before = eu.run_sql(f"select count(*) from {table}")[0][0]
        with tempfile.NamedTemporaryFile("w", suffix=".sql") as file:
            file.write(
                f"insert into {table} values (nextval('small_ids'), 'u@example.com', 'Name', 1, '1999-09-09', 'eu');"
            )
            file.flush()
            start = time.perf_counter()
            subprocess.run(
                [
                    eu.binaries / "pgbench",
                    *("-n", "-M", "prepared", "-c", str(SMALL_WRITERS), "-j", "1", "-T", str(seconds)),
                    *("-f", file.name, eu.dsn()),
                ],
                check=True,
                capture_output=True,
            )
        made = eu.run_sql(f"select count(*) from {table}")[0][0] - before
        written = time.perf_counter()
        with us.connect() as watching:
            end = wait_for(watching, f"select count(*) >= {made} from {copy} where id >= 1000000000", 0.02)
        rates[table] = made / (end - start)
        print(
            f"single-row transactions from {SMALL_WRITERS} writers, {table}: {made / (written - start):,.0f}/s written,"
            f" {made / (end - start):,.0f}/s with the catching up ({end - written:.2f} s)"
        )
    report.more("small_transactions", rates["small"], "per_s", 10_000)
    report.more("small_transactions_ratio", rates["small"] / rates["plain_small"], "of_postgresql", 0.8)


def near_reads(us: EmbeddedServer, report: Report) -> None:
    """One row by key: from the federated view, beside the same from a plain local table."""
    times: dict[str, list[float]] = {"plain": [], "federated.masked": []}
    with us.connect() as connection:
        queries: dict[str, Callable[[], Any]] = {
            table: (lambda t=table: connection.execute(f"select * from {t} where id = %s", (10_000_007,), prepare=True))
            for table in times
        }
        for _ in range(1_000):
            for table, query in queries.items():
                start = time.perf_counter()
                query().fetchall()
                times[table].append((time.perf_counter() - start) * 1000)
    plain, near = statistics.median(times["plain"]), statistics.median(times["federated.masked"])
    print(f"one row by key: plain table {plain:.3f} ms, federated view {near:.3f} ms")
    report.less("near_read_ratio", near / plain, "times_a_local_read", 2)


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--quick", action="store_true", help="a tenth of the rows, a third of the time")
    quick = options.parse_args().quick
    rows, seconds, rate = (50_000, 3, 300) if quick else (500_000, 10, 1_000)
    report = Report()
    with tempfile.TemporaryDirectory(prefix="domicile-bench-") as name:
        folder = Path(name)
        folder.chmod(0o711)
        # Commits are written out before they return (a log that is not can not be sent), but not synced to the disk.
        settings = {"synchronous_commit": "on"}
        servers = {region: EmbeddedServer(folder / region, settings=settings) for region in ("us", "eu")}
        for server in servers.values():
            server.start()
        us, eu = servers["us"], servers["eu"]
        agents: list[multiprocessing.process.BaseProcess] = []
        try:
            files = set_up(servers, folder)
            eu.run_sql("create sequence small_ids start 1000000000 cache 100")
            agents = [multiprocessing.get_context("spawn").Process(target=run_agent, args=(file,)) for file in files]
            for agent in agents:
                agent.start()
            snapshot(eu, us, rows, report)
            policy(eu, "clear")
            policy(eu, "small")
            eu.run_sql("create publication native for table plain, plain_small")
            us.run_sql(f"create subscription native connection '{eu.dsn()}' publication native with (binary = true)")
            with us.connect() as watching:
                wait_for(watching, "select count(*) >= 3 from domicile.freshness where state = 'streaming'", 0.05)
                wait_for(watching, "select bool_and(srsubstate = 'r') from pg_subscription_rel", 0.05)
                wait_for(watching, f"select count(*) = {rows} from abroad.masked", 0.05)
            big_transaction(eu, us, rows, report)
            near_reads(us, report)
            for table, copy in (("plain", "plain"), ("masked", "abroad.masked")):
                values, kept = latency(eu, us, table, copy, rate, seconds)
                p50, p99 = percentile(values, 0.5), percentile(values, 0.99)
                print(f"commit to visible, {table}: p50 {p50:.2f} ms, p99 {p99:.2f} ms at {kept:,.0f} transactions/s")
                if table == "masked":
                    report.less("commit_to_visible_p50", p50, "ms", 5)
                    report.less("commit_to_visible_p99", p99, "ms", 25)
            small_transactions(eu, us, seconds, report)
            report.less("agent_memory", max(peak_memory_mb(agent.pid) for agent in agents), "MB", 256)
        finally:
            for agent in agents:
                agent.terminate()
                agent.join()
            with us.connect() as connection:
                connection.execute("drop subscription if exists native")
            for server in servers.values():
                server.remove()


if __name__ == "__main__":
    main()
