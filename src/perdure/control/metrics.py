"""The metrics for Prometheus, in its text format and with its usual naming: `perdure_`, base units, `_total` for
counters.
"""

from collections.abc import Iterable, Mapping

from perdure.control.world import World
from perdure.model.replica import State

Labels = Mapping[str, str]


def render(known: World, daemon: Mapping[str, float], balancer_up: bool) -> str:
    """The whole page; `daemon` has uptime_s, loop_age_s, cpu_s, memory_bytes, store_up."""
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
    return "\n".join(lines) + "\n"


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
