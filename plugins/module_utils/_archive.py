# Copyright (c) 2026, The gpufleet.triton authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This file is private to the gpufleet.triton collection: it may change at any time.

"""Unpack archives of which nothing is believed.

Files and folders alone are made while an archive is read; links come last, when it is known what they lead to. So there
never is a link on the way of a write. A tar is read by this file and not by tarfile: that has no filters in the Pythons
of older distributions, reads headers of any length into memory, and follows several dialects, where here what is not
understood is refused.
"""

from __future__ import annotations

import bz2
import contextlib
import gzip
import lzma
import os
import re
import secrets
import shutil
import stat
import struct
import typing as t
import zipfile
import zlib
from dataclasses import dataclass

from ansible_collections.gpufleet.triton.plugins.module_utils._manifest import MAX_ENTRIES, RepositoryError, os_error
from ansible_collections.gpufleet.triton.plugins.module_utils._proc import CommandResult

#: A _proc.run with its way to run commands: argv, timeout.
Run = t.Callable[..., CommandResult]

_CHUNK = 1 << 18
_BLOCK = 512
_MAX_MEMBERS = MAX_ENTRIES
_MAX_DEPTH = 64
_MAX_NAME = 255
_MAX_PATH = 2048
# A header that carries no more than a path and some times. Real ones have a few hundred bytes.
_MAX_EXTENDED = 1 << 20
_MAX_PADDING = 16 << 20
_MAX_LINKS = 40
# Parts of paths to go through for all links together: twenty for each of as many links as there may be members.
_MAX_STEPS = 2_000_000
# The directory of a zip is read as one piece. This leaves 600 bytes for each member.
_MAX_DIRECTORY = 64 << 20
# What one needs to read an archive packed with the widest window that a tool gives without being asked twice.
_MEMORY = 1 << 30
_WINDOW = f"unpacking it takes more than {_MEMORY >> 20} MiB of memory"
_NARROWER = "pack it with the usual settings, without --long or a dictionary of its own"
# Ended by SIGXFSZ, as Python and as a shell say it.
_FILE_TOO_LARGE = (-25, 153)
_UNPACK_TIMEOUT = 6 * 3600.0
_AGAIN = "get it again, and check it against its publisher's checksum"
_LARGER = "raise max_unpacked if the archive is meant to be that large"
_FEWER = "pack fewer files, for example many small ones as one"
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
# What macOS adds to the archives that it packs.
_FOREIGN_TOPS = frozenset({"__MACOSX"})
# The programs that unpack a .tar.zst, and their packages.
_ZSTD_NEEDS = {"timeout": "coreutils", "prlimit": "util-linux", "zstd": "zstd"}


class ArchiveError(RepositoryError):
    """An archive that cannot be unpacked, or that does not want what it should."""


class _BadError(Exception):
    """What is wrong with an archive, in a few words."""

    def __init__(self, why: str, remedy: str = "") -> None:
        super().__init__(why)
        self.remedy = remedy


_UNREADABLE = (
    *(EOFError, ValueError, RuntimeError, NotImplementedError, OverflowError, struct.error, zlib.error, lzma.LZMAError),
    *(zipfile.BadZipFile, zipfile.LargeZipFile),
)


def unpack(path: str, dest: str, max_bytes: int, run: Run, name: str = "") -> None:
    """Unpack a tar (plain, gzip, bzip2, xz, zstd) or a zip to C(dest), which is not there yet or an empty folder.

    What it is, is told by its content. One folder that holds all is left out, unless its name is a number: that is a
    version. C(dest) is made at the very end, so that it is there whole or not at all. C(name) is for messages.
    """
    what = f"Cannot unpack {name or path}"
    beside = f"{dest.rstrip('/')}.{secrets.token_hex(4)}"
    try:
        os.mkdir(beside, 0o700)
        tree = _Tree(beside, max_bytes)
        with open(path, "rb") as file:
            _read(file, path, tree, run)
        top = tree.finish()
        os.chmod(top, 0o755)
        if os.path.isdir(dest):
            os.rmdir(dest)
        os.rename(top, dest)
    except _BadError as error:
        raise ArchiveError(what, str(error), error.remedy or "get the archive again from its publisher, or have it packed anew") from error
    except _WriteError as error:
        cause = os_error(what, error.cause)
        raise ArchiveError(cause.what, cause.why, cause.remedy) from error
    except _UNREADABLE as error:
        raise ArchiveError(what, f"it is damaged or cut off: {_said(error)}", _AGAIN) from error
    except OSError as error:
        # bz2 and gzip say so of damaged data; they give no number.
        if error.errno is None:
            raise ArchiveError(what, f"it is damaged or cut off: {_said(error)}", _AGAIN) from error
        cause = os_error(what, error)
        raise ArchiveError(cause.what, cause.why, cause.remedy) from error
    finally:
        shutil.rmtree(beside, ignore_errors=True)


def _too_many() -> t.NoReturn:
    raise _BadError(f"it has more than {_MAX_MEMBERS} members", _FEWER)


def _said(error: Exception) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__


# What is written


class _WriteError(Exception):
    """The disk failed, not the archive."""

    def __init__(self, cause: OSError) -> None:
        super().__init__(str(cause))
        self.cause = cause


@contextlib.contextmanager
def _writing() -> t.Iterator[None]:
    try:
        yield
    except OSError as error:
        raise _WriteError(error) from error


Parts = tuple[str, ...]


def is_foreign(parts: Parts) -> bool:
    """Whether a member is left out, as macOS has added it to the archive."""
    return parts[0] in _FOREIGN_TOPS or parts[-1].startswith("._") or parts[-1] == ".DS_Store"


_FOLDER, _FILE = "folder", "file"


@dataclass
class _Link:
    target: str


class _Tree:
    """What an archive is unpacked to: a folder of our own, in which every name is made once and by us."""

    def __init__(self, folder: str, max_bytes: int) -> None:
        self.folder = folder
        self.max_bytes = max_bytes
        self.written = 0
        self.members = 0
        self._made: dict[Parts, str | _Link] = {(): _FOLDER}
        self._sizes: dict[Parts, int] = {}
        self._steps = 0

    def count(self) -> None:
        self.members += 1
        if self.members > _MAX_MEMBERS:
            _too_many()

    def parts(self, name: str) -> Parts | None:
        """The path of a member, checked; None for the top folder and for what macOS adds."""
        shown = ascii(name if len(name) <= 100 else name[:100] + "...")
        if _CONTROL.search(name):
            raise _BadError(f"the name {shown} has control characters")
        if name.startswith("/"):
            raise _BadError(f"the path {shown} is absolute")
        if "\\" in name:
            raise _BadError(f"the name {shown} has a backslash", "pack it with a tool that writes paths with /")
        try:
            length = len(name.encode())
        except UnicodeEncodeError:
            raise _BadError(f"the name {shown} is not valid UTF-8", "pack it with UTF-8 names") from None
        parts = tuple(part for part in name.split("/") if part not in ("", "."))
        if ".." in parts:
            raise _BadError(f"the path {shown} leads out of the archive")
        if length > _MAX_PATH or len(parts) > _MAX_DEPTH or any(len(part.encode()) > _MAX_NAME for part in parts):
            raise _BadError(f"the path {shown} is too long or too deep")
        return None if not parts or is_foreign(parts) else parts

    def full(self, parts: Parts) -> str:
        return os.path.join(self.folder, *parts)

    def make_folder(self, parts: Parts) -> None:
        for depth in range(1, len(parts) + 1):
            self._enter(parts[:depth])

    def _enter(self, folder: Parts) -> None:
        kind = self._made.get(folder)
        if kind is None:
            # Folders that are only named on the way count as well.
            self.count()
            with _writing():
                os.mkdir(self.full(folder), 0o755)
                os.chmod(self.full(folder), 0o755)
            self._made[folder] = _FOLDER
        elif kind != _FOLDER:
            found = kind if isinstance(kind, str) else "link"
            raise _BadError(f"{_shown(folder)} is a {found} and is to be a folder, too")

    def room_for(self, size: int, name: str) -> None:
        if size < 0:
            raise _BadError(f"the size of {name!a} is negative")
        if self.written + size > self.max_bytes:
            raise _BadError(
                f"its content is larger than the limit of {self.max_bytes} bytes (at {name!a})",
                _LARGER,
            )

    def make_file(self, parts: Parts, pieces: t.Iterable[bytes], executable: bool) -> None:
        self._claim(parts, _FILE)
        mode = 0o755 if executable else 0o644
        before = self.written
        with _writing():
            handle = os.open(self.full(parts), os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, mode)
        with os.fdopen(handle, "wb", buffering=0) as file:
            for piece in pieces:
                self.room_for(len(piece), _shown(parts))
                self.written += len(piece)
                with _writing():
                    view = memoryview(piece)
                    while view:
                        view = view[file.write(view) :]
            with _writing():
                os.fchmod(file.fileno(), mode)
        self._sizes[parts] = self.written - before

    def copy_file(self, parts: Parts, name: str) -> None:
        """A hard link: another file with the content of an earlier one."""
        source = self.parts(name)
        if source is None or self._made.get(source) != _FILE:
            raise _BadError(f"{_shown(parts)} is a hard link to {name!a}, which is no file that came before it")
        with _writing(), open(self.full(source), "rb") as file:
            executable = bool(os.fstat(file.fileno()).st_mode & stat.S_IXUSR)
            self.make_file(parts, iter(lambda: file.read(_CHUNK), b""), executable)

    def make_link(self, parts: Parts, target: str) -> None:
        """A symbolic link: remembered, and made at the end."""
        if not target or _CONTROL.search(target) or len(target) > _MAX_PATH:
            raise _BadError(f"the link {_shown(parts)} leads to {target[:100]!a}, which is no path")
        self._claim(parts, _Link(target))

    def _claim(self, parts: Parts, kind: str | _Link) -> None:
        self.make_folder(parts[:-1])
        if parts in self._made:
            raise _BadError(f"{_shown(parts)} is in it twice", "pack it anew, each path once")
        self._made[parts] = kind

    def finish(self) -> str:
        """Make the links, and return the folder that is the content."""
        if _FILE not in self._made.values():
            raise _BadError("it holds no file", "check that it is the archive of a model")
        aims = {parts: self._resolve(parts, kind) for parts, kind in self._made.items() if isinstance(kind, _Link)}
        self._follow(aims)
        for parts, aim in aims.items():
            with _writing():
                os.symlink(os.path.relpath("/" + "/".join(aim), "/" + "/".join(parts[:-1])), self.full(parts))
        tops = [parts for parts in self._made if len(parts) == 1]
        if len(tops) == 1 and self._made[tops[0]] == _FOLDER and not tops[0][0].isdigit():
            return self.full(tops[0])
        return self.folder

    def _follow(self, aims: t.Mapping[Parts, Parts]) -> None:
        """Count what publishing will find: it follows links, so that each makes a copy of what it leads to."""
        inside: dict[Parts, list[Parts]] = {}
        for parts in self._made:
            if parts:
                inside.setdefault(parts[:-1], []).append(parts)
        members = size = 0
        todo: list[Parts] = [()] if aims else []
        while todo:
            for parts in inside.get(todo.pop(), ()):
                aim = aims.get(parts, parts)
                members += 1
                size += self._sizes.get(aim, 0)
                if members > _MAX_MEMBERS:
                    why = f"its links lead in a circle, or make more than {_MAX_MEMBERS} files and folders of it"
                    raise _BadError(why, "pack it with what the links lead to in their place, and once only")
                if size > self.max_bytes:
                    raise _BadError(f"its content is larger than the limit of {self.max_bytes} bytes when its links are followed", _LARGER)
                if self._made[aim] == _FOLDER:
                    todo.append(aim)

    def _resolve(self, parts: Parts, link: _Link) -> Parts:
        """What a link leads to in the end: a file or a folder of the archive, and none that the link lies in."""
        at = list(parts[:-1])
        todo = link.target.split("/")[::-1]
        followed = 1
        if link.target.startswith("/"):
            raise _BadError(f"the link {_shown(parts)} leads to the absolute path {link.target!a}")
        while todo:
            part = todo.pop()
            self._steps += 1
            if self._steps > _MAX_STEPS:
                raise _BadError(f"its links have more than {_MAX_STEPS} parts to follow", "pack it with files in place of its links")
            if part in ("", "."):
                continue
            if part == "..":
                if not at:
                    raise _BadError(f"the link {_shown(parts)} leads out of the archive, to {link.target!a}")
                at.pop()
                continue
            at.append(part)
            kind = self._made.get(tuple(at))
            if isinstance(kind, _Link):
                followed += 1
                if followed > _MAX_LINKS:
                    raise _BadError(f"the link {_shown(parts)} leads in a circle")
                if kind.target.startswith("/"):
                    raise _BadError(f"the link {_shown(tuple(at))} leads to the absolute path {kind.target!a}")
                at.pop()
                todo.extend(kind.target.split("/")[::-1])
            elif kind is None or (kind == _FILE and todo):
                raise _BadError(f"the link {_shown(parts)} leads to {link.target!a}, which is not in the archive")
        found = tuple(at)
        if parts[: len(found)] == found:
            raise _BadError(f"the link {_shown(parts)} leads to a folder that it lies in")
        return found


def _shown(parts: Parts) -> str:
    return ascii("/".join(parts))


# What is read


class _Source(t.Protocol):
    def read(self, size: int = -1) -> bytes: ...


def _read(file: t.BinaryIO, path: str, tree: _Tree, run: Run) -> None:
    head = file.read(_BLOCK)
    file.seek(0)
    if not head:
        raise _BadError("it is empty")
    if head[:4] in (b"PK\x03\x04", b"PK\x05\x06"):
        _read_zip(path, tree)
    elif head[:2] == b"\x1f\x8b":
        with gzip.GzipFile(fileobj=file) as source:
            _read_tar(source, tree, "gzip")
    elif head[:3] == b"BZh":
        _read_tar(_Unpacked(file, bz2.BZ2Decompressor), tree, "bzip2")
    elif head[:6] == b"\xfd7zXZ\x00":
        _read_tar(_Unpacked(file, lambda: lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=_MEMORY)), tree, "xz")
    elif head[:4] == b"\x28\xb5\x2f\xfd" or (head[1:4] == b"\x2a\x4d\x18" and head[0] & 0xF0 == 0x50):
        _read_zstd(path, tree, run)
    # An empty one has no header.
    elif _checksum_fits(head) or not head.strip(b"\0"):
        _read_tar(file, tree, "")
    else:
        kinds = {b"7z\xbc\xaf": "a 7z archive", b"Rar!": "a rar archive", b"\x5d\x00\x00\x80": "an lzma file", b"<!DO": "an HTML page"}
        found = kinds.get(head[:4], "no archive that is known here")
        raise _BadError(f"it is {found}, wanted tar, tar.gz, tar.bz2, tar.xz, tar.zst or zip", "pack it as one of these")


class _Unpacked:
    """Streams of bzip2 or xz, one after another, with the output of each step bounded."""

    def __init__(self, file: t.BinaryIO, make: t.Callable[[], t.Any]) -> None:
        self._file = file
        self._make = make
        self._now = make()
        self._left = b""

    def read(self, size: int = -1) -> bytes:
        while True:
            if self._now.eof:
                # Zero bytes may stand between and after streams of xz.
                left = (self._now.unused_data or self._file.read(_CHUNK)).lstrip(b"\0")
                while not left:
                    more = self._file.read(_CHUNK)
                    if not more:
                        return b""
                    left = more.lstrip(b"\0")
                self._now, self._left = self._make(), left
            if self._now.needs_input and not self._left:
                self._left = self._file.read(_CHUNK)
                if not self._left:
                    raise EOFError("it ends in the middle of its packed data")
            left, self._left = self._left, b""
            try:
                piece: bytes = self._now.decompress(left, size)
            except lzma.LZMAError as error:
                if "emory" in str(error):
                    raise _BadError(_WINDOW, _NARROWER) from error
                raise
            if piece:
                return piece


def _read_zstd(path: str, tree: _Tree, run: Run) -> None:
    """Through the program, to a file: no Python that a host has can do it. The kernel bounds what it writes."""
    plain = tree.folder + ".tar"
    limit = tree.max_bytes + _MAX_MEMBERS * 2 * _BLOCK + _MAX_PADDING
    try:
        zstd = ["zstd", "--decompress", "--quiet", "--force", "--no-sparse", f"--memory={_MEMORY >> 20}MB", "-o", plain, "--", path]
        done = run(["prlimit", f"--fsize={limit}", *zstd], timeout=_UNPACK_TIMEOUT)
        if not done.ok:
            _explain_zstd(done, tree.max_bytes)
        with open(plain, "rb") as source:
            _read_tar(source, tree, "zstd")
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(plain)


def _explain_zstd(done: CommandResult, max_bytes: int) -> t.NoReturn:
    cause = done.cause()
    for program, package in _ZSTD_NEEDS.items():
        if shutil.which(program) is None:
            remedy = f"install the package {package} where the archive is unpacked"
            raise _BadError(f"that needs the program {program}, which is not installed", remedy)
    if done.rc in _FILE_TOO_LARGE or "File too large" in cause:
        raise _BadError(f"its content is larger than the limit of {max_bytes} bytes", _LARGER)
    if "No space left" in cause:
        raise _BadError("no room to unpack it", "free some room on that file system")
    if "memory" in cause.lower() or "Window size" in cause:
        raise _BadError(_WINDOW, _NARROWER)
    raise _BadError(f"it is damaged or cut off: {cause[-200:]}", _AGAIN)


# tar


@dataclass
class _Header:
    name: bytes
    link: bytes
    size: int
    mode: int
    kind: bytes


def _checksum_fits(block: bytes) -> bool:
    if len(block) < _BLOCK:
        return False
    try:
        wanted = _number(block[148:156])
    except ValueError:
        return False
    return wanted == sum(block[:148]) + 256 + sum(block[156:]) or wanted == _signed_sum(block)


def _signed_sum(block: bytes) -> int:
    """Very old programs added the bytes up as signed ones."""
    return 256 + sum(byte - 256 if byte > 127 else byte for byte in block[:148] + block[156:])


def _number(text: bytes) -> int:
    if text[0] in (0x80, 0xFF):
        return int.from_bytes(text[1:], "big", signed=False) - (1 << (8 * (len(text) - 1)) if text[0] == 0xFF else 0)
    digits = text.split(b"\0", 1)[0].strip(b" ")
    if not re.fullmatch(rb"[0-7]*", digits):
        raise ValueError(f"{digits!r} is no octal number")
    return int(digits or b"0", 8)


def _until_nul(text: bytes) -> bytes:
    return text.split(b"\0", 1)[0]


class _ChecksumError(ValueError):
    """What is no header of a tar, at least not one as it was written."""


class _Tar:
    """The members of a tar in their order: ustar, GNU's long names, pax."""

    def __init__(self, source: _Source, tree: _Tree) -> None:
        self._source = source
        self._tree = tree
        self._global: dict[str, bytes] = {}
        self._buffer = b""
        self._at = 0

    def exactly(self, size: int) -> bytes:
        found = b"".join(self._next(size))
        if len(found) < size:
            raise EOFError("it ends in the middle of a header")
        return found

    def pieces(self, size: int) -> t.Iterator[bytes]:
        """The content of a member, without the zero bytes that fill its last block."""
        came = 0
        for piece in self._next(size):
            came += len(piece)
            yield piece
        if came < size:
            raise EOFError(f"it ends {size - came} bytes before the end of a member")
        self.exactly(-size % _BLOCK)

    def _next(self, size: int) -> t.Iterator[bytes]:
        """As many bytes as that, or fewer at the end."""
        while size:
            if self._at == len(self._buffer):
                self._buffer, self._at = self._source.read(_CHUNK), 0
                if not self._buffer:
                    return
            piece = self._buffer[self._at : self._at + size]
            self._at += len(piece)
            size -= len(piece)
            yield piece

    def header(self) -> _Header | None:
        """The next member with all that headers before it say of it; None at the end."""
        own: dict[str, bytes] = {}
        while True:
            try:
                block = self.exactly(_BLOCK)
            except EOFError:
                raise EOFError("it has no end mark") from None
            if not block.strip(b"\0"):
                self._end()
                return None
            # Headers in front of a member count as well.
            self._tree.count()
            if not _checksum_fits(block):
                raise _ChecksumError("a header has a wrong checksum")
            kind, size = block[156:157], _number(block[124:136])
            if kind in (b"x", b"g", b"L", b"K"):
                self._extended(kind, size, own)
                continue
            return self._member(block, kind, size, own)

    def _extended(self, kind: bytes, size: int, own: dict[str, bytes]) -> None:
        if not 0 <= size <= _MAX_EXTENDED:
            raise ValueError(f"a header of {size} bytes")
        data = b"".join(self.pieces(size))
        if kind == b"x":
            own.update(_pax(data))
        elif kind == b"g":
            self._global.update(_pax(data))
        else:
            own["path" if kind == b"L" else "linkpath"] = _until_nul(data)

    def _member(self, block: bytes, kind: bytes, size: int, own: dict[str, bytes]) -> _Header:
        name, link = _until_nul(block[:100]), _until_nul(block[157:257])
        if block[257:263] == b"ustar\0" and block[345]:
            name = _until_nul(block[345:500]) + b"/" + name
        said = {**self._global, **own}
        if any(key.startswith("GNU.sparse.") for key in said):
            kind = b"S"
        if "size" in said:
            if not re.fullmatch(rb"[0-9]{1,19}", said["size"]):
                raise ValueError(f"the size {said['size'][:30]!r}")
            size = int(said["size"])
        name = said.get("path", name)
        # Before POSIX a folder was a file whose name ends with a slash.
        if kind in (b"0", b"\0") and name.endswith(b"/"):
            kind = b"5"
        return _Header(name, said.get("linkpath", link), size, _number(block[100:108]), kind)

    def _end(self) -> None:
        """After the end mark there are zero bytes and nothing else."""
        seen = 0
        for piece in self._next(_MAX_PADDING + 1):
            seen += len(piece)
            if piece.strip(b"\0"):
                raise ValueError("something follows its end mark")
        if seen > _MAX_PADDING:
            raise ValueError("it is padded with too many zero bytes")


def _pax(data: bytes) -> dict[str, bytes]:
    found: dict[str, bytes] = {}
    at = 0
    while at < len(data):
        space = data.find(b" ", at, at + 8)
        length = data[at:space] if space > at else b""
        if not re.fullmatch(rb"[1-9][0-9]*", length):
            raise ValueError("a pax header has no length")
        end = at + int(length)
        record = data[space + 1 : end]
        key, equals, value = record[:-1].partition(b"=")
        if end > len(data) or record[-1:] != b"\n" or not equals or not key:
            raise ValueError("a pax header is malformed")
        found[key.decode("utf-8", "replace")] = value
        at = end
    return found


_REFUSED_KINDS = {
    b"3": "a device",
    b"4": "a device",
    b"6": "a pipe",
    b"M": "the rest of a file that begins in another archive",
    b"D": "a folder of an incremental backup",
}


def _read_tar(source: _Source, tree: _Tree, packed: str) -> None:
    tar = _Tar(source, tree)
    first = True
    while True:
        try:
            header = tar.header()
        except _ChecksumError as error:
            if first and packed:
                remedy = "pack the folder with tar, or give a single file with the option files"
                raise _BadError(f"what {packed} packed there is no tar", remedy) from error
            raise
        if header is None:
            return
        first = False
        name = header.name.decode("utf-8", "surrogateescape")
        if header.size < 0:
            raise ValueError(f"the size of {name!a} is negative")
        parts = tree.parts(name)
        _read_member(tar, header, name, parts, tree)


def _read_member(tar: _Tar, header: _Header, name: str, parts: Parts | None, tree: _Tree) -> None:
    kind = header.kind
    link = header.link.decode("utf-8", "surrogateescape")
    if kind == b"V":
        return
    if kind == b"S":
        raise _BadError(f"{name!a} is a sparse file", "pack it without --sparse")
    if kind not in (b"0", b"\0", b"7", b"1", b"2", b"5"):
        raise _BadError(f"{name!a} is {_REFUSED_KINDS.get(kind, f'a member of the unknown kind {kind[0]}')}")
    if kind in (b"1", b"2", b"5"):
        # Nothing follows these, whatever size they say.
        if parts is None:
            return
        if kind == b"5":
            tree.make_folder(parts)
        elif kind == b"1":
            tree.copy_file(parts, link)
        else:
            tree.make_link(parts, link)
        return
    tree.room_for(header.size, name)
    if parts is None:
        tree.written += sum(len(piece) for piece in tar.pieces(header.size))
        return
    tree.make_file(parts, tar.pieces(header.size), bool(header.mode & 0o111))


# zip

# Of the others, zipfile takes what a piece of an archive gives at once: of bzip2, gigabytes of memory for some hundred bytes.
_ZIP_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
# The end record; what leads to that of zip64 and stands between both; that of zip64; an entry with the lengths that follow it.
_ZIP_END = struct.Struct("<4s6xHL4x2x")
_ZIP64_LOCATOR = struct.Struct("<4s4xQ4x")
_ZIP64_END = struct.Struct("<4s28xQQ8x")
_ZIP_ENTRY = struct.Struct("<4s24x3H12x")
_MAX_COMMENT = (1 << 16) - 1


def _check_directory(file: t.BinaryIO) -> None:
    """Refuse a directory that is too large: zipfile takes in all of it at once, some hundred bytes of memory for each entry."""
    length = file.seek(0, os.SEEK_END)
    tail = file.seek(max(0, length - _ZIP_END.size - _MAX_COMMENT))
    last = file.read()
    # zipfile's own way to find it, so that both find the same.
    at = max(0, len(last) - _ZIP_END.size)
    if last[at : at + 4] != b"PK\5\6" or last[-2:] != b"\0\0":
        at = last.rfind(b"PK\5\6")
    if at < 0 or at + _ZIP_END.size > len(last):
        raise EOFError("it has no directory")
    _mark, entries, size = _ZIP_END.unpack_from(last, at)
    end = tail + at
    before = end - _ZIP64_LOCATOR.size - _ZIP64_END.size
    if before >= 0:
        file.seek(before)
        wide, locator = file.read(_ZIP64_END.size), file.read(_ZIP64_LOCATOR.size)
        if locator[:4] == b"PK\6\7":
            mark, entries, size = _ZIP64_END.unpack(wide)
            end = before
            # Some versions of zipfile go by what is said, and others by what is there.
            if mark != b"PK\6\6" or _ZIP64_LOCATOR.unpack(locator)[1] != before:
                raise ValueError("the end of its directory is not where it says")
    if entries > _MAX_MEMBERS:
        _too_many()
    if size > _MAX_DIRECTORY:
        raise _BadError(f"its directory has {size} bytes, more than the limit of {_MAX_DIRECTORY}", _FEWER)
    if size > end:
        raise EOFError("a part of its directory is missing")
    _count_entries(file, end - size, end, entries)


def _count_entries(file: t.BinaryIO, at: int, end: int, wanted: int) -> None:
    """The number of entries is only said; what zipfile goes by is the size."""
    found = 0
    while at < end:
        file.seek(at)
        head = file.read(_ZIP_ENTRY.size)
        if len(head) < _ZIP_ENTRY.size or head[:4] != b"PK\1\2":
            raise ValueError("its directory is malformed")
        found += 1
        if found > wanted:
            break
        at += _ZIP_ENTRY.size + sum(_ZIP_ENTRY.unpack(head)[1:])
    if found != wanted:
        raise ValueError(f"its directory has not {wanted} entries, as it says")


def _read_zip(path: str, tree: _Tree) -> None:
    with open(path, "rb") as file:
        _check_directory(file)
    with zipfile.ZipFile(path) as archive:
        members = archive.infolist()
        tree.room_for(sum(info.file_size for info in members), "all members together")
        for info in members:
            tree.count()
            name = info.orig_filename
            kind = stat.S_IFMT(info.external_attr >> 16) if info.create_system == 3 else 0
            parts = tree.parts(name)
            if info.flag_bits & 0x1:
                raise _BadError(f"{name!a} is encrypted", "pack it without a password; use https with headers to keep it from others")
            if info.compress_type not in _ZIP_METHODS:
                raise _BadError(f"{name!a} is packed with method {info.compress_type}", "pack it with deflate")
            if kind not in (0, stat.S_IFREG, stat.S_IFDIR, stat.S_IFLNK):
                raise _BadError(f"{name!a} is a device, a pipe or a socket")
            if parts is None:
                continue
            if name.endswith("/") or kind == stat.S_IFDIR:
                tree.make_folder(parts)
            elif kind == stat.S_IFLNK:
                tree.room_for(info.file_size, name)
                target = b"".join(_zip_pieces(archive, info)) if info.file_size <= _MAX_PATH else b""
                tree.make_link(parts, target.decode("utf-8", "surrogateescape"))
            else:
                tree.make_file(parts, _zip_pieces(archive, info), bool((info.external_attr >> 16) & 0o111) and info.create_system == 3)


def _zip_pieces(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> t.Iterator[bytes]:
    with archive.open(info) as file:
        came = 0
        for piece in iter(lambda: file.read(_CHUNK), b""):
            came += len(piece)
            yield piece
    if came != info.file_size:
        raise EOFError(f"{info.orig_filename!a} has {came} bytes, wanted {info.file_size}")
