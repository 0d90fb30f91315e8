#!/usr/bin/python
# Copyright (c) 2026, The gpufleet.triton authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: triton_model
short_description: Load, unload and reload models of a Triton Inference Server
version_added: 0.1.0
author:
  - The gpufleet.triton authors (@gpufleet)
description:
  - Loads and unloads models over Triton's HTTP API and checks what the server really serves afterwards.
  - Triton answers a load with success too when it did nothing, and keeps the old model READY when a reload failed. So the module compares
    states, versions and digests before and after, instead of believing the answer.
  - Works with servers in explicit control mode. In poll and none mode Triton refuses, and the module says so.
extends_documentation_fragment:
  - gpufleet.triton.connection
  - gpufleet.triton.wait
  - gpufleet.triton.attributes
  - gpufleet.triton.attributes.actiongroup_triton
attributes:
  check_mode:
    support: full
    details:
      - Predicts RV(models[].action) and RV(models[].after) from what the server serves now. The content of the repository is not looked at,
        so that a load that would fail is predicted as one that succeeds.
      - Where no server answers yet, as on a host that the tasks before this one have only pretended to install it on, every wanted model
        is predicted to be loaded, and a warning says so.
  diff_mode:
    support: full
  idempotent:
    support: partial
    details:
      - O(state=reloaded) reloads each time.
options:
  name:
    description:
      - Name of one model.
      - Exactly one of O(name) and O(models) must be given.
    type: str
  models:
    description:
      - Models to work on. Those that do not need each other are loaded at once, see O(parallel).
      - Unloads are done first, that of an ensemble before those of its steps. An ensemble is loaded after its steps where the module knows
        them, that is from O(models[].steps), from O(models[].config) or from what is served. Otherwise Triton itself loads the steps of an
        ensemble before it.
      - A model that fails does not stop the others. The module fails at its end, and names each model that failed with Triton's reason.
    type: list
    elements: dict
    suboptions:
      name:
        description:
          - Name of the model, which is the name of its directory in the repository.
        type: str
        required: true
      state:
        description:
          - What is wanted of this model, if not the same as O(state).
        type: str
        choices: [loaded, unloaded, reloaded]
      versions: &versions
        description:
          - Versions that must be READY after a load. Others may be as well.
          - If one is missing, the model is loaded again. It fails if that does not bring the version.
        type: list
        elements: int
      digest: &digest
        description:
          - Digest that the served configuration must have in its parameter C(gpufleet.digest).
          - A model that is READY with another digest, or with none, is loaded again.
          - If the server still serves another digest after that, the module fails, because the load did nothing or the repository holds
            other content.
        type: str
      config: &config
        description:
          - Model configuration to load the model with, in place of its C(config.pbtxt).
          - It replaces the whole C(config.pbtxt). The digest is added to it if one is wanted, and is the caller's statement then.
          - The model is loaded again if what is served lacks something of it.
          - B(It is sticky.) A later load without O(models[].config) keeps it, until C(config.pbtxt) gets a newer time or the model is
            unloaded. So removing this option changes nothing. Use O(state=reloaded) once to return to the repository's configuration.
        type: dict
      steps: &steps
        description:
          - Of an ensemble, the models that it runs, as RV(gpufleet.triton.triton_repository#module:models[].steps) names them.
        type: list
        elements: str
        version_added: 0.2.0
  state:
    description:
      - V(loaded) makes sure that the model is READY with the versions, digest and configuration that are wanted.
      - V(unloaded) makes sure that nothing of it is in memory, and waits until that is so. Unloading a step of an ensemble takes the
        ensemble down as well, which gives a warning.
      - V(reloaded) loads it again in any case. Triton has no forced reload, since a load of unchanged files does nothing. So if a digest
        is wanted that is not served yet, a load is tried first, in the background with the old content serving. In any other case, and if
        that did not bring the wanted digest, the model is unloaded and loaded, and B(does not serve in between). Ensembles that need it
        go with it and come back with it.
    type: str
    choices: [loaded, unloaded, reloaded]
    default: loaded
  versions: *versions
  digest: *digest
  config: *config
  steps: *steps
  parallel:
    description:
      - How many models to work on at once.
      - Triton's own C(--model-load-thread-count) (4) and its HTTP threads, one of which each load takes, limit what is gained.
    type: int
    default: 4
  unload_dependents:
    description:
      - Whether the steps of an ensemble are unloaded with it.
    type: bool
    default: false
  container:
    description:
      - Name of the server's container. If a model fails, its state and log say more than Triton's answer does.
      - Needs the docker SDK for Python on the target. Without it the error comes without those.
    type: str
requirements:
  - docker (on the target, for O(container) alone; Debian and Ubuntu have it as python3-docker)
seealso:
  - module: gpufleet.triton.triton_health
  - module: gpufleet.triton.triton_info
"""

EXAMPLES = r"""
- name: Load a model
  gpufleet.triton.triton_model:
    name: add_sub

- name: Load what was published, with a key that stays on the server
  gpufleet.triton.triton_model:
    admin_key_file: /etc/gpufleet/triton/server/admin.key
    container: triton
    models:
      - name: densenet
        digest: sha256:0f343b0931126a20f133d67c2b018a3b5fc9a1a5c5ea1d4b8a4b6c6f2a1b1c11
        versions: [2]
      - name: old_model
        state: unloaded

- name: Load a model with a larger batch size than its config.pbtxt says
  gpufleet.triton.triton_model:
    name: add_sub
    config:
      backend: python
      max_batch_size: 16
      input: [{name: INPUT0, data_type: TYPE_FP32, dims: [4]}, {name: INPUT1, data_type: TYPE_FP32, dims: [4]}]
      output: [{name: OUTPUT0, data_type: TYPE_FP32, dims: [4]}, {name: OUTPUT1, data_type: TYPE_FP32, dims: [4]}]

- name: Unload an ensemble and its steps
  gpufleet.triton.triton_model:
    name: pipeline
    state: unloaded
    unload_dependents: true
"""

RETURN = r"""
models:
  description: One entry for each model, in the order given. Returned on failure as well, once the server was asked what it serves.
  returned: when the server answered
  type: list
  elements: dict
  contains:
    name:
      description: Name of the model.
      returned: always
      type: str
      sample: densenet
    action:
      description: What was done, or would be in check mode. A load that failed and left everything as it was is V(none).
      returned: always
      type: str
      sample: reloaded
    before:
      description: What the server served before.
      returned: always
      type: dict
      contains: &state
        state:
          description:
            - V(READY), V(LOADING), V(UNLOADING), V(UNAVAILABLE) as Triton says it, V(UNKNOWN) for a model that is in the repository and was
              never loaded, V(ABSENT) for one that is not in the repository.
            - A model that serves one version is V(READY), whatever its other versions do.
          returned: always
          type: str
          sample: READY
        versions:
          description: Versions that are READY.
          returned: always
          type: list
          elements: int
          sample: [1]
        digest:
          description: Digest in the configuration that is served, null if it has none.
          returned: always
          type: str
          sample: sha256:0f343b0931126a20f133d67c2b018a3b5fc9a1a5c5ea1d4b8a4b6c6f2a1b1c11
    after:
      description: What it serves now. Null if the server could not be asked any more.
      returned: always
      type: dict
      contains: *state
    elapsed:
      description: Seconds that the work on this model took.
      returned: always
      type: float
      sample: 1.312
    error:
      description: Why it failed, with Triton's reason and what to do.
      returned: when this model failed
      type: str
      sample: "Cannot load model 'densenet': HTTP 400. load failed for model 'densenet': version 2 is at UNAVAILABLE state: Internal: ..."
problems:
  description: Why the module failed, when it could not do its work on any model.
  returned: on failure, when the server could not be asked
  type: list
  elements: dict
  contains:
    what:
      description: What is wrong.
      returned: always
      type: str
      sample: "POST http://127.0.0.1:8000/v2/repository/index: connection refused"
    why:
      description: The cause, as far as it can be told.
      returned: always
      type: str
      sample: "nothing listens there: the server is down, still loads its start-up models, or uses another port"
    remedy:
      description: What to do about it.
      returned: always
      type: str
      sample: start the server, look at its log, or correct the option url
container:
  description: The server's container.
  returned: on failure, when O(container) is given
  type: dict
  contains:
    name:
      description: Its name.
      returned: always
      type: str
      sample: triton
    state:
      description: Its state as the engine says it, V(absent) if there is none, V(unknown) if the engine could not be asked.
      returned: always
      type: str
      sample: exited
    exit_code:
      description: Exit code of its main process, null while it runs.
      returned: always
      type: int
      sample: 137
    oom_killed:
      description: Whether it was killed because it ran out of memory.
      returned: always
      type: bool
      sample: false
    error:
      description: Why the engine could not start it; empty if it could.
      returned: always
      type: str
      sample: ""
    health:
      description: What its health check says, empty if it has none.
      returned: always
      type: str
      sample: healthy
    restart_count:
      description: How often the engine restarted it.
      returned: always
      type: int
      sample: 0
    logs:
      description: The last lines of its log.
      returned: always
      type: list
      elements: str
      sample: ["I1124 01:25:07.167586 1 http_server.cc:4713] \"Started HTTPService at 0.0.0.0:8000\""]
    note:
      description: Why nothing is known about it, otherwise empty.
      returned: always
      type: str
      sample: ""
"""

import typing as t

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.gpufleet.triton.plugins.module_utils import _argspec
from ansible_collections.gpufleet.triton.plugins.module_utils._container import Container
from ansible_collections.gpufleet.triton.plugins.module_utils._http import HttpError
from ansible_collections.gpufleet.triton.plugins.module_utils._loader import (
    Loader,
    diff_of,
    explain_failures,
    plan_from_nothing,
    predicted,
)
from ansible_collections.gpufleet.triton.plugins.module_utils._state import Wanted, duplicates

STATES = ["loaded", "unloaded", "reloaded"]


def model_options() -> dict[str, t.Any]:
    return {
        "versions": {"type": "list", "elements": "int"},
        "digest": {"type": "str"},
        "config": {"type": "dict"},
        "steps": {"type": "list", "elements": "str"},
    }


def wanted_of(params: dict[str, t.Any]) -> list[Wanted]:
    entries = params["models"] if params["models"] is not None else [dict(params, state=None)]
    return [
        Wanted(
            name=entry["name"],
            state=entry["state"] or params["state"],
            versions=tuple(entry["versions"] or ()),
            digest=entry["digest"] or None,
            config=entry["config"],
            steps=tuple(entry["steps"] or ()),
        )
        for entry in entries
    ]


def foresee(module: AnsibleModule, wanted: list[Wanted], why: str) -> t.NoReturn:
    module.warn(f"No server was asked: {why}. Check mode predicts for a server that serves nothing.")
    finish(module, [predicted(step) for step in plan_from_nothing(wanted)])


def finish(module: AnsibleModule, results: list[dict[str, t.Any]], failure: str = "", **more: t.Any) -> t.NoReturn:
    result: dict[str, t.Any] = {"changed": any(item["action"] != "none" for item in results), "models": results, **more}
    if module._diff:
        result["diff"] = diff_of(results)
    if failure:
        module.fail_json(msg=failure, **result)
    module.exit_json(**result)


def run(module: AnsibleModule) -> None:
    params = module.params
    wanted = wanted_of(params)
    twice = duplicates(wanted)
    if twice:
        module.fail_json(msg=f"Cannot work on models that are named twice: {', '.join(twice)}. Name each once.")
    container = Container(params["container"]) if params["container"] else None
    why = _argspec.not_there_yet(module)
    if why:
        foresee(module, wanted, why)
    client = _argspec.open_client(module, pool=max(1, params["parallel"]))
    with client.transport:
        loader = Loader(
            client,
            wait_timeout=params["wait_timeout"],
            parallel=params["parallel"],
            unload_dependents=params["unload_dependents"],
            container=container,
        )
        try:
            steps = loader.plan(wanted)
        except HttpError as error:
            why = _argspec.not_there_yet(module, error)
            if why:
                foresee(module, wanted, why)
            _argspec.fail(module, error, container)
        outcomes = [] if module.check_mode else loader.apply(steps)
    results = [outcome.as_dict() for outcome in outcomes] if outcomes else [predicted(step) for step in steps]
    for warning in loader.warnings:
        module.warn(warning)
    if not any(outcome.failed for outcome in outcomes):
        finish(module, results)
    report = container.report() if container is not None else None
    finish(module, results, explain_failures(outcomes, report), **({"container": report.as_dict()} if report is not None else {}))


def main() -> None:
    run(
        AnsibleModule(
            argument_spec={
                **_argspec.connection_options(),
                **_argspec.wait_options(),
                **model_options(),
                "name": {"type": "str"},
                "models": {
                    "type": "list",
                    "elements": "dict",
                    "options": {
                        **model_options(),
                        "name": {"type": "str", "required": True},
                        "state": {"type": "str", "choices": STATES},
                    },
                },
                "state": {"type": "str", "choices": STATES, "default": "loaded"},
                "parallel": {"type": "int", "default": 4},
                "unload_dependents": {"type": "bool", "default": False},
                "container": {"type": "str"},
            },
            required_one_of=[("name", "models")],
            mutually_exclusive=[
                *_argspec.MUTUALLY_EXCLUSIVE,
                ("name", "models"),
                ("models", "versions"),
                ("models", "digest"),
                ("models", "config"),
                ("models", "steps"),
            ],
            required_by=_argspec.REQUIRED_BY,
            supports_check_mode=True,
        )
    )


if __name__ == "__main__":
    main()
