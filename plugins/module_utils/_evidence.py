# Copyright (c) 2026, The gpufleet.triton authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a host has to tell about a complaint: states, logs, the kernel's log, groups, memory, permissions. Private to the collection.

Reads only, knows nothing of AnsibleModule, and judges nothing: that is done in _diagnose, from the evidence alone.
"""

from __future__ import annotations

import json
import os
import re
import select
import signal
import stat
import time
import typing as t
from dataclasses import dataclass

from ansible_collections.gpufleet.triton.plugins.module_utils import _gpu, _host
from ansible_collections.gpufleet.triton.plugins.module_utils._client import TritonClient
from ansible_collections.gpufleet.triton.plugins.module_utils._container import clean_log
from ansible_collections.gpufleet.triton.plugins.module_utils._http import HttpError
from ansible_collections.gpufleet.triton.plugins.module_utils._proc import CommandResult, mount_of, read_mounts

LOG_LINES = 3000
KERNEL_LINES = 400
ENTRIES = 20000
LISTED = 20
PROBE_TIMEOUT = 20.0
EVENTS_SINCE = 24 * 3600

_KERNEL = re.compile(r"oom-kill:|Out of memory|[Oo]ut of memory: Kill|NVRM: |apparmor=\"DENIED\"|avc: +denied|Killed process")
_DMESG = re.compile(r"\A\[\s*(\d+\.\d+)\] (.*)")
_JOURNAL = re.compile(r"\A(\d+\.\d+) \S+ kernel: (.*)")
_AVC = re.compile(r"\Atype=AVC msg=audit\((\d+\.\d+):\d+\): +(.*)")
_SHM_REGION = "triton_python_backend_shm_region"

Row = dict[str, t.Any]


@dataclass(frozen=True)
class Subject:
    """The server in question: its container and unit, and what it must be able to read and write."""

    container: str = "triton"
    unit: str = "triton.service"
    models: str = "/fileServerMountPath/data/models"
    readable: tuple[str, ...] = ()
    writable: tuple[str, ...] = ()
    load_models: str = ""
    uid: int = 1000
    gid: int = 1000
    docker_socket: str = _host.DOCKER_SOCKET


# --- The container and its logs ----------------------------------------------------------------------------------------


def docker(run: _host.Run, subject: Subject, *arguments: str) -> CommandResult:
    program = _host.find_program("docker")
    if program is None:
        return CommandResult(None, "", "there is no docker command on this host")
    return run([program, "--host", f"unix://{subject.docker_socket}", *arguments])


def container_evidence(subject: Subject, blocked: str | None) -> tuple[Row | None, str | None]:
    """The container as the engine inspects it, and why the engine can't be asked."""
    if blocked is not None:
        return None, blocked
    try:
        return _host.Engine(subject.docker_socket).get(f"/containers/{_host.quote(subject.container)}/json"), None
    except _host.ApiError as error:
        return None, str(error)


def oom_events(run: _host.Run, subject: Subject, now: float) -> list[float]:
    """When the engine saw the container run out of memory. It remembers the last of its events until it is restarted."""
    limits = ["--since", str(int(now) - EVENTS_SINCE), "--until", str(int(now) + 1)]
    chosen = ["--filter", f"container={subject.container}", "--filter", "event=oom"]
    found = docker(run, subject, "events", *limits, *chosen, "--format", "{{json .}}")
    times = []
    for line in found.stdout.splitlines():
        try:
            times.append(float(json.loads(line)["time"]))
        except (ValueError, KeyError, TypeError):
            continue
    return times


def log_evidence(run: _host.Run, subject: Subject, inspected: Row) -> list[str]:
    """What it logged since its last start: what came before is a matter of another time."""
    started = (inspected.get("State") or {}).get("StartedAt") or "0"
    found = docker(run, subject, "logs", "--since", started, "--tail", str(LOG_LINES), subject.container)
    return clean_log((found.stdout + found.stderr).encode("utf-8", "replace"))


def parse_kernel(text: str, pattern: re.Pattern[str], booted: float = 0.0) -> list[Row]:
    """Lines of the kernel's log that may matter, with the time of the wall clock."""
    rows = []
    for line in text.splitlines():
        match = pattern.match(line)
        if match and _KERNEL.search(match.group(2)):
            rows.append({"time": round(booted + float(match.group(1)), 3), "text": match.group(2).strip()})
    return rows[-KERNEL_LINES:]


def kernel_evidence(machine: _gpu.Machine, now: float) -> list[Row] | None:
    """None where the kernel's log can't be read."""
    journal = machine.ask("journalctl", "--dmesg", "--boot", "--no-pager", "--output=short-unix")
    rows = parse_kernel(journal.stdout, _JOURNAL)
    if rows:
        return rows
    uptime = machine.read("proc/uptime").split()
    buffer = machine.ask("dmesg")
    if buffer.ok and uptime:
        return parse_kernel(buffer.stdout, _DMESG, now - float(uptime[0]))
    return [] if journal.ok and "No entries" not in journal.stdout else None


def audit_evidence(machine: _gpu.Machine) -> list[Row]:
    """Denials of SELinux that the audit daemon kept out of the kernel's log."""
    rows = []
    for line in machine.read("var/log/audit/audit.log")[-(1 << 20) :].splitlines():
        match = _AVC.match(line)
        if match:
            rows.append({"time": float(match.group(1)), "text": match.group(2)})
    return rows[-KERNEL_LINES:]


# --- Memory ------------------------------------------------------------------------------------------------------------


def _number(text: str) -> int | None:
    try:
        return int(text.strip())
    except ValueError:
        return None


def group_evidence(machine: _gpu.Machine, pid: int | None) -> Row:
    """The memory of the container's control group: its limit, what it uses, and how often the kernel killed in it."""
    row: Row = {"limit": None, "usage": None, "oom_kills": None}
    lines = machine.read(f"proc/{pid}/cgroup").splitlines() if pid else []
    for line in lines:
        number, controllers, path = line.split(":", 2)
        if number == "0":
            folder, files = f"sys/fs/cgroup{path}", ("memory.max", "memory.current", "memory.events")
        elif controllers == "memory":
            folder, files = f"sys/fs/cgroup/memory{path}", ("memory.limit_in_bytes", "memory.usage_in_bytes", "memory.oom_control")
        else:
            continue
        usage = _number(machine.read(f"{folder}/{files[1]}"))
        if usage is None:
            continue
        limit = _number(machine.read(f"{folder}/{files[0]}"))
        kills = re.search(r"^oom_kill (\d+)", machine.read(f"{folder}/{files[2]}"), re.MULTILINE)
        # Without a limit version 1 has a number that no machine has as memory.
        row = {
            "limit": limit if limit is not None and limit < 1 << 60 else None,
            "usage": usage,
            "oom_kills": int(kills.group(1)) if kills else None,
        }
    return row


def shm_evidence(machine: _gpu.Machine, pid: int | None, inspected: Row | None) -> Row:
    """The container's /dev/shm: as it is while it runs, and as it is configured."""
    row: Row = {"size": ((inspected or {}).get("HostConfig") or {}).get("ShmSize"), "used": None, "regions": 0}
    folder = machine.path(f"proc/{pid}/root/dev/shm") if pid else ""
    if folder:
        try:
            system = os.statvfs(folder)
            row["size"] = system.f_blocks * system.f_frsize
            row["used"] = (system.f_blocks - system.f_bfree) * system.f_frsize
            row["regions"] = sum(name.startswith(_SHM_REGION) for name in os.listdir(folder))
        except OSError:
            pass
    return row


def memory_evidence(machine: _gpu.Machine) -> Row:
    found = dict(re.findall(r"^(\w+):\s+(\d+) kB", machine.read("proc/meminfo"), re.MULTILINE))
    return {
        key: int(found[name]) << 10 if name in found else None
        for key, name in (("total", "MemTotal"), ("available", "MemAvailable"), ("swap_total", "SwapTotal"), ("swap_free", "SwapFree"))
    }


# --- Permissions -------------------------------------------------------------------------------------------------------


def components(path: str) -> list[str]:
    """A path and everything above it, from the root on."""
    found = [os.path.normpath(path)]
    while found[-1] != "/":
        found.append(os.path.dirname(found[-1]))
    return found[::-1]


def describe(path: str) -> Row:
    try:
        status = os.stat(path)
    except OSError as error:
        return {"path": path, "type": None, "mode": None, "uid": None, "gid": None, "error": error.strerror}
    kind = "directory" if stat.S_ISDIR(status.st_mode) else "file"
    mode = f"{stat.S_IMODE(status.st_mode):04o}"
    return {"path": path, "type": kind, "mode": mode, "uid": status.st_uid, "gid": status.st_gid, "error": None}


def denied_below(path: str, limit: int = ENTRIES) -> tuple[list[str], int]:
    """What the user of this process can't read at or below a path, and how much was looked at."""
    if not os.path.isdir(path):
        return ([] if os.access(path, os.R_OK) else [path]), 1
    denied, count, waiting = [], 0, [path]
    while waiting and count < limit and len(denied) < LISTED:
        folder = waiting.pop()
        count += 1
        if not os.access(folder, os.R_OK | os.X_OK):
            denied.append(folder)
            continue
        with os.scandir(folder) as entries:
            for entry in sorted(entries, key=lambda entry: entry.name):
                count += 1
                if entry.is_dir():
                    waiting.append(entry.path)
                elif not os.access(entry.path, os.R_OK) and os.path.lexists(entry.path):
                    denied.append(entry.path)
    return denied, count


def _look(subject: Subject) -> Row:
    """In a child that is the server's user: which part of which path stops it."""
    barred, unreadable, unwritable, looked = [], [], [], 0
    for path in (subject.models, *subject.readable):
        if not os.path.lexists(path) and _reachable(path) is None:
            continue
        stop = _reachable(path)
        if stop is not None:
            barred.append({"path": path, "component": stop})
            continue
        denied, count = denied_below(path)
        unreadable += denied
        looked += count
    for path in subject.writable:
        stop = _reachable(path)
        if stop is not None:
            barred.append({"path": path, "component": stop})
        elif os.path.isdir(path) and not os.access(path, os.W_OK | os.X_OK):
            unwritable.append(path)
    return {"barred": barred, "unreadable": sorted(unreadable)[:LISTED], "unwritable": unwritable, "looked": looked}


def _reachable(path: str) -> str | None:
    """The first folder above a path that may not be passed through, if there is one."""
    for folder in components(path)[:-1]:
        if os.path.isdir(folder) and not os.access(folder, os.X_OK):
            return folder
    return None


def _become(uid: int, gid: int) -> bool:
    if os.geteuid() == 0:
        os.setgroups([])
        os.setgid(gid)
        os.setuid(uid)
    return os.geteuid() == uid


def _child(subject: Subject, sink: int) -> None:
    answer: Row = {"error": None}
    try:
        answer.update(_look(subject) if _become(subject.uid, subject.gid) else {"error": f"only root can look as user {subject.uid}"})
    except OSError as error:
        answer["error"] = f"{error.filename or subject.models}: {error.strerror}"
    with os.fdopen(sink, "w", encoding="utf-8", errors="surrogateescape") as handle:
        json.dump(answer, handle)


def _answer(source: int, timeout: float) -> bytes | None:
    deadline, parts = time.monotonic() + timeout, []
    while True:
        left = deadline - time.monotonic()
        if left <= 0 or not select.select([source], [], [], left)[0]:
            return None
        part = os.read(source, 65536)
        if not part:
            return b"".join(parts)
        parts.append(part)


def as_user(subject: Subject, timeout: float = PROBE_TIMEOUT) -> Row:
    """Look in a child process: it can become the server's user, and a dead network mount holds up the child alone."""
    source, sink = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.close(source)
            _child(subject, sink)
        finally:
            # The child must not run the parent's exit handlers.
            os._exit(0)  # pylint: disable=protected-access
    os.close(sink)
    try:
        answer = _answer(source, timeout)
    finally:
        os.close(source)
    if answer is None:
        os.kill(child, signal.SIGKILL)
    os.waitpid(child, os.WNOHANG if answer is None else 0)
    row: Row = {"barred": [], "unreadable": [], "unwritable": [], "looked": 0, "error": None}
    if answer is None:
        return {**row, "error": f"{subject.models} did not answer within {timeout:g} s; is it on a network mount that is gone?"}
    try:
        return {**row, **json.loads(answer.decode("utf-8", "surrogateescape"))}
    except ValueError:
        return {**row, "error": "the look as the server's user came to nothing"}


def permission_evidence(subject: Subject) -> Row:
    seen = as_user(subject)
    mount = mount_of(os.path.realpath(subject.models), read_mounts())
    return {
        "uid": subject.uid,
        "gid": subject.gid,
        "error": seen["error"],
        "looked": seen["looked"],
        "components": [] if seen["error"] else [describe(path) for path in components(subject.models)],
        "barred": [{**describe(row["component"]), "for": row["path"]} for row in seen["barred"]],
        "unreadable": [describe(path) for path in seen["unreadable"]],
        "unwritable": [describe(path) for path in seen["unwritable"]],
        "fs_type": mount.fs_type if mount is not None else None,
    }


# --- Models ------------------------------------------------------------------------------------------------------------


def _names(folder: str) -> list[str]:
    try:
        return sorted(name for name in os.listdir(folder) if not name.startswith("."))
    except OSError:
        return []


def repository_evidence(path: str) -> list[Row] | None:
    """The models on disk, as far as their folders tell. None where there is no repository."""
    if not os.path.isdir(path):
        return None
    rows = []
    for name in _names(path)[:1000]:
        folder = os.path.join(path, name)
        if os.path.isdir(folder):
            versions = [version for version in _names(folder) if re.fullmatch(r"[1-9]\d*", version)]
            text = ""
            try:
                with open(os.path.join(folder, "config.pbtxt"), encoding="utf-8", errors="replace") as handle:
                    text = handle.read(1 << 16)
            except OSError:
                pass
            backend = re.search(r'^\s*(?:backend|platform)\s*:\s*"([^"]+)"', text, re.MULTILINE)
            rows.append(
                {
                    "name": name,
                    "config": bool(text),
                    "backend": backend.group(1) if backend else None,
                    "versions": {version: _names(os.path.join(folder, version))[:LISTED] for version in versions},
                }
            )
    return rows


def server_evidence(connect: t.Callable[[], TritonClient]) -> Row:
    row: Row = {"live": False, "ready": False, "error": None, "index": None}
    try:
        client = connect()
        with client.transport:
            row["live"] = client.live()
            row["ready"] = client.ready()
            row["index"] = [
                {"name": item.name, "version": item.version, "state": item.state, "reason": item.reason} for item in client.index()
            ]
    except HttpError as error:
        row["error"] = str(error)
    return row


# --- All of it ---------------------------------------------------------------------------------------------------------


def collect(
    machine: _gpu.Machine,
    subject: Subject,
    complaints: t.Collection[str],
    connect: t.Callable[[], TritonClient],
    clock: t.Callable[[], float] = time.time,
) -> Row:
    """What bears on these complaints, in one answer. What bears on none of them is left out."""
    now = clock()
    units = _host.ask_units(machine.run, ["docker.service", "docker.socket", subject.unit]) if _host.has_systemd() else {}
    inspected, error = container_evidence(subject, _host.sleeping_engine(units))
    pid = ((inspected or {}).get("State") or {}).get("Pid") or None
    evidence: Row = {
        "now": now,
        "complaints": sorted(complaints),
        "subject": {"container": subject.container, "unit": subject.unit, "models": subject.models},
        "units": units,
        "container": inspected,
        "engine_error": error,
        "log": log_evidence(machine.run, subject, inspected) if inspected is not None else [],
        "kernel": kernel_evidence(machine, now),
        "gpu": None,
        "in_container": None,
        "oom_events": [],
        "group": {},
        "shm": {},
        "memory": {},
        "permissions": None,
        "audit": [],
        "selinux": None,
        "repository": None,
        "load_models": [],
        "server": None,
    }
    if {"gpu", "memory"} & set(complaints):
        evidence["gpu"] = _gpu.collect(machine, subject.docker_socket)
    if "gpu" in complaints and pid and evidence["gpu"]["gpus"]:
        asked = docker(machine.run, subject, "exec", subject.container, "nvidia-smi", "--query-gpu=uuid,name", "--format=csv,noheader")
        evidence["in_container"] = {"rc": asked.rc, "text": (asked.stdout + asked.stderr).strip()}
    if "memory" in complaints:
        evidence["oom_events"] = oom_events(machine.run, subject, now) if inspected is not None else []
        evidence["group"] = group_evidence(machine, pid)
        evidence["memory"] = memory_evidence(machine)
    if {"memory", "model"} & set(complaints):
        evidence["shm"] = shm_evidence(machine, pid, inspected)
    if {"permission", "model"} & set(complaints):
        evidence["permissions"] = permission_evidence(subject)
        evidence["audit"] = audit_evidence(machine)
        enforce = machine.read("sys/fs/selinux/enforce").strip()
        evidence["selinux"] = {"1": "enforcing", "0": "permissive"}.get(enforce)
    if "model" in complaints:
        evidence["repository"] = repository_evidence(subject.models)
        evidence["load_models"] = [line.strip() for line in machine.read(subject.load_models).splitlines()] if subject.load_models else []
        evidence["server"] = server_evidence(connect)
    return evidence
