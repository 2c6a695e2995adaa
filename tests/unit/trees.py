"""A slot's directory, and what keeps it: for the tests of copying and of following."""

import os
from dataclasses import replace
from pathlib import Path

from slots import FILES, draft, place, source, vault

from perdure.adapters.state import settling
from perdure.adapters.state.directory import Mirror
from perdure.adapters.state.vault import Content, Vault
from perdure.model.snapshot import Consistency, Keeping, StateKind

UNPAUSED = replace(FILES, consistency=Consistency.NONE)


def grow(root: Path) -> None:
    """Something of everything that is state."""
    (root / "sub" / "empty").mkdir(parents=True)
    (root / "file").write_bytes(os.urandom(10_000))
    (root / "none").touch()
    (root / "sub" / "run").write_text("#!/bin/sh\n")
    (root / "sub" / "run").chmod(0o4755)
    (root / "sub" / os.fsdecode(b"name-\xff")).write_text("no unicode")
    (root / "link").symlink_to("sub/run")
    (root / "dangling").symlink_to("/nowhere")
    os.utime(root / "file", ns=(1, 1_000_000_007))
    (root / "sub").chmod(0o700)


class Directory:
    """A slot's directory, and what keeps it."""

    def __init__(self, tmp_path: Path, keeping: Keeping = UNPAUSED) -> None:
        self.source = source(tmp_path / "1", keeping)
        self.place = place(tmp_path / "1", keeping)
        self.kept: Vault = vault(tmp_path)
        self.mirror = Mirror(tmp_path / "mirror")
        self.aside = tmp_path / "aside"

    def take(self, pid: int | None = None) -> Content:
        manifest = self.mirror.take(self.kept, draft(StateKind.FILES), replace(self.source, pid=pid))
        return self.kept.open(manifest.id)

    def restored(self, content: Content) -> Path:
        where = place(self.aside, self.source.keeping)
        settling.restore(content, where)
        applied = where.applied()
        assert applied is not None
        assert applied.manifest == content.manifest
        where.applied_mark.unlink()
        return where.live
