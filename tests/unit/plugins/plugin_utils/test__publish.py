# Copyright (c) 2026, The gpufleet.triton authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.gpufleet.triton.plugins.module_utils import _manifest
from ansible_collections.gpufleet.triton.plugins.module_utils._manifest import HashCache, digest_of, with_digest
from ansible_collections.gpufleet.triton.plugins.plugin_utils import _publish as publish
from ansible_collections.gpufleet.triton.plugins.plugin_utils._publish import Model, RefusedError, Settings

SUM = "a" * 64
CONFIG = """\
# Kept as it is.
backend: "python"
max_batch_size: 4
input [ { name: "IN" data_type: TYPE_FP32 dims: [ 4 ] } ]
output [ { name: "OUT" data_type: TYPE_FP32 dims: [ 4 ] } ]
"""
ENSEMBLE = """\
platform: "ensemble"
max_batch_size: 4
input [ { name: "IN" data_type: TYPE_FP32 dims: [ 4 ] } ]
output [ { name: "OUT" data_type: TYPE_FP32 dims: [ 4 ] } ]
ensemble_scheduling { step { model_name: "%s" model_version: -1
  input_map { key: "IN" value: "IN" } output_map { key: "OUT" value: "OUT" } } }
"""


def find(path: str) -> str | None:
    return path if os.path.exists(path) else None


def options(**args: Any) -> dict[str, Any]:
    return publish.read_options({"root": "/srv/models", **args})


def settings(**args: Any) -> Settings:
    return publish.settings_of(options(models=[], **args), find)


def models(*entries: dict[str, Any], **args: Any) -> list[Model]:
    params = options(models=list(entries), **args)
    return publish.models_of(params, publish.settings_of(params, find), find)


def written(folder: Path, config: str | None = CONFIG, **files: str) -> Path:
    (folder / "1").mkdir(parents=True, exist_ok=True)
    if config is not None:
        (folder / "config.pbtxt").write_text(config)
    for name, text in ({"model_py": "pass\n"} | files).items():
        (folder / "1" / name.replace("_", ".")).write_text(text)
    return folder


def prepared(*entries: dict[str, Any], cache: HashCache | None = None, **args: Any) -> list[Model]:
    """Models after all that is done before the host is asked."""
    all_of = models(*entries, **args)
    of_all = settings(**args)
    for model in all_of:
        if model.kind == "folder" and model.folder:
            publish.read_folder(model, cache or HashCache(None), of_all)
            publish.settle(model, model.base or [])
            publish.check_digest(model)
    publish.check_models(all_of, of_all)
    return all_of


def said(model: Model) -> str:
    return "\n".join(str(problem) for problem in model.findings)


# Options


@pytest.mark.parametrize(
    ("args", "wanted"),
    [
        ({"name": "m", "scr": "x"}, "There is no option 'scr'. Did you mean 'src'?"),
        ({"models": [{"name": "m", "check_sum": "x"}]}, "m: There is no option 'check_sum'. Did you mean 'checksum'?"),
        ({}, "one of the following is required: name, models"),
        ({"name": "m", "models": []}, "mutually exclusive: name|models"),
        ({"models": [], "src": "x"}, "mutually exclusive: models|src"),
        ({"name": "m", "state": "gone"}, "value of state must be one of: present, absent, verified, rolled_back, got: gone"),
        ({"name": "m", "keep": "many"}, "keep"),
        ({"models": [{"src": "x"}]}, "missing required arguments: name found in models"),
    ],
)
def test_wrong_options_are_refused(args: dict[str, Any], wanted: str) -> None:
    with pytest.raises(RefusedError, match=r"Cannot use the options|Cannot publish") as caught:
        options(**args)
    assert wanted in str(caught.value)


@pytest.mark.parametrize(
    ("args", "wanted"),
    [
        ({"max_unpacked": "plenty"}, "Cannot use max_unpacked='plenty'. Wanted a size, such as 200G."),
        ({"keep": -1}, "Cannot use keep=-1."),
        ({"timeout": 0}, "Cannot use timeout=0."),
        ({"require_signature": True}, "Set signature_public_key or signature_certificates."),
        ({"signature_public_key": "/no/key.pub"}, "Cannot find signature_public_key /no/key.pub on the controller."),
    ],
)
def test_wrong_settings_are_refused(args: dict[str, Any], wanted: str) -> None:
    with pytest.raises(RefusedError) as caught:
        settings(**args)
    assert wanted in str(caught.value)


@pytest.mark.parametrize(
    ("text", "size"),
    [("200G", 200 * 1024**3), ("1.5 MiB", 1572864), ("17", 17), ("2kb", 2048), ("1T", 1024**4), ("G", None), ("-1", None), ("1X", None)],
)
def test_sizes(text: str, size: int | None) -> None:
    assert publish.size_of(text) == size


def test_defaults_of_the_task_are_those_of_its_entries() -> None:
    one, two = models({"name": "a"}, {"name": "b", "state": "verified"}, state="absent")
    assert (one.state, two.state) == ("absent", "verified")
    assert one.kind == ""


# Sources


@pytest.mark.parametrize(
    ("entry", "wanted"),
    [
        ({}, "There is nothing to publish. Neither src nor files is set."),
        ({"src": "https://u:p@host/a.tgz?sig=s3cr3t"}, "Cannot get https://host/a.tgz. There is no checksum to know it by."),
        ({"src": "https://host/a.tgz", "checksum": "md5:123"}, "Cannot use the checksum 'md5:123'."),
        ({"src": "s3://bucket/x"}, "Write it as rclone:<remote>:<path>"),
        ({"src": "rclone:bucket"}, "There is no remote in it."),
        ({"src": "rclone:--config:x"}, "There is no remote in it."),
        ({"src": "host:models/x"}, "It is not absolute."),
        ({"src": "models/x", "remote_src": True}, "It is not absolute."),
        ({"src": "models/none"}, "Cannot find the folder models/none on the controller. It was looked for beside the role"),
        ({"src": __file__}, "It is a file, wanted a model's folder."),
        ({"src": "host:/x", "checksum": f"sha256:{SUM}"}, "Use digest to fix the content of a folder."),
        ({"src": "host:/x", "digest": "abc"}, "Cannot use the digest 'abc'."),
        ({"files": {"../x": {"url": "https://h/x", "checksum": SUM}}}, "Cannot use files['../x']."),
        ({"files": {"1/x/": {"url": "https://h/x", "checksum": SUM}}}, "It is a folder."),
        ({"files": {"1/x": "https://h/x"}}, "Write {url: ..., checksum: ...}."),
        ({"files": {"1/x": {"url": "ftp://h/x", "checksum": SUM}}}, "'ftp://h/x' is no URL to get a file from."),
        ({"files": {"1/x": {"url": "https://h/x"}}}, "there is no checksum to know it by."),
        ({"files": {"1/x": {"url": "https://h/x", "checksum": SUM, "cheksum": SUM}}}, "there is no option 'cheksum'. Use checksum."),
        ({"name": "a/b", "src": "host:/x"}, "Cannot use 'a/b' as the name of a model."),
        ({"src": "/", "files": {"config.pbtxt": {"url": "https://h/x", "checksum": SUM}}}, "Put it into that folder."),
    ],
)
def test_wrong_sources_are_refused(entry: dict[str, Any], wanted: str) -> None:
    (model,) = models({"name": "m", **entry})
    assert wanted in said(model)
    assert "s3cr3t" not in said(model)


def test_a_name_is_given_once() -> None:
    _first, second = models({"name": "m", "src": "host:/a"}, {"name": "m", "src": "host:/b"})
    assert "'m' is named twice" in said(second)


def test_a_host_gets_what_it_needs_to_fetch() -> None:
    archive, rclone, folder, files = models(
        {"name": "a", "src": "https://u:p@h/a.tgz?x=1", "checksum": f"sha256:{SUM.upper()}", "headers": {"Authorization": "t"}},
        {"name": "b", "src": "rclone:s3:bucket/b", "rclone_config": "/etc/rclone.conf"},
        {"name": "c", "src": "/srv/c", "remote_src": True},
        {
            "name": "d",
            "headers": {"Authorization": "t"},
            "files": {"1/x": {"url": "https://h/x?t=1", "checksum": SUM}, "1/y": {"url": "https://o/y", "checksum": SUM, "headers": {}}},
        },
        max_unpacked="1M",
        timeout=5,
    )
    assert archive.remote["archive"] == {"url": "https://u:p@h/a.tgz?x=1", "sha256": SUM, "headers": {"Authorization": "t"}}
    assert archive.source == {"type": "archive", "url": "https://h/a.tgz", "sha256": SUM}
    assert rclone.remote["rclone"] == {"remote": "s3:bucket/b", "config": "/etc/rclone.conf"}
    assert folder.remote["folder"] == "/srv/c"
    assert {path: each["headers"] for path, each in files.remote["files"].items()} == {"1/x": {"Authorization": "t"}, "1/y": {}}
    assert files.source == {"type": "files", "files": {"1/x": "https://h/x", "1/y": "https://o/y"}}
    assert {model.kind for model in (archive, rclone, folder, files)} == {"remote"}
    assert (archive.remote["max_unpacked"], archive.remote["timeout"]) == (1024**2, 5)


# Content


def test_a_folder_becomes_rows_with_the_paths_of_their_content(tmp_path: Path) -> None:
    written(tmp_path / "m", weights_bin="w" * 9)
    (tmp_path / "m" / "labels").mkdir()
    (tmp_path / "m" / "run.sh").write_text("exit\n")
    (tmp_path / "m" / "run.sh").chmod(0o755)
    (model,) = prepared({"name": "m", "src": str(tmp_path / "m")})
    assert said(model) == ""
    rows = {row[0]: row[1:] for row in publish.plan_row(model)["files"]}
    assert list(rows) == ["1/model.py", "1/weights.bin", "config.pbtxt", "labels/", "run.sh"]
    assert rows["1/weights.bin"] == [9, hashlib.sha256(b"w" * 9).hexdigest(), False]
    assert rows["run.sh"][2] is True
    assert model.paths[rows["1/weights.bin"][1]] == str(tmp_path / "m/1/weights.bin")
    assert model.texts == {"config.pbtxt": CONFIG}
    assert publish.publish_row(model)["digest"] == digest_of(model.entries or [])


def test_an_unchanged_folder_is_not_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Files that have just been written may change within the same tick of the clock, and are read again. Here they are old.
    monkeypatch.setattr(_manifest, "_RACY", -3600)
    folder = written(tmp_path / "m", weights_bin="w")
    place = tmp_path / "cache"
    with publish.cached_hashes(str(place)) as cache:
        (first,) = prepared({"name": "m", "src": str(folder)}, cache=cache)
        assert cache.read_files == 3
    assert place.stat().st_mode & 0o777 == 0o700
    with publish.cached_hashes(str(place)) as cache:
        (second,) = prepared({"name": "m", "src": str(folder)}, cache=cache)
        assert cache.read_files == 0
    assert first.entries == second.entries


def test_a_cache_that_cannot_be_written_only_costs_time(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with publish.cached_hashes(str(tmp_path / "file" / "cache")) as cache:
        assert cache.path is None


def test_a_published_folder_has_the_digest_that_it_was_published_with(tmp_path: Path) -> None:
    (model,) = prepared({"name": "m", "src": str(written(tmp_path / "m"))})
    digest = digest_of(model.entries or [])
    path = tmp_path / "m/config.pbtxt"
    path.write_bytes(with_digest(path.read_bytes(), digest))
    (again,) = prepared({"name": "m", "src": str(tmp_path / "m"), "digest": digest})
    assert said(again) == ""
    assert again.texts == {"config.pbtxt": CONFIG}


def test_the_config_of_an_entry_is_merged_and_keeps_the_rest(tmp_path: Path) -> None:
    (model,) = prepared({"name": "m", "src": str(written(tmp_path / "m")), "config": {"max_batch_size": 8}})
    assert said(model) == ""
    text = CONFIG.replace("max_batch_size: 4", "max_batch_size: 8")
    assert model.texts["config.pbtxt"] == text
    row = next(row for row in publish.plan_row(model)["files"] if row[0] == "config.pbtxt")
    assert row[1:3] == [len(text), hashlib.sha256(text.encode()).hexdigest()]
    # The source stays as it is.
    assert (tmp_path / "m/config.pbtxt").read_text() == CONFIG


def test_the_config_of_an_entry_may_be_all_there_is(tmp_path: Path) -> None:
    (model,) = prepared({"name": "m", "src": str(written(tmp_path / "m", config=None)), "config": {"backend": "python"}})
    assert model.texts == {"config.pbtxt": 'backend: "python"\n'}
    assert "config.pbtxt" in [entry.path for entry in model.entries or []]


def test_an_empty_config_is_no_content(tmp_path: Path) -> None:
    (model,) = prepared({"name": "m", "src": str(written(tmp_path / "m", config=""))})
    assert model.texts == {}
    assert [entry.path for entry in model.entries or []] == ["1/model.py"]
    assert not model.refused


def test_files_by_url_lie_beside_those_of_a_folder(tmp_path: Path) -> None:
    folder = written(tmp_path / "m")
    (folder / "2").mkdir()
    files = {"2/model.py": {"url": "https://h/x", "checksum": SUM}}
    (model,) = prepared({"name": "m", "src": str(folder), "files": files})
    assert said(model) == ""
    assert [row[:3] for row in publish.plan_row(model)["files"] if row[0].startswith("2")] == [["2/model.py", None, SUM]]
    assert not model.complete
    publish.take_sizes(model, {SUM: 17})
    assert model.complete
    assert publish.publish_row(model)["files"][1] == ["2/model.py", 17, SUM, False]


def test_a_content_other_than_the_entry_fixes_is_refused(tmp_path: Path) -> None:
    (model,) = prepared({"name": "m", "src": str(written(tmp_path / "m")), "digest": f"sha256:{SUM}"})
    assert f"wanted sha256:{SUM}" in said(model)


@pytest.mark.parametrize(
    ("config", "place", "wanted"),
    [
        (CONFIG + "max_batch_sizes: 3\n", "config.pbtxt:6:1", "Did you mean 'max_batch_size'?"),
        ('backend: "python"\nmax_batch_size: "four"\n', "config.pbtxt:2:17", ""),
        (b"backend: \xff\n", "config.pbtxt:1", "it is not UTF-8."),
        (CONFIG + 'parameters { key: "gpufleet.digest" value { string_value: "mine" } }\n', "config.pbtxt", "sets the parameter"),
    ],
)
def test_a_config_that_does_not_fit_the_schema_is_refused_with_its_place(
    tmp_path: Path, config: str | bytes, place: str, wanted: str
) -> None:
    folder = written(tmp_path / "m")
    (folder / "config.pbtxt").write_bytes(config if isinstance(config, bytes) else config.encode())
    (model,) = prepared({"name": "m", "src": str(folder)})
    assert f"{folder}/{place}" in said(model)
    assert wanted in said(model)


def test_an_alternative_configuration_is_read_as_well(tmp_path: Path) -> None:
    folder = written(tmp_path / "m")
    (folder / "configs").mkdir()
    (folder / "configs" / "small.pbtxt").write_text("no_such_field: 1\n")
    (model,) = prepared({"name": "m", "src": str(folder)})
    assert f"{folder}/configs/small.pbtxt:1:1" in said(model)


def test_a_config_option_that_does_not_fit_the_schema_is_refused(tmp_path: Path) -> None:
    (model,) = prepared({"name": "m", "src": str(written(tmp_path / "m")), "config": {"max_batch": 8}})
    assert "config: max_batch: " in said(model)
    assert "Did you mean 'max_batch_size'?" in said(model)


def test_everything_that_cannot_be_published_is_named(tmp_path: Path) -> None:
    folder = written(tmp_path / "m", weights_bin="version https://git-lfs.github.com/spec/v1\noid sha256:1\nsize 3\n")
    (folder / "1" / "out").symlink_to("/etc/passwd")
    os.mkfifo(folder / "1" / "pipe")
    (model,) = prepared({"name": "m", "src": str(folder)})
    for wanted in ("Git LFS pointer", "symbolic link to /etc/passwd", "a pipe"):
        assert wanted in said(model)


# Semantics


def test_a_layout_that_triton_misreads_is_said_once(tmp_path: Path) -> None:
    folder = written(tmp_path / "m")
    (folder / "2.tmp").mkdir()
    (folder / "3").mkdir()
    (folder / "config.pbtxt").write_text(CONFIG + "version_policy { all {} }\n")
    (model,) = prepared({"name": "m", "src": str(folder)})
    errors = [str(problem) for problem in model.findings if problem.severity == "error"]
    assert len([text for text in errors if "2.tmp" in text]) == 1
    assert len([text for text in errors if "model.py" in text]) == 1
    assert len(errors) == 2


def test_a_folder_without_versions_is_said_once(tmp_path: Path) -> None:
    (tmp_path / "m").mkdir()
    (tmp_path / "m/config.pbtxt").write_text(CONFIG)
    (model,) = prepared({"name": "m", "src": str(tmp_path / "m")})
    assert [problem.severity for problem in model.findings] == ["error"]
    assert "it has no version" in said(model).lower()


def test_the_host_and_the_image_are_taken_into_account(tmp_path: Path) -> None:
    folder = written(tmp_path / "m", config=CONFIG + "instance_group [ { kind: KIND_GPU } ]\n")
    context = {"gpus": 0, "backends": ["onnxruntime"]}
    (model,) = prepared({"name": "m", "src": str(folder)}, context=context)
    assert model.refused
    assert "instance_group[0].kind" in said(model)
    assert "The image does not have the backend 'python'" in said(model)
    (lenient,) = prepared({"name": "m", "src": str(folder)}, context=context, strict=False)
    assert not lenient.refused
    assert len(lenient.findings) == len(model.findings)


def test_a_wrong_context_is_refused(tmp_path: Path) -> None:
    (model,) = prepared({"name": "m", "src": str(written(tmp_path / "m"))}, context={"gpu": 1})
    assert "Cannot use the option context" in said(model)


def ensemble(tmp_path: Path, step: str) -> dict[str, Any]:
    folder = tmp_path / "pipe"
    (folder / "1").mkdir(parents=True)
    (folder / "config.pbtxt").write_text(ENSEMBLE % step)
    return {"name": "pipe", "src": str(folder)}


def test_an_ensemble_is_checked_against_the_models_of_the_task(tmp_path: Path) -> None:
    other = CONFIG.replace('name: "OUT"', 'name: "RESULT"')
    step = {"name": "step", "src": str(written(tmp_path / "step", config=other))}
    _step, pipe = prepared(step, ensemble(tmp_path, "step"))
    assert "The model 'step' has no output 'OUT'." in said(pipe)
    assert publish.unknown_steps([_step, pipe], {}) == []


def test_a_step_that_only_the_host_may_know_is_left_until_it_was_asked(tmp_path: Path) -> None:
    (pipe,) = prepared(ensemble(tmp_path, "step"))
    assert said(pipe) == ""
    assert publish.unknown_steps([pipe], {}) == ["step"]
    publish.check_models([pipe], settings(), {})
    assert "There is no model 'step'." in said(pipe)


def test_in_check_mode_a_step_may_still_come(tmp_path: Path) -> None:
    (pipe,) = prepared(ensemble(tmp_path, "step"))
    publish.check_models([pipe], settings(), {}, certain=False)
    assert said(pipe) == ""


def test_a_step_that_the_same_task_removes_is_not_there(tmp_path: Path) -> None:
    pipe, gone = prepared(ensemble(tmp_path, "step"), {"name": "step", "state": "absent"})
    config = publish._pbtxt.parse(CONFIG)
    publish.check_models([pipe, gone], settings(), {"step": config})
    assert "There is no model 'step'." in said(pipe)


def test_a_step_whose_content_only_the_host_gets_is_no_finding(tmp_path: Path) -> None:
    pipe, _step = prepared(ensemble(tmp_path, "step"), {"name": "step", "src": "host:/srv/step"})
    publish.check_models([pipe, _step], settings(), {})
    assert said(pipe) == ""


def test_the_error_names_every_finding_of_every_model(tmp_path: Path) -> None:
    bad = written(tmp_path / "bad", config=CONFIG + "nope: 1\n")
    worse = written(tmp_path / "worse", config=CONFIG + 'name: "other"\ninstance_group [ { kind: KIND_GPU } ]\n')
    warned = written(tmp_path / "warned", config='backend: "python"\n')
    entries = [{"name": path.name, "src": str(path)} for path in (warned, bad, worse)]
    all_of = prepared(*entries, context={"gpus": 0})
    error = RefusedError([problem for model in all_of for problem in model.findings], len(all_of))
    lines = str(error).split("\n")
    assert lines[0] == "Cannot publish bad, worse (2 of 3 models); nothing was sent or changed."
    assert [line.partition(":")[0] for line in lines[1:]] == ["- bad", "- worse", "- worse", "- warned", "- warned"]
    assert [problem.severity for problem in error.problems] == ["error"] * 3 + ["warning"] * 2


# Identity


def identity(entry: dict[str, Any], **args: Any) -> str | None:
    (model,) = models({"name": "m", **entry}, **args)
    return publish.identity_of(model, settings(**args))


def test_the_identity_of_an_archive_is_that_of_its_content() -> None:
    entry = {"src": "https://h/a.tgz", "checksum": SUM}
    first = identity(entry)
    assert first == identity({**entry, "src": "https://mirror/a.tgz", "headers": {"x": "y"}})
    others = [
        identity({**entry, "checksum": "b" * 64}),
        identity({**entry, "config": {"max_batch_size": 1}}),
        identity({**entry, "files": {"1/x": {"url": "https://h/x", "checksum": SUM}}}),
        identity(entry, exclude=["x"]),
    ]
    assert len({first, *others}) == 5


def test_content_that_was_not_verified_is_looked_at_again_once_a_signature_is_asked_for(tmp_path: Path) -> None:
    key = tmp_path / "key.pub"
    key.write_text("one")
    entry = {"src": "https://h/a.tgz", "checksum": SUM}
    seen = {identity(entry), identity(entry, require_signature=True, signature_public_key=str(key))}
    key.write_text("two")
    seen.add(identity(entry, require_signature=True, signature_public_key=str(key)))
    assert len(seen) == 3


def test_a_folder_of_the_controller_needs_no_identity(tmp_path: Path) -> None:
    assert identity({"src": str(tmp_path)}) is None


# Signatures


class Unsigned(Exception):
    what, why, remedy = "The signature does not verify", "the file 1/model.py is not what was signed", "sign it again"


def test_a_signature_is_checked_against_the_source(tmp_path: Path) -> None:
    folder = written(tmp_path / "m")
    (folder / "model.sig").write_text("the signature")
    (tmp_path / "key.pub").write_text("key")
    of_all = settings(require_signature=True, signature_public_key=str(tmp_path / "key.pub"))
    (model,) = models({"name": "m", "src": str(folder)})
    publish.read_folder(model, HashCache(None), of_all)
    calls = []

    def verify(entries: Any, raw: bytes, **keys: Any) -> None:
        calls.append(([entry.path for entry in entries], raw, keys))
        if len(calls) > 1:
            raise Unsigned

    publish.check_signature(model, model.base or [], of_all, find, None, verify)
    keys = {"public_key": str(tmp_path / "key.pub"), "certificates": None, "exclude": of_all.exclude}
    assert calls == [(["1/model.py", "config.pbtxt", "model.sig"], b"the signature", keys)]
    assert said(model) == ""
    publish.check_signature(model, model.base or [], of_all, find, None, verify)
    assert said(model) == "m: The signature does not verify. The file 1/model.py is not what was signed. Sign it again."


def test_a_signature_that_is_not_there_is_refused(tmp_path: Path) -> None:
    (tmp_path / "key.pub").write_text("key")
    of_all = settings(require_signature=True, signature_public_key=str(tmp_path / "key.pub"))
    (model,) = models({"name": "m", "src": str(written(tmp_path / "m"))})
    publish.read_folder(model, HashCache(None), of_all)
    publish.check_signature(model, model.base or [], of_all, find, None, lambda *_args, **_keys: None)
    assert "There is no signature model.sig. The option require_signature is set." in said(model)


def test_a_signature_without_a_key_to_check_it_is_refused() -> None:
    (model,) = models({"name": "m", "src": "host:/x", "signature": "model.sig"})
    publish.check_signature(model, [], settings(), find, None, lambda *_args, **_keys: None)
    assert "Set signature_public_key or signature_certificates." in said(model)
