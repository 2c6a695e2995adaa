"""Reading goes on while another process takes and removes snapshots, and rewrites packs under the reader's hands."""

import os
import random
import signal
from pathlib import Path

import vaults
from perdure.adapters.state.vault import Vault
from perdure.model.errors import UnavailableError
from vaults import draft, noise, restored, take

DATA = noise(1, 60 * 256)
ROUNDS = 60


def content_of(number: int) -> dict[str, bytes]:
    """What snapshot `number` holds: a tenth differs from any other one."""
    chance = random.Random(number)
    changed = bytearray(DATA)
    for chunk in chance.sample(range(60), 6):
        changed[chunk * 256 : chunk * 256 + 256] = chance.randbytes(256)
    return {"a": bytes(changed), "b": b"%d" % number}


def write(store: Path) -> None:
    """Take snapshots, and keep the newest three beside the first one, which is marked."""
    vault = Vault(store)
    for number in range(2, ROUNDS):
        take(vault, content_of(number), draft(taken_at=float(number)))
        vault.remove([one.manifest.id for one in vault.kept()[:-3] if not one.marks])


def test_whoever_reads_gets_what_was_taken_or_that_it_is_gone_and_never_damage(tmp_path: Path) -> None:
    with vaults.small_packs():
        store = tmp_path / "store"
        vault = Vault(store)
        take(vault, content_of(1), draft(taken_at=1.0))
        vault.mark("first", "s-0001")
        pid = os.fork()
        if pid == 0:
            status = 1
            try:
                write(store)
                status = 0
            finally:
                os._exit(status)
        reads = gone = 0
        try:
            while os.waitpid(pid, os.WNOHANG) == (0, 0):
                kept = vault.kept()
                for one in (kept[0], kept[-1], kept[len(kept) // 2]):
                    number = int(one.manifest.id.removeprefix("s-"))
                    try:
                        content = vault.open(one.manifest.id)
                        vault.verify(one.manifest.id)
                        found = restored(content)
                    except UnavailableError as error:
                        assert "there is no snapshot" in error.sentence
                        assert number > 1
                        gone += 1
                        continue
                    if number == 1 or one is kept[-1]:
                        assert found == content_of(number)
                        reads += 1
        except BaseException:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            raise
        assert reads > 10
        assert [one.manifest.id for one in vault.kept()] == ["s-0001", *(f"s-{n:04d}" for n in range(57, 60))]
        for one in vault.kept():
            vault.verify(one.manifest.id)
