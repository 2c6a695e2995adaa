"""The reference of the command line, generated from the commands themselves, so that it cannot lag behind them.

`python -m perdure.cli.reference > docs/reference/cli.md` rewrites the page; a test compares. What the options do not
say stands in `_NOTES`.
"""

import sys
from collections.abc import Iterator
from typing import Any

import typer

from perdure.cli import failure, main

_INTRODUCTION = """\
# The command line

<!-- Generated: python -m perdure.cli.reference > docs/reference/cli.md -->

`perdure COMMAND [OPTIONS]`. Every command but `up`, `init`, `check`, `docs`, `doctor`, `retry`, `sim` and `version`
asks the daemon, over a unix socket.

- **The file** is `perdure.toml` in the working directory; `-f PATH` names another one, before or after the command.
- **State** lives in `.perdure/` beside the file, or in the directory that the environment variable `PERDURE_HOME`
  names.
- **Errors** are one sentence on stderr, `perdure: ...`, and the next command to run, `  try: ...`. With a mistake
  in the file, all mistakes are listed at once.
- **Output** is for people; with `--json` it is for programs, and stable: keys are added, never changed. Without a
  terminal there are no colours, and a line is never wrapped. `NO_COLOR` is respected.
- **Durations** have units: `500ms`, `10s`, `1h30m`.
"""

_MORE_CODES = """\
| 124, 126, 127 | `perdure retry` only: the last try took too long, cannot be run, was not found |
| 128 + N | `perdure retry` only: the last try was ended by signal N |
| 130 | ended by Ctrl-C |
| 141 | nobody reads the output any more |
"""

_OWN = {"--file", "--version"}
_NOTES = {
    "up": """\
First everything is checked, as `perdure check` does: with a mistake nothing is started, and the exit code is 2. In
the foreground, `perdure up` becomes the daemon. With `-d` it starts the daemon in a session of its own, with its
output in `.perdure/log/daemon.log`, shows the start, and returns when every service is ready (0), when a service is
not ready in time (4; Perdure goes on trying), or when the daemon ended (with the daemon's exit code and its last
lines). What an earlier daemon left running is adopted, not started twice.""",
    "down": """\
Returns when the replicas, the balancer and the daemon are gone. After the death of a daemon, run `perdure up -d`
first: only a daemon can end what is left.""",
    "reload": "A mistake in the file changes nothing.",
    "status": """\
`--json` prints `{"services": {NAME: {"mode", "protocol", "listen", "state", "sentence", "desired", "replicas":
[{"slot", "state", "pid", "port", "release", "restarts", "since_s", "suspicion", "sentence"}]}}, "daemon": {"pid",
"uptime_s", "loop_age_s", ...}, "balancer": {"pid", "state", "version"}}`. `suspicion` is the share of the threshold
that the evidence has reached: at 1 a replica is convicted. `rollout` of a service is what `deploy --json` prints, null
when nothing was deployed yet. What is not known is shown as unknown.""",
    "events": "With `--json`, one JSON document on each line.",
    "logs": """\
The lines of a service are preceded by their slot, those of a slot are printed as they are. With `--json`, one JSON
document on each line.""",
    "explain": """\
Each piece of evidence is shown with its score and the threshold; a full bar convicts. `CHANGES WITH` is the observation
that would change the verdict: what would convict while nothing is wrong, and what clears it otherwise. What requests of
clients show must also be the replica's own: failures must fall on it clearly more often than requests do, as when
within a minute there are seven on one of three replicas and none on the others, or ten on one of two; where clients
often fail by themselves, more. `not ready` (in `--json`: `awaits`) is what a starting replica has not shown yet.
`readmission` of an isolated slot says what readmits it: good answers, other evidence, and the hold-down that is left;
in `--json` as `good_answers` (check to number) and `hold_down_s`. `last failure` is the capsule that is kept from the
replica that failed last: how it ended, its last lines, the answer that the failing check got.""",
    "deploy": """\
A release is made of the file as it is now, and let in by the strategy that `[service.X.deploy]` declares. The daemon
carries it out, and goes on when it was killed in between. `deploy` follows it, with a live picture on a terminal and a
line for each change elsewhere, until the release has all the traffic (0) or was rolled back or aborted (3). Ctrl-C and
`--timeout` end only the looking. A daemon that is restarted meanwhile is waited for, for up to 30 s. Several services
are deployed together: all or none.

`--json` prints a document on each line for every change: `{"service", "number", "release", "before", "strategy",
"phase", "step", "steps": [{"share", "for_s"}], "share", "since_s", "waits_for", "compared", "numbers", "ended_for",
"capsule", "result", ...}`; `result` is `under way`, `done`, `rolled back` or `aborted`, and what became of a service is
the last line about it. With `--status` or `--detach` it prints one document: `{SERVICE: rollout}`, null for what was
never deployed.""",
    "rollback": """\
What is on trial is aborted; a release that stands by takes over at once; any other starts first. Waits until that is
done; exit code 3 when the earlier release could not take over, and the later one still serves.""",
    "abort": "Exit code 6 when nothing of the service is on trial.",
    "promote-release": """\
Failures go on to be judged: a release that is worse is rolled back all the same.""",
    "releases": """\
`--json` prints a list of `{"release", "made_at", "message", "command", "files", "state", "verdict"}`; `state` is
`serves`, `on trial`, `stands by` or empty, `verdict` is why it was rolled back.""",
    "diff": """\
`+` is only in the newer release, `-` only in the older one, `~` in both: files with their sizes, names of variables,
the command, and every other setting. `--json` prints `{"before", "after", "files", "environment", "command",
"settings", "lines"}`.""",
    "restart": """\
`restart`, `drain`, `undrain`, `scale`, `promote` and `reload` are recorded durably before the daemon answers: they are
carried out even when the daemon is killed in between. The command then waits until that is done; a time-out ends only
the waiting.""",
    "init": """\
`--from` takes a Procfile, or a systemd unit when the name ends in `.service`. What cannot be translated is named in
comments at the top of the file.""",
    "check": 'With `--json`: `{"ok": false, "problems": [{"path", "sentence", "hint"}]}`, and exit code 2.',
    "doctor": """\
Findings are no mistakes: the file runs. Each names a failure that clients would feel, and the remedy; an alarm is a
failure that nobody would notice, or a part without which nothing works. Without a daemon the file and the machine are
judged; with one, also what it says of snapshots and of those that stand by (W18 to W30).""",
    "mark": """\
Perdure sets markers itself: after each hour in which all was well the newest snapshot is `healthy-YYYYMMDD-HHMM` (UTC,
when it was taken), and the newest three of these are kept. Names of that form are refused here.""",
    "unmark": "Exit code 4 when no snapshot has that name.",
    "snapshot show": """\
`--json` prints one document: what `snapshot list --json` says of it, and `service`, `kind`, `parent`, `digest`, `pin`
(`{"until", "why"}`; `until` is null when it has no end), and `slots`: those whose state was brought to it last. Exit
code 4 when there is no such snapshot.""",
    "retry": """\
Needs no file and no daemon: `perdure retry --deadline 1m --timeout 5s -- curl -fsS http://127.0.0.1:8080/`.

- The pauses double from `--backoff` to `--backoff-max`, each spread by a quarter either way, so that many machines
  that failed together do not try again together.
- A try that takes longer than `--timeout`, or than the deadline leaves, is ended with its children: SIGTERM to its
  whole process group, SIGKILL after 2 s. Its exit code counts as 124.
- Without `--on` and `--not-on` every failure is retried, except a command that is not found or cannot be run.
- Only the output of the last try is shown. Until it is known which one that is, output is kept in temporary files,
  stdout and stderr apart, and appears when the try has ended; the last of `--attempts` writes straight out.
- Standard input that is a regular file is read from the same place by every try; anything else goes to the first
  try only. A terminal is not passed on.
- SIGINT, SIGTERM, SIGHUP and SIGQUIT are passed on to the try, and there is no other after it.""",
    "sim": "Exit code 1 when a promise was broken; the same seed shows the same run.",
}


def reference() -> str:
    """Return the whole page."""
    command: Any = typer.main.get_command(main.app)
    codes = "".join(f"| {code} | {meaning} |\n" for code, meaning in failure.EXIT_CODES)
    exits = f"## Exit codes\n\n| code | meaning |\n| --- | --- |\n{codes}{_MORE_CODES}"
    options = "## Options of every command\n\n" + _table([one for one in command.params if set(one.opts) & _OWN])
    sections = [_section(name, one) for name, one in command.commands.items()]
    return "\n".join([_INTRODUCTION, exits, options, *sections])


def _section(name: str, command: Any) -> str:
    if hasattr(command, "commands"):
        parts = [_section(f"{name} {one}", part) for one, part in command.commands.items()]
        return "\n".join([f"## perdure {name}\n\n{command.help.strip()}\n", *parts])
    arguments = " ".join(_argument(one) for one in command.params if one.param_type_name == "argument")
    title = f"## perdure {name}\n\n`perdure {name} {arguments}".rstrip() + "`\n\n"
    notes = f"\n\n{_NOTES[name]}" if name in _NOTES else ""
    own = [one for one in command.params if "--file" not in one.opts]
    table = f"\n{_table(own)}" if own else ""
    return f"{title}{command.help.strip()}{notes}\n{table}"


def _table(params: list[Any]) -> str:
    return "| option | meaning | default |\n| --- | --- | --- |\n" + "".join(_rows(params))


def _rows(params: list[Any]) -> Iterator[str]:
    for one in params:
        if one.param_type_name == "argument":
            names = f"`{_argument(one)}`"
        else:
            names = ", ".join(f"`{name}`" for name in one.opts) + (f" `{one.metavar}`" if one.metavar else "")
        default = "" if one.default in (None, False) or callable(one.default) else f"`{one.default}`"
        yield f"| {names} | {one.help} | {default} |\n"


def _argument(one: Any) -> str:
    return str(one.metavar) + ("..." if one.nargs == -1 else "")


if __name__ == "__main__":
    sys.stdout.write(reference())
