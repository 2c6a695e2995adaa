"""What a replica's TLS certificate says of itself: until when it is valid.

A check over TLS trusts whatever certificate the replica shows, for it asks its own machine; but clients will not, once
it has expired. `http` and `tcp` hand in what they were shown.
"""

import ssl
import time
from asyncio import BaseTransport
from dataclasses import replace

from perdure.model.evidence import Outcome
from perdure.ports.prober import Answer

SERVER_NAME = "localhost"
DAY_S = 86_400.0


def trusting() -> ssl.SSLContext:
    """A context that accepts every certificate, also an expired one: it is looked at afterwards."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def shown(transport: BaseTransport | None) -> tuple[float, float] | None:
    """From when and until when (Unix time, seconds) the certificate at the other end is valid; None without one."""
    connection = transport.get_extra_info("ssl_object") if transport is not None else None
    der = connection.getpeercert(binary_form=True) if connection is not None else None
    if der is None:
        return None
    # It takes 10 MB, and only checks over TLS need it.
    from cryptography import x509

    certificate = x509.load_der_x509_certificate(der)
    return certificate.not_valid_before_utc.timestamp(), certificate.not_valid_after_utc.timestamp()


def judged(answer: Answer, valid: tuple[float, float] | None) -> Answer:
    """The answer, with what its certificate says: one that is good, but not valid now, is bad content."""
    if valid is None:
        return answer
    since, until = valid
    now = time.time()
    wrong = ""
    if now >= until:
        wrong = f"the certificate expired {(now - until) / DAY_S:.1f} days ago"
    elif now < since:
        wrong = f"the certificate is valid in {(since - now) / DAY_S:.1f} days only"
    if wrong and answer.outcome is Outcome.GOOD:
        return replace(answer, outcome=Outcome.CONTENT, excerpt=wrong, certificate_until=until)
    return replace(answer, certificate_until=until)
