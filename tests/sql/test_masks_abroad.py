"""Masks where they count: what a foreign role, logged in straight at the regional server, gets to see of them."""

from __future__ import annotations

import json

import pytest

from .conftest import Region, error_of


def alter(region: Region, masks: dict[str, str], rows: str | None = None) -> None:
    region.run(
        "select domicile.alter_policy('abroad', 'customers', rows => %s, clear => '{id,country,tier}', masks => %s)",
        rows,
        json.dumps(masks),
    )


def test_masks_of_every_kind_are_computed_abroad(shared: Region) -> None:
    alter(
        shared,
        {
            "email": "pseudonym(email, domain => 'person')",
            "name": "fake(name, 'name')",
            "born": "noise(born, 30)",
            "note": "left(note, 3)::int::text",
        },
        rows="tier / tier = 1",
    )
    with shared.abroad() as c:
        rows = c.execute("select id, email, name, born, note from customers order by id").fetchall()
        assert len(rows) == 30
        assert not any("canary" in str(row).lower() for row in rows)
        assert len({row[1] for row in rows}) == 30
        # The note holds no number: the mask would have said so, value and all, in its error.
        assert {row[4] for row in rows} == {None}
        # A table's masks stay what they are whatever the session sets.
        c.execute("set datestyle = 'German'; set standard_conforming_strings = off; set extra_float_digits = -15")
        assert c.execute("select id, email, name, born, note from customers order by id").fetchall() == rows


def test_a_row_condition_that_would_raise_hides_the_row(shared: Region) -> None:
    shared.run("update customers set tier = 0 where id <= 10")
    alter(shared, {"name": "partial(name, 1)"}, rows="10 / tier > 1")
    with shared.abroad() as c:
        assert c.execute("select count(*) from customers").fetchone() == (20,)


def test_no_key_is_read_or_used_abroad(shared: Region) -> None:
    with shared.abroad() as c:
        for sql in (
            "select * from domicile.mask_key",
            "select domicile.pseudonym('x', 'public.customers.email')",
            "select domicile.wrap_mask('customers', 'name', 'null')",
            "select domicile.pseudonym_with('x', 'a'::bytea, 'b'::bytea)",
        ):
            assert error_of(c, sql).sqlstate == "42501"
        plan = "\n".join(row[0] for row in c.execute("explain (verbose) select email from customers").fetchall())
        keys = shared.run("select encode(inner_pad, 'hex'), encode(key, 'hex') from domicile.mask_key")
        assert keys
        assert not any(text in plan for row in keys for text in row)


@pytest.mark.parametrize("mask", ["email", "lower(email)", "coalesce(note, name)"])
def test_a_mask_that_shows_what_is_not_clear_is_refused_and_the_old_policy_stands(shared: Region, mask: str) -> None:
    with shared.connect() as c:
        said = error_of(
            c,
            "select domicile.alter_policy('abroad', 'customers', clear => '{id,note}', masks => '"
            + json.dumps({"name": mask})
            + "')",
        )
        assert said.sqlstate == "42P17"
        c.execute(
            "select domicile.alter_policy('abroad', 'customers', clear => '{id,note}',"
            ' masks => \'{"name": "upper(note)"}\')'
        )
    with shared.abroad() as c:
        assert c.execute("select distinct name, note from customers").fetchall() == [("CANARY-NOTE", "canary-note")]


def test_wrapping_functions_go_with_the_policy_that_needed_them(shared: Region) -> None:
    alter(shared, {"note": "left(note, 3)::int::text"})
    assert shared.value("select count(*) from domicile.mask_wrapper") == 1
    alter(shared, {"note": "partial(note, 1)"})
    assert shared.value("select count(*) from domicile.mask_wrapper") == 0
    assert shared.value("select count(*) from pg_proc where proname ~ '^mask_[0-9a-f]{20}$'") == 0
