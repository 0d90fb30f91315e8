# Copyright (c) 2026, The gpufleet.triton authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pytest
from ansible_collections.gpufleet.triton.plugins.module_utils._http import HttpConnectError
from ansible_collections.gpufleet.triton.tests.unit.plugins.module_utils.scripted import (
    RESTRICTED,
    TRITON,
    Call,
    Script,
    index,
    ready,
    served,
)
from ansible_collections.gpufleet.triton.tests.unit.plugins.modules.runner import Runner


@pytest.mark.parametrize("check", [True, False])
def test_info(run: Runner, check: bool) -> None:
    script = Script(
        Call("GET", "/v2", answer=TRITON),
        Call("GET", "/v2/health/live"),
        Call("GET", "/v2/health/ready"),
        Call("GET", "/v2/models/stats", answer={"model_stats": []}),
        index(ready("m")),
        served("m", "sha256:a"),
    )
    result = run("triton_info", {}, script, check=check)
    assert (result["changed"], result["live"], result["ready"]) == (False, True, True)
    assert result["server"]["version"] == "2.51.0"
    assert result["models"][0]["digest"] == "sha256:a"


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (Call("GET", "/v2", error=HttpConnectError("GET: connection refused")), "refused"),
        (Call("GET", "/v2", 404, "<html>"), "something else than Triton"),
        (Call("GET", "/v2", 403, RESTRICTED), "No admin key was given"),
        (Call("GET", "/v2", 500, "oops"), "HTTP 500"),
    ],
)
def test_a_server_that_cannot_be_asked(run: Runner, call: Call, words: str) -> None:
    result = run("triton_info", {}, Script(call))
    assert result["failed"] is True
    assert words in result["msg"]
