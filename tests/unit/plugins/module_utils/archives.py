# Copyright (c) 2026, The gpufleet.triton authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Archives of all kinds, good and hostile, made by other programs than the one that reads them."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import os
import random
import stat
import subprocess
import tarfile
import typing as t
import zipfile
from dataclasses import dataclass
from pathlib import Path


@dataclass
class Member:
    """One member of an archive as it is to be written, whatever one may think of it."""

    name: str
    content: bytes = b""
    #: The type of a tar's member.
    kind: bytes = tarfile.REGTYPE
    link: str = ""
    mode: int = 0o644


def folder(name: str) -> Member:
    return Member(name, kind=tarfile.DIRTYPE, mode=0o755)


def link(name: str, target: str) -> Member:
    return Member(name, kind=tarfile.SYMTYPE, link=target)


def hard_link(name: str, target: str) -> Member:
    return Member(name, kind=tarfile.LNKTYPE, link=target)


MODEL = [
    folder("densenet"),
    Member("densenet/config.pbtxt", b'name: "densenet"\n'),
    folder("densenet/1"),
    Member("densenet/1/model.onnx", b"\0weights" * 40),
    Member("densenet/1/run", b"#!/bin/sh\n", mode=0o755),
    link("densenet/1/latest", "model.onnx"),
    hard_link("densenet/1/same", "densenet/1/model.onnx"),
    folder("densenet/2"),
]


def tar(members: t.Iterable[Member], form: int = tarfile.PAX_FORMAT) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=form, errors="surrogateescape") as archive:
        for member in members:
            info = tarfile.TarInfo(member.name)
            info.type, info.linkname, info.mode = member.kind, member.link, member.mode
            info.size = len(member.content) if member.kind == tarfile.REGTYPE else 0
            archive.addfile(info, io.BytesIO(member.content))
    return buffer.getvalue()


def zipped(members: t.Iterable[Member], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as archive:
        for member in members:
            info = zipfile.ZipInfo(member.name)
            info.create_system = 3
            info.compress_type = method
            kinds = {tarfile.DIRTYPE: stat.S_IFDIR, tarfile.SYMTYPE: stat.S_IFLNK, tarfile.FIFOTYPE: stat.S_IFIFO}
            info.external_attr = (kinds.get(member.kind, stat.S_IFREG) | member.mode) << 16
            if member.kind == tarfile.DIRTYPE and not member.name.endswith("/"):
                info.filename += "/"
            archive.writestr(info, member.link if member.kind == tarfile.SYMTYPE else member.content)
    return buffer.getvalue()


def zstd(content: bytes, *options: str) -> bytes:
    return subprocess.run(["zstd", "-q", "-c", *options], input=content, capture_output=True, check=True).stdout


PACKERS: dict[str, t.Callable[[bytes], bytes]] = {
    "plain": bytes,
    "gzip": lambda content: gzip.compress(content, mtime=0),
    "bzip2": bz2.compress,
    "xz": lzma.compress,
    "zstd": zstd,
}


def contents(path: Path) -> dict[str, bytes | None]:
    """What a folder holds, read by another way than the code under test: None stands for a folder."""
    return {
        os.path.relpath(os.path.join(base, name), path): None if os.path.isdir(os.path.join(base, name)) else Path(base, name).read_bytes()
        for base, folders, files in os.walk(path)
        for name in (*folders, *files)
    }


# Archives of chance

_NAMES = (
    *("a", "b", "1", "model.onnx", "config.pbtxt", ".", "..", "", "/", "a/b", "../x", "/etc/x", "a//b", "./a", "a/..", "..a"),
    *("a\\b", "C:\\x", "é", "a\0b", "\n", "\udcff", "x" * 120, "x" * 300, "._a", "__MACOSX", ".DS_Store", "1/", "a/", "-", "~"),
)
_KINDS = (b"0", b"0", b"0", b"0", b"5", b"5", b"2", b"2", b"1", b"\0", b"7", b"3", b"4", b"6", b"S", b"V", b"x", b"L", b"K", b"g", b"Z")


def random_members(choice: random.Random) -> list[Member]:
    """Members whose names and links meet, nest, repeat and lead out."""
    found = []
    for _number in range(choice.randint(0, 8)):
        name = "/".join(choice.choice(_NAMES) for _part in range(choice.randint(1, 3)))
        target = "/".join(choice.choice(_NAMES) for _part in range(choice.randint(1, 3)))
        kind = choice.choice(_KINDS) if choice.random() < 0.3 else choice.choice((b"0", b"5", b"2", b"1"))
        content = choice.randbytes(choice.choice((0, 1, 511, 512, 513, 2000))) if choice.random() < 0.5 else bytes(choice.randint(0, 3000))
        found.append(Member(name, content, kind, target, choice.choice((0o644, 0o755, 0o4755, 0))))
    return found


def random_archive(choice: random.Random) -> bytes:
    """An archive that some program wrote, of members that may be hostile."""
    members = MODEL if choice.random() < 0.3 else random_members(choice)
    if choice.random() < 0.35:
        plain = [member for member in members if "\0" not in member.name and member.kind in (b"0", b"5", b"2")]
        try:
            return zipped(plain, choice.choice((zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA)))
        except UnicodeError:
            return zipped(MODEL)
    form = choice.choice((tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT))
    try:
        return tar(members, form)
    except (ValueError, UnicodeError):
        # A name that this form cannot hold.
        return tar(MODEL, form)


_NUMBERS = (b"\xff" * 8, bytes(8), b"77777777", b"\x80" + bytes(6) + b"\x01", b"../../x\0", b"-1 size=", b"size=-9\n")


def damaged(content: bytes, choice: random.Random) -> bytes:
    """The same with some bytes changed, cut out, doubled or set to what numbers and lengths in headers can be."""
    data = bytearray(content)
    for _number in range(choice.choice((1, 1, 2, 5, 20))):
        at = choice.randrange(len(data) + 1)
        action = choice.random()
        if action < 0.3 and at < len(data):
            data[at] = choice.randrange(256)
        elif action < 0.5:
            data[at : at + 8] = choice.choice(_NUMBERS)
        elif action < 0.65:
            del data[at : at + choice.choice((1, 7, 512, 5000))]
        elif action < 0.8:
            other = choice.randrange(len(data) + 1)
            data[at:at] = data[other : other + choice.choice((1, 30, 512, 1024))]
        elif action < 0.9:
            del data[at:]
        else:
            start = at - at % 512
            _seal(data, start)
    if choice.random() < 0.5:
        for start in range(0, len(data) - 511, 512):
            if data[start + 257 : start + 262] == b"ustar":
                _seal(data, start)
    return bytes(data)


def _seal(data: bytearray, start: int) -> None:
    """Make the checksum of a tar's header right again, so that what was changed is looked at."""
    if start + 512 > len(data):
        return
    data[start + 148 : start + 156] = b" " * 8
    data[start + 148 : start + 156] = b"%06o\0 " % sum(data[start : start + 512])
