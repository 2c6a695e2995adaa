"""What disturbs a simulated day now: spells begin and end, and do what they do to the world.

A pause of the monitor holds its callbacks on the loop, as SIGSTOP does; a pause of a replica delays its requests, its
answers to the monitor, and for every other one the kernel says that it is stopped. Rates and response times follow from
what is in force (`crowd`). Neighbours: `weather` drew the spells, `day` reads more closely around them.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

from perdure.control.monitor import Monitor
from perdure.detect import self_health
from perdure.model.replica import Slot
from perdure.sim.crowd import Crowd, Ill
from perdure.sim.kernel import Kernel, Runs
from perdure.sim.trace import Trace
from perdure.sim.weather import NAME, Kind, Spell

CLOSE_S = 3.0
"""So long after a disturbance has begun or ended everything is read closely."""
LINGERS_S = 30.0
"""What happens so long after a disturbance is put down to it."""
CALM = "none"


@dataclass(slots=True)
class DozingMonitor(Monitor):
    """The monitor; that it runs needs no noting while nothing keeps it from running."""

    dozed_since_at: float | None = None
    """When it was last seen to run before the present pause."""

    def note_awake(self) -> None:
        """Note that the monitor runs again; tells of the pause that this ends."""
        if self.dozed_since_at is not None:
            self.awake = self_health.Wakefulness(self.dozed_since_at, self.awake.pauses)
            self.dozed_since_at = None
            Monitor.note_awake(self)


@dataclass(slots=True)
class Sky:
    """The spells in force; `owner` is the daemon's number on the loop."""

    kernel: Kernel
    crowd: Crowd
    monitor: DozingMonitor
    trace: Trace
    owner: int
    glance: Callable[[], None] = lambda: None
    """HAProxy is read once more before a disturbance begins."""
    close_until_at: float = 0.0
    """Up to here everything is read closely."""
    dozed: bool = False
    """The monitor was paused since its last reading; who reads takes this back."""
    bad: int = 0
    """The slot with a replica that has something wrong; 0: none."""
    _over: list[Spell] = field(default_factory=list)
    """Spells that ended a moment ago."""

    def begin(self, spell: Spell) -> None:
        """A disturbance begins; what it does at once is done."""
        now = self.kernel.loop.time()
        self.crowd.advance(now)
        if self.monitor.dozed_since_at is None:
            self.glance()
        self._attend(now, spell)
        self.crowd.in_force.append(spell)
        self.crowd.changed()
        if spell.kind is Kind.MONITOR:
            if self.monitor.dozed_since_at is None:
                self.monitor.dozed_since_at = now - self_health.TICK_S * self.crowd.random.random()
            self.dozed = True
            self.kernel.loop.freeze(self.owner)
        elif spell.kind is Kind.PAUSE:
            self._pause(spell, now)
        elif spell.kind is Kind.SINGLE:
            self._single(spell, now)

    def end(self, spell: Spell) -> None:
        """A disturbance is over."""
        now = self.kernel.loop.time()
        self.crowd.advance(now)
        self._attend(now, spell)
        self.crowd.in_force.remove(spell)
        self._over = [one for one in self._over if now - one.until_at < LINGERS_S]
        self._over.append(spell)
        self.crowd.changed()
        if spell.kind is Kind.MONITOR and not any(one.kind is Kind.MONITOR for one in self.crowd.in_force):
            self.kernel.loop.thaw(self.owner)
        elif spell.kind is Kind.PAUSE:
            runs = self._runs(spell.number)
            if runs is not None:
                self.kernel.send(runs, "SIGCONT")

    def sicken(self, ill: Ill) -> None:
        """One replica falls ill, and stays so."""
        self.crowd.ill, self.bad = ill, ill.number
        self.trace.note(self.kernel.loop.time(), "fault", f"{NAME}/{ill.number} falls ill")

    def during(self) -> str:
        """The disturbances in force, or just over."""
        now = self.kernel.loop.time()
        names = {one.kind.value for one in self.crowd.in_force}
        names |= {one.kind.value for one in self._over if now - one.until_at < LINGERS_S}
        return "+".join(sorted(names)) or CALM

    def _attend(self, now: float, spell: Spell) -> None:
        """What is short is read closely throughout, what lasts while it begins and ends."""
        short = spell.until_at - now < CLOSE_S
        self.close_until_at = max(self.close_until_at, (spell.until_at if short else now) + CLOSE_S)

    def _pause(self, spell: Spell, now: float) -> None:
        """The kernel stops every other one (state T); the others collect their garbage."""
        self.crowd.pause(spell.number - 1, now, spell.until_at)
        runs = self._runs(spell.number)
        if runs is not None and spell.choice < 0.5:
            self.kernel.send(runs, "SIGSTOP")

    def _single(self, spell: Spell, now: float) -> None:
        runs = self._runs(spell.number)
        if spell.choice < 0.5 or runs is None:
            self.crowd.single(now)
        else:
            runs.behaviour.single_errors += 1

    def _runs(self, number: int) -> Runs | None:
        return self.kernel.in_slot(Slot(NAME, number))
