#!/usr/bin/python
# Copyright (c) 2026, The gpufleet.triton authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: fleet_status
short_description: Show the status of a fleet as a table, a page and JSON
version_added: 0.2.0
author:
  - The gpufleet.triton authors (@gpufleet)
description:
  - Prints where the hosts of a play differ from what the inventory wants, host by host and model by model, and writes it to files if asked.
  - It reads the fact C(triton_models_status) of each host, which the tasks C(status) of the role P(gpufleet.triton.triton_models#role)
    make, or any other play by P(gpufleet.triton.host_status#filter).
  - It runs on the controller alone. Run it once, with C(run_once).
  - The table goes to the standard output, past the callback that formats results. What differs stands last.
attributes:
  check_mode:
    support: full
    description: Can run in C(check_mode) and return the changed status prediction without modifying the target.
    details:
      - It changes no host. Files on the controller are written in check mode as well.
  diff_mode:
    support: N/A
    description: Returns details on what has changed, or what would change in C(check_mode), when in diff mode.
    details:
      - It changes no host.
  idempotent:
    support: full
    description: When run twice in a row outside check mode with the same options, the second call changes nothing.
  platform:
    support: full
    platforms: all
    description: The operating systems that the module works on.
options:
  hosts:
    description: Names of the hosts to show. One without the fact is shown as not looked at.
    type: list
    elements: str
    required: true
  html:
    description:
      - File on the controller to write the page to. A relative path is relative to the current directory.
      - The page needs nothing but itself. It can be sent by mail, or served by anything.
    type: path
  json:
    description:
      - File on the controller to write the status to, for machines.
      - V(-) prints it instead of the table, as one line that begins with C({"format").
    type: str
  only_problems:
    description: Whether to leave out of the table what is as it should be. The files have everything.
    type: bool
    default: false
  fail_on_drift:
    description: Whether to fail if anything differs. The table and the files are there all the same.
    type: bool
    default: false
seealso:
  - plugin: gpufleet.triton.host_status
    plugin_type: filter
"""

EXAMPLES = r"""
- name: Look at each host
  hosts: gpu_hosts
  become: true
  gather_facts: false
  tasks:
    - name: Compare what is wanted, on disk and served
      ansible.builtin.include_role:
        name: gpufleet.triton.triton_models
        tasks_from: status

    - name: Show the fleet
      gpufleet.triton.fleet_status:
        hosts: "{{ ansible_play_hosts_all }}"
        html: /var/www/html/triton.html
        fail_on_drift: true
      run_once: true
"""

RETURN = r"""
differs:
  description: Whether anything is not as the inventory wants it.
  returned: always
  type: bool
  sample: true
drift:
  description: What differs, one text for each host that does, at most 20.
  returned: always
  type: list
  elements: str
  sample: ["gpu2: densenet stale, digits failed", "gpu3: unreachable"]
summary:
  description: How many hosts and models there are, how many of them differ, and how many are in which state.
  returned: always
  type: dict
  sample:
    hosts: 3
    hosts_differ: 2
    models: 4
    models_differ: 2
    host_states: {unreachable: 1, ready: 2}
    model_statuses: {failed: 1, stale: 1, in_sync: 2}
html:
  description: The file that the page was written to, null if none was.
  returned: always
  type: str
  sample: /home/operator/triton-status.html
json:
  description: The file that the status was written to, null if none was.
  returned: always
  type: str
  sample: null
"""
