# Copyright (c) 2026, The gpufleet.triton authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A double of nvidia-ctk: --version, config [--in-place] [--set=KEY=VALUE]..., cdi generate [--output=FILE].

A specification is made from what nvidia-smi tells, which is a double in the lab too.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any, NoReturn

CONFIG = Path("/etc/nvidia-container-runtime/config.toml")
# Some of the real ones, with their defaults.
SETTINGS = {
    "accept-nvidia-visible-devices-envvar-when-unprivileged": True,
    "disable-require": False,
    "supported-driver-capabilities": "compute,utility",
    "nvidia-container-cli.no-cgroups": False,
    "nvidia-container-runtime.log-level": "info",
    "nvidia-container-runtime.mode": "auto",
    "features.no-additional-gids-for-device-nodes": False,
}


def fail(text: str) -> NoReturn:
    print(text, file=sys.stderr)
    sys.exit(1)


def read_config() -> dict[str, Any]:
    settings = dict(SETTINGS)
    section = ""
    for line in CONFIG.read_text(encoding="utf-8").splitlines() if CONFIG.is_file() else []:
        if line.startswith("["):
            section = line.strip("[]") + "."
        elif "=" in line:
            key, _equals, value = line.partition(" = ")
            settings[section + key] = json.loads(value)
    return settings


def as_toml(settings: dict[str, Any]) -> str:
    lines = [f"{key} = {json.dumps(value)}" for key, value in settings.items() if "." not in key]
    sections = sorted({key.rpartition(".")[0] for key in settings if "." in key})
    for section in sections:
        lines += ["", f"[{section}]"]
        lines += [f"{key.rpartition('.')[2]} = {json.dumps(value)}" for key, value in settings.items() if key.startswith(section + ".")]
    return "\n".join(lines) + "\n"


def config(arguments: list[str]) -> None:
    settings = read_config()
    for argument in arguments:
        if argument.startswith("--set="):
            key, _equals, value = argument[len("--set=") :].partition("=")
            if key not in SETTINGS:
                fail(f"invalid --set option {key}={value}: invalid config option: undefined field: {key!r}")
            settings[key] = value.lower() in ("true", "1") if isinstance(SETTINGS[key], bool) else value
    if "--in-place" in arguments:
        CONFIG.parent.mkdir(exist_ok=True)
        CONFIG.write_text(as_toml(settings), encoding="utf-8")
    else:
        print(as_toml(settings), end="")


def generate(arguments: list[str]) -> None:
    target = os.environ.get("NVIDIA_CTK_CDI_OUTPUT_FILE_PATH", "")
    for argument in arguments:
        if argument.startswith("--output="):
            target = argument[len("--output=") :]
    asked = subprocess.run(["nvidia-smi", "-L"], text=True, capture_output=True, check=False)
    if asked.returncode:
        fail(f"failed to generate CDI spec: failed to initialize NVML: {asked.stdout.strip()}")
    gpus = re.findall(r"^GPU (\d+): .*UUID: ([^)]+)\)", asked.stdout, re.MULTILINE)
    library = next(Path("/usr/lib").glob("*/libcuda.so.*"))
    devices = [(name, [f"/dev/nvidia{index}"]) for index, uuid in gpus for name in (index, uuid)]
    devices.append(("all", [f"/dev/nvidia{index}" for index, _uuid in gpus]))
    lines = ["---", "cdiVersion: 0.7.0", "kind: nvidia.com/gpu", "devices:"]
    for name, nodes in devices:
        lines += [f'- name: "{name}"', "  containerEdits:", "    deviceNodes:"] + [f"    - path: {node}" for node in nodes]
    lines += ["containerEdits:", "  env:", "  - NVIDIA_VISIBLE_DEVICES=void", "  deviceNodes:", "  - path: /dev/nvidiactl", "  mounts:"]
    lines += [f"  - hostPath: {library}", f"    containerPath: {library}", "    options: [ro, nosuid, nodev, bind]"]
    text = "\n".join(lines) + "\n"
    if target:
        Path(target).parent.mkdir(parents=True, exist_ok=True)
        Path(target).write_text(text, encoding="utf-8")
    else:
        print(text, end="")


def main() -> None:
    arguments = sys.argv[1:]
    if arguments == ["--version"]:
        print("NVIDIA Container Toolkit CLI version @VERSION@\ncommit: a double")
    elif arguments[:1] == ["config"]:
        config(arguments[1:])
    elif arguments[:2] == ["cdi", "generate"]:
        generate(arguments[2:])
    else:
        fail(f"The double of nvidia-ctk does not know {arguments}")


if __name__ == "__main__":
    main()
