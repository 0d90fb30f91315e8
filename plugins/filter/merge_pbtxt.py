# Copyright (c) 2026, The gpufleet.triton authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: merge_pbtxt
short_description: Lay settings over a model's config.pbtxt
version_added: 0.1.0
author: The gpufleet.triton authors (@gpufleet)
description:
  - Edits the text of a model configuration so that it also says what the override says.
  - Dictionaries merge key by key, as deep as they go. Lists and plain values replace. V(null) removes. A member of a choice, such
    as C(dynamic_batching), takes the place of the others, such as C(sequence_batching).
  - What the override does not change keeps its place, its form and its comments. The unit is the field at the top level, and the
    single entry in maps such as C(parameters). A field that changes is written where it first stood, a new one at the end, and
    a removed one goes with the comment on its line.
  - When nothing changes, the text comes back byte for byte.
requirements:
  - Python package C(tritonclient[grpc]) on the controller
positional: override, name
options:
  _input:
    description: The text of the configuration. May be empty.
    type: str
    required: true
  override:
    description: What to lay over it, in the form that P(gpufleet.triton.to_pbtxt#filter) takes.
    type: dict
    required: true
  name:
    description: The file's name, for errors.
    type: str
    default: config.pbtxt
seealso:
  - plugin: gpufleet.triton.from_pbtxt
    plugin_type: filter
  - plugin: gpufleet.triton.to_pbtxt
    plugin_type: filter
"""

EXAMPLES = r"""
- name: Show a configuration with larger batches, on CPUs, and with the default queue
  ansible.builtin.debug:
    msg: "{{ lookup('ansible.builtin.file', path) | gpufleet.triton.merge_pbtxt(override, path) }}"
  vars:
    path: models/densenet/config.pbtxt
    override:
      max_batch_size: 32
      instance_group:
        - kind: KIND_CPU
      dynamic_batching:
        default_queue_policy: null
"""

RETURN = r"""
_value:
  description: The edited text.
  type: str
"""

import typing as t

from ansible.errors import AnsibleFilterError


def merge_pbtxt(text: t.Any, override: t.Any, name: str = "config.pbtxt") -> str:
    # Ansible reads the filters of a whole collection anew in each worker: what they need is imported when they are used.
    from ansible_collections.gpufleet.triton.plugins.plugin_utils._pbtxt import PbtxtError, merge

    if not isinstance(text, (str, bytes)):
        raise AnsibleFilterError(f"merge_pbtxt wants the text of a configuration, but got {type(text).__name__}")
    if not isinstance(override, t.Mapping):
        raise AnsibleFilterError(f"merge_pbtxt wants a dictionary to lay over the text, but got {type(override).__name__}")
    try:
        return merge(text, override, str(name))
    except PbtxtError as error:
        raise AnsibleFilterError(f"merge_pbtxt: {error}") from error


class FilterModule:
    def filters(self) -> dict[str, t.Callable]:
        return {"merge_pbtxt": merge_pbtxt}
