"""Reads what regions say to each other: stands between them with the certificates of both, as nobody else could."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Coroutine
from dataclasses import dataclass, field
from typing import Any

from domicile.catalog.names import region_name
from domicile.certificates import RegionFiles, caller_context, guard_context, server_name

READ_BYTES = 1 << 16


@dataclass
class Recorder:
    """Each tap takes the calls of one region for another, and hands every byte on, in TLS on both sides."""

    files: dict[str, RegionFiles]
    left: dict[str, bytearray] = field(default_factory=dict)  #: by region: all that it said to others, in clear
    _loop: asyncio.AbstractEventLoop = field(default_factory=asyncio.new_event_loop)
    _tasks: set[asyncio.Task[None]] = field(default_factory=set)
    _servers: list[asyncio.Server] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.left = {region: bytearray() for region in self.files}
        self._thread = threading.Thread(target=self._loop.run_forever)
        self._thread.start()

    def _run(self, coroutine: Coroutine[Any, Any, int]) -> int:
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(30)

    def tap(self, here: str, there: str, port: int) -> int:
        """The port at which `here` finds what listens at `port` in `there`."""
        return self._run(self._listen(here, there, port))

    async def _listen(self, here: str, there: str, port: int) -> int:
        calling = caller_context(self.files[here])

        async def called(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            task = asyncio.current_task()
            assert task is not None
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
            try:
                onward = await asyncio.open_connection(
                    "127.0.0.1", port, ssl=calling, server_hostname=server_name(region_name(there))
                )
            except OSError:
                writer.close()
                return
            await asyncio.gather(
                self._pump(reader, onward[1], self.left[here]), self._pump(onward[0], writer, self.left[there])
            )

        server = await asyncio.start_server(called, "127.0.0.1", 0, ssl=guard_context(self.files[there]))
        self._servers.append(server)
        return int(server.sockets[0].getsockname()[1])

    async def _pump(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter, heard: bytearray) -> None:
        with contextlib.suppress(OSError):
            while data := await source.read(READ_BYTES):
                heard += data
                sink.write(data)
                await sink.drain()
        sink.close()

    def stop(self) -> None:
        self._run(self._stop())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    async def _stop(self) -> int:
        for server in self._servers:
            server.close()
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        return len(tasks)
