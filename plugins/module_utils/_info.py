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
        stats = self._stats() if live and self.gather else []
        rows, problems = self._index(stats)
        # A model whose folder was taken away has no row in the index, and serves on.
        listed = {row.name for row in rows}
        rows += [row for row in _ready_rows(stats) if row.name not in listed]
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
            statistics: dict[str, list[dict[str, t.Any]]] = {}
            for row in stats:
                statistics.setdefault(str(row.get("name")), []).append(row)
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

    def _index(self, stats: list[dict[str, t.Any]]) -> tuple[list[IndexRow], list[Problem]]:
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
            return _ready_rows(stats or self.client.stats()), [problem]

    def _config(self, name: str) -> tuple[str, dict[str, t.Any] | None]:
        return name, self.client.config(name)

    def _stats(self) -> list[dict[str, t.Any]]:
        """Those of all models that are ready. None where they are restricted and nobody asked for them."""
        try:
            return list(self.client.stats())
        except AccessError:
            if "statistics" in self.gather:
                raise
            return []


def _ready_rows(stats: t.Iterable[t.Mapping[str, t.Any]]) -> list[IndexRow]:
    return [IndexRow(str(row["name"]), int(row["version"]), READY) for row in stats if row.get("version") and row.get("name")]
