"""How the status and an explanation look to a person: pure renderings of the API's documents."""

import io
from typing import Any

import pytest
from rich.console import Console, RenderableType

from perdure.cli import explain_view, status_view, terminal, waiting


def shown(what: RenderableType, columns: int = 100) -> list[str]:
    console = Console(file=io.StringIO(), width=columns, highlight=False)
    console.print(what)
    assert isinstance(console.file, io.StringIO)
    return [line.rstrip() for line in console.file.getvalue().splitlines()]


def status(*replicas: dict[str, Any], **service: Any) -> dict[str, Any]:
    web = {"state": "ready", "listen": "127.0.0.1:8080", "protocol": "http", "replicas": list(replicas)}
    daemon = {"pid": 7, "uptime_s": 60, "loop_age_s": 0.1, "version": "0.1.0"}
    return {"services": {"web": web | service}, "daemon": daemon, "balancer": {"pid": 8, "state": "running"}}


WEB_1 = {
    "slot": "web/1",
    "state": "ready",
    "pid": 4001,
    "port": 21001,
    "release": "web@3",
    "restarts": 0,
    "since_s": 185,
    "suspicion": 0.02,
}


def test_a_replica_is_one_line_with_all_that_is_known_of_it() -> None:
    line = next(line for line in shown(status_view.render(status(WEB_1))) if "web/1" in line)
    assert line.split() == ["web/1", "ready", "4001", "21001", "web@3", "0", "3", "m", "5", "s", "░░░░░", "2", "%"]


def test_no_line_is_wrapped_at_100_columns() -> None:
    long = WEB_1 | {"slot": "a-service-with-a-long-name/12", "state": "isolated", "sentence": "it is bad " * 30}
    assert len(shown(status_view.render(status(long, sentence="a long story " * 20)))) == 7


def test_what_is_not_known_is_shown_as_unknown() -> None:
    bare = {"slot": "web/1"}
    lines = shown(status_view.render({"services": {"web": {"replicas": [bare]}}}))
    assert lines[0] == "web  unknown"
    assert lines[2].split() == ["web/1", "unknown", "-", "-", "-", "unknown", "unknown", "unknown"]
    assert lines[-2:] == ["daemon    unknown", "balancer  unknown"]


def test_an_empty_slot_that_stands_by_has_nothing_that_could_be_unknown() -> None:
    empty = {"slot": "web/2", "state": "stopped", "role": "passive", "standby": True, "restarts": 0, "lag_s": 3.0}
    lines = shown(status_view.render(status(empty)))
    assert lines[2].split() == ["web/2", "passive", "-", "-", "-", "0", "-", "-"]
    assert lines[3].strip() == "stands by with the state of 3.0 s ago"


def test_one_snapshot_is_one_and_a_quick_restore_took_some_time() -> None:
    data = {"snapshots": 1, "last": {"age_s": 4.0}, "proven": {"proven": {"took_s": 0.042}}}
    line = shown(status_view.render(status(WEB_1, mode="active-passive", owner="web/1", epoch=3, data=data)))[1]
    assert line.endswith("1 snapshot, the last 4.0 s ago; restores in 0.04 s")


@pytest.mark.parametrize(("count", "said"), [(None, "snapshots unknown"), (0, "no snapshot yet")])
def test_snapshots_that_nobody_looked_for_yet_are_not_called_missing(count: int | None, said: str) -> None:
    data = {"snapshots": count, "last": None, "proven": None}
    line = shown(status_view.render(status(WEB_1, mode="active-passive", owner="web/1", epoch=3, data=data)))[1]
    assert line.endswith(said)


def test_a_daemon_whose_loop_stands_still_is_shown_as_stuck() -> None:
    document = status(WEB_1)
    document["daemon"]["loop_age_s"] = 12.0
    assert "stuck" in shown(status_view.render(document))[-2]


def test_of_a_long_release_the_number_is_kept() -> None:
    line = shown(status_view.render(status(WEB_1 | {"release": "a-service-with-a-long-name@12"})))[2]
    assert "\N{HORIZONTAL ELLIPSIS}-a-long-name@12" in line


def test_what_is_wrong_with_store_and_balancer_is_shown() -> None:
    document = status(WEB_1)
    document["daemon"]["store"] = "the disk is full"
    document["balancer"] |= {"state": "failed", "problem": "HAProxy refused its configuration"}
    daemon, balancer = shown(status_view.render(document))[-2:]
    assert "store: the disk is full" in daemon and "failed" in balancer and "refused" in balancer


def test_an_empty_deployment_says_so() -> None:
    assert shown(status_view.render({"services": {}}))[0] == "no services are declared"


def test_an_explanation_shows_rule_facts_evidence_and_the_capsule_without_control_characters() -> None:
    slot = {
        "slot": "web/2",
        "state": "isolated",
        "since_s": 12.0,
        "rule": "S05",
        "sentence": "is isolated",
        "facts": {"misses": 3},
        "next_look_s": 0.2,
        "evidence": [
            {"class": "probe", "endpoint": "http /", "score": 4.6, "threshold": 9.2, "changes_with": "a beat"}
        ],
        "awaits": "it has sent no heartbeat",
        "readmission": {"sentence": "is readmitted after 0.8 s of hold-down"},
        "capsule": {
            "exit": "exit code 1",
            "lines": ["\x1b[31mred\x1b[0m \x07bell"],
            "answer": "503",
            "sentence": "died",
        },
    }
    document = {"service": "web", "state": "degraded", "sentence": "1 of 2", "slots": [slot], "notes": ["a note"]}
    text = "\n".join(shown(explain_view.render(document)))
    for part in (
        "rule S05",
        "misses = 3",
        "█████░░░░░ 4.6 / 9.2",
        "a beat",
        "not ready  it has sent no heartbeat",
        "readmission  is readmitted after 0.8 s of hold-down",
        "exit code 1",
        "503",
        "looks again in 0.2 s",
        "a note",
    ):
        assert part in text
    assert "| red \N{REPLACEMENT CHARACTER}bell" in text


def test_evidence_without_a_score_is_unknown_and_not_zero() -> None:
    slot = {"slot": "web/1", "state": "ready", "evidence": [{"class": "traffic", "score": None, "threshold": 9.2}]}
    lines = shown(explain_view.render({"service": "web", "state": "ready", "slots": [slot]}))
    assert any("?????????? unknown" in line for line in lines)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (None, "unknown"),
        (-1, "0.0 s"),
        (0.44, "0.4 s"),
        (12.4, "12 s"),
        (60, "1 m"),
        (185, "3 m 5 s"),
        (7205, "2 h"),
        (86_400 * 3 + 3_600 * 2, "3 d 2 h"),
    ],
)
def test_times_are_written_for_people(seconds: float | None, text: str) -> None:
    assert terminal.span(seconds) == text


def test_a_bar_is_full_at_the_threshold_and_above() -> None:
    assert [terminal.bar(share, 4) for share in (0.0, 0.5, 1.0, 7.0, None)] == ["░░░░", "██░░", "████", "████", "????"]


def test_pending_names_only_the_services_asked_for() -> None:
    document = {"services": {"a": {"desired": {"pending": True}}, "b": {"desired": {"pending": True}}, "c": {}}}
    assert waiting.pending(document, None) == ["a", "b"]
    assert waiting.pending(document, {"b", "c", "gone"}) == ["b"]


def test_a_service_is_ready_with_as_many_serving_replicas_as_it_should_have() -> None:
    replicas = [{"state": "ready"}, {"state": "suspect"}, {"state": "starting"}]
    document = {"services": {"a": {"desired": {"replicas": 3}, "replicas": replicas}}}
    assert waiting.not_ready(document) == ["a"]
    document["services"]["a"]["desired"] = {"replicas": 2}
    assert waiting.not_ready(document) == []


def test_a_drained_slot_is_not_waited_for() -> None:
    desired = {"replicas": 2, "drained": [2]}
    replicas = [{"state": "ready"}, {"state": "isolated"}]
    assert waiting.not_ready({"services": {"a": {"desired": desired, "replicas": replicas}}}) == []
