# Copyright (c) 2026, The gpufleet.triton authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Write models into a folder: publish.py FOLDER, and on standard input a JSON list of

name and versions, and if wanted digest, ensemble (names of its steps), batch, code (false: no model.py), initialize (a line of
Python), repository (its folder, if not models).
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

CODE = """\
import os
import signal
import time

import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    def initialize(self, args):
        {initialize}

    def execute(self, requests):
        return [
            pb_utils.InferenceResponse([pb_utils.Tensor("OUT", pb_utils.get_input_tensor_by_name(request, "IN").as_numpy())])
            for request in requests
        ]
"""
CONFIG = """\
max_batch_size: {batch}
input [ {{ name: "IN" data_type: TYPE_FP32 dims: [ 4 ] }} ]
output [ {{ name: "OUT" data_type: TYPE_FP32 dims: [ 4 ] }} ]
version_policy {{ all {{}} }}
"""
STEP = """\
  step {{
    model_name: "{name}"
    model_version: -1
    input_map {{ key: "IN" value: "{source}" }}
    output_map {{ key: "OUT" value: "{target}" }}
  }}
"""


def config(model: dict[str, Any]) -> str:
    text = CONFIG.format(batch=model.get("batch", 8))
    steps = model.get("ensemble", [])
    if steps:
        tensors = ["IN", *[f"between_{number}" for number in range(1, len(steps))], "OUT"]
        parts = [STEP.format(name=name, source=tensors[number], target=tensors[number + 1]) for number, name in enumerate(steps)]
        text += 'platform: "ensemble"\nensemble_scheduling {\n' + "".join(parts) + "}\n"
    else:
        text += 'backend: "python"\n'
    if "digest" in model:
        text += f'parameters {{ key: "gpufleet.digest" value {{ string_value: "{model["digest"]}" }} }}\n'
    return text


def main(folder: Path, models: list[dict[str, Any]]) -> None:
    for model in models:
        path = folder / model.get("repository", "models") / model["name"]
        for version in model["versions"]:
            (path / str(version)).mkdir(parents=True, exist_ok=True)
            if model.get("code", True) and "ensemble" not in model:
                (path / str(version) / "model.py").write_text(CODE.format(initialize=model.get("initialize", "pass")))
        (path / "config.pbtxt").write_text(config(model))
    # The server runs as another user.
    for path in [folder, *folder.glob("*/**/*"), *folder.glob("*/")]:
        if path.suffix not in (".key", ".pem", ".crt"):
            path.chmod(0o755 if path.is_dir() else 0o644)


main(Path(sys.argv[1]), json.load(sys.stdin))
