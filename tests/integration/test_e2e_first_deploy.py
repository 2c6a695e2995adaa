"""The guide of a first deploy, played: Datasette, a program of others, gets good and bad releases while clients read.

File, programs and plugin are those of `docs/guides/first-deploy.md`, but for ports and waiting times, so that the guide
stays true.
"""

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from bench import load
from bench.load_process import LoadProcess
from e2e import ROOT, Site, get, site

PAGE = ROOT / "docs" / "guides" / "first-deploy.md"
DATASETTE = Path(sys.executable).with_name("datasette")
RATE = 30.0
"""Requests a second: Datasette needs some 10 ms for each."""
PLAIN, BETTER = '{"title": "Plants"}', '{"title": "Plants of the garden"}'
UNKNOWN = "/plants/plants/4"
"""The page of the plant whose height nobody knows."""
FAILED_MAX = 25
"""Of a release that fails all that it is asked: some ten, in the median of many."""
FASTER = (
    ('for = "5s"', 'for = "1s"', 2),
    ('bake     = "10s"', 'bake     = "1s"', 1),
    ('stable   = "3s"', 'stable   = "500ms"', 1),
    ("exposure = 20", "exposure = 3", 1),
)


@pytest.fixture(scope="module")
def started() -> Iterator[Site]:
    with site() as made:
        restore(made)
        made.up()
        made.whole()
        yield made


@pytest.fixture
def garden(started: Site) -> Site:
    """The site of the guide's first chapter. What a test has let in stays; what lies in the directory does not."""
    restore(started)
    return started


def restore(garden: Site) -> None:
    """Bring the directory back to what the first chapter makes."""
    garden.write(declared(garden.port))
    grow(garden, guide("python", "PLANTS"))
    title(garden, PLAIN)


def guide(language: str, mentioning: str) -> str:
    """The one block of the guide in this language that mentions this."""
    blocks = re.findall(rf"^```{language}\n(.*?)^```$", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    (found,) = (block for block in blocks if mentioning in block)
    return str(found)


def declared(port: int, *, plugins: bool = False) -> str:
    """The file of the guide, with what must be another in a test; `plugins`: with the lines that it tells to change."""
    text = guide("toml", "service.web")
    if plugins:
        for key in ("command", "files"):
            (line,) = re.findall(rf"^    ({key} .*)$", PAGE.read_text(), re.MULTILINE)
            (before,) = re.findall(rf"^{key} .*$", text, re.MULTILINE)
            text = text.replace(before, line)
    here = (('"datasette ', f'"{DATASETTE} ', 1), ("127.0.0.1:8125", f"127.0.0.1:{port}", 1))
    for before, after, times in (*here, *FASTER):
        assert text.count(before) == times, before
        text = text.replace(before, after)
    return text


def grow(garden: Site, program: str) -> None:
    """Make the database anew with this program."""
    subprocess.run([sys.executable, "-c", program], cwd=garden.directory, check=True)


def title(garden: Site, text: str) -> None:
    (garden.directory / "metadata.json").write_text(text)


def shown(garden: Site) -> str:
    """The title that clients see."""
    return get(garden.port).partition("<h1>")[2].partition("</h1>")[0]


def readers(garden: Site, path: str = "/") -> LoadProcess:
    """Clients that read one page again and again."""
    plan = load.Plan(f"http://127.0.0.1:{garden.port}{path}", RATE, connections=64, timeout_s=20.0)
    return LoadProcess(plan, progress_s=0.5)


def listed(garden: Site) -> dict[str, str]:
    """What `perdure releases` says that each release does: `serves`, `stands by`, nothing."""
    return {one["release"]: one["state"] for one in json.loads(garden.ask("releases", "web", "--json"))}


def serving(garden: Site) -> str:
    """The release that serves."""
    (name,) = (name for name, state in listed(garden).items() if state == "serves")
    return name


async def test_a_better_title_gets_in_and_goes_back_by_hand_and_no_reader_sees_a_failure(garden: Site) -> None:
    before = serving(garden)
    title(garden, BETTER)
    assert shown(garden) == "Plants", "what runs has files of its own"
    async with readers(garden) as clients:
        done = garden.run("deploy", "-m", "a better title")
        assert done.returncode == 0, done.stdout + done.stderr
        assert shown(garden) == "Plants of the garden"
        after = serving(garden)
        assert listed(garden)[before] == "stands by"
        assert "metadata.json (19 -> 33 bytes)" in garden.ask("diff", before, after)
        garden.ask("rollback", "web")
        assert shown(garden) == "Plants" and serving(garden) == before
        garden.ask("rollback", "web", after)
    assert shown(garden) == "Plants of the garden" and serving(garden) == after
    assert clients.result.failed == 0, clients.result.sentence()


async def test_what_does_not_start_and_what_has_lost_its_rows_reaches_no_reader(garden: Site) -> None:
    before, seen, since = serving(garden), shown(garden), garden.newest()
    async with readers(garden) as clients:
        title(garden, BETTER.removesuffix("}"))
        unstarted = garden.run("deploy")
        status, again = garden.ask("status"), garden.run("deploy")
        garden.ask("acknowledge", "web")
        title(garden, PLAIN)
        grow(garden, guide("python", "PLANTS").replace("db.commit()\n", ""))
        empty = garden.run("deploy")
        garden.ask("acknowledge", "web")
    assert (unstarted.returncode, empty.returncode) == (3, 3), unstarted.stderr + empty.stderr
    assert "BadMetadataError" in unstarted.stdout and f"was rolled back to {before}" in status
    assert again.returncode == 6 and "the same was rolled back as" in again.stderr
    assert "without 'yarrow'" in empty.stdout
    assert "rolled back" not in garden.ask("status")
    assert clients.result.failed == 0, clients.result.sentence()
    assert "L05" not in garden.rules(since), "neither got a request"
    assert (serving(garden), shown(garden)) == (before, seen)


async def test_a_plugin_that_fails_a_page_is_thrown_out_for_the_failures_of_few_readers(garden: Site) -> None:
    before = serving(garden)
    plugin = garden.directory / "plugins" / "metres.py"
    plugin.parent.mkdir()
    plugin.write_text(guide("python", "render_cell"))
    garden.write(declared(garden.port, plugins=True))
    refused = garden.run("reload")
    assert refused.returncode == 6 and "another release of web (command, files)" in refused.stderr
    async with readers(garden, UNKNOWN) as clients:
        done = garden.run("deploy")
    assert done.returncode == 3, done.stdout + done.stderr
    assert 0 < clients.result.failed <= FAILED_MAX, clients.result.sentence()
    assert serving(garden) == before
    assert "TypeError" in garden.ask("logs", "web")
