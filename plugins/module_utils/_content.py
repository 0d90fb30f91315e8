# Copyright (c) 2026, The gpufleet.triton authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This file is private to the gpufleet.triton collection: it may change at any time.

"""Content that a host has already, in models, releases and what was sent, found by its checksum."""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import stat
import typing as t
from dataclasses import dataclass

from ansible_collections.gpufleet.triton.plugins.module_utils import _tree
from ansible_collections.gpufleet.triton.plugins.module_utils._manifest import (
    MANIFEST,
    FileEntry,
    HashCache,
    Manifest,
    RepositoryError,
    is_config_text,
    without_digest,
)

_HEX = re.compile(r"[0-9a-f]{64}\Z")


@dataclass
class Folder:
    """A model's folder, live or a release."""

    path: str
    exists: bool
    manifest: Manifest | None = None
    #: Why it has no manifest that can be used.
    why: str = ""

    @property
    def digest(self) -> str | None:
        return self.manifest.digest if self.manifest else None


def read_folder(path: str) -> Folder:
    try:
        with open(os.path.join(path, MANIFEST), "rb") as file:
            return Folder(path, True, Manifest.from_bytes(file.read()))
    except FileNotFoundError:
        return Folder(path, True, None, "it has no manifest")
    except ValueError as exc:
        return Folder(path, True, None, f"its manifest cannot be read: {exc}")


def config_text(full: str, entry: FileEntry) -> str:
    """The text of a configuration that was scanned, without a digest at its end. It is what the scan saw, or refused."""
    with open(full, "rb") as file:
        raw = without_digest(file.read())
    if hashlib.sha256(raw).hexdigest() != entry.sha256:
        raise RepositoryError(f"Cannot read {full}: it changed meanwhile", "something writes to it", "let that end, then run it again")
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError as exc:
        line = raw[: exc.start].count(b"\n") + 1
        raise RepositoryError(
            f"Cannot use {full}:{line}: it is not UTF-8", "Triton reads configurations as UTF-8", "save the file as UTF-8"
        ) from exc


class Candidate(t.NamedTuple):
    """Where content may be found."""

    path: str
    size: int | None
    #: It was sent here, so its name is all that speaks for its content.
    received: bool = False
    #: It may be taken away, as it is in nobody's use.
    movable: bool = False
    #: A published configuration, which has the digest at its end.
    published_text: bool = False


class Store:
    """Finds content by its checksum, in what this host has already."""

    def __init__(self, cache: HashCache, more: t.Callable[[Store], None]) -> None:
        self.cache = cache
        self._more: t.Callable[[Store], None] | None = more
        self._known: dict[str, list[Candidate]] = {}
        self._seen: set[str] = set()
        self._read: set[tuple[t.Any, ...]] = set()

    def add(self, sha256: str, candidate: Candidate) -> None:
        self._known.setdefault(sha256, []).append(candidate)

    def add_folder(self, folder: Folder) -> None:
        if folder.manifest is None or folder.path in self._seen:
            return
        self._seen.add(folder.path)
        texts = folder.manifest.texts
        for entry in folder.manifest.entries:
            if not entry.is_folder:
                path = os.path.join(folder.path, entry.path)
                self.add(entry.sha256, Candidate(path, entry.size, published_text=entry.path in texts))

    def add_entries(self, path: str, entries: t.Iterable[FileEntry], movable: bool = False) -> None:
        for entry in entries:
            if not entry.is_folder and not is_config_text(entry.path):
                self.add(entry.sha256, Candidate(os.path.join(path, entry.path), entry.size, movable=movable))

    def add_inbox(self, folder: str, movable: bool) -> None:
        with os.scandir(folder) as items:
            for item in items:
                if _HEX.match(item.name) and item.is_file(follow_symlinks=False):
                    size = item.stat(follow_symlinks=False).st_size
                    self.add(item.name, Candidate(item.path, size, received=True, movable=movable))

    def find(self, sha256: str, size: int) -> Candidate | None:
        for candidate in self._candidates(sha256):
            if candidate.size == size and not candidate.published_text and self._holds(candidate, sha256):
                return candidate
        return None

    def size_of(self, sha256: str) -> int | None:
        for candidate in self._candidates(sha256):
            if not candidate.published_text and self._holds(candidate, sha256):
                return candidate.size
        return None

    def text(self, sha256: str) -> bytes | None:
        """The text of a configuration, without a digest at its end."""
        for candidate in self._candidates(sha256):
            with contextlib.suppress(OSError):
                with open(candidate.path, "rb") as file:
                    text = without_digest(file.read())
                if hashlib.sha256(text).hexdigest() == sha256:
                    return text
        return None

    def _candidates(self, sha256: str) -> t.Iterator[Candidate]:
        yield from list(self._known.get(sha256, ()))
        if self._more is not None:
            more, self._more = self._more, None
            before = len(self._known.get(sha256, ()))
            more(self)
            yield from self._known.get(sha256, [])[before:]

    def _holds(self, candidate: Candidate, sha256: str) -> bool:
        try:
            status = os.lstat(candidate.path)
            if candidate.received:
                # Somebody else's file: no link, and no second name by which it could change later.
                if not stat.S_ISREG(status.st_mode) or status.st_nlink != 1:
                    return False
                # It is read once, when it is in its place.
                if candidate.movable:
                    return True
            if stat.S_ISLNK(status.st_mode):
                status = os.stat(candidate.path)
            if status.st_size != candidate.size:
                return False
            # What is too young to be remembered need still not be read again within one run.
            mark = (candidate.path, sha256, *_tree.signature(status))
            if mark not in self._read:
                if self.cache.sha256(candidate.path, status) != sha256:
                    return False
                self._read.add(mark)
            return True
        except (OSError, RepositoryError):
            return False
