# Copyright (c) 2026, The gpufleet.triton authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import errno
import json
import os
import socket
import time
import typing as t
from pathlib import Path

import pytest
from ansible_collections.gpufleet.triton.plugins.module_utils import _manifest
from ansible_collections.gpufleet.triton.plugins.module_utils._manifest import (
    EXCLUDE,
    FileEntry,
    HashCache,
    LfsPointerError,
    Manifest,
    RepositoryError,
    check_layout,
    digest_block,
    digest_of,
    entries_from,
    field_of,
    is_config_text,
    os_error,
    path_problem,
    read,
    rows_from,
    scan,
    versions_of,
    with_digest,
    without_digest,
)
from ansible_collections.gpufleet.triton.tests.unit.plugins.module_utils.repository_lab import PYTHON, digest, sha256

DIGEST = "sha256:" + "0123456789abcdef" * 4
BLOCK = f'\nparameters {{ key: "gpufleet.digest" value {{ string_value: "{DIGEST}" }} }}\n'.encode()
POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n"
LONG_AGO = 1e9


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    model = tmp_path / "model"
    (model / "1").mkdir(parents=True)
    (model / "1/model.py").write_bytes(b"code")
    (model / "config.pbtxt").write_text(PYTHON)
    return model


def paths(folder: Path, exclude: t.Sequence[str] = EXCLUDE) -> list[str]:
    return [entry.path for entry in scan(str(folder), HashCache(None), exclude)]


def problems(folder: Path) -> list[str]:
    found: list[RepositoryError] = []
    scan(str(folder), HashCache(None), problems=found)
    return [str(problem) for problem in found]


# --- digest ------------------------------------------------------------------------------------------------------------


def test_digest_by_its_definition(folder: Path) -> None:
    (folder / "2").mkdir()
    (folder / "1/run").write_bytes(b"#!")
    (folder / "1/run").chmod(0o700)
    entries = scan(str(folder), HashCache(None))
    files = {"1/model.py": b"code", "1/run": b"#!", "2/": b"", "config.pbtxt": PYTHON.encode()}
    assert digest_of(entries) == digest(files, executables=["1/run"])
    assert digest_of(reversed(entries)) == digest_of(entries)
    assert entries_from(json.loads(json.dumps(rows_from(entries)))) == entries


def test_a_published_folder_has_the_digest_of_its_source(folder: Path) -> None:
    before = scan(str(folder), HashCache(None))
    (folder / "config.pbtxt").write_bytes(with_digest(PYTHON.encode(), digest_of(before)))
    (folder / ".gpufleet.json").write_text("{}")
    assert scan(str(folder), HashCache(None)) == before
    for text in (BLOCK, b""):
        (folder / "config.pbtxt").write_bytes(text)
        assert paths(folder) == ["1/model.py"]


@pytest.mark.parametrize("text", [b"", b"a", b"a\n", b"a\r\n", BLOCK[:-1], BLOCK.strip(), BLOCK + b"\n", b"\xff\0"])
def test_the_block_is_added_and_taken_away_exactly(text: bytes) -> None:
    assert digest_block(DIGEST) == BLOCK
    assert with_digest(text, DIGEST) == text + BLOCK
    assert without_digest(text + BLOCK) == text
    assert without_digest(text) == text


def test_the_block_takes_a_digest_only() -> None:
    with pytest.raises(ValueError, match="is no digest"):
        digest_block('sha256:" } }')


@pytest.mark.parametrize(
    "text",
    ['parameters { key: "gpufleet.digest" value { string_value: "x" } }\nname: "m"\n', BLOCK.decode() + "# more", f"{BLOCK.decode()}" * 2],
)
def test_a_source_may_not_set_the_digest_itself(folder: Path, text: str) -> None:
    (folder / "config.pbtxt").write_text(text)
    with pytest.raises(RepositoryError, match=r"sets the parameter gpufleet\.digest itself"):
        scan(str(folder), HashCache(None))


def test_which_files_are_configurations() -> None:
    names = ["config.pbtxt", "configs/a.pbtxt", "configs/.pbtxt", "configs/a/b.pbtxt", "1/config.pbtxt", "configs/a.txt"]
    assert [name for name in names if is_config_text(name)] == ["config.pbtxt", "configs/a.pbtxt"]


# --- rows --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("row", "text"),
    [
        (["/etc/passwd", 1, "0" * 64], "absolute"),
        (["1/../../x", 1, "0" * 64], "'..'"),
        (["1//x", 1, "0" * 64], "empty"),
        (["", 0, "0" * 64], "empty"),
        (["1/a\nb", 1, "0" * 64], "control"),
        (["1/\udcff", 1, "0" * 64], "UTF-8"),
        (["1/" + "x" * 256, 1, "0" * 64], "longer"),
        ([".gpufleet.json", 1, "0" * 64], "manifest"),
        (["1/x", 1, "0" * 63], "checksum"),
        (["1/x", -1, "0" * 64], "negative"),
        (["1/x", None, "0" * 64], "is not a path, a size and a checksum"),
        (["1/x"], "is not a path, a size and a checksum"),
    ],
)
def test_rows_that_are_refused(row: list[t.Any], text: str) -> None:
    with pytest.raises(RepositoryError) as caught:
        entries_from([row])
    assert text.lower() in str(caught.value).lower()


@pytest.mark.parametrize(("one", "other"), [("1/a", "1/a"), ("1/a", "1/a/b"), ("1/", "1/a"), ("1/a/", "1/a")])
def test_paths_that_exclude_each_other(one: str, other: str) -> None:
    with pytest.raises(RepositoryError, match="list of files"):
        entries_from([[one, 0, sha256(b"")], [other, 0, sha256(b"")]])


def test_versions() -> None:
    assert versions_of(["10/a", "2/", "x/1/y", "3", "01/a", "0/a", "4.tmp/a", "9" * 30 + "/a"]) == [2, 10]


# --- scan --------------------------------------------------------------------------------------------------------------


def test_what_is_no_content(folder: Path) -> None:
    for name in (".git/config", "1/__pycache__/x.pyc", "1/y.pyc", "1/.DS_Store", "sub/.git/HEAD", "3/.ipynb_checkpoints/a"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("x")
    (folder / ".gpufleet.json").write_text("{}")
    assert paths(folder) == ["1/model.py", "3/", "config.pbtxt", "sub/"]
    assert paths(folder, ["1/y.pyc", "sub", "3"]) == [
        ".git/config", "1/.DS_Store", "1/__pycache__/x.pyc", "1/model.py", "config.pbtxt"
    ]  # fmt: skip


def test_links_inside_are_followed(folder: Path) -> None:
    (folder / "shared").mkdir()
    (folder / "shared/weights").write_bytes(b"w")
    (folder / "1/weights").symlink_to("../shared/weights")
    (folder / "2").symlink_to("1")
    (folder / "3").symlink_to(folder / "shared")
    entries = {entry.path: entry.sha256 for entry in scan(str(folder), HashCache(None))}
    assert entries["1/weights"] == entries["2/weights"] == entries["3/weights"] == sha256(b"w")
    (folder.parent / "link").symlink_to(folder)
    assert paths(folder.parent / "link") == paths(folder)


def test_what_is_refused_is_told_at_once(folder: Path) -> None:
    (folder.parent / "model-2").mkdir()
    (folder / "out").symlink_to("../model-2")
    (folder / "nowhere").symlink_to("gone")
    (folder / "1/loop").symlink_to("..")
    os.mkfifo(folder / "pipe")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(folder / "socket"))
    (folder / "pointer").write_bytes(POINTER)
    os.makedirs(os.fsencode(folder) + b"/\xff")
    (folder / "new\nline").write_text("")
    found = "\n".join(problems(folder))
    for text in (
        "model/out. It is a symbolic link to ../model-2, which lies outside",
        "model/nowhere. It is a symbolic link to gone, which does not exist",
        "model/1/loop. It is a symbolic link to a folder that it lies in",
        "model/pipe. It is a pipe",
        "model/socket. It is a socket",
        "model/pointer: it is a Git LFS pointer",
        "\\udcff'. Its name is not valid UTF-8",
        "new\\nline'. It has control characters",
    ):
        assert text in found, found
    assert found.count("\n") == 7
    with pytest.raises(RepositoryError):
        scan(str(folder), HashCache(None))


def test_links_that_multiply_are_bounded(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ten links to a folder of ten links to a folder of ten links, sixty times: nobody lives to see the end of it."""
    monkeypatch.setattr(_manifest, "MAX_ENTRIES", 10_000)
    (folder / "d0").mkdir()
    for level in range(1, 61):
        (folder / f"d{level}").mkdir()
        for number in range(10):
            (folder / f"d{level}" / f"l{number}").symlink_to(f"../d{level - 1}")
    for collected in (None, []):
        with pytest.raises(RepositoryError, match=r"Cannot use the folder .*/model\. It has more than 10000 files") as caught:
            scan(str(folder), HashCache(None), problems=collected)
    assert "name in exclude" in caught.value.remedy
    assert paths(folder, [*EXCLUDE, "d?*"]) == ["1/model.py", "config.pbtxt"]


def test_as_many_files_as_may_be(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "2").symlink_to("1")
    monkeypatch.setattr(_manifest, "MAX_ENTRIES", 5)
    (folder / ".git").mkdir()
    for number in range(9):
        (folder / ".git" / str(number)).write_text("")
    assert paths(folder) == ["1/model.py", "2/model.py", "config.pbtxt"]
    (folder / "1" / "more").write_text("")
    with pytest.raises(RepositoryError, match="more than 5 files and folders"):
        scan(str(folder), HashCache(None))


@pytest.mark.parametrize(("name", "levels"), [("x", 110), ("x" * 200, 30)])
def test_folders_without_end(folder: Path, name: str, levels: int) -> None:
    """Links to links make them deeper than a file system has them."""
    (folder / "d0").mkdir()
    for level in range(1, levels):
        (folder / f"d{level}").mkdir()
        (folder / f"d{level}" / name).symlink_to(f"../d{level - 1}")
    with pytest.raises(RepositoryError, match=r"Cannot use the folder .*More than 100 folders, or paths of 4000 letters"):
        scan(str(folder), HashCache(None))


def test_what_is_wrong_behind_a_link_is_named_by_its_path_in_the_model(folder: Path) -> None:
    (folder / "2").symlink_to("1")
    (folder / "1" / "out").symlink_to("/etc/passwd")
    found = problems(folder)
    assert [problem.partition(". It")[0] for problem in found] == [f"Cannot publish {folder}/{version}/out" for version in (1, 2)]


def test_pointers_have_their_path(folder: Path) -> None:
    (folder / "1/model.py").write_bytes(POINTER)
    with pytest.raises(LfsPointerError) as caught:
        scan(str(folder), HashCache(None))
    assert (caught.value.path, "git lfs pull" in str(caught.value)) == ("1/model.py", True)
    (folder / "1/model.py").write_bytes(POINTER + b"x" * 2000)
    assert problems(folder) == []


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(RepositoryError, match=r"Cannot read the folder .*ENOENT"):
        scan(str(tmp_path / "gone"), HashCache(None))


# --- cache -------------------------------------------------------------------------------------------------------------


def aged(tmp_path: Path, content: bytes) -> tuple[Path, os.stat_result]:
    path = tmp_path / "file"
    path.write_bytes(content)
    return path, path.stat()


def test_what_is_known_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, status = aged(tmp_path, b"x" * 100)
    store = tmp_path / "hashes.json"
    cache = HashCache(str(store))
    later = time.time() + 10
    monkeypatch.setattr(time, "time", lambda: later)
    assert [cache.sha256(str(path), status) for _again in range(2)] == [sha256(b"x" * 100)] * 2
    assert (cache.read_files, cache.read_bytes) == (1, 100)
    cache.save()
    assert store.stat().st_mode & 0o777 == 0o600
    cache = HashCache(str(store))
    assert (cache.sha256(str(path), status), cache.read_files) == (sha256(b"x" * 100), 0)
    assert cache.knows(str(path), status) == sha256(b"x" * 100)
    path.rename(tmp_path / "other")
    assert cache.knows(str(tmp_path / "other"), (tmp_path / "other").stat()) is None


def test_a_tree_that_is_moved_stays_known(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    later = time.time() + 10
    monkeypatch.setattr(time, "time", lambda: later)
    cache = HashCache(None)
    scan(str(folder), cache)
    folder.rename(folder.parent / "elsewhere")
    scan(str(folder.parent / "elsewhere"), cache)
    assert cache.read_files == 2


def test_what_is_young_is_read_again(tmp_path: Path) -> None:
    path, status = aged(tmp_path, b"x")
    cache = HashCache(None)
    for _again in range(2):
        cache.sha256(str(path), status)
    assert cache.read_files == 2, "a second change within a tick of the clock leaves the same status"
    cache.trusts_young = True
    for _again in range(3):
        cache.sha256(str(path), status)
    assert cache.read_files == 3


def test_another_file_with_the_same_size_and_time_is_no_known_one(tmp_path: Path) -> None:
    path, status = aged(tmp_path, b"old")
    cache = HashCache(None)
    cache.remember(str(path), status, sha256(b"old"))
    path.write_bytes(b"new")
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert path.stat().st_ino == status.st_ino
    assert cache.sha256(str(path), path.stat()) == sha256(b"new")


def test_a_new_status_by_our_own_doing(tmp_path: Path) -> None:
    path, before = aged(tmp_path, b"x")
    cache = HashCache(None)
    cache.remember(str(path), before, sha256(b"x"))
    path.chmod(0o600)
    cache.renew(str(path), before, path.stat())
    assert cache.knows(str(path), path.stat()) == sha256(b"x")
    assert cache.knows(str(path), before) is None


def test_a_file_that_changes_while_it_is_read(tmp_path: Path) -> None:
    path, status = aged(tmp_path, b"x")
    path.write_bytes(b"longer")
    with pytest.raises(RepositoryError, match="changed while it was read"):
        HashCache(None).sha256(str(path), status)


@pytest.mark.parametrize(
    "text", ["", "{", "[]", '{"format": 2, "files": {}}', '{"format": 1, "files": {"a": [1]}}', '{"format": 1, "files": []}']
)
def test_a_broken_cache_is_an_empty_one(tmp_path: Path, text: str) -> None:
    path, status = aged(tmp_path, b"x")
    store = tmp_path / "hashes.json"
    store.write_text(text)
    cache = HashCache(str(store))
    cache.remember(str(path), status, sha256(b"x"))
    cache.save()
    assert HashCache(str(store)).knows(str(path), status) == sha256(b"x")
    assert sorted(item.name for item in tmp_path.iterdir()) == ["file", "hashes.json"]


def test_a_cache_that_cannot_be_written(tmp_path: Path) -> None:
    path, status = aged(tmp_path, b"x")
    cache = HashCache(str(tmp_path / "gone/hashes.json"))
    cache.remember(str(path), status, sha256(b"x"))
    cache.save()
    assert not (tmp_path / "gone").exists()


def test_a_large_file_is_read_whole(tmp_path: Path) -> None:
    content = os.urandom(3 << 20) + b"end"
    path, _status = aged(tmp_path, content)
    assert read(str(path))[:2] == (sha256(content), len(content))


# --- layout ------------------------------------------------------------------------------------------------------------


def layout(*files: str, name: str = "m", backend: str = "", filename: str = "") -> str:
    return "\n".join(str(RepositoryError(**problem)) for problem in check_layout(name, files, backend, filename))


def test_layouts_that_are_right() -> None:
    assert layout("1/model.onnx", "config.pbtxt", "configs/a.pbtxt", "warmup/x", "initial_state/y", "tools/x", ".2.tmp/x") == ""
    assert layout("1/", name="ensemble") == ""
    assert layout("1/model.py", "2/model.py", backend="python") == ""
    assert layout("1/other.py", backend="python", filename="other.py") == ""
    assert layout("0/model.onnx") == ""


@pytest.mark.parametrize(
    ("folder", "text"),
    [
        ("2.tmp", "for version 2"),
        ("3_old", "for version 3"),
        ("20240101-backup", "for version 20240101"),
        ("01", "begins with 0"),
        (" 4", "for version 4"),
        ("+5", "for version 5"),
        ("-6", "for version -6"),
        ("9" * 25, "takes it for version"),
    ],
)
def test_folders_that_triton_misreads(folder: str, text: str) -> None:
    found = layout("1/x", f"{folder}/x")
    assert text in found and repr(folder) in found


def test_more_that_is_refused() -> None:
    assert "it has no version" in layout("model.onnx")
    assert "its version 2 has no model.py" in layout("1/model.py", "2/x", backend="python")
    assert "its config.pbtxt is a folder" in layout("1/x", "config.pbtxt/x")
    assert "slash" in layout("1/x", name="a/b")
    assert "UTF-8" in layout("1/x", name="a\udcff")
    assert "'..'" in layout("1/x", "../x")
    assert path_problem("1/model.onnx") == ""


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ('backend: "python"', "python"),
        ("name: 'x'\n  backend : 'onnxruntime'  # and more", "onnxruntime"),
        ('parameters {\n  key: "a"\n  backend: "no"\n}\nbackend: "yes"\n', "yes"),
        ('input [\n{ name: "a{" }\n]\nbackend: "yes"\n', "yes"),
        ('# backend: "no"\n', ""),
        ('default_backend: "no"\n', ""),
        ("", ""),
    ],
)
def test_fields_of_a_configuration(text: str, value: str) -> None:
    assert field_of(text, "backend") == value


# --- manifest and errors -----------------------------------------------------------------------------------------------


def test_a_manifest_comes_back() -> None:
    entries = (FileEntry("1/x", 1, sha256(b"x"), True), FileEntry("2/", 0, ""))
    manifest = Manifest("m", digest_of(entries), entries, {"type": "folder"}, "id", "now", {"config.pbtxt": (3, sha256(b"abc"))})
    assert Manifest.from_bytes(manifest.to_bytes()) == manifest
    assert (manifest.versions, manifest.size) == ([1, 2], 1)
    assert manifest.on_disk == {"1/x": (1, sha256(b"x")), "config.pbtxt": (3, sha256(b"abc"))}


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"format": 2}, "format"),
        ({"digest": DIGEST}, "its digest is not that of its list of files"),
        ({"files": [["../x", 1, "0" * 64, False]]}, "'..'"),
        ({"files": None}, "lacks"),
        ({"texts": 5}, "lacks"),
    ],
)
def test_a_manifest_that_is_none(change: dict[str, t.Any], text: str) -> None:
    good = json.loads(Manifest("m", digest_of([]), ()).to_bytes())
    with pytest.raises(ValueError, match=text):
        Manifest.from_bytes(json.dumps({**good, **change}).encode())
    with pytest.raises(ValueError, match=r"utf-8|decode"):
        Manifest.from_bytes(b"\xff{")


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EROFS, errno.EACCES, errno.ESTALE, errno.EIO, errno.EXDEV])
def test_errors_of_the_system_have_a_remedy(code: int) -> None:
    error = os_error("Cannot write x", OSError(code, os.strerror(code), "/some/file"))
    assert errno.errorcode[code] in str(error) and "/some/file" in str(error)
    assert error.remedy
    assert error.as_problem()["what"] == "Cannot write x"
