# Copyright (c) 2026, The gpufleet.triton authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: model_config_problems
short_description: Say what is wrong with a model before Triton has to
version_added: 0.1.0
author: The gpufleet.triton authors (@gpufleet)
description:
  - Compares a model's configuration with its folder, and with what is known of the host, the image and the other models.
  - A configuration may fit the schema and still not load, in some cases for a reason that only Triton's log says, in a few by
    hanging. This finds them before anything is copied.
  - What is not given is not checked.
requirements:
  - Python package C(tritonclient[grpc]) on the controller
positional: folder, files
options:
  _input:
    description: The configuration, as text or as data.
    type: raw
    required: true
  folder:
    description: The name of the model's folder, which is the model's name.
    type: str
    required: true
  files:
    description: What is in the folder, relative to it. A folder ends with C(/), and needs to be listed only where it is empty.
    type: list
    elements: str
    required: true
  gpus:
    description: How many GPUs the host has.
    type: int
  compute_capabilities:
    description: The compute capabilities of the GPUs, such as V(8.0).
    type: list
    elements: str
  backends:
    description: The names of the backends that the image has.
    type: list
    elements: str
  release:
    description: Triton's release as C(YY.MM), such as V(26.08).
    type: str
  models:
    description: The configurations of all models of the repository, as text or as data, by name. Ensembles are compared with them.
    type: dict
  auto_complete:
    description: Whether the server completes configurations from the models, as it does by default.
    type: bool
    default: true
"""

EXAMPLES = r"""
- name: Refuse a model that would not load
  ansible.builtin.assert:
    that: problems | selectattr('severity', 'eq', 'error') | length == 0
    fail_msg: "{{ problems | map(attribute='what') | join(' ') }}"
  vars:
    config: "{{ lookup('ansible.builtin.file', 'models/densenet/config.pbtxt') }}"
    problems: "{{ config | gpufleet.triton.model_config_problems('densenet', ['config.pbtxt', '1/model.onnx'], gpus=0) }}"
"""

RETURN = r"""
_value:
  description: What was found, errors first. Empty when all is well.
  type: list
  elements: dict
  contains:
    severity:
      description: V(error) where Triton would not serve the model, or not as the configuration says; else V(warning).
      type: str
    field:
      description: The field of the configuration, or the path in the folder.
      type: str
    what:
      description: What is wrong.
      type: str
    why:
      description: Why it is wrong.
      type: str
    remedy:
      description: What to do.
      type: str
  sample:
    - severity: error
      field: instance_group[0].kind
      what: It is KIND_GPU, and the host has no GPU.
      why: Triton refuses to load the model there.
      remedy: Use KIND_AUTO, which takes GPUs where there are any, or KIND_CPU.
"""

import typing as t

from ansible.errors import AnsibleFilterError


def model_config_problems(config: t.Any, folder: str, files: t.Any, **context: t.Any) -> list[dict[str, str]]:
    # Ansible reads the filters of a whole collection anew in each worker: what they need is imported when they are used.
    from ansible_collections.gpufleet.triton.plugins.plugin_utils._model_check import check
    from ansible_collections.gpufleet.triton.plugins.plugin_utils._pbtxt import PbtxtError, parse

    def read(config: t.Any, name: str) -> t.Any:
        if isinstance(config, (str, bytes)):
            return parse(config, name)
        if not isinstance(config, t.Mapping):
            raise AnsibleFilterError(f"model_config_problems wants a configuration as text or data, but got {type(config).__name__}")
        return config

    if isinstance(files, str) or not isinstance(files, t.Sequence):
        raise AnsibleFilterError(f"model_config_problems wants a list of files, but got {type(files).__name__}")
    models = context.get("models")
    if models is not None and not isinstance(models, t.Mapping):
        raise AnsibleFilterError(f"model_config_problems wants a dictionary of models, but got {type(models).__name__}")
    try:
        if models is not None:
            context["models"] = {str(name): read(model, f"{name}/config.pbtxt") for name, model in models.items()}
        return check(read(config, f"{folder}/config.pbtxt"), [str(file) for file in files], str(folder), context)
    except (PbtxtError, ValueError) as error:
        raise AnsibleFilterError(f"model_config_problems: {error}") from error


class FilterModule:
    def filters(self) -> dict[str, t.Callable]:
        return {"model_config_problems": model_config_problems}
