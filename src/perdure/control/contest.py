"""The evidence of one rollout: what the two releases got from the balancer, reading by reading.

The observer hands over what every replica served and what the log told; here it is sorted by release and entered into
the comparison (`recover.compare`) while both serve, and into the watch (`recover.relapse`) afterwards. Kept in memory:
a daemon that starts in the middle of a rollout gathers it anew, which costs time and no verdict.
Neighbours: `observe` calls it for each reading, `rollouts` asks it for the facts of a move.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from perdure.model.evidence import Served
from perdure.model.release import ENDED, RECALL_SHARE, Phase, Rollout
from perdure.model.traffic import Answered
from perdure.recover import blame, compare, e_process, relapse, usual
from perdure.recover.crowds import Crowds
from perdure.recover.observed import Failed, Observed, Timed
from perdure.recover.rollout_facts import Evidence

RETRIED = "retried"
"""Failures that no client saw, since they were tried elsewhere with success: together they are one client."""


@dataclass(frozen=True, slots=True)
class Counted:
    """What one replica served between two readings."""

    release: str
    port: int
    served: Served


@dataclass(frozen=True, slots=True)
class Portion:
    """What one reading of the balancer says of one service."""

    at: float
    counted: Sequence[Counted]
    lines: Sequence[Answered]
    intended_share: float
    """The share of the requests that the new release is to have now, by what serves."""


@dataclass(slots=True)
class Contest:
    """One attempt of a rollout and what is known of it; `begin` anew for another attempt."""

    number: int
    history: usual.History = field(default_factory=usual.History)
    comparison: compare.Comparison | None = None
    watch: relapse.Watch | None = None
    stage: tuple[int, Phase, int] = (0, Phase.STARTING, -1)
    """Attempt, phase and step in which the last reading was entered."""
    synthetic: int = 0
    """Synthetic requests that the new release has had in this step: they count for its exposure. What they tell of a
    single replica is for the monitor, which asks all of them alike, whatever the shares are."""
    crowds: Crowds = field(default_factory=Crowds)
    owed: dict[int, int] = field(default_factory=dict)
    """Port -> failures that HAProxy has counted and its log has not told (yet)."""

    def enter(self, rollout: Rollout, reading: Portion) -> None:
        """Add one reading."""
        self._turn(rollout, reading.at)
        seen = self._observed(rollout, reading)
        if self.watch is not None:
            self.watch = relapse.observe(self.watch, seen)
        if self.comparison is not None:
            self.comparison = compare.observe(self.comparison, seen)
        elif self.watch is None:
            self.history = usual.gather(self.history, seen)

    def evidence(self, rollout: Rollout) -> Evidence:
        """What it says now, as facts for the deciders."""
        watched = self.watch if rollout.phase in (Phase.SHARING, Phase.WATCHING) else None
        suspicious = relapse.suspicious(watched) if watched is not None else ""
        compared = self.comparison
        if compared is None or rollout.phase not in (Phase.SHARING, Phase.RECALLED):
            return Evidence(suspicious=suspicious)
        judgement = blame.judge(compared, rollout.old.release)
        return Evidence(
            guilty=judgement.sentence if judgement is not None else "",
            burst_s=judgement.burst_s if judgement is not None else float("inf"),
            numbers=judgement.numbers if judgement is not None else (),
            shared=compare.common_mode(compared),
            suspicious=suspicious,
            requests=compared.step.new.requests + self.synthetic,
            error_share=compared.step.new.share,
            asked_at=compared.asked_at,
        )

    def usual(self) -> float:
        """Which share of the requests failed during the rollout: what may be expected of the new release."""
        if self.comparison is not None:
            return compare.usual_share(self.comparison)
        return usual.freeze(self.history).failing

    def _turn(self, rollout: Rollout, at: float) -> None:
        """Begin what a new phase, step or attempt begins."""
        stage = (rollout.attempt, rollout.phase, rollout.step)
        if stage == self.stage:
            return
        before, self.stage, self.synthetic = self.stage, stage, 0
        # With most of the requests at the new release a failure says little: then its own past is looked at as well.
        if rollout.phase is Phase.SHARING and rollout.share > RECALL_SHARE:
            seen = self.comparison is not None or rollout.usual is None  # by this daemon
            self.watch = relapse.Watch(self.usual() if seen or rollout.usual is None else rollout.usual)
        match rollout.phase:
            case Phase.SHARING | Phase.WATCHING if rollout.new.service.one_active:
                self.watch = self.watch or relapse.Watch(rollout.usual or self.usual())
            case Phase.SHARING if before[:2] != stage[:2]:
                self.comparison = compare.begin(usual.freeze(self.history), at)
            case Phase.SHARING if self.comparison is not None:
                self.comparison = compare.next_step(self.comparison)
            case Phase.RECALLED:
                frozen = self.comparison.frozen if self.comparison is not None else usual.freeze(self.history)
                self.comparison = compare.begin(frozen, at)
            case Phase.WATCHING:
                self.watch = relapse.Watch(rollout.usual if rollout.usual is not None else self.usual())
            case _ if rollout.phase in (Phase.STARTING, Phase.TESTING):
                self.comparison = None

    def _observed(self, rollout: Rollout, reading: Portion) -> Observed:
        counted = reading.counted
        releases = {one.port: one.release for one in counted}
        new, old = rollout.new.release, rollout.old.release
        known = [line for line in reading.lines if releases.get(line.port) in (new, old)]
        failed = [line for line in known if line.status >= 500]
        self.crowds.add(reading.at, ((line.client, line.stands_for) for line in known))
        clients = {line.client for line in failed}
        crowds = {client for client in clients if self.crowds.is_crowd(client)}
        return Observed(
            reading.at,
            sum(one.served.requests for one in counted if one.release == new),
            sum(one.served.requests for one in counted if one.release == old),
            [
                *(
                    Failed(
                        releases[line.port] == new,
                        f"{line.client} {number}" if line.client in crowds else line.client,
                        (line.response_ms or 0) / 1000.0,
                    )
                    for number, line in enumerate(failed)
                ),
                *self._retried(counted, failed, new),
            ],
            [
                Timed(releases[line.port] == new, line.response_ms, line.stands_for)
                for line in known
                if line.status < 500 and line.response_ms is not None
            ],
            reading.intended_share,
        )

    def _retried(self, counted: Sequence[Counted], failed: Sequence[Answered], new: str) -> list[Failed]:
        """Failures that the log did not tell by the reading after: a client saw none of them."""
        told: dict[int, int] = {}
        for line in failed:
            told[line.port] = told.get(line.port, 0) + 1
        found: list[Failed] = []
        for one in counted:
            before = self.owed.get(one.port, 0)
            left = max(0, before - told.get(one.port, 0))
            if left:
                found.append(Failed(one.release == new, RETRIED))
            late = max(0, told.get(one.port, 0) - before)
            self.owed[one.port] = max(0, one.served.failures - late)
        return found


def due(contest: Contest | None, rollout: Rollout | None) -> Contest | None:
    """The contest of this rollout: the one that there is, a new one, or none when nothing is to be compared."""
    if rollout is None or rollout.phase in ENDED or rollout.back:
        return None
    if contest is not None and contest.number == rollout.number:
        return contest
    return Contest(rollout.number)


def figures(contest: Contest | None, rollout: Rollout) -> Mapping[str, float]:
    """For people: requests and failures of both releases since they were first compared, and ln E of the failures."""
    known = contest is not None and contest.number == rollout.number
    compared = contest.comparison if contest is not None and known else None
    if compared is None:
        return {}
    return {
        "requests": compared.total.new.requests,
        "failures": compared.total.new.failures,
        "requests_before": compared.total.old.requests,
        "failures_before": compared.total.old.failures,
        "evidence": round(e_process.value(compared.failures.process), 3),
    }
