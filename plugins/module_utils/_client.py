# Copyright (c) 2026, The gpufleet.triton authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This file is private to the gpufleet.triton collection: it may change at any time.

"""Triton's v2 HTTP API: typed answers, typed errors."""

from __future__ import annotations

import json
import re
import typing as t
from dataclasses import dataclass
from urllib.parse import quote

from ansible_collections.gpufleet.triton.plugins.module_utils._http import (
    HttpError,
    HttpOptionsError,
    Options,
    Response,
    Transport,
)

#: Triton compares the path as it was sent: it does not decode %20. So only what a path cannot hold is quoted.
_PATH_SAFE = "!$&'()*+,;=:@~"
#: Says where in a body JSON ends and binary tensors begin.
HEADER_LENGTH = "Inference-Header-Content-Length"
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_NOT_EXPLICIT = "explicit model load / unload is not allowed"
_RESTRICTED = "This API is restricted"
_POLL_FAILED = "failed to poll from model repository"
_NOT_READY = "Server not ready"
# What tells a model that is not loaded. Servers before 24.01 send it with status 400, newer ones with 404 or 400.
_UNKNOWN_MODEL = re.compile(r"unknown model|is not found|is not available|version not ready|has no available versions", re.IGNORECASE)


class TritonError(HttpError):
    """The server answered, but not with what was wanted."""


class NotTritonError(TritonError):
    """Something else answers on the port. Waiting may cure it: a gateway says so while Triton starts."""


class NotInitialisedError(TritonError):
    """The server is starting, exiting, or its initialisation failed."""


class AccessError(TritonError):
    """401 or 403."""

    transient = False


class ModeError(TritonError):
    """Load and unload need the explicit control mode."""

    transient = False


class ModelError(TritonError):
    """Triton refused to load or unload a model; `reason` is what Triton says."""

    transient = False

    def __init__(self, what: str, why: str = "", remedy: str = "", reason: str = "") -> None:
        super().__init__(what, why, remedy)
        self.reason = reason


class PollFailedError(ModelError):
    """The generic 500: the cause is in the server's log alone."""


class InferError(TritonError):
    """Triton or the model refused an inference; `reason` is what the server says."""

    transient = False

    def __init__(self, what: str, why: str = "", remedy: str = "", reason: str = "") -> None:
        super().__init__(what, why, remedy)
        self.reason = reason


class NotLoadedError(InferError):
    """The model, or the version that was asked for, does not serve."""


class NameRefusedError(TritonError):
    """A name that cannot be a model's."""

    transient = False


class StatusError(TritonError):
    """Triton answered with a status that none of the others covers."""

    transient = False


@dataclass(frozen=True)
class ServerMetadata:
    name: str
    version: str
    extensions: tuple[str, ...]


@dataclass(frozen=True)
class IndexRow:
    """One row of the repository index. A model that was never loaded has a name only: version None, state empty."""

    name: str
    version: int | None = None
    state: str = ""
    reason: str = ""


def check_name(name: t.Any) -> str:
    """Return the name if a model can have it, or raise before any request is made."""
    why = ""
    if not isinstance(name, str) or not name.strip():
        why = "it is empty"
    elif "/" in name or "\\" in name:
        why = "it has a slash, which would address another part of Triton's API"
    elif ".." in name or name == ".":
        why = "it has '..', which would leave the model repository"
    elif _CONTROL.search(name):
        why = "it has control characters"
    elif len(name.encode("utf-8", "surrogatepass")) > 255:
        why = "it is longer than a directory name can be"
    if why:
        raise NameRefusedError(
            f"Cannot use {name!r} as the name of a model",
            why,
            "give the name of the model's directory in the repository",
        )
    return str(name)


def model_path(name: str, version: int | None = None, action: str = "") -> str:
    path = "/v2/models/" + quote(check_name(name), safe=_PATH_SAFE)
    if version is not None:
        path += f"/versions/{int(version)}"
    return path + (f"/{action}" if action else "")


class TritonClient:
    """The calls that the collection needs, over any transport that has `request(method, path, body, timeout)`."""

    def __init__(self, transport: t.Any, admin_header: str = "x-gpufleet-admin-key", key_given: bool = False) -> None:
        self.transport = transport
        self.admin_header = admin_header
        self.key_given = key_given

    def server_metadata(self) -> ServerMetadata:
        """Return the server's name and version; NotTritonError when it is something else."""
        answer = self._request("GET", "/v2")
        self._check_access(answer)
        found: t.Any = None
        if answer.status == 200:
            try:
                found = answer.json()
            except ValueError:
                found = None
        if isinstance(found, dict):
            name, version, extensions = found.get("name"), found.get("version"), found.get("extensions")
            if isinstance(name, str) and isinstance(version, str) and isinstance(extensions, list):
                if any(str(extension).startswith("model_repository") for extension in extensions):
                    return ServerMetadata(name, version, tuple(str(extension) for extension in extensions))
                raise _not_triton(answer, f"it says that it is {name!r} {version!r}, without Triton's model_repository extension")
        raise _not_triton(answer, _what_came(answer))

    def live(self) -> bool:
        return self._health("/v2/health/live")

    def ready(self) -> bool:
        return self._health("/v2/health/ready")

    def model_ready(self, name: str, version: int | None = None) -> bool:
        """Tell whether a model, or one version of it, serves. An unknown model is not ready, whatever the status."""
        answer = self._request("GET", model_path(name, version, "ready"))
        if answer.status == 200:
            return True
        self._check_access(answer)
        # An old server answers 400, recent ones 400 or 404, with or without a text.
        if answer.status in (400, 404, 503) and (answer.error() or not answer.body):
            return False
        raise self._unexpected(answer, "200, or 400 for a model that is not ready")

    def index(self) -> list[IndexRow]:
        answer = self._request("POST", "/v2/repository/index")
        self._check_access(answer)
        if answer.status == 200:
            try:
                return [_row(item) for item in _list(answer.json())]
            except ValueError:
                pass
        raise self._unexpected(answer, "the list of models")

    def config(self, name: str, version: int | None = None) -> dict[str, t.Any] | None:
        """Return the configuration that is being served, or None when the model is not loaded."""
        return self._of_model(name, version, "config")

    def metadata(self, name: str, version: int | None = None) -> dict[str, t.Any] | None:
        """Return versions, inputs and outputs, or None when the model is not loaded."""
        return self._of_model(name, version, "")

    def stats(self, name: str | None = None) -> list[dict[str, t.Any]]:
        """Return the statistics of one model, or of every model that serves."""
        if name is None:
            answer = self._request("GET", "/v2/models/stats")
            found = self._object(answer)
            if found is None:
                raise self._unexpected(answer, "statistics")
        else:
            found = self._of_model(name, None, "stats") or {}
        rows = found.get("model_stats", [])
        return [row for row in rows if isinstance(row, dict)] if isinstance(rows, list) else []

    def load(self, name: str, config: dict[str, t.Any] | None = None, timeout: float | None = None) -> None:
        """Ask for a load and wait for its end. No error does not mean that anything was done: compare what is served."""
        body = None if config is None else {"parameters": {"config": json.dumps(config, sort_keys=True)}}
        self._repository(name, "load", body, timeout)

    def unload(self, name: str, unload_dependents: bool = False, timeout: float | None = None) -> None:
        """Ask for an unload. It goes on after the answer: watch the index for its end."""
        body = {"parameters": {"unload_dependents": True}} if unload_dependents else None
        self._repository(name, "unload", body, timeout)

    def infer(self, name: str, version: int | None, body: bytes, header_length: int | None = None) -> Response:
        """Send a request for inference, as JSON or as JSON of that length with binary tensors behind it. Returns a 200 or raises."""
        headers = None
        if header_length is not None:
            headers = {"Content-Type": "application/octet-stream", HEADER_LENGTH: str(header_length)}
        answer: Response = self.transport.request("POST", model_path(name, version, "infer"), body, None, headers)
        if answer.status == 200:
            return answer
        self._check_access(answer)
        reason = answer.error()
        # Triton's metrics port has answers to a POST as well, and they look like Triton's.
        if not reason or _NOT_READY in reason or answer.status == 405 or reason == "Not Found":
            raise self._unexpected(answer, "the outputs of the model")
        line = f"POST {answer.url}: HTTP {answer.status}: {reason}"
        if _UNKNOWN_MODEL.search(reason) and answer.status in (400, 404, 503):
            asked = f"model {name!r}" if version is None else f"version {version} of model {name!r}"
            raise NotLoadedError(
                line,
                f"{asked} is not loaded",
                f"load it with triton_model (name: {name}), or correct the name; triton_info shows what is there",
                reason,
            )
        raise InferError(line, "", "look at the server's log", reason)

    def no_inference(self, answer: Response, why: str) -> TritonError:
        """Explain a 200 that is no answer to an inference."""
        error = self._unexpected(answer, "the outputs of the model")
        return StatusError(error.what, why, error.remedy) if isinstance(error, StatusError) else error

    # ---

    def _request(self, method: str, path: str, body: t.Any = None, timeout: float | None = None) -> Response:
        answer: Response = self.transport.request(method, path, body, timeout)
        return answer

    def _repository(self, name: str, verb: str, body: t.Any, timeout: float | None) -> None:
        path = f"/v2/repository/models/{quote(check_name(name), safe=_PATH_SAFE)}/{verb}"
        answer = self._request("POST", path, body, timeout)
        if answer.status == 200 and not answer.body.strip():
            return
        self._check_access(answer)
        reason = answer.error()
        if _NOT_EXPLICIT in reason:
            raise ModeError(
                f"Cannot {verb} model {name!r}: the server does not run in explicit control mode (HTTP {answer.status}: {reason})",
                "in poll mode Triton follows the repository by itself, in none mode it serves what it found when it started",
                "start it with --model-control-mode=explicit (triton_server_model_control_mode: explicit), or change"
                " the repository instead",
            )
        if _POLL_FAILED in reason:
            raise PollFailedError(
                f"Cannot {verb} model {name!r}: Triton cannot read it from the repository (HTTP {answer.status}: {reason})",
                "its directory is missing, or its config.pbtxt or the configuration sent is not valid; Triton writes"
                " the cause to its log only",
                f"look for \"Poll failed for model directory '{name}'\" in the server's log, or set the option container",
                reason,
            )
        if reason and _NOT_READY not in reason:
            raise ModelError(
                f"Cannot {verb} model {name!r}: HTTP {answer.status}",
                reason,
                ("correct the model in the repository and load it again" if verb == "load" else "look at the server's log"),
                reason,
            )
        raise self._unexpected(answer, "200 and an empty body")

    def _health(self, path: str) -> bool:
        answer = self._request("GET", path)
        if answer.status == 200 and not answer.body.strip():
            return True
        self._check_access(answer)
        if answer.status in (400, 500, 503) and (answer.error() or not answer.body.strip()):
            return False
        if answer.status == 200:
            # Some proxies add a body; some other service answers 200 to everything. The metadata tells which.
            self.server_metadata()
            return True
        raise self._unexpected(answer, "200 or 400")

    def _of_model(self, name: str, version: int | None, action: str) -> dict[str, t.Any] | None:
        answer = self._request("GET", model_path(name, version, action))
        found = self._object(answer)
        if found is not None:
            return found
        if answer.status in (400, 404) and _UNKNOWN_MODEL.search(answer.error()):
            return None
        raise self._unexpected(answer, f"the {action or 'metadata'} of model {name!r}")

    def _object(self, answer: Response) -> dict[str, t.Any] | None:
        self._check_access(answer)
        if answer.status != 200:
            return None
        try:
            found = answer.json()
        except ValueError:
            return None
        return found if isinstance(found, dict) else None

    def _check_access(self, answer: Response) -> None:
        reason = answer.error()
        if answer.status not in (401, 403) and _RESTRICTED not in reason:
            return
        came = f"{answer.method} {answer.url}: HTTP {answer.status}" + (f", {reason}" if reason else "")
        if _RESTRICTED not in reason:
            raise AccessError(
                came,
                "a proxy in front of Triton refuses the request",
                f"send what it wants with the option headers; the admin key travels in the header {self.admin_header}",
            )
        if self.key_given:
            why = f"the admin key sent in the header {self.admin_header} is wrong, or the server expects another header"
        else:
            why = f"no admin key was given, and the server wants one in the header {self.admin_header}"
        expected = re.search(r"expecting header '([^']+)'", reason)
        other = expected.group(1) if expected and expected.group(1).lower() != self.admin_header.lower() else ""
        remedy = "set admin_key or admin_key_file to the key the server was started with"
        raise AccessError(came, why, f"set admin_header to {other}, and " + remedy[4:] if other else remedy)

    def _unexpected(self, answer: Response, wanted: str) -> TritonError:
        """Explain an answer that makes no sense: is there a Triton at all?"""
        reason = answer.error()
        line = f"{answer.method} {answer.url}: wanted {wanted}, got HTTP {answer.status}"
        if _NOT_READY in reason:
            return NotInitialisedError(
                f"{line}: {reason}",
                "the server is exiting, or its initialisation failed and --exit-on-error=false keeps it up",
                "look at the first errors in the server's log, correct them and restart it",
            )
        if answer.status in (502, 504) or (answer.status == 503 and not reason):
            return NotTritonError(
                f"{line}: {_what_came(answer)}",
                "a gateway answers in place of Triton, which is down or starting",
                "start the server, or give its own address in the option url",
            )
        try:
            self.server_metadata()
        except NotTritonError as error:
            return error
        except AccessError:
            pass
        return StatusError(
            f"{line}: {_what_came(answer)}",
            "this server answers otherwise than the Triton versions known",
            "look at its log",
        )


def _what_came(answer: Response) -> str:
    text = answer.error() or answer.text(200)
    return text if text else "an empty body"


def _not_triton(answer: Response, came: str) -> NotTritonError:
    return NotTritonError(
        f"{answer.method} {answer.url}: something else than Triton answers (wanted Triton's metadata, got HTTP {answer.status}: {came})",
        "the port belongs to another service; Triton's metrics port answers every path with 200 and an empty body",
        "give the address of Triton's HTTP service in the option url (its default port is 8000)",
    )


def _list(data: t.Any) -> list[t.Any]:
    if not isinstance(data, list):
        raise ValueError("not a list")
    return data


def _row(item: t.Any) -> IndexRow:
    if not isinstance(item, dict) or not isinstance(item.get("name"), str):
        raise ValueError("not a row of the index")
    version = item.get("version")
    return IndexRow(
        item["name"],
        int(version) if version not in (None, "") else None,
        str(item.get("state") or ""),
        str(item.get("reason") or ""),
    )


def read_key(path: str) -> str:
    """Return the first line of a key file."""
    try:
        with open(path, encoding="utf-8") as stream:
            key = stream.readline().strip()
    except (OSError, UnicodeDecodeError) as error:
        raise HttpOptionsError(
            f"Cannot read admin_key_file {path}",
            str(error) if isinstance(error, OSError) else "it is not text",
            "give a file on the target that the task's user can read (become: true, usually)",
        ) from None
    if not key:
        raise HttpOptionsError(f"Cannot use admin_key_file {path}", "its first line is empty", "write the key into its first line")
    return key


def options_from(params: t.Mapping[str, t.Any], pool: int = 4) -> Options:
    """Turn the connection options of a module into those of the transport."""
    key = params.get("admin_key") or ""
    if not key and params.get("admin_key_file"):
        key = read_key(params["admin_key_file"])
    return Options(
        url=params["url"],
        headers=tuple((str(name), str(value)) for name, value in (params.get("headers") or {}).items()),
        admin_header=params["admin_header"],
        admin_key=key,
        validate_certs=params["validate_certs"],
        ca_path=params.get("ca_path") or "",
        client_cert=params.get("client_cert") or "",
        client_key=params.get("client_key") or "",
        timeout=float(params["timeout"]),
        pool=pool,
    )


def connect(options: Options) -> TritonClient:
    return TritonClient(Transport(options), options.admin_header, bool(options.admin_key))
