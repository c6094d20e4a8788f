"""`domicile demo` as a user runs it: a process that is started, looked at, and stopped in every way."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from domicile.embedded import free_port

pytestmark = pytest.mark.timeout(300)  # whole demos are started, on machines that may be busy

ROOT = Path(__file__).parents[2]
Start = Callable[..., "subprocess.Popen[str]"]


def ports() -> str:
    return ",".join(str(free_port()) for _ in range(3))


@pytest.fixture
def data(servers_folder: Path, request: pytest.FixtureRequest) -> Path:
    return servers_folder / f"demo-{abs(hash(request.node.nodeid))}"


@pytest.fixture
def start(data: Path) -> Iterator[Start]:
    """Starts a demo of a hundred customers; what is still running at the end is ended."""
    started: list[subprocess.Popen[str]] = []

    def start(*options: str, folder: Path = data) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "-m", "domicile", "demo", "--data", folder, "--latency", "0", *options],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            text=True,
            cwd=ROOT,
        )
        started.append(process)
        return process

    yield start
    for process in started:
        if process.poll() is None:
            process.terminate()
        process.communicate(timeout=120)


def until_ready(process: subprocess.Popen[str], data: Path) -> dict[str, Any]:
    """The connections file, as soon as it is there."""
    file = data / "connections.json"
    deadline = time.monotonic() + 120
    while not file.exists():
        assert process.poll() is None, process.communicate()[0]
        assert time.monotonic() < deadline, "not ready"
        time.sleep(0.05)
    document: dict[str, Any] = json.loads(file.read_text())
    return document


def descendants(of: int) -> set[int]:
    """Every process below that one, however deep."""
    children: dict[int, set[int]] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            pid, rest = int(stat.parent.name), stat.read_text().rpartition(")")[2].split()
        except (FileNotFoundError, ProcessLookupError):
            continue
        children.setdefault(int(rest[1]), set()).add(pid)
    found: set[int] = set()
    look = [of]
    while look:
        for child in children.get(look.pop(), ()):
            found.add(child)
            look.append(child)
    return found


def alive(pids: set[int]) -> set[int]:
    living = set()
    for pid in pids:
        try:
            if Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z":
                living.add(pid)
        except (FileNotFoundError, ProcessLookupError):
            continue
    return living


def test_it_serves_and_stops_and_leaves_nothing(start: Start, data: Path) -> None:
    chosen = ports()
    demo = start("--no-tour", "--customers", "100", "--ports", chosen)
    connections = until_ready(demo, data)
    assert (data / "connections.json").stat().st_mode & 0o777 == 0o600
    assert [r["gateway"]["port"] for r in connections["regions"].values()] == [int(p) for p in chosen.split(",")]
    for region in connections["regions"].values():
        assert set(region["roles"]) >= {"app", "analyst", "dba", "postgres"}
        for way in ("gateway", "direct"):
            with psycopg.connect(
                host=region[way]["host"],
                port=region[way]["port"],
                dbname=region["database"],
                user="app",
                password=region["roles"]["app"],
            ) as connection:
                assert connection.execute("select 1").fetchone() == (1,)

    second = start("--no-tour", "--ports", ports())
    said, _ = second.communicate(timeout=90)
    assert second.returncode == 1
    assert f"another demo (process {demo.pid}) is using the folder" in said

    below = descendants(demo.pid)
    assert len(below) > 3 * 6  # servers with their own children, nodes, relay
    demo.send_signal(signal.SIGINT)
    said, _ = demo.communicate(timeout=120)
    assert demo.returncode == 0, said
    assert not alive(below)
    assert not (data / "connections.json").exists()


def test_a_folder_is_reused_unless_it_shall_be_fresh(start: Start, data: Path) -> None:
    def mark(connections: dict[str, Any], statement: str) -> list[tuple[Any, ...]]:
        us = connections["regions"]["us"]
        with psycopg.connect(
            host=us["direct"]["host"], port=us["direct"]["port"], dbname="shop", user="postgres",
            password=us["roles"]["postgres"], autocommit=True,
        ) as connection:  # fmt: skip
            cursor = connection.execute(statement.encode())
            return cursor.fetchall() if cursor.description else []

    for options, expected in (
        ([], None),
        ([], [("kept",)]),
        (["--fresh"], [(None,)]),
    ):
        demo = start("--no-tour", "--customers", "100", "--ports", ports(), *options)
        connections = until_ready(demo, data)
        if expected is None:
            mark(connections, "create table public.kept()")
        else:
            assert mark(connections, "select to_regclass('public.kept')::text") == expected
        demo.send_signal(signal.SIGTERM)
        demo.communicate(timeout=120)
        assert demo.returncode == 0


def test_a_killed_demo_leaves_nothing_and_can_be_started_again(start: Start, data: Path) -> None:
    demo = start("--no-tour", "--customers", "100", "--ports", ports())
    until_ready(demo, data)
    below = descendants(demo.pid)
    demo.kill()
    demo.communicate()
    deadline = time.monotonic() + 20
    while alive(below) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not alive(below)
    (data / "connections.json").unlink()  # of the killed one
    again = start("--no-tour", "--ports", ports())
    assert until_ready(again, data)["regions"]


def test_a_taken_port_is_named(start: Start, data: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        demo = start("--no-tour", "--ports", f"{free_port()},{port},{free_port()}")
        said, _ = demo.communicate(timeout=90)
    assert demo.returncode == 1
    assert f"port {port} for region eu is taken" in " ".join(said.split())


def test_another_size_than_the_folder_holds(start: Start, data: Path) -> None:
    data.mkdir()
    (data / "state.json").write_text(json.dumps({"layout": 1, "moved": {"rows": {}, "before": 100, "seconds": 1}}))
    demo = start("--no-tour", "--customers", "200", "--ports", ports())
    said, _ = demo.communicate(timeout=90)
    assert demo.returncode == 1
    assert "holds a shop of 100 customers, not 200" in " ".join(said.split())


@pytest.mark.parametrize(
    ("options", "word"),
    [
        (["--ports", "1,2"], "3 different ports"),
        (["--ports", "7000,7000,7001"], "3 different ports"),
        (["--port", "65535"], "no port"),
        (["--latency", "-1"], "milliseconds"),
        (["--latency", "us-mars=3"], "us-mars"),
        (["--check", "--no-tour"], "not allowed with"),
        (["--pg-bin", "/nowhere", "--no-tour"], "/nowhere"),
        (["--data", "/proc/nowhere", "--no-tour"], "/proc/nowhere"),
    ],
)
def test_a_wrong_option_is_told(start: Start, options: list[str], word: str) -> None:
    demo = start(*options)
    said, _ = demo.communicate(timeout=90)
    assert demo.returncode in (1, 2)
    assert word in " ".join(said.split())
    assert "Traceback" not in said


def test_the_data_folder_comes_from_the_environment(data: Path) -> None:
    from domicile.demo.command import _data_folder

    assert _data_folder(None, {"DOMICILE_DATA": str(data)}) == data
    assert _data_folder(Path("x"), {"DOMICILE_DATA": str(data)}) == Path(os.getcwd()) / "x"
    assert _data_folder(None, {}) == Path(os.getcwd()) / ".domicile"


def test_in_a_terminal_keys_lead_through_the_tour(start: Start, data: Path) -> None:
    """The real thing on a pseudo-terminal: colours, a key for each step, q, and Ctrl-C at the end."""
    import pty

    master, slave = pty.openpty()
    demo = subprocess.Popen(
        [sys.executable, "-m", "domicile", "demo", "--data", data, "--latency", "0", "--ports", ports()],
        stdin=slave,
        stdout=slave,
        stderr=slave,
        cwd=ROOT,
        env={**os.environ, "TERM": "xterm-256color", "COLUMNS": "100", "PYTHONIOENCODING": "utf-8"},
        start_new_session=True,
    )
    os.close(slave)
    all_of_it = rest = ""

    def until(word: str) -> None:
        """Reads on to the next time that the word is shown."""
        nonlocal all_of_it, rest
        deadline = time.monotonic() + 120
        while word not in rest:
            assert time.monotonic() < deadline, all_of_it
            more = os.read(master, 65536).decode(errors="replace")
            all_of_it += more
            rest += more
        rest = rest[rest.index(word) + len(word) :]

    try:
        until("any key goes on")
        assert "1/12" not in all_of_it
        os.write(master, b" ")
        until("no server holds a row whose home is elsewhere")
        until("any key goes on")  # keys that are pressed before it is asked are not counted
        os.write(master, b"x")
        until("2/12")
        until("any key goes on")
        os.write(master, b"q")
        until("Ctrl-C stops all of it")
        assert "\x1b[" in all_of_it
        assert "3/12" not in all_of_it
        demo.send_signal(signal.SIGINT)
        until("stopping all of it")
        assert demo.wait(60) == 0
    finally:
        if demo.poll() is None:
            demo.terminate()
            demo.wait(60)
        os.close(master)
