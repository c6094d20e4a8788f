"""The guided tour: what Domicile does, shown on the regions that are running, and every claim looked after.

A step is a title, a word of why, and a function that asks and shows. Beside each statement stand the regions that it
went to, what came back, the time, and the same in the naive way: a client with a connection to the far server, over
the same distance. A claim is printed with what was measured, and holds or does not.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import psycopg

from domicile.shop import load

from .ask import Answer, Asker, Client, until
from .federation import Federation
from .regions import FULL_REGION, REGIONS
from .screen import Bar, Screen

TIMES = 5  #: each timed statement is run so often; the best is shown, the first beside it
DISTANCE_MS_MIN = 50.0  #: under that a busy machine takes longer than the way, and round trips can't be told apart
COPY_PATIENCE_S = 60.0
VISIBLE_PATIENCE_S = 10.0


class Tour:
    """One walk through the steps; `failed` holds the claims that did not hold."""

    def __init__(self, federation: Federation, screen: Screen) -> None:
        self.federation = federation
        self.screen = screen
        self.asker = Asker(federation)
        self.failed: list[str] = []
        self.summary: list[tuple[str, float, float]] = []
        self._title = ""
        self._sample: dict[str, tuple[int, str, str]] = {}

    def run(self, steps: Sequence[Step]) -> bool:
        """Whether every claim held. Ends early when somebody presses q."""
        self._welcome()
        try:
            for number, step in enumerate(steps, 1):
                if not self.screen.pause():
                    break
                self._title = step.title
                self.screen.chapter(number, len(steps), step.title, step.why)
                try:
                    step.show(self)
                except (psycopg.Error, OSError) as e:
                    self.claim(f"this step runs to its end ({type(e).__name__}: {e})", False)
            self._finish()
        finally:
            self.asker.close()
        return not self.failed

    def _welcome(self) -> None:
        distance = self.federation.round_trip_ms
        self.screen.welcome(
            "Domicile: three regions, one database, a border that PostgreSQL keeps",
            f"""
Three PostgreSQL servers run on this machine, with simulated oceans between them:

- **us** (CCPA) to **eu** (GDPR): {distance("us", "eu"):.0f} ms there and back
- **us** to **ap** (PDPA): {distance("us", "ap"):.0f} ms
- **eu** to **ap**: {distance("eu", "ap"):.0f} ms

A shop has {_customers(self.federation):,} customers in 242 countries. Each customer's row lives where the law wants it,
and nowhere else in clear. An application connects to the nearest gateway and writes plain SQL.
""",
        )

    def _finish(self) -> None:
        if self.summary:
            rows = [(title, f"{ours:.1f} ms", f"{naive:.1f} ms") for title, ours, naive in self.summary]
            self.screen.table("What it took", ("", "Domicile", "the naive way"), rows)
        if self.failed:
            self.screen.print()
            self.screen.say(f"**{len(self.failed)} claims did not hold:**")
            for text in self.failed:
                self.screen.claim(text, False)

    # --- what steps are made of

    def claim(self, text: str, holds: bool) -> None:
        """Says it, and whether it is so."""
        self.screen.claim(text, holds)
        if not holds:
            self.failed.append(f"{self._title}: {text}")

    def sample(self, region: str) -> tuple[int, str, str]:
        """A customer at home there, whose name looks like it: id, country, name."""
        if region not in self._sample:
            country = {"us": "MX", "eu": "GR", "ap": "JP"}[region]
            # With something in every column and a birthday that its mask changes; a small shop has not every country.
            row = self.asker.direct(
                region,
                "select id, country, name from customers where note is not null and phone is not null"
                " and born <> date_trunc('year', born) and email not like '%@tour.example'"
                f" order by country <> '{country}', id limit 1",
            ).rows[0]
            self._sample[region] = (row[0], row[1], row[2])
        return self._sample[region]

    def clear_values(self, region: str, customer: int) -> list[str]:
        """What of that row must not be found abroad."""
        row = self.asker.direct(region, f"select name, email, phone, note, born from customers where id = {customer}")
        return [str(value) for value in row.rows[0] if value is not None]

    def leaks(self, answer: Answer, values: Sequence[str]) -> list[str]:
        return [value for value in values if value in answer.text]

    def show(self, answer: Answer) -> None:
        """What came back."""
        if answer.failed:
            self.screen.error(answer.sqlstate, answer.message, answer.detail)
        elif answer.columns:
            self.screen.rows(answer.columns, answer.rows)
        else:
            self.screen.status(answer.status)

    def through_gateway(
        self,
        here: str,
        statement: str,
        *,
        parameters: Sequence[object] = (),
        role: str = "app",
        client: Client = "psycopg",
        times: int = TIMES,
    ) -> Answer:
        """Asks the nearest gateway, shows the statement, where it went and what came back."""
        with_values = f"{client}, role {role}, gateway of {here}"
        if parameters:
            with_values += f", parameters {', '.join(map(repr, parameters))}"
        self.screen.statement(statement, with_values)
        answer = self.asker.gateway(
            here,
            statement,
            parameters,
            role=role,
            client=client,
            times=times,
        )
        self.show(answer)
        self.went_to(here, answer)
        return answer

    def went_to(self, here: str, answer: Answer) -> None:
        """Where it went and how long it took: the relay counts what crosses an ocean, so it is known, not claimed."""
        crossed = ", ".join(f"{_bytes(n)} to and from {r}" for r, n in sorted(answer.crossed.items()))
        runs = f" in {len(answer.times_ms)} runs" if len(answer.times_ms) > 1 and crossed else ""
        self.screen.went_to(
            [here, *sorted(answer.crossed)], answer.ms, f"{crossed}{runs}" if crossed else "nothing crossed an ocean"
        )

    def compare(self, title: str, ours: Answer, our_note: str, naive: Sequence[Bar]) -> None:
        """Draws the times beside each other and keeps them for the end."""
        bars = [Bar("Domicile", ours.ms, our_note, ours=True), *naive]
        self.screen.bars(bars)
        self.summary.append((title, ours.ms, naive[0].milliseconds))

    def wait_for_copies(self) -> bool:
        """Whether every region holds a copy of all other regions' customers."""

        def complete() -> bool:
            there = {r: self.asker.direct(r, "select count(*) from customers").rows[0][0] for r in REGIONS}
            return all(
                self.asker.direct(r, "select count(*) from federated.customers").rows[0][0] == sum(there.values())
                for r in REGIONS
            )

        return until(complete, COPY_PATIENCE_S, 0.05) is not None


@dataclass(frozen=True, slots=True)
class Step:
    title: str
    why: str
    show: Callable[[Tour], None] = field(repr=False)


def _customers(federation: Federation) -> int:
    return federation.moved.before if federation.moved else 0


def _bytes(count: int) -> str:
    return f"{count / 1e6:.1f} MB" if count >= 1e6 else f"{count / 1e3:.1f} kB" if count >= 1000 else f"{count} bytes"


# --- the steps


def every_row_goes_home(t: Tour) -> None:
    moved = t.federation.moved
    assert moved is not None
    t.screen.statement(load.script("localities"), "what a DBA wrote, in every region")
    rows = [(table, *(by_home.get(r, 0) for r in REGIONS if r != FULL_REGION)) for table, by_home in moved.rows.items()]
    t.screen.say(
        f"When this folder was made, **{moved.before:,} customers stood in one database in {FULL_REGION}**. "
        f"Pinning told who is at home where, and the rows moved, parents with their children, "
        f"in **{moved.seconds:.1f} s**:"
    )
    t.screen.rows(("table", *(f"rows gone to {r}" for r in REGIONS if r != FULL_REGION)), rows)
    counts = {
        r: t.asker.direct(
            r,
            "select count(*), count(*) filter (where m.region <> domicile.here()) "
            "from customers c join country_region m on m.country = c.country",
        ).rows[0]
        for r in REGIONS
    }
    t.screen.say("What stands in each server now:")
    t.screen.rows(("region", "jurisdiction", "customers"), [(r, REGIONS[r], f"{counts[r][0]:,}") for r in REGIONS])
    t.claim("no server holds a row whose home is elsewhere", not any(foreign for _, foreign in counts.values()))
    _, country, _ = t.sample("ap")
    wrong = t.asker.direct(
        "us", f"insert into customers (country, name, email) values ('{country}', 'Wrong Place', 'x')", role="app"
    )
    t.screen.statement(
        f"insert into customers (country, name, email) values ('{country}', 'Wrong Place', 'x');",
        "role app, straight at the server of us, past every gateway",
    )
    t.show(wrong)
    t.claim("PostgreSQL itself refuses a row whose home is elsewhere (23503)", wrong.sqlstate == "23503")


def what_may_cross(t: Tour) -> None:
    t.screen.statement(load.script("policies"), "domicile/shop/policies.sql")
    seen = t.asker.direct(
        "eu",
        'select e."column", e.exposure, e.mask, e.copied from domicile.exposure e'
        """ where e."table" = 'customers'::regclass and e.destination = 'us' and e.role = '*'""",
    )
    t.screen.say("What that means for customers of eu, as they are seen from us:")
    t.show(seen)
    said = dict(zip(seen.column("column"), seen.column("exposure"), strict=True)) if seen.rows else {}
    t.claim(
        "email, name and born are masked, phone and note withheld, all else clear",
        {c for c, e in said.items() if e == "masked"} == {"email", "name", "born"}
        and {c for c, e in said.items() if e == "withheld"} == {"phone", "note"},
    )


def the_naive_ways(t: Tour) -> None:
    customer, _, name = t.sample("eu")
    clear = t.clear_values("eu", customer)
    statement = "copy (select * from customers order by id) to stdout"
    t.screen.say("**A read replica, or the nightly dump into the warehouse.** What crosses is what the table holds:")
    t.screen.statement(statement, "the naive way: a client in us, the server of eu")
    size, found, begin = 0, "", time.perf_counter()
    far = t.asker.connection(t.federation.far_dsn("us", "eu", "analyst"))
    with far.cursor() as cursor, cursor.copy(statement.encode()) as copy:
        for block in copy:
            size += len(block)
            line = bytes(block).decode()
            if line.startswith(f"{customer}\t"):
                found = line
    taken_ms = (time.perf_counter() - begin) * 1e3
    shown = found.rstrip("\n").split("\t")
    t.screen.rows(("id", "country", "name", "email", "phone", "born"), [shown[:6]])
    t.screen.went_to(["eu"], taken_ms, f"{_bytes(size)} of Europeans' data are in America now, in clear")
    t.claim(f"the dump carried {name} to us in clear: name, e-mail, telephone", all(v in found for v in clear[:3]))

    t.screen.say("**A database for each country.** Nothing leaks, and nothing can be answered:")
    silo = t.asker.far("us", "us", f"select id, name from customers where id = {customer}")
    t.screen.statement(f"select id, name from customers where id = {customer};", "the silo in us")
    t.show(silo)
    t.claim(f"the silo in us has never heard of customer {customer}", not silo.failed and not silo.rows)


def postgresql_refuses(t: Tour) -> None:
    customer, country, _ = t.sample("eu")
    clear = t.clear_values("eu", customer)
    t.screen.say(
        "The tour now logs in **straight at the server of eu as `app@us`**, with a password that no one but eu's guard "
        "has. It is what us could reach at most if its gateway were broken, bribed or taken over:"
    )

    def ask(statement: str) -> Answer:
        t.screen.statement(statement + ";", 'role "app@us", straight at the server of eu')
        answer = t.asker.foreign("us", "eu", statement)
        t.show(answer)
        return answer

    masked = ask(f"select * from customers where id = {customer}")
    t.claim(
        "the same SQL text sees the masked row, and nothing of the clear one",
        len(masked.rows) == 1 and not t.leaks(masked, clear),
    )
    base = ask(f"select * from public.customers where id = {customer}")
    t.claim("the table itself is refused (42501)", base.sqlstate == "42501")
    write = ask(f"update customers set email = 'me@us.example' where id = {customer}")
    t.claim("a masked column can't be assigned (0A000)", write.sqlstate == "0A000")
    move = ask(f"update customers set country = 'US' where id = {customer}")
    t.claim("a row can't be moved out of its home from abroad", move.failed)
    statistics_ = ask("select tablename, attname, most_common_vals from pg_stats where tablename = 'customers'")
    t.claim("the statistics, which hold values, show nothing", not statistics_.failed and not statistics_.rows)
    other = ask("set role app")
    t.claim("app@us can't become the app of eu (42501)", other.sqlstate == "42501")
    added = ask(f"select count(*) from customers where country = '{country}' and email like '%@%'")
    t.claim("not even a count finds an e-mail address", not added.failed and added.rows[0][0] == 0)

    t.screen.say("And before PostgreSQL stands **eu's guard**, the one way in that other regions have:")
    stranger = t.asker.knock("eu", certificate_of=None)
    gateway = t.asker.knock("eu", certificate_of="us")
    t.screen.rows(
        ("who comes as role app", "what eu's guard does"),
        [("with us's certificate: it is app@us", gateway), ("without a region's certificate", stranger)],
    )
    t.claim("who has no region's certificate is not even asked for a password", stranger != "let in" == gateway)


def a_far_customer(t: Tour) -> None:
    customer, _, _ = t.sample("ap")
    clear = t.clear_values("ap", customer)
    statement = f"select id, country, name, email, phone, born, tier from customers where id = {customer}"
    answer = t.through_gateway("us", statement, client="psql")
    t.claim("one row came, masked", len(answer.rows) == 1 and not t.leaks(answer, clear))
    naive = {r: t.asker.far("us", r, statement, times=TIMES) for r in REGIONS}
    asked_in_turn = sum(a.ms for a in naive.values())
    distance = t.federation.round_trip_ms("us", "ap")
    t.compare(
        "a customer of ap, by id",
        answer,
        f"masked; the first time, with what had to be opened, {answer.first_ms:.0f} ms",
        [
            Bar("one region after the other", asked_in_turn, "and the row in clear"),
            Bar("if one knew that it is ap", naive["ap"].ms, "and the row in clear"),
            Bar("and if it had to connect", t.asker.cold_ms("us", "ap", statement)),
        ],
    )
    if distance >= DISTANCE_MS_MIN:
        t.claim(
            f"it cost one round trip of {distance:.0f} ms and {answer.ms - distance:.1f} ms, not two",
            answer.ms < 1.5 * distance,
        )


def the_key_says_where(t: Tour) -> None:
    customer, country, _ = t.sample("ap")
    clear = t.clear_values("ap", customer)
    statement = "select id, name, tier from customers where country = $1 and id = $2"
    answer = t.through_gateway("us", statement, parameters=(country, customer), client="asyncpg")
    t.claim(
        "only ap was asked: the value of country says so",
        len(answer.rows) == 1 and set(answer.crossed) == {"ap"} and not t.leaks(answer, clear),
    )
    naive = t.asker.far("us", "ap", f"select id, name, tier from customers where id = {customer}", times=TIMES)
    t.compare(
        "a customer of ap, by country and id",
        answer,
        "one round trip, masked",
        [Bar("straight to the server of ap", naive.ms, "one round trip, and the row in clear")],
    )
    home, home_country, _ = t.sample("us")
    local = t.through_gateway(
        "us", "select id, name, email from customers where country = %s and id = %s", parameters=(home_country, home)
    )
    t.claim(
        f"a customer of this region is read in clear and nothing crosses: {local.ms:.1f} ms",
        not local.crossed and len(local.rows) == 1 and local.rows[0][2] in t.clear_values("us", home),
    )
    statement = f"select id, name from customers where country = '{country}' and id = {customer}"
    t.screen.statement(f"explain {statement}", "role app, gateway of us")
    lines = t.asker.explain("us", statement)
    t.screen.status("\n".join(lines))
    t.claim("EXPLAIN says so too, and which key matched", any("Regions: ap" in line for line in lines))


def over_all_regions(t: Tour) -> None:
    statement = "select tier, count(*) from customers group by tier order by tier"
    answer = t.through_gateway("us", statement)
    parts = [t.asker.far("us", r, statement, times=TIMES) for r in REGIONS]
    total: dict[str, int] = {}
    for part in parts:
        for tier, count in part.rows:
            total[tier] = total.get(tier, 0) + count
    t.claim("the counts are those of the three servers together", dict(answer.rows) == total)
    t.compare(
        "counting all customers by tier",
        answer,
        "all regions at once, counted there",
        [Bar("one region after the other", sum(p.ms for p in parts), "and added by hand")],
    )
    ordered = t.through_gateway("us", "select id, country, name, tier from customers order by id limit 5", times=1)
    expected = sorted(
        row for r in REGIONS for row in t.asker.direct(r, "select id from customers order by id limit 5").rows
    )[:5]
    t.claim("the first five of all regions, in order", [(row[0],) for row in ordered.rows] == expected)


def rows_find_their_homes(t: Tour) -> None:
    people = {"us": ("CA", "Noémie Tremblay"), "eu": ("GR", "Ελένη Βλάχου"), "ap": ("KR", "김서연")}
    rows = ",\n       ".join(
        f"('{country}', '{name}', '{region}@tour.example')" for region, (country, name) in people.items()
    )
    try:
        answer = t.through_gateway("us", f"insert into customers (country, name, email)\nvalues {rows}", times=1)
        t.claim("one statement, three rows, all of them or none", answer.status == "INSERT 0 3")
        found = {
            r: t.asker.direct(r, "select name from customers where email like '%@tour.example'").rows for r in REGIONS
        }
        t.screen.say("Asked at the servers themselves:")
        t.screen.rows(("server", "holds"), [(r, ", ".join(n for (n,) in rows)) for r, rows in found.items()])
        t.claim(
            "each row lies at its home, in clear, and nowhere else",
            {r: [n for (n,) in rows] for r, rows in found.items()} == {r: [n] for r, (_, n) in people.items()},
        )
        country, name = people["ap"]
        single = t.through_gateway(
            "us",
            "insert into customers (country, name, email) values (%s, %s, %s)",
            parameters=(country, name, "one@tour.example"),
            times=1,
        )
        t.claim("a row of one region needs no second phase", single.status == "INSERT 0 1")
        naive = t.asker.far(
            "us",
            "ap",
            f"insert into customers (country, name, email) values ('{country}', '{name}', 'naive@tour.example')",
        )
        t.compare(
            "a customer of ap registers in us",
            single,
            "the row's home is found by the gateway",
            [Bar("straight to the server of ap", naive.ms, "the application must know where")],
        )
    finally:
        for r in REGIONS:
            t.asker.direct(r, "delete from customers where email like '%@tour.example'")


def writing_abroad(t: Tour) -> None:
    customer, country, _ = t.sample("eu")
    before = t.asker.direct("eu", f"select tier, email from customers where id = {customer}").rows[0]
    tier = "gold" if before[0] != "gold" else "plus"
    try:
        answer = t.through_gateway(
            "us", f"update customers set tier = '{tier}' where id = {customer} and country = '{country}'", times=1
        )
        after = t.asker.direct("eu", f"select tier, email from customers where id = {customer}").rows[0]
        t.claim(
            "a clear column is written at the row's home; the clear e-mail address stands as it stood",
            answer.status == "UPDATE 1" and after == (tier, before[1]),
        )
        naive = t.asker.far("us", "eu", f"update customers set tier = '{tier}' where id = {customer}")
        t.compare(
            "an update of a row in eu",
            answer,
            "by eu's own view, constraints and locks",
            [Bar("straight to the server of eu", naive.ms, "and every column could be read and written")],
        )
        refused = t.through_gateway(
            "us", f"update customers set email = 'x' where id = {customer} and country = '{country}'", times=1
        )
        t.claim("a mask can never overwrite what it hides", refused.failed)
    finally:
        t.asker.direct("eu", f"update customers set tier = '{before[0]}' where id = {customer}")


def one_ocean_less(t: Tour) -> None:
    customer, country, _ = t.sample("ap")
    german = t.sample("eu")
    link = "us>ap"
    t.screen.say("The line between us and ap is **cut** now.")
    t.federation.relay.cut(link)
    try:
        dead = t.through_gateway(
            "us", f"select id, name from customers where country = '{country}' and id = {customer}", times=1
        )
        t.claim("the statement for ap fails and names the region", dead.failed and "ap" in dead.message)
        alive = t.through_gateway(
            "us", f"select id, name from customers where country = '{german[1]}' and id = {german[0]}", times=1
        )
        t.claim("statements for other regions go on unharmed", len(alive.rows) == 1)
        whole = t.through_gateway("us", "select count(*) from customers", times=1)
        t.claim("a count over all regions is an error, never a short count", whole.failed)
    finally:
        t.federation.relay.heal(link)
    statement = f"select id, name from customers where country = '{country}' and id = {customer}"
    again = until(lambda: len(t.asker.gateway("us", statement).rows) == 1, VISIBLE_PATIENCE_S, 0.05)
    t.claim(f"healed, the next statements go through ({(again or 0) * 1e3:.0f} ms later)", again is not None)


def near_reads(t: Tour) -> None:
    t.claim("every region holds an anonymized copy of the others' customers", t.wait_for_copies())
    statement = "select region, count(*), count(distinct tier) from federated.customers group by region order by region"
    answer = t.through_gateway("us", statement)
    far = [t.asker.far("us", r, "select count(*), count(distinct tier) from customers", times=TIMES) for r in REGIONS]
    t.claim("nothing crossed an ocean for it", not answer.crossed and not answer.failed)
    t.compare(
        "the same counts from the copies here",
        answer,
        "read next door",
        [Bar("one region after the other", sum(a.ms for a in far), "")],
    )
    customer, _, _ = t.sample("ap")
    copy = t.through_gateway(
        "us", f"select region, id, name, email, phone, born from federated.customers where id = {customer}"
    )
    t.claim(
        "the copy is masked before it leaves ap",
        len(copy.rows) == 1 and not t.leaks(copy, t.clear_values("ap", customer)),
    )


def commit_to_visible(t: Tour) -> None:
    customer, _, _ = t.sample("ap")
    before = t.asker.direct("ap", f"select tier from customers where id = {customer}").rows[0][0]
    statement = f"update customers set tier = '{{tier}}' where id = {customer}"
    look = f"select tier from federated.customers where id = {customer}"
    t.screen.statement(statement.format(tier="…") + ";", "role app, at home in ap")
    t.screen.statement(look + ";", "role app, gateway of us, asked again and again")
    taken: list[float] = []
    try:
        for tier in ("plus", "gold", "basic", "plus", "gold"):
            t.asker.direct("ap", statement.format(tier=tier), role="app")
            seen = until(lambda tier=tier: t.asker.gateway_rows("us", look) == ((tier,),), VISIBLE_PATIENCE_S)  # type: ignore[misc]
            if seen is not None:
                taken.append(seen * 1e3)
    finally:
        t.asker.direct("ap", f"update customers set tier = '{before}' where id = {customer}")
    half = t.federation.round_trip_ms("us", "ap") / 2
    if taken:
        t.screen.bars(
            [
                Bar("commit to visible, median", statistics.median(taken), f"of {len(taken)}", ours=True),
                Bar("the way alone, half a round trip", half, ""),
            ]
        )
    t.claim(
        f"what is committed in ap is seen in us within a second (median {statistics.median(taken or [0]):.0f} ms)",
        len(taken) == 5 and statistics.median(taken) < 1000,
    )


STEPS: tuple[Step, ...] = (
    Step(
        "One full database, then every row goes home",
        "It begins as it always does: one database, everybody in it. `country` says who a row is about, a table says "
        "which region that country belongs to, and `orders` live with their customers.",
        every_row_goes_home,
    ),
    Step(
        "What may cross the border",
        "The policy is SQL. What it does not name is withheld, from the moment a column is added.",
        what_may_cross,
    ),
    Step(
        "How the naive ways leak, or can't answer",
        "What most teams do: copy everything everywhere, or cut the database into silos.",
        the_naive_ways,
    ),
    Step(
        "PostgreSQL refuses, not a proxy's good will",
        "Every hard guarantee is given by the regional PostgreSQL. If the gateway misreads a statement, what comes "
        "is an error from a database.",
        postgresql_refuses,
    ),
    Step(
        "A customer who lives an ocean away",
        "An id does not say where its row lives. The local region is asked first, then the others at once; the masks "
        "are computed where the row is.",
        a_far_customer,
    ),
    Step(
        "The key says where",
        "Where a statement names the residency key, in its text or as a bound parameter, one region is asked.",
        the_key_says_where,
    ),
    Step(
        "Counting over all regions",
        "Each region counts its own, at once; sums travel, rows do not.",
        over_all_regions,
    ),
    Step(
        "Rows find their homes",
        "Three customers register on the American site. Each row is written where it belongs, and only there.",
        rows_find_their_homes,
    ),
    Step("Writing to a row abroad", "Clear columns may be written from anywhere; masked ones never.", writing_abroad),
    Step(
        "One ocean less",
        "A region that can't be reached costs what concerns it, and nothing else; and no result is short in silence.",
        one_ocean_less,
    ),
    Step(
        "Reading next door",
        "Agents stream what the policy lets through, masked before it leaves its home. `federated.customers` shows the "
        "rows of this region in clear and the copies of the others: a BI tool needs nothing else.",
        near_reads,
    ),
    Step("From commit to visible", "How old is a copy? As old as the ocean is wide.", commit_to_visible),
)
