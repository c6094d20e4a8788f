"""The demo's regions: their names, ports and distances. Imports nothing, so that the command line reads it quickly."""

from __future__ import annotations

from collections.abc import Mapping

REGIONS: Mapping[str, str] = {"us": "CCPA", "eu": "GDPR", "ap": "PDPA"}
"""Regions and their jurisdictions, in the order of their numbers."""

PORTS = (6432, 6433, 6434)
DATABASE = "shop"
FULL_REGION = "us"  #: where all rows are before they are pinned

ROUND_TRIPS_MS: Mapping[frozenset[str], float] = {
    frozenset(("us", "eu")): 80.0,
    frozenset(("us", "ap")): 150.0,
    frozenset(("eu", "ap")): 220.0,
}
"""Near what the internet takes between Virginia, Frankfurt and Singapore."""


def pair(a: str, b: str) -> frozenset[str]:
    return frozenset((a, b))


def no_distance() -> dict[frozenset[str], float]:
    return dict.fromkeys(ROUND_TRIPS_MS, 0.0)
