"""Under masks: what each region sees is what views show that the test wrote by itself."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.differential.compare import difference
from tests.differential.drivers import connect
from tests.differential.masks import make_views, masked, oracle_dsn
from tests.differential.queries import Queries
from tests.differential.world import World, running

QUERIES = 120

STATEMENTS = [
    "select * from customers order by id",
    "select * from kinds order by region, id",
    "select * from tickets",
    "select * from ticket_notes",
    'select * from "Größe ""x"""',
    "select * from offices",
    "select * from orders",
    "select id, email from customers where email like '%0%' order by id",
    "select name, count(*) from customers group by name order by name",
    "select born, count(*), min(name) from customers group by born having count(*) > 1 order by born",
    "select count(*), count(phone), count(note), min(born), max(email), count(distinct tier) filter (where false) from customers where country = 'DE'",  # noqa: E501
    "select c.id from customers c join kinds k on k.t = c.email",
    "select sum(total), avg(total) from orders",
    "select c.name, o.total from customers c join orders o on o.customer_id = c.id where o.total = 50 order by c.id, o.id",  # noqa: E501
    "select id, phone from customers where phone is not null order by id limit 7",
    "select id from customers where born = '1980-01-01'",
    "select t.title, n.note from ticket_notes n left join tickets t on t.id = n.ticket_id order by n.ticket_id, n.n",
    "select region, count(*) from kinds group by region order by region",
    "select u, i4, d from kinds order by u nulls last, region, id limit 9",
    "copy (select id, email, phone from customers) to stdout",
]


@pytest.fixture(scope="module")
def world(servers_folder: Path) -> Iterator[World]:
    with running(servers_folder / "masked", masked) as made:
        make_views(made)
        yield made


@pytest.mark.parametrize("how", ["simple", "binary"])
@pytest.mark.parametrize("region", ["us", "eu", "ap"])
def test_a_region_sees_its_own_rows_in_clear_and_others_masked(world: World, region: str, how: str) -> None:
    oracle, subject = connect(oracle_dsn(world, region), how), connect(world.regions[region].gateway_dsn(), how)
    wrong, seen = [], Counter[str]()
    queries = Queries(len(region) + len(how))
    texts = [(text, ()) for text in STATEMENTS] + [(q.text, q.values) for q in (queries.next() for _ in range(QUERIES))]
    try:
        for text, values in texts:
            truth, got = oracle.ask(text, values), subject.ask(text, values)
            if got.refused:
                seen["refused"] += 1
                continue
            seen["answered" if not truth.sqlstate else truth.sqlstate] += 1
            found = difference(text, got, truth)
            if found:
                wrong.append(f"{text} {values or ''}\n    {found}")
    finally:
        oracle.close()
        subject.close()
    assert not wrong, f"{len(wrong)} differ, {dict(seen)}\n" + "\n".join(wrong)
    assert seen["answered"] > 0.8 * len(texts), dict(seen)


def test_the_regions_do_not_see_the_same(world: World) -> None:
    """The oracle's views tell regions apart, and so must the gateways: else the test above would prove nothing."""
    emails = {}
    for region in world.regions:
        driver = connect(world.regions[region].gateway_dsn(), "text")
        emails[region] = driver.ask("select id, email from customers order by id").rows
        driver.close()
    assert len(set(emails.values())) == 3
