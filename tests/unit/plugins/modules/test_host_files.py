# Copyright (c) 2026, The gpufleet.triton authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import json
import typing as t
from pathlib import Path

import pytest
import yaml
from ansible.module_utils.testing import patch_module_args
from ansible_collections.gpufleet.triton.plugins.modules import host_files
from ansible_collections.gpufleet.triton.tests.unit.plugins.modules.runner import Runner

DOCUMENTED = yaml.safe_load(host_files.RETURN)


def test_the_result_has_the_documented_keys(run: Runner, tmp_path: Path) -> None:
    path = tmp_path / "f"
    path.write_text("old\n")
    result = run("host_files", {"files": [{"path": str(path), "content": "new\n", "backup": True}]}, diff=True)
    assert set(result) - {"changed"} == set(DOCUMENTED)
    assert set(result["files"][0]) == set(DOCUMENTED["files"]["contains"])
    assert set(result["diff"][0]) == set(DOCUMENTED["diff"]["contains"])


def test_check_mode_tells_what_the_real_run_does(run: Runner, tmp_path: Path) -> None:
    args = {
        "files": [
            {"path": f"{tmp_path}/d", "state": "directory", "mode": "0750"},
            {"path": f"{tmp_path}/d/f", "content": "x\n", "validate": "sh -n %s"},
            {"path": f"{tmp_path}/d/key", "generate": 32},
        ]
    }
    predicted = run("host_files", args, check=True)
    assert list(tmp_path.iterdir()) == []
    done = run("host_files", args)
    assert done == predicted
    assert done["changed"] is True
    assert done["changed_paths"] == [f"{tmp_path}/d", f"{tmp_path}/d/f", f"{tmp_path}/d/key"]
    for check in (True, False):
        again = run("host_files", args, check=check)
        assert again["changed"] is False
        assert again["changed_paths"] == []
        assert {row["action"] for row in again["files"]} == {"none"}


def test_there_is_no_difference_without_diff_mode(run: Runner, tmp_path: Path) -> None:
    assert "diff" not in run("host_files", {"files": [{"path": f"{tmp_path}/f"}]})


def test_an_error_is_a_failure_with_its_text(run: Runner, tmp_path: Path) -> None:
    result = run("host_files", {"files": [{"path": f"{tmp_path}/f", "mode": "rw"}]})
    assert result["failed"] is True
    assert "four octal digits" in result["msg"]


def test_a_short_secret_is_refused(run: Runner, tmp_path: Path) -> None:
    result = run("host_files", {"files": [{"path": f"{tmp_path}/f", "generate": 8}]})
    assert "wanted 16 or more" in result["msg"]


def test_content_and_generate_exclude_each_other(run: Runner, tmp_path: Path) -> None:
    result = run("host_files", {"files": [{"path": f"{tmp_path}/f", "generate": 32, "content": "x"}]})
    assert "mutually exclusive" in result["msg"]


@pytest.fixture
def logged(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    lines: list[str] = []

    def log(_module: object, message: str, log_args: object = None) -> None:
        lines.append(f"{message} {log_args}")

    monkeypatch.setattr(host_files.HostFilesModule, "log", log)
    return lines


@pytest.mark.parametrize(
    "other",
    [{}, {"mode": "not a mode"}, {"content": "x", "generate": 32}],
    ids=["success", "refused by the module", "refused by the specification"],
)
def test_a_secret_is_in_no_output_and_no_log(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], logged: list[str], other: dict[str, t.Any]
) -> None:
    args: dict[str, t.Any] = {
        "files": [
            {"path": f"{tmp_path}/f", **other},
            {"path": f"{tmp_path}/secret", "content": "hush-hush", "sensitive": True},
        ],
        "_ansible_diff": True,
        "_ansible_verbosity": 4,
        "_ansible_inject_invocation": True,
    }
    with patch_module_args(args), pytest.raises(SystemExit):
        host_files.main()
    out = capsys.readouterr().out
    assert json.loads(out)["invocation"]["module_args"]["files"][1]["path"] == f"{tmp_path}/secret"
    assert "hush" not in out
    assert "hush" not in " ".join(logged)


def test_no_content_at_all_goes_to_the_system_log(tmp_path: Path, run: Runner, logged: list[str]) -> None:
    run("host_files", {"files": [{"path": f"{tmp_path}/f", "content": "a page of text"}]})
    assert "page" not in " ".join(logged)
    assert f"{tmp_path}/f" in " ".join(logged)
