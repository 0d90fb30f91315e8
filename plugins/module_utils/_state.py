# Copyright (c) 2026, The gpufleet.triton authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This file is private to the gpufleet.triton collection: it may change at any time.

"""From rows of the repository index to model states, from those to a plan and to problems. Pure: no request is made here."""

from __future__ import annotations

import copy
import typing as t
from dataclasses import dataclass, replace

from ansible_collections.gpufleet.triton.plugins.module_utils._client import IndexRow
from ansible_collections.gpufleet.triton.plugins.module_utils._problem import Problem

#: The parameter of a published config.pbtxt that says which content it belongs to.
DIGEST_KEY = "gpufleet.digest"

READY = "READY"
LOADING = "LOADING"
UNLOADING = "UNLOADING"
UNAVAILABLE = "UNAVAILABLE"
#: In the repository, never loaded: Triton gives a row with a name alone.
UNKNOWN = "UNKNOWN"
#: No row at all: not in the repository. Triton has no word for it.
ABSENT = "ABSENT"

_PRECEDENCE = (READY, LOADING, UNLOADING, UNAVAILABLE)


@dataclass(frozen=True)
class Model:
    """What the server says about one model. `config` is what is served, None when nothing is or nobody asked."""

    name: str
    rows: tuple[IndexRow, ...] = ()
    config: dict[str, t.Any] | None = None

    @property
    def state(self) -> str:
        """One word: does it serve? A model that serves one version is READY whatever its other versions do."""
        if not self.rows:
            return ABSENT
        states = {row.state for row in self.rows}
        return next((state for state in _PRECEDENCE if state in states), UNKNOWN)

    @property
    def versions(self) -> list[int]:
        return sorted(row.version for row in self.rows if row.state == READY and row.version is not None)

    @property
    def digest(self) -> str | None:
        return digest_of(self.config)

    @property
    def gone(self) -> bool:
        """Whether nothing of it is in memory any more, nor on its way in or out."""
        return not any(row.state in (READY, LOADING, UNLOADING) for row in self.rows)

    @property
    def failures(self) -> list[IndexRow]:
        """Versions that did not load."""
        return [row for row in self.rows if row.state == UNAVAILABLE and row.reason and row.reason != "unloaded"]

    def summary(self) -> dict[str, t.Any]:
        return {"state": self.state, "versions": self.versions, "digest": self.digest}


@dataclass(frozen=True)
class Wanted:
    """What is wanted of one model."""

    name: str
    state: str = "loaded"
    versions: tuple[int, ...] = ()
    digest: str | None = None
    config: dict[str, t.Any] | None = None
    #: Of an ensemble: the models that it runs, where the caller knows them.
    steps: tuple[str, ...] = ()

    def override(self) -> dict[str, t.Any] | None:
        """Return the configuration to send. It replaces the whole config.pbtxt, with the digest in it: so it must carry the digest."""
        if self.config is None:
            return None
        config = copy.deepcopy(self.config)
        if self.digest:
            config.setdefault("parameters", {})[DIGEST_KEY] = {"string_value": self.digest}
        return config


@dataclass(frozen=True)
class Step:
    """What to do with one model, and why."""

    wanted: Wanted
    before: Model
    action: str
    reasons: tuple[str, ...] = ()

    def predicted(self) -> dict[str, t.Any]:
        """Return what the model will look like, as far as it can be known."""
        if self.action == "none":
            return self.before.summary()
        if self.action == "unloaded":
            return {"state": ABSENT if self.before.state == ABSENT else UNAVAILABLE, "versions": [], "digest": None}
        versions = sorted(set(self.wanted.versions) | set(self.before.versions))
        return {"state": READY, "versions": versions, "digest": self.wanted.digest or self.before.digest}


def digest_of(config: t.Mapping[str, t.Any] | None) -> str | None:
    """Return the published digest in a served configuration."""
    parameters = config.get("parameters") if isinstance(config, dict) else None
    entry = parameters.get(DIGEST_KEY) if isinstance(parameters, dict) else None
    value = entry.get("string_value") if isinstance(entry, dict) else None
    return value if isinstance(value, str) and value else None


def models_from(rows: t.Iterable[IndexRow]) -> dict[str, Model]:
    """Group the rows of the index by model, in the index's order."""
    grouped: dict[str, list[IndexRow]] = {}
    for row in rows:
        grouped.setdefault(row.name, []).append(row)
    return {name: Model(name, tuple(found)) for name, found in grouped.items()}


def with_config(model: Model, config: dict[str, t.Any] | None, versions: t.Iterable[int] = ()) -> Model:
    """Add what is served. A model that has left the repository has no row, and may serve all the same: `versions` are then its rows."""
    rows = model.rows
    if not rows and config is not None:
        rows = tuple(IndexRow(model.name, version, READY) for version in sorted(versions))
    return replace(model, rows=rows, config=config)


def ensemble_steps(config: t.Mapping[str, t.Any] | None) -> list[str]:
    """Return the models that an ensemble runs; nothing for any other model."""
    scheduling = config.get("ensemble_scheduling") if isinstance(config, dict) else None
    steps = scheduling.get("step") if isinstance(scheduling, dict) else None
    found = [step.get("model_name") for step in steps if isinstance(step, dict)] if isinstance(steps, list) else []
    return [name for name in found if isinstance(name, str)]


def config_difference(served: t.Any, wanted: t.Any, path: str = "") -> str:
    """Return the place of the first difference, or nothing if the served configuration has all that is wanted.

    Triton completes what it is sent, so that what it adds is no difference, nor is a default value that it leaves out.
    """
    if isinstance(wanted, dict):
        if not isinstance(served, dict):
            return path if wanted else ""
        for key, value in wanted.items():
            place = f"{path}.{key}" if path else str(key)
            if key not in served:
                if value not in (None, "", 0, False, [], {}):
                    return place
                continue
            found = config_difference(served[key], value, place)
            if found:
                return found
        return ""
    if isinstance(wanted, list):
        if not isinstance(served, list) or len(served) != len(wanted):
            return path
        for number, value in enumerate(wanted):
            found = config_difference(served[number], value, f"{path}[{number}]")
            if found:
                return found
        return ""
    if wanted == "KIND_AUTO" and str(served).startswith("KIND_"):
        return ""
    # 64 bit numbers travel as text in a protobuf's JSON.
    return "" if served == wanted or (not isinstance(wanted, bool) and str(served) == str(wanted)) else path


def differences(wanted: Wanted, model: Model) -> list[str]:
    """Say in which ways a model that is wanted loaded is not as wanted. This decides `changed`."""
    if model.state != READY:
        return [f"state is {model.state}, wanted {READY}"]
    found = []
    missing = sorted(set(wanted.versions) - set(model.versions))
    if missing:
        found.append(f"versions {_numbers(missing)} are not READY (READY: {_numbers(model.versions)})")
    if wanted.digest and model.digest != wanted.digest:
        found.append(f"serves digest {model.digest or 'none'}, wanted {wanted.digest}")
    if wanted.config is not None:
        place = config_difference(model.config, wanted.config)
        if place:
            found.append(f"serves another configuration than wanted at {place}")
    return found


def duplicates(wanted: t.Iterable[Wanted]) -> list[str]:
    names = [item.name for item in wanted]
    return sorted({name for name in names if names.count(name) > 1})


def plan(wanted: Wanted, model: Model) -> Step:
    """Decide what to do with one model."""
    if wanted.state == "unloaded":
        if any(row.state in (READY, LOADING) for row in model.rows):
            return Step(wanted, model, "unloaded", (f"state is {model.state}, wanted unloaded",))
        return Step(wanted, model, "none")
    found = differences(wanted, model)
    if model.state != READY:
        return Step(wanted, model, "loaded", tuple(found))
    if wanted.state == "reloaded":
        return Step(wanted, model, "reloaded", tuple(found) or ("a reload was asked for",))
    return Step(wanted, model, "reloaded" if found else "none", tuple(found))


def waves(steps: t.Sequence[Step]) -> list[list[Step]]:
    """Order loads: an ensemble comes after its steps, everything else goes at once. Unloads go the other way round.

    The steps are known from the caller, from the configuration sent or from the one served. Where none is there, Triton
    itself loads the steps of an ensemble before it, and holds back a second load of the same model.
    """
    needs = {}
    for step in steps:
        config = step.wanted.config if step.wanted.config is not None else step.before.config
        needs[step.wanted.name] = set(step.wanted.steps or ensemble_steps(config))
    left = list(steps)
    result = []
    while left:
        names = {step.wanted.name for step in left}
        wave = [step for step in left if not (needs[step.wanted.name] & (names - {step.wanted.name}))]
        # A circle is an error that Triton explains better than an endless loop.
        wave = wave or left
        result.append(wave)
        taken = {step.wanted.name for step in wave}
        left = [step for step in left if step.wanted.name not in taken]
    return result


def load_problem(step: Step, after: Model) -> Problem | None:
    """Tell what is wrong after a load that Triton called a success: it does so too when it did nothing."""
    wanted, name = step.wanted, step.wanted.name
    found = wanted_problems(Wanted(name, versions=wanted.versions), after)
    if found:
        return found[0]
    if wanted.digest and after.digest != wanted.digest:
        what = (
            f"Triton answered the load of model {name!r} with success, but serves digest {after.digest or 'none'} (wanted {wanted.digest})"
        )
        if after.digest == step.before.digest and step.before.state == READY:
            return Problem(
                what,
                "the load did nothing: the files in the repository are not newer than at the last load, or they have that digest too",
                "publish the wanted content, or use state: reloaded, which unloads the model first",
            )
        return Problem(
            what,
            ("the repository holds other content than wanted" if after.digest else f"its config.pbtxt has no {DIGEST_KEY}"),
            "publish the wanted content, or correct the digest that is wanted",
        )
    return None


def unload_problem(name: str, model: Model) -> Problem:
    return Problem(
        f"Model {name!r} did not leave the server in time: {_rows(model)}",
        "a request still runs in it, or its load never ended (a python model without model.py stays in LOADING for ever)",
        "raise wait_timeout, or restart the server",
    )


def returned_problem(name: str, model: Model) -> Problem:
    return Problem(
        f"Model {name!r} was to be unloaded, but is on the server: {_rows(model)}",
        "an ensemble that was loaded in the same call brought it back as one of its steps, or somebody else loaded it",
        "leave out either the ensemble or the unload of its step",
    )


def wanted_problems(wanted: Wanted, model: Model) -> list[Problem]:
    """Say why a model that must be READY is not as wanted. Nothing if it is."""
    name = wanted.name
    if model.state == ABSENT:
        return [
            Problem(
                f"Model {name!r} is not in the server's repository",
                "the index has no row for it: no such directory, another name, or another repository is mounted",
                "publish it, or correct the name",
            )
        ]
    if model.state == UNKNOWN:
        return [
            Problem(
                f"Model {name!r} is in the repository, but was never loaded",
                "in explicit mode Triton loads only what it is told to; in poll mode its config.pbtxt cannot be read",
                f"load it with gpufleet.triton.triton_model; look for \"Poll failed for model directory '{name}'\" in the server's log",
            )
        ]
    if model.state == LOADING:
        return [
            Problem(
                f"Model {name!r} is still loading: {_rows(model)}",
                "a load takes its time, and some never end (a python model without model.py stays in LOADING for ever)",
                "raise wait_timeout if it is only slow; otherwise look at the server's log, correct the model and restart the server",
            )
        ]
    if model.state == UNLOADING:
        return [Problem(f"Model {name!r} is being unloaded: {_rows(model)}", "somebody asked for it", "load it again")]
    if model.state == UNAVAILABLE:
        failed = model.failures
        if failed:
            return [
                Problem(
                    f"Model {name!r} failed to load: {_rows(model)}",
                    "; ".join(row.reason for row in failed),
                    "correct the model, publish it and load it again",
                )
            ]
        return [
            Problem(
                f"Model {name!r} is unloaded",
                "it was unloaded on purpose, or it is an ensemble and one of its steps was",
                "load it with gpufleet.triton.triton_model",
            )
        ]
    return _ready_problems(wanted, model)


def _ready_problems(wanted: Wanted, model: Model) -> list[Problem]:
    name, found = wanted.name, []
    for version in sorted(set(wanted.versions) - set(model.versions)):
        row = next((row for row in model.rows if row.version == version), None)
        if row is None:
            why = "the repository has no such version, or the model's version_policy does not choose it"
        else:
            why = f"it is {row.state}" + (f": {row.reason}" if row.reason else "")
        found.append(
            Problem(
                f"Version {version} of model {name!r} is not READY (READY: {_numbers(model.versions)})",
                why,
                "publish that version, or let the version_policy choose it, and load the model again",
            )
        )
    if wanted.digest and model.digest != wanted.digest:
        failed = "; ".join(row.reason for row in model.failures)
        if failed:
            why = f"a later load failed, and Triton keeps serving the old content: {failed}"
        elif model.digest is None:
            why = f"its configuration has no {DIGEST_KEY}: it was loaded before it was published, or with a configuration sent along"
        else:
            why = "the new content was not loaded yet, or its load failed and Triton keeps serving the old one"
        found.append(
            Problem(
                f"Model {name!r} serves digest {model.digest or 'none'}, wanted {wanted.digest}",
                why,
                "publish the wanted content and load it with gpufleet.triton.triton_model and that digest",
            )
        )
    return found


def server_problems(ready: bool, models: t.Mapping[str, Model], wanted: t.Collection[str] = ()) -> list[Problem]:
    """Explain the server's own readiness. With `ready` they are remarks: something failed that nobody asked for."""
    others = [model for name, model in models.items() if name not in wanted]
    failed = [model for model in (others if ready else models.values()) if model.failures]
    if ready:
        return [
            Problem(
                f"Model {model.name!r}, which is not wanted here, is UNAVAILABLE: {_rows(model)}",
                "; ".join(row.reason for row in model.failures),
                "correct or remove it in the repository",
            )
            for model in failed
        ]
    moving = [model for model in models.values() if any(row.state in (LOADING, UNLOADING) for row in model.rows)]
    if moving:
        return [
            Problem(
                "The server is not ready: " + "; ".join(f"{model.name} {_rows(model)}" for model in moving),
                "Triton is not ready as long as a new model or version loads, or one unloads",
                "wait; if it never ends, look at the server's log and restart the server",
            )
        ]
    remedy = (
        "load the same model and version with success (then it may be unloaded), or restart the server; "
        "no unload and no removal from the repository clears it"
    )
    if failed:
        return [
            Problem(
                "The server is not ready because of a failed load: " + "; ".join(f"{model.name} {_rows(model)}" for model in failed),
                "the first load of a model or version failed, and Triton stays not ready until that very version"
                " loads: " + "; ".join(row.reason for model in failed for row in model.failures),
                remedy,
            )
        ]
    return [
        Problem(
            "The server says that it is not ready, and the index shows no model that would explain it",
            "the first load of a model or version failed and its directory was removed since, or a python model's process died",
            remedy,
        )
    ]


def _rows(model: Model) -> str:
    return (
        ", ".join(f"version {row.version} {row.state}" if row.version is not None else row.state or UNKNOWN for row in model.rows) or ABSENT
    )


def _numbers(numbers: t.Sequence[int]) -> str:
    return ", ".join(str(number) for number in numbers) or "none"
