"""Simulated days at the level of evidence: how often is a replica isolated that has nothing wrong?

The simulation of `world` plays processes, sockets and the whole control shell, which is too much work for a thousand
days of a replica. Here the requests are drawn as what HAProxy would count of them (`crowd`), and from there on
everything is real: `control.observe`, `control.sample`, the asking part of `control.monitor`, `control.turn` with all
deciders, and `control.execute`; so what isolates here isolates in production.

What is simpler than in the daemon, and why that is no help to it. HAProxy is read ten times a second while something
happens (a failure, a retry, a disturbance beginning or ending, and a while more), and five times while a request takes
long; otherwise its log is looked at each second, lines that only say that all is well wait for up to 5 s (`lull`), and
so do the counters: good answers alone raise no score. A request that takes long is so noticed up to a second late. A
turn that cannot decide anything (`quiet`) is taken only every 10 s. That the monitor runs is noted only where it was
paused. The process table is looked at only for a replica that is paused, and for descriptors and memory every 10 s,
which is all that forecasts keep. The store, the recorder, HAProxy's configuration and its slow checks are left out.
Readmitted replicas get their full share at once.

Neighbours: `weather` draws the day, `crowd` the requests, `questions` answers the monitor; `bench.days` runs a thousand
of them.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from random import Random
from typing import Any

from perdure.control.execute import Executor
from perdure.control.observe import Observer
from perdure.control.world import ServiceState, SlotState, World
from perdure.detect import self_health, suspect
from perdure.model.check import Check, CheckKind
from perdure.model.evidence import Exited
from perdure.model.service import Address, Heartbeat, Limits, Service
from perdure.model.standing import Desired
from perdure.sim import weather
from perdure.sim.clock import SimulatedClock
from perdure.sim.crowd import Crowd, Ill, Tap
from perdure.sim.day import Day, Found
from perdure.sim.kernel import Behaviour, Kernel
from perdure.sim.life import Life
from perdure.sim.loop import VirtualLoop
from perdure.sim.questions import DayProber
from perdure.sim.runner import SimulatedHost, SimulatedRunner
from perdure.sim.sky import DozingMonitor, Sky
from perdure.sim.trace import Trace
from perdure.sim.weather import DAY_S, NAME, Weather

PORTS = range(21_000, 21_400)
PIECE_S = 10.0
"""Between two questions whether the day may end early."""


AILMENTS: dict[str, dict[str, Any]] = {
    "5 % errors": {"error_share": 0.05},
    "20 % errors": {"error_share": 0.2},
    "5 times slower": {"slowness": 5.0},
    "500 at one endpoint": {"place": 0},
}
"""What is wrong with the replica of a trial: name -> fields of `Ill`."""
TRIAL_RATE = 20.0
"""Requests a second for each replica of a trial."""
WARM_UP_S = 300.0
WATCHED_S = 300.0


@dataclass(frozen=True, slots=True)
class Trial:
    """Was a replica isolated that is ill? `isolated_s` after it fell ill; None: not within `WATCHED_S`."""

    seed: int
    ailment: str
    isolated_s: float | None
    false: int
    """Acts against others."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one day."""

    seed: int
    replicas: int
    length_s: float
    requests: int
    found: tuple[Found, ...]
    suspected: int
    """How often a replica was suspected (R03), which changes nothing."""
    lines: tuple[str, ...]
    digest: str
    cpu_s: float

    @property
    def replica_days(self) -> float:
        """How much was simulated."""
        return self.replicas * self.length_s / DAY_S


def declared(drawn: Weather) -> Service:
    """The service as its users would declare it."""
    climate = drawn.climate
    return Service(
        NAME,
        ("serve",),
        replicas=climate.replicas,
        listen=Address("127.0.0.1", 8080),
        checks=(Check(CheckKind.HTTP, "/healthz"),),
        heartbeat=Heartbeat(climate.beat_every_s) if climate.beat_every_s is not None else None,
        limits=Limits(memory_bytes=climate.memory_bytes),
    )


def made(drawn: Weather) -> Day:
    """The world of a day, before it begins."""
    loop, random = VirtualLoop(), Random(f"{drawn.seed} requests")
    clock, life = SimulatedClock(loop), Life(1, lambda: None)
    kernel = Kernel(loop, random, lambda runs: None, lambda runs: None)
    crowd = Crowd(NAME, drawn, random, [Tap() for _ in range(drawn.climate.replicas)])
    service = declared(drawn)
    state = ServiceState(Desired(service, f"{NAME}@1", service.replicas), suspect.policy(service))
    services = World({NAME: state})
    runner, host = SimulatedRunner(kernel, life, lambda slot, port: Behaviour()), SimulatedHost()

    day: Day

    def environment(slot: SlotState) -> tuple[tuple[str, str], ...]:
        return ()

    def exited(one: Exited) -> None:
        day.exits.append(one)
        day.touch(NAME)

    observer = Observer(
        services, runner, lambda name: day.touch(name), lambda *words, **facts: day.tell(*words, **facts)
    )
    prober = DayProber(kernel, crowd, random)
    monitor = DozingMonitor(
        clock,
        prober,
        runner,
        host,
        services,
        observer.on_evidence,
        observer.on_pause,
        environment,
        self_health.Wakefulness(0.0),
    )
    observer.on_overdue = monitor.confirm
    executor = Executor(clock, runner, host, services, random.random, PORTS, environment, exited)
    trace = Trace()
    sky = Sky(kernel, crowd, monitor, trace, life.number)
    day = Day(loop, life, crowd, sky, trace, state, observer, executor)
    sky.glance = day.glance
    return day


def played(
    drawn: Weather,
    length_s: float = DAY_S,
    ill: Ill | None = None,
    ill_at: float = 0.0,
    until: Callable[[Day], bool] = lambda day: False,
) -> Outcome:
    """Let a day pass; `ill` from `ill_at` on. It ends early when `until` says so, which is asked every 10 s."""
    began_s = time.process_time()
    day = made(drawn)
    loop = day.loop
    for spell in drawn.spells:
        if spell.until_at <= length_s:
            loop.call_at(spell.at, day.sky.begin, spell)
            loop.call_at(spell.until_at, day.sky.end, spell)
    if ill is not None:
        loop.call_at(ill_at, day.sky.sicken, ill)
    loop.call_at(0.0, day.step, context=day.life.context)
    if drawn.climate.beat_every_s is not None:
        for number in range(1, drawn.climate.replicas + 1):
            loop.call_at(day.crowd.random.random(), day.beat, number, context=day.life.context)
    passed_s = 0.0
    while passed_s < length_s and not until(day):
        passed_s = min(length_s, passed_s + PIECE_S)
        loop.run_until_at(passed_s)
    assert not loop.errors, loop.errors
    trace = day.trace
    lines, cpu_s = tuple(trace.lines), time.process_time() - began_s
    replicas, requests = drawn.climate.replicas, day.crowd.sent
    return Outcome(
        drawn.seed, replicas, passed_s, requests, tuple(day.found), day.suspected, lines, trace.digest, cpu_s
    )


def tried(seed: int, ailment: str) -> Trial:
    """A service without disturbances, at 20 requests a second for each replica, of which one falls ill."""
    drawn = weather.drawn(seed)
    climate = replace(drawn.climate, peak_rate=TRIAL_RATE, steepness=0.0)
    random = Random(f"{seed} {ailment}")
    ill = Ill(random.randint(1, climate.replicas), **AILMENTS[ailment])
    ill_at = WARM_UP_S + PIECE_S * random.random()
    outcome = played(
        replace(drawn, climate=climate, spells=()),
        ill_at + WATCHED_S,
        ill=ill,
        ill_at=ill_at,
        until=lambda day: any(not one.wrong for one in day.found),
    )
    found = [one.at - ill_at for one in outcome.found if one.rule == "R01" and not one.wrong]
    return Trial(seed, ailment, found[0] if found else None, sum(one.wrong for one in outcome.found))
