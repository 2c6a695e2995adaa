"""A run that a daemon started and nobody recorded, because the daemon died while the store was locked."""

from perdure.sim import run


def test_a_run_that_nobody_recorded_is_ended_before_its_slot_gets_another() -> None:
    outcome = run.play(570)
    assert not outcome.violations, outcome.told()
    rules = [line.split()[2] for line in outcome.trace if line.split()[1] == "event"]
    assert "A06" in rules
    assert "P01" in rules[rules.index("A06") :], "its slot got another one afterwards"
