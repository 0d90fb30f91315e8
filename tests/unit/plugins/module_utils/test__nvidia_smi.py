# Copyright (c) 2026, The gpufleet.triton authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import typing as t

import pytest
from ansible_collections.gpufleet.triton.plugins.module_utils import _nvidia_smi
from ansible_collections.gpufleet.triton.plugins.module_utils._nvidia_smi import Field, pci_address, query, read_row
from ansible_collections.gpufleet.triton.plugins.module_utils._proc import CommandResult
from ansible_collections.gpufleet.triton.tests.unit.plugins.module_utils.gpu_host import DOUBLE

# A row of nvidia-smi 550.163.01 about an H100, and what of it is asked for here: the cell and its field.
SAMPLE_FIELDS = {
    0: "index",
    1: "name",
    3: "pci.bus_id",
    7: "memory.total",
    9: "temperature.gpu",
    13: "persistence_mode",
    15: "ecc.mode.current",
    17: "mig.mode.current",
    21: "reset_status.reset_required",
    23: "fabric.state",
    24: "fabric.status",
}
SAMPLE = (
    "0, NVIDIA H100 80GB HBM3, GPU-01000100-0000-0000-0000-000000000000, 00000000:1A:00.0, 1562821083900, 550.163.01, 96.00.74.00.09,"
    " 81920, 0, 34, 95.00, 700.00, 0.00, Enabled, Default, Enabled, 0, Disabled, Disabled, P0, 345, No, Enabled,"
    " state  Completed, status Success"
)


class Asker:
    """Asks the double, and counts how often."""

    def __init__(self, **state: t.Any) -> None:
        self.state = {"gpus": [{}, {}], **state}
        self.asked: list[list[str]] = []

    def __call__(self, arguments: list[str]) -> CommandResult:
        self.asked.append(arguments)
        rc, text = DOUBLE.answer(self.state, arguments)
        return CommandResult(rc, text + "\n", "")


def test_a_real_row() -> None:
    readers = {field.name: field for field in _nvidia_smi.FIELDS}
    cells = SAMPLE.split(", ")
    row = read_row([cells[place] for place in SAMPLE_FIELDS], [readers[name] for name in SAMPLE_FIELDS.values()])
    assert row == {
        "errors": {},
        "name": "NVIDIA H100 80GB HBM3",
        "reset_required": False,
        "fabric_status": "Success",
        "index": 0,
        "pci": "0000:1a:00.0",
        "memory_total_mib": 81920,
        "temperature": 34,
        "persistence": True,
        "ecc": True,
        "mig": False,
        "fabric_state": "Completed",
    }


def test_every_key_is_told_of_every_gpu() -> None:
    rows, table = _nvidia_smi.gpus(Asker(gpus=[{}, {"lost": True}]))
    assert [set(row) for row in rows] == [set(_nvidia_smi.empty_gpu())] * 2
    assert (table.rc, table.message, table.unknown) == (0, "", [])
    assert [row["row_remap_pending"] for row in rows] == [False, None]


def test_two_questions_are_enough() -> None:
    ask = Asker()
    _nvidia_smi.gpus(ask)
    assert [arguments[0].partition("=")[0] for arguments in ask.asked] == ["--query-gpu", "--query-remapped-rows"]


@pytest.mark.parametrize("unknown", [["fabric.state"], ["fabric.state", "fabric.status", "mig.mode.current"], ["index"]])
def test_unknown_fields_leave_the_others(unknown: list[str]) -> None:
    ask = Asker(unknown_fields=unknown)
    rows, table = _nvidia_smi.gpus(ask)
    assert (table.rc, sorted(table.unknown)) == (0, sorted(unknown))
    missing = {field.key for field in _nvidia_smi.FIELDS if field.name in unknown}
    assert len(rows) == 2
    for row in rows:
        told = {key for key, value in row.items() if value is None}
        assert told == missing | {"retired_pages_pending"}
    assert len(ask.asked) == 2 + len(unknown)


def test_unknown_fields_that_are_not_named() -> None:
    rows, table = _nvidia_smi.gpus(Asker(unknown_fields=["fabric.state", "compute_cap"], names_field=False))
    assert (table.rc, sorted(table.unknown)) == (0, ["compute_cap", "fabric.state"])
    assert [row["index"] for row in rows] == [0, 1]
    assert rows[1]["pci"] == "0000:1b:00.0"
    assert (rows[1]["fabric_state"], rows[1]["fabric_status"], rows[1]["compute_capability"]) == (None, "Success", None)


def test_an_option_that_is_not_known_at_all() -> None:
    rows, table = _nvidia_smi.gpus(lambda _arguments: CommandResult(2, 'Option "--query-gpu" is not recognized.\n', ""))
    assert (rows, table.rc, table.message) == ([], 2, 'Option "--query-gpu" is not recognized.')


def test_a_refusal_that_names_what_was_not_asked_for() -> None:
    refusal = CommandResult(2, 'Field "other" is not a valid field to query.\n', "")
    assert query(lambda _arguments: refusal, "--query-gpu", _nvidia_smi.REMAPPED[:2]).rc == 2


def test_no_gpu_is_no_row() -> None:
    rows, table = _nvidia_smi.gpus(Asker(gpus=[]))
    assert (rows, table.rc, table.message) == ([], 0, "No devices found.")


def test_no_driver() -> None:
    rows, table = _nvidia_smi.gpus(Asker(fault="no_driver"))
    assert (rows, table.rc) == ([], 9)
    assert table.message.startswith("NVIDIA-SMI has failed because it couldn't communicate with the NVIDIA driver. Make sure")


def test_a_gpu_without_a_handle_is_lost() -> None:
    def ask(arguments: list[str]) -> CommandResult:
        rc, text = DOUBLE.answer({"gpus": [{}]}, arguments)
        more = "Unable to determine the device handle for GPU0000:65:00.0: GPU is lost.  Reboot the system to recover this GPU\n"
        return CommandResult(rc and 15, text + "\n" + more, "")

    rows, _table = _nvidia_smi.gpus(ask)
    assert [(row["pci"], row["lost"]) for row in rows] == [("0000:1a:00.0", False), ("0000:65:00.0", True)]
    assert rows[1]["errors"] == {"handle": "GPU is lost.  Reboot the system to recover this GPU"}


def test_nvidia_smi_that_does_not_end() -> None:
    late = CommandResult(None, "", "/usr/bin/nvidia-smi did not end within 60 s")
    rows, table = _nvidia_smi.gpus(lambda _arguments: late)
    assert (rows, table.rc, table.message) == ([], None, late.stderr)


@pytest.mark.parametrize(
    ("cell", "value", "error"),
    [
        ("34", 34, None),
        ("34.6", 34, None),
        ("[N/A]", None, None),
        ("N/A", None, None),
        ("[Not Supported]", None, None),
        ("", None, None),
        ("[GPU is lost]", None, "GPU is lost"),
        ("[Unknown Error]", None, "Unknown Error"),
        ("ERR!", None, "ERR!"),
        ("inf", None, "inf"),
    ],
)
def test_cells(cell: str, value: int | None, error: str | None) -> None:
    row = read_row([cell], [Field("temperature", "temperature.gpu", _nvidia_smi._whole)])
    assert (row["temperature"], row["errors"].get("temperature")) == (value, error)


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("00000000:1A:00.0", "0000:1a:00.0"),
        ("0000:65:00", "0000:65:00.0"),
        ("65:00.0", "0000:65:00.0"),
        ("00010000:01:00.0", "10000:01:00.0"),
    ],
)
def test_pci_addresses(text: str, address: str) -> None:
    assert pci_address(text) == address


def test_what_is_no_pci_address() -> None:
    with pytest.raises(ValueError, match="GPU"):
        pci_address("GPU")
