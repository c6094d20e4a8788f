"""The configuration: what is right is read, and whatever is wrong is said at once, with its remedy."""

from __future__ import annotations

import re
from dataclasses import fields
from pathlib import Path

import pytest

from domicile.catalog import configuration
from domicile.catalog.configuration import Configuration, ConfigurationError, Endpoint, load, parse

DOCUMENT = Path(__file__).parents[2] / "docs" / "configuration.md"
MINIMAL = """
region = "us"
[postgres]
database = "shop"
password = "p"
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("node.password", "gateway.crt", "gateway.key", "us.crt", "us.key", "authority.crt"):
        (tmp_path / name).write_text("secret\n")
        (tmp_path / name).chmod(0o600)
    return tmp_path


def read(text: str, folder: Path = Path("/nowhere"), **environment: str) -> Configuration:
    return parse(text, folder=folder, environment=environment)


def mistakes(text: str, folder: Path = Path("/nowhere")) -> list[str]:
    with pytest.raises(ConfigurationError) as caught:
        read(text, folder)
    return [f"{m.where}: {m.what} -> {m.remedy}" for m in caught.value.mistakes]


def test_the_least_that_works() -> None:
    c = read(MINIMAL)
    assert (c.region, c.postgres.database, c.postgres.user) == ("us", "shop", "domicile_node")
    assert (c.postgres.host, c.postgres.port, c.postgres.sslmode) == ("127.0.0.1", 5432, "disable")
    assert c.gateway.listen == Endpoint("127.0.0.1", 6432)
    assert (c.guard, c.agent, c.regions, c.redis_url) == (None, None, {}, None)


def test_the_manuals_example_is_whole_and_right(folder: Path) -> None:
    example = re.search(r"```toml\n(.*?)```", DOCUMENT.read_text(), re.S)
    assert example is not None
    c = read(example[1], folder)
    assert c.postgres.password == "secret"
    assert c.guard is not None
    assert c.guard.key == folder / "us.key"
    assert c.agent is not None
    assert c.regions["eu"].guard == Endpoint("eu.example.com", 6442)  # type: ignore[index]
    assert list(c.regions) == ["eu", "ap"]


def test_the_manual_names_every_setting() -> None:
    manual = DOCUMENT.read_text()
    parts = ("Postgres", "Gateway", "Guard", "Agent", "Peer")
    names = {f.name for part in parts for f in fields(getattr(configuration, part))}
    assert {n for n in names if f"`{n}`" not in manual} == set()


def test_three_mistakes_are_reported_at_once_each_with_its_remedy() -> None:
    found = mistakes('region = "US"\n[postgres]\nport = 99999\ndatabse = "shop"\npassword = "p"\n')
    assert found == [
        "region: region name 'US' must begin with a lower-case letter and hold at most 16 of a-z, 0-9 and _"
        ' -> name it as domicile.create_region did, such as "us"',
        "[postgres] port: is 99999 -> a whole number from 1 to 65535",
        "[postgres] database: is missing -> add database = …; docs/configuration.md says what it is",
        "[postgres] databse: is not a setting -> did you mean database?",
    ]


def test_the_error_reads_as_a_list() -> None:
    with pytest.raises(ConfigurationError) as caught:
        read('region = "us"\n')
    assert str(caught.value) == (
        "domicile.toml: 1 mistake\n"
        "  postgres: is missing\n"
        "    add a table [postgres]; docs/configuration.md lists its settings"
    )


@pytest.mark.parametrize(
    ("addition", "says"),
    [
        ("[gateway]\nlisten = 5", "[gateway] listen: is not a string"),
        ('[gateway]\nlisten = "nowhere"', "[gateway] listen: is 'nowhere'"),
        ('[gateway]\nlisten = "::1:6432"', "[gateway] listen: is '::1:6432'"),
        ('[gateway]\nlisten = "h:70000"', "[gateway] listen: is 'h:70000'"),
        ("[gateway]\npool_size = 0", "[gateway] pool_size: is 0"),
        ("[gateway]\npool_size = true", "[gateway] pool_size: is True"),
        ("[gateway]\nquery_wait_timeout_s = -1", "[gateway] query_wait_timeout_s: is -1"),
        ("[gateway]\nquery_wait_timeout_s = nan", "[gateway] query_wait_timeout_s: is nan"),
        ('[gateway]\ncertificate = "gateway.crt"', "[gateway] key: is missing beside certificate"),
        ('[gateway]\ncertificate = "none.crt"\nkey = "gateway.key"', "none.crt can't be read"),
        ('[guard]\nlisten = "h:1"', "[guard] certificate: is missing"),
        ('[guard]\nfunctions = "f"', "[guard] functions: is not a list"),
        ('[regions.eu]\nguard = "h:1"', "guard: is missing, and [regions.…] names other regions"),
        ('[regions.eu]\nagent = "h:1"', "[regions.eu] guard: is missing"),
        ('[regions.us]\nguard = "h:1"', "[regions] us: is this node's own region"),
        ('[regions.EU]\nguard = "h:1"', "[regions] EU: region name 'EU'"),
        ("regions = 1", "regions: is not a table"),
        ('[agent]\nlisten = "h:1"', "agent: needs the certificates"),
        ('[redis]\nurl = "http://x"', "[redis] url: is 'http'"),
        ('[gatway]\nlisten = "h:1"', "gatway: is not a setting -> did you mean gateway?"),
        ('[gateway]\nlisten = ""', "[gateway] listen: is empty"),
    ],
)
def test_each_mistake(addition: str, says: str, folder: Path) -> None:
    top, _, tables = MINIMAL.partition("[postgres]")
    text = top + addition + "\n[postgres]" + tables if addition.startswith("regions =") else MINIMAL + addition
    found = mistakes(text, folder)
    assert any(says in m for m in found), found


def test_one_port_is_not_for_two(folder: Path) -> None:
    text = MINIMAL + (
        '[gateway]\nlisten = "h:1"\n[guard]\nlisten = "h:1"\n'
        'certificate = "us.crt"\nkey = "us.key"\nauthority = "authority.crt"\n'
    )
    assert mistakes(text, folder) == ["[guard] listen: h:1 is already [gateway] listen -> give each its own port"]


def test_a_password_comes_by_value_file_or_variable(folder: Path) -> None:
    def with_password(line: str) -> str:
        return MINIMAL.replace('password = "p"', line)

    by_file = read(with_password('password_file = "node.password"'), folder)
    by_variable = read(with_password('password_env = "PW"'), PW="from the environment")
    assert by_file.postgres.password == "secret"
    assert by_variable.postgres.password == "from the environment"
    assert mistakes(with_password("")) == [
        "[postgres] password: is missing -> give one of password, password_file, password_env"
    ]
    assert "are given" in mistakes(with_password('password = "p"\npassword_env = "PW"'))[0]
    assert "variable PW is not set" in mistakes(with_password('password_env = "PW"'))[0]
    (folder / "node.password").write_text("\n")
    assert "is empty" in mistakes(with_password('password_file = "node.password"'), folder)[0]


@pytest.mark.parametrize("name", ["node.password", "us.key"])
def test_a_secret_that_everyone_may_read_is_refused(name: str, folder: Path) -> None:
    (folder / name).chmod(0o644)
    text = MINIMAL.replace('password = "p"', 'password_file = "node.password"') + (
        '[guard]\nlisten = "h:1"\ncertificate = "us.crt"\nkey = "us.key"\nauthority = "authority.crt"\n'
    )
    assert [m.endswith(f"-> chmod 600 {folder / name}") for m in mistakes(text, folder)] == [True]


def test_secrets_never_show(folder: Path) -> None:
    c = read(MINIMAL.replace('"p"', '"hunter2"') + '[redis]\nurl = "redis://:hunter3@h:1/0"\n')
    assert "hunter" not in repr(c)
    assert "hunter4" not in "".join(mistakes(MINIMAL + '[redis]\nurl = "hunter://:hunter4@h"\n'))


@pytest.mark.parametrize(("host", "sslmode"), [("localhost", "disable"), ("/run", "disable"), ("db.x", "require")])
def test_tls_is_asked_for_where_the_server_is_elsewhere(host: str, sslmode: str) -> None:
    assert read(MINIMAL + f'host = "{host}"\n').postgres.sslmode == sslmode


def test_a_file_is_loaded_relative_to_itself(folder: Path) -> None:
    path = folder / "domicile.toml"
    path.write_text(MINIMAL.replace('password = "p"', 'password_file = "node.password"'))
    assert load(path).postgres.password == "secret"


@pytest.mark.parametrize(
    ("content", "says"),
    [(None, "no such file"), (b"\xff", "can't be read"), (b"a =", "is not TOML"), (b" " * 1_000_001, "over 1 MB")],
)
def test_what_is_no_configuration(content: bytes | None, says: str, tmp_path: Path) -> None:
    path = tmp_path / "domicile.toml"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ConfigurationError, match=says):
        load(path)
