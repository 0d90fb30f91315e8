# Copyright (c) 2026, The gpufleet.triton authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: nvidia_driver_pending
short_description: Say why the NVIDIA driver in use is not the one on disk
version_added: 0.3.0
author: The gpufleet.triton authors (@gpufleet)
description:
  - Reads the answer of M(gpufleet.triton.gpu_info).
  - Made for the role gpufleet.triton.nvidia_driver.
options:
  _input:
    description: The answer of M(gpufleet.triton.gpu_info).
    type: dict
    required: true
  changed:
    description: What else was changed that the module reads only when it is loaded.
    type: list
    elements: str
    default: []
"""

EXAMPLES = r"""
- name: Tell whether the module has to be loaded anew
  ansible.builtin.debug:
    msg: "{{ gpu | gpufleet.triton.nvidia_driver_pending }}"
"""

RETURN = r"""
_value:
  description: A few words, such as C(580.126.09 is loaded, 580.159.03 is on disk). Empty where nothing is pending.
  type: str
"""

import typing as t

from ansible.errors import AnsibleFilterError


def nvidia_driver_pending(facts: t.Any, changed: t.Sequence[str] = ()) -> str:
    # Ansible reads the filters of a whole collection anew in each worker: what they need is imported when they are used.
    from ansible_collections.gpufleet.triton.plugins.plugin_utils import _driver_plan

    if not isinstance(facts, t.Mapping):
        raise AnsibleFilterError(f"nvidia_driver_pending wants the answer of gpu_info, but got {type(facts).__name__}")
    return _driver_plan.pending(facts, changed)


class FilterModule:
    def filters(self) -> dict[str, t.Callable]:
        return {"nvidia_driver_pending": nvidia_driver_pending}
