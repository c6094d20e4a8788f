"""INSERT into a pinned table: each row goes to its own home."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ...catalog.names import QualifiedName, RegionName, quote_identifier
from ...catalog.snapshot import Catalog, KeyKind, Table
from ...catalog.snapshot import Column as Declared
from ..keys import Anchor, Fixed, anchors, base_type, constant, fits, show
from ..parse import Node, only
from ..plan import Fragment, Key, KeySource, Literal, Plan, Probe
from ..refusal import refusal
from ..resolve import Column, Facts, Source, column_of, plain
from ..splice import Edit, Name, abroad, edits_for, splice, verify_rows


@dataclass(frozen=True, slots=True)
class InsertText:
    """Where the rows of `INSERT … VALUES` stand in the text, in bytes, so that each region gets its own."""

    rows: tuple[tuple[int, int], ...]  #: from the parenthesis to behind the closing one
    parameters: tuple[tuple[int, int], ...]  #: number, offset
    found: tuple[Name, ...]
    here: RegionName


def row_homes(body: Node, table: Table, catalog: Catalog, rows: Sequence[Sequence[Node]]) -> tuple[Key | Probe, ...]:
    """What names the home of each row. Raises 0A000 where a row does not say it in the statement."""
    columns = target_columns(body, table)
    deciding, probing = _anchors(catalog, table)
    texts: Mapping[RegionName, str] = {}
    if deciding is None:
        assert table.key is not None
        assert table.key.parent is not None
        texts = probe_texts(catalog, table.key.parent, table.key.parent_columns)
    anchor = deciding or probing
    places = [columns.index(c) if c in columns else None for c in anchor.columns]
    homes: list[Key | Probe] = []
    for row in rows:
        if len(row) > len(columns):
            raise refusal("INSERT has more expressions than target columns", position=None)
        cells = [row[p] if p is not None and p < len(row) else None for p in places]
        if deciding is not None:
            homes.append(_row_key(table, deciding, cells[0], catalog))
        else:
            sources = tuple(_row_value(table, c, cell) for c, cell in zip(anchor.columns, cells, strict=True))
            assert table.key is not None
            assert table.key.parent is not None
            shown = " AND ".join(show(c, (s,)) for c, s in zip(table.key.parent_columns, sources, strict=True))
            homes.append(Probe(table.key.parent, texts, sources, shown))
    return tuple(homes)


def _anchors(catalog: Catalog, table: Table) -> tuple[Anchor | None, Anchor]:
    """The columns whose values say the region by themselves, if there are such; and the residency key."""
    found = anchors(catalog, table)
    return next((a for a in found if a.domain.kind != "row"), None), found[0]


def _row_key(table: Table, anchor: Anchor, cell: Node | None, catalog: Catalog) -> Key:
    (column,) = anchor.columns
    kind = KeyKind(anchor.domain.kind)
    declared = _column(table, column)
    if kind is KeyKind.ID and table.key is not None and table.key.kind is KeyKind.ID and _is_default(cell):
        # the default makes an id where it runs, so the row is at home here; the CHECK on the id holds it to that
        source: KeySource = Literal(catalog.here)
        return Key(table.name, column, KeyKind.REGION, None, "text", (source,), f"{column} by default")
    return Key(
        table.name,
        column,
        kind,
        anchor.domain.of or None,
        declared.type_name,
        (value := _row_value(table, column, cell),),
        show(column, (value,)),
    )


def _row_value(table: Table, column: str, cell: Node | None) -> KeySource:
    if cell is None or _is_default(cell):
        raise refusal(
            f"the row's home is not known: {column}, which names it, is left to its default",
            hint=f"Give {column} in the INSERT: it decides in which region a row of {table.name} lives.",
        )
    found = constant(cell)
    declared = _column(table, column)
    if found is None or not (_is_null(found.source) or fits(declared.type_name, found)):
        raise refusal(
            f"the row's home is not known: {column}, which names it, is given by an expression",
            hint=f"Give {column} as a literal or a parameter of type {declared.type_name}.",
        )
    return found.source


def _is_default(cell: Node | None) -> bool:
    return cell is None or "SetToDefault" in cell


def _is_null(source: KeySource) -> bool:
    return isinstance(source, Literal) and source.text is None


def _column(table: Table, name: str) -> Declared:
    found = table.column(name)
    assert found is not None, "the catalog names a key column that the table has not"
    return found


def target_columns(body: Node, table: Table) -> list[str]:
    """The columns that an INSERT fills, in order."""
    if "cols" in body:
        return [c["ResTarget"]["name"] for c in body["cols"]]
    return [c.name for c in table.columns]


def values_rows(body: Node) -> list[list[Node]] | None:
    """The rows of an INSERT … VALUES, one empty row for DEFAULT VALUES; None for INSERT … SELECT."""
    if "selectStmt" not in body:
        return [[]]
    select = body["selectStmt"]["SelectStmt"]
    if "valuesLists" not in select or any(
        k in select for k in ("sortClause", "limitCount", "limitOffset", "withClause")
    ):
        return None
    return [only(row)[1].get("items", []) for row in select["valuesLists"]]


def listed_columns(body: Node, table: Table) -> tuple[str, ...]:
    """The columns to be named abroad for an INSERT that names none: a region may have them in another order.

    () where they are named, or none is filled. Raises 0A000 where it can't be told how many are meant.
    """
    if "cols" in body or "selectStmt" not in body:
        return ()
    select = body["selectStmt"]["SelectStmt"]
    while "larg" in select:
        select = select["larg"]
    if "valuesLists" in select:
        count = len(only(select["valuesLists"][0])[1].get("items", []))
    else:
        targets = [t["ResTarget"].get("val", {}) for t in select.get("targetList", ())]
        if any("A_Star" in only(t)[1].get("fields", [{}])[-1] for t in targets):
            raise refusal(
                f"the columns of {table.name.name} that this INSERT fills are not named",
                hint="Name them: INSERT INTO … (a, b, …) SELECT …",
            )
        count = len(targets)
    return tuple(c.name for c in table.columns[:count])


def probe_texts(catalog: Catalog, parent: QualifiedName, columns: Sequence[str]) -> dict[RegionName, str]:
    """For each region, the query that answers one row where the parent row lives: $1… are the parent's key."""
    condition = " AND ".join(f"{quote_identifier(c)} = ${i}" for i, c in enumerate(columns, 1))
    return {
        region: f"SELECT 1 FROM {parent if region == catalog.here else abroad(parent, catalog.here)}"
        f" WHERE {condition} LIMIT 1"
        for region in (catalog.here, *catalog.others())
    }


# --- splitting ----------------------------------------------------------------------------------------------------


_MARKS = re.compile(
    rb"""
      (?P<string> [eE]'(?:[^'\\]|\\.|'')*' | '(?:[^']|'')*' | "(?:[^"]|"")*"
                | \$(?P<tag>[A-Za-z_\x80-\xff]?[A-Za-z0-9_\x80-\xff]*)\$.*?\$(?P=tag)\$ | --[^\r\n]* | /\*.*?\*/ )
    | (?P<open> [(\[]) | (?P<close> [)\]]) | (?P<values> \bvalues\b)
    """,
    re.VERBOSE | re.DOTALL | re.IGNORECASE,
)
"""What can hold a parenthesis, and parentheses. It need not be exact (comments may be nested): what is made by it
is parsed and compared before use."""


def insert_text(
    text: str, count: int, parameters: Sequence[tuple[int, int]], found: Sequence[Name], here: RegionName
) -> InsertText | None:
    """The places of `count` rows of VALUES in the text; None where they can't be told."""
    rows, depth, start, inside = list[tuple[int, int]](), 0, 0, False
    for mark in _MARKS.finditer(text.encode()):
        kind = mark.lastgroup
        if kind == "open":
            if depth == 0:
                start = mark.start()
            depth += 1
        elif kind == "close":
            depth -= 1
            if inside and depth == 0:
                rows.append((start, mark.end()))
                if len(rows) == count:
                    return InsertText(tuple(rows), tuple(parameters), tuple(found), here)
        elif kind == "values" and depth == 0:
            inside = True
    return None


def split_insert(plan: Plan, homes: Sequence[RegionName]) -> tuple[Fragment, ...]:
    """For each region the INSERT of the rows that live there, in the order of the rows, regions in the order of their
    first row. `homes[i]` is row i's.

    The text is the client's own but for the other regions' rows, table names abroad and the numbers of parameters;
    `Fragment.parameters` says which of the client's stand behind $1, $2, …. Raises 0A000 where the rows can't be told
    apart in the text, and what `Plan.here_only` says where a row lives in another region.
    """
    regions = tuple(dict.fromkeys(homes))
    if plan.here_only is not None and any(region in plan.texts for region in regions):
        raise plan.here_only
    detail = plan.detail
    if len(regions) == 1 or not isinstance(detail, InsertText):
        if len(regions) > 1:
            raise refusal(
                "the rows of this INSERT live in several regions and can't be told apart in its text",
                hint="Insert the rows of each region by a statement of their own.",
            )
        (region,) = regions
        return (Fragment(region, plan.texts.get(region, plan.text) if plan.texts else plan.text),)
    assert len(homes) == len(detail.rows), "a home for every row"
    return tuple(_fragment(plan.text, detail, region, homes) for region in regions)


def _fragment(text: str, detail: InsertText, region: RegionName, homes: Sequence[RegionName]) -> Fragment:
    keep = [i for i, home in enumerate(homes) if home == region]
    kept = set(keep)
    first, last = detail.rows[0][0], detail.rows[-1][1]
    source = text.encode()
    numbers: dict[int, int] = {}
    spans = [detail.rows[i] for i in keep]
    edits: list[Edit] = []
    within: list[list[Edit]] = [[] for _ in spans]
    at = 0
    for number, offset in sorted(detail.parameters, key=lambda p: p[1]):
        while at < len(spans) and spans[at][1] <= offset:
            at += 1
        outside = offset < first or offset >= last
        if not outside and not (at < len(spans) and spans[at][0] <= offset):
            continue  # of another region's row
        new = f"${numbers.setdefault(number, len(numbers) + 1)}"
        start = 0 if outside else spans[at][0]
        edit = (offset - start, offset - start + 1 + len(str(number)), new)
        (edits if outside else within[at]).append(edit)
    if region != detail.here:
        at = 0
        for start, end, new in sorted(edits_for(text, detail.found, detail.here)):
            while at < len(spans) and spans[at][1] <= start:
                at += 1
            if start < first or start >= last:
                edits.append((start, end, new))
            elif at < len(spans) and spans[at][0] <= start:
                within[at].append((start - spans[at][0], end - spans[at][0], new))
    rows = [splice(source[a:b].decode(), inner) for (a, b), inner in zip(spans, within, strict=True)]
    edits.append((first, last, ", ".join(rows)))
    changed = splice(text, edits)
    verify_rows(text, changed, kept, numbers, detail.found if region != detail.here else (), detail.here)
    return Fragment(region, changed, tuple(sorted(numbers, key=lambda n: numbers[n])))


def constant_key(
    body: Node, target: Source, catalog: Catalog, facts: Facts
) -> tuple[list[Fixed], list[tuple[Column, Column]]] | None:
    """What is known of the rows that INSERT … SELECT makes: columns that are a constant, columns that are another
    table's. None where no residency key of the target is among them."""
    table = target.table
    select = body.get("selectStmt", {}).get("SelectStmt", {})
    sub = next((s for s in facts.scopes if s.body is select), None)
    assert table is not None
    columns = target_columns(body, table)
    if "valuesLists" in select:
        rows = [only(row)[1].get("items", []) for row in select["valuesLists"]]
        if len(rows) != 1:
            return None
        cells = rows[0]
    else:
        cells = [t["ResTarget"].get("val", {}) for t in select.get("targetList", ())]
    if sub is None or "larg" in select:
        return None
    fixed: list[Fixed] = []
    equal: list[tuple[Column, Column]] = []
    for column, cell in zip(columns, cells, strict=False):
        declared = table.column(column)
        kind, value = only(cell)
        if kind == "ColumnRef" and "A_Star" in value["fields"][-1]:
            break  # what follows stands at places that are not known
        found = constant(cell)
        if declared is None:
            continue
        if found is not None and fits(declared.type_name, found):
            fixed.append(Fixed((target.index, column), (found.source,)))
        elif kind == "ColumnRef" and plain(sub):
            owner = column_of(sub, value)
            theirs = owner[0].table.column(owner[1]) if owner is not None and owner[0].table is not None else None
            if (
                owner is not None
                and theirs is not None
                and base_type(theirs.type_name) == base_type(declared.type_name)
            ):
                equal.append(((target.index, column), (owner[0].index, owner[1])))
    key = table.key
    if key is not None and key.kind is KeyKind.ID and not set(key.columns) & set(columns):
        # the default makes the ids where it runs; `number` of this region stands for them
        number = next(r.number for r in catalog.regions.values() if r.name == catalog.here)
        fixed.append(Fixed((target.index, key.columns[0]), (Literal(str(number), False),)))
    known = {f.column[1] for f in fixed} | {c for (_, c), _ in equal}
    if not any(all(c in known for c in anchor.columns) for anchor in anchors(catalog, table)):
        return None
    return fixed, equal
