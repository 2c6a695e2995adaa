"""The detector bench: traces, the formulas of the detectors, and how mistakes are counted."""

from pathlib import Path

import pytest
from bench import detectors
from bench.detectors import priced, published, quality, traces
from bench.detectors.traces import Arrival, Trace
from bench.processes import BenchError


def steady(beats: int, interval_s: float = 1.0, delay_s: float = 0.1, lost: frozenset[int] = frozenset()) -> Trace:
    sent = [number for number in range(beats) if number not in lost]
    arrivals = tuple(Arrival(number, number * interval_s, number * interval_s + delay_s) for number in sent)
    return Trace("steady", interval_s, arrivals)


def test_a_heartbeat_that_was_overtaken_is_left_out() -> None:
    first, late, second = Arrival(0, 0.0, 0.1), Arrival(1, 1.0, 2.5), Arrival(2, 2.0, 2.1)
    assert traces.fresh([first, late, second]) == (first, second)


def test_a_trace_is_read_with_its_interval(tmp_path: Path) -> None:
    (tmp_path / "one.csv").write_text("sequence,sent_s,arrived_s\n0,0.0,0.1\n2,1.0,1.2\n3,1.5,1.6\n")
    (trace,) = traces.load(tmp_path)
    assert (trace.name, trace.interval_s, len(trace.arrivals)) == ("one", 0.5, 3)
    assert trace.delay_s_mean == pytest.approx(0.4 / 3)


@pytest.mark.parametrize(
    "text", ["", "a,b\n1,2\n", "sequence,sent_s,arrived_s\n0,x,1\n", "sequence,sent_s,arrived_s\n"]
)
def test_what_is_no_trace_is_named(tmp_path: Path, text: str) -> None:
    (tmp_path / "bad.csv").write_text(text)
    with pytest.raises(BenchError, match=r"bad\.csv"):
        traces.load(tmp_path)


@pytest.mark.parametrize("name", published.DETECTORS)
def test_a_steady_heartbeat_is_expected_when_it_comes(name: str) -> None:
    trace = steady(300)
    deadlines = published.DETECTORS[name](trace)(0.0)
    # All but the first few estimates; time-outs from the last arrival start there, the others at the next one.
    from_last = {"fixed", "phi, exponential"}
    expected = 250.1 if name in from_last else 253.15 if name == "Perdure" else 251.1
    assert deadlines[250] == pytest.approx(expected, abs=1e-6)


def test_the_expected_arrival_is_the_mean_over_the_window() -> None:
    arrivals = (Arrival(0, 0.0, 0.0), Arrival(1, 1.0, 1.3), Arrival(3, 3.0, 3.6))
    trace = Trace("three", 1.0, arrivals)
    assert published.expected(trace, 1) == pytest.approx([1.0, 2.3, 4.6])
    assert published.expected(trace, 1000) == pytest.approx([1.0, 2.15, 4.3])
    assert published.two_windows(trace)(0.5) == pytest.approx([1.5, 2.8, 5.1])


def test_mistakes_are_counted_with_their_length() -> None:
    lost = frozenset({150, 200, 201})
    judged = quality.judge(steady(300, lost=lost), published.chen(steady(300, lost=lost))(0.5))
    assert judged.mistakes == 2
    assert judged.mistaken_s == pytest.approx(0.5 + 1.5)
    assert judged.detection_s == pytest.approx(1.6)


def test_the_table_says_how_often_how_much_of_the_time_and_for_how_long_a_detector_was_mistaken(tmp_path: Path) -> None:
    beats = [number for number in range(140) if number not in {110, 120, 121}]
    rows = "".join(f"{number},{number},{number + 0.1}\n" for number in beats)
    (tmp_path / "one.csv").write_text(f"sequence,sent_s,arrived_s\n{rows}")
    report = detectors.run(tmp_path)
    assert report.title.endswith("mistakes an hour / accuracy / mean mistake")
    cells = {row[0]: dict(zip(report.columns, row, strict=True)) for row in report.rows}
    assert cells["held out, 1000 ms, 0.5"]["Chen"] == "184.6 / 94.872% / 1.00 s"
    assert cells["held out, 1000 ms, 5"]["Chen"] == "0.0 / 100.000% / -"


def test_every_detector_is_compared_at_the_same_mean_detection_time() -> None:
    trace = steady(400, lost=frozenset(range(110, 390, 9)))
    detectors = {**published.DETECTORS, "priced": priced.deadlines}
    found = {name: quality.at_detection_time(trace, detector(trace), 1.7) for name, detector in detectors.items()}
    assert {name: one.detection_s for name, one in found.items() if one} == pytest.approx(dict.fromkeys(detectors, 1.7))


def test_a_detection_time_that_no_margin_reaches_is_none() -> None:
    trace = steady(200)
    assert quality.at_detection_time(trace, published.fixed(trace), 0.05) is None


def test_the_priced_margin_learns_when_losses_come() -> None:
    """Every tenth heartbeat is lost: the margin is bought for the tenth, and the others pay for it."""
    trace = steady(4000, lost=frozenset(range(9, 4000, 10)))
    target_s = 0.1 + 1.5
    priced_margin = quality.at_detection_time(trace, priced.deadlines(trace), target_s)
    others = [quality.at_detection_time(trace, one(trace), target_s) for one in published.DETECTORS.values()]
    assert priced_margin is not None
    assert priced_margin.mistakes < min(one.mistakes for one in others if one is not None) / 10


def test_a_low_price_buys_the_same_margin_in_every_state() -> None:
    trace = steady(1000, lost=frozenset(range(9, 1000, 10)))
    margins = [
        deadline - estimate
        for deadline, estimate in zip(priced.deadlines(trace)(12.0), published.two_windows(trace)(0.0), strict=True)
    ]
    assert margins == pytest.approx([margins[0]] * len(margins))
