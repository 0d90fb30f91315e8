# Copyright (c) 2026, The gpufleet.triton authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: gpu_containers
short_description: Find the running containers that hold a GPU
version_added: 0.3.0
author: The gpufleet.triton authors (@gpufleet)
description:
  - Reads the answer of C(docker inspect). A container holds a GPU that it got by CDI, by the toolkit's hook, by the runtime
    nvidia, or as a device.
options:
  _input:
    description: The answer of C(docker inspect).
    type: list
    elements: dict
    required: true
"""

EXAMPLES = r"""
- name: Tell who holds a GPU
  ansible.builtin.debug:
    msg: "{{ inspected.stdout | from_json | gpufleet.triton.gpu_containers }}"
"""

RETURN = r"""
_value:
  description: Their names, the one that was started last first.
  type: list
  elements: str
"""

import typing as t

from ansible.errors import AnsibleFilterError


def gpu_containers(inspected: t.Any) -> list[str]:
    # Ansible reads the filters of a whole collection anew in each worker: what they need is imported when they are used.
    from ansible_collections.gpufleet.triton.plugins.plugin_utils import _driver_plan

    if isinstance(inspected, (str, t.Mapping)) or not isinstance(inspected, t.Iterable):
        raise AnsibleFilterError(f"gpu_containers wants the list of docker inspect, but got {type(inspected).__name__}")
    return _driver_plan.gpu_containers(inspected)


class FilterModule:
    def filters(self) -> dict[str, t.Callable]:
        return {"gpu_containers": gpu_containers}
