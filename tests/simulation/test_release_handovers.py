"""Releases of active-passive services in the simulated world: they take over by a handover, and hand back."""

from typing import Any

import pytest
from rolling import Rolling, crashes, turn_ill

from perdure.model import deploy
from perdure.model.errors import UnavailableError
from perdure.model.release import Phase
from perdure.model.service import Mode, Role, Standby
from perdure.model.snapshot import Keeping, StateKind


def stands_by(standby: Standby, **changed: Any) -> dict[str, Any]:
    """What makes the service an active-passive one with two slots."""
    role = Role(http="/role") if standby is Standby.WARM else None
    keeping = Keeping(StateKind.SQLITE, "notes.db", every_s=2.0)
    return {
        "strategy": deploy.Strategy.ROLLING,
        "mode": Mode.ACTIVE_PASSIVE,
        "standby": standby,
        "role": role,
        "state": keeping,
        "replicas": 2,
        **changed,
    }


def active(rolling: Rolling) -> tuple[str, str]:
    """The slot and the release of the active one."""
    agent = rolling.world.daemon.agent
    assert agent is not None
    (slot,) = [one for one in agent.world.services["web"].slots.values() if one.serves]
    assert slot.replica is not None
    return str(slot.slot), slot.replica.release


def marks(rolling: Rolling) -> list[str]:
    kept = rolling.world.daemon.machine.states.kept["web"]
    return sorted(word for one in kept for word in one.marks if not word.startswith("healthy"))


@pytest.mark.parametrize("standby", list(Standby))
def test_a_release_of_an_active_passive_service_takes_over_by_a_handover(standby: Standby) -> None:
    rolling = Rolling(**stands_by(standby))
    seen: list[tuple[str, str]] = []
    rolling.at(11.0, lambda: seen.append(active(rolling)))
    rolling.at(40.0, lambda: seen.append(active(rolling)))
    played = rolling.play()
    assert not played.broken and not rolling.problems and not played.failed
    assert seen == [("web/1", "web@1"), ("web/2", "web@2")]
    assert rolling.rollout.phase is Phase.DONE and set(rolling.releases) == {"web@2"}
    assert marks(rolling) == ["after-web-2", "before-web-2"]


def test_a_marker_that_cannot_be_set_is_told_and_stops_nothing() -> None:
    rolling = Rolling(**stands_by(Standby.WARM))

    async def full(service: str, word: str) -> object:
        raise UnavailableError("no room is left")

    def spoil() -> None:
        assert rolling.world.daemon.desk is not None
        rolling.world.daemon.desk.rollouts.mark = full

    rolling.at(11.0, spoil)
    rolling.play()
    assert rolling.rollout.phase is Phase.DONE and rolling.instants("L05")
    told = [one.sentence for one in rolling.world.shelf.events if one.rule == "L19"]
    assert told[0] == "no marker before-web-2 could be set: no room is left"


@pytest.mark.parametrize("standby", list(Standby))
def test_a_bad_release_of_an_active_passive_service_hands_back(standby: Standby) -> None:
    rolling = Rolling(**stands_by(standby), watch_s=60.0, warm_s=60.0)
    rolling.at(40.0, lambda: turn_ill(rolling, "web@2", 0.6))
    seen: list[tuple[str, str]] = []
    rolling.at(70.0, lambda: seen.append(active(rolling)))
    played = rolling.play()
    assert [one[1] for one in seen] == ["web@1"]
    assert {one.checker for one in played.world.violations} <= {"RequestsSurvive"}  # it failed them, after all
    assert rolling.rollout.phase is Phase.ROLLED_BACK and set(rolling.releases) == {"web@1"}


@pytest.mark.parametrize("standby", list(Standby))
def test_a_release_that_does_not_start_leaves_the_active_one_or_comes_back_to_it(standby: Standby) -> None:
    rolling = Rolling(ill=crashes, **stands_by(standby))
    played = rolling.play()
    assert rolling.rollout.phase is Phase.ROLLED_BACK and set(rolling.releases) == {"web@1"}
    assert not played.failed, "requests wait"


def test_code_is_not_rolled_back_alone_when_the_release_before_cannot_read_its_data() -> None:
    rolling = Rolling(**stands_by(Standby.WARM), watch_s=60.0, warm_s=60.0, breaks_data=True)
    rolling.at(40.0, lambda: turn_ill(rolling, "web@2", 0.6))
    rolling.at(52.0, lambda: turn_ill(rolling, "web@2", 0.0))
    seen: list[tuple[str, str]] = []
    rolling.at(60.0, lambda: seen.append(active(rolling)))
    rolling.play()
    assert seen == [("web/2", "web@2")] and rolling.rollout.phase is not Phase.ROLLED_BACK
    told = [one.sentence for one in rolling.world.shelf.events if one.rule == "L15"]
    assert len(told) == 1 and "perdure restore web --to before-web-2" in told[0]


@pytest.mark.parametrize("fuse", range(0, 160, 20))
@pytest.mark.parametrize("standby", list(Standby))
def test_a_daemon_that_dies_at_any_step_of_a_handover_leaves_one_release(standby: Standby, fuse: int) -> None:
    rolling = Rolling(fuse=fuse, **stands_by(standby))
    played = rolling.play(130.0)
    assert not played.broken, played.lines
    assert len(set(rolling.releases)) == 1
