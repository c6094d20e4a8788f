"""Text for other regions, written by splicing names into the client's own text, and read again before it is used."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from typing import Any

from ..catalog.errors import FEATURE_NOT_SUPPORTED, DomicileError
from ..catalog.names import QualifiedName, RegionName, border_schema, quote_identifier
from .parse import STATEMENT_TOO_COMPLEX, names, parse, too_complex, walk


@dataclass(frozen=True, slots=True)
class Name:
    """A table's name in the text: `parts` identifiers joined by dots, from byte `offset`."""

    offset: int
    parts: int
    table: QualifiedName
    columns: tuple[str, ...] = ()  #: to be listed behind it, where the client listed none


Edit = tuple[int, int, str]
"""Bytes start (inclusive) to end (exclusive), and what stands there instead."""

_SPACE = rb"(?:[ \t\r\n\f\v]|--[^\n\r]*|/\*(?:[^*/]|\*(?!/)|/(?!\*))*\*/)*"
_IDENTIFIER = rb'(?:"(?:[^"]|"")*"|[A-Za-z_\x80-\xff][A-Za-z0-9_$\x80-\xff]*)'
_ALIAS = re.compile(_SPACE + rb"as\b" + _SPACE + _IDENTIFIER, re.IGNORECASE)
_PART = {n: re.compile(_SPACE.join([_IDENTIFIER] + [rb"\." + _SPACE + _IDENTIFIER] * (n - 1))) for n in range(1, 4)}


def abroad(name: QualifiedName, here: RegionName) -> QualifiedName:
    """The table's name as this region's roles see it in any other region.

    >>> str(abroad(QualifiedName("sales", "orders"), RegionName("eu")))
    '"to_eu$sales"."orders"'
    """
    return QualifiedName(border_schema(name.schema, here), name.name)


def splice(text: str, edits: Sequence[Edit]) -> str:
    """The text with every edit made. Edits must not overlap."""
    source, out, at = text.encode(), list[bytes](), 0
    for start, end, new in sorted(edits, key=lambda e: e[:2]):
        assert start >= at, "edits overlap"
        out += [source[at:start], new.encode()]
        at = end
    out.append(source[at:])
    return b"".join(out).decode()


def edits_for(text: str, found: Sequence[Name], here: RegionName) -> list[Edit]:
    """The edits that replace the names by those of the border schema. Raises 0A000 where a name can't be found at its
    offset (a Unicode-escaped identifier, a nested comment inside a name)."""
    source = text.encode()
    edits = []
    for name in found:
        match = _PART[name.parts].match(source, name.offset)
        if match is None:
            raise _unspliceable(name.table)
        edits.append((name.offset, match.end(), str(abroad(name.table, here))))
        if name.columns:
            alias = _ALIAS.match(source, match.end())
            end = alias.end() if alias else match.end()
            edits.append((end, end, f" ({', '.join(map(quote_identifier, name.columns))})"))
    return edits


def for_abroad(text: str, found: Sequence[Name], here: RegionName) -> str:
    """The text with the managed tables' names replaced by those that `here`'s roles see elsewhere.

    It parses to the same tree but for those names, or DomicileError 0A000 is raised.
    """
    changed = splice(text, edits_for(text, found, here))
    verify(text, changed, found, here)
    return changed


def verify(text: str, changed: str, found: Sequence[Name], here: RegionName) -> None:
    """Raises 0A000 unless `changed` is `text` but for the replaced names."""
    expected = _expected(found, here)
    try:
        before, after = parse(text), parse(changed)
        same = len(before) == len(after) and all(
            b.kind == a.kind and _same(b.body, a.body, expected) for b, a in zip(before, after, strict=True)
        )
    except RecursionError:
        raise too_complex() from None
    except DomicileError as error:
        if error.sqlstate == STATEMENT_TOO_COMPLEX:
            raise
        same = False
    if not same:
        raise _unspliceable(found[0].table if found else QualifiedName("", "?"))


def verify_rows(
    text: str,
    changed: str,
    kept: Set[int],
    numbers: Mapping[int, int],
    found: Sequence[Name],
    here: RegionName,
) -> None:
    """Raises 0A000 unless `changed` is the INSERT of `text` with only the `kept` rows, its parameters renumbered and
    its names replaced."""
    expected = _expected(found, here)
    (before,), (after,) = parse(text), parse(changed)
    select = before.body["selectStmt"]["SelectStmt"]
    select["valuesLists"] = [row for i, row in enumerate(select["valuesLists"]) if i in kept]
    for kind, body in walk(before.body):
        if kind == "ParamRef":
            body["number"] = numbers.get(body.get("number", 0), 0)
    if not _same(before.body, after.body, expected):
        raise _unspliceable(found[0].table if found else QualifiedName("", "rows"))


Expected = Mapping[int, tuple[QualifiedName, tuple[str, ...]]]
"""By the byte offset of a name: what must stand there, and the columns listed behind it."""


def _expected(found: Sequence[Name], here: RegionName) -> Expected:
    return {name.offset: (abroad(name.table, here), name.columns) for name in found}


_PLACES = frozenset(
    {
        *("location", "stmt_len", "stmt_location", "list_start", "list_end"),
        *("rexpr_list_start", "rexpr_list_end", "arg_location", "payload_location"),
    }
)
_NAME_FIELDS = frozenset({"catalogname", "schemaname", "relname"})


def _same(a: Any, b: Any, expected: Expected) -> bool:
    if type(a) is dict:
        if type(b) is not dict:
            return False
        skip: frozenset[str] = _PLACES
        place = a.get("location", 0)
        if place in expected:
            name, _ = expected[place]
            if "relname" in a:
                if (b.get("schemaname"), b.get("relname")) != tuple(name) or "catalogname" in b:
                    return False
                skip = _PLACES | _NAME_FIELDS
            elif "fields" in a and len(a["fields"]) >= 3:
                star = "A_Star" in a["fields"][-1]
                rest = [*a["fields"][-1:]]
                here = names(b["fields"])
                if tuple(here[:2]) != tuple(name) or b["fields"][2:] != rest:
                    return False
                return len(here) == (2 if star else 3)
        relation = a.get("relation")
        if type(relation) is dict and (listed := expected.get(relation.get("location", 0), (None, ()))[1]):
            if _column_list(b) != listed or _column_list(a):
                return False
            skip = _PLACES | {"cols", "attlist"}
        for key, value in a.items():
            if key not in skip and (key not in b or not _same(value, b[key], expected)):
                return False
        return all(key in a or key in skip for key in b)
    if type(a) is list:
        return type(b) is list and len(a) == len(b) and all(map(_same, a, b, [expected] * len(a)))
    return bool(a == b)


def _column_list(body: Any) -> tuple[str, ...]:
    """The columns that an INSERT or a COPY lists."""
    if "cols" in body:
        return tuple(c["ResTarget"]["name"] for c in body["cols"])
    return names(body.get("attlist", []))


def _unspliceable(table: QualifiedName) -> DomicileError:
    return DomicileError(
        FEATURE_NOT_SUPPORTED,
        f"the name of {table} can't be replaced in this statement, so it can't run in another region",
        hint="Write the table's name plainly, without a Unicode escape or a comment inside it.",
    )


class Texts(Mapping[RegionName, str]):
    """The text for each region other than the client's own, written when first asked for and kept.

    The same text serves every foreign region: a border schema is named by where the reader is at home.
    Reading it may raise DomicileError 0A000 (see `for_abroad`).
    """

    __slots__ = ("_found", "_here", "_regions", "_text", "_written")

    def __init__(
        self,
        text: str,
        found: Sequence[Name],
        here: RegionName,
        regions: Sequence[RegionName],
        written: str | None = None,
    ) -> None:
        self._text, self._found, self._here = text, tuple(found), here
        self._regions = tuple(regions)
        self._written = written

    def __getitem__(self, region: RegionName) -> str:
        if region not in self._regions:
            raise KeyError(region)
        if self._written is None:
            self._written = for_abroad(self._text, self._found, self._here) if self._found else self._text
        return self._written

    def __iter__(self) -> Iterator[RegionName]:
        return iter(self._regions)

    def __len__(self) -> int:
        return len(self._regions)
