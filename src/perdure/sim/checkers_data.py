"""What Perdure promises of the state of active-passive services: what was acknowledged is there, whoever is active.

The checker is a client of its own: a few times a second it writes a word to the replica that is active and serves, and
holds it to be acknowledged. Words may be missing only after the state of a slot could not be read any more, and then no
more of them than `every` and one snapshot allow. Neighbours: `keeper` holds the words, `checkers_owner` watches who is
active.
"""

from dataclasses import dataclass, field

from perdure.model.event import Event
from perdure.sim.kernel import Runs
from perdure.sim.world import Watcher, World

SLACK_S = 3.0
"""What a snapshot takes, and the rest that follows it, at most in these worlds."""


@dataclass(slots=True)
class _Book:
    """What was acknowledged for one service: word -> when."""

    words: dict[str, float] = field(default_factory=dict)
    unreadable_at: float | None = None
    """When the last state of a slot was told to be unreadable."""


class NothingLost(Watcher):
    """Promise 4: no acknowledged write is lost by a handover or a death, and few when a state is damaged."""

    def __init__(self) -> None:
        self._books: dict[str, _Book] = {}
        self._written = 0

    @property
    def written(self) -> int:
        """How many words were acknowledged."""
        return self._written

    def decided(self, world: World, event: Event) -> None:
        """The last changes of a slot could not be copied: some may be missing."""
        if event.rule == "D05":
            self._book(event.subject.partition("/")[0]).unreadable_at = world.now

    def sampled(self, world: World) -> None:
        """Look at what the active replicas have, and write something to each."""
        for runs in world.kernel.living():
            service = world.services[runs.slot.service]
            duty = world.daemon.machine.roles.get(str(runs.slot))
            active = duty is not None and duty.role == "active"
            if service.state is not None and active and runs.well and _gets_requests(world, runs):
                self._look(world, runs, service.state.every_s)
                self._written += 1
                word = f"{runs.slot.service} {self._written}"
                world.daemon.machine.states.write(str(runs.slot), word)
                self._book(runs.slot.service).words[word] = world.now

    def _look(self, world: World, runs: Runs, every_s: float) -> None:
        book = self._book(runs.slot.service)
        held = set(world.daemon.machine.states.states.get(str(runs.slot), ()))
        missing = {word: at for word, at in book.words.items() if word not in held}
        if not missing:
            agent = world.daemon.agent
            if agent is not None and not agent.world.services[runs.slot.service].lossy:
                book.unreadable_at = None  # it could be copied since
            return
        newest = max(book.words.values())
        if book.unreadable_at is None:
            world.broken("NothingLost", f"{runs.slot} lacks {len(missing)} acknowledged words")
        elif min(missing.values()) < newest - every_s - SLACK_S:
            lost_s = newest - min(missing.values())
            world.broken("NothingLost", f"{runs.slot} lacks {lost_s:.2f} s of words, with a snapshot each {every_s} s")
        book.unreadable_at = None
        for word in missing:
            del book.words[word]

    def _book(self, service: str) -> _Book:
        return self._books.setdefault(service, _Book())


def _gets_requests(world: World, runs: Runs) -> bool:
    current = world.front.current
    backend = current.backends.get(runs.slot.service) if current is not None and current.working else None
    return backend is not None and any(one.port == runs.port and one.open for one in backend.servers)
