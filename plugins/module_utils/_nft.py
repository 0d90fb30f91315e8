# Copyright (c) 2026, The gpufleet.triton authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""One nftables table: what it is, what a ruleset would make of it, and the way there. Private; knows nothing of AnsibleModule.

A ruleset and what the kernel runs can't be compared as texts: nft sorts, merges and abbreviates. So the ruleset is loaded in
a network namespace of its own, where no packet passes, and the two listings of the same nft are compared.
"""

from __future__ import annotations

import dataclasses
import typing as t

from ansible_collections.gpufleet.triton.plugins.module_utils._proc import CommandResult

NONE = "none"
CREATED = "created"
CHANGED = "changed"
REMOVED = "removed"

# Runs a command with a text as its standard input.
Run = t.Callable[["list[str]", "str | None"], CommandResult]

# nft is "$0"; its listings are without the counters, which differ from moment to moment.
_TRY = '"$0" --file - && exec "$0" --stateless list table "$1" "$2"'
_NO_SUCH_TABLE = "No such file or directory"


class NftError(Exception):
    """Something that the caller must put right; the text says what and how."""


@dataclasses.dataclass
class Plan:
    """The table's listing now and as wanted; an empty text is no table."""

    before: str
    after: str

    @property
    def action(self) -> str:
        if self.before == self.after:
            return NONE
        if not self.before:
            return CREATED
        return CHANGED if self.after else REMOVED


@dataclasses.dataclass
class Table:
    """A table by its family and name, and the nft that knows it."""

    family: str
    name: str
    run: Run
    program: str = "nft"

    def __str__(self) -> str:
        return f"{self.family} {self.name}"

    def listed(self) -> str:
        """The table as the kernel has it now."""
        done = self.run([self.program, "--stateless", "list", "table", self.family, self.name], None)
        if done.ok:
            return done.stdout
        if done.rc is not None and _NO_SUCH_TABLE in done.stderr:
            return ""
        raise NftError(
            f"Cannot list the table {self}: {done.cause()}. It takes root, in a container CAP_NET_ADMIN, and a kernel with nf_tables."
        )

    def previewed(self, ruleset: str) -> str:
        """The table that a ruleset makes."""
        done = self.run(["unshare", "--net", "sh", "-c", _TRY, self.program, self.family, self.name], ruleset)
        if done.ok:
            return done.stdout
        if done.stderr.startswith("unshare:"):
            raise NftError(
                f"Cannot try the ruleset of the table {self} in a network namespace of its own: {done.cause()}. It takes root, and in a "
                "container CAP_SYS_ADMIN. Nothing was changed."
            )
        raise NftError(f"nft does not take the ruleset of the table {self}, and nothing was changed: {done.cause()}")

    def plan(self, ruleset: str | None) -> Plan:
        """Compare the table with what a ruleset makes, or with none at all. Changes nothing."""
        after = "" if ruleset is None else self.previewed(ruleset)
        return Plan(self.listed(), after)

    def apply(self, ruleset: str | None) -> None:
        """In one transaction: each packet meets the table before or the table after, and none meets neither."""
        # Deleting a table that isn't there would be an error, adding one that is there is none.
        script = f"add table {self}\ndelete table {self}\n" if ruleset is None else ruleset
        done = self.run([self.program, "--file", "-"], script)
        if not done.ok:
            raise NftError(f"Cannot load the table {self}, and it is as it was: {done.cause()}")
