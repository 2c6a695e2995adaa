"""The command `retry`: reads the policy from the options; `retry_run` repeats the command, `retry_decision` decides.

It needs no file and no daemon, so it can stand in any script, cron job or unit.
"""

from typing import Annotated

import typer

from perdure.cli import options, retry_decision
from perdure.model import errors

Command = Annotated[list[str], typer.Argument(metavar="COMMAND", help="The command and its arguments, after --.")]
Attempts = Annotated[
    int | None,
    typer.Option(
        "--attempts", min=1, metavar="N", help="How many tries at most (default: 3; with --deadline: any number)."
    ),
]
Deadline = Annotated[
    str | None, typer.Option("--deadline", metavar="DURATION", help="End of the whole run, pauses included.")
]
TryTimeout = Annotated[str | None, typer.Option("--timeout", metavar="DURATION", help="Longest time for each try.")]
Backoff = Annotated[
    str, typer.Option("--backoff", metavar="DURATION", help="First pause; doubled after each try, +-25 %.")
]
BackoffMax = Annotated[str, typer.Option("--backoff-max", metavar="DURATION", help="Longest pause.")]
On = Annotated[
    str | None, typer.Option("--on", metavar="CODES", help="Retry only these exit codes, such as 1,75,100-110.")
]
NotOn = Annotated[str | None, typer.Option("--not-on", metavar="CODES", help="Do not retry these exit codes.")]
Verbose = Annotated[
    bool, typer.Option("-v", "--verbose", help="Report each try, and what failed tries wrote, on stderr.")
]


def retry(
    command: Command,
    *,
    attempts: Attempts = None,
    deadline: Deadline = None,
    timeout: TryTimeout = None,
    backoff: Backoff = "200ms",
    backoff_max: BackoffMax = "10s",
    on: On = None,
    not_on: NotOn = None,
    verbose: Verbose = False,
) -> None:
    """Repeat a command until it succeeds, or the tries or the deadline are used up."""
    from perdure.cli import retry_run

    if on is not None and not_on is not None:
        raise errors.ConfigError("--on and --not-on exclude each other", "name the codes to retry, or those not to")
    deadline_s = _duration_s("--deadline", deadline)
    first_s, cap_s = options.duration_s("--backoff", backoff), options.duration_s("--backoff-max", backoff_max)
    policy = retry_decision.Policy(
        attempts=3 if attempts is None and deadline_s is None else attempts,
        deadline_s=deadline_s,
        timeout_s=_duration_s("--timeout", timeout),
        backoff_s=min(first_s, cap_s),
        backoff_s_max=cap_s,
        only_on=None if on is None else _codes("--on", on),
        never_on=frozenset() if not_on is None else _codes("--not-on", not_on),
    )
    raise typer.Exit(retry_run.run(command, policy, verbose))


def _duration_s(option: str, text: str | None) -> float | None:
    return None if text is None else options.duration_s(option, text)


def _codes(option: str, text: str) -> frozenset[int]:
    try:
        return retry_decision.codes(text)
    except ValueError as error:
        sentence = f"{option}: must be exit codes from 1 to 255 (got {text!r})"
        raise errors.ConfigError(sentence, f"write it as {option} 1,75,100-110") from error
