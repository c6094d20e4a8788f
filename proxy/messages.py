"""The PostgreSQL wire protocol, version 3, sans-IO: bytes in, messages out, and back.

Nothing here owns a socket, a clock or a log. Integers are big-endian. Message layouts: PostgreSQL documentation,
"Message Formats". A message is its type byte, a length that counts itself but not the type byte, and the body.

Two ways to split a stream:
 - `Walker.feed(chunk)` gives *runs*: byte ranges of whole messages, consecutive rows as one range, so that what is
   only forwarded is sliced once;
 - `messages(buffer, runs)` gives each message with its body, for those that are read.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from ..catalog.errors import PROTOCOL_VIOLATION, DomicileError

MESSAGE_BYTES_MAX = 0x3FFFFFFF
"""PostgreSQL's own bound on a message (PQ_LARGE_MESSAGE_LIMIT is MaxAllocSize, 1 GB - 1)."""

SMALL_MESSAGE_BYTES_MAX = 30_000
"""PostgreSQL's PQ_SMALL_MESSAGE_LIMIT is 10,000; SCRAM and startup messages of real clients stay far below."""

STARTUP_BYTES_MAX = 10_000
"""PostgreSQL's MAX_STARTUP_PACKET_LENGTH."""

PROTOCOL_3_0 = 196608
PROTOCOL_3_2 = 196610
CANCEL_REQUEST = 80877102
SSL_REQUEST = 80877103
GSSENC_REQUEST = 80877104

_LENGTH = struct.Struct("!I")
_HEADER = struct.Struct("!cI")
_INT16 = struct.Struct("!h")
_INT32 = struct.Struct("!i")


class B:
    """Types of messages that a server sends ("backend")."""

    AUTHENTICATION = ord("R")
    KEY_DATA = ord("K")
    BIND_COMPLETE = ord("2")
    CLOSE_COMPLETE = ord("3")
    COMMAND_COMPLETE = ord("C")
    COPY_DATA = ord("d")
    COPY_DONE = ord("c")
    COPY_IN = ord("G")
    COPY_OUT = ord("H")
    COPY_BOTH = ord("W")
    DATA_ROW = ord("D")
    EMPTY_QUERY = ord("I")
    ERROR = ord("E")
    FUNCTION_RESULT = ord("V")
    NEGOTIATE = ord("v")
    NO_DATA = ord("n")
    NOTICE = ord("N")
    NOTIFICATION = ord("A")
    PARAMETER_DESCRIPTION = ord("t")
    PARAMETER_STATUS = ord("S")
    PARSE_COMPLETE = ord("1")
    PORTAL_SUSPENDED = ord("s")
    READY = ord("Z")
    ROW_DESCRIPTION = ord("T")


class F:
    """Types of messages that a client sends ("frontend")."""

    BIND = ord("B")
    CLOSE = ord("C")
    COPY_DATA = ord("d")
    COPY_DONE = ord("c")
    COPY_FAIL = ord("f")
    DESCRIBE = ord("D")
    EXECUTE = ord("E")
    FLUSH = ord("H")
    FUNCTION_CALL = ord("F")
    PARSE = ord("P")
    PASSWORD = ord("p")  #: also SASLInitialResponse and SASLResponse
    QUERY = ord("Q")
    SYNC = ord("S")
    TERMINATE = ord("X")


class Run(NamedTuple):
    """Whole messages of one type at `buffer[start:end]`: one message, or consecutive DataRow or CopyData ones."""

    type: int
    start: int
    end: int


class Walker:
    """Splits a byte stream into whole messages, at whatever places it was cut.

    Holds at most one unfinished message; joining its pieces is linear in its size. `bytes_max` bounds a message:
    beyond it, or for a length below 4, `feed` raises DomicileError 08P01 and the stream is lost.
    """

    __slots__ = ("_missing", "_pieces", "bytes_max")

    def __init__(self, bytes_max: int = MESSAGE_BYTES_MAX) -> None:
        self.bytes_max = bytes_max
        self._pieces: list[bytes] = []
        self._missing = 0  #: bytes still to come before it is worth looking again

    def feed(self, chunk: bytes) -> tuple[bytes, list[Run]]:
        """The buffer and the runs of whole messages in it. What is left over is kept for the next call."""
        if self._pieces:
            self._pieces.append(chunk)
            self._missing -= len(chunk)
            if self._missing > 0:
                return b"", []
            chunk = b"".join(self._pieces)
            self._pieces.clear()
        runs: list[Run] = []
        position = 0
        size = len(chunk)
        unpack = _LENGTH.unpack_from
        bytes_max = self.bytes_max
        while size - position >= 5:
            length = unpack(chunk, position + 1)[0]
            if length < 4 or length > bytes_max:
                raise DomicileError(PROTOCOL_VIOLATION, f"invalid message length {length}")
            end = position + 1 + length
            if end > size:
                break
            kind = chunk[position]
            if (
                kind == 68 or kind == 100
            ):  # 'D' of a server, 'd' of either: on to the last of them, in a loop of its own
                while size - end >= 5 and chunk[end] == kind:
                    length = unpack(chunk, end + 1)[0]
                    if length < 4 or length > bytes_max or end + 1 + length > size:
                        break  # the loop around says which
                    end += 1 + length
            runs.append(Run(kind, position, end))
            position = end
        if position < size:
            rest = chunk[position:]
            self._pieces.append(rest)
            self._missing = (1 + unpack(rest, 1)[0] if len(rest) >= 5 else 5) - len(rest)
        return chunk, runs

    @property
    def pending_bytes(self) -> int:
        """Bytes held of an unfinished message."""
        return sum(map(len, self._pieces))


class Message(NamedTuple):
    type: int
    body: bytes  #: without type and length


def messages(buffer: bytes, runs: Iterable[Run]) -> Iterator[Message]:
    """Each message of the runs."""
    for run in runs:
        position = run.start
        while position < run.end:
            end = position + 1 + _LENGTH.unpack_from(buffer, position + 1)[0]
            yield Message(run.type, buffer[position + 5 : end])
            position = end


def message(kind: int, body: bytes = b"") -> bytes:
    """The message as it goes over the wire."""
    return bytes((kind,)) + _LENGTH.pack(len(body) + 4) + body


# --- reading bodies ----------------------------------------------------------------------------------------------


def _violation(what: str) -> DomicileError:
    return DomicileError(PROTOCOL_VIOLATION, f"invalid {what} message")


def _text(body: bytes, position: int, what: str) -> tuple[str, int]:
    end = body.find(b"\0", position)
    if end < 0:
        raise _violation(what)
    try:
        return body[position:end].decode(), end + 1
    except UnicodeDecodeError:
        raise DomicileError("22021", 'invalid byte sequence for encoding "UTF8"') from None


@dataclass(frozen=True, slots=True)
class Startup:
    """The first message: what the client asks for. `code` is the protocol version or a request code."""

    code: int
    parameters: dict[str, str]
    cancel_pid: int = 0
    cancel_key: bytes = b""


def startup(body: bytes) -> Startup:
    """The startup packet (after its length word). Raises 08P01 where it is malformed."""
    if len(body) < 4:
        raise _violation("startup")
    code = _LENGTH.unpack_from(body)[0]
    if code == CANCEL_REQUEST:
        if not 12 <= len(body) <= 4 + 4 + 256:
            raise _violation("cancel request")
        return Startup(code, {}, _LENGTH.unpack_from(body, 4)[0], body[8:])
    if code in (SSL_REQUEST, GSSENC_REQUEST):
        return Startup(code, {})
    parameters: dict[str, str] = {}
    position = 4
    while position < len(body) and body[position]:
        name, position = _text(body, position, "startup")
        value, position = _text(body, position, "startup")
        parameters[name] = value
    if position != len(body) - 1:
        raise _violation("startup")
    return Startup(code, parameters)


@dataclass(frozen=True, slots=True)
class Parse:
    name: str
    text: str
    types: tuple[int, ...]


def parse(body: bytes) -> Parse:
    name, position = _text(body, 0, "Parse")
    text, position = _text(body, position, "Parse")
    try:
        count = struct.unpack_from("!H", body, position)[0]
        types = struct.unpack_from(f"!{count}I", body, position + 2)
    except struct.error:
        raise _violation("Parse") from None
    if position + 2 + 4 * count != len(body):
        raise _violation("Parse")
    return Parse(name, text, types)


@dataclass(frozen=True, slots=True)
class Bind:
    portal: str
    statement: str
    formats: tuple[int, ...]  #: none: all text; one: for all; else one each
    values: tuple[bytes | None, ...]
    result_formats: tuple[int, ...]  #: the same convention

    def format(self, index: int) -> int:
        """The format code (0 text, 1 binary) of the value at `index` (from 0)."""
        if not self.formats:
            return 0
        return self.formats[0] if len(self.formats) == 1 else self.formats[index]


def bind(body: bytes) -> Bind:
    portal, position = _text(body, 0, "Bind")
    statement, position = _text(body, position, "Bind")
    try:
        formats, position = _codes(body, position)
        count = struct.unpack_from("!H", body, position)[0]
        position += 2
        values: list[bytes | None] = []
        for _ in range(count):
            length = _INT32.unpack_from(body, position)[0]
            position += 4
            if length == -1:
                values.append(None)
                continue
            if length < 0 or position + length > len(body):
                raise _violation("Bind")
            values.append(body[position : position + length])
            position += length
        result_formats, position = _codes(body, position)
    except struct.error:
        raise _violation("Bind") from None
    if position != len(body):
        raise _violation("Bind")
    if len(formats) > 1 and len(formats) != count:
        raise DomicileError(
            PROTOCOL_VIOLATION, f"bind message has {len(formats)} parameter formats but {count} parameters"
        )
    if any(code not in (0, 1) for code in (*formats, *result_formats)):
        raise DomicileError("22023", "unsupported format code")
    return Bind(portal, statement, formats, tuple(values), result_formats)


def _codes(body: bytes, position: int) -> tuple[tuple[int, ...], int]:
    count = struct.unpack_from("!H", body, position)[0]
    return struct.unpack_from(f"!{count}h", body, position + 2), position + 2 + 2 * count


def target(body: bytes) -> tuple[str, str]:
    """Of Describe and Close: ('S' or 'P', name)."""
    if not body or body[:1] not in (b"S", b"P"):
        raise _violation("Describe or Close")
    name, position = _text(body, 1, "Describe or Close")
    if position != len(body):
        raise _violation("Describe or Close")
    return chr(body[0]), name


def execute(body: bytes) -> tuple[str, int]:
    """(portal, rows_max); 0 is no limit."""
    portal, position = _text(body, 0, "Execute")
    if position + 4 != len(body):
        raise _violation("Execute")
    return portal, _LENGTH.unpack_from(body, position)[0]


def query(body: bytes) -> str:
    text, position = _text(body, 0, "Query")
    if position != len(body):
        raise _violation("Query")
    return text


class Field(NamedTuple):
    """A column of a RowDescription."""

    name: bytes
    table_oid: int
    attribute: int
    type_oid: int
    type_size: int
    type_modifier: int
    format: int


_FIELD = struct.Struct("!IhIhih")


def row_description(body: bytes) -> tuple[Field, ...]:
    fields = []
    position = 2
    try:
        for _ in range(struct.unpack_from("!H", body)[0]):
            end = body.index(b"\0", position)
            fields.append(Field(body[position:end], *_FIELD.unpack_from(body, end + 1)))
            position = end + 1 + _FIELD.size
    except (struct.error, ValueError):
        raise _violation("RowDescription") from None
    return tuple(fields)


def build_row_description(fields: Sequence[Field]) -> bytes:
    body = [struct.pack("!H", len(fields))]
    body.extend(f.name + b"\0" + _FIELD.pack(*f[1:]) for f in fields)
    return message(B.ROW_DESCRIPTION, b"".join(body))


def data_row(body: bytes) -> list[bytes | None]:
    """The values of a DataRow, in its own formats."""
    values: list[bytes | None] = []
    position = 2
    for _ in range(struct.unpack_from("!H", body)[0]):
        length = _INT32.unpack_from(body, position)[0]
        position += 4
        if length < 0:
            values.append(None)
        else:
            values.append(body[position : position + length])
            position += length
    return values


def parameter_description(body: bytes) -> tuple[int, ...]:
    return struct.unpack_from(f"!{struct.unpack_from('!H', body)[0]}I", body, 2)


def error_fields(body: bytes) -> dict[str, str]:
    """The fields of an ErrorResponse or NoticeResponse by their letter: 'C' SQLSTATE, 'M' message, …"""
    return {chr(f[0]): f[1:].decode(errors="replace") for f in body.split(b"\0") if f}


# --- writing -----------------------------------------------------------------------------------------------------


def cstring(text: str) -> bytes:
    return text.encode() + b"\0"


def build_startup(parameters: dict[str, str], code: int = PROTOCOL_3_0) -> bytes:
    body = _LENGTH.pack(code) + b"".join(cstring(k) + cstring(v) for k, v in parameters.items()) + b"\0"
    return _LENGTH.pack(len(body) + 4) + body


def build_cancel(pid: int, key: bytes) -> bytes:
    body = _LENGTH.pack(CANCEL_REQUEST) + _LENGTH.pack(pid) + key
    return _LENGTH.pack(len(body) + 4) + body


def build_query(text: str) -> bytes:
    return message(F.QUERY, cstring(text))


def build_parse(name: str, text: str, types: Sequence[int] = ()) -> bytes:
    return message(F.PARSE, cstring(name) + cstring(text) + struct.pack(f"!H{len(types)}I", len(types), *types))


def build_bind(
    portal: str,
    statement: str,
    formats: Sequence[int] = (),
    values: Sequence[bytes | None] = (),
    result_formats: Sequence[int] = (),
) -> bytes:
    body = [
        cstring(portal),
        cstring(statement),
        struct.pack(f"!H{len(formats)}h", len(formats), *formats),
        struct.pack("!H", len(values)),
    ]
    for value in values:
        if value is None:
            body.append(b"\xff\xff\xff\xff")
        else:
            body.append(_LENGTH.pack(len(value)))
            body.append(value)
    body.append(struct.pack(f"!H{len(result_formats)}h", len(result_formats), *result_formats))
    return message(F.BIND, b"".join(body))


def build_describe(what: str, name: str) -> bytes:
    return message(F.DESCRIBE, what.encode() + cstring(name))


def build_close(what: str, name: str) -> bytes:
    return message(F.CLOSE, what.encode() + cstring(name))


def build_execute(portal: str = "", rows_max: int = 0) -> bytes:
    return message(F.EXECUTE, cstring(portal) + _LENGTH.pack(rows_max))


SYNC = message(F.SYNC)
FLUSH = message(F.FLUSH)
TERMINATE = message(F.TERMINATE)

AUTHENTICATION_OK = message(B.AUTHENTICATION, _LENGTH.pack(0))
PARSE_COMPLETE = message(B.PARSE_COMPLETE)
BIND_COMPLETE = message(B.BIND_COMPLETE)
CLOSE_COMPLETE = message(B.CLOSE_COMPLETE)
NO_DATA = message(B.NO_DATA)
EMPTY_QUERY_RESPONSE = message(B.EMPTY_QUERY)
PORTAL_SUSPENDED = message(B.PORTAL_SUSPENDED)
READY = {status: message(B.READY, status.encode()) for status in "ITE"}
COPY_DONE = message(B.COPY_DONE)


def build_command_complete(tag: str) -> bytes:
    return message(B.COMMAND_COMPLETE, cstring(tag))


def build_parameter_status(name: str, value: str) -> bytes:
    return message(B.PARAMETER_STATUS, cstring(name) + cstring(value))


def build_key_data(pid: int, key: bytes) -> bytes:
    return message(B.KEY_DATA, _LENGTH.pack(pid) + key)


def build_parameter_description(types: Sequence[int]) -> bytes:
    return message(B.PARAMETER_DESCRIPTION, struct.pack(f"!H{len(types)}I", len(types), *types))


def build_data_row(values: Sequence[bytes | None]) -> bytes:
    body = [struct.pack("!H", len(values))]
    for value in values:
        if value is None:
            body.append(b"\xff\xff\xff\xff")
        else:
            body.append(_LENGTH.pack(len(value)))
            body.append(value)
    return message(B.DATA_ROW, b"".join(body))


def build_error(error: DomicileError, severity: str | None = None, kind: int = B.ERROR) -> bytes:
    """The error as an ErrorResponse (or, with `kind` NOTICE, as a NoticeResponse)."""
    level = severity or error.severity
    fields = [("S", level), ("V", level), ("C", error.sqlstate), ("M", error.message)]
    if error.detail:
        fields.append(("D", error.detail))
    if error.hint:
        fields.append(("H", error.hint))
    if error.position:
        fields.append(("P", str(error.position)))
    return message(kind, b"".join(letter.encode() + cstring(text) for letter, text in fields) + b"\0")


def error_of(body: bytes) -> DomicileError:
    """The ErrorResponse as a DomicileError (what PostgreSQL said, in our shape)."""
    fields = error_fields(body)
    position = fields.get("P", "")
    return DomicileError(
        fields.get("C", "XX000"),
        fields.get("M", ""),
        fields.get("D"),
        fields.get("H"),
        int(position) if position.isdigit() else None,
        fields.get("V", fields.get("S", "ERROR")),
    )
