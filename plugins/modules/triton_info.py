#!/usr/bin/python
# Copyright (c) 2026, The gpufleet.triton authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: triton_info
short_description: Ask a Triton Inference Server what it is and what it serves
version_added: 0.1.0
author:
  - The gpufleet.triton authors (@gpufleet)
description:
  - Returns the server's metadata and health, the repository index, and for each model its state, versions and digest.
  - Fails only if the server cannot be asked. What is wrong with its models is in RV(problems).
extends_documentation_fragment:
  - gpufleet.triton.connection
  - gpufleet.triton.attributes
  - gpufleet.triton.attributes.actiongroup_triton
  - gpufleet.triton.attributes.info_module
options:
  gather:
    description:
      - What to return of the models. V(config) and V(statistics) include V(models).
      - An empty list leaves RV(models) empty and saves one request for each model.
    type: list
    elements: str
    choices: [models, config, statistics]
    default: [models]
seealso:
  - module: gpufleet.triton.triton_health
  - module: gpufleet.triton.triton_model
"""

EXAMPLES = r"""
- name: See what is served
  gpufleet.triton.triton_info:
    admin_key_file: /etc/gpufleet/triton/server/admin.key
  register: triton

- name: Show model, versions and state
  ansible.builtin.debug:
    msg: "{{ item.name }}: {{ item.state }} {{ item.versions | map(attribute='version') | join(', ') }}"
  loop: "{{ triton.models }}"
  loop_control:
    label: "{{ item.name }}"

- name: With configurations and statistics
  gpufleet.triton.triton_info:
    gather: [config, statistics]
"""

RETURN = r"""
server:
  description: The server's metadata.
  returned: success
  type: dict
  contains:
    name:
      description: Its name, V(triton) unless it was started with another C(--id).
      returned: always
      type: str
      sample: triton
    version:
      description: Its version.
      returned: always
      type: str
      sample: 2.51.0
    extensions:
      description: The extensions of the protocol that it supports.
      returned: always
      type: list
      elements: str
      sample: [classification, sequence, model_repository]
live:
  description: Whether C(/v2/health/live) says so.
  returned: success
  type: bool
  sample: true
ready:
  description: Whether C(/v2/health/ready) says so. It says nothing about models that are not loaded.
  returned: success
  type: bool
  sample: true
index:
  description: The rows of the repository index. If it is restricted and no key is given, the versions that serve.
  returned: success
  type: list
  elements: dict
  contains:
    name:
      description: Name of the model.
      returned: always
      type: str
      sample: densenet
    version:
      description: The version, null if the model was never loaded.
      returned: always
      type: int
      sample: 1
    state:
      description: The state as Triton says it, empty if the model was never loaded.
      returned: always
      type: str
      sample: READY
    reason:
      description: Why it is V(UNAVAILABLE), otherwise empty.
      returned: always
      type: str
      sample: unloaded
models:
  description: One entry for each model of the index.
  returned: success
  type: list
  elements: dict
  contains:
    name:
      description: Name of the model.
      returned: always
      type: str
      sample: densenet
    state:
      description:
        - V(READY) if a version serves, otherwise V(LOADING), V(UNLOADING) or V(UNAVAILABLE), or V(UNKNOWN) if it was never loaded.
      returned: always
      type: str
      sample: READY
    digest:
      description: Digest in the configuration that is served (its parameter C(gpufleet.digest)), null if it has none.
      returned: always
      type: str
      sample: sha256:0f343b0931126a20f133d67c2b018a3b5fc9a1a5c5ea1d4b8a4b6c6f2a1b1c11
    versions:
      description: Its versions. Empty if it was never loaded.
      returned: always
      type: list
      elements: dict
      contains:
        version:
          description: The version. Null if Triton names none, as for a model that is in two repositories.
          returned: always
          type: int
          sample: 1
        state:
          description: Its state.
          returned: always
          type: str
          sample: READY
        reason:
          description: Why it is V(UNAVAILABLE), otherwise empty.
          returned: always
          type: str
          sample: ""
    config:
      description: The configuration that is served, as Triton completed it, null if none is.
      returned: when O(gather) has V(config)
      type: dict
      sample: {name: densenet, backend: onnxruntime, max_batch_size: 8}
    statistics:
      description: Triton's statistics, one entry for each version that serves.
      returned: when O(gather) has V(statistics)
      type: list
      elements: dict
      sample: [{name: densenet, version: "1", inference_count: 3, execution_count: 3}]
problems:
  description: What is wrong with the server or its models, or could not be seen.
  returned: always
  type: list
  elements: dict
  contains:
    what:
      description: What is wrong.
      returned: always
      type: str
      sample: "The server is not ready because of a failed load: densenet version 2 UNAVAILABLE"
    why:
      description: The cause, as far as it can be told.
      returned: always
      type: str
      sample: "the first load of a model or version failed, and Triton stays not ready until that very version loads: Internal: ..."
    remedy:
      description: What to do about it.
      returned: always
      type: str
      sample: load the same model and version with success (then it may be unloaded), or restart the server
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.gpufleet.triton.plugins.module_utils import _argspec
from ansible_collections.gpufleet.triton.plugins.module_utils._http import HttpError
from ansible_collections.gpufleet.triton.plugins.module_utils._info import Info


def run(module: AnsibleModule) -> None:
    client = _argspec.open_client(module)
    with client.transport:
        try:
            result = Info(client, module.params["gather"]).collect()
        except HttpError as error:
            _argspec.fail(module, error)
    module.exit_json(changed=False, **result)


def main() -> None:
    run(
        AnsibleModule(
            argument_spec={
                **_argspec.connection_options(),
                "gather": {
                    "type": "list",
                    "elements": "str",
                    "choices": ["models", "config", "statistics"],
                    "default": ["models"],
                },
            },
            mutually_exclusive=_argspec.MUTUALLY_EXCLUSIVE,
            required_by=_argspec.REQUIRED_BY,
            supports_check_mode=True,
        )
    )


if __name__ == "__main__":
    main()
