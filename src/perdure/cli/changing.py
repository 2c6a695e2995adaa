"""Commands that change what runs: `restart`, `drain`, `undrain`, `scale`, `promote`.

Each is recorded by the daemon before it answers, then carried out by its loop; the command waits for that (`waiting`)
unless told not to.
"""

from collections.abc import Mapping
from typing import Annotated, Any

import typer

from perdure.cli import client as api
from perdure.cli import options, waiting
from perdure.model import errors

Target = Annotated[str, typer.Argument(metavar="TARGET", help="A service (web) or a slot (web/2).")]
Count = Annotated[
    list[str], typer.Argument(metavar="SERVICE=N", help="The service and how many replicas (also: SERVICE N).")
]


def restart(
    target: Target,
    no_wait: options.NoWait = False,
    timeout: options.Timeout = waiting.DEFAULT_TIMEOUT,
    file: options.File = None,
) -> None:
    """Replace the replicas one after the other, without failing a request."""
    _command("restart", target, no_wait, timeout, file)


def drain(
    target: Target,
    no_wait: options.NoWait = False,
    timeout: options.Timeout = waiting.DEFAULT_TIMEOUT,
    file: options.File = None,
) -> None:
    """Stop sending requests, and wait for those in flight; the replicas go on running."""
    _command("drain", target, no_wait, timeout, file)


def undrain(
    target: Target,
    no_wait: options.NoWait = False,
    timeout: options.Timeout = waiting.DEFAULT_TIMEOUT,
    file: options.File = None,
) -> None:
    """Send requests again after a drain."""
    _command("undrain", target, no_wait, timeout, file)


def scale(
    count: Count,
    no_wait: options.NoWait = False,
    timeout: options.Timeout = waiting.DEFAULT_TIMEOUT,
    file: options.File = None,
) -> None:
    """Change how many replicas run, until the file changes the number again."""
    service, replicas = _counted(count)
    client = api.Client(options.deployment_paths(file))
    _carry_out(client, "scale", {"service": service, "replicas": replicas}, None if no_wait else timeout)


def promote(
    target: Target,
    slot: Annotated[
        str | None, typer.Argument(metavar="[SLOT]", help="Which one (notes/2, or 2); else whichever loses least.")
    ] = None,
    accept_loss: Annotated[
        bool, typer.Option("--accept-loss", help="Also if changes are lost that max_loss protects.")
    ] = False,
    *,
    no_wait: options.NoWait = False,
    timeout: options.Timeout = waiting.DEFAULT_TIMEOUT,
    file: options.File = None,
) -> None:
    """Make another replica of an active-passive service the active one, without failing a request."""
    client = api.Client(options.deployment_paths(file))
    if slot is not None:
        target = slot if "/" in slot else f"{target}/{slot}"
    body = {"target": target, "accept_loss": accept_loss}
    _carry_out(client, "promote", body, None if no_wait else timeout)


def _command(verb: str, target: str, no_wait: bool, timeout: str, file: str | None) -> None:
    client = api.Client(options.deployment_paths(file))
    _carry_out(client, verb, {"target": target}, None if no_wait else timeout)


def _carry_out(client: api.Client, verb: str, body: Mapping[str, Any], timeout: str | None) -> None:
    """Give the command and wait until it is done; `timeout` None: do not wait."""
    before = client.get("status")
    service = str(body.get("service") or body["target"]).partition("/")[0]
    for sentence in client.post(verb, **body):
        print(sentence)
    if timeout is None:
        return
    waiting.wait_until_done(client, before, {service}, timeout)
    now = client.get("status")["services"].get(service) or {}
    if now.get("sentence"):
        print(f"{service}: {now['sentence']}")


def _counted(words: list[str]) -> tuple[str, int]:
    service, _, number = words[0].partition("=") if len(words) == 1 else (words[0], "=", words[1])
    if len(words) > 2 or not service or not (number.isascii() and number.isdecimal()) or len(number) > 6:
        sentence = f"scale needs a service and a number of replicas, not {' '.join(words)!r}"
        raise errors.ConfigError(sentence, "perdure scale web=3")
    return service, int(number)
