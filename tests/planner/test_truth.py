# ruff: noqa: E501  (statements and rows read best on one line)
"""What plans answer, against PostgreSQL 18: three databases for the regions, one that holds all rows for the truth."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest

from domicile.catalog.errors import DomicileError
from domicile.catalog.names import RegionName
from domicile.catalog.snapshot import Catalog, KeyKind, Locality
from domicile.planner.explain import strategy

from .federation import Federation, Refusal, build, kinds_of_tables
from .random_queries import Queries

SEEDS = [7, *(pytest.param(seed, marks=pytest.mark.long) for seed in range(100, 120))]
RANDOM_QUERIES = 600
RANDOM_WRITES = 300

# (the statement, its parameters, the strategy, whether the order is fixed)
READS: list[tuple[str, tuple[str | None, ...], str, bool]] = [
    ("select * from customers", (), "append", False),
    ("select c.name, o.total from customers c join orders o on o.customer_id = c.id", (), "append", False),
    ("select c.id, o.id from customers c left join orders o on o.customer_id = c.id", (), "append", False),
    ("select id from customers c where not exists (select from orders o where o.customer_id = c.id)", (), "append", False),
    ("select o.id, i.* from orders o join order_items i on i.order_id = o.id join products p on p.id = i.product_id"
     " where p.price > 3", (), "append", False),
    ("select id, (select count(*) from orders o where o.customer_id = c.id) n from customers c", (), "append", False),
    ("select c.id, t.total from customers c, lateral (select total from orders o where o.customer_id = c.id"
     " order by total desc limit 2) t", (), "append", False),
    ("select a.id, b.id from orders a join orders b using (customer_id)", (), "append", False),
    ("select unnest(tags) from customers", (), "append", False),
    ("select * from customers where country in ('DE', 'JP')", (), "append", False),
    ("select id from customers where country = any($1)", ("{US,FR}",), "append", False),
    ("select * from customers where country = $1", ("JP",), "route", False),
    ("select * from customers where country = $1", (None,), "route", False),
    ("select * from customers where country = $1", ("XX",), "route", False),
    ("select count(distinct name), string_agg(name, ',' order by id) from customers where country = 'DE'", (), "route", True),
    ("select * from tickets where id = 1026", (), "route", True),
    ("select * from ticket_notes n join tickets t on t.id = n.ticket_id where n.ticket_id = $1", ("1027",), "route", True),
    ('select * from "Odd ""Name""" where "Land" = $1', ("DE",), "route", True),
    ("select sales.orders.id, sales.orders.* from sales.orders where sales.orders.region = 'A1'", (), "route", True),
    ("with de as (select * from customers where country = 'DE') select count(*), sum(tier) from de", (), "route", True),
    ("select count(*) from customers a, orders b where a.country = 'DE' and b.customer_id = a.id", (), "route", True),
    ("select * from customers where id = 17", (), "look-up", True),
    ("select * from orders where customer_id = $1 order by id", ("23",), "look-up", True),
    ("select customer_id, count(*) from orders where customer_id = 12 group by 1", (), "look-up", True),
    ("select * from customers where id = 170000", (), "look-up", True),
    # merge: in order
    ("select id, name, tags from customers order by id limit 7", (), "merge", True),
    ("select * from customers order by tier desc nulls last, id limit 5 offset 3", (), "merge", True),
    ("select * from customers order by name, id desc", (), "merge", True),
    ("select name as n, id from customers order by n desc, id limit $1 offset $2", ("4", "2"), "merge", True),
    ("select id from customers order by balance * $1, id limit 6", ("-1",), "merge", True),
    ("select id from customers order by lower(name) collate \"C\", 1 limit 20", (), "merge", True),
    ("select c.*, o.total * 2, o.placed::date from customers c join orders o on o.customer_id = c.id"
     " order by o.total * 2 desc, o.id limit 10", (), "merge", True),
    ("select tier from customers order by tier nulls first fetch first 3 rows with ties", (), "merge", True),
    ("select id from customers order by id limit null offset $1", ("35",), "merge", True),
    ("select case when active then 1 end, coalesce(tier, 0), id::text, now() is null, greatest(tier, 2) from customers"
     " order by id limit 3", (), "merge", True),
    ("select id from customers where country in ('DE', 'US') order by id limit 5", (), "merge", True),
    ('select "größe", "select" as "é" from "Odd ""Name""" where "select" <> \'é\' order by "Land" limit 2', (), "merge", True),
    ("select born, active, email, true, null, 'x', 1.5, row(1, 2) is null from customers order by id limit 4", (), "merge", True),
    # combine: types and values
    ("select count(*) from customers", (), "combine", True),
    ("select count(*), sum(tier), max(name) from customers where id < 0", (), "combine", True),
    ("select count(*), count(email), sum(tier), avg(tier), min(name), max(born), min(balance) from customers", (), "combine", True),
    ("select sum(balance), avg(balance), sum(c.id), avg(c.id), sum(items), avg(items), avg(total) from customers c"
     " join orders o on o.customer_id = c.id", (), "combine", False),
    ("select sum(score), avg(score), sum(tier::real), avg(tier::real), sum(tier::float8) from customers", (), "combine", True),
    ("select bool_and(active), bool_or(active), every(active), bit_or(tier), bit_and(tier), bit_xor(tier) from customers",
     (), "combine", True),
    ("select count(*) filter (where tier > 1), sum(balance) filter (where active) from customers", (), "combine", True),
    ("select country, count(*) as n, sum(balance), avg(tier) from customers group by country having count(*) > 2"
     " order by n desc, country limit 4", (), "combine", True),
    ("select tier, count(*) from customers group by 1 order by 1 nulls first", (), "combine", True),
    ("select date_trunc('month', placed) as month, status, sum(total) / count(*) as mean from orders group by 1, 2"
     " order by 1, 2 desc", (), "combine", True),
    ("select date_trunc($1, placed), count(*) + $2 from orders group by date_trunc($1, placed) having count(*) > $3"
     " order by 2 desc, 1 limit $4", ("month", "10", "1", "3"), "combine", True),
    ("select distinct country, tier from customers order by tier desc, country limit 5", (), "combine", True),
    ("select distinct active from customers", (), "combine", False),
    ("select distinct count(*) from orders group by customer_id", (), "combine", False),
    ("select count(*) + 1, coalesce(sum(tier), 0), max(id) - min(id) from customers where active", (), "combine", True),
    ("select sum(total * items), sum(case when status = 'new' then 1 else 0 end), sum(items + 1.5) from orders", (), "combine", True),
    ("select p.name, sum(i.quantity * i.price) from order_items i join products p on p.id = i.product_id group by p.name"
     " order by sum(i.quantity * i.price) desc, p.name limit 3", (), "combine", True),
    ("select count(*) as \"Größe\", avg(placed - placed) from orders", (), "refused", True),
    ("select 1 as one from customers group by active having count(*) > 1", (), "combine", False),
    ("select case when tier > 2 then 'a' else 'b' end as class, count(*) from customers group by class", (), "combine", False),
    ("select count(*) from customers where country in ('FR', 'IN')", (), "combine", True),
    ("select max(placed) - min(placed), min(placed)::date from orders", (), "combine", True),
    ("select -count(*), abs(min(balance)), round(avg(total), 2) from customers c join orders on customer_id = c.id", (), "combine", True),
    ("select c.*, count(o.id) as n, lower(c.name) from customers c left join orders o on o.customer_id = c.id group by c.id"
     " having c.tier > 1 order by n desc, c.id limit 3", (), "combine", True),
    ("select c.id, name, count(*) from customers c join orders o on o.customer_id = c.id where c.country = 'DE' group by c.id"
     " order by c.tier, 1", (), "route", True),
    ("select customers.country, count(*) from customers group by country order by customers.country", (), "combine", True),
    # home, as nothing is pinned
    ("select count(*) from products, countries", (), "home", True),
]  # fmt: skip

WRITES: list[tuple[str, tuple[str | None, ...]]] = [
    ("insert into customers (id, country, name) values (101, 'DE', 'x'), (102, 'US', 'y'), (103, 'FR', 'z') returning id, name", ()),
    ("insert into customers (id, country, name) values (104, $1, $2), ($3, $4, $2)", ("IN", "é", "105", "CA")),
    ("insert into orders (id, customer_id, total) values (900, 101, 5), (901, 102, 6), (902, $1, 7) returning *", ("103",)),
    ("insert into order_items values (900, 1, 1, 1, 1), (901, 1, 1, 1, 1)", ()),
    ("insert into tickets values (9218, 'of eu', true)", ()),
    ("insert into ticket_notes values (9218, 1, 'x')", ()),
    ("insert into orders (id, customer_id, total) select 950 + c.id, c.id, 1 from customers c where c.country = 'DE'", ()),
    ("update customers set tier = 9 where country = 'DE' returning id", ()),
    ("update customers set tier = $1 where id = $2", ("8", "102")),
    ("update orders o set status = 'x' from customers c where c.id = o.customer_id and c.country = $1", ("US",)),
    ("delete from orders where customer_id = 103", ()),
    ("delete from orders using customers c where c.id = customer_id and c.country = 'JP'", ()),
    ("with gone as (delete from order_items i using orders o where o.id = i.order_id and o.customer_id = 12 and o.customer_id = 12"
     " returning i.*) select 1", ()),
]  # fmt: skip


@pytest.fixture
def federation(server18: Any, make_database: Any, catalog: Catalog) -> Iterator[Federation]:
    databases = [make_database(server18) for _ in range(4)]
    connections = [d.connect() for d in databases]
    names = [RegionName(n) for n in ("us", "eu", "ap")]
    each = dict(zip(names, connections[1:], strict=True))
    build(catalog, connections[0], each)
    yield Federation(catalog, connections[0], each)
    for connection in connections:
        connection.close()


def test_reads(federation: Federation) -> None:
    wrong = []
    for sql, values, expected, ordered in READS:
        try:
            made, answer = federation.answer(sql, values)
        except DomicileError as error:
            if expected != "refused":
                wrong.append(f"{sql}\n  refused: {error} ({error.hint})")
            continue
        except Refusal as error:
            wrong.append(f"{sql}\n  {error}")
            continue
        truth = federation.truth(sql, values)
        if answer.columns != truth.columns:
            wrong.append(f"{sql}\n  columns {answer.columns}\n  not     {truth.columns}")
        same = answer.rows == truth.rows if ordered else answer.unordered() == truth.unordered()
        if not same:
            wrong.append(f"{sql}\n  rows {answer.rows[:5]}\n  not  {truth.rows[:5]}")
        taken = strategy(made, 1 if expected == "route" else 2)
        if taken != expected:
            wrong.append(f"{sql}\n  {taken} was taken, not {expected}")
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("seed", SEEDS)
def test_reads_made_at_random(federation: Federation, seed: int) -> None:
    """Whatever is not refused is right. What fails is the n-th query of the seed in the test's name."""
    queries, wrong, taken = Queries(seed), [], Counter[str]()
    for n in range(RANDOM_QUERIES):
        sql = queries.query()
        try:
            truth = federation.truth(sql)
        except Refusal:
            continue  # not valid for PostgreSQL either
        try:
            made, answer = federation.answer(sql)
        except DomicileError as error:
            taken[f"refused {error.sqlstate}"] += 1
            continue
        except Refusal as error:
            wrong.append(f"{n}: {sql}\n  {error}")
            continue
        taken[strategy(made)] += 1
        same = answer.unordered() == truth.unordered()
        if queries.ordered and " group by " not in sql and " union " not in sql:
            same = answer.rows == truth.rows
        if " limit " in sql and " group by " in sql:
            same = len(answer.rows) == len(truth.rows)  # the keys may tie
        if not same or answer.columns != truth.columns:
            wrong.append(
                f"{n}: {sql}\n  {answer.rows[:3]} of {len(answer.rows)}\n  {truth.rows[:3]} of {len(truth.rows)}"
            )
    assert not wrong, f"{len(wrong)} wrong, {taken}\n" + "\n".join(wrong[:10])
    assert min(taken[s] for s in ("append", "merge", "combine", "look-up", "refused 0A000")) > 5, taken


@pytest.mark.parametrize("seed", SEEDS)
def test_writes_made_at_random(federation: Federation, seed: int) -> None:
    """Whatever is not refused changes the rows that one database would change, and no others."""
    queries, wrong, taken = Queries(seed), [], Counter[str]()
    everyone = [federation.whole, *federation.each.values()]
    for n in range(RANDOM_WRITES):
        sql = queries.write()
        for connection in everyone:
            connection.execute("begin")
        try:
            made, answer = federation.answer(sql)
            truth = federation.truth(sql)
            taken[strategy(made)] += 1
            if (answer.count, answer.unordered(), answer.columns) != (truth.count, truth.unordered(), truth.columns):
                wrong.append(f"{n}: {sql}\n  {answer.count} {answer.rows[:3]}\n  {truth.count} {truth.rows[:3]}")
        except DomicileError as error:
            taken[f"refused {error.sqlstate}"] += 1
        except Refusal as error:
            wrong.append(f"{n}: {sql}\n  {error}")
        for connection in everyone:
            connection.execute("rollback")
    assert not wrong, f"{len(wrong)} wrong, {taken}\n" + "\n".join(wrong[:10])
    assert min(taken[s] for s in ("append", "look-up", "refused 0A000")) > 5, taken


def test_writes(federation: Federation, catalog: Catalog) -> None:
    for sql, values in WRITES:
        try:
            _, answer = federation.answer(sql, values)
        except DomicileError:
            assert sql.startswith("with")  # a writing CTE needs one region proven by its keys
            continue
        truth = federation.truth(sql, values)
        assert (answer.count, answer.unordered(), answer.columns) == (truth.count, truth.unordered(), truth.columns), (
            sql
        )
    for table in catalog.tables:
        sql = f"select * from {table}"
        whole = federation.truth(sql)
        if catalog.tables[table].locality is not Locality.PINNED:
            continue
        _, answer = federation.answer(sql)
        assert answer.unordered() == whole.unordered(), table


def test_the_catalog_has_all_kinds(catalog: Catalog) -> None:
    assert kinds_of_tables(catalog) == (set(Locality), set(KeyKind))
