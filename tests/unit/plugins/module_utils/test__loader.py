# Copyright (c) 2026, The gpufleet.triton authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import typing as t

import pytest
from ansible_collections.gpufleet.triton.plugins.module_utils._client import ModeError, NameRefusedError, TritonClient
from ansible_collections.gpufleet.triton.plugins.module_utils._container import Report, clean_log
from ansible_collections.gpufleet.triton.plugins.module_utils._http import HttpConnectError, HttpLostError, HttpTimeoutError
from ansible_collections.gpufleet.triton.plugins.module_utils._loader import Loader, Outcome, diff_of, explain_failures, predicted
from ansible_collections.gpufleet.triton.plugins.module_utils._state import Wanted
from ansible_collections.gpufleet.triton.tests.unit.plugins.module_utils.scripted import (
    POLL_MODE,
    Call,
    Clock,
    Script,
    error,
    index,
    load,
    not_served,
    ready,
    row,
    served,
    unload,
)

GONE = row("m", 1, "UNAVAILABLE", "unloaded")


class Log:
    """A container whose log is known."""

    def __init__(self, *lines: str) -> None:
        self.lines = clean_log("\n".join(lines).encode())

    def logs(self, since: float) -> list[str]:
        assert since > 0
        return self.lines


def go(wanted: list[Wanted], *calls: Call, **options: t.Any) -> tuple[list[Outcome], Loader, Script]:
    script, clock = Script(*calls), Clock()
    loader = Loader(TritonClient(script), clock=clock, sleep=clock.sleep, **{"parallel": 1, **options})
    outcomes = loader.apply(loader.plan(wanted))
    script.finish()
    return outcomes, loader, script


def test_nothing_to_do_is_one_index_and_one_config_each() -> None:
    names = [f"m{number}" for number in range(20)]
    wanted = [Wanted(name, digest=f"sha256:{name}", versions=(1,)) for name in names]
    calls = index(*[ready(name) for name in names]), *[served(name, f"sha256:{name}") for name in names]
    outcomes, _loader, script = go(wanted, *calls, parallel=4)
    assert [outcome.action for outcome in outcomes] == ["none"] * 20
    assert len(script.log) == 21


def test_nothing_to_unload_is_one_index() -> None:
    _outcomes, _loader, script = go([Wanted("m", "unloaded")], index(GONE))
    assert len(script.log) == 1


def test_load() -> None:
    [outcome], _loader, script = go(
        [Wanted("m", digest="sha256:a")], index(row("m")), load("m"), index(ready("m")), served("m", "sha256:a")
    )
    assert outcome.as_dict() == {
        "name": "m",
        "action": "loaded",
        "before": {"state": "UNKNOWN", "versions": [], "digest": None},
        "after": {"state": "READY", "versions": [1], "digest": "sha256:a"},
        "elapsed": 0.0,
    }
    assert script.resets == 1, "what is read afterwards goes over connections that no load holds"
    assert script.timeouts["/v2/repository/models/m/load"] == 300.0


def test_load_that_did_nothing() -> None:
    [outcome], _loader, _script = go(
        [Wanted("m", digest="sha256:b")],
        index(ready("m"), times=2),
        served("m", "sha256:a", times=2),
        load("m"),
    )
    assert outcome.action == "none"
    assert "The load did nothing" in str(outcome.error)


def test_failed_reload_keeps_the_old_model() -> None:
    text = "load failed for model 'm': version 2 is at UNAVAILABLE state: Internal: no weights"
    [outcome], _loader, _script = go(
        [Wanted("m", digest="sha256:b")],
        index(ready("m"), times=2),
        served("m", "sha256:a", times=2),
        load("m", 400, error(text)),
    )
    assert outcome.action == "none"
    assert "no weights" in str(outcome.error)
    assert "keeps serving the old content, version 1 with digest sha256:a" in str(outcome.error)


def test_failures_do_not_stop_the_others() -> None:
    failed = row("bad", 1, "UNAVAILABLE", "Internal: no weights")
    outcomes, _loader, _script = go(
        [Wanted("bad"), Wanted("m"), Wanted("nope")],
        index(row("bad"), row("m")),
        not_served("nope", times=2),
        load("bad", 400, error("load failed for model 'bad': no weights")),
        load("m"),
        load("nope", 500, error("failed to load 'nope', failed to poll from model repository")),
        index(failed, ready("m")),
        served("m"),
    )
    assert [(outcome.failed, outcome.action) for outcome in outcomes] == [(True, "loaded"), (False, "loaded"), (True, "none")]
    text = explain_failures(outcomes)
    assert text.startswith("2 of 3 models failed: [bad] Cannot load model 'bad': HTTP 400. Load failed for model 'bad': no weights.")
    assert "[nope]" in text
    assert "The repository has no directory of that name" in text


def test_the_cause_of_a_generic_500_is_in_the_log() -> None:
    log = Log("E1124 01:25:46.7 1 x.cc:1] \"Poll failed for model directory 'm': failed to read text proto\"")
    [outcome], _loader, _script = go(
        [Wanted("m")],
        index(row("m"), times=2),
        load("m", 500, error("failed to load 'm', failed to poll from model repository")),
        container=log,
    )
    assert "Failed to read text proto" in str(outcome.error)


def test_a_generic_500_without_a_log_says_where_to_look() -> None:
    [outcome], _loader, _script = go(
        [Wanted("m")],
        index(row("m"), times=2),
        load("m", 500, error("failed to load 'm', failed to poll from model repository")),
    )
    assert "Poll failed for model directory 'm'" in str(outcome.error)


def test_a_load_that_never_ends() -> None:
    log = Log("I1124 1 390 pb_stub.cc:2105]  Failed to preinitialize Python stub: Python model file not found in '/models/m/1/model.py'")
    [outcome], _loader, _script = go(
        [Wanted("m")],
        index(row("m")),
        load("m", error=HttpTimeoutError("POST load: no answer within 5 s")),
        index(row("m", 1, "LOADING")),
        wait_timeout=5,
        container=log,
    )
    assert "did not end within the 5 s of wait_timeout: version 1 is LOADING" in str(outcome.error)
    assert "Python model file not found" in str(outcome.error)
    assert "restart the server" in str(outcome.error)
    assert outcome.after is not None
    assert outcome.after.state == "LOADING"


def test_the_server_dies_during_a_load() -> None:
    refused = HttpConnectError("POST index: connection refused", "nothing listens there", "start it")
    outcomes, _loader, _script = go(
        [Wanted("m"), Wanted("n")],
        index(row("m"), row("n")),
        load("m", error=HttpLostError("POST load: the server closed the connection")),
        load("n", error=refused),
        Call("POST", "/v2/repository/index", error=refused),
    )
    assert [outcome.as_dict()["after"] for outcome in outcomes] == [None, None]
    report = Report("triton", "exited", 137, True)
    text = explain_failures(outcomes, report)
    assert "The server went away while it worked on model 'm'" in text
    assert "[n] POST index: connection refused" in text
    assert "ran out of memory (exit code 137)" in text


def test_poll_mode() -> None:
    outcomes, _loader, _script = go(
        [Wanted("m"), Wanted("n", "unloaded")],
        index(row("m"), ready("n"), times=2),
        served("n", times=2),
        unload("n", 503, POLL_MODE),
        load("m", 503, POLL_MODE),
    )
    assert all(isinstance(outcome.error, ModeError) for outcome in outcomes)
    assert [outcome.action for outcome in outcomes] == ["none", "none"]


def test_unload_waits_for_its_end() -> None:
    [outcome], _loader, _script = go(
        [Wanted("m", "unloaded")],
        index(ready("m")),
        served("m", "sha256:a"),
        unload("m", body=None),
        index(row("m", 1, "UNLOADING"), times=2),
        index(GONE, times=2),
        interval=0.5,
    )
    assert outcome.as_dict() == {
        "name": "m",
        "action": "unloaded",
        "before": {"state": "READY", "versions": [1], "digest": "sha256:a"},
        "after": {"state": "UNAVAILABLE", "versions": [], "digest": None},
        "elapsed": 1.0,
    }


def test_unload_that_does_not_end() -> None:
    [outcome], _loader, _script = go(
        [Wanted("m", "unloaded")],
        index(ready("m")),
        served("m"),
        unload("m"),
        index(row("m", 1, "UNLOADING"), times=4),
        interval=1,
        wait_timeout=2,
    )
    assert "did not leave the server in time: version 1 UNLOADING" in str(outcome.error)


def test_an_unload_that_did_not_begin_is_asked_for_again() -> None:
    [outcome], _loader, _script = go(
        [Wanted("m", "unloaded")],
        index(ready("m")),
        served("m"),
        unload("m", times=2),
        index(ready("m"), times=3),
        index(GONE, times=2),
        interval=1,
    )
    assert (outcome.action, outcome.failed, outcome.elapsed) == ("unloaded", False, 3.0)


def test_an_unload_by_somebody_else_is_waited_for_and_no_change() -> None:
    [outcome], _loader, _script = go([Wanted("m", "unloaded")], index(row("m", 1, "UNLOADING")), index(GONE, times=2))
    assert (outcome.action, outcome.failed) == ("none", False)


def test_a_step_that_its_ensemble_brought_back_is_not_called_unloaded() -> None:
    outcomes, _loader, _script = go(
        [Wanted("pair"), Wanted("step", "unloaded")],
        index(row("pair"), row("step")),
        load("pair"),
        index(ready("pair"), ready("step")),
        served("pair"),
        served("step"),
    )
    assert [outcome.failed for outcome in outcomes] == [False, True]
    assert "Model 'step' was to be unloaded, but is on the server" in str(outcomes[1].error)


def test_unloads_come_before_loads() -> None:
    _outcomes, _loader, script = go(
        [Wanted("new"), Wanted("m", "unloaded")],
        index(row("new"), ready("m")),
        served("m"),
        unload("m"),
        index(row("new"), GONE),
        load("new"),
        index(ready("new"), GONE),
        served("new"),
    )
    order = [line for line in script.log if "/models/" in line and "repository" in line]
    assert order == ["POST /v2/repository/models/m/unload", "POST /v2/repository/models/new/load"]


def test_an_ensemble_is_unloaded_before_its_steps() -> None:
    """Whatever their order in the list, and at any parallelism: the unload of a step would take the ensemble down."""
    gone = [row(name, 1, "UNAVAILABLE", "unloaded") for name in ("a", "b", "pair")]
    _outcomes, _loader, script = go(
        [Wanted("a", "unloaded"), Wanted("b", "unloaded"), Wanted("pair", "unloaded")],
        index(ready("a"), ready("b"), ready("pair")),
        served("a"),
        served("b"),
        served("pair", **ensemble("a", "b")),
        unload("pair"),
        index(ready("a"), ready("b"), gone[2]),
        unload("a"),
        unload("b"),
        index(*gone, times=2),
        parallel=4,
    )
    unloads = [line for line in script.log if line.endswith("/unload")]
    assert unloads[0] == "POST /v2/repository/models/pair/unload"


def test_what_an_ensemble_was_made_of_goes_when_it_is_made_of_something_else() -> None:
    gone = row("old", 1, "UNAVAILABLE", "unloaded")
    outcomes, loader, script = go(
        [Wanted("pair", digest="sha256:2", steps=("new",)), Wanted("new"), Wanted("old", "unloaded")],
        index(ready("pair"), row("new"), ready("old")),
        served("pair", "sha256:1", **ensemble("old")),
        served("old"),
        load("new"),
        load("pair"),
        unload("old"),
        index(ready("pair"), ready("new"), gone, times=2),
        served("new"),
        served("pair", "sha256:2", times=2, **ensemble("new")),
        parallel=4,
    )
    assert not any(outcome.failed for outcome in outcomes) and loader.warnings == []
    posts = [line.rpartition("models/")[2] for line in script.log if "/repository/models/" in line]
    assert posts == ["new/load", "pair/load", "old/unload"]


def test_what_an_ensemble_is_made_of_stays_when_its_new_content_does_not_load() -> None:
    outcomes, _loader, script = go(
        [Wanted("pair", digest="sha256:2", steps=("new",)), Wanted("old", "unloaded")],
        index(ready("pair"), ready("old")),
        served("pair", "sha256:1", **ensemble("old")),
        served("old"),
        load("pair", 400, error("load failed for model 'pair': version 1 is at UNAVAILABLE state: Internal: no;")),
        index(ready("pair"), ready("old")),
        served("pair", "sha256:1", times=2, **ensemble("old")),
        served("old"),
    )
    assert [outcome.failed for outcome in outcomes] == [True, True]
    assert "The ensemble 'pair' still runs it" in str(outcomes[1].error)
    assert not any(line.endswith("/unload") for line in script.log)


def test_the_steps_of_a_new_ensemble_are_known_from_the_caller() -> None:
    _outcomes, _loader, script = go(
        [Wanted("pair", steps=("a",)), Wanted("a")],
        index(row("pair"), row("a")),
        load("a"),
        load("pair"),
        index(ready("pair"), ready("a")),
        served("a"),
        served("pair", **ensemble("a")),
        parallel=4,
    )
    loads = [line for line in script.log if line.endswith("/load")]
    assert loads == ["POST /v2/repository/models/a/load", "POST /v2/repository/models/pair/load"]


def test_a_load_waits_for_the_end_of_an_unload() -> None:
    _outcomes, _loader, script = go(
        [Wanted("m")],
        index(row("m", 1, "UNLOADING"), times=2),
        index(GONE),
        load("m"),
        index(ready("m")),
        served("m"),
    )
    assert script.log.index("POST /v2/repository/models/m/load") == 3


def test_reload_without_a_new_digest_unloads_first() -> None:
    [outcome], _loader, script = go(
        [Wanted("m", "reloaded", digest="sha256:a")],
        index(ready("m")),
        served("m", "sha256:a", times=2),
        unload("m"),
        index(GONE),
        load("m"),
        index(ready("m")),
    )
    assert (outcome.action, outcome.failed) == ("reloaded", False)
    posts = [line.rsplit("/", 1)[-1] for line in script.log if line.startswith("POST /v2/repository/models")]
    assert posts == ["unload", "load"]


def test_reload_of_a_new_digest_does_not_interrupt() -> None:
    [outcome], _loader, script = go(
        [Wanted("m", "reloaded", digest="sha256:b")],
        index(ready("m"), times=2),
        served("m", "sha256:a"),
        load("m"),
        served("m", "sha256:b", times=2),
    )
    assert (outcome.action, outcome.failed) == ("reloaded", False)
    assert not any("unload" in line for line in script.log)


def test_reload_of_a_new_digest_that_the_load_did_not_take() -> None:
    """Older files than at the last load: Triton takes them for unchanged."""
    [outcome], _loader, _script = go(
        [Wanted("m", "reloaded", digest="sha256:b")],
        index(ready("m")),
        served("m", "sha256:a", times=2),
        load("m", times=2),
        unload("m"),
        index(GONE),
        index(ready("m")),
        served("m", "sha256:b"),
    )
    assert (outcome.action, outcome.failed) == ("reloaded", False)


def test_a_configuration_is_sent_with_the_digest() -> None:
    sent = '{"max_batch_size": 16, "parameters": {"gpufleet.digest": {"string_value": "sha256:a"}}}'
    [outcome], loader, _script = go(
        [Wanted("m", config={"max_batch_size": 16}, digest="sha256:a")],
        index(row("m")),
        load("m", body={"parameters": {"config": sent}}),
        index(ready("m")),
        Call("GET", "/v2/models/m/config", answer={"max_batch_size": 16, "parameters": {"gpufleet.digest": {"string_value": "sha256:a"}}}),
    )
    assert (outcome.action, outcome.failed, loader.warnings) == ("loaded", False, [])


def test_a_configuration_that_triton_changes_gives_a_warning() -> None:
    [outcome], loader, _script = go(
        [Wanted("m", config={"max_batch_size": 16})], index(row("m")), load("m"), index(ready("m")), served("m")
    )
    assert not outcome.failed
    assert "another value at max_batch_size" in loader.warnings[0]


def ensemble(*steps: str) -> dict[str, t.Any]:
    return {"ensemble_scheduling": {"step": [{"model_name": step} for step in steps]}}


def test_an_ensemble_is_loaded_after_its_steps() -> None:
    _outcomes, _loader, script = go(
        [Wanted("pair", config=ensemble("a", "b")), Wanted("a"), Wanted("b")],
        index(row("pair"), row("a"), row("b")),
        load("a"),
        load("b"),
        load("pair"),
        index(ready("pair"), ready("a"), ready("b")),
        served("a"),
        served("b"),
        served("pair", **ensemble("a", "b")),
        parallel=4,
    )
    loads = [line for line in script.log if line.endswith("/load")]
    assert sorted(loads[:2]) == ["POST /v2/repository/models/a/load", "POST /v2/repository/models/b/load"]
    assert loads[2] == "POST /v2/repository/models/pair/load"


def test_an_ensemble_that_came_too_early_is_tried_again() -> None:
    text = "load failed for model 'pair': ensemble 'pair' depends on 'a' which has no loaded version. Model 'a' loading failed"
    outcomes, _loader, _script = go(
        [Wanted("pair"), Wanted("a", config={"max_batch_size": 8})],
        index(row("pair"), row("a")),
        load("pair", 400, error(text)),
        load("a"),
        load("pair"),
        index(ready("pair"), ready("a")),
        served("pair"),
        served("a"),
    )
    assert [outcome.failed for outcome in outcomes] == [False, False]


def test_an_ensemble_whose_step_failed_is_not_tried_again() -> None:
    text = "load failed for model 'pair': ensemble 'pair' depends on 'a' which has no loaded version"
    outcomes, _loader, _script = go(
        [Wanted("pair"), Wanted("a")],
        index(row("pair"), row("a"), times=2),
        load("pair", 400, error(text)),
        load("a", 400, error("load failed for model 'a': no weights")),
    )
    assert [outcome.failed for outcome in outcomes] == [True, True]


def test_an_unload_that_takes_an_ensemble_down_gives_a_warning() -> None:
    _outcomes, loader, _script = go(
        [Wanted("m", "unloaded")],
        index(ready("m"), ready("pair")),
        served("m"),
        unload("m"),
        index(GONE, row("pair", 1, "UNAVAILABLE", "unloaded"), times=2),
    )
    assert "Model 'pair' was READY before and is UNAVAILABLE now" in loader.warnings[0]


def test_an_unload_that_takes_a_wanted_ensemble_down_is_an_error() -> None:
    down = row("pair", 1, "UNAVAILABLE", "unloaded")
    outcomes, _loader, _script = go(
        [Wanted("pair"), Wanted("m", "unloaded")],
        index(ready("m"), ready("pair")),
        served("m"),
        served("pair"),
        unload("m"),
        index(GONE, down, times=2),
    )
    assert [outcome.failed for outcome in outcomes] == [True, False]
    assert "one of its steps was" in str(outcomes[0].error)


def test_the_steps_of_an_ensemble_are_waited_for_with_unload_dependents() -> None:
    down = row("pair", 1, "UNAVAILABLE", "unloaded")
    [outcome], loader, _script = go(
        [Wanted("pair", "unloaded")],
        index(ready("m"), ready("pair")),
        served("pair", **ensemble("m")),
        unload("pair", body={"parameters": {"unload_dependents": True}}),
        index(row("m", 1, "UNLOADING"), down),
        index(GONE, down, times=2),
        unload_dependents=True,
    )
    assert (outcome.failed, loader.warnings) == (False, [])


def test_a_model_whose_directory_is_gone_is_unloaded() -> None:
    [outcome], _loader, _script = go(
        [Wanted("m", "unloaded")],
        index(times=4),
        served("m", "sha256:a", times=2),
        Call("GET", "/v2/models/m", answer={"name": "m", "versions": ["1"]}, times=2),
        unload("m"),
        not_served("m", times=2),
    )
    assert outcome.step.before.summary() == {"state": "READY", "versions": [1], "digest": "sha256:a"}
    assert outcome.as_dict()["after"] == {"state": "ABSENT", "versions": [], "digest": None}


def test_an_older_server() -> None:
    """Before 24.01 everything is a 400."""
    outcomes, _loader, _script = go(
        [Wanted("m"), Wanted("nope")],
        index(row("m"), times=2),
        not_served("nope", times=2, status=400),
        load("m", 400, POLL_MODE),
        load("nope", 400, error("failed to load 'nope', failed to poll from model repository")),
    )
    assert "explicit control mode" in str(outcomes[0].error)
    assert "no directory of that name" in str(outcomes[1].error)


def test_the_time_is_over_before_a_model_is_begun_with() -> None:
    script, clock = Script(index(row("m"), row("n")), load("m"), index(ready("m"), row("n")), served("m")), Clock()

    class Slow(Script):
        def request(self, method: str, path: str, body: t.Any = None, timeout: float | None = None) -> t.Any:
            clock.now += 3
            return script.request(method, path, body, timeout)

    loader = Loader(TritonClient(Slow()), wait_timeout=5, parallel=1, clock=clock, sleep=clock.sleep)
    outcomes = loader.apply(loader.plan([Wanted("m"), Wanted("n")]))
    script.finish()
    assert [outcome.failed for outcome in outcomes] == [False, True]
    assert "The 5 s of wait_timeout were over" in str(outcomes[1].error)


def test_names_are_refused_before_any_request() -> None:
    with pytest.raises(NameRefusedError):
        go([Wanted("good"), Wanted("../bad")])


def test_check_mode_only_reads() -> None:
    script = Script(index(ready("m"), row("n")), served("m", "sha256:a"))
    steps = Loader(TritonClient(script)).plan([Wanted("m", digest="sha256:b"), Wanted("n")])
    script.finish()
    results = [predicted(step) for step in steps]
    assert [result["action"] for result in results] == ["reloaded", "loaded"]
    assert diff_of([*results, {"name": "o", "action": "none"}]) == {
        "before": {
            "m": {"state": "READY", "versions": [1], "digest": "sha256:a"},
            "n": {"state": "UNKNOWN", "versions": [], "digest": None},
        },
        "after": {
            "m": {"state": "READY", "versions": [1], "digest": "sha256:b"},
            "n": {"state": "READY", "versions": [], "digest": None},
        },
    }
