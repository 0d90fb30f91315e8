# Copyright (c) 2026, The gpufleet.triton authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import json
import typing as t
from pathlib import Path

import pytest
import yaml
from ansible_collections.gpufleet.triton.plugins.module_utils import _gpu, _verify_host
from ansible_collections.gpufleet.triton.plugins.module_utils._http import HttpConnectError
from ansible_collections.gpufleet.triton.plugins.modules import gpu_verify
from ansible_collections.gpufleet.triton.tests.unit.plugins.module_utils.gpu_host import KERNEL, GpuHost
from ansible_collections.gpufleet.triton.tests.unit.plugins.module_utils.scripted import TRITON, Call, Script, index, ready
from ansible_collections.gpufleet.triton.tests.unit.plugins.modules.runner import Runner
from ansible_collections.gpufleet.triton.tests.unit.plugins.modules.test_return_documented import documented, fields

DOCUMENTED = yaml.safe_load(gpu_verify.RETURN)
ANSWER = {"model_name": "m", "model_version": "1", "outputs": [{"name": "OUT", "datatype": "FP32", "shape": [1], "data": [0]}]}


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> GpuHost:
    host = GpuHost(tmp_path, monkeypatch)
    made = _gpu.Machine
    monkeypatch.setattr(_gpu, "Machine", lambda _run: made(host.run, str(tmp_path), KERNEL))
    monkeypatch.setattr(_verify_host.RealHost, "inspect", lambda _self: None)
    return host


@pytest.fixture
def options(tmp_path: Path) -> dict[str, t.Any]:
    return {"container": "", "report": str(tmp_path / "run/new/verified.json"), "metrics_url": "", "textfile_directory": str(tmp_path)}


def serving() -> Script:
    return Script(
        Call("GET", "/v2/health/live"),
        Call("GET", "/v2", answer=TRITON, times=2),
        Call("GET", "/v2/health/ready"),
        index(ready("m"), times=2),
        Call("GET", "/v2/models/m", answer={"inputs": []}),
        Call("POST", "/v2/models/m/infer", answer=ANSWER),
    )


def test_what_is_written(run: Runner, host: GpuHost, options: dict[str, t.Any], tmp_path: Path) -> None:
    result = run("gpu_verify", options, serving())
    assert (result["fit"], result["accelerator"], result["changed"]) == (True, "cpu", False)
    assert result["written"] == [options["report"], str(tmp_path / "gpufleet_verify.prom")]
    report = json.loads(Path(options["report"]).read_text())
    assert (report["fit"], report["verdict"]) == (True, result["verdict"])
    assert "gpufleet_verify_fit 1\n" in (tmp_path / "gpufleet_verify.prom").read_text()


def test_check_mode_writes_nothing_and_says_so(run: Runner, host: GpuHost, options: dict[str, t.Any], tmp_path: Path) -> None:
    result = run("gpu_verify", options, serving(), check=True)
    assert result["fit"]
    assert result["written"] == []
    assert result["verdict"].endswith("(check mode: nothing was written)")
    assert list(tmp_path.rglob("*")) == []


def test_a_folder_that_is_not_there(run: Runner, host: GpuHost, options: dict[str, t.Any], tmp_path: Path) -> None:
    result = run("gpu_verify", {**options, "textfile_directory": str(tmp_path / "none")}, serving())
    assert result["failed"]
    assert "none/gpufleet_verify.prom: No such file or directory" in result["msg"]
    assert "Fit to serve" in result["msg"]


def test_a_report_without_a_place(run: Runner, host: GpuHost, options: dict[str, t.Any]) -> None:
    assert "wanted a path from the root on" in run("gpu_verify", {**options, "report": "verified.json"})["msg"]


def test_results_are_documented(run: Runner, host: GpuHost, options: dict[str, t.Any]) -> None:
    seen: set[str] = set()
    host.healthy(2)
    host.smi["gpus"][1]["lost"] = True
    refused = HttpConnectError("GET: connection refused", "nothing listens there", "start it")
    down = Script(Call("GET", "/v2/health/live", error=refused))
    results = [run("gpu_verify", options), run("gpu_verify", {**options, "accelerator": "cpu", "report": ""}, down)]
    for result in results:
        assert result.pop("changed") is False
        assert result["fit"] is False
        assert set(result) == set(DOCUMENTED)
        fields(result, DOCUMENTED, "", seen)
    assert set(documented(DOCUMENTED)) - seen == set(), "documented, and in no result"
