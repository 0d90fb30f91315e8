# Copyright (c) 2026, The gpufleet.triton authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Make the models that the test publishes, in a folder: models.py FOLDER [NUMBER], where NUMBER is what add_number adds."""

from __future__ import annotations

import sys
from pathlib import Path

CODE = """\
import os

import numpy as np
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    def initialize(self, args):
        folder = os.path.join(args["model_repository"], args["model_version"])
        with open(os.path.join(folder, "number.txt")) as handle:
            self.number = np.float32(handle.read())

    def execute(self, requests):
        return [
            pb_utils.InferenceResponse([pb_utils.Tensor("OUT", pb_utils.get_input_tensor_by_name(request, "IN").as_numpy() + self.number)])
            for request in requests
        ]
"""
TENSORS = """\
max_batch_size: 8
input [ { name: "IN" data_type: TYPE_FP32 dims: [ 4 ] } ]
output [ { name: "OUT" data_type: TYPE_FP32 dims: [ 4 ] } ]
"""
ENSEMBLE = """\
platform: "ensemble"
ensemble_scheduling {
  step {
    model_name: "%s"
    model_version: -1
    input_map { key: "IN" value: "IN" }
    output_map { key: "OUT" value: "OUT" }
  }
}
"""


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def main(folder: Path, number: str) -> None:
    write(folder / "add_number/config.pbtxt", f'# Adds a number.\nbackend: "python"\n{TENSORS}')
    write(folder / "add_number/1/model.py", CODE)
    write(folder / "add_number/1/number.txt", number)
    (folder / "add_number/labels").mkdir(exist_ok=True)
    write(folder / "add_number/tools/show.sh", "#!/bin/sh\nexit 0\n")
    (folder / "add_number/tools/show.sh").chmod(0o755)
    write(folder / "add_number/.git/HEAD", "nothing that serves\n")
    # What is large travels by itself, what is small in a bundle.
    weights = folder / "add_number/1/weights.bin"
    if not weights.exists():
        weights.write_bytes(bytes(range(256)) * 4096 * 5)
    write(folder / "pipe/config.pbtxt", TENSORS + ENSEMBLE % "add_number")
    (folder / "pipe/1").mkdir(exist_ok=True)


main(Path(sys.argv[1]), sys.argv[2] if len(sys.argv) > 2 else "1")
