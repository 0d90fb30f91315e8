# Copyright (c) 2026, The gpufleet.triton authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the evidence means for the four classical complaints: what was seen, why that is, and the command that mends it.

Pure: everything is read from the evidence that _evidence collects. Private to the collection.

Sources: messages of tritonserver 2.51.0 and its Python backend, seen; kernel 6.1 (mm/oom_kill.c); triton-inference-server/server issues
4869, 5681, 6195 (/dev/shm), 2600, 7015 (permissions), 7798, 3955 (driver and CUDA).
"""

from __future__ import annotations

import re
import typing as t
from dataclasses import dataclass, replace
from datetime import datetime, timezone

from ansible_collections.gpufleet.triton.plugins.module_utils import _gpu_problems, _verify
from ansible_collections.gpufleet.triton.plugins.module_utils._container import poll_failures
from ansible_collections.gpufleet.triton.plugins.module_utils._gpu_problems import counted, listed
from ansible_collections.gpufleet.triton.plugins.module_utils._problem import Problem, sentence

COMPLAINTS = ("gpu", "model", "memory", "permission")
TITLES = {
    "gpu": "GPU not available",
    "model": "model loading failed",
    "memory": "out of memory",
    "permission": "permission denied",
}
ERROR = "error"
WARNING = "warning"
NOTE = "note"
_SEVERITIES = (ERROR, WARNING, NOTE)
# How far the kernel's and the engine's clocks may be apart about one end, in seconds.
_SAME_TIME = 5.0
_FULL = 0.9
_LINE = 300
_SEEN = 5

Row = dict[str, t.Any]


@dataclass(frozen=True)
class Finding(Problem):
    complaint: str = ""
    seen: tuple[str, ...] = ()
    severity: str = ERROR

    def as_dict(self) -> Row:
        return {**super().as_dict(), "complaint": self.complaint, "seen": list(self.seen), "severity": self.severity}


Findings = t.Iterator[Finding]


# --- What several of them need -----------------------------------------------------------------------------------------


def size(number: float | None) -> str:
    if number is None:
        return "unknown"
    for unit, scale in (("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)):
        if number >= scale:
            return f"{number / scale:.1f}".rstrip("0").rstrip(".") + f" {unit}"
    return f"{number:.0f} bytes"


def role(options: str) -> str:
    """The command that applies options of the role; for good they belong into the inventory."""
    return f"set {options} in the inventory, then run: ansible-playbook gpufleet.triton.site --tags triton_server"


def state_of(evidence: Row) -> Row:
    return (evidence["container"] or {}).get("State") or {}


def host_config(evidence: Row) -> Row:
    return (evidence["container"] or {}).get("HostConfig") or {}


def name_of(evidence: Row) -> str:
    return f"container {evidence['subject']['container']!r}"


def lines(evidence: Row, pattern: re.Pattern[str], limit: int = _SEEN) -> tuple[str, ...]:
    found = [line.strip()[:_LINE] for line in evidence["log"] if pattern.search(line)]
    return tuple(found[-limit:])


def moment(text: str) -> float | None:
    """A time of the engine, which has more digits of a second than Python takes, in seconds."""
    match = re.match(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(\.\d+)?", text or "")
    if match is None or match.group(1).startswith("0001"):
        return None
    seconds = datetime.strptime(match.group(1), "%Y-%m-%dT%H:%M:%S").replace(tzinfo=timezone.utc).timestamp()
    return seconds + float(match.group(2) or 0)


def shown(time: float) -> str:
    return datetime.fromtimestamp(time, timezone.utc).strftime("%Y-%m-%d %H:%M:%S UTC")


def asks_for_gpu(evidence: Row) -> bool:
    config = host_config(evidence)
    return bool(config.get("DeviceRequests")) or config.get("Runtime") == "nvidia"


# --- GPU not available -------------------------------------------------------------------------------------------------


def gpu_findings(evidence: Row) -> Findings:
    facts = evidence["gpu"]
    present = _verify.has_gpu(facts)
    if not present:
        seen = ("/sys/bus/pci/devices: no display or 3D controller of vendor 10de",)
        why = "the PCI bus has no NVIDIA device: there is none, it has fallen off the bus, or it was given to a virtual machine"
        remedy = "run: lspci -d 10de:; look at its seating and power, reboot; or serve on the CPU: " + role("triton_server_accelerator=cpu")
        # A host for the CPU has none, and that is right, unless somebody misses it.
        severity = ERROR if asks_for_gpu(evidence) or evidence["complaints"] == ["gpu"] else NOTE
        yield Finding("This host has no NVIDIA GPU", why, remedy, "gpu", seen, severity)
    else:
        for problem in _gpu_problems.problems(facts):
            seen = (f"nvidia-smi: {facts['nvidia_smi']['message']}",) if facts["nvidia_smi"]["message"] else ()
            yield Finding(problem.what, problem.why, problem.remedy, "gpu", seen, problem.severity)
    yield from _container_gpu(evidence, present)


def _container_gpu(evidence: Row, present: bool) -> Findings:
    state = state_of(evidence)
    name = name_of(evidence)
    fault = _verify.fault_in(state.get("Error") or "")
    if state.get("Error") and fault:
        seen = (f"docker inspect: State.Error: {state['Error'][:_LINE]}",)
        yield Finding(f"Docker could not give {name} its GPU", fault[0], fault[1], "gpu", seen)
    if evidence["container"] is not None and present and not asks_for_gpu(evidence):
        seen = ("docker inspect: HostConfig.DeviceRequests is null, Runtime is " + str(host_config(evidence).get("Runtime")),)
        why = "it was made without asking for one, so Triton serves on the CPU"
        yield Finding(f"The {name} was given no GPU", why, role("triton_server_accelerator=gpu"), "gpu", seen)
    asked = evidence["in_container"]
    if asked is not None and asks_for_gpu(evidence) and not _verify.uuids_in(asked["text"]):
        why, remedy = _verify.fault_in(asked["text"]) or ("it was given one when it was made", "run: systemctl restart triton")
        seen = (f"docker exec {evidence['subject']['container']} nvidia-smi: {asked['text'][:_LINE]} (status {asked['rc']})",)
        yield Finding(f"The {name} does not see its GPU any more", why, remedy, "gpu", seen)
    refused = lines(evidence, _verify.NO_CUDA, 2)
    if refused and state.get("Running") and (present and asks_for_gpu(evidence)):
        why = "the CUDA in the image and the driver do not fit, or the device cannot be opened"
        remedy = "use a driver that is new enough for this Triton (its release notes name it), then run: systemctl restart triton"
        yield Finding("Triton could not use CUDA when it started", why, remedy, "gpu", refused)


# --- Out of memory -----------------------------------------------------------------------------------------------------

_KILL = re.compile(r"Killed process (\d+) \(([^)]*)\)(?:.*?anon-rss:(\d+)kB)?")
_SHM = re.compile(r"[Uu]nable to (initialize|increase|create) shared memory|shared memory (region|key).*(failed|No space)|--shm-size")
_GPU_MEMORY = re.compile(
    r"CUDA out of memory|CUDA_ERROR_OUT_OF_MEMORY|cudaErrorMemoryAllocation|cudaMalloc.*out of memory|CUDA.*: out of memory"
    r"|OutOfMemoryError|failed to allocate.*CUDA|Cuda Runtime \(out of memory\)",
)
_HOST_MEMORY = re.compile(r"std::bad_alloc|Cannot allocate memory|\bMemoryError")


@dataclass(frozen=True)
class Kill:
    """One process that the kernel killed for memory."""

    time: float
    process: str
    rss: int | None
    # Whether a group's limit was the reason, rather than the whole host.
    limited: bool
    group: str
    seen: tuple[str, ...]


def kills(kernel: t.Sequence[Row]) -> list[Kill]:
    found = []
    reason = ""
    for row in kernel:
        if "oom-kill:" in row["text"]:
            reason = row["text"]
            continue
        match = _KILL.search(row["text"])
        if match is None:
            continue
        group = re.search(r"task_memcg=([^,]*)", reason)
        limited = "CONSTRAINT_MEMCG" in reason or "Memory cgroup out of memory" in row["text"]
        rss = int(match.group(3)) << 10 if match.group(3) else None
        seen = tuple(f"kernel: {text[:_LINE]}" for text in (reason, row["text"]) if text)
        found.append(Kill(row["time"], match.group(2), rss, limited, group.group(1) if group else "", seen))
        reason = ""
    return found


def kills_of(evidence: Row) -> list[Kill]:
    """Those that were processes of the container: told by its group, or by when it ended."""
    state, number = state_of(evidence), str((evidence["container"] or {}).get("Id") or "-")
    ended = moment(state.get("FinishedAt") or "") if state.get("ExitCode") == 137 else None
    return [
        kill
        for kill in kills(evidence["kernel"] or ())
        if number in kill.group or (ended is not None and abs(kill.time - ended) <= _SAME_TIME)
    ]


def memory_findings(evidence: Row) -> Findings:
    yield from _killed(evidence)
    yield from _group(evidence)
    yield from _host_memory(evidence)
    yield from _gpu_memory(evidence)
    yield from shm_findings(evidence, "memory")


def _raise_limit(limit: int | None) -> str:
    if not limit:
        return role("triton_server_memory_limit")
    return role(f"triton_server_memory_limit={max(2 * limit >> 30, 1)}g (now {size(limit)})")


def _killed(evidence: Row) -> Findings:
    state, name = state_of(evidence), name_of(evidence)
    limit = host_config(evidence).get("Memory") or evidence["group"].get("limit")
    found = kills_of(evidence)
    flagged = bool(state.get("OOMKilled"))
    seen: tuple[str, ...] = (f"docker inspect: OOMKilled {str(flagged).lower()}, exit code {state.get('ExitCode')}",)
    seen += found[-1].seen if found else ()
    seen += tuple(f"docker events: oom at {shown(time)}" for time in evidence["oom_events"][-2:])
    fewer = "load fewer models or lower their instance counts"
    if found and not found[-1].limited:
        kill = found[-1]
        why = f"the whole host had no memory left at {shown(kill.time)}, and the kernel chose {kill.process} ({size(kill.rss)})"
        remedy = f"see what else uses it: ps -eo rss,comm --sort=-rss | head; {fewer}; then run: systemctl restart triton"
        yield Finding(f"The kernel killed a process of {name}: the host is out of memory", why, remedy, "memory", seen)
    elif found or flagged or evidence["oom_events"]:
        process = f", and the kernel killed {found[-1].process} ({size(found[-1].rss)}) at {shown(found[-1].time)}" if found else ""
        why = f"its processes needed more than its group may have ({size(limit) if limit else 'a limit'}){process}"
        if state.get("Running"):
            why += "; it runs again"
        what = f"The {name} was killed by its memory limit"
        yield Finding(what, why, f"{_raise_limit(limit)}; or {fewer}", "memory", seen)
    elif state.get("ExitCode") == 137 and not state.get("Running") and evidence["kernel"] is None:
        why = "it was killed, and the kernel's log, which would tell why, can't be read"
        yield Finding(f"The {name} was killed", why, "run as root: dmesg -T | grep -i oom", "memory", seen, WARNING)


def _group(evidence: Row) -> Findings:
    group, name = evidence["group"], name_of(evidence)
    if group.get("oom_kills") and not kills_of(evidence):
        seen = (f"memory.events: oom_kill {group['oom_kills']}",)
        why = "a process in it, such as the stub of a Python model, was killed for memory while the server went on"
        yield Finding(f"Processes of {name} were killed for memory", why, _raise_limit(group.get("limit")), "memory", seen)
    if group.get("limit") and group["usage"] > _FULL * group["limit"]:
        seen = (f"its control group uses {size(group['usage'])} of {size(group['limit'])}",)
        why = "page cache counts as well and is given back first; when nothing is left to give, the kernel kills"
        yield Finding(f"The {name} is close to its memory limit", why, _raise_limit(group["limit"]), "memory", seen, WARNING)


def _host_memory(evidence: Row) -> Findings:
    memory = evidence["memory"]
    if memory.get("total") and memory.get("available") is not None and memory["available"] < 0.05 * memory["total"]:
        seen = (f"/proc/meminfo: {size(memory['available'])} of {size(memory['total'])} available",)
        remedy = "see what uses it: ps -eo rss,comm --sort=-rss | head; load fewer models, or add memory"
        yield Finding("The host has hardly any memory left", "less than 5 % is available", remedy, "memory", seen, WARNING)
    refused = lines(evidence, _HOST_MEMORY)
    if refused and not lines(evidence, _SHM):
        why = "the host or a limit (ulimit, control group) refused to give memory to the server or to a model"
        remedy = "see how much there is: free -h; docker stats --no-stream; load fewer models, or " + role("triton_server_memory_limit")
        yield Finding("Triton was refused memory of the host", why, remedy, "memory", refused)


def _gpu_memory(evidence: Row) -> Findings:
    gpus = (evidence["gpu"] or {}).get("gpus") or []
    known = [gpu for gpu in gpus if gpu["memory_total_mib"]]
    used = [f"GPU {gpu['index']}: {gpu['memory_used_mib']} of {gpu['memory_total_mib']} MiB used" for gpu in known]
    refused = lines(evidence, _GPU_MEMORY, 3)
    remedy = (
        "see who has it: nvidia-smi --query-compute-apps=pid,name,used_memory --format=csv; lower instance_group count or max_batch_size, "
        "unload a model, or spread them over more GPUs; then run: ansible-playbook gpufleet.triton.models"
    )
    if refused:
        why = "a model asked for more than the GPU had left"
        yield Finding("The GPU ran out of memory", why, remedy, "memory", (*refused, *used))
        return
    full = [gpu for gpu in known if (gpu["memory_used_mib"] or 0) > 0.95 * gpu["memory_total_mib"]]
    if full:
        why = "what is loaded next, or a larger batch, may not fit"
        what = f"{counted(len(full), 'GPU')} with hardly any memory left"
        yield Finding(what, why, remedy, "memory", tuple(used), WARNING)


def shm_findings(evidence: Row, complaint: str) -> Findings:
    shm = evidence["shm"]
    refused = lines(evidence, _SHM, 2)
    wanted = max(2 * (shm.get("size") or 0) >> 30, 4)
    remedy = role(f"triton_server_shm_size={wanted}g (now {size(shm.get('size'))})")
    state = f"/dev/shm of {name_of(evidence)}: {size(shm.get('size'))}"
    if shm.get("used") is not None:
        state += f", {size(shm['used'])} used, {counted(shm['regions'], 'region')} of Python models"
    if refused:
        why = "each instance of a Python model takes at least 1 MiB of it, and large tensors travel through it"
        yield Finding("/dev/shm is too small", why, remedy, complaint, (*refused, state))
    elif shm.get("used") is not None and shm.get("size") and shm["used"] > _FULL * shm["size"]:
        why = "the next model, instance or large tensor may not fit"
        yield Finding("/dev/shm is almost full", why, remedy, complaint, (state,), WARNING)


# --- Permission denied -------------------------------------------------------------------------------------------------

_DENIED = re.compile(r"[Pp]ermission denied|Operation not permitted")
_READ_ONLY = re.compile(r"Read-only file system")
_AVC_PATH = re.compile(r'(?:path|name)="([^"]+)"')


def permission_findings(evidence: Row) -> Findings:
    permissions = evidence["permissions"]
    user = f"{permissions['uid']}:{permissions['gid']}"
    found = False
    if permissions["error"]:
        seen = (permissions["error"],)
        what = f"Cannot look as the server's user {user}"
        yield Finding(what, permissions["error"], "run with become: true", "permission", seen, WARNING)
    if permissions["unreadable"]:
        found = True
        yield _unreadable(evidence, permissions, user)
    for row in permissions["unwritable"]:
        found = True
        seen = (f"{_mode(row)} {row['path']}",)
        remedy = f"run: chown -R {user} {row['path']}"
        yield Finding(f"User {user} can't write to {row['path']}", "the server keeps caches and logs there", remedy, "permission", seen)
    for row in permissions["barred"]:
        seen = (f"{_mode(row)} {row['path']}",)
        why = f"it lacks search permission on {row['path']}, above {row['for']}; a container that has the folder mounted does not notice, "
        why += "and the role's preflight and whatever else runs as that user does"
        yield Finding(f"User {user} can't pass {row['path']}", why, f"run: chmod o+x {row['path']}", "permission", seen, WARNING)
    denials = list(_denials(evidence))
    yield from denials
    refused = lines(evidence, _DENIED, 3)
    if refused and not found and not denials:
        why = "the server or a model was refused, and everything of the repository is readable: it is something else that the line names"
        remedy = f"look at what the line names, as that user: docker exec --user {user} {evidence['subject']['container']} ls -la PATH"
        yield Finding("The server's log has a denied permission", why, remedy, "permission", refused)
    refused = lines(evidence, _READ_ONLY, 3)
    if refused:
        why = "the container's root file system and the repository are mounted read-only"
        remedy = "have the model write below /tmp or /var/cache/triton, or " + role("triton_server_read_only=false")
        yield Finding("A model wants to write where it may not", why, remedy, "permission", refused)


def _mode(row: Row) -> str:
    return f"{row['mode']} {row['uid']}:{row['gid']}"


def _unreadable(evidence: Row, permissions: Row, user: str) -> Finding:
    rows = permissions["unreadable"]
    models = evidence["subject"]["models"]
    seen = tuple(f"{_mode(row)} {row['path']}" for row in rows[:_SEEN])
    first = rows[0]
    path = first["path"]
    what = f"User {user}, as which Triton runs, can't read {path}"
    if len(rows) > 1:
        what += f" and {len(rows) - 1} more"
    owner = "the owner" if first["uid"] == permissions["uid"] else "the group" if first["gid"] == permissions["gid"] else "everybody else"
    why = f"its mode {first['mode']}, owner {first['uid']}:{first['gid']}, lets {owner} not"
    place = models if path == models or path.startswith(models + "/") else path
    bits = {"the owner": "u", "the group": "g"}.get(owner, "o")
    remedy = f"run: chmod -R {bits}+rX {place}"
    if not path.startswith(models):
        remedy = f"run: chown {user} {path}; or let the role set it: ansible-playbook gpufleet.triton.site --tags triton_server"
    if (permissions["fs_type"] or "").startswith("nfs"):
        remedy += "; on NFS look at root_squash and all_squash in the export as well"
    return Finding(what, why, remedy, "permission", seen)


def _denials(evidence: Row) -> Findings:
    rows = [*(evidence["kernel"] or ()), *evidence["audit"]]
    selinux = [row for row in rows if row["text"].startswith("avc:") or "avc:  denied" in row["text"]]
    selinux = [row for row in selinux if "container_t" in row["text"] or "triton" in row["text"]]
    if selinux and evidence["selinux"] != "permissive":
        path = next((match.group(1) for match in (_AVC_PATH.search(row["text"]) for row in selinux) if match), "")
        why = f"the label of {path or 'what it wanted'} is not one for containers"
        remedy = f"run: chcon -R -t container_file_t {evidence['subject']['models']}; for good: semanage fcontext and restorecon"
        yield Finding("SELinux denied the container", why, remedy, "permission", tuple(row["text"][:_LINE] for row in selinux[-3:]))
    profile = (evidence["container"] or {}).get("AppArmorProfile") or "docker-default"
    apparmor = [row for row in rows if 'apparmor="DENIED"' in row["text"] and f'profile="{profile}"' in row["text"]]
    if apparmor:
        why = f"the profile {profile} forbids it"
        remedy = "allow it in a profile of your own (apparmor_parser -r FILE) and name that in the container's security_opt"
        yield Finding("AppArmor denied the container", why, remedy, "permission", tuple(row["text"][:_LINE] for row in apparmor[-3:]))


# --- Model loading failed ----------------------------------------------------------------------------------------------

_RELOAD = "then run: ansible-playbook gpufleet.triton.models"
# A part of the cause that Triton or a backend gives, why that is, and what helps.
_CAUSES = (
    (re.compile(r"No module named '([^']+)'"), "the image's Python does not have {0}", "serve it from an image that has {0}, " + _RELOAD),
    (
        re.compile(r"[Uu]nable to find backend library for backend '([^']+)'|unable to find '?libtriton_(\w+)"),
        "this image has no such backend",
        "use an image with it, or put it below containers/triton/backends and " + role("triton_server_extra_backends"),
    ),
    (_GPU_MEMORY, "the GPU had not enough memory left", "see the complaint memory; unload another model, " + _RELOAD),
    (_SHM, "/dev/shm is too small for its instances", role("triton_server_shm_size")),
    (_DENIED, "the server's user may not read it", "see the complaint permission"),
    (
        re.compile(r"at least one version must be available"),
        "no folder of a version fits its version policy",
        "publish it with a folder whose name is a number, such as 1, " + _RELOAD,
    ),
    (
        re.compile(r"incompatible with.*TensorRT|engine plan file|[Vv]ersion tag does not match|compute capability|on a different device"),
        "a TensorRT plan fits the GPU and the TensorRT that it was built with alone",
        "build it anew on this kind of GPU with the TensorRT of this image, " + _RELOAD,
    ),
    (
        re.compile(r"failed to (parse|read) text proto|Error parsing text-format|[Uu]nknown field"),
        "its config.pbtxt can't be parsed",
        "correct the line and column that it names, " + _RELOAD,
    ),
    (
        re.compile(r"[Nn]o such file|failed to stat|does not exist|[Ff]ailed to open|[Uu]nable to open"),
        "a file that it needs is not in its folder",
        "publish it whole, " + _RELOAD,
    ),
    (
        re.compile(r"CUDA driver version is insufficient|no CUDA-capable device|no GPUs? (are )?available|GPU instances not supported"),
        "it wants a GPU and the server has none",
        "see the complaint gpu; or set instance_group kind KIND_CPU, " + _RELOAD,
    ),
)


def cause_of(text: str) -> tuple[str, str]:
    for pattern, why, remedy in _CAUSES:
        match = pattern.search(text)
        if match:
            words = [word for word in match.groups() if word] or [""]
            return why.replace("{0}", words[0]), remedy.replace("{0}", words[0])
    return "the model or its backend refused to start with that error", "correct what it names, " + _RELOAD


_FAILED = re.compile(r"failed to load '([^']+)'(?: version (\d+))?: (.*)")


def model_findings(evidence: Row) -> Findings:
    yield from _server(evidence)
    index = (evidence["server"] or {}).get("index")
    told = set()
    served = {row["name"] for row in index or () if row["state"] == "READY"}
    for row in index or ():
        if row["state"] == "UNAVAILABLE" and row["reason"] and row["reason"] != "unloaded":
            told.add(row["name"])
            version = f" version {row['version']}" if row["version"] is not None else ""
            yield _refused(evidence, row["name"], version, row["reason"])
    for name, version, reason in _logged(evidence):
        if name not in told and name not in served:
            told.add(name)
            yield _refused(evidence, name, f" version {version}" if version else "", reason)
    known = {row["name"]: row for row in evidence["repository"] or ()}
    for name in sorted({*known, *evidence["load_models"]} - {""}):
        causes = poll_failures(evidence["log"], name)
        if causes and name not in told and name not in served:
            told.add(name)
            yield _refused(evidence, name, "", causes[-1])
    yield from _on_disk(evidence, known, index, told)
    yield from shm_findings(evidence, "model")
    permissions = evidence["permissions"]
    if permissions and permissions["unreadable"]:
        user = f"{permissions['uid']}:{permissions['gid']}"
        yield replace(_unreadable(evidence, permissions, user), complaint="model")


def _server(evidence: Row) -> Findings:
    server, state, name = evidence["server"] or {}, state_of(evidence), name_of(evidence)
    if evidence["engine_error"]:
        remedy = "look at: journalctl -u docker -n 50; then run: systemctl start docker"
        yield Finding("The Docker Engine can't be asked", evidence["engine_error"], remedy, "model", (evidence["engine_error"],))
    elif evidence["container"] is None:
        remedy = "run: ansible-playbook gpufleet.triton.site --tags triton_server"
        yield Finding(f"There is no {name}", "Triton was not set up here, or was removed", remedy, "model")
    elif not state.get("Running"):
        seen = tuple(line.strip()[:_LINE] for line in evidence["log"] if re.match(r"E\d{4} |error:", line))[-3:]
        error = state.get("Error") or "no error of the engine"
        status = f"docker inspect: {state.get('Status')}, exit code {state.get('ExitCode')}, {error}"
        why = "no model is served while it is down; its log and the other findings say why"
        remedy = f"mend the cause, then run: systemctl restart {evidence['subject']['unit']}"
        yield Finding(f"The {name} does not run", why, remedy, "model", (status, *seen))
    elif server.get("error"):
        seen = (server["error"][:_LINE],)
        why = "it runs and its API can't be used: it may still be loading what it starts with, which comes before its ports are opened"
        yield Finding("Triton does not tell its models", why, "wait for it: docker logs -f triton", "model", seen, WARNING)
    elif server.get("index") is not None and not server["ready"] and not any(map(_explains, server["index"])):
        seen = ("GET /v2/health/ready: not ready; repository index: no model that loads, unloads or failed",)
        why = "the first load of a model failed and its folder is gone since, which Triton never forgets; or a Python model's process died"
        remedy = f"run: systemctl restart {evidence['subject']['unit']}"
        yield Finding("The server is not ready, and no model explains it", why, remedy, "model", seen)


def _explains(row: Row) -> bool:
    """Whether a row of the index keeps a server from being ready."""
    return row["state"] in ("LOADING", "UNLOADING") or (row["state"] == "UNAVAILABLE" and row["reason"] != "unloaded")


def _logged(evidence: Row) -> list[tuple[str, str, str]]:
    """The last failed load of each model in the log, with the lines that go on after its first."""
    found: dict[str, tuple[str, str, str]] = {}
    for number, line in enumerate(evidence["log"]):
        match = _FAILED.search(line)
        if match:
            rest = [match.group(3)]
            for more in evidence["log"][number + 1 : number + 8]:
                if re.match(r"[EWI]\d{4} ", more):
                    break
                rest.append(more)
            found[match.group(1)] = (match.group(1), match.group(2) or "", " ".join(" ".join(rest).split()).strip('"'))
    return list(found.values())


def _refused(evidence: Row, name: str, version: str, reason: str) -> Finding:
    text = " ".join(reason.split())
    why, remedy = cause_of(text)
    seen = [text[:_LINE] if len(text) <= _LINE else "..." + text[-_LINE:]]
    named = lines(evidence, re.compile(rf"^E\d{{4}} .*['/\"]{re.escape(name)}['/\":]"), 3)
    seen += [line for line in named if line[:60] not in text]
    return Finding(f"Model {name!r}{version} failed to load", why, remedy, "model", tuple(seen[:3]))


def _on_disk(evidence: Row, known: t.Mapping[str, Row], index: t.Sequence[Row] | None, told: t.Collection[str]) -> Findings:
    models = evidence["subject"]["models"]
    if evidence["repository"] is None:
        remedy = f"mount it if it is a mount, or run: mkdir -p {models}"
        yield Finding(f"{models} is not there", "the repository that Triton is given does not exist", remedy, "model")
        return
    states: dict[str, set[str]] = {}
    for row in index or ():
        states.setdefault(row["name"], set()).add(row["state"])
    for name in evidence["load_models"]:
        if name and name not in known:
            seen = (f"load-models names {name}; ls {models}: {listed(sorted(known)) or 'nothing'}",)
            what = f"Model {name!r} is to be loaded and is not on disk"
            yield Finding(what, "its folder is not there", f"publish it, {_RELOAD}", "model", seen)
    for name, row in known.items():
        if name in told or "READY" in states.get(name, ()):
            continue
        place = f"{models}/{name}"
        empty = [version for version, files in row["versions"].items() if not files]
        no_code = [version for version, files in row["versions"].items() if row["backend"] == "python" and "model.py" not in files]
        if not row["versions"] and row["backend"] != "ensemble":
            why, remedy = "Triton serves what lies in folders whose names are numbers", f"publish one as {place}/1, {_RELOAD}"
            yield Finding(f"Model {name!r} has no version on disk", why, remedy, "model", (place,), WARNING)
        elif no_code and not empty:
            why = "a Python model without it stays LOADING for ever (triton-inference-server/server issue 8766)"
            remedy = f"put it there, then run: systemctl restart {evidence['subject']['unit']}"
            yield Finding(f"Model {name!r} has no model.py", why, remedy, "model", (f"{place}/{no_code[0]}",))
        elif "LOADING" in states.get(name, ()):
            why = "it may be large, or its initialisation hangs"
            yield Finding(f"Model {name!r} is still loading", why, "watch it: docker logs -f triton", "model", (place,), WARNING)
        elif index is not None and states.get(name, {""}) <= {"", "UNKNOWN", "UNAVAILABLE"}:
            why = "it is on disk, and nobody has had it loaded, or it was unloaded"
            remedy = "list it in triton_models with state: loaded, " + _RELOAD
            yield Finding(f"Model {name!r} is not loaded", why, remedy, "model", (place,), NOTE)


# --- All of it ---------------------------------------------------------------------------------------------------------

_JUDGES: dict[str, t.Callable[[Row], Findings]] = {
    "gpu": gpu_findings,
    "model": model_findings,
    "memory": memory_findings,
    "permission": permission_findings,
}


def judge(evidence: Row, complaints: t.Collection[str] = COMPLAINTS) -> list[Finding]:
    """Everything that the evidence says about these complaints, in their order, errors first."""
    found = []
    for complaint in COMPLAINTS:
        if complaint in complaints:
            found += sorted(_JUDGES[complaint](evidence), key=lambda finding: _SEVERITIES.index(finding.severity))
    return found


def as_text(findings: t.Sequence[Finding], complaints: t.Collection[str] = COMPLAINTS) -> list[str]:
    """Lines for a person."""
    text = []
    for complaint in COMPLAINTS:
        if complaint not in complaints:
            continue
        of_it = [finding for finding in findings if finding.complaint == complaint]
        if not any(finding.severity == ERROR for finding in of_it):
            text.append(f"{TITLES[complaint]}: no sign of it")
        else:
            text.append(f"{TITLES[complaint]}:")
        for finding in of_it:
            head = "" if finding.severity == ERROR else f"({finding.severity}) "
            text.append(f"  {head}{sentence(finding.what)}")
            text += [f"    seen: {line}" for line in finding.seen]
            text += [f"    why:  {finding.why}"] if finding.why else []
            text += [f"    do:   {finding.remedy}"] if finding.remedy else []
    return text


def line_of(findings: t.Sequence[Finding]) -> str:
    errors = [finding for finding in findings if finding.severity == ERROR]
    if not errors:
        others = f" ({counted(len(findings), 'warning or note')})" if findings else ""
        return f"No sign of trouble{others}"
    more = f" {len(errors) - 1} more." if len(errors) > 1 else ""
    title = TITLES[errors[0].complaint]
    return f"{title[0].upper()}{title[1:]}: {sentence(errors[0].what, errors[0].why, errors[0].remedy)}{more}"
