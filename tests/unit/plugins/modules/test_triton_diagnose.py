# Copyright (c) 2026, The gpufleet.triton authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import typing as t
from pathlib import Path

import pytest
import yaml
from ansible_collections.gpufleet.triton.plugins.module_utils import _gpu
from ansible_collections.gpufleet.triton.plugins.modules import triton_diagnose
from ansible_collections.gpufleet.triton.tests.unit.plugins.module_utils.gpu_host import KERNEL, GpuHost
from ansible_collections.gpufleet.triton.tests.unit.plugins.module_utils.scripted import Call, Script, index, row
from ansible_collections.gpufleet.triton.tests.unit.plugins.modules.runner import Runner
from ansible_collections.gpufleet.triton.tests.unit.plugins.modules.test_return_documented import documented, fields

DOCUMENTED = yaml.safe_load(triton_diagnose.RETURN)


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> GpuHost:
    host = GpuHost(tmp_path, monkeypatch)
    made = _gpu.Machine
    monkeypatch.setattr(_gpu, "Machine", lambda _run: made(host.run, str(tmp_path), KERNEL))
    return host


def options(host: GpuHost, **more: t.Any) -> dict[str, t.Any]:
    return {"models": str(host.root), "docker_socket": str(host.root / "no.sock"), **more}


def test_results_are_documented(run: Runner, host: GpuHost) -> None:
    failed = index(row("m", 1, "UNAVAILABLE", "Internal: no weights"))
    script = Script(Call("GET", "/v2/health/live"), Call("GET", "/v2/health/ready", 400), failed)
    seen: set[str] = set()
    result = run("triton_diagnose", options(host), script, check=True)
    assert result.pop("changed") is False
    assert set(result) == set(DOCUMENTED)
    fields(result, DOCUMENTED, "", seen)
    assert set(documented(DOCUMENTED)) - seen == set(), "documented, and in no result"
    assert result["trouble"] is True
    assert "Model 'm' version 1 failed to load" in [finding["what"] for finding in result["findings"]]


def test_a_complaint_narrows_it(run: Runner, host: GpuHost) -> None:
    result = run("triton_diagnose", options(host, complaint="gpu"), Script())
    assert [finding["complaint"] for finding in result["findings"]] == ["gpu"]
    assert result["verdict"].startswith("GPU not available: This host has no NVIDIA GPU.")
    result = run("triton_diagnose", options(host, complaint="memory"), Script())
    assert (result["trouble"], result["text"]) == (False, ["out of memory: no sign of it"])


def test_a_complaint_that_there_is_not(run: Runner, host: GpuHost) -> None:
    assert "value of complaint must be one or more of: gpu, model" in run("triton_diagnose", options(host, complaint="disk"))["msg"]
