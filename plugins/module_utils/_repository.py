# Copyright (c) 2026, The gpufleet.triton authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This file is private to the gpufleet.triton collection: it may change at any time.

"""A model repository on this host: what is in it, what a wanted state needs, and the work that brings it about.

A model's folder is never written to. Its new content is staged beside the repository, made durable, and swapped in by one
exchange; the old content becomes a release. Whatever ends the work half-way, the next one that takes the lock cleans up.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import re
import secrets
import stat
import time
import typing as t
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from ansible_collections.gpufleet.triton.plugins.module_utils import _tree
from ansible_collections.gpufleet.triton.plugins.module_utils._content import Candidate, Folder, Store, config_text, read_folder
from ansible_collections.gpufleet.triton.plugins.module_utils._manifest import (
    CONFIG,
    EXCLUDE,
    MANIFEST,
    FileEntry,
    HashCache,
    LfsPointerError,
    Manifest,
    RepositoryError,
    check_layout,
    digest_of,
    entries_from,
    field_of,
    is_config_text,
    is_excluded,
    now,
    os_error,
    read,
    rows_from,
    scan,
    versions_of,
    with_digest,
    without_digest,
)
from ansible_collections.gpufleet.triton.plugins.module_utils._proc import mount_of, mounts_below, read_mounts

PRESENT, ABSENT, VERIFIED, ROLLED_BACK = "present", "absent", "verified", "rolled_back"
NONE, PUBLISHED, REPAIRED, REMOVED = "none", "published", "repaired", "removed"

_DIRECTORY_MODE, _FILE_MODE, _EXECUTABLE_MODE = 0o755, 0o644, 0o755
#: What an interrupted upload or download left is used by the next run, and removed after this time.
_KEPT_LEFTOVERS = 86400.0
_WORKERS = 4
_SHORTEST_DIGEST = 8
#: Of a signature, which has a row for each file of the model.
_LONGEST_TEXT = 16 << 20
_MARKER = "marker.json"
#: In an inbox or a fetch folder that a publication uses: if nobody holds the lock, that publication is dead.
_CLAIM = "publishing"
_HEX = re.compile(r"[0-9a-f]{64}\Z")
_REASONS = 20


class Sources(t.Protocol):
    """Where content comes from that this host fetches itself."""

    def populate(self, remote: dict[str, t.Any], folder: str, downloads: str) -> str: ...

    def identity_of_rclone(self, rclone: dict[str, t.Any]) -> str: ...


@dataclass(frozen=True)
class Settings:
    """A repository and how it is kept."""

    root: str
    keep: int = 2
    uid: int | None = None
    gid: int | None = None
    lock_timeout: float = 600.0


@dataclass
class Wanted:
    """What is wanted of one model. Without `files` only its source is known, and its content is not."""

    name: str
    state: str = PRESENT
    digest: str | None = None
    identity: str | None = None
    host_identity: str | None = None
    files: list[t.Any] | None = None
    texts: dict[str, str] = field(default_factory=dict)
    remote: dict[str, t.Any] | None = None
    source: dict[str, t.Any] = field(default_factory=dict)
    #: The models that it runs, if it is an ensemble.
    steps: list[str] = field(default_factory=list)
    folder: str | None = None

    @classmethod
    def from_row(cls, row: t.Mapping[str, t.Any]) -> Wanted:
        known = {name: row[name] for name in cls.__dataclass_fields__ if row.get(name) is not None}
        return cls(**known)

    @property
    def full_identity(self) -> str | None:
        """The key of a source: the controller's part, and what only this host can tell of it."""
        if self.identity is None or self.host_identity is None:
            return self.identity
        return hashlib.sha256(json.dumps([self.identity, self.host_identity]).encode()).hexdigest()


@dataclass
class Outcome:
    """What was done about one model, or would be."""

    name: str
    action: str = NONE
    digest: str | None = None
    previous_digest: str | None = None
    versions: list[int] = field(default_factory=list)
    steps: list[str] = field(default_factory=list)
    bytes: int = 0
    files: int = 0
    changes: dict[str, list[str]] = field(default_factory=lambda: {"added": [], "changed": [], "removed": []})
    reasons: list[str] = field(default_factory=list)
    problems: list[dict[str, str]] = field(default_factory=list)
    #: What the caller has to bring: checksums of content that is not here, or all of it from its source.
    lacks: list[str] = field(default_factory=list)
    needs_fetch: bool = False
    sizes: dict[str, int] = field(default_factory=dict)
    error: RepositoryError | None = None

    def as_row(self, planned: bool = False) -> dict[str, t.Any]:
        names = ["name", "action", "digest", "previous_digest", "versions", "steps", "bytes", "files", "changes", "reasons"]
        if planned:
            names += ["lacks", "needs_fetch", "sizes"]
        return {name: getattr(self, name) for name in names}

    def content(self, entries: t.Sequence[FileEntry]) -> None:
        self.versions = versions_of(entry.path for entry in entries)
        self.bytes = sum(max(0, entry.size) for entry in entries)
        self.files = sum(not entry.is_folder for entry in entries)

    def problem(self, what: str, why: str, remedy: str, path: str = "") -> None:
        self.problems.append({"model": self.name, "path": path, "what": what, "why": why, "remedy": remedy})


@dataclass
class _Drift:
    """How a published folder differs from its manifest."""

    corrupt: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    extra: list[str] = field(default_factory=list)
    attributes: dict[str, str] = field(default_factory=dict)

    @property
    def content(self) -> bool:
        return bool(self.corrupt or self.missing or self.extra)

    def reasons(self) -> list[str]:
        lines = [f"{path} is missing" for path in self.missing]
        lines += [f"{path} differs from what was published" for path in self.corrupt]
        lines += [f"{path} was not published" for path in self.extra]
        lines += [f"{path} {why}" for path, why in self.attributes.items()]
        return lines if len(lines) <= _REASONS else [*lines[:_REASONS], f"and {len(lines) - _REASONS} more"]


@dataclass
class _Release:
    digest: str
    folder: Folder
    retired: float

    @property
    def when(self) -> str:
        return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(self.retired))


@dataclass
class _Decision:
    """What a wanted state needs, compared with what is there."""

    want: Wanted
    live: Folder
    outcome: Outcome
    entries: list[FileEntry] | None = None
    drift: _Drift = field(default_factory=_Drift)
    release: _Release | None = None


class Repository:
    """The models below one root, and the earlier releases of them."""

    def __init__(self, settings: Settings, sources: Sources | None = None, check_mode: bool = False) -> None:
        self.settings = settings
        self.sources = sources
        self.check_mode = check_mode
        # Without links, as the kernel names mounts.
        data = os.path.realpath(os.path.join(settings.root, "data"))
        self.models = os.path.realpath(os.path.join(data, "models"))
        self.private = os.path.join(data, ".gpufleet")
        self.staging = os.path.join(self.private, "staging")
        self.releases = os.path.join(self.private, "releases")
        self.cache = HashCache(os.path.join(self.private, "hashes.json"))
        #: Nothing is there yet, and check mode tells what would be.
        self.bare = False
        #: Where models were swapped, until all of the call are done.
        self._swapped: list[tuple[str, str, int]] = []

    # What is asked of it

    def plan(self, wants: t.Sequence[Wanted]) -> list[Outcome]:
        """What each wanted state needs. No model is changed, and no file read whose status is known."""
        self._check_place()
        self._recover_if_needed()
        store = self._open_store()
        free = 0 if self.bare else _free(self.models)
        outcomes = []
        for want in wants:
            outcome = Outcome(want.name)
            outcomes.append(outcome)
            with _explained(outcome, "look at"):
                decision = self._decide_again(want, outcome, store)
                if decision.entries is not None and outcome.action in (PUBLISHED, REPAIRED) and not self.bare:
                    needed = _bytes(decision.entries) if outcome.action == PUBLISHED or decision.drift.content else 0
                    _check_room(outcome.name, needed, free, self._staged(decision.entries, store) if needed else 0)
                    free -= needed
        if all(outcome.action == NONE and outcome.error is None for outcome in outcomes):
            self._recover_if_needed(left_behind=True)
        if not self.check_mode:
            self.cache.save()
        return outcomes

    def apply(self, wants: t.Sequence[Wanted], inbox: str | None = None) -> list[Outcome]:
        """Bring about what is wanted. A model that fails keeps what it had, and does not stop the others."""
        self._check_place()
        if all(want.state == VERIFIED for want in wants):
            return self.verify([want.name for want in wants], {want.name: want.digest for want in wants})
        names = ", ".join(f"{want.state} {want.name}" for want in wants)
        outcomes = [Outcome(want.name) for want in wants]
        with self._locked(names):
            own = {self._leftover(path) for path in (inbox, *(want.folder for want in wants))}
            boxes = [path for path in own if path]
            try:
                # Claimed at once, so that whoever comes after a kill knows that it is in nobody's use.
                self._claim(boxes)
                boxes += self._claimed()
                self._recover()
                store = self._open_store()
                uses = Counter(str(row[2]) for want in wants for row in want.files or [])
                if inbox:
                    boxes += self._open_boxes(inbox, store)
                self._open_fetched(wants, store)
                for want, outcome in zip(wants, outcomes):
                    with _explained(outcome, _VERBS[want.state]):
                        self._apply_one(want, outcome, store, uses)
                # Not before: another model of the call may get its content from a release that is one too many.
                for staged, name, keep in self._swapped:
                    self._prune(name, keep)
                    # Last, so that recovery does the rest if this is interrupted.
                    self._trash(staged)
            except OSError as exc:
                raise os_error(f"Cannot work on {self.private}", exc) from exc
            finally:
                for path in boxes:
                    self._discard(path)
                self.cache.save()
        return outcomes

    def verify(self, names: t.Sequence[str] | None = None, digests: t.Mapping[str, str | None] | None = None) -> list[Outcome]:
        """Read every file again and compare it with the manifest. Without names, all that is in the repository."""
        self._check_place()
        everything = names is None
        outcomes = []
        with self._shared_lock():
            for name in self._folders() if everything else names or []:
                outcome = Outcome(name, action=VERIFIED)
                outcomes.append(outcome)
                with _explained(outcome, "verify"):
                    self._verify_one(outcome, (digests or {}).get(name), everything)
            if everything:
                outcomes += self._strangers()
        if not self.check_mode:
            self.cache.save()
        return outcomes

    def on_disk(self) -> list[dict[str, t.Any]]:
        """Every folder of the repository, as Triton takes each for a model."""
        rows = []
        for name in self._folders():
            manifest = None
            versions: list[int] = []
            with contextlib.suppress(OSError, RepositoryError):
                folder = self._live(name)
                manifest = folder.manifest
                with os.scandir(folder.path) as items:
                    versions = versions_of(f"{item.name}/" for item in items if item.is_dir())
            rows.append(
                {
                    "name": name,
                    "managed": manifest is not None,
                    "digest": manifest.digest if manifest else None,
                    "published": manifest.published if manifest else None,
                    "versions": manifest.versions if manifest else versions,
                }
            )
        return rows

    def texts(self, name: str) -> dict[str, str]:
        """The configurations of a live model without the digest at their end."""
        found: dict[str, str] = {}
        with contextlib.suppress(OSError):
            folder = os.path.join(self.models, name)
            paths = [CONFIG]
            if os.path.isdir(os.path.join(folder, "configs")):
                paths += [f"configs/{item}" for item in sorted(os.listdir(os.path.join(folder, "configs")))]
            for path in filter(is_config_text, paths):
                with contextlib.suppress(FileNotFoundError), open(os.path.join(folder, path), "rb") as file:
                    found[path] = without_digest(file.read()).decode("utf-8", "replace")
        return {path: text for path, text in found.items() if text}

    def config_of(self, name: str) -> str | None:
        """The configuration of a live model. None if there is no such model, empty if it has none."""
        with contextlib.suppress(RepositoryError):
            _check_name(name)
            if not self.bare and os.path.isdir(os.path.join(self.models, name)):
                return self.texts(name).get(CONFIG, "")
        return None

    def free_bytes(self) -> int:
        return 0 if self.bare else _free(self.models)

    def open_inbox(self, uid: int | None) -> str | None:
        """A folder that a user can write to, for content to come. None if that user cannot reach it."""
        self._check_place()
        self._make_private()
        if uid is not None and uid != os.geteuid() and (os.geteuid() != 0 or not self._reachable(uid)):
            return None
        path = os.path.join(self.staging, f"inbox-{secrets.token_hex(8)}")
        try:
            os.mkdir(path, 0o700)
            if uid is not None:
                os.chown(path, uid, -1)
        except PermissionError as exc:
            # A file server may not let root give a folder away.
            if not os.path.isdir(path):
                raise os_error(f"Cannot make the folder {path}", exc) from exc
            self._discard(path)
            return None
        except OSError as exc:
            raise os_error(f"Cannot make the folder {path}", exc) from exc
        return path

    def fetch(self, rows: t.Sequence[t.Mapping[str, t.Any]]) -> tuple[list[dict[str, t.Any]], list[Outcome]]:
        """Get content from where this host reaches it. Returns what came, and what failed."""
        self._check_place()
        self._make_private()
        downloads = os.path.join(self.staging, "downloads")
        place = os.path.join(self.staging, f"fetch-{secrets.token_hex(8)}")
        try:
            self._make_directory(downloads, 0o700)
            self._make_directory(place, 0o700)
        except OSError as exc:
            raise os_error(f"Cannot make the folder {place}", exc) from exc
        answers, failed = [], []
        for row in rows:
            outcome = Outcome(str(row["name"]))
            with _explained(outcome, "fetch"):
                answers.append(self._fetch_one(row, os.path.join(place, outcome.name), downloads))
            if outcome.error:
                failed.append(outcome)
        if failed or not os.listdir(place):
            self._discard(place)
        self.cache.save()
        return answers, failed

    def discard(self, paths: t.Iterable[str]) -> None:
        """Remove content that was fetched and is not wanted after all. Nothing but fetch folders and inboxes goes."""
        for path in filter(None, map(self._leftover, paths)):
            self._discard(path)

    # The place

    def _check_place(self) -> None:
        """Refuse a repository that is not there, or that cannot be worked on."""
        try:
            status = os.stat(self.models)
        except (FileNotFoundError, NotADirectoryError):
            if self.check_mode:
                self.bare = True
                return
            raise RepositoryError(
                f"There is no model repository at {self.settings.root}",
                f"{self.models} does not exist",
                "mount it if it should be a mount, or lay it out with the role gpufleet.triton.model_repository",
            ) from None
        except OSError as exc:
            raise os_error(f"Cannot look at {self.models}", exc) from exc
        if not stat.S_ISDIR(status.st_mode):
            raise RepositoryError(f"Cannot use {self.models} as a model repository", "it is no folder", "move the file away")
        staging = self.staging
        while not os.path.isdir(staging):
            staging = os.path.dirname(staging)
        mounts = read_mounts()
        there, here = (mount_of(os.path.realpath(path), mounts) for path in (self.models, staging))
        if os.stat(staging).st_dev != status.st_dev or (there and here and there.point != here.point):
            raise RepositoryError(
                f"Cannot publish to {self.models}: it is on another file system than {self.staging}",
                "a model is staged there and swapped in by one rename, which works within one file system only",
                f"mount the file system at {self.settings.root}, not at a folder in it",
            )

    def _check_writable(self) -> None:
        """Of a read-only mount that is told before any work."""
        if os.statvfs(self.models).f_flag & os.ST_RDONLY:
            raise os_error(f"Cannot write to {self.models}", OSError(errno.EROFS, os.strerror(errno.EROFS)))

    def _make_private(self) -> None:
        try:
            self._check_writable()
            # Others may pass through, on their way to an inbox of their own.
            self._make_directory(self.private, 0o751)
            self._make_directory(self.staging, 0o751)
            self._make_directory(self.releases, 0o750)
        except OSError as exc:
            raise os_error(f"Cannot write to {self.private}", exc) from exc

    def _make_directory(self, path: str, mode: int) -> None:
        if os.path.isdir(path):
            return
        # Two runs may be the first here.
        with contextlib.suppress(FileExistsError):
            os.mkdir(path, mode)
            os.chmod(path, mode)
            self._chown(path)

    def _chown(self, path: str, status: os.stat_result | None = None) -> None:
        status = status or os.lstat(path)
        uid = os.geteuid() if self.settings.uid is None else self.settings.uid
        gid = os.getegid() if self.settings.gid is None else self.settings.gid
        if (status.st_uid, status.st_gid) != (uid, gid):
            os.chown(path, uid, gid, follow_symlinks=False)

    def _reachable(self, uid: int) -> bool:
        path = self.staging
        while path != "/":
            status = os.stat(path)
            if not status.st_mode & (stat.S_IXUSR if status.st_uid == uid else stat.S_IXOTH):
                return False
            path = os.path.dirname(path)
        return True

    def _locked(self, what: str) -> _tree.Lock:
        self._make_private()
        return _tree.Lock(os.path.join(self.private, "lock"), what, self.settings.lock_timeout)

    def _shared_lock(self) -> t.ContextManager[t.Any]:
        path = os.path.join(self.private, "lock")
        if not os.path.exists(path):
            # Nobody has published here yet.
            return contextlib.nullcontext()
        return _tree.Lock(path, "verify", self.settings.lock_timeout, shared=True)

    def _leftover(self, path: str | None) -> str | None:
        """The inbox or fetch folder of our own that a path lies in."""
        if not path or not os.path.realpath(path).startswith(self.staging + "/"):
            return None
        top = os.path.realpath(path)[len(self.staging) + 1 :].split("/", 1)[0]
        return os.path.join(self.staging, top) if top.startswith(("inbox-", "fetch-")) else None

    def _discard(self, path: str) -> None:
        """Remove what nobody needs; what cannot be removed now, the next run does."""
        with contextlib.suppress(OSError):
            _tree.remove(path)

    def _trash(self, path: str) -> None:
        """Take a tree out of the way at once, and remove it then."""
        target = os.path.join(self.staging, f"trash-{secrets.token_hex(8)}")
        os.rename(path, target)
        self._discard(target)

    # What is there

    def _folders(self) -> list[str]:
        if self.bare:
            return []
        try:
            with os.scandir(self.models) as items:
                return sorted(item.name for item in items if item.is_dir())
        except OSError as exc:
            raise os_error(f"Cannot read {self.models}", exc) from exc

    def _live(self, name: str) -> Folder:
        path = os.path.join(self.models, name)
        if self.bare:
            return Folder(path, False)
        try:
            mode = os.lstat(path).st_mode
        except FileNotFoundError:
            return Folder(path, False)
        if stat.S_ISLNK(mode):
            raise RepositoryError(
                f"Cannot work on model {name!r}: {path} is a symbolic link to {os.readlink(path)}",
                "swapping in new content would replace the link, and leave what it points to",
                "put the folder itself in its place",
            )
        if not stat.S_ISDIR(mode):
            raise RepositoryError(f"Cannot work on model {name!r}: {path} is no folder", "", "move the file away")
        folder = read_folder(path)
        if folder.manifest and folder.manifest.name != name:
            return Folder(path, True, None, f"its manifest is that of {folder.manifest.name!r}")
        return folder

    def _releases_of(self, name: str) -> list[_Release]:
        """The releases of a model, the one that was retired last first."""
        found = []
        with contextlib.suppress(FileNotFoundError), os.scandir(os.path.join(self.releases, name)) as items:
            for item in items:
                if _HEX.match(item.name) and item.is_dir(follow_symlinks=False):
                    folder = read_folder(item.path)
                    found.append(_Release(f"sha256:{item.name}", folder, item.stat().st_mtime))
        return sorted(found, key=lambda release: release.retired, reverse=True)

    def _open_store(self) -> Store:
        return Store(self.cache, self._add_everything)

    def _add_everything(self, store: Store) -> None:
        """All content of this host, looked at only when the model itself lacks something."""
        if self.bare:
            return
        for name in self._folders():
            with contextlib.suppress(OSError, RepositoryError):
                store.add_folder(self._live(name))
        with contextlib.suppress(OSError):
            for name in os.listdir(self.releases):
                for release in self._releases_of(name):
                    store.add_folder(release.folder)
        with contextlib.suppress(OSError):
            for name in os.listdir(self.staging):
                path = os.path.join(self.staging, name)
                # What an interrupted run left: complete files are as good as any.
                if name.startswith("inbox-"):
                    store.add_inbox(path, movable=False)
                elif name.startswith("fetch-"):
                    self._add_fetched(path, store)

    def _add_fetched(self, folder: str, store: Store) -> None:
        for path, status in _tree.listing(folder).items():
            full = os.path.join(folder, path)
            sha256 = self.cache.knows(full, status)
            if sha256 and stat.S_ISREG(status.st_mode):
                store.add(sha256, Candidate(full, status.st_size))

    def _drift(self, folder: str, manifest: Manifest, full: bool = False) -> _Drift:
        """Compare a folder with its manifest, by status alone where that is known, or by reading all of it."""
        drift = _Drift()
        found = _tree.listing(folder)
        files, folders, executables = _on_disk(manifest)
        for path, (size, sha256) in sorted(files.items()):
            status = found.get(path)
            if status is None:
                drift.missing.append(path)
                continue
            if self._differs(os.path.join(folder, path), status, size, sha256, full):
                drift.corrupt.append(path)
            else:
                self._check_attributes(path, status, _EXECUTABLE_MODE if path in executables else _FILE_MODE, drift)
        for path in sorted(folders):
            status = found.get(path)
            if status is None:
                drift.missing.append(path)
            else:
                self._check_attributes(path, status, _DIRECTORY_MODE, drift)
        own = os.lstat(os.path.join(folder, MANIFEST))
        self._check_attributes(MANIFEST, own, _FILE_MODE, drift)
        self._check_attributes("./", os.lstat(folder), _DIRECTORY_MODE, drift)
        for path in sorted(set(found) - set(files) - folders - {MANIFEST}):
            above = [f"{folder}/" for folder in _parents(path)]
            # What lies in a folder that is named already need not be named as well.
            if not any(is_excluded(part, EXCLUDE) for part in (path, *above)) and not (set(above) - {path}) & set(drift.extra):
                drift.extra.append(path)
        return drift

    def _differs(self, path: str, status: os.stat_result, size: int, sha256: str, full: bool) -> bool:
        if not stat.S_ISREG(status.st_mode) or status.st_size != size:
            return True
        try:
            if not full:
                return self.cache.sha256(path, status) != sha256
            found = read(path)[0]
        except OSError as exc:
            if exc.errno != errno.EIO:
                raise
            # The disk cannot give it back: that is what corrupt means.
            return True
        if found == sha256 and _tree.signature(os.lstat(path)) == _tree.signature(status):
            self.cache.remember(path, status, sha256)
        return found != sha256

    def _check_attributes(self, path: str, status: os.stat_result, wanted: int, drift: _Drift) -> None:
        mode = stat.S_IMODE(status.st_mode)
        # More rights to read or to execute do no harm, and some file systems give the same mode to all that they have.
        if mode & wanted & 0o555 != wanted & 0o555 or mode & 0o7022:
            drift.attributes[path] = f"has the mode {mode:04o}, wanted {wanted:04o}"
        for what, wanted_id, found in (("owner", self.settings.uid, status.st_uid), ("group", self.settings.gid, status.st_gid)):
            if wanted_id is not None and found != wanted_id:
                drift.attributes[path] = f"has the {what} {found}, wanted {wanted_id}"

    # What is needed

    def _decide_again(self, want: Wanted, outcome: Outcome, store: Store) -> _Decision:
        """Decide without the lock: where another run swaps the model meanwhile, what is looked at goes away."""
        before = _inode(os.path.join(self.models, want.name))
        try:
            return self._decide(want, outcome, store)
        except FileNotFoundError:
            if _inode(os.path.join(self.models, want.name)) == before:
                raise
        return self._decide(want, outcome, store)

    def _decide(self, want: Wanted, outcome: Outcome, store: Store) -> _Decision:
        _check_name(want.name)
        live = self._live(want.name)
        outcome.previous_digest = live.digest
        outcome.digest = live.digest
        if live.manifest:
            outcome.content(live.manifest.entries)
            outcome.steps = list(live.manifest.steps)
        decision = _Decision(want, live, outcome)
        if want.state == ABSENT:
            self._decide_absent(decision)
        elif want.state == ROLLED_BACK:
            self._decide_rolled_back(decision)
        elif want.state == VERIFIED:
            outcome.action = VERIFIED
            self._verify_one(outcome, want.digest)
        else:
            self._decide_present(decision, store)
        if outcome.action not in (NONE, VERIFIED) and not self.bare:
            self._check_writable()
            self._check_mounts(want.name)
        return decision

    def _check_mounts(self, name: str) -> None:
        inside = mounts_below(os.path.join(self.models, name), read_mounts())
        if inside:
            raise RepositoryError(
                f"Cannot change model {name!r}: something is mounted at {', '.join(inside)}",
                "a folder with a mount in it cannot be swapped for another",
                "unmount it",
            )

    def _decide_absent(self, decision: _Decision) -> None:
        if not decision.live.exists:
            return
        outcome = decision.outcome
        outcome.action = REMOVED
        outcome.reasons.append("it is in the repository")
        removed = decision.live.manifest.entries if decision.live.manifest else self._content_of(decision.live)
        outcome.changes["removed"] = [entry.path for entry in removed]
        outcome.digest = None
        outcome.steps = []
        outcome.content([])

    def _decide_rolled_back(self, decision: _Decision) -> None:
        want, live, outcome = decision.want, decision.live, decision.outcome
        releases = self._releases_of(want.name)
        there = "; ".join(f"{release.digest} (retired {release.when})" for release in releases) or "none"
        others = [release for release in releases if release.digest != live.digest]
        if want.digest:
            digits = want.digest[len("sha256:") :] if want.digest.startswith("sha256:") else want.digest
            if len(digits) < _SHORTEST_DIGEST or not re.match(r"[0-9a-f]{1,64}\Z", digits):
                raise RepositoryError(
                    f"Cannot roll back model {want.name!r} to {want.digest!r}",
                    f"wanted a digest, or {_SHORTEST_DIGEST} or more of its first digits",
                    f"choose one of: {there}",
                )
            prefix = f"sha256:{digits}"
            if (live.digest or (live.exists and digest_of(self._content_of(live))) or "").startswith(prefix):
                self._check_live(want.name, live)
                outcome.reasons.append("that release is live")
                return
            others = [release for release in others if release.digest.startswith(prefix)]
            if len(others) > 1:
                raise RepositoryError(
                    f"Cannot roll back model {want.name!r} to {want.digest!r}", "several releases begin so", f"choose one of: {there}"
                )
        if not others:
            raise RepositoryError(
                f"Cannot roll back model {want.name!r} to {want.digest or 'the release before'}",
                "there is no such release",
                f"publish it, or choose one of the releases that are there: {there}",
            )
        decision.release = others[0]
        outcome.action = ROLLED_BACK
        outcome.digest = others[0].folder.digest
        outcome.reasons.append(f"wanted the release that was retired {others[0].when}")
        manifest = others[0].folder.manifest
        outcome.steps = list(manifest.steps) if manifest else []
        after = list(manifest.entries) if manifest else self._content_of(others[0].folder)
        outcome.content(after)
        before = list(live.manifest.entries) if live.manifest else self._content_of(live)
        _compare(before, after, outcome)

    def _check_live(self, name: str, live: Folder) -> None:
        drift = self._drift(live.path, live.manifest) if live.manifest else _Drift()
        if drift.content:
            raise RepositoryError(
                f"Cannot roll back model {name!r} to {live.digest}: it is live, and damaged",
                "; ".join(drift.reasons()),
                "publish that content again",
            )

    def _content_of(self, folder: Folder) -> list[FileEntry]:
        """The content of a folder without a manifest, as far as it could be a model's."""
        return scan(folder.path, self.cache, EXCLUDE, problems=[]) if folder.exists else []

    def _decide_present(self, decision: _Decision, store: Store) -> None:
        want, live = decision.want, decision.live
        store.add_folder(live)
        for release in self._releases_of(want.name):
            store.add_folder(release.folder)
        before: list[FileEntry] = []
        if live.manifest:
            before = list(live.manifest.entries)
        elif live.exists:
            before = self._content_of(live)
            store.add_entries(live.path, before)
        if want.files is None:
            self._decide_by_identity(decision)
            return
        outcome = decision.outcome
        outcome.steps = want.steps
        rows = self._with_sizes(want.files, store, outcome)
        if rows is None:
            outcome.action, outcome.needs_fetch, outcome.digest = PUBLISHED, True, None
            outcome.reasons.append("files that it gets by URL are not here yet")
            return
        decision.entries = entries_from(rows)
        self._check_content(want, decision.entries)
        digest = digest_of(decision.entries)
        if want.digest and want.digest != digest:
            raise RepositoryError(
                f"Cannot publish model {want.name!r}: its content has the digest {digest}, wanted {want.digest}",
                "",
                "correct the source, or the digest",
            )
        outcome.digest = digest
        outcome.content(decision.entries)
        if live.manifest and live.digest == digest:
            self._decide_by_drift(decision, live.manifest)
        else:
            outcome.action = PUBLISHED
            outcome.reasons.append(_why_published(live))
            _compare(before, decision.entries, outcome)
        if outcome.action == PUBLISHED or decision.drift.content:
            lacking = {
                entry.sha256: entry
                for entry in decision.entries
                if not entry.is_folder and not is_config_text(entry.path) and store.find(entry.sha256, entry.size) is None
            }
            outcome.lacks = sorted(lacking)

    def _check_content(self, want: Wanted, entries: t.Sequence[FileEntry]) -> None:
        text = want.texts.get(CONFIG, "")
        problems = check_layout(
            want.name, [entry.path for entry in entries], field_of(text, "backend"), field_of(text, "default_model_filename")
        )
        if problems:
            first = RepositoryError(**problems[0])
            more = [str(RepositoryError(**problem)) for problem in problems[1:]]
            raise RepositoryError(first.what, first.why, " ".join([first.remedy + (";" if more else ""), *more]))

    def _with_sizes(self, rows: list[t.Any], store: Store, outcome: Outcome) -> list[t.Any] | None:
        """The rows with the sizes of content that only its checksum is known of. None if it is not here."""
        complete = []
        for row in rows:
            if row[1] is None:
                size = store.size_of(str(row[2]))
                if size is None:
                    return None
                outcome.sizes[str(row[2])] = size
                complete.append([row[0], size, *row[2:]])
            else:
                complete.append(row)
        return complete

    def _decide_by_identity(self, decision: _Decision) -> None:
        """Of a source that this host fetches, tell whether it is what was published, without fetching it."""
        want, live, outcome = decision.want, decision.live, decision.outcome
        if want.host_identity is None:
            want.host_identity = self._host_identity(want.remote or {})
        identity = want.full_identity
        known = live.manifest is not None and identity is not None and identity in self._identities(live.manifest)
        if live.manifest and known and (not want.digest or want.digest == live.digest):
            self._decide_by_drift(decision, live.manifest)
            outcome.needs_fetch = decision.drift.content
            return
        outcome.action, outcome.needs_fetch = PUBLISHED, True
        outcome.digest = want.digest
        outcome.reasons.append("its source changed" if live.manifest else _why_published(live))

    def _host_identity(self, remote: t.Mapping[str, t.Any]) -> str | None:
        if remote.get("folder"):
            return digest_of(scan(str(remote["folder"]), self.cache, tuple(remote.get("exclude") or EXCLUDE)))
        if remote.get("rclone") and self.sources is not None:
            return self.sources.identity_of_rclone(remote["rclone"])
        return None

    def _identities(self, manifest: Manifest) -> set[str]:
        noted = self._noted_identities().get(manifest.name)
        known = {manifest.identity} if manifest.identity else set()
        if isinstance(noted, list) and len(noted) == 2 and noted[0] == manifest.digest:
            known.add(str(noted[1]))
        return known

    def _noted_identities(self) -> dict[str, t.Any]:
        try:
            with open(os.path.join(self.private, "identities.json"), "rb") as file:
                value = json.loads(file.read().decode())
            return value if isinstance(value, dict) else {}
        except (OSError, ValueError):
            return {}

    def _note_identity(self, want: Wanted, live: Folder) -> None:
        """Take note that another source has the same content, in no file of the model: Triton would load it again for that."""
        identity = want.full_identity
        if live.manifest is None or identity is None or identity in self._identities(live.manifest):
            return
        noted = {name: value for name, value in self._noted_identities().items() if os.path.isdir(os.path.join(self.models, name))}
        noted[want.name] = [live.manifest.digest, identity]
        # It only saves time.
        with contextlib.suppress(OSError):
            _tree.replace(os.path.join(self.private, "identities.json"), json.dumps(noted).encode())

    def _decide_by_drift(self, decision: _Decision, manifest: Manifest) -> None:
        drift = self._drift(decision.live.path, manifest)
        decision.drift = drift
        if drift.content or drift.attributes:
            outcome = decision.outcome
            outcome.action = REPAIRED
            outcome.reasons = drift.reasons()
            outcome.changes = {"added": drift.missing, "changed": drift.corrupt, "removed": drift.extra}

    # The work

    def _apply_one(self, want: Wanted, outcome: Outcome, store: Store, uses: Counter[str]) -> None:
        decision = self._decide(want, outcome, store)
        if outcome.action == NONE:
            self._note_identity(want, decision.live)
        elif outcome.action == REMOVED:
            self._remove(decision, store)
        elif decision.release:
            self._roll_back(decision, decision.release, store)
        elif outcome.action == REPAIRED and not decision.drift.content and decision.live.manifest:
            self._repair_attributes(decision, decision.live.manifest)
        elif outcome.action in (PUBLISHED, REPAIRED):
            self._publish(decision, store, uses)

    def _publish(self, decision: _Decision, store: Store, uses: Counter[str]) -> None:
        want, outcome = decision.want, decision.outcome
        entries = decision.entries
        if entries is None:
            raise RepositoryError(f"Cannot publish model {want.name!r}: its content is not known", "", "run it again")
        if outcome.lacks:
            paths = [entry.path for entry in entries if entry.sha256 in set(outcome.lacks)]
            raise RepositoryError(
                f"Cannot publish model {want.name!r}: the content of {', '.join(paths[:_REASONS])} is not here",
                "it was not sent, or was removed meanwhile",
                "run it again",
            )
        files = [entry for entry in entries if not entry.is_folder and not is_config_text(entry.path)]
        copied = [entry for entry in files if not self._can_move(store.find(entry.sha256, entry.size), entry, uses)]
        _check_room(want.name, _bytes(copied), _free(self.models), self._staged(copied, store))
        staged = self._stage(want.name)
        try:
            self._fill(staged, decision, entries, store, uses)
            old = self._swap(staged, decision.live)
        except BaseException:
            self._abandon(staged)
            raise
        self._retire_old(staged, old, want.name, store)

    def _staged(self, entries: t.Iterable[FileEntry], store: Store) -> int:
        """The bytes of content that an interrupted run has brought already: they are part of what is not free."""
        found = (store.find(entry.sha256, entry.size) for entry in entries if not entry.is_folder and not is_config_text(entry.path))
        return sum(each.size or 0 for each in found if each is not None and each.path.startswith(self.staging + "/"))

    def _can_move(self, candidate: Candidate | None, entry: FileEntry, uses: Counter[str]) -> bool:
        """Whether content can be taken away: no other file of this call needs it, and it is no link to something else."""
        if entry.is_folder:
            return True
        return candidate is not None and candidate.movable and uses[entry.sha256] <= 1 and not os.path.islink(candidate.path)

    def _stage(self, name: str, keep: int | None = None) -> str:
        """A folder to work in. Its marker tells a later recovery whose it is, and whether its content was swapped in.

        :param keep: the inode of a release that is moved here, which is put back if it is not swapped in.
        """
        staged = os.path.join(self.staging, f"pub-{secrets.token_hex(8)}")
        os.mkdir(staged, 0o700)
        if keep is None:
            new = os.path.join(staged, "new")
            os.mkdir(new, _DIRECTORY_MODE)
            os.chmod(new, _DIRECTORY_MODE)
            self._chown(new)
        inode = os.lstat(os.path.join(staged, "new")).st_ino if keep is None else keep
        marker = {"model": name, "inode": inode, "keep": keep is not None, "releases": self.settings.keep}
        _tree.replace(os.path.join(staged, _MARKER), json.dumps(marker).encode())
        return staged

    def _fill(self, staged: str, decision: _Decision, entries: list[FileEntry], store: Store, uses: Counter[str]) -> None:
        want = decision.want
        new = os.path.join(staged, "new")
        digest = digest_of(entries)
        texts = self._texts(want, entries, digest, store)
        folders = sorted({f"{folder}/" for entry in entries for folder in _parents(entry.path)})
        for folder in folders:
            path = os.path.join(new, folder)
            os.mkdir(path)
            os.chmod(path, _DIRECTORY_MODE)
            self._chown(path)
        with ThreadPoolExecutor(_WORKERS) as pool:
            jobs = []
            for entry in entries:
                if entry.is_folder or entry.path in texts:
                    continue
                candidate = store.find(entry.sha256, entry.size)
                move = self._can_move(candidate, entry, uses)
                # What is known of it goes for the file as it is now, not for what the worker may find later.
                status = os.stat(candidate.path) if candidate else None
                known = status if candidate and status and self.cache.knows(candidate.path, status) == entry.sha256 else None
                jobs.append(pool.submit(self._place, want.name, candidate, os.path.join(new, entry.path), entry, move, known))
            try:
                for job in jobs:
                    job.result()
            except BaseException:
                for job in jobs:
                    job.cancel()
                raise
            written = {entry.path: entry.sha256 for entry in entries if not entry.is_folder and entry.path not in texts}
            modes = {entry.path: _EXECUTABLE_MODE if entry.executable else _FILE_MODE for entry in entries}
            for path, text in texts.items():
                self._write(os.path.join(new, path), text, modes.get(path, _FILE_MODE))
                written[path] = hashlib.sha256(text).hexdigest()
            list(pool.map(_tree.sync, [os.path.join(new, path) for path in written]))
            manifest = Manifest(
                name=want.name,
                digest=digest,
                entries=tuple(entries),
                source=want.source,
                identity=want.full_identity,
                published=now(),
                texts={path: (len(text), written[path]) for path, text in texts.items()},
                steps=tuple(want.steps),
            )
            # Last, so that a folder with a manifest is a whole one.
            self._write(os.path.join(new, MANIFEST), manifest.to_bytes(), _FILE_MODE)
            names = [os.path.join(new, MANIFEST), *(os.path.join(new, folder) for folder in folders), new, staged]
            list(pool.map(_tree.sync, names))
        for path, sha256 in written.items():
            full = os.path.join(new, path)
            self.cache.remember(full, os.lstat(full), sha256)

    def _texts(self, want: Wanted, entries: t.Sequence[FileEntry], digest: str, store: Store) -> dict[str, bytes]:
        """The configurations as they are published: with the digest at their end."""
        texts = {CONFIG: with_digest(b"", digest)}
        for entry in entries:
            if not is_config_text(entry.path):
                continue
            given = want.texts.get(entry.path)
            text = given.encode() if given is not None else store.text(entry.sha256)
            if text is None or hashlib.sha256(text).hexdigest() != entry.sha256:
                raise RepositoryError(
                    f"Cannot publish model {want.name!r}: the text of {entry.path} is not the one that its checksum names",
                    "it was not sent" if text is None else "it was changed on its way",
                    "run it again",
                )
            texts[entry.path] = with_digest(text, digest)
        return texts

    def _write(self, path: str, content: bytes, mode: int) -> None:
        _tree.write(path, content, mode)
        self._chown(path)

    def _place(
        self, name: str, candidate: Candidate | None, target: str, entry: FileEntry, move: bool, known: os.stat_result | None
    ) -> None:
        """Bring the content of one file to where it is staged, and read it there unless it is known.

        :param known: the status that the file had when its checksum was known.
        """
        if candidate is None:
            raise RepositoryError(f"Cannot publish model {name!r}: the content of {entry.path} is not here any more", "", "run it again")
        mode = _EXECUTABLE_MODE if entry.executable else _FILE_MODE
        found: os.stat_result | None = None
        if move:
            found = os.lstat(candidate.path)
            os.rename(candidate.path, target)
            self._chown(target)
            os.chmod(target, mode)
            _tree.start_writing(target)
        else:
            with contextlib.suppress(_tree.ChangedError):
                found = _tree.clone(candidate.path, target, mode)
            self._chown(target)
        same = known is not None and found is not None and _tree.signature(found) == _tree.signature(known)
        if not same and read(target)[:2] != (entry.sha256, entry.size):
            raise RepositoryError(
                f"Cannot publish model {name!r}: what came for {entry.path} is not what its checksum names",
                f"it was changed on its way, or while it was read from {candidate.path}",
                "run it again",
            )

    def _swap(self, staged: str, live: Folder) -> str | None:
        """Put the staged content in the place of the live one. Returns where that is now."""
        new = os.path.join(staged, "new")
        old: str | None = None
        if live.exists:
            self._outrun(new, live.path)
            old = self._exchange(staged, live.path)
        else:
            _tree.move(new, live.path)
        _tree.sync(self.models)
        _tree.sync(staged)
        self._touch_config(live.path)
        return old

    def _exchange(self, staged: str, live: str) -> str:
        new, old = os.path.join(staged, "new"), os.path.join(staged, "old")
        if _tree.exchange(new, live):
            return new
        # The file system has no such step: for a moment there is no model. Recovery knows both halves.
        os.rename(live, old)
        try:
            os.rename(new, live)
        except OSError:
            os.rename(old, live)
            raise
        return old

    def _outrun(self, new: str, live: str) -> None:
        """See that all of the new content is newer than the old one, as Triton takes anything else for unchanged.

        The old one may have times in the future, by the clock of a file server or of whoever made it.
        """
        before, after = _tree.times(live), _tree.times(new)
        for folder, newest in before.folders.items():
            if after.folders.get(folder, newest + 1) <= newest:
                _tree.make_newer(os.path.join(new, folder), newest)
        if after.newest <= before.newest:
            path = os.path.join(new, CONFIG)
            if not os.path.exists(path):
                path = new
            status = os.lstat(path)
            _tree.make_newer(path, before.newest)
            self.cache.renew(path, status, os.lstat(path))

    def _touch_config(self, folder: str) -> None:
        path = os.path.join(folder, CONFIG)
        with contextlib.suppress(FileNotFoundError):
            status = os.lstat(path)
            _tree.freshen(path, status)
            self.cache.renew(path, status, os.lstat(path))

    def _retire_old(self, staged: str, old: str | None, name: str, store: Store) -> None:
        """Keep the old content as a release. A damaged copy of what is live is none, and goes with those that are too many."""
        keep = self.settings.keep
        if old is not None:
            folder = read_folder(old)
            store.add_folder(read_folder(self._retire(folder, name)))
            # Whoever made it has no other copy, perhaps.
            keep = keep if folder.manifest else max(1, keep)
        self._swapped.append((staged, name, keep))

    def _retire(self, folder: Folder, name: str) -> str:
        digest = folder.digest or digest_of(self._content_of(folder))
        # The time of a release is when it stopped to be live: after all others, also where the clock was set back.
        newest = max([time.time(), *(release.retired + 1 for release in self._releases_of(name))])
        os.utime(folder.path, (newest, newest))
        return self._to_releases(folder.path, name, digest)

    def _to_releases(self, path: str, name: str, digest: str) -> str:
        parent = os.path.join(self.releases, name)
        self._make_directory(parent, 0o750)
        target = os.path.join(parent, digest[len("sha256:") :])
        if os.path.lexists(target):
            self._trash(target)
        os.rename(path, target)
        _tree.sync(parent)
        _tree.sync(os.path.dirname(path))
        return target

    def _prune(self, name: str, keep: int) -> None:
        """Remove the releases beyond those that are kept, and what is live again."""
        live = self._live(name)
        kept = 0
        for release in self._releases_of(name):
            same = release.digest == live.digest and release.folder.manifest is not None
            if not same and kept < keep:
                kept += 1
            else:
                self._trash(release.folder.path)
        with contextlib.suppress(OSError):
            os.rmdir(os.path.join(self.releases, name))

    def _remove(self, decision: _Decision, store: Store) -> None:
        store.add_folder(read_folder(self._retire(decision.live, decision.want.name)))
        _tree.sync(self.models)
        # Whoever removed it by mistake finds it again.
        self._prune(decision.want.name, max(1, self.settings.keep))

    def _roll_back(self, decision: _Decision, release: _Release, store: Store) -> None:
        name = decision.want.name
        self._verify_release(name, release)
        path = release.folder.path
        staged = self._stage(name, keep=os.lstat(path).st_ino)
        new = os.path.join(staged, "new")
        try:
            os.rename(path, new)
            self._freshen(new)
            old = self._swap(staged, decision.live)
        except BaseException:
            self._abandon(staged)
            raise
        self._retire_old(staged, old, name, store)

    def _verify_release(self, name: str, release: _Release) -> None:
        problems = []
        if release.folder.manifest is None:
            if digest_of(self._content_of(release.folder)) != release.digest:
                problems.append("it is not what it was")
        elif release.folder.digest != release.digest:
            problems.append(f"its manifest is that of {release.folder.digest}")
        else:
            drift = self._drift(release.folder.path, release.folder.manifest, full=True)
            problems = drift.reasons() if drift.content else []
        if problems:
            raise RepositoryError(
                f"Cannot roll back model {name!r} to {release.digest}: the release in {release.folder.path} is damaged",
                "; ".join(problems),
                "publish that content again, or choose another release",
            )

    def _freshen(self, folder: str) -> None:
        """Give everything a new time: an older tree would be taken for one that did not change."""
        for path, status in {**_tree.listing(folder), "": os.lstat(folder)}.items():
            full = os.path.join(folder, path)
            if stat.S_ISLNK(status.st_mode):
                continue
            if self.settings.uid is not None or self.settings.gid is not None:
                self._chown(full, status)
            _tree.freshen(full, status)
            if stat.S_ISREG(status.st_mode):
                self.cache.renew(full, status, os.lstat(full))

    def _repair_attributes(self, decision: _Decision, manifest: Manifest) -> None:
        live = decision.live.path
        _files, _folders, executables = _on_disk(manifest)
        for path in decision.drift.attributes:
            full = os.path.join(live, path)
            mode = _DIRECTORY_MODE if path.endswith("/") or path in executables else _FILE_MODE
            before = os.lstat(full)
            uid = -1 if self.settings.uid is None else self.settings.uid
            gid = -1 if self.settings.gid is None else self.settings.gid
            os.chown(full, uid, gid, follow_symlinks=False)
            os.chmod(full, mode)
            self.cache.renew(full, before, os.lstat(full))
        left = self._drift(live, manifest).attributes
        if left:
            raise RepositoryError(
                f"Cannot set owner and mode in model {manifest.name!r}: " + "; ".join(f"{path} {why}" for path, why in left.items()),
                "the file system keeps its own",
                "correct the options of the mount, or ask for no owner and group",
            )

    # Verification

    def _verify_one(self, outcome: Outcome, digest: str | None, everything: bool = False) -> None:
        _check_name(outcome.name)
        live = self._live(outcome.name)
        outcome.digest = outcome.previous_digest = live.digest
        if not live.exists:
            outcome.problem("missing", "it is not in the repository", "publish it")
            return
        if live.manifest is None:
            remedy = "publish it" + (", or move the folder out of the repository, as Triton takes it for a model" if everything else "")
            outcome.problem("foreign", live.why or "it was not published by this collection", remedy)
            return
        outcome.content(live.manifest.entries)
        if digest and digest != live.digest:
            outcome.problem("digest", f"its digest is {live.digest}, wanted {digest}", "publish the wanted content")
        drift = self._drift(live.path, live.manifest, full=True)
        remedy = "publish the model again"
        for path in drift.corrupt:
            outcome.problem("corrupt", f"{path} differs from what was published", remedy, path)
        for path in drift.missing:
            outcome.problem("missing", f"{path} was published, and is not there", remedy, path)
        for path in drift.extra:
            outcome.problem("extra", f"{path} was not published", remedy, path)
        for path, why in drift.attributes.items():
            outcome.problem("attributes", f"{path} {why}", remedy, path)

    def _strangers(self) -> list[Outcome]:
        """What lies among the models and is none."""
        found = []
        if not self.bare:
            for name in sorted(set(os.listdir(self.models)) - set(self._folders())):
                outcome = Outcome(name, action=VERIFIED)
                outcome.problem("foreign", "it is no folder", "move it out of the repository")
                found.append(outcome)
        return found

    # What is sent and fetched

    def _open_boxes(self, inbox: str, store: Store) -> list[str]:
        """Index what was sent. Returns folders to remove in the end."""
        try:
            names = sorted(os.listdir(inbox))
        except OSError as exc:
            raise os_error(f"Cannot read what was sent to {inbox}", exc) from exc
        made = []
        bundles = [name for name in names if f"{name}.json" in names]
        if bundles:
            box = os.path.join(self.staging, f"inbox-{secrets.token_hex(8)}")
            made.append(box)
            try:
                os.mkdir(box, 0o700)
                self._claim([box])
                for name in bundles:
                    self._unpack(os.path.join(inbox, name), box, store)
            except BaseException as exc:
                self._discard(box)
                if isinstance(exc, OSError):
                    raise os_error(f"Cannot unpack what was sent to {inbox}", exc) from exc
                raise
        store.add_inbox(inbox, movable=self._leftover(inbox) is not None)
        return made

    def _unpack(self, bundle: str, box: str, store: Store) -> None:
        """Small files come one after another in one, with a list of them beside it."""
        try:
            with open(f"{bundle}.json", "rb") as file:
                rows = [(str(sha256), int(size)) for sha256, size in json.loads(file.read().decode())]
        except ValueError as exc:
            raise RepositoryError(f"Cannot read the list of what was sent: {bundle}.json", str(exc), "run it again") from exc
        with open(bundle, "rb") as file:
            for sha256, size in rows:
                content = file.read(size)
                if len(content) != size or hashlib.sha256(content).hexdigest() != sha256:
                    raise RepositoryError(f"Cannot use what was sent in {bundle}: it arrived damaged", "", "run it again")
                path = os.path.join(box, sha256)
                if not os.path.lexists(path):
                    _tree.write(path, content, 0o600)
                    self.cache.remember(path, os.lstat(path), sha256)
                    store.add(sha256, Candidate(path, size, movable=True))

    def _open_fetched(self, wants: t.Iterable[Wanted], store: Store) -> None:
        for want in wants:
            if not want.folder:
                continue
            own = self._leftover(want.folder) is not None
            exclude = tuple((want.remote or {}).get("exclude") or EXCLUDE)
            # Configurations come as texts, and what else is wrong with the folder was told when it was fetched.
            store.add_entries(want.folder, scan(want.folder, self.cache, exclude, problems=[]), movable=own)

    def _fetch_one(self, row: t.Mapping[str, t.Any], folder: str, downloads: str) -> dict[str, t.Any]:
        if self.sources is None:
            raise RepositoryError(f"Cannot fetch model {row['name']!r}: nothing to fetch it with")
        _check_name(str(row["name"]))
        remote = dict(row.get("remote") or {})
        # Of what may change while it is copied, the state before: the next run then sees the change.
        plain = bool(remote.get("folder")) and not remote.get("files")
        identity = None if plain else self._host_identity(remote)
        content = self.sources.populate(remote, folder, downloads)
        refused: list[RepositoryError] = []
        # What was fetched a moment ago lies where nobody else writes.
        self.cache.trusts_young = self._leftover(content) is not None
        try:
            entries = scan(content, self.cache, tuple(remote.get("exclude") or EXCLUDE), problems=refused)
        finally:
            self.cache.trusts_young = False
        pointers = [problem.path for problem in refused if isinstance(problem, LfsPointerError)]
        others = [problem for problem in refused if not isinstance(problem, LfsPointerError)]
        if others:
            raise RepositoryError(others[0].what, others[0].why, "; ".join([others[0].remedy, *(str(other) for other in others[1:10])]))
        texts = {entry.path: config_text(os.path.join(content, entry.path), entry) for entry in entries if is_config_text(entry.path)}
        wanted = {str(path) for path in row.get("texts") or []}
        for entry in entries:
            if entry.path in wanted and entry.path not in texts and entry.size <= _LONGEST_TEXT:
                with contextlib.suppress(UnicodeDecodeError), open(os.path.join(content, entry.path), "rb") as file:
                    texts[entry.path] = file.read().decode()
        return {
            "name": row["name"],
            "folder": content,
            "files": rows_from(entries),
            "texts": texts,
            "lfs": pointers,
            "host_identity": digest_of(entries) if plain else identity,
        }

    # After an interruption

    def _claim(self, paths: t.Iterable[str]) -> None:
        for path in paths:
            with contextlib.suppress(OSError):
                _tree.write(os.path.join(path, _CLAIM), b"", 0o600)

    def _claimed(self) -> list[str]:
        """What this publication was sent or fetched, and what a dead one was. Ask only with the lock held."""
        names = [name for name in os.listdir(self.staging) if name.startswith(("inbox-", "fetch-"))]
        paths = [os.path.join(self.staging, name) for name in names]
        return [path for path in paths if os.path.lexists(os.path.join(path, _CLAIM))]

    def _recover_if_needed(self, left_behind: bool = False) -> None:
        """Where an interrupted run left something and nobody works, clean up: there may be nothing else to do that would.

        :param left_behind: whether that goes for what was sent as well, as it is of no use any more.
        """
        if self.check_mode:
            return
        with contextlib.suppress(OSError, RepositoryError):
            needed = any(name.startswith(("pub-", "trash-")) for name in os.listdir(self.staging)) or any(self._expired())
            if needed or (left_behind and self._claimed()):
                with _tree.Lock(os.path.join(self.private, "lock"), "clean up", timeout=0):
                    self._recover()
                    for path in self._claimed() if left_behind else ():
                        self._discard(path)

    def _recover(self) -> None:
        """Finish or undo what an earlier run left half-way, and remove what it no longer needs."""
        try:
            names = sorted(os.listdir(self.staging))
            for name in names:
                path = os.path.join(self.staging, name)
                if name.startswith("pub-"):
                    self._recover_one(path)
                elif name.startswith("trash-"):
                    self._discard(path)
            for path in list(self._expired()):
                self._discard(path)
            for name in os.listdir(self.private):
                # Beside a file that is replaced; it cannot be in use while the lock is held, but by a plan that then saves nothing.
                if re.match(r"(?:hashes|identities)\.json\.[0-9a-f]{8}\Z", name):
                    _tree.remove(os.path.join(self.private, name))
        except OSError as exc:
            raise os_error(f"Cannot clean up {self.staging}", exc) from exc

    def _abandon(self, staged: str) -> None:
        """Undo what failed, as far as that goes now. What is left the next run cleans up."""
        with contextlib.suppress(OSError, RepositoryError):
            self._recover_one(staged)

    def _expired(self) -> t.Iterator[str]:
        """What an interrupted upload or download left, and no later run took up."""
        names = [name for name in os.listdir(self.staging) if name.startswith(("inbox-", "fetch-"))]
        with contextlib.suppress(FileNotFoundError):
            names += [os.path.join("downloads", name) for name in os.listdir(os.path.join(self.staging, "downloads"))]
        for path in (os.path.join(self.staging, name) for name in names):
            with contextlib.suppress(FileNotFoundError):
                if time.time() - os.lstat(path).st_mtime > _KEPT_LEFTOVERS:
                    yield path

    def _recover_one(self, staged: str) -> None:
        new, old = os.path.join(staged, "new"), os.path.join(staged, "old")
        marker = self._marker_of(staged)
        if marker is None:
            # It ended before there was anything to swap.
            self._trash(staged)
            return
        name, inode, keep, releases = marker
        live = os.path.join(self.models, name)
        waits = _inode(new) == inode
        if _inode(old) is not None and _inode(live) is None:
            # Between the two renames. The new content was whole before the first of them.
            os.rename(new if waits else old, live)
            waits = False
        if waits and keep:
            folder = read_folder(new)
            self._to_releases(new, name, folder.digest or digest_of(self._content_of(folder)))
        elif _inode(new) is not None and not waits:
            old = new
        if _inode(old) is not None:
            self._retire(read_folder(old), name)
        if not waits:
            self._finish_swap(name, releases)
        self._trash(staged)

    def _marker_of(self, staged: str) -> tuple[str, int, bool, int] | None:
        """What a folder in staging was made for. None if that was not said yet: nothing was swapped then."""
        path = os.path.join(staged, _MARKER)
        try:
            with open(path, "rb") as file:
                marker = json.loads(file.read().decode())
            return str(marker["model"]), int(marker["inode"]), bool(marker["keep"]), int(marker["releases"])
        except FileNotFoundError:
            if all(_inode(os.path.join(staged, name)) is None for name in ("old", os.path.join("new", MANIFEST))):
                return None
            why = "it is not there"
        except (ValueError, KeyError, TypeError) as exc:
            why = f"it is not one of this version: {exc}"
        # What lies beside it may be the only copy of a model.
        raise RepositoryError(
            f"Cannot clean up {staged}, which an interrupted run left: cannot read {path}",
            why,
            "look what is in it, move away what you need, and remove it",
        )

    def _finish_swap(self, name: str, releases: int) -> None:
        """A swap that ended before the last step of it: give the configuration its new time once more."""
        with contextlib.suppress(RepositoryError):
            if self._live(name).exists:
                self._touch_config(os.path.join(self.models, name))
                self._prune(name, releases)


_VERBS = {PRESENT: "publish", ABSENT: "remove", VERIFIED: "verify", ROLLED_BACK: "roll back"}


@contextlib.contextmanager
def _explained(outcome: Outcome, verb: str) -> t.Iterator[None]:
    """What stops the work on one model is kept with it."""
    try:
        yield
    except RepositoryError as exc:
        outcome.error = exc
    except OSError as exc:
        outcome.error = os_error(f"Cannot {verb} model {outcome.name!r}", exc)
    if outcome.error:
        outcome.action = NONE
        outcome.problem(outcome.error.what, outcome.error.why, outcome.error.remedy)


def _inode(path: str) -> int | None:
    """None if there is nothing. What cannot be told is an error, as it may well be there."""
    try:
        return os.lstat(path).st_ino
    except FileNotFoundError:
        return None


def _check_name(name: str) -> None:
    # A lone version, as the name is all that matters here.
    for problem in check_layout(name, ["1/"]):
        raise RepositoryError(**problem)


def _on_disk(manifest: Manifest) -> tuple[dict[str, tuple[int, str]], set[str], set[str]]:
    """The files of a published folder with size and checksum, its folders, and which files are executable."""
    folders = {f"{folder}/" for entry in manifest.entries for folder in _parents(entry.path)}
    executables = {entry.path for entry in manifest.entries if entry.executable}
    return manifest.on_disk, folders, executables


def _parents(path: str) -> t.Iterator[str]:
    """The folders that a file, or an empty folder, needs."""
    if path.endswith("/"):
        yield path[:-1]
    folder = os.path.dirname(path.rstrip("/"))
    while folder:
        yield folder
        folder = os.path.dirname(folder)


def _why_published(live: Folder) -> str:
    if live.manifest:
        return "its content changed"
    if live.exists:
        return f"what is there was not published by this collection ({live.why}); it is kept as a release"
    return "it is not in the repository"


def _compare(before: t.Iterable[FileEntry], after: t.Iterable[FileEntry], outcome: Outcome) -> None:
    old, new = ({entry.path: entry for entry in entries} for entries in (before, after))
    outcome.changes = {
        "added": sorted(set(new) - set(old)),
        "changed": sorted(path for path in set(new) & set(old) if new[path] != old[path]),
        "removed": sorted(set(old) - set(new)),
    }


def _bytes(entries: t.Iterable[FileEntry]) -> int:
    return sum(entry.size for entry in entries)


def _free(path: str) -> int:
    status = os.statvfs(path)
    return status.f_bavail * status.f_frsize


def _check_room(name: str, needed: int, free: int, staged: int = 0) -> None:
    """Refuse to begin with what would fill the disk.

    :param staged: how much of what is needed is there already, and so is part of the second copy.
    """
    if free + staged < 2 * needed:
        raise RepositoryError(
            f"Cannot publish model {name!r}: there is no room",
            f"{_human(free)} are free, and twice the {_human(needed)} that it needs must be, "
            "as the old content stays until the new one is in its place",
            "free some room, keep fewer releases, or enlarge the file system",
        )


def _human(size: float) -> str:
    for unit in ("B", "KiB", "MiB", "GiB"):
        if size < 1024:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1024
    return f"{size:.1f} TiB"
