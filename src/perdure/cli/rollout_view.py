"""The picture of a rollout: its steps and the present one, both releases side by side, the evidence, and its end.

Pure functions of the API's documents, for `perdure deploy`, which shows them live (`following`), and for
`deploy --status`. Words come from `rollout_words`; made to fit 80 columns, and two rollouts of four steps 24 lines.
"""

import textwrap
from collections.abc import Iterator, Sequence

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.text import Text

from perdure.cli import rollout_words as words
from perdure.cli import terminal
from perdure.cli.rollout_words import Document

STEPS_SHOWN = 5
CAPSULE_LINES = 10
_BAR_CELLS = 20
_LABEL_CHARACTERS = 10
_NAME_CHARACTERS = 24
_WORDS_CHARACTERS = 64
_DIM = "bright_black"
_OVER, _HERE, _ENDED, _TO_COME = ("✓", "green"), ("▸", "bold cyan"), ("✗", "bold red"), ("·", _DIM)


def render(rollouts: Sequence[Document], lines_max: int = 1000, note: str = "") -> Group:
    """Render rollouts as they are now, each in one line when the whole pictures take more than `lines_max`; `note` is
    what else is to be said.
    """
    pictures = [list(_picture(one)) for one in rollouts]
    if sum(len(one) + 1 for one in pictures) - 1 + bool(note) > lines_max:
        pictures = [[_line((words.sentence(one), words.colour(one)))] for one in rollouts]
    elif len(pictures) > 1:
        pictures = [*([*one, Text()] for one in pictures[:-1]), pictures[-1]]
    lines = [line for one in pictures for line in one]
    return Group(*lines, *([_line((note, "yellow"))] if note else []))


def ending(rollout: Document) -> Group:
    """Render what became of a rollout: of one that was rolled back the cause, the numbers, the failure capsule, and
    what to do next.
    """
    took = _took(rollout)
    parts: list[RenderableType] = [Text.assemble((words.sentence(rollout), words.colour(rollout)), (took, _DIM))]
    if words.observed(rollout):
        parts.append(_indented(Text(words.observed(rollout), "bold yellow")))
    if said := words.numbers(rollout):
        parts.append(_indented(Text.assemble(("numbers  ", _DIM), said)))
    elif said := words.compared(rollout):
        parts.append(_indented(Text(said, _DIM)))
    if rollout["result"] == "rolled back":
        parts += _capsule(rollout)
        parts += _next_commands(rollout)
    return Group(*parts)


def _picture(rollout: Document) -> Iterator[Text]:
    yield _headline(rollout)
    yield from _steps(rollout)
    yield from _side_by_side(rollout)
    yield _evidence(rollout)
    yield from _now(rollout)
    yield from _said("verdict", words.observed(rollout), "yellow")


def _headline(rollout: Document) -> Text:
    manner = ["back to an earlier release"] if rollout.get("back") else [str(rollout["strategy"])]
    manner += ["only observed"] if rollout.get("observe") else []
    manner += ["second attempt"] if int(rollout["attempt"]) > 1 else []
    before, release = (_shortened(str(rollout[arm]), _NAME_CHARACTERS) for arm in ("before", "release"))
    cells = [(f"{before} -> ", ""), (release, "bold"), (f"  {', '.join(manner)}", "cyan")]
    if rollout.get("message"):
        cells.append((f"  {terminal.harmless(str(rollout['message']))}", _DIM))
    return _line(*cells)


def _steps(rollout: Document) -> Iterator[Text]:
    """One line for what comes before the traffic, one for each step; of many those around the present one."""
    steps, step = list(rollout["steps"]), int(rollout["step"])
    present = len(steps) + 1 if rollout["result"] == "done" else step
    here = _HERE if rollout["result"] == "under way" else _ENDED
    before = f"{rollout['phase']}, no traffic" if here is _HERE and not present else "before any traffic"
    since = f"for {terminal.span(rollout['since_s'])}" if here is _HERE and not present else ""
    yield _step(here if not present else _OVER, "-", before.ljust(_BAR_CELLS), since)
    first = max(0, min(step - 3, len(steps) - STEPS_SHOWN))
    for number, one in enumerate(steps[first : first + STEPS_SHOWN], first + 1):
        mark = _OVER if number < present else here if number == present else _TO_COME
        told, done = terminal.span(one["for_s"]), float(mark is _OVER)
        if mark is _HERE:
            done = rollout["since_s"] / one["for_s"] if one["for_s"] else 1.0
            told = f"{terminal.span(rollout['since_s'])} of {told}"
        yield _step(mark, f"{one['share']:.0%}", terminal.bar(done, _BAR_CELLS), told)
    if len(steps) > STEPS_SHOWN:
        yield _line((f"    {'':>5}  {len(steps)} steps in all", _DIM))


def _step(mark: tuple[str, str], label: str, bar: str, told: str) -> Text:
    return _line((f"  {mark[0]} {label:>5}  {bar}  {told}".rstrip(), mark[1]))


def _side_by_side(rollout: Document) -> Iterator[Text]:
    counts = rollout.get("compared") or {}
    names = [str(rollout["release"]), str(rollout["before"])]
    width = min(_NAME_CHARACTERS, max(_LABEL_CHARACTERS, *(len(name) for name in names)))
    yield _line((f"  {'':<{width}}  {'REQUESTS':>10}  {'FAILED':>8}  {'RATE':>7}", _DIM))
    for name, arm in zip(names, ("", "_before"), strict=True):
        requests, failures = counts.get(f"requests{arm}"), counts.get(f"failures{arm}")
        cells = ["-" if one is None else f"{one:,.0f}" for one in (requests, failures)]
        rate = f"{failures / requests:.2%}" if requests and failures is not None else "-"
        colour = "" if arm else _alarming(counts.get("evidence"))
        yield _line(
            (f"  {_shortened(name, width):<{width}}  {cells[0]:>10}  ", ""), (f"{cells[1]:>8}  {rate:>7}", colour)
        )


def _evidence(rollout: Document) -> Text:
    value = (rollout.get("compared") or {}).get("evidence")
    if value is None:
        return _labelled("evidence", ("not compared yet", _DIM))
    told = f"  {max(0.0, value):.1f} of the {words.VERDICT_AT} that convict it"
    meter = terminal.bar(max(0.0, value / words.VERDICT_AT), _BAR_CELLS)
    return _labelled("evidence", (meter, _alarming(value) or "green"), (told, ""))


def _alarming(evidence: float | None) -> str:
    """The colour of what speaks against the new release; empty: nothing does."""
    share = (evidence or 0.0) / words.VERDICT_AT
    return "red" if share >= 1.0 else "yellow" if share >= 0.25 else ""


def _now(rollout: Document) -> Iterator[Text]:
    if rollout["result"] == "under way":
        yield from _said("now", words.waits_for(rollout) or "goes on", "bold")
    elif rollout["phase"] == words.GOING_BACK and words.waits_for(rollout):
        yield from _said("now", f"{words.sentence(rollout)}; {words.waits_for(rollout)}", words.colour(rollout))
    else:
        yield from _said("now", words.sentence(rollout), words.colour(rollout))


def _said(label: str, sentence: str, colour: str) -> Iterator[Text]:
    """A sentence beside its label, in as many lines as it takes."""
    for number, part in enumerate(textwrap.wrap(sentence, _WORDS_CHARACTERS)):
        yield _labelled("" if number else label, (part, colour))


def _took(rollout: Document) -> str:
    if rollout.get("ended_at") is None or not words.is_over(rollout):
        return ""
    return f" (after {terminal.span(max(0.0, rollout['ended_at'] - rollout['began_at']))})"


def _capsule(rollout: Document) -> Iterator[RenderableType]:
    lines = [terminal.harmless(str(line)) for line in rollout.get("capsule") or ()]
    if not lines:
        return
    left = len(lines) - CAPSULE_LINES
    yield _indented(Text("what it wrote last" + (f" ({left} lines before)" if left > 0 else ""), _DIM))
    for line in lines[-CAPSULE_LINES:]:
        yield _indented(Text.assemble(("| ", _DIM), line, no_wrap=True, overflow="ellipsis"), 4)


def _next_commands(rollout: Document) -> Iterator[RenderableType]:
    name = words.service(rollout)
    logs = next(iter(rollout["slots"]), name)
    commands = [(f"perdure logs {logs}", "what it wrote" if logs != name else "what its replicas wrote")]
    if not rollout.get("back"):
        commands += [
            (f"perdure diff {rollout['before']} {rollout['release']}", "what is different in it"),
            (f"perdure deploy {name}", "when it is corrected" + (": the same is refused" if rollout["failed"] else "")),
        ]
    if rollout.get("failed"):
        commands.append((f"perdure acknowledge {name}", "status shows it in red no more"))
    width = max(len(command) for command, _ in commands)
    yield _indented(Text("next", _DIM))
    for command, why in commands:
        yield _indented(_line((command.ljust(width), "bold"), (f"  {why}", _DIM)), 4)


def _shortened(name: str, width: int) -> str:
    """The end of a long name is kept: it holds the number."""
    return name if len(name) <= width else "\N{HORIZONTAL ELLIPSIS}" + name[1 - width :]


def _labelled(label: str, *cells: tuple[str, str]) -> Text:
    return _line((f"  {label:<{_LABEL_CHARACTERS}}  ", _DIM), *cells)


def _indented(what: RenderableType, columns: int = 2) -> Padding:
    return Padding(what, (0, 0, 0, columns), expand=False)


def _line(*cells: tuple[str, str]) -> Text:
    return Text.assemble(*cells, no_wrap=True, overflow="ellipsis")
