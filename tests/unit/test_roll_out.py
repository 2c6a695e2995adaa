"""How a release is let in, and thrown out: one move for each thing that may be known of a rollout."""

import math
from dataclasses import replace
from typing import Any

import pytest

from perdure.model.deploy import Deploy, DeployTest, Step, Strategy
from perdure.model.release import Arm, Phase, Rollout
from perdure.model.service import Address, Mode, Service, Standby
from perdure.model.standing import Desired
from perdure.recover import roll_out
from perdure.recover.rollout_facts import Evidence, Facts, Group, Move, Side, Tried

NOW = 1_000.0
DEPLOY = Deploy(steps=(Step(0.1, 60.0), Step(0.5, 60.0)), bake_s=60.0, tests=(DeployTest(("probe",)),))
WEB = Service("web", ("serve",), replicas=3, listen=Address("127.0.0.1", 80), deploy=DEPLOY)
WHOLE = Side(wanted=1, serving=1, live=1, since_at=NOW - 100.0)
OLD = Side(wanted=3, serving=3, live=3, since_at=0.0)
ENOUGH = Evidence(requests=300.0, asked_at=NOW)


def rollout(phase: Phase = Phase.STARTING, step: int = -1, declared: Service = WEB, **changed: Any) -> Rollout:
    strategy = changed.pop("strategy", Strategy.CANARY)
    made = Rollout(
        1,
        Arm("web@1", declared, (1, 2, 3)),
        Arm("web@2", declared, changed.pop("slots", (4,))),
        strategy,
        roll_out.plan(declared.deploy, strategy, 3, one_active=declared.one_active),
        3,
        phase,
        step,
        phase_at=NOW - 90.0,
        progress_at=NOW - 90.0,
        tested=True,
    )
    return replace(made, **changed)


def facts(new: Side = WHOLE, evidence: Evidence = ENOUGH, **changed: Any) -> Facts:
    return replace(Facts(new, OLD, 3, (5, 6, 7, 8, 9), evidence=evidence), **changed)


def decided(before: Rollout, known: Facts | None = None) -> Move | None:
    known = facts() if known is None else known
    move = roll_out.decide(before, known, NOW)
    assert move == roll_out.decide(before, known, NOW)
    return move


def by(rule: str, before: Rollout, known: Facts | None = None) -> Rollout:
    move = decided(before, known)
    assert move is not None and move.rule == rule, move
    return move.rollout


def test_what_is_stable_is_tested_without_traffic_and_then_gets_the_first_share() -> None:
    tested = by("L02", rollout())
    assert (tested.phase, tested.share) == (Phase.TESTING, 0.0)
    assert decided(tested) is None
    shared = by("L05", tested, facts(tests=Tried(passed=True)))
    assert (shared.phase, shared.step, shared.share, shared.tested) == (Phase.SHARING, 0, 0.1, False)


@pytest.mark.parametrize("new", [replace(WHOLE, serving=0, since_at=math.inf), replace(WHOLE, since_at=NOW - 9.9)])
def test_what_is_not_stable_yet_waits(new: Side) -> None:
    assert decided(rollout(), facts(new)) is None


def test_without_tests_the_share_comes_at_once() -> None:
    assert by("L05", rollout(declared=replace(WEB, deploy=replace(DEPLOY, tests=())))).share == 0.1


def test_a_step_takes_its_time_its_requests_its_tests_and_the_replicas_for_the_next() -> None:
    sharing = rollout(Phase.SHARING, 0)
    assert decided(replace(sharing, phase_at=NOW - 59.0)) is None
    assert decided(sharing, facts(evidence=replace(ENOUGH, requests=299.0))) is None
    assert decided(replace(sharing, tested=False)) is None
    assert by("L03", replace(sharing, tested=False), facts(tests=Tried(passed=True))).tested
    grown = by("L04", sharing)
    assert (grown.new.slots, grown.step) == ((4, 5), 0)
    assert decided(grown, facts(Side(2, 1, 2, math.inf))) is None
    assert by("L05", grown, facts(Side(2, 2, 2, NOW - 70.0))).share == 0.5


def test_the_last_step_leads_to_the_watch_and_the_old_replicas_stand_by() -> None:
    before = rollout(Phase.SHARING, 2, slots=(4, 5, 6))
    watched = by("L07", before, facts(Side(3, 3, 3, NOW - 70.0)))
    assert (watched.phase, watched.old.slots, watched.share) == (Phase.WATCHING, (1, 2, 3), 1.0)
    after = roll_out.settled(Desired(WEB, "web@1", 3, rollout=before), watched)
    assert (after.release, after.numbers, after.slots) == ("web@2", (4, 5, 6), (1, 2, 3, 4, 5, 6))


SHARING = rollout(Phase.SHARING, 0)
BLAMED = replace(ENOUGH, guilty="fails 6 of 30 requests", burst_s=40.0)


@pytest.mark.parametrize(
    ("rule", "known", "why"),
    [
        ("L10", facts(replace(WHOLE, deaths=2, ill_for="exit code 3")), "replicas of web@2 ended 2 times: exit code 3"),
        (
            "L10",
            facts(replace(WHOLE, ill_s=10.0, ill_for="no answer")),
            "half of web@2 has been ill for 10 s: no answer",
        ),
        ("L11", facts(tests=Tried(failed="probe: exit code 1")), "a test of web@2 failed: probe: exit code 1"),
        ("L12", facts(evidence=BLAMED), "web@2 fails 6 of 30 requests"),
        ("L13", facts(group=Group(failed="api@7")), "goes back together with api@7"),
    ],
)
def test_a_bad_one_loses_its_traffic_in_the_same_move(rule: str, known: Facts, why: str) -> None:
    gone = by(rule, SHARING, known)
    assert (gone.phase, gone.share, gone.ended_for) == (Phase.GOING_BACK, 0.0, why)


def test_one_that_makes_no_progress_goes_back_unless_both_fail() -> None:
    stuck = replace(rollout(Phase.SHARING, 0), phase_at=NOW - 661.0, progress_at=NOW - 661.0)
    silent = replace(ENOUGH, requests=10.0, asked_at=-math.inf)
    assert by("L14", stuck, facts(evidence=silent)).ended_for.endswith("290 more requests (it has had 10 of 300)")
    assert decided(stuck, facts(evidence=replace(silent, shared="both fail"))) is None
    assert decided(stuck, facts(evidence=replace(silent, asked_at=NOW - 1.0))) is None


def test_requests_to_some_are_no_progress_while_others_do_not_start() -> None:
    stuck = replace(rollout(Phase.SHARING, 0), phase_at=NOW - 661.0, progress_at=NOW - 661.0)
    assert by("L14", stuck, facts(Side(2, 1, 2, math.inf))).phase is Phase.GOING_BACK


def test_deaths_that_the_old_release_shares_are_not_the_new_ones_fault() -> None:
    known = facts(replace(WHOLE, deaths=2))
    assert decided(SHARING, replace(known, old=replace(OLD, deaths=2))) == decided(SHARING, facts())


@pytest.mark.parametrize(
    "known",
    [facts(evidence=replace(BLAMED, burst_s=29.0)), facts(replace(WHOLE, serving=0, convicted=1, ill_for="fails"))],
)
def test_what_may_be_one_replicas_fault_is_tried_once_more_elsewhere(known: Facts) -> None:
    again = by("L06", SHARING, known)
    assert (again.phase, again.attempt, again.new.slots, again.share) == (Phase.STARTING, 2, (5,), 0.0)
    assert by("L12", replace(SHARING, attempt=2), known).phase is Phase.GOING_BACK


def test_isolated_replicas_of_the_old_release_acquit_the_new_one() -> None:
    known = facts(replace(WHOLE, serving=0, convicted=1))
    assert decided(SHARING, replace(known, old=replace(OLD, convicted=1))) is None


def test_both_failing_holds_and_says_so() -> None:
    known = facts(evidence=replace(ENOUGH, shared="both releases fail"))
    assert decided(SHARING, known) is None
    assert roll_out.waits_for(SHARING, known, NOW) == "holds: both releases fail; not this release"


def test_a_release_that_only_is_observed_is_told_of_once_and_goes_on() -> None:
    seen = by("L15", replace(SHARING, observe=True), facts(evidence=BLAMED))
    assert (seen.phase, seen.ended_for) == (Phase.SHARING, "web@2 fails 6 of 30 requests")
    assert by("L04", seen, facts(evidence=BLAMED)).phase is Phase.SHARING


WATCHING = rollout(Phase.WATCHING, 2, slots=(4, 5, 6))
THREE = Side(3, 3, 3, 0.0)
SUSPICIOUS = Evidence(suspicious="failed 30 of its last 100 requests")


def test_one_that_turns_bad_is_compared_before_it_is_thrown_out() -> None:
    recalled = by("L08", WATCHING, facts(THREE, SUSPICIOUS))
    assert (recalled.phase, recalled.share) == (Phase.RECALLED, 0.5)
    assert by("L12", recalled, facts(THREE, BLAMED)).phase is Phase.GOING_BACK
    calm = replace(recalled, phase_at=NOW - 121.0)
    assert by("L16", replace(calm, ended_wall=1.0), facts(THREE)).phase is Phase.WATCHING
    assert by("L16", calm, facts(THREE)).phase is Phase.SHARING, "it was recalled in the bake, and goes on with it"


def test_in_the_bake_too_for_a_failure_says_little_there() -> None:
    bake = rollout(Phase.SHARING, 2, slots=(4, 5, 6))
    assert by("L08", bake, facts(THREE, SUSPICIOUS)).phase is Phase.RECALLED
    assert decided(rollout(Phase.SHARING, 1, slots=(4, 5)), facts(THREE, SUSPICIOUS)) is None


def test_the_release_before_starts_again_where_it_does_not_run_any_more() -> None:
    cold = replace(WATCHING, old=replace(WATCHING.old, slots=()))
    assert by("L08", cold, facts(THREE, SUSPICIOUS)).old.slots == (5, 6, 7)


def test_when_nothing_of_it_lives_the_old_one_takes_over_without_a_comparison() -> None:
    dead = Side(3, 0, 0, math.inf, ill_s=2.0, ill_for="exit code 1")
    assert by("L10", WATCHING, facts(dead, Evidence())).phase is Phase.GOING_BACK


def test_the_old_ones_end_after_their_time_and_the_watch_after_its_own() -> None:
    later = replace(WATCHING, phase_at=NOW - 1_801.0)
    assert by("L09", later, facts(THREE)).old.slots == ()
    over = replace(WATCHING, phase_at=NOW - 86_401.0, old=replace(WATCHING.old, slots=()))
    assert by("L20", over, facts(THREE)).phase is Phase.DONE


def test_going_back_ends_the_new_ones_when_the_old_ones_serve_and_is_over_when_they_are_gone() -> None:
    back = rollout(Phase.GOING_BACK, 0)
    assert decided(back, replace(facts(), old=replace(OLD, serving=2))) is None
    ended = by("L17", back)
    assert ended.new.slots == ()
    assert decided(ended) is None
    assert by("L18", ended, facts(Side())).phase is Phase.ROLLED_BACK
    assert by("L18", replace(ended, aborted=True), facts(Side())).phase is Phase.ABORTED


def test_where_one_is_active_the_new_release_takes_over_by_a_handover() -> None:
    declared = replace(WEB, mode=Mode.ACTIVE_PASSIVE, standby=Standby.COLD, deploy=replace(DEPLOY, tests=()))
    move = decided(rollout(declared=declared, strategy=Strategy.ROLLING, slots=(2, 3)), facts(Side()))
    assert move is not None and (move.rule, move.handover, move.sentence) == ("L05", 2, "web@2 takes over")


def test_a_code_that_cannot_go_back_alone_is_left_and_the_ways_are_told() -> None:
    declared = replace(WEB, mode=Mode.ACTIVE_PASSIVE, deploy=replace(DEPLOY, breaks_data=True))
    serving = rollout(Phase.WATCHING, 0, declared, strategy=Strategy.ROLLING, slots=(2,), markers=("before-web-2",))
    move = decided(serving, facts(WHOLE, SUSPICIOUS))
    assert move is not None and move.rule == "L15" and "perdure restore web --to before-web-2" in move.sentence
    assert move.rollout.phase is Phase.WATCHING


@pytest.mark.parametrize(
    ("strategy", "shares"),
    [
        (Strategy.CANARY, [0.1, 0.5, 0.9]),
        (Strategy.BLUE_GREEN, [1.0]),
        (Strategy.ROLLING, [1 / 3, 2 / 3, 1.0]),
    ],
)
def test_each_strategy_is_the_same_plan_with_other_steps(strategy: Strategy, shares: list[float]) -> None:
    assert [step.share for step in roll_out.plan(DEPLOY, strategy, 3)] == shares


@pytest.mark.parametrize(
    ("phase", "step", "new", "old"),
    [
        (Phase.STARTING, -1, True, False),
        (Phase.TESTING, -1, True, False),
        (Phase.SHARING, 0, False, False),
        (Phase.WATCHING, 2, False, True),
        (Phase.RECALLED, 2, False, False),
        (Phase.GOING_BACK, 0, True, False),
        (Phase.DONE, 2, False, False),
    ],
)
def test_who_stands_by_is_not_left_out(phase: Phase, step: int, new: bool, old: bool) -> None:
    one = rollout(phase, step)
    assert (one.idles("web@2"), one.idles("web@1"), one.idles("web@0")) == (new, old, False)
    assert not rollout(phase, step, strategy=Strategy.ROLLING).idles("web@2")


def test_a_step_takes_its_time_once_also_when_replicas_were_added() -> None:
    young = facts(replace(WHOLE, since_at=NOW - 10.0))
    assert by("L04", replace(SHARING, phase_at=NOW - 60.0), young).new.slots == (4, 5)
    assert decided(replace(SHARING, phase_at=NOW - 60.0), facts(replace(WHOLE, since_at=NOW - 9.9))) is None
