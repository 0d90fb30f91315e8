# Copyright (c) 2026, The gpufleet.triton authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Write the models of this target into a repository: models.py FOLDER.

same     gives back what it gets, one optional input and its output for each datatype
add_sub  the sum and the difference of two tensors, in batches
echo     its request's parameters, as text
refuses  an error, whatever it gets
resting  is never loaded
"""

from __future__ import annotations

import sys
from pathlib import Path

DATATYPES = ["BOOL", "UINT8", "UINT16", "UINT32", "UINT64", "INT8", "INT16", "INT32", "INT64", "FP16", "BF16", "FP32", "FP64", "STRING"]

CODE = """\
import numpy
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    def execute(self, requests):
        return [pb_utils.InferenceResponse(**self.answer(request)) for request in requests]

    def answer(self, request):
{body}
"""
SAME = """\
        tensors = []
        for tensor in request.inputs():
            name = tensor.name().replace("IN_", "OUT_")
            if name == "OUT_BF16":  # NumPy has no such type
                tensors.append(pb_utils.Tensor.from_dlpack(name, tensor))
            else:
                tensors.append(pb_utils.Tensor(name, tensor.as_numpy()))
        return {"output_tensors": tensors}
"""
ADD_SUB = """\
        a, b = (pb_utils.get_input_tensor_by_name(request, name).as_numpy() for name in ("A", "B"))
        return {"output_tensors": [pb_utils.Tensor("SUM", a + b), pb_utils.Tensor("DIFFERENCE", a - b)]}
"""
ECHO = """\
        said = numpy.array([request.parameters().encode()], dtype=numpy.object_)
        return {"output_tensors": [pb_utils.Tensor("SAID", said)]}
"""
REFUSES = """\
        return {"output_tensors": [], "error": pb_utils.TritonError("the weights are on strike")}
"""


def tensors(kind: str, rows: list[tuple[str, str, str]], more: str = "") -> str:
    return "".join(f'{kind} {{ name: "{name}" data_type: TYPE_{datatype} dims: {dims} {more} }}\n' for name, datatype, dims in rows)


def write(folder: Path, name: str, body: str, config: str) -> None:
    path = folder / name
    (path / "1").mkdir(parents=True)
    (path / "1" / "model.py").write_text(CODE.replace("{body}", body.rstrip("\n")))
    (path / "config.pbtxt").write_text(f'backend: "python"\n{config}')
    # The server may run as another user.
    for item in [path, *path.rglob("*")]:
        item.chmod(0o755 if item.is_dir() else 0o644)


def main(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    folder.chmod(0o755)
    folder.parent.chmod(0o755)
    same = tensors("input", [(f"IN_{datatype}", datatype, "[ -1, -1 ]") for datatype in DATATYPES], "optional: true")
    same += tensors("output", [(f"OUT_{datatype}", datatype, "[ -1, -1 ]") for datatype in DATATYPES])
    write(folder, "same", SAME, same)
    pair = tensors("input", [("A", "FP32", "[ 4 ]"), ("B", "FP32", "[ 4 ]")])
    pair += tensors("output", [("SUM", "FP32", "[ 4 ]"), ("DIFFERENCE", "FP32", "[ 4 ]")])
    write(folder, "add_sub", ADD_SUB, "max_batch_size: 8\n" + pair)
    one = tensors("input", [("IN", "INT32", "[ 1 ]")])
    write(folder, "echo", ECHO, one + tensors("output", [("SAID", "STRING", "[ 1 ]")]))
    refuses = one + tensors("output", [("OUT", "INT32", "[ 1 ]")])
    write(folder, "refuses", REFUSES, refuses)
    write(folder, "resting", REFUSES, refuses)


main(Path(sys.argv[1]))
