"""The command `perdure`: every command is registered here, and every error becomes a sentence and an exit code.

The reader's path begins here: a command asks the daemon through `client`, and the daemon is started by `launching`.
Commands live in `declaring` (the file), `running`, `looking`, `changing`, `deploying`, `keeping`, `going_back` and
`retrying`; their heavy imports happen inside them.
"""

import errno
import sys
from collections.abc import Sequence
from typing import Annotated

import typer

from perdure import __version__
from perdure.cli import (
    changing,
    declaring,
    deploying,
    failure,
    going_back,
    keeping,
    looking,
    options,
    retrying,
    running,
    terminal,
)
from perdure.model import errors

_EPILOG = "Exit codes: " + "; ".join(f"{code} {meaning}" for code, meaning in failure.EXIT_CODES) + "."
_ALONE = "Without a daemon"
_PANELS = (
    ("Run", (running.up, running.down, running.reload)),
    ("Look", (looking.status, looking.explain, looking.events, looking.logs)),
    ("Change", (changing.restart, changing.drain, changing.undrain, changing.scale, changing.promote)),
    (
        "Releases",
        (
            deploying.deploy,
            deploying.rollback,
            deploying.abort,
            deploying.promote_release,
            deploying.acknowledge,
            deploying.releases,
            deploying.diff,
        ),
    ),
    ("Data", (keeping.mark, keeping.unmark, going_back.restore, going_back.undo, going_back.rescue)),
    ("The file", (declaring.init, declaring.check, declaring.doctor, declaring.docs)),
)


def _print_version(wanted: bool) -> None:
    if wanted:
        version()
        raise typer.Exit


Seed = Annotated[
    int, typer.Option("--seed", min=0, help="The seed that drives everything; the same seed, the same run.")
]
Runs = Annotated[int, typer.Option("--count", min=1, help="How many seeds to run, counting up from --seed.")]
Version = Annotated[
    bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version of Perdure.")
]
Trace = Annotated[bool, typer.Option("--trace", help="Print every event of the simulated world.")]

app = typer.Typer(
    name="perdure",
    help="Keeps services answering on your own machines while processes, releases and data fail.",
    epilog=_EPILOG,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)


@app.callback()
def _root(file: options.RootFile = None, show_version: Version = False) -> None:
    """The options that stand before a command; `options` reads them."""


def sim(seed: Seed = 0, count: Runs = 1, trace: Trace = False) -> None:
    """Run the control code in a simulated world full of faults, and check what Perdure promises."""
    from perdure.sim import command

    raise typer.Exit(command.run(seed, count, trace))


def version() -> None:
    """Print the version of Perdure."""
    print(f"perdure {__version__}")


for _panel, _commands in _PANELS:
    for _command in _commands:
        app.command(rich_help_panel=_panel)(_command)
app.add_typer(keeping.app, name="snapshot", rich_help_panel="Data")
# Options after the first word belong to the command that is repeated.
app.command(rich_help_panel=_ALONE, context_settings={"allow_interspersed_args": False})(retrying.retry)
app.command(rich_help_panel=_ALONE)(sim)
app.command(rich_help_panel=_ALONE)(version)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run one command; always ends in SystemExit."""
    terminal.prepare_streams()
    sys.exit(_run(list(sys.argv[1:] if arguments is None else arguments)))


def _run(arguments: list[str]) -> int:
    command = typer.main.get_command(app)
    try:
        result = command.main(arguments, prog_name="perdure", standalone_mode=False)
        sys.stdout.flush()
    except errors.PerdureError as error:
        return failure.report(error)
    except BrokenPipeError:
        return failure.leave_the_pipe()
    except (KeyboardInterrupt, typer.Abort):
        return failure.INTERRUPTED_EXIT_CODE
    except SystemExit as ended:
        if isinstance(ended.__context__, BrokenPipeError):  # typer met it first
            return failure.leave_the_pipe()
        raise
    except OSError as error:
        return failure.report_full(error) if error.errno == errno.ENOSPC else failure.report_bug(error)
    except Exception as error:  # noqa: BLE001  the root of the program: a bug, or a usage error
        return _usage_or_bug(error)
    return result if isinstance(result, int) else 0


def _usage_or_bug(error: Exception) -> int:
    """Tell the command line's own errors, whose class is no public name of typer's, from bugs."""
    context = getattr(error, "ctx", None)
    if not hasattr(error, "format_message"):
        return failure.report_bug(error)
    sentence = str(error.format_message()).strip().rstrip(".")
    if not sentence:  # `perdure` alone: its help was printed
        return failure.USAGE_EXIT_CODE
    path = context.command_path if context is not None else "perdure"
    return failure.report_usage(sentence[:1].lower() + sentence[1:], f"{path} --help")


if __name__ == "__main__":
    main()
