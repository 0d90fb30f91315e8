# Copyright (c) 2026, The gpufleet.triton authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import json
import typing as t
from pathlib import Path

import pytest
import yaml
from ansible_collections.gpufleet.triton.plugins.module_utils import _cdi
from ansible_collections.gpufleet.triton.tests.unit.plugins.module_utils.gpu_host import SPEC

# By hand, as it was given to Docker 26.1.5.
FLOW = """\
cdiVersion: "0.6.0"
kind: nvidia.com/gpu
devices:
- {name: "0",  containerEdits: {deviceNodes: [{path: /dev/nvidia0}]}}
- {name: all,  containerEdits: {deviceNodes: [{path: /dev/nvidia0}]}}
containerEdits:
  env: [NVIDIA_VISIBLE_DEVICES=void]
  deviceNodes: [{path: /dev/nvidiactl}]
  mounts: [{hostPath: /usr/local/bin/nvidia-smi, containerPath: /usr/bin/nvidia-smi, options: [ro,nosuid,nodev,bind]}]
"""
MORE = """\
# A comment
cdiVersion: 0.7.0   # another
kind: 'nvidia.com/gpu'
annotations: {}
empty: []
nothing:
"quoted key": "a \\"b\\" # no comment: \\u00e9"
single: 'it''s'
containerEdits:
  hooks:
    - path: /usr/bin/nvidia-cdi-hook
      args: ["nvidia-cdi-hook", "update-ldcache", --folder, '/usr/lib, /lib']
      hookName: createContainer
    -
      path: /b
  deviceNodes:
  - hostPath: /run/driver/dev/nvidiactl
    path: /dev/nvidiactl
    major: 195
  - path: /dev/nvidia-uvm
  nested:
  - - a
    - b
  - c: {d: [e, {f: g}]}
devices: []
...
"""


def as_texts(value: t.Any) -> t.Any:
    """The reader keeps numbers and truth values as they are written; none of the samples has such a text elsewhere."""
    if isinstance(value, dict):
        return {key: as_texts(item) for key, item in value.items()}
    if isinstance(value, list):
        return [as_texts(item) for item in value]
    return value if value is None else str(value)


@pytest.mark.parametrize("text", [SPEC, FLOW, MORE, "- a\n- b\n", "a", ""])
def test_the_reader_agrees_with_a_reader_of_all_yaml(text: str) -> None:
    assert _cdi.parse(text) == as_texts(yaml.safe_load(text))


@pytest.mark.parametrize("text", [SPEC, FLOW, MORE])
def test_json_is_read_as_well(text: str) -> None:
    data = yaml.safe_load(text)
    assert _cdi.parse(json.dumps(data, indent=2)) == data


@pytest.mark.parametrize(
    "text",
    [
        "a: |\n  b\n",
        "a: &b c\n",
        "a: !b c\n",
        "a: [b\n",
        "a: {b: c\n",
        "a: {b}\n",
        "a: [b] c\n",
        "a: b\n  c: d\n",
        "a: b\nc\n",
        "- a\nb: c\n",
    ],
)
def test_what_the_reader_does_not_understand_it_refuses(text: str) -> None:
    with pytest.raises(_cdi.SpecError, match=r"cannot read|wanted"):
        _cdi.parse(text)


def put(root: Path, text: str | bytes, name: str = "etc/cdi/nvidia.yaml") -> None:
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text if isinstance(text, bytes) else text.encode())


def test_a_specification(tmp_path: Path) -> None:
    put(tmp_path, FLOW)
    put(tmp_path, "", "dev/nvidiactl")
    assert _cdi.specs(root=str(tmp_path)) == [
        {
            "path": "/etc/cdi/nvidia.yaml",
            "kind": "nvidia.com/gpu",
            "version": "0.6.0",
            "devices": ["0", "all"],
            "driver": None,
            "missing_nodes": ["/dev/nvidia0"],
            "missing_files": ["/usr/local/bin/nvidia-smi"],
            "error": None,
        }
    ]


def test_the_hosts_path_of_a_node_is_the_one_that_counts(tmp_path: Path) -> None:
    put(tmp_path, MORE)
    put(tmp_path, "", "run/driver/dev/nvidiactl")
    assert _cdi.specs(root=str(tmp_path))[0]["missing_nodes"] == ["/dev/nvidia-uvm"]


@pytest.mark.parametrize(
    ("text", "error"),
    [
        (b"\xff\xfe", "it is no CDI specification"),
        ("[" * 100_000, "it is no CDI specification"),
        ("a: b\n", "it has no kind"),
        ("- kind\n", "it has no kind"),
        ("", "it has no kind"),
        ("{", "it is no CDI specification"),
    ],
)
def test_a_file_that_is_none(tmp_path: Path, text: str | bytes, error: str) -> None:
    put(tmp_path, text)
    assert error in _cdi.specs(root=str(tmp_path))[0]["error"]


@pytest.mark.parametrize("text", ["devices: b\n", "devices: [b, {c: d}]\ncontainerEdits: [e]\n", "devices: [{containerEdits: f}]\n"])
def test_a_specification_of_another_shape(tmp_path: Path, text: str) -> None:
    put(tmp_path, "kind: a\n" + text)
    row = _cdi.specs(root=str(tmp_path))[0]
    assert (row["kind"], row["error"], row["missing_nodes"]) == ("a", None, [])


def test_only_what_docker_reads(tmp_path: Path) -> None:
    for name in ("etc/cdi/a.json", "etc/cdi/b.yaml.bak", "var/run/cdi/c.yaml", "elsewhere/d.yaml"):
        put(tmp_path, '{"kind": "a"}', name)
    (tmp_path / "etc/cdi/folder.yaml").mkdir()
    found = _cdi.specs(("/etc/cdi", "/none", "/var/run/cdi"), str(tmp_path))
    assert [(row["path"], row["error"] is None) for row in found] == [
        ("/etc/cdi/a.json", True),
        ("/etc/cdi/folder.yaml", False),
        ("/var/run/cdi/c.yaml", True),
    ]
