# Copyright (c) 2026, The gpufleet.triton authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""20 models, each of which takes a second to load, on a real Triton.

By triton_model, by a loop of ansible.builtin.uri over the same API, and by a plain threaded client; then all once more
with nothing left to do.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import requests
from measure import BENCH, CHECKOUT, IMAGE, Measure, measured, output, playbook, ratio

CONTAINER = "gpufleet-bench-triton"
MODELS = [f"slow_{number:02}" for number in range(1, 21)]
LOAD_SECONDS = 1
PARALLEL = 4

CONFIG = """\
name: "{name}"
backend: "python"
input {{ name: "IN" data_type: TYPE_FP32 dims: [ 1 ] }}
output {{ name: "OUT" data_type: TYPE_FP32 dims: [ 1 ] }}
instance_group {{ kind: KIND_CPU }}
"""
MODEL = f"""\
import time


class TritonPythonModel:
    def initialize(self, args):
        time.sleep({LOAD_SECONDS})

    def execute(self, requests):
        return [None for request in requests]
"""


class Server:
    """A real Triton in a container, with the models of the benchmark and none loaded."""

    def __init__(self, repository: Path) -> None:
        for name in MODELS:
            folder = repository / name
            (folder / "1").mkdir(parents=True)
            (folder / "config.pbtxt").write_text(CONFIG.format(name=name))
            (folder / "1" / "model.py").write_text(MODEL)
        repository.chmod(0o755)
        self.repository = repository
        self.url = ""

    def __enter__(self) -> Server:
        subprocess.run(["docker", "rm", "--force", CONTAINER], check=False, capture_output=True)
        labels = ["--label=gpufleet.lab=gpufleet-bench", f"--label=gpufleet.checkout={CHECKOUT}"]
        # Completing a configuration starts a Python model once more. It is complete, so that a load takes what it is said to take.
        command = ["tritonserver", "--model-repository=/models", "--model-control-mode=explicit", "--disable-auto-complete-config"]
        output("docker", "run", "--detach", f"--name={CONTAINER}", *labels, "--publish=127.0.0.1::8000",
               "--user=1000:1000", f"--volume={self.repository}:/models:ro", IMAGE, *command)  # fmt: skip
        self.url = f"http://{output('docker', 'port', CONTAINER, '8000').splitlines()[0]}"
        self.wait(lambda: requests.get(f"{self.url}/v2/health/ready", timeout=5).ok)
        return self

    def __exit__(self, *exc: object) -> None:
        subprocess.run(["docker", "rm", "--force", CONTAINER], check=True, capture_output=True)

    @staticmethod
    def wait(condition: Callable[[], bool], seconds: float = 60) -> None:
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            try:
                if condition():
                    return
            except requests.ConnectionError:
                pass
            time.sleep(0.2)
        raise TimeoutError(f"Cannot measure: {CONTAINER} did not get ready within {seconds} s. See: docker logs {CONTAINER}")

    def ready(self) -> int:
        rows = requests.post(f"{self.url}/v2/repository/index", json={}, timeout=30).json()
        return sum(row.get("state") == "READY" for row in rows)

    def unload(self) -> None:
        for name in MODELS:
            requests.post(f"{self.url}/v2/repository/models/{name}/unload", timeout=30).raise_for_status()
        self.wait(lambda: requests.get(f"{self.url}/v2/health/ready", timeout=5).ok and self.ready() == 0)


def load(server: Server, way: str) -> Measure:
    values = {"bench_url": server.url, "bench_models": [{"name": name} for name in MODELS], "bench_way": way}
    connection = {"ansible_connection": "local", "ansible_python_interpreter": sys.executable}
    return playbook("-i", "triton,", "-e", json.dumps({**values, **connection}), "load.yml", cwd=BENCH)


def load_by_threads(server: Server) -> Measure:
    with requests.Session() as session, ThreadPoolExecutor(PARALLEL) as pool:
        for answer in pool.map(lambda name: session.post(f"{server.url}/v2/repository/models/{name}/load", timeout=60), MODELS):
            answer.raise_for_status()
    return {"modules_per_host": 0}


def bench_loads() -> dict[str, object]:
    results: dict[str, Measure] = {}
    with tempfile.TemporaryDirectory(prefix="gpufleet-bench-") as repository, Server(Path(repository)) as server:
        ways: dict[str, Callable[[], Measure]] = {
            "triton_model": lambda: load(server, "module"),
            "uri loop": lambda: load(server, "uri"),
            "threaded client": lambda: load_by_threads(server),
        }
        results["ansible without a module"] = measured(lambda: load(server, "none"))
        for name, way in ways.items():
            results[name] = measured(way)
            if server.ready() != len(MODELS):
                raise RuntimeError(f"Cannot measure: wanted {len(MODELS)} models READY after {name}, got {server.ready()}")
            results[f"{name}, again"] = measured(way)
            server.unload()
    for number in results.values():
        number.update(models=len(MODELS), load_seconds_of_each=LOAD_SECONDS, parallel=PARALLEL)
    return {
        "measures": results,
        "ratios": {
            "uri loop / triton_model": ratio(results["uri loop"], results["triton_model"]),
            "uri loop / triton_model, again": ratio(results["uri loop, again"], results["triton_model, again"]),
            "triton_model / threaded client": ratio(results["triton_model"], results["threaded client"]),
        },
    }
