"""Relations of a service's `files` and `deploy`: what belongs together, and what this service cannot do.

Whether two releases can run side by side is decided where rollouts are (`recover.roll_out`), and asked here, so that
the file and the daemon say the same. Called by `relations` for each service.
"""

from collections.abc import Iterator

from perdure.config import build, explain, schema, units
from perdure.config.explain import Location
from perdure.config.reading import Reading
from perdure.model import service as model
from perdure.model.deploy import BAKE_SHARE, Strategy
from perdure.model.errors import Problem
from perdure.recover import rollout_facts

_BESIDE = ("bake", "exposure", "warm")
"""Keys that need two releases side by side."""


def problems(reading: Reading, name: str, service: schema.Service) -> Iterator[Problem]:
    """Yield what does not fit together in one service."""
    at: Location = ("service", name)
    if service.exclude and "files" not in service.model_fields_set and reading.sound(*at, "files"):
        yield Problem(
            explain.path_text((*at, "exclude")),
            "has a meaning only with `files`",
            'add files = ".", the whole directory',
        )
    if explain.value_at(reading.raw, (*at, "deploy")) is None:
        return
    if all(reading.sound(*at, key) for key in ("mode", "port", "listen")):
        yield from _strategy(reading, at, service)
        yield from _data(reading, at, service)
    yield from _steps(reading, at, service)
    yield from _tests(reading, at, service)
    yield from _times(reading, at, service)


def why_not_beside(service: schema.Service) -> str:
    """Why two releases of a service cannot run side by side; empty: they can."""
    mode = model.Mode(service.mode)
    return rollout_facts.why_not_beside(
        model.Service("", service.command, mode=mode, port=service.port, listen=service.listen)
    )


def _followed(service: schema.Service) -> Strategy:
    """The strategy that a deploy of this service follows, whatever is declared."""
    return Strategy.ROLLING if why_not_beside(service) else Strategy(service.deploy.strategy or Strategy.CANARY)


def _strategy(reading: Reading, at: Location, service: schema.Service) -> Iterator[Problem]:
    """A service in whose slots one release follows the other has no shares, and nobody who stands by."""
    at, deploy = (*at, "deploy"), service.deploy
    if not reading.sound(*at, "strategy"):
        return
    why = why_not_beside(service)
    if why and deploy.strategy not in (None, Strategy.ROLLING):
        yield Problem(
            explain.path_text((*at, "strategy")),
            f'cannot be "{deploy.strategy}": {why}',
            "remove it; the replicas of such a service are replaced one after the other",
        )
    if service.listen is None and deploy.max_errors is not None:
        path = explain.path_text((*at, "max_errors"))
        yield Problem(path, "has no meaning without `listen`: there are no requests that could fail", "remove it")
    strategy = _followed(service)
    because = f"this service is rolled in place ({why})" if why else f'strategy is "{strategy}"'
    without: tuple[str, ...] = _BESIDE if strategy is Strategy.ROLLING else ()
    if service.mode == model.Mode.ACTIVE_PASSIVE and service.standby == model.Standby.WARM:
        without = tuple(key for key in without if key != "warm")  # the old one goes on standing by
    for key in ("steps", *without) if strategy is not Strategy.CANARY else ():
        if key in deploy.model_fields_set:
            yield Problem(explain.path_text((*at, key)), f"has no meaning: {because}", "remove it")


def _data(reading: Reading, at: Location, service: schema.Service) -> Iterator[Problem]:
    if service.deploy.data == "breaking" and service.mode != model.Mode.ACTIVE_PASSIVE:
        yield Problem(
            explain.path_text((*at, "deploy", "data")),
            'can be "breaking" only with mode = "active-passive": Perdure has no state of other services to go back to',
            "remove it, and let the new release write what the one before can read",
        )


def _steps(reading: Reading, at: Location, service: schema.Service) -> Iterator[Problem]:
    """Shares grow from step to step, up to that of the bake."""
    at, steps = (*at, "deploy", "steps"), service.deploy.steps
    if steps is None or not reading.sound(*at) or _followed(service) is not Strategy.CANARY:
        return
    if not steps:
        hint = 'strategy = "blue-green" lets a new release have all requests at once'
        yield Problem(explain.path_text(at), "must hold at least one step", hint)
    for index, step in enumerate(steps):
        path = explain.path_text((*_item(reading, at, index), "share"))
        shown = f'(got "{units.share_text(step.share)}")'
        if index and step.share <= steps[index - 1].share:
            before = units.share_text(steps[index - 1].share)
            yield Problem(path, f"must be more than the {before} of the step before {shown}", "sort the steps")
        elif step.share >= BAKE_SHARE and service.deploy.bake > 0.0 and reading.sound(*at[:-1], "bake"):
            sentence = f"must be less than the {units.share_text(BAKE_SHARE)} of the bake, which comes last {shown}"
            yield Problem(path, sentence, 'remove this step, or leave the bake out with bake = "0s"')


def _tests(reading: Reading, at: Location, service: schema.Service) -> Iterator[Problem]:
    at = (*at, "deploy", "test")
    raw = explain.value_at(reading.raw, at)
    for index, table in enumerate(raw if isinstance(raw, list) else [raw]):
        if not isinstance(table, dict):
            continue
        here = _item(reading, at, index)
        ways = [way for way in ("command", "http") if way in table]
        if len(ways) != 1:
            sentence = f"must have exactly one of command and http (got {' and '.join(ways) or 'none'})"
            yield Problem(explain.path_text(here), sentence, "for several, [[...deploy.test]] each")
            continue
        for key in ("method", "expect"):
            if key in table and ways == ["command"]:
                path = explain.path_text((*here, key))
                yield Problem(path, "is only for http (got command)", "a command answers by its exit code")


def _times(reading: Reading, at: Location, service: schema.Service) -> Iterator[Problem]:
    """What is waited for must be able to come before the rollout is given up."""
    at, deploy = (*at, "deploy"), service.deploy
    given = deploy.model_fields_set
    if {"warm", "watch"} <= given and deploy.warm > deploy.watch:
        yield Problem(
            explain.path_text((*at, "warm")),
            f'must be at most watch = "{units.duration_text(deploy.watch)}", after which the rollout is over'
            f' (got "{units.duration_text(deploy.warm)}")',
            "raise watch",
        )
    start_timeout_s = service.restart.start_timeout
    if not (reading.sound(*at, "deadline") and reading.sound(*at[:-1], "restart") and reading.sound(*at, "stable")):
        return
    deadline_s = build.deadline_s(deploy, start_timeout_s)
    default = "" if "deadline" in given else ", the default"
    shorter = f'must be shorter than deadline = "{units.duration_text(deadline_s)}"{default}'
    if deploy.stable >= deadline_s:
        got = units.duration_text(deploy.stable)
        yield Problem(explain.path_text((*at, "stable")), f'{shorter} (got "{got}")', "raise deadline")
    for index, test in enumerate(deploy.test if reading.sound(*at, "test") else ()):
        if "timeout" in test.model_fields_set and test.timeout >= deadline_s:
            path = explain.path_text((*_item(reading, (*at, "test"), index), "timeout"))
            yield Problem(path, f'{shorter} (got "{units.duration_text(test.timeout)}")', "raise deadline")


def _item(reading: Reading, at: Location, index: int) -> Location:
    """Where one of several tables is; a single one may be written without a list."""
    return (*at, index) if isinstance(explain.value_at(reading.raw, at), list) else at
