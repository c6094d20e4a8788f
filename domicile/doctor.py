"""`domicile doctor`: looks at every part of a region's way, and says of each whether it is well and what to mend.

It goes on where it can: a part that fails does not hide the next one. It changes nothing.
"""

from __future__ import annotations

import stat
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import psycopg
from cryptography import x509
from rich.console import Console

from . import certificates
from .catalog.configuration import Configuration, ConfigurationError, load
from .catalog.errors import DomicileError
from .status import Status, ask_guard, ask_postgres, conninfo, files_of

CLOCK_S_MAX = 1.0
"""Clocks further apart make `now()` and last-writer-wins of two regions tell different stories."""

CERTIFICATE_DAYS_MIN = 30
PREPARED_AGE_S_MAX = 60
"""A prepared transaction that is older holds locks and vacuum back, and somebody should have ended it."""

Connection: TypeAlias = "psycopg.Connection[Any]"


class Check(NamedTuple):
    what: str
    well: bool
    found: str  #: what was seen
    remedy: str = ""


def command(path: Path) -> int:
    """Prints every check; 0 where all are well."""
    console = Console(highlight=False)
    well = True
    for check in examine(path):
        well = well and check.well
        console.print("ok " if check.well else "bad", style="green" if check.well else "red", end="  ")
        console.print(f"{check.what}: {check.found}", markup=False, soft_wrap=True)
        if not check.well:
            console.print(f"     {check.remedy}", markup=False, soft_wrap=True)
    return 0 if well else 1


def examine(path: Path) -> Iterator[Check]:
    """Every check, in the order of the way: file, certificates, server, catalog, border, other regions."""
    try:
        configuration = load(path)
    except ConfigurationError as e:
        for mistake in e.mistakes:
            yield Check(f"configuration, {mistake.where}", False, mistake.what, mistake.remedy)
        return
    yield Check("configuration", True, str(path))
    yield from _certificates(configuration)
    own: Status | None = None
    try:
        own = ask_postgres(configuration.postgres)
        with psycopg.connect(conninfo(configuration.postgres), autocommit=True) as connection:
            yield Check("PostgreSQL", True, f"{own.server_version.split(' ')[0]}, as {configuration.postgres.user}")
            for look in (_identity, _settings, _node_role, _prepared, _findings, _wall, _foreign_log_in):
                yield from _guarded(look, configuration, connection)
    except psycopg.OperationalError as e:
        yield Check("PostgreSQL", False, str(e).strip(), "see [postgres], and pg_hba.conf on the server")
    except psycopg.Error as e:
        yield Check("PostgreSQL", False, str(e).strip(), "`domicile init` makes a database a region")
    yield from _others(configuration, own)


def _guarded(
    look: Callable[[Configuration, Connection], Iterator[Check]], configuration: Configuration, connection: Connection
) -> Iterator[Check]:
    try:
        yield from look(configuration, connection)
    except psycopg.OperationalError:
        raise
    except psycopg.Error as e:
        yield Check(look.__name__.strip("_").replace("_", " "), False, str(e).strip(), "`domicile init` again mends it")


def _certificates(configuration: Configuration) -> Iterator[Check]:
    files = files_of(configuration)
    if files is None:
        return
    what = f"certificate {files.certificate.name}"
    try:
        certificate = x509.load_pem_x509_certificate(files.certificate.read_bytes())
        authority = x509.load_pem_x509_certificate(files.authority.read_bytes())
        certificates.guard_context(files)  # the key fits
        certificate.verify_directly_issued_by(authority)
    except Exception as e:
        yield Check(what, False, f"{type(e).__name__}: {e}", "make it anew: domicile certificates --renew")
        return
    subject = certificates.common_name(certificate)
    left = certificate.not_valid_after_utc - datetime.now(UTC)
    yield Check(
        what,
        subject == configuration.region and left > timedelta(days=CERTIFICATE_DAYS_MIN),
        f"region {subject}, for {left.days} more days",
        f"make one of region {configuration.region}: domicile certificates --renew",
    )
    mode = stat.S_IMODE(files.key.stat().st_mode)
    yield Check(f"key {files.key.name}", not mode & 0o077, f"mode {mode:04o}", f"chmod 600 {files.key}")


def _identity(configuration: Configuration, connection: Connection) -> Iterator[Check]:
    here = _value(connection, "select value from domicile.setting where name = 'here'")
    yield Check(
        "region",
        here == configuration.region,
        f"the database is region {here}",
        f"the configuration is of region {configuration.region}: one of the two is not what was meant",
    )
    known = {name for (name,) in connection.execute("select name from domicile.region").fetchall()}
    named = {configuration.region, *configuration.regions}
    yield Check(
        "regions",
        known == named,
        f"in the catalog {', '.join(sorted(known))}; in the configuration {', '.join(sorted(named))}",
        "add [regions.…] for those of the catalog, and `domicile init` those of the configuration",
    )


def _settings(_: Configuration, connection: Connection) -> Iterator[Check]:
    for name, wanted, well in (
        ("wal_level", "logical", lambda v: v == "logical"),
        ("max_prepared_transactions", "1 or more", lambda v: int(v) > 0),
        ("password_encryption", "scram-sha-256", lambda v: v == "scram-sha-256"),
    ):
        value = str(_value(connection, f"select current_setting('{name}')"))
        yield Check(name, well(value), value, f"set it to {wanted} and restart the server")


def _node_role(configuration: Configuration, connection: Connection) -> Iterator[Check]:
    row = connection.execute("select rolreplication, rolsuper from pg_roles where rolname = current_user").fetchone()
    assert row is not None
    if configuration.agent is not None:
        user = configuration.postgres.user
        yield Check(
            f"role {user}",
            row[0],
            "may replicate" if row[0] else "may not replicate",
            f"alter role {user} replication;",
        )
    yield Check("run as no superuser", not row[1], f"rolsuper is {row[1]}", 'use [postgres] user = "domicile_node"')


def _prepared(_: Configuration, connection: Connection) -> Iterator[Check]:
    rows = connection.execute(
        "select gid, extract(epoch from clock_timestamp() - prepared)::int from pg_prepared_xacts "
        "where database = current_database() and clock_timestamp() - prepared > make_interval(secs => %s)",
        (PREPARED_AGE_S_MAX,),
    ).fetchall()
    yield Check(
        "prepared transactions",
        not rows,
        ", ".join(f"{gid} for {age} s" for gid, age in rows) or "none is left behind",
        "they hold locks; ask the region that coordinated them, then COMMIT PREPARED or ROLLBACK PREPARED",
    )


def _findings(_: Configuration, connection: Connection) -> Iterator[Check]:
    rows = connection.execute("select finding, object from domicile.finding where not repaired").fetchall()
    if not rows:
        yield Check("the border", True, "the audit has nothing open")
    for finding, about in rows:
        yield Check("the border", False, f"{about}: {finding}", "\\df+ domicile.* says which function puts it right")


_FOREIGN_ROLES = (
    "select r.rolname from pg_auth_members m join pg_roles r on r.oid = m.roleid "
    "where m.member = (select oid from pg_roles where rolname = current_user) and r.rolname ~ '.@.' order by 1"
)


def _wall(_: Configuration, connection: Connection) -> Iterator[Check]:
    """Proves by enumeration what each foreign role reaches beyond its border schema, now."""
    roles = [name for (name,) in connection.execute(_FOREIGN_ROLES.encode()).fetchall()]
    holes = [
        f"{name}: {privilege} {kind} {about}"
        for name in roles
        for privilege, kind, about in connection.execute(
            "select privilege, kind, object from domicile.reach(%s)", (name,)
        ).fetchall()
    ]
    yield Check(
        "the wall",
        not holes,
        "; ".join(holes) or f"{len(roles)} roles of other regions reach nothing beyond their schemas",
        "select * from domicile.settle(true) as a DBA puts right what it may, and says what it may not",
    )


def _foreign_log_in(configuration: Configuration, connection: Connection) -> Iterator[Check]:
    """Logs in as the guard would, and with a wrong password, which must be refused."""
    name = _value(connection, _FOREIGN_ROLES)
    if name is None:
        return  # nothing is shared yet
    role, _, region = str(name).rpartition("@")
    secret = _value(connection, "select domicile.login_secret(%s, %s)", role, region)
    dsn = psycopg.conninfo.make_conninfo(conninfo(configuration.postgres), user=str(name), password=str(secret))
    try:
        psycopg.connect(dsn).close()
        yield Check(f'log-in as "{name}"', True, "by the guard's secret")
    except psycopg.OperationalError as e:
        yield Check(
            f'log-in as "{name}"', False, str(e).strip(), "let the guard's address in by scram-sha-256 in pg_hba.conf"
        )
    try:
        psycopg.connect(psycopg.conninfo.make_conninfo(dsn, password="wrong")).close()
        yield Check(
            "pg_hba.conf",
            False,
            f'"{name}" comes in with any password',
            "set scram-sha-256 for every address from which the server can be reached",
        )
    except psycopg.OperationalError:
        yield Check("pg_hba.conf", True, "a wrong password is refused")


def _others(configuration: Configuration, own: Status | None) -> Iterator[Check]:
    files = files_of(configuration)
    for name, peer in configuration.regions.items():
        assert files is not None
        try:
            status = ask_guard(peer.guard, name, files)
        except DomicileError as e:
            yield Check(f"region {name}", False, e.message, e.hint or "")
            continue
        yield Check(
            f"region {name}",
            status.region == name,
            f"its guard answers in {status.round_trip_s * 1000:.1f} ms",
            f"its database is region {status.region}",
        )
        apart = status.clock_ahead_s - (own.clock_ahead_s if own else 0.0)
        yield Check(
            f"clock of region {name}",
            abs(apart) <= CLOCK_S_MAX + status.round_trip_s / 2,
            f"{apart:+.2f} s from here",
            "run NTP on both servers",
        )
        if own is not None:
            yield Check(
                f"collation of region {name}",
                status.collation == own.collation,
                status.collation,
                f"here it is {own.collation}: text would sort differently, so the two can't be merged by it; make both "
                "databases with one provider, locale and version",
            )


def _value(connection: Connection, sql: str, *parameters: object) -> object:
    row = connection.execute(sql.encode(), parameters or None).fetchone()
    return row[0] if row else None
