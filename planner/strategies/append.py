"""append: rows pass as they come, regions in any order."""

from __future__ import annotations

from ..keys import Proof
from ..parse import Node
from ..plan import Append
from ..refusal import Decline
from ..resolve import Facts, Scope


def append(body: Node, top: Scope, facts: Facts, proof: Proof) -> Append:
    """Append, where each row of the answer comes from one region by itself. Raises Decline with the construct that
    looks at more than one row."""
    co_located(facts, proof)
    for field, what in _OVER_ROWS:
        if field in body:
            raise Decline(what)
    if top.aggregates:
        raise Decline("an aggregate or a window function sees rows of all regions")
    return Append()


_OVER_ROWS = (
    ("distinctClause", "DISTINCT compares rows of all regions"),
    ("groupClause", "GROUP BY gathers rows of all regions"),
    ("havingClause", "HAVING looks at rows of all regions"),
    ("sortClause", "ORDER BY sorts rows of all regions"),
    ("limitCount", "LIMIT counts rows of all regions"),
    ("limitOffset", "OFFSET counts rows of all regions"),
    ("windowClause", "a window sees rows of all regions"),
)


def co_located(facts: Facts, proof: Proof) -> None:
    """Raises Decline unless every region can answer for its own rows alone."""
    if facts.locking:
        raise Decline("FOR UPDATE and its like lock rows in one region only")
    if facts.recursive:
        raise Decline("WITH RECURSIVE may walk from one region's rows to another's")
    if any(s.sampled for s in proof.sources):
        raise Decline("TABLESAMPLE samples one region's table")
    if proof.root is not None:
        return
    source = proof.unproven or proof.sources[-1]
    assert source.table is not None
    name = source.table.name.name
    role = source.scope.role
    if role == "cte":
        raise Decline(f"{name} is read in a WITH that looks at rows of all regions, or is itself read more than once")
    if role == "branch":
        raise Decline(f"{name} is read in UNION, INTERSECT or EXCEPT, which puts rows of all regions together")
    if role in ("from", "lateral"):
        raise Decline(f"{name} is read in a subquery of FROM that looks at rows of all regions")
    if role == "link":
        raise Decline(f"{name} is read in a subquery that is not tied to the rows around it")
    if source.nullable:
        raise Decline(f"an outer join would make up rows for {name} in each region")
    others = sorted({s.table.name.name for s in proof.sources if s.table and s is not source})
    raise Decline(
        f"{name} is not shown to live together with {', '.join(others)}",
        "Join the tables on the key that pins one with the other.",
    )
