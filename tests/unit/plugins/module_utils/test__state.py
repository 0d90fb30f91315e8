# Copyright (c) 2026, The gpufleet.triton authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import typing as t

import pytest
from ansible_collections.gpufleet.triton.plugins.module_utils._client import IndexRow
from ansible_collections.gpufleet.triton.plugins.module_utils._state import (
    Model,
    Step,
    Wanted,
    config_difference,
    digest_of,
    duplicates,
    ensemble_steps,
    load_problem,
    models_from,
    plan,
    server_problems,
    wanted_problems,
    waves,
    with_config,
)
from ansible_collections.gpufleet.triton.tests.unit.plugins.module_utils.scripted import config

FAILED = IndexRow("m", 2, "UNAVAILABLE", "Internal: no weights")
UNLOADED = IndexRow("m", 1, "UNAVAILABLE", "unloaded")
READY = IndexRow("m", 1, "READY")
NEVER = IndexRow("m")


def model(*rows: IndexRow, digest: str | None = None, **more: t.Any) -> Model:
    served = config("m", digest, **more) if any(row.state == "READY" for row in rows) else None
    return Model("m", rows, served)


@pytest.mark.parametrize(
    ("rows", "state", "versions", "gone"),
    [
        ([], "ABSENT", [], True),
        ([NEVER], "UNKNOWN", [], True),
        ([UNLOADED], "UNAVAILABLE", [], True),
        ([FAILED], "UNAVAILABLE", [], True),
        ([IndexRow("m", None, "UNAVAILABLE", "model appears in two or more repositories")], "UNAVAILABLE", [], True),
        ([IndexRow("m", 1, "LOADING")], "LOADING", [], False),
        ([IndexRow("m", 1, "UNLOADING"), FAILED], "UNLOADING", [], False),
        ([IndexRow("m", 10, "READY"), FAILED, IndexRow("m", 9, "READY")], "READY", [9, 10], False),
        ([READY, IndexRow("m", 2, "LOADING")], "READY", [1], False),
        ([IndexRow("m", 1, "SOMETHING_NEW")], "UNKNOWN", [], True),
    ],
)
def test_model_states(rows: list[IndexRow], state: str, versions: list[int], gone: bool) -> None:
    found = Model("m", tuple(rows))
    assert (found.state, found.versions, found.gone) == (state, versions, gone)
    assert found.summary() == {"state": state, "versions": versions, "digest": None}


def test_models_from_rows() -> None:
    found = models_from([READY, IndexRow("other"), FAILED])
    assert list(found) == ["m", "other"]
    assert found["m"].rows == (READY, FAILED)


@pytest.mark.parametrize(
    ("served", "digest"),
    [
        (None, None),
        ({}, None),
        ({"parameters": []}, None),
        ({"parameters": {"gpufleet.digest": "x"}}, None),
        ({"parameters": {"gpufleet.digest": {"string_value": ""}}}, None),
        ({"parameters": {"gpufleet.digest": {"string_value": "sha256:a"}}}, "sha256:a"),
    ],
)
def test_digest(served: dict[str, t.Any] | None, digest: str | None) -> None:
    assert digest_of(served) == digest


def test_a_model_that_left_the_repository_and_serves_on() -> None:
    found = with_config(Model("m"), config("m", "sha256:a"), [2, 1])
    assert found.summary() == {"state": "READY", "versions": [1, 2], "digest": "sha256:a"}
    assert with_config(Model("m"), None).state == "ABSENT"


@pytest.mark.parametrize(
    ("wanted", "current", "action"),
    [
        # What is wanted loaded.
        (Wanted("m"), model(), "loaded"),
        (Wanted("m"), model(NEVER), "loaded"),
        (Wanted("m"), model(UNLOADED), "loaded"),
        (Wanted("m"), model(FAILED), "loaded"),
        (Wanted("m"), model(IndexRow("m", 1, "LOADING")), "loaded"),
        (Wanted("m"), model(IndexRow("m", 1, "UNLOADING")), "loaded"),
        (Wanted("m"), model(READY), "none"),
        (Wanted("m"), model(READY, digest="sha256:a"), "none"),
        (Wanted("m"), model(READY, FAILED), "none"),
        # Digests: another one, none where one is wanted, the same.
        (Wanted("m", digest="sha256:b"), model(READY, digest="sha256:a"), "reloaded"),
        (Wanted("m", digest="sha256:b"), model(READY), "reloaded"),
        (Wanted("m", digest="sha256:b"), model(READY, digest="sha256:b"), "none"),
        (Wanted("m", digest="sha256:b"), model(NEVER), "loaded"),
        # Versions.
        (Wanted("m", versions=(1,)), model(READY), "none"),
        (Wanted("m", versions=(1, 2)), model(READY), "reloaded"),
        (Wanted("m", versions=(1, 2)), model(READY, FAILED), "reloaded"),
        # Configurations sent along.
        (Wanted("m", config={"max_batch_size": 8}), model(READY), "none"),
        (Wanted("m", config={"max_batch_size": 16}), model(READY), "reloaded"),
        # What is wanted reloaded.
        (Wanted("m", "reloaded"), model(READY), "reloaded"),
        (Wanted("m", "reloaded", digest="sha256:b"), model(READY, digest="sha256:b"), "reloaded"),
        (Wanted("m", "reloaded"), model(NEVER), "loaded"),
        # What is wanted unloaded.
        (Wanted("m", "unloaded"), model(), "none"),
        (Wanted("m", "unloaded"), model(NEVER), "none"),
        (Wanted("m", "unloaded"), model(UNLOADED, FAILED), "none"),
        (Wanted("m", "unloaded"), model(IndexRow("m", 1, "UNLOADING")), "none"),
        (Wanted("m", "unloaded"), model(READY), "unloaded"),
        (Wanted("m", "unloaded"), model(IndexRow("m", 1, "LOADING")), "unloaded"),
    ],
)
def test_plan(wanted: Wanted, current: Model, action: str) -> None:
    step = plan(wanted, current)
    assert step.action == action
    assert bool(step.reasons) is (action != "none")
    if action == "none":
        assert step.predicted() == current.summary()


def test_prediction() -> None:
    assert plan(Wanted("m", versions=(2,), digest="sha256:b"), model(READY, digest="sha256:a")).predicted() == {
        "state": "READY",
        "versions": [1, 2],
        "digest": "sha256:b",
    }
    assert plan(Wanted("m", "unloaded"), model(READY)).predicted() == {"state": "UNAVAILABLE", "versions": [], "digest": None}


def test_an_override_carries_the_digest() -> None:
    sent = {"backend": "python", "parameters": {"a": {"string_value": "b"}}}
    wanted = Wanted("m", digest="sha256:b", config=sent)
    override = wanted.override()
    assert override is not None
    assert override["parameters"] == {"a": {"string_value": "b"}, "gpufleet.digest": {"string_value": "sha256:b"}}
    assert "gpufleet.digest" not in sent["parameters"], "the caller's configuration stays as it is"
    assert Wanted("m", digest="sha256:b").override() is None
    assert Wanted("m", config={"backend": "x"}).override() == {"backend": "x"}


@pytest.mark.parametrize(
    ("served", "wanted", "place"),
    [
        ({"a": 1, "b": 2}, {"a": 1}, ""),
        ({"a": 1}, {"a": 2}, "a"),
        ({}, {"a": 1}, "a"),
        ({}, {"a": 0, "b": "", "c": [], "d": {}, "e": None, "f": False}, ""),
        ({"a": {"b": {"c": 1}}}, {"a": {"b": {"c": 2}}}, "a.b.c"),
        ({"a": [1, 2]}, {"a": [1, 2]}, ""),
        ({"a": [1, 2]}, {"a": [1]}, "a"),
        ({"a": [{"x": 1, "more": 1}]}, {"a": [{"x": 1}]}, ""),
        ({"a": [{"x": 1}]}, {"a": [{"x": 2}]}, "a[0].x"),
        ({"a": "100"}, {"a": 100}, ""),
        ({"a": 100}, {"a": "100"}, ""),
        ({"a": True}, {"a": True}, ""),
        ({"a": False}, {"a": True}, "a"),
        ({"a": 1}, {"a": {"b": 1}}, "a"),
        ({"kind": "KIND_CPU"}, {"kind": "KIND_AUTO"}, ""),
        (None, {"a": 1}, "a"),
    ],
)
def test_config_difference(served: t.Any, wanted: t.Any, place: str) -> None:
    found = config_difference(served or {}, wanted)
    assert found == place


def ensemble(*steps: str) -> dict[str, t.Any]:
    return {"ensemble_scheduling": {"step": [{"model_name": step} for step in steps]}}


def test_ensemble_steps() -> None:
    assert ensemble_steps(ensemble("a", "b")) == ["a", "b"]
    assert [ensemble_steps(other) for other in (None, {}, {"ensemble_scheduling": {}}, {"ensemble_scheduling": {"step": [1]}})] == [[]] * 4


def test_an_ensemble_comes_after_its_steps() -> None:
    steps = [
        plan(Wanted("outer", config=ensemble("inner", "c")), Model("outer")),
        plan(Wanted("inner", config=ensemble("a", "b")), Model("inner")),
        *[plan(Wanted(name), Model(name)) for name in "abcd"],
    ]
    assert [[step.wanted.name for step in wave] for wave in waves(steps)] == [["a", "b", "c", "d"], ["inner"], ["outer"]]


def test_the_steps_of_a_served_ensemble_are_known() -> None:
    served = Model("pair", (IndexRow("pair", 1, "READY"),), ensemble("a"))
    steps = [plan(Wanted("pair", "reloaded"), served), plan(Wanted("a"), Model("a"))]
    assert [[step.wanted.name for step in wave] for wave in waves(steps)] == [["a"], ["pair"]]


def test_a_circle_does_not_last_for_ever() -> None:
    steps = [plan(Wanted(name, config=ensemble(other)), Model(name)) for name, other in ("ab", "ba")]
    assert [[step.wanted.name for step in wave] for wave in waves(steps)] == [["a", "b"]]
    alone = [plan(Wanted("a", config=ensemble("a")), Model("a"))]
    assert len(waves(alone)) == 1
    assert waves([]) == []


def test_duplicates() -> None:
    assert duplicates([Wanted("b"), Wanted("a"), Wanted("b"), Wanted("a"), Wanted("c")]) == ["a", "b"]


def check(before: Model, after: Model, wanted: Wanted) -> str:
    found = load_problem(Step(wanted, before, "reloaded"), after)
    return f"{found.what}. {found.why}. {found.remedy}" if found else ""


def test_a_load_that_did_as_wanted() -> None:
    assert check(model(NEVER), model(READY, digest="sha256:a"), Wanted("m", digest="sha256:a", versions=(1,))) == ""


def test_a_load_that_did_nothing() -> None:
    old = model(READY, digest="sha256:a")
    text = check(old, old, Wanted("m", digest="sha256:b"))
    assert "success, but serves digest sha256:a (wanted sha256:b)" in text
    assert "the load did nothing" in text
    assert "state: reloaded" in text


def test_a_load_of_other_content() -> None:
    text = check(model(READY, digest="sha256:a"), model(READY, digest="sha256:c"), Wanted("m", digest="sha256:b"))
    assert "the repository holds other content" in text
    assert "has no gpufleet.digest" in check(model(NEVER), model(READY), Wanted("m", digest="sha256:b"))


def test_a_load_without_the_version() -> None:
    assert "Version 2 of model 'm' is not READY" in check(model(READY), model(READY), Wanted("m", versions=(1, 2)))


def test_a_load_that_left_nothing() -> None:
    assert "failed to load" in check(model(NEVER), model(FAILED), Wanted("m"))


def problem(wanted: Wanted, current: Model) -> tuple[str, str, str]:
    found = wanted_problems(wanted, current)
    assert len(found) == 1
    assert all(found[0].as_dict().values()), "what, why and remedy are all there"
    return found[0].what, found[0].why, found[0].remedy


@pytest.mark.parametrize(
    ("rows", "what", "why"),
    [
        ([], "not in the server's repository", "no row"),
        ([NEVER], "never loaded", "explicit mode"),
        ([IndexRow("m", 1, "LOADING")], "still loading: version 1 LOADING", "without model.py"),
        ([IndexRow("m", 1, "UNLOADING")], "being unloaded", "asked for it"),
        ([UNLOADED], "is unloaded", "one of its steps"),
        ([FAILED], "failed to load: version 2 UNAVAILABLE", "no weights"),
        ([IndexRow("m", None, "UNAVAILABLE", "model appears in two or more repositories")], "failed to load", "two or more repositories"),
    ],
)
def test_why_a_wanted_model_is_not_ready(rows: list[IndexRow], what: str, why: str) -> None:
    found = problem(Wanted("m"), model(*rows))
    assert what in found[0]
    assert why in found[1]


def test_wanted_and_ready() -> None:
    assert wanted_problems(Wanted("m", versions=(1,), digest="sha256:a"), model(READY, digest="sha256:a")) == []


def test_missing_versions() -> None:
    assert "no such version" in problem(Wanted("m", versions=(7,)), model(READY))[1]
    assert "no weights" in problem(Wanted("m", versions=(2,)), model(READY, FAILED))[1]


@pytest.mark.parametrize(
    ("current", "why"),
    [
        (model(READY, digest="sha256:a"), "not loaded yet"),
        (model(READY), "no gpufleet.digest"),
        (model(READY, FAILED, digest="sha256:a"), "keeps serving the old content: Internal: no weights"),
    ],
)
def test_stale_digest(current: Model, why: str) -> None:
    found = problem(Wanted("m", digest="sha256:b"), current)
    assert "wanted sha256:b" in found[0]
    assert why in found[1]


def test_a_failed_load_sticks() -> None:
    """triton-facts: a first load that failed keeps the server not ready until that very version loads."""
    models = {"m": model(FAILED), "other": Model("other", (IndexRow("other", 1, "READY"),))}
    [found] = server_problems(False, models)
    assert "not ready because of a failed load: m version 2 UNAVAILABLE" in found.what
    assert "no weights" in found.why
    assert "restart the server" in found.remedy


def test_a_failed_load_sticks_though_its_directory_is_gone() -> None:
    [found] = server_problems(False, {"other": Model("other", (IndexRow("other", 1, "READY"),))})
    assert "no model that would explain it" in found.what
    assert "its directory was removed" in found.why


def test_not_ready_while_something_moves() -> None:
    models = {"m": model(IndexRow("m", 1, "LOADING")), "f": Model("f", (FAILED,))}
    [found] = server_problems(False, models)
    assert "m version 1 LOADING" in found.what
    assert "wait" in found.remedy


def test_ready_but_something_failed_that_is_not_wanted() -> None:
    """Without strict readiness the server is ready all the same."""
    models = {"m": model(FAILED), "u": Model("u", (UNLOADED,))}
    [found] = server_problems(True, models)
    assert "not wanted here, is UNAVAILABLE" in found.what
    assert server_problems(True, models, ["m"]) == []
