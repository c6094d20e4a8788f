"""`domicile init` against real servers: what it refuses, all at once; what it makes; and that it can be repeated."""

from __future__ import annotations

import secrets
import shutil
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from domicile.catalog.snapshot import parse
from domicile.embedded import EmbeddedServer, find_binaries
from domicile.init import FULL, MANAGED, Refused, inspect, install
from domicile.sql import build
from tests.conftest import Database, MakeDatabase

REGIONS = {"us": "CCPA", "eu": "GDPR", "ap": "PDPA"}


@pytest.fixture
def database(server: EmbeddedServer, make_database: MakeDatabase) -> Iterator[Database]:
    yield make_database(server)
    # Back to PUBLIC what the wall took from the server's other databases, so that the roles can be dropped.
    with server.connect() as connection:
        for (role,) in connection.execute("select rolname from pg_roles where rolname ~ '^domicile_|^dba'").fetchall():
            connection.execute(f'drop owned by "{role}"'.encode())
        connection.execute("grant connect, temporary on database postgres to public")
        connection.execute("grant connect on database template1 to public")


@pytest.fixture
def dba(database: Database) -> str:
    """A DBA as a cloud service gives one: no superuser, owner of the database. Gives the DSN."""
    database.run_sql("create role dba login password 'dba' createrole replication")
    database.run_sql(f'alter database "{database.name}" owner to dba')
    database.run_sql("alter schema public owner to dba")
    return database.dsn_of("dba", "dba")


def roles(database: Database) -> set[str]:
    return {row[0] for row in database.run_sql("select rolname from pg_roles")}


def test_a_database_becomes_a_region(database: Database) -> None:
    told: list[str] = []
    findings = install(database.dsn, region="eu", regions=REGIONS, node_password="node", report=told.append)
    assert (findings.level, findings.installed, findings.refusals) == (FULL, False, ())
    catalog = parse(database.run_sql("select domicile.snapshot()")[0][0])
    assert catalog.here == "eu"
    assert [(r.name, r.number, r.jurisdiction) for r in catalog.regions.values()] == [
        ("us", 1, "CCPA"),
        ("eu", 2, "GDPR"),
        ("ap", 3, "PDPA"),
    ]
    assert told[0] == "installing the schema domicile (full level)"
    with database.connect("domicile_node", "node") as node:
        assert node.execute("select domicile.version() > 0").fetchone() == (True,)


def test_the_node_s_password_is_in_no_statement(database: Database) -> None:
    password = secrets.token_hex(16)
    database.run_sql("alter system set log_statement = 'all'")
    database.run_sql("select pg_reload_conf()")
    try:
        install(database.dsn, region="us", regions=REGIONS, node_password=password)
    finally:
        database.run_sql("alter system reset log_statement")
        database.run_sql("select pg_reload_conf()")
    log = database.server.log.read_text()
    assert "alter role domicile_node password" in log
    assert password not in log
    database.connect("domicile_node", password).close()


def test_a_second_time_changes_nothing_and_may_add_a_region(database: Database) -> None:
    install(database.dsn, region="us", regions=REGIONS)
    version = database.run_sql("select domicile.version()")
    findings = install(database.dsn, region="us", regions=REGIONS)
    assert (findings.installed, findings.steps) == (True, ())
    assert database.run_sql("select domicile.version()") == version
    told: list[str] = []
    install(database.dsn, region="us", regions=REGIONS | {"sa": "LGPD"}, report=told.append)
    assert told == ["region sa, number 4, jurisdiction LGPD"]


def test_a_dba_without_superuser_installs_the_managed_level(database: Database, dba: str) -> None:
    findings = install(dba, region="us", regions=REGIONS, node_password="node")
    assert (findings.level, findings.refusals) == (MANAGED, ())
    replicates = database.run_sql("select rolreplication from pg_roles where rolname = 'domicile_node'")
    assert [n.what for n in findings.needs if not n.met] == (
        [] if replicates == [(True,)] else ["REPLICATION (or a superuser)"]
    )
    with database.connect("domicile_node", "node") as node:
        assert node.execute("select domicile.snapshot() ->> 'here'").fetchone() == ("us",)
    install(dba, region="us", regions=REGIONS)


def test_looking_changes_nothing(database: Database) -> None:
    before = roles(database)
    with psycopg.connect(database.dsn) as connection:
        findings = inspect(connection, "us", REGIONS)
    assert findings.steps[:2] == (
        "create schema domicile, roles domicile_… (full level, version 0.1)",
        "select domicile.create_region('us', 'CCPA', 1)",
    )
    assert all(n.why and n.remedy for n in findings.needs)
    assert roles(database) == before
    assert database.run_sql("select to_regnamespace('domicile')") == [(None,)]


def test_every_missing_privilege_is_said_at_once(database: Database) -> None:
    database.run_sql("create role nobody_much login password 'x'")
    with pytest.raises(Refused) as caught:
        install(database.dsn_of("nobody_much", "x"), region="us", regions=REGIONS)
    assert [n.what.split(" (")[0] for n in caught.value.refusals] == [
        "CREATEROLE",
        f"ownership of database {database.name}",
    ]
    assert caught.value.sqlstate == "55000"
    assert 'Remedy: alter role "nobody_much" createrole;' in (caught.value.detail or "")
    assert database.run_sql("select to_regnamespace('domicile')") == [(None,)]


def test_conflicts_are_refused(database: Database) -> None:
    database.run_sql("create schema domicile")
    database.run_sql(f"create role {'x' * 61} login")
    database.run_sql('create role "app@eu" login')
    with pytest.raises(Refused) as caught:
        install(database.dsn, region="us", regions=REGIONS)
    assert [n.what for n in caught.value.refusals] == [
        "a schema domicile that is not Domicile's",
        f'role "{"x" * 61}"',
        'role "app@eu"',
    ]


def test_another_identity_or_number_is_refused(database: Database) -> None:
    install(database.dsn, region="us", regions=REGIONS)
    with pytest.raises(Refused) as caught:
        install(database.dsn, region="eu", regions={"eu": "GDPR", "us": "CCPA", "ap": "PDPA"})
    assert [n.what for n in caught.value.refusals] == [
        "this database is region us",
        "region eu is number 2, jurisdiction GDPR here, not 1, GDPR",
        "region us is number 1, jurisdiction CCPA here, not 2, CCPA",
    ]


@pytest.mark.parametrize(("region", "regions"), [("US", REGIONS), ("mars", REGIONS), ("us", {"us": "X", "a-b": "Y"})])
def test_names_that_are_none_are_refused(region: str, regions: dict[str, str], server18: EmbeddedServer) -> None:
    with pytest.raises(ValueError, match="region"):
        install(server18.dsn(), region=region, regions=regions)


def test_server_settings_that_do_not_do_are_refused(servers_folder: Path) -> None:
    settings = {
        "wal_level": "replica",
        "max_prepared_transactions": "0",
        "max_replication_slots": "1",
        "password_encryption": "md5",
    }
    with EmbeddedServer(servers_folder / "unfit", binaries=find_binaries(), settings=settings) as server:
        server.run_sql("create database latin encoding 'latin1' template template0 locale 'C' locale_provider 'libc'")
        with pytest.raises(Refused) as caught:
            install(server.dsn(database="latin"), region="us", regions=REGIONS)
    assert [n.what for n in caught.value.refusals] == [
        "encoding UTF8",
        "wal_level = logical",
        "max_prepared_transactions of 1 or more",
        "max_replication_slots and max_wal_senders of 2 or more",
        "password_encryption = scram-sha-256",
    ]


def test_where_the_server_offers_the_extension_a_superuser_creates_it(servers_folder: Path) -> None:
    offered = servers_folder / "offered"
    (offered / "extension").mkdir(parents=True)
    for file in ("domicile.control", "domicile--0.1.sql"):
        shutil.copy(build.FOLDER / file, offered / "extension" / file)
    settings = {"extension_control_path": f"$system:{offered}"}
    with EmbeddedServer(servers_folder / "extension", binaries=find_binaries(), settings=settings) as server:
        server.run_sql("create database offered")
        database = Database(server, "offered")
        install(database.dsn, region="us", regions=REGIONS)
        assert database.run_sql("select extversion from pg_extension where extname = 'domicile'") == [("0.1",)]
        assert install(database.dsn, region="us", regions=REGIONS).steps == ()
        database.run_sql(
            """
            create table t (id bigint primary key, region text not null);
            create role app login password 'app';
            grant select on t to app;
            select domicile.set_locality('t', 'pinned', by => '{region}');
            select domicile.create_policy('abroad', 't', clear => '{id}');
            """
        )
        assert database.run_sql("select count(*) from to_eu.t") == [(0,)]
    server.remove()
