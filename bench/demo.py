"""What the demo's three regions take: `python -m bench.demo [--quick]`.

From an empty folder to ready; a look-up of a customer who lives 150 ms away, beside a direct connection over the same
distance; a count over all regions; and `pgbench -S` through the gateway beside a direct connection, in turns, so that
a noisy machine disturbs both. The medians of the turns are printed, and their ratio.

Ends with lines `RESULT <name> <value> <unit>`.
"""

from __future__ import annotations

import argparse
import re
import shutil
import statistics
import subprocess
import tempfile
import time
from pathlib import Path

from domicile.demo.ask import Asker
from domicile.demo.federation import Federation
from domicile.demo.regions import DATABASE

CLIENTS = 8
SCALE = 10


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="shorter turns")
    quick = parser.parse_args().quick
    folder = Path(tempfile.mkdtemp(prefix="domicile-bench-"))
    folder.chmod(0o711)
    federation = Federation(folder / "demo", ports=None)
    try:
        begin = time.perf_counter()
        federation.start(lambda doing: print(f"  {time.perf_counter() - begin:5.1f} s  {doing}"))
        ready = time.perf_counter() - begin
        federation.stop()
        begin = time.perf_counter()
        federation.start()
        again = time.perf_counter() - begin
        results = [("ready_from_nothing", ready, "s"), ("ready_again", again, "s")]
        results += far(federation, 10 if quick else 40)
        results += pgbench(federation, turns=3 if quick else 7, seconds=2 if quick else 5)
    finally:
        federation.stop()
        for region in federation.regions.values():
            region.server.remove()
        shutil.rmtree(folder, ignore_errors=True)
    for name, value, unit in results:
        print(f"RESULT {name} {value:.3g} {unit}")


def far(federation: Federation, times: int) -> list[tuple[str, float, str]]:
    """Look-ups and a count from us, warm, beside the same straight at the far server."""
    asker = Asker(federation)
    customer, country = asker.direct("ap", "select id, country from customers where country = 'JP' limit 1").rows[0]
    by_id = f"select id, name, tier from customers where id = {customer}"
    by_key = f"select id, name, tier from customers where country = '{country}' and id = {customer}"
    count = "select tier, count(*) from customers group by tier"
    asked = {
        "far_look_up_by_id": asker.gateway("us", by_id, times=times),
        "far_look_up_by_key": asker.gateway("us", by_key, times=times),
        "far_look_up_direct": asker.far("us", "ap", by_id, times=times),
        "count_of_three_regions": asker.gateway("us", count, times=times),
        "home_look_up_by_key": asker.gateway(
            "us", "select id, name from customers where country = 'US' and id = 1", times=times * 10
        ),
    }
    asker.close()
    return [(name, statistics.median(answer.times_ms), "ms") for name, answer in asked.items()]


def pgbench(federation: Federation, *, turns: int, seconds: int) -> list[tuple[str, float, str]]:
    """Transactions a second of `pgbench -S`, as role app, straight and through the gateway of the same region."""
    us = federation.regions["us"]
    programs = us.server.binaries
    made = [programs / "pgbench", "-i", "-q", "-s", str(SCALE), us.server.dsn(database=DATABASE)]
    subprocess.run(made, check=True, capture_output=True)
    us.server.run_sql("grant select on all tables in schema public to app", database=DATABASE)
    taken: dict[str, list[float]] = {}
    for _ in range(turns):
        for protocol in ("simple", "extended"):
            for way, dsn in (("direct", us.direct_dsn()), ("gateway", us.gateway_dsn())):
                command = [
                    programs / "pgbench",
                    "-S",
                    "-n",
                    "-M",
                    protocol,
                    "-c",
                    str(CLIENTS),
                    "-T",
                    str(seconds),
                    dsn,
                ]
                said = subprocess.run(command, check=True, capture_output=True, text=True).stdout
                found = re.search(r"tps = ([\d.]+) \(without", said)
                assert found is not None, said
                taken.setdefault(f"pgbench_{protocol}_{way}", []).append(float(found[1]))
    medians = {name: statistics.median(values) for name, values in taken.items()}
    ratios = [
        (f"pgbench_{p}_ratio", medians[f"pgbench_{p}_gateway"] / medians[f"pgbench_{p}_direct"], "of direct")
        for p in ("simple", "extended")
    ]
    return [(name, value, "tps") for name, value in medians.items()] + ratios


if __name__ == "__main__":
    main()
