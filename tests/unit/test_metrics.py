"""The page for Prometheus: every family has its lines, and a counter is written to the last digit."""

import re
from dataclasses import replace

from facts import desired, replica, service
from test_preserve import Case

from perdure.control import metrics
from perdure.control.contest import Contest
from perdure.control.world import ServiceState, SlotState, Totals, World
from perdure.detect import suspect
from perdure.model.deploy import Step, Strategy
from perdure.model.release import Arm, Phase, Rollout
from perdure.model.replica import Slot, State
from perdure.model.service import Address
from perdure.recover import compare
from perdure.recover.observed import Arms, Tally
from perdure.recover.usual import Frozen

DAEMON = {"uptime_s": 1.5, "loop_age_s": 0.1, "cpu_s": 2.25, "memory_bytes": 77_000_001, "store_up": 1.0}
LINE = re.compile(r'(perdure_[a-z_]+)(\{[a-z]+="[^"]*"(,[a-z]+="[^"]*")*\})? -?[0-9.]+(e[+-][0-9]+)?')


def page(*declared_listen: Address | None) -> list[str]:
    services = {}
    for number, listen in enumerate(declared_listen, start=1):
        declared = service(listen=listen)
        slot = SlotState(Slot("web", number), replica(number, State.READY), totals=Totals(12_345_678, 9, 3))
        services[f"web{number}"] = ServiceState(desired(declared), suspect.policy(declared), {number: slot})
    return metrics.render(World(services), DAEMON, balancer_up=True, wall=0.0).splitlines()


def test_every_line_is_one_that_prometheus_reads() -> None:
    lines = page(Address("127.0.0.1", 80))
    assert [line for line in lines if not line.startswith("# ") and not LINE.fullmatch(line)] == []
    kinds = {line.split()[2]: line.split()[3] for line in lines if line.startswith("# TYPE")}
    assert all((kind == "counter") == name.endswith("_total") for name, kind in kinds.items())


def test_a_counter_is_exact_and_a_worker_has_none() -> None:
    lines = [line for line in page(Address("127.0.0.1", 80), None) if line.startswith("perdure_requests_total")]
    assert lines == ['perdure_requests_total{service="web",slot="web/1"} 12345678']


def samples(case: Case) -> dict[str, str]:
    """Every sample of a page about one active-passive service, without the families that all services have."""
    text = metrics.render(case.preserver.world, DAEMON, balancer_up=True, wall=case.clock.wall())
    lines = [line for line in text.splitlines() if not line.startswith("# ")]
    assert [line for line in lines if not LINE.fullmatch(line)] == []
    return dict(line.rsplit(" ", 1) for line in lines)


async def test_who_is_active_in_which_epoch_and_how_far_the_others_are_behind() -> None:
    case = Case()
    case.shelf.write("web/1", "a")
    await case.step()
    case.service.takeovers = 2
    case.clock.at += 5.0
    found = samples(case)
    active = [found[f'perdure_active{{service="web",slot="web/{number}"}}'] for number in (1, 2, 3)]
    assert active == ["1.0", "0.0", "0.0"]
    assert found['perdure_epoch{service="web"}'] == "1"
    assert found['perdure_takeovers_total{service="web"}'] == "2"
    lags = {name: value for name, value in found.items() if name.startswith("perdure_standby_lag_seconds")}
    assert [name[-7:-2] for name in lags] == ["web/2", "web/3"]
    assert all(abs(float(value) - 5.0) < 0.5 for value in lags.values())


async def test_what_is_kept_and_when_it_was_last_proven() -> None:
    case = Case()
    for word in ("a", "b"):
        case.shelf.write("web/1", word)
        await case.step(20.0)
    case.clock.at += 5.0
    found = {name.removesuffix('{service="web"}'): value for name, value in samples(case).items()}
    assert (found["perdure_snapshots"], found["perdure_snapshot_bytes"]) == ("2", "2")
    assert (found["perdure_snapshots_stored_bytes"], found["perdure_state_problem"]) == ("3", "0.0")
    assert float(found["perdure_snapshot_age_seconds"]) == 5.0
    assert float(found["perdure_restore_proof_age_seconds"]) == 25.0, "the first one, 20 s before the second"
    assert float(found["perdure_snapshot_duration_seconds"]) == 0.02
    assert float(found["perdure_restore_proof_duration_seconds"]) == 0.02
    case.shelf.damaged.add("web/1")
    await case.step(20.0)
    assert samples(case)['perdure_state_problem{service="web"}'] == "1.0"


async def test_what_is_not_known_yet_has_no_sample() -> None:
    case = Case()
    found = samples(case)
    assert [name for name in found if name.startswith(("perdure_snapshot", "perdure_restore_proof"))] == []
    assert [name for name in found if "lag" in name] == []
    case.shelf.unrestorable = True
    await case.step()
    assert [name for name in samples(case) if name.startswith("perdure_restore_proof")] == [], "a failed proof is none"


def test_a_service_of_which_all_are_active_has_no_samples_of_these() -> None:
    text = "\n".join(line for line in page(Address("127.0.0.1", 80)) if not line.startswith("# "))
    for name in ("perdure_active", "perdure_epoch", "perdure_takeovers", "perdure_state", "perdure_snapshots"):
        assert name not in text


def samples_of(rollout: Rollout | None, compared: Contest | None = None) -> dict[str, str]:
    declared = service()
    known = ServiceState(desired(declared, rollout=rollout), suspect.policy(declared), contest=compared)
    text = metrics.render(World({"web": known}), DAEMON, balancer_up=True, wall=0.0)
    lines = [line for line in text.splitlines() if line.startswith(("perdure_release", "perdure_rollout"))]
    assert [line for line in lines if not LINE.fullmatch(line)] == []
    return dict(line.rsplit(" ", 1) for line in lines)


def test_a_rollout_shows_its_releases_phase_share_and_what_was_compared() -> None:
    old, new = Arm("web@1", service(), (1, 2, 3)), Arm("web@2", service(), (4,))
    steps = (Step(0.05, 60.0), Step(0.5, 60.0))
    rollout = Rollout(7, old, new, Strategy.CANARY, steps, 3, Phase.SHARING, step=0)
    total = Arms(new=Tally(20.0, 4.0), old=Tally(95.0, 1.0))
    comparison = replace(compare.begin(Frozen(), 0.0), total=total)
    found = samples_of(rollout, Contest(7, comparison=comparison))
    assert found['perdure_release{service="web",release="web@1",role="serves"}'] == "1.0"
    assert found['perdure_release{service="web",release="web@2",role="on trial"}'] == "1.0"
    phases = {name: value for name, value in found.items() if name.startswith("perdure_rollout_phase")}
    assert [name for name, value in phases.items() if value == "1.0"] == [
        'perdure_rollout_phase{service="web",phase="sharing"}'
    ]
    assert len(phases) == len(Phase)
    assert found['perdure_rollout_share{service="web"}'] == "0.05"
    assert found['perdure_rollout_failed{service="web"}'] == "0.0"
    assert found['perdure_rollout_requests{service="web",release="web@2"}'] == "20.0"
    assert found['perdure_rollout_failures{service="web",release="web@1"}'] == "1.0"
    assert found['perdure_rollout_evidence_nats{service="web"}'] == "0.0"
    back = replace(rollout, phase=Phase.ROLLED_BACK)
    assert samples_of(back)['perdure_rollout_failed{service="web"}'] == "1.0"
    assert samples_of(replace(back, acknowledged=True))['perdure_rollout_failed{service="web"}'] == "0.0"


def test_a_service_that_never_had_a_rollout_shows_its_release_alone() -> None:
    assert samples_of(None) == {'perdure_release{service="web",release="web@1",role="serves"}': "1.0"}
