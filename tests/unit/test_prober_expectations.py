"""What an HTTP check expects of an answer beyond its status."""

import pytest

from perdure.adapters.prober import http, pointer
from perdure.model.check import Check, CheckKind
from perdure.model.evidence import Outcome

BODY = b'{"status": "ok", "queue": {"length": 0}, "up": true, "list": [{"a/b": 1, "m~n": null}], "": 7}'


@pytest.mark.parametrize(
    ("at", "value", "wrong"),
    [
        ("/status", '"ok"', None),
        ("/queue/length", "0", None),
        ("/up", "true", None),
        ("/list/0/a~1b", "1", None),
        ("/list/0/m~0n", "null", None),
        ("/", "7", None),
        ("/queue/length", "0.0", None),
        ("/list/-1", "1", "nothing at /list/-1, not 1"),
        ("/list/00", "1", "nothing at /list/00, not 1"),
        ("/status", '"down"', '"ok" at /status, not "down"'),
        ("/up", "1", "true at /up, not 1"),
        ("/queue/length", "false", "0 at /queue/length, not false"),
        ("/nothing", '"x"', 'nothing at /nothing, not "x"'),
        ("/list/1", "1", "nothing at /list/1, not 1"),
        ("/list/x", "1", "nothing at /list/x, not 1"),
        ("/status/deeper", "1", "nothing at /status/deeper, not 1"),
    ],
)
def test_a_field_is_found_by_its_pointer_and_compared_as_json(at: str, value: str, wrong: str | None) -> None:
    assert pointer.mismatch(BODY, [("/status", '"ok"'), (at, value)]) == wrong


def test_a_body_that_is_no_json_is_wrong() -> None:
    for body in (b"<html>", b"", b"[" * 60_000, b"\xff"):
        assert pointer.mismatch(body, [("/a", "1")]) == "a body that is no JSON"


@pytest.mark.parametrize(
    ("check", "outcome", "excerpt"),
    [
        (Check(CheckKind.HTTP, expect_json=(("/status", '"ok"'),)), Outcome.GOOD, "HTTP 200"),
        (Check(CheckKind.HTTP, expect_json=(("/status", '"up"'),)), Outcome.CONTENT, '"ok" at /status, not "up"'),
        (Check(CheckKind.HTTP, expect_bytes=len(BODY)), Outcome.GOOD, "HTTP 200"),
        (Check(CheckKind.HTTP, expect_bytes=200_000), Outcome.CONTENT, f"{len(BODY)} bytes of at least 200000"),
    ],
)
def test_an_unexpected_field_or_a_short_body_is_wrong_content(check: Check, outcome: Outcome, excerpt: str) -> None:
    answer = http.judge(check, 200, (), BODY)
    assert answer.outcome is outcome
    assert excerpt in answer.excerpt
