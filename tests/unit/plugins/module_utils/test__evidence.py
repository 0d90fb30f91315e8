# Copyright (c) 2026, The gpufleet.triton authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import os
import re
import typing as t
from pathlib import Path

import pytest
from ansible_collections.gpufleet.triton.plugins.module_utils import _evidence, _gpu
from ansible_collections.gpufleet.triton.plugins.module_utils._client import TritonClient
from ansible_collections.gpufleet.triton.plugins.module_utils._http import HttpConnectError
from ansible_collections.gpufleet.triton.plugins.module_utils._proc import CommandResult
from ansible_collections.gpufleet.triton.tests.unit.plugins.module_utils.gpu_host import GpuHost
from ansible_collections.gpufleet.triton.tests.unit.plugins.module_utils.scripted import Call, Script, index, ready

DMESG = """\
[ 2332.969488] python3 invoked oom-killer: gfp_mask=0xcc0(GFP_KERNEL), order=0, oom_score_adj=0
[ 2332.969977] oom-kill:constraint=CONSTRAINT_MEMCG,nodemask=(null),cpuset=/,oom_memcg=/g,task_memcg=/g,task=python3,pid=29494,uid=0
[ 2332.969997] Memory cgroup out of memory: Killed process 29494 (python3) total-vm:116204kB, anon-rss:104704kB
[ 2333.000001] eth0: renamed from veth70a31e5
"""
JOURNAL = "1795681408.410000 gpu1 kernel: NVRM: Xid (PCI:0000:1a:00): 79, GPU has fallen off the bus.\n1795681409.1 gpu1 kernel: eth0: up\n"
MEMINFO = "MemTotal:       24683656 kB\nMemFree:        19504056 kB\nMemAvailable:   22967580 kB\nSwapTotal:             0 kB\n"
ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> GpuHost:
    return GpuHost(tmp_path, monkeypatch)


def machine(host: GpuHost) -> _gpu.Machine:
    return _gpu.Machine(host.run, str(host.root), "6.12.94+deb13-amd64")


def subject(root: Path, **more: t.Any) -> _evidence.Subject:
    return _evidence.Subject(models=str(root / "data/models"), docker_socket=str(root / "no.sock"), **more)


# --- the kernel's log


def test_the_buffer_of_the_kernel_has_the_time_since_the_boot(host: GpuHost) -> None:
    host.programs["dmesg"] = lambda _arguments: (0, DMESG)
    host.write("proc/uptime", "2334.62 1213.50\n")
    rows = _evidence.kernel_evidence(machine(host), 1795681410.0)
    assert rows is not None
    assert [round(row["time"], 1) for row in rows] == [1795681408.3, 1795681408.3]
    assert rows[1]["text"].startswith("Memory cgroup out of memory: Killed process 29494")


def test_the_journal_comes_first(host: GpuHost) -> None:
    host.programs["journalctl"] = lambda _arguments: (0, JOURNAL)
    rows = _evidence.kernel_evidence(machine(host), 0)
    assert rows == [{"time": 1795681408.41, "text": "NVRM: Xid (PCI:0000:1a:00): 79, GPU has fallen off the bus."}]


def test_a_log_that_cannot_be_read_is_none(host: GpuHost) -> None:
    assert _evidence.kernel_evidence(machine(host), 0) is None
    host.programs["journalctl"] = lambda _arguments: (0, "-- No entries --\n")
    host.programs["dmesg"] = lambda _arguments: (1, "")
    assert _evidence.kernel_evidence(machine(host), 0) is None
    host.programs["journalctl"] = lambda _arguments: (0, "1.0 gpu1 kernel: eth0: up\n")
    assert _evidence.kernel_evidence(machine(host), 0) == []


def test_denials_of_the_audit_log(host: GpuHost) -> None:
    denied = 'type=AVC msg=audit(1700000000.123:45): avc:  denied  { read } for  pid=9 comm="tritonserver"'
    host.write("var/log/audit/audit.log", f"type=SYSCALL msg=audit(1.0:2): x\n{denied}\n")
    assert _evidence.audit_evidence(machine(host)) == [
        {"time": 1700000000.123, "text": 'avc:  denied  { read } for  pid=9 comm="tritonserver"'}
    ]


# --- memory


def test_a_group_of_version_2(host: GpuHost) -> None:
    host.write("proc/7/cgroup", "9:name=systemd:/\n0::/system.slice/docker-1.scope\n")
    folder = "sys/fs/cgroup/system.slice/docker-1.scope"
    for name, text in (("memory.max", "1024\n"), ("memory.current", "512\n"), ("memory.events", "low 0\noom 3\noom_kill 2\n")):
        host.write(f"{folder}/{name}", text)
    assert _evidence.group_evidence(machine(host), 7) == {"limit": 1024, "usage": 512, "oom_kills": 2}
    host.write(f"{folder}/memory.max", "max\n")
    assert _evidence.group_evidence(machine(host), 7)["limit"] is None


def test_a_group_of_version_1(host: GpuHost) -> None:
    host.write("proc/7/cgroup", "4:memory:/docker/1\n0::/\n")
    folder = "sys/fs/cgroup/memory/docker/1"
    host.write(f"{folder}/memory.limit_in_bytes", "9223372036854771712\n")
    host.write(f"{folder}/memory.usage_in_bytes", "512\n")
    host.write(f"{folder}/memory.oom_control", "oom_kill_disable 0\nunder_oom 0\noom_kill 1\n")
    assert _evidence.group_evidence(machine(host), 7) == {"limit": None, "usage": 512, "oom_kills": 1}


def test_no_group(host: GpuHost) -> None:
    assert _evidence.group_evidence(machine(host), None) == {"limit": None, "usage": None, "oom_kills": None}


def test_the_memory_of_the_host(host: GpuHost) -> None:
    host.write("proc/meminfo", MEMINFO)
    assert _evidence.memory_evidence(machine(host)) == {
        "total": 24683656 << 10,
        "available": 22967580 << 10,
        "swap_total": 0,
        "swap_free": None,
    }


def test_shared_memory_as_it_is_and_as_it_is_configured(host: GpuHost) -> None:
    inspected = {"HostConfig": {"ShmSize": 1 << 20}}
    assert _evidence.shm_evidence(machine(host), None, inspected) == {"size": 1 << 20, "used": None, "regions": 0}
    host.write("proc/7/root/dev/shm/triton_python_backend_shm_region_1", "x")
    seen = _evidence.shm_evidence(machine(host), 7, inspected)
    assert seen["regions"] == 1
    assert seen["used"] > 0
    assert seen["size"] > 1 << 20


# --- the engine


def test_events_and_logs(host: GpuHost) -> None:
    asked = []

    def docker(arguments: list[str]) -> tuple[int, str]:
        asked.append(arguments)
        return 0, '{"Action":"oom","time":1795681409}\nnonsense\n{}\n' if "events" in arguments else "one\n\n\x1b[1mtwo\n"

    host.programs["docker"] = docker
    assert _evidence.oom_events(host.run, subject(host.root), 1795681410.0) == [1795681409.0]
    assert "event=oom" in asked[0]
    assert _evidence.log_evidence(host.run, subject(host.root), {"State": {"StartedAt": "2026-11-26T08:23:24Z"}}) == ["one", "two"]
    assert asked[1][asked[1].index("--since") + 1] == "2026-11-26T08:23:24Z"
    assert _evidence.docker(lambda _argv: CommandResult(0, "", ""), subject(host.root), "ps").ok
    del host.programs["docker"]
    assert _evidence.oom_events(host.run, subject(host.root), 0) == []


# --- permissions


def repository(root: Path) -> Path:
    models = root / "data/models"
    for name in ("a/1/model.py", "b/1/model.py", "b/config.pbtxt"):
        (models / name).parent.mkdir(parents=True, exist_ok=True)
        (models / name).write_text("x")
    (models / ".git").mkdir()
    return models


@pytest.fixture
def open_root(host: GpuHost) -> Path:
    """A folder that everybody can reach: pytest's own is closed to others."""
    folder = host.root
    while folder != folder.parent and not os.stat(folder).st_mode & 0o001:
        folder.chmod(folder.stat().st_mode | 0o011)
        folder = folder.parent
    return host.root


@ROOT
def test_what_another_user_cannot_read(open_root: Path) -> None:
    models = repository(open_root)
    assert _evidence.permission_evidence(subject(open_root))["unreadable"] == []
    (models / "a").chmod(0o700)
    (models / "b/1/model.py").chmod(0o600)
    seen = _evidence.permission_evidence(subject(open_root))
    assert seen["error"] is None
    rows = [(row["path"], row["mode"], row["uid"], row["type"]) for row in seen["unreadable"]]
    assert rows == [(str(models / "a"), "0700", 0, "directory"), (str(models / "b/1/model.py"), "0600", 0, "file")]
    assert [row["path"] for row in seen["components"]][-2:] == [str(models.parent), str(models)]


@ROOT
def test_the_component_that_bars_the_way(open_root: Path) -> None:
    models = repository(open_root)
    models.parent.chmod(0o700)
    seen = _evidence.permission_evidence(subject(open_root))
    assert [(row["path"], row["for"]) for row in seen["barred"]] == [(str(models.parent), str(models))]
    assert seen["unreadable"] == []


@ROOT
def test_what_must_be_read_and_written_besides(open_root: Path) -> None:
    repository(open_root)
    key, cache = open_root / "admin.key", open_root / "cache"
    key.write_text("x")
    key.chmod(0o600)
    cache.mkdir()
    asked = subject(open_root, readable=(str(key), str(open_root / "none")), writable=(str(cache), str(open_root / "none")))
    seen = _evidence.permission_evidence(asked)
    assert [row["path"] for row in seen["unreadable"]] == [str(key)]
    assert [row["path"] for row in seen["unwritable"]] == [str(cache)]
    cache.chmod(0o777)
    assert _evidence.permission_evidence(asked)["unwritable"] == []


@ROOT
def test_the_owner_has_other_rights(open_root: Path) -> None:
    models = repository(open_root)
    (models / "a").chmod(0o700)
    os.chown(models / "a", 1234, 0)
    assert _evidence.permission_evidence(subject(open_root))["unreadable"] != []
    assert _evidence.permission_evidence(subject(open_root, uid=1234))["unreadable"] == []


def test_a_mount_that_does_not_answer(host: GpuHost, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_evidence, "_look", lambda _subject: __import__("time").sleep(30))
    seen = _evidence.as_user(subject(host.root, uid=os.geteuid()), timeout=0.2)
    assert "did not answer within 0.2 s" in seen["error"]


def test_a_walk_that_fails_is_told(host: GpuHost, monkeypatch: pytest.MonkeyPatch) -> None:
    def look(_subject: object) -> None:
        raise OSError(5, "Input/output error", "/srv/models")

    monkeypatch.setattr(_evidence, "_look", look)
    assert _evidence.as_user(subject(host.root, uid=os.geteuid()))["error"] == "/srv/models: Input/output error"


# --- models


def test_the_models_on_disk(host: GpuHost) -> None:
    models = repository(host.root)
    (models / "a/config.pbtxt").write_text('name: "a"\nbackend: "python"\n')
    (models / "a/2.tmp").mkdir()
    assert _evidence.repository_evidence(str(models)) == [
        {"name": "a", "config": True, "backend": "python", "versions": {"1": ["model.py"]}},
        {"name": "b", "config": True, "backend": None, "versions": {"1": ["model.py"]}},
    ]
    assert _evidence.repository_evidence(str(models / "none")) is None


def test_what_the_server_says() -> None:
    script = Script(Call("GET", "/v2/health/live"), Call("GET", "/v2/health/ready", 400), index(ready("m")))
    seen = _evidence.server_evidence(lambda: TritonClient(script))
    assert (seen["live"], seen["ready"], seen["error"]) == (True, False, None)
    assert seen["index"] == [{"name": "m", "version": 1, "state": "READY", "reason": ""}]
    refused = HttpConnectError("GET: connection refused", "nothing listens there", "start it")
    seen = _evidence.server_evidence(lambda: TritonClient(Script(Call("GET", "/v2/health/live", error=refused))))
    assert "connection refused" in seen["error"]
    assert seen["index"] is None


def test_only_what_bears_on_the_complaint_is_looked_at(host: GpuHost) -> None:
    def connect() -> TritonClient:
        raise AssertionError("nobody asked for models")

    seen = _evidence.collect(machine(host), subject(host.root), ["memory"], connect, lambda: 1.0)
    assert seen["permissions"] is None
    assert seen["repository"] is None
    assert seen["server"] is None
    assert re.search("Cannot connect", seen["engine_error"])
    host.write("load-models", "a\nb\n")
    script = Script(Call("GET", "/v2/health/live"), Call("GET", "/v2/health/ready"), index())
    asked = subject(host.root, load_models="/load-models", uid=os.geteuid(), gid=os.getegid())
    seen = _evidence.collect(machine(host), asked, ["model"], lambda: TritonClient(script), lambda: 1.0)
    assert seen["load_models"] == ["a", "b"]
    assert seen["gpu"] is None
