# Copyright (c) 2026, The gpufleet.triton authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What must be true of the collection as a whole."""

from __future__ import annotations

import fnmatch
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import ansible_collections.ansible
import pytest
import yaml

CHECKOUT = Path(__file__).resolve().parents[2]

# Modules that are not in the action group, which is for the options that lead to a server.
NOT_IN_ACTION_GROUP = {
    "docker_daemon_config": "edits a file on the host and talks to no server",
    "fleet_status": "shows what was found and talks to no server",
    "gpu_info": "looks at the host and talks to no server",
    "host_files": "writes files on the host and talks to no server",
    "nft_table": "works on the host's kernel and talks to no server",
    "triton_host_info": "looks at the host and talks to no server",
    "triton_repository": "works on the files of a repository and talks to no server",
}

# Files without an SPDX line, and why.
WITHOUT_SPDX = {
    "LICENSE": "is the licence",
    "requirements/dev.txt": "is written by a tool",
    "CHANGELOG.rst": "is written by a tool",
    "changelogs/changelog.yaml": "is written by a tool",
    "*.json": "knows no comments",
}

LARGEST_FILE = 1024 * 1024


@pytest.fixture(scope="module")
def files() -> list[Path]:
    """What git tracks or would track, as it is on disk."""
    argv = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
    names = subprocess.run(argv, cwd=CHECKOUT, text=True, capture_output=True, check=True).stdout.split("\0")
    return [CHECKOUT / name for name in sorted(set(names)) if name and (CHECKOUT / name).is_file()]


def relative(path: Path) -> str:
    return path.relative_to(CHECKOUT).as_posix()


def load(name: str) -> dict:
    return yaml.safe_load((CHECKOUT / name).read_text())


def test_each_module_is_in_the_action_group_or_says_why_not() -> None:
    modules = {path.stem for path in (CHECKOUT / "plugins" / "modules").glob("*.py")}
    group = load("meta/runtime.yml")["action_groups"]["triton"]
    assert sorted([*group, *NOT_IN_ACTION_GROUP]) == sorted(modules)


def test_modules_of_the_action_group_document_it() -> None:
    """What a module says of itself and the group must agree, in both directions."""
    fragment = "gpufleet.triton.attributes.actiongroup_triton"
    documented = [path.stem for path in (CHECKOUT / "plugins" / "modules").glob("*.py") if f"- {fragment}\n" in path.read_text()]
    assert sorted(documented) == sorted(load("meta/runtime.yml")["action_groups"]["triton"])


def keys(node: object) -> Iterator[str]:
    if isinstance(node, dict):
        yield from (key for key in node if isinstance(key, str))
        node = list(node.values())
    if isinstance(node, list):
        for item in node:
            yield from keys(item)


def collections_used(text: str) -> set[str]:
    """The collections of the tasks in a YAML file, and those named in its text: a filter, a lookup, a connection."""
    name = r"[a-z_][a-z0-9_]*"
    tasks = {key for key in keys(yaml.safe_load(text)) if re.fullmatch(rf"{name}\.{name}\.{name}", key)}
    installed = Path(ansible_collections.ansible.__path__[0]).parent
    named = {word for word in re.findall(rf"\b{name}\.{name}\.{name}\b", text) if installed.joinpath(*word.split(".")[:2]).is_dir()}
    return {word.rpartition(".")[0] for word in tasks | named}


def test_galaxy_names_the_collections_that_roles_and_playbooks_use() -> None:
    paths = [path for folder in ("roles", "playbooks") for path in (CHECKOUT / folder).rglob("*.yml")]
    used = set().union(*(collections_used(path.read_text()) for path in paths)) - {"ansible.builtin", "gpufleet.triton"}
    assert sorted(load("galaxy.yml")["dependencies"]) == sorted(used)


def test_each_file_names_its_licence(files: list[Path]) -> None:
    exempt = [path for path in files if any(fnmatch.fnmatch(relative(path), pattern) for pattern in WITHOUT_SPDX)]
    # The first lines, of which a shebang or the start of a comment may be one.
    heads = {path: path.read_bytes()[:600] for path in files if path not in exempt}
    assert [relative(path) for path, head in heads.items() if b"SPDX-License-Identifier: GPL-3.0-or-later" not in head] == []


def test_no_large_file(files: list[Path]) -> None:
    assert [relative(path) for path in files if path.stat().st_size > LARGEST_FILE] == []


def test_no_file_names_the_place_of_this_checkout(files: list[Path]) -> None:
    """A path of the machine where something was written is of no use on any other."""
    here = re.compile(rb"(?<![\w./-])" + re.escape(str(CHECKOUT).encode()) + rb"(?![\w-])")
    assert [relative(path) for path in files if here.search(path.read_bytes())] == []
