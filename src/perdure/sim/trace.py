"""What happened in a simulated run, line by line, and a digest that tells two runs apart.

Lines hold nothing that differs between two runs of one seed: no real time, no address, no secret. Neighbours: `world`
writes the faults and acts, `store` the events of the control shell; `run` compares digests.
"""

import hashlib
from dataclasses import dataclass, field


@dataclass(slots=True)
class Trace:
    """Lines in order of virtual time; kept whole, because a violation shows the last ones."""

    lines: list[str] = field(default_factory=list)
    _digest: "hashlib._Hash" = field(default_factory=hashlib.sha256)

    def note(self, at: float, kind: str, sentence: str) -> None:
        """Add a line: the virtual second, who speaks (`fault`, `event`, `act`, `world`), and a sentence."""
        line = f"{at:10.3f}  {kind:<7} {sentence}"
        self.lines.append(line)
        self._digest.update(line.encode() + b"\n")

    @property
    def digest(self) -> str:
        """SHA-256 of all lines so far, in hexadecimal digits."""
        return self._digest.hexdigest()
