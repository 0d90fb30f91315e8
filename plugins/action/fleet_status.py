# Copyright (c) 2026, The gpufleet.triton authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The status of a fleet on the controller: printed, written, and a failure if somebody asked for one."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
import typing as t

from ansible import constants as C
from ansible.plugins.action import ActionBase
from ansible.utils.display import Display
from ansible_collections.gpufleet.triton.plugins.plugin_utils import _status, _status_report

FACT = "triton_models_status"

display = Display()


class ActionModule(ActionBase):
    _supports_async = False
    _supports_check_mode = True
    # Nothing is asked of the host that the task happens to run for.
    _requires_connection = False

    def run(self, tmp: str | None = None, task_vars: dict[str, t.Any] | None = None) -> dict[str, t.Any]:
        super().run(tmp, task_vars)
        _unused, options = self.validate_argument_spec(
            argument_spec={
                "hosts": {"type": "list", "elements": "str", "required": True},
                "html": {"type": "path"},
                "json": {"type": "str"},
                "only_problems": {"type": "bool", "default": False},
                "fail_on_drift": {"type": "bool", "default": False},
            }
        )
        hostvars = (task_vars or {}).get("hostvars", {})
        fleet = _status.fleet_status([_of_host(hostvars, name) for name in options["hosts"]])
        result: dict[str, t.Any] = {
            "changed": False,
            "differs": fleet["differs"],
            "drift": _status_report.drift(fleet),
            "summary": fleet["summary"],
            "html": None,
            "json": None,
        }
        data = json.dumps(fleet, separators=(",", ":"))
        if options["json"] == "-":
            display.display(data)
        else:
            self._show(fleet, options["only_problems"])
        for name, path, text in (("html", options["html"], _status_report.page), ("json", options["json"], lambda _fleet: data + "\n")):
            if not path or (name == "json" and path == "-"):
                continue
            try:
                result[name] = _write(path, text(fleet))
            except OSError as error:
                result["failed"] = True
                result["msg"] = f"Cannot write the status to {path} on the controller: {error.strerror}. Choose another path."
                return result
            if options["json"] != "-":
                display.display(f"{name.upper():<5} {result[name]}")
        if options["fail_on_drift"] and fleet["differs"]:
            result["failed"] = True
            result["msg"] = "\n".join(["The fleet differs from the inventory:", *(f"- {text}" for text in result["drift"])])
        return result

    def _show(self, fleet: _status.Facts, only_problems: bool) -> None:
        colours = {
            "ok": C.COLOR_OK,
            "note": C.COLOR_SKIP,
            "differs": C.COLOR_CHANGED,
            "failed": C.COLOR_ERROR,
        }
        # A pipe or a file has no width; what reads it folds lines itself.
        width = shutil.get_terminal_size((160, 24)).columns
        for text, level in _joined(_status_report.table(fleet, width, only_problems)):
            display.display(text, color=colours.get(level))


def _of_host(hostvars: t.Mapping[str, t.Any], name: str) -> _status.Facts:
    try:
        status = hostvars[name].get(FACT)
    except KeyError:
        status = None
    if isinstance(status, t.Mapping) and "models" in status:
        return _status.plain(status)
    return _status.unseen(name, "This host left the play before it was looked at: see the play's output.")


def _joined(lines: list[_status_report.Line]) -> t.Iterator[_status_report.Line]:
    """Join neighbours of one colour: each line that is shown by itself is a message between two processes."""
    block: list[str] = []
    level = ""
    for text, of_line in lines:
        if block and of_line != level:
            yield "\n".join(block), level
            block = []
        block.append(text)
        level = of_line
    if block:
        yield "\n".join(block), level


def _write(path: str, text: str) -> str:
    """Write a file as a whole: what serves the page never reads half of it. Return its absolute path."""
    path = os.path.abspath(os.path.expanduser(path))
    handle, draft = tempfile.mkstemp(prefix=".", suffix=".new", dir=os.path.dirname(path))
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            # The mode that the file would have been made with; mkstemp's is for its owner alone.
            umask = os.umask(0)
            os.umask(umask)
            os.fchmod(file.fileno(), 0o666 & ~umask)
            file.write(text)
        os.replace(draft, path)
    except BaseException:
        os.unlink(draft)
        raise
    return path
