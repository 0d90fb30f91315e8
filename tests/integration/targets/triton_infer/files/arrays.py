# Copyright (c) 2026, The gpufleet.triton authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Write arrays into a folder: arrays.py FOLDER."""

from __future__ import annotations

import hashlib
import json
import struct
import sys
from pathlib import Path

import numpy


def main(folder: Path) -> None:
    numpy.save(folder / "columns.npy", numpy.asfortranarray(numpy.arange(1, 7, dtype="<f8").reshape(2, 3)))
    numpy.save(folder / "big_endian.npy", numpy.array([[1, -2], [3, -4]], dtype=">i4"))
    numpy.save(folder / "words.npy", numpy.array([["ä", "bcd"]]))
    numpy.save(folder / "objects.npy", numpy.array([[{}]], dtype=object), allow_pickle=True)
    large = numpy.arange(1000000, dtype=numpy.uint8).reshape(1000, 1000)
    numpy.save(folder / "large.npy", large)
    (folder / "large.sha256").write_text(hashlib.sha256(large.tobytes()).hexdigest())
    (folder / "cut.npy").write_bytes((folder / "large.npy").read_bytes()[:-1])
    (folder / "numbers.json").write_text(json.dumps({"datatype": "INT64", "data": [[1, 2]]}))
    (folder / "numbers.bin").write_bytes(struct.pack("<4H", 1, 2, 3, 65535))


main(Path(sys.argv[1]))
