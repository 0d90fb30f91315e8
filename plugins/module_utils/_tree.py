# Copyright (c) 2026, The gpufleet.triton authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This file is private to the gpufleet.triton collection: it may change at any time.

"""What the kernel is asked to do with files and folders: clone, exchange, make durable, lock. Raises OSError."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import fcntl
import json
import os
import platform
import secrets
import shutil
import socket
import stat
import typing as t

from ansible_collections.gpufleet.triton.plugins.module_utils._manifest import RepositoryError, now, os_error
from ansible_collections.gpufleet.triton.plugins.module_utils._proc import mounts_below, read_mounts
from ansible_collections.gpufleet.triton.plugins.module_utils._waiter import Waiter

_FICLONE = 0x40049409
_RENAME_NOREPLACE = 1
_RENAME_EXCHANGE = 2
_AT_FDCWD = -100
_RENAMEAT2 = {"x86_64": 316, "aarch64": 276, "ppc64le": 357, "s390x": 347}
_SYNC_FILE_RANGE_WRITE = 2
_CHUNK = 16 << 20
# A file system that cannot do it says one of these; anything else is a failure of the copy itself.
_UNSUPPORTED = frozenset({errno.ENOSYS, errno.EINVAL, errno.EOPNOTSUPP, errno.ENOTTY, errno.EXDEV, errno.EPERM, errno.EBADF, errno.ETXTBSY})
_LOOK_INTERVAL = 0.2


class ChangedError(Exception):
    """A file changed while it was copied."""


def _libc() -> t.Any:
    return ctypes.CDLL(None, use_errno=True)


def _renameat2(source: str, target: str, flags: int) -> None:
    libc = _libc()
    before, after = os.fsencode(source), os.fsencode(target)
    if hasattr(libc, "renameat2"):
        done = libc.renameat2(_AT_FDCWD, before, _AT_FDCWD, after, ctypes.c_uint(flags))
    elif platform.machine() in _RENAMEAT2:
        done = libc.syscall(_RENAMEAT2[platform.machine()], _AT_FDCWD, before, _AT_FDCWD, after, ctypes.c_uint(flags))
    else:
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))
    if done != 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code), source, None, target)


def exchange(one: str, other: str) -> bool:
    """Swap two folders in one step. False if the file system cannot do that, and nothing was done then."""
    try:
        _renameat2(one, other, _RENAME_EXCHANGE)
    except OSError as exc:
        if exc.errno in (errno.ENOSYS, errno.EINVAL, errno.EOPNOTSUPP):
            return False
        raise
    return True


def move(source: str, target: str) -> None:
    """Rename a folder to a name that must be free."""
    try:
        _renameat2(source, target, _RENAME_NOREPLACE)
        return
    except OSError as exc:
        if exc.errno not in (errno.ENOSYS, errno.EINVAL, errno.EOPNOTSUPP):
            raise
    if os.path.lexists(target):
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), target)
    os.rename(source, target)


def clone(source: str, target: str, mode: int) -> os.stat_result:
    """Copy a file without reading it here: shared blocks where the file system has them, the kernel's copy elsewhere.

    Holes stay holes. A file that changes meanwhile is an error, after all of it was copied. Returns the status that it had.
    """
    reading = os.open(source, os.O_RDONLY | os.O_CLOEXEC)
    try:
        before = os.fstat(reading)
        writing = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            if not _reflink(reading, writing):
                _copy(reading, writing, before.st_size)
            os.fchmod(writing, mode)
        finally:
            os.close(writing)
        if signature(os.fstat(reading)) != signature(before):
            raise ChangedError(source)
        return before
    finally:
        os.close(reading)


def signature(status: os.stat_result) -> tuple[int, int, int, int]:
    return status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns


def _reflink(reading: int, writing: int) -> bool:
    try:
        fcntl.ioctl(writing, _FICLONE, reading)
    except OSError as exc:
        if exc.errno in _UNSUPPORTED:
            return False
        raise
    return True


def _copy(reading: int, writing: int, size: int) -> None:
    os.ftruncate(writing, size)
    for start, end in _data(reading, size):
        at = start
        while at < end:
            count = _copy_range(reading, writing, at, min(end - at, _CHUNK))
            if not count:
                raise OSError(errno.EIO, "the file is shorter than it was")
            _start_writing(writing, at, count)
            at += count


def _data(handle: int, size: int) -> t.Iterator[tuple[int, int]]:
    """The parts of a file that are no holes."""
    start = 0
    while start < size:
        try:
            begin = os.lseek(handle, start, os.SEEK_DATA)
            end = os.lseek(handle, begin, os.SEEK_HOLE)
        except OSError as exc:
            if exc.errno == errno.ENXIO:
                return
            begin, end = start, size
        yield begin, min(end, size)
        start = end


def _copy_range(reading: int, writing: int, start: int, count: int) -> int:
    try:
        done = os.copy_file_range(reading, writing, count, start, start)
        if done:
            return done
    except OSError as exc:
        if exc.errno not in _UNSUPPORTED:
            raise
    content = os.pread(reading, min(count, 1 << 20), start)
    written = 0
    while written < len(content):
        written += os.pwrite(writing, content[written:], start + written)
    return written


def _start_writing(handle: int, start: int, count: int) -> None:
    """Have the disk begin at once, so that little is left to wait for in the end."""
    libc = _libc()
    if hasattr(libc, "sync_file_range"):
        libc.sync_file_range(handle, ctypes.c_int64(start), ctypes.c_int64(count), _SYNC_FILE_RANGE_WRITE)


def start_writing(path: str) -> None:
    handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        _start_writing(handle, 0, 0)
    finally:
        os.close(handle)


def write(path: str, content: bytes, mode: int) -> None:
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with os.fdopen(handle, "wb") as file:
        file.write(content)
        os.fchmod(file.fileno(), mode)


def sync(path: str) -> None:
    """Make a file, or the names in a folder, outlive a loss of power."""
    handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(handle)
    except OSError as exc:
        # Some network file systems have no such call for folders.
        if not os.path.isdir(path) or exc.errno not in (errno.EINVAL, errno.EOPNOTSUPP):
            raise
    finally:
        os.close(handle)


def replace(path: str, content: bytes, mode: int = 0o600) -> None:
    """Write a small file so that it is either the old or the new one."""
    beside = f"{path}.{secrets.token_hex(4)}"
    try:
        write(beside, content, mode)
        sync(beside)
        os.replace(beside, path)
    except OSError:
        with contextlib.suppress(OSError):
            os.unlink(beside)
        raise
    sync(os.path.dirname(path))


def listing(folder: str) -> dict[str, os.stat_result]:
    """Everything below a folder; the paths of folders end with a slash. Links are not followed."""
    found: dict[str, os.stat_result] = {}

    def enter(prefix: str, path: str) -> None:
        with os.scandir(path) as items:
            for item in items:
                status = item.stat(follow_symlinks=False)
                if stat.S_ISDIR(status.st_mode):
                    found[f"{prefix}{item.name}/"] = status
                    enter(f"{prefix}{item.name}/", item.path)
                else:
                    found[prefix + item.name] = status

    enter("", folder)
    return found


def remove(path: str) -> None:
    """Remove a file or a tree, if it is there. What is mounted in it is somebody else's: then nothing is removed."""
    inside = mounts_below(os.path.realpath(path), read_mounts())
    if inside:
        raise OSError(errno.EBUSY, f"{os.strerror(errno.EBUSY)}: something is mounted at {', '.join(inside)}", path)
    try:
        if stat.S_ISDIR(os.lstat(path).st_mode):
            shutil.rmtree(path)
        else:
            os.unlink(path)
    except FileNotFoundError:
        pass


class Times(t.NamedTuple):
    """The newest time in a tree, and in each of its top folders: what Triton tells a change by."""

    newest: int
    folders: dict[str, int]


def times(folder: str) -> Times:
    here = os.lstat(folder)
    newest = max(here.st_mtime_ns, here.st_ctime_ns)
    folders: dict[str, int] = {}
    for path, status in listing(folder).items():
        latest = max(status.st_mtime_ns, status.st_ctime_ns)
        newest = max(newest, latest)
        if "/" in path:
            top = path.split("/", 1)[0]
            folders[top] = max(folders.get(top, 0), latest)
    return Times(newest, folders)


def freshen(path: str, status: os.stat_result | None = None) -> None:
    """Give a file or a folder the present time as its ctime, and change nothing else."""
    os.chmod(path, stat.S_IMODE((status or os.lstat(path)).st_mode))


def make_newer(path: str, than: int) -> None:
    """Give a file or a folder a time after another one, whatever the clock says."""
    status = os.lstat(path)
    # A second more, as some file systems keep no fractions.
    os.utime(path, ns=(status.st_atime_ns, (than // 1_000_000_000 + 1) * 1_000_000_000))


class Lock:
    """flock on a file whose content names the holder."""

    def __init__(self, path: str, what: str, timeout: float, shared: bool = False) -> None:
        self.path = path
        self.what = what
        self.timeout = timeout
        self.shared = shared
        self._handle = -1

    def __enter__(self) -> Lock:
        self._handle = self._open()
        try:
            waited = Waiter(self.timeout, _LOOK_INTERVAL).wait(self._try, bool)
            if not waited.done:
                raise RepositoryError(
                    f"Cannot lock {self.path}: another one had it for all of {self.timeout:g} s",
                    self._holder(),
                    "wait for it, raise lock_timeout, or find out why it hangs",
                )
            if not self.shared:
                self._note({"pid": os.getpid(), "host": socket.gethostname(), "what": self.what, "since": now()})
        except BaseException:
            os.close(self._handle)
            raise
        return self

    def __exit__(self, *unused: object) -> None:
        try:
            if not self.shared:
                self._note(None)
        finally:
            os.close(self._handle)

    def _open(self) -> int:
        try:
            try:
                return os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o640)
            except OSError as exc:
                if not self.shared or exc.errno not in (errno.EROFS, errno.EACCES):
                    raise
            return os.open(self.path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError as exc:
            raise os_error(f"Cannot open the lock {self.path}", exc) from exc

    def _try(self) -> bool:
        try:
            fcntl.flock(self._handle, (fcntl.LOCK_SH if self.shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
        except OSError as exc:
            if exc.errno in (errno.EAGAIN, errno.EACCES):
                return False
            raise os_error(f"Cannot lock {self.path}", exc) from exc
        return True

    def _note(self, holder: dict[str, t.Any] | None) -> None:
        # It helps people only: a full disk must not stop the work, nor its end.
        with contextlib.suppress(OSError):
            os.ftruncate(self._handle, 0)
            if holder:
                os.pwrite(self._handle, json.dumps(holder).encode(), 0)

    def _holder(self) -> str:
        try:
            holder = json.loads(os.pread(self._handle, 4096, 0).decode())
            return f"process {holder['pid']} on {holder['host']} holds it since {holder['since']}: {holder['what']}"
        except (OSError, ValueError, KeyError, TypeError):
            return "it does not say who it is"
