# Copyright (c) 2026, The gpufleet.triton authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The role triton_models where nothing is left to do: 50 models of 20 GB, served by a real Triton on a host of the lab.

Their large files are sparse and alike, so that they need no room here; on the host each is a file of its own. Whether a run
reads them is asked of the kernel: what is read comes into the page cache, from which all of it was dropped before.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from measure import BENCH, CHECKOUT, Measure, measured, middle, output, playbook

LAB = "gpufleet-bench"
HOST = f"{LAB}-host1"
MODELS = [f"idle_{number:02}" for number in range(1, 51)]
EACH = 400 * 1000**2
TIMES = 3
ON_HOST = "/fileServerMountPath/data/models"
CONFIG = """\
backend: "python"
input [ {{ name: "IN" data_type: TYPE_FP32 dims: [ 1 ] }} ]
output [ {{ name: "OUT" data_type: TYPE_FP32 dims: [ 1 ] }} ]
instance_group {{ kind: KIND_CPU }}
parameters {{ key: "name" value {{ string_value: "{name}" }} }}
"""
CODE = """\
class TritonPythonModel:
    def execute(self, requests):
        return [None for request in requests]
"""
# Writes nothing: it tells the kernel to forget the file.
FORGET = r"find {0} -name weights.bin -exec dd of={{}} oflag=nocache conv=notrunc,fdatasync count=0 status=none \;"
RESIDENT = "find {0} -name weights.bin -exec fincore --bytes --noheadings --output RES {{}} +"


def write_models(folder: Path) -> None:
    for name in MODELS:
        (folder / name / "1").mkdir(parents=True)
        (folder / name / "config.pbtxt").write_text(CONFIG.format(name=name))
        (folder / name / "1" / "model.py").write_text(CODE)
        with (folder / name / "1" / "weights.bin").open("wb") as file:
            file.truncate(EACH)


def resident(where: str, *before: str) -> int:
    return sum(map(int, output(*before, "sh", "-ec", RESIDENT.format(where)).split()))


def bench_nothing() -> dict[str, object]:
    lab = [sys.executable, str(CHECKOUT / "molecule" / "shared" / "lab.py")]
    on_host = ("docker", "exec", HOST)
    with tempfile.TemporaryDirectory(prefix="gpufleet-bench-") as work:
        sources = Path(work) / "models"
        write_models(sources)
        (Path(work) / "inventory.json").write_text(json.dumps({"gpu_hosts": {"hosts": {"host1": {}}}}))
        values = {"triton_models": [{"name": name, "src": str(sources / name)} for name in MODELS]}
        inventories = ["-i", f"{work}/inventory.json", "-i", str(CHECKOUT / "molecule" / "shared" / "inventory")]
        environment = {"GPUFLEET_LAB": LAB, "XDG_CACHE_HOME": f"{work}/cache"}

        def run(name: str) -> Measure:
            return playbook(*inventories, "-e", json.dumps(values), name, cwd=BENCH, environment=environment)

        try:
            output(*lab, "up", LAB, "host1")
            output(*on_host, "sh", "-ec", "apt-get -qq update && DEBIAN_FRONTEND=noninteractive apt-get -qq -y install util-linux-extra")
            first = measured(lambda: run("gpufleet.triton.site"))
            again: list[Measure] = []
            for _number in range(TIMES):
                os.sync()
                for before, where in (((), str(sources)), (on_host, ON_HOST)):
                    subprocess.run([*before, "sh", "-ec", FORGET.format(where)], check=True)
                already = resident(str(sources)), resident(ON_HOST, *on_host)
                result = measured(lambda: run("gpufleet.triton.models"))
                if result["changed"]:
                    raise RuntimeError(f"Cannot measure: wanted a run that changes nothing, got changed={result['changed']}. Run it again.")
                read = resident(str(sources)) - already[0], resident(ON_HOST, *on_host) - already[1]
                again.append({**result, "bytes_read_on_controller": read[0], "bytes_read_on_host": read[1]})
            # What is read is seen: else the numbers above would say nothing.
            output(*on_host, "sha256sum", f"{ON_HOST}/{MODELS[0]}/1/weights.bin")
            if resident(ON_HOST, *on_host) < EACH:
                raise RuntimeError(f"Cannot measure: a file of {EACH} bytes was read, and the kernel has fewer of them in its cache.")
        finally:
            output(*lab, "down", LAB)
    size = {"models": len(MODELS), "bytes": EACH * len(MODELS)}
    return {
        "measures": {
            "50 models of 20 GB: site.yml on a bare host": {**first, **size},
            "50 models of 20 GB: models.yml, nothing to do": {**middle(again), **size},
        },
        "ratios": {},
    }
