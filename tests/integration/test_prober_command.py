"""Command checks: real programs, ended with all they started."""

import asyncio
import os
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from perdure.adapters.prober import Probers
from perdure.adapters.runner import stat
from perdure.model.check import Check, CheckKind
from perdure.model.evidence import Outcome
from perdure.ports.prober import Answer, Target


@pytest.fixture
async def probers() -> AsyncIterator[Probers]:
    probers = Probers()
    yield probers
    await probers.close()
    with pytest.raises(ChildProcessError):
        os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG)  # noqa: ASYNC222 - it does not wait; nothing must be left


async def run(probers: Probers, *command: str, timeout_s: float = 5.0, **target: object) -> Answer:
    check = Check(CheckKind.COMMAND, command=command)
    return await probers.probe(check, Target(4321, **target), timeout_s, True)  # type: ignore[arg-type]


async def until(condition: Callable[[], bool]) -> None:
    deadline_at = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline_at, "did not happen within 10 s"
        await asyncio.sleep(0.005)


def descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def runs(pid: int) -> bool:
    seen = stat.read(pid)
    return seen is not None and seen.letter not in stat.GONE


async def test_exit_code_zero_is_good_and_shows_the_output(probers: Probers) -> None:
    assert await run(probers, "echo", "accepting", "$PORT") == Answer(Outcome.GOOD, "accepting 4321")


async def test_other_ends_are_told_with_the_last_words(probers: Probers) -> None:
    script = "seq 100000; echo cannot connect >&2; exit 2"
    answer = await run(probers, "sh", "-c", script)
    assert answer.outcome == Outcome.STATUS
    assert answer.excerpt.startswith("exit code 2: ")
    assert answer.excerpt.endswith("99999 100000 cannot connect")
    assert len(answer.excerpt) <= 300
    assert (await run(probers, "sh", "-c", "kill -9 $$$$")).excerpt == "signal SIGKILL: "


async def test_the_environment_is_clean_and_the_directory_is_the_replicas(
    probers: Probers, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NOTIFY_SOCKET", "leaked")
    monkeypatch.setenv("DAEMON_TOKEN", "leaked")
    script = 'test "$$SECRET" = s3cret && test "$$PORT" = 4321 && env | grep -c leaked; pwd'
    answer = await run(probers, "sh", "-c", script, environment=(("SECRET", "s3cret"),), directory=str(tmp_path))
    assert answer == Answer(Outcome.GOOD, f"0 {tmp_path}")


async def test_it_runs_as_the_replicas_user_or_says_why_not(probers: Probers) -> None:
    answer = await run(probers, "sh", "-c", "id -u; id -g; echo $$HOME", user="nobody", directory="/")
    if os.geteuid() == 0:
        assert answer == Answer(Outcome.GOOD, "65534 65534 /nonexistent")
    else:
        assert answer == Answer(Outcome.STATUS, "cannot run 'sh': Operation not permitted")


async def test_what_cannot_run_is_a_bad_answer(probers: Probers, tmp_path: Path) -> None:
    missing = await run(probers, "no-such-program")
    assert missing == Answer(Outcome.STATUS, "cannot run 'no-such-program': No such file or directory: no-such-program")
    (tmp_path / "plain").write_text("text")
    plain = await run(probers, str(tmp_path / "plain"))
    assert plain.excerpt.endswith(f"Permission denied: {tmp_path}/plain")
    nowhere = await run(probers, "true", directory="/no/such/place")
    assert nowhere.excerpt == "cannot run 'true': No such file or directory: /no/such/place"
    nobody = await run(probers, "true", user="no-such-user")
    assert nobody.excerpt == "cannot run 'true': there is no user 'no-such-user' on this host"


async def test_at_the_timeout_the_whole_group_is_ended(probers: Probers, tmp_path: Path) -> None:
    script = f"trap '' TERM; sleep 1000 & echo $$! $$$$ | tee {tmp_path}/pids; wait"
    asked_at = time.monotonic()
    answer = await run(probers, "sh", "-c", script, timeout_s=0.5)
    assert time.monotonic() - asked_at < 1
    pids = [int(pid) for pid in (tmp_path / "pids").read_text().split()]
    assert answer == Answer(Outcome.TIMEOUT, f"no end within 0.5 s: {pids[0]} {pids[1]}")
    await until(lambda: not any(runs(pid) for pid in pids))


async def test_children_left_behind_hold_nothing_up_and_are_ended(probers: Probers, tmp_path: Path) -> None:
    answer = await run(probers, "sh", "-c", f"sleep 1000 & echo $$! > {tmp_path}/pid; echo fine")
    assert answer == Answer(Outcome.GOOD, "fine")
    pid = int((tmp_path / "pid").read_text())
    await until(lambda: not runs(pid))


async def test_a_cancelled_check_is_ended(probers: Probers, tmp_path: Path) -> None:
    task = asyncio.ensure_future(run(probers, "sh", "-c", f"echo $$$$ > {tmp_path}/pid; sleep 1000", timeout_s=1000))
    await until(lambda: (tmp_path / "pid").exists() and bool((tmp_path / "pid").read_text()))
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    pid = int((tmp_path / "pid").read_text())
    await until(lambda: not runs(pid))


async def test_closing_ends_what_still_runs() -> None:
    probers = Probers()
    before = descriptors()
    tasks = [asyncio.ensure_future(run(probers, "sleep", "1000", timeout_s=1000)) for _ in range(3)]
    await until(lambda: descriptors() > before)
    await probers.close()
    answers = await asyncio.gather(*tasks)
    assert {answer.excerpt for answer in answers} == {"signal SIGKILL: "}
    assert descriptors() == before


async def test_a_flood_of_output_is_drained_and_bounded(probers: Probers) -> None:
    answer = await run(probers, "sh", "-c", "head -c 5000000 /dev/zero; exit 1")
    assert answer.outcome == Outcome.STATUS
    assert len(answer.excerpt) <= 300


async def test_many_checks_leave_no_descriptor(probers: Probers) -> None:
    await run(probers, "true")
    before = descriptors()
    for _ in range(5):
        await asyncio.gather(*(run(probers, "true") for _ in range(4)))
    assert descriptors() == before
