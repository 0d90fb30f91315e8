# Copyright (c) 2026, The gpufleet.triton authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Count the modules that a play really executes, by host.

A task is no measure: one `copy` executes several modules, `debug` none, a loop one for each item. So this counts where
all of them pass through, in the workers too, which are forked after this plugin is loaded.
"""

from __future__ import annotations

import os
import typing as t

from ansible.plugins.action import ActionBase
from ansible.plugins.callback import CallbackBase

DOCUMENTATION = """
name: count_modules
type: aggregate
short_description: Count the modules that a play executes
description: Appends a line "host module" to the file that E(GPUFLEET_COUNT_MODULES) names, for each module that is executed.
"""

execute_module = ActionBase._execute_module


def counted(self: ActionBase, module_name: str | None = None, *args: t.Any, **kwargs: t.Any) -> t.Any:
    host = (kwargs.get("task_vars") or {}).get("inventory_hostname", "-")
    # Lines this short are appended as a whole, whichever worker writes.
    with open(os.environ["GPUFLEET_COUNT_MODULES"], "a", encoding="utf-8") as calls:
        calls.write(f"{host} {module_name or self._task.action}\n")
    return execute_module(self, module_name, *args, **kwargs)


class CallbackModule(CallbackBase):
    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "aggregate"
    CALLBACK_NAME = "count_modules"
    CALLBACK_NEEDS_ENABLED = True


ActionBase._execute_module = counted
