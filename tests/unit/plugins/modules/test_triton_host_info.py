# Copyright (c) 2026, The gpufleet.triton authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import os
import typing as t
from pathlib import Path

import pytest
import yaml
from ansible_collections.gpufleet.triton.plugins.module_utils import _host
from ansible_collections.gpufleet.triton.plugins.modules import triton_host_info
from ansible_collections.gpufleet.triton.tests.unit.plugins.modules.runner import Runner

DOCUMENTED = yaml.safe_load(triton_host_info.RETURN)


def keys(name: str) -> set[str]:
    return set(DOCUMENTED[name]["contains"])


@pytest.fixture
def full_host(monkeypatch: pytest.MonkeyPatch) -> None:
    """A host where nothing is missing, so that every part of the answer has its full form."""
    unit = {"load_state": "loaded", "active_state": "active", "sub_state": "running", "enabled": True, "unit_file_state": "enabled"}
    answers = {"/info": {"ServerVersion": "1.0"}, "/containers/json": [], "/containers/c/json": {"Id": "1"}, "/images/i/json": {"Id": "2"}}
    monkeypatch.setattr(_host.Engine, "get", lambda _self, resource: answers[resource])
    monkeypatch.setattr(_host, "has_systemd", lambda: True)
    monkeypatch.setattr(_host, "ask_units", lambda _run, names: dict.fromkeys(names, unit))


@pytest.mark.usefixtures("full_host")
def test_the_result_has_the_documented_keys(run: Runner, tmp_path: Path) -> None:
    result = run(
        "triton_host_info",
        {
            "paths": [str(tmp_path)],
            "uid": os.getuid(),
            "gid": os.getgid(),
            "ports": [{"port": 0}],
            "units": ["a"],
            "container": "c",
            "image": "i",
        },
    )
    assert set(result) - {"changed"} == set(DOCUMENTED)
    for name in ("docker", "python", "container", "image", "gpus"):
        assert set(result[name]) == keys(name), name
    for name in ("ports", "paths"):
        assert set(result[name][0]) == keys(name), name
    assert set(result["units"]["a"]) == set(next(iter(DOCUMENTED["units"]["sample"].values())))
    assert result["changed"] is False


@pytest.mark.parametrize("check", [False, True])
def test_nothing_asked_nothing_told(run: Runner, tmp_path: Path, check: bool) -> None:
    result = run("triton_host_info", {"docker_socket": str(tmp_path / "none")}, check=check)
    assert (result["paths"], result["ports"], result["units"], result["container"], result["image"]) == ([], [], {}, None, None)
    assert result["changed"] is False


def test_a_path_in_either_form(run: Runner, tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "b").touch()
    args = {"paths": [str(tmp_path), {"path": str(tmp_path), "depth": 2}, {"path": str(tmp_path)}], "docker_socket": str(tmp_path / "none")}
    rows = run("triton_host_info", args)["paths"]
    assert [row["entries"] for row in rows] == [
        [{"name": "a", "type": "directory"}],
        [{"name": "a", "type": "directory", "entries": [{"name": "b", "type": "file"}]}],
        [{"name": "a", "type": "directory"}],
    ]


def test_the_content_of_a_file_where_it_is_asked_for(run: Runner, tmp_path: Path) -> None:
    (tmp_path / "a").write_text("b\n")
    args = {"paths": [{"path": str(tmp_path / "a"), "content": True}, str(tmp_path / "a")], "docker_socket": str(tmp_path / "none")}
    assert [row["content"] for row in run("triton_host_info", args)["paths"]] == ["b\n", None]


@pytest.mark.parametrize(
    "entry",
    ["relative", 5, {"path": "/a", "depth": 3}, {"depth": 1}, {"path": "/a", "other": 1}, {"path": "/a", "content": "maybe"}],
)
def test_a_path_in_no_form(run: Runner, entry: t.Any) -> None:
    result = run("triton_host_info", {"paths": [entry]})
    assert result["failed"] is True
    assert "wanted an absolute path" in result["msg"]
