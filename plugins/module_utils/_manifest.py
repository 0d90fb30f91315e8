# Copyright (c) 2026, The gpufleet.triton authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This file is private to the gpufleet.triton collection: it may change at any time.

"""What a model consists of: its files, their digest, and the manifest that a published model carries.

Used by the controller and by the host, so that both get the same digest from the same content.
"""

from __future__ import annotations

import contextlib
import errno
import fnmatch
import hashlib
import json
import os
import re
import secrets
import stat
import time
import typing as t
from dataclasses import dataclass, field

from ansible_collections.gpufleet.triton.plugins.module_utils._client import NameRefusedError, check_name
from ansible_collections.gpufleet.triton.plugins.module_utils._problem import ProblemError

MANIFEST = ".gpufleet.json"
PARAMETER = "gpufleet.digest"
CONFIG = "config.pbtxt"
FORMAT = 1
#: What is no part of a model, wherever it lies in its folder.
EXCLUDE = (".git", ".gitignore", ".gitattributes", ".github", "__pycache__", ".DS_Store", ".ipynb_checkpoints", "*.pyc")

#: How many files and folders a model may have. Links to folders that hold such links make any number of a few.
MAX_ENTRIES = 100_000
_MAX_DEPTH = 100
_MAX_PATH = 4000

_DIGEST = re.compile(r"sha256:[0-9a-f]{64}\Z")
_SHA256 = re.compile(r"[0-9a-f]{64}\Z")
_BLOCK = re.compile(rb'\nparameters \{ key: "gpufleet\.digest" value \{ string_value: "sha256:[0-9a-f]{64}" \} \}\n\Z')
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
# Folders beside the versions that Triton itself uses.
_OTHER_FOLDERS = frozenset({"warmup", "initial_state", "configs"})
_VERSION = re.compile(r"[1-9][0-9]{0,17}\Z")
# std::stoll stops at the first character that is no digit, and takes what it has.
_STOLL = re.compile(r"[ \t\n\v\f\r]*(?P<number>[+-]?[0-9]+)")
_FIELD = r'^[ \t]*%s[ \t]*:[ \t]*(?P<quote>["\'])(?P<value>[^"\'\n]*)(?P=quote)'

_LFS = b"version https://git-lfs.github.com/spec/"
_LFS_LIMIT = 1024
_CHUNK = 1 << 20
# A change within one tick of the file system's clock leaves the same time; some servers tick in seconds.
_RACY = 2.0
_CACHE_ENTRIES = 50_000


class RepositoryError(ProblemError):
    """Something about a model or a repository that stops the work."""


class LfsPointerError(RepositoryError):
    """A file is what Git LFS puts in its place."""

    def __init__(self, path: str, full: str) -> None:
        super().__init__(
            f"Cannot publish {full}: it is a Git LFS pointer and not the file itself",
            "Git LFS did not fetch its content",
            "run 'git lfs pull' where the folder was cloned",
        )
        self.path = path


@dataclass(frozen=True, order=True)
class FileEntry:
    """One file of a model, or one empty folder: then the path ends with a slash."""

    path: str
    size: int
    sha256: str
    executable: bool = False

    @property
    def is_folder(self) -> bool:
        return self.path.endswith("/")


Row = list[t.Any]


def entries_from(rows: t.Iterable[t.Sequence[t.Any]]) -> list[FileEntry]:
    """The entries of rows that came from a file or over the wire, checked so that no path leads out of the model."""
    entries = []
    for row in rows:
        try:
            path, size, sha256 = row[0], row[1], row[2]
            entry = FileEntry(str(path), int(size), str(sha256), bool(row[3]) if len(row) > 3 else False)
        except (TypeError, ValueError, IndexError, KeyError) as exc:
            raise RepositoryError(f"Cannot read the list of files: the row {row!r} is not a path, a size and a checksum") from exc
        why = path_problem(entry.path)
        if not why and not (entry.is_folder or _SHA256.match(entry.sha256)):
            why = "it has no sha256 checksum"
        if not why and entry.size < 0:
            why = "its size is negative"
        if why:
            raise RepositoryError(f"Cannot use the file {entry.path!r} in a model", why, "correct the list of files")
        entries.append(entry)
    entries.sort()
    _check_paths([entry.path for entry in entries])
    return entries


def rows_from(entries: t.Iterable[FileEntry]) -> list[Row]:
    return [[entry.path, entry.size, entry.sha256, entry.executable] for entry in entries]


def path_problem(path: str) -> str:
    """Why a path cannot be one of a model's content; empty if it can."""
    if not path or path == "/":
        return "it is empty"
    if path.startswith("/"):
        return "it is absolute"
    if _CONTROL.search(path):
        return "it has control characters"
    if not is_text(path):
        return "its name is not valid UTF-8"
    parts = path[:-1].split("/") if path.endswith("/") else path.split("/")
    if any(part in ("", ".", "..") for part in parts):
        return "a part of it is empty, '.' or '..'"
    if any(len(part.encode()) > 255 for part in parts):
        return "a part of it is longer than a file name can be"
    if path.rstrip("/") == MANIFEST:
        return "the name is the manifest's"
    return ""


def is_text(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def _check_paths(paths: t.Sequence[str]) -> None:
    """A path is listed once, and what is a file is no folder of another."""
    seen = set()
    for path in paths:
        plain = path.rstrip("/")
        if plain in seen:
            raise RepositoryError(f"Cannot use the list of files: {plain!r} is in it twice", "", "list each path once")
        seen.add(plain)
    for path in paths:
        parent = os.path.dirname(path.rstrip("/"))
        while parent:
            if parent in seen:
                raise RepositoryError(
                    f"Cannot use the list of files: {parent!r} is listed, and so is {path!r} in it",
                    "a file or an empty folder has nothing in it",
                    "rename one of them",
                )
            parent = os.path.dirname(parent)


def digest_of(entries: t.Iterable[FileEntry]) -> str:
    total = hashlib.sha256()
    for entry in sorted(entries):
        mark = "\0x" if entry.executable else ""
        total.update(f"{entry.path}\0{entry.size}\0{entry.sha256}{mark}\n".encode())
    return f"sha256:{total.hexdigest()}"


def is_digest(text: t.Any) -> bool:
    return isinstance(text, str) and bool(_DIGEST.match(text))


def is_excluded(path: str, exclude: t.Iterable[str]) -> bool:
    """Whether a pattern names a file or a folder, by its own name, or by its path if the pattern has a slash."""
    plain = path.rstrip("/")
    return any(fnmatch.fnmatchcase(plain if "/" in pattern else plain.rpartition("/")[2], pattern) for pattern in exclude)


def is_config_text(path: str) -> bool:
    """Whether a published copy of this file carries the digest."""
    folder, name = os.path.split(path)
    return path == CONFIG or (folder == "configs" and name.endswith(".pbtxt") and name != ".pbtxt")


def digest_block(digest: str) -> bytes:
    if not is_digest(digest):
        raise ValueError(f"{digest!r} is no digest")
    return f'\nparameters {{ key: "{PARAMETER}" value {{ string_value: "{digest}" }} }}\n'.encode()


def with_digest(text: bytes, digest: str) -> bytes:
    return text + digest_block(digest)


def without_digest(text: bytes) -> bytes:
    return _BLOCK.sub(b"", text)


def versions_of(paths: t.Iterable[str]) -> list[int]:
    """The versions among the top folders of a model."""
    return sorted({int(folder) for folder in _folders(paths) if _VERSION.match(folder)})


def _folders(paths: t.Iterable[str]) -> list[str]:
    return sorted({path.split("/", 1)[0] for path in paths if "/" in path})


def field_of(config_text: str, name: str) -> str:
    """A text field at the top of a configuration, as far as that can be told without its schema. Empty if it is not set."""
    outside = re.sub(r"#[^\n]*", "", config_text)
    found = ""
    depth = 0
    for line in outside.split("\n"):
        if depth == 0:
            match = re.match(_FIELD % re.escape(name), line)
            found = match["value"] if match else found
        bare = re.sub(r'"(?:\\.|[^"\\])*"|\'(?:\\.|[^\'\\])*\'', "", line)
        depth += sum(bare.count(brace) for brace in "{[<") - sum(bare.count(brace) for brace in "}]>")
    return found


@dataclass(frozen=True)
class Manifest:
    """What a published model says of itself."""

    name: str
    digest: str
    entries: tuple[FileEntry, ...]
    source: t.Mapping[str, t.Any] = field(default_factory=dict)
    identity: str | None = None
    published: str = ""
    #: Size and checksum of the published configurations, which have the digest at their end.
    texts: t.Mapping[str, tuple[int, str]] = field(default_factory=dict)
    #: The models that it runs, if it is an ensemble.
    steps: tuple[str, ...] = ()

    @property
    def on_disk(self) -> dict[str, tuple[int, str]]:
        """The files of the published folder, without the manifest itself."""
        files = {entry.path: (entry.size, entry.sha256) for entry in self.entries if not entry.is_folder}
        return {**files, **self.texts}

    @property
    def versions(self) -> list[int]:
        return versions_of(entry.path for entry in self.entries)

    @property
    def size(self) -> int:
        return sum(entry.size for entry in self.entries)

    def to_bytes(self) -> bytes:
        value = {
            "format": FORMAT,
            "name": self.name,
            "digest": self.digest,
            "files": rows_from(self.entries),
            "source": dict(self.source),
            "identity": self.identity,
            "published": self.published,
            "texts": {path: list(text) for path, text in self.texts.items()},
            "versions": self.versions,
            "steps": list(self.steps),
        }
        return (json.dumps(value, indent=1, sort_keys=True) + "\n").encode()

    @classmethod
    def from_bytes(cls, text: bytes) -> Manifest:
        """Read a manifest; a ValueError says why it is none."""
        try:
            value = json.loads(text.decode())
            if value["format"] != FORMAT:
                raise ValueError(f"its format is {value['format']!r}, wanted {FORMAT}")
            entries = tuple(entries_from(value["files"]))
            name, digest, identity = value["name"], value["digest"], value.get("identity")
            source, published = value.get("source"), value.get("published")
            steps = tuple(str(step) for step in value.get("steps") or ())
            texts = {str(path): (int(size), str(sha256)) for path, (size, sha256) in value["texts"].items() if not path_problem(path)}
        except (KeyError, TypeError, AttributeError) as exc:
            raise ValueError(f"it lacks something: {exc}") from exc
        except RepositoryError as exc:
            raise ValueError(str(exc)) from exc
        if not is_digest(digest) or digest != digest_of(entries):
            raise ValueError("its digest is not that of its list of files")
        return cls(
            str(name),
            digest,
            entries,
            source if isinstance(source, dict) else {},
            identity if isinstance(identity, str) else None,
            str(published or ""),
            texts,
            steps,
        )


def now() -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())


@dataclass
class _Known:
    sha256: str
    size: int
    pointer: bool
    used: int


def read(path: str) -> tuple[str, int, bytes]:
    """The checksum and the size of a file as it is on disk now, and its first bytes."""
    total = hashlib.sha256()
    head = b""
    size = 0
    buffer = bytearray(_CHUNK)
    view = memoryview(buffer)
    with open(path, "rb", buffering=0) as file:
        while True:
            count = file.readinto(buffer)
            if not count:
                break
            if not size:
                head = bytes(view[: min(count, len(_LFS))])
            size += count
            total.update(view[:count])
    return total.hexdigest(), size, head


class HashCache:
    """Remembers what was read: (name, inode, size, mtime, ctime) -> sha256.

    The ctime cannot be set, so that an unpacked file with a fixed time in the inode of an earlier one is not taken for it.
    The folder is not part of the key: a tree that is moved within its file system stays known.
    """

    def __init__(self, path: str | None) -> None:
        self.path = path
        self.read_files = 0
        self.read_bytes = 0
        #: Whether what was changed a moment ago may be remembered: nobody else writes there.
        self.trusts_young = False
        self._known: dict[str, _Known] = {}
        self._changed = False
        self._load()

    def sha256(self, path: str, status: os.stat_result) -> str:
        """The checksum of a file, read only when its status is new."""
        return self._look(path, status, False).sha256

    def text(self, path: str, status: os.stat_result) -> tuple[str, int]:
        """The checksum and the size of a configuration's text without the digest that publishing adds."""
        known = self._look(path, status, True)
        return known.sha256, known.size

    def is_pointer(self, path: str, status: os.stat_result) -> bool:
        """Whether a file is what Git LFS puts in place of a large one."""
        return status.st_size <= _LFS_LIMIT and self._look(path, status, False).pointer

    def knows(self, path: str, status: os.stat_result) -> str | None:
        """The checksum of a file, if that is known without reading it."""
        known = self._known.get(_key(path, status, False))
        return known.sha256 if known else None

    def knows_text(self, path: str, status: os.stat_result) -> str | None:
        known = self._known.get(_key(path, status, True))
        return known.sha256 if known else None

    def remember(self, path: str, status: os.stat_result, sha256: str) -> None:
        """Take note of a file that the caller wrote itself."""
        self._put(_key(path, status, False), _Known(sha256, status.st_size, False, _today()))

    def remember_text(self, path: str, status: os.stat_result, sha256: str, size: int) -> None:
        self._put(_key(path, status, True), _Known(sha256, size, False, _today()))

    def renew(self, path: str, before: os.stat_result, after: os.stat_result) -> None:
        """Take note that only the status of a file changed, by the caller's own doing."""
        for is_text_of_config in (False, True):
            known = self._known.pop(_key(path, before, is_text_of_config), None)
            if known:
                self._put(_key(path, after, is_text_of_config), known)

    def save(self) -> None:
        """Write what is new. A cache that cannot be written is no reason to fail: it only costs time."""
        if self.path is None or not self._changed:
            return
        # Another run may have learnt something meanwhile.
        known = {**HashCache(self.path)._known, **self._known}
        newest = sorted(known.items(), key=lambda item: item[1].used, reverse=True)[:_CACHE_ENTRIES]
        value = {key: [known.sha256, known.size, int(known.pointer), known.used] for key, known in newest}
        beside = f"{self.path}.{secrets.token_hex(4)}"
        try:
            handle = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(handle, "wb") as file:
                file.write(json.dumps({"format": FORMAT, "files": value}).encode())
            os.replace(beside, self.path)
            self._changed = False
        except OSError:
            with contextlib.suppress(OSError):
                os.unlink(beside)

    def _look(self, path: str, status: os.stat_result, as_text: bool) -> _Known:
        key = _key(path, status, as_text)
        known = self._known.get(key)
        if known is None:
            started = time.time()
            known = self._read_text(path) if as_text else self._read(path)
            after = os.stat(path)
            if (after.st_size, after.st_mtime_ns) != (status.st_size, status.st_mtime_ns):
                raise RepositoryError(f"Cannot use {path}: it changed while it was read", "", "run it again when nothing writes to it")
            # The change of a file always moves its ctime, so a status that is old and the same was not changed meanwhile.
            if _key(path, after, as_text) == key and (self.trusts_young or started - status.st_ctime >= _RACY):
                self._put(key, known)
        elif known.used != _today():
            known.used = _today()
            self._changed = True
        return known

    def _read(self, path: str) -> _Known:
        sha256, size, head = read(path)
        self.read_files += 1
        self.read_bytes += size
        return _Known(sha256, size, size <= _LFS_LIMIT and is_lfs_pointer(head), _today())

    def _read_text(self, path: str) -> _Known:
        with open(path, "rb") as file:
            raw = file.read()
        self.read_files += 1
        self.read_bytes += len(raw)
        text = without_digest(raw)
        if PARAMETER.encode() in text:
            raise RepositoryError(
                f"Cannot use {path}: it sets the parameter {PARAMETER} itself",
                "publishing adds that parameter, and what is served is told by it",
                "take it out of the file",
            )
        return _Known(hashlib.sha256(text).hexdigest(), len(text), is_lfs_pointer(text), _today())

    def _put(self, key: str, known: _Known) -> None:
        if self._known.get(key) != known:
            self._known[key] = known
            self._changed = True

    def _load(self) -> None:
        if self.path is None:
            return
        try:
            with open(self.path, "rb") as file:
                value = json.loads(file.read().decode())
            rows = value["files"].items() if value["format"] == FORMAT else ()
            for key, (sha256, size, pointer, used) in rows:
                if _SHA256.match(sha256):
                    self._known[key] = _Known(sha256, int(size), bool(pointer), int(used))
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            # A cache that is not there, or was cut off, is an empty one.
            self._known = {}


def _key(path: str, status: os.stat_result, as_text: bool) -> str:
    kind = "t" if as_text else "f"
    name = os.path.basename(path).encode("utf-8", "surrogateescape").hex()
    return f"{kind}:{status.st_ino}:{status.st_size}:{status.st_mtime_ns}:{status.st_ctime_ns}:{name}"


def _today() -> int:
    return int(time.time()) // 86400


def is_lfs_pointer(first_bytes: bytes) -> bool:
    return first_bytes.startswith(_LFS)


@dataclass
class _Found:
    """A file or an empty folder that a walk came by."""

    path: str
    full: str
    status: os.stat_result


def walk(folder: str, exclude: t.Sequence[str] = EXCLUDE) -> tuple[list[_Found], list[RepositoryError]]:
    """Every file and empty folder of a tree with its status, and what cannot be part of a model."""
    walker = _Walker(folder, exclude)
    try:
        walker.enter("", folder, ())
    except OSError as exc:
        raise os_error(f"Cannot read the folder {folder}", exc) from exc
    return walker.found, walker.problems


class _Walker:
    def __init__(self, folder: str, exclude: t.Sequence[str]) -> None:
        self.folder = folder
        self.real = os.path.realpath(folder)
        self.exclude = exclude
        self.found: list[_Found] = []
        self.problems: list[RepositoryError] = []
        self.aims: dict[str, str] = {}
        self.entries = 0

    def enter(self, prefix: str, folder: str, above: tuple[tuple[int, int], ...]) -> None:
        """Look through a folder, of which C(prefix) is the path in the model and C(folder) where it really is."""
        status = os.stat(folder)
        here = (status.st_dev, status.st_ino)
        if here in above:
            self._refuse(prefix.rstrip("/"), "it is a symbolic link to a folder that it lies in", "remove the link")
            return
        if len(above) > _MAX_DEPTH or len(prefix) > _MAX_PATH:
            self._give_up(f"more than {_MAX_DEPTH} folders, or paths of {_MAX_PATH} letters, lie in it when links are followed")
        before = len(self.found) + len(self.problems)
        with os.scandir(folder) as items:
            names = sorted(items, key=lambda item: item.name)
        for item in names:
            path = prefix + item.name
            if path == MANIFEST or is_excluded(path, self.exclude):
                continue
            self.entries += 1
            if self.entries > MAX_ENTRIES:
                self._give_up(f"it has more than {MAX_ENTRIES} files and folders, those behind a link counted for each link")
            why = path_problem(path)
            if why:
                self._refuse(path, why, "rename it, or name it in exclude")
                continue
            self._add(path, item, (*above, here))
        if prefix and len(self.found) + len(self.problems) == before:
            self.found.append(_Found(prefix, folder, status))

    def _add(self, path: str, item: os.DirEntry[str], above: tuple[tuple[int, int], ...]) -> None:
        try:
            real = self._aim(path, item.path) if item.is_symlink() else item.path
            if not real:
                return
            status = item.stat()
            if stat.S_ISDIR(status.st_mode):
                self.enter(path + "/", real, above)
            elif stat.S_ISREG(status.st_mode):
                self.found.append(_Found(path, item.path, status))
            else:
                self._refuse(path, f"it is {_kind(status.st_mode)}, wanted a file or a folder", "remove it, or name it in exclude")
        except OSError as exc:
            self.problems.append(os_error(f"Cannot read {item.path}", exc))

    def _aim(self, path: str, full: str) -> str:
        """Where a link leads to; empty if that is no part of the model.

        Everything is looked at where it really is, and each link once: links that multiply others cost no more than what they make.
        """
        if full in self.aims:
            return self.aims[full]
        real = os.path.realpath(full)
        target = os.readlink(full)
        remedy = "put the file itself in its place, or name it in exclude"
        if not os.path.exists(full):
            self._refuse(path, f"it is a symbolic link to {target}, which does not exist", remedy)
        elif real != self.real and not real.startswith(self.real.rstrip("/") + "/"):
            self._refuse(path, f"it is a symbolic link to {target}, which lies outside the model's folder {self.folder}", remedy)
        else:
            self.aims[full] = real
            return real
        return ""

    def _refuse(self, path: str, why: str, remedy: str) -> None:
        self.problems.append(RepositoryError(f"Cannot publish {_show(os.path.join(self.folder, path))}", why, remedy))

    def _give_up(self, why: str) -> t.NoReturn:
        remedy = "name in exclude what is no part of the model, put files in place of links, or pack many small files as one"
        raise RepositoryError(f"Cannot use the folder {_show(self.folder)}", why, remedy)


def _show(path: str) -> str:
    return path if is_text(path) and not _CONTROL.search(path) else ascii(path)


def _kind(mode: int) -> str:
    kinds = {stat.S_IFIFO: "a pipe", stat.S_IFSOCK: "a socket", stat.S_IFCHR: "a device", stat.S_IFBLK: "a device"}
    return kinds.get(stat.S_IFMT(mode), "a special file")


def scan(
    folder: str,
    cache: HashCache,
    exclude: t.Sequence[str] = EXCLUDE,
    problems: list[RepositoryError] | None = None,
) -> list[FileEntry]:
    """The content of a folder. What cannot be published is raised, or all of it is collected in C(problems)."""
    found, refused = walk(folder, exclude)
    entries = []
    for item in found:
        if stat.S_ISDIR(item.status.st_mode):
            entries.append(FileEntry(item.path, 0, ""))
            continue
        try:
            entry = _entry_of(item, cache)
        except RepositoryError as exc:
            refused.append(exc)
            continue
        except OSError as exc:
            refused.append(os_error(f"Cannot read {item.full}", exc))
            continue
        # A configuration that holds nothing, or nothing but the digest, is what publishing makes of none.
        if entry.path != CONFIG or entry.size:
            entries.append(entry)
    if problems is not None:
        problems.extend(refused)
    elif refused:
        raise refused[0]
    return sorted(entries)


def _entry_of(item: _Found, cache: HashCache) -> FileEntry:
    executable = bool(item.status.st_mode & stat.S_IXUSR)
    if is_config_text(item.path):
        sha256, size = cache.text(item.full, item.status)
        return FileEntry(item.path, size, sha256, executable)
    if cache.is_pointer(item.full, item.status):
        raise LfsPointerError(item.path, item.full)
    return FileEntry(item.path, item.status.st_size, cache.sha256(item.full, item.status), executable)


def check_layout(name: str, paths: t.Iterable[str], backend: str = "", filename: str = "") -> list[dict[str, str]]:
    """What in a model's name and paths Triton would refuse or misread, as far as that is known without its schema."""
    problems: list[dict[str, str]] = []
    paths = list(paths)

    def add(what: str, why: str, remedy: str) -> None:
        problems.append({"what": what, "why": why, "remedy": remedy})

    try:
        check_name(name)
    except NameRefusedError as exc:
        problems.append(exc.as_problem())
    if isinstance(name, str) and not is_text(name):
        add(f"Cannot use {name!a} as the name of a model", "it is not valid UTF-8", "rename the model")
    for path in paths:
        why = path_problem(path)
        if why:
            add(f"Cannot publish the file {path!a} of model {name!r}", why, "rename it")
    if CONFIG + "/" in paths or any(path.startswith(CONFIG + "/") for path in paths):
        add(f"Cannot publish model {name!r}: its {CONFIG} is a folder", "Triton reads it as a file", "rename the folder")
    folders = _folders(paths)
    for folder in folders:
        problem = _misread(folder)
        if problem:
            add(f"Cannot publish model {name!r} with the folder {folder!r}", *problem)
    versions = [folder for folder in folders if _VERSION.match(folder) or folder == "0"]
    if not versions:
        add(
            f"Cannot publish model {name!r}: it has no version",
            "Triton serves numbered folders within the model's, even for an ensemble, whose may be empty",
            "add a folder 1",
        )
    wanted = filename or "model.py"
    lacking = [folder for folder in versions if f"{folder}/{wanted}" not in paths] if backend == "python" else []
    for folder in lacking:
        add(
            f"Cannot publish model {name!r}: its version {folder} has no {wanted}",
            "a python model without it stays in LOADING for ever, and unloading does not help",
            f"add {folder}/{wanted}, or take the folder out",
        )
    return problems


def _misread(folder: str) -> tuple[str, str] | None:
    if folder in _OTHER_FOLDERS or folder == "0" or _VERSION.match(folder):
        return None
    match = _STOLL.match(folder)
    if not match:
        return None
    if re.fullmatch(r"0[0-9]+", folder):
        return "Triton does not see a version that begins with 0", "write it without zeros"
    return (
        f"Triton takes it for version {int(match['number'][:19])}, as it reads the digits in front and ignores what follows",
        "move it out of the model's folder",
    )


_REMEDIES = {
    errno.ENOSPC: "free some room on that file system",
    errno.EDQUOT: "free some room, or raise the quota",
    errno.EROFS: "the file system is read-only: look at the kernel log for the cause, and mount it read-write",
    errno.EACCES: "run it as root; where an NFS server squashes root, give the owner that it assigns",
    errno.EPERM: "run it as root; where an NFS server squashes root, give the owner that it assigns",
    errno.ESTALE: "the mount is stale: unmount it and mount it again",
    errno.ENOTCONN: "the mount is gone: unmount it and mount it again",
    errno.EHOSTDOWN: "the file server does not answer: look at it, then run this again",
    errno.ETIMEDOUT: "the file server does not answer: look at it, then run this again",
    errno.EIO: "the disk or the file server fails: look at the kernel log",
    errno.ENOENT: "look whether something else removed it, or unmounted the file system",
    errno.EMFILE: "raise the limit of open files",
    errno.ENAMETOOLONG: "use a shorter name",
}


def os_error(what: str, exc: OSError) -> RepositoryError:
    """An error of the operating system with its remedy. This is the one place for that."""
    code = errno.errorcode.get(exc.errno or 0, "")
    reason = exc.strerror or str(exc) or type(exc).__name__
    named = f" ({_show(str(exc.filename))})" if exc.filename and str(exc.filename) not in what else ""
    return RepositoryError(what, f"{reason}{f' [{code}]' if code else ''}{named}", _REMEDIES.get(exc.errno or 0, "look at the kernel log"))
