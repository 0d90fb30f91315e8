# Copyright (c) 2026, The gpufleet.triton authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Judgements from recorded evidence. The logs are those of tritonserver 2.51.0, Docker 26.1.5 and Linux 6.1."""

from __future__ import annotations

import typing as t
from pathlib import Path

import pytest
from ansible_collections.gpufleet.triton.plugins.module_utils import _diagnose
from ansible_collections.gpufleet.triton.tests.unit.plugins.module_utils.gpu_host import GpuHost

ID = "d75db5d101ea454dfca1f782bba625b042f71d971b6ad370dce079c705c3882e"
FINISHED = "2026-11-26T08:23:28.820350842Z"
ENDED = 1795681408.82
OOM_LIMIT = (
    "oom-kill:constraint=CONSTRAINT_MEMCG,nodemask=(null),cpuset=/,oom_memcg=/gpufleet,task_memcg=/gpufleet,task=python3,pid=29494,uid=0",
    "Memory cgroup out of memory: Killed process 29494 (python3) total-vm:116204kB, anon-rss:104704kB, file-rss:5208kB, shmem-rss:0kB",
)
OOM_HOST = (
    f"oom-kill:constraint=CONSTRAINT_NONE,global_oom,task_memcg=/system.slice/docker-{ID}.scope,task=tritonserver,pid=4711,uid=1000",
    "Out of memory: Killed process 4711 (tritonserver) total-vm:216204kB, anon-rss:204704kB, file-rss:5208kB, shmem-rss:0kB, UID:1000",
)
SHM = (
    "E1126 08:40:01.336773 1 model_lifecycle.cc:642] \"failed to load 'add_sub' version 1: Internal: Unable to initialize shared memory "
    "key 'triton_python_backend_shm_region_30ed7f0e' to requested size (1048576 bytes). If you are running Triton inside docker, use "
    "'--shm-size' flag to control the shared memory region size. Each Python backend model instance requires at least 1 MB of "
    'shared memory. Error: No space left on device"'
)
BROKEN = [
    "E1126 08:40:01.336773 1 model_lifecycle.cc:642] \"failed to load 'broken' version 1: Internal: RuntimeError: these weights are broken",
    "",
    "At:",
    '  /models/broken/1/model.py(8): initialize"',
    "I1126 08:40:01.336780 1 model_lifecycle.cc:777] \"failed to load 'broken'\"",
]
NO_CUDA = (
    'W1126 07:52:47.336773 1 pinned_memory_manager.cc:273] "Unable to allocate pinned system memory, pinned memory pool will not be '
    'available: CUDA driver version is insufficient for CUDA runtime version"'
)
MODEL = {"name": "add_sub", "config": True, "backend": "python", "versions": {"1": ["model.py"]}}
GPU_REQUEST = [{"Driver": "nvidia", "Count": -1, "Capabilities": [["gpu"]]}]


@pytest.fixture
def bare(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> GpuHost:
    return GpuHost(tmp_path, monkeypatch)


@pytest.fixture
def evidence(bare: GpuHost) -> dict[str, t.Any]:
    """A host for the CPU on which all is well. A test changes what it is about."""
    return {
        "now": ENDED + 60,
        "complaints": list(_diagnose.COMPLAINTS),
        "subject": {"container": "triton", "unit": "triton.service", "models": "/srv/models"},
        "units": {},
        "container": {
            "Id": ID,
            "State": {
                "Status": "running",
                "Running": True,
                "OOMKilled": False,
                "ExitCode": 0,
                "Error": "",
                "FinishedAt": "0001-01-01T00:00:00Z",
            },
            "HostConfig": {"Memory": 0, "ShmSize": 4 << 30, "DeviceRequests": None, "Runtime": "runc"},
            "AppArmorProfile": "docker-default",
        },
        "engine_error": None,
        "log": [NO_CUDA],
        "kernel": [],
        "gpu": bare.collect(),
        "in_container": None,
        "oom_events": [],
        "group": {"limit": None, "usage": 1 << 30, "oom_kills": 0},
        "shm": {"size": 4 << 30, "used": 1 << 20, "regions": 1},
        "memory": {"total": 24 << 30, "available": 20 << 30, "swap_total": 0, "swap_free": 0},
        "permissions": {
            "uid": 1000,
            "gid": 1000,
            "error": None,
            "looked": 5,
            "components": [],
            "barred": [],
            "unreadable": [],
            "unwritable": [],
            "fs_type": "ext4",
        },
        "audit": [],
        "selinux": None,
        "repository": [MODEL],
        "load_models": ["add_sub"],
        "server": {"live": True, "ready": True, "error": None, "index": [row("add_sub", "READY")]},
    }


def row(name: str, state: str, reason: str = "", version: int | None = 1) -> dict[str, t.Any]:
    return {"name": name, "version": version, "state": state, "reason": reason}


def kernel(*lines: str, time: float = ENDED - 0.4) -> list[dict[str, t.Any]]:
    return [{"time": time, "text": line} for line in lines]


def killed(evidence: dict[str, t.Any], **state: t.Any) -> None:
    evidence["container"]["State"].update(
        {"Status": "exited", "Running": False, "ExitCode": 137, "FinishedAt": FINISHED, "Error": "", **state}
    )
    evidence["server"] = {"live": False, "ready": False, "error": "GET: connection refused", "index": None}


def errors(evidence: dict[str, t.Any], complaint: str) -> list[_diagnose.Finding]:
    found = _diagnose.judge(evidence, [complaint])
    for finding in found:
        assert finding.complaint == complaint
        assert finding.why
        assert finding.remedy
    return [finding for finding in found if finding.severity == "error"]


def only(evidence: dict[str, t.Any], complaint: str) -> _diagnose.Finding:
    found = errors(evidence, complaint)
    assert len(found) == 1, found
    assert found[0].seen
    return found[0]


def test_a_host_that_is_well(evidence: dict[str, t.Any]) -> None:
    found = _diagnose.judge(evidence)
    assert [(finding.what, finding.severity) for finding in found] == [("This host has no NVIDIA GPU", "note")]
    assert _diagnose.line_of(found) == "No sign of trouble (1 warning or note)"
    assert "model loading failed: no sign of it" in _diagnose.as_text(found)


def test_only_what_is_complained_of(evidence: dict[str, t.Any]) -> None:
    assert _diagnose.as_text([], ["memory"]) == ["out of memory: no sign of it"]
    evidence["complaints"] = ["gpu"]
    # Who misses a GPU is told why there is none.
    assert only(evidence, "gpu").what == "This host has no NVIDIA GPU"


# --- memory


def test_killed_by_the_limit_as_the_engine_saw_it(evidence: dict[str, t.Any]) -> None:
    killed(evidence, OOMKilled=True)
    evidence["container"]["HostConfig"]["Memory"] = 2 << 30
    found = only(evidence, "memory")
    assert found.what == "The container 'triton' was killed by its memory limit"
    assert "(2 GiB)" in found.why
    assert "triton_server_memory_limit=4g (now 2 GiB)" in found.remedy
    assert "docker inspect: OOMKilled true, exit code 137" in found.seen


def test_killed_by_a_limit_as_the_kernel_tells_it(evidence: dict[str, t.Any]) -> None:
    """The engine does not see what happens in a group above its own: the kernel's log has it, at the time of the end."""
    killed(evidence)
    evidence["kernel"] = kernel(*OOM_LIMIT)
    found = only(evidence, "memory")
    assert "killed by its memory limit" in found.what
    assert "the kernel killed python3 (102.2 MiB) at 2026-11-26 08:23:28 UTC" in found.why
    assert any(line.startswith("kernel: Memory cgroup out of memory") for line in found.seen)


def test_a_kill_at_another_time_is_of_something_else(evidence: dict[str, t.Any]) -> None:
    killed(evidence)
    evidence["kernel"] = kernel(*OOM_LIMIT, time=ENDED - 60)
    assert errors(evidence, "memory") == []


def test_killed_because_the_host_was_out_of_memory(evidence: dict[str, t.Any]) -> None:
    killed(evidence)
    evidence["kernel"] = kernel(*OOM_HOST, time=ENDED - 60)
    found = only(evidence, "memory")
    assert "the host is out of memory" in found.what
    assert "ps -eo rss" in found.remedy


def test_killed_and_running_again(evidence: dict[str, t.Any]) -> None:
    """The flag is gone with the next start. The engine's events have it."""
    evidence["oom_events"] = [ENDED]
    found = only(evidence, "memory")
    assert "it runs again" in found.why
    assert "docker events: oom at 2026-11-26 08:23:28 UTC" in found.seen


def test_a_killed_process_of_a_server_that_went_on(evidence: dict[str, t.Any]) -> None:
    evidence["group"] = {"limit": 2 << 30, "usage": 1 << 30, "oom_kills": 3}
    assert only(evidence, "memory").seen == ("memory.events: oom_kill 3",)


def test_stopped_by_somebody_is_not_out_of_memory(evidence: dict[str, t.Any]) -> None:
    killed(evidence)
    assert errors(evidence, "memory") == []
    evidence["kernel"] = None
    found = _diagnose.judge(evidence, ["memory"])
    assert [(finding.what, finding.severity) for finding in found] == [("The container 'triton' was killed", "warning")]


def test_memory_that_will_soon_be_used_up(evidence: dict[str, t.Any]) -> None:
    evidence["group"] = {"limit": 100 << 20, "usage": 99 << 20, "oom_kills": 0}
    evidence["memory"]["available"] = 1 << 30
    evidence["shm"]["used"] = 4 << 30
    found = _diagnose.judge(evidence, ["memory"])
    assert [finding.severity for finding in found] == ["warning"] * 3
    assert [finding.what for finding in found] == [
        "The container 'triton' is close to its memory limit",
        "The host has hardly any memory left",
        "/dev/shm is almost full",
    ]


def test_a_gpu_without_memory(evidence: dict[str, t.Any], bare: GpuHost) -> None:
    evidence["gpu"] = bare.healthy().collect()
    evidence["gpu"]["gpus"][0].update(memory_used_mib=81000)
    found = _diagnose.judge(evidence, ["memory"])
    assert [(finding.what, finding.severity) for finding in found] == [("1 GPU with hardly any memory left", "warning")]
    evidence["log"].append("E1126 1 model.cc:1] torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 20.00 GiB")
    found = only(evidence, "memory")
    assert found.what == "The GPU ran out of memory"
    assert found.seen[-1] == "GPU 0: 81000 of 81920 MiB used"
    assert "nvidia-smi --query-compute-apps" in found.remedy


def test_memory_that_the_host_refused(evidence: dict[str, t.Any]) -> None:
    evidence["log"].append("E1126 1 x.cc:1] \"failed to load 'm' version 1: Internal: MemoryError: \"")
    assert only(evidence, "memory").what == "Triton was refused memory of the host"


def test_shared_memory_that_is_too_small(evidence: dict[str, t.Any]) -> None:
    evidence["log"].append(SHM)
    evidence["shm"] = {"size": 512 << 10, "used": 0, "regions": 0}
    found = only(evidence, "memory")
    assert found.what == "/dev/shm is too small"
    assert "triton_server_shm_size=4g (now 512 KiB)" in found.remedy
    assert "/dev/shm of container 'triton': 512 KiB" in found.seen[-1]


# --- permission


def entry(path: str, mode: str = "0700", uid: int = 0, gid: int = 0, kind: str = "directory") -> dict[str, t.Any]:
    return {"path": path, "type": kind, "mode": mode, "uid": uid, "gid": gid, "error": None}


def test_a_repository_that_is_not_readable(evidence: dict[str, t.Any]) -> None:
    evidence["permissions"]["unreadable"] = [entry("/srv/models/m"), entry("/srv/models/n/1/model.py", "0640", kind="file")]
    found = only(evidence, "permission")
    assert found.what == "User 1000:1000, as which Triton runs, can't read /srv/models/m and 1 more"
    assert found.why == "its mode 0700, owner 0:0, lets everybody else not"
    assert found.remedy == "run: chmod -R o+rX /srv/models"
    assert found.seen == ("0700 0:0 /srv/models/m", "0640 0:0 /srv/models/n/1/model.py")
    # It is why models do not load as well.
    assert only(evidence, "model").what == found.what


@pytest.mark.parametrize(("owner", "bits"), [({"uid": 1000}, "u"), ({"gid": 1000}, "g"), ({}, "o")])
def test_the_bits_that_are_missing(evidence: dict[str, t.Any], owner: dict[str, int], bits: str) -> None:
    evidence["permissions"]["unreadable"] = [entry("/srv/models", "0000", **owner)]
    assert only(evidence, "permission").remedy == f"run: chmod -R {bits}+rX /srv/models"


def test_nfs_has_options_of_its_own(evidence: dict[str, t.Any]) -> None:
    evidence["permissions"].update(unreadable=[entry("/srv/models")], fs_type="nfs4")
    assert "root_squash" in only(evidence, "permission").remedy


def test_a_cache_that_can_not_be_written(evidence: dict[str, t.Any]) -> None:
    evidence["permissions"]["unwritable"] = [entry("/srv/cache", "0755")]
    assert only(evidence, "permission").remedy == "run: chown -R 1000:1000 /srv/cache"


def test_a_folder_above_is_no_hindrance_to_a_container(evidence: dict[str, t.Any]) -> None:
    evidence["permissions"]["barred"] = [{**entry("/srv"), "for": "/srv/models"}]
    found = _diagnose.judge(evidence, ["permission"])
    assert [(finding.severity, finding.remedy) for finding in found] == [("warning", "run: chmod o+x /srv")]


def test_denials_of_selinux(evidence: dict[str, t.Any]) -> None:
    evidence["selinux"] = "enforcing"
    denied = 'avc:  denied  { read } for  pid=9 comm="tritonserver" name="models" scontext=system_u:system_r:container_t:s0:c1,c2'
    evidence["audit"] = [{"time": 1.0, "text": denied}]
    found = only(evidence, "permission")
    assert found.what == "SELinux denied the container"
    assert "the label of models" in found.why
    assert found.remedy.startswith("run: chcon -R -t container_file_t /srv/models")
    evidence["selinux"] = "permissive"
    assert errors(evidence, "permission") == []


def test_denials_of_apparmor(evidence: dict[str, t.Any]) -> None:
    line = 'audit: type=1400 audit(1.2:3): apparmor="DENIED" operation="open" profile="{}" name="/dev/nvidia0" pid=9 comm="tritonserver"'
    evidence["kernel"] = kernel(line.format("docker-default"))
    assert only(evidence, "permission").what == "AppArmor denied the container"
    evidence["kernel"] = kernel(line.format("snap.firefox"))
    assert errors(evidence, "permission") == []


def test_a_denial_that_only_the_log_has(evidence: dict[str, t.Any]) -> None:
    evidence["log"].append("PermissionError: [Errno 13] Permission denied: '/secret'")
    assert only(evidence, "permission").seen == ("PermissionError: [Errno 13] Permission denied: '/secret'",)


def test_a_file_system_that_is_read_only(evidence: dict[str, t.Any]) -> None:
    evidence["log"].append("OSError: [Errno 30] Read-only file system: '/opt/x'")
    assert "triton_server_read_only=false" in only(evidence, "permission").remedy


# --- model


def test_a_model_that_fails_as_the_index_tells_it(evidence: dict[str, t.Any]) -> None:
    reason = "Internal: ModuleNotFoundError: No module named 'torch'\n\nAt:\n  /models/m/1/model.py(2): <module>"
    evidence["server"]["index"].append(row("m", "UNAVAILABLE", reason))
    evidence["repository"].append({**MODEL, "name": "m"})
    found = only(evidence, "model")
    assert found.what == "Model 'm' version 1 failed to load"
    assert found.why == "the image's Python does not have torch"
    assert "serve it from an image that has torch" in found.remedy
    assert "No module named 'torch'" in found.seen[0]


def test_a_model_that_fails_as_the_log_tells_it(evidence: dict[str, t.Any]) -> None:
    killed(evidence, ExitCode=1)
    evidence["log"] += BROKEN
    found = errors(evidence, "model")
    assert [finding.what for finding in found][:2] == ["The container 'triton' does not run", "Model 'broken' version 1 failed to load"]
    assert "these weights are broken" in found[1].seen[0]
    assert "model.py(8)" in found[1].seen[0]


def test_a_failure_that_was_mended_since(evidence: dict[str, t.Any]) -> None:
    evidence["log"] += BROKEN
    evidence["server"]["index"].append(row("broken", "READY"))
    assert errors(evidence, "model") == []


def test_a_model_that_was_unloaded_is_no_fault(evidence: dict[str, t.Any]) -> None:
    evidence["server"]["index"] = [row("add_sub", "UNAVAILABLE", "unloaded")]
    assert [finding.severity for finding in _diagnose.judge(evidence, ["model"])] == ["note"]


def test_a_configuration_that_cannot_be_parsed(evidence: dict[str, t.Any]) -> None:
    evidence["repository"].append({**MODEL, "name": "m"})
    cause = "failed to read text proto from /models/m/config.pbtxt"
    evidence["log"].append(f"E1126 1 model_repository_manager.cc:1460] \"Poll failed for model directory 'm': {cause}\"")
    assert only(evidence, "model").why == "its config.pbtxt can't be parsed"


CAUSES = {
    "Internal: failed to stat file /models/m/1/model.onnx": "not in its folder",
    "Invalid argument: unable to find backend library for backend 'onnxruntime', try specifying runtime": "no such backend",
    "Invalid argument: at least one version must be available under the version policy of model 'm'": "no folder of a version",
    "Internal: CUDA out of memory. Tried to allocate": "the GPU had not enough memory",
    "Internal: The engine plan file is generated on an incompatible device, expecting compute 9.0": "a TensorRT plan",
    "Internal: [Errno 13] Permission denied: '/models/m/1/x'": "may not read it",
    "Internal: GPU instances not supported": "it wants a GPU",
    "Internal: ValueError: nonsense": "refused to start with that error",
}


@pytest.mark.parametrize("reason", CAUSES)
def test_causes(evidence: dict[str, t.Any], reason: str) -> None:
    evidence["server"]["index"].append(row("m", "UNAVAILABLE", reason))
    assert CAUSES[reason] in errors(evidence, "model")[0].why


def test_what_is_missing_on_disk(evidence: dict[str, t.Any]) -> None:
    evidence["load_models"] = ["add_sub", "gone"]
    evidence["repository"] += [{**MODEL, "name": "empty", "versions": {}}, {**MODEL, "name": "codeless", "versions": {"1": ["x"]}}]
    evidence["server"]["index"] += [row("empty", "", version=None), row("codeless", "LOADING")]
    found = {finding.what: finding.severity for finding in _diagnose.judge(evidence, ["model"])}
    assert found == {
        "Model 'gone' is to be loaded and is not on disk": "error",
        "Model 'codeless' has no model.py": "error",
        "Model 'empty' has no version on disk": "warning",
    }


def test_no_repository_no_container_no_engine(evidence: dict[str, t.Any]) -> None:
    evidence.update(repository=None, load_models=[], container=None, log=[])
    assert [finding.what for finding in errors(evidence, "model")] == ["There is no container 'triton'", "/srv/models is not there"]
    evidence["engine_error"] = "Cannot connect to the Docker Engine"
    assert errors(evidence, "model")[0].what == "The Docker Engine can't be asked"


def test_a_server_that_a_failed_load_keeps_from_being_ready(evidence: dict[str, t.Any]) -> None:
    evidence["server"]["ready"] = False
    assert only(evidence, "model").remedy == "run: systemctl restart triton.service"
    # One that loads is why, and passes.
    evidence["server"]["index"].append(row("m", "LOADING"))
    assert errors(evidence, "model") == []


def test_a_server_that_still_starts(evidence: dict[str, t.Any]) -> None:
    evidence["server"] = {"live": False, "ready": False, "error": "GET: connection refused", "index": None}
    found = _diagnose.judge(evidence, ["model"])
    assert [(finding.what, finding.severity) for finding in found] == [("Triton does not tell its models", "warning")]


# --- gpu


def with_gpu(evidence: dict[str, t.Any], bare: GpuHost) -> None:
    evidence["gpu"] = bare.healthy().collect()
    evidence["log"] = []
    evidence["container"]["HostConfig"]["DeviceRequests"] = GPU_REQUEST
    evidence["in_container"] = {"rc": 0, "text": "GPU-01000100-0000-0000-0000-000000000000, NVIDIA H100 80GB HBM3"}


def test_a_gpu_that_is_there(evidence: dict[str, t.Any], bare: GpuHost) -> None:
    with_gpu(evidence, bare)
    assert _diagnose.judge(evidence, ["gpu"]) == []


def test_the_driver_s_problems_are_gpu_info_s(evidence: dict[str, t.Any], bare: GpuHost) -> None:
    bare.healthy()
    bare.smi.update(fault="mismatch")
    evidence["gpu"] = bare.collect()
    found = errors(evidence, "gpu")
    assert "Driver/library version mismatch" in found[0].what
    assert "NVML library version" in found[0].seen[0]


def test_a_container_without_a_gpu_on_a_host_with_one(evidence: dict[str, t.Any], bare: GpuHost) -> None:
    with_gpu(evidence, bare)
    evidence["container"]["HostConfig"]["DeviceRequests"] = None
    assert "triton_server_accelerator=gpu" in only(evidence, "gpu").remedy


def test_a_container_that_lost_its_gpu(evidence: dict[str, t.Any], bare: GpuHost) -> None:
    with_gpu(evidence, bare)
    evidence["in_container"] = {"rc": 255, "text": "Failed to initialize NVML: Unknown Error"}
    found = only(evidence, "gpu")
    assert "does not see its GPU any more" in found.what
    assert "daemon-reload" in found.why


def test_a_container_that_could_not_be_given_one(evidence: dict[str, t.Any], bare: GpuHost) -> None:
    with_gpu(evidence, bare)
    evidence["in_container"] = None
    killed(evidence, Status="created", Error='could not select device driver "cdi" with capabilities: []')
    assert "Docker could not give" in only(evidence, "gpu").what


def test_a_server_whose_cuda_does_not_work(evidence: dict[str, t.Any], bare: GpuHost) -> None:
    with_gpu(evidence, bare)
    evidence["log"] = [NO_CUDA]
    found = only(evidence, "gpu")
    assert found.what == "Triton could not use CUDA when it started"
    assert found.seen == (NO_CUDA,)


def test_it_is_told_to_a_person(evidence: dict[str, t.Any]) -> None:
    evidence["permissions"]["unreadable"] = [entry("/srv/models")]
    found = _diagnose.judge(evidence, ["permission"])
    assert _diagnose.as_text(found, ["permission"]) == [
        "permission denied:",
        "  User 1000:1000, as which Triton runs, can't read /srv/models.",
        "    seen: 0700 0:0 /srv/models",
        "    why:  its mode 0700, owner 0:0, lets everybody else not",
        "    do:   run: chmod -R o+rX /srv/models",
    ]
    assert _diagnose.line_of(found).startswith("Permission denied: User 1000:1000")
