"""The checkers bite: what they guard is broken on purpose, and the right one says so."""

from collections.abc import Sequence

import pytest
from playing import Played, at, played

from perdure.control import turn
from perdure.control.controller import Controller
from perdure.model.decision import Advance, Decision
from perdure.model.event import Severity
from perdure.model.replica import Event, Process, State
from perdure.model.standing import Standing
from perdure.model.traffic import Admin, BalancerChange
from perdure.ports.runner import Launch, OnExit
from perdure.ports.store import Transaction
from perdure.recover import isolate
from perdure.sim.balancer import SimulatedBalancer
from perdure.sim.kernel import Behaviour
from perdure.sim.runner import SimulatedRunner
from perdure.sim.store import SimulatedStore


def blamed(run: Played) -> set[str]:
    """The checkers that complained."""
    return {one.checker for one in run.world.violations}


def test_a_runner_that_starts_every_process_twice_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    start = SimulatedRunner.start

    def twice(self: SimulatedRunner, launch: Launch, on_exit: OnExit) -> Process:
        self.kernel.loop.outside(lambda: self.kernel.spawn(launch.slot, launch.run, launch.port + 1, Behaviour()))
        return start(self, launch, on_exit)

    monkeypatch.setattr(SimulatedRunner, "start", twice)
    assert "OneProcessPerSlot" in blamed(played(until_at=5.0))


def test_a_decider_that_isolates_everybody_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    suspicious = turn.decide

    def everybody(facts: turn.Facts, now: float) -> turn.Plan:
        plan = suspicious(facts, now)
        if now < 10.0:
            return plan
        found = [
            Decision("R01", str(one.slot), "is isolated", Advance(one.slot, Event.DRAIN_WANTED), {}, Severity.WARNING)
            for one in facts.standings
            if one.state_is(State.READY)
        ]
        return turn.Plan(tuple(found), plan.bucket, plan.look_again_at)

    monkeypatch.setattr(turn, "decide", everybody)
    assert {"FloorHolds", "NoFalseAlarm", "RequestsSurvive"} <= blamed(played(until_at=30.0))


def test_a_balancer_that_is_not_told_of_isolations_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    change = SimulatedBalancer.change

    async def only_in(self: SimulatedBalancer, changes: Sequence[BalancerChange]) -> None:
        await change(self, [one for one in changes if getattr(one, "admin", Admin.READY) is Admin.READY])

    monkeypatch.setattr(SimulatedBalancer, "change", only_in)
    assert blamed(played(at("F8", 10.0, 1, length_s=15.0), until_at=40.0)) == {"BadReplicasAreSpared"}


def test_an_isolation_that_forgets_the_floor_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(isolate, "decide", _without_floor)
    run = played(at("F3", 10.0, 1), at("F3", 10.0, 2), at("F3", 10.0, 3), until_at=20.0)
    assert "FloorHolds" in blamed(run)


def _without_floor(standings: Sequence[Standing], *rest: object) -> list[Decision]:
    return [
        Decision("R01", str(one.slot), "is isolated", Advance(one.slot, Event.CONVICTED), {"run": 1}, Severity.WARNING)
        for one in standings
        if one.serving and one.verdict is not None
    ]


def test_an_alarm_for_each_replica_of_a_shared_failure_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    from perdure.control import news

    monkeypatch.setattr(news, "of", lambda service, decisions, now: list(decisions))
    assert "SharedFailureIsToldOnce" in blamed(played(at("F28", 10.0, length_s=5.0), until_at=18.0))


def test_a_controller_that_does_not_write_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    async def forgets(self: Controller, service: str, replicas: int) -> list[str]:
        return [f"{service} is scaled to {replicas}"]

    monkeypatch.setattr(Controller, "scale", forgets)
    assert "CommandsSurvive" in blamed(played(at("scale", 10.0, choice=0.9), until_at=20.0))


def test_a_power_cut_that_loses_an_acknowledged_command_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    commit = SimulatedStore.commit

    async def lazy(self: SimulatedStore, transaction: Transaction) -> int:
        hurried = Transaction(transaction.expect, transaction.put, transaction.delete, transaction.events)
        return await commit(self, hurried if self.shelf.loop.time() > 5.0 else transaction)

    monkeypatch.setattr(SimulatedStore, "commit", lazy)
    run = played(at("scale", 10.0, choice=0.9), at("power cut", 10.1, length_s=2.0), until_at=30.0)
    assert "CommandsSurvive" in blamed(run)


def test_requests_that_are_cut_instead_of_tried_again_are_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    from perdure.sim.haproxy import SimulatedHAProxy
    from perdure.sim.servers import Request, SimulatedBackend

    def never(self: SimulatedHAProxy, backend: SimulatedBackend, request: Request) -> bool:
        return False

    monkeypatch.setattr(SimulatedHAProxy, "_again", never)
    assert "RequestsSurvive" in blamed(played(at("F3", 10.0, 1), until_at=20.0))


def test_a_group_that_is_not_killed_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(SimulatedRunner, "group_alive", lambda self, process: False)
    monkeypatch.setattr(SimulatedRunner, "signal", lambda self, process, signal: None)
    found = blamed(played(at("F42", 10.0, 1, choice=0.0), until_at=20.0))
    assert {"GroupsEnd", "OneProcessPerSlot"} <= found


def test_a_replica_that_is_believed_without_an_answer_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    from perdure.control import appraise

    monkeypatch.setattr(appraise, "awaits", lambda service, slot, now: "")
    assert "UnknownIsNotHealthy" in blamed(played(until_at=5.0, boot_s=3.0))


def test_a_bug_in_the_control_shell_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(facts: turn.Facts, now: float) -> turn.Plan:
        assert now < 10.0, "a bug"
        return decide(facts, now)

    decide = turn.decide
    monkeypatch.setattr(turn, "decide", fails)
    run = played(until_at=20.0)
    assert "no bug in the control shell" in blamed(run)
    assert any("a bug" in line for line in run.broken)
