"""ORDER BY over rows of several regions: the keys, and how the final statement sorts by them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from ..refusal import Decline
from .tree import Types, ast, column_name, enums, walk


class SortKey(NamedTuple):
    """One key of ORDER BY: the target it is (from 0), or an expression of its own, and how it is sorted."""

    target: int | None
    node: Any  #: without its COLLATE
    collation: Any  #: its CollateClause's name, or None
    item: Any  #: the SortBy node that it came from


def sort_keys(statement: Any, targets: Sequence[Any], types: Types) -> list[SortKey]:
    """The keys of ORDER BY. Raises Decline for one by which rows of several regions can't be sorted surely."""
    return [_sort_key(item, targets, types) for item in statement.sortClause or ()]


def _sort_key(item: Any, targets: Sequence[Any], types: Types) -> SortKey:
    if item.sortby_dir == enums.SortByDir.SORTBY_USING:
        raise Decline("ORDER BY … USING an operator")
    node, collation = item.node, None
    place = target_of(node, targets, aliases_first=True)
    if place is None and isinstance(node, ast.CollateClause):
        node, collation = node.arg, node.collname
        place = target_of(node, targets, aliases_first=False)
    check_comparable(targets[place].val if place is not None else node, types, collation is not None)
    return SortKey(place, node, collation, item)


def by_place(key: SortKey, place: int) -> Any:
    """The key as a position of the select list, from 1: in a fragment a name may mean something else."""
    return _sorted_by(key, ast.A_Const(isnull=False, val=ast.Integer(ival=place)))


def by_node(key: SortKey, node: Any) -> Any:
    """The key as an expression, under its own collation."""
    return _sorted_by(key, node if key.collation is None else ast.CollateClause(arg=node, collname=key.collation))


def _sorted_by(key: SortKey, node: Any) -> Any:
    kept = {n: getattr(key.item, n) for n in key.item}
    return ast.SortBy(**{**kept, "node": node})


def target_of(node: Any, targets: Sequence[Any], aliases_first: bool) -> int | None:
    """Which target an item of ORDER BY is: by its number, its name, or by being the same expression.

    Raises Decline for a name that several targets have.
    """
    if isinstance(node, ast.A_Const):
        if isinstance(node.val, ast.Integer):
            if not 1 <= node.val.ival <= len(targets):
                raise Decline(f"position {node.val.ival} is not in the select list")
            return int(node.val.ival) - 1
        raise Decline("a constant in ORDER BY or GROUP BY")
    if aliases_first and isinstance(node, ast.ColumnRef) and len(node.fields) == 1:
        named = [i for i, t in enumerate(targets) if column_name(t) == node.fields[0].sval]
        if any(targets[i].val != targets[named[0]].val for i in named):
            raise Decline(f"{node.fields[0].sval} is the name of several columns")
        if named:
            return named[0]
    return next((i for i, t in enumerate(targets) if t.val == node), None)


def check_comparable(node: Any, types: Types, collated: bool = False) -> None:
    """Raises Decline where two regions, or the final statement, may compare the values differently."""
    if isinstance(node, ast.CollateClause):
        return
    column = types.column(node)
    if column is not None and not column.deterministic and not collated:
        raise Decline(
            f"{column.name} has a non-deterministic collation, in which regions may differ",
            f'Sort by {column.name} COLLATE "C".',
        )
    for inner in _parts(node):
        column = types.column(inner)
        if column is not None and not column.deterministic:
            raise Decline(f"{column.name} has a non-deterministic collation, in which regions may differ")


def _parts(node: Any) -> list[Any]:
    return [n for n in walk(node) if n is not node]
