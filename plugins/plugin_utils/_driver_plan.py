# Copyright (c) 2026, The gpufleet.triton authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a host's NVIDIA driver has to become, out of what gpu_info tells and the options of nvidia_driver. Private to the collection.

Pure: nothing is asked and nothing is changed here.
"""

from __future__ import annotations

import re
import typing as t

Row = t.Mapping[str, t.Any]

# The first branch whose open modules NVIDIA recommends for each GPU that they know.
OPEN_BY_DEFAULT = 560
_VERSION = re.compile(r"\d{3,}\.\d+(?:\.\d+)?\Z")
_UPSTREAM = re.compile(r"(?:\d+:)?(\d{3,}\.\d+(?:\.\d+)?)(?![\d.])")


def numbers(version: str) -> tuple[int, ...]:
    return tuple(int(text) for text in re.findall(r"\d+", version))


def branch_of(version: str | None) -> str:
    return (version or "").partition(".")[0]


def upstream(version: str) -> str | None:
    """NVIDIA's version in that of a package: 580.159.03 in 1:580.159.03-0ubuntu1."""
    found = _UPSTREAM.match(version)
    return found.group(1) if found else None


def listed(names: t.Iterable[t.Any]) -> str:
    return ", ".join(str(name) for name in names)


# --- Flavour ----------------------------------------------------------------------------------------------------------


def possible_flavours(gpus: t.Iterable[Row]) -> list[str]:
    """The flavours of the kernel module that know every GPU of the host."""
    return [name for name in ("open", "proprietary") if all(name in gpu["flavours"] for gpu in gpus)]


def choose_flavour(wanted: str, branch: str, facts: Row) -> str | None:
    """What is wanted; else what is there, if it does for these GPUs; else what NVIDIA recommends. None where no flavour does for all."""
    if wanted != "auto":
        return wanted
    possible = possible_flavours(facts["gpus_pci"])
    here = facts["driver"]["flavour"]
    if here in possible and facts["driver"]["on_disk"]:
        return here
    preferred = "open" if not branch.isdigit() or int(branch) >= OPEN_BY_DEFAULT else "proprietary"
    return preferred if preferred in possible else next(iter(possible), None)


def flavour_problems(wanted: str, flavour: str | None, gpus: t.Sequence[Row]) -> t.Iterator[str]:
    if flavour is None:
        each = listed(f"{gpu['pci']} ({gpu['device_id']}): {' or '.join(gpu['flavours'])}" for gpu in gpus)
        yield (
            f"No flavour of the kernel module knows every GPU of this host: {each}. One host can have one driver: move the older or the"
            " newer GPUs to another host, or set nvidia_driver_flavour to the flavour of those that are to be used."
        )
    elif wanted != "auto":
        for gpu in gpus:
            if wanted not in gpu["flavours"]:
                yield (
                    f"nvidia_driver_flavour is '{wanted}', but the GPU {gpu['pci']} ({gpu['device_id']}) needs"
                    f" {' or '.join(gpu['flavours'])}. Set nvidia_driver_flavour to auto."
                )


# --- Branch and floor -------------------------------------------------------------------------------------------------


def branch_problems(branch: str, gpus: t.Sequence[Row], option: str) -> t.Iterator[str]:
    if not branch.isdigit():
        return
    for gpu in gpus:
        first, last = gpu.get("first_branch"), gpu.get("last_branch")
        if (first and int(branch) < first) or (last and int(branch) > last):
            need = f"branch {first} or later" if first and int(branch) < first else f"branch {last} or earlier"
            yield f"The GPU {gpu['pci']} ({gpu['device_id']}) needs {need}, and {option} is {branch}. Set {option} to such a branch."


def floor_problem(version: str | None, floors: Row, where: str) -> str:
    """Why a version has known holes, or nothing. A branch without a floor is one whose holes nobody has told."""
    if not version:
        return ""
    branch = branch_of(version)
    floor = floors.get(branch)
    if floor is None:
        return (
            f"{where} is {version}, and no security floor is known for branch {branch} (known: {listed(sorted(floors))}): NVIDIA may have"
            " stopped mending it. Take a branch that is known, add the branch to nvidia_driver_security_floors, or accept it with"
            " nvidia_driver_floor: ignore."
        )
    if numbers(version) < numbers(str(floor)):
        return (
            f"{where} is {version}, which has known security holes: wanted {floor} or later of branch {branch}. Set nvidia_driver_version"
            f" to {floor} or later, or leave it empty for the newest of nvidia_driver_branch; or accept it with nvidia_driver_floor:"
            " ignore."
        )
    return ""


def option_problems(options: Row, floors: Row) -> t.Iterator[str]:
    """What is wrong with the options, whatever host it is."""
    source, branch, version = options["source"], str(options["branch"]), str(options["version"])
    if version and not _VERSION.match(version):
        yield f"nvidia_driver_version is '{version}', wanted a version of NVIDIA's, such as 580.159.03, without what a package adds to it."
        return
    if not branch.isdigit():
        yield f"nvidia_driver_branch is '{branch}', wanted the first number of a version, such as 580."
        return
    if source != "nvidia" or options["floor"] == "ignore":
        return
    if version:
        problem = floor_problem(version, floors, "nvidia_driver_version")
        if problem:
            yield problem
    elif branch not in floors:
        yield (
            f"nvidia_driver_branch is {branch}, and no such branch is known: there are {listed(sorted(floors))}. Take one of them, add the"
            f" branch to nvidia_driver_security_floors with its oldest safe version, or set nvidia_driver_floor to ignore."
        )


# --- Packages ---------------------------------------------------------------------------------------------------------


def parse_packages(text: str) -> list[dict[str, t.Any]]:
    """Lines of C(dpkg-query -W -f '${Package}|${Version}|${db:Status-Want}|${db:Status-Status}'), only of what is there."""
    rows = []
    for line in text.splitlines():
        name, version, want, status = (line.split("|") + [""] * 4)[:4]
        if name and status and status not in ("not-installed", "config-files"):
            rows.append(
                {"name": name, "version": version, "driver": upstream(version), "hold": want == "hold", "ok": status == "installed"}
            )
    return rows


def parse_candidates(text: str) -> list[str]:
    """The versions in lines of C(apt-cache madison), the newest first."""
    found = {version for version in (upstream(line.split("|")[1].strip()) for line in text.splitlines() if line.count("|") > 1) if version}
    return sorted(found, key=numbers, reverse=True)


def candidate(versions: t.Sequence[str], options: Row, floors: Row) -> dict[str, str]:
    """The version that a repository has for what is wanted, or why it has none."""
    version, branch = str(options["version"]), str(options["branch"])
    any_branch = options["source"] == "distro" and options.get("one_branch", True)
    fitting = [name for name in versions if (name == version if version else any_branch or branch_of(name) == branch)]
    if not fitting:
        wanted = f"version {version}" if version else f"branch {branch}"
        has = f"it has {listed(versions[:8])}" if versions else "it has no such package at all: see its URL, and that it is for this system"
        return {
            "version": "",
            "problem": (
                f"The repository has no driver of {wanted}; {has}. Set nvidia_driver_branch or nvidia_driver_version to what is there, or"
                " nvidia_driver_repository_url to a repository that has it."
            ),
        }
    problem = "" if options["floor"] == "ignore" else floor_problem(fitting[0], floors, "The newest that the repository has")
    return {"version": fitting[0], "problem": problem}


# --- The plan ---------------------------------------------------------------------------------------------------------


def reasons_to_install(facts: Row, options: Row, floors: Row, flavour: str | None) -> list[str]:
    """Why the packages have to be installed, upgraded or exchanged. Empty where the driver on disk is the right one."""
    driver, version, branch = facts["driver"], str(options["version"]), str(options["branch"])
    here = driver["on_disk"]
    if driver["state"] == "broken":
        return ["its packages are half configured, or its module is not built for this kernel"]
    if not here:
        return ["there is no driver for this kernel"]
    reasons = []
    if version and here != version:
        reasons.append(f"{here} is installed, wanted {version}")
    elif not version and options["source"] == "nvidia":
        if branch_of(here) != branch:
            reasons.append(f"{here} is installed, wanted branch {branch}")
        elif options["floor"] == "fail" and floor_problem(here, floors, ""):
            reasons.append(f"{here} is installed, and has known security holes")
    if driver["state"] == "mixed":
        reasons.append("modules of both flavours are on disk")
    elif flavour and driver["modules"] and flavour not in {row["flavour"] for row in driver["modules"]} | {None}:
        reasons.append(f"wanted the {flavour} flavour")
    if facts["nvidia_smi"]["path"] is None:
        reasons.append("nvidia-smi is not there")
    return reasons


def plan(facts: Row, options: Row, floors: Row) -> dict[str, t.Any]:
    """What to do on a host that has a GPU."""
    source, driver = options["source"], facts["driver"]
    gpus = facts["gpus_pci"]
    branch = branch_of(options["version"]) or str(options["branch"])
    if source != "nvidia" and not options["version"]:
        branch = branch_of(driver["on_disk"])
    flavour = choose_flavour(options["flavour"], branch, facts)
    problems = list(option_problems(options, floors))
    reasons: list[str] = []
    if source == "none":
        if not (driver["on_disk"] or driver["loaded"]):
            problems.append(
                "There is no NVIDIA driver on this host, and nvidia_driver_source is 'none', which installs nothing. Install one, or set"
                " nvidia_driver_source to nvidia or distro."
            )
    else:
        problems += flavour_problems(options["flavour"], flavour, gpus)
        if source == "nvidia":
            problems += branch_problems(branch, gpus, "nvidia_driver_version" if options["version"] else "nvidia_driver_branch")
        reasons = reasons_to_install(facts, options, floors, flavour)
        if driver["runfile"]:
            problems.append(
                "The driver of this host was installed by NVIDIA's installer (/usr/bin/nvidia-uninstall), and packages over it would break"
                " both. Run nvidia-uninstall, then this again; or keep it, with nvidia_driver_source: none."
            )
    if reasons and facts["secure_boot"] and options["secure_boot"] == "fail":
        problems.append(
            "Secure Boot is on, and the kernel would refuse a module that this host builds. Enrol the key that DKMS signs with (mokutil"
            " --import /var/lib/dkms/mok.pub, confirm at the console at the next boot) and set nvidia_driver_secure_boot to ignore; or"
            " install modules that the distribution signs (Ubuntu: linux-modules-nvidia-*) and set nvidia_driver_source to none; or turn it"
            " off."
        )
    if not reasons and source != "nvidia" and options["floor"] == "fail":
        problem = floor_problem(driver["on_disk"] or driver["loaded"], floors, "The driver of this host")
        if problem:
            problems.append(problem)
    return {"problems": problems, "flavour": flavour or "open", "branch": branch, "reasons": reasons}


def pending(facts: Row, changed: t.Sequence[str]) -> str:
    """Why the driver that is in use is not the one on disk, in a few words; nothing where it is."""
    driver = facts["driver"]
    if not driver["modules"]:
        return ""
    if driver["nouveau"] and not driver["loaded"]:
        return "nouveau has the GPU"
    if not driver["loaded"]:
        return "the module is not loaded"
    if driver["on_disk"] and driver["loaded"] != driver["on_disk"]:
        return f"{driver['loaded']} is loaded, {driver['on_disk']} is on disk"
    if driver["state"] in ("mixed", "mismatch"):
        return "another module or library is in use than is on disk"
    return f"the loaded module has not taken {listed(changed)}" if changed else ""


def gpu_containers(inspected: t.Iterable[Row]) -> list[str]:
    """The names of running containers that hold a GPU, the newest first, out of C(docker inspect)."""
    rows = []
    for row in inspected:
        host = row.get("HostConfig") or {}
        environment = (row.get("Config") or {}).get("Env") or []
        requests = host.get("DeviceRequests") or []
        devices = [device.get("PathOnHost") or "" for device in host.get("Devices") or []]
        asked = any(
            request.get("Driver") == "nvidia"
            or (request.get("Driver") != "cdi" and ["gpu"] in (request.get("Capabilities") or []))
            or any(str(name).startswith("nvidia.com/") for name in request.get("DeviceIDs") or [])
            for request in requests
        )
        runtime = host.get("Runtime") == "nvidia" and not any(
            item in ("NVIDIA_VISIBLE_DEVICES=void", "NVIDIA_VISIBLE_DEVICES=") for item in environment
        )
        if (asked or runtime or any(path.startswith("/dev/nvidia") for path in devices)) and (row.get("State") or {}).get("Running"):
            rows.append(((row.get("State") or {}).get("StartedAt") or "", str(row.get("Name", "")).lstrip("/")))
    return [name for _started, name in sorted(rows, reverse=True)]
