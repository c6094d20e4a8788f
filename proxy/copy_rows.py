"""Splits the data of COPY FROM STDIN into rows and finds some columns of each, sans-IO.

Rows are kept as the bytes that came, so that each region's PostgreSQL reads what the client wrote. Formats:
PostgreSQL documentation, "COPY", File Formats.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from ..catalog.errors import DomicileError

ROW_BYTES_MAX = 0x3FFFFFFF
"""A row is bounded as a field is: 1 GB."""

BINARY_SIGNATURE = b"PGCOPY\n\xff\r\n\0"

BAD_COPY_FORMAT = "22P04"


@dataclass(frozen=True, slots=True)
class Format:
    """The options of COPY that say where rows and fields end."""

    kind: str = "text"  #: text, csv or binary
    delimiter: bytes = b"\t"
    null: bytes = b"\\N"
    header: bool = False
    quote: bytes = b'"'
    escape: bytes = b'"'


@dataclass(frozen=True, slots=True)
class Row:
    data: bytes  #: with its line end, or the whole binary tuple
    key: tuple[bytes | None, ...]  #: the columns' values: unescaped text, or binary; None is NULL


class Splitter:
    """`feed` gives the whole rows that have come; `finish` the last one, without a line end.

    `head` is what every region must get first (the binary header, the header line), `tail` what it must get last.
    Raises DomicileError 22P04 where the data is not of the format or a row has too few columns.
    """

    def __init__(self, form: Format, columns: Sequence[int]) -> None:
        self.head = b""
        self.tail = b"\xff\xff" if form.kind == "binary" else b""
        self._form = form
        self._columns = tuple(columns)
        self._last = max(columns)
        self._rest = b""
        self._lines = 0
        self._ended = False
        self._headed = not (form.header or form.kind == "binary")
        self._take: Callable[[], list[Row]] = {
            "text": self._take_text,
            "csv": self._take_csv,
            "binary": self._take_binary,
        }[form.kind]

    def feed(self, data: bytes) -> list[Row]:
        self._rest += data
        if len(self._rest) > ROW_BYTES_MAX:
            raise self._bad("row is too long")
        return self._take()

    def finish(self) -> list[Row]:
        """The rest. Raises where it is not a whole row."""
        if self._form.kind == "binary":
            if self._rest or not self._ended:
                raise self._bad("unexpected EOF in COPY data")
            return []
        rows = []
        if self._rest:
            self._rest += b"\n"
            rows = self._take()
            if self._rest:
                raise self._bad("unterminated CSV quoted field" if self._form.kind == "csv" else "unexpected end")
        return rows

    def _bad(self, what: str) -> DomicileError:
        return DomicileError(BAD_COPY_FORMAT, f"COPY FROM STDIN: {what}", detail=f"At line {self._lines + 1}.")

    # --- text ----------------------------------------------------------------------------------------------------

    def _take_text(self) -> list[Row]:
        rows: list[Row] = []
        data = self._rest
        start = search = 0
        while (end := data.find(b"\n", search)) >= 0:
            back = end
            while back > start and data[back - 1] == 0x5C:
                back -= 1
            search = end + 1
            if (end - back) % 2:  # a backslash before it: the newline is data
                continue
            self._row(rows, data[start : end + 1], self._text_fields)
            start = search
        self._rest = data[start:]
        return rows

    def _row(self, rows: list[Row], line: bytes, fields: Callable[[bytes], list[bytes | None]]) -> None:
        self._lines += 1
        if not self._headed:
            self._headed = True
            self.head = line
            return
        bare = line.rstrip(b"\r\n")
        if self._ended or bare == b"\\.":
            self._ended = True
            return
        found = fields(bare)
        if len(found) <= self._last:
            raise self._bad("missing data for a column that names the row's home")
        rows.append(Row(line, tuple(found[i] for i in self._columns)))

    def _text_fields(self, line: bytes) -> list[bytes | None]:
        """The fields up to the last that is wanted."""
        if b"\\" not in line:
            fields = line.split(self._form.delimiter, self._last + 1)
        else:
            fields = self._escaped_fields(line)
        null = self._form.null
        return [None if f == null else _ESCAPE.sub(_unescape, f) if b"\\" in f else f for f in fields[: self._last + 1]]

    def _escaped_fields(self, line: bytes) -> list[bytes]:
        fields: list[bytes] = []
        start = position = 0
        delimiter = self._form.delimiter[0]
        while position < len(line) and len(fields) <= self._last:
            if line[position] == 0x5C:
                position += 1
            elif line[position] == delimiter:
                fields.append(line[start:position])
                start = position + 1
            position += 1
        fields.append(line[start:])
        return fields

    # --- CSV -----------------------------------------------------------------------------------------------------

    def _take_csv(self) -> list[Row]:
        rows: list[Row] = []
        data = self._rest
        start = search = 0
        while (end := data.find(b"\n", search)) >= 0:
            search = end + 1
            if self._open_quote(data[start:end]):  # the newline is data
                continue
            self._row(rows, data[start : end + 1], self._csv_fields)
            start = search
        self._rest = data[start:]
        return rows

    def _open_quote(self, line: bytes) -> bool:
        quote, escape = self._form.quote, self._form.escape
        if quote == escape:
            return line.count(quote) % 2 == 1
        inside = False
        position = 0
        while position < len(line):
            byte = line[position : position + 1]
            if inside and byte == escape and line[position + 1 : position + 2] in (quote, escape):
                position += 1
            elif byte == quote:
                inside = not inside
            position += 1
        return inside

    def _csv_fields(self, line: bytes) -> list[bytes | None]:
        """The fields up to the last that is wanted."""
        quote, escape, delimiter = self._form.quote, self._form.escape, self._form.delimiter
        fields: list[bytes | None] = []
        position = 0
        value = b""
        quoted = inside = False
        while len(fields) <= self._last:
            byte = line[position : position + 1]
            if inside:
                if byte == escape and line[position + 1 : position + 2] in (quote, escape):
                    value += line[position + 1 : position + 2]
                    position += 1
                elif byte == quote:
                    inside = False
                elif not byte:
                    break
                else:
                    value += byte
            elif byte == delimiter or not byte:
                fields.append(None if not quoted and value == self._form.null else value)
                value, quoted = b"", False
                if not byte:
                    break
            elif byte == quote:
                inside = quoted = True
            else:
                value += byte
            position += 1
        return fields

    # --- binary --------------------------------------------------------------------------------------------------

    def _take_binary(self) -> list[Row]:
        rows: list[Row] = []
        data = self._rest
        position = 0
        if not self._headed:
            if len(data) < 19:
                return rows
            if not data.startswith(BINARY_SIGNATURE):
                raise self._bad("COPY file signature not recognized")
            position = 19 + int.from_bytes(data[15:19], "big")
            if len(data) < position:
                return rows
            self.head, self._headed = data[:position], True
        while not self._ended:
            found = self._tuple(data, position)
            if found is None:
                break
            end, key = found
            if not self._ended:
                rows.append(Row(data[position:end], tuple(key[i] for i in self._columns)))
                self._lines += 1
            position = end
        self._rest = data[position:]
        return rows

    def _tuple(self, data: bytes, start: int) -> tuple[int, list[bytes | None]] | None:
        if len(data) < start + 2:
            return None
        count = int.from_bytes(data[start : start + 2], "big", signed=True)
        if count == -1:
            self._ended = True
            return start + 2, []
        if count <= self._last:
            raise self._bad("missing data for a column that names the row's home")
        position = start + 2
        fields: list[bytes | None] = []
        for _ in range(count):
            if len(data) < position + 4:
                return None
            length = int.from_bytes(data[position : position + 4], "big", signed=True)
            position += 4
            if length > 0 and len(data) < position + length:
                return None
            fields.append(data[position : position + length] if length >= 0 else None)
            position += max(length, 0)
        return position, fields


_ESCAPE = re.compile(rb"\\(?:x[0-9a-fA-F]{1,2}|[0-7]{1,3}|.)", re.DOTALL)
_LETTERS = {b"b": b"\b", b"f": b"\f", b"n": b"\n", b"r": b"\r", b"t": b"\t", b"v": b"\v"}


def _unescape(match: re.Match[bytes]) -> bytes:
    text = match.group()[1:]
    if text[:1] == b"x" and len(text) > 1:
        return bytes((int(text[1:], 16),))
    if text.isdigit() and text[0] < 0x38:
        return bytes((int(text, 8) & 0xFF,))
    return _LETTERS.get(text, text)
