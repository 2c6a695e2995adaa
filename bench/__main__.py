"""`python -m bench`: runs the benches, prints their tables, and writes JSON and one Markdown file into bench/results.

`--quick` is for a look after a change (some ten minutes); without it the figures are those of the documents (some
hours, most of them for the thousand simulated days). Names on the command line choose: traffic, failure, faults,
takeover, rollout, state, control, days, detectors. The last one replays recorded heartbeats, which are not part of this
repository, and so runs only with `--traces FOLDER`.
"""

import argparse
import asyncio
import dataclasses
import shutil
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

from bench import control, days, detectors, failure, faults, rollout, state, takeover, traffic
from bench.processes import RESULTS, BenchError
from bench.report import Report, publish


def main(words: Sequence[str] | None = None) -> int:
    """Run what is asked for; the exit code is 1 when a bench could not run."""
    parser = argparse.ArgumentParser(prog="python -m bench", description="Measures Perdure beside its rivals.")
    parser.add_argument(
        "names",
        nargs="*",
        metavar="traffic|failure|faults|takeover|rollout|state|control|days|detectors",
        help="which benches; all without",
    )
    parser.add_argument("--quick", action="store_true", help="fewer and shorter measurements")
    parser.add_argument(
        "--trials", type=int, help="of each kind (failure and takeover 30, rollout 20, faults and state 10)"
    )
    parser.add_argument(
        "--side",
        action="append",
        default=[],
        help="failure, faults: only sides named so, or in part; rollout: only these releases",
    )
    numbers = [row.number for row in faults.catalogue.ROWS]
    named = [fault.name.lower() for fault in failure.Fault] + sorted({*numbers, *(one.split()[0] for one in numbers)})
    parser.add_argument("--fault", action="append", default=[], choices=named, help="failure, faults: only this one")
    parser.add_argument("--traces", type=Path, help="detectors: a folder of CSV files: sequence, sent_s, arrived_s")
    parser.add_argument("--days", type=float, help="days: replica-days that are simulated (1,000; --quick: 20)")
    parser.add_argument("--processes", type=int, default=2, help="days, takeover, rollout: at once (2)")
    said = parser.parse_args(words)
    harm = failure.QUICK if said.quick else failure.Extent()
    if said.trials is not None:
        harm = dataclasses.replace(harm, trials=said.trials)
    many = faults.QUICK if said.quick else faults.Extent()
    if said.trials is not None:
        many = dataclasses.replace(many, trials=said.trials, trials_others=min(said.trials, many.trials_others))
    simulated = dataclasses.replace(days.QUICK if said.quick else days.Extent(), processes=said.processes)
    if said.days is not None:
        simulated = dataclasses.replace(simulated, replica_days=said.days)
    taken = takeover.QUICK if said.quick else takeover.Extent(processes=said.processes)
    if said.trials is not None:
        taken = dataclasses.replace(taken, trials=said.trials)
    copied = state.QUICK if said.quick else state.Extent()
    if said.trials is not None:
        copied = dataclasses.replace(copied, trials=said.trials)
    tried = rollout.limited(rollout.QUICK if said.quick else rollout.Extent(), said.trials, said.processes)
    kinds = [fault for fault in failure.Fault if fault.name.lower() in said.fault]
    benches: dict[str, Callable[[Path], Report]] = {
        "traffic": lambda directory: traffic.run(traffic.QUICK if said.quick else traffic.Extent(), directory),
        "failure": lambda directory: asyncio.run(failure.run(harm, directory, said.side, kinds)),
        "faults": lambda directory: asyncio.run(faults.run(many, directory, said.side, said.fault)),
        "takeover": lambda directory: asyncio.run(takeover.run(taken, directory)),
        "rollout": lambda directory: rollout.run(tried, directory, said.side),
        "state": lambda directory: asyncio.run(state.run(copied, directory)),
        "control": lambda directory: control.run(control.QUICK if said.quick else control.Extent(), directory),
        "days": lambda _: days.run(simulated),
    }
    if said.traces is not None:
        benches["detectors"] = lambda _: detectors.run(said.traces)
    elif "detectors" in said.names:
        parser.error("detectors needs --traces FOLDER, with CSV files: sequence, sent_s, arrived_s")
    if unknown := set(said.names) - set(benches):
        parser.error(f"no such bench: {', '.join(sorted(unknown))}")
    return _run({name: benches[name] for name in said.names or benches})


def _run(benches: dict[str, Callable[[Path], Report]]) -> int:
    reports: list[Report] = []
    failed = 0
    for name, bench in benches.items():
        # A short path: HAProxy's sockets are below it, and their paths may not pass some 100 characters.
        directory = Path(tempfile.mkdtemp(prefix=f"bench-{name}-"))
        try:
            report = bench(directory)
        except BenchError as error:
            print(f"{name}: {error}; its files: {directory}", file=sys.stderr)
            failed = 1
            continue
        print(f"written: {publish(report)}")
        reports.append(report)
        if report.errors:
            print(f"not all could be measured; the files of the run: {directory}", file=sys.stderr)
            failed = 1
        else:
            shutil.rmtree(directory, ignore_errors=True)
    if reports:
        RESULTS.mkdir(parents=True, exist_ok=True)
        path = RESULTS / ("results.md" if len(benches) > 1 else f"{next(iter(benches))}.md")
        path.write_text("\n".join(report.markdown() for report in reports))
        print(f"written: {path}")
    return failed


if __name__ == "__main__":
    sys.exit(main())
