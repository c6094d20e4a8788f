"""The catalog as one immutable, versioned snapshot, read from `select domicile.snapshot()` of one region.

A region's snapshot is that region's own truth: its copy of the policies decides what leaves it, and its gateway
routes by it. The JSON document that `parse` reads is described in sql/README.md.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from .names import QualifiedName, RegionName, region_name


class Locality(StrEnum):
    PINNED = "pinned"  #: each row has a home, named by a residency key
    GLOBAL = "global"  #: a copy in every region
    REGIONAL = "regional"  #: all of it in one region


class KeyKind(StrEnum):
    REGION = "region"  #: the column holds the region's name
    MAPPED = "mapped"  #: the column's value is mapped to regions by a table
    ID = "id"  #: the id carries its region: domicile.region_of(id)
    PARENT = "parent"  #: the row of a parent table says it


@dataclass(frozen=True, slots=True)
class Region:
    name: RegionName
    number: int  #: 1..1023, carried by ids of domicile.next_id()
    jurisdiction: str


@dataclass(frozen=True, slots=True)
class Column:
    name: str
    type_oid: int  #: as this region numbers types
    type_name: str  #: format_type(atttypid, atttypmod), schema-qualified where it must be
    not_null: bool
    deterministic: bool  #: False for text under a non-deterministic collation: never compare it outside PostgreSQL


@dataclass(frozen=True, slots=True)
class ResidencyKey:
    kind: KeyKind
    columns: tuple[str, ...]  #: of this table; for PARENT the referencing columns
    mapping: str | None = None  #: for MAPPED: the name in Catalog.mappings
    parent: QualifiedName | None = None  #: for PARENT
    parent_columns: tuple[str, ...] = ()  #: for PARENT: what `columns` refer to


@dataclass(frozen=True, slots=True)
class Table:
    name: QualifiedName
    oid: int  #: as this region numbers relations
    locality: Locality
    columns: tuple[Column, ...]  #: in catalog order, dropped ones left out
    primary_key: tuple[str, ...]
    key: ResidencyKey | None = None  #: for PINNED
    home: RegionName | None = None  #: for REGIONAL
    federation_keys: tuple[tuple[str, ...], ...] = ()
    """Column sets unique over the whole federation by construction (ids that carry their region, UUIDs): a
    look-up by one may stop at the first region that answers a row."""
    reads_near: bool = False  #: a policy says `reads = near` for this region

    def column(self, name: str) -> Column | None:
        return next((c for c in self.columns if c.name == name), None)


@dataclass(frozen=True, slots=True)
class Catalog:
    version: int  #: counts changes in this region; grows, never repeats
    here: RegionName
    regions: Mapping[RegionName, Region]
    tables: Mapping[QualifiedName, Table]  #: the managed tables, nothing else
    mappings: Mapping[str, Mapping[str, RegionName]] = field(default_factory=dict)
    """By mapping name: the key's text, as PostgreSQL prints it, to the region."""
    opaque: Mapping[QualifiedName, tuple[QualifiedName, ...]] = field(default_factory=dict)
    """Views and materialized views (by transitive dependency) to the pinned or regional tables that they read: here
    they would show this region's rows alone, so the planner refuses them. Domicile's own schemas are left out."""

    def others(self) -> Iterator[RegionName]:
        """The other regions' names, in the order of their numbers."""
        return (r.name for r in sorted(self.regions.values(), key=lambda r: r.number) if r.name != self.here)

    def region_of_id(self, value: int) -> RegionName | None:
        """The region whose number the id carries in its low ten bits (domicile.region_of in SQL)."""
        number = value & 1023
        return next((r.name for r in self.regions.values() if r.number == number), None) if value > 0 else None


def parse(document: str | bytes | Mapping[str, Any]) -> Catalog:
    """The snapshot that the JSON document describes. Raises KeyError or ValueError where it is not one."""
    d: Mapping[str, Any] = json.loads(document) if isinstance(document, str | bytes) else document
    return Catalog(
        version=int(d["version"]),
        here=region_name(d["here"]),
        regions={
            region_name(r["name"]): Region(region_name(r["name"]), int(r["number"]), r["jurisdiction"])
            for r in d["regions"]
        },
        tables={t.name: t for t in map(_table, d["tables"])},
        mappings={name: {k: RegionName(v) for k, v in m.items()} for name, m in d["mappings"].items()},
        opaque={_name(o): tuple(_name(r) for r in o["reads"]) for o in d["opaque"]},
    )


def _name(d: Mapping[str, Any]) -> QualifiedName:
    return QualifiedName(d["schema"], d["name"])


def _table(d: Mapping[str, Any]) -> Table:
    key = d.get("key")
    return Table(
        name=_name(d),
        oid=int(d["oid"]),
        locality=Locality(d["locality"]),
        columns=tuple(
            Column(c["name"], int(c["type_oid"]), c["type"], bool(c["not_null"]), bool(c["deterministic"]))
            for c in d["columns"]
        ),
        primary_key=tuple(d["primary_key"]),
        key=ResidencyKey(
            KeyKind(key["kind"]),
            tuple(key["columns"]),
            key.get("mapping"),
            _name(key["parent"]) if key.get("parent") else None,
            tuple(key.get("parent_columns") or ()),
        )
        if key
        else None,
        home=RegionName(d["home"]) if d.get("home") else None,
        federation_keys=tuple(tuple(k) for k in d["federation_keys"]),
        reads_near=bool(d.get("reads_near", False)),
    )
