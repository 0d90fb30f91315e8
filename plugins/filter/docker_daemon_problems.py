# Copyright (c) 2026, The gpufleet.triton authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: docker_daemon_problems
short_description: Say what is wrong with settings for dockerd
version_added: 0.2.0
author: The gpufleet.triton authors (@gpufleet)
description:
  - Compares settings for Docker's C(daemon.json) with the types that dockerd takes. With a wrong one dockerd does not start.
  - It needs no dockerd, so it can look before there is one. What it does not know it leaves to C(dockerd --validate), which the
    module M(gpufleet.triton.docker_daemon_config) runs.
options:
  _input:
    description: The settings, in the structure of C(daemon.json).
    type: dict
    required: true
"""

EXAMPLES = r"""
- name: Refuse settings that Docker would not start with
  ansible.builtin.assert:
    that: problems | length == 0
    fail_msg: "{{ problems | join(' ') }}"
  vars:
    problems: "{{ {'log-opts': {'max-file': 5}} | gpufleet.triton.docker_daemon_problems }}"
"""

RETURN = r"""
_value:
  description: One sentence for each setting that dockerd would not take. Empty when all is well.
  type: list
  elements: str
"""

import typing as t

from ansible.errors import AnsibleFilterError


def docker_daemon_problems(options: t.Any) -> list[str]:
    # Ansible reads the filters of a whole collection anew in each worker: what they need is imported when they are used.
    from ansible_collections.gpufleet.triton.plugins.plugin_utils._docker_options import daemon_problems

    if not isinstance(options, t.Mapping):
        raise AnsibleFilterError(f"docker_daemon_problems wants a dictionary of settings, but got {type(options).__name__}")
    return daemon_problems(options)


class FilterModule:
    def filters(self) -> dict[str, t.Callable]:
        return {"docker_daemon_problems": docker_daemon_problems}
