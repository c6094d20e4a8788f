"""`domicile init`: makes an existing PostgreSQL database a region, with a DBA's log-in, once or again.

First it looks, and says what it needs, why, and whether it is there; where something is missing it refuses with every
reason at once, each with its remedy, and changes nothing. Then it installs, in one transaction: the schema `domicile`
(as an extension where the server offers it and a superuser is at hand, as plain SQL elsewhere), the regions, which of
them this database is, and the password of the node's role. What is there already is left as it is.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeAlias

import psycopg

from .catalog.errors import INSUFFICIENT_PRIVILEGE, DomicileError
from .catalog.names import IDENTIFIER_BYTES_MAX, quote_identifier, region_name
from .proxy.scram import Verifier
from .sql import build

VERSION_MIN = 150000
NODE_ROLE = "domicile_node"
PREREQUISITE_MISSING = "55000"

FULL = "full"
"""A superuser installs: event triggers close the moment between a change and its audit, verifiers are read."""

MANAGED = "managed"
"""CREATEROLE, REPLICATION and ownership of the database, as cloud services give them: an audit every second instead."""

AnyConnection: TypeAlias = "psycopg.Connection[Any]"


class Need(NamedTuple):
    """Something that init needs, whether it is there, and what to do where it is not."""

    what: str
    why: str
    met: bool
    remedy: str
    required: bool = True  #: False: without it something is left out, and the rest works


@dataclass(frozen=True, slots=True)
class Findings:
    """What init found, and what it would do."""

    level: str
    needs: tuple[Need, ...]
    conflicts: tuple[Need, ...]  #: never met: what stands in the way
    steps: tuple[str, ...]
    installed: bool  #: the schema `domicile` is there, and is ours

    @property
    def refusals(self) -> tuple[Need, ...]:
        return tuple(n for n in (*self.needs, *self.conflicts) if n.required and not n.met)


class Refused(DomicileError):
    """All the reasons for which a database can't become a region now."""

    def __init__(self, region: str, refusals: Sequence[Need]) -> None:
        super().__init__(
            PREREQUISITE_MISSING,
            f"this database can't become region {region}: {len(refusals)} reason{'s' * (len(refusals) != 1)}",
            detail="\n".join(f"- {n.what}\n  {n.why}\n  Remedy: {n.remedy}" for n in refusals),
            hint="Nothing was changed.",
        )
        self.refusals = tuple(refusals)


def inspect(connection: AnyConnection, region: str, regions: Mapping[str, str]) -> Findings:
    """What `install` needs and would do, and what stands in its way. Changes nothing.

    `regions` maps each region's name to its jurisdiction, in the order of their numbers: the same in every region.
    """
    look = _Looking(connection, region, regions)
    return Findings(look.level, look.needs(), look.conflicts(), look.steps(), look.installed)


def install(
    dsn: str,
    *,
    region: str,
    regions: Mapping[str, str],
    node_password: str | None = None,
    report: Callable[[str], None] = lambda _: None,
) -> Findings:
    """Makes the database region `region`; returns what was found before. Raises Refused with every reason, or
    psycopg.OperationalError where the server can't be reached. All or nothing, and safe to repeat.

    `report` is told each step as it is done. `node_password` None leaves the node's role without a (new) password.
    """
    with psycopg.connect(dsn) as connection:
        findings = inspect(connection, region, regions)
        if findings.refusals:
            raise Refused(region, findings.refusals)
        if not findings.installed:
            report(f"installing the schema domicile ({findings.level} level)")
            _install_schema(connection)
        known = {name for (name,) in connection.execute("select name from domicile.region").fetchall()}
        for number, (name, jurisdiction) in enumerate(regions.items(), 1):
            if name not in known:
                report(f"region {name}, number {number}, jurisdiction {jurisdiction}")
                connection.execute("select domicile.create_region(%s, %s, %s)", (name, jurisdiction, number))
        if _value(connection, "select domicile.here()") != region:
            report(f"this database is region {region}")
            connection.execute("select domicile.set_here(%s)", (region,))
        if node_password is not None:
            report(f"the password of {NODE_ROLE}")
            _set_password(connection, node_password)
        return findings


def _install_schema(connection: AnyConnection) -> None:
    available = connection.execute(
        "select 1 from pg_available_extension_versions v, pg_roles r "
        "where v.name = 'domicile' and v.version = %s and r.rolname = current_user and r.rolsuper",
        (build.VERSION,),
    ).fetchone()
    if available:
        connection.execute(f"create extension domicile version '{build.VERSION}'".encode())
    else:
        connection.execute(build.script().encode())


def _set_password(connection: AnyConnection, password: str) -> None:
    # As a verifier: the password itself is in no statement, and so in no log.
    verifier = str(Verifier.derive(password))
    try:
        connection.execute(f"alter role {NODE_ROLE} password '{verifier}'".encode())
    except psycopg.errors.InsufficientPrivilege as e:
        raise DomicileError(
            INSUFFICIENT_PRIVILEGE,
            f"the password of {NODE_ROLE} can't be set: {e.diag.message_primary}",
            hint=f"As a superuser: \\password {NODE_ROLE}; then init again without a password. Nothing was changed.",
        ) from e


class _Looking:
    """The questions that `inspect` asks."""

    def __init__(self, connection: AnyConnection, region: str, regions: Mapping[str, str]) -> None:
        for name in (region, *regions):
            region_name(name)
        if region not in regions:
            raise ValueError(f"region {region!r} is not among {', '.join(regions)}")
        self._connection = connection
        self._region = region
        self._regions = regions
        row = connection.execute(
            "select rolname, rolsuper, rolcreaterole, rolreplication, current_database(), "
            "pg_has_role(d.datdba, 'usage') or rolsuper, pg_encoding_to_char(d.encoding) "
            "from pg_roles, pg_database d where rolname = current_user and d.datname = current_database()"
        ).fetchone()
        assert row is not None
        self._user, self._superuser, self._createrole, self._replication = row[:4]
        self._database, self._owner, self._encoding = row[4:]
        self.level = FULL if self._superuser else MANAGED
        self._schema_there = bool(self._value("select to_regnamespace('domicile') is not null"))
        self.installed = self._schema_there and bool(
            self._value(
                "select to_regclass('domicile.locality') is not null and to_regproc('domicile.version') is not null"
            )
        )

    def needs(self) -> tuple[Need, ...]:
        version = int(self._setting("server_version_num"))
        others = len(self._regions) - 1
        me, database = quote_identifier(self._user), quote_identifier(self._database)
        slots, senders = int(self._setting("max_replication_slots")), int(self._setting("max_wal_senders"))
        return (
            Need(
                "PostgreSQL 15 or later",
                "security_invoker views, MERGE and SET ROLE of a member stand on it",
                version >= VERSION_MIN,
                f"this server is {self._setting('server_version')}: upgrade it",
            ),
            Need(
                "encoding UTF8",
                "rows travel between regions byte for byte",
                self._encoding == "UTF8",
                f"database {self._database} has {self._encoding}: dump it and restore it into one with encoding 'UTF8'",
            ),
            Need(
                "CREATEROLE (or a superuser)",
                'a role "alice@eu" for every role of another region, and the roles domicile_…',
                self._superuser or self._createrole,
                f"alter role {me} createrole;  -- as a superuser or the service's administrator",
            ),
            Need(
                f"ownership of database {self._database} (or a superuser)",
                "what PUBLIC may do in it is granted to this region's own roles alone",
                self._owner,
                f"alter database {database} owner to {me};",
            ),
            Need(
                "REPLICATION (or a superuser)",
                f"handed on to {NODE_ROLE}, for the change stream; without it no copies leave this region",
                # Before 16 only a superuser gives it, whoever else has it.
                self._superuser or (self._replication and version >= 160000) or self._node_replicates(),
                f"as a superuser: alter role {NODE_ROLE} replication;  -- the role is there after init",
                required=False,
            ),
            Need(
                "ownership of the tables to be shared, or membership in their owners' roles",
                "views of them, home constraints on them; asked again for each table by domicile.set_locality",
                True,
                f"grant <owner> to {me};",
                required=False,
            ),
            Need(
                "wal_level = logical",
                "the change stream is read from the WAL",
                self._setting("wal_level") == "logical",
                "alter system set wal_level = logical;  -- then restart the server (a managed service: its parameter "
                "rds.logical_replication, cloudsql.logical_decoding or the like)",
            ),
            Need(
                "max_prepared_transactions of 1 or more",
                "a transaction over regions commits in two phases; at least as many as max_connections is best",
                int(self._setting("max_prepared_transactions")) > 0,
                "alter system set max_prepared_transactions = 100;  -- then restart the server",
            ),
            Need(
                f"max_replication_slots and max_wal_senders of {max(others, 1)} or more",
                "a slot for each other region",
                min(slots, senders) >= max(others, 1),
                f"they are {slots} and {senders}: alter system set max_replication_slots = {others + 10};  -- and "
                "max_wal_senders; then restart the server",
            ),
            Need(
                "password_encryption = scram-sha-256",
                "gateways log clients in by SCRAM verifiers; MD5 ones give nothing to check by",
                self._setting("password_encryption") == "scram-sha-256",
                "alter system set password_encryption = 'scram-sha-256'; select pg_reload_conf();  -- then set the "
                "passwords of roles that use gateways again",
            ),
        )

    def conflicts(self) -> tuple[Need, ...]:
        found = []
        if self._schema_there and not self.installed:
            found.append(
                Need(
                    "a schema domicile that is not Domicile's",
                    "the region's catalog stands in a schema of this name",
                    False,
                    "alter schema domicile rename to …;",
                )
            )
        longest = max(self._regions, key=len)
        for (name,) in self._connection.execute(
            "select rolname from pg_roles where octet_length(rolname || '@' || %s) > %s and rolcanlogin "
            "and not rolsuper and rolname !~ '^pg_' and rolname !~ '@'",
            (longest, IDENTIFIER_BYTES_MAX),
        ).fetchall():
            found.append(
                Need(
                    f'role "{name}"',
                    f'"{name}@{longest}" has over {IDENTIFIER_BYTES_MAX} bytes; PostgreSQL would cut it, and what is '
                    "left is another role",
                    False,
                    f"alter role {quote_identifier(name)} rename to …;",
                )
            )
        if self.installed:
            found.extend(self._conflicts_with_what_is_installed())
        else:
            suffixes = [f"@{r}" for r in self._regions if r != self._region]
            for (name,) in self._connection.execute(
                "select rolname from pg_roles where right(rolname, -strpos(rolname, '@') + 1) = any (%s)", (suffixes,)
            ).fetchall():
                if not self._foreign_elsewhere(name):
                    found.append(
                        Need(
                            f'role "{name}"',
                            "it looks like a role of another region, and is not Domicile's",
                            False,
                            f"alter role {quote_identifier(name)} rename to …;",
                        )
                    )
        return tuple(found)

    def _conflicts_with_what_is_installed(self) -> list[Need]:
        found = []
        here = self._value("select domicile.here()")
        if here is not None and here != self._region:
            found.append(
                Need(
                    f"this database is region {here}",
                    "a region's identity is in its ids, keys and the other regions' catalogs",
                    False,
                    f"name it {here}, or take another database",
                )
            )
        known = {
            n: (number, law)
            for n, number, law in self._connection.execute(
                "select name, number, jurisdiction from domicile.region"
            ).fetchall()
        }
        for number, (name, jurisdiction) in enumerate(self._regions.items(), 1):
            if name in known and known[name] != (number, jurisdiction):
                its_number, its_law = known[name]
                found.append(
                    Need(
                        f"region {name} is number {its_number}, jurisdiction {its_law} here, "
                        f"not {number}, {jurisdiction}",
                        "a region has the same number everywhere: ids carry it",
                        False,
                        "give the regions in the order in which they were first given, new ones last",
                    )
                )
        return found

    def steps(self) -> tuple[str, ...]:
        steps = []
        if not self.installed:
            steps.append(f"create schema domicile, roles domicile_… ({self.level} level, version {build.VERSION})")
        known: set[str] = set()
        here = None
        if self.installed:
            known = {n for (n,) in self._connection.execute("select name from domicile.region").fetchall()}
            here = self._value("select domicile.here()")
        steps += [
            f"select domicile.create_region('{name}', '{law}', {number})"
            for number, (name, law) in enumerate(self._regions.items(), 1)
            if name not in known
        ]
        if here != self._region:
            steps.append(f"select domicile.set_here('{self._region}')")
            steps.append("close what PUBLIC may do, for roles of other regions: grant it to domicile_local instead")
        return tuple(steps)

    def _foreign_elsewhere(self, role: str) -> bool:
        """Whether the role is a foreign one of another database of this server that is a region too."""
        return bool(
            self._value(
                "select exists (select from pg_auth_members m join pg_roles r on r.oid = m.roleid "
                f"where r.rolname = %s and pg_get_userbyid(m.member) = '{NODE_ROLE}')",
                role,
            )
        )

    def _node_replicates(self) -> bool:
        return bool(self._value("select rolreplication from pg_roles where rolname = %s", NODE_ROLE))

    def _setting(self, name: str) -> str:
        return str(self._value("select current_setting(%s)", name))

    def _value(self, sql: str, *parameters: object) -> object:
        return _value(self._connection, sql, *parameters)


def _value(connection: AnyConnection, sql: str, *parameters: object) -> object:
    row = connection.execute(sql.encode(), parameters or None).fetchone()
    return row[0] if row else None
