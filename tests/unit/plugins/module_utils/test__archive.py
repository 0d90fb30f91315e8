# Copyright (c) 2026, The gpufleet.triton authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Archives are made by tarfile, zipfile, GNU tar, gzip, bzip2, xz and zstd; what was unpacked is read with os.walk."""

from __future__ import annotations

import bz2
import gzip
import lzma
import os
import random
import stat
import struct
import subprocess
import sys
import tarfile
import typing as t
import zipfile
import zlib
from pathlib import Path

import pytest
from ansible_collections.gpufleet.triton.plugins.module_utils import _archive
from ansible_collections.gpufleet.triton.plugins.module_utils._archive import ArchiveError, unpack
from ansible_collections.gpufleet.triton.plugins.module_utils._manifest import HashCache, scan
from ansible_collections.gpufleet.triton.tests.soak.soak_archive import Ground
from ansible_collections.gpufleet.triton.tests.unit.plugins.module_utils.archives import (
    MODEL,
    PACKERS,
    Member,
    contents,
    damaged,
    folder,
    hard_link,
    link,
    random_archive,
    tar,
    zipped,
    zstd,
)
from ansible_collections.gpufleet.triton.tests.unit.plugins.module_utils.commands import run

LIMIT = 1_000_000
WEIGHTS = b"\0weights" * 40
WANTED = {
    "config.pbtxt": b'name: "densenet"\n',
    "1": None,
    "1/model.onnx": WEIGHTS,
    "1/run": b"#!/bin/sh\n",
    "1/latest": WEIGHTS,
    "1/same": WEIGHTS,
    "2": None,
}


class Place:
    """A folder with an archive in it and nothing else, where it is unpacked."""

    def __init__(self, path: Path) -> None:
        self.path = path / "staging"
        self.path.mkdir()
        self.outside = path / "outside"
        self.outside.write_text("untouched")
        self.archive = self.path / "download"
        self.dest = self.path / "model"

    def unpack(self, content: bytes, max_bytes: int = LIMIT, **options: t.Any) -> dict[str, bytes | None]:
        self.archive.write_bytes(content)
        unpack(str(self.archive), str(self.dest), max_bytes, options.pop("run", run), **options)
        assert sorted(entry.name for entry in self.path.iterdir()) == ["download", "model"]
        return contents(self.dest)

    def refused(self, content: bytes, text: str, max_bytes: int = LIMIT, **options: t.Any) -> ArchiveError:
        self.archive.write_bytes(content)
        with pytest.raises(ArchiveError, match=f"(?i){text}") as caught:
            unpack(str(self.archive), str(self.dest), max_bytes, options.pop("run", run), **options)
        assert [entry.name for entry in self.path.iterdir()] == ["download"], "no debris"
        assert self.outside.read_text() == "untouched"
        assert caught.value.what.startswith("Cannot unpack ")
        assert caught.value.remedy
        return caught.value


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


# What is read


@pytest.mark.parametrize("form", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT], ids=["ustar", "gnu", "pax"])
@pytest.mark.parametrize("packer", PACKERS)
def test_every_kind_of_tar(place: Place, packer: str, form: int) -> None:
    assert place.unpack(PACKERS[packer](tar(MODEL, form))) == WANTED
    assert os.readlink(place.dest / "1/latest") == "model.onnx"
    assert {name: stat.S_IMODE(os.stat(place.dest / name).st_mode) for name in ("", "1", "1/run", "1/model.onnx")} == {
        "": 0o755,
        "1": 0o755,
        "1/run": 0o755,
        "1/model.onnx": 0o644,
    }
    same, original = os.stat(place.dest / "1/same"), os.stat(place.dest / "1/model.onnx")
    assert (same.st_nlink, same.st_ino == original.st_ino) == (1, False), "a copy"


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_every_kind_of_zip(place: Place, method: int) -> None:
    members = [member for member in MODEL if member.kind != tarfile.LNKTYPE]
    assert place.unpack(zipped(members, method)) == {name: content for name, content in WANTED.items() if name != "1/same"}
    assert os.access(place.dest / "1/run", os.X_OK)
    assert not os.access(place.dest / "config.pbtxt", os.X_OK)
    assert os.readlink(place.dest / "1/latest") == "model.onnx"


@pytest.mark.parametrize("form", ["gnu", "oldgnu", "posix", "ustar", "v7"])
def test_what_gnu_tar_packs(place: Place, tmp_path: Path, form: str) -> None:
    source = tmp_path / "densenet"
    (source / "1" / "deep" / ("d" * 60)).mkdir(parents=True)
    (source / "2").mkdir()
    (source / "1" / "deep" / ("d" * 60) / "weights").write_bytes(random.Random(1).randbytes(700_001))
    (source / "1" / "ümlaut 模型").write_text("x")
    (source / "1" / "empty").write_text("")
    os.link(source / "1" / "empty", source / "1" / "linked")
    (source / "1" / "link").symlink_to("deep")
    name = "n" * (60 if form in ("v7", "ustar") else 200)
    (source / name).write_text("long")
    packed = subprocess.run(["tar", f"--format={form}", "-cf", "-", "-C", str(tmp_path), "densenet"], capture_output=True, check=True)
    assert place.unpack(packed.stdout, 2_000_000) == contents(source)


def test_random_trees_come_back_the_same(place: Place, tmp_path: Path) -> None:
    """Long and odd names, many sizes: each in the three forms that tarfile writes, and as a zip."""
    for seed in range(6):
        choice = random.Random(seed)
        alphabet = ["a", "B", "ä", "模", " ", "'", "%", "=", "-", "0", "~", "*"]
        members = {}
        for _number in range(choice.randint(1, 30)):
            parts = ["".join(choice.choices(alphabet, k=choice.choice((1, 5, 20, 60)))) for _part in range(choice.randint(1, 4))]
            name = "/".join(["v", *("f" + part for part in parts[:-1]), "x" + parts[-1]])
            members[name] = choice.randbytes(choice.choice((0, 1, 512, 1000, 70_000)))
        written = [Member(name, content) for name, content in members.items()]
        wanted = {name[2:]: content for name, content in members.items()}
        for content in (tar(written, tarfile.GNU_FORMAT), tar(written, tarfile.PAX_FORMAT), zipped(written)):
            found = place.unpack(content, 10_000_000)
            assert {name: content for name, content in found.items() if content is not None} == wanted
            subprocess.run(["rm", "-r", str(place.dest)], check=True)


def test_members_that_fill_several_reads(place: Place) -> None:
    weights = random.Random(3).randbytes(1_300_000)
    members = [Member("m/1/a", weights), Member("m/1/b", weights[:-1]), Member("m/1/c", b"end")]
    wanted = {"1": None, "1/a": weights, "1/b": weights[:-1], "1/c": b"end"}
    for content in (tar(members), gzip.compress(tar(members)), lzma.compress(tar(members)), zipped(members)):
        assert place.unpack(content, 3_000_000) == wanted
        subprocess.run(["rm", "-r", str(place.dest)], check=True)


def test_streams_one_after_another(place: Place) -> None:
    """As pigz, pbzip2 and pixz write them."""
    content = tar(MODEL)
    half = len(content) // 2
    for packer in ("gzip", "bzip2", "xz", "zstd"):
        pack = PACKERS[packer]
        assert place.unpack(pack(content[:half]) + pack(content[half:])) == WANTED, packer
        subprocess.run(["rm", "-r", str(place.dest)], check=True)
    padded = lzma.compress(content[:half]) + bytes(8) + lzma.compress(content[half:]) + bytes(4)
    assert place.unpack(padded) == WANTED


def test_a_size_in_base_256_and_a_signed_checksum(place: Place) -> None:
    """What GNU tar writes for more than 8 GiB, and old programs for bytes above 127."""
    header = bytearray(tar([Member("m/1/ä", b"abc")], tarfile.GNU_FORMAT)[:512])
    header[124:136] = b"\x80" + (3).to_bytes(11, "big")
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % (sum(byte - 256 if byte > 127 else byte for byte in header) & 0o777777)
    assert place.unpack(bytes(header) + b"abc".ljust(512, b"\0") + bytes(1024)) == {"1": None, "1/ä": b"abc"}


# What is left out


@pytest.mark.parametrize(
    ("members", "wanted"),
    [
        ([Member("m/1/x", b"1")], {"1", "1/x"}),
        ([Member("./m/1/x", b"1"), folder("./")], {"1", "1/x"}),
        ([Member("1/x", b"1")], {"1", "1/x"}),
        ([Member("20240101/x", b"1")], {"20240101", "20240101/x"}),
        ([Member("m/1/x"), Member("config.pbtxt")], {"m", "m/1", "m/1/x", "config.pbtxt"}),
        ([Member("config.pbtxt")], {"config.pbtxt"}),
        ([Member("m/n/x")], {"n", "n/x"}),
        ([Member("m/x"), Member("__MACOSX/m/._x", b"mac"), Member("._m"), Member("m/.DS_Store"), Member(".DS_Store")], {"x"}),
    ],
)
def test_one_enclosing_folder_is_left_out(place: Place, members: list[Member], wanted: set[str]) -> None:
    assert set(place.unpack(tar(members))) == wanted
    subprocess.run(["rm", "-r", str(place.dest)], check=True)
    assert set(place.unpack(zipped(members))) == wanted


def test_a_folder_that_is_there_and_empty_is_taken_and_a_full_one_is_not(place: Place) -> None:
    place.dest.mkdir()
    assert place.unpack(tar(MODEL)) == WANTED
    with pytest.raises(ArchiveError, match=r"Cannot unpack.*not empty"):
        unpack(str(place.archive), str(place.dest), LIMIT, run)
    assert contents(place.dest) == WANTED


# What is refused

HOSTILE: dict[str, tuple[list[Member], str]] = {
    "absolute": ([Member("/etc/x")], "'/etc/x' is absolute"),
    "parent": ([Member("../outside", b"!")], "leads out of the archive"),
    "parent within": ([Member("m/1/../../../outside", b"!")], "leads out of the archive"),
    "parent as a folder": ([folder("m/..")], "leads out of the archive"),
    "backslash": ([Member("..\\outside")], "has a backslash"),
    "line break": ([Member("m/a\nb")], "control characters"),
    "escape": ([Member("m/\x1b[2J")], r"'m/\\x1b\[2J' has control characters"),
    "long name": ([Member("m/" + "x" * 256)], "too long or too deep"),
    "deep": ([Member("m/" + "x/" * 70 + "x")], "too long or too deep"),
    "twice": ([Member("m/x", b"1"), Member("m/x", b"2")], "'m/x' is in it twice"),
    "twice in other words": ([Member("m/x", b"1"), Member("./m//x", b"2")], "'m/x' is in it twice"),
    "file then folder": ([Member("m/x"), folder("m/x")], "'m/x' is a file and is to be a folder"),
    "file then in it": ([Member("m/x"), Member("m/x/y")], "'m/x' is a file and is to be a folder"),
    "folder then file": ([folder("m/x"), Member("m/x")], "'m/x' is in it twice"),
    "nothing": ([], "it holds no file"),
    "folders only": ([folder("m"), folder("m/1")], "it holds no file"),
    "link out": ([Member("m/x"), link("m/l", "../../outside")], "the link 'm/l' leads out of the archive, to '../../outside'"),
    "link to itself above": ([Member("m/x"), link("m/l", "..")], "leads to a folder that it lies in"),
    "link to its folder": ([Member("m/x"), link("m/l", ".")], "leads to a folder that it lies in"),
    "absolute link": ([Member("m/x"), link("m/l", "/etc/passwd")], "leads to the absolute path '/etc/passwd'"),
    "link to nothing": ([Member("m/x"), link("m/l", "y")], "'y', which is not in the archive"),
    "link through a file": ([Member("m/x"), link("m/l", "x/y")], "which is not in the archive"),
    "circle": ([Member("m/x"), link("m/a", "b"), link("m/b", "a")], "leads in a circle"),
    "out by two links": ([Member("m/d/x"), link("m/a", "d"), link("m/b", "a/../../../outside")], "leads out of the archive"),
    "write through a link": ([link("m/l", "../.."), Member("m/l/outside", b"!")], "'m/l' is a link and is to be a folder"),
    "write over a link": ([link("m/l", "../../outside"), Member("m/l", b"!")], "'m/l' is in it twice"),
    "empty link": ([Member("m/x"), link("m/l", "")], "which is no path"),
}
TAR_ONLY: dict[str, tuple[list[Member], str]] = {
    "device": ([Member("m/d", kind=tarfile.CHRTYPE)], "'m/d' is a device"),
    "disk": ([Member("m/d", kind=tarfile.BLKTYPE)], "'m/d' is a device"),
    "pipe": ([Member("m/p", kind=tarfile.FIFOTYPE)], "'m/p' is a pipe"),
    "sparse": ([Member("m/s", kind=tarfile.GNUTYPE_SPARSE)], "'m/s' is a sparse file"),
    "unknown": ([Member("m/u", kind=b"Z")], "unknown kind 90"),
    "hard link out": ([hard_link("m/h", "../outside")], "leads out of the archive"),
    "absolute hard link": ([hard_link("m/h", "/etc/passwd")], "absolute"),
    "hard link to nothing": ([hard_link("m/h", "m/x")], "which is no file that came before it"),
    "hard link to what comes later": ([hard_link("m/h", "m/x"), Member("m/x")], "which is no file that came before it"),
    "hard link to a folder": ([folder("m/d"), hard_link("m/h", "m/d")], "which is no file that came before it"),
    "hard link to a link": ([link("m/l", "../../outside"), hard_link("m/h", "m/l")], "which is no file that came before it"),
    "no name": ([Member("m/x\udcff")], "not valid UTF-8"),
}


@pytest.mark.parametrize("case", [*HOSTILE, *TAR_ONLY])
def test_a_hostile_tar(place: Place, case: str) -> None:
    members, text = {**HOSTILE, **TAR_ONLY}[case]
    place.refused(tar(members), text)
    place.refused(gzip.compress(tar(members)), text)


@pytest.mark.parametrize("case", HOSTILE)
def test_a_hostile_zip(place: Place, case: str) -> None:
    members, text = HOSTILE[case]
    with pytest.MonkeyPatch.context() as patch:
        # It is the writer that warns of two members with one name.
        patch.setattr(zipfile.ZipFile, "_writecheck", lambda *_arguments: None)
        place.refused(zipped(members), text)


def test_a_zip_of_other_kinds_and_passwords(place: Place, tmp_path: Path) -> None:
    place.refused(zipped([Member("m/p", kind=tarfile.FIFOTYPE)]), "'m/p' is a device, a pipe or a socket")
    content = bytearray(zipped([Member("m/x", b"abc")], zipfile.ZIP_STORED))
    for signature, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        content[content.index(signature) + offset] |= 1
    error = place.refused(bytes(content), "'m/x' is encrypted")
    assert "without a password" in error.remedy
    content = bytearray(zipped([Member("m/x", b"abc")], zipfile.ZIP_STORED))
    for signature, offset in ((b"PK\x03\x04", 8), (b"PK\x01\x02", 10)):
        content[content.index(signature) + offset] = 97
    place.refused(bytes(content), "packed with method 97")
    for method in (zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA):
        error = place.refused(zipped([Member("m/x", b"abc")], method), f"packed with method {method}")
        assert error.remedy == "pack it with deflate"
    name = zipped([Member("m/aXb", b"abc")]).replace(b"m/aXb", b"m/a\0b")
    place.refused(name, "control characters")


# Bombs


@pytest.mark.parametrize("packer", PACKERS)
def test_a_tar_larger_than_the_limit(place: Place, packer: str) -> None:
    content = PACKERS[packer](tar([Member("m/1/x", bytes(60_000)), Member("m/1/y", bytes(60_000))]))
    error = place.refused(content, r"larger than the limit of 119999 bytes \(at 'm/1/y'\)", 119_999)
    assert "max_unpacked" in error.remedy
    assert len(place.unpack(content, 120_000)) == 3


def test_a_zip_larger_than_the_limit(place: Place) -> None:
    content = zipped([Member("m/1/x", bytes(60_000)), Member("m/1/y", bytes(60_000))])
    place.refused(content, "larger than the limit of 119999 bytes", 119_999)
    assert len(place.unpack(content, 120_000)) == 3


def test_a_zip_that_says_less_than_it_holds(place: Place) -> None:
    content = zipped([Member("m/1/x", bytes(60_000))])
    for size in (10, 59_999, 60_001):
        place.refused(content.replace(struct.pack("<L", 60_000), struct.pack("<L", size)), "damaged")


def test_copies_of_hard_links_count(place: Place) -> None:
    members = [Member("m/x", bytes(1000)), *(hard_link(f"m/{number}", "m/x") for number in range(100))]
    place.refused(tar(members), "larger than the limit of 50000 bytes", 50_000)


def test_what_links_lead_to_counts_for_each_of_them(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    members = [Member("m/1/x", bytes(1000)), *(link(f"m/1/{number}", "x") for number in range(9)), link("m/2", "1")]
    for content in (tar(members), zipped(members)):
        error = place.refused(content, "larger than the limit of 19999 bytes when its links are followed", 19_999)
        assert "max_unpacked" in error.remedy
        assert len(place.unpack(content, 20_000)) == 12
        subprocess.run(["rm", "-r", str(place.dest)], check=True)
    monkeypatch.setattr(_archive, "_MAX_MEMBERS", 22)
    place.refused(tar(members), "more than 22 files and folders")
    monkeypatch.setattr(_archive, "_MAX_MEMBERS", 23)
    assert len(place.unpack(tar(members))) == 12


def nested(depth: int, width: int) -> list[Member]:
    """Folders of links to the folder before: as many files as width to the power of depth."""
    links = [link(f"m/d{level}/l{number}", f"../d{level - 1}") for level in range(1, depth) for number in range(width)]
    return [Member("m/config.pbtxt", b"#"), Member("m/d0/x"), *links]


def test_links_that_multiply(place: Place) -> None:
    place.unpack(tar(nested(4, 3)))
    assert len(scan(str(place.dest), HashCache(None))) == 1 + 1 + 3 + 9 + 27
    subprocess.run(["rm", "-r", str(place.dest)], check=True)
    place.refused(tar(nested(60, 10)), "its links lead in a circle, or make more than 100000 files")


def test_folders_that_lead_to_each_other(place: Place) -> None:
    members = [Member("m/a/x"), Member("m/b/x"), link("m/a/l", "../b"), link("m/b/l", "../a")]
    place.refused(tar(members), "its links lead in a circle")


def test_links_that_take_long_to_follow(place: Place) -> None:
    """Each goes a way of 800 parts, and each of these through 37 others: without a limit, 20 s for an archive of 16 kB."""
    detour = "a/../" * 400
    chain = [link("m/c0", "x"), *(link(f"m/c{number}", f"{detour}c{number - 1}") for number in range(1, 38))]
    members = [Member("m/x"), folder("m/a"), *chain]
    assert len(place.unpack(tar([*members, link("m/l", f"{detour}c37")]))) == 41
    subprocess.run(["rm", "-r", str(place.dest)], check=True)
    place.refused(tar([*members, *(link(f"m/l{number}", f"{detour}c37") for number in range(100))]), "more than 2000000 parts to follow")


def test_members_are_counted(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_archive, "_MAX_MEMBERS", 50)
    members = [Member(f"m/{number}") for number in range(50)]
    place.refused(tar(members), "more than 50 members")
    place.refused(zipped(members), "more than 50 members")
    place.refused(tar([Member("a/" * 60 + "x")]), "more than 50 members")
    assert len(place.unpack(tar(members[:20]))) == 20


def directory(entries: int, said: int, comment: int = 0, wide: bool = False) -> bytes:
    """A zip of a directory only, of which the end says a number of entries."""
    found = b"".join(
        struct.pack("<4s4B4HL2L5H2L", b"PK\1\2", 20, 3, 20, 0, 0, 0, 0, 0, 0, 0, 0, 5, 0, comment, 0, 0, 0, 0)
        + b"%05x" % number
        + bytes(comment)
        for number in range(entries)
    )
    start = b"PK\3\4" + bytes(26)
    content = start + found
    end = struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, min(said, 0xFFFF), min(said, 0xFFFF), len(found), len(start), 0)
    if wide:
        end = struct.pack("<4sLQL", b"PK\6\7", 0, len(content), 1) + end
        end = struct.pack("<4sQ2H2L4Q", b"PK\6\6", 44, 45, 45, 0, 0, said, said, len(found), len(start)) + end
    return content + end


def test_the_directory_of_a_zip_is_looked_at_before_it_is_read(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    def read(*_arguments: object) -> None:
        raise AssertionError("zipfile makes an object of each entry")

    with monkeypatch.context() as patch:
        patch.setattr(zipfile, "ZipFile", read)
        place.refused(directory(1, 100_001, wide=True), "more than 100000 members")
        place.refused(directory(300, 20), "damaged or cut off: its directory has not 20 entries")
        place.refused(directory(20, 300, wide=True), "damaged or cut off: its directory has not 300 entries")
        moved = bytearray(directory(20, 20, wide=True))
        moved[moved.index(b"PK\6\7") + 8] ^= 1
        place.refused(bytes(moved), "the end of its directory is not where it says")
        for found in (directory(20, 20)[:-1], directory(20, 20).replace(b"PK\1\2", b"PK\1\1"), b"PK\3\4" + bytes(600)):
            place.refused(found, "damaged or cut off")
        patch.setattr(_archive, "_MAX_MEMBERS", 50)
        place.refused(directory(51, 51), "more than 50 members")
        patch.setattr(_archive, "_MAX_DIRECTORY", 50_000)
        place.refused(directory(1, 1, comment=50_000), "its directory has 50051 bytes, more than the limit of 50000")


def test_the_directories_that_other_programs_write(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    members = [Member(f"m/1/{number}", b"x") for number in range(30)]
    monkeypatch.setattr(zipfile, "ZIP_FILECOUNT_LIMIT", 20)
    wide = zipped(members)
    assert b"PK\6\6" in wide, "zip64"
    assert len(place.unpack(wide)) == 31
    subprocess.run(["rm", "-r", str(place.dest)], check=True)
    with zipfile.ZipFile(place.path / "commented", "w") as archive:
        archive.comment = b"PK\5" * 300
        archive.writestr("m/1/x", b"abc")
    content = (place.path / "commented").read_bytes()
    (place.path / "commented").unlink()
    assert place.unpack(content) == {"1": None, "1/x": b"abc"}


def test_a_real_zstd_bomb_stops_at_the_limit(place: Place) -> None:
    """9 GB of zero bytes: the kernel stops zstd."""
    frame = zstd(bytes(1 << 26))
    content = frame * 140
    largest = 0

    def watched(argv: list[str], **options: t.Any) -> t.Any:
        nonlocal largest
        done = run(argv, **options)
        largest = max(entry.stat().st_size for entry in place.path.iterdir())
        return done

    place.refused(content, "larger than the limit of 1000 bytes", 1000, run=watched)
    assert largest < 150 << 20


@pytest.mark.parametrize("packer", ["gzip", "bzip2", "xz"])
def test_padding_without_end(place: Place, packer: str) -> None:
    content = PACKERS[packer](tar(MODEL) + bytes(40 << 20))
    place.refused(content, "too many zero bytes")


def test_headers_without_end(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """Memory is bounded by what a header may hold, and time by how many there may be."""
    header = bytearray(tar([Member("m/" + "x" * 150)], tarfile.PAX_FORMAT)[:512])
    header[124:136] = b"77777777777\0"
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    place.refused(gzip.compress(bytes(header) + bytes(30 << 20)), "a header of 8589934591 bytes")
    one = tar([Member("m/" + "x" * 150)], tarfile.PAX_FORMAT)[:1024]
    monkeypatch.setattr(_archive, "_MAX_MEMBERS", 1000)
    place.refused(gzip.compress(one * 1001), "more than 1000 members")


def test_memory_stays_small(place: Place) -> None:
    weights = bytes(48 << 20)
    plain = tar([Member("m/1/x", weights)])
    code = f"""
import re
from ansible_collections.gpufleet.triton.plugins.module_utils._archive import unpack
peak = lambda: int(re.search("VmHWM:(.*)kB", open("/proc/self/status").read())[1])
before = peak()
unpack({str(place.archive)!r}, {str(place.dest)!r}, 1 << 30, None)
print(peak() - before)
"""
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    for content in (lzma.compress(plain, preset=0), bz2.compress(plain), gzip.compress(plain, 1), zipped([Member("m/1/x", weights)])):
        place.archive.write_bytes(content)
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=env)
        assert int(done.stdout) < 20_000
        assert (place.dest / "1/x").stat().st_size == len(weights)
        subprocess.run(["rm", "-r", str(place.dest)], check=True)


def test_a_window_that_takes_too_much_memory(place: Place) -> None:
    content = bytearray(lzma.compress(tar(MODEL)))
    # The size of the dictionary is one byte of the block's header, which has a checksum of its own.
    length = (content[12] + 1) * 4
    header = content[12 : 12 + length - 4]
    header[header.index(b"\x21\x01") + 2] = 39
    content[12 : 12 + length] = header + struct.pack("<L", zlib.crc32(header))
    place.refused(bytes(content), "takes more than 1024 MiB of memory")
    content = bytearray(zstd(tar(MODEL)))
    assert content[4] & 0x20 == 0, "a frame with a window of its own"
    content[5] = (31 - 10) << 3
    place.refused(bytes(content), "takes more than 1024 MiB of memory")


# What is damaged


@pytest.mark.parametrize("packer", PACKERS)
def test_every_cut_is_seen(place: Place, packer: str) -> None:
    """A tar may lack what fills it up behind its end mark, and nothing else."""
    used = tar(MODEL).rstrip(b"\0")
    end_mark = len(used) + -len(used) % 512
    content = PACKERS[packer](used.ljust(end_mark + 1024, b"\0"))
    whole = end_mark + 512 if packer == "plain" else len(content)
    choice = random.Random(7)
    for length in [0, 1, 3, whole // 2, whole - 1, *(choice.randrange(whole) for _number in range(12))]:
        place.refused(content[:length], "damaged or cut off|it is empty|no archive that is known")


def test_every_cut_of_a_zip_is_seen(place: Place) -> None:
    content = zipped(MODEL[:5])
    for length in range(0, len(content), 7):
        place.refused(content[:length], "damaged or cut off|it is empty|no archive that is known")


@pytest.mark.parametrize("packer", ["gzip", "bzip2", "xz", "zstd"])
def test_a_changed_byte_is_seen(place: Place, packer: str) -> None:
    content = bytearray(PACKERS[packer](tar([Member("m/1/x", random.Random(1).randbytes(50_000))])))
    content[25_000] ^= 0x10
    place.refused(bytes(content), "damaged or cut off")


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (b"", "it is empty"),
        (b"x", "no archive that is known here, wanted tar, tar.gz"),
        (b"<!DOCTYPE html><html>" + b"x" * 600, "an HTML page"),
        (b"7z\xbc\xaf\x27\x1c" + bytes(600), "a 7z archive"),
        (b"Rar!\x1a\x07" + bytes(600), "a rar archive"),
        (bytes(10240), "it holds no file"),
        (bytes(10240) + b"weights", "something follows its end mark"),
        (gzip.compress(b"weights" * 1000), "what gzip packed there is no tar"),
        (lzma.compress(bytes(600) + b"x"), "what xz packed there is no tar|holds no file|something follows"),
        (zstd(b"weights" * 1000), "what zstd packed there is no tar"),
        (tar(MODEL) + tar(MODEL), "something follows its end mark"),
        (gzip.compress(tar(MODEL)) + b"more", "damaged"),
        (zipped([]), "it holds no file"),
    ],
)
def test_what_is_no_archive_of_a_model(place: Place, content: bytes, text: str) -> None:
    place.refused(content, text)


@pytest.mark.parametrize(("missing", "package"), [("zstd", "zstd"), ("prlimit", "util-linux"), ("timeout", "coreutils")])
def test_a_program_that_is_missing_is_named(
    place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, missing: str, package: str
) -> None:
    content = zstd(tar(MODEL))
    (tmp_path / "bin").mkdir()
    for name in {"timeout", "prlimit", "zstd"} - {missing}:
        (tmp_path / "bin" / name).symlink_to(f"/usr/bin/{name}")
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    error = place.refused(content, f"needs the program {missing}, which is not installed")
    assert error.remedy.startswith(f"install the package {package} ")


def test_a_disk_that_is_full_is_no_damage(place: Place) -> None:
    """Full for this process alone: it may write no more than 1 MiB to a file."""
    place.archive.write_bytes(gzip.compress(tar([Member("m/1/x", bytes(2 << 20))])))
    code = f"""
import resource, signal
from ansible_collections.gpufleet.triton.plugins.module_utils._archive import ArchiveError, unpack
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, 1 << 20))
try:
    unpack({str(place.archive)!r}, {str(place.dest)!r}, 1 << 30, None)
except ArchiveError as error:
    print(error)
"""
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=env)
    assert "File too large" in done.stdout
    assert "damaged" not in done.stdout
    assert [entry.name for entry in place.path.iterdir()] == ["download"]


def test_the_name_in_messages_is_the_one_that_was_given(place: Place) -> None:
    assert place.refused(b"x", "no archive", name="https://h/m.tar").what == "Cannot unpack https://h/m.tar"


# Whatever comes


def test_whatever_comes_is_unpacked_within_its_folder_or_refused(tmp_path: Path) -> None:
    """`make soak` runs more of it."""
    ground = Ground(tmp_path)
    for seed in range(600):
        choice = random.Random(seed)
        content = random_archive(choice)
        ground.check(damaged(content, choice) if seed % 3 else content)
    assert ground.unpacked > 50
    assert ground.refused > 200
