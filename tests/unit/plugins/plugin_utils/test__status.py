# Copyright (c) 2026, The gpufleet.triton authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Each way in which what is wanted, on disk and served can differ."""

from __future__ import annotations

import json
from typing import Any, Callable

import pytest
from ansible_collections.gpufleet.triton.plugins.plugin_utils import _status
from ansible_collections.gpufleet.triton.tests.unit.plugins.plugin_utils.fleet import (
    FAILURE,
    NOW,
    Found,
    digest,
    failed,
    moving,
    never_loaded,
    serving,
    unloaded,
)

OLD, NEW = digest(77), digest(78)


def status(found: Found) -> dict[str, Any]:
    facts = found.facts()
    before = json.dumps(facts, sort_keys=True)
    result = _status.host_status(facts, NOW)
    assert json.dumps(facts, sort_keys=True) == before, "what goes in is read only"
    assert json.loads(json.dumps(result)) == result, "what comes out is plain data"
    return result


def row(found: Found, name: str = "m") -> dict[str, Any]:
    return next(row for row in status(found)["models"] if row["name"] == name)


def plan(**values: Any) -> Callable[[Found], None]:
    return lambda found: found.plan["m"].update(values)


def index(entry: dict[str, Any]) -> Callable[[Found], None]:
    return lambda found: found.index.update(m=entry)


def wanted(state: str) -> Callable[[Found], None]:
    return lambda found: found.models[0].update(state=state)


def given(**values: Any) -> Callable[[Found], None]:
    return lambda found: found.given.update(values)


def off_disk(found: Found) -> None:
    del found.disk["m"]


def off_list(found: Found) -> None:
    """Listed no more, while another model still is."""
    found.models = [{"name": "other", "state": "loaded"}]
    found.plan = {"other": {"name": "other", "action": "none", "digest": digest(5)}}
    found.disk["other"] = {"name": "other", "managed": True, "digest": digest(5), "versions": [1]}
    found.index["other"] = serving("other", digest(5))


def unmanaged(found: Found) -> None:
    found.disk["m"].update(managed=False, digest=None, published=None)


def out_of_index(found: Found) -> None:
    del found.index["m"]


def restricted(found: Found) -> None:
    found.server["problems"] = [{"what": "The repository index is restricted and no admin key was given (403)", "why": "", "remedy": ""}]


def published(found: Found) -> None:
    """A first publish: nothing on disk, nothing served."""
    off_disk(found)
    out_of_index(found)
    found.plan["m"].update(action="published", digest=NEW, previous_digest=None)


# Each case: what is done to a host where all is well, the model's status, and words of why and of what a run would do.
CASES = {
    "in sync": ([], "in_sync", "", ""),
    "in sync: two versions": ([index(serving("m", digest(1), 1, 2))], "in_sync", "", ""),
    "unloaded as wanted": ([wanted("unloaded"), index(unloaded("m"))], "in_sync", "", ""),
    "never loaded as wanted": ([wanted("unloaded"), index(never_loaded("m"))], "in_sync", "", ""),
    "failed before, now wanted unloaded": ([wanted("unloaded"), index(failed("m"))], "in_sync", "", ""),
    "absent as wanted": ([wanted("absent"), off_disk, out_of_index], "in_sync", "", ""),
    "a first publish": ([published], "publish", "It is not on disk", "publishes it, and loads it"),
    "a first publish, unloaded": ([published, wanted("unloaded")], "publish", "", "publishes it, and leaves it unloaded"),
    "a first publish in poll mode": ([published, given(control_mode="poll")], "publish", "", "waits for the poll that loads it"),
    "new content": (
        [plan(action="published", digest=NEW, previous_digest=digest(1), reasons=["1 file differs"], changes={"changed": ["1/model.py"]})],
        "publish",
        "1 file differs. Files: 1 changed.",
        "publishes it, and reloads it",
    ),
    "new content, wanted unloaded, served": (
        [wanted("unloaded"), plan(action="published", digest=NEW)],
        "publish",
        "another than the one wanted",
        "publishes it, and unloads it",
    ),
    "new content, server kept down": (
        [plan(action="published", digest=NEW), given(server_state="stopped", server={})],
        "publish",
        "",
        "publishes it",
    ),
    "changed by hand": ([plan(action="repaired")], "publish", "not those that were published", "repairs it, and reloads it"),
    "not asked for and not on disk": ([off_disk, lambda found: found.plan.clear()], "unknown", "could not be compared", ""),
    "rolled back on disk": ([plan(action="published", digest=NEW)], "publish", "", "publishes it"),
    "unloaded by somebody": ([index(unloaded("m"))], "load", "It was unloaded", "loads it"),
    "never loaded": ([index(never_loaded("m"))], "load", "never loaded", "loads it"),
    "on disk and not in the index": ([out_of_index], "load", "never loaded", "loads it"),
    "not noticed by the poll yet": ([out_of_index, given(control_mode="poll")], "load", "", "waits for the poll that loads it"),
    "mode none": ([index(never_loaded("m")), given(control_mode="none")], "load", "", "only a restart"),
    "loading": ([index(moving("m", "LOADING"))], "loading", "some loads never end", "waits"),
    "unloading": ([index(moving("m", "UNLOADING"))], "unloading", "unloading it", "waits"),
    "unloading as wanted": ([wanted("unloaded"), index(moving("m", "UNLOADING"))], "unloading", "a request", "waits"),
    "failed": ([index(failed("m"))], "failed", "Its load failed", "loads it again"),
    "one version failed": (
        [lambda found: found.index["m"]["versions"].append({"version": 2, "state": "UNAVAILABLE", "reason": FAILURE})],
        "failed",
        "One of its versions",
        "correct the model",
    ),
    "stale": ([index(serving("m", OLD))], "stale", "not loaded since", "reloads it"),
    "stale without a digest": ([index(serving("m", None))], "stale", "no digest", "reloads it"),
    "stale in poll mode": ([index(serving("m", OLD)), given(control_mode="poll")], "stale", "", "the poll that reloads it"),
    "a failed reload": (
        [
            index(serving("m", OLD)),
            lambda found: found.index["m"]["versions"].append({"version": 2, "state": "UNAVAILABLE", "reason": FAILURE}),
        ],
        "stale",
        "keeps serving the content from before",
        "reloads it",
    ),
    "served, wanted unloaded": ([wanted("unloaded")], "unload", "READY", "unloads it"),
    "served, wanted unloaded, poll mode": ([wanted("unloaded"), given(control_mode="poll")], "unload", "", "cannot unload it in mode poll"),
    "loading, wanted unloaded": ([wanted("unloaded"), index(moving("m", "LOADING"))], "unload", "LOADING", "unloads it"),
    "served, wanted absent": ([wanted("absent")], "remove", "on disk and served", "unloads and removes it"),
    "on disk, wanted absent": ([wanted("absent"), index(unloaded("m"))], "remove", "on disk", "removes it"),
    "served from nowhere, wanted absent": ([wanted("absent"), off_disk], "remove", "served", "unloads and removes it"),
    "foreign": ([off_list], "foreign", "on disk and served", "triton_models_purge is false"),
    "foreign, purge unload": ([off_list, given(purge="unload")], "foreign", "", "unloads it"),
    "foreign, unloaded, purge unload": ([off_list, index(unloaded("m")), given(purge="unload")], "foreign", "", "leaves it"),
    "foreign, purge remove": ([off_list, given(purge="remove")], "foreign", "", "unloads and removes it"),
    "foreign, not served, purge remove": ([off_list, out_of_index, given(purge="remove")], "foreign", "on disk, and", "removes it"),
    "foreign and somebody else's": ([off_list, unmanaged, given(purge="remove")], "foreign", "", "did not publish it"),
    "foreign, not on disk": ([off_list, off_disk], "foreign", "It is served", "leaves it"),
    "foreign, in the index alone": ([off_list, off_disk, index(failed("m"))], "foreign", "in the server's index", "leaves it"),
    "server not asked": ([given(server={"msg": "refused"})], "unknown", "could not be asked", "loads it"),
    "index restricted": ([restricted, out_of_index], "unknown", "restricted", "loads it"),
    "index restricted, served": ([restricted], "in_sync", "", ""),
    "repository not looked at": ([given(repository={})], "unknown", "could not be compared", ""),
    "repository not looked at, failed": ([given(repository={}), index(failed("m"))], "failed", "", ""),
    "repository not looked at, absent": (
        [given(repository={}), wanted("absent"), out_of_index],
        "unknown",
        "not looked at",
        "",
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_each_status(case: str) -> None:
    found = Found()
    changes, wanted_status, why, would = CASES[case]
    for change in changes:
        change(found)
    result = row(found)
    assert (result["status"], result["differs"]) == (wanted_status, wanted_status != "in_sync"), result
    assert why in result["why"] and would in result["would"], result
    assert bool(result["why"]) == (wanted_status != "in_sync")
    if not would:
        assert result["would"] == ""


def test_each_status_is_tried() -> None:
    assert {case[1] for case in CASES.values()} == set(_status.MODEL_STATUSES)


def test_what_a_row_tells() -> None:
    found = Found()
    plan(action="published", digest=NEW, previous_digest=digest(1))(found)
    index(serving("m", OLD, 1, 3))(found)
    found.disk["m"]["versions"] = [1, 2]
    result = row(found)
    assert (result["digest_wanted"], result["digest_disk"], result["digest_served"]) == (NEW, digest(1), OLD)
    assert (result["versions"], result["versions_disk"], result["state"]) == ([1, 3], [1, 2], "READY")
    assert (result["wanted"], result["published"]) == ("loaded", "2026-11-20T01:00:00Z")


def test_content_that_only_the_host_can_fetch_has_no_digest_yet() -> None:
    """The plan then gives the digest on disk, which is not the one that is wanted."""
    found = Found()
    plan(action="published")(found)
    assert row(found)["digest_wanted"] is None


def test_tritons_reason_is_kept_word_for_word_and_once() -> None:
    found = Found()
    entry = failed("m", "<b>same</b>\nreason")
    entry["versions"].append({"version": 2, "state": "UNAVAILABLE", "reason": "<b>same</b>\nreason"})
    entry["versions"].append({"version": 3, "state": "UNAVAILABLE", "reason": "another"})
    index(entry)(found)
    assert row(found)["reason"] == "<b>same</b>\nreason\nanother"


@pytest.mark.parametrize(("record", "known"), [("", False), ("no json {", False), ("[1]", False), (None, True)])
def test_what_was_recorded_as_tested(record: str | None, known: bool) -> None:
    found = Found()
    if record is not None:
        found.given["record"] = record
    assert row(found)["recorded"] is known
    index(serving("m", OLD))(found)
    assert row(found)["recorded"] is False
    index(unloaded("m"))(found)
    assert row(found)["recorded"] is None


def test_rows_stand_in_the_inventorys_order_and_foreign_ones_last() -> None:
    found = Found("z", "a", "m", "b")
    found.models = [entry for entry in found.models if entry["name"] not in ("m", "b")]
    assert [(row["name"], row["status"]) for row in status(found)["models"]] == [
        ("z", "in_sync"),
        ("a", "in_sync"),
        ("b", "foreign"),
        ("m", "foreign"),
    ]


def test_a_folder_that_people_put_models_into() -> None:
    """With no list there is nothing to differ from, and what lies in the folder is shown."""
    found = Found()
    found.models, found.plan = [], {}
    found.given["control_mode"] = "poll"
    result = status(found)
    assert result["models"][0]["status"] == "foreign"
    assert (result["models"][0]["differs"], result["differs"]) == (False, False)
    assert _status.model_level(result["models"][0]) == "note"


def test_a_source_that_is_refused_hides_nothing_else() -> None:
    """The module then fails, tells what it could find out, and names the models that it refuses."""
    found = Found("bad", "good", "broken")
    problems = [
        {"model": "bad", "severity": "error", "what": "Cannot find the folder nowhere on the controller.", "remedy": "correct src"},
        {"model": "good", "severity": "warning", "what": "It has no warm-up", "why": "", "remedy": ""},
        {"model": "broken", "severity": "error", "what": "Cannot read config.pbtxt", "why": "line 3", "remedy": ""},
    ]
    found.index["broken"] = failed("broken")
    found.given["repository"] = {
        "failed": False,
        "msg": "Cannot publish bad",
        "models": [found.plan["good"]],
        "on_disk": list(found.disk.values()),
        "problems": problems,
    }
    result = status(found)
    rows = {row["name"]: row for row in result["models"]}
    assert {name: row["status"] for name, row in rows.items()} == {"bad": "unknown", "good": "in_sync", "broken": "failed"}
    assert "Cannot find the folder nowhere on the controller." in rows["bad"]["why"]
    assert rows["bad"]["digest_disk"] == digest(1)
    assert rows["bad"]["would"] == rows["broken"]["would"] == "fails before anything is touched"
    assert result["differs"]
    assert [problem["why"] for problem in result["problems"]] == ["It refuses bad, broken, and checks all models before it begins with one"]


def test_a_comparison_that_failed_as_a_whole() -> None:
    found = Found()
    found.given["repository"] = {"msg": "Task failed: no room"}
    result = status(found)
    assert result["models"][0]["status"] == "unknown"
    assert result["problems"][0]["why"] == "no room"
    index(failed("m"))(found)
    assert row(found)["status"] == "failed"


def gone(**values: Any) -> Callable[[Found], None]:
    def change(found: Found) -> None:
        assert found.container is not None
        found.container.update(running=False, **values)
        found.given["server"] = {}

    return change


def without_container(found: Found) -> None:
    found.container = None
    found.given["server"] = {}


def looked(**values: Any) -> Callable[[Found], None]:
    def change(found: Found) -> None:
        found.looked.update(values)
        found.container = None
        found.given["server"] = {}

    return change


def server(**values: Any) -> Callable[[Found], None]:
    return lambda found: found.server.update(values)


STICKY = [{"what": "The server is not ready because of a failed load", "why": "of old", "remedy": "restart it"}]
HOSTS = {
    "ready": ([], "ready", "", False),
    "unreachable": ([given(unreachable="Task failed: no route to host")], "unreachable", "no route to host", True),
    "not looked at": ([given(error="undefined variable")], "unknown", "undefined variable", True),
    "no Docker": ([looked(docker={"installed": False, "running": False})], "no_engine", "not installed", True),
    "Docker down": ([looked(docker={"installed": True, "running": False, "error": "refused"})], "no_engine", "refused", True),
    "nothing looked at": ([given(looked={}, server={})], "no_engine", "not installed", True),
    "no container": ([without_container], "absent", "no container triton", True),
    "killed": ([gone(status="exited", exit_code=137, oom_killed=True)], "stopped", "code 137, killed for lack of memory", True),
    "start refused": ([gone(status="created", error="port is taken")], "stopped", "port is taken", True),
    "crash loop": ([gone(status="restarting", exit_code=1)], "stopped", "each time that it is started (2 restarts)", True),
    "not answering": ([given(server={"msg": "connection refused"})], "not_answering", "connection refused", True),
    "not asked": ([given(server={})], "not_answering", "was not asked", True),
    "not live": ([server(live=False, ready=False)], "not_live", "initialisation failed", True),
    "not ready": ([server(ready=False, problems=STICKY)], "not_ready", "because of a failed load", True),
    "not ready, no cause": ([server(ready=False)], "not_ready", "no cause", True),
    "stopped as wanted": ([gone(status="exited"), given(server_state="stopped", server={})], "stopped", "exited", False),
    "never there, wanted stopped": ([without_container, given(server_state="stopped", server={})], "absent", "", False),
    "absent as wanted": ([without_container, given(server_state="absent", server={})], "absent", "", False),
    "running, wanted stopped": ([given(server_state="stopped")], "ready", "", True),
    "no container of ours": ([without_container, given(container="", server=Found().facts()["server"])], "ready", "", False),
}


@pytest.mark.parametrize("case", HOSTS)
def test_each_state_of_a_host(case: str) -> None:
    found = Found()
    changes, state, why, differs = HOSTS[case]
    for change in changes:
        change(found)
    result = status(found)
    assert (result["state"], result["state_differs"], result["differs"]) == (state, differs, differs), result
    assert why in result["why"], result
    assert _status.host_level(result) == ("ok" if not differs else _status.HOST_STATES[state].level)


def test_each_state_is_tried() -> None:
    assert {case[1] for case in HOSTS.values()} == set(_status.HOST_STATES)


def test_models_of_a_server_that_is_kept_down() -> None:
    """What is on disk as wanted is all that can be wanted of it."""
    found = Found("m", "n")
    gone(status="exited")(found)
    found.given["server_state"] = "stopped"
    plan(action="published", digest=NEW)(found)
    assert {row["name"]: row["status"] for row in status(found)["models"]} == {"m": "publish", "n": "in_sync"}


@pytest.mark.parametrize("key", ["unreachable", "error"])
def test_nothing_is_said_of_what_was_not_seen(key: str) -> None:
    result = _status.host_status({"host": "gpu9", "models": [{"name": "m"}], "control_mode": "explicit", key: "why"}, NOW)
    assert result["models"] == [] and result["models_listed"] == 1
    assert set(result["server"].values()) == {None}


def test_what_else_is_told_of_a_host() -> None:
    result = status(Found())
    assert result["server"] == {"version": "2.72.0", "release": "26.08", "control_mode": "explicit", "live": True, "ready": True}
    assert result["container"]["up_seconds"] == 3 * 86400 + 3 * 3600 + 27 * 60 + 57
    assert result["container"]["restart_count"] == 2
    assert result["unit"] == {"active_state": "active", "enabled": True}
    assert (result["disk"]["free_bytes"], result["disk"]["total_bytes"]) == (123_456_789_012, 10**12)
    assert result["last_published"] == "2026-11-20T01:00:00Z"


@pytest.mark.parametrize(("started", "seconds"), [("2026-11-24T05:00:00Z", 0), ("", None), ("yesterday", None), (None, None)])
def test_an_uptime_that_cannot_be(started: str | None, seconds: int | None) -> None:
    """A host's clock may be ahead, and an engine may not say."""
    found = Found()
    assert found.container is not None
    found.container["started_at"] = started
    assert status(found)["container"]["up_seconds"] == seconds


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"read_only": True}, "read-only"),
        ({"exists": False}, "does not exist"),
        ({"error": "did not answer within 10 seconds"}, "could not be looked at"),
    ],
)
def test_what_is_wrong_with_the_disk(change: dict[str, Any], text: str) -> None:
    found = Found()
    found.looked["paths"][0].update(change)
    assert text in status(found)["problems"][0]["what"]


def test_a_container_that_somebody_started_past_its_unit() -> None:
    found = Found()
    found.looked["units"]["triton.service"]["active_state"] = "inactive"
    assert "The unit is inactive" in status(found)["problems"][0]["what"]


def test_a_fleet_is_counted() -> None:
    found = Found("m", "n")
    index(failed("m"))(found)
    hosts = [status(Found(host="gpu0")), status(found), _status.unseen("gpu2", "left"), _status.unseen("gpu3", "far", unreachable=True)]
    fleet = _status.fleet_status(hosts, NOW)
    assert fleet["summary"] == {
        "hosts": 4,
        "hosts_differ": 3,
        "models": 3,
        "models_differ": 1,
        "host_states": {"unreachable": 1, "unknown": 1, "ready": 2},
        "model_statuses": {"failed": 1, "in_sync": 2},
    }
    assert (fleet["differs"], fleet["generated"], fleet["format"]) == (True, "2026-11-24T04:30:00Z", 1)
    assert [host["name"] for host in fleet["hosts"]] == ["gpu0", "gpu1", "gpu2", "gpu3"]
    assert not _status.fleet_status(hosts[:1], NOW)["differs"]
    assert not _status.fleet_status([], NOW)["differs"]


def test_what_is_broken_in_form_breaks_nothing() -> None:
    """Results of modules come from hosts, and may be anything at all."""
    for facts in (
        {"host": "x", "looked": [], "repository": 3, "server": "no", "models": "none"},
        {"host": "x", "looked": {"docker": 1, "container": [], "paths": {}, "units": []}, "repository": {"models": [1], "on_disk": [2]}},
        {"host": "x", "server": {"server": {}, "models": [{"name": "m", "versions": None}], "problems": None}, "container": ""},
        {"host": "x", "models": [{"state": "loaded"}, 7, {"name": 5}], "server": {"server": {}}, "container": "", "repository": {}},
    ):
        assert _status.host_status(facts, NOW)["name"] == "x"
