# Copyright (c) 2026, The gpufleet.triton authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This file is private to the gpufleet.triton collection: it may change at any time.

"""The gate: is a server ready, with the models that are wanted?"""

from __future__ import annotations

import contextlib
import typing as t
from dataclasses import dataclass, field

from ansible_collections.gpufleet.triton.plugins.module_utils._client import AccessError, IndexRow, TritonClient, check_name
from ansible_collections.gpufleet.triton.plugins.module_utils._container import Container, Report
from ansible_collections.gpufleet.triton.plugins.module_utils._http import HttpError
from ansible_collections.gpufleet.triton.plugins.module_utils._problem import sentence
from ansible_collections.gpufleet.triton.plugins.module_utils._state import (
    READY,
    UNAVAILABLE,
    Model,
    Problem,
    Wanted,
    models_from,
    server_problems,
    wanted_problems,
    with_config,
)
from ansible_collections.gpufleet.triton.plugins.module_utils._waiter import Waited, Waiter

#: How often in a row a container must be seen ended before waiting for it is given up.
ENDED_PROBES = 3


@dataclass
class Seen:
    """One look at a server. `problems` keep it from being ready, `remarks` do not."""

    live: bool = False
    ready: bool = False
    models: list[dict[str, t.Any]] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)
    remarks: list[Problem] = field(default_factory=list)

    @property
    def good(self) -> bool:
        return not self.problems


class HealthCheck:
    """Everything that triton_health does, without Ansible."""

    def __init__(
        self,
        client: TritonClient,
        wanted: t.Sequence[Wanted] = (),
        level: str = "ready",
        container: Container | None = None,
    ) -> None:
        self.client = client
        self.wanted = list(wanted)
        for item in self.wanted:
            check_name(item.name)
        self.level = level
        self.container = container
        self._identified = False
        self._ended = 0

    def probe(self) -> Seen:
        seen = Seen(live=self.client.live())
        if not self._identified:
            self._identify()
        if not seen.live:
            seen.problems.append(
                Problem(
                    "The server answers, but is not live",
                    "its initialisation failed, and --exit-on-error=false keeps it up",
                    "look at the first errors in its log, correct them and restart it",
                )
            )
            return seen
        if self.level == "live":
            return seen
        seen.ready = self.client.ready()
        models, restricted = self._models()
        for wanted in self.wanted:
            model = models[wanted.name]
            found = wanted_problems(wanted, model)
            if restricted is not None and model.state != READY:
                found = [
                    Problem(
                        f"Model {wanted.name!r} is not READY",
                        "it is not in the repository, not loaded, or failed to load: the index, which is restricted, would say which",
                        "load it with gpufleet.triton.triton_model; give admin_key or admin_key_file to see the cause",
                    )
                ]
            seen.problems.extend(found)
            seen.models.append({"name": wanted.name, "ready": not found, **model.summary()})
        if restricted is not None:
            seen.remarks.append(restricted)
            if not seen.ready:
                seen.problems.append(
                    Problem(
                        "The server says that it is not ready",
                        "a model or version loads, unloads, or failed to load; the repository index would show it, but is restricted",
                        "give admin_key or admin_key_file to see which; a failed load is cleared by a load with success or a restart only",
                    )
                )
            return seen
        found = server_problems(seen.ready, models, [wanted.name for wanted in self.wanted])
        (seen.remarks if seen.ready else seen.problems).extend(found)
        return seen

    def wait(self, waiter: Waiter) -> Waited[Seen]:
        self._ended = 0
        return waiter.wait(self.probe, lambda seen: seen.good, self._give_up)

    def report(self) -> Report | None:
        return self.container.report() if self.container is not None else None

    def _identify(self) -> None:
        """Make sure that it is Triton: some services answer 200 to whatever they are asked."""
        # A refusal is Triton's as well: its metadata is restricted then.
        with contextlib.suppress(AccessError):
            self.client.server_metadata()
        self._identified = True

    def _models(self) -> tuple[dict[str, Model], Problem | None]:
        try:
            models = models_from(self.client.index())
        except AccessError as error:
            if self.client.key_given:
                raise
            remark = Problem(
                f"The repository index is restricted and no admin key was given, so each model was asked for by itself ({error.what})",
                "the index alone shows why a model is not READY, and which others failed",
                "give admin_key or admin_key_file to see more",
            )
            return {wanted.name: self._one_by_one(wanted) for wanted in self.wanted}, remark
        for wanted in self.wanted:
            model = models.get(wanted.name, Model(wanted.name))
            # A model that left the repository has no row, and may serve all the same.
            if not model.rows or model.state == READY:
                model = self._with_config(model)
            models[wanted.name] = model
        return models, None

    def _with_config(self, model: Model) -> Model:
        config = self.client.config(model.name)
        versions = self._versions(model.name) if config is not None and not model.rows else []
        return with_config(model, config, versions)

    def _one_by_one(self, wanted: Wanted) -> Model:
        rows = [
            IndexRow(wanted.name, version, READY if self.client.model_ready(wanted.name, version) else UNAVAILABLE)
            for version in wanted.versions
        ]
        if not self.client.model_ready(wanted.name):
            return Model(wanted.name, tuple(rows) or (IndexRow(wanted.name, None, UNAVAILABLE),))
        known = {row.version for row in rows}
        rows += [IndexRow(wanted.name, version, READY) for version in self._versions(wanted.name) if version not in known]
        return Model(wanted.name, tuple(rows), self.client.config(wanted.name))

    def _versions(self, name: str) -> list[int]:
        return [int(version) for version in (self.client.metadata(name) or {}).get("versions", [])]

    def _give_up(self, error: HttpError | None) -> str:
        """End the wait early when the server's container has ended and nothing starts it again."""
        if self.container is None or error is None:
            self._ended = 0
            return ""
        state = self.container.ended()
        self._ended = self._ended + 1 if state else 0
        return f"its container was seen {state} {ENDED_PROBES} times in a row" if self._ended >= ENDED_PROBES else ""


def problems_of(waited: Waited[Seen], report: Report | None = None) -> list[Problem]:
    """Return what keeps the server from being ready, the best explanation first, and then the remarks."""
    found: list[Problem] = []
    of_container = report.problem() if report is not None else None
    known = of_container is not None and not report.note if report is not None else False
    if of_container is not None and known:
        found.append(of_container)
    if waited.error is not None:
        found.append(Problem(waited.error.what, waited.error.why, waited.error.remedy))
    elif waited.last is not None:
        found.extend(waited.last.problems)
    if of_container is not None and not known:
        found.append(of_container)
    if waited.error is None and waited.last is not None:
        found.extend(waited.last.remarks)
    return found


def explain(waited: Waited[Seen], problems: t.Sequence[Problem], level: str) -> str:
    """Sum a failed wait up in one text: how long, and the best explanation."""
    head = f"The server was not {level} after {waited.elapsed:.0f} s and {waited.attempts} attempts"
    if waited.gave_up:
        head += f" (no more waiting: {waited.gave_up})"
    if not problems:
        return f"{head}: no state was stable for the number of looks wanted."
    more = f" {len(problems) - 1} more in problems." if len(problems) > 1 else ""
    return f"{head}. {sentence(problems[0].what, problems[0].why, problems[0].remedy)}{more}"
