# Copyright (c) 2026, The gpufleet.triton authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Models to try things with, and a client that infers without pause; a plugin that labtest brings along."""

from __future__ import annotations

import json
import subprocess
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import labtest
import pytest

ADD_SUB = {
    "name": "add_sub",
    "src": str(labtest.CHECKOUT / "examples/fleet/models/add_sub"),
    "smoke": {
        "inputs": [{"name": "INPUT0", "data": [[1, 2, 3, 4]]}, {"name": "INPUT1", "data": [[10, 20, 30, 40]]}],
        "expect": [{"name": "OUTPUT0", "data": [[11, 22, 33, 44]]}],
    },
}

CODE = """
import time
import numpy as np
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    def initialize(self, args):
        {initialize}

    def execute(self, requests):
        answers = []
        for request in requests:
            value = pb_utils.get_input_tensor_by_name(request, "IN").as_numpy()
            answers.append(pb_utils.InferenceResponse([pb_utils.Tensor("OUT", value * np.int32({factor}))]))
        return answers
"""
TENSORS = """
input [ { name: "IN" data_type: TYPE_INT32 dims: [ 1 ] } ]
output [ { name: "OUT" data_type: TYPE_INT32 dims: [ 1 ] } ]
"""

# Infers until it is told to stop, and then says what it was answered, in the order of the first time.
CLIENT = """
import json, sys, urllib.request
url = "http://127.0.0.1:8000/v2/models/%s/infer" % sys.argv[1]
body = json.dumps({"inputs": [{"name": "IN", "shape": [1], "datatype": "INT32", "data": [1]}]}).encode()
answers, failures, count = [], [], 0
open("/run/client.ready", "w").close()
while True:
    try:
        open("/run/client.stop").close()
        break
    except FileNotFoundError:
        pass
    try:
        with urllib.request.urlopen(urllib.request.Request(url, body), timeout=20) as answer:
            value = json.load(answer)["outputs"][0]["data"][0]
        count += 1
        if value not in answers:
            answers.append(value)
    except Exception as exc:
        failures.append(repr(exc))
print(json.dumps([answers, failures[:5], count]))
"""


class Workshop:
    """Writes models on the controller and says what their entries are."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def times(self, name: str, factor: int, version: int = 1, initialize: str = "pass", folder: str = "", **entry: Any) -> dict[str, Any]:
        """A model that multiplies; written again, its content changes."""
        place = self.folder / (folder or name)
        (place / str(version)).mkdir(parents=True, exist_ok=True)
        (place / str(version) / "model.py").write_text(CODE.format(factor=factor, initialize=initialize))
        config = f'name: "{name}"\nbackend: "python"\n{TENSORS}instance_group [ {{ kind: KIND_CPU }} ]\n'
        (place / "config.pbtxt").write_text(config)
        return {"name": name, "src": str(place), **entry}

    def broken(self, name: str, **entry: Any) -> dict[str, Any]:
        return self.times(name, 0, initialize='raise RuntimeError("these weights are broken")', **entry)

    def ensemble(self, name: str, *steps: str, **entry: Any) -> dict[str, Any]:
        """Step after step, each of which is a model that multiplies."""
        (self.folder / name / "1").mkdir(parents=True, exist_ok=True)
        tensors = ["IN", *(f"T{number}" for number in range(1, len(steps))), "OUT"]
        chain = ", ".join(
            f'{{ model_name: "{step}" model_version: -1 input_map {{ key: "IN" value: "{tensors[place]}" }}'
            f' output_map {{ key: "OUT" value: "{tensors[place + 1]}" }} }}'
            for place, step in enumerate(steps)
        )
        config = f'name: "{name}"\nplatform: "ensemble"\n{TENSORS}ensemble_scheduling {{ step [ {chain} ] }}\n'
        (self.folder / name / "config.pbtxt").write_text(config)
        return {"name": name, "src": str(self.folder / name), **entry}


def gives(value: int, **more: Any) -> dict[str, Any]:
    """A smoke test: what comes out for a one."""
    return {
        "inputs": [{"name": "IN", "datatype": "INT32", "shape": [1], "data": [1]}],
        "expect": [{"name": "OUT", "data": [value]}],
        **more,
    }


class ModelHost:
    """A host, with an eye to its models: what it serves, would load at a start, and has recorded."""

    def __init__(self, host: labtest.LabHost) -> None:
        self.host = host
        self.sh = host.sh

    def infer(self, name: str, version: int | None = None) -> Any:
        path = f"/v2/models/{name}" + (f"/versions/{version}" if version else "")
        request = {"inputs": [{"name": "IN", "shape": [1], "datatype": "INT32", "data": [1]}]}
        status, answer = self.host.http(f"{path}/infer", request)
        return answer["outputs"][0]["data"][0] if status == 200 else status

    def ready(self) -> list[str]:
        return sorted(name for name, state in self.host.index().items() if state == "READY")

    def served_digest(self, name: str) -> str:
        status, config = self.host.http(f"/v2/models/{name}/config")
        assert status == 200, config
        return config["parameters"]["gpufleet.digest"]["string_value"]

    def start_list(self) -> list[str]:
        return self.sh("cat /etc/gpufleet/triton/server/load-models").split()

    def recorded(self) -> dict[str, str]:
        return {row["name"]: row["digest"] for row in json.loads(self.sh("cat /etc/gpufleet/triton/models.json"))["models"]}

    def manifest(self, name: str, root: str = "/fileServerMountPath") -> dict[str, Any]:
        return json.loads(self.sh(f"cat {root}/data/models/{name}/.gpufleet.json"))

    def on_disk(self) -> list[str]:
        return self.sh("ls /fileServerMountPath/data/models").split()


@pytest.fixture(scope="session")
def server(gpu1: labtest.LabHost) -> ModelHost:
    return ModelHost(gpu1)


@pytest.fixture
def workshop(tmp_path: Path) -> Workshop:
    return Workshop(tmp_path)


@pytest.fixture
def models(play: Callable[..., labtest.Played]) -> Callable[..., labtest.Played]:
    """Run the role with add_sub and the entries given; what an earlier test left goes."""

    def run(*entries: dict[str, Any], **options: Any) -> labtest.Played:
        return play("gpufleet.triton.triton_models", **{"triton_models": [ADD_SUB, *entries], "triton_models_purge": "remove", **options})

    return run


@pytest.fixture
def client(gpu1: labtest.LabHost) -> Iterator[Callable[[str], Callable[[], tuple[list[int], list[str], int]]]]:
    """Start a client in the host; what is returned stops it and gives its answers, its failures and how many answers there were."""
    running: list[subprocess.Popen[str]] = []

    def start(model: str) -> Callable[[], tuple[list[int], list[str], int]]:
        gpu1.sh("rm -f /run/client.stop /run/client.ready")
        argv = ["docker", "exec", gpu1.container, "python3", "-c", textwrap.dedent(CLIENT), model]
        running.append(subprocess.Popen(argv, text=True, stdout=subprocess.PIPE))
        gpu1.sh("for n in $(seq 100); do test -e /run/client.ready && exit 0; sleep 0.1; done; exit 1")

        def stop() -> tuple[list[int], list[str], int]:
            gpu1.sh("touch /run/client.stop")
            return tuple(json.loads(running[-1].communicate(timeout=60)[0]))

        return stop

    yield start
    gpu1.sh("touch /run/client.stop")
    for process in running:
        process.communicate(timeout=60)
