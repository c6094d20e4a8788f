"""What two agents say to each other: frames of a version, a kind and a bounded length. Bytes in, frames out.

A frame is `length (4 bytes, of what follows), kind (1 byte), body`. What is said once in a session is JSON, so that
a person can read it; changes are binary, each value as PostgreSQL's binary format has it. Nothing here may hold a
row's raw image: what goes into a frame has been masked.

    destination                       origin
    Hello  (who, how far)      ->
                               <-     Offer  (tables, columns; resume or copy anew)
    Ready                      ->
                               <-     Changes … Copied          (copy: the rows, then the position that they show)
                               <-     Changes … Commit, Beat …  (stream: transactions in commit order)
    Ack    (durable up to)     ->

Either says Alive when it has had nothing else to say, and may end the session by Refuse, which says why in words
that hold no row.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any

from .lsn import Lsn
from .pgoutput import PgTime

PROTOCOL_VERSION = 1
FRAME_BYTES_MAX = 64 << 20
"""A frame's length at most, so that no peer can make us hold more. One row must fit; batches stay far below."""
CHANGES_BYTES_GOAL = 256 << 10  #: a Changes frame is sent when it has grown to this
TABLES_MAX = 65_535

Row = tuple[bytes | None, ...]


class WireError(Exception):
    """The peer does not speak this protocol. Its text holds nothing of what was sent."""


@dataclass(frozen=True, slots=True)
class Hello:
    """The destination's first word. `copy` and `position` say what its copy was made from and holds, if it has one."""

    version: int
    region: str
    copy: str | None  #: the Offer.copy that its rows belong to
    position: Lsn | None


@dataclass(frozen=True, slots=True)
class OfferedTable:
    """Numbered by its place in the offer. `columns` are what is sent of each row, in this order."""

    schema: str
    name: str
    columns: tuple[tuple[str, str], ...]  #: name and type, as the origin's catalog spells them
    key: tuple[str, ...]  #: the primary key where all of it is sent, else empty: rows are then known by all values


@dataclass(frozen=True, slots=True)
class Offer:
    version: int
    region: str
    policy_version: int
    copy: str  #: names slot and masks together: rows of another copy can't be gone on from
    resume: bool  #: True: the stream goes on from Hello.position. False: all rows come first
    tables: tuple[OfferedTable, ...]


@dataclass(frozen=True, slots=True)
class Ready:
    """The destination has the tables, and (unless it resumes) has withdrawn what it held."""


class Kind(Enum):
    INSERT = 1
    UPDATE = 2
    DELETE = 3
    TRUNCATE = 4


@dataclass(frozen=True, slots=True)
class Change:
    """`old` is the key's values, or the whole row where the table has no key; for UPDATE only where they changed."""

    kind: Kind
    table: int
    old: Row | None = None
    new: Row | None = None


@dataclass(frozen=True, slots=True)
class Changes:
    """A part of one transaction (or of the first copy), in order."""

    changes: tuple[Change, ...]


@dataclass(frozen=True, slots=True)
class Commit:
    """Ends a transaction. `position` is where its commit record ends."""

    position: Lsn
    committed_at: PgTime


@dataclass(frozen=True, slots=True)
class Copied:
    """Ends the first copy: the rows are those visible at `position`."""

    position: Lsn
    at: PgTime


@dataclass(frozen=True, slots=True)
class Beat:
    """Between transactions: all that was committed before `at`, by the origin's clock, has been sent."""

    position: Lsn
    at: PgTime


@dataclass(frozen=True, slots=True)
class Ack:
    """Everything before `position` is durable at the destination."""

    position: Lsn


@dataclass(frozen=True, slots=True)
class Alive:
    """Nothing has happened, and that is the news."""


@dataclass(frozen=True, slots=True)
class Refuse:
    sqlstate: str
    message: str
    hint: str | None = None


Frame = Hello | Offer | Ready | Changes | Commit | Copied | Beat | Ack | Alive | Refuse

_HEADER = struct.Struct("!IB")
_POSITION_TIME = struct.Struct("!Qq")
_POSITION = struct.Struct("!Q")
_CHANGE = struct.Struct("!BHBB")  # kind, table, has old, has new
_COUNT = struct.Struct("!I")
_COLUMNS = struct.Struct("!H")
_LENGTH = struct.Struct("!i")

_HELLO, _OFFER, _READY, _CHANGES, _COMMIT, _COPIED, _BEAT, _ACK, _ALIVE, _REFUSE = range(1, 11)
_NULL = _LENGTH.pack(-1)


def encode(frame: Frame) -> bytes:
    """The frame's bytes. Raises ValueError past FRAME_BYTES_MAX."""
    match frame:
        case Changes(changes):
            kind, body = _CHANGES, _encode_changes(changes)
        case Commit(position, at):
            kind, body = _COMMIT, _POSITION_TIME.pack(position, at)
        case Beat(position, at):
            kind, body = _BEAT, _POSITION_TIME.pack(position, at)
        case Copied(position, at):
            kind, body = _COPIED, _POSITION_TIME.pack(position, at)
        case Ack(position):
            kind, body = _ACK, _POSITION.pack(position)
        case Ready():
            kind, body = _READY, b""
        case Alive():
            kind, body = _ALIVE, b""
        case Hello():
            position_text = None if frame.position is None else str(frame.position)
            kind, body = _HELLO, _json(frame.version, frame.region, frame.copy, position_text)
        case Offer():
            tables = [[t.schema, t.name, t.columns, t.key] for t in frame.tables]
            head = (frame.version, frame.region, frame.policy_version, frame.copy, frame.resume)
            kind, body = _OFFER, _json(*head, tables)
        case Refuse():
            kind, body = _REFUSE, _json(frame.sqlstate, frame.message, frame.hint)
    if len(body) >= FRAME_BYTES_MAX:
        raise ValueError(f"a frame of {len(body)} bytes; at most {FRAME_BYTES_MAX} may be sent")
    return _HEADER.pack(len(body) + 1, kind) + body


def _json(*values: Any) -> bytes:
    return json.dumps(values, ensure_ascii=False, separators=(",", ":")).encode()


def row_bytes(row: Row) -> int:
    """How long the row is in a frame."""
    return _COLUMNS.size + sum(_LENGTH.size + (len(v) if v is not None else 0) for v in row)


def _encode_changes(changes: Sequence[Change]) -> bytes:
    parts = [_COUNT.pack(len(changes))]
    for change in changes:
        has_old, has_new = change.old is not None, change.new is not None
        parts.append(_CHANGE.pack(change.kind.value, change.table, has_old, has_new))
        for row in (change.old, change.new):
            if row is None:
                continue
            parts.append(_COLUMNS.pack(len(row)))
            for value in row:
                if value is None:
                    parts.append(_NULL)
                else:
                    parts.append(_LENGTH.pack(len(value)))
                    parts.append(value)
    return b"".join(parts)


class Decoder:
    """Splits what arrives into frames, whatever the cuts. Holds at most one incomplete frame."""

    __slots__ = ("_buffer",)

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> Iterator[Frame]:
        """Each frame that `data` completes; use up the iterator before feeding on. Raises WireError."""
        self._buffer += data
        at = 0
        try:
            while len(self._buffer) - at >= _HEADER.size:
                length, kind = _HEADER.unpack_from(self._buffer, at)
                if not 1 <= length <= FRAME_BYTES_MAX:
                    raise WireError(f"a frame of {length} bytes")
                end = at + 4 + length
                if len(self._buffer) < end:
                    break
                body = bytes(memoryview(self._buffer)[at + _HEADER.size : end])
                at = end
                yield _decode(kind, body)
        finally:
            del self._buffer[:at]


def _decode(kind: int, body: bytes) -> Frame:
    try:
        match kind:
            case 4:
                return Changes(tuple(_decode_changes(body)))
            case 5:
                position, at = _POSITION_TIME.unpack(body)
                return Commit(Lsn(position), PgTime(at))
            case 6:
                position, at = _POSITION_TIME.unpack(body)
                return Copied(Lsn(position), PgTime(at))
            case 7:
                position, at = _POSITION_TIME.unpack(body)
                return Beat(Lsn(position), PgTime(at))
            case 8:
                return Ack(Lsn(_POSITION.unpack(body)[0]))
            case 3 if not body:
                return Ready()
            case 9 if not body:
                return Alive()
            case 1:
                version, region, copy, text = json.loads(body)
                return Hello(int(version), str(region), _maybe(copy), None if text is None else Lsn.parse(text))
            case 2:
                version, region, policy, copy, resume, tables = json.loads(body)
                return Offer(
                    int(version), str(region), int(policy), str(copy), bool(resume), tuple(map(_table, tables))
                )
            case 10:
                sqlstate, message, hint = json.loads(body)
                return Refuse(str(sqlstate), str(message), _maybe(hint))
    except (struct.error, ValueError, TypeError, AttributeError, RecursionError) as e:
        raise WireError(f"a malformed frame of kind {kind}: {type(e).__name__}") from None
    raise WireError(f"a frame of unknown kind {kind}")


def _maybe(value: Any) -> str | None:
    return None if value is None else str(value)


def _table(parts: Any) -> OfferedTable:
    schema, name, columns, key = parts
    return OfferedTable(
        str(schema),
        str(name),
        tuple((str(column), str(type_name)) for column, type_name in columns),
        tuple(map(str, key)),
    )


def _decode_changes(body: bytes) -> Iterator[Change]:
    count = _COUNT.unpack_from(body, 0)[0]
    at = _COUNT.size
    for _ in range(count):
        kind, table, has_old, has_new = _CHANGE.unpack_from(body, at)
        at += _CHANGE.size
        old = new = None
        if has_old:
            old, at = _decode_row(body, at)
        if has_new:
            new, at = _decode_row(body, at)
        yield Change(Kind(kind), table, old, new)
    if at != len(body):
        raise WireError("changes with bytes left over")


def _decode_row(body: bytes, at: int) -> tuple[Row, int]:
    columns = _COLUMNS.unpack_from(body, at)[0]
    at += _COLUMNS.size
    values: list[bytes | None] = []
    for _ in range(columns):
        length = _LENGTH.unpack_from(body, at)[0]
        at += 4
        if length == -1:
            values.append(None)
        elif length < 0:
            raise WireError("a value of negative length")
        else:
            values.append(body[at : at + length])
            at += length
    if at > len(body):
        raise WireError("a truncated row")
    return tuple(values), at
