"""The planner and the in-database half: Domicile's DDL runs as the calls that it stands for, and the snapshot that
comes of it plans."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest

from domicile.catalog.names import RegionName
from domicile.catalog.snapshot import Catalog, parse
from domicile.planner import plan, regions
from domicile.planner.ddl import Call
from domicile.planner.plan import Kind, LookUp

from ..sql.conftest import SHOP, install, tidy_up

PATH = ("$user", "public")
DDL = """
ALTER TABLE customers SET LOCALITY PINNED BY (country) USING country_region;
ALTER TABLE orders SET LOCALITY PINNED WITH customers (customer_id);
ALTER TABLE secrets SET LOCALITY REGIONAL IN eu;
CREATE RESIDENCY POLICY abroad ON customers TO REGION ALL  -- a, b
  CLEAR (id, country, tier)
  MASK (email = domicile.pseudonym(email), name = domicile.partial(name, 1))
  WITH (reads = fresh);
CREATE RESIDENCY POLICY "for us" ON public.orders TO REGION us FOR ROLE app ROWS (amount > 1) CLEAR (id, customer_id);
ALTER RESIDENCY POLICY "for us" ON public.orders TO JURISDICTION 'CCPA' FOR ROLE app CLEAR (id, customer_id, amount);
DROP RESIDENCY POLICY "for us" ON orders;
CREATE REGION mars WITH (jurisdiction = 'none', number = 9);
DROP REGION mars
"""


@pytest.fixture
def connection(server18: Any, make_database: Any) -> Iterator[psycopg.Connection[tuple[Any, ...]]]:
    region = install(make_database, server18, "full")
    region.run(SHOP)
    with region.connect() as connected:
        yield connected
    tidy_up(server18)


def snapshot(connection: psycopg.Connection[tuple[Any, ...]]) -> Catalog:
    row = connection.execute("select domicile.snapshot()::text").fetchone()
    assert row is not None
    return parse(json.loads(row[0]))


def test_ddl_runs_and_its_snapshot_plans(connection: psycopg.Connection[tuple[Any, ...]]) -> None:
    for statement in DDL.split(";"):
        made = plan(statement, snapshot(connection), PATH, "app")
        assert made.kind is Kind.DOMICILE
        assert isinstance(made.detail, Call)
        connection.execute(made.detail.sql.encode())
    catalog = snapshot(connection)
    us, eu = RegionName("us"), RegionName("eu")
    where = {
        "select * from customers where country = 'US'": (us,),
        "select * from customers where country in ('DE', 'FR')": (eu,),
        "select * from orders o join customers c on c.id = o.customer_id where c.country = 'JP'": (RegionName("ap"),),
        "insert into customers (country, name) values ('US', 'x')": (us,),
        "select * from secrets": (eu,),
    }
    for sql, expected in where.items():
        assert regions(plan(sql, catalog, PATH, "app"), catalog) == expected, sql
    for sql in ("select * from customers where id = 5", "select * from orders where id = 5"):
        made = plan(sql, catalog, PATH, "app")
        unique = ("id",) in catalog.tables[made.tables[0]].federation_keys
        assert isinstance(made.placement, LookUp) == unique
