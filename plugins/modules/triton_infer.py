#!/usr/bin/python
# Copyright (c) 2026, The gpufleet.triton authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: triton_infer
short_description: Have a model of a Triton Inference Server compute, and check its answers and its speed
version_added: 0.1.0
author:
  - The gpufleet.triton authors (@gpufleet)
description:
  - Sends inferences to a model over Triton's HTTP API and returns the outputs and how long they took.
  - Fails if an output is not as expected (O(expect)) or if the model is slower than wanted (O(max_latency_ms)), and says which element
    differs first, how many differ and by how much.
  - A model that is READY may still compute nonsense, or nothing at all. This is the test that shows it.
  - Works in every model control mode. Needs neither NumPy nor Triton's client on the target.
extends_documentation_fragment:
  - gpufleet.triton.connection
  - gpufleet.triton.attributes
  - gpufleet.triton.attributes.actiongroup_triton
attributes:
  check_mode:
    support: full
    details:
      - An inference changes nothing, so check mode infers as well, and fails as well.
      - Where no server answers yet, the model is not loaded yet, or a file of an input is not there yet, as where the tasks before this one
        have only pretended to bring them, nothing is predicted. RV(inferred) is then V(false), and a warning says why.
  diff_mode:
    support: N/A
    details:
      - This module never changes anything.
  idempotent:
    support: full
    details:
      - This module never changes anything. A model that keeps a state, such as one for sequences, may answer otherwise each time.
options:
  model:
    description:
      - Name of the model.
    type: str
    required: true
  version:
    description:
      - Version of the model. Without it the server chooses, which is the highest that serves.
    type: int
  inputs:
    description:
      - The tensors to send. A model that has a batch dimension wants it in each of them.
    type: list
    elements: dict
    default: []
    suboptions:
      name:
        description:
          - Name of the input.
        type: str
        required: true
      datatype: &datatype
        description:
          - Datatype as the protocol names it, one of V(BOOL), V(UINT8), V(UINT16), V(UINT32), V(UINT64), V(INT8), V(INT16), V(INT32),
            V(INT64), V(FP16), V(BF16), V(FP32), V(FP64) and V(BYTES), which is text as well.
          - If it is not given, it is that of the file, or else that in the model's metadata.
          - An npy file of another datatype is converted.
        type: str
      shape:
        description:
          - Sizes of the dimensions.
          - If it is not given, it is that of the file, or the nesting of the lists tells it. A flat list is fitted into the shape in the
            model's metadata, if that leaves one way only.
        type: list
        elements: int
      data: &data
        description:
          - The elements, row by row, in one flat list or in lists as deep as the tensor. A single value is possible too.
          - Numbers that do not fit into the datatype are refused. V(NaN), V(Infinity) and V(-Infinity) may be written as text.
          - Elements of V(BYTES) are text, sent as UTF-8.
        type: raw
      data_base64: &data_base64
        description:
          - Elements of V(BYTES) that are no text, each in base64.
        type: list
        elements: str
      file:
        description:
          - File on the target that holds the elements, see O(inputs[].format).
        type: path
      format:
        description:
          - V(npy) is what C(numpy.save) writes. Pickled objects are refused.
          - V(json) is a list as in O(inputs[].data), or an object with C(data), and C(datatype) and C(shape) if wanted.
          - V(raw) is the elements as they lie in memory, little endian, row by row. For V(BYTES) it is the whole file as one element, such
            as a picture, if O(inputs[].datatype) says so.
          - V(auto) goes by the name of the file, C(.npy), C(.json), and V(raw) for any other.
        type: str
        choices: [auto, npy, json, raw]
        default: auto
  outputs:
    description:
      - Names of the outputs to ask for. Without it the model gives all.
    type: list
    elements: str
  binary:
    description:
      - How tensors travel. The result is the same.
      - V(true) sends and asks for all in binary form (Triton's binary tensor data extension).
      - V(false) uses JSON alone, for servers and proxies that know nothing else. V(FP16), V(BF16), numbers that are not finite and bytes
        that are not UTF-8 cannot travel so.
      - V(auto) sends short inputs as JSON where that can carry them, all others in binary form, and asks for outputs in binary form.
        It takes what comes.
    type: str
    choices: ['auto', 'true', 'false']
    default: auto
  parameters:
    description:
      - Parameters of the request, such as C(sequence_id) or C(priority), or what the model itself reads.
      - Their values are text, booleans, integers and floats.
    type: dict
    default: {}
  expect:
    description:
      - What outputs must be, in each of the inferences.
    type: list
    elements: dict
    default: []
    suboptions:
      name:
        description:
          - Name of the output.
        type: str
        required: true
      data: *data
      data_base64: *data_base64
      tolerance:
        description:
          - By how much a number may differ. A number is absolute. A dictionary has C(absolute) and C(relative), which is multiplied with
            what is expected. Their sum is allowed, as in NumPy's C(allclose).
          - The default is 0. What is expected is rounded to the datatype of the output before, so that V(0.1) is right for an output
            of V(FP32) that is 0.1 as exactly as V(FP32) has it.
          - V(NaN) equals V(NaN) and an infinity itself, whatever the tolerance. Text, bytes and booleans must be the same.
        type: raw
      shape:
        description:
          - Shape that the output must have. Lists in O(expect[].data) that are nested say it as well, a flat list does not.
        type: list
        elements: int
      datatype:
        description:
          - Datatype that the output must have.
        type: str
  max_latency_ms:
    description:
      - Milliseconds that an inference may take, as O(latency_percentile) counts them.
    type: float
  latency_percentile:
    description:
      - Which of the latencies O(max_latency_ms) is for.
      - V(p95) is the time that 95 of 100 inferences did not exceed. With fewer than 20 inferences it is the longest time.
    type: str
    choices: [p50, p95, p99, max, mean]
    default: p95
  repeat:
    description:
      - How often to infer, one after the other, over one connection.
    type: int
    default: 1
  warmup:
    description:
      - How often to infer before, without counting it. The first inference of a model that was just loaded is often slow.
    type: int
    default: 0
  max_elements:
    description:
      - How many elements of each output RV(outputs[].data) has at most, so that large outputs stay out of logs.
      - O(expect) looks at all of them.
    type: int
    default: 1000
seealso:
  - module: gpufleet.triton.triton_health
  - module: gpufleet.triton.triton_info
  - module: gpufleet.triton.triton_model
"""

EXAMPLES = r"""
- name: Have a model compute
  gpufleet.triton.triton_infer:
    model: add_sub
    inputs:
      - {name: INPUT0, data: [[1, 2, 3, 4]]}
      - {name: INPUT1, data: [[0.5, 0.5, 0.5, 0.5]]}
  register: answer

- name: Show an output
  ansible.builtin.debug:
    msg: "{{ (answer.outputs | selectattr('name', 'eq', 'OUTPUT0') | first).data }}"

- name: Test what was loaded before it gets any traffic
  gpufleet.triton.triton_infer:
    model: densenet
    version: 2
    inputs:
      - name: data_0
        file: /srv/tests/mug.npy
    expect:
      - name: fc6_1
        shape: [1, 1000]
    warmup: 5
    repeat: 100
    max_latency_ms: 20

- name: With a tolerance, text and bytes
  gpufleet.triton.triton_infer:
    model: classifier
    inputs:
      - {name: TEXT, datatype: BYTES, shape: [1, 1], data: [a picture of a cat]}
      - {name: IMAGE, datatype: BYTES, shape: [1, 1], file: /srv/tests/cat.jpg, format: raw}
    expect:
      - {name: LABEL, data: [cat]}
      - {name: SCORE, data: [0.98], tolerance: {absolute: 0.01, relative: 0.001}}

- name: Ask a server that knows JSON alone
  gpufleet.triton.triton_infer:
    url: https://inference.example.com/triton
    model: add_sub
    binary: false
    inputs:
      - {name: INPUT0, datatype: FP32, shape: [1, 4], data: [1, 2, 3, 4]}
      - {name: INPUT1, datatype: FP32, shape: [1, 4], data: [1, 1, 1, 1]}
"""

RETURN = r"""
inferred:
  description: Whether the model was asked. V(false) in check mode where there is no model to ask yet.
  returned: success
  type: bool
  sample: true
model_name:
  description: Name of the model as the server says it, empty if it was not asked.
  returned: when the server answered
  type: str
  sample: add_sub
model_version:
  description: Version that answered, empty if none was asked.
  returned: when the server answered
  type: str
  sample: "1"
outputs:
  description:
    - The outputs of the first inference, or of the first that was not as expected. In the order of O(outputs) if that is given.
  returned: when the server answered
  type: list
  elements: dict
  contains:
    name:
      description: Name of the output.
      returned: always
      type: str
      sample: OUTPUT0
    datatype:
      description: Its datatype.
      returned: always
      type: str
      sample: FP32
    shape:
      description: Sizes of its dimensions.
      returned: always
      type: list
      elements: int
      sample: [1, 4]
    elements:
      description: How many elements it has.
      returned: always
      type: int
      sample: 4
    truncated:
      description: Whether RV(outputs[].data) lacks some of them, because of O(max_elements) or because of more than 64 KiB of V(BYTES).
      returned: always
      type: bool
      sample: false
    sha256:
      description: Digest of all elements in binary form (little endian, row by row, an element of V(BYTES) behind its length).
      returned: always
      type: str
      sample: 5a9a7b8d8a5e3b7a1f0a6ed2bd3d1f1a5e1bb9b0f0f9f3e0b2b6b4c8d5a1e7f2
    data:
      description:
        - Its elements, row by row, as a flat list of numbers, booleans or text.
        - Numbers that JSON does not have are V(NaN), V(Infinity) and V(-Infinity), as text.
        - Null if they are bytes that are no text. They are in RV(outputs[].data_base64) then.
      returned: always
      type: list
      elements: raw
      sample: [1.5, 2.5, 3.5, 4.5]
    data_base64:
      description: Its elements, each in base64.
      returned: when an element of V(BYTES) is not UTF-8
      type: list
      elements: str
      sample: [iVBORw0KGgo=]
latency:
  description:
    - How long the inferences took, in milliseconds, without those of O(warmup). As the target sees it, with HTTP.
    - Null if none was made.
  returned: when the server answered
  type: dict
  contains:
    count:
      description: How many they were.
      returned: always
      type: int
      sample: 100
    min:
      description: The shortest.
      returned: always
      type: float
      sample: 1.204
    mean:
      description: Their mean.
      returned: always
      type: float
      sample: 1.487
    p50:
      description: Half of them took no longer.
      returned: always
      type: float
      sample: 1.401
    p95:
      description: 95 of 100 took no longer.
      returned: always
      type: float
      sample: 2.015
    p99:
      description: 99 of 100 took no longer.
      returned: always
      type: float
      sample: 2.733
    max:
      description: The longest.
      returned: always
      type: float
      sample: 3.12
problems:
  description: Why the module failed. Empty if it did not.
  returned: always
  type: list
  elements: dict
  contains:
    what:
      description: What is wrong.
      returned: always
      type: str
      sample: "Output 'OUTPUT0' of model 'add_sub' is not as expected: at [0, 2] wanted 3.5, got 4.5"
    why:
      description: The cause, as far as it can be told.
      returned: always
      type: str
      sample: "1 of 4 elements differ, by 1 at most (tolerance: absolute 0, relative 0)"
    remedy:
      description: What to do about it.
      returned: always
      type: str
      sample: look at the model and its weights, correct the expectation, or widen its tolerance
"""

import typing as t

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.gpufleet.triton.plugins.module_utils import _argspec
from ansible_collections.gpufleet.triton.plugins.module_utils._client import NotLoadedError
from ansible_collections.gpufleet.triton.plugins.module_utils._http import HttpError
from ansible_collections.gpufleet.triton.plugins.module_utils._infer import FileMissingError, Inference, InferOptionsError
from ansible_collections.gpufleet.triton.plugins.module_utils._problem import sentence


def foresee(module: AnsibleModule, why: str) -> t.NoReturn:
    module.warn(f"No inference was made: {why}. Check mode takes it that a run would have brought what is missing.")
    module.exit_json(changed=False, inferred=False, model_name="", model_version="", outputs=[], latency=None, problems=[])


def leave(module: AnsibleModule, error: HttpError) -> t.NoReturn:
    """Fail with an error, unless it is one that check mode goes on without."""
    why = _argspec.not_there_yet(module, error)
    if module.check_mode and isinstance(error, (FileMissingError, NotLoadedError)):
        why = error.what
    if why:
        foresee(module, why)
    if isinstance(error, InferOptionsError):
        finish(module, {"problems": [problem.as_dict() for problem in error.problems]})
    _argspec.fail(module, error)
    raise error


def finish(module: AnsibleModule, result: dict[str, t.Any]) -> t.NoReturn:
    if result["problems"]:
        module.fail_json(msg=" ".join(sentence(**problem) for problem in result["problems"]), changed=False, **result)
    module.exit_json(changed=False, **result)


def run(module: AnsibleModule) -> None:
    try:
        inference = Inference(module.params)
    except HttpError as error:
        leave(module, error)
    why = _argspec.not_there_yet(module)
    if why:
        foresee(module, why)
    client = _argspec.open_client(module)
    with client.transport:
        try:
            result = inference.run(client)
        except HttpError as error:
            leave(module, error)
    finish(module, result)


def tensor_options() -> dict[str, t.Any]:
    return {
        "name": {"type": "str", "required": True},
        "datatype": {"type": "str"},
        "shape": {"type": "list", "elements": "int"},
        "data": {"type": "raw"},
        "data_base64": {"type": "list", "elements": "str"},
    }


def main() -> None:
    run(
        AnsibleModule(
            argument_spec={
                **_argspec.connection_options(),
                "model": {"type": "str", "required": True},
                "version": {"type": "int"},
                "inputs": {
                    "type": "list",
                    "elements": "dict",
                    "default": [],
                    "options": {
                        **tensor_options(),
                        "file": {"type": "path"},
                        "format": {"type": "str", "choices": ["auto", "npy", "json", "raw"], "default": "auto"},
                    },
                    "mutually_exclusive": [("data", "data_base64", "file")],
                    "required_one_of": [("data", "data_base64", "file")],
                },
                "outputs": {"type": "list", "elements": "str"},
                "binary": {"type": "str", "choices": ["auto", "true", "false"], "default": "auto"},
                "parameters": {"type": "dict", "default": {}},
                "expect": {
                    "type": "list",
                    "elements": "dict",
                    "default": [],
                    "options": {**tensor_options(), "tolerance": {"type": "raw"}},
                    "mutually_exclusive": [("data", "data_base64")],
                },
                "max_latency_ms": {"type": "float"},
                "latency_percentile": {"type": "str", "choices": ["p50", "p95", "p99", "max", "mean"], "default": "p95"},
                "repeat": {"type": "int", "default": 1},
                "warmup": {"type": "int", "default": 0},
                "max_elements": {"type": "int", "default": 1000},
            },
            mutually_exclusive=_argspec.MUTUALLY_EXCLUSIVE,
            required_by=_argspec.REQUIRED_BY,
            supports_check_mode=True,
        )
    )


if __name__ == "__main__":
    main()
