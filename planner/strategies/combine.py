"""combine: each region adds up its own rows, the home region's PostgreSQL adds up the sums.

Types are PostgreSQL's own: `sum` of partial counts would be numeric where the client must get bigint, so the types of
what is summed must be known here.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ...catalog.snapshot import Catalog
from ..plan import Finish, StrategyName
from ..refusal import Decline
from ..resolve import Facts
from ..splice import Name
from .grouping import dependent, grouped_by, is_aggregate, place_of, ungrouped
from .order import by_node, by_place, check_comparable, sort_keys
from .tree import (
    ROWS,
    Parameters,
    Types,
    ast,
    carried,
    check_limits,
    column_name,
    copy_limits,
    enums,
    expanded,
    expression,
    fragments,
    parsed,
    printed,
    row_column,
    rows_from,
    select,
    transform,
    walk,
)

SAME_AGAIN = frozenset({"min", "max", "bool_and", "bool_or", "every", "bit_and", "bit_or", "bit_xor", "any_value"})
"""Aggregates whose partial results are put together by the aggregate itself."""

_INTEGERS = ("smallint", "integer")


def combine(sql: str, catalog: Catalog, facts: Facts, found: Sequence[Name]) -> Finish:
    """For DISTINCT, GROUP BY, HAVING and aggregates that can be added up. Raises Decline naming the construct that
    can't."""
    return _Combination(sql, facts).finish(catalog, found)


class _Combination:
    def __init__(self, sql: str, facts: Facts) -> None:
        self.sql, self.facts, self.types = sql, facts, Types(facts)
        self.statement: Any = select(sql)
        self.columns: list[Any] = []  #: what the fragments select
        self.groups: list[Any] = []  #: the first of them: what is grouped by
        self.casts: list[str | None] = []  #: of each group, where it travels as text

    def finish(self, catalog: Catalog, found: Sequence[Name]) -> Finish:
        statement = self.statement
        check_limits(statement)
        outside = [statement.targetList, statement.havingClause, statement.sortClause]
        if statement.windowClause or any(getattr(n, "over", None) is not None for n in walk(outside)):
            raise Decline("a window function")
        targets = expanded(statement, self.facts)
        names = [column_name(t) for t in targets]
        grouped = bool(statement.groupClause) or self.facts.scopes[0].aggregates or statement.havingClause is not None
        distinct = statement.distinctClause is not None
        if distinct and any(item is not None for item in statement.distinctClause):
            raise Decline("DISTINCT ON")
        if not grouped and not distinct:
            raise Decline("nothing is added up")
        keys = sort_keys(statement, targets, self.types)
        self.groups, more = [t.val for t in targets], list[Any]()
        if grouped:
            self.groups = grouped_by(statement, targets, self.types)
            read = [
                *(t.val for t in targets),
                statement.havingClause,
                *(key.node for key in keys if key.target is None),
            ]
            more = dependent(read, self.groups, self.types)
        for node in self.groups:
            self.check_travels(node)
            check_comparable(node, self.types)
        carriers = [carried(node, self.types) for node in more]
        self.columns = [*self.groups, *(node for node, _ in carriers)]
        self.casts = [*(None for _ in self.groups), *(cast for _, cast in carriers)]
        self.groups += more
        rewritten = [self.rewritten(t.val) for t in targets]
        having = self.rewritten(statement.havingClause) if statement.havingClause is not None else None
        order = []
        for key in keys:
            if distinct and (key.target is None or key.collation is not None):
                raise Decline("ORDER BY of SELECT DISTINCT sorts by what it does not select")
            if key.target is not None and key.collation is None:
                order.append(by_place(key, key.target + 1))
            else:
                node = self.rewritten(key.node if key.target is None else targets[key.target].val)
                if isinstance(node, ast.A_Const | ast.ParamRef):
                    raise Decline("ORDER BY a constant")
                order.append(by_node(key, node))
        if not self.columns:
            raise Decline("nothing is added up")
        parameters = Parameters(len(self.columns))
        final = rows_from(len(self.columns))
        final.targetList = tuple(
            ast.ResTarget(name=name, val=parameters.renumbered(node))
            for name, node in zip(names, rewritten, strict=True)
        )
        final.distinctClause = statement.distinctClause
        if grouped and self.groups:
            final.groupClause = tuple(row_column(i) for i in range(1, len(self.groups) + 1))
        final.havingClause = parameters.renumbered(having)
        final.sortClause = parameters.renumbered(order) or None
        copy_limits(statement, final, parameters)
        return Finish(
            StrategyName.COMBINE,
            fragments(self.fragment(grouped), self.sql, catalog, found),
            len(self.columns),
            printed(final),
            tuple(parameters.needed),
        )

    def fragment(self, grouped: bool) -> Any:
        """What each region runs: the groups and the partial results, nothing sorted or cut."""
        statement = self.statement
        statement.targetList = tuple(ast.ResTarget(val=node) for node in self.columns)
        statement.groupClause = None
        if self.groups and grouped:
            statement.groupClause = tuple(
                ast.A_Const(isnull=False, val=ast.Integer(ival=i)) for i in range(1, len(self.groups) + 1)
            )
        statement.distinctClause = None if grouped else statement.distinctClause
        statement.havingClause = statement.sortClause = statement.limitCount = statement.limitOffset = None
        statement.limitOption = enums.LimitOption.LIMIT_OPTION_DEFAULT
        return statement

    def check_travels(self, node: Any) -> None:
        if carried(node, self.types)[1] is not None:
            raise Decline("grouping by an array, or its least or greatest")

    # --- expressions ------------------------------------------------------------------------------------------

    def rewritten(self, node: Any) -> Any:
        """The expression over the columns of the fragments' rows."""
        return transform(node, self.change)

    def change(self, node: Any) -> Any:
        place = place_of(node, self.groups, self.types)
        if place is not None:
            cast = self.casts[place]
            return row_column(place + 1) if cast is None else parsed(f"{ROWS}.c{place + 1}::{cast}")
        if isinstance(node, ast.GroupingFunc):
            raise Decline("GROUPING")
        if isinstance(node, ast.SubLink):
            raise Decline("a subquery beside aggregates")
        if isinstance(node, ast.JsonObjectAgg | ast.JsonArrayAgg):
            raise Decline("JSON_OBJECTAGG or JSON_ARRAYAGG")
        if isinstance(node, ast.FuncCall) and (is_aggregate(node) or node.over is not None):
            return self.aggregate(node)
        if isinstance(node, ast.ColumnRef):
            raise ungrouped(node)
        return None

    def partial(self, node: Any) -> str:
        """The name of the fragments' column that holds a partial result."""
        if node in self.columns[len(self.groups) :]:
            return f"{ROWS}.c{self.columns.index(node, len(self.groups)) + 1}"
        self.columns.append(node)
        return f"{ROWS}.c{len(self.columns)}"

    def aggregate(self, node: Any) -> Any:
        name = str(node.funcname[-1].sval)
        if node.over is not None:
            raise Decline("a window function")
        if node.agg_distinct:
            raise Decline(f"{name}(DISTINCT …)")
        if node.agg_within_group or node.func_variadic:
            raise Decline(f"{name}")
        if node.agg_order:
            raise Decline(f"{name}(… ORDER BY …)")
        if name == "count":
            return parsed(f"coalesce(pg_catalog.sum({self.partial(node)}), 0)::pg_catalog.int8")
        arguments: Any = node.args or ()
        if name in SAME_AGAIN and len(arguments) == 1:
            self.check_travels(arguments[0])
            if name in ("min", "max"):
                check_comparable(arguments[0], self.types)
                if any(isinstance(n, ast.CollateClause) for n in walk(arguments[0])):
                    raise Decline(f"{name} under COLLATE")
            return parsed(f"pg_catalog.{name}({self.partial(node)})")
        if name in ("sum", "avg") and len(arguments) == 1:
            return self.sum_or_avg(name, node, self.summed_type(name, arguments[0]))
        raise Decline(
            f"{name}",
            "Aggregates that can be added up are count, sum, avg, min, max,"
            " bool_and, bool_or, every, bit_and, bit_or, bit_xor and any_value.",
        )

    def summed_type(self, name: str, argument: Any) -> str:
        known = self.types.of(argument)
        if known in (*_INTEGERS, "bigint", "numeric", "real", "double precision", "interval"):
            return str(known)
        if known == "money" and name == "sum":
            return known
        shown = expression(argument)
        raise Decline(f"the type of {name}({shown}) is not known", f"Say it: {name}(({shown})::numeric).")

    def sum_or_avg(self, name: str, node: Any, known: str) -> Any:
        if name == "sum":
            total = f"pg_catalog.sum({self.partial(node)})"
            return parsed(f"{total}::pg_catalog.int8" if known in _INTEGERS else total)
        argument = node.args[0]
        if known == "real":  # avg adds reals up in double precision, sum does not
            argument = parsed(f"({expression(argument)})::pg_catalog.float8")
        total = f"pg_catalog.sum({self.partial(_called(node, 'sum', argument))})"
        count = f"nullif(pg_catalog.sum({self.partial(_called(node, 'count', node.args[0]))}), 0)"
        if known in ("real", "double precision", "interval"):
            return parsed(f"({total} / {count}::pg_catalog.float8)")
        return parsed(f"({total} / {count})")


def _called(node: Any, name: str, argument: Any) -> Any:
    """The aggregate call with another function and argument, its FILTER kept."""
    kept = {n: getattr(node, n) for n in node}
    return ast.FuncCall(**{**kept, "funcname": (ast.String("pg_catalog"), ast.String(name)), "args": (argument,)})
