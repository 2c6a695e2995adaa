"""Commands about the file: `init`, `check`, `docs`, `doctor`; and how other commands read it.

The file is read and judged by `perdure.config`; `doctor` adds what `prevent.weakness` finds in it.
"""

import json
import time
from pathlib import Path
from typing import Annotated, Any

import typer

from perdure.cli import client as api
from perdure.cli import leftovers, options, terminal
from perdure.control.paths import Paths
from perdure.model import errors
from perdure.model.event import Severity
from perdure.model.finding import Finding
from perdure.model.service import Address, Deployment

From = Annotated[
    str | None, typer.Option("--from", metavar="PATH", help="Translate a Procfile or a systemd unit into the new file.")
]
Section = Annotated[str | None, typer.Argument(metavar="[SECTION]", help="A section of the file; without it, a list.")]
Strict = Annotated[bool, typer.Option("--strict", help="Exit with 1 when a warning or an alarm is found.")]


def init(source: From = None, file: options.File = None) -> None:
    """Write a commented file to begin with; a file that exists is never overwritten."""
    from perdure.config import init as writer

    paths = options.deployment_paths(file)
    text = writer.starter(paths.file.parent.name) if source is None else _translated(Path(source))
    try:
        with paths.file.open("x") as target:
            target.write(text)
    except FileExistsError as error:
        sentence = f"{paths.file.name} exists already; it was not changed"
        raise errors.ConflictError(sentence, "perdure check, or another name: perdure init -f PATH") from error
    except OSError as error:
        raise errors.ConfigError(
            f"cannot write {paths.file}: {error.strerror}", "choose another place with -f"
        ) from error
    print(f"wrote {paths.file.name}")
    print("next: edit it, then perdure check, then perdure up")


def check(as_json: options.Json = False, file: options.File = None) -> None:
    """Find every mistake in the file, and what this machine lacks for it, without starting anything."""
    paths = options.deployment_paths(file)
    if as_json:
        _check_for_programs(paths)
        return
    deployment = checked(paths)
    replicas = sum(service.replicas for service in deployment.services)
    print(f"{paths.file.name} is fine: services {len(deployment.services)}, replicas {replicas}")


def docs(section: Section = None) -> None:
    """Print the commented example of a section of the file."""
    from perdure.config import docs as examples

    if section is not None:
        print(examples.show(section).rstrip("\n"))
        return
    print("sections: " + ", ".join(examples.sections()))
    print("next: perdure docs SECTION")


def doctor(strict: Strict = False, as_json: options.Json = False, file: options.File = None) -> None:
    """Show what is not fault tolerant here, why, and the remedy."""
    from perdure.control import doctor as examination

    paths = options.deployment_paths(file)
    findings = examination.examine(loaded(paths), paths, _told(paths), time.time())
    if as_json:
        print(json.dumps([_finding(finding) for finding in findings], indent=2, ensure_ascii=False))
    else:
        _print_findings(findings)
    if strict and any(finding.severity is not Severity.INFO for finding in findings):
        raise typer.Exit(1)


def loaded(paths: Paths) -> Deployment:
    """Read the file; ConfigError with every mistake in it."""
    from perdure.config import load

    return load.load(paths.file)


def checked(paths: Paths) -> Deployment:
    """Read the file and look at this machine; ConfigError with everything that would keep it from starting."""
    from perdure.config import preflight
    from perdure.control import doctor as doctor_of_the_machine

    deployment = loaded(paths)
    problems = preflight.problems(
        deployment,
        in_use_ok=_addresses_in_use(paths, deployment),
        find_haproxy=doctor_of_the_machine.find_haproxy,
        state_directory=paths.state,
    )
    if problems:
        count = "one problem" if len(problems) == 1 else f"{len(problems)} problems"
        raise errors.ConfigError(
            f"{paths.file.name} cannot run here: {count}", "correct that, then perdure check", problems
        )
    return deployment


def _translated(source: Path) -> str:
    """A file made from a systemd unit, told by its suffix, or from a Procfile."""
    from perdure.config import init as writer
    from perdure.config import mistake, textfile

    try:
        text = textfile.read(source)
    except mistake.Mistake as wrong:
        raise errors.ConfigError(f"{source} {wrong.sentence}", wrong.hint) from None
    if source.suffix == ".service":
        return writer.from_systemd_unit(text, source.name)
    return writer.from_procfile(text)


def _addresses_in_use(paths: Paths, deployment: Deployment) -> frozenset[Address]:
    """What the running daemon, or what an earlier one left running, holds and the check must not call taken."""
    try:
        status = api.Client(paths).get("status")
    except errors.PerdureError:
        return leftovers.addresses(paths, deployment)
    held: set[Address] = set()
    for service in status["services"].values():
        if service.get("listen"):
            host, _, port = str(service["listen"]).rpartition(":")
            held.add(Address(host.strip("[]"), int(port)))
        held.update(Address("127.0.0.1", int(one["port"])) for one in service.get("replicas") or () if one.get("port"))
    return frozenset(held)


def _check_for_programs(paths: Paths) -> None:
    found: list[dict[str, str]] = []
    try:
        checked(paths)
    except errors.ConfigError as error:
        found = [{"path": one.path, "sentence": one.sentence, "hint": one.hint} for one in error.problems]
        found = found or [{"path": paths.file.name, "sentence": error.sentence, "hint": error.hint}]
    print(json.dumps({"ok": not found, "problems": found}, indent=2, ensure_ascii=False))
    if found:
        raise typer.Exit(errors.ConfigError.exit_code)


def _told(paths: Paths) -> dict[str, Any] | None:
    """What the daemon says; None when none answers."""
    try:
        status: dict[str, Any] = api.Client(paths).get("status")
    except errors.PerdureError:
        return None
    return status


def _print_findings(findings: tuple[Finding, ...]) -> None:
    from rich.table import Table
    from rich.text import Text

    if not findings:
        print("nothing was found that is not fault tolerant")
        return
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="bright_black", show_edge=False, pad_edge=False)
    for title in ("RULE", "SEVERITY", "SUBJECT"):
        table.add_column(title, no_wrap=True)
    table.add_column("FINDING, AND REMEDY", overflow="fold")
    for finding in findings:
        severity = Text(finding.severity, terminal.style(finding.severity))
        what = Text.assemble(finding.sentence, "\n", (f"-> {finding.remedy}", "green"))
        table.add_row(finding.rule, severity, Text(finding.subject, "bold"), what)
    terminal.show(table)


def _finding(finding: Finding) -> dict[str, str]:
    return {
        "rule": finding.rule,
        "severity": finding.severity.value,
        "subject": finding.subject,
        "sentence": finding.sentence,
        "remedy": finding.remedy,
    }
