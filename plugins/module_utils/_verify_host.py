# Copyright (c) 2026, The gpufleet.triton authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a verification asks of a real host, and where it writes down what it found. Private to the collection.

Knows nothing of AnsibleModule. The only thing that it starts is a container that removes itself.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
import typing as t
import urllib.request
from dataclasses import dataclass

from ansible_collections.gpufleet.triton.plugins.module_utils import _gpu, _host, _verify
from ansible_collections.gpufleet.triton.plugins.module_utils._client import InferError, TritonClient
from ansible_collections.gpufleet.triton.plugins.module_utils._container import Container, clean_log
from ansible_collections.gpufleet.triton.plugins.module_utils._health import HealthCheck, problems_of
from ansible_collections.gpufleet.triton.plugins.module_utils._http import HttpError
from ansible_collections.gpufleet.triton.plugins.module_utils._infer import Inference
from ansible_collections.gpufleet.triton.plugins.module_utils._problem import Problem, ProblemError
from ansible_collections.gpufleet.triton.plugins.module_utils._proc import CommandResult
from ansible_collections.gpufleet.triton.plugins.module_utils._waiter import Waiter

Row = dict[str, t.Any]
INFER_DEFAULTS: Row = {
    "version": None,
    "inputs": [],
    "outputs": None,
    "binary": "auto",
    "parameters": {},
    "expect": [],
    "max_latency_ms": None,
    "latency_percentile": "p95",
    "repeat": 1,
    "warmup": 0,
    "max_elements": 0,
}
_TENSOR: Row = {"datatype": None, "shape": None, "data": None, "data_base64": None}
# A model that takes more than that is not asked with made-up input.
_MOST_ELEMENTS = 1 << 20
_MOST_MODELS = 3
_LOG_HEAD = 300


def inference_params(given: t.Mapping[str, t.Any]) -> Row:
    """The options of triton_infer, of which what was not given is as it is there."""
    unknown = sorted(set(given) - {*INFER_DEFAULTS, "model"})
    if unknown or "model" not in given:
        why = f"no option of triton_infer: {', '.join(unknown)}" if unknown else "it names no model"
        remedy = "give model, inputs and expect as gpufleet.triton.triton_infer has them"
        raise ProblemError("Cannot use inference", why, remedy)
    params = {**INFER_DEFAULTS, **given}
    params["inputs"] = [{**_TENSOR, "file": None, "format": "auto", **entry} for entry in params["inputs"] or []]
    params["expect"] = [{**_TENSOR, "tolerance": None, **entry} for entry in params["expect"] or []]
    return params


def made_up(metadata: t.Mapping[str, t.Any]) -> list[Row] | None:
    """Inputs of nothing but zeros for a model, out of its metadata. None for one that takes too much."""
    inputs, total = [], 0
    for entry in metadata.get("inputs") or []:
        shape = [max(int(size), 1) for size in entry["shape"]]
        number = 1
        for size in shape:
            number *= size
        total += number
        if total > _MOST_ELEMENTS:
            return None
        value: t.Any = {"BYTES": "", "BOOL": False}.get(entry["datatype"], 0)
        inputs.append({"name": entry["name"], "datatype": entry["datatype"], "shape": shape, "data": [value] * number})
    return inputs


@dataclass
class RealHost:
    """Asks the host on which it runs."""

    run: _host.Run
    machine: _gpu.Machine
    container: str
    connect: t.Callable[[], TritonClient]
    image: str = ""
    metrics_url: str = ""
    docker_socket: str = _host.DOCKER_SOCKET
    expected_gpus: int | None = None
    inference: Row | None = None

    def facts(self) -> Row:
        return _gpu.collect(self.machine, self.docker_socket, self.expected_gpus)

    def inspect(self) -> Row | None:
        try:
            return _host.Engine(self.docker_socket).get(f"/containers/{_host.quote(self.container)}/json")
        except _host.ApiError:
            return None

    def _docker(self, *arguments: str) -> CommandResult:
        program = _host.find_program("docker")
        if program is None:
            return CommandResult(None, "", "there is no docker command on this host")
        return self.run([program, "--host", f"unix://{self.docker_socket}", *arguments])

    def fresh(self, facts: Row) -> tuple[str, CommandResult]:
        served = self.inspect()
        way, arguments = _verify.way_of(served, facts)
        image = self.image or str(((served or {}).get("Config") or {}).get("Image") or "")
        if not image:
            why = f"neither an image was named, nor is there a container {self.container!r} whose image could be taken"
            remedy = "run the role gpufleet.triton.triton_server"
            raise ProblemError("Cannot start a container to look for the GPU", why, remedy)
        name = f"gpufleet-verify-{os.getpid()}"
        lean = ["--rm", "--name", name, "--pull", "never", "--network", "none", "--cap-drop", "ALL", "--no-healthcheck"]
        try:
            asked = self._docker("run", *lean, *arguments, "--entrypoint", "nvidia-smi", image, *_verify.LISTING)
        finally:
            # What did not end in time is still there.
            self._docker("rm", "--force", "--volumes", name)
        return way, asked

    def triton(self, with_gpu: bool) -> _verify.TritonState:
        state = _verify.TritonState()
        container = Container(self.container) if self.container else None
        try:
            client = self.connect()
        except HttpError as error:
            state.problems.append(Problem(error.what, error.why, error.remedy))
            return state
        with client.transport:
            try:
                waited = HealthCheck(client, (), "ready", container).wait(Waiter(0.0, 1.0))
                state.version = client.server_metadata().version if waited.done else ""
            except HttpError as error:
                report = container.report() if container is not None else None
                problem = report.problem() if report is not None and not report.note else None
                state.problems += [problem] if problem is not None else []
                state.problems.append(Problem(error.what, error.why, error.remedy))
                return state
        if not waited.done:
            state.problems += problems_of(waited, container.report() if container is not None else None)
            return state
        if with_gpu:
            state.metrics = self._metrics()
            if self.container:
                state.asked = self._docker("exec", self.container, "nvidia-smi", *_verify.LISTING)
                logged = self._docker("logs", self.container)
                # A server says at its start what it found.
                state.log = clean_log((logged.stdout + logged.stderr).encode())[:_LOG_HEAD]
        return state

    def _metrics(self) -> str:
        if not self.metrics_url.startswith(("http://", "https://")):
            return ""
        try:
            # The metrics of a server on this host: no proxy has a part in it.
            opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
            with opener.open(self.metrics_url, timeout=10) as answer:
                return t.cast(bytes, answer.read(1 << 22)).decode("utf-8", "replace")
        except (OSError, ValueError):
            return ""

    def infer(self) -> Row | None:
        with contextlib.ExitStack() as stack:
            client = self.connect()
            stack.enter_context(client.transport)
            if self.inference:
                return {**Inference(inference_params(self.inference)).run(client), "checked": bool(self.inference.get("expect"))}
            return self._any(client)

    def _any(self, client: TritonClient) -> Row | None:
        """Ask some model that serves, with zeros. One that refuses them tells nothing of the host, one whose GPU fails does."""
        names = sorted({row.name for row in client.index() if row.state == "READY"})
        for name in names[:_MOST_MODELS]:
            inputs = made_up(client.metadata(name) or {})
            if inputs is None:
                continue
            try:
                result = Inference(inference_params({"model": name, "inputs": inputs})).run(client)
            except InferError as error:
                if "cuda" in f"{error.what} {error.why}".lower():
                    raise
                continue
            return {**result, "checked": False}
        return None


def write(path: str, text: str, mode: int = 0o644) -> None:
    """Put a whole file in the place of another. Its name until then ends in nothing that a collector reads."""
    folder = os.path.dirname(path)
    descriptor, beside = tempfile.mkstemp(prefix=f".{os.path.basename(path)}.", dir=folder)
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as handle:
            handle.write(text)
            os.fchmod(handle.fileno(), mode)
        os.replace(beside, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(beside)
        raise
