"""The federation's certificates, in real handshakes over memory: who gets in, and who is found out."""

from __future__ import annotations

import ssl
import stat
from pathlib import Path

import pytest

from domicile.catalog.names import RegionName, region_name
from domicile.certificates import (
    RegionFiles,
    caller_context,
    guard_context,
    make,
    peer_region,
    server_name,
)

US, EU, AP = map(region_name, ("us", "eu", "ap_south"))


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[RegionName, RegionFiles]:
    return dict(make(tmp_path_factory.mktemp("federation"), [US, EU, AP]))


@pytest.fixture(scope="module")
def strangers(tmp_path_factory: pytest.TempPathFactory) -> dict[RegionName, RegionFiles]:
    return dict(make(tmp_path_factory.mktemp("strangers"), [US, EU]))


def handshake(
    server: ssl.SSLContext, client: ssl.SSLContext, expects: RegionName
) -> tuple[RegionName | None, RegionName | None]:
    """Who the server takes the client for, and who the client takes the server for."""
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    s = server.wrap_bio(to_server, to_client, server_side=True)
    c = client.wrap_bio(to_client, to_server, server_hostname=server_name(expects))
    for _ in range(4):
        for end in (c, s):
            try:
                end.do_handshake()
            except ssl.SSLWantReadError:
                continue
    s.write(b"x")  # in TLS 1.3 a client learns only by reading that it was refused
    assert c.read(1) == b"x"
    return peer_region(s.getpeercert()), peer_region(c.getpeercert())


def test_each_end_knows_the_others_region(files: dict[RegionName, RegionFiles]) -> None:
    us = guard_context(files[US])
    assert handshake(us, caller_context(files[EU]), US) == (EU, US)
    assert handshake(us, caller_context(files[AP]), US) == (AP, US)
    assert handshake(guard_context(files[AP]), caller_context(files[US]), AP) == (US, AP)


def test_a_caller_finds_out_that_the_other_end_is_another_region(files: dict[RegionName, RegionFiles]) -> None:
    with pytest.raises(ssl.SSLCertVerificationError, match="domicile-region-ap-south"):
        handshake(guard_context(files[US]), caller_context(files[EU]), AP)


def test_another_authoritys_certificate_is_refused(
    files: dict[RegionName, RegionFiles], strangers: dict[RegionName, RegionFiles]
) -> None:
    forged = RegionFiles(strangers[EU].certificate, strangers[EU].key, files[EU].authority)
    with pytest.raises(ssl.SSLError, match="CERTIFICATE_VERIFY_FAILED"):
        handshake(guard_context(files[US]), caller_context(forged), US)
    with pytest.raises(ssl.SSLError, match="CERTIFICATE_VERIFY_FAILED"):
        handshake(guard_context(strangers[US]), caller_context(files[EU]), US)


def test_no_certificate_is_refused(files: dict[RegionName, RegionFiles]) -> None:
    bare = ssl.create_default_context(cafile=str(files[US].authority))
    with pytest.raises(ssl.SSLError, match="PEER_DID_NOT_RETURN_A_CERTIFICATE"):
        handshake(guard_context(files[US]), bare, US)


def test_a_name_in_two_ways_that_differ_is_no_region() -> None:
    subject = ((("commonName", "us"),),)
    assert peer_region({"subject": subject, "subjectAltName": (("DNS", "domicile-region-us"),)}) == US
    assert peer_region({"subject": subject, "subjectAltName": (("DNS", "domicile-region-eu"),)}) is None
    assert peer_region({"subject": subject}) is None
    assert peer_region({"subject": ((("commonName", "US"),),)}) is None
    assert peer_region({}) is None
    assert peer_region(None) is None


def test_only_the_owner_reads_a_key_and_nothing_is_made_twice(tmp_path: Path) -> None:
    folder = tmp_path / "new"
    first = make(folder, [US])
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert {stat.S_IMODE(p.stat().st_mode) for p in folder.glob("*.key")} == {0o600}
    before = {p.name: p.read_bytes() for p in folder.iterdir()}
    make(folder, [US, EU])
    after = {p.name: p.read_bytes() for p in folder.iterdir()}
    assert {n: after[n] for n in before} == before
    assert sorted(set(after) - set(before)) == ["eu.crt", "eu.key"]
    make(folder, [US], renew=True)
    assert first[US].certificate.read_bytes() != before["us.crt"]
    assert (folder / "authority.crt").read_bytes() == before["authority.crt"]


def test_a_certificate_is_not_made_without_the_authoritys_key(tmp_path: Path) -> None:
    make(tmp_path, [US])
    (tmp_path / "authority.key").unlink()
    make(tmp_path, [US])  # nothing to make
    with pytest.raises(FileNotFoundError):
        make(tmp_path, [EU])


def test_a_name_that_no_region_may_have_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="region name"):
        make(tmp_path, ["../us"])
