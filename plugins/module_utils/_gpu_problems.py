# Copyright (c) 2026, The gpufleet.triton authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the facts of a GPU host mean: problems with their remedies, whether a container would get its GPUs, and one line.

Pure: everything is read from the facts. Private to the collection.

Sources: troubleshooting of nvidia-container-toolkit and its issues 48, 251, 394, 450, 1828; moby 49989 (fixed in 28.2.0) and
51942; NVIDIA's security bulletin 5850 (toolkit 1.19.1); open-gpu-kernel-modules issue 1272; answers of nvidia-smi 550.163.01.
"""

from __future__ import annotations

import typing as t
from dataclasses import dataclass

from ansible_collections.gpufleet.triton.plugins.module_utils._host import numbers_in
from ansible_collections.gpufleet.triton.plugins.module_utils._problem import Problem, sentence

# Nothing below is safe: CVE-2026-24260, in all versions up to 1.19.0.
TOOLKIT_FLOOR = "1.19.1"
# The first Docker Engine that has CDI on, and that starts containers with CDI devices again after its own restart.
DOCKER_CDI = "28.2.0"
# From this kernel on, drivers before that one do not build: pci_resize_resource() has one argument more. Older series took the
# change as well, at versions of their own (of Debian's 6.1, 6.1.176 is without it and 6.1.187 has it): there the error tells.
RESIZE_KERNEL = "6.12.97"
RESIZE_DRIVER = "580.126.09"
RESIZE = "pci_resize_resource"
# A fabric that is not needed has no state, or says that it is not supported.
_FABRIC_BAD = ("In Progress", "Not Started")

GENERATE = "run: nvidia-ctk cdi generate --output=/var/run/cdi/nvidia.yaml"

ERROR = "error"
WARNING = "warning"
Row = dict[str, t.Any]


@dataclass(frozen=True)
class Finding(Problem):
    """A problem. An error keeps a container from its GPUs or makes them unreliable, a warning does not yet."""

    severity: str = ERROR

    def as_dict(self) -> dict[str, str]:
        return {**super().as_dict(), "severity": self.severity}


Findings = t.Iterator[Finding]


def warn(what: str, why: str, remedy: str) -> Finding:
    return Finding(what, why, remedy, WARNING)


def below(version: str | None, floor: str) -> bool:
    return version is not None and numbers_in(version) < numbers_in(floor)


def counted(number: int, what: str) -> str:
    return f"{number} {what}" + ("" if number == 1 else "s")


def listed(names: t.Iterable[t.Any], limit: int = 5) -> str:
    texts = [str(name) for name in names]
    more = f" and {len(texts) - limit} more" if len(texts) > limit else ""
    return ", ".join(texts[:limit]) + more


# --- Driver ------------------------------------------------------------------------------------------------------------


def driver_problems(facts: Row) -> Findings:
    """The state of the driver. A host has one, so there is one of these at most."""
    driver, kernel = facts["driver"], facts["kernel"]
    state, version = driver["state"], driver["on_disk"]
    reload = "exchange the modules: stop what uses the GPU and reload them, or reboot"
    if state == "absent":
        why = f"{counted(len(facts['gpus_pci']), 'NVIDIA GPU')} on the PCI bus, and no kernel module for {kernel}"
        yield Finding("There is no NVIDIA driver", why, "install it (nvidia-open from NVIDIA's repository), then load it")
    elif state == "nouveau":
        remedy = "blacklist nouveau, rebuild the initramfs and reboot"
        remedy = remedy if driver["modules"] else "install NVIDIA's driver, " + remedy
        yield Finding("The GPU is driven by nouveau", "the kernel has loaded its own driver, which CUDA can't use", remedy)
    elif state == "broken":
        yield _broken(driver, kernel)
    elif state == "mixed":
        flavours = {row["flavour"] for row in driver["modules"]} - {None}
        found = f"{driver['flavour']} is loaded" if driver["loaded"] else "none is loaded"
        why = f"on disk for {kernel}: {listed(sorted(flavours))}; {found}"
        yield Finding("Open and proprietary kernel modules are mixed", why, f"remove the packages of one flavour, then {reload}")
    elif state == "mismatch":
        why = f"loaded is {driver['loaded']}, on disk {version or 'unknown'}, the libraries are {driver['userspace'] or 'unknown'}"
        severity = WARNING if facts["nvidia_smi"]["rc"] == 0 else ERROR
        yield Finding("Driver/library version mismatch: the driver was changed under a loaded module", why, reload, severity)
    elif state == "installed_not_loaded" or (state == "unmanaged" and not driver["loaded"]):
        why, remedy = f"the module for {kernel} is on disk", "run: modprobe nvidia; if it refuses, the reason is in: dmesg"
        if facts["secure_boot"]:
            why += ", and Secure Boot is on, which lets only signed modules in"
            remedy = "enrol the key that signed it (mokutil --import /var/lib/dkms/mok.pub, then confirm at the console at the next boot)"
            remedy += " or install modules that the distribution signs"
        yield Finding("The NVIDIA driver is installed and not loaded", why, remedy)


def _broken(driver: Row, kernel: str) -> Finding:
    half = [f"{row['name']} ({row['status']})" for row in driver["half_configured"]]
    unbuilt = [row for row in driver["dkms"] if row["state"] != "installed" and row["kernel"] in (None, kernel)]
    reasons = [f"half configured: {listed(half)}"] if half else []
    reasons += [f"DKMS has {row['module']}/{row['version']} {row['state']}, not installed, for {kernel}" for row in unbuilt[:1]]
    reasons += [row["error"] for row in unbuilt if row["error"]][:1]
    remedy = f"mend what make.log below /var/lib/dkms says, then run: dkms autoinstall -k {kernel} && dpkg --configure -a"
    known = _known_cause(unbuilt, kernel)
    if known:
        reasons.append(known[0])
        remedy = known[1]
    return Finding("The NVIDIA driver is not installed completely", "; ".join(reasons), remedy)


def _known_cause(unbuilt: t.Sequence[Row], kernel: str) -> tuple[str, str] | None:
    """Why drivers of some version do not build for a kernel, and what helps, as far as that is known."""
    if not any(below(row["version"], RESIZE_DRIVER) for row in unbuilt):
        return None
    newer = f"install a driver from {RESIZE_DRIVER} on"
    if not below(kernel, RESIZE_KERNEL):
        why = f"kernels from {RESIZE_KERNEL} on do not build drivers before {RESIZE_DRIVER} ({RESIZE})"
        return why, f"{newer}, or boot a kernel before {RESIZE_KERNEL}"
    if any(RESIZE in (row["error"] or "") for row in unbuilt):
        why = f"this kernel has taken over from {RESIZE_KERNEL} what drivers before {RESIZE_DRIVER} do not build with ({RESIZE})"
        return why, f"{newer}, or boot an earlier kernel of its series"
    return None


# The start of what NVML says when it can't be used, why, and what helps.
_NVML = (
    ("Driver/library version mismatch", "the driver was changed under a loaded module", "reload the modules, or reboot"),
    (
        "Unknown Error",
        "the processes of this group may not open the devices: systemd has applied the group's rules anew",
        "give devices by CDI, or set native.cgroupdriver=cgroupfs in Docker's exec-opts; make the container anew",
    ),
    (
        "Insufficient Permissions",
        "SELinux or the permissions of /dev/nvidia* forbid it",
        "set security_opt label=disable for the container, or load a policy that allows it",
    ),
)


def smi_problems(facts: Row) -> Findings:
    """Whether nvidia-smi tells anything: its words count, its status does not."""
    smi, state = facts["nvidia_smi"], facts["driver"]["state"]
    message = smi["message"] or ""
    if state not in ("ok", "unmanaged", "mixed") or not facts["driver"]["loaded"]:
        # Why it says nothing is known already, from what it depends on.
        return
    if smi["path"] is None:
        yield Finding("nvidia-smi is not there", "without it nothing is known of the GPUs' health", "install it (nvidia-utils, nvidia-smi)")
    elif facts["gpus"]:
        return
    elif "No devices" in message:
        why = f"nvidia-smi says: {message}"
        yield Finding("The driver has found no GPU", why, "look for NVRM in dmesg: power, the flavour, a GPU given to a virtual machine")
    else:
        known = ((why, remedy) for text, why, remedy in _NVML if text in message)
        why, remedy = next(known, ("", "look for NVRM in dmesg; reboot"))
        why = f"it says: {message or 'nothing'} (status {smi['rc']})" + (f": {why}" if why else "")
        yield Finding("nvidia-smi can't talk to the driver", why, remedy)


def kernel_problems(facts: Row) -> Findings:
    """What the next boot brings."""
    driver = facts["driver"]
    current = next((row for row in driver["kernels"] if row["current"]), None)
    if current is not None and current["module"]:
        later = [row for row in driver["kernels"] if row["installed"] and numbers_in(row["kernel"]) > numbers_in(current["kernel"])]
        missing = [row["kernel"] for row in later if not row["module"]]
        if missing:
            why = f"{listed(missing)} is installed and has no driver; the next boot may take it"
            remedy = f"install linux-headers-{missing[-1]} and run: dkms autoinstall -k {missing[-1]}; or remove that kernel"
            yield warn("A newer kernel has no NVIDIA driver", why, remedy)
    if driver["half_configured"] and driver["state"] != "broken":
        names = [f"{row['name']} ({row['status']})" for row in driver["half_configured"]]
        yield warn("Packages are half configured", listed(names), "run: dpkg --configure -a, and mend what it says")
    if driver["runfile"]:
        why = "/usr/bin/nvidia-uninstall is there: no package manager updates this driver"
        yield warn("The driver was installed by NVIDIA's installer", why, "keep it so, or run nvidia-uninstall and install packages")


def flavour_problems(facts: Row) -> Findings:
    driver = facts["driver"]
    branch = next(iter(numbers_in(driver["loaded"] or driver["on_disk"] or "")), None)
    for gpu in facts["gpus_pci"]:
        name = f"The GPU {gpu['pci']} ({gpu['device_id']})"
        if driver["flavour"] and driver["flavour"] not in gpu["flavours"]:
            why = f"the {driver['flavour']} kernel module does not know this generation"
            needed = gpu["flavours"][0]
            yield Finding(f"{name} needs the {needed} kernel module", why, f"install the {needed} flavour of the driver")
        if branch is not None and gpu["first_branch"] and branch < gpu["first_branch"]:
            why = f"wanted {gpu['first_branch']} or later, got {branch}"
            yield Finding(f"{name} needs a newer driver", why, f"install branch {gpu['first_branch']} or later")
        if branch is not None and gpu["last_branch"] and branch > gpu["last_branch"]:
            why = f"wanted {gpu['last_branch']} or earlier, got {branch}"
            yield Finding(f"{name} needs an older driver", why, f"install branch {gpu['last_branch']}")


# --- GPUs --------------------------------------------------------------------------------------------------------------


def name_of(gpu: Row) -> str:
    number, place = gpu["index"], gpu["pci"] or gpu["uuid"]
    if number is None:
        return f"GPU {place}" if place else "A GPU"
    return f"GPU {number} ({place})" if place else f"GPU {number}"


def gpu_problems(facts: Row) -> Findings:
    for gpu in facts["gpus"]:
        name = name_of(gpu)
        reset = f"drain it, then run: nvidia-smi --gpu-reset -i {gpu['index']}; or reboot"
        if gpu["lost"]:
            why = "nvidia-smi says: " + listed(sorted(set(gpu["errors"].values())))
            yield Finding(f"{name} is lost", why, "reboot the host; if it comes again, look at power, cooling and seating, or replace it")
            continue
        if gpu["errors"]:
            denied = all("permission" in text.lower() for text in gpu["errors"].values())
            why = listed(f"{key}: [{text}]" for key, text in sorted(gpu["errors"].items()))
            remedy = "run as root" if denied else reset
            yield Finding(f"{name} does not tell all of its state", why, remedy, WARNING if denied else ERROR)
        if gpu["reset_required"]:
            yield Finding(f"{name} requires a reset", "the driver has seen an error that only a reset clears", reset)
        if gpu["uncorrected_errors"]:
            why = f"{counted(gpu['uncorrected_errors'], 'uncorrected ECC error')} since the driver was loaded"
            yield Finding(f"{name} has lost data in its memory", why, f"{reset}; if they come again, replace it")
        if gpu["row_remap_failure"]:
            yield Finding(f"{name} has no spare rows left", "remapping a row of its memory failed", "replace it")
        if gpu["row_remap_pending"] or gpu["retired_pages_pending"]:
            yield warn(f"{name} has bad memory to put aside", "rows or pages are marked and still in use until a reset", reset)
        for key, what in (("ecc", "ECC"), ("mig", "MIG")):
            if gpu[f"{key}_pending"] is not None and gpu[key] is not None and gpu[key] != gpu[f"{key}_pending"]:
                wanted = "on" if gpu[f"{key}_pending"] else "off"
                yield warn(f"{name} is to switch {what} {wanted}", "the setting waits for a reset of the GPU", reset)
        if gpu["persistence"] is False:
            why = "without it the driver lets go of the GPU whenever nothing uses it: slow starts, settings lost"
            yield warn(f"{name} is not in persistence mode", why, "enable nvidia-persistenced")
        if gpu["pcie_width"] and gpu["pcie_width_max"] and gpu["pcie_width"] < gpu["pcie_width_max"]:
            why = f"x{gpu['pcie_width']} of x{gpu['pcie_width_max']}"
            yield warn(f"{name} has a narrow PCIe link", why, "look at its slot and seating; some slots are wired so")


def count_problems(facts: Row, expected: int | None) -> Findings:
    known = {gpu["pci"] for gpu in facts["gpus"]}
    for gpu in facts["gpus_pci"]:
        if gpu["responds"] is False:
            yield Finding(f"The GPU {gpu['pci']} has fallen off the bus", "its PCI configuration reads as ones only", "reboot the host")
        elif facts["gpus"] and None not in known and gpu["pci"] not in known:
            why = f"it is on the PCI bus (driver: {gpu['driver'] or 'none'}) and nvidia-smi does not list it"
            yield Finding(f"The driver does not have the GPU {gpu['pci']}", why, "look for NVRM in dmesg; reboot")
    usable = usable_gpus(facts)
    if expected is not None and usable < expected:
        why = f"wanted {expected}, got {usable} ({len(facts['gpus_pci'])} on the PCI bus)"
        yield Finding("There are fewer GPUs than expected", why, "see the other problems; or correct expected_gpus")


def usable_gpus(facts: Row) -> int:
    return sum(not gpu["lost"] for gpu in facts["gpus"])


def xid_problems(facts: Row) -> Findings:
    for row in facts["xids"] or ():
        what = f"Xid {row['xid']} of GPU {row['pci']}, {counted(row['count'], 'time')} since the boot"
        why = row["message"] or "the kernel's log has no more"
        if row["application"]:
            yield warn(what, f"{why} (an error of the application)", "look at what ran on it; the GPU itself goes on")
        else:
            remedy = "look the number up in NVIDIA's Xid catalogue; reboot; if it comes again, replace the GPU"
            yield Finding(what, why, remedy)


def nvswitch_problems(facts: Row) -> Findings:
    switch, loaded = facts["nvswitch"], facts["driver"]["loaded"]
    if not switch["present"]:
        return
    if switch["fabricmanager"] is None:
        remedy = f"install nvidia-fabricmanager at exactly the driver's version{f', {loaded}' if loaded else ''}"
        yield Finding("There is no fabric manager", "the host has NVSwitches, and without it CUDA can't start", remedy)
    elif loaded and switch["fabricmanager"] != loaded:
        why = f"wanted {loaded}, as the driver is, got {switch['fabricmanager']}"
        yield Finding("The fabric manager has another version than the driver", why, f"install nvidia-fabricmanager {loaded}")
    elif switch["fabricmanager_active"] is False:
        remedy = "run: systemctl enable --now nvidia-fabricmanager"
        yield Finding("The fabric manager does not run", "CUDA can't start without it", remedy)
    for gpu in facts["gpus"]:
        if gpu["fabric_state"] in _FABRIC_BAD or (gpu["fabric_status"] or "Success") != "Success":
            why = f"state {gpu['fabric_state']}, status {gpu['fabric_status']}"
            yield Finding(f"{name_of(gpu)} has not joined the fabric", why, "look at: journalctl -u nvidia-fabricmanager")


# --- Toolkit, CDI and Docker -------------------------------------------------------------------------------------------


def toolkit_problems(facts: Row) -> Findings:
    toolkit = facts["toolkit"]
    packages = {name: version for name, version in toolkit["packages"].items() if version}
    if toolkit["version"] is None:
        why = "none of its packages and no nvidia-ctk"
        yield Finding("There is no NVIDIA Container Toolkit", why, f"install nvidia-container-toolkit, {TOOLKIT_FLOOR} or later")
        return
    if below(toolkit["version"], TOOLKIT_FLOOR):
        why = f"wanted {TOOLKIT_FLOOR} or later (CVE-2026-24260), got {toolkit['version']}"
        yield warn("The NVIDIA Container Toolkit has a known hole", why, "update its four packages together")
    if len({version.partition("-")[0] for version in packages.values()}) > 1:
        why = listed(f"{name} {version}" for name, version in packages.items())
        yield warn("The packages of the NVIDIA Container Toolkit differ in version", why, "pin all four at one version")
    if toolkit["cdi_refresh"]["runs"] is False:
        names = listed(row["name"] for row in facts["driver"]["modules"])
        why = f"its condition looks for modules of other names than {names}"
        remedy = "add a drop-in with an empty ExecCondition= to nvidia-cdi-refresh.service; run nvidia-ctk cdi generate after each change"
        yield warn("nvidia-cdi-refresh never runs", why, remedy)


def spec_faults(facts: Row, spec: Row) -> Findings:
    """What is wrong with one CDI specification of NVIDIA's devices."""
    name, docker = f"The CDI specification {spec['path']}", facts["docker"]["version"]
    generate = f"run: nvidia-ctk cdi generate --output={spec['path']}; then make the containers anew"
    if spec["error"]:
        yield Finding(f"{name} can't be read", spec["error"], generate)
        return
    if spec["missing_nodes"]:
        why = f"not there: {listed(spec['missing_nodes'])}; no container that asks for them starts"
        yield Finding(f"{name} names missing device nodes", why, f"run: nvidia-ctk system create-device-nodes; {generate}")
    other = spec["driver"] not in (None, facts["driver"]["userspace"], facts["driver"]["loaded"])
    if spec["missing_files"] or other:
        why = f"not there: {listed(spec['missing_files'], 3)}" if spec["missing_files"] else ""
        made = f"it was made for driver {spec['driver']}, the libraries are {facts['driver']['userspace'] or facts['driver']['loaded']}"
        yield Finding(f"{name} is stale", "; ".join(filter(None, (made if other else "", why))), generate)
    missing = _gpus_without_device(facts) if spec["kind"] == "nvidia.com/gpu" else []
    if missing:
        yield Finding(f"{name} is stale", f"it has no device for {listed(missing)}", generate)
    if docker and spec["version"] and not _understood(spec["version"], docker):
        why = f"it has version {spec['version']}, and this is Docker {docker}"
        remedy = "update Docker; or set the toolkit's feature no-additional-gids-for-device-nodes and generate it anew"
        yield Finding(f"{name} is too new for Docker", why, remedy)


def _understood(version: str, docker: str) -> bool:
    """Whether this Docker takes a specification of this version. 26.1.5 was seen to take 0.7.0 and to refuse 1.0.0."""
    if not below(version, "1.0"):
        return not below(docker, "27")
    return below(version, "0.7") or not below(docker, "26.1.0")


def _gpus_without_device(facts: Row) -> list[str]:
    """The GPUs that the specifications, taken together, do not offer."""
    devices = {device for spec in gpu_specs(facts) for device in spec["devices"]}
    if devices == {"all"}:
        # Written by hand for who always takes all.
        return []
    missing = []
    for gpu in facts["gpus"]:
        if gpu["lost"] or gpu["index"] is None:
            continue
        if gpu["mig"]:
            if not any(device.startswith((f"{gpu['index']}:", "MIG-")) for device in devices):
                missing.append(f"the MIG devices of {name_of(gpu)}")
        elif not devices & {str(gpu["index"]), gpu["uuid"]}:
            missing.append(name_of(gpu))
    return missing


def effective_specs(facts: Row) -> list[Row]:
    """NVIDIA's specifications, of each kind only those in the last folder that has it: they hide the others."""
    specs = [spec for spec in facts["toolkit"]["cdi"] if spec["error"] or (spec["kind"] or "").startswith("nvidia.com/")]
    folders = {spec["kind"]: spec["path"].rpartition("/")[0] for spec in specs if not spec["error"]}
    return [spec for spec in specs if spec["error"] or folders[spec["kind"]] == spec["path"].rpartition("/")[0]]


def gpu_specs(facts: Row) -> list[Row]:
    return [spec for spec in effective_specs(facts) if spec["kind"] == "nvidia.com/gpu"]


def cdi_problems(facts: Row) -> Findings:
    used = facts["docker"]["cdi"]
    ways = docker_ways(facts)
    if used and facts["toolkit"]["version"] and not effective_specs(facts) and (ways["hook"] or ways["runtime"]):
        why = "CDI is on, and who asks for nvidia.com/gpu gets nothing; from Docker 29.2 on, driver: nvidia asks CDI first"
        yield warn("There is no CDI specification of nvidia.com/gpu", why, GENERATE)
    for spec in effective_specs(facts):
        # A file of somebody else's that can't be read says nothing about GPUs.
        certain = used and not (spec["error"] and "nvidia" not in spec["path"])
        for fault in spec_faults(facts, spec):
            yield fault if certain else warn(fault.what, fault.why, fault.remedy)


def docker_ways(facts: Row) -> dict[str, bool]:
    """The ways by which this Docker could give a GPU to a container."""
    docker, programs = facts["docker"], facts["toolkit"]["programs"]
    specs = gpu_specs(facts)
    return {
        "cdi": docker["cdi"] and bool(specs) and not any(fault for spec in specs for fault in spec_faults(facts, spec)),
        "hook": programs["nvidia-container-runtime-hook"] is not None and docker["hook_seen"] is not False,
        "runtime": docker["nvidia_runtime"] is not None and programs["nvidia-container-runtime"] is not None,
    }


def docker_problems(facts: Row) -> Findings:
    docker, toolkit = facts["docker"], facts["toolkit"]
    programs = toolkit["programs"]
    if not docker["running"]:
        what = "The Docker Engine does not run" if docker["installed"] else "There is no Docker Engine"
        yield Finding(what, docker["error"] or "", "start it" if docker["installed"] else "install it")
        return
    ways = docker_ways(facts)
    if toolkit["version"] is not None and not any(ways.values()):
        yield _no_way(facts)
    elif programs["nvidia-container-runtime-hook"] and docker["hook_seen"] is False:
        why = "nvidia-container-runtime-hook came after dockerd had started, which looks for it only then"
        yield warn("Docker does not have the hook yet", why, "restart Docker")
    if docker["nvidia_runtime"] and programs["nvidia-container-runtime"] is None:
        why = f"its program is {docker['nvidia_runtime']}, which is not there"
        severity = ERROR if docker["default_runtime"] == "nvidia" else WARNING
        yield Finding("Docker's runtime nvidia can't start anything", why, "install nvidia-container-toolkit-base", severity)
    if docker["cdi"] and below(docker["version"], DOCKER_CDI):
        why = f"Docker {docker['version']} can't restart containers with CDI devices when it starts itself (moby 49989)"
        if docker["live_restore"]:
            why += "; live-restore keeps them over that, but not over a boot"
        remedy = f"update Docker to {DOCKER_CDI} or later; or use driver: nvidia, or start them by a unit after docker.service"
        yield warn("Containers with CDI devices don't come back", why, remedy)
    if docker["cgroup_driver"] == "systemd" and not docker["cdi"] and (ways["hook"] or ways["runtime"]):
        why = "the hook adds devices that systemd does not know of, and systemctl daemon-reload takes them away"
        remedy = "give devices by CDI, or set native.cgroupdriver=cgroupfs in Docker's exec-opts"
        yield warn("Running containers may lose their GPUs", why, remedy)


def _no_way(facts: Row) -> Finding:
    docker, programs = facts["docker"], facts["toolkit"]["programs"]
    if docker["cdi"]:
        why = "CDI is on, and there is no usable specification of nvidia.com/gpu"
    elif programs["nvidia-container-runtime-hook"]:
        why = "the hook came after dockerd had started, which looks for it only then"
        return Finding("Docker can't give GPUs to containers", why, "restart Docker")
    else:
        why = "CDI is off, there is no nvidia-container-runtime-hook, and the runtime nvidia is not registered"
    remedy = "turn CDI on (features.cdi in daemon.json, from Docker 25 on), or install nvidia-container-toolkit; then restart Docker"
    if docker["cdi"]:
        remedy = GENERATE
    return Finding("Docker can't give GPUs to containers", why, remedy)


# --- The judgement -----------------------------------------------------------------------------------------------------


def problems(facts: Row, expected: int | None = None) -> list[Finding]:
    """Everything that is wrong, errors first, and otherwise in the order of what depends on what."""
    if facts["gpus"] or facts["gpus_pci"]:
        parts = (
            driver_problems(facts),
            smi_problems(facts),
            flavour_problems(facts),
            count_problems(facts, expected),
            gpu_problems(facts),
            xid_problems(facts),
            nvswitch_problems(facts),
            toolkit_problems(facts),
            cdi_problems(facts),
            docker_problems(facts),
            kernel_problems(facts),
        )
    else:
        # Without a GPU nothing else matters to anybody.
        parts = (count_problems(facts, expected),)
    found = [finding for part in parts for finding in part]
    return sorted(found, key=lambda finding: finding.severity != ERROR)


def verdict_of(facts: Row, found: t.Sequence[Finding], fit: bool | None) -> str:
    """One line about the host."""
    if fit is None:
        return "No NVIDIA GPU: Triton runs on the CPU"
    errors = [finding for finding in found if finding.severity == ERROR]
    if errors:
        first, more = errors[0], len(found) - 1
        text = sentence(first.what, first.why, first.remedy)
        return f"Not fit: {text}" + (f" {more} more in problems." if more else "")
    names: dict[str, int] = {}
    for gpu in facts["gpus"]:
        names[gpu["name"] or "GPU"] = names.get(gpu["name"] or "GPU", 0) + 1
    driver = facts["driver"]
    parts = [
        *(f"{number} x {name}" for name, number in names.items()),
        f"driver {driver['loaded']}" + (f" ({driver['flavour']})" if driver["flavour"] else ""),
        f"toolkit {facts['toolkit']['version']}",
        f"Docker {facts['docker']['version']}",
    ]
    return "Fit: " + ", ".join(parts) + (f"; {counted(len(found), 'warning')}" if found else "")


def judge(facts: Row, expected: int | None = None) -> Row:
    """What the facts mean: problems, whether the host is fit (not told where it has no GPU and needs none), and a line."""
    found = problems(facts, expected)
    errors = any(finding.severity == ERROR for finding in found)
    has_gpu = bool(facts["gpus"] or facts["gpus_pci"])
    fit = not errors if has_gpu or errors else None
    return {"problems": [finding.as_dict() for finding in found], "fit": fit, "verdict": verdict_of(facts, found, fit)}
