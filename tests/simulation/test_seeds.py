"""Seeds: 200 fresh ones for every change of the code, all that ever broke a promise, and the same run twice.

Which ones are fresh follows from the text of the source, so that a change meets others than the one before, while the
same code meets the same ones everywhere: a failure elsewhere is a failure here. PERDURE_SEED plays another block.
"""

import hashlib
import os
import re
import subprocess
import sys
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import pytest

import perdure
from perdure.sim import command, run

FRESH = 200
SAVED = [
    int(line.split()[0])
    for line in (Path(__file__).parent / "seeds.txt").read_text().splitlines()
    if line and not line.startswith("#")
]


def _fresh_from() -> int:
    """Where the fresh block of this code begins."""
    source = hashlib.sha256()
    for path in sorted(Path(perdure.__file__).parent.rglob("*.py")):
        source.update(path.read_bytes())
    return int.from_bytes(source.digest()[:4]) * 1000


def _told(seed: int) -> str:
    outcome = run.play(seed)
    return outcome.told() if outcome.violations else ""


def _broken(seeds: list[int]) -> list[str]:
    with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as pool:
        return [told for told in pool.map(_told, seeds, chunksize=5) if told]


def test_every_saved_seed_keeps_every_promise() -> None:
    broken = _broken(SAVED)
    assert not broken, "\n\n".join(broken)


def test_two_hundred_fresh_seeds_keep_every_promise() -> None:
    begin = int(os.environ.get("PERDURE_SEED") or _fresh_from())
    broken = _broken(list(range(begin, begin + FRESH)))
    assert not broken, f"seeds from {begin} on (PERDURE_SEED={begin} plays them again)\n\n" + "\n\n".join(broken)


def _digest(seed: int, hash_seed: str) -> str:
    found = subprocess.run(
        [sys.executable, "-c", f"from perdure.sim import run; print(run.play({seed}).digest)"],
        env={**os.environ, "PYTHONHASHSEED": hash_seed},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    return found.stdout.strip()


@pytest.mark.parametrize("seed", [1, 50, 570])
def test_a_seed_replays_exactly_in_another_process_with_other_hashes(seed: int) -> None:
    digest = _digest(seed, "1")
    assert re.fullmatch("[0-9a-f]{64}", digest)
    assert digest == _digest(seed, "4711") == run.play(seed).digest


def test_another_seed_is_another_run() -> None:
    assert run.play(1).digest != run.play(2).digest


def test_the_command_prints_the_whole_trace_and_the_same_text_each_time(capsys: pytest.CaptureFixture[str]) -> None:
    assert command.run(1, 1, True) == 0
    first = capsys.readouterr().out
    assert command.run(1, 1, True) == 0
    assert capsys.readouterr().out == first
    assert "F1 web/3" in first
    assert "R10 web/3: ended by itself" in first
    assert "0 with broken promises" in first
