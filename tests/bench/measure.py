# Copyright (c) 2026, The gpufleet.triton authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the benchmarks share: seconds, executed modules and the machine's facts."""

from __future__ import annotations

import collections
import os
import platform
import re
import resource
import subprocess
import tempfile
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

BENCH = Path(__file__).resolve().parent
CHECKOUT = BENCH.parents[1]
IMAGE = "gpufleet-lab/triton:2.51.0"

Measure = dict[str, object]


def output(*argv: str) -> str:
    return subprocess.run(argv, text=True, check=True, stdout=subprocess.PIPE).stdout.strip()


def processor_seconds() -> float:
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in used)


def measured(what: Callable[[], Measure]) -> Measure:
    """The seconds that it took and the processor's seconds, of this process and those that it waited for."""
    cpu, begin = processor_seconds(), time.monotonic()
    result = what()
    return {"seconds": round(time.monotonic() - begin, 2), "cpu_seconds": round(processor_seconds() - cpu, 2), **result}


def middle(measures: list[Measure]) -> Measure:
    """The one whose seconds are the median, with the seconds of all."""
    return {**sorted(measures, key=seconds)[len(measures) // 2], "seconds_of_all": [seconds(measure) for measure in measures]}


def seconds(measure: Measure) -> float:
    return float(str(measure["seconds"]))


def ratio(slow: Measure, quick: Measure, less: Measure | None = None) -> float:
    """How many times as long one takes as the other; `less` is taken off the first."""
    return round((seconds(slow) - (seconds(less) if less else 0)) / seconds(quick), 2)


def playbook(*arguments: str, cwd: Path, environment: dict[str, str] | None = None) -> Measure:
    """Run a playbook; return the modules executed per host, on the one that had most, and what the recap says."""
    with tempfile.NamedTemporaryFile("r", prefix="gpufleet-bench-") as calls:
        env = {
            **os.environ,
            **(environment or {}),
            "ANSIBLE_CALLBACK_PLUGINS": str(BENCH / "callback_plugins"),
            "ANSIBLE_CALLBACKS_ENABLED": "count_modules",
            "GPUFLEET_COUNT_MODULES": calls.name,
        }
        done = subprocess.run(["ansible-playbook", *arguments], cwd=cwd, env=env, text=True, capture_output=True, check=False)
        if done.returncode:
            command = f"ansible-playbook {' '.join(arguments)}"
            raise RuntimeError(f"Cannot measure: {command} ended with {done.returncode}:\n{done.stdout}{done.stderr}")
        per_host: dict[str, collections.Counter[str]] = collections.defaultdict(collections.Counter)
        for line in calls:
            host, module = line.split()
            per_host[host][module] += 1
    modules = max(per_host.values(), key=collections.Counter.total, default=collections.Counter())
    changed = sum(int(word.removeprefix("changed=")) for word in done.stdout.split() if word.startswith("changed="))
    said = dict(pair.split("=") for line in re.findall(r"bench ([a-z_]+=[^\"]*)", done.stdout) for pair in line.split())
    return {"modules_per_host": modules.total(), "modules": dict(modules), "changed": changed, **said}


def machine() -> dict[str, object]:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    cpu = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "")
    memory = int(Path("/proc/meminfo").read_text().split()[1])
    return {
        "cores": os.cpu_count(),
        "cpu": cpu,
        "memory_gib": round(memory / 1024**2, 1),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "ansible_core": version("ansible-core"),
        "docker": output("docker", "version", "--format", "{{.Server.Version}}"),
        "triton": IMAGE.rpartition(":")[2],
    }
