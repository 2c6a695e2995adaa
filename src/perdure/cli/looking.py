"""Commands that only look: `status`, `events`, `logs`, `explain`.

For a person they print a picture, for a program (`--json`) exactly what the API said: one document, or one on each
line for what grows, events and output, whether they are followed or not.
"""

import contextlib
import json
import time
from collections.abc import Iterable, Mapping
from typing import Annotated, Any

import typer

from perdure.cli import client as api
from perdure.cli import options, terminal
from perdure.model import errors

_REFRESH_S = 0.5
_SLOT_COLOURS = ("cyan", "magenta", "green", "yellow", "blue")

Follow = Annotated[bool, typer.Option("--follow", help="Go on with new ones as they come, until Ctrl-C.")]
Lines = Annotated[
    int, typer.Option("-n", "--lines", min=0, max=100_000, help="How many of the last ones to begin with.")
]
Target = Annotated[str, typer.Argument(metavar="TARGET", help="A service (web) or a slot (web/2).")]
OnlyService = Annotated[str | None, typer.Argument(metavar="[SERVICE]", help="Only events about this service.")]
Watch = Annotated[bool, typer.Option("--watch", help="Show it live, until Ctrl-C.")]


def status(watch: Watch = False, as_json: options.Json = False, file: options.File = None) -> None:
    """Show the services, their replicas, the daemon and the balancer."""
    client = api.Client(options.deployment_paths(file))
    if as_json:
        _print_json(client.get("status"))
    elif watch:
        _watch(client)
    else:
        from perdure.cli import status_view

        terminal.show(status_view.render(client.get("status")))


def events(
    service: OnlyService = None,
    follow: Follow = False,
    count: Lines = 20,
    as_json: options.Json = False,
    file: options.File = None,
) -> None:
    """Show what happened and what Perdure decided, with the rule of each decision."""
    client = api.Client(options.deployment_paths(file))
    after = -count if count else _newest(client)
    query = {"after": after, "service": service}
    if follow:
        for event in client.stream("events", follow=1, **query):
            _print_event(event, as_json)
        raise errors.UnavailableError("the daemon ended", "perdure up -d")
    found = client.get("events", limit=count, **query) if count else []
    for event in found:
        _print_event(event, as_json)
    if not found and not as_json and terminal.is_terminal():
        print("nothing has happened yet" + (f" to {service}" if service else ""))


def logs(
    target: Target, follow: Follow = False, count: Lines = 100, as_json: options.Json = False, file: options.File = None
) -> None:
    """Show what the replicas of a service, or of one slot, wrote."""
    client = api.Client(options.deployment_paths(file))
    if follow:
        _print_log(client.stream("logs", target=target, lines=count, follow=1), target, as_json)
        raise errors.UnavailableError("the daemon ended", "perdure up -d")
    found = client.get("logs", target=target, lines=count)
    _print_log(found, target, as_json)
    if not found and not as_json and terminal.is_terminal():
        print(f"{target} has written nothing")


def explain(target: Target, as_json: options.Json = False, file: options.File = None) -> None:
    """Say why a service or a slot is in its state: rules, facts, evidence, and when Perdure looks again."""
    client = api.Client(options.deployment_paths(file))
    answer = client.get("explain", target)
    if as_json:
        _print_json(answer)
        return
    from perdure.cli import explain_view

    terminal.show(explain_view.render(answer))


def _newest(client: api.Client) -> int:
    newest = client.get("events", after=-1, limit=1)
    return int(newest[-1]["number"]) if newest else 0


def _watch(client: api.Client) -> None:
    from rich.live import Live

    from perdure.cli import status_view

    client.get("status")
    with (
        Live(console=terminal.out(), auto_refresh=False, screen=terminal.is_terminal()) as live,
        contextlib.suppress(KeyboardInterrupt),
    ):
        while True:
            try:
                picture = status_view.render(client.get("status"))
            except errors.UnavailableError as error:
                picture = status_view.render_unknown(f"{error.sentence}; still asking")
            live.update(picture, refresh=True)
            time.sleep(_REFRESH_S)


def _print_event(event: Mapping[str, Any], as_json: bool) -> None:
    if as_json:
        print(json.dumps(event), flush=True)
        return
    wall_at = float(event["wall_at"])
    instant = terminal.instant(wall_at) + f".{int(wall_at % 1 * 1000):03d}"
    rule, subject = str(event["rule"]), str(event["subject"])
    sentence = terminal.harmless(str(event["sentence"]))
    if not terminal.is_terminal():
        print(f"{instant}  {event['severity']:<7}  {rule:<5}  {subject:<10}  {sentence}", flush=True)
        return
    from rich.table import Table

    grid = Table.grid(padding=(0, 2, 0, 0))
    colour = terminal.style(str(event["severity"])) if event["severity"] != "info" else ""
    for width in (len(instant), 4, 10):
        grid.add_column(no_wrap=True, min_width=width)
    grid.add_column(overflow="fold")
    grid.add_row(f"[bright_black]{instant}", f"[bright_black]{rule}", f"[bold]{subject}", sentence, style=colour)
    terminal.out().print(grid)


def _print_log(lines: Iterable[Mapping[str, Any]], target: str, as_json: bool) -> None:
    named = "/" not in target
    for entry in lines:
        slot, line = str(entry["slot"]), str(entry["line"])
        if as_json:
            print(json.dumps(entry), flush=True)
        elif not named:
            print(line, flush=True)
        else:
            print(f"{_coloured(slot)} | {line}", flush=True)


def _coloured(slot: str) -> str:
    if not terminal.is_terminal():
        return slot
    number = slot.rpartition("/")[2]
    colour = _SLOT_COLOURS[int(number) % len(_SLOT_COLOURS) if number.isdecimal() else 0]
    return typer.style(slot, fg=colour)


def _print_json(document: object) -> None:
    print(json.dumps(document, indent=2, ensure_ascii=False))
