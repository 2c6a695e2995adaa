"""What `perdure doctor` finds of the way in which releases are let in: each rule, and nothing when all is well."""

from dataclasses import replace

import pytest
from test_weakness import FINE, MACHINE, STRONG

from perdure.model.check import Check, CheckKind
from perdure.model.deploy import Step, Strategy
from perdure.model.finding import Finding
from perdure.model.service import Canary, Deployment, Mode, Service
from perdure.prevent import weakness
from perdure.prevent.weakness_release import Seen

DEPLOY = STRONG.deploy
WELL = Seen(requests_per_s=50.0, replica_bytes=200_000_000, free_bytes=600_000_000)


def found(service: Service = STRONG, seen: Seen = WELL) -> list[Finding]:
    facts = replace(FINE, releases={service.name: seen})
    return [one for one in weakness.judge(Deployment((service,)), facts) if one.rule != MACHINE]


def rules(service: Service = STRONG, seen: Seen = WELL) -> list[str]:
    return [one.rule for one in found(service, seen)]


def deployed(**changed: object) -> Service:
    return replace(STRONG, deploy=replace(DEPLOY, **changed))  # type: ignore[arg-type]


def test_a_service_that_is_deployed_with_care_has_none_of_these() -> None:
    assert rules() == []
    assert rules(STRONG, Seen()) == [], "what is not known is no weakness"


@pytest.mark.parametrize(
    ("rule", "service"),
    [
        ("W32", replace(STRONG, files=None)),
        ("W33", deployed(tests=())),
        ("W34", deployed(watch_s=0.0)),
    ],
)
def test_what_the_file_lacks(rule: str, service: Service) -> None:
    assert rules(service) == [rule]


def test_a_release_that_was_thrown_out_is_named_with_its_cause_until_somebody_has_seen_it() -> None:
    (one,) = found(seen=replace(WELL, thrown_out="web@7", cause="it fails 20% of its requests"))
    assert one.rule == "W31" and one.sentence.startswith("web@7 was rolled back")
    assert "it fails 20% of its requests" in one.sentence and "perdure acknowledge web" in one.remedy


@pytest.mark.parametrize(
    ("requests_per_s", "expected"),
    # 300 requests of 5 % are 6,000; 60 s may become 11 min: 9.1 a second.
    [(50.0, []), (9.2, []), (9.0, ["W35"]), (0.0, ["W35"])],
)
def test_too_few_requests_for_the_smallest_step(requests_per_s: float, expected: list[str]) -> None:
    assert rules(seen=replace(WELL, requests_per_s=requests_per_s)) == expected


def test_how_long_such_a_step_takes_is_said() -> None:
    (slow,) = found(seen=replace(WELL, requests_per_s=0.5))
    assert "with 0.5 requests a second, the step of 5% takes 3.3 h" in slow.sentence
    (never,) = found(seen=replace(WELL, requests_per_s=0.0))
    assert "does not end" in never.sentence


@pytest.mark.parametrize(
    "service",
    [
        replace(STRONG, canary=Canary(Check(CheckKind.HTTP, path="/"))),
        deployed(strategy=Strategy.ROLLING),
        deployed(strategy=Strategy.BLUE_GREEN),
        deployed(exposure=0),
        deployed(steps=()),
        deployed(steps=(Step(0.5, 60.0),), exposure=100),
        replace(STRONG, mode=Mode.ACTIVE_PASSIVE, replicas=2),
    ],
)
def test_few_requests_do_not_matter_where_none_are_needed(service: Service) -> None:
    assert "W35" not in rules(service, replace(WELL, requests_per_s=1.0))


def test_too_little_memory_for_two_releases_side_by_side() -> None:
    tight = replace(WELL, free_bytes=599_999_999)
    (one,) = found(seen=tight)
    assert one.rule == "W36" and "3 more of its replicas run, with 200 MB each, and 600 MB" in one.sentence
    assert rules(deployed(strategy=Strategy.ROLLING), tight) == []
    assert "W36" not in rules(replace(STRONG, port=9000, replicas=1), tight)
    assert "W36" not in rules(replace(STRONG, mode=Mode.ACTIVE_PASSIVE), tight)
    assert "W36" not in rules(replace(STRONG, listen=None), tight)
