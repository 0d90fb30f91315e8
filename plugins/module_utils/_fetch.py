# Copyright (c) 2026, The gpufleet.triton authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This file is private to the gpufleet.triton collection: it may change at any time.

"""Downloads whose content is known beforehand: resumed after a break, in this run or a later one, and checked."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import ipaddress
import json
import os
import re
import time
import typing as t
from dataclasses import dataclass, field, replace
from urllib.parse import urljoin, urlsplit

from ansible_collections.gpufleet.triton.plugins.module_utils._http import (
    REQUESTS_IMPORT_ERROR,
    HttpConnectError,
    HttpError,
    HttpTimeoutError,
    Options,
    Stream,
    Transport,
    shown_url,
)
from ansible_collections.gpufleet.triton.plugins.module_utils._manifest import RepositoryError, os_error

#: Bytes so far, and bytes in all if the server says so.
Progress = t.Callable[[int, "int | None"], None]

_SHA256 = re.compile(r"(?:sha256:)?([0-9a-fA-F]{64})\Z")
_CONTENT_RANGE = re.compile(r"bytes (\d+)-(\d+)/(\d+|\*)\Z")
_UNSATISFIED = re.compile(r"bytes \*/(\d+)\Z")
_REDIRECTS = (301, 302, 303, 307, 308)
_MAX_REDIRECTS = 10
# Answers after which the same request may succeed a little later.
_LATER = (408, 425, 429, 500, 502, 503, 504)
_CHUNK = 1 << 20
# What a connection must bring for the next break to count as the first one.
_HEADWAY = 1 << 20
_LONGEST_PAUSE = 60.0
# How long whoever fetches the same file may take without a byte of headway: to check what is there, or between two tries.
_LOCK_PATIENCE = 600.0
_LOCK_POLL = 0.2


class FetchError(RepositoryError):
    """A download that did not come, or is not what was wanted."""


class _Complete(Exception):
    """What came already is all there is."""


class _Retry(Exception):
    """This attempt failed and the next one may not. C(anew): what came so far is of no use."""

    def __init__(self, cause: FetchError, anew: bool = False, pause: float = 0.0) -> None:
        super().__init__(str(cause))
        self.cause = cause
        self.anew = anew
        self.pause = pause


def checksum(text: t.Any, where: str = "checksum") -> str:
    """The 64 hexadecimal digits of a checksum, written with or without its C(sha256:)."""
    match = _SHA256.match(text) if isinstance(text, str) else None
    if not match:
        raise FetchError(
            f"Cannot use the checksum {text!r} of {where}",
            "wanted sha256: and 64 hexadecimal digits",
            "take it from the publisher of the file, or from sha256sum",
        )
    return match[1].lower()


def download(
    url: str,
    dest: str,
    sha256: str,
    *,
    headers: t.Mapping[str, str] | None = None,
    timeout: float = 30.0,
    ca_path: str = "",
    validate_certs: bool = True,
    progress: Progress | None = None,
    attempts: int = 5,
    allow_http: bool = False,
    max_bytes: int | None = None,
    pause: float = 1.0,
    sleep: t.Callable[[float], None] = time.sleep,
) -> int:
    """Bring the file with this checksum to C(dest), and say how many bytes came over the network for it.

    What comes is kept in C(dest).part until it is whole, so that a later call goes on where this one was cut off.
    A file that is there with the right checksum is not fetched again. C(attempts) counts failures in a row without headway.
    """
    if REQUESTS_IMPORT_ERROR is not None:
        raise FetchError(
            f"Cannot fetch {shown_url(url)}: the Python library requests is missing",
            "",
            "install the package python3-requests where the file is fetched",
        )
    wanted = checksum(sha256, shown_url(url))
    request = _Request(
        url,
        tuple((headers or {}).items()),
        Options(url="", timeout=timeout, ca_path=ca_path, validate_certs=validate_certs, proxies=True),
        allow_http,
    )
    request.check(url)
    try:
        os.makedirs(os.path.dirname(dest) or ".", mode=0o700, exist_ok=True)
        with _locked(dest + ".part") as handle:
            if _has(dest, wanted):
                return 0
            return _Download(request, dest, handle, wanted, progress, max_bytes).run(max(1, attempts), pause, sleep)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            _remove(dest + ".part", dest + ".part.json")
        raise _as_fetch_error(os_error(f"Cannot fetch {shown_url(url)} to {dest}", error)) from error


@dataclass(frozen=True)
class _Request:
    """What is asked for. Each server gets a transport of its own, so that no header goes where it was not meant to go."""

    url: str
    headers: tuple[tuple[str, str], ...]
    options: Options
    allow_http: bool

    def check(self, url: str, came_from: str = "") -> None:
        """Refuse a URL before anything is sent to it."""
        sent = f"Cannot fetch {shown_url(url)}"
        if came_from:
            sent = f"Cannot follow the redirect of {shown_url(came_from)} to {shown_url(url)}"
        scheme = urlsplit(url).scheme.lower() if _splits(url) else ""
        if scheme not in ("http", "https") or not urlsplit(url).hostname:
            raise FetchError(sent, "wanted a URL of the form https://HOST/PATH", "correct the URL")
        if scheme == "https" or (not came_from and _is_loopback(urlsplit(url).hostname or "")):
            return
        if came_from and urlsplit(came_from).scheme.lower() != "http":
            raise FetchError(sent, "it leads from https to plain http", "use the URL of a server that stays with https")
        if not self.allow_http and not _is_loopback(urlsplit(url).hostname or ""):
            raise FetchError(
                sent,
                "plain http lets everybody on the way read along",
                "use https, or allow http if the content is no secret (its checksum is verified in any case)",
            )
        if self.headers and not came_from:
            raise FetchError(sent, "headers are secrets, and plain http would show them", "use https, or send no headers")

    @contextlib.contextmanager
    def answer(self, extra: t.Mapping[str, str]) -> t.Iterator[tuple[Stream, str]]:
        """The answer after all redirects, and the URL that gave it."""
        url, headers = self.url, self.headers
        for _hop in range(_MAX_REDIRECTS + 1):
            origin, target = _origin(url)
            with Transport(_with(self.options, origin, headers)) as transport, transport.stream(target, extra) as stream:
                if stream.status not in _REDIRECTS:
                    yield stream, url
                    return
                location = stream.headers.get("Location", "")
            if not location:
                why = f"the answer is a redirect ({stream.status}) to nowhere"
                raise FetchError(f"Cannot fetch {shown_url(url)}", why, "correct the URL")
            following = urljoin(url, location) if _splits(location) else location
            self.check(following, came_from=url)
            if _origin(following)[0] != origin:
                # They were meant for the server that was named. Once left, nobody may send us back there with them.
                headers = ()
            url = following
        raise FetchError(f"Cannot fetch {shown_url(self.url)}", f"it redirects more than {_MAX_REDIRECTS} times", "correct the URL")


@dataclass
class _Download:
    """One file that comes, with what is known of it."""

    request: _Request
    dest: str
    handle: int
    wanted: str
    progress: Progress | None
    max_bytes: int | None
    came: int = 0
    size: int = 0
    validator: str = ""
    resumed: bool = False
    #: What makes a wrong checksum likely, if it turns out wrong.
    hint: str = ""
    #: Whether the server says where the file ends, so that a break is seen.
    sure: bool = True
    digest: t.Any = field(default_factory=hashlib.sha256)

    def run(self, attempts: int, pause: float, sleep: t.Callable[[float], None]) -> int:
        self._take_up()
        failures, best, restarts = 0, self.size, 0
        while True:
            try:
                self._attempt()
                self._finish()
                return self.came
            except _Retry as retry:
                if retry.anew:
                    # Not a failure of the network: once more from the beginning, without a wait.
                    restarts += 1
                    self._restart()
                    if restarts > 2:
                        _remove(self.dest + ".part", self.dest + ".part.json")
                        raise retry.cause from None
                    continue
                failures = 1 if self.size >= best + _HEADWAY else failures + 1
                best = max(best, self.size)
                if failures >= attempts:
                    cause = retry.cause
                    kept = f"{self.size} bytes are kept, and the next run goes on there" if self.size else ""
                    why = "; ".join(part for part in (cause.why, f"it was tried {attempts} times without headway", kept) if part)
                    raise FetchError(cause.what, why, cause.remedy) from None
                sleep(min(_LONGEST_PAUSE, max(retry.pause, pause * 2 ** (failures - 1))))

    def _attempt(self) -> None:
        extra = {}
        if self.size:
            extra["Range"] = f"bytes={self.size}-"
            if self.validator:
                extra["If-Range"] = self.validator
        try:
            with self.request.answer(extra) as (stream, url):
                total = self._place(stream, url)
                self._note(stream)
                self._room(url, total)
                for piece in stream.chunks():
                    self._write(piece, url, total)
        except _Complete:
            return
        except HttpError as error:
            cause = _of_http(error)
            if error.transient:
                raise _Retry(cause) from None
            raise cause from None

    def _place(self, stream: Stream, url: str) -> int | None:
        """Make the file ready for what this answer brings, and say how long the whole is."""
        length = stream.headers.get("Content-Length", "")
        total = int(length) if length.isdigit() else None
        self.sure = total is not None or "chunked" in stream.headers.get("Transfer-Encoding", "").lower()
        self.hint = _hint(stream)
        what = f"Cannot fetch {shown_url(url)}"
        if stream.status == 206 and self.size:
            match = _CONTENT_RANGE.match(stream.headers.get("Content-Range", ""))
            whole = int(match[3]) if match and match[3] != "*" else None
            if not match or int(match[1]) != self.size or (total is not None and int(match[2]) != self.size + total - 1):
                raise _Retry(FetchError(what, "the server answers with another range than asked for"), anew=True)
            if self.validator and _validator(stream) and self.validator not in (_validator(stream), stream.headers.get("Last-Modified")):
                raise _Retry(FetchError(what, "the file changes on the server while it is fetched"), anew=True)
            self.resumed = True
            return whole
        if stream.status == 200:
            # The whole: the first request, a server that knows no ranges, or a file that changed since.
            self._restart()
            return total
        if stream.status == 416 and self.size:
            match = _UNSATISFIED.match(stream.headers.get("Content-Range", ""))
            if match and int(match[1]) == self.size:
                raise _Complete
            raise _Retry(FetchError(what, "the file on the server is shorter than what came of it"), anew=True)
        raise self._refused(stream, url)

    def _refused(self, stream: Stream, url: str) -> Exception:
        status = stream.status
        moved = "" if url == self.request.url else f" (redirected from {shown_url(self.request.url)})"
        what = f"Cannot fetch {shown_url(url)}{moved}"
        if status in (401, 403):
            names = ", ".join(sorted(name for name, _value in self.request.headers)) or "none"
            why = f"wanted status 200, got {status}: the server refuses access; headers sent to the named host: {names}"
            return FetchError(what, why, "correct the token in the headers, or get a new URL if it is a signed one that ran out")
        if status in (404, 410):
            return FetchError(what, f"wanted status 200, got {status}: the server has no such file", "correct the URL")
        cause = FetchError(what, f"wanted status 200, got {status}", "look at the server, or use another source")
        if status not in _LATER:
            return cause
        after = stream.headers.get("Retry-After", "")
        return _Retry(cause, pause=float(after) if after.isdigit() else 0.0)

    def _room(self, url: str, total: int | None) -> None:
        if total is None:
            return
        self._check_limit(url, total)
        stats = os.statvfs(os.path.dirname(self.dest) or ".")
        free = stats.f_bavail * stats.f_frsize
        if total - self.size > free:
            raise FetchError(
                f"Cannot fetch {shown_url(url)}: no room in {os.path.dirname(self.dest)}",
                f"wanted {total - self.size} bytes more, free are {free}",
                "free some room on that file system",
            )

    def _check_limit(self, url: str, size: int) -> None:
        if self.max_bytes is not None and size > self.max_bytes:
            _remove(self.dest + ".part", self.dest + ".part.json")
            raise FetchError(
                f"Cannot fetch {shown_url(url)}: it is larger than the limit of {self.max_bytes} bytes",
                "",
                "raise the limit for unpacked content (max_unpacked) if the file is meant to be that large",
            )

    def _write(self, piece: bytes, url: str, total: int | None) -> None:
        self._check_limit(url, self.size + len(piece))
        view = memoryview(piece)
        while view:
            view = view[os.write(self.handle, view) :]
        self.digest.update(piece)
        self.size += len(piece)
        self.came += len(piece)
        if self.progress is not None:
            self.progress(self.size, total)

    def _finish(self) -> None:
        got = self.digest.hexdigest()
        if got != self.wanted:
            # What was begun in an earlier run may be of another file than the rest.
            cause = FetchError(
                f"Cannot use {shown_url(self.request.url)}: it has another checksum than wanted",
                f"wanted sha256:{self.wanted}, got sha256:{got} ({self.size} bytes{self.hint})",
                "check that the URL names that very file; if the publisher changed it on purpose, correct the checksum",
            )
            if self.resumed or not self.sure:
                raise _Retry(cause, anew=True)
            _remove(self.dest + ".part", self.dest + ".part.json")
            raise cause
        os.fsync(self.handle)
        os.replace(self.dest + ".part", self.dest)
        _remove(self.dest + ".part.json")

    # What was begun earlier

    def _take_up(self) -> None:
        """Go on with what an earlier run left."""
        note = self._read_note()
        while True:
            piece = os.read(self.handle, _CHUNK) if note else b""
            if not piece:
                break
            self.digest.update(piece)
            self.size += len(piece)
        if note is None:
            self._restart()
        elif note.get("source") == self._source():
            self.validator = str(note.get("validator") or "")
        self.resumed = self.size > 0

    def _restart(self) -> None:
        os.ftruncate(self.handle, 0)
        os.lseek(self.handle, 0, os.SEEK_SET)
        self.digest, self.size, self.validator, self.resumed = hashlib.sha256(), 0, "", False

    def _source(self) -> str:
        # A signed URL has another query each time, and is a secret.
        return hashlib.sha256(re.split(r"[?#]", self.request.url, maxsplit=1)[0].encode()).hexdigest()

    def _read_note(self) -> dict[str, t.Any] | None:
        try:
            with open(self.dest + ".part.json", encoding="utf-8") as file:
                note = json.load(file)
        except (OSError, ValueError):
            return None
        return note if isinstance(note, dict) and note.get("sha256") == self.wanted else None

    def _note(self, stream: Stream) -> None:
        self.validator = _validator(stream) or self.validator
        note = {"sha256": self.wanted, "source": self._source(), "validator": self.validator}
        handle = os.open(self.dest + ".part.json", os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600)
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            json.dump(note, file)


def _hint(stream: Stream) -> str:
    encoding = stream.headers.get("Content-Encoding", "identity").lower()
    if encoding != "identity":
        return f", packed with {encoding} on the way although the request forbids that"
    if stream.headers.get("Content-Type", "").lower().startswith("text/html"):
        return " of an HTML page, perhaps one to log in"
    return ""


def _validator(stream: Stream) -> str:
    etag = stream.headers.get("ETag", "")
    return etag if etag.startswith('"') else stream.headers.get("Last-Modified", "")


def _splits(url: str) -> bool:
    try:
        return urlsplit(url).port != 0
    except ValueError:
        return False


def _origin(url: str) -> tuple[str, str]:
    parts = urlsplit(url)
    return f"{parts.scheme.lower()}://{parts.netloc}", (parts.path or "/") + (f"?{parts.query}" if parts.query else "")


def _with(options: Options, origin: str, headers: tuple[tuple[str, str], ...]) -> Options:
    # What is meant for this machine, and may be plain http with headers for that, goes to no other.
    proxies = options.proxies and not _is_loopback(urlsplit(origin).hostname or "")
    return replace(options, url=origin, headers=headers, proxies=proxies)


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"


def _of_http(error: HttpError) -> FetchError:
    """The same in the words of a download; what _http says is about a Triton server."""
    what = re.sub(r"^GET ", "Cannot fetch ", error.what)
    if not error.transient:
        return FetchError(what, error.why, error.remedy.replace("the option url", "the URL"))
    why = "" if isinstance(error, (HttpConnectError, HttpTimeoutError)) and "resolve" not in what else error.why
    return FetchError(what, why, "check the URL, the network and the proxy in the environment, and run this again")


def _as_fetch_error(error: RepositoryError) -> FetchError:
    return FetchError(error.what, error.why, error.remedy)


def _remove(*paths: str) -> None:
    for path in paths:
        with contextlib.suppress(OSError):
            os.unlink(path)


def _has(path: str, wanted: str) -> bool:
    digest = hashlib.sha256()
    try:
        with open(path, "rb", buffering=0) as file:
            for piece in iter(lambda: file.read(_CHUNK), b""):
                digest.update(piece)
    except (FileNotFoundError, IsADirectoryError):
        return False
    return digest.hexdigest() == wanted


@contextlib.contextmanager
def _locked(path: str) -> t.Iterator[int]:
    """The open file at this path, for us alone: of two that want the same content one fetches it and the other waits."""
    while True:
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
        try:
            _wait_for(handle, path)
            if not _is_at(handle, path):
                continue
            try:
                yield handle
            finally:
                if os.fstat(handle).st_size == 0 and _is_at(handle, path):
                    _remove(path, path + ".json")
            return
        finally:
            os.close(handle)


def _wait_for(handle: int, path: str) -> None:
    """Wait for the lock as long as its holder makes headway."""
    size, since = -1, time.monotonic()
    while True:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            found = os.fstat(handle).st_size
        except OSError:
            # A file system without locks has no second one at work either, as far as we can tell.
            return
        if found != size:
            size, since = found, time.monotonic()
        elif time.monotonic() - since > _LOCK_PATIENCE:
            raise FetchError(
                f"Cannot fetch to {path}: another process fetches the same file",
                f"it holds the lock, and for {_LOCK_PATIENCE:g} s nothing came",
                "end that process if it hangs (lslocks names it), then run this again: what came is kept",
            )
        time.sleep(_LOCK_POLL)


def _is_at(handle: int, path: str) -> bool:
    try:
        return os.path.samestat(os.fstat(handle), os.stat(path))
    except OSError:
        return False
