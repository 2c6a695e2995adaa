"""The fault bench: its catalogue is sound, and its figures are what they say."""

import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from bench import processes, program, sides, tally
from bench.faults import Work, disasters, outcomes, results, stages
from bench.faults.catalogue import ELSEWHERE, ROWS
from bench.faults.results import Series
from bench.faults.row import Expected, Row, Whom
from bench.faults.struck import Struck
from bench.faults.trial import Trial


class Told(sides.PerdureSide):
    """A Perdure whose events are made up."""

    def __init__(self) -> None:
        self.told: list[dict[str, Any]] = []
        self.said = ""

    def tell(self, rule: str, subject: str = "web") -> None:
        self.told.append({"number": len(self.told) + 1, "rule": rule, "subject": subject})

    def get(self, path: str, timeout_s: float = 10.0) -> Any:
        if path == "/v1/status":
            return {"services": {"web": {"sentence": self.said}}}
        after = int(path.partition("after=")[2])
        return self.told[after:]


def row(number: str) -> Row:
    return next(one for one in ROWS if one.number == number)


def test_every_row_has_a_number_of_its_own_and_what_all_share_isolates_nobody() -> None:
    assert len({one.number for one in ROWS}) == len(ROWS)
    for one in ROWS:
        assert one.expected is not Expected.ISOLATED or one.whom is not Whom.ALL
        assert one.expected is not Expected.NOTHING or "B" in one.number
        assert one.stage in stages.NAMES
        assert one.own or one.strike not in (disasters.bad_release, disasters.other_data)


def test_the_catalogue_of_the_design_is_complete_or_says_where_else_it_is() -> None:
    made = {word for one in ROWS for word in one.number.split()}
    wanted = {f"F{n}" for n in (*range(1, 20), *range(24, 44))} | {f"B{n}" for n in (*range(1, 13), 14)}
    elsewhere = {"B3", "B4", "B9"}
    assert wanted - made == elsewhere
    assert all(any(one in numbers for numbers, _ in ELSEWHERE) for one in elsewhere)


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
        work = Work(lambda name, stage, number: Told(), stages=2, trials=4)
        work.plan(ROWS, own)
        made: Counter[str] = Counter()
        for kind in (work.turns, work.alone):
            for name, turns in kind.items():
                for one, count in turns:
                    assert one.stage == name
                    made[one.number] += count
        assert work.todo == made.total()
        return made

    assert planned(True) == {one.number: one.trials(4) for one in ROWS}
    assert planned(False) == {one.number: one.trials(4) for one in ROWS if not one.own}


def test_what_takes_long_is_made_less_often() -> None:
    assert (row("B8").trials(10), row("B8").trials(1)) == (2, 1)
    assert row("F1").trials(10) == 30


def asked(side: sides.Side, number: str, *struck: Struck) -> outcomes.Question:
    return outcomes.question(side, row(number), struck or (Struck(0, 0),))


def test_an_alarm_must_have_a_rule_of_the_row_and_come_after_the_strike() -> None:
    side = Told()
    side.tell("R08")
    question = asked(side, "F28")
    side.tell("A08")
    assert not question.noticed()
    side.tell("R08")
    assert question.noticed()


def test_what_the_status_told_must_become_an_event_where_the_row_has_a_rule() -> None:
    side = Told()
    crash_loop, locked = asked(side, "F2"), asked(side, "F41")
    assert crash_loop.to_the_end() and not locked.to_the_end()
    side.tell("A08", "daemon")
    assert locked.to_the_end()
    side.said = "web/1 keep ending; Perdure keeps trying"
    assert crash_loop.noticed()
    with pytest.raises(processes.BenchError):
        asked(side, "F2")


def test_an_alarm_about_one_replica_must_name_its_slot() -> None:
    side, struck = Told(), Struck(0, os.getpid())
    question = asked(side, "F32", struck)
    side.tell("P13", "web/9")
    assert not question.noticed()
    side.tell("P13", struck.slot)
    assert question.noticed()


def test_events_that_an_order_may_not_bring_count_as_somebody_touched() -> None:
    side = Told()
    side.tell("R01", "web/1")
    question = asked(side, "B7 restart")
    side.tell("P08", "web/1")
    assert question.forbidden() == 0
    side.tell("R11", "web/2")
    assert question.forbidden() == 1


def test_who_relapses_unnoticed_was_not_noticed() -> None:
    struck = Struck(1, 1)
    question = asked(Told(), "F33", struck)
    struck.relapses.extend((0.4, 1.0))
    assert question.to_the_end()
    struck.relapses.append(None)
    assert not question.to_the_end()


def test_a_request_that_a_stranger_got_spoils_the_trial() -> None:
    struck = Struck(1, 1)
    question = asked(Told(), "F43", struck)
    assert question.to_the_end()
    struck.strays.append(0.02)  # as soon as a crash may be noticed
    assert question.to_the_end()
    struck.strays.append(0.6)
    assert not question.to_the_end()


def test_a_family_is_gone_when_none_of_it_runs() -> None:
    struck = Struck(1, os.getpid())
    question = asked(Told(), "F42", struck)
    assert not question.noticed(), "nobody knows yet who belongs to it"
    struck.family.append(os.getpid())
    assert not question.noticed()
    struck.family[:] = [2**22 + 1]
    assert question.noticed()


@pytest.mark.parametrize(("failed", "right"), [(0, "1 of 1"), (1, "0 of 1")])
def test_where_no_request_may_fail_one_is_too_many(failed: int, right: str) -> None:
    trial = Trial(0.0, failed=failed, requests=9)
    assert results._cells(Series("Perdure", row("B7 drain"), (trial,)))[4] == right


def test_every_stage_declares_a_program_and_what_its_clients_ask(tmp_path: Path) -> None:
    for name in stages.NAMES:
        stage = stages.made(name, tmp_path)
        plan = stage.plan(8080)
        assert plan.url.startswith("https" if stage.program.tls else "http")
        assert (plan.trust != "") is stage.program.tls
        assert plan.mix and plan.rate > 0


def test_a_program_is_told_its_port_by_its_option_or_by_the_environment_alone() -> None:
    assert program.APP.on(7)[-2:] == ["--port", "7"]
    assert program.Program(("tiny",), port_option="").on(7) == ["tiny"]


def test_haproxy_that_passes_tls_through_looks_into_no_request() -> None:
    def words(backend: str) -> Sequence[str]:
        return sides.passed_through(backend).split()

    for checks in (sides.DEFAULT_CHECKS, sides.WATCHFUL_CHECKS):
        assert not {"retry-on", "http-request", "layer7"} & set(words(checks.backend))
        assert words(checks.backend)[-3:] == ["check-ssl", "verify", "none"]
