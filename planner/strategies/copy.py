"""COPY of managed tables: what the gateway must know to split rows that come in, and to append rows that go out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

from ...catalog.errors import SYNTAX_ERROR, DomicileError
from ...catalog.names import RegionName, quote_identifier
from ...catalog.snapshot import Catalog, KeyKind, Locality, Table
from ..keys import anchors
from ..parse import Node, names
from ..plan import Append, At, Everywhere, Gather, Home, Key, Placement
from ..refusal import refusal
from ..session import option_value
from ..splice import Name, abroad, edits_for, splice
from .insert import probe_texts


@dataclass(frozen=True, slots=True)
class CopyOptions:
    """COPY's options, PostgreSQL's defaults filled in."""

    format: str = "text"  #: text, csv or binary
    delimiter: str = "\t"
    null: str = "\\N"
    header: bool = False  #: the first line names the columns
    quote: str = '"'
    escape: str = '"'
    encoding: str | None = None
    default: str | None = None


@dataclass(frozen=True, slots=True)
class CopyKey:
    """The column of each row that names its home: `route.region_of(key, text, catalog)`; `key.sources` is empty."""

    position: int  #: in the columns that are copied, from 0
    key: Key


@dataclass(frozen=True, slots=True)
class CopyProbe:
    """The columns of each row that name its parent row, to be looked up where it lives."""

    positions: tuple[int, ...]
    texts: Mapping[RegionName, str]  #: as `Probe.texts`


@dataclass(frozen=True, slots=True)
class CopyIn:
    """COPY … FROM STDIN into a pinned table. `Plan.texts` holds the COPY for each other region."""

    table: Table
    columns: tuple[str, ...]
    home: CopyKey | CopyProbe
    options: CopyOptions


class CopyDecision(NamedTuple):
    placement: Placement
    gather: Gather
    declined: tuple[()] = ()
    here_only: DomicileError | None = None
    detail: object = None


def incoming(body: Node, table: Table, catalog: Catalog) -> CopyDecision:
    """Where the rows of a COPY FROM STDIN go. Raises 0A000 where no column that is copied names a row's home."""
    if table.locality is Locality.REGIONAL and table.home is not None:
        return CopyDecision(At(table.home, f"{table.name.name} kept in {table.home}"), Append())
    columns = names(body.get("attlist", [])) or tuple(c.name for c in table.columns)
    chosen = options(body)
    for anchor in anchors(catalog, table):
        if all(c in columns for c in anchor.columns):
            home: CopyKey | CopyProbe
            if anchor.domain.kind != "row":
                (column,) = anchor.columns
                declared = table.column(column)
                type_name = declared.type_name if declared is not None else "text"
                mapping = anchor.domain.of or None
                key = Key(table.name, column, KeyKind(anchor.domain.kind), mapping, type_name, (), column)
                home = CopyKey(columns.index(column), key)
            elif table.key is not None and table.key.parent is not None and anchor.columns == table.key.columns:
                texts = probe_texts(catalog, table.key.parent, table.key.parent_columns)
                home = CopyProbe(tuple(columns.index(c) for c in anchor.columns), texts)
            else:
                continue
            placement = Everywhere(f"each row goes to its home, which {', '.join(anchor.columns)} names")
            return CopyDecision(placement, Append(), (), None, CopyIn(table, columns, home, chosen))
    key_columns = table.key.columns if table.key is not None else ()
    if table.key is not None and table.key.kind is KeyKind.ID:
        return CopyDecision(Home(f"{key_columns[0]} is made here by its default"), Append())
    raise refusal(
        f"COPY into {table.name.name} leaves out {', '.join(key_columns)}, which names the home of each row",
        hint="Copy that column too.",
    )


def options(body: Node) -> CopyOptions:
    """The options of a COPY. Raises 42601 for a format that is not one."""
    found: dict[str, str | None] = {}
    for option in body.get("options", ()):
        element = option["DefElem"]
        found[element["defname"]] = option_value(element.get("arg")) if "arg" in element else "true"
    form = (found.get("format") or "text").lower()
    if form not in ("text", "csv", "binary"):
        raise DomicileError(SYNTAX_ERROR, f'COPY format "{form}" not recognized')
    csv = form == "csv"
    quote = found.get("quote") or '"'
    return CopyOptions(
        form,
        found.get("delimiter") or ("," if csv else "\t"),
        found["null"] or "" if "null" in found else ("" if csv else "\\N"),
        (found.get("header") or "false").lower() in ("true", "on", "1", "match"),
        quote,
        found.get("escape") or quote,
        found.get("encoding"),
        found.get("default"),
    )


def as_query(sql: str, body: Node, table: Table, catalog: Catalog) -> dict[RegionName, str]:
    """COPY t (…) TO STDOUT for the other regions, where `t` is a view: COPY (SELECT …) TO STDOUT."""
    name = Name(
        body["relation"].get("location", 0),
        1 + ("schemaname" in body["relation"]) + ("catalogname" in body["relation"]),
        table.name,
    )
    ((start, end, _),) = edits_for(sql, [name], catalog.here)
    source = sql.encode()
    if "attlist" in body:  # the column list follows the name
        end = source.index(b")", end) + 1
    columns = names(body.get("attlist", [])) or tuple(c.name for c in table.columns)
    listed = ", ".join(map(quote_identifier, columns))
    query = f"(SELECT {listed} FROM {abroad(table.name, catalog.here)})"
    text = splice(sql, [(start, end, query)])
    return dict.fromkeys(catalog.others(), text)
