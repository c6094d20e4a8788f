"""SELECTs made at random over the tables of the world. One seed, one list of queries."""

from __future__ import annotations

import random
from dataclasses import dataclass

CONDITIONS = {
    "customers": [
        "{a}.country = 'DE'", "{a}.country in ('US', 'JP', 'FR')", "{a}.tier = 'gold'", "{a}.tier <> 'basic'",
        "{a}.born < '1980-01-01'", "{a}.consent", "{a}.note is null", "{a}.phone like '+4%'", "{a}.id in (3, 50, 71)",
        "{a}.id between 10 and 60", "lower({a}.name) > 'm'", "not {a}.consent", "{a}.country = any ('{{DE,IN}}')",
        "extract(year from {a}.born) > 1990", "length({a}.name) > 12", "{a}.created_at > '2022-01-01 00:00+00'",
    ],
    "orders": [
        "{a}.total > 100", "{a}.status = 'paid'", "{a}.status in ('new', 'shipped')", "{a}.customer_id = 17",
        "{a}.placed_at < '2023-01-01 00:00+00'", "{a}.id % 3 = 0", "{a}.total between 20 and 400.50",
    ],
    "order_items": ["{a}.quantity > 1", "{a}.line = 1", "{a}.price * {a}.quantity > 100", "{a}.product_id < 90"],
    "products": ["{a}.price > 100", "{a}.name like '%chair'", "{a}.id < 120"],
    "countries": ["{a}.code < 'M'", "{a}.name like '%an%'"],
    "tickets": ["{a}.open", "{a}.mood = 'sad'", "{a}.mood is null", "{a}.id in (1, 1026, 3)", "{a}.title like '%2%'"],
    "ticket_notes": ["{a}.n = 1", "{a}.note is not null", "{a}.ticket_id = 1027"],
    "kinds": [
        "{a}.region = 'eu'", "{a}.region <> 'us'", "{a}.b", "{a}.n > 2", "{a}.f8 < 3.5", "{a}.t > 'a'",
        "{a}.mood > 'sad'",
        "{a}.ta @> '{{y}}'", "{a}.jb @> '{{\"even\": true}}'", "{a}.d > '2024-01-20'", "{a}.iv < interval '20 days'",
        "{a}.pct is not null", "{a}.id % 5 = 1", "{a}.u is distinct from null", "{a}.ia[1] > 9",
    ],
    "accounts": ["{a}.id < 5", "{a}.region = 'ap'", "{a}.amount = 1000"],
}  # fmt: skip
PARAMETERS = {
    "customers": [("{a}.country = ${n}", "JP"), ("{a}.id = ${n}", "23"), ("{a}.tier = ${n}", "plus")],
    "orders": [("{a}.total > ${n}", "99.5"), ("{a}.customer_id = ${n}", "9")],
    "tickets": [("{a}.id = ${n}", "1025"), ("{a}.mood = ${n}", "ok")],
    "kinds": [("{a}.region = ${n}", "ap"), ("{a}.f8 > ${n}", "1.5"), ("{a}.id = any (${n})", "{4,5,6,7}")],
}
COLUMNS = {
    "customers": ["id", "country", "name", "tier", "born", "created_at", "consent", "phone"],
    "orders": ["id", "customer_id", "total", "status", "placed_at"],
    "order_items": ["order_id", "line", "price", "quantity", "product_id"],
    "products": ["id", "name", "price"],
    "countries": ["code", "name"],
    "tickets": ["id", "title", "open", "mood"],
    "ticket_notes": ["ticket_id", "n", "note", "at"],
    "kinds": [
        "region", "id", "b", "i8", "n", "n4", "f8", "t", "v", "c", "d", "tsz", "iv", "u", "jb", "ta", "mood", "pct",
    ],
    "accounts": ["region", "id", "amount"],
}  # fmt: skip
KEYS = {
    "order_items": ["order_id", "line"], "ticket_notes": ["ticket_id", "n"], "kinds": ["region", "id"],
    "accounts": ["region", "id"], "countries": ["code"],
}  # fmt: skip
LINKS = {
    "customers": [("orders", "{b}.customer_id = {a}.id"), ("countries", "{b}.code = {a}.country")],
    "orders": [("customers", "{b}.id = {a}.customer_id"), ("order_items", "{b}.order_id = {a}.id")],
    "order_items": [("orders", "{b}.id = {a}.order_id"), ("products", "{b}.id = {a}.product_id")],
    "tickets": [("ticket_notes", "{b}.ticket_id = {a}.id")],
    "ticket_notes": [("tickets", "{b}.id = {a}.ticket_id")],
    "kinds": [("accounts", "{b}.region = {a}.region and {b}.id = {a}.id")],
}
NUMBERS = {
    "customers": "id", "orders": "total", "order_items": "price", "products": "price", "countries": "length({a}.code)",
    "tickets": "id", "ticket_notes": "n", "kinds": "n4", "accounts": "amount",
}  # fmt: skip
GROUPS = {
    "customers": ["tier", "country", "consent", "extract(year from {a}.born)"],
    "orders": ["status", "date_trunc('year', {a}.placed_at)"],
    "order_items": ["quantity", "line"],
    "products": ["price > 50"],
    "countries": ["left({a}.code, 1)"],
    "tickets": ["open", "mood"],
    "ticket_notes": ["n"],
    "kinds": ["region", "b", "mood", "v", "c"],
    "accounts": ["region"],
}
AGGREGATES = [
    "count(*)", "count({n})", "sum({n})", "avg({n})", "min({n})", "max({n})", "sum({n} * 2)", "max({n}) - min({n})",
    "count(*) filter (where {n} > 5)", "coalesce(sum({n}), 0)", "bool_or({n} > 100)",
]  # fmt: skip


@dataclass(frozen=True, slots=True)
class Query:
    text: str
    values: tuple[str, ...]


class Queries:
    """Makes queries without end, the same for the same seed."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)
        self._aliases = 0
        self._values: list[str] = []

    def next(self) -> Query:
        self._aliases, self._values = 0, []
        roll = self._random.random()
        if roll < 0.45:
            text = self._rows()
        elif roll < 0.85:
            text = self._aggregate()
        elif roll < 0.9:
            text = self._other()
        elif roll < 0.95:
            text = f"with w as ({self._rows(plain=True)}) select count(*) from w"
        else:
            text = f"select count(*) from ({self._rows(plain=True)}) w"
        return Query(text, tuple(self._values))

    def _chance(self, probability: float) -> bool:
        return self._random.random() < probability

    def _pick(self, items: list[str]) -> str:
        return self._random.choice(items)

    def _from(self) -> tuple[list[tuple[str, str]], str]:
        """Aliases with their tables, and the text from FROM to WHERE."""
        table = self._random.choice(["customers"] * 4 + ["orders"] * 3 + ["kinds"] * 3 + list(CONDITIONS))
        self._aliases += 1
        alias = f"t{self._aliases}"
        found, text = [(alias, table)], f" from {table} {alias}"
        for _ in range(self._random.choice((0, 0, 0, 1, 1, 2))):
            a, t = self._random.choice(found)
            if t not in LINKS:
                continue
            other, on = self._random.choice(LINKS[t])
            self._aliases += 1
            b = f"t{self._aliases}"
            kind = self._pick(["join", "join", "join", "left join"])
            text += f" {kind} {other} {b} on {on.format(a=a, b=b)}"
            found.append((b, other))
        conditions = [self._condition(*self._random.choice(found)) for _ in range(self._random.choice((0, 1, 1, 2, 3)))]
        if self._chance(0.15):
            conditions.append(self._subquery(*found[0]))
        if conditions:
            text += " where " + " and ".join(conditions)
        return found, text

    def _condition(self, alias: str, table: str) -> str:
        if table in PARAMETERS and self._chance(0.2):
            text, value = self._random.choice(PARAMETERS[table])
            self._values.append(value)
            return text.format(a=alias, n=len(self._values))
        if self._chance(0.1):
            return f"({self._condition(alias, table)} or {self._condition(alias, table)})"
        return self._pick(CONDITIONS[table]).format(a=alias)

    def _subquery(self, alias: str, table: str) -> str:
        if table not in LINKS:
            return self._condition(alias, table)
        other, on = self._random.choice(LINKS[table])
        self._aliases += 1
        b = f"t{self._aliases}"
        negated = "not " if self._chance(0.3) else ""
        return (
            f"{negated}exists (select from {other} {b} where {on.format(a=alias, b=b)} and {self._condition(b, other)})"
        )

    def _other(self) -> str:
        """What needs more than appending and adding up: much of it is refused over several regions."""
        found, rest = self._from()
        a, t = found[0]
        column = f"{a}.{self._pick(GROUPS_PLAIN[t])}"
        keys = ", ".join(self._keys(found))
        return self._random.choice(
            (
                f"select count(distinct {column}){rest}",
                f"select {column} as v, row_number() over (order by {keys}) as n{rest}",
                f"select {column}::text as v{rest} union select 'x'",
                f"select {column}::text as v{rest} union all select {column}::text{rest}",
                f"select x.* from (select {column} as v{rest}) x order by v limit 3",
                f"select string_agg({column}::text, ',' order by {keys}){rest}",
                "select c.id from customers c where c.id in (select o.customer_id from orders o where o.total > 300)",
                "select a.id, b.id from tickets a join tickets b on b.mood = a.mood where a.id < b.id",
                f"select (select count(*) from countries) as n, {column} as v{rest}",
                f"select case when count(*) > 5 then 'many' else 'few' end as v, count(*) * 2 as n{rest}",
            )
        )

    def _keys(self, found: list[tuple[str, str]]) -> list[str]:
        return [f"{a}.{c}" for a, t in found for c in KEYS.get(t, ["id"])]

    def _rows(self, *, plain: bool = False) -> str:
        found, rest = self._from()
        columns = [f"{a}.{self._pick(COLUMNS[t])}" for a, t in found for _ in range(self._random.randint(1, 3))]
        columns = [f"{column} as c{n}" for n, column in enumerate(columns, 1)]
        if not plain and self._chance(0.15):
            columns = [f"{found[0][0]}.*"]
        if not plain and self._chance(0.1):
            return f"select distinct {found[0][0]}.{self._pick(GROUPS_PLAIN[found[0][1]])} as g{rest} order by g"
        text = f"select {', '.join(columns)}{rest}"
        if not plain and self._chance(0.6):
            a, t = self._random.choice(found)
            first = f"{a}.{self._pick(SORTED[t])}{self._pick(['', ' desc', ' nulls first', ' desc nulls last'])}"
            text += f" order by {', '.join([first, *self._keys(found)])}"
            if self._chance(0.6):
                text += f" limit {self._random.randint(0, 12)}"
                if self._chance(0.4):
                    text += f" offset {self._random.randint(0, 9)}"
        return text

    def _aggregate(self) -> str:
        found, rest = self._from()
        a, t = self._random.choice(found)
        number = NUMBERS[t].format(a=a) if "{a}" in NUMBERS[t] else f"{a}.{NUMBERS[t]}"
        shown = [
            f"{self._pick(AGGREGATES).format(n=number)} as x{n}" for n in range(1, self._random.choice((1, 2, 3)) + 1)
        ]
        if self._chance(0.35):
            return f"select {', '.join(shown)}{rest}"
        b, u = found[0]
        group = self._pick(GROUPS[u])
        group = group.format(a=b) if "{a}" in group else f"{b}.{group}"
        text = f"select {group} as g, {', '.join(shown)}{rest} group by {self._pick([group, '1', 'g'])}"
        if self._chance(0.25):
            text += " having count(*) > 1"
        if self._chance(0.6):
            text += " order by 1" + self._pick(["", " desc"])
            if self._chance(0.5):
                text += f" limit {self._random.randint(1, 6)}"
        return text


GROUPS_PLAIN = {table: [g for g in groups if g.isidentifier()] or ["id"] for table, groups in GROUPS.items()} | {
    "products": ["price"],
    "countries": ["name"],
}
SORTED = {table: [c for c in columns if c not in ("jb",)] for table, columns in COLUMNS.items()}
