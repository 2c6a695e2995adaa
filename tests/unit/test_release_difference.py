"""In what two releases differ, and what makes a release a different one; never by a secret's value."""

import json
from dataclasses import replace

import pytest

from perdure.model.bundle import Entry, EntryKind
from perdure.model.check import Check, CheckKind
from perdure.model.deploy import Deploy, Files
from perdure.model.release import Release
from perdure.model.service import Address, Heartbeat, Limits, Log, Retry, Role, Service
from perdure.recover import difference
from perdure.recover.difference import Difference, FileChange, Names, Setting

SECRET = "correct horse battery staple"
OTHER = """Tr0ub4dor&3's "own" päss"""
WEB = Service(
    "web",
    ("gunicorn", "-b", "127.0.0.1:$PORT", "shop:app"),
    checks=(Check(CheckKind.HTTP, "/healthz"),),
    environment=(("PASSWORD", SECRET), ("DEBUG", "0")),
    files=Files("/srv/shop", ("shop/**",)),
)


def release(service: Service, number: int = 6) -> Release:
    return Release(f"web@{number}", replace(service, directory=f"/var/lib/perdure/releases/web/{number}"), 1000.0)


def file(path: str, digest: str = "aa", size: int = 10, mode: int = 0o644) -> Entry:
    return Entry(path, EntryKind.FILE, mode, size, digest)


def folder(path: str) -> Entry:
    return Entry(path, EntryKind.DIRECTORY, 0o755)


def link(path: str, target: str) -> Entry:
    return Entry(path, EntryKind.LINK, target=target)


def between(before: Service, after: Service) -> Difference:
    return difference.compare(release(before), release(after, 7), (), ())


def of_files(before: list[Entry], after: list[Entry]) -> list[str]:
    return difference.lines(difference.compare(release(WEB), release(WEB, 7), before, after))


def test_two_releases_of_the_same_content_do_not_differ_though_they_lie_elsewhere() -> None:
    found = difference.compare(release(WEB), release(WEB, 7), [file("a")], [file("a")])
    assert found == Difference("web@6", "web@7")
    assert found.none
    assert difference.lines(found) == []


def test_files_are_told_with_their_sizes() -> None:
    before = [folder("app"), file("app/gone", size=1234), file("app/same"), file("app/new", "aa", 1000), link("l", "a")]
    after = [folder("app"), file("app/add", size=5), file("app/same"), file("app/new", "bb", 2000), link("l", "b")]
    assert of_files(before, after) == [
        "+ app/add (5 bytes)",
        "- app/gone (1,234 bytes)",
        "~ app/new (1,000 -> 2,000 bytes)",
        "~ l: -> a, now -> b",
    ]


def test_a_mode_another_kind_and_another_content_of_the_same_size_are_told() -> None:
    before = [file("run", mode=0o644), file("x"), file("y"), file("z", "aa", 7, 0o600)]
    after = [file("run", mode=0o755), link("x", "y"), file("y", "bb"), file("z", "bb", 8, 0o644)]
    assert of_files(before, after) == [
        "~ run, mode 0644 -> 0755",
        "~ x: file -> link",
        "~ y (10 bytes)",
        "~ z (7 -> 8 bytes), mode 0600 -> 0644",
    ]


def test_a_directory_is_told_only_when_it_is_empty() -> None:
    assert of_files([], [folder("a"), folder("a/b"), file("a/f"), link("m", "a/f")]) == [
        "+ a/b/",
        "+ a/f (10 bytes)",
        "+ m -> a/f",
    ]


def test_a_path_that_is_no_text_can_be_told_too() -> None:
    found = difference.compare(release(WEB), release(WEB, 7), [], [file("caf\udce9")])
    assert found.files[0].path == "caf�"
    assert json.dumps(difference.document(found), ensure_ascii=False).encode()


def test_of_a_file_neither_content_nor_digest_is_told() -> None:
    """A file may hold secrets as well, and a digest confirms what was guessed."""
    found = difference.compare(release(WEB), release(WEB, 7), [file(".env", "c0ffee")], [file(".env", "decade")])
    plain = replace(file(".env"), digest="")
    assert found.files == (FileChange(".env", plain, plain, rewritten=True),)


def test_variables_are_told_by_name_alone() -> None:
    after = replace(WEB, environment=(("NEW", OTHER), ("PASSWORD", OTHER)))
    found = between(WEB, after)
    assert found.environment == Names(("NEW",), ("DEBUG",), ("PASSWORD",))
    assert difference.lines(found) == ["+ env NEW", "- env DEBUG", "~ env PASSWORD"]
    assert not found.none


def test_no_value_of_a_variable_is_shown_anywhere_even_where_the_file_repeats_it() -> None:
    before = replace(WEB, command=("app", f"--password={SECRET}"))
    after = replace(
        WEB,
        command=("app", f"--password={OTHER}"),
        environment=(("PASSWORD", OTHER),),
        checks=(
            Check(
                CheckKind.HTTP,
                f"/healthz?key={OTHER}",
                expect_headers=(("X-Key", OTHER),),
                expect_json=(("/k", json.dumps(OTHER)),),
            ),
            Check(CheckKind.COMMAND, command=("probe", OTHER), timeout_s=2.0),
        ),
        directory=f"/srv/{OTHER}",
        files=None,
    )
    for one, other in ((before, after), (after, before)):
        found = between(one, other)
        shown = f"{found!r} {found} {difference.lines(found)} {json.dumps(difference.document(found))}"
        for value in (SECRET, OTHER, "horse", "Tr0ub", "own"):
            assert value not in shown
        assert "$PASSWORD" in shown
    assert SECRET not in repr(difference._Veil.of(before, after))


def test_the_command_is_told_as_the_file_may_have_it() -> None:
    found = between(WEB, replace(WEB, command=("gunicorn", "a b")))
    assert found.command == Setting("command", "gunicorn -b 127.0.0.1:$PORT shop:app", "gunicorn 'a b'")
    assert difference.lines(found) == ["~ command: gunicorn -b 127.0.0.1:$PORT shop:app -> gunicorn 'a b'"]


def test_settings_are_told_in_the_words_of_the_file() -> None:
    after = replace(
        WEB,
        checks=(Check(CheckKind.HTTP, "/ready", timeout_s=0.5),),
        limits=Limits(memory_bytes=512_000_000),
        heartbeat=Heartbeat(2.0),
        files=Files("/srv/shop", ("shop/**", "*.py"), ("**/*.pyc",)),
        listen=Address("::1", 80),
    )
    assert difference.lines(between(WEB, after)) == [
        "~ check.http: /healthz -> /ready",
        "~ check.timeout: 1s -> 500ms",
        "~ exclude: not set -> **/*.pyc",
        "~ files: shop/** -> shop/**, *.py",
        "~ heartbeat.every: not set -> 2s",
        "~ limits.memory: not set -> 512MB",
        "~ listen: not set -> [::1]:80",
    ]


def test_of_several_checks_each_is_told_by_what_it_asks() -> None:
    tcp = Check(CheckKind.TCP)
    one, other = (replace(WEB, checks=(Check(CheckKind.HTTP, "/a"), replace(tcp, timeout_s=s))) for s in (1.0, 2.0))
    assert difference.lines(between(one, other)) == ["~ check[tcp].timeout: 1s -> 2s"]


def test_a_release_that_gets_files_of_its_own_says_so() -> None:
    before = replace(WEB, files=None)
    found = difference.compare(Release("web@6", replace(before, directory="/srv/shop"), 0.0), release(WEB, 7), (), ())
    assert difference.lines(found) == ["~ files: not set -> shop/**"]


DIFFERENT = {
    "command": replace(WEB, command=("gunicorn",)),
    "environment": replace(WEB, environment=(("PASSWORD", OTHER), ("DEBUG", "0"))),
    "user": replace(WEB, user="www"),
    "group": replace(WEB, group="www"),
    "port": replace(WEB, port=8080),
    "heartbeat": replace(WEB, heartbeat=Heartbeat(1.0)),
    "open files": replace(WEB, limits=Limits(open_files=100)),
    "check": replace(WEB, checks=(Check(CheckKind.HTTP, "/"),)),
    "kind of check": replace(WEB, checks=(Check(CheckKind.TCP, "/healthz"),)),
    "number of checks": replace(WEB, checks=()),
    "role": replace(WEB, role=Role(signal="SIGUSR1")),
    "role by the file": replace(WEB, role=Role()),
    "no files": replace(WEB, files=None),
}


@pytest.mark.parametrize("what", DIFFERENT)
def test_what_its_replicas_run_and_are_asked_makes_a_release_a_different_one(what: str) -> None:
    assert difference.content_digest(DIFFERENT[what], "f00") != difference.content_digest(WEB, "f00")


def test_all_that_is_different_has_a_digest_of_its_own() -> None:
    digests = {difference.content_digest(one, "f00") for one in [WEB, *DIFFERENT.values()]}
    digests.add(difference.content_digest(WEB, "f01"))
    digests.add(difference.content_digest(replace(WEB, files=None, directory="/elsewhere"), ""))
    assert len(digests) == len(DIFFERENT) + 3
    assert {len(one) for one in digests} == {64}


@pytest.mark.parametrize(
    "same",
    [
        replace(WEB, replicas=5),
        replace(WEB, retry=Retry(attempts=1)),
        replace(WEB, log=Log(count=1)),
        replace(WEB, deploy=Deploy(keep=1)),
        replace(WEB, listen=Address("", 80)),
        replace(WEB, directory="/var/lib/perdure/releases/web/7"),
        replace(WEB, files=Files("/another/checkout", ("**",))),
        replace(WEB, environment=tuple(reversed(WEB.environment))),
        replace(WEB, limits=Limits(memory_bytes=1)),
    ],
)
def test_what_applies_without_new_processes_leaves_the_digest_and_so_does_where_the_files_lie(same: Service) -> None:
    assert difference.content_digest(same, "f00") == difference.content_digest(WEB, "f00")


def test_a_digest_stays_what_it_is_when_perdure_is_upgraded() -> None:
    """It is stored: the same content is refused by it, months later."""
    service = Service("web", ("a",), environment=(("A", "\udce9"),), checks=(Check(CheckKind.TCP),), directory="/")
    assert difference.content_digest(service, "") == "88e28f9a6f1886f0fbce5b4d77773b37b2f23650a635e468e5c4e285d5161481"
