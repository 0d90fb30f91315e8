# Copyright (c) 2026, The gpufleet.triton authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Directories and files of a host: compare, plan, act. Private to the collection; knows nothing of AnsibleModule.

The work is split so that nothing is touched before everything is known to be right: L(plan) reads and compares,
L(validate) runs the validation commands on copies, and only then L(apply) acts.
"""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import grp
import os
import pwd
import re
import secrets
import shlex
import shutil
import stat
import tempfile
import time
import typing as t

from ansible_collections.gpufleet.triton.plugins.module_utils._proc import CommandResult, mounts_below, read_mounts

NONE = "none"
CREATED = "created"
CHANGED = "changed"
REMOVED = "removed"
ATTRIBUTES = "attributes"

# Runs a command within a time limit in a folder: (words, limit, folder).
Run = t.Callable[["list[str]", float, str], CommandResult]

_DIFF_LIMIT = 100 * 1024
_VALIDATE_TIMEOUT = 120.0
_MODE = re.compile(r"0?[0-7]{4}\Z")
_ID = re.compile(r"[0-9]+\Z")
_HIDDEN = "[content not shown: it is sensitive]\n"


class FilesError(Exception):
    """Something that the caller must put right; the text says what and how."""


@dataclasses.dataclass
class FileSpec:
    """One wanted file, directory or absence."""

    path: str
    state: str = "file"
    content: str | None = None
    generate: int | None = None
    owner: str | None = None
    group: str | None = None
    mode: str | None = None
    sensitive: bool = False
    validate: str | t.Sequence[str] | None = None
    backup: bool = False
    create_only: bool = False
    follow: bool = False
    force: bool = False

    @property
    def hidden(self) -> bool:
        return self.sensitive or self.generate is not None


@dataclasses.dataclass
class Current:
    """What is at a path now."""

    kind: str
    mode: int = 0
    uid: int = 0
    gid: int = 0
    content: bytes | None = None


@dataclasses.dataclass
class Step:
    """What one wanted entry needs."""

    spec: FileSpec
    path: str
    current: Current
    action: str = NONE
    content: bytes | None = None
    uid: int | None = None
    gid: int | None = None
    mode: int | None = None
    backup_file: str | None = None

    @property
    def writes(self) -> bool:
        return self.content is not None


@dataclasses.dataclass
class Plan:
    steps: list[Step]
    notes: list[str]

    @property
    def changed(self) -> bool:
        return any(step.action != NONE for step in self.steps)

    def changed_paths(self) -> list[str]:
        return [step.path for step in self.steps if step.action != NONE]


def parse_mode(path: str, text: str | None) -> int | None:
    if text is None:
        return None
    if not _MODE.match(text):
        raise FilesError(
            f"Cannot use the mode {text!r} for {path}: wanted four octal digits in quotes such as '0640'. "
            "Without the quotes YAML makes another number of it."
        )
    return int(text, 8)


def _lookup_user(name: str) -> int:
    return pwd.getpwnam(name).pw_uid


def _lookup_group(name: str) -> int:
    return grp.getgrnam(name).gr_gid


def _resolve(path: str, what: str, name: str | None, lookup: t.Callable[[str], int], check_mode: bool, notes: list[str]) -> int | None:
    if name is None:
        return None
    if _ID.match(name):
        return int(name)
    try:
        return lookup(name)
    except KeyError:
        message = f"the {what} {name!r} wanted for {path} does not exist on this host"
        if not check_mode:
            raise FilesError(f"Cannot set ownership: {message}. Create it first, or give a numeric id.") from None
        notes.append(f"Check mode: {message}. The real run fails unless something creates it before.")
        return None


def _read(path: str) -> bytes:
    try:
        with open(path, "rb") as handle:
            return handle.read()
    except OSError as exc:
        raise FilesError(f"Cannot read {path}: {exc.strerror}.") from exc


def look(path: str, with_content: bool) -> Current:
    """The state of a path itself (a link is not followed)."""
    try:
        status = os.lstat(path)
    except FileNotFoundError:
        return Current("absent")
    except NotADirectoryError as exc:
        raise FilesError(f"Cannot work on {path}: a part of this path is a file, wanted a directory. Move the file away.") from exc
    except OSError as exc:
        raise FilesError(f"Cannot look at {path}: {exc.strerror}.") from exc
    mode = stat.S_IMODE(status.st_mode)
    if stat.S_ISLNK(status.st_mode):
        return Current("link", mode, status.st_uid, status.st_gid)
    if stat.S_ISDIR(status.st_mode):
        return Current("directory", mode, status.st_uid, status.st_gid)
    if stat.S_ISREG(status.st_mode):
        content = _read(path) if with_content else None
        return Current("file", mode, status.st_uid, status.st_gid, content)
    return Current("special file", mode, status.st_uid, status.st_gid)


def normalise(spec: FileSpec) -> str:
    if not os.path.isabs(spec.path):
        raise FilesError(f"Cannot use the path {spec.path!r}: wanted an absolute path.")
    if ".." in spec.path.split("/"):
        raise FilesError(f"Cannot use the path {spec.path!r}: write it without '..'.")
    path = os.path.normpath(spec.path)
    path = "/" + path.lstrip("/")
    if spec.follow and spec.state != "absent" and os.path.islink(path):
        path = os.path.realpath(path)
    return path


def _check_kind(spec: FileSpec, path: str, current: Current) -> None:
    if current.kind == "absent":
        return
    if current.kind == "link" and spec.state != "absent":
        raise FilesError(
            f"Cannot manage {path}: it is a symbolic link to {os.readlink(path)}, wanted a {spec.state}. Replacing "
            "the link would cut off what it points to, and "
            "writing through it would change a file that was not named. Name the real path, remove the link, or set "
            "'follow: true' "
            "for this entry."
        )
    if spec.state in ("file", "directory") and current.kind != spec.state:
        raise FilesError(
            f"Cannot manage {path}: wanted a {spec.state}, there is a {current.kind}. Move it away or remove it, then run again."
        )


def _check_parent(path: str, planned: dict[str, FileSpec], check_mode: bool, notes: list[str]) -> None:
    parent = os.path.dirname(path)
    listed = planned.get(parent)
    if listed is not None:
        if listed.state == "directory":
            return
        raise FilesError(f"Cannot make {path}: its folder {parent} is wanted as '{listed.state}' in the same call. Correct the list.")
    if os.path.isdir(parent):
        return
    if os.path.lexists(parent):
        raise FilesError(f"Cannot make {path}: {parent} is not a directory. Move it away, then run again.")
    message = f"the folder {parent} of {path} does not exist"
    if not check_mode:
        raise FilesError(
            f"Cannot make {path}: {message}, and it is not in the list. Only listed folders are made, so that each "
            "has the owner and mode "
            "that somebody chose: add it to the list with 'state: directory'."
        )
    notes.append(f"Check mode: {message}. The real run fails unless something creates it before.")


def _plan_absent(step: Step) -> None:
    if step.current.kind == "absent":
        return
    if step.current.kind == "directory":
        if step.path == "/":
            raise FilesError("Cannot remove /: this is never done.")
        inside = mounts_below(os.path.realpath(step.path), read_mounts())
        if inside:
            raise FilesError(
                f"Cannot remove {step.path}: {inside[0]} is a mount point, and what is mounted there would be "
                "deleted too. Unmount it first."
            )
        try:
            children = len(os.listdir(step.path))
        except OSError as exc:
            raise FilesError(f"Cannot list {step.path}: {exc.strerror}.") from exc
        if children and not step.spec.force:
            raise FilesError(
                f"Cannot remove the directory {step.path}: wanted it empty, it holds {children} entries. Set 'force: "
                "true' for this entry to remove "
                "it with everything in it."
            )
    step.action = REMOVED


def _wanted_content(spec: FileSpec, current: Current) -> bytes | None:
    """The bytes to write, or None when the content stays as it is."""
    exists = current.kind == "file"
    if spec.generate is not None:
        if exists and (current.content or b"").strip():
            return None
        return secrets.token_urlsafe(spec.generate).encode("ascii") + b"\n"
    if spec.content is None:
        return None if exists else b""
    if exists and spec.create_only:
        return None
    wanted = spec.content.encode("utf-8", "surrogateescape")
    return None if exists and current.content == wanted else wanted


def _default_mode(spec: FileSpec) -> int:
    if spec.state == "directory":
        return 0o755
    return 0o600 if spec.hidden else 0o644


def _plan_present(step: Step, unknown_owner: bool) -> None:
    exists = step.current.kind != "absent"
    if step.spec.state == "file":
        step.content = _wanted_content(step.spec, step.current)
    if not exists:
        step.action = CREATED
        if step.mode is None:
            step.mode = _default_mode(step.spec)
        return
    attributes = unknown_owner or any(
        wanted is not None and wanted != got
        for wanted, got in (
            (step.mode, step.current.mode),
            (step.uid, step.current.uid),
            (step.gid, step.current.gid),
        )
    )
    if step.writes:
        step.action = CHANGED
        # The replacement is a new inode: what was not asked for is kept as it was.
        step.mode = step.current.mode if step.mode is None else step.mode
        step.uid = step.current.uid if step.uid is None else step.uid
        step.gid = step.current.gid if step.gid is None else step.gid
    elif attributes:
        step.action = ATTRIBUTES


def plan(specs: t.Sequence[FileSpec], check_mode: bool = False) -> Plan:
    """Compare what is wanted with what is there. Reads only; raises for everything that cannot be right."""
    notes: list[str] = []
    planned: dict[str, FileSpec] = {}
    paths: list[str] = []
    for spec in specs:
        path = normalise(spec)
        if path in planned:
            raise FilesError(f"Cannot use the list: {path} is in it twice. Remove one entry.")
        planned[path] = spec
        paths.append(path)
    steps = []
    for spec, path in zip(specs, paths):
        compared = spec.generate is not None or (spec.content is not None and not spec.create_only)
        current = look(path, with_content=spec.state == "file" and compared)
        _check_kind(spec, path, current)
        step = Step(spec=spec, path=path, current=current, mode=parse_mode(path, spec.mode))
        if spec.state == "absent":
            below = [other for other in paths if other.startswith(path.rstrip("/") + "/") and planned[other].state != "absent"]
            if below:
                raise FilesError(f"Cannot use the list: {path} is wanted absent, and {below[0]} below it is wanted. Correct the list.")
            _plan_absent(step)
        else:
            if current.kind == "absent":
                _check_parent(path, planned, check_mode, notes)
            step.uid = _resolve(path, "user", spec.owner, _lookup_user, check_mode, notes)
            step.gid = _resolve(path, "group", spec.group, _lookup_group, check_mode, notes)
            unknown = (spec.owner is not None and step.uid is None) or (spec.group is not None and step.gid is None)
            _plan_present(step, unknown)
        steps.append(step)
    return Plan(steps, notes)


def validate_argv(spec: FileSpec) -> list[str]:
    """The words of a validation command; a text is split as a shell would, but no shell runs it."""
    if spec.validate is None:
        return []
    try:
        words = shlex.split(spec.validate) if isinstance(spec.validate, str) else [str(word) for word in spec.validate]
    except ValueError as exc:
        raise FilesError(f"Cannot split the validation command of {spec.path}: {exc}.") from exc
    if not words or not any("%s" in word for word in words[1:]):
        raise FilesError(
            f"Cannot use the validation command {spec.validate!r} of {spec.path}: wanted a command with '%s' where the file's path belongs."
        )
    return words


def _lay_out_copy(folder: str, copy: str, steps: t.Sequence[Step]) -> None:
    """Make a private folder look as a folder of the host will look after the call."""
    ours = {os.path.basename(step.path): step for step in steps if os.path.dirname(step.path) == folder}
    try:
        others = [name for name in os.listdir(folder) if name not in ours]
    except OSError:
        others = []
    for name in others:
        os.symlink(os.path.join(folder, name), os.path.join(copy, name))
    for name, step in ours.items():
        target = os.path.join(copy, name)
        if step.spec.state == "absent":
            continue
        if step.spec.state == "directory" or not step.writes:
            if step.current.kind != "absent":
                os.symlink(step.path, target)
            elif step.spec.state == "directory":
                os.mkdir(target, 0o700)
            continue
        descriptor = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600 | ((step.mode or 0) & 0o700))
        with os.fdopen(descriptor, "wb") as handle:
            handle.write(step.content or b"")


def validate(the_plan: Plan, run: Run, check_mode: bool = False, tmpdir: str | None = None) -> None:
    """Run the validation commands on copies; nothing of the host's is touched. Raises for the first that fails.

    A file is validated when it, or another listed file of its folder, gets new content: a compose file is only right
    together with the .env beside it.
    """
    rewritten = {os.path.dirname(step.path) for step in the_plan.steps if step.writes}
    for step in the_plan.steps:
        argv = validate_argv(step.spec)
        folder = os.path.dirname(step.path)
        if not argv or step.spec.state != "file" or folder not in rewritten:
            continue
        if shutil.which(argv[0]) is None:
            if not check_mode:
                raise FilesError(
                    f"Cannot validate {step.path}: the program {argv[0]} is not installed on this host. Nothing was "
                    "changed. Install it, or leave "
                    "'validate' out."
                )
            the_plan.notes.append(f"Check mode: {step.path} was not validated, because the program {argv[0]} is not installed yet.")
            continue
        copy = tempfile.mkdtemp(prefix="validate-", dir=tmpdir)
        try:
            _lay_out_copy(folder, copy, the_plan.steps)
            target = os.path.join(copy, os.path.basename(step.path))
            result = run([word.replace("%s", target) for word in argv], _VALIDATE_TIMEOUT, copy)
        except OSError as exc:
            raise FilesError(f"Cannot make the copy that {step.path} is validated on: {exc}. Nothing was changed.") from exc
        finally:
            shutil.rmtree(copy, ignore_errors=True)
        if not result.ok:
            cause = "its output is withheld, because the content is sensitive" if step.spec.hidden else result.cause()
            raise FilesError(
                "Cannot accept the new content of {}: {} refused it (status {}): {}. Nothing was changed.".format(
                    step.path, " ".join(argv), result.rc, cause.replace(copy, folder)
                )
            )


def _fsync_directory(path: str) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    except OSError as exc:
        # Some network and FUSE file systems have no fsync for directories; the rename itself was done.
        if exc.errno not in (errno.EINVAL, errno.ENOTSUP, errno.EBADF):
            raise
    finally:
        os.close(descriptor)


def _set_attributes(target: str | int, status: os.stat_result, step: Step) -> None:
    uid = -1 if step.uid is None or step.uid == status.st_uid else step.uid
    gid = -1 if step.gid is None or step.gid == status.st_gid else step.gid
    if (uid, gid) != (-1, -1):
        os.chown(target, uid, gid)
    # After chown, which clears the set-id bits.
    if step.mode is not None and (step.mode != stat.S_IMODE(status.st_mode) or (uid, gid) != (-1, -1)):
        os.chmod(target, step.mode)


def _put_in_place(temporary: str, step: Step) -> None:
    keeps_existing = step.spec.content is None or step.spec.create_only
    if step.action == CREATED and keeps_existing:
        # On a mount that several hosts share, another one may have made the file since it was looked for: then its file stays.
        try:
            os.link(temporary, step.path)
        except FileExistsError:
            os.unlink(temporary)
            return
        except OSError:
            # Not every file system has hard links.
            os.replace(temporary, step.path)
            return
        os.unlink(temporary)
        return
    os.replace(temporary, step.path)


def _write(step: Step) -> None:
    folder, name = os.path.split(step.path)
    descriptor, temporary = tempfile.mkstemp(prefix=f".{name}.", dir=folder)
    try:
        with os.fdopen(descriptor, "wb") as handle:
            handle.write(step.content or b"")
            handle.flush()
            _set_attributes(handle.fileno(), os.fstat(handle.fileno()), step)
            os.fsync(handle.fileno())
        if step.spec.backup and step.current.kind == "file":
            step.backup_file = "{}.{}~".format(step.path, time.strftime("%Y-%m-%d@%H:%M:%S"))
            shutil.copy2(step.path, step.backup_file)
            os.chown(step.backup_file, step.current.uid, step.current.gid)
        _put_in_place(temporary, step)
    except BaseException:
        # The first error is the one to report.
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise
    _fsync_directory(folder)


def _make_directory(step: Step) -> None:
    try:
        os.mkdir(step.path, 0o700)
    except FileExistsError:
        # Another host that shares the mount may have been faster.
        if not os.path.isdir(step.path):
            raise
    _set_attributes(step.path, os.stat(step.path), step)
    _fsync_directory(os.path.dirname(step.path))


def _remove(step: Step) -> None:
    if step.current.kind != "directory":
        os.unlink(step.path)
    elif step.spec.force:
        shutil.rmtree(step.path)
    else:
        os.rmdir(step.path)
    _fsync_directory(os.path.dirname(step.path))


def _act(step: Step) -> None:
    if step.action == REMOVED:
        _remove(step)
    elif step.action == CREATED and step.spec.state == "directory":
        _make_directory(step)
    elif step.writes:
        _write(step)
    elif step.action == ATTRIBUTES:
        _set_attributes(step.path, os.stat(step.path), step)


def _order(step: Step) -> tuple[int, int]:
    depth = step.path.count("/")
    if step.action == REMOVED:
        return (2, -depth)
    return (0, depth) if step.spec.state == "directory" else (1, 0)


def apply(the_plan: Plan) -> None:
    """Folders first, then files in the order of the list, removals last."""
    for step in sorted(the_plan.steps, key=_order):
        if step.action == NONE:
            continue
        try:
            _act(step)
        except OSError as exc:
            done = {CREATED: "create", CHANGED: "write", REMOVED: "remove", ATTRIBUTES: "set owner and mode of"}[step.action]
            raise FilesError(
                f"Cannot {done} {step.path}: {exc.strerror or exc}. What comes later in the list was not done; a "
                f"second run goes on from here. {_remedy(exc)}"
            ) from exc


def _remedy(exc: OSError) -> str:
    if exc.errno in (errno.ENOSPC, errno.EDQUOT):
        return "Free some room on that file system."
    if exc.errno == errno.EROFS:
        return "The file system is mounted read-only: look at the kernel log for the cause, and mount it read-write."
    if exc.errno in (errno.EPERM, errno.EACCES):
        return "Run it as root; on NFS the server may squash root, then give the owner that the server assigns."
    return "Look at the file system that holds it."


def _show(content: bytes | None) -> str:
    if content is None:
        return ""
    if len(content) > _DIFF_LIMIT:
        return f"[{len(content)} bytes, too long to show]\n"
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError:
        return f"[{len(content)} bytes, not text]\n"


def _id(value: int | None, name: str | None) -> str | None:
    if value is not None:
        return str(value)
    return name


def _attribute_lines(kind: str, mode: int | None, owner: str | None, group: str | None) -> str:
    lines = [f"state: {kind}"]
    if mode is not None:
        lines.append(f"mode: '{mode:04o}'")
    if owner is not None:
        lines.append(f"owner: {owner}")
    if group is not None:
        lines.append(f"group: {group}")
    return "\n".join(lines) + "\n"


def _attribute_diff(step: Step) -> dict[str, str]:
    spec, current = step.spec, step.current
    wanted_owner, wanted_group = _id(step.uid, spec.owner), _id(step.gid, spec.group)
    if current.kind == "absent":
        before = _attribute_lines("absent", None, None, None)
    else:
        before = _attribute_lines(
            current.kind,
            None if step.mode is None else current.mode,
            None if wanted_owner is None else str(current.uid),
            None if wanted_group is None else str(current.gid),
        )
    if step.action == REMOVED:
        before, after = _attribute_lines(current.kind, None, None, None), _attribute_lines("absent", None, None, None)
    else:
        after = _attribute_lines(spec.state, step.mode, wanted_owner, wanted_group)
    header = f"{step.path} (attributes)"
    return {"before_header": header, "after_header": header, "before": before, "after": after}


def _content_diff(step: Step) -> dict[str, str]:
    if step.spec.hidden:
        before = "" if step.current.kind == "absent" else _HIDDEN
        after = "[new content not shown: it is sensitive]\n"
    else:
        before, after = _show(step.current.content), _show(step.content)
    return {"before_header": step.path, "after_header": step.path, "before": before, "after": after}


def diff(the_plan: Plan) -> list[dict[str, str]]:
    """What changes, from the same comparison that decides the actions."""
    found = []
    for step in the_plan.steps:
        if step.action == NONE:
            continue
        parts = ([_content_diff(step)] if step.writes else []) + [_attribute_diff(step)]
        found.extend(part for part in parts if part["before"] != part["after"])
    return found


def report(the_plan: Plan) -> list[dict[str, t.Any]]:
    files = []
    for step in the_plan.steps:
        row: dict[str, t.Any] = {"path": step.path, "action": step.action}
        if step.backup_file:
            row["backup_file"] = step.backup_file
        files.append(row)
    return files
