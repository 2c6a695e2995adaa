"""Commands about snapshots: `snapshot take`, `list`, `show`, `verify`, `pin`, `unpin`, `export`, `import`; `mark` and
`unmark`."""

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from perdure.cli import client as api
from perdure.cli import options, terminal

Name = Annotated[str, typer.Argument(metavar="SERVICE", help="A service that declares a state.")]
Target = Annotated[str, typer.Argument(metavar="TARGET", help="A service (notes), or a slot (notes/2).")]
Id = Annotated[str, typer.Argument(metavar="SNAPSHOT", help="Its id, such as s-0193.")]
Where = Annotated[Path, typer.Argument(metavar="PATH", help="The file.")]
Word = Annotated[str, typer.Argument(metavar="NAME", help="Letters, digits, dots and dashes; one that exists moves.")]
Given = Annotated[str, typer.Argument(metavar="NAME", help="The name that a snapshot has.")]
Which = Annotated[
    str | None, typer.Option("--snapshot", metavar="ID", help="The snapshot that gets the name; else a new one.")
]
TAKES_S = 3600.0
"""Copying a large state takes a while."""

app = typer.Typer(
    help="Snapshots of the state of a service: take, list, show, verify, keep, carry away.", no_args_is_help=True
)


@app.command()
def take(target: Target, file: options.File = None) -> None:
    """Take a snapshot now, of the active replica or of a slot."""
    _do(file, "take", target=target)


@app.command("list")
def list_(service: Name, as_json: options.Json = False, file: options.File = None) -> None:
    """List the snapshots of a service, the newest first."""
    found = _client(file).get("snapshots", service)
    if as_json:
        print(json.dumps(found, indent=2))
        return
    if not found:
        print(f"nothing is kept of {service} yet")
        return
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="bright_black")
    for title in ("SNAPSHOT", "OF", "AGE", "SIZE", "ADDED", "PROVEN", "KEPT AS"):
        table.add_column(title, justify="right" if title in ("SIZE", "ADDED") else "left")
    for one in found:
        table.add_row(*_cells(one))
    terminal.show(table)


@app.command()
def show(service: Name, snapshot: Id, as_json: options.Json = False, file: options.File = None) -> None:
    """Show all that is known of one snapshot."""
    found = _client(file).get("snapshots", service, snapshot)
    if as_json:
        print(json.dumps(found, indent=2))
        return
    from perdure.cli import snapshot_view

    terminal.show(snapshot_view.render(found))


@app.command()
def verify(service: Name, snapshot: Id, file: options.File = None) -> None:
    """Read all of a snapshot, check every digest, and restore it aside."""
    _do(file, "verify", service=service, snapshot=snapshot)


@app.command()
def pin(service: Name, snapshot: Id, file: options.File = None) -> None:
    """Keep a snapshot until it is unpinned."""
    _do(file, "pin", service=service, snapshot=snapshot)


@app.command()
def unpin(service: Name, snapshot: Id, file: options.File = None) -> None:
    """Let retention remove a snapshot again."""
    _do(file, "pin", service=service, snapshot=snapshot, pinned=False)


@app.command("export")
def export(service: Name, snapshot: Id, path: Where, file: options.File = None) -> None:
    """Write a snapshot to a file that stands alone."""
    _do(file, "export", service=service, snapshot=snapshot, file=str(path.absolute()))


@app.command("import")
def import_(service: Name, path: Where, file: options.File = None) -> None:
    """Read a snapshot from such a file."""
    _do(file, "import", service=service, file=str(path.absolute()))


def mark(service: Name, name: Word, snapshot: Which = None, file: options.File = None) -> None:
    """Give a snapshot of a service a name, to go back to; it is kept as long as it has one."""
    _do(file, "mark", service=service, name=name, snapshot=snapshot)


def unmark(service: Name, name: Given, file: options.File = None) -> None:
    """Take a name away from a snapshot, so that retention may remove it again."""
    _do(file, "unmark", service=service, name=name)


def _client(file: str | None) -> api.Client:
    return api.Client(options.deployment_paths(file), timeout_s=TAKES_S)


def _do(declared_in: str | None, verb: str, /, **body: Any) -> None:
    for sentence in _client(declared_in).post(f"snapshot-{verb}", **body):
        print(sentence)


def _cells(one: dict[str, Any]) -> tuple[str, ...]:
    proven, names = one["proven"], [*one["marks"], *(["pinned"] if one["pinned"] else [])]
    proof = "-" if proven is None else "FAILED" if proven["problem"] else f"in {proven['took_s']:.2f} s"
    sizes = (terminal.size(one["size_bytes"]), terminal.size(one["stored_bytes"]))
    return (one["id"], one["slot"], terminal.span(one["age_s"]), *sizes, proof, ", ".join(names) or "-")
