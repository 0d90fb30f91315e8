#!/usr/bin/python
# Copyright (c) 2026, The gpufleet.triton authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: gpu_info
short_description: Tell whether a host's GPUs are fit to serve, and if not why and what to do
version_added: 0.2.0
author:
  - The gpufleet.triton authors (@gpufleet)
description:
  - Tells about the NVIDIA driver, the GPUs, the container toolkit with its CDI specifications, and what Docker can do with
    them; and what is wrong with them, why, and what to do about it.
  - It needs nothing but Python on the host and does not fail where something is missing. What is missing is what it
    tells. A host without a GPU is a legal host.
  - Everything is told from what is seen, not from exit codes. C(nvidia-smi) ends well also where a GPU is lost or where
    there is none.
  - It changes nothing. A stopped Docker Engine that systemd would start on the first connection is told from systemd's
    answer and is not connected to.
  - Run it as root. Without that the kernel's log and some of the GPUs' state may not be told.
attributes:
  check_mode:
    support: full
    description: Can run in C(check_mode) and return the changed status prediction without modifying the target.
    details:
      - This module never changes anything.
  diff_mode:
    support: N/A
    description: Returns details on what has changed, or what would change in C(check_mode), when in diff mode.
    details:
      - This module never changes anything.
  idempotent:
    support: full
    description: When run twice in a row outside check mode with the same options, the second call changes nothing.
  platform:
    support: full
    platforms: posix
    description: The operating systems that the module works on.
options:
  expected_gpus:
    description:
      - How many usable GPUs the host must have. Fewer are a problem, also on a host that has none.
    type: int
  kernel:
    description:
      - Release of the kernel whose modules count, for example of the one that the next boot takes.
      - By default the one that runs.
    type: str
  docker_socket:
    description: The socket of the host's Docker Engine.
    type: path
    default: /var/run/docker.sock
notes:
  - A GPU whose hardware hangs may keep C(nvidia-smi) in the kernel, where nothing can end it. Then the module does not end
    either. Give the task a C(timeout) where that matters.
seealso:
  - module: gpufleet.triton.triton_host_info
"""

EXAMPLES = r"""
- name: Look at the GPUs
  gpufleet.triton.gpu_info:
    expected_gpus: 8
  register: gpu

- name: Say in one line what it is with this host
  ansible.builtin.debug:
    var: gpu.verdict

- name: Stop where a container would not get its GPUs
  ansible.builtin.assert:
    that: gpu.fit is none or gpu.fit
    fail_msg: "{{ gpu.verdict }}"

- name: Reboot when another driver is on disk than is loaded
  ansible.builtin.reboot:
  when: gpu.driver.reload_needed
"""

RETURN = r"""
fit:
  description:
    - Whether a container would get its GPUs, and could rely on them. It is not so where RV(problems) has an error.
    - Null on a host without a GPU, unless O(expected_gpus) wants one.
  returned: success
  type: bool
  sample: false
verdict:
  description: The host in one line.
  returned: success
  type: str
  sample: "Fit: 8 x NVIDIA H100 80GB HBM3, driver 580.159.03 (open), toolkit 1.20.0, Docker 28.5.1"
problems:
  description: What is wrong, errors first. Empty on a host without a GPU, unless O(expected_gpus) wants one.
  returned: success
  type: list
  elements: dict
  contains:
    what:
      description: What is wrong.
      returned: always
      type: str
      sample: "GPU 3 (0000:65:00.0) is lost"
    why:
      description: What was seen, and the cause as far as it can be told.
      returned: always
      type: str
      sample: "nvidia-smi says: GPU is lost"
    remedy:
      description: What to do.
      returned: always
      type: str
      sample: "reboot the host; if it comes again, look at power, cooling and seating, or replace it"
    severity:
      description: V(error) for what makes the host unfit, V(warning) for what does not yet.
      returned: always
      type: str
      sample: error
driver:
  description: The NVIDIA driver.
  returned: success
  type: dict
  contains:
    state:
      description:
        - V(absent), there is none.
        - V(nouveau), the kernel's own driver has the GPU.
        - V(unmanaged), it was installed by NVIDIA's installer, not by packages.
        - V(broken), its packages are half configured, or DKMS has not built its module for this kernel.
        - V(installed_not_loaded), its module is on disk and not loaded.
        - V(ok), it is loaded and agrees with what is on disk.
        - V(mismatch), another version is loaded than the one on disk or the one of the libraries.
        - V(mixed), there are modules of both flavours.
      returned: always
      type: str
      sample: ok
    loaded:
      description: Version of the loaded module, or null.
      returned: always
      type: str
      sample: 580.159.03
    on_disk:
      description: Version of the module on disk for this kernel, or null.
      returned: always
      type: str
      sample: 580.159.03
    userspace:
      description: Version of the driver's libraries, or null.
      returned: always
      type: str
      sample: 580.159.03
    flavour:
      description: V(open) or V(proprietary), of the loaded module, else of the one on disk, or null.
      returned: always
      type: str
      sample: open
    reload_needed:
      description: Whether the module on disk has to take the place of the loaded one, by loading it anew or by a reboot.
      returned: always
      type: bool
      sample: false
    modules:
      description: The driver's modules on disk for this kernel.
      returned: always
      type: list
      elements: dict
      contains:
        name:
          description: Its name.
          returned: always
          type: str
          sample: nvidia-current-open
        version:
          description: Its version, or null where C(modinfo) is missing.
          returned: always
          type: str
          sample: 550.163.01
        flavour:
          description: V(open) or V(proprietary), or null.
          returned: always
          type: str
          sample: open
    kernels:
      description: Every kernel that is installed or that DKMS knows, the oldest first.
      returned: always
      type: list
      elements: dict
      contains:
        kernel:
          description: Its release.
          returned: always
          type: str
          sample: 6.12.94+deb13-amd64
        current:
          description: Whether it is the one looked at (see O(kernel)).
          returned: always
          type: bool
          sample: true
        installed:
          description: Whether its modules are there.
          returned: always
          type: bool
          sample: true
        module:
          description: Whether the driver is among them.
          returned: always
          type: bool
          sample: true
        dkms:
          description: The state of the driver in DKMS for it, or null.
          returned: always
          type: str
          sample: installed
    dkms:
      description: What C(dkms status) tells of NVIDIA's modules.
      returned: always
      type: list
      elements: dict
      contains:
        module:
          description: Name of the module.
          returned: always
          type: str
          sample: nvidia-current-open
        version:
          description: Its version.
          returned: always
          type: str
          sample: 550.163.01
        kernel:
          description: The kernel, null for a module that is added and not built.
          returned: always
          type: str
          sample: 6.12.94+deb13-amd64
        arch:
          description: The architecture, or null.
          returned: always
          type: str
          sample: x86_64
        state:
          description: Its state, for example V(added), V(built), V(installed).
          returned: always
          type: str
          sample: installed
        error:
          description: The first error in the log of a build that did not end in V(installed), or null.
          returned: always
          type: str
          sample: "nv-pci.c:237:17: error: too few arguments to function 'pci_resize_resource'"
    half_configured:
      description: Packages of dpkg that have to do with the driver or its kernel and are not well installed.
      returned: always
      type: list
      elements: dict
      contains:
        name:
          description: Its name.
          returned: always
          type: str
          sample: nvidia-open-kernel-dkms
        version:
          description: Its version.
          returned: always
          type: str
          sample: 550.163.01-2
        status:
          description: Its state as dpkg abbreviates it.
          returned: always
          type: str
          sample: iF
    nouveau:
      description: Whether the kernel has loaded nouveau.
      returned: always
      type: bool
      sample: false
    runfile:
      description: Whether NVIDIA's installer has left its uninstaller.
      returned: always
      type: bool
      sample: false
nvidia_smi:
  description: How C(nvidia-smi) answered.
  returned: success
  type: dict
  contains:
    path:
      description: Where it is, or null.
      returned: always
      type: str
      sample: /usr/bin/nvidia-smi
    rc:
      description: Its exit status, or null. It is V(0) also with lost GPUs or none.
      returned: always
      type: int
      sample: 9
    message:
      description: What it said beside its answer, in one line, or null.
      returned: always
      type: str
      sample: NVIDIA-SMI has failed because it couldn't communicate with the NVIDIA driver.
    unknown_fields:
      description: What was asked for and this version does not know. The rest is told all the same.
      returned: always
      type: list
      elements: str
      sample: [fabric.state]
gpus:
  description: The GPUs that the driver knows, lost ones among them. A value that is null is not told for this GPU.
  returned: success
  type: list
  elements: dict
  contains:
    index:
      description: Number of the GPU.
      returned: always
      type: int
      sample: 0
    uuid:
      description: Its identity.
      returned: always
      type: str
      sample: GPU-01000100-0000-0000-0000-000000000000
    name:
      description: Its product name.
      returned: always
      type: str
      sample: NVIDIA H100 80GB HBM3
    pci:
      description: Its PCI address as in RV(gpus_pci[].pci).
      returned: always
      type: str
      sample: "0000:1a:00.0"
    driver:
      description: Version of the driver.
      returned: always
      type: str
      sample: 550.163.01
    memory_total_mib:
      description: Its memory in MiB.
      returned: always
      type: int
      sample: 81920
    memory_used_mib:
      description: What of it is in use, in MiB.
      returned: always
      type: int
      sample: 0
    compute_capability:
      description: Its compute capability.
      returned: always
      type: str
      sample: "9.0"
    compute_mode:
      description: Its compute mode.
      returned: always
      type: str
      sample: Default
    mig:
      description: Whether it is split into MIG devices.
      returned: always
      type: bool
      sample: false
    mig_pending:
      description: The same after the next reset.
      returned: always
      type: bool
      sample: false
    ecc:
      description: Whether its memory corrects errors.
      returned: always
      type: bool
      sample: true
    ecc_pending:
      description: The same after the next reset.
      returned: always
      type: bool
      sample: true
    uncorrected_errors:
      description: Errors of its memory since the driver was loaded that could not be corrected.
      returned: always
      type: int
      sample: 0
    retired_pages_pending:
      description: Whether pages of its memory wait for a reset to be put aside.
      returned: always
      type: bool
      sample: false
    row_remap_pending:
      description: Whether rows of its memory wait for a reset to be put aside.
      returned: always
      type: bool
      sample: false
    row_remap_failure:
      description: Whether putting a row aside has failed.
      returned: always
      type: bool
      sample: false
    temperature:
      description: Its temperature in degrees Celsius.
      returned: always
      type: int
      sample: 34
    persistence:
      description: Whether the driver keeps it while nothing uses it.
      returned: always
      type: bool
      sample: true
    reset_required:
      description: Whether it needs a reset.
      returned: always
      type: bool
      sample: false
    pcie_width:
      description: Lanes of its PCIe link.
      returned: always
      type: int
      sample: 16
    pcie_width_max:
      description: The most that it could have.
      returned: always
      type: int
      sample: 16
    fabric_state:
      description: How far it has joined the NVLink fabric.
      returned: always
      type: str
      sample: Completed
    fabric_status:
      description: How that went.
      returned: always
      type: str
      sample: Success
    lost:
      description: Whether the driver has lost it.
      returned: always
      type: bool
      sample: false
    errors:
      description: What C(nvidia-smi) said in place of a value, by the key of that value.
      returned: always
      type: dict
      sample: {temperature: GPU is lost}
gpus_pci:
  description: NVIDIA GPUs on the PCI bus, whether a driver is there or not.
  returned: success
  type: list
  elements: dict
  contains:
    pci:
      description: PCI address.
      returned: always
      type: str
      sample: "0000:1a:00.0"
    vendor_id:
      description: Id of the vendor.
      returned: always
      type: str
      sample: "0x10de"
    device_id:
      description: Id of the device.
      returned: always
      type: str
      sample: "0x2330"
    driver:
      description: The kernel driver that has it, or null.
      returned: always
      type: str
      sample: nvidia
    responds:
      description: Whether it answers on the bus. Null where that can not be told.
      returned: always
      type: bool
      sample: true
    flavours:
      description: The flavours of the kernel module that know it.
      returned: always
      type: list
      elements: str
      sample: [open, proprietary]
    first_branch:
      description: The first branch of the driver that knows it, where there is such a limit.
      returned: always
      type: int
      sample: 570
    last_branch:
      description: The last branch of the driver that knows it, where there is such a limit.
      returned: always
      type: int
      sample: 580
toolkit:
  description: The NVIDIA Container Toolkit.
  returned: success
  type: dict
  contains:
    version:
      description: Its version, from its packages or its program, or null.
      returned: always
      type: str
      sample: 1.20.0
    packages:
      description: The version of each of its four packages, or null.
      returned: always
      type: dict
      sample:
        nvidia-container-toolkit: 1.20.0-1
        nvidia-container-toolkit-base: 1.20.0-1
        libnvidia-container-tools: 1.20.0-1
        libnvidia-container1: 1.20.0-1
    programs:
      description: Where each of its programs is, or null.
      returned: always
      type: dict
      sample:
        nvidia-ctk: /usr/bin/nvidia-ctk
        nvidia-container-runtime: /usr/bin/nvidia-container-runtime
        nvidia-container-runtime-hook: /usr/bin/nvidia-container-runtime-hook
        nvidia-container-cli: /usr/bin/nvidia-container-cli
        nvidia-cdi-hook: /usr/bin/nvidia-cdi-hook
    mode:
      description: The mode of its runtime in C(config.toml), or null.
      returned: always
      type: str
      sample: auto
    cdi:
      description: CDI specifications in the folders that Docker reads, or in the usual ones.
      returned: always
      type: list
      elements: dict
      contains:
        path:
          description: The file.
          returned: always
          type: str
          sample: /var/run/cdi/nvidia.yaml
        kind:
          description: What it describes, or null.
          returned: always
          type: str
          sample: nvidia.com/gpu
        version:
          description: Version of its format, or null.
          returned: always
          type: str
          sample: 0.7.0
        devices:
          description: Names of its devices.
          returned: always
          type: list
          elements: str
          sample: ["0", all]
        driver:
          description: Version of the driver whose libraries it names, or null.
          returned: always
          type: str
          sample: 580.159.03
        missing_nodes:
          description: Device nodes that it names and the host does not have, at most 20.
          returned: always
          type: list
          elements: str
          sample: [/dev/nvidia1]
        missing_files:
          description: Other files that it names and the host does not have, at most 20.
          returned: always
          type: list
          elements: str
          sample: [/usr/lib/x86_64-linux-gnu/libcuda.so.550.163.01]
        error:
          description: Why it can not be read, or null.
          returned: always
          type: str
          sample: "it is no CDI specification: it has no kind"
    cdi_refresh:
      description: The unit C(nvidia-cdi-refresh.service), which renews the specification.
      returned: always
      type: dict
      contains:
        active_state:
          description: Its state as systemd tells it, or null.
          returned: always
          type: str
          sample: inactive
        runs:
          description: Whether its condition lets it run with the driver's module on disk. Null where it is not there.
          returned: always
          type: bool
          sample: false
docker:
  description: The Docker Engine of the host, as far as GPUs go.
  returned: success
  type: dict
  contains:
    installed:
      description: Whether it is there.
      returned: always
      type: bool
      sample: true
    running:
      description: Whether it answers on its socket within 10 seconds.
      returned: always
      type: bool
      sample: true
    version:
      description: Its version, or null.
      returned: always
      type: str
      sample: 28.5.1
    error:
      description: Why it does not answer, or null.
      returned: always
      type: str
      sample: "Cannot connect to the Docker Engine at /var/run/docker.sock: No such file or directory"
    cdi:
      description: Whether it gives devices to containers by CDI.
      returned: always
      type: bool
      sample: true
    cdi_folders:
      description: Where it looks for specifications.
      returned: always
      type: list
      elements: str
      sample: [/etc/cdi, /var/run/cdi]
    runtimes:
      description: Names of its runtimes.
      returned: always
      type: list
      elements: str
      sample: [io.containerd.runc.v2, nvidia, runc]
    nvidia_runtime:
      description: The program of the runtime C(nvidia), or null.
      returned: always
      type: str
      sample: nvidia-container-runtime
    default_runtime:
      description: Name of its default runtime, or null.
      returned: always
      type: str
      sample: runc
    live_restore:
      description: Whether containers go on while the engine is restarted.
      returned: always
      type: bool
      sample: false
    cgroup_driver:
      description: Who makes the control groups of containers, or null.
      returned: always
      type: str
      sample: systemd
    hook_seen:
      description:
        - Whether C(nvidia-container-runtime-hook) was there when the engine was started. It is looked for only then.
        - Null where there is no hook or that can not be told.
      returned: always
      type: bool
      sample: true
nvswitch:
  description: Switches between the GPUs.
  returned: success
  type: dict
  contains:
    present:
      description: Whether there are any.
      returned: always
      type: bool
      sample: false
    devices:
      description: How many the host itself sees.
      returned: always
      type: int
      sample: 4
    nvlink5:
      description: Whether they are managed over a network adapter, as from NVLink 5 on.
      returned: always
      type: bool
      sample: false
    fabricmanager:
      description: Version of the fabric manager's package, or null.
      returned: always
      type: str
      sample: 580.159.03
    fabricmanager_active:
      description: Whether it runs, or null where systemd does not run the host.
      returned: always
      type: bool
      sample: true
secure_boot:
  description: Whether the firmware checks what it boots. Null where that can not be told.
  returned: success
  type: bool
  sample: false
xids:
  description: The driver's reports of errors since the boot, one for each GPU and number. Null where the kernel's log can
    not be read.
  returned: success
  type: list
  elements: dict
  contains:
    pci:
      description: PCI address of the GPU.
      returned: always
      type: str
      sample: "0000:01:00.0"
    xid:
      description: The number.
      returned: always
      type: int
      sample: 79
    application:
      description: Whether it is an error of the application, which leaves the GPU as good as it was.
      returned: always
      type: bool
      sample: false
    count:
      description: How often.
      returned: always
      type: int
      sample: 1
    message:
      description: The last one's text, or null.
      returned: always
      type: str
      sample: "pid=1234, name=tritonserver, GPU has fallen off the bus."
kernel:
  description: Release of the kernel whose modules were looked at.
  returned: success
  type: str
  sample: 6.12.94+deb13-amd64
"""

from functools import partial

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.gpufleet.triton.plugins.module_utils import _gpu, _host, _proc

# A driver that is not kept loaded takes seconds for each GPU before nvidia-smi can answer.
COMMAND_TIMEOUT = 60.0


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "expected_gpus": {"type": "int"},
            "kernel": {"type": "str"},
            "docker_socket": {"type": "path", "default": _host.DOCKER_SOCKET},
        },
        supports_check_mode=True,
    )
    params = module.params
    run = partial(_proc.run, module.run_command, timeout=COMMAND_TIMEOUT)
    machine = _gpu.Machine(run, kernel=params["kernel"]) if params["kernel"] else _gpu.Machine(run)
    module.exit_json(changed=False, **_gpu.collect(machine, params["docker_socket"], params["expected_gpus"]))


if __name__ == "__main__":
    main()
