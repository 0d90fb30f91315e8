# Copyright (c) 2026, The gpufleet.triton authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import json
import typing as t
from pathlib import Path

import pytest
from ansible_collections.gpufleet.triton.plugins.module_utils._client import (
    AccessError,
    IndexRow,
    ModeError,
    ModelError,
    NameRefusedError,
    NotInitialisedError,
    NotTritonError,
    PollFailedError,
    ServerMetadata,
    StatusError,
    TritonClient,
    model_path,
    options_from,
    read_key,
)
from ansible_collections.gpufleet.triton.plugins.module_utils._http import HttpOptionsError
from ansible_collections.gpufleet.triton.tests.unit.plugins.module_utils.scripted import (
    POLL_MODE,
    RESTRICTED,
    TRITON,
    Call,
    Script,
    error,
    index,
    load,
    ready,
    row,
    unload,
)


def is_triton() -> Call:
    return Call("GET", "/v2", answer=TRITON)


def on(*calls: Call, key: bool = False) -> t.Callable[[t.Callable[[TritonClient], t.Any]], t.Any]:
    """Run one thing on a client that plays these calls; all of them must have come."""

    def runner(work: t.Callable[[TritonClient], t.Any]) -> t.Any:
        script = Script(*calls)
        try:
            return work(TritonClient(script, key_given=key))
        finally:
            script.finish()

    return runner


def test_server_metadata() -> None:
    found = on(is_triton())(lambda client: client.server_metadata())
    assert found == ServerMetadata("triton", "2.51.0", ("classification", "model_repository", "statistics"))


@pytest.mark.parametrize(
    ("status", "answer", "words"),
    [
        (200, None, "an empty body"),
        (200, "<html>hello</html>", "hello"),
        (200, {"status": "ok"}, "status"),
        (200, [], r"\[\]"),
        (200, {"name": "mlserver", "version": "1.5.0", "extensions": []}, "mlserver"),
        (404, {"error": "Not Found"}, "HTTP 404"),
        (500, "oops", "oops"),
    ],
)
def test_something_else_on_the_port(status: int, answer: t.Any, words: str) -> None:
    with pytest.raises(NotTritonError, match=words) as caught:
        on(Call("GET", "/v2", status, answer))(lambda client: client.server_metadata())
    assert "8000" in caught.value.remedy


@pytest.mark.parametrize(
    ("status", "answer", "expected"),
    [(200, None, True), (400, None, False), (500, error("x"), False), (503, error("x"), False)],
)
def test_health(status: int, answer: t.Any, expected: bool) -> None:
    assert on(Call("GET", "/v2/health/live", status, answer))(lambda client: client.live()) is expected
    assert on(Call("GET", "/v2/health/ready", status, answer))(lambda client: client.ready()) is expected


def test_health_of_a_web_server_that_says_yes_to_everything() -> None:
    page = "<html>"
    with pytest.raises(NotTritonError):
        on(Call("GET", "/v2/health/live", 200, page), Call("GET", "/v2", 200, page))(lambda client: client.live())


def test_health_with_a_body_of_a_proxy() -> None:
    assert on(Call("GET", "/v2/health/live", 200, "OK"), is_triton())(lambda client: client.live())


@pytest.mark.parametrize(("status", "answer"), [(404, "nope"), (405, None)])
def test_health_elsewhere(status: int, answer: t.Any) -> None:
    calls = Call("GET", "/v2/health/live", status, answer), Call("GET", "/v2", 404, answer)
    with pytest.raises(NotTritonError):
        on(*calls)(lambda client: client.live())


@pytest.mark.parametrize("status", [502, 503, 504])
def test_a_gateway_without_its_triton(status: int) -> None:
    with pytest.raises(NotTritonError, match="Bad") as caught:
        on(Call("POST", "/v2/repository/index", status, "Bad"))(lambda client: client.index())
    assert caught.value.transient
    assert "gateway" in caught.value.why


@pytest.mark.parametrize(
    ("status", "answer", "expected"),
    [
        (200, None, True),
        (400, error("Model version not ready"), False),
        (404, error("Request for unknown model: 'm' is not found"), False),
        (400, None, False),
    ],
)
def test_model_ready(status: int, answer: t.Any, expected: bool) -> None:
    assert on(Call("GET", "/v2/models/m/ready", status, answer))(lambda client: client.model_ready("m")) is expected
    assert on(Call("GET", "/v2/models/m/versions/3/ready", status, answer))(lambda client: client.model_ready("m", 3)) is expected


def test_model_ready_of_something_else() -> None:
    with pytest.raises(NotTritonError):
        on(Call("GET", "/v2/models/m/ready", 404, "<html>"), Call("GET", "/v2", 404, "<html>"))(lambda client: client.model_ready("m"))


def test_index() -> None:
    rows = [*ready("a", 1, 2), row("b"), row("c", 1, "UNAVAILABLE", "why"), row("d", None, "UNAVAILABLE", "twice")]
    assert on(index(rows))(lambda client: client.index()) == [
        IndexRow("a", 1, "READY"),
        IndexRow("a", 2, "READY"),
        IndexRow("b"),
        IndexRow("c", 1, "UNAVAILABLE", "why"),
        IndexRow("d", None, "UNAVAILABLE", "twice"),
    ]


@pytest.mark.parametrize("answer", ["<html>", {"models": []}, [1], [{"version": "1"}], [{"name": "a", "version": "x"}]])
def test_an_index_that_is_none(answer: t.Any) -> None:
    with pytest.raises(StatusError, match="wanted the list of models"):
        on(Call("POST", "/v2/repository/index", 200, answer), is_triton())(lambda client: client.index())


def test_the_index_of_the_metrics_port() -> None:
    """It answers every path with 200 and nothing."""
    with pytest.raises(NotTritonError, match="empty body"):
        on(Call("POST", "/v2/repository/index"), Call("GET", "/v2"))(lambda client: client.index())


@pytest.mark.parametrize("status", [503, 400])
def test_the_index_of_a_server_that_failed_to_start(status: int) -> None:
    with pytest.raises(NotInitialisedError) as caught:
        on(Call("POST", "/v2/repository/index", status, error("Server not ready")))(lambda client: client.index())
    assert caught.value.transient


@pytest.mark.parametrize(
    ("status", "text"),
    [
        (404, "Request for unknown model: 'm' is not found"),
        (400, "Request for unknown model: 'm' is not found"),
        (404, "Request for unknown model: 'm' version 3 is not found"),
        (400, "requested model 'm' is not available"),
    ],
)
def test_what_is_not_loaded_is_none(status: int, text: str) -> None:
    """400 is what servers before 24.01 answer to everything."""
    assert on(Call("GET", "/v2/models/m/config", status, error(text)))(lambda client: client.config("m")) is None
    assert on(Call("GET", "/v2/models/m", status, error(text)))(lambda client: client.metadata("m")) is None
    assert on(Call("GET", "/v2/models/m/stats", status, error(text)))(lambda client: client.stats("m")) == []


def test_what_is_loaded() -> None:
    assert on(Call("GET", "/v2/models/m/config", answer={"name": "m"}))(lambda client: client.config("m")) == {"name": "m"}
    assert on(Call("GET", "/v2/models/m/versions/2/config", answer={"name": "m"}))(lambda client: client.config("m", 2)) == {"name": "m"}
    stats = {"model_stats": [{"name": "m"}]}
    assert on(Call("GET", "/v2/models/stats", answer=stats))(lambda client: client.stats()) == [{"name": "m"}]


def test_an_unexpected_answer_names_it_all() -> None:
    calls = Call("GET", "/v2/models/m/config", 500, error("disk on fire")), is_triton()
    with pytest.raises(StatusError, match=r"GET http://.*/v2/models/m/config: wanted the config of model 'm', got HTTP 500: disk on fire"):
        on(*calls)(lambda client: client.config("m"))


@pytest.mark.parametrize("status", [403, 400])
@pytest.mark.parametrize("key", [True, False])
def test_restricted(status: int, key: bool) -> None:
    with pytest.raises(AccessError) as caught:
        on(Call("POST", "/v2/repository/index", status, RESTRICTED), key=key)(lambda client: client.index())
    assert "x-gpufleet-admin-key" in caught.value.why
    assert ("wrong" in caught.value.why) is key
    assert "admin_key_file" in caught.value.remedy


def test_restricted_with_another_header() -> None:
    answer = error("This API is restricted, expecting header 'x-other'")
    with pytest.raises(AccessError) as caught:
        on(load("m", 403, answer))(lambda client: client.load("m"))
    assert "set admin_header to x-other" in caught.value.remedy


@pytest.mark.parametrize("status", [401, 403])
def test_a_proxy_refuses(status: int) -> None:
    with pytest.raises(AccessError, match=f"HTTP {status}") as caught:
        on(Call("POST", "/v2/repository/index", status, "<html>"))(lambda client: client.index())
    assert "proxy" in caught.value.why
    assert "headers" in caught.value.remedy


def test_load() -> None:
    on(load("m", body=None))(lambda client: client.load("m"))
    sent = {"parameters": {"config": json.dumps({"backend": "python", "max_batch_size": 4})}}
    on(load("m", body=sent))(lambda client: client.load("m", {"max_batch_size": 4, "backend": "python"}))


def test_a_load_has_its_own_timeout() -> None:
    script = Script(load("m"))
    TritonClient(script).load("m", timeout=77.0)
    assert script.timeouts == {"/v2/repository/models/m/load": 77.0}


def test_unload() -> None:
    on(unload("m", body=None))(lambda client: client.unload("m"))
    on(unload("m", body={"parameters": {"unload_dependents": True}}))(lambda client: client.unload("m", True))


@pytest.mark.parametrize("status", [503, 400])
def test_not_in_explicit_mode(status: int) -> None:
    with pytest.raises(ModeError, match="explicit control mode") as caught:
        on(load("m", status, POLL_MODE))(lambda client: client.load("m"))
    assert "--model-control-mode=explicit" in caught.value.remedy


@pytest.mark.parametrize("status", [500, 400])
def test_poll_failed(status: int) -> None:
    answer = error("failed to load 'm', failed to poll from model repository")
    with pytest.raises(PollFailedError) as caught:
        on(load("m", status, answer))(lambda client: client.load("m"))
    assert "Poll failed for model directory 'm'" in caught.value.remedy


@pytest.mark.parametrize(
    ("status", "text"),
    [
        (400, "load failed for model 'm': version 2 is at UNAVAILABLE state: Internal: no weights;"),
        (500, "attempt to access JSON non-string as string"),
        (404, "no such thing"),
    ],
)
def test_load_failed(status: int, text: str) -> None:
    with pytest.raises(ModelError) as caught:
        on(load("m", status, error(text)))(lambda client: client.load("m"))
    assert caught.value.reason == text
    assert text.rstrip(";").lower() in str(caught.value).lower()


def test_load_while_the_server_exits() -> None:
    with pytest.raises(NotInitialisedError):
        on(load("m", 503, error("Server not ready")))(lambda client: client.load("m"))


def test_load_by_something_else() -> None:
    with pytest.raises(NotTritonError):
        on(load("m", 200, "<html>"), Call("GET", "/v2", 200, "<html>"))(lambda client: client.load("m"))


@pytest.mark.parametrize("name", ["", " ", "a/b", "../x", "..", ".", "a..b", "a\\b", "a\nb", "a\x00b", "x" * 256, None, 3])
def test_names_refused_before_any_request(name: t.Any) -> None:
    for work in (
        lambda client: client.load(name),
        lambda client: client.unload(name),
        lambda client: client.config(name),
        lambda client: client.metadata(name),
        lambda client: client.model_ready(name),
    ):
        with pytest.raises(NameRefusedError, match="as the name of a model"):
            on()(work)


def test_names_are_quoted() -> None:
    assert model_path("a b?c#d%e", 2, "ready") == "/v2/models/a%20b%3Fc%23d%25e/versions/2/ready"
    assert model_path("model-1.2_x+y@z") == "/v2/models/model-1.2_x+y@z"
    assert model_path("modèle") == "/v2/models/mod%C3%A8le"


def params(**more: t.Any) -> dict[str, t.Any]:
    return {
        "url": "http://localhost:8000",
        "admin_header": "x-key",
        "validate_certs": True,
        "timeout": 10,
        "headers": None,
        **more,
    }


def test_options_from_a_module(tmp_path: Path) -> None:
    key = tmp_path / "admin.key"
    key.write_text("sesame\nsecond line\n")
    options = options_from(params(admin_key_file=str(key), headers={"X-A": 1}), pool=7)
    assert options.all_headers() == {"X-A": "1", "x-key": "sesame"}
    assert options.pool == 7
    assert options_from(params(admin_key="direct")).admin_key == "direct"
    assert options_from(params()).all_headers() == {}


def test_key_files_that_cannot_be_used(tmp_path: Path) -> None:
    with pytest.raises(HttpOptionsError, match="No such file"):
        read_key(str(tmp_path / "nowhere"))
    empty = tmp_path / "empty"
    empty.write_text("\nsesame\n")
    with pytest.raises(HttpOptionsError, match="first line is empty"):
        read_key(str(empty))
    binary = tmp_path / "binary"
    binary.write_bytes(b"\xff\xfe")
    with pytest.raises(HttpOptionsError, match="not text"):
        read_key(str(binary))
