# Copyright (c) 2026, The gpufleet.triton authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The filters of config.pbtxt, called as functions and, once, by Ansible itself."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from ansible.errors import AnsibleFilterError
from ansible_collections.gpufleet.triton.plugins.filter.from_pbtxt import from_pbtxt
from ansible_collections.gpufleet.triton.plugins.filter.merge_pbtxt import merge_pbtxt
from ansible_collections.gpufleet.triton.plugins.filter.model_config_problems import model_config_problems
from ansible_collections.gpufleet.triton.plugins.filter.to_pbtxt import to_pbtxt

CHECKOUT = Path(__file__).resolve().parents[4]
FILTERS = CHECKOUT / "plugins" / "filter"

PLAY = """
- hosts: localhost
  gather_facts: false
  vars:
    text: |
      # kept
      backend: "onnxruntime"
      max_batch_size: 8
    override:
      max_batch_size: 16
      dynamic_batching: null
      parameters: {a: {string_value: "{{ 'b' }}"}}
      instance_group: [{kind: KIND_GPU, count: "{{ [2] | first }}"}]
    merged: "{{ text | gpufleet.triton.merge_pbtxt(override, 'm/config.pbtxt') }}"
    data: "{{ merged | gpufleet.triton.from_pbtxt }}"
  tasks:
    - ansible.builtin.copy:
        content: "{{ result | to_json }}"
        dest: "{{ out }}"
      vars:
        result:
          merged: "{{ merged }}"
          data: "{{ data }}"
          text: "{{ data | gpufleet.triton.to_pbtxt }}"
          problems: "{{ data | gpufleet.triton.model_config_problems('m', ['1/model.onnx'], gpus=0, models={'m': text}) }}"
"""


def test_ansible_finds_and_runs_them(tmp_path) -> None:
    (tmp_path / "play.yml").write_text(PLAY)
    environment = {
        **os.environ,
        "ANSIBLE_COLLECTIONS_PATH": str(CHECKOUT / ".build" / "collections"),
        "ANSIBLE_HOME": str(tmp_path),
        "ANSIBLE_LOCAL_TEMP": str(tmp_path / "tmp"),
        "ANSIBLE_JINJA2_NATIVE": "true",
    }
    argv = [str(Path(sys.executable).parent / "ansible-playbook"), "-i", "localhost,", "-c", "local", "-e", f"out={tmp_path / 'out'}"]
    argv += ["-e", f"ansible_python_interpreter={sys.executable}", str(tmp_path / "play.yml")]
    done = subprocess.run(argv, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    result = json.loads((tmp_path / "out").read_text())
    assert result["merged"].startswith('# kept\nbackend: "onnxruntime"\nmax_batch_size: 16\n')
    assert result["data"] == {
        "max_batch_size": 16,
        "instance_group": [{"count": 2, "kind": "KIND_GPU"}],
        "parameters": {"a": {"string_value": "b"}},
        "backend": "onnxruntime",
    }
    assert from_pbtxt(result["text"]) == result["data"]
    assert [problem["field"] for problem in result["problems"]] == ["instance_group[0].kind"]


@pytest.mark.parametrize("path", sorted(FILTERS.glob("*.py")), ids=lambda path: path.stem)
def test_the_readme_names_each_filter(path) -> None:
    assert f"`{path.stem}`" in (CHECKOUT / "README.md").read_text()


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: from_pbtxt(3), "from_pbtxt wants the text of a configuration, but got int"),
        (lambda: from_pbtxt("\nnme: 1", "m/config.pbtxt"), "from_pbtxt: m/config.pbtxt:2:1: ModelConfig has no field 'nme'"),
        (lambda: to_pbtxt("name: x"), "to_pbtxt wants a dictionary, but got str"),
        (lambda: to_pbtxt({"instance_group": [{"knd": 1}]}), "to_pbtxt: instance_group[0].knd: "),
        (lambda: merge_pbtxt(None, {}), "merge_pbtxt wants the text of a configuration, but got NoneType"),
        (lambda: merge_pbtxt("", []), "merge_pbtxt wants a dictionary to lay over the text, but got list"),
        (lambda: merge_pbtxt("", {"nme": 1}), "merge_pbtxt: nme: "),
        (lambda: merge_pbtxt("nme: 1", {}, "n.pbtxt"), "merge_pbtxt: n.pbtxt:1:1: "),
        (lambda: model_config_problems(3, "m", []), "wants a configuration as text or data, but got int"),
        (lambda: model_config_problems({}, "m", "1/model.py"), "wants a list of files, but got str"),
        (lambda: model_config_problems({}, "m", [], models=["m"]), "wants a dictionary of models, but got list"),
        (lambda: model_config_problems({}, "m", [], models={"n": 3}), "wants a configuration as text or data, but got int"),
        (lambda: model_config_problems("nme: 1", "m", []), "model_config_problems: m/config.pbtxt:1:1: "),
        (lambda: model_config_problems({}, "m", [], models={"n": "nme: 1"}), "model_config_problems: n/config.pbtxt:1:1: "),
        (lambda: model_config_problems({}, "m", [], gpu=1), "model_config_problems: Cannot check model 'm': wanted a context of"),
    ],
)
def test_what_is_wrong_is_an_error_of_ansible_that_names_the_filter(call, words) -> None:
    with pytest.raises(AnsibleFilterError) as caught:
        call()
    assert words in str(caught.value)
