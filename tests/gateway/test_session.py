"""What a client must not be able to tell from PostgreSQL, over pooled connections: 8 sessions over a pool of 4."""

from __future__ import annotations

import asyncio
import socket
import struct
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import asyncpg
import psycopg
import pytest
from psycopg import errors, generators, pq

from domicile.proxy import messages as m
from tests.gateway.conftest import Front

Connection = psycopg.Connection[tuple[Any, ...]]


def at_once(work: Callable[[int], Any], sessions: int = 8) -> list[Any]:
    with ThreadPoolExecutor(sessions) as threads:
        return list(threads.map(work, range(sessions)))


def test_eight_sessions_each_get_their_own_rows(plain: Front) -> None:
    def work(number: int) -> None:
        with plain.connect() as connection:
            for step in range(100):
                wanted = number * 100 + step + 1
                got = connection.execute("select id, name from items where id = %s", (wanted,)).fetchall()
                assert got == [(wanted, f"item {wanted}")]

    at_once(work)


async def test_named_statements_survive_pooling(plain: Front) -> None:
    async def work(number: int) -> None:
        connection = await asyncpg.connect(plain.url)
        statement = await connection.prepare("select name from items where id = $1")
        for step in range(50):
            wanted = 1 + (number * 50 + step) % 1000
            assert await statement.fetchval(wanted) == f"item {wanted}"
        await connection.close()

    await asyncio.gather(*(work(n) for n in range(8)))


def test_text_and_binary_results_are_those_of_postgresql(plain: Front) -> None:
    query = "select id, name, amount, null::int, array[id, 2], '{}'::jsonb from items where id <= %s order by id"
    with plain.connect() as through, plain.direct() as direct:
        for binary in (False, True):
            got = through.execute(query, (50,), binary=binary)
            wanted = direct.execute(query, (50,), binary=binary)
            assert got.fetchall() == wanted.fetchall()
            assert got.statusmessage == wanted.statusmessage
            assert got.description is not None
            assert wanted.description is not None
            assert [c.type_code for c in got.description] == [c.type_code for c in wanted.description]


STATEMENTS = [
    "select 1/0",
    "selec 1",
    "select * from nowhere",
    "select nothing from items",
    "insert into items values (1, 'again')",
    "select 'x'::int",
    "select $1",
    "",
    ";",
    "-- only a comment",
    "select 1; select 2, 3; update items set name = name where id < 5",
    "begin; select 1; commit",
    "commit",
    "rollback to nowhere",
    "savepoint outside",
    "deallocate nowhere",
    "execute nowhere",
    "close nowhere",
    "show server_version",
    "set statement_timeout = 'not a time'",
    "values (1), (2)",
    "explain (costs off) select 1",
    "vacuum items",
    "create table made (x int); insert into made values (1), (2); drop table made",
    "begin; select 1/0; select 2; commit",
    "table items limit 3",
    "unlisten *",
    "discard all",
    "select 1 as one \n; \n",
]


@pytest.mark.parametrize("statement", STATEMENTS)
def test_simple_queries_answer_as_postgresql_does(plain: Front, statement: str) -> None:
    """Tags, rows and SQLSTATEs of each result, and the transaction status at the end."""

    def results(connection: Connection) -> list[tuple[Any, ...]]:
        raw = connection.pgconn
        raw.send_query(statement.encode())
        found: list[tuple[Any, ...]] = []
        for result in connection.wait(generators.execute(raw)):
            rows = [[result.get_value(r, c) for c in range(result.nfields)] for r in range(result.ntuples)]
            state = result.error_field(pq.DiagnosticField.SQLSTATE)
            message = result.error_field(pq.DiagnosticField.MESSAGE_PRIMARY)
            found.append((result.status, result.command_status, state, message, rows))
        found.append((raw.transaction_status,))
        return found

    with plain.connect() as through, plain.direct() as direct:
        assert results(through) == results(direct)


def test_an_error_in_a_pipeline_skips_to_the_sync_and_undoes_what_came_before(plain: Front) -> None:
    with plain.connect() as connection:
        connection.execute("create table piped (x int)")
        with pytest.raises(errors.DivisionByZero), connection.pipeline() as pipeline:
            connection.execute("insert into piped values (1)")
            connection.execute("select 1/0")
            connection.execute("insert into piped values (2)")
            pipeline.sync()
        assert connection.execute("select count(*) from piped").fetchone() == (0,)
        with connection.pipeline():
            for number in range(20):
                connection.execute("insert into piped values (%s)", (number,))
        assert connection.execute("select sum(x) from piped").fetchone() == (190,)
        connection.execute("drop table piped")


def test_transactions_and_savepoints(plain: Front) -> None:
    with plain.connect(autocommit=False) as connection:
        connection.execute("create table kept (x int primary key)")
        connection.execute("insert into kept values (1)")
        with pytest.raises(errors.UniqueViolation), connection.transaction():
            connection.execute("insert into kept values (2)")
            connection.execute("insert into kept values (1)")
        assert connection.execute("select count(*) from kept").fetchone() == (1,)
        with pytest.raises(errors.DivisionByZero):
            connection.execute("select 1/0")
        with pytest.raises(errors.InFailedSqlTransaction):
            connection.execute("select 1")
        connection.rollback()
        with pytest.raises(errors.UndefinedTable):
            connection.execute("select * from kept")


def test_isolation_of_begin_reaches_the_region(plain: Front) -> None:
    with plain.connect() as connection:
        connection.execute("begin isolation level serializable, read only")
        assert connection.execute("show transaction_isolation").fetchone() == ("serializable",)
        with pytest.raises(errors.ReadOnlySqlTransaction):
            connection.execute("create table never (x int)")
        connection.execute("rollback")


def test_settings_stay_with_their_session(plain: Front) -> None:
    zones = ["UTC", "Asia/Tokyo", "America/Lima", "Europe/Berlin"]

    def work(number: int) -> None:
        zone = zones[number % 4]
        with plain.connect() as connection:
            connection.execute(f"set timezone to '{zone}'")
            assert connection.info.parameter_status("TimeZone") == zone
            for _ in range(30):
                assert connection.execute("show timezone").fetchone() == (zone,)
                assert connection.execute("select current_setting('TimeZone')").fetchone() == (zone,)

    at_once(work)


def test_a_setting_is_undone_by_rollback(plain: Front) -> None:
    with plain.connect() as connection:
        connection.execute("begin")
        connection.execute("set extra_float_digits to -5")
        connection.execute("savepoint a")
        connection.execute("set extra_float_digits to -10")
        connection.execute("rollback to a")
        assert connection.execute("show extra_float_digits").fetchone() == ("-5",)
        connection.execute("rollback")
        assert connection.execute("show extra_float_digits").fetchone() == ("1",)
        connection.execute("begin")
        connection.execute("set local extra_float_digits to 0")
        assert connection.execute("show extra_float_digits").fetchone() == ("0",)
        connection.execute("commit")
        assert connection.execute("show extra_float_digits").fetchone() == ("1",)


def test_startup_options_are_settings(plain: Front) -> None:
    with plain.connect(options="-c statement_timeout=12345 -c search_path=pg_catalog,public") as connection:
        assert connection.execute("show statement_timeout").fetchone() == ("12345ms",)
        connection.execute("set statement_timeout to 1000")
        connection.execute("reset statement_timeout")
        assert connection.execute("show statement_timeout").fetchone() == ("12345ms",)
        assert connection.execute("show search_path").fetchone() == ("pg_catalog, public",)
    with pytest.raises(psycopg.OperationalError, match="unrecognized configuration parameter"):
        plain.connect(options="-c no_such_setting=1")


def test_what_a_pool_can_t_carry_keeps_its_backend(plain: Front) -> None:
    def work(number: int) -> None:
        with plain.connect() as connection:
            connection.execute("create temp table mine (x int)")
            connection.execute("insert into mine values (%s)", (number,))
            for _ in range(10):
                assert connection.execute("select x from mine").fetchone() == (number,)

    at_once(work, 4)
    with plain.connect() as connection, pytest.raises(errors.UndefinedTable):
        connection.execute("select * from mine")


def test_discard_all_gives_the_backend_back(plain: Front) -> None:
    with plain.connect() as connection:
        connection.execute("create temp table mine (x int)")
        connection.execute("discard all")
        with pytest.raises(errors.UndefinedTable):
            connection.execute("select * from mine")


def test_a_client_that_vanishes_in_a_transaction_is_rolled_back(plain: Front) -> None:
    with plain.direct() as direct:
        direct.execute("create table vanished (x int primary key)")
        connection = plain.connect()
        connection.execute("begin")
        connection.execute("insert into vanished values (1)")
        connection.pgconn.finish()
        # The row's key is free again as soon as the rollback has run; until then this waits for it.
        direct.execute("set statement_timeout to '10s'")
        direct.execute("insert into vanished values (1)")
        direct.execute("drop table vanished")


def test_a_client_that_vanishes_in_a_statement_frees_its_place(plain: Front) -> None:
    for _ in range(8):
        connection = plain.connect()
        connection.pgconn.send_query(b"select pg_sleep(30)")
        connection.pgconn.flush()
        connection.pgconn.finish()
    with plain.connect() as connection:
        assert connection.execute("select 1").fetchone() == (1,)


def test_cancel_stops_the_clients_own_statement_only(plain: Front) -> None:
    with plain.connect() as slow, plain.connect() as other:
        started = threading.Barrier(2)

        def run() -> str:
            started.wait()
            with pytest.raises(errors.QueryCanceled):
                slow.execute("select pg_sleep(30)")
            return "cancelled"

        with ThreadPoolExecutor(1) as thread:
            outcome = thread.submit(run)
            started.wait()
            while not outcome.done():
                slow.cancel_safe()
                assert other.execute("select 1").fetchone() == (1,)
            assert outcome.result() == "cancelled"
        assert slow.execute("select 2").fetchone() == (2,)


def test_cursors_by_protocol_and_by_sql(plain: Front) -> None:
    with plain.connect(autocommit=False) as connection:
        with connection.cursor(name="declared") as cursor:
            cursor.itersize = 7
            cursor.execute("select id from items order by id")
            assert [row[0] for row in cursor] == list(range(1, 1001))
        connection.commit()


async def test_portals_with_row_limits(plain: Front) -> None:
    connection = await asyncpg.connect(plain.url)
    async with connection.transaction():
        got = [row["id"] async for row in connection.cursor("select id from items order by id", prefetch=7)]
    assert got == list(range(1, 1001))
    await connection.close()


def test_copy_in_and_out(plain: Front) -> None:
    with plain.connect() as connection:
        connection.execute("create table copied (id int, name text)")
        rows = [(number, f"ñame\t{number}\\") for number in range(5000)]
        for how in ("", " (format binary)"):
            with connection.cursor().copy(f"copy copied from stdin{how}") as copy:
                if how:
                    copy.set_types(["int4", "text"])
                for row in rows:
                    copy.write_row(row)
            with connection.cursor().copy(f"copy copied to stdout{how}") as copy:
                copy.set_types(["int4", "text"])
                assert list(copy.rows()) == rows
            connection.execute("truncate copied")
        with (
            pytest.raises(errors.InvalidTextRepresentation),
            connection.cursor().copy("copy copied from stdin") as copy,
        ):
            for number in range(5000):
                copy.write_row(("x" if number == 10 else number, "y"))
        assert connection.execute("select count(*) from copied").fetchone() == (0,)
        with pytest.raises(RuntimeError), connection.cursor().copy("copy copied from stdin") as copy:
            copy.write_row((1, "y"))
            raise RuntimeError
        assert connection.execute("select count(*) from copied").fetchone() == (0,)
        connection.execute("drop table copied")


async def test_asyncpg_copies_and_resets(plain: Front) -> None:
    pool = await asyncpg.create_pool(plain.url, min_size=8, max_size=8)
    async with pool.acquire() as connection:
        await connection.execute("create table made (x int)")
        await connection.copy_records_to_table("made", records=[(n,) for n in range(1000)])
        assert await connection.fetchval("select sum(x) from made") == 499500
        await connection.execute("drop table made")
    assert await asyncio.gather(*(pool.fetchval("select $1::int", n) for n in range(100))) == list(range(100))
    await pool.close()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"password": "wrong"}, 'password authentication failed for user "app"'),
        ({"user": "nobody", "password": "x"}, 'password authentication failed for user "nobody"'),
        ({"dbname": "elsewhere"}, 'database "elsewhere" does not exist'),
        ({"client_encoding": "latin1"}, "client_encoding latin1 is not supported"),
        ({"replication": "database"}, "replication connections do not go through a gateway"),
    ],
)
def test_a_log_in_that_can_t_be_says_why(plain: Front, change: dict[str, str], message: str) -> None:
    with pytest.raises(psycopg.OperationalError, match=message):
        plain.connect(**change)


GARBAGE = [
    b"GET / HTTP/1.1\r\n\r\n",
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(64),
    struct.pack("!II", 8, 196608),
    struct.pack("!II", 0x7FFFFFFF, 196608),
    struct.pack("!II", 9, 131072) + b"\0",
    struct.pack("!II", 4, 0),
    b"\0" * 100,
]


@pytest.mark.parametrize("garbage", GARBAGE)
def test_garbage_before_the_log_in_is_a_clean_close(plain: Front, garbage: bytes) -> None:
    with socket.create_connection(("127.0.0.1", plain.port), 10) as raw:
        raw.sendall(garbage)
        answer = b""
        while chunk := raw.recv(4096):
            answer += chunk
        assert answer == b"" or answer[:1] == b"E"
    with plain.connect() as connection:
        assert connection.execute("select 1").fetchone() == (1,)


@pytest.mark.parametrize(
    "garbage", [b"Q\xff\xff\xff\xff", b"Q\0\0\0\1", b"!\0\0\0\4", b"B\0\0\0\5x", b"P\0\0\0\6\0\xff"]
)
def test_garbage_after_the_log_in_is_an_error_or_a_close(plain: Front, garbage: bytes) -> None:
    connection = plain.connect()
    raw = socket.socket(fileno=connection.pgconn.socket)
    try:
        raw.settimeout(10)
        raw.setblocking(True)
        raw.sendall(garbage + m.SYNC)
        assert raw.recv(4096)[:1] in (b"E", b"")
    finally:
        raw.detach()
        connection.pgconn.finish()
    with plain.connect() as again:
        assert again.execute("select 1").fetchone() == (1,)


def test_a_server_that_ends_a_connection_is_an_error_that_names_the_region(plain: Front) -> None:
    with plain.connect() as connection:
        connection.execute("begin")
        assert connection.pgconn.transaction_status == pq.TransactionStatus.INTRANS
        got = connection.execute("select pg_backend_pid()").fetchone()
        assert got is not None
        plain.database.run_sql("select pg_terminate_backend(%s, 5000)", got[0])
        with pytest.raises(psycopg.OperationalError, match="region us") as lost:
            connection.execute("select 1")
        assert lost.value.sqlstate == "08006"
        connection.execute("rollback")
        assert connection.execute("select 1").fetchone() == (1,)
