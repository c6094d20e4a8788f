"""`domicile doctor`: what is ill is found, each in its place, and the rest is looked at all the same."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest

from domicile import doctor
from domicile.catalog.configuration import load
from domicile.certificates import make
from domicile.doctor import Check, examine
from domicile.embedded import EmbeddedServer
from domicile.init import install
from tests.conftest import Database
from tests.guard.conftest import EU, US, Running, options_for

SHOP = """
create table customers (id bigint primary key, region text not null);
create role app login password 'app';
grant select on customers to app;
select domicile.set_locality('customers', 'pinned', by => '{region}');
select domicile.create_policy('abroad', 'customers', clear => '{id,region}');
"""


@pytest.fixture(scope="module")
def region(servers_folder: Path) -> Iterator[Database]:
    with EmbeddedServer(servers_folder / "doctor") as server:
        server.run_sql("create database doctor")
        database = Database(server, "doctor")
        install(database.dsn, region="us", regions={"us": "X", "eu": "X"}, node_password="node")
        database.run_sql(SHOP)
        yield database
    server.remove()


Write = Callable[..., Path]


@pytest.fixture
def write(region: Database, tmp_path: Path) -> Write:
    """A function that writes a configuration of region us, right unless told otherwise; returns its path."""
    make(tmp_path, ["us", "eu"])

    def write(certificate: str = "us", password: str = "node", name: str = "us", others: str = "eu") -> Path:
        path = tmp_path / "domicile.toml"
        path.write_text(
            f"""
            region = "{name}"
            [postgres]
            port = {region.server.port}
            database = "doctor"
            password = "{password}"
            [guard]
            listen = "127.0.0.1:6442"
            certificate = "{certificate}.crt"
            key = "{certificate}.key"
            authority = "authority.crt"
            [regions.{others}]
            guard = "127.0.0.1:1"
            """
        )
        return path

    return write


def ill(path: Path) -> dict[str, Check]:
    return {check.what: check for check in examine(path) if not check.well}


def test_only_the_region_that_is_away_is_ill(write: Write) -> None:
    checks = list(examine(write()))
    assert [c.what for c in checks if not c.well] == ["region eu"]
    assert [c.what for c in checks][:4] == ["configuration", "certificate us.crt", "key us.key", "PostgreSQL"]
    assert {"the border", "the wall", 'log-in as "app@eu"', "pg_hba.conf"} <= {c.what for c in checks}


def test_a_certificate_of_another_region(write: Write) -> None:
    found = ill(write(certificate="eu"))["certificate eu.crt"]
    assert found.found.startswith("region eu")
    assert "domicile certificates --renew" in found.remedy


def test_a_key_of_another_certificate(write: Write) -> None:
    path = write()
    path.with_name("us.key").write_bytes(path.with_name("eu.key").read_bytes())
    assert "KEY_VALUES_MISMATCH" in ill(path)["certificate us.crt"].found


def test_a_certificate_that_ends_soon(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "CERTIFICATE_DAYS_MIN", 1000)
    assert "certificate us.crt" in ill(write())


def test_a_key_that_a_group_may_read(write: Write) -> None:
    path = write()
    path.with_name("us.key").chmod(0o640)
    assert ill(path)["key us.key"].remedy == f"chmod 600 {path.with_name('us.key')}"


def test_a_wrong_password_hides_nothing_else(write: Write) -> None:
    found = ill(write(password="wrong"))
    assert set(found) == {"PostgreSQL", "region eu"}
    assert 'password authentication failed for user "domicile_node"' in found["PostgreSQL"].found


def test_a_database_that_is_no_region(write: Write, region: Database) -> None:
    path = write()
    path.write_text(path.read_text().replace('"doctor"', '"postgres"'))
    assert "domicile init" in ill(path)["PostgreSQL"].remedy


def test_identity_and_regions_that_differ(write: Write) -> None:
    found = ill(write(certificate="eu", name="eu", others="ap"))
    assert found["region"].found == "the database is region us"
    assert found["regions"].found == "in the catalog eu, us; in the configuration ap, eu"


def test_a_prepared_transaction_that_was_left(write: Write, region: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "PREPARED_AGE_S_MAX", -1)
    region.run_sql("begin; create table left_behind (); prepare transaction 'left behind'")
    try:
        assert ill(write())["prepared transactions"].found.startswith("left behind for")
    finally:
        region.run_sql("rollback prepared 'left behind'")


def test_findings_of_the_audit_are_told(write: Write, region: Database) -> None:
    region.run_sql("insert into domicile.finding (finding, object, repaired) values ('a hole', 'a table', false)")
    try:
        assert ill(write())["the border"].found == "a table: a hole"
    finally:
        region.run_sql("delete from domicile.finding")


def test_a_hole_in_the_wall_is_found_before_any_audit(write: Write, region: Database) -> None:
    region.run_sql("create table plain (word text)")
    # Event triggers do not fire in replica mode: as on a server where no superuser installed any.
    region.run_sql("set session_replication_role = replica; grant select on plain to public")
    try:
        hole = ill(write())["the wall"].found
        assert hole.startswith("app@eu: ")
        assert "plain" in hole
    finally:
        region.run_sql("select domicile.settle(true)")
    assert "the wall" not in ill(write())


@contextlib.contextmanager
def trusting(server: EmbeddedServer) -> Iterator[None]:
    """PostgreSQL lets everybody in without a password."""
    file = server.data_dir / "pg_hba.conf"
    before = file.read_text()
    file.write_text("host all all 127.0.0.1/32 trust\n" + before)
    server.run_sql("select pg_reload_conf()")
    try:
        while server.run_sql("select count(*) from pg_hba_file_rules where auth_method = 'trust'") == [(0,)]:
            pass
        yield
    finally:
        file.write_text(before)
        server.run_sql("select pg_reload_conf()")


def test_a_server_that_asks_for_no_password_is_ill_and_the_guard_does_not_use_it(
    write: Write, region: Database
) -> None:
    path = write()
    configuration = load(path)
    files = make(path.parent, ["us", "eu"])
    running = Running(options_for(files[US]), configuration.postgres, dict(files))
    try:
        running.connect(region=EU).close()
        with trusting(region.server):
            assert ill(path)["pg_hba.conf"].found == '"app@eu" comes in with any password'
            with pytest.raises(psycopg.OperationalError, match="does not ask foreign roles for SCRAM-SHA-256"):
                running.connect(region=EU)
    finally:
        running.stop()
