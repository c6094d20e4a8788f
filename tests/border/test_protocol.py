"""Who comes in, and what bytes may do: certificates, log-ins, startup parameters, the protocol bent at the guard."""

from __future__ import annotations

import os
import socket
import ssl
import struct
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psycopg
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from domicile.catalog.names import region_name
from domicile.certificates import RegionFiles, caller_context, server_name
from domicile.proxy import messages as m
from domicile.proxy.guard_server import Login
from domicile.replication import wire as w
from tests.guard.conftest import Wire

from .conftest import DATABASE, Border, found

US = region_name("us")

pytestmark = pytest.mark.usefixtures("careless")


# --- certificates ---------------------------------------------------------------------------------------------------


def certificate(folder: Path, like: RegionFiles, common: str, alternative: str, days: int = 5) -> RegionFiles:
    """A certificate that the federation's own authority signed, with these names, that ends in so many days."""
    issuer = x509.load_pem_x509_certificate(like.authority.read_bytes())
    signer = serialization.load_pem_private_key(like.authority.with_suffix(".key").read_bytes(), password=None)
    assert isinstance(signer, ec.EllipticCurvePrivateKey)
    key = ec.generate_private_key(ec.SECP256R1())
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common)]))
        .issuer_name(issuer.subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=30))
        .not_valid_after(now + timedelta(days=days))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(alternative)]), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key()), critical=False)
        .sign(signer, hashes.SHA256())
    )
    files = replace(like, certificate=folder / "made.crt", key=folder / "made.key")
    files.certificate.write_bytes(made.public_bytes(serialization.Encoding.PEM))
    files.key.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return files


def no_certificate(border: Border) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(border.files["eu"].authority)
    return context


Maker = Callable[[Border, Path], ssl.SSLContext]

CALLERS: dict[str, Maker] = {
    "no certificate": lambda border, _: no_certificate(border),
    "another authority's": lambda border, _: strangers(border),
    "expired": lambda border, folder: of(border, folder, "eu", "domicile-region-eu", days=-1),
    "an unknown region's": lambda border, folder: of(border, folder, "zz", "domicile-region-zz"),
    "two names that differ": lambda border, folder: of(border, folder, "eu", "domicile-region-us"),
    "its own": lambda border, _: caller_context(border.files["us"]),
    "no region's": lambda border, folder: of(border, folder, "EU; drop", "domicile-region-eu"),
}


def of(border: Border, folder: Path, common: str, alternative: str, days: int = 5) -> ssl.SSLContext:
    return caller_context(certificate(folder, border.files["eu"], common, alternative, days))


def strangers(border: Border) -> ssl.SSLContext:
    # Their certificates, our authority to check the guard by: it is the guard that must refuse.
    context = caller_context(border.strangers["eu"])
    context.load_verify_locations(border.files["eu"].authority)
    return context


def said_to(context: ssl.SSLContext | None, port: int, first: bytes) -> bytes:
    """All that the port answers to whoever comes so and says this first."""
    with socket.create_connection(("127.0.0.1", port), timeout=20) as plain:
        heard = b""
        try:
            sock = plain if context is None else context.wrap_socket(plain, server_hostname=server_name(US))
            with sock:
                sock.sendall(first)
                while part := sock.recv(65536):
                    heard += part
        except (ssl.SSLError, ConnectionError, TimeoutError):
            pass  # what was heard until then is what counts
        return heard


STARTUP = m.build_startup({"user": "app", "database": DATABASE})


@pytest.mark.parametrize("who", CALLERS)
def test_who_is_not_another_region_is_sent_away(who: str, border: Border, tmp_path: Path) -> None:
    context = CALLERS[who](border, tmp_path)
    heard = said_to(context, border.federation.regions["us"].guard_port, STARTUP)
    assert b"28000" in heard or heard == b"", heard
    assert m.AUTHENTICATION_OK not in heard


@pytest.mark.parametrize("who", CALLERS)
def test_the_agent_sends_them_away_too(who: str, border: Border, tmp_path: Path) -> None:
    context = CALLERS[who](border, tmp_path)
    hello = w.encode(w.Hello(w.PROTOCOL_VERSION, "eu", None, None))
    assert said_to(context, border.federation.regions["us"].agent_port, hello) == b""


@pytest.mark.parametrize("first", [STARTUP, struct.pack("!II", 8, m.SSL_REQUEST), b"GET / HTTP/1.0\r\n\r\n"])
def test_no_plain_text(first: bytes, border: Border) -> None:
    us = border.federation.regions["us"]
    for port in (us.guard_port, us.agent_port):
        heard = said_to(None, port, first)
        # At most a TLS alert.
        assert heard == b"" or heard[0] == 21
        assert found(heard.decode(errors="replace")) == []


def test_an_agent_believes_the_certificate_and_not_the_word(border: Border) -> None:
    port = border.federation.regions["us"].agent_port
    heard = said_to(border.context(), port, w.encode(w.Hello(w.PROTOCOL_VERSION, "ap", None, None)))
    assert b"customers" not in heard
    assert not [frame for frame in w.Decoder().feed(heard) if not isinstance(frame, w.Refuse)]


def test_an_agent_fed_with_rubbish_says_nothing(border: Border) -> None:
    port = border.federation.regions["us"].agent_port
    for rubbish in (b"\xff" * 64, b"\0" * 64, STARTUP, w.encode(w.Ack(w.Lsn(1))), w.encode(w.Ready())):
        heard = said_to(border.context(), port, rubbish)
        assert b"customers" not in heard
        assert found(heard.decode(errors="replace")) == []


# --- log-in ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "role",
    [
        "postgres", "app@eu", "app@us", "domicile_node", "domicile_views", "domicile_local", "pg_read_all_data",
        "nobody", "App", "app ", 'app"@eu', "app@eu@eu", "r" * 60, "r" * 63, "r" * 200, "app@", "domicile_statusx",
    ],
)  # fmt: skip
def test_no_other_role_comes_in_at_the_guard(role: str, border: Border) -> None:
    with pytest.raises(psycopg.OperationalError, match=r"is not known|would|over 63|does not exist|has over"):
        border.guard(role)


def test_no_foreign_role_and_no_superuser_comes_in_at_a_gateway(border: Border) -> None:
    us = border.federation.regions["us"]
    given = psycopg.conninfo.conninfo_to_dict(border.federation.foreign_dsn("eu", "us"))
    for user, password in (
        ("app@eu", given["password"]),
        ("postgres", us.server.password),
        ("app", border.federation.regions["eu"].passwords["app"]),
    ):
        with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
            psycopg.connect(us.gateway_dsn("app"), user=user, password=str(password))


PARAMETERS = {
    "options": "-c search_path=public",
    "search_path": "public",
    "role": "app",
    "session_authorization": "app",
    "replication": "database",
    "standard_conforming_strings": "off",
    "client_encoding": "LATIN1",
    "row_security": "off",
    "session_replication_role": "replica",
    "local_preload_libraries": "x",
    "default_table_access_method": "heap",
    "log_statement": "all",
    "SEARCH_PATH": "public",
}


@pytest.mark.parametrize("name", PARAMETERS)
def test_startup_parameters_are_on_a_list(name: str, border: Border) -> None:
    startup = m.build_startup({"user": "app", "database": DATABASE, name: PARAMETERS[name]})
    heard = said_to(border.context(), border.federation.regions["us"].guard_port, startup)
    assert b"0A000" in heard
    assert m.AUTHENTICATION_OK not in heard


def test_a_secret_of_another_region_is_none_here(border: Border) -> None:
    """What ap keeps for app@eu, what us keeps for app@ap, app's password, its name, nothing: none is us's secret."""
    federation = border.federation
    us = federation.regions["us"]
    right = psycopg.conninfo.conninfo_to_dict(federation.foreign_dsn("eu", "us"))["password"]
    guesses = {
        psycopg.conninfo.conninfo_to_dict(federation.foreign_dsn("eu", "ap"))["password"],
        psycopg.conninfo.conninfo_to_dict(federation.foreign_dsn("ap", "us"))["password"],
        psycopg.conninfo.conninfo_to_dict(federation.foreign_dsn("eu", "us", "analyst"))["password"],
        us.passwords["app"], federation.regions["eu"].passwords["app"], "app@eu", "app", "",
    }  # fmt: skip
    assert right not in guesses
    for guess in guesses:
        with pytest.raises(psycopg.OperationalError, match=r"password authentication failed|no password supplied"):
            psycopg.connect(us.direct_dsn("app"), user="app@eu", password=guess)


def test_no_verifier_crosses(border: Border) -> None:
    """Pass-the-hash: what one region keeps of a role must be worth nothing in another, nor for the local role."""
    kept: dict[str, set[str]] = {}
    for name in border.federation.regions:
        with border.owner(name) as owner:
            rows = owner.execute("select rolpassword from pg_authid where rolname ~ '^app(@|$)'").fetchall()
        kept[name] = {part for (verifier,) in rows for part in verifier.split("$")[2].split(":")}
        assert len(kept[name]) == 2 * len(rows) == 6
    assert not (kept["us"] & kept["eu"] | kept["us"] & kept["ap"] | kept["eu"] & kept["ap"])


@pytest.mark.parametrize("database", ["postgres", "template1"])
def test_other_databases_are_closed(database: str, border: Border) -> None:
    with pytest.raises(psycopg.OperationalError, match="permission denied for database"):
        psycopg.connect(border.federation.foreign_dsn("eu", "us"), dbname=database)


@pytest.mark.parametrize("kind", ["database", "true"])
def test_no_replication_connection(kind: str, border: Border) -> None:
    with pytest.raises(psycopg.OperationalError, match=r"permission denied to start WAL sender|pg_hba"):
        psycopg.connect(border.federation.foreign_dsn("eu", "us"), replication=kind)


def test_no_pg_dump(border: Border) -> None:
    us = border.federation.regions["us"].server
    dsn = border.federation.foreign_dsn("eu", "us")
    for options in ([], ["--inserts"], ["--data-only"], ["-t", "public.customers"], ["-n", "public"]):
        ran = subprocess.run(
            [us.binaries.folder / "pg_dump", *options, dsn], capture_output=True, text=True, env={**os.environ}
        )
        assert ran.returncode != 0, (options, ran.stdout)
        assert "permission denied" in ran.stderr
        assert found(ran.stdout) == []


def test_a_cancel_of_another_region_reaches_nothing(border: Border) -> None:
    with border.guard(here="ap") as ap:
        key = ap.pgconn.backend_pid
        ap.pgconn.send_query(b"select pg_sleep(0.4), count(*) from customers")
        for guess in (bytes(4), b"\xff" * 4):
            said_to(border.context(), border.federation.regions["us"].guard_port, m.build_cancel(key, guess))
        result = ap.pgconn.get_result()
        assert result is not None
        assert result.get_value(0, 1) is not None
        assert ap.pgconn.get_result() is None


# --- bytes ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def guard(border: Border) -> Iterator[Wire]:
    plain = socket.create_connection(("127.0.0.1", border.federation.regions["us"].guard_port), timeout=20)
    with border.context().wrap_socket(plain, server_hostname=server_name(US)) as sock:
        wire = Wire(sock)
        wire.send(m.build_startup({"user": "app", "database": DATABASE, "client_encoding": "UTF8"}))
        wire.until(m.B.READY)
        yield wire


@pytest.fixture
def direct(border: Border) -> Iterator[Wire]:
    """By hand straight at the server, as app@eu."""
    given = psycopg.conninfo.conninfo_to_dict(border.federation.foreign_dsn("eu", "us"))
    login = Login(str(given["user"]), DATABASE, str(given["password"]), {})
    with socket.create_connection(("127.0.0.1", int(given["port"])), timeout=20) as sock:
        wire = Wire(sock)  # type: ignore[arg-type]  # what it needs is a socket, in TLS or not
        wire.send(login.start())
        while not login.done():
            for message in wire.until_any():
                wire.send(login.received(message))
        yield wire


def call(function: int, *arguments: bytes) -> bytes:
    body = struct.pack("!IHH", function, 0, len(arguments))
    body += b"".join(struct.pack("!I", len(a)) + a for a in arguments) + struct.pack("!H", 0)
    return m.message(m.F.FUNCTION_CALL, body)


@pytest.mark.parametrize("where", ["guard", "direct"])
def test_function_calls(where: str, border: Border, request: pytest.FixtureRequest) -> None:
    """By a FunctionCall a function needs no name: but still USAGE of its schema and EXECUTE."""
    wire: Wire = request.getfixturevalue(where)
    with border.owner() as owner:
        rows = owner.execute(
            "select oid from pg_proc where oid in ('public.leak'::regproc, 'domicile.foreign_secret'::regproc,"
            " 'domicile.settle_token'::regproc, 'pg_read_file(text)'::regprocedure, 'lo_get(oid)'::regprocedure)"
        ).fetchall()
    assert len(rows) == 5
    for (oid,) in rows:
        answer = wire.ask(call(oid, b"app@eu"))
        (error,) = [message for message in answer if message.type == m.B.ERROR]
        assert m.error_of(error.body).sqlstate in ("42501", "0A000")
    assert found(wire.received.decode(errors="replace")) == []


TRICKS: dict[str, tuple[bytes, ...]] = {
    "after an error in the pipeline": (
        m.build_parse("", "select 1/0"), m.build_bind("", ""), m.build_execute(),
        m.build_parse("x", "select * from public.customers"), m.build_bind("", "x"), m.build_execute(), m.SYNC,
    ),
    "a text parsed, another bound": (
        m.build_parse("a", "select 1"), m.build_parse("b", "select * from public.customers"),
        m.build_bind("", "b"), m.build_execute(), m.SYNC, m.build_bind("", "b"), m.build_execute(), m.SYNC,
    ),
    "a refused text under the name of an admitted one": (
        m.build_parse("c", "select 1"), m.SYNC, m.build_parse("c", "select * from public.customers"), m.SYNC,
        m.build_bind("", "c"), m.build_execute(), m.SYNC,
    ),
    "SQL PREPARE, protocol Bind": (
        m.build_query("prepare p as select * from public.customers"), m.build_bind("", "p"), m.build_execute(), m.SYNC,
    ),
    "a query in the midst of COPY": (
        m.build_query("copy orders (customer_id) from stdin"), m.build_query("select * from public.customers"),
        m.message(m.F.COPY_DONE), m.SYNC,
    ),
    "a query in the data of COPY": (
        m.build_query("copy orders (customer_id) from stdin"),
        m.message(m.F.COPY_DATA, m.build_query("select * from public.customers")),
        m.message(m.F.COPY_DATA, b"\\.\nselect * from public.customers;\n"), m.message(m.F.COPY_DONE), m.SYNC,
    ),
    "data of COPY when there is none": (
        m.message(m.F.COPY_DATA, m.build_query("select * from public.customers")), m.message(m.F.COPY_DONE), m.SYNC,
    ),
    "several statements": (m.build_query("select 1; select * from public.customers; select 2"), m.SYNC),
    "several statements parsed": (m.build_parse("", "select 1; select * from public.customers"), m.SYNC),
    "a mark of the guard's own": (
        m.build_query('"domicile refusal 1"'), m.build_query('select * from "domicile refusal 1"'), m.SYNC,
    ),
    "a byte order mark": (m.build_query("\ufeffselect * from public.customers"), m.SYNC),
    "a type by number": (
        m.build_parse("", "select $1::text", [2205]), m.build_bind("", "", (), [b"public.customers"]),
        m.build_execute(), m.SYNC,
    ),
    "a type by number in an array": (
        m.build_parse("", "select $1::text", [2210]), m.build_bind("", "", (), [b"{public.customers}"]),
        m.build_execute(), m.SYNC,
    ),
}  # fmt: skip


@pytest.mark.parametrize("trick", TRICKS)
def test_tricks(trick: str, guard: Wire) -> None:
    guard.send(*TRICKS[trick], m.build_query("select 'the end'"))
    while not any(b"the end" in message.body for message in guard.until(m.B.READY)):
        pass
    assert found(guard.received.decode(errors="replace")) == []
    assert m.B.ERROR in {message.type for message in m.messages(*m.Walker().feed(bytes(guard.received)))} or (
        trick == "data of COPY when there is none"
    )


BROKEN: dict[str, bytes] = {
    "NUL in a text": m.message(m.F.QUERY, b"select 1\0; select * from public.customers\0"),
    "no end of a text": m.message(m.F.QUERY, b"select * from public.customers"),
    "bytes that are no UTF-8": m.message(m.F.QUERY, b"select '\xff\xc0\x27 , c.* from public.customers c --'\0"),
    "a length of one gigabyte": b"Q" + struct.pack("!I", 1 << 30),
    "a length of two": b"Q" + struct.pack("!I", 2),
    "a message that no client sends": m.message(ord("W"), b"x"),
    "a password": m.message(m.F.PASSWORD, b"x\0"),
    "a Parse that ends early": m.message(m.F.PARSE, b"a\0select * from public.customers\0\0\x05"),
}


@pytest.mark.parametrize("what", BROKEN)
def test_broken_messages_end_the_connection(what: str, guard: Wire) -> None:
    guard.send(BROKEN[what], m.build_query("select * from customers"))
    guard.until(m.B.READY)
    assert found(guard.received.decode(errors="replace")) == []
    errors = [x for x in m.messages(*m.Walker().feed(bytes(guard.received))) if x.type == m.B.ERROR]
    assert errors, what


def test_names(border: Border) -> None:
    """A name that PostgreSQL would cut is refused before it can become the local role's."""
    longest = "l" * 63
    with border.owner() as us:
        us.execute(f"create role {longest} login password 'x'; grant select on customers to {longest}".encode())
        try:
            us.execute("select domicile.audit()")
            row = us.execute("select count(*) from domicile.foreign_role where role = %s", (longest,)).fetchone()
            assert row == (0,)
            with pytest.raises(psycopg.OperationalError, match="63"):
                border.guard(longest)
            with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
                psycopg.connect(border.federation.foreign_dsn("eu", "us"), user=f"{longest}@eu")
        finally:
            us.execute(f"drop owned by {longest}; drop role {longest}".encode())
