# Copyright (c) 2026, The gpufleet.triton authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A host with a GPU from no driver over upgrades and failures back to no driver, and a host without one.

In this order: each test starts from what the one before it left.
"""

from __future__ import annotations

import json

import pytest
from labtest import LabHost

DRIVER = "gpufleet.triton.nvidia_driver"
KERNEL = "6.12.107+lab-amd64"
FIRST, SECOND, OTHER_BRANCH, BROKEN = "580.159.03", "580.178.04", "595.71.05", "580.105.08"
PACKAGES = ["libcuda1", "nvidia-driver-cuda", "nvidia-kernel-open-dkms", "nvidia-persistenced"]
PIN = "/etc/apt/preferences.d/gpufleet-nvidia"
NOUVEAU = "/etc/modprobe.d/gpufleet-nouveau.conf"


def versions(host: LabHost) -> dict[str, str]:
    """Package -> version of what is installed and held. One in another state has that state with it."""
    rows = host.host.run("dpkg-query -W -f '${Package} ${Version} ${db:Status-Abbrev}\\n' '*nvidia*' 'libcuda*'").stdout
    found = [row.split() for row in rows.splitlines() if len(row.split()) == 3]
    return {name: version if status == "hi" else f"{version} {status}" for name, version, status in found}


def held(version: str) -> dict[str, str]:
    return dict.fromkeys(PACKAGES, f"{version}-1")


def loaded(host: LabHost) -> str:
    return host.sh("cat /proc/driver/nvidia/version 2>/dev/null || true")


def on_disk(host: LabHost) -> str:
    return host.sh(f"/usr/sbin/modinfo -k {KERNEL} -F version nvidia")


def order(host: LabHost) -> list[str]:
    """What was done since it was asked last, without questions to Docker."""
    lines = host.sh("cat /srv/lab/order; : >/srv/lab/order").splitlines()
    return [line for line in lines if line not in ("docker compose version --short", "docker --version")]


def own_files(host: LabHost) -> str:
    return host.sh("find /etc -name '*gpufleet*' -not -name '*.bak'")


def well(host: LabHost, version: str) -> None:
    assert (versions(host), on_disk(host)) == (held(version), version)
    assert f"Open Kernel Module for x86_64  {version}" in loaded(host)
    assert host.sh("nvidia-smi --query-gpu=driver_version --format=csv,noheader") == version
    assert f"nvidia/{version}, {KERNEL}, x86_64: installed" in host.sh("dkms status")
    assert host.sh("systemctl is-active nvidia-persistenced") == "active"
    assert host.sh("dpkg --audit") == ""


def test_a_fresh_host_has_its_driver(gpu1):
    well(gpu1, FIRST)
    lines = order(gpu1)
    # Nouveau is kept away before anything is loaded, and a module that nobody uses needs no reboot.
    assert lines == ["boot", f"update-initramfs -u -k {KERNEL}", f"load {FIRST}", "start nvidia-persistenced"]
    assert "blacklist nouveau" in gpu1.sh(f"cat {NOUVEAU}")
    # The module was really built, for this kernel alone, and no package has brought another kernel.
    assert "gcc -c" in gpu1.sh(f"cat /var/lib/dkms/nvidia/{FIRST}/{KERNEL}/x86_64/log/make.log")
    kernels = gpu1.sh("dpkg-query -W -f '${Package} ${db:Status-Abbrev}\\n' 'linux-image-*' 'linux-headers-*' | grep ' ii'")
    assert kernels.split() == [f"linux-headers-{KERNEL}", "ii"]
    assert "Candidate: 6.12.199-1" in gpu1.sh("apt-cache policy linux-headers-amd64"), "it would have been there"


def test_no_upgrade_takes_it_along(gpu1):
    assert f"{OTHER_BRANCH}-1" in gpu1.sh("apt-cache madison nvidia-driver-cuda"), "there is a newer one that it is kept from"
    upgrade = "apt-get --simulate dist-upgrade"
    for without, again in (
        ("true", "true"),
        (f"mv {PIN} /root/pin", f"mv /root/pin {PIN}"),
        (f"apt-mark unhold {' '.join(PACKAGES)}", f"apt-mark hold {' '.join(PACKAGES)}"),
    ):
        gpu1.sh(without)
        done = gpu1.sh(upgrade)
        gpu1.sh(again)
        assert "Inst nvidia" not in done and "Inst libcuda" not in done, done
    told = gpu1.sh("apt-config dump Unattended-Upgrade::Package-Blacklist")
    assert "(lib)?nvidia-(?!container)" in told and "libcuda" in told


def test_hosts_that_are_right_are_left_alone(gpu1, bare, play):
    listed = "find /etc /usr/bin /usr/lib/modules -newer /srv/lab/gpus.json -type f | sort"
    before = bare.sh(listed)
    done = play(DRIVER, limit="gpu1:bare")
    assert (done.rc, done.counts["changed"]) == (0, 0), done.text
    # Without a GPU there is nothing to be done, from the first run on.
    assert bare.sh(listed) == before and versions(bare) == {} and own_files(bare) == "" and order(bare) == ["boot"]
    well(gpu1, FIRST)
    assert order(gpu1) == []


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (
            {"nvidia_driver_version": BROKEN},
            ["nvidia_driver_version is 580.105.08, which has known security holes", "wanted 580.159.03", "nvidia_driver_floor: ignore"],
        ),
        ({"nvidia_driver_version": "", "nvidia_driver_branch": "581"}, ["nvidia_driver_branch is 581", "535, 570, 580, 590, 595, 610"]),
    ],
    ids=["below the floor", "unknown branch"],
)
def test_what_cannot_be_had_is_refused_before_anything_is_done(gpu1, play, options, words):
    done = play(DRIVER, **options)
    assert done.rc != 0 and done.counts["changed"] == 0, done.text
    for word in words:
        assert word in done.text, done.text
    assert order(gpu1) == [] and FIRST in gpu1.sh(f"cat {PIN}")


def test_an_upgrade_stops_what_uses_the_gpu_and_starts_it_again(gpu1, play):
    """In order, without a reboot, and it ends when Triton is ready."""
    container = {"Name": "/training", "State": {"Running": True, "StartedAt": "2026-01-01"}, "HostConfig": {"Runtime": "nvidia"}}
    gpu1.sh(f"echo '{json.dumps([container])}' >/srv/lab/container; systemctl start triton")
    order(gpu1)
    done = play(DRIVER, nvidia_driver_version=SECOND)
    assert done.rc == 0 and "580.159.03 is installed, wanted 580.178.04" in done.text, done.text
    well(gpu1, SECOND)
    lines = order(gpu1)
    asked = lines.index("asked triton")
    assert set(lines[asked:]) == {"asked triton"}
    assert lines[:asked] == [
        "stop triton",
        "docker stop training",
        "stop nvidia-persistenced",
        "unload",
        f"load {SECOND}",
        "start nvidia-persistenced",
        "docker start training",
        "start triton",
    ]
    gpu1.sh("rm /srv/lab/container")


def test_a_reboot_that_is_not_allowed_is_pending_in_one_line(gpu1, play):
    gpu1.sh("touch /srv/lab/busy")
    done = play(DRIVER, nvidia_driver_version=OTHER_BRANCH, nvidia_driver_reboot="never")
    assert done.rc == 0, done.text
    assert f"gpu1 waits for a reboot: {SECOND} is loaded, {OTHER_BRANCH} is on disk, and nvidia_driver_reboot is" in done.text
    assert SECOND in loaded(gpu1) and (versions(gpu1), on_disk(gpu1)) == (held(OTHER_BRANCH), OTHER_BRANCH)
    lines = order(gpu1)
    assert "boot" not in lines and "unload" not in lines and lines.index("stop triton") < lines.index("start triton")


def test_a_reboot_that_is_allowed_is_done_once(gpu1, play):
    done = play(DRIVER, nvidia_driver_version=OTHER_BRANCH)
    assert done.rc == 0, done.text
    assert f"gpu1 is rebooted: {SECOND} is loaded, {OTHER_BRANCH} is on disk, and the module can not be unloaded" in done.text
    well(gpu1, OTHER_BRANCH)
    lines = order(gpu1)
    assert lines.count("boot") == 1 and lines.index("stop triton") < lines.index("boot") < lines.index("start triton"), lines
    gpu1.sh("rm /srv/lab/busy")


def test_a_module_that_does_not_build_is_explained_and_taken_back(gpu1, play):
    """It is below the floor, and that is insisted on. What DKMS, make and gcc say of it is real."""
    done = play(DRIVER, nvidia_driver_version=BROKEN, nvidia_driver_floor="ignore")
    assert done.rc != 0, done.text
    for words in (
        "too few arguments to function 'pci_resize_resource'",
        "kernels from 6.12.97 on do not build drivers before 580.126.09",
        "What to do: install a driver from 580.126.09 on, or boot a kernel before 6.12.97",
        "The packages of the driver are as they were before.",
        "The end of make.log:",
        "Error 1",
    ):
        assert words in done.text.replace("\N{LEFT SINGLE QUOTATION MARK}", "'").replace("\N{RIGHT SINGLE QUOTATION MARK}", "'"), done.text
    well(gpu1, OTHER_BRANCH)
    assert f"version {OTHER_BRANCH}-*" in gpu1.sh(f"cat {PIN}") and BROKEN not in gpu1.sh("dkms status")
    assert "stop triton" not in order(gpu1)


def test_absent_gives_the_host_back(gpu1, play):
    done = play(DRIVER, nvidia_driver_state="absent")
    assert done.rc != 0 and "Triton runs on this host" in done.text and "triton_server_state" in done.text, done.text
    well(gpu1, OTHER_BRANCH)
    gpu1.sh("systemctl stop triton")
    order(gpu1)
    done = play(DRIVER, nvidia_driver_state="absent")
    assert done.rc == 0, done.text
    assert (versions(gpu1), own_files(gpu1), gpu1.sh("apt-mark showhold"), loaded(gpu1)) == ({}, "", "", "")
    assert gpu1.sh("dkms status") == "" and gpu1.sh("dpkg --audit") == ""
    assert order(gpu1) == ["stop nvidia-persistenced", f"update-initramfs -u -k {KERNEL}", "unload"]
    done = play(DRIVER, nvidia_driver_state="absent")
    assert (done.rc, done.counts["changed"]) == (0, 0), done.text


def test_check_mode_says_what_a_run_would_do(gpu1, play):
    done = play(DRIVER, check=True)
    assert done.rc == 0 and done.counts["changed"] > 0, done.text
    assert "Would install" in done.text and "nvidia-kernel-open-dkms" in done.text and "Would load the driver's module" in done.text
    assert (versions(gpu1), own_files(gpu1), order(gpu1)) == ({}, "", [])


def test_nouveau_makes_way(gpu1, play, wait_until):
    """It has the GPU from the boot on, and only another boot gets it off."""
    gpu1.sh("touch /srv/lab/nouveau")
    gpu1.reboot()
    wait_until(lambda: gpu1.host.run("test -d /sys/module/nouveau").rc == 0)
    order(gpu1)
    done = play(DRIVER)
    assert done.rc == 0 and "gpu1 is rebooted: nouveau has the GPU" in done.text, done.text
    lines = order(gpu1)
    assert lines.index(f"update-initramfs -u -k {KERNEL}") < lines.index("boot") < lines.index(f"load {FIRST}") and lines.count("boot") == 1
    assert gpu1.host.run("test -d /sys/module/nouveau").rc != 0
    well(gpu1, FIRST)
