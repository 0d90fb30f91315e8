# Copyright (c) 2026, The gpufleet.triton authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import datetime
import http.server
import socket
import ssl
import threading
import traceback
import typing as t
from pathlib import Path

import pytest
import requests
from ansible_collections.gpufleet.triton.plugins.module_utils._http import (
    HttpConnectError,
    HttpError,
    HttpLostError,
    HttpOptionsError,
    HttpProtocolError,
    HttpTimeoutError,
    HttpTlsError,
    Options,
    Response,
    Transport,
    shown_url,
)
from ansible_collections.gpufleet.triton.plugins.module_utils._problem import sentence
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    seen: t.ClassVar[list[dict[str, t.Any]]] = []

    def answer(self) -> None:
        length = int(self.headers.get("Content-Length") or 0)
        self.seen.append(
            {
                "line": f"{self.command} {self.path}",
                "headers": dict(self.headers),
                "body": self.rfile.read(length).decode(),
                "port": self.client_address[1],
            }
        )
        status = int(self.path.rsplit("/", 1)[-1]) if self.path.rsplit("/", 1)[-1].isdigit() else 200
        body = b'{"error":"no"}' if status >= 400 else b""
        self.send_response(status)
        if status in (301, 302):
            self.send_header("Location", "/elsewhere")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_GET = do_POST = answer

    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture
def server() -> t.Iterator[str]:
    Handler.seen.clear()
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as found:
        found.daemon_threads = True
        thread = threading.Thread(target=found.serve_forever, args=(0.01,))
        thread.start()
        yield f"http://127.0.0.1:{found.server_port}"
        found.shutdown()
        thread.join()


class QuietServer(http.server.ThreadingHTTPServer):
    """Handshakes are meant to fail: no traceback for that."""

    def handle_error(self, *args: object) -> None:
        pass


class Talker:
    """A port that answers each connection with fixed bytes, or not at all."""

    def __init__(self, says: bytes | None) -> None:
        self.says = says
        self.socket = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self.socket.getsockname()[1]}"
        self.held: list[socket.socket] = []
        self.thread = threading.Thread(target=self.serve)
        self.thread.start()

    def serve(self) -> None:
        while True:
            try:
                peer, _address = self.socket.accept()
            except OSError:
                return
            if self.says is None:
                self.held.append(peer)
                continue
            with peer:
                peer.recv(65536)
                peer.sendall(self.says)

    def close(self) -> None:
        # A listening socket's accept is woken by a shutdown, not by a close.
        self.socket.shutdown(socket.SHUT_RDWR)
        self.socket.close()
        self.thread.join()
        for peer in self.held:
            peer.close()


@pytest.fixture
def talker() -> t.Iterator[t.Callable[[bytes | None], str]]:
    found: list[Talker] = []

    def start(says: bytes | None) -> str:
        found.append(Talker(says))
        return found[-1].url

    yield start
    for item in found:
        item.close()


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = datetime.datetime.now(datetime.timezone.utc)
    found = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    path = tmp_path_factory.mktemp("tls") / "both.pem"
    path.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        + found.public_bytes(serialization.Encoding.PEM)
    )
    return path


@pytest.fixture
def tls_server(certificate: Path) -> t.Iterator[int]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    with QuietServer(("127.0.0.1", 0), Handler) as found:
        found.daemon_threads = True
        # The handshake is done by the connection's own thread, which may fail it.
        found.socket = context.wrap_socket(found.socket, server_side=True, do_handshake_on_connect=False)
        thread = threading.Thread(target=found.serve_forever, args=(0.01,))
        thread.start()
        yield found.server_port
        found.shutdown()
        thread.join()


def ask(url: str, **options: t.Any) -> Response:
    with Transport(Options(url=url, **options)) as transport:
        return transport.request("GET", "/v2")


@pytest.mark.parametrize("status", [200, 302, 400, 401, 403, 404, 500, 503])
def test_every_status_is_an_answer(server: str, status: int) -> None:
    with Transport(Options(url=server)) as transport:
        answer = transport.request("GET", f"/{status}")
    assert (answer.status, answer.error()) == (status, "no" if status >= 400 else "")
    assert [seen["line"] for seen in Handler.seen] == [f"GET /{status}"], "a redirect must not be followed"


def test_headers_body_and_keep_alive(server: str) -> None:
    options = Options(url=server + "/prefix/", headers=(("X-More", "1"),), admin_header="x-key", admin_key="sesame")
    with Transport(options) as transport:
        transport.request("POST", "/v2/repository/index", {"ready": True})
        transport.request("GET", "/v2")
    first, second = Handler.seen
    assert first["line"] == "POST /prefix/v2/repository/index"
    assert first["body"] == '{"ready": true}'
    assert first["headers"]["Content-Type"] == "application/json"
    assert (first["headers"]["x-key"], first["headers"]["X-More"]) == ("sesame", "1")
    assert "Content-Type" not in second["headers"]
    assert first["port"] == second["port"], "one connection is kept alive"


def test_a_body_of_bytes_is_sent_as_it_is(server: str) -> None:
    headers = {"Content-Type": "application/octet-stream", "X-Length": "8"}
    with Transport(Options(url=server)) as transport:
        answer = transport.request("POST", "/infer", b'{"a": 1}\x01\x02', headers=headers)
        transport.request("GET", "/v2")
    first, second = Handler.seen
    assert first["body"] == '{"a": 1}\x01\x02'
    assert (first["headers"]["Content-Type"], first["headers"]["X-Length"]) == ("application/octet-stream", "8")
    assert "X-Length" not in second["headers"], "headers are those of one request"
    assert answer.headers["content-length"] == "0"


def test_the_environment_has_no_say(server: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    (tmp_path / ".netrc").write_text("default login me password secret")
    monkeypatch.setenv("NETRC", str(tmp_path / ".netrc"))
    assert ask(server).status == 200
    assert "Authorization" not in Handler.seen[0]["headers"]


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as found:
        port: int = found.getsockname()[1]
        return port


def test_refused() -> None:
    with pytest.raises(HttpConnectError, match="connection refused") as caught:
        ask(f"http://127.0.0.1:{free_port()}")
    assert caught.value.transient
    assert "nothing listens there" in caught.value.why


def test_name_does_not_resolve() -> None:
    with pytest.raises(HttpConnectError, match="does not resolve"):
        ask("http://host.invalid:8000")


def test_timeout(talker: t.Callable[[bytes | None], str]) -> None:
    with pytest.raises(HttpTimeoutError, match=r"no answer within 0\.2 s") as caught:
        ask(talker(None), timeout=0.2)
    assert caught.value.transient


def test_a_request_may_have_more_time_than_the_others(talker: t.Callable[[bytes | None], str]) -> None:
    with Transport(Options(url=talker(None), timeout=0.1)) as transport, pytest.raises(HttpTimeoutError, match=r"within 0\.3 s"):
        transport.request("POST", "/load", timeout=0.3)


def test_closed_without_an_answer(talker: t.Callable[[bytes | None], str]) -> None:
    with pytest.raises(HttpLostError, match="closed the connection"):
        ask(talker(b""))


def test_half_an_answer(talker: t.Callable[[bytes | None], str]) -> None:
    with pytest.raises(HttpError, match="GET http://"):
        ask(talker(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf"))


def test_no_http(talker: t.Callable[[bytes | None], str]) -> None:
    with pytest.raises(HttpProtocolError, match="does not speak HTTP"):
        ask(talker(b"SSH-2.0-OpenSSH_9.2\r\n"))


def test_tls_that_does_not_verify(tls_server: int) -> None:
    with pytest.raises(HttpTlsError, match="does not verify against the system's certificate authorities") as caught:
        ask(f"https://localhost:{tls_server}")
    assert not caught.value.transient
    assert "ca_path" in caught.value.remedy


def test_tls_with_the_right_authority(tls_server: int, certificate: Path) -> None:
    assert ask(f"https://localhost:{tls_server}", ca_path=str(certificate)).status == 200


def test_tls_with_another_name(tls_server: int, certificate: Path) -> None:
    with pytest.raises(HttpTlsError, match="does not verify"):
        ask(f"https://127.0.0.1:{tls_server}", ca_path=str(certificate))


@pytest.mark.filterwarnings("ignore::urllib3.exceptions.InsecureRequestWarning")
def test_tls_unverified_on_demand(tls_server: int) -> None:
    assert ask(f"https://127.0.0.1:{tls_server}", validate_certs=False).status == 200


def test_tls_to_a_plain_port(server: str) -> None:
    with pytest.raises(HttpTlsError, match="does not speak TLS"):
        ask(server.replace("http://", "https://"))


def test_plain_to_a_tls_port(tls_server: int) -> None:
    with pytest.raises(HttpError, match="GET http://"):
        ask(f"http://localhost:{tls_server}")


@pytest.mark.parametrize("options", [{"ca_path": "/nowhere.pem"}, {"client_cert": "/nowhere.pem"}])
def test_tls_files_that_are_not_there(tls_server: int, options: dict[str, str]) -> None:
    with pytest.raises(HttpTlsError, match="cannot use the TLS files"):
        ask(f"https://localhost:{tls_server}", **options)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"url": "localhost:8000"}, "Wanted http://HOST:PORT"),
        ({"url": "ftp://localhost"}, "Wanted http://HOST:PORT"),
        ({"url": "http://"}, "Wanted http://HOST:PORT"),
        ({"url": "http://localhost:99999"}, "(?i)port"),
        ({"url": "http://[::1"}, "(?i)ipv6"),
        ({"url": "http://localhost/?x=1"}, "query"),
        ({"url": "http://localhost", "headers": (("a b", "1"),)}, "no valid header name"),
        ({"url": "http://localhost", "headers": (("a", "1\r\nb: 2"),)}, "line breaks"),
        ({"url": "http://localhost", "client_key": "/key"}, "client_cert"),
    ],
)
def test_options_that_cannot_be_used(options: dict[str, t.Any], words: str) -> None:
    with pytest.raises(HttpOptionsError, match=words):
        Transport(Options(**options))


@pytest.mark.parametrize(
    "options",
    [
        {"url": "http://me:sesame@localhost:8000"},
        {"url": "http://me:sesame@localhost:99999"},
        {"url": "http://me:open@sesame@localhost:8000"},
        {"url": "http://me:sesame/x@localhost:8000"},
        {"url": "http://me:12/sesame@localhost:8000"},
        {"url": "http://localhost/sesame@x"},
        {"url": "http://localhost", "admin_header": "x-key", "admin_key": "sesame\n"},
        {"url": "http://localhost", "admin_header": "x-key", "admin_key": "sesame\u043a"},
    ],
)
def test_a_secret_is_never_in_a_message(options: dict[str, t.Any]) -> None:
    with pytest.raises(HttpOptionsError) as caught:
        Transport(Options(**options))
    assert "sesame" not in str(caught.value)


@pytest.mark.parametrize(
    ("url", "wanted"),
    [
        ("https://me:pw@host:1/a/b?token=x#y", "https://host:1/a/b"),
        ("https://me:a@b@host/x", "https://host/x"),
        ("https://host?x=1", "https://host"),
        ("file:///etc/passwd", "file:///etc/passwd"),
        ("weights.onnx", "weights.onnx"),
        ("", ""),
        ("https://me:pa/ss@host/x", "https://(hidden)"),
        ("https://me:pa?ss@host/x", "https://(hidden)"),
        ("https://me:pa#ss@host/x", "https://(hidden)"),
        ("HTTP://me:99999/", "HTTP://(hidden)"),
        ("https:\\\\me:pass@host/x", "https://(hidden)"),
        ("https://[::1/x", "https://(hidden)"),
        ("ftp://me:pa/ss@host/x", "(hidden)"),
        ("me:pass@host/x", "(hidden)"),
    ],
)
def test_what_is_shown_of_a_url(url: str, wanted: str) -> None:
    assert shown_url(url) == wanted


def test_sentence() -> None:
    assert sentence("a thing. ", "", "do it;\n") == "A thing. Do it."
    assert sentence("") == ""


def test_answers() -> None:
    assert Response("GET", "/", 400, b'{"error": " why "}').error() == "why"
    assert [Response("GET", "/", 400, body).error() for body in (b"", b"<html>", b"[]", b'{"error": 1}', b"\xff")] == [""] * 5
    assert Response("GET", "/", 200, b"x" * 500).text(10) == "x" * 10 + "..."


# Streams


def test_a_body_comes_piece_by_piece(talker: t.Callable[[bytes | None], str]) -> None:
    url = talker(b"HTTP/1.1 200 OK\r\nContent-Length: 50000\r\nX-More: 1\r\n\r\n" + b"x" * 50_000)
    with Transport(Options(url=url)) as transport, transport.stream("/file?token=x") as stream:
        assert (stream.status, stream.headers["x-more"]) == (200, "1")
        pieces = list(stream.chunks(20_000))
    assert b"".join(pieces) == b"x" * 50_000
    assert max(len(piece) for piece in pieces) <= 20_000


@pytest.mark.parametrize("says", [b"Content-Length: 50\r\n\r\nabc", b"Transfer-Encoding: chunked\r\n\r\n5\r\nabc"])
def test_half_a_body_is_no_body(talker: t.Callable[[bytes | None], str], says: bytes) -> None:
    url = talker(b"HTTP/1.1 200 OK\r\n" + says)
    with Transport(Options(url=url)) as transport, transport.stream("/file") as stream, pytest.raises(HttpLostError):
        list(stream.chunks())


def test_an_error_of_a_stream_hides_the_query_and_the_headers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Libraries put both into their messages: whatever they say, it is not in ours, nor in the traceback."""

    def fail(*_arguments: object, **_options: object) -> None:
        raise requests.exceptions.InvalidURL("no use: /file?sig=qu3ry with header h3ader")

    monkeypatch.setattr(requests.Session, "get", fail)
    options = Options(url="http://127.0.0.1:1", headers=(("X-Token", "h3ader"),))
    with pytest.raises(HttpProtocolError) as caught, Transport(options) as transport, transport.stream("/file?sig=qu3ry"):
        pass
    shown = "".join(traceback.format_exception(type(caught.value), caught.value, caught.value.__traceback__)) + str(caught.value)
    assert "no use: /file?(hidden) with header (hidden)" in shown
    assert "h3ader" not in shown.replace('(("X-Token", "h3ader"),)', "")
    assert "InvalidURL" in shown


def test_an_error_of_a_stream_hides_a_path_that_may_hold_a_password(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_arguments: object, **_options: object) -> None:
        raise requests.exceptions.InvalidURL("no use: /sesame@host/file")

    monkeypatch.setattr(requests.Session, "get", fail)
    options = Options(url="http://me")
    with pytest.raises(HttpProtocolError) as caught, Transport(options) as transport, transport.stream("/sesame@host/file"):
        pass
    assert str(caught.value).startswith("GET http://(hidden): no valid answer. InvalidURL: no use: (hidden)")
