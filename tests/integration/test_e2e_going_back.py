"""Going back to older data on real processes: what is shown is what is lost, clients wait, and it can be undone."""

import json
import os
import signal
import sys
from collections.abc import Iterator
from typing import Any

import pytest
from e2e import ROOT, Site, get, site, wait
from ledgers import LEDGER, WARM, active, declared, owned, settled
from test_e2e_state import STATE, Writer, count, followed


@pytest.fixture(scope="module")
def ledgers() -> Iterator[Site]:
    with site() as made:
        made.write(declared("warm", made.ports[0], WARM, STATE))
        made.up()
        yield made


@pytest.fixture
def ledger(ledgers: Site) -> Site:
    settled(ledgers, "warm")
    return ledgers


def write(made: Site, lines: int) -> int:
    """Write so many lines; how many there are then."""
    for _ in range(lines):
        get(made.ports[0], "/write", "POST")
    return count(made.ports[0])


def planned(made: Site, *words: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(made.ask(*words, "--json"))
    return found


def test_what_is_shown_is_lost_and_undone_and_rescued(ledger: Site) -> None:
    old = write(ledger, 3)
    ledger.ask("mark", "warm", "before")
    new = write(ledger, 4)
    plan = planned(ledger, "restore", "warm", "--to", "before")
    (table,) = [one for one in plan["loss"]["tables"] if one["table"] == "writes"]
    assert (table["inserted"], table["updated"], table["deleted"]) == (4, 0, 0)
    assert count(ledger.ports[0]) == new, "nothing was changed yet"

    said = ledger.ask("restore", "warm", "--yes", plan["token"])
    assert "perdure undo warm" in said and f"with {plan['snapshot']}" in said
    assert count(ledger.ports[0]) == old
    wait(lambda: owned(ledger, "warm")["rollback"]["rescued"] == 4, "the lost rows are in a file")
    followed(ledger, "warm")

    write(ledger, 1)
    undo = planned(ledger, "undo", "warm")
    lost = {one["table"]: (one["inserted"], one["updated"], one["deleted"]) for one in undo["loss"]["tables"]}
    assert lost["writes"] == (0, 1, 3), "line 4 is another one then, and three are back again"
    ledger.ask("undo", "warm", "--yes", undo["token"])
    assert count(ledger.ports[0]) == new

    again = planned(ledger, "restore", "warm", "--to", "before")
    ledger.ask("restore", "warm", "--yes", again["token"])
    wait(lambda: owned(ledger, "warm")["rollback"]["rescued"] == 4, "the lost rows are in a file")
    assert "4 of 4 rows are back" in ledger.ask("rescue", "warm")
    assert count(ledger.ports[0]) == new


def histories(made: Site) -> dict[str, int]:
    """Snapshot -> the history that it belongs to."""
    listed = json.loads(made.ask("snapshot", "list", "warm", "--json"))
    return {one["id"]: one["data_epoch"] for one in listed}


def follows(made: Site, history: int) -> dict[str, Any] | None:
    """The one that stands by, when it has a snapshot of this history."""
    (passive,) = [one for one in owned(made, "warm")["replicas"] if one["role"] == "passive"]
    return passive if histories(made).get(passive["snapshot"]) == history else None


def test_clients_wait_while_the_data_are_exchanged_and_those_who_stand_by_follow(ledger: Site) -> None:
    write(ledger, 2)
    ledger.ask("mark", "warm", "before")
    history = max(histories(ledger).values())
    with Writer(ledger.ports[0]) as writer:
        writer.more()
        plan = planned(ledger, "restore", "warm", "--to", "before")
        ledger.ask("restore", "warm", "--yes", plan["token"])
        writer.more()
    assert writer.failed == 0
    before = settled(ledger, "warm")
    passive = wait(lambda: follows(ledger, history + 1), "the other one follows the data that were exchanged")
    total = count(ledger.ports[0])
    os.kill(before["pid"], signal.SIGKILL)
    wait(lambda: (one := active(ledger, "warm")) is not None and one["slot"] == passive["slot"], "the other is active")
    assert count(ledger.ports[0]) == total, "it has the data of after the exchange"


def test_a_token_that_is_not_the_plans_changes_nothing(ledger: Site) -> None:
    lines, last = write(ledger, 1), owned(ledger, "warm")["rollback"]
    ledger.ask("mark", "warm", "before")
    for words, code in (
        (("restore", "warm", "--yes", "r1-0000"), 6),
        (("restore", "warm", "--to", "nowhere"), 2),
        (("restore", "warm", "--to", "s-9999"), 4),
        (("restore", "warm", "--to", "9d"), 4),
        (("restore", "warm"), 2),
        (("restore", "cold", "--to", "before"), 2),
    ):
        refused = ledger.run(*words)
        assert refused.returncode == code and refused.stderr.strip(), words
    plan = planned(ledger, "restore", "warm", "--to", "before")
    assert ledger.run("restore", "warm", "--yes", plan["token"] + "0").returncode == 6
    assert "Nothing was changed" in ledger.ask("restore", "warm", "--to", "before")
    now = owned(ledger, "warm")["rollback"]
    assert (now and now["name"]) == (last and last["name"]) and count(ledger.ports[0]) == lines


@pytest.mark.parametrize("rule", ["C08", "T04", "T11", "P01"])
def test_a_daemon_that_is_killed_in_it_leaves_the_rest_to_the_next_one(ledger: Site, rule: str) -> None:
    """As soon as it has recorded a step, the daemon is killed: the next one does what is left, and it can be undone."""
    old = write(ledger, 2)
    ledger.ask("mark", "warm", "before")
    new = write(ledger, 3)
    plan = planned(ledger, "restore", "warm", "--to", "before")
    start, daemon = ledger.newest(), ledger.status()["daemon"]["pid"]
    ledger.ask("restore", "warm", "--yes", plan["token"], "--no-wait")
    wait(lambda: rule in ledger.rules(start), f"{rule} is recorded", period_s=0.0)
    os.kill(daemon, signal.SIGKILL)
    ledger.up()
    wait(lambda: owned(ledger, "warm")["rollback"]["outcome"] == "done", "it is done", 20.0)
    settled(ledger, "warm")
    assert count(ledger.ports[0]) == old
    undo = planned(ledger, "undo", "warm")
    ledger.ask("undo", "warm", "--yes", undo["token"])
    assert count(ledger.ports[0]) == new


STRICT = """
import os, sqlite3, sys
state = os.environ["PERDURE_STATE"]
if os.path.exists(sys.argv[1]):
    rows = sqlite3.connect(f"{state}/ledger.db").execute("SELECT count(*) FROM writes").fetchone()[0]
    sys.exit(1) if rows < 3 else None
os.execv(sys.executable, [sys.executable, sys.argv[2]])
"""


def test_data_with_which_nobody_can_serve_are_taken_back() -> None:
    """From some day on the program needs what the older data do not have: it does not start with them."""
    with site() as made:
        strict = made.directory / "strict"
        command = json.dumps(
            [sys.executable, "-c", STRICT, str(strict), str(ROOT / "examples" / "ledger" / "ledger.py")]
        )
        text = declared("cold", made.ports[0], STATE)
        made.write(text.replace(f"command = {LEDGER}", f"command = {command}"))
        made.up()
        settled(made, "cold")
        write(made, 2)
        made.ask("mark", "cold", "before")
        write(made, 1)
        strict.touch()
        plan = planned(made, "restore", "cold", "--to", "before")
        refused = made.run("restore", "cold", "--yes", plan["token"])
        assert refused.returncode == 4 and "is taken back" in refused.stderr, refused.stderr
        assert count(made.ports[0]) == 3 and "D13" in made.rules()
        found = owned(made, "cold")["rollback"]
        assert (found["name"], found["undoes"], found["outcome"]) == ("r2", "r1", "done")
        write(made, 1)
        assert count(made.ports[0]) == 4
