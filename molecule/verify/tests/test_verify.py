# Copyright (c) 2026, The gpufleet.triton authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A host is verified from the driver to an inference. A real Docker and a real Triton; what needs silicon is doubled."""

from __future__ import annotations

import json

import labtest
import pytest
from verifytest import HOME, UUID, smi

PLAYBOOK = str(labtest.CHECKOUT / "playbooks/verify.yml")
REPORT = "/run/gpufleet/verified.json"
METRICS = "/run/textfile/gpufleet_verify.prom"
STEPS = ["driver", "toolkit", "container", "triton", "inference"]


def state(host: labtest.LabHost) -> tuple:
    """What a verification must leave as it is: containers, images, files of the server and of the repository."""
    files = host.sh("find /etc/gpufleet /etc/docker /fileServerMountPath /etc/systemd/system -printf '%p %s %m %U:%G %T@\\n' | sort")
    containers = host.sh("docker ps -a --no-trunc --format '{{.ID}} {{.Names}} {{.State}}' | sort")
    return files, containers, host.sh("docker images -q --no-trunc"), host.index()


def test_check_mode_verifies_and_writes_nothing(gpu1, play):
    gpu1.sh("rm -rf /run/gpufleet /run/textfile; mkdir /run/textfile")
    before = state(gpu1)
    done = play(playbook=PLAYBOOK, check=True, triton_server_verify_textfile_directory="/run/textfile")
    assert done.rc == 0, done.text
    assert "Fit to serve on the CPU (no NVIDIA GPU): Triton 2.51.0 is ready" in done.text
    assert "(check mode: nothing was written)" in done.text
    assert gpu1.run(f"test -e {REPORT} || test -e {METRICS}").rc != 0
    assert state(gpu1) == before


def test_a_host_for_the_cpu(gpu1, play):
    gpu1.sh("mkdir -p /run/textfile")
    before = state(gpu1)
    done = play(playbook=PLAYBOOK, triton_server_verify_textfile_directory="/run/textfile")
    assert done.rc == 0, done.text
    assert done.counts["changed"] == 0
    assert state(gpu1) == before
    report = json.loads(gpu1.sh(f"cat {REPORT}"))
    assert report["verdict"] in done.text
    assert report["verdict"].startswith("Fit to serve on the CPU (no NVIDIA GPU): Triton 2.51.0 is ready, add_sub version 1 answered in ")
    assert "not checked" not in report["verdict"]
    assert [step["status"] for step in report["steps"]] == ["skipped"] * 3 + ["passed"] * 2
    assert abs(report["timestamp"] - int(gpu1.sh("date +%s"))) < 120
    samples = dict(line.rsplit(" ", 1) for line in gpu1.sh(f"cat {METRICS}").splitlines() if not line.startswith("#"))
    assert samples["gpufleet_verify_fit"] == "1"
    assert samples["gpufleet_verify_gpu"] == "0"
    assert samples['gpufleet_verify_step_passed{step="inference"}'] == "1"
    assert gpu1.sh("ls -A /run/textfile") == "gpufleet_verify.prom"
    assert gpu1.sh(f"stat -c %a {METRICS}") == "644"


def test_a_host_that_is_not_fit_fails(gpu1, play):
    """The server is down: the play ends with an error, and the report and the metrics say so."""
    gpu1.sh("systemctl stop triton")
    try:
        done = play(playbook=PLAYBOOK, triton_server_verify_textfile_directory="/run/textfile")
    finally:
        gpu1.sh("systemctl start triton")
    assert done.rc != 0
    assert done.counts["failed"] == 1
    assert "Not fit to serve on the CPU (no NVIDIA GPU), triton: Container 'triton' is " in done.text
    report = json.loads(gpu1.sh(f"cat {REPORT}"))
    assert report["fit"] is False
    assert [step["status"] for step in report["steps"]] == ["skipped"] * 3 + ["failed", "not_reached"]
    assert "gpufleet_verify_fit 0\n" in gpu1.sh(f"cat {METRICS}")


# A state, the step that fails in it, and words of what, why and remedy.
FAULTS = {
    "no driver": ("driver", "There is no NVIDIA driver", "1 NVIDIA GPU on the PCI bus", "install it"),
    "mismatch": ("driver", "Driver/library version mismatch", "the driver was changed|loaded is", "reboot"),
    "lost GPU": ("driver", "is lost", "GPU is lost", "reboot the host"),
    "no node": ("toolkit", "names missing device nodes", "/dev/nvidia0", "create-device-nodes"),
    "NVML fails in containers": ("container", "A container gets no GPU by CDI", "Unknown Error", "systemctl restart triton"),
    "Triton sees no GPU": ("triton", "Triton does not see the GPU", "CUDA driver version is insufficient", "a driver that is new enough"),
    "Triton down": ("triton", "Container 'triton-gpu' is exited", "", "start it again"),
    "wrong answer": ("inference", "Output 'OUTPUT0' of model 'add_sub' is not as expected", "1 of 4 elements", "look at the model"),
}


@pytest.fixture(scope="module")
def verified(gpu_host, judged, add_sub):
    served = {"container": "triton-gpu", "http_port": 9000, "metrics_port": 9402}
    wrong = json.loads(json.dumps(add_sub))
    wrong["smoke"]["expect"][0]["data"] = [[11, 22, 33, 45]]
    cases = [
        {"name": "fit"},
        {"name": "no driver", "before": smi("host", "no_driver"), "after": smi("host")},
        {"name": "mismatch", "before": smi("host", "mismatch"), "after": smi("host")},
        {"name": "lost GPU", "before": smi("host", lost=1), "after": smi("host")},
        {"name": "no node", "before": "rm /dev/nvidia0", "after": "mknod -m 666 /dev/nvidia0 c 1 3"},
        {"name": "NVML fails in containers", "before": smi("container", "unknown_error"), "after": smi("container")},
        {"name": "Triton sees no GPU", "metrics_port": 8002},
        {"name": "wrong answer", "models": [wrong]},
        {"name": "Triton down", "before": "docker stop triton-gpu", "after": "docker start triton-gpu"},
    ]
    before = state(gpu_host)
    results = judged("verify", [{**served, **case} for case in cases])
    after = state(gpu_host)
    assert after[1:] == before[1:]
    return results


def test_a_host_with_a_gpu(verified):
    found = verified["fit"]
    assert found["fit"], found["verdict"]
    assert found["verdict"].startswith(
        "Fit to serve: 1 x NVIDIA H100 80GB HBM3, driver 580.159.03, toolkit 1.20.0, Docker 26.1.5+dfsg1, 1 GPU in a container, by CDI, "
        "Triton 2.51.0 is ready, 1 GPU, add_sub version 1 answered in "
    )
    assert [step["status"] for step in found["steps"]] == ["passed"] * 5
    assert found["gpus"][0]["uuid"] == UUID
    assert found["written"] == [REPORT]


@pytest.mark.parametrize("case", FAULTS)
def test_each_step_fails_with_its_own_remedy(verified, case):
    step, what, why, remedy = FAULTS[case]
    found = verified[case]
    assert not found["fit"]
    place = STEPS.index(step)
    expected = ["passed"] * place + ["failed"] + ["not_reached"] * (4 - place)
    assert [row["status"] for row in found["steps"]] == expected, found["verdict"]
    problem = found["steps"][place]["problem"]
    assert what in problem["what"]
    assert any(word in problem["why"] for word in why.split("|")), problem
    assert remedy in problem["remedy"]
    assert problem["what"][1:] in found["verdict"]
    assert f"Not fit to serve, {step}: " in found["verdict"]


def test_doubles_are_doubles(gpu_host):
    """What the host's nvidia-smi says comes out of a state file: nothing here was computed on a GPU."""
    assert UUID in gpu_host.sh("nvidia-smi --query-gpu=uuid,name --format=csv,noheader")
    assert gpu_host.sh(f"ls {HOME}/host") == "nvidia-smi\nstate.json"
