"""The tour: every claim holds on a small federation, and its screen gives way to what the terminal can't show."""

from __future__ import annotations

import argparse
import io

import pytest

from domicile.demo import command, tour
from domicile.demo.federation import Federation
from domicile.demo.screen import Bar, Screen
from domicile.demo.tour import STEPS, Step, Tour


def test_every_claim_holds(federation: Federation) -> None:
    out = io.StringIO()
    walk = Tour(federation, Screen(out, interactive=False))
    assert walk.run(STEPS), "\n".join(walk.failed) + out.getvalue()
    for step in STEPS:
        assert step.title in out.getvalue()


def test_a_claim_that_fails_is_told_at_the_end(federation: Federation) -> None:
    out = io.StringIO()
    walk = Tour(federation, Screen(out, interactive=False))
    assert not walk.run([Step("Numbers", "Why not.", lambda t: t.claim("two and two are five", False))])
    assert walk.failed == ["Numbers: two and two are five"]
    assert "1 claims did not hold" in out.getvalue()


@pytest.mark.parametrize(("holds", "code"), [(True, 0), (False, 1)])
def test_check_exits_by_its_claims(
    federation: Federation, monkeypatch: pytest.MonkeyPatch, holds: bool, code: int
) -> None:
    monkeypatch.setattr(tour, "STEPS", (Step("Numbers", "", lambda t: t.claim("so it is", holds)),))
    screen = Screen(io.StringIO(), interactive=False)
    assert command._serve(federation, screen, argparse.Namespace(check=True, no_tour=False)) == code


def test_a_step_that_breaks_is_a_claim_that_failed(federation: Federation) -> None:
    def breaks(_: Tour) -> None:
        raise OSError("the network is down")

    walk = Tour(federation, Screen(io.StringIO(), interactive=False))
    assert not walk.run([Step("Broken", "", breaks)])
    assert "the network is down" in walk.failed[0]


def test_the_tour_leaves_the_shop_as_it_was(federation: Federation) -> None:
    def all_rows() -> list[object]:
        rows: list[object] = []
        for region in federation.regions:
            with federation.connect(region, "postgres", direct=True) as connection:
                rows += connection.execute("select * from customers order by id").fetchall()
        return rows

    before = all_rows()
    Tour(federation, Screen(io.StringIO(), interactive=False)).run(STEPS)
    assert all_rows() == before


@pytest.mark.parametrize("columns", ["40", "72", "100", "250"])
@pytest.mark.parametrize("encoding", ["utf-8", "ascii"])
def test_the_screen_stays_within_the_terminal(monkeypatch: pytest.MonkeyPatch, columns: str, encoding: str) -> None:
    monkeypatch.setenv("COLUMNS", columns)
    raw = io.BytesIO()
    screen = Screen(io.TextIOWrapper(raw, encoding=encoding), interactive=False)
    screen.welcome("Title", "Some *text*.")
    screen.chapter(1, 2, "A chapter", "Why.")
    screen.statement("select * from customers where id = 1 and country = 'JP'", "psql, role app")
    screen.rows(("id", "name", "a long column"), [(1, "渡辺 太郎", "x" * 80), (2, None, True)])
    screen.rows(("a", "b"), [("x" * 60, "y" * 60)])
    screen.rows(("empty",), [])
    screen.error("42501", "permission denied for schema public", "DETAIL")
    screen.bars([Bar("ours", 150.2, "one round trip", ours=True), Bar("one region after the other", 900)])
    screen.claim("it holds", True)
    screen.table("All", ("", "a"), [("x", 1)])
    assert screen.pause()
    screen.console.file.flush()
    text = raw.getvalue().decode(encoding)
    assert "\x1b" not in text  # no colour into a pipe
    assert "渡" in text if encoding == "utf-8" else "?" in text
    from rich.cells import cell_len

    assert max(cell_len(line) for line in text.splitlines()) <= min(int(columns), 100)
