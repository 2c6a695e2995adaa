"""The rules of the house, checked: sizes, docstrings, names, purity of the deciders, rule ids, generated pages.

Import contracts between the layers are `lint-imports` in `make check`; here is only what costs milliseconds.
"""

import ast
import re
import subprocess
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

import pages
from perdure.model.replica import TABLE, Event, State

ROOT = Path(__file__).parent.parent
SOURCE = ROOT / "src" / "perdure"
PRODUCT = sorted([*SOURCE.rglob("*.py"), *(ROOT / "bench").rglob("*.py"), *(ROOT / "examples").rglob("*.py")])
TESTS = sorted((ROOT / "tests").rglob("*.py"))
ALL = PRODUCT + TESTS
PURE = sorted(path for layer in ("model", "prevent", "detect", "recover") for path in (SOURCE / layer).rglob("*.py"))

MODULE_LINES_MAX = 400
FUNCTION_LINES_MAX = 60
POSITIONAL_MAX = 5
PUBLIC_METHODS_MAX = 12
BANNED_NAMES = {"utils", "helpers", "common", "manager", "base"}
IMPURE = {"asyncio", "time", "random", "os", "socket", "subprocess", "logging", "pathlib", "threading", "datetime"}
COMMAND_DECORATORS = {"command", "callback"}
"""Typer makes options of the parameters of such functions, so their number is that of the options."""
CATCHES_ALL = {
    "src/perdure/control/daemon.py",  # the root of every task of the daemon
    "src/perdure/cli/main.py",  # the root of the command line
    "src/perdure/adapters/store/worker.py",  # the root of a thread: whatever it is, the caller gets it
    "src/perdure/adapters/fence/supervisor.py",  # the root of a process that nobody may be there to start again
    "src/perdure/sim/loop.py",  # the root of the simulated tasks: the run is judged by it
}

Function = ast.FunctionDef | ast.AsyncFunctionDef


def named(path: Path) -> str:
    return str(path.relative_to(ROOT))


def parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text())


def functions(path: Path) -> Iterator[Function]:
    for node in ast.walk(parsed(path)):
        if isinstance(node, Function):
            yield node


def tracked() -> list[Path]:
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    return [ROOT / name for name in listed.splitlines() if (ROOT / name).is_file()]


def text_of(path: Path) -> str:
    try:
        return path.read_text()
    except UnicodeDecodeError:
        return ""


def test_every_module_says_in_a_docstring_what_it_is_for() -> None:
    assert [named(path) for path in ALL if not ast.get_docstring(parsed(path))] == []


def test_no_two_modules_of_the_tests_share_a_name_since_they_are_imported_by_it() -> None:
    counts = Counter(path.stem for path in TESTS)
    assert [name for name, times in counts.items() if times > 1] == []


def test_no_module_is_longer_than_400_lines() -> None:
    long = {named(path): lines for path in ALL if (lines := len(path.read_text().splitlines())) > MODULE_LINES_MAX}
    assert long == {}


def test_no_function_is_longer_than_60_lines() -> None:
    long = {
        f"{named(path)}:{function.lineno} {function.name}": lines
        for path in ALL
        for function in functions(path)
        if (lines := (function.end_lineno or 0) - function.lineno + 1) > FUNCTION_LINES_MAX
    }
    assert long == {}


def test_no_function_has_more_than_five_positional_parameters() -> None:
    wide = {
        f"{named(path)}:{function.lineno} {function.name}": count
        for path in PRODUCT
        for function in functions(path)
        if (count := _positional(function)) > POSITIONAL_MAX and not _is_command(function)
    }
    assert wide == {}


def _positional(function: Function) -> int:
    names = [one.arg for one in [*function.args.posonlyargs, *function.args.args]]
    return len(names) - (names[:1] in (["self"], ["cls"]))


def _is_command(function: Function) -> bool:
    called = [one.func if isinstance(one, ast.Call) else one for one in function.decorator_list]
    return any(isinstance(one, ast.Attribute) and one.attr in COMMAND_DECORATORS for one in called)


def test_no_class_has_more_than_twelve_public_methods() -> None:
    wide = {}
    for path in PRODUCT:
        for node in ast.walk(parsed(path)):
            if isinstance(node, ast.ClassDef) and not _is_asyncios(node):
                public = [one for one in node.body if isinstance(one, Function) and not one.name.startswith("_")]
                if len(public) > PUBLIC_METHODS_MAX:
                    wide[f"{named(path)} {node.name}"] = len(public)
    assert wide == {}


def _is_asyncios(node: ast.ClassDef) -> bool:
    """Whether asyncio says which methods the class has (a protocol, an event loop)."""
    return any(isinstance(base, ast.Attribute) and ast.unparse(base).startswith("asyncio.") for base in node.bases)


def test_no_module_has_a_name_that_says_nothing() -> None:
    assert [named(path) for path in ALL if BANNED_NAMES & set(path.stem.split("_"))] == []


def test_public_functions_have_docstrings() -> None:
    contracts = _methods_of_ports()
    silent = [
        f"{named(path)}:{one.lineno} {one.name}"
        for path in PRODUCT
        for one in _public(parsed(path))
        if not ast.get_docstring(one) and one.name not in contracts
    ]
    assert silent == []


def _public(module: ast.Module) -> Iterator[Function]:
    """Functions of the module and methods of its public classes; what is inside a function is private."""
    for node in module.body:
        owners = [node] if isinstance(node, Function) else []
        if isinstance(node, ast.ClassDef) and not node.name.startswith("_") and not _is_asyncios(node):
            owners = [one for one in node.body if isinstance(one, Function)]
        yield from (one for one in owners if not one.name.startswith("_"))


def _methods_of_ports() -> set[str]:
    """Their contracts are written once, in the port."""
    return {one.name for path in (SOURCE / "ports").glob("*.py") for one in functions(path)}


def test_deciders_and_nouns_do_not_wait() -> None:
    waiting = [named(path) for path in PURE for one in functions(path) if isinstance(one, ast.AsyncFunctionDef)]
    assert waiting == []


def test_deciders_and_nouns_know_no_clock_no_chance_and_no_machine() -> None:
    impure = [f"{named(path)} imports {module}" for path in PURE for module in _imported(path) & IMPURE]
    assert impure == []


def _imported(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(parsed(path)):
        if isinstance(node, ast.Import):
            found |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module.partition(".")[0])
    return found


def test_only_roots_of_tasks_catch_everything() -> None:
    catching = set()
    for path in PRODUCT:
        for node in ast.walk(parsed(path)):
            if isinstance(node, ast.ExceptHandler):
                names = {one.id for one in ast.walk(node.type) if isinstance(one, ast.Name)} if node.type else {""}
                if names & {"", "Exception", "BaseException"} and not _raises_again(node):
                    catching.add(named(path))
    assert catching - CATCHES_ALL == set()


def _raises_again(handler: ast.ExceptHandler) -> bool:
    last = handler.body[-1]
    return isinstance(last, ast.Raise) and last.exc is None


def test_nothing_is_left_to_be_done_later() -> None:
    marks = re.compile(r"\b(TO" r"DO|FIX" r"ME|XX" r"X)\b")
    assert [named(path) for path in tracked() if marks.search(text_of(path))] == []


def test_no_file_names_a_registry_or_a_place_on_one_machine() -> None:
    places = re.compile(
        r"py" r"pi\.org|python" r"hosted|npm" r"js\.|artifac" r"tory|/ro" r"ot/|/wo" r"rk/|/ho" r"me/\w"
    )
    found = {named(path): hit.group() for path in tracked() if (hit := places.search(text_of(path)))}
    assert found == {}


def test_every_state_has_a_row_can_be_reached_and_can_be_left() -> None:
    assert {row.to for row in TABLE.values()} | {State.STARTING} == set(State)
    assert {state for state, _ in TABLE} == set(State) - {State.STOPPED}
    assert {event for _, event in TABLE} == set(Event)


def test_each_rule_id_has_one_meaning() -> None:
    twice = {id_ for id_, count in Counter(rule.id for rule in pages.rules()).items() if count > 1}
    assert twice == set()


def test_each_rule_says_something() -> None:
    assert [rule.id for rule in pages.rules() if not rule.sentence] == []


def test_each_rule_is_exercised_by_a_test() -> None:
    """A test names the id in quotes, or a transcript holds it in its trace."""
    texts = [path.read_text() for path in TESTS if path != Path(__file__)]
    traces = [path.read_text() for path in (ROOT / "tests").rglob("*.txt")]
    quoted = {id_ for text in texts for id_ in re.findall(r'"([SPRTDACWL]\d\d)"', text)}
    traced = {id_ for text in traces for id_ in re.findall(r"\| +[\d.]+ ([SPRTDACWL]\d\d) ", text)}
    assert {rule.id for rule in pages.rules()} - quoted - traced == set()


@pytest.mark.parametrize(("page", "render"), [("states.md", pages.render_states), ("rules.md", pages.render_rules)])
def test_a_generated_page_says_what_the_source_says(page: str, render: object, request: pytest.FixtureRequest) -> None:
    assert callable(render)
    path = ROOT / "docs" / "internals" / page
    if request.config.getoption("--rewrite-docs"):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(render())
    assert path.read_text() == render(), "if this change is wanted: pytest tests/test_house.py --rewrite-docs"
