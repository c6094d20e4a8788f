"""The command line, in process: what each command prints, and its exit code."""

from __future__ import annotations

import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from domicile import policy
from domicile.catalog.errors import DomicileError
from domicile.cli import main
from domicile.embedded import EmbeddedServer
from tests.conftest import Database, MakeDatabase

INIT = ["us", "us=CCPA", "eu=GDPR"]


@pytest.fixture
def database(server18: EmbeddedServer, make_database: MakeDatabase) -> Iterator[Database]:
    yield make_database(server18)
    with server18.connect() as connection:
        roles = connection.execute("select rolname from pg_roles where rolname ~ '^domicile_|@' or rolname = 'app'")
        for (role,) in roles.fetchall():
            connection.execute(f'drop owned by "{role}"'.encode())
        connection.execute("grant connect, temporary on database postgres to public")
        connection.execute("grant connect on database template1 to public")


def test_init_says_what_it_needs_and_a_dry_run_changes_nothing(
    database: Database, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["init", *INIT, "--dsn", database.dsn, "--dry-run"]) == 0
    said = capsys.readouterr().out
    assert "ok       wal_level = logical: the change stream is read from the WAL" in said
    assert "  create schema domicile, roles domicile_… (full level, version 0.1)" in said
    assert database.run_sql("select to_regnamespace('domicile')") == [(None,)]


def test_init_makes_the_password_file_and_the_node_comes_in_by_it(
    database: Database, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "node.password"
    for _ in range(2):
        assert main(["init", *INIT, "--dsn", database.dsn, "--password-file", str(file)]) == 0
        assert "This database is region us." in capsys.readouterr().out
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    database.connect("domicile_node", file.read_text().strip()).close()


def test_init_refuses_with_every_reason(database: Database, capsys: pytest.CaptureFixture[str]) -> None:
    database.run_sql("create role app login password 'app'")
    assert main(["init", *INIT, "--dsn", database.dsn_of("app", "app")]) == 1
    said = capsys.readouterr()
    assert "MISSING  CREATEROLE (or a superuser)" in said.out
    assert "this database can't become region us: 2 reasons" in said.err
    assert "HINT:  Nothing was changed." in said.err


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["init", "us", "eu=GDPR", "--dsn", "x"], "region us must be among the regions"),
        (["init", "us", "us=A", "us=B", "--dsn", "x"], "each be named once"),
        (["up", "/nowhere/domicile.toml"], "/nowhere/domicile.toml: 1 mistake"),
        (["status", "/nowhere/domicile.toml"], "no such file"),
        (["explain", "select 1", "--dsn", "host=127.0.0.1 port=1"], "connection"),
        (["certificates", "/dev/null/x", "us"], "/dev/null"),
        (["certificates", "x", "US"], "region name 'US'"),
        (["policy", "diff", "/nowhere.sql", "--dsn", "host=127.0.0.1 port=1"], "connection"),
    ],
)
def test_what_can_not_be_done_is_said(arguments: list[str], says: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments) == 1
    assert says in capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments",
    [[], ["nothing"], ["init", "us"], ["init", "us", "us", "--dsn", "x"], ["init", "us", "US=X", "--dsn", "x"]],
)
def test_a_command_written_wrong_ends_with_2(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert caught.value.code == 2
    assert "usage: domicile" in capsys.readouterr().err


def test_doctor_reports_a_configurations_mistakes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "domicile.toml"
    file.write_text('region = "US"\n')
    assert main(["doctor", str(file)]) == 1
    said = capsys.readouterr().out
    assert said.count("bad") == 2
    assert "add a table [postgres]" in said


def test_certificates_are_made(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["certificates", str(tmp_path / "f"), "us", "eu"]) == 0
    assert "Region eu needs eu.crt, eu.key and authority.crt." in capsys.readouterr().out
    (tmp_path / "f" / "authority.key").unlink()
    assert main(["certificates", str(tmp_path / "f"), "ap"]) == 1
    assert "authority.key is not there" in capsys.readouterr().err


POLICIES = """
-- nothing; a comment
CREATE RESIDENCY POLICY abroad ON customers TO REGION ALL CLEAR (id, country);
/* the other form; */
select domicile.create_policy('abroad', 'customers', clear => '{id,country}',
    masks => '{"name": "domicile.partial(name, 1)"}')
"""


def test_policy_diff_shows_what_would_newly_cross(
    database: Database, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["init", *INIT, "--dsn", database.dsn]) == 0
    database.run_sql(
        """
        create table customers (id bigint primary key, country text not null, name text);
        create role app login password 'app';
        grant select on customers to app;
        select domicile.set_locality('customers', 'pinned', by => '{country}');
        insert into customers values (1, 'us', 'Grace');
        """
    )
    file = tmp_path / "policies.sql"
    file.write_text(POLICIES)
    version = database.run_sql("select domicile.version()")
    capsys.readouterr()
    assert main(["policy", "diff", str(file), "--dsn", database.dsn]) == 1
    said = capsys.readouterr().out
    assert "G***" in said
    assert "Grace" not in said
    assert said.count("CREATE RESIDENCY POLICY abroad") == 1
    assert database.run_sql("select domicile.version()") == version

    database.run_sql("select domicile.create_policy('abroad', 'customers', clear => '{id}')")
    file.write_text("select domicile.create_policy('abroad', 'customers');")
    assert main(["policy", "diff", str(file), "--dsn", database.dsn]) == 0
    assert main(["policy", "show", "customers", "--dsn", database.dsn]) == 0
    assert "withheld" in capsys.readouterr().out
    file.write_text("drop table customers")
    assert main(["policy", "diff", str(file), "--dsn", database.dsn]) == 1
    assert "this is no policy: drop table customers" in capsys.readouterr().err


def test_a_file_is_split_where_postgresql_would() -> None:
    text = "select ';', $$;$$ -- ;\n; ; /* ; */ select 'ä';\n"
    assert list(policy.statements(text)) == ["select ';', $$;$$ -- ;", "select 'ä'"]
    with pytest.raises(DomicileError, match="unterminated"):
        list(policy.statements("select 'abc"))
