"""The answer to "why": what Perdure believes of a slot, by which rule, on which evidence, and when it looks again.

A pure function of the API's document, for `perdure explain`.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from perdure.cli import rollout_words, terminal

Document = Mapping[str, Any]
_DIM = "bright_black"


def render(answer: Document) -> Group:
    """Render the explanation of one service or slot."""
    state = str(answer.get("state") or "unknown")
    lines: list[RenderableType] = [_title(str(answer.get("service")), state, "", answer.get("sentence"))]
    if answer.get("next_look_s") is not None:
        lines.append(_indented(_next_look(answer["next_look_s"]), 2))
    slots = answer.get("slots") or ()
    if not slots:
        lines.append(_indented(Text("no replica runs", _DIM), 2))
    for slot in slots:
        lines += [Text(), *_slot(slot)]
    if answer.get("rollout"):
        lines += [Text(), *_rollout(answer["rollout"])]
    for note in answer.get("notes") or ():
        lines += [Text(), Text.assemble(("note  ", "cyan"), _safe(note))]
    return Group(*lines)


def _slot(slot: Document) -> Iterator[RenderableType]:
    state = str(slot.get("state") or "unknown")
    since = f"for {terminal.span(slot['since_s'])}" if slot.get("since_s") is not None else ""
    rule = f"rule {slot['rule']}" if slot.get("rule") else ""
    yield _title(str(slot.get("slot")), state, ", ".join(filter(None, (since, rule))), slot.get("sentence"))
    if slot.get("facts"):
        facts = ", ".join(f"{name} = {_fact(value)}" for name, value in slot["facts"].items())
        yield _indented(Text.assemble(("facts  ", _DIM), facts), 2)
    evidence = slot.get("evidence") or ()
    yield _indented(_evidence(evidence) if evidence else Text("no evidence against it", _DIM), 2)
    if slot.get("awaits"):
        yield _indented(Text.assemble(("not ready  ", _DIM), _safe(slot["awaits"])), 2)
    if slot.get("readmission"):
        yield _indented(Text.assemble(("readmission  ", _DIM), _safe(slot["readmission"].get("sentence"))), 2)
    if slot.get("capsule"):
        yield from _capsule(slot["capsule"])
    if slot.get("next_look_s") is not None:
        yield _indented(_next_look(slot["next_look_s"]), 2)


def _rollout(rollout: Document) -> Iterator[RenderableType]:
    """The last rollout of the service: what both releases did, how strong the evidence is, and the last verdict."""
    sentence = rollout_words.sentence(rollout)
    yield Text.assemble(("last rollout  ", "bold"), (sentence, rollout_words.colour(rollout)))
    if said := rollout_words.compared(rollout):
        value = float(rollout["compared"]["evidence"])
        share = max(0.0, value / rollout_words.VERDICT_AT)
        figures = f" {value:.1f} / {rollout_words.VERDICT_AT} (ln E)"
        yield _indented(Text.assemble(("compared  ", _DIM), said), 2)
        yield _indented(Text.assemble(("evidence  ", _DIM), terminal.bar(share), figures), 2)
    if said := rollout_words.observed(rollout):
        yield _indented(Text.assemble(("verdict   ", _DIM), (said, "yellow")), 2)
    numbers = rollout_words.numbers(rollout) or "no verdict that rests on numbers"
    yield _indented(Text.assemble(("numbers   ", _DIM), numbers), 2)


def _title(name: str, state: str, detail: str, sentence: object) -> Group:
    head = Text.assemble((name, "bold"), "  ", (state, terminal.style(state)), (f"  {detail}" if detail else "", _DIM))
    return Group(head, _indented(Text(_safe(sentence)), 2)) if sentence else Group(head)


def _evidence(evidence: Any) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0), header_style=_DIM, show_edge=False)
    for title in ("EVIDENCE", "ENDPOINT"):
        table.add_column(title, no_wrap=True)
    table.add_column("SCORE / THRESHOLD", no_wrap=True)
    table.add_column("Q0", no_wrap=True)
    table.add_column("CHANGES WITH", overflow="fold")
    table.add_column("WHY", overflow="fold")
    for one in evidence:
        score, threshold = one.get("score"), one.get("threshold")
        share = score / threshold if score is not None and threshold else None
        colour = "magenta" if share is None else "red" if share >= 1 else "yellow" if share >= 0.25 else "green"
        figures = "unknown" if share is None else f"{score:.1f} / {threshold:.1f}"
        meter = Text.assemble((terminal.bar(share), colour), f" {figures}")
        q0 = one.get("q0")
        expected = f"{q0:.1%}" if q0 is not None else "-"
        changes = _safe(one.get("changes_with") or "-")
        why = _safe(one.get("sentence") or "")
        table.add_row(str(one.get("class")), _safe(one.get("endpoint") or "-"), meter, expected, changes, why)
    return table


def _capsule(capsule: Document) -> Iterator[RenderableType]:
    title = Text.assemble(("last failure  ", "bold"), _safe(capsule.get("sentence") or capsule.get("exit") or ""))
    yield _indented(title, 2)
    if capsule.get("exit") and capsule.get("sentence"):
        yield _indented(Text.assemble(("exit    ", _DIM), _safe(capsule["exit"])), 4)
    if capsule.get("answer"):
        yield _indented(Text.assemble(("answer  ", _DIM), _safe(capsule["answer"])), 4)
    lines = capsule.get("lines") or ()
    for line in lines:
        yield _indented(Text.assemble(("| ", _DIM), _safe(line), no_wrap=True, overflow="ellipsis"), 4)
    if not lines:
        yield _indented(Text("it wrote nothing", _DIM), 4)


def _next_look(seconds: float) -> Text:
    return Text(f"Perdure looks again in {terminal.span(seconds)}", _DIM)


def _fact(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else _safe(value)


def _indented(what: RenderableType, columns: int) -> Padding:
    return Padding(what, (0, 0, 0, columns), expand=False)


def _safe(text: object) -> str:
    return terminal.harmless(str(text))
