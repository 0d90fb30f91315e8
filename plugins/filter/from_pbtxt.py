# Copyright (c) 2026, The gpufleet.triton authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: from_pbtxt
short_description: Read a model's config.pbtxt
version_added: 0.1.0
author: The gpufleet.triton authors (@gpufleet)
description:
  - Reads Triton's model configuration against Triton's own schema.
  - Names are those of the schema, enums are names, integers are integers, maps are dictionaries. What has its default is left
    out, except where it was set and being set matters, such as an empty C(dynamic_batching { }).
  - A wrong field or value is an error with file, line, column and the nearest right name.
requirements:
  - Python package C(tritonclient[grpc]) on the controller
positional: name
options:
  _input:
    description: The text of the configuration.
    type: str
    required: true
  name:
    description: The file's name, for errors.
    type: str
    default: config.pbtxt
seealso:
  - plugin: gpufleet.triton.to_pbtxt
    plugin_type: filter
  - plugin: gpufleet.triton.merge_pbtxt
    plugin_type: filter
"""

EXAMPLES = r"""
- name: Say how large a batch may be
  ansible.builtin.debug:
    msg: "{{ (lookup('ansible.builtin.file', path) | gpufleet.triton.from_pbtxt(path)).max_batch_size | default(0) }}"
  vars:
    path: models/densenet/config.pbtxt
"""

RETURN = r"""
_value:
  description: The configuration as data.
  type: dict
  sample:
    name: densenet
    backend: onnxruntime
    max_batch_size: 8
    instance_group:
      - kind: KIND_GPU
        count: 2
"""

import typing as t

from ansible.errors import AnsibleFilterError


def from_pbtxt(text: t.Any, name: str = "config.pbtxt") -> dict[str, t.Any]:
    # Ansible reads the filters of a whole collection anew in each worker: what they need is imported when they are used.
    from ansible_collections.gpufleet.triton.plugins.plugin_utils._pbtxt import PbtxtError, parse, to_dict

    if not isinstance(text, (str, bytes)):
        raise AnsibleFilterError(f"from_pbtxt wants the text of a configuration, but got {type(text).__name__}")
    try:
        return to_dict(parse(text, str(name)))
    except PbtxtError as error:
        raise AnsibleFilterError(f"from_pbtxt: {error}") from error


class FilterModule:
    def filters(self) -> dict[str, t.Callable]:
        return {"from_pbtxt": from_pbtxt}
