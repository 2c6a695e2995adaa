"""The sections that only active-passive services have: who is told that it is active, and what must survive.

Part of `schema`, which says what fields are; which of the keys belong together is in `relations`.
"""

from typing import Annotated

from pydantic import Field

from perdure.config import kinds
from perdure.config.schema_section import Section
from perdure.model import service as model
from perdure.model import snapshot

_ROLE = model.Role()
_KEEPING = snapshot.Keeping(snapshot.StateKind.FILES)


class Role(Section):
    """How a warm replica of an active-passive service is told that it has become active."""

    signal: Annotated[str | None, kinds.SIGNAL] = Field(
        default=None, description="A signal to its process group; it reads the rest from $PERDURE_ROLE_FILE."
    )
    command: Annotated[tuple[str, ...] | None, kinds.WORDS] = Field(
        default=None, description="Run a command with PERDURE_ROLE and PERDURE_EPOCH; exit code 0 means done."
    )
    http: Annotated[str | None, kinds.URL_PATH] = Field(
        default=None, description="Send POST for this path to its port, with role and epoch as JSON; 2xx means done."
    )
    file: Annotated[bool | None, kinds.FLAG] = Field(
        default=None, description="The file $PERDURE_ROLE_FILE is enough: the program watches it."
    )
    timeout: Annotated[float, kinds.duration(0.1, 300)] = Field(
        default=_ROLE.timeout_s, description="How long the command or the request may take."
    )


class State(Section):
    """What of an active-passive service must survive, and how it is copied to those that stand by."""

    kind: Annotated[str, kinds.choice("files", "sqlite", "command")] = Field(
        description="A directory, an SQLite database, or what a command writes."
    )
    path: Annotated[str, kinds.LINE] = Field(
        default=_KEEPING.path, description="The directory or the database, below $PERDURE_STATE of each slot."
    )
    every: Annotated[float, kinds.duration(1, 604_800)] = Field(
        default=_KEEPING.every_s, description="Time from one snapshot to the next."
    )
    keep: Annotated[int, kinds.whole(1, 100_000)] = Field(
        default=_KEEPING.keep,
        description="Snapshots that are kept beside those that somebody relies on; of a time without changes, two.",
    )
    consistency: Annotated[str | None, kinds.choice("pause", "command", "none")] = Field(
        default=None,
        description="Only for files: the process is stopped for the copy (`pause`, the default), told before and after"
        " it (`command`), or goes on (`none`).",
    )
    before: Annotated[tuple[str, ...] | None, kinds.WORDS] = Field(
        default=None, description="With consistency = `command`: run before the copy."
    )
    after: Annotated[tuple[str, ...] | None, kinds.WORDS] = Field(
        default=None, description="With consistency = `command`: run after the copy, also after one that failed."
    )
    take: Annotated[tuple[str, ...] | None, kinds.WORDS] = Field(
        default=None, description="With kind = `command`: writes the state to its standard output."
    )
    restore: Annotated[tuple[str, ...] | None, kinds.WORDS] = Field(
        default=None, description="With kind = `command`: reads it from its standard input."
    )
    max_loss: Annotated[float | None, kinds.duration(0, 31_536_000)] = Field(
        default=None, description="A replica that lacks more of the present does not take over by itself."
    )
    check: Annotated[str, kinds.TEXT] = Field(
        default=_KEEPING.check, description="Only for sqlite: a query whose first value must be true of each restore."
    )
    key_file: Annotated[str | None, kinds.LINE] = Field(
        default=None, description="A file with 64 hexadecimal digits: snapshots are encrypted with it."
    )
    drill_every: Annotated[float, kinds.duration(60, 31_536_000)] = Field(
        default=_KEEPING.drill_every_s, description="A snapshot is restored aside and checked at least so often."
    )
