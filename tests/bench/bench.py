# Copyright (c) 2026, The gpufleet.triton authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Measure what the collection is quick at: `make bench`. It is no test: nothing fails because it was slow.

Loads 20 models, each of which takes a second, on a real Triton by triton_model, by a loop of ansible.builtin.uri over the
same API, and by a plain threaded client; then all once more with nothing left to do; then runs site.yml on the demo's
hosts, which it changes nothing on. For each it counts seconds and the modules executed per host, and writes
them with the ratios and the machine's facts to results/.
"""

from __future__ import annotations

import collections
import datetime
import json
import os
import platform
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import version
from pathlib import Path

import requests

BENCH = Path(__file__).resolve().parent
CHECKOUT = BENCH.parents[1]
FLEET = CHECKOUT / "examples" / "fleet"

IMAGE = "gpufleet-lab/triton:2.51.0"
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

Measure = dict[str, object]


def output(*argv: str) -> str:
    return subprocess.run(argv, text=True, check=True, stdout=subprocess.PIPE).stdout.strip()


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


def processor_seconds() -> float:
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in used)


def measured(what: Callable[[], Measure]) -> Measure:
    """The seconds that it took and the processor's seconds, of this process and those that it waited for."""
    cpu, begin = processor_seconds(), time.monotonic()
    result = what()
    return {"seconds": round(time.monotonic() - begin, 2), "cpu_seconds": round(processor_seconds() - cpu, 2), **result}


def playbook(*arguments: str, cwd: Path) -> Measure:
    """Run a playbook; return the modules executed per host, on the one that had most, and what the recap says."""
    with tempfile.NamedTemporaryFile("r", prefix="gpufleet-bench-") as calls:
        env = {
            **os.environ,
            "ANSIBLE_CALLBACK_PLUGINS": str(BENCH / "callback_plugins"),
            "ANSIBLE_CALLBACKS_ENABLED": "count_modules",
            "GPUFLEET_COUNT_MODULES": calls.name,
        }
        done = subprocess.run(["ansible-playbook", *arguments], cwd=cwd, env=env, text=True, capture_output=True, check=False)
        if done.returncode:
            command = f"ansible-playbook {' '.join(arguments)}"
            raise RuntimeError(f"Cannot measure: {command} ended with {done.returncode}:\n{done.stdout}{done.stderr}")
        per_host: dict[str, collections.Counter[str]] = collections.defaultdict(collections.Counter)
        for line in calls:
            host, module = line.split()
            per_host[host][module] += 1
    modules = max(per_host.values(), key=collections.Counter.total, default=collections.Counter())
    changed = sum(int(word.removeprefix("changed=")) for word in done.stdout.split() if word.startswith("changed="))
    return {"modules_per_host": modules.total(), "modules": dict(modules), "changed": changed}


def load(server: Server, way: str) -> Measure:
    values = {"bench_url": server.url, "bench_models": [{"name": name} for name in MODELS], "bench_way": way}
    connection = {"ansible_connection": "local", "ansible_python_interpreter": sys.executable}
    return playbook("-i", "triton,", "-e", json.dumps({**values, **connection}), "load.yml", cwd=BENCH)


def load_by_threads(server: Server) -> Measure:
    with requests.Session() as session, ThreadPoolExecutor(PARALLEL) as pool:
        for answer in pool.map(lambda name: session.post(f"{server.url}/v2/repository/models/{name}/load", timeout=60), MODELS):
            answer.raise_for_status()
    return {"modules_per_host": 0}


def bench_loads() -> dict[str, Measure]:
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
    return results


def bench_site() -> Measure:
    inventories = ["-i", "inventory.yml", "-i", str(CHECKOUT / "molecule" / "shared" / "inventory")]
    result = measured(lambda: playbook(*inventories, "site.yml", "-l", "gpu_hosts", cwd=FLEET))
    if result["changed"]:
        wanted = "wanted a run of site.yml that changes nothing"
        raise RuntimeError(f"Cannot measure: {wanted}, got changed={result['changed']}. Run it again.")
    return {**result, "hosts": 2}


def machine() -> dict[str, object]:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    cpu = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "")
    memory = int(Path("/proc/meminfo").read_text().split()[1])
    return {
        "cores": os.cpu_count(),
        "cpu": cpu,
        "memory_gib": round(memory / 1024**2, 1),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "ansible_core": version("ansible-core"),
        "docker": output("docker", "version", "--format", "{{.Server.Version}}"),
        "triton": IMAGE.rpartition(":")[2],
    }


def main() -> None:
    loads = bench_loads()
    site = bench_site()
    measures = {**loads, "site.yml, nothing to do": site}

    def ratio(slow: str, quick: str) -> float:
        return round(float(str(measures[slow]["seconds"])) / float(str(measures[quick]["seconds"])), 2)

    now = datetime.datetime.now(datetime.timezone.utc)
    result = {
        "when": now.isoformat(timespec="seconds"),
        "machine": machine(),
        "models": len(MODELS),
        "load_seconds_of_each": LOAD_SECONDS,
        "parallel": PARALLEL,
        "measures": measures,
        "ratios": {
            "uri loop / triton_model": ratio("uri loop", "triton_model"),
            "uri loop / triton_model, again": ratio("uri loop, again", "triton_model, again"),
            "triton_model / threaded client": ratio("triton_model", "threaded client"),
        },
    }
    target = BENCH / "results" / f"{now:%Y%m%dT%H%M%SZ}.json"
    target.parent.mkdir(exist_ok=True)
    target.write_text(json.dumps(result, indent=2) + "\n")

    print(f"{'':28} {'seconds':>8} {'of processor':>13} {'modules per host':>17}")
    for name, measure in measures.items():
        print(f"{name:28} {measure['seconds']:8.2f} {measure['cpu_seconds']:13.2f} {measure['modules_per_host']:17}")
    for name, value in result["ratios"].items():
        print(f"{name:38} {value:6.2f}")
    print(f"written to {target.relative_to(CHECKOUT)}")


if __name__ == "__main__":
    main()
