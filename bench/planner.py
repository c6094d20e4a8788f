"""How long the planner takes: the median of many plans, statement by statement, against the aims.

    python -m bench.planner [--quick]

Ends with lines `RESULT <name> <value> <unit> aim <aim> ok|short`; exits 1 where an aim was not met.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

from domicile.catalog.snapshot import Catalog, parse
from domicile.planner import plan, regions, split_insert
from domicile.planner.route import row_homes

CATALOG = Path(__file__).parent.parent / "tests" / "planner" / "catalog.json"
PATH = ("$user", "public")
ROWS = 1000

# A plan is kept, so a statement costs this once; a point select must stay well under a local round trip (about 150 us).
STATEMENTS: list[tuple[str, str, float]] = [
    ("point_select", "select id, name, email from customers where country = $1 and id = $2", 150),
    ("home_select", "select * from products where id = $1", 100),
    ("set", "set statement_timeout = 5000", 60),
    ("begin", "begin", 60),
    (
        "orm_join",
        'SELECT "customers"."id", "customers"."name", "orders"."id", "orders"."total" FROM "orders" INNER JOIN '
        '"customers" ON ("orders"."customer_id" = "customers"."id") WHERE ('
        '"customers"."country" = $1 AND "orders"."status" = $2)',
        400,
    ),
    ("update", "update orders set status = $1 where id = $2", 200),
    ("insert", "insert into customers (id, name, country) values ($1, $2, $3)", 150),
    ("merge", "select * from customers order by name limit 10", 5000),
    ("combine", "select country, count(*), avg(balance) from customers group by country order by 2 desc limit 5", 5000),
    ("insert_1000_rows", f"insert into customers (id, country) values {', '.join(['(1, $1)'] * ROWS)}", 60_000),
    ("in_50000", f"select * from customers where id in ({','.join(map(str, range(50_000)))})", 1_000_000),
]


def median_us(call: Callable[[], object], seconds: float) -> float:
    """The median of single calls, in microseconds; at least three of them."""
    taken: list[float] = []
    end = time.perf_counter() + seconds
    while len(taken) < 3 or time.perf_counter() < end:
        start = time.perf_counter()
        call()
        taken.append((time.perf_counter() - start) * 1e6)
    return statistics.median(taken)


def main() -> int:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--quick", action="store_true", help="a tenth of the time")
    seconds = 0.1 if options.parse_args().quick else 1.0
    catalog = parse(CATALOG.read_text())
    results: list[tuple[str, float, float]] = []
    for name, sql, aim in STATEMENTS:
        results.append((f"plan_{name}", median_us(lambda sql=sql: plan(sql, catalog, PATH), seconds), aim))  # type: ignore[misc]
    results += _kept(catalog, seconds)
    for name, value, aim in results:
        print(f"RESULT {name} {value:.1f} us aim {aim:g} {'ok' if value <= aim else 'short'}")
    return int(any(value > aim for _, value, aim in results))


def _kept(catalog: Catalog, seconds: float) -> list[tuple[str, float, float]]:
    """What is left to do for each execution of a plan that is kept."""
    point = plan(STATEMENTS[0][1], catalog, PATH)
    values: dict[int, str | None] = {1: "DE", 2: "5"}
    rows = plan(next(sql for name, sql, _ in STATEMENTS if name == "insert_1000_rows"), catalog, PATH)
    homes = [h for h in row_homes(rows, catalog, {1: "DE"}) if isinstance(h, str)]
    mixed = [catalog.here if i % 2 else h for i, h in enumerate(homes)]
    eu = next(catalog.others())

    def text() -> str:
        return plan(STATEMENTS[0][1], catalog, PATH).texts[eu]

    return [
        ("regions_point_select", median_us(lambda: regions(point, catalog, values), seconds), 10),
        ("plan_and_text_abroad", median_us(text, seconds), 300),
        ("split_insert_1000_rows", median_us(lambda: split_insert(rows, mixed), seconds), 100_000),
    ]


if __name__ == "__main__":
    sys.exit(main())
