# Copyright (c) 2026, The gpufleet.triton authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the modules find on a host where everything is as it should be. A test then breaks one thing of it."""

from __future__ import annotations

import copy
import json
from datetime import datetime, timezone
from typing import Any

NOW = datetime(2026, 11, 24, 4, 30, tzinfo=timezone.utc)
FAILURE = "Internal: ModuleNotFoundError: No module named 'onnx'\n\nAt:\n  /models/m/1/model.py(5): <module>"


def digest(number: int) -> str:
    return "sha256:" + f"{number:02x}" * 32


class Found:
    """The facts of one host, to be changed in place, and what the filter is to be given."""

    def __init__(self, *names: str, host: str = "gpu1") -> None:
        names = names or ("m",)
        self.host = host
        self.models: list[dict[str, Any]] = [{"name": name, "state": "loaded"} for name in names]
        self.plan: dict[str, dict[str, Any]] = {
            name: {"name": name, "action": "none", "digest": digest(number), "previous_digest": None, "versions": [1], "reasons": []}
            for number, name in enumerate(names, 1)
        }
        self.disk: dict[str, dict[str, Any]] = {
            name: {"name": name, "managed": True, "digest": row["digest"], "published": "2026-11-20T01:00:00Z", "versions": [1]}
            for name, row in self.plan.items()
        }
        self.index = {name: serving(name, row["digest"]) for name, row in self.plan.items()}
        self.container: dict[str, Any] | None = {
            "image": "registry.example.com/tritonserver:26.08-py3",
            "status": "running",
            "running": True,
            "health": "healthy",
            "restart_count": 2,
            "started_at": "2026-11-21T01:02:03.123456789Z",
            "exit_code": 0,
            "oom_killed": False,
            "ports": [{"container_port": "8000/tcp", "address": "127.0.0.1", "port": 8000}],
        }
        self.looked: dict[str, Any] = {
            "docker": {"installed": True, "running": True, "error": None},
            "units": {"triton.service": {"active_state": "active", "enabled": True}},
            "paths": [
                {
                    "path": "/data/models",
                    "exists": True,
                    "error": None,
                    "read_only": False,
                    "fs_type": "ext4",
                    "free_bytes": 123_456_789_012,
                    "total_bytes": 10**12,
                }
            ],
        }
        self.server: dict[str, Any] = {"server": {"name": "triton", "version": "2.72.0"}, "live": True, "ready": True, "problems": []}
        #: Keys of the facts that are to be others than these make.
        self.given: dict[str, Any] = {}

    def facts(self) -> dict[str, Any]:
        made = {
            "host": self.host,
            "models": self.models,
            "looked": {**self.looked, "container": self.container},
            "repository": {"changed": False, "models": list(self.plan.values()), "on_disk": list(self.disk.values()), "problems": []},
            "server": {**self.server, "models": list(self.index.values())},
            "server_state": "started",
            "control_mode": "explicit",
            "release": "26.08",
            "purge": "false",
            "path": "/data/models",
            "container": "triton",
            "record": json.dumps({"format": 1, "models": [{"name": row["name"], "digest": row["digest"]} for row in self.disk.values()]}),
        }
        return copy.deepcopy({**made, **self.given})


def serving(name: str, served: str | None, *versions: int) -> dict[str, Any]:
    rows = [{"version": version, "state": "READY", "reason": ""} for version in versions or (1,)]
    return {"name": name, "state": "READY", "digest": served, "versions": rows}


def failed(name: str, reason: str = FAILURE) -> dict[str, Any]:
    return {"name": name, "state": "UNAVAILABLE", "digest": None, "versions": [{"version": 1, "state": "UNAVAILABLE", "reason": reason}]}


def unloaded(name: str) -> dict[str, Any]:
    return failed(name, "unloaded")


def moving(name: str, state: str) -> dict[str, Any]:
    return {"name": name, "state": state, "digest": None, "versions": [{"version": 1, "state": state, "reason": ""}]}


def never_loaded(name: str) -> dict[str, Any]:
    return {"name": name, "state": "UNKNOWN", "digest": None, "versions": []}
