"""Operating errors, split by who must act. Bugs are assertions instead, and stay on.

    PerdureError
    |-- ConfigError        edit the file (or the command line)
    |-- UnavailableError   try later, or start what is missing
    |-- ConflictError      somebody else won
    |-- RefusedError       policy: Perdure will not do that
    `-- CorruptionError    stop, and restore

Each carries one sentence for the user and a hint: the remedy or the next command.
"""

from dataclasses import dataclass


class PerdureError(Exception):
    """An operating error: `sentence` says what is wrong, `hint` what to do next."""

    exit_code = 1

    def __init__(self, sentence: str, hint: str = "") -> None:
        super().__init__(sentence)
        self.sentence = sentence
        self.hint = hint


@dataclass(frozen=True, slots=True)
class Problem:
    """One mistake in the file: the path of the value (`service.web.replicas`), what is wrong, and the remedy."""

    path: str
    sentence: str
    hint: str = ""

    def __str__(self) -> str:
        return f"{self.path}: {self.sentence}" + (f" ({self.hint})" if self.hint else "")


class ConfigError(PerdureError):
    """The file or the command line must be edited; `problems` lists all that is wrong with the file at once."""

    exit_code = 2

    def __init__(self, sentence: str, hint: str = "", problems: tuple[Problem, ...] = ()) -> None:
        super().__init__(sentence, hint)
        self.problems = problems


class UnavailableError(PerdureError):
    """Something that is needed does not answer now; the same call may succeed later."""

    exit_code = 4


class ConflictError(PerdureError):
    """Somebody else changed or holds what this call wanted."""

    exit_code = 5


class RefusedError(PerdureError):
    """The request is understood, and policy says no."""

    exit_code = 6


class CorruptionError(PerdureError):
    """Stored data is damaged; nothing was changed."""

    exit_code = 7
