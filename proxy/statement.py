"""Statements of a session: as prepared, as described by the home region, and as bound to values."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ..planner.plan import Plan
from . import messages as m
from .backend import Backend

LONG_STATEMENT_BYTES = 20_000
"""Statements beyond this are planned in a thread: the parser releases the GIL, and other sessions go on."""


@dataclass(frozen=True, slots=True)
class Described:
    """What the home region says of a statement: parameter types, and its RowDescription (whole) or NoData."""

    types: tuple[int, ...]
    description: bytes

    @property
    def fields(self) -> tuple[m.Field, ...]:
        return m.row_description(self.description[5:]) if self.description[0] == m.B.ROW_DESCRIPTION else ()

    def formatted(self, formats: Sequence[int]) -> bytes:
        """The description as a portal with these result formats has it."""
        if self.description[0] != m.B.ROW_DESCRIPTION or not formats:
            return self.description
        return m.build_row_description(
            [
                f._replace(format=formats[0] if len(formats) == 1 else formats[i])
                for i, f in enumerate(self.fields)
                if len(formats) == 1 or i < len(formats)
            ]
        )


@dataclass(slots=True)
class Statement:
    name: str
    text: str
    types: tuple[int, ...]
    plan: Plan
    described: Described | None = None

    @property
    def known_types(self) -> tuple[int, ...]:
        """The parameters' types as PostgreSQL found them, else as the client gave them."""
        return self.described.types if self.described is not None else self.types


@dataclass(slots=True)
class Bound:
    """A statement with its values, ready to run."""

    statement: Statement
    portal: str = ""
    formats: tuple[int, ...] = ()
    values: tuple[bytes | None, ...] = ()
    result_formats: tuple[int, ...] = ()
    rows_max: int = 0
    tell_description: bool = False  #: the client wants RowDescription (simple protocol, or Describe of the portal)
    tell_no_data: bool = False  #: and, by Describe, that there is none
    running: Backend | None = None  #: where the portal is open, suspended by a row limit
    ended: bool = False

    @property
    def plan(self) -> Plan:
        return self.statement.plan
