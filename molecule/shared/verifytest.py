# Copyright (c) 2026, The gpufleet.triton authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A host in many states, judged in one run; the doubles of a GPU: a plugin that labtest brings along."""

from __future__ import annotations

import base64
import json
import textwrap

import labtest
import pytest

IMAGE = "gpufleet-lab/triton:2.51.0"
MODELS = "/fileServerMountPath/data/models"
SCENARIO = labtest.CHECKOUT / "molecule/verify"
DOUBLE = labtest.CHECKOUT / "tests/integration/targets/gpu_info/files/nvidia_smi.py"
HOME = "/opt/gpu-double"
CARD = "0000:1a:00.0"
UUID = "GPU-01000100-0000-0000-0000-000000000000"
DRIVER = "580.159.03"
SPEC = f"""\
cdiVersion: "0.6.0"
kind: nvidia.com/gpu
devices:
- name: "0"
  containerEdits:
    deviceNodes:
    - path: /dev/nvidia0
- name: all
  containerEdits:
    deviceNodes:
    - path: /dev/nvidia0
containerEdits:
  env:
  - NVIDIA_VISIBLE_DEVICES=void
  deviceNodes:
  - path: /dev/nvidiactl
  mounts:
  - hostPath: {HOME}/host/nvidia-smi
    containerPath: /usr/bin/nvidia-smi
    options: [ro, nosuid, nodev, bind]
  - hostPath: {HOME}/container
    containerPath: /usr/bin/state
    options: [ro, nosuid, nodev, bind]
"""


def write(host: labtest.LabHost, path: str, text: str, mode: str = "644") -> None:
    encoded = base64.b64encode(text.encode()).decode()
    host.sh(f"mkdir -p {path.rpartition('/')[0]} && echo {encoded} | base64 -d >{path} && chmod {mode} {path}")


def smi(where: str, fault: str | None = None, lost: int = 0) -> str:
    """A command that has nvidia-smi answer so, on the host or in containers: for one GPU, and those that are lost."""
    state = json.dumps({"driver": DRIVER, "fault": fault, "gpus": [{}, *[{"lost": True}] * lost]})
    return f"echo '{state}' >{HOME}/{where}/state.json"


@pytest.fixture(scope="session")
def add_sub() -> dict:
    tensors = {"INPUT0": [1, 2, 3, 4], "INPUT1": [10, 20, 30, 40]}
    inputs = [{"name": name, "data": [data]} for name, data in tensors.items()]
    return {"name": "add_sub", "smoke": {"inputs": inputs, "expect": [{"name": "OUTPUT0", "data": [[11, 22, 33, 44]]}]}}


@pytest.fixture(scope="session")
def judged(play, tmp_path_factory, add_sub):
    """Bring the host into each state, judge it and bring it back; the results by the states' names."""

    def run(entry_point: str, cases: list[dict]) -> dict[str, dict]:
        file = tmp_path_factory.mktemp("cases") / "results.json"
        cases = [{"models": [add_sub], **case} for case in cases]
        done = play(playbook=str(SCENARIO / "cases.yml"), entry_point=entry_point, cases=cases, results_file=str(file))
        assert done.rc == 0, done.text
        return json.loads(file.read_text())

    return run


@pytest.fixture(scope="session")
def gpu_host(gpu1, wait_until):
    """Lend the host the doubles: a card in sysfs, nvidia-smi, nvidia-ctk, device nodes, a CDI specification, Triton's GPU metrics.

    Docker, CDI and the containers are real. The server in the container is the CPU build, which sees no GPU, and says so.
    """
    code = DOUBLE.read_text().replace('Path(__file__).with_name("state.json")', "Path(STATE)")
    place = 'import os\nSTATE = next(p for p in ("/usr/bin/state/state.json", "/opt/gpu-double/host/state.json") if os.path.exists(p))\n'
    code = code.replace("import json\n", f"import json\n{place}", 1)
    assert code.count("STATE") == 2
    write(gpu1, f"{HOME}/host/nvidia-smi", f"#!/usr/bin/env python3\n{code}", "755")
    write(gpu1, "/usr/local/bin/nvidia-ctk", "#!/bin/sh\necho NVIDIA Container Toolkit CLI version 1.20.0\n", "755")
    write(gpu1, "/etc/cdi/nvidia.yaml", SPEC)
    write(gpu1, f"{HOME}/metrics/metrics", f'nv_gpu_memory_total_bytes{{gpu_uuid="{UUID}"}} 85899345920.000000\n')
    card = f"/run/pci-double/{CARD}"
    script = f"""
        mkdir -p {HOME}/container {card}
        {smi("host")}; {smi("container")}
        ln -sf {HOME}/host/nvidia-smi /usr/local/bin/nvidia-smi
        echo 0x10de >{card}/vendor; echo 0x2330 >{card}/device; echo 0x030200 >{card}/class
        mount --bind /run/pci-double /sys/bus/pci/devices
        mknod -m 666 /dev/nvidia0 c 1 3; mknod -m 666 /dev/nvidiactl c 1 3
        cp -a /etc/docker/daemon.json {HOME}/ 2>/dev/null
        echo '{{"features": {{"cdi": true}}}}' >/etc/docker/daemon.json
        systemctl restart docker
        systemd-run --quiet --unit metrics-double python3 -m http.server --bind 127.0.0.1 --directory {HOME}/metrics 9402
        docker run -d --name triton-gpu --device nvidia.com/gpu=all --user 1000:1000 --shm-size 256m -v {MODELS}:/models:ro \
            -p 127.0.0.1:9000:8000 {IMAGE} tritonserver --model-repository=/models --model-control-mode=explicit --load-model=add_sub
    """
    gpu1.sh(textwrap.dedent(script))
    ready = "curl -s -o /dev/null -w '%{http_code}' 127.0.0.1:%d/v2/health/ready"
    wait_until(lambda: gpu1.run(ready.replace("%d", "9000")).stdout == gpu1.run(ready.replace("%d", "8000")).stdout == "200")
    yield gpu1
    script = f"""
        docker rm -f triton-gpu; systemctl stop metrics-double; umount /sys/bus/pci/devices
        rm -rf /etc/cdi/nvidia.yaml /usr/local/bin/nvidia-smi /usr/local/bin/nvidia-ctk /dev/nvidia0 /dev/nvidiactl /etc/docker/daemon.json
        mv {HOME}/daemon.json /etc/docker/ 2>/dev/null; rm -rf {HOME}; systemctl restart docker
    """
    gpu1.sh(textwrap.dedent(script))
    wait_until(lambda: gpu1.run(ready.replace("%d", "8000")).stdout == "200")
