"""The decoder against bytes: each message of the manual, whole, cut short and with bytes left over."""

from __future__ import annotations

import contextlib
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domicile.replication import pgoutput as p
from domicile.replication.lsn import Lsn


def tuple_bytes(*values: p.Value) -> bytes:
    parts = [struct.pack("!H", len(values))]
    for value in values:
        if value is None:
            parts.append(b"n")
        elif value is p.UNCHANGED:
            parts.append(b"u")
        elif isinstance(value, p.Text):
            parts.append(b"t" + struct.pack("!I", len(value.value)) + value.value)
        else:
            assert isinstance(value, bytes)
            parts.append(b"b" + struct.pack("!I", len(value)) + value)
    return b"".join(parts)


OLD, NEW = (b"\0\0\0\x01", "Zoë".encode(), None), (b"\0\0\0\x01", p.UNCHANGED, b"")

MESSAGES: list[tuple[bytes, p.Message]] = [
    (
        bytes.fromhex("42 0000000001a2b3c0 0002f4d2a1b3c4d5 000002e5"),
        p.Begin(Lsn(0x1A2B3C0), p.PgTime(0x2F4D2A1B3C4D5), 741),
    ),
    (
        bytes.fromhex("43 00 0000000001a2b3c0 0000000001a2b3f0 0002f4d2a1b3c4d5"),
        p.Commit(Lsn(0x1A2B3C0), Lsn(0x1A2B3F0), p.PgTime(0x2F4D2A1B3C4D5)),
    ),
    (b"O" + struct.pack("!Q", 7) + b"pg_16400\0", p.Origin(Lsn(7), "pg_16400")),
    (
        b"R"
        + struct.pack("!I", 16400)
        + b"public\0Ku\xc3\xb1den\0f"
        + struct.pack("!H", 2)
        + b"\x01id\0"
        + struct.pack("!Ii", 20, -1)
        + b"\x00na me\0"
        + struct.pack("!Ii", 1043, 14),
        p.Relation(
            16400,
            "public",
            "Kuñden",
            "f",
            (p.RelationColumn(True, "id", 20, -1), p.RelationColumn(False, "na me", 1043, 14)),
        ),
    ),
    (
        b"R" + struct.pack("!I", 1259) + b"\0pg_class\0n" + struct.pack("!H", 0),
        p.Relation(1259, "pg_catalog", "pg_class", "n", ()),
    ),
    (b"Y" + struct.pack("!I", 16500) + b"sales\0mood\0", p.Type(16500, "sales", "mood")),
    (b"I" + struct.pack("!I", 5) + b"N" + tuple_bytes(*OLD), p.Insert(5, OLD)),
    (b"I" + struct.pack("!I", 5) + b"N" + tuple_bytes(p.Text(b"x")), p.Insert(5, (p.Text(b"x"),))),
    (
        b"U" + struct.pack("!I", 5) + b"O" + tuple_bytes(*OLD) + b"N" + tuple_bytes(*NEW),
        p.Update(5, OLD, NEW, True),
    ),
    (
        b"U" + struct.pack("!I", 5) + b"K" + tuple_bytes(*OLD) + b"N" + tuple_bytes(*NEW),
        p.Update(5, OLD, NEW, False),
    ),
    (b"U" + struct.pack("!I", 5) + b"N" + tuple_bytes(*NEW), p.Update(5, None, NEW, False)),
    (b"D" + struct.pack("!I", 5) + b"O" + tuple_bytes(*OLD), p.Delete(5, OLD, True)),
    (b"D" + struct.pack("!I", 5) + b"K" + tuple_bytes(*OLD), p.Delete(5, OLD, False)),
    (b"T" + struct.pack("!IB2I", 2, 3, 5, 6), p.Truncate((5, 6), True, True)),
    (b"T" + struct.pack("!IBI", 1, 0, 5), p.Truncate((5,), False, False)),
    (
        b"M\x01" + struct.pack("!Q", 9) + b"domicile.beat\0" + struct.pack("!I", 3) + b"a b",
        p.LogicalMessage(True, Lsn(9), "domicile.beat", b"a b"),
    ),
    (b"M\x00" + struct.pack("!Q", 9) + b"\0" + struct.pack("!I", 0), p.LogicalMessage(False, Lsn(9), "", b"")),
]


@pytest.mark.parametrize(("data", "message"), MESSAGES, ids=[type(m).__name__ for _, m in MESSAGES])
def test_each_message(data: bytes, message: p.Message) -> None:
    assert p.decode(data) == message


@pytest.mark.parametrize("data", [d for d, _ in MESSAGES], ids=[type(m).__name__ for _, m in MESSAGES])
def test_a_message_cut_anywhere_or_too_long_is_refused(data: bytes) -> None:
    for length in range(len(data)):
        with pytest.raises(p.PgOutputError):
            p.decode(data[:length])
    with pytest.raises(p.PgOutputError):
        p.decode(data + b"\0")


@given(st.binary(max_size=200) | st.builds(bytes.__add__, st.sampled_from([b"I", b"U", b"R", b"T", b"M"]), st.binary()))
def test_garbage_raises_nothing_but_its_own_error(data: bytes) -> None:
    with contextlib.suppress(p.PgOutputError):
        p.decode(data)


def test_frames() -> None:
    data = b"w" + struct.pack("!QQq", 100, 200, 300) + b"I..."
    assert p.frame(data) == p.XLogData(Lsn(100), b"I...")
    assert p.frame(b"k" + struct.pack("!QqB", 200, 300, 1)) == p.Keepalive(Lsn(200), p.PgTime(300), True)
    for wrong in (b"", b"k", b"w" + bytes(24), b"x" + bytes(30), b"k" + bytes(18)):
        with pytest.raises(p.PgOutputError):
            p.frame(wrong)


def test_a_status_names_the_flushed_position_three_times() -> None:
    assert p.standby_status(Lsn(5), p.PgTime(6)) == b"r" + struct.pack("!QQQqB", 5, 5, 5, 6, 0)


@given(st.integers(0, 2**64 - 1))
def test_positions_are_printed_as_postgresql_prints_them(value: int) -> None:
    assert Lsn.parse(str(Lsn(value))) == value


@pytest.mark.parametrize("text", ["", "1", "/", "1/", "/1", "123456789/0", "0/123456789", "x/1"])
def test_what_is_no_position(text: str) -> None:
    with pytest.raises(ValueError, match=r"position|invalid literal"):
        Lsn.parse(text)
