"""What a child is given: pure composition and expansion."""

import pytest

from perdure.adapters.runner import environment
from perdure.model.errors import ConfigError


def test_only_the_names_on_the_list_are_inherited(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("NOTIFY_SOCKET", "WATCHDOG_USEC", "LISTEN_FDS", "AWS_SECRET_ACCESS_KEY", "PYTHONPATH"):
        monkeypatch.setenv(name, "of the daemon")
    monkeypatch.setenv("LC_TIME", "C")
    monkeypatch.setenv("PATH", "/bin")
    given = environment.compose(None, {}, ())
    assert given["LC_TIME"] == "C"
    assert given["PATH"] == "/bin"
    assert "of the daemon" not in given.values()


def test_the_service_wins_except_for_what_is_perdures_own() -> None:
    given = {"PORT": "1234", "PERDURE_SLOT": "web/1", "NOTIFY_SOCKET": "@perdure"}
    own = [("PORT", "80"), ("PERDURE_SLOT", "db/1"), ("PERDURE_NEW", "x"), ("NOTIFY_SOCKET", "/own"), ("PATH", "/opt")]
    composed = environment.compose(None, given, own)
    assert {name: composed[name] for name in ("PORT", "PERDURE_SLOT", "NOTIFY_SOCKET", "PATH")} == {
        "PORT": "1234",
        "PERDURE_SLOT": "web/1",
        "NOTIFY_SOCKET": "/own",
        "PATH": "/opt",
    }
    assert "PERDURE_NEW" not in composed


def test_there_is_always_a_path(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PATH")
    assert environment.compose(None, {}, ())["PATH"]


def test_a_named_user_brings_home_and_name_along() -> None:
    identity = environment.resolve("nobody", None)
    assert identity is not None
    composed = environment.compose(identity, {}, ())
    assert composed["USER"] == composed["LOGNAME"] == "nobody"
    assert composed["HOME"] == "/nonexistent"


@pytest.mark.parametrize(
    ("item", "expanded"),
    [
        ("127.0.0.1:$PORT", "127.0.0.1:8000"),
        ("${PORT}x", "8000x"),
        ("costs 5$$", "costs 5$"),
        ("$UNKNOWN and ${UNKNOWN}", "$UNKNOWN and ${UNKNOWN}"),
        ("$(date) ${PORT:-1}", "$(date) ${PORT:-1}"),
        ("$$PORT", "$PORT"),
    ],
)
def test_names_are_expanded_and_the_rest_stays_as_written(item: str, expanded: str) -> None:
    assert environment.expand([item], {"PORT": "8000"}) == [expanded]


def test_nothing_named_is_nobody_to_become() -> None:
    assert environment.resolve(None, None) is None


def test_an_unknown_user_or_group_is_an_error_with_its_name() -> None:
    with pytest.raises(ConfigError, match="no user 'no-such-user'"):
        environment.resolve("no-such-user", None)
    with pytest.raises(ConfigError, match="no group 'no-such-group'"):
        environment.resolve(None, "no-such-group")


def test_numbers_name_users_and_groups_too() -> None:
    identity = environment.resolve("65534", "1")
    assert identity is not None
    assert (identity.uid, identity.gid) == (65534, 1)
    assert 1 in identity.groups
