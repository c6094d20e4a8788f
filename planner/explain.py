"""What EXPLAIN through the gateway shows: the strategy, the regions, the key that matched, and what was declined."""

from __future__ import annotations

from ..catalog.errors import DomicileError
from ..catalog.snapshot import Catalog
from .plan import (
    Append,
    At,
    Everywhere,
    Finish,
    Gather,
    Home,
    Keyed,
    LookUp,
    Placement,
    Plan,
    Probe,
    RowHomes,
)
from .route import Values, everywhere, regions


def explain(plan: Plan, catalog: Catalog, values: Values | None = None) -> tuple[str, ...]:
    """The lines of the plan for these values; without values, where parameters decide, the regions that may be."""
    try:
        where: tuple[str, ...] = regions(plan, catalog, values)
        shown = ", ".join(where)
    except KeyError:
        where, shown = everywhere(catalog), "known when the parameters are bound"
    except DomicileError as error:
        lines = [f"Domicile: refused ({error.sqlstate}: {error.message})"]
        lines += [f"  {label}: {text}" for label, text in (("Detail", error.detail), ("Hint", error.hint)) if text]
        return (*lines, *_facts(plan, catalog))
    if isinstance(plan.placement, RowHomes) and any(isinstance(r, Probe) for r in plan.placement.rows):
        where, shown = everywhere(catalog), "where the parent rows live"
    lines = [f"Domicile: {strategy(plan, len(where))}", f"  Regions: {shown}"]
    return (*lines, *_facts(plan, catalog))


def strategy(plan: Plan, regions_count: int = 2) -> str:
    """The name of the strategy that the plan takes when that many regions answer."""
    if isinstance(plan.placement, Home):
        return "home"
    if isinstance(plan.placement, LookUp):
        return "look-up"
    if regions_count <= 1:
        return "route"
    return "split" if isinstance(plan.placement, RowHomes) else _gather(plan.gather)


def _gather(gather: Gather) -> str:
    if isinstance(gather, Finish):
        return str(gather.strategy)
    return "append" if isinstance(gather, Append) else "refused"


def _facts(plan: Plan, catalog: Catalog) -> list[str]:
    lines = [f"  {label}: {text}" for label, text in _reasons(plan.placement)]
    if plan.tables:
        lines.append(f"  Tables: {', '.join(map(str, plan.tables))}")
    lines += [f"  Declined: {d.strategy}: {d.reason}" for d in plan.declined]
    if plan.here_only is not None:
        lines.append(f"  Only here: {plan.here_only.message}")
    lines.append(f"  Catalog: version {catalog.version}")
    return lines


def _reasons(placement: Placement) -> list[tuple[str, str]]:
    if isinstance(placement, Home | At | Everywhere):
        return [("Because", placement.reason)]
    if isinstance(placement, LookUp):
        return [("Key", f"{placement.shown}, unique over all regions: here first, then the others at once")]
    if isinstance(placement, Keyed):
        return [("Key", key.shown) for key in placement.keys]
    rows = placement.rows
    parents = sum(isinstance(r, Probe) for r in rows)
    found = [("Rows", f"{len(rows)}, each at its own home")]
    if parents:
        found.append(
            ("Parents", f"{parents} of them looked up by {next(r.shown for r in rows if isinstance(r, Probe))}")
        )
    return found
