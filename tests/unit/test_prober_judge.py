"""What counts as a good HTTP answer, and what a person is told of one that is not."""

import errno
import ssl

import pytest

from perdure.adapters.prober import failure, http
from perdure.model.check import Check, CheckKind
from perdure.model.errors import UnavailableError
from perdure.model.evidence import Outcome


def check(**expectations: object) -> Check:
    return Check(CheckKind.HTTP, path="/healthz", **expectations)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("status", "outcome"),
    [(199, Outcome.STATUS), (200, Outcome.GOOD), (302, Outcome.GOOD), (399, Outcome.GOOD), (400, Outcome.STATUS)],
)
def test_without_an_expected_status_success_and_redirects_are_good(status: int, outcome: Outcome) -> None:
    assert http.judge(check(), status, (), b"").outcome == outcome


def test_an_expected_status_replaces_the_default() -> None:
    assert http.judge(check(expect_status=(204, 503)), 503, (), b"").outcome == Outcome.GOOD
    assert http.judge(check(expect_status=(204, 503)), 200, (), b"").outcome == Outcome.STATUS


def test_a_bad_status_shows_the_beginning_of_the_body_on_one_line() -> None:
    answer = http.judge(check(), 500, (), b"Traceback:\n  File\x00 \xff" + b"x" * 1_000)
    assert answer.excerpt.startswith("HTTP 500: Traceback: File\ufffd \ufffdxxx")
    assert len(answer.excerpt) == len("HTTP 500: ") + 200


def test_a_body_without_the_expected_text_is_bad_content() -> None:
    assert http.judge(check(expect_body="ok"), 200, (), b"all ok here").outcome == Outcome.GOOD
    answer = http.judge(check(expect_body="ok"), 200, (), b"no")
    assert (answer.outcome, answer.excerpt) == (Outcome.CONTENT, "HTTP 200 without 'ok': no")


def test_what_answers_are_compared_by_does_not_depend_on_the_white_space_around_it() -> None:
    assert failure.digest(b"same\n") == failure.digest(b"same") != failure.digest(b"other")
    assert len(failure.digest(b"")) == 32


def test_headers_are_compared_by_name_in_any_case_and_by_whole_value() -> None:
    wanted = check(expect_headers=(("X-Role", "primary"),))
    sent = ((b"x-role", b"standby"), (b"x-role", b"primary"))
    assert http.judge(wanted, 200, sent, b"").outcome == Outcome.GOOD
    assert http.judge(wanted, 200, sent[:1], b"").excerpt == "HTTP 200 with X-Role: standby, not primary"
    assert http.judge(wanted, 200, (), b"").excerpt == "HTTP 200 with X-Role: not sent, not primary"


def test_no_excerpt_is_longer_than_the_contract_says() -> None:
    wanted = check(expect_headers=(("X" * 200, "y" * 200),), expect_body="z" * 500)
    assert len(http.judge(wanted, 200, (), b"w" * 500).excerpt) == 300


@pytest.mark.parametrize("number", sorted(failure.OWN))
def test_a_shortage_of_the_daemon_is_no_evidence_against_the_target(number: int) -> None:
    with pytest.raises(UnavailableError):
        failure.refused(OSError(number, "words"))


def test_connection_errors_are_told_in_words() -> None:
    assert failure.refused(OSError(errno.ECONNREFUSED, "x")).excerpt == "nothing listens on the port"
    assert failure.refused(OSError(errno.ECONNRESET, "x")).excerpt == "the connection was reset"
    assert failure.refused(OSError(errno.EHOSTUNREACH, "x")).excerpt == "no connection: No route to host"


@pytest.mark.parametrize("number", [ssl.SSLErrorNumber.SSL_ERROR_SSL, errno.ENOMEM])
def test_a_failure_of_tls_is_no_error_of_the_system_with_the_same_number(number: int) -> None:
    answer = failure.refused(ssl.SSLError(number, "wrong version number"))
    assert answer.outcome is Outcome.STATUS
    assert answer.excerpt.startswith("no TLS: ")
