"""SCRAM-SHA-256 and SCRAM-SHA-256-PLUS by keys alone, server and client, sans IO.

Sources: RFC 5802 (SCRAM), RFC 7677 (SHA-256), RFC 5929 (tls-server-end-point), PostgreSQL's auth-scram.c for
what it does with them: the user name inside the SCRAM messages is ignored, the one of the startup message
counts; an authorization identity and mandatory extensions are refused; no PBKDF2 runs on the server's side.

The server's side holds a verifier (`SCRAM-SHA-256$<iterations>:<salt>$<StoredKey>:<ServerKey>`, as pg_authid
keeps it) and learns the ClientKey from a log-in that succeeds. ClientKey and ServerKey are what the client's
side logs in with: the gateway reaches PostgreSQL as a local role without ever knowing its password.

What does not belong here: sockets, the framing of authentication messages, where verifiers come from.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
import stringprep
import unicodedata
from base64 import b64encode
from binascii import Error as Base64Error
from binascii import a2b_base64
from dataclasses import dataclass

from cryptography import x509

from ..catalog.errors import (
    CONNECTION_FAILURE,
    INVALID_AUTHORIZATION,
    INVALID_PASSWORD,
    PROTOCOL_VIOLATION,
    DomicileError,
)

MECHANISM = "SCRAM-SHA-256"
MECHANISM_PLUS = "SCRAM-SHA-256-PLUS"

MESSAGE_BYTES_MAX = 1024
"""No SCRAM message of an honest peer is longer; PostgreSQL draws the same line
(PG_MAX_SASL_MESSAGE_LENGTH)."""

ITERATIONS_MAX = 1_000_000
"""About a third of a second of PBKDF2: what a server may at most make a client with a password spend."""

ITERATIONS_DEFAULT = 4096
"""PostgreSQL's default; a made-up verifier must not be told from a real one by its count."""

KEY_BYTES = 32
SALT_BYTES = 16
_NONCE_BYTES = 18  # as PostgreSQL; 24 characters of base64

_GS2_PLUS = b"p=tls-server-end-point,,"


@dataclass(frozen=True, slots=True)
class ScramKeys:
    """What a client needs in a password's stead. Never written to a disk or a log."""

    client_key: bytes
    server_key: bytes

    def __repr__(self) -> str:
        return "ScramKeys(…)"


@dataclass(frozen=True, slots=True)
class Verifier:
    """What a server keeps of a password."""

    iterations: int
    salt: bytes
    stored_key: bytes
    server_key: bytes

    def __repr__(self) -> str:
        return "Verifier(…)"

    def __str__(self) -> str:
        """As pg_authid.rolpassword keeps it and as CREATE ROLE … PASSWORD takes it."""
        salt, stored, server = (b64encode(b).decode() for b in (self.salt, self.stored_key, self.server_key))
        return f"{MECHANISM}${self.iterations}:{salt}${stored}:{server}"

    @classmethod
    def parse(cls, text: str) -> Verifier:
        """The verifier that pg_authid.rolpassword holds. Raises ValueError where it is not one (MD5 is
        not)."""
        try:
            mechanism, parameters, keys = text.split("$")
            iterations, salt = parameters.split(":")
            stored, server = (_base64(k.encode()) for k in keys.split(":"))
            verifier = cls(int(iterations), _base64(salt.encode()), stored, server)
        except ValueError:
            raise ValueError("not a SCRAM-SHA-256 verifier") from None
        if mechanism != MECHANISM or verifier.iterations < 1 or {len(stored), len(server)} != {KEY_BYTES}:
            raise ValueError("not a SCRAM-SHA-256 verifier")
        return verifier

    @classmethod
    def derive(cls, password: str, *, salt: bytes | None = None, iterations: int = ITERATIONS_DEFAULT) -> Verifier:
        """The verifier of a password; 1.3 ms at the default count."""
        salt = secrets.token_bytes(SALT_BYTES) if salt is None else salt
        keys = derive_keys(password, salt, iterations)
        return cls(iterations, salt, hashlib.sha256(keys.client_key).digest(), keys.server_key)

    @classmethod
    def made_up(cls, secret: bytes, user: str, iterations: int = ITERATIONS_DEFAULT) -> Verifier:
        """A verifier for a user who does not exist: the same salt each time, so that it tells nothing, and
        keys that no password has."""

        def part(label: bytes) -> bytes:
            return hmac.digest(secret, label + b"\0" + user.encode(), "sha256")

        return cls(iterations, part(b"salt")[:SALT_BYTES], part(b"stored"), part(b"server"))


def derive_keys(password: str, salt: bytes, iterations: int) -> ScramKeys:
    """The keys of a password under a server's salt and iteration count."""
    salted = hashlib.pbkdf2_hmac("sha256", _saslprep(password).encode(), salt, iterations)
    return ScramKeys(hmac.digest(salted, b"Client Key", "sha256"), hmac.digest(salted, b"Server Key", "sha256"))


def endpoint_binding(certificate_der: bytes) -> bytes | None:
    """The tls-server-end-point binding of a server's certificate (RFC 5929), or None for a kind of signature
    that defines none (Ed25519): then no -PLUS is offered."""
    certificate = x509.load_der_x509_certificate(certificate_der)
    algorithm = certificate.signature_hash_algorithm
    if algorithm is None:
        return None
    name = "sha256" if algorithm.name in ("md5", "sha1") else algorithm.name
    return hashlib.new(name, certificate_der).digest()


class ScramServer:
    """The server's side of one log-in: `first`, then `final`; each call takes the peer's message and gives
    the answer.

    `binding` is `endpoint_binding` of the server's own certificate, on a TLS connection; None elsewhere. With
    `exists=False` (and a made-up verifier) the exchange is the same and always fails at its end, with the
    error of a wrong password. Every error is a FATAL DomicileError in PostgreSQL's words.
    """

    def __init__(
        self,
        user: str,
        verifier: Verifier,
        *,
        exists: bool = True,
        binding: bytes | None = None,
        nonce: bytes | None = None,
    ) -> None:
        self._user = user
        self._verifier = verifier
        self._exists = exists
        self._binding = binding
        self._own_nonce = _nonce() if nonce is None else nonce
        self._gs2 = b""
        self._nonce = b""
        self._so_far = b""
        self.keys: ScramKeys | None = None
        """After a log-in that succeeded: what logs in to any server that holds this verifier."""

    @property
    def mechanisms(self) -> tuple[str, ...]:
        """What to offer in AuthenticationSASL, the strongest first."""
        return (MECHANISM,) if self._binding is None else (MECHANISM_PLUS, MECHANISM)

    def first(self, mechanism: str, message: bytes) -> bytes:
        """The server's first message in answer to the client's. Raises on anything malformed or not
        offered."""
        if mechanism not in self.mechanisms:
            raise _violation("client selected an invalid SASL authentication mechanism")
        gs2, bare = self._split_gs2(mechanism, _bounded(message))
        fields = bare.split(b",")
        if fields[0].startswith(b"m="):
            raise _fatal("0A000", "client requires an unsupported SCRAM extension")
        if len(fields) < 2 or not fields[0].startswith(b"n="):
            raise _malformed("user name expected")
        nonce = _attribute(b"r", fields[1])
        if not nonce or any(c < 0x21 or c > 0x7E for c in nonce):
            raise _fatal(PROTOCOL_VIOLATION, "non-printable characters in SCRAM nonce")
        self._gs2 = gs2
        self._nonce = nonce + self._own_nonce
        v = self._verifier
        answer = b"r=%b,s=%b,i=%d" % (self._nonce, b64encode(v.salt), v.iterations)
        self._so_far = bare + b"," + answer
        return answer

    def final(self, message: bytes) -> bytes:
        """The server's final message; after it the client is who it says. Raises 28P01 where it is not."""
        if not self._nonce:
            raise _violation("SCRAM messages out of order")
        without_proof, comma, proof_field = _bounded(message).rpartition(b",")
        fields = without_proof.split(b",")
        if not comma or len(fields) < 2:
            raise _malformed("attributes missing")
        bound = self._gs2 + (self._binding or b"") if self._gs2 == _GS2_PLUS else self._gs2
        if _attribute(b"c", fields[0]) != b64encode(bound):
            raise _fatal(INVALID_AUTHORIZATION, "SCRAM channel binding check failed")
        if _attribute(b"r", fields[1]) != self._nonce:
            raise _violation("invalid SCRAM response", "Nonce does not match.")
        try:
            proof = _base64(_attribute(b"p", proof_field))
        except ValueError:
            raise _malformed("malformed proof") from None
        if len(proof) != KEY_BYTES:
            raise _malformed("malformed proof")
        said = self._so_far + b"," + without_proof
        v = self._verifier
        client_key = _xor(proof, hmac.digest(v.stored_key, said, "sha256"))
        right = hmac.compare_digest(hashlib.sha256(client_key).digest(), v.stored_key)
        if not (right and self._exists):
            raise wrong_password(self._user)
        self._nonce = b""
        self.keys = ScramKeys(client_key, v.server_key)
        return b"v=" + b64encode(hmac.digest(v.server_key, said, "sha256"))

    def _split_gs2(self, mechanism: str, message: bytes) -> tuple[bytes, bytes]:
        flag, _, rest = message.partition(b",")
        identity, comma, bare = rest.partition(b",")
        if not comma:
            raise _malformed("attributes missing")
        if identity:
            raise _fatal("0A000", "client uses authorization identity, but it is not supported")
        plus = mechanism == MECHANISM_PLUS
        if flag.startswith(b"p="):
            if not plus:
                raise _violation(
                    "malformed SCRAM message",
                    "The client selected SCRAM-SHA-256 without channel binding, but the SCRAM message "
                    "includes channel binding data.",
                )
            if flag != b"p=tls-server-end-point":
                raise _violation("unsupported SCRAM channel-binding type")
        elif flag not in (b"n", b"y"):
            raise _malformed("unexpected channel-binding flag")
        elif plus:
            raise _violation(
                "malformed SCRAM message",
                "The client selected SCRAM-SHA-256-PLUS, but the SCRAM message does not include channel binding data.",
            )
        elif flag == b"y" and self._binding is not None:
            # Somebody in between took -PLUS from the offer.
            raise _fatal(
                INVALID_AUTHORIZATION,
                "SCRAM channel binding negotiation error",
                "The client supports SCRAM channel binding but thinks the server does not. However, "
                "this server does support channel binding.",
            )
        return flag + b",,", bare


class ScramClient:
    """The client's side of one log-in, by keys or by a password: `first`, `final`, then `verify`.

    Used towards the region's own PostgreSQL, over a connection that is trusted as far as TLS or the machine
    goes; it never asks for channel binding. Errors are DomicileError 08006: the server broke the exchange, or
    is not the one that knows these keys.
    """

    mechanism = MECHANISM

    def __init__(self, secret: ScramKeys | str, *, nonce: bytes | None = None) -> None:
        self._secret = secret
        self._own_nonce = _nonce() if nonce is None else nonce
        self._expected = b""
        self.keys: ScramKeys | None = secret if isinstance(secret, ScramKeys) else None
        """The keys used; for a password, after `final`: valid while the server keeps this verifier."""

    def first(self) -> bytes:
        """The client's first message. The name in it stays empty: the startup message has said it."""
        return b"n,,n=,r=" + self._own_nonce

    def final(self, message: bytes) -> bytes:
        """The client's final message, in answer to the server's first."""
        try:
            fields = _bounded(message).split(b",")
            nonce, salt, count = (_attribute(k, f) for k, f in zip((b"r", b"s", b"i"), fields, strict=False))
            iterations = int(count)
            if not (nonce.startswith(self._own_nonce) and len(nonce) > len(self._own_nonce)):
                raise ValueError
            if not 1 <= iterations <= ITERATIONS_MAX:
                raise ValueError
            if isinstance(self._secret, str):
                self.keys = derive_keys(self._secret, _base64(salt), iterations)
        except (ValueError, DomicileError):
            raise _server_fault() from None
        keys = self.keys
        assert keys is not None
        without_proof = b"c=biws,r=" + nonce
        said = b"n=,r=" + self._own_nonce + b"," + message + b"," + without_proof
        stored_key = hashlib.sha256(keys.client_key).digest()
        self._expected = hmac.digest(keys.server_key, said, "sha256")
        proof = _xor(keys.client_key, hmac.digest(stored_key, said, "sha256"))
        return without_proof + b",p=" + b64encode(proof)

    def verify(self, message: bytes) -> None:
        """Returns where the server has proved that it knows the keys; raises where it has not."""
        try:
            signature = _base64(_attribute(b"v", _bounded(message).split(b",")[0]))
        except (ValueError, DomicileError):
            raise _server_fault() from None
        if not self._expected or not hmac.compare_digest(signature, self._expected):
            raise _server_fault("The server does not know this role's keys: it is not the one that was expected.")


def wrong_password(user: str) -> DomicileError:
    """What every failed log-in ends with, whether the user exists or not."""
    return _fatal(INVALID_PASSWORD, f'password authentication failed for user "{user}"')


def _nonce() -> bytes:
    return b64encode(secrets.token_bytes(_NONCE_BYTES))


def _xor(a: bytes, b: bytes) -> bytes:
    return (int.from_bytes(a) ^ int.from_bytes(b)).to_bytes(len(a))


def _base64(text: bytes) -> bytes:
    """Raises ValueError on anything that is not strict base64."""
    try:
        return a2b_base64(text, strict_mode=True)
    except Base64Error:
        raise ValueError("not base64") from None


def _bounded(message: bytes) -> bytes:
    if len(message) > MESSAGE_BYTES_MAX:
        raise _malformed("message too long")
    if b"\0" in message:
        raise _malformed("message holds a NUL")
    return message


def _attribute(name: bytes, field: bytes) -> bytes:
    if not field.startswith(name + b"="):
        raise _malformed(f"attribute {name.decode()!r} expected")
    return field[2:]


def _fatal(sqlstate: str, message: str, detail: str | None = None) -> DomicileError:
    return DomicileError(sqlstate, message, detail, severity="FATAL")


def _violation(message: str, detail: str | None = None) -> DomicileError:
    return _fatal(PROTOCOL_VIOLATION, message, detail)


def _malformed(detail: str) -> DomicileError:
    return _violation("malformed SCRAM message", f"{detail[0].upper()}{detail[1:]}.")


def _server_fault(detail: str | None = None) -> DomicileError:
    return DomicileError(CONNECTION_FAILURE, "the server broke the SCRAM exchange", detail)


def _saslprep(password: str) -> str:
    """The password as RFC 4013 prepares it; unchanged where it may not be prepared, as PostgreSQL does."""
    if password.isascii():
        return password
    mapped = "".join(" " if stringprep.in_table_c12(c) else c for c in password if not stringprep.in_table_b1(c))
    prepared = unicodedata.ucd_3_2_0.normalize("NFKC", mapped)
    if not prepared:
        return password
    prohibited = (
        stringprep.in_table_a1,
        stringprep.in_table_c12,
        stringprep.in_table_c21_c22,
        stringprep.in_table_c3,
        stringprep.in_table_c4,
        stringprep.in_table_c5,
        stringprep.in_table_c6,
        stringprep.in_table_c7,
        stringprep.in_table_c8,
        stringprep.in_table_c9,
    )
    if any(test(c) for c in prepared for test in prohibited):
        return password
    if any(map(stringprep.in_table_d1, prepared)) and (
        any(map(stringprep.in_table_d2, prepared))
        or not stringprep.in_table_d1(prepared[0])
        or not stringprep.in_table_d1(prepared[-1])
    ):
        return password
    return prepared
