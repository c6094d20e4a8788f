"""A connection between two agents: frames over TLS. Whoever listens or calls has checked the other's certificate."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable

from ..catalog.errors import CONNECTION_FAILURE, PROGRAM_LIMIT_EXCEEDED, DomicileError
from . import wire

READ_BYTES = 256 << 10
WRITE_BYTES_MAX = 1 << 20  #: waiting to be sent; a producer that drains waits above it
CLOSE_PATIENCE_S = 2.0

Observer = Callable[[bytes], None]
"""Is shown every byte that is about to be sent, before TLS: how a test proves what does not cross."""


class Link:
    def __init__(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, observer: Observer | None = None
    ) -> None:
        self._reader = reader
        self._writer = writer
        self._observer = observer
        self._unsent: list[bytes] = []
        self._unsent_bytes = 0
        self._loop = asyncio.get_running_loop()
        writer.transport.set_write_buffer_limits(high=WRITE_BYTES_MAX)

    async def frames(self) -> AsyncIterator[tuple[wire.Frame, int]]:
        """Each frame that arrives and about how many bytes it had, until the peer ends the connection."""
        decoder = wire.Decoder()
        while data := await self._reader.read(READ_BYTES):
            frames = list(decoder.feed(data))
            for frame in frames:
                yield frame, len(data) // len(frames) + 1
        raise DomicileError(CONNECTION_FAILURE, "the other agent ended the connection")

    def send(self, frame: wire.Frame) -> None:
        """Queues the frame. Raises DomicileError 54000 for one that is too long, which only a giant row makes."""
        try:
            data = wire.encode(frame)
        except ValueError as e:
            raise DomicileError(PROGRAM_LIMIT_EXCEEDED, f"a row is too long to be copied: {e}") from None
        if self._observer:
            self._observer(data)
        # All that is sent in one turn of the loop goes out at once: a TLS record and a system call cost more than
        # a small transaction.
        if not self._unsent:
            self._loop.call_soon(self._flush)
        self._unsent.append(data)
        self._unsent_bytes += len(data)

    def _flush(self) -> None:
        if self._unsent and not self._writer.is_closing():
            self._writer.write(b"".join(self._unsent))
        self._unsent = []
        self._unsent_bytes = 0

    async def drain(self) -> None:
        """Waits until less than WRITE_BYTES_MAX is waiting to be sent."""
        if self._unsent_bytes >= WRITE_BYTES_MAX // 4:
            self._flush()
        await self._writer.drain()

    async def close(self) -> None:
        """Sends what is waiting, within CLOSE_PATIENCE_S, and ends the connection."""
        self._flush()
        self._writer.close()
        with contextlib.suppress(OSError, TimeoutError):
            await asyncio.wait_for(self._writer.wait_closed(), CLOSE_PATIENCE_S)
        self._writer.transport.abort()
