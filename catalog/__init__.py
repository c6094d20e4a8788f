"""What every part must agree on: names, errors, configuration, and the versioned snapshot of the catalog.

Imports nothing of Domicile. No part of this package reads a clock; only `loader` does IO.
"""
