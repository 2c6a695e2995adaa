"""What clients got: failures convict a replica when it shows more of them than its peers and its own past."""

import functools
import itertools
import math
from collections.abc import Sequence
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from perdure.detect import cusum, peers, traffic
from perdure.detect.peers import Peers, Tally
from perdure.detect.traffic import Seen
from perdure.model.evidence import Served
from perdure.model.traffic import Counters
from perdure.model.verdict import Sign

LIMIT = cusum.threshold(1 / (30 * 86_400), 10.0)
READINGS = st.lists(st.tuples(st.integers(0, 50), st.floats(0.0, 1.0)), max_size=20)


def read(seen: Sequence[Seen], at: float, counts: Sequence[tuple[int, int]]) -> list[Seen]:
    """One reading of (requests, failures) for each replica, entered as the observer enters it."""
    served = [Served("", at, requests, failures) for requests, failures in counts]
    counted = [traffic.count(one, what) for one, what in zip(seen, served, strict=True)]
    without = peers.leave_one_out([traffic.summary(one, at) for one in counted])
    return [traffic.observe(one, what, others) for one, what, others in zip(counted, served, without, strict=True)]


def readings_until_convicted(counts: Sequence[tuple[int, int]], replicas: int, at_most: int = 200) -> int | None:
    """How many readings of 100 ms convict the first replica, after five healthy seconds."""
    seen = [Seen() for _ in range(replicas)]
    for number in range(50):
        seen = read(seen, 55.0 + number / 10, [(requests, 0) for requests, _ in counts])
    for number in range(at_most):
        seen = read(seen, 60.0 + number / 10, counts)
        if traffic.judge(seen[0], LIMIT, alone=replicas == 1) is not None:
            return number + 1
    return None


@pytest.mark.parametrize(("elapsed_s", "kept"), [(0.0, 1.0), (1.0, math.exp(-1.0)), (10.0, math.exp(-10.0))])
def test_the_shortest_memory_decays_with_a_time_constant_of_a_second(elapsed_s: float, kept: float) -> None:
    first = traffic.count(Seen(), Served("", 5.0, 100, 10))
    second = traffic.count(first, Served("", 5.0 + elapsed_s, 1, 0))
    assert second.tallies[0].requests == pytest.approx(100 * kept + 1)
    assert second.tallies[0].failures == pytest.approx(10 * kept)
    assert second.tallies[1].requests == pytest.approx(100 * math.exp(-elapsed_s / 10) + 1)
    wait = math.exp(-elapsed_s / 60)
    assert [one.requests for one in second.waiting] == pytest.approx([100 * wait + 1, 100 * (1 - wait)])
    assert second.tallies[2].requests == 0.0
    third = traffic.count(second, Served("", 5.0 + 2 * elapsed_s, 1, 0))
    assert third.tallies[2].requests == pytest.approx(100 * (1 - wait) ** 2), "it has waited twice"


def tallied(now: tuple[float, float], lately: tuple[float, float], past: tuple[float, float]) -> Seen:
    return Seen(tallies=(Tally(*now), Tally(*lately), Tally(*past)))


NONE = (0.0, 0.0)


@pytest.mark.parametrize(
    ("own", "others", "healthy_share"),
    [
        (tallied(NONE, NONE, NONE), [], 0.002),  # nothing known: the floor
        (tallied(NONE, NONE, (1000, 50)), [], 0.05),  # its own long past
        (tallied(NONE, NONE, (499, 50)), [], 0.002),  # a past that is too short to be one
        (tallied((10, 10), (10, 10), NONE), [], 0.002),  # its own present explains nothing
        (tallied(NONE, NONE, NONE), [tallied((90, 9), NONE, NONE), tallied((10, 1), NONE, NONE)], 0.1),
        (tallied(NONE, NONE, NONE), [tallied((100, 0), (100, 30), NONE)], 0.3),  # the peers lately
        (tallied(NONE, NONE, NONE), [tallied((0.4, 0.4), NONE, NONE)], 0.002),  # less than a request
        (tallied(NONE, NONE, NONE), [tallied((10, 10), NONE, NONE)], 0.99),  # never certain
    ],
)
def test_a_healthy_replica_would_show_the_worst_of_its_peers_and_its_own_past(
    own: Seen, others: list[Seen], healthy_share: float
) -> None:
    summaries = [traffic.summary(replace(one, at=1.0), 1.0) for one in others]
    assert traffic.healthy_share(own, functools.reduce(Peers.joined, summaries, Peers())) == pytest.approx(
        healthy_share
    )


@pytest.mark.parametrize(
    ("requests", "failures", "readings"),
    [(10, 10, 1), (2, 2, 4), (10, 2, 4), (20, 1, 8)],
)
def test_one_bad_replica_among_healthy_peers_is_convicted_within_a_few_readings(
    requests: int, failures: int, readings: int
) -> None:
    assert readings_until_convicted([(requests, failures), (requests, 0), (requests, 0)], 3) == readings


@pytest.mark.parametrize(
    ("mine", "theirs", "nats"),
    [
        (Tally(10, 7), Tally(20, 0), 7 * math.log(3)),  # one of three fails: seven times are enough
        (Tally(10, 3), Tally(10, 0), 3 * math.log(2)),  # one of two: three times are not
        (Tally(10, 5), Tally(20, 10), 0.0),  # all fail alike
        (Tally(10, 2), Tally(20, 10), 0.0),  # it fails less often than the others
        (Tally(10, 10), Tally(20, 10), 10 * math.log(1.5) + 10 * math.log(0.75)),  # two of three
        (Tally(10, 0), Tally(20, 0), 0.0),
        (Tally(), Tally(), 0.0),
    ],
)
def test_failures_are_a_replicas_own_when_they_fall_on_it_more_often_than_requests_do(
    mine: Tally, theirs: Tally, nats: float
) -> None:
    expected = max(0.0, nats - math.log(2.0))  # either of the two could be the one
    assert share(failing(mine, mine, mine), peers.of_one(theirs, theirs, theirs, 0.0, 1.0)) == pytest.approx(expected)


def test_a_second_with_few_requests_does_not_say_that_hardly_any_fall_on_a_replica() -> None:
    """The good ones stand for eight each: the last second shows one of 25, the last ten a quarter."""
    mine = failing(Tally(1.0, 1.0), Tally(60.0, 4.0), Tally(60.0, 4.0))
    others = peers.of_one(Tally(24.0, 0.0), Tally(180.0, 0.0), Tally(180.0, 0.0), 0.0, 1.0)
    nats = 4.0 * math.log(1.0 / (traffic.PART_MIN * 0.25)) - math.log(2.0)
    assert share(mine, others) == pytest.approx(nats)
    assert nats < traffic.APART_MIN


def test_a_peer_that_was_spared_what_failed_before_it_started_makes_nobody_look_guilty() -> None:
    """In the minute before its peer began, the replica got nearly all requests, and ten of them failed."""
    mine = failing(Tally(20.0, 0.0), Tally(200.0, 1.0), Tally(1100.0, 10.0))
    others = peers.of_one(Tally(20.0, 0.0), Tally(200.0, 0.0), Tally(300.0, 0.0), 0.0, 1.0)
    assert share(mine, others) < traffic.APART_MIN


def test_the_more_chances_there_were_the_more_failures_it_takes() -> None:
    """Each replica, at each endpoint, might be the one that all failures of a client fall on by chance, each time."""

    def enough(replicas: int, endpoints: int = 1, past: float = 0.0) -> int:
        for failures in itertools.count(1):
            mine, theirs = Tally(100.0, failures), Tally(100.0, 0.0)
            one = peers.of_one(theirs, theirs, theirs, past / replicas, 1.0)
            others = functools.reduce(Peers.joined, [one] * (replicas - 1))
            seen = replace(failing(mine, mine, mine), apart=share(failing(mine, mine, mine), others))
            if traffic.convincing(seen, endpoints):
                return failures
        raise AssertionError

    assert [enough(replicas) for replicas in range(2, 7)] == [10, 7, 6, 5, 5]
    assert [enough(3, endpoints) for endpoints in (2, 4, 8)] == [8, 8, 9]
    assert [enough(4, past=past) for past in (0.0, 20.0, 200.0, 2000.0)] == [6, 7, 8, 10]


def share(seen: Seen, others: Peers) -> float:
    """`traffic.apart`, when requests fell on it as they do now when it failed."""
    return traffic.apart(seen, others, traffic.fell(seen, 1, others))


def test_what_fell_on_a_replica_is_told_by_the_time_when_it_failed() -> None:
    """It got half of the requests, and all that failed; now it gets a sixth."""
    seen = [Seen()] * 3
    for at in range(20):
        seen = read(seen, at / 10, [(10, 0), (5, 0), (5, 0)])
    for at in range(20, 28):
        seen = read(seen, at / 10, [(10, 1), (5, 0), (5, 0)])
    convinced = seen[0].apart
    for at in range(28, 60):
        seen = read(seen, at / 10, [(2, 0), (5, 0), (5, 0)])
    assert seen[0].part == pytest.approx(0.5, abs=0.01)
    assert seen[0].apart == pytest.approx(convinced, rel=0.1) and convinced < traffic.APART_MIN


def failing(now: Tally, lately: Tally, minute: Tally) -> Seen:
    return Seen(tallies=(now, lately, Tally()), waiting=(minute, Tally()))


@pytest.mark.parametrize("quiet_s", [120, 360, 380, 420, 3600, 7200])
def test_a_failure_counts_however_long_ago_a_peer_failed_last(quiet_s: int) -> None:
    mine, other = read([Seen(), Seen()], 0.0, [(20, 0), (20, 1)])
    for second in range(1, quiet_s):
        mine, other = read([mine, other], float(second), [(20, 0), (20, 0)])
    mine, other = read([mine, other], float(quiet_s), [(20, 1), (20, 0)])
    assert mine.apart == pytest.approx(0.0, abs=0.001)  # 1 of 1 on one of two, and either could be the one
    assert any(mine.scores) and not any(other.scores)


def test_a_replica_that_has_just_started_is_not_blamed_for_what_all_begin_to_fail() -> None:
    """Its peers have thousands of good requests of the last seconds behind them, it has none."""
    seen = [Seen(), Seen(), Seen()]
    for number in range(50):
        at = 55.0 + number / 10
        seen = [seen[0], *(traffic.count(one, Served("", at, 100, 0)) for one in seen[1:])]
    for number in range(100):
        seen = read(seen, 60.0 + number / 10, [(10, 2)] * 3)
        assert [traffic.judge(one, LIMIT) for one in seen] == [None] * 3


@given(st.integers(1, 50), st.floats(0.0, 1.0), st.integers(2, 6))
@settings(max_examples=30, deadline=None)
def test_an_error_that_all_replicas_share_convicts_none_of_them(requests: int, share: float, replicas: int) -> None:
    failures = round(share * requests)
    assert readings_until_convicted([(requests, failures)] * replicas, replicas, at_most=30) is None


def test_two_of_three_bad_replicas_stand_out_from_the_healthy_one() -> None:
    assert readings_until_convicted([(10, 10), (10, 10), (10, 0)], 3) is not None


def test_one_failure_of_one_request_convicts_nobody() -> None:
    seen = read([Seen(), Seen()], 0.1, [(1, 1), (0, 0)])
    assert cusum.strongest(seen[0].scores) == pytest.approx(6.2146, abs=1e-4)
    assert traffic.judge(seen[0], LIMIT) is None


def test_a_replica_alone_is_judged_by_its_own_past() -> None:
    assert readings_until_convicted([(10, 10)], 1) == 1
    flaky = [Seen(tallies=(Tally(), Tally(), Tally(10_000, 1_000)))]
    for number in range(50):
        flaky = read(flaky, number / 10, [(10, 1)])
    assert traffic.judge(flaky[0], LIMIT, alone=True) is None


def test_what_was_gathered_alone_convicts_nobody_who_has_peers_now_and_is_forgotten_with_them() -> None:
    (failing,) = read([Seen()], 1.0, [(100, 100)])
    assert traffic.judge(failing, LIMIT, alone=True) is not None
    assert traffic.judge(failing, LIMIT, alone=False) is None
    compared = read([failing, Seen()], 1.1, [(1, 1), (1, 1)])[0]
    assert traffic.judge(compared, LIMIT) is None
    assert cusum.strongest(compared.scores) < 1.0


def test_a_peer_that_is_asked_no_more_is_no_comparison() -> None:
    first, second, drained = read([Seen(), Seen(), Seen()], 1.0, [(50, 0), (50, 0), (50, 0)])
    for number in range(200):
        served = Served("", 12.0 + number / 10, 10, 4)
        first, second = traffic.count(first, served), traffic.count(second, served)
        second_and_drained = traffic.summary(second, served.at).joined(traffic.summary(drained, served.at))
        first = traffic.observe(first, served, second_and_drained)
        assert traffic.judge(first, LIMIT) is None
    assert cusum.strongest(first.scores) < LIMIT / 4


def test_a_busy_replica_that_gets_hardly_anything_but_repeats_of_bad_requests_is_not_blamed_for_them() -> None:
    """Clients send one bad request in five readings; each is tried on all three, and good ones avoid the busy one."""
    seen = [Seen(), Seen(), Seen()]
    for number in range(600):
        bad = int(number % 5 == 0)
        seen = read(seen, number / 10, [(bad, bad), (8 + bad, bad), (8 + bad, bad)])
        assert [traffic.judge(one, LIMIT) for one in seen] == [None] * 3


def test_of_two_replicas_the_one_that_gets_two_of_three_tries_is_not_blamed_for_bad_requests() -> None:
    seen = [Seen(), Seen()]
    for number in range(600):
        bad = int(number % 7 == 0)
        seen = read(seen, number / 10, [(1 + 2 * bad, 2 * bad), (5 + bad, bad)])
        assert [traffic.judge(one, LIMIT) for one in seen] == [None] * 2


@pytest.mark.parametrize(
    ("counters", "requests", "failures"),
    [
        # requests, connect errors, response errors, 5xx, retries, redispatches: as HAProxy 2.8 counts them
        (Counters(4, 0, 0, 0, 0, 0), 4, 0),
        (Counters(4, 0, 0, 0, 4, 4), 4, 4),  # four answers 503, each tried again elsewhere
        (Counters(2, 0, 0, 1, 1, 1), 2, 2),  # two tries of one request, the last one answered 503
        (Counters(1, 0, 1, 0, 1, 1), 1, 1),  # a reset that was tried again
        (Counters(1, 0, 2, 0, 0, 0), 1, 1),  # a reset that was the last try
        (Counters(4, 0, 2, 0, 0, 0), 4, 1),
        (Counters(1, 0, 0, 0, 0, 1), 1, 1),  # a refused connection that was tried elsewhere
        (Counters(0, 1, 0, 0, 0, 0), 1, 1),  # a refused connection that was the last try
    ],
)
def test_every_failed_try_counts_once(counters: Counters, requests: int, failures: int) -> None:
    assert traffic.tried("web/1#1", 2.0, Counters(), counters) == Served("web/1#1", 2.0, requests, failures)
    more = Counters(*(getattr(counters, name) + 7 for name in Counters.__slots__))
    assert traffic.tried("web/1#1", 2.0, Counters(7, 7, 7, 7, 7, 7), more) == Served("web/1#1", 2.0, requests, failures)


def test_the_verdict_counts_what_was_seen_since_the_suspicion_began() -> None:
    seen = [Seen(), Seen()]
    for number in range(5):
        seen = read(seen, number / 10, [(1000, 0), (1000, 0)])
    for number in range(5, 7):
        seen = read(seen, number / 10, [(10, 8), (10, 0)])
    verdict = traffic.judge(seen[0], LIMIT)
    assert verdict is not None
    assert (verdict.sign, verdict.facts) == (Sign.REQUESTS, {"requests": 20, "failures": 16})
    assert verdict.sentence.startswith("failed 16 of its last 20 requests")


@given(READINGS)
def test_the_peers_of_a_failing_replica_are_never_convicted_for_it(readings: list[tuple[int, float]]) -> None:
    seen = [Seen(), Seen(), Seen()]
    for number, (requests, share) in enumerate(readings):
        seen = read(seen, number / 10, [(requests, round(share * requests)), (requests, 0), (requests, 0)])
        assert traffic.judge(seen[1], LIMIT) is None and traffic.judge(seen[2], LIMIT) is None


def test_a_reading_without_requests_changes_no_score() -> None:
    seen = replace(Seen(), scores=(3.0,) * 6, requests=7, failures=2)
    assert read([seen], 1.0, [(0, 0)])[0].scores == seen.scores


def test_a_suspicion_that_no_request_renews_fades_below_the_limit_and_convicts_no_more() -> None:
    (failed,) = read([Seen()], 10.0, [(3, 3)])
    verdict = traffic.judge(failed, LIMIT, alone=True, now=10.0)
    assert verdict is not None and verdict.score == pytest.approx(3 * math.log(1 / traffic.FLOOR))
    assert traffic.judge(failed, LIMIT, alone=True, now=16.0) is None
    assert traffic.judge(failed, LIMIT, alone=True) is not None, "what it was when it was asked last"
