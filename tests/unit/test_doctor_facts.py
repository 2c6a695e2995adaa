"""What `perdure doctor` sees of a state and of the next release: real files, and the document of `status`."""

import os
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
import pytest
from test_weakness_state import KEEPING, NOTES

from perdure.control import doctor
from perdure.control.paths import Paths
from perdure.model.service import Deployment, Mode, Service
from perdure.model.snapshot import StateKind

NOW = 1_000_000.0


@pytest.fixture
def where(tmp_path: Path) -> Paths:
    made = Paths(tmp_path / "perdure.toml", tmp_path / ".perdure")
    (made.slots / "notes" / "1" / "state").mkdir(parents=True)
    return made


def told(*, since_s: float = 60.0, **data: Any) -> dict[str, Any]:
    active = {"slot": "notes/1", "state": "ready", "role": "active", "since_s": since_s, "standby": False, "lag_s": 0.0}
    active["pid"] = os.getpid()
    passive = {"slot": "notes/2", "state": "stopped", "role": "passive", "standby": True, "lag_s": 4.0, "pid": None}
    kept = {
        "snapshots": 3,
        "last": {"size_bytes": 1000, "took_s": 0.1},
        "proven": {"proven": {"at": NOW - 60.0, "took_s": 0.1, "problem": ""}},
        "problem": None,
    }
    services = {"notes": {"replicas": [active, passive], "data": kept | data, "requests_per_s": 5.0, "rollout": None}}
    return {"daemon": {"pid": os.getpid()}, "services": services}


def rules(where: Paths, document: dict[str, Any] | None, service: Service = NOTES) -> set[str]:
    found = doctor.examine(Deployment((service,)), where, document, NOW)
    return {one.rule for one in found if one.rule >= "W18"}


def state(where: Paths) -> Path:
    return where.slots / "notes" / "1" / "state" / "notes.db"


def keyed(key_file: Path) -> Service:
    return replace(NOTES, state=replace(KEEPING, key_file=str(key_file)))


def test_a_state_that_is_kept_and_followed_has_no_weakness(where: Paths) -> None:
    state(where).write_text("rows")
    assert rules(where, told()) == set()


def test_without_a_daemon_only_the_file_and_the_disk_are_judged(where: Paths) -> None:
    assert rules(where, None) == set()
    (where.slots / "notes").rename(where.slots / "gone")
    assert rules(where, None) == set()


def test_a_state_that_is_elsewhere_is_found_once_the_program_had_time_to_write(where: Paths) -> None:
    assert rules(where, told()) == {"W23"}
    assert rules(where, told(since_s=1.0)) == set()


def test_an_empty_directory_is_no_state(where: Paths) -> None:
    files = replace(NOTES, state=replace(KEEPING, kind=StateKind.FILES, path="."))
    assert rules(where, told(), files) == {"W23"}
    state(where).write_text("rows")
    assert rules(where, told(), files) == set()


def test_a_state_that_leads_out_of_the_directory_of_its_slot_is_found(where: Paths, tmp_path: Path) -> None:
    (tmp_path / "shared.db").write_text("rows")
    state(where).symlink_to(tmp_path / "shared.db")
    assert rules(where, told()) == {"W24"}
    state(where).unlink()
    (state(where).parent / "data.db").write_text("rows")
    state(where).symlink_to("data.db")
    assert rules(where, told()) == set()


@pytest.mark.parametrize(("mode", "found"), [(0o600, set()), (0o640, {"W22"}), (0o604, {"W22"})])
def test_a_key_that_others_may_read_is_found(where: Paths, tmp_path: Path, mode: int, found: set[str]) -> None:
    state(where).write_text("rows")
    key = tmp_path / "notes.key"
    key.write_text("00" * 32)
    key.chmod(mode)
    assert rules(where, told(), keyed(key)) == found
    assert rules(where, None, keyed(tmp_path / "none")) == set()


def test_what_the_daemon_says_of_snapshots_is_judged(where: Paths) -> None:
    state(where).write_text("rows")
    assert rules(where, told(proven=None)) == {"W28"}
    assert rules(where, told(problem="no room is left")) == {"W25"}
    assert rules(where, told(last={"size_bytes": 1 << 60, "took_s": 0.1})) == {"W26"}
    assert rules(where, told(last={"size_bytes": 10, "took_s": 6.0})) == {"W27"}
    assert rules(where, told(snapshots=0, last=None, proven=None)) == set()
    late = told()
    late["services"]["notes"]["replicas"][1]["lag_s"] = 300.0
    assert rules(where, late) == {"W29", "W30"}
    late["services"] = {}
    assert rules(where, late) == set(), "the daemon does not know the service yet"


def test_what_the_daemon_and_the_machine_say_about_the_next_release(
    where: Paths, monkeypatch: pytest.MonkeyPatch
) -> None:
    web = replace(NOTES, mode=Mode.ACTIVE_ACTIVE, state=None)
    document = told()
    assert rules(where, document, web) == {"W35"}, "5 requests a second are too few for a step of 5 %"
    document["services"]["notes"]["rollout"] = {"failed": True, "release": "notes@7", "ended_for": "it crashes"}
    document["services"]["notes"]["requests_per_s"] = 50.0
    assert rules(where, document, web) == {"W31"}
    document["services"]["notes"]["rollout"]["failed"] = False
    monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(available=1_000_000))
    assert rules(where, document, web) == {"W36"}, "this process holds more than that"
    document["services"]["notes"]["replicas"][0]["pid"] = 2**22 + 1
    assert rules(where, document, web) == set(), "a process that has ended holds nothing"
