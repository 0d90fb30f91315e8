# Copyright (c) 2026, The gpufleet.triton authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Build the collection, install the archive somewhere else without a network, and use it from there."""

from __future__ import annotations

import fnmatch
import os
import subprocess
import sys
import tarfile
from pathlib import Path, PurePosixPath

import pytest
import yaml

CHECKOUT = Path(__file__).resolve().parents[2]
# The programs of the environment that runs the tests, whether it is activated or not.
PROGRAMS = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"


def run(*argv: str | Path, cwd: Path, **env: str) -> str:
    done = subprocess.run(argv, cwd=cwd, env={**os.environ, "PATH": PROGRAMS, **env}, text=True, capture_output=True, check=False)
    assert done.returncode == 0, f"{' '.join(map(str, argv))}\n{done.stdout}{done.stderr}"
    return done.stdout


def tracked() -> list[str]:
    """What git tracks or would track, as it is on disk."""
    listed = run("git", "ls-files", "--cached", "--others", "--exclude-standard", "-z", cwd=CHECKOUT).split("\0")
    return sorted(name for name in listed if name and (CHECKOUT / name).is_file())


def above(name: str) -> list[str]:
    """A file's own path and those of the folders that hold it."""
    return [name, *(str(parent) for parent in PurePosixPath(name).parents)]


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The archive, built from the checkout as it is, with everything that tests and demos leave in it."""
    target = tmp_path_factory.mktemp("build")
    run("ansible-galaxy", "collection", "build", "--output-path", target, cwd=CHECKOUT)
    return next(target.glob("gpufleet-triton-*.tar.gz"))


@pytest.fixture(scope="module")
def installed(archive: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A collections path that holds the installed archive and nothing else of ours."""
    target = tmp_path_factory.mktemp("installed")
    argv = ["ansible-galaxy", "collection", "install", "--offline", "--no-deps", "--force", "-p", target, archive]
    run(*argv, cwd=target, ANSIBLE_COLLECTIONS_PATH=str(target))
    return target


def test_archive_holds_what_git_tracks_and_nothing_else(archive: Path) -> None:
    galaxy = yaml.safe_load((CHECKOUT / "galaxy.yml").read_text())
    ignored = [*galaxy["build_ignore"], "galaxy.yml"]
    with tarfile.open(archive) as content:
        held = sorted(member.name for member in content if member.isfile())
    wanted = [name for name in tracked() if not any(fnmatch.fnmatch(path, pattern) for path in above(name) for pattern in ignored)]
    assert held == sorted([*wanted, "FILES.json", "MANIFEST.json"])


@pytest.mark.parametrize("module", sorted(path.stem for path in (CHECKOUT / "plugins" / "modules").glob("[a-z]*.py")))
def test_documentation_of_installed_module(installed: Path, module: str) -> None:
    shown = run("ansible-doc", "-t", "module", f"gpufleet.triton.{module}", cwd=installed, ANSIBLE_COLLECTIONS_PATH=str(installed))
    assert str(installed) in shown


@pytest.mark.parametrize("playbook", sorted(path.stem for path in (CHECKOUT / "playbooks").glob("*.yml")))
def test_installed_playbook_is_found_and_parses(installed: Path, playbook: str) -> None:
    env = {"ANSIBLE_COLLECTIONS_PATH": str(installed)}
    shown = run("ansible-playbook", "-i", "localhost,", "--syntax-check", f"gpufleet.triton.{playbook}", cwd=installed, **env)
    assert str(installed) in shown


def test_playbook_of_all_installed_roles_parses(installed: Path) -> None:
    roles = sorted(path.name for path in (CHECKOUT / "roles").iterdir() if path.is_dir())
    play = {"hosts": "all", "gather_facts": False, "roles": [f"gpufleet.triton.{role}" for role in roles]}
    (installed / "play.yml").write_text(yaml.safe_dump([play]))
    run("ansible-playbook", "-i", "localhost,", "--syntax-check", "play.yml", cwd=installed, ANSIBLE_COLLECTIONS_PATH=str(installed))
