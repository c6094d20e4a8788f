"""Who is who in a statement: which names are tables, in which scope, and what must hold between their columns.

One walk over the tree collects `Facts`. Nothing is decided here. Names of CTEs shadow tables, scopes are those of SQL,
and where the walk can't tell whose a column is, it says None: a fact is missing then, never wrong.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from ..catalog.names import QualifiedName
from ..catalog.snapshot import Catalog, Table
from . import functions
from .names import SYSTEM_SCHEMAS, resolve
from .parse import Node, Statement, names, only

SYSTEM_COLUMNS = frozenset({"ctid", "xmin", "xmax", "cmin", "cmax", "tableoid"})

Column = tuple[int, str]
"""A column of a source: the source's index in `Facts.sources` and the table's own column name."""


@dataclass(slots=True, eq=False)
class Source:
    """One item of a FROM list, or the target of a write."""

    index: int
    scope: Scope
    name: str | None  #: as columns may be qualified with it; None where a join's alias hides it
    table: Table | None = None  #: where it is a managed table
    columns: dict[str, str] | None = None  #: the visible name of each column to the table's own; None: not known
    sub: Scope | None = None  #: of a subquery in FROM
    qualified: bool = False  #: `schema.table.column` may name it: no alias was given
    nullable: bool = False  #: it may be null-extended by an outer join of its scope
    joins: frozenset[int] = frozenset()  #: the outer joins on whose nullable side it stands
    target: bool = False  #: it is written
    sampled: bool = False


@dataclass(slots=True, eq=False)
class Scope:
    """One SELECT, INSERT, UPDATE, DELETE or MERGE, or the node of a set operation."""

    body: Node
    role: str  #: top, from, lateral, cte, link (an expression's subquery) or branch (of a set operation)
    parent: Scope | None = None  #: the text around it
    outer: Scope | None = None  #: whose columns it may use
    sources: list[Source] = field(default_factory=list)
    conjuncts: list[tuple[Node, int | None]] = field(default_factory=list)  #: what must hold; the outer join it is of
    using: list[tuple[list[Source], list[Source], str, int | None]] = field(default_factory=list)
    joined: dict[str, list[Source]] = field(default_factory=dict)  #: aliases of joins
    ctes: dict[str, Scope | None] = field(default_factory=dict)
    hidden: set[str] = field(default_factory=set)  #: names that a join's alias hides, though its ON may use them
    merged: set[str] = field(default_factory=set)  #: columns of outer joins with USING that are no source's own
    renamed: bool = False  #: some columns go by names that are not followed
    aggregates: bool = False
    set_returning: bool = False


@dataclass(frozen=True, slots=True)
class Reference:
    """A name in the text that must be replaced where the statement runs abroad: `parts` identifiers from `offset`."""

    offset: int
    parts: int
    table: Table
    node: Node  #: the RangeVar's or ColumnRef's own body, for the comparison after splicing


@dataclass(slots=True, eq=False)
class Facts:
    """All that one walk over a statement found."""

    sources: list[Source] = field(default_factory=list)
    scopes: list[Scope] = field(default_factory=list)
    references: list[Reference] = field(default_factory=list)
    opaque: list[tuple[QualifiedName, int]] = field(default_factory=list)
    unmanaged: list[tuple[str, int]] = field(default_factory=list)  #: names of this region's own, with their offsets
    local_functions: list[tuple[str, int]] = field(default_factory=list)  #: not known to mean the same in all regions
    system_columns: list[tuple[str, int]] = field(default_factory=list)
    columns: list[tuple[Node, Scope]] = field(default_factory=list)
    parameters: list[tuple[int, int]] = field(default_factory=list)  #: number, offset
    listed: dict[int, tuple[str, ...]] = field(default_factory=dict)  #: see `splice.Name.columns`, by offset
    writing_ctes: bool = False
    recursive: bool = False
    locking: bool = False
    into: bool = False
    writes: list[Table] = field(default_factory=list)

    @property
    def tables(self) -> tuple[QualifiedName, ...]:
        return tuple(dict.fromkeys(r.table.name for r in self.references))


def facts(statement: Statement, catalog: Catalog, path: tuple[str, ...], role: str) -> Facts:
    """The facts of a statement. Raises RecursionError where it is nested too deeply."""
    walker = _Walker(catalog, path, role)
    kind, body = inner(statement)
    top = Scope(body, "top")
    walker.node(kind, body, top, "top")
    if not walker.facts.scopes:
        walker.facts.scopes.append(top)
    walker.qualified_columns()
    for scope, uses in walker.cte_uses.items():
        if len(uses) == 1:  # read once, a CTE is a subquery of FROM
            uses[0].sub = scope
    return walker.facts


def inner(statement: Statement) -> tuple[str, Node]:
    """The query inside a statement that wraps one (EXPLAIN, DECLARE, PREPARE, COPY (…) TO, CREATE TABLE AS), else the
    statement itself."""
    kind, body = statement.kind, statement.body
    while kind in WRAPPERS and "query" in body:
        kind, body = only(body["query"])
    return kind, body


WRAPPERS = frozenset({"ExplainStmt", "DeclareCursorStmt", "PrepareStmt", "CopyStmt", "CreateTableAsStmt"})


def column_of(scope: Scope | None, body: Node) -> tuple[Source, str] | None:
    """Whose column a ColumnRef of this scope is, through plain subqueries in FROM; None where that isn't certain."""
    if scope is None:
        return None
    parts = names(body["fields"])
    if len(parts) != len(body["fields"]) or not 1 <= len(parts) <= 4:
        return None
    if len(parts) == 1:
        return _unqualified(scope, parts[0])
    here: Scope | None = scope
    while here is not None:
        if len(parts) == 2:
            found = [s for s in here.sources if s.name == parts[0]]
            if not found and parts[0] in here.joined:
                return _among(here, here.joined[parts[0]], parts[1])
        else:
            found = [s for s in here.sources if s.qualified and s.table and tuple(s.table.name) == parts[-3:-1]]
        if found:
            return _through(found[0], parts[-1]) if len(found) == 1 else None
        if parts[-2] in here.hidden:
            return None
        here = here.outer
    return None


def _unqualified(scope: Scope, name: str) -> tuple[Source, str] | None:
    here: Scope | None = scope
    while here is not None:
        found = _among(here, here.sources, name)
        if found is not None:
            return found
        if here.renamed or name in here.merged or any(s.table is None for s in here.sources):
            return None  # it may be a column of what is not known here
        if any(s.columns is not None and name in s.columns for s in here.sources):
            return None  # it is one of several
        here = here.outer
    return None


def _among(scope: Scope, sources: list[Source], name: str) -> tuple[Source, str] | None:
    """The one source that has the column. A column merged by USING is the left one, for it is equal to the right one
    wherever a comparison with it can hold in an inner or left join."""
    found = [f for s in sources if s.columns is None or name in s.columns if (f := _through(s, name))]
    if len(found) > 1:
        for left, right, column, _ in scope.using:
            if column == name:
                found = [f for f in found if not any(_owns(r, f[0]) for r in right) or not left]
    return found[0] if len(found) == 1 else None


def _owns(source: Source, inner: Source) -> bool:
    return source is inner or (source.sub is not None and inner.scope is source.sub)


def _through(source: Source, name: str) -> tuple[Source, str] | None:
    """The table's column behind a source's, where the source is a table or a plain subquery."""
    if source.table is not None:
        real = source.columns.get(name) if source.columns is not None else None
        return (source, real) if real is not None else None
    if source.sub is None or source.columns is not None or not plain(source.sub):
        return None
    found: list[tuple[Source, str] | None] = []
    for item in source.sub.body.get("targetList", ()):
        target = item["ResTarget"]
        kind, value = only(target.get("val", {}))
        if kind != "ColumnRef":
            if target.get("name") == name:
                return None
            continue
        if "A_Star" in value["fields"][-1]:
            qualifier = names(value["fields"])
            for s in source.sub.sources:
                if s.table is None or s.columns is None:
                    return None
                if (not qualifier or s.name == qualifier[-1]) and name in s.columns:
                    found.append((s, s.columns[name]))
        elif target.get("name", names(value["fields"])[-1]) == name:
            found.append(column_of(source.sub, value))
    return found[0] if len(found) == 1 else None


def output_names(scope: Scope) -> list[str] | None:
    """The names of a SELECT's columns; None where one can't be told without PostgreSQL's rules for expressions."""
    found: list[str] = []
    for item in scope.body.get("targetList", ()):
        target = item["ResTarget"]
        kind, value = only(target.get("val", {}))
        if "name" in target:
            found.append(target["name"])
        elif kind != "ColumnRef":
            return None
        elif "A_Star" not in value["fields"][-1]:
            found.append(names(value["fields"])[-1])
        else:
            qualifier = names(value["fields"])
            if scope.using or scope.renamed:
                return None
            for source in scope.sources:
                if not qualifier or source.name == qualifier[-1]:
                    visible = visible_columns(source)
                    if visible is None:
                        return None
                    found += visible
    return found


def visible_columns(source: Source) -> list[str] | None:
    """The names of a source's columns in order; None where they are not known."""
    if source.table is not None:
        return list(source.columns) if source.columns else None
    return output_names(source.sub) if source.sub is not None else None


def plain(scope: Scope) -> bool:
    """True for a SELECT to which a filter around it may be applied before it, as to a view's."""
    body = scope.body
    return (
        "targetList" in body
        and not any(k in body for k in _NOT_PLAIN)
        and not scope.aggregates
        and not scope.set_returning
    )


_NOT_PLAIN = (
    *("groupClause", "havingClause", "distinctClause", "limitCount", "limitOffset", "windowClause"),
    *("valuesLists", "larg", "withClause"),
)

_SKIPPED = frozenset({"A_Const", "String", "Integer", "Float", "Boolean", "RoleSpec", "lockedRels", "A_Star"})


class _Walker:
    def __init__(self, catalog: Catalog, path: tuple[str, ...], role: str) -> None:
        self.catalog, self.path, self.role = catalog, path, role
        self.facts = Facts()
        self.join_count = 0
        self.cte_uses: dict[Scope, list[Source]] = {}
        self.special: dict[str, Any] = {
            "SelectStmt": lambda b, s: self.select(b, s, "link"),
            "InsertStmt": self.insert,
            "UpdateStmt": self.update,
            "DeleteStmt": self.delete,
            "MergeStmt": self.merge,
            "ColumnRef": self.column,
            "ParamRef": self.parameter,
            "FuncCall": self.function,
            "SQLValueFunction": self.value_function,
            "TypeName": self.type_name,
            "typeName": self.type_name,
            "JsonObjectAgg": self.json_aggregate,
            "JsonArrayAgg": self.json_aggregate,
            "RangeVar": self.range_var,
            "withClause": self.with_clause,
            "CurrentOfExpr": self.current_of,
        }

    # --- any node ---------------------------------------------------------------------------------------------

    def node(self, kind: str, body: Node, scope: Scope, role: str) -> None:
        if kind == "SelectStmt":
            self.select(body, scope, role)
        elif kind in self.special:
            self.special[kind](body, scope)
        else:
            self.visit(body, scope)

    def visit(self, body: Node, scope: Scope) -> None:
        if "relname" in body:
            self.range_var(body, scope)
            return
        special = self.special
        for key, value in body.items():
            if key in special:
                special[key](value, scope)
            elif key in _SKIPPED:
                continue
            elif type(value) is dict:
                self.visit(value, scope)
            elif type(value) is list:
                for item in value:
                    if type(item) is dict:
                        self.visit(item, scope)

    def column(self, body: Node, scope: Scope) -> None:
        fields = body["fields"]
        last = fields[-1]
        if "String" in last and last["String"].get("sval") in SYSTEM_COLUMNS:
            self.facts.system_columns.append((last["String"]["sval"], body.get("location", 0)))
        if len(fields) >= 3:
            self.facts.columns.append((body, scope))

    def parameter(self, body: Node, scope: Scope) -> None:
        self.facts.parameters.append((body.get("number", 0), body.get("location", 0)))

    def function(self, body: Node, scope: Scope) -> None:
        parts = names(body["funcname"])
        name = parts[-1]
        if (len(parts) > 1 and parts[0] != "pg_catalog") or name not in functions.EVERYWHERE:
            self.facts.local_functions.append((".".join(parts), body.get("location", 0)))
        if name in functions.AGGREGATES or "over" in body or "agg_star" in body or "agg_within_group" in body:
            scope.aggregates = True
        elif name in functions.SET_RETURNING or name not in functions.EVERYWHERE:
            scope.set_returning = True  # what is not known may return a set, or be an aggregate
        self.visit(body, scope)

    def json_aggregate(self, body: Node, scope: Scope) -> None:
        scope.aggregates = True
        self.visit(body, scope)

    def value_function(self, body: Node, scope: Scope) -> None:
        if body["op"] in functions.LOCAL_VALUES:
            self.facts.local_functions.append((functions.LOCAL_VALUES[body["op"]], body.get("location", 0)))

    def type_name(self, body: Node, scope: Scope) -> None:
        if names(body.get("names", []))[-1:] and names(body["names"])[-1] in functions.LOCAL_TYPES:
            self.facts.local_functions.append((names(body["names"])[-1], body.get("location", 0)))

    def current_of(self, body: Node, scope: Scope) -> None:
        self.facts.local_functions.append(("WHERE CURRENT OF", 0))

    def range_var(self, body: Node, scope: Scope) -> None:
        """A relation's name where no FROM list stands: utility statements."""
        self.relation(body, scope, cte=False)

    # --- statements -------------------------------------------------------------------------------------------

    def scope(self, body: Node, parent: Scope, role: str) -> Scope:
        outer = None if role in ("top", "cte") else parent
        if role == "from":
            outer = parent.outer
        elif role == "cte":
            outer = parent.outer  # a CTE of a correlated subquery may use what the subquery may
        elif role == "branch":
            outer = parent.outer
        made = Scope(body, role, parent, outer)
        self.facts.scopes.append(made)
        return made

    def select(self, body: Node, parent: Scope, role: str) -> None:
        self.select_scope(body, parent, role)

    def select_scope(self, body: Node, parent: Scope, role: str) -> Scope:
        scope = self.scope(body, parent, role)
        if "withClause" in body:
            self.with_clause(body["withClause"], scope)
        if "larg" in body:
            for side in ("larg", "rarg"):
                self.select_scope(body[side], scope, "branch")
            for key in ("sortClause", "limitCount", "limitOffset"):
                if key in body:
                    self.visit({key: body[key]}, scope)
            return scope
        if "intoClause" in body:
            self.facts.into = True
        for item in body.get("fromClause", ()):
            self.from_item(item, scope)
        if "whereClause" in body:
            self.where(body["whereClause"], scope, None)
        if "lockingClause" in body:
            self.facts.locking = True
        for key, value in body.items():
            if key not in _SELECT_DONE and type(value) in (dict, list):
                self.visit({key: value}, scope)
        return scope

    def with_clause(self, body: Node, scope: Scope) -> None:
        recursive = bool(body.get("recursive"))
        self.facts.recursive = self.facts.recursive or recursive
        ctes = [c["CommonTableExpr"] for c in body["ctes"]]
        if recursive:
            scope.ctes.update((c["ctename"], None) for c in ctes)
        for cte in ctes:
            kind, query = only(cte["ctequery"])
            if kind == "SelectStmt":
                inner = self.select_scope(query, scope, "cte")
                followed = not recursive and "aliascolnames" not in cte
                scope.ctes[cte["ctename"]] = inner if followed else None
            else:
                self.facts.writing_ctes = True
                inner = self.scope(query, scope, "cte")
                self.node(kind, query, inner, "cte")
                scope.ctes[cte["ctename"]] = None

    def insert(self, body: Node, parent: Scope) -> None:
        scope = self.scope(body, parent, "top" if parent.role == "top" else "cte")
        if "withClause" in body:
            self.with_clause(body["withClause"], scope)
        self.write_target(body["relation"], scope)
        if "selectStmt" in body:
            select = body["selectStmt"]["SelectStmt"]
            self.select_scope(select, scope, "from")
        for key in ("cols", "onConflictClause", "returningClause"):
            if key in body:
                self.visit({key: body[key]}, scope)

    def update(self, body: Node, parent: Scope) -> None:
        self.change(body, parent, "fromClause")

    def delete(self, body: Node, parent: Scope) -> None:
        self.change(body, parent, "usingClause")

    def change(self, body: Node, parent: Scope, sources: str) -> None:
        scope = self.scope(body, parent, "top" if parent.role == "top" else "cte")
        if "withClause" in body:
            self.with_clause(body["withClause"], scope)
        self.write_target(body["relation"], scope)
        for item in body.get(sources, ()):
            self.from_item(item, scope)
        if "whereClause" in body:
            self.where(body["whereClause"], scope, None)
        for key in ("targetList", "returningClause"):
            if key in body:
                self.visit({key: body[key]}, scope)

    def merge(self, body: Node, parent: Scope) -> None:
        scope = self.scope(body, parent, "top" if parent.role == "top" else "cte")
        if "withClause" in body:
            self.with_clause(body["withClause"], scope)
        self.write_target(body["relation"], scope)
        self.from_item(body["sourceRelation"], scope)
        # as in `source LEFT JOIN target`: ON limits the target's rows, unless some are changed for not matching
        self.join_count += 1
        clauses = [c["MergeWhenClause"] for c in body.get("mergeWhenClauses", ())]
        if all(c.get("matchKind") != "MERGE_WHEN_NOT_MATCHED_BY_SOURCE" for c in clauses):
            scope.sources[0].joins |= {self.join_count}
        self.where(body["joinCondition"], scope, self.join_count)
        for key in ("mergeWhenClauses", "returningClause"):
            if key in body:
                self.visit({key: body[key]}, scope)

    def write_target(self, body: Node, scope: Scope) -> None:
        source = self.relation(body, scope, cte=False)
        source.target = True
        if source.table is not None:
            self.facts.writes.append(source.table)

    # --- FROM -------------------------------------------------------------------------------------------------

    def source(self, scope: Scope, name: str | None) -> Source:
        made = Source(len(self.facts.sources), scope, name)
        self.facts.sources.append(made)
        scope.sources.append(made)
        return made

    def relation(self, body: Node, scope: Scope, cte: bool = True) -> Source:
        name, schema = body["relname"], body.get("schemaname")
        alias = body.get("alias", {})
        source = self.source(scope, alias.get("aliasname", name))
        if cte and schema is None and self.is_cte(name, scope):
            found = self.cte_scope(name, scope)
            if found is not None and "colnames" not in alias:
                self.cte_uses.setdefault(found, []).append(source)
            return source
        offset = body.get("location", 0)
        named = resolve(self.catalog, self.path, self.role, schema, name)
        if named.table is not None:
            source.table = table = named.table
            source.qualified = not alias
            own = [c.name for c in table.columns]
            renamed = names(alias.get("colnames", []))
            source.columns = dict(zip([*renamed, *own[len(renamed) :]], own, strict=False))
            parts = 1 + (schema is not None) + ("catalogname" in body)
            self.facts.references.append(Reference(offset, parts, table, body))
        elif named.opaque:
            self.facts.opaque.append((named.name, offset))
        elif not (schema in SYSTEM_SCHEMAS and source.target):
            self.facts.unmanaged.append((f"{schema}.{name}" if schema else name, offset))
        return source

    def is_cte(self, name: str, scope: Scope | None) -> bool:
        while scope is not None:
            if name in scope.ctes:
                return True
            scope = scope.parent
        return False

    def cte_scope(self, name: str, scope: Scope | None) -> Scope | None:
        while scope is not None and name not in scope.ctes:
            scope = scope.parent
        return scope.ctes[name] if scope is not None else None

    def from_item(self, item: Node, scope: Scope) -> None:
        kind, body = only(item)
        if kind == "RangeVar":
            self.relation(body, scope)
        elif kind == "JoinExpr":
            self.join(body, scope)
        elif kind == "RangeSubselect":
            lateral = "lateral" if body.get("lateral") else "from"
            alias = body.get("alias", {})
            query = body["subquery"]["SelectStmt"]
            sub = self.select_scope(query, scope, lateral)
            source = self.source(scope, alias.get("aliasname"))
            source.sub = sub
            if "colnames" in alias:
                source.columns, source.sub = None, None  # renamed: its columns are not followed
        elif kind == "RangeTableSample":
            before = len(scope.sources)
            self.from_item(body["relation"], scope)
            for source in scope.sources[before:]:
                source.sampled = True
            self.visit({k: v for k, v in body.items() if k != "relation"}, scope)
        else:
            source = self.source(scope, body.get("alias", {}).get("aliasname"))
            aggregates, returning = scope.aggregates, scope.set_returning
            self.visit(body, scope)
            scope.aggregates, scope.set_returning = aggregates, returning

    def join(self, body: Node, scope: Scope) -> None:
        start = len(scope.sources)
        self.from_item(body["larg"], scope)
        middle = len(scope.sources)
        self.from_item(body["rarg"], scope)
        left, right = scope.sources[start:middle], scope.sources[middle:]
        kind = body["jointype"]
        join: int | None = None
        if kind != "JOIN_INNER":
            self.join_count += 1
            join = self.join_count
            nullable = {"JOIN_LEFT": right, "JOIN_RIGHT": left}.get(kind, [*left, *right])
            for source in nullable:
                source.nullable = True
                if kind in ("JOIN_LEFT", "JOIN_RIGHT"):
                    source.joins |= {join}
        if "quals" in body:
            self.where(body["quals"], scope, join)
        for column in names(body.get("usingClause", [])):
            # under RIGHT and FULL the merged column is not the left one: then nobody owns it
            owner = left if kind in ("JOIN_INNER", "JOIN_LEFT") else []
            scope.using.append((owner, right, column, join))
            if not owner:
                scope.merged.add(column)
                for source in (*left, *right):
                    if source.columns is not None and column in source.columns:
                        source.columns = {k: v for k, v in source.columns.items() if k != column}
        if body.get("isNatural") and kind != "JOIN_INNER":
            scope.renamed = True
            for source in (*left, *right):
                source.columns = {} if source.table else source.columns
        if "alias" in body:
            name = body["alias"]["aliasname"]
            if "colnames" not in body["alias"]:
                scope.joined[name] = [*left, *right]
            scope.renamed = scope.renamed or "colnames" in body["alias"]
            for source in (*left, *right):
                scope.hidden |= set(filter(None, [source.name]))
                source.name = None
                source.qualified = False
                if "colnames" in body["alias"]:
                    source.columns = {} if source.table else source.columns

    def where(self, node: Node, scope: Scope, join: int | None) -> None:
        """Records the conjuncts of a condition, and visits them."""
        kind, body = only(node)
        if kind == "BoolExpr" and body["boolop"] == "AND_EXPR":
            for arg in body["args"]:
                self.where(arg, scope, join)
            return
        scope.conjuncts.append((node, join))
        self.visit(node, scope)

    # --- afterwards -------------------------------------------------------------------------------------------

    def qualified_columns(self) -> None:
        """`schema.table.column` and `schema.table.*`: the names before the column must follow the table's."""
        for body, scope in self.facts.columns:
            parts = names(body["fields"])
            star = "A_Star" in body["fields"][-1]
            name = parts[-2:] if star else parts[-3:-1]
            here: Scope | None = scope
            while here is not None:
                found = [s for s in here.sources if s.qualified and s.table and tuple(s.table.name) == tuple(name)]
                if found and found[0].table is not None:
                    count = len(parts) - (0 if star else 1)
                    self.facts.references.append(Reference(body.get("location", 0), count, found[0].table, body))
                    break
                here = here.outer


_SELECT_DONE = frozenset({"fromClause", "whereClause", "withClause", "intoClause", "lockingClause"})
