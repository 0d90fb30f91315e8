# Copyright (c) 2026, The gpufleet.triton authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: nvidia_packages
short_description: Read the packages of an NVIDIA driver out of dpkg's answer
version_added: 0.3.0
author: The gpufleet.triton authors (@gpufleet)
description:
  - Made for the role gpufleet.triton.nvidia_driver.
options:
  _input:
    description: Lines with name, version, wanted and current state of a package, with C(|) between them.
    type: str
    required: true
"""

EXAMPLES = r"""
- name: Ask dpkg
  ansible.builtin.command:
    argv:
      - dpkg-query
      - --show
      - --showformat=${Package}|${Version}|${db:Status-Want}|${db:Status-Status}\n
      - "*nvidia*"
  register: answer
  changed_when: false

- name: Tell which packages are held
  ansible.builtin.debug:
    msg: "{{ answer.stdout | gpufleet.triton.nvidia_packages | selectattr('hold') | map(attribute='name') }}"
"""

RETURN = r"""
_value:
  description:
    - A row for each package that is there, with C(name), C(version), C(driver) (the driver's version in it, or null), C(hold) and
      C(ok) (whether it is installed completely).
  type: list
  elements: dict
"""

import typing as t

from ansible.errors import AnsibleFilterError


def nvidia_packages(text: t.Any) -> list[dict[str, t.Any]]:
    # Ansible reads the filters of a whole collection anew in each worker: what they need is imported when they are used.
    from ansible_collections.gpufleet.triton.plugins.plugin_utils import _driver_plan

    if not isinstance(text, str):
        raise AnsibleFilterError(f"nvidia_packages wants a text, but got {type(text).__name__}")
    return _driver_plan.parse_packages(text)


class FilterModule:
    def filters(self) -> dict[str, t.Callable]:
        return {"nvidia_packages": nvidia_packages}
