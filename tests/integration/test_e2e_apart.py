"""Replicas that only a comparison shows to be ill: other data than their peers, or synthetic requests that fail."""

from collections.abc import Iterator

import pytest
from e2e import Site, break_replica, site, wait

MORE = (
    'digest = { path = "/digest", every = "1s" }\n'
    'canary = { path = "/pay", rate = "5/s", expect = { body = "web/" } }\n'
)


@pytest.fixture(scope="module")
def here() -> Iterator[Site]:
    with site() as made:
        made.web(more=MORE)
        made.up()
        made.whole()
        yield made


def test_the_minority_whose_data_differ_gets_no_traffic_until_it_agrees_again(here: Site) -> None:
    since, pids, victim = here.newest(), here.pids(), here.replica(2)
    break_replica(victim, "data&is=other")
    wait(lambda: victim["port"] not in here.carried(), "it is out of traffic", 10.0)
    (verdict,) = [one for one in here.events(since) if one["rule"] == "R01"]
    assert (verdict["subject"], verdict["facts"]["sign"]) == ("web/2", "diverged")
    assert "2 of 3 replicas say" in verdict["sentence"]
    said = {
        slot["slot"]: one["sentence"]
        for slot in here.explain()["slots"]
        for one in slot["evidence"]
        if one["class"] == "digest"
    }
    assert "as do 2 of 3" in said["web/1"] and "; 2 of 3 say" in said["web/2"]
    break_replica(victim, "none")
    here.whole()
    assert here.pids() == pids, "nobody was restarted for it"


def test_data_that_differ_without_a_majority_are_told_and_isolate_nobody(here: Site) -> None:
    since = here.newest()
    for replica, data in zip(here.replicas(), ("one", "two", "three"), strict=True):
        break_replica(replica, f"data&is={data}")
    wait(lambda: "R09" in here.rules(since), "somebody is told", 10.0)
    assert "no side has a majority" in here.status()["services"]["web"]["sentence"]
    for replica in here.replicas():
        break_replica(replica, "none")
    wait(lambda: here.state() == "ok", "all agree", 10.0)
    assert "R01" not in here.rules(since)


def test_without_clients_synthetic_requests_find_the_replica_that_fails_them(here: Site) -> None:
    since, victim = here.newest(), here.replica(3)
    break_replica(victim, "content&on=/pay")
    wait(lambda: victim["port"] not in here.carried(), "it is out of traffic", 10.0)
    (verdict,) = [one for one in here.events(since) if one["rule"] == "R01"]
    assert (verdict["subject"], verdict["facts"]["endpoint"]) == ("web/3", "canary GET /pay")
    break_replica(victim, "none")
    here.whole(deadline_s=40.0)
