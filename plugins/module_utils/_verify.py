# Copyright (c) 2026, The gpufleet.triton authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Whether a host is fit to serve: driver, toolkit, a container, Triton, one inference, each after the one that it needs.

Pure: what is asked of the host comes from an object with the methods of Host. Private to the collection.

Sources: gpu-operator, cmd/nvidia-validator (the order of the steps); messages of Docker 26.1.5, and of nvidia-container-toolkit,
issues 48, 394 and 450; messages of tritonserver 2.51.0 (pinned_memory_manager.cc, cuda_memory_manager.cc, metrics.cc).
"""

from __future__ import annotations

import json
import re
import time
import typing as t
from dataclasses import dataclass, field

from ansible_collections.gpufleet.triton.plugins.module_utils import _gpu_problems
from ansible_collections.gpufleet.triton.plugins.module_utils._gpu_problems import ERROR, Finding, counted, listed
from ansible_collections.gpufleet.triton.plugins.module_utils._problem import Problem, ProblemError, sentence
from ansible_collections.gpufleet.triton.plugins.module_utils._proc import CommandResult

STEPS = ("driver", "toolkit", "container", "triton", "inference")
PASSED = "passed"
FAILED = "failed"
SKIPPED = "skipped"
NOT_REACHED = "not_reached"

#: What nvidia-smi is asked in a container.
LISTING = ["--query-gpu=uuid,name", "--format=csv,noheader"]
_UUID = re.compile(r"^((?:GPU|MIG)-[0-9a-f-]+)\s*,\s*(.*\S)", re.MULTILINE | re.IGNORECASE)
_METRIC = re.compile(r'^nv_gpu_memory_total_bytes\{[^}]*gpu_uuid="([^"]+)"', re.MULTILINE)
_POOL = re.compile(r"CUDA memory pool is created on device (\d+)")
# What Triton logs when its own CUDA can't be used.
NO_CUDA = re.compile(
    r"(CUDA driver version is insufficient for CUDA runtime version|no CUDA-capable device is detected|Failed to initialize NVML"
    r"|unknown error|forward compatibility was attempted[^\"]*|system not yet initialized|initialization error)",
    re.IGNORECASE,
)

Row = dict[str, t.Any]

# A part of what Docker or nvidia-smi says when a container gets no GPU, why that is, and what helps.
FAULTS = (
    (
        re.compile(r'could not select device driver "(nvidia)?" with capabilities'),
        "nvidia-container-runtime-hook was not there when dockerd started, which looks for it only then",
        "install nvidia-container-toolkit, then run: systemctl restart docker",
    ),
    (
        re.compile(r'could not select device driver "cdi"'),
        "CDI is off in this Docker, or it is older than 28.2 and has just restarted (moby 49989)",
        'set {"features": {"cdi": true}} in /etc/docker/daemon.json, or update Docker to 28.2; then run: systemctl restart docker triton',
    ),
    (
        re.compile(r"unresolvable CDI devices|failed to inject CDI devices|CDI device injection failed"),
        "no CDI specification that this Docker understands offers the device",
        _gpu_problems.GENERATE,
    ),
    (
        re.compile(r"failed to stat CDI host device"),
        "the CDI specification names a device node that is not there",
        "run: nvidia-ctk system create-device-nodes; nvidia-ctk cdi generate --output=/var/run/cdi/nvidia.yaml",
    ),
    (
        re.compile(r"error mounting .*(libcuda|libnvidia|nvidia)[^:]*.*no such file or directory"),
        "the CDI specification was made for another version of the driver",
        _gpu_problems.GENERATE + "; then make the container anew: systemctl restart triton",
    ),
    (
        re.compile(r"unknown or invalid runtime name:? nvidia"),
        "the runtime nvidia is not in Docker's daemon.json",
        "run: nvidia-ctk runtime configure --runtime=docker && systemctl restart docker",
    ),
    (
        re.compile(r"driver/library version mismatch", re.IGNORECASE),
        "the driver was changed under a loaded module",
        "reload the modules, or run: systemctl reboot",
    ),
    (
        re.compile(r"Failed to initialize NVML: Unknown Error"),
        "the container lost its devices when systemd applied its group's rules anew (systemctl daemon-reload)",
        "make it anew: systemctl restart triton; for good, give devices by CDI or set native.cgroupdriver=cgroupfs in Docker's exec-opts",
    ),
    (
        re.compile(r"Insufficient Permissions"),
        "SELinux or the permissions of /dev/nvidia* forbid it",
        "set security_opt label=disable for the container, or run: chmod 666 /dev/nvidia*",
    ),
    (
        re.compile(r"nvidia-smi.*(executable file not found|no such file or directory)", re.IGNORECASE),
        "the container got no nvidia-smi: no GPU was given to it, or NVIDIA_DRIVER_CAPABILITIES lacks utility",
        "look at the CDI specification's mounts, or set NVIDIA_DRIVER_CAPABILITIES=compute,utility",
    ),
    (
        re.compile(r"couldn't communicate with the NVIDIA driver"),
        "the kernel module is not loaded",
        "run: modprobe nvidia; if it refuses, the reason is in: dmesg",
    ),
    (
        re.compile(r"No devices (were )?found"),
        "the container has the driver's programs and none of its devices",
        "look for NVRM in dmesg; then make the container anew: systemctl restart triton",
    ),
    (
        re.compile(r"No such image|Unable to find image"),
        "the image is not on this host",
        "run the role gpufleet.triton.triton_server, which brings it",
    ),
)


def fault_in(text: str) -> tuple[str, str] | None:
    """Why a container has no GPU and what helps, out of what was said about it."""
    return next(((why, remedy) for pattern, why, remedy in FAULTS if pattern.search(text)), None)


@dataclass
class Judgement:
    """What one step came to. Without a problem it has passed, or, with `skipped`, there was nothing to do."""

    found: str
    problem: Problem | None = None
    skipped: bool = False


@dataclass
class Step:
    name: str
    status: str
    found: str = ""
    problem: Problem | None = None
    elapsed: float = 0.0

    def as_dict(self) -> Row:
        return {
            "name": self.name,
            "status": self.status,
            "found": self.found,
            "problem": Problem.as_dict(self.problem) if self.problem else None,
            "elapsed": round(self.elapsed, 3),
        }


@dataclass
class TritonState:
    """The server and its container, as they were found. `asked` is what nvidia-smi said inside of the container."""

    problems: list[Problem] = field(default_factory=list)
    version: str = ""
    asked: CommandResult | None = None
    metrics: str = ""
    log: list[str] = field(default_factory=list)


class Host(t.Protocol):
    """What the steps ask of a host, each when its turn has come."""

    def facts(self) -> Row: ...

    def fresh(self, facts: Row) -> tuple[str, CommandResult]:
        """Run nvidia-smi in a container of its own; how it was given the GPUs, and what it said."""

    def triton(self, with_gpu: bool) -> TritonState: ...

    def infer(self) -> Row | None:
        """The result of one inference, or nothing where no model can be asked. Raises ProblemError."""


# --- Driver and toolkit ------------------------------------------------------------------------------------------------


def has_gpu(facts: Row) -> bool:
    return bool(facts["gpus"] or facts["gpus_pci"])


def driver_findings(facts: Row, expected: int | None) -> list[Finding]:
    if not has_gpu(facts):
        return list(_gpu_problems.count_problems(facts, expected))
    parts = (
        _gpu_problems.driver_problems(facts),
        _gpu_problems.smi_problems(facts),
        _gpu_problems.flavour_problems(facts),
        # Why one is missing says more than that it is.
        _gpu_problems.gpu_problems(facts),
        _gpu_problems.count_problems(facts, expected),
        _gpu_problems.xid_problems(facts),
        _gpu_problems.nvswitch_problems(facts),
        _gpu_problems.kernel_problems(facts),
    )
    return [finding for part in parts for finding in part]


def toolkit_findings(facts: Row) -> list[Finding]:
    parts = (_gpu_problems.toolkit_problems(facts), _gpu_problems.cdi_problems(facts), _gpu_problems.docker_problems(facts))
    return [finding for part in parts for finding in part]


def gpus_text(facts: Row) -> str:
    names: dict[str, int] = {}
    for gpu in facts["gpus"]:
        name = "lost GPU" if gpu["lost"] else gpu["name"] or "GPU"
        names[name] = names.get(name, 0) + 1
    return ", ".join(f"{number} x {name}" for name, number in names.items()) or f"{len(facts['gpus_pci'])} on the PCI bus"


def driver_text(facts: Row) -> str:
    driver = facts["driver"]
    if not driver["loaded"]:
        return f"driver {driver['state'].replace('_', ' ')}"
    return f"driver {driver['loaded']}" + (f" ({driver['flavour']})" if driver["flavour"] else "")


def first_error(findings: t.Sequence[Finding]) -> Finding | None:
    return next((finding for finding in findings if finding.severity == ERROR), None)


def driver_step(facts: Row, expected: int | None) -> Judgement:
    return Judgement(f"{gpus_text(facts)}, {driver_text(facts)}", first_error(driver_findings(facts, expected)))


def toolkit_step(facts: Row) -> Judgement:
    found = f"toolkit {facts['toolkit']['version'] or 'none'}, Docker {facts['docker']['version'] or 'none'}"
    return Judgement(found, first_error(toolkit_findings(facts)))


# --- Containers --------------------------------------------------------------------------------------------------------


def way_of(container: Row | None, facts: Row) -> tuple[str, list[str]]:
    """How a container is to get its GPUs: as the one that serves does, or else as this Docker can. Name and arguments."""
    cdi = ("CDI", ["--device", "nvidia.com/gpu=all"])
    hook = ("driver nvidia", ["--gpus", "all"])
    runtime = ("runtime nvidia", ["--runtime", "nvidia", "--env", "NVIDIA_VISIBLE_DEVICES=all"])
    config = (container or {}).get("HostConfig") or {}
    for request in config.get("DeviceRequests") or []:
        if request.get("Driver") == "cdi":
            return cdi
        if request.get("Driver") in ("", "nvidia"):
            return hook
    if config.get("Runtime") == "nvidia":
        return runtime
    ways = _gpu_problems.docker_ways(facts)
    if ways["cdi"] and (not (ways["hook"] or ways["runtime"]) or not _gpu_problems.below(facts["docker"]["version"], "28.2")):
        return cdi
    return hook if ways["hook"] or not ways["runtime"] else runtime


def uuids_in(text: str) -> list[str]:
    return [uuid for uuid, _name in _UUID.findall(text)]


def usable_uuids(facts: Row) -> list[str]:
    return [gpu["uuid"] for gpu in facts["gpus"] if gpu["uuid"] and not gpu["lost"]]


def explained(what: str, text: str, otherwise: str) -> Problem:
    fault = fault_in(text)
    why, remedy = fault if fault else ("", otherwise)
    return Problem(what, f"it says: {_short(text)}" + (f": {why}" if why else ""), remedy)


def _short(text: str, limit: int = 400) -> str:
    text = " ".join(text.split())
    return text if len(text) <= limit else text[:limit] + "..."


def container_step(way: str, asked: CommandResult, facts: Row) -> Judgement:
    seen, wanted = uuids_in(asked.stdout), usable_uuids(facts)
    missing = [uuid for uuid in wanted if uuid not in seen]
    found = f"{counted(len(seen), 'GPU')} in a container, by {way}"
    text = " ".join(part for part in (asked.stderr.strip(), asked.stdout.strip()) if part)
    if not asked.ok or not seen:
        otherwise = "run it by hand to see more; look at: journalctl -u docker"
        return Judgement(found, explained(f"A container gets no GPU by {way}", text or asked.cause(), otherwise))
    if missing and not any(uuid.upper().startswith("MIG-") for uuid in seen):
        why = f"wanted {counted(len(wanted), 'GPU')}, got {len(seen)}; not there: {listed(missing)}"
        return Judgement(found, Problem(f"A container gets only some of the GPUs by {way}", why, _gpu_problems.GENERATE))
    return Judgement(found)


def triton_step(state: TritonState, with_gpu: bool) -> Judgement:
    """Whether the server is ready, and whether it has its GPUs: the device, and a CUDA that works with it."""
    name = f"Triton {state.version}" if state.version else "Triton"
    if state.problems:
        return Judgement(f"{name} is not ready", state.problems[0])
    if not with_gpu:
        return Judgement(f"{name} is ready")
    # Its metrics name the GPUs that it uses. They are not there with MIG, or where something else has DCGM.
    metrics = sorted(set(_METRIC.findall(state.metrics)))
    pools = sorted(set(_POOL.findall("\n".join(state.log))))
    seen = uuids_in(state.asked.stdout) if state.asked is not None else []
    found = f"{name} is ready, {counted(len(metrics) or len(seen) or len(pools), 'GPU')}"
    if state.asked is not None and not seen:
        text = " ".join(part for part in (state.asked.stderr.strip(), state.asked.stdout.strip()) if part)
        otherwise = "make the container anew: systemctl restart triton; is it configured for the CPU (triton_server_accelerator)?"
        return Judgement(found, explained("Triton's container has no GPU", text or state.asked.cause(), otherwise))
    if metrics or pools:
        missing = [uuid for uuid in seen if metrics and uuid.upper().startswith("GPU-") and uuid not in metrics]
        if missing:
            why = f"its container has {counted(len(seen), 'GPU')}, its metrics lack {listed(missing)}"
            return Judgement(found, Problem("Triton sees fewer GPUs than its container has", why, "run: systemctl restart triton"))
        return Judgement(found)
    refused = next((line for line in state.log if NO_CUDA.search(line)), "")
    if refused:
        why = f"it logged when it started: {_short(refused.strip())}"
        remedy = "use a driver that is new enough for this Triton (its release notes name it), then run: systemctl restart triton"
        return Judgement(found, Problem("Triton does not see the GPU that its container has", why, remedy))
    return Judgement(found + " in its container")


def inference_step(result: Row | None) -> Judgement:
    if result is None:
        return Judgement("no model is loaded that could be asked", skipped=True)
    name, version = result["model_name"], result["model_version"]
    if result["problems"]:
        return Judgement(f"{name} answered wrongly", Problem(**result["problems"][0]))
    checked = "" if result.get("checked") else " (its answer was not checked: triton_models has no smoke test)"
    return Judgement(f"{name} version {version} answered in {result['latency']['p50']:g} ms{checked}")


# --- All of it ---------------------------------------------------------------------------------------------------------


@dataclass
class Verdict:
    fit: bool
    gpu: bool
    line: str
    steps: list[Step]
    problems: list[Row]
    facts: Row
    triton_version: str
    elapsed: float

    def report(self, host: str, now: float) -> Row:
        """What is written down on the host, for who comes later."""
        facts = self.facts
        keys = ("index", "uuid", "name", "pci", "memory_total_mib", "lost")
        return {
            "host": host,
            "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(now)),
            "timestamp": int(now),
            "fit": self.fit,
            "accelerator": "gpu" if self.gpu else "cpu",
            "verdict": self.line,
            "steps": [step.as_dict() for step in self.steps],
            "problems": self.problems,
            "gpus": [{key: gpu[key] for key in keys} for gpu in facts["gpus"]],
            "versions": versions_of(facts, self.triton_version),
        }


def versions_of(facts: Row, triton: str) -> Row:
    return {
        "driver": facts["driver"]["loaded"],
        "toolkit": facts["toolkit"]["version"],
        "docker": facts["docker"]["version"],
        "kernel": facts["kernel"],
        "triton": triton or None,
    }


class Verification:
    """Goes through the steps in their order, and stops at the first that fails."""

    def __init__(
        self,
        host: Host,
        accelerator: str = "auto",
        expected_gpus: int | None = None,
        clock: t.Callable[[], float] = time.monotonic,
    ) -> None:
        self.host = host
        self.accelerator = accelerator
        self.expected = expected_gpus
        self.clock = clock

    def run(self) -> Verdict:
        start = self.clock()
        facts = self.host.facts()
        present = has_gpu(facts)
        gpu = self.accelerator == "gpu" or (self.accelerator == "auto" and (present or bool(self.expected)))
        expected = max(self.expected or 0, 1) if gpu else None
        version = ""

        def container() -> Judgement:
            return container_step(*self.host.fresh(facts), facts)

        def triton() -> Judgement:
            nonlocal version
            state = self.host.triton(gpu)
            version = state.version
            return triton_step(state, gpu)

        of_gpu: dict[str, t.Callable[[], Judgement]] = {
            "driver": lambda: driver_step(facts, expected),
            "toolkit": lambda: toolkit_step(facts),
            "container": container,
        }
        of_triton: dict[str, t.Callable[[], Judgement]] = {"triton": triton, "inference": lambda: inference_step(self.host.infer())}
        why = "no NVIDIA GPU" if not present else "the accelerator is cpu"
        steps: list[Step] = [] if gpu else [Step(name, SKIPPED, why) for name in of_gpu]
        stopped = False
        for name, act in {**(of_gpu if gpu else {}), **of_triton}.items():
            if stopped:
                steps.append(Step(name, NOT_REACHED))
                continue
            steps.append(self._step(name, act))
            stopped = steps[-1].status == FAILED
        findings = [*driver_findings(facts, expected), *toolkit_findings(facts)] if gpu else []
        problems = _problems(steps, findings)
        return Verdict(
            not stopped,
            gpu,
            line_of(steps, facts, gpu, problems),
            steps,
            problems,
            facts,
            version,
            self.clock() - start,
        )

    def _step(self, name: str, act: t.Callable[[], Judgement]) -> Step:
        start = self.clock()
        try:
            judged = act()
        except ProblemError as error:
            judged = Judgement("", Problem(error.what, error.why, error.remedy))
        status = FAILED if judged.problem else SKIPPED if judged.skipped else PASSED
        return Step(name, status, judged.found, judged.problem, self.clock() - start)


def _problems(steps: t.Sequence[Step], findings: t.Sequence[Finding]) -> list[Row]:
    """What ended the verification first, then everything else that was found, errors before warnings."""
    rows: list[Row] = []
    for step in steps:
        if step.problem is not None:
            rows.append({**step.problem.as_dict(), "severity": ERROR, "step": step.name})
    known = {row["what"] for row in rows}
    for finding in sorted(findings, key=lambda finding: finding.severity != ERROR):
        if finding.what not in known:
            rows.append({**finding.as_dict(), "step": None})
    return rows


def line_of(steps: t.Sequence[Step], facts: Row, gpu: bool, problems: t.Sequence[Row]) -> str:
    """The one line about a host."""
    failed = next((step for step in steps if step.status == FAILED), None)
    kind = "" if gpu else " on the CPU (" + ("no NVIDIA GPU" if not has_gpu(facts) else "its GPU is not used") + ")"
    if failed is not None and failed.problem is not None:
        passed = [step.name for step in steps if step.status == PASSED]
        text = sentence(failed.problem.what, failed.problem.why, failed.problem.remedy)
        before = f" Passed before: {', '.join(passed)}." if passed else ""
        others = len(problems) - 1
        more = f" {counted(others, 'more problem')} in problems." if others else ""
        return f"Not fit to serve{kind}, {failed.name}: {text}{before}{more}"
    parts = [step.found for step in steps if step.status == PASSED]
    parts += [f"no inference: {step.found}" for step in steps if step.status == SKIPPED and step.name == "inference"]
    warnings = f"; {counted(len(problems), 'warning')}" if problems else ""
    return f"Fit to serve{kind}: {', '.join(parts)}{warnings}"


# --- What is written ---------------------------------------------------------------------------------------------------


def as_json(report: Row) -> str:
    return json.dumps(report, indent=2, sort_keys=True) + "\n"


def _label(text: t.Any) -> str:
    return str(text or "").replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def as_metrics(verdict: Verdict, now: float) -> str:
    """For the textfile collector of the node exporter. A step that did not run has no sample."""
    versions = versions_of(verdict.facts, verdict.triton_version)
    info = ",".join(f'{name}="{_label(versions[name])}"' for name in ("driver", "toolkit", "docker", "triton"))
    counts = {severity: sum(row["severity"] == severity for row in verdict.problems) for severity in ("error", "warning")}
    steps = [step for step in verdict.steps if step.status in (PASSED, FAILED)]
    gpus = _gpu_problems.usable_gpus(verdict.facts)
    families: list[tuple[str, str, list[tuple[str, float]]]] = [
        ("gpufleet_verify_fit", "Whether the host is fit to serve.", [("", int(verdict.fit))]),
        ("gpufleet_verify_gpu", "Whether it is to serve on a GPU.", [("", int(verdict.gpu))]),
        (
            "gpufleet_verify_step_passed",
            "Whether a step passed. One that did not run has no sample.",
            [(f'step="{step.name}"', int(step.status == PASSED)) for step in steps],
        ),
        ("gpufleet_verify_gpus", "GPUs that the driver has and that are not lost.", [("", gpus)]),
        (
            "gpufleet_verify_problems",
            "Problems that were found, by severity.",
            [(f'severity="{severity}"', count) for severity, count in counts.items()],
        ),
        ("gpufleet_verify_info", "Versions that were found.", [(info, 1)]),
        ("gpufleet_verify_duration_seconds", "How long the verification took.", [("", round(verdict.elapsed, 3))]),
        ("gpufleet_verify_timestamp_seconds", "When it ended.", [("", int(now))]),
    ]
    lines = []
    for name, description, samples in families:
        lines += [f"# HELP {name} {description}", f"# TYPE {name} gauge"]
        lines += [f"{name}{{{labels}}} {value}" if labels else f"{name} {value}" for labels, value in samples]
    return "\n".join(lines) + "\n"
