"""The codec: one table of messages drives reading and writing; any cut of the stream gives the same messages."""

from __future__ import annotations

import contextlib
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domicile.catalog.errors import DomicileError
from domicile.proxy import messages as m

CASES: list[tuple[bytes, object]] = [
    (m.build_parse("s1", "select $1::int", (23,)), m.Parse("s1", "select $1::int", (23,))),
    (m.build_parse("", "", ()), m.Parse("", "", ())),
    (
        m.build_bind("p", "s", (0, 1), (b"a", None), (1,)),
        m.Bind("p", "s", (0, 1), (b"a", None), (1,)),
    ),
    (m.build_bind("", ""), m.Bind("", "", (), (), ())),
    (m.build_describe("S", "x"), ("S", "x")),
    (m.build_close("P", "ünï"), ("P", "ünï")),
    (m.build_execute("c", 7), ("c", 7)),
    (m.build_query("select 1; select 2"), "select 1; select 2"),
]
READERS = {"P": m.parse, "B": m.bind, "D": m.target, "C": m.target, "E": m.execute, "Q": m.query}


@pytest.mark.parametrize(("wire", "meaning"), CASES)
def test_what_is_built_is_what_is_read(wire: bytes, meaning: object) -> None:
    buffer, runs = m.Walker().feed(wire)
    (got,) = m.messages(buffer, runs)
    assert READERS[chr(got.type)](got.body) == meaning


@pytest.mark.parametrize(("wire", "_meaning"), CASES)
def test_a_body_cut_or_lengthened_is_refused_and_nothing_else_escapes(wire: bytes, _meaning: object) -> None:
    read = READERS[chr(wire[0])]
    body = wire[5:]
    for cut in range(len(body)):
        with pytest.raises(DomicileError):
            read(body[:cut])
    with pytest.raises(DomicileError):
        read(body + b"x")


@given(st.data())
def test_any_cut_of_the_stream_gives_the_same_messages(data: st.DataObject) -> None:
    kinds = st.sampled_from(list(b"DCZETSd1"))
    sent = data.draw(st.lists(st.tuples(kinds, st.binary(max_size=40)), max_size=12))
    stream = b"".join(m.message(kind, body) for kind, body in sent)
    walker = m.Walker()
    got: list[m.Message] = []
    forwarded = b""
    while stream:
        size = data.draw(st.integers(1, len(stream)))
        buffer, runs = walker.feed(stream[:size])
        got.extend(m.messages(buffer, runs))
        forwarded += b"".join(buffer[r.start : r.end] for r in runs)
        stream = stream[size:]
    assert [(g.type, g.body) for g in got] == sent
    assert forwarded == b"".join(m.message(kind, body) for kind, body in sent)
    assert walker.pending_bytes == 0


def test_a_value_that_looks_like_ready_for_query_is_a_value() -> None:
    """A bytea that holds the bytes of ReadyForQuery at the end of a chunk once freed another client's backend."""
    row = m.build_data_row([b"x" * 100 + m.READY["I"]])
    walker = m.Walker()
    _buffer, runs = walker.feed(row + m.build_data_row([b"rest"])[:7])
    assert [chr(r.type) for r in runs] == ["D"]


def test_rows_in_a_row_are_one_run() -> None:
    rows = m.build_data_row([b"1"]) * 1000
    _, runs = m.Walker().feed(rows + m.build_command_complete("SELECT 1000"))
    assert [(chr(r.type), r.end - r.start) for r in runs] == [("D", len(rows)), ("C", 17)]


@pytest.mark.parametrize("length", [0, 3, 0x40000000, 0xFFFFFFFF])
def test_a_bad_length_word_is_refused_at_once(length: int) -> None:
    with pytest.raises(DomicileError, match="length") as refused:
        m.Walker().feed(b"Q" + struct.pack("!I", length))
    assert refused.value.sqlstate == "08P01"


@given(st.binary(max_size=300))
def test_garbage_never_escapes_the_error_type(garbage: bytes) -> None:
    for read in (*READERS.values(), m.startup, m.row_description):
        with contextlib.suppress(DomicileError):
            read(garbage)


@given(
    st.lists(st.none() | st.binary(max_size=30), max_size=20),
    st.lists(st.tuples(st.binary(max_size=9).filter(lambda b: b"\0" not in b), st.integers(0, 2**32 - 1)), max_size=9),
)
def test_rows_and_their_descriptions_round_trip(values: list[bytes | None], names: list[tuple[bytes, int]]) -> None:
    assert m.data_row(m.build_data_row(values)[5:]) == values
    fields = tuple(m.Field(name, oid, 1, 25, -1, -1, 0) for name, oid in names)
    assert m.row_description(m.build_row_description(fields)[5:]) == fields


def test_an_error_round_trips_with_its_position() -> None:
    error = DomicileError("0A000", "no", "because", "do this", 12)
    assert m.error_of(m.build_error(error)[5:]) == error
