"""From a seed to a run: which services there are, what is done to them and when, and how long it takes.

The steps come in random phases; after the last one there is a quiet tail in which the world must converge. Neighbours:
`faults` and `commands` do the steps, `run` plays the plan.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from random import Random

from perdure.model import deploy
from perdure.model.check import Check, CheckKind
from perdure.model.service import Address, Restart, Service
from perdure.recover import roll_out
from perdure.sim.commands import REPLICAS_MAX, VERBS
from perdure.sim.faults import ports_taken
from perdure.sim.step import Step

WARM_UP_S = 6.0
BUSY_S = 30.0
SETTLE_S = 15.0
"""Seconds from the last fault to full strength, boots and rolling restarts aside: a hang is found after 3, a restart
waits for at most 5, and a slot that flaps is held down."""
MARGIN_S = 5.0
ROLL_S = 3.0
BACKOFF_S_MAX = 4.0
TAKEN_S = 1.2 * BACKOFF_S_MAX + 0.5
"""What each port that is taken (F43) costs a slot that flapped before: the longest back-off, and a start in vain."""

LENGTHS_S = {
    "F2": (2.0, 12.0),
    "F8": (5.0, 20.0),
    "F10": (5.0, 20.0),
    "F28": (6.0, 15.0),
    "F40": (1.0, 1.0),
    "F41": (1.0, 15.0),
    "kill daemon": (0.5, 15.0),
    "power cut": (2.0, 5.0),
    "B1": (10.0, 10.0),
    "B5": (1.0, 2.0),
    "B10": (5.0, 15.0),
    "B12": (10.0, 20.0),
    "F21": (2.0, 12.0),
    "F22": (2.0, 12.0),
    "F23": (10.0, 20.0),
    "F24": (5.0, 12.0),
    "B3": (2.0, 8.0),
    "B9": (10.0, 20.0),
    "B13": (0.5, 3.0),
}
"""Shortest and longest; what is not here is done in an instant."""

HARMFUL = ("F1", "F1", "F2", "F3", "F3", "F8", "F10", "F28", "F40", "F41", "F42", "F43", "kill daemon", "power cut")
BENIGN = ("B1", "B4", "B5", "B10", "B11", "B12")
HARD = ("F1", "F3", "B4", "B5", "F41", "kill daemon")
"""What must not cost a request, as long as one healthy replica is there."""

BETWEEN = ("F21", "F22", "F23", "F24", "B3", "B9", "B13")
BLIND = frozenset({"B3", "B13"})
"""The first takes the monitor's sight, the second everybody's: together they leave nobody who could tell a path that
is lost from replicas that hang. See `docs/limits.md`.
"""
BLIND_MARGIN_S = 5.0
BETWEEN_SHARE = 0.3
"""In so many plans the network fails as well; a generator of its own leaves the others what they are."""


DEPLOY = deploy.Deploy(
    steps=(deploy.Step(0.25, 3.0), deploy.Step(0.5, 3.0)),
    bake_s=3.0,
    stable_s=1.0,
    exposure=0,
    watch_s=4.0,
    warm_s=2.0,
    deadline_s=15.0,
)
"""Rollouts in minutes would be all that a run of a minute sees."""


@dataclass(frozen=True, slots=True)
class Traffic:
    """The clients of one service: requests a second, the share of slow ones, and how long the others take."""

    rate: float
    slow_share: float
    takes_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Plan:
    """Everything about one run; boot times are in seconds by service."""

    services: tuple[Service, ...]
    boot_s: dict[str, float]
    traffic: dict[str, Traffic]
    steps: tuple[Step, ...]
    settle_s: float
    """How long it may take after the last step until everything is as it should be."""

    @property
    def until_at(self) -> float:
        """When the run ends."""
        return self.quiet_at + self.settle_s + MARGIN_S

    @property
    def quiet_at(self) -> float:
        """When the last step is over."""
        return max([0.0, *(step.at + step.length_s for step in self.steps)])


def drawn(seed: int) -> Plan:
    """The plan of a seed."""
    random = Random(f"plan {seed}")
    services = [_service(name, random) for name in ("web", "api", "worker")[: random.choice((1, 1, 2, 2, 3))]]
    deploys = Random(f"deploys {seed}")
    services = [
        replace(one, deploy=replace(DEPLOY, strategy=deploys.choice(list(deploy.Strategy)))) for one in services
    ]
    boot_s = {one.name: random.choice((0.2, 0.5, 0.5, 1.5, 8.0)) for one in services}
    traffic = {
        one.name: Traffic(random.choice((0.5, 5.0, 20.0, 40.0)), random.choice((0.0, 0.02)))
        for one in services
        if one.listen is not None
    }
    kinds = random.choice((HARMFUL, HARMFUL, HARD, BENIGN, BENIGN + HARMFUL, HARMFUL + VERBS, BENIGN + VERBS, VERBS))
    begin_at = WARM_UP_S + max(boot_s.values())
    steps = [_step(random.choice(kinds), begin_at, services, random) for _ in range(random.randint(1, 6))]
    network = Random(f"the network between {seed}")
    if network.random() < BETWEEN_SHARE:
        between = [_step(network.choice(BETWEEN), begin_at, services, network) for _ in range(network.randint(1, 2))]
        steps += between if not _blinds_both(between) else between[:1]
    steps.sort(key=lambda step: step.at)
    return Plan(tuple(services), boot_s, traffic, tuple(steps), _settle_s(steps, max(boot_s.values())))


def _blinds_both(steps: Sequence[Step]) -> bool:
    """Whether two of these steps take the sight of both observers at about the same time."""
    if {step.what for step in steps} != BLIND:
        return False
    first, second = sorted(steps, key=lambda step: step.at)
    return second.at < first.at + first.length_s + BLIND_MARGIN_S


def _settle_s(steps: Sequence[Step], boot_s: float) -> float:
    """A rolling restart takes its time: each replica is drained, ended, and boots, and one of a new release proves
    itself. What comes after the last replica of a rollout, and how long one may last that gets nowhere, is in DEPLOY.
    """
    rolls = sum(1 for step in steps if step.what in ("restart", "apply"))
    releases = sum(1 for step in steps if step.what == "apply")
    proving_s = REPLICAS_MAX * roll_out.PROVEN_S + DEPLOY.deadline_s + DEPLOY.watch_s
    one_after_the_other_s = REPLICAS_MAX * rolls * (1.2 * boot_s + ROLL_S) + releases * proving_s
    taken_s = TAKEN_S * sum(ports_taken(step) for step in steps if step.what == "F43")
    return SETTLE_S + 2.0 * boot_s + one_after_the_other_s + taken_s


def _service(name: str, random: Random) -> Service:
    checks: Sequence[Check] = random.choice(
        (
            (Check(CheckKind.HTTP, "/healthz"),),
            (Check(CheckKind.HTTP, "/healthz"),),
            (Check(CheckKind.HTTP, "/healthz"), Check(CheckKind.HTTP, "/orders", interval_s=2.0)),
            (),
        )
    )
    number = ("web", "api", "worker").index(name)
    return Service(
        name,
        ("serve", name),
        replicas=random.choice((1, 2, 3, 3, 4, 6)),
        listen=Address("127.0.0.1", 8000 + number) if name != "worker" else None,
        checks=tuple(checks) if name != "worker" else (),
        restart=Restart(
            backoff_s_max=BACKOFF_S_MAX,
            stop_timeout_s=random.choice((1.0, 3.0)),
            start_timeout_s=10.0,
            drain_timeout_s=5.0,
        ),
    )


def _step(what: str, begin_at: float, services: Sequence[Service], random: Random) -> Step:
    service = random.choice(services)
    shortest_s, longest_s = LENGTHS_S.get(what, (0.0, 0.0))
    return Step(
        what,
        begin_at + BUSY_S * random.random(),
        service.name,
        random.randint(1, service.replicas),
        shortest_s + (longest_s - shortest_s) * random.random(),
        random.random(),
    )
