# Copyright (c) 2026, The gpufleet.triton authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: nvidia_driver_plan
short_description: Say what a host's NVIDIA driver has to become
version_added: 0.3.0
author: The gpufleet.triton authors (@gpufleet)
description:
  - Compares what M(gpufleet.triton.gpu_info) tells of a host with GPUs with the driver that is wanted.
  - Made for the role gpufleet.triton.nvidia_driver. It asks nothing of the host.
options:
  _input:
    description: The answer of M(gpufleet.triton.gpu_info).
    type: dict
    required: true
  options:
    description: The driver that is wanted, with C(source), C(branch), C(version), C(flavour), C(floor) and C(secure_boot).
    type: dict
    required: true
  floors:
    description: The oldest safe version of each branch.
    type: dict
    required: true
"""

EXAMPLES = r"""
- name: Stop where the driver that is wanted can not be had
  ansible.builtin.assert:
    that: plan.problems | length == 0
    fail_msg: "{{ plan.problems | join(' ') }}"
  vars:
    plan: "{{ gpu | gpufleet.triton.nvidia_driver_plan(wanted, {'580': '580.159.03'}) }}"
    wanted: {source: nvidia, branch: "580", version: "", flavour: auto, floor: fail, secure_boot: fail}
"""

RETURN = r"""
_value:
  description:
    - C(problems), one text for each thing that keeps the driver from being had. Empty when all is well.
    - C(reasons), why packages have to be installed. Empty where the driver on disk is the right one.
    - C(flavour) and C(branch), what is installed if something is.
  type: dict
"""

import typing as t

from ansible.errors import AnsibleFilterError


def nvidia_driver_plan(facts: t.Any, options: t.Any, floors: t.Any) -> dict[str, t.Any]:
    # Ansible reads the filters of a whole collection anew in each worker: what they need is imported when they are used.
    from ansible_collections.gpufleet.triton.plugins.plugin_utils import _driver_plan

    for name, value in (("the answer of gpu_info", facts), ("options", options), ("floors", floors)):
        if not isinstance(value, t.Mapping):
            raise AnsibleFilterError(f"nvidia_driver_plan wants a dictionary as {name}, but got {type(value).__name__}")
    return _driver_plan.plan(facts, options, {str(branch): str(floor) for branch, floor in floors.items()})


class FilterModule:
    def filters(self) -> dict[str, t.Callable]:
        return {"nvidia_driver_plan": nvidia_driver_plan}
