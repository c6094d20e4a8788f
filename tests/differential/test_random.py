"""Queries made at random: what a gateway answers is what one PostgreSQL would, or it is refused with 0A000.

A seed in a test's name makes its queries again.
"""

from __future__ import annotations

from collections import Counter

import pytest

from tests.differential.compare import difference
from tests.differential.drivers import connect
from tests.differential.queries import Queries
from tests.differential.world import World

QUERIES = 250
QUERIES_LONG = 4_000
ANSWERED_MIN = 0.85
"""The share that must be answered: a planner that refuses all would never be wrong."""


def compare(world: World, region: str, how: str, seed: int, count: int) -> tuple[list[str], Counter[str]]:
    """The differences that `count` queries of the seed show, and how many were answered, refused or no SQL at all."""
    oracle, subject = connect(world.oracle_dsn, how), connect(world.regions[region].gateway_dsn(), how)
    queries, wrong, seen = Queries(seed), [], Counter[str]()
    try:
        for number in range(count):
            query = queries.next()
            truth = oracle.ask(query.text, query.values)
            got = subject.ask(query.text, query.values)
            if got.refused:
                seen["refused"] += 1
                continue
            seen["answered" if not truth.sqlstate else truth.sqlstate] += 1
            found = difference(query.text, got, truth)
            if found:
                wrong.append(f"{number}: {query.text} {query.values or ''}\n    {found}")
    finally:
        oracle.close()
        subject.close()
    return wrong, seen


def check(world: World, region: str, how: str, seed: int, count: int) -> None:
    wrong, seen = compare(world, region, how, seed, count)
    assert not wrong, f"{len(wrong)} differ, {dict(seen)}\n" + "\n".join(wrong[:20])
    assert seen["answered"] > ANSWERED_MIN * count, dict(seen)


@pytest.mark.parametrize(("region", "how", "seed"), [("us", "text", 1), ("eu", "binary", 2), ("ap", "asyncpg", 3)])
def test_queries_at_random(world: World, region: str, how: str, seed: int) -> None:
    check(world, region, how, seed, QUERIES)


@pytest.mark.long
@pytest.mark.parametrize("seed", range(100, 104))
@pytest.mark.parametrize(("region", "how"), [("us", "binary"), ("eu", "text"), ("ap", "prepared")])
def test_many_queries_at_random(world: World, region: str, how: str, seed: int) -> None:
    check(world, region, how, seed, QUERIES_LONG)
