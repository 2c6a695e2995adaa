"""What the next daemon needs to know of a running HAProxy, in one small file of the run directory.

Written before and after every change of process by `haproxy.HAProxy`, and read by the one that adopts.
"""

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path

from perdure.model.replica import Process

FILE = "haproxy.json"


@dataclass(frozen=True, slots=True)
class Memory:
    """`digest` is that of the configuration, `servers` maps service -> reserved servers, `draining` are older
    processes that finish their requests.
    """

    generation: int = 0
    digest: str = ""
    process: Process | None = None
    servers: dict[str, int] = field(default_factory=dict)
    draining: tuple[Process, ...] = ()


def save(directory: Path, memory: Memory) -> None:
    """Replace the file in one step."""
    written = directory / f"{FILE}.new"
    written.write_text(json.dumps(asdict(memory)))
    written.replace(directory / FILE)


def load(directory: Path) -> Memory:
    """What was saved; an empty memory when there is none, or it cannot be read (HAProxy is started anew then)."""
    try:
        found = json.loads((directory / FILE).read_text())
        process = found["process"]
        return Memory(
            generation=int(found["generation"]),
            digest=str(found["digest"]),
            process=None if process is None else Process(**process),
            servers={str(name): int(count) for name, count in found["servers"].items()},
            draining=tuple(Process(**one) for one in found["draining"]),
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return Memory()
