"""`files` and `[service.X.deploy]`: from the file to the model, and every mistake with its remedy."""

import copy
from pathlib import Path

import pytest

from perdure.config import load, reading
from perdure.model import codec
from perdure.model.check import Check, CheckKind
from perdure.model.deploy import STEPS, Deploy, DeployTest, Files, Step, Strategy
from perdure.model.errors import ConfigError
from perdure.model.service import Deployment, Service

FOLDER = Path("/srv/shop")
LISTEN = 'listen = ":80"\n'
PASSIVE = LISTEN + 'replicas = 2\nmode = "active-passive"\n'


def parsed(lines: str, start: str = "") -> Deployment:
    return load.parse(f'{start}[service.web]\ncommand = "app"\n{lines}', FOLDER)


def service(lines: str) -> Service:
    return parsed(lines).services[0]


def deploy(lines: str, rest: str = LISTEN) -> Deploy:
    return service(f"{rest}[service.web.deploy]\n{lines}").deploy


def problems(lines: str, start: str = "") -> dict[str, str]:
    with pytest.raises(ConfigError) as caught:
        parsed(lines, start)
    return {one.path: f"{one.sentence} ({one.hint})" for one in caught.value.problems}


def test_every_key_of_a_deploy_reaches_its_field() -> None:
    made = deploy("""
        strategy = "canary"
        steps = [{ share = "10%", for = "2s" }, { share = 0.5, for = "0s" }]
        bake = "3s"
        stable = "0s"
        exposure = 0
        max_errors = "2%"
        deadline = "1m"
        warm = "4s"
        watch = "5s"
        keep = 7
        [[service.web.deploy.test]]
        http = "/search"
        method = "HEAD"
        expect = { status = 204, headers = { Server = "x" } }
        timeout = "6s"
        tries = 2
        [[service.web.deploy.test]]
        command = "smoke it"
    """)
    asked = Check(
        CheckKind.HTTP,
        "/search",
        timeout_s=6.0,
        method="HEAD",
        expect_status=(204,),
        expect_headers=(("Server", "x"),),
    )
    assert made == Deploy(
        strategy=Strategy.CANARY,
        steps=(Step(0.1, 2.0), Step(0.5, 0.0)),
        bake_s=3.0,
        stable_s=0.0,
        exposure=0,
        tests=(DeployTest(check=asked, timeout_s=6.0, tries=2), DeployTest(("smoke", "it"))),
        watch_s=5.0,
        warm_s=4.0,
        deadline_s=60.0,
        keep=7,
        errors_max=0.02,
    )
    assert codec.decode(Deploy, codec.encode(made)) == made


def test_data_of_an_active_passive_service_may_break() -> None:
    assert deploy('data = "breaking"', PASSIVE).breaks_data
    assert not deploy('data = "compatible"').breaks_data


def test_a_single_step_and_a_single_test_are_tables() -> None:
    made = deploy('steps = { share = "5%", for = "1s" }\ntest.command = "smoke"')
    assert made.steps == (Step(0.05, 1.0),)
    assert made.tests == (DeployTest(("smoke",)),)


@pytest.mark.parametrize(
    ("rest", "strategy"),
    [
        (LISTEN, Strategy.CANARY),
        ("", Strategy.ROLLING),
        (LISTEN + "port = 90", Strategy.ROLLING),
        (PASSIVE, Strategy.ROLLING),
    ],
)
def test_without_a_strategy_it_follows_from_what_the_service_can_do(rest: str, strategy: Strategy) -> None:
    assert service(rest).deploy == Deploy(strategy)
    assert deploy("", rest + "\n") == Deploy(strategy)


@pytest.mark.parametrize("strategy", list(Strategy))
def test_a_service_with_traffic_may_have_any_strategy(strategy: Strategy) -> None:
    assert deploy(f'strategy = "{strategy}"') == Deploy(strategy)


@pytest.mark.parametrize(
    ("lines", "rest", "deadline_s"),
    [
        ("", "", 600.0),
        ("", 'restart.start_timeout = "10m"\n', 1220.0),
        ('stable = "1h"', "", 7320.0),
        ('deadline = "1s"\nstable = "0s"', 'restart.start_timeout = "10m"\n', 1.0),
    ],
)
def test_the_default_deadline_has_room_for_a_slow_start(lines: str, rest: str, deadline_s: float) -> None:
    assert deploy(lines, LISTEN + rest).deadline_s == deadline_s


@pytest.mark.parametrize(
    ("lines", "warm_s"), [("", 1800.0), ('watch = "1m"', 60.0), ('watch = "1m"\nwarm = "2s"', 2.0)]
)
def test_old_replicas_stand_by_no_longer_than_somebody_watches(lines: str, warm_s: float) -> None:
    assert deploy(lines).warm_s == warm_s


def test_the_steps_are_the_default_ones_unless_they_are_given() -> None:
    assert deploy('stable = "1s"').steps == STEPS


@pytest.mark.parametrize(
    ("lines", "files"),
    [
        ("", None),
        ('files = "app"', Files("/srv/shop", ("app",))),
        ('files = ["app/**", "*.py", "app/**"]', Files("/srv/shop", ("app/**", "*.py"))),
        ('directory = "a"\nfiles = "."\nexclude = "b/.c..d"', Files("/srv/shop/a", (".",), ("b/.c..d",))),
    ],
)
def test_files_are_patterns_below_the_directory_of_the_service(lines: str, files: Files | None) -> None:
    assert service(lines).files == files


@pytest.mark.parametrize(
    ("lines", "path", "sentence"),
    [
        ('files = "/etc"', "files", 'must be relative to the directory of the service (got "/etc")'),
        ('files = "~/app"', "files", "must be relative"),
        ('files = ["app", "../lib/*"]', "files", 'must not lead out of the directory of the service (got "../lib/*")'),
        ('files = "app/.."', "files", "must not lead out"),
        ("files = []", "files", 'must name at least one pattern (such as ["app/**", "*.py"]'),
        ('files = [""]', "files", 'must not hold an empty pattern (the whole directory is ".")'),
        ("files = 3", "files", "must be a shell pattern in quotes, or a list of them (got 3)"),
        ("files = [3]", "files", "must be a shell pattern in quotes"),
        ('files = "a\\nb"', "files", "no control characters"),
        ('exclude = "app/tests"', "exclude", 'only with `files` (add files = ".", the whole directory)'),
        ('files = "."\nexclude = "../x"', "exclude", "must not lead out"),
        ('include = "app"', "include", "did you mean `files`?"),
        ('deploy.strategy = "canary"', "deploy.strategy", 'cannot be "canary": without `listen` it has no traffic'),
        (
            LISTEN + 'port = 90\ndeploy.strategy = "blue-green"',
            "deploy.strategy",
            'cannot be "blue-green": it has the fixed port 90 (remove it; the replicas of such a service are replaced',
        ),
        (PASSIVE + 'deploy.strategy = "canary"', "deploy.strategy", "one replica alone may be active"),
        (LISTEN + 'deploy.strategy = "blue_green"', "deploy.strategy", 'did you mean "blue-green"?'),
        (LISTEN + 'deploy = { strategy = "rolling", bake = "1s" }', "deploy.bake", 'strategy is "rolling"'),
        ('deploy.warm = "1s"', "deploy.warm", "rolled in place (without `listen` it has no traffic to share)"),
        (PASSIVE + "deploy.exposure = 9", "deploy.exposure", "rolled in place (one replica alone may be active)"),
        ("deploy.max_errors = 0.1", "deploy.max_errors", "no meaning without `listen`"),
        (LISTEN + 'deploy.data = "breaking"', "deploy.data", 'only with mode = "active-passive"'),
        (LISTEN + 'deploy = { warm = "2h", watch = "1h" }', "deploy.warm", 'at most watch = "1h"'),
        (
            LISTEN + 'deploy = { stable = "9s", deadline = "9s" }',
            "deploy.stable",
            'must be shorter than deadline = "9s" (got "9s")',
        ),
        (LISTEN + "deploy.bake = 5", "deploy.bake", "not a bare number"),
        (LISTEN + 'deploy.bake = "25h"', "deploy.bake", "must be at most 24h"),
        (LISTEN + "deploy.keep = 0", "deploy.keep", "must be at least 1 (got 0)"),
        (LISTEN + "deploy.max_error = 0", "deploy.max_error", "did you mean `max_errors`?"),
        (LISTEN + "deploy = 3", "deploy", "must be a table (got 3) (write it as [service.web.deploy])"),
        ('strategy = "canary"', "strategy", "it belongs in [service.web.deploy]"),
    ],
)
def test_a_mistake_is_named_with_its_remedy(lines: str, path: str, sentence: str) -> None:
    found = problems(lines)
    assert sentence in found[f"service.web.{path}"]
    assert len(found) == 1


@pytest.mark.parametrize(
    ("steps", "path", "sentence"),
    [
        ('[{ share = "5%" }]', "[0].for", 'is missing (add for = "60s")'),
        ('[{ for = "5s" }]', "[0].share", 'is missing (add share = "5%")'),
        ('{ for = "5s" }', ".share", "is missing"),
        (
            '[{ share = "5%", for = "1s" }, { share = "0%", for = "1s" }]',
            "[1].share",
            "must be above 0% and below 100%",
        ),
        ('[{ share = 1, for = "1s" }]', "[0].share", "must be above 0% and below 100% (got 1)"),
        ('[{ share = 5, for = "1s" }]', "[0].share", "must be a share from 0 to 1"),
        ('[{ share = "5%", for = 60 }]', "[0].for", 'write "60s" for seconds'),
        ('[{ share = "5%", for_s = "1s", for = "1s" }]', "[0].for_s", "did you mean `for`?"),
        ('[{ weight = 5, share = "5%", for = "1s" }]', "[0].weight", "did you mean `share`?"),
        (
            '[{ share = "25%", for = "1s" }, { share = "25%", for = "1s" }]',
            "[1].share",
            'must be more than the 25% of the step before (got "25%")',
        ),
        ('[{ share = "90%", for = "1s" }]', "[0].share", "must be less than the 90% of the bake"),
        ('{ share = "95%", for = "1s" }', ".share", 'leave the bake out with bake = "0s"'),
        ("[]", "", 'must hold at least one step (strategy = "blue-green"'),
        ("3", "", 'must be a table (got 3) (write it as steps = [{ share = "5%", for = "60s" }])'),
        ('["5%"]', "[0]", 'write it as steps = [{ share = "5%", for = "60s" }]'),
    ],
)
def test_a_mistake_in_a_step_is_named_with_its_remedy(steps: str, path: str, sentence: str) -> None:
    found = problems(f"{LISTEN}deploy.steps = {steps}")
    assert sentence in found[f"service.web.deploy.steps{path}"]
    assert len(found) == 1


def test_without_a_bake_the_last_step_may_be_larger_than_that() -> None:
    made = deploy('steps = [{ share = "95%", for = "1s" }]\nbake = "0s"')
    assert made.steps == (Step(0.95, 1.0),)


def test_steps_that_have_no_meaning_are_judged_no_further() -> None:
    found = problems("deploy.steps = []")
    assert "rolled in place (without `listen`" in found["service.web.deploy.steps"]


@pytest.mark.parametrize("strategy", ["rolling", "blue-green"])
def test_steps_are_only_for_canary(strategy: str) -> None:
    found = problems(f'{LISTEN}deploy = {{ strategy = "{strategy}", steps = [{{ share = "5%", for = "1s" }}] }}')
    assert f'has no meaning: strategy is "{strategy}"' in found["service.web.deploy.steps"]
    assert len(found) == 1


@pytest.mark.parametrize(
    ("tests", "path", "sentence"),
    [
        ('{ command = "a", http = "/" }', "", "exactly one of command and http (got command and http)"),
        ("[{ tries = 2 }]", "[0]", "exactly one of command and http (got none) (for several, [[...deploy.test]] each)"),
        ('{ command = "a", method = "GET" }', ".method", "is only for http (got command)"),
        ('[{ http = "/" }, { command = "a", expect = {} }]', "[1].expect", "answers by its exit code"),
        ('{ http = "/", expect = { boby = "a" } }', ".expect.boby", "did you mean `body`?"),
        ('{ path = "/" , http = "/" }', ".path", "did you mean `http`?"),
        ('{ http = "/", method = "PATCH" }', ".method", "must be"),
        ('{ http = "/", tries = 0 }', ".tries", "must be at least 1"),
        ('[{ http = "/", timeout = "10m" }]', "[0].timeout", 'must be shorter than deadline = "10m", the default'),
        ('{ command = "a", timeout = "2h" }', ".timeout", "must be at most 1h"),
        ("3", "", "must be a table (got 3) (write it as [service.web.deploy.test])"),
        ('[{ http = "/" }, "smoke"]', "[1]", "must be a table (got text)"),
    ],
)
def test_a_mistake_in_a_test_is_named_with_its_remedy(tests: str, path: str, sentence: str) -> None:
    found = problems(f"{LISTEN}deploy.test = {tests}")
    assert sentence in found[f"service.web.deploy.test{path}"]
    assert len(found) == 1


def test_a_short_deadline_does_not_condemn_the_default_timeout_of_a_test() -> None:
    assert deploy('deadline = "5s"\nstable = "1s"\ntest.command = "smoke"').tests[0].timeout_s == 60.0


def test_what_is_judged_by_a_value_that_is_wrong_itself_is_not_reported_twice() -> None:
    found = problems("port = 0\ndeploy = { strategy = 3, steps = 3, bake = 1, warm = 2, stable = 3, deadline = 4 }")
    keys = ("strategy", "steps", "bake", "warm", "stable", "deadline")
    assert set(found) == {"service.web.port", *(f"service.web.deploy.{key}" for key in keys)}


def test_reading_leaves_the_document_as_it_was_down_to_the_headers_of_a_test() -> None:
    headers = {"a b": "1", "Server": 2}
    raw = {"service": {"web": {"command": "a", "deploy": {"test": [{"http": "/", "expect": {"headers": headers}}]}}}}
    before = copy.deepcopy(raw)
    assert len(reading.read(raw)[1]) == 2
    assert raw == before


def test_a_file_with_mistakes_names_all_of_them_at_once() -> None:
    found = problems(
        PASSIVE
        + """
        exclude = "x"
        [service.web.deploy]
        strategy = "canary"
        steps = [{ share = "50%", for = "1s" }, { share = "5%", for = "1s" }]
        stable = "5s"
        deadline = "2s"
        test = [{ http = "/", expect = { headers = { "a b" = "1" } } }, { tries = 1 }]
        """
    )
    assert set(found) == {
        "service.web.exclude",
        "service.web.deploy.strategy",
        "service.web.deploy.steps",
        "service.web.deploy.stable",
        'service.web.deploy.test[0].expect.headers."a b"',
        "service.web.deploy.test[1]",
    }


@pytest.mark.parametrize(
    ("lines", "size", "sentence"),
    [
        (LISTEN + "replicas = 3", 3, "each of 3 replicas, and one more for a new release (got 2000-2002: 3)"),
        (LISTEN + "replicas = 3", 2, "(widen it; while new releases run beside the old ones, up to 6 are in use)"),
        (PASSIVE, 1, "each of 2 replicas (got 2000-2000: 1) (widen it)"),
        (LISTEN + 'replicas = 3\n[service.b]\ncommand = "b"\nreplicas = 2', 5, "up to 8 are in use"),
    ],
)
def test_a_range_of_ports_has_room_for_a_new_release(lines: str, size: int, sentence: str) -> None:
    start = f'perdure.ports = "2000-{1999 + size}"\n'
    assert sentence in problems(lines, start)["perdure.ports"]
    assert parsed(lines, f'perdure.ports = "2000-{1999 + size + 2}"\n').services


def test_services_that_are_rolled_in_place_need_no_spare_port() -> None:
    assert parsed("replicas = 3", 'perdure.ports = "2000-2002"\n').services
    assert parsed(LISTEN + "replicas = 3", 'perdure.ports = "2000-2003"\n').services
