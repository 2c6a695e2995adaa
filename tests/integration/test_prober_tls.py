"""Checks over TLS: whoever signed the certificate, it must be valid now."""

import asyncio
import datetime
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from perdure.adapters.prober import Probers
from perdure.model.check import Check, CheckKind
from perdure.model.evidence import Outcome
from perdure.ports.prober import Target

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
HTTPS, TLS = Check(CheckKind.HTTP, "/healthz", tls=True), Check(CheckKind.TCP, tls=True)
DAY = datetime.timedelta(days=1)


def certificate(directory: Path, since: datetime.timedelta, until: datetime.timedelta) -> Path:
    """A self-signed certificate with its key; both ends relative to now."""
    key, now = ec.generate_private_key(ec.SECP256R1()), datetime.datetime.now(datetime.UTC)
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "replica.test")])
    signed = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now + since)
        .not_valid_after(now + until)
        .sign(key, hashes.SHA256())
    )
    path = directory / "replica.pem"
    secret = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    path.write_bytes(secret + signed.public_bytes(serialization.Encoding.PEM))
    return path


@asynccontextmanager
async def serving(pem: Path) -> AsyncIterator[int]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pem)

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(OK)
            await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            return  # a TCP check says nothing
        finally:
            writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0, ssl=context)
    async with server:
        yield server.sockets[0].getsockname()[1]


@pytest.fixture
async def probers() -> AsyncIterator[Probers]:
    made = Probers()
    yield made
    await made.close()


@pytest.mark.parametrize("check", [HTTPS, TLS], ids=["https", "tls"])
@pytest.mark.parametrize("twice", [True, False])
@pytest.mark.parametrize(
    ("since", "until", "outcome", "excerpt"),
    [
        (-DAY, 30 * DAY, Outcome.GOOD, ""),
        (-9 * DAY, -2 * DAY, Outcome.CONTENT, "the certificate expired 2.0 days ago"),
        (3 * DAY, 9 * DAY, Outcome.CONTENT, "the certificate is valid in 3.0 days only"),
    ],
    ids=["valid", "expired", "not yet valid"],
)
async def test_a_certificate_must_be_valid_now(
    probers: Probers,
    tmp_path: Path,
    check: Check,
    twice: bool,
    since: datetime.timedelta,
    until: datetime.timedelta,
    outcome: Outcome,
    excerpt: str,
) -> None:
    now = datetime.datetime.now(datetime.UTC).timestamp()
    async with serving(certificate(tmp_path, since, until)) as port:
        answer = await probers.probe(check, Target(port), 5.0, twice)
    assert answer.outcome == outcome
    assert excerpt in answer.excerpt
    assert answer.certificate_until == pytest.approx(now + until.total_seconds(), abs=5.0)


@pytest.mark.parametrize("check", [HTTPS, TLS], ids=["https", "tls"])
async def test_who_speaks_no_tls_does_not_answer_well(probers: Probers, check: Check) -> None:
    async def says(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(100)
        writer.write(OK)
        writer.close()

    server = await asyncio.start_server(says, "127.0.0.1", 0)
    async with server:
        answer = await probers.probe(check, Target(server.sockets[0].getsockname()[1]), 5.0)
    assert answer.outcome is Outcome.STATUS
    assert answer.excerpt.startswith("no TLS: ")
    assert answer.certificate_until is None
