# Copyright (c) 2026, The gpufleet.triton authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""rclone is the real one, with its backends "alias" (to a folder) and "memory"."""

from __future__ import annotations

import gzip
import hashlib
import os
import random
import subprocess
import typing as t
from pathlib import Path

import pytest
from ansible_collections.gpufleet.triton.plugins.module_utils import _proc, _sources
from ansible_collections.gpufleet.triton.plugins.module_utils._archive import ArchiveError
from ansible_collections.gpufleet.triton.plugins.module_utils._fetch import FetchError
from ansible_collections.gpufleet.triton.plugins.module_utils._manifest import HashCache, RepositoryError, digest_of, scan
from ansible_collections.gpufleet.triton.plugins.module_utils._sources import SourceError, identity_of_rclone, populate
from ansible_collections.gpufleet.triton.tests.unit.plugins.module_utils.commands import run
from ansible_collections.gpufleet.triton.tests.unit.plugins.module_utils.site_of_files import Resource, Site, serving

WEIGHTS = random.Random(1).randbytes(200_000)
OTHER = random.Random(2).randbytes(100_000)
SECRET = "s3cr3t-t0ken"


def sha(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


@pytest.fixture
def site() -> t.Iterator[Site]:
    with serving() as found:
        found.files["/weights"] = Resource(WEIGHTS)
        found.files["/other"] = Resource(OTHER)
        yield found


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A model's folder with what can be in one."""
    folder = tmp_path / "densenet"
    (folder / "1").mkdir(parents=True)
    (folder / "2").mkdir()
    (folder / "3").mkdir()
    (folder / "config.pbtxt").write_text('name: "densenet"\n')
    (folder / "1" / "model.onnx").write_bytes(WEIGHTS)
    (folder / "2" / "model.onnx").symlink_to("../1/model.onnx")
    (folder / "1" / "tool").write_text("#!/bin/sh\n")
    (folder / "1" / "tool").chmod(0o755)
    return folder


@pytest.fixture
def archive(site: Site, model: Path) -> dict[str, t.Any]:
    content = subprocess.run(["tar", "czf", "-", "-C", str(model.parent), model.name], capture_output=True, check=True).stdout
    site.files["/m.tar.gz"] = Resource(content)
    return {"url": site.url("/m.tar.gz?token=x"), "sha256": f"sha256:{sha(content)}", "headers": None}


class Place:
    """Where a test's model is put together."""

    def __init__(self, folder: Path) -> None:
        self.staging = folder / "staging"
        self.staging.mkdir()
        self.downloads = self.staging / "downloads"
        self.folder = self.staging / "model"

    def populate(self, **remote: t.Any) -> Path:
        options = {name: remote.pop(name) for name in ("progress", "keep", "run") if name in remote}
        return Path(populate({"timeout": 5, **remote}, str(self.folder), str(self.downloads), options.pop("run", run), **options))

    def left(self) -> list[str]:
        return sorted(str(path.relative_to(self.staging)) for path in self.staging.rglob("*") if path != self.downloads)


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


def digest(folder: Path) -> str:
    return digest_of(scan(str(folder), HashCache(None)))


def tree(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


# Archives and files


def test_an_archive_becomes_the_folder_that_was_packed(place: Place, archive: dict[str, t.Any], model: Path) -> None:
    seen: list[tuple[str, int, int | None]] = []
    assert place.populate(archive=archive, progress=lambda *now: seen.append(now)) == place.folder
    assert digest(place.folder) == digest(model)
    assert list(place.downloads.iterdir()) == []
    name, done, total = seen[-1]
    assert (name, done) == (archive["url"].partition("?")[0], total)


def test_files_come_over_what_an_archive_has(place: Place, archive: dict[str, t.Any], model: Path, site: Site) -> None:
    """A link that is in the way of a file is replaced, not written through."""
    files = {
        "2/model.onnx": {"url": site.url("/other"), "sha256": sha(OTHER)},
        "4/deep/er/model.onnx": {"url": site.url("/other"), "sha256": sha(OTHER), "headers": {}},
        "1/tool": {"url": site.url("/weights"), "sha256": sha(WEIGHTS), "headers": {"Authorization": SECRET}},
    }
    place.populate(archive=archive, files=files)
    wanted = {**tree(model), "2/model.onnx": OTHER, "4/deep/er/model.onnx": OTHER, "1/tool": WEIGHTS}
    assert tree(place.folder) == wanted
    assert not (place.folder / "2" / "model.onnx").is_symlink()
    assert (place.folder / "1" / "tool").stat().st_mode & 0o777 == 0o644
    assert list(place.downloads.iterdir()) == []
    assert [request.path for request in site.requests].count("/other") == 1, "the same content comes once"


def test_files_alone_make_a_model(place: Place, site: Site) -> None:
    place.populate(files={"1/model.onnx": {"url": site.url("/weights"), "sha256": sha(WEIGHTS)}})
    assert tree(place.folder) == {"1/model.onnx": WEIGHTS}


def test_the_same_content_with_two_checksums_in_words(place: Place, site: Site) -> None:
    files = {
        "1/a": {"url": site.url("/weights"), "sha256": f"sha256:{sha(WEIGHTS)}"},
        "1/b": {"url": site.url("/weights"), "sha256": sha(WEIGHTS).upper()},
    }
    place.populate(files=files)
    assert tree(place.folder) == {"1/a": WEIGHTS, "1/b": WEIGHTS}
    assert (place.folder / "1/a").stat().st_ino != (place.folder / "1/b").stat().st_ino, "a copy, not a hard link"


def test_downloads_that_are_kept_serve_the_next_one(place: Place, archive: dict[str, t.Any], site: Site) -> None:
    files = {"4/model.onnx": {"url": site.url("/weights"), "sha256": sha(WEIGHTS)}}
    first = tree(place.populate(archive=archive, files=files, keep=True))
    place.folder = place.staging / "second"
    assert tree(place.populate(archive=archive, files=files, keep=True)) == first
    assert len(site.requests) == 2
    assert sorted(path.name for path in place.downloads.iterdir()) == sorted([sha(WEIGHTS), archive["sha256"][7:]])


def test_what_the_network_can_spoil_comes_first(place: Place, archive: dict[str, t.Any], site: Site) -> None:
    """The archive is not unpacked for nothing, and is there for the next run."""
    with pytest.raises(FetchError, match="no such file"):
        place.populate(archive=archive, files={"1/x": {"url": site.url("/gone"), "sha256": sha(b"")}})
    assert not place.folder.exists()
    site.files["/gone"] = Resource(b"")
    place.populate(archive=archive, files={"1/x": {"url": site.url("/gone"), "sha256": sha(b"")}})
    assert [request.path.partition("?")[0] for request in site.requests].count("/m.tar.gz") <= 1


def test_an_interrupted_download_is_resumed_by_the_next_run(place: Place, site: Site) -> None:
    site.files["/weights"].breaks = [100_000] * 5
    files = {"1/model.onnx": {"url": site.url("/weights"), "sha256": sha(WEIGHTS)}}
    place.downloads.mkdir()
    part = place.downloads / f"{sha(WEIGHTS)}.part"
    part.write_bytes(WEIGHTS[:150_000])
    (place.downloads / f"{sha(WEIGHTS)}.part.json").write_text(f'{{"sha256": "{sha(WEIGHTS)}"}}')
    place.populate(files=files)
    assert site.requests[0].headers["Range"] == "bytes=150000-"
    assert tree(place.folder) == {"1/model.onnx": WEIGHTS}


def test_a_broken_archive_leaves_nothing(place: Place, site: Site) -> None:
    content = b"\x1f\x8b" + b"no gzip" * 10
    site.files["/bad.tar.gz"] = Resource(content)
    with pytest.raises(ArchiveError, match=r"Cannot unpack http://127.0.0.1:\d+/bad.tar.gz\. It is damaged") as caught:
        place.populate(archive={"url": site.url(f"/bad.tar.gz?sig={SECRET}"), "sha256": sha(content)})
    assert SECRET not in str(caught.value)
    assert not place.folder.exists()
    assert place.left() == [f"downloads/{sha(content)}"]


def test_the_limit_is_for_the_download_and_for_what_it_holds(place: Place, archive: dict[str, t.Any], tmp_path: Path, site: Site) -> None:
    (tmp_path / "zeros").write_bytes(bytes(100_000))
    tar = subprocess.run(["tar", "cf", "-", "-C", str(tmp_path), "zeros"], capture_output=True, check=True).stdout
    with pytest.raises(FetchError, match="limit of 1000 bytes"):
        place.populate(archive=archive, max_unpacked=1000)
    content = gzip.compress(tar)
    site.files["/zeros.tar.gz"] = Resource(content)
    with pytest.raises(ArchiveError, match="limit of 99999 bytes"):
        place.populate(archive={"url": site.url("/zeros.tar.gz"), "sha256": sha(content)}, max_unpacked=99_999)
    place.populate(archive={"url": site.url("/zeros.tar.gz"), "sha256": sha(content)}, max_unpacked=100_000)


# Places of files

BAD_PATHS = [
    *("", "/", "/etc/passwd", "../x", "1/../../x", "1/./x", "1//x", "1/", ".", ".."),
    *(".gpufleet.json", "a\0b", "a\nb", "x" * 256, "\udcff"),
]


@pytest.mark.parametrize("path", BAD_PATHS)
def test_a_file_has_a_place_in_the_model(place: Place, site: Site, path: str) -> None:
    with pytest.raises(SourceError, match="Cannot place the file"):
        place.populate(files={path: {"url": site.url("/weights"), "sha256": sha(WEIGHTS)}})
    assert site.requests == []
    assert not place.folder.exists()


@pytest.mark.parametrize(
    ("path", "why"),
    [
        ("config.pbtxt/x", "'config.pbtxt' is a file there, wanted a folder"),
        ("1/model.onnx/deep/x", "'1/model.onnx' is a file there"),
        ("1", "it is a folder there"),
        ("linked/x", "'linked' is a link there"),
    ],
)
def test_a_place_that_is_taken(place: Place, archive: dict[str, t.Any], model: Path, site: Site, path: str, why: str) -> None:
    (model / "linked").symlink_to("1")
    content = subprocess.run(["tar", "cf", "-", "-C", str(model), "."], capture_output=True, check=True).stdout
    site.files["/m.tar"] = Resource(content)
    with pytest.raises(SourceError, match=f"(?i){why}"):
        place.populate(
            archive={"url": site.url("/m.tar"), "sha256": sha(content)},
            files={path: {"url": site.url("/weights"), "sha256": sha(WEIGHTS)}},
        )


def test_a_file_within_a_file_is_seen_before_anything_comes(place: Place, site: Site) -> None:
    item = {"url": site.url("/weights"), "sha256": sha(WEIGHTS)}
    with pytest.raises(SourceError, match="'1/a' is a file as well"):
        place.populate(files={"1/a/b/c": item, "1/a": item})
    assert site.requests == []


@pytest.mark.parametrize(
    ("remote", "text"),
    [
        ({}, "without a source"),
        ({"archive": {"url": "https://h/x", "sha256": "0" * 64}, "folder": "/x"}, "Cannot use archive and folder together"),
        ({"files": {"1/x": {"sha256": "0" * 64}}}, "it has no url"),
        ({"files": {"1/x": {"url": "https://h/x"}}}, "Cannot use the checksum None of the file 1/x"),
        ({"archive": {"url": "https://h/x"}}, "Cannot use the checksum None of archive"),
        ({"folder": "models/x"}, "is a relative path"),
        ({"folder": "/no/such/folder"}, "does not exist on this host"),
        ({"folder": "/etc/passwd"}, "is no folder"),
    ],
)
def test_what_cannot_be_a_source(place: Place, remote: dict[str, t.Any], text: str) -> None:
    with pytest.raises(RepositoryError, match=f"(?i){text}"):
        place.populate(**remote)
    assert place.left() == []


# Folders


def test_a_folder_alone_is_used_where_it_is(place: Place, model: Path) -> None:
    assert place.populate(folder=str(model)) == model
    assert place.left() == []


def test_a_folder_with_files_is_copied_and_left_alone(place: Place, model: Path, site: Site) -> None:
    (model / ".git").mkdir()
    (model / ".git" / "HEAD").write_text("x")
    before = tree(model)
    place.populate(folder=str(model), files={"2/model.onnx": {"url": site.url("/other"), "sha256": sha(OTHER)}})
    assert tree(model) == before
    wanted = {path: content for path, content in before.items() if not path.startswith(".git")}
    assert tree(place.folder) == {**wanted, "2/model.onnx": OTHER}
    assert (place.folder / "3").is_dir()
    assert os.access(place.folder / "1" / "tool", os.X_OK)
    assert not os.access(place.folder / "config.pbtxt", os.X_OK)


def test_a_folder_with_a_link_out_is_not_copied(place: Place, model: Path, site: Site) -> None:
    (model / "1" / "out").symlink_to("/etc/passwd")
    with pytest.raises(RepositoryError, match="lies outside the model's folder"):
        place.populate(folder=str(model), files={"2/x": {"url": site.url("/other"), "sha256": sha(OTHER)}})


# rclone


@pytest.fixture
def stored(tmp_path: Path, model: Path) -> Path:
    """What a remote of the configuration leads to. Object stores have no links, and no modes."""
    (model / "2" / "model.onnx").unlink()
    (model / "2" / "model.onnx").write_bytes(OTHER)
    (model / "1" / "tool").chmod(0o644)
    return model


@pytest.fixture
def rclone(tmp_path: Path, stored: Path) -> dict[str, t.Any]:
    config = tmp_path / "rclone.conf"
    config.write_text(
        f"[store]\ntype = alias\nremote = {stored}\n\n[memory]\ntype = memory\n\n"
        f"[s3]\ntype = s3\nprovider = Other\nendpoint = http://127.0.0.1:1/?sig={SECRET}\n"
        f"access_key_id = {SECRET}\nsecret_access_key = {SECRET}\n"
    )
    return {"remote": "store:", "config": str(config)}


def test_a_remote_is_copied(place: Place, rclone: dict[str, t.Any], stored: Path) -> None:
    place.populate(rclone=rclone)
    assert digest(place.folder) == digest(stored), "empty version folders as well"
    assert list(place.downloads.iterdir()) == []


def test_a_folder_of_a_remote(place: Place, rclone: dict[str, t.Any]) -> None:
    place.populate(rclone={**rclone, "remote": "store:1"}, files={})
    assert tree(place.folder) == {"model.onnx": WEIGHTS, "tool": b"#!/bin/sh\n"}


def test_a_remote_with_files_over_it(place: Place, rclone: dict[str, t.Any], stored: Path, site: Site) -> None:
    place.populate(rclone=rclone, files={"1/model.onnx": {"url": site.url("/other"), "sha256": sha(OTHER)}})
    assert tree(place.folder) == {**tree(stored), "1/model.onnx": OTHER}
    assert (stored / "1/model.onnx").read_bytes() == WEIGHTS


def test_the_identity_follows_the_content(rclone: dict[str, t.Any], stored: Path) -> None:
    first = identity_of_rclone(rclone, run)
    assert first.startswith("rclone:") and len(first) == 7 + 64
    assert identity_of_rclone(rclone, run) == first
    seen = {first}
    (stored / "1" / "new").write_text("x")
    seen.add(identity_of_rclone(rclone, run))
    (stored / "1" / "new").rename(stored / "1" / "renamed")
    seen.add(identity_of_rclone(rclone, run))
    (stored / "1" / "renamed").write_text("y!")
    seen.add(identity_of_rclone(rclone, run))
    os.utime(stored / "1" / "renamed", (1, 1))
    seen.add(identity_of_rclone(rclone, run))
    assert len(seen) == 5
    (stored / "1" / "renamed").unlink()
    assert identity_of_rclone(rclone, run) == first


def test_a_slow_remote_is_not_read_for_its_identity(rclone: dict[str, t.Any], stored: Path) -> None:
    """A folder has no checksums of its own: size and time must do. A store with checksums gives them."""
    asked: list[list[str]] = []

    def noted(argv: list[str], **options: t.Any) -> _proc.CommandResult:
        asked.append(argv)
        return run(argv, **options)

    identity_of_rclone(rclone, noted)
    assert [("--hash" in argv) for argv in asked if argv[1] == "lsjson"] == [False]
    with pytest.raises(SourceError):
        identity_of_rclone({**rclone, "remote": "memory:nothing"}, noted)
    assert [("--hash" in argv) for argv in asked if argv[1] == "lsjson"] == [False, True]


def test_the_identity_of_a_store_is_that_of_its_checksums(rclone: dict[str, t.Any]) -> None:
    """What rclone prints for a store with checksums: the time is no part of it then."""

    def answers(time: str, md5: str) -> t.Callable[..., _proc.CommandResult]:
        def answer(argv: list[str], **_options: t.Any) -> _proc.CommandResult:
            if argv[1] == "backend":
                return _proc.CommandResult(0, '{"Hashes": ["md5"], "Features": {"SlowHash": false}}', "")
            return _proc.CommandResult(0, f'[{{"Path": "1/x", "Size": 3, "ModTime": "{time}", "Hashes": {{"md5": "{md5}"}}}}]', "")

        return answer

    first = identity_of_rclone(rclone, answers("2026-01-01T00:00:00Z", "aa"))
    assert identity_of_rclone(rclone, answers("2026-02-02T00:00:00Z", "aa")) == first
    assert identity_of_rclone(rclone, answers("2026-01-01T00:00:00Z", "ab")) != first


def test_what_came_in_an_earlier_run_does_not_come_again(place: Place, rclone: dict[str, t.Any], stored: Path) -> None:
    """And what has left the remote since does not stay."""

    def without_the_last_step(argv: list[str], **options: t.Any) -> _proc.CommandResult:
        done = run(argv, **options)
        return done._replace(rc=5, stderr="unexpected end of the connection") if argv[1] == "sync" else done

    with pytest.raises(SourceError, match=r"(?i)unexpected end of the connection"):
        place.populate(rclone=rclone, run=without_the_last_step)
    (begun,) = place.downloads.iterdir()
    kept = (begun / "1" / "model.onnx").stat().st_ino
    (stored / "1" / "tool").unlink()
    place.populate(rclone=rclone)
    assert (place.folder / "1" / "model.onnx").stat().st_ino == kept
    assert tree(place.folder) == tree(stored)
    assert list(place.downloads.iterdir()) == []


def test_a_link_in_a_remote_is_not_left_out_silently(place: Place, rclone: dict[str, t.Any], stored: Path) -> None:
    (stored / "1" / "link").symlink_to("model.onnx")
    with pytest.raises(SourceError, match="symbolic link, which rclone leaves out"):
        place.populate(rclone=rclone)
    assert not place.folder.exists()


def test_a_remote_that_changes_meanwhile(place: Place, rclone: dict[str, t.Any], stored: Path) -> None:
    def meanwhile(argv: list[str], **options: t.Any) -> _proc.CommandResult:
        if argv[1] == "sync":
            (stored / "1" / "late").write_text("x")
        return run(argv, **options)

    with pytest.raises(SourceError, match="changed while they were fetched"):
        place.populate(rclone=rclone, run=meanwhile)


def test_a_remote_that_is_too_large(place: Place, rclone: dict[str, t.Any]) -> None:
    with pytest.raises(SourceError, match="more than the limit of 1000"):
        place.populate(rclone=rclone, max_unpacked=1000)
    assert place.left() == []


def test_a_remote_that_grows_after_it_was_listed(place: Place, rclone: dict[str, t.Any], stored: Path) -> None:
    """The limit is one of bytes, and rclone stops there."""
    size = sum(path.stat().st_size for path in stored.rglob("*") if path.is_file())
    place.populate(rclone=rclone, max_unpacked=size, keep=True)
    subprocess.run(["rm", "-r", str(place.folder)], check=True)

    def meanwhile(argv: list[str], **options: t.Any) -> _proc.CommandResult:
        if argv[1] == "sync":
            (stored / "1" / "model.onnx").write_bytes(bytes(20_000_000))
        return run(argv, **options)

    with pytest.raises(SourceError, match="max transfer limit"):
        place.populate(rclone=rclone, run=meanwhile, max_unpacked=size)
    assert sum(path.stat().st_size for path in place.downloads.rglob("*")) < 2_000_000


def test_a_remote_with_too_many_files(place: Place, rclone: dict[str, t.Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_sources, "MAX_ENTRIES", 3)
    with pytest.raises(SourceError, match="It has 4 files, more than the limit of 3"):
        place.populate(rclone=rclone)
    assert place.left() == []


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"remote": "other:"}, r"(?i)the remote is not in .*rclone.conf. correct its name"),
        ({"remote": "store:no/such"}, "directory not found"),
        ({"config": "/no/such.conf"}, "/no/such.conf is not there"),
        ({"remote": "memory:"}, "it has no files"),
    ],
)
def test_a_remote_that_is_not_there(place: Place, rclone: dict[str, t.Any], change: dict[str, str], text: str) -> None:
    with pytest.raises(SourceError, match=f"(?i){text}" if "(?i)" not in text else text):
        place.populate(rclone={**rclone, **change})
    assert place.left() == []


@pytest.mark.parametrize(
    "remote",
    [
        *(f":s3,secret_access_key={SECRET}:bucket", f"store,key='{SECRET}':x", f"--config={SECRET}", f"a:\n{SECRET}"),
        *("nocolon", "-x:y", "", None),
    ],
)
def test_settings_in_the_name_of_a_remote_are_refused_and_not_shown(place: Place, rclone: dict[str, t.Any], remote: t.Any) -> None:
    with pytest.raises((SourceError, RepositoryError), match=r"Cannot (use this rclone remote|fetch a model without)") as caught:
        place.populate(rclone={**rclone, "remote": remote}, run=None)
    assert SECRET not in str(caught.value)


def test_what_the_configuration_holds_is_not_shown(place: Place, rclone: dict[str, t.Any]) -> None:
    def answer(argv: list[str], **options: t.Any) -> _proc.CommandResult:
        said = f"Failed: AccessDenied key {SECRET} at https://u:{SECRET}x/op3n@h/b?X-Amz-Signature=deadbeef&y=1 (403)"
        return _proc.CommandResult(1, "", said)

    with pytest.raises(SourceError) as caught:
        place.populate(rclone={**rclone, "remote": "s3:bucket"}, run=answer)
    assert "AccessDenied" in str(caught.value)
    assert SECRET not in str(caught.value)
    assert "deadbeef" not in str(caught.value)
    assert "op3n" not in str(caught.value)


def test_without_a_configuration_the_users_own_is_taken(
    place: Place, rclone: dict[str, t.Any], stored: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RCLONE_CONFIG", rclone["config"])
    place.populate(rclone={"remote": "store:", "config": None})
    assert digest(place.folder) == digest(stored)


def test_without_rclone_the_package_is_named(
    place: Place, rclone: dict[str, t.Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "timeout").symlink_to("/usr/bin/timeout")
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    with pytest.raises(SourceError, match=r"(?i)rclone is not installed. Install the package rclone"):
        place.populate(rclone=rclone)


def test_an_answer_that_is_no_list(place: Place, rclone: dict[str, t.Any]) -> None:
    with pytest.raises(SourceError, match="something else than a list of files"):
        place.populate(rclone=rclone, run=lambda *_argv, **_options: _proc.CommandResult(0, "{}?", ""))


def test_names_that_no_model_has(place: Place, rclone: dict[str, t.Any], stored: Path) -> None:
    (stored / "1" / "line\nbreak").write_text("x")
    with pytest.raises(RepositoryError, match="control characters"):
        place.populate(rclone=rclone)
