# Copyright (c) 2026, The gpufleet.triton authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What tests of publishing need to see with their own eyes: a model that tells what it was made of, a client that never
pauses, and the digest of a folder, computed without the collection.

Each answer of the model has the number that its configuration gives it, the number in its weights, the checksum of its
weights as it read them, and what it was asked. A model put together from two contents cannot give an answer that is right.
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import subprocess
import sys
import threading
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any

import requests

PARAMETER = "gpufleet.digest"
CODE = """\
import hashlib
import json
import os
import time

import numpy
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    def initialize(self, args):
        folder = os.path.join(args["model_repository"], args["model_version"])
        with open(os.path.join(folder, "weights.bin"), "rb") as file:
            weights = file.read()
        configured = json.loads(args["model_config"])["parameters"]["number"]["string_value"]
        checksum = int.from_bytes(hashlib.sha256(weights).digest()[:4], "big")
        self.answer = [int(configured), int.from_bytes(weights[:8], "big"), checksum]

    def execute(self, requests):
        responses = []
        # Most of the time a request is under way in here.
        time.sleep(0.004)
        for request in requests:
            given = pb_utils.get_input_tensor_by_name(request, "IN").as_numpy()
            answer = numpy.array([*self.answer, given[0]], dtype=numpy.int64)
            responses.append(pb_utils.InferenceResponse([pb_utils.Tensor("OUT", answer)]))
        return responses
"""
CONFIG = """\
backend: "python"
input [ {{ name: "IN" data_type: TYPE_INT64 dims: [ 1 ] }} ]
output [ {{ name: "OUT" data_type: TYPE_INT64 dims: [ 4 ] }} ]
instance_group [ {{ kind: KIND_CPU }} ]
parameters {{ key: "number" value {{ string_value: "{number}" }} }}
"""


@dataclass(frozen=True)
class Content:
    """A content of the model, by its number: what its folder holds, and what it answers."""

    folder: Path
    number: int
    checksum: int
    files: tuple[tuple[str, int, str, bool], ...]

    @property
    def digest(self) -> str:
        return digest_of(self.files)

    @property
    def answer(self) -> list[int]:
        return [self.number, self.number, self.checksum]


def write(folder: Path, number: int, size: int, unchanged: int = 0, age: float = 0) -> Content:
    """Write a model with `size` bytes of weights of its own and `unchanged` bytes that are the same in all; `age`: seconds ago."""
    (folder / "1").mkdir(parents=True)
    weights = number.to_bytes(8, "big") + random.Random(number).randbytes(size - 8)
    (folder / "1" / "weights.bin").write_bytes(weights)
    (folder / "1" / "model.py").write_text(CODE)
    (folder / "config.pbtxt").write_text(CONFIG.format(number=number))
    if unchanged:
        (folder / "1" / "vocabulary.bin").write_bytes(random.Random(0).randbytes(unchanged))
    for part in ("labels", "labels/more"):
        (folder / part).mkdir()
        (folder / part / "names.txt").write_text(f"{part} of {number}\n")
    if age:
        then = time.time() - age
        for path in [*folder.rglob("*"), folder]:
            os.utime(path, (then, then))
    return Content(folder, number, int.from_bytes(hashlib.sha256(weights).digest()[:4], "big"), tuple(files_of(folder)))


def files_of(folder: Path) -> list[tuple[str, int, str, bool]]:
    """Path, size, sha256 and whether it can be executed, of all files of a model, published or not."""
    files = []
    for path in folder.rglob("*"):
        name = path.relative_to(folder).as_posix()
        if name == ".gpufleet.json":
            continue
        if path.is_dir():
            if not any(path.iterdir()):
                files.append((f"{name}/", 0, "", False))
            continue
        data = path.read_bytes()
        if name == "config.pbtxt":
            data = data.partition(f'\nparameters {{ key: "{PARAMETER}"'.encode())[0]
        files.append((name, len(data), hashlib.sha256(data).hexdigest(), bool(path.stat().st_mode & 0o100)))
    return sorted(files)


def digest_of(files: Iterable[tuple[str, int, str, bool]]) -> str:
    """The digest of a content, as docs/models.md defines it."""
    lines = "".join(f"{name}\0{size}\0{checksum}{chr(0) + 'x' if executable else ''}\n" for name, size, checksum, executable in files)
    return "sha256:" + hashlib.sha256(lines.encode()).hexdigest()


def digest(folder: Path) -> str:
    return digest_of(files_of(folder))


@dataclass
class Seen:
    """What the client saw: how many answers of which content, and what was wrong."""

    answers: dict[int, int] = field(default_factory=dict)
    wrong: list[str] = field(default_factory=list)
    slowest: float = 0
    mixed: int = 0


class Client(threading.Thread):
    """Infers over one connection, one after the other without a pause, until it is closed or has had its time.

    An answer is right if it is wholly of one content, and that is one that may be served when it was asked for: `allow`
    says which from now on, `forward` that none may have a lower number than the one before, `mixed` that the weights may be
    of a later content than the configuration. Whatever is wrong is kept, and the client goes on.
    """

    def __init__(self, url: str, model: str, contents: list[Content], seconds: float, forward: bool = False, mixed: bool = False) -> None:
        super().__init__(daemon=True)
        self.seen = Seen()
        self._target = f"{url}/v2/models/{model}/infer"
        self._contents = {content.number: content for content in contents}
        self._allowed = frozenset(self._contents)
        self._forward, self._last, self._mixed = forward, 0, mixed
        self._end = time.monotonic() + seconds
        self._closed = threading.Event()

    def allow(self, *contents: Content) -> None:
        self._allowed = frozenset(content.number for content in contents)

    def wait(self, content: Content, answers: int = 20) -> None:
        """Until so many answers were of that content."""
        end = time.monotonic() + 30
        while self.seen.answers.get(content.number, 0) < answers and time.monotonic() < end:
            time.sleep(0.02)

    def __enter__(self) -> Client:
        self.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._closed.set()
        self.join(60)

    def run(self) -> None:
        nonce = 0
        with requests.Session() as session:
            while not self._closed.is_set():
                if time.monotonic() > self._end:
                    self.seen.wrong.append("the client's time was over before the test was")
                    return
                nonce += 1
                allowed = self._allowed
                begin = time.monotonic()
                problem = self._ask(session, nonce, allowed)
                self.seen.slowest = max(self.seen.slowest, time.monotonic() - begin)
                if problem:
                    self.seen.wrong.append(problem)

    def _ask(self, session: requests.Session, nonce: int, allowed: frozenset[int]) -> str:
        body = {"inputs": [{"name": "IN", "shape": [1], "datatype": "INT64", "data": [nonce]}]}
        try:
            answer = session.post(self._target, json=body, timeout=30)
            if answer.status_code != 200:
                return f"request {nonce}: {answer.status_code} {answer.text}"
            data = answer.json()["outputs"][0]["data"]
        except (requests.RequestException, ValueError, KeyError) as error:
            return f"request {nonce}: {error!r}"
        content = self._contents.get(data[0])
        weights = self._contents.get(data[1])
        if self._mixed and content and weights and content.number < weights.number and data[2:] == [weights.checksum, nonce]:
            self.seen.mixed += 1
            return ""
        if content is None or data != [*content.answer, nonce]:
            return f"request {nonce}: {data} is of no content"
        # What became allowed while the request was on its way is right as well.
        if content.number not in allowed and content.number not in self._allowed:
            return f"request {nonce}: content {content.number} was served, allowed were {sorted(allowed)}"
        if self._forward and content.number < self._last:
            return f"request {nonce}: content {content.number} was served after {self._last}"
        self._last = content.number
        self.seen.answers[content.number] = self.seen.answers.get(content.number, 0) + 1
        return ""


class ModuleFailed(Exception):
    """The module said that it failed."""


def command(name: str, arguments: dict[str, Any]) -> list[str]:
    """The command line of a module of the collection, as Ansible would start it on a target, without Ansible around it."""
    return [sys.executable, str(Path(__file__).with_name("as_module.py")), name, json.dumps(arguments)]


def module(name: str, arguments: dict[str, Any], **environment: str) -> dict[str, Any]:
    done = subprocess.run(
        command(name, arguments), text=True, capture_output=True, check=False, timeout=300, env={**os.environ, **environment}
    )
    if done.returncode:
        raise ModuleFailed(f"{name} {arguments}: {done.stdout}{done.stderr}")
    return json.loads(done.stdout.splitlines()[-1])


class Repository:
    """A repository with a model of that name, and what the module is asked to do with it."""

    def __init__(self, root: Path, name: str) -> None:
        self.root, self.name = root, name
        self.live = root / "data" / "models" / name
        self.releases = root / "data" / ".gpufleet" / "releases" / name

    def to_publish(self, content: Content) -> dict[str, Any]:
        """The last request of a publication from a folder on the host, as the controller sends it."""
        texts = {"config.pbtxt": (content.folder / "config.pbtxt").read_text()}
        model = {"name": self.name, "state": "present", "digest": content.digest, "files": content.files, "texts": texts}
        model.update(folder=str(content.folder), identity=None, host_identity=None, source={"folder": str(content.folder)})
        return {"root": str(self.root), "_request": {"phase": "publish", "inbox": None, "models": [model]}}

    def to_roll_back(self, content: Content) -> dict[str, Any]:
        model = {"name": self.name, "state": "rolled_back", "digest": content.digest}
        return {"root": str(self.root), "_request": {"phase": "publish", "inbox": None, "models": [model]}}

    def debris(self) -> list[str]:
        """What lies about: half-written work, folders beside the model, releases that are not what their name says."""
        found = self.staged()
        found += [str(path) for path in self.live.parent.iterdir() if path != self.live]
        for release in self.releases.iterdir() if self.releases.is_dir() else ():
            if digest(release).partition(":")[2] != release.name.rpartition(":")[2]:
                found.append(f"{release}: has the digest {digest(release)}")
        return found

    def staged(self) -> list[str]:
        staging = self.root / "data" / ".gpufleet" / "staging"
        # What was downloaded in part stays, so that the next run can go on with it.
        return [str(path) for path in staging.glob("*") if path.name != "downloads"]

    def on_disk(self) -> str:
        """The digest of what is there, after a look at whether the manifest says the same."""
        here = digest(self.live)
        said = json.loads((self.live / ".gpufleet.json").read_text())["digest"]
        check(said == here, f"the manifest says {said}, the files are {here}")
        return here


def served(url: str, model: str) -> str:
    """The digest that the server has loaded, as it says itself."""
    config = requests.get(f"{url}/v2/models/{model}/config", timeout=30).json()
    return str(config["parameters"][PARAMETER]["string_value"])


def load(url: str, model: str, wanted: str) -> str:
    """Load by the collection's module, to a digest; return its action."""
    done = module("triton_model", {"url": url, "admin_key_file": "", "name": model, "digest": wanted})
    check(served(url, model) == wanted, f"{model} serves {served(url, model)}, wanted {wanted}")
    return str(done["models"][0]["action"])


def check(truth: object, said: str) -> None:
    if not truth:
        raise AssertionError(said)
