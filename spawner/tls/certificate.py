"""Certificate: checks a certificate and its private key before a service uses them.

Every refusal is one sentence that names the setting, so that ``scripts/up`` ends before it touches what runs.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from datetime import datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.types import PublicKeyTypes
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_pem_private_key,
)

from spawner.model import SettingsError

WARNING_DAYS = 21
"""A certificate that ends sooner is reported: renewals usually run a month before the end."""


def check_certificate(
    certificate_pem: bytes, key_pem: bytes, hosts: Sequence[str], now: datetime
) -> int:
    """Return the full days left of the certificate for all ``hosts``, such as ``*.lab.example``; raises SettingsError.

    The first certificate of the file is the server's; the others are its chain.
    """
    leaf = _load_certificate(certificate_pem)
    if _encode(_load_public_key(key_pem)) != _encode(leaf.public_key()):
        raise SettingsError(
            "WORKBENCH_TLS_KEY is not the key of WORKBENCH_TLS_CERTIFICATE: name the files of one pair, the server's "
            "certificate first in its file."
        )
    if now > leaf.not_valid_after_utc:
        raise SettingsError(
            f"The certificate of WORKBENCH_TLS_CERTIFICATE expired on {leaf.not_valid_after_utc:%Y-%m-%d}: renew it."
        )
    if now < leaf.not_valid_before_utc:
        raise SettingsError(
            f"The certificate of WORKBENCH_TLS_CERTIFICATE is valid from {leaf.not_valid_before_utc:%Y-%m-%d %H:%M} "
            "UTC on: wait, or correct the clock of this host."
        )
    names = _names(leaf)
    missing = [host for host in hosts if not _covers(names, host)]
    if missing:
        raise SettingsError(
            f"The certificate of WORKBENCH_TLS_CERTIFICATE is for {', '.join(names) or 'no host'}, and "
            f"not for {' and '.join(missing)}: get one with that name, or correct WORKBENCH_PUBLIC_URL."
        )
    return (leaf.not_valid_after_utc - now) // timedelta(days=1)


def _load_certificate(pem: bytes) -> x509.Certificate:
    try:
        return x509.load_pem_x509_certificates(pem)[0]
    except ValueError:
        raise SettingsError(
            "WORKBENCH_TLS_CERTIFICATE is no certificate in PEM form: name the file that begins with "
            "-----BEGIN CERTIFICATE-----."
        ) from None


def _load_public_key(pem: bytes) -> PublicKeyTypes:
    try:
        return load_pem_private_key(pem, password=None).public_key()
    except TypeError:
        raise SettingsError(
            "WORKBENCH_TLS_KEY has a password, which a service cannot type: write the key without one."
        ) from None
    except ValueError:
        raise SettingsError(
            "WORKBENCH_TLS_KEY is no private key in PEM form: name the file that begins with "
            "-----BEGIN PRIVATE KEY-----."
        ) from None


def _encode(key: PublicKeyTypes) -> bytes:
    return key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def _names(certificate: x509.Certificate) -> list[str]:
    """Return the host names and addresses of a certificate; browsers ignore its common name."""
    try:
        found = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return []
    addresses = found.get_values_for_type(x509.IPAddress)
    return [*map(str.lower, found.get_values_for_type(x509.DNSName)), *map(str, addresses)]


def _covers(names: Sequence[str], host: str) -> bool:
    try:
        return str(ipaddress.ip_address(host)) in names
    except ValueError:
        _, _, domain = host.partition(".")
        return host in names or f"*.{domain}" in names
