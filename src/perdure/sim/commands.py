"""Users of a simulated world: commands through the real controller, and what must come of those it acknowledged."""

from collections.abc import Callable, Coroutine
from dataclasses import replace
from typing import Any

from perdure.control import release_records
from perdure.control.assemble import Desk
from perdure.control.releasing import Wishes
from perdure.model.service import Deployment, Service
from perdure.sim.step import Step
from perdure.sim.world import PORTS, Command, World

VERBS = ("restart", "restart slot", "drain", "undrain", "scale", "apply")
REPLICAS_MAX = 6


def do(world: World, step: Step) -> None:
    """Ask the daemon for `step.what` (one of VERBS); nobody is asked while it is away."""
    argument = 1 + int(step.choice * REPLICAS_MAX)
    asked_at, verb = world.now, step.what
    target = step.service if verb in ("restart", "scale", "apply") else f"{step.service}/{step.number}"
    world.asking[step.service] = None
    if verb == "apply":
        _edit(world, step)

    def done(problem: str) -> None:
        acknowledged_at = None if problem else world.now
        world.commands.append(Command(verb, target, argument, asked_at, acknowledged_at))
        world.note("act", f"{verb} {target} {argument}: {problem or 'acknowledged'}")

    world.note("act", f"a user asks: {verb} {target} {argument}")
    if not world.daemon.ask(lambda desk: _call(world, desk, verb, target, argument), done):
        world.note("act", "nobody answers")
        world.commands.append(Command(verb, target, argument, asked_at, None))


def _call(world: World, desk: Desk, verb: str, target: str, argument: int) -> Coroutine[Any, Any, list[str]]:
    controller = desk.controller
    calls: dict[str, Callable[[], Coroutine[Any, Any, list[str]]]] = {
        "restart": lambda: controller.restart(target),
        "restart slot": lambda: controller.restart(target),
        "drain": lambda: controller.drain(target),
        "undrain": lambda: controller.undrain(target),
        "scale": lambda: controller.scale(target, argument),
        "apply": lambda: _applied(world, desk, target),
    }
    return calls[verb]()


async def _applied(world: World, desk: Desk, name: str) -> list[str]:
    """What a user does after editing the file: deploy what is another release, and reload what is not."""
    runs = (await desk.controller.read(name)).service
    if release_records.same(runs, world.services[name]):
        return await desk.controller.apply(Deployment(tuple(world.services.values()), PORTS))
    return await desk.releasing.deploy(world.services, [name], Wishes(force=True))


def _edit(world: World, step: Step) -> None:
    """Change the declared service: its environment (a new release), its number of replicas, or its retries."""
    before = world.services[step.service]
    edited: Service
    if step.choice < 0.5:
        edited = replace(before, environment=(("EDITED", f"{world.now:.3f}"),))
    elif step.choice < 0.75:
        edited = replace(before, replicas=1 + int(step.choice * 1000) % REPLICAS_MAX)
    else:
        edited = replace(before, retry=replace(before.retry, deadline_s=before.retry.deadline_s + 1.0))
    world.services[step.service] = edited
