# Copyright (c) 2026, The gpufleet.triton authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Run a module of the collection in a process of its own: as_module.py NAME ARGUMENTS-AS-JSON.

Prints "begin" on standard error when it begins with the module. Two variables are for tests that kill it: WITNESS_COUNT, a
file to which it writes how many operations on files it began, and WITNESS_DIE_AT, the number of the one before which it is
killed. Only operations on what is below the option `root` count, or on a relative path.
"""

from __future__ import annotations

import atexit
import json
import os
import runpy
import signal
import sys
from pathlib import Path

from ansible.module_utils import basic
from ansible.plugins.loader import init_plugin_loader

OPERATIONS = ("open", "os.", "fcntl.flock", "shutil.")


def watch(root: str) -> None:
    die_at, done = int(os.environ.get("WITNESS_DIE_AT", "0")), 0

    def hook(event: str, args: tuple[object, ...]) -> None:
        nonlocal done
        if not event.startswith(OPERATIONS) or not args:
            return
        path = os.fsdecode(args[0]) if isinstance(args[0], (str, bytes)) else root
        if path.startswith("/") and not path.startswith(root):
            return
        done += 1
        if done == die_at:
            os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(hook)
    if "WITNESS_COUNT" in os.environ:
        atexit.register(lambda: Path(os.environ["WITNESS_COUNT"]).write_text(str(done)))


init_plugin_loader()
name, given = sys.argv[1:]
arguments = json.loads(given)
basic._ANSIBLE_ARGS = json.dumps({"ANSIBLE_MODULE_ARGS": arguments}).encode()
basic._ANSIBLE_PROFILE = "legacy"
print("begin", file=sys.stderr, flush=True)
if "root" in arguments:
    watch(arguments["root"])
runpy.run_module(f"ansible_collections.gpufleet.triton.plugins.modules.{name}", run_name="__main__", alter_sys=True)
