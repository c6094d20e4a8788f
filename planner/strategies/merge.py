"""merge: each region sorts and cuts its rows, the home region's PostgreSQL sorts and cuts them all."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ...catalog.snapshot import Catalog
from ..plan import Finish, StrategyName
from ..refusal import Decline
from ..resolve import Facts
from ..splice import Name
from .order import by_node, by_place, sort_keys
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
    fragments,
    parsed,
    printed,
    pushed_limit,
    row_column,
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
    columns = [ast.ResTarget(val=node) for node, _ in carriers]
    there, here = [], []  # ORDER BY of the fragments and of the final statement
    for key in sort_keys(statement, targets, types):
        place = key.target
        if place is None or carriers[place][1] is not None:
            node = key.node if place is None else targets[place].val
            if isinstance(node, ast.ParamRef | ast.A_ArrayExpr) or carried(node, types)[1] is not None:
                raise Decline("ORDER BY a parameter or an array")
            place = len(columns)
            columns.append(ast.ResTarget(val=node))
        there.append(by_place(key, place + 1) if key.collation is None else key.item)
        here.append(by_node(key, row_column(place + 1)))
    parameters = Parameters(len(columns))
    final = rows_from(len(columns))
    final.targetList = tuple(
        ast.ResTarget(name=name, val=row_column(i) if cast is None else parsed(f"{ROWS}.c{i}::{cast}"))
        for i, (name, (_, cast)) in enumerate(zip(names, carriers, strict=True), 1)
    )
    final.sortClause = tuple(here) or None
    copy_limits(statement, final, parameters)
    statement.targetList = tuple(columns)
    statement.sortClause = tuple(there) or None
    statement.limitCount = pushed_limit(statement)
    statement.limitOffset = None
    if statement.limitCount is None:
        # nothing is cut, so nothing need be sorted there
        statement.sortClause = None
        statement.limitOption = enums.LimitOption.LIMIT_OPTION_DEFAULT
    return Finish(
        StrategyName.MERGE,
        fragments(statement, sql, catalog, found),
        len(columns),
        printed(final),
        tuple(parameters.needed),
    )
