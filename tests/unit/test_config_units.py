"""Durations, sizes, rates, shares and addresses: read, refused with a remedy, and written back."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from perdure.config import addresses, kinds, units
from perdure.config.mistake import Mistake, got
from perdure.model.service import Address


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("500ms", 0.5),
        ("1s", 1),
        ("2m", 120),
        ("1h", 3600),
        ("1h30m", 5400),
        ("1.5s", 1.5),
        ("1m1s1ms", 61.001),
        ("0s", 0),
    ],
)
def test_a_duration_with_units_is_read(text: str, seconds: float) -> None:
    assert units.duration_s(text) == pytest.approx(seconds)


def test_a_tenth_of_a_second_is_exactly_that() -> None:
    assert units.duration_s("100ms") == 0.1


@pytest.mark.parametrize(
    "text", ["", "1", "s", "1 s", "1d", "-1s", "1s1s", "1s1m", "1e3s", "1ss", "\u0661s", "1h ", "1.s"]
)
def test_anything_else_is_no_duration(text: str) -> None:
    with pytest.raises(Mistake, match="must be a duration"):
        units.duration_s(text)


@pytest.mark.parametrize("value", [5, 1.5, 0, -3, pytest.param(16**5000, id="huge"), float("nan"), float("inf")])
def test_a_bare_number_is_no_duration_and_the_sentence_says_so(value: float) -> None:
    with pytest.raises(Mistake, match="not a bare number"):
        units.duration_s(value)


@pytest.mark.parametrize(
    ("value", "hint"),
    [(5, '"5s" for seconds'), ("5", '"5s" for seconds'), ("5 s", '"5s"'), ("5 seconds", '"5s"'), ("2min", '"2m"')],
)
def test_a_near_duration_gets_the_right_spelling_as_hint(value: object, hint: str) -> None:
    with pytest.raises(Mistake) as caught:
        units.duration_s(value)
    assert hint in caught.value.hint


@given(st.integers(min_value=0, max_value=10**9))
def test_every_duration_that_is_written_reads_back(milliseconds: int) -> None:
    assert units.duration_s(units.duration_text(milliseconds / 1000)) == pytest.approx(milliseconds / 1000)


@pytest.mark.parametrize(
    ("text", "count"),
    [("64MB", 64_000_000), ("1GiB", 2**30), ("10kB", 10_000), ("1.5GB", 1_500_000_000), ("7B", 7), ("1mb", 10**6)],
)
def test_a_size_with_a_unit_is_read(text: str, count: int) -> None:
    assert units.size_bytes(text) == count


@pytest.mark.parametrize(
    "value", ["64M", "64", "", "MB", "1 MB", "-1MB", 64, 1.5, True, [], pytest.param(16**5000, id="huge")]
)
def test_anything_else_is_no_size(value: object) -> None:
    with pytest.raises(Mistake, match="must be a size") as caught:
        units.size_bytes(value)
    assert caught.value.hint


@given(st.integers(min_value=1, max_value=2**50))
def test_every_size_that_is_written_reads_back(count: int) -> None:
    assert units.size_bytes(units.size_text(count)) == count


@pytest.mark.parametrize(
    ("text", "per_s"),
    [
        ("1 per 30 days", 1 / 2_592_000),
        ("2 per day", 2 / 86_400),
        ("1 per hour", 1 / 3600),
        ("0.5 per year", 0.5 / 31_536_000),
    ],
)
def test_a_rate_is_read(text: str, per_s: float) -> None:
    assert units.rate_per_s(text) == pytest.approx(per_s)


@pytest.mark.parametrize("value", ["0 per day", "1 per 0 days", "1", "1/day", "never", 1, "1 per 2 fortnights"])
def test_anything_else_is_no_rate(value: object) -> None:
    with pytest.raises(Mistake):
        units.rate_per_s(value)


@pytest.mark.parametrize(("value", "part"), [("20%", 0.2), (0.2, 0.2), (0, 0), (1, 1), ("0%", 0), ("12.5 %", 0.125)])
def test_a_share_is_read(value: object, part: float) -> None:
    assert units.share(value) == pytest.approx(part)


@pytest.mark.parametrize(
    "value", [20, -0.1, "20", "101%", True, float("nan"), float("inf"), pytest.param(16**5000, id="huge"), None]
)
def test_anything_else_is_no_share(value: object) -> None:
    with pytest.raises(Mistake):
        units.share(value)


@pytest.mark.parametrize(
    ("text", "host", "port"),
    [
        ("127.0.0.1:8080", "127.0.0.1", 8080),
        ("[::1]:8080", "::1", 8080),
        (":8080", "0.0.0.0", 8080),
        ("*:8080", "0.0.0.0", 8080),
        ("Db-1.example:1", "db-1.example", 1),
        ("[0:0::1]:9", "::1", 9),
    ],
)
def test_an_address_is_read(text: str, host: str, port: int) -> None:
    assert addresses.address(text) == Address(host, port)


@pytest.mark.parametrize(
    "value",
    [
        8080,
        "8080",
        "::1:8080",
        "[127.0.0.1]:80",
        "127.0.0.1:0",
        "h:65536",
        "h:",
        "a b:1",
        "300.1.1.1:1",
        "h:1\nx",
        "[fe80::1%lo]:1",
        "h:\u0661",
    ],
)
def test_anything_else_is_no_address(value: object) -> None:
    with pytest.raises(Mistake) as caught:
        addresses.address(value)
    assert "127.0.0.1:" in caught.value.hint or "[::1]:8080" in caught.value.hint


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [
        (":80", "127.0.0.1:80", True),
        ("localhost:80", "127.0.0.1:80", True),
        ("127.0.0.1:80", "127.0.0.2:80", False),
        (":80", ":81", False),
        ("[::]:80", "127.0.0.1:80", True),
    ],
)
def test_two_addresses_overlap_when_both_cannot_be_bound(one: str, other: str, expected: bool) -> None:
    assert addresses.overlap(addresses.address(one), addresses.address(other)) is expected


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("127.0.0.1", ("127.0.0.1",)),
        (["10.0.0.0/8", "::1", "10.0.0.0/8"], ("10.0.0.0/8", "::1")),
        ("FD00::/8", ("fd00::/8",)),
        ([], ()),
    ],
)
def test_networks_are_one_or_several_and_written_in_one_way(value: object, expected: tuple[str, ...]) -> None:
    assert addresses.networks(value) == expected


@pytest.mark.parametrize(
    ("value", "hint"),
    [
        ("10.0.0.1/8", 'did you mean "10.0.0.0/8"?'),
        ("proxy.lan", "such as"),
        (["::1", 5], "such as"),
        ("fe80::1%lo", "such as"),
        ("1.2.3.4 }\n", "such as"),
    ],
)
def test_anything_else_is_no_network(value: object, hint: str) -> None:
    with pytest.raises(Mistake) as caught:
        addresses.networks(value)
    assert hint in caught.value.hint


def test_dollars_that_a_shell_keeps_are_kept() -> None:
    assert kinds.WORDS.read("""a '$x' "$y" \\$z "\\$v" $w""") == ("a", "$$x", "$y", "$$z", "$$v", "$w")


def test_a_list_is_taken_word_by_word() -> None:
    assert kinds.WORDS.read(["a b", "$PORT", ""]) == ("a b", "$PORT", "")


@given(st.recursive(st.none() | st.text() | st.integers() | st.floats() | st.booleans(), st.lists))
def test_a_shown_value_is_always_one_short_printable_line(value: object) -> None:
    assert got(value).isprintable()
    assert len(got(value)) < 500
