"""Lines of HAProxy's log become evidence about replicas and endpoints, a second at a time."""

import pytest
from facts import desired, replica, service

from perdure.control import conditions
from perdure.control.sample import Sampler, Synthetic
from perdure.control.world import ServiceState, SlotState
from perdure.detect import deadly, endpoints, sampled, suspect, times
from perdure.model.replica import State
from perdure.model.traffic import Answered
from perdure.model.verdict import Sign


def web(**declared: object) -> ServiceState:
    """Three replicas of `web` that have served for a minute."""
    wanted = service(**declared)
    state = ServiceState(desired(wanted), suspect.policy(wanted))
    for number in (1, 2, 3):
        one = replica(number)
        state.slots[number] = SlotState(one.slot, one, ready_at=-60.0)
    return state


def line(number: int, path: str = "/pay", status: int = 200, **changed: object) -> Answered:
    fields = {"method": "GET", "response_ms": 5, "tries": 1, "stands_for": 1} | changed
    return Answered("web", 21_000 + number, path=path, status=status, **fields)  # type: ignore[arg-type]


def seen(state: ServiceState, number: int, endpoint: str = "/pay") -> sampled.Endpoint:
    return state.slots[number].belief.endpoints[endpoint]


def test_lines_are_gathered_for_a_second_and_then_judged_together() -> None:
    state, sampler = web(), Sampler()
    assert sampler.take(state, [line(1), line(2)], 10.0) is False
    assert state.slots[1].belief.endpoints == {}
    assert sampler.take(state, [line(1, status=500)], 11.0) is True
    errors = seen(state, 1).seen[0].tallies[0]
    assert (errors.requests, errors.failures) == (2, 1)
    assert sampler.take(state, [], 12.5) is False


def test_a_line_of_the_sample_stands_for_several_requests_and_a_failure_for_itself() -> None:
    state, sampler = web(), Sampler()
    sampler.take(state, [line(1, stands_for=10), line(1, stands_for=10, status=403), line(1, status=502)], 10.0)
    sampler.take(state, [], 11.0)
    errors, refusals, _ = (one.tallies[0] for one in seen(state, 1).seen)
    assert (errors.requests, errors.failures) == (21, 1)
    assert (refusals.requests, refusals.failures) == (2, 1)
    assert sum(seen(state, 1).taken.counts) == 1, "how long a refusal takes says nothing"


def test_errors_and_refusals_at_one_endpoint_have_each_their_own_status() -> None:
    state, sampler = web(), Sampler()
    sampler.take(state, [line(1), line(1, status=404), line(1, status=404), line(1, status=502)], 10.0)
    sampler.take(state, [], 11.0)
    both = seen(state, 1)
    assert (both.status(sampled.ERRORS), both.status(sampled.REFUSALS), both.status(sampled.SLOWNESS)) == (502, 404, 0)


def test_a_replica_that_fails_where_all_refuse_more_is_told_of_with_the_status_of_its_failures() -> None:
    state, sampler = web(), Sampler()
    usual = [line(number, status=status) for number in (1, 2, 3) for status in [200] * 15 + [404] * 4]
    for second in range(31):
        broken = [line(1, status=500)] * 2 if second > 20 else []
        sampler.take(state, usual + broken, float(second))
    verdict = sampled.judge(state.slots[1].belief.endpoints, sampled.limit(1 / (30 * 86_400), 1))
    assert verdict is not None and (verdict.sign, verdict.facts["status"]) == (Sign.REQUESTS, 500)
    assert "failed (mostly 500)" in verdict.sentence


def test_a_synthetic_request_counts_as_one_of_a_client_at_an_endpoint_of_its_own() -> None:
    state, sampler = web(), Sampler()
    sampler.take(state, [line(1), line(2)], 10.0)
    for number, good, status in ((1, True, 200), (2, False, 503), (3, False, 0)):
        sampler.tried(state, state.slots[number], Synthetic("canary GET /pay", good, status, 7))
    sampler.take(state, [], 11.0)
    errors = {number: seen(state, number, "canary GET /pay").seen[0].tallies[0] for number in (1, 2, 3)}
    assert {number: (one.requests, one.failures) for number, one in errors.items()} == {1: (1, 0), 2: (1, 1), 3: (1, 1)}
    statuses = [seen(state, number, "canary GET /pay").status(sampled.ERRORS) for number in (1, 2, 3)]
    assert statuses == [0, 503, 0]
    assert sum(seen(state, 1, "canary GET /pay").taken.counts) == 1
    assert seen(state, 1, "/pay").seen[0].tallies[0].requests == 1


def test_a_synthetic_request_that_is_made_no_more_is_forgotten_and_makes_room_for_clients() -> None:
    state, sampler = web(), Sampler()
    for number in range(endpoints.GROUPS_MAX):
        state.backend_at = 10.0 * number
        sampler.tried(state, state.slots[1], Synthetic(f"canary GET /v{number}", good=True, status=200, taken_ms=7))
        sampler.take(state, [line(1)], state.backend_at)
    assert "canary GET /v0" in state.slots[1].belief.endpoints
    for at in (9.0 + endpoints.FORGOTTEN_S, 11.0 + endpoints.FORGOTTEN_S):
        state.backend_at = at
        sampler.tried(state, state.slots[1], Synthetic("canary GET /v15", good=True, status=200, taken_ms=7))
        sampler.take(state, [line(1), line(1, "/new")], at)
    assert {"/new", "canary GET /v15"} <= state.slots[1].belief.endpoints.keys()
    assert "canary GET /v0" not in state.slots[1].belief.endpoints


def test_a_failure_that_was_tried_elsewhere_too_is_counted_and_blamed_on_nobody() -> None:
    state, sampler = web(), Sampler()
    sampler.take(state, [line(2), line(3)] + [line(1, status=503, tries=3) for _ in range(20)], 10.0)
    sampler.take(state, [], 11.0)
    errors = seen(state, 1).seen[0]
    assert errors.tallies[0].failures == 20
    assert not any(errors.scores)


def test_declared_endpoints_come_first_and_what_is_not_found_makes_none() -> None:
    state, sampler = web(endpoints=("/api/orders",)), Sampler()
    sampler.take(state, [line(1, "/api/orders/7"), line(1, "/api/users"), line(1, "/wp-admin", 404)], 10.0)
    sampler.take(state, [], 11.0)
    assert set(state.slots[1].belief.endpoints) == {"/api/orders", "/api/users", endpoints.OTHER}


def test_who_serves_no_more_is_left_out() -> None:
    state, sampler = web(), Sampler()
    state.slots[2] = SlotState(state.slots[2].slot, replica(2, State.ISOLATED))
    sampler.take(state, [line(1), line(2), line(9)], 10.0)
    sampler.take(state, [], 11.0)
    assert state.slots[2].belief.endpoints == {}
    assert set(state.slots[1].belief.endpoints) == {"/pay"}


@pytest.mark.parametrize(("ready_at", "counted"), [(-60.0, 5), (990.0, 0)])
def test_slow_answers_count_when_the_replica_is_warm(ready_at: float, counted: int) -> None:
    state, sampler = web(), Sampler()
    for number in range(100):
        sampler.take(state, [line(1), line(2, response_ms=8), line(3, response_ms=8)], 900.0 + number)
    state.slots[1].ready_at = ready_at
    sampler.take(state, [line(1, response_ms=400) for _ in range(5)], 1000.0)
    sampler.take(state, [], 1001.0)
    found = seen(state, 1)
    assert found.limit_ms == pytest.approx(3 * times.upper_ms(times.bucket(8)))
    assert round(found.seen[2].tallies[0].failures) == counted


def test_the_path_that_is_asked_most_is_one_that_is_answered_well_and_soon() -> None:
    state, sampler = web(), Sampler()
    assert sampler.commonest("web") is None
    lines = [line(1, "/"), line(1, "/"), line(1, "/b"), line(1, "/post", method="POST", stands_for=9)]
    lines += [line(1, "/slow", response_ms=900, stands_for=9), line(1, "/moved", 302, stands_for=9)]
    sampler.take(state, lines, 10.0)
    assert sampler.commonest("web") == "/"
    sampler.keep(())
    assert sampler.commonest("web") is None


def test_a_pause_of_the_monitor_voids_what_was_gathered() -> None:
    state, sampler = web(), Sampler()
    sampler.take(state, [line(1, status=500)], 10.0)
    sampler.forget()
    assert sampler.take(state, [], 11.0) is False
    assert state.slots[1].belief.endpoints == {}


def test_a_request_that_breaks_where_replicas_end_is_remembered_whoever_was_asked_last() -> None:
    state, sampler = web(), Sampler()
    sampler.take(state, [line(1, stands_for=100, response_ms=20), line(2, "/poison/1", status=400)], 10.0)
    sampler.take(state, [line(1)], 11.0)
    assert state.deaths.loads["/pay"].busy_s == pytest.approx(2.005, abs=0.01)
    for number in (1, 2, 3):
        state.deaths = deadly.died(state.deaths, 20.0 + number / 100.0)
        state.slots.pop(number)
    sampler.take(state, [line(3, "/poison/2", status=502, response_ms=None, tries=3)], 20.1)
    found = conditions.deadly_request(state, 20.2)
    assert found is not None
    assert (found.endpoint, found.deaths) == ("/poison/*", 3)


def test_a_few_slow_answers_at_each_of_many_endpoints_are_many_in_all() -> None:
    """One request in twenty takes long; no endpoint shows it soon, all of them together do."""
    state, sampler = web(), Sampler()
    paths = ("/", "/search", "/pay", "/cart")

    def second(at: float, slow: bool) -> None:
        lines = [line(number, path) for number in (1, 2, 3) for path in paths for _ in range(5)]
        sampler.take(state, [*lines, *([line(1, paths[int(at) % 4], response_ms=200)] if slow else [])], at)

    for number in range(60):
        second(100.0 + number, slow=False)
    scores: dict[str, float] = {}
    for number in range(30):
        second(160.0 + number, slow=True)
        scores = {name: max(one.seen[2].scores) for name, one in state.slots[1].belief.endpoints.items()}
    limit = sampled.limit(1 / (30 * 86_400), 5)
    assert scores.pop(sampled.ALL) > limit
    assert max(scores.values()) < limit
    verdict = sampled.judge(state.slots[1].belief.endpoints, limit)
    assert verdict is not None
    assert verdict.sentence.startswith("answered slowly 5% of the requests to all endpoints")
    assert sampled.judge(state.slots[2].belief.endpoints, limit) is None


def test_what_one_pause_of_a_replica_makes_slow_convicts_nobody() -> None:
    """B5: all its answers of up to three seconds are slow, at every endpoint."""
    state, sampler = web(), Sampler()
    paths = ("/", "/search", "/pay", "/cart")
    for number in range(63):
        ms = 1500 if number >= 60 else 5
        lines = [line(n, path, response_ms=ms if n == 1 else 5) for n in (1, 2, 3) for path in paths for _ in range(5)]
        sampler.take(state, lines, 100.0 + number)
    limit = sampled.limit(1 / (30 * 86_400), 5)
    assert max(one.seen[2].scores[-1] for one in state.slots[1].belief.endpoints.values()) > 0.0
    assert sampled.judge(state.slots[1].belief.endpoints, limit) is None
