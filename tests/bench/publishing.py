# Copyright (c) 2026, The gpufleet.triton authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Publishing to a host of the lab over a docker connection, beside what one would do by hand.

A changed megabyte in a model of 1 GB beside `rsync -a` to a folder that began as a local copy, with the bytes that docker's
client really wrote (bin/docker counts them); and a model of 2 GB for the first time beside one archive of it, put there by
Ansible's connection and nothing else.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from measure import BENCH, CHECKOUT, Measure, measured, middle, output, playbook, ratio, seconds

LAB = "gpufleet-bench"
HOST = f"{LAB}-host1"
ROOT = "/srv/bench"
MEGABYTE = 1024**2
TIMES = 3
CONFIG = """\
backend: "python"
input [ { name: "IN" data_type: TYPE_FP32 dims: [ 1 ] } ]
output [ { name: "OUT" data_type: TYPE_FP32 dims: [ 1 ] } ]
"""


def write_random(path: Path, megabytes: int) -> None:
    with path.open("wb") as file:
        for _number in range(megabytes):
            file.write(random.randbytes(MEGABYTE))


def write_model(folder: Path, parts: int, megabytes: int) -> None:
    (folder / "1").mkdir(parents=True)
    (folder / "config.pbtxt").write_text(CONFIG)
    (folder / "1" / "model.py").write_text("class TritonPythonModel:\n    pass\n")
    for number in range(parts):
        write_random(folder / "1" / f"part_{number}.bin", megabytes)


class Host:
    """A host of the lab, reached as Ansible reaches it, with docker's client under a counter."""

    def __init__(self, work: Path) -> None:
        self.work = work
        self.counts = work / "bytes"
        path = f"{BENCH / 'bin'}{os.pathsep}{os.environ['PATH']}"
        self.environment = {
            "PATH": path,
            "GPUFLEET_DOCKER": str(shutil.which("docker")),
            "GPUFLEET_COUNT_BYTES": str(self.counts),
            # What the controller remembers of files is this benchmark's own.
            "XDG_CACHE_HOME": str(work / "cache"),
        }

    def __enter__(self) -> Host:
        output(sys.executable, str(CHECKOUT / "molecule" / "shared" / "lab.py"), "up", LAB, "host1")
        self.shell("apt-get -qq update && DEBIAN_FRONTEND=noninteractive apt-get -qq -y install rsync python3-requests >/dev/null")
        self.shell(f"mkdir -p {ROOT}")
        return self

    def __exit__(self, *exc: object) -> None:
        output(sys.executable, str(CHECKOUT / "molecule" / "shared" / "lab.py"), "down", LAB)

    def shell(self, command: str) -> None:
        output("docker", "exec", HOST, "sh", "-ec", command)

    def run(self, way: str, source: Path) -> Measure:
        values = {"bench_way": way, "bench_root": ROOT, "bench_source": str(source)}
        connection = {"ansible_connection": "community.docker.docker", "ansible_python_interpreter": "/usr/bin/python3"}
        arguments = ("-i", f"{HOST},", "-e", json.dumps({**values, **connection}), "publish.yml")
        return self.counted(lambda: playbook(*arguments, cwd=BENCH, environment=self.environment))

    def rsync(self, source: Path, target: str) -> Measure:
        command = ["rsync", "-a", "--delete", "-e", "docker exec -i", f"{source}/", f"{HOST}:{target}/"]
        return self.counted(lambda: {"status": subprocess.run(command, env={**os.environ, **self.environment}, check=True).returncode})

    def counted(self, what: Callable[[], Measure]) -> Measure:
        self.counts.write_text("")
        result = what()
        written: Counter[str] = Counter()
        for line in self.counts.read_text().splitlines():
            kind, number = line.split()
            written[kind] += int(number)
        return {**result, "bytes_written": dict(written)}


def settle() -> None:
    """What was written before does not slow down what is measured next."""
    os.sync()


def bench_change(host: Host) -> dict[str, object]:
    source = host.work / "large"
    write_model(source, parts=8, megabytes=127)
    changed = source / "1" / "changed.bin"
    write_random(changed, 1)
    host.run("module", source)
    live, staging = f"{ROOT}/data/models/large", f"{ROOT}/by_hand"
    ways: dict[str, list[Measure]] = {"ansible alone": [], "local copy": [], "rsync -a": [], "triton_repository": [], "nothing to do": []}
    for _number in range(TIMES):
        write_random(changed, 1)
        settle()
        ways["ansible alone"].append(measured(lambda: host.run("none", source)))
        ways["local copy"].append(measured(lambda: {"status": host.shell(f"cp -a {live} {staging}")}))
        ways["rsync -a"].append(measured(lambda: host.rsync(source, staging)))
        host.shell(f"rm -rf {staging}")
        settle()
        ways["triton_repository"].append(measured(lambda: host.run("module", source)))
        settle()
        ways["nothing to do"].append(measured(lambda: host.run("module", source)))
    measures = {way: middle(all_of_it) for way, all_of_it in ways.items()}
    published = measures["triton_repository"]
    by_hand = {"seconds": seconds(measures["local copy"]) + seconds(measures["rsync -a"])}
    module_alone = ratio(published, by_hand, less=measures["ansible alone"])
    size = changed.stat().st_size
    written = published["bytes_written"]
    assert isinstance(written, dict)
    shutil.rmtree(source)
    return {
        "measures": {f"1 MB in 1 GB: {way}": measure for way, measure in measures.items()},
        "ratios": {
            "1 MB in 1 GB: triton_repository / (local copy + rsync -a)": ratio(published, by_hand),
            "1 MB in 1 GB: triton_repository less ansible alone / (local copy + rsync -a)": module_alone,
            "1 MB in 1 GB: triton_repository / rsync -a without the copy": ratio(published, measures["rsync -a"]),
            "1 MB in 1 GB: bytes_sent / changed bytes": round(int(str(published["bytes_sent"])) / size, 3),
            "1 MB in 1 GB: bytes written for files / changed bytes": round(written["file"] / size, 3),
            "1 MB in 1 GB: all bytes written, modules included / changed bytes": round(sum(written.values()) / size, 3),
        },
    }


def bench_first(host: Host) -> dict[str, object]:
    source, archive = host.work / "large", host.work / "large.tar"
    write_model(source, parts=8, megabytes=256)
    output("tar", "-cf", str(archive), "-C", str(source), ".")
    ways: dict[str, list[Measure]] = {"put_file of an archive": [], "triton_repository": []}
    for _number in range(TIMES):
        for way, kind, path in (("put_file of an archive", "archive", archive), ("triton_repository", "module", source)):
            host.shell(f"rm -rf {ROOT} && mkdir -p {ROOT}")
            shutil.rmtree(host.work / "cache", ignore_errors=True)
            settle()
            ways[way].append(measured(lambda kind=kind, path=path: host.run(kind, path)))
    measures = {way: middle(all_of_it) for way, all_of_it in ways.items()}
    times = ratio(measures["triton_repository"], measures["put_file of an archive"])
    return {
        "measures": {f"first 2 GB: {way}": measure for way, measure in measures.items()},
        "ratios": {"first 2 GB: triton_repository / put_file of an archive": times},
    }


def bench_publishing() -> dict[str, object]:
    with tempfile.TemporaryDirectory(prefix="gpufleet-bench-") as work, Host(Path(work)) as host:
        parts = [bench_change(host), bench_first(host)]
    return {key: {name: value for part in parts for name, value in part[key].items()} for key in ("measures", "ratios")}
