"""The state of active-passive services: snapshots while clients write, takeovers that lose nothing, what is damaged."""

import asyncio
import json
import os
import signal
import threading
import urllib.error
from collections.abc import Iterator
from typing import Any

import pytest
from e2e import Site, get, site, wait
from ledgers import HEALTHZ, WARM, another, declared, owned, settled

from perdure.recover import take_over

EVERY_S = 1.0
STATE = 'state = { kind = "sqlite", path = "ledger.db", every = "1s" }'


@pytest.fixture(scope="module")
def ledgers() -> Iterator[Site]:
    with site() as made:
        made.write(declared("warm", made.ports[0], WARM, STATE) + declared("cold", made.ports[1], STATE))
        made.up()
        yield made


class Writer:
    """A client that writes one line after the other, and counts those that were acknowledged."""

    def __init__(self, port: int) -> None:
        self.acknowledged = self.failed = 0
        self._port = port
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> "Writer":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def more(self, count: int = 10) -> None:
        """Wait until so many more are acknowledged."""
        aim = self.acknowledged + count
        wait(lambda: self.acknowledged >= aim, f"{count} more writes are acknowledged")

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                get(self._port, "/write", "POST", timeout_s=20.0)
            except (urllib.error.URLError, ConnectionError, TimeoutError):
                self.failed += 1
            else:
                self.acknowledged += 1


def count(port: int) -> int:
    return int(get(port, "/count"))


def last(made: Site) -> str:
    """The last snapshot of `warm`; empty when there is none yet, or the daemon has not looked."""
    found = owned(made, "warm")["data"]["last"]
    return str(found["id"]) if found is not None else ""


def followed(made: Site, service: str) -> list[dict[str, Any]]:
    """Wait until those that stand by have a state of the last seconds."""

    def close() -> list[dict[str, Any]]:
        passive = [one for one in owned(made, service)["replicas"] if one["role"] == "passive"]
        return (
            passive if all(one["lag_s"] is not None and one["lag_s"] < 3.0 * EVERY_S + 1.0 for one in passive) else []
        )

    return wait(close, f"those that stand by follow {service}", 20.0)


@pytest.mark.parametrize(("service", "number"), [("warm", 0), ("cold", 1)])
def test_a_handover_while_clients_write_loses_nothing_that_was_acknowledged(
    ledgers: Site, service: str, number: int
) -> None:
    before = settled(ledgers, service)
    start = count(ledgers.ports[number])
    with Writer(ledgers.ports[number]) as writer:
        for _ in range(3):
            ledgers.ask("promote", service)
            writer.more()
    assert settled(ledgers, service)["slot"] != before["slot"]
    assert count(ledgers.ports[number]) >= start + writer.acknowledged


def test_a_killed_active_replica_loses_nothing_that_was_acknowledged(ledgers: Site) -> None:
    start = count(ledgers.ports[0])
    with Writer(ledgers.ports[0]) as writer:
        for _ in range(3):
            before = settled(ledgers, "warm")
            writer.more()
            os.kill(before["pid"], signal.SIGKILL)
            wait(lambda before=before: another(ledgers, "warm", before), "another one is active")
    assert count(ledgers.ports[0]) >= start + writer.acknowledged


def test_those_that_stand_by_follow_and_the_status_says_how_far(ledgers: Site) -> None:
    for service in ("warm", "cold"):
        settled(ledgers, service)
        (passive,) = followed(ledgers, service)
        assert passive["snapshot"].startswith("s-")
        wait(lambda service=service: owned(ledgers, service)["data"]["proven"], "the first proof", 20.0)
        found = owned(ledgers, service)
        data = found["data"]
        assert found["takeover_bound_s"] > take_over.LOOP_S, "copying the last state is counted in"
        assert data["snapshots"] >= 1 and data["problem"] is None and data["proven"]["proven"]["problem"] == ""
    assert "snapshots, the last" in ledgers.ask("status")


def test_snapshots_by_command(ledgers: Site) -> None:
    settled(ledgers, "cold")
    taken = ledgers.ask("snapshot", "take", "cold").split()[0]
    assert f"{taken} is whole" in ledgers.ask("snapshot", "verify", "cold", taken)
    ledgers.ask("snapshot", "pin", "cold", taken)
    assert "v1" in ledgers.ask("mark", "cold", "v1", "--snapshot", taken)
    listed = json.loads(ledgers.ask("snapshot", "list", "cold", "--json"))
    (one,) = [one for one in listed if one["id"] == taken]
    assert one["pinned"] and one["marks"] == ["v1"] and one["proven"]["problem"] == ""
    assert taken in ledgers.ask("snapshot", "list", "cold")
    shown = json.loads(ledgers.ask("snapshot", "show", "cold", taken, "--json"))
    assert shown["pin"] == {"until": None, "why": "by command"} and len(shown["digest"]) == 64
    assert "v1, pinned until it is unpinned" in ledgers.ask("snapshot", "show", "cold", taken)
    carried = ledgers.directory / "carried.tar"
    ledgers.ask("snapshot", "export", "cold", taken, str(carried))
    came = ledgers.ask("snapshot", "import", "cold", str(carried)).split()[2]
    assert came in {one["id"] for one in json.loads(ledgers.ask("snapshot", "list", "cold", "--json"))}
    weak = {(one["subject"], one["rule"]) for one in json.loads(ledgers.ask("doctor", "--json"))}
    assert not weak & {("cold", f"W{number}") for number in (*range(22, 26), 28, 29)}
    ledgers.ask("snapshot", "unpin", "cold", taken)
    assert "no longer marked v1" in ledgers.ask("unmark", "cold", "v1")
    gone = ledgers.run("unmark", "cold", "v1")
    assert gone.returncode == 4 and "perdure snapshot list cold" in gone.stderr
    assert ledgers.run("mark", "cold", "healthy-20261125-1405").returncode == 6
    for verb in ("verify", "show"):
        refused = ledgers.run("snapshot", verb, "cold", "s-9999")
        assert refused.returncode == 4 and "no snapshot" in refused.stderr and "perdure snapshot list" in refused.stderr


def test_a_killed_daemon_leaves_the_snapshots_and_the_next_one_goes_on(ledgers: Site) -> None:
    settled(ledgers, "warm")
    before = last(ledgers)
    os.kill(ledgers.status()["daemon"]["pid"], signal.SIGKILL)
    ledgers.up()
    settled(ledgers, "warm")
    wait(lambda: last(ledgers) > before, "the next snapshot")
    followed(ledgers, "warm")


def test_what_cannot_be_copied_is_told_and_kept_and_what_was_followed_serves() -> None:
    """The database of the active replica is damaged, and it dies: the other one has what the last snapshot had."""
    with site() as made:
        made.write(declared("warm", made.ports[0], WARM, STATE))
        made.up()
        before = settled(made, "warm")
        for _ in range(5):
            get(made.ports[0], "/write", "POST")
        taken = last(made)
        wait(lambda: last(made) > taken, "a snapshot with all of it")
        followed(made, "warm")
        number = before["slot"].partition("/")[2]
        file = made.paths.slots / "warm" / number / "state" / "ledger.db"
        os.kill(before["pid"], signal.SIGKILL)
        file.write_bytes(b"no database at all" * 1000)
        for suffix in ("-wal", "-shm"):
            file.with_name(file.name + suffix).unlink(missing_ok=True)
        wait(lambda: another(made, "warm", before), "another one is active", 20.0)
        assert count(made.ports[0]) == 5
        assert "D05" in made.rules()
        for _ in range(2):
            taken = last(made)
            wait(
                lambda taken=taken: last(made) > taken,
                "the next snapshot, which the damaged slot does not follow",
            )
        assert file.read_bytes().startswith(b"no database")
        replica = made.replica(int(number), "warm")
        assert replica["state"] == "stopped" and replica["standby"] is False


async def test_gets_wait_while_the_last_state_is_copied_and_none_fails(ledgers: Site) -> None:
    before = settled(ledgers, "warm")
    async with ledgers.load(rate=100.0, port=ledgers.ports[0], mix=HEALTHZ) as clients:
        await asyncio.sleep(0.5)
        os.kill(before["pid"], signal.SIGKILL)
        await asyncio.to_thread(wait, lambda: another(ledgers, "warm", before), "another one is active")
        await asyncio.sleep(0.5)
    assert clients.result.failed == 0, clients.result.sentence()
