"""Every transcript in this folder is replayed: its commands must lead to exactly the decisions written below them.

pytest tests/scenario --rewrite-transcripts     writes what happens now; review the difference
"""

import re
from pathlib import Path

import pytest
from interpreter import Interpreter

TRANSCRIPTS = sorted((Path(__file__).parent / "transcripts").glob("*.txt"))
TRACE = "    | "
REACTION = re.compile(r"\| .*( R01 | R11 | R12 | R13 | R14 | P09 |ended by itself)")


def replayed(text: str) -> str:
    """The transcript with the trace of each command below it, as it is now."""
    interpreter, lines = Interpreter(), []
    for line in text.splitlines():
        if not line.startswith(TRACE.rstrip()):
            lines.append(line)
            lines += [TRACE + one for one in interpreter.run(line)]
    return "\n".join(lines) + "\n"


@pytest.mark.parametrize("transcript", TRANSCRIPTS, ids=lambda path: path.stem)
def test_a_transcript_leads_to_the_decisions_that_are_written_in_it(
    transcript: Path, request: pytest.FixtureRequest
) -> None:
    written = transcript.read_text()
    now = replayed(written)
    if request.config.getoption("--rewrite-transcripts"):
        transcript.write_text(now)
    else:
        assert now == written, "if this change is wanted: pytest tests/scenario --rewrite-transcripts"


@pytest.mark.parametrize(
    "transcript", [one for one in TRANSCRIPTS if not one.stem.startswith("T")], ids=lambda path: path.stem
)
def test_a_disturbance_isolates_and_restarts_nobody(transcript: Path) -> None:
    """Transcripts of disturbances (B..) hold no isolation and no ordered restart; those of faults (F..) show some, or
    the alarm that the cause is shared. Takeovers (T..) are of both kinds.
    """
    text = transcript.read_text()
    acted = REACTION.search(text) is not None
    assert (
        acted or any(f" {rule} " in text for rule in ("R05", "R09")) if transcript.stem.startswith("F") else not acted
    )
