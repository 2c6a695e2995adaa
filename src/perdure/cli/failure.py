"""How a command fails: one sentence, the causes, the next command, and an exit code; never a traceback.

`main` sends every exception here. What is an operating error is printed as it is; anything else is a bug of Perdure,
and its traceback goes to a file that the sentence names.
"""

import os
import sys
import tempfile
import traceback

from perdure import __version__
from perdure.model import errors

USAGE_EXIT_CODE = errors.ConfigError.exit_code
BUG_EXIT_CODE = 1
ROLLED_BACK_EXIT_CODE = 3
INTERRUPTED_EXIT_CODE = 130
BROKEN_PIPE_EXIT_CODE = 141

EXIT_CODES = (
    (0, "done"),
    (1, "a bug in Perdure, a simulation that failed, or findings of `doctor --strict`"),
    (2, "edit the file or the command line: a mistake in it"),
    (3, "the release was rolled back, or aborted"),
    (4, "try later, or start what is missing: the daemon does not run or does not answer, or waiting took too long"),
    (5, "somebody else won: another daemon runs, or the file exists already"),
    (6, "refused by a policy"),
    (7, "stored data is damaged; nothing was changed"),
)


def report(error: errors.PerdureError) -> int:
    """Print an operating error on stderr and return its exit code."""
    _say(f"perdure: {error.sentence}")
    if isinstance(error, errors.ConfigError):
        for problem in error.problems:
            _say(f"  {problem.path}: {problem.sentence}")
            if problem.hint:
                _say(f"      {problem.hint}")
    if error.hint:
        _say(f"  try: {error.hint}")
    return error.exit_code


def report_usage(sentence: str, hint: str) -> int:
    """Print a mistake on the command line and return its exit code."""
    _say(f"perdure: {sentence}")
    _say(f"  try: {hint}")
    return USAGE_EXIT_CODE


def report_bug(error: BaseException) -> int:
    """Write the traceback to a file, name it in a sentence, and return the exit code."""
    try:
        with tempfile.NamedTemporaryFile("w", prefix="perdure-bug-", suffix=".txt", delete=False) as file:
            file.write(f"perdure {__version__}, python {sys.version}\n")
            traceback.print_exception(error, file=file)
        where = f"the traceback is in {file.name}"
    except OSError as reason:
        where = f"the traceback could not be written: {reason}"
    _say(f"perdure: this is a bug in Perdure: {type(error).__name__}: {error}; {where}")
    _say("  try: report it with that file; services that run are not touched by it")
    return BUG_EXIT_CODE


def report_full(error: OSError) -> int:
    """Say that the output could not be written: the disk is full."""
    leave_the_pipe()
    return report(errors.UnavailableError(f"cannot write: {error.strerror}", "make room, then run the command again"))


def leave_the_pipe() -> int:
    """Nobody reads any more (`perdure events | head`): end quietly, as a program ended by SIGPIPE would."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    return BROKEN_PIPE_EXIT_CODE


def _say(line: str) -> None:
    """Write a line to stderr, in colour for a person, and whatever happens to stderr do not fail over it."""
    if sys.stderr.isatty() and "NO_COLOR" not in os.environ:
        line = line.replace("perdure:", "\033[1;31mperdure:\033[0m", 1) if line.startswith("perdure:") else line
        line = line.replace("  try:", "  \033[1mtry:\033[0m", 1) if line.startswith("  try:") else line
    try:
        print(line, file=sys.stderr, flush=True)
    except OSError:
        return
