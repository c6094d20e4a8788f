"""Rows move home whole: parents with children, no row lost or doubled, wherever a run is stopped."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import psycopg
import pytest

from domicile import init
from domicile.catalog.errors import DomicileError
from domicile.embedded import EmbeddedServer
from domicile.move import move_home, resume
from domicile.shop import load
from domicile.shop.generate import Shop
from tests.conftest import Database, MakeDatabase

REGIONS = {"us": "CCPA", "eu": "GDPR", "ap": "PDPA"}
CUSTOMERS = 60


@pytest.fixture
def databases(three_servers: Mapping[str, EmbeddedServer], make_database: MakeDatabase) -> dict[str, Database]:
    """The shop, all of it in us, pinned and not moved yet."""
    shop = Shop(CUSTOMERS)
    made = {}
    for name, server in three_servers.items():
        made[name] = make_database(server, name="shop")
        with made[name].connect() as connection:
            load.create_roles(connection, {role: role for role in load.ROLES})
            load.create_tables(connection)
            load.fill(connection, shop, load.EVERYWHERE + (load.PINNED if name == "us" else ()))
            init.install(made[name].dsn, region=name, regions=REGIONS)
            connection.execute(load.script("localities").encode())
    return made


@pytest.fixture
def connect(databases: dict[str, Database]) -> Iterator[Callable[[], dict[str, psycopg.Connection[Any]]]]:
    opened: list[psycopg.Connection[Any]] = []

    def connect() -> dict[str, psycopg.Connection[Any]]:
        made = {name: database.connect() for name, database in databases.items()}
        opened.extend(made.values())
        return made

    yield connect
    for connection in opened:
        connection.close()


def ids(databases: Mapping[str, Database], table: str, key: str = "id") -> dict[str, list[Any]]:
    return {name: [r[0] for r in d.run_sql(f"select {key} from {table}")] for name, d in databases.items()}


@pytest.mark.parametrize("at_once", [False, True])
def test_every_row_goes_home_with_its_children(databases, connect, at_once: bool) -> None:
    c = connect()
    more = databases["us"].connect if at_once else None
    moved = move_home(c.pop("us"), c, batch_rows=7, connect_here=more)
    shop = Shop(CUSTOMERS)
    home = dict(shop.country_region())
    expected = {r: sorted(row[0] for row in shop.customers() if home[row[1]] == r) for r in REGIONS}
    assert {r: sorted(v) for r, v in ids(databases, "customers").items()} == expected
    assert moved["customers"] == {r: len(expected[r]) for r in ("eu", "ap")}
    for name, database in databases.items():
        assert database.run_sql(
            "select count(*) from orders o left join customers c on c.id = customer_id where c.id is null"
        ) == [(0,)]
        assert database.run_sql("select bool_and(state = 'open') from domicile.locality") == [(True,)], name
    rows = sorted(row for d in databases.values() for row in d.run_sql("select order_id, line from order_items"))
    assert rows == sorted((row[0], row[1]) for row in shop.order_items())
    clear = {row[0]: row for row in shop.customers()}
    for row in databases["eu"].run_sql("select * from customers"):
        assert row == clear[row[0]]


def test_nothing_is_left_to_move_the_second_time(databases, connect) -> None:
    c = connect()
    us = c.pop("us")
    move_home(us, c)
    assert move_home(us, c) == {}


class Stopping:
    """A connection on which the Nth thing that is done is never done: the process was killed just before it."""

    class Killed(Exception):
        pass

    def __init__(self, connection: psycopg.Connection[Any], count: list[int]) -> None:
        self._connection = connection
        self._count = count

    def __getattr__(self, name: str) -> Any:
        if name in ("execute", "cursor", "transaction"):
            self._count[0] -= 1
            if self._count[0] < 0:
                raise self.Killed
        return getattr(self._connection, name)


def test_a_run_that_is_stopped_anywhere_is_taken_up(databases, connect) -> None:
    for stop_after in range(400):
        c = connect()
        count = [stop_after]
        wrapped = {name: Stopping(connection, count) for name, connection in c.items()}
        try:
            move_home(wrapped.pop("us"), wrapped, batch_rows=9)  # type: ignore[arg-type]
            finished = True
        except Stopping.Killed:
            finished = False
        for connection in c.values():
            connection.close()
        for table in ("customers", "orders"):
            everywhere = [i for rows in ids(databases, table).values() for i in rows]
            assert len(set(everywhere)) == len(everywhere), f"a row of {table} is in two homes"
        if finished:
            break
    assert finished
    assert stop_after > 20  # batches were stopped in their middle, not only between
    assert sorted(i for rows in ids(databases, "customers").values() for i in rows) == list(range(1, CUSTOMERS + 1))
    assert sorted(i for rows in ids(databases, "orders").values() for i in rows) == list(range(1, CUSTOMERS + 1))
    for database in databases.values():
        assert database.run_sql("select count(*) from pg_prepared_xacts") == [(0,)]
    assert databases["us"].run_sql("select count(*) from domicile.move_decision where moved") == [(0,)]


def test_a_prepared_batch_that_was_not_decided_goes_back(databases, connect) -> None:
    c = connect()
    c["eu"].execute("begin")
    c["eu"].execute("insert into countries values ('X1', 'left behind')")
    c["eu"].execute("prepare transaction 'domicile move us eu left'")
    c["eu"].execute("begin")
    c["eu"].execute("insert into countries values ('X2', 'not ours')")
    c["eu"].execute("prepare transaction 'somebody else''s'")
    us = c.pop("us")
    assert resume(us, c) == 1
    assert c["eu"].execute("select gid from pg_prepared_xacts").fetchall() == [("somebody else's",)]
    c["eu"].execute("rollback prepared 'somebody else''s'")


def test_a_table_that_would_lose_its_rows_is_named(databases, connect) -> None:
    databases["us"].run_sql(
        "create table reviews (id int primary key, customer bigint references customers on delete cascade)"
    )
    c = connect()
    with pytest.raises(DomicileError, match="table reviews refers to customers ON DELETE") as error:
        move_home(c.pop("us"), c)
    assert error.value.hint is not None
    assert len(ids(databases, "customers")["us"]) == CUSTOMERS


def test_a_region_that_is_not_reached_is_named(databases, connect) -> None:
    c = connect()
    c.pop("ap")
    with pytest.raises(DomicileError, match="at home in ap"):
        move_home(c.pop("us"), c)
