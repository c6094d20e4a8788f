"""settle() inside other people's transactions: two-phase commit, migrations side by side, isolation levels."""

from __future__ import annotations

import psycopg
import pytest

from .conftest import Region, error_of


def test_a_change_can_be_prepared(shared: Region) -> None:
    with shared.connect() as c:
        c.execute("begin")
        c.execute("select domicile.alter_policy('abroad', 'customers', clear => '{id}', rows => 'consent')")
        c.execute("prepare transaction 'change'")
        c.execute("commit prepared 'change'")
    with shared.abroad() as us:
        assert us.execute("select id, name from customers where id = 1").fetchone() == (1, None)


def test_a_migration_can_be_prepared(shared: Region) -> None:
    with shared.connect() as c:
        c.execute("begin")
        c.execute("alter table customers add column ssn text")
        c.execute("prepare transaction 'migration'")
        # The audit gives way, and comes back later.
        assert shared.run("select * from domicile.audit()") is not None
        c.execute("commit prepared 'migration'")
    shared.run("select domicile.audit()")
    with shared.abroad() as us:
        assert us.execute("select ssn from customers where id = 1").fetchone() == (None,)


def test_a_long_migration_holds_up_no_other(shared: Region) -> None:
    with shared.connect() as long, shared.connect() as other:
        long.execute("begin")
        long.execute("create table long_one (i int)")
        other.execute("set lock_timeout = '5s'")
        other.execute("create table other_one (i int)")
        other.execute("create role newcomer login")
        other.execute("select domicile.audit()")
        assert other.execute("select pg_has_role('newcomer', 'domicile_local', 'member')").fetchone() == (True,)
        long.execute("commit")


def test_what_public_is_given_by_a_migration_is_taken_back_in_it(shared: Region) -> None:
    if not shared.full:
        pytest.skip("needs event triggers")
    with shared.connect() as c:
        c.execute("begin")
        c.execute("create schema open_to_all")
        c.execute("grant usage on schema open_to_all to public")
        c.execute("create table open_to_all.t (i int)")
        c.execute("grant select on open_to_all.t to public")
        c.execute("commit")
        assert c.execute("select * from domicile.reach('app@us')").fetchall() == []
        with shared.connect("idle") as local:
            assert local.execute("select * from open_to_all.t").fetchall() == []


def test_a_migration_that_fails_leaves_the_border_as_it_was(shared: Region) -> None:
    with shared.connect() as c:
        refused = error_of(c, "alter table customers alter column name type integer using name::integer")
        assert refused.sqlstate in ("22P02", "0A000")
        c.execute("begin")
        c.execute("alter table customers add column x int")
        c.execute("rollback")
    with shared.abroad() as us:
        assert us.execute("select count(name) from customers").fetchone() == (30,)


def test_a_column_may_change_its_type_on_the_managed_level_too(shared: Region) -> None:
    with shared.connect() as c:
        if not shared.full:
            assert error_of(c, "alter table customers alter column tier type bigint").sqlstate == "0A000"
        c.execute("begin")
        c.execute("select domicile.close_border()")
        c.execute("alter table customers alter column tier type bigint")
        c.execute("select domicile.settle()")
        c.execute("commit")
    with shared.abroad() as us:
        assert us.execute("select pg_typeof(tier)::text from customers limit 1").fetchone() == ("bigint",)


def test_a_lock_that_can_not_be_had_is_said_as_such(shared: Region) -> None:
    with shared.connect() as reader, shared.connect() as c:
        reader.execute("begin")
        reader.execute("select count(*) from to_us.customers")
        # Sessions from abroad are ended, one of this region is not.
        with pytest.raises(psycopg.errors.LockNotAvailable):
            c.execute("select domicile.alter_policy('abroad', 'customers', clear => '{id}')")
        reader.execute("commit")
        c.execute("select domicile.alter_policy('abroad', 'customers', clear => '{id}')")
    with shared.abroad() as us:
        assert us.execute("select count(name) from customers").fetchone() == (0,)


def test_a_role_without_grants_takes_its_foreign_forms_along(shared: Region) -> None:
    shared.run("revoke all on customers from analyst; select domicile.audit()")
    assert shared.run("select rolname from pg_roles where rolname like 'analyst@%'") == []
    with shared.connect() as c:
        assert error_of(c, "select domicile.login_secret('analyst', 'us')").sqlstate == "28000"


def test_an_open_transaction_abroad_keeps_no_policy_as_it_was(shared: Region) -> None:
    with shared.abroad() as us:
        us.execute("begin")
        us.execute("select name from customers limit 1")
        shared.run("select domicile.alter_policy('abroad', 'customers', clear => '{id}')")
        with pytest.raises(psycopg.OperationalError):
            us.execute("select name from customers limit 1")
        us.close()
    with shared.abroad() as us:
        assert us.execute("select count(name) from customers").fetchone() == (0,)
