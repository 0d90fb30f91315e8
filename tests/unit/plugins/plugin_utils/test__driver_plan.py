# Copyright (c) 2026, The gpufleet.triton authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.gpufleet.triton.plugins.module_utils import _gpu
from ansible_collections.gpufleet.triton.plugins.plugin_utils import _driver_plan

FLOORS = {"535": "535.309.01", "580": "580.159.03", "595": "595.71.05"}
PASCAL, HOPPER, BLACKWELL, B300 = 0x1B38, 0x2330, 0x2901, 0x3182


def gpu(device: int = HOPPER) -> dict[str, Any]:
    first, last = _gpu.branches_for(device)
    flavours = _gpu.flavours_for(device)
    return {"pci": "0000:1a:00.0", "device_id": hex(device), "flavours": flavours, "first_branch": first, "last_branch": last}


def host(version: str | None = None, *devices: int, flavour: str = "open", **driver: Any) -> dict[str, Any]:
    """A host with a driver that is loaded and well, or with none."""
    modules = [{"name": "nvidia", "version": version, "flavour": flavour}] if version else []
    told = {
        "state": "ok" if version else "absent",
        "loaded": version,
        "on_disk": version,
        "userspace": version,
        "flavour": flavour if version else None,
        "modules": modules,
        "nouveau": False,
        "runfile": False,
    }
    return {
        "driver": {**told, **driver},
        "gpus_pci": [gpu(device) for device in devices or (HOPPER,)],
        "nvidia_smi": {"path": "/usr/bin/nvidia-smi" if version else None},
        "secure_boot": False,
    }


def plan(facts: dict[str, Any], **options: Any) -> dict[str, Any]:
    wanted = {"source": "nvidia", "branch": "580", "version": "", "flavour": "auto", "floor": "fail", "secure_boot": "fail"}
    return _driver_plan.plan(facts, {**wanted, **options}, FLOORS)


def test_a_host_without_a_driver_gets_one() -> None:
    assert plan(host()) == {"problems": [], "flavour": "open", "branch": "580", "reasons": ["there is no driver for this kernel"]}


@pytest.mark.parametrize("version", ["580.159.03", "580.178.04"])
def test_a_driver_of_the_branch_at_its_floor_or_above_stays(version: str) -> None:
    assert plan(host(version))["reasons"] == []


@pytest.mark.parametrize(
    ("facts", "options", "reason"),
    [
        (host("580.105.08"), {}, "known security holes"),
        (host("595.71.05"), {}, "wanted branch 580"),
        (host("580.178.04"), {"version": "580.159.03"}, "580.178.04 is installed, wanted 580.159.03"),
        (host("580.159.03", flavour="proprietary"), {"flavour": "open"}, "open flavour"),
        (host("580.159.03", BLACKWELL, flavour="proprietary"), {}, "open flavour"),
        (host("580.159.03", state="broken"), {}, "half configured"),
        (host("580.159.03", state="mixed"), {}, "both flavours"),
        ({**host("580.159.03"), "nvidia_smi": {"path": None}}, {}, "nvidia-smi is not there"),
    ],
)
def test_what_is_not_as_wanted_is_installed(facts: dict[str, Any], options: dict[str, Any], reason: str) -> None:
    done = plan(facts, **options)
    assert done["problems"] == []
    assert any(reason in text for text in done["reasons"])


def test_a_driver_with_holes_stays_where_they_are_accepted() -> None:
    assert plan(host("580.105.08"), floor="ignore")["reasons"] == []


@pytest.mark.parametrize(
    ("devices", "branch", "flavour"),
    [
        ((HOPPER,), "580", "open"),
        ((HOPPER,), "535", "proprietary"),
        ((PASCAL,), "580", "proprietary"),
        ((BLACKWELL, HOPPER), "580", "open"),
    ],
)
def test_the_flavour_follows_from_the_gpus_and_the_branch(devices: tuple[int, ...], branch: str, flavour: str) -> None:
    done = plan(host(None, *devices), branch=branch)
    assert (done["flavour"], done["problems"]) == (flavour, [])


def test_a_flavour_that_is_there_and_does_stays() -> None:
    assert plan(host("580.159.03", flavour="proprietary"))["reasons"] == []


@pytest.mark.parametrize(
    ("facts", "options", "words"),
    [
        (host(), {"branch": "581"}, ["no such branch", "535, 580, 595"]),
        (host(), {"branch": "newest"}, ["'newest'", "such as 580"]),
        (host(), {"version": "580.105.08"}, ["known security holes", "580.159.03", "nvidia_driver_floor"]),
        (host(), {"version": "580.159.03-1"}, ["without what a package adds"]),
        (host(), {"version": "550.163.01"}, ["no security floor is known"]),
        (host(None, PASCAL), {"branch": "595"}, ["branch 580 or earlier"]),
        (host(None, B300), {"branch": "535"}, ["branch 580 or later"]),
        (host(None, PASCAL, BLACKWELL), {}, ["No flavour"]),
        (host(None, PASCAL), {"flavour": "open"}, ["needs proprietary", "auto"]),
        (host("580.159.03", runfile=True, state="unmanaged"), {}, ["nvidia-uninstall"]),
        ({**host(), "secure_boot": True}, {}, ["Secure Boot", "mokutil", "linux-modules-nvidia"]),
        (host(), {"source": "none"}, ["'none'"]),
        (host("550.163.01"), {"source": "none"}, ["no security floor is known"]),
        (host("535.100.01"), {"source": "distro"}, ["known security holes"]),
    ],
)
def test_what_cannot_be_had_is_said_with_what_to_do(facts: dict[str, Any], options: dict[str, Any], words: list[str]) -> None:
    text = " ".join(plan(facts, **options)["problems"])
    assert [word for word in words if word not in text] == []


@pytest.mark.parametrize(
    ("facts", "options"),
    [
        (host(), {"branch": "581", "floor": "ignore"}),
        (host(), {"version": "580.105.08", "floor": "ignore"}),
        ({**host(), "secure_boot": True}, {"secure_boot": "ignore"}),
        ({**host("580.159.03"), "secure_boot": True}, {}),
        (host("550.163.01"), {"source": "none", "floor": "ignore"}),
    ],
)
def test_what_is_accepted_is_no_problem(facts: dict[str, Any], options: dict[str, Any]) -> None:
    assert plan(facts, **options)["problems"] == []


MADISON = """\
nvidia-kernel-open-dkms | 595.71.05-1 | file:/srv/repository  Packages
nvidia-kernel-open-dkms | 580.178.04-1 | file:/srv/repository  Packages
nvidia-kernel-open-dkms | 580.99.01-0ubuntu1 | file:/srv/repository  Packages
"""


@pytest.mark.parametrize(
    ("options", "version", "words"),
    [
        ({}, "580.178.04", ""),
        ({"version": "580.99.01", "floor": "ignore"}, "580.99.01", ""),
        ({"version": "580.99.01"}, "580.99.01", "known security holes"),
        ({"branch": "590"}, "", "no driver of branch 590; it has 595.71.05, 580.178.04, 580.99.01"),
        ({"source": "distro", "one_branch": True}, "595.71.05", ""),
    ],
)
def test_the_newest_that_fits_is_taken(options: dict[str, Any], version: str, words: str) -> None:
    wanted = {"source": "nvidia", "branch": "580", "version": "", "floor": "fail", **options}
    found = _driver_plan.candidate(_driver_plan.parse_candidates(MADISON), wanted, FLOORS)
    assert found["version"] == version
    assert words in found["problem"]
    assert bool(found["problem"]) == bool(words)


def test_an_empty_repository_is_told() -> None:
    found = _driver_plan.candidate([], {"source": "nvidia", "branch": "580", "version": "", "floor": "fail"}, FLOORS)
    assert "no such package at all" in found["problem"]


def test_packages_are_read() -> None:
    text = """\
libcuda1|580.159.03-1|hold|installed
nvidia-container-toolkit|1.20.0-1|install|installed
nvidia-kernel-open-dkms|1:580.159.03-0ubuntu1|install|half-configured
nvidia-kernel-dkms|||not-installed
nvidia-old|470.1.2-1|deinstall|config-files
"""
    rows = {row["name"]: (row["driver"], row["hold"], row["ok"]) for row in _driver_plan.parse_packages(text)}
    assert rows == {
        "libcuda1": ("580.159.03", True, True),
        "nvidia-container-toolkit": (None, False, True),
        "nvidia-kernel-open-dkms": ("580.159.03", False, False),
    }


@pytest.mark.parametrize(
    ("facts", "changed", "expected"),
    [
        (host("580.159.03"), [], ""),
        (host(), [], ""),
        (host("580.159.03", loaded="580.105.08"), [], "580.105.08 is loaded, 580.159.03 is on disk"),
        (host("580.159.03", loaded=None), [], "the module is not loaded"),
        (host("580.159.03", loaded=None, nouveau=True), [], "nouveau has the GPU"),
        (host("580.159.03", state="mixed"), [], "another module or library is in use than is on disk"),
        (host("580.159.03"), ["the module parameters"], "the loaded module has not taken the module parameters"),
    ],
)
def test_what_is_pending(facts: dict[str, Any], changed: list[str], expected: str) -> None:
    assert _driver_plan.pending(facts, changed) == expected


def container(
    name: str, started: str = "2026-01-01", running: bool = True, env: list[str] | None = None, **host_config: Any
) -> dict[str, Any]:
    state = {"Running": running, "StartedAt": started}
    return {"Name": f"/{name}", "State": state, "Config": {"Env": env or []}, "HostConfig": host_config}


def test_containers_that_hold_a_gpu_are_found_the_newest_first() -> None:
    rows = [
        container("web"),
        container("hook", "2026-01-01", DeviceRequests=[{"Driver": "", "Capabilities": [["gpu"]]}]),
        container("cdi", "2026-01-03", DeviceRequests=[{"Driver": "cdi", "DeviceIDs": ["nvidia.com/gpu=all"]}]),
        container("runtime", "2026-01-02", Runtime="nvidia"),
        container("void", Runtime="nvidia", env=["NVIDIA_VISIBLE_DEVICES=void"]),
        container("device", "2026-01-04", Devices=[{"PathOnHost": "/dev/nvidia0"}]),
        container("over", running=False, Runtime="nvidia"),
        container("other", DeviceRequests=[{"Driver": "cdi", "DeviceIDs": ["example.com/nic=0"]}]),
        container("nothing", DeviceRequests=None, Devices=None),
    ]
    assert _driver_plan.gpu_containers(rows) == ["device", "cdi", "runtime", "hook"]
