"""What `perdure doctor` finds of the state of active-passive services: each rule, and nothing when all is well."""

from dataclasses import replace

import pytest
from test_weakness import FINE, MACHINE, STRONG

from perdure.model.finding import Finding
from perdure.model.service import Deployment, Mode, Service
from perdure.model.snapshot import Consistency, Keeping, StateKind
from perdure.prevent import weakness
from perdure.prevent.weakness_state import LAG_S_MIN, Seen

KEEPING = Keeping(StateKind.SQLITE, "notes.db", every_s=10.0, max_loss_s=30.0, key_file="/etc/notes.key")
NOTES = replace(
    STRONG,
    name="notes",
    command=("notes", "--listen", "$PORT", "--data", "$PERDURE_STATE/notes.db"),
    mode=Mode.ACTIVE_PASSIVE,
    state=KEEPING,
)
WELL = Seen(
    free_bytes=10_000_000,
    snapshots=5,
    size_bytes=1_000_000,
    took_s=0.1,
    proven_age_s=3600.0,
    lags_s={"notes/2": 4.0, "notes/3": 14.0},
)


def found(service: Service = NOTES, seen: Seen = WELL) -> list[Finding]:
    facts = replace(FINE, states={"notes": seen})
    return [one for one in weakness.judge(Deployment((service,)), facts) if one.rule != MACHINE]


def kept(**changed: object) -> Service:
    return replace(NOTES, state=replace(KEEPING, **changed))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("service", "seen"),
    [
        (NOTES, WELL),
        (NOTES, Seen()),
        (NOTES, Seen(snapshots=0, lags_s={"notes/2": None})),
        (replace(NOTES, command=("notes",), environment=(("DATA", "$PERDURE_STATE"), ("A", "$PORT"))), WELL),
        (kept(max_loss_s=None), replace(WELL, lags_s={"notes/2": LAG_S_MIN})),
        (kept(kind=StateKind.COMMAND, max_loss_s=None), WELL),
        (replace(NOTES, replicas=3, mode=Mode.ACTIVE_ACTIVE, state=None), WELL),
        (kept(every_s=1.0), replace(WELL, lags_s={"notes/2": 29.0})),
    ],
)
def test_what_is_well_or_not_known_is_no_finding(service: Service, seen: Seen) -> None:
    rules = {one.rule for one in found(service, seen)} - {"W07"}
    assert rules == set()


@pytest.mark.parametrize(
    ("rule", "service", "seen", "words"),
    [
        ("W18", replace(NOTES, state=None), WELL, "not declared"),
        ("W19", replace(NOTES, command=("notes", "$PORT")), WELL, "$PERDURE_STATE"),
        ("W20", kept(max_loss_s=5.0), WELL, "max_loss (5 s) is shorter than every (10 s)"),
        ("W20", kept(max_loss_s=5.0), replace(WELL, lags_s={"notes/2": 8.0}), "max_loss (5 s) is shorter"),
        ("W21", kept(kind=StateKind.FILES, consistency=Consistency.NONE), WELL, "while they are written"),
        ("W22", NOTES, replace(WELL, key_exposed=True), "/etc/notes.key"),
        ("W23", NOTES, replace(WELL, missing="/s/notes/1/state/notes.db"), "/s/notes/1/state/notes.db"),
        ("W24", NOTES, replace(WELL, outside="/var/lib/notes.db"), "/var/lib/notes.db"),
        ("W25", NOTES, replace(WELL, problem="no room is left"), "no room is left"),
        ("W26", NOTES, replace(WELL, free_bytes=1_900_000), "2 MB are free"),
        ("W27", NOTES, replace(WELL, took_s=6.0), "one each 12.0 s, not each 10 s"),
        ("W28", NOTES, replace(WELL, proven_age_s=None), "never"),
        ("W28", NOTES, replace(WELL, proven_age_s=90_000.0), "25.0 h ago"),
        ("W29", NOTES, replace(WELL, lags_s={"notes/2": 4.0, "notes/3": 61.0}), "notes/3 (lacks 61 s)"),
        ("W29", NOTES, replace(WELL, lags_s={"notes/2": 4.0, "notes/3": None}), "notes/3 (never"),
        ("W30", NOTES, replace(WELL, lags_s={"notes/2": 31.0, "notes/3": 45.0}), "max_loss (30 s)"),
    ],
)
def test_each_weakness_of_a_state_is_found_and_alone(rule: str, service: Service, seen: Seen, words: str) -> None:
    [finding] = found(service, seen)
    assert (finding.rule, finding.subject) == (rule, "notes")
    assert words in finding.sentence and finding.remedy


def test_what_takes_its_time_may_lag_for_longer() -> None:
    slow = replace(WELL, took_s=40.0, lags_s={"notes/2": 170.0})
    assert [one.rule for one in found(kept(every_s=120.0, max_loss_s=None), slow)] == []
    assert [one.rule for one in found(kept(every_s=10.0, max_loss_s=None), replace(slow, took_s=1.0))] == ["W29"]
