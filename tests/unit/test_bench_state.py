"""How the bench of the state counts: what was changed, what is lost, and which aims are met, without any keeper."""

import time
from contextlib import closing
from pathlib import Path

import apsw
import pytest
from bench import state
from bench.processes import BenchError
from bench.state import cost, database, litestream, results
from bench.state.cost import Cost
from bench.state.database import Changed, Shape
from bench.state.loss import EVERY_S, Lost
from bench.state.results import Found
from bench.state.writer import Writer

from perdure.model.snapshot import Loss, TableLoss

ROWS = 400


@pytest.fixture(scope="module")
def notes() -> database.Notes:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(database, "PHRASES", 200)
        return database.Notes(300)


@pytest.fixture
def file(tmp_path: Path, notes: database.Notes, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(database, "Notes", lambda _: notes)
    path = tmp_path / database.NAME
    database.make(path, ROWS, ROWS * 400)
    return path


def found(**more: object) -> Found:
    """All aims are met."""
    given: dict[str, object] = {
        "size_bytes": 1_000,
        "following": {Shape.END: {"Perdure": [Cost(2.0, 1.0, 100, 1_000), Cost(4.0, 1.0, 150, 1_000)]}},
        "preview_s": {Shape.END: [1.0, 3.0]},
        "undo_s": [0.1],
        "machine_lost": {"Perdure": [Lost(100, 50, 1.5), Lost(200, 60, EVERY_S + 1.0)]},
        "process_killed": {"Perdure": [Lost(100, 0, 0.0)]},
        "snapshot_s": [0.5, 1.0],
    }
    return Found(**{**given, **more})  # type: ignore[arg-type]


def missed(of: Found) -> list[str]:
    return [
        sentence.split(" at most")[0].removeprefix("aim: ") for sentence in results.aims(of) if "MISSED" in sentence
    ]


def test_a_change_says_how_many_rows_it_changed_and_the_same_seed_changes_a_twin_alike(
    file: Path, notes: database.Notes, tmp_path: Path
) -> None:
    twin = tmp_path / "twin.db"
    twin.write_bytes(file.read_bytes())
    for shape, expected in ((Shape.SCATTERED, Changed(0, 36, 4)), (Shape.END, Changed(20, 20, 0))):
        before = database.looks_like(file)
        assert database.change(file, shape, 40, 7, notes) == expected
        assert database.change(twin, shape, 40, 7, notes, checkpoint_pages=litestream.CHECKPOINT_PAGES) == expected
        assert database.looks_like(file) == database.looks_like(twin) != before


def test_a_preview_is_exact_when_it_says_what_was_changed_and_nothing_else() -> None:
    changed = Changed(1, 2, 3)
    orders = TableLoss("orders", 1, 2, 3, newest="2026-01-01 00:00:00")
    assert state.exact(Loss(1.0, (orders,)), changed)
    assert not state.exact(Loss(1.0, (orders, TableLoss("acknowledged", 1, 0, 0))), changed)
    assert not state.exact(Loss(1.0, (TableLoss("orders", 1, 2, 2),)), changed)
    assert not state.exact(Loss(1.0), changed)


def test_every_aim_can_be_met_and_missed() -> None:
    end = Shape.END
    assert missed(found()) == []
    assert missed(found(preview_s={end: [1.0, 3.01]})) == ["preview"]
    assert missed(found(inexact=["one"])) == ["previews that are not exact"]
    assert missed(found(following={end: {"Perdure": [Cost(1.0, 1.0, 151, 0)]}})) == ["kept for 1 % changed"]
    assert missed(found(undo_s=[5.1])) == ["undo"]
    assert missed(found(process_killed={"Perdure": [Lost(9, 1, 0.1)]})) == ["rows lost with the process"]
    assert missed(found(process_killed={"Perdure": [Lost(9, None, None)]})) == ["rows lost with the process"]
    assert missed(found(snapshot_s=[0.9])) == ["lost with the machine"]


def test_ratios_are_of_the_same_round() -> None:
    values = {"Perdure": [1.0, 2.0, 4.0], "other": [2.0, 2.0, 2.0], "rare": [3.0]}
    assert results.compared(values, "Perdure") == "2.00 / 4.00"
    assert results.compared(values, "other") == "2.00 / 2.00 (x1)"
    assert results.compared(values, "rare") == "3.00 / 3.00"
    assert results.compared(values, "absent") == "-"


def test_who_finishes_no_copy_is_said_to() -> None:
    none, some = Lost(9, None, None), Lost(9, 4, 0.5)
    assert results._rows_lost([none, none]) == "under 2 copies in 20 s, 2 of 2 times"
    assert results._rows_lost([none, some]) == "4 / 4; under 2 copies in 20 s, 1 of 2 times"
    assert results._seconds_lost([none, some]) == "0.5 / 0.5"
    assert results._seconds_lost([none]) == results._rows_lost(None) == "-"


def test_the_table_has_a_cell_for_each_side_in_each_row() -> None:
    report = results.report(found(), ["Perdure", "other"], ())
    assert {len(row) for row in report.rows} == {len(report.columns)}
    assert {"machine_lost", "process_killed", "base"} <= report.figures.keys()
    assert "machine" not in report.figures, "that is the name of where it was measured"


def test_a_program_is_charged_with_its_cpu_and_with_what_it_writes(tmp_path: Path) -> None:
    target = tmp_path / "written"
    words = ["sh", "-c", f"head -c 1000000 /dev/zero > '{target}'"]
    spent = cost.ran(words, tmp_path / "log")
    assert cost.size(target) == 1_000_000
    assert spent.written_bytes in (0, *range(1_000_000, 1_200_000)), "none where nothing is written to a disk"
    assert spent.took_s > 0.0
    with pytest.raises(BenchError, match="broken"):
        cost.ran(["sh", "-c", "echo broken; exit 3"], tmp_path / "log")


def test_what_a_killed_writer_has_acknowledged_is_in_its_database(file: Path) -> None:
    writer = Writer(file, 500.0, database.CHECKPOINT_PAGES)
    until_at = time.monotonic() + 30.0
    while writer.last < 20 and time.monotonic() < until_at:
        time.sleep(0.01)
    writer.kill()
    writer.bury()
    assert database.acknowledged(file, writer.last) == writer.last >= 20
    assert database.acknowledged(file, 5) == 5
    assert database.written_at(file, 1) < database.written_at(file, writer.last) < time.time()


def test_a_copy_with_a_hole_is_no_copy_of_any_moment(file: Path) -> None:
    with closing(apsw.Connection(str(file))) as connection:
        connection.execute("INSERT INTO acknowledged VALUES (1, 1.0, ''), (3, 3.0, '')").fetchall()
    assert database.acknowledged(file, 2) == 1
    with pytest.raises(BenchError, match="2 of the 3 rows"):
        database.acknowledged(file, 3)
