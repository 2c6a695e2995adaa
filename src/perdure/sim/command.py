"""What `perdure sim` does: plays seeds, prints what was broken, or the whole trace of each run."""

import sys

from perdure.sim import run as runs


def run(seed: int, count: int, trace: bool) -> int:
    """Play `count` seeds from `seed` on; 0 when every promise was kept, 1 otherwise."""
    simulated_s = cpu_s = 0.0
    broken = 0
    for number in range(seed, seed + count):
        outcome = runs.play(number)
        simulated_s += outcome.simulated_s
        cpu_s += outcome.cpu_s
        if trace:
            _print("\n".join(outcome.trace))
        if outcome.violations:
            broken += 1
            _print(outcome.told())
        if trace or count == 1:
            _print(f"seed {number}: {len(outcome.trace)} lines, digest {outcome.digest}")
    _print(f"{count} runs, {broken} with broken promises; {simulated_s / 3600.0:.2f} simulated hours")
    sys.stderr.write(f"{simulated_s / 3600.0 / max(cpu_s, 1e-9):.2f} simulated hours a CPU-second\n")
    return 1 if broken else 0


def _print(text: str) -> None:
    sys.stdout.write(text + "\n")
