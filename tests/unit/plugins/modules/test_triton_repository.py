# Copyright (c) 2026, The gpufleet.triton authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import contextlib
import functools
import http.server
import io
import json
import tarfile
import threading
import typing as t
from pathlib import Path

import pytest
import yaml
from ansible.module_utils.testing import patch_module_args
from ansible_collections.gpufleet.triton.plugins.module_utils import _repository_options
from ansible_collections.gpufleet.triton.plugins.modules import triton_repository
from ansible_collections.gpufleet.triton.tests.unit.plugins.module_utils.repository_lab import PYTHON, Files, Lab, digest, rows_of, sha256
from ansible_collections.gpufleet.triton.tests.unit.plugins.modules.runner import Runner

MODULE = "triton_repository"
ONE: Files = {"1/model.py": b"one", "config.pbtxt": PYTHON.encode()}
TWO: Files = {**ONE, "1/model.py": b"two"}


@pytest.fixture
def lab(tmp_path: Path) -> Lab:
    return Lab(tmp_path / "root")


def row(name: str, files: Files, **more: t.Any) -> dict[str, t.Any]:
    texts = {path: files[path].decode() for path in files if path.endswith(".pbtxt")}
    return {"name": name, "state": "present", "files": rows_of(files), "texts": texts, **more}


class Host:
    """The module as its action plugin calls it."""

    def __init__(self, run: Runner, lab: Lab) -> None:
        self.run = run
        self.lab = lab

    def __call__(self, phase: str, *rows: dict[str, t.Any], check: bool = False, **request: t.Any) -> dict[str, t.Any]:
        args = {"root": str(self.lab.root), "_request": {"phase": phase, "models": list(rows), **request}}
        result = self.run(MODULE, args, check=check)
        assert "_request" not in json.dumps(result)
        return result

    def publish(self, name: str, files: Files) -> dict[str, t.Any]:
        plan = self("plan", row(name, files))
        inbox = self("open", uid=None, bytes=0)["inbox"]
        for content in files.values():
            if sha256(content) in plan["models"][0]["lacks"]:
                Path(inbox, sha256(content)).write_bytes(content)
        return self("publish", row(name, files), inbox=inbox)


@pytest.fixture
def host(run: Runner, lab: Lab) -> Host:
    return Host(run, lab)


def test_from_plan_to_publication(host: Host, lab: Lab) -> None:
    plan = host("plan", row("m", ONE))
    assert plan["changed"] is False, "nothing was done yet"
    assert (plan["models"][0]["action"], plan["models"][0]["lacks"]) == ("published", [sha256(b"one")])
    assert (plan["on_disk"], plan["free_bytes"] > 0) == ([], True)
    done = host.publish("m", ONE)
    assert (done["changed"], done["models"][0]["action"], done["models"][0]["digest"]) == (True, "published", digest(ONE))
    assert [item["name"] for item in done["on_disk"]] == ["m"]
    assert lab.live("m") == ONE
    again = host("plan", row("m", ONE))
    assert (again["changed"], again["models"][0]["action"]) == (False, "none")


def test_check_mode_predicts(host: Host, lab: Lab) -> None:
    assert host("plan", row("m", ONE), check=True)["changed"] is True
    assert not lab.private.exists()
    host.publish("m", ONE)
    assert host("plan", row("m", ONE), check=True)["changed"] is False
    assert host("plan", {"name": "m", "state": "absent"}, check=True)["models"][0]["action"] == "removed"
    assert lab.live("m") == ONE


def test_the_other_states(host: Host, lab: Lab) -> None:
    host.publish("m", ONE)
    host.publish("m", TWO)
    back = host("publish", {"name": "m", "state": "rolled_back"})
    assert (back["changed"], back["models"][0]["action"], lab.live("m")) == (True, "rolled_back", ONE)
    verified = host("publish", {"name": "m", "state": "verified"})
    assert (verified["changed"], verified["models"][0]["action"], verified["problems"]) == (False, "verified", [])
    gone = host("publish", {"name": "m", "state": "absent"}, {"name": "n", "state": "absent"})
    assert [item["action"] for item in gone["models"]] == ["removed", "none"]
    assert (gone["changed"], gone["on_disk"]) == (True, [])


@pytest.mark.parametrize("check", [False, True])
def test_a_verification_that_finds_something_fails(host: Host, lab: Lab, check: bool) -> None:
    host.publish("m", ONE)
    host.publish("n", ONE)
    (lab.models / "m/1/model.py").write_bytes(b"bad")
    result = host("plan", everything=True, check=check)
    assert result["failed"] is True
    assert "Model 'm' is not as it was published. corrupt: 1/model.py" in result["msg"]
    assert [item["name"] for item in result["models"]] == ["m", "n"]
    assert result["problems"] == [
        {
            "model": "m",
            "path": "1/model.py",
            "what": "corrupt",
            "why": "1/model.py differs from what was published",
            "remedy": "publish the model again",
        }
    ]


def test_each_model_that_fails_is_named(host: Host, lab: Lab) -> None:
    rows = [row("a", {"1.old/x": b""}), row("b", {"1/": b""}), row("c", {"x": b""})]
    plan = host("plan", *rows)
    assert plan["failed"] is True
    done = host("publish", *rows)
    assert done["failed"] is True
    assert done["msg"].startswith("2 of 3 models failed.")
    assert [problem["model"] for problem in done["problems"]] == ["a", "c"]
    assert [item["action"] for item in done["models"]] == ["none", "published", "none"]
    assert lab.live("b") == {"1/": b""}


def test_texts_and_configurations(host: Host, lab: Lab) -> None:
    host.publish("m", ONE)
    (lab.models / "hand/1").mkdir(parents=True)
    plan = host("plan", row("m", TWO), diff=True, configs=["m", "hand", "none"])
    assert plan["models"][0]["texts"] == {"config.pbtxt": PYTHON}
    assert plan["configs"] == {"m": PYTHON, "hand": ""}


def test_a_folder_of_the_host_is_fetched(host: Host, lab: Lab, tmp_path: Path) -> None:
    (tmp_path / "source/1").mkdir(parents=True)
    (tmp_path / "source/1/model.onnx").write_bytes(b"weights")
    remote = {"archive": None, "folder": str(tmp_path / "source"), "rclone": None, "files": {}, "exclude": [".git"]}
    want = {"name": "m", "state": "present", "identity": "x", "remote": remote}
    assert host("plan", want)["models"][0]["needs_fetch"] is True
    got = host("fetch", {"name": "m", "remote": remote})["models"][0]
    assert (got["files"], got["texts"], got["lfs"]) == ([["1/model.onnx", 7, sha256(b"weights"), False]], {}, [])
    known = {key: got[key] for key in ("files", "texts", "folder", "host_identity")}
    assert host("publish", {**want, **known})["models"][0]["action"] == "published"
    assert lab.live("m") == {"1/model.onnx": b"weights"}
    assert host("plan", want)["models"][0]["action"] == "none"
    remote["folder"] = str(tmp_path / "nowhere")
    failed = host("fetch", {"name": "m", "remote": remote})
    assert failed["failed"] is True and str(tmp_path / "nowhere") in failed["msg"]


def test_an_archive_and_a_file_are_fetched(host: Host, lab: Lab, tmp_path: Path) -> None:
    served = tmp_path / "served"
    served.mkdir()
    with tarfile.open(served / "m.tar.gz", "w:gz") as archive:
        for path, content in ONE.items():
            info = tarfile.TarInfo(f"m/{path}")
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    (served / "weights").write_bytes(b"weights")
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=str(served))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}"
        source = {name: {"url": f"{url}/{name}", "sha256": sha256((served / name).read_bytes())} for name in ("m.tar.gz", "weights")}
        remote = {"archive": source["m.tar.gz"], "files": {"1/weights": source["weights"]}, "max_unpacked": 1 << 20, "timeout": 10}
        got = host("fetch", {"name": "m", "remote": remote})["models"][0]
        server.shutdown()
    known = {key: got[key] for key in ("files", "texts", "folder", "host_identity")}
    host("publish", {"name": "m", "state": "present", "identity": "x", **known})
    assert lab.live("m") == {**ONE, "1/weights": b"weights"}
    assert lab.debris() == []
    assert host("plan", {"name": "m", "state": "present", "identity": "x", "remote": remote})["models"][0]["action"] == "none"


def test_there_is_no_repository(host: Host, lab: Lab) -> None:
    lab.models.rmdir()
    result = host("plan", row("m", ONE))
    assert result["failed"] is True
    assert result["problems"][0]["what"].startswith("There is no model repository")


@pytest.mark.parametrize("option", ["owner", "group"])
def test_an_owner_that_does_not_exist(run: Runner, lab: Lab, option: str) -> None:
    request = {"phase": "plan", "models": []}
    result = run(MODULE, {"root": str(lab.root), option: "nobody-at-all", "_request": request})
    assert f"the {option} 'nobody-at-all'" in result["msg"]
    assert run(MODULE, {"root": str(lab.root), option: "12345", "_request": request})["models"] == []


def test_without_its_action_plugin(run: Runner, lab: Lab) -> None:
    result = run(MODULE, {"root": str(lab.root), "name": "m"})
    assert "the action plugin" in result["msg"]
    assert "wanted plan, open, fetch, discard or publish" in run(MODULE, {"root": str(lab.root), "_request": {"phase": "dance"}})["msg"]


def test_headers_are_in_no_output_and_no_log(lab: Lab, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    lines: list[str] = []
    monkeypatch.setattr(triton_repository.RepositoryModule, "log", lambda _module, text, log_args=None: lines.append(f"{text} {log_args}"))
    secret = {"Authorization": "Bearer hush-hush"}
    remote = {
        "archive": {"url": "https://127.0.0.1:1/x", "sha256": "0" * 64, "headers": secret},
        "files": {"1/a": {"url": "https://127.0.0.1:1/y", "sha256": "1" * 64, "headers": {"X-Key": "whisper-whisper"}}},
    }
    for phase in ("plan", "dance"):
        args = {
            "root": str(lab.root),
            "_request": {"phase": phase, "models": [{"name": "m", "remote": remote}]},
            "_ansible_verbosity": 4,
            "_ansible_inject_invocation": True,
        }
        with patch_module_args(args), contextlib.suppress(SystemExit):
            triton_repository.main()
        text = capsys.readouterr().out + " ".join(lines)
        assert '"invocation"' in text
        assert "hush" not in text and "whisper" not in text


def test_all_options_are_documented() -> None:
    documented = yaml.safe_load(triton_repository.DOCUMENTATION)["options"]
    spec = _repository_options.public_options()
    assert sorted(documented) == sorted([*spec, "_request"])
    assert sorted(documented["models"]["suboptions"]) == sorted(spec["models"]["options"])
