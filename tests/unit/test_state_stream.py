"""State that only commands know: what they write is kept, what they read comes back, and what they say is told."""

import errno
import json
import os
import shutil
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from slots import draft, place, source, vault

from perdure.adapters.state import refeeding, stream
from perdure.adapters.state.place import Place
from perdure.model.errors import CorruptionError, UnavailableError
from perdure.model.snapshot import Keeping, Manifest, StateKind
from perdure.ports.keeper import HalfwayError, Source

TAKE = ("sh", "-c", "cat state")
RESTORE = ("sh", "-c", "cat > state")
KEEPING = Keeping(StateKind.COMMAND, take=TAKE, restore=RESTORE)


def slot(tmp_path: Path, take: str = "cat state", restore: str = "cat > state", name: str = "1") -> Source:
    return source(tmp_path / name, replace(KEEPING, take=("sh", "-c", take), restore=("sh", "-c", restore)))


def state(of: Source) -> Path:
    return Path(of.directory) / "state"


def taken(tmp_path: Path, of: Source) -> Manifest:
    return stream.take(vault(tmp_path), draft(StateKind.COMMAND), of, tmp_path / "scratch")


def test_what_a_command_wrote_another_reads(tmp_path: Path) -> None:
    mine, others = slot(tmp_path), slot(tmp_path, name="2")
    content = os.urandom(3_000_000)
    state(mine).write_bytes(content)
    manifest = taken(tmp_path, mine)
    assert manifest.size_bytes == len(content)
    there = place(tmp_path / "2", others.keeping)
    stream.apply(vault(tmp_path).open(manifest.id), others, there)
    assert state(others).read_bytes() == content
    applied = there.applied()
    assert applied is not None
    assert applied.manifest == manifest


def test_a_command_that_fails_makes_no_snapshot_and_its_last_words_are_told(tmp_path: Path) -> None:
    words = "for n in 1 2 3 4 5; do echo word $n >&2; done; cat state; exit 3"
    of = slot(tmp_path, take=words)
    state(of).write_text("half")
    with pytest.raises(UnavailableError) as raised:
        taken(tmp_path, of)
    assert raised.value.sentence == ("the command `take` of notes/1 failed: exit code 3: word 3 / word 4 / word 5")
    assert vault(tmp_path).kept() == []
    assert not (tmp_path / "scratch").exists()


def test_much_that_is_said_while_much_is_written_blocks_nobody(tmp_path: Path) -> None:
    of = slot(tmp_path, take="head -c 3000000 /dev/zero >&2 & head -c 3000000 /dev/zero; wait")
    assert taken(tmp_path, of).size_bytes == 3_000_000


def test_a_command_that_never_ends_is_ended_with_its_children(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream, "LIMIT_S", 0.2)
    of = slot(tmp_path, take="sleep 600 & echo $! > child; wait")
    with pytest.raises(UnavailableError, match=r"did not end within 0\.2 s"):
        taken(tmp_path, of)
    child = int((Path(of.directory) / "child").read_text())
    until_at = time.monotonic() + 5
    while Path(f"/proc/{child}").exists() and "Z" not in Path(f"/proc/{child}/stat").read_text().rpartition(")")[2]:
        assert time.monotonic() < until_at
        time.sleep(0.001)


def test_a_command_that_writes_without_end_is_ended_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream, "LIMIT_S", 0.1)
    with pytest.raises(UnavailableError, match="did not end"):
        taken(tmp_path, slot(tmp_path, take="yes"))


def test_a_child_that_is_left_behind_is_not_waited_for(tmp_path: Path) -> None:
    of = slot(tmp_path, restore="cat > state; sleep 600 & exit 0")
    state(of).write_text("x")
    began_at = time.monotonic()
    stream.apply(vault(tmp_path).open(taken(tmp_path, of).id), of, place(tmp_path / "1", of.keeping))
    assert time.monotonic() - began_at < 60


def test_a_command_that_reads_only_a_part_fails_and_leaves_a_mark(tmp_path: Path) -> None:
    of = slot(tmp_path, restore="head -c 10 > state")
    state(of).write_bytes(b"x" * 1_000_000)
    there = place(tmp_path / "1", of.keeping)
    with pytest.raises(UnavailableError, match="ended before it had read all"):
        stream.apply(vault(tmp_path).open(taken(tmp_path, of).id), of, there)
    assert there.applied() is None


def test_a_program_that_is_not_there_is_said(tmp_path: Path) -> None:
    of = source(tmp_path / "1", replace(KEEPING, take=("/nowhere/program",)))
    with pytest.raises(UnavailableError, match="cannot be started: No such file"):
        taken(tmp_path, of)


def test_commands_get_the_services_environment_and_directory_and_nothing_of_perdures(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PERDURE_SECRET", "x")
    monkeypatch.setenv("OTHER", "x")
    of = replace(slot(tmp_path, take='env; echo "in=$PWD"'), environment=(("TOKEN", "t"), ("PORT", "81")))
    content = vault(tmp_path).open(taken(tmp_path, of).id)
    lines = b"".join(content.read("")).decode().splitlines()
    assert {"TOKEN=t", "PORT=81", f"PERDURE_STATE={of.directory}", f"in={of.directory}"} <= set(lines)
    assert not any(line.startswith(("PERDURE_SECRET", "OTHER")) for line in lines)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may become another user")
def test_commands_run_as_the_services_user(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    of = replace(slot(tmp_path, take="id -u"), user="65534")
    for path in (*tmp_path.parents, tmp_path):
        if path.stat().st_uid == 0 and str(path).startswith("/tmp/"):
            path.chmod(0o755)
    assert b"".join(vault(tmp_path).open(taken(tmp_path, of).id).read("")) == b"65534\n"


class Switching:
    """A live state, a stream that is to be fed, and where what was live goes."""

    def __init__(self, tmp_path: Path, restore: str = "cat > state") -> None:
        self.source = slot(tmp_path, restore=restore)
        state(self.source).write_text("new")
        content = vault(tmp_path).open(taken(tmp_path, self.source).id)
        self.incoming, self.outgoing = (Place.of(tmp_path / name, KEEPING) for name in ("aside", "before"))
        stream.restore(content, self.incoming)
        state(self.source).write_text("old")

    def switch(self) -> None:
        refeeding.switch(self.source, self.incoming, self.outgoing)

    def live(self) -> str:
        return state(self.source).read_text()


def test_a_stream_is_fed_and_what_was_live_is_kept_and_the_same_undoes_it(tmp_path: Path) -> None:
    one = Switching(tmp_path)
    one.switch()
    one.switch()
    assert one.live() == "new"
    assert one.outgoing.live.read_text() == "old"
    refeeding.switch(one.source, one.outgoing, one.incoming)
    assert one.live() == "old"
    assert refeeding.recover(one.source) is None


def test_when_feeding_fails_what_was_live_is_fed_back(tmp_path: Path) -> None:
    one = Switching(tmp_path, restore="cat > state; ! grep -q new state")
    with pytest.raises(UnavailableError, match="`restore` of notes/1 failed"):
        one.switch()
    assert one.live() == "old"
    assert one.incoming.live.exists()
    assert not one.outgoing.live.exists()


def test_a_death_at_any_moment_ends_in_the_old_or_the_new_state(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    outcomes = set()
    for number in range(1, 20):
        one = Switching(tmp_path / str(number))
        with monkeypatch.context() as patch:
            for name in ("filesystem.sync", "stream.feed"):
                patch.setattr(f"perdure.adapters.state.refeeding.{name}", Dying(number, name).call)
            try:
                one.switch()
            except KeyboardInterrupt:
                pass
            else:
                break
        outcomes.add(refeeding.recover(one.source))
        assert one.live() == ("new" if not one.incoming.live.exists() else "old")
        one.switch()
        assert one.live() == "new"
        assert one.outgoing.live.read_text() == "old"
    assert outcomes == {None, False, True}


class Dying:
    """Dies when the functions of one test have been called so often; one that feeds does half of it first."""

    calls = 0

    def __init__(self, number: int, name: str) -> None:
        type(self).calls = 0
        self._number, self._name = number, name

    def call(self, *given: object) -> None:
        Dying.calls += 1
        if self._name == "stream.feed":
            assert isinstance(given[0], Source)
            assert isinstance(given[2], Iterator)
            content = b"".join(given[2])
            state(given[0]).write_bytes(content[:1] if Dying.calls == self._number else content)
        if Dying.calls == self._number:
            raise KeyboardInterrupt


def test_nothing_to_feed_and_a_broken_journal_are_said(tmp_path: Path) -> None:
    one = Switching(tmp_path)
    nothing = Place.of(tmp_path / "nothing", KEEPING)
    with pytest.raises(UnavailableError, match="nothing to switch to"):
        refeeding.switch(one.source, nothing, one.outgoing)
    with pytest.raises(UnavailableError, match="exists"):
        refeeding.switch(one.source, one.incoming, one.incoming)
    Place.of(one.source.directory, KEEPING).journal.write_text("[")
    with pytest.raises(CorruptionError, match="journal"):
        one.switch()


def corrected(of: Source) -> Source:
    """The commands work again."""
    return replace(of, keeping=KEEPING)


def test_what_can_neither_be_fed_nor_fed_back_is_halfway_until_recover_can(tmp_path: Path) -> None:
    one = Switching(tmp_path, restore="cat > state; echo half > state; false")
    for attempt in (one.switch, one.switch, lambda: refeeding.recover(one.source)):
        with pytest.raises(HalfwayError, match="notes/1 may be fed half"):
            attempt()
    assert one.live() == "half\n"
    assert refeeding.recover(corrected(one.source)) is False
    assert one.live() == "old"
    assert one.incoming.live.exists() and not one.outgoing.live.exists()
    assert refeeding.recover(one.source) is None


def test_what_is_too_broken_to_be_taken_can_be_replaced_and_nothing_can_be_fed_back(tmp_path: Path) -> None:
    one = Switching(tmp_path)
    one.source = replace(one.source, keeping=replace(KEEPING, take=("sh", "-c", "echo part; false")))
    one.switch()
    one.switch()
    assert one.live() == "new"
    assert refeeding.recover(one.source) is None
    for _ in range(2):
        with pytest.raises(UnavailableError, match="nothing to switch to"):
            refeeding.switch(one.source, one.outgoing, one.incoming)
    assert one.live() == "new"
    assert not one.outgoing.live.exists()


def test_what_is_broken_and_fed_half_is_fed_again_or_another_snapshot_is(tmp_path: Path) -> None:
    one = Switching(tmp_path, restore="cat > state; false")
    one.source = replace(one.source, keeping=replace(one.source.keeping, take=("false",)))
    with pytest.raises(HalfwayError):
        one.switch()
    with pytest.raises(HalfwayError):
        one.switch()
    other, kept = (Place.of(tmp_path / name, KEEPING) for name in ("another", "kept"))
    shutil.copytree(one.incoming.directory, other.directory)
    other.live.write_text("newer")
    for impossible in ((Place.of(tmp_path / "nothing", KEEPING), kept), (other, other)):
        with pytest.raises(HalfwayError):
            refeeding.switch(one.source, *impossible)
    with pytest.raises(HalfwayError):
        refeeding.switch(one.source, other, kept)
    one.source = corrected(one.source)
    assert refeeding.recover(one.source) is True
    assert one.live() == "newer"
    assert one.incoming.live.read_text() == "new"
    with pytest.raises(UnavailableError, match="nothing to switch to"):
        refeeding.switch(one.source, kept, other)


def test_what_is_fed_half_is_put_right_before_a_switch_that_has_nothing_to_feed(tmp_path: Path) -> None:
    one = Switching(tmp_path, restore="cat > state; echo half > state; false")
    one.source = replace(one.source, keeping=replace(one.source.keeping, take=("false",)))
    with pytest.raises(HalfwayError):
        one.switch()
    done = Place.of(tmp_path / "done", KEEPING)
    done.directory.mkdir()
    done.live.write_text("kept by a switch of before")
    refeeding.switch(corrected(one.source), Place.of(tmp_path / "nothing", KEEPING), done)
    assert one.live() == "new"
    assert refeeding.recover(one.source) is None


@pytest.mark.parametrize("lasting", [False, True], ids=["once", "from then on"])
def test_an_error_means_the_old_state_success_the_new_one_and_else_it_is_halfway(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lasting: bool
) -> None:
    outcomes = set()
    for number in range(1, 20):
        one = Switching(tmp_path / str(number))
        refusing = Refusing(number, lasting)
        with monkeypatch.context() as patch:
            patch.setattr("perdure.adapters.state.refeeding.filesystem.sync", refusing.sync)
            try:
                one.switch()
            except HalfwayError:
                outcomes.add("halfway")
            except OSError:
                outcomes.add("old")
                assert one.live() == "old"
                assert not Place.of(one.source.directory, KEEPING).journal.exists()
            else:
                outcomes.add("new")
                assert one.live() == "new"
        if refusing.count < number:
            break
        refeeding.recover(one.source)
        one.switch()
        assert (one.live(), one.outgoing.live.read_text()) == ("new", "old")
    assert outcomes == ({"new", "halfway"} if lasting else {"new", "old"})


class Refusing:
    """A disk that does not flush, once or from some moment on."""

    def __init__(self, number: int, lasting: bool) -> None:
        self.count = 0
        self._number, self._lasting = number, lasting

    def sync(self, path: Path) -> None:
        self.count += 1
        if self.count == self._number or (self._lasting and self.count > self._number):
            raise OSError(errno.EIO, "the disk refuses", str(path))


def test_a_journal_that_somebody_planted_feeds_nothing(tmp_path: Path) -> None:
    one = Switching(tmp_path / "slots" / "notes")
    secret = tmp_path / "secret"
    secret.mkdir()
    (secret / one.incoming.live.name).write_text("secret")
    journal = Place.of(one.source.directory, KEEPING).journal
    inside = Path(one.source.directory) / "inside"
    for names in (
        (str(one.incoming.directory), str(secret)),
        (str(secret), str(one.outgoing.directory)),
        (str(one.incoming.directory), str(inside)),
        (str(one.incoming.directory), f"{one.incoming.directory}/../../../../secret"),
    ):
        journal.write_text(json.dumps(dict(zip(("incoming", "outgoing"), names, strict=True))))
        with pytest.raises(CorruptionError, match="not of this slot"):
            refeeding.recover(one.source)
        with pytest.raises(CorruptionError, match="not of this slot"):
            one.switch()
        with pytest.raises(CorruptionError, match="not of this slot"):
            refeeding.require_possible(one.source, one.incoming, one.outgoing)
        assert one.live() == "old"
    elsewhere = journal.rename(tmp_path / "elsewhere")
    journal.symlink_to(elsewhere)
    with pytest.raises(CorruptionError, match="no file of Perdure's own"):
        refeeding.recover(one.source)


def test_a_stream_that_is_a_link_is_not_read(tmp_path: Path) -> None:
    one = Switching(tmp_path)
    secret = tmp_path / "secret"
    secret.write_text("secret")
    one.incoming.live.unlink()
    one.incoming.live.symlink_to(secret)
    with pytest.raises(OSError, match="Too many levels"):
        one.switch()
    assert one.live() == "old"
