# ruff: noqa: E501  (tables of words and conditions)
"""SELECTs made at random over the fixture catalog: joins, keys, subqueries, groups, order. One seed, one list."""

from __future__ import annotations

import random

LINKS = {  # table: (another, how their rows belong together, how they do not)
    "customers": [
        ("orders", "{b}.customer_id = {a}.id", "{b}.id = {a}.id"),
        ("countries", "{b}.code = {a}.country", "true"),
    ],
    "orders": [
        ("customers", "{a}.customer_id = {b}.id", "{a}.items = {b}.tier"),
        ("order_items", "{b}.order_id = {a}.id", "{b}.line = {a}.items"),
        ("orders", "{a}.customer_id = {b}.customer_id", "{a}.status = {b}.status"),
    ],
    "order_items": [
        ("orders", "{a}.order_id = {b}.id", "{a}.quantity = {b}.items"),
        ("products", "{a}.product_id = {b}.id", "{a}.price = {b}.price"),
    ],
    "tickets": [("ticket_notes", "{b}.ticket_id = {a}.id", "{b}.n = 1")],
    "ticket_notes": [("tickets", "{a}.ticket_id = {b}.id", "true")],
    "events": [("events", "{a}.region = {b}.region", "{a}.kind = {b}.kind")],
    "products": [("order_items", "{b}.product_id = {a}.id", "{b}.line = 1")],
    "countries": [("customers", "{b}.country = {a}.code", "true")],
}
CONDITIONS = {
    "customers": [
        "{a}.country = 'DE'", "{a}.country in ('US', 'CA')", "{a}.country in ('DE', 'JP')", "{a}.tier > 1", "{a}.active",
        "{a}.id = 7", "{a}.id in (3, 9)", "not {a}.country = 'DE'", "({a}.country = 'FR' or {a}.country = 'DE')",
        "({a}.country = 'FR' or {a}.tier = 2)", "{a}.email is null", "{a}.country = any('{{IN,JP}}')", "{a}.country::text = 'US'",
    ],
    "orders": ["{a}.status = 'new'", "{a}.total > 100", "{a}.customer_id = 12", "{a}.id < 20", "{a}.items is distinct from 2"],
    "order_items": ["{a}.quantity > 3", "{a}.order_id = 5", "{a}.order_id = 5 and {a}.line = 0"],
    "tickets": ["{a}.id = 1026", "{a}.open", "{a}.id in (1, 2)"],
    "ticket_notes": ["{a}.ticket_id = 1027", "{a}.n = 1"],
    "events": ["{a}.region = 'eu'", "{a}.region <> 'eu'", "{a}.region in ('ap', 'us')"],
    "products": ["{a}.price > 3", "{a}.id = 2"],
    "countries": ["{a}.code < 'J'"],
}  # fmt: skip
COLUMNS = {
    "customers": ["id", "name", "country", "tier", "balance", "tags", "born"],
    "orders": ["id", "customer_id", "total", "status", "items"],
    "order_items": ["order_id", "line", "quantity", "price"],
    "tickets": ["id", "title"],
    "ticket_notes": ["ticket_id", "note"],
    "events": ["id", "region", "kind"],
    "products": ["id", "name", "price"],
    "countries": ["code", "name"],
}
NUMBERS = {
    "customers": ["tier", "balance", "score", "id"],
    "orders": ["total", "items"],
    "order_items": ["quantity", "price"],
    "tickets": ["id"],
    "ticket_notes": ["n"],
    "products": ["price"],
}
AGGREGATES = [
    "count(*)",
    "count({n})",
    "sum({n})",
    "avg({n})",
    "min({n})",
    "max({n})",
    "sum({n} * 2)",
    "count({n}) + sum({n})",
]


class Queries:
    """Queries at random; `ordered` says whether the last one's order is fixed."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.aliases = 0
        self.ordered = False

    def alias(self) -> str:
        self.aliases += 1
        return f"t{self.aliases}"

    def chance(self, probability: float) -> bool:
        return self.random.random() < probability

    def query(self) -> str:
        self.aliases, self.ordered = 0, False
        if self.chance(0.08):
            inner = self.simple("v")
            return self.random.choice(
                (
                    f"with w as ({inner}) select count(*) from w",
                    f"with w as ({inner}) select * from w order by v limit 5",
                    f"with w as ({inner}) select * from w, w x where w.v = x.v",
                    f"with w as ({inner}) select w.*, c.country from w join customers c on c.id::text = w.v",
                    f"with w as (select * from customers where tier = 2) select w.id, o.total from w join orders o on"
                    f" o.customer_id = w.id where {self.condition(('w', 'customers'))}",
                    "with w as (select country as land, id from customers) select * from w where land in ('DE', 'US')",
                )
            )
        if self.chance(0.06):
            return self.random.choice(
                (
                    f"select count(*) from ({self.simple()}) w",
                    f"select * from ({self.simple('v')}) w order by v limit 4",
                )
            )
        if self.chance(0.05):
            return f"{self.simple()} union all {self.simple()}"
        return self.aggregate() if self.chance(0.4) else self.rows()

    def simple(self, name: str = "text") -> str:
        sources, condition = self.sources()
        alias, table = sources[0]
        return f"select {alias}.{COLUMNS[table][0]}::text as {name} from {condition}"

    def rows(self) -> str:
        sources, rest = self.sources()
        columns = [f"{a}.{self.random.choice(COLUMNS[t])}" for a, t in sources]
        if self.chance(0.2):
            columns = ["*"] if self.chance(0.5) else [f"{sources[0][0]}.*"]
        text = f"select {'distinct ' if self.chance(0.1) and '*' not in columns[0] else ''}{', '.join(columns)} from {rest}"
        if self.chance(0.4) and not text.startswith("select distinct"):
            keys = ", ".join(f"{a}.{COLUMNS[t][i]}::text" for a, t in sources for i in range(min(2, len(COLUMNS[t]))))
            text += f" order by {keys}"
            self.ordered = True
            if self.chance(0.7):
                text += f" limit {self.random.randint(0, 9)}"
                text += f" offset {self.random.randint(0, 5)}" if self.chance(0.4) else ""
        return text

    def aggregate(self) -> str:
        sources, rest = self.sources()
        alias, table = self.random.choice(sources)
        number = f"{alias}.{self.random.choice(NUMBERS.get(table, ['id']))}"
        if table in ("events", "countries"):
            number = "1"
        shown = [self.random.choice(AGGREGATES).format(n=number) for _ in range(self.random.randint(1, 3))]
        if self.chance(0.2):
            shown[0] = f"count(*) filter (where {number} > 1)"
        if not self.chance(0.5):
            return f"select {', '.join(shown)} from {rest}"
        first, first_table = sources[0]
        if first_table in ("customers", "orders", "products") and self.chance(0.3):
            self.ordered = True
            return f"select {first}.*, {', '.join(shown)} from {rest} group by {first}.id order by {first}.id"
        group = f"{sources[0][0]}.{self.random.choice(COLUMNS[sources[0][1]][1:])}"
        if group.endswith("tags"):
            first, first_table = sources[0]
        if first_table in ("customers", "orders", "products") and self.chance(0.3):
            self.ordered = True
            return f"select {first}.*, {', '.join(shown)} from {rest} group by {first}.id order by {first}.id"
        group = f"{sources[0][0]}.name"
        text = f"select {group} as g, {', '.join(shown)} from {rest} group by {self.random.choice((group, '1', 'g'))}"
        text += " having count(*) > 1" if self.chance(0.3) else ""
        if self.chance(0.5):
            text += " order by 1 desc limit 4"
            self.ordered = True
        return text

    def sources(self) -> tuple[list[tuple[str, str]], str]:
        """The aliases and tables of a FROM, and its text with WHERE."""
        table = self.random.choice(["customers"] * 4 + ["orders"] * 3 + list(LINKS))
        alias = self.alias()
        found, text = [(alias, table)], f"{table} {alias}"
        conditions = []
        for _ in range(self.random.choice((0, 0, 1, 1, 2))):
            a, t = self.random.choice(found)
            other, good, bad = self.random.choice(LINKS[t])
            b = self.alias()
            on = (bad if self.chance(0.15) else good).format(a=a, b=b)
            if self.chance(0.2):
                on += " and " + self.condition(self.random.choice([(a, t), (b, other)]))
            kind = self.random.choice(("join", "join", "left join", "right join", "full join", ","))
            if kind == ",":
                # a comma would bind less than what follows: only as the condition of a cross join
                text += f" cross join {other} {b}"
                conditions.append(on)
            else:
                text += f" {kind} {other} {b} on {on}"
            found.append((b, other))
        conditions += [self.condition(self.random.choice(found)) for _ in range(self.random.choice((0, 1, 1, 2)))]
        if self.chance(0.25):
            conditions.append(self.subquery(self.random.choice(found)))
        return found, text + (f" where {' and '.join(conditions)}" if conditions else "")

    def write(self) -> str:
        """An UPDATE or a DELETE."""
        table = self.random.choice(["customers", "customers", "orders", "orders", "order_items", "tickets", "events"])
        a = self.alias()
        other, good, bad = self.random.choice(LINKS[table])
        b = self.alias()
        conditions = [self.condition((a, table)) for _ in range(self.random.choice((1, 1, 2)))]
        joined = self.chance(0.4)
        if joined:
            conditions.append((bad if self.chance(0.15) else good).format(a=a, b=b))
            conditions += [self.condition((b, other))] if self.chance(0.6) else []
        elif self.chance(0.3):
            conditions.append(self.subquery((a, table)))
        where = f"where {' and '.join(conditions)}"
        returning = f" returning {a}.*" if self.chance(0.5) else ""
        column = COLUMNS[table][-1]
        if self.chance(0.5):
            return f"delete from {table} {a} {f'using {other} {b} ' if joined else ''}{where}{returning}"
        return (
            f"update {table} {a} set {column} = {a}.{column} {f'from {other} {b} ' if joined else ''}{where}{returning}"
        )

    def condition(self, source: tuple[str, str]) -> str:
        return self.random.choice(CONDITIONS[source[1]]).format(a=source[0])

    def subquery(self, source: tuple[str, str]) -> str:
        a, t = source
        other, good, bad = self.random.choice(LINKS[t])
        b = self.alias()
        on = (bad if self.chance(0.2) else good).format(a=a, b=b)
        more = f" and {self.condition((b, other))}" if self.chance(0.4) else ""
        negated = "not " if self.chance(0.3) else ""
        if self.chance(0.3):
            return f"(select count(*) from {other} {b} where {on}{more}) > 0"
        if t == "customers" and self.chance(0.4):
            return f"{a}.id {negated}in (select {b}.customer_id from orders {b} where {b}.total > 50)"
        return f"{negated}exists (select from {other} {b} where {on}{more})"
