"""Which endpoint a request belongs to."""

import pytest

from perdure.detect import endpoints


@pytest.mark.parametrize(
    ("path", "group"),
    [
        ("/", "/"),
        ("", "/"),
        ("/pay", "/pay"),
        ("/pay/", "/pay"),
        ("/orders/4711/items/2", "/orders/*"),
        ("/api/v1/users/4711", "/api/v1/users"),
        ("/static/app.8f3e21.js", "/static/*"),
        ("/a/b/c/d", "/a/b"),
        ("/reset/this-is-a-secret-token-of-some-length", "/reset/*"),
        ("/%2e%2e/x", "/*/x"),
        ("/user/me@example.org", "/user/*"),
    ],
)
def test_a_path_is_grouped_by_its_first_words(path: str, group: str) -> None:
    assert endpoints.group(path) == group


@pytest.mark.parametrize(
    ("path", "prefix"),
    [
        ("/api/orders/7", "/api/orders"),
        ("/api/orders", "/api/orders"),
        ("/api/ordersheet", "/api"),
        ("/pay", None),
        ("/", None),
    ],
)
def test_the_longest_declared_prefix_wins(path: str, prefix: str | None) -> None:
    assert endpoints.declared(path, ["/api", "/api/orders"]) == prefix


def test_a_prefix_of_one_slash_is_everything() -> None:
    assert endpoints.declared("/any/thing", ["/"]) == "/"


def test_there_is_room_for_so_many_groups_until_one_is_forgotten() -> None:
    names = [f"/{letter}" for letter in "abcdefghijklmnop"]
    known = endpoints.admitted({}, names, 10.0)
    assert list(known) == names
    assert "/late" not in endpoints.admitted(known, ["/late"], 20.0)
    busy = endpoints.admitted(known, names[1:], 500.0)
    later = endpoints.admitted(busy, ["/late"], 10.0 + endpoints.FORGOTTEN_S)
    assert "/late" in later and "/a" not in later
