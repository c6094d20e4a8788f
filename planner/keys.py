"""What a statement proves about where its rows live.

A source (a table in FROM, or the target of a write) matters in one region only if every row of it that can count lives
there. That is proven by a comparison of its residency key with constants, or by an equality that ties its rows to those
of another source: orders to their customer. What is not recognised proves nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from ..catalog.names import QualifiedName, RegionName, quote_literal
from ..catalog.snapshot import Catalog, KeyKind, Locality, Table
from .parse import Node, names, only
from .plan import Key, KeySource, Literal, Parameter
from .resolve import Column, Facts, Scope, Source, column_of, plain

SHOWN_VALUES_MAX = 4
"""Values of an IN list that EXPLAIN shows."""

TEXT_TYPES = frozenset({"text", "character varying", "character"})
INTEGER_TYPES = frozenset({"smallint", "integer", "bigint"})
_CAST_NAMES = {
    "int2": "smallint",
    "int4": "integer",
    "int8": "bigint",
    "bool": "boolean",
    "varchar": "character varying",
    "bpchar": "character",
}


def base_type(type_name: str) -> str:
    """The type's name without its modifier: `character varying(20)` is `character varying`."""
    return type_name.split("(")[0].strip()


class Domain(NamedTuple):
    """What a value of some columns says about a row's home: equal values in one domain, equal homes."""

    kind: str  #: a KeyKind, or "row": the columns name one row of `table`
    of: str


@dataclass(frozen=True, slots=True)
class Anchor:
    domain: Domain
    columns: tuple[str, ...]
    unique: bool = True  #: rows with equal values are known to live in one region, though not in which


CATALOGS_KEPT_MAX = 8
"""Catalogs whose anchors are remembered: one for each node in the process, and the one before it."""

_kept: dict[int, tuple[Catalog, dict[QualifiedName, tuple[Anchor, ...]]]] = {}


def anchors(catalog: Catalog, table: Table) -> tuple[Anchor, ...]:
    """The column sets of a pinned table that decide where its rows live, the residency key first.

    Remembered for each catalog, for they are looked for among all tables.
    """
    kept = _kept.get(id(catalog))
    if kept is None or kept[0] is not catalog:
        if len(_kept) >= CATALOGS_KEPT_MAX:
            _kept.clear()
        kept = _kept[id(catalog)] = (catalog, {})
    found = kept[1].get(table.name)
    if found is None:
        found = kept[1][table.name] = _anchors(catalog, table)
    return found


def _anchors(catalog: Catalog, table: Table) -> tuple[Anchor, ...]:
    found: list[Anchor] = []
    key = table.key
    if key is None:
        return ()
    if key.kind is KeyKind.PARENT and key.parent is not None:
        parent = catalog.tables.get(key.parent)
        unique = parent is not None and key.parent_columns in parent.federation_keys
        found.append(Anchor(row_domain(key.parent, key.parent_columns), key.columns, unique))
        if parent is not None and parent is not table and parent.key is not None:
            ours = dict(zip(key.parent_columns, key.columns, strict=True))
            for anchor in anchors(catalog, parent) if parent.key.parent != table.name else ():
                if all(c in ours for c in anchor.columns):
                    columns = tuple(ours[c] for c in anchor.columns)
                    found += [Anchor(anchor.domain, columns, anchor.unique)]
    else:
        found.append(Anchor(Domain(key.kind.value, key.mapping or ""), key.columns))
    for child in catalog.tables.values():
        if child.key is not None and child.key.kind is KeyKind.PARENT and child.key.parent == table.name:
            columns = child.key.parent_columns
            found.append(Anchor(row_domain(table.name, columns), columns, columns in table.federation_keys))
    found += [Anchor(row_domain(table.name, c), c) for c in table.federation_keys]
    return tuple(dict.fromkeys(found))


def row_domain(table: QualifiedName, columns: tuple[str, ...]) -> Domain:
    return Domain("row", f"{table}({','.join(columns)})")


# --- what a condition fixes ---------------------------------------------------------------------------------------


class Constant(NamedTuple):
    source: KeySource
    cast: str | None  #: the base type that it is cast to


def constant(node: Node) -> Constant | None:
    """A literal or a parameter, casts that change no value looked through; None for anything else.

    >>> constant({"A_Const": {"sval": {"sval": "DE"}}})
    Constant(source=Literal(text='DE', is_string=True), cast=None)
    """
    kind, body = only(node)
    if kind == "A_Const":
        literal = literal_of(body)
        return None if literal is None else Constant(literal, None)
    if kind == "ParamRef":
        return Constant(Parameter(body["number"]), None) if body.get("number") else None
    if kind == "TypeCast":
        inner = constant(body["arg"])
        cast = harmless_cast(body["typeName"])
        if inner is None or cast is None or (inner.cast is not None and inner.cast != cast):
            return None
        return Constant(inner.source, cast)
    return None


def literal_of(body: Node) -> Literal | None:
    """The value of an A_Const; None for bit strings and numbers that are not integers.

    >>> literal_of({"ival": {}})
    Literal(text='0', is_string=False)
    """
    if "isnull" in body:
        return Literal(None)
    if "sval" in body:
        return Literal(body["sval"].get("sval", ""))
    if "ival" in body:
        return Literal(str(body["ival"].get("ival", 0)), False)
    if "boolval" in body:
        return Literal("true" if body["boolval"].get("boolval") else "false", False)
    text = body.get("fval", {}).get("fval", "")
    return Literal(text, False) if text.lstrip("-").isdigit() else None


def harmless_cast(type_name: Node) -> str | None:
    """The base type of a cast without a modifier to a text, integer, uuid or boolean type; None for any other."""
    if type_name.get("typmods") or type_name.get("arrayBounds") or type_name.get("setof"):
        return None
    parts = names(type_name.get("names", []))
    if not parts or (len(parts) == 2 and parts[0] != "pg_catalog") or len(parts) > 2:
        return None
    name = _CAST_NAMES.get(parts[-1], parts[-1])
    return name if name in TEXT_TYPES or name in INTEGER_TYPES or name in ("uuid", "boolean") else None


def fits(type_name: str, found: Constant) -> bool:
    """True where `column = constant` is decided by the constant's text as a value of the column's own type."""
    base = base_type(type_name)
    if isinstance(found.source, Literal) and found.source.text is not None and not found.source.is_string:
        if base in INTEGER_TYPES:
            return found.source.text.lstrip("-").isdigit() and found.cast in (None, *INTEGER_TYPES)
        return base == "boolean" and found.source.text in ("true", "false") and found.cast in (None, "boolean")
    if base in TEXT_TYPES:
        # trailing blanks don't count in a comparison as bpchar: then the column must be bpchar too
        return found.cast is None or found.cast in ("text", "character varying") or found.cast == base
    if base in INTEGER_TYPES:
        return found.cast is None or found.cast in INTEGER_TYPES
    return base in ("uuid", "boolean") and found.cast in (None, base)


class Fixed(NamedTuple):
    """A column that equals any of some constants."""

    column: Column
    sources: tuple[KeySource, ...]
    known: bool = True
    """The text of a constant decides the comparison here. If not, PostgreSQL alone can compare: of such a column it is
    known only that its rows have one value."""
    named: bool = False  #: a region's name in a column of a type that is not known: good for a key of regions' names


@dataclass(slots=True)
class Conditions:
    """What conjuncts fix: columns equal to any of some constants, and columns equal to each other."""

    fixed: list[Fixed] = field(default_factory=list)
    equal: list[tuple[Column, Column]] = field(default_factory=list)


class _Reader:
    """Reads conditions of one scope."""

    def __init__(
        self, facts: Facts, catalog: Catalog, scope: Scope, implied: dict[Scope, list[tuple[Column, Column]]]
    ) -> None:
        self.facts, self.catalog, self.scope, self.implied = facts, catalog, scope, implied

    def read(self, node: Node, into: Conditions) -> None:
        kind, body = only(node)
        if kind == "A_Expr":
            self.comparison(body, into)
        elif kind == "BoolExpr" and body["boolop"] == "OR_EXPR":
            into.fixed += self.alternatives(body["args"])
        elif kind == "BoolExpr" and body["boolop"] == "AND_EXPR":
            for arg in body["args"]:
                self.read(arg, into)
        elif kind == "SubLink":
            self.membership(body, into)
        elif kind == "ColumnRef":  # `where active`
            column = self.column(node)
            if column is not None and base_type(self.type_of(column)) == "boolean":
                into.fixed.append(Fixed(column, (Literal("true", False),)))

    def comparison(self, body: Node, into: Conditions) -> None:
        if names(body.get("name", [])) != ("=",):  # OPERATOR(schema.=) is somebody's own
            return
        kind = body["kind"]
        left, right = body.get("lexpr", {}), body.get("rexpr", {})
        if kind == "AEXPR_OP":
            a, b = self.column(left), self.column(right)
            if a is not None and b is not None:
                if self.comparable(a, b):
                    into.equal.append((a, b))
            elif a is not None or b is not None:
                column, other = (a, right) if a is not None else (b, left)
                value = constant(other)
                if column is not None and value is not None:
                    self.fix(column, [value], into)
        elif kind == "AEXPR_IN":
            column = self.column(left)
            if column is not None:
                values = [constant(item) for item in right["List"]["items"]]
                self.fix(column, values, into)
        elif kind == "AEXPR_OP_ANY":
            column = self.column(left)
            if column is not None:
                self.fix(column, _elements(right), into)

    def fix(self, column: Column, values: Sequence[Constant | None], into: Conditions) -> None:
        table = self.facts.sources[column[0]].table
        declared = table.column(column[1]) if table is not None else None
        if declared is None:
            return
        sources: list[KeySource] = []
        known, named = declared.deterministic, False
        for value in values:
            if value is None:
                return
            sources.append(value.source)
            if not fits(declared.type_name, value):
                known, named = known and self.names_region(value), True
        into.fixed.append(Fixed(column, tuple(dict.fromkeys(sources)), known, named))

    def names_region(self, value: Constant) -> bool:
        """A literal that is a region's name to the letter: equal in any type, an enum's or a domain's too."""
        source = value.source
        named = isinstance(source, Literal) and source.is_string and source.text in self.catalog.regions
        return named and value.cast is None

    def alternatives(self, branches: list[Node]) -> list[Fixed]:
        """Columns that every branch of an OR fixes, equal to any of what the branches say."""
        common: dict[Column, Fixed] | None = None
        for branch in branches:
            inner = Conditions()
            self.read(branch, inner)
            fixed = {f.column: f for f in inner.fixed}
            if common is None:
                common = fixed
            else:
                common = {
                    c: Fixed(c, f.sources + (g := fixed[c]).sources, f.known and g.known, f.named or g.named)
                    for c, f in common.items()
                    if c in fixed
                }
        return [f._replace(sources=tuple(dict.fromkeys(f.sources))) for f in (common or {}).values()]

    def membership(self, body: Node, into: Conditions) -> None:
        """`x IN (SELECT y …)`: within that subquery only rows with y = x can count."""
        if body["subLinkType"] != "ANY_SUBLINK" or names(body.get("operName", [])) not in ((), ("=",)):
            return
        outer = self.column(body.get("testexpr", {}))
        query = body["subselect"].get("SelectStmt")
        sub = next((s for s in self.facts.scopes if s.body is query), None)
        if outer is None or sub is None or not plain(sub) or len(sub.body["targetList"]) != 1:
            return
        inner = _Reader(self.facts, self.catalog, sub, self.implied).column(
            sub.body["targetList"][0]["ResTarget"].get("val", {})
        )
        if inner is not None and self.comparable(outer, inner):
            self.implied.setdefault(sub, []).append((inner, outer))

    def column(self, node: Node) -> Column | None:
        kind, body = only(node)
        if kind == "TypeCast":  # `country::text = 'DE'`
            inner = self.column(body["arg"])
            to = harmless_cast(body["typeName"])
            if inner is None or to not in ("text", "character varying"):
                return None
            return inner if base_type(self.type_of(inner)) in ("text", "character varying") else None
        if kind != "ColumnRef":
            return None
        found = column_of(self.scope, body)
        return None if found is None else (found[0].index, found[1])

    def type_of(self, column: Column) -> str:
        table = self.facts.sources[column[0]].table
        declared = table.column(column[1]) if table is not None else None
        return declared.type_name if declared is not None else ""

    def comparable(self, a: Column, b: Column) -> bool:
        one, two = base_type(self.type_of(a)), base_type(self.type_of(b))
        return one == two or any({one, two} <= kind for kind in (INTEGER_TYPES, TEXT_TYPES - {"character"}))


def _elements(node: Node) -> list[Constant | None]:
    """The elements of `'{a,b}'`, `ARRAY['a', 'b']` or an array parameter."""
    kind, body = only(node)
    if kind == "TypeCast" and body["typeName"].get("arrayBounds"):
        cast = harmless_cast({k: v for k, v in body["typeName"].items() if k != "arrayBounds"})
        return [e and Constant(e.source, cast) for e in _elements(body["arg"])] if cast else [None]
    if kind == "ParamRef" and body.get("number"):
        return [Constant(Parameter(body["number"], array=True), None)]
    if kind == "A_ArrayExpr":
        return [constant(e) for e in body.get("elements", [])]
    if kind == "A_Const" and "sval" in body:
        elements = array_elements(body["sval"].get("sval", ""))
        return [None] if elements is None else [Constant(Literal(e), None) for e in elements]
    return [None]


def array_elements(text: str) -> list[str | None] | None:
    """The elements of a one-dimensional array's text; None where it is not one.

    >>> array_elements('{DE,"a, b",NULL}')
    ['DE', 'a, b', None]
    """
    text = text.strip()
    if not (text.startswith("{") and text.endswith("}")):
        return None
    inside, found, at = text[1:-1], list[str | None](), 0
    if not inside.strip():
        return []
    while True:
        while at < len(inside) and inside[at].isspace():
            at += 1
        if at < len(inside) and inside[at] == '"':
            value, at = [], at + 1
            while at < len(inside) and inside[at] != '"':
                at += inside[at] == "\\"
                value.append(inside[at : at + 1])
                at += 1
            if at >= len(inside):
                return None
            found.append("".join(value))
            at += 1
            while at < len(inside) and inside[at].isspace():
                at += 1
        else:
            end = inside.find(",", at)
            end = len(inside) if end < 0 else end
            word = inside[at:end].strip()
            if not word or any(c in word for c in '{}"\\'):
                return None
            found.append(None if word.upper() == "NULL" else word)
            at = end
        if at >= len(inside):
            return found
        if inside[at] != ",":
            return None
        at += 1


# --- the proof ----------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class Proof:
    """Where the pinned and regional sources of a statement are proven to live.

    `root` is the source with whose rows all others live: then several regions may answer, each for its own rows.
    Without one, each of `groups` must be in the same single region; an `unproven` source is in none.
    """

    sources: list[Source]
    root: Source | None = None
    keys: tuple[Key, ...] = ()  #: of the root
    groups: tuple[tuple[Key, ...], ...] = ()  #: without a root
    unproven: Source | None = None
    lookup: tuple[QualifiedName, tuple[str, ...], str] | None = None  #: of the root


def prove(
    facts: Facts,
    catalog: Catalog,
    fixed: Iterable[Fixed] = (),
    equal: Iterable[tuple[Column, Column]] = (),
) -> Proof:
    """The proof for all pinned and regional sources; `fixed` and `equal` are known besides, to hold for all."""
    sources = [s for s in facts.sources if s.table is not None and s.table.locality is not Locality.GLOBAL]
    return _Prover(facts, catalog, sources, list(fixed), list(equal)).prove()


class _Prover:
    def __init__(
        self,
        facts: Facts,
        catalog: Catalog,
        sources: list[Source],
        fixed: list[Fixed],
        equal: list[tuple[Column, Column]],
    ) -> None:
        self.facts, self.catalog, self.sources = facts, catalog, sources
        self.fixed, self.equal = fixed, equal
        self.around = {s.sub: s for s in facts.sources if s.sub is not None}
        self.implied: dict[Scope, list[tuple[Column, Column]]] = {}
        self.conditions = {scope: self.read(scope) for scope in facts.scopes}
        self.anchors = {s.index: anchors(catalog, s.table) for s in sources if s.table is not None}

    def read(self, scope: Scope) -> list[tuple[Conditions, int | None]]:
        reader = _Reader(self.facts, self.catalog, scope, self.implied)
        found = []
        for node, join in scope.conjuncts:
            conditions = Conditions()
            reader.read(node, conditions)
            found.append((conditions, join))
        for left, right, column, join in scope.using:
            conditions = Conditions()
            owners = [(s.index, s.columns[column]) for s in left if s.columns and column in s.columns]
            owned = [(s.index, s.columns[column]) for s in right if s.columns and column in s.columns]
            known = all(s.table is not None for s in (*left, *right))
            if known and len(owners) == 1 and len(owned) == 1 and reader.comparable(owners[0], owned[0]):
                conditions.equal.append((owners[0], owned[0]))
            found.append((conditions, join))
        return found

    def prove(self) -> Proof:
        proof = Proof(self.sources)
        own: dict[int, tuple[Key, ...]] = {}
        lookups: dict[int, tuple[QualifiedName, tuple[str, ...], str]] = {}
        lives_with: dict[int, set[int]] = {}
        for source in self.sources:
            self.examine(source, own, lookups, lives_with)
        reach = {s.index: _reachable(s.index, lives_with) for s in self.sources}
        keys = {
            i: tuple(dict.fromkeys(key for j in sorted(together, key=lambda j: (j != i, j)) for key in own.get(j, ())))
            for i, together in reach.items()
        }
        roots = [s for s in self.sources if self.may_lead(s) and all(s.index in r for r in reach.values())]
        if roots:
            root = min(roots, key=lambda s: not keys[s.index])
            proof.root, proof.keys = root, keys[root.index]
            proof.lookup = next((lookups[j] for j in sorted(reach[root.index]) if j in lookups), None)
            return proof
        proof.groups = tuple(dict.fromkeys(keys[s.index] for s in self.sources if keys[s.index]))
        proof.unproven = next((s for s in self.sources if not keys[s.index]), None)
        return proof

    def may_lead(self, source: Source) -> bool:
        """True where a row of the result needs a row of the source: it stands in the statement's own FROM, or in that
        of a plain subquery there, and no outer join makes it up."""
        while not source.nullable:
            scope = source.scope
            if scope.role == "top":
                return True
            if scope not in self.around or not plain(scope):
                return False
            source = self.around[scope]
        return False

    def examine(
        self,
        source: Source,
        own: dict[int, tuple[Key, ...]],
        lookups: dict[int, tuple[QualifiedName, tuple[str, ...], str]],
        lives_with: dict[int, set[int]],
    ) -> None:
        table = source.table
        assert table is not None
        if table.locality is Locality.REGIONAL and table.home is not None:
            own[source.index] = (at_region(table, table.home),)
            return
        classes, fixed = self.classes(source)
        keys = []
        for anchor in self.anchors[source.index]:
            columns = [classes.find((source.index, c)) for c in anchor.columns]
            values = [fixed.get(c) for c in columns]
            if anchor.domain.kind != "row":
                keys += [
                    Key(
                        table.name,
                        anchor.columns[0],
                        KeyKind(anchor.domain.kind),
                        anchor.domain.of or None,
                        _type_of(table, anchor.columns[0]),
                        item.sources,
                        show(anchor.columns[0], item.sources),
                    )
                    for item in values[0] or ()
                    if item.known and (not item.named or anchor.domain.kind == KeyKind.REGION)
                ]
            elif anchor.unique and source.index not in lookups and all(map(_one_value, values)):
                shown = " AND ".join(show(c, v[0].sources) for c, v in zip(anchor.columns, values, strict=True) if v)
                lookups[source.index] = (table.name, anchor.columns, shown)
            for other in self.sources:
                if other is not source and any(
                    a.domain == anchor.domain
                    and all(
                        mine == classes.find((other.index, theirs))
                        for mine, theirs in zip(columns, a.columns, strict=True)
                    )
                    for a in self.anchors[other.index]
                ):
                    lives_with.setdefault(source.index, set()).add(other.index)
        own[source.index] = tuple(keys)

    def classes(self, source: Source) -> tuple[_Classes, dict[Column, list[Fixed]]]:
        """The columns that are equal wherever a row of the source counts, and what constants they equal."""
        classes = _Classes()
        fixed = list(self.fixed)
        for a, b in self.equal:
            classes.join(a, b)
        here, joins = source, source.joins
        while True:
            scope = here.scope
            for conditions, join in self.conditions.get(scope, ()):
                if join is None or join in joins:
                    fixed += conditions.fixed
                    for a, b in conditions.equal:
                        classes.join(a, b)
            for a, b in self.implied.get(scope, ()):
                classes.join(a, b)
            if scope not in self.around or not plain(scope):
                break
            here = self.around[scope]
            joins |= here.joins
        values: dict[Column, list[Fixed]] = {}
        for item in fixed:
            values.setdefault(classes.find(item.column), []).append(item)
        return classes, values


def _one_value(fixed: list[Fixed] | None) -> bool:
    """True where a column is compared with one value, once."""
    if fixed is None or len(fixed) != 1 or len(fixed[0].sources) != 1:
        return False
    (source,) = fixed[0].sources
    return not (isinstance(source, Parameter) and source.array)


class _Classes:
    """Union-find over columns."""

    def __init__(self) -> None:
        self.parent: dict[Column, Column] = {}

    def find(self, column: Column) -> Column:
        while column in self.parent:
            column = self.parent[column]
        return column

    def join(self, a: Column, b: Column) -> None:
        a, b = self.find(a), self.find(b)
        if a != b:
            self.parent[a] = b


def _reachable(start: int, edges: Mapping[int, set[int]]) -> set[int]:
    seen, todo = {start}, [start]
    while todo:
        for following in edges.get(todo.pop(), ()):
            if following not in seen:
                seen.add(following)
                todo.append(following)
    return seen


def _type_of(table: Table, column: str) -> str:
    declared = table.column(column)
    return declared.type_name if declared is not None else "text"


def at_region(table: Table, region: RegionName) -> Key:
    """A key that always names the region: for what lives in one region whatever the values."""
    return Key(
        table.name, "", KeyKind.REGION, None, "text", (Literal(region),), f"{table.name.name} is kept in {region}"
    )


def show(column: str, sources: Sequence[KeySource]) -> str:
    """The comparison as EXPLAIN shows it.

    >>> show("country", (Literal("DE"), Parameter(1)))
    "country IN ('DE', $1)"
    """
    if len(sources) == 1:
        source = sources[0]
        array = isinstance(source, Parameter) and source.array
        return f"{column} = ANY ({show_value(source)})" if array else f"{column} = {show_value(source)}"
    shown = ", ".join(map(show_value, sources[:SHOWN_VALUES_MAX]))
    more = f", … {len(sources)} values" if len(sources) > SHOWN_VALUES_MAX else ""
    return f"{column} IN ({shown}{more})"


def show_value(source: KeySource) -> str:
    if isinstance(source, Parameter):
        return f"${source.number}"
    if source.text is None:
        return "NULL"
    return quote_literal(source.text).strip() if source.is_string else source.text
