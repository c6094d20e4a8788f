"""What of an error crosses a border."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domicile.catalog.names import region_name
from domicile.proxy import messages as m
from domicile.proxy.scrub import scrub

US = region_name("us")


def body(sqlstate: str, message: str, **fields: str) -> bytes:
    letters = {
        "S": "ERROR",
        "V": "ERROR",
        "C": sqlstate,
        "M": message,
        "F": "execMain.c",
        "R": "ExecConstraints",
    } | fields
    return b"".join(k.encode() + m.cstring(v) for k, v in letters.items()) + b"\0"


def scrubbed(sqlstate: str, message: str, **fields: str) -> dict[str, str]:
    return m.error_fields(scrub(body(sqlstate, message, **fields), US))


PASS = [
    ("42P01", 'relation "nowhere" does not exist'),
    ("42703", 'column "x" does not exist'),
    ("42501", "permission denied for view customers"),
    ("23505", 'duplicate key value violates unique constraint "customers_email_key"'),
    ("23514", 'new row for relation "customers" violates check constraint "customers_tier_check"'),
    ("44000", 'new row violates check option for view "customers"'),
    ("40001", "could not serialize access due to concurrent update"),
    ("40P01", "deadlock detected"),
    ("57014", "canceling statement due to statement timeout"),
    ("25P02", "current transaction is aborted, commands ignored until end of transaction block"),
    ("22012", "division by zero"),
    ("22003", "integer out of range"),
    ("22001", "value too long for type character varying(3)"),
    ("2201W", "LIMIT must not be negative"),
]


@pytest.mark.parametrize(("sqlstate", "message"), PASS)
def test_messages_made_of_names_pass(sqlstate: str, message: str) -> None:
    fields = scrubbed(sqlstate, message, H="A hint.", P="7", t="customers", n="x", D="(canary)", W="canary", q="canary")
    assert fields == {
        "S": "ERROR", "V": "ERROR", "C": sqlstate, "M": message, "H": "A hint.", "P": "7", "t": "customers", "n": "x",
        "F": "execMain.c", "R": "ExecConstraints",
    }  # fmt: skip


BAD_INTEGER = "invalid input syntax for type integer (value withheld)"
CUT = [
    (
        "22P02",
        'invalid input syntax for type integer: "canary"',
        BAD_INTEGER,
    ),
    ("22P02", 'invalid input value for enum mood: "canary"', "invalid input value for enum mood (value withheld)"),
    ("22003", 'value "canary" is out of range for type bigint', "value out of range for type bigint (value withheld)"),
    ("22008", 'date/time field value out of range: "canary"', "date/time field value out of range (value withheld)"),
    ("22P02", 'malformed array literal: "canary"', "malformed array literal (value withheld)"),
    (
        "22P02",
        'invalid input syntax for type integer: "a: b" canary',
        BAD_INTEGER,
    ),
]


@pytest.mark.parametrize(("sqlstate", "message", "left"), CUT)
def test_values_are_cut_off(sqlstate: str, message: str, left: str) -> None:
    fields = scrubbed(sqlstate, message, H="canary")
    assert (fields["M"], fields["C"], "H" in fields) == (left, sqlstate, False)


WITHHELD = [
    ("P0001", "canary", {}),
    ("23514", "canary", {"F": "pl_exec.c", "R": "exec_stmt_raise"}),
    ("42501", "canary", {"F": "pl_exec.c"}),
    ("57014", "canary", {"F": "plpy_elog.c"}),
    ("22P02", "canary", {}),
    ("22023", "invalid canary", {}),
    ("38000", "canary", {}),
    ("58P01", 'could not open file "canary"', {}),
    ("XX000", "canary", {}),
    ("22P02", 'ungültige Eingabesyntax für Typ integer: "canary"', {}),
    ("42601", "canary", {"F": ""}),
    ("23514", "canary", {"F": "pl_exec.c", "W": "PL/pgSQL function public.domicile.x() line 1 at RAISE"}),
    ("23514", "canary", {"F": "pl_exec.c", "W": "SQL statement x\nPL/pgSQL function domicile.x() line 1 at RAISE"}),
]


@pytest.mark.parametrize(("sqlstate", "message", "fields"), WITHHELD)
def test_all_else_says_no_more_than_its_sqlstate(sqlstate: str, message: str, fields: dict[str, str]) -> None:
    out = scrubbed(sqlstate, message, H="canary", D="canary", **fields)
    assert out["C"] == sqlstate
    assert f"{sqlstate} in region us" in out["M"]
    assert "canary" not in "".join(v for k, v in out.items() if k != "F")


def test_domiciles_own_functions_speak_for_themselves() -> None:
    context = "PL/pgSQL function domicile.keep_home() line 3 at RAISE\nSQL statement …"
    fields = scrubbed("23514", "this row is at home in eu", H="Move it.", D="canary", F="pl_exec.c", W=context)
    assert (fields["M"], fields["H"]) == ("this row is at home in eu", "Move it.")
    assert "canary" not in str(fields)


@given(st.binary(max_size=100))
def test_any_bytes_are_scrubbed_into_a_readable_error(junk: bytes) -> None:
    out = scrub(junk, US)
    assert out.endswith(b"\0\0")
    assert "M" in m.error_fields(out)


@given(st.text("abcdefgh ", min_size=1), st.sampled_from("DWqp"))
def test_detail_context_and_internal_query_never_pass(text: str, letter: str) -> None:
    assert letter not in scrubbed("23505", "duplicate", **{letter: text})
