"""Money moves between regions while the gateway's node is killed: none is made or lost, and nothing stays prepared."""

from __future__ import annotations

import contextlib
import random
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
import tenacity
from psycopg import errors

from domicile.demo.regions import DATABASE
from tests.differential.world import World, running

TOTAL = 3 * 8 * 1000
TELLERS = 4


@pytest.fixture(scope="module")
def bank(servers_folder: Path) -> Iterator[World]:
    with running(servers_folder / "bank") as made:
        yield made


def total(world: World) -> int:
    """Over all regions, by their own servers."""
    query = "select coalesce(sum(amount), 0)::int8 from accounts"
    return sum(region.server.run_sql(query, database=DATABASE)[0][0] for region in world.regions.values())


@tenacity.retry(
    retry=tenacity.retry_if_exception_type(AssertionError),
    stop=tenacity.stop_after_attempt(160),
    wait=tenacity.wait_fixed(0.25),
    reraise=True,
)
def nothing_stays_prepared(world: World) -> None:
    assert world.prepared() == []


def teller(world: World, seed: int, closed: threading.Event, done: list[int]) -> None:
    """Moves money between accounts of different regions until the bank closes. Reconnects when its gateway is gone."""
    choose = random.Random(seed)
    while not closed.is_set():
        with contextlib.suppress(psycopg.Error), world.connect("us") as connection:
            connection.execute("set lock_timeout = '2s'")
            while not closed.is_set():
                # In the order of the regions: a cycle of waits over regions is another test's matter.
                giver, taker = sorted(choose.sample(("us", "eu", "ap"), 2))
                amount = choose.randint(-20, 20)
                update = "update accounts set amount = amount + %s where region = %s and id = %s"
                with connection.transaction():
                    connection.execute(update, (-amount, giver, choose.randint(1, 8)))
                    connection.execute(update, (amount, taker, choose.randint(1, 8)))
                done[0] += 1
        time.sleep(0.05)


def crash(world: World, times: int, seed: int) -> None:
    closed, done = threading.Event(), [0]
    tellers = [threading.Thread(target=teller, args=(world, seed + n, closed, done)) for n in range(TELLERS)]
    for each in tellers:
        each.start()
    choose = random.Random(seed)
    try:
        for _ in range(times):
            before = done[0]
            time.sleep(0.5 + choose.random())
            world.stop_node("us", signal.SIGKILL)
            world.start_node("us")
            while done[0] == before:  # the bank is open again
                time.sleep(0.05)
    finally:
        closed.set()
        for each in tellers:
            each.join()
    assert done[0] > times
    nothing_stays_prepared(world)
    assert total(world) == TOTAL


def test_a_gateway_that_is_killed_in_transfers(bank: World) -> None:
    crash(bank, 3, seed=5)


@pytest.mark.long
def test_a_gateway_that_is_killed_in_transfers_again_and_again(bank: World) -> None:
    crash(bank, 40, seed=6)


def test_a_deadlock_over_regions_is_ended_by_lock_timeout(bank: World) -> None:
    update = "update accounts set amount = amount where region = %s and id = 1"
    with bank.connect("us") as one, bank.connect("ap") as other:
        for connection in (one, other):
            connection.execute("set lock_timeout = '1s'")
            connection.execute("begin")
        one.execute(update, ("us",))
        other.execute(update, ("eu",))
        failures: list[psycopg.Error] = []

        def wait(connection: psycopg.Connection[tuple[object, ...]], region: str) -> None:
            try:
                connection.execute(update, (region,))
            except psycopg.Error as error:
                failures.append(error)
            connection.execute("rollback")

        waits = [threading.Thread(target=wait, args=args) for args in ((one, "eu"), (other, "us"))]
        for each in waits:
            each.start()
        for each in waits:
            each.join()
        assert 1 <= len(failures) <= 2
        assert all(isinstance(f, errors.LockNotAvailable) for f in failures), failures
        assert one.execute(update, ("eu",)).rowcount == 1
    nothing_stays_prepared(bank)
