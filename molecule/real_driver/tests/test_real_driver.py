# Copyright (c) 2026, The gpufleet.triton authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Debian's driver 550.163.01, built for a kernel that it fits and for one that it does not."""

from __future__ import annotations

import json
import re

import pytest

DRIVER = "gpufleet.triton.nvidia_driver"


def kernels(gpu1, prefix: str) -> list[str]:
    """The kernels of a series whose headers the package sources have, the oldest first: not all that ever were stay there."""
    named = gpu1.sh(f"apt-get update -qq; apt-cache pkgnames linux-headers-{prefix}").splitlines()
    releases = [
        name.removeprefix("linux-headers-") for name in named if re.fullmatch(r"linux-headers-[0-9.+-]+(deb13[.0-9]*-)?amd64", name)
    ]
    return sorted(releases, key=lambda release: [int(number) for number in re.findall(r"[0-9]+", release)])


@pytest.fixture(scope="module")
def too_new(gpu1) -> str:
    """The kernel's own interface was changed in 6.12.97, and no Debian 13 kernel from there on builds this driver."""
    return kernels(gpu1, "6.12.")[-1]


@pytest.fixture(scope="module")
def fits(gpu1) -> str:
    """Of Debian 12, before its 6.1.187: what Debian 13 had before 6.12.97 is in no package source any more."""
    release = kernels(gpu1, "6.1.0-")[0]
    # What the image of the kernel brings: without it, DKMS leaves out depmod, as for a kernel that is not installed.
    gpu1.sh(f"mkdir -p /lib/modules/{release} && cd /lib/modules/{release} && touch modules.dep modules.order modules.builtin")
    return release


def test_what_does_not_build_is_explained_and_taken_back(gpu1, play, too_new):
    done = play(DRIVER, tags="nvidia_driver_install", timeout=3600, nvidia_driver_kernel=too_new)
    assert done.rc != 0, done.text
    for words in (
        "pci_resize_resource",
        "kernels from 6.12.97 on do not build drivers before 580.126.09",
        "The packages of the driver are as they were before.",
        "The end of make.log:",
    ):
        assert words in done.text, done.text
    assert gpu1.sh("dpkg --audit") == "" and gpu1.sh("dkms status") == ""
    assert gpu1.sh("dpkg-query -W -f '${Package} ${db:Status-Abbrev}\\n' 'nvidia*' | grep ' i' || true") == ""


def test_what_builds_is_on_disk_for_its_kernel_alone(gpu1, play, fits, tmp_path):
    done = play(DRIVER, tags="nvidia_driver_install", timeout=3600, nvidia_driver_kernel=fits)
    assert done.rc == 0, done.text
    assert f"550.163.01, {fits}, x86_64: installed" in gpu1.sh("dkms status")
    modules = gpu1.sh(f"find /lib/modules/{fits}/updates/dkms -name 'nvidia*.ko*'").splitlines()
    assert len(modules) == 5, modules
    assert {gpu1.sh(f"/usr/sbin/modinfo -F vermagic {module}").split()[0] for module in modules} == {fits}
    assert gpu1.sh("dpkg --audit") == ""
    # nvidia-smi is real too. It finds no driver that is loaded, and says so where its answers are expected.
    smi = gpu1.host.run("nvidia-smi")
    assert smi.rc == 9 and "couldn't communicate with the NVIDIA driver" in smi.stdout
    playbook = tmp_path / "look.yml"
    tasks = [
        {"gpufleet.triton.gpu_info": {"kernel": fits}, "register": "found"},
        {"ansible.builtin.debug": {"msg": "{{ found.driver.state }}, {{ found.driver.flavour }}, {{ found.nvidia_smi.rc }}"}},
    ]
    playbook.write_text(json.dumps([{"hosts": "all", "gather_facts": False, "tasks": tasks}]))
    done = play(playbook=str(playbook))
    assert done.rc == 0 and "installed_not_loaded, open, 9" in done.text, done.text
    done = play(DRIVER, tags="nvidia_driver_install", timeout=3600, nvidia_driver_kernel=fits)
    assert (done.rc, done.counts["changed"]) == (0, 0), done.text
