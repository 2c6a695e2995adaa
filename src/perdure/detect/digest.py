"""Replicas whose data drifted apart (evidence class E2): each is asked for a digest of it, all in one round.

No probe of a single replica can tell that its data are wrong: it answers soon, and with status 200. Compared with its
peers it stands out. What more than half of those who answered say is held to be right; a replica that says something
else, three rounds in a row, is apart, and its traffic is taken away. A restart would bring the same data back, so
nobody is restarted for it; it is readmitted when it agrees again.

Hard cases: a write that has reached some replicas and not yet all of them (an answer that was right a moment ago is
late, not apart; one that is ahead agrees in the next round); no majority, as of two replicas that differ: then nobody
knows who is right, nobody is isolated, and somebody is told. Replicas that never answer alike have no digest.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from perdure.model.event import Fact
from perdure.model.evidence import EvidenceClass
from perdure.model.verdict import Sign, Verdict

ROUNDS = 3
"""So many times in a row a replica must be apart before it is convicted, or agree before it is acquitted."""
LATE_ROUNDS = 3
"""An answer that the majority gave within so many rounds is late, not wrong."""
SHOWN = 12


@dataclass(frozen=True, slots=True)
class Compared:
    """How one replica compared with the others so far: rounds in a row apart, or in agreement."""

    apart: int = 0
    agreed: int = 0
    answer: str = ""
    majority: str = ""
    voters: int = 0
    """How many answered in the last round, and how many of them alike."""
    alike: int = 0


@dataclass(frozen=True, slots=True)
class Rounds:
    """What a service's rounds have shown: the latest majorities, the newest last, and since how many there is none."""

    majorities: tuple[str, ...] = ()
    undecided: int = 0
    answers: Mapping[str, str] | None = None
    """Replica -> its answer in the last round."""


def observe(rounds: Rounds, answers: Mapping[str, str]) -> Rounds:
    """Enter one round: replica -> digest, of those who answered. One alone says nothing of others."""
    if len(answers) < 2:
        return replace(rounds, undecided=0, answers=answers)
    digest, alike = Counter(answers.values()).most_common(1)[0]
    if 2 * alike <= len(answers):
        return Rounds(rounds.majorities, rounds.undecided + 1, answers)
    return Rounds((*rounds.majorities, digest)[-(LATE_ROUNDS + 1) :], 0, answers)


def compare(before: Compared, rounds: Rounds, replica: str) -> Compared:
    """One replica's place in the last round; without an answer of its own, or a majority, nothing is learned."""
    answers = rounds.answers or {}
    mine = answers.get(replica)
    if mine is None or rounds.undecided or len(answers) < 2:
        return before
    majority = rounds.majorities[-1]
    seen = replace(
        before,
        answer=mine,
        majority=majority,
        voters=len(answers),
        alike=sum(one == majority for one in answers.values()),
    )
    if mine == majority:
        return replace(seen, apart=0, agreed=before.agreed + 1)
    if mine in rounds.majorities:
        return replace(seen, agreed=0)
    return replace(seen, apart=before.apart + 1, agreed=0)


def judge(compared: Compared, label: str) -> Verdict | None:
    """Convict a replica that was apart in three rounds in a row; `label` names what was asked."""
    if compared.apart < ROUNDS:
        return None
    sentence = (
        f"its data differ: {label} says {compared.answer[:SHOWN]}, {compared.alike} of {compared.voters} replicas say"
        f" {compared.majority[:SHOWN]} ({compared.apart} times in a row)"
    )
    facts: dict[str, Fact] = {
        "answer": compared.answer[:SHOWN],
        "majority": compared.majority[:SHOWN],
        "rounds": compared.apart,
    }
    return Verdict(EvidenceClass.DIGEST, Sign.DIVERGED, sentence, label, float(compared.apart), float(ROUNDS), facts)


def undecided(rounds: Rounds, label: str) -> str:
    """What to tell when no side has had a majority for three rounds; empty otherwise."""
    if rounds.undecided < ROUNDS or rounds.answers is None:
        return ""
    counted = Counter(rounds.answers.values()).most_common(3)
    sides = ", ".join(f"{count} say{'s' if count == 1 else ''} {digest[:SHOWN]}" for digest, count in counted)
    return f"the replicas' data differ and no side has a majority ({label}: {sides})"


def suspects(all_compared: Sequence[Compared]) -> bool:
    """Whether somebody is apart, so that the next round should come soon."""
    return any(0 < one.apart < ROUNDS for one in all_compared)
