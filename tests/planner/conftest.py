from __future__ import annotations

from pathlib import Path

import pytest

from domicile.catalog.snapshot import Catalog, parse

HERE = Path(__file__).parent


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--rewrite", action="store_true", help="write the planner's answers into tests/planner/cases: read the diff"
    )


@pytest.fixture(scope="session")
def catalog() -> Catalog:
    return parse((HERE / "catalog.json").read_text())
