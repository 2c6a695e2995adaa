"""What is not safe about the state of an active-passive service, and what would make it so.

Intuition: the state is lost when it was not where the copies are made of, when copies were not made or not followed,
or when they do not restore. Each finding is one of these, seen before it costs something. What the file alone tells is
judged always; the rest only as far as the daemon and the machine say, for unknown is no weakness.

Rejected: judging `every` against what a loss would cost, which only the user knows; `max_loss` is where it is said.
Neighbours: `weakness` asks, `control.doctor` gathers the facts.
"""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from perdure.model.event import Severity
from perdure.model.finding import Finding
from perdure.model.service import Service
from perdure.model.snapshot import Consistency, Keeping, StateKind

VARIABLE = "PERDURE_STATE"
LAG_S_MIN = 60.0
"""What a slot that stands by may always lack; below it is a matter of seconds that nobody would act on."""
LATE = 3.0
"""It lags far when it has missed so many snapshots."""


@dataclass(frozen=True, slots=True)
class Seen:
    """What the machine and the daemon say of the state of one service; None: not known."""

    key_exposed: bool = False
    """Others than the owner may read the key file."""
    missing: str = ""
    """The path of the active slot's state, when nothing is there although its replica serves."""
    outside: str = ""
    """Where that path leads, when it leaves the slot's directory by a symbolic link."""
    free_bytes: int | None = None
    """Where the snapshots are."""
    snapshots: int | None = None
    size_bytes: int | None = None
    took_s: float | None = None
    """Of the last snapshot."""
    proven_age_s: float | None = None
    """None: no snapshot that is kept was ever restored."""
    lags_s: Mapping[str, float | None] = field(default_factory=dict)
    """What each slot that stands by lacks of the present; None: it was never brought to a snapshot."""
    problem: str = ""
    """Why snapshots are not taken, or not followed."""


def judge(service: Service, seen: Seen) -> Iterator[Finding]:
    """The weaknesses of one service."""
    if not service.one_active:
        return
    if service.state is None:
        if service.replicas > 1:
            sentence = "its state is not declared, so it is not kept, and who takes over does not get it"
            remedy = f"add [service.{service.name}.state]: perdure docs state; fine as it is for a program without any"
            yield Finding("W18", Severity.INFO, service.name, sentence, remedy)
        return
    yield from _declared(service, service.state)
    yield from _where(service, service.state, seen)
    yield from _taken(service, service.state, seen)
    yield from _followed(service, service.state, seen)


def _declared(service: Service, keeping: Keeping) -> Iterator[Finding]:
    told = [*service.command, *(value for _, value in service.environment)]
    if keeping.kind is not StateKind.COMMAND and not any(VARIABLE in one for one in told):
        sentence = f"the command does not mention ${VARIABLE}: what it writes elsewhere is neither kept nor followed"
        remedy = f"let it write below ${VARIABLE}; fine as it is when the program reads {VARIABLE} from its environment"
        yield Finding("W19", Severity.INFO, service.name, sentence, remedy)
    if keeping.max_loss_s is not None and keeping.max_loss_s < keeping.every_s:
        sentence = (
            f"max_loss ({keeping.max_loss_s:g} s) is shorter than every ({keeping.every_s:g} s): when the last state"
            " cannot be read, hardly anybody may take over by himself"
        )
        remedy = f'set state.every = "{max(1.0, keeping.max_loss_s / 2):g}s", or a longer max_loss'
        yield Finding("W20", Severity.WARNING, service.name, sentence, remedy)
    if keeping.kind is StateKind.FILES and keeping.consistency is Consistency.NONE:
        sentence = "its files are copied while they are written: a snapshot may hold some of before and some of after"
        remedy = 'set state.consistency = "pause", or "command" with hooks of the program'
        yield Finding("W21", Severity.INFO, service.name, sentence, remedy)


def _where(service: Service, keeping: Keeping, seen: Seen) -> Iterator[Finding]:
    if seen.key_exposed:
        sentence = f"others may read the key file {keeping.key_file}: its snapshots are no secret"
        yield Finding("W22", Severity.ALARM, service.name, sentence, f"chmod 600 {keeping.key_file}")
    if seen.missing:
        sentence = f"its active replica serves, and there is nothing at {seen.missing}: it keeps its state elsewhere"
        remedy = f"correct state.path, or let the program write below ${VARIABLE}"
        yield Finding("W23", Severity.ALARM, service.name, sentence, remedy)
    if seen.outside:
        sentence = f"its state leads out of the slot's own directory, to {seen.outside}: all slots may share it"
        remedy = f"put it itself below ${VARIABLE}, without a symbolic link"
        yield Finding("W24", Severity.ALARM, service.name, sentence, remedy)


def _taken(service: Service, keeping: Keeping, seen: Seen) -> Iterator[Finding]:
    if seen.problem:
        sentence = f"snapshots are not taken, or not followed: {seen.problem}"
        yield Finding("W25", Severity.ALARM, service.name, sentence, f"perdure events {service.name}")
    if seen.free_bytes is not None and seen.size_bytes is not None and seen.free_bytes < 2 * seen.size_bytes:
        sentence = (
            f"{seen.free_bytes / 1e6:,.0f} MB are free where its snapshots are, and the next one with its proof may"
            f" need {2 * seen.size_bytes / 1e6:,.0f} MB"
        )
        yield Finding("W26", Severity.WARNING, service.name, sentence, "make room, or set a smaller state.keep")
    if seen.took_s is not None and 2 * seen.took_s > keeping.every_s:
        sentence = (
            f"a snapshot takes {seen.took_s:.1f} s and is followed by as long a rest: one each {2 * seen.took_s:.1f} s,"
            f" not each {keeping.every_s:g} s"
        )
        remedy = f'set state.every = "{math.ceil(2 * seen.took_s)}s" or more, so that the file says what a crash costs'
        yield Finding("W27", Severity.WARNING, service.name, sentence, remedy)
    if seen.snapshots and (seen.proven_age_s is None or seen.proven_age_s > keeping.drill_every_s):
        hours = "never" if seen.proven_age_s is None else f"{seen.proven_age_s / 3600:.1f} h ago"
        sentence = f"the last time that a snapshot was proven to restore: {hours}"
        remedy = f"perdure snapshot list {service.name}, then perdure snapshot verify {service.name} SNAPSHOT"
        yield Finding("W28", Severity.WARNING, service.name, sentence, remedy)


def _followed(service: Service, keeping: Keeping, seen: Seen) -> Iterator[Finding]:
    if not seen.snapshots or not seen.lags_s:
        return
    lags = {slot: math.inf if lag is None else lag for slot, lag in sorted(seen.lags_s.items())}
    most, loss = max(LAG_S_MIN, LATE * (keeping.every_s + 2 * (seen.took_s or 0.0))), keeping.max_loss_s
    late = [f"{slot} ({_lacks(lag)})" for slot, lag in lags.items() if lag > most]
    if late:
        sentence = f"what stands by does not follow: {', '.join(late)}"
        yield Finding("W29", Severity.WARNING, service.name, sentence, f"perdure events {service.name}")
    if loss is not None and loss >= keeping.every_s and min(lags.values()) > loss:
        sentence = f"all that stand by lack more than max_loss ({loss:g} s): if the last state is lost, none takes over"
        remedy = f"perdure events {service.name} says why; perdure promote {service.name} --accept-loss overrides it"
        yield Finding("W30", Severity.ALARM, service.name, sentence, remedy)


def _lacks(lag_s: float) -> str:
    return "never brought to one" if math.isinf(lag_s) else f"lacks {lag_s:.0f} s"
