# Copyright (c) 2026, The gpufleet.triton authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: firewall_plan
short_description: Say who may use which port of a host
version_added: 0.2.0
author: The gpufleet.triton authors (@gpufleet)
description:
  - Reads the options of the role P(gpufleet.triton.triton_firewall#role), checks each network, and drops those that others hold.
positional: allowed, server
options:
  _input:
    description:
      - Lists of networks by port. A key is a number, or the name of a row of O(server).
    type: dict
    required: true
  allowed:
    description: The networks for the ports of O(server) that have no list of their own. When empty, these have none.
    type: list
    elements: str
    required: true
  server:
    description: Triton's ports, each with C(name) (V(http), V(grpc) or V(metrics)), C(port), and the C(address) that it is bound to.
    type: list
    elements: dict
    required: true
seealso:
  - module: gpufleet.triton.nft_table
"""

EXAMPLES = r"""
- name: Show who may use what
  ansible.builtin.debug:
    msg: "{{ {'metrics': ['192.0.2.7']} | gpufleet.triton.firewall_plan(['10.1.0.0/16'], server) }}"
  vars:
    server:
      - {name: http, port: 8000, address: 0.0.0.0}
      - {name: metrics, port: 8002, address: 0.0.0.0}
"""

RETURN = r"""
_value:
  description:
    - C(ports) has a row for each port to guard, with C(port), C(inside) (the port in the container, null where another row has it), and
      the networks C(ip4) and C(ip6).
    - C(open) has a row for each row of O(server) that has no list and that other hosts reach, with its C(name) and C(where) it listens.
    - C(problem) says what is wrong with the input. Empty when all is well.
  type: dict
"""

import typing as t

from ansible.errors import AnsibleFilterError


def firewall_plan(ports: t.Any, allowed: t.Any, server: t.Any) -> dict[str, t.Any]:
    # Ansible reads the filters of a whole collection anew in each worker: what they need is imported when they are used.
    from ansible_collections.gpufleet.triton.plugins.plugin_utils import _guard

    if not isinstance(ports, t.Mapping):
        raise AnsibleFilterError(f"firewall_plan wants a dictionary of lists by port, but got {type(ports).__name__}")
    try:
        return {**_guard.plan(ports, allowed, server), "problem": ""}
    except _guard.GuardError as exc:
        return {"ports": [], "open": [], "problem": f"{exc}."}


class FilterModule:
    def filters(self) -> dict[str, t.Callable]:
        return {"firewall_plan": firewall_plan}
