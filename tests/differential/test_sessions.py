"""Many sessions at once through small pools, and a region that dies under them."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import psycopg
import pytest
import tenacity

from domicile.catalog.errors import DomicileError
from domicile.demo.regions import DATABASE
from domicile.embedded import EmbeddedServer
from tests.differential.test_random import compare
from tests.differential.world import World, running

SESSIONS = 8
QUERIES = 60
PADDING_ROWS = 20_000  #: of a thousand bytes each: more than all buffers on the way hold
LOST = {"08006", "57P03", "57P01"}


@pytest.fixture(scope="module", params=[1, 4])
def small(request: pytest.FixtureRequest, servers_folder: Path) -> Iterator[World]:
    options = f"pool_size = {request.param}"
    with running(servers_folder / f"pool-{request.param}", gateway_options=options) as made:
        yield made


def test_eight_sessions_over_three_regions(small: World) -> None:
    def session(number: int) -> list[str]:
        return compare(small, ("us", "eu", "ap")[number % 3], "text", 1_000 + number, QUERIES)[0]

    with ThreadPoolExecutor(SESSIONS) as threads:
        wrong = [w for found in threads.map(session, range(SESSIONS)) for w in found]
    assert not wrong, f"{len(wrong)} differ\n" + "\n".join(wrong[:10])


def test_eight_sessions_that_write(small: World) -> None:
    """Each session has an account of its own in one region, and adds to it by transactions."""

    def session(number: int) -> None:
        home = ("us", "eu", "ap")[number % 3]
        gateway = ("us", "eu", "ap")[number // 3]
        with small.connect(gateway) as connection:
            for _ in range(20):
                with connection.transaction():
                    connection.execute(
                        "update accounts set amount = amount + 1 where region = %s and id = %s", (home, number + 1)
                    )

    with ThreadPoolExecutor(SESSIONS) as threads:
        list(threads.map(session, range(SESSIONS)))
    with small.connect("us") as connection:
        assert connection.execute("select sum(amount) from accounts").fetchone() == (3 * 8 * 1000 + SESSIONS * 20,)


def kill(server: EmbeddedServer) -> None:
    """Ends the postmaster as a crash would. What it had begun ends by itself when it notices."""
    assert server.pid is not None
    os.kill(server.pid, signal.SIGKILL)
    process = server._process
    assert process is not None
    process.wait()


@tenacity.retry(stop=tenacity.stop_after_attempt(50), wait=tenacity.wait_fixed(0.2), reraise=True)
def restarted(server: EmbeddedServer) -> EmbeddedServer:
    """The server on its old port; tried again while children of the dead postmaster still hold its memory."""
    again = EmbeddedServer(server.folder, binaries=server.binaries, port=server.port)
    again.start()
    return again


@tenacity.retry(
    retry=tenacity.retry_if_exception_type(psycopg.Error),
    stop=tenacity.stop_after_attempt(60),
    wait=tenacity.wait_fixed(0.25),
    reraise=True,
)
def counted(world: World) -> Any:
    with world.connect("us") as connection:
        return connection.execute("select count(*) from ticket_notes").fetchone()


def test_a_region_that_dies_in_mid_result_is_an_error_and_comes_back(small: World) -> None:
    eu = small.regions["eu"]
    add = "insert into ticket_notes select 2, 100 + i, repeat('x', 1000) from generate_series(1, {}) i"
    eu.server.run_sql(add.format(PADDING_ROWS), database=DATABASE)
    with small.connect("us") as connection:
        whole = connection.execute("select count(*) from ticket_notes").fetchone()
        assert whole is not None
        assert whole[0] > PADDING_ROWS
        read = 0
        with pytest.raises(psycopg.Error) as lost:
            for _ in connection.cursor().stream("select * from ticket_notes"):
                read += 1
                if read == 100:
                    kill(eu.server)
        assert lost.value.sqlstate in LOST
        assert read < whole[0]
        # The others are unharmed, in the same session.
        assert connection.execute("select count(*) from accounts where region = 'ap'").fetchone() == (8,)
        with pytest.raises(psycopg.Error) as away:
            connection.execute("select count(*) from accounts")
        assert away.value.sqlstate in LOST
        assert "eu" in str(away.value)
    try:
        eu.server = restarted(eu.server)
    except DomicileError as error:
        pytest.fail(str(error))
    assert counted(small) == whole
    eu.server.run_sql("delete from ticket_notes where n > 100", database=DATABASE)
