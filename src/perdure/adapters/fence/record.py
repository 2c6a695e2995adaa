"""The file of one service, through which the daemon tells the supervisor who is active and is told what was done.

It has four records of 512 bytes, each a line of words that ends with its checksum. The daemon writes the first two in
turn, so that a half-written one leaves the one before; the supervisor writes the others, for SIGTERM and for SIGKILL:

    hold 1 SEQUENCE BOOT SLOT EPOCH PID TICKS TERM KILL CHECKSUM      TERM and KILL are `-` without a deadline, PID is 0
    hold ...                                                          when the service was released
    acted 1 SIGTERM BOOT SLOT EPOCH PID TICKS DUE AT GONE CHECKSUM    DUE: the instant for which it was done
    acted 1 SIGKILL ...

Records are overwritten in place and never renamed: it needs no room, so a full disk cannot end a healthy replica for
want of a renewal. They need not survive a power cut, for nothing that they speak of does: BOOT tells which boot of the
machine they belong to. Both sides import this module, and the supervisor must be small: no dataclasses here.
"""

import binascii
import time

RECORD_BYTES = 512
ACTED_AT = {"SIGTERM": 2 * RECORD_BYTES, "SIGKILL": 3 * RECORD_BYTES}
"""Where what was done with a signal is written."""
FILE_BYTES = 4 * RECORD_BYTES
SUFFIX = ".hold"
LOCK = "lock"
"""Held by the supervisor while it lives; says `PID TICKS BOOT VERSION`."""
LOCK_BYTES = 128
BLANK = b" " * (RECORD_BYTES - 1) + b"\n"
FORMAT = "1"


class Held:
    """What the daemon stated: who is active, and until when. A released service has pid 0."""

    __slots__ = ("epoch", "kill_at", "pid", "sequence", "slot", "started_ticks", "term_at")

    def __init__(self, slot: str, epoch: int, pid: int, started_ticks: int) -> None:
        self.slot = slot
        self.epoch = epoch
        self.pid = pid
        self.started_ticks = started_ticks
        self.term_at: float | None = None
        self.kill_at: float | None = None
        self.sequence = 0
        """Grows with each statement, by an odd number: so each goes where the last but one was."""

    @property
    def name(self) -> tuple[int, int, int]:
        """Which process in which term: what was done to one says nothing of the next."""
        return self.epoch, self.pid, self.started_ticks

    def encode(self, boot: str) -> bytes:
        """The record, to be written at `offset`."""
        numbers = (self.epoch, self.pid, self.started_ticks, _word(self.term_at), _word(self.kill_at))
        return _encode("hold", FORMAT, self.sequence, boot, self.slot, *numbers)

    @property
    def offset(self) -> int:
        """Where this one goes, so that the one before stays."""
        return self.sequence % 2 * RECORD_BYTES


class Done:
    """What the supervisor did to a process, and when its group was gone."""

    __slots__ = ("at", "due_at", "epoch", "gone_at", "pid", "signal", "slot", "started_ticks")

    def __init__(self, held: Held, signal: str, due_at: float, at: float) -> None:
        self.slot = held.slot
        self.epoch = held.epoch
        self.pid = held.pid
        self.started_ticks = held.started_ticks
        self.signal = signal
        self.due_at = due_at
        self.at = at
        self.gone_at: float | None = None

    @property
    def name(self) -> tuple[int, int, int]:
        """As that of what was held."""
        return self.epoch, self.pid, self.started_ticks

    def encode(self, boot: str) -> bytes:
        """The record, to be written at `ACTED_AT[signal]`."""
        numbers = (self.epoch, self.pid, self.started_ticks, repr(self.due_at), repr(self.at), _word(self.gone_at))
        return _encode("acted", FORMAT, self.signal, boot, self.slot, *numbers)


def now() -> float:
    """Seconds of the clock that all instants here are of."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def boot_id() -> str:
    """The kernel's name for this boot."""
    with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:  # noqa: PTH123 - pathlib is large
        return file.read().strip()


def newest(content: bytes, boot: str) -> Held | None:
    """The last valid record of what is held, of this boot; None: there is none.

    A damaged record is as if it had not been written, so the one before counts: it grants no more than was once
    granted, and takes no right away that was. Whoever renews in time writes another one a second later."""
    found = [held for at in (0, RECORD_BYTES) if (held := _held(_decode(content, at, "hold", boot)))]
    return max(found, key=lambda held: held.sequence, default=None)


def done(content: bytes, boot: str) -> list[Done]:
    """What was done on this boot, SIGTERM first; what is damaged is left out."""
    return [one for at in ACTED_AT.values() if (one := _done(_decode(content, at, "acted", boot)))]


def _word(at: float | None) -> str:
    return "-" if at is None else repr(at)


def _instant(word: str) -> float | None:
    return None if word == "-" else float(word)


def _encode(*words: object) -> bytes:
    text = " ".join(str(word) for word in words).encode("ascii")
    line = text + b" %08x" % binascii.crc32(text)
    assert len(line) < RECORD_BYTES, "the names of services are at most 63 letters"
    return line.ljust(RECORD_BYTES - 1) + b"\n"


def _decode(content: bytes, at: int, kind: str, boot: str) -> list[str]:
    """The words of a whole record; none when it is damaged, of another kind or format, or of another boot."""
    text, _, checksum = content[at : at + RECORD_BYTES].rstrip().rpartition(b" ")
    if checksum != b"%08x" % binascii.crc32(text):
        return []
    words = text.decode("ascii", "replace").split(" ")
    return words if words[:2] == [kind, FORMAT] and words[3:4] == [boot] else []


def _held(words: list[str]) -> Held | None:
    try:
        _, _, sequence, _, slot, epoch, pid, ticks, term, kill = words
        held = Held(slot, int(epoch), int(pid), int(ticks))
        held.sequence, held.term_at, held.kill_at = int(sequence), _instant(term), _instant(kill)
    except ValueError:
        return None
    # To signal group 1 is to signal every process, and group 0 is the supervisor's own.
    sound = held.pid > 1 and (held.term_at is None) == (held.kill_at is None)
    return held if sound or held.pid == 0 else None


def _done(words: list[str]) -> Done | None:
    try:
        _, _, signal, _, slot, epoch, pid, ticks, due, at, gone = words
        one = Done(Held(slot, int(epoch), int(pid), int(ticks)), signal, float(due), float(at))
        one.gone_at = _instant(gone)
    except ValueError:
        return None
    return one if signal in ACTED_AT else None
