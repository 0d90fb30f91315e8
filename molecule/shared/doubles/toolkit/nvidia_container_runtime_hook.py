# Copyright (c) 2026, The gpufleet.triton authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A double of the prestart hook: it makes the device nodes that NVIDIA_VISIBLE_DEVICES asks for in the container's /dev.

It gets the container's state on standard input, and what it says on standard error is Docker's error.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path


def main() -> None:
    state = json.load(sys.stdin)
    specification = json.loads(Path(state["bundle"], "config.json").read_text(encoding="utf-8"))
    environment = dict(entry.split("=", 1) for entry in specification["process"]["env"])
    wanted = environment.get("NVIDIA_VISIBLE_DEVICES", "")
    if wanted in ("", "void", "none"):
        return
    asked = subprocess.run(["nvidia-smi", "-L"], text=True, capture_output=True, check=True).stdout
    there = {line.split(":")[0].split()[1]: line.rpartition("UUID: ")[2].rstrip(")") for line in asked.splitlines()}
    indexes = {**{index: index for index in there}, **{uuid: index for index, uuid in there.items()}}
    root = specification["root"]["path"]
    nodes = ["nvidiactl"]
    for name in there if wanted == "all" else wanted.split(","):
        if name not in indexes:
            sys.exit(f"nvidia-container-cli: device error: {name}: unknown device")
        nodes.append(f"nvidia{indexes[name]}")
    for node in nodes:
        device = os.stat(f"/dev/{node}").st_rdev
        numbers = [str(os.major(device)), str(os.minor(device))]
        subprocess.run(["nsenter", "-t", str(state["pid"]), "-m", "mknod", "-m666", f"{root}/dev/{node}", "c", *numbers], check=True)


if __name__ == "__main__":
    main()
