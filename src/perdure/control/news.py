"""What of a turn's decisions is new: a note is told when it begins to hold, not in every turn in which it does.

A share of failures that lies at its threshold crosses it again and again. So a note that held a moment ago is the same
one when it holds again: one cause is told once.
"""

from collections.abc import Sequence

from perdure.control.world import ServiceState
from perdure.model.decision import Decision, Note

AGAIN_S = 10.0
"""The span over which shares are counted: what is due to the same requests comes back within it."""


def of(service: ServiceState, decisions: Sequence[Decision], now: float) -> list[Decision]:
    """The decisions without the notes that were told already, the notes last; what holds is kept in `service.notes`."""
    lasting = {f"{one.subject} {one.change.key}": one for one in decisions if isinstance(one.change, Note)}
    known = {key for key, at in service.noted_at.items() if now - at < AGAIN_S}
    known |= service.notes.keys()
    service.noted_at = {key: at for key, at in service.noted_at.items() if key in known}
    service.noted_at |= dict.fromkeys(service.notes.keys() | lasting.keys(), now)
    service.notes = {
        key: _shown(one) if one.subject == service.name else f"{one.subject} {_shown(one)}"
        for key, one in lasting.items()
    }
    fresh = [one for key, one in lasting.items() if key not in known]
    return [one for one in decisions if not isinstance(one.change, Note)] + fresh


def _shown(note: Decision) -> str:
    """What `status` and `explain` say of a note: its sentence, and whose fault it is."""
    whose = note.facts.get("scope")
    return f"{note.sentence} (scope: {whose})" if whose is not None else note.sentence
