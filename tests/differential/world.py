"""Three regions and, beside them, one plain PostgreSQL that holds all their rows: the oracle.

What a client of any gateway sees must be what the oracle answers to the same statement.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psycopg

from domicile import init
from domicile.demo.federation import Federation, Moved, Region
from domicile.demo.regions import DATABASE, REGIONS, no_distance
from domicile.embedded import EmbeddedServer
from domicile.shop import load
from domicile.shop.generate import Shop

CUSTOMERS = 120
HERE = Path(__file__).parent

HOMES = {  # of each pinned table: the region's name by SQL over its row
    "order_items": "(select r.region from country_region r join customers c on c.country = r.country"
    " join orders o on o.customer_id = c.id where o.id = order_items.order_id)",
    "orders": "(select r.region from country_region r join customers c on c.country = r.country"
    " where c.id = orders.customer_id)",
    "customers": "(select region from country_region r where r.country = customers.country)",
    "kinds": "region",
    '"Größe ""x"""': '(select region from country_region r where r.country = "Land")',
    "ticket_notes": "('{us,eu,ap}'::text[])[ticket_id & 1023]",
    "tickets": "('{us,eu,ap}'::text[])[id & 1023]",
    "accounts": "region",
    "offices": "'eu'",
}
"""Children first, so that deleting in this order never leaves an orphan."""

BEFORE = {"us": 0, "eu": 7, "ap": 13}
"""Types that were made before the schema, by region: the OIDs of its types differ from region to region."""

Connection = psycopg.Connection[tuple[Any, ...]]
Policies = Callable[[Connection], None]


def text_of(name: str) -> str:
    return (HERE / name).read_text(encoding="utf-8")


def make_rows(connection: Connection) -> None:
    """The shop and the tables beside it, with all rows."""
    load.create_tables(connection)
    load.fill(connection, Shop(CUSTOMERS), load.EVERYWHERE + load.PINNED)
    connection.execute("set role dba")
    connection.execute(text_of("schema.sql").encode())
    connection.execute(text_of("rows.sql").encode())
    connection.execute("reset role")


def clear_everywhere(connection: Connection) -> None:
    """Policies that hide nothing, for a region's tables."""
    for table in HOMES:
        connection.execute(
            "select domicile.create_policy('all', %s::regclass, clear => array(select attname::text from pg_attribute"
            " where attrelid = %s::regclass and attnum > 0 and not attisdropped))",
            (table, table),
        )


@dataclass
class World(Federation):
    """A federation over the tables of schema.sql, and the oracle. Roles are the shop's; the oracle's password of `app`
    is `app`."""

    policies: Policies = clear_everywhere
    gateway_options: str = ""  #: more lines of the nodes' section [gateway]
    oracle: EmbeddedServer = field(init=False)

    def __post_init__(self) -> None:
        self.oracle = EmbeddedServer(self.folder / "oracle")

    def _make(self, report: Callable[[str], None], customers: int) -> None:
        self._each_region(self._make_region)
        self.moved = Moved({}, customers, 0.0)

    def _make_region(self, region: Region) -> None:
        with region.server.connect() as connection:
            load.create_roles(connection, region.passwords)
            connection.execute(f"create database {DATABASE} owner {load.OWNER}".encode())
        with region.server.connect(DATABASE) as connection:
            for number in range(BEFORE[region.name]):
                connection.execute(f"create domain before_{number} as text".encode())
            make_rows(connection)
            for table, home in HOMES.items():
                connection.execute(f"delete from {table} where {home} <> '{region.name}'".encode())
            if region.name == "ap":  # a column's number differs, too
                connection.execute("alter table tickets add gone text")
                connection.execute("alter table tickets drop gone")
        init.install(
            region.server.dsn(database=DATABASE),
            region=region.name,
            regions=REGIONS,
            node_password=region.passwords["domicile_node"],
        )
        with region.server.connect(DATABASE) as connection:
            connection.execute(text_of("localities.sql").encode())
            for table in ("customers", "orders"):
                connection.execute("select domicile.align_ids(%s, %s)", (table, CUSTOMERS))
            self.policies(connection)
            connection.execute("analyze")

    def _configuration(self, region: Region, files: Any) -> str:
        text = super()._configuration(region, files)
        return text.replace("\n\n[guard]\n", f"\n{self.gateway_options}\n\n[guard]\n")

    def start(self, report: Callable[[str], None] = lambda _: None, *, fresh: bool = False) -> None:
        super().start(report, fresh=fresh)
        try:
            self.oracle.start()
            with self.oracle.connect() as connection:
                load.create_roles(connection, {role: role for role in load.ROLES})
                connection.execute(f"create database {DATABASE} owner {load.OWNER}".encode())
            with self.oracle.connect(DATABASE) as connection:
                make_rows(connection)
                connection.execute("analyze")
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        super().stop()
        self.oracle.stop()

    @property
    def oracle_dsn(self) -> str:
        """How a client reaches the oracle, as `app`."""
        return self.oracle.dsn("app", DATABASE, "app")

    # --- what the regions hold

    def rows_at_home(self, table: str) -> list[str]:
        """The rows that the regional servers hold, as text, sorted."""
        return sorted(r for region in self.regions.values() for r in _rows(region.server, table))

    def differing_tables(self) -> list[str]:
        """The tables whose rows over all regions are not the oracle's."""
        return [t for t in HOMES if self.rows_at_home(t) != sorted(_rows(self.oracle, t))]

    def prepared(self) -> list[str]:
        """Transactions that are prepared anywhere, and not finished."""
        return [
            str(row[0])
            for region in self.regions.values()
            for row in region.server.run_sql("select gid from pg_prepared_xacts", database=DATABASE)
        ]


def _rows(server: EmbeddedServer, table: str) -> list[str]:
    return [str(r[0]) for r in server.run_sql(f"select t::text from {table} t", database=DATABASE)]


@contextmanager
def running(folder: Path, policies: Policies = clear_everywhere, gateway_options: str = "") -> Iterator[World]:
    """A world that runs until the block ends."""
    world = World(
        folder,
        ports=None,
        round_trips_ms=no_distance(),
        customers=CUSTOMERS,
        policies=policies,
        gateway_options=gateway_options,
    )
    world.start()
    try:
        yield world
    finally:
        world.stop()


def values_of(line: str) -> list[str | None]:
    """The parameters of a statement, from JSON."""
    values: list[str | None] = json.loads(line)
    return values
