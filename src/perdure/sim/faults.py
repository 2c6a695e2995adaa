"""What is done to a simulated world: the faults and disturbances of the catalogue, by their names there.

Each is a function of the world and a `Step`; it acts now, undoes itself after the step's length, and notes a `Harm`
when Perdure may react to it. A disturbance (B) notes none: whatever is done about it is a false alarm. `plan` schedules
the steps from a seed, scenarios by hand. What happens to the network between is in `faults_network`.
"""

from collections.abc import Callable

from perdure.model.replica import Exit
from perdure.model.traffic import Admin
from perdure.sim import faults_network
from perdure.sim.kernel import Behaviour, Runs
from perdure.sim.step import Doing, Step, later
from perdure.sim.world import World

BETWEEN_PAUSES_S = 5.0
SERVING_AFTER_S = 2.0
"""By then a program that can answer has been asked, and serves; one that never did has a minute to start."""


def do(world: World, step: Step) -> None:
    """Do it now."""
    world.note("fault", str(step))
    FAULTS[step.what](world, step)


def crash(world: World, step: Step) -> None:
    """F1: SIGKILL of the first process; its children, if it has any, live on."""
    one = _target(world, step)
    if one is not None:
        world.kernel.end(one, Exit(signal="SIGKILL"))


def crash_loop(world: World, step: Step) -> None:
    """F2: every program of the slot ends soon after its start."""

    def ill(behaviour: Behaviour) -> None:
        behaviour.crash_after_s = 0.02 + 0.6 * world.random.random()

    world.harm(step.what, step.service, step.number, step.length_s)
    world.ill[step.slot] = ill
    later(world, step, lambda: world.ill.pop(step.slot, None))
    crash(world, step)


def hang(world: World, step: Step) -> None:
    """F3: SIGSTOP, and nobody continues it; or a deadlock, which looks like idleness to all but an HTTP check."""
    one = _target(world, step)
    if one is not None:
        world.harm(step.what, step.service, step.number, 60.0)
        young = world.now < one.started_at + one.behaviour.boot_s + SERVING_AFTER_S
        if step.choice < 0.6 or young or not world.services[step.service].checks:
            world.kernel.send(one, "SIGSTOP")
        else:
            one.behaviour.ignores_term = step.choice > 0.8
            one.deadlocked_at = world.now


def errors(world: World, step: Step) -> None:
    """F8: a fifth of all requests is answered with an error."""
    one = _target(world, step)
    if one is not None:
        _afflict(world, step, one, lambda behaviour, on: setattr(behaviour, "error_share", 0.2 if on else 0.0))


def wrong_content(world: World, step: Step) -> None:
    """F10: status 200, and the wrong content."""
    one = _target(world, step)
    if one is not None:
        _afflict(world, step, one, lambda behaviour, on: setattr(behaviour, "wrong_content", on))


def balancer(world: World, step: Step) -> None:
    """F40: HAProxy is killed, hangs, or somebody changes its servers by hand."""
    front = world.front
    current = front.current
    if current is None or not current.alive:
        return
    world.harm(step.what, "-", None, step.length_s)
    current.since_at = world.now
    if step.choice < 0.4:
        front.died()
    elif step.choice < 0.7:
        current.stopped = True
    else:
        world.by_hand_at = world.now
        for backend in current.backends.values():
            for server in backend.servers[:: 1 + int(step.choice * 10) % 2]:
                if step.choice < 0.9:
                    server.admin = Admin.MAINT
                elif server.admin is not Admin.READY:
                    server.turn_ready(world.now)


def store(world: World, step: Step) -> None:
    """F41: the store is locked, or its disk is full."""
    world.shelf.failing_for_s = 2.0 if step.choice < 0.5 else 0.01

    def works() -> None:
        world.shelf.failing_for_s = None
        world.shelf.wake()

    later(world, step, works)


def stubborn(world: World, step: Step) -> None:
    """F42: the program ignores SIGTERM and has children; then the first process dies, or hangs."""
    one = _target(world, step)
    if one is None:
        return
    one.behaviour.ignores_term, one.children = True, 2
    if step.choice < 0.5:
        world.kernel.end(one, Exit(signal="SIGKILL"))
    elif step.choice < 0.8:
        hang(world, step)


def ports_taken(step: Step) -> int:
    """How many ports in a row somebody takes in F43."""
    return 1 + int(step.choice * 3)


def port_taken(world: World, step: Step) -> None:
    """F43: somebody takes the port before the next program of the slot binds it."""
    world.harm(step.what, step.service, step.number, 40.0)
    if world.services[step.service].listen is not None:
        world.stolen[step.slot] = ports_taken(step)
    crash(world, step)


def kill_daemon(world: World, step: Step) -> None:
    """SIGKILL of the daemon, now or between two of its next acts; a new one is started later."""
    daemon = world.daemon
    if step.choice < 0.5 or daemon.life is None:
        daemon.kill()
    else:
        daemon.life.fuse = int((step.choice - 0.5) * 40.0)
        world.loop.call_later(step.length_s * 0.5, daemon.kill)
    later(world, step, daemon.start)


def power_cut(world: World, step: Step) -> None:
    """Everything ends at once, and what was not on the disk is lost; after the boot the daemon is started."""
    world.harm(step.what, "", None, step.length_s)
    world.daemon.kill()
    world.front.died()
    for one in world.kernel.living():
        one.children = 0
        world.kernel.end(one, Exit(signal="SIGKILL"))
    world.kernel.noted.clear()
    world.shelf.lose_power()
    later(world, step, world.daemon.start)


def monitor_stopped(world: World, step: Step) -> None:
    """B1: the daemon does not run for some seconds."""
    world.daemon.freeze()
    later(world, step, world.daemon.thaw)


def clock_jump(world: World, step: Step) -> None:
    """B4: the wall clock jumps an hour."""
    world.clock.jumped_s += 3600.0 if step.choice < 0.5 else -3600.0


def pause(world: World, step: Step) -> None:
    """B5: one replica does not run for one to two seconds; two of them in a row would be another thing."""
    one = _target(world, step)
    if one is not None and world.now >= one.rested_until_at:
        one.rested_until_at = world.now + step.length_s + BETWEEN_PAUSES_S
        world.kernel.send(one, "SIGSTOP")
        later(world, step, lambda: world.kernel.send(one, "SIGCONT"))


def load(world: World, step: Step) -> None:
    """B6: five times as many requests as before."""
    tally = world.clients.tallies.get(step.service)
    if tally is not None:
        rate, tally.rate = tally.rate, 5.0 * tally.rate
        later(world, step, lambda: setattr(tally, "rate", rate))


def slower(world: World, step: Step) -> None:
    """B14: a backup makes everything 1.5 times slower, on all replicas."""
    tally = world.clients.tallies.get(step.service)
    if tally is not None:
        takes_s, tally.takes_s = tally.takes_s, 1.5 * tally.takes_s
        later(world, step, lambda: setattr(tally, "takes_s", takes_s))


def bad_requests(world: World, step: Step) -> None:
    """B10: clients send requests that no replica can answer."""
    tally = world.clients.tallies.get(step.service)
    if tally is not None:
        tally.bad_share = 0.02 + 0.3 * step.choice

        def normal() -> None:
            tally.bad_share = 0.0

        later(world, step, normal)


def single_error(world: World, step: Step) -> None:
    """B11: one answer of a perfect replica is an error."""
    one = _target(world, step)
    if one is not None:
        one.behaviour.single_errors = 1


def little_traffic(world: World, step: Step) -> None:
    """B12: hardly anybody asks, and one of those requests fails."""
    tally = world.clients.tallies.get(step.service)
    if tally is not None:
        rate, tally.rate, tally.bad_share = tally.rate, 0.3, 0.3

        def normal() -> None:
            tally.rate, tally.bad_share = rate, 0.0

        later(world, step, normal)


def shared_errors(world: World, step: Step) -> None:
    """F28: something that all replicas of a service need fails, and all of them answer with wrong content."""
    world.harm(step.what, step.service, None, step.length_s)
    ports = [one for one in world.kernel.living() if one.slot.service == step.service]
    for one in ports:
        one.behaviour.wrong_content = True
    slots = {one.slot: None for one in ports}
    for slot in slots:
        world.ill[slot] = lambda behaviour: setattr(behaviour, "wrong_content", True)

    def well() -> None:
        for slot in slots:
            world.ill.pop(slot, None)
        for one in world.kernel.living():
            if one.slot in slots:
                one.behaviour.wrong_content = False

    later(world, step, well)


FAULTS: dict[str, Doing] = {
    "F1": crash,
    "F2": crash_loop,
    "F3": hang,
    "F8": errors,
    "F10": wrong_content,
    "F28": shared_errors,
    "F40": balancer,
    "F41": store,
    "F42": stubborn,
    "F43": port_taken,
    "kill daemon": kill_daemon,
    "power cut": power_cut,
    "B1": monitor_stopped,
    "B4": clock_jump,
    "B5": pause,
    "B6": load,
    "B10": bad_requests,
    "B11": single_error,
    "B12": little_traffic,
    "B14": slower,
    **faults_network.FAULTS,
}


def _target(world: World, step: Step) -> Runs | None:
    one = world.kernel.in_slot(step.slot)
    if one is None:
        world.note("fault", f"nothing lives in {step.slot}")
    elif step.what.startswith("F"):
        world.harm(step.what, step.service, step.number, step.length_s)
    return one


def _afflict(world: World, step: Step, one: Runs, ill: Callable[[Behaviour, bool], None]) -> None:
    """The program misbehaves until the step is over, or it is replaced."""
    ill(one.behaviour, True)
    later(world, step, lambda: ill(one.behaviour, False))
