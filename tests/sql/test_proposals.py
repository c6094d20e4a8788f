"""A change of the catalog that comes from another region waits for this one's approval."""

from __future__ import annotations

import json
import uuid
from typing import Any

import psycopg
import pytest

from .conftest import PINNED, Region, error_of


@pytest.fixture
def dba(region: Region) -> Region:
    region.run(PINNED)
    region.run("create role dba login password 'dba'; grant select on customers to dba; grant domicile_admin to dba")
    region.run("select domicile.audit()")
    return region


def change(function: str, **arguments: object) -> str:
    return json.dumps({"id": str(uuid.uuid4()), "function": function, "arguments": arguments})


POLICY: dict[str, Any] = {
    "name": "abroad",
    "rel": "customers",
    "clear": ["id"],
    "rows": None,
    "options": {"copy": True},
}


def propose(connection: psycopg.Connection[Any], text: str) -> str:
    row = connection.execute("select to_us.propose(%s)", (text,)).fetchone()
    assert row is not None
    return str(row[0])


def test_a_change_from_abroad_waits(dba: Region) -> None:
    asked = change("create_policy", **POLICY)
    with dba.abroad("dba") as us:
        assert propose(us, asked) == "waiting"
        assert propose(us, asked) == "waiting"
        assert error_of(us, "select * from customers").sqlstate == "42P01"
    assert dba.run("select region, role, state from domicile.pending") == [("us", "dba", "waiting")]
    with dba.connect("dba") as local:
        local.execute("select domicile.approve(%s)", (json.loads(asked)["id"],))
        assert error_of(local, f"select domicile.approve('{json.loads(asked)['id']}')").sqlstate == "55000"
    with dba.abroad("dba") as us:
        assert us.execute("select count(id) from customers").fetchone() == (30,)
        assert propose(us, asked) == "applied"


def test_who_is_trusted_need_not_wait(dba: Region) -> None:
    dba.run("select domicile.auto_approve('us', 'dba')")
    with dba.abroad("dba") as us:
        assert propose(us, change("create_policy", **POLICY)) == "applied"
        bad = change("alter_policy", **{**POLICY, "clear": ["nothing"]})
        assert propose(us, bad) == "failed"
    assert "nothing" in dba.value("select error from domicile.pending where state = 'failed'")
    dba.run("select domicile.reject(%s, 'no')", json.loads(bad)["id"])
    dba.run("select domicile.auto_approve('us', 'dba', false)")
    with dba.abroad("dba") as us:
        assert propose(us, bad) == "rejected"
        assert propose(us, change("drop_policy", name="abroad", rel="public.customers")) == "waiting"
    assert dba.value("select count(*) from domicile.policy") == 1


def test_nobody_else_may_propose_or_decide(dba: Region) -> None:
    with dba.abroad("app") as us:
        assert error_of(us, "select to_us.propose('{}')").sqlstate == "42501"
    with dba.abroad("dba") as us, dba.abroad("dba", "ap") as ap:
        assert error_of(ap, "select to_us.propose('{}')").sqlstate == "42501"
        for sql in ("select domicile.approve(gen_random_uuid())", "select domicile.receive_proposal('{}')"):
            assert error_of(us, sql).sqlstate == "42501"
        for text in ("{}", "[]", change("settle"), change("auto_approve", region="us", role="dba")):
            assert error_of(us, f"select to_us.propose('{text}')").sqlstate == "22023"
    reached = dba.run("select * from domicile.reach('dba@us')")
    assert [r for r in reached if dba.full or r[0] != "database"] == []


def test_a_change_made_here_is_owed_to_the_others(dba: Region) -> None:
    asked = change("create_policy", **POLICY)
    with dba.connect("dba") as local:
        for _ in range(2):
            assert local.execute("select domicile.propose(%s)", (asked,)).fetchone() == ("applied",)
        assert error_of(local, f"select domicile.propose('{change('create_policy', nome='x')}')").sqlstate == "42P02"
    assert dba.run("select region, state from domicile.outstanding") == [("ap", "unsent"), ("us", "unsent")]
    dba.run("select domicile.delivered(%s, 'us', 'applied')", json.loads(asked)["id"])
    assert dba.run("select region, state from domicile.outstanding") == [("ap", "unsent")]
    assert dba.value("select clear from domicile.policy") == ["id"]
