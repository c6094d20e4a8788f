"""A federation's certificates: one authority, and for each region one certificate that says which region it is.

A region's certificate serves at its guard and its agent, and speaks for it when it calls those of others. The name
is in the subject (CN = region) and in a SAN (`domicile-region-<name>`), so that the ordinary check of a server's name
is the check that the other end is the region it should be. The authority's key signs and is needed for nothing else:
keep it off the servers.

Elliptic curve P-256 throughout; TLS 1.3 only, for both ends are ours.
"""

from __future__ import annotations

import os
import ssl
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from .catalog.names import RegionName, region_name

AUTHORITY_DAYS = 3650
REGION_DAYS = 825
"""What browsers and other strict verifiers have settled on as the longest life of a leaf."""

_BACKDATED = timedelta(hours=1)  # clocks of two regions may differ
_NAME_PREFIX = "domicile-region-"


@dataclass(frozen=True, slots=True)
class AuthorityFiles:
    certificate: Path
    key: Path


@dataclass(frozen=True, slots=True)
class RegionFiles:
    """What a region's node needs: its own certificate and key, and the authority's certificate."""

    certificate: Path
    key: Path
    authority: Path


def make(folder: Path, regions: Sequence[str], *, renew: bool = False) -> Mapping[RegionName, RegionFiles]:
    """Makes what is missing in `folder`: `authority.crt` and `.key`, `<region>.crt` and `.key` for each region. With
    `renew` the regions' certificates are made anew, under the authority that is there.

    Every key is written with mode 0600, in a folder of mode 0700. Raises ValueError for a name that no region may
    have, FileNotFoundError where the authority's key is gone and a certificate is to be made.
    """
    names = [region_name(r) for r in regions]
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    authority = AuthorityFiles(folder / "authority.crt", folder / "authority.key")
    if not authority.certificate.exists():
        _make_authority(authority)
    files = {}
    for name in names:
        mine = RegionFiles(folder / f"{name}.crt", folder / f"{name}.key", authority.certificate)
        if renew or not (mine.certificate.exists() and mine.key.exists()):
            _make_region(name, mine, authority)
        files[name] = mine
    return files


def guard_context(files: RegionFiles) -> ssl.SSLContext:
    """What a guard or an agent listens with: whoever calls must hold a certificate of the authority."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.verify_mode = ssl.CERT_REQUIRED
    return _filled(context, files)


def caller_context(files: RegionFiles) -> ssl.SSLContext:
    """What a gateway or an agent calls another region with. Give `server_hostname=server_name(region)`: the handshake
    then fails unless the other end is that region."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.hostname_checks_common_name = False
    return _filled(context, files)


def server_name(region: RegionName) -> str:
    """The name in TLS of a region. An underscore is no letter of a host name, so it is written `-`; a region's name
    holds no `-` of its own."""
    return _NAME_PREFIX + region.replace("_", "-")


def peer_region(certificate: Mapping[str, Any] | None) -> RegionName | None:
    """Which region the other end is, from `SSLSocket.getpeercert()` of a checked certificate. None where the
    certificate names no region, or names it in two ways that differ."""
    if not certificate:
        return None
    common = [value for part in certificate.get("subject", ()) for name, value in part if name == "commonName"]
    names = [value for kind, value in certificate.get("subjectAltName", ()) if kind == "DNS"]
    try:
        region = region_name(common[0]) if len(common) == 1 else None
    except ValueError:
        return None
    return region if region and names == [server_name(region)] else None


def common_name(certificate: x509.Certificate) -> str:
    """The name in the certificate's subject; empty where it has none."""
    names = certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    return str(names[0].value) if names else ""


def _filled(context: ssl.SSLContext, files: RegionFiles) -> ssl.SSLContext:
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.load_cert_chain(files.certificate, files.key)
    context.load_verify_locations(files.authority)
    context.verify_flags |= ssl.VERIFY_X509_STRICT
    context.set_alpn_protocols(["postgresql"])  # so that psql 17 can be pointed at a guard: sslnegotiation=direct
    return context


def _make_authority(files: AuthorityFiles) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Domicile federation authority")])
    certificate = (
        _builder(name, name, key.public_key(), AUTHORITY_DAYS)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_key_usage(signs_certificates=True), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )
    _write(files.key, files.certificate, key, certificate)


def _make_region(region: RegionName, files: RegionFiles, authority: AuthorityFiles) -> None:
    issuer = x509.load_pem_x509_certificate(authority.certificate.read_bytes())
    issuer_key = serialization.load_pem_private_key(authority.key.read_bytes(), password=None)
    assert isinstance(issuer_key, ec.EllipticCurvePrivateKey)
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, region)])
    certificate = (
        _builder(subject, issuer.subject, key.public_key(), REGION_DAYS)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(server_name(region))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_key_usage(signs_certificates=False), critical=True)
        .add_extension(
            x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]),
            critical=False,
        )
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key.public_key()), critical=False)
        .sign(issuer_key, hashes.SHA256())
    )
    _write(files.key, files.certificate, key, certificate)


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey, days: int
) -> x509.CertificateBuilder:
    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _BACKDATED)
        .not_valid_after(now + timedelta(days=days))
    )


def _key_usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        encipher_only=False,
        decipher_only=False,
    )


def _write(
    key_path: Path, certificate_path: Path, key: ec.EllipticCurvePrivateKey, certificate: x509.Certificate
) -> None:
    pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    for path, content, mode in (
        (key_path, pem, 0o600),
        (certificate_path, certificate.public_bytes(serialization.Encoding.PEM), 0o644),
    ):
        # Written beside and moved into place: a reader never sees half a key, and the mode holds from the start.
        beside = path.with_suffix(path.suffix + ".new")
        beside.unlink(missing_ok=True)
        with os.fdopen(os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as file:
            file.write(content)
        beside.replace(path)
