# Copyright (c) 2026, The gpufleet.triton authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What of the models' content goes to a host, in which pieces, and how far it is. Knows no Ansible. Private to this collection.

A large file goes by itself, straight from where it is. Small ones go together: a connection takes as long to open a file as
to send a few hundred kilobytes.
"""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
import threading
import time
import typing as t
from dataclasses import dataclass, field
from pathlib import Path

LARGE_FILE = 1024 * 1024
BUNDLE_SIZE = 32 * 1024 * 1024
# Below this, sending is over before a line about it could be read.
WORTH_SAYING = 10 * 1000 * 1000
INTERVAL = 10.0

Say = t.Callable[[str], None]
Put = t.Callable[[str, str], None]


class ChangedError(Exception):
    """A source file is not what it was when it was looked at."""

    def __init__(self, model: str, path: str) -> None:
        self.model = model
        self.path = path
        self.what = f"Cannot send {path}: it changed after it was read"
        self.why = "something writes to the model's folder at the same time"
        self.remedy = "let that end, then run this again; what was sent already is not sent twice"
        super().__init__(f"{self.what}: {self.why}.")


@dataclass(frozen=True)
class Item:
    """A content that the host lacks, and a file on the controller that has it."""

    sha256: str
    size: int
    path: str
    model: str


@dataclass
class Shipment:
    """All that one host lacks. A content that is in several models is in it once."""

    large: list[Item] = field(default_factory=list)
    bundles: list[list[Item]] = field(default_factory=list)

    @property
    def items(self) -> list[Item]:
        return [*(item for bundle in self.bundles for item in bundle), *self.large]

    @property
    def size(self) -> int:
        return sum(item.size for item in self.items)

    def bytes_of(self, model: str) -> int:
        return sum(item.size for item in self.items if item.model == model)

    def models(self) -> list[str]:
        return list(dict.fromkeys(item.model for item in self.items))


def shipment_of(items: t.Iterable[Item], large_file: int = LARGE_FILE, bundle_size: int = BUNDLE_SIZE) -> Shipment:
    """Lay out what is to be sent: once each, the large ones alone, the small ones in bundles."""
    shipment, seen, filled = Shipment(), set(), 0
    for item in items:
        if item.sha256 in seen:
            continue
        seen.add(item.sha256)
        if item.size >= large_file:
            shipment.large.append(item)
            continue
        if not shipment.bundles or filled + item.size > bundle_size:
            shipment.bundles.append([])
            filled = 0
        shipment.bundles[-1].append(item)
        filled += item.size
    return shipment


def human(size: float) -> str:
    """A size as people say it: 1.2 GB."""
    for unit in ("B", "kB", "MB", "GB"):
        if size < 999.5:
            return f"{size:.0f} {unit}" if size >= 100 or unit == "B" else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.1f} TB"


def of(done: int, total: int) -> str:
    """Two sizes in one unit where they have it: 1.2 of 3.4 GB."""
    first, second = human(done).split(), human(total).split()
    return f"{first[0]} of {' '.join(second)}" if first[1] == second[1] else f"{' '.join(first)} of {' '.join(second)}"


def _files(count: int) -> str:
    return f"{count} file{'' if count == 1 else 's'}"


class Progress:
    """Says every few seconds how far it is, from a thread of its own, since sending one file may take an hour and says nothing."""

    def __init__(self, shipment: Shipment, say: Say, interval: float = INTERVAL, clock: t.Callable[[], float] = time.monotonic) -> None:
        self._say = say
        self._interval = interval
        self._clock = clock
        self._total = shipment.size
        self._count = len(shipment.items)
        self._models = shipment.models()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="gpufleet-progress", daemon=True)
        # What the thread reads and the sender writes: each is replaced whole.
        self._done = (0, 0)
        self._current: tuple[str, str, str, int] | None = None
        self._last = (clock(), 0)

    def __enter__(self) -> Progress:
        if self._total > WORTH_SAYING:
            names = ", ".join(self._models[:5]) + (f" and {len(self._models) - 5} more" if len(self._models) > 5 else "")
            self._say(f"sending {human(self._total)} in {_files(self._count)}: {names}")
        self._thread.start()
        return self

    def __exit__(self, *unused: object) -> None:
        self._ended.set()
        self._thread.join(timeout=self._interval)

    def begins(self, model: str, source: str, target: str, size: int) -> None:
        self._current = (model, source, target, size)

    def ends(self, size: int, files: int) -> None:
        self._current = None
        self._done = (self._done[0] + size, self._done[1] + files)

    def line(self) -> str:
        """How far it is, and how fast since the last line."""
        current, (size, files) = self._current, self._done
        model = current[0] if current else ""
        if current:
            size += min(current[3], position_of(current[1], current[2]))
        now = self._clock()
        before, self._last = self._last, (now, size)
        rate = max(0, size - before[1]) / max(now - before[0], 0.001)
        return f"sending {model or 'models'}: {of(size, self._total)}, {files} of {_files(self._count)}, {human(rate)}/s"

    def _run(self) -> None:
        while not self._ended.wait(self._interval):
            self._say(self.line())


class Ticker:
    """Says every now and then that something without news of its own still goes on."""

    def __init__(self, text: str, say: Say, interval: float = 30.0) -> None:
        self._text = text
        self._say = say
        self._interval = interval
        self._ended = threading.Event()
        self._started = time.monotonic()
        self._thread = threading.Thread(target=self._run, name="gpufleet-ticker", daemon=True)

    def __enter__(self) -> Ticker:
        self._thread.start()
        return self

    def __exit__(self, *unused: object) -> None:
        self._ended.set()
        self._thread.join(timeout=self._interval)

    def _run(self) -> None:
        while not self._ended.wait(self._interval):
            self._say(f"{self._text}: {time.monotonic() - self._started:.0f} s so far")


class Throttle:
    """Passes on what a download says of itself, now and then."""

    def __init__(self, say: Say, interval: float = INTERVAL, clock: t.Callable[[], float] = time.monotonic) -> None:
        self._say = say
        self._interval = interval
        self._clock = clock
        self._last = clock()

    def __call__(self, name: str, done: int, total: int | None) -> None:
        now = self._clock()
        if now - self._last >= self._interval:
            self._last = now
            self._say(f"{name}: {human(done) if total is None else of(done, total)}")


def position_of(source: str, target: str) -> int:
    """How far a file has been read by this process or those that it started, or written; 0 where that cannot be told.

    Whatever sends a file has it open: this process, or a child such as sftp, scp, dd or docker, on its standard input.
    """
    try:
        status = os.stat(source)
    except OSError:
        return 0
    wanted = (status.st_dev, status.st_ino)
    best = 0
    for process in _family(os.getpid()):
        try:
            descriptors = os.listdir(f"/proc/{process}/fd")
        except OSError:
            continue
        for descriptor in descriptors:
            try:
                link = f"/proc/{process}/fd/{descriptor}"
                found = os.stat(link)
                # A copy on this machine may read without moving the source's position, and moves the target's.
                if (found.st_dev, found.st_ino) != wanted and os.readlink(link) != target:
                    continue
                best = max(best, _position(f"/proc/{process}/fdinfo/{descriptor}"))
            except OSError:
                continue
    return best


def _position(fdinfo: str) -> int:
    for line in Path(fdinfo).read_text(encoding="ascii").splitlines():
        name, _colon, value = line.partition(":")
        if name == "pos":
            return int(value)
    return 0


def _family(root: int) -> list[int]:
    """A process and all that descend from it."""
    children: dict[int, list[int]] = {}
    try:
        numbers = [int(name) for name in os.listdir("/proc") if name.isdigit()]
    except OSError:
        return [root]
    for number in numbers:
        try:
            # The name in the second field may have spaces and brackets of its own.
            rest = Path(f"/proc/{number}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
            children.setdefault(int(rest[1]), []).append(number)
        except (OSError, IndexError, ValueError):
            continue
    family = [root]
    for member in family:
        family.extend(children.get(member, []))
    return family


def _mark(path: str) -> tuple[int, int, int]:
    status = os.stat(path)
    return status.st_size, status.st_mtime_ns, status.st_ino


def send(shipment: Shipment, put: Put, inbox: Inbox, temporary: str, progress: Progress) -> int:
    """Send all of it; return the number of bytes that went.

    :param put: sends a file of this machine to a path on the host.
    :param temporary: a folder for the bundles, one of which is there at a time.
    :raises ChangedError: when a source is not what it was.
    """
    sent = 0
    for number, bundle in enumerate(shipment.bundles):
        sent += _send_bundle(number, bundle, put, inbox, temporary, progress)
    for item in shipment.large:
        before = _unchanged(item)
        progress.begins(item.model, item.path, inbox.path(item.sha256), item.size)
        inbox.put(put, item.path, item.sha256)
        if _mark(item.path) != before:
            raise ChangedError(item.model, item.path)
        progress.ends(item.size, 1)
        sent += item.size
    return sent


class Inbox:
    """A folder on the host that takes what is sent, and another if the first one cannot be written to."""

    def __init__(self, folder: str | None, fallback: t.Callable[[], str], denied: t.Callable[[Exception], bool]) -> None:
        self.folder = folder or ""
        self._fallback = fallback
        self._denied = denied
        # Whether the folder is the fallback, which belongs to whoever logs in.
        self.foreign = False
        self.names: list[str] = []
        if not self.folder:
            self._fall_back()

    def path(self, name: str) -> str:
        return f"{self.folder}/{name}"

    def put(self, put: Put, source: str, name: str) -> None:
        try:
            put(source, self.path(name))
        except Exception as error:
            # Only the first file: a folder that took one takes all, and what it then refuses has another reason.
            if self.names or self.foreign or not self._denied(error):
                raise
            self._fall_back()
            put(source, self.path(name))
        self.names.append(name)

    def _fall_back(self) -> None:
        self.folder = self._fallback()
        self.foreign = True


def _unchanged(item: Item) -> tuple[int, int, int]:
    try:
        mark = _mark(item.path)
    except FileNotFoundError as error:
        raise ChangedError(item.model, item.path) from error
    if mark[0] != item.size:
        raise ChangedError(item.model, item.path)
    return mark


def _send_bundle(number: int, bundle: list[Item], put: Put, inbox: Inbox, temporary: str, progress: Progress) -> int:
    size = sum(item.size for item in bundle)
    with tempfile.TemporaryDirectory(prefix="gpufleet-", dir=temporary) as folder:
        content, index = os.path.join(folder, "content"), os.path.join(folder, "index")
        with open(content, "wb") as handle:
            for item in bundle:
                handle.write(_read(item))
        text = json.dumps([[item.sha256, item.size] for item in bundle], separators=(",", ":"))
        Path(index).write_text(text, encoding="ascii")
        progress.begins(bundle[0].model, content, inbox.path(f"bundle-{number}"), size)
        inbox.put(put, content, f"bundle-{number}")
        inbox.put(put, index, f"bundle-{number}.json")
    progress.ends(size, len(bundle))
    return size + len(text)


def _read(item: Item) -> bytes:
    try:
        data = Path(item.path).read_bytes()
    except FileNotFoundError as error:
        raise ChangedError(item.model, item.path) from error
    if len(data) != item.size or hashlib.sha256(data).hexdigest() != item.sha256:
        raise ChangedError(item.model, item.path)
    return data
