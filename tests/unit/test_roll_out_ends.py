"""A rollout comes to an end, and to the right one, whatever happens meanwhile: deadlines, holds, recalls, ways back."""

import math
from dataclasses import replace

import pytest
from test_roll_out import DEPLOY, ENOUGH, NOW, OLD, SUSPICIOUS, THREE, WEB, WHOLE, by, decided, facts, rollout

from perdure.model.deploy import Strategy
from perdure.model.release import Arm, Phase, Rollout
from perdure.model.standing import Desired
from perdure.recover import roll_back, roll_out
from perdure.recover.rollout_facts import Evidence, Facts, Group, Move, Side, Tried

BAKE = rollout(Phase.SHARING, 2, slots=tuple(range(11, 20)), replicas=10, old=Arm("web@1", WEB, tuple(range(1, 11))))
PATIENT = NOW + DEPLOY.deadline_s
"""When a rollout that has made no progress since `NOW` is late."""


def test_a_recall_in_the_bake_loses_neither_a_replica_nor_the_rest_of_the_bake() -> None:
    nine = facts(replace(THREE, wanted=9, serving=9), SUSPICIOUS, replicas=10)
    before = Desired(WEB, "web@1", 10, rollout=BAKE)
    during = roll_out.settled(before, by("L08", BAKE, nine))
    assert during.rollout is not None and during.rollout.undecided and during.release == "web@2"
    late = replace(during.rollout, phase_at=NOW - 121.0)
    after = roll_out.settled(during, by("L16", late, replace(nine, evidence=ENOUGH)))
    assert (after.release, after.replicas, after.numbers) == ("web@1", 10, tuple(range(1, 11)))
    assert after.rollout is not None and (after.rollout.phase, after.rollout.step) == (Phase.SHARING, 2)
    assert decided(after.rollout, replace(nine, evidence=ENOUGH)) is None, "the bake begins anew"


def test_a_rolling_change_is_not_recalled_while_the_old_release_gives_its_slots_away() -> None:
    half_way = rollout(Phase.SHARING, 1, strategy=Strategy.ROLLING, slots=(1, 2))
    assert by("L04", half_way, facts(THREE, replace(SUSPICIOUS, requests=300.0))).in_place, "it goes on as it was"
    watched = rollout(Phase.WATCHING, 2, strategy=Strategy.ROLLING, slots=(1, 2, 3), old=Arm("web@1", WEB))
    back = by("L08", watched, facts(THREE, SUSPICIOUS))
    assert not back.in_place and back.old.slots == (5, 6, 7)


def test_a_service_that_cannot_run_two_releases_side_by_side_is_not_recalled() -> None:
    fixed = replace(WEB, port=9_000, replicas=1)
    watched = rollout(Phase.WATCHING, 0, fixed, strategy=Strategy.ROLLING, slots=(1,), old=Arm("web@1", fixed))
    assert decided(watched, facts(WHOLE, SUSPICIOUS)) is None


def late(before: Rollout, known: Facts) -> Move | None:
    return roll_out.decide(replace(before, phase_at=NOW - 2_000.0, progress_at=NOW - 2_000.0), known, PATIENT)


def test_what_waits_for_requests_alone_is_given_time_by_each_of_them_also_after_the_daemon_was_started() -> None:
    short = rollout(Phase.SHARING, 0)
    few = Evidence(requests=10.0, asked_at=NOW + 1.0)
    assert late(short, facts(evidence=few)) is None
    begun_anew = facts(evidence=Evidence(), progress_at=NOW + 1.0)
    assert late(short, begun_anew) is None, "nobody has asked since, and the daemon has not run for so long"
    assert roll_out.progressed(short, facts(evidence=few), PATIENT) == NOW + 1.0
    move = late(short, facts(evidence=Evidence(), progress_at=NOW - 1.0))
    assert move is not None and move.rule == "L14"


def test_a_replica_that_ends_once_does_not_make_a_patient_rollout_late_at_once() -> None:
    short, down = rollout(Phase.SHARING, 0), replace(WHOLE, serving=0, since_at=math.inf, deaths=1)
    few = Evidence(requests=10.0, asked_at=NOW + 500.0)
    assert roll_out.progressed(short, facts(down, few), PATIENT) < NOW, "requests to some are no progress"
    assert late(short, facts(down, few, progress_at=NOW + 500.0)) is None


def test_who_waits_for_another_service_of_the_deploy_is_not_late() -> None:
    last = rollout(Phase.SHARING, 2, slots=(4, 5, 6), group=("api", "web"))
    waits = facts(THREE, group=Group(ready=False))
    assert late(last, waits) is None
    assert roll_out.progressed(last, waits, PATIENT) == PATIENT
    move = late(last, facts(THREE, progress_at=PATIENT - 0.1))
    assert move is not None and move.rule == "L07", "the other one is ready"
    stuck = late(rollout(Phase.SHARING, 0, group=("api", "web")), facts(evidence=Evidence(), group=Group(ready=False)))
    assert stuck is not None and stuck.rule == "L14", "in an earlier step it waits for itself"


ILL = replace(WHOLE, ill_s=11.0, ill_for="GET /healthz: 503")


def test_what_makes_both_releases_ill_is_not_the_fault_of_the_new_one() -> None:
    shared = facts(ILL)
    known = replace(shared, old=replace(OLD, ill_s=11.0))
    assert decided(rollout(Phase.SHARING, 0), known) is None
    assert "both releases are ill" in roll_out.waits_for(rollout(Phase.SHARING, 0), known, NOW)
    assert late(rollout(Phase.SHARING, 0), known) is None, "its deadline stands still"
    assert by("L10", rollout(Phase.SHARING, 0), shared).phase is Phase.GOING_BACK
    assert by("L10", rollout(Phase.SHARING, 0), replace(shared, old=replace(OLD, ill_s=1.0))).phase is Phase.GOING_BACK


def test_when_what_both_share_is_over_it_does_not_matter_which_is_seen_to_be_well_first() -> None:
    healed = facts(ILL, ill_together_at=NOW - 0.1)
    assert decided(rollout(Phase.SHARING, 0), healed) is None, "nor does its share grow meanwhile"
    assert by("L10", rollout(Phase.SHARING, 0), replace(healed, ill_together_at=NOW - 10.0)).phase is Phase.GOING_BACK
    assert roll_out.ill_together_at(healed, NOW) == NOW - 0.1
    assert roll_out.ill_together_at(replace(healed, old=replace(OLD, ill_s=11.0)), NOW) == NOW


@pytest.mark.parametrize(
    ("phase", "known", "follows"),
    [
        (Phase.SHARING, facts(evidence=replace(ENOUGH, error_share=0.5)), "L04"),
        (Phase.TESTING, facts(tests=Tried(failed="smoke: exit code 1")), "L05"),
        (Phase.SHARING, facts(tests=Tried(failed="smoke: exit code 1")), "L04"),
    ],
)
def test_a_verdict_on_what_is_only_observed_is_told_once_and_it_goes_on(
    phase: Phase, known: Facts, follows: str
) -> None:
    strict = replace(WEB, deploy=replace(DEPLOY, errors_max=0.01))
    tested = phase is Phase.SHARING and not known.tests.failed
    before = rollout(phase, 0 if phase is Phase.SHARING else -1, strict, observe=True, tested=tested)
    told = by("L15", before, known)
    assert told.phase is phase
    assert by(follows, told, known).phase is Phase.SHARING


def test_what_is_only_observed_and_never_gets_ready_goes_back_after_the_deadline() -> None:
    crashes = facts(replace(WHOLE, serving=0, since_at=math.inf, deaths=9, ill_for="ended by itself: exit code 3"))
    told = by("L15", rollout(observe=True), crashes)
    assert roll_out.decide(told, crashes, NOW) is None
    move = late(told, crashes)
    assert move is not None and (move.rule, move.rollout.phase) == ("L14", Phase.GOING_BACK)


def test_going_back_ends_also_when_some_of_the_old_replicas_do_not_come_back() -> None:
    back, two = rollout(Phase.GOING_BACK, 0, phase_at=NOW), replace(OLD, serving=2, since_at=math.inf)
    known = replace(facts(), old=two)
    assert roll_out.decide(back, known, PATIENT - 0.1) is None
    assert roll_out.waits_for(back, known, NOW) == "2 of 3 replicas of web@1 serve"
    ended = roll_out.decide(back, known, PATIENT)
    assert ended is not None and (ended.rule, ended.rollout.new.slots) == ("L17", ())
    gone = replace(known, new=Side())
    over = roll_out.decide(ended.rollout, gone, PATIENT)
    assert over is not None and (over.rule, over.rollout.phase) == ("L22", Phase.ROLLED_BACK)
    assert "of web@1 no more than 2 of 3 replicas serve" in over.sentence


def test_what_was_thrown_out_serves_as_long_as_it_is_all_that_clients_have() -> None:
    nobody = replace(OLD, serving=0, since_at=math.inf)
    assert roll_out.decide(rollout(Phase.GOING_BACK, 0), replace(facts(), old=nobody), PATIENT + 1e6) is None


def test_going_back_in_place_is_over_when_the_release_before_serves_and_not_before() -> None:
    fixed = replace(WEB, port=9_000, replicas=1)
    watched = rollout(
        Phase.WATCHING, 0, fixed, strategy=Strategy.ROLLING, slots=(1,), old=Arm("web@1", fixed), ended_wall=1.0
    )
    back = roll_back.taken_back(watched, "it fails", NOW, (2, 3))
    assert (back.old.slots, back.new.slots) == ((1,), ())
    starting = Facts(Side(), Side(wanted=1), 1, (2, 3))
    assert roll_out.decide(back, starting, NOW) is None
    over = roll_out.decide(back, replace(starting, old=Side(1, 1, 1, NOW)), NOW)
    assert over is not None and over.rule == "L18"


def test_going_back_in_place_ends_after_the_deadline_also_when_some_of_the_new_ones_were_not_replaced() -> None:
    half_way = rollout(Phase.SHARING, 1, strategy=Strategy.ROLLING, slots=(1, 2))
    back = roll_back.taken_back(half_way, "it fails", NOW, ())
    stuck = Facts(Side(live=1), Side(wanted=3, serving=1, live=2), 3, ())
    assert roll_out.decide(back, stuck, PATIENT - 0.1) is None
    over = roll_out.decide(back, stuck, PATIENT)
    assert over is not None and over.rule == "L22"


def test_a_steady_failure_of_both_does_not_begin_the_bake_anew_again_and_again() -> None:
    both = facts(THREE, replace(SUSPICIOUS, shared="both fail"), replicas=10)
    assert decided(BAKE, both) is None


def test_a_release_that_has_gone_back_from_a_breaking_one_is_told_of_with_the_ways_of_a_person() -> None:
    breaking = replace(WEB, deploy=replace(DEPLOY, breaks_data=True))
    back = rollout(Phase.SHARING, 0, old=Arm("web@2", breaking), new=Arm("web@1", WEB, (4,)), back=True)
    assert back.holds
    told = roll_out.decide(back, facts(replace(WHOLE, serving=0, deaths=5)), NOW)
    assert told is not None and told.rule == "L15"
    assert "`perdure restore web` for the data, or `perdure abort web`" in told.sentence
