"""The world that most of these tests share: policies that hide nothing, so the answers must be the oracle's."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.differential.world import World, running


@pytest.fixture(scope="session")
def world(servers_folder: Path) -> Iterator[World]:
    with running(servers_folder / "differential") as made:
        yield made
