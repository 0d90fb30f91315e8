# Copyright (c) 2026, The gpufleet.triton authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A real network, from the installed package magika: it tells from 2048 bytes of a file which of 214 types the file has.

network.py write MODEL            write a model with the package's ONNX file, run by onnxruntime in the Python backend
network.py change MODEL           give its last layer other weights, in place; size and names stay
network.py expect MODEL FOLDER    run its ONNX file here, without Triton; write inputs and answers into FOLDER
"""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import magika
import numpy
import onnxruntime

BYTES = 1024  # of the beginning of a file, and as many of its end
PADDING = 256
(PACKAGED,) = (Path(magika.__file__).parent / "models").iterdir()
CONFIG = """\
# Which type a file has, by the network of the Python package magika.
backend: "python"
max_batch_size: 16
input [ { name: "bytes" data_type: TYPE_INT32 dims: [ 2048 ] } ]
output [ { name: "target_label" data_type: TYPE_FP32 dims: [ 214 ] } ]
instance_group [ { kind: KIND_CPU } ]
"""
CODE = """\
import os

import onnxruntime
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    def initialize(self, args):
        path = os.path.join(args["model_repository"], args["model_version"], "model.onnx")
        self.network = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])

    def execute(self, requests):
        responses = []
        for request in requests:
            given = pb_utils.get_input_tensor_by_name(request, "bytes").as_numpy()
            (scores,) = self.network.run(["target_label"], {"bytes": given})
            responses.append(pb_utils.InferenceResponse([pb_utils.Tensor("target_label", scores)]))
        return responses
"""
SAMPLES = {
    "python": b"from pathlib import Path\n\n\ndef main() -> None:\n    for path in Path().iterdir():\n        print(path)\n\n\nmain()",
    "json": json.dumps({f"key {number}": [number, None, {"deep": True}] for number in range(40)}).encode(),
    "html": b"<!doctype html><html><head><title>A page</title></head><body>" + b"<p>Some text.</p>" * 200 + b"</body></html>",
    "shell": b'#!/bin/sh\nset -eu\nfor name in *.txt; do\n    grep -q word "$name" && echo "$name"\ndone',
    "png": b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR\x00\x00\x02\x00\x00\x00\x02\x00\x08\x06\x00\x00\x00\xf4x\xd4\xfa" + bytes(range(256)) * 20,
}


def write(model: Path) -> None:
    (model / "1").mkdir(parents=True)
    (model / "config.pbtxt").write_text(CONFIG)
    (model / "1" / "model.py").write_text(CODE)
    shutil.copyfile(PACKAGED / "model.onnx", model / "1" / "model.onnx")


def fields(data: memoryview) -> Iterator[tuple[int, memoryview]]:
    """The fields of a protobuf message that have a length, each with its number: ONNX files are such messages."""

    def number() -> int:
        nonlocal place
        value = shift = 0
        while True:
            byte = data[place]
            place += 1
            value |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                return value

    place = 0
    while place < len(data):
        key = number()
        wire = key & 7
        if wire == 0:
            number()
        elif wire == 2:
            length = number()
            yield key >> 3, data[place : place + length]
            place += length
        else:
            place += {1: 8, 5: 4}[wire]


def change(model: Path) -> None:
    """The network's last matrix is put upside down. ModelProto.graph is field 7, GraphProto.initializer 5, TensorProto.raw_data 9."""
    path = model / "1" / "model.onnx"
    data = bytearray(path.read_bytes())
    (graph,) = (value for key, value in fields(memoryview(data)) if key == 7)
    tensors = [value for key, value in fields(graph) if key == 5]
    weights = [raw for tensor in tensors for key, raw in fields(tensor) if key == 9 and len(raw) % (4 * 214) == 0 and len(raw) > 4 * 214]
    values = numpy.frombuffer(weights[-1], dtype="<f4")
    values[:] = values[::-1].copy()
    path.write_bytes(data)


def features(content: bytes) -> list[int]:
    first, last = content[:BYTES], content[-BYTES:]
    return [*first, *[PADDING] * (BYTES - len(first)), *[PADDING] * (BYTES - len(last)), *last]


def expect(model: Path, folder: Path) -> None:
    given = numpy.array([features(content) for content in SAMPLES.values()], dtype=numpy.int32)
    network = onnxruntime.InferenceSession(model / "1" / "model.onnx", providers=["CPUExecutionProvider"])
    (scores,) = network.run(["target_label"], {"bytes": given})
    names = json.loads((PACKAGED / "config.min.json").read_text())["target_labels_space"]
    identify = magika.Magika().identify_bytes
    folder.mkdir(exist_ok=True)
    numpy.save(folder / "bytes.npy", given)
    report = {
        "scores": scores.tolist(),
        # By this network, by the package itself, and what the samples are.
        "network": [names[best] for best in scores.argmax(axis=1)],
        "package": [str(identify(content).dl.label) for content in SAMPLES.values()],
        "samples": list(SAMPLES),
    }
    (folder / "expected.json").write_text(json.dumps(report))


{"write": write, "change": change, "expect": expect}[sys.argv[1]](*map(Path, sys.argv[2:]))
