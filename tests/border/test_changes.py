# ruff: noqa: E501 (a statement is one line)
"""What changes under those who look over the border: tables, policies, roles, grants, with their sessions open.

One region alone, eu, as tests/sql has it; from us comes `app@us`, straight at the server.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from domicile.embedded import EmbeddedServer, find_binaries
from tests.conftest import Database
from tests.sql.conftest import PINNED, POLICIES, Region, error_of, install
from tests.sql.conftest import SHOP as ROWS

CANARY = "canary"

CLEAR = "select domicile.alter_policy('abroad', 'customers', clear => '{id,country,tier,email,name}')"
NARROW = "select domicile.alter_policy('abroad', 'customers', clear => '{id,country}')"


@pytest.fixture(scope="module")
def server(servers_folder: Path) -> Iterator[EmbeddedServer]:
    server = EmbeddedServer(servers_folder / "border", binaries=find_binaries(None))
    server.start()
    server.run_sql("create database template_border")
    region = install(Database(server, "template_border"))
    region.run(ROWS + "create table stray (id bigint, email text);" + PINNED + POLICIES)
    yield server
    server.remove()


@pytest.fixture
def eu(server: EmbeddedServer) -> Iterator[Region]:
    server.run_sql("create database border template template_border")
    region = Region(Database(server, "border"), "postgres", "")
    region.run("select domicile.settle(true)")
    yield region
    server.run_sql("drop database border with (force)")


def shown(connection: psycopg.Connection[Any], statement: str = "select * from customers") -> str:
    try:
        return str(connection.execute(statement.encode()).fetchall()).lower()
    except psycopg.Error as error:
        return f"{error} {error.diag.message_detail} {error.diag.message_hint} {error.diag.context}".lower()


# --- tables ---------------------------------------------------------------------------------------------------------


def test_a_new_column_is_withheld(eu: Region) -> None:
    with eu.abroad() as us:
        us.execute("select * from customers", prepare=True)
        eu.run("alter table customers add column phone text default 'canary-phone'")
        with eu.abroad() as fresh:
            assert CANARY not in shown(us) + shown(fresh)
            assert shown(us, "select phone from customers limit 1") == "[(none,)]"


def test_a_renamed_column_keeps_its_mask(eu: Region) -> None:
    with eu.abroad() as us:
        eu.run("alter table customers rename column email to mail; alter table customers rename column note to email")
        assert CANARY not in shown(us)
        eu.run("alter table customers rename column name to x; alter table customers rename column tier to name")
        eu.run("alter table customers rename column x to tier")
        assert CANARY not in shown(us).replace("c***", "")


def test_the_name_of_a_dropped_column_lets_nothing_cross(eu: Region) -> None:
    with eu.abroad() as us:
        eu.run("alter table customers drop column tier; alter table customers rename column note to tier")
        assert CANARY not in shown(us)
        eu.run("alter table customers drop column tier; alter table customers add column tier text default 'canary'")
        assert CANARY not in shown(us)
        eu.run(
            "begin; alter table customers drop column name; alter table customers rename column email to name; commit"
        )
        assert CANARY not in shown(us)


def test_a_retyped_column(eu: Region) -> None:
    with eu.abroad() as us:
        eu.run(
            "alter table customers alter column email type varchar(100); alter table customers alter name type varchar"
        )
        eu.run("alter table customers alter column born type text using 'canary'")
        assert CANARY not in shown(us).replace("c***", "")


def test_another_table_of_the_same_name(eu: Region) -> None:
    with eu.abroad() as us:
        eu.run("alter table customers rename to old_customers; create table customers as select * from old_customers")
        assert CANARY not in shown(us) + shown(us, "select * from old_customers")
        eu.run("drop table old_customers cascade; grant select on customers to app, public")
        assert CANARY not in shown(us)


def test_a_table_that_takes_the_view_s_place(eu: Region) -> None:
    with eu.abroad() as us:
        eu.run('create table to_us.stray as select * from customers; grant select on to_us.stray to public, "app@us"')
        assert CANARY not in shown(us, "select * from stray")
        eu.run("create or replace view to_us.customers as select id, email, name, born, country, tier, consent, note"
               " from public.customers")  # fmt: skip
        eu.run("select domicile.audit()")
        assert CANARY not in shown(us).replace("c***", "")


def test_rows_that_come_by_inheritance_are_masked_and_reported(eu: Region) -> None:
    with eu.abroad() as us:
        eu.run("create table more () inherits (customers); insert into more (id, email, name, country)"
               " values (9001, 'canary-mail', 'Canary', 'US')")  # fmt: skip
        assert CANARY not in shown(us).replace("c***", "")
        assert any("inherits" in finding for finding, *_ in eu.run("select * from domicile.audit()"))


# --- home -----------------------------------------------------------------------------------------------------------


def test_no_row_at_the_wrong_home(eu: Region) -> None:
    wrong = "values (9001, 'canary-x', 'X', null, 'US', 1, true, null)"
    with eu.connect() as owner:
        assert error_of(owner, f"insert into customers {wrong}").sqlstate == "23503"
        assert error_of(owner, "update customers set country = 'US' where id = 1").sqlstate == "23503"
        assert error_of(owner, "update country_region set region = 'us'; select domicile.accept_mapping('country_region')").sqlstate == "23503"  # fmt: skip
        with (
            pytest.raises(psycopg.errors.ForeignKeyViolation),
            owner.cursor().copy("copy customers from stdin") as copy,
        ):
            copy.write_row((9001, "canary-x", "X", None, "US", 1, True, None))
        owner.execute("update country_region set region = 'eu' where country = 'US'")
        assert error_of(owner, f"insert into customers {wrong}").sqlstate == "23503"
    with eu.connect("app") as app:
        assert error_of(app, f"insert into customers {wrong}").sqlstate == "23503"
        assert error_of(app, "set session_replication_role = replica").sqlstate == "42501"
        assert error_of(app, "alter table customers drop constraint domicile_home").sqlstate == "42501"
    with eu.abroad() as us:
        assert error_of(us, "insert into customers (country) values ('US')").sqlstate in ("23503", "42501", "23502")
        assert error_of(us, "update customers set country = 'US'").sqlstate == "42501"


def test_no_row_at_the_wrong_home_by_a_partition(eu: Region) -> None:
    eu.run("""create table visits (id bigint, country text not null, who text) partition by range (id);
        create table visits_1 partition of visits for values from (0) to (100);
        select domicile.set_locality('visits', 'pinned', by => '{country}', mapping => 'country_region');
        create table visits_2 (id bigint, country text not null, who text);
        insert into visits_2 values (150, 'US', 'canary')""")
    with eu.connect() as owner:
        assert error_of(owner, "alter table visits attach partition visits_2 for values from (100) to (200)").sqlstate == "23503"  # fmt: skip
        assert error_of(owner, "insert into visits_1 values (1, 'US', 'canary')").sqlstate == "23503"


def test_a_missing_home_constraint_is_reported(eu: Region) -> None:
    eu.run("alter table customers drop constraint domicile_home; alter table customers alter country drop not null")
    findings = [finding for finding, *_ in eu.run("select * from domicile.audit()")]
    assert "the home constraint is missing" in findings
    assert any("may be NULL" in finding for finding in findings)


# --- policies, with sessions open -------------------------------------------------------------------------------------


def test_a_narrowed_policy_narrows_prepared_statements(eu: Region) -> None:
    eu.run(CLEAR)
    with eu.abroad() as us:
        us.execute("prepare p as select * from customers")
        assert CANARY in shown(us, "execute p")
        eu.run(NARROW)
        assert CANARY not in shown(us, "execute p") + shown(us)


@pytest.mark.parametrize("reading", ["select * from customers limit 1", "declare c cursor for select * from customers"])
def test_an_open_transaction_can_not_keep_a_policy_as_it_was(eu: Region, reading: str) -> None:
    eu.run(CLEAR)
    with eu.abroad() as us:
        us.execute("begin isolation level repeatable read")
        us.execute(reading.encode())
        eu.run(NARROW)
        assert CANARY not in shown(us, "fetch all from c") + shown(us)
        assert us.closed
    with eu.abroad() as us:
        assert CANARY not in shown(us)


def test_a_prepared_transaction_that_holds_a_view_is_named(eu: Region) -> None:
    eu.run(CLEAR)
    with eu.abroad() as us:
        us.execute("begin")
        us.execute("select * from customers")
        us.execute("prepare transaction 'domicile:us:held'")
        with eu.connect() as owner:
            said = error_of(owner, NARROW)
            assert said.sqlstate == "55P03"
            assert "domicile:us:held" in (said.message_detail or "")
            owner.execute("rollback prepared 'domicile:us:held'")
        eu.run(NARROW)
        assert CANARY not in shown(us)


def test_an_old_snapshot_sees_no_old_policy(eu: Region) -> None:
    eu.run(CLEAR)
    with eu.abroad() as us:
        us.execute("begin isolation level repeatable read")
        us.execute("select 1 from orders limit 1")
        eu.run(NARROW)
        assert CANARY not in shown(us)


def test_a_dropped_policy_ends_it_all(eu: Region) -> None:
    eu.run(CLEAR)
    with eu.abroad() as us:
        us.execute("begin")
        us.execute("select 1 from customers limit 1")
        eu.run("select domicile.drop_policy('abroad', 'customers')")
        assert CANARY not in shown(us)
    with eu.abroad() as us:
        assert error_of(us, "select * from customers").sqlstate == "42P01"


def test_a_policy_that_can_not_be_made_shares_nothing(eu: Region) -> None:
    eu.run("select domicile.alter_policy('abroad', 'customers', rows => 'consent', clear => '{id,email}')")
    with eu.abroad() as us:
        assert CANARY in shown(us)
        eu.run("alter table customers drop column consent cascade")
        assert CANARY not in shown(us)
        assert any("not shared" in finding for finding, *_ in eu.run("select * from domicile.audit()"))


def test_rows_that_a_policy_hides_are_not_handed_out(eu: Region) -> None:
    """ON CONFLICT on an automatic view works on rows that its condition hides."""
    eu.run(
        "select domicile.alter_policy('abroad', 'customers', rows => 'consent', clear => '{id,country,tier,consent}')"
    )
    eu.run("grant all on customers to app; alter table customers alter name drop not null")
    hidden = eu.value("select min(id) from customers where not consent")
    taken = f"insert into customers (id, country, tier) values ({hidden}, 'DE', 5) on conflict"
    with eu.abroad() as us:
        for rest in (
            "(id) do update set consent = true returning *",
            "(id) do update set tier = customers.tier returning *",
            "(id) do nothing returning *",
        ):
            assert error_of(us, f"{taken} {rest}").sqlstate in ("42P10", "0A000"), rest
        assert us.execute(f"select * from customers where id = {hidden}".encode()).fetchall() == []
        assert us.execute(f"select 1 from customers where 1 / (id - {hidden}) > 0".encode()).fetchone() == (1,)
        assert us.execute(f"update customers set tier = 3 where id = {hidden}".encode()).rowcount == 0
        assert us.execute(f"delete from customers where id = {hidden}".encode()).rowcount == 0
        assert us.execute("insert into customers (country, tier, consent) values ('DE', 3, true)").rowcount == 1
    assert eu.value("select consent from customers where id = %s", hidden) is False


def test_masked_columns_under_a_unique_constraint_can_not_be_guessed(eu: Region) -> None:
    with eu.connect() as owner:
        said = error_of(owner, """select domicile.alter_policy('abroad', 'customers', clear => '{id,country}',
            masks => '{"email": "domicile.pseudonym(email)"}', options => '{"insert": true}')""")  # fmt: skip
    assert said.sqlstate == "55000"
    assert "customers_email_key" in f"{said.message_detail} {said.message_hint}"
    eu.run("alter table customers drop constraint customers_email_key")
    eu.run("""select domicile.alter_policy('abroad', 'customers', clear => '{id,country}', masks =>
        '{"email": "domicile.pseudonym(email)", "name": "domicile.partial(name, 1)"}', options => '{"insert": true}')""")
    guess = "insert into customers (country, name, email) values ('DE', 'x', 'canary1@example.org')"
    with eu.abroad() as us:
        assert us.execute(guess.encode()).rowcount == 1
        eu.run("delete from customers where name = 'x'; create unique index on customers (lower(email))")
        eu.run("select domicile.audit()")
        assert error_of(us, guess).sqlstate == "42501"


# --- roles and grants -------------------------------------------------------------------------------------------------


CARELESS = [
    "grant select on customers to public",
    "grant usage on schema public to public; grant select on secrets to public",
    'grant app to "app@us"',
    'grant pg_read_all_data to "app@us"',
    'grant domicile_local to "app@us"',
    'grant domicile_views to "app@us"',
    'alter role "app@us" superuser',
    'alter role "app@us" bypassrls createrole createdb',
    'alter default privileges grant select on tables to public, "app@us"; create table fresh as select * from customers',
    'grant usage on schema public, domicile to "app@us"; grant select on customers to "app@us"',
    "create function word() returns text language sql security definer as 'select email from public.customers limit 1'",
    'grant all on all tables in schema public to "app@us"',
    'alter table customers owner to "app@us"',
    'grant set on parameter session_replication_role to "app@us"',
    'grant pg_execute_server_program to "app@us"',
    "create operator public.~~~~ (leftarg = text, rightarg = text, function = texteq)",
]


BEYOND = (
    "select * from public.customers",
    "select * from public.fresh",
    "select public.word()",
    "select * from public.secrets",
    "copy public.customers to program 'cat'",
    "set role app",
    "set role domicile_views",
    "select * from domicile.mask_key",
)


def test_what_a_careless_owner_opens_is_closed_again(eu: Region) -> None:
    reported = []
    for careless in CARELESS:
        with eu.database.connect() as owner:
            owner.execute(careless.encode())
        found = eu.run("select * from domicile.audit()")
        with eu.abroad() as us:
            for statement in BEYOND:
                with pytest.raises(psycopg.Error) as refused:
                    us.execute(statement.encode())
                assert refused.value.sqlstate in ("42501", "42P01", "42883"), (careless, statement)
                assert CANARY not in str(refused.value).lower()
        # What Domicile can't take back itself it reports, until somebody does.
        left = {kind for kind, *_ in eu.run("select * from domicile.reach('app@us')")}
        assert bool(left) == any("reaches beyond" in finding for finding, _, repaired in found if not repaired), (
            careless
        )
        if left:
            reported.append(careless.split(" to ")[0])
            eu.run("alter table customers owner to postgres")
            eu.run('revoke all on parameter session_replication_role from "app@us"')
    assert reported == ["alter table customers owner", "grant set on parameter session_replication_role"]
    eu.run('alter default privileges revoke all on tables from public, "app@us"')


def test_a_role_of_that_name_made_by_hand_is_not_let_in_as_one(eu: Region) -> None:
    eu.run('create role "mallory@us" login password \'m\'; grant app to "mallory@us"')
    eu.run("select domicile.audit()")
    with eu.connect() as owner:
        assert error_of(owner, "select domicile.login_secret('mallory', 'us')").sqlstate == "28000"
    eu.run('drop role "mallory@us"')


def test_a_new_database_is_closed_by_the_next_audit(eu: Region, server: EmbeddedServer) -> None:
    server.run_sql("create database newer")
    try:
        eu.run("select domicile.audit()")
        secret = eu.value("select domicile.login_secret('app', 'us')")
        with pytest.raises(psycopg.OperationalError, match="permission denied for database"):
            psycopg.connect(server.dsn("app@us", "newer", secret))
    finally:
        server.run_sql("drop database newer")


def test_who_it_makes_of_itself_lasts_a_second(eu: Region) -> None:
    with eu.abroad() as us:
        us.execute("alter role current_user set search_path = public, pg_catalog")
        us.execute("alter role current_user set standard_conforming_strings = off")
        us.execute("alter role current_user password 'mine'")
    eu.run("select domicile.audit()")
    with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
        eu.database.connect("app@us", "mine")
    with eu.abroad() as us:
        assert us.execute("show search_path").fetchone() == ("to_us",)
        assert us.execute("show standard_conforming_strings").fetchone() == ("on",)


# --- masks ----------------------------------------------------------------------------------------------------------


def test_masks_of_two_columns_and_two_regions_do_not_link(eu: Region) -> None:
    eu.run("update customers set note = left(email, 20), email = left(email, 20)")
    eu.run("alter table customers alter note type text")
    eu.run("""select domicile.alter_policy('abroad', 'customers', clear => '{id,country}', masks =>
        '{"email": "domicile.pseudonym(email)", "note": "domicile.pseudonym(note)"}')""")
    with eu.abroad() as us:
        rows = us.execute("select email, note from customers").fetchall()
    assert len({e for e, _ in rows}) == 30
    assert not {e for e, _ in rows} & {n for _, n in rows}


def test_the_key_is_not_to_be_read(eu: Region) -> None:
    ((key, inner, outer),) = eu.run("select key, inner_pad, outer_pad from domicile.mask_key limit 1")
    with eu.abroad() as us:
        said = "".join(
            shown(us, statement)
            for statement in (
                "explain (verbose) select * from customers", "explain (analyze, verbose, buffers) select * from customers",
                "select pg_get_viewdef('to_us.customers'::regclass)", "select * from pg_stat_activity",
                "select * from domicile.mask_key", "select prosrc, probin, prosqlbody from pg_proc where pronamespace ="
                " (select oid from pg_namespace where nspname = 'domicile')", "select ev_action from pg_rewrite",
                "select * from pg_attrdef", "select * from pg_stats",
            )
        )  # fmt: skip
    log = eu.database.server.log.read_bytes()
    for secret in (key, inner, outer):
        assert secret.hex() not in said
        assert secret not in log
        assert secret.hex().encode() not in log


def test_noise_is_the_same_each_time(eu: Region) -> None:
    eu.run("""select domicile.alter_policy('abroad', 'customers', clear => '{id,country}', masks =>
        '{"tier": "domicile.noise(tier, 100)"}')""")
    with eu.abroad() as us:
        first = us.execute("select id, tier from customers order by id").fetchall()
        assert len({tier for _, tier in first}) > 5
        for _ in range(3):
            assert us.execute("select id, tier from customers order by id").fetchall() == first


def test_what_remains_of_the_guessing(eu: Region) -> None:
    """docs/threats.md: who may insert a masked column and read the row again learns the pseudonym of a value of his
    own choice. RETURNING does not tell, a SELECT does; this is what `insert` gives away, and why it is an option."""
    eu.run("alter table customers drop constraint customers_email_key")
    said: list[str] = []
    with eu.connect() as owner:
        owner.add_notice_handler(lambda diagnostic: said.append(str(diagnostic.message_primary)))
        owner.execute("""select domicile.alter_policy('abroad', 'customers', clear => '{id,country}', masks =>
            '{"email": "domicile.pseudonym(email)", "name": "domicile.partial(name, 1)"}', options => '{"insert": true}')""")
    assert [text for text in said if text.endswith("by guessing values of email")]
    with eu.abroad() as us:
        (row,) = us.execute(
            "insert into customers (country, name, email) values ('DE', 'x', 'canary1@example.org') returning id, email"
        ).fetchall()
        assert row[1] is None
        told = us.execute("select email from customers where id = %s", row[:1]).fetchone()
        assert us.execute("select count(*) from customers where email = %s", told).fetchone() == (2,)
