"""How one snapshot looks to a person: a pure rendering of the API's document."""

import io
from dataclasses import replace
from typing import Any

import pytest
from rich.console import Console
from test_preserve import Case

from perdure.cli import snapshot_view
from perdure.control import keepsakes
from perdure.model.errors import UnavailableError
from perdure.model.snapshot import Pin, Proof

SHOWN: dict[str, Any] = {
    "id": "s-0193",
    "service": "notes",
    "slot": "notes/1",
    "kind": "sqlite",
    "parent": "s-0192",
    "epoch": 3,
    "data_epoch": 1,
    "taken_at": 1_700_000_000.0,
    "age_s": 64.0,
    "took_s": 0.13,
    "size_bytes": 1_234_567,
    "stored_bytes": 4_096,
    "digest": "ab" * 32,
    "pinned": False,
    "pin": None,
    "marks": [],
    "proven": None,
    "slots": [],
}


def lines(**changed: Any) -> dict[str, str]:
    """What is shown, by label; the title has none."""
    console = Console(file=io.StringIO(), width=200, highlight=False)
    console.print(snapshot_view.render(SHOWN | changed))
    assert isinstance(console.file, io.StringIO)
    shown = [line.rstrip() for line in console.file.getvalue().splitlines()]
    return {line[2:12].strip() if line.startswith("  ") else "": line[12:] for line in shown}


def test_all_that_is_known_is_shown() -> None:
    found = lines()
    assert found["taken"].endswith("1 m 4 s ago, in 0.1 s")
    assert found["history"] == "epoch 3, data epoch 1, after s-0192"
    assert found["content"] == "sqlite, 1.2 MB (1,234,567 bytes); it added 4.1 kB to the store"
    assert found["digest"] == "ab" * 32
    assert lines(parent=None)["history"].endswith("after none")


@pytest.mark.parametrize(
    ("changed", "label", "words"),
    [
        ({}, "kept as", "any other: retention may remove it"),
        ({"marks": ["good", "v1"]}, "kept as", "good, v1"),
        (
            {"pinned": True, "pin": {"until": None, "why": "by command"}},
            "kept as",
            "pinned until it is unpinned (by command)",
        ),
        ({"pinned": False, "pin": {"until": 5.0, "why": "safety"}}, "kept as", "any other: retention may remove it"),
        ({}, "proven", "not yet: perdure snapshot verify notes s-0193"),
        ({}, "applied", "no slot stands at it"),
        ({"slots": ["notes/2", "notes/3"]}, "applied", "notes/2, notes/3"),
    ],
)
def test_why_it_is_kept_whether_it_restores_and_who_stands_at_it(
    changed: dict[str, Any], label: str, words: str
) -> None:
    assert lines(**changed)[label] == words


def test_a_pin_with_an_end_says_when_and_a_proof_says_what_came_of_it() -> None:
    pinned = lines(pinned=True, pin={"until": 1_700_000_000.0, "why": "before going back"})["kept as"]
    assert pinned.startswith("pinned until 2023-11-1") and pinned.endswith("(before going back)")
    good = lines(proven={"at": 1_700_000_000.0, "took_s": 0.2, "problem": ""})["proven"]
    assert good.startswith("restored aside and checked on 2023-11-1") and good.endswith("in 0.2 s")
    bad = lines(proven={"at": 1_700_000_000.0, "took_s": 0.2, "problem": "the check\x1b[2J fails"})["proven"]
    assert bad.startswith("FAILED on 2023-11-1") and "\x1b" not in bad


async def test_the_api_says_what_the_list_leaves_out() -> None:
    case = Case()
    made = keepsakes.Keepsakes(case.preserver)
    case.shelf.write("web/1", "a")
    await case.step()
    found = await made.shown("web", "s-0001")
    assert (found["service"], found["kind"], found["parent"], found["slots"]) == (
        "web",
        "sqlite",
        None,
        ["web/2", "web/3"],
    )
    assert len(found["digest"]) == 64 and found["pin"] is None and not found["pinned"]
    await case.preserver.keeper.note("web", "s-0001", Pin(None, "a reason"), None)
    assert (await made.shown("web", "s-0001"))["pin"] == {"until": None, "why": "a reason"}


async def test_a_pin_that_is_over_keeps_nothing() -> None:
    case = Case()
    await case.step()
    wall = case.clock.wall()
    [kept] = case.service.preserved.kept
    kept = replace(kept, pin=Pin(wall, "safety"), proof=Proof(wall, 1.0))
    assert keepsakes.document(kept, wall - 1.0)["pinned"] and not keepsakes.document(kept, wall)["pinned"]


async def test_an_unknown_snapshot_is_told_with_the_command_that_lists_those_that_there_are() -> None:
    made = keepsakes.Keepsakes(Case().preserver)
    with pytest.raises(UnavailableError, match="there is no snapshot s-0009 of web") as raised:
        await made.shown("web", "s-0009")
    assert raised.value.hint == "perdure snapshot list web" and raised.value.exit_code == 4
