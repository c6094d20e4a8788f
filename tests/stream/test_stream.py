"""Agents and real servers: what a copy holds is what the masks make of the rows at home, after whatever happened."""

from __future__ import annotations

import asyncio
import contextlib
import random
import signal
import subprocess
import sys
from pathlib import Path

import psycopg
import pytest

from domicile.catalog import configuration
from domicile.embedded import EmbeddedServer
from domicile.relay import Link, RelayProcess
from domicile.replication import core, receiving, sending, wire
from tests.stream.conftest import Federation, Make, Region, until

CUSTOMERS = """
    create table public.customers (
        id bigint primary key, email text, name text, born date, home text not null,
        consent boolean not null default true
    )
"""
MASKS = {"email": "left(email, 3)", "name": "left(name, 1) || '***'"}
MASKED = """
    select id, left(email, 3), left(name, 1) || '***', null::date, home, null::boolean from customers
    where {} order by id
"""
COPIED = "select id, email, name, born, home, consent from abroad.customers where region = '{}' order by id"
CANARY = "secret.example"


def customers(federation: Federation, *origins: str, rows: int = 100, shown: str | None = None) -> None:
    """Customers of each origin, e-mail addresses of which hold the canary; a policy that masks them."""
    federation.everywhere(CUSTOMERS)
    federation.pin("public.customers")
    for origin in origins:
        federation[origin].sql(
            f"insert into customers select i, i || '@{CANARY}', 'Name' || i, '2000-01-01', '{origin}', i % 3 > 0"
            f" from generate_series(1, {rows}) i"
        )
        federation.policy(origin, "public.customers", rows=shown, clear=["id", "home"], masks=MASKS)


def assert_exact(federation: Federation, origin: str, destination: str, shown: str = "true") -> None:
    there = federation[origin].sql(MASKED.format(shown))
    assert federation[destination].sql(COPIED.format(origin)) == there


def assert_no_canary(federation: Federation, origin: str, canary: str = CANARY) -> None:
    """Neither in anything that was sent to the others nor in what they hold."""
    sent = bytes(federation[origin].sent)
    assert sent
    for form in (canary.encode(), canary.encode("utf-16-le"), canary.encode().hex().encode()):
        assert form not in sent
    for name, region in federation.regions.items():
        if name != origin:
            held = region.sql(
                "select count(*) from abroad.customers c where region = %s and c::text like %s", origin, f"%{canary}%"
            )
            assert held == [(0,)]


async def test_rows_are_masked_and_follow(federation: Federation) -> None:
    customers(federation, "eu", rows=1000)
    us, eu = federation["us"], federation["eu"]
    await federation.start()
    await federation.settled("eu", "us")
    assert_exact(federation, "eu", "us")
    eu.sql(f"""
        insert into customers values (2000, 'new@{CANARY}', 'Zoë', null, 'eu'), (2001, null, null, null, 'eu');
        update customers set email = 'changed@{CANARY}' where id = 1;
        delete from customers where id = 2;
        update customers set id = 3000 where id = 3;
        update customers set id = id + 5000 where id between 10 and 20
    """)
    await federation.settled("eu", "us")
    assert_exact(federation, "eu", "us")
    assert_no_canary(federation, "eu")
    eu.sql("truncate customers; insert into customers values (7, 'a', 'b', null, 'eu')")
    await federation.settled("eu", "us")
    assert_exact(federation, "eu", "us")
    assert us.sql("select id, region from federated.customers") == [(7, "eu")]
    [(relation, region, state, age)] = us.sql("select relation::text, region, state, age from domicile.freshness")
    assert (relation, region, state) == ("customers", "eu", "streaming")
    assert age is not None


TYPES = """
    create schema "sales € é";
    create type "sales € é"."Mood" as enum ('sad', 'ok', 'très ''content''');
    create domain "sales € é".short as varchar(5) not null check (value <> '');
    create table "sales € é"."Kunden ""x" (
        "id ä" uuid, part int, "region" text,
        n numeric(10, 3), f float8, b bytea, j jsonb, ts timestamptz, i interval, ip inet,
        mood "sales € é"."Mood", moods "sales € é"."Mood"[], grid int[], words text[], r int4range,
        s "sales € é".short, big text, dropped int,
        twice int generated always as (part * 2) stored,
        primary key (part, "id ä")
    );
    alter table "sales € é"."Kunden ""x" drop column dropped, add column "nach dem" char(3) collate "C"
"""
VALUES = """
    insert into "sales € é"."Kunden ""x" (
        "id ä", part, "region", n, f, b, j, ts, i, ip, mood, moods, grid, words, r, s, big, "nach dem"
    )
    values
    ('00000000-0000-0000-0000-000000000001', 1, 'eu', 'NaN', 'infinity', '\\x00ff', '{"a": [1, null]}', 'infinity',
        '1 mon 2 days', '::1/64', 'très ''content''', '{sad,NULL,ok}', '[0:1][1:2]={{1,2},{3,NULL}}', '{"ä","",NULL}',
        '[1,5)', 'abc', repeat('x', 5000) || random(), 'x'),
    ('00000000-0000-0000-0000-000000000002', 1, 'eu',
        null, null, null, null, null, null, null, null, null, null, null, null, 's', null, null),
    ('00000000-0000-0000-0000-000000000003', 2, 'eu', 1.5, '-0', '', 'null', '-infinity', '-1 second', '10.0.0.1', 'ok',
        '{}', '{}', '{}', 'empty', '日本', (select string_agg(md5(i::text), '') from generate_series(1, 2000) i), 'ab')
"""
ALL_TYPES = [
    "id ä", "part", "region", "n", "f", "b", "j", "ts", "i", "ip", "mood", "moods", "grid", "words", "r", "s", "big",
    "twice", "nach dem",
]  # fmt: skip


async def test_every_kind_of_value_and_name(federation: Federation) -> None:
    us, eu = federation["us"], federation["eu"]
    us.sql("create type filler as enum ('a'); create table filler_table (id int)")  # so that OIDs differ
    federation.everywhere(TYPES)
    table = '"sales € é"."Kunden ""x"'
    federation.pin(table, "region")
    federation.policy("eu", table, clear=ALL_TYPES)
    eu.sql(VALUES)
    await federation.start()
    await federation.settled("eu", "us")

    def texts(region: Region, source: str) -> list[tuple[object, ...]]:
        columns = ", ".join(f'"{c}"::text' for c in ALL_TYPES)
        return region.sql(f'select {columns} from {source} order by part, "id ä"')

    copy = '"abroad$sales € é"."Kunden ""x"'
    assert len(texts(us, copy)) == 3
    assert texts(us, copy) == texts(eu, table)
    # A long value that an update leaves alone is not in the log; the copy keeps it all the same.
    eu.sql(f"update {table} set n = 2 where part = 2; update {table} set part = 3 where n is null")
    eu.sql(VALUES.replace("0000-00000000000", "0000-10000000000"))
    await federation.settled("eu", "us")
    assert len(texts(us, copy)) == 6
    assert texts(us, copy) == texts(eu, table)
    # Its own column "region" stands beside the one that says where the row lives.
    [(region, home)] = us.sql('select distinct "region", home_region from "federated$sales € é"."Kunden ""x"')
    assert (region, home) == ("eu", "eu")


async def test_rows_that_enter_and_leave_the_filter(federation: Federation) -> None:
    customers(federation, "eu", rows=30, shown="consent")
    eu = federation["eu"]
    await federation.start()
    await federation.settled("eu", "us")
    assert_exact(federation, "eu", "us", "consent")
    eu.sql("update customers set consent = not consent where id <= 20")
    eu.sql("update customers set consent = true, id = id + 100 where not consent and id < 10")
    eu.sql("update customers set consent = false, email = 'gone' where id > 25")
    eu.sql("delete from customers where not consent and id > 27")
    eu.sql(
        f"insert into customers values (500, 'in@{CANARY}', 'In', null, 'eu', true);"
        f"insert into customers values (501, 'out@{CANARY}', 'Out', null, 'eu', false)"
    )
    await federation.settled("eu", "us")
    assert_exact(federation, "eu", "us", "consent")
    assert_no_canary(federation, "eu")


async def test_what_changes_nothing_visible_sends_nothing(federation: Federation) -> None:
    customers(federation, "eu", rows=30, shown="consent")
    eu, us = federation["eu"], federation["us"]
    await federation.start()
    await federation.settled("eu", "us")
    applied = us.sql("select ordinal from domicile.progress where origin = 'eu'")
    eu.sent.clear()
    eu.sql("update customers set born = '1999-09-09'")  # withheld
    eu.sql("update customers set name = 'N' || id")  # masked to the same
    eu.sql("update customers set email = email")
    eu.sql("update customers set email = 'hidden' where not consent; delete from customers where not consent")
    await federation.settled("eu", "us")
    frames = list(wire.Decoder().feed(bytes(eu.sent)))
    assert {type(f) for f in frames} <= {wire.Beat, wire.Alive, wire.Ack}
    assert us.sql("select ordinal from domicile.progress where origin = 'eu'") == applied


async def test_tables_without_a_visible_key_are_kept_as_bags_of_rows(federation: Federation) -> None:
    us, eu = federation["us"], federation["eu"]
    federation.everywhere(
        "create table log (id int primary key, word text, at point, home text default 'eu');"
        "create table bag (word text, j json, home text default 'eu')"
    )
    for table in ("log", "bag"):
        federation.pin(f"public.{table}")
    federation.policy("eu", "public.log", clear=["word", "at"])
    federation.policy("eu", "public.bag", clear=["word", "j"])
    eu.sql(
        "insert into log select i, 'w' || i % 3, '(1,2)' from generate_series(1, 9) i;"
        "insert into bag values ('a', '{}'), ('a', '{}')"
    )
    await federation.start()
    await federation.settled("eu", "us")
    for statement in (
        "update log set word = 'w1' where id = 2; delete from log where id = 4; insert into log values (20)",
        "insert into bag values ('a', '{}'), (null, null); delete from bag where ctid = (select min(ctid) from bag)",
        "update log set id = id + 100",
        "truncate bag; insert into bag values ('b', null)",
    ):
        eu.sql(statement)
        await federation.settled("eu", "us")
        for table, columns in (("log", "word, at::text"), ("bag", "word, j::text")):
            query = "select {} from {} order by 1, 2"
            assert us.sql(query.format(columns, f"abroad.{table}")) == eu.sql(query.format(columns, table))
    assert us.sql("select id from abroad.log where id is not null") == []


async def test_a_changed_policy_withdraws_and_copies_anew(federation18: Federation) -> None:
    federation = federation18
    customers(federation, "eu")
    us, eu = federation["us"], federation["eu"]
    await federation.start()
    await federation.settled("eu", "us")
    federation.policy("eu", "public.customers", clear=["id", "home", "born"], rows="id <= 50")
    await until(
        lambda: us.sql("select count(*) from abroad.customers where email is null and born is not null") == [(50,)]
    )
    assert us.sql("select count(*) from abroad.customers") == [(50,)]
    # Another change of the catalog is none of this copy's business: the session goes on.
    [(copy,)] = us.sql("select copy from domicile.progress where origin = 'eu'")
    eu.sql("select domicile.changed('something else')")
    eu.sql("update customers set born = '2001-01-01' where id = 1")
    await federation.settled("eu", "us")
    assert us.sql("select born::text from abroad.customers where id = 1") == [("2001-01-01",)]
    assert us.sql("select copy from domicile.progress where origin = 'eu'") == [(copy,)]
    federation.policy("eu", "public.customers", clear=["id", "home"], copy=False)
    await until(lambda: us.sql("select count(*) from abroad.customers") == [(0,)])
    await until(
        lambda: eu.sql("select count(*) from pg_replication_slots where slot_name = 'domicile_eu_to_us'") == [(0,)]
    )


async def test_a_column_is_added_in_mid_stream(federation18: Federation) -> None:
    federation = federation18
    customers(federation, "eu")
    us, eu = federation["us"], federation["eu"]
    await federation.start()
    await federation.settled("eu", "us")
    federation["us"].sql("alter table customers add column phone text")
    federation["eu"].sql(f"alter table customers add column phone text; update customers set phone = '+49 {CANARY}'")
    eu.sql("insert into customers values (999, 'x', 'y', null, 'eu')")
    await until(lambda: us.sql("select 1 from abroad.customers where id = 999"))
    await federation.settled("eu", "us")
    assert_exact(federation, "eu", "us")
    assert us.sql("select count(phone) from federated.customers") == [(0,)]  # nobody has named it: withheld
    assert_no_canary(federation, "eu")


async def test_tables_that_differ_fail_with_a_clear_state_and_recover(federation18: Federation) -> None:
    federation = federation18
    customers(federation, "eu")
    us = federation["us"]
    us.sql("alter table customers alter id type int")
    await federation.start()
    await until(lambda: us.sql("select 1 from domicile.progress where origin = 'eu' and state = 'failed'"))
    [(reason,)] = us.sql("select reason from domicile.progress where origin = 'eu'")
    assert 'customers is not the same in region "eu" and here' in reason
    us.sql("alter table customers alter id type bigint")
    await federation.settled("eu", "us")
    assert_exact(federation, "eu", "us")


async def test_who_may_read_copies(federation: Federation) -> None:
    customers(federation, "eu", "us")
    us = federation["us"]
    us.sql("""
        create role analyst login; create role clerk login; create role nobody_here login;
        grant select on customers to analyst; grant select (id, email) on customers to clerk;
        select domicile.settle()
    """)
    await federation.start()
    await federation.settled("eu", "us")

    def read(role: str, query: str) -> int:
        with us.database.connect() as connection:
            connection.execute(f'set session authorization "{role}"'.encode())
            return len(connection.execute(query.encode()).fetchall())

    assert read("analyst", "select * from federated.customers") == 200
    assert read("analyst", "select * from abroad.customers") == 100
    assert read("analyst@eu", "select * from to_eu.customers") == 100  # it is there, and sees this region's rows
    assert read("clerk", "select id, region from abroad.customers") == 100
    for role, query in (
        ("clerk", "select name from abroad.customers"),
        ("clerk", "select id from federated.customers"),  # the view reads every column as its reader
        ("nobody_here", "select id from federated.customers"),
        ("nobody_here", "select id from abroad.customers"),
        ("analyst@eu", "select id from federated.customers"),
        ("analyst@eu", "select id from abroad.customers"),
        ("analyst", "delete from abroad.customers returning 1"),
        ("analyst", "select 1 from domicile.progress"),
    ):
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            read(role, query)
    assert us.sql("select * from domicile.reach('analyst@eu')") == []
    us.sql("revoke select on customers from analyst")
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        read("analyst", "select id from abroad.customers")


async def test_an_idle_slot_moves_and_copies_stay_fresh(federation: Federation) -> None:
    customers(federation, "eu")
    eu = federation["eu"]
    await federation.start()
    await federation.settled("eu", "us")

    def confirmed() -> object:
        return eu.sql("select confirmed_flush_lsn from pg_replication_slots where slot_name = 'domicile_eu_to_us'")[0][
            0
        ]

    before = confirmed()
    eu.sql("create table unrelated as select i from generate_series(1, 10000) i")
    await until(lambda: confirmed() > before)  # type: ignore[operator]
    await federation.settled("eu", "us")
    assert eu.sql("select state, connected, lag_bytes is not null from domicile.sending") == [("streaming", True, True)]


async def test_only_our_own_heartbeats_tell_the_time(federation18: Federation) -> None:
    federation = federation18
    customers(federation, "eu")
    await federation.start()
    await federation.settled("eu", "us")
    federation["eu"].sql("select pg_logical_emit_message(false, 'domicile.beat', 'x 9000000000000000')")
    await federation.settled("eu", "us")
    assert federation["us"].sql("select 1 from domicile.progress where as_of > now() + '1 hour'") == []


async def test_a_region_that_is_down_stops_no_other(server18: EmbeddedServer, make_federation: Make) -> None:
    federation = make_federation(server18, "us", "eu", "ap")
    customers(federation, "eu", "ap")
    for name in ("us", "eu"):
        await federation[name].start()
    await federation.settled("eu", "us")
    assert_exact(federation, "eu", "us")
    await federation["ap"].start()
    for origin, destination in (("eu", "ap"), ("ap", "us"), ("ap", "eu")):
        await federation.settled(origin, destination)
        assert_exact(federation, origin, destination)
    await federation["ap"].stop()
    federation["eu"].sql("delete from customers where id < 50")
    await federation.settled("eu", "us")
    assert_exact(federation, "eu", "us")
    await federation["ap"].start()
    await federation.settled("eu", "ap")
    assert_exact(federation, "eu", "ap")


async def test_a_certificate_of_no_region_or_of_another_authority_gets_nothing(
    federation18: Federation, certificate_files: dict[str, object], tmp_path: Path
) -> None:
    from domicile import certificates

    federation = federation18
    customers(federation, "eu")
    await federation["eu"].start()
    agent = configuration.load(federation["eu"].file).agent
    assert agent is not None
    host, port = agent.listen
    strangers = certificates.make(tmp_path / "other", ["us", "eu"])
    same_authority = certificates.make(next(iter(certificate_files.values())).authority.parent, ["xx"])  # type: ignore[attr-defined]
    for name, files in (("us", strangers["us"]), ("xx", same_authority["xx"])):  # type: ignore[index]
        context = certificates.caller_context(files)
        context.load_verify_locations(certificate_files["eu"].authority)  # type: ignore[attr-defined]
        with contextlib.suppress(OSError):
            reader, writer = await asyncio.open_connection(
                host, port, ssl=context, server_hostname=certificates.server_name(configuration.RegionName("eu"))
            )
            writer.write(wire.encode(wire.Hello(1, name, None, None)))
            assert await reader.read(1) == b""
            writer.close()
    assert not federation["eu"].sent


async def test_a_region_that_is_away_or_dropped_leaves_no_slot_and_no_copy(federation18: Federation) -> None:
    federation = federation18
    customers(federation, "eu", "us")
    us, eu = federation["us"], federation["eu"]
    await federation.start()
    await federation.settled("eu", "us")
    await federation.settled("us", "eu")
    await us.stop()
    assert (
        len(eu.sql("select 1 from pg_replication_slots where slot_name = 'domicile_eu_to_us'")) == 1
    )  # it will return
    eu.sql("select domicile.drop_region('us')")
    await until(lambda: not eu.sql("select 1 from pg_replication_slots where slot_name = 'domicile_eu_to_us'"))
    assert eu.sql("select 1 from domicile.subscription") == []
    assert eu.sql("select 1 from abroad.customers") == []
    assert eu.sql("select 1 from domicile.freshness") == []
    assert len(us.sql("select 1 from abroad.customers")) == 100  # what us holds is us's own to withdraw


async def test_partitioned_tables(federation: Federation) -> None:
    us, eu = federation["us"], federation["eu"]
    federation.everywhere("""
        create table reading (id int, at date, note text, home text, primary key (id, at)) partition by range (at);
        create table reading_1 partition of reading for values from ('2020-01-01') to ('2021-01-01');
        create table reading_2 (note text, home text, gone int, at date not null, id int not null);
        alter table reading_2 drop column gone;
        alter table reading attach partition reading_2 for values from ('2021-01-01') to ('2022-01-01')
    """)
    federation.pin("public.reading")
    federation.policy("eu", "public.reading", clear=["id", "at", "note", "home"])
    eu.sql("insert into reading select i, date '2020-01-01' + i, 'n' || i, 'eu' from generate_series(1, 700) i")
    await federation.start()
    await federation.settled("eu", "us")
    eu.sql("update reading set note = 'moved', at = at + 366 where id < 100; delete from reading where id > 650")
    eu.sql("update reading_2 set note = 'in the partition' where id = 600; truncate reading_1")
    await federation.settled("eu", "us")
    query = "select id, at, note, home from {} order by id"
    await until(lambda: us.sql(query.format("abroad.reading")) == eu.sql(query.format("reading")))
    eu.sql("create table reading_3 partition of reading for values from ('2022-01-01') to ('2023-01-01')")
    eu.sql("insert into reading values (1000, '2022-01-01', 'x', 'eu'); update reading set note = 'y' where id = 1000")
    await until(lambda: us.sql(query.format("abroad.reading")) == eu.sql(query.format("reading")))
    eu.sql("drop table reading_2")
    await until(lambda: us.sql(query.format("abroad.reading")) == eu.sql(query.format("reading")))


async def test_virtual_generated_columns_are_refused_by_name(federation18: Federation) -> None:
    federation = federation18
    federation.everywhere("create table v (id int primary key, home text, twice int generated always as (id * 2))")
    federation.pin("public.v")
    federation.policy("eu", "public.v", clear=["id", "home"])
    await federation.start()
    await until(
        lambda: federation["us"].sql("select 1 from domicile.progress where origin = 'eu' and state = 'failed'")
    )
    federation["eu"].sql("insert into v values (1, 'eu'); update v set id = 2")  # the application is not harmed


@pytest.mark.parametrize("version", [18, 15])
async def test_installed_without_superuser(version: int, request: pytest.FixtureRequest, make_federation: Make) -> None:
    server: EmbeddedServer = request.getfixturevalue(f"server{version}")
    federation = make_federation(server, "us", "eu", managed=True)
    customers(federation, "eu", shown="consent")
    us, eu = federation["us"], federation["eu"]
    await federation.start()
    await federation.settled("eu", "us")
    eu.sql(f"update customers set email = 'x@{CANARY}' where id < 50; delete from customers where id > 90")
    await federation.settled("eu", "us")
    assert_exact(federation, "eu", "us", "consent")
    assert_no_canary(federation, "eu")
    assert us.sql("select count(*) from federated.customers") == eu.sql("select count(*) from customers where consent")


async def test_what_leaves_stands_in_the_ledger(federation18: Federation) -> None:
    federation = federation18
    customers(federation, "eu", shown="consent", rows=30)
    eu = federation["eu"]
    await federation.start()
    await federation.settled("eu", "us")
    eu.sql("update customers set email = 'x' where id <= 6; delete from customers where id = 1")
    await federation.settled("eu", "us")
    await federation.stop()
    rows = eu.sql(
        "select destination, relation, columns, sum(rows)::int, sum(bytes) > 0 from domicile.egress"
        " where via = 'stream' group by 1, 2, 3"
    )
    assert rows == [("us", "public.customers", ["id", "email", "name", "home"], 20 + 4 + 1, True)]


# --- faults ---------------------------------------------------------------------------------------------------------

BANK = """
    create table bank (id int primary key, owner text, balance int not null, home text);
    insert into bank select i, i || '@secret.example', 100, 'eu' from generate_series(1, 20) i
"""
BANK_MASKED = "select id, left(owner, 4), balance, home from bank order by id"


def transfer(eu: Region, random_: random.Random) -> None:
    """One transaction that moves money, renames, and sometimes replaces an account: the sum stays."""
    a, b = random_.sample(range(1, 21), 2)
    amount = random_.randint(1, 50)
    more = ""
    if random_.random() < 0.3:
        more = f"with gone as (delete from bank where id = {a} returning *) insert into bank select * from gone;"
    eu.sql(f"""
        begin;
        update bank set balance = balance - {amount}, owner = '{random_.random()}@secret.example' where id = {a};
        update bank set balance = balance + {amount} where id = {b};
        commit; {more}
    """)


async def watch(us: Region, stop: asyncio.Event) -> int:
    """Reads the copy over and over: no torn transaction is ever visible. Returns how often it has looked."""
    looks = 0
    while not stop.is_set():
        [(count, total)] = await asyncio.to_thread(
            us.sql, "select count(*), sum(balance) from abroad.bank where region = 'eu'"
        )
        assert (count, total) in ((0, None), (20, 2000))
        looks += 1
        await asyncio.sleep(0.005)
    return looks


def bank(federation: Federation) -> None:
    federation.everywhere("create table bank (id int primary key, owner text, balance int not null, home text)")
    federation["eu"].sql("drop table bank;" + BANK)
    federation.pin("public.bank")
    federation.policy("eu", "public.bank", clear=["id", "balance", "home"], masks={"owner": "left(owner, 4)"})


async def test_agents_that_are_cancelled_at_any_instant(federation18: Federation) -> None:
    federation = federation18
    bank(federation)
    us, eu = federation["us"], federation["eu"]
    seed = random.randrange(1 << 32)
    print("seed", seed)
    random_ = random.Random(seed)
    await federation.start()
    stop = asyncio.Event()
    watcher = asyncio.create_task(watch(us, stop))
    for _ in range(12):
        for _ in range(random_.randint(1, 10)):
            await asyncio.to_thread(transfer, eu, random_)
        region = random_.choice([us, eu])
        await asyncio.sleep(random_.random() * 0.1)
        await region.stop()
        if random_.random() < 0.5:
            await asyncio.to_thread(transfer, eu, random_)
        await region.start()
    await federation.settled("eu", "us")
    stop.set()
    assert await watcher > 0
    assert us.sql(BANK_MASKED.replace("left(owner, 4)", "owner").replace("bank", "abroad.bank")) == eu.sql(BANK_MASKED)
    assert b"secret.example" not in eu.sent


async def test_agents_and_server_processes_that_are_killed(federation18: Federation) -> None:
    federation = federation18
    bank(federation)
    us, eu = federation["us"], federation["eu"]
    seed = random.randrange(1 << 32)
    print("seed", seed)
    random_ = random.Random(seed)

    def run(region: Region) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            [sys.executable, "-m", "tests.stream.run_agent", region.file], stderr=subprocess.DEVNULL
        )

    processes = {region.name: run(region) for region in (us, eu)}
    stop = asyncio.Event()
    watcher = asyncio.create_task(watch(us, stop))
    try:
        await federation.settled("eu", "us")
        for _ in range(5):
            for _ in range(random_.randint(1, 20)):
                await asyncio.to_thread(transfer, eu, random_)
            if random_.random() < 0.3:
                # The backends of the agents die in mid-work, and with them what they had not committed.
                eu.sql("select pg_terminate_backend(pid) from pg_stat_activity where usename = 'domicile_node'")
            else:
                region = random_.choice([us, eu])
                processes[region.name].send_signal(signal.SIGKILL)
                processes[region.name].wait()
                processes[region.name] = run(region)
            await asyncio.sleep(random_.random() * 0.5)
        await federation.settled("eu", "us")
    finally:
        stop.set()
        for process in processes.values():
            process.kill()
            process.wait()
    assert await watcher > 0
    assert us.sql(BANK_MASKED.replace("left(owner, 4)", "owner").replace("bank", "abroad.bank")) == eu.sql(BANK_MASKED)


async def test_a_link_that_is_cut_falls_silent_or_half_opens(
    federation18: Federation, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    federation = federation18
    bank(federation)
    us, eu = federation["us"], federation["eu"]
    monkeypatch.setattr(core, "SILENCE_S_MAX", 1.0)
    monkeypatch.setattr(core, "ALIVE_EVERY_S", 0.2)
    monkeypatch.setattr(sending, "TICK_S", 0.1)
    monkeypatch.setattr(receiving, "TICK_S", 0.1)
    listening = configuration.load(eu.file).agent
    assert listening is not None
    seed = random.randrange(1 << 32)
    print("seed", seed)
    random_ = random.Random(seed)
    with RelayProcess([Link("us>eu", tuple(listening.listen), 20)], log=tmp_path / "relay.log") as relay:
        text = us.file.read_text()
        assert text.count(str(listening.listen)) == 1
        us.file.write_text(text.replace(str(listening.listen), f"127.0.0.1:{relay.port('us>eu')}"))
        await federation.start()
        await federation.settled("eu", "us")
        stop = asyncio.Event()
        watcher = asyncio.create_task(watch(us, stop))
        for fault in (relay.cut, relay.silence, relay.half_open, relay.cut, relay.half_open):
            for _ in range(5):
                await asyncio.to_thread(transfer, eu, random_)
            fault()
            await asyncio.to_thread(transfer, eu, random_)
            await asyncio.sleep(random_.random() * 2)
            relay.heal()
        await federation.settled("eu", "us")
        stop.set()
        assert await watcher > 0
    assert us.sql(BANK_MASKED.replace("left(owner, 4)", "owner").replace("bank", "abroad.bank")) == eu.sql(BANK_MASKED)
    assert b"secret.example" not in eu.sent


async def test_a_slot_that_was_lost_is_made_anew(federation18: Federation) -> None:
    federation = federation18
    customers(federation, "eu")
    eu = federation["eu"]
    await federation.start()
    await federation.settled("eu", "us")
    await eu.stop()
    await until(lambda: eu.sql("select count(*) from pg_replication_slots where active") == [(0,)])
    eu.sql("select pg_drop_replication_slot('domicile_eu_to_us'); delete from customers where id > 10")
    await eu.start()
    await federation.settled("eu", "us")
    assert_exact(federation, "eu", "us")


async def test_a_destination_that_was_restored_is_copied_anew(federation18: Federation) -> None:
    federation = federation18
    customers(federation, "eu")
    us, eu = federation["us"], federation["eu"]
    await federation.start()
    await federation.settled("eu", "us")
    await us.stop()
    # Older than what the slot has let go: had it gone on from there, the deletes would never arrive.
    us.sql(
        "update domicile.progress set lsn = lsn - 1000000 where origin = 'eu';delete from abroad.customers where id = 1"
    )
    eu.sql("delete from customers where id > 10")
    await us.start()
    await federation.settled("eu", "us")
    assert_exact(federation, "eu", "us")


async def test_a_second_agent_of_a_region_doubles_nothing(federation18: Federation) -> None:
    federation = federation18
    bank(federation)
    us, eu = federation["us"], federation["eu"]
    await federation.start()
    await federation.settled("eu", "us")
    second = Region("us", 1, us.database, us.file)
    second.agent = None
    from domicile.replication.agent import Agent

    loaded = configuration.load(us.file)
    other = Agent(loaded, beat_s=0.05)
    other._listen_at = configuration.Endpoint("127.0.0.1", 0)
    await other.start()
    try:
        for n in range(20):
            eu.sql(f"update bank set balance = balance + 1 where id = {n % 20 + 1}")
            await asyncio.sleep(0.02)
    finally:
        await other.stop()
    await federation.settled("eu", "us")
    assert us.sql(BANK_MASKED.replace("left(owner, 4)", "owner").replace("bank", "abroad.bank")) == eu.sql(BANK_MASKED)


async def test_a_table_whose_owner_took_its_identity_away_is_named(federation18: Federation) -> None:
    federation = federation18
    customers(federation, "eu")
    eu = federation["eu"]
    await federation.start()
    await federation.settled("eu", "us")
    eu.sql("alter table customers replica identity default")
    eu.sql("update customers set name = 'Other' where id = 1")
    await until(lambda: eu.sql("select 1 from domicile.sending where state = 'failed'"))
    [(reason,)] = eu.sql("select reason from domicile.sending")
    assert "customers" in reason
    assert "REPLICA IDENTITY FULL" in reason
    assert CANARY not in reason
