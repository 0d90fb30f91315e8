#!/usr/bin/python
# Copyright (c) 2026, The gpufleet.triton authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: docker_daemon_config
short_description: Merge settings into Docker's daemon.json, or take them out
version_added: 0.2.0
author:
  - The gpufleet.triton authors (@gpufleet)
description:
  - Brings single settings of Docker's C(daemon.json) to what is wanted, and leaves every other one alone. The file's order,
    indentation and spelling stay, because its text is edited only where a value differs. What was merged in and is taken
    out again leaves the file as it was, byte for byte.
  - Objects are merged key by key, so a runtime or a feature is added beside those that are there. Everything else, lists
    too, is replaced. Name all elements of a list that is to grow.
  - Before the file is replaced, C(dockerd --validate) must accept the new content, together with the arguments that
    dockerd runs with on this host. So a setting that is also an argument of dockerd, such as C(hosts) beside C(-H), is
    refused in dockerd's own words.
  - A file that is not JSON, one with comments in it too, is refused with the line and the column, and left as it is.
  - The module never reloads or restarts Docker. It tells whether a reload is enough.
  - C(dockerd --validate) does not know everything. A runtime that is not installed, or an option that the log driver does
    not know, only shows when dockerd starts. Keep the backup until it has.
attributes:
  check_mode:
    support: full
    description: Can run in C(check_mode) and return the changed status prediction without modifying the target.
    details:
      - The new content is validated in check mode too.
  diff_mode:
    support: full
    description: Returns details on what has changed, or what would change in C(check_mode), when in diff mode.
    details:
      - Credentials in URLs, and values whose names speak of a token, a password or a secret, are shown as C(****).
  idempotent:
    support: full
    description: When run twice in a row outside check mode with the same options, the second call changes nothing.
  platform:
    support: full
    platforms: posix
    description: The operating systems that the module works on.
options:
  path:
    description:
      - The file. Its folder is made when it is missing.
      - When dockerd runs with C(--config-file) and another file, the module fails and names it.
    type: path
    default: /etc/docker/daemon.json
  state:
    description:
      - With V(present) the file has O(settings).
      - With V(absent) it has none of O(keys), and none of the keys that lead to a value in O(settings), whatever their
        values are. An object that is empty because of it goes too. One that was empty before stays. A file that is not
        there is not made, and one that is there is never removed.
    type: str
    choices: [present, absent]
    default: present
  settings:
    description:
      - What the file must have, in the structure of C(daemon.json).
      - A value of null is refused. Use O(state=absent) to take a key out.
      - Values are not converted. Those of C(log-opts) are texts even where they look like numbers, so put them in quotes.
    type: dict
  keys:
    description:
      - Paths of keys that must not be in the file, with O(state=absent). The names on a path have a dot between them,
        as in V(log-opts.max-size).
      - A name that has a dot itself stands in double quotes, as in V(runtimes."io.containerd.kata.v2").
    type: list
    elements: str
  backup:
    description: Keep the file that is replaced, with the time in its name, beside the new one.
    type: bool
    default: true
  follow:
    description: Accept a symbolic link at O(path) and work on what it points to. Otherwise a link is refused.
    type: bool
    default: false
  validate:
    description:
      - Let C(dockerd --validate) look at the new content before the file is replaced. Where dockerd is not installed, or
        is older than 23.0, RV(notes) says that it did not.
    type: bool
    default: true
  pidfile:
    description: Where the dockerd that runs has written its process id. Its arguments are read from that process.
    type: path
    default: /var/run/docker.pid
  unit:
    description: The systemd unit whose arguments count while no dockerd runs.
    type: str
    default: docker.service
  pending_file:
    description:
      - A file in which the module notes what the dockerd that runs has not taken yet, before it replaces O(path). With it
        RV(pending) also knows what earlier calls have changed, so that a play finishes what one before it left undone.
      - A note ends with the dockerd that it was made for. After a reload, remove the file.
      - Put it below C(/run), which a boot empties.
    type: path
seealso:
  - module: gpufleet.triton.host_files
  - name: Configuration reload behavior
    description: What dockerd takes on a reload.
    link: https://docs.docker.com/reference/cli/dockerd/#configuration-reload-behavior
"""

EXAMPLES = r"""
- name: Rotate the logs of containers, and keep them running while Docker restarts
  gpufleet.triton.docker_daemon_config:
    settings:
      live-restore: true
      log-driver: json-file
      log-opts:
        max-size: 100m
        max-file: "5"
  register: daemon

- name: Reload Docker where that is enough
  ansible.builtin.systemd_service:
    name: docker.service
    state: reloaded
  when: daemon.reload_enough

- name: Add a runtime beside those that are there
  gpufleet.triton.docker_daemon_config:
    settings:
      runtimes:
        nvidia:
          path: nvidia-container-runtime
          args: []

- name: Take it out again
  gpufleet.triton.docker_daemon_config:
    state: absent
    keys: [runtimes.nvidia]
"""

RETURN = r"""
file:
  description: The file, without a symbolic link at its end when links are followed.
  returned: success
  type: str
  sample: /etc/docker/daemon.json
changed_keys:
  description: Paths of all values that were changed, or would be in check mode, written as in O(keys).
  returned: success
  type: list
  elements: str
  sample: [live-restore, log-opts.max-size]
restart_keys:
  description: Those of RV(changed_keys) that dockerd takes only when it starts.
  returned: success
  type: list
  elements: str
  sample: [log-opts.max-size]
restart_needed:
  description:
    - Whether dockerd must be started again to take what this call has changed.
    - A key that leaves the file mostly needs that even where a new value would not, because a reload looks only at what
      the file has.
  returned: success
  type: bool
  sample: true
reload_enough:
  description: Whether something was changed, and a reload makes dockerd take all of it. False when nothing was changed.
  returned: success
  type: bool
  sample: false
pending:
  description:
    - What the dockerd that runs needs to take what this call, and those noted in O(pending_file), have changed. It is one
      of C(none), C(reload) and C(restart).
    - C(none) where no dockerd runs, as it reads the file when it starts.
  returned: success
  type: str
  sample: restart
pending_keys:
  description: Paths of the values that RV(pending) is about.
  returned: success
  type: list
  elements: str
  sample: [live-restore, log-opts.max-size]
created:
  description: Whether there was no file before.
  returned: success
  type: bool
  sample: false
backup_file:
  description: Where the replaced file was kept.
  returned: when a backup was made
  type: str
  sample: /etc/docker/daemon.json.2026-01-31@12:00:00~
validated:
  description: Whether dockerd has accepted the new content. False when nothing was to be changed.
  returned: success
  type: bool
  sample: true
notes:
  description: What could not be known, in sentences.
  returned: success
  type: list
  elements: str
  sample: []
diff:
  description: The differences of content and of attributes.
  returned: in diff mode
  type: list
  elements: dict
  contains:
    before_header:
      description: The path.
      returned: always
      type: str
      sample: /etc/docker/daemon.json
    after_header:
      description: The path.
      returned: always
      type: str
      sample: /etc/docker/daemon.json
    before:
      description: The content or the attributes before.
      returned: always
      type: str
      sample: "{}\n"
    after:
      description: The content or the attributes after.
      returned: always
      type: str
      sample: "{\n  \"live-restore\": true\n}\n"
"""

import typing as t
from functools import partial

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.gpufleet.triton.plugins.module_utils import _daemon_config, _daemon_json, _files, _proc

# A user's PATH may lack where dockerd and its helpers are.
SYSTEM_PATH = "/usr/sbin:/sbin"


class DockerDaemonConfigModule(AnsibleModule):
    """An AnsibleModule that keeps the credentials in settings out of the target's system log and out of its answers."""

    def _log_invocation(self) -> None:
        self.log("Invoked with path {} and state {}".format(self.params["path"], self.params["state"]))

    def exit_json(self, **kwargs: t.Any) -> t.NoReturn:
        self._hide_secrets()
        super().exit_json(**kwargs)

    def fail_json(self, msg: str, **kwargs: t.Any) -> t.NoReturn:
        self._hide_secrets()
        super().fail_json(_daemon_json.mask(msg), **kwargs)

    def _hide_secrets(self) -> None:
        """The parameters come back in the answer of a verbose run."""
        if self.params.get("settings"):
            self.params["settings"] = _daemon_json.mask_value(self.params["settings"])


def main() -> None:
    module = DockerDaemonConfigModule(
        argument_spec={
            "path": {"type": "path", "default": "/etc/docker/daemon.json"},
            "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
            "settings": {"type": "dict"},
            "keys": {"type": "list", "elements": "str", "no_log": False},
            "backup": {"type": "bool", "default": True},
            "follow": {"type": "bool", "default": False},
            "validate": {"type": "bool", "default": True},
            "pidfile": {"type": "path", "default": "/var/run/docker.pid"},
            "unit": {"type": "str", "default": "docker.service"},
            "pending_file": {"type": "path"},
        },
        required_if=[("state", "present", ["settings"]), ("state", "absent", ["settings", "keys"], True)],
        supports_check_mode=True,
    )
    if module.params["state"] == "present" and module.params["keys"]:
        module.fail_json(
            msg="Cannot use 'keys' with 'state: present': they name what must not be there. Set 'state: absent', or leave them out."
        )
    run = partial(_proc.run, partial(module.run_command, path_prefix=SYSTEM_PATH))
    dockerd = module.get_bin_path("dockerd")
    try:
        options = _daemon_config.Options(**module.params)
        outcome = _daemon_config.configure(options, run, dockerd, module.check_mode, module.tmpdir)
        path = _files.normalise(_files.FileSpec(options.path, follow=options.follow))
    except (_daemon_config.ConfigError, _files.FilesError) as exc:
        module.fail_json(msg=str(exc))
    result: dict[str, t.Any] = {
        "changed": outcome.plan.changed,
        "file": path,
        "changed_keys": outcome.keys,
        "restart_keys": outcome.restart_keys,
        "restart_needed": bool(outcome.restart_keys),
        "reload_enough": bool(outcome.keys) and not outcome.restart_keys,
        "pending": outcome.pending,
        "pending_keys": outcome.pending_keys,
        "created": outcome.created,
        "validated": outcome.validated,
        "notes": outcome.notes,
    }
    if outcome.backup_file:
        result["backup_file"] = outcome.backup_file
    # A list of differences is what the default callback shows one by one.
    if module._diff:  # pylint: disable=protected-access
        result["diff"] = _daemon_config.diff(outcome)
    module.exit_json(**result)


if __name__ == "__main__":
    main()
