"""The text of a file to the model: values, defaults, derived values, and every problem at once with path and hint."""

from pathlib import Path

import pytest

from perdure.config import load
from perdure.model import check as checks
from perdure.model import service as model
from perdure.model.errors import ConfigError, Problem

FOLDER = Path("/srv/shop")

PASSIVE = 'mode = "active-passive"\n'


def parsed(text: str) -> model.Deployment:
    return load.parse(text, FOLDER)


def service(text: str) -> model.Service:
    return parsed('[service.web]\ncommand = "app"\n' + text).services[0]


def problems(text: str) -> dict[str, Problem]:
    with pytest.raises(ConfigError) as caught:
        parsed(text)
    return {problem.path: problem for problem in caught.value.problems}


def web_problems(text: str) -> dict[str, Problem]:
    return problems('[service.web]\ncommand = "app"\n' + text)


def test_a_command_alone_gets_the_defaults_of_the_model() -> None:
    assert service('listen = ":80"') == model.Service(
        "web", ("app",), listen=model.Address("0.0.0.0", 80), directory="/srv/shop"
    )


EVERY_KEY = """
        [perdure]
        ports = "2000-2999"
        haproxy = "bin/haproxy"
        [service.web]
        command = ["app", "--port", "$PORT"]
        replicas = 3
        mode = "active-active"
        protocol = "tcp"
        listen = ":8080"
        env = { A = "1" }
        directory = "app"
        user = "www"
        group = "web"
        depends_on = ["db", "db"]
        false_alarms = "1 per day"
        heartbeat = { every = "2s" }
        retry = { attempts = 2, timeout = "1s", deadline = "5s", budget = 0.5 }
        [service.web.restart]
        backoff = "1s"
        backoff_max = "2s"
        stop_signal = "int"
        stop_timeout = "3s"
        start_timeout = "4s"
        drain_timeout = "5s"
        [service.web.limits]
        memory = "1GiB"
        open_files = 99
        max_concurrent = 5
        max_queue = 6
        queue_timeout = "7s"
        [service.web.log]
        size = "1MB"
        count = 2
        [[service.web.check]]
        http = "/healthz"
        interval = "2s"
        timeout = "3s"
        expect = { status = 200, body = "ok", headers = { Server = "x" } }
        [[service.web.check]]
        tcp = true
        [[service.web.check]]
        command = "probe it"
        [service.db]
        command = "db"
        port = 5432
"""


def test_every_key_reaches_its_field() -> None:
    deployment = parsed(EVERY_KEY)
    assert deployment.ports == range(2000, 3000)
    assert deployment.haproxy == "/srv/shop/bin/haproxy"
    kind = checks.CheckKind
    assert deployment.services[0] == model.Service(
        name="web",
        command=("app", "--port", "$PORT"),
        replicas=3,
        mode=model.Mode.ACTIVE_ACTIVE,
        protocol=model.Protocol.TCP,
        listen=model.Address("0.0.0.0", 8080),
        checks=(
            checks.Check(kind.HTTP, "/healthz", (), 2.0, 3.0, (200,), "ok", (("Server", "x"),)),
            checks.Check(kind.TCP),
            checks.Check(kind.COMMAND, command=("probe", "it")),
        ),
        heartbeat=model.Heartbeat(2.0),
        retry=model.Retry(2, 1.0, 5.0, 0.5),
        restart=model.Restart(1.0, 2.0, "SIGINT", 3.0, 4.0, 5.0),
        limits=model.Limits(2**30, 99, 5, 6, 7.0),
        log=model.Log(1_000_000, 2),
        environment=(("A", "1"),),
        directory="/srv/shop/app",
        user="www",
        group="web",
        depends_on=("db",),
        false_alarms_per_s=1 / 86_400,
    )
    assert deployment.services[1].port == 5432


@pytest.mark.parametrize(
    ("retry", "timeout_s", "deadline_s"),
    [
        ("", 30, 90),
        ("attempts = 5", 30, 150),
        ('deadline = "3s"', 1, 3),
        ('deadline = "1h"', 30, 3600),
        ('timeout = "2s"', 2, 6),
        ('timeout = "100ms"\ndeadline = "300ms"', 0.1, 0.3),
    ],
)
def test_what_a_retry_section_leaves_out_follows_from_the_rest(retry: str, timeout_s: float, deadline_s: float) -> None:
    made = service(f"[service.web.retry]\n{retry}").retry
    assert (made.timeout_s, made.deadline_s) == pytest.approx((timeout_s, deadline_s))


def test_a_single_check_is_a_table() -> None:
    assert service('check.http = "/"').checks == (checks.Check(checks.CheckKind.HTTP),)


def test_the_sentence_of_the_style_guide_is_word_for_word() -> None:
    assert (
        str(web_problems("replicas = 0")["service.web.replicas"]) == "service.web.replicas: must be at least 1 (got 0)"
    )


@pytest.mark.parametrize(
    ("line", "path", "sentence", "hint"),
    [
        ("replica = 2", "replica", "unknown key `replica`", "did you mean `replicas`?"),
        ("instances = 2", "instances", "unknown key", "did you mean `replicas`?"),
        ('timeout = "1s"', "timeout", "unknown key", "it belongs in [service.web.check] or "),
        ('check = { tcp = true, tls = "yes" }', "check.tls", 'must be true or false (got "yes")', "without quotes"),
        (
            'listen = ":80"\ncanary = { path = "/", rate = 1 }',
            "canary.rate",
            'such as "1/s" or "30/min" (got 1)',
            '"/", and s or min',
        ),
        (
            'listen = ":80"\ncanary = { path = "/", rate = "0/s" }',
            "canary.rate",
            "must be above zero",
            "remove the table",
        ),
        ('listen = ":80"\ncanary = { path = "/", rate = "99/s" }', "canary.rate", "at most 50/s", ""),
        ('listen = ":80"\ncanary = { rate = "1/s" }', "canary.path", "is missing", "add path"),
        (
            'listen = ":80"\ncanary = { path = "/", expect = { boby = "a" } }',
            "canary.expect.boby",
            "unknown key",
            "`body`",
        ),
        ("zzz = 1", "zzz", "unknown key", "known here: command, replicas"),
        ('"a b" = 1', '"a b"', 'unknown key `"a b"`', "known here"),
        ('replicas = "3"', "replicas", 'must be a whole number (got "3")', "remove the quotes"),
        ("replicas = true", "replicas", "must be a whole number (got true)", ""),
        ("replicas = 1.0", "replicas", "must be a whole number (got 1.0)", ""),
        ("replicas = 1979-05-27", "replicas", "(got a date or time)", ""),
        ('mode = "active-passive"\nstandby = "hot"', "standby", "must be", ""),
        ('standby = "warm"', "standby", 'only with mode = "active-passive"', "set the mode"),
        ("role = { file = true }", "role", 'only with mode = "active-passive"', "set the mode"),
        ('mode = "active-passive"\nrole = { file = true }', "role", "only for warm replicas", 'standby = "warm"'),
        ('mode = "active-passive"\nstandby = "warm"', "role", "exactly one of signal", 'standby = "cold"'),
        ('state = { kind = "files" }', "state", 'only with mode = "active-passive"', "set the mode"),
        (f'{PASSIVE}state = {{ kind = "sqlite" }}', "state.path", "is missing", "perdure docs state"),
        (f'{PASSIVE}state = {{ kind = "files", path = "../x" }}', "state.path", "leads out", "$PERDURE_STATE"),
        (f'{PASSIVE}state = {{ kind = "files", path = "/x" }}', "state.path", "leads out", "$PERDURE_STATE"),
        (f'{PASSIVE}state = {{ kind = "command", take = "a" }}', "state.restore", "is missing", ""),
        (f'{PASSIVE}state = {{ kind = "files", check = "SELECT 1" }}', "state.check", "no meaning", ""),
        (f'{PASSIVE}state = {{ kind = "files", before = "a" }}', "state.before", 'consistency = "command"', ""),
        (f'{PASSIVE}state = {{ kind = "files", consistency = "command", before = "a" }}', "state.after", "missing", ""),
        (f'{PASSIVE}state = {{ kind = "sqlite", path = "a", every = "0.1s" }}', "state.every", "at least 1s", ""),
        (
            'mode = "active-passive"\nstandby = "warm"\nrole = { file = true, http = "/role" }',
            "role",
            "(got http and file)",
            "",
        ),
        ('mode = "active"', "mode", "must be", 'did you mean "active-active"?'),
        ('protocol = "https"', "protocol", 'must be "http" or "tcp"', 'did you mean "http"?'),
        ("listen = 8080", "listen", "must be an address", "127.0.0.1:8080"),
        ("command.x = 1", "command", "", ""),
        ("check = 3", "check", "must be a table (got 3)", "[service.web.check]"),
        ("heartbeat = {}", "heartbeat.every", "is missing", 'every = "2s"'),
        ("check.tcp = false", "check.tcp", "must be true", "remove"),
        ('check.http = "x"', "check.http", "starts with a slash", "/healthz"),
        ('check = { http = "/", timeout = "61s" }', "check.timeout", "at most 1m", ""),
        ('check = { http = "/", interval = 1 }', "check.interval", "not a bare number", '"1s"'),
        (
            '[[service.web.check]]\ntcp=true\n[[service.web.check]]\nhttp="/"\ntimout="1s"',
            "check[1].timout",
            "unknown",
            "`timeout`",
        ),
        ('check = { http = "/", expect.status = [99] }', "check.expect.status", "from 100 to 599", ""),
        ('check = { http = "/", expect.headers = { "a b" = "1" } }', 'check.expect.headers."a b"', "no valid name", ""),
        (
            'check = { http = "/", expect.fields = { status = 1 } }',
            "check.expect.fields.status",
            "no JSON pointer",
            "/st",
        ),
        ('check = { http = "/", expect.fields = { "/~2" = 1 } }', 'check.expect.fields."/~2"', "no JSON pointer", ""),
        (
            'check = { http = "/", expect.fields = { "/a" = [1] } }',
            'check.expect.fields."/a"',
            "text, a number",
            "one field",
        ),
        ('check = { http = "/", expect.fields = { "/a" = inf } }', 'check.expect.fields."/a"', "JSON can hold", ""),
        ('check = { http = "/", expect.min_size = "1GB" }', "check.expect.min_size", "at most", ""),
        ('endpoints = "pay"', "endpoints", "starts with a slash", "/healthz"),
        ('endpoints = ["/pay?x=1"]', "endpoints", "without a query", "remove"),
        ('check = { http = "/a\\r\\nHost: x" }', "check.http", "as it stands in a URL", ""),
        ('restart.stop_signal = "SIGSTOP"', "restart.stop_signal", "must be a signal", "SIGTERM"),
        ('limits.memory = "64M"', "limits.memory", "must be a size", '"64MB"'),
        ("limits.open_files = 1", "limits.open_files", "at least 16", ""),
        ('directory = "a\\u0000b"', "directory", "NUL", ""),
        ('user = ""', "user", "must not be empty", ""),
        ('env.PORT = "1"', "env.PORT", "given to the program by Perdure", "`port`"),
        ('env.PERDURE_X = "1"', "env.PERDURE_X", "given to the program by Perdure", "remove it"),
        ("env.A = 1", "env.A", "must be text in quotes", ""),
        ('env."A-B" = "1"', "env.A-B", "no valid name of a variable", ""),
    ],
)
def test_a_wrong_value_is_named_with_its_remedy(line: str, path: str, sentence: str, hint: str) -> None:
    text = f"[service.web]\n{line}" if line.startswith("command") else f'[service.web]\ncommand = "app"\n{line}'
    found = problems(text)
    problem = found[f"service.web.{path}"]
    assert sentence in problem.sentence
    assert hint in problem.hint
    assert len(found) == 1


@pytest.mark.parametrize(
    ("text", "path", "sentence", "hint"),
    [
        ("", "service", "declares no service", "perdure init"),
        ("[service.web]\nreplicas = 1", "service.web.command", "is missing", "command ="),
        ('[services.web]\ncommand = "a"', "services", "unknown key", "did you mean `service`?"),
        ('[web]\ncommand = "a"', "web", "unknown key", "[service.web]"),
        ('command = "a"', "command", "unknown key", "[service.NAME]"),
        ('[service.Web]\ncommand = "a"', "service.Web", "lowercase", "such as web"),
        ('[service."a.b"]\ncommand = "a"', 'service."a.b"', "lowercase", "such as a-b"),
        ("service = 3", "service", "must be a table (got 3)", "[service.NAME]"),
        ("service.web = 3", "service.web", "must be a table (got 3)", "[service.web]"),
        ('[perdure]\nports = "9-1"\n[service.a]\ncommand = "a"', "perdure.ports", "must go up", "21000-29999"),
        ('[service.web]\ncommand = "a \'b"', "service.web.command", "without its counterpart", "list"),
        ("[service.web]\ncommand = []", "service.web.command", "must name a program", ""),
        ("[service.web]\ncommand = [1]", "service.web.command", "list of texts", ""),
    ],
)
def test_a_wrong_document_is_named_with_its_remedy(text: str, path: str, sentence: str, hint: str) -> None:
    problem = problems(text)[path]
    assert sentence in problem.sentence
    assert hint in problem.hint


def test_all_problems_of_all_services_come_at_once_in_the_order_of_the_file() -> None:
    text = """
        [service.web]
        command = "app"
        replica = 3
        depends_on = "dbb"
        retry = { attempts = 3, timeout = "2s", deadline = "5s", budgett = 1 }
        [service.db]
        replicas = 0
        check = { http = "/", tcp = true, timeout = 3 }
    """
    with pytest.raises(ConfigError, match="8 problems") as caught:
        parsed(text)
    assert [problem.path for problem in caught.value.problems] == [
        "service.web.retry.budgett",
        "service.web.replica",
        "service.web.retry.deadline",
        "service.web.depends_on",
        "service.db.command",
        "service.db.replicas",
        "service.db.check.timeout",
        "service.db.check",
    ]
    assert caught.value.exit_code == 2


def test_a_thousand_problems_are_cut_to_a_readable_number() -> None:
    text = '[service.web]\ncommand = "app"\n' + "".join(f"x{number} = 1\n" for number in range(1000))
    with pytest.raises(ConfigError, match="1000 problems") as caught:
        parsed(text)
    assert len(caught.value.problems) == load.PROBLEMS_MAX + 1
    assert "900 more" in caught.value.problems[-1].sentence


@pytest.mark.parametrize(
    ("text", "where", "hint"),
    [
        ("a = 1s", "line 1, column 6", "quotes"),
        ("\nx", "line 2, column 2", "key = "),
        ("[service.web]\na = [1,\n", "line 3, column 1", ""),
        ("[a]\n[a]\n", "line 2, column 3", "written once"),
        ("a = 1\na = 2", "line 2, column 6", "written once"),
        ('a = "\\q"', "line 1, column", "backslash"),
    ],
)
def test_a_syntax_error_has_line_column_and_remedy(text: str, where: str, hint: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parsed(text)
    assert where in caught.value.sentence
    assert hint in caught.value.hint
    assert caught.value.problems == ()


@pytest.mark.parametrize("text", ["a = " + "[" * 50_000, "a = " + "9" * 5000, "a = " + "{x=" * 20_000])
def test_monstrous_values_get_a_sentence(text: str) -> None:
    with pytest.raises(ConfigError):
        parsed(text)


def test_no_error_and_no_repr_holds_a_secret() -> None:
    secret = "s3cr3t-value"
    start = '[service.web]\ncommand = "app"\n'
    texts = [
        f'{start}env = {{ A = ["{secret}"], B = {{ C = "{secret}" }}, D = "{secret}\\u0000" }}',
        f"{start}environ = {{ A = '{secret}' }}\nenv = '{secret}'",
        f'[service.web]\ncommand = "app \'{secret}"',
        f'{start}replicas = 0\nenv = {{ A = "{secret}", "B C" = "{secret}", PORT = "{secret}" }}',
        f'{start}check = {{ http = "/", expect.headers = {{ Authorization = "{secret}\\n" }} }}',
        f'{start}check = {{ http = "/", expect.headers = "{secret}" }}',
        f'{start}env = {{ A = "{secret}" ',
        f'{start}[service.web.env]\nA = "{secret}\nB = 1',
    ]
    for text in texts:
        with pytest.raises(ConfigError) as caught:
            parsed(text)
        told = [caught.value.sentence, caught.value.hint, repr(caught.value), *map(repr, caught.value.problems)]
        assert secret not in "".join(told), text
        assert caught.value.__cause__ is None
    assert secret not in repr(parsed(f'[service.web]\ncommand = "app"\nenv = {{ A = "{secret}" }}'))
