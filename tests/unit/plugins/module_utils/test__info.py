# Copyright (c) 2026, The gpufleet.triton authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pytest
from ansible_collections.gpufleet.triton.plugins.module_utils._client import AccessError, TritonClient
from ansible_collections.gpufleet.triton.plugins.module_utils._info import Info
from ansible_collections.gpufleet.triton.tests.unit.plugins.module_utils.scripted import (
    RESTRICTED,
    TRITON,
    Call,
    Script,
    config,
    error,
    index,
    ready,
    row,
    served,
)

LIVE = "/v2/health/live"
READY = "/v2/health/ready"
STATS = "/v2/models/stats"


def start() -> list[Call]:
    return [Call("GET", "/v2", answer=TRITON), Call("GET", LIVE), Call("GET", READY)]


def stats(*rows: dict[str, object]) -> Call:
    return Call("GET", STATS, answer={"model_stats": list(rows)})


def test_models() -> None:
    script = Script(*start(), stats(), index(ready("m", 1, 2), row("never")), served("m", "sha256:a"))
    found = Info(TritonClient(script)).collect()
    script.finish()
    assert found["server"] == TRITON
    assert (found["live"], found["ready"], found["problems"]) == (True, True, [])
    assert found["index"][2] == {"name": "never", "version": None, "state": "", "reason": ""}
    assert found["models"] == [
        {
            "name": "m",
            "state": "READY",
            "digest": "sha256:a",
            "versions": [{"version": 1, "state": "READY", "reason": ""}, {"version": 2, "state": "READY", "reason": ""}],
        },
        {"name": "never", "state": "UNKNOWN", "digest": None, "versions": []},
    ]


def test_nothing_but_the_index() -> None:
    script = Script(*start(), index(ready("m")))
    found = Info(TritonClient(script), []).collect()
    script.finish()
    assert (len(found["index"]), found["models"]) == (1, [])


def test_config_and_statistics() -> None:
    counted = stats({"name": "m", "version": "1", "inference_count": 3})
    script = Script(*start(), index(ready("m"), row("never")), served("m"), counted)
    m, never = Info(TritonClient(script), ["config", "statistics"]).collect()["models"]
    script.finish()
    assert m["config"] == config("m")
    assert m["statistics"] == [{"name": "m", "version": "1", "inference_count": 3}]
    assert (never["config"], never["statistics"]) == (None, [])


def test_a_model_whose_folder_was_taken_away_is_served_all_the_same() -> None:
    script = Script(*start(), stats({"name": "m", "version": "1"}, {"name": "ghost", "version": "2"}), index(ready("m")))
    script.calls += [served("m"), served("ghost", "sha256:a")]
    found = Info(TritonClient(script)).collect()
    script.finish()
    assert [(model["name"], model["state"], model["digest"]) for model in found["models"]] == [
        ("m", "READY", None),
        ("ghost", "READY", "sha256:a"),
    ]


def test_restricted_statistics_hide_no_more_than_they_must() -> None:
    script = Script(*start(), Call("GET", STATS, 403, RESTRICTED), index(ready("m")), served("m"))
    found = Info(TritonClient(script)).collect()
    script.finish()
    assert [model["name"] for model in found["models"]] == ["m"]


def test_a_failed_load_is_a_problem() -> None:
    calls = [*start()[:2], Call("GET", READY, 400), stats(), index(row("m", 1, "UNAVAILABLE", "no weights"))]
    script = Script(*calls)
    found = Info(TritonClient(script)).collect()
    script.finish()
    assert found["ready"] is False
    assert "failed load: m version 1" in found["problems"][0]["what"]


def test_restricted_index_without_a_key() -> None:
    script = Script(*start(), Call("POST", "/v2/repository/index", 403, RESTRICTED), stats({"name": "m", "version": "2"}), served("m"))
    found = Info(TritonClient(script)).collect()
    script.finish()
    assert found["index"] == [{"name": "m", "version": 2, "state": "READY", "reason": ""}]
    assert [problem["why"] for problem in found["problems"]] == ["only the models that serve are shown, from their statistics"]


def test_restricted_index_with_a_wrong_key() -> None:
    script = Script(*start(), stats(), Call("POST", "/v2/repository/index", 403, RESTRICTED))
    with pytest.raises(AccessError):
        Info(TritonClient(script, key_given=True)).collect()


def test_a_server_whose_initialisation_failed() -> None:
    not_ready = Call("POST", "/v2/repository/index", 503, error("Server not ready"))
    script = Script(Call("GET", "/v2", answer=TRITON), Call("GET", LIVE, 400), not_ready)
    found = Info(TritonClient(script), ["statistics"]).collect()
    script.finish()
    assert (found["live"], found["ready"], found["models"]) == (False, False, [])
    assert "initialisation failed" in found["problems"][0]["why"]
