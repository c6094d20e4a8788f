"""Lifting literals: where it answers, PostgreSQL's own scanner finds the same literals; elsewhere it gives way."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pglast.parser import ParseError, scan

from domicile.proxy.literals import lift


@pytest.mark.parametrize(
    ("text", "lifted", "values"),
    [
        ("select v from t where id = 42", "select v from t where id = $1", ["42"]),
        ("select 'O''Hara', -7, t1.c2", "select $1, -$2, t1.c2", ["O'Hara", "7"]),
        ("select ''", "select $1", [""]),
        ("select 1.5, 2", "select 1.5, $1", ["2"]),
        ("select 'a;b' where x in (1,2)", "select $1 where x in ($2,$3)", ["a;b", "1", "2"]),
    ],
)
def test_plain_literals_are_lifted(text: str, lifted: str, values: list[str]) -> None:
    assert lift(text) == (lifted, values)


@pytest.mark.parametrize(
    "text",
    [
        r"select E'a\'b'",
        "select $q$it's 1$q$",
        'select "it\'s 1" from t',
        "select 1 -- it's 2",
        "select /* 1 */ 2",
        "select B'101'",
        "select X'1F'",
        "select U&'d!0061t' UESCAPE '!'",
        "select 'a'\n'b'",
        "select $1",
        "select 'é'",
        r"select 'a\' or id=5 --'",
    ],
)
def test_what_is_not_plain_is_left_alone(text: str) -> None:
    assert lift(text) is None


_PIECES = ["select", " ", "1", "42", "'x'", "''", "'it''s'", "'", "-", "--", "/*", "*/", "$", "E", "x1", "1e5", "1_000"]
_PIECES += ["0x1F", ".5", "5.", "a.b", "(", ")", ",", "=", ";", '"', "\\", "\n", "$q$", "N'", "é", "interval '1 day'"]


@given(st.lists(st.sampled_from(_PIECES), max_size=14).map("".join))
def test_the_scanner_agrees_wherever_it_answers(text: str) -> None:
    found = lift(text)
    if found is None:
        return
    try:
        tokens = scan(text)
    except ParseError:
        return  # PostgreSQL refuses the text, lifted or not
    literals = [text[t.start : t.end + 1] for t in tokens if t.name in ("SCONST", "ICONST", "FCONST")]
    for value in found[1]:
        assert value in [one[1:-1].replace("''", "'") if one[0] == "'" else one for one in literals]
    assert not any(t.name in ("SQL_COMMENT", "C_COMMENT", "XCONST", "BCONST", "USCONST") for t in tokens)
