# Copyright (c) 2026, The gpufleet.triton authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Servers that are not as they should be: one is silent, one is a web page, one has a certificate that nobody signed.

Prints their ports and its process id as JSON, then serves in the background until it is ended, or for ten minutes.
"""

from __future__ import annotations

import http.server
import json
import os
import socket
import ssl
import sys
import threading
import time


class Page(http.server.BaseHTTPRequestHandler):
    def answer(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"<html>hello</html>")

    do_GET = do_POST = answer

    def log_message(self, *_args: object) -> None:
        pass


def main(certificate: str) -> None:
    silent = socket.create_server(("127.0.0.1", 0))
    page = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Page)
    secure = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Page)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    secure.socket = context.wrap_socket(secure.socket, server_side=True, do_handshake_on_connect=False)
    unused = socket.create_server(("127.0.0.1", 0))
    closed = unused.getsockname()[1]
    unused.close()
    pid = os.fork()
    if pid:
        ports = {"silent": silent.getsockname()[1], "page": page.server_port, "secure": secure.server_port, "closed": closed}
        print(json.dumps({"pid": pid, "ports": ports}))
        return
    os.setsid()
    null = os.open(os.devnull, os.O_RDWR)
    for descriptor in range(3):
        os.dup2(null, descriptor)
    for server in (page, secure):
        threading.Thread(target=server.serve_forever, daemon=True).start()
    time.sleep(600)


main(sys.argv[1])
