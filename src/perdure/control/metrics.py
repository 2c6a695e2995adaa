"""The metrics for Prometheus, in its text format and with its usual naming: `perdure_`, base units, `_total` for
counters.

What is not known has no sample: never a 0 that looks like a measurement.
"""

from collections.abc import Iterable, Mapping

from perdure.control import contest, keepsakes, rollout_documents
from perdure.control.lineage import lag_s
from perdure.control.world import ServiceState, World
from perdure.model.release import Phase, Rollout
from perdure.model.replica import State

Labels = Mapping[str, str]


def render(known: World, daemon: Mapping[str, float], balancer_up: bool, wall: float) -> str:
    """The whole page; `daemon` has uptime_s, loop_age_s, cpu_s, memory_bytes, store_up; `wall` is Unix time."""
    lines: list[str] = []
    _family(lines, "perdure_up_seconds", "gauge", "Time since the daemon started", [({}, daemon["uptime_s"])])
    _family(lines, "perdure_loop_age_seconds", "gauge", "Age of the last completed loop", [({}, daemon["loop_age_s"])])
    _family(lines, "perdure_cpu_seconds_total", "counter", "CPU time of the daemon", [({}, daemon["cpu_s"])])
    _family(lines, "perdure_memory_bytes", "gauge", "Resident memory of the daemon", [({}, daemon["memory_bytes"])])
    _family(lines, "perdure_store_up", "gauge", "1 when the store can be written", [({}, daemon["store_up"])])
    _family(lines, "perdure_balancer_up", "gauge", "1 when HAProxy serves", [({}, float(balancer_up))])
    _family(lines, "perdure_replicas", "gauge", "Replicas by state", _replicas(known))
    _family(lines, "perdure_desired_replicas", "gauge", "Replicas wanted", _desired(known))
    _family(
        lines, "perdure_restarts_total", "counter", "Replicas started because the one before failed", _restarts(known)
    )
    _family(lines, "perdure_requests_total", "counter", "Tries of requests by slot", _counted(known, "requests"))
    _family(lines, "perdure_failures_total", "counter", "Tries that failed, by slot", _counted(known, "failures"))
    _family(lines, "perdure_retries_total", "counter", "Failed tries that were repeated", _counted(known, "retries"))
    _family(lines, "perdure_retries_allowed", "gauge", "1 while the retry budget lasts", _retries(known))
    _released(lines, known)
    _owned(lines, known, wall)
    _kept(lines, known, wall)
    return "\n".join(lines) + "\n"


def _released(lines: list[str], known: World) -> None:
    """What runs of which release, and the last rollout of each service that had one."""
    services = [(name, service.desired) for name, service in sorted(known.services.items())]
    _family(
        lines,
        "perdure_release",
        "gauge",
        "1 for each release that serves, is on trial, or stands by",
        [
            ({"service": name, "release": release, "role": rollout_documents.role(release, desired)}, 1.0)
            for name, desired in services
            for release in (desired.release, *([desired.other.release] if desired.other is not None else []))
        ],
    )
    rollouts = [(name, desired.rollout) for name, desired in services if desired.rollout is not None]
    figures = [(name, one, contest.figures(known.services[name].contest, one)) for name, one in rollouts]
    compared = [(name, one, found) for name, one, found in figures if found]
    families: list[tuple[str, str, Iterable[tuple[Labels, float]]]] = [
        (
            "perdure_rollout_phase",
            "1 for the phase that the last rollout is in",
            [
                ({"service": name, "phase": each.value}, float(one.phase is each))
                for name, one in rollouts
                for each in Phase
            ],
        ),
        (
            "perdure_rollout_share",
            "Share of the requests that the new release is to have",
            [({"service": name}, one.share) for name, one in rollouts],
        ),
        (
            "perdure_rollout_failed",
            "1 when it was rolled back, until that is acknowledged",
            [({"service": name}, float(one.failed)) for name, one in rollouts],
        ),
        (
            "perdure_rollout_requests",
            "Requests of both releases since they are compared",
            [pair for name, one, found in compared for pair in _arms(name, one, found, "requests")],
        ),
        (
            "perdure_rollout_failures",
            "Failed requests of both releases since they are compared",
            [pair for name, one, found in compared for pair in _arms(name, one, found, "failures")],
        ),
        (
            "perdure_rollout_evidence_nats",
            "How much the failures speak against the new release",
            [({"service": name}, found["evidence"]) for name, _, found in compared],
        ),
    ]
    for name, meaning, samples in families:
        _family(lines, name, "gauge", meaning, samples)


def _arms(service: str, rollout: Rollout, found: Mapping[str, float], what: str) -> Iterable[tuple[Labels, float]]:
    yield {"service": service, "release": rollout.new.release}, found[what]
    yield {"service": service, "release": rollout.old.release}, found[f"{what}_before"]


def _owned(lines: list[str], known: World, wall: float) -> None:
    """Services of which one replica is active: which one, and how far the others are behind."""
    owned = [one for _, one in sorted(known.services.items()) if one.desired.service.one_active]
    terms = [({"service": one.name}, one) for one in owned]
    _family(
        lines, "perdure_active", "gauge", "1 for the slot that is active, 0 for those that stand by", _active(owned)
    )
    _family(
        lines,
        "perdure_epoch",
        "gauge",
        "Number of the present term",
        [(labels, one.term.epoch) for labels, one in terms],
    )
    takeovers = [(labels, one.takeovers) for labels, one in terms]
    _family(lines, "perdure_takeovers_total", "counter", "Changes of the active slot, those by command too", takeovers)
    _family(
        lines,
        "perdure_standby_lag_seconds",
        "gauge",
        "How much of the present the state of a slot that stands by lacks",
        _lags(owned, wall),
    )


def _kept(lines: list[str], known: World, wall: float) -> None:
    """Services that declare a state: what is kept of it, and when it was last proven to restore."""
    told = [(one, doc) for _, one in sorted(known.services.items()) if (doc := keepsakes.told(one, wall)) is not None]
    labelled = [({"service": one.name}, one, doc) for one, doc in told]
    problems = [(labels, float(doc["problem"] is not None)) for labels, _, doc in labelled]
    counts = [(labels, doc["snapshots"]) for labels, one, doc in labelled if one.preserved.known]
    stored = [(labels, _stored_bytes(one)) for labels, one, _ in labelled if one.preserved.known]
    lasts = [(labels, doc["last"]) for labels, _, doc in labelled if doc["last"] is not None]
    proofs = [(labels, doc["proven"]["proven"]) for labels, _, doc in labelled if doc["proven"] is not None]
    families: list[tuple[str, str, Iterable[tuple[Labels, float]]]] = [
        ("perdure_state_problem", "1 when snapshots are not taken, or not followed", problems),
        ("perdure_snapshots", "Snapshots that are kept", counts),
        ("perdure_snapshots_stored_bytes", "What they added to the snapshot store", stored),
        ("perdure_snapshot_age_seconds", "Age of the last snapshot", [(one, doc["age_s"]) for one, doc in lasts]),
        ("perdure_snapshot_bytes", "Size of the state in it", [(one, doc["size_bytes"]) for one, doc in lasts]),
        ("perdure_snapshot_duration_seconds", "How long it took", [(one, doc["took_s"]) for one, doc in lasts]),
        (
            "perdure_restore_proof_age_seconds",
            "Time since a snapshot was last proven to restore",
            [(one, round(max(0.0, wall - proof["at"]), 3)) for one, proof in proofs],
        ),
        (
            "perdure_restore_proof_duration_seconds",
            "How long that restore took",
            [(one, proof["took_s"]) for one, proof in proofs],
        ),
    ]
    for name, meaning, samples in families:
        _family(lines, name, "gauge", meaning, samples)


def _active(services: Iterable[ServiceState]) -> Iterable[tuple[Labels, float]]:
    for service in services:
        for number, slot in sorted(service.slots.items()):
            if slot.live or service.desired.has(number):
                yield {"service": service.name, "slot": str(slot.slot)}, float(slot.serves)


def _lags(services: Iterable[ServiceState], wall: float) -> Iterable[tuple[Labels, float]]:
    for service in services:
        for number, slot in sorted(service.slots.items()):
            lag = lag_s(service, slot, wall)
            if lag is not None and number != service.term.owner and service.desired.has(number):
                yield {"service": service.name, "slot": str(slot.slot)}, round(lag, 3)


def _stored_bytes(service: ServiceState) -> int:
    return sum(one.manifest.stored_bytes for one in service.preserved.kept)


def _family(lines: list[str], name: str, kind: str, meaning: str, samples: Iterable[tuple[Labels, float]]) -> None:
    lines += [f"# HELP {name} {meaning}.", f"# TYPE {name} {kind}"]
    for labels, value in samples:
        text = ",".join(f'{key}="{_escaped(label)}"' for key, label in labels.items())
        lines.append(f"{name}{{{text}}} {value!r}" if text else f"{name} {value!r}")


def _escaped(label: str) -> str:
    return label.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def _replicas(known: World) -> Iterable[tuple[Labels, float]]:
    for name, service in sorted(known.services.items()):
        states = [slot.replica.state for slot in service.slots.values() if slot.replica is not None]
        for state in State:
            yield {"service": name, "state": state.value}, states.count(state)


def _desired(known: World) -> Iterable[tuple[Labels, float]]:
    for name, service in sorted(known.services.items()):
        yield {"service": name}, service.desired.replicas


def _restarts(known: World) -> Iterable[tuple[Labels, float]]:
    for service, slot in known.slots():
        yield {"service": service.name, "slot": str(slot.slot)}, slot.history.restarts


def _retries(known: World) -> Iterable[tuple[Labels, float]]:
    for name, service in sorted(known.services.items()):
        yield {"service": name}, float(service.retries_off_since_at is None)


def _counted(known: World, total: str) -> Iterable[tuple[Labels, float]]:
    for service, slot in known.slots():
        if service.desired.service.listen is not None:
            yield {"service": service.name, "slot": str(slot.slot)}, getattr(slot.totals, total)
