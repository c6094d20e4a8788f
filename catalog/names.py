"""Names that look alike, kept apart by type, and the one place where names are composed across a border."""

from __future__ import annotations

import re
from typing import NamedTuple, NewType

RegionName = NewType("RegionName", str)
"""A region's name: `[a-z][a-z0-9_]{0,15}`, so that `to_<region>` and `<role>@<region>` stay readable and short."""

RoleName = NewType("RoleName", str)
"""A role as its own region knows it, without `@region`."""

IDENTIFIER_BYTES_MAX = 63
"""PostgreSQL's NAMEDATALEN - 1. A longer name is cut in silence, and a cut `"<63 bytes>@eu"` *is* the local role."""

_REGION = re.compile(r"[a-z][a-z0-9_]{0,15}\Z")


class QualifiedName(NamedTuple):
    """A relation's schema and name as the catalog spells them: no quotes, no folding."""

    schema: str
    name: str

    def __str__(self) -> str:
        return f"{quote_identifier(self.schema)}.{quote_identifier(self.name)}"


def region_name(text: str) -> RegionName:
    """The text as a region's name. Raises ValueError that says what a region's name may be."""
    if not _REGION.match(text):
        raise ValueError(
            f"region name {text!r} must begin with a lower-case letter and hold at most 16 of a-z, 0-9 and _"
        )
    return RegionName(text)


def quote_identifier(name: str) -> str:
    """The name in double quotes, always: quoting what need not be quoted is harmless, the reverse is not."""
    return '"' + name.replace('"', '""') + '"'


def quote_literal(text: str) -> str:
    """The text as a string literal that means the same under either setting of standard_conforming_strings."""
    quoted = "'" + text.replace("'", "''") + "'"
    return " E" + quoted.replace("\\", "\\\\") if "\\" in text else quoted


def foreign_role(role: str, region: RegionName) -> str:
    """The name under which a role of `region` arrives in another region. Raises ValueError past 63 bytes."""
    name = f"{role}@{region}"
    if len(name.encode()) > IDENTIFIER_BYTES_MAX:
        raise ValueError(f"role name {name!r} has over {IDENTIFIER_BYTES_MAX} bytes; PostgreSQL would cut it")
    return name


def border_schema(schema: str, destination: RegionName) -> str:
    """The schema that holds what `destination` may see of `schema`: `to_eu` for public, `to_eu$sales` for sales.

    A region's name holds no `$`, so two schemas never share a border schema.
    """
    return f"to_{destination}" if schema == "public" else f"to_{destination}${schema}"
