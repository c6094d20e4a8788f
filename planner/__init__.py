"""Pure functions from a statement and a catalog snapshot to a plan. No IO, no clock, no randomness."""
