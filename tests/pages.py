"""Pages of `docs/internals` that are rendered from the source: the states of a replica, and every rule id.

`test_house` compares them with what is written, and writes them anew with --rewrite-docs. Rule ids are found as the
arguments of calls, so that a comparison with an id elsewhere is not mistaken for its definition.
"""

import ast
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from perdure.model.replica import TABLE, State

SOURCE = Path(__file__).parent.parent / "src" / "perdure"
RULE = re.compile(r"[SPRTDACWL]\d\d")
SENTENCES = {"sentence", "what"}
"""Names under which the source keeps a sentence before it hands it on."""
TOLD = {
    "A01": "HAProxy serves / HAProxy took over with a new configuration",
    "R05": "half of the replicas or more show the same sign (...): the cause is shared, nobody is isolated",
    "R10": "ended by itself: ... / ended as it was told (...)",
    "P13": "tells a wrong time: ... / ... of ... replicas tell a wrong time (...): the cause is shared",
    "D01": "... (why snapshots are not taken, or not followed)",
    "D03": "... was restored aside and checked in ... s",
    "D18": "... is done: ... serves ... / has failed: nothing was exchanged / is taken back / ... rows can be rescued",
    "T10": "did not take its role: ...",
    "A11": "cannot be carried out now: ...",
    "L05": "... gets ... of the requests / has replaced ... of the replicas / takes over",
    "L10": "is rolled back to ...: replicas of ... ended ... times / half of ... is ill / none of ... serves",
    "L11": "is rolled back to ...: a test of ... failed: ...",
    "L12": "is rolled back to ...: ... fails ... of ... requests / takes longer / had ... replicas isolated",
    "L13": "is rolled back to ...: goes back together with ...",
    "L14": "is rolled back to ...: ... made no progress: ...",
    "L15": "... (why it would be rolled back): it is only observed / the release before cannot read its data",
    "C10": "... is deployed (...), after ...",
    "C15": "... goes on with ...; the file declares another release (...): perdure deploy ...",
    "C01": "... is new: it is started / is started as ... / is scaled ... / is no longer declared",
}
"""Sentences that are put together elsewhere than where the rule is."""
FAMILIES = {
    "S": "States: rows of the one table that a replica goes through",
    "P": "Prevent: replicas, members, and the retry budget",
    "R": "Recover: isolation, restart, and what ended by itself",
    "T": "Take over: who of an active-passive service is active",
    "D": "Data: snapshots, and what follows them",
    "A": "The agent: the balancer, the store, and the daemon itself",
    "L": "Let in: rollouts of releases, and how they are taken back",
    "C": "Commands of a person",
    "W": "Weaknesses that `perdure doctor` names",
}


Function = ast.FunctionDef | ast.AsyncFunctionDef


@dataclass(frozen=True, slots=True)
class Rule:
    """One definition of a rule id: the module it is in, and what it says, with `...` for what depends on the facts."""

    id: str
    module: str
    sentence: str


def render_states() -> str:
    """The page on the states of a replica: what each guarantees, the diagram, and the table."""
    guarantees = "\n".join(f"| {state} | {text} |" for state, text in _guarantees().items())
    arrows = "\n".join(f"    {state} --> {row.to}: {row.rule} {event}" for (state, event), row in TABLE.items())
    rows = "\n".join(
        f"| {row.rule} | {state} | {event} | {row.to} | {row.sentence} |" for (state, event), row in TABLE.items()
    )
    last = "\n".join(f"    {state} --> [*]" for state in State if state not in {state for state, _ in TABLE})
    return f"""# The states of a replica

This page is generated from the table in `model.replica`: `pytest tests/test_house.py --rewrite-docs`.

A restart is a new replica in the same slot, so states move forward, except that suspicion, isolation and draining can
be taken back.

| state | what is guaranteed while it lasts |
| --- | --- |
{guarantees}

```mermaid
stateDiagram-v2
    [*] --> {State.STARTING}
{arrows}
{last}
```

| rule | in | when | to | the replica |
| --- | --- | --- | --- | --- |
{rows}
"""


def render_rules() -> str:
    """The page on rule ids: each with the module that decides it, and its sentence."""
    found = rules()
    parts = ["# Rules", "Every event carries the id of the rule that made it. This page is generated from the source:"]
    parts[1] += " `pytest tests/test_house.py --rewrite-docs`."
    for letter, title in FAMILIES.items():
        rows = [f"| {one.id} | {one.module} | {one.sentence} |" for one in found if one.id.startswith(letter)]
        parts += [f"## {title}", "\n".join(["| rule | decided in | sentence |", "| --- | --- | --- |", *rows])]
    return "\n\n".join(parts) + "\n"


def rules() -> Sequence[Rule]:
    """Every definition of a rule id in the source, in order; one that is defined twice is there twice."""
    found = [rule for path in sorted(SOURCE.rglob("*.py")) if "sim" not in path.parts for rule in _rules_in(path)]
    return sorted(found, key=lambda rule: (list(FAMILIES).index(rule.id[0]), rule.id))


def _guarantees() -> dict[State, str]:
    text = (SOURCE / "model" / "replica.py").read_text()
    found = re.findall(r"^    [A-Z]+ = \"([a-z]+)\"  # (.+)$", text, re.MULTILINE)
    return {State(value): guarantee for value, guarantee in found}


def _rules_in(path: Path) -> Iterator[Rule]:
    module = ".".join(path.relative_to(SOURCE).with_suffix("").parts)
    tree = ast.parse(path.read_text())
    functions = [one for one in ast.walk(tree) if isinstance(one, Function)]
    for call in (one for one in ast.walk(tree) if isinstance(one, ast.Call)):
        for argument in call.args:
            if isinstance(argument, ast.Constant) and RULE.fullmatch(str(argument.value)):
                inside = [one for one in functions if one.lineno <= call.lineno <= (one.end_lineno or 0)]
                id_ = str(argument.value)
                yield Rule(id_, module, TOLD.get(id_) or _sentence(call, inside))


def _sentence(call: ast.Call, functions: Sequence[Function]) -> str:
    """What was last assigned to `sentence` before, or the text among the arguments, or the function's first line."""
    named = {argument.id for argument in call.args if isinstance(argument, ast.Name)}
    inner = max(functions, key=lambda one: one.lineno, default=None)
    assigned = [
        (one.lineno, _text(one.value))
        for one in (ast.walk(inner) if inner is not None else ())
        if isinstance(one, ast.Assign) and one.lineno < call.lineno and _target(one) in named & SENTENCES
    ]
    texts = [text for _, text in sorted(assigned) if text][-1:]
    texts += [text for argument in call.args if " " in (text := _text(argument))]
    texts += [(ast.get_docstring(inner) or "").split("\n")[0].rstrip(".")] if inner is not None else []
    return texts[0] if texts else ""


def _target(assignment: ast.Assign) -> str:
    target = assignment.targets[0]
    return target.id if isinstance(target, ast.Name) else ""


def _text(node: ast.expr) -> str:
    """The text of a string, with `...` for each part that is only known at run time."""
    match node:
        case ast.Constant(value=str(text)):
            return text
        case ast.JoinedStr(values=values):
            return "".join(_text(value) for value in values)
        case ast.FormattedValue():
            return "..."
        case ast.IfExp(body=body, orelse=orelse):
            return " / ".join(text for text in (_text(body), _text(orelse)) if text)
        case ast.BoolOp(values=values):
            return " / ".join(text for text in map(_text, values) if text)
        case ast.BinOp(left=left, right=right):
            return _text(left) + _text(right)
        case _:
            return ""
