"""The checker of mask and ROWS expressions: what it lets through, what it refuses and how it says so."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
from psycopg import errors

from domicile.embedded import EmbeddedServer

from .mask_database import mask_database

Connection = psycopg.Connection[tuple[Any, ...]]

# What no error may hold: values of the rows of mask_database.TABLES.
SECRETS = ("anna@example", "Ängström", "not-a-number", "51234", "Oslo")


@pytest.fixture(scope="module")
def db(server: EmbeddedServer) -> Iterator[Connection]:
    with mask_database(server) as connection:
        yield connection


def one(db: Connection, sql: str, *parameters: object) -> Any:
    row = db.execute(sql.encode(), parameters or None).fetchone()
    assert row is not None
    return row[0] if len(row) == 1 else row


def check(db: Connection, column: str, expression: str, table: str = "public.people") -> str:
    return str(one(db, "select domicile.check_mask(%s, %s, %s)", table, column, expression))


def wrap(db: Connection, column: str, expression: str, table: str = "public.people") -> str:
    return str(one(db, "select domicile.wrap_mask(%s, %s, %s)", table, column, expression))


def masked(db: Connection, column: str, expression: str) -> list[Any]:
    return [
        row[0]
        for row in db.execute(f"select {wrap(db, column, expression)} from public.people t order by t.id".encode())
    ]


def refused(db: Connection, column: str, expression: str, table: str = "public.people") -> psycopg.Error:
    with pytest.raises(psycopg.Error) as caught:
        check(db, column, expression, table)
    error = caught.value
    assert error.diag.message_hint
    told = " ".join(filter(None, (error.diag.message_primary, error.diag.message_detail, error.diag.message_hint)))
    assert not any(secret in told for secret in SECRETS)
    return error


@pytest.mark.parametrize(
    ("column", "expression", "class_"),
    [
        ("email", "domicile.pseudonym(email)", "preserved"),
        ("email", "pseudonym(t.email)", "preserved"),
        ("email", "pseudonym(value => email, domain => 'person')", "preserved"),
        ("email", "pseudonym(email, 'o''hara')", "preserved"),
        ("code", "pseudonym(code)", "preserved"),
        ("name", "pseudonym(name)", "preserved"),
        ("big", "pseudonym(big)", "collision-possible"),
        ("salary", "pseudonym(salary)", "collision-possible"),
        ("name", "pseudonym(partial(name, 1))", "lossy"),
        ("name", "pseudonym(email)", "lossy"),
        ("name", "pseudonym(name) || 'x'", "lossy"),
        ("name", "fake(name, 'name')", "lossy"),
        ("name", "fake(kind => 'name', value => name)", "lossy"),
        ("name", "partial(name, 1)", "lossy"),
        ("name", "partial(name, 1, pad => E'\\\\''\\n')", "lossy"),
        ("name", "left(name, 1) -- a comment", "lossy"),
        ("name", "'constant'", "lossy"),
        ("name", "null", "lossy"),
        ("born", "null", "lossy"),
        ("tier", "null", "lossy"),
        ("tier", "'bronze'::public.tier", "lossy"),
        ("born", "generalize(born, 'year')", "lossy"),
        ("born", "noise(born, 30)", "lossy"),
        ("seen", "generalize(seen, 'month')", "lossy"),
        ("salary", "noise(salary, 100)", "lossy"),
        ("salary", "salary / 1000 * 1000", "lossy"),
        ("salary", "case when salary > 1000 then 1 else 0 end", "lossy"),
        ("salary", "coalesce(generalize(salary, 10), 0)", "lossy"),
        ("salary", "greatest(generalize(salary, 10), 5)", "lossy"),
        ("name", "nullif(left(name, 1), 'x')", "lossy"),
        ("name", "repeat('*', char_length(name))", "lossy"),
        ("name", "split_part(email, '@', 2)", "lossy"),
        ("name", "(array[left(name, 1), 'x'])[1]", "lossy"),
        ("name", "overlay(name placing '***' from 2 for 3)", "lossy"),
        ("doc", "doc - 'ssn'", "lossy"),
        ("doc", "doc -> 'city'", "lossy"),
        ("consent", "salary > 10", "lossy"),
        ("mail", "partial_email(mail)", "lossy"),
        ("name", "case when name < posix collate \"C\" then 'x' end", "lossy"),
        ("ip", "generalize(ip, 24)", "lossy"),
        ("tags", "redact(tags)", "lossy"),
        ("Odd Col", 'partial("Odd Col", 1)', "lossy"),
        ("code4", "partial(code4, 1)", "lossy"),
        ("price", "generalize(price, 10)", "lossy"),
        ("few", "generalize(few, 10)", "lossy"),
    ],
)
def test_a_good_mask_has_its_class_and_works_on_every_row(
    db: Connection, column: str, expression: str, class_: str
) -> None:
    assert check(db, column, expression) == class_
    text = wrap(db, column, expression)
    with db.transaction(force_rollback=True):
        db.execute(f'create view public.shown as select {text} as "{column}" from public.people t'.encode())
        assert (
            one(
                db,
                "select count(distinct (atttypid, atttypmod, attcollation)) from pg_attribute"
                " where attrelid in ('public.people'::regclass, 'public.shown'::regclass) and attname = %s",
                column,
            )
            == 1
        )
    assert len(masked(db, column, expression)) == 3


@pytest.mark.parametrize(
    ("expression", "says"),
    [
        ("current_setting('x')", "current_setting(text), which is not immutable"),
        ("random()::text", "random(), which is not immutable"),
        ("now()::text", "now(), which is not immutable"),
        ("clock_timestamp()::text", "clock_timestamp()"),
        ("current_user", "CURRENT_USER"),
        ("current_date::text", "CURRENT_USER, CURRENT_DATE"),
        ("(select 'x')", "a sub-query"),
        ("(select key::text from domicile.mask_key)", "a sub-query"),
        ("exists (select 1)::text", "a sub-query"),
        ("array(select 'x'::text)::text", "a sub-query"),
        ("query_to_xml('select 1', true, true, '')::text", "query_to_xml"),
        ("table_to_xml('public.people', true, true, '')::text", "table_to_xml"),
        ("pg_read_file('/etc/passwd')", "pg_read_file(text)"),
        ("lo_get(1)::text", "lo_get"),
        ("set_config('role', 'postgres', false)", "set_config"),
        ("pg_notify('x', name)::text", "pg_notify"),
        ("pg_sleep(1)::text", "pg_sleep"),
        ("nextval('s')::text", ""),
        ("sum(salary)::text", "an aggregate"),
        ("string_agg(name, ',')", "an aggregate"),
        ("first_value(name) over ()", "a window function"),
        ("unnest(array['x'])", "which returns a set"),
        ("regexp_split_to_table(name, 'x')", "which returns a set"),
        ("row(t.*)::text", "a row constructor"),
        ("t::text", "the whole row"),
        ("to_jsonb(t)::text", ""),
        ("t.*::text", ""),
        ("ctid::text", "the system column ctid"),
        ("xmin::text", "the system column xmin"),
        ("tableoid::text", "the system column tableoid"),
        ("md5(name)", "md5(text)"),
        ("encode(sha256(name::bytea), 'hex')", "sha256(bytea)"),
        ("hashtext(name)::text", "hashtext"),
        ("format('%s', name)", "format"),
        ("concat(name, '')", "concat"),
        ("name || salary", "which is not immutable"),
        ("regexp_replace(name, '(a+)+$', 'x')", "regexp_replace"),
        ("(name ~ '(a+)+$')::text", "the operator ~"),
        ("substring(name from '(a+)+')", '"substring"(text,text)'),
        ("(name similar to 'x')::text", "the operator ~"),
        ("json_build_array(1)::text", "json_build_array"),
        ("jsonb_build_object('x', name)::text", "jsonb_build_object"),
        ("to_char(salary, '999')", "to_char"),
        ("array_to_string(tags, ',')", "array_to_string"),
        ("tags::text", "casts text[] to text"),
        ("born::text", "casts date to text"),
        ("seen::text", "casts timestamp with time zone to text"),
        ("cast(salary::float8 as text)", "casts double precision to text"),
        ("(row('a', 'b') < row('b', 'a'))::text", ""),
        ("dblink('host=x', 'select 1')::text", "dblink"),
        ("(array_append(tags, 'x'))[1]", "array_append"),
        ("array_position(tags, name)::text", "array_position"),
        ("generate_series(1, 3)::text", "generate_series"),
        ("xmlparse(content name)::text", ""),
        ("xmlelement(name x, name)::text", ""),
        ("jsonb_path_query_first(doc, '$.ssn')::text", "jsonb_path_query_first"),
        ("json_object('{a,b}')::text", "json_object"),
        ("to_number(name, '9')::text", "to_number"),
        ("pg_catalog.pg_typeof(name)::text", "pg_typeof"),
        ("has_table_privilege('people', 'select')::text", "has_table_privilege"),
        ("inet_client_addr()::text", "inet_client_addr"),
        ("txid_current()::text", "txid_current"),
        ("domicile.new_mask_key()::text", "new_mask_key"),
        ("domicile.pseudonym_with(name, 'a'::bytea, 'b'::bytea)", "pseudonym_with"),
        ("domicile.hmac_sha256('a', 'b')::text", "hmac_sha256"),
        ("$1", ""),
        ("case when name < posix then 'x' end", "texts of two collations"),
        ("repeat('x', length(lower(name || posix)))", "texts of two collations"),
        ("left(lower(name || posix), 1)", "could not determine which collation"),
        ("default", ""),
        ("name::public.mail", "the domain public.mail"),
        ("quote_literal(name)", "quote_literal"),
    ],
)
def test_a_bad_mask_is_refused_by_name(db: Connection, expression: str, says: str) -> None:
    error = refused(db, "name", expression)
    assert says in str(error.diag.message_primary)
    assert "column name of table public.people" in str(error.diag.message_primary)
    assert error.sqlstate is not None
    assert error.sqlstate[:2] in ("42", "0A")


@pytest.mark.parametrize(
    ("column", "expression"),
    [
        ("email", "email"),
        ("email", "t.email"),
        ("email", "(email)::varchar(60)"),
        ("email", "email || ''"),
        ("email", "'' || email"),
        ("email", "coalesce(email, 'x')"),
        ("email", "lower(email)"),
        ("email", "reverse(reverse(email))"),
        ("email", "replace(email, 'x', 'y')"),
        ("email", "case when salary > 0 then email else 'x' end"),
        ("email", "case when salary > 0 then partial(email, 1) else email end"),
        ("email", "(array[email])[1]"),
        ("email", "nullif(email, '')"),
        ("email", "greatest(email, '')"),
        ("email", "lpad(email, 60)"),
        ("email", 'email collate "C"'),
        ("email", "partial(email, 1) || email"),
        ("salary", "salary + 0"),
        ("salary", "-(-salary)"),
        ("salary", "salary::text::int"),
        ("salary", "abs(salary)"),
        ("price", "price * 1.0"),
        ("salary", "floor(salary)::int"),
        ("consent", "not consent"),
        ("consent", "consent and true"),
        ("consent", "consent = true"),
        ("consent", "consent is true"),
        ("consent", "case when consent then true else false end"),
        ("born", "born + 1"),
        ("doc", "doc || '{}'"),
    ],
)
def test_a_mask_that_shows_its_own_column_is_refused(db: Connection, column: str, expression: str) -> None:
    error = refused(db, column, expression)
    assert error.sqlstate == "42P17"
    assert "shows the column's own value" in str(error.diag.message_primary)
    assert "CLEAR" in str(error.diag.message_hint)


def test_a_mask_shows_other_columns_only_where_they_are_clear(db: Connection) -> None:
    for expression in (
        "email",
        "lower(email)",
        "partial(name, 1) || email",
        "case when consent then email else 'x' end",
    ):
        error = refused(db, "name", expression)
        assert error.sqlstate == "42P17"
        assert "shows the value of column" in str(error.diag.message_primary)
    sql = "select domicile.check_mask('public.people', 'name', %s, %s)"
    assert one(db, sql, "lower(email) || note", ["id", "email", "note"]) == "lossy"
    with pytest.raises(errors.InvalidObjectDefinition, match="of column note"):
        one(db, sql, "lower(email) || note", ["id", "email"])
    # What is hidden, or only compared, need not be clear.
    assert one(db, sql, "partial(email, 1) || case when salary > 10 then 'x' else 'y' end", []) == "lossy"


@pytest.mark.parametrize(
    "expression",
    [
        "1; drop table public.people",
        "'x') from public.people t; drop table public.people; --",
        "'x') as domicile_mask from public.people t, (select) frame; drop table public.people; select ('y'",
        "'x') as domicile_mask from public.people t, (select) frame; select (2",
        "'x') as domicile_mask, (select 'y'",
        "'x') as domicile_mask, ('y') as other, ('z'",
        "'x'), ('y'",
        "'x') as domicile_mask from public.people t, (select) frame union all select ('y'",
        "'x') as domicile_mask from public.people t, (select) frame where exists (select 1",
        "'x'::text) as domicile_mask from pg_authid t, (select) frame; /*",
        "'x' /* never closed",
        "'x' -- closed by the line's end\n) as domicile_mask from pg_authid t, (select) frame --",
        "'never closed",
        "$$x",
        "'x') with check option; --",
        "",
        "   ",
        "'" + "x" * 9000 + "'",
    ],
)
def test_text_cannot_leave_its_brackets(db: Connection, expression: str) -> None:
    before = one(db, "select count(*) from pg_class")
    error = refused_text(db, expression)
    assert error.sqlstate in ("42601", "42701", "42P17", "54000", "0A000")
    assert one(db, "select to_regclass('public.people') is not null")
    assert one(db, "select count(*) from pg_class") == before


def refused_text(db: Connection, expression: str) -> psycopg.Error:
    with pytest.raises(psycopg.Error) as caught:
        check(db, "name", expression)
    return caught.value


def test_nothing_of_an_expression_is_run_by_checking_it(db: Connection) -> None:
    # Planning would run an immutable function over constants; so would the wrong way of analysing.
    db.execute("create table public.ran (x int)")
    db.execute(
        "create function public.spy(x text) returns text language plpgsql immutable as"
        " $$ begin insert into public.ran values (1); return x; end $$"
    )
    db.execute("create domain public.spied as text check (public.spy(value) is not null)")
    for expression in (
        "public.spy('x')",
        "'x'::public.spied",
        "left('x'::public.spied, 1)",
        "public.spy('x') || left(name, 1)",
    ):
        assert refused(db, "name", expression).sqlstate == "42P17"
    assert one(db, "select count(*) from public.ran") == 0


def test_functions_and_operators_of_other_schemas_do_not_pretend(db: Connection) -> None:
    db.execute("create function public.lower(text) returns text language sql immutable as 'select $1'")
    db.execute("create function public.partial(text, int) returns text language sql immutable as 'select $1'")
    db.execute("create function public.unary(text) returns text language sql immutable as 'select $1'")
    db.execute("create function public.join_both(text, text) returns text language sql immutable as 'select $1'")
    db.execute("create operator public.|| (leftarg = text, rightarg = text, function = public.join_both)")
    db.execute("create operator public.#@# (rightarg = text, function = public.unary)")
    with db.transaction():
        db.execute("set local search_path = public, pg_catalog, domicile")
        text = wrap(db, "name", "partial(lower(name), 1) || 'x'")
        assert "public." not in text
    assert "domicile.partial(lower(t.name), 1)" in text
    for expression in (
        "public.lower(name)",
        "public.partial(name, 1)",
        "left(name, 1) operator(public.||) 'x'",
        "operator(public.#@#) name",
    ):
        error = refused(db, "name", expression)
        assert "a function outside the list" in str(error.diag.message_primary)
        assert "domicile.mask_functions" in str(error.diag.message_hint)
    # Unqualified, they are not even seen.
    assert refused(db, "name", "unary(name)").sqlstate == "42883"


def test_temporary_objects_do_not_pretend(db: Connection) -> None:
    db.execute("create temporary table people (name text)")
    db.execute("create domain pg_temp.text as pg_catalog.text check (false)")
    try:
        assert check(db, "name", "partial(name, 1)::text") == "lossy"
        assert "pg_temp" not in wrap(db, "name", "partial(name, 1)::text")
    finally:
        db.execute("drop table pg_temp.people")
        db.execute("drop domain pg_temp.text")


def test_casts_of_users_are_seen(db: Connection) -> None:
    db.execute("create type public.pair as (a text)")
    db.execute(
        "create function public.to_pair(text) returns public.pair language sql immutable"
        " as 'select row($1)::public.pair'"
    )
    db.execute("create function public.from_pair(public.pair) returns text language sql immutable as 'select ($1).a'")
    db.execute("create cast (text as public.pair) with function public.to_pair(text) as implicit")
    db.execute("create cast (public.pair as text) with function public.from_pair(public.pair) as implicit")
    assert "public.from_pair" in str(refused(db, "name", "name::public.pair::text").diag.message_primary)
    db.execute("create type public.mood as enum ('x')")
    db.execute("create cast (public.mood as date) with inout as implicit")
    assert "by way of text" in str(refused(db, "born", "'x'::public.mood::date").diag.message_primary)


def test_a_column_that_is_not_there_is_named_with_its_table(db: Connection) -> None:
    error = refused(db, "nope", "1")
    assert error.sqlstate == "42703"
    assert error.diag.message_primary == 'column "nope" of table public.people does not exist'
    assert "email" in str(error.diag.message_hint)
    error = refused(db, "name", "partial(nope, 1)")
    assert error.sqlstate == "42703"
    assert "column name of table public.people" in str(error.diag.message_primary)
    assert '"nope"' in str(error.diag.message_primary)
    assert refused(db, "name", "orders.id::text").sqlstate == "42P01"


@pytest.mark.parametrize(
    ("column", "expression"),
    [
        ("born", "'2000-01-01'"),
        ("born", "date_trunc('year', born::timestamp)::timestamptz"),
        ("salary", "partial(name, 1)"),
        ("tier", "'gold'"),
        ("tags", "partial(name, 1)"),
        ("name", "array[partial(name, 1)]"),
    ],
)
def test_another_type_is_refused(db: Connection, column: str, expression: str) -> None:
    assert refused(db, column, expression).sqlstate in ("42804", "42P17")


@pytest.mark.parametrize(
    ("table", "column", "expression", "constraint"),
    [
        ("public.people", "id", "pseudonym(id)", "people_pkey"),
        ("public.people", "id", "generalize(id, 10)", "people_pkey"),
        ("public.people", "email", "partial(email, 1)", "orders_customer_email_fkey"),
        ("public.people", "code", "redact(code)", "people_code_key"),
        ("public.orders", "customer_email", "redact(customer_email)", "orders_customer_email_fkey"),
        ("public.people", "name", "partial(name, 1)", "people_name_lower"),
    ],
)
def test_a_lossy_mask_of_a_key_is_refused(
    db: Connection, table: str, column: str, expression: str, constraint: str
) -> None:
    with db.transaction(force_rollback=True):
        db.execute("create unique index people_name_lower on public.people (lower(name))")
        with pytest.raises(errors.InvalidObjectDefinition) as caught:
            check(db, column, expression, table)
    assert constraint in str(caught.value.diag.message_primary)


@pytest.mark.parametrize("column", ["note", "code4"])
def test_a_pseudonym_that_does_not_fit_is_refused(db: Connection, column: str) -> None:
    error = refused(db, column, f"pseudonym({column})")
    assert error.sqlstate == "42P17"
    assert "32 characters" in str(error.diag.message_primary)


def test_foreign_keys_share_the_domain_of_what_they_refer_to(db: Connection) -> None:
    assert one(db, "select domicile.mask_domain('public.orders', 'customer_email')") == "public.people.email"
    assert "'public.people.email'" in wrap(db, "customer_email", "pseudonym(customer_email)", "public.orders")
    assert "'person'" in wrap(db, "email", "pseudonym(email, domain => 'person')")
    with db.transaction(force_rollback=True):
        db.execute("insert into public.orders values (1, 'anna@example.com', true), (2, null, true)")
        people = wrap(db, "email", "pseudonym(email)")
        orders = wrap(db, "customer_email", "pseudonym(customer_email)", "public.orders")
        assert (
            one(
                db,
                f"select count(*) from (select {people} from public.people t) p (e)"
                f" join (select {orders} from public.orders t) o (e) on p.e = o.e",
            )
            == 1
        )


def test_a_table_that_refers_to_itself_has_a_domain(db: Connection) -> None:
    with db.transaction(force_rollback=True):
        db.execute("create table public.tree (id text primary key, parent text references public.tree)")
        db.execute("alter table public.tree add foreign key (id) references public.tree (id)")
        assert one(db, "select domicile.mask_domain('public.tree', 'parent')") == "public.tree.id"


@pytest.mark.parametrize(
    ("column", "expression", "says"),
    [
        ("born", "generalize(born, 'Year')", "generalizes to 'Year'"),
        ("born", "generalize(unit => 'day', value => born)", "generalizes to 'day'"),
        ("seen", "generalize(seen, 'jährlich')", "generalizes to 'jährlich'"),
        ("name", "fake(name, 'phone')", "a fake 'phone'"),
        ("name", "fake(value => name, kind => 'x')", "a fake 'x'"),
        ("name", "fake(name, 'name', domain => email)", "the domain"),
    ],
)
def test_a_constant_that_no_mask_knows_is_refused(db: Connection, column: str, expression: str, says: str) -> None:
    error = refused(db, column, expression)
    assert error.sqlstate == "42P17"
    assert says in str(error.diag.message_primary)


@pytest.mark.parametrize("domain", ["null", "name", "''", "'a' || 'b'"])
def test_a_domain_is_a_constant(db: Connection, domain: str) -> None:
    with pytest.raises(psycopg.Error):
        wrap(db, "name", f"pseudonym(name, domain => {domain})")


def test_noise_needs_a_primary_key(db: Connection) -> None:
    with pytest.raises(errors.InvalidObjectDefinition, match="no primary key"):
        wrap(db, "amount", "noise(amount, 5)", "public.keyless")


RAISING = [
    ("salary", "left(name, 3)::int", [None, None, None]),
    ("salary", "1000000 / salary * 2147483647", [None, None, None]),
    ("name", "substring(name from 1 for -salary)", [None, "", None]),
    ("name", "split_part(name, ' ', salary)", ["", None, None]),
    ("name", "left(pseudonym(name), 3)::int::text", None),
    ("doc", "jsonb_set(doc, '{a,b}', '1') - 'ssn'", None),
    ("price", "generalize(price, 1000) + 1000", [None, None, None]),
    ("mail", "left(mail, 1)", [None, None, None]),
    ("few", "length(name) * 100", [None, None, None]),
    ("born", "make_date(salary / 1000, 2, 30)", [None, None, None]),
]


@pytest.mark.parametrize(("column", "expression", "result"), RAISING)
def test_a_mask_that_can_raise_gives_null_instead(
    db: Connection, column: str, expression: str, result: list[Any] | None
) -> None:
    text = wrap(db, column, expression)
    assert text.startswith("(domicile.mask_")
    got = masked(db, column, expression)
    if result is not None:
        assert got == result
    # Asked again, it is the same function.
    assert wrap(db, column, expression) == text


def test_a_mask_that_cannot_raise_is_not_wrapped(db: Connection) -> None:
    for column, expression in (
        ("name", "partial(lower(name), 1)"),
        ("born", "generalize(born, 'year')"),
        ("salary", "noise(salary, 5)"),
    ):
        assert "domicile.mask_" not in wrap(db, column, expression).replace("domicile.mask_key", "")


def test_wrappers_without_a_view_are_dropped(db: Connection) -> None:
    db.execute("select domicile.drop_unused_mask_wrappers()")
    kept = wrap(db, "salary", "left(name, 3)::int")
    wrap(db, "salary", "left(name, 4)::int")
    assert one(db, "select count(*) from domicile.mask_wrapper") == 2
    db.execute(f"create view public.kept as select {kept} as x from public.people t".encode())
    assert one(db, "select domicile.drop_unused_mask_wrappers()") == 1
    assert db.execute("select * from public.kept").fetchall() == [(None,)] * 3
    db.execute("drop view public.kept")
    assert one(db, "select domicile.drop_unused_mask_wrappers()") == 1
    assert one(db, "select count(*) from domicile.mask_wrapper") == 0


def test_through_a_view_a_foreign_role_sees_masks_and_no_key(db: Connection) -> None:
    masks = {
        "email": "pseudonym(email)",
        "name": "partial(name, 1)",
        "born": "generalize(born, 'year')",
        "salary": "left(name, 3)::int + length(pseudonym(name)) + noise(salary, 10)",
        "price": "noise(price, 5)",
        "note": "left(fake(name, 'city'), 10)",
    }
    columns = ", ".join(f"{wrap(db, c, e)} as {c}" for c, e in masks.items())
    with db.transaction(force_rollback=True):
        db.execute("create schema to_eu")
        db.execute('create role "alice@eu"')
        db.execute(f"create view to_eu.people as select t.id, {columns} from public.people t".encode())
        db.execute("grant usage, create on schema to_eu to domicile_views")
        db.execute("grant select on public.people to domicile_views")
        db.execute("alter view to_eu.people owner to domicile_views")
        db.execute('grant usage on schema to_eu to "alice@eu"; grant select on to_eu.people to "alice@eu"')
        db.execute('set local session authorization "alice@eu"')
        rows = db.execute("select * from to_eu.people order by id").fetchall()
        assert rows[0][2] == "A***"
        assert len(rows[0][1]) == 32
        assert str(rows[0][3]) == "1990-01-01"
        assert rows[0][4] is None
        assert all(value is None for value in rows[2][1:])
        for attempt in (
            "select key from domicile.mask_key",
            "select domicile.pseudonym('x', 'public.people.email')",
            "select name from public.people",
        ):
            with pytest.raises(errors.InsufficientPrivilege), db.transaction():
                db.execute(attempt.encode())
        # Its own settings change nothing of what it sees.
        db.execute("set local search_path = public, pg_catalog")
        db.execute("set local datestyle = 'SQL, DMY'; set local timezone = 'Asia/Tokyo'")
        db.execute("set local standard_conforming_strings = off; set local extra_float_digits = -15")
        assert db.execute("select * from to_eu.people order by id").fetchall()[0][1:] == rows[0][1:]


def test_another_search_path_changes_no_wrapped_mask(db: Connection) -> None:
    text = wrap(db, "salary", "length(lower(name)) + left('7', 1)::int")
    assert text.startswith("(domicile.mask_")
    with db.transaction(force_rollback=True):
        db.execute("create schema evil")
        db.execute("create function evil.lower(text) returns text language sql immutable as $$ select $1 || 'evil' $$")
        db.execute("set local search_path = evil, pg_catalog")
        assert one(db, f"select {text} from public.people t where id = 1") == len("Anna Ängström") + 7


def test_a_mark_in_a_string_is_no_key(db: Connection) -> None:
    text = wrap(db, "name", r"pseudonym(name) || '\inner 1\ \outer 1\ domicile.pseudonym(t.name) ''' || left(name, 1)")
    assert text.count("select k.inner_pad") == 1
    assert (
        masked(db, "name", r"left(pseudonym(name), 0) || '\inner 1\' || left('7', 1)::int::text")[0] == "\\inner 1\\7"
    )


def test_which_columns_an_expression_reads_and_shows(db: Connection) -> None:
    assert one(
        db,
        "select domicile.mask_columns('public.people', e), domicile.mask_shown_columns('public.people', e)"
        " from (select 'lower(email) || partial(name, 1) || case when consent then ''x'' end') v (e)",
    ) == (["email", "name", "consent"], ["email", "consent"])


@pytest.mark.parametrize(
    ("condition", "sqlstate"),
    [
        ("consent", None),
        ("consent and salary > 10", None),
        ("tier = 'gold'", None),
        ("born > date '1980-01-01' and email is not null", None),
        ("name like 'A%'", None),
        ("id in (1, 2)", None),
        ("salary", "42804"),
        ("consent; select true", "42601"),
        ("consent) as domicile_mask from public.people t, (select) frame union all select (true", "42601"),
        ("consent) as domicile_mask, (true", "42701"),
        ("now() > seen", "42P17"),
        ("exists (select 1 from public.orders o where o.customer_email = email)", "42P17"),
        ("current_user = 'x'", "42P17"),
        ("pseudonym(name) = 'x'", "42P17"),
        ("nope", "42703"),
        ("", "42601"),
    ],
)
def test_rows(db: Connection, condition: str, sqlstate: str | None) -> None:
    if sqlstate is None:
        db.execute("select domicile.check_rows('public.people', %s)", (condition,))
        text = one(db, "select domicile.wrap_rows('public.people', %s)", condition)
        assert [row[0] for row in db.execute(f"select id from public.people t where {text}".encode())] in ([1], [1, 2])
    else:
        with pytest.raises(psycopg.Error) as caught:
            db.execute("select domicile.check_rows('public.people', %s)", (condition,))
        assert caught.value.sqlstate == sqlstate
        assert caught.value.diag.message_hint
        assert "ROWS of table public.people" in str(caught.value.diag.message_primary)


def test_rows_that_can_raise_hide_the_row(db: Connection) -> None:
    text = one(db, "select domicile.wrap_rows('public.people', '100 / salary >= 0')")
    assert [row[0] for row in db.execute(f"select id from public.people t where {text}".encode())] == [1]


def test_a_check_leaves_nothing_behind(db: Connection) -> None:
    before = one(db, "select array_agg(oid order by oid) from pg_class")
    check(db, "name", "partial(name, 1)")
    wrap(db, "name", "partial(name, 1)")
    assert one(db, "select array_agg(oid order by oid) from pg_class") == before
    # And a transaction that checked can still be prepared, as a policy change over regions must.
    with db.transaction(force_rollback=True):
        check(db, "name", "partial(name, 1)")
    db.execute("begin")
    db.execute("select domicile.check_mask('public.people', 'name', 'pseudonym(name)')")
    db.execute("prepare transaction 'masks'")
    db.execute("rollback prepared 'masks'")


ODD_COLUMNS = [
    "t",
    "mask",
    "domicile_mask",
    "frame",
    "domicile",
    "pseudonym",
    "value",
    "select",
    "a.b",
    'a"b',
    "a b",
    "x'y",
    "Ünï",
    "\\inner 1\\",
    ":funcid",
    "(",
    "$1",
]


def test_odd_names_change_nothing(db: Connection) -> None:
    with db.transaction(force_rollback=True):
        db.execute("""create schema "t'd. ""T"; create type "t'd. ""T".t as enum ('t', 'mask')""")
        quoted = ['"' + c.replace('"', '""') + '"' for c in ODD_COLUMNS]
        table = '"t\'d. ""T"."mask ""frame"'
        db.execute(f'create table {table} ({", ".join(f"{c} text" for c in quoted)}, kind "t\'d. ""T".t)'.encode())
        db.execute(f"insert into {table} values ({', '.join(['%s'] * len(quoted))}, 'mask')".encode(), ODD_COLUMNS)
        for name, column in zip(ODD_COLUMNS, quoted, strict=True):
            for expression in (
                f"partial({column}, 0, 0, '#')",
                f"partial(t.{column}, 0, 0, '#') || left('7', 1)::int::text",
            ):
                text = wrap(db, name, expression, table)
                (got,) = db.execute(f"select {text} from {table} t".encode()).fetchone() or (None,)
                assert got in ("#", "#7")
            keyed = wrap(db, name, f"left(pseudonym({column}, domain => '{'x' * 5}'), 4)", table)
            (got,) = db.execute(f"select {keyed} from {table} t".encode()).fetchone() or (None,)
            assert len(got) == 4
        text = wrap(db, "kind", 'case when left(t.t, 1)::int > 0 then \'t\'::"t\'d. ""T".t end', table)
        assert text.startswith("(domicile.mask_")
        assert db.execute(f"select {text} from {table} t".encode()).fetchone() == (None,)


TYPES = [
    "bit(3)",
    "varbit(5)",
    "interval day to second(2)",
    "timestamp(0)",
    "timestamptz(3)",
    "time(3)",
    "timetz",
    "numeric(10,2)[]",
    "varchar(5)[]",
    "char(3)[]",
    "char(3)",
    "varchar(5)",
    "name",
    "tsvector",
    "tsquery",
    "point",
    "box",
    "money",
    "int4range",
    "int4multirange",
    "tstzrange",
    "public.tier",
    "public.tier[]",
    "public.mail",
    "public.mails",
    "public.pair_of",
    "public.pair_of[]",
    "json",
    "jsonb[]",
    "oid",
    "regclass",
    "macaddr",
    "xid",
    "float4",
    "float8",
    "bytea",
    "uuid[]",
    "int2",
    'text collate "C"',
    'public.mail collate "POSIX"',
]


def test_nothing_of_every_type_keeps_the_type(db: Connection) -> None:
    with db.transaction(force_rollback=True):
        db.execute("create domain public.mails as public.mail[]; create type public.pair_of as (a int, b public.mail)")
        columns = {f"c{i}": t.strip() for i, t in enumerate(TYPES)}
        db.execute(f"create table public.typed ({', '.join(f'{c} {t}' for c, t in columns.items())})".encode())
        db.execute("insert into public.typed default values")
        for expression in ("null", "redact({})", "withheld({})"):
            masks = [f"{wrap(db, c, expression.format(c), 'public.typed')} as {c}" for c in columns]
            db.execute(f"create view public.nothing as select {', '.join(masks)} from public.typed t".encode())
            wrong = db.execute(
                "select a.attname, format_type(a.atttypid, a.atttypmod), format_type(b.atttypid, b.atttypmod)"
                " from pg_attribute a join pg_attribute b using (attname)"
                " where a.attrelid = 'public.typed'::regclass and b.attrelid = 'public.nothing'::regclass"
                " and (a.atttypid, a.atttypmod, a.attcollation) <> (b.atttypid, b.atttypmod, b.attcollation)"
            ).fetchall()
            assert wrong == []
            row = db.execute("select * from public.nothing").fetchone()
            assert row is not None
            assert all(value is None or "[redacted]".startswith(value) for value in row)
            db.execute("drop view public.nothing")


def test_a_domain_that_forbids_null_cannot_be_masked(db: Connection) -> None:
    with db.transaction(force_rollback=True):
        db.execute(
            "create domain public.must as text not null; create domain public.should as text check (value is not null)"
        )
        db.execute("create domain public.counted as int check (pg_backend_pid() > value)")
        db.execute("create table public.strict (a public.must, b public.should, c public.counted)")
        for column in "abc":
            with pytest.raises(errors.InvalidObjectDefinition) as caught, db.transaction():
                check(db, column, f"redact({column})", "public.strict")
            assert "withheld" in str(caught.value.diag.message_hint)


def test_a_stream_masks_arrays_of_rows_as_a_view_does(db: Connection) -> None:
    masks = [
        wrap(db, "email", "pseudonym(email)"),
        wrap(db, "salary", "salary / 1000 * 1000"),
        wrap(db, "price", "noise(price, 5)"),
        wrap(db, "tags", "redact(tags)"),
    ]
    select = ", ".join(masks)
    live = db.execute(f"select {select} from public.people t order by t.id".encode()).fetchall()
    streamed = db.execute(
        f"with batch (rows) as (select array_agg(p order by p.id) from public.people p)"
        f" select {select} from batch, unnest(batch.rows) t".encode()
    ).fetchall()
    assert live == streamed


def test_partitions_and_generated_columns(db: Connection) -> None:
    with db.transaction(force_rollback=True):
        db.execute(
            "create table public.parted (id uuid, at date, secret text,"
            " shadow text generated always as (upper(secret)) stored, primary key (id, at)) partition by range (at)"
        )
        db.execute(
            "create table public.parted_1 partition of public.parted for values from ('2000-01-01') to ('2030-01-01')"
        )
        db.execute("insert into public.parted values (gen_random_uuid(), '2020-02-03', 'abc')")
        assert check(db, "id", "pseudonym(id)", "public.parted") == "preserved"
        with pytest.raises(errors.InvalidObjectDefinition, match="parted_pkey"), db.transaction():
            check(db, "at", "generalize(at, 'year')", "public.parted")
        text = wrap(db, "secret", "partial(secret, 1) || left(shadow, 1)", "public.parted")
        assert one(db, f"select {text} from public.parted t") == "a***A"
        noisy = wrap(db, "secret", "noise(length(secret), 100)::text", "public.parted")
        assert "(t.id)::text || '/' || (t.at - '2000-01-01'::date)::text" in noisy
        assert one(db, f"select {noisy} from public.parted t") is not None


def test_a_database_owner_without_superuser_installs_and_checks(server: EmbeddedServer) -> None:
    with mask_database(server, owner="manager") as connection:
        connection.execute("grant select on public.people to manager; set role manager")
        assert check(connection, "email", "pseudonym(email)") == "preserved"
        assert masked(connection, "salary", "left(name, 2)::int") == [None, None, None]
        assert refused(connection, "name", "now()::text").sqlstate == "42P17"


@pytest.mark.parametrize(
    "expression",
    ["- " * 4000 + "generalize(salary, 10)", "generalize(salary, 10)" + " + 1" * 1500, "- " * 500 + "salary"],
)
def test_an_expression_without_end_is_refused_at_once(db: Connection, expression: str) -> None:
    with pytest.raises(psycopg.Error) as caught:
        check(db, "salary", expression)
    assert caught.value.sqlstate == "54001"


def test_a_long_expression_is_not(db: Connection) -> None:
    assert check(db, "salary", "- " * 90 + "generalize(salary, 10)") == "lossy"
    text = wrap(db, "name", "pseudonym(name)" + " || pseudonym(name)" * 40)
    assert text.count("k.inner_pad") == 41


def test_strangers_may_not_check(db: Connection) -> None:
    with db.transaction(force_rollback=True):
        db.execute("create role stranger; grant usage on schema domicile to stranger; set local role stranger")
        with pytest.raises(errors.InsufficientPrivilege):
            check(db, "name", "partial(name, 1)")
