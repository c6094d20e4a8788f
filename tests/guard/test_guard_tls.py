"""The guard's own way to PostgreSQL in TLS (PostgreSQL 15 of the system, which is built with it)."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import psycopg
import pytest

from domicile.catalog.names import RegionName
from domicile.certificates import RegionFiles, make
from domicile.embedded import EmbeddedServer, find_binaries, server_user
from tests.conftest import POSTGRES_15, Database, require
from tests.guard.conftest import SECRET, US, Running, options_for, postgres_of, set_secret

SCHEMA = """
create schema domicile;
create function domicile.login_secret(role text, region text) returns text language sql
    as $$ select current_setting('domicile.test_secret', true) $$;
create role "app@eu" login;
"""


@pytest.fixture(scope="module")
def certificate(servers_folder: Path) -> RegionFiles:
    """For the server: the names that a region's certificate has will do."""
    files = make(servers_folder / "tls", ["us"])[US]
    user = server_user()
    files.certificate.parent.chmod(0o711)
    if user is not None:
        os.chown(files.key, user.pw_uid, user.pw_gid)
    return files


@pytest.fixture(scope="module")
def database(servers_folder: Path, certificate: RegionFiles) -> Iterator[Database]:
    require((POSTGRES_15 / "initdb").exists(), f"PostgreSQL 15 in {POSTGRES_15} (apt-get install postgresql-15)")
    settings = {"ssl": "on", "ssl_cert_file": str(certificate.certificate), "ssl_key_file": str(certificate.key)}
    server = EmbeddedServer(servers_folder / "with-tls", binaries=find_binaries(POSTGRES_15), settings=settings)
    server.start()
    database = Database(server, "postgres")
    database.run_sql(SCHEMA)
    set_secret(database, "app@eu", SECRET)
    yield database
    server.remove()


@pytest.mark.parametrize(
    ("sslmode", "host", "comes_in"),
    [("require", "127.0.0.1", True), ("disable", "127.0.0.1", True), ("verify-full", "localhost", False)],
)
def test_sslmode(
    sslmode: str,
    host: str,
    comes_in: bool,
    database: Database,
    certificate: RegionFiles,
    federation: dict[RegionName, RegionFiles],
) -> None:
    plain = postgres_of(database)
    running = Running(options_for(federation[US]), plain, federation)
    guard = running.guard
    guard.postgres = replace(plain, host=host, sslmode=sslmode, sslrootcert=certificate.authority)
    guard._postgres_tls = guard.postgres.ssl_context()
    try:
        if not comes_in:  # the server's certificate is of another name than its host's
            with pytest.raises(psycopg.OperationalError, match="PostgreSQL of region us can't be reached"):
                running.connect()
            return
        with running.connect() as c:
            rows = c.execute("select version(), repeat('x', 200000)").fetchall()
            assert len(rows[0][1]) == 200_000
            seen = database.run_sql(
                "select ssl from pg_stat_ssl join pg_stat_activity using (pid) where usename = 'app@eu'"
            )
            assert seen == [(sslmode == "require",)]
    finally:
        running.stop()


def test_a_server_without_tls_is_not_spoken_to_in_plain(
    server18: EmbeddedServer, federation: dict[RegionName, RegionFiles]
) -> None:
    running = Running(options_for(federation[US]), postgres_of(Database(server18, "postgres")), federation)
    guard = running.guard
    guard._keys["app@eu"] = SECRET
    guard.postgres = replace(guard.postgres, sslmode="require")
    guard._postgres_tls = guard.postgres.ssl_context()
    try:
        with pytest.raises(psycopg.OperationalError, match="PostgreSQL of region us can't be reached"):
            running.connect()
    finally:
        running.stop()
