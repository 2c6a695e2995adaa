"""What makes a new release of a service riskier than it needs to be, and what would help.

Intuition: a bad release costs what reaches clients before it is noticed, and what is not undone when it goes back. So
ask whether it is tested before, compared while, and watched after it is let in, and whether all of it goes back. What
the file alone tells is judged always; memory, traffic, and the last rollout only when the daemon tells them.

Not judged: whether limits such as `exposure` fit the service, as long as its rollouts come to an end.
Neighbours: `weakness` asks, `control.doctor` gathers the facts, `recover.roll_out` is what all this is about.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from perdure.model.deploy import Strategy
from perdure.model.event import Severity
from perdure.model.finding import Finding
from perdure.model.service import Service

LONG_TIMES = 5.0
"""A step that lasts so many times as long as it is declared is felt."""
LONG_S = 600.0
"""And so much longer at least."""


@dataclass(frozen=True, slots=True)
class Seen:
    """What the machine and the daemon say of one service; None: not known."""

    requests_per_s: float | None = None
    replica_bytes: int | None = None
    """The memory of its largest replica."""
    free_bytes: int | None = None
    """Memory that the machine can still give away."""
    thrown_out: str = ""
    """The release that was rolled back, when nobody has acknowledged it."""
    cause: str = ""
    """Why it was."""


def judge(service: Service, seen: Seen) -> Iterator[Finding]:
    """The weaknesses of one service."""
    deploy = service.deploy
    if seen.thrown_out:
        sentence = f"{seen.thrown_out} was rolled back, and nobody has acknowledged it: {seen.cause}"
        remedy = f"perdure explain {service.name}; correct and deploy it anew, or: perdure acknowledge {service.name}"
        yield Finding("W31", Severity.WARNING, service.name, sentence, remedy)
    if service.files is None:
        sentence = (
            "its releases have no files of their own: the one before would run with whatever files are there then"
        )
        remedy = 'set files = "."; fine as it is for a program that is installed under a path with its version'
        yield Finding("W32", Severity.INFO, service.name, sentence, remedy)
    if service.listen is not None and not deploy.tests:
        sentence = "no test is run against a new release: what its checks do not ask, clients find out"
        remedy = f'add [service.{service.name}.deploy.test] with http = "/a/page/that/matters", or a command'
        yield Finding("W33", Severity.INFO, service.name, sentence, remedy)
    if service.listen is not None and deploy.watch_s <= 0.0:
        sentence = "a release is not watched after its rollout: one that turns bad then stays"
        yield Finding("W34", Severity.WARNING, service.name, sentence, 'set deploy.watch = "24h"')
    side_by_side = service.listen is not None and service.port is None and not service.one_active
    if side_by_side and deploy.strategy is Strategy.CANARY:
        yield from _traffic(service, seen)
    if side_by_side and deploy.strategy is not Strategy.ROLLING:
        yield from _memory(service, seen)


def _traffic(service: Service, seen: Seen) -> Iterator[Finding]:
    """Whether the steps come to an end with so few requests."""
    deploy = service.deploy
    if seen.requests_per_s is None or service.canary is not None or not deploy.steps:
        return
    step = min(deploy.steps, key=lambda one: one.share)
    needed = deploy.exposure / step.share
    if needed <= seen.requests_per_s * max(LONG_TIMES * step.for_s, step.for_s + LONG_S):
        return
    lasts = f"takes {needed / seen.requests_per_s / 3600.0:.1f} h" if seen.requests_per_s > 0.0 else "does not end"
    sentence = (
        f"with {seen.requests_per_s:.2g} requests a second, the step of {step.share:.0%} {lasts}:"
        f" a new release needs {deploy.exposure} requests in it"
    )
    remedy = f"add [service.{service.name}.canary] for synthetic requests, or set a smaller deploy.exposure"
    yield Finding("W35", Severity.WARNING, service.name, sentence, remedy)


def _memory(service: Service, seen: Seen) -> Iterator[Finding]:
    """Whether both releases fit side by side."""
    if seen.replica_bytes is None or seen.free_bytes is None:
        return
    if service.replicas * seen.replica_bytes <= seen.free_bytes:
        return
    sentence = (
        f"in a rollout {service.replicas} more of its replicas run, with {seen.replica_bytes / 1e6:.0f} MB each, and"
        f" {seen.free_bytes / 1e6:.0f} MB of memory are free"
    )
    yield Finding("W36", Severity.WARNING, service.name, sentence, 'set deploy.strategy = "rolling", or fewer replicas')
