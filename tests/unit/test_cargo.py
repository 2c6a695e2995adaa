"""What HAProxy is to carry: when it is told that a server which it holds down is well."""

import pytest
from facts import HEALTHZ, desired, replica, service

from perdure.control import cargo
from perdure.control.world import ServiceState, SlotState
from perdure.detect import probe, suspect
from perdure.model.check import CONFIRMING
from perdure.model.replica import Slot

NOW, DOWN_AT = 100.0, 90.0


@pytest.mark.parametrize(
    ("good_at", "proved"),
    [
        ({}, False),
        ({HEALTHZ.label: 89.0}, False),
        ({HEALTHZ.label: 99.0}, True),
        ({HEALTHZ.label: 99.0, f"{CONFIRMING}/pay": 20.0}, True),
        ({HEALTHZ.label: 89.0, f"{CONFIRMING}/pay": 99.0}, False),
    ],
)
def test_a_server_that_haproxy_holds_down_is_proved_up_by_the_declared_checks_alone(
    good_at: dict[str, float], proved: bool
) -> None:
    declared = service(replicas=1)
    asked = {label: probe.Asked(label, goods=1, last_good_at=at) for label, at in good_at.items()}
    slot = SlotState(Slot("web", 1), replica(1), suspect.Belief(asked=asked), down_seen_at=DOWN_AT)
    known = ServiceState(desired(declared), suspect.policy(declared), {1: slot})
    (member,) = cargo.of(known, NOW).members
    assert member.proved_up is proved
