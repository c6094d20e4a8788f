"""What a region may see, said a second time: views in the oracle that the test writes by itself, without Domicile.

The pseudonyms are made in Python from the regions' keys, the other masks by plain SQL.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field

import psycopg

from domicile.demo.regions import DATABASE
from tests.differential.world import HOMES, Connection, World


@dataclass(frozen=True, slots=True)
class Policy:
    """A policy in Domicile's words, and beside each mask the same in the test's own SQL."""

    masks: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    withheld: frozenset[str] = frozenset()
    rows: str | None = None


def _pseudonym(column: str, domain: str) -> tuple[str, str]:
    own = (
        f"(select p.shown from public.pseudonyms p where p.region = home.of_row and p.domain = '{domain}'"
        f" and p.value = {column}::text)"
    )
    return f"domicile.pseudonym({column}, domain => '{domain}')", own


POLICIES = {
    "customers": Policy(
        {
            "name": (
                "domicile.partial(name, 1)",
                "case when length(name) > 1 then substring(name for 1) || '***' else '***' end",
            ),
            "email": _pseudonym("email", "mail"),
            "born": ("domicile.generalize(born, 'year')", "make_date(extract(year from born)::int, 1, 1)"),
        },
        withheld=frozenset({"phone", "note"}),
    ),
    "orders": Policy({"total": ("domicile.generalize(total, 10)", "floor(total / 10) * 10")}),
    "order_items": Policy(),
    "kinds": Policy(
        {
            "t": _pseudonym("t", "mail"),
            "u": _pseudonym("u", "thing"),
            "d": (
                "domicile.generalize(d, 'month')",
                "case when isfinite(d) and d > '4000-01-01 BC' then (d - (extract(day from d)::int - 1)) else d end",
            ),
            "i4": (
                "domicile.generalize(i4, 1000)",
                "case when floor(i4 / 1000.0) * 1000 < -2147483648 then null else floor(i4 / 1000.0) * 1000 end",
            ),
        },
        withheld=frozenset({"v", "iv", "ia", "by", "moods"}),
        rows="id <> 7",
    ),
    '"Größe ""x"""': Policy({"select": ('domicile.redact("select")', "'[redacted]'")}),
    "tickets": Policy(rows="open"),
    "ticket_notes": Policy(),
    "accounts": Policy(),
    "offices": Policy(withheld=frozenset({"city"})),
}


def masked(connection: Connection) -> None:
    """The policies, for a region's tables."""
    for table, policy in POLICIES.items():
        hidden = {*policy.masks, *policy.withheld}
        connection.execute(
            "select domicile.create_policy('masked', %s::regclass, rows => %s, masks => %s, clear => array("
            "select attname::text from pg_attribute where attrelid = %s::regclass and attnum > 0 and not attisdropped"
            " and attname <> all (%s)))",
            (table, policy.rows, json.dumps({c: m for c, (m, _) in policy.masks.items()}), table, list(hidden)),
        )


def pseudonym(key: bytes, value: str | uuid.UUID) -> str:
    """HMAC-SHA-256 as docs/masks.md has it: 32 hexadecimal digits of a text, a UUID of version 8 of a UUID."""
    if isinstance(value, str):
        return hmac.new(key, value.encode(), hashlib.sha256).hexdigest()[:32]
    digits = hmac.new(key, value.bytes, hashlib.sha256).hexdigest()[:32]
    return str(uuid.UUID(digits[:12] + "8" + digits[13:16] + "8" + digits[17:]))


def make_views(world: World) -> None:
    """A schema `as_<region>` in the oracle for each region: what it may see of every table."""
    keys = {
        (name, domain): bytes(key)
        for name, region in world.regions.items()
        for domain, key in region.server.run_sql("select domain, key from domicile.mask_key", database=DATABASE)
    }
    with world.oracle.connect(DATABASE) as oracle:
        oracle.execute("create table pseudonyms (region text, domain text, value text, shown text)")
        for table, column, domain in (
            ("customers", "email", "mail"),
            ("kinds", "t", "mail"),
            ("kinds", "u", "thing"),
        ):
            query = f"select distinct {HOMES[table]}, {column} from {table} where {column} is not null"
            for region, value in oracle.execute(query.encode()).fetchall():
                shown = pseudonym(keys[region, domain], value)
                oracle.execute(
                    "insert into pseudonyms select %s, %s, %s, %s where not exists (select from pseudonyms"
                    " where region = %s and domain = %s and value = %s)",
                    (region, domain, str(value), shown, region, domain, str(value)),
                )
        for region in world.regions:
            oracle.execute(f"create schema as_{region}; grant usage on schema as_{region} to app".encode())
            for table, policy in POLICIES.items():
                oracle.execute(_view(oracle, table, policy, region).encode())
            for table in ("countries", "products"):
                oracle.execute(f"create view as_{region}.{table} as select * from public.{table}".encode())
            oracle.execute(f"grant select on all tables in schema as_{region} to app".encode())


def _view(oracle: Connection, table: str, policy: Policy, region: str) -> str:
    columns = oracle.execute(
        "select attname, quote_ident(attname), format_type(atttypid, atttypmod) from pg_attribute"
        " where attrelid = %s::regclass and attnum > 0 and not attisdropped order by attnum",
        (table,),
    ).fetchall()
    shown = []
    for name, quoted, kind in columns:
        if name in policy.masks:
            mask = policy.masks[name][1]
            if kind == "uuid":
                mask += "::uuid"
            if name != "select":
                mask = f"case when {quoted} is not null then {mask} end"  # NULL stays NULL
            shown.append(f"(case when home.of_row = '{region}' then {quoted} else {mask} end)::{kind} as {quoted}")
        elif name in policy.withheld:
            shown.append(f"(case when home.of_row = '{region}' then {quoted} end)::{kind} as {quoted}")
        else:
            shown.append(quoted)
    rows = f"where home.of_row = '{region}' or ({policy.rows})" if policy.rows else ""
    return (
        f"create view as_{region}.{table} as select {', '.join(shown)} from public.{table}"
        f" cross join lateral (select {HOMES[table]} as of_row offset 0) home {rows}"
    )


def oracle_dsn(world: World, region: str) -> str:
    """How to ask the oracle as a client of the region would."""
    return psycopg.conninfo.make_conninfo(world.oracle_dsn, options=f"-c search_path=as_{region},public")
