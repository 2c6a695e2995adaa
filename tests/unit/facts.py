"""Short ways to write down facts for the deciders: a service, a standing, a verdict; used by the unit tests."""

from typing import Any

from perdure.model.check import Check, CheckKind
from perdure.model.evidence import EvidenceClass
from perdure.model.replica import Process, Replica, Slot, State
from perdure.model.service import Address, Service
from perdure.model.standing import Desired, Standing
from perdure.model.verdict import Conviction, Sign, Verdict

HEALTHZ = Check(CheckKind.HTTP, path="/healthz")

EVIDENCE_OF = {
    Sign.STOPPED: EvidenceClass.PROCESS,
    Sign.MEMORY: EvidenceClass.LIMIT,
    Sign.SILENT: EvidenceClass.HEARTBEAT,
    Sign.REQUESTS: EvidenceClass.TRAFFIC,
}


def service(**changed: Any) -> Service:
    """Three replicas of `web` behind an address, asked for /healthz every second; `changed` replaces fields."""
    fields: dict[str, Any] = {
        "name": "web",
        "command": ("serve",),
        "replicas": 3,
        "listen": Address("127.0.0.1", 8080),
        "checks": (HEALTHZ,),
    }
    return Service(**(fields | changed))


def desired(declared: Service | None = None, **changed: Any) -> Desired:
    """What is wanted of a service when nothing special is."""
    wanted = declared or service()
    fields: dict[str, Any] = {"service": wanted, "release": "web@1", "replicas": wanted.replicas}
    return Desired(**(fields | changed))


def replica(number: int, state: State = State.READY, since_at: float = 0.0, **changed: Any) -> Replica:
    """The first run in a slot of `web`, with port 21000 + number and pid 1000 + number."""
    fields: dict[str, Any] = {
        "slot": Slot("web", number),
        "run": 1,
        "release": "web@1",
        "generation": 1,
        "port": 21_000 + number,
        "state": state,
        "since_at": since_at,
        "process": Process(1000 + number, 1),
    }
    return Replica(**(fields | changed))


def standing(number: int, state: State = State.READY, since_at: float = 0.0, **changed: Any) -> Standing:
    """How things stand with a slot of `web` whose replica is in `state`."""
    fields: dict[str, Any] = {"replica": replica(number, state, since_at)}
    return Standing(Slot("web", number), **(fields | changed))


def verdict(sign: Sign, score: float = 20.0, threshold: float = 10.0) -> Verdict:
    """A verdict by the evidence that usually shows the sign."""
    evidence = EVIDENCE_OF.get(sign, EvidenceClass.PROBE)
    endpoint = HEALTHZ.label if evidence is EvidenceClass.PROBE else ""
    return Verdict(evidence, sign, f"it is {sign.value}", endpoint, score, threshold)


def conviction(sign: Sign, at: float = 0.0) -> Conviction:
    """A conviction by the evidence that usually shows the sign."""
    why = verdict(sign)
    return Conviction(why.evidence, sign, why.endpoint, at, why.sentence)
