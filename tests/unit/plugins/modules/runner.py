# Copyright (c) 2026, The gpufleet.triton authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Run a module as Ansible does, with a scripted transport in place of the network."""

from __future__ import annotations

import importlib
import json
import typing as t

import pytest
from ansible.module_utils import _internal
from ansible.module_utils.common import warnings
from ansible.module_utils.testing import patch_module_args
from ansible_collections.gpufleet.triton.plugins.module_utils import _argspec
from ansible_collections.gpufleet.triton.plugins.module_utils._client import TritonClient
from ansible_collections.gpufleet.triton.tests.unit.plugins.module_utils.scripted import Script


class Runner:
    """Call it with a module's name, its arguments and the script; it returns the module's result."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
        self.monkeypatch = monkeypatch
        self.capsys = capsys

    def __call__(
        self,
        name: str,
        args: dict[str, t.Any],
        script: Script | None = None,
        check: bool = False,
        diff: bool = False,
    ) -> dict[str, t.Any]:
        module = importlib.import_module(f"ansible_collections.gpufleet.triton.plugins.modules.{name}")
        # A module is a process of its own, on a target: what another one warned of is not its own, and that the test of a
        # filter in this session has loaded the controller's side of Ansible has no say.
        self.monkeypatch.setattr(warnings, "_global_warnings", {})
        self.monkeypatch.setattr(_internal, "is_controller", False)
        if script is not None:
            self.monkeypatch.setattr(
                _argspec,
                "connect",
                lambda options: TritonClient(script, options.admin_header, bool(options.admin_key)),
            )
        with patch_module_args({**args, "_ansible_check_mode": check, "_ansible_diff": diff}), pytest.raises(SystemExit):
            module.main()
        if script is not None:
            script.finish()
        result: dict[str, t.Any] = json.loads(self.capsys.readouterr().out)
        result.pop("invocation", None)
        return result
