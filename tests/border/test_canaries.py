"""Canaries: values in every masked and withheld column of every region, looked for in all that left their homes.

The whole shop works over the border, through gateways, guards and streams, with every byte between the regions read in
clear (recorder.py). Then the canaries are looked for in those bytes, and in the data directories and logs of the other
regions: as they are, reversed, in hexadecimal, in base64, whole and in pieces of eight bytes.
"""

from __future__ import annotations

import base64
import contextlib
import re
import secrets
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
import pytest

from domicile.demo.federation import Federation, Region

from .conftest import Border
from .recorder import Recorder

PIECE = 8
LETTERS = "qxzjkvwy"
"""Of these alone a canary is made: seldom enough in a row that a search finds few places to look at twice."""

COLUMNS = ("name", "email", "phone", "note")
COUNTRIES = {"us": "US", "eu": "DE", "ap": "JP"}
PATIENCE_S = 30.0

_RUNS = re.compile(rb"[qxzjkvwy]{%d,}" % PIECE)
_HEX_RUNS = re.compile(rb"(?:7[1-9aA]|6[aAbB]){%d,}" % PIECE)


@dataclass(frozen=True, slots=True)
class Canaries:
    """Words that stand in one region alone, and the ways to find them elsewhere."""

    words: frozenset[str]

    def pieces(self) -> frozenset[bytes]:
        """Every eight letters in a row, forwards and backwards."""
        return frozenset(
            row[at : at + PIECE].encode()
            for word in self.words
            for row in (word, word[::-1])
            for at in range(len(word) - PIECE + 1)
        )

    def found_in(self, data: bytes) -> set[bytes]:
        pieces = self.pieces()
        runs = [run.group() for run in _RUNS.finditer(data)]
        runs += [bytes.fromhex(run.group().decode()) for run in _HEX_RUNS.finditer(data)]
        found = {piece for run in runs for piece in pieces if piece in run}
        for word in self.words:
            for shift in range(3):  # wherever in a longer text it stands
                encoded = base64.b64encode(bytes(shift) + word.encode())[4:24]
                if encoded in data:
                    found.add(encoded)
        return found


def new_canary() -> str:
    return "".join(secrets.choice(LETTERS) for _ in range(24))


@dataclass
class Home:
    """What one region has that no other may have."""

    region: str
    customer: int
    words: set[str]


@dataclass
class Recorded:
    federation: Federation
    recorder: Recorder
    homes: dict[str, Home]


@contextlib.contextmanager
def recorded_nodes(border: Border) -> Iterator[Recorder]:
    """The nodes, started again with the recorder in the place of the distance between them."""
    federation, recorder = border.federation, Recorder(border.files)
    files = {name: region.folder / "domicile.toml" for name, region in federation.regions.items()}
    texts = {name: path.read_text() for name, path in files.items()}
    try:
        for name, path in files.items():
            text = texts[name]
            for there, region in federation.regions.items():
                if there != name:
                    for kind, port in (("", region.guard_port), (" agent", region.agent_port)):
                        tapped = recorder.tap(name, there, port)
                        known = federation.relay.port(f"{name}>{there}{kind}")
                        assert f":{known}" in text
                        text = text.replace(f":{known}", f":{tapped}")
            path.write_text(text)
        restart(federation)
        yield recorder
    finally:
        for name, path in files.items():
            path.write_text(texts[name])
        restart(federation)
        recorder.stop()


def restart(federation: Federation) -> None:
    for name in federation.regions:
        federation.stop_node(name)
    for name in federation.regions:
        federation.start_node(name, wait=False)
    for name in federation.regions:
        federation._await_node(name)


def plant(federation: Federation, region: str) -> Home:
    """A customer with four canaries, written at home through the region's own gateway."""
    words = [new_canary() for _ in COLUMNS]
    with federation.connect(region) as home:
        row = home.execute(
            "insert into customers (country, name, email, phone, note, consent, born)"
            " values (%s, %s, %s, %s, %s, true, '1931-07-23') returning id",
            (COUNTRIES[region], "A" + words[0], *words[1:]),
        ).fetchone()
    assert row is not None
    return Home(region, int(row[0]), set(words))


@pytest.fixture(scope="module")
def recorded(border: Border) -> Iterator[Recorded]:
    with recorded_nodes(border) as recorder:
        homes = {region: plant(border.federation, region) for region in border.federation.regions}
        try:
            work(border.federation, homes)
            yield Recorded(border.federation, recorder, homes)
        finally:
            for region, home in homes.items():
                with border.owner(region) as owner:
                    owner.execute("delete from orders where customer_id = %s", (home.customer,))
                    owner.execute("delete from customers where id = %s", (home.customer,))


# --- the work -------------------------------------------------------------------------------------------------------

READS = (
    "select * from customers",
    "select * from customers where id = {customer}",
    "select c.*, o.* from customers c join orders o on o.customer_id = c.id where c.id = {customer}",
    "select count(*), min(name), max(email) from customers",
    "select country, count(*) from customers group by country order by country",
    "select * from customers order by id desc limit 10",
    "select name, email, phone, note, born from customers where note is not null or id = {customer}",
    "select to_jsonb(c) from customers c where id = {customer}",
    "select name::integer from customers where id = {customer}",
    "select 1 / (length(name) - length(name)) from customers where id = {customer}",
    "select email::date from customers where id = {customer}",
    "explain select * from customers where id = {customer}",
    "select * from federated.customers where id = {customer}",
)

WRITES = (
    "insert into orders (customer_id, total) values ({customer}, 5)",
    "update customers set tier = 'gold' where id = {customer} returning *",
    "update customers set consent = true where id = {customer}",
    "update customers set tier = 'platinum' where id = {customer}",
    "update customers set note = null where id = {customer}",
    "update orders set status = 'sent' where customer_id = {customer} returning *",
    "insert into customers (id, country, name, email) values ({customer}, '{country}', 'x', 'y')",
    "insert into customers (country, name, email) values ('{country}', 'Someone', 'somebody@example.org') returning *",
    "delete from customers where id = {customer}",
    "delete from customers where email = 'somebody@example.org'",
)


def work(federation: Federation, homes: dict[str, Home]) -> None:
    """Every region reads and writes every other's rows, in text and binary, while they change at home."""
    for here in federation.regions:
        for role in ("app", "analyst"):
            with federation.connect(here, role) as connection:
                for home in homes.values():
                    for statement in READS + (WRITES if role == "app" else ()):
                        for binary in (False, True):
                            run(connection, statement, home, binary=binary)
    for home in homes.values():
        with federation.connect(home.region) as connection:
            for _ in range(3):
                fresh = [new_canary() for _ in COLUMNS]
                home.words.update(fresh)
                connection.execute(
                    "update customers set name = %s, email = %s, phone = %s, note = %s where id = %s",
                    ("A" + fresh[0], *fresh[1:], home.customer),
                )
            long = new_canary()
            home.words.add(long)
            connection.execute(
                "update customers set note = %s where id = %s",
                ("".join(long + secrets.token_hex(8) for _ in range(500)), home.customer),
            )
    for here in federation.regions:
        for home in homes.values():
            if home.region != here:
                arrived(federation, here, home)


def run(connection: psycopg.Connection[Any], statement: str, home: Home, *, binary: bool) -> None:
    text = statement.format(customer=home.customer, country=COUNTRIES[home.region])
    with contextlib.suppress(psycopg.Error):
        cursor = connection.execute(text.encode(), binary=binary)
        if cursor.description:
            cursor.fetchall()


def arrived(federation: Federation, here: str, home: Home) -> None:
    """Returns when the last change at home is in the copy here."""
    with federation.connect(home.region) as there:
        row = there.execute("select left(email, 1) from customers where id = %s", (home.customer,)).fetchone()
    assert row is not None
    with federation.regions[home.region].server.connect("shop") as owner:
        now = owner.execute("select clock_timestamp()").fetchone()
    assert now is not None
    deadline = time.monotonic() + PATIENCE_S
    with federation.regions[here].server.connect("shop") as owner:
        while time.monotonic() < deadline:
            fresh = owner.execute(
                "select from domicile.progress where origin = %s and as_of > %s", (home.region, now[0])
            ).fetchone()
            if fresh is not None:
                copied = owner.execute("select count(*) from abroad.customers where id = %s", (home.customer,))
                assert copied.fetchone() == (1,)
                return
            time.sleep(0.05)
    pytest.fail(f"the copy of {home.region} in {here} did not come")


# --- the search -----------------------------------------------------------------------------------------------------


def files_of(region: Region) -> Iterator[tuple[Path, bytes]]:
    """Every file of a region: its data directory (a link, where the user that runs the server needs one), its logs."""
    for folder in (region.folder, region.server.data_dir.resolve()):
        for path in sorted(folder.rglob("*")):
            with contextlib.suppress(FileNotFoundError):
                if path.is_file():
                    yield path, path.read_bytes()


def test_the_search_finds_what_is_there(recorded: Recorded) -> None:
    """At home the canaries are found: in the rows, in the log of changes; and in every disguise."""
    for home in recorded.homes.values():
        canaries = Canaries(frozenset(home.words))
        files = list(files_of(recorded.federation.regions[home.region]))
        assert [path for path, data in files if "pg_wal" in path.parts and canaries.found_in(data)]
        assert [path for path, data in files if "base" in path.parts]
    word = new_canary()
    canaries = Canaries(frozenset({word}))
    raw = word.encode()
    for disguise in (
        raw, raw[::-1], raw[3:11], raw[::-1][5:13], raw.hex().encode(), raw.hex().upper().encode(),
        base64.b64encode(b"x" + raw), base64.b64encode(raw), base64.b64encode(b"xx" + raw + b"y"),
    ):  # fmt: skip
        assert canaries.found_in(b"before " + disguise + b" after"), disguise
    assert not canaries.found_in(new_canary().encode())


def test_the_regions_have_spoken(recorded: Recorded) -> None:
    for region, left in recorded.recorder.left.items():
        assert len(left) > 20_000, region
        assert b"customers" in left
        for home in recorded.homes.values():
            # Masks cross: the first letter and the pad.
            assert b"A***" in left or home.region != region


@pytest.mark.parametrize("home", COUNTRIES)
def test_no_canary_is_in_what_was_said(home: str, recorded: Recorded) -> None:
    canaries = Canaries(frozenset(recorded.homes[home].words))
    for region, left in recorded.recorder.left.items():
        assert canaries.found_in(bytes(left)) == set(), f"of {home} in what {region} said"
        assert b"1931-07-23" not in left


@pytest.mark.parametrize("region", COUNTRIES)
def test_no_canary_of_others_is_on_the_disks(region: str, recorded: Recorded) -> None:
    others = (home.words for home in recorded.homes.values() if home.region != region)
    canaries = Canaries(frozenset().union(*others))
    federation = recorded.federation
    files = list(files_of(federation.regions[region]))
    assert len(files) > 500
    for path, data in (*files, *((p, p.read_bytes()) for p in federation.folder.glob("*.*") if p.is_file())):
        assert canaries.found_in(data) == set(), path


@pytest.mark.parametrize("home", COUNTRIES)
def test_no_canary_is_in_the_home_s_own_logs(home: str, recorded: Recorded) -> None:
    """Logs are shipped: the node's holds no value, not even at home."""
    canaries = Canaries(frozenset(recorded.homes[home].words))
    log = recorded.federation.regions[home].folder / "node.log"
    assert canaries.found_in(log.read_bytes()) == set()
