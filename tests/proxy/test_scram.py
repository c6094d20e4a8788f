"""SCRAM by keys alone: the RFC's own exchange, each refusal, and what Hypothesis can throw at it."""

from __future__ import annotations

from base64 import b64decode, b64encode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domicile.catalog.errors import DomicileError
from domicile.proxy import scram
from domicile.proxy.scram import MECHANISM, MECHANISM_PLUS, ScramClient, ScramServer, Verifier, derive_keys

# RFC 7677, section 3.
RFC_SALT = b64decode("W22ZaJ0SNY7soEsUEjb6gQ==")
RFC_CLIENT_FIRST = b"n,,n=user,r=rOprNGfwEbeRWgbNEkqO"
RFC_SERVER_NONCE = b"%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0"
RFC_SERVER_FIRST = b"r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096"
RFC_CLIENT_FINAL = (
    b"c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ="
)
RFC_SERVER_FINAL = b"v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4="

VERIFIER = Verifier.derive("pencil", salt=RFC_SALT)
BINDING = b"\x07" * 32


def log_in(client: ScramClient, server: ScramServer) -> None:
    answer = server.final(client.final(server.first(client.mechanism, client.first())))
    client.verify(answer)


def rfc_server(**options: bytes) -> ScramServer:
    return ScramServer("user", VERIFIER, nonce=RFC_SERVER_NONCE, **options)  # type: ignore[arg-type]


def test_the_exchange_of_the_rfc() -> None:
    server = rfc_server()
    assert server.first(MECHANISM, RFC_CLIENT_FIRST) == RFC_SERVER_FIRST
    assert server.final(RFC_CLIENT_FINAL) == RFC_SERVER_FINAL
    assert server.keys == derive_keys("pencil", RFC_SALT, 4096)


def test_keys_won_from_a_log_in_log_in() -> None:
    first = ScramServer("u", VERIFIER)
    log_in(ScramClient("pencil"), first)
    assert first.keys is not None
    second = ScramServer("u", VERIFIER)
    log_in(ScramClient(first.keys), second)
    assert second.keys == first.keys


def test_keys_never_show() -> None:
    assert "b'" not in repr(derive_keys("p", b"s", 1)) + repr(VERIFIER)


def test_the_verifier_reads_and_writes_postgresqls_form() -> None:
    assert Verifier.parse(str(VERIFIER)) == VERIFIER


@pytest.mark.parametrize(
    "text",
    [
        "",
        "md5a1b2c3",
        "SCRAM-SHA-256$4096:c2FsdA==$AAAA:AAAA",
        str(VERIFIER).replace("256", "512"),
        str(VERIFIER).replace("$4096", "$0"),
        str(VERIFIER).replace("$4096", "$x"),
        str(VERIFIER) + "!",
        str(VERIFIER) + "$",
    ],
)
def test_what_is_no_verifier_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="not a SCRAM"):
        Verifier.parse(text)


def failure(client: ScramClient, server: ScramServer) -> DomicileError:
    with pytest.raises(DomicileError) as caught:
        log_in(client, server)
    return caught.value


def test_a_wrong_password_and_an_unknown_user_fail_alike() -> None:
    made_up = Verifier.made_up(b"secret", "nobody")
    wrong = failure(ScramClient("nope"), ScramServer("nobody", VERIFIER))
    unknown = failure(ScramClient("nope"), ScramServer("nobody", made_up, exists=False))
    assert wrong == unknown
    assert (wrong.sqlstate, wrong.severity) == ("28P01", "FATAL")
    assert wrong.message == 'password authentication failed for user "nobody"'


def test_an_unknown_users_salt_is_a_fixed_function_of_secret_and_name() -> None:
    assert Verifier.made_up(b"s", "a") == Verifier.made_up(b"s", "a")
    assert len({Verifier.made_up(s, n).salt for s in (b"s", b"t") for n in ("a", "b")}) == 4
    assert len(Verifier.made_up(b"s", "a").salt) == scram.SALT_BYTES


def test_a_user_who_does_not_exist_stays_out_even_with_the_right_keys() -> None:
    server = ScramServer("u", VERIFIER, exists=False)
    assert failure(ScramClient("pencil"), server).sqlstate == "28P01"
    assert server.keys is None


def test_a_server_without_the_keys_is_found_out() -> None:
    other = Verifier(VERIFIER.iterations, VERIFIER.salt, VERIFIER.stored_key, b"\0" * 32)
    error = failure(ScramClient("pencil"), ScramServer("u", other))
    assert error.sqlstate == "08006"


def test_channel_binding() -> None:
    server = rfc_server(binding=BINDING)
    assert server.mechanisms == (MECHANISM_PLUS, MECHANISM)
    keys = derive_keys("pencil", RFC_SALT, 4096)
    assert plus_log_in(server, BINDING).startswith(b"v=")
    assert server.keys == keys


def test_channel_binding_of_another_certificate_is_refused() -> None:
    with pytest.raises(DomicileError, match="channel binding check failed"):
        plus_log_in(rfc_server(binding=BINDING), b"\x08" * 32)


def plus_log_in(server: ScramServer, binding: bytes) -> bytes:
    import hashlib
    import hmac

    gs2 = b"p=tls-server-end-point,,"
    answer = server.first(MECHANISM_PLUS, gs2 + b"n=user,r=abc")
    without_proof = b"c=" + b64encode(gs2 + binding) + b",r=abc" + RFC_SERVER_NONCE
    keys = derive_keys("pencil", RFC_SALT, 4096)
    said = b"n=user,r=abc," + answer + b"," + without_proof
    signature = hmac.digest(hashlib.sha256(keys.client_key).digest(), said, "sha256")
    proof = bytes(a ^ b for a, b in zip(keys.client_key, signature, strict=True))
    return server.final(without_proof + b",p=" + b64encode(proof))


@pytest.mark.parametrize(
    ("mechanism", "message", "says"),
    [
        ("PLAIN", RFC_CLIENT_FIRST, "invalid SASL"),
        (MECHANISM, b"", "malformed"),
        (MECHANISM, b"n,,", "malformed"),
        (MECHANISM, b"n,,n=user", "malformed"),
        (MECHANISM, b"n,,r=x,n=user", "malformed"),
        (MECHANISM, b"n,,n=user,r=", "nonce"),
        (MECHANISM, b"n,,n=user,r=a b", "nonce"),
        (MECHANISM, b"n,a=other,n=user,r=abc", "authorization identity"),
        (MECHANISM, b"n,,m=x,n=user,r=abc", "extension"),
        (MECHANISM, b"z,,n=user,r=abc", "malformed"),
        (MECHANISM, b"p=tls-server-end-point,,n=user,r=abc", "malformed"),
        (MECHANISM, b"y,,n=user,r=abc", "negotiation"),
        (MECHANISM_PLUS, b"n,,n=user,r=abc", "malformed"),
        (MECHANISM_PLUS, b"y,,n=user,r=abc", "malformed"),
        (MECHANISM_PLUS, b"p=tls-unique,,n=user,r=abc", "channel-binding type"),
        (MECHANISM, b"n,,n=user,r=" + b"a" * scram.MESSAGE_BYTES_MAX, "malformed"),
        (MECHANISM, b"n,,n=us\0er,r=abc", "malformed"),
    ],
)
def test_a_malformed_first_message(mechanism: str, message: bytes, says: str) -> None:
    with pytest.raises(DomicileError, match=says) as caught:
        rfc_server(binding=BINDING).first(mechanism, message)
    assert caught.value.severity == "FATAL"


def test_y_is_welcome_where_no_binding_was_offered() -> None:
    assert rfc_server().first(MECHANISM, b"y,,n=user,r=abc")


@pytest.mark.parametrize(
    ("message", "says"),
    [
        (b"", "malformed"),
        (RFC_CLIENT_FINAL.replace(b"c=biws", b"c=eSws"), "channel binding"),
        (RFC_CLIENT_FINAL.replace(b"fuxFI", b"fuxFX"), "invalid SCRAM response"),
        (RFC_CLIENT_FINAL.replace(b",p=", b",q="), "malformed"),
        (RFC_CLIENT_FINAL[:-4], "malformed"),
        (RFC_CLIENT_FINAL[:-1] + b"!", "malformed"),
        (RFC_CLIENT_FINAL + b",x=1", "malformed"),
    ],
)
def test_a_malformed_final_message(message: bytes, says: str) -> None:
    server = rfc_server()
    server.first(MECHANISM, RFC_CLIENT_FIRST)
    with pytest.raises(DomicileError, match=says):
        server.final(message)
    assert server.keys is None


def test_final_before_first_and_final_twice_are_refused() -> None:
    server = rfc_server()
    with pytest.raises(DomicileError, match="out of order"):
        server.final(RFC_CLIENT_FINAL)
    server.first(MECHANISM, RFC_CLIENT_FIRST)
    server.final(RFC_CLIENT_FINAL)
    with pytest.raises(DomicileError, match="out of order"):
        server.final(RFC_CLIENT_FINAL)


@pytest.mark.parametrize(
    "message",
    [
        b"",
        b"r=xx,s=AA==,i=1",
        b"r=mine,s=AA==,i=1",
        b"r=mine+,s=!,i=1",
        b"r=mine+,s=AA==,i=0",
        b"r=mine+,s=AA==,i=1000001",
        b"r=mine+,s=AA==",
        b"m=x,r=mine+,s=AA==,i=1",
    ],
)
def test_a_client_refuses_a_malformed_server(message: bytes) -> None:
    with pytest.raises(DomicileError, match="broke the SCRAM exchange"):
        ScramClient("p", nonce=b"mine").final(message)


@given(st.binary(max_size=80), st.sampled_from([MECHANISM, MECHANISM_PLUS]), st.booleans())
def test_garbage_never_escapes_the_error_type(junk: bytes, mechanism: str, bound: bool) -> None:
    server = ScramServer("u", VERIFIER, binding=BINDING if bound else None)
    for step in (lambda: server.first(mechanism, junk), lambda: server.final(junk)):
        with pytest.raises(DomicileError):
            step()
    started = rfc_server()
    started.first(MECHANISM, RFC_CLIENT_FIRST)
    with pytest.raises(DomicileError):
        started.final(junk)
    with pytest.raises(DomicileError):
        ScramClient("p").final(junk)
    with pytest.raises(DomicileError):
        ScramClient("p").verify(junk)


@given(st.text(max_size=20), st.integers(1, 3), st.binary(min_size=1, max_size=20))
def test_every_password_logs_in_and_no_other(password: str, iterations: int, salt: bytes) -> None:
    verifier = Verifier.derive(password, salt=salt, iterations=iterations)
    log_in(ScramClient(password), ScramServer("u", Verifier.parse(str(verifier))))
    assert failure(ScramClient(password + "x"), ScramServer("u", verifier)).sqlstate == "28P01"
