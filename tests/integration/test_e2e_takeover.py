"""Active-passive services on one machine: who is active is killed, stopped, promoted and drained while clients ask."""

import asyncio
import json
import os
import signal
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from e2e import Site, get, site, wait
from ledgers import HEALTHZ, WARM, another, declared, owned, settled

TAKEN_OVER_S = 1.0
KILLS = 3


@pytest.fixture(scope="module")
def ledgers() -> Iterator[Site]:
    with site() as made:
        made.write(declared("warm", made.ports[0], WARM) + declared("cold", made.ports[1]))
        made.up()
        settled(made, "warm")
        yield made


def lines(made: Site, service: str) -> list[tuple[int, int, int]]:
    """What all ledgers of a service hold: pid, own epoch, and the epoch that the request came with."""
    found = []
    for file in sorted((made.paths.slots / service).glob("*/state/ledger.db")):
        with closing(sqlite3.connect(file)) as database:
            found += database.execute("SELECT pid, own_epoch, epoch FROM writes").fetchall()
    return found


async def test_a_killed_active_replica_is_replaced_by_the_warm_one_within_a_second_and_no_get_fails(
    ledgers: Site,
) -> None:
    async with ledgers.load(rate=200.0, port=ledgers.ports[0], mix=HEALTHZ) as clients:
        for _ in range(KILLS):
            before = settled(ledgers, "warm")
            killed_at = time.monotonic()
            os.kill(before["pid"], signal.SIGKILL)
            after = wait(lambda before=before: another(ledgers, "warm", before), "another one is active")
            assert time.monotonic() - killed_at <= TAKEN_OVER_S
            assert after["slot"] != before["slot"]
    assert clients.result.failed == 0, clients.result.sentence()
    assert clients.result.max_s < TAKEN_OVER_S


async def test_gets_wait_while_a_hang_of_the_active_replica_is_found_and_none_fails(ledgers: Site) -> None:
    before = settled(ledgers, "warm")
    async with ledgers.load(rate=200.0, port=ledgers.ports[0], mix=HEALTHZ) as clients:
        os.kill(before["pid"], signal.SIGSTOP)
        await asyncio.to_thread(wait, lambda: another(ledgers, "warm", before), "another one is active")
    assert clients.result.failed == 0, clients.result.sentence()


async def test_a_killed_cold_one_is_started_again_in_its_slot_with_what_it_wrote(ledgers: Site) -> None:
    before = settled(ledgers, "cold")
    get(ledgers.ports[1], "/write", "POST")
    count = int(get(ledgers.ports[1], "/count"))
    async with ledgers.load(rate=200.0, port=ledgers.ports[1], mix=HEALTHZ) as clients:
        os.kill(before["pid"], signal.SIGKILL)
        after = wait(lambda: another(ledgers, "cold", before), "it is active again")
    assert after["slot"] == before["slot"] and int(get(ledgers.ports[1], "/count")) == count
    assert clients.result.failed == 0, clients.result.sentence()


@pytest.mark.parametrize(("service", "number"), [("warm", 0), ("cold", 1)])
async def test_a_promotion_hands_over_and_fails_nothing(ledgers: Site, service: str, number: int) -> None:
    before, epoch = settled(ledgers, service), owned(ledgers, service)["epoch"]
    async with ledgers.load(rate=200.0, port=ledgers.ports[number], mix=HEALTHZ) as clients:
        said = ledgers.ask("promote", service)
    after, found = settled(ledgers, service), owned(ledgers, service)
    assert after["slot"] != before["slot"] and after["slot"] == found["owner"]
    assert found["epoch"] > epoch and f"{after['slot']} is active" in said
    assert clients.result.failed == 0, clients.result.sentence()
    assert clients.result.max_s <= 1.0


def test_what_is_stopped_never_accepts_a_write_beside_the_next_one(ledgers: Site) -> None:
    """It wakes up while the next one is active: by then its whole group is gone, and so it accepts nothing."""
    before = settled(ledgers, "warm")
    get(ledgers.ports[0], "/write", "POST")
    os.kill(before["pid"], signal.SIGSTOP)
    wait(lambda: another(ledgers, "warm", before), "another one is active", 10.0)
    get(ledgers.ports[0], "/write", "POST")
    assert not Path(f"/proc/{before['pid']}").exists()
    written = lines(ledgers, "warm")
    assert all(own == sent for _, own, sent in written), written
    assert len({pid for pid, _, sent in written}) == len({(pid, sent) for pid, _, sent in written})


def test_a_drained_slot_is_not_active_and_a_service_that_is_not_active_passive_has_nobody_to_promote(
    ledgers: Site,
) -> None:
    before = settled(ledgers, "warm")
    ledgers.ask("drain", before["slot"])
    assert wait(lambda: another(ledgers, "warm", before), "another one is active")["slot"] != before["slot"]
    refused = ledgers.run("promote", before["slot"])
    assert refused.returncode == 6 and "is drained" in refused.stderr
    ledgers.ask("undrain", before["slot"])
    settled(ledgers, "warm")


def test_a_killed_daemon_changes_nothing_and_the_next_one_goes_on_in_the_same_epoch(ledgers: Site) -> None:
    before, epoch = settled(ledgers, "warm"), owned(ledgers, "warm")["epoch"]
    os.kill(ledgers.status()["daemon"]["pid"], signal.SIGKILL)
    assert get(ledgers.ports[0], "/role").strip() == "active"
    ledgers.up()
    after = settled(ledgers, "warm")
    assert (after["pid"], owned(ledgers, "warm")["epoch"]) == (before["pid"], epoch)


def test_what_a_replica_is_told_of_its_role_is_in_its_environment_and_its_file(ledgers: Site) -> None:
    one, found = settled(ledgers, "cold"), owned(ledgers, "cold")
    told = dict(
        pair.split("=", 1) for pair in Path(f"/proc/{one['pid']}/environ").read_text().split("\0") if "=" in pair
    )
    assert (told["PERDURE_ROLE"], told["PERDURE_EPOCH"]) == ("active", str(found["epoch"]))
    file = json.loads(Path(told["PERDURE_ROLE_FILE"]).read_text())
    assert file == {"role": "active", "epoch": found["epoch"], "service": "cold", "slot": one["slot"]}
    assert Path(told["PERDURE_STATE"]).stat().st_mode & 0o777 == 0o700
    assert found["takeover_bound_s"] is not None and found["takeover_bound_s"] < 5.0
