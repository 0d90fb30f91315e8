# Copyright (c) 2026, The gpufleet.triton authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from ansible_collections.gpufleet.triton.plugins.plugin_utils import _transfer as transfer
from ansible_collections.gpufleet.triton.plugins.plugin_utils._transfer import Inbox, Item, Progress, Shipment, send, shipment_of

KIB = 1024


def item(folder: Path, name: str, content: bytes, model: str = "m") -> Item:
    path = folder / name
    path.write_bytes(content)
    return Item(hashlib.sha256(content).hexdigest(), len(content), str(path), model)


def never(error: Exception) -> bool:
    return False


def denied(error: Exception) -> bool:
    return isinstance(error, PermissionError)


def no_fallback() -> str:
    raise AssertionError("no other folder is needed here")


def quiet(shipment: Shipment) -> Progress:
    return Progress(shipment, lambda _text: None)


def unpack(inbox: Path) -> dict[str, bytes]:
    """What came, read as the protocol says."""
    found = {}
    for path in inbox.iterdir():
        if path.name.startswith("bundle-"):
            if path.suffix != ".json":
                data, at = path.read_bytes(), 0
                for sha256, size in json.loads(path.with_name(f"{path.name}.json").read_text()):
                    found[sha256] = data[at : at + size]
                    at += size
                assert at == len(data)
        else:
            found[path.name] = path.read_bytes()
    return found


def test_small_files_go_together_and_large_ones_alone(tmp_path: Path) -> None:
    inbox = tmp_path / "inbox"
    inbox.mkdir()
    items = [item(tmp_path, f"small{number}", bytes([number]) * 700) for number in range(5)]
    items += [item(tmp_path, f"large{number}", bytes([number]) * 1500) for number in range(2)]
    items += [item(tmp_path, "empty", b""), item(tmp_path, "twice", b"\x01" * 1500, "other")]
    shipment = shipment_of(items, large_file=1024, bundle_size=2000)
    assert [len(bundle) for bundle in shipment.bundles] == [2, 2, 2]
    assert [part.path for part in shipment.large] == [items[5].path, items[6].path]
    sent = send(shipment, shutil.copyfile, Inbox(str(inbox), no_fallback, never), str(tmp_path), quiet(shipment))
    got = unpack(inbox)
    assert {sha256: len(data) for sha256, data in got.items()} == {part.sha256: part.size for part in shipment.items}
    assert all(hashlib.sha256(data).hexdigest() == sha256 for sha256, data in got.items())
    assert sent == sum(path.stat().st_size for path in inbox.iterdir())
    # Nothing of a bundle stays on the controller.
    assert not list(tmp_path.glob("gpufleet-*"))


def test_a_content_of_several_models_goes_once(tmp_path: Path) -> None:
    shipment = shipment_of([item(tmp_path, "a", b"same", "one"), item(tmp_path, "b", b"same", "two"), item(tmp_path, "c", b"else", "two")])
    assert (shipment.bytes_of("one"), shipment.bytes_of("two"), shipment.size) == (4, 4, 8)


def test_a_large_file_is_sent_from_where_it_is(tmp_path: Path) -> None:
    large = item(tmp_path, "large", b"x" * 2000)
    sources = []
    shipment = shipment_of([large], large_file=1000)
    inbox = Inbox("/in", no_fallback, never)
    send(shipment, lambda source, target: sources.append((source, target)), inbox, str(tmp_path), quiet(shipment))
    assert sources == [(large.path, f"/in/{large.sha256}")]


def touch(path: Path) -> None:
    status = path.stat()
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns + 1))


@pytest.mark.parametrize("large_file", [1, 10**6], ids=["large", "in a bundle"])
@pytest.mark.parametrize(
    "change",
    [Path.unlink, lambda path: path.write_bytes(b"longer than it was")],
    ids=["gone", "longer"],
)
def test_a_source_that_changed_before_it_is_sent_is_refused(tmp_path: Path, large_file: int, change: Callable[[Path], None]) -> None:
    shipment = shipment_of([item(tmp_path, "weights", b"content", "densenet")], large_file=large_file)
    change(tmp_path / "weights")
    with pytest.raises(transfer.ChangedError) as caught:
        send(shipment, lambda _source, _target: None, Inbox("/in", no_fallback, never), str(tmp_path), quiet(shipment))
    assert caught.value.model == "densenet"
    assert str(tmp_path / "weights") in caught.value.what


def test_a_source_that_changes_while_it_is_sent_is_refused(tmp_path: Path) -> None:
    shipment = shipment_of([item(tmp_path, "weights", b"content")], large_file=1)
    with pytest.raises(transfer.ChangedError):
        send(shipment, lambda source, _target: touch(Path(source)), Inbox("/in", no_fallback, never), str(tmp_path), quiet(shipment))


def test_a_small_source_of_the_same_size_and_other_content_is_refused(tmp_path: Path) -> None:
    shipment = shipment_of([item(tmp_path, "small", b"content")])
    (tmp_path / "small").write_bytes(b"CONTENT")
    with pytest.raises(transfer.ChangedError):
        send(shipment, lambda _source, _target: None, Inbox("/in", no_fallback, never), str(tmp_path), quiet(shipment))


def test_an_inbox_that_refuses_the_first_file_gives_way_to_another(tmp_path: Path) -> None:
    targets = []

    def put(source: str, target: str) -> None:
        if target.startswith("/closed"):
            raise PermissionError("no")
        targets.append(target)

    shipment = shipment_of([item(tmp_path, "a", b"x" * 10), item(tmp_path, "b", b"y" * 10)], large_file=1)
    inbox = Inbox("/closed", lambda: "/mine", denied)
    send(shipment, put, inbox, str(tmp_path), quiet(shipment))
    assert targets == [f"/mine/{part.sha256}" for part in shipment.large]
    assert inbox.foreign
    assert inbox.names == [part.sha256 for part in shipment.large]


def test_an_inbox_that_refuses_a_later_file_is_an_error(tmp_path: Path) -> None:
    def put(source: str, target: str) -> None:
        if source.endswith("b"):
            raise PermissionError("no")

    shipment = shipment_of([item(tmp_path, "a", b"x" * 10), item(tmp_path, "b", b"y" * 10)], large_file=1)
    with pytest.raises(PermissionError):
        send(shipment, put, Inbox("/in", no_fallback, denied), str(tmp_path), quiet(shipment))


def test_without_an_inbox_the_other_folder_is_taken_at_once() -> None:
    inbox = Inbox(None, lambda: "/mine", never)
    assert (inbox.folder, inbox.foreign) == ("/mine", True)


def test_sizes_read_as_people_say_them() -> None:
    assert [transfer.human(size) for size in (0, 999, 1000, 98_400_000, 1_234_000_000, 3.4e12)] == [
        "0 B", "999 B", "1.0 kB", "98.4 MB", "1.2 GB", "3.4 TB",
    ]  # fmt: skip
    assert transfer.of(1_200_000_000, 3_400_000_000) == "1.2 of 3.4 GB"
    assert transfer.of(12_000_000, 3_400_000_000) == "12.0 MB of 3.4 GB"


def test_a_line_says_what_how_far_and_how_fast(tmp_path: Path) -> None:
    times = iter([0.0, 10.0, 15.0])
    parts = [Item(str(number), 100_000_000, str(tmp_path / "none"), "densenet") for number in range(4)]
    progress = Progress(Shipment(large=parts), lambda _text: None, clock=lambda: next(times))
    progress.ends(100_000_000, 1)
    progress.begins("densenet", str(tmp_path / "none"), "/in/x", 100_000_000)
    assert progress.line() == "sending densenet: 100 of 400 MB, 1 of 4 files, 10.0 MB/s"
    progress.ends(100_000_000, 1)
    assert progress.line() == "sending models: 200 of 400 MB, 2 of 4 files, 20.0 MB/s"


def test_progress_is_said_while_one_file_is_on_its_way(tmp_path: Path) -> None:
    """From another thread, and with a position that only the system knows."""
    source = tmp_path / "weights"
    with source.open("wb") as handle:
        handle.truncate(20_000_000)
    lines, seen = [], threading.Event()

    def say(text: str) -> None:
        lines.append(text)
        if "5.0 of 20.0 MB" in text:
            seen.set()

    def put(path: str, target: str) -> None:
        with open(path, "rb") as handle:
            handle.seek(5_000_000)
            assert seen.wait(20), lines

    shipment = shipment_of([Item("0" * 64, 20_000_000, str(source), "densenet")])
    with Progress(shipment, say, interval=0.05) as progress:
        send(shipment, put, Inbox("/in", no_fallback, never), str(tmp_path), progress)
    assert lines[0] == "sending 20.0 MB in 1 file: densenet"
    assert "sending densenet: 5.0 of 20.0 MB, 0 of 1 file, " in lines[-1]


def test_little_is_sent_without_a_word(tmp_path: Path) -> None:
    lines = []
    shipment = shipment_of([item(tmp_path, "config", b"x" * 1000)])
    with Progress(shipment, lines.append) as progress:
        send(shipment, lambda _source, _target: None, Inbox("/in", no_fallback, never), str(tmp_path), progress)
    assert lines == []


def test_a_download_is_told_of_now_and_then() -> None:
    times = iter([0.0, 1.0, 10.0, 11.0, 20.0])
    lines: list[str] = []
    throttle = transfer.Throttle(lines.append, clock=lambda: next(times))
    for done, total in ((1_000_000, 9_000_000), (5_000_000, 9_000_000), (6_000_000, 9_000_000), (7_000_000, None)):
        throttle("a.tgz", done, total)
    assert lines == ["a.tgz: 5.0 of 9.0 MB", "a.tgz: 7.0 MB"]


def test_the_position_in_a_child_that_has_the_file_on_its_standard_input_is_found(tmp_path: Path) -> None:
    source = tmp_path / "weights"
    source.write_bytes(b"x" * 300_000)
    waits, ends = os.pipe()
    code = f"import os; os.read(0, 123456); print('read', flush=True); os.read({waits}, 1)"
    # A child of the child, as a connection's helper may be.
    argv = ["sh", "-c", '"$@"; true', "sh", sys.executable, "-c", code]
    with source.open("rb") as handle, subprocess.Popen(argv, stdin=handle, stdout=subprocess.PIPE, text=True, pass_fds=[waits]) as child:
        try:
            assert child.stdout is not None
            assert child.stdout.readline() == "read\n"
            assert transfer.position_of(str(source), "/nowhere") == 123456
        finally:
            os.close(ends)
    os.close(waits)
    assert transfer.position_of(str(source), "/nowhere") == 0


def test_the_position_in_a_target_on_this_machine_is_found(tmp_path: Path) -> None:
    source, target = tmp_path / "source", tmp_path / "target"
    source.write_bytes(b"x" * 1000)
    with target.open("wb") as handle:
        handle.write(b"x" * 400)
        handle.flush()
        assert transfer.position_of(str(source), str(target)) == 400


def test_a_file_that_is_gone_has_no_position(tmp_path: Path) -> None:
    assert transfer.position_of(str(tmp_path / "gone"), "/nowhere") == 0
