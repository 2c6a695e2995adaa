"""The examples, the reference and the schema say the same."""

import re
from pathlib import Path

import pytest

from perdure.config import build, docs, load, reference, schema, schema_deploy
from perdure.config.schema_section import Section, keys, kind_of
from perdure.model import deploy as releases
from perdure.model import service as model
from perdure.model.errors import ConfigError

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "file.md"
FIELDS = [
    (name, section, key)
    for name in docs.sections()
    for section in reference.tables(name).values()
    if section is not schema_deploy.Step
    for key in keys(section)
]
"""A step is written on one line, and explained with the others of its rollout."""


@pytest.mark.parametrize("name", docs.sections())
def test_each_example_loads_without_problems(name: str) -> None:
    assert load.parse(docs.show(name), Path("/srv")).services


@pytest.mark.parametrize(("name", "section", "key"), FIELDS)
def test_each_key_is_in_its_example_with_its_true_default(name: str, section: type[Section], key: str) -> None:
    block = re.search(rf"((?:^#.*\n)+)(?:# |\[{{1,2}}[a-z.]+\.)?{key}\b(?: = |\])", docs.show(name), re.MULTILINE)
    assert block is not None, f"{name}.toml does not explain {key}"
    default = reference.default_text(section, key)
    stated: tuple[str, ...]
    if default == "required":
        stated = ("# Required.",)
    elif kind_of(section, key) is None:
        stated = ("# Default: none", "# Default: see `perdure docs")
    else:
        stated = (f"# Default: {default}",)
    lines = [line for line in block[1].splitlines() if line.startswith(("# Default", "# Required"))]
    assert len(lines) == 1, block[1]
    assert re.match("|".join(re.escape(start) + r"(?:$|[ ,])" for start in stated), lines[0]), lines[0]


def test_the_keys_of_a_step_are_explained_with_the_steps_and_their_true_default() -> None:
    block = re.search(r"((?:^#.*\n)+)steps = \[", docs.show("deploy"), re.MULTILINE)
    assert block is not None
    assert [key for key in keys(schema_deploy.Step) if f"\n# {key}: required" not in block[1]] == []
    shown = ", ".join(f"{step.share:.0%} for {step.for_s:.0f}s" for step in releases.STEPS)
    assert f"\n# Default: none ({shown})\n" in block[1]
    assert shown in str(keys(schema_deploy.Deploy)["steps"].description)


def test_the_steps_of_the_example_are_the_default() -> None:
    assert load.parse(docs.show("deploy"), Path("/srv")).services[0].deploy.steps == releases.STEPS


def test_every_section_of_the_schema_has_an_example() -> None:
    covered = {model for name in docs.sections() for model in reference.tables(name).values()}
    assert covered == set(schema.SECTIONS.values()) - {schema.Document}


def test_defaults_of_the_schema_are_those_of_the_model() -> None:
    document = schema.Document.model_validate({"service": {"web": {"command": "app", "listen": ":80"}}})
    deployment = build.deployment(document, Path("/srv"), {})
    listen = model.Address("0.0.0.0", 80)
    assert deployment == model.Deployment((model.Service("web", ("app",), listen=listen, directory="/srv"),))


def test_an_unknown_section_gets_the_nearest_name() -> None:
    with pytest.raises(ConfigError) as caught:
        docs.show("checks")
    assert "perdure docs check" in caught.value.hint


def test_a_section_cannot_name_another_file() -> None:
    with pytest.raises(ConfigError):
        docs.show("../docs/check")


def test_the_page_of_the_documentation_is_up_to_date() -> None:
    assert PAGE.read_text("utf-8") == reference.reference(), (
        "python -m perdure.config.reference > docs/reference/file.md"
    )
