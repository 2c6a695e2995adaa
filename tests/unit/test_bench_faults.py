"""The fault bench: its catalogue is sound, and its figures are what they say."""

from collections import Counter

from bench import sides, tally
from bench.faults import Work, results
from bench.faults.catalogue import ROWS, Expected, Row, Whom
from bench.faults.results import Series
from bench.faults.trial import Trial


def row(number: str) -> Row:
    return next(one for one in ROWS if one.number == number)


def test_every_row_has_a_number_of_its_own_and_what_all_share_isolates_nobody() -> None:
    assert len({one.number for one in ROWS}) == len(ROWS)
    for one in ROWS:
        assert one.expected is not Expected.ISOLATED or one.whom is not Whom.ALL
        assert one.number.startswith("B") is (one.expected is Expected.NOTHING)


def test_late_is_noticed_but_not_in_time_and_never_is_neither() -> None:
    trials = (Trial(0.0, 1.0), Trial(10.0, 10.5), Trial(20.0, None, false_actions=2))
    cells = results._cells(Series("Perdure", row("F4"), trials))
    assert cells == (
        "F4: workers stuck, /healthz alive",
        "Perdure",
        "2 of 3",
        "1 of 3",
        "2 of 3",
        *cells[5:6],
        "10",
        "2",
        "0 of 0",
    )


def test_of_a_disturbance_only_what_was_touched_counts() -> None:
    cells = results._cells(Series("Perdure", row("B5"), (Trial(0.0), Trial(9.0, false_actions=1))))
    assert cells[2:] == ("", "", "1 of 2", "", "", "1", "0 of 0")


def test_a_request_belongs_to_the_trial_in_which_it_was_due() -> None:
    trials = [Trial(10.0, ended_at=12.0), Trial(20.0, ended_at=22.0)]
    samples = [tally.Sample(n, due_at, 0.1, outcome, 0) for n, (due_at, outcome) in enumerate(
        [(9.0, "timeout"), (11.0, "status 500"), (12.0, tally.OK), (15.0, "timeout"), (21.0, tally.OK)]
    )]  # fmt: skip
    results.attribute(trials, samples)
    assert [(one.requests, one.failed) for one in trials] == [(2, 1), (1, 0)]


def test_every_trial_is_made_once_and_what_only_perdure_has_is_asked_of_nobody_else() -> None:
    def planned(own: bool) -> Counter[str]:
        work = Work(lambda stage: sides.PerdureSide.__new__(sides.PerdureSide), stages=2, trials=4)
        work.plan(ROWS, own)
        made: Counter[str] = Counter()
        for one, count in (*work.turns, *work.alone):
            made[one.number] += count
        return made

    assert planned(True) == {one.number: 4 * one.times for one in ROWS}
    assert planned(False) == {one.number: 4 * one.times for one in ROWS if not one.own}
