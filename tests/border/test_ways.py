"""Each way of ways.py, from three places: straight at us's server, at us's guard, through eu's own gateway."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import psycopg
import pytest

from .conftest import Border, ask, found
from .ways import WAYS, Way

pytestmark = pytest.mark.usefixtures("careless")

each_way = pytest.mark.parametrize("way", WAYS, ids=lambda way: way.name)

REFUSED_BY_GUARD = {"0A000", "42501", "42601", "54000"}
"""What a guard says; a statement that it admits is refused by the database behind it with one of the way's own."""


@pytest.fixture(scope="module")
def direct(border: Border) -> Iterator[psycopg.Connection[Any]]:
    with border.direct() as connection:
        yield connection


@pytest.fixture(scope="module")
def guard(border: Border) -> Iterator[psycopg.Connection[Any]]:
    with border.guard() as connection:
        yield connection


@pytest.fixture
def gateway(border: Border) -> Iterator[psycopg.Connection[Any]]:
    with border.gateway() as connection:
        yield connection


def test_the_canaries_are_there(border: Border, hidden: int) -> None:
    """No test of what is not found is one, unless it could be."""
    with border.federation.connect("us") as home:
        answer = ask(home, f"select * from customers where id = {hidden}")
    assert len(found(answer.text)) == 4
    with border.owner() as owner:
        assert found(ask(owner, "select public.leak()").text)
        assert found(ask(owner, "select * from pg_stats where tablename = 'customers'").text)


@each_way
def test_straight_at_the_server(way: Way, direct: psycopg.Connection[Any]) -> None:
    for statement in way.statements:
        answer = ask(direct, statement)
        assert found(answer.text) == [], statement
        if not way.harmless and not way.open_here:
            assert answer.sqlstate in way.refused, (statement, answer)


@each_way
def test_at_the_guard(way: Way, guard: psycopg.Connection[Any]) -> None:
    for statement in way.statements:
        answer = ask(guard, statement)
        assert found(answer.text) == [], statement
        if not way.harmless:
            assert answer.sqlstate in REFUSED_BY_GUARD | way.refused, (statement, answer)


@each_way
def test_through_the_other_regions_gateway(way: Way, gateway: psycopg.Connection[Any]) -> None:
    for statement in way.statements:
        assert found(ask(gateway, statement).text) == [], statement
