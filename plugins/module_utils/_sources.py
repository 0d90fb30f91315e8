# Copyright (c) 2026, The gpufleet.triton authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This file is private to the gpufleet.triton collection: it may change at any time.

"""Where the content of a model comes from: an archive, a folder of this machine, an rclone remote, single files by URL."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import re
import shutil
import stat
import typing as t

from ansible_collections.gpufleet.triton.plugins.module_utils import _tree
from ansible_collections.gpufleet.triton.plugins.module_utils._archive import Run, unpack
from ansible_collections.gpufleet.triton.plugins.module_utils._fetch import checksum, download
from ansible_collections.gpufleet.triton.plugins.module_utils._http import shown_url
from ansible_collections.gpufleet.triton.plugins.module_utils._manifest import (
    EXCLUDE,
    MANIFEST,
    MAX_ENTRIES,
    RepositoryError,
    os_error,
    path_problem,
    walk,
)

#: What comes, bytes so far, and bytes in all if that is known.
Progress = t.Callable[[str, int, "int | None"], None]
Remote = t.Mapping[str, t.Any]

DEFAULT_MAX_UNPACKED = 200 * 10**9
_DEFAULT_TIMEOUT = 30.0
_LIST_TIMEOUT = 600.0
_COPY_TIMEOUT = 24 * 3600.0
# A remote that is in the configuration, or a kind of storage without any setting. Settings in the name of a remote, such
# as ":s3,secret_access_key=...:bucket", would be seen in the list of processes.
_REMOTE = re.compile(r":?[A-Za-z0-9_][A-Za-z0-9_.+@ -]*:[^\x00-\x1f\x7f]*\Z")
_SECRET_KEY = re.compile(r"secret|key|pass|token|account|sas|client|user|credential|auth|url|header", re.IGNORECASE)


class SourceError(RepositoryError):
    """A source that gives no content, or not the one that is wanted."""


def populate(
    remote: Remote,
    folder: str,
    downloads: str,
    run: Run,
    progress: Progress | None = None,
    keep: bool = False,
) -> str:
    """Bring the content of a model to C(folder), and return the folder where it is.

    That is another one only for a folder of this machine to which nothing is added: it is used where it is. Everything is
    fetched before anything is put together, so that what fails for the network's sake fails early. C(downloads) is where
    whole and broken downloads stay until they are used, or for the next run with C(keep).
    """
    bases = [kind for kind in ("archive", "folder", "rclone") if remote.get(kind)]
    files = _checked_files(remote.get("files") or {})
    if len(bases) > 1:
        raise SourceError(f"Cannot use {' and '.join(bases)} together as the source of one model", "", "name one of them")
    if not bases and not files:
        raise SourceError("Cannot fetch a model without a source", "", "name an archive, a folder, an rclone remote or files")
    archive = remote["archive"] if bases == ["archive"] else None
    fetched = {wanted: _fetch(item, f"files/{path}", remote, downloads, progress) for path, (item, wanted) in files.items()}
    packed = _fetch(archive, "archive", remote, downloads, progress) if archive else ""
    if archive:
        unpack(packed, folder, int(remote.get("max_unpacked") or DEFAULT_MAX_UNPACKED), run, name=shown_url(archive["url"]))
        if not keep:
            _remove(packed)
    elif bases == ["folder"]:
        source = _checked_folder(remote["folder"])
        if not files:
            return source
        _copy_tree(source, folder, remote.get("exclude"))
    elif bases == ["rclone"]:
        _copy_remote(remote["rclone"], remote, folder, downloads, run)
    else:
        _make(folder)
    _place_all(files, fetched, folder, keep)
    return folder


# Files by URL

_File = tuple[t.Mapping[str, t.Any], str]


def _checked_files(files: t.Mapping[str, t.Mapping[str, t.Any]]) -> dict[str, _File]:
    """The files with their checksums, refused before anything is fetched."""
    found: dict[str, _File] = {}
    for path, item in files.items():
        what = f"Cannot place the file {path!a} in the model"
        why = path_problem(path) or ("it ends with a slash" if path.endswith("/") else "")
        if not why and not item.get("url"):
            why = "it has no url"
        if why:
            raise SourceError(what, why, "name a relative path such as 1/model.onnx, with the url and the checksum of its content")
        found[path] = (item, checksum(item.get("sha256"), f"the file {path}"))
    for path in found:
        above = os.path.dirname(path)
        while above:
            if above in found:
                raise SourceError(f"Cannot place the file {path!a} in the model", f"{above!a} is a file as well", "rename one of them")
            above = os.path.dirname(above)
    return found


def _fetch(item: t.Mapping[str, t.Any], name: str, remote: Remote, downloads: str, progress: Progress | None) -> str:
    wanted = checksum(item.get("sha256"), name)
    path = os.path.join(downloads, wanted)
    download(
        item["url"],
        path,
        wanted,
        headers=item.get("headers"),
        timeout=float(remote.get("timeout") or _DEFAULT_TIMEOUT),
        ca_path=remote.get("ca_path") or "",
        validate_certs=remote.get("validate_certs") is not False,
        allow_http=bool(remote.get("allow_http")),
        max_bytes=int(remote.get("max_unpacked") or DEFAULT_MAX_UNPACKED),
        progress=None if progress is None else lambda done, total: progress(shown_url(item["url"]), done, total),
    )
    return path


def _place_all(files: t.Mapping[str, _File], fetched: t.Mapping[str, str], folder: str, keep: bool) -> None:
    left = [wanted for _item, wanted in files.values()]
    for path, (_item, wanted) in files.items():
        left.remove(wanted)
        try:
            _place(fetched[wanted], folder, path, move=not keep and wanted not in left)
        except OSError as error:
            raise os_error(f"Cannot place the file {path!a} in the model", error) from error


def _place(source: str, folder: str, path: str, move: bool) -> None:
    what = f"Cannot place the file {path!a} in the model"
    at = folder
    for part in path.split("/")[:-1]:
        at = os.path.join(at, part)
        if not os.path.lexists(at):
            _make(at)
        elif os.path.islink(at) or not os.path.isdir(at):
            kind = "a link" if os.path.islink(at) else "a file"
            raise SourceError(what, f"{os.path.relpath(at, folder)!a} is {kind} there, wanted a folder", "choose another path")
    target = os.path.join(folder, path)
    if os.path.isdir(target) and not os.path.islink(target):
        raise SourceError(what, "it is a folder there", "choose another path")
    beside = os.path.join(at, ".gpufleet-new")
    try:
        if not (move and _moved(source, beside)):
            _tree.clone(source, beside, 0o644)
        os.chmod(beside, 0o644)
        os.replace(beside, target)
    finally:
        _remove(beside)
    if move:
        _remove(source)


def _moved(source: str, target: str) -> bool:
    try:
        os.rename(source, target)
    except OSError:
        # Another file system.
        return False
    return True


# Folders of this machine


def _checked_folder(path: str) -> str:
    if not os.path.isabs(path):
        raise SourceError(f"Cannot use the folder {path!a} as a source", "it is a relative path", "name an absolute one")
    if not os.path.isdir(path):
        found = "is no folder" if os.path.lexists(path) else "does not exist on this host"
        raise SourceError(f"Cannot use the folder {path} as a source", f"it {found}", "correct the path, or copy the model there")
    return path


def _copy_tree(source: str, folder: str, exclude: t.Sequence[str] | None) -> None:
    """A copy of what a scan would find, so that files can be added to it."""
    found, problems = walk(source, EXCLUDE if exclude is None else exclude)
    if problems:
        raise problems[0]
    _make(folder)
    for item in found:
        target = os.path.join(folder, item.path)
        try:
            if stat.S_ISDIR(item.status.st_mode):
                os.makedirs(target, exist_ok=True)
                continue
            os.makedirs(os.path.dirname(target), exist_ok=True)
            _tree.clone(item.full, target, 0o755 if item.status.st_mode & stat.S_IXUSR else 0o644)
        except _tree.ChangedError as error:
            raise SourceError(f"Cannot copy {item.full}: it changed meanwhile", "", "run this again when nothing writes to it") from error
        except OSError as error:
            raise os_error(f"Cannot copy {item.full} to {folder}", error) from error


def _make(folder: str) -> None:
    try:
        os.makedirs(folder, 0o755, exist_ok=True)
    except OSError as error:
        raise os_error(f"Cannot make the folder {folder}", error) from error


def _remove(path: str) -> None:
    with contextlib.suppress(OSError):
        os.unlink(path)


# rclone


def identity_of_rclone(rclone: t.Mapping[str, t.Any], run: Run) -> str:
    """What a remote holds now, as one text: another one when a file came, went or changed. Nothing is copied for it."""
    rows = _listed(rclone, run, hashes=True)
    listed = [[row["Path"], row["Size"], row.get("Hashes") or row["ModTime"]] for row in rows]
    return "rclone:" + hashlib.sha256(json.dumps(sorted(listed), sort_keys=True).encode()).hexdigest()


def _copy_remote(rclone: t.Mapping[str, t.Any], remote: Remote, folder: str, downloads: str, run: Run) -> None:
    """Into a folder that the next run finds again, so that what has come does not come twice."""
    limit = int(remote.get("max_unpacked") or DEFAULT_MAX_UNPACKED)
    rows = _listed(rclone, run, hashes=False)
    size = sum(row["Size"] for row in rows)
    what = f"Cannot fetch {rclone['remote']!r}"
    if size > limit:
        why = f"its files have {size} bytes, more than the limit of {limit}"
        raise SourceError(what, why, "raise max_unpacked if it is meant to be that large")
    if len(rows) > MAX_ENTRIES:
        raise SourceError(what, f"it has {len(rows)} files, more than the limit of {MAX_ENTRIES}", "pack many small files as one")
    key = hashlib.sha256(f"{rclone.get('config') or ''}\0{rclone['remote']!r}".encode()).hexdigest()
    begun = os.path.join(downloads, f"rclone-{key[:32]}")
    with _alone(begun):
        stats = os.statvfs(begun)
        free = stats.f_bavail * stats.f_frsize
        if size > free + _size_of(begun):
            why = f"wanted {size} bytes, free are {free}"
            raise SourceError(f"{what}: no room in {downloads}", why, "free some room on that file system")
        idle = max(1, round(float(remote.get("timeout") or _DEFAULT_TIMEOUT)))
        limits = [f"--contimeout={idle}s", f"--timeout={max(60, idle)}s", f"--max-transfer={limit}B", "--cutoff-mode=hard"]
        done = _rclone(rclone, ["sync", "--create-empty-src-dirs", *limits, "--", rclone["remote"], begun], run, _COPY_TIMEOUT)
        if "Can't follow symlink" in done.stderr:
            raise SourceError(what, "it has a symbolic link, which rclone leaves out", "put the file itself in its place")
        found, problems = walk(begun, ())
        if problems:
            raise problems[0]
        came = {item.path: item.status.st_size for item in found if not item.path.endswith("/")}
        if came != {row["Path"]: row["Size"] for row in rows if row["Path"] != MANIFEST}:
            raise SourceError(what, "its files changed while they were fetched", "run this again when nothing writes to it")
        try:
            if os.path.isdir(folder):
                os.rmdir(folder)
            shutil.move(begun, folder)
        except OSError as error:
            raise os_error(f"Cannot make the folder {folder}", error) from error


def _listed(rclone: t.Mapping[str, t.Any], run: Run, hashes: bool) -> list[dict[str, t.Any]]:
    check_remote(rclone)
    options = ["--recursive", "--files-only", "--no-mimetype"]
    if hashes and not _hashes_slowly(rclone, run):
        options.append("--hash")
    done = _rclone(rclone, ["lsjson", *options, "--", rclone["remote"]], run, _LIST_TIMEOUT)
    what = f"Cannot list {rclone['remote']!r}"
    try:
        rows = json.loads(done.stdout)
        found = [{**row, "Path": str(row["Path"]), "Size": int(row["Size"]), "ModTime": str(row["ModTime"])} for row in rows]
    except (ValueError, KeyError, TypeError) as error:
        raise SourceError(what, "rclone answers with something else than a list of files", "look at its version") from error
    if not found:
        raise SourceError(what, "it has no files", "correct the path after the colon")
    for row in found:
        if row["Size"] < 0:
            raise SourceError(what, f"{row['Path']!a} has no size", "name a remote that holds files, not documents of an office suite")
        why = path_problem(row["Path"])
        if why and row["Path"] != MANIFEST:
            raise SourceError(f"Cannot use the file {row['Path']!a} of {rclone['remote']!r}", why, "rename it")
    return found


def _hashes_slowly(rclone: t.Mapping[str, t.Any], run: Run) -> bool:
    """Whether the remote would have to read all files for their checksums: then size and time must do."""
    root = re.match(r":?[^:]*:", rclone["remote"])
    done = _rclone(rclone, ["backend", "features", root[0] if root else ""], run, _LIST_TIMEOUT)
    try:
        features = json.loads(done.stdout)
        return not features["Hashes"] or bool(features["Features"].get("SlowHash"))
    except (ValueError, KeyError, TypeError, AttributeError):
        return True


def check_remote(rclone: t.Mapping[str, t.Any]) -> None:
    """Refuse what is no remote of a configuration. Nothing is asked and nothing is shown for that."""
    if not isinstance(rclone.get("remote"), str) or not _REMOTE.match(rclone["remote"]):
        raise SourceError(
            "Cannot use this rclone remote (it is not shown, because it may hold a secret)",
            "wanted NAME:PATH with the name of a remote in rclone's configuration",
            "put its settings in a configuration file, and name that with rclone_config",
        )
    config = rclone.get("config")
    if config and not os.access(config, os.R_OK):
        raise SourceError(
            f"Cannot fetch {rclone['remote']!r}: rclone's configuration {config} is not there or cannot be read",
            "",
            "copy it to the machine that fetches, readable for root alone",
        )


def _rclone(rclone: t.Mapping[str, t.Any], argv: t.Sequence[str], run: Run, timeout: float) -> t.Any:
    config = [f"--config={rclone['config']}"] if rclone.get("config") else []
    done = run(["rclone", *argv[:1], *config, "--ask-password=false", *argv[1:]], timeout=timeout)
    if done.ok:
        return done
    cause = done.cause()
    what = f"Cannot fetch {rclone['remote']!r} with rclone {argv[0]}"
    if "rclone" in cause and "No such file or directory" in cause and done.rc in (None, 127):
        raise SourceError(what, "rclone is not installed", "install the package rclone on the machine that fetches")
    if "didn't find section in config file" in cause:
        where = rclone.get("config") or "rclone's own configuration file of the user who runs it"
        raise SourceError(what, f"the remote is not in {where}", "correct its name, or the option rclone_config")
    raise SourceError(what, _without_secrets(cause, rclone, run)[-600:], "try it with rclone itself on the machine that fetches")


def _without_secrets(text: str, rclone: t.Mapping[str, t.Any], run: Run) -> str:
    """rclone's message without what its configuration holds, and without the queries of URLs."""
    config = rclone.get("config")
    if not config:
        found = run(["rclone", "config", "file"], timeout=30.0)
        config = found.stdout.strip().rsplit("\n", 1)[-1]
    with contextlib.suppress(OSError), open(config, encoding="utf-8", errors="replace") as file:
        for line in file:
            key, equals, value = line.partition("=")
            if equals and _SECRET_KEY.search(key) and len(value.strip()) > 3:
                text = text.replace(value.strip(), "(hidden)")
    return re.sub(r"//\S*@", "//(hidden)@", re.sub(r"\?[^\s\"']+", "?(hidden)", text))


@contextlib.contextmanager
def _alone(folder: str) -> t.Iterator[None]:
    """One rclone at a time fills a folder."""
    while True:
        _make(folder)
        handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            with contextlib.suppress(OSError):
                fcntl.flock(handle, fcntl.LOCK_EX)
            # Whoever was here before us has moved the folder away.
            if not os.path.isdir(folder) or not os.path.samestat(os.fstat(handle), os.stat(folder)):
                continue
            yield
            return
        finally:
            os.close(handle)


def _size_of(folder: str) -> int:
    return sum(item.status.st_size for item in walk(folder, ())[0])
