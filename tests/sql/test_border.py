"""The border, tried by a foreign role that stands straight before the regional server, no gateway between."""

from __future__ import annotations

import psycopg
import pytest

from .conftest import Region, error_of

CANARY = "canary"


def test_sees_masks_and_nothing_else(shared: Region) -> None:
    with shared.abroad() as us:
        row = us.execute("select * from customers where id = 1").fetchone()
        assert row is not None
        assert [d.name for d in us.execute("select * from customers limit 0").description or ()] == [
            "id", "email", "name", "born", "country", "tier", "consent", "note",
        ]  # fmt: skip
        _, email, name, born, country, tier, consent, note = row
        assert (name, str(born), country, tier, consent, note) == ("C***", "1970-01-01", "FR", 1, None, None)
        assert len(email) == 32
        assert CANARY not in str(us.execute("select * from customers").fetchall()).lower()


REFUSED = [
    ("select * from public.customers", {"42501"}),
    ("select * from public.secrets", {"42501"}),
    ("select * from secrets", {"42P01"}),
    ("table domicile.policy", {"42501"}),
    ("select * from to_ap.customers", {"42501"}),
    ("select * from domicile.mask_key", {"42501"}),
    ("select domicile.pseudonym_with('x'::text, ''::bytea, ''::bytea)", {"42501"}),
    ("select domicile.login_secret('app', 'us')", {"42501"}),
    ("select rolpassword from pg_authid", {"42501"}),
    ("set role app", {"42501"}),
    ("set role domicile_views", {"42501"}),
    ("set session authorization app", {"42501"}),
    ("create temporary table t (i int)", {"42501"}),
    ("create table to_us.t (i int)", {"42501"}),
    ("create table t (i int)", {"42501"}),
    ("create schema s", {"42501"}),
    ("create view v as select 1", {"42501"}),
    ("create function f() returns int language sql as 'select 1'", {"42501"}),
    ("create or replace view to_us.customers as select 1 as id", {"42501"}),
    ("alter view customers rename to c", {"42501"}),
    ("drop view customers", {"42501"}),
    ("truncate customers", {"42501", "42809"}),
    ("alter role current_user superuser", {"42501"}),
    ("alter role current_user bypassrls", {"42501"}),
    ("alter role app password 'x'", {"42501"}),
    ("grant app to current_user", {"42501"}),
    ("update customers set email = 'x'", {"0A000", "42501"}),
    ("update customers set note = 'x'", {"0A000", "42501"}),
    ("update customers set country = 'US' where id = 1", {"42501"}),
    ("update customers set id = 5000 where id = 1", {"42501"}),
    ("update orders set customer_id = 2 where id = 1", {"42501"}),
    ("insert into customers (email, name, country) values ('a', 'b', 'DE')", {"0A000", "42501"}),
    ("copy public.customers to stdout", {"42501"}),
    ("copy customers from stdin", {"42809", "42501"}),
    ("copy (select 1) to program 'cat'", {"42501"}),
    ("select pg_read_file('PG_VERSION')", {"42501"}),
    ("select nextval('public.customers_id_seq')", {"42501"}),
    ("alter system set work_mem = '1MB'", {"42501"}),
    ("create server s foreign data wrapper nothing", {"42501", "42704"}),
    ("select * from pg_subscription", {"42501"}),
]

CLOSED_BY_SUPERUSER = [
    "do $$ begin raise notice 'x'; end $$",
    "select pg_notify('a', 'b')",
    "select lo_from_bytea(0, 'x')",
    "select lo_create(0)",
    "select pg_advisory_lock(1)",
    "select pg_logical_emit_message(true, 'domicile', 'x')",
]


def test_refused(anywhere: Region) -> None:
    with anywhere.abroad() as us:
        for sql, states in REFUSED:
            said = error_of(us, sql)
            assert said.sqlstate in states, (sql, said.message_primary)
            words = f"{said.message_primary} {said.message_detail} {said.message_hint} {said.context}"
            assert CANARY not in words.lower(), sql
        # What no privilege closes on the managed level is the guard's to refuse.
        for sql in CLOSED_BY_SUPERUSER if anywhere.full else ():
            assert error_of(us, sql).sqlstate == "42501", sql


def test_other_databases_are_closed(shared: Region) -> None:
    if not shared.full:
        pytest.skip("other databases of the server are not the installer's to close")
    secret = shared.value("select domicile.login_secret('app', 'us')")
    for name in ("postgres", "template1"):
        with pytest.raises(psycopg.OperationalError, match="permission denied for database"):
            psycopg.connect(shared.database.server.dsn("app@us", name, secret))
    with shared.connect("idle") as local:  # and a local role noticed nothing
        assert local.execute("select 1").fetchone() == (1,)


def test_reaches_nothing_by_enumeration(anywhere: Region) -> None:
    shared = anywhere
    reached = shared.run("select * from domicile.reach('app@us')")
    if shared.full:
        assert reached == []
    else:
        assert {kind for kind, *_ in reached} == {"database"}, reached
        assert {name for _, name, _ in reached} == {"postgres", "template1"}


def test_reach_finds_what_was_opened(shared: Region) -> None:
    """The proof is no proof unless it can fail."""
    with shared.connect() as c:
        c.execute("create schema hole")
        c.execute("create table hole.t (i int)")
        c.execute("create function hole.f() returns int language sql as 'select 1'")
        with c.transaction(force_rollback=True):
            if shared.full:
                c.execute("alter event trigger domicile_end disable")
            c.execute('grant usage on schema hole to "app@us"')
            c.execute("grant select on hole.t to public")
            c.execute("grant execute on function hole.f() to public")
            if shared.full:
                c.execute('grant pg_read_all_data to "app@us"')
                c.execute('alter role "app@us" createdb')
            found = {(kind, name) for kind, name, _ in c.execute("select * from domicile.reach('app@us')").fetchall()}
    assert {("schema", "hole"), ("table", "hole.t"), ("function", "hole.f()")} <= found
    if shared.full:
        assert {("membership", "pg_read_all_data"), ("attribute", "createdb"), ("table", "customers")} & found >= {
            ("membership", "pg_read_all_data"), ("attribute", "createdb"),
        }  # fmt: skip


def test_statistics_show_no_values(shared: Region) -> None:
    with shared.abroad() as us:
        assert (
            us.execute("select * from pg_stats where schemaname not in ('pg_catalog', 'information_schema')").fetchall()
            == []
        )
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            us.execute("select * from pg_statistic")


def test_errors_name_only_what_was_written(shared: Region) -> None:
    shared.run("alter table customers add constraint tiers check (tier < 100)")
    shared.run("select domicile.settle()")
    with shared.abroad() as us:
        said = error_of(us, "update customers set tier = 200 where id = 1")
        assert said.sqlstate == "23514"
        assert CANARY not in f"{said.message_primary} {said.message_detail} {said.context}".lower()


def test_returning_is_no_oracle(shared: Region) -> None:
    with shared.abroad() as us:
        shown = us.execute("update customers set tier = 7 where id = 1 returning *").fetchall()
        assert CANARY not in str(shown).lower()
        assert error_of(us, "update customers set email = 'guess' where id = 1 returning email").sqlstate in (
            "0A000",
            "42501",
        )


def test_writes_what_is_clear(shared: Region) -> None:
    with shared.abroad() as us:
        assert us.execute("update customers set tier = tier + 1 where id = 1 returning tier").fetchall() == [(2,)]
        assert us.execute("insert into orders (customer_id, amount) values (1, 5) returning amount").rowcount == 1
        assert us.execute("delete from orders where customer_id = 2").rowcount == 1
        assert us.execute("select id from customers where id = 1 for update").fetchall() == [(1,)]
    assert shared.value("select tier from customers where id = 1") == 2


def test_role_without_grants_has_no_foreign_form(shared: Region) -> None:
    names = {name for (name,) in shared.run("select name from domicile.foreign_role")}
    assert {"app@us", "app@ap", "analyst@us", "analyst@ap"} <= names
    assert not any(name.startswith(("idle@", "domicile")) for name in names)


def test_mirrors_local_grants(shared: Region) -> None:
    with shared.abroad("analyst") as us:
        assert us.execute("select count(*) from customers").fetchone() == (30,)
        assert error_of(us, "update customers set tier = 1").sqlstate == "42501"
        assert error_of(us, "select * from orders").sqlstate == "42501"
    shared.run("grant select on orders to analyst; select domicile.settle()")
    with shared.abroad("analyst") as us:
        assert us.execute("select count(*) from orders").fetchone() == (30,)
    shared.run("revoke select on orders from analyst; select domicile.settle()")
    with shared.abroad("analyst") as us:
        assert error_of(us, "select * from orders").sqlstate == "42501"


def test_role_may_not_change_itself_for_long(shared: Region) -> None:
    with shared.abroad() as us:
        us.execute("alter role current_user set search_path = pg_catalog")
        us.execute("alter role current_user set statement_timeout = 1")
        us.execute("alter role current_user password 'own'")
    found = shared.run("select object, finding from domicile.audit()")
    assert ("app@us", "settings put back") in found
    if not shared.full:
        # Nobody but the server reads a password, so it is put back when ten minutes have passed.
        shared.run("update domicile.setting set value = '-infinity' where name = 'passwords renewed'")
        shared.run("select domicile.audit()")
    with shared.abroad() as us:
        assert us.execute("show search_path").fetchone() == ("to_us",)
        assert us.execute("show statement_timeout").fetchone() == ("0",)


def test_audit_takes_back_memberships_attributes_and_grants(shared: Region) -> None:
    shared.run('grant analyst to "app@us"; alter role "app@us" createrole')
    shared.run(
        'grant select on secrets to public; grant usage on schema public to "app@us";'
        ' grant select on customers to "app@us"'
    )
    shared.run("select domicile.audit()")
    reached = {kind for kind, *_ in shared.run("select * from domicile.reach('app@us')")}
    assert reached == (set() if shared.full else {"database"})


def test_audit_says_what_it_cannot_close(shared: Region) -> None:
    # A role that neither the installer nor anybody of Domicile's may touch: another owner's table, open to all.
    with shared.database.connect() as superuser:
        superuser.execute("alter table secrets owner to postgres; grant select on secrets to domicile_local")
        superuser.execute("create schema theirs; create table theirs.t (i int)")
        superuser.execute("grant usage on schema theirs to public; grant select on theirs.t to public")
    open_ = [o for f, o, done in shared.run("select * from domicile.audit()") if not done and "reaches beyond" in f]
    assert any("theirs.t" in o for o in open_) == (not shared.full)
    assert open_ == [] or not shared.full


def test_name_over_63_bytes_is_refused(region: Region) -> None:
    long = "r" * 62
    region.run(f"create role {long} login; grant select on customers to {long}")
    region.run(PINNED_ONLY)
    found = region.run("select object, finding from domicile.finding where not repaired and object like 'rrr%'")
    assert {name for name, _ in found} == {long}
    assert all("over 63 bytes" in text for _, text in found)
    with region.connect() as c:
        said = error_of(c, "select domicile.create_region('br', 'LGPD')")
        assert said.sqlstate == "42622"
        assert "63 bytes" in (said.message_primary or "")


PINNED_ONLY = "select domicile.set_locality('customers', 'pinned', by => '{country}', mapping => 'country_region')"


def test_foreign_password_is_a_full_secret(shared: Region) -> None:
    secret = shared.value("select domicile.login_secret('app', 'us')")
    assert len(secret) == 64
    assert secret != shared.value("select domicile.login_secret('app', 'ap')")
    with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
        shared.database.connect("app@us", "app")
    with shared.connect() as c:
        assert error_of(c, "select domicile.login_secret('nobody', 'us')").sqlstate == "28000"


def test_verifier_of_local_roles_only(shared: Region) -> None:
    if not shared.full:
        assert shared.value("select domicile.verifier('app')") is None
        shared.run("select domicile.set_password('app', 'new word')")
        with shared.connect("app", "new word") as app:
            assert app.execute("select 1").fetchone() == (1,)
    assert shared.value("select domicile.verifier('app')").startswith("SCRAM-SHA-256$4096:")
    assert shared.value("select domicile.verifier('app@us')") is None
    assert shared.value("select domicile.verifier('postgres')") is None
    assert shared.value("select domicile.verifier('nobody')") is None
