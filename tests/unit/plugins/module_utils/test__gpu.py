# Copyright (c) 2026, The gpufleet.triton authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import os
import typing as t
from pathlib import Path

import pytest
from ansible_collections.gpufleet.triton.plugins.module_utils import _gpu
from ansible_collections.gpufleet.triton.tests.unit.plugins.module_utils.gpu_host import (
    DRIVER,
    KERNEL,
    OPEN,
    PROPRIETARY,
    SPEC,
    TOOLKIT,
    GpuHost,
)

# What Debian's nvidia-smi 550.163.01 prints on standard output where there is no driver, whatever it is asked.
NO_DRIVER = (
    "NVIDIA-SMI has failed because it couldn't communicate with the NVIDIA driver. "
    "Make sure that the latest NVIDIA driver is installed and running.\n\n"
)
MAKE_LOG = """\
DKMS make.log for nvidia-current-open-550.163.01 for kernel 6.12.107+deb13-amd64 (x86_64)
  CC [M]  /var/lib/dkms/nvidia-current-open/550.163.01/build/nvidia/nv-pci.o
nvidia/nv-pci.c: In function 'nv_resize_pcie_bars':
nvidia/nv-pci.c:237:9: error: too few arguments to function 'pci_resize_resource'
make[3]: *** [scripts/Makefile.build:229: nvidia/nv-pci.o] Error 1
"""
# The condition of nvidia-container-toolkit 1.20.0.
REFRESH = """\
[Service]
Type=oneshot
ExecCondition=/usr/bin/grep -qE '/(nvidia|nvidia-current)[.]ko' /lib/modules/%v/modules.dep
ExecStart=/usr/bin/nvidia-ctk cdi generate
"""


@pytest.fixture
def bare(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> GpuHost:
    return GpuHost(tmp_path, monkeypatch)


@pytest.fixture
def host(bare: GpuHost) -> GpuHost:
    return bare.healthy()


def whats(facts: dict[str, t.Any], severity: str | None = None) -> list[str]:
    return [row["what"] for row in facts["problems"] if severity in (None, row["severity"])]


def only(facts: dict[str, t.Any]) -> dict[str, str]:
    """The one problem."""
    assert len(facts["problems"]) == 1, facts["problems"]
    return facts["problems"][0]


# --- Whole hosts -------------------------------------------------------------------------------------------------------


def test_a_host_with_nothing(bare: GpuHost) -> None:
    facts = bare.collect()
    assert facts["driver"]["state"] == "absent"
    assert (facts["gpus"], facts["gpus_pci"], facts["problems"], facts["fit"]) == ([], [], [], None)
    assert facts["verdict"] == "No NVIDIA GPU: Triton runs on the CPU"
    assert facts["xids"] is None
    assert facts["secure_boot"] is False


def test_a_host_with_nothing_that_should_have_a_gpu(bare: GpuHost) -> None:
    facts = bare.collect(expected=1)
    assert facts["fit"] is False
    assert facts["verdict"].startswith("Not fit: There are fewer GPUs than expected. Wanted 1, got 0 (0 on the PCI bus).")
    assert bare.collect(expected=0)["fit"] is None


def test_a_healthy_host(host: GpuHost) -> None:
    facts = host.collect(expected=1)
    assert facts["problems"] == []
    assert facts["fit"] is True
    assert facts["verdict"] == "Fit: 1 x NVIDIA H100 80GB HBM3, driver 580.159.03 (open), toolkit 1.20.0, Docker 28.5.1"
    assert {key: facts["driver"][key] for key in ("state", "loaded", "on_disk", "userspace", "flavour", "reload_needed")} == {
        "state": "ok",
        "loaded": DRIVER,
        "on_disk": DRIVER,
        "userspace": DRIVER,
        "flavour": "open",
        "reload_needed": False,
    }
    assert facts["toolkit"]["version"] == "1.20.0"
    assert facts["toolkit"]["cdi"][0]["driver"] == DRIVER


def test_eight_gpus(bare: GpuHost) -> None:
    facts = bare.healthy(8).collect(expected=8)
    assert (facts["fit"], facts["problems"]) == (True, [])
    assert [gpu["index"] for gpu in facts["gpus"]] == list(range(8))
    assert [gpu["pci"] for gpu in facts["gpus"]] == [gpu["pci"] for gpu in facts["gpus_pci"]]
    assert facts["verdict"].startswith("Fit: 8 x NVIDIA H100 80GB HBM3, ")


def test_one_of_eight_is_lost(bare: GpuHost) -> None:
    bare.healthy(8).smi["gpus"][3]["lost"] = True
    facts = bare.collect(expected=8)
    lost = facts["gpus"][3]
    assert (lost["lost"], lost["index"], lost["uuid"], lost["temperature"]) == (True, 3, None, None)
    assert lost["errors"]["temperature"] == "GPU is lost"
    assert facts["nvidia_smi"]["rc"] == 0
    assert facts["fit"] is False
    assert whats(facts, "error") == ["There are fewer GPUs than expected", "GPU 3 (0000:1d:00.0) is lost"]


def test_fewer_gpus_than_expected(host: GpuHost) -> None:
    assert only(host.collect(expected=2))["why"] == "wanted 2, got 1 (1 on the PCI bus)"


def test_errors_come_first(host: GpuHost) -> None:
    host.smi["gpus"][0]["cells"] = {"persistence_mode": "Disabled"}
    host.docker = None
    facts = host.collect()
    assert [row["severity"] for row in facts["problems"]] == ["error", "warning"]
    assert facts["verdict"].startswith("Not fit: The Docker Engine does not run. Cannot connect to the Docker Engine. Start it.")
    assert facts["verdict"].endswith(" 1 more in problems.")


# --- The driver's states -----------------------------------------------------------------------------------------------


def without_driver(host: GpuHost) -> GpuHost:
    for name in ("proc/driver/nvidia/version", "var/run/cdi/nvidia.yaml"):
        (host.root / name).unlink()
    host.modules, host.dkms = {}, ""
    host.kernel(KERNEL)
    host.smi["fault"] = "no_driver"
    return host


def test_no_driver_and_debians_nvidia_smi(host: GpuHost) -> None:
    without_driver(host)
    host.programs["nvidia-smi"] = lambda _arguments: (9, NO_DRIVER)
    facts = host.collect()
    assert facts["driver"]["state"] == "absent"
    assert facts["nvidia_smi"]["rc"] == 9
    assert facts["nvidia_smi"]["message"] == NO_DRIVER.strip()
    assert facts["gpus"] == []
    first = facts["problems"][0]
    assert first["what"] == "There is no NVIDIA driver"
    assert first["why"] == f"1 NVIDIA GPU on the PCI bus, and no kernel module for {KERNEL}"


@pytest.mark.parametrize("on_disk", [False, True])
def test_nouveau(host: GpuHost, on_disk: bool) -> None:
    without_driver(host).write("sys/module/nouveau/refcnt", "1")
    if on_disk:
        host.module("nvidia", DRIVER)
    facts = host.collect()
    assert facts["driver"]["state"] == "nouveau"
    assert facts["driver"]["reload_needed"] is on_disk
    assert facts["problems"][0]["remedy"].startswith("blacklist nouveau" if on_disk else "install NVIDIA's driver, blacklist nouveau")


@pytest.mark.parametrize("loaded", [True, False])
def test_nvidias_installer(host: GpuHost, loaded: bool) -> None:
    host.write("usr/bin/nvidia-uninstall")
    if not loaded:
        (host.root / "proc/driver/nvidia/version").unlink()
        host.smi["fault"] = "no_driver"
    facts = host.collect()
    assert facts["driver"]["state"] == "unmanaged"
    assert facts["fit"] is loaded
    assert "The driver was installed by NVIDIA's installer" in whats(facts, "warning")
    assert ("The NVIDIA driver is installed and not loaded" in whats(facts)) is not loaded


def test_a_build_that_failed(host: GpuHost) -> None:
    kernel = "6.12.107+deb13-amd64"
    without_driver(host).kernel(kernel)
    host.packages["nvidia-open-kernel-dkms"] = ("550.163.01-2", "iF ")
    host.dkms = "nvidia-current-open/550.163.01: added\n"
    host.write("var/lib/dkms/nvidia-current-open/550.163.01/build/make.log", MAKE_LOG)
    facts = host.collect(kernel=kernel)
    assert facts["driver"]["state"] == "broken"
    assert facts["driver"]["half_configured"] == [{"name": "nvidia-open-kernel-dkms", "version": "550.163.01-2", "status": "iF"}]
    first = facts["problems"][0]
    assert "half configured: nvidia-open-kernel-dkms (iF)" in first["why"]
    assert "error: too few arguments to function 'pci_resize_resource'" in first["why"]
    assert first["remedy"] == "install a driver from 580.126.09 on, or boot a kernel before 6.12.97"


def test_a_build_that_failed_for_a_kernel_of_an_older_series(host: GpuHost) -> None:
    """Debian's 6.1.187 took the change over: only the error tells."""
    kernel = "6.1.0-53-amd64"
    without_driver(host).kernel(kernel)
    host.dkms = "nvidia-current-open/550.163.01: added\n"
    host.write("var/lib/dkms/nvidia-current-open/550.163.01/build/make.log", MAKE_LOG)
    first = host.collect(kernel=kernel)["problems"][0]
    assert "this kernel has taken over from 6.12.97 what drivers before 580.126.09 do not build with" in first["why"]
    assert first["remedy"] == "install a driver from 580.126.09 on, or boot an earlier kernel of its series"


def test_another_build_that_failed(host: GpuHost) -> None:
    without_driver(host).dkms = f"nvidia/{DRIVER}, {KERNEL}, x86_64: built\n"
    facts = host.collect()
    assert facts["driver"]["state"] == "broken"
    assert facts["problems"][0]["why"] == f"DKMS has nvidia/{DRIVER} built, not installed, for {KERNEL}"
    assert facts["problems"][0]["remedy"].endswith(f"dkms autoinstall -k {KERNEL} && dpkg --configure -a")


def test_the_known_cause_is_named_only_where_it_is_one(host: GpuHost) -> None:
    without_driver(host).dkms = "nvidia-current-open/550.163.01: added\n"
    assert "pci_resize_resource" not in host.collect()["problems"][0]["why"]


@pytest.mark.parametrize(
    ("status", "installed", "half"),
    [
        ("ii", True, False),
        ("hi", True, False),
        ("iF", True, True),
        ("iU", True, True),
        ("iHR", True, True),
        ("iiR", True, True),
        ("rc", False, False),
        ("un", False, False),
        ("in", False, False),
    ],
)
def test_states_of_packages(status: str, installed: bool, half: bool) -> None:
    package = _gpu.Package("1", status)
    assert (package.installed, package.half) == (installed, half)


def test_half_an_upgrade_is_broken_though_the_old_driver_runs(host: GpuHost) -> None:
    host.packages["nvidia-kernel-open-dkms"] = ("595.71.05-1", "iF ")
    assert host.collect()["driver"]["state"] == "broken"


def test_packages_of_a_kernel_that_are_half_configured_are_a_warning(host: GpuHost) -> None:
    host.packages["linux-headers-6.12.107+deb13-amd64"] = ("6.12.107-1", "iF ")
    facts = host.collect()
    assert (facts["driver"]["state"], facts["fit"]) == ("ok", True)
    assert only(facts)["what"] == "Packages are half configured"


def test_a_module_from_elsewhere_does_without_dkms(host: GpuHost) -> None:
    host.dkms = f"nvidia/{DRIVER}: added\n"
    assert host.collect()["driver"]["state"] == "ok"


@pytest.mark.parametrize("signed", [False, True])
def test_installed_and_not_loaded(host: GpuHost, signed: bool) -> None:
    (host.root / "proc/driver/nvidia/version").unlink()
    host.smi["fault"] = "no_driver"
    host.write("sys/firmware/efi/efivars/SecureBoot-8be4df61-93ca-11d2-aa0d-00e098032b8c", b"\x06\0\0\0" + bytes([signed]))
    facts = host.collect()
    assert facts["driver"]["state"] == "installed_not_loaded"
    assert facts["secure_boot"] is signed
    assert ("mokutil" in facts["problems"][0]["remedy"]) is signed
    assert ("modprobe nvidia" in facts["problems"][0]["remedy"]) is not signed


def test_a_mismatch(host: GpuHost) -> None:
    host.module("nvidia", "580.173.02")
    host.smi.update(fault="mismatch", library="580.173.02")
    facts = host.collect()
    assert facts["driver"]["state"] == "mismatch"
    assert (facts["driver"]["loaded"], facts["driver"]["userspace"]) == (DRIVER, "580.173.02")
    assert facts["driver"]["reload_needed"] is True
    assert whats(facts, "error")[0].startswith("Driver/library version mismatch")
    assert facts["problems"][0]["why"] == f"loaded is {DRIVER}, on disk 580.173.02, the libraries are 580.173.02"
    assert "nvidia-smi can't talk to the driver" not in whats(facts)


def test_another_module_on_disk_is_a_warning_while_the_libraries_fit(host: GpuHost) -> None:
    host.module("nvidia", "580.173.02")
    facts = host.collect()
    assert (facts["driver"]["state"], facts["driver"]["reload_needed"], facts["fit"]) == ("mismatch", True, True)
    assert only(facts)["severity"] == "warning"


def test_other_libraries_show_without_nvidia_smi(host: GpuHost) -> None:
    del host.programs["nvidia-smi"]
    for path in (host.root / "usr/lib/x86_64-linux-gnu").iterdir():
        path.unlink()
    host.libraries("580.173.02")
    facts = host.collect()
    assert (facts["driver"]["state"], facts["driver"]["userspace"]) == ("mismatch", "580.173.02")


def test_libraries_that_lie_elsewhere_are_no_mismatch_while_nvidia_smi_works(host: GpuHost) -> None:
    (host.root / f"usr/lib/x86_64-linux-gnu/libnvidia-ml.so.{DRIVER}").unlink()
    (host.root / f"usr/lib/x86_64-linux-gnu/libcuda.so.{DRIVER}").unlink()
    host.libraries("535.309.01")
    assert host.collect()["driver"]["state"] == "ok"


def test_a_mismatch_of_which_only_nvidia_smi_knows(host: GpuHost) -> None:
    host.programs["nvidia-smi"] = lambda _arguments: (1, "Failed to initialize NVML: Driver/library version mismatch\n")
    assert host.collect()["driver"]["state"] == "mismatch"


def test_mixed_flavours(host: GpuHost) -> None:
    host.module("nvidia-current", DRIVER, "proprietary")
    facts = host.collect()
    assert facts["driver"]["state"] == "mixed"
    assert facts["problems"][0]["why"] == f"on disk for {KERNEL}: open, proprietary; open is loaded"


def test_another_flavour_is_loaded_than_is_on_disk(host: GpuHost) -> None:
    host.load(DRIVER, PROPRIETARY)
    facts = host.collect()
    assert (facts["driver"]["state"], facts["driver"]["flavour"], facts["driver"]["reload_needed"]) == ("mixed", "proprietary", True)


def test_debians_open_module_is_found_under_its_name(host: GpuHost) -> None:
    host.modules = {}
    host.module("nvidia-current-open", DRIVER)
    assert host.collect()["driver"]["modules"] == [{"name": "nvidia-current-open", "version": DRIVER, "flavour": "open"}]


def test_what_is_no_module_of_the_driver(bare: GpuHost) -> None:
    bare.kernel(KERNEL)
    assert bare.collect()["driver"]["modules"] == []


def test_debians_libraries_lie_deeper(bare: GpuHost) -> None:
    bare.write("usr/lib/x86_64-linux-gnu/nvidia/current/libnvidia-ml.so.550.163.01")
    bare.write("usr/lib/x86_64-linux-gnu/nvidia/current/libnvidia-ml.so.1")
    assert bare.collect()["driver"]["userspace"] == "550.163.01"


def test_without_proc_the_driver_tells_its_version_itself(host: GpuHost) -> None:
    (host.root / "proc/driver/nvidia/version").unlink()
    facts = host.collect()
    assert (facts["driver"]["loaded"], facts["driver"]["state"], facts["fit"]) == (DRIVER, "ok", True)


@pytest.mark.parametrize("text", [OPEN, PROPRIETARY])
@pytest.mark.parametrize("version", ["550.163.01", "535.309", "1000.1.2"])
def test_the_version_of_the_loaded_module(text: str, version: str) -> None:
    assert _gpu.driver_version(text.format(version)) == version


def test_a_text_without_a_version() -> None:
    assert _gpu.driver_version("GCC version: gcc 14.2.0 x86_64") is None


def test_dkms_status_in_all_its_forms() -> None:
    text = """\
nvidia-current-open/550.163.01, 6.12.94+deb13-amd64, x86_64: installed
nvidia/580.95.05: added
nvidia, 535.54.03, 5.15.0-76-generic, x86_64: installed (WARNING! Diff between built and installed module!)
nvidia-fs/2.20.5, 6.8.0-1-generic, x86_64: built
virtualbox/7.0, 6.1.0, x86_64: installed
Error! Could not locate dkms.conf file.
"""
    assert [(row["module"], row["version"], row["kernel"], row["state"]) for row in _gpu.parse_dkms(text)] == [
        ("nvidia-current-open", "550.163.01", "6.12.94+deb13-amd64", "installed"),
        ("nvidia", "580.95.05", None, "added"),
        ("nvidia", "535.54.03", "5.15.0-76-generic", "installed"),
        ("nvidia-fs", "2.20.5", "6.8.0-1-generic", "built"),
    ]


def test_a_newer_kernel_without_the_driver(host: GpuHost) -> None:
    for release in ("6.12.107+deb13-amd64", "6.12.90+deb13-amd64"):
        host.kernel(release)
    facts = host.collect()
    assert [row["kernel"] for row in facts["driver"]["kernels"]] == ["6.12.90+deb13-amd64", KERNEL, "6.12.107+deb13-amd64"]
    assert [row["module"] for row in facts["driver"]["kernels"]] == [False, True, False]
    assert [row["dkms"] for row in facts["driver"]["kernels"]] == [None, "installed", None]
    assert only(facts)["why"].startswith("6.12.107+deb13-amd64 is installed and has no driver")
    assert facts["fit"] is True


# --- nvidia-smi --------------------------------------------------------------------------------------------------------


def test_nvidia_smi_is_missing(host: GpuHost) -> None:
    del host.programs["nvidia-smi"]
    assert "nvidia-smi is not there" in whats(host.collect(), "error")


def test_the_driver_found_no_gpu(host: GpuHost) -> None:
    host.smi["gpus"] = []
    facts = host.collect()
    assert (facts["nvidia_smi"]["rc"], facts["gpus"], facts["fit"]) == (0, [], False)
    assert "The driver has found no GPU" in whats(facts, "error")


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("Failed to initialize NVML: Unknown Error", "systemd has applied"),
        ("Failed to initialize NVML: Insufficient Permissions", "SELinux"),
        ("Something new", "it says: Something new (status 255)"),
    ],
)
def test_nvidia_smi_does_not_get_through(host: GpuHost, text: str, why: str) -> None:
    host.programs["nvidia-smi"] = lambda _arguments: (255, text)
    found = next(row for row in host.collect()["problems"] if row["what"] == "nvidia-smi can't talk to the driver")
    assert why in found["why"]


# --- GPUs --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("cells", "what", "severity"),
    [
        ({"temperature.gpu": "[Unknown Error]"}, "does not tell all of its state", "error"),
        ({"temperature.gpu": "ERR!"}, "does not tell all of its state", "error"),
        ({"ecc.mode.current": "[Insufficient Permissions]"}, "does not tell all of its state", "warning"),
        ({"reset_status.reset_required": "Yes"}, "requires a reset", "error"),
        ({"ecc.errors.uncorrected.volatile.total": "2"}, "has lost data in its memory", "error"),
        ({"remapped_rows.failure": "Yes"}, "has no spare rows left", "error"),
        ({"remapped_rows.pending": "1"}, "has bad memory to put aside", "warning"),
        ({"retired_pages.pending": "Yes"}, "has bad memory to put aside", "warning"),
        ({"ecc.mode.pending": "Disabled"}, "is to switch ECC off", "warning"),
        ({"mig.mode.pending": "Enabled"}, "is to switch MIG on", "warning"),
        ({"persistence_mode": "Disabled"}, "is not in persistence mode", "warning"),
        ({"pcie.link.width.current": "8"}, "has a narrow PCIe link", "warning"),
    ],
)
def test_what_is_wrong_with_a_gpu(host: GpuHost, cells: dict[str, str], what: str, severity: str) -> None:
    host.smi["gpus"][0]["cells"] = cells
    facts = host.collect()
    assert (only(facts)["what"], only(facts)["severity"]) == (f"GPU 0 (0000:1a:00.0) {what}", severity)
    assert facts["fit"] is (severity == "warning")


def test_a_gpu_that_fell_off_the_bus(host: GpuHost) -> None:
    host.write("sys/bus/pci/devices/0000:1a:00.0/config", b"\xff" * 64)
    assert only(host.collect())["what"] == "The GPU 0000:1a:00.0 has fallen off the bus"


def test_a_gpu_that_the_driver_does_not_have(host: GpuHost) -> None:
    host.cards("0x2330", first=0x65)
    found = only(host.collect())
    assert found["what"] == "The driver does not have the GPU 0000:65:00.0"
    assert found["why"] == "it is on the PCI bus (driver: none) and nvidia-smi does not list it"


@pytest.mark.parametrize(
    ("device_id", "driver", "text", "what"),
    [
        ("0x1db6", "580.159.03", OPEN, "needs the proprietary kernel module"),
        ("0x2901", "580.159.03", PROPRIETARY, "needs the open kernel module"),
        ("0x1db6", "595.71.05", PROPRIETARY, "needs an older driver"),
        ("0x2e12", "570.211.01", OPEN, "needs a newer driver"),
        ("0x3182", "570.211.01", OPEN, "needs a newer driver"),
    ],
)
def test_a_driver_that_does_not_know_the_gpu(host: GpuHost, device_id: str, driver: str, text: str, what: str) -> None:
    host.cards(device_id)
    host.load(driver, text)
    host.modules = {}
    host.module("nvidia", driver, "open" if text == OPEN else "proprietary")
    assert f"The GPU 0000:1a:00.0 ({device_id}) {what}" in whats(host.collect(), "error")


@pytest.mark.parametrize(
    ("device_id", "flavours", "branches"),
    [
        (0x1DF6, ["proprietary"], (None, 580)),
        (0x1DF7, ["open", "proprietary"], (None, None)),
        (0x2330, ["open", "proprietary"], (None, None)),
        (0x2900, ["open"], (570, None)),
        (0x2E12, ["open"], (580, None)),
        (0x31C3, ["open"], (580, None)),
        (0xFFFF, ["open", "proprietary"], (None, None)),
    ],
)
def test_what_a_gpu_needs(device_id: int, flavours: list[str], branches: tuple[int | None, int | None]) -> None:
    assert (_gpu.flavours_for(device_id), _gpu.branches_for(device_id)) == (flavours, branches)


def test_the_kernel_driver_of_a_gpu(host: GpuHost) -> None:
    drivers = host.root / "sys/bus/pci/drivers/nvidia"
    drivers.mkdir(parents=True)
    (host.root / "sys/bus/pci/devices/0000:1a:00.0/driver").symlink_to(drivers)
    assert host.collect()["gpus_pci"][0]["driver"] == "nvidia"


# --- Xids, NVSwitch, Secure Boot ---------------------------------------------------------------------------------------


def test_xids(host: GpuHost) -> None:
    host.log = """\
[    5.1] nvidia: loading out-of-tree module taints kernel.
[ 1234.5] NVRM: Xid (PCI:0000:1a:00): 79, pid='<unknown>', name=<unknown>, GPU has fallen off the bus.
[ 1300.5] NVRM: Xid (PCI:0000:1a:00): 31, pid=4711, name=tritonserver, Ch 00000008, MMU Fault
[ 1301.5] NVRM: Xid (PCI:0000:1a:00): 31, pid=4712, name=tritonserver, Ch 00000008, MMU Fault
"""
    facts = host.collect()
    assert [(row["pci"], row["xid"], row["application"], row["count"]) for row in facts["xids"]] == [
        ("0000:1a:00.0", 79, False, 1),
        ("0000:1a:00.0", 31, True, 2),
    ]
    assert whats(facts, "error") == ["Xid 79 of GPU 0000:1a:00.0, 1 time since the boot"]
    assert whats(facts, "warning") == ["Xid 31 of GPU 0000:1a:00.0, 2 times since the boot"]


def test_the_journal_has_what_the_kernels_buffer_has_forgotten(host: GpuHost) -> None:
    host.programs["journalctl"] = lambda _arguments: (0, "NVRM: Xid (PCI:0000:65:00): 48, pid=1, DBE")
    assert [row["xid"] for row in host.collect()["xids"]] == [48]


def test_a_kernel_log_that_cannot_be_read(host: GpuHost) -> None:
    del host.programs["journalctl"]
    host.programs["dmesg"] = lambda _arguments: (1, "")
    assert host.collect()["xids"] is None


@pytest.mark.parametrize("number", [13, 31, 43, 45, 68, 109])
def test_errors_of_applications(number: int) -> None:
    assert _gpu.parse_xids(f"NVRM: Xid (PCI:0000:01:00): {number}, pid=1")[0]["application"] is True


def switched(host: GpuHost) -> GpuHost:
    host.write("proc/driver/nvidia-nvswitch/devices/0000:05:00.0")
    host.packages["nvidia-fabricmanager"] = (f"{DRIVER}-1", "hi ")
    host.units = {"nvidia-fabricmanager.service": {"active_state": "active"}}
    return host


def test_switches(host: GpuHost) -> None:
    facts = switched(host).collect()
    assert facts["nvswitch"] == {
        "present": True,
        "devices": 1,
        "nvlink5": False,
        "fabricmanager": DRIVER,
        "fabricmanager_active": True,
    }
    assert facts["problems"] == []


def test_switches_without_their_manager(host: GpuHost) -> None:
    del switched(host).packages["nvidia-fabricmanager"]
    assert only(host.collect())["what"] == "There is no fabric manager"


def test_switches_with_another_manager(host: GpuHost) -> None:
    switched(host).packages["nvidia-fabricmanager"] = ("580.95.05-1", "ii ")
    assert only(host.collect())["why"] == f"wanted {DRIVER}, as the driver is, got 580.95.05"


def test_switches_whose_manager_does_not_run(host: GpuHost) -> None:
    switched(host).units["nvidia-fabricmanager.service"]["active_state"] = "failed"
    assert only(host.collect())["what"] == "The fabric manager does not run"


def test_a_gpu_outside_of_the_fabric(host: GpuHost) -> None:
    switched(host).smi["gpus"][0]["cells"] = {"fabric.state": "In Progress", "fabric.status": "[N/A]"}
    assert only(host.collect())["what"] == "GPU 0 (0000:1a:00.0) has not joined the fabric"


def test_switches_on_the_pci_bus(bare: GpuHost) -> None:
    for name, text in (("vendor", "0x10de"), ("device", "0x22a3"), ("class", "0x068000")):
        bare.write(f"sys/bus/pci/devices/0000:05:00.0/{name}", text)
    assert bare.collect()["nvswitch"]["devices"] == 1


def test_switches_behind_an_adapter(bare: GpuHost) -> None:
    bare.write("sys/class/infiniband/mlx5_0/device/vpd", b"\x82\x10\x00SW_MNG\xff")
    assert (bare.collect()["nvswitch"]["present"], bare.collect()["nvswitch"]["nvlink5"]) == (True, True)


def test_secure_boot_that_cannot_be_told(bare: GpuHost) -> None:
    bare.write("sys/firmware/efi/fw_platform_size", "64")
    assert bare.collect()["secure_boot"] is None


# --- Toolkit -----------------------------------------------------------------------------------------------------------


def test_no_toolkit(host: GpuHost) -> None:
    host.packages = {}
    for name in _gpu.TOOLKIT_PROGRAMS:
        del host.programs[name]
    facts = host.collect()
    assert facts["toolkit"]["version"] is None
    assert whats(facts, "error") == ["There is no NVIDIA Container Toolkit"]


def test_a_removed_package_is_not_there(host: GpuHost) -> None:
    host.packages["nvidia-container-toolkit"] = ("1.20.0-1", "rc ")
    assert host.collect()["toolkit"]["packages"]["nvidia-container-toolkit"] is None


def test_a_toolkit_below_the_floor(host: GpuHost) -> None:
    host.packages = dict.fromkeys(TOOLKIT, ("1.17.8-1", "ii "))
    assert only(host.collect())["why"] == "wanted 1.19.1 or later (CVE-2026-24260), got 1.17.8"


def test_a_toolkit_at_the_floor(host: GpuHost) -> None:
    host.packages = dict.fromkeys(TOOLKIT, ("1.19.1-1", "hi "))
    assert host.collect()["problems"] == []


def test_packages_that_differ(host: GpuHost) -> None:
    host.packages["libnvidia-container1"] = ("1.19.1-1", "ii ")
    assert only(host.collect())["what"] == "The packages of the NVIDIA Container Toolkit differ in version"


def test_packages_of_rpm(host: GpuHost) -> None:
    del host.programs["dpkg-query"]
    told = "nvidia-container-toolkit|1.20.0-1\npackage nvidia-fabricmanager is not installed\n"
    host.programs["rpm"] = lambda _arguments: (1, told)
    facts = host.collect()
    assert facts["toolkit"]["version"] == "1.20.0"
    assert facts["toolkit"]["packages"]["libnvidia-container1"] is None


def test_a_toolkit_that_no_package_brought(host: GpuHost) -> None:
    host.packages = {}
    host.programs["nvidia-ctk"] = lambda _arguments: (0, "NVIDIA Container Toolkit CLI version 1.20.0\ncommit: 1234\n")
    assert host.collect()["toolkit"]["version"] == "1.20.0"


def test_the_mode_of_the_runtime(host: GpuHost) -> None:
    text = '[nvidia-container-runtime]\n#log-level = "info"\nmode = "auto"\n[nvidia-container-runtime.modes.cdi]\ndefault-kind = "x"\n'
    host.write("etc/nvidia-container-runtime/config.toml", text)
    assert host.collect()["toolkit"]["mode"] == "auto"


@pytest.mark.parametrize(("module", "runs"), [("nvidia", True), ("nvidia-current", True), ("nvidia-current-open", False)])
def test_the_refresh_that_never_runs(host: GpuHost, module: str, runs: bool) -> None:
    host.modules = {}
    host.module(module, DRIVER)
    host.write("usr/lib/systemd/system/nvidia-cdi-refresh.service", REFRESH)
    facts = host.collect()
    assert facts["toolkit"]["cdi_refresh"]["runs"] is runs
    assert whats(facts, "warning") == ([] if runs else ["nvidia-cdi-refresh never runs"])


def test_a_drop_in_lets_the_refresh_run(host: GpuHost) -> None:
    host.modules = {}
    host.module("nvidia-current-open", DRIVER)
    host.write("usr/lib/systemd/system/nvidia-cdi-refresh.service", REFRESH)
    host.write("etc/systemd/system/nvidia-cdi-refresh.service.d/gpufleet.conf", "[Service]\nExecCondition=\n")
    assert host.collect()["toolkit"]["cdi_refresh"]["runs"] is True


# --- CDI ---------------------------------------------------------------------------------------------------------------


def test_a_specification_of_the_last_driver(host: GpuHost) -> None:
    host.spec(SPEC.format(driver="550.163.01"))
    facts = host.collect()
    assert facts["toolkit"]["cdi"][0]["missing_files"] == ["/usr/lib/x86_64-linux-gnu/libcuda.so.550.163.01"]
    found = only(facts)
    assert found["what"] == "The CDI specification /var/run/cdi/nvidia.yaml is stale"
    assert found["why"].startswith(f"it was made for driver 550.163.01, the libraries are {DRIVER}; not there: ")
    assert found["severity"] == "error"


def test_a_specification_that_names_missing_nodes(host: GpuHost) -> None:
    (host.root / "dev/nvidia0").unlink()
    found = only(host.collect())
    assert found["what"] == "The CDI specification /var/run/cdi/nvidia.yaml names missing device nodes"
    assert "not there: /dev/nvidia0;" in found["why"]
    assert "nvidia-ctk system create-device-nodes" in found["remedy"]


def test_a_specification_is_a_matter_of_taste_where_docker_reads_none(host: GpuHost) -> None:
    (host.root / "dev/nvidia0").unlink()
    assert host.docker is not None
    host.docker.update(CDISpecDirs=[], CgroupDriver="cgroupfs")
    facts = host.collect()
    assert (only(facts)["severity"], facts["fit"]) == ("warning", True)


def test_a_specification_that_lacks_a_gpu(bare: GpuHost) -> None:
    bare.healthy(2).spec(SPEC.format(driver=DRIVER))
    assert only(bare.collect())["why"] == "it has no device for GPU 1 (0000:1b:00.0)"


def test_devices_may_be_in_several_specifications(bare: GpuHost) -> None:
    text = SPEC.format(driver=DRIVER)
    bare.healthy(2).spec(text)
    bare.spec(text.replace('"0"', '"1"').replace("name: all", "name: one"), "var/run/cdi/second.yaml")
    assert bare.collect()["problems"] == []


def test_a_specification_for_who_takes_all(bare: GpuHost) -> None:
    bare.healthy(2).spec(SPEC.format(driver=DRIVER).replace('"0"', "all"))
    assert bare.collect()["problems"] == []


@pytest.mark.parametrize(("device", "fit"), [("0", False), ("0:0", True)])
def test_a_specification_from_before_mig(host: GpuHost, device: str, fit: bool) -> None:
    host.smi["gpus"][0]["cells"] = {"mig.mode.current": "Enabled", "mig.mode.pending": "Enabled"}
    host.spec(SPEC.format(driver=DRIVER).replace('name: "0"', f'name: "{device}"'))
    facts = host.collect()
    assert facts["fit"] is fit
    assert fit or only(facts)["why"] == "it has no device for the MIG devices of GPU 0 (0000:1a:00.0)"


@pytest.mark.parametrize(
    ("version", "docker", "fit"),
    [
        ("1.0.0", "26.1.5", False),
        ("1.0.0", "28.5.1", True),
        ("0.7.0", "25.0.3", False),
        ("0.7.0", "26.1.5", True),
        ("0.6.0", "25.0.3", True),
    ],
)
def test_a_specification_that_is_too_new(host: GpuHost, version: str, docker: str, fit: bool) -> None:
    host.spec(SPEC.format(driver=DRIVER).replace("0.5.0", version))
    assert host.docker is not None
    host.docker["ServerVersion"] = docker
    facts = host.collect()
    assert facts["fit"] is fit
    assert whats(facts, "error") == ([] if fit else ["The CDI specification /var/run/cdi/nvidia.yaml is too new for Docker"])


def test_a_specification_that_cannot_be_read(host: GpuHost) -> None:
    host.spec("kind: |\n  nvidia.com/gpu\n")
    facts = host.collect()
    assert facts["toolkit"]["cdi"][0]["error"].startswith("it is no CDI specification: ")
    assert only(facts)["what"] == "The CDI specification /var/run/cdi/nvidia.yaml can't be read"


def test_what_a_later_folder_hides_does_not_count(host: GpuHost) -> None:
    host.spec(SPEC.format(driver="550.163.01"), "etc/cdi/nvidia.yaml")
    facts = host.collect()
    assert [spec["path"] for spec in facts["toolkit"]["cdi"]] == ["/etc/cdi/nvidia.yaml", "/var/run/cdi/nvidia.yaml"]
    assert facts["problems"] == []


def test_specifications_of_others_do_not_matter(host: GpuHost) -> None:
    host.spec("kind: vendor.com/net\ndevices: [{name: a, containerEdits: {deviceNodes: [{path: /dev/none}]}}]\n", "etc/cdi/vendor.yaml")
    assert host.collect()["problems"] == []


# --- Docker ------------------------------------------------------------------------------------------------------------


def docker(host: GpuHost, **info: t.Any) -> GpuHost:
    assert host.docker is not None
    host.docker.update(info)
    return host


@pytest.mark.parametrize("installed", [False, True])
def test_docker_does_not_run(host: GpuHost, installed: bool) -> None:
    host.docker = None
    if not installed:
        del host.programs["dockerd"]
    facts = host.collect()
    assert whats(facts, "error") == ["The Docker Engine does not run" if installed else "There is no Docker Engine"]


def test_docker_has_no_way(host: GpuHost) -> None:
    docker(host, CDISpecDirs=None, Runtimes={"runc": {"path": "runc"}})
    del host.programs["nvidia-container-runtime-hook"]
    found = only(host.collect())
    assert found["what"] == "Docker can't give GPUs to containers"
    assert found["why"] == "CDI is off, there is no nvidia-container-runtime-hook, and the runtime nvidia is not registered"


def test_docker_has_cdi_and_no_specification(host: GpuHost) -> None:
    docker(host, Runtimes={"runc": {"path": "runc"}})
    del host.programs["nvidia-container-runtime-hook"]
    (host.root / "var/run/cdi/nvidia.yaml").unlink()
    found = only(host.collect())
    assert found["why"] == "CDI is on, and there is no usable specification of nvidia.com/gpu"
    assert found["remedy"].startswith("run: nvidia-ctk cdi generate")


def test_no_specification_where_docker_has_other_ways(host: GpuHost) -> None:
    (host.root / "var/run/cdi/nvidia.yaml").unlink()
    facts = host.collect()
    assert (only(facts)["what"], facts["fit"]) == ("There is no CDI specification of nvidia.com/gpu", True)


@pytest.mark.parametrize("other_way", [True, False])
def test_docker_has_not_seen_the_hook(host: GpuHost, other_way: bool) -> None:
    os.utime(host.root / "var/run/docker.pid", (1, 1))
    if not other_way:
        docker(host, CDISpecDirs=None, Runtimes={"runc": {"path": "runc"}})
    facts = host.collect()
    assert facts["docker"]["hook_seen"] is False
    assert (only(facts)["remedy"], facts["fit"]) == ("restart Docker", other_way)


@pytest.mark.parametrize(("default", "severity"), [("runc", "warning"), ("nvidia", "error")])
def test_a_runtime_whose_program_is_gone(host: GpuHost, default: str, severity: str) -> None:
    docker(host, DefaultRuntime=default)
    del host.programs["nvidia-container-runtime"]
    found = only(host.collect())
    assert (found["what"], found["severity"]) == ("Docker's runtime nvidia can't start anything", severity)


@pytest.mark.parametrize("live", [False, True])
def test_cdi_before_docker_28_2(host: GpuHost, live: bool) -> None:
    found = only(docker(host, ServerVersion="26.1.5+dfsg1", LiveRestoreEnabled=live).collect())
    assert found["what"] == "Containers with CDI devices don't come back"
    assert ("live-restore" in found["why"]) is live
    assert docker(host, ServerVersion="28.2.0").collect()["problems"] == []


@pytest.mark.parametrize(("driver", "risk"), [("systemd", True), ("cgroupfs", False)])
def test_devices_that_systemd_takes_away(host: GpuHost, driver: str, risk: bool) -> None:
    docker(host, CDISpecDirs=None, CgroupDriver=driver)
    assert whats(host.collect(), "warning") == (["Running containers may lose their GPUs"] if risk else [])
