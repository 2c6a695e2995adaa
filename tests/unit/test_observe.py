"""What observations become: evidence about the right replica, the retry budget, and news for the loop."""

from dataclasses import replace
from typing import Any

import pytest
from facts import HEALTHZ, desired, replica, service
from heard import Heard

from perdure.control import crowding
from perdure.control.appraise import awaits, standings
from perdure.control.conditions import deadly_request
from perdure.control.observe import Observer
from perdure.control.world import ServiceState, SlotState, Totals, World
from perdure.detect import cusum, deadly, suspect
from perdure.detect.self_health import Pause
from perdure.model.check import Check, CheckKind
from perdure.model.errors import UnavailableError
from perdure.model.evidence import Outcome, Probed, Sighted
from perdure.model.replica import Process, Slot, State
from perdure.model.service import Limits, Mode
from perdure.model.traffic import Admin, Backend, Counters, Reading, Server
from perdure.prevent import notice

COMMAND = Check(CheckKind.COMMAND, command=("smoke-test",))


class Ports:
    """Of a runner only the question that the observer asks; `foreign` ports belong to somebody else."""

    def __init__(self) -> None:
        self.foreign: set[int] = set()
        self.looks = 0

    def owns_port(self, process: Process, port: int) -> bool:
        self.looks += 1
        return port not in self.foreign


class Seen:
    """An observer of one service with two replicas, and everything that it told."""

    def __init__(self, state: State = State.READY, **changed: Any) -> None:
        declared = service(replicas=2, **changed)
        slots = {number: SlotState(Slot("web", number), replica(number, state)) for number in (1, 2)}
        self.service = ServiceState(desired(declared), suspect.policy(declared), slots)
        self.touched: list[str] = []
        self.told = Heard()
        self.ports = Ports()
        runner: Any = self.ports
        self.observer = Observer(World({"web": self.service}), runner, self.touched.append, self.told)

    def read(self, at: float, *counters: Counters, pid: int = 7) -> None:
        servers = [
            Server(f"s{number}", 21_000 + number, Admin.READY, True, 0, 0, one)
            for number, one in enumerate(counters, start=1)
        ]
        self.observer.on_reading(Reading(at, pid, (Backend("web", tuple(servers)),)))

    def probe(self, outcome: Outcome, name: str = "web/1#1", check: Check = HEALTHZ) -> None:
        self.observer.on_evidence(Probed(name, check.label, 10.0, 10.1, outcome))

    @property
    def answered(self) -> bool:
        return not awaits(self.service, self.service.slots[1], 10.2)


@pytest.fixture
def seen() -> Seen:
    return Seen()


def test_a_good_answer_of_a_healthy_replica_is_no_news(seen: Seen) -> None:
    seen.probe(Outcome.GOOD)
    assert seen.touched == []
    assert seen.service.slots[1].belief.asked[HEALTHZ.label].goods == 1


def test_a_miss_wakes_the_loop(seen: Seen) -> None:
    seen.probe(Outcome.REFUSED)
    assert seen.touched == ["web"]


@pytest.mark.parametrize("name", ["web/1#2", "web/3#1", "api/1#1"])
def test_evidence_about_another_run_is_ignored(seen: Seen, name: str) -> None:
    seen.probe(Outcome.REFUSED, name)
    assert (seen.touched, seen.service.slots[1].belief) == ([], suspect.Belief())


def test_a_good_answer_from_somebody_elses_process_is_foreign(seen: Seen) -> None:
    seen.ports.foreign = {21_001}
    seen.probe(Outcome.GOOD)
    assert seen.service.slots[1].belief.asked[HEALTHZ.label].last_outcome is Outcome.FOREIGN


def test_a_good_command_vouches_for_nobody_who_answers_on_the_port() -> None:
    seen = Seen(State.STARTING, checks=(HEALTHZ, COMMAND))
    seen.ports.foreign = {21_001}
    seen.probe(Outcome.GOOD, check=COMMAND)
    seen.probe(Outcome.GOOD)
    assert seen.service.slots[1].belief.asked[HEALTHZ.label].last_outcome is Outcome.FOREIGN


def test_who_is_asked_by_commands_alone_is_ready_when_it_listens() -> None:
    seen = Seen(State.STARTING, checks=(COMMAND,))
    seen.ports.foreign = {21_001}
    seen.probe(Outcome.GOOD, check=COMMAND)
    assert seen.service.slots[1].belief.asked[COMMAND.label].last_outcome is Outcome.GOOD
    assert not seen.answered
    seen.ports.foreign.clear()
    seen.probe(Outcome.GOOD, check=COMMAND)
    assert seen.answered


def test_who_stands_by_may_listen_when_it_is_promoted() -> None:
    seen = Seen(State.STARTING, checks=(COMMAND,), mode=Mode.ACTIVE_PASSIVE)
    seen.ports.foreign = {21_001}
    seen.probe(Outcome.GOOD, check=COMMAND)
    assert seen.answered
    seen.service.term = replace(seen.service.term, owner=1)
    assert not seen.answered


def test_a_worker_without_an_address_is_ready_by_its_commands_and_its_port_is_not_looked_for() -> None:
    seen = Seen(State.STARTING, checks=(COMMAND,), listen=None)
    seen.probe(Outcome.GOOD, check=COMMAND)
    assert (seen.answered, seen.ports.looks) == (True, 0)


def test_failed_requests_count_against_the_replica_that_failed_them(seen: Seen) -> None:
    seen.read(1.0, Counters(), Counters())
    seen.read(1.1, Counters(requests=20, responses_5xx=5, connect_errors=1), Counters(requests=20))
    first, second = (seen.service.slots[number].belief.seen for number in (1, 2))
    assert (first.requests, first.failures) == (20, 6)
    assert second.scores == cusum.NOTHING


def test_the_counters_of_a_new_balancer_are_compared_with_nothing(seen: Seen) -> None:
    seen.read(1.0, Counters(), Counters())
    seen.read(1.1, Counters(requests=20, responses_5xx=20), Counters(), pid=8)
    assert seen.service.slots[1].belief.seen.scores == cusum.NOTHING


def test_what_the_replica_before_left_in_the_counters_of_a_server_is_not_charged_to_the_next_one(seen: Seen) -> None:
    """It may have the same port, behind the same server."""
    seen.read(1.0, Counters(), Counters())
    seen.service.slots[1].replica = replica(1, State.READY, run=2)
    seen.read(5.0, Counters(requests=100, retries=100), Counters(requests=20))
    seen.read(5.1, Counters(requests=120, retries=101), Counters(requests=30))
    assert seen.service.slots[1].belief.seen.tallies[0].failures == 1.0
    assert seen.service.retries_off_since_at is None


def test_totals_only_grow_also_when_haproxy_is_replaced(seen: Seen) -> None:
    seen.read(1.0, Counters(requests=5), Counters())
    seen.read(1.1, Counters(requests=25, responses_5xx=2, retries=3, redispatches=3), Counters())
    seen.read(1.2, Counters(requests=7), Counters(), pid=8)
    seen.read(1.3, Counters(requests=9), Counters(), pid=8)
    assert seen.service.slots[1].totals == Totals(requests=22, failures=5, retries=3)


def test_retries_above_the_budget_are_switched_off_and_on_again_and_both_are_told(seen: Seen) -> None:
    seen.read(1.0, Counters(), Counters())
    seen.read(1.1, Counters(requests=100, retries=51), Counters())
    assert seen.service.retries_off_since_at == 1.1
    seen.read(5.0, Counters(requests=100, retries=51), Counters())
    seen.read(20.0, Counters(requests=100, retries=51), Counters())
    assert seen.service.retries_off_since_at is None
    assert seen.told.subjects == [("P20", "web"), ("P21", "web")]
    assert seen.told.all[0][2] == {"requests": 100, "retries": 51}


def test_a_pause_of_the_monitor_shifts_what_is_open_and_is_told() -> None:
    starting = Seen(State.STARTING)
    slot = starting.service.slots[1]
    starting.observer.on_evidence(Sighted("web/1#1", 5.0, "T"))
    slot.verdict_since_at = 4.0
    starting.observer.on_pause(Pause(10.0, 20.0))
    assert slot.belief.kernel.stopped_since_at == 15.0
    assert slot.verdict_since_at == 14.0
    assert slot.replica is not None and slot.replica.since_at == 10.0
    assert starting.told.all == [("A10", "daemon", {"pause_s": 10.0})]


def idle_s(seen: Seen) -> list[float | None]:
    return [one.idle_s for one in standings(seen.service, seen.service.backend_at)]


def test_nobody_is_idle_for_the_time_in_which_nobody_counted(seen: Seen) -> None:
    for slot in seen.service.slots.values():
        slot.ready_at = -60.0
    seen.read(30.0, Counters(), Counters())
    seen.read(30.5, Counters(requests=500), Counters())
    assert idle_s(seen) == [0.0, 0.5], "it was not counted before"
    seen.read(31.0, Counters(requests=500), Counters(requests=500))
    seen.observer.on_pause(Pause(31.0, 41.0))
    seen.read(41.0, Counters(requests=900), Counters(requests=900))
    seen.read(41.1, Counters(requests=901), Counters(requests=900))
    assert idle_s(seen) == [0.0, pytest.approx(0.1)]
    seen.read(61.0, Counters(), Counters(), pid=8)
    seen.read(61.1, Counters(requests=1), Counters(), pid=8)
    assert idle_s(seen) == [0.0, pytest.approx(0.1)], "HAProxy was away"


def test_that_nobody_can_be_asked_is_told_and_that_it_is_over(seen: Seen) -> None:
    seen.observer.on_hindered(UnavailableError("no descriptors", "raise the limit"))
    seen.observer.on_hindered(None)
    assert seen.told.all == [("A12", "daemon", {"hint": "raise the limit"}), ("A13", "daemon", {})]


def test_nothing_is_tried_again_while_a_request_seems_to_end_replicas(seen: Seen) -> None:
    seen.read(1.0, Counters(), Counters())
    deaths = deadly.broke(deadly.died(deadly.died(deadly.Deaths(), 5.0), 5.1), deadly.Broken(5.2, "/poison", 2))
    seen.service.deaths = deaths
    seen.read(5.3, Counters(requests=9, retries=1), Counters())
    assert seen.service.retries_off_since_at == 5.3
    assert not seen.told.all, "the notice says so (P14)"
    seen.read(5.0 + deadly.KEPT_S, Counters(requests=9, retries=1), Counters())
    assert seen.service.retries_off_since_at is None
    assert seen.told.rules == ["P21"]


@pytest.mark.parametrize(("mode", "blamed"), [(Mode.ACTIVE_ACTIVE, True), (Mode.ACTIVE_PASSIVE, False)])
def test_the_one_that_is_active_has_all_the_requests_so_one_under_way_at_its_death_says_less(
    seen: Seen, mode: Mode, blamed: bool
) -> None:
    deaths = deadly.Deaths(loads={"/plans": deadly.Load(186.0, 186.0, 18.6)})
    for at in (5.0, 15.0):
        deaths = deadly.broke(deadly.died(deaths, at), deadly.Broken(at, "/plans", 1))
    seen.service.deaths = deaths
    seen.service.desired = desired(service(replicas=2, mode=mode))
    assert (deadly_request(seen.service, 16.0) is not None) is blamed


def crowd(seen: Seen, at: float, queued: int, *sessions: int) -> None:
    servers = [
        Server(f"s{number}", 21_000 + number, Admin.READY, True, has, 0, Counters())
        for number, has in enumerate(sessions, start=1)
    ]
    seen.observer.on_reading(Reading(at, 7, (Backend("web", tuple(servers), queued),)))


def test_requests_that_wait_because_all_replicas_are_full_are_overload_when_it_lasts() -> None:
    seen = Seen()
    seen.service.desired = desired(service(replicas=2, limits=Limits(max_concurrent=4)))
    crowd(seen, 10.0, 3, 4, 4)
    assert crowding.overloaded(seen.service) == ""
    crowd(seen, 15.0, 12, 4, 3)
    sentence = "all replicas have as many requests as they may (max_concurrent = 4), and 12 wait"
    assert crowding.overloaded(seen.service) == sentence
    (decision,) = notice.decide("web", [], notice.Conditions(overload=sentence))
    assert (decision.rule, decision.facts["scope"]) == ("P16", "overload")
    crowd(seen, 15.1, 0, 4, 4)
    assert crowding.overloaded(seen.service) == ""


@pytest.mark.parametrize(("queued", "sessions"), [(0, (4, 4)), (5, (4, 0)), (5, ())])
def test_full_replicas_or_a_queue_alone_are_no_overload(queued: int, sessions: tuple[int, ...]) -> None:
    seen = Seen()
    seen.service.desired = desired(service(replicas=2, limits=Limits(max_concurrent=4)))
    for at in (10.0, 20.0):
        crowd(seen, at, queued, *sessions)
    assert crowding.overloaded(seen.service) == ""
