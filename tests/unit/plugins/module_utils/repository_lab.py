# Copyright (c) 2026, The gpufleet.triton authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A model repository in a folder, a controller that sends to it, and a reader that believes neither."""

from __future__ import annotations

import hashlib
import json
import os
import re
import stat
import typing as t
from pathlib import Path

from ansible_collections.gpufleet.triton.plugins.module_utils._repository import Outcome, Repository, Settings, Wanted

PYTHON = 'backend: "python"\n'
BLOCK = '\nparameters {{ key: "gpufleet.digest" value {{ string_value: "{}" }} }}\n'

Files = t.Dict[str, bytes]  # noqa: UP006


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def digest(files: Files, executables: t.Collection[str] = ()) -> str:
    """The digest by its definition; an empty folder is a path with a slash at its end."""
    total = hashlib.sha256()
    for path in sorted(files):
        folder = path.endswith("/")
        end = "\0x" if path in executables else ""
        checksum = "" if folder else sha256(files[path])
        total.update(f"{path}\0{0 if folder else len(files[path])}\0{checksum}{end}\n".encode())
    return f"sha256:{total.hexdigest()}"


def rows_of(files: Files, executables: t.Collection[str] = ()) -> list[list[t.Any]]:
    return [
        [path, len(content), "" if path.endswith("/") else sha256(content), path in executables] for path, content in sorted(files.items())
    ]


def wanted(name: str, files: Files, executables: t.Collection[str] = (), **more: t.Any) -> Wanted:
    texts = {path: files[path].decode() for path in files if path.endswith(".pbtxt")}
    return Wanted(name, files=rows_of(files, executables), texts=texts, **more)


class Lab:
    """A repository below a folder."""

    def __init__(self, root: Path, **settings: t.Any) -> None:
        self.root = root
        self.settings = settings
        self.models = root / "data" / "models"
        self.private = root / "data" / ".gpufleet"
        self.staging = self.private / "staging"
        self.models.mkdir(parents=True)

    def repository(self, check_mode: bool = False, sources: t.Any = None, **settings: t.Any) -> Repository:
        return Repository(Settings(str(self.root), **{**self.settings, **settings}), sources, check_mode)

    def plan(self, want: Wanted, **more: t.Any) -> Outcome:
        return self.repository(**more).plan([want])[0]

    def apply(self, want: Wanted, inbox: str | None = None, **settings: t.Any) -> Outcome:
        return self.repository(**settings).apply([want], inbox)[0]

    def publish(self, name: str, files: Files, executables: t.Collection[str] = (), **settings: t.Any) -> Outcome:
        """All that a controller does: ask, send what is lacking, publish."""
        want = wanted(name, files, executables)
        plan = self.plan(want, **settings)
        if plan.action == "none" or plan.error:
            return plan
        inbox = self.send(files.values(), plan.lacks) if plan.lacks else None
        return self.apply(want, inbox, **settings)

    def send(self, contents: t.Iterable[bytes], lacks: t.Iterable[str]) -> str:
        inbox = self.repository().open_inbox(None)
        assert inbox is not None
        wanted_sums = set(lacks)
        for content in contents:
            if sha256(content) in wanted_sums:
                Path(inbox, sha256(content)).write_bytes(content)
        return inbox

    def live(self, name: str) -> Files:
        return content_of(self.models / name)

    def releases(self, name: str) -> list[str]:
        """Digests of the releases of a model, the newest first."""
        folder = self.private / "releases" / name
        found = sorted(folder.iterdir(), key=lambda path: path.stat().st_mtime_ns, reverse=True) if folder.is_dir() else []
        return [f"sha256:{path.name}" for path in found]

    def debris(self) -> list[str]:
        left = [str(path.relative_to(self.private)) for path in self.private.iterdir()] if self.private.is_dir() else []
        own = {"staging", "releases", "lock", "hashes.json", "identities.json"}
        staged = [path.name for path in self.staging.iterdir() if path.name != "downloads"] if self.staging.is_dir() else []
        return sorted({*left} - own) + sorted(staged)


def content_of(folder: Path) -> Files:
    """The content of a published folder, after a check that it is exactly what its manifest says."""
    manifest = json.loads((folder / ".gpufleet.json").read_text())
    found: Files = {}
    executables = set()
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if name == ".gpufleet.json":
            continue
        mode = path.lstat().st_mode
        if stat.S_ISDIR(mode):
            assert stat.S_IMODE(mode) == 0o755, name
            if not os.listdir(path):
                found[f"{name}/"] = b""
            continue
        assert stat.S_ISREG(mode) and stat.S_IMODE(mode) in (0o644, 0o755), name
        found[name] = path.read_bytes()
        if mode & stat.S_IXUSR:
            executables.add(name)
    block = BLOCK.format(manifest["digest"]).encode()
    for name in [name for name in found if re.fullmatch(r"config\.pbtxt|configs/[^/]+\.pbtxt", name)]:
        assert found[name].endswith(block), f"{name} does not carry the digest"
        found[name] = found[name][: -len(block)]
    if not found["config.pbtxt"]:
        del found["config.pbtxt"]
    assert digest(found, executables) == manifest["digest"], "the content is not what the digest was made of"
    assert sorted(map(tuple, manifest["files"])) == sorted(map(tuple, rows_of(found, executables)))
    return found


def times(folder: Path) -> int:
    """What Triton compares: the newest mtime or ctime of a tree."""
    paths = [folder, *folder.rglob("*")]
    return max(max(path.lstat().st_mtime_ns, path.lstat().st_ctime_ns) for path in paths)
