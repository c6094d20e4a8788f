# ruff: noqa: E501  (statements and rows read best on one line)
"""Plans carried out against databases that stand for regions, and the same statement against one that holds all rows.

Not the gateway: just enough to run what a plan says, text format only.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import psycopg
from psycopg import pq

from domicile.catalog.names import QualifiedName, RegionName, border_schema
from domicile.catalog.snapshot import Catalog, KeyKind, Locality
from domicile.planner import plan, regions, row_homes, split_insert
from domicile.planner.plan import Finish, LookUp, Plan, Probe, RowHomes

Connection = psycopg.Connection[tuple[Any, ...]]
Row = tuple[str | None, ...]
PATH = ("$user", "public")


@dataclass
class Answer:
    """The rows as text, the names and type OIDs of their columns, and how many rows were written."""

    columns: tuple[tuple[str, int], ...]
    rows: list[Row]
    count: int

    def unordered(self) -> Counter[Row]:
        return Counter(self.rows)


class Refusal(Exception):
    pass


def ask(connection: Connection, sql: str, values: Sequence[str | None] = (), types: Sequence[int] = ()) -> Answer:
    """One statement in text format. Raises Refusal with the SQLSTATE."""
    given = [None if v is None else v.encode() for v in values]
    result = connection.pgconn.exec_params(sql.encode(), given, param_types=list(types) or None)
    if result.status not in (pq.ExecStatus.TUPLES_OK, pq.ExecStatus.COMMAND_OK):
        state = (result.error_field(pq.DiagnosticField.SQLSTATE) or b"").decode()
        raise Refusal(f"{state}: {result.error_message.decode()}\n{sql}")
    columns = tuple(((result.fname(i) or b"").decode(), result.ftype(i)) for i in range(result.nfields))
    rows = [
        tuple(None if (v := result.get_value(r, c)) is None else v.decode() for c in range(result.nfields))
        for r in range(result.ntuples)
    ]
    return Answer(columns, rows, result.command_tuples or 0)


class Federation:
    """Three regions and one database that holds all rows."""

    def __init__(self, catalog: Catalog, whole: Connection, each: dict[RegionName, Connection]) -> None:
        self.catalog, self.whole, self.each = catalog, whole, each
        self.arrays: dict[int, int] = dict(
            whole.execute("select oid::int8, typarray::int8 from pg_type where typarray <> 0").fetchall()  # type: ignore[arg-type]
        )

    def truth(self, sql: str, values: Sequence[str | None] = ()) -> Answer:
        return ask(self.whole, sql, values)

    def answer(self, sql: str, values: Sequence[str | None] = ()) -> tuple[Plan, Answer]:
        made = plan(sql, self.catalog, PATH, "app")
        return made, self.carry_out(made, values)

    def carry_out(self, made: Plan, values: Sequence[str | None]) -> Answer:
        types = self.parameter_types(made.text) if made.parameters_max else []
        known = dict(enumerate(values, 1))
        if isinstance(made.placement, RowHomes):
            return self.insert(made, values, types)
        where = regions(made, self.catalog, known)
        if isinstance(made.placement, LookUp):
            answer = self.at(made, where[0], values, types)
            for region in where[1:]:
                if not answer.rows and not answer.count:
                    answer = self.at(made, region, values, types)
            return answer
        if len(where) == 1:
            return self.at(made, where[0], values, types)
        if isinstance(made.gather, Finish):
            return self.finish(made.gather, where, values, types)
        answers = [self.at(made, region, values, types) for region in where]
        return Answer(answers[0].columns, [r for a in answers for r in a.rows], sum(a.count for a in answers))

    def at(self, made: Plan, region: RegionName, values: Sequence[str | None], types: list[int]) -> Answer:
        text = made.text if region == self.catalog.here else made.texts[region]
        return ask(self.each[region], text, values, types)

    def finish(
        self, finish: Finish, where: Sequence[RegionName], values: Sequence[str | None], types: list[int]
    ) -> Answer:
        parts = [ask(self.each[r], finish.fragments[r], values, types) for r in where]
        assert {len(p.columns) for p in parts} == {finish.width}
        assert len({tuple(t for _, t in p.columns) for p in parts}) == 1, "regions disagree about types"
        rows = [row for part in parts for row in part.rows]
        columns = [array_text([row[i] for row in rows]) for i in range(finish.width)]
        given = [*columns, *(values[n - 1] for n in finish.parameters)]
        oids = [self.arrays[t] for _, t in parts[0].columns] + [types[n - 1] for n in finish.parameters]
        return ask(self.each[self.catalog.here], finish.final, given, oids)

    def insert(self, made: Plan, values: Sequence[str | None], types: list[int]) -> Answer:
        known = dict(enumerate(values, 1))
        homes = [
            self.probed(home, known) if isinstance(home, Probe) else home
            for home in row_homes(made, self.catalog, known)
        ]
        parts = []
        for fragment in split_insert(made, homes):
            numbers = fragment.parameters
            chosen = values if numbers is None else [values[n - 1] for n in numbers]
            kinds = types if numbers is None else [types[n - 1] for n in numbers]
            parts.append(ask(self.each[fragment.region], fragment.text, chosen, kinds))
        return Answer(parts[0].columns, [r for p in parts for r in p.rows], sum(p.count for p in parts))

    def probed(self, probe: Probe, known: dict[int, str | None]) -> RegionName:
        from domicile.planner.route import texts_of

        key = [texts_of(source, known)[0] for source in probe.sources]
        found = [r for r, text in probe.texts.items() if ask(self.each[r], text, key).rows]
        assert len(found) == 1, f"{probe.shown} found in {found}"
        return found[0]

    def parameter_types(self, sql: str) -> list[int]:
        pgconn = self.whole.pgconn
        pgconn.prepare(b"", sql.encode())
        described = pgconn.describe_prepared(b"")
        return [described.param_type(i) for i in range(described.nparams)]


def array_text(items: Sequence[str | None]) -> str:
    """The array's text, every element quoted."""
    shown = ("NULL" if i is None else '"' + i.replace("\\", "\\\\").replace('"', '\\"') + '"' for i in items)
    return "{" + ",".join(shown) + "}"


# --- the shop ---------------------------------------------------------------------------------------------------------

COUNTRIES = ("DE", "FR", "US", "CA", "JP", "IN")


def build(catalog: Catalog, whole: Connection, each: dict[RegionName, Connection], seed: int = 7) -> None:
    """Makes the catalog's tables everywhere, the border schemas for us in the others, and fills them: each row in the
    whole and at its home."""
    for connection in (whole, *each.values()):
        connection.execute("create schema if not exists sales")
        connection.execute("create table public.visits (id bigint)")
        for table in catalog.tables.values():
            columns = ", ".join(f'"{c.name}" {c.type_name}' for c in table.columns)
            key = ", ".join(f'"{c}"' for c in table.primary_key)
            connection.execute(f"create table {table.name} ({columns}, primary key ({key}))".encode())
    for region in catalog.others():
        connection = each[region]
        for schema in ("public", "sales"):
            connection.execute(f'create schema "{border_schema(schema, catalog.here)}"'.encode())
        for table in catalog.tables.values():
            columns = ", ".join(f'"{c.name}"' for c in table.columns)
            name = QualifiedName(border_schema(table.name.schema, catalog.here), table.name.name)
            connection.execute(f"create view {name} as select {columns} from {table.name}".encode())
    _Shop(catalog, whole, each, seed).fill()


class _Shop:
    def __init__(self, catalog: Catalog, whole: Connection, each: dict[RegionName, Connection], seed: int) -> None:
        self.catalog, self.whole, self.each, self.random = catalog, whole, each, random.Random(seed)

    def put(self, table: str, home: RegionName | None, *values: object) -> None:
        """Into the whole and at home; in every region where there is no home."""
        marks = ", ".join(["%s"] * len(values))
        for connection in (self.whole, *([self.each[home]] if home else self.each.values())):
            connection.execute(f"insert into {table} values ({marks})".encode(), values)

    def fill(self) -> None:
        rnd, numbers = self.random, {r.number: r.name for r in self.catalog.regions.values()}
        mapping = self.catalog.mappings["public.country_region"]
        for i in range(1, 9):
            self.put("products", None, i, f"product {i}", f"{i}.50")
        for code in COUNTRIES:
            self.put("countries", None, code, f"Land {code}")
        order = 0
        for i in range(1, 41):
            country = rnd.choice(COUNTRIES)
            home = mapping[country]
            self.put(
                "customers", home, i, rnd.choice(("Ann", "Bö", "c", "Žofie", "李", "ann")), rnd.choice((f"u{i}@x", None)),
                country, rnd.choice((1, 2, 3, None)), rnd.choice((f"19{i + 50}-01-02", None)), f"{rnd.randint(-999, 9999)}.25",
                rnd.choice((True, False, None)), rnd.choice((["a", 'b "c'], [], None)), rnd.choice(("n", "N")), rnd.choice((1.5, 2.25, None)),
            )  # fmt: skip
            for _ in range(rnd.randint(0, 4)):
                order += 1
                self.put(
                    "orders", home, order, i, f"{rnd.randint(1, 500)}.10", f"2026-0{rnd.randint(1, 9)}-01 12:00+00",
                    rnd.choice(("new", "sent", "paid")), rnd.choice((1, 2, None)),
                )  # fmt: skip
                for line in range(rnd.randint(0, 3)):
                    self.put("order_items", home, order, line, rnd.randint(1, 8), rnd.randint(1, 9), f"{line + 1}.99")
        for number, region in numbers.items():
            for i in range(3):
                self.put("tickets", region, i * 1024 + number, f"t{i}", i % 2 == 0)
                self.put("ticket_notes", region, i * 1024 + number, 1, "note")
                uuid = f"00000000-0000-0000-0000-0000000{number}000{i}"
                self.put("events", region, uuid, region, "k", f'{{"n": {i}}}', "2026-01-01 00:00+00")
            self.put('"Odd ""Name"""', region, number, {1: "US", 2: "DE", 3: "JP"}[number], number, "s")
            self.put("sales.orders", region, number, {1: "U1", 2: "E1", 3: "A1"}[number], f"{number}.5")


def kinds_of_tables(catalog: Catalog) -> tuple[set[Locality], set[KeyKind]]:
    """What the fixture catalog covers."""
    tables = catalog.tables.values()
    return {t.locality for t in tables}, {t.key.kind for t in tables if t.key is not None}
