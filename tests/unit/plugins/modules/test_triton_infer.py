# Copyright (c) 2026, The gpufleet.triton authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import typing as t
from pathlib import Path

import pytest
from ansible_collections.gpufleet.triton.plugins.module_utils import _argspec
from ansible_collections.gpufleet.triton.plugins.module_utils._http import HttpConnectError, HttpTimeoutError
from ansible_collections.gpufleet.triton.tests.unit.plugins.module_utils.scripted import RESTRICTED, Call, Script, error
from ansible_collections.gpufleet.triton.tests.unit.plugins.modules.runner import Runner

INFER = "/v2/models/m/infer"
ANSWER = {"model_name": "m", "model_version": "1", "outputs": [{"name": "OUT", "datatype": "INT32", "shape": [1], "data": [5]}]}
ARGS: dict[str, t.Any] = {"model": "m", "inputs": [{"name": "IN", "datatype": "INT32", "shape": [1], "data": [4]}]}
UNKNOWN = error("Request for unknown model: 'm' is not found")
SKIPPED = {"inferred": False, "outputs": [], "latency": None, "problems": [], "changed": False}


@pytest.mark.parametrize("check", [True, False])
def test_infer(run: Runner, check: bool) -> None:
    result = run("triton_infer", {**ARGS, "expect": [{"name": "OUT", "data": 5}]}, Script(Call("POST", INFER, answer=ANSWER)), check=check)
    assert (result["changed"], result["inferred"], result["problems"]) == (False, True, [])
    assert result["outputs"][0]["data"] == [5]
    assert result["latency"]["count"] == 1
    assert not result.get("failed")


@pytest.mark.parametrize("check", [True, False])
def test_all_that_is_missed_is_told(run: Runner, check: bool) -> None:
    args = {**ARGS, "expect": [{"name": "OUT", "data": [6]}, {"name": "NONE", "data": [6]}], "max_latency_ms": 0.000001}
    result = run("triton_infer", args, Script(Call("POST", INFER, answer=ANSWER)), check=check)
    assert (result["failed"], result["changed"], len(result["problems"])) == (True, False, 3)
    for words in ("at [0] wanted 6, got 5", "'NONE' of model 'm' is expected and did not come", "is too slow"):
        assert words in result["msg"]
    assert result["outputs"][0]["data"] == [5]


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (Call("POST", INFER, 404, UNKNOWN), "Load it with triton_model"),
        (Call("POST", INFER, 403, RESTRICTED), "No admin key was given"),
        (Call("POST", INFER, error=HttpConnectError("POST: connection refused")), "refused"),
        (Call("POST", INFER, error=HttpTimeoutError("POST: no answer within 10 s")), "within 10 s"),
        (Call("POST", INFER, 502, "Bad Gateway"), "A gateway answers in place of Triton"),
    ],
)
def test_a_model_that_cannot_be_asked(run: Runner, call: Call, words: str) -> None:
    call.used = 0
    result = run("triton_infer", ARGS, Script(call))
    assert result["failed"] is True
    assert words in result["msg"]
    assert result["problems"][0]["what"]


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (Call("POST", INFER, error=HttpConnectError("POST: connection refused")), "connection refused"),
        (Call("POST", INFER, 404, UNKNOWN), "unknown model"),
    ],
)
def test_check_mode_goes_on_where_there_is_no_model_yet(run: Runner, call: Call, words: str) -> None:
    """On a bare host the tasks before this one have only pretended to install the server and to load the model."""
    call.used = 0
    result = run("triton_infer", ARGS, Script(call), check=True)
    assert {key: result[key] for key in SKIPPED} == SKIPPED
    assert "No inference was made" in str(result["warnings"])
    assert words in str(result["warnings"])


@pytest.mark.parametrize("missing", ["library", "key", "file"])
def test_check_mode_goes_on_without_what_a_run_would_bring(
    run: Runner, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, missing: str
) -> None:
    args = dict(ARGS)
    if missing == "key":
        args["admin_key_file"] = str(tmp_path / "admin.key")
    elif missing == "file":
        args["inputs"] = [{"name": "IN", "file": str(tmp_path / "in.npy")}]
    else:
        monkeypatch.setattr(_argspec, "REQUESTS_IMPORT_ERROR", "ImportError: no requests")
    # An empty script: no request is made.
    assert run("triton_infer", args, Script(), check=True)["inferred"] is False
    assert run("triton_infer", args, Script())["failed"] is True


@pytest.mark.parametrize("check", [True, False])
@pytest.mark.parametrize(
    ("args", "words"),
    [
        ({}, "missing required arguments: model"),
        ({"model": "a/b"}, "Cannot use 'a/b' as the name of a model"),
        ({"model": "m", "inputs": [{"name": "A"}]}, "one of the following is required: data, data_base64, file"),
        ({"model": "m", "inputs": [{"name": "A", "data": [1], "file": "/f"}]}, "mutually exclusive"),
        ({"model": "m", "expect": [{"name": "A", "data": [1], "data_base64": []}]}, "mutually exclusive"),
        ({"model": "m", "inputs": [{"name": "A", "data": [1], "datatype": "float"}]}, "Write FP32."),
        ({"model": "m", "repeat": 0, "warmup": -1}, "Cannot use warmup=-1"),
        ({"model": "m", "binary": "maybe"}, "value of binary must be one of"),
        ({"model": "m", "latency_percentile": "p90"}, "value of latency_percentile must be one of"),
        ({"model": "m", "timeout": 0}, "Cannot use timeout=0"),
    ],
)
def test_bad_input(run: Runner, args: dict[str, t.Any], words: str, check: bool) -> None:
    result = run("triton_infer", args, check=check)
    assert result["failed"] is True
    assert words in result["msg"]


@pytest.mark.parametrize(("given", "form"), [(True, "octet-stream"), (False, ""), ("auto", "")])
def test_binary_is_a_word_or_a_boolean(run: Runner, given: t.Any, form: str) -> None:
    script = Script(Call("POST", INFER, answer=ANSWER))
    run("triton_infer", {**ARGS, "binary": given}, script)
    assert form in script.headers[INFER].get("Content-Type", "")
    assert bool(form) is ("Content-Type" in script.headers[INFER])
    assert (b"binary_data_output" in script.bodies[INFER]) is (given is not False)
