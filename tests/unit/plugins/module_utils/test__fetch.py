# Copyright (c) 2026, The gpufleet.triton authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import contextlib
import hashlib
import os
import random
import re
import socket
import subprocess
import sys
import threading
import time
import traceback
import typing as t
from pathlib import Path

import pytest
import urllib3
from ansible_collections.gpufleet.triton.plugins.module_utils import _fetch, _http
from ansible_collections.gpufleet.triton.plugins.module_utils._fetch import FetchError, checksum, download
from ansible_collections.gpufleet.triton.tests.unit.plugins.module_utils.site_of_files import Resource, Site, make_certificate, serving

MIB = 1 << 20
CONTENT = random.Random(4).randbytes(3 * MIB + 17)
SHA = hashlib.sha256(CONTENT).hexdigest()
OTHER = random.Random(5).randbytes(3 * MIB + 17)
SECRET = "s3cr3t-t0ken"


@pytest.fixture
def site() -> t.Iterator[Site]:
    with serving() as found:
        found.files["/m/weights.onnx"] = Resource(CONTENT)
        yield found


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_certificate(tmp_path_factory.mktemp("tls") / "both.pem")


@pytest.fixture
def tls_site(certificate: Path) -> t.Iterator[Site]:
    with serving(certificate) as found:
        found.files["/m/weights.onnx"] = Resource(CONTENT)
        yield found


class Pauses(list[float]):
    def __call__(self, seconds: float) -> None:
        self.append(seconds)


@pytest.fixture
def dest(tmp_path: Path) -> Path:
    return tmp_path / "downloads" / SHA


def fetch(site: Site, dest: Path, path: str = "/m/weights.onnx", sha256: str = SHA, **options: t.Any) -> int:
    options.setdefault("sleep", Pauses())
    return download(site.url(path), str(dest), sha256, **options)


def ranges(site: Site) -> list[tuple[str | None, str | None]]:
    return [(request.headers.get("Range"), request.headers.get("If-Range")) for request in site.requests]


def only(dest: Path) -> list[str]:
    return sorted(entry.name for entry in dest.parent.iterdir()) if dest.parent.exists() else []


# What comes


def test_a_file_comes_whole_and_once(site: Site, dest: Path) -> None:
    seen: list[tuple[int, int | None]] = []
    assert fetch(site, dest, progress=lambda done, total: seen.append((done, total))) == len(CONTENT)
    assert dest.read_bytes() == CONTENT
    assert only(dest) == [SHA]
    assert dest.stat().st_mode & 0o077 == 0, "what needed a token to fetch is not for everybody"
    assert seen[-1] == (len(CONTENT), len(CONTENT))
    assert [done for done, _total in seen] == sorted(done for done, _total in seen)
    assert fetch(site, dest, sha256=f"sha256:{SHA.upper()}") == 0, "the same checksum in another notation"
    assert len(site.requests) == 1
    assert site.requests[0].headers["Accept-Encoding"] == "identity"


def test_a_damaged_file_is_fetched_again(site: Site, dest: Path) -> None:
    dest.parent.mkdir()
    dest.write_bytes(CONTENT[:-1] + b"?")
    assert fetch(site, dest) == len(CONTENT)
    assert dest.read_bytes() == CONTENT


def test_an_empty_file_and_one_without_a_length(site: Site, dest: Path) -> None:
    site.files["/empty"] = Resource(b"")
    assert fetch(site, dest, "/empty", hashlib.sha256().hexdigest()) == 0
    assert dest.read_bytes() == b""
    site.files["/m/weights.onnx"].chunked = True
    assert fetch(site, dest) == len(CONTENT)
    assert dest.read_bytes() == CONTENT


# What breaks


def test_a_broken_connection_is_resumed(site: Site, dest: Path) -> None:
    site.files["/m/weights.onnx"].breaks = [1_500_000, 1_000_000]
    pauses = Pauses()
    came = fetch(site, dest, sleep=pauses)
    assert dest.read_bytes() == CONTENT
    first, second, third = ranges(site)
    assert first == (None, None)
    starts = [int(found[0].removeprefix("bytes=").removesuffix("-")) for found in (second, third) if found[0]]
    assert 1_400_000 < starts[0] <= 1_500_000 < 2_300_000 < starts[1] <= 2_500_000
    assert second[1] == third[1] == '"v1"'
    assert came <= len(CONTENT) + 2 * (1 << 14), "no more came twice than one read"
    assert pauses == [1.0, 1.0] or pauses == [1.0, 2.0]


def test_the_next_run_goes_on_where_this_one_was_cut_off(site: Site, dest: Path) -> None:
    site.files["/m/weights.onnx"].breaks = [2 * MIB]
    with pytest.raises(FetchError, match=r"(?i)connection broke .* tried 1 times .* bytes are kept, and the next run goes on there"):
        fetch(site, dest, attempts=1)
    kept = (dest.parent / f"{SHA}.part").stat().st_size
    assert 2 * MIB - (1 << 14) <= kept <= 2 * MIB
    assert fetch(site, dest) == len(CONTENT) - kept
    assert dest.read_bytes() == CONTENT
    assert only(dest) == [SHA]


def test_a_part_that_is_whole_already(site: Site, dest: Path) -> None:
    site.files["/m/weights.onnx"].breaks = [2 * MIB]
    with pytest.raises(FetchError):
        fetch(site, dest, attempts=1)
    (dest.parent / f"{SHA}.part").write_bytes(CONTENT)
    assert fetch(site, dest) == 0
    assert dest.read_bytes() == CONTENT


@pytest.mark.parametrize("left", [OTHER[: 2 * MIB], CONTENT + b"more", OTHER], ids=["other", "longer", "other and whole"])
def test_a_part_of_something_else_is_dropped(site: Site, dest: Path, left: bytes) -> None:
    site.files["/m/weights.onnx"].breaks = [2 * MIB]
    with pytest.raises(FetchError):
        fetch(site, dest, attempts=1)
    (dest.parent / f"{SHA}.part").write_bytes(left)
    fetch(site, dest)
    assert dest.read_bytes() == CONTENT
    assert ranges(site)[-1] == (None, None), "at last without a range"


@pytest.mark.parametrize("note", [None, "", "[]", '{"sha256": "' + "0" * 64 + '"}'])
def test_a_part_without_its_note_is_dropped(site: Site, dest: Path, note: str | None) -> None:
    dest.parent.mkdir()
    (dest.parent / f"{SHA}.part").write_bytes(CONTENT[:MIB])
    if note is not None:
        (dest.parent / f"{SHA}.part.json").write_text(note)
    assert fetch(site, dest) == len(CONTENT)
    assert ranges(site) == [(None, None)]
    assert only(dest) == [SHA]


def test_a_file_that_changed_on_the_server_is_fetched_from_its_beginning(site: Site, dest: Path) -> None:
    resource = site.files["/m/weights.onnx"]
    resource.content, resource.breaks = OTHER, [2 * MIB]
    with pytest.raises(FetchError):
        fetch(site, dest, attempts=1)
    resource.content, resource.etag = CONTENT, '"v2"'
    assert fetch(site, dest) == len(CONTENT)
    assert dest.read_bytes() == CONTENT
    assert ranges(site)[1][1] == '"v1"'


def test_a_change_that_the_server_sends_as_a_range_all_the_same(site: Site, dest: Path) -> None:
    """It ignores If-Range, as some do, but names the new ETag."""
    resource = site.files["/m/weights.onnx"]
    resource.content, resource.breaks = OTHER, [2 * MIB]
    with pytest.raises(FetchError):
        fetch(site, dest, attempts=1)
    resource.content, resource.headers = CONTENT, {"ETag": '"v2"'}
    assert fetch(site, dest) == len(CONTENT), "nothing of the range was taken"
    assert dest.read_bytes() == CONTENT


DATE = "Mon, 02 Nov 2026 10:00:00 GMT"


@pytest.mark.parametrize(("etag", "modified", "sent"), [(None, DATE, DATE), ('W/"v1"', None, None)])
def test_what_is_named_when_resuming(site: Site, dest: Path, etag: str | None, modified: str | None, sent: str | None) -> None:
    """A weak ETag does not promise the same bytes, so it is not used; the checksum decides in the end."""
    resource = site.files["/m/weights.onnx"]
    resource.etag, resource.modified, resource.breaks = etag, modified, [2 * MIB]
    fetch(site, dest)
    assert dest.read_bytes() == CONTENT
    assert ranges(site)[1][1] == sent
    assert ranges(site)[1][0] is not None


def test_a_signed_url_of_another_day_and_another_mirror_resume(site: Site, dest: Path) -> None:
    site.files["/m/weights.onnx"].breaks = [2 * MIB, 500_000]
    site.files["/mirror"] = Resource(CONTENT, etag='"mirror"')
    for signature in ("one", "two"):
        with pytest.raises(FetchError):
            fetch(site, dest, f"/m/weights.onnx?sig={signature}", attempts=1)
    fetch(site, dest, "/mirror")
    assert dest.read_bytes() == CONTENT
    (_first, none), (_second, same), (start, mirror) = ranges(site)
    assert (none, same, mirror) == (None, '"v1"', None)
    assert start is not None


def test_a_server_that_knows_no_ranges_starts_again(site: Site, dest: Path) -> None:
    resource = site.files["/m/weights.onnx"]
    resource.ranges, resource.breaks = False, [2 * MIB]
    came = fetch(site, dest)
    assert dest.read_bytes() == CONTENT
    assert came > len(CONTENT) + MIB


def test_a_server_that_knows_no_ranges_and_always_breaks_is_given_up(site: Site, dest: Path) -> None:
    resource = site.files["/m/weights.onnx"]
    resource.ranges, resource.breaks = False, [2 * MIB] * 100
    pauses = Pauses()
    with pytest.raises(FetchError, match=r"(?i)tried 3 times without headway"):
        fetch(site, dest, attempts=3, sleep=pauses)
    assert len(site.requests) == 3
    assert pauses == [1.0, 2.0]


@pytest.mark.parametrize(
    "headers",
    [
        {"Content-Range": "bytes 0-3145744/3145745"},
        {"Content-Range": "bytes 2097000-3145744/3145745"},
        {"Content-Range": ""},
        {"Content-Range": "bytes x-y/z"},
        {"Content-Type": "multipart/byteranges; boundary=x", "Content-Range": ""},
    ],
)
def test_another_range_than_asked_for_is_not_taken(site: Site, dest: Path, headers: dict[str, str]) -> None:
    resource = site.files["/m/weights.onnx"]
    resource.breaks = [2 * MIB]
    with pytest.raises(FetchError):
        fetch(site, dest, attempts=1)
    resource.headers = headers
    assert fetch(site, dest) == len(CONTENT)
    assert dest.read_bytes() == CONTENT
    assert ranges(site)[2] == (None, None)


def test_a_server_that_always_answers_with_another_range_is_given_up(site: Site, dest: Path) -> None:
    """Even where no range was asked for."""
    site.files["/m/weights.onnx"].answers = [(206, {"Content-Range": "bytes 5-9/10"})] * 100
    with pytest.raises(FetchError, match=r"(?i)wanted status 200, got 206"):
        fetch(site, dest)
    assert only(dest) == []


def test_an_end_without_a_length_may_be_a_break(site: Site, dest: Path) -> None:
    resource = site.files["/m/weights.onnx"]
    resource.headers, resource.breaks = {"Content-Length": "", "Connection": "close"}, [MIB]
    fetch(site, dest)
    assert dest.read_bytes() == CONTENT
    assert len(site.requests) == 2


def test_a_chunked_answer_that_breaks(site: Site, dest: Path) -> None:
    resource = site.files["/m/weights.onnx"]
    resource.chunked, resource.breaks = True, [2 * MIB]
    fetch(site, dest)
    assert dest.read_bytes() == CONTENT
    assert ranges(site)[1][0] is not None


def test_silence_is_waited_for_no_longer_than_the_timeout(dest: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(5)
        held: list[socket.socket] = []

        def serve() -> None:
            for _number in range(2):
                peer, _address = listener.accept()
                held.append(peer)
                peer.recv(65536)
                peer.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\nabc")

        thread = threading.Thread(target=serve)
        thread.start()
        url = f"http://127.0.0.1:{listener.getsockname()[1]}/x"
        with pytest.raises(FetchError, match=r"(?i)no answer within 0.2 s.*tried 2 times"):
            download(url, str(dest), SHA, timeout=0.2, attempts=2, sleep=Pauses())
        thread.join()
        for peer in held:
            peer.close()


def without_read1(monkeypatch: pytest.MonkeyPatch) -> None:
    """As urllib3 was before 2.1."""
    for kind in urllib3.HTTPResponse.__mro__:
        if kind.__module__.startswith("urllib3"):
            monkeypatch.delattr(kind, "read1", raising=False)


@pytest.mark.parametrize("prompt", [True, False], ids=["urllib3 2.1", "older"])
@pytest.mark.parametrize("chunked", [False, True])
def test_a_server_that_sends_by_the_drop(dest: Path, monkeypatch: pytest.MonkeyPatch, prompt: bool, chunked: bool) -> None:
    """A byte before each timeout: never silent, and never done."""
    if not prompt:
        without_read1(monkeypatch)
    monkeypatch.setattr(_http, "_SLOWEST", 100)
    head, drop = (b"Transfer-Encoding: chunked", b"1\r\nx\r\n") if chunked else (b"Content-Length: 5000", b"x")
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            for _number in range(2):
                peer, _address = listener.accept()
                with peer, contextlib.suppress(ConnectionError):
                    peer.recv(65536)
                    peer.sendall(b"HTTP/1.1 200 OK\r\n" + head + b"\r\n\r\n")
                    for _drop in range(500):
                        peer.sendall(drop)
                        time.sleep(0.05)

        thread = threading.Thread(target=serve)
        thread.start()
        url = f"http://127.0.0.1:{listener.getsockname()[1]}/x"
        text = r"Cannot fetch http://.*/x: the connection is too slow.* bytes came in 0\.\d s, wanted at least 100 a second.*tried 2 times"
        with pytest.raises(FetchError, match=r"(?i)" + text):
            download(url, str(dest), SHA, timeout=0.2, attempts=2, sleep=Pauses())
        thread.join(10)
        assert not thread.is_alive()


def test_who_is_slow_to_take_what_comes_is_not_the_server(site: Site, dest: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_http, "_SLOWEST", 1 << 30)
    monkeypatch.setattr(_http, "_SLOW_TIMEOUTS", 1)
    site.files["/m/weights.onnx"].content = CONTENT[:50_000]
    fetch(site, dest, sha256=hashlib.sha256(CONTENT[:50_000]).hexdigest(), timeout=1.0, progress=lambda *_now: time.sleep(0.5))
    assert len(site.requests) == 1


@pytest.mark.parametrize("prompt", [True, False], ids=["urllib3 2.1", "older"])
def test_breaks_are_seen_with_each_urllib3(site: Site, dest: Path, monkeypatch: pytest.MonkeyPatch, prompt: bool) -> None:
    if not prompt:
        without_read1(monkeypatch)
    for chunked in (False, True):
        resource = site.files["/m/weights.onnx"] = Resource(CONTENT, chunked=chunked, breaks=[2 * MIB])
        fetch(site, dest)
        assert dest.read_bytes() == CONTENT
        assert resource.breaks == []
        dest.unlink()
    assert [bool(asked) for asked, _condition in ranges(site)] == [False, True] * 2


def test_nothing_listens(dest: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    pauses = Pauses()
    with pytest.raises(FetchError) as caught:
        download(f"http://127.0.0.1:{port}/x", str(dest), SHA, attempts=4, sleep=pauses)
    assert f"Cannot fetch http://127.0.0.1:{port}/x: connection refused" in str(caught.value)
    assert "Triton" not in str(caught.value) and "option url" not in str(caught.value)
    assert pauses == [1.0, 2.0, 4.0]
    assert only(dest) == []


# What the server says


@pytest.mark.parametrize("status", [500, 502, 503, 429, 408])
def test_what_may_pass_is_tried_again(site: Site, dest: Path, status: int) -> None:
    site.files["/m/weights.onnx"].answers = [(status, {}), (status, {"Retry-After": "7"})]
    pauses = Pauses()
    fetch(site, dest, sleep=pauses)
    assert dest.read_bytes() == CONTENT
    assert pauses == [1.0, 7.0]


def test_a_server_cannot_make_us_wait_for_ever(site: Site, dest: Path) -> None:
    site.files["/m/weights.onnx"].answers = [(503, {"Retry-After": "86400"})]
    pauses = Pauses()
    fetch(site, dest, sleep=pauses)
    assert pauses == [60.0]


@pytest.mark.parametrize(
    ("status", "text"),
    [
        (401, "refuses access; headers sent to the named host: Authorization. Correct the token"),
        (403, "refuses access"),
        (404, "no such file. Correct the URL"),
        (410, "no such file"),
        (400, "wanted status 200, got 400"),
        (204, "wanted status 200, got 204"),
        (304, "wanted status 200, got 304"),
        (505, "wanted status 200, got 505"),
    ],
)
def test_what_stays_is_not_tried_again(site: Site, dest: Path, status: int, text: str) -> None:
    site.files["/m/weights.onnx"].answers = [(status, {})] * 9
    with pytest.raises(FetchError, match=r"(?i)" + text) as caught:
        fetch(site, dest, headers={"Authorization": f"Bearer {SECRET}"})
    assert SECRET not in str(caught.value)
    assert len(site.requests) == 1
    assert only(dest) == [], "no debris"


def test_a_server_that_always_fails(site: Site, dest: Path) -> None:
    site.files["/m/weights.onnx"].answers = [(500, {})] * 9
    with pytest.raises(FetchError, match=r"(?i)wanted status 200, got 500; it was tried 5 times without headway. Look at the server"):
        fetch(site, dest)
    assert len(site.requests) == 5
    assert only(dest) == []


def test_another_content_is_removed_and_named(site: Site, dest: Path) -> None:
    site.files["/m/weights.onnx"].content = OTHER
    with pytest.raises(FetchError) as caught:
        fetch(site, dest)
    got = hashlib.sha256(OTHER).hexdigest()
    assert f"wanted sha256:{SHA}, got sha256:{got} ({len(OTHER)} bytes)" in caught.value.why
    assert "correct the checksum" in caught.value.remedy
    assert only(dest) == []
    assert len(site.requests) == 1


@pytest.mark.parametrize(
    ("headers", "hint"),
    [
        ({"Content-Type": "text/html; charset=utf-8"}, "of an HTML page, perhaps one to log in"),
        ({"Content-Encoding": "gzip"}, "packed with gzip on the way"),
    ],
)
def test_a_likely_cause_of_another_content_is_named(site: Site, dest: Path, headers: dict[str, str], hint: str) -> None:
    site.files["/m/weights.onnx"] = Resource(b"<html>", headers=headers)
    with pytest.raises(FetchError, match=hint):
        fetch(site, dest)


def test_a_content_encoding_that_is_only_said_does_no_harm(site: Site, dest: Path) -> None:
    """Some servers say gzip of a .tar.gz; what comes is the file."""
    site.files["/m/weights.onnx"].headers = {"Content-Encoding": "gzip"}
    fetch(site, dest)
    assert dest.read_bytes() == CONTENT


# Redirects


def redirect(site: Site, to: str, path: str = "/go", status: int = 302) -> None:
    site.files[path] = Resource(answers=[(status, {"Location": to})] * 20)


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_headers_go_along_within_one_server_and_no_further(site: Site, dest: Path, status: int) -> None:
    headers = {"Authorization": f"Bearer {SECRET}", "X-Hub-Token": SECRET, "Cookie": f"session={SECRET}"}
    with serving() as cdn:
        cdn.files["/signed"] = Resource(CONTENT, breaks=[MIB])
        redirect(site, "/go2", status=status)
        redirect(site, cdn.url("/signed?sig=abc"), "/go2", status=status)
        fetch(site, dest, "/go", headers=headers)
        assert dest.read_bytes() == CONTENT
        assert [request.path for request in site.requests] == ["/go", "/go2", "/go", "/go2"], "a break begins at the named URL"
        for request in site.requests:
            assert {name: request.headers.get(name) for name in headers} == headers
        assert [request.path for request in cdn.requests] == ["/signed?sig=abc"] * 2
        for request in cdn.requests:
            assert SECRET not in str(request.headers)
        assert "Range" in cdn.requests[1].headers


def test_headers_do_not_come_back_by_a_detour(site: Site, dest: Path) -> None:
    with serving() as other:
        redirect(site, other.url("/go"))
        redirect(other, site.url("/m/weights.onnx"))
        fetch(site, dest, "/go", headers={"Authorization": SECRET})
    assert ["Authorization" in request.headers for request in site.requests] == [True, False]


def test_redirects_without_end_or_aim(site: Site, dest: Path) -> None:
    redirect(site, "/go")
    with pytest.raises(FetchError, match=r"(?i)redirects more than 10 times"):
        fetch(site, dest, "/go")
    assert len(site.requests) == 11
    site.files["/go"] = Resource(answers=[(302, {})])
    with pytest.raises(FetchError, match=r"(?i)redirect \(302\) to nowhere"):
        fetch(site, dest, "/go")
    assert only(dest) == []


@pytest.mark.parametrize("to", ["file:///etc/passwd", "ftp://h/x", "https://", "http://[::1/", "http://h:99999/x"])
def test_a_redirect_to_what_is_no_web_address(site: Site, dest: Path, to: str) -> None:
    redirect(site, to)
    with pytest.raises(FetchError, match=r"(?i)Cannot follow the redirect of .* wanted a URL"):
        fetch(site, dest, "/go")


def test_the_body_of_a_redirect_is_not_read(site: Site, dest: Path) -> None:
    """It never ends: nobody sends what was promised."""
    site.files["/go"] = Resource(answers=[(302, {"Location": "/m/weights.onnx", "Content-Length": str(1 << 40)})])
    fetch(site, dest, "/go", timeout=5)
    assert dest.read_bytes() == CONTENT


def test_a_redirect_from_https_to_http_is_refused(tls_site: Site, site: Site, certificate: Path, dest: Path) -> None:
    redirect(tls_site, site.url("/m/weights.onnx"))
    with pytest.raises(FetchError, match=r"(?i)leads from https to plain http") as caught:
        download(tls_site.url("/go", "localhost"), str(dest), SHA, ca_path=str(certificate), allow_http=True)
    assert "Use the URL of a server that stays with https" in str(caught.value)
    assert site.requests == []


# TLS and plain http


@pytest.mark.filterwarnings("ignore::urllib3.exceptions.InsecureRequestWarning")
def test_https_with_an_authority_of_ones_own(tls_site: Site, certificate: Path, dest: Path) -> None:
    url = tls_site.url("/m/weights.onnx", "localhost")
    with pytest.raises(FetchError, match=r"(?i)Cannot fetch https://localhost:.*does not verify.*set ca_path"):
        download(url, str(dest), SHA, sleep=Pauses())
    assert only(dest) == []
    download(url, str(dest), SHA, ca_path=str(certificate), headers={"Authorization": SECRET})
    assert dest.read_bytes() == CONTENT
    dest.unlink()
    download(tls_site.url("/m/weights.onnx"), str(dest), SHA, validate_certs=False)
    assert dest.read_bytes() == CONTENT


def test_a_wrong_name_in_the_certificate(tls_site: Site, certificate: Path, dest: Path) -> None:
    with pytest.raises(FetchError, match=r"(?i)certificate does not verify"):
        download(tls_site.url("/m/weights.onnx"), str(dest), SHA, ca_path=str(certificate), sleep=Pauses())
    assert tls_site.requests == []


def test_plain_http_only_to_this_machine_unless_allowed(dest: Path, own_address: str) -> None:
    with serving(address="0.0.0.0") as site:
        site.files["/x"] = Resource(CONTENT)
        url = site.url("/x", own_address)
        with pytest.raises(FetchError, match=r"(?i)plain http lets everybody.*use https, or allow http"):
            download(url, str(dest), SHA)
        with pytest.raises(FetchError, match=r"(?i)headers are secrets"):
            download(url, str(dest), SHA, headers={"Authorization": SECRET}, allow_http=True)
        assert site.requests == []
        download(url, str(dest), SHA, allow_http=True)
        assert dest.read_bytes() == CONTENT


@pytest.fixture
def own_address() -> str:
    """An address of this machine that is no loopback. Nothing is sent to find it."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect(("192.0.2.1", 9))
        found: str = probe.getsockname()[0]
    return found


def test_the_proxy_of_the_environment_is_used(site: Site, dest: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("no_proxy", "NO_PROXY", "HTTP_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("http_proxy", site.url(""))
    site.files["http://files.example/x"] = Resource(CONTENT)
    download("http://files.example/x", str(dest), SHA, allow_http=True)
    assert [request.path for request in site.requests] == ["http://files.example/x"]


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_no_proxy_gets_what_is_for_this_machine(dest: Path, monkeypatch: pytest.MonkeyPatch, host: str) -> None:
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    with serving() as proxy, serving() as site:
        for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
            monkeypatch.setenv(name, proxy.url(""))
        site.files["/x"] = Resource(CONTENT)
        download(site.url("/x", host), str(dest), SHA, headers={"Authorization": SECRET}, sleep=Pauses())
        assert proxy.requests == []
        assert len(site.requests) == 1


def test_netrc_is_not(site: Site, dest: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "netrc").write_text("default login me password secret")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    fetch(site, dest)
    assert "Authorization" not in site.requests[0].headers


# What is refused, and what is shown


@pytest.mark.parametrize(
    "url", ["", "weights.onnx", "file:///etc/passwd", "ftp://h/x", "https://", "https:///x", "https://h:x/", "https://[::1/"]
)
def test_what_is_no_web_address(url: str, dest: Path) -> None:
    with pytest.raises(FetchError, match=r"(?i)wanted a URL of the form https://HOST/PATH"):
        download(url, str(dest), SHA)
    assert only(dest) == []


def test_a_user_in_a_url_is_refused_and_not_shown(dest: Path) -> None:
    with pytest.raises(FetchError, match=r"(?i)Authorization header") as caught:
        download(f"https://me:{SECRET}@h/x?y=1", str(dest), SHA)
    assert SECRET not in everything(caught.value)


@pytest.mark.parametrize(
    "url",
    [
        *("https://me:pa@SECRET@h.invalid/x", "https://me:pa/SECRET@h.invalid/x", "https://me:pa?SECRET@h.invalid/x"),
        *("https:\\\\me:SECRET@h.invalid/x", "https://me:SECRET%40h.invalid/x"),
        *("https://127.0.0.1:1/SECRET@h.invalid/x", "me:SECRET@h.invalid/x", "https://me:SECRET@[::1/x", "https://me:SECRET"),
    ],
)
def test_no_part_of_a_password_is_shown(url: str, dest: Path) -> None:
    """However it is written: a letter in it that should have been quoted ends it early."""
    with pytest.raises(FetchError) as caught:
        download(url, str(dest), SHA, attempts=1, timeout=1)
    assert "SECRET" not in str(caught.value)
    assert "pa" not in re.findall(r"[a-z]+", str(caught.value))


@pytest.mark.parametrize("value", ["line\nbreak", "nul\0", " space "])
def test_a_header_that_cannot_be_sent_is_named_and_not_shown(site: Site, dest: Path, value: str) -> None:
    with pytest.raises(FetchError, match=r"(?i)Cannot send the header X-Token") as caught:
        fetch(site, dest, headers={"X-Token": SECRET + value})
    assert SECRET not in everything(caught.value)
    assert site.requests == []


@pytest.mark.parametrize("wanted", [None, "", "x", "md5:" + "0" * 32, "0" * 63, "sha256:" + "0" * 65, "sha512:" + "0" * 64, 5])
def test_a_checksum_is_required(site: Site, dest: Path, wanted: t.Any) -> None:
    with pytest.raises(FetchError, match=r"(?i)Cannot use the checksum"):
        fetch(site, dest, sha256=wanted)
    assert site.requests == []


def test_checksums_in_their_notations() -> None:
    assert checksum("sha256:" + "AB" * 32) == checksum("ab" * 32) == "ab" * 32


def everything(error: BaseException) -> str:
    """All that a handler may print of an error."""
    return "".join(traceback.format_exception(type(error), error, error.__traceback__)) + repr(error) + str(error)


@pytest.mark.parametrize("case", ["refused", "lost", "status", "no http", "tls", "broken", "redirected"])
def test_no_error_shows_a_secret(case: str, site: Site, tls_site: Site, dest: Path) -> None:
    path = f"/m/weights.onnx?X-Signature={SECRET}"
    headers = {"Authorization": f"Bearer {SECRET}"}
    resource = site.files["/m/weights.onnx"]
    url = site.url(path)
    closed = socket.create_server(("127.0.0.1", 0))
    if case == "refused":
        url = f"http://127.0.0.1:{closed.getsockname()[1]}{path}"
    elif case == "lost":
        resource.headers, resource.breaks = {"Content-Length": "10"}, [0, 0]
    elif case == "status":
        resource.answers = [(403, {})] * 2
    elif case == "no http":
        url = f"http://127.0.0.1:{tls_site.server_port}{path}"
    elif case == "tls":
        url = tls_site.url(path)
    elif case == "broken":
        resource.breaks = [1000, 1000]
    else:
        redirect(site, f"https://127.0.0.1:1/x?sig={SECRET}", "/m/weights.onnx")
    closed.close()
    with pytest.raises(FetchError) as caught:
        download(url, str(dest), SHA, headers=headers, attempts=2, sleep=Pauses())
    assert SECRET not in everything(caught.value)
    assert "X-Signature" not in str(caught.value)
    assert caught.value.what.startswith("Cannot fetch http")
    for left in dest.parent.glob("*.json"):
        assert SECRET not in left.read_text()


# Room


def test_no_room_is_seen_before_anything_comes(site: Site, dest: Path) -> None:
    resource = site.files["/m/weights.onnx"]
    resource.headers = {"Content-Length": str(1 << 60)}
    with pytest.raises(FetchError, match=rf"(?i)no room in .*wanted {1 << 60} bytes more, free are \d+"):
        fetch(site, dest)
    assert only(dest) == []


def test_a_file_system_that_is_full(site: Site, tmp_path: Path) -> None:
    """Full for this process alone: it may write no more than 1 MiB to a file."""
    code = f"""
import resource, signal
from ansible_collections.gpufleet.triton.plugins.module_utils._fetch import FetchError, download
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, ({MIB}, {MIB}))
try:
    download({site.url("/m/weights.onnx")!r}, {str(tmp_path / "x")!r}, {SHA!r})
except FetchError as error:
    print(error)
"""
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=env)
    assert "Cannot fetch" in done.stdout
    assert "File too large" in done.stdout


@pytest.mark.parametrize("chunked", [False, True])
def test_the_limit_holds_with_and_without_a_length(site: Site, dest: Path, chunked: bool) -> None:
    site.files["/m/weights.onnx"].chunked = chunked
    with pytest.raises(FetchError, match=r"(?i)larger than the limit of 2000000 bytes"):
        fetch(site, dest, max_bytes=2_000_000)
    assert only(dest) == []
    fetch(site, dest, max_bytes=len(CONTENT))


def test_a_folder_that_cannot_be_written(site: Site, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(FetchError, match=r"(?i)Cannot fetch .* to .*file/x"):
        fetch(site, tmp_path / "file" / "x")
    assert site.requests == []


def test_a_link_in_place_of_the_part_is_not_followed(site: Site, dest: Path, tmp_path: Path) -> None:
    dest.parent.mkdir()
    victim = tmp_path / "victim"
    victim.write_text("mine")
    (dest.parent / f"{SHA}.part").symlink_to(victim)
    with pytest.raises(FetchError, match=r"(?i)Cannot fetch"):
        fetch(site, dest)
    assert victim.read_text() == "mine"


# Two at once


def test_of_two_that_want_the_same_one_fetches(site: Site, dest: Path) -> None:
    met = threading.Event()
    site.files["/m/weights.onnx"].before = lambda _number: met.wait(5) and None
    results: list[int] = []
    threads = [threading.Thread(target=lambda: results.append(fetch(site, dest))) for _number in range(3)]
    for thread in threads:
        thread.start()
    met.set()
    for thread in threads:
        thread.join()
    assert sorted(results) == [0, 0, len(CONTENT)]
    assert dest.read_bytes() == CONTENT
    assert only(dest) == [SHA]


def test_who_waited_does_not_write_to_what_was_moved_away(tmp_path: Path) -> None:
    path = tmp_path / "x.part"
    places: list[bool] = []

    def wait() -> None:
        with _fetch._locked(str(path)) as handle:
            places.append(os.path.samestat(os.fstat(handle), path.stat()))

    thread = threading.Thread(target=wait)
    with _fetch._locked(str(path)) as handle:
        os.write(handle, b"whole")
        thread.start()
        thread.join(0.2)
        assert places == [], "it waits"
        path.rename(tmp_path / "x")
    thread.join()
    assert places == [True]
    assert (tmp_path / "x").read_bytes() == b"whole"
    assert not path.exists()


@pytest.mark.parametrize("growing", [False, True])
def test_the_wait_for_another_ends_when_that_makes_no_headway(
    site: Site, dest: Path, monkeypatch: pytest.MonkeyPatch, growing: bool
) -> None:
    monkeypatch.setattr(_fetch, "_LOCK_PATIENCE", 0.4)
    monkeypatch.setattr(_fetch, "_LOCK_POLL", 0.02)
    dest.parent.mkdir()
    part = dest.parent / f"{SHA}.part"
    released = threading.Event()

    def hold() -> None:
        with _fetch._locked(str(part)) as handle:
            held.set()
            for _number in range(20):
                os.write(handle, b"x" if growing else b"")
                released.wait(0.1)

    held = threading.Event()
    thread = threading.Thread(target=hold)
    thread.start()
    held.wait()
    if growing:
        assert fetch(site, dest) == len(CONTENT)
    else:
        with pytest.raises(FetchError, match=r"(?i)another process fetches the same file.*for 0\.4 s nothing came.*end that process"):
            fetch(site, dest)
        assert site.requests == []
    released.set()
    thread.join()


def test_without_requests_the_package_is_named(dest: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_fetch, "REQUESTS_IMPORT_ERROR", "Traceback")
    with pytest.raises(FetchError, match=r"(?i)install the package python3-requests"):
        download("https://h/x", str(dest), SHA)
