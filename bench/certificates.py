"""Certificates for services that speak TLS in a bench: an authority that the clients trust, and what it signed."""

import datetime
import ipaddress
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

DAY = datetime.timedelta(days=1)
NAMES = x509.SubjectAlternativeName([x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])


def make(directory: Path) -> None:
    """Write `trusted.pem` (the authority), `valid.pem` and `expired.pem` (each with its key) into the directory."""
    authority_key, now = ec.generate_private_key(ec.SECP256R1()), datetime.datetime.now(datetime.UTC)
    authority = _named("bench authority")

    def signed(name: x509.Name, key: ec.EllipticCurvePrivateKey, until: datetime.timedelta, ca: bool) -> bytes:
        builder = x509.CertificateBuilder().subject_name(name).issuer_name(authority).public_key(key.public_key())
        builder = builder.serial_number(x509.random_serial_number())
        builder = builder.not_valid_before(now - 90 * DAY).not_valid_after(now + until)
        builder = builder.add_extension(x509.BasicConstraints(ca, None), critical=True).add_extension(NAMES, False)
        return builder.sign(authority_key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)

    (directory / "trusted.pem").write_bytes(signed(authority, authority_key, 90 * DAY, True))
    for name, until in (("valid", 60 * DAY), ("expired", -2 * DAY)):
        key = ec.generate_private_key(ec.SECP256R1())
        secret = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        (directory / f"{name}.pem").write_bytes(secret + signed(_named("localhost"), key, until, False))


def _named(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
