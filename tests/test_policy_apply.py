"""A file of policies goes to every region or to none."""

from __future__ import annotations

from pathlib import Path

import psycopg
import pytest

from domicile import policy
from domicile.demo.federation import Federation

NARROWER = "ALTER RESIDENCY POLICY abroad ON orders TO REGION ALL CLEAR (id, customer_id, placed_at, status);"
BACK = "ALTER RESIDENCY POLICY abroad ON orders TO REGION ALL CLEAR (id, customer_id, placed_at, status, total);"
WRONG = "ALTER RESIDENCY POLICY abroad ON orders TO REGION ALL CLEAR (id, no_such_column);"


def versions(federation: Federation) -> list[int]:
    found = []
    for region in federation.regions:
        with federation.connect(region, "postgres", direct=True) as connection:
            row = connection.execute("select domicile.version()").fetchone()
            assert row is not None
            found.append(row[0])
    return found


def test_all_regions_or_none(federation: Federation, tmp_path: Path) -> None:
    dsns = [region.direct_dsn("dba") for region in federation.regions.values()]
    before = versions(federation)
    with pytest.raises(psycopg.Error, match="no_such_column"):
        policy.apply(dsns, NARROWER + WRONG)
    assert versions(federation) == before
    assert policy.apply(dsns, NARROWER) == (["ap", "eu", "us"], [])
    assert all(after > old for after, old in zip(versions(federation), before, strict=True))
    with federation.connect("us") as us:
        seen = us.execute(
            "select distinct total from orders o join customers c on o.customer_id = c.id where c.country = 'DE'"
        )
        assert set(seen.fetchall()) <= {(None,)}
    assert policy.apply(dsns[:2], BACK) == (["eu", "us"], ["ap"])
    assert policy.apply(dsns[2:], BACK) == (["ap"], ["eu", "us"])
    for region in federation.regions:
        with federation.connect(region, "postgres", direct=True) as connection:
            assert connection.execute("select gid from pg_prepared_xacts").fetchall() == []
