# Copyright (c) 2026, The gpufleet.triton authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import typing as t

import pytest
from ansible_collections.gpufleet.triton.plugins.module_utils._http import HttpConnectError, HttpTimeoutError, HttpTlsError
from ansible_collections.gpufleet.triton.tests.unit.plugins.module_utils.scripted import (
    RESTRICTED,
    TRITON,
    Call,
    Script,
    index,
    ready,
    row,
    served,
)
from ansible_collections.gpufleet.triton.tests.unit.plugins.modules.runner import Runner

LIVE = "/v2/health/live"
REFUSED = HttpConnectError("GET: connection refused", "nothing listens there", "start it")


def good(times: int = 1) -> list[Call]:
    return [
        Call("GET", "/v2", answer=TRITON),
        Call("GET", LIVE, times=times),
        Call("GET", "/v2/health/ready", times=times),
    ]


def test_ready(run: Runner) -> None:
    script = Script(*good(), index(ready("m")), served("m", "sha256:a"))
    result = run("triton_health", {"models": [{"name": "m", "versions": [1], "digest": "sha256:a"}]}, script)
    assert (result["ready"], result["attempts"], result["problems"], result["changed"]) == (True, 1, [], False)
    assert result["models"] == [{"name": "m", "ready": True, "state": "READY", "versions": [1], "digest": "sha256:a"}]


def test_live(run: Runner) -> None:
    script = Script(Call("GET", "/v2", answer=TRITON), Call("GET", LIVE))
    result = run("triton_health", {"level": "live", "models": [{"name": "m"}]}, script)
    assert (result["ready"], result["models"]) == (True, [])


def test_it_waits(run: Runner) -> None:
    script = Script(
        Call("GET", LIVE, error=REFUSED, times=2),
        *good(times=2),
        index(row("m", 1, "LOADING")),
        index(ready("m")),
        served("m"),
    )
    result = run("triton_health", {"models": [{"name": "m"}], "interval": 0.01}, script)
    assert (result["ready"], result["attempts"]) == (True, 4)


def test_several_looks(run: Runner) -> None:
    script = Script(*good(times=3), index(times=3))
    assert run("triton_health", {"consecutive": 3, "interval": 0.01}, script)["attempts"] == 3


def test_timeout_tells_why(run: Runner) -> None:
    script = Script(*good(times=1), index(row("m")))
    result = run("triton_health", {"models": [{"name": "m"}]}, script, check=True)
    assert (result["ready"], result.get("failed")) == (False, None)
    script = Script(*good(times=2), index(row("m"), times=2))
    result = run("triton_health", {"models": [{"name": "m"}], "wait_timeout": 0.02, "interval": 1}, script)
    assert result["failed"] is True
    assert "Model 'm' is in the repository, but was never loaded" in result["msg"]
    assert result["problems"][0]["remedy"]
    assert result["models"][0]["state"] == "UNKNOWN"


@pytest.mark.parametrize("error", [REFUSED, HttpTimeoutError("GET: no answer"), HttpTlsError("GET: does not verify")])
def test_check_mode_looks_once_and_does_not_fail(run: Runner, error: Exception) -> None:
    result = run("triton_health", {}, Script(Call("GET", LIVE, error=error)), check=True)
    assert (result["ready"], result["attempts"], result.get("failed")) == (False, 1, None)
    assert result["problems"][0]["what"] == str(error.args[0])


def test_check_mode_when_ready(run: Runner) -> None:
    script = Script(*good(), index(ready("m")), served("m"))
    assert run("triton_health", {"models": [{"name": "m"}], "consecutive": 5}, script, check=True)["ready"] is True


@pytest.mark.parametrize(
    ("calls", "words"),
    [
        ([Call("GET", LIVE, error=HttpTlsError("GET: does not verify"))], "does not verify"),
        ([Call("GET", LIVE, 403, RESTRICTED)], "HTTP 403"),
        ([Call("GET", LIVE, 401)], "HTTP 401"),
    ],
)
def test_what_waiting_does_not_cure_fails_at_once(run: Runner, calls: list[Call], words: str) -> None:
    result = run("triton_health", {}, Script(*calls))
    assert result["failed"] is True
    assert words in result["msg"]


def test_something_else_on_the_port_is_waited_for_and_told(run: Runner) -> None:
    page = Call("GET", LIVE, 404, "<html>", times=2), Call("GET", "/v2", 404, "<html>", times=2)
    result = run("triton_health", {"wait_timeout": 0.02}, Script(*page))
    assert "something else than Triton answers" in result["msg"]


@pytest.mark.parametrize("check", [True, False])
def test_names_are_refused_before_any_request(run: Runner, check: bool) -> None:
    result = run("triton_health", {"models": [{"name": "../x"}]}, Script(), check=check)
    assert result["failed"] is True
    assert "as the name of a model" in result["msg"]


@pytest.mark.parametrize(
    ("args", "words"),
    [
        ({"interval": 0}, "Cannot use interval=0"),
        ({"level": "up"}, "value of level must be one of"),
        ({"consecutive": 0}, "Cannot use consecutive=0"),
        ({"models": [{"versions": [1]}]}, "missing required arguments: name"),
    ],
)
def test_bad_input(run: Runner, args: dict[str, t.Any], words: str) -> None:
    assert words in run("triton_health", args)["msg"]
