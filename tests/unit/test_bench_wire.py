"""The reader of responses and the counting of the load generator, without any socket."""

import pytest
from bench.load import Kind
from bench.tally import OK, Result, Sample, Tally, quantile, summarize
from bench.wire import Reader, WireError

ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n6;x=y\r\n world\r\n0\r\nA: b\r\n\r\n"


@pytest.mark.parametrize(("answer", "body"), [(ANSWER, b"hello"), (CHUNKED, b"hello world")])
def test_an_answer_cut_anywhere_is_complete_only_with_its_last_byte(answer: bytes, body: bytes) -> None:
    for cut in range(1, len(answer)):
        reader = Reader()
        assert not reader.feed(answer[:cut])
        assert reader.started
        assert not reader.end()
        assert reader.feed(answer[cut:])
        assert (reader.status, reader.body, reader.keep_alive) == (200, body, True)


def test_an_answer_without_a_length_ends_with_the_connection() -> None:
    reader = Reader()
    assert not reader.feed(b"HTTP/1.1 200 OK\r\n\r\nhel")
    assert not reader.feed(b"lo")
    assert reader.end()
    assert (reader.body, reader.keep_alive) == (b"hello", False)


def test_interim_answers_are_passed_over() -> None:
    reader = Reader()
    assert not reader.feed(b"HTTP/1.1 100 Continue\r\n\r\n")
    assert reader.feed(ANSWER)
    assert reader.status == 200


def test_an_answer_to_head_has_a_length_and_no_body() -> None:
    reader = Reader(bodyless=True)
    assert reader.feed(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n")
    assert reader.keep_alive


@pytest.mark.parametrize(
    ("head", "keep_alive"),
    [
        (b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 0", False),
        (b"HTTP/1.0 200 OK\r\nContent-Length: 0", False),
        (b"HTTP/1.0 200 OK\r\nConnection: Keep-Alive\r\nContent-Length: 0", True),
        (b"HTTP/1.1 204 No Content", True),
    ],
)
def test_the_answer_says_whether_the_connection_can_be_used_again(head: bytes, keep_alive: bool) -> None:
    reader = Reader()
    assert reader.feed(head + b"\r\n\r\n")
    assert reader.keep_alive is keep_alive


def test_bytes_after_the_answer_end_the_use_of_the_connection() -> None:
    reader = Reader()
    assert reader.feed(ANSWER + b"HTTP/1.1 408")
    assert (reader.body, reader.keep_alive) == (b"hello", False)


@pytest.mark.parametrize(
    "answer",
    [
        b"SSH-2.0-OpenSSH\r\n\r\n",
        b"HTTP/1.1 abc\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: many\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"HTTP/1.1 200 OK\r\nA: " + b"x" * 70_000,
    ],
)
def test_what_is_not_http_is_malformed(answer: bytes) -> None:
    with pytest.raises(WireError):
        Reader().feed(answer)


def test_quantiles_are_by_nearest_rank() -> None:
    assert quantile([], 0.5) == 0.0
    assert quantile([7.0], 0.99) == 7.0
    values = [float(n) for n in range(1, 101)]
    assert [quantile(values, share) for share in (0.0, 0.5, 0.99, 1.0)] == [1.0, 50.0, 99.0, 100.0]


def test_a_tally_counts_every_outcome_and_gives_its_samples_back() -> None:
    tally = Tally()
    samples = [Sample(1, 10.0, 0.1, OK, 0), Sample(2, 10.5, 0.3, "timeout", 1), Sample(3, 11.0, 0.2, "status 503", 0)]
    for sample in samples:
        tally.sent += 1
        tally.add(sample, "why")
    tally.sent += 1
    result = tally.summary(1.0, 0.5)
    assert list(tally.samples()) == samples
    assert (result.sent, result.ok, result.failed, result.unfinished) == (4, 1, 2, 1)
    assert result.outcomes == {"ok": 1, "status 503": 1, "timeout": 1}
    assert (result.p50_s, result.max_s) == (0.2, 0.3)
    assert [(failure.number, failure.detail) for failure in result.failures] == [(2, "why"), (3, "why")]
    assert summarize(samples[1:]).failed == 2


def test_a_result_survives_its_way_through_json() -> None:
    tally = Tally()
    tally.add(Sample(1, 10.0, 0.1, "reset", 0), "gone")
    result = tally.summary(1.0, 0.5)
    assert Result.from_json({**result.to_json(), "new": 1}) == result
    assert "1 reset" in result.sentence()


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("GET /", Kind("GET", "/")),
        ("post+key /order 2.5", Kind("POST", "/order", 2.5, True, b"x")),
        ("HEAD", Kind("HEAD")),
    ],
)
def test_a_kind_of_request_is_read_from_the_command_line(text: str, kind: Kind) -> None:
    assert Kind.parse(text) == kind


def test_a_wrong_kind_of_request_is_refused() -> None:
    with pytest.raises(ValueError, match="not a kind of request"):
        Kind.parse("POST+lock /order")
