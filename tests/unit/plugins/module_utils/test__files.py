# Copyright (c) 2026, The gpufleet.triton authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import errno
import os
import stat
import typing as t
from pathlib import Path

import pytest
from ansible_collections.gpufleet.triton.plugins.module_utils import _files
from ansible_collections.gpufleet.triton.plugins.module_utils._files import FilesError, FileSpec
from ansible_collections.gpufleet.triton.plugins.module_utils._proc import Mount
from ansible_collections.gpufleet.triton.tests.unit.plugins.module_utils.commands import run

# Another owner needs root; without it the tests keep to the ids that may be set.
OTHER_ID = "12345" if os.geteuid() == 0 else str(os.getuid())


def mode_of(path: Path) -> str:
    return f"{stat.S_IMODE(path.lstat().st_mode):04o}"


def lay_out(*specs: FileSpec) -> dict[str, str]:
    """Plan, validate and act; the action for each path."""
    plan = _files.plan(specs)
    _files.validate(plan, run)
    _files.apply(plan)
    return {step.path: step.action for step in plan.steps}


def snapshot(folder: Path) -> dict[str, t.Any]:
    """Everything below a folder, with inodes and times: equal only if nothing was touched."""
    return {str(path): tuple(path.lstat()[:9]) for path in sorted([folder, *folder.rglob("*")])}


# --- creating, changing, keeping ---------------------------------------------------------------------------------------


def test_a_tree_is_made_in_any_order_of_the_list(tmp_path: Path) -> None:
    top = tmp_path / "top"
    actions = lay_out(
        FileSpec(str(top / "sub" / "file"), content="x\n", mode="0640"),
        FileSpec(str(top / "sub"), state="directory", mode="0750"),
        FileSpec(str(top), state="directory"),
    )
    assert set(actions.values()) == {"created"}
    assert (top / "sub" / "file").read_text() == "x\n"
    assert (mode_of(top), mode_of(top / "sub"), mode_of(top / "sub" / "file")) == ("0755", "0750", "0640")


def test_the_umask_has_no_say(tmp_path: Path) -> None:
    before = os.umask(0o077)
    try:
        lay_out(FileSpec(str(tmp_path / "d"), state="directory", mode="0777"), FileSpec(str(tmp_path / "f"), content="", mode="0666"))
    finally:
        os.umask(before)
    assert (mode_of(tmp_path / "d"), mode_of(tmp_path / "f")) == ("0777", "0666")


def test_a_second_run_touches_nothing(tmp_path: Path) -> None:
    specs = [
        FileSpec(str(tmp_path / "d"), state="directory", mode="0700", owner=OTHER_ID),
        FileSpec(str(tmp_path / "d" / "f"), content="é\n", mode="0600", owner=OTHER_ID),
        FileSpec(str(tmp_path / "d" / "key"), generate=32),
        FileSpec(str(tmp_path / "d" / "lock")),
        FileSpec(str(tmp_path / "gone"), state="absent"),
    ]
    lay_out(*specs)
    before = snapshot(tmp_path)
    assert set(lay_out(*specs).values()) == {"none"}
    assert snapshot(tmp_path) == before


def test_new_content_replaces_the_file_and_keeps_what_was_not_asked_for(tmp_path: Path) -> None:
    path = tmp_path / "f"
    path.write_text("old")
    path.chmod(0o604)
    os.chown(path, int(OTHER_ID), -1)
    inode = path.stat().st_ino
    assert lay_out(FileSpec(str(path), content="new")) == {str(path): "changed"}
    assert path.read_text() == "new"
    assert mode_of(path) == "0604"
    assert path.stat().st_uid == int(OTHER_ID)
    assert path.stat().st_ino != inode
    assert [entry.name for entry in tmp_path.iterdir()] == ["f"]


def test_a_reader_of_the_old_file_goes_on_reading_it(tmp_path: Path) -> None:
    path = tmp_path / "f"
    path.write_text("old")
    with path.open() as reader:
        lay_out(FileSpec(str(path), content="new"))
        assert reader.read() == "old"


def test_attributes_alone_keep_the_inode(tmp_path: Path) -> None:
    path = tmp_path / "f"
    path.write_text("same")
    path.chmod(0o600)
    inode = path.stat().st_ino
    assert lay_out(FileSpec(str(path), content="same", mode="0644")) == {str(path): "attributes"}
    assert (mode_of(path), path.stat().st_ino) == ("0644", inode)


def test_owner_and_group_are_set_and_the_set_id_bits_survive_it(tmp_path: Path) -> None:
    path = tmp_path / "d"
    assert lay_out(FileSpec(str(path), state="directory", owner=OTHER_ID, group=str(os.getgid()), mode="2750")) == {str(path): "created"}
    assert (path.stat().st_uid, path.stat().st_gid, mode_of(path)) == (int(OTHER_ID), os.getgid(), "2750")


def test_names_of_users_and_groups_are_known(tmp_path: Path) -> None:
    path = tmp_path / "f"
    path.touch()
    plan = _files.plan([FileSpec(str(path), owner="root", group="root")])
    assert (plan.steps[0].uid, plan.steps[0].gid) == (0, 0)


def test_without_content_an_existing_file_keeps_its_own(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    assert lay_out(FileSpec(str(path))) == {str(path): "created"}
    assert path.read_bytes() == b""
    path.write_text("something")
    assert lay_out(FileSpec(str(path))) == {str(path): "none"}
    assert path.read_text() == "something"


def test_create_only_writes_once_and_keeps_the_attributes_right(tmp_path: Path) -> None:
    path = tmp_path / "f"
    spec = FileSpec(str(path), content="first", create_only=True, mode="0600")
    assert lay_out(spec) == {str(path): "created"}
    path.write_text("edited by hand")
    assert lay_out(spec) == {str(path): "none"}
    path.chmod(0o644)
    assert lay_out(spec) == {str(path): "attributes"}
    assert path.read_text() == "edited by hand"


def test_backup_keeps_the_old_content_and_its_attributes(tmp_path: Path) -> None:
    path = tmp_path / "f"
    path.write_text("old")
    path.chmod(0o600)
    plan = _files.plan([FileSpec(str(path), content="new", mode="0644", backup=True)])
    _files.apply(plan)
    backup = Path(_files.report(plan)[0]["backup_file"])
    assert backup.read_text() == "old"
    assert mode_of(backup) == "0600"
    assert backup.name.startswith("f.")


def test_no_backup_of_what_was_not_there(tmp_path: Path) -> None:
    plan = _files.plan([FileSpec(str(tmp_path / "f"), content="new", backup=True)])
    _files.apply(plan)
    assert _files.report(plan) == [{"path": str(tmp_path / "f"), "action": "created"}]


# --- secrets -----------------------------------------------------------------------------------------------------------


def test_a_secret_is_generated_once(tmp_path: Path) -> None:
    path = tmp_path / "key"
    lay_out(FileSpec(str(path), generate=32))
    secret = path.read_text()
    assert len(secret.strip()) == 43
    assert secret.endswith("\n")
    assert mode_of(path) == "0600"
    assert lay_out(FileSpec(str(path), generate=32)) == {str(path): "none"}
    assert path.read_text() == secret


def test_an_empty_secret_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "key"
    path.write_text("\n")
    assert lay_out(FileSpec(str(path), generate=32)) == {str(path): "changed"}
    assert path.read_text().strip()


def test_a_secret_that_another_host_wrote_meanwhile_stays(tmp_path: Path) -> None:
    path = tmp_path / "key"
    plan = _files.plan([FileSpec(str(path), generate=32)])
    path.write_text("theirs\n")
    _files.apply(plan)
    assert path.read_text() == "theirs\n"
    assert [entry.name for entry in tmp_path.iterdir()] == ["key"]


def test_a_directory_that_another_host_made_meanwhile_is_used(tmp_path: Path) -> None:
    plan = _files.plan([FileSpec(str(tmp_path / "d"), state="directory", mode="0700")])
    (tmp_path / "d").mkdir(0o755)
    _files.apply(plan)
    assert mode_of(tmp_path / "d") == "0700"


@pytest.mark.parametrize("spec", [{"content": "hush-hush", "sensitive": True}, {"generate": 32}])
def test_a_secret_is_in_no_difference_and_no_report(tmp_path: Path, spec: dict[str, t.Any]) -> None:
    path = tmp_path / "key"
    path.write_text("" if "generate" in spec else "old hush")
    plan = _files.plan([FileSpec(str(path), **spec)])
    shown = repr(_files.diff(plan)) + repr(_files.report(plan))
    assert plan.changed
    assert "sensitive" in shown
    assert "hush" not in shown
    assert plan.steps[0].content is not None
    assert plan.steps[0].content.decode().strip() not in shown


# --- removing ----------------------------------------------------------------------------------------------------------


def test_absent_removes_files_links_and_empty_directories(tmp_path: Path) -> None:
    (tmp_path / "target").write_text("stays")
    (tmp_path / "file").touch()
    (tmp_path / "link").symlink_to(tmp_path / "target")
    (tmp_path / "dir").mkdir()
    names = ["file", "link", "dir", "never"]
    actions = lay_out(*[FileSpec(str(tmp_path / name), state="absent") for name in names])
    assert list(actions.values()) == ["removed", "removed", "removed", "none"]
    assert [entry.name for entry in tmp_path.iterdir()] == ["target"]


def test_a_full_directory_is_removed_only_by_force(tmp_path: Path) -> None:
    (tmp_path / "d" / "e").mkdir(parents=True)
    (tmp_path / "d" / "e" / "f").touch()
    spec = FileSpec(str(tmp_path / "d"), state="absent")
    with pytest.raises(FilesError, match=r"wanted it empty, it holds 1 entries.*force: true"):
        _files.plan([spec])
    spec.force = True
    assert lay_out(spec) == {str(tmp_path / "d"): "removed"}
    assert not (tmp_path / "d").exists()


def test_what_is_mounted_is_never_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "d" / "mnt").mkdir(parents=True)
    monkeypatch.setattr(
        _files, "read_mounts", lambda: [Mount("/", "ext4", "/dev/vda"), Mount(str(tmp_path / "d" / "mnt"), "nfs4", "server:/models")]
    )
    with pytest.raises(FilesError, match=r"mnt is a mount point.*Unmount it first"):
        _files.plan([FileSpec(str(tmp_path / "d"), state="absent", force=True)])


def test_the_root_is_never_removed() -> None:
    with pytest.raises(FilesError, match="never done"):
        _files.plan([FileSpec("/", state="absent", force=True)])


# --- refusals ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ({"path": "relative"}, "wanted an absolute path"),
        ({"path": "/a/../b"}, r"without '\.\.'"),
        ({"path": "{tmp}/f", "mode": "420"}, r"mode '420'.*four octal digits in quotes"),
        ({"path": "{tmp}/f", "mode": "u=rw"}, "four octal digits"),
        ({"path": "{tmp}/f", "mode": "0899"}, "four octal digits"),
        ({"path": "{tmp}/f", "owner": "no-such-user"}, r"user 'no-such-user' wanted for .*/f does not exist.*numeric id"),
        ({"path": "{tmp}/f", "group": "no-such-group"}, "group 'no-such-group'"),
        ({"path": "{tmp}/missing/f"}, r"the folder .*/missing of .* does not exist.*add it to the list"),
        ({"path": "{tmp}/file/f"}, "Move the file away"),
        ({"path": "{tmp}/dir"}, "wanted a file, there is a directory"),
        ({"path": "{tmp}/file", "state": "directory"}, "wanted a directory, there is a file"),
        ({"path": "{tmp}/fifo"}, "there is a special file"),
        ({"path": "{tmp}/link"}, r"symbolic link to .*/file, wanted a file.*follow: true"),
        ({"path": "{tmp}/f", "validate": "true"}, "'%s' where the file's path belongs"),
        ({"path": "{tmp}/f", "validate": "%s"}, "'%s' where the file's path belongs"),
        ({"path": "{tmp}/f", "validate": "sh '%s"}, "Cannot split the validation command"),
        ({"path": "{tmp}/f", "validate": ["no-such-program", "%s"]}, r"program no-such-program is not installed.*Nothing was changed"),
    ],
)
def test_what_cannot_be_right_is_refused_before_anything_is_touched(tmp_path: Path, spec: dict[str, t.Any], message: str) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "dir").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "file")
    os.mkfifo(tmp_path / "fifo")
    before = snapshot(tmp_path)
    wanted = FileSpec(**{**spec, "path": spec["path"].replace("{tmp}", str(tmp_path))})
    with pytest.raises(FilesError, match=message):
        lay_out(FileSpec(str(tmp_path / "other"), content="x"), wanted)
    assert snapshot(tmp_path) == before


def test_a_path_is_listed_once(tmp_path: Path) -> None:
    with pytest.raises(FilesError, match="in it twice"):
        _files.plan([FileSpec(f"{tmp_path}/f"), FileSpec(f"{tmp_path}//f")])


def test_nothing_is_wanted_below_what_goes(tmp_path: Path) -> None:
    with pytest.raises(FilesError, match=r"is wanted absent, and .* below it is wanted"):
        _files.plan([FileSpec(f"{tmp_path}/d", state="absent"), FileSpec(f"{tmp_path}/d/f")])


def test_a_file_is_no_folder_of_another(tmp_path: Path) -> None:
    with pytest.raises(FilesError, match="is wanted as 'file' in the same call"):
        _files.plan([FileSpec(f"{tmp_path}/f"), FileSpec(f"{tmp_path}/f/g")])


def test_follow_works_on_the_target(tmp_path: Path) -> None:
    (tmp_path / "target").write_text("old")
    (tmp_path / "link").symlink_to("target")
    assert lay_out(FileSpec(str(tmp_path / "link"), content="new", follow=True)) == {str(tmp_path / "target"): "changed"}
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "link").read_text() == "new"


def test_links_in_the_folders_above_are_used(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    lay_out(FileSpec(str(tmp_path / "link" / "f"), content="x"))
    assert (tmp_path / "real" / "f").read_text() == "x"


# --- validation --------------------------------------------------------------------------------------------------------


def test_a_refused_file_leaves_everything_as_it_was(tmp_path: Path) -> None:
    (tmp_path / "good").write_text("old")
    before = snapshot(tmp_path)
    with pytest.raises(FilesError, match=r"content of .*/bad\.sh: sh -n %s refused it \(status 2\).*Nothing was changed") as caught:
        lay_out(
            FileSpec(str(tmp_path / "new"), state="directory"),
            FileSpec(str(tmp_path / "good"), content="new"),
            FileSpec(str(tmp_path / "bad.sh"), content="if\n", validate="sh -n %s"),
        )
    assert f"{tmp_path}/bad.sh" in str(caught.value).split("refused it", 1)[1]
    assert snapshot(tmp_path) == before


def test_validation_sees_the_files_beside_it_as_they_will_be(tmp_path: Path) -> None:
    (tmp_path / "unlisted").write_text("3")
    (tmp_path / "going").write_text("4")
    (tmp_path / "unchanged").write_text("5")
    command = "test $(cat new unlisted unchanged | tr -d '\\n') = 135 && test ! -e going && test -x run.sh && test -d folder"
    plan = _files.plan(
        [
            FileSpec(str(tmp_path / "run.sh"), content=command, mode="0700", validate=["sh", "%s"]),
            FileSpec(str(tmp_path / "new"), content="1\n"),
            FileSpec(str(tmp_path / "unchanged"), content="5"),
            FileSpec(str(tmp_path / "going"), state="absent"),
            FileSpec(str(tmp_path / "folder"), state="directory"),
        ]
    )
    _files.validate(plan, run)
    assert not (tmp_path / "new").exists()


def test_a_change_beside_it_is_reason_to_validate_again(tmp_path: Path) -> None:
    (tmp_path / "f").write_text("grep -q good data\n")
    (tmp_path / "data").write_text("good\n")
    checked = FileSpec(str(tmp_path / "f"), content="grep -q good data\n", validate=["sh", "%s"])
    lay_out(checked, FileSpec(str(tmp_path / "data"), content="still good\n"))
    with pytest.raises(FilesError, match="refused it"):
        lay_out(checked, FileSpec(str(tmp_path / "data"), content="bad\n"))
    assert (tmp_path / "data").read_text() == "still good\n"


def test_nothing_to_write_is_nothing_to_validate(tmp_path: Path) -> None:
    path = tmp_path / "f"
    path.write_text("x")
    assert lay_out(FileSpec(str(path), content="x", validate="false %s")) == {str(path): "none"}


def test_no_shell_reads_the_command(tmp_path: Path) -> None:
    lay_out(FileSpec(str(tmp_path / "f"), content="x", validate="test %s != $HOME;touch"))
    assert (tmp_path / "f").exists()


def test_the_output_about_a_secret_is_withheld(tmp_path: Path) -> None:
    spec = FileSpec(str(tmp_path / "f"), content="hush", sensitive=True, validate=["sh", "-c", 'cat "$0"; exit 1', "%s"])
    with pytest.raises(FilesError, match="output is withheld") as caught:
        lay_out(spec)
    assert "hush" not in str(caught.value)


# --- check mode --------------------------------------------------------------------------------------------------------


def test_check_mode_predicts_on_a_virgin_host(tmp_path: Path) -> None:
    specs = [
        FileSpec(f"{tmp_path}/etc/app", state="directory", owner="app", group="app"),
        FileSpec(f"{tmp_path}/etc/app/conf", content="x\n", owner="app", validate=["no-such-program", "%s"]),
        FileSpec(f"{tmp_path}/etc/app/key", generate=32),
    ]
    plan = _files.plan(specs, check_mode=True)
    _files.validate(plan, run, check_mode=True)
    assert [step.action for step in plan.steps] == ["created"] * 3
    assert plan.changed_paths() == [spec.path for spec in specs]
    notes = " ".join(plan.notes)
    assert "the folder" in notes
    assert "the user 'app'" in notes
    assert "the group 'app'" in notes
    assert "not validated, because the program no-such-program is not installed" in notes
    assert list(tmp_path.iterdir()) == []


def test_check_mode_validates_with_what_is_installed(tmp_path: Path) -> None:
    plan = _files.plan([FileSpec(f"{tmp_path}/new/f", content="if\n", validate="sh -n %s")], check_mode=True)
    with pytest.raises(FilesError, match="refused it"):
        _files.validate(plan, run, check_mode=True)


def test_check_mode_calls_an_unknown_owner_a_change(tmp_path: Path) -> None:
    (tmp_path / "f").touch()
    plan = _files.plan([FileSpec(str(tmp_path / "f"), owner="no-such-user")], check_mode=True)
    assert plan.steps[0].action == "attributes"


# --- differences -------------------------------------------------------------------------------------------------------


def test_the_difference_of_content(tmp_path: Path) -> None:
    path = tmp_path / "f"
    path.write_text("old\n")
    plan = _files.plan([FileSpec(str(path), content="new\n", mode="0644")])
    path.chmod(0o644)
    assert _files.diff(plan)[0] == {"before_header": str(path), "after_header": str(path), "before": "old\n", "after": "new\n"}


def test_the_difference_of_attributes_names_only_what_was_asked_for(tmp_path: Path) -> None:
    path = tmp_path / "f"
    path.touch()
    path.chmod(0o600)
    diff = _files.diff(_files.plan([FileSpec(str(path), mode="0640")]))
    assert [(row["before"], row["after"]) for row in diff] == [("state: file\nmode: '0600'\n", "state: file\nmode: '0640'\n")]


def test_the_difference_of_what_comes_and_goes(tmp_path: Path) -> None:
    (tmp_path / "old").mkdir()
    diff = _files.diff(_files.plan([FileSpec(f"{tmp_path}/old", state="absent"), FileSpec(f"{tmp_path}/new", state="directory")]))
    assert [(row["before"], row["after"]) for row in diff] == [
        ("state: directory\n", "state: absent\n"),
        ("state: absent\n", "state: directory\nmode: '0755'\n"),
    ]


def test_what_is_no_text_or_too_long_is_only_counted(tmp_path: Path) -> None:
    (tmp_path / "binary").write_bytes(b"\xff\xfe")
    (tmp_path / "long").write_bytes(b"a" * 200_000)
    diff = _files.diff(_files.plan([FileSpec(f"{tmp_path}/binary", content="x"), FileSpec(f"{tmp_path}/long", content="x")]))
    assert [row["before"] for row in diff] == ["[2 bytes, not text]\n", "[200000 bytes, too long to show]\n"]


def test_no_change_is_no_difference(tmp_path: Path) -> None:
    (tmp_path / "f").write_text("x")
    assert _files.diff(_files.plan([FileSpec(f"{tmp_path}/f", content="x")])) == []


# --- faults of the file system -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("number", "remedy"),
    [(errno.ENOSPC, "Free some room"), (errno.EROFS, "read-only"), (errno.EPERM, "NFS"), (errno.EIO, "Look at the file system")],
)
def test_a_fault_while_acting_says_what_and_leaves_no_rubbish(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, remedy: str
) -> None:
    path = tmp_path / "f"
    path.write_text("old")

    def broken(*unused: t.Any) -> None:
        raise OSError(number, os.strerror(number))

    plan = _files.plan([FileSpec(str(path), content="new")])
    monkeypatch.setattr(_files.os, "replace", broken)
    with pytest.raises(FilesError, match=rf"Cannot write {path}: .*{remedy}"):
        _files.apply(plan)
    assert path.read_text() == "old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["f"]


def test_a_file_system_without_hard_links_will_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def unsupported(*unused: t.Any) -> None:
        raise PermissionError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(_files.os, "link", unsupported)
    lay_out(FileSpec(str(tmp_path / "key"), generate=32))
    assert [entry.name for entry in tmp_path.iterdir()] == ["key"]
