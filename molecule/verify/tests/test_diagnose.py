# Copyright (c) 2026, The gpufleet.triton authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The classical complaints, each brought about for real, and what is said about them."""

from __future__ import annotations

import base64
import json
from pathlib import Path

import labtest
import pytest
from verifytest import IMAGE, MODELS

PLAYBOOK = str(labtest.CHECKOUT / "playbooks/diagnose.yml")
# Where this machine has it, groups of the first version can limit memory, which the hosts of the lab can't.
GROUPS = Path("/sys/fs/cgroup/memory")
GREEDY = "import time\ntime.sleep(3)\nkept = []\nwhile True:\n    kept.append(bytearray(10 << 20))\n"
BROKEN = "class TritonPythonModel:\n    def initialize(self, args):\n        import no_such_library\n"
CONFIG = 'backend: "python"\nmax_batch_size: 0\ninput [ { name: "IN" data_type: TYPE_INT32 dims: [ 1 ] } ]\n'
CONFIG += 'output [ { name: "OUT" data_type: TYPE_INT32 dims: [ 1 ] } ]\n'


def put(path: str, text: str) -> str:
    return f"mkdir -p {path.rpartition('/')[0]} && echo {base64.b64encode(text.encode()).decode()} | base64 -d >{path}"


def processes_of(container: str) -> list[Path]:
    """The processes of a container of a lab host, as this machine sees them."""
    return [path.parent for path in Path("/proc").glob("[0-9]*/cgroup") if container in path.read_text(errors="replace")]


@pytest.fixture(scope="module")
def starved(gpu1, wait_until):
    """A container that the kernel kills because its group may have 100 MiB."""
    if not (GROUPS / "memory.limit_in_bytes").exists():
        pytest.skip("nothing on this machine can limit the memory of a lab host's container")
    group = GROUPS / "gpufleet-molecule-verify"
    group.mkdir(exist_ok=True)
    (group / "memory.limit_in_bytes").write_text("100M")
    code = base64.b64encode(GREEDY.encode()).decode()
    number = gpu1.sh(f"docker run -d --name starved --entrypoint sh {IMAGE} -c 'echo {code} | base64 -d >/tmp/a; exec python3 /tmp/a'")
    for process in processes_of(number):
        (group / "cgroup.procs").write_text(process.name)
    wait_until(lambda: gpu1.sh("docker inspect -f '{{.State.ExitCode}} {{.State.Running}}' starved") == "137 false")
    yield "starved"
    gpu1.sh("docker rm -f starved")
    group.rmdir()


@pytest.fixture(scope="module")
def cramped(gpu1, wait_until):
    """A server whose /dev/shm is too small for a Python model."""
    server = f"{IMAGE} tritonserver --model-repository=/models --model-control-mode=explicit --load-model=add_sub --exit-on-error=false"
    gpu1.sh(f"docker run -d --name cramped --shm-size 512k --user 1000:1000 -v {MODELS}:/models:ro -p 127.0.0.1:9100:8000 {server}")
    wait_until(lambda: gpu1.run("curl -s -o /dev/null -w '%{http_code}' 127.0.0.1:9100/v2/health/live").stdout == "200")
    yield "cramped"
    gpu1.sh("docker rm -f cramped")


@pytest.fixture(scope="module")
def gpuless(gpu1):
    """A container that asks for a GPU where there is none, so that Docker can't start it."""
    assert gpu1.run(f"docker run -d --name gpuless --gpus all {IMAGE} true").rc == 125
    yield "gpuless"
    gpu1.sh("docker rm -f gpuless")


@pytest.fixture(scope="module")
def diagnosed(gpu1, judged, wait_until, starved, cramped, gpuless):
    api = f"curl -s -m 60 -H 'x-gpufleet-admin-key: {gpu1.key}' -X POST 127.0.0.1:8000/v2/repository/models/broken"
    broken = f"{put(f'{MODELS}/broken/1/model.py', BROKEN)} && {put(f'{MODELS}/broken/config.pbtxt', CONFIG)}"
    cases = [
        {"name": "well"},
        {"name": "no GPU", "complaint": "gpu", "container": gpuless},
        {
            "name": "broken model",
            "complaint": "model",
            "before": f"{broken} && {api}/load",
            "after": f"{api}/unload; rm -r {MODELS}/broken",
        },
        {
            "name": "unreadable model",
            "complaint": "permission",
            "before": f"chmod 700 {MODELS}/add_sub && chown root:root {MODELS}/add_sub",
            "after": f"chmod 755 {MODELS}/add_sub",
        },
        # The model is gone, and the server is still not ready: nothing but its readiness shows it.
        {"name": "not ready for good", "complaint": "model"},
        {"name": "killed for memory", "complaint": "memory", "container": starved},
        {"name": "small shm", "complaint": "model,memory", "container": cramped, "http_port": 9100},
    ]
    yield judged("diagnose", cases)
    # A first load that failed keeps a server from being ready until it is restarted.
    gpu1.sh("docker restart triton")
    wait_until(lambda: gpu1.http("/v2/health/ready")[0] == 200)


def errors(result: dict, complaint: str) -> list[dict]:
    return [row for row in result["findings"] if row["complaint"] == complaint and row["severity"] == "error"]


def test_a_host_that_is_well(diagnosed):
    found = diagnosed["well"]
    assert not found["trouble"], found["text"]
    assert [line for line in found["text"] if "no sign of it" in line] == [
        "GPU not available: no sign of it",
        "model loading failed: no sign of it",
        "out of memory: no sign of it",
        "permission denied: no sign of it",
    ]


def test_gpu_not_available(diagnosed):
    first, second = errors(diagnosed["no GPU"], "gpu")
    assert first["what"] == "This host has no NVIDIA GPU"
    assert "lspci -d 10de:" in first["remedy"]
    assert second["what"] == "Docker could not give container 'gpuless' its GPU"
    assert 'could not select device driver "" with capabilities: [[gpu]]' in second["seen"][0]
    assert "systemctl restart docker" in second["remedy"]


def test_a_model_that_fails_to_load(diagnosed):
    (found,) = errors(diagnosed["broken model"], "model")
    assert found["what"] == "Model 'broken' version 1 failed to load"
    assert found["why"] == "the image's Python does not have no_such_library"
    assert "No module named 'no_such_library'" in found["seen"][0]
    assert "ansible-playbook gpufleet.triton.models" in found["remedy"]


def test_a_server_that_a_failed_load_keeps_from_being_ready(diagnosed):
    found, culprit = errors(diagnosed["not ready for good"], "model")
    assert found["what"] == "The server is not ready, and no model explains it"
    # Which it was is in the log alone.
    assert culprit["what"] == "Model 'broken' version 1 failed to load"
    assert found["remedy"].startswith("run: systemctl restart triton")


def test_a_model_that_the_server_may_not_read(diagnosed):
    (found,) = errors(diagnosed["unreadable model"], "permission")
    assert found["what"] == f"User 1000:1000, as which Triton runs, can't read {MODELS}/add_sub"
    assert found["seen"] == [f"0700 0:0 {MODELS}/add_sub"]
    assert found["remedy"] == f"run: chmod -R o+rX {MODELS}"


def test_a_container_that_was_killed_for_memory(diagnosed):
    (found,) = errors(diagnosed["killed for memory"], "memory")
    assert found["what"] == "The container 'starved' was killed by its memory limit"
    assert "the kernel killed python3" in found["why"]
    assert "triton_server_memory_limit" in found["remedy"]
    assert any("Memory cgroup out of memory: Killed process" in line for line in found["seen"])


def test_shared_memory_that_is_too_small(diagnosed):
    (found,) = errors(diagnosed["small shm"], "memory")
    assert found["what"] == "/dev/shm is too small"
    assert "triton_server_shm_size=4g (now 512 KiB)" in found["remedy"]
    models = errors(diagnosed["small shm"], "model")
    assert [row["what"] for row in models] == ["Model 'add_sub' version 1 failed to load", "/dev/shm is too small"]
    assert "/dev/shm is too small for its instances" in models[0]["why"]


def test_the_remedies_mend(gpu1, diagnosed):
    """What is said to mend it does: run as it stands, without its first word."""
    gpu1.sh(f"chmod 700 {MODELS}/add_sub")
    (found,) = errors(diagnosed["unreadable model"], "permission")
    gpu1.sh(found["remedy"].removeprefix("run: "))
    assert gpu1.sh(f"stat -c %a {MODELS}/add_sub") in ("705", "755")
    gpu1.sh(f"docker exec --user 1000:1000 triton cat /models/add_sub/config.pbtxt && chmod 755 {MODELS}/add_sub")


def test_the_playbook_changes_nothing_and_writes_json(gpu1, play, tmp_path):
    command = "docker ps -aq --no-trunc; find /etc/gpufleet /fileServerMountPath -printf '%p %s %m %U:%G %T@\\n' | sort"
    before = gpu1.sh(command)
    done = play(playbook=PLAYBOOK, complaint="permission,memory", diagnose_json=str(tmp_path / "found.json"))
    assert done.rc == 0, done.text
    assert "out of memory: no sign of it" in done.text
    assert "model loading failed" not in done.text
    assert gpu1.sh(command) == before
    found = json.loads((tmp_path / "found.json").read_text())
    assert found["gpu1"]["trouble"] is False
