# Copyright (c) 2026, The gpufleet.triton authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Debian packages out of a description, and an apt repository out of packages: doubles of packages that need silicon.

apt and dpkg are real, so versions, pins, holds and maintainer scripts are as well; only what is in the packages is doubled.
Standard library only, and no program but gpg where the repository is to be signed: it runs on a controller of any kind, and in a
lab's host.

    hook = Deb("nvidia-container-toolkit", "1.20.0-1", ["libc6"], files={"/usr/bin/x": (0o755, b"#!/bin/sh\n")})
    write_repository(folder, [hook])                      # deb [trusted=yes] file:<folder> /
    write_repository(folder, [hook], signer="Somebody")   # and <folder>/key.asc, for a Signed-By
"""

from __future__ import annotations

import gzip
import hashlib
import io
import subprocess
import tarfile
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

AR_MAGIC = b"!<arch>\n"
# Same content, same bytes.
TIME = 1_767_225_600


@dataclass
class Deb:
    """One package. Depends are written as in a control file; what is installed below /etc is a conffile, as in every package."""

    name: str
    version: str
    depends: list[str] = field(default_factory=list)
    # Absolute path: (mode, content)
    files: dict[str, tuple[int, bytes]] = field(default_factory=dict)
    # preinst, postinst, prerm, postrm, config, triggers: text
    scripts: dict[str, str] = field(default_factory=dict)
    architecture: str = "all"
    # Further fields of the control file, such as Conflicts
    fields: dict[str, str] = field(default_factory=dict)

    @property
    def file_name(self) -> str:
        # An epoch is no part of the name.
        return f"{self.name}_{self.version.rpartition(':')[2]}_{self.architecture}.deb"

    def control(self) -> dict[str, str]:
        fields = {
            "Package": self.name,
            "Version": self.version,
            "Architecture": self.architecture,
            "Maintainer": "gpufleet.triton tests <tests@localhost>",
            "Section": "misc",
            "Priority": "optional",
        }
        if self.depends:
            fields["Depends"] = ", ".join(self.depends)
        return {**fields, **self.fields, "Description": f"Double of {self.name} for tests, with nothing of the real one in it"}

    def content(self) -> bytes:
        control = {"control": (0o644, paragraph(self.control()).encode())}
        conffiles = sorted(path for path in self.files if path.startswith("/etc/"))
        if conffiles:
            control["conffiles"] = (0o644, "".join(f"{path}\n" for path in conffiles).encode())
        control.update({name: (0o755, text.encode()) for name, text in self.scripts.items()})
        return AR_MAGIC + b"".join(
            [
                ar_member("debian-binary", b"2.0\n"),
                ar_member("control.tar.gz", archive(control)),
                ar_member("data.tar.gz", archive(self.files)),
            ]
        )


def paragraph(fields: dict[str, str]) -> str:
    return "".join(f"{name}: {value}\n" for name, value in fields.items())


def ar_member(name: str, content: bytes) -> bytes:
    header = f"{name:<16}{TIME:<12}{0:<6}{0:<6}{0o100644:<8o}{len(content):<10}`\n"
    return header.encode("ascii") + content + b"\n" * (len(content) % 2)


def archive(files: dict[str, tuple[int, bytes]]) -> bytes:
    """A tar.gz of the files and of the folders above them."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.GNU_FORMAT) as tar:
        folders = {"."}
        for path, (mode, content) in sorted(files.items()):
            relative = path.lstrip("/")
            for parent in [*reversed(Path(relative).parents)]:
                if str(parent) not in folders:
                    folders.add(str(parent))
                    tar.addfile(entry(f"./{parent}", 0o755, tarfile.DIRTYPE))
            tar.addfile(entry(f"./{relative}", mode, tarfile.REGTYPE, len(content)), io.BytesIO(content))
    return gzip.compress(buffer.getvalue(), mtime=0)


def entry(name: str, mode: int, kind: bytes, size: int = 0) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.mode, info.type, info.size, info.mtime = mode, kind, size, TIME
    info.uname = info.gname = "root"
    return info


def write_repository(folder: Path | str, debs: list[Deb], signer: str = "") -> Path:
    """Write the packages, Packages and Release into a folder: a flat repository ('deb file:<folder> /').

    With a signer's name it is signed by a new key, whose public half is key.asc. Versions of one package live side by side.
    """
    place = Path(folder)
    place.mkdir(parents=True, exist_ok=True)
    paragraphs = []
    for deb in debs:
        content = deb.content()
        (place / deb.file_name).write_bytes(content)
        own = {"Filename": f"./{deb.file_name}", "Size": str(len(content)), "SHA256": hashlib.sha256(content).hexdigest()}
        control = deb.control()
        description = control.pop("Description")
        paragraphs.append(paragraph({**control, **own, "Description": description}))
    index = "\n".join(paragraphs).encode()
    (place / "Packages").write_bytes(index)
    release = {"Origin": "gpufleet-doubles", "Label": "gpufleet-doubles", "Suite": "doubles", "Codename": "doubles"}
    release["Date"] = "Thu, 01 Jan 2026 00:00:00 UTC"
    hashes = f"SHA256:\n {hashlib.sha256(index).hexdigest()} {len(index)} Packages\n"
    (place / "Release").write_text(paragraph(release) + hashes, encoding="ascii")
    if signer:
        sign(place, signer)
    return place


def sign(place: Path, signer: str) -> None:
    """InRelease and key.asc, by a key that is made for this and forgotten."""
    with tempfile.TemporaryDirectory(prefix="gpufleet-keys-") as home:
        gpg = ["gpg", "--homedir", home, "--batch", "--quiet", "--yes"]

        def run(*arguments: str) -> None:
            subprocess.run([*gpg, *arguments], check=True, capture_output=True)

        run("--passphrase", "", "--quick-generate-key", signer, "ed25519", "sign", "never")
        run("--armor", "--output", str(place / "key.asc"), "--export", signer)
        run("--clearsign", "--output", str(place / "InRelease"), str(place / "Release"))
        subprocess.run(["gpgconf", "--homedir", home, "--kill", "all"], check=False, capture_output=True)
