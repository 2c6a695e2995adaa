"""When somebody is told that hardly any thread can be started any more."""

from pathlib import Path

import pytest
from facts import standing

from perdure.adapters import tasks as counting
from perdure.detect import tasks
from perdure.model.decision import Note
from perdure.model.evidence import Tasks
from perdure.prevent import notice


def seen(*used: int, limit: int = 1000) -> str:
    started = tasks.Started()
    for number, one in enumerate(used):
        started = tasks.observe(started, Tasks(one, limit, "the user shop"), 10.0 * number)
    return tasks.sentence(started)


@pytest.mark.parametrize(
    ("used", "told"),
    [
        ([900], ""),
        ([950], "the user shop has 950 of 1,000 threads and processes: no more can be started soon"),
        (range(600, 900, 10), "and will have all in 2 min"),
        (range(300, 600, 10), ""),
        ([890] * 30, ""),
    ],
)
def test_a_limit_on_threads_is_told_before_it_strikes(used: list[int], told: str) -> None:
    found = seen(*used)
    assert told in found
    assert bool(found) is bool(told)


def test_it_is_told_of_the_service() -> None:
    (decision,) = notice.decide("web", [standing(1)], notice.Conditions(tasks=seen(990)))
    assert (decision.rule, decision.subject, decision.change) == ("P17", "web", Note("tasks"))


def group(root: Path, path: str, current: int, limit: str) -> None:
    directory = root / path.lstrip("/")
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "pids.current").write_text(f"{current}\n")
    (directory / "pids.max").write_text(f"{limit}\n")


def test_of_all_control_groups_above_the_tightest_one_counts(tmp_path: Path) -> None:
    group(tmp_path, "/system.slice/shop.service", 40, "max")
    group(tmp_path, "/system.slice", 400, "500")
    found = counting.of_control_group("0::/system.slice/shop.service\n", tmp_path)
    assert found == Tasks(400, 500, "the control group of the daemon")
    group(tmp_path, "/system.slice/shop.service", 40, "50")
    assert counting.of_control_group("0::/system.slice/shop.service\n", tmp_path) is not None
    assert counting.of_control_group("0::/elsewhere\n", tmp_path) is None


def test_older_kernels_count_them_in_a_hierarchy_of_its_own(tmp_path: Path) -> None:
    group(tmp_path, "/pids/shop", 90, "100")
    (tmp_path / "unified").mkdir()
    assert counting.of_control_group("8:pids:/shop\n4:memory:/x\n0::/\n", tmp_path) == Tasks(
        90, 100, "the control group of the daemon"
    )


def test_nobody_limits_root() -> None:
    assert counting.of_user(0) is None
