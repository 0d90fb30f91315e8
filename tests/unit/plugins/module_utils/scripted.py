# Copyright (c) 2026, The gpufleet.triton authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A transport that plays a script: an unexpected request fails at once, an expected one that did not come fails at the end."""

from __future__ import annotations

import json
import threading
import typing as t
from dataclasses import dataclass, field

from ansible_collections.gpufleet.triton.plugins.module_utils._http import HttpError, Response

URL = "http://127.0.0.1:8000"
_ANY = object()
TRITON = {"name": "triton", "version": "2.51.0", "extensions": ["classification", "model_repository", "statistics"]}


@dataclass
class Call:
    """One expected request and its answer: a status with a body, or an error to raise."""

    method: str
    path: str
    status: int = 200
    answer: t.Any = None
    error: HttpError | None = None
    body: t.Any = _ANY
    times: int = 1
    headers: dict[str, str] = field(default_factory=dict)
    used: int = field(default=0, init=False)


class Script:
    """Calls to one path are answered in order. Calls to different paths may come in any order: threads make them."""

    def __init__(self, *calls: Call) -> None:
        self.calls = list(calls)
        self.log: list[str] = []
        self.bodies: dict[str, t.Any] = {}
        self.timeouts: dict[str, float | None] = {}
        self.headers: dict[str, dict[str, str]] = {}
        self.resets = 0
        self._lock = threading.Lock()

    def __enter__(self) -> Script:
        return self

    def __exit__(self, *unused: object) -> None:
        return None

    def reset(self) -> None:
        self.resets += 1

    def request(
        self,
        method: str,
        path: str,
        body: t.Any = None,
        timeout: float | None = None,
        headers: t.Mapping[str, str] | None = None,
    ) -> Response:
        with self._lock:
            self.log.append(f"{method} {path}")
            self.bodies[path] = body
            self.timeouts[path] = timeout
            self.headers[path] = dict(headers or {})
            for call in self.calls:
                if (call.method, call.path) == (method, path) and call.used < call.times:
                    call.used += 1
                    break
            else:
                raise AssertionError(f"unexpected request: {method} {path}")
        if call.body is not _ANY:
            assert body == call.body, f"{method} {path}: body {body!r}, expected {call.body!r}"
        if call.error is not None:
            raise call.error
        return Response(method, URL + path, call.status, encode(call.answer), call.headers)

    def finish(self) -> None:
        left = [f"{call.method} {call.path} ({call.used} of {call.times})" for call in self.calls if call.used != call.times]
        assert not left, f"expected requests that did not come: {left}"


def encode(answer: t.Any) -> bytes:
    if answer is None:
        return b""
    if isinstance(answer, bytes):
        return answer
    return answer.encode() if isinstance(answer, str) else json.dumps(answer).encode()


class Clock:
    """A clock that only sleeping moves."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.slept: list[float] = []

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds


def error(text: str) -> dict[str, str]:
    return {"error": text}


def row(name: str, version: int | None = None, state: str = "", reason: str = "") -> dict[str, t.Any]:
    found: dict[str, t.Any] = {"name": name}
    if version is not None:
        found["version"] = str(version)
    if state:
        found["state"] = state
    if reason:
        found["reason"] = reason
    return found


def ready(name: str, *versions: int) -> list[dict[str, t.Any]]:
    return [row(name, version, "READY") for version in versions or (1,)]


def config(name: str, digest: str | None = None, **more: t.Any) -> dict[str, t.Any]:
    parameters = {"gpufleet.digest": {"string_value": digest}} if digest else {}
    return {"name": name, "backend": "python", "max_batch_size": 8, "parameters": parameters, **more}


def index(*rows: t.Any, times: int = 1) -> Call:
    flat: list[t.Any] = []
    for item in rows:
        flat.extend(item if isinstance(item, list) else [item])
    return Call("POST", "/v2/repository/index", answer=flat, times=times)


def served(name: str, digest: str | None = None, times: int = 1, **more: t.Any) -> Call:
    return Call("GET", f"/v2/models/{name}/config", answer=config(name, digest, **more), times=times)


def not_served(name: str, times: int = 1, status: int = 404) -> Call:
    text = f"Request for unknown model: '{name}' is not found"
    return Call("GET", f"/v2/models/{name}/config", status=status, answer=error(text), times=times)


def load(name: str, status: int = 200, answer: t.Any = None, **more: t.Any) -> Call:
    return Call("POST", f"/v2/repository/models/{name}/load", status=status, answer=answer, **more)


def unload(name: str, status: int = 200, answer: t.Any = None, **more: t.Any) -> Call:
    return Call("POST", f"/v2/repository/models/{name}/unload", status=status, answer=answer, **more)


RESTRICTED = error("This API is restricted, expecting header 'x-gpufleet-admin-key'")
POLL_MODE = error("explicit model load / unload is not allowed if polling is enabled")
