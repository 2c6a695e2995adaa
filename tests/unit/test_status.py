"""What the API says about the present: one word for each service, null for what is unknown."""

from dataclasses import replace
from typing import Any

import pytest
from facts import HEALTHZ, conviction, desired, replica, service, verdict

from perdure.control import status
from perdure.control.world import Capsule, ServiceState, SlotState, World
from perdure.detect import digest, heartbeat, limits, peers, probe, process, stall, suspect, traffic
from perdure.detect.limits import Holdings
from perdure.model.check import Check, CheckKind
from perdure.model.deploy import Strategy
from perdure.model.evidence import Held
from perdure.model.owner import Term
from perdure.model.release import Arm, Rollout
from perdure.model.replica import Slot, State
from perdure.model.service import Heartbeat, Limits, Mode, Standby
from perdure.model.standing import Desired, History
from perdure.model.verdict import Sign

NOW = 100.0
HOLDS = limits.Holdings(Held("web/1#1", NOW, 0, 128, 10, 1024))
OVERDUE = stall.observe(stall.observe(stall.Stall(), NOW - 10.0, 1, 0, 1), NOW, 1, 0, 1)


def slot(number: int, state: State | None = State.READY, **changed: Any) -> SlotState:
    one = SlotState(Slot("web", number), replica(number, state, 90.0) if state else None)
    one.ready_at = 90.0 if state not in (None, State.STARTING) else None
    for name, value in changed.items():
        setattr(one, name, value)
    return one


def world(*slots: SlotState, wanted: Desired | None = None, notes: dict[str, str] | None = None) -> ServiceState:
    declared = wanted or desired()
    known = {one.slot.number: one for one in slots}
    return ServiceState(declared, suspect.policy(declared.service), known, notes=notes or {}, look_at=NOW + 0.5)


THREE = (slot(1), slot(2), slot(3))
LOOPING = History(restarts=5, failures=3, next_start_at=130.0)


@pytest.mark.parametrize(
    ("known", "state", "sentence"),
    [
        (world(*THREE), "ok", "3 of 3 replicas serve"),
        (world(slot(1, State.SUSPECT), slot(2), slot(3)), "ok", "3 of 3 replicas serve"),
        (world(slot(1, State.ISOLATED), slot(2), slot(3)), "degraded", "2 of 3 replicas serve"),
        (world(*THREE, notes={"web shared": "all bad"}), "degraded", "all bad"),
        (world(slot(1, State.STOPPED), slot(2), notes={"x": "held"}), "degraded", "1 of 3 replicas serve; held"),
        (world(slot(1, State.STARTING)), "starting", "its first replicas are starting"),
        (world(), "starting", "its first replicas are starting"),
        (world(slot(1, State.STOPPED), slot(2, State.STOPPED)), "down", "no replica serves"),
        (world(slot(1, State.STARTING, history=History(restarts=1))), "down", "no replica serves"),
        (world(*THREE, wanted=desired(stopped=True)), "stopped", "is ended by command"),
        (world(slot(1, State.STOPPED), wanted=desired(stopped=True)), "stopped", "does not run"),
    ],
)
def test_a_service_is_described_in_one_word_and_a_sentence(known: ServiceState, state: str, sentence: str) -> None:
    assert status.state_of(known, NOW) == (state, sentence)


def test_a_crash_loop_is_named_while_it_lasts_and_over_after_a_healthy_spell() -> None:
    down = slot(1, State.STOPPED, history=LOOPING)
    assert status.state_of(world(down, slot(2), slot(3)), NOW)[0] == "crash-looping"
    back = slot(1, history=LOOPING, ready_at=95.0)
    assert status.state_of(world(back, slot(2), slot(3)), NOW)[0] == "crash-looping"
    healed = slot(1, history=LOOPING, ready_at=90.0)
    assert status.state_of(world(healed, slot(2), slot(3)), NOW)[0] == "ok"


@pytest.mark.parametrize(
    ("known", "pending"),
    [
        (world(*THREE), False),
        (world(slot(1), slot(2)), True),  # a slot that has no replica yet
        (world(slot(1, State.STARTING), slot(2), slot(3)), True),
        (world(slot(1, State.STOPPING), slot(2), slot(3)), True),
        (world(slot(1, State.STOPPED), slot(2), slot(3)), False),  # it failed: no command is carried out
        (world(slot(1, State.ISOLATED, conviction=conviction(Sign.HANG)), slot(2), slot(3)), False),
        (world(slot(1, State.ISOLATED), slot(2), slot(3)), True),  # undrained, not yet readmitted
        (world(slot(1, State.ISOLATED), slot(2), slot(3), wanted=desired(drained=(1,))), False),
        (world(*THREE, wanted=desired(drained=(1,))), True),
        (world(*THREE, wanted=desired(release="web@2")), True),
        (world(*THREE, wanted=desired(stopped=True)), True),
        (world(slot(1, State.STOPPED), wanted=desired(stopped=True)), False),
        (world(*THREE, wanted=desired(replicas=2)), True),
        (world(slot(1), slot(2), slot(3, State.STOPPED), wanted=desired(replicas=2)), False),
    ],
)
def test_a_command_is_pending_until_it_is_carried_out(known: ServiceState, pending: bool) -> None:
    assert status.pending(known) is pending


def test_the_document_of_a_service_has_the_promised_shape() -> None:
    document = status.services(World({"web": world(*THREE)}), NOW)["web"]
    assert {"mode", "listen", "state", "replicas"} <= set(document)
    assert (document["mode"], document["listen"], document["state"]) == ("active-active", "127.0.0.1:8080", "ok")
    assert document["replicas"][1] == {
        "slot": "web/2",
        "state": "ready",
        "pid": 1002,
        "port": 21_002,
        "release": "web@1",
        "restarts": 0,
        "since_s": 10.0,
        "suspicion": 0.0,
        "sentence": "",
    }


def test_unknown_is_shown_as_unknown() -> None:
    document = status.services(World({"web": world(slot(1, None))}), NOW)["web"]["replicas"][0]
    assert {name for name, value in document.items() if value is None} == {
        "pid",
        "port",
        "release",
        "since_s",
        "suspicion",
    }
    stopped = status.services(World({"web": world(slot(1, State.STOPPED))}), NOW)["web"]["replicas"][0]
    assert (stopped["pid"], stopped["suspicion"]) == (None, None)


def test_slots_that_are_no_longer_wanted_are_shown_while_they_live() -> None:
    known = world(slot(1), slot(2, State.DRAINING), slot(3, State.STOPPED), wanted=desired(replicas=1))
    shown = status.services(World({"web": known}), NOW)["web"]["replicas"]
    assert [one["slot"] for one in shown] == ["web/1", "web/2"]


def test_suspicion_is_a_share_of_the_limit() -> None:
    asked = probe.Asked(HEALTHZ.label, scores=(7.38,) * 6, misses=1, last_answer="503")
    one = slot(1)
    one.belief = replace(one.belief, asked={HEALTHZ.label: asked})
    assert status.suspicion(world(one), one, NOW) == 0.5


def test_a_check_that_a_reload_took_away_does_not_break_the_view() -> None:
    one = slot(1, State.STOPPING)
    one.belief = replace(one.belief, asked={"http /old": probe.Asked("http /old", scores=(9.0,) * 6)})
    assert status.suspicion(world(one), one, NOW) == 0.0


def test_explain_says_why_and_when_perdure_looks_again() -> None:
    one = slot(
        1,
        State.ISOLATED,
        verdict=verdict(Sign.STATUS),
        conviction=conviction(Sign.STATUS),
        last_rule="R01",
        capsule=Capsule("web/1#1", 5.0, "ended by itself", "exit code 3", ("boom",), "503"),
    )
    asked = probe.Asked(HEALTHZ.label, misses=4, last_answer="503 no database")
    one.belief = replace(one.belief, asked={HEALTHZ.label: asked})
    explained = status.explain(world(one, slot(2), slot(3)), NOW, 1)
    [about] = explained["slots"]
    assert (explained["state"], explained["next_look_s"]) == ("degraded", 0.5)
    assert (about["rule"], about["sentence"]) == ("R01", "it is status")
    assert about["facts"]["convicted_by"] == "probe"
    assert about["evidence"][0]["sentence"] == "4 misses in a row: 503 no database"
    assert about["capsule"]["lines"] == ["boom"]


def test_an_empty_slot_is_looked_at_when_its_back_off_ends() -> None:
    one = slot(1, State.STOPPED, history=LOOPING)
    [about] = status.explain(world(one), NOW, None)["slots"]
    assert about["next_look_s"] == 30.0
    assert about["facts"]["failures_in_a_row"] == 3


def test_an_empty_slot_that_stands_by_says_what_it_is_there_for() -> None:
    cold = Desired(service(mode=Mode.ACTIVE_PASSIVE, standby=Standby.COLD), "web@1", 3)
    known = world(slot(1), slot(2, None), wanted=cold)
    known.term = Term(owner=1, epoch=1, holds=True)
    active, empty = (status.explain(known, NOW, number)["slots"][0]["sentence"] for number in (1, 2))
    assert empty == status.EMPTY and status.EMPTY not in active


def test_what_is_switched_off_and_what_is_waited_for_is_said() -> None:
    known = world(wanted=desired(service(depends_on=("database",))))
    known.retries_off_since_at = 50.0
    assert status.explain(known, NOW, None)["notes"] == [
        "requests are not retried now",
        "it starts when database serves",
    ]


def sentences(belief: suspect.Belief, **declared: Any) -> dict[str, str]:
    rules = desired(service(**declared))
    (found,) = status.explain(world(slot(1, belief=belief), wanted=rules), NOW, 1)["slots"]
    return {one["class"]: one["sentence"] for one in found["evidence"]}


def test_every_kind_of_evidence_says_in_words_what_it_knows() -> None:
    beating = {"heartbeat": Heartbeat(1.0)}
    assert sentences(suspect.Belief(), **beating) == {
        "heartbeat": "no beat yet",
        "traffic": "no requests lately",
        "process": "runs",
    }
    asked = {HEALTHZ.label: probe.Asked(HEALTHZ.label, goods=1, last_good_at=NOW - 0.5)}
    seen = traffic.Seen(tallies=(peers.Tally(), peers.Tally(40.0, 3.0), peers.Tally()), at=NOW - 1.0)
    known = suspect.Belief(process.Kernel(NOW - 1.5), asked, heartbeat.Told(7, NOW - 0.25), seen)
    assert sentences(known, **beating) == {
        "probe": "answered well 0.5 s ago",
        "heartbeat": "last beat 0.2 s ago",
        "traffic": "7.5% of some 40 requests failed lately",
        "process": "stopped for 1.5 s",
    }


def test_a_replica_of_a_release_on_trial_is_explained_by_the_limits_of_that_release() -> None:
    old, new = (service(limits=Limits(memory_bytes=megabytes * 1_000_000)) for megabytes in (100, 500))
    rollout = Rollout(1, Arm("web@1", old, (1, 2, 3)), Arm("web@2", new, (4,)), Strategy.CANARY, (), 3)
    holding = suspect.Belief(process.Kernel(memory_bytes=200_000_000), holdings=Holdings(Held("web/4#1", NOW, 0, 1)))
    tried = slot(4, replica=replica(4, release="web@2"), belief=holding)
    (found,) = status.explain(world(tried, wanted=desired(old, rollout=rollout)), NOW, 4)["slots"]
    assert "200 of 500 MB of memory" in [one["sentence"] for one in found["evidence"]]


def changes(belief: suspect.Belief, **declared: Any) -> dict[str, str]:
    rules = desired(service(**declared))
    (found,) = status.explain(world(slot(1, belief=belief), wanted=rules), NOW, 1)["slots"]
    return {one["class"]: one["changes_with"] for one in found["evidence"]}


WATCHED = {
    "heartbeat": Heartbeat(1.0),
    "limits": Limits(memory_bytes=500_000_000),
    "digest": Check(CheckKind.HTTP, "/digest"),
}


def test_every_kind_of_evidence_says_what_would_convict_a_healthy_replica() -> None:
    asked = {HEALTHZ.label: probe.Asked(HEALTHZ.label, goods=1, last_good_at=NOW - 0.5)}
    healthy = suspect.Belief(asked=asked, told=heartbeat.Told(7, NOW - 0.25, 1.0), holdings=HOLDS)
    assert changes(healthy, **WATCHED) == {
        "probe": "3 bad in a row",
        "heartbeat": "a beat within 3.6 s",
        "traffic": "3 bad in a row, if its own",
        "digest": "apart 3 rounds in a row",
        "limit": "above 500 MB, or backlog full for 2.05 s",
        "process": "stopped for 2.05 s",
    }


@pytest.mark.parametrize(
    ("belief", "evidence", "phrase"),
    [
        (suspect.Belief(told=heartbeat.Told(7, NOW - 60.0, 1.0)), "heartbeat", "a beat"),
        (suspect.Belief(process.Kernel(NOW - 1.0, NOW)), "process", "it runs again"),
        (suspect.Belief(process.Kernel(memory_over=1), holdings=HOLDS), "limit", "below 500 MB"),
        (suspect.Belief(holdings=replace(HOLDS, backlog_full_since_at=NOW)), "limit", "it accepts connections"),
        (suspect.Belief(holdings=replace(HOLDS, descriptors_full=1)), "limit", "it closes descriptors"),
        (suspect.Belief(compared=digest.Compared(apart=1)), "digest", "agrees with its peers"),
        (suspect.Belief(stalled=OVERDUE), "stall", "answers one request"),
    ],
)
def test_every_kind_of_evidence_says_what_clears_a_replica(belief: suspect.Belief, evidence: str, phrase: str) -> None:
    assert changes(belief, **WATCHED)[evidence] == phrase


def test_an_isolated_slot_says_what_readmits_it() -> None:
    out = slot(1, State.ISOLATED, conviction=conviction(Sign.STATUS, NOW - 0.25))
    asked = probe.Asked(HEALTHZ.label, goods=1, last_good_at=NOW - 0.1)
    out.belief = replace(out.belief, asked={HEALTHZ.label: asked})
    about, peer = (status.explain(world(out, slot(2)), NOW, number)["slots"][0] for number in (1, 2))
    assert about["readmission"] == {
        "evidence": "probe",
        "endpoint": "http /healthz",
        "hold_down_s": 0.75,
        "good_answers": {"http /healthz": 2},
        "sentence": "is readmitted after 2 more good answers to http /healthz, 0.8 s of hold-down",
    }
    assert peer["readmission"] is None
    out.belief = replace(out.belief, asked={HEALTHZ.label: replace(asked, goods=3)})
    [about] = status.explain(world(out, slot(2)), NOW + 1.0, 1)["slots"]
    assert about["readmission"]["sentence"] == "is readmitted at the next look"


def test_a_starting_slot_says_what_it_has_not_shown_yet() -> None:
    starts, serves = (
        status.explain(world(slot(1, State.STARTING), slot(2)), NOW, number)["slots"][0] for number in (1, 2)
    )
    assert starts["awaits"] == "http /healthz has had no good answer"
    assert serves["awaits"] == ""


def test_a_worker_has_no_traffic_to_explain() -> None:
    assert set(sentences(suspect.Belief(), listen=None)) == {"process"}
