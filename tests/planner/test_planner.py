"""The planner's promises that no golden case can hold: any text, any size, and what is spliced."""

from __future__ import annotations

import random
import re
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from domicile.catalog.errors import DomicileError
from domicile.catalog.names import QualifiedName, RegionName, quote_identifier
from domicile.catalog.snapshot import Catalog, Locality
from domicile.planner import explain, plan, regions, split, split_insert
from domicile.planner.keys import array_elements
from domicile.planner.parse import Statement, parse, walk
from domicile.planner.plan import Finish, Keyed, Kind, Plan, RowHomes
from domicile.planner.resolve import facts
from domicile.planner.route import canonical
from domicile.planner.splice import Name, for_abroad

from .federation import array_text

PATH = ("$user", "public")
US, EU = RegionName("us"), RegionName("eu")

WORDS = r'''
select from where join left right full on using natural lateral as with recursive insert into values
update set delete merge customers orders order_items products events tickets big_spenders visits
sales.orders public.customers "Odd ""Name""" заказы c o country id customer_id region ctid tier * (
) , ; . = <> in any and or not null is 'DE' 'US' '{DE,FR}' 1 2.5 $1 $2 $3 count(*) sum(tier) now()
my_function(1) group by order limit offset having distinct union all exists case when then else end
returning default conflict do nothing for copy to stdin stdout explain analyze prepare execute
declare cursor begin commit create table alter residency policy locality pinned mask -- /* */ ::text
::int[] :: array[ ] row( over e'\\n' u&'\\0041' $$x$$ [ ]
'''.split()  # noqa: SIM905


@contextmanager
def only_domicile_errors(*sqlstates: str) -> Iterator[None]:
    """Lets DomicileErrors pass with one of the SQLSTATEs (any, where none is given), and nothing else."""
    try:
        yield
    except DomicileError as error:
        if sqlstates and error.sqlstate not in sqlstates:
            raise


def _homes(made: Plan) -> list[RegionName]:
    rows = len(made.placement.rows) if isinstance(made.placement, RowHomes) else 1
    return [EU if i % 2 else US for i in range(rows)]


def everything(made: Plan, catalog: Catalog) -> None:
    """All that a gateway may ask of a plan; each may raise DomicileError and nothing else."""
    values = dict.fromkeys(range(1, made.parameters_max + 1), "DE")
    for ask in (
        lambda: regions(made, catalog, values),
        lambda: explain(made, catalog, values),
        lambda: explain(made, catalog),
        lambda: [made.texts[r] for r in made.texts],
        lambda: split_insert(made, _homes(made)),
    ):
        with only_domicile_errors():
            ask()


@given(st.lists(st.sampled_from(WORDS), max_size=25))
@settings(max_examples=600, deadline=None)
def test_any_words_give_a_plan_or_a_domicile_error(catalog: Catalog, words: list[str]) -> None:
    sql = " ".join(words)
    with only_domicile_errors("0A000", "42601", "54001"):
        everything(plan(sql, catalog, PATH, "app"), catalog)


@given(st.text(max_size=60))
@settings(max_examples=300, deadline=None)
def test_any_text_gives_a_plan_or_a_domicile_error(catalog: Catalog, sql: str) -> None:
    for ask in (lambda: plan(sql, catalog, PATH), lambda: split(sql)):
        with only_domicile_errors("42601", "22021", "0A000"):
            ask()


SHAPES = [
    "select * from {t}",
    "select {t}.* , 1 as é from {t} where {t}.{c} is not null",
    "select x.{c} from only {t} as x",
    "with {u} as (select 'a''{t}' as z) select * from {u}, {t} /* from {t} */",
    "update {t} set {c} = {c} where {c} in (select {c} from {t})",
    "delete from {t} where $${t}$$ <> 'é'",
    "select \"{c}\", '{t}' from {t} y where exists (select from {t} where y.{c} = {t}.{c})",
]


@given(st.sampled_from(SHAPES), st.integers(0, 13), st.sampled_from(["", " ", "\n\t", "/* é */"]), st.booleans())
@settings(max_examples=300, deadline=None)
def test_spliced_names_and_nothing_else(catalog: Catalog, shape: str, n: int, space: str, qualify: bool) -> None:
    table = list(catalog.tables.values())[n]
    shown = str(table.name).replace('"."', f'"{space}.{space}"') if qualify else quote_identifier(table.name.name)
    column = quote_identifier(table.columns[0].name)
    sql = shape.replace('"{c}"', column).format(t=shown, c=column, u="untouched")
    path = PATH if table.name.schema == "public" else (table.name.schema,)
    (statement,) = parse(sql)
    found = facts(statement, catalog, path, "app")
    text = for_abroad(sql, [Name(r.offset, r.parts, r.table.name) for r in found.references], US)
    (after,) = parse(text)
    abroad = [b for _, b in relations(after)]
    assert all(b["schemaname"].startswith("to_us") or b["relname"] == "untouched" for b in abroad if "schemaname" in b)
    # what is not a name is the client's own, byte for byte
    back = text
    border = "to_us" if table.name.schema == "public" else f"to_us${table.name.schema}"
    for _ in found.references:
        back = back.replace(str(QualifiedName(border, table.name.name)), shown, 1)
    assert back == sql


def relations(statement: Statement) -> list[tuple[str, dict[str, object]]]:
    return [(k, b) for k, b in walk({statement.kind: statement.body}) if "relname" in b]


@given(st.lists(st.none() | st.text(alphabet="aD E{},\"\\é'", max_size=5), max_size=5))
def test_elements_of_an_array(items: list[str | None]) -> None:
    assert array_elements(array_text(items)) == items


@pytest.mark.parametrize("text", ["", "{", "{a", "{{1},{2}}", "[0:1]={a,b}", "{a,}", '{"a}', '{a"b}', "a"])
def test_what_is_no_array_of_one_dimension(text: str) -> None:
    assert array_elements(text) is None


@pytest.mark.parametrize(
    ("type_name", "text", "value"),
    [
        ("bigint", "1e3", "1000"),
        ("bigint", "1e999999999", None),
        ("integer", "NaN", None),
        ("integer", "0x1F", "31"),
        ("integer", "1_000", "1000"),
        ("uuid", "A0EEBC99-9C0B4EF8-BB6D6BB9BD380A11", "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11"),
        ("uuid", "x", None),
        ("boolean", " T", "true"),
        ("character(2)", "DE  ", "DE"),
        ("character varying(2)", "DE ", "DE "),
    ],
)
def test_values_as_postgresql_prints_them(type_name: str, text: str, value: str | None) -> None:
    assert canonical(type_name, text) == value


# --- sizes ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("depth", [500, 5000, 100_000])
@pytest.mark.parametrize("shape", ["select 1{}", "select * from customers where tier = 1{}"])
def test_a_long_chain_is_planned_or_refused_cleanly(catalog: Catalog, depth: int, shape: str) -> None:
    sql = shape.format("+1" * depth)
    for ask in (lambda: plan(sql, catalog, PATH), lambda: split(sql)):
        with only_domicile_errors("54001"):
            ask()


def test_deep_parentheses_and_subqueries(catalog: Catalog) -> None:
    for sql in (
        "select " + "(" * 50_000 + "1" + ")" * 50_000,
        "select * from customers where " + "not (" * 3000 + "true" + ")" * 3000,
        "select " + "(select " * 700 + "count(*) from customers" + ")" * 700,
    ):
        with pytest.raises(DomicileError) as caught:
            plan(sql, catalog, PATH)
        assert caught.value.sqlstate == "54001"


def test_fifty_thousand_keys(catalog: Catalog) -> None:
    chosen = random.Random(1).choices(["DE", "US", "FR", "XX"], k=50_000)
    made = plan(f"select * from customers where country in ({', '.join(map(repr, chosen))})", catalog, PATH)
    assert isinstance(made.placement, Keyed)
    assert regions(made, catalog) == (US, EU)
    assert len(made.placement.keys[0].shown) < 100


def test_ten_thousand_rows_keep_their_order(catalog: Catalog) -> None:
    rows = ", ".join(f"({i}, 'n{i}', $1, {'$2' if i % 2 else '$3'})" for i in range(10_000))
    made = plan(f"insert into customers (id, name, email, country) values {rows} returning id", catalog, PATH)
    homes = [EU if i % 2 else US for i in range(10_000)]
    us, eu = split_insert(made, homes)
    assert (us.region, us.parameters) == (US, (1, 3))
    assert (eu.region, eu.parameters) == (EU, (1, 2))
    assert [int(i) for i in re.findall(r"\((\d+), 'n", eu.text)] == list(range(1, 10_000, 2))
    assert "$3" not in us.text + eu.text
    assert eu.text.endswith(" returning id")


# --- the catalog ------------------------------------------------------------------------------------------------------


def test_one_region_takes_everything_as_it_is(catalog: Catalog) -> None:
    from dataclasses import replace

    alone = replace(catalog, regions={US: catalog.regions[US]})
    for sql in ("select * from big_spenders", "delete from customers", "truncate products"):
        made = plan(sql, alone, PATH)
        assert regions(made, alone) == (US,)
        assert made.text == sql


def test_the_role_is_its_own_schema(catalog: Catalog) -> None:
    made = plan("select * from orders where region = 'E1'", catalog, PATH, "sales")
    assert made.tables == (QualifiedName("sales", "orders"),)
    assert plan("select * from orders", catalog, PATH, "app").tables == (QualifiedName("public", "orders"),)


def test_every_foreign_text_of_a_plan_is_the_same_and_only_for_others(catalog: Catalog) -> None:
    made = plan("select * from customers where country = $1", catalog, PATH)
    assert set(made.texts) == set(catalog.others())
    assert made.texts[EU] is made.texts[EU]
    with pytest.raises(KeyError):
        made.texts[US]


def test_a_name_that_can_not_be_replaced_is_refused_not_sent(catalog: Catalog) -> None:
    made = plan("select * from U&\"c\\0075stomers\" where country = 'DE'", catalog, PATH)
    assert made.tables == (QualifiedName("public", "customers"),)
    with pytest.raises(DomicileError, match="can't be replaced"):
        made.texts[EU]


def test_finish_has_a_fragment_for_every_region(catalog: Catalog) -> None:
    made = plan("select count(*) from customers", catalog, PATH)
    assert isinstance(made.gather, Finish)
    assert set(made.gather.fragments) == set(catalog.regions)


@pytest.mark.parametrize(
    ("sql", "pins"),
    [
        ("create temp table x (a int)", "a temporary table"),
        ("create table pg_temp.x (a int)", "a temporary table"),
        ("create temp table x as select 1", "a temporary table"),
        ("select 1 into temp x", "a temporary table"),
        ("create temp view v as select 1", "a temporary table"),
        ("create temp sequence s", "a temporary table"),
        ("listen a", "LISTEN"),
        ("unlisten a", None),
        ("declare c cursor with hold for select 1", "a cursor WITH HOLD"),
        ("declare c cursor for select 1", None),
        ("select pg_advisory_lock(1)", "pg_advisory_lock"),
        ("select pg_advisory_xact_lock(1)", None),
        ("select set_config('a.b', 'c', false)", "set_config"),
        ("load 'auto_explain'", "LOAD"),
        ("create table t (a int)", None),
        ("drop table pg_temp.x", None),
        ("select * from customers where country = 'DE'", None),
    ],
)
def test_what_pins_a_backend(catalog: Catalog, sql: str, pins: str | None) -> None:
    assert plan(sql, catalog, PATH).pins == pins


def test_functions_that_may_differ_elsewhere_are_told(catalog: Catalog) -> None:
    made = plan("select nextval('s'), lower('X'), current_user, public.f(now())", catalog, PATH)
    assert set(made.calls) == {"nextval", "current_user", "public.f"}


def test_kinds_and_rows(catalog: Catalog) -> None:
    for sql, kind, rows in (
        ("select 1", Kind.READ, True),
        ("table customers", Kind.READ, True),
        ("values (1)", Kind.READ, True),
        ("update customers set tier = 1 where id = 1", Kind.WRITE, False),
        ("delete from customers where id = 1 returning id", Kind.WRITE, True),
        ("show all", Kind.SHOW, True),
        ("", Kind.EMPTY, False),
    ):
        made = plan(sql, catalog, PATH)
        assert (made.kind, made.returns_rows) == (kind, rows), sql


def test_a_regional_table_here_is_at_home_for_its_ddl(catalog: Catalog) -> None:
    assert any(t.locality is Locality.REGIONAL and t.home == US for t in catalog.tables.values())
    assert plan("alter table staff add x int", catalog, PATH).kind is Kind.DDL
    with pytest.raises(DomicileError):
        plan("alter table tax_rates add x int", catalog, PATH)
