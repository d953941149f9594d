"""Certificate: each pair that a service cannot use is refused with one sentence."""

import re
from datetime import UTC, datetime, timedelta

import pytest
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
    load_pem_private_key,
)

from spawner.model import SettingsError
from spawner.tls.certificate import check_certificate
from testing.certificates import Authority, Pair

HOST, USERS = "gpu.lab.test", "*.gpu.lab.test"
NOW = datetime.now(UTC)
AUTHORITY = Authority()
PAIR = AUTHORITY.issue(HOST, USERS)


def refusal(certificate: bytes, key: bytes, *hosts: str) -> str:
    with pytest.raises(SettingsError) as error:
        check_certificate(certificate, key, hosts or (HOST,), NOW)
    assert re.fullmatch(r"[A-Z][^\n]+\.", str(error.value))
    return str(error.value)


def with_password(key: bytes) -> bytes:
    loaded = load_pem_private_key(key, None)
    return loaded.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"x"))


@pytest.mark.parametrize(
    ("names", "hosts"),
    [
        ((HOST,), (HOST,)),
        ((HOST, USERS), (HOST, USERS)),
        (("*.lab.test",), (HOST,)),
        (("GPU.lab.test",), (HOST,)),
        (("10.0.0.1",), ("10.0.0.1",)),
    ],
)
def test_a_pair_for_all_hosts_has_days_left(names: tuple[str, ...], hosts: tuple[str, ...]) -> None:
    pair = AUTHORITY.issue(*names, last_day=30.5)
    assert check_certificate(pair.certificate, pair.key, hosts, NOW) == 30


@pytest.mark.parametrize(
    ("names", "hosts", "missing"),
    [
        ((HOST,), (HOST, USERS), USERS),
        (("*.test",), (HOST,), HOST),
        ((USERS,), (HOST,), HOST),
        (("10.0.0.1",), ("10.0.0.2",), "10.0.0.2"),
        ((), (HOST,), HOST),
    ],
)
def test_a_certificate_for_other_hosts(
    names: tuple[str, ...], hosts: tuple[str, ...], missing: str
) -> None:
    pair = AUTHORITY.issue(*names)
    said = refusal(pair.certificate, pair.key, *hosts)
    assert f"not for {missing}: " in said
    assert "WORKBENCH_PUBLIC_URL" in said


def test_a_certificate_out_of_its_time() -> None:
    expired = AUTHORITY.issue(HOST, first_day=-90, last_day=-1)
    day = NOW - timedelta(days=1)
    assert f"expired on {day:%Y-%m-%d}: renew it" in refusal(expired.certificate, expired.key)
    early = AUTHORITY.issue(HOST, first_day=1)
    assert "is valid from" in refusal(early.certificate, early.key)


@pytest.mark.parametrize(
    ("pair", "said"),
    [
        (Pair(PAIR.certificate, AUTHORITY.issue(HOST).key), "not the key of"),
        (Pair(AUTHORITY.pem + PAIR.certificate, PAIR.key), "the server's certificate first"),
        (Pair(b"", PAIR.key), "no certificate in PEM form"),
        (Pair(PAIR.key, PAIR.key), "no certificate in PEM form"),
        (Pair(PAIR.certificate, PAIR.certificate), "no private key in PEM form"),
        (Pair(PAIR.certificate, b"\xff\x00"), "no private key in PEM form"),
        (Pair(PAIR.certificate, with_password(PAIR.key)), "has a password"),
    ],
)
def test_files_that_are_no_pair(pair: Pair, said: str) -> None:
    assert said in refusal(pair.certificate, pair.key)
