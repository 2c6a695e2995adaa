"""A switch where the live state is gone, and journals that somebody planted: nothing but the slot's own is moved."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from perdure.adapters.state import filesystem, journal, switch
from perdure.adapters.state.place import Place
from perdure.model.errors import CorruptionError, UnavailableError
from perdure.model.snapshot import Keeping, StateKind
from switching import KINDS, Death, Dying, Slot, new_slots


@pytest.fixture(autouse=True)
def no_waiting_for_the_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """Thousands of switches are made here; no power is cut, and nobody has anything open unless a test says so."""
    monkeypatch.setattr(filesystem, "sync", lambda path: None)
    monkeypatch.setattr(switch, "writers", lambda state, files: [])


@pytest.fixture(params=KINDS, ids=str)
def slots(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Slot]:
    """Fresh ones, as many as are needed."""
    return new_slots(tmp_path / "service", KINDS[request.param])


def test_a_state_whose_directories_were_removed_gets_them_back_with_the_owner_of_the_slots_own(
    slots: Iterator[Slot],
) -> None:
    slot = next(slots)
    shutil.rmtree(slot.live.directory)
    slot.live.directory.mkdir(mode=0o700)
    if os.geteuid() == 0:
        os.chown(slot.live.directory, 65_534, 65_534)
    if slot.live.live == slot.live.directory:
        slot.live.directory.rmdir()  # the slot's own: made anew before anybody uses it
    slot.switch()
    assert slot.look(slot.live) == slot.new
    slot.switch()
    if slot.live.live.parent not in (slot.live.directory, slot.live.directory.parent):
        seen, own = slot.live.live.parent.stat(), slot.live.directory.stat()
        assert (seen.st_uid, seen.st_mode & 0o777) == (own.st_uid, 0o750)
    if slot.live.live != slot.live.directory:
        with pytest.raises(UnavailableError, match="nothing to switch to"):
            slot.undo()
    slot.verify_tidy()


def test_a_removed_database_leaves_its_log_which_is_kept_too(tmp_path: Path) -> None:
    for keeping in (KINDS["database"], KINDS["database below"]):
        slot = Slot(tmp_path / keeping.path.replace("/", "-") / "1", keeping)
        slot.live.live.unlink()
        log = slot.live.sides()[0]
        content = log.read_bytes()
        slot.switch()
        assert slot.look(slot.live) == slot.new
        assert slot.outgoing.sides()[0].read_bytes() == content
        slot.verify_tidy()


def test_every_death_in_a_switch_with_nothing_live_ends_with_nothing_or_the_new_state(slots: Iterator[Slot]) -> None:
    def fresh() -> Slot:
        slot = next(slots)
        slot.live.live.rename(slot.live.directory.with_name("elsewhere"))
        return slot

    counting = Dying()
    fresh().switch(counting)
    for number in range(1, counting.count + 1):
        slot = fresh()
        with pytest.raises(Death):
            slot.switch(Dying(after=number))
        switch.recover(slot.live)
        assert slot.live.live.exists() != slot.incoming.live.exists()
        slot.switch()
        assert slot.look(slot.live) == slot.new
        slot.verify_tidy()


def names_of_side(slot: Slot) -> tuple[Path, Path]:
    return slot.incoming.directory / "side", slot.outgoing.directory / "side"


def planted(slot: Slot, **changed: Path) -> None:
    """A journal as somebody else would like it: the state in `live` is not exchanged yet; `side`: a second move."""
    names = {"live": slot.live.live, "incoming": slot.incoming.live, "outgoing": slot.outgoing.live} | changed
    file = journal.file_at(names["incoming"])
    move = journal.Move(names["live"], names["incoming"], names["outgoing"], None, file)
    moves = [move]
    if "side" in changed:
        moves.append(journal.Move(changed["side"], *names_of_side(slot), None, None))
    tops = (changed.get("top", slot.incoming.directory), slot.outgoing.directory)
    slot.live.journal.write_bytes(journal.Switch(tuple(moves), *tops).encode())


def test_a_journal_that_names_what_is_not_the_slots_moves_nothing(slots: Iterator[Slot], tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("secret")
    for number in range(8):
        slot = next(slots)
        changed = [
            {"incoming": secret},
            {"incoming": secret, "top": secret},
            {"live": tmp_path / "planted"},
            {"outgoing": tmp_path / "planted"},
            {"incoming": secret, "top": tmp_path},
            {"incoming": slot.incoming.directory / "../../../secret"},
            {"live": slot.live.directory / "another"},
            {"side": tmp_path / "planted"},
        ][number]
        planted(slot, **changed)
        with pytest.raises(CorruptionError, match="not of this slot; nothing was moved"):
            switch.recover(slot.live)
        with pytest.raises(CorruptionError, match=str(slot.live.journal)):
            switch.require_possible(slot.live, slot.incoming, slot.outgoing)
        assert secret.read_text() == "secret"
        slot.live.journal.unlink()
        slot.verify_old()


def test_a_journal_that_is_a_link_or_somebody_elses_is_refused(slots: Iterator[Slot], tmp_path: Path) -> None:
    slot = next(slots)
    planted(slot)
    own = slot.live.journal.rename(tmp_path / "elsewhere")
    slot.live.journal.symlink_to(own)
    with pytest.raises(CorruptionError, match="no file of Perdure's own"):
        switch.recover(slot.live)
    slot.live.journal.unlink()
    if os.geteuid() == 0:
        own.rename(slot.live.journal)
        os.chown(slot.live.journal, 65_534, 65_534)
        with pytest.raises(CorruptionError, match="no file of Perdure's own"):
            switch.recover(slot.live)
        slot.live.journal.unlink()
    slot.verify_old()


def test_what_lies_in_the_slots_own_directory_is_no_journal(slots: Iterator[Slot]) -> None:
    slot = next(slots)
    planted(slot)
    for name in (slot.live.journal.name, f".perdure-switch-{slot.live.live.name}"):
        for directory in {slot.live.directory, slot.live.live.parent} - {slot.live.directory.parent}:
            shutil.copyfile(slot.live.journal, directory / name)
    slot.live.journal.unlink()
    assert switch.recover(slot.live) is None
    assert slot.incoming.live.exists()


def test_no_two_slots_and_no_two_paths_share_a_journal(tmp_path: Path) -> None:
    keepings = [*KINDS.values(), Keeping(StateKind.COMMAND), Keeping(StateKind.FILES, path="data-inner")]
    places = [Place.of(tmp_path / name, keeping) for name in ("1", "2", "1-a") for keeping in keepings]
    assert len({place.journal for place in places}) == len(places)
    assert {place.journal.parent for place in places} == {tmp_path}


def test_an_undo_after_a_handover_uses_the_back_directory_of_another_slot(tmp_path: Path) -> None:
    slot = Slot(tmp_path, KINDS["database below"])
    for number in ("1", "2"):
        (tmp_path / "slots" / number / "back").mkdir(parents=True)
    here = Place.of(tmp_path / "slots" / "1" / "state", slot.keeping)
    there = [Place.of(tmp_path / "slots" / "2" / "back" / name, slot.keeping) for name in ("r1-new", "r1-old")]
    slot.live.directory.rename(here.directory)
    slot.incoming.directory.rename(there[0].directory)
    with pytest.raises(Death):
        switch.switch(here, there[0], there[1], Dying(after=6))
    assert switch.recover(here) is not None
    switch.switch(here, there[0], there[1])
    assert slot.look(here) == slot.new
    other = Place.of(tmp_path / "aside", slot.keeping)
    slot.fill(other, "third")
    with pytest.raises(UnavailableError, match="not beside the directory of a slot"):
        switch.switch(here, other, Place.of(tmp_path / "slots" / "1" / "back" / "r2-old", slot.keeping))
    assert slot.look(here) == slot.new


def test_a_journal_that_cannot_be_read_stops_everything(slots: Iterator[Slot]) -> None:
    slot = next(slots)
    broken = slot.live.journal
    broken.write_text("{")
    with pytest.raises(CorruptionError, match="journal"):
        switch.recover(slot.live)
    with pytest.raises(CorruptionError, match="journal"):
        slot.switch()
    broken.unlink()
    slot.verify_old()
