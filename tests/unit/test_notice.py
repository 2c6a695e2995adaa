"""What somebody is told although nothing is done about it."""

import pytest
from facts import desired, replica, service, standing

from perdure.control import appraise, conditions
from perdure.control.world import ServiceState, SlotState
from perdure.detect import probe, suspect, traffic
from perdure.model.decision import Note
from perdure.model.replica import State
from perdure.model.standing import History, Standing
from perdure.model.traffic import Backend
from perdure.model.verdict import Deadly
from perdure.prevent import notice


def busy(number: int, asked_lately: float = 200.0) -> Standing:
    return standing(number, idle_s=0.1, asked_lately=asked_lately)


def idle(number: int, idle_s: float | None = 12.0, state: State = State.READY) -> Standing:
    return standing(number, state, idle_s=idle_s)


def test_a_replica_without_requests_among_busy_peers_is_told() -> None:
    (decision,) = notice.decide("web", [busy(1), idle(2), busy(3)])
    assert (decision.rule, decision.subject, decision.change) == ("P10", "web/2", Note("left out"))
    assert decision.sentence == "serves and has got no request for 12 s, while 2 others got theirs"


@pytest.mark.parametrize(
    "standings",
    [
        [busy(1), idle(2, 9.9), busy(3)],
        [busy(1, 29.0), idle(2), busy(3)],  # there is little traffic
        [idle(1), idle(2), idle(3)],  # there is none
        [busy(1), idle(2, state=State.ISOLATED), busy(3)],
        [busy(1), idle(2, None)],  # nobody counts
        [busy(1), idle(2), standing(3, idle_s=5.0, asked_lately=100.0)],  # the third one may be idle, too
        [],
    ],
)
def test_an_idle_replica_is_told_only_when_its_peers_are_clearly_busy(standings: list[Standing]) -> None:
    assert notice.left_out(standings) == []


def test_idle_is_who_serves_and_has_got_no_request_since() -> None:
    declared = service()
    state = ServiceState(desired(declared), suspect.policy(declared), backend=Backend("web", ()), backend_at=100.0)
    seen = {1: traffic.Seen(at=99.5), 2: traffic.Seen(at=80.0), 3: traffic.Seen()}
    for number, one in seen.items():
        there = replica(number)
        state.slots[number] = SlotState(there.slot, there, suspect.Belief(seen=one), ready_at=70.0)
    state.slots[2].history = History(readmitted_at=88.0)
    assert [one.idle_s for one in appraise.standings(state, 100.2)] == [0.5, 12.0, 30.0]
    state.slots[3].down_seen_at = 99.0
    assert appraise.standings(state, 100.2)[2].idle_s is None, "HAProxy's own checks took it out"


@pytest.mark.parametrize(
    ("left_days", "told"),
    [
        (15.0, ""),
        (13.5, "the certificate that https / was shown expires in 13.5 days; renew it"),
        (-2.0, "expired 2.0 days ago"),
        (float("inf"), ""),
    ],
)
def test_a_certificate_that_ends_within_two_weeks_is_told(left_days: float, told: str) -> None:
    sentence = notice.expiring(left_days * 86_400.0, "https /")
    assert told in sentence
    assert bool(sentence) is bool(told)
    found = notice.decide("web", [busy(1)], notice.Conditions(certificate=sentence))
    assert [(one.rule, one.subject, one.change) for one in found] == (
        [("P12", "web", Note("certificate"))] if told else []
    )


def test_of_all_certificates_the_one_that_ends_first_counts() -> None:
    declared = service()
    state = ServiceState(desired(declared), suspect.policy(declared))
    for number, until in ((1, 1000.0 + 90 * 86_400), (2, 1000.0 + 5 * 86_400)):
        there = replica(number)
        belief = suspect.Belief(asked={"tls": probe.Asked("tls", certificate_until=until)})
        state.slots[number] = SlotState(there.slot, there, belief)
    assert "expires in 5.0 days" in conditions.expiring(state, 1000.0)
    assert conditions.expiring(ServiceState(desired(declared), suspect.policy(declared)), 1000.0) == ""


def test_a_full_disk_is_told_of_the_service() -> None:
    (decision,) = notice.decide(
        "web", [busy(1)], notice.Conditions(space="the disk of /srv is full: 1.0% (10 MB) left")
    )
    assert (decision.rule, decision.subject, decision.change) == ("P11", "web", Note("disk"))
    assert "requests that write will fail" in decision.sentence


@pytest.mark.parametrize(
    ("ahead_s", "told"),
    [
        ((None, 3600.4, None), ("web/2", "tells a wrong time: 3,600 s ahead of the host's clock")),
        ((None, None, -90.0), ("web/3", "tells a wrong time: 90 s behind the host's clock")),
        (
            (None, 3600.0, 3601.0),
            (
                "web",
                "2 of 3 replicas tell a wrong time (web/2: 3,600 s ahead of the host's clock): the cause is shared",
            ),
        ),
    ],
)
def test_a_wrong_clock_is_told_of_the_replica_that_has_it(
    ahead_s: tuple[float | None, ...], told: tuple[str, str]
) -> None:
    (decision,) = notice.decide("web", [standing(n, clock_ahead_s=one) for n, one in enumerate(ahead_s, 1)])
    assert (decision.rule, decision.subject, decision.sentence) == ("P13", *told)


def test_the_only_replicas_clock_is_its_own() -> None:
    (decision,) = notice.decide("web", [standing(1, clock_ahead_s=3600.0)])
    assert decision.subject == "web/1"


def test_a_request_that_seems_to_end_replicas_is_told_by_its_endpoint() -> None:
    found = Deadly("/poison", deaths=3, of=4, since_at=10.0, score=20.7)
    (decision,) = notice.decide("web", [busy(1)], notice.Conditions(deadly=found))
    assert (decision.rule, decision.subject, decision.change) == ("P14", "web", Note("deadly /poison"))
    assert decision.sentence.startswith(
        "3 of the 4 replicas that ended by themselves lately did so over a request to /poison: it may be what ends them"
    )
