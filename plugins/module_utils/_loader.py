# Copyright (c) 2026, The gpufleet.triton authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This file is private to the gpufleet.triton collection: it may change at any time.

"""Loading and unloading models: read, plan, act in threads, read again."""

from __future__ import annotations

import re
import time
import typing as t
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from ansible_collections.gpufleet.triton.plugins.module_utils._client import (
    ModelError,
    PollFailedError,
    TritonClient,
    TritonError,
    check_name,
)
from ansible_collections.gpufleet.triton.plugins.module_utils._container import Container, Report, lines_about, poll_failures
from ansible_collections.gpufleet.triton.plugins.module_utils._http import (
    HttpError,
    HttpLostError,
    HttpTimeoutError,
)
from ansible_collections.gpufleet.triton.plugins.module_utils._problem import sentence
from ansible_collections.gpufleet.triton.plugins.module_utils._state import (
    ABSENT,
    READY,
    UNLOADING,
    Model,
    Problem,
    Step,
    Wanted,
    config_difference,
    ensemble_steps,
    load_problem,
    models_from,
    plan,
    returned_problem,
    unload_problem,
    waves,
    with_config,
)
from ansible_collections.gpufleet.triton.plugins.module_utils._waiter import Waiter

#: Seconds after which an unload that did not begin is asked for again.
UNLOAD_AGAIN = 2.0

_T = t.TypeVar("_T")
_R = t.TypeVar("_R")


@dataclass
class Outcome:
    """What became of one step."""

    step: Step
    after: Model | None = None
    elapsed: float = 0.0
    error: HttpError | None = None

    @property
    def failed(self) -> bool:
        return self.error is not None

    @property
    def action(self) -> str:
        """What was really done: a failed load that left everything as it was did nothing."""
        if self.error is not None and self.after is not None and self.after.summary() == self.step.before.summary():
            return "none"
        return self.step.action

    def as_dict(self) -> dict[str, t.Any]:
        result: dict[str, t.Any] = {
            "name": self.step.wanted.name,
            "action": self.action,
            "before": self.step.before.summary(),
            "after": self.after.summary() if self.after is not None else None,
            "elapsed": round(self.elapsed, 3),
        }
        if self.error is not None:
            result["error"] = str(self.error)
        return result


class Loader:
    """Everything that triton_model does, without Ansible."""

    def __init__(
        self,
        client: TritonClient,
        wait_timeout: float = 300.0,
        interval: float = 0.2,
        parallel: int = 4,
        unload_dependents: bool = False,
        container: Container | None = None,
        clock: t.Callable[[], float] = time.monotonic,
        sleep: t.Callable[[float], None] = time.sleep,
    ) -> None:
        self.client = client
        self.interval = interval
        self.parallel = max(1, parallel)
        self.unload_dependents = unload_dependents
        self.container = container
        self.clock = clock
        self.sleep = sleep
        self.deadline = clock() + wait_timeout
        self.wait_timeout = wait_timeout
        self.since = time.time() - 1
        self.warnings: list[str] = []
        self._ready_before: set[str] = set()

    def plan(self, wanted: t.Sequence[Wanted]) -> list[Step]:
        """Compare what is wanted with what is served: one index, and one configuration for each model that may serve."""
        for item in wanted:
            check_name(item.name)
        models = models_from(self.client.index())
        self._ready_before = {name for name, model in models.items() if model.state == READY}
        current = self._with_configs(models, [item.name for item in wanted])
        return [plan(item, current[item.name]) for item in wanted]

    def apply(self, steps: t.Sequence[Step]) -> list[Outcome]:
        """Do what was planned. One model's failure does not stop the others."""
        outcomes = {step.wanted.name: Outcome(step, step.before) for step in steps}
        # Unloads come first: they make room for the loads. An ensemble goes before its steps, which would take it down.
        unloads = [step for step in steps if step.action == "unloaded"]
        held = self._held(steps)
        self._unload_in_order([step for step in unloads if step.wanted.name not in held], outcomes)
        # A model that somebody else unloads may be wanted gone as well: then it only has to be waited for.
        leaving = [step for step in steps if step.action == "none" and step.wanted.state == "unloaded" and not step.before.gone]
        self._await_gone([outcomes[step.wanted.name] for step in leaving])
        for wave in waves([step for step in steps if step.action in ("loaded", "reloaded")]):
            self._each(self._load, [outcomes[step.wanted.name] for step in wave])
            # An ensemble may have been tried before one of its steps was there.
            self._each(
                self._load,
                [outcomes[step.wanted.name] for step in wave if self._worth_a_retry(outcomes[step.wanted.name], outcomes)],
            )
        # What an ensemble was made of may go once it is made of something else.
        free = [step for step in unloads if step.wanted.name in held and not self._still_held(step, held, outcomes)]
        self._unload_in_order(free, outcomes)
        result = [outcomes[step.wanted.name] for step in steps]
        if leaving or any(step.action != "none" for step in steps):
            self._read_back(result)
        return result

    # --- reading

    def _with_configs(self, models: t.Mapping[str, Model], names: t.Iterable[str]) -> dict[str, Model]:
        found = {name: models.get(name, Model(name)) for name in names}
        # A model whose directory was removed has no row, and serves on: its configuration is what shows it.
        ask = [model for model in found.values() if model.state in (READY, ABSENT)]
        for model in self._each(self._with_config, ask):
            found[model.name] = model
        return found

    def _with_config(self, model: Model) -> Model:
        config = self.client.config(model.name)
        versions: list[int] = []
        if config is not None and not model.rows:
            metadata = self.client.metadata(model.name) or {}
            versions = [int(version) for version in metadata.get("versions", [])]
        return with_config(model, config, versions)

    def _read_back(self, outcomes: list[Outcome]) -> None:
        """Ask the server what it serves now, and judge every load by that."""
        # A connection may be tied to a thread of the server that a load still holds.
        self.client.transport.reset()
        try:
            models = models_from(self.client.index())
            after = self._with_configs(models, [outcome.step.wanted.name for outcome in outcomes])
        except HttpError as error:
            for outcome in outcomes:
                outcome.after = None
                outcome.error = self._explained(outcome, outcome.error or error)
            return
        for outcome in outcomes:
            outcome.after = after[outcome.step.wanted.name]
            if outcome.error is not None:
                outcome.error = self._explained(outcome, outcome.error)
            elif outcome.step.wanted.state == "unloaded":
                if not outcome.after.gone:
                    outcome.error = _error(returned_problem(outcome.step.wanted.name, outcome.after))
            else:
                # Those that were left alone as well: the unload of a step takes its ensemble down.
                problem = load_problem(outcome.step, outcome.after)
                outcome.error = _error(problem) if problem else None
                self._remark_config(outcome)
        named = {name for outcome in outcomes for name in (outcome.step.wanted.name, *self._dependents(outcome.step))}
        lost = {name for name in self._ready_before - named if name in models and models[name].state != READY}
        for name in sorted(lost):
            self.warnings.append(
                f"Model {name!r} was READY before and is {models[name].state} now: an ensemble goes when one of its steps is unloaded."
            )

    def _remark_config(self, outcome: Outcome) -> None:
        wanted = outcome.step.wanted
        if wanted.config is None or outcome.after is None or outcome.error is not None:
            return
        place = config_difference(outcome.after.config, wanted.config)
        if place:
            self.warnings.append(
                f"Model {wanted.name!r} was loaded with the configuration sent, but Triton serves another value at"
                f" {place}: it completes configurations by itself. Write it as Triton serves it, or the model is"
                " reloaded in each run."
            )

    # --- acting

    def _left(self) -> float:
        return self.deadline - self.clock()

    def _timed(self, outcome: Outcome, work: t.Callable[[], None]) -> None:
        start = self.clock()
        try:
            if self._left() <= 0:
                raise TritonError(
                    f"Model {outcome.step.wanted.name!r} was not begun with",
                    f"the {self.wait_timeout:g} s of wait_timeout were over",
                    "raise wait_timeout or parallel",
                )
            outcome.error = None
            work()
        except HttpError as error:
            outcome.error = error
        outcome.elapsed += self.clock() - start

    def _load(self, outcome: Outcome) -> None:
        self._timed(outcome, lambda: self._load_one(outcome.step))

    def _load_one(self, step: Step) -> None:
        name, override = step.wanted.name, step.wanted.override()
        if any(row.state == UNLOADING for row in step.before.rows):
            # Memory is given back at the end of an unload only: a load before that may find none.
            self._wait_gone([name])
        if step.wanted.state == "reloaded" and step.action == "reloaded":
            if step.wanted.digest and step.before.digest != step.wanted.digest:
                # New content was published: a load takes it in the background, with the old one serving on.
                self.client.load(name, override, self._left())
                if with_config(step.before, self.client.config(name)).digest == step.wanted.digest:
                    return
            # Triton has no forced reload: a load of unchanged files does nothing, so the model goes and comes back.
            self.client.unload(name, timeout=self._left())
            self._wait_gone([name])
        self.client.load(name, override, max(self._left(), 1.0))

    @staticmethod
    def _held(steps: t.Iterable[Step]) -> dict[str, str]:
        """Models that an ensemble runs which is about to get other content: they serve it until then."""
        return {
            name: step.wanted.name
            for step in steps
            if step.action in ("loaded", "reloaded") and step.before.state == READY
            for name in ensemble_steps(step.before.config)
        }

    def _still_held(self, step: Step, held: t.Mapping[str, str], outcomes: t.Mapping[str, Outcome]) -> bool:
        """Whether a model must stay because the ensemble that runs it did not get its new content."""
        name, ensemble = step.wanted.name, held[step.wanted.name]
        try:
            if name not in ensemble_steps(self.client.config(ensemble)):
                return False
            why = f"the ensemble {ensemble!r} still runs it: its new content is not served"
        except HttpError as error:
            why = f"the ensemble {ensemble!r} may still run it: {error.what}"
        outcomes[name].error = _error(Problem(f"Model {name!r} was not unloaded", why, f"correct {ensemble!r}, and run it again"))
        return True

    def _unload_in_order(self, steps: t.Sequence[Step], outcomes: t.Mapping[str, Outcome]) -> None:
        for wave in reversed(waves(steps)):
            self._unload([outcomes[step.wanted.name] for step in wave])

    def _unload(self, outcomes: list[Outcome]) -> None:
        self._each(lambda outcome: self._timed(outcome, lambda: self._unload_one(outcome.step.wanted.name)), outcomes)
        self._await_gone([outcome for outcome in outcomes if not outcome.failed])

    def _unload_one(self, name: str) -> None:
        self.client.unload(name, self.unload_dependents, self._left())

    def _await_gone(self, outcomes: list[Outcome]) -> None:
        if not outcomes:
            return
        start = self.clock()
        names = [outcome.step.wanted.name for outcome in outcomes]
        names += [name for outcome in outcomes for name in self._dependents(outcome.step) if name not in names]
        try:
            left = self._not_gone(names)
        except HttpError as error:
            for outcome in outcomes:
                outcome.error = error
            left = {}
        for outcome in outcomes:
            outcome.elapsed += self.clock() - start
            for name in (outcome.step.wanted.name, *self._dependents(outcome.step)):
                if name in left and outcome.error is None:
                    outcome.error = _error(unload_problem(name, left[name]))

    def _wait_gone(self, names: list[str]) -> None:
        for name, model in self._not_gone(names).items():
            raise _error(unload_problem(name, model))

    def _not_gone(self, names: list[str]) -> dict[str, Model]:
        """Wait until nothing of the models is in memory; return those that stay."""
        asked = dict.fromkeys(names, self.clock())

        def probe() -> dict[str, Model]:
            models = models_from(self.client.index())
            found = {name: models.get(name, Model(name)) for name in names}
            for name, model in found.items():
                if model.state == ABSENT:
                    found[name] = self._with_config(model)
                states = {row.state for row in found[name].rows}
                if READY in states and UNLOADING not in states and self.clock() - asked[name] >= UNLOAD_AGAIN:
                    # Triton may answer an unload with success and not begin it; an unload too many does no harm.
                    self.client.unload(name, timeout=self._left())
                    asked[name] = self.clock()
            return {name: model for name, model in found.items() if not model.gone}

        waiter = Waiter(max(0.0, self._left()), self.interval, clock=self.clock, sleep=self.sleep)
        waited = waiter.wait(probe, lambda left: not left)
        if waited.error is not None:
            raise waited.error
        return waited.last or {}

    def _dependents(self, step: Step) -> list[str]:
        """Return what goes with an ensemble: Triton calls its steps its dependents."""
        return ensemble_steps(step.before.config) if self.unload_dependents and step.action == "unloaded" else []

    def _each(self, work: t.Callable[[_T], _R], items: t.Sequence[_T]) -> list[_R]:
        if len(items) < 2:
            return [work(item) for item in items]
        with ThreadPoolExecutor(max_workers=min(self.parallel, len(items))) as pool:
            return list(pool.map(work, items))

    # --- explaining

    @staticmethod
    def _worth_a_retry(outcome: Outcome, outcomes: t.Mapping[str, Outcome]) -> bool:
        if not isinstance(outcome.error, ModelError):
            return False
        named = re.search(r"depends on '([^']+)' which has no loaded version", outcome.error.reason)
        step = outcomes.get(named.group(1)) if named else None
        return step is not None and step.step.action in ("loaded", "reloaded") and not step.failed

    def _explained(self, outcome: Outcome, error: HttpError) -> HttpError:
        """Add to an error what the index and the container's log know about it."""
        name, after = outcome.step.wanted.name, outcome.after
        if isinstance(error, PollFailedError):
            causes = poll_failures(self._log(), name)
            if causes:
                return _error(
                    Problem(
                        error.what,
                        "; ".join(causes),
                        "correct it in the repository (or in config) and load the model again",
                    )
                )
            if after is not None and after.state == ABSENT:
                return _error(
                    Problem(
                        error.what,
                        "the repository has no directory of that name (the server's index does not list it)",
                        "publish the model, or correct the name",
                    )
                )
            return error
        if isinstance(error, HttpLostError):
            return _error(
                Problem(
                    f"The server went away while it worked on model {name!r} ({error.what})",
                    "it died or was stopped: an out of memory, a crash in the model's backend, or somebody else's restart",
                    "look at the server's log and its container, correct or remove the model, and start the server again",
                )
            )
        if isinstance(error, HttpTimeoutError) and after is not None and outcome.step.action != "unloaded":
            rows = ", ".join(f"version {row.version} is {row.state}" for row in after.rows if row.state) or f"it is {after.state}"
            log = lines_about(self._log(), name)
            return _error(
                Problem(
                    f"The load of model {name!r} did not end within the {self.wait_timeout:g} s of wait_timeout: {rows}",
                    (
                        "log: " + " | ".join(log)
                        if log
                        else "it is slow, or it never ends (a python model without model.py stays in LOADING for ever)"
                    ),
                    "raise wait_timeout if it is only slow; otherwise correct the model and restart the server, no"
                    " unload frees a load that hangs",
                )
            )
        if isinstance(error, ModelError) and after is not None and after.state == READY and outcome.step.action != "unloaded":
            served = f"version {', '.join(map(str, after.versions))} with digest {after.digest or 'none'}"
            return _error(Problem(error.what, error.why, f"{error.remedy}; Triton keeps serving the old content, {served}"))
        return error

    def _log(self) -> list[str]:
        return self.container.logs(self.since) if self.container is not None else []


def explain_failures(outcomes: t.Sequence[Outcome], report: Report | None = None) -> str:
    """Name each model that failed, with its reason, and the state of the container if that is not as it should be."""
    failed = [outcome for outcome in outcomes if outcome.error is not None]
    head = f"{len(failed)} of {len(outcomes)} models failed" if len(outcomes) > 1 else "The model failed"
    text = f"{head}: " + " ".join(f"[{outcome.step.wanted.name}] {outcome.error}" for outcome in failed)
    found = report.problem() if report is not None else None
    return text if found is None else f"{text} {sentence(found.what, found.why, found.remedy)}"


def _error(problem: Problem) -> TritonError:
    return TritonError(problem.what, problem.why, problem.remedy)


def plan_from_nothing(wanted: t.Sequence[Wanted]) -> list[Step]:
    """Return the plan for a server that is not there yet."""
    for item in wanted:
        check_name(item.name)
    return [plan(item, Model(item.name)) for item in wanted]


def predicted(step: Step) -> dict[str, t.Any]:
    """Return the result of a step in check mode."""
    return {
        "name": step.wanted.name,
        "action": step.action,
        "before": step.before.summary(),
        "after": step.predicted(),
        "elapsed": 0.0,
    }


def diff_of(results: t.Iterable[dict[str, t.Any]]) -> dict[str, t.Any]:
    """Return the diff of the models that something was done to."""
    done = [result for result in results if result["action"] != "none"]
    return {
        "before": {result["name"]: result["before"] for result in done},
        "after": {result["name"]: result["after"] for result in done},
    }
