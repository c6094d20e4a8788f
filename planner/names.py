"""Which relation a name means, under a search_path. The catalog knows managed tables and the views over them; every
other name is this region's own."""

from __future__ import annotations

from typing import NamedTuple

from ..catalog.names import QualifiedName
from ..catalog.snapshot import Catalog, Table

SYSTEM_SCHEMAS = frozenset({"pg_catalog", "information_schema", "domicile", "federated", "abroad", "pg_toast"})
"""Schemas that answer for this region (or, `federated` and `abroad`, for all from here): always at home."""


class Named(NamedTuple):
    """What a name means: a managed table, a view over managed tables, or (both None) something of this region's own."""

    name: QualifiedName
    table: Table | None
    opaque: bool


def resolve(catalog: Catalog, path: tuple[str, ...], role: str, schema: str | None, name: str) -> Named:
    """What `schema.name` means, or `name` under the search_path. `$user` in the path is the role.

    A table of this region alone that stands earlier on the path under the same name is not known to the catalog; the
    gateway is expected to give the effective path. PostgreSQL decides in any case what a role may read.
    """
    if schema is not None:
        return _known(catalog, QualifiedName(schema, name)) or Named(QualifiedName(schema, name), None, False)
    for entry in path:
        found = _known(catalog, QualifiedName(role if entry == "$user" else entry, name))
        if found:
            return found
    return Named(QualifiedName("", name), None, False)


def _known(catalog: Catalog, name: QualifiedName) -> Named | None:
    table = catalog.tables.get(name)
    if table is not None:
        return Named(name, table, False)
    return Named(name, None, True) if name in catalog.opaque else None
