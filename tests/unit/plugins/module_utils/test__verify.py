# Copyright (c) 2026, The gpufleet.triton authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import typing as t
from pathlib import Path

import pytest
from ansible_collections.gpufleet.triton.plugins.module_utils import _verify
from ansible_collections.gpufleet.triton.plugins.module_utils._problem import Problem, ProblemError
from ansible_collections.gpufleet.triton.plugins.module_utils._proc import CommandResult
from ansible_collections.gpufleet.triton.tests.unit.plugins.module_utils.gpu_host import GpuHost

UUIDS = [f"GPU-01000100-0000-0000-0000-{number:012d}" for number in range(8)]
NO_CUDA = (
    'W1126 07:52:47.336773 1 pinned_memory_manager.cc:273] "Unable to allocate pinned system memory, pinned memory pool will not be '
    'available: CUDA driver version is insufficient for CUDA runtime version"'
)
POOL = 'I1126 07:52:47.337100 1 cuda_memory_manager.cc:107] "CUDA memory pool is created on device 0 with size 67108864"'
ANSWERED = {"model_name": "m", "model_version": "1", "latency": {"p50": 1.5}, "problems": [], "checked": True}


def listing(count: int, rc: int = 0) -> CommandResult:
    return CommandResult(rc, "\n".join(f"{uuid}, NVIDIA H100 80GB HBM3" for uuid in UUIDS[:count]), "")


def metrics(count: int) -> str:
    return "\n".join(f'nv_gpu_memory_total_bytes{{gpu_uuid="{uuid}"}} 85899345920.000000' for uuid in UUIDS[:count])


class Served:
    """A GpuHost that serves. A test changes one answer."""

    def __init__(self, host: GpuHost, gpus: int = 1) -> None:
        self.host = host.healthy(gpus) if gpus else host
        self.asked: list[str] = []
        self.container = listing(gpus)
        self.state = _verify.TritonState(version="2.72.0", asked=listing(gpus), metrics=metrics(gpus))
        self.result: dict[str, t.Any] | None = dict(ANSWERED)

    def facts(self) -> dict[str, t.Any]:
        return self.host.collect()

    def fresh(self, facts: dict[str, t.Any]) -> tuple[str, CommandResult]:
        self.asked.append("container")
        assert facts["kernel"]
        return "CDI", self.container

    def triton(self, with_gpu: bool) -> _verify.TritonState:
        self.asked.append("triton" if with_gpu else "triton without GPU")
        return self.state

    def infer(self) -> dict[str, t.Any] | None:
        self.asked.append("inference")
        return self.result

    def verify(self, **options: t.Any) -> _verify.Verdict:
        return _verify.Verification(self, **options).run()


@pytest.fixture
def bare(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> GpuHost:
    return GpuHost(tmp_path, monkeypatch)


@pytest.fixture
def served(bare: GpuHost) -> Served:
    return Served(bare)


def statuses(verdict: _verify.Verdict) -> list[str]:
    assert [step.name for step in verdict.steps] == list(_verify.STEPS)
    return [step.status for step in verdict.steps]


def failed(verdict: _verify.Verdict) -> tuple[str, Problem]:
    """The step that failed, with all before it passed and none after it reached."""
    found = statuses(verdict)
    place = found.index("failed")
    assert set(found[:place]) <= {"passed", "skipped"}
    assert set(found[place + 1 :]) <= {"not_reached"}
    step = verdict.steps[place]
    assert step.problem is not None
    assert step.problem.remedy
    assert not verdict.fit
    assert verdict.line.startswith("Not fit to serve")
    assert step.problem.what[1:] in verdict.line
    return step.name, step.problem


def test_a_host_that_is_right(served: Served) -> None:
    verdict = served.verify()
    assert statuses(verdict) == ["passed"] * 5
    assert verdict.fit
    assert verdict.line == (
        "Fit to serve: 1 x NVIDIA H100 80GB HBM3, driver 580.159.03 (open), toolkit 1.20.0, Docker 28.5.1, 1 GPU in a container, by CDI, "
        "Triton 2.72.0 is ready, 1 GPU, m version 1 answered in 1.5 ms"
    )
    assert verdict.problems == []


def test_a_host_without_a_gpu(bare: GpuHost) -> None:
    served = Served(bare, 0)
    verdict = served.verify()
    assert statuses(verdict) == ["skipped", "skipped", "skipped", "passed", "passed"]
    assert served.asked == ["triton without GPU", "inference"]
    assert verdict.line.startswith("Fit to serve on the CPU (no NVIDIA GPU): Triton 2.72.0 is ready, m version 1")


@pytest.mark.parametrize("options", [{"accelerator": "gpu"}, {"expected_gpus": 2}])
def test_a_host_that_should_have_a_gpu(bare: GpuHost, options: dict[str, t.Any]) -> None:
    name, problem = failed(Served(bare, 0).verify(**options))
    assert name == "driver"
    assert problem.what == "There are fewer GPUs than expected"


def test_a_gpu_that_is_not_used(served: Served) -> None:
    served.host.smi["fault"] = "no_driver"
    verdict = served.verify(accelerator="cpu")
    assert statuses(verdict)[:3] == ["skipped"] * 3
    assert "(its GPU is not used)" in verdict.line


def no_driver(served: Served) -> None:
    served.host.smi["fault"] = "no_driver"
    for path in served.host.root.glob("proc/driver/nvidia/version"):
        path.unlink()
    served.host.modules, served.host.dkms = {}, ""
    served.host.kernel("6.12.94+deb13-amd64")


def mismatch(served: Served) -> None:
    served.host.smi.update(fault="mismatch", library="580.173.02")


def lost(served: Served) -> None:
    served.host.smi["gpus"][0]["lost"] = True


def no_toolkit(served: Served) -> None:
    served.host.packages = {}
    del served.host.programs["nvidia-ctk"]


def no_engine(served: Served) -> None:
    served.host.docker = None


def answer_of_docker(text: str) -> t.Callable[[Served], None]:
    def change(served: Served) -> None:
        served.container = CommandResult(125, "", f"docker: Error response from daemon: {text}.")

    return change


def in_triton(**changes: t.Any) -> t.Callable[[Served], None]:
    def change(served: Served) -> None:
        for name, value in changes.items():
            setattr(served.state, name, value)

    return change


CASES: dict[str, tuple[t.Callable[[Served], None], str, str, str]] = {
    "no driver": (no_driver, "driver", "There is no NVIDIA driver", "install it"),
    "mismatch": (mismatch, "driver", "Driver/library version mismatch", "reboot"),
    "lost": (lost, "driver", "is lost", "reboot the host"),
    "no toolkit": (no_toolkit, "toolkit", "There is no NVIDIA Container Toolkit", "install nvidia-container-toolkit"),
    "no engine": (no_engine, "toolkit", "The Docker Engine does not run", "start it"),
    "no hook": (
        answer_of_docker('could not select device driver "" with capabilities: [[gpu]]'),
        "container",
        "gets no GPU by CDI",
        "restart docker",
    ),
    "cdi off": (answer_of_docker('could not select device driver "cdi" with capabilities: []'), "container", "gets no GPU", "features"),
    "no device": (
        answer_of_docker("CDI device injection failed: unresolvable CDI devices nvidia.com/gpu=all"),
        "container",
        "",
        "cdi generate",
    ),
    "no node": (answer_of_docker('failed to stat CDI host device "/dev/nvidia1": no such file'), "container", "", "create-device-nodes"),
    "stale": (
        answer_of_docker("error mounting /usr/lib/libcuda.so.550.1 to rootfs: no such file or directory"),
        "container",
        "",
        "cdi generate",
    ),
    "no image": (answer_of_docker("No such image: x:1"), "container", "", "triton_server"),
    "something else": (answer_of_docker("no space left on device"), "container", "gets no GPU", "journalctl -u docker"),
    "too few": (lambda served: setattr(served, "container", listing(0)), "container", "gets no GPU", "run it by hand"),
    "server down": (
        in_triton(problems=[Problem("Container 'triton' is exited (exit code 1)", "it gave up", "correct the cause")]),
        "triton",
        "is exited",
        "correct",
    ),
    "no GPU in it": (
        in_triton(asked=CommandResult(126, "", "exec: nvidia-smi: executable file not found in $PATH"), metrics=""),
        "triton",
        "Triton's container has no GPU",
        "NVIDIA_DRIVER_CAPABILITIES",
    ),
    "devices lost": (
        in_triton(asked=CommandResult(255, "Failed to initialize NVML: Unknown Error", ""), metrics=""),
        "triton",
        "Triton's container has no GPU",
        "systemctl restart triton",
    ),
    "no CUDA": (in_triton(metrics="", log=["x", NO_CUDA]), "triton", "does not see the GPU that its container has", "a driver that is new"),
}


@pytest.mark.parametrize("case", CASES)
def test_what_is_wrong_ends_its_step_with_a_remedy(served: Served, case: str) -> None:
    change, step, what, remedy = CASES[case]
    change(served)
    name, problem = failed(served.verify())
    assert name == step
    assert what in problem.what
    assert remedy in problem.remedy


def test_an_answer_that_is_wrong(served: Served) -> None:
    wrong = {"what": "Output 'OUT' is not as expected: wanted 11, got 12", "why": "1 of 4", "remedy": "look at the model"}
    served.result = {**ANSWERED, "problems": [wrong]}
    name, problem = failed(served.verify())
    assert (name, problem) == ("inference", Problem(**wrong))


def test_a_server_that_cannot_be_asked_for_an_inference(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    def infer() -> None:
        raise ProblemError("Model 'm' is not loaded", "", "load it")

    monkeypatch.setattr(served, "infer", infer)
    assert failed(served.verify()) == ("inference", Problem("Model 'm' is not loaded", "", "load it"))


def test_no_model_is_no_fault(served: Served) -> None:
    served.result = None
    verdict = served.verify()
    assert verdict.fit
    assert statuses(verdict)[-1] == "skipped"
    assert "no inference: no model is loaded" in verdict.line


def test_an_answer_that_was_not_checked_is_said_to_be_so(served: Served) -> None:
    served.result = {**ANSWERED, "checked": False}
    assert "its answer was not checked" in served.verify().line


@pytest.mark.parametrize("change", [{"metrics": metrics(1)}, {"metrics": "", "log": [POOL, NO_CUDA]}, {"metrics": "", "log": []}])
def test_each_sign_of_a_gpu_counts(served: Served, change: dict[str, t.Any]) -> None:
    in_triton(**change)(served)
    assert served.verify().fit


def test_triton_uses_only_some_of_its_gpus(bare: GpuHost) -> None:
    served = Served(bare, 2)
    served.state.metrics = metrics(1)
    name, problem = failed(served.verify())
    assert name == "triton"
    assert UUIDS[1] in problem.why


def test_a_container_gets_only_some_of_the_gpus(bare: GpuHost) -> None:
    served = Served(bare, 2)
    served.container = listing(1)
    name, problem = failed(served.verify())
    assert name == "container"
    assert "wanted 2 GPUs, got 1" in problem.why


def test_all_that_was_found_is_told_though_it_stops_at_the_first(served: Served) -> None:
    lost(served)
    no_toolkit(served)
    verdict = served.verify()
    assert served.asked == []
    assert [row["step"] for row in verdict.problems][:2] == ["driver", None]
    assert "There is no NVIDIA Container Toolkit" in [row["what"] for row in verdict.problems]
    assert "more problem" in verdict.line


def test_a_warning_does_not_make_it_unfit(served: Served) -> None:
    served.host.smi["gpus"][0]["cells"] = {"persistence_mode": "Disabled"}
    verdict = served.verify()
    assert verdict.fit
    assert verdict.line.endswith("; 1 warning")
    assert verdict.problems[0]["severity"] == "warning"


def test_the_metrics(served: Served) -> None:
    lines = _verify.as_metrics(served.verify(), 1700000000.7).splitlines()
    samples = dict(line.rsplit(" ", 1) for line in lines if not line.startswith("#"))
    assert samples["gpufleet_verify_fit"] == "1"
    assert samples['gpufleet_verify_step_passed{step="inference"}'] == "1"
    assert samples["gpufleet_verify_timestamp_seconds"] == "1700000000"
    mismatch(served)
    lines = _verify.as_metrics(served.verify(), 0).splitlines()
    samples = dict(line.rsplit(" ", 1) for line in lines if not line.startswith("#"))
    assert samples["gpufleet_verify_fit"] == "0"
    assert samples['gpufleet_verify_step_passed{step="driver"}'] == "0"
    assert not any('step="toolkit"' in name for name in samples)
    assert samples['gpufleet_verify_problems{severity="error"}'] != "0"


def test_the_report(served: Served) -> None:
    report = served.verify().report("gpu1", 1700000000.7)
    assert (report["host"], report["time"], report["fit"]) == ("gpu1", "2023-11-14T22:13:20Z", True)
    assert report["gpus"][0]["uuid"] == UUIDS[0]
    assert report["versions"] == {
        "driver": "580.159.03",
        "toolkit": "1.20.0",
        "docker": "28.5.1",
        "kernel": "6.12.94+deb13-amd64",
        "triton": "2.72.0",
    }
    assert _verify.as_json(report).endswith("}\n")


REQUEST: dict[str, t.Any] = {"Driver": "nvidia", "Count": -1, "Capabilities": [["gpu"]]}


@pytest.mark.parametrize(
    ("config", "way"),
    [
        ({"DeviceRequests": [REQUEST]}, "driver nvidia"),
        ({"DeviceRequests": [{**REQUEST, "Driver": ""}]}, "driver nvidia"),
        ({"DeviceRequests": [{"Driver": "cdi", "DeviceIDs": ["nvidia.com/gpu=0"]}]}, "CDI"),
        ({"DeviceRequests": None, "Runtime": "nvidia"}, "runtime nvidia"),
        # One that has none says nothing: then it is as this Docker can best.
        ({"DeviceRequests": None, "Runtime": "runc"}, "CDI"),
    ],
)
def test_a_new_container_gets_its_gpu_as_the_one_that_serves_does(served: Served, config: dict[str, t.Any], way: str) -> None:
    assert _verify.way_of({"HostConfig": config}, served.facts())[0] == way


def test_the_way_of_an_older_docker_is_the_hook(served: Served) -> None:
    assert served.host.docker is not None
    served.host.docker["ServerVersion"] = "26.1.5"
    assert _verify.way_of(None, served.facts())[0] == "driver nvidia"
    del served.host.programs["nvidia-container-runtime-hook"]
    assert _verify.way_of(None, served.facts())[0] == "runtime nvidia"
    served.host.docker["Runtimes"] = {}
    assert _verify.way_of(None, served.facts())[0] == "CDI"
