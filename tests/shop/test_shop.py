"""The shop: every country has a home, names are in their scripts, rows are the same every time, and they load."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter

import psycopg
import pytest

from domicile.embedded import EmbeddedServer
from domicile.shop import load
from domicile.shop.generate import CUSTOMERS, Shop, countries
from domicile.shop.names import NAMES
from tests.conftest import MakeDatabase


def test_every_country_of_the_iso_list_has_one_home() -> None:
    all_countries = countries()
    assert len({c.code for c in all_countries}) == len(all_countries) == 249
    assert Counter(c.region for c in all_countries) == {"us": 57, "eu": 135, "ap": 57}
    assert all(re.fullmatch("[A-Z]{2}", c.code) and c.names in NAMES for c in all_countries)


def test_names_are_written_in_many_scripts() -> None:
    scripts = Counter(
        unicodedata.name(letter).split()[0]
        for row in Shop(5000).customers()
        for letter in str(row[2])
        if letter.isalpha()
    )
    wanted = {"LATIN", "CYRILLIC", "GREEK", "CJK", "HANGUL", "HIRAGANA", "KATAKANA", "DEVANAGARI", "ARABIC", "THAI",
              "HEBREW", "BENGALI"}  # fmt: skip
    assert wanted <= scripts.keys()


def test_all_names_are_nfc_and_their_handles_ascii() -> None:
    for language, names in NAMES.items():
        for word in (*names.given, *names.family):
            assert unicodedata.normalize("NFC", word) == word, (language, word)
        for handle in (*names.given_latin, *names.family_latin):
            assert re.fullmatch("[a-z]+", handle), (language, handle)


def test_the_same_seed_makes_the_same_rows() -> None:
    assert list(Shop(500).customers()) == list(Shop(500).customers())
    assert Shop(500).orders() == Shop(500).orders()
    assert list(Shop(500).customers()) != list(Shop(500, seed=7).customers())


def test_an_order_costs_what_its_items_cost() -> None:
    shop = Shop(200)
    totals: Counter[object] = Counter()
    for order, _, _, quantity, price in shop.order_items():
        totals[order] += int(str(quantity)) * round(float(str(price)) * 100)
    assert {o[0]: f"{totals[o[0]] // 100}.{totals[o[0]] % 100:02d}" for o in shop.orders()} == {
        o[0]: o[4] for o in shop.orders()
    }


@pytest.mark.parametrize("size", [100, CUSTOMERS])
def test_it_loads(server: EmbeddedServer, make_database: MakeDatabase, size: int) -> None:
    database = make_database(server)
    with database.connect() as connection:
        load.create_roles(connection, {role: role for role in load.ROLES})
        load.create_tables(connection)
        load.fill(connection, Shop(size), load.EVERYWHERE + load.PINNED)
        # They are loaded without a look at foreign keys: now each is looked at.
        for name, table in connection.execute(
            "select conname, conrelid::regclass::text from pg_constraint where contype = 'f'"
        ).fetchall():
            connection.execute(f"update pg_constraint set convalidated = false where conname = '{name}'".encode())
            connection.execute(f"alter table {table} validate constraint {name}".encode())
    with database.connect("app") as app:
        assert app.execute("select count(*) from customers").fetchone() == (size,)
        new = app.execute(
            "insert into customers (country, name, email) values ('DE', 'x', 'x') returning id"
        ).fetchone()
        assert new == (size + 1,)
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            app.execute("delete from products")
    with database.connect("analyst") as analyst:
        assert analyst.execute("select count(*) from orders o join customers c on c.id = customer_id").fetchone() == (
            size,
        )
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            analyst.execute("update customers set tier = 'gold'")
