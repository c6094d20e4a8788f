"""Where does a statement go? `plan` reads as the steps of the answer; docs/architecture.md has them as a table."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

from ..catalog.errors import SYNTAX_ERROR, DomicileError
from ..catalog.snapshot import Catalog, Locality, Table
from . import ddl, session
from .keys import Proof, prove
from .parse import Node, Statement, only, parse, position, too_complex
from .plan import (
    Append,
    At,
    Declined,
    Everywhere,
    Finish,
    Gather,
    Home,
    Key,
    Keyed,
    Kind,
    LookUp,
    Parameter,
    Placement,
    Plan,
    Refused,
    RowHomes,
    StrategyName,
)
from .refusal import EACH_REGION_HINT, ONE_REGION_HINT, Decline, refusal
from .resolve import WRAPPERS, Facts, Scope, facts, inner
from .splice import Name, Texts
from .strategies import copy, insert
from .strategies.append import append, co_located
from .strategies.combine import combine
from .strategies.grouping import text_abroad
from .strategies.merge import merge

QUERIES = frozenset({"SelectStmt", "InsertStmt", "UpdateStmt", "DeleteStmt", "MergeStmt"})


def plan(sql: str, catalog: Catalog, search_path: tuple[str, ...], role: str = "") -> Plan:
    """The plan of one statement, for the role under the search_path (`$user` in it is the role).

    What can never be done through the gateway is raised as DomicileError 0A000, as is a syntax error (42601), nesting
    that is too deep (54001) and a second statement in the text (42601). What can be done in some regions but not in
    others is in the plan: `gather` is Refused for several regions, `here_only` says why for another one, and
    `route.regions` raises them when the values are known. Nothing else is raised.
    """
    try:
        return _Planner(sql, catalog, search_path, role).plan()
    except RecursionError:
        raise too_complex() from None


class _Decision(NamedTuple):
    placement: Placement
    gather: Gather = Append()
    declined: tuple[Declined, ...] = ()
    here_only: DomicileError | None = None
    detail: object = None


class _Planner:
    def __init__(self, sql: str, catalog: Catalog, path: tuple[str, ...], role: str) -> None:
        self.sql, self.catalog, self.path, self.role = sql, catalog, path, role

    # --- the steps --------------------------------------------------------------------------------------------

    def plan(self) -> Plan:
        """1 parse; 2 Domicile's own DDL; 3 session statements; 4 utility statements; 5 queries."""
        try:
            statements = parse(self.sql)
        except DomicileError as error:
            if error.sqlstate == SYNTAX_ERROR and ddl.is_domicile(self.sql):
                call = ddl.parse(self.sql, self.catalog, self.path, self.role)
                return self.made(Kind.DOMICILE, Home("Domicile's own statement"), detail=call)
            raise
        if not statements:
            return self.made(Kind.EMPTY, Home("nothing to do"))
        if len(statements) > 1:
            raise DomicileError(SYNTAX_ERROR, "cannot insert multiple commands into a prepared statement")
        statement = statements[0]
        if statement.kind in QUERIES:
            return self.query(statement)
        found = session.details(statement, self.sql)
        if found is not None:
            rows = isinstance(found[1], session.FetchCursor) and not found[1].move
            made = self.made(found[0], Home("kept by the gateway"), returns_rows=rows, detail=found[1])
            return replace(made, pins=session.pins(statement, found[1]))
        if statement.kind == "ExplainStmt":
            return self.explain(statement)
        if statement.kind == "CopyStmt":
            return self.copy(statement)
        if statement.kind in WRAPPERS:
            return self.query(statement)
        return self.utility(statement)

    def query(self, statement: Statement) -> Plan:
        """SELECT, INSERT, UPDATE, DELETE, MERGE, and DECLARE and CREATE TABLE AS of one."""
        found = self.facts(statement)
        kind, body = inner(statement)
        decision = self.decide(kind, body, found)
        if statement.kind == "CreateTableAsStmt":
            error = refusal(
                "CREATE TABLE AS makes a table of this region alone, from rows of other regions",
                hint="Create the table, then INSERT the rows of one region at a time.",
            )
            decision = self.one_region(decision, "CREATE TABLE AS", error)
            made = self.finished(Kind.DDL, decision, found, body, returns_rows=False)
            return replace(made, pins=made.pins or session.pins(statement))
        if statement.kind == "DeclareCursorStmt":
            decision = self.one_region(decision, "a cursor")
            decision = decision._replace(detail=session.declare_cursor(statement.body, self.sql))
            return self.finished(Kind.CURSOR, decision, found, body, returns_rows=False)
        if found.into:
            error = refusal("SELECT INTO makes a table of this region alone, from rows of other regions")
            decision = self.one_region(decision, "SELECT INTO", error)
        writes = kind != "SelectStmt" or found.writing_ctes or found.into
        rows = not found.into if kind == "SelectStmt" else "returningClause" in body
        return self.finished(Kind.WRITE if writes else Kind.READ, decision, found, body, rows)

    def facts(self, statement: Statement) -> Facts:
        found = facts(statement, self.catalog, self.path, self.role)
        if found.opaque and len(self.catalog.regions) > 1:
            name, offset = found.opaque[0]
            reads = ", ".join(str(t) for t in self.catalog.opaque[name])
            raise refusal(
                f"view {name} reads {reads} of this region alone, so it can't be asked over regions",
                hint="Ask its tables themselves, or schema federated for this region's rows with the copies of others.",
                position=position(self.sql, offset),
            )
        return found

    # --- queries ----------------------------------------------------------------------------------------------

    def decide(self, kind: str, body: Node, found: Facts) -> _Decision:
        """Where a query runs, and how answers of several regions become one."""
        if not found.references:
            return _Decision(Home("no managed table"))
        if len(self.catalog.regions) <= 1:
            return _Decision(Home("the only region"))
        self.check_writes(found)
        if all(r.table.locality is Locality.GLOBAL for r in found.references):
            return _Decision(Home("global tables only: a copy is here"))
        here_only = self.here_only(found)
        top = found.scopes[0]
        if kind == "InsertStmt" and top.sources[0].table is not None:
            return self.insert(body, top, found)._replace(here_only=here_only)
        proof = prove(found, self.catalog)
        return self.place(kind, body, top, found, proof)._replace(here_only=here_only)

    def place(self, kind: str, body: Node, top: Scope, found: Facts, proof: Proof) -> _Decision:
        homes = {s.table.home for s in proof.sources if s.table and s.table.locality is Locality.REGIONAL}
        if len(homes) == 1 and all(s.table and s.table.locality is Locality.REGIONAL for s in proof.sources):
            (home,) = homes
            assert home is not None
            return _Decision(At(home, f"{', '.join(_names(proof))} kept in {home}"))
        writes = kind != "SelectStmt" or found.writing_ctes
        if proof.root is None:
            error = self.why_not(lambda: co_located(found, proof))
            if proof.unproven is None and proof.groups:
                keys = tuple(k for group in proof.groups for k in group)
                if len(proof.groups) == 1:
                    return _Decision(Keyed(keys), Refused(error))
                return _Decision(Keyed(keys, proof.groups), Refused(error))
            return _Decision(Everywhere("no key tells the region"), Refused(error))
        if proof.keys:
            placement: Placement = Keyed(proof.keys)
            if any(_single(key) for key in proof.keys):
                return _Decision(placement)
        elif proof.lookup is not None and self.can_look_up(kind, body, top, found):
            table, columns, shown = proof.lookup
            return _Decision(LookUp(table, columns, shown))
        else:
            placement = Everywhere(f"no key of {', '.join(_names(proof))} is compared with a value")
        if writes:
            tables = ", ".join(str(t.name) for t in dict.fromkeys(found.writes)) or "a table"
            verb = _VERBS.get(kind, "a writing WITH")
            message = f"{verb} would write rows of {tables} in several regions in one statement"
            return _Decision(placement, Refused(refusal(message, hint=ONE_REGION_HINT)))
        return self.gather(placement, body, top, found, proof)

    def gather(self, placement: Placement, body: Node, top: Scope, found: Facts, proof: Proof) -> _Decision:
        """The cheapest strategy that is right: append, merge, combine."""
        reasons: list[tuple[StrategyName, Decline]] = []
        if isinstance(placement, Everywhere):
            reasons.append((StrategyName.ROUTE, Decline(placement.reason)))
        else:
            reasons.append((StrategyName.ROUTE, Decline("the keys may name several regions")))
        for name in (StrategyName.APPEND, StrategyName.MERGE, StrategyName.COMBINE):
            try:
                if found.system_columns:
                    column = found.system_columns[0][0]
                    raise Decline(f"the system column {column} means nothing over several regions", ONE_REGION_HINT)
                result: Gather
                if name is StrategyName.APPEND:
                    result = append(body, top, found, proof)
                else:
                    co_located(found, proof)
                    write = merge if name is StrategyName.MERGE else combine
                    result = write(self.sql, self.catalog, found, self.names(found))
            except Decline as declined:
                reasons.append((name, declined))
            else:
                return _Decision(placement, result, _declined(reasons))
        last = reasons[-1][1] if top.aggregates or _groups(body) else reasons[2][1]
        last = last if _looks_at_more(body, top) else reasons[1][1]
        error = refusal(f"can't be answered over several regions: {last.reason}", hint=last.hint or ONE_REGION_HINT)
        return _Decision(placement, Refused(error), _declined(reasons))

    def can_look_up(self, kind: str, body: Node, top: Scope, found: Facts) -> bool:
        """A region without the row must answer no row."""
        if kind not in ("SelectStmt", "UpdateStmt", "DeleteStmt") or found.writing_ctes or found.recursive:
            return False
        if kind != "SelectStmt":
            return True
        if "groupClause" in body:  # GROUP BY () and its like make a row of none
            return not any("GroupingSet" in item for item in body["groupClause"])
        return not top.aggregates and "havingClause" not in body

    def why_not(self, check: object) -> DomicileError:
        try:
            check()  # type: ignore[operator]
        except Decline as declined:
            return refusal(
                f"can't be answered over several regions: {declined.reason}", hint=declined.hint or ONE_REGION_HINT
            )
        return refusal("the regions of the rows are not known", hint=ONE_REGION_HINT)

    def one_region(self, decision: _Decision, what: str, elsewhere: DomicileError | None = None) -> _Decision:
        """The decision, for what works in one region only; `elsewhere` refuses every region but this one."""
        error = refusal(f"{what} can't reach over several regions", hint=ONE_REGION_HINT)
        gather: Gather = Refused(error)
        placement = decision.placement
        if isinstance(placement, LookUp):
            placement = Everywhere(f"{what} can't ask one region after another")
        return decision._replace(placement=placement, gather=gather, here_only=decision.here_only or elsewhere)

    def here_only(self, found: Facts) -> DomicileError | None:
        """Why the statement can't run in another region."""
        if found.unmanaged:
            name, offset = found.unmanaged[0]
            return refusal(
                f"{name} is a table of this region alone, and the statement needs rows of another region",
                hint="Make it global or pin it (ALTER TABLE … SET LOCALITY …), or ask for rows of this region only.",
                position=position(self.sql, offset),
            )
        if found.local_functions:
            name, offset = found.local_functions[0]
            return refusal(
                f"{name} may mean something else in another region, and the statement needs rows of one",
                hint="Call it by itself and give its result as a value, or ask for rows of this region only.",
                position=position(self.sql, offset),
            )
        if found.system_columns:
            name, offset = found.system_columns[0]
            return refusal(
                f"the system column {name} is not to be seen from another region",
                hint="Name the row by its primary key.",
                position=position(self.sql, offset),
            )
        if any(s.sampled for s in found.sources):
            return refusal("TABLESAMPLE can't sample what another region shows", hint=ONE_REGION_HINT)
        return None

    # --- writes -----------------------------------------------------------------------------------------------

    def check_writes(self, found: Facts) -> None:
        for table in found.writes:
            if table.locality is Locality.GLOBAL:
                raise refusal(
                    f"{table.name} is a global table: a write must reach every region, which the gateway can't do yet",
                    hint=EACH_REGION_HINT,
                )
        for scope in found.scopes:
            target = next((s for s in scope.sources if s.target), None)
            if target is None or target.table is None or target.table.key is None:
                continue
            clauses = [scope.body.get("targetList", ())] if "cols" not in scope.body else []
            clauses.append(scope.body.get("onConflictClause", {}).get("targetList", ()))
            for when in scope.body.get("mergeWhenClauses", ()):
                clause = when["MergeWhenClause"]
                if clause.get("commandType") == "CMD_UPDATE":
                    clauses.append(clause.get("targetList", ()))
            for item in (i["ResTarget"] for clause in clauses for i in clause):
                if item.get("name") in target.table.key.columns:
                    raise refusal(
                        f"{item['name']} is the residency key of {target.table.name}: changing it would move the row",
                        hint="Leave the column out of the UPDATE: rows are not moved between regions by UPDATE yet.",
                        position=position(self.sql, item.get("location")),
                    )

    def insert(self, body: Node, top: Scope, found: Facts) -> _Decision:
        target = top.sources[0]
        table = target.table
        assert table is not None
        found.listed[body["relation"].get("location", 0)] = insert.listed_columns(body, table)
        rows = insert.values_rows(body)
        others = [s for s in found.sources if s is not target and _lives_somewhere(s.table)]
        if table.locality is Locality.REGIONAL:
            return self.place("InsertStmt", body, top, found, prove(found, self.catalog))
        if rows is not None and not others:
            homes = insert.row_homes(body, table, self.catalog, rows)
            where = None
            if len(rows) > 1:
                where = insert.insert_text(self.sql, len(rows), found.parameters, self.names(found), self.catalog.here)
            return _Decision(RowHomes(homes), Append(), (), None, where)
        fixed = insert.constant_key(body, target, self.catalog, found)
        if fixed is None:
            raise refusal(
                f"the homes of the rows that this INSERT makes are not known: the residency key of {table.name}"
                " comes from a query",
                hint="SELECT the rows, then INSERT them as VALUES; or give the key as a constant in the SELECT.",
            )
        proof = prove(found, self.catalog, fixed[0], fixed[1])
        decision = self.place("InsertStmt", body, top, found, proof)
        if isinstance(decision.placement, LookUp | Everywhere):
            return decision._replace(
                placement=Everywhere("no key tells the region"),
                gather=Refused(refusal("the homes of the rows that this INSERT makes are not known", ONE_REGION_HINT)),
            )
        return decision

    # --- everything else --------------------------------------------------------------------------------------

    def explain(self, statement: Statement) -> Plan:
        options, analyze, offset = session.explain_options(statement.body, self.sql)
        text = self.sql.encode()[offset:].decode()
        inner_plan = _Planner(text, self.catalog, self.path, self.role).plan()
        if not inner_plan.tables:
            return self.made(Kind.READ, Home("no managed table"), returns_rows=True)
        detail = session.Explain(inner_plan, analyze, options, offset)
        here_only = inner_plan.here_only
        if analyze:
            here_only = here_only or refusal(
                "EXPLAIN ANALYZE tells of rows that a policy hides, so it works in this region alone",
                hint="Use EXPLAIN without ANALYZE, or EXPLAIN ANALYZE at the region's own server.",
            )
        gather = inner_plan.gather
        if analyze and not isinstance(gather, Refused):
            gather = Refused(here_only or refusal("EXPLAIN ANALYZE over several regions"))
        placement = inner_plan.placement
        made = self.made(Kind.EXPLAIN, placement, gather, returns_rows=True, detail=detail)
        return replace(
            made,
            tables=inner_plan.tables,
            writes=inner_plan.writes if analyze else (),
            here_only=here_only,
            declined=inner_plan.declined,
            parameters_max=inner_plan.parameters_max,
        )

    def copy(self, statement: Statement) -> Plan:
        body = statement.body
        found = self.facts(statement)
        incoming = bool(body.get("is_from"))
        kind = Kind.COPY_IN if incoming else Kind.COPY_OUT
        if not found.references or len(self.catalog.regions) <= 1:
            return self.finished(kind, _Decision(Home("no managed table")), found, body, False)
        if body.get("filename") or body.get("is_program"):
            raise refusal(
                "COPY to or from a file or program passes by the gateway, so it can't touch a managed table",
                hint="Use COPY … FROM STDIN and TO STDOUT (psql: \\copy).",
            )
        table = found.references[0].table
        if incoming:
            found.writes.append(table)
            self.check_writes(found)
            if "attlist" not in body:
                found.listed[body["relation"].get("location", 0)] = tuple(c.name for c in table.columns)
            decision = copy.incoming(body, table, self.catalog)
            return self.finished(kind, _Decision(*decision), found, body, False)
        options = copy.options(body)
        if "query" in body:
            inner_kind, inner_body = only(body["query"])
            if inner_kind != "SelectStmt":
                raise refusal(
                    "COPY of a statement that writes a managed table", hint="Run it with RETURNING by itself."
                )
            decision_ = self.decide(inner_kind, inner_body, found)
            texts = None
        else:
            decision_ = self.decide("SelectStmt", {}, found)
            texts = copy.as_query(self.sql, body, table, self.catalog)
        gather = decision_.gather
        if isinstance(gather, Finish):
            declined = [d.reason for d in decision_.declined if d.strategy is StrategyName.APPEND]
            gather = Refused(refusal(f"COPY TO over several regions: {declined[0]}", hint=ONE_REGION_HINT))
        elif isinstance(gather, Append) and options.format == "binary":
            gather = Refused(refusal("COPY TO in binary format over several regions", hint="Use text or csv format."))
        placement = decision_.placement
        if isinstance(placement, LookUp):
            placement = Everywhere("COPY asks all regions at once")
        decision_ = decision_._replace(placement=placement, gather=gather, detail=options)
        made = self.finished(kind, decision_, found, body, False)
        return made if texts is None else replace(made, texts=texts)

    def utility(self, statement: Statement) -> Plan:
        """DDL, LOCK, VACUUM, TRUNCATE, GRANT, CALL, DO and whatever else runs in one server."""
        found = self.facts(statement)
        tables = [r.table.name for r in found.references]
        tables += ddl.named_objects(statement, self.catalog, self.path, self.role)
        managed = [t for t in tables if self.catalog.tables[t].locality is not Locality.REGIONAL]
        regional = {self.catalog.tables[t].home for t in tables} - {None}
        if len(self.catalog.regions) > 1 and (managed or regional - {self.catalog.here}):
            name = (managed or tables)[0]
            what = ddl.command(statement.kind)
            raise refusal(
                f"{what} of {name}, a {self.catalog.tables[name].locality} table, can't be done through the gateway"
                " yet: it has to reach every region that holds the table",
                hint=EACH_REGION_HINT,
            )
        made = self.made(Kind.DDL, Home("a utility statement"), returns_rows=statement.kind == "CallStmt")
        calls = tuple(dict.fromkeys(name for name, _ in found.local_functions))
        return replace(made, calls=calls, pins=session.pins(statement, None, found))

    # --- making the plan --------------------------------------------------------------------------------------

    def names(self, found: Facts) -> tuple[Name, ...]:
        return tuple(Name(r.offset, r.parts, r.table.name, found.listed.get(r.offset, ())) for r in found.references)

    def texts(self, found: Facts) -> Texts:
        written = None
        if "groupClause" in found.scopes[0].body:
            written = text_abroad(self.sql, self.catalog, found, self.names(found))
        others = tuple(self.catalog.others())
        return Texts(self.sql, self.names(found), self.catalog.here, others, written)

    def finished(self, kind: Kind, decision: _Decision, found: Facts, body: Node, returns_rows: bool) -> Plan:
        home = isinstance(decision.placement, Home)
        return replace(
            self.made(kind, decision.placement, decision.gather, returns_rows, decision.detail),
            texts={} if home else self.texts(found),
            tables=found.tables,
            writes=tuple(dict.fromkeys(t.name for t in found.writes)),
            declined=decision.declined,
            here_only=decision.here_only,
            parameters_max=max((n for n, _ in found.parameters), default=0),
            calls=tuple(dict.fromkeys(name for name, _ in found.local_functions)),
            pins=session.pins(Statement("", body, 0, 0), decision.detail, found),
        )

    def made(
        self,
        kind: Kind,
        placement: Placement,
        gather: Gather | None = None,
        returns_rows: bool = False,
        detail: object = None,
    ) -> Plan:
        return Plan(
            kind,
            self.sql,
            placement,
            gather or Append(),
            returns_rows=returns_rows or kind is Kind.SHOW,
            detail=detail,
            role=self.role,
            catalog_version=self.catalog.version,
        )


_VERBS = {"UpdateStmt": "UPDATE", "DeleteStmt": "DELETE", "MergeStmt": "MERGE", "InsertStmt": "INSERT"}


def _names(proof: Proof) -> list[str]:
    return list(dict.fromkeys(s.table.name.name for s in proof.sources if s.table))


def _single(key: Key) -> bool:
    """True for a key that names one region at most, whatever the values."""
    return len(key.sources) == 1 and not (isinstance(key.sources[0], Parameter) and key.sources[0].array)


def _lives_somewhere(table: Table | None) -> bool:
    return table is not None and table.locality is not Locality.GLOBAL


def _groups(body: Node) -> bool:
    return any(k in body for k in ("groupClause", "havingClause", "distinctClause"))


def _looks_at_more(body: Node, top: Scope) -> bool:
    return top.aggregates or _groups(body) or any(k in body for k in ("sortClause", "limitCount", "limitOffset"))


def _declined(reasons: Sequence[tuple[StrategyName, Decline]]) -> tuple[Declined, ...]:
    return tuple(Declined(name, reason.reason) for name, reason in reasons)
