# Copyright (c) 2026, The gpufleet.triton authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a role must know of a host before it acts on it. Private to the collection; knows nothing of AnsibleModule.

Nothing here raises for a host that lacks something, and nothing starts, stops or creates anything.
"""

from __future__ import annotations

import contextlib
import errno
import http.client
import importlib.metadata
import importlib.util
import json
import os
import platform
import re
import select
import shutil
import signal
import socket
import stat
import time
import typing as t
import urllib.parse
from datetime import datetime, timezone

from ansible_collections.gpufleet.triton.plugins.module_utils._proc import CommandResult, Mount, mount_of, read_mounts

# Runs a command within the usual time limit.
Run = t.Callable[["list[str]"], CommandResult]

DOCKER_SOCKET = "/var/run/docker.sock"
API_TIMEOUT = 10.0
PATH_TIMEOUT = 10.0
ENTRIES_LIMIT = 1000
UNREADABLE_LIMIT = 20
CONTENT_LIMIT = 4 << 20

_VERSION = re.compile(r"\d+(?:\.\d+)+")
_CONTAINER_IN_CGROUP = re.compile(r"(?:docker[-/])([0-9a-f]{64})")
_LISTEN = "0A"


# --- Docker -----------------------------------------------------------------------------------------------------------


class PathQuery(t.NamedTuple):
    """A path, how far down its entries are told, and whether its content is."""

    path: str
    depth: int = 1
    content: bool = False


class ApiError(Exception):
    """The engine could not be asked; the text is the cause."""


class _SocketConnection(http.client.HTTPConnection):
    def __init__(self, path: str, timeout: float) -> None:
        super().__init__("localhost", timeout=timeout)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


class Engine:
    """The few questions to a Docker Engine, all within one time limit, over its socket: no client program is needed."""

    def __init__(self, path: str = DOCKER_SOCKET, timeout: float = API_TIMEOUT) -> None:
        self.path = path
        self._timeout = timeout
        self._deadline = time.monotonic() + timeout

    def get(self, resource: str) -> t.Any:
        """The answer, or None for 404."""
        left = self._deadline - time.monotonic()
        if left <= 0:
            raise ApiError(self._too_late())
        connection = _SocketConnection(self.path, left)
        try:
            connection.request("GET", resource)
            response = connection.getresponse()
            body = response.read()
        except socket.timeout as exc:
            raise ApiError(self._too_late()) from exc
        except (OSError, http.client.HTTPException) as exc:
            cause = getattr(exc, "strerror", None) or str(exc) or type(exc).__name__
            raise ApiError(f"Cannot connect to the Docker Engine at {self.path}: {cause}") from exc
        finally:
            connection.close()
        if response.status == 404:
            return None
        try:
            answer = json.loads(body.decode("utf-8", "replace"))
        except ValueError as exc:
            raise ApiError(f"What answers at {self.path} is not a Docker Engine") from exc
        if response.status != 200:
            text = answer.get("message", "") if isinstance(answer, dict) else ""
            raise ApiError(f"GET {resource} at {self.path}: wanted status 200, got {response.status}: {text}")
        return answer

    def _too_late(self) -> str:
        return f"The Docker Engine at {self.path} did not answer within {self._timeout:g} s"


def quote(name: str) -> str:
    return urllib.parse.quote(name, safe="/:@")


def container_facts(data: dict[str, t.Any]) -> dict[str, t.Any]:
    """A container as the engine's inspection tells it."""
    state = data.get("State") or {}
    ports = []
    for inner, bindings in sorted(((data.get("NetworkSettings") or {}).get("Ports") or {}).items()):
        for binding in bindings or []:
            ports.append(
                {
                    "container_port": inner,
                    "address": binding.get("HostIp") or "",
                    "port": int(binding.get("HostPort") or 0),
                }
            )
    return {
        "exists": True,
        "id": data.get("Id"),
        "image": (data.get("Config") or {}).get("Image"),
        "image_id": data.get("Image"),
        "labels": (data.get("Config") or {}).get("Labels") or {},
        "status": state.get("Status"),
        "running": bool(state.get("Running")),
        "pid": state.get("Pid") or None,
        "started_at": state.get("StartedAt"),
        "exit_code": state.get("ExitCode"),
        "oom_killed": bool(state.get("OOMKilled")),
        "error": state.get("Error") or None,
        "health": (state.get("Health") or {}).get("Status"),
        "restart_count": data.get("RestartCount"),
        "network_mode": (data.get("HostConfig") or {}).get("NetworkMode"),
        "ports": ports,
        "command": list((data.get("Config") or {}).get("Cmd") or []),
        "backends": backends_of(state.get("Pid") or None),
    }


def backends_of(pid: int | None, proc: str = "/proc") -> list[str] | None:
    """The backends of the tritonserver that runs as this process, as its own root has them. None where that cannot be told.

    Triton's images have them in one folder (server:docs/customization_guide/build.md), whatever else is mounted into it.
    """
    if pid is None:
        return None
    try:
        with os.scandir(f"{proc}/{pid}/root/opt/tritonserver/backends") as items:
            return sorted(item.name for item in items if item.is_dir())
    except OSError:
        return None


def image_facts(answer: dict[str, t.Any] | None, error: str | None = None) -> dict[str, t.Any]:
    data = answer or {}
    return {
        "present": answer is not None,
        "id": data.get("Id"),
        "size": data.get("Size"),
        "created": data.get("Created"),
        "error": error,
    }


def published_ports(answer: t.Any) -> list[dict[str, t.Any]]:
    """Every published TCP port of the running containers: address, port, and the container's name and id."""
    rows = []
    for container in answer or []:
        names = [name.lstrip("/") for name in container.get("Names") or []]
        for port in container.get("Ports") or []:
            if port.get("PublicPort") and port.get("Type") == "tcp":
                rows.append(
                    {
                        "address": port.get("IP") or "0.0.0.0",
                        "port": port["PublicPort"],
                        "container": names[0] if names else container.get("Id", "")[:12],
                        "id": container.get("Id"),
                    }
                )
    return rows


def find_program(name: str) -> str | None:
    """A program, also where only root's PATH has it."""
    path = os.environ.get("PATH", os.defpath) + ":/usr/local/sbin:/usr/sbin:/sbin:/usr/local/bin:/usr/bin:/bin"
    return shutil.which(name, path=path)


def is_legacy_compose(run: Run, program: str | None) -> bool:
    """Compose 1.x is a Python program, as a script or frozen; Compose 2 is a Go binary."""
    if program is None:
        return False
    try:
        with open(program, "rb") as handle:
            first = handle.readline(200)
    except OSError:
        return False
    if first.startswith(b"#!"):
        return b"python" in first
    return is_old_version(version_in(run([program, "version", "--short"]).stdout))


def version_in(text: str) -> str | None:
    found = _VERSION.search(text)
    return found.group(0) if found else None


def numbers_in(text: str) -> tuple[int, ...]:
    """A version or a kernel's release, to be compared by its numbers."""
    return tuple(int(part) for part in re.findall(r"\d+", text))


def is_old_version(version: str | None) -> bool:
    return version is not None and version.split(".", 1)[0] == "1"


# --- Python -----------------------------------------------------------------------------------------------------------


def library_version(name: str) -> str | None:
    """The version of a library that this interpreter can import; None when it can't."""
    try:
        spec = importlib.util.find_spec(name)
    except (ImportError, ValueError):
        return None
    if spec is None or spec.origin is None:
        return None
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return "unknown"


# --- systemd ----------------------------------------------------------------------------------------------------------


def has_systemd(root: str = "/") -> bool:
    return os.path.isdir(os.path.join(root, "run/systemd/system")) and find_program("systemctl") is not None


def full_unit_name(name: str) -> str:
    return name if re.search(r"\.(service|socket|target|timer|mount|path|slice|device)\Z", name) else name + ".service"


def parse_units(text: str, names: t.Sequence[str]) -> dict[str, dict[str, t.Any]]:
    """The blocks that C(systemctl show) prints, one for each name in the order of the names."""
    units = {}
    for name, block in zip(names, text.strip("\n").split("\n\n")):
        row = dict(line.split("=", 1) for line in block.splitlines() if "=" in line)
        file_state = row.get("UnitFileState", "")
        units[name] = {
            "load_state": row.get("LoadState", ""),
            "active_state": row.get("ActiveState", ""),
            "sub_state": row.get("SubState", ""),
            "enabled": file_state in ("enabled", "enabled-runtime", "alias"),
            "unit_file_state": file_state,
        }
    return units


def ask_units(run: Run, names: t.Sequence[str]) -> dict[str, dict[str, t.Any]]:
    properties = "LoadState,ActiveState,SubState,UnitFileState"
    shown = run(["systemctl", "show", "--property", properties, "--", *map(full_unit_name, names)])
    return parse_units(shown.stdout, names)


# --- Ports ------------------------------------------------------------------------------------------------------------


def decode_address(text: str) -> tuple[str, int]:
    """An address of /proc/net/tcp or tcp6: words of 32 bits in the machine's byte order."""
    host, port = text.split(":")
    raw = b"".join(bytes.fromhex(host[start : start + 8])[::-1] for start in range(0, len(host), 8))
    family = socket.AF_INET if len(raw) == 4 else socket.AF_INET6
    return socket.inet_ntop(family, raw), int(port, 16)


def listeners(root: str = "/proc") -> list[tuple[str, int, str]]:
    """Every listening TCP socket of this network namespace: address, port, inode."""
    found = []
    for name in ("tcp", "tcp6"):
        try:
            with open(os.path.join(root, "net", name), encoding="ascii") as handle:
                lines = handle.read().splitlines()[1:]
        except OSError:
            continue
        for line in lines:
            fields = line.split()
            if len(fields) > 9 and fields[3] == _LISTEN:
                address, port = decode_address(fields[1])
                found.append((address, port, fields[9]))
    return found


def overlaps(wanted: str, held: str) -> bool:
    """Whether a listener on one address keeps another from being bound."""
    if held.startswith("::ffff:"):
        held = held[len("::ffff:") :]
    if held in ("::", "*", ""):
        return True
    if wanted in ("0.0.0.0", "::", "*", ""):
        return wanted != "0.0.0.0" or ":" not in held
    return held == wanted or (held == "0.0.0.0" and ":" not in wanted)


def socket_owners(inodes: t.Collection[str], root: str = "/proc") -> dict[str, int]:
    """The process that holds each socket, for those that may be seen."""
    wanted = {f"socket:[{inode}]": inode for inode in inodes}
    owners: dict[str, int] = {}
    for name in os.listdir(root):
        if len(owners) == len(wanted):
            break
        if not name.isdigit():
            continue
        folder = os.path.join(root, name, "fd")
        with contextlib.suppress(OSError):
            for descriptor in os.listdir(folder):
                with contextlib.suppress(OSError):
                    inode = wanted.get(os.readlink(os.path.join(folder, descriptor)))
                    if inode is not None:
                        owners.setdefault(inode, int(name))
    return owners


def process_name(pid: int, root: str = "/proc") -> str | None:
    try:
        with open(os.path.join(root, str(pid), "comm"), encoding="utf-8", errors="replace") as handle:
            return handle.read().strip()
    except OSError:
        return None


def process_container(pid: int, root: str = "/proc") -> str | None:
    """The id of the container that a process runs in, from its control group."""
    try:
        with open(os.path.join(root, str(pid), "cgroup"), encoding="utf-8", errors="replace") as handle:
            found = _CONTAINER_IN_CGROUP.findall(handle.read())
    except OSError:
        return None
    return found[-1] if found else None


def try_bind(address: str, port: int) -> str | None:
    """Bind the port for a moment. None when that works, else why it doesn't."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    try:
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            # As servers do: a connection that was closed a minute ago is no obstacle.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((address, port))
    except OSError as exc:
        reasons = {
            errno.EADDRINUSE: "in_use",
            errno.EADDRNOTAVAIL: "no_such_address",
            errno.EACCES: "not_permitted",
            errno.EAFNOSUPPORT: "no_such_address",
        }
        return reasons.get(exc.errno or 0, "invalid_address")
    except OverflowError:
        return "invalid_port"
    return None


def port_facts(
    wanted: t.Sequence[dict[str, t.Any]],
    published: t.Sequence[dict[str, t.Any]] = (),
    container: dict[str, t.Any] | None = None,
    container_name: str | None = None,
) -> list[dict[str, t.Any]]:
    """Whether each port is free, and who holds it.

    A published port does not always have a listener (an engine without its user-space proxy only forwards), so
    the engine's own list counts as well as the kernel's.
    """
    rows = []
    taken: dict[int, list[str]] = {}
    table: list[tuple[str, int, str]] | None = None
    for entry in wanted:
        row: dict[str, t.Any] = {
            "address": entry["address"],
            "port": entry["port"],
            "free": True,
            "reason": None,
            "held_by": None,
            "pid": None,
            "process": None,
            "container": None,
        }
        rows.append(row)
        reason = try_bind(entry["address"], entry["port"])
        if reason == "not_permitted":
            table = listeners() if table is None else table
            used = any(port == entry["port"] and overlaps(entry["address"], address) for address, port, inode in table)
            reason = "in_use" if used else None
        for other in published:
            if other["port"] == entry["port"] and overlaps(entry["address"], other["address"]):
                row["container"] = other["container"]
                own = container is not None and other["id"] == container.get("id")
                row["held_by"] = "container" if own else "process"
                reason = "in_use"
                break
        row["reason"] = reason
        row["free"] = reason is None
        if reason == "in_use":
            table = listeners() if table is None else table
            taken[len(rows) - 1] = [
                inode for address, port, inode in table if port == entry["port"] and overlaps(entry["address"], address)
            ]
    if taken:
        owners = socket_owners({inode for inodes in taken.values() for inode in inodes})
        for index, inodes in taken.items():
            _name_holder(rows[index], [owners[inode] for inode in inodes if inode in owners], container, container_name)
    return rows


def _name_holder(row: dict[str, t.Any], pids: t.Sequence[int], container: dict[str, t.Any] | None, container_name: str | None) -> None:
    if pids:
        row["pid"] = pids[0]
        row["process"] = process_name(pids[0])
    if row["held_by"] is None:
        row["held_by"] = "process"
        inside = process_container(pids[0]) if pids else None
        if inside and container is not None and inside == container.get("id"):
            # A container on the host's own network publishes nothing: its process holds the port.
            row["held_by"] = "container"
            row["container"] = container_name
    elif row["held_by"] == "container":
        row["container"] = container_name or row["container"]


# --- Paths ------------------------------------------------------------------------------------------------------------


def _type_of(mode: int) -> str:
    for check, name in ((stat.S_ISDIR, "directory"), (stat.S_ISREG, "file"), (stat.S_ISLNK, "link")):
        if check(mode):
            return name
    return "other"


def list_entries(path: str, depth: int, limit: int = ENTRIES_LIMIT) -> tuple[list[dict[str, t.Any]], bool]:
    """The children of a folder by name, at most so many of each folder, and whether there are more."""
    rows: list[dict[str, t.Any]] = []
    try:
        names = sorted(os.listdir(path))
    except OSError:
        return rows, False
    truncated = len(names) > limit
    for name in names[:limit]:
        full = os.path.join(path, name)
        try:
            row: dict[str, t.Any] = {"name": name, "type": _type_of(os.lstat(full).st_mode)}
        except OSError:
            continue
        rows.append(row)
        if depth > 1:
            row["entries"] = []
            if row["type"] == "directory" or (row["type"] == "link" and os.path.isdir(full)):
                row["entries"], more = list_entries(full, depth - 1, limit)
                truncated = truncated or more
    return rows, truncated


def _existing_ancestor(path: str) -> str:
    while path != "/" and not os.path.exists(path):
        path = os.path.dirname(path)
    return path


def empty_path_facts(path: str) -> dict[str, t.Any]:
    return {
        "path": path,
        "exists": False,
        "is_dir": False,
        "type": None,
        "is_mount": False,
        "mount_point": None,
        "fs_type": None,
        "free_bytes": None,
        "total_bytes": None,
        "read_only": None,
        "mode": None,
        "uid": None,
        "gid": None,
        "modified": None,
        "content": None,
        "readable": None,
        "unreadable": [],
        "writable_by_user": None,
        "entries": [],
        "entries_truncated": False,
        "error": None,
    }


def read_content(path: str, limit: int = CONTENT_LIMIT) -> str | None:
    """The text of a small file; None for one that is larger, or is no text."""
    with open(path, "rb") as handle:
        content = handle.read(limit + 1)
    try:
        return content.decode("utf-8") if len(content) <= limit else None
    except UnicodeDecodeError:
        return None


def look_at_path(path: str, depth: int, mounts: t.Sequence[Mount], content: bool = False) -> dict[str, t.Any]:
    """One path as this process sees it. For a path that is not there the file system is that of its nearest parent."""
    row = empty_path_facts(path)
    row["exists"] = os.path.exists(path)
    real = os.path.realpath(_existing_ancestor(path))
    mount = mount_of(real, mounts)
    if mount is not None:
        row.update(mount_point=mount.point, fs_type=mount.fs_type)
        row["is_mount"] = row["exists"] and mount.point == real
    system = os.statvfs(real)
    row["free_bytes"] = system.f_bavail * system.f_frsize
    row["total_bytes"] = system.f_blocks * system.f_frsize
    row["read_only"] = bool(system.f_flag & os.ST_RDONLY)
    if row["exists"]:
        status = os.stat(path)
        row["type"] = _type_of(status.st_mode)
        row["is_dir"] = stat.S_ISDIR(status.st_mode)
        row["mode"] = f"{stat.S_IMODE(status.st_mode):04o}"
        row["uid"], row["gid"] = status.st_uid, status.st_gid
        row["modified"] = datetime.fromtimestamp(status.st_mtime, timezone.utc).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        if row["is_dir"]:
            row["entries"], row["entries_truncated"] = list_entries(path, depth)
        elif content and row["type"] == "file":
            row["content"] = read_content(path)
    elif os.path.islink(path):
        row["type"] = "link"
    return row


def access_as_this_user(path: str) -> dict[str, t.Any]:
    """What the user of this process may do with a path: read it and everything directly in it, and write to it."""
    if not os.path.isdir(path):
        return {"readable": os.access(path, os.R_OK), "unreadable": [], "writable_by_user": os.access(path, os.W_OK)}
    unreadable: list[str] = []
    readable = os.access(path, os.R_OK | os.X_OK)
    if readable:
        for name in sorted(os.listdir(path))[:ENTRIES_LIMIT]:
            full = os.path.join(path, name)
            if not os.access(full, os.R_OK | os.X_OK if os.path.isdir(full) else os.R_OK):
                unreadable.append(name)
    return {
        "readable": readable and not unreadable,
        "unreadable": unreadable[:UNREADABLE_LIMIT],
        "writable_by_user": os.access(path, os.W_OK | os.X_OK),
    }


def _probe_in_child(path: str, depth: int, mounts: t.Sequence[Mount], uid: int, gid: int, content: bool, out: int) -> None:
    row = empty_path_facts(path)
    try:
        row = look_at_path(path, depth, mounts, content)
        may_ask = True
        if os.geteuid() == 0:
            os.setgroups([])
            os.setgid(gid)
            os.setuid(uid)
        else:
            # Without root only this user's own view is known.
            may_ask = os.geteuid() == uid
        if may_ask and row["exists"]:
            row.update(access_as_this_user(path))
    except OSError as exc:
        row["error"] = f"{exc.filename or path}: {exc.strerror}"
    with os.fdopen(out, "w", encoding="utf-8", errors="surrogateescape") as handle:
        json.dump(row, handle)


def _read_until(descriptor: int, deadline: float) -> bytes | None:
    """Everything that comes through a pipe; None when its end doesn't come in time."""
    parts = []
    while True:
        left = deadline - time.monotonic()
        if left <= 0 or not select.select([descriptor], [], [], left)[0]:
            return None
        part = os.read(descriptor, 65536)
        if not part:
            return b"".join(parts)
        parts.append(part)


def path_facts(
    path: str,
    depth: int = 1,
    uid: int = 1000,
    gid: int = 1000,
    timeout: float = PATH_TIMEOUT,
    mounts: list[Mount] | None = None,
    content: bool = False,
) -> dict[str, t.Any]:
    """One path, looked at in a child process: the child can become the user in question, and a dead network mount
    holds up the child alone."""
    path = os.path.normpath(path)
    mounts = read_mounts() if mounts is None else mounts
    source, sink = os.pipe()
    child = os.fork()
    if child == 0:
        status = 1
        try:
            os.close(source)
            _probe_in_child(path, depth, mounts, uid, gid, content, sink)
            status = 0
        finally:
            # The child must not run the parent's exit handlers.
            os._exit(status)  # pylint: disable=protected-access
    os.close(sink)
    try:
        answer = _read_until(source, time.monotonic() + timeout)
    finally:
        os.close(source)
    row = empty_path_facts(path)
    if answer is None:
        # A child that waits for a dead mount may not even be killed: it is left to the kernel.
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, os.WNOHANG)
        row["error"] = f"{path} did not answer within {timeout:g} s; is it on a network mount that is gone?"
        return row
    os.waitpid(child, 0)
    try:
        return json.loads(answer.decode("utf-8", "surrogateescape"))
    except ValueError:
        row["error"] = f"{path} could not be looked at"
        return row


# --- Hardware ---------------------------------------------------------------------------------------------------------


def read_word(path: str) -> str:
    try:
        with open(path, encoding="ascii", errors="replace") as handle:
            return handle.read().strip()
    except OSError:
        return ""


def gpu_facts(sysfs: str = "/sys") -> dict[str, t.Any]:
    """NVIDIA GPUs on the PCI bus (display and 3D controllers), whether a driver is there or not."""
    folder = os.path.join(sysfs, "bus/pci/devices")
    try:
        names = sorted(os.listdir(folder))
    except OSError:
        names = []
    devices = []
    for name in names:
        vendor = read_word(os.path.join(folder, name, "vendor"))
        kind = read_word(os.path.join(folder, name, "class"))
        if vendor == "0x10de" and kind[:6] in ("0x0300", "0x0302"):
            devices.append({"pci": name, "vendor_id": vendor, "device_id": read_word(os.path.join(folder, name, "device"))})
    return {"count": len(devices), "devices": devices}


def memory_bytes() -> int | None:
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError):
        return None


# --- All of it --------------------------------------------------------------------------------------------------------


def find_container(engine: Engine, name: str) -> dict[str, t.Any] | None:
    """A container by name, or None: a name that the engine refuses is one that no container has."""
    try:
        answer = engine.get(f"/containers/{quote(name)}/json")
    except ApiError:
        return None
    return None if answer is None else container_facts(answer)


def find_image(engine: Engine, name: str) -> dict[str, t.Any]:
    try:
        return image_facts(engine.get(f"/images/{quote(name)}/json"))
    except ApiError as exc:
        return image_facts(None, str(exc))


def ask_engine(engine: Engine, blocked: str | None = None) -> tuple[dict[str, t.Any], str | None]:
    """What the engine says of itself, or why it says nothing."""
    if blocked is not None:
        return {}, blocked
    try:
        info = engine.get("/info")
    except ApiError as exc:
        return {}, str(exc)
    if not isinstance(info, dict) or not info.get("ServerVersion"):
        return {}, f"What answers at {engine.path} is not a Docker Engine"
    return info, None


def _docker_facts(
    engine: Engine,
    blocked: str | None,
    run: Run,
    container: str | None,
    image: str | None,
    with_ports: bool,
) -> tuple[dict[str, t.Any], dict[str, t.Any] | None, dict[str, t.Any] | None, list[dict[str, t.Any]]]:
    info, error = ask_engine(engine, blocked)
    found_container: dict[str, t.Any] | None = None
    found_image: dict[str, t.Any] | None = None
    published: list[dict[str, t.Any]] = []
    if error is None and with_ports:
        try:
            published = published_ports(engine.get("/containers/json"))
        except ApiError as exc:
            error = str(exc)
    if error is None and container:
        found_container = find_container(engine, container)
    if image:
        found_image = find_image(engine, image) if error is None else image_facts(None, error)
    client = find_program("docker")
    compose = run([client, "compose", "version", "--short"]) if client else None
    docker = {
        "installed": client is not None,
        "client_version": version_in(run([client, "--version"]).stdout) if client else None,
        "running": error is None,
        "server_version": info.get("ServerVersion"),
        "error": error,
        "compose_version": version_in(compose.stdout) if compose is not None and compose.ok else None,
        "compose_legacy": is_legacy_compose(run, find_program("docker-compose")),
        "root_dir": info.get("DockerRootDir"),
        "architecture": info.get("Architecture"),
        "runtimes": sorted(info.get("Runtimes") or {}),
        "cdi": bool(info.get("CDISpecDirs")),
    }
    return docker, found_container, found_image, published


def sleeping_engine(units: dict[str, dict[str, t.Any]]) -> str | None:
    """Why the engine must not be asked: systemd would start it for the asking, and asking must change nothing."""
    service = units.get("docker.service", {})
    listening = units.get("docker.socket", {}).get("active_state") == "active"
    if listening and service.get("active_state") in ("inactive", "failed"):
        return "docker.service is {} ({})".format(service["active_state"], service["sub_state"])
    return None


def collect(
    run: Run,
    paths: t.Sequence[PathQuery] = (),
    uid: int = 1000,
    gid: int = 1000,
    ports: t.Sequence[dict[str, t.Any]] = (),
    container: str | None = None,
    units: t.Sequence[str] = (),
    image: str | None = None,
    docker_socket: str = DOCKER_SOCKET,
    sysfs: str = "/sys",
) -> dict[str, t.Any]:
    """Everything in one answer."""
    mounts = read_mounts()
    systemd = has_systemd()
    own_units = ["docker.service", "docker.socket"]
    unit_rows = ask_units(run, own_units + [name for name in units if name not in own_units]) if systemd else {}
    docker, container_row, image_row, published = _docker_facts(
        Engine(docker_socket), sleeping_engine(unit_rows), run, container, image, bool(ports)
    )
    return {
        "docker": docker,
        "python": {
            "version": platform.python_version(),
            "requests": library_version("requests"),
            "docker": library_version("docker"),
        },
        "systemd": systemd,
        "units": {name: row for name, row in unit_rows.items() if name in units},
        "ports": port_facts(ports, published, container_row, container),
        "paths": [path_facts(query.path, query.depth, uid, gid, mounts=mounts, content=query.content) for query in paths],
        "container": container_row,
        "image": image_row,
        "gpus": gpu_facts(sysfs),
        "hostname": platform.node(),
        "kernel": platform.release(),
        "memory_bytes": memory_bytes(),
        "cpus": os.cpu_count(),
    }
