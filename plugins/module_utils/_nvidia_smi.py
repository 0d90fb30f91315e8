# Copyright (c) 2026, The gpufleet.triton authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What nvidia-smi tells of GPUs, cell by cell. Private to the collection; knows nothing of AnsibleModule.

Its exit status is no health check: a lost GPU is a cell of an answer with status 0, and what is wrong is told on standard
output. So texts are read whatever the status is.

Sources: nvidia-smi 550.163.01, its --help-query-gpu and its answers with no driver, no GPU, a lost GPU and an unknown field.
"""

from __future__ import annotations

import contextlib
import re
import typing as t

from ansible_collections.gpufleet.triton.plugins.module_utils._proc import CommandResult

# nvidia-smi's status for an argument that it does not take, an unknown field among them.
_BAD_ARGUMENT = 2
_FORMAT = "--format=csv,noheader,nounits"
_UNKNOWN_FIELD = re.compile(r'Field "([^"]+)" is not a valid field')
_NO_HANDLE = re.compile(r"Unable to determine the device handle for (?:GPU|gpu)\s*([0-9A-Fa-f:.]+): (.+)")
_PCI = re.compile(r"(?:([0-9a-f]+):)?([0-9a-f]{2}):([0-9a-f]{2})(?:\.([0-7]))?\Z")
# A cell that only says that this GPU has no such thing.
_NOTHING = {"n/a", "not supported", "not available", "requested functionality has been deprecated", ""}
_TRUTH = {"enabled": True, "yes": True, "1": True, "disabled": False, "no": False, "0": False}

# Asks nvidia-smi with these arguments.
Ask = t.Callable[[list[str]], CommandResult]
Row = dict[str, t.Any]


def pci_address(text: str) -> str:
    """A PCI address as sysfs writes it. nvidia-smi's has more zeros and capitals, a Xid's has no function."""
    match = _PCI.match(text.strip().lower())
    if match is None:
        raise ValueError(text)
    domain, bus, slot, function = match.groups()
    return f"{int(domain or '0', 16):04x}:{bus}:{slot}.{function or '0'}"


def _truth(text: str) -> bool:
    try:
        return _TRUTH[text.lower()]
    except KeyError:
        raise ValueError(text) from None


def _whole(text: str) -> int:
    return int(float(text))


def _fabric(text: str) -> str:
    # 550 repeats the name of the field in the cell.
    return re.sub(r"\A(?:state|status)\s+", "", text)


class Field(t.NamedTuple):
    """A field of a query: what it is called here, what nvidia-smi calls it, and how its cell is read."""

    key: str
    name: str
    read: t.Callable[[str], t.Any]


FIELDS = (
    Field("index", "index", int),
    Field("uuid", "uuid", str),
    Field("name", "name", str),
    Field("pci", "pci.bus_id", pci_address),
    Field("driver", "driver_version", str),
    Field("memory_total_mib", "memory.total", _whole),
    Field("memory_used_mib", "memory.used", _whole),
    Field("compute_capability", "compute_cap", str),
    Field("compute_mode", "compute_mode", str),
    Field("mig", "mig.mode.current", _truth),
    Field("mig_pending", "mig.mode.pending", _truth),
    Field("ecc", "ecc.mode.current", _truth),
    Field("ecc_pending", "ecc.mode.pending", _truth),
    Field("uncorrected_errors", "ecc.errors.uncorrected.volatile.total", _whole),
    Field("retired_pages_pending", "retired_pages.pending", _truth),
    Field("temperature", "temperature.gpu", _whole),
    Field("persistence", "persistence_mode", _truth),
    Field("reset_required", "reset_status.reset_required", _truth),
    Field("pcie_width", "pcie.link.width.current", _whole),
    Field("pcie_width_max", "pcie.link.width.max", _whole),
    Field("fabric_state", "fabric.state", _fabric),
    Field("fabric_status", "fabric.status", _fabric),
)
# A query of its own: among the fields of a GPU these are an error.
REMAPPED = (
    Field("uuid", "gpu_uuid", str),
    Field("row_remap_pending", "remapped_rows.pending", _truth),
    Field("row_remap_failure", "remapped_rows.failure", _truth),
)


def empty_gpu() -> Row:
    row: Row = dict.fromkeys(field.key for field in (*FIELDS, *REMAPPED))
    row.update(lost=False, errors={})
    return row


def read_row(cells: t.Sequence[str], fields: t.Sequence[Field]) -> Row:
    """One GPU. A cell that says what went wrong, instead of a value, goes to the row's errors."""
    row: Row = {"errors": {}}
    for field, cell in zip(fields, cells):
        row[field.key] = None
        bracketed = cell.startswith("[") and cell.endswith("]")
        text = cell[1:-1] if bracketed else cell
        if text.lower() in _NOTHING:
            continue
        try:
            if bracketed:
                raise ValueError(text)
            row[field.key] = field.read(text)
        except (ValueError, OverflowError):
            row["errors"][field.key] = text
    return row


class Table(t.NamedTuple):
    """The answer to one query: rows, the lines that are none, its status, and the fields that this nvidia-smi doesn't know."""

    rows: list[Row]
    lines: list[str]
    rc: int | None
    unknown: list[str]

    @property
    def message(self) -> str:
        return " ".join(" ".join(self.lines).split())


def _rows(text: str, fields: t.Sequence[Field]) -> tuple[list[Row], list[str]]:
    rows, others = [], []
    for line in text.splitlines():
        cells = [cell.strip() for cell in line.split(",")]
        # A sentence may have as many commas as one or two fields would.
        if len(cells) == len(fields) and (len(fields) > 2 or line[:1].isdigit()):
            rows.append(read_row(cells, fields))
        elif line.strip():
            others.append(line.strip())
    return rows, others


def query(ask: Ask, option: str, fields: t.Sequence[Field]) -> Table:
    """Ask for these fields. One that this nvidia-smi doesn't know makes it tell nothing, so it's asked again without."""
    wanted, unknown = list(fields), []
    while True:
        result = ask([f"{option}={','.join(field.name for field in wanted)}", _FORMAT])
        refused = _UNKNOWN_FIELD.search(result.stdout + result.stderr) if result.rc == _BAD_ARGUMENT else None
        left = [field for field in wanted if refused is None or field.name != refused.group(1)]
        if refused is None or not left or len(left) == len(wanted):
            break
        unknown.append(refused.group(1))
        wanted = left
    if result.rc == _BAD_ARGUMENT and len(wanted) > 2:
        return _one_by_one(ask, option, wanted, unknown, result)
    rows, others = _rows(result.stdout, wanted)
    return Table(rows, others + result.stderr.splitlines(), result.rc, unknown)


def _one_by_one(ask: Ask, option: str, fields: t.Sequence[Field], unknown: list[str], refusal: CommandResult) -> Table:
    """For an nvidia-smi that refuses a field and does not say which: each is asked for beside the first."""
    first = fields[0]
    merged: list[Row] = []
    rc, lines = refusal.rc, refusal.stdout.splitlines()
    for field in fields[1:]:
        result = ask([f"{option}={first.name},{field.name}", _FORMAT])
        if result.rc == _BAD_ARGUMENT:
            unknown.append(field.name)
            continue
        rows, others = _rows(result.stdout, (first, field))
        merged = merged or [{"errors": {}} for _row in rows]
        for known, row in zip(merged, rows):
            errors = {**known["errors"], **row["errors"]}
            known.update(row, errors=errors)
        rc, lines = result.rc, others + result.stderr.splitlines()
    return Table(merged, lines, rc, unknown)


def _is_lost(row: Row) -> bool:
    return any("lost" in text.lower() or "fallen off" in text.lower() for text in row["errors"].values())


def gpus(ask: Ask) -> tuple[list[Row], Table]:
    """Every GPU that the driver knows of, lost ones as well, and how nvidia-smi answered."""
    table = query(ask, "--query-gpu", FIELDS)
    found = []
    for row in table.rows:
        found.append({**empty_gpu(), **row, "lost": _is_lost(row)})
    for match in filter(None, map(_NO_HANDLE.search, table.lines)):
        with contextlib.suppress(ValueError):
            found.append({**empty_gpu(), "pci": pci_address(match.group(1)), "lost": True, "errors": {"handle": match.group(2)}})
    if any(row["uuid"] for row in found):
        remapped = {row["uuid"]: row for row in query(ask, "--query-remapped-rows", REMAPPED).rows}
        for row in found:
            more = remapped.get(row["uuid"], {})
            row["row_remap_pending"] = more.get("row_remap_pending")
            row["row_remap_failure"] = more.get("row_remap_failure")
    return found, table
