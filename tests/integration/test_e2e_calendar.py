"""The example of a calendar: Radicale, a program of others, is killed, handed over and copied while somebody writes.

`examples/calendar` is run as it is, but for ports, paths and how often a snapshot is taken. The client puts, changes
and deletes events and repeats each request until it is answered, which WebDAV allows for PUT and DELETE; so when it has
stopped, the calendar must hold exactly what it wrote: neither an event that is missing nor one that came back.
"""

import http.client
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from e2e import ROOT, Site, get, gone, site, wait
from ledgers import another, owned, settled

from perdure.recover import take_over

EXAMPLE = ROOT / "examples" / "calendar"
RADICALE = Path(sys.executable).with_name("radicale")
NAME = "calendar"
PLANS = "/team/plans/"
EVERY_S = 1.0
HARMLESS = {"R03", "R04", "D03"}
"""Suspicions that came and went, and proofs: they change nothing that runs."""
EVENT = "\r\n".join(
    (
        "BEGIN:VCALENDAR",
        "VERSION:2.0",
        "PRODID:-//perdure//calendar//EN",
        "BEGIN:VEVENT",
        "UID:{uid}",
        "DTSTAMP:20260101T000000Z",
        "DTSTART:20261201T090000Z",
        "SUMMARY:{summary}",
        "END:VEVENT",
        "END:VCALENDAR",
        "",
    )
)


@contextmanager
def running() -> Iterator[Site]:
    """The example, with an empty calendar in it."""
    with site() as made:
        shutil.copy(EXAMPLE / "radicale.conf", made.directory)
        made.write(declared(made.port))
        made.up()
        settled(made, NAME)
        for method, path in (("MKCOL", "/team/"), ("MKCALENDAR", PLANS)):
            assert ask(made.port, method, path) == 201
        yield made


@pytest.fixture(scope="module")
def calendar() -> Iterator[Site]:
    with running() as made:
        yield made


def declared(port: int) -> str:
    """The file of the example, with what must be another in a test."""
    text = (EXAMPLE / "perdure.toml").read_text()
    for there, here in (
        ('"radicale ', f'"{RADICALE} '),
        ("127.0.0.1:8080", f"127.0.0.1:{port}"),
        ('every = "10s"', f'every = "{EVERY_S:g}s"'),
    ):
        assert text.count(there) == 1, there
        text = text.replace(there, here)
    return text


def ask(port: int, method: str, path: str, body: str = "") -> int:
    """The status of one answer; raises OSError or HTTPException when there is none."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20.0)
    try:
        connection.request(method, path, body.encode() or None, {"Content-Type": "text/calendar"} if body else {})
        answer = connection.getresponse()
        answer.read()
        return answer.status
    finally:
        connection.close()


class Secretary:
    """Writes events one after the other, changes and deletes some, and knows what the calendar must hold."""

    events: dict[str, str]

    def __init__(self, port: int) -> None:
        self.events = held(port)
        self.answered = 0
        self.repeated: list[str] = []
        self._port = port
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> "Secretary":
        self._thread.start()
        self.more()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def more(self, count: int = 10) -> None:
        """Wait until so many more requests are answered."""
        aim = self.answered + count
        wait(lambda: self.answered >= aim, f"{count} more requests are answered", 20.0)

    def _run(self) -> None:
        while not self._stop.is_set():
            number = self.answered
            uid = f"{number}-of-{id(self)}"
            if self.events and number % 3 == 1:
                uid = list(self.events)[number % len(self.events)]
            if number % 7 == 6:
                self._until_answered("DELETE", uid := next(iter(self.events)), "")
                del self.events[uid]
            else:
                self._until_answered("PUT", uid, EVENT.format(uid=uid, summary=f"version-{number}"))
                self.events[uid] = f"version-{number}"
            self.answered += 1

    def _until_answered(self, method: str, uid: str, body: str) -> None:
        """Repeat it until it is done; a DELETE that was carried out without an answer finds nothing the next time."""
        done = {200, 201, 204, 404} if method == "DELETE" else {201, 204}
        while True:
            error: Exception | None = None
            try:
                status = ask(self._port, method, f"{PLANS}{uid}.ics", body)
            except (OSError, http.client.HTTPException) as one:
                status, error = 0, one
            if status in done:
                return
            assert status == 0 or status >= 500, f"{method} {uid}: {status}"
            self.repeated.append(f"{method} {uid}: {status or error!r}")


def held(port: int) -> dict[str, str]:
    """What the calendar holds: the summary of each event."""
    return events_in(get(port, PLANS))


def events_in(text: str) -> dict[str, str]:
    """The summary of each event in the text of a calendar, by its name."""
    events = {}
    for event in text.split("BEGIN:VEVENT")[1:]:
        found = dict(line.split(":", 1) for line in event.splitlines() if ":" in line)
        events[found["UID"]] = found["SUMMARY"]
    return events


def state_of(made: Site, slot: str) -> Path:
    return made.paths.slots / NAME / slot.partition("/")[2] / "state"


def last(made: Site) -> dict[str, Any]:
    """The last snapshot; empty when there is none yet, or the daemon has not looked."""
    return owned(made, NAME)["data"]["last"] or {}


def test_a_killed_calendar_comes_back_with_every_event_that_was_acknowledged(calendar: Site) -> None:
    before = settled(calendar, NAME)
    with Secretary(calendar.port) as secretary:
        os.kill(before["pid"], signal.SIGKILL)
        wait(lambda: another(calendar, NAME, before), "another replica is active")
        secretary.more()
    assert held(calendar.port) == secretary.events


def test_one_that_is_killed_again_and_again_leaves_its_slot_to_the_other_which_has_every_event() -> None:
    """On a site of its own: two deaths over the same kind of request may be taken for deadly (P14) for five minutes."""
    with running() as made:
        before, epoch = settled(made, NAME), owned(made, NAME)["epoch"]
        victim, kills = before, 0
        with Secretary(made.port) as secretary:
            while victim["slot"] == before["slot"]:
                os.kill(victim["pid"], signal.SIGKILL)
                victim = wait(lambda victim=victim: another(made, NAME, victim), "another replica is active")
                kills += 1
                secretary.more()
        assert kills == take_over.IN_PLACE_TRIES
        assert owned(made, NAME)["epoch"] > epoch
        assert held(made.port) == secretary.events


def test_a_handover_while_somebody_writes_loses_no_event_and_fails_no_request(calendar: Site) -> None:
    before = settled(calendar, NAME)
    with Secretary(calendar.port) as secretary:
        for _ in range(2):
            calendar.ask("promote", NAME)
            secretary.more()
    after = settled(calendar, NAME)
    assert after["slot"] == before["slot"] and after["pid"] != before["pid"] and gone(before["pid"])
    assert held(calendar.port) == secretary.events
    assert not secretary.repeated


def test_snapshots_are_taken_while_somebody_writes_and_nobody_suffers(calendar: Site) -> None:
    before, since = settled(calendar, NAME), calendar.newest()
    with Secretary(calendar.port) as secretary:
        for _ in range(3):
            taken = last(calendar)
            wait(lambda taken=taken: last(calendar) != taken, "the next snapshot")
            secretary.more()
    assert not secretary.repeated
    assert settled(calendar, NAME)["pid"] == before["pid"]
    assert set(calendar.rules(since)) <= HARMLESS


def test_a_snapshot_is_listed_verified_and_followed_and_radicale_finds_it_sound(calendar: Site, tmp_path: Path) -> None:
    settled(calendar, NAME)
    events = held(calendar.port)
    said = calendar.ask("snapshot", "take", NAME)
    taken = said.split()[0]
    assert calendar.ask("mark", NAME, "term", "--snapshot", taken).startswith(f"{taken} of calendar is 'term' now")
    listed = {one["id"]: one for one in json.loads(calendar.ask("snapshot", "list", NAME, "--json"))}
    assert listed[taken]["marks"] == ["term"] and listed[taken]["size_bytes"] > 0
    assert "is whole, and was restored aside" in calendar.ask("snapshot", "verify", NAME, taken)

    def followed() -> dict[str, Any] | None:
        (found,) = [one for one in owned(calendar, NAME)["replicas"] if one["role"] == "passive"]
        return found if found["snapshot"] is not None and found["snapshot"] >= taken else None

    copy = shutil.copytree(
        state_of(calendar, wait(followed, "the one that stands by follows")["slot"]), tmp_path / "state"
    )
    written = (copy / "collection-root" / PLANS.strip("/")).glob("*.ics")
    assert events_in("".join(file.read_text() for file in written)) == events
    checked = subprocess.run(
        [RADICALE, "-C", EXAMPLE / "radicale.conf", "--verify-storage", "--storage-filesystem-folder", copy],
        capture_output=True, text=True, timeout=30.0, check=False,
    )  # fmt: skip
    assert checked.returncode == 0, checked.stderr


def test_a_killed_daemon_is_noticed_by_nobody_who_writes(calendar: Site) -> None:
    before, found = settled(calendar, NAME), owned(calendar, NAME)
    with Secretary(calendar.port) as secretary:
        os.kill(calendar.status()["daemon"]["pid"], signal.SIGKILL)
        secretary.more()
        calendar.up()
        secretary.more()
        taken = last(calendar)
        wait(lambda: last(calendar) not in ({}, taken), "the next snapshot")
    after = settled(calendar, NAME)
    assert (after["pid"], owned(calendar, NAME)["epoch"]) == (before["pid"], found["epoch"])
    assert held(calendar.port) == secretary.events
    assert not secretary.repeated
