# Copyright (c) 2026, The gpufleet.triton authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: to_pbtxt
short_description: Write a model's config.pbtxt
version_added: 0.1.0
author: The gpufleet.triton authors (@gpufleet)
description:
  - Writes Triton's model configuration from data, against Triton's own schema. Everything that the schema has can be written.
  - Nothing is guessed. An unknown field, a value of another type and an unknown name of an enum are errors with the path, such as
    C(instance_group[0].knd), with what was wanted and with the nearest right name.
requirements:
  - Python package C(tritonclient[grpc]) on the controller
options:
  _input:
    description:
      - The configuration. Names of fields and of enums are those of Triton's C(model_config.proto).
      - The numbers that are keys of C(priority_queue_policy) may be written as text, as JSON has no other keys.
    type: dict
    required: true
seealso:
  - plugin: gpufleet.triton.from_pbtxt
    plugin_type: filter
  - plugin: gpufleet.triton.merge_pbtxt
    plugin_type: filter
"""

EXAMPLES = r"""
- name: Write a configuration
  ansible.builtin.copy:
    content: "{{ config | gpufleet.triton.to_pbtxt }}"
    dest: models/densenet/config.pbtxt
    mode: "0644"
  delegate_to: localhost
  vars:
    config:
      backend: onnxruntime
      max_batch_size: 8
      dynamic_batching: {}
      instance_group:
        - kind: KIND_GPU
          count: 2
"""

RETURN = r"""
_value:
  description: The text, always the same for the same data.
  type: str
  sample: |
    max_batch_size: 8
    backend: "onnxruntime"
"""

import typing as t

from ansible.errors import AnsibleFilterError


def to_pbtxt(config: t.Any) -> str:
    # Ansible reads the filters of a whole collection anew in each worker: what they need is imported when they are used.
    from ansible_collections.gpufleet.triton.plugins.plugin_utils._pbtxt import PbtxtError, dump, from_dict

    if not isinstance(config, t.Mapping):
        raise AnsibleFilterError(f"to_pbtxt wants a dictionary, but got {type(config).__name__}")
    try:
        return dump(from_dict(config))
    except PbtxtError as error:
        raise AnsibleFilterError(f"to_pbtxt: {error}") from error


class FilterModule:
    def filters(self) -> dict[str, t.Callable]:
        return {"to_pbtxt": to_pbtxt}
