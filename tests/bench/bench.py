# Copyright (c) 2026, The gpufleet.triton authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Measure what the collection is quick at: `make bench`. It is no test: nothing fails because it was slow.

loads       20 models, each of which takes a second to load: triton_model beside other ways (loads.py)
publishing  a changed megabyte in 1 GB, and 2 GB for the first time, beside rsync and a plain copy (publishing.py)
nothing     50 models of 20 GB that are served already: what the role triton_models still does (nothing.py)
site        site.yml on the demo's hosts, which it changes nothing on

All of them, or those that are named: make bench ARGS="loads site". For each it counts seconds and the modules executed per
host, and writes them with the ratios and the machine's facts to results/.
"""

from __future__ import annotations

import datetime
import json
import sys
from collections.abc import Callable

from loads import bench_loads
from measure import BENCH, CHECKOUT, Measure, machine, measured, playbook
from nothing import bench_nothing
from publishing import bench_publishing


def bench_site() -> dict[str, object]:
    inventories = ["-i", "inventory.yml", "-i", str(CHECKOUT / "molecule" / "shared" / "inventory")]
    fleet = CHECKOUT / "examples" / "fleet"
    result = measured(lambda: playbook(*inventories, "site.yml", "-l", "gpu_hosts", cwd=fleet))
    if result["changed"]:
        wanted = "wanted a run of site.yml that changes nothing"
        raise RuntimeError(f"Cannot measure: {wanted}, got changed={result['changed']}. Run it again.")
    return {"measures": {"site.yml, nothing to do": {**result, "hosts": 2}}, "ratios": {}}


BENCHES: dict[str, Callable[[], dict[str, object]]] = {
    "loads": bench_loads,
    "publishing": bench_publishing,
    "nothing": bench_nothing,
    "site": bench_site,
}


def main(names: list[str]) -> None:
    measures: dict[str, Measure] = {}
    ratios: dict[str, float] = {}
    for name in names or BENCHES:
        result = BENCHES[name]()
        measures |= result["measures"]
        ratios |= result["ratios"]
    now = datetime.datetime.now(datetime.timezone.utc)
    result = {"when": now.isoformat(timespec="seconds"), "machine": machine(), "measures": measures, "ratios": ratios}
    target = BENCH / "results" / f"{now:%Y%m%dT%H%M%SZ}.json"
    target.parent.mkdir(exist_ok=True)
    target.write_text(json.dumps(result, indent=2) + "\n")

    print(f"{'':44} {'seconds':>8} {'of processor':>13} {'modules per host':>17}")
    for name, measure in measures.items():
        print(f"{name:44} {measure['seconds']:8.2f} {measure['cpu_seconds']:13.2f} {measure.get('modules_per_host', ''):>17}")
    for name, value in ratios.items():
        print(f"{name:90} {value:6.2f}")
    print(f"written to {target.relative_to(CHECKOUT)}")


if __name__ == "__main__":
    main(sys.argv[1:])
