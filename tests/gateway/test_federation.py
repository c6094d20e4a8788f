"""One database out of three regions: rows of each, through one gateway, by real drivers."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import asyncpg
import psycopg
import pytest
from psycopg import errors

from domicile.demo.federation import Federation
from domicile.demo.regions import DATABASE

Connection = psycopg.Connection[tuple[Any, ...]]
REGIONS = ("us", "eu", "ap")


@pytest.fixture
def us(federation: Federation) -> Iterator[Connection]:
    with federation.connect("us") as connection:
        yield connection


def everywhere(federation: Federation, query: str) -> list[tuple[Any, ...]]:
    """What the regional servers themselves hold, in clear."""
    rows: list[tuple[Any, ...]] = []
    for region in REGIONS:
        with federation.connect(region, "postgres", direct=True) as connection:
            rows += connection.execute(query.encode()).fetchall()
    return rows


def nothing_is_prepared(federation: Federation) -> bool:
    return not everywhere(federation, "select gid from pg_prepared_xacts")


def _ids(federation: Federation, country: str) -> set[int]:
    return {row[0] for row in everywhere(federation, f"select id from customers where country = '{country}'")}


def by_country(federation: Federation, region: str) -> str:
    """A country whose customers live in the region."""
    with federation.connect(region, "postgres", direct=True) as connection:
        row = connection.execute(
            "select country from customers group by 1 order by count(*) desc, 1 limit 1"
        ).fetchone()
    assert row is not None
    return str(row[0])


def test_a_europeans_data_is_masked_in_america_and_clear_at_home(federation: Federation) -> None:
    country = by_country(federation, "eu")
    query = "select id, name, email, phone from customers where country = %s order by id"
    with federation.connect("us") as us, federation.connect("eu") as eu:
        abroad, clear = us.execute(query, (country,)).fetchall(), eu.execute(query, (country,)).fetchall()
    assert [row[0] for row in abroad] == [row[0] for row in clear]
    for masked, real in zip(abroad, clear, strict=True):
        assert masked[1] == real[1][0] + "***"
        assert masked[2] != real[2]
        assert masked[3] is None


def test_a_look_up_by_id_finds_the_row_wherever_it_lives(federation: Federation, us: Connection) -> None:
    for region in REGIONS:
        with federation.connect(region, direct=True) as home:
            row = home.execute("select id, country from customers order by id desc limit 1").fetchone()
        assert row is not None
        for binary in (False, True):
            got = us.execute("select id, country from customers where id = %s", (row[0],), binary=binary)
            assert got.fetchall() == [row]
            assert got.statusmessage == "SELECT 1"
    assert us.execute("select id from customers where id = -1").fetchall() == []


def test_rows_of_several_regions_are_added_up_and_sorted(federation: Federation, us: Connection) -> None:
    ids = sorted(row[0] for row in everywhere(federation, "select id from customers"))
    assert us.execute("select count(*), min(id), max(id), sum(id) from customers").fetchone() == (
        len(ids),
        ids[0],
        ids[-1],
        sum(ids),
    )
    top = [row[0] for row in us.execute("select id from customers order by id desc limit 7 offset 3").fetchall()]
    assert top == ids[::-1][3:10]
    assert sorted(row[0] for row in us.execute("select id from customers").fetchall()) == ids
    counted = dict(us.execute("select country, count(*) from customers group by country").fetchall())
    assert sum(counted.values()) == len(ids)


async def test_eight_sessions_over_three_regions_by_asyncpg(federation: Federation) -> None:
    found = {row[0]: row[1] for row in everywhere(federation, "select id, country from customers")}
    ap = federation.regions["ap"]
    pool = await asyncpg.create_pool(
        host="127.0.0.1",
        port=ap.gateway_port,
        user="app",
        password=ap.passwords["app"],
        database=DATABASE,
        min_size=8,
        max_size=8,
    )

    async def look(number: int) -> None:
        assert await pool.fetchval("select country from customers where id = $1", number) == found[number]

    await asyncio.gather(*(look(number) for number in found))
    await pool.close()


def test_rows_go_to_their_homes_and_a_failure_takes_all_back(federation: Federation, us: Connection) -> None:
    countries = [by_country(federation, region) for region in REGIONS]
    values = ", ".join(f"('{c}', 'split', 'split@example.com', true)" for c in countries)
    insert = f"insert into customers (country, name, email, consent) values {values} returning id, country"
    rows = us.execute(insert.encode()).fetchall()
    assert sorted(row[1] for row in rows) == sorted(countries)
    for region, country in zip(REGIONS, countries, strict=True):
        with federation.connect(region, direct=True) as home:
            assert home.execute("select country from customers where name = 'split'").fetchall() == [(country,)]
    with pytest.raises(errors.NotNullViolation):
        us.execute(insert.replace(", true)", ", null)", 1).encode())
    assert len(everywhere(federation, "select 1 from customers where name = 'split'")) == 3
    assert nothing_is_prepared(federation)
    us.execute("begin")
    for country in countries:
        us.execute("delete from customers where country = %s and id = any(%s)", (country, [row[0] for row in rows]))
    us.execute("commit")
    assert everywhere(federation, "select 1 from customers where name = 'split'") == []
    assert nothing_is_prepared(federation)


def test_a_transaction_over_regions_is_all_or_nothing(federation: Federation, us: Connection) -> None:
    countries = [by_country(federation, region) for region in REGIONS]
    before = sorted(everywhere(federation, "select id, tier from customers"))
    us.execute("begin")
    for country in countries:
        us.execute("update customers set tier = 'gold' where country = %s", (country,))
    us.execute("rollback")
    assert sorted(everywhere(federation, "select id, tier from customers")) == before
    us.execute("begin")
    us.execute("update customers set tier = 'gold' where country = %s", (countries[1],))
    us.execute("savepoint a")
    us.execute("update customers set tier = 'gold' where country = %s", (countries[2],))
    us.execute("rollback to a")
    us.execute("commit")
    tiers = dict(everywhere(federation, "select country, array_agg(distinct tier) from customers group by 1"))
    assert tiers[countries[1]] == ["gold"]
    assert tiers[countries[2]] == sorted({tier for number, tier in before if number in _ids(federation, countries[2])})
    with federation.connect("eu", "postgres", direct=True) as home:
        for number, tier in before:
            home.execute("update customers set tier = %s where id = %s", (tier, number))
    assert sorted(everywhere(federation, "select id, tier from customers")) == before
    assert nothing_is_prepared(federation)


def test_copy_in_is_split_by_home(federation: Federation, us: Connection) -> None:
    countries = [by_country(federation, region) for region in REGIONS]
    for how in ("", " (format csv)", " (format binary)"):
        with us.cursor().copy(f"copy customers (country, name, email, consent) from stdin{how}") as copy:
            if "binary" in how:
                copy.set_types(["text", "text", "text", "bool"])
            for number in range(60):
                row = (countries[number % 3], f"copied {number}", "copied@example.com", True)
                if "csv" in how:
                    copy.write(",".join(map(str, row)) + "\n")
                else:
                    copy.write_row(row)
        for region, country in zip(REGIONS, countries, strict=True):
            with federation.connect(region, "postgres", direct=True) as home:
                got = home.execute("select country, count(*) from customers where name like 'copied %' group by 1")
                assert got.fetchall() == [(country, 20)]
                home.execute("delete from customers where name like 'copied %'")
    with (
        pytest.raises(errors.CheckViolation, match="no region has country"),
        us.cursor().copy("copy customers (country, name, email, consent) from stdin") as copy,
    ):
        copy.write_row((countries[1], "copied", "x", True))
        copy.write_row(("??", "copied", "x", True))
    assert everywhere(federation, "select 1 from customers where name = 'copied'") == []
    assert nothing_is_prepared(federation)


def test_what_can_t_be_right_is_refused_and_says_what_would_work(us: Connection) -> None:
    for statement, construct in [
        ("select row_number() over (order by id) from customers", "window"),
        ("select string_agg(name, ',') from customers", "string_agg"),
        ("update customers set country = 'US' where id = 1", "country"),
        ("update customers set tier = 'x'", "several regions"),
        ("select ctid from customers", "ctid"),
    ]:
        with pytest.raises(errors.FeatureNotSupported) as refused:
            us.execute(statement.encode())
        assert construct in str(refused.value), statement
        assert refused.value.diag.message_hint, statement


def test_a_masked_column_is_masked_in_every_clause(federation: Federation, us: Connection) -> None:
    with federation.connect("eu", direct=True) as home:
        row = home.execute("select id, country, email from customers limit 1").fetchone()
    assert row is not None
    number, country, email = row
    seen = us.execute("select email from customers where country = %s and id = %s", (country, number)).fetchone()
    assert seen is not None
    where = "select id from customers where country = %s and email = %s"
    assert us.execute(where, (country, email)).fetchall() == []
    assert us.execute(where, (country, seen[0])).fetchall() == [(number,)]
    with pytest.raises(psycopg.Error) as refused:
        us.execute("update customers set email = 'x' where country = %s and id = %s", (country, number))
    assert refused.value.sqlstate in ("42501", "55000", "0A000")


def test_explain_says_where_and_why(us: Connection) -> None:
    lines = "\n".join(row[0] for row in us.execute("explain select name from customers where country = 'DE'"))
    assert "Regions: eu" in lines
    assert "country = 'DE'" in lines
    assert "Catalog: version" in lines
    lines = "\n".join(row[0] for row in us.execute("explain select count(*) from customers"))
    assert "combine" in lines
    assert "Declined: append" in lines


def test_domicile_s_own_statements_through_the_gateway(federation: Federation) -> None:
    with federation.connect("us", "dba") as dba:
        notices: list[str] = []
        dba.add_notice_handler(lambda n: notices.append(n.message_primary or ""))
        create = "CREATE RESIDENCY POLICY by_ddl ON products TO REGION ALL CLEAR (id)"
        with pytest.raises(errors.SyntaxError) as wrong:
            dba.execute(create.replace("CLEAR", "CLEER").encode())
        assert wrong.value.diag.statement_position == str(create.index("CLEAR") + 1)
        with pytest.raises(psycopg.Error, match="no_such"):
            dba.execute("CREATE RESIDENCY POLICY by_ddl ON customers TO REGION eu CLEAR (no_such)")
        alter = (
            "ALTER RESIDENCY POLICY abroad ON orders TO REGION ALL CLEAR (id, customer_id, placed_at, status, total)"
        )
        dba.execute(alter.encode())
        assert any("eu: waiting; ap: waiting" in notice for notice in notices)
        waiting = dba.execute("select change_id, region from domicile.outstanding").fetchall()
    assert sorted(region for _, region in waiting) == ["ap", "eu"]
    for change, region in waiting:
        with federation.connect(region, "dba") as there:
            before = there.execute("select domicile.version()").fetchone()
            state = there.execute("select state from domicile.pending where change_id = %s", (change,))
            assert state.fetchall() == [("waiting",)]
            there.execute("select domicile.approve(%s)", (change,))
            assert there.execute("select domicile.version()").fetchone() != before
    with federation.connect("us") as app, pytest.raises(errors.InsufficientPrivilege):
        app.execute(alter.encode())


def test_a_row_that_is_found_does_not_wait_for_a_region_that_can_t_answer(federation: Federation) -> None:
    with federation.connect("eu", direct=True) as home:
        row = home.execute("select id, name from customers order by id limit 1").fetchone()
    assert row is not None
    with federation.connect("us") as us:
        federation.relay.cut("us>ap")
        try:
            for _ in range(3):
                got = us.execute("select id, name from customers where id = %s", (row[0],)).fetchall()
                assert [number for number, _ in got] == [row[0]]
            with pytest.raises(psycopg.OperationalError, match="region ap"):
                us.execute("select count(*) from customers")
        finally:
            federation.relay.heal("us>ap")
        assert us.execute("select count(*) from customers").fetchone() is not None


def test_sql_s_own_prepared_statements_go_where_their_values_say(federation: Federation, us: Connection) -> None:
    countries = [by_country(federation, region) for region in REGIONS]
    us.execute("prepare counted(text) as select count(*) from customers where country = $1")
    for country in countries:
        assert us.execute(f"execute counted('{country}')".encode()).fetchone() == (len(_ids(federation, country)),)
        assert us.execute(f"execute counted(upper('{country.lower()}'))".encode()).fetchone() == (
            len(_ids(federation, country)),
        )
    with pytest.raises(errors.SyntaxError):
        us.execute("execute counted")
    us.execute("deallocate counted")
    with pytest.raises(errors.InvalidSqlStatementName):
        us.execute("execute counted('DE')")


def test_cursors_live_in_the_region_of_their_rows(federation: Federation, us: Connection) -> None:
    for region in REGIONS:
        country = by_country(federation, region)
        with us.transaction(), us.cursor(name="declared") as cursor:
            cursor.itersize = 3
            cursor.execute("select id from customers where country = %s order by id", (country,))
            assert [row[0] for row in cursor] == sorted(_ids(federation, country))
    with pytest.raises(errors.FeatureNotSupported), us.transaction():
        us.execute("declare c cursor for select id from customers")


def test_copy_out_of_three_regions_is_one_copy(federation: Federation, us: Connection) -> None:
    ids = {str(row[0]) for row in everywhere(federation, "select id from customers")}
    with us.cursor().copy("copy (select id, country from customers) to stdout with (format csv, header)") as copy:
        lines = b"".join(copy).decode().splitlines()
    assert lines[0] == "id,country"
    assert {line.split(",")[0] for line in lines[1:]} == ids
    assert len(lines) == len(ids) + 1


def test_global_tables_are_joined_where_the_rows_live(federation: Federation, us: Connection) -> None:
    query = """select p.name, sum(i.quantity) from order_items i join products p on p.id = i.product_id
               group by p.name order by 2 desc, 1 limit 5"""
    sums: dict[str, int] = {}
    for name, quantity in everywhere(
        federation, "select p.name, i.quantity from order_items i join products p on p.id = i.product_id"
    ):
        sums[name] = sums.get(name, 0) + quantity
    top = sorted(sums.items(), key=lambda item: (-item[1], item[0]))[:5]
    assert us.execute(query.encode()).fetchall() == top
