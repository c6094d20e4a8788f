"""Localities, home constraints, ids that carry their region, and the snapshot that gateways read."""

from __future__ import annotations

import psycopg
import pytest

from domicile.catalog.names import QualifiedName
from domicile.catalog.snapshot import KeyKind, Locality, parse

from .conftest import PINNED, Region, error_of

CUSTOMERS = QualifiedName("public", "customers")
ORDERS = QualifiedName("public", "orders")


def test_snapshot(shared: Region) -> None:
    shared.run("create view big as select * from customers where tier > 1")
    shared.run("create view bigger as select * from big")
    shared.run("create table things (code uuid primary key, region text not null, n integer, unique (region, n))")
    shared.run("select domicile.set_locality('things', 'pinned', by => '{region}')")
    shared.run("select domicile.set_locality('country_region', 'global')")
    shared.run("create table office (id integer primary key)")
    shared.run("select domicile.set_locality('office', 'regional', home => 'us')")
    catalog = parse(shared.value("select domicile.snapshot()"))
    assert catalog.here == "eu"
    assert [(r.name, r.number) for r in catalog.regions.values()] == [("us", 1), ("eu", 2), ("ap", 3)]
    customers = catalog.tables[CUSTOMERS]
    assert customers.key is not None
    assert (customers.key.kind, customers.key.columns, customers.key.mapping) == (
        KeyKind.MAPPED,
        ("country",),
        "public.country_region",
    )
    assert catalog.mappings["public.country_region"] == {"DE": "eu", "FR": "eu", "US": "us", "JP": "ap"}
    assert customers.primary_key == ("id",)
    assert customers.federation_keys == (("id",),)
    assert [c.name for c in customers.columns][:3] == ["id", "email", "name"]
    assert customers.columns[0].type_name == "bigint"
    orders = catalog.tables[ORDERS].key
    assert orders is not None
    assert (orders.kind, orders.columns, orders.parent, orders.parent_columns) == (
        KeyKind.PARENT,
        ("customer_id",),
        CUSTOMERS,
        ("id",),
    )
    assert catalog.tables[QualifiedName("public", "things")].federation_keys == (("code",), ("region", "n"))
    assert catalog.tables[QualifiedName("public", "country_region")].locality is Locality.GLOBAL
    assert catalog.tables[QualifiedName("public", "office")].home == "us"
    assert catalog.opaque == {
        QualifiedName("public", "big"): (CUSTOMERS,),
        QualifiedName("public", "bigger"): (CUSTOMERS,),
    }
    shared.run("select domicile.audit()")
    version = shared.value("select domicile.version()")
    shared.run("alter table customers add column ssn text")
    shared.run("select domicile.audit()")
    later = parse(shared.value("select domicile.snapshot()"))
    assert later.version > version
    assert later.tables[CUSTOMERS].columns[-1].name == "ssn"
    shared.run("select domicile.audit()")
    assert shared.value("select domicile.version()") == later.version


def test_a_row_of_elsewhere_is_refused_whoever_writes_it(shared: Region) -> None:
    with shared.connect() as owner, shared.connect("app") as app, shared.abroad() as us:
        for connection, table in ((owner, "customers"), (app, "public.customers")):
            said = error_of(connection, f"insert into {table} (name, country) values ('x', 'US')")
            assert (said.sqlstate, said.constraint_name) == ("23503", "domicile_home")
            assert error_of(connection, f"update {table} set country = 'JP' where id = 1").sqlstate == "23503"
            assert error_of(connection, f"insert into {table} (name) values ('x')").sqlstate == "23502"
        assert error_of(app, "insert into orders (customer_id, amount) values (999, 1)").sqlstate == "23503"
        assert error_of(us, "insert into orders (customer_id, amount) values (999, 1)").sqlstate == "23503"


def test_a_mapping_changes_only_when_it_is_accepted(shared: Region) -> None:
    shared.run("update country_region set region = 'us' where country = 'FR'")
    assert shared.value("select domicile.snapshot() -> 'mappings' -> 'public.country_region' ->> 'FR'") == "eu"
    shared.run("insert into customers (name, country) values ('x', 'FR')")
    shared.run("select domicile.settle(true)")
    assert ("public.country_region", False) in [
        (o, done) for f, o, done in shared.run("select * from domicile.audit()") if "accept_mapping" in f
    ]
    with shared.connect() as c:
        # Rows with that key live here, so it can't leave.
        assert error_of(c, "select domicile.accept_mapping('country_region')").sqlstate == "23503"
    shared.run("update country_region set region = 'eu' where country in ('FR', 'JP')")
    shared.run("select domicile.accept_mapping('country_region')")
    shared.run("insert into customers (name, country) values ('x', 'JP')")


def test_region_and_id_keys(region: Region) -> None:
    region.run("create table visits (id bigint generated always as identity primary key, region text, page text)")
    region.run("create table notes (id bigint primary key default domicile.next_id(), body text)")
    region.run("grant all on visits, notes to app")
    region.run("select domicile.set_locality('visits', 'pinned', by => '{region}')")
    region.run("select domicile.set_locality('notes', 'pinned', by => '{id}')")
    with region.connect("app") as app:
        app.execute("insert into visits (region, page) values ('eu', '/'), ('eu', '/')")
        assert error_of(app, "insert into visits (region, page) values ('us', '/')").sqlstate == "23514"
        assert error_of(app, "insert into visits (page) values ('/')").sqlstate == "23502"
        app.execute("insert into notes (body) values ('a'), ('b')")
        said = error_of(app, "insert into notes values (1025, 'of us')")
        assert (said.sqlstate, said.constraint_name) == ("23514", "domicile_home")
        ids = [i for (i,) in app.execute("select id from visits union all select id from notes").fetchall()]
        assert {i & 1023 for i in ids} == {2}
        assert {r for (r,) in app.execute("select domicile.region_of(id) from notes").fetchall()} == {"eu"}
        assert len(ids) == 4
        assert max(ids) < 2**53


def test_ids_start_above_what_was_there_anywhere(region: Region) -> None:
    region.run(PINNED)
    first = region.value("insert into customers (name, country) values ('x', 'DE') returning id")
    assert first > 30
    assert first & 1023 == 2
    assert region.value("select domicile.align_ids('customers', 1000000)") > 1000000
    assert region.value("insert into customers (name, country) values ('x', 'DE') returning id") > 1000000
    last = region.value("select domicile.align_ids('customers')")
    assert region.value("insert into customers (name, country) values ('x', 'DE') returning id") == last


def test_an_unpinned_table_is_free_again(shared: Region) -> None:
    shared.run("select domicile.set_locality('orders', 'local')")
    shared.run("select domicile.set_locality('customers', 'local')")
    shared.run("insert into customers (name, country) values ('x', 'US')")
    assert shared.run("select * from domicile.border_view") == []
    assert shared.run("select * from domicile.foreign_role") == []
    assert shared.run("select rolname from pg_roles where rolname like '%@__'") == []


@pytest.mark.parametrize("home", ["eu", "us"])
def test_regional(region: Region, home: str) -> None:
    region.run("create table office (id integer primary key); grant all on office to app")
    region.run("select domicile.set_locality('office', 'regional', home => %s)", home)
    with region.connect("app") as app:
        if home == "eu":
            app.execute("insert into office values (1)")
        else:
            assert error_of(app, "insert into office values (1)").sqlstate == "23514"


def test_bad_localities(region: Region) -> None:
    region.run("create table keyless (country text, n integer); insert into keyless values (null, 1), ('XX', 2)")
    with region.connect() as c:

        def refused(sql: str) -> psycopg.errors.Diagnostic:
            return error_of(c, f"select domicile.set_locality({sql})")

        said = refused("'customers', 'pinned', by => '{land}', mapping => 'country_region'")
        assert said.sqlstate == "42703"
        assert 'column "land" of table' in (said.message_primary or "")
        assert "customers" in (said.message_primary or "")
        said = refused("'keyless', 'pinned', by => '{country}', mapping => 'country_region'")
        assert said.sqlstate == "23514"
        assert "1 rows: NULL in the residency key" in (said.message_detail or "")
        assert "1 rows: no region" in (said.message_detail or "")
        assert refused("'keyless', 'pinned', by => '{n}', parent => 'customers'").sqlstate == "55000"
        assert refused("'keyless', 'pinned'").sqlstate == "22023"
        assert refused("'keyless', 'somewhere'").sqlstate == "22023"
        assert refused("'keyless', 'regional', home => 'mars'").sqlstate == "42704"
        assert refused("'pg_class', 'global'").sqlstate == "42809"
        c.execute("update country_region set region = 'mars' where country = 'US'")
        said = refused("'customers', 'pinned', by => '{country}', mapping => 'country_region'")
        assert (said.sqlstate, said.message_detail) == ("23514", "US to mars")


def test_a_filled_table_says_where_its_rows_belong(region: Region) -> None:
    region.run("insert into customers (name, country) values ('x', 'US'), ('y', 'US'), ('z', 'JP')")
    region.run("insert into orders (customer_id, amount) select id, 1 from customers where country = 'US'")
    with region.connect() as c:
        said = error_of(c, PINNED.split(";")[0])
        assert said.sqlstate == "23514"
        assert "2 rows are at home in us" in (said.message_detail or "")
        assert "move => true" in (said.message_hint or "")
        moving = "mapping => 'country_region', move => true"
        c.execute(f"select domicile.set_locality('customers', 'pinned', by => '{{country}}', {moving})".encode())
        assert sorted(c.execute("select home, rows from domicile.rows_by_home('customers')").fetchall()) == [
            ("ap", 1),
            ("eu", 30),
            ("us", 2),
        ]
        c.execute("select domicile.set_locality('orders', 'pinned', parent => 'customers', move => true)")
        assert sorted(c.execute("select home, rows from domicile.rows_by_home('orders')").fetchall()) == [
            ("eu", 30),
            ("us", 2),
        ]
        assert parse(c.execute("select domicile.snapshot()").fetchone()[0]).tables == {}  # type: ignore[index]
        assert error_of(c, "select domicile.finish_move('customers')").sqlstate == "23514"
        c.execute("delete from orders where customer_id in (select id from customers where country in ('US', 'JP'))")
        c.execute("delete from customers where country in ('US', 'JP')")
        c.execute("select domicile.finish_move('customers')")
        assert error_of(c, "insert into customers (name, country) values ('x', 'US')").sqlstate == "23503"
