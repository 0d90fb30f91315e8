# Copyright (c) 2026, The gpufleet.triton authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: host_status
short_description: Say where a host differs from what is wanted, model by model
version_added: 0.2.0
author: The gpufleet.triton authors (@gpufleet)
description:
  - Compares what an inventory wants of a host with what lies on its disk and with what its server really serves.
  - It asks nobody. What the modules returned goes in. A call that failed goes in as well, with its C(msg).
  - The tasks C(status) of the role P(gpufleet.triton.triton_models#role) use it, and keep its result as the fact C(triton_models_status).
options:
  _input:
    description:
      - What was found, as a dictionary. All keys but C(host) may be left out.
      - C(host) is the host's name. C(models) is the list of wanted models, of which C(name) and C(state) are read.
      - C(looked), C(repository) and C(server) are the results of P(gpufleet.triton.triton_host_info#module),
        P(gpufleet.triton.triton_repository#module) in check mode and P(gpufleet.triton.triton_info#module).
      - C(server_state), C(control_mode), C(release) and C(purge) are what the roles' options of these names say. C(path) is the folder
        of the models, C(record) the text of the role's record.
      - C(unreachable) and C(error) say why nothing was found.
    type: dict
    required: true
seealso:
  - module: gpufleet.triton.fleet_status
"""

EXAMPLES = r"""
- name: Compare
  ansible.builtin.set_fact:
    status: "{{ found | gpufleet.triton.host_status }}"
  vars:
    found:
      host: "{{ inventory_hostname }}"
      models: "{{ triton_models }}"
      looked: "{{ host_info }}"
      repository: "{{ compared }}"
      server: "{{ info }}"
"""

RETURN = r"""
_value:
  description:
    - The status of the host. C(state) is that of its server, C(differs) says whether anything is not as wanted.
    - C(models) has a row for each model. Its C(status) is C(in_sync), C(publish), C(load), C(stale) (it serves other content than that
      on disk), C(failed) (C(reason) is Triton's), C(unload), C(remove), C(foreign) (not listed), C(loading), C(unloading) or C(unknown).
  type: dict
"""

import typing as t

from ansible.errors import AnsibleFilterError


def host_status(facts: t.Any) -> dict[str, t.Any]:
    # Ansible reads the filters of a whole collection anew in each worker: what they need is imported when they are used.
    from ansible_collections.gpufleet.triton.plugins.plugin_utils import _status

    if not isinstance(facts, t.Mapping) or not facts.get("host"):
        raise AnsibleFilterError(f"host_status wants a dictionary with 'host' and what was found on it, but got {type(facts).__name__}")
    return _untrusted(_status.host_status(facts))


def _untrusted(value: t.Any) -> t.Any:
    """Mark what a server said, so that it is never taken for a template. Releases from 2.19 on do it by themselves."""
    try:
        from ansible.utils.unsafe_proxy import wrap_var
    except ImportError:
        return value
    return wrap_var(value)


class FilterModule:
    def filters(self) -> dict[str, t.Callable]:
        return {"host_status": host_status}
