"""The mask functions: what they show and hide, over every kind of value, on the oldest and the newest PostgreSQL."""

from __future__ import annotations

import hashlib
import hmac
import uuid
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest

from domicile.embedded import EmbeddedServer

from .mask_database import mask_database

Connection = psycopg.Connection[tuple[Any, ...]]

KEY = bytes(range(32))
ZERO = "'\\x00'::bytea"
TEXTS = ["", "a", "Zoë", "李小龍", "a\\b\\x41", "\\x4142", 'o\'clock "x"', "x" * 100_000, "👩‍🚀 e\u0301"]


@pytest.fixture(scope="module")
def db(server: EmbeddedServer) -> Iterator[Connection]:
    with mask_database(server) as connection:
        connection.execute(
            "insert into domicile.mask_key (domain, key) values ('d', %s), ('other', %s)", (KEY, KEY[::-1])
        )
        yield connection


def one(db: Connection, sql: str, *parameters: object) -> Any:
    row = db.execute(sql.encode(), parameters or None).fetchone()
    assert row is not None
    return row[0] if len(row) == 1 else row


def digest(data: bytes, key: bytes = KEY) -> bytes:
    return hmac.new(key, data, hashlib.sha256).digest()


@pytest.mark.parametrize("key", [b"", b"k", b"x" * 64, b"y" * 65, b"z" * 200])
def test_hmac_is_that_of_the_standard(db: Connection, key: bytes) -> None:
    for data in (b"", b"what do ya want for nothing?", bytes(range(256))):
        assert one(db, "select domicile.hmac_sha256(%s, %s)", key, data) == digest(data, key)


@pytest.mark.parametrize("value", TEXTS)
def test_a_pseudonym_of_text_is_128_bits_of_the_hmac(db: Connection, value: str) -> None:
    assert one(db, "select domicile.pseudonym(%s::text, 'd')", value) == digest(value.encode())[:16].hex()


def test_pseudonyms_of_other_types_keep_the_type(db: Connection) -> None:
    u = uuid.UUID("5e5c7a0e-3b1f-4a55-9d0b-0c5f2d6f0a01")
    got = one(db, "select domicile.pseudonym(%s::uuid, 'd')", u)
    assert (got.version, got.variant) == (8, uuid.RFC_4122)
    wanted = digest(u.bytes)[:16].hex()
    assert got.hex == wanted[:12] + "8" + wanted[13:16] + "8" + wanted[17:]
    assert one(db, "select domicile.pseudonym(%s::bytea, 'd')", b"\0\xff") == digest(b"\0\xff")
    for value in (0, -1, 2**31 - 1, -(2**31)):
        assert (
            one(db, "select domicile.pseudonym(%s::int, 'd')", value)
            == int.from_bytes(digest(value.to_bytes(4, "big", signed=True))[:4], "big") & 0x7FFF_FFFF
        )
    for value in (0, -1, 2**63 - 1, -(2**63)):
        assert (
            one(db, "select domicile.pseudonym(%s::bigint, 'd')", value)
            == int.from_bytes(digest(value.to_bytes(8, "big", signed=True))[:8], "big") & 2**63 - 1
        )


@pytest.mark.parametrize("type_name", ["text", "varchar", "uuid", "int", "bigint", "bytea"])
def test_null_and_a_lost_key_give_null(db: Connection, type_name: str) -> None:
    assert one(db, f"select domicile.pseudonym(null::{type_name}, 'd')") is None
    sample = {"uuid": "gen_random_uuid()", "bytea": ZERO}.get(type_name, f"'1'::{type_name}")
    assert one(db, f"select domicile.pseudonym({sample}, 'no such domain')") is None
    assert one(db, f"select domicile.pseudonym({sample})") is None
    assert one(db, f"select domicile.pseudonym_with({sample}, null, null)") is None


def test_domains_are_unlinkable_and_one_domain_is_joinable(db: Connection) -> None:
    a, again, other = one(
        db, "select domicile.pseudonym('x', 'd'), domicile.pseudonym('x', 'd'), domicile.pseudonym('x', 'other')"
    )
    assert a == again != other


def test_new_keys_are_random_and_whole(db: Connection) -> None:
    keys = db.execute("select domicile.new_mask_key() from generate_series(1, 100)").fetchall()
    assert len({k for (k,) in keys}) == 100
    assert {len(k) for (k,) in keys} == {32}


def test_only_the_views_owner_reads_keys(db: Connection) -> None:
    db.execute("create role curious")
    assert one(
        db,
        "select has_table_privilege('curious', 'domicile.mask_key', 'select'),"
        " has_any_column_privilege('curious', 'domicile.mask_key', 'select'),"
        " has_table_privilege('domicile_views', 'domicile.mask_key', 'select')",
    ) == (False, False, True)


@pytest.mark.parametrize(
    ("arguments", "shown"),
    [
        ("'Anna', 1", "A***"),
        ("'Anna', 1, 1", "A***a"),
        ("'Anna', 2, 2", "***"),
        ("'Anna', 3, 2", "***"),
        ("'Anna', 0", "***"),
        ("'', 0", "***"),
        ("'', 3", "***"),
        ("'a', 1", "***"),
        ("'李小龍', 1, 1", "李***龍"),
        ("'Anna', -5, -5", "***"),
        ("'Anna', 2147483647, 2147483647", "***"),
        ("'Anna', 1, 0, '#'", "A#"),
        ("'Anna', 1, 0, null", "A***"),
        ("'Anna', null, 1", "***"),
        ("'Anna', 1, null", "***"),
        ("null, 1", None),
        ("repeat('x', 1000000), 1", "x***"),
    ],
)
def test_partial(db: Connection, arguments: str, shown: str | None) -> None:
    assert one(db, f"select domicile.partial({arguments})") == shown


def test_partial_never_shows_a_value_whole(db: Connection) -> None:
    assert (
        one(
            db,
            "select count(*) from (values (''), ('a'), ('ab'), ('äöü'), ('***'), ('a***b')) v (x),"
            " generate_series(-1, 6) s, generate_series(-1, 6) e"
            " where domicile.partial(x, s, e) <> '***' and char_length(x) <= greatest(s, 0) + greatest(e, 0)",
        )
        == 0
    )


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ("daniel@gmail.com", "d***@g***.com"),
        ("da@gm.co.uk", "d***@g***.uk"),
        ("d@gmail.com", "***@g***.com"),
        ("émile@münchen.de", "é***@m***.de"),
        ('"a@b"@example.org', '"***@e***.org'),
        ("someone@localhost", "s***@***"),
        ("a@b.c", "***@***.c"),
        ("x@.com", "***@***.com"),
        ("no address", "***"),
        ("@x.com", "***"),
        ("x@", "***"),
        ("", "***"),
        (None, None),
    ],
)
def test_partial_email(db: Connection, value: str | None, shown: str | None) -> None:
    assert one(db, "select domicile.partial_email(%s::text)", value) == shown


@pytest.mark.parametrize(
    ("call", "result"),
    [
        ("-7, 5", "-10"),
        ("7, 5", "5"),
        ("10, 5", "10"),
        ("7, 1", None),
        ("7, 0", None),
        ("7, -5", None),
        ("7, null", None),
        ("null::int, 5", None),
        ("(-2147483648)::int, 1000", None),
        ("2147483647, 2147483647", "2147483647"),
        ("(-9223372036854775808)::bigint, 1000", None),
        ("9223372036854775807::bigint, 10", "9223372036854775800"),
        ("(-32768)::smallint, 100", None),
        ("155::smallint, 100", "100"),
        ("12.345, 0.1", "12.300"),
        ("-12.345, 10", "-20.000"),
        ("'NaN'::numeric, 10", "NaN"),
        ("'-Infinity'::numeric, 10", "-Infinity"),
        ("5.5, 0", None),
        ("5.5, 'NaN'", None),
        ("5.5, 'Infinity'", None),
        ("12.5::float8, 5", "10"),
        ("12.5::float8, 'Infinity'", None),
        ("int4range(3, 17), 10", "[0,20)"),
        ("int4range(10, 20), 10", "[10,20)"),
        ("int4range(-17, -3), 10", "[-20,0)"),
        ("int4range(null, 2147483647), 10", "(,)"),
        ("int4range(null, -2147483648), 10", "(,-2147483640)"),
        ("int4range(-2147483648, 5), 10", "(,10)"),
        ("'empty'::int4range, 10", "empty"),
        ("int4range(3, 17), 1", None),
        ("int8range(-9223372036854775808, 9223372036854775807), 10", "(,)"),
        ("numrange(3, 20, '[]'), 10", "[0,30)"),
        ("numrange(3, 20, '()'), 10", "[0,20)"),
        ("numrange(null, null), 10", "(,)"),
        ("inet '10.1.2.3', 16", "10.1.0.0/16"),
        ("inet '10.1.2.3/8', 16", "10.0.0.0/8"),
        ("inet '2001:db8::1', 32", "2001:db8::/32"),
        ("inet '10.1.2.3', 32", None),
        ("inet '10.1.2.3', -1", None),
        ("null::inet, 16", None),
    ],
)
def test_generalize_numbers_ranges_and_addresses(db: Connection, call: str, result: str | None) -> None:
    assert one(db, f"select domicile.generalize({call})::text") == result


@pytest.mark.parametrize(
    ("call", "result"),
    [
        ("date '1990-05-17', 'year'", "1990-01-01"),
        ("date '1990-05-17', 'quarter'", "1990-04-01"),
        ("date '1990-05-17', 'month'", "1990-05-01"),
        ("date '1990-05-17', 'week'", "1990-05-14"),
        ("date '1990-05-17', 'decade'", "1990-01-01"),
        ("date '1990-05-17', 'century'", "1901-01-01"),
        ("date '1990-05-17', 'day'", None),
        ("date '1990-05-17', 'Year'", None),
        ("date '1990-05-17', ''", None),
        ("date '1990-05-17', null", None),
        ("null::date, 'year'", None),
        ("date 'infinity', 'year'", "infinity"),
        ("date '4713-01-01 BC', 'century'", None),
        ("date '5874897-12-31', 'year'", None),
        ("timestamp '1990-05-17 12:34', 'hour'", "1990-05-17 12:00:00"),
        ("timestamp '294276-12-31', 'year'", None),
        ("timestamptz '1990-01-01 00:30+02', 'year'", "1989-01-01 00:00:00+00"),
        ("daterange('1990-05-17', '1991-06-01'), 'year'", "[1990-01-01,1992-01-01)"),
        ("daterange('1990-05-17', '1991-06-01'), 'month'", "[1990-05-01,1991-06-01)"),
        ("daterange('1990-05-17', null), 'month'", "[1990-05-01,)"),
        ("daterange('1990-05-17', 'infinity'), 'month'", "[1990-05-01,infinity)"),
        ("daterange('1990-05-17', '1991-06-01'), 'day'", None),
        ("'empty'::daterange, 'month'", "empty"),
        ("tsrange('1990-05-01', '1991-06-01', '[]'), 'month'", '["1990-05-01 00:00:00","1991-07-01 00:00:00")'),
        ("tstzrange('1990-05-17', '1991-06-01'), 'day'", '["1990-05-17 00:00:00+00","1991-06-01 00:00:00+00")'),
    ],
)
def test_generalize_dates_and_times(db: Connection, call: str, result: str | None) -> None:
    assert one(db, f"select domicile.generalize({call})::text") == result


def test_no_setting_of_the_session_changes_a_generalized_time(db: Connection) -> None:
    seen = set()
    for zone in ("UTC", "Asia/Tokyo", "America/Los_Angeles"):
        with db.transaction():
            db.execute(f"set local timezone = '{zone}'".encode())
            seen.add(
                one(
                    db,
                    "select extract(epoch from domicile.generalize(timestamptz '2024-01-01 03:00+00', 'year'))::text",
                )
            )
    assert len(seen) == 1


NOISY = {
    "int": ("1000", "100"),
    "bigint": ("1000", "100"),
    "numeric": ("1000.00", "100"),
    "float8": ("1000", "100"),
    "date": ("'2000-01-01'", "100"),
    "timestamp": ("'2000-01-01'", "interval '10 days'"),
    "timestamptz": ("'2000-01-01'", "interval '10 days'"),
}


@pytest.mark.parametrize("type_name", NOISY)
def test_noise_is_fixed_for_a_row_and_bounded(db: Connection, type_name: str) -> None:
    value, spread = NOISY[type_name]
    call = f"domicile.noise_with({value}::{type_name}, {spread}, r::text, k.inner_pad, k.outer_pad)"
    rows = db.execute(
        f"select {call}, {call}, {call} between {value}::{type_name} - {spread} and {value}::{type_name} + {spread}"
        " from generate_series(1, 200) r, domicile.mask_key k where k.domain = 'd'".encode()
    ).fetchall()
    assert all(a == b and bounded for a, b, bounded in rows)
    assert len({a for a, _, _ in rows}) > 50


def test_noise_of_many_rows_averages_to_little_of_one_row_to_nothing(db: Connection) -> None:
    mean, distinct = one(
        db,
        "select avg(domicile.noise_with(1000.0, 100, r::text, k.inner_pad, k.outer_pad)),"
        " (select count(distinct domicile.noise_with(1000.0, 100, '7', k2.inner_pad, k2.outer_pad))"
        "  from generate_series(1, 1000), domicile.mask_key k2 where k2.domain = 'd')"
        " from generate_series(1, 4000) r, domicile.mask_key k where k.domain = 'd'",
    )
    # The key is fixed, so this is arithmetic and not chance: the deviation of the mean is 100 / sqrt(3 * 4000).
    assert abs(mean - 1000) < 5
    assert distinct == 1


@pytest.mark.parametrize("spread", ["0", "-5", "null"])
def test_noise_without_spread_withholds(db: Connection, spread: str) -> None:
    assert (
        one(db, f"select domicile.noise_with(5, {spread}, '1', inner_pad, outer_pad) from domicile.mask_key limit 1")
        is None
    )


def test_noise_called_directly_tells_nothing(db: Connection) -> None:
    assert one(db, "select domicile.noise(5, 1), domicile.noise(5.5, 1), domicile.noise(date '2000-01-01', 3)") == (
        None,
        None,
        None,
    )


def test_fakes_are_chosen_by_key(db: Connection) -> None:
    names = db.execute(
        "select domicile.fake('n' || i, 'name', 'd'), domicile.fake('n' || i, 'name', 'd'),"
        " domicile.fake('n' || i, 'name', 'other'), domicile.fake('n' || i, 'email', 'd'),"
        " domicile.fake('n' || i, 'city', 'd')"
        " from generate_series(1, 1000) i"
    ).fetchall()
    assert all(a == b for a, b, *_ in names)
    assert sum(a != c for a, _, c, *_ in names) > 900
    assert len({a for a, *_ in names}) > 300
    assert all(e.endswith("@example.com") for *_, e, _ in names)
    assert len({city for *_, city in names}) == 24
    scripts = "".join(sorted({a[0] for a, *_ in names}))
    assert any("a" <= c.lower() <= "z" for c in scripts)
    assert any("\u0400" <= c <= "\u04ff" for c in scripts)
    assert any("\u4e00" <= c <= "\u9fff" for c in scripts)
    assert one(db, "select domicile.fake(null, 'name', 'd'), domicile.fake('x', 'nothing', 'd')") == (None, None)


def test_redact_and_withheld_tell_nothing(db: Connection) -> None:
    assert one(
        db,
        "select domicile.redact('x'::text), domicile.redact('x'::varchar), domicile.redact(null::text),"
        " domicile.redact(5), domicile.redact(date '2000-01-01'), domicile.redact('{1}'::int[]),"
        " domicile.withheld('x'::text)",
    ) == ("[redacted]", "[redacted]", "[redacted]", None, None, None, None)


def test_every_function_is_its_own_manual_page(db: Connection) -> None:
    silent = db.execute(
        "select p.oid::regprocedure::text from pg_proc p where p.pronamespace = 'domicile'::regnamespace"
        " and obj_description(p.oid, 'pg_proc') is null"
    ).fetchall()
    assert silent == []
    masks = db.execute(
        "select p.oid::regprocedure::text, obj_description(p.oid, 'pg_proc') from pg_proc p"
        " where p.pronamespace = 'domicile'::regnamespace and p.oid in (select function from domicile.mask_functions)"
    ).fetchall()
    assert len(masks) > 30
    assert all(text.startswith("MASK. ") for _, text in masks)


def test_what_stands_in_views_is_immutable_and_parallel_safe(db: Connection) -> None:
    wrong = db.execute(
        "select p.oid::regprocedure::text from pg_proc p where p.pronamespace = 'domicile'::regnamespace"
        " and (p.proname like '%\\_with'"
        "      or p.proname in ('partial', 'partial_email', 'generalize', 'redact', 'withheld'))"
        " and (p.provolatile <> 'i' or p.proparallel <> 's' or p.prosecdef)"
    ).fetchall()
    assert wrong == []


def test_keyed_masks_are_inlined_and_the_key_is_not_in_the_plan(db: Connection) -> None:
    mask = one(db, "select domicile.wrap_mask('public.people', 'email', 'domicile.pseudonym(email)')")
    plan = "\n".join(
        line for (line,) in db.execute(f"explain (verbose) select {mask} from public.people t".encode()).fetchall()
    )
    assert "sha256" in plan
    assert "pseudonym_with" not in plan
    key = one(db, "select encode(inner_pad, 'hex') from domicile.mask_key where domain = 'public.people.email'")
    assert key not in plan


EXTREMES: dict[str, list[str]] = {
    "text": ["", "a", "Zoë 李", "x" * 5000, "\\", "%_", "NaN", "\n\t", "UTC", "name", "year"],
    "character varying": ["", "ab  "],
    "character": ["", "ab  "],
    "name": ["", "n"],
    '"char"': ["", "c"],
    "integer": ["0", "1", "-1", "2147483647", "-2147483648", "7", "32"],
    "bigint": ["0", "1", "-1", "9223372036854775807", "-9223372036854775808"],
    "smallint": ["0", "1", "32767", "-32768"],
    "oid": ["0", "4294967295"],
    "numeric": ["0", "1.5", "-1e300", "NaN", "Infinity", "-Infinity", "1e-300", "99999999999999999.9999999999"],
    "double precision": ["0", "1.5", "1e308", "-1e308", "NaN", "Infinity", "1e-300"],
    "real": ["0", "1.5", "3e38", "NaN", "Infinity"],
    "boolean": ["true", "false"],
    "bytea": ["", "\\x00ff", "\\x41"],
    "uuid": ["5e5c7a0e-3b1f-4a55-9d0b-0c5f2d6f0a01"],
    "date": ["2000-01-01", "infinity", "-infinity", "4713-01-01 BC", "5874897-12-31", "4000-01-01 BC", "199999-12-31"],
    "timestamp without time zone": ["2000-01-01", "infinity", "-infinity", "4713-01-01 BC", "294276-12-31 23:59"],
    "timestamp with time zone": ["2000-01-01", "infinity", "-infinity", "4713-01-02 BC", "294276-12-30"],
    "time without time zone": ["00:00", "24:00"],
    "time with time zone": ["00:00+00", "24:00-15"],
    "interval": ["0", "1 day", "178000000 years", "-178000000 years"],
    "jsonb": ["{}", "[1, [2]]", '"s"', "null", "1", '{"a": {"b": 1}}'],
    "inet": ["10.1.2.3", "10.0.0.0/8", "::1", "::/0", "0.0.0.0/0"],
    "cidr": ["10.0.0.0/8", "::/0"],
    "macaddr": ["08:00:2b:01:02:03"],
    "macaddr8": ["08:00:2b:01:02:03:04:05"],
    "bit": ["", "101"],
    "bit varying": ["", "101"],
    "text[]": ["{}", "{a}", "{NULL}", "{{a,b},{c,d}}"],
    "int4range": ["empty", "(,)", "[1,5)", "[-2147483648,2147483647)", "(,-2147483648)", "[2147483646,)"],
    "int8range": ["empty", "(,)", "[-9223372036854775808,9223372036854775807)", "(,-9223372036854775808)"],
    "numrange": ["empty", "(,)", "[1,5]", "(1,1e100]", "[-Infinity,Infinity]", "[1,NaN]"],
    "daterange": ["empty", "(,)", "[2000-01-01,2001-02-02)", "[-infinity,infinity)", "[4713-01-01 BC,5874897-12-31)"],
    "tsrange": ["empty", "(,)", "[2000-01-01,2001-02-02]", "[-infinity,infinity]", "[4713-01-01 BC,294276-12-31]"],
    "tstzrange": ["empty", "(,)", "[2000-01-01,2001-02-02]", "[-infinity,infinity]", "[4713-01-02 BC,294276-12-30]"],
}
STANDS_FOR = {"anyarray": "text[]", "anyelement": "text[]", "anyenum": "public.tier"}


def test_no_function_that_is_listed_so_raises(db: Connection) -> None:
    functions = db.execute(
        "select p.oid::regproc::text, array(select format_type(t, null)"
        "  from unnest(p.proargtypes) with ordinality u (t, i) order by i), p.provariadic <> 0 from pg_proc p"
        " where p.oid in (select f.function from domicile.mask_functions f where not f.raises)"
        " or p.pronamespace = 'domicile'::regnamespace and (p.proname in ('pseudonym_with', 'fake_with')"
        "    or p.proname = 'noise_with'"
        "       and p.proargtypes[0] in ('int4'::regtype, 'int8'::regtype, 'numeric'::regtype))"
    ).fetchall()
    assert len(functions) > 300
    values = {**EXTREMES, "public.tier": ["bronze", "gold"]}
    raised = []
    for name, argument_types, variadic in functions:
        types = [STANDS_FOR.get(t, t) for t in argument_types]
        pools = ", ".join(
            f"(select x::{t} from unnest(%s::text[]) u (x) union all select null) v{i} (x)" for i, t in enumerate(types)
        )
        arguments = [f"v{i}.x" for i in range(len(types))]
        if variadic:
            arguments[-1] = f"variadic {arguments[-1]}"
        call = f"{name}({', '.join(arguments)})"
        try:
            db.execute(
                f"select count(r::text) from (select {call} as r from {pools} offset 0) q".encode(),
                [values[t] for t in types],
            )
        except psycopg.Error as e:
            raised.append((call, types, str(e)))
    assert raised == []
