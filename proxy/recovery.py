"""Finishes transactions over several regions that a crash, or a region's absence, left unfinished.

This region's record says which there are (`domicile.in_doubt`); asking for the verdict settles one that nobody decided.
Each region's part is ended by the role that prepared it, for PostgreSQL lets nobody else.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import Sequence
from typing import TYPE_CHECKING

from ..catalog.errors import DomicileError
from ..catalog.loader import UNREACHABLE
from ..catalog.names import RegionName, quote_literal
from . import messages as m
from .backend import Flight

if TYPE_CHECKING:
    from .gateway import Gateway

PAUSE_S = 2.0
"""Between two looks at what is unfinished."""

GRACE_S = 15.0
"""A transaction younger than this is left to its own gateway."""

ABORT_WATCH_S = 600.0
"""How long an aborted transaction is looked for: its PREPARE may still be on its way."""

UNDEFINED_OBJECT = "42704"

_log = logging.getLogger("domicile.recovery")


class Coordination:
    """What a transaction of `role` tells the record (transaction.Coordinator)."""

    def __init__(self, gateway: Gateway, role: str) -> None:
        self._gateway = gateway
        self._role = role

    async def begin(self, regions: Sequence[RegionName]) -> str:
        gid = f"domicile:{self._gateway.here}:{secrets.token_hex(12)}"
        try:
            await self._gateway.control.fetchval(
                "select domicile.begin_two_phase($1, $2, $3)", gid, self._role, list(regions)
            )
        except UNREACHABLE as fault:
            raise DomicileError(
                "57P03", f"region {self._gateway.here} can't be reached: nothing was committed", detail=str(fault)
            ) from None
        return gid

    def end(self, gid: str) -> None:
        self._gateway.spawn(self._end(gid))

    async def _end(self, gid: str) -> None:
        try:
            await self._gateway.control.fetchval("select domicile.end_two_phase($1)", gid)
        except UNREACHABLE:
            return  # recovery finds it finished, and says so


async def watch(gateway: Gateway) -> None:
    """Runs until it is cancelled."""
    while True:
        try:
            await _finish_all(gateway)
        except UNREACHABLE as fault:
            _log.debug("what is in doubt can't be read now: %s", fault)
        await asyncio.sleep(PAUSE_S)


async def _finish_all(gateway: Gateway) -> None:
    rows = await gateway.control.fetch(
        "select gid, role, regions, extract(epoch from now() - began_at)::float8 as age_s from domicile.in_doubt "
        "where began_at < now() - make_interval(secs => $1) order by began_at",
        GRACE_S,
    )
    for row in rows:
        committed = await gateway.control.fetchval("select domicile.outcome($1)", row["gid"])
        verb = "COMMIT" if committed else "ROLLBACK"
        ended = [await _end_part(gateway, RegionName(r), row["role"], row["gid"], verb) for r in row["regions"]]
        if all(ended) and (committed or row["age_s"] > ABORT_WATCH_S):
            await gateway.control.fetchval("select domicile.end_two_phase($1)", row["gid"])
            _log.warning("transaction %s of %s: %s in %s", row["gid"], row["role"], verb, ", ".join(row["regions"]))


async def _end_part(gateway: Gateway, region: RegionName, role: str, gid: str, verb: str) -> bool:
    """Whether the region has no such prepared transaction any more."""
    pool = gateway.pool(region, role)
    try:
        backend = await pool.take()
    except DomicileError:
        return False
    try:
        flight = Flight()
        flight.command(f"{verb} PREPARED {quote_literal(gid)}")
        flight.sync()
        exchange = await backend.run(flight)
    except DomicileError:
        return False
    finally:
        pool.give(backend)
    return exchange.error is None or m.error_of(exchange.error[5:]).sqlstate == UNDEFINED_OBJECT
