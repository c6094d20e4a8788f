"""The script: built from its parts, an extension and a plain install from one text."""

from __future__ import annotations

from pathlib import Path

import pytest

from domicile.embedded import EmbeddedServer
from domicile.sql import build

from ..conftest import MakeDatabase
from .conftest import Region

GIVE_BACK = """
grant connect, temporary on database postgres to public;
grant connect on database template1 to public;
"""


def test_built_script_is_what_the_parts_say(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    assert build.main(["--check"]) == 0, "run: python -m domicile.sql.build"
    monkeypatch.setattr(build, "BUILT", tmp_path / "stale.sql")
    assert build.main(["--check"]) == 1
    assert "stale" in capsys.readouterr().err
    assert build.main(["--wrong"]) == 2
    assert build.main([]) == 0
    assert build.main(["--check"]) == 0


def test_everything_public_has_a_comment(region: Region) -> None:
    assert (
        region.run("""
        select p.oid::regprocedure::text from pg_proc p
        where p.pronamespace = 'domicile'::regnamespace and obj_description(p.oid, 'pg_proc') is null
        and not exists (select from domicile.mask_wrapper w where w.name = p.proname)
        union all
        select c.oid::regclass::text from pg_class c
        where c.relnamespace = 'domicile'::regnamespace and c.relkind in ('r', 'v')
        and obj_description(c.oid, 'pg_class') is null
    """)
        == []
    )


def test_nothing_that_runs_with_the_owners_rights_is_open(region: Region) -> None:
    open_ = {
        name
        for (name,) in region.run("""
            select p.proname from pg_proc p where p.pronamespace = 'domicile'::regnamespace and p.prosecdef
            and has_function_privilege('public', p.oid, 'execute')""")
    }
    assert open_ == {"here", "next_id", "region_of", "set_password"}
    assert (
        region.run("""
        select p.proname from pg_proc p where p.pronamespace = 'domicile'::regnamespace and p.prosecdef
        and not coalesce(p.proconfig::text, '') like '%search_path=pg_catalog, pg_temp%'""")
        == []
    )


def test_as_an_extension(server18: EmbeddedServer, make_database: MakeDatabase) -> None:
    folder = Path(build.__file__).parent
    database = make_database(server18)
    try:
        # extension_control_path (18) lets an extension stand anywhere; elsewhere it is copied to the server's folder.
        place = server18.data_dir / "extensions" / "extension"
        place.mkdir(parents=True, exist_ok=True)
        place.parent.chmod(0o755)
        place.chmod(0o755)
        for name in ("domicile.control", f"domicile--{build.VERSION}.sql"):
            (place / name).write_text((folder / name).read_text())
            (place / name).chmod(0o644)
        with database.connect() as c:
            c.execute(f"set extension_control_path = '{place.parent}:$system'".encode())
            c.execute("create extension domicile")
            c.execute("select domicile.create_region('eu', 'GDPR'), domicile.set_here('eu')")
            assert c.execute("select extversion from pg_extension where extname = 'domicile'").fetchone() == ("0.1",)
            assert c.execute("select domicile.here()").fetchone() == ("eu",)
    finally:
        server18.run_sql(GIVE_BACK)


def test_a_second_install_on_the_server_finds_its_roles(server18: EmbeddedServer, make_database: MakeDatabase) -> None:
    for _ in range(2):
        make_database(server18).run_sql(build.script())
