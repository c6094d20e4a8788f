"""What pgoutput says, as frozen values. Bytes in, messages out; no socket, no clock.

Protocol version 1 (whole transactions, in commit order), binary values, which stay the bytes that PostgreSQL sent.
Source: "Logical Replication Message Formats" of PostgreSQL's manual; the framing of the stream itself (XLogData,
keepalive, standby status) is from "Streaming Replication Protocol". All integers are big-endian. What a transaction
means for a destination does not belong here.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from enum import Enum
from typing import NewType

from .lsn import Lsn

PgTime = NewType("PgTime", int)
"""Microseconds since 2000-01-01 00:00 UTC, as PostgreSQL counts."""


class PgOutputError(Exception):
    """The bytes are not what the protocol says. Never raised for what a table may hold."""


class Marker(Enum):
    UNCHANGED = "unchanged"  #: a TOASTed value that the update left alone and the log does not repeat


UNCHANGED = Marker.UNCHANGED


@dataclass(frozen=True, slots=True)
class Text:
    """A value in text format: its type has no binary send function."""

    value: bytes


Value = bytes | Text | Marker | None
"""A column's value: the bytes of its type's binary format; None is NULL."""

Tuple = tuple[Value, ...]


@dataclass(frozen=True, slots=True)
class Begin:
    final_lsn: Lsn  #: where the commit record starts
    committed_at: PgTime
    xid: int


@dataclass(frozen=True, slots=True)
class Commit:
    commit_lsn: Lsn  #: where the commit record starts
    end_lsn: Lsn  #: where it ends: the position after this transaction
    committed_at: PgTime


@dataclass(frozen=True, slots=True)
class Origin:
    lsn: Lsn
    name: str


@dataclass(frozen=True, slots=True)
class RelationColumn:
    in_identity: bool
    name: str
    type_oid: int
    type_modifier: int


@dataclass(frozen=True, slots=True)
class Relation:
    """A table as it was when the changes that follow were made."""

    oid: int
    schema: str
    name: str
    identity: str  #: pg_class.relreplident: d, n, f or i
    columns: tuple[RelationColumn, ...]


@dataclass(frozen=True, slots=True)
class Type:
    oid: int
    schema: str
    name: str


@dataclass(frozen=True, slots=True)
class Insert:
    relation: int
    new: Tuple


@dataclass(frozen=True, slots=True)
class Update:
    relation: int
    old: Tuple | None  #: None: the log has neither the row nor the key
    new: Tuple
    old_is_whole: bool  #: under REPLICA IDENTITY FULL; else `old` is the key, and NULL in the other columns


@dataclass(frozen=True, slots=True)
class Delete:
    relation: int
    old: Tuple
    old_is_whole: bool


@dataclass(frozen=True, slots=True)
class Truncate:
    relations: tuple[int, ...]
    cascade: bool
    restart_identity: bool


@dataclass(frozen=True, slots=True)
class LogicalMessage:
    """What pg_logical_emit_message wrote. Outside of a transaction where `transactional` is False."""

    transactional: bool
    lsn: Lsn
    prefix: str
    content: bytes


Message = Begin | Commit | Origin | Relation | Type | Insert | Update | Delete | Truncate | LogicalMessage


@dataclass(frozen=True, slots=True)
class XLogData:
    start: Lsn
    payload: bytes


@dataclass(frozen=True, slots=True)
class Keepalive:
    wal_end: Lsn
    sent_at: PgTime
    reply_wanted: bool


_XLOG_HEADER = 25  # 'w', start, end, sent at
_I32 = struct.Struct("!i")
_U32 = struct.Struct("!I")
_U16 = struct.Struct("!H")
_BEGIN = struct.Struct("!QqI")
_COMMIT = struct.Struct("!BQQq")
_MESSAGE = struct.Struct("!BQ")
_KEEPALIVE = struct.Struct("!cQqB")
_STATUS = struct.Struct("!cQQQqB")


def frame(data: bytes) -> XLogData | Keepalive:
    """The CopyData body as what the WAL sender means by it. Raises PgOutputError."""
    match data[:1]:
        case b"w" if len(data) > _XLOG_HEADER:
            return XLogData(Lsn.from_bytes(data[1:9], "big"), data[_XLOG_HEADER:])
        case b"k" if len(data) == _KEEPALIVE.size:
            _, end, sent_at, reply = _KEEPALIVE.unpack(data)
            return Keepalive(Lsn(end), PgTime(sent_at), bool(reply))
    raise PgOutputError(f"neither data nor keepalive: {data[:1]!r}, {len(data)} bytes")


def standby_status(flushed: Lsn, now: PgTime) -> bytes:
    """The body that tells the WAL sender what is durable, so that the slot may move there and no further."""
    return _STATUS.pack(b"r", flushed, flushed, flushed, now, 0)


def decode(payload: bytes) -> Message:
    """The one message that the payload holds, to its last byte. Raises PgOutputError."""
    try:
        message, end = _decode(payload)
    except (struct.error, IndexError, ValueError) as e:  # UnicodeDecodeError is a ValueError
        raise PgOutputError(f"truncated or malformed message {payload[:1]!r}: {e}") from e
    if end != len(payload):
        raise PgOutputError(f"message {payload[:1]!r} has {len(payload) - end} bytes too many or too few")
    return message


def _decode(b: bytes) -> tuple[Message, int]:
    match b[:1]:
        case b"I":
            _expect(b, 5, b"N")
            new, end = _tuple(b, 6)
            return Insert(_U32.unpack_from(b, 1)[0], new), end
        case b"U":
            old: Tuple | None = None
            at = 5
            kind = b[at : at + 1]
            if kind in (b"K", b"O"):
                old, at = _tuple(b, at + 1)
            _expect(b, at, b"N")
            new, end = _tuple(b, at + 1)
            return Update(_U32.unpack_from(b, 1)[0], old, new, kind == b"O"), end
        case b"D":
            if b[5:6] not in (b"K", b"O"):
                raise PgOutputError(f"a delete with {b[5:6]!r} for the old row")
            before, end = _tuple(b, 6)
            return Delete(_U32.unpack_from(b, 1)[0], before, b[5:6] == b"O"), end
        case b"B":
            lsn, at_time, xid = _BEGIN.unpack_from(b, 1)
            return Begin(Lsn(lsn), PgTime(at_time), xid), 1 + _BEGIN.size
        case b"C":
            _, commit, end_lsn, at_time = _COMMIT.unpack_from(b, 1)
            return Commit(Lsn(commit), Lsn(end_lsn), PgTime(at_time)), 1 + _COMMIT.size
        case b"R":
            return _relation(b)
        case b"Y":
            schema, at = _text(b, 5)
            name, at = _text(b, at)
            return Type(_U32.unpack_from(b, 1)[0], schema, name), at
        case b"T":
            count = _U32.unpack_from(b, 1)[0]
            end = 6 + 4 * count
            if end > len(b):
                raise PgOutputError("truncated list of relations")
            return Truncate(struct.unpack_from(f"!{count}I", b, 6), bool(b[5] & 1), bool(b[5] & 2)), end
        case b"M":
            flags, lsn = _MESSAGE.unpack_from(b, 1)
            prefix, at = _text(b, 10)
            end = at + 4 + _U32.unpack_from(b, at)[0]
            return LogicalMessage(bool(flags & 1), Lsn(lsn), prefix, b[at + 4 : end]), end
        case b"O":
            name, at = _text(b, 9)
            return Origin(Lsn.from_bytes(b[1:9], "big"), name), at
    raise PgOutputError(f"unknown message {b[:1]!r}")


def _expect(b: bytes, at: int, kind: bytes) -> None:
    if b[at : at + 1] != kind:
        raise PgOutputError(f"expected {kind!r}, got {b[at : at + 1]!r}")


def _text(b: bytes, at: int) -> tuple[str, int]:
    end = b.index(0, at)
    return b[at:end].decode(), end + 1


def _relation(b: bytes) -> tuple[Relation, int]:
    oid = _U32.unpack_from(b, 1)[0]
    schema, at = _text(b, 5)
    name, at = _text(b, at)
    identity = chr(b[at])
    count = _U16.unpack_from(b, at + 1)[0]
    at += 3
    columns = []
    for _ in range(count):
        column, end = _text(b, at + 1)
        type_oid = _U32.unpack_from(b, end)[0]
        modifier = _I32.unpack_from(b, end + 4)[0]
        columns.append(RelationColumn(bool(b[at] & 1), column, type_oid, modifier))
        at = end + 8
    # An empty schema means pg_catalog (logicalrep_write_namespace).
    return Relation(oid, schema or "pg_catalog", name, identity, tuple(columns)), at


def _tuple(b: bytes, at: int) -> tuple[Tuple, int]:
    """The row that begins at `at`, and where it ends. The hot loop of the stream."""
    count = _U16.unpack_from(b, at)[0]
    at += 2
    values: list[Value] = []
    append = values.append
    unpack = _U32.unpack_from
    for _ in range(count):
        kind = b[at]
        if kind == 98:  # b: binary
            start = at + 5
            at = start + unpack(b, at + 1)[0]
            append(b[start:at])
        elif kind == 110:  # n: NULL
            append(None)
            at += 1
        elif kind == 117:  # u
            append(UNCHANGED)
            at += 1
        elif kind == 116:  # t: text
            start = at + 5
            at = start + unpack(b, at + 1)[0]
            append(Text(b[start:at]))
        else:
            raise PgOutputError(f"unknown kind of column value {chr(kind)!r}")
    if at > len(b):
        raise PgOutputError("truncated row")
    return tuple(values), at
