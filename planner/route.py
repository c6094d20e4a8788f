"""From a plan and the values of its parameters to regions. Nothing here reads SQL."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal, InvalidOperation

from ..catalog.errors import CHECK_VIOLATION, FEATURE_NOT_SUPPORTED, NOT_NULL_VIOLATION, DomicileError
from ..catalog.names import RegionName
from ..catalog.snapshot import Catalog, KeyKind
from .keys import INTEGER_TYPES, array_elements, base_type
from .plan import At, Everywhere, Home, Key, Keyed, KeySource, Literal, LookUp, Plan, Probe, Refused, RowHomes

Values = Mapping[int, str | None] | Callable[[int], str | None]
"""The client's parameters as text by number, None for NULL."""

FOREIGN_KEY_VIOLATION = "23503"


def regions(plan: Plan, catalog: Catalog, values: Values | None = None) -> tuple[RegionName, ...]:
    """The regions in which the statement runs, this one first, then by their numbers; never empty.

    A LookUp gives all: ask the first, and the others only if it has no row. A key that is NULL or that no region has
    can match no row: the statement runs at home and finds none. For an INSERT, the distinct regions of the rows that
    name theirs; see `row_homes` for the rest.

    Raises DomicileError: what the plan refuses for these regions; for an INSERT 23502 for a NULL key and 23514 for a
    key that no region has.
    """
    placement = plan.placement
    if isinstance(placement, Home):
        return (catalog.here,)
    if isinstance(placement, At):
        return allowed(plan, catalog, (placement.region,))
    if isinstance(placement, Keyed):
        if placement.groups:
            return allowed(plan, catalog, _one_region(placement, catalog, values))
        return allowed(plan, catalog, in_order(catalog, _of_keys(placement.keys, catalog, values)))
    if isinstance(placement, LookUp):
        if plan.here_only is not None and len(catalog.regions) > 1:
            raise plan.here_only
        return everywhere(catalog)
    if isinstance(placement, Everywhere):
        return allowed(plan, catalog, everywhere(catalog))
    homes = {h for h in row_homes(plan, catalog, values) if not isinstance(h, Probe)}
    return allowed(plan, catalog, in_order(catalog, homes))


def row_homes(plan: Plan, catalog: Catalog, values: Values | None = None) -> tuple[RegionName | Probe, ...]:
    """For each row of an INSERT its home, or the probe that finds it. Raises 23502 and 23514 as `regions` does."""
    assert isinstance(plan.placement, RowHomes), "not an INSERT of rows into a pinned table"
    return tuple(row if isinstance(row, Probe) else _home_of(row, catalog, values) for row in plan.placement.rows)


def no_parent(probe: Probe) -> DomicileError:
    """What is raised when no region has the parent row that a probe looked for."""
    return DomicileError(
        FOREIGN_KEY_VIOLATION,
        f"the row's home is not known: no region shows a row of {probe.parent} with {probe.shown}",
        hint="Insert the parent row first; it decides in which region this one lives.",
    )


def everywhere(catalog: Catalog) -> tuple[RegionName, ...]:
    """All regions, this one first, then by their numbers."""
    return (catalog.here, *catalog.others())


def in_order(catalog: Catalog, found: set[RegionName]) -> tuple[RegionName, ...]:
    """The regions in the order of `everywhere`; this one alone where there are none."""
    return tuple(r for r in everywhere(catalog) if r in found) or (catalog.here,)


def region_of(key: Key, text: str, catalog: Catalog) -> RegionName | None:
    """The region that a key's value names; None where no region has it."""
    value = canonical(key.type_name, text)
    if value is None:
        return None
    if key.kind is KeyKind.REGION:
        return RegionName(value) if value in catalog.regions else None
    if key.kind is KeyKind.MAPPED:
        return catalog.mappings.get(key.mapping or "", {}).get(value)
    return catalog.region_of_id(int(value)) if value.lstrip("-").isdigit() else None


def canonical(type_name: str, text: str) -> str | None:
    """The value as PostgreSQL prints it in the type; None where no value of the type equals it.

    >>> canonical("bigint", " 007"), canonical("character(2)", "DE "), canonical("integer", "x")
    ('7', 'DE', None)
    """
    base = base_type(type_name)
    if base in INTEGER_TYPES:
        try:
            number = Decimal(text.strip())
            if number.is_finite() and number.adjusted() > 19:  # past any bigint, and slow to write out
                return None
            return str(int(number)) if number == int(number) else None
        except (InvalidOperation, ValueError, OverflowError):
            return _other_integer(text)
    if base == "character":
        return text.rstrip(" ")
    if base == "uuid":
        try:
            return str(uuid.UUID(text.strip().strip("{}")))
        except ValueError:
            return None
    if base == "boolean":
        word = text.strip().lower()
        if word in ("t", "true", "y", "yes", "on", "1", "tr", "tru", "ye"):
            return "true"
        return "false" if word in ("f", "false", "n", "no", "off", "0", "fa", "fal", "fals", "of") else None
    return text


def _other_integer(text: str) -> str | None:
    """`0x1F`, `0o17`, `0b1`, `1_000`: PostgreSQL 16 reads them as Python does."""
    try:
        return str(int(text.strip(), 0))
    except ValueError:
        return None


def texts_of(source: KeySource, values: Values | None) -> Sequence[str | None]:
    """The values of a key's source: one, or the elements of an array parameter. Raises KeyError for a parameter that
    has no value."""
    if isinstance(source, Literal):
        return (source.text,)
    if values is None:
        raise KeyError(source.number)
    text = values(source.number) if callable(values) else values[source.number]
    if not source.array or text is None:
        return (text,)
    elements = array_elements(text)
    if elements is None:
        raise DomicileError(
            FEATURE_NOT_SUPPORTED,
            f"parameter ${source.number} is not an array of one dimension, so the regions of its keys are not known",
        )
    return elements


def _of_keys(keys: Sequence[Key], catalog: Catalog, values: Values | None) -> set[RegionName]:
    found: set[RegionName] | None = None
    for key in keys:
        named = set()
        for source in key.sources:
            for text in texts_of(source, values):
                region = None if text is None else region_of(key, text, catalog)
                if region is not None:
                    named.add(region)
        found = named if found is None else found & named
    return found or set()


def _one_region(placement: Keyed, catalog: Catalog, values: Values | None) -> tuple[RegionName, ...]:
    """The single region of all groups. A group in no region matches no row wherever the statement runs."""
    named = {group: _of_keys(group, catalog, values) for group in placement.groups}
    found = set().union(*named.values())
    if len(found) > 1:
        shown = "; ".join(
            f"{' and '.join(k.shown for k in group)}: {', '.join(in_order(catalog, where))}"
            for group, where in named.items()
            if where
        )
        raise DomicileError(
            FEATURE_NOT_SUPPORTED,
            "the statement needs rows of several regions that are not shown to live together",
            detail=shown,
            hint="Join the tables on the key that pins one with the other, or ask for one region at a time.",
        )
    return in_order(catalog, found)


def _home_of(key: Key, catalog: Catalog, values: Values | None) -> RegionName:
    (text,) = texts_of(key.sources[0], values)
    return home_of_value(key, text, catalog)


def home_of_value(key: Key, text: str | None, catalog: Catalog) -> RegionName:
    """The home of a row whose residency key has this value. Raises 23502 for NULL, 23514 where no region has it."""
    if text is None:
        raise DomicileError(
            NOT_NULL_VIOLATION,
            f'null value in column "{key.column}" of relation "{key.table.name}": the row would have no home',
            detail=f"{key.column} is the residency key of {key.table}.",
            hint=f"Give {key.column} a value that names the region where the row lives.",
        )
    region = region_of(key, text, catalog)
    if region is None:
        raise DomicileError(
            CHECK_VIOLATION,
            f'new row for relation "{key.table.name}" has no home: no region has {key.column} = {text!r}',
            detail=_means(key),
            hint=_way_out(key, catalog),
        )
    return region


def _means(key: Key) -> str:
    if key.kind is KeyKind.MAPPED:
        return f"{key.column} is the residency key of {key.table}, mapped to regions by the table {key.mapping}."
    if key.kind is KeyKind.ID:
        return f"{key.column} is the residency key of {key.table}: an id that carries its region's number."
    return f"{key.column} is the residency key of {key.table}: it holds the region's name."


def _way_out(key: Key, catalog: Catalog) -> str:
    if key.kind is KeyKind.MAPPED:
        return f"Add the value with its region to {key.mapping}, or correct it."
    if key.kind is KeyKind.ID:
        return "Take ids from domicile.next_id()."
    return f"The regions are {', '.join(sorted(catalog.regions))}."


def allowed(plan: Plan, catalog: Catalog, found: tuple[RegionName, ...]) -> tuple[RegionName, ...]:
    """The regions, if the plan may run there; raises what it refuses. Ask it for homes that probes have found."""
    if found != (catalog.here,):
        if plan.here_only is not None:
            raise plan.here_only
        if len(found) > 1 and isinstance(plan.gather, Refused):
            raise plan.gather.error
    return found
