"""A request that ends who gets it: deaths beside broken requests to one endpoint convict it, chance does not."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from perdure.detect import deadly
from perdure.detect.deadly import Broken, Deaths, Load


def told(*what: float | Broken, loads: dict[str, Load] | None = None) -> Deaths:
    deaths = Deaths(loads=loads or {})
    for one in what:
        deaths = deadly.broke(deaths, one) if isinstance(one, Broken) else deadly.died(deaths, one)
    return deaths


def test_a_request_that_is_tried_on_three_replicas_and_ends_all_three_is_found_at_once() -> None:
    found = deadly.judge(told(10.0, 10.01, 10.03, Broken(10.1, "/poison", 3)), 3, 10.2)
    assert found is not None
    assert (found.endpoint, found.deaths, found.of, found.since_at) == ("/poison", 3, 3, 10.0)
    assert found.score == pytest.approx(3 * math.log(1000.0))


def test_the_line_may_be_read_before_the_end_is_seen() -> None:
    deaths = told(Broken(9.9, "/poison", 1), 10.0, Broken(39.9, "/poison", 1), 40.0)
    assert deadly.judge(deaths, 3, 41.0) is not None


@pytest.mark.parametrize(
    "what",
    [
        (10.0, Broken(10.1, "/poison", 1)),  # one death may be anything
        (10.0, Broken(10.1, "/poison", 3), 60.0),  # the second one is another story
        (10.0, 60.0, Broken(30.0, "/poison", 1), Broken(80.0, "/poison", 1)),  # nobody died then
        (
            10.0,
            Broken(10.1, "/poison", 1),
            60.0,
            Broken(60.1, "/poison", 1),
            90.0,
            91.0,
            92.0,
        ),  # most have no such cause
        (10.0, Broken(10.1, "/poison", 1), 400.0, Broken(400.1, "/poison", 1)),  # long ago
        (10.0, 10.2, Broken(10.3, "/poison", 1)),  # one request, tried once, ends one replica
    ],
)
def test_it_takes_two_deaths_that_it_explains_and_that_are_most_of_all(what: tuple[float | Broken, ...]) -> None:
    assert deadly.judge(told(*what), 3, 402.0) is None


def test_what_is_under_way_at_every_death_is_worth_nothing() -> None:
    uploads = Load(requests=60.0, answered=60.0, busy_s=1800.0)  # one each five seconds, of 30 s
    deaths = told(10.0, Broken(10.1, "/upload", 1), 60.0, Broken(60.1, "/upload", 1), loads={"/upload": uploads})
    assert deadly.chance(uploads, 3) == pytest.approx(1.0 - math.exp(-2.0))
    assert deadly.judge(deaths, 3, 61.0) is None


@pytest.mark.parametrize(("deaths", "found"), [(2, False), (3, True)])
def test_a_frequent_endpoint_takes_more_deaths(deaths: int, found: bool) -> None:
    busy = Load(requests=9000.0, answered=9000.0, busy_s=150.0)  # 30 a second of 17 ms
    what: list[float | Broken] = []
    for number in range(deaths):
        what += [20.0 * number + 1.0, Broken(20.0 * number + 1.1, "/order", 1)]
    assert (deadly.judge(told(*what, loads={"/order": busy}), 6, 60.0) is not None) is found


def test_loads_fade_and_the_busiest_endpoints_are_remembered() -> None:
    loads = deadly.asked({}, {"/": Load(300.0, 300.0, 3.0)}, 1000.0)
    loads = deadly.asked(loads, {"/new": Load(1.0)}, 1000.0 + deadly.FADE_S)
    assert loads["/"].requests == pytest.approx(300.0 / math.e)
    many = deadly.asked(loads, {f"/scan/{number}": Load(0.1) for number in range(500)}, 1301.0)
    assert len(many) == deadly.ENDPOINTS_MAX // 2
    assert "/" in many


@given(st.floats(0.0, 1e6), st.floats(0.0, 1e4), st.integers(1, 100))
def test_a_chance_is_a_probability_and_never_nothing(requests: float, busy_s: float, replicas: int) -> None:
    assert deadly.CHANCE_MIN <= deadly.chance(Load(requests, requests, busy_s), replicas) <= 1.0


def test_what_broke_while_nobody_died_is_forgotten() -> None:
    deaths = Deaths()
    for number in range(1000):
        deaths = deadly.broke(deaths, Broken(float(number), "/pay", 1))
    assert len(deaths.broken) <= 3


@pytest.mark.parametrize("lasted_s", [5, 60, 300, 3000])
def test_how_busy_an_endpoint_is_shows_as_soon_as_it_is_asked(lasted_s: int) -> None:
    """20 requests a second of 50 ms each: one is under way at any time, whether for seconds or for an hour."""
    loads: dict[str, Load] = {}
    for second in range(1, lasted_s + 1):
        loads = deadly.asked(loads, {"/": Load(20.0, 20.0, 1.0)}, float(second))
    assert deadly.chance(loads["/"], 1) == pytest.approx(1.0 - math.exp(-1.0), rel=0.1)
