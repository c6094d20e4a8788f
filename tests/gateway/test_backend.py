"""What a backend's replies may take: rows that are kept for the gateway are bounded while they come."""

from __future__ import annotations

import asyncio

from domicile.catalog.names import RegionName
from domicile.proxy import messages as m
from domicile.proxy.backend import Address, Backend, Exchange, Flight, Reply


async def test_rows_past_the_bound_are_counted_and_not_kept() -> None:
    flight = Flight()
    flight.execute(Reply.COLLECT)
    flight.sync()
    backend = Backend(Address(RegionName("us"), "127.0.0.1", 1, "shop"), "app", None)
    exchange = Exchange(flight, asyncio.get_running_loop(), rows_bytes_max=1_000)
    row = m.build_data_row([b"x" * 100])
    for _ in range(50):
        assert not exchange.received(backend, *m.Walker().feed(row * 2))
        assert sum(map(len, exchange.rows)) <= 1_000
    assert exchange.rows_bytes == len(row) * 100
    assert exchange.rows == []
    assert exchange.received(backend, *m.Walker().feed(m.build_command_complete("SELECT 100") + m.READY["I"]))
