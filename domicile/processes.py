"""Child processes that end with their parent, whatever ends the parent.

Every child leads a session of its own, so that a Ctrl-C in the terminal reaches the parent alone, which
then stops its children in order. Where the kernel can (Linux), a child is also told by a signal when the
parent is gone, SIGKILL included. As root a child can run as another user, whose right to enter the
interpreter's folder is not needed.
"""

from __future__ import annotations

import os
import pwd
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

# Runs as the parent's user, gives up its rights, asks for the signal (the kernel forgets the request when
# the user changes, so it comes last), looks whether the parent died meanwhile, and becomes the program.
_LAUNCHER = """
import ctypes, os, sys
parent, death, uid, gid = map(int, sys.argv[1:5])
if uid >= 0:
    os.setgroups([])
    os.setgid(gid)
    os.setuid(uid)
if sys.platform == 'linux':
    ctypes.CDLL(None).prctl(1, death, 0, 0, 0)
if os.getppid() != parent:
    os._exit(1)
os.execv(sys.argv[5], sys.argv[5:])
"""

# The kernel sends the signal when the *thread* that made the child ends, so one thread, which lives as long
# as the interpreter, makes them all.
_spawner = ThreadPoolExecutor(1, thread_name_prefix="spawner")

_spawned: list[subprocess.Popen[bytes]] = []  #: those that may be alive


def spawn(
    argv: Sequence[str | os.PathLike[str]],
    *,
    log: Path,
    user: pwd.struct_passwd | None = None,
    death_signal: signal.Signals = signal.SIGTERM,
    environment: Mapping[str, str] | None = None,
    cwd: Path | None = None,
) -> subprocess.Popen[bytes]:
    """The started program, its first word an absolute path; its standard output and errors are appended to
    `log`.

    `user` None keeps the parent's. `death_signal` is what the program gets when this process is gone (Linux).
    """
    identity = (user.pw_uid, user.pw_gid) if user else (-1, -1)
    launcher = [sys.executable, "-I", "-S", "-c", _LAUNCHER]
    command = [*launcher, str(os.getpid()), str(int(death_signal)), *map(str, identity)]
    command += [os.fspath(word) for word in argv]

    def start() -> subprocess.Popen[bytes]:
        # Logs quote statements, and statements hold values: for our eyes alone.
        with open(os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600), "ab") as output:
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                env=None if environment is None else dict(environment),
                cwd=cwd,
            )
        _spawned[:] = [p for p in _spawned if p.poll() is None]
        _spawned.append(process)
        return process

    return _spawner.submit(start).result()


def stop(process: subprocess.Popen[bytes], first: signal.Signals = signal.SIGTERM, patience_s: float = 5.0) -> int:
    """The exit status of the process, which gets `first`, and SIGKILL when it is still there after
    `patience_s`.
    """
    if process.poll() is None:
        process.send_signal(first)
        try:
            process.wait(patience_s)
        except subprocess.TimeoutExpired:
            process.kill()
    return process.wait()


def stop_all() -> None:
    """Ends what was started and is still there: also what a Ctrl-C kept its starter from taking note of."""
    left = _spawner.submit(lambda: [p for p in _spawned if p.poll() is None]).result()
    for process in left:
        process.send_signal(signal.SIGINT)
    for process in left:
        stop(process)
