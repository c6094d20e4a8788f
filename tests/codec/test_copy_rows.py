"""COPY data is split into the rows that PostgreSQL would see, at whatever places it was cut."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domicile.catalog.errors import DomicileError
from domicile.proxy.copy_rows import BINARY_SIGNATURE, Format, Splitter

CSV = Format("csv", b",", b"")
BINARY = Format("binary")
_TUPLE = b"\0\2" + b"\0\0\0\1a" + b"\0\0\0\2DE"

CASES = [
    (Format(), b"1\tDE\tx\n2\t\\N\ty\n", [b"DE", None]),
    (Format(), b"1\tD\\tE\\\\\tx", [b"D\tE\\"]),
    (Format(), b"1\tD\\\nE\tx\n2\t\\105\\x41\n", [b"D\nE", b"EA"]),
    (Format(), b"1\tDE\r\n\\.\nignored\tXX\n", [b"DE"]),
    (Format(delimiter=b"|", null=b""), b"a\\|b|DE|\nb||\n", [b"DE", None]),
    (Format(header=True), b"id\tcountry\n1\tDE\n", [b"DE"]),
    (CSV, b'1,DE\n2,"D,E"\n3,\n4,""\n', [b"DE", b"D,E", None, b""]),
    (CSV, b'1,"D""E\nF"\n"x\ny",FR\n', [b'D"E\nF', b"FR"]),
    (Format("csv", b";", b"-", True, b"'", b"\\"), b"a;b\n1;'D\\'E'\n2;-\n", [b"D'E", None]),
    (
        BINARY,
        BINARY_SIGNATURE + bytes(8) + _TUPLE + b"\0\2\xff\xff\xff\xff\xff\xff\xff\xff" + b"\xff\xff",
        [b"DE", None],
    ),
]


@pytest.mark.parametrize(("form", "data", "keys"), CASES)
@given(cuts=st.data())
def test_rows_and_keys_at_any_cut(form: Format, data: bytes, keys: list[bytes | None], cuts: st.DataObject) -> None:
    splitter = Splitter(form, [1])
    rows = []
    rest = data
    while rest:
        size = cuts.draw(st.integers(1, len(rest)))
        rows += splitter.feed(rest[:size])
        rest = rest[size:]
    rows += splitter.finish()
    assert [row.key for row in rows] == [(key,) for key in keys]
    if form.kind == "binary":
        assert splitter.head + b"".join(row.data for row in rows) + splitter.tail == data


@pytest.mark.parametrize(
    ("form", "data"),
    [
        (Format(), b"only one\n"),
        (CSV, b'1,"never closed\n'),
        (BINARY, b"not a signature at all"),
        (BINARY, BINARY_SIGNATURE + bytes(8) + _TUPLE),
        (BINARY, BINARY_SIGNATURE + bytes(8) + b"\0\1\0\0\0\1a\xff\xff"),
    ],
)
def test_what_is_not_of_the_format_is_refused(form: Format, data: bytes) -> None:
    splitter = Splitter(form, [1])

    def read() -> None:
        splitter.feed(data)
        splitter.finish()

    with pytest.raises(DomicileError) as refused:
        read()
    assert refused.value.sqlstate == "22P04"
