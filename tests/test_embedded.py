"""Embedded servers: what they are made with, and every way in which starting one is refused."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import textwrap
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psycopg
import pytest

from domicile import embedded
from domicile.catalog.errors import DomicileError
from domicile.embedded import EmbeddedServer, FolderLock, PortTaken, find_binaries

from .conftest import POSTGRES_15, MakeDatabase, require


@pytest.fixture
def folder(servers_folder: Path, request: pytest.FixtureRequest) -> Path:
    path = servers_folder / str(abs(hash(request.node.nodeid)))
    path.mkdir(mode=0o711)
    return path


@pytest.mark.parametrize("version", [18, 15])
def test_a_server_has_what_a_region_needs(request: pytest.FixtureRequest, version: int) -> None:
    server: EmbeddedServer = request.getfixturevalue(f"server{version}")
    (row,) = server.run_sql(
        "select current_setting('server_version_num')::int / 10000, current_setting('server_encoding'),"
        " current_setting('wal_level'), current_setting('max_prepared_transactions')::int > 0"
    )
    assert row == (version, "UTF8", "logical", True)
    assert server.run_sql("select 'Z' < 'a', 'z' < 'é', lower('ÉΣ')") == [(True, True, "éσ")]


def test_a_wrong_password_and_a_missing_one_are_refused(server18: EmbeddedServer) -> None:
    port = server18.port
    with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
        psycopg.connect(server18.dsn(password="wrong"))
    with pytest.raises(psycopg.OperationalError, match="no password supplied"):
        psycopg.connect(f"host=127.0.0.1 port={port} user=postgres passfile=/nowhere")


def test_the_server_does_not_run_as_root(server18: EmbeddedServer) -> None:
    status = Path(f"/proc/{server18.pid}/status")
    require(status.exists(), "/proc")
    uids = next(line for line in status.read_text().splitlines() if line.startswith("Uid:")).split()[1:]
    assert "0" not in uids


def test_data_outlives_a_stop(folder: Path) -> None:
    server = EmbeddedServer(folder / "s")
    with server:
        server.run_sql("create table kept as select 1 as n")
        pid = server.pid
    assert server.pid is None
    with EmbeddedServer(folder / "s") as again:
        assert again.pid != pid
        assert again.run_sql("select n from kept") == [(1,)]
    again.remove()
    assert not (folder / "s").exists()


def test_a_folder_that_the_servers_user_cannot_enter(tmp_path: Path) -> None:
    require(os.geteuid() == 0, "root, whose servers run as another user")
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    server = EmbeddedServer(closed / "s")
    with server:
        assert server.run_sql("select 1") == [(1,)]
        elsewhere = server.data_dir.resolve()
        assert tmp_path not in elsewhere.parents
        assert elsewhere.stat().st_mode & 0o777 == 0o700
        assert (server.folder / "password").stat().st_mode & 0o777 == 0o600
    server.remove()
    assert not elsewhere.exists()


def test_binaries_that_the_servers_user_cannot_run_are_copied(
    tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    require(os.geteuid() == 0, "root, whose servers run as another user")
    wheel = find_binaries().folder.parents[1]
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    subprocess.run(["cp", "-r", wheel, f"{wheel}.libs", closed], check=True)
    binaries = find_binaries(closed / wheel.name / "pginstall18")
    servers = [EmbeddedServer(folder / str(n), binaries=binaries) for n in range(3)]
    with ThreadPoolExecutor(len(servers)) as threads:  # all at once, as the demo does: one copy is made, whole
        list(threads.map(EmbeddedServer.start, servers))
    for server in servers:
        assert tmp_path not in server.binaries.folder.parents
        assert server.run_sql("select 1") == [(1,)]
        said = subprocess.run(
            [server.binaries / "psql", "-XAtc", "select 2", server.dsn()], capture_output=True, text=True
        )
        assert (said.stdout, said.stderr) == ("2\n", "")
        server.remove()
    subprocess.run(["rm", "-r", server.binaries.folder.parents[2]], check=True)


def test_a_data_folder_of_another_version(folder: Path) -> None:
    require(POSTGRES_15.exists(), "PostgreSQL 15")
    with EmbeddedServer(folder / "s", binaries=find_binaries(POSTGRES_15)):
        pass
    with pytest.raises(DomicileError, match=r"made by PostgreSQL 15, and .* is 18") as error:
        EmbeddedServer(folder / "s").start()
    assert error.value.hint is not None
    assert "--fresh" in error.value.hint


def test_a_taken_port_is_named(folder: Path) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        server = EmbeddedServer(folder / "s", port=port)
        with pytest.raises(PortTaken, match=str(port)):
            server.start()
    server.start()
    assert server.port == port
    server.stop()


def test_no_disk_space(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embedded, "FREE_BYTES_MIN", 1 << 60)
    with pytest.raises(DomicileError, match="no disk space") as error:
        EmbeddedServer(folder / "s").start()
    assert error.value.sqlstate == "53100"


def test_a_full_disk_in_the_middle(folder: Path) -> None:
    small = folder / "small"
    small.mkdir(mode=0o711)
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=20m,mode=711", "tmpfs", small], capture_output=True)
    require(mounted.returncode == 0, "the right to mount a small file system")
    try:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(embedded, "FREE_BYTES_MIN", 0)
            with pytest.raises(DomicileError, match="no disk space") as error:
                EmbeddedServer(small / "s").start()
            assert error.value.sqlstate == "53100"
        assert not (small / "s" / "data").exists()
    finally:
        subprocess.run(["umount", small], check=True)


def test_a_folder_without_postgres_is_named(tmp_path: Path) -> None:
    with pytest.raises(DomicileError, match=str(tmp_path)):
        find_binaries(tmp_path)


def test_an_old_postgres_is_refused(tmp_path: Path) -> None:
    old = tmp_path / "postgres"
    old.write_text("#!/bin/sh\necho 'postgres (PostgreSQL) 14.9'\n")
    old.chmod(0o755)
    with pytest.raises(DomicileError, match="15 or later"):
        find_binaries(tmp_path)


def test_two_programs_on_one_folder(tmp_path: Path) -> None:
    first = FolderLock(tmp_path, "demo")
    with pytest.raises(DomicileError, match=rf"another demo \(process {os.getpid()}\) is using the folder"):
        FolderLock(tmp_path, "demo")
    first.release()
    FolderLock(tmp_path, "demo").release()


def test_a_stale_postmaster_file_of_another_process(folder: Path) -> None:
    server = EmbeddedServer(folder / "s")
    with server:
        lines = (server.data_dir / "postmaster.pid").read_text().splitlines()
    # As after a crash, the number given to a process that is no PostgreSQL: this test's.
    (server.data_dir / "postmaster.pid").write_text("\n".join([str(os.getpid()), *lines[1:]]) + "\n")
    with server:
        assert server.run_sql("select 1") == [(1,)]


_PARENT = """
import sys, time
from pathlib import Path
from domicile.embedded import EmbeddedServer
server = EmbeddedServer(Path(sys.argv[1]))
server.start()
print(server.pid, flush=True)
time.sleep(60)
"""


def _parent(folder: Path) -> tuple[subprocess.Popen[str], int]:
    parent = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(_PARENT), str(folder)],
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[1],
    )
    assert parent.stdout is not None
    return parent, int(parent.stdout.readline())


def _is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_a_killed_parent_leaves_no_server_behind(folder: Path) -> None:
    require(sys.platform == "linux", "Linux, whose kernel tells a child that its parent died")
    parent, pid = _parent(folder / "s")
    parent.kill()
    parent.communicate()
    deadline = time.monotonic() + 10
    while _is_alive(pid) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not _is_alive(pid)


def test_a_server_that_an_earlier_run_left_is_ended(folder: Path) -> None:
    require(sys.platform == "linux", "/proc")
    parent, pid = _parent(folder / "s")
    os.kill(pid, signal.SIGSTOP)  # it can't obey the kernel's signal yet
    parent.kill()
    parent.communicate()
    assert _is_alive(pid)
    os.kill(pid, signal.SIGCONT)
    with EmbeddedServer(folder / "s") as server:
        assert server.pid != pid
        assert not _is_alive(pid)


def test_make_database_takes_away_databases_slots_and_roles(
    server18: EmbeddedServer, make_database: MakeDatabase
) -> None:
    database = make_database(server18)
    database.run_sql("create role someone login password 'someone'; create table t(); grant all on t to someone")
    database.run_sql("select pg_create_logical_replication_slot('slot', 'pgoutput')")
    database.run_sql("begin; insert into t default values; prepare transaction 'left'")
    with database.connect("someone") as connection:
        assert connection.execute("select current_user").fetchone() == ("someone",)


def test_nothing_of_the_test_before_is_left(server18: EmbeddedServer) -> None:
    assert server18.run_sql("select datname from pg_database where datname like 'test%'") == []
    assert server18.run_sql("select rolname from pg_roles where rolname = 'someone'") == []
    assert server18.run_sql("select slot_name from pg_replication_slots") == []


def test_the_three_servers_are_three(three_servers: Mapping[str, EmbeddedServer]) -> None:
    identifiers = {
        name: server.run_sql("select system_identifier from pg_control_system()")
        for name, server in three_servers.items()
    }
    assert list(identifiers) == ["us", "eu", "ap"]
    assert len({str(i) for i in identifiers.values()}) == 3
