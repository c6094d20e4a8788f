"""What a gateway costs: `pgbench -S` through it, straight to PostgreSQL, and through PgBouncer where it is installed.

    python -m bench.gateway [--quick]

One run, one machine: the region `us` of a small federation, its own node, a pool of 20. Each way is measured in turn,
several rounds, and the median round counts. Aims are against PgBouncer (docs/requirements.md, part 2); without it the
ratios to a direct connection are printed and the exit status is 2.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from domicile.demo.federation import Federation
from domicile.demo.regions import DATABASE, no_distance
from domicile.embedded import find_binaries, free_port, server_user

MODES = ("simple", "extended", "prepared")
SCALE = 10


def tps(pgbench: Path, port: int, password: str, mode: str, clients: int, seconds: float) -> float | None:
    """Transactions a second, or None where pgbench failed."""
    done = subprocess.run(
        [
            *(pgbench, "-S", "-n", "-M", mode, "-c", str(clients), "-T", f"{seconds:g}"),
            *("-h", "127.0.0.1", "-p", str(port), "-U", "app", DATABASE),
        ],
        env={**os.environ, "PGPASSWORD": password, "PGCONNECT_TIMEOUT": "10"},
        capture_output=True,
        text=True,
        check=False,
    )
    found = re.search(r"tps = ([0-9.]+)", done.stdout)
    return float(found[1]) if found and done.returncode == 0 else None


def start_pgbouncer(folder: Path, program: str, server_port: int, password: str) -> tuple[subprocess.Popen[bytes], int]:
    port = free_port()
    (folder / "users.txt").write_text(f'"app" "{password}"\n')
    (folder / "pgbouncer.ini").write_text(
        f"[databases]\n{DATABASE} = host=127.0.0.1 port={server_port}\n"
        f"[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {port}\nunix_socket_dir =\n"
        f"auth_type = scram-sha-256\nauth_file = {folder}/users.txt\npool_mode = transaction\n"
        "default_pool_size = 20\nmax_client_conn = 1000\nignore_startup_parameters = extra_float_digits\n"
    )
    user = server_user()
    for path in (folder, *folder.iterdir()):
        if user is not None:
            os.chown(path, user.pw_uid, user.pw_gid)
    how = {"user": user.pw_uid, "group": user.pw_gid} if user is not None else {}
    process = subprocess.Popen(
        [program, str(folder / "pgbouncer.ini")], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, **how
    )
    return process, port


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="under a minute: one short round, 16 clients")
    quick = parser.parse_args().quick
    clients_of = (16,) if quick else (1, 16, 64)
    rounds, seconds = (1, 3.0) if quick else (3, 5.0)
    program = shutil.which("pgbouncer") or shutil.which("pgbouncer", path="/usr/sbin")
    pgbench = find_binaries() / "pgbench"
    folder = Path(tempfile.mkdtemp(prefix="domicile-bench-"))
    folder.chmod(0o711)
    federation = Federation(folder / "federation", ports=None, customers=100, round_trips_ms=no_distance())
    bouncer: subprocess.Popen[bytes] | None = None
    short = False
    try:
        federation.start()
        us = federation.regions["us"]
        with us.server.connect(DATABASE) as connection:
            connection.execute("grant create on schema public to app")
        environment = {**os.environ, "PGPASSWORD": us.passwords["app"]}
        fill = [
            pgbench,
            "-i",
            "-q",
            "-s",
            str(SCALE),
            "-h",
            "127.0.0.1",
            "-p",
            str(us.server.port),
            "-U",
            "app",
            DATABASE,
        ]
        subprocess.run(fill, env=environment, check=True, capture_output=True)
        ports = {"direct": us.server.port, "gateway": us.gateway_port}
        if program is not None:
            (folder / "pgbouncer").mkdir()
            bouncer, ports["pgbouncer"] = start_pgbouncer(
                folder / "pgbouncer", program, us.server.port, us.passwords["app"]
            )
        for mode in MODES:
            for clients in clients_of:
                found: dict[str, list[float]] = {way: [] for way in ports}
                for _ in range(rounds):
                    for way, port in ports.items():
                        rate = tps(pgbench, port, us.passwords["app"], mode, clients, seconds)
                        if rate is not None:
                            found[way].append(rate)
                medians = {way: statistics.median(rates) for way, rates in found.items() if rates}
                name = f"{mode}_{clients}"
                for way, rate in medians.items():
                    print(f"INFO {name}_{way} {rate:.0f} tps")
                if "gateway" not in medians:
                    raise SystemExit(f"pgbench failed through the gateway ({name})")
                print(f"INFO {name}_of_direct {medians['gateway'] / medians['direct']:.2f} ratio")
                if "pgbouncer" in medians:
                    ratio = medians["gateway"] / medians["pgbouncer"]
                    verdict = "ok" if ratio >= 0.9 else "short"
                    short = short or verdict == "short"
                    print(f"RESULT {name}_of_pgbouncer {ratio:.2f} ratio aim >=0.9 {verdict}", flush=True)
                elif program is not None:
                    print(f"INFO {name} PgBouncer of this version can't run it")
    finally:
        if bouncer is not None:
            bouncer.terminate()
            bouncer.wait()
        federation.stop()
        shutil.rmtree(folder, ignore_errors=True)
    if program is None:
        print("PgBouncer is not installed: no figure beside it", file=sys.stderr)
        return 2
    return 1 if short else 0


if __name__ == "__main__":
    sys.exit(main())
