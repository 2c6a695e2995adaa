"""What is done to the network between, by the names of the catalogue: what one machine cannot produce.

The monitor and HAProxy are on one side, the slot on the other: a new replica in the slot suffers as the one before did.
Neighbours: `link` says what gets through, `faults` does all other steps.
"""

from perdure.sim.link import EVERYBODY, Observer, Trouble
from perdure.sim.step import Doing, Step, later
from perdure.sim.world import World

LARGEST_BYTES = 1_400
"""What fits into one packet gets through a hole that swallows large ones."""
LARGE_SHARE = 0.1
LOST_SHARE_MIN, LOST_SHARE_MAX = 0.05, 0.30
LOST_SHARE_BASELINE = 0.01


def cut_off(world: World, step: Step) -> None:
    """F21: neither the monitor nor HAProxy reach the slot: questions hang, and connections time out."""
    world.harm(step.what, step.service, step.number, step.length_s)
    _trouble(world, step, Trouble(EVERYBODY, step.slot, lost_share=1.0))


def cut_off_from_one(world: World, step: Step) -> None:
    """F22: the monitor alone (`choice` below 0.5) or HAProxy alone does not reach the slot."""
    observer = Observer.MONITOR if step.choice < 0.5 else Observer.HAPROXY
    world.harm(step.what, step.service, step.number, step.length_s)
    _trouble(world, step, Trouble(frozenset({observer}), step.slot, lost_share=1.0))


def lost_share(step: Step) -> float:
    """Which share of the packets is lost in F23."""
    return LOST_SHARE_MIN + (LOST_SHARE_MAX - LOST_SHARE_MIN) * step.choice


def packet_loss(world: World, step: Step) -> None:
    """F23: 5 to 30 % of the packets to and from one slot are lost, and sent again 0.2, 0.4, ... s later.

    At 30 % every third answer is late, which the response times show within seconds. At 5 % it is every twentieth, and
    nearly none by more than 0.2 s: whether that is noticed depends on the traffic, and nothing is promised.
    """
    world.harm(step.what, step.service, step.number, step.length_s)
    _trouble(world, step, Trouble(EVERYBODY, step.slot, lost_share=lost_share(step)))


def large_answers_hang(world: World, step: Step) -> None:
    """F24: an answer that takes more than a packet never arrives; some clients ask for such."""
    world.harm(step.what, step.service, step.number, step.length_s)
    tally = world.clients.tallies.get(step.service)
    if tally is not None:
        tally.large_share = LARGE_SHARE
        world.loop.call_later(step.length_s, setattr, tally, "large_share", 0.0)
    _trouble(world, step, Trouble(EVERYBODY, step.slot, largest_bytes=LARGEST_BYTES))


def monitor_cut_off(world: World, step: Step) -> None:
    """B3: none of the monitor's questions gets through to anybody; HAProxy reaches all of them."""
    world.blind_until_at = max(world.blind_until_at, world.now + step.length_s)
    _trouble(world, step, Trouble(frozenset({Observer.MONITOR}), None, lost_share=1.0))


def baseline_loss(world: World, step: Step) -> None:
    """B9: one packet in a hundred is lost, to everybody."""
    _trouble(world, step, Trouble(EVERYBODY, None, lost_share=LOST_SHARE_BASELINE))


def reconvergence(world: World, step: Step) -> None:
    """B13: for some seconds nothing gets through to anybody, because the network finds new paths."""
    world.blind_until_at = max(world.blind_until_at, world.now + step.length_s)
    _trouble(world, step, Trouble(EVERYBODY, None, lost_share=1.0))


FAULTS: dict[str, Doing] = {
    "F21": cut_off,
    "F22": cut_off_from_one,
    "F23": packet_loss,
    "F24": large_answers_hang,
    "B3": monitor_cut_off,
    "B9": baseline_loss,
    "B13": reconvergence,
}


def _trouble(world: World, step: Step, trouble: Trouble) -> None:
    network = world.kernel.network
    network.troubles.append(trouble)
    later(world, step, lambda: network.troubles.remove(trouble))
