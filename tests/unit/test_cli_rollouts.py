"""How a rollout, the releases and their difference look to a person: pure renderings of the API's documents."""

import io
from typing import Any

import pytest
from rich.console import Console, RenderableType

import rollout_told as told
from perdure.cli import explain_view, release_view, rollout_view, status_view
from perdure.cli import rollout_words as words


def shown(what: RenderableType, columns: int = 80) -> list[str]:
    console = Console(file=io.StringIO(), width=columns, highlight=False)
    console.print(what)
    assert isinstance(console.file, io.StringIO)
    return [line.rstrip() for line in console.file.getvalue().splitlines()]


def coloured(what: RenderableType) -> str:
    console = Console(file=io.StringIO(), width=80, highlight=False, force_terminal=True, color_system="standard")
    console.print(what)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def status(rollout: dict[str, Any] | None) -> RenderableType:
    return status_view.render({"services": {"web": {"state": "ready", "replicas": [], "rollout": rollout}}})


def test_the_picture_marks_the_present_step_and_shows_both_releases_side_by_side() -> None:
    assert shown(rollout_view.render([told.sharing(message="a new login page")])) == [
        "web@6 -> web@7  canary  a new login page",
        "  ✓     -  before any traffic",
        "  ✓    5%  ████████████████████  1 m",
        "  ▸   25%  ██████░░░░░░░░░░░░░░  18 s of 1 m",
        "  ·   50%  ░░░░░░░░░░░░░░░░░░░░  2 m",
        "  ·   90%  ░░░░░░░░░░░░░░░░░░░░  10 m",
        "                REQUESTS    FAILED     RATE",
        "  web@7            1,234         2    0.16%",
        "  web@6            3,801         5    0.13%",
        "  evidence    ████░░░░░░░░░░░░░░░░  1.4 of the 6.9 that convict it",
        "  now         42 more seconds",
    ]


def test_before_the_first_step_nothing_is_compared_and_that_is_said() -> None:
    lines = shown(rollout_view.render([told.rollout()]))
    assert lines[1] == "  ▸     -  starting, no traffic  for 18 s"
    assert lines[2].startswith("  ·    5%")
    assert lines[7].split() == ["web@7", "-", "-", "-"]
    assert lines[-2:] == ["  evidence    not compared yet", "  now         1 of 2 new replicas answer their checks"]


def test_a_step_that_was_thrown_out_is_marked_and_later_ones_were_not_taken() -> None:
    marks = [line[2] for line in shown(rollout_view.render([told.going_back()]))[1:6]]
    assert marks == ["✓", "✓", "✗", "·", "·"]
    assert "1 of its replicas still end" in " ".join(" ".join(shown(rollout_view.render([told.going_back()]))).split())


def test_of_a_finished_rollout_all_steps_are_over() -> None:
    marks = [line[2] for line in shown(rollout_view.render([told.done()]))[1:6]]
    assert marks == ["✓"] * 5


@pytest.mark.parametrize(("step", "first"), [(1, "7%"), (7, "33%"), (15, "73%")])
def test_of_many_steps_those_around_the_present_one_are_shown(step: int, first: str) -> None:
    steps = [{"share": (number + 1) / 15, "for_s": 5.0} for number in range(15)]
    document = told.rollout(phase="sharing", strategy="rolling", steps=steps, step=step, share=step / 15)
    lines = shown(rollout_view.render([document]))
    assert lines[2].split()[1] == first
    assert sum("▸" in line for line in lines) == 1
    assert lines[7].strip() == "15 steps in all"


def test_the_picture_fits_80_columns_whatever_the_names_and_messages() -> None:
    name = "a-service-with-a-name-of-as-many-characters-as-are-allowed-here"
    document = told.sharing(
        release=f"{name}@12", before=f"{name}@11", message="all is new " * 20, waits_for="holds: " + "both fail " * 20
    )
    lines = shown(rollout_view.render([document]), columns=200)
    assert max(len(line) for line in lines[1:]) <= 80
    assert any("…" in line and line.split()[0].endswith("@12") for line in lines)
    assert all(len(line) <= 80 for line in shown(rollout_view.render([document])))


def test_two_rollouts_fit_24_lines_and_more_are_a_line_each() -> None:
    assert len(shown(rollout_view.render([told.sharing(), told.sharing()], 23))) == 23
    assert (
        shown(rollout_view.render([told.sharing()] * 3, 23))
        == ["web@7 is deployed: 25% of the requests, step 2 of 4; 42 more seconds"] * 3
    )


def test_what_else_is_to_be_said_stands_below_and_takes_a_line() -> None:
    lines = shown(rollout_view.render([told.sharing(), told.sharing()], 23, "the daemon is not running"))
    assert len(lines) == 3 and lines[-1] == "the daemon is not running"


def test_the_colour_of_the_evidence_says_how_close_it_is() -> None:
    figures = {0.5: "32m", 3.0: "33m", 9.0: "31m"}
    for evidence, code in figures.items():
        text = coloured(rollout_view.render([told.sharing(compared=told.COMPARED | {"evidence": evidence})]))
        line = next(line for line in text.splitlines() if "evidence" in line)
        assert code in line


def test_evidence_for_the_new_release_is_an_empty_bar() -> None:
    document = told.sharing(compared=told.COMPARED | {"evidence": -4.2})
    assert "░░░░░░░░░░░░░░░░░░░░  0.0 of the 6.9" in shown(rollout_view.render([document]))[9]


def test_a_rollback_is_red_and_names_cause_numbers_last_words_and_the_next_commands() -> None:
    assert "\x1b[1;31mweb@7 was rolled back to web@6: web@7 fails" in coloured(rollout_view.ending(told.rolled_back()))
    lines = shown(rollout_view.ending(told.rolled_back()), columns=200)
    assert lines[0] == f"web@7 was rolled back to web@6: {told.WHY} (after 16 s)"
    assert lines[1:3] == [
        "  numbers  requests 212, failures 31, e-value 1,000,000",
        "  what it wrote last (2 lines before)",
    ]
    assert lines[3] == "    |   frame 1" and lines[12] == "    | KeyError \N{REPLACEMENT CHARACTER}"
    assert [line.split("  ")[2] for line in lines[14:]] == [
        f"perdure logs {told.rolled_back()['slots'][0]}",
        "perdure diff web@6 web@7",
        "perdure deploy web",
        "perdure acknowledge web",
    ]


def test_an_acknowledged_rollback_is_not_to_be_acknowledged_again() -> None:
    assert "acknowledge" not in " ".join(shown(rollout_view.ending(told.rolled_back(failed=False))))


def test_a_good_end_is_two_lines_and_an_aborted_one_says_who_serves() -> None:
    assert shown(rollout_view.ending(told.done())) == [
        "web@7 has all the traffic (after 14 m 2 s)",
        "  web@7 failed 2 of 1,234 requests, web@6 5 of 3,801",
    ]
    assert shown(rollout_view.ending(told.aborted())) == [
        "web@7 was aborted, and web@6 serves: somebody aborted it (after 16 s)"
    ]


def test_a_verdict_that_is_only_observed_is_told_while_it_goes_on_and_at_its_end() -> None:
    verdict = {"observe": True, "ended_for": "web@7 is slow"}
    said = "only observed; it would have been rolled back: web@7 is slow"
    assert f"  verdict     {said}" in shown(rollout_view.render([told.sharing(**verdict)]))
    assert f"  {said}" in shown(rollout_view.ending(told.done(**verdict)))
    assert f"  web@7 is {said}" in shown(status(told.sharing(**verdict)))


@pytest.mark.parametrize(
    ("document", "sentence"),
    [
        (told.rollout(waits_for=""), "web@7 is deployed: no traffic yet"),
        (told.rollout(attempt=2, waits_for="x"), "web@7 is deployed: no traffic yet, second attempt; x"),
        (told.rollout(back=True, waits_for=""), "web@7 is brought back: no traffic yet"),
        (
            told.sharing(3, strategy="rolling", waits_for=""),
            "web@7 is deployed: 50% of the replicas, step 3 of 4",
        ),
        (told.done(), "web@7 has all the traffic"),
        (told.done(phase="done"), "web@7 has all the traffic, and stays"),
        (told.done(phase="recalled"), "web@7 has turned bad: web@6 gets a share again, to compare"),
        (told.going_back(ended_for="it is bad"), "web@7 goes back to web@6: it is bad"),
        (
            told.rolled_back(ended_for="it is \x1bbad"),
            "web@7 was rolled back to web@6: it is \N{REPLACEMENT CHARACTER}bad",
        ),
    ],
)
def test_a_rollout_is_one_sentence(document: dict[str, Any], sentence: str) -> None:
    assert words.sentence(document) == sentence


def test_time_that_goes_by_is_no_change_and_a_step_or_another_reason_to_wait_is() -> None:
    before = words.stage(told.sharing())
    assert words.stage(told.sharing(waits_for="41 more seconds", since_s=19.0, compared={})) == before
    others = (
        told.sharing(3),
        told.sharing(waits_for="the tests run"),
        told.sharing(attempt=2),
        told.sharing(number=4),
        told.sharing(ended_for="it is slow"),
        told.going_back(),
    )
    assert before not in [words.stage(one) for one in others]


def test_a_rollout_is_over_when_the_new_release_has_everything_or_nothing_of_it_runs() -> None:
    assert [words.is_over(one) for one in (told.sharing(), told.going_back())] == [False, False]
    assert [words.is_over(one) for one in (told.done(), told.rolled_back(), told.aborted())] == [True, True, True]


@pytest.mark.parametrize(
    ("value", "text"), [(212.0, "212"), (1e6, "1,000,000"), (0.01234, "0.0123"), (3215.4, "3,215.4")]
)
def test_numbers_are_written_for_people(value: float, text: str) -> None:
    assert words.figure(value) == text


def test_the_status_has_a_line_for_a_rollout_that_is_under_way() -> None:
    lines = shown(status(told.sharing()))
    assert lines[1] == "  web@7 is deployed: 25% of the requests, step 2 of 4; 42 more seconds"


def test_the_status_shows_a_rollback_in_red_with_the_next_command_until_it_is_acknowledged() -> None:
    lines = shown(status(told.rolled_back()))
    assert lines[1].startswith("  web@7 was rolled back to web@6: web@7 fails 31")
    assert lines[2] == "  try: perdure deploy --status web, then perdure acknowledge web"
    assert "\x1b[1;31m  web@7 was rolled back" in coloured(status(told.rolled_back()))
    assert len(shown(status(told.rolled_back(failed=False)))) == len(lines) - 2


@pytest.mark.parametrize("document", [None, told.done(), told.done(phase="done"), told.aborted()])
def test_the_status_says_nothing_of_a_rollout_that_is_over_and_was_no_failure(document: dict[str, Any] | None) -> None:
    assert len(shown(status(document))) == len(shown(status(None)))


def test_the_status_tells_of_a_release_that_turned_bad_and_of_one_that_is_aborted_just_now() -> None:
    assert "turned bad" in shown(status(told.done(phase="recalled")))[1]
    lines = shown(status(told.going_back(result="aborted", ended_for="somebody aborted it")))
    assert lines[1] == "  web@7 goes back to web@6: somebody aborted it" and "acknowledge" not in lines[2]


def test_an_explanation_shows_the_numbers_behind_the_last_verdict() -> None:
    answer = {"service": "web", "state": "ready", "slots": [], "rollout": told.rolled_back(compared=told.COMPARED)}
    text = "\n".join(shown(explain_view.render(answer), columns=200))
    for part in (
        "last rollout  web@7 was rolled back to web@6",
        "compared  web@7 failed 2 of 1,234 requests, web@6 5 of 3,801",
        "evidence  ██░░░░░░░░ 1.4 / 6.9 (ln E)",
        "numbers   requests 212, failures 31, e-value 1,000,000",
    ):
        assert part in text


def test_an_explanation_without_a_verdict_says_that_there_is_none() -> None:
    text = "\n".join(shown(explain_view.render({"service": "web", "slots": [], "rollout": told.rollout()})))
    assert "no verdict that rests on numbers" in text and "compared" not in text
    assert "rollout" not in "\n".join(shown(explain_view.render({"service": "web", "slots": [], "rollout": None})))


RELEASES = [
    {"release": "web@5", "made_at": 1_700_000_000.0, "message": "", "files": "", "state": "", "verdict": "it is slow"},
    {
        "release": "web@6",
        "made_at": 1_700_000_100.0,
        "message": "login \x07page",
        "files": "0123456789ab",
        "state": "serves",
        "verdict": "",
    },
]


def test_releases_are_a_line_each_with_the_verdict_below() -> None:
    header, first, verdict, second = shown(release_view.render(RELEASES))
    assert header.split() == ["RELEASE", "MADE", "STATE", "FILES", "MESSAGE"]
    assert first.split()[0] == "web@5" and first.split()[-2:] == ["-", "-"]
    assert verdict == "         was rolled back: it is slow"
    assert second.split()[3:] == ["serves", "01234567", "login", "\N{REPLACEMENT CHARACTER}page"]
    assert shown(release_view.render([])) == ["no release is kept yet: the first deploy makes one"]


def test_a_difference_has_a_colour_for_each_kind_of_line() -> None:
    lines = ["+ new.py (12 bytes)", "- old.py (3 bytes)", "~ env KEY", "~ command: a -> b\x07"]
    document = {"before": "web@6", "after": "web@7", "lines": lines}
    assert shown(release_view.render_difference(document)) == [
        "web@6 -> web@7",
        *(f"  {line}" for line in lines[:3]),
        "  ~ command: a -> b\N{REPLACEMENT CHARACTER}",
    ]
    text = coloured(release_view.render_difference(document))
    assert "\x1b[32m+ new" in text and "\x1b[31m- old" in text and "\x1b[33m~ env" in text


def test_two_releases_that_do_not_differ_are_said_not_to() -> None:
    document = {"before": "web@6", "after": "web@7", "lines": []}
    assert shown(release_view.render_difference(document))[1] == "  they do not differ"
