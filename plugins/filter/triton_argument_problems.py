# Copyright (c) 2026, The gpufleet.triton authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: triton_argument_problems
short_description: Say what is wrong with extra arguments for tritonserver
version_added: 0.1.0
author: The gpufleet.triton authors (@gpufleet)
description:
  - Compares arguments with the table of flags that tritonserver knows, and with the release that brought each.
  - Triton ends with its usage text when it meets an unknown flag, which under a restart policy is a crash loop. Hence the
    check before anything is written.
positional: release
options:
  _input:
    description: The arguments, each as C(--flag=value).
    type: list
    elements: str
    required: true
  release:
    description:
      - Triton's release as C(YY.MM), such as V(26.08).
      - When empty, flags are checked for their names alone.
    type: str
    default: ""
"""

EXAMPLES = r"""
- name: Refuse flags that this release does not have
  ansible.builtin.assert:
    that: problems | length == 0
    fail_msg: "{{ problems | join(' ') }}"
  vars:
    problems: "{{ ['--log-verbose=1', '--allow-client-shm=true'] | gpufleet.triton.triton_argument_problems('26.08') }}"
"""

RETURN = r"""
_value:
  description: One sentence for each argument that the server would not take. Empty when all is well.
  type: list
  elements: str
"""

import typing as t

from ansible.errors import AnsibleFilterError


def triton_argument_problems(arguments: t.Any, release: str = "") -> list[str]:
    # Ansible reads the filters of a whole collection anew in each worker: what they need is imported when they are used.
    from ansible_collections.gpufleet.triton.plugins.module_utils._flags import argument_problems

    if isinstance(arguments, str) or not isinstance(arguments, t.Sequence):
        raise AnsibleFilterError(f"triton_argument_problems wants a list of arguments, but got {type(arguments).__name__}")
    return argument_problems(list(arguments), release)


class FilterModule:
    def filters(self) -> dict[str, t.Callable]:
        return {"triton_argument_problems": triton_argument_problems}
