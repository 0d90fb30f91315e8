# Copyright (c) 2026, The gpufleet.triton authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A web server of files that does what servers do to downloads: breaks off, ignores ranges, changes files, redirects."""

from __future__ import annotations

import contextlib
import datetime
import http.server
import re
import socket
import ssl
import threading
import typing as t
from dataclasses import dataclass, field
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID


@dataclass
class Resource:
    """What is at one path. The lists are used up, one item for each request."""

    content: bytes = b""
    etag: str | None = '"v1"'
    modified: str | None = None
    ranges: bool = True
    chunked: bool = False
    #: After how many bytes of the body the connection is closed; None: not at all.
    breaks: list[int | None] = field(default_factory=list)
    #: (status, headers) in place of the content.
    answers: list[tuple[int, dict[str, str]]] = field(default_factory=list)
    #: Headers in place of those that the server would send.
    headers: dict[str, str] = field(default_factory=dict)
    #: Called before a request is answered, with its number.
    before: t.Callable[[int], None] = lambda _number: None


@dataclass
class Request:
    path: str
    headers: dict[str, str]


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Site

    def do_GET(self) -> None:
        self.server.requests.append(Request(self.path, dict(self.headers)))
        resource = self.server.files.get(self.path.partition("?")[0])
        if resource is None:
            self._send(404, {}, b"no such file")
            return
        resource.before(len(self.server.requests))
        if resource.answers:
            status, headers = resource.answers.pop(0)
            self._send(status, headers, b"")
            return
        headers = {}
        if resource.etag:
            headers["ETag"] = resource.etag
        if resource.modified:
            headers["Last-Modified"] = resource.modified
        status, body = 200, resource.content
        match = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        condition = self.headers.get("If-Range")
        if match and resource.ranges and condition in (None, resource.etag, resource.modified):
            start = int(match[1])
            if start >= len(body):
                status, headers["Content-Range"], body = 416, f"bytes */{len(body)}", b""
            else:
                status = 206
                headers["Content-Range"] = f"bytes {start}-{len(body) - 1}/{len(body)}"
                body = body[start:]
        stop = resource.breaks.pop(0) if resource.breaks else None
        self._send(status, {**headers, **resource.headers}, body, stop, resource.chunked)

    def _send(self, status: int, headers: dict[str, str], body: bytes, stop: int | None = None, chunked: bool = False) -> None:
        self.send_response(status)
        if chunked:
            headers = {**headers, "Transfer-Encoding": "chunked"}
        elif "Content-Length" not in headers:
            headers = {**headers, "Content-Length": str(len(body))}
        for name, value in headers.items():
            if value:
                self.send_header(name, value)
        self.end_headers()
        with contextlib.suppress(ConnectionError):
            if chunked:
                self.wfile.write(b"%x\r\n%s\r\n" % (len(body), body) if stop is None else b"%x\r\n%s" % (len(body), body[:stop]))
                if stop is None:
                    self.wfile.write(b"0\r\n\r\n")
            else:
                self.wfile.write(body if stop is None else body[:stop])
            self.wfile.flush()
            if stop is not None or headers.get("Connection") == "close":
                self.close_connection = True
                self.connection.shutdown(socket.SHUT_RDWR)

    def log_message(self, *args: object) -> None:
        pass


class Site(http.server.ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, certificate: Path | None = None, address: str = "127.0.0.1") -> None:
        super().__init__((address, 0), Handler)
        self.files: dict[str, Resource] = {}
        self.requests: list[Request] = []
        self.scheme = "http"
        if certificate is not None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(certificate)
            self.socket = context.wrap_socket(self.socket, server_side=True, do_handshake_on_connect=False)
            self.scheme = "https"

    def handle_error(self, *args: object) -> None:
        """Connections break here on purpose."""

    def url(self, path: str, host: str = "127.0.0.1") -> str:
        return f"{self.scheme}://{host}:{self.server_port}{path}"


@contextlib.contextmanager
def serving(certificate: Path | None = None, address: str = "127.0.0.1") -> t.Iterator[Site]:
    with Site(certificate, address) as site:
        thread = threading.Thread(target=site.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield site
        finally:
            site.shutdown()
            thread.join()


def make_certificate(path: Path) -> Path:
    """A key and a certificate for localhost and 127.0.0.1, in one file that is its own authority, too."""
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
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost"), x509.DNSName("files.localhost")]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    path.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        + found.public_bytes(serialization.Encoding.PEM)
    )
    return path
