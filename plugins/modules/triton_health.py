#!/usr/bin/python
# Copyright (c) 2026, The gpufleet.triton authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: triton_health
short_description: Wait until a Triton Inference Server is ready, with the models that are wanted
version_added: 0.1.0
author:
  - The gpufleet.triton authors (@gpufleet)
description:
  - The gate after a start, a restart or a rollout. Triton's own C(/v2/health/ready) proves little, since it is 200 with nothing loaded at
    all. So this module compares what the server serves with a list of models, versions and digests.
  - Says what is wrong, why, and what to do about it.
  - Works in explicit, poll and none mode.
extends_documentation_fragment:
  - gpufleet.triton.connection
  - gpufleet.triton.wait
  - gpufleet.triton.attributes
  - gpufleet.triton.attributes.actiongroup_triton
  - gpufleet.triton.attributes.info_module
attributes:
  check_mode:
    support: full
    details:
      - Looks once and does not wait. Returns RV(ready) and does not fail when the server is not ready or cannot be reached.
options:
  models:
    description:
      - Models that must be READY. Without it, the server's own readiness is all that counts.
      - The repository index is needed for this. If it is restricted and no key is given, each model is asked for by itself, and
        RV(problems) has a remark that says so.
    type: list
    elements: dict
    default: []
    suboptions:
      name:
        description:
          - Name of the model.
        type: str
        required: true
      versions:
        description:
          - Versions that must be READY. Others may be as well.
        type: list
        elements: int
      digest:
        description:
          - Digest that the served configuration must have in its parameter C(gpufleet.digest).
        type: str
  level:
    description:
      - V(live) is reached when the server answers that it is live. O(models) is not looked at then.
      - V(ready) is reached when the server says that it is ready and all of O(models) are as wanted.
    type: str
    choices: [live, ready]
    default: ready
  interval:
    description:
      - Seconds between two looks at the server.
    type: float
    default: 1.0
  consecutive:
    description:
      - How many looks in a row must be good.
    type: int
    default: 1
  container:
    description:
      - Name of the server's container. On failure its state, exit code, out of memory flag and last log lines come along.
      - If the connection fails and the container is seen C(exited) or C(dead) three times in a row, waiting ends early.
      - Needs the docker SDK for Python on the target. Without it RV(problems) says so.
    type: str
requirements:
  - docker (on the target, for O(container) alone; Debian and Ubuntu have it as python3-docker)
seealso:
  - module: gpufleet.triton.triton_model
  - module: gpufleet.triton.triton_info
"""

EXAMPLES = r"""
- name: Wait for the server and its models
  gpufleet.triton.triton_health:
    admin_key_file: /etc/gpufleet/triton/server/admin.key
    container: triton
    wait_timeout: 600
    models:
      - name: add_sub
      - name: densenet
        versions: [1, 2]
        digest: sha256:0f343b0931126a20f133d67c2b018a3b5fc9a1a5c5ea1d4b8a4b6c6f2a1b1c11

- name: See whether it lives, without waiting
  gpufleet.triton.triton_health:
    level: live
  check_mode: true
  register: health
"""

RETURN = r"""
ready:
  description: Whether the server reached O(level), with all of O(models).
  returned: always
  type: bool
  sample: true
elapsed:
  description: Seconds that it took.
  returned: always
  type: float
  sample: 12.041
attempts:
  description: How often the server was looked at.
  returned: always
  type: int
  sample: 13
models:
  description: What the server serves of O(models). Empty when it could not be asked, and with O(level=live).
  returned: always
  type: list
  elements: dict
  contains:
    name:
      description: Name of the model.
      returned: always
      type: str
      sample: densenet
    ready:
      description: Whether it is as wanted.
      returned: always
      type: bool
      sample: true
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
      sample: [1, 2]
    digest:
      description: Digest in the configuration that is served, null if it has none.
      returned: always
      type: str
      sample: sha256:0f343b0931126a20f133d67c2b018a3b5fc9a1a5c5ea1d4b8a4b6c6f2a1b1c11
problems:
  description:
    - What keeps the server from being ready, the best explanation first.
    - If RV(ready) is true, these are remarks, for example a model that failed and is not wanted here.
  returned: always
  type: list
  elements: dict
  contains:
    what:
      description: What is wrong.
      returned: always
      type: str
      sample: "The server is not ready because of a failed load: densenet version 2 UNAVAILABLE"
    why:
      description: The cause, as far as it can be told.
      returned: always
      type: str
      sample: "the first load of a model or version failed, and Triton stays not ready until that very version loads: Internal: ..."
    remedy:
      description: What to do about it.
      returned: always
      type: str
      sample: load the same model and version with success (then it may be unloaded), or restart the server
container:
  description: The server's container.
  returned: when RV(ready) is false, and O(container) is given
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
from ansible_collections.gpufleet.triton.plugins.module_utils._health import HealthCheck, explain, problems_of
from ansible_collections.gpufleet.triton.plugins.module_utils._http import HttpError
from ansible_collections.gpufleet.triton.plugins.module_utils._state import Wanted
from ansible_collections.gpufleet.triton.plugins.module_utils._waiter import Waited, Waiter


def run(module: AnsibleModule) -> None:
    params = module.params
    wanted = [Wanted(entry["name"], versions=tuple(entry["versions"] or ()), digest=entry["digest"] or None) for entry in params["models"]]
    container = Container(params["container"]) if params["container"] else None
    client = _argspec.open_client(module)
    with client.transport:
        try:
            check = HealthCheck(client, wanted, params["level"], container)
        except HttpError as error:
            _argspec.fail(module, error, ready=False, elapsed=0.0, attempts=0, models=[])
        try:
            if module.check_mode:
                waiter = Waiter(0.0, params["interval"])
            else:
                waiter = Waiter(params["wait_timeout"], params["interval"], params["consecutive"])
            waited = check.wait(waiter)
        except HttpError as error:
            # Nothing that waiting cures: a wrong key, a certificate that does not verify, a name that cannot be.
            if not module.check_mode:
                _argspec.fail(module, error, container, ready=False, elapsed=0.0, attempts=1, models=[])
            waited = Waited(False, None, error, 0.0, 1)
    result: dict[str, t.Any] = {
        "changed": False,
        "ready": waited.done,
        "elapsed": round(waited.elapsed, 3),
        "attempts": waited.attempts,
        "models": waited.last.models if waited.last is not None and waited.error is None else [],
    }
    report = container.report() if container is not None and not waited.done else None
    if report is not None:
        result["container"] = report.as_dict()
    problems = problems_of(waited, report)
    result["problems"] = [problem.as_dict() for problem in problems]
    if waited.done or module.check_mode:
        module.exit_json(**result)
    module.fail_json(msg=explain(waited, problems, params["level"]), **result)


def main() -> None:
    run(
        AnsibleModule(
            argument_spec={
                **_argspec.connection_options(),
                **_argspec.wait_options(),
                "models": {
                    "type": "list",
                    "elements": "dict",
                    "default": [],
                    "options": {
                        "name": {"type": "str", "required": True},
                        "versions": {"type": "list", "elements": "int"},
                        "digest": {"type": "str"},
                    },
                },
                "level": {"type": "str", "choices": ["live", "ready"], "default": "ready"},
                "interval": {"type": "float", "default": 1.0},
                "consecutive": {"type": "int", "default": 1},
                "container": {"type": "str"},
            },
            mutually_exclusive=_argspec.MUTUALLY_EXCLUSIVE,
            required_by=_argspec.REQUIRED_BY,
            supports_check_mode=True,
        )
    )


if __name__ == "__main__":
    main()
