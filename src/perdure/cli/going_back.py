"""Commands that go back to older data: `restore`, `undo`, `rescue`.

The first two show what would be lost and ask for the token that names it; without a terminal, or with `--json`, they
only show it, and `--yes TOKEN` carries out what was shown.
"""

import json
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any

import typer

from perdure.cli import client as api
from perdure.cli import options, terminal, waiting
from perdure.model import errors

Name = Annotated[str, typer.Argument(metavar="SERVICE", help="A service that declares a state.")]
To = Annotated[
    str | None,
    typer.Option(
        "--to", metavar="MOMENT", help="A marker, a snapshot (s-0193), how long ago (14m, 2h, 3d), or a time."
    ),
]
Yes = Annotated[
    str | None, typer.Option("--yes", metavar="TOKEN", help="Carry out the plan that was shown with this token.")
]
Without = Annotated[
    bool,
    typer.Option("--without-safety", help="Also if what is live cannot be copied: it is kept only as it is."),
]
Tables = Annotated[list[str] | None, typer.Argument(metavar="[TABLE]...", help="Only rows of these tables.")]
TAKES_S = 3600.0
NAMES_SHOWN = 5
"""Files, or directories, of each kind."""


def restore(
    service: Name,
    to: To = None,
    yes: Yes = None,
    as_json: options.Json = False,
    *,
    without_safety: Without = False,
    no_wait: options.NoWait = False,
    timeout: options.Timeout = waiting.DEFAULT_TIMEOUT,
    file: options.File = None,
) -> None:
    """Go back to older data: shows what would be lost first, and can be undone."""
    if (to is None) == (yes is None):
        sentence = "say where to go back to (--to), or which plan to carry out (--yes TOKEN)"
        raise errors.ConfigError(sentence, f"perdure restore {service} --to 10m")
    manner = _Manner(as_json, without_safety, None if no_wait else timeout)
    _go_back(_client(file), ("restore-plan", {"service": service, "to": to}), yes, manner)


def undo(
    service: Name,
    yes: Yes = None,
    as_json: options.Json = False,
    *,
    without_safety: Without = False,
    no_wait: options.NoWait = False,
    timeout: options.Timeout = waiting.DEFAULT_TIMEOUT,
    file: options.File = None,
) -> None:
    """Undo the last restore: shows what was written since, and would be lost."""
    manner = _Manner(as_json, without_safety, None if no_wait else timeout)
    _go_back(_client(file), ("undo-plan", {"service": service}), yes, manner)


def rescue(service: Name, tables: Tables = None, file: options.File = None) -> None:
    """Put the rows back that the last restore lost (SQLite); lists those that conflict with present ones."""
    for sentence in _client(file).post("rescue", service=service, tables=tables or []):
        print(sentence)


@dataclass(frozen=True, slots=True)
class _Manner:
    """How it is to be done; `timeout` None: nobody waits for it."""

    as_json: bool
    without_safety: bool
    timeout: str | None


def _client(file: str | None) -> api.Client:
    return api.Client(options.deployment_paths(file), timeout_s=TAKES_S)


def _go_back(client: api.Client, asked: tuple[str, dict[str, Any]], yes: str | None, manner: _Manner) -> None:
    """Carry out the plan with the token `yes`, or show a new one, and carry it out when somebody types its token."""
    verb, body = asked
    token = yes if yes is not None else _agreed(client.ask(verb, **body), manner)
    if token is not None:
        agreed = {"service": body["service"], "token": token, "without_safety": manner.without_safety}
        _carry_out(client, agreed, manner.timeout)


def _agreed(plan: dict[str, Any], manner: _Manner) -> str | None:
    """The token of a plan, when it was shown and somebody has typed it."""
    if manner.as_json:
        print(json.dumps(plan, indent=2))
        return None
    _show(plan)
    verb, service, token = "undo" if plan["undoes"] else "restore", plan["service"], str(plan["token"])
    if not terminal.is_terminal():
        print(f"Nothing was changed. To do it, within {terminal.span(plan['lasts_s'])}:")
        print(f"  perdure {verb} {service} --yes {token}{' --without-safety' if manner.without_safety else ''}")
        return None
    typed = typer.prompt(f"Type {token} to do it, anything else not to", default="", show_default=False)
    if typed.strip() == token:
        return token
    print("nothing was changed")
    return None


def _carry_out(client: api.Client, agreed: Mapping[str, Any], timeout: str | None) -> None:
    service, token = str(agreed["service"]), str(agreed["token"])
    before = client.get("status")
    for sentence in client.post("restore", **agreed):
        print(sentence)
    if timeout is None:
        return
    waiting.wait_until_done(client, before, {service}, timeout)
    found = client.get("status")["services"][service]
    last, name = found["rollback"], token.partition("-")[0]
    if last["name"] != name or last["outcome"] != "done":
        outcome = last["outcome"] if last["name"] == name else "taken back"
        sentence = f"{name} is {outcome}: {service} has the data that it had"
        raise errors.UnavailableError(sentence, f"perdure events {service}")
    print(f"{service}: {found['sentence']}, with {last['target']}")


def _show(plan: dict[str, Any]) -> None:
    """What would be lost, in a table."""
    loss = plan["loss"]
    target = f"what {plan['undoes']} had replaced" if plan["undoes"] else plan["snapshot"]
    taken = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(plan["taken_at"]))
    print(f"{plan['service']} would go back to {target}, of {taken}. You would lose {terminal.span(loss['seconds'])}:")
    if loss["tables"]:
        _show_tables(loss["tables"])
    for kind, what in (("added", "new, and lost"), ("changed", "changed back"), ("removed", "back again")):
        if count := loss[f"{kind}_count"]:
            print(f"  {count:,} files {what}: {_named(loss[kind], count)}")
    if not loss["tables"] and not any(loss[f"{kind}_count"] for kind in ("added", "changed", "removed")):
        print(f"  {loss['size_now']:,} bytes now, {loss['size_then']:,} bytes then")
    for remark in loss["remarks"]:
        print(f"  {terminal.harmless(remark)}")
    until = time.strftime("%Y-%m-%d", time.localtime(plan["undo_until"]))
    print(f"What is written until then is lost, too. It can be undone until {until}.")


def _named(names: list[str], count: int) -> str:
    """Which files: their names when they are few, else in which directories most of them are."""
    if count <= NAMES_SHOWN:
        return ", ".join(terminal.harmless(name) for name in names)
    directories = Counter(name.rpartition("/")[0] or "." for name in names)
    shown = [f"{number:,} in {terminal.harmless(name)}" for name, number in directories.most_common(NAMES_SHOWN)]
    complete = len(names) == count and len(directories) <= NAMES_SHOWN
    return ", ".join(shown) + ("" if complete else ", ...")


def _show_tables(tables: list[dict[str, Any]]) -> None:
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="bright_black")
    for title in ("  TABLE", "ROWS LOST", "CHANGED BACK", "BACK AGAIN", "NEWEST"):
        table.add_column(title, justify="left" if title in ("  TABLE", "NEWEST") else "right")
    for one in tables:
        counts = (f"{one[kind]:,}" for kind in ("inserted", "updated", "deleted"))
        table.add_row(f"  {terminal.harmless(one['table'])}", *counts, terminal.harmless(one["newest"]) or "-")
    terminal.show(table)
