#!/usr/bin/python
# Copyright (c) 2026, The gpufleet.triton authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: host_files
short_description: Lay out directories and files on a host, all in one call
version_added: 0.1.0
author:
  - The gpufleet.triton authors (@gpufleet)
description:
  - Makes directories, writes files and removes paths, as many as a role needs, in one module call.
  - Everything is compared and validated first. Only when the whole list is right is anything touched, so a refused
    file leaves the host as it was.
  - A file is replaced atomically. Its new content is written beside it, made durable and then renamed over the old one.
  - Directories are made first, then files are written in the order of the list, and removals come last.
  - Extended attributes and access control lists of a replaced file are not carried over.
attributes:
  check_mode:
    support: full
    description: Can run in C(check_mode) and return the changed status prediction without modifying the target.
    details:
      - Works on a host where nothing is installed yet. Missing parent folders, unknown users and groups, and missing
        validation programs are reported in RV(ignore:notes) instead of failing.
  diff_mode:
    support: full
    description: Returns details on what has changed, or what would change in C(check_mode), when in diff mode.
    details:
      - Content of sensitive and generated files is never shown.
  idempotent:
    support: full
    description: When run twice in a row outside check mode with the same options, the second call changes nothing.
  platform:
    support: full
    platforms: posix
    description: The operating systems that the module works on.
options:
  files:
    description:
      - What must be there or must not be there. A path may be listed only once.
    type: list
    elements: dict
    required: true
    suboptions:
      path:
        description:
          - Absolute path.
          - The parent folder must exist or be listed too. Folders that are not listed are never made, so that each has
            an owner and a mode that somebody chose.
          - A symbolic link at this path is refused, see O(files[].follow). Links in the folders above it are used as
            they are.
        type: str
        required: true
      state:
        description:
          - With V(file) and V(directory) it exists with the wanted content and attributes.
          - With V(absent) it does not exist. A symbolic link is removed, never what it points to. A directory with
            something in it is removed only with O(files[].force=true), and never when something is mounted in it.
        type: str
        choices: [file, directory, absent]
        default: file
      content:
        description:
          - The whole content of the file.
          - Without O(files[].content) and O(files[].generate) a missing file is made empty and the content of an
            existing one stays.
        type: str
      generate:
        description:
          - Makes a secret from this number of random bytes, written in the URL-safe base64 alphabet and ended by a
            line feed, when the file does not exist or is empty. An existing secret stays.
          - The secret is never returned and never shown in a diff.
        type: int
      owner:
        description: Name or numeric id of the owner. By default a new file belongs to the user that runs the module.
        type: str
      group:
        description: Name or numeric id of the group.
        type: str
      mode:
        description:
          - The permissions as four octal digits in quotes, for example V('0640').
          - By default a new directory gets V('0755'), a new file V('0644'), a new sensitive or generated file
            V('0600'). What exists keeps its mode.
        type: str
      sensitive:
        description: The content is a secret. It is kept out of the diff, the result and the system log.
        type: bool
        default: false
      validate:
        description:
          - A command that must accept the new content before anything is replaced, as a list of words or as a text
            that is split into words. No shell runs it, so variables, pipes and wildcards mean nothing.
          - V(%s) stands for the path of a copy of the file under its own name in a private folder. The other listed
            files of the same folder lie beside it with their new content, and what else the folder holds is linked
            there, so that relative names work.
          - It runs when this file, or another listed file of the same folder, gets new content. It is ended after two
            minutes.
          - When the program does not exist, a real run fails and check mode only notes it.
        type: raw
      backup:
        description: Keep the replaced content in a file with the time in its name, beside the new one.
        type: bool
        default: false
      create_only:
        description: Write O(files[].content) only when the file does not exist. Owner, group and mode are kept right
          in any case.
        type: bool
        default: false
      follow:
        description:
          - Accept a symbolic link at O(files[].path) and work on what it points to.
          - Off by default, because replacing a link cuts off what it points to, and writing through one changes a file
            that nobody named.
          - It has no effect with O(files[].state=absent).
        type: bool
        default: false
      force:
        description: Allow O(files[].state=absent) to remove a directory with everything in it.
        type: bool
        default: false
seealso:
  - module: gpufleet.triton.triton_host_info
"""

EXAMPLES = r"""
- name: Lay out the folder of a service
  gpufleet.triton.host_files:
    files:
      - path: /etc/gpufleet
        state: directory
        mode: "0755"
      - path: /etc/gpufleet/triton
        state: directory
        mode: "0750"
      - path: /etc/gpufleet/triton/compose.yml
        content: "{{ lookup('ansible.builtin.template', 'compose.yml.j2') }}"
        mode: "0640"
        validate: [docker, compose, --file, "%s", config, --quiet]
      - path: /etc/gpufleet/triton/admin.key
        generate: 32
        group: "1000"
        mode: "0640"
      - path: /etc/gpufleet/triton/old.yml
        state: absent
  register: layout

- name: Tell whether the service has to be restarted
  ansible.builtin.debug:
    msg: The compose file changed
  when: "'/etc/gpufleet/triton/compose.yml' in layout.changed_paths"
"""

RETURN = r"""
files:
  description: One row for each entry of O(files), in the same order.
  returned: success
  type: list
  elements: dict
  contains:
    path:
      description: The path, without a symbolic link at its end when the entry follows links.
      returned: always
      type: str
      sample: /etc/gpufleet/triton/compose.yml
    action:
      description:
        - What was done, or would be done in check mode.
        - C(changed) is new content, C(attributes) is a new owner, group or mode with the content untouched.
      returned: always
      type: str
      choices: [none, created, changed, removed, attributes]
      sample: created
    backup_file:
      description: Where the replaced content was kept.
      returned: when a backup was made
      type: str
      sample: /etc/gpufleet/triton/compose.yml.2026-01-31@12:00:00~
changed_paths:
  description: The paths whose action is not C(none).
  returned: success
  type: list
  elements: str
  sample: [/etc/gpufleet/triton/compose.yml]
notes:
  description: What check mode could not know, in sentences.
  returned: success
  type: list
  elements: str
  sample: []
diff:
  description: The differences, one for each content and each set of attributes that differ.
  returned: in diff mode
  type: list
  elements: dict
  contains:
    before_header:
      description: The path.
      returned: always
      type: str
      sample: /etc/gpufleet/triton/compose.yml
    after_header:
      description: The path.
      returned: always
      type: str
      sample: /etc/gpufleet/triton/compose.yml
    before:
      description: The content or the attributes before.
      returned: always
      type: str
      sample: "a\n"
    after:
      description: The content or the attributes after.
      returned: always
      type: str
      sample: "b\n"
"""

import typing as t
from functools import partial

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.gpufleet.triton.plugins.module_utils import _files, _proc

FILE_OPTIONS: dict[str, dict[str, t.Any]] = {
    "path": {"type": "str", "required": True},
    "state": {"type": "str", "choices": ["file", "directory", "absent"], "default": "file"},
    "content": {"type": "str"},
    "generate": {"type": "int"},
    "owner": {"type": "str"},
    "group": {"type": "str"},
    "mode": {"type": "str"},
    "sensitive": {"type": "bool", "default": False},
    "validate": {"type": "raw"},
    "backup": {"type": "bool", "default": False},
    "create_only": {"type": "bool", "default": False},
    "follow": {"type": "bool", "default": False},
    "force": {"type": "bool", "default": False},
}
MINIMUM_SECRET_BYTES = 16


class HostFilesModule(AnsibleModule):
    """An AnsibleModule that keeps all content out of the target's system log, and sensitive content out of its answers."""

    def _log_invocation(self) -> None:
        self.log("Invoked with paths {}".format(" ".join(str(entry["path"]) for entry in self.params["files"])))

    def exit_json(self, **kwargs: t.Any) -> t.NoReturn:
        self._hide_content()
        super().exit_json(**kwargs)

    def fail_json(self, msg: str, **kwargs: t.Any) -> t.NoReturn:
        self._hide_content()
        super().fail_json(msg, **kwargs)

    def _hide_content(self) -> None:
        """The parameters come back in the answer of a verbose run."""
        entries = self.params.get("files")
        for entry in entries if isinstance(entries, list) else []:
            if isinstance(entry, dict) and entry.get("sensitive") and entry.get("content"):
                entry["content"] = "VALUE_SPECIFIED_IN_NO_LOG_PARAMETER"


def read_specs(module: AnsibleModule) -> list[_files.FileSpec]:
    specs = [_files.FileSpec(**entry) for entry in module.params["files"]]
    for spec in specs:
        if spec.generate is not None and spec.generate < MINIMUM_SECRET_BYTES:
            raise _files.FilesError(
                f"Cannot generate the secret {spec.path} from {spec.generate} bytes: wanted {MINIMUM_SECRET_BYTES} or more."
            )
    return specs


def main() -> None:
    module = HostFilesModule(
        argument_spec={
            "files": {
                "type": "list",
                "elements": "dict",
                "required": True,
                "options": FILE_OPTIONS,
                "mutually_exclusive": [("content", "generate")],
            },
        },
        supports_check_mode=True,
    )
    try:
        specs = read_specs(module)
        plan = _files.plan(specs, module.check_mode)
        _files.validate(plan, partial(_proc.run, module.run_command), module.check_mode, module.tmpdir)
        if not module.check_mode:
            _files.apply(plan)
    except _files.FilesError as exc:
        module.fail_json(msg=str(exc))
    result: dict[str, t.Any] = {
        "changed": plan.changed,
        "files": _files.report(plan),
        "changed_paths": plan.changed_paths(),
        "notes": plan.notes,
    }
    # A list of differences is what the default callback shows one by one.
    if module._diff:  # pylint: disable=protected-access
        result["diff"] = _files.diff(plan)
    module.exit_json(**result)


if __name__ == "__main__":
    main()
