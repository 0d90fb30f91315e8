# Copyright (c) 2026, The gpufleet.triton authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Debian's driver 550.163.01, built for a kernel that it fits and for one that it does not."""

from __future__ import annotations

import json

DRIVER = "gpufleet.triton.nvidia_driver"
# The first of Debian 13's kernels that the driver does not build on is 6.12.97: the kernel's own interface was changed there.
FITS, TOO_NEW = "6.12.94+deb13-amd64", "6.12.107+deb13-amd64"


def test_what_does_not_build_is_explained_and_taken_back(gpu1, play):
    done = play(DRIVER, tags="nvidia_driver_install", timeout=3600, nvidia_driver_kernel=TOO_NEW)
    assert done.rc != 0, done.text
    for words in (
        "pci_resize_resource",
        "kernels from 6.12.97 on do not build drivers before 580.126.09",
        "The packages are as they were before.",
        "The end of make.log:",
    ):
        assert words in done.text, done.text
    assert gpu1.sh("dpkg --audit") == "" and gpu1.sh("dkms status") == ""
    assert gpu1.sh("dpkg-query -W -f '${Package} ${db:Status-Abbrev}\\n' 'nvidia*' | grep ' i' || true") == ""


def test_what_builds_is_on_disk_for_its_kernel_alone(gpu1, play, tmp_path):
    done = play(DRIVER, tags="nvidia_driver_install", timeout=3600, nvidia_driver_kernel=FITS)
    assert done.rc == 0, done.text
    assert f"550.163.01, {FITS}, x86_64: installed" in gpu1.sh("dkms status")
    modules = gpu1.sh(f"find /lib/modules/{FITS}/updates/dkms -name 'nvidia*.ko*'").splitlines()
    assert len(modules) == 5, modules
    assert {gpu1.sh(f"/usr/sbin/modinfo -F vermagic {module}").split()[0] for module in modules} == {FITS}
    assert gpu1.sh("dpkg --audit") == ""
    # nvidia-smi is real too. It finds no driver that is loaded, and says so where its answers are expected.
    smi = gpu1.host.run("nvidia-smi")
    assert smi.rc == 9 and "couldn't communicate with the NVIDIA driver" in smi.stdout
    playbook = tmp_path / "look.yml"
    tasks = [
        {"gpufleet.triton.gpu_info": {"kernel": FITS}, "register": "found"},
        {"ansible.builtin.debug": {"msg": "{{ found.driver.state }}, {{ found.driver.flavour }}, {{ found.nvidia_smi.rc }}"}},
    ]
    playbook.write_text(json.dumps([{"hosts": "all", "gather_facts": False, "tasks": tasks}]))
    done = play(playbook=str(playbook))
    assert done.rc == 0 and "installed_not_loaded, open, 9" in done.text, done.text
    done = play(DRIVER, tags="nvidia_driver_install", timeout=3600, nvidia_driver_kernel=FITS)
    assert (done.rc, done.counts["changed"]) == (0, 0), done.text
