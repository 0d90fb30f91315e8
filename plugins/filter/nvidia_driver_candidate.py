# Copyright (c) 2026, The gpufleet.triton authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: nvidia_driver_candidate
short_description: Say which version of the NVIDIA driver a repository has for what is wanted
version_added: 0.3.0
author: The gpufleet.triton authors (@gpufleet)
description:
  - Reads the lines of C(apt-cache madison) and finds the newest version of the branch, or the exact one, that is wanted.
  - Made for the role gpufleet.triton.nvidia_driver.
options:
  _input:
    description: What C(apt-cache madison) prints for the package of the kernel module.
    type: str
    required: true
  options:
    description: The driver that is wanted, as for P(gpufleet.triton.nvidia_driver_plan#filter).
    type: dict
    required: true
  floors:
    description: The oldest safe version of each branch.
    type: dict
    required: true
"""

EXAMPLES = r"""
- name: Tell what would be installed
  ansible.builtin.debug:
    msg: "{{ madison.stdout | gpufleet.triton.nvidia_driver_candidate(wanted, {'580': '580.159.03'}) }}"
  vars:
    wanted: {source: nvidia, branch: "580", version: "", flavour: auto, floor: fail, secure_boot: fail}
"""

RETURN = r"""
_value:
  description: C(version), empty where there is none, and C(problem), why it can not be taken. Empty when all is well.
  type: dict
"""

import typing as t

from ansible.errors import AnsibleFilterError


def nvidia_driver_candidate(text: t.Any, options: t.Any, floors: t.Any) -> dict[str, str]:
    # Ansible reads the filters of a whole collection anew in each worker: what they need is imported when they are used.
    from ansible_collections.gpufleet.triton.plugins.plugin_utils import _driver_plan

    if not isinstance(text, str) or not isinstance(options, t.Mapping) or not isinstance(floors, t.Mapping):
        raise AnsibleFilterError("nvidia_driver_candidate wants the text of apt-cache madison, and two dictionaries")
    floors = {str(branch): str(floor) for branch, floor in floors.items()}
    return _driver_plan.candidate(_driver_plan.parse_candidates(text), options, floors)


class FilterModule:
    def filters(self) -> dict[str, t.Callable]:
        return {"nvidia_driver_candidate": nvidia_driver_candidate}
