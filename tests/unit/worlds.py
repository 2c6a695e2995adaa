"""Strategies of hypothesis for how things stand with a service: any mixture of states, verdicts and memories."""

from facts import EVIDENCE_OF, HEALTHZ, desired, replica, service
from hypothesis import strategies as st

from perdure.control import turn
from perdure.model.evidence import EvidenceClass
from perdure.model.replica import SERVING, Slot, State
from perdure.model.standing import Desired, History, Standing
from perdure.model.verdict import Conviction, Sign, Verdict
from perdure.recover import restart

NOW = 1000.0
INSTANTS = st.floats(0.0, NOW)
CONVICTABLE = frozenset(State) - {State.STOPPING, State.STOPPED}


@st.composite
def standings(draw: st.DrawFn, number: int) -> Standing:
    """One slot in any condition that the shell can bring about."""
    slot = Slot("web", number)
    history = History(
        draw(st.integers(0, 9)), draw(st.integers(0, 9)), draw(st.floats(0.0, 2 * NOW)), draw(st.integers(0, 9))
    )
    if draw(st.integers(0, 9)) == 0:
        return Standing(slot, history=history)
    state = draw(st.sampled_from(State))
    one = replica(
        number,
        state,
        draw(INSTANTS),
        release=draw(st.sampled_from(["web@1", "web@2"])),
        generation=draw(st.integers(1, 2)),
        stop_deadline_at=draw(st.floats(0.0, 2 * NOW)) if state is State.STOPPING else None,
    )
    sign = draw(st.none() | st.sampled_from(Sign)) if state in CONVICTABLE else None
    convicting = draw(st.sampled_from(Sign))
    convicted = state is State.ISOLATED and draw(st.booleans())
    return Standing(
        slot,
        one,
        history,
        Verdict(_evidence(sign), sign, "it failed", HEALTHZ.label, draw(st.floats(0.0, 30.0)), 10.0) if sign else None,
        draw(INSTANTS) if sign else None,
        suspected=state in SERVING and draw(st.booleans()),
        conviction=Conviction(_evidence(convicting), convicting, "", draw(INSTANTS), "it failed")
        if convicted
        else None,
        acquitted=convicted and draw(st.booleans()),
        awaits=draw(st.sampled_from(["", "it has sent no heartbeat"])),
        in_flight=draw(st.none() | st.integers(0, 3)),
    )


@st.composite
def facts(draw: st.DrawFn) -> turn.Facts:
    """A service with one to six replicas, and what is wanted of it."""
    replicas = draw(st.integers(1, 5))
    slots = replicas + draw(st.integers(0, 1))
    wanted: Desired = desired(
        service(replicas=replicas),
        generation=draw(st.integers(1, 2)),
        drained=tuple(draw(st.sets(st.integers(1, replicas)))) if draw(st.booleans()) else (),
        stopped=draw(st.integers(0, 9)) == 0,
    )
    standing = tuple(draw(standings(number)) for number in range(1, slots + 1))
    return turn.Facts(wanted, standing, draw(st.booleans()), restart.Bucket(draw(st.floats(0.0, 2.0)), draw(INSTANTS)))


def _evidence(sign: Sign) -> EvidenceClass:
    return EVIDENCE_OF.get(sign, EvidenceClass.PROBE)
