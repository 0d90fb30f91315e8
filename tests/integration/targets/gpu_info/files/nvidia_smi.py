# Copyright (c) 2026, The gpufleet.triton authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A double of nvidia-smi: it answers out of a state file, state.json beside it, where there is no GPU to ask.

The state:

    fault           no_driver, mismatch or unknown_error: nothing but that text is told. null: all is well.
    driver          version of the driver
    gpus            for each GPU: lost (true where it is), and cells that differ from those below, by the name of the field
    unknown_fields  fields that this nvidia-smi is not to know
    names_field     false where the refusal of such a field is not to name it

The texts and statuses are those of nvidia-smi 550.163.01, except the status of a mismatch, which nobody has written down.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

NO_DRIVER = """\
NVIDIA-SMI has failed because it couldn't communicate with the NVIDIA driver. \
Make sure that the latest NVIDIA driver is installed and running.
"""
FAULTS = {
    "no_driver": (9, NO_DRIVER),
    "mismatch": (18, "Failed to initialize NVML: Driver/library version mismatch\nNVML library version: {library}"),
    "unknown_error": (255, "Failed to initialize NVML: Unknown Error"),
}
CELLS = {
    "name": "NVIDIA H100 80GB HBM3",
    "memory.total": "81920",
    "memory.used": "0",
    "compute_cap": "9.0",
    "compute_mode": "Default",
    "mig.mode.current": "Disabled",
    "mig.mode.pending": "Disabled",
    "ecc.mode.current": "Enabled",
    "ecc.mode.pending": "Enabled",
    "ecc.errors.uncorrected.volatile.total": "0",
    "retired_pages.pending": "[N/A]",
    "temperature.gpu": "34",
    "persistence_mode": "Enabled",
    "reset_status.reset_required": "No",
    "pcie.link.width.current": "16",
    "pcie.link.width.max": "16",
    "fabric.state": "state  Completed",
    "fabric.status": "status Success",
    "remapped_rows.pending": "No",
    "remapped_rows.failure": "No",
}


def cells_of(state: dict, index: int) -> dict[str, str]:
    gpu = state["gpus"][index]
    uuid = f"GPU-01000100-0000-0000-0000-{index:012d}"
    own = {
        "index": str(index),
        "uuid": uuid,
        "gpu_uuid": uuid,
        "pci.bus_id": f"00000000:{0x1A + index:02X}:00.0",
        "driver_version": state.get("driver", "580.159.03"),
    }
    cells = {**CELLS, **own, **gpu.get("cells", {})}
    return {name: "[GPU is lost]" if gpu.get("lost") and name != "index" else cell for name, cell in cells.items()}


def table(state: dict, fields: list[str]) -> tuple[int, str]:
    known = set(CELLS) | {"index", "uuid", "gpu_uuid", "pci.bus_id", "driver_version"}
    for field in fields:
        if field not in known - set(state.get("unknown_fields", ())):
            name = f'"{field}" ' if state.get("names_field", True) else ""
            return 2, f"Field {name}is not a valid field to query.\n"
    if not state["gpus"]:
        return 0, "No devices found."
    rows = [cells_of(state, index) for index in range(len(state["gpus"]))]
    return 0, "\n".join(", ".join(row[field] for field in fields) for row in rows)


def answer(state: dict, arguments: list[str]) -> tuple[int, str]:
    """The status, and what is told on standard output: everything is, errors as well."""
    if state.get("fault"):
        rc, text = FAULTS[state["fault"]]
        return rc, text.format(library=state.get("library", "580.173.02"))
    option, _equals, value = arguments[0].partition("=") if arguments else ("", "", "")
    if option in ("--query-gpu", "--query-remapped-rows"):
        return table(state, value.split(","))
    if option == "-L":
        rows = [cells_of(state, index) for index in range(len(state["gpus"]))]
        return 0, "\n".join(f"GPU {row['index']}: {row['name']} (UUID: {row['uuid']})" for row in rows) or "No devices found."
    return 2, f"The double of nvidia-smi does not know {arguments}"


def main() -> None:
    state = json.loads(Path(__file__).with_name("state.json").read_text(encoding="utf-8"))
    rc, text = answer(state, sys.argv[1:])
    print(text)
    sys.exit(rc)


if __name__ == "__main__":
    main()
