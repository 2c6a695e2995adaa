"""Commands about releases: `deploy`, `rollback`, `abort`, `promote-release`, `acknowledge`, `releases`, `diff`.

The daemon carries a rollout out by itself; `deploy` and `rollback` follow it (`following`), and the exit code says what
became of it. What is printed comes from `rollout_view` and `release_view`.
"""

import json
import time
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Annotated, Any

import typer

from perdure.cli import client as api
from perdure.cli import failure, following, options, terminal, waiting
from perdure.model import errors
from perdure.model.deploy import Strategy

TAKES_S = 3600.0
"""Copying the files of a release takes a while."""

Services = Annotated[
    list[str] | None, typer.Argument(metavar="[SERVICE]", help="Which; else all that differ from what runs.")
]
How = Annotated[
    Strategy | None,
    typer.Option("--strategy", metavar="STRATEGY", help="canary, rolling or blue-green; else as the file says."),
]
Message = Annotated[
    str | None,
    typer.Option("-m", "--message", metavar="TEXT", help="What is new in it, for those who look at it later."),
]
Observe = Annotated[bool, typer.Option("--observe", help="Tell every verdict, and act on none.")]
Force = Annotated[bool, typer.Option("--force", help="Also what was rolled back before, and what runs already.")]
Anyway = Annotated[bool, typer.Option("--force", help="Also to a release that was rolled back itself.")]
Detach = Annotated[bool, typer.Option("--detach", help="Return as soon as the daemon has recorded it.")]
OnlyLook = Annotated[bool, typer.Option("--status", help="Deploy nothing: show the rollout under way, or the last.")]
FollowTimeout = Annotated[
    str | None,
    typer.Option(
        "--timeout", metavar="DURATION", help="How long to follow it; it goes on by itself (default: to its end)."
    ),
]
Name = Annotated[str, typer.Argument(metavar="SERVICE", help="The service.")]
To = Annotated[str | None, typer.Argument(metavar="[RELEASE]", help="Such as web@6; else the one before.")]
Before = Annotated[str, typer.Argument(metavar="RELEASE", help="Such as web@6.")]
After = Annotated[str, typer.Argument(metavar="RELEASE", help="Such as web@7.")]


def deploy(
    services: Services = None,
    strategy: How = None,
    message: Message = None,
    observe: Observe = False,
    force: Force = False,
    *,
    detach: Detach = False,
    status: OnlyLook = False,
    timeout: FollowTimeout = None,
    as_json: options.Json = False,
    file: options.File = None,
) -> None:
    """Let in what the file declares now, step by step, and throw it out again when it is worse than what runs."""
    from perdure.cli import declaring

    names, paths = list(dict.fromkeys(services or [])), options.deployment_paths(file)
    wishes = {"strategy": strategy and strategy.value, "message": message or "", "observe": observe, "force": force}
    if status:
        _alone("--status", any(wishes.values()) or detach or timeout is not None)
        _look(api.Client(paths), names, as_json)
        return
    _alone("--detach", detach and timeout is not None, "--timeout")
    timeout_s = None if timeout is None else options.duration_s("--timeout", timeout)
    client = api.Client(paths, TAKES_S)
    before = _numbers(client)
    declaring.checked(paths)
    sentences = client.post("deploy", services=names, **wishes)
    _say(sentences, as_json)
    begun = _begun(client, before, names)
    if detach:
        _look_again(client, begun, as_json)
        return
    ended = _followed(client, begun, _Manner(as_json, timeout_s))
    if any(one["result"] != "done" for one in ended.values()):
        raise typer.Exit(failure.ROLLED_BACK_EXIT_CODE)


def rollback(
    service: Name,
    release: To = None,
    *,
    force: Anyway = False,
    no_wait: options.NoWait = False,
    timeout: options.Timeout = waiting.DEFAULT_TIMEOUT,
    file: options.File = None,
) -> None:
    """Go back to an earlier release, at once and without steps."""
    client = api.Client(options.deployment_paths(file))
    timeout_s = options.duration_s("--timeout", timeout)
    before = client.get("rollout", service=service)
    _say(client.post("rollback", service=service, release=release, force=force))
    if no_wait:
        return
    number = client.get("rollout", service=service)["number"]
    taken_back = before is not None and before["number"] == number
    ended = _followed(client, {service: number}, _Manner(False, timeout_s))[service]
    if (ended["result"] == "done") == taken_back:
        raise typer.Exit(failure.ROLLED_BACK_EXIT_CODE)


def abort(service: Name, file: options.File = None) -> None:
    """End a rollout that is on trial: the release before keeps everything."""
    _say(api.Client(options.deployment_paths(file)).post("abort", service=service))
    print(f"to see its replicas end: perdure deploy --status {service}")


def promote_release(service: Name, file: options.File = None) -> None:
    """Wait no more: a rollout takes its next steps as soon as replicas serve and tests have passed."""
    _say(api.Client(options.deployment_paths(file)).post("promote-release", service=service))
    print(f"to see how it goes on: perdure deploy --status {service}")


def acknowledge(service: Name, file: options.File = None) -> None:
    """Say that a rollback was seen: it is shown in red no more."""
    _say(api.Client(options.deployment_paths(file)).post("acknowledge", service=service))


def releases(service: Name, as_json: options.Json = False, file: options.File = None) -> None:
    """List the releases of a service that are kept, the oldest first."""
    found = api.Client(options.deployment_paths(file)).get("releases", service=service)
    if as_json:
        _print_json(found)
        return
    from perdure.cli import release_view

    terminal.show(release_view.render(found))


def diff(before: Before, after: After, as_json: options.Json = False, file: options.File = None) -> None:
    """Show in what two releases of a service differ; no value of a variable is shown."""
    found = api.Client(options.deployment_paths(file)).get("diff", before=before, after=after)
    if as_json:
        _print_json(found)
        return
    from perdure.cli import release_view

    terminal.show(release_view.render_difference(found))


@dataclass(frozen=True, slots=True)
class _Manner:
    """How a rollout is followed; `timeout_s` None: to its end."""

    as_json: bool
    timeout_s: float | None


def _followed(client: api.Client, numbers: Mapping[str, int], manner: _Manner) -> following.Rollouts:
    """Follow rollouts to their end, and tell it; Ctrl-C ends only the looking."""
    try:
        with following.showing(manner.as_json) as show:
            ended = following.follow(client, numbers, show, manner.timeout_s)
    except KeyboardInterrupt:
        if not manner.as_json:
            _say_how_to_go_on(numbers)
        raise
    if not manner.as_json:
        _show_ends(ended)
    return ended


def _begun(client: api.Client, before: Mapping[str, int], names: Collection[str]) -> dict[str, int]:
    """Service -> number of its rollout that the command began."""
    deadline_at = time.monotonic() + following.COMES_BACK_S
    while True:
        try:
            begun = {name: number for name, number in _numbers(client).items() if number != before.get(name)}
        except errors.UnavailableError:  # it is durable by now: a daemon that is started again carries it out
            begun = {}
        if begun and begun.keys() >= set(names):
            return begun
        if time.monotonic() > deadline_at:
            raise errors.UnavailableError("the deploy is recorded, and no daemon shows it", "perdure status")
        time.sleep(waiting.POLL_S)


def _numbers(client: api.Client) -> dict[str, int]:
    services = client.get("status")["services"].items()
    return {name: one["rollout"]["number"] for name, one in services if one.get("rollout") is not None}


def _look(client: api.Client, names: Collection[str], as_json: bool) -> None:
    """Show where the rollouts are now; of all services when none is named."""
    if names:
        found = {name: client.get("rollout", service=name) for name in names}
    else:
        found = {name: one.get("rollout") for name, one in client.get("status")["services"].items()}
    if as_json:
        _print_json(found)
        return
    from perdure.cli import rollout_view
    from perdure.cli import rollout_words as words

    known = {name: one for name, one in found.items() if one is not None}
    _show_ends({name: one for name, one in known.items() if words.is_over(one)})
    if moving := [one for one in known.values() if not words.is_over(one)]:
        terminal.show(rollout_view.render(moving))
    if missing := [name for name in names if name not in known]:
        print(f"nothing was deployed yet of {', '.join(missing)}")
    elif not known:
        print("nothing was deployed yet")


def _look_again(client: api.Client, begun: Collection[str], as_json: bool) -> None:
    if as_json:
        _print_json({name: client.get("rollout", service=name) for name in begun})
    else:
        _say_how_to_go_on(begun)


def _say_how_to_go_on(services: Collection[str]) -> None:
    """What follows when nobody looks any more."""
    names = " ".join(sorted(services))
    print(f"the rollout goes on; to look again: perdure deploy --status {names}")
    print("to end it: " + ", ".join(f"perdure abort {name}" for name in sorted(services)))


def _show_ends(ended: following.Rollouts) -> None:
    """Tell each end; the bad ones last, where they are seen."""
    from perdure.cli import rollout_view

    for one in sorted(ended.values(), key=lambda one: str(one["result"]) != "done"):
        terminal.show(rollout_view.ending(one))


def _alone(option: str, others: bool, which: str = "any other option than --json") -> None:
    if others:
        raise errors.ConfigError(f"{option} cannot be used with {which}", "perdure deploy --help")


def _say(sentences: Collection[str], as_json: bool = False) -> None:
    if not as_json:
        for sentence in sentences:
            print(sentence)


def _print_json(document: Any) -> None:
    print(json.dumps(document, indent=2, ensure_ascii=False))
