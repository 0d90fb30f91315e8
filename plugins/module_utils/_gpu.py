# Copyright (c) 2026, The gpufleet.triton authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A host's GPUs and everything between them and a container: driver, toolkit, CDI, Docker. Private to the collection.

Nothing here knows AnsibleModule, raises for a host that lacks something, or changes anything. What the findings mean is said
in _gpu_problems.

Sources: proc(5) and sysfs of NVIDIA's driver 550 and 580; modinfo, dkms and dpkg-query of Debian 13; install scripts of
gpu-driver-container (NVSwitch); nvidia-container-toolkit 1.20.0; k8s-device-plugin, internal/rm/health.go (Xids);
the table of PCI ids in NVIDIA's driver assistant (flavours).
"""

from __future__ import annotations

import glob
import os
import platform
import re
import typing as t
from dataclasses import dataclass, field

from ansible_collections.gpufleet.triton.plugins.module_utils import _cdi, _gpu_problems, _host, _nvidia_smi
from ansible_collections.gpufleet.triton.plugins.module_utils._nvidia_smi import pci_address
from ansible_collections.gpufleet.triton.plugins.module_utils._proc import CommandResult

TOOLKIT_PACKAGES = ("nvidia-container-toolkit", "nvidia-container-toolkit-base", "libnvidia-container-tools", "libnvidia-container1")
TOOLKIT_PROGRAMS = ("nvidia-ctk", "nvidia-container-runtime", "nvidia-container-runtime-hook", "nvidia-container-cli", "nvidia-cdi-hook")
FABRIC_PACKAGES = ("nvidia-fabricmanager", "nvidia-fabric-manager")
FABRIC_UNIT = "nvidia-fabricmanager.service"
REFRESH_UNIT = "nvidia-cdi-refresh.service"
UNITS = ("docker.service", "docker.socket", FABRIC_UNIT, REFRESH_UNIT)

# Faults of the application, after which a GPU is as good as before. All others are the GPU's own.
APPLICATION_XIDS = (13, 31, 43, 45, 68, 109)

_DRIVER_VERSION = re.compile(r"(?<!\d)\d{3,}\.\d+(?:\.\d+)?(?![\d.])")
# The driver's module in modules.dep, as NVIDIA and Debian call it; not those that come along (nvidia-drm, nvidia-uvm, ...).
_DRIVER_MODULE = re.compile(r"^\S*/(nvidia(?:-current(?:-open)?|-open|-tesla-\d+)?)\.ko(?:\.\w+)?:", re.MULTILINE)
# "module/version, kernel, arch: state"; before DKMS 3 "module, version, kernel, arch: state".
_DKMS = re.compile(r"(nvidia[^/,\s]*)(?:/|,\s*)([^,:\s]+)(?:,\s*([^,:\s]+),\s*([^,:\s]+))?:\s*([a-z]+)")
_XID = re.compile(r"NVRM: Xid \(PCI:([0-9A-Fa-f:.]+)\): (\d+)(?:, *(.*))?")
_MAKE_ERROR = re.compile(r"(?:fatal )?error: |\*\*\* ", re.IGNORECASE)
_MAKE_LOG_LIMIT = 256 * 1024
_REFRESH_MODULES = re.compile(r"^ExecCondition=.*/\(([a-z0-9|-]+)\)\[[.]\]ko", re.MULTILINE)
_NO_CONDITION = re.compile(r"^ExecCondition=\s*$", re.MULTILINE)
# Up to branch 575 the branch is a part of the name.
_FABRIC_MANAGER = re.compile(r"nvidia-fabric-?manager(?:-\d+)?\Z")
_SECURE_BOOT = "sys/firmware/efi/efivars/SecureBoot-8be4df61-93ca-11d2-aa0d-00e098032b8c"
_LIBRARIES = tuple(
    f"{folder}/{name}.so.*"
    for folder in ("usr/lib*", "usr/lib/*", "usr/lib/*/nvidia/*", "usr/lib/wsl/lib")
    for name in ("libnvidia-ml", "libcuda")
)

Row = dict[str, t.Any]


@dataclass(frozen=True)
class Machine:
    """What is looked at: a way to run commands, the root of its file system, and the kernel whose modules count."""

    run: _host.Run
    root: str = "/"
    kernel: str = field(default_factory=platform.release)

    def path(self, name: str) -> str:
        return _cdi.under(self.root, name)

    def exists(self, name: str) -> bool:
        return os.path.exists(self.path(name))

    def read(self, name: str) -> str:
        """The text of a file; nothing for one that can't be read."""
        try:
            with open(self.path(name), encoding="utf-8", errors="replace") as handle:
                return handle.read()
        except OSError:
            return ""

    def names(self, folder: str) -> list[str]:
        try:
            return sorted(os.listdir(self.path(folder)))
        except OSError:
            return []

    def ask(self, program: str, *arguments: str) -> CommandResult:
        """Run a program of the host; its status is None where there is none."""
        found = _host.find_program(program)
        return self.run([found, *arguments]) if found else CommandResult(None, "", f"{program} is not there")


def driver_version(text: str) -> str | None:
    found = _DRIVER_VERSION.search(text)
    return found.group() if found else None


# --- Packages ----------------------------------------------------------------------------------------------------------


class Package(t.NamedTuple):
    version: str
    # The abbreviation of dpkg, as in the first column of dpkg -l: "ii" is well installed.
    status: str

    @property
    def installed(self) -> bool:
        return self.status[:1] in ("i", "h") and self.status[1:2] not in ("n", "c")

    @property
    def half(self) -> bool:
        """Unpacked and not configured, or worse."""
        return self.status[1:2] in ("F", "H", "U") or self.status[2:3] == "R"


def packages(machine: Machine) -> dict[str, Package]:
    """Packages that have to do with a GPU, from dpkg or rpm."""
    found = {}
    wanted = ("*nvidia*", "*cuda-drivers*", "dkms", "linux-headers-*", "linux-image-*")
    listed = machine.ask("dpkg-query", "-W", "-f", "${Package}|${Version}|${db:Status-Abbrev}\n", *wanted)
    for line in listed.stdout.splitlines():
        name, _mark, rest = line.partition("|")
        version, _mark, status = rest.partition("|")
        if status.strip():
            found[name] = Package(version, status.strip())
    listed = machine.ask("rpm", "-q", "--qf", "%{NAME}|%{VERSION}-%{RELEASE}\n", *TOOLKIT_PACKAGES, *FABRIC_PACKAGES)
    for line in listed.stdout.splitlines():
        name, mark, version = line.partition("|")
        if mark:
            found.setdefault(name, Package(version, "ii"))
    return found


# --- Driver ------------------------------------------------------------------------------------------------------------


def parse_dkms(text: str) -> list[Row]:
    """The rows of C(dkms status) for NVIDIA's modules. One that is only added has no kernel."""
    rows = []
    for match in filter(None, map(_DKMS.match, text.splitlines())):
        module, version, kernel, arch, state = match.groups()
        rows.append({"module": module, "version": version, "kernel": kernel, "arch": arch, "state": state, "error": None})
    return rows


def make_error(machine: Machine, row: Row) -> str | None:
    """The first error in the log of a build."""
    folder = f"var/lib/dkms/{row['module']}/{row['version']}"
    places = [f"{folder}/build/make.log"]
    if row["kernel"]:
        places.append(f"{folder}/{row['kernel']}/{row['arch']}/log/make.log")
    for place in places:
        lines = machine.read(place)[-_MAKE_LOG_LIMIT:].splitlines()
        first = next((line.strip() for line in lines if _MAKE_ERROR.search(line)), None)
        if first:
            return first
    return None


def is_driver(module: str) -> bool:
    """Whether a DKMS module is the driver, and not one that goes with it (GPUDirect Storage)."""
    return module not in ("nvidia-fs", "nvidia-peermem")


def dkms_rows(machine: Machine) -> list[Row]:
    rows = parse_dkms(machine.ask("dkms", "status").stdout)
    for row in rows:
        if row["state"] != "installed":
            row["error"] = make_error(machine, row)
    return rows


def flavour_of_licence(licence: str) -> str | None:
    if not licence:
        return None
    return "open" if "GPL" in licence or "MIT" in licence else "proprietary"


def modules_of(machine: Machine, kernel: str) -> list[str]:
    return sorted(set(_DRIVER_MODULE.findall(machine.read(f"lib/modules/{kernel}/modules.dep"))))


def modules(machine: Machine) -> list[Row]:
    """The driver's kernel modules on disk. Debian's have names of their own, for which C(modinfo nvidia) finds nothing."""
    rows = []
    for name in modules_of(machine, machine.kernel):
        text = machine.ask("modinfo", "-k", machine.kernel, name).stdout
        told = dict(re.findall(r"^(version|license):\s*(.*?)\s*$", text, re.MULTILINE))
        rows.append({"name": name, "version": told.get("version"), "flavour": flavour_of_licence(told.get("license", ""))})
    return rows


def kernels(machine: Machine, dkms: t.Sequence[Row]) -> list[Row]:
    """Every kernel that is installed or that DKMS knows, and whether it has the driver."""
    built = {row["kernel"]: row["state"] for row in dkms if row["kernel"] and is_driver(row["module"])}
    installed = [name for name in machine.names("lib/modules") if machine.exists(f"lib/modules/{name}/modules.dep")]
    return [
        {
            "kernel": name,
            "current": name == machine.kernel,
            "installed": name in installed,
            "module": bool(modules_of(machine, name)),
            "dkms": built.get(name),
        }
        for name in sorted({*installed, *built, machine.kernel}, key=_host.numbers_in)
    ]


def userspace_versions(machine: Machine) -> list[str]:
    """Versions of the driver's libraries, the newest first."""
    found = set()
    for pattern in _LIBRARIES:
        for path in glob.glob(machine.path(pattern)):
            version = driver_version(os.path.basename(path).partition(".so.")[2])
            if version:
                found.add(version)
    return sorted(found, key=_host.numbers_in, reverse=True)


def state_of(driver: Row, mismatch: bool, half: bool) -> str:
    """The one word for a driver. What a reboot does not cure comes before what it does."""
    current = next((row for row in driver["kernels"] if row["current"]), {})
    dkms = [row for row in driver["dkms"] if is_driver(row["module"])]
    # A module that DKMS was to build and that is not there. One from elsewhere, prebuilt and signed, does as well.
    unbuilt = bool(dkms) and current.get("dkms") != "installed" and not driver["modules"]
    if half or unbuilt:
        return "broken"
    loaded = driver["loaded"] is not None
    flavours = {row["flavour"] for row in driver["modules"]} | ({driver["flavour"]} if loaded else set())
    if len(flavours - {None}) > 1:
        return "mixed"
    if mismatch:
        return "mismatch"
    if driver["nouveau"] and not loaded:
        return "nouveau"
    if driver["runfile"]:
        return "unmanaged"
    if loaded:
        return "ok"
    return "installed_not_loaded" if driver["modules"] else "absent"


def driver_facts(machine: Machine, found: dict[str, Package], smi: Row, gpus: t.Sequence[Row]) -> Row:
    proc = machine.read("proc/driver/nvidia/version")
    told = [gpu["driver"] for gpu in gpus if gpu["driver"]]
    # Where /proc does not have it (WSL), nvidia-smi gives the loaded version.
    loaded = driver_version(proc) or driver_version(machine.read("sys/module/nvidia/version")) or next(iter(told), None)
    on_disk = modules(machine)
    # Of two, the one that is loaded: the other is found by its flavour.
    version = next((row["version"] for row in on_disk if row["version"] == loaded), None)
    version = version or next((row["version"] for row in on_disk if row["version"]), None)
    libraries = userspace_versions(machine)
    # What NVML says of itself is nearer to the truth than names of files.
    nvml = re.search(r"NVML library version: (\d+\.\d+(?:\.\d+)?)", smi["message"] or "")
    userspace = nvml.group(1) if nvml else loaded if loaded in libraries else next(iter(libraries), None)
    flavour = next((row["flavour"] for row in on_disk if row["flavour"]), None)
    if proc:
        flavour = "open" if "Open Kernel Module" in proc else "proprietary"
    dkms = dkms_rows(machine)
    half = [{"name": name, "version": package.version, "status": package.status} for name, package in sorted(found.items()) if package.half]
    driver: Row = {
        "loaded": loaded,
        "on_disk": version,
        "userspace": userspace,
        "flavour": flavour,
        "modules": on_disk,
        "kernels": kernels(machine, dkms),
        "dkms": dkms,
        "half_configured": half,
        "nouveau": machine.exists("sys/module/nouveau"),
        "runfile": machine.exists("usr/bin/nvidia-uninstall"),
    }
    works = smi["rc"] == 0
    other_module = loaded is not None and version not in (None, loaded)
    other_library = loaded is not None and not works and userspace not in (None, loaded)
    mismatch = other_module or other_library or "Driver/library version mismatch" in (smi["message"] or "")
    driver["state"] = state_of(driver, mismatch, any(is_driver_package(row["name"]) for row in half))
    # Modules have to be exchanged: by unloading and loading them, or by a reboot.
    driver["reload_needed"] = bool(on_disk) and (other_module or driver["state"] in ("mixed", "nouveau"))
    return driver


def is_driver_package(name: str) -> bool:
    return ("nvidia" in name or name.startswith("cuda-drivers")) and "container" not in name and not name.startswith("linux-image")


# --- PCI ---------------------------------------------------------------------------------------------------------------


def flavours_for(device_id: int) -> list[str]:
    """The flavours of the kernel module that can drive a GPU, by its PCI device id. Both for one that is not known."""
    if 0x1340 <= device_id <= 0x1DF6:
        return ["proprietary"]
    if 0x2900 <= device_id <= 0x2FFF or device_id in (0x3182, 0x31C2, 0x31C3):
        return ["open"]
    return ["open", "proprietary"]


def branches_for(device_id: int) -> tuple[int | None, int | None]:
    """The first and the last branch of the driver that knows a GPU, where there is such a limit."""
    if 0x1340 <= device_id <= 0x1DF6:
        return None, 580
    if device_id in (0x3182, 0x31C2, 0x31C3, 0x2E12):
        return 580, None
    return (570, None) if 0x2900 <= device_id <= 0x2FFF else (None, None)


def pci_facts(machine: Machine) -> list[Row]:
    """GPUs on the PCI bus, as sysfs shows them whether there is a driver or not."""
    rows = []
    for device in _host.gpu_facts(machine.path("sys"))["devices"]:
        folder = f"sys/bus/pci/devices/{device['pci']}"
        device_id = int(device["device_id"] or "0", 16)
        first, last = branches_for(device_id)
        driver = f"{folder}/driver"
        rows.append(
            {
                **device,
                "driver": os.path.basename(os.path.realpath(machine.path(driver))) if machine.exists(driver) else None,
                "responds": _responds(machine.path(f"{folder}/config")),
                "flavours": flavours_for(device_id),
                "first_branch": first,
                "last_branch": last,
            }
        )
    return rows


def place_lost(gpus: t.Sequence[Row], on_bus: t.Sequence[Row]) -> None:
    """Say where the lost GPUs are, which don't tell it themselves: NVML counts in the order of the bus."""
    told = {gpu["pci"] for gpu in gpus}
    left = [row["pci"] for row in on_bus if row["pci"] not in told]
    lost = [gpu for gpu in gpus if gpu["lost"] and gpu["pci"] is None]
    if len(left) == len(lost):
        for gpu, pci in zip(lost, left):
            gpu["pci"] = pci


def _responds(path: str) -> bool | None:
    """A device that has fallen off the bus reads as ones."""
    try:
        with open(path, "rb") as handle:
            head = handle.read(4)
    except OSError:
        return None
    return head != b"\xff" * 4 if len(head) == 4 else None


def nvswitch_facts(machine: Machine, found: dict[str, Package], units: Row) -> Row:
    """NVLink switches, without whose fabric manager the GPUs refuse to compute."""
    devices = machine.names("proc/driver/nvidia-nvswitch/devices")
    if not devices:
        for name in machine.names("sys/bus/pci/devices"):
            folder = machine.path(f"sys/bus/pci/devices/{name}")
            words = [_host.read_word(os.path.join(folder, word)) for word in ("vendor", "class", "device")]
            if words[0] == "0x10de" and words[1][:6] == "0x0680" and words[2] in ("0x1ac2", "0x1af1", "0x22a3"):
                devices.append(name)
    # From NVLink 5 on the switches are behind a network adapter that manages them.
    vpds = glob.glob(machine.path("sys/class/infiniband/*/device/vpd"))
    nvlink5 = any("SW_MNG" in machine.read(os.path.relpath(path, machine.root)) for path in vpds)
    managers = [found[name].version for name in found if _FABRIC_MANAGER.match(name) and found[name].installed]
    return {
        "present": bool(devices) or nvlink5,
        "devices": len(devices),
        "nvlink5": nvlink5,
        "fabricmanager": _host.version_in(managers[0]) if managers else None,
        "fabricmanager_active": units.get(FABRIC_UNIT, {}).get("active_state") == "active" if units else None,
    }


def secure_boot(machine: Machine) -> bool | None:
    """Whether the firmware checks what it boots: the last byte of its variable. Not told where the variable can't be read."""
    if not machine.exists("sys/firmware/efi"):
        # Without EFI there is no Secure Boot.
        return False
    try:
        with open(machine.path(_SECURE_BOOT), "rb") as handle:
            value = handle.read(16)
    except OSError:
        return None
    return value[4] == 1 if len(value) == 5 else None


# --- Kernel log --------------------------------------------------------------------------------------------------------


def parse_xids(text: str) -> list[Row]:
    """The kernel's reports of GPU errors, one row for each GPU and number."""
    rows: dict[tuple[str, int], Row] = {}
    for place, xid, message in _XID.findall(text):
        try:
            pci = pci_address(place)
        except ValueError:
            pci = place
        row = rows.setdefault(
            (pci, int(xid)), {"pci": pci, "xid": int(xid), "application": int(xid) in APPLICATION_XIDS, "count": 0, "message": None}
        )
        row["count"] += 1
        row["message"] = message.strip() or row["message"]
    return list(rows.values())


def xids(machine: Machine) -> list[Row] | None:
    """Xids since the boot. None where the kernel's log can't be read."""
    # The journal has all of this boot; the kernel's own buffer only what it has not yet overwritten.
    journal = machine.ask("journalctl", "--dmesg", "--boot", "--no-pager", "--output=cat", "--grep=NVRM: Xid")
    found = parse_xids(journal.stdout)
    if found:
        return found
    buffer = machine.ask("dmesg")
    if buffer.ok:
        return parse_xids(buffer.stdout)
    return [] if journal.rc in (0, 1) and not journal.stderr.strip() else None


# --- Toolkit and Docker ------------------------------------------------------------------------------------------------


def refresh_runs(machine: Machine, on_disk: t.Sequence[Row]) -> bool | None:
    """Whether the unit that renews CDI specifications runs at all: it looks for the driver's module by its name.

    None where the unit is not there. A drop-in that takes its condition away lets it run.
    """
    folders = ("etc/systemd/system", "usr/lib/systemd/system", "lib/systemd/system")
    unit = next((text for text in (machine.read(f"{folder}/{REFRESH_UNIT}") for folder in folders) if text), None)
    if unit is None:
        return None
    dropins = glob.glob(machine.path(f"etc/systemd/system/{REFRESH_UNIT}.d/*.conf"))
    if any(_NO_CONDITION.search(machine.read(os.path.relpath(path, machine.root))) for path in dropins):
        return True
    wanted = _REFRESH_MODULES.search(unit)
    if wanted is None or not on_disk:
        return True
    return any(row["name"] in wanted.group(1).split("|") for row in on_disk)


def toolkit_facts(machine: Machine, found: dict[str, Package], folders: t.Sequence[str], on_disk: t.Sequence[Row], units: Row) -> Row:
    versions = {name: found[name].version if name in found and found[name].installed else None for name in TOOLKIT_PACKAGES}
    programs = {name: _host.find_program(name) for name in TOOLKIT_PROGRAMS}
    version = next((_host.version_in(text) for text in versions.values() if text), None)
    if version is None and programs["nvidia-ctk"]:
        version = _host.version_in(machine.ask("nvidia-ctk", "--version").stdout)
    mode = re.search(r'^\s*mode\s*=\s*"([\w-]+)"', machine.read("etc/nvidia-container-runtime/config.toml"), re.MULTILINE)
    return {
        "version": version,
        "packages": versions,
        "programs": programs,
        "mode": mode.group(1) if mode else None,
        "cdi": _cdi.specs(folders, machine.root),
        "cdi_refresh": {
            "active_state": units.get(REFRESH_UNIT, {}).get("active_state") or None,
            "runs": refresh_runs(machine, on_disk),
        },
    }


def docker_facts(machine: Machine, engine: _host.Engine, units: Row, hook: str | None) -> Row:
    info, error = _host.ask_engine(engine, _host.sleeping_engine(units))
    runtimes = info.get("Runtimes") or {}
    return {
        "installed": _host.find_program("dockerd") is not None or _host.find_program("docker") is not None,
        "running": error is None,
        "version": info.get("ServerVersion"),
        "error": error,
        "cdi": bool(info.get("CDISpecDirs")),
        "cdi_folders": info.get("CDISpecDirs") or [],
        "runtimes": sorted(runtimes),
        "nvidia_runtime": (runtimes.get("nvidia") or {}).get("path") or None,
        "default_runtime": info.get("DefaultRuntime"),
        "live_restore": bool(info.get("LiveRestoreEnabled")),
        "cgroup_driver": info.get("CgroupDriver"),
        "hook_seen": _hook_seen(machine, hook),
    }


def _hook_seen(machine: Machine, hook: str | None) -> bool | None:
    """Whether the hook was there when dockerd started: it is looked up then and never again. None where that can't be told."""
    if hook is None:
        return None
    try:
        return os.stat(hook).st_ctime <= os.stat(machine.path("var/run/docker.pid")).st_mtime
    except OSError:
        return None


# --- All of it ---------------------------------------------------------------------------------------------------------


def smi_facts(machine: Machine) -> tuple[Row, list[Row]]:
    program = _host.find_program("nvidia-smi")
    if program is None:
        return {"path": None, "rc": None, "message": None, "unknown_fields": []}, []
    rows, table = _nvidia_smi.gpus(lambda arguments: machine.run([program, *arguments]))
    return {"path": program, "rc": table.rc, "message": table.message or None, "unknown_fields": table.unknown}, rows


def collect(machine: Machine, docker_socket: str = _host.DOCKER_SOCKET, expected_gpus: int | None = None) -> Row:
    """Everything in one answer."""
    units = _host.ask_units(machine.run, UNITS) if _host.has_systemd() else {}
    found = packages(machine)
    smi, gpus = smi_facts(machine)
    on_bus = pci_facts(machine)
    place_lost(gpus, on_bus)
    driver = driver_facts(machine, found, smi, gpus)
    docker = docker_facts(machine, _host.Engine(docker_socket), units, _host.find_program("nvidia-container-runtime-hook"))
    facts: Row = {
        "driver": driver,
        "nvidia_smi": smi,
        "gpus": gpus,
        "gpus_pci": on_bus,
        "toolkit": toolkit_facts(machine, found, docker["cdi_folders"] or _cdi.FOLDERS, driver["modules"], units),
        "docker": docker,
        "nvswitch": nvswitch_facts(machine, found, units),
        "secure_boot": secure_boot(machine),
        "xids": xids(machine),
        "kernel": machine.kernel,
    }
    return {**facts, **_gpu_problems.judge(facts, expected_gpus)}
