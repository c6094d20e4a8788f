"""The delaying relay, with real sockets: order, distance, back-pressure, and every fault."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import os
import random
import socket
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest

from domicile import relay
from domicile.catalog.errors import DomicileError
from domicile.relay import Config, Link, Relay, RelayProcess, parse

Address = tuple[str, int]


@pytest.fixture
async def echo() -> AsyncIterator[Address]:
    """A server that sends back what it gets, to the end."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while chunk := await reader.read(65536):
                writer.write(chunk)
                await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    yield server.sockets[0].getsockname()
    server.close()


@pytest.fixture
async def make_relay(tmp_path: Path) -> AsyncIterator[Callable[..., Relay]]:
    relays: list[Relay] = []

    async def make(target: Address, **link: float) -> Relay:
        os.chdir(tmp_path)  # a short path for the control socket
        made = Relay(Config((Link("us>eu", target, **link),), f"control{len(relays)}"))
        await made.start()
        relays.append(made)
        return made

    before = os.getcwd()
    yield make
    for each in relays:
        await each.stop()
    os.chdir(before)


async def connect(relay: Relay) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    return await asyncio.open_connection("127.0.0.1", relay.routes["us>eu"].port)


async def ask(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, word: bytes = b"ping") -> bytes:
    writer.write(word)
    return await reader.readexactly(len(word))


async def test_a_round_trip_takes_its_time_and_opening_one_more(echo: Address, make_relay) -> None:
    relay = await make_relay(echo, round_trip_ms=40)
    begin = time.monotonic()
    reader, writer = await connect(relay)
    await ask(reader, writer)
    opened = time.monotonic()
    await ask(reader, writer)
    again = time.monotonic()
    writer.close()
    # Lower bounds only: a busy machine makes anything late, nothing makes it early.
    assert opened - begin >= 0.080
    assert again - opened >= 0.040


@pytest.mark.parametrize("jitter_ms", [0, 5])
async def test_bytes_arrive_whole_and_in_order(echo: Address, make_relay, jitter_ms: int) -> None:
    relay = await make_relay(echo, round_trip_ms=4, jitter_ms=jitter_ms)
    reader, writer = await connect(relay)
    sent = random.Random(1).randbytes(3_000_000)

    async def send() -> None:
        at = 0
        sizes = random.Random(2)
        while at < len(sent):
            size = sizes.randint(1, 40_000)
            writer.write(sent[at : at + size])
            await writer.drain()
            at += size
        writer.write_eof()

    task = asyncio.create_task(send())
    got = await reader.read(-1)
    await task
    writer.close()
    assert hashlib.sha256(got).digest() == hashlib.sha256(sent).digest()
    assert relay.routes["us>eu"].bytes == {"there": len(sent), "back": len(sent)}


async def test_jitter_is_repeatable(make_relay) -> None:
    def draws(seed: int) -> list[float]:
        route = relay.Route(Link("us>eu", ("h", 1), jitter_ms=9), None, seed)  # type: ignore[arg-type]
        return [route._random["there"].random() for _ in range(5)]

    assert draws(7) == draws(7) != draws(8)


async def test_bandwidth_is_shared_by_a_links_connections(echo: Address, make_relay) -> None:
    relay = await make_relay(echo, bandwidth_mbit=8)  # a byte a microsecond
    connections = [await connect(relay) for _ in range(2)]
    begin = time.monotonic()
    await asyncio.gather(*(ask(*c, b"x" * 50_000) for c in connections))
    assert time.monotonic() - begin >= 0.100
    for _, writer in connections:
        writer.close()


async def test_a_receiver_that_does_not_read_stops_the_sender(make_relay, monkeypatch) -> None:
    monkeypatch.setattr(relay, "BUFFER_BYTES_MAX", 1 << 20)
    release, done = asyncio.Event(), asyncio.Event()
    got = 0

    async def sleep_then_read(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal got
        writer.transport.pause_reading()  # type: ignore[attr-defined]
        await release.wait()
        writer.transport.resume_reading()  # type: ignore[attr-defined]
        while chunk := await reader.read(1 << 20):
            got += len(chunk)
        done.set()
        writer.close()

    server = await asyncio.start_server(sleep_then_read, "127.0.0.1", 0)
    made = await make_relay(server.sockets[0].getsockname(), round_trip_ms=1)
    _, writer = await connect(made)
    size = 64 << 20
    writer.write(bytes(size))
    writer.write_eof()
    stream = None
    held = -1
    # Until nothing moves any more: the kernels' buffers and the relay's bound are full.
    while held != made.routes["us>eu"].bytes["there"]:
        held = made.routes["us>eu"].bytes["there"]
        await asyncio.sleep(0.2)
    (connection,) = made.routes["us>eu"].connections
    stream = connection.there
    assert held < size
    assert stream._queued <= (1 << 20) + (1 << 18)  # one read past the bound
    release.set()
    await asyncio.wait_for(done.wait(), 60)
    assert got == size
    writer.close()
    server.close()


async def test_a_target_that_is_not_there(make_relay) -> None:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        made = await make_relay(s.getsockname(), round_trip_ms=2)
        reader, writer = await connect(made)
        with contextlib.suppress(ConnectionResetError):
            assert await reader.read(1) == b""
        writer.close()


async def test_a_client_that_leaves_takes_the_target_end_with_it(make_relay) -> None:
    gone = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            await reader.read(-1)
        gone.set()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    made = await make_relay(server.sockets[0].getsockname(), round_trip_ms=2)
    _, writer = await connect(made)
    writer.write(b"hello")
    writer.close()
    await asyncio.wait_for(gone.wait(), 10)
    for _ in range(1000):
        if not made.routes["us>eu"].connections:
            break
        await asyncio.sleep(0.01)
    assert not made.routes["us>eu"].connections
    server.close()


async def test_a_cut_resets_and_refuses_and_heals(echo: Address, make_relay) -> None:
    made = await make_relay(echo, round_trip_ms=2)
    reader, writer = await connect(made)
    assert await ask(reader, writer) == b"ping"
    made.routes["us>eu"].cut()
    with pytest.raises((ConnectionResetError, asyncio.IncompleteReadError)):
        await ask(reader, writer)
    writer.close()
    reader, writer = await connect(made)
    with pytest.raises((OSError, asyncio.IncompleteReadError)):
        await ask(reader, writer)
    writer.close()
    made.routes["us>eu"].heal()
    reader, writer = await connect(made)
    assert await ask(reader, writer) == b"ping"
    writer.close()


@pytest.mark.parametrize("ways", [("there",), ("back",), ("there", "back")])
async def test_silence_tells_nobody_and_loses_nothing(echo: Address, make_relay, ways) -> None:
    made = await make_relay(echo, round_trip_ms=2)
    reader, writer = await connect(made)
    assert await ask(reader, writer) == b"ping"
    made.routes["us>eu"].silence(ways)
    writer.write(b"one two")
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(reader.read(1), 0.1)
    newcomer = await connect(made)
    newcomer[1].write(b"new")
    made.routes["us>eu"].heal()
    assert await reader.readexactly(7) == b"one two"
    assert await newcomer[0].readexactly(3) == b"new"
    writer.close()
    newcomer[1].close()


async def test_half_open_leaves_the_client_in_the_dark(make_relay) -> None:
    target_lost = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            writer.write(await reader.readexactly(4))
            await reader.read(1)
        target_lost.set()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    made = await make_relay(server.sockets[0].getsockname(), round_trip_ms=2)
    reader, writer = await connect(made)
    assert await ask(reader, writer) == b"ping"
    made.routes["us>eu"].half_open()
    await asyncio.wait_for(target_lost.wait(), 10)
    writer.write(b"still there?")
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(reader.read(1), 0.1)
    made.routes["us>eu"].heal()
    with contextlib.suppress(ConnectionResetError):
        assert await reader.read(1) == b""
    writer.close()
    reader, writer = await connect(made)
    assert await ask(reader, writer) == b"ping"
    writer.close()
    server.close()


# --- the process and its configuration


@pytest.fixture
def process(tmp_path: Path) -> Iterator[tuple[RelayProcess, socket.socket]]:
    with socket.create_server(("127.0.0.1", 0)) as target:
        links = [Link("us>eu", target.getsockname(), 10), Link("us>ap", target.getsockname(), 10)]
        with RelayProcess(links, log=tmp_path / "relay.log") as running:
            yield running, target


def test_the_process_relays_and_obeys(process: tuple[RelayProcess, socket.socket]) -> None:
    running, target = process
    with socket.create_connection(("127.0.0.1", running.port("us>eu")), 10) as client:
        client.sendall(b"hello")
        far, _ = target.accept()
        with far:
            assert far.recv(5) == b"hello"
            running.cut("us>eu")
            assert [link["state"] for link in running.status()] == ["cut", "up"]
            with contextlib.suppress(ConnectionResetError):
                assert client.recv(1) == b""
    running.measure("us>ap", round_trip_ms=3, jitter_ms=1)
    assert running.status("us>ap")[0]["round_trip_ms"] == 3
    with pytest.raises(ValueError, match="nowhere"):
        running.heal("nowhere")
    running.heal()
    assert {link["state"] for link in running.status()} == {"up"}


def test_a_taken_port_is_named(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        links = [Link("us>eu", ("127.0.0.1", 1), listen=other.getsockname())]
        with pytest.raises(DomicileError) as error:
            RelayProcess(links, log=tmp_path / "relay.log").start()
        assert error.value.detail is not None
        assert f"link us>eu: 127.0.0.1:{other.getsockname()[1]} can't be listened on" in error.value.detail


def test_a_configuration_is_read_as_it_was_written() -> None:
    config = Config((Link("a", ("h", 1), 80.0, ("127.0.0.1", 5), 1.0, 100.0), Link("b", ("h", 2))), "/c", 9)
    assert parse(config.dump()) == config


def test_all_mistakes_of_a_configuration_are_told_at_once() -> None:
    document = {
        "control": "x" * 200,
        "colour": "blue",
        "links": [
            {"name": "a", "target": "nowhere", "round_trip_ms": -1},
            {"name": "b", "target": "h:1", "speed": 3},
            {"name": "c", "target": "h:1"},
            {"name": "c", "target": "h:1"},
            "d",
        ],
    }
    with pytest.raises(DomicileError) as error:
        parse(json.dumps(document))
    assert error.value.detail == (
        "'colour' is not known; seed, control and links are\n"
        "control must be a path of at most 107 bytes\n"
        "link a: target must be host:port\n"
        "link a: round_trip_ms must be a number not below 0\n"
        "link b: 'speed' is not known\n"
        "link 4: an object with a name is wanted\n"
        "two links are named 'c'"
    )
