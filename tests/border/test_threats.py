"""docs/threats.md names tests and ways: all of them exist, and every way is in its table."""

from __future__ import annotations

import re
from pathlib import Path

from .ways import WAYS

HERE = Path(__file__).parent
TEXT = (HERE.parent.parent / "docs" / "threats.md").read_text()


def test_every_test_that_is_named_exists() -> None:
    tests = "".join(path.read_text() for path in HERE.glob("test_*.py"))
    named = set(re.findall(r"`(test_[a-z_]+)`", TEXT))
    assert len(named) > 20
    assert {name for name in named if f"def {name}(" not in tests} == set()


def test_every_way_is_in_the_table() -> None:
    assert {way.name for way in WAYS if f"`{way.name}`" not in TEXT} == {
        "maintenance",  # ANALYZE, which warns and does nothing
        "a text that only looks like another",
    }
