"""Files that Perdure writes load again, whatever they were made from."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from perdure.config import init, load, unit_values
from perdure.model import service as model
from perdure.model.deploy import Deploy, Strategy
from perdure.model.errors import ConfigError

LINES = st.text(st.characters(exclude_categories=["Cs"]), max_size=60)
UNIT = """
[Unit]
Description=Shop
After=network.target postgresql.service
[Service]
Type=notify
User=www-data
Group=web
WorkingDirectory=/srv/shop
Environment="A=b c" X=1 "PERDURE_TOKEN=s3cr3t"
Environment=PORT=3000
EnvironmentFile=-/etc/default/shop
ExecStartPre=/bin/true
ExecStart=-/usr/bin/gunicorn --bind 0.0.0.0:3000 \\
   $OPTS 'sh"op:app' 100%% $$5
Restart=always
RestartSec=45
TimeoutStopSec=1min 30s
TimeoutStartSec=infinity
KillSignal=SIGINT
WatchdogSec=20
LimitNOFILE=1024:65536
MemoryMax=512M
ProtectSystem=strict
[Install]
WantedBy=multi-user.target
"""


def loaded(text: str) -> tuple[model.Service, ...]:
    return load.parse(text, Path("/srv")).services


@pytest.mark.parametrize("name", ["shop", "My Shop", "", "9", "ünï", "a" * 100, "]\n[x"])
def test_the_starter_loads_under_any_name(name: str) -> None:
    (service,) = loaded(init.starter(name))
    assert service.replicas == 2
    assert service.checks


def test_a_procfile_becomes_services_and_the_shell_is_used_only_where_needed() -> None:
    text = init.from_procfile(
        "# comment\nweb: gunicorn -b 127.0.0.1:$PORT 'a b'\nWorker_1: env Q=* run | tee x\n"
        "clock: p ${PORT:-1} $$ \\\nrelease: migrate\n?? !\n"
    )
    web, worker, clock = loaded(text)
    assert web.command == ("gunicorn", "-b", "127.0.0.1:$PORT", "a b")
    assert (web.replicas, web.listen, len(web.checks)) == (2, model.Address("127.0.0.1", 8080), 1)
    assert (worker.name, worker.listen) == ("worker-1", None)
    assert worker.command == ("sh", "-c", "env Q=* run | tee x")
    assert clock.command == ("sh", "-c", "p $${PORT:-1} $$$$ \\")
    assert "release" in text
    assert "# Not carried over: ?? !" in text


def test_a_unit_becomes_a_service_with_what_means_the_same() -> None:
    (service,) = loaded(init.from_systemd_unit(UNIT, "shop.service"))
    assert service == model.Service(
        name="shop",
        command=("/usr/bin/gunicorn", "--bind", "0.0.0.0:3000", "$OPTS", 'sh"op:app', "100%", "$$5"),
        port=3000,
        heartbeat=model.Heartbeat(20.0),
        restart=model.Restart(backoff_s=45.0, backoff_s_max=45.0, stop_signal="SIGINT", stop_timeout_s=90.0),
        limits=model.Limits(memory_bytes=512 * 2**20, open_files=65_536),
        deploy=Deploy(Strategy.ROLLING),
        environment=(("A", "b c"), ("X", "1")),
        directory="/srv/shop",
        user="www-data",
        group="web",
    )


def test_what_a_unit_says_in_vain_is_named_at_the_top_without_values_of_variables() -> None:
    top = init.from_systemd_unit(UNIT, "shop.service").partition("[service.shop]")[0]
    for note in (
        "ExecStartPre",
        "PERDURE_TOKEN",
        "EnvironmentFile=-/etc/default/shop",
        "TimeoutStartSec=infinity",
        "ProtectSystem",
    ):
        assert note in top
    assert "After=network.target postgresql.service" in top
    assert "$OPTS" in top
    assert "s3cr3t" not in top
    assert "Restart=always" not in top


@pytest.mark.parametrize(
    "text", ["", "[Service]\nUser=x", "[Service]\nExecStart=a\nExecStart=", "ExecStart=a", "[Service]\nExecStart=-"]
)
def test_a_unit_that_starts_nothing_is_refused(text: str) -> None:
    with pytest.raises(ConfigError):
        init.from_systemd_unit(text, "x")


def test_a_procfile_without_a_process_is_refused() -> None:
    with pytest.raises(ConfigError, match="declares no process"):
        init.from_procfile("# nothing\nrelease: x\n")


@pytest.mark.parametrize(
    ("text", "duration"),
    [
        ("90", "1m30s"),
        ("5min 20s", "5m20s"),
        ("100ms", "100ms"),
        ("1h30min", "1h30m"),
        ("infinity", None),
        ("", None),
        ("5 parsecs", None),
    ],
)
def test_times_of_systemd_become_durations(text: str, duration: str | None) -> None:
    assert unit_values.duration(text) == duration


@given(st.lists(st.tuples(st.sampled_from(["web", "web", "A_b", "9-", "release", "???"]), LINES), max_size=8))
def test_a_file_from_any_procfile_loads(entries: list[tuple[str, str]]) -> None:
    try:
        text = init.from_procfile("\n".join(f"{name}: {command}" for name, command in entries))
    except ConfigError:
        return
    assert loaded(text)


KEYS = [
    "ExecStart",
    "Environment",
    "WorkingDirectory",
    "User",
    "Restart",
    "KillSignal",
    "After",
    "Zzz",
    *unit_values.RULES,
]
VALUES = LINES | st.sampled_from(
    ["1", "5s", "1h", "infinity", "2T", "A=b 'C=d", "%i", "-/x", "@a b", "PORT=99999", "10:20", "9" * 20]
)


@given(st.lists(st.tuples(st.sampled_from(KEYS), VALUES), max_size=12), LINES)
def test_a_file_from_any_unit_loads(settings: list[tuple[str, str]], name: str) -> None:
    unit = "[Service]\nExecStart=/bin/app\n" + "\n".join(f"{key}={value}" for key, value in settings)
    try:
        text = init.from_systemd_unit(unit, name)
    except ConfigError:
        return
    (service,) = loaded(text)
    assert service.replicas == 1
