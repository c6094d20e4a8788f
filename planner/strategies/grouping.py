"""GROUP BY: what is grouped by, and the columns that depend on it.

PostgreSQL lets a query select columns that are not grouped by where the primary key is. It knows no key of a view, and
abroad a table is a view: there such columns are added to GROUP BY, which changes no group.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from ...catalog.snapshot import Catalog
from .. import functions
from ..refusal import Decline
from ..resolve import Facts
from ..splice import Name
from .order import target_of
from .tree import Types, ast, expanded, printed, select, walk, with_names_abroad


def grouped_by(statement: Any, targets: Sequence[Any], types: Types) -> list[Any]:
    """The expressions of GROUP BY, numbers and names of targets looked up. Raises Decline for grouping sets."""
    groups: list[Any] = []
    if statement.groupDistinct:
        raise Decline("GROUP BY DISTINCT")
    for item in statement.groupClause or ():
        if isinstance(item, ast.GroupingSet):
            raise Decline("GROUPING SETS, ROLLUP or CUBE")
        node = item
        # a name is first a column's, and only then that of a target
        if not (isinstance(item, ast.ColumnRef) and types.column(item) is not None):
            place = target_of(item, targets, aliases_first=True)
            node = targets[place].val if place is not None else item
        if any(is_aggregate(n) for n in walk(node)):
            raise Decline("an aggregate in GROUP BY")
        if isinstance(node, ast.ParamRef | ast.A_Const):
            raise Decline("GROUP BY a constant")
        if node not in groups:
            groups.append(node)
    return groups


def is_aggregate(node: Any) -> bool:
    if isinstance(node, ast.JsonObjectAgg | ast.JsonArrayAgg):
        return True
    return isinstance(node, ast.FuncCall) and node.funcname[-1].sval in functions.AGGREGATES


def place_of(node: Any, groups: Sequence[Any], types: Types) -> int | None:
    """Which of the groups the node is: the same expression, or the same column by another name."""
    if not isinstance(node, ast.Node) or isinstance(node, ast.String):
        return None
    if node in groups:
        return groups.index(node)
    owner = types.owner(node)
    if owner is None:
        return None
    return next((i for i, group in enumerate(groups) if types.owner(group) == owner), None)


def dependent(nodes: Sequence[Any], groups: Sequence[Any], types: Types) -> list[Any]:
    """The columns in the nodes, outside of aggregates, that are not grouped by but belong to a row whose primary key
    is. Raises Decline for any other column that is not grouped by."""
    found: list[Any] = []
    keys = {types.owner(group) for group in groups}
    for column in _ungrouped(nodes, groups, types):
        owner = types.owner(column)
        if owner is None or place_of(column, found, types) is not None:
            if owner is None:
                raise ungrouped(column)
            continue
        table = owner[0].table
        if table is None or not table.primary_key or not all((owner[0], c) in keys for c in table.primary_key):
            raise ungrouped(column)
        found.append(column)
    return found


def _ungrouped(nodes: Any, groups: Sequence[Any], types: Types) -> Iterator[Any]:
    if isinstance(nodes, list | tuple):
        for node in nodes:
            yield from _ungrouped(node, groups, types)
    elif isinstance(nodes, ast.Node) and not is_aggregate(nodes) and place_of(nodes, groups, types) is None:
        if isinstance(nodes, ast.ColumnRef):
            yield nodes
        elif not isinstance(nodes, ast.SubLink):
            yield from _ungrouped([getattr(nodes, name) for name in nodes], groups, types)


def ungrouped(column: Any) -> Decline:
    name = ".".join(getattr(f, "sval", "*") for f in column.fields)
    return Decline(f"{name} is neither grouped by nor in an aggregate", f"Add {name} to GROUP BY.")


def text_abroad(sql: str, catalog: Catalog, facts: Facts, found: Sequence[Name]) -> str | None:
    """The statement for other regions with dependent columns added to its GROUP BY; None where there are none."""
    try:
        statement = select(sql)
        types = Types(facts)
        targets = expanded(statement, facts)
        groups = grouped_by(statement, targets, types)
        sorts = [item.node for item in statement.sortClause or () if target_of(item.node, targets, True) is None]
        more = dependent([*(t.val for t in targets), statement.havingClause, *sorts], groups, types)
        if not more:
            return None
        statement.groupClause = (*statement.groupClause, *more)
        return printed(with_names_abroad(statement, sql, found, catalog.here))
    except Decline:
        return None  # then the client's own text goes, and PostgreSQL says what it thinks of it
