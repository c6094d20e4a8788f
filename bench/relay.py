"""How exact the relay's distances are: `python -m bench.relay`. One byte there and back, over real sockets.

Prints for each round trip what it took: least, median, nine in ten, most.
"""

from __future__ import annotations

import socket
import statistics
import tempfile
import threading
import time
from pathlib import Path

from domicile.relay import Link, RelayProcess

ROUND_TRIPS_MS = (0, 10, 80, 150, 220)
TIMES = 50


def _echo(listener: socket.socket) -> None:
    connection, _ = listener.accept()
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    while data := connection.recv(65536):
        connection.sendall(data)


def main() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener, tempfile.TemporaryDirectory() as folder:
        threading.Thread(target=_echo, args=(listener,), daemon=True).start()
        with RelayProcess([Link("there", listener.getsockname())], log=Path(folder, "log")) as relay:
            client = socket.create_connection(("127.0.0.1", relay.port("there")))
            client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            for round_trip in ROUND_TRIPS_MS:
                relay.measure(round_trip_ms=round_trip)
                taken = []
                for _ in range(TIMES):
                    begin = time.perf_counter()
                    client.sendall(b"x")
                    client.recv(1)
                    taken.append((time.perf_counter() - begin) * 1e3)
                taken.sort()
                print(
                    f"{round_trip:4d} ms: {taken[0]:.2f}, {statistics.median(taken):.2f}, "
                    f"{taken[TIMES * 9 // 10]:.2f}, {taken[-1]:.2f}"
                )
            client.close()


if __name__ == "__main__":
    main()
