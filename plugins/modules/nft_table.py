#!/usr/bin/python
# Copyright (c) 2026, The gpufleet.triton authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: nft_table
short_description: Keep one nftables table of the running kernel as a ruleset says
version_added: 0.2.0
author:
  - The gpufleet.triton authors (@gpufleet)
description:
  - Compares a table that the kernel runs with what a ruleset makes, and loads the ruleset when they differ.
  - The ruleset is first loaded in a network namespace of its own, where no packet passes. That validates it, and gives a listing that
    can be compared with that of the running table. So a table that somebody flushed, or changed by hand, is put back, and a ruleset
    that is only written differently changes nothing.
  - It touches the running kernel only. What is to outlive a reboot needs a file and a unit that loads it, as the role
    P(gpufleet.triton.triton_firewall#role) has them.
attributes:
  check_mode:
    support: full
    description: Can run in C(check_mode) and return the changed status prediction without modifying the target.
    details:
      - Where nft is not installed yet, the table is predicted to be made, and RV(ignore:notes) says that the ruleset was not validated.
  diff_mode:
    support: full
    description: Returns details on what has changed, or what would change in C(check_mode), when in diff mode.
    details:
      - The two listings are those of nft, without the counters.
  idempotent:
    support: full
    description: When run twice in a row outside check mode with the same options, the second call changes nothing.
  platform:
    support: full
    platforms: linux
    description: The operating systems that the module works on.
requirements:
  - nft, and unshare of util-linux, on the host
options:
  family:
    description: The address family of the table.
    type: str
    choices: [ip, ip6, inet, arp, bridge, netdev]
    default: inet
  name:
    description: The name of the table.
    type: str
    required: true
  state:
    description: Whether the table is there with the content of O(ruleset), or isn't there.
    type: str
    choices: [present, absent]
    default: present
  ruleset:
    description:
      - What C(nft -f) loads, of this table alone. Needed with O(state=present).
      - It must replace the table, not add to it, so it begins with C(table inet NAME) and C(delete table inet NAME). nft takes a file as
        one transaction, so there is no moment without the table.
    type: str
seealso:
  - module: gpufleet.triton.host_files
"""

EXAMPLES = r"""
- name: Refuse a port to all but one network
  gpufleet.triton.nft_table:
    name: example
    ruleset: |
      table inet example
      delete table inet example
      table inet example {
        chain input {
          type filter hook input priority filter - 10; policy accept;
          tcp dport 9000 ip saddr != 192.0.2.0/24 drop
        }
      }

- name: Remove it
  gpufleet.triton.nft_table:
    name: example
    state: absent
"""

RETURN = r"""
action:
  description: What was done with the table, or would be done in check mode.
  returned: success
  type: str
  choices: [none, created, changed, removed]
  sample: created
notes:
  description: What check mode could not know, in sentences.
  returned: success
  type: list
  elements: str
  sample: []
diff:
  description: The listings of the table before and after.
  returned: in diff mode
  type: dict
  contains:
    before_header:
      description: The table.
      returned: always
      type: str
      sample: table inet example
    after_header:
      description: The table.
      returned: always
      type: str
      sample: table inet example
    before:
      description: The listing before; empty where there was no table.
      returned: always
      type: str
      sample: ""
    after:
      description: The listing after; empty where there is no table. The ruleset itself where nft is not installed yet.
      returned: always
      type: str
      sample: "table inet example {\n}\n"
"""

import typing as t

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.gpufleet.triton.plugins.module_utils import _nft, _proc

NO_NFT = "nft is not installed on this host"


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "family": {"type": "str", "choices": ["ip", "ip6", "inet", "arp", "bridge", "netdev"], "default": "inet"},
            "name": {"type": "str", "required": True},
            "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
            "ruleset": {"type": "str"},
        },
        required_if=[("state", "present", ["ruleset"])],
        supports_check_mode=True,
    )

    def run(argv: list[str], data: str | None) -> _proc.CommandResult:
        return _proc.run(module.run_command, argv, timeout=60, data=data)

    ruleset: str | None = module.params["ruleset"] if module.params["state"] == "present" else None
    program: str | None = module.get_bin_path("nft")
    table = _nft.Table(module.params["family"], module.params["name"], run, program or "nft")
    notes: list[str] = []
    try:
        if program:
            plan = table.plan(ruleset)
            if plan.action != _nft.NONE and not module.check_mode:
                table.apply(ruleset)
        elif ruleset is None:
            plan = _nft.Plan("", "")
        elif module.check_mode:
            plan = _nft.Plan("", ruleset)
            notes.append(f"Check mode: {NO_NFT} yet, so the ruleset of the table {table} was not validated.")
        else:
            raise _nft.NftError(f"Cannot load the table {table}: {NO_NFT}. Install the package nftables.")
    except _nft.NftError as exc:
        module.fail_json(msg=str(exc))
    result: dict[str, t.Any] = {"changed": plan.action != _nft.NONE, "action": plan.action, "notes": notes}
    if module._diff:  # pylint: disable=protected-access
        header = f"table {table}"
        result["diff"] = {"before_header": header, "after_header": header, "before": plan.before, "after": plan.after}
    module.exit_json(**result)


if __name__ == "__main__":
    main()
