"""Where a deployment keeps its state: `.perdure/` beside the file, or `$PERDURE_HOME`.

Everything that outlives the daemon is found through here; `daemon` makes the directories, the CLI finds the socket.
"""

from dataclasses import dataclass
from pathlib import Path

FILE_NAME = "perdure.toml"


@dataclass(frozen=True, slots=True)
class Paths:
    """The file that declares the services, and the directory that holds their state."""

    file: Path
    state: Path

    @classmethod
    def of(cls, file: Path, home: str | None) -> "Paths":
        """Paths for a file; `home` is the value of PERDURE_HOME, if any."""
        file = file.absolute()
        return cls(file, Path(home).absolute() if home else file.parent / ".perdure")

    @property
    def run(self) -> Path:
        """Sockets and run records; mode 0750."""
        return self.state / "run"

    @property
    def api(self) -> Path:
        """The daemon's unix socket; mode 0660."""
        return self.run / "api.sock"

    @property
    def database(self) -> Path:
        """The SQLite store."""
        return self.state / "perdure.db"

    @property
    def slots(self) -> Path:
        """A directory for each slot of active-passive services: its role, and its state."""
        return self.state / "slots"

    @property
    def snapshots(self) -> Path:
        """The snapshots of each service."""
        return self.state / "snapshots"

    @property
    def releases(self) -> Path:
        """The files of releases, and a directory of its own for each."""
        return self.state / "releases"

    @property
    def logs(self) -> Path:
        """What the replicas wrote, a file for each slot."""
        return self.state / "log"

    @property
    def daemon_log(self) -> Path:
        """What a detached daemon wrote."""
        return self.logs / "daemon.log"

    @property
    def lock(self) -> Path:
        """Held by the daemon while it lives."""
        return self.state / "lock"
