"""Distance for one machine: a TCP relay that delays, slows, silences and cuts what passes between regions.

`python -m domicile.relay config.json` runs it as a process of its own; `RelayProcess` does that for the
demo and the tests and speaks to its control socket. The configuration, with every field:

    {"seed": 1, "control": "/tmp/short/control", "links": [
        {"name": "us>eu", "listen": "127.0.0.1:0", "target": "127.0.0.1:7433",
         "round_trip_ms": 80, "jitter_ms": 0, "bandwidth_mbit": null}]}

What a link does to a connection, in each direction:
- Bytes arrive in order, half a round trip after they were sent, plus what jitter draws (uniform, from the
seed, the link's name and the direction), behind what the link's bandwidth is still busy with. - Opening
costs a round trip, as TCP's handshake does: the client is accepted at once, for a local socket can't be
kept waiting, and its first bytes are held back by as much. - At most BUFFER_BYTES_MAX are under way for
each direction of a connection; then the sender is not read any more.

Faults: `cut` resets the connections and refuses new ones; `silence` holds the bytes of one direction or
both and tells nobody (a half-open link, to those who wait); `half_open` takes away the target's ends while
the clients' ends learn nothing; `heal` lets bytes go on, and resets what lost its other end.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import gc
import heapq
import json
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections import deque
from collections.abc import Callable, Coroutine, Iterable, Mapping
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self, cast

import uvloop

from domicile.catalog.errors import DomicileError

from . import processes

BUFFER_BYTES_MAX = 16 << 20  #: 150 ms at 800 Mbit/s
BACKLOG_MAX = 1024
CONTROL_LINE_BYTES_MAX = 64 << 10
UNIX_PATH_BYTES_MAX = 107  #: sockaddr_un
START_PATIENCE_S = 10.0

Way = Literal["there", "back"]  #: from the one who connected to the target, and back
WAYS: tuple[Way, Way] = ("there", "back")

CONFIG_ERROR = "F0000"


# --- configuration


@dataclass(frozen=True, slots=True)
class Link:
    """One way to reach one target, with its own distance."""

    name: str
    target: tuple[str, int]
    round_trip_ms: float = 0.0
    listen: tuple[str, int] = ("127.0.0.1", 0)  #: port 0 picks a free one; `RelayProcess.port` says which
    jitter_ms: float = 0.0  #: at most so much is added to each direction
    bandwidth_mbit: float | None = None  #: of each direction, shared by the link's connections; None has no limit


@dataclass(frozen=True, slots=True)
class Config:
    links: tuple[Link, ...]
    control: str  #: path of a Unix socket
    seed: int = 1

    def dump(self) -> str:
        """The JSON document that `parse` reads."""
        links = [
            {
                "name": link.name,
                "listen": "{}:{}".format(*link.listen),
                "target": "{}:{}".format(*link.target),
                "round_trip_ms": link.round_trip_ms,
                "jitter_ms": link.jitter_ms,
                "bandwidth_mbit": link.bandwidth_mbit,
            }
            for link in self.links
        ]
        return json.dumps({"seed": self.seed, "control": self.control, "links": links}, indent=1)


def parse(document: str) -> Config:
    """The configuration that the JSON document holds. Raises DomicileError that lists every mistake in it."""
    mistakes: list[str] = []
    try:
        d: Any = json.loads(document)
    except ValueError as e:
        raise DomicileError(CONFIG_ERROR, f"the relay's configuration is no JSON: {e}") from e
    if not isinstance(d, dict):
        raise DomicileError(CONFIG_ERROR, "the relay's configuration is no JSON object")
    known = {"seed", "control", "links"}
    mistakes += [f"{unknown!r} is not known; seed, control and links are" for unknown in d.keys() - known]
    control = d.get("control")
    if not isinstance(control, str) or len(control.encode()) > UNIX_PATH_BYTES_MAX:
        mistakes.append(f"control must be a path of at most {UNIX_PATH_BYTES_MAX} bytes")
    links = [_parse_link(n, link, mistakes) for n, link in enumerate(d.get("links") or [])]
    names = [link.name for link in links if link]
    mistakes += [f"two links are named {name!r}" for name in sorted({n for n in names if names.count(n) > 1})]
    if not links:
        mistakes.append("links is empty")
    seed = d.get("seed", 1)
    if not isinstance(seed, int):
        mistakes.append("seed must be a whole number")
    if mistakes:
        raise DomicileError(CONFIG_ERROR, "the relay's configuration is wrong", detail="\n".join(mistakes))
    return Config(tuple(link for link in links if link), str(control), int(seed))


def _parse_link(number: int, d: object, mistakes: list[str]) -> Link | None:
    if not isinstance(d, dict) or not isinstance(d.get("name"), str):
        mistakes.append(f"link {number}: an object with a name is wanted")
        return None
    name = d["name"]
    before = len(mistakes)
    known = {"name", "listen", "target", "round_trip_ms", "jitter_ms", "bandwidth_mbit"}
    mistakes += [f"link {name}: {unknown!r} is not known" for unknown in sorted(d.keys() - known)]

    def address(key: str, default: str | None) -> tuple[str, int]:
        text = d.get(key, default)
        host, _, port = text.rpartition(":") if isinstance(text, str) else ("", "", "")
        if not host or not port.isdigit() or int(port) > 65535:
            mistakes.append(f"link {name}: {key} must be host:port")
            return ("", 0)
        return (host, int(port))

    def number_of(key: str, default: float | None, *, positive: bool = False) -> float | None:
        value = d.get(key, default)
        if value is None and default is None:
            return None
        if not isinstance(value, int | float) or value < 0 or (positive and value == 0):
            mistakes.append(f"link {name}: {key} must be a number {'above' if positive else 'not below'} 0")
            return 0.0
        return float(value)

    link = Link(
        name,
        address("target", None),
        number_of("round_trip_ms", 0.0) or 0.0,
        address("listen", "127.0.0.1:0"),
        number_of("jitter_ms", 0.0) or 0.0,
        number_of("bandwidth_mbit", None, positive=True),
    )
    return link if len(mistakes) == before else None


# --- the clock


class Clock:
    """Calls back at a time of `time.monotonic`, to a tenth of a millisecond.

    The loop's own timers count whole milliseconds, and a round trip passes two of them; Linux's timerfd
    counts nanoseconds. Elsewhere the loop's timers must do.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._waiting: list[tuple[float, int, Callable[[], None]]] = []
        self._sequence = 0  # of equal times the first asked comes first, and callbacks are never compared
        self._armed_for = float("inf")
        self._fd: int | None = None
        self._libc: Any = None
        if sys.platform == "linux":
            self._libc = ctypes.CDLL(None, use_errno=True)
            # CLOCK_MONOTONIC is 1; TFD_NONBLOCK | TFD_CLOEXEC are O_NONBLOCK | O_CLOEXEC.
            fd = self._libc.timerfd_create(1, os.O_NONBLOCK | os.O_CLOEXEC)
            if fd < 0:
                raise OSError(ctypes.get_errno(), "timerfd_create")
            self._fd = fd
            loop.add_reader(fd, self._tick)

    def at(self, due: float, callback: Callable[[], None]) -> None:
        self._sequence += 1
        heapq.heappush(self._waiting, (due, self._sequence, callback))
        if due < self._armed_for:
            self._arm(due)

    def _arm(self, due: float) -> None:
        self._armed_for = due
        if self._fd is None:
            self._loop.call_later(max(0.0, due - time.monotonic()), self._tick)
            return
        seconds, fraction = divmod(due, 1.0)
        # struct itimerspec: interval, then the time itself; 1 is TFD_TIMER_ABSTIME, all zero would disarm.
        spec = (ctypes.c_long * 4)(0, 0, int(seconds), max(1, int(fraction * 1e9)))
        if self._libc.timerfd_settime(self._fd, 1, spec, None) != 0:
            raise OSError(ctypes.get_errno(), "timerfd_settime")

    def _tick(self) -> None:
        if self._fd is not None:
            with contextlib.suppress(BlockingIOError):
                os.read(self._fd, 8)
        self._armed_for = float("inf")
        waiting = self._waiting
        while waiting and waiting[0][0] <= time.monotonic():
            heapq.heappop(waiting)[2]()
        if waiting and waiting[0][0] < self._armed_for:
            self._arm(waiting[0][0])

    def close(self) -> None:
        if self._fd is not None:
            self._loop.remove_reader(self._fd)
            os.close(self._fd)
            self._fd = None


# --- a connection


class Mark(Enum):
    EOF = "eof"  #: the sender will send no more
    CLOSED = "closed"  #: the sender's socket is gone
    RESET = "reset"  #: and was not closed in order


class Stream:
    """One direction of one connection: what is under way, and when it is due."""

    def __init__(self, connection: Connection, way: Way, earliest: float) -> None:
        self._connection = connection
        self._route = connection.route
        self._way = way
        self._earliest = earliest  # nothing is delivered before this, and it grows: what was sent in order arrives so
        self._queue: deque[tuple[float, bytes | Mark]] = deque()
        self._queued = 0
        self._timed = False
        self._blocked = False
        self.ended = False  #: the sink has been told that no more will come
        self.source: asyncio.Transport | None = None
        self.sink: asyncio.Transport | None = None

    def push(self, item: bytes | Mark) -> None:
        size = len(item) if isinstance(item, bytes) else 0
        self._earliest = due = max(self._earliest, self._route.arrival(self._way, size))
        self._queue.append((due, item))
        self._queued += size
        if self._queued > BUFFER_BYTES_MAX and self.source and not self.source.is_closing():
            self.source.pause_reading()
        self.deliver()

    def deliver(self) -> None:
        """Writes what is due, and sees to it that the rest is written when it is."""
        queue = self._queue
        if self.sink is None or self._blocked or self._route.is_silent(self._way):
            return
        while queue and queue[0][0] <= time.monotonic() and not self._blocked:
            _, item = queue.popleft()
            self._write(self.sink, item)
        if queue and not self._blocked and not self._timed:
            self._timed = True
            self._route.clock.at(queue[0][0], self._due)

    def _due(self) -> None:
        self._timed = False
        self.deliver()

    def _write(self, sink: asyncio.Transport, item: bytes | Mark) -> None:
        if sink.is_closing():
            self._queue.clear()
            self._queued = 0
            return
        if isinstance(item, bytes):
            sink.write(item)
            self._queued -= len(item)
            if self._queued <= BUFFER_BYTES_MAX // 2 and self.source and not self.source.is_closing():
                self.source.resume_reading()
        elif item is Mark.EOF:
            self.ended = True
            sink.write_eof()
            self._connection.ended()
        elif item is Mark.CLOSED:
            sink.close()
        else:
            sink.abort()

    def block(self, blocked: bool) -> None:
        """The sink's own buffer is full, or has room again."""
        self._blocked = blocked
        if not blocked:
            self.deliver()

    def delay_again(self) -> None:
        """Gives what was held in silence its way to travel from now on, in the order in which it was sent."""
        now = self._route.arrival(self._way, 0)
        self._queue = deque((max(due, now), item) for due, item in self._queue)
        self._earliest = max(self._earliest, now)
        self.deliver()


class End(asyncio.Protocol):
    """One socket of a connection: what it receives goes into `out`, what is written to it comes from
    `into`.
    """

    def __init__(self, connection: Connection, out: Stream, into: Stream) -> None:
        self.connection = connection
        self.out = out
        self.into = into
        self.transport: asyncio.Transport | None = None
        self.gone = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports are no instances of asyncio's classes.
        self.transport = self.out.source = self.into.sink = cast(asyncio.Transport, transport)
        self.connection.made(self)

    def data_received(self, data: bytes) -> None:
        self.out.push(data)

    def eof_received(self) -> bool:
        self.out.push(Mark.EOF)
        return True  # the other direction goes on

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.connection.forgotten:
            self.out.push(Mark.RESET if exc else Mark.CLOSED)
        self.connection.lost(self)

    def pause_writing(self) -> None:
        self.into.block(True)

    def resume_writing(self) -> None:
        self.into.block(False)


class Connection:
    """A client's socket, the target's, and the two streams between them."""

    def __init__(self, route: Route) -> None:
        now = time.monotonic()
        round_trip = route.round_trip_s
        self.route = route
        self.there = Stream(self, "there", now + 1.5 * round_trip)
        self.back = Stream(self, "back", now + round_trip)
        self.client = End(self, self.there, self.back)
        self.target = End(self, self.back, self.there)
        self.opening = False  #: the target has been asked, or will be after half a round trip
        self.forgotten = False  #: reset by a fault: the ends tell each other nothing any more

    def made(self, end: End) -> None:
        if end is self.client:
            self.route.connections.add(self)
            if self.route.state is State.CUT:
                self.reset()
            elif not self.route.is_silent("there"):
                self.open()
        else:
            self.there.deliver()

    def ended(self) -> None:
        """Both have said that they send no more, and both have heard it: nothing else closes the sockets."""
        if self.there.ended and self.back.ended:
            for end in (self.client, self.target):
                if end.transport:
                    end.transport.close()

    def lost(self, end: End) -> None:
        end.gone = True
        if self.client.gone and (self.target.gone or self.forgotten):
            self.route.connections.discard(self)

    def open(self) -> None:
        """Sends the request to open on its way; held back in silence, as everything else."""
        self.opening = True
        due = time.monotonic() + self.route.round_trip_s / 2
        self.route.clock.at(due, lambda: self.route.run(self._connect()))

    async def _connect(self) -> None:
        if self.forgotten:
            return
        loop = asyncio.get_running_loop()
        try:
            await loop.create_connection(lambda: self.target, *self.route.link.target)
        except OSError:
            self.target.gone = True
            self.back.push(Mark.RESET)  # the refusal travels back as everything else

    def reset(self) -> None:
        self.forgotten = True
        for end in (self.client, self.target):
            if end.transport:
                end.transport.abort()

    def lose_target(self) -> None:
        """The target's end vanishes, and the client's learns nothing of it."""
        self.forgotten = True
        if self.target.transport:
            self.target.transport.abort()


# --- a link


class State(Enum):
    UP = "up"
    CUT = "cut"
    SILENT = "silent"
    HALF_OPEN = "half_open"


class Route:
    """A link at work: its listener, its connections, its faults."""

    def __init__(self, link: Link, clock: Clock, seed: int) -> None:
        self.link = link
        self.clock = clock
        self.state = State.UP
        self.silent: set[Way] = set()
        self.connections: set[Connection] = set()
        self.opened = 0
        self.bytes: dict[Way, int] = dict.fromkeys(WAYS, 0)
        self.server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._random = {way: random.Random(f"{seed}/{link.name}/{way}") for way in WAYS}
        self._busy_until: dict[Way, float] = dict.fromkeys(WAYS, 0.0)
        self.measure(link.round_trip_ms, link.jitter_ms, link.bandwidth_mbit)

    def measure(self, round_trip_ms: float, jitter_ms: float, bandwidth_mbit: float | None) -> None:
        self.round_trip_s = round_trip_ms / 1e3
        self._jitter_s = jitter_ms / 1e3
        self._s_per_byte = 8 / (bandwidth_mbit * 1e6) if bandwidth_mbit else 0.0

    async def listen(self) -> None:
        loop = asyncio.get_running_loop()
        try:
            self.server = await loop.create_server(self._accept, *self.link.listen, backlog=BACKLOG_MAX)
        except OSError as e:
            host, port = self.link.listen
            raise DomicileError(
                "55006", f"link {self.link.name}: {host}:{port} can't be listened on: {e.strerror}"
            ) from e

    def _accept(self) -> End:
        self.opened += 1
        return Connection(self).client

    def run(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    @property
    def port(self) -> int:
        assert self.server is not None
        return int(self.server.sockets[0].getsockname()[1])

    def arrival(self, way: Way, size: int) -> float:
        """When bytes that are sent now arrive."""
        sent = time.monotonic()
        if self._s_per_byte:
            sent = max(sent, self._busy_until[way]) + size * self._s_per_byte
            self._busy_until[way] = sent
        self.bytes[way] += size
        jitter = self._random[way].random() * self._jitter_s if self._jitter_s else 0.0
        return sent + self.round_trip_s / 2 + jitter

    def is_silent(self, way: Way) -> bool:
        return way in self.silent

    # --- faults

    def cut(self) -> None:
        self.state = State.CUT
        self.reset()

    def reset(self) -> None:
        for connection in list(self.connections):
            connection.reset()

    def silence(self, ways: Iterable[Way]) -> None:
        self.state = State.SILENT
        self.silent = set(ways)

    def half_open(self) -> None:
        self.state = State.HALF_OPEN
        self.silent = set(WAYS)
        for connection in list(self.connections):
            connection.lose_target()

    def heal(self) -> None:
        held, self.silent, self.state = self.silent, set(), State.UP
        for connection in list(self.connections):
            if connection.forgotten:
                connection.reset()
                continue
            if not connection.opening:
                connection.open()
            for way, stream in (("there", connection.there), ("back", connection.back)):
                if way in held:
                    stream.delay_again()

    def status(self) -> dict[str, Any]:
        return {
            "link": self.link.name,
            "port": self.port,
            "state": self.state.value,
            "round_trip_ms": self.round_trip_s * 1e3,
            "connections": len(self.connections),
            "opened": self.opened,
            "bytes": dict(self.bytes),
        }


# --- the process


class Relay:
    """All links of one configuration, on the running loop."""

    def __init__(self, config: Config) -> None:
        self.config = config
        self.clock = Clock(asyncio.get_running_loop())
        self.routes = {link.name: Route(link, self.clock, config.seed) for link in config.links}
        self._control: asyncio.Server | None = None

    async def start(self) -> None:
        for route in self.routes.values():
            await route.listen()
        # Last, so that who reaches the control socket can count on the links.
        self._control = await asyncio.start_unix_server(
            self._serve_control, self.config.control, limit=CONTROL_LINE_BYTES_MAX
        )
        os.chmod(self.config.control, 0o600)

    async def _serve_control(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, ValueError):  # ValueError: a line past the limit
            while line := await reader.readline():
                writer.write(json.dumps(self.command(line)).encode() + b"\n")
                await writer.drain()
        writer.close()

    def command(self, line: bytes) -> dict[str, Any]:
        """The answer to one command, `{"do": …, "link": …}`; a link of none means all of them."""
        try:
            d: Mapping[str, Any] = json.loads(line)
            routes = [self.routes[d["link"]]] if d.get("link") else list(self.routes.values())
            match d["do"]:
                case "status":
                    pass
                case "cut" | "reset" | "half_open" | "heal" as fault:
                    for route in routes:
                        getattr(route, fault)()
                case "silence":
                    for route in routes:
                        route.silence(d.get("ways") or WAYS)
                case "measure":
                    for route in routes:
                        route.measure(d["round_trip_ms"], d.get("jitter_ms", 0.0), d.get("bandwidth_mbit"))
                case unknown:
                    return {"error": f"{unknown!r} is no command"}
        except KeyError as e:
            return {"error": f"{e} is not known or missing"}
        except (ValueError, TypeError, AttributeError) as e:
            return {"error": str(e)}
        return {"links": [route.status() for route in routes]}

    async def stop(self) -> None:
        if self._control:
            self._control.close()
        for route in self.routes.values():
            if route.server:
                route.server.close()
            route.reset()
        self.clock.close()
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self.config.control)


async def serve(config: Config) -> None:
    """Runs the relay until SIGTERM or SIGINT."""
    stopped = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopped.set)
    relay = Relay(config)
    await relay.start()
    # What stands now stands to the end; the collector need not look at it again and make bytes late.
    gc.freeze()
    await stopped.wait()
    await relay.stop()


class RelayProcess:
    """A relay that runs as a process of its own, and the way to talk to it. Ends with this process."""

    def __init__(self, links: Iterable[Link], *, log: Path, seed: int = 1) -> None:
        # A Unix socket's path is short, the data folder's may be long.
        self._folder = Path(tempfile.mkdtemp(prefix="domicile-relay-"))
        self._config = Config(tuple(links), str(self._folder / "control"), seed)
        self._log = log
        self._process: subprocess.Popen[bytes] | None = None
        self._ports: dict[str, int] = {}

    def start(self) -> None:
        """Returns when all links listen. Raises DomicileError with what the relay said when it can't."""
        path = self._folder / "config.json"
        path.write_text(self._config.dump())
        self._process = processes.spawn([sys.executable, "-m", "domicile.relay", path], log=self._log)
        deadline = time.monotonic() + START_PATIENCE_S
        while True:
            if self._process.poll() is not None or time.monotonic() > deadline:
                self.stop()
                said = self._log.read_text(errors="replace").splitlines()[-3:]
                raise DomicileError("58030", "the relay did not start", detail="\n".join(said))
            with contextlib.suppress(FileNotFoundError, ConnectionRefusedError):
                self._ports = {link["link"]: link["port"] for link in self.status()}
                return
            time.sleep(0.01)

    def port(self, link: str) -> int:
        """The port at which that link is entered."""
        return self._ports[link]

    def stop(self) -> None:
        if self._process:
            processes.stop(self._process)
            self._process = None
        shutil.rmtree(self._folder, ignore_errors=True)

    def status(self, link: str | None = None) -> list[dict[str, Any]]:
        """Of each link: link, port, state, round_trip_ms, connections, opened, bytes {there, back}."""
        return self._do("status", link)

    def cut(self, link: str | None = None) -> None:
        """Resets the link's connections and refuses new ones."""
        self._do("cut", link)

    def reset(self, link: str | None = None) -> None:
        """Resets the link's connections; new ones are welcome."""
        self._do("reset", link)

    def silence(self, link: str | None = None, ways: Iterable[Way] = WAYS) -> None:
        """Holds back what is sent in those directions, until `heal`; nobody is told."""
        self._do("silence", link, ways=list(ways))

    def half_open(self, link: str | None = None) -> None:
        """Takes away the target's ends; the clients' stay open and hear nothing until `heal` resets them."""
        self._do("half_open", link)

    def heal(self, link: str | None = None) -> None:
        self._do("heal", link)

    def measure(
        self,
        link: str | None = None,
        *,
        round_trip_ms: float,
        jitter_ms: float = 0.0,
        bandwidth_mbit: float | None = None,
    ) -> None:
        """Changes the link's distance for what is sent from now on."""
        self._do("measure", link, round_trip_ms=round_trip_ms, jitter_ms=jitter_ms, bandwidth_mbit=bandwidth_mbit)

    def _do(self, command: str, link: str | None, **more: object) -> list[dict[str, Any]]:
        with socket.socket(socket.AF_UNIX) as s:
            s.settimeout(START_PATIENCE_S)
            s.connect(self._config.control)
            s.sendall(json.dumps({"do": command, "link": link, **more}).encode() + b"\n")
            answer = json.loads(s.makefile("rb").readline())
        if "error" in answer:
            raise ValueError(answer["error"])
        links: list[dict[str, Any]] = answer["links"]
        return links

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()


def main(arguments: list[str]) -> int:
    if len(arguments) != 1:
        print("usage: python -m domicile.relay config.json", file=sys.stderr)
        return 2
    try:
        uvloop.run(serve(parse(Path(arguments[0]).read_text())))
    except (DomicileError, OSError) as e:
        print(f"domicile.relay: {e}", *filter(None, [getattr(e, "detail", None)]), sep="\n", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
