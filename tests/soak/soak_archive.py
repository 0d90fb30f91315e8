# Copyright (c) 2026, The gpufleet.triton authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Hostile and damaged archives: each is unpacked within its folder and its limit, or refused with nothing left."""

from __future__ import annotations

import os
import random
import shutil
import sys
import tempfile
import warnings
from pathlib import Path

from ansible_collections.gpufleet.triton.plugins.module_utils._archive import ArchiveError, unpack
from ansible_collections.gpufleet.triton.tests.unit.plugins.module_utils.archives import PACKERS, damaged, random_archive
from ansible_collections.gpufleet.triton.tests.unit.plugins.module_utils.commands import run

LIMIT = 20_000


class Ground:
    """A folder in which archives are unpacked, around which everything is watched."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.unpacked = self.refused = 0
        (root / "ground").mkdir()
        (root / "outside").write_text("untouched")
        self.archive, self.dest = root / "ground" / "archive", root / "ground" / "model"
        self.around = self._listed()

    def _listed(self) -> list[tuple[str, int, str]]:
        """What lies around: a name that comes or goes, a change of mode, of content."""
        return [
            (str(path.relative_to(self.root)), path.lstat().st_mode, path.read_text() if path.is_file() and path != self.archive else "")
            for path in sorted(self.root.glob("**/*"))
            if path != self.archive and path != self.dest and self.dest not in path.parents
        ]

    def check(self, content: bytes) -> None:
        self.archive.write_bytes(content)
        try:
            unpack(str(self.archive), str(self.dest), LIMIT, run)
        except ArchiveError as error:
            self.refused += 1
            assert not os.path.lexists(self.dest), "debris"
            assert str(error).isprintable(), "a message that may do something to a terminal"
        else:
            self.unpacked += 1
            self._look_at_what_came()
            shutil.rmtree(self.dest)
        assert self._listed() == self.around, "something happened outside"

    def _look_at_what_came(self) -> None:
        size = files = 0
        top = os.path.realpath(self.dest)
        for base, folders, names in os.walk(self.dest):
            for name in (*folders, *names):
                path = os.path.join(base, name)
                real = os.path.realpath(path)
                assert real.startswith(top + os.sep), f"{path} leads out, to {real}"
                assert os.path.isfile(real) or os.path.isdir(real), f"{path} is special"
                if os.path.isfile(path) and not os.path.islink(path):
                    status = os.stat(path)
                    files += 1
                    size += status.st_size
                    assert status.st_nlink == 1
                    assert status.st_mode & 0o7777 in (0o644, 0o755)
        assert files
        assert size <= LIMIT


def make(choice: random.Random) -> bytes:
    content = random_archive(choice)
    packed = choice.random()
    if packed < 0.45:
        # Damage within what is packed: the packer's own checksums do not hide it.
        content = damaged(content, choice) if choice.random() < 0.8 else content
    if packed < 0.2 and content[:2] != b"PK":
        # A program is started for zstd, so it comes seldom.
        names = ["gzip", "bzip2", "xz"] if choice.random() < 0.98 else ["zstd"]
        content = PACKERS[choice.choice(names)](content)
    return damaged(content, choice) if packed > 0.35 and choice.random() < 0.85 else content


if __name__ == "__main__":
    from soaking import soak

    warnings.simplefilter("error")
    # zipfile warns of two members with one name when it writes them, as it must here.
    warnings.filterwarnings("ignore", message="Duplicate name", category=UserWarning)
    # In memory where there is a place for that: most of the time goes to making folders and removing them.
    with tempfile.TemporaryDirectory(dir="/dev/shm" if os.access("/dev/shm", os.W_OK) else None) as folder:
        ground = Ground(Path(folder))
        sys.exit(soak("archive", 100_000, make, ground.check, lambda: f"{ground.unpacked} unpacked, {ground.refused} refused"))
