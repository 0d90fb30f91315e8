# Copyright (c) 2026, The gpufleet.triton authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The order of the questions that a host is asked, with a host that answers from memory. The module itself is tested elsewhere."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.gpufleet.triton.plugins.module_utils._manifest import digest_of, entries_from
from ansible_collections.gpufleet.triton.plugins.plugin_utils import _publication
from ansible_collections.gpufleet.triton.plugins.plugin_utils._publication import Publication

CONFIG = """\
backend: "python"
input [ { name: "I" data_type: TYPE_FP32 dims: [ 1 ] } ]
output [ { name: "O" data_type: TYPE_FP32 dims: [ 1 ] } ]
"""
ENSEMBLE = """\
platform: "ensemble"
input [ { name: "I" data_type: TYPE_FP32 dims: [ 1 ] } ]
output [ { name: "O" data_type: TYPE_FP32 dims: [ 1 ] } ]
ensemble_scheduling { step { model_name: "step" model_version: -1
  input_map { key: "I" value: "I" } output_map { key: "O" value: "O" } } }
"""


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


class MemoryHost:
    """A host whose models are in memory: name -> path -> content."""

    def __init__(self, folder: Path, check_mode: bool = False, diff: bool = False) -> None:
        self.check_mode, self.diff = check_mode, diff
        self.local_tmp = str(folder)
        self.inbox: str | None = str(folder / "inbox")
        self.mine = str(folder / "mine")
        for path in (folder / "inbox", folder / "mine"):
            path.mkdir()
        self.live: dict[str, dict[str, bytes]] = {}
        self.identities: dict[str, str] = {}
        self.sources: dict[str, dict[str, bytes]] = {}
        self.phases: list[str] = []
        self.requests: list[dict[str, Any]] = []
        self.said: list[str] = []
        self.warned: list[str] = []
        self.readable: list[str] = []
        self.fail: dict[str, dict[str, Any]] = {}
        self.fetched: dict[str, dict[str, bytes]] = {}

    def call(self, request: dict[str, Any]) -> dict[str, Any]:
        # What a module gets went through JSON.
        request = json.loads(json.dumps(request))
        phase = request["phase"]
        self.phases.append(phase)
        self.requests.append(request)
        if phase in self.fail:
            return self.fail[phase]
        answer: dict[str, Any] = getattr(self, f"_{phase}")(request)
        return answer

    def _plan(self, request: dict[str, Any]) -> dict[str, Any]:
        rows = [self._plan_one(model) for model in request["models"]]
        configs = {name: self.live[name]["config.pbtxt"].decode() for name in request.get("configs", []) if name in self.live}
        return {"models": rows, "on_disk": [{"name": name} for name in self.live], "configs": configs}

    def _plan_one(self, model: dict[str, Any]) -> dict[str, Any]:
        row: dict[str, Any] = {"name": model["name"], "action": "none", "lacks": [], "reasons": [], "needs_fetch": False}
        live = self.live.get(model["name"])
        if model["state"] != "present":
            return {**row, "action": {"absent": "removed" if live else "none"}.get(model["state"], model["state"])}
        if live is not None and model["identity"] and model["identity"] == self.identities.get(model["name"]):
            return row
        if model["files"] is None:
            return {**row, "action": "published", "needs_fetch": True}
        known = {sha256(data): len(data) for content in self.live.values() for data in content.values()}
        wanted = {path: checksum for path, _size, checksum, _executable in model["files"]}
        if live is not None and wanted == {path: sha256(data) for path, data in live.items()}:
            return row
        lacks = {checksum for path, checksum in wanted.items() if checksum not in known and path != "config.pbtxt"}
        open_files = {checksum for _path, size, checksum, _executable in model["files"] if size is None}
        changes = {"added": sorted(set(wanted) - set(live or {})), "changed": [], "removed": sorted(set(live or {}) - set(wanted))}
        texts = {"config.pbtxt": live["config.pbtxt"].decode()} if live else {}
        return {
            **row,
            "action": "published",
            "lacks": sorted(lacks - open_files),
            "needs_fetch": bool(lacks & open_files),
            "sizes": {checksum: known[checksum] for checksum in open_files if checksum in known},
            "changes": changes,
            "texts": texts,
        }

    def _open(self, _request: dict[str, Any]) -> dict[str, Any]:
        return {"inbox": self.inbox}

    def _fetch(self, request: dict[str, Any]) -> dict[str, Any]:
        rows = []
        for model in request["models"]:
            content = dict(self.sources.get(model["name"], {}))
            self.fetched[model["name"]] = content
            rows.append({
                "name": model["name"],
                "folder": f"/fetched/{model['name']}",
                "files": [[path, len(data), sha256(data), False] for path, data in sorted(content.items())],
                "texts": {path: data.decode() for path, data in content.items() if path in ["config.pbtxt", *model["texts"]]},
                "host_identity": "of the host",
            })  # fmt: skip
        return {"models": rows}

    def _discard(self, request: dict[str, Any]) -> dict[str, Any]:
        assert set(request["folders"]) <= {f"/fetched/{name}" for name in self.fetched}
        return {}

    def _publish(self, request: dict[str, Any]) -> dict[str, Any]:
        if request.get("everything"):
            return {"models": [{"name": name, "action": "verified"} for name in sorted(self.live)]}
        have = {sha256(data): data for content in [*self.live.values(), *self.fetched.values()] for data in content.values()}
        for path in Path(request["inbox"]).iterdir() if request.get("inbox") else ():
            if not path.name.startswith("bundle-"):
                have[path.name] = path.read_bytes()
            elif path.suffix != ".json":
                data, at = path.read_bytes(), 0
                for checksum, size in json.loads(Path(f"{path}.json").read_text()):
                    have[checksum], at = data[at : at + size], at + size
        rows = []
        for model in request["models"]:
            action = {"present": "published", "absent": "removed"}.get(model["state"], model["state"])
            if model["state"] == "present":
                assert model["digest"] == digest_of(entries_from(model["files"]))
                texts = {path: text.encode() for path, text in model["texts"].items()}
                content = {path: texts.get(path, have.get(checksum)) for path, _size, checksum, _x in model["files"]}
                assert {path: sha256(data or b"") for path, data in content.items()} == {row[0]: row[2] for row in model["files"]}
                self.live[model["name"]] = content  # type: ignore[assignment]
                self.identities[model["name"]] = model["identity"]
            elif model["state"] == "absent":
                del self.live[model["name"]]
            rows.append({"name": model["name"], "action": action, "digest": model["digest"]})
        return {"models": rows, "on_disk": [{"name": name} for name in self.live]}

    def put(self, source: str, target: str) -> None:
        if not os.access(Path(target).parent, os.W_OK) or target.startswith("/closed"):
            raise PermissionError(target)
        shutil.copyfile(source, target)

    def denied(self, error: Exception) -> bool:
        return isinstance(error, PermissionError)

    def login_uid(self) -> int | None:
        return 1000

    def temporary_folder(self) -> str:
        return self.mine

    def make_readable(self, folder: str, names: Any) -> None:
        self.readable = [folder, *names]

    def find(self, path: str) -> str | None:
        return path if os.path.exists(path) else None

    def say(self, text: str) -> None:
        self.said.append(text)

    def warn(self, text: str) -> None:
        self.warned.append(text)


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> MemoryHost:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    # As if every content were large.
    monkeypatch.setattr(_publication, "AT_ONCE", 0)
    (tmp_path / "host").mkdir()
    return MemoryHost(tmp_path / "host")


def model(tmp_path: Path, name: str = "m", config: str = CONFIG, **files: bytes) -> dict[str, Any]:
    folder = tmp_path / "models" / name / "1"
    folder.mkdir(parents=True, exist_ok=True)
    (folder.parent / "config.pbtxt").write_text(config)
    for file, data in ({"model_py": b"pass\n"} | files).items():
        (folder / file.replace("_", ".")).write_bytes(data)
    return {"name": name, "src": str(folder.parent)}


def run(host: MemoryHost, *models: dict[str, Any], populate: Any = None, **args: Any) -> dict[str, Any]:
    host.phases.clear()
    host.requests.clear()

    def verify(*_args: Any, **_keys: Any) -> None:
        raise AssertionError("no signature was asked for")

    given = {"root": "/srv", "models": list(models), **args} if models or "name" not in args else {"root": "/srv", **args}
    return Publication(given, host, verify, populate).run()


def test_a_model_is_published_and_then_left_alone(tmp_path: Path, host: MemoryHost) -> None:
    entry = model(tmp_path, weights_bin=b"w" * 2_000_000)
    first = run(host, entry)
    assert host.phases == ["plan", "open", "publish"]
    assert (first["changed"], first["module_calls"], first["models"][0]["action"]) == (True, 3, "published")
    assert host.live["m"]["1/weights.bin"] == b"w" * 2_000_000
    assert first["models"][0]["bytes_sent"] == 2_000_005
    assert 2_000_005 < first["bytes_sent"] < 2_005_000
    second = run(host, entry)
    assert host.phases == ["plan"]
    assert (second["changed"], second["bytes_sent"], second["module_calls"]) == (False, 0, 1)
    assert second["models"][0]["digest"] == first["models"][0]["digest"]


def test_the_number_of_questions_does_not_depend_on_that_of_the_models(tmp_path: Path, host: MemoryHost) -> None:
    result = run(host, *[model(tmp_path, f"m{number}", weights_bin=b"%d" % number) for number in range(20)])
    assert result["module_calls"] == 3
    assert [row["name"] for row in result["models"]] == [f"m{number}" for number in range(20)]
    assert sorted(host.live) == sorted(f"m{number}" for number in range(20))


def test_only_what_changed_is_sent(tmp_path: Path, host: MemoryHost) -> None:
    run(host, model(tmp_path, a_bin=b"a" * 2_000_000, b_bin=b"b" * 2_000_000))
    result = run(host, model(tmp_path, b_bin=b"c" * 1_000_000))
    assert result["models"][0]["bytes_sent"] == 1_000_000
    # What says what to do is little against it.
    assert result["bytes_sent"] < 1_050_000


def test_a_changed_configuration_alone_needs_no_inbox(tmp_path: Path, host: MemoryHost) -> None:
    run(host, model(tmp_path))
    result = run(host, {**model(tmp_path), "config": {"max_batch_size": 8}})
    assert host.phases == ["plan", "publish"]
    assert host.live["m"]["config.pbtxt"].decode() == CONFIG + "max_batch_size: 8\n"
    assert result["models"][0]["bytes_sent"] == 0


def test_nothing_is_asked_when_one_model_is_refused(tmp_path: Path, host: MemoryHost) -> None:
    result = run(host, model(tmp_path, "good"), model(tmp_path, "bad", config="nope: 1\n"), {"name": "none", "src": "/no/such"})
    assert host.phases == []
    assert result["failed"]
    assert [problem["model"] for problem in result["problems"]] == ["bad", "none"]
    assert result["msg"].startswith("Cannot publish bad, none (2 of 3 models); nothing was sent or changed.\n- bad: ")


def test_in_check_mode_a_refusal_still_tells_what_is_on_disk(tmp_path: Path, host: MemoryHost) -> None:
    run(host, model(tmp_path, "good"))
    host.check_mode = True
    result = run(host, model(tmp_path, "good"), {"name": "none", "src": "/no/such"})
    assert result["failed"]
    assert result["on_disk"] == [{"name": "good"}]
    assert [row["name"] for row in result["models"]] == ["good"]


def test_check_mode_ends_with_the_plan(tmp_path: Path, host: MemoryHost) -> None:
    host.check_mode = True
    result = run(host, model(tmp_path, weights_bin=b"w" * 100))
    assert host.phases == ["plan"]
    assert (result["changed"], result["models"][0]["bytes_sent"], result["bytes_sent"]) == (True, 105, 105)
    assert result["models"][0]["digest"].startswith("sha256:")
    assert host.live == {}


def test_no_models_tell_what_is_on_disk(tmp_path: Path, host: MemoryHost) -> None:
    run(host, model(tmp_path))
    assert run(host)["on_disk"] == [{"name": "m"}]
    assert host.phases == ["plan"]


def test_what_needs_no_content_is_one_question(tmp_path: Path, host: MemoryHost) -> None:
    run(host, model(tmp_path))
    result = run(host, {"name": "m", "state": "verified"})
    assert (host.phases, result["changed"], result["models"][0]["action"]) == (["publish"], False, "verified")
    result = run(host, {"name": "m", "state": "absent"})
    assert (host.phases, result["changed"]) == (["publish"], True)


def test_all_models_are_verified_where_none_is_named(tmp_path: Path, host: MemoryHost) -> None:
    run(host, model(tmp_path, "one"), model(tmp_path, "two"))
    result = run(host, state="verified")
    assert host.requests == [{"phase": "publish", "models": [], "everything": True}]
    assert [(row["name"], row["action"]) for row in result["models"]] == [("one", "verified"), ("two", "verified")]


def test_states_may_be_mixed(tmp_path: Path, host: MemoryHost) -> None:
    run(host, model(tmp_path, "old"))
    result = run(host, model(tmp_path, "new", other_bin=b"new"), {"name": "old", "state": "absent"}, {"name": "never", "state": "absent"})
    assert host.phases == ["plan", "open", "publish"]
    assert [row["action"] for row in result["models"]] == ["published", "removed", "none"]
    assert sorted(host.live) == ["new"]


def test_a_single_model_has_its_result_at_the_top(tmp_path: Path, host: MemoryHost) -> None:
    result = run(host, **model(tmp_path))
    assert result["action"] == "published"
    assert result["digest"] == result["models"][0]["digest"]


@pytest.mark.parametrize("inbox", [None, "/closed/inbox"])
def test_an_inbox_out_of_reach_is_replaced_by_ansibles_own_folder(tmp_path: Path, host: MemoryHost, inbox: str | None) -> None:
    host.inbox = inbox
    run(host, model(tmp_path, weights_bin=b"w" * 2_000_000))
    assert host.requests[-1]["inbox"] == host.mine
    assert host.readable == [host.mine, "bundle-0", "bundle-0.json", sha256(b"w" * 2_000_000)]
    assert host.live["m"]["1/weights.bin"] == b"w" * 2_000_000


def test_little_goes_to_ansibles_own_folder_without_a_question(tmp_path: Path, host: MemoryHost, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_publication, "AT_ONCE", 2_000_005)
    run(host, model(tmp_path, weights_bin=b"w" * 2_000_000))
    assert host.phases == ["plan", "publish"]
    assert host.requests[-1]["inbox"] == host.mine
    run(host, model(tmp_path, weights_bin=b"v" * 2_000_000, more_bin=b"more!!"))
    assert host.phases == ["plan", "open", "publish"]


def test_a_failure_of_the_host_is_the_task_s(tmp_path: Path, host: MemoryHost) -> None:
    host.fail["publish"] = {"failed": True, "msg": "no room", "problems": [{"what": "no room"}], "invocation": {"module_args": {}}}
    result = run(host, model(tmp_path))
    assert (result["failed"], result["msg"], result["problems"], result["module_calls"]) == (True, "no room", [{"what": "no room"}], 3)
    assert "invocation" not in result


def test_what_modules_tell_ansible_reaches_it(tmp_path: Path, host: MemoryHost) -> None:
    plan = host._plan
    host._plan = lambda request: {**plan(request), "warnings": ["old Python"], "ansible_facts": {"python": "x"}}  # type: ignore[method-assign]
    result = run(host, model(tmp_path))
    assert (result["warnings"], result["ansible_facts"]) == (["old Python"], {"python": "x"})


def test_warnings_of_the_check_are_said_and_noted(tmp_path: Path, host: MemoryHost) -> None:
    result = run(host, model(tmp_path, config='backend: "python"\n'))
    assert result["changed"]
    assert host.warned == result["models"][0]["notes"]
    assert "There is no input." in host.warned[0]


def test_an_ensemble_finds_its_step_on_the_host(tmp_path: Path, host: MemoryHost) -> None:
    ensemble = model(tmp_path, "pipe", config=ENSEMBLE)
    refused = run(host, ensemble)
    assert host.phases == ["plan"]
    assert "There is no model 'step'." in refused["msg"]
    run(host, model(tmp_path, "step"))
    assert run(host, ensemble)["changed"]
    assert host.phases == ["plan", "open", "publish"] or host.phases == ["plan", "publish"]
    host.live["step"]["config.pbtxt"] = CONFIG.replace('"O"', '"P"').encode()
    # A python model may add tensors when it is loaded, unless the server is told not to ask it.
    refused = run(host, {**ensemble, "config": {"max_batch_size": 0}}, context={"auto_complete": False})
    assert "The model 'step' has no output 'O'." in refused["msg"]


def test_an_ensemble_is_refused_when_what_it_runs_is_about_to_leave(tmp_path: Path, host: MemoryHost) -> None:
    models = [model(tmp_path, "pipe", config=ENSEMBLE), model(tmp_path, "step")]
    run(host, *models)
    live = dict(host.live)
    for check_mode in (True, False):
        host.check_mode = check_mode
        refused = run(host, *models, context={"leaving": ["step"]})
        assert "pipe: The ensemble needs the model 'step', which is to be unloaded or removed." in refused["msg"]
        assert host.live == live
    # Together they may go.
    assert "failed" not in run(host, *models, context={"leaving": ["step", "pipe"]})


ARCHIVE = {"name": "a", "src": "https://host/a.tgz", "checksum": "a" * 64}


def test_an_archive_is_fetched_by_the_host_once(tmp_path: Path, host: MemoryHost) -> None:
    host.sources["a"] = {"config.pbtxt": CONFIG.encode(), "1/model.py": b"pass\n"}
    result = run(host, ARCHIVE)
    assert host.phases == ["plan", "fetch", "publish"]
    assert host.requests[-1]["models"][0]["folder"] == "/fetched/a"
    assert host.requests[-1]["models"][0]["host_identity"] == "of the host"
    assert result["models"][0]["bytes_sent"] == 0
    assert run(host, ARCHIVE)["changed"] is False
    assert host.phases == ["plan"]


def test_what_the_host_fetched_is_checked_as_everything_else_is(tmp_path: Path, host: MemoryHost) -> None:
    host.sources["a"] = {"config.pbtxt": b"nope: 1\n", "1/model.py": b"pass\n"}
    result = run(host, ARCHIVE, model(tmp_path, "good"))
    # What came and is not wanted does not stay.
    assert host.phases == ["plan", "fetch", "discard"]
    assert host.requests[-1]["folders"] == ["/fetched/a"]
    assert "a/config.pbtxt:1:1" in result["msg"]
    assert host.live == {}


def test_a_config_is_merged_over_that_of_an_archive(tmp_path: Path, host: MemoryHost) -> None:
    host.sources["a"] = {"config.pbtxt": CONFIG.encode(), "1/model.py": b"pass\n"}
    run(host, {**ARCHIVE, "config": {"max_batch_size": 8}})
    assert host.live["a"]["config.pbtxt"].decode() == CONFIG + "max_batch_size: 8\n"


def test_files_by_url_join_a_folder_of_the_controller(tmp_path: Path, host: MemoryHost) -> None:
    weights = b"w" * 5000
    entry = {**model(tmp_path), "files": {"1/weights.bin": {"url": "https://host/w", "checksum": sha256(weights)}}}
    host.sources["m"] = {"1/weights.bin": weights}
    result = run(host, entry)
    assert host.phases == ["plan", "fetch", "open", "publish"]
    assert host.requests[1]["models"][0]["remote"]["archive"] is None
    assert host.live["m"]["1/weights.bin"] == weights
    assert result["models"][0]["bytes_sent"] == 5
    # Another configuration needs no other weights.
    run(host, {**entry, "config": {"max_batch_size": 8}})
    assert host.phases == ["plan", "publish"]


def test_the_controller_can_fetch_in_place_of_the_host(tmp_path: Path, host: MemoryHost) -> None:
    fetched = []

    def populate(remote: dict[str, Any], folder: str, downloads: str, run_here: Any, progress: Any) -> str:
        fetched.append(remote["archive"]["url"])
        Path(folder, "1").mkdir(parents=True)
        Path(folder, "config.pbtxt").write_text(CONFIG)
        Path(folder, "1", "model.py").write_text("pass\n")
        return folder

    entry = {**ARCHIVE, "fetch_on": "controller"}
    result = run(host, entry, populate=populate)
    assert host.phases == ["plan", "plan", "open", "publish"]
    assert host.live["a"]["1/model.py"] == b"pass\n"
    assert result["models"][0]["bytes_sent"] == 5
    assert run(host, entry, populate=populate)["changed"] is False
    # Another host gets what the controller has already.
    host.live, host.identities = {}, {}
    assert run(host, entry, populate=populate)["changed"]
    assert fetched == ["https://host/a.tgz"]


def test_what_the_controller_fetched_long_ago_is_forgotten(tmp_path: Path) -> None:
    for name, age in (("old", _publication.KEPT_FETCHED + 60), ("new", 60)):
        (tmp_path / name).mkdir()
        mark = tmp_path / f"{name}.json"
        mark.write_text("{}")
        os.utime(mark, (mark.stat().st_atime, mark.stat().st_mtime - age))
    _publication._forget(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["new", "new.json"]


def test_a_diff_shows_the_files_and_the_configuration(tmp_path: Path, host: MemoryHost) -> None:
    run(host, model(tmp_path))
    host.diff = host.check_mode = True
    result = run(host, {**model(tmp_path, extra_bin=b"x"), "config": {"max_batch_size": 8}})
    assert result["diff"][0] == {"prepared": "m: published\n+ 1/extra.bin\n"}
    assert result["diff"][1]["before"] == CONFIG
    assert result["diff"][1]["after"] == CONFIG + "max_batch_size: 8\n"
    assert host.requests[0]["diff"] is True


def test_a_command_of_the_controller_ends_in_time_and_says_why_it_failed() -> None:
    assert _publication.run_here(["sh", "-c", "echo out; echo err >&2; exit 3"]) == (3, "out\n", "err\n")
    assert _publication.run_here(["sleep", "30"], timeout=0.05).stderr == "sleep did not end within 0.05 s"
    assert _publication.run_here(["/no/such/program"]).rc is None
