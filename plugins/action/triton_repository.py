# Copyright (c) 2026, The gpufleet.triton authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The controller's part of triton_repository: it reads and checks the models, and sends a host what that lacks."""

from __future__ import annotations

import os
import typing as t

from ansible import constants as C
from ansible.errors import AnsibleError
from ansible.plugins.action import ActionBase
from ansible.utils.display import Display
from ansible_collections.gpufleet.triton.plugins.module_utils._repository_options import HOST_OPTIONS
from ansible_collections.gpufleet.triton.plugins.plugin_utils._publication import Publication

MODULE = "gpufleet.triton.triton_repository"

display = Display()


class ActionModule(ActionBase):
    # Several steps on the host and the controller's own work between them cannot go on without the controller.
    _supports_async = False
    _supports_check_mode = True
    _requires_connection = True

    def run(self, tmp: str | None = None, task_vars: dict[str, t.Any] | None = None) -> dict[str, t.Any]:
        super().run(tmp, task_vars)
        return Publication(self._task.args, _Host(self, task_vars or {}), verify, populate).run()


class _Host:
    """The host that a task is for, by way of Ansible's connection to it."""

    def __init__(self, action: ActionModule, task_vars: dict[str, t.Any]) -> None:
        self._action = action
        self._vars = task_vars
        self._name = str(task_vars.get("inventory_hostname", ""))
        delegate = action._task.delegate_to
        if delegate:
            self._name += f" -> {delegate}"
        self.check_mode = bool(action._task.check_mode)
        self.diff = bool(action._task.diff)
        self.local_tmp = C.DEFAULT_LOCAL_TMP

    def call(self, request: dict[str, t.Any]) -> dict[str, t.Any]:
        given = {name: self._action._task.args[name] for name in HOST_OPTIONS if name in self._action._task.args}
        args = {**given, "_request": request}
        answer = self._action._execute_module(module_name=MODULE, module_args=args, task_vars=self._vars)
        # It repeats the request: long, and with the headers that lead to the sources.
        answer.pop("invocation", None)
        return answer

    def put(self, source: str, target: str) -> None:
        self._action._transfer_file(source, target)

    def denied(self, error: Exception) -> bool:
        """Whether the login may not write there. Connections say so in words alone."""
        seen: BaseException | None = error
        while seen is not None:
            if isinstance(seen, PermissionError) or "ermission denied" in str(seen):
                return isinstance(error, AnsibleError | PermissionError)
            seen = seen.__cause__ or seen.__context__
        return False

    def login_uid(self) -> int | None:
        """The user who writes the files that are sent, if it is not the one whom modules run as."""
        if self._action._connection.become is None:
            return None
        answer = self._action._low_level_execute_command("id -u", sudoable=False)
        text = str(answer.get("stdout", "")).strip()
        return int(text) if text.isdigit() else None

    def temporary_folder(self) -> str:
        return str(self._action._connection._shell.tmpdir or self._action._make_tmp_path())

    def make_readable(self, folder: str, names: t.Sequence[str]) -> None:
        shell = self._action._connection._shell
        self._action._fixup_perms2([folder, *(shell.join_path(folder, name) for name in names)])

    def find(self, path: str) -> str | None:
        """Where a path of the controller is, as Ansible looks for files, and then beside the playbook and the inventory."""
        try:
            return str(self._action._find_needle("files", path))
        except AnsibleError:
            pass
        for name in ("playbook_dir", "inventory_dir"):
            base = self._vars.get(name)
            if base and os.path.exists(os.path.join(base, path)):
                return os.path.join(base, path)
        return None

    def say(self, text: str) -> None:
        display.display(f"{self._name}: {text}")

    def warn(self, text: str) -> None:
        display.warning(text)


def verify(*args: t.Any, **kwargs: t.Any) -> None:
    # Needs a library that only those have who check signatures.
    from ansible_collections.gpufleet.triton.plugins.plugin_utils import _signature

    _signature.verify(*args, **kwargs)


def populate(*args: t.Any, **kwargs: t.Any) -> str:
    from ansible_collections.gpufleet.triton.plugins.module_utils import _sources

    return str(_sources.populate(*args, **kwargs))
