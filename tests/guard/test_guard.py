"""The guard over the wire: who gets in, what passes, what is refused and where, and that no canary ever leaves."""

from __future__ import annotations

import contextlib
import logging
import select
import socket
import ssl
import struct
import threading
from dataclasses import replace

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from psycopg import errors

from domicile.catalog.names import RegionName
from domicile.certificates import RegionFiles, server_name
from domicile.proxy import guard as guard_module
from domicile.proxy import messages as m
from domicile.proxy.admission import Rules
from domicile.proxy.guard import Admissions
from domicile.proxy.keepalive import KEEPALIVE_IDLE_S
from domicile.proxy.messages import B, F
from tests.conftest import Database
from tests.guard.conftest import AP, CANARIES, EU, SECRET, US, Running, StartGuard, set_secret


def errors_of(replies: list[m.Message]) -> list[str]:
    return [m.error_of(r.body).sqlstate for r in replies if r.type == B.ERROR]


def rows_of(replies: list[m.Message]) -> list[list[bytes | None]]:
    return [m.data_row(r.body) for r in replies if r.type == B.DATA_ROW]


def kinds(replies: list[m.Message]) -> str:
    return "".join(chr(r.type) for r in replies)


# --- who gets in ---------------------------------------------------------------------------------------------------


def test_a_role_arrives_as_role_at_region(guard: Running) -> None:
    with guard.connect() as c:
        assert c.execute("select current_user, session_user").fetchall() == [("app@eu", "app@eu")]
        assert c.execute("select * from customers where id = 3").fetchall() == [(3, None, "c***", 3, False)]


def test_a_second_log_in_needs_no_second_question(start_guard: StartGuard, database: Database) -> None:
    guard = start_guard()
    guard.connect().close()
    database.run_sql("alter function domicile.login_secret rename to forgotten")
    try:
        guard.connect().close()
    finally:
        database.run_sql("alter function domicile.forgotten rename to login_secret")


def test_a_guards_key_that_was_changed_is_asked_for_again(start_guard: StartGuard, database: Database) -> None:
    guard = start_guard()
    guard.connect().close()
    set_secret(database, "app@eu", "the new one")
    guard.run(guard.pool.expire_connections())
    try:
        guard.connect().close()
    finally:
        set_secret(database, "app@eu", SECRET)


def test_a_region_says_how_it_is_and_no_more(guard: Running) -> None:
    wire = guard.raw(user=None)
    wire.send(m.build_startup({"user": "domicile_status"}))
    replies = wire.until(B.READY)
    told = dict(r.body.decode().rstrip("\0").split("\0") for r in replies if r.type == B.PARAMETER_STATUS)
    assert (told["domicile.region"], told["domicile.catalog_version"], told["domicile.open_findings"]) == (
        "us",
        "17",
        "1",
    )
    assert float(told["domicile.clock"]) > 1e9
    assert told["domicile.collation"]
    assert wire.sock.recv(1) == b""


@pytest.mark.parametrize(
    ("user", "region", "says"),
    [
        ("nobody", EU, 'role "nobody" of region "eu" is not known in region "us"'),
        ("app", AP, 'role "app" of region "ap" is not known'),
        ("app@eu", AP, 'role "app@eu" of region "ap" is not known'),
        ("stranger", EU, 'region us could not log in "stranger@eu"'),
        ("x" * 61, EU, "has over 63 bytes"),
    ],
)
def test_a_role_without_a_counterpart_is_refused(user: str, region: RegionName, says: str, guard: Running) -> None:
    with pytest.raises(psycopg.OperationalError, match=says):
        guard.connect(user, region)


def test_a_region_that_the_catalog_does_not_know_is_refused(start_guard: StartGuard) -> None:
    guard = start_guard()
    guard.catalog = replace(guard.catalog, regions={US: guard.catalog.regions[US]})
    with pytest.raises(psycopg.OperationalError, match="region eu is no other region that region us knows"):
        guard.connect()


def test_a_region_that_is_dropped_is_shut_out_at_once(start_guard: StartGuard) -> None:
    guard = start_guard()
    wire = guard.raw()
    without = replace(guard.catalog, regions={US: guard.catalog.regions[US]})
    guard.call(lambda: guard.guard.catalog_changed(without))
    assert errors_of(wire.until(B.READY)) == ["28000"]


def test_a_region_does_not_come_in_at_its_own_guard(guard: Running) -> None:
    with pytest.raises(psycopg.OperationalError, match="region us is no other region"):
        guard.connect(region=US)


def test_another_authoritys_certificate_is_refused(guard: Running, strangers: dict[RegionName, RegionFiles]) -> None:
    forged = strangers[EU]
    with pytest.raises(psycopg.OperationalError, match="connection"):
        guard.connect(sslcert=str(forged.certificate), sslkey=str(forged.key))


def test_no_certificate_is_refused(guard: Running) -> None:
    with pytest.raises(psycopg.OperationalError, match="connection"):
        guard.connect(sslcert="", sslkey="")


def test_a_caller_that_meant_another_region_finds_out(guard: Running) -> None:
    with pytest.raises(psycopg.OperationalError, match='does not match host name "domicile-region-ap"'):
        guard.connect(host=server_name(AP))


@pytest.mark.parametrize(
    "first",
    [
        m.build_startup({"user": "app", "database": "any"}),
        struct.pack("!II", 8, m.SSL_REQUEST),
        b"GET / HTTP/1.1\r\n\r\n",
        b"\0" * 64,
    ],
)
def test_plain_text_on_the_port_is_closed(first: bytes, guard: Running) -> None:
    with socket.create_connection(("127.0.0.1", guard.guard.port), timeout=20) as sock:
        sock.sendall(first)
        received = b""
        try:
            while chunk := sock.recv(100):
                received += chunk
        except ConnectionResetError:
            pass
        assert len(received) < 10  # a TLS alert at most
    guard.connect().close()


def test_the_limit_of_a_region(start_guard: StartGuard) -> None:
    running = start_guard(connections_max=2)
    first, second = running.connect(), running.connect()
    with pytest.raises(psycopg.OperationalError, match="region us takes 2 connections of region eu"):
        running.connect()
    first.close()
    second.close()
    while running.call(lambda: running.guard.per_region[EU]):
        pass
    running.connect().close()


def test_who_does_not_log_in_is_sent_away(start_guard: StartGuard) -> None:
    running = start_guard(login_timeout_s=0.05)
    wire = running.raw(user=None)
    assert errors_of(wire.until(B.READY)) == ["57014"]


# --- what passes ---------------------------------------------------------------------------------------------------


def test_both_protocols_cursors_copy_and_transactions(guard: Running) -> None:
    with guard.connect() as c:
        assert c.execute("select sum(tier) from customers where id = any(%s)", ([1, 2, 3],)).fetchone() == (6,)
        assert c.execute("select tier from customers where id = %s", (4,), prepare=True, binary=True).fetchone() == (4,)
        with c.transaction(), c.cursor("walk") as cursor:
            cursor.execute("select id from customers order by id")
            assert len(cursor.fetchmany(10)) == 10
        with c.cursor().copy("copy (select id, name from customers where id < 3) to stdout") as copy:
            assert sorted(copy.rows()) == [("1", "c***"), ("2", "c***")]
        with c.cursor().copy("copy inbox from stdin") as copy:
            copy.write_row(("hello",))
        assert c.execute("select word from inbox").fetchall() == [("hello",)]
        c.execute("insert into orders values (501, 1)")
        assert c.execute("delete from orders where id = 501 returning id").fetchall() == [(501,)]
        with pytest.raises(errors.ForeignKeyViolation):
            c.execute("insert into orders values (600, 100000)")
        with c.transaction(force_rollback=True):
            c.execute("insert into orders values (601, 1)")
        assert c.execute("select count(*) from orders where id > 500").fetchone() == (0,)
        assert c.execute('select name from "to_eu$sales".regions').fetchone() == ("north",)


def test_a_pipeline(guard: Running) -> None:
    with guard.connect() as c, c.pipeline():
        cursors = [c.execute("select id + %s from customers where id = %s", (n, n)) for n in range(1, 7)]
        assert [cur.fetchone() for cur in cursors] == [(2 * n,) for n in range(1, 7)]


def test_two_phases(guard: Running, database: Database) -> None:
    with guard.connect() as c:
        c.execute("begin")
        c.execute("insert into orders values (700, 1)")
        c.execute("prepare transaction 'domicile:eu:700'")
        with pytest.raises(errors.FeatureNotSupported, match="a prepared transaction named"):
            c.execute("commit prepared 'domicile:ap:700'")
        c.execute("commit prepared 'domicile:eu:700'")
    assert database.run_sql("select count(*) from orders where id = 700") == [(1,)]


def test_a_value_that_looks_like_messages_passes_at_every_cut(guard: Running) -> None:
    trap = b"Z\0\0\0\5IE\0\0\0\xffSFATAL\0" * 50
    wire = guard.raw()
    request = b"".join(
        (
            m.build_parse("", "select $1::bytea, $2::text"),
            m.build_bind("", "", (1, 0), (trap, b"Q"), (1,)),
            m.build_execute(),
            m.SYNC,
        )
    )
    for size in (1, 2, 3, 5, 7, 64, 1000):
        for at in range(0, len(request), size):
            wire.send(request[at : at + size])
        assert rows_of(wire.until(B.READY)) == [[trap, b"Q"]]


def test_a_long_statement_is_read_in_a_thread_and_keeps_its_place(guard: Running) -> None:
    numbers = ",".join(map(str, range(20_000)))
    assert len(numbers) > guard_module.LONG_STATEMENT_BYTES
    wire = guard.raw()
    long = m.build_query(f"select count(*) from customers where id in ({numbers})")
    wire.send(
        m.build_query("select 1"),
        long,
        m.build_query("select 2"),
        m.build_query(f"select pg_sleep_until(now()), {numbers}"),
    )
    wire.send(m.build_query("select 3"))
    replies = [r for _ in range(5) for r in wire.until(B.READY)]
    assert rows_of(replies) == [[b"1"], [b"999"], [b"2"], [b"3"]]
    assert errors_of(replies) == ["0A000"]


def test_results_larger_than_any_buffer_come_whole(guard: Running) -> None:
    with guard.connect() as c:
        rows = c.execute("select n, repeat('x', 1000) from generate_series(1, 20000) n").fetchall()
        assert len(rows) == 20_000
        assert rows[-1][0] == 20_000


def test_a_caller_that_sends_and_does_not_read_is_held_up_and_not_buffered(guard: Running) -> None:
    wire = guard.raw()
    caller = guard.call(lambda: next(iter(guard.guard.connections.values())))
    one = m.build_parse("", "select 1") + m.build_bind("", "") + m.build_execute()
    pipelines = 40
    waiting = memoryview(((one * 2_000) + m.SYNC) * pipelines)
    highest = 0
    answers: list[m.Message] = []
    walker = m.Walker()
    # One thread for both ways: an SSL connection may not be used by two at once. It reads only where it can't send.
    wire.sock.setblocking(False)
    while sum(answer.type == B.READY for answer in answers) < pipelines:
        with contextlib.suppress(ssl.SSLWantWriteError, ssl.SSLWantReadError):
            while waiting:
                waiting = waiting[wire.sock.send(waiting[: 1 << 16]) :]
        highest = max(highest, guard.call(lambda: len(caller.owed.queue)))
        select.select([wire.sock], [wire.sock] if waiting else [], [], 20)
        with contextlib.suppress(ssl.SSLWantReadError):
            while True:
                answers.extend(m.messages(*walker.feed(wire.sock.recv(1 << 16))))
    wire.sock.setblocking(True)
    assert errors_of(answers) == []
    assert rows_of(wire.ask(m.build_query("select 2"))) == [[b"2"]]
    # One read of the socket (uvloop's 256 kB) may still come in after the line is crossed.
    assert highest < guard_module.OWED_MAX + 256 * 1024 / (len(one) / 3)


def test_a_caller_that_does_not_read_a_large_result_holds_nobody_up(guard: Running) -> None:
    wire = guard.raw()
    wire.send(m.build_query("select repeat('x', 1000) from generate_series(1, 200000)"))
    with guard.connect() as other:
        for _ in range(50):
            assert other.execute("select 1").fetchone() == (1,)
    assert sum(len(r.body) for r in wire.until(B.READY)) > 200_000_000


def test_a_cancel_reaches_the_statement_and_no_other(guard: Running) -> None:
    with guard.connect() as slow, guard.connect() as other:
        timer = threading.Timer(0.2, slow.cancel_safe)
        timer.start()
        with pytest.raises(errors.QueryCanceled):
            slow.execute("select count(*) from generate_series(1, 10000000000)")
        timer.join()
        assert slow.execute("select 1").fetchone() == (1,)
        assert other.execute("select 1").fetchone() == (1,)


def test_a_cancel_of_another_region_or_with_another_key_does_nothing(guard: Running) -> None:
    wire = guard.raw()
    caller = guard.call(lambda: next(iter(guard.guard.connections.values())))
    (pid,) = guard.guard.connections
    done: list[list[m.Message]] = []
    thread = threading.Thread(
        target=lambda: done.append(wire.ask(m.build_query("select count(*) from generate_series(1, 3e6::int)")))
    )
    thread.start()
    for region, key in ((AP, caller.key), (EU, b"\0\0\0\0")):
        other = guard.raw(region, user=None)
        other.send(m.build_cancel(pid, key))
        assert other.until(B.READY) == []
    thread.join()
    assert errors_of(done[0]) == []


def test_a_caller_that_vanishes_leaves_nothing_open(guard: Running, database: Database) -> None:
    wire = guard.raw()
    wire.ask(m.build_query("begin"))
    wire.ask(m.build_query("insert into orders values (800, 1)"))
    wire.send(m.build_query("select count(*) from generate_series(1, 10000000000)"))
    wire.sock.close()  # at once: the guard may hear of the statement and of the end in one go
    while database.run_sql("select 1 from pg_stat_activity where usename = 'app@eu'"):
        pass
    assert database.run_sql("select count(*) from orders where id = 800") == [(0,)]


def test_a_caller_that_is_cut_off_without_a_word_is_found_out_by_the_kernel(guard: Running) -> None:
    guard.raw()
    (caller,) = guard.guard.connections.values()

    def options() -> tuple[int, int]:
        assert caller._transport is not None
        sock = caller._transport.get_extra_info("socket")
        return (
            sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE),
            sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE),
        )

    assert guard.call(options) == (1, KEEPALIVE_IDLE_S)


def test_the_end_of_the_server_is_the_end_of_the_connection(guard: Running, database: Database) -> None:
    wire = guard.raw()
    database.run_sql("select pg_terminate_backend(pid) from pg_stat_activity where usename = 'app@eu'")
    assert errors_of(wire.until(B.READY)) == ["57P01"]
    assert wire.sock.recv(1) == b""


# --- what is refused, and where ------------------------------------------------------------------------------------


def test_a_refused_statement_fails_its_transaction(guard: Running) -> None:
    with guard.connect() as c:
        c.execute("begin")
        with pytest.raises(errors.FeatureNotSupported, match="does not admit LISTEN from region eu"):
            c.execute("listen news")
        with pytest.raises(errors.InFailedSqlTransaction):
            c.execute("select 1")
        c.execute("rollback")
        assert c.execute("select 1").fetchone() == (1,)


def test_a_refusal_in_a_pipeline_stands_in_its_place_and_skips_to_sync(guard: Running) -> None:
    wire = guard.raw()

    def run(text: str) -> bytes:
        return m.build_parse("", text) + m.build_bind("", "") + m.build_execute()

    replies = wire.ask(
        run("insert into orders values (900, 1)"), run("notify x"), run("do 'x'"), run("select 2"), m.SYNC
    )
    assert kinds(replies) == "12CEZ"
    assert m.error_of(replies[3].body).message == "the guard of region us does not admit NOTIFY from region eu"
    replies = wire.ask(run("do 'x'"), m.SYNC)
    assert m.error_of(replies[0].body).message == "the guard of region us does not admit DO from region eu"
    assert rows_of(wire.ask(run("select count(*) from orders where id = 900"), m.SYNC)) == [[b"0"]]


def test_a_refusal_behind_an_error_is_skipped_with_the_rest(guard: Running) -> None:
    wire = guard.raw()
    for _ in range(3):
        replies = wire.ask(m.build_parse("", "select nothing"), m.build_parse("", "listen x"), m.SYNC)
        assert errors_of(replies) == ["42703"]
    replies = wire.ask(m.build_parse("", "unlisten x"), m.SYNC)
    assert m.error_of(replies[0].body).message.startswith("the guard of region us does not admit UNLISTEN")


def test_one_refused_statement_refuses_the_whole_query(guard: Running) -> None:
    wire = guard.raw()
    replies = wire.ask(m.build_query("insert into orders values (901, 1); listen x; select 1"))
    assert kinds(replies) == "EZ"
    assert rows_of(wire.ask(m.build_query("select count(*) from orders where id = 901"))) == [[b"0"]]


def test_a_function_call_by_oid_is_refused(guard: Running) -> None:
    wire = guard.raw()
    call = m.message(F.FUNCTION_CALL, struct.pack("!IHHHH", 1598, 0, 0, 0, 0))
    assert kinds(wire.ask(call)) == "EZ"
    assert rows_of(wire.ask(m.build_query("select 1"))) == [[b"1"]]


def test_a_parameter_that_looks_the_catalog_up_is_refused(guard: Running) -> None:
    wire = guard.raw()
    assert errors_of(wire.ask(m.build_parse("", "select $1", (2205,)), m.SYNC)) == ["0A000"]


def test_a_statement_beyond_the_limit_is_refused(start_guard: StartGuard) -> None:
    running = start_guard(statement_bytes_max=1000)
    with running.connect() as c:
        with pytest.raises(errors.ProgramLimitExceeded, match="the guard of region us admits 1000"):
            c.execute("select '" + "x" * 1000 + "'")
        assert c.execute("select length(%s)", ("x" * 10_000,)).fetchone() == (10_000,)


@pytest.mark.parametrize(
    "parameters",
    [
        {"options": "-c search_path=public"},
        {"search_path": "public"},
        {"role": "postgres"},
        {"session_authorization": "postgres"},
        {"replication": "database"},
        {"client_encoding": "LATIN1"},
        {"standard_conforming_strings": "off"},
    ],
)
def test_startup_parameters_that_would_change_the_reading_are_refused(
    parameters: dict[str, str], guard: Running
) -> None:
    wire = guard.raw(user=None)
    wire.send(m.build_startup({"user": "app", "database": "any"} | parameters))
    assert errors_of(wire.until(B.READY)) == ["0A000"]


def test_harmless_startup_parameters_reach_the_server(guard: Running) -> None:
    with guard.connect(application_name="shop", client_encoding="utf8") as c:
        assert c.execute("show application_name").fetchone() == ("shop",)
        assert c.execute("show standard_conforming_strings").fetchone() == ("on",)
        c.execute("set timezone = 'Asia/Tokyo'")
        c.execute("discard all")
        assert c.execute("show client_encoding").fetchone() == ("UTF8",)


def test_a_protocol_of_another_major_version_is_refused(guard: Running) -> None:
    wire = guard.raw(user=None)
    wire.send(m.build_startup({"user": "app"}, 2 << 16))
    assert errors_of(wire.until(B.READY)) == ["0A000"]


def test_a_newer_minor_version_is_negotiated(guard: Running) -> None:
    wire = guard.raw(user=None)
    wire.send(m.build_startup({"user": "app", "_pq_.x": "1"}, m.PROTOCOL_3_2))
    assert wire.until(B.READY)[0] == m.Message(B.NEGOTIATE, bytes(8))


@pytest.mark.parametrize(
    "garbage",
    [
        b"\xff" * 64,
        b"Q\0\0\0\3",
        b"Q\x7f\xff\xff\xff",
        m.message(F.QUERY, b"select 1"),
        m.message(F.QUERY, b"select '\xff'\0"),
        m.message(F.PARSE, b"\0"),
        m.message(F.BIND, b"x"),
        m.message(F.EXECUTE, b""),
        m.message(F.PASSWORD, b"x\0"),
        m.message(ord("W"), b""),
    ],
)
def test_garbage_ends_its_own_connection_with_an_error(garbage: bytes, guard: Running) -> None:
    with guard.connect() as other:
        wire = guard.raw()
        wire.send(garbage)
        assert errors_of(wire.until(B.READY))[0] in ("08P01", "22021")
        assert other.execute("select 1").fetchone() == (1,)


FRAGMENTS = st.one_of(
    st.binary(max_size=30),
    st.builds(m.message, st.sampled_from(sorted(b"QPBEDCHSdcfFpX")), st.binary(max_size=30)),
    st.builds(m.build_query, st.sampled_from(["select 1", "listen x", "", "begin", "select", "copy inbox from stdin"])),
    st.builds(m.build_parse, st.sampled_from(["", "s"]), st.sampled_from(["select $1::int", "do 'x'", "table orders"])),
    st.builds(m.build_bind, st.sampled_from(["", "p"]), st.sampled_from(["", "s"])),
    st.builds(m.build_execute, st.sampled_from(["", "p"]), st.integers(0, 3)),
    st.builds(m.build_describe, st.sampled_from("SP"), st.sampled_from(["", "s", "p"])),
    st.just(m.SYNC),
)


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.lists(FRAGMENTS, max_size=12))
def test_no_stream_of_messages_breaks_the_guard(
    guard: Running, caplog: pytest.LogCaptureFixture, stream: list[bytes]
) -> None:
    wire = guard.raw()
    wire.sock.settimeout(0.1)  # a length word may have taken the end of the stream for its own
    with contextlib.suppress(OSError):
        wire.send(*stream, m.SYNC, m.build_query("select 'the end'"), m.TERMINATE)
        wire.until(0)  # to the end of the connection
    assert [c for c in CANARIES if c.encode() in wire.received] == []
    assert "data_received" not in caplog.text
    assert "Traceback" not in caplog.text
    guard.hang_up()


@pytest.mark.parametrize("first", [b"\0\0\0\7\0\3\0", b"\x7f\xff\xff\xff\0\3\0\0", b"\0\0\0\x0b\0\3\0\0abc"])
def test_a_malformed_startup_is_refused(first: bytes, guard: Running) -> None:
    wire = guard.raw(user=None)
    wire.send(first + bytes(4))
    assert errors_of(wire.until(B.READY)) == ["08P01"]


def test_more_refusals_than_an_honest_gateway_sends_end_the_connection(guard: Running) -> None:
    wire = guard.raw()
    wire.send(m.build_query("select count(*) from generate_series(1, 3000000)"))
    wire.send(m.build_parse("", "listen x") * (guard_module.REFUSALS_MAX + 1))
    assert errors_of(wire.until(B.ERROR)) == ["08P01"]


# --- what leaves ---------------------------------------------------------------------------------------------------

STATEMENTS = [
    "select * from customers",
    "select c, c.name, row_to_json(c) from customers c",
    "copy (select * from customers) to stdout",
    "update customers set tier = 5 where id = 1 returning *",
    "update customers set tier = 99 where id = 1",
    "update customers set tier = null where id = 1",
    "update customers set tier = 66 where id = 1",
    "update customers set tier = 67 where id = 1",
    "update customers set email = 'x' where id = 1",
    "insert into customers (id, tier) values (1, 1)",
    "insert into customers (id, tier) values (5000, 1) returning *",
    "delete from customers where id = 2",
    "select name::int from customers",
    "select 1 / (tier - tier) from customers",
    "select to_eu.ask()",
    "select * from public.customers",
    "select * from pg_stats",
    "select query from pg_stat_activity",
    "explain (verbose) select * from customers where id = 7",
    "explain (analyze) select * from customers where id = 7",
    "select count(*) from customers where id = 7",
    "table to_eu.customers",
]


def test_no_canary_leaves_by_either_protocol(guard: Running) -> None:
    wire = guard.raw()
    for text in STATEMENTS:
        wire.ask(m.build_query(text))
        wire.ask(m.build_parse("", text), m.build_bind("", ""), m.build_describe("P", ""), m.build_execute(), m.SYNC)
    assert wire.received.count(b"Z\0\0\0\5") > 2 * len(STATEMENTS)
    assert [c for c in CANARIES if c.encode() in wire.received] == []


def test_the_canaries_would_be_seen_without_the_guard(database: Database) -> None:
    """The twin of the test above: PostgreSQL itself says them to the same role."""
    heard: list[str] = []
    with psycopg.connect(database.dsn_of("app@eu", SECRET), autocommit=True) as c:
        c.add_notice_handler(lambda d: heard.append(str(d.message_primary)))
        for tier in (99, 66, 67):
            try:
                c.execute("update customers set tier = %s where id = 1", (tier,))
            except psycopg.Error as e:
                heard.append(str(e))
    assert sum("canary" in h for h in heard) >= 4


def test_errors_keep_their_sqlstate_and_lose_what_may_hold_values(guard: Running) -> None:
    with guard.connect() as c:
        with pytest.raises(errors.CheckViolation) as raised:
            c.execute("update customers set tier = 66 where id = 1")
        assert raised.value.diag.message_primary == (
            "error 23514 in region us; its text may hold values and stays there"
        )
        assert raised.value.diag.message_hint is None
        with pytest.raises(errors.CheckViolation, match='violates check constraint "customers_tier_check"') as check:
            c.execute("update customers set tier = 99 where id = 1")
        assert (check.value.diag.message_detail, check.value.diag.constraint_name) == (None, "customers_tier_check")
        with pytest.raises(errors.InvalidTextRepresentation) as cast:
            c.execute("update customers set tier = 67 where id = 1")
        assert cast.value.diag.message_primary == "invalid input syntax for type integer (value withheld)"
        assert cast.value.diag.context is None
        with pytest.raises(errors.CheckViolation, match="this row is not at home here") as own:
            c.execute("select to_eu.ask()")
        assert (own.value.diag.message_hint, own.value.diag.message_detail) == ("Move it.", None)


def test_notices_stay_at_home(guard: Running) -> None:
    heard: list[object] = []
    with guard.connect() as c:
        c.add_notice_handler(heard.append)
        c.execute("update customers set tier = 4 where id = 4")
        c.execute("commit")  # PostgreSQL warns that there is no transaction
    assert heard == []


def test_the_ledger_counts_rows_by_table_role_and_destination(guard: Running) -> None:
    wire = guard.raw()
    wire.ask(m.build_query("select id from customers where id < 11; select * from orders where id < 4; select 1"))
    wire.ask(
        m.build_parse("s", "select c.id from to_eu.customers c join orders o on c.id = o.customer_id and o.id <= 5"),
        m.build_bind("p", "s"),
        m.build_execute("p", 2),
        m.build_execute("p", 2),
        m.build_execute("p"),
        m.SYNC,
    )
    wire.ask(m.build_query("begin; declare c cursor for select * from orders"))
    wire.ask(m.build_query("fetch 7 from c"))
    wire.ask(m.build_query("commit; copy (select * from customers where id < 21) to stdout"))
    wire.ask(m.build_query("select * from nowhere"))
    wire.ask(m.build_query("select 1"))
    recorded = guard.flushed()
    assert recorded.rows("public.customers") == 9 + 5 + 19
    assert recorded.rows("public.orders") == 3 + 5 + 7
    assert recorded.rows(None) == 2
    assert {(e.destination, e.role) for e in recorded.entries} == {(EU, "app")}
    assert min(e.bytes for e in recorded.entries) > 0


def test_the_ledger_stays_right_over_a_copy_in_and_errors_in_pipelines(guard: Running) -> None:
    wire = guard.raw()

    def run(text: str) -> bytes:
        return m.build_parse("", text) + m.build_bind("", "") + m.build_describe("P", "") + m.build_execute()

    wire.send(run("copy inbox from stdin"), m.SYNC)
    wire.until(B.COPY_IN)
    wire.ask(m.message(F.COPY_DATA, b"a word\n"), m.message(F.COPY_DONE), m.SYNC)
    wire.ask(run("select 1 / 0"), run("select * from orders"), m.SYNC)
    wire.ask(run("select * from orders where id = 50"), m.SYNC)
    recorded = guard.flushed()
    assert recorded.rows("public.orders") == 1
    assert recorded.rows(None) == 0


def test_what_is_logged_holds_no_literal(guard: Running, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    with guard.connect() as c, pytest.raises(errors.FeatureNotSupported):
        c.execute("select pg_notify('a', 'a literal of the caller')")
    assert "pg_notify" in caplog.text
    assert "literal of the caller" not in caplog.text


def test_texts_are_judged_once_and_forgotten_by_bytes() -> None:
    admissions = Admissions(1000, bytes_max=20_000)
    rules = Rules(US, EU)
    for n in range(200):
        text = f"select {n}, '{'x' * 500}'"
        admissions.keep(text, rules, admissions.judge(text, rules))
        assert admissions.known(text, rules)
    assert admissions.size_bytes <= 20_000
    assert admissions.known("select 0, '" + "x" * 500 + "'", rules) is None
    assert admissions.known(text, Rules(US, AP)) is None
