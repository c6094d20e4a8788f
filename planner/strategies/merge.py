"""merge: each region sorts and cuts its rows, the home region's PostgreSQL sorts and cuts them all."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ...catalog.names import quote_identifier
from ...catalog.snapshot import Catalog
from ..plan import Finish, StrategyName
from ..refusal import Decline
from ..resolve import Facts
from ..splice import Name
from .order import sort_item, sort_keys
from .tree import (
    Parameters,
    Types,
    ast,
    carried,
    check_limits,
    column_name,
    enums,
    expanded,
    fragments,
    limit_clauses,
    pushed_limit,
    rows_from,
    select,
)


def merge(sql: str, catalog: Catalog, facts: Facts, found: Sequence[Name]) -> Finish:
    """For ORDER BY, LIMIT and OFFSET over rows that are answers by themselves. Raises Decline for anything else."""
    statement: Any = select(sql)
    if facts.scopes[0].aggregates:
        raise Decline("an aggregate or a window function sees rows of all regions")
    if statement.distinctClause or statement.groupClause or statement.havingClause:
        raise Decline("DISTINCT or GROUP BY gathers rows of all regions")
    if statement.windowClause:
        raise Decline("a window sees rows of all regions")
    check_limits(statement)
    types = Types(facts)
    targets = expanded(statement, facts)
    names = [column_name(t) for t in targets]
    carriers = [carried(t.val, types) for t in targets]
    keys = sort_keys(statement, targets, types)
    items: list[Any] = []
    columns, order = [ast.ResTarget(val=node) for node, _ in carriers], []
    for item, key in zip(statement.sortClause or (), keys, strict=True):
        place = key.target
        if place is None or carriers[place][1] != "{}":
            node = key.node if place is None else targets[place].val
            if isinstance(node, ast.ParamRef | ast.A_ArrayExpr):
                raise Decline("ORDER BY a parameter or an array")
            if carried(node, types)[1] != "{}":
                raise Decline("ORDER BY an array")
            place = len(columns)
            columns.append(ast.ResTarget(val=node))
        order.append(f"c{place + 1}{key.suffix}")
        items.append(sort_item(item, None if key.collated else place))
    limit = pushed_limit(statement)
    parameters = Parameters()
    parameters.width = len(columns)
    shown = (around.format(f"c{i}") for i, (_, around) in enumerate(carriers, 1))
    final = f"SELECT {', '.join(f'{c} AS {quote_identifier(n)}' for c, n in zip(shown, names, strict=True))}"
    final += f" FROM {rows_from(len(columns))}"
    final += f" ORDER BY {', '.join(order)}" if order else ""
    final += limit_clauses(statement, parameters)
    statement.targetList = tuple(columns)
    statement.sortClause = tuple(items) or None
    statement.limitOffset = None
    statement.limitCount = limit
    if limit is None:
        # nothing is cut, so nothing need be sorted there
        statement.sortClause = None
        statement.limitOption = enums.LimitOption.LIMIT_OPTION_DEFAULT
    return Finish(
        StrategyName.MERGE,
        fragments(statement, sql, catalog, found),
        len(columns),
        final,
        tuple(parameters.needed),
    )
