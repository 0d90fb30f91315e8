#!/usr/bin/python
# Copyright (c) 2026, The gpufleet.triton authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: gpu_verify
short_description: Verify from the driver to an inference that a host is fit to serve
version_added: 0.3.0
author:
  - The gpufleet.triton authors (@gpufleet)
description:
  - Goes through five steps, each of which needs the one before it. C(driver), whether the driver and the GPUs are sound. C(toolkit),
    whether Docker can give GPUs to containers. C(container), whether C(nvidia-smi) in a new container has all of them. C(triton), whether
    the server is ready and sees its GPU. C(inference), whether a model computes.
  - Stops at the first step that fails, says why and what to do, and returns everything else that was found.
  - A host without a GPU is verified for what applies to it, which is the server and the inference, and the verdict says so.
  - Does not fail because of what it finds. RV(fit) and RV(verdict) are the answer.
  - Writes a report and, if wanted, metrics for the textfile collector of Prometheus' node exporter. Changes nothing else. The container
    that it starts has no network and no capabilities, and removes itself.
extends_documentation_fragment:
  - gpufleet.triton.connection
  - gpufleet.triton.attributes
  - gpufleet.triton.attributes.actiongroup_triton
attributes:
  check_mode:
    support: full
    details:
      - Verifies as it does otherwise and writes nothing. RV(verdict) says so.
  diff_mode:
    support: N/A
    details:
      - What it writes is about this run, and no state of the host.
  idempotent:
    support: full
    details:
      - The report and the metrics are about this run, so they are written each time. RV(ignore:changed) is always V(false).
options:
  accelerator:
    description:
      - What the host is to serve on. V(auto) is the GPU where there is one, V(gpu) makes it a fault if there is none, and V(cpu) leaves the
        first three steps out.
    type: str
    choices: [auto, gpu, cpu]
    default: auto
  expected_gpus:
    description:
      - How many GPUs the host must have.
    type: int
  container:
    description:
      - Name of the server's container. How it gets its GPUs is how the new container is given them, and its image is what that is made of.
    type: str
    default: triton
  image:
    description:
      - Image for the new container. Without it, it is that of O(container). It is not pulled.
    type: str
  metrics_url:
    description:
      - Where the server's metrics are. They name the GPUs that it uses.
      - Where they don't, as with MIG, its log and C(nvidia-smi) in its container are looked at.
    type: str
    default: http://127.0.0.1:8002/metrics
  inference:
    description:
      - The inference to make, with the options of M(gpufleet.triton.triton_infer) from C(model) to C(warmup).
      - Without it some model that is loaded is asked with zeros, which proves that it computes, and not that it computes rightly.
    type: dict
  report:
    description:
      - File for the report, in JSON. Its folder is made if it is not there. Empty for none.
    type: str
    default: /run/gpufleet/verified.json
  textfile_directory:
    description:
      - Folder of the textfile collector, which must be there. The file in it is C(gpufleet_verify.prom).
    type: path
  docker_socket:
    description:
      - The socket of the host's Docker Engine.
    type: path
    default: /var/run/docker.sock
seealso:
  - module: gpufleet.triton.gpu_info
  - module: gpufleet.triton.triton_diagnose
  - module: gpufleet.triton.triton_infer
"""

EXAMPLES = r"""
- name: Verify the host
  gpufleet.triton.gpu_verify:
    admin_key_file: /etc/gpufleet/triton/server/admin.key
    textfile_directory: /var/lib/prometheus/node-exporter
    inference:
      model: add_sub
      inputs:
        - {name: INPUT0, data: [[1, 2, 3, 4]]}
        - {name: INPUT1, data: [[10, 20, 30, 40]]}
      expect:
        - {name: OUTPUT0, data: [[11, 22, 33, 44]]}
  register: verified

- name: Stop where it is not fit
  ansible.builtin.assert:
    that: verified.fit
    fail_msg: "{{ verified.verdict }}"
"""

RETURN = r"""
fit:
  description: Whether the host is fit to serve. No step failed.
  returned: always
  type: bool
  sample: true
accelerator:
  description: What it was verified for, V(gpu) or V(cpu).
  returned: always
  type: str
  sample: gpu
verdict:
  description: One line about the host.
  returned: always
  type: str
  sample: "Fit to serve: 1 x NVIDIA H100 80GB HBM3, driver 580.159.03 (open), toolkit 1.20.0, Docker 28.5.1, 1 GPU in a container, by CDI,
    Triton 2.72.0 is ready, 1 GPU, densenet version 1 answered in 4.2 ms"
steps:
  description: The steps, in their order.
  returned: always
  type: list
  elements: dict
  contains:
    name:
      description: V(driver), V(toolkit), V(container), V(triton) or V(inference).
      returned: always
      type: str
      sample: driver
    status:
      description: V(passed), V(failed), V(skipped) if it does not apply, V(not_reached) behind one that failed.
      returned: always
      type: str
      sample: passed
    found:
      description: What was found, in a few words.
      returned: always
      type: str
      sample: 1 x NVIDIA H100 80GB HBM3, driver 580.159.03 (open)
    elapsed:
      description: Seconds that it took.
      returned: always
      type: float
      sample: 0.412
    problem:
      description: Why it failed, null if it did not.
      returned: always
      type: dict
      contains:
        what:
          description: What is wrong.
          returned: always
          type: str
          sample: A container gets no GPU by CDI
        why:
          description: The cause, as far as it can be told.
          returned: always
          type: str
          sample: "it says: failed to stat CDI host device \"/dev/nvidia1\": the CDI specification names a device node that is not there"
        remedy:
          description: What to do about it.
          returned: always
          type: str
          sample: "run: nvidia-ctk system create-device-nodes"
problems:
  description: All that was found. What made a step fail comes first, then errors, then warnings.
  returned: always
  type: list
  elements: dict
  contains:
    what:
      description: What is wrong.
      returned: always
      type: str
      sample: GPU 0 (0000:1a:00.0) is not in persistence mode
    why:
      description: The cause, as far as it can be told.
      returned: always
      type: str
      sample: "without it the driver lets go of the GPU whenever nothing uses it: slow starts, settings lost"
    remedy:
      description: What to do about it.
      returned: always
      type: str
      sample: enable nvidia-persistenced
    severity:
      description: V(error) or V(warning).
      returned: always
      type: str
      sample: warning
    step:
      description: The step that failed because of it, null if none did.
      returned: always
      type: str
      sample: null
gpus:
  description: The GPUs that the driver has.
  returned: always
  type: list
  elements: dict
  sample: [{index: 0, uuid: GPU-01000100-0000-0000-0000-000000000000, name: NVIDIA H100 80GB HBM3, pci: "0000:1a:00.0",
    memory_total_mib: 81920, lost: false}]
versions:
  description: Versions of C(driver), C(toolkit), C(docker), C(kernel) and C(triton), null where there is none.
  returned: always
  type: dict
  sample: {driver: 580.159.03, toolkit: 1.20.0, docker: 28.5.1, kernel: 6.12.94+deb13-amd64, triton: 2.72.0}
elapsed:
  description: Seconds that it took.
  returned: always
  type: float
  sample: 3.61
written:
  description: Files that were written.
  returned: always
  type: list
  elements: str
  sample: [/run/gpufleet/verified.json]
"""

import os
import platform
import time
import typing as t
from functools import partial

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.gpufleet.triton.plugins.module_utils import _argspec, _gpu, _host, _proc, _verify, _verify_host

# Drivers that are not kept loaded take seconds for each GPU, and a container is started.
COMMAND_TIMEOUT = 60.0
METRICS_FILE = "gpufleet_verify.prom"


def write(module: AnsibleModule, verdict: _verify.Verdict, report: dict[str, t.Any], now: float) -> list[str]:
    """Write down what was found, as far as that is wanted; the paths."""
    files = {}
    if module.params["report"]:
        files[module.params["report"]] = _verify.as_json(report)
    if module.params["textfile_directory"]:
        files[os.path.join(module.params["textfile_directory"], METRICS_FILE)] = _verify.as_metrics(verdict, now)
    for path, text in files.items():
        try:
            if path == module.params["report"]:
                os.makedirs(os.path.dirname(path), exist_ok=True)
            _verify_host.write(path, text)
        except OSError as error:
            remedy = "Give a folder that is there and that can be written to."
            module.fail_json(msg=f"Cannot write {path}: {error.strerror or error}. {remedy} What was found: {verdict.line}", **report)
    return list(files)


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            **_argspec.connection_options(),
            "accelerator": {"type": "str", "choices": ["auto", "gpu", "cpu"], "default": "auto"},
            "expected_gpus": {"type": "int"},
            "container": {"type": "str", "default": "triton"},
            "image": {"type": "str"},
            "metrics_url": {"type": "str", "default": "http://127.0.0.1:8002/metrics"},
            "inference": {"type": "dict"},
            "report": {"type": "str", "default": "/run/gpufleet/verified.json"},
            "textfile_directory": {"type": "path"},
            "docker_socket": {"type": "path", "default": _host.DOCKER_SOCKET},
        },
        mutually_exclusive=_argspec.MUTUALLY_EXCLUSIVE,
        required_by=_argspec.REQUIRED_BY,
        supports_check_mode=True,
    )
    params = module.params
    if params["report"] and not os.path.isabs(params["report"]):
        module.fail_json(msg=f"Cannot use report={params['report']}: wanted a path from the root on.")
    run = partial(_proc.run, module.run_command, timeout=COMMAND_TIMEOUT)
    host = _verify_host.RealHost(
        run=run,
        machine=_gpu.Machine(run),
        container=params["container"],
        connect=partial(_argspec.client_or_error, module),
        image=params["image"] or "",
        metrics_url=params["metrics_url"],
        docker_socket=params["docker_socket"],
        expected_gpus=params["expected_gpus"],
        inference=params["inference"],
    )
    verdict = _verify.Verification(host, params["accelerator"], params["expected_gpus"]).run()
    now = time.time()
    report = verdict.report(platform.node(), now)
    written = [] if module.check_mode else write(module, verdict, report, now)
    result = {name: report[name] for name in ("fit", "accelerator", "steps", "problems", "gpus", "versions")}
    line = verdict.line + (" (check mode: nothing was written)" if module.check_mode else "")
    module.exit_json(changed=False, verdict=line, elapsed=round(verdict.elapsed, 3), written=written, **result)


if __name__ == "__main__":
    main()
