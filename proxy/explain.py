"""EXPLAIN of a statement that touches managed tables: where it goes and why, then each region's own plan."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .. import planner
from ..catalog import errors as e
from ..catalog.errors import DomicileError
from ..catalog.names import RegionName
from ..planner import session as details
from ..planner.plan import Finish, Fragment, Kind, LookUp, Plan, RowHomes
from . import execute
from . import messages as m
from .statement import Bound, Statement

if TYPE_CHECKING:
    from .session import Session

TEXT = 25

DESCRIPTION = m.build_row_description([m.Field(b"QUERY PLAN", 0, 0, TEXT, -1, -1, 0)])


async def run(session: Session, bound: Bound) -> None:
    """Sends the lines as rows of one text column, as PostgreSQL's EXPLAIN does."""
    detail = bound.plan.detail
    assert isinstance(detail, details.Explain)
    if detail.analyze:
        raise DomicileError(
            e.FEATURE_NOT_SUPPORTED,
            "EXPLAIN ANALYZE of a statement over managed tables is not supported yet",
            hint="Use EXPLAIN without ANALYZE: it shows the regions and each region's plan.",
        )
    inner = Bound(
        Statement("", detail.inner.text, bound.statement.types, detail.inner),
        formats=bound.formats,
        values=bound.values,
    )
    catalog = session.gateway.catalog()

    def value(number: int) -> str | None:
        return execute.parameter_text(inner, number)

    lines = list(planner.explain(detail.inner, catalog, value if bound.values else None))
    for region, text in _texts(session, inner):
        lines.append(f"Region {region}")
        asked = Bound(
            Statement("", f"EXPLAIN {text}", inner.statement.types, execute.READ),
            formats=inner.formats,
            values=inner.values,
        )
        rows, _ = await execute.collect(session, Fragment(region, asked.statement.text), asked)
        lines.extend("  " + (m.data_row(row)[0] or b"").decode() for row in rows)
    if bound.tell_description:
        session.out(DESCRIPTION)
    for line in lines:
        session.out(m.build_data_row([line.encode()]))
    session.out(m.build_command_complete("EXPLAIN"))


def _texts(session: Session, inner: Bound) -> list[tuple[RegionName, str]]:
    """What each region would run, where that is known without asking a region."""
    plan: Plan = inner.plan
    if isinstance(plan.placement, RowHomes) or plan.kind not in (Kind.READ, Kind.WRITE):
        return []
    try:
        regions = execute.regions_of(session, inner)
    except (DomicileError, KeyError):
        return []
    if isinstance(plan.placement, LookUp):
        regions = regions[:1]
    if len(regions) > 1 and isinstance(plan.gather, Finish):
        return [(region, plan.gather.fragments[region]) for region in regions]
    return [(region, execute.text_for(session, plan, region)) for region in regions]
