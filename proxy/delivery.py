"""Takes this region's changes of the catalog to the other regions, in order, each by the role that made it.

A region decides by itself: it keeps the change until one of its own roles approves it, or makes it at once where it has
said so (`domicile.auto_approve`). What a region that is away has not got is sent when it is back.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

from ..catalog.errors import DomicileError
from ..catalog.loader import UNREACHABLE
from ..catalog.names import RegionName, border_schema, quote_identifier
from . import messages as m
from .backend import Flight, Reply

if TYPE_CHECKING:
    from .gateway import Gateway

PAUSE_S = 2.0
"""Between two looks at what other regions have not got."""

ASK_AGAIN_S = 15.0
"""How often a region is asked whether a change that waits there has been approved."""

OUTSTANDING_MAX = 100
"""Changes that are sent in one turn."""

_log = logging.getLogger("domicile.delivery")


async def deliver(gateway: Gateway, change_id: str | None = None) -> dict[RegionName, str]:
    """Sends what is outstanding (or one change); what each region answered last: waiting, applied, rejected, failed, or
    why it could not be asked."""
    rows = await gateway.control.fetch(
        "select o.change_id::text as id, o.change::text as change, o.region, p.role from domicile.outstanding o "
        "join domicile.pending p using (change_id) where o.state <> 'rejected' "
        "and (o.state = 'unsent' or o.at < now() - make_interval(secs => $1)) "
        "and ($2::text is null or o.change_id::text = $2) "
        "order by o.seq limit $3",
        ASK_AGAIN_S,
        change_id,
        OUTSTANDING_MAX,
    )
    by_region: dict[RegionName, list[tuple[str, str, str]]] = {}
    for row in rows:
        by_region.setdefault(RegionName(row["region"]), []).append((row["id"], row["change"], row["role"]))
    said = await asyncio.gather(*(_to_region(gateway, region, changes) for region, changes in by_region.items()))
    return dict(zip(by_region, said, strict=True))


async def _to_region(gateway: Gateway, region: RegionName, changes: list[tuple[str, str, str]]) -> str:
    state = "unsent"
    for identity, change, role in changes:
        try:
            state = await _propose(gateway, region, role, change)
        except DomicileError as error:
            return error.message  # the rest stays in order behind it
        await gateway.control.fetchval("select domicile.delivered($1::text::uuid, $2, $3)", identity, region, state)
    return state


async def _propose(gateway: Gateway, region: RegionName, role: str, change: str) -> str:
    pool = gateway.pool(region, role)
    backend = await pool.take()
    try:
        schema = quote_identifier(border_schema("public", gateway.here))
        flight = Flight()
        flight.parse("", f"SELECT {schema}.propose($1::jsonb)")
        flight.bind("", "", (), [change.encode()])
        flight.execute(Reply.COLLECT)
        flight.sync()
        exchange = await backend.run(flight)
    finally:
        pool.give(backend)
    if exchange.error is not None:
        raise m.error_of(exchange.error[5:])
    return (m.data_row(exchange.rows[0])[0] or b"").decode()


async def watch(gateway: Gateway) -> None:
    """Runs until it is cancelled."""
    while True:
        try:
            await deliver(gateway)
        except UNREACHABLE as fault:
            _log.debug("what other regions have not got can't be read now: %s", fault)
        await asyncio.sleep(PAUSE_S)
