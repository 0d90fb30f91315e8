# Copyright (c) 2026, The gpufleet.triton authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This file is private to the gpufleet.triton collection: it may change at any time.

"""All that a server tells about itself, in a few requests."""

from __future__ import annotations

import typing as t
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict

from ansible_collections.gpufleet.triton.plugins.module_utils._client import (
    AccessError,
    IndexRow,
    NotInitialisedError,
    TritonClient,
)
from ansible_collections.gpufleet.triton.plugins.module_utils._state import (
    READY,
    UNKNOWN,
    Problem,
    models_from,
    server_problems,
    with_config,
)


class Info:
    """Everything that triton_info does, without Ansible."""

    def __init__(self, client: TritonClient, gather: t.Collection[str] = ("models",), parallel: int = 4) -> None:
        self.client = client
        self.gather = set(gather)
        self.parallel = parallel

    def collect(self) -> dict[str, t.Any]:
        server = self.client.server_metadata()
        live = self.client.live()
        ready = live and self.client.ready()
        rows, problems = self._index()
        result: dict[str, t.Any] = {
            "server": {"name": server.name, "version": server.version, "extensions": list(server.extensions)},
            "live": live,
            "ready": ready,
            "index": [asdict(row) for row in rows],
            "models": [],
        }
        if self.gather & {"models", "config", "statistics"}:
            models = models_from(rows)
            with ThreadPoolExecutor(max_workers=self.parallel) as pool:
                configs = dict(pool.map(self._config, [name for name, model in models.items() if model.state == READY]))
            statistics = self._statistics() if live else {}
            for name, model in models.items():
                served = with_config(model, configs.get(name))
                entry: dict[str, t.Any] = {
                    "name": name,
                    "state": served.state,
                    "digest": served.digest,
                    "versions": [
                        {"version": row.version, "state": row.state or UNKNOWN, "reason": row.reason}
                        for row in served.rows
                        if row.version is not None or row.state
                    ],
                }
                if "config" in self.gather:
                    entry["config"] = served.config
                if "statistics" in self.gather:
                    entry["statistics"] = statistics.get(name, [])
                result["models"].append(entry)
            if live and not any(problem.what.startswith("The repository index") for problem in problems):
                problems.extend(server_problems(ready, models))
        result["problems"] = [problem.as_dict() for problem in problems]
        return result

    def _index(self) -> tuple[list[IndexRow], list[Problem]]:
        try:
            return self.client.index(), []
        except NotInitialisedError as error:
            return [], [Problem(error.what, error.why, error.remedy)]
        except AccessError as error:
            if self.client.key_given:
                raise
            problem = Problem(
                f"The repository index is restricted and no admin key was given ({error.what})",
                "only the models that serve are shown, from their statistics",
                "give admin_key or admin_key_file to see all",
            )
            rows = [
                IndexRow(str(row["name"]), int(row["version"]), READY)
                for row in self.client.stats()
                if row.get("version") and row.get("name")
            ]
            return rows, [problem]

    def _config(self, name: str) -> tuple[str, dict[str, t.Any] | None]:
        return name, self.client.config(name)

    def _statistics(self) -> dict[str, list[dict[str, t.Any]]]:
        found: dict[str, list[dict[str, t.Any]]] = {}
        if "statistics" in self.gather:
            for row in self.client.stats():
                found.setdefault(str(row.get("name")), []).append(row)
        return found
