#!/usr/bin/python
# Copyright (c) 2026, The gpufleet.triton authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: triton_diagnose
short_description: Say why a GPU is not available, a model does not load, memory runs out or permission is denied
version_added: 0.3.0
author:
  - The gpufleet.triton authors (@gpufleet)
description:
  - Answers the four classical complaints about a Triton host from the evidence on it, and says what was seen, why that is, and the command
    that mends it.
  - For C(gpu) it looks at the PCI bus, the driver, C(nvidia-smi), toolkit, CDI and Docker, what the container was given, and what it and
    the server's log say of CUDA.
  - For C(model) it looks at the repository index, the server's log, the folders of the models, what the server is to load, and at
    C(/dev/shm) and permissions, which are the usual causes.
  - For C(memory) it looks at the container's state, the engine's events, the kernel's log, the control group, the host's memory,
    C(/dev/shm), the GPUs' memory and the server's log.
  - For C(permission) it looks at the repository as the server's user, at what the server must write to, at denials of SELinux and
    AppArmor, and at the server's log.
  - Changes nothing, needs root, and does not fail because of what it finds.
extends_documentation_fragment:
  - gpufleet.triton.connection
  - gpufleet.triton.attributes
  - gpufleet.triton.attributes.actiongroup_triton
  - gpufleet.triton.attributes.info_module
options:
  complaint:
    description:
      - What is complained of. All four, unless it is narrowed.
    type: list
    elements: str
    choices: [gpu, model, memory, permission]
    default: [gpu, model, memory, permission]
  container:
    description:
      - Name of the server's container.
    type: str
    default: triton
  unit:
    description:
      - Name of its systemd unit.
    type: str
    default: triton.service
  models:
    description:
      - The model repository on the host.
    type: path
    default: /fileServerMountPath/data/models
  load_models:
    description:
      - File that lists the models that the server loads when it starts.
    type: path
  readable:
    description:
      - What else the server's user must be able to read. What is not there is left out.
    type: list
    elements: path
    default: []
  writable:
    description:
      - Folders that the server's user must be able to write to.
    type: list
    elements: path
    default: []
  uid:
    description:
      - Numeric id of the server's user.
    type: int
    default: 1000
  gid:
    description:
      - Numeric id of that user's group.
    type: int
    default: 1000
  docker_socket:
    description:
      - The socket of the host's Docker Engine.
    type: path
    default: /var/run/docker.sock
notes:
  - The engine's events and the kernel's log reach back to their last start. What a container logged before its own last start is not
    looked at.
seealso:
  - module: gpufleet.triton.gpu_verify
  - module: gpufleet.triton.gpu_info
  - module: gpufleet.triton.triton_health
"""

EXAMPLES = r"""
- name: Find out why a model does not load
  gpufleet.triton.triton_diagnose:
    complaint: [model]
    admin_key_file: /etc/gpufleet/triton/server/admin.key
  register: diagnosis

- name: Show it
  ansible.builtin.debug:
    msg: "{{ diagnosis.text }}"
"""

RETURN = r"""
trouble:
  description: Whether anything was found that explains a complaint. Warnings and notes do not count.
  returned: success
  type: bool
  sample: true
verdict:
  description: One line, with what explains most.
  returned: success
  type: str
  sample: "Permission denied: User 1000:1000, as which Triton runs, can't read /fileServerMountPath/data/models. Its mode 0700, owner 0:0,
    lets everybody else not. Run: chmod -R o+rX /fileServerMountPath/data/models."
findings:
  description: What was found, by complaint, and errors first.
  returned: success
  type: list
  elements: dict
  contains:
    complaint:
      description: The complaint that it answers.
      returned: always
      type: str
      sample: memory
    severity:
      description: V(error) for what explains the complaint, V(warning) for what may soon, V(note) for what is only worth knowing.
      returned: always
      type: str
      sample: error
    what:
      description: What is wrong.
      returned: always
      type: str
      sample: The container 'triton' was killed by its memory limit
    why:
      description: Why that is.
      returned: always
      type: str
      sample: its processes needed more than its group may have (4 GiB)
    remedy:
      description: The command that mends it.
      returned: always
      type: str
      sample: "set triton_server_memory_limit=8g (now 4 GiB) in the inventory, then run: ansible-playbook gpufleet.triton.site
        --tags triton_server"
    seen:
      description: The evidence, line by line.
      returned: always
      type: list
      elements: str
      sample: ["docker inspect: OOMKilled true, exit code 137"]
text:
  description: All of it as lines for a person.
  returned: success
  type: list
  elements: str
  sample: ["out of memory: no sign of it"]
"""

import os
from functools import partial

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.gpufleet.triton.plugins.module_utils import _argspec, _diagnose, _evidence, _gpu, _host, _proc

COMMAND_TIMEOUT = 60.0


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            **_argspec.connection_options(),
            "complaint": {
                "type": "list",
                "elements": "str",
                "choices": ["gpu", "model", "memory", "permission"],
                "default": ["gpu", "model", "memory", "permission"],
            },
            "container": {"type": "str", "default": "triton"},
            "unit": {"type": "str", "default": "triton.service"},
            "models": {"type": "path", "default": "/fileServerMountPath/data/models"},
            "load_models": {"type": "path"},
            "readable": {"type": "list", "elements": "path", "default": []},
            "writable": {"type": "list", "elements": "path", "default": []},
            "uid": {"type": "int", "default": 1000},
            "gid": {"type": "int", "default": 1000},
            "docker_socket": {"type": "path", "default": _host.DOCKER_SOCKET},
        },
        mutually_exclusive=_argspec.MUTUALLY_EXCLUSIVE,
        required_by=_argspec.REQUIRED_BY,
        supports_check_mode=True,
    )
    params = module.params
    subject = _evidence.Subject(
        container=params["container"],
        unit=params["unit"],
        models=os.path.normpath(params["models"]),
        readable=tuple(params["readable"]),
        writable=tuple(params["writable"]),
        load_models=params["load_models"] or "",
        uid=params["uid"],
        gid=params["gid"],
        docker_socket=params["docker_socket"],
    )
    machine = _gpu.Machine(partial(_proc.run, module.run_command, timeout=COMMAND_TIMEOUT))
    complaints = params["complaint"] or _diagnose.COMPLAINTS
    evidence = _evidence.collect(machine, subject, complaints, partial(_argspec.client_or_error, module))
    findings = _diagnose.judge(evidence, complaints)
    module.exit_json(
        changed=False,
        trouble=any(finding.severity == _diagnose.ERROR for finding in findings),
        verdict=_diagnose.line_of(findings),
        findings=[finding.as_dict() for finding in findings],
        text=_diagnose.as_text(findings, complaints),
    )


if __name__ == "__main__":
    main()
