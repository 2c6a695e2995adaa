"""What the kernel says: a stop convicts when it was seen to outlast a pause, memory when it was seen twice."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from perdure.detect import process
from perdure.model.evidence import EvidenceClass, Sighted
from perdure.model.verdict import Sign

MB = 1_000_000


def seen(*sights: tuple[float, str], memory: int | None = None, limit: int | None = None) -> process.Kernel:
    kernel = process.Kernel()
    for at, letter in sights:
        kernel = process.observe(kernel, Sighted("web/1#1", at, letter, memory), limit)
    return kernel


@pytest.mark.parametrize("letter", ["T", "t"])
def test_a_process_that_was_seen_stopped_for_longer_than_a_pause_is_convicted(letter: str) -> None:
    verdict = process.judge(seen((10.0, letter), (11.0, letter), (12.25, letter)), None)
    assert verdict is not None
    assert (verdict.evidence, verdict.sign) == (EvidenceClass.PROCESS, Sign.STOPPED)
    assert verdict.sentence == "its process has been stopped (state T) for 2.2 s"


@pytest.mark.parametrize("letter", ["R", "S", "D", "Z", "X"])
def test_any_other_state_ends_the_stop(letter: str) -> None:
    kernel = seen((10.0, "T"), (12.0, letter), (12.5, "T"))
    assert kernel.stopped_since_at == 12.5
    assert process.judge(kernel, None) is None


@given(st.floats(0.0, 1.0), st.floats(0.0, 2.0), st.lists(st.floats(0.2, 5.0), min_size=1, max_size=30))
def test_a_pause_of_two_seconds_never_convicts_however_late_the_looks(
    stopped_at: float, pause_s: float, gaps: list[float]
) -> None:
    kernel, at = process.Kernel(), 0.0
    for gap_s in gaps:
        at += gap_s
        letter = "T" if stopped_at <= at < stopped_at + pause_s else "S"
        kernel = process.observe(kernel, Sighted("web/1#1", at, letter), None)
        assert process.judge(kernel, None) is None


def test_a_process_that_waits_inside_the_kernel_at_every_look_of_five_seconds_is_convicted() -> None:
    looks = [(10.0 + 0.25 * number, "D") for number in range(21)]
    assert process.judge(seen(*looks[:-1]), None) is None
    verdict = process.judge(seen(*looks), None)
    assert verdict is not None
    assert (verdict.evidence, verdict.sign) == (EvidenceClass.PROCESS, Sign.BLOCKED)
    assert verdict.sentence == "its process has waited inside the kernel (state D) for 5.0 s"


def test_a_process_that_goes_on_in_between_only_has_a_busy_disk() -> None:
    looks = [(0.25 * number, "S" if number % 10 == 9 else "D") for number in range(200)]
    assert process.judge(seen(*looks), None) is None


def test_nobody_looked_during_a_pause_of_the_monitor() -> None:
    kernel = process.shifted(seen((1.0, "D"), (2.0, "D")), 30.0)
    kernel = process.observe(kernel, Sighted("web/1#1", 33.0, "D"), None)
    assert process.blocked_s(kernel) == 2.0
    assert process.stopped_s(process.shifted(seen((1.0, "T"), (2.0, "T")), 0.5)) == 0.5


def test_memory_above_the_limit_must_be_seen_twice_in_a_row() -> None:
    once = seen((1.0, "S"), memory=200 * MB, limit=100 * MB)
    twice = process.observe(once, Sighted("web/1#1", 3.0, "S", 201 * MB), 100 * MB)
    below = process.observe(once, Sighted("web/1#1", 3.0, "S", 100 * MB), 100 * MB)
    verdict = process.judge(twice, 100 * MB)
    assert process.judge(once, 100 * MB) is None
    assert verdict is not None
    assert (verdict.evidence, verdict.sign) == (EvidenceClass.LIMIT, Sign.MEMORY)
    assert verdict.sentence == "its processes hold 201 MB of memory, 100 MB are allowed"
    assert below.memory_over == 0


def test_a_look_that_did_not_measure_memory_leaves_the_count() -> None:
    kernel = process.observe(seen((1.0, "S"), memory=200, limit=100), Sighted("web/1#1", 2.0, "S"), 100)
    assert (kernel.memory_bytes, kernel.memory_over) == (200, 1)


def test_without_a_limit_no_memory_is_too_much() -> None:
    assert process.judge(process.Kernel(memory_bytes=200, memory_over=9), None) is None
