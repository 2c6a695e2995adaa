"""What clients got by endpoint: judged against the same endpoint of the peers."""

import statistics
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from random import Random

import pytest

from perdure.detect import sampled, scope, times
from perdure.detect.sampled import Batch, Endpoint
from perdure.model.evidence import Served
from perdure.model.verdict import Sign, Verdict

RATE = 1 / (30 * 86_400)
LIMIT = sampled.limit(RATE, 3)


@dataclass
class Shown:
    """What a replica does to twenty requests a second at one endpoint."""

    requests: int = 20
    failed: int = 0
    refused: int = 0
    slow: int = 0
    quick_ms: float = 20.0
    slow_ms: float = 400.0

    def batch(self, name: str) -> Batch:
        lines = self.requests - self.failed
        taken = Counter({times.bucket(self.quick_ms): lines - self.refused - self.slow})
        taken[times.bucket(self.slow_ms)] += self.slow
        statuses = 502 if self.failed else 0, 403 if self.refused else 0, 0
        return Batch(name, self.requests, self.failed, self.failed, lines, self.refused, taken, statuses)


@dataclass
class Service:
    """Replicas at one endpoint, second by second."""

    known: dict[str, Endpoint] = field(default_factory=dict)
    now: float = 100.0

    def second(self, shown: Mapping[str, Shown]) -> None:
        self.now += 1.0
        quantiles = {name: times.quantile_ms(one.taken) for name, one in self.known.items()}
        mine = {}
        for name, one in shown.items():
            peers_ms = [ms for other, ms in quantiles.items() if other != name and ms is not None]
            batch = one.batch(name)
            mine[name] = sampled.count(self.known.get(name, Endpoint()), batch, self.now, peers_ms, warm=True)
        absent = {name: one for name, one in self.known.items() if name not in mine}
        self.known.update(sampled.compare("/pay", mine, absent, self.now))

    def verdict(self, name: str) -> Verdict | None:
        return sampled.judge({"/pay": self.known[name]}, LIMIT)


def seconds_until_convicted(bad: Shown, others: Shown | None = None, at_most: int = 120, past: int = 60) -> int | None:
    """How many seconds convict replica a, after a healthy minute; nobody else may be convicted."""
    service, good = Service(), Shown()
    for _ in range(past):
        service.second({"a": good, "b": good, "c": good})
    for number in range(1, at_most + 1):
        service.second({"a": bad, "b": others or good, "c": others or good})
        assert service.verdict("b") is None and service.verdict("c") is None
        if service.verdict("a") is not None:
            return number
    return None


@pytest.mark.parametrize(
    ("bad", "within_s"),
    [
        (Shown(failed=20), 1),
        (Shown(failed=4), 2),
        (Shown(failed=1), 10),
        (Shown(requests=2, failed=2), 4),
        (Shown(refused=20), 2),
        (Shown(refused=10), 3),
        (Shown(slow=20), 4),
        (Shown(slow=1), 30),
    ],
)
def test_one_replica_that_differs_from_its_peers_is_convicted_within_seconds(bad: Shown, within_s: int) -> None:
    found = seconds_until_convicted(bad)
    assert found is not None and found <= within_s


@pytest.mark.parametrize("shown", [Shown(failed=20), Shown(failed=4), Shown(refused=20), Shown(slow=20), Shown(slow=1)])
def test_what_all_replicas_share_convicts_nobody(shown: Shown) -> None:
    assert seconds_until_convicted(shown, shown) is None


def test_a_pause_that_makes_two_seconds_of_requests_slow_convicts_nobody() -> None:
    service, good = Service(), Shown()
    for _ in range(60):
        service.second({"a": good, "b": good, "c": good})
    for shown in (Shown(requests=1), Shown(requests=1), Shown(requests=40, slow=40), good, good):
        service.second({"a": shown, "b": good, "c": good})
        assert service.verdict("a") is None


def test_half_as_slow_again_is_not_slow() -> None:
    assert seconds_until_convicted(Shown(quick_ms=30.0)) is None


def test_a_replica_without_peers_is_not_judged_here() -> None:
    service = Service()
    for _ in range(60):
        service.second({"a": Shown(failed=20)})
    assert service.verdict("a") is None


def test_the_sentence_names_the_endpoint_the_share_and_the_status() -> None:
    service, good = Service(), Shown()
    for shown in [good] * 30 + [Shown(failed=20)] * 2:
        service.second({"a": shown, "b": good})
    verdict = service.verdict("a")
    assert verdict is not None
    assert (verdict.sign, verdict.endpoint) == (Sign.REQUESTS, "/pay")
    assert "(mostly 502)" in verdict.sentence and "/pay" in verdict.sentence


@pytest.mark.parametrize(
    ("look", "bad_max", "name", "thinned"),
    [
        ((20, 3), 4, "/pay", (20, 3)),
        ((100, 10), 4, "/pay", (40, 4)),
        ((40, 40), 1, "/pay", (1, 1)),
        ((500, 25), 1, "/pay", (20, 1)),
        ((500, 25), 1, sampled.ALL, (20, 1)),
        ((40, 40), 1, sampled.ALL, (5, 1)),
        ((1, 1), 1, sampled.ALL, (5, 1)),
        ((20, 0), 1, sampled.ALL, (20, 0)),
    ],
)
def test_a_second_counts_as_few_bad_observations_of_the_same_share(
    look: tuple[int, int], bad_max: int, name: str, thinned: tuple[int, int]
) -> None:
    found = sampled.thinned(Served("", 1.0, *look), bad_max, name)
    assert (found.requests, found.failures) == thinned


def slow_over_all(share: float, seconds: int, seed: int) -> int | None:
    """When one of three replicas with twenty answers a second, that share of them slow, is convicted for all endpoints
    together.
    """
    random = Random(seed)
    every = {name: sampled.Endpoint() for name in ("a", "b", "c")}
    for second in range(1, seconds + 1):
        counted = {}
        for name, before in every.items():
            slow = sum(random.random() < share for _ in range(20)) if name == "a" else 0
            counted[name] = sampled.count_slow(before, Served(name, float(second), 20, slow))
        every = sampled.compare(sampled.ALL, counted, {}, float(second))
        if sampled.judge({sampled.ALL: every["a"]}, sampled.limit(RATE, 4)) is not None:
            return second
    return None


def test_one_slow_answer_in_twenty_is_found_within_45_s_and_a_pause_of_three_seconds_never() -> None:
    found = [slow_over_all(0.05, 45, seed) for seed in range(30)]
    assert None not in found, found
    assert statistics.median(at for at in found if at is not None) <= 20
    assert slow_over_all(1.0, 3, 0) is None


def test_a_suspicion_at_an_endpoint_that_nobody_asks_any_more_fades() -> None:
    service = Service()
    for _ in range(20):
        service.second({"a": Shown(failed=10), "b": Shown()})
    known = {"/pay": service.known["a"]}
    asked_last, soon = sampled.judge(known, LIMIT), sampled.judge(known, LIMIT, service.now + 1.0)
    assert asked_last is not None and soon is not None and LIMIT <= soon.score < asked_last.score
    assert sampled.judge(known, LIMIT, service.now + 600.0) is None


def test_the_limit_grows_with_the_number_of_comparisons() -> None:
    assert sampled.limit(RATE, 16) == pytest.approx(sampled.limit(RATE, 1) + 2.7726, abs=1e-3)


def test_what_half_of_the_replicas_show_is_one_common_cause() -> None:
    service = Service()
    for _ in range(10):
        service.second({"a": Shown(failed=10), "b": Shown(failed=12), "c": Shown()})
    shown = [sampled.failing({"/pay": one}, service.now) for one in service.known.values()]
    (common,) = scope.common(shown, 3)
    assert (common.sign, common.endpoint, common.replicas, common.status) == (Sign.REQUESTS, "/pay", 2, 502)
    assert common.share == pytest.approx(0.6, abs=0.01)
    assert scope.common(shown[:1], 3) == ()
    assert scope.common(shown, 5) == ()


def test_refusals_are_common_only_when_they_are_new() -> None:
    service = Service()
    for _ in range(600):
        service.second({"a": Shown(refused=10), "b": Shown(refused=10)})
    assert sampled.failing({"/pay": service.known["a"]}, service.now) == ()
    assert sampled.failing({"/pay": service.known["a"]}, service.now + 60.0) == ()
