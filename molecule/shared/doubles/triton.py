# Copyright (c) 2026, The gpufleet.triton authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A double of Triton that is ready and has no model, for tests of what is done around a server and not by it."""

from http.server import BaseHTTPRequestHandler, HTTPServer


class Handler(BaseHTTPRequestHandler):
    def answer(self) -> None:
        metadata = b'{"name": "triton", "version": "2.51.0", "extensions": ["model_repository"]}'
        # To a question about its health it says nothing but that all is well.
        body = b"[]" if self.command == "POST" else metadata if self.path.rstrip("/") == "/v2" else b""
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
        with open("/srv/lab/order", "a", encoding="utf-8") as out:
            out.write("asked triton\n")

    do_GET = do_POST = answer

    def log_message(self, *_arguments: object) -> None:
        pass


HTTPServer(("127.0.0.1", 8000), Handler).serve_forever()
