"""Plays one seed, or one plan: makes the world, lets time pass, and collects what was broken.

Neighbours: `plan` says what happens, `world` is where, `checkers` judge; `command` and the tests ask for runs.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass

from perdure.sim import checkers, commands, daemon, faults, plan, world
from perdure.sim.loop import DeadlockError
from perdure.sim.plan import Plan
from perdure.sim.world import Violation, Watcher, World

TRACE_SHOWN = 30


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a run went; `cpu_s` is what it cost, everything else is the same each time."""

    seed: int
    violations: tuple[Violation, ...]
    trace: tuple[str, ...]
    digest: str
    simulated_s: float
    cpu_s: float

    def told(self) -> str:
        """What was broken, for a person, with the last lines of the trace before the first violation."""
        lines = [f"seed {self.seed}: {len(self.violations)} promises broken"]
        lines += [f"  at {one.at:.3f} s, {one.checker}: {one.sentence}" for one in self.violations]
        first = next((index for index, line in enumerate(self.trace) if "BROKEN" in line), len(self.trace))
        lines += ["the last lines before the first one:", *self.trace[max(0, first - TRACE_SHOWN) : first + 1]]
        return "\n".join([*lines, f"replay it: perdure sim --seed {self.seed} --trace"])


def play(seed: int) -> Outcome:
    """Play the plan of a seed."""
    return perform(seed, plan.drawn(seed), checkers.all_checkers())


def perform(seed: int, drawn: Plan, watchers: Sequence[Watcher]) -> Outcome:
    """Play a plan with these checkers; `seed` decides what the plan leaves open."""
    began_s = time.process_time()
    made = prepared(seed, drawn, watchers)
    let_pass(made, drawn.until_at)
    finish(made)
    trace = made.trace
    cpu_s = time.process_time() - began_s
    return Outcome(seed, tuple(made.violations), tuple(trace.lines), trace.digest, made.now, cpu_s)


def prepared(seed: int, drawn: Plan, watchers: Sequence[Watcher]) -> World:
    """The world of a plan, with all its steps to come."""
    made = world.made(seed, drawn.services, watchers)
    made.quiet_at, made.settle_s = drawn.quiet_at, drawn.settle_s
    made.boot_s.update(drawn.boot_s)
    for name, traffic in drawn.traffic.items():
        made.clients.tallies[name].rate = traffic.rate
        made.clients.tallies[name].slow_share = traffic.slow_share
        made.clients.tallies[name].takes_s = traffic.takes_s
    for step in drawn.steps:
        doing = faults.do if step.what in faults.FAULTS else commands.do
        made.loop.call_at(step.at, doing, made, step)
    made.loop.outside(made.begin)
    return made


def let_pass(made: World, until_at: float) -> None:
    """Let virtual time pass up to an instant."""
    with daemon.overheard(made.heard):
        try:
            made.loop.run_until_at(until_at)
        except DeadlockError as error:
            made.broken("the loop", str(error))


def finish(made: World) -> None:
    """Let the checkers conclude, then end the daemon and see that nothing of it is left."""
    for watcher in made.watchers:
        watcher.finished(made)
    for sentence in made.loop.errors:
        made.broken("no bug in the control shell", sentence)
    with daemon.overheard(made.heard):
        made.loop.outside(made.daemon.kill)
        made.loop.settle()
    for name in made.loop.unfinished():
        made.broken("no task is left behind", name)
