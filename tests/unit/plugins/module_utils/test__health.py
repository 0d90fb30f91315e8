# Copyright (c) 2026, The gpufleet.triton authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import typing as t

import pytest
from ansible_collections.gpufleet.triton.plugins.module_utils._client import AccessError, NameRefusedError, TritonClient
from ansible_collections.gpufleet.triton.plugins.module_utils._container import Report
from ansible_collections.gpufleet.triton.plugins.module_utils._health import HealthCheck, Seen, explain, problems_of
from ansible_collections.gpufleet.triton.plugins.module_utils._http import HttpConnectError
from ansible_collections.gpufleet.triton.plugins.module_utils._state import Wanted
from ansible_collections.gpufleet.triton.plugins.module_utils._waiter import Waited, Waiter
from ansible_collections.gpufleet.triton.tests.unit.plugins.module_utils.scripted import (
    RESTRICTED,
    TRITON,
    Call,
    Clock,
    Script,
    error,
    index,
    not_served,
    ready,
    row,
    served,
)


def live(status: int = 200, times: int = 1) -> Call:
    return Call("GET", "/v2/health/live", status, times=times)


def server_ready(status: int = 200, times: int = 1) -> Call:
    return Call("GET", "/v2/health/ready", status, times=times)


def identity() -> Call:
    return Call("GET", "/v2", answer=TRITON)


def look(wanted: list[Wanted], *calls: Call, level: str = "ready", key: bool = False) -> Seen:
    script = Script(*calls)
    seen = HealthCheck(TritonClient(script, key_given=key), wanted, level).probe()
    script.finish()
    return seen


def test_live() -> None:
    assert look([Wanted("m")], live(), identity(), level="live").good


def test_live_needs_a_triton() -> None:
    with pytest.raises(Exception, match="something else than Triton"):
        look([], live(), Call("GET", "/v2"), level="live")


def test_a_server_that_restricts_its_metadata_is_one() -> None:
    assert look([], live(), Call("GET", "/v2", 403, RESTRICTED), level="live").good


def test_not_live() -> None:
    seen = look([], live(400), identity())
    assert not seen.good
    assert "initialisation failed" in seen.problems[0].why


def test_ready() -> None:
    seen = look(
        [Wanted("m", versions=(1,), digest="sha256:a")],
        live(),
        identity(),
        server_ready(),
        index(ready("m"), row("other")),
        served("m", "sha256:a"),
    )
    assert (seen.good, seen.remarks) == (True, [])
    assert seen.models == [{"name": "m", "ready": True, "state": "READY", "versions": [1], "digest": "sha256:a"}]


def test_ready_without_the_wanted_model_is_not_ready() -> None:
    """Triton is ready with nothing loaded at all."""
    seen = look([Wanted("m")], live(), identity(), server_ready(), index(row("m")))
    assert seen.ready
    assert not seen.good
    assert "never loaded" in seen.problems[0].what


def test_absent_in_the_index() -> None:
    seen = look([Wanted("m")], live(), identity(), server_ready(), index(), not_served("m"))
    assert "not in the server's repository" in seen.problems[0].what


def test_a_model_that_left_the_repository_still_serves() -> None:
    metadata = Call("GET", "/v2/models/m", answer={"versions": ["3"]})
    seen = look([Wanted("m", versions=(3,))], live(), identity(), server_ready(), index(), served("m"), metadata)
    assert seen.good


def test_stale_digest() -> None:
    wanted = [Wanted("m", digest="sha256:b")]
    seen = look(wanted, live(), identity(), server_ready(), index(ready("m")), served("m", "sha256:a"))
    assert "serves digest sha256:a, wanted sha256:b" in seen.problems[0].what


def test_not_ready_only_because_of_a_failed_load_that_sticks() -> None:
    failed = row("bad", 1, "UNAVAILABLE", "Internal: no weights")
    seen = look([Wanted("m")], live(), identity(), server_ready(400), index(ready("m"), failed), served("m"))
    assert [problem.what for problem in seen.problems] == ["The server is not ready because of a failed load: bad version 1 UNAVAILABLE"]
    assert "restart the server" in seen.problems[0].remedy
    assert seen.models[0]["ready"]


def test_something_that_is_not_wanted_failed_and_the_server_is_ready() -> None:
    failed = row("bad", 1, "UNAVAILABLE", "Internal: no weights")
    seen = look([Wanted("m")], live(), identity(), server_ready(), index(ready("m"), failed), served("m"))
    assert seen.good
    assert "bad" in seen.remarks[0].what


def restricted() -> Call:
    return Call("POST", "/v2/repository/index", 403, RESTRICTED)


def model_ready(status: int, version: int | None = None) -> Call:
    path = "/v2/models/m/ready" if version is None else f"/v2/models/m/versions/{version}/ready"
    return Call("GET", path, status, None if status == 200 else error("Model version not ready"))


def test_restricted_index_without_a_key() -> None:
    seen = look(
        [Wanted("m", versions=(1,), digest="sha256:a")],
        live(),
        identity(),
        server_ready(),
        restricted(),
        model_ready(200, 1),
        model_ready(200),
        Call("GET", "/v2/models/m", answer={"versions": ["1", "2"]}),
        served("m", "sha256:a"),
    )
    assert seen.good
    assert seen.models == [{"name": "m", "ready": True, "state": "READY", "versions": [1, 2], "digest": "sha256:a"}]
    assert "restricted" in seen.remarks[0].what


@pytest.mark.parametrize("status", [400, 404])
def test_restricted_index_and_a_model_that_is_not_ready(status: int) -> None:
    seen = look([Wanted("m")], live(), identity(), server_ready(400), restricted(), model_ready(status))
    assert [problem.what for problem in seen.problems] == ["Model 'm' is not READY", "The server says that it is not ready"]


def test_restricted_index_and_a_version_that_is_not_ready() -> None:
    seen = look(
        [Wanted("m", versions=(2,))],
        live(),
        identity(),
        server_ready(),
        restricted(),
        model_ready(400, 2),
        model_ready(200),
        Call("GET", "/v2/models/m", answer={"versions": ["1"]}),
        served("m"),
    )
    assert "Version 2 of model 'm' is not READY (READY: 1)" in seen.problems[0].what


def test_a_wrong_key_is_not_waited_for() -> None:
    with pytest.raises(AccessError, match="HTTP 403") as caught:
        look([Wanted("m")], live(), identity(), server_ready(), restricted(), key=True)
    assert not caught.value.transient


def test_names_are_refused_before_any_request() -> None:
    with pytest.raises(NameRefusedError):
        HealthCheck(TritonClient(Script()), [Wanted("a/b")])


class Ended:
    """A container in states that follow each other."""

    def __init__(self, *states: str) -> None:
        self.states = list(states)

    def ended(self) -> str:
        state = self.states.pop(0)
        return state if state in ("exited", "dead", "created") else ""


def wait_for_refused(container: t.Any, timeout: float = 10) -> Waited[Seen]:
    clock = Clock()
    refused = HttpConnectError("refused", "nothing listens there", "start it")
    script = Script(Call("GET", "/v2/health/live", error=refused, times=99))
    check = HealthCheck(TritonClient(script), container=container)
    return check.wait(Waiter(timeout, clock=clock, sleep=clock.sleep))


def test_a_container_that_ended_is_not_waited_for() -> None:
    waited = wait_for_refused(Ended("running", "exited", "exited", "exited"))
    assert (waited.attempts, waited.done) == (4, False)
    assert waited.gave_up == "its container was seen exited 3 times in a row"


def test_a_container_that_comes_back_is_waited_for() -> None:
    states = ["exited", "exited", "restarting", "exited", "exited", "running", "running", "running", "dead", "dead", "running"]
    waited = wait_for_refused(Ended(*states))
    assert (waited.attempts, waited.gave_up) == (11, "")


def test_without_a_container_the_time_is_what_ends_it() -> None:
    waited = wait_for_refused(None)
    assert (waited.attempts, waited.elapsed, waited.gave_up) == (11, 10, "")


def test_problems_best_explanation_first() -> None:
    waited = wait_for_refused(None)
    found = problems_of(waited, Report("triton", "exited", 1))
    assert [problem.what.split(" ")[0] for problem in found] == ["Container", "refused"]
    assert explain(waited, found, "ready").startswith("The server was not ready after 10 s and 11 attempts. Container 'triton' is exited")
    assert explain(waited, found, "ready").endswith("1 more in problems.")
    unknown = problems_of(waited, Report("triton", note="no SDK"))
    assert [problem.what.split(" ")[0] for problem in unknown] == ["refused", "Cannot"]


def test_a_running_container_is_no_problem() -> None:
    assert [problem.what for problem in problems_of(wait_for_refused(None), Report("triton", "running"))] == ["refused"]


def test_good_but_not_often_enough() -> None:
    waited: Waited[Seen] = Waited(False, Seen(live=True), None, 3.0, 2)
    assert explain(waited, [], "live") == (
        "The server was not live after 3 s and 2 attempts: no state was stable for the number of looks wanted."
    )
