# Copyright (c) 2026, The gpufleet.triton authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import typing as t
from pathlib import Path

import pytest
from ansible_collections.gpufleet.triton.plugins.module_utils import _argspec
from ansible_collections.gpufleet.triton.plugins.module_utils._http import HttpConnectError, HttpTimeoutError, HttpTlsError
from ansible_collections.gpufleet.triton.tests.unit.plugins.module_utils.scripted import (
    POLL_MODE,
    RESTRICTED,
    Call,
    Script,
    error,
    index,
    load,
    ready,
    row,
    served,
    unload,
)
from ansible_collections.gpufleet.triton.tests.unit.plugins.modules.runner import Runner

INDEX = "/v2/repository/index"


def test_load(run: Runner) -> None:
    script = Script(index(row("m")), load("m"), index(ready("m")), served("m", "sha256:a"))
    result = run("triton_model", {"name": "m", "digest": "sha256:a", "versions": [1]}, script)
    assert result["changed"] is True
    assert result["models"][0]["action"] == "loaded"
    assert "diff" not in result


def test_nothing_to_do(run: Runner) -> None:
    script = Script(index(ready("m")), served("m", "sha256:a"))
    result = run("triton_model", {"name": "m", "digest": "sha256:a"}, script, diff=True)
    assert result["changed"] is False
    assert result["diff"] == {"before": {}, "after": {}}


@pytest.mark.parametrize("check", [True, False])
def test_the_diff_is_what_changed(run: Runner, check: bool) -> None:
    calls = [index(ready("m")), served("m", "sha256:a")]
    if not check:
        calls += [load("m"), index(ready("m")), served("m", "sha256:b")]
    result = run("triton_model", {"name": "m", "digest": "sha256:b"}, Script(*calls), check=check, diff=True)
    assert result["changed"] is True
    assert result["diff"] == {
        "before": {"m": {"state": "READY", "versions": [1], "digest": "sha256:a"}},
        "after": {"m": {"state": "READY", "versions": [1], "digest": "sha256:b"}},
    }


@pytest.mark.parametrize(("state", "action"), [("loaded", "none"), ("reloaded", "reloaded"), ("unloaded", "unloaded")])
def test_check_mode_predicts_and_only_reads(run: Runner, state: str, action: str) -> None:
    result = run("triton_model", {"name": "m", "state": state}, Script(index(ready("m")), served("m")), check=True)
    assert (result["changed"], result["models"][0]["action"]) == (action != "none", action)


def test_a_models_own_state_comes_first(run: Runner) -> None:
    unloaded = row("b", 1, "UNAVAILABLE", "unloaded")
    script = Script(
        index(row("a"), ready("b")),
        served("b"),
        unload("b"),
        index(row("a"), unloaded),
        load("a"),
        index(ready("a"), unloaded),
        served("a"),
    )
    result = run("triton_model", {"models": [{"name": "a"}, {"name": "b", "state": "unloaded"}]}, script)
    assert [item["action"] for item in result["models"]] == ["loaded", "unloaded"]


def test_failures_are_named_and_all_results_are_there(run: Runner) -> None:
    script = Script(
        index(row("a"), row("b")),
        load("a", 400, error("load failed for model 'a': no weights")),
        load("b"),
        index(row("a", 1, "UNAVAILABLE", "no weights"), ready("b")),
        served("b"),
    )
    result = run("triton_model", {"models": [{"name": "a"}, {"name": "b"}], "parallel": 1}, script)
    assert result["failed"] is True
    assert result["changed"] is True
    assert "[a] Cannot load model 'a': HTTP 400. Load failed for model 'a': no weights" in result["msg"]
    assert "[b]" not in result["msg"]
    assert [item.get("error", "")[:11] for item in result["models"]] == ["Cannot load", ""]


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (Call("POST", INDEX, 403, RESTRICTED), "No admin key was given"),
        (Call("POST", INDEX, 401, "<html>"), "A proxy in front of Triton refuses"),
        (Call("POST", INDEX, 503, error("Server not ready")), "initialisation failed"),
        (Call("POST", INDEX, 502, "Bad Gateway"), "A gateway answers in place of Triton"),
        (Call("POST", INDEX, error=HttpTimeoutError("POST: no answer within 10 s")), "within 10 s"),
        (Call("POST", INDEX, error=HttpTlsError("POST: does not verify")), "verify"),
    ],
)
@pytest.mark.parametrize("check", [True, False])
def test_a_server_that_cannot_be_asked(run: Runner, call: Call, words: str, check: bool) -> None:
    call.used = 0
    result = run("triton_model", {"name": "m"}, Script(call), check=check)
    assert result["failed"] is True
    assert words in result["msg"]
    assert result["problems"][0]["what"]


def test_nobody_listens(run: Runner) -> None:
    call = Call("POST", INDEX, error=HttpConnectError("POST: connection refused"))
    assert "refused" in run("triton_model", {"name": "m"}, Script(call))["msg"]


def test_check_mode_goes_on_where_nobody_listens_yet(run: Runner) -> None:
    """On a bare host the tasks before this one have only pretended to install the server."""
    call = Call("POST", INDEX, error=HttpConnectError("POST: connection refused"))
    models = [{"name": "m"}, {"name": "gone", "state": "unloaded"}]
    result = run("triton_model", {"models": models}, Script(call), check=True)
    assert [(item["name"], item["action"]) for item in result["models"]] == [("m", "loaded"), ("gone", "none")]
    assert result["changed"] is True
    assert "No server was asked" in str(result["warnings"])


@pytest.mark.parametrize("missing", ["library", "key"])
def test_check_mode_goes_on_without_what_a_run_would_bring(
    run: Runner, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, missing: str
) -> None:
    args = {"name": "m"}
    if missing == "key":
        args["admin_key_file"] = str(tmp_path / "admin.key")
    else:
        monkeypatch.setattr(_argspec, "REQUESTS_IMPORT_ERROR", "ImportError: no requests")
    # An empty script: no request is made.
    assert run("triton_model", args, Script(), check=True)["models"][0]["action"] == "loaded"
    assert run("triton_model", args, Script())["failed"] is True


def test_something_else_on_the_port(run: Runner) -> None:
    page = "<html>hello</html>"
    script = Script(Call("POST", INDEX, 404, page), Call("GET", "/v2", 404, page))
    assert "something else than Triton answers" in run("triton_model", {"name": "m"}, script)["msg"]


def test_a_wrong_key(run: Runner) -> None:
    result = run("triton_model", {"name": "m", "admin_key": "sesame"}, Script(Call("POST", INDEX, 403, RESTRICTED)))
    assert "The admin key sent in the header x-gpufleet-admin-key is wrong" in result["msg"]
    assert "sesame" not in str(result)


def test_poll_mode(run: Runner) -> None:
    script = Script(index(row("m"), times=2), load("m", 503, POLL_MODE))
    result = run("triton_model", {"name": "m"}, script)
    assert result["changed"] is False
    assert "does not run in explicit control mode" in result["msg"]


@pytest.mark.parametrize("name", ["", "a/b", "../x", "a\nb"])
@pytest.mark.parametrize("check", [True, False])
def test_names_are_refused_before_any_request(run: Runner, name: str, check: bool) -> None:
    result = run("triton_model", {"models": [{"name": "good"}, {"name": name}]}, Script(), check=check)
    assert "as the name of a model" in result["msg"]


@pytest.mark.parametrize(
    ("args", "words"),
    [
        ({}, "one of the following is required: name, models"),
        ({"name": "m", "models": []}, "mutually exclusive: name|models"),
        ({"models": [], "digest": "x"}, "mutually exclusive: models|digest"),
        ({"name": "m", "admin_key": "sesame", "admin_key_file": "/f"}, "mutually exclusive: admin_key|admin_key_file"),
        ({"name": "m", "client_key": "/k"}, "client_cert"),
        ({"models": [{"name": "m"}, {"name": "m"}]}, "named twice: m"),
        ({"name": "m", "timeout": 0}, "Cannot use timeout=0"),
        ({"name": "m", "wait_timeout": -1}, "Cannot use wait_timeout=-1"),
        ({"name": "m", "parallel": 0}, "Cannot use parallel=0"),
        ({"name": "m", "url": "localhost"}, "Cannot use url 'localhost'"),
        ({"name": "m", "admin_key_file": "/nowhere/admin.key"}, "Cannot read admin_key_file /nowhere/admin.key"),
    ],
)
def test_bad_input(run: Runner, args: dict[str, t.Any], words: str) -> None:
    result = run("triton_model", args)
    assert result["failed"] is True
    assert words in result["msg"]


def test_a_key_file_is_read_and_its_key_hidden(run: Runner, tmp_path: Path) -> None:
    key = tmp_path / "admin.key"
    key.write_text("sesame\n")
    script = Script(Call("POST", INDEX, 400, error("the word was sesame")), Call("GET", "/v2", 404))
    result = run("triton_model", {"name": "m", "admin_key_file": str(key)}, script)
    assert result["failed"] is True
    assert "sesame" not in str(result)


def test_without_requests(run: Runner, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_argspec, "REQUESTS_IMPORT_ERROR", "Traceback: no requests")
    result = run("triton_model", {"name": "m"})
    assert "Failed to import the required Python library (requests)" in result["msg"]


def test_an_engine_that_does_not_answer_is_told_and_hides_nothing(run: Runner, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOCKER_HOST", "tcp://127.0.0.1:1")
    script = Script(Call("POST", INDEX, error=HttpConnectError("POST: connection refused")))
    result = run("triton_model", {"name": "m", "container": "triton"}, script)
    assert result["msg"].startswith("POST: connection refused.")
    assert result["container"]["note"].startswith("the docker engine cannot be asked")
    assert [problem["what"] for problem in result["problems"]] == ["POST: connection refused", "Cannot look at container 'triton'"]
