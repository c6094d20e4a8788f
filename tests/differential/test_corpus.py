"""Every statement of corpus.sql, by every driver, through every gateway: what one PostgreSQL would answer, or 0A000
where the corpus says so."""

from __future__ import annotations

import pytest

from tests.differential.compare import difference
from tests.differential.corpus import Entry, entries
from tests.differential.drivers import HOWS, Driver, connect
from tests.differential.world import World

CORPUS = entries()


def _runs_by(entry: Entry, how: str) -> bool:
    """asyncpg has COPY as a method of its own, not as a statement; `prepared` can't be used for it."""
    return how not in ("asyncpg", "prepared") or not any(s.text.lower().startswith("copy ") for s in entry.steps)


def run(entry: Entry, region: str, subject: Driver, oracle: Driver) -> list[str]:
    """The differences that the entry shows. Both sides are out of a transaction afterwards."""
    wrong = []
    for number, step in enumerate(entry.steps, 1):
        last = number == len(entry.steps)
        got = subject.ask(step.text, step.values, step.data)
        if last and region in entry.refused:
            found = "" if got.refused else f"is not refused: {got.sqlstate or got.tag} {got.message}"
        else:
            truth = oracle.ask(step.text, step.values, step.data)
            state = entry.state if last and region in entry.state_in else ""
            found = difference(step.text, got, truth, words=last and entry.words, state=state)
        if found:
            wrong.append(f"{entry.title}: {step.text} {step.values or ''}\n    {found}")
    if any(step.text.lower().startswith("begin") for step in entry.steps):
        for side in (oracle, subject):
            side.ask("rollback")
    return wrong


@pytest.mark.parametrize("how", HOWS)
@pytest.mark.parametrize("region", ["us", "eu", "ap"])
def test_the_answer_is_that_of_one_postgresql(world: World, region: str, how: str) -> None:
    oracle, subject = connect(world.oracle_dsn, how), connect(world.regions[region].gateway_dsn(), how)
    wrong = []
    try:
        for entry in CORPUS:
            if _runs_by(entry, how):
                wrong += run(entry, region, subject, oracle)
    finally:
        oracle.close()
        subject.close()
    assert not wrong, f"{len(wrong)} differ\n" + "\n".join(wrong)
    assert world.differing_tables() == []
    assert world.prepared() == []
