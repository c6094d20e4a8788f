"""Pure functions from a statement and a catalog snapshot to a plan. No IO, no clock, no randomness."""

from .decide import plan
from .explain import explain
from .parse import split
from .route import allowed, no_parent, region_of, regions, row_homes
from .strategies.insert import split_insert

__all__ = ["allowed", "explain", "no_parent", "plan", "region_of", "regions", "row_homes", "split", "split_insert"]
