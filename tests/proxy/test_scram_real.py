"""SCRAM against PostgreSQL itself, and against libpq's and asyncpg's clients, -PLUS included."""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import asyncpg
import psycopg
import pytest

from domicile.catalog.errors import DomicileError
from domicile.certificates import RegionFiles, make
from domicile.embedded import EmbeddedServer
from domicile.proxy import messages as m
from domicile.proxy.guard_server import Login
from domicile.proxy.messages import B
from domicile.proxy.scram import ScramKeys, ScramServer, Verifier, derive_keys, endpoint_binding
from tests.conftest import Database, MakeDatabase

PASSWORD = "pass wörd ①"


@pytest.fixture
def role(server: EmbeddedServer, make_database: MakeDatabase) -> Database:
    database = make_database(server)
    with database.connect() as c:
        c.execute(f"create role scrammed login password '{PASSWORD}'".encode())
    return database


def verifier_of(database: Database) -> Verifier:
    return Verifier.parse(database.run_sql("select rolpassword from pg_authid where rolname = 'scrammed'")[0][0])


def log_in(database: Database, secret: ScramKeys | str) -> Login:
    """Logs in to PostgreSQL by hand. Raises what it says."""
    login = Login("scrammed", database.name, secret, {})
    with socket.create_connection(("127.0.0.1", database.server.port), 20) as sock:
        sock.sendall(login.start())
        walker = m.Walker()
        while not login.done():
            chunk = sock.recv(65536)
            assert chunk
            for message in m.messages(*walker.feed(chunk)):
                if answer := login.received(message):
                    sock.sendall(answer)
    return login


def test_a_password_and_the_keys_that_it_gives_log_in(role: Database) -> None:
    first = log_in(role, PASSWORD)
    assert first.parameters["server_version"]
    assert first.keys is not None
    assert first.keys.server_key == verifier_of(role).server_key
    assert log_in(role, first.keys).pid


def test_a_wrong_password_is_postgresqls_error(role: Database) -> None:
    with pytest.raises(DomicileError) as caught:
        log_in(role, "wrong")
    assert (caught.value.sqlstate, caught.value.message) == (
        "28P01",
        'password authentication failed for user "scrammed"',
    )


def test_a_verifier_of_ours_is_one_for_postgresql(role: Database) -> None:
    role.run_sql(f"alter role scrammed password '{Verifier.derive(PASSWORD, iterations=1)}'")
    assert verifier_of(role).iterations == 1
    role.connect("scrammed", PASSWORD).close()
    log_in(role, PASSWORD)


def test_postgresqls_verifier_is_what_we_would_have_made(role: Database) -> None:
    theirs = verifier_of(role)
    assert Verifier.derive(PASSWORD, salt=theirs.salt, iterations=theirs.iterations) == theirs


# --- our server's side, real clients -------------------------------------------------------------------------------


class Door:
    """Logs clients in by a verifier, plain or in TLS, and says ReadyForQuery. `won` holds the keys of each log-in."""

    def __init__(self, verifier: Verifier, exists: bool, files: RegionFiles | None) -> None:
        self._verifier, self._exists = verifier, exists
        self._context: ssl.SSLContext | None = None
        self._binding: bytes | None = None
        if files is not None:
            self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            self._context.load_cert_chain(files.certificate, files.key)
            self._binding = endpoint_binding(ssl.PEM_cert_to_DER_cert(files.certificate.read_text()))
        self.won: list[ScramKeys | None] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        self._listener.close()

    def _serve(self) -> None:
        while True:
            try:
                sock, _ = self._listener.accept()
            except OSError:
                return
            with sock:
                self._greet(sock)

    def _greet(self, sock: socket.socket) -> None:
        startup = m.startup(_read(sock, 0))
        if startup.code == m.SSL_REQUEST:
            sock.sendall(b"S" if self._context else b"N")
            if self._context is not None:
                sock = self._context.wrap_socket(sock, server_side=True)
            startup = m.startup(_read(sock, 0))
        scram = ScramServer(startup.parameters["user"], self._verifier, exists=self._exists, binding=self._binding)
        offer = b"".join(m.cstring(name) for name in scram.mechanisms) + b"\0"
        sock.sendall(m.message(B.AUTHENTICATION, (10).to_bytes(4, "big") + offer))
        mechanism, _, rest = _read(sock, 1).partition(b"\0")
        try:
            first = scram.first(mechanism.decode(), rest[4:])
            sock.sendall(m.message(B.AUTHENTICATION, (11).to_bytes(4, "big") + first))
            final = scram.final(_read(sock, 1))
        except DomicileError as error:
            sock.sendall(m.build_error(error))
        else:
            self.won.append(scram.keys)
            sock.sendall(
                m.message(B.AUTHENTICATION, (12).to_bytes(4, "big") + final)
                + m.AUTHENTICATION_OK
                + m.build_parameter_status("server_version", "18.0")
                + m.build_parameter_status("client_encoding", "UTF8")
                + m.build_parameter_status("standard_conforming_strings", "on")
                + m.READY["I"]
            )
        sock.close()


def _read(sock: socket.socket, type_bytes: int) -> bytes:
    header = _exactly(sock, type_bytes + 4)
    return _exactly(sock, int.from_bytes(header[type_bytes:], "big") - 4)


def _exactly(sock: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        chunk = sock.recv(size - len(data))
        assert chunk
        data += chunk
    return data


@contextmanager
def door(verifier: Verifier, *, exists: bool = True, files: RegionFiles | None = None) -> Iterator[Door]:
    made = Door(verifier, exists, files)
    try:
        yield made
    finally:
        made.close()


VERIFIER = Verifier.derive(PASSWORD)
KEYS = derive_keys(PASSWORD, VERIFIER.salt, VERIFIER.iterations)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> RegionFiles:
    folder: Path = tmp_path_factory.mktemp("certificates")
    return next(iter(make(folder, ["us"]).values()))


@pytest.mark.parametrize(("tls", "binding"), [(False, "disable"), (True, "disable"), (True, "require")])
def test_libpq_logs_in(tls: bool, binding: str, files: RegionFiles) -> None:
    with door(VERIFIER, files=files if tls else None) as d:
        dsn = f"host=127.0.0.1 port={d.port} user=u channel_binding={binding} sslmode={'require' if tls else 'disable'}"
        psycopg.connect(dsn, password=PASSWORD, autocommit=True).close()
        with pytest.raises(psycopg.OperationalError, match='password authentication failed for user "u"'):
            psycopg.connect(dsn, password="wrong")
        assert d.won == [KEYS]


def test_libpq_finds_no_difference_between_an_unknown_user_and_a_wrong_password() -> None:
    said = []
    for verifier, exists in ((VERIFIER, True), (Verifier.made_up(b"secret", "u"), False)):
        with door(verifier, exists=exists) as d:
            with pytest.raises(psycopg.OperationalError) as caught:
                psycopg.connect(f"host=127.0.0.1 port={d.port} user=u password=wrong sslmode=disable")
            said.append(str(caught.value).replace(str(d.port), ""))
    assert said[0] == said[1]


async def test_asyncpg_logs_in() -> None:
    with door(VERIFIER) as d:
        connection = await asyncpg.connect(host="127.0.0.1", port=d.port, user="u", password=PASSWORD, ssl=False)
        connection.terminate()
        with pytest.raises(asyncpg.InvalidPasswordError, match='password authentication failed for user "u"'):
            await asyncpg.connect(host="127.0.0.1", port=d.port, user="u", password="wrong", ssl=False)
        assert d.won == [KEYS]
