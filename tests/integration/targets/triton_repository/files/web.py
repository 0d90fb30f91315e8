# Copyright (c) 2026, The gpufleet.triton authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Serve a folder to those who know a word: web.py FOLDER WORD. Prints port and process as JSON, then serves in the background."""

from __future__ import annotations

import functools
import http.server
import json
import os
import sys
import threading
import time


class Files(http.server.SimpleHTTPRequestHandler):
    def do_GET(self) -> None:
        if self.headers.get("Authorization") == sys.argv[2]:
            super().do_GET()
        else:
            self.send_error(403)

    def log_message(self, *_args: object) -> None:
        pass


def main(folder: str) -> None:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Files, directory=folder))
    pid = os.fork()
    if pid:
        print(json.dumps({"pid": pid, "port": server.server_port}))
        return
    os.setsid()
    null = os.open(os.devnull, os.O_RDWR)
    for descriptor in range(3):
        os.dup2(null, descriptor)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    time.sleep(600)


main(sys.argv[1])
