"""The agents' protocol: any frame, at any cut of the stream, comes out as it went in; garbage never escapes."""

from __future__ import annotations

import contextlib
import struct
from typing import TypeVar

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domicile.replication import wire
from domicile.replication.lsn import Lsn
from domicile.replication.pgoutput import PgTime

positions = st.integers(0, 2**64 - 1).map(Lsn)
times = st.integers(-(2**63), 2**63 - 1).map(PgTime)
texts = st.text(max_size=20)
values = st.none() | st.binary(max_size=20)
row_values = st.lists(values, max_size=4).map(tuple)
changes = st.builds(
    wire.Change,
    st.sampled_from(wire.Kind),
    st.integers(0, wire.TABLES_MAX),
    st.none() | row_values,
    st.none() | row_values,
)
tables = st.builds(
    wire.OfferedTable,
    texts,
    texts,
    st.lists(st.tuples(texts, texts), max_size=3).map(tuple),
    st.lists(texts, max_size=2).map(tuple),
)
small = st.integers(0, 2**31)
frames: st.SearchStrategy[wire.Frame] = st.one_of(
    st.builds(wire.Hello, small, texts, st.none() | texts, st.none() | positions),
    st.builds(wire.Offer, small, texts, small, texts, st.booleans(), st.lists(tables, max_size=3).map(tuple)),
    st.just(wire.Ready()),
    st.just(wire.Alive()),
    st.builds(wire.Changes, st.lists(changes, max_size=5).map(tuple)),
    st.builds(wire.Commit, positions, times),
    st.builds(wire.Copied, positions, times),
    st.builds(wire.Beat, positions, times),
    st.builds(wire.Ack, positions),
    st.builds(wire.Refuse, texts, texts, st.none() | texts),
)
T = TypeVar("T")


@given(st.lists(frames, max_size=5), st.data())
def test_frames_survive_any_chunking(sent: list[wire.Frame], data: st.DataObject) -> None:
    stream = b"".join(map(wire.encode, sent))
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=8)))
    decoder = wire.Decoder()
    got: list[wire.Frame] = []
    for start, end in zip([0, *cuts], [*cuts, len(stream)], strict=True):
        got += decoder.feed(stream[start:end])
    assert got == sent


@given(st.binary(max_size=300))
def test_garbage_raises_nothing_but_its_own_error(data: bytes) -> None:
    with contextlib.suppress(wire.WireError):
        list(wire.Decoder().feed(data))


@given(st.integers(0, 12), st.binary(max_size=100))
def test_a_frame_with_a_garbled_body_raises_nothing_but_its_own_error(kind: int, body: bytes) -> None:
    with contextlib.suppress(wire.WireError):
        list(wire.Decoder().feed(struct.pack("!IB", len(body) + 1, kind) + body))


@given(frames, st.data())
def test_a_frame_with_one_byte_changed_is_another_frame_or_an_error(frame: wire.Frame, data: st.DataObject) -> None:
    encoded = bytearray(wire.encode(frame))
    place = data.draw(st.integers(4, len(encoded) - 1))
    encoded[place] ^= data.draw(st.integers(1, 255))
    with contextlib.suppress(wire.WireError):
        list(wire.Decoder().feed(bytes(encoded)))


@pytest.mark.parametrize("length", [0, wire.FRAME_BYTES_MAX + 1, 2**32 - 1])
def test_a_length_out_of_bounds_is_refused_before_anything_is_held(length: int) -> None:
    with pytest.raises(wire.WireError):
        list(wire.Decoder().feed(struct.pack("!IB", length, 4)))


def test_a_frame_over_the_bound_is_not_sent() -> None:
    change = wire.Change(wire.Kind.INSERT, 0, None, (bytes(wire.FRAME_BYTES_MAX),))
    with pytest.raises(ValueError, match="may be sent"):
        wire.encode(wire.Changes((change,)))


@given(row_values)
def test_a_row_is_as_long_as_it_is_said_to_be(row: wire.Row) -> None:
    with_row = wire.encode(wire.Changes((wire.Change(wire.Kind.INSERT, 0, None, row),)))
    without = wire.encode(wire.Changes((wire.Change(wire.Kind.INSERT, 0, None, None),)))
    assert len(with_row) - len(without) == wire.row_bytes(row)


def test_the_error_holds_nothing_of_what_was_sent() -> None:
    body = b'[1, "canary@secret.example"]'
    with pytest.raises(wire.WireError) as e:
        list(wire.Decoder().feed(struct.pack("!IB", len(body) + 1, 1) + body))
    assert "canary" not in str(e.value)
    assert e.value.__cause__ is None
