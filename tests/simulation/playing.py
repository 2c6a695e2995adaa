"""Small worlds for scenarios: one service, a few steps by hand, and questions to the trace about what happened when."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

from perdure.model.check import Check, CheckKind
from perdure.model.service import Address, Restart, Service
from perdure.sim import checkers, plan, run
from perdure.sim.step import Step
from perdure.sim.world import Watcher, World

WEB = Service(
    "web",
    ("serve",),
    replicas=3,
    listen=Address("127.0.0.1", 8080),
    checks=(Check(CheckKind.HTTP, "/healthz"),),
    restart=Restart(stop_timeout_s=3.0, drain_timeout_s=5.0),
)


@dataclass(slots=True)
class Played:
    """A world after its run."""

    world: World

    @property
    def lines(self) -> list[str]:
        return self.world.trace.lines

    def instants(self, pattern: str) -> list[float]:
        """When the lines of the trace that match `pattern` were written, in virtual seconds."""
        return [float(line[:10]) for line in self.lines if re.search(pattern, line)]

    def first(self, pattern: str, after: float = 0.0) -> float:
        """The first instant after `after`."""
        found = [at for at in self.instants(pattern) if at >= after]
        assert found, f"no line matches {pattern!r} after {after}:\n" + "\n".join(self.lines)
        return found[0]

    @property
    def reactions(self) -> list[str]:
        """What Perdure did against replicas."""
        return [line for line in self.lines if re.search(r" event +(R01|R06|R11|R12|R13|R14|R15|P02|P03|P08) ", line)]

    @property
    def broken(self) -> list[str]:
        return [f"{one.at:.3f} {one.checker}: {one.sentence}" for one in self.world.violations]

    @property
    def failed(self) -> int:
        return sum(tally.failed for tally in self.world.clients.tallies.values())


def played(
    *steps: Step,
    service: Service = WEB,
    until_at: float = 40.0,
    rate: float = 40.0,
    boot_s: float = 0.4,
    slow_share: float = 0.0,
    takes_s: float = 0.0,
    watchers: Sequence[Watcher] | None = None,
    seed: int = 1,
) -> Played:
    """Play these steps in a world of one service."""
    traffic = {service.name: plan.Traffic(rate, slow_share, takes_s)}
    quiet_at = max([0.0, *(step.at + step.length_s for step in steps)])
    drawn = plan.Plan(
        (service,), {service.name: boot_s}, traffic, tuple(steps), max(1.0, until_at - quiet_at - plan.MARGIN_S)
    )
    world = run.prepared(seed, drawn, checkers.all_checkers() if watchers is None else watchers)
    run.let_pass(world, until_at)
    run.finish(world)
    return Played(world)


def at(what: str, at: float, number: int = 1, length_s: float = 0.0, choice: float = 0.0) -> Step:
    """One step about `web/NUMBER`."""
    return Step(what, at, "web", number, length_s, choice)


def with_replicas(replicas: int) -> Service:
    return replace(WEB, replicas=replicas)
