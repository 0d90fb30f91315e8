# Copyright (c) 2026, The gpufleet.triton authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import os
import typing as t
from pathlib import Path

import pytest
from ansible_collections.gpufleet.triton.plugins.module_utils import _gpu, _host, _verify_host
from ansible_collections.gpufleet.triton.plugins.module_utils._client import TritonClient
from ansible_collections.gpufleet.triton.plugins.module_utils._http import HttpConnectError
from ansible_collections.gpufleet.triton.plugins.module_utils._problem import ProblemError
from ansible_collections.gpufleet.triton.plugins.module_utils._proc import CommandResult
from ansible_collections.gpufleet.triton.tests.unit.plugins.module_utils.gpu_host import GpuHost
from ansible_collections.gpufleet.triton.tests.unit.plugins.module_utils.scripted import TRITON, Call, Script, error, index, ready

METADATA = {
    "name": "m",
    "versions": ["1"],
    "inputs": [{"name": "IN", "datatype": "FP32", "shape": [-1, 2]}, {"name": "TEXT", "datatype": "BYTES", "shape": [1]}],
    "outputs": [{"name": "OUT", "datatype": "FP32", "shape": [1]}],
}
ANSWER = {"model_name": "m", "model_version": "1", "outputs": [{"name": "OUT", "datatype": "FP32", "shape": [1], "data": [0]}]}


class Commands:
    """Answers of the docker command, by its first word."""

    def __init__(self, **answers: CommandResult) -> None:
        self.answers = answers
        self.log: list[list[str]] = []

    def __call__(self, argv: list[str]) -> CommandResult:
        words = argv[3:]
        self.log.append(words)
        return self.answers.get(words[0], CommandResult(0, "", ""))


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> t.Callable[..., _verify_host.RealHost]:
    gpu_host = GpuHost(tmp_path, monkeypatch).healthy()
    gpu_host.install("docker")

    def make(*calls: Call, commands: Commands | None = None, **options: t.Any) -> _verify_host.RealHost:
        script = Script(*calls)
        return _verify_host.RealHost(
            run=commands or Commands(),
            machine=_gpu.Machine(gpu_host.run, str(tmp_path), "6.12.94+deb13-amd64"),
            container=options.pop("container", "triton"),
            connect=lambda: TritonClient(script),
            docker_socket=str(tmp_path / "no.sock"),
            **options,
        )

    return make


def test_a_new_container_is_lean_and_goes_away(host: t.Any) -> None:
    commands = Commands(run=CommandResult(None, "", "docker did not end within 60 s"))
    real = host(commands=commands, image="triton:1")
    way, asked = real.fresh(real.facts())
    assert (way, asked.rc) == ("CDI", None)
    words = commands.log[0]
    assert words[:2] == ["run", "--rm"]
    assert words[words.index("--network") + 1] == "none"
    assert words[words.index("--cap-drop") + 1] == "ALL"
    assert words[words.index("--pull") + 1] == "never"
    assert words[words.index("--entrypoint") + 1 :][:2] == ["nvidia-smi", "triton:1"]
    # One that did not end is taken away as well.
    assert commands.log[1] == ["rm", "--force", "--volumes", words[words.index("--name") + 1]]


def test_no_image_is_a_problem_of_the_step(host: t.Any) -> None:
    real = host()
    with pytest.raises(ProblemError, match="Neither an image was named"):
        real.fresh(real.facts())


def test_a_server_that_is_ready(host: t.Any) -> None:
    calls = [
        Call("GET", "/v2/health/live"),
        Call("GET", "/v2", answer=TRITON, times=2),
        Call("GET", "/v2/health/ready"),
        index(ready("m")),
    ]
    commands = Commands(logs=CommandResult(0, "", "\x1b[1mone\x1b[0m\n\ntwo\n"))
    state = host(*calls, commands=commands).triton(True)
    assert (state.problems, state.version, state.log) == ([], "2.51.0", ["one", "two"])
    assert [words[0] for words in commands.log] == ["exec", "logs"]


def test_a_server_that_is_down(host: t.Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_verify_host, "Container", lambda _name: None)
    refused = HttpConnectError("GET http://127.0.0.1:8000/v2/health/live", "connection refused", "start it")
    state = host(Call("GET", "/v2/health/live", error=refused)).triton(True)
    assert [problem.why for problem in state.problems] == ["connection refused"]
    assert state.asked is None


def test_an_inference_of_the_inventory(host: t.Any) -> None:
    inputs = [{"name": "IN", "datatype": "FP32", "shape": [1], "data": [1]}]
    inference = {"model": "m", "inputs": inputs, "expect": [{"name": "OUT", "data": [1]}]}
    result = host(Call("POST", "/v2/models/m/infer", answer=ANSWER), inference=inference).infer()
    assert result["checked"]
    assert "wanted 1.0, got 0.0" in result["problems"][0]["what"]


@pytest.mark.parametrize(("inference", "words"), [({"modle": "m"}, "modle"), ({"inputs": []}, "It names no model")])
def test_an_inference_that_cannot_be(host: t.Any, inference: dict[str, t.Any], words: str) -> None:
    with pytest.raises(ProblemError, match=words):
        host(inference=inference).infer()


def test_an_inference_that_is_made_up(host: t.Any) -> None:
    calls = [index(ready("m")), Call("GET", "/v2/models/m", answer=METADATA), Call("POST", "/v2/models/m/infer", answer=ANSWER)]
    result = host(*calls).infer()
    assert (result["model_name"], result["checked"], result["problems"]) == ("m", False, [])


def test_made_up_inputs() -> None:
    assert _verify_host.made_up(METADATA) == [
        {"name": "IN", "datatype": "FP32", "shape": [1, 2], "data": [0, 0]},
        {"name": "TEXT", "datatype": "BYTES", "shape": [1], "data": [""]},
    ]
    assert _verify_host.made_up({"inputs": [{"name": "IN", "datatype": "FP32", "shape": [4096, 4096]}]}) is None


def refusals(text: str) -> list[Call]:
    return [
        index(ready("m")),
        Call("GET", "/v2/models/m", answer=METADATA, times=2),
        Call("POST", "/v2/models/m/infer", 500, error(text)),
    ]


def test_a_model_that_refuses_zeros_proves_nothing(host: t.Any) -> None:
    assert host(*refusals("a sequence needs a correlation ID")).infer() is None


def test_a_gpu_that_fails_an_inference_is_told(host: t.Any) -> None:
    with pytest.raises(ProblemError, match="CUDA error"):
        host(*refusals("CUDA error: an illegal memory access was encountered")).infer()


def test_no_model_at_all(host: t.Any) -> None:
    assert host(index()).infer() is None


def test_a_file_is_replaced_as_a_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.prom"
    _verify_host.write(str(path), "one\n")
    assert path.read_text() == "one\n"
    assert path.stat().st_mode & 0o777 == 0o644
    seen = []

    def fail(beside: str, _path: str) -> None:
        seen.append(beside)
        raise OSError("full")

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(OSError, match="full"):
        _verify_host.write(str(path), "two\n")
    assert not seen[0].endswith(".prom")
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.prom"]
    assert path.read_text() == "one\n"


def test_no_engine_is_no_container(host: t.Any) -> None:
    assert host().inspect() is None
    assert _host.DOCKER_SOCKET == "/var/run/docker.sock"
