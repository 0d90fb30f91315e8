# Copyright (c) 2026, The gpufleet.triton authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The doubles' packages are packages: dpkg and apt read them as any other."""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

FILE = Path(__file__).resolve().parents[3] / "molecule/shared/doubles/debs.py"
SCRIPT = b"#!/bin/sh\necho here\n"

pytestmark = pytest.mark.skipif(not FILE.is_file() or shutil.which("dpkg-deb") is None, reason="no checkout, or no Debian")


@pytest.fixture(scope="module")
def debs() -> ModuleType:
    specification = importlib.util.spec_from_file_location("debs", FILE)
    assert specification is not None and specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    sys.modules["debs"] = module
    specification.loader.exec_module(module)
    return module


def run(*argv: str) -> str:
    return subprocess.run(argv, check=True, text=True, capture_output=True).stdout


def test_a_package_holds_what_was_described(debs: ModuleType, tmp_path: Path) -> None:
    files = {"/usr/bin/thing": (0o755, SCRIPT), "/etc/thing.conf": (0o640, b"a = 1\n")}
    deb = debs.Deb("thing", "1:2.0-1", ["other (= 1:2.0-1)", "libc6"], files, {"postinst": "#!/bin/sh\nexit 0\n"}, fields={"Breaks": "old"})
    path = debs.write_repository(tmp_path, [deb]) / "thing_2.0-1_all.deb"
    told = dict(line.split(": ", 1) for line in run("dpkg-deb", "-f", str(path)).splitlines())
    assert (told["Package"], told["Version"], told["Depends"], told["Breaks"]) == ("thing", "1:2.0-1", "other (= 1:2.0-1), libc6", "old")
    assert "Double of thing" in told["Description"]
    assert run("dpkg-deb", "-I", str(path), "conffiles") == "/etc/thing.conf\n"
    run("dpkg-deb", "-R", str(path), str(tmp_path / "out"))
    assert (tmp_path / "out/usr/bin/thing").read_bytes() == SCRIPT
    assert (tmp_path / "out/etc/thing.conf").stat().st_mode & 0o777 == 0o640
    assert (tmp_path / "out/DEBIAN/postinst").stat().st_mode & 0o777 == 0o755


def test_the_same_description_makes_the_same_package(debs: ModuleType) -> None:
    assert debs.Deb("thing", "1", files={"/a": (0o644, b"x")}).content() == debs.Deb("thing", "1", files={"/a": (0o644, b"x")}).content()


def test_apt_finds_each_version(debs: ModuleType, tmp_path: Path) -> None:
    folder = debs.write_repository(tmp_path / "repository", [debs.Deb("thing", version) for version in ("1.0-1", "1.1-1")])
    state = tmp_path / "apt"
    for name in ("state/lists/partial", "cache/archives/partial", "etc/preferences.d"):
        (state / name).mkdir(parents=True)
    (state / "status").touch()
    (state / "etc/sources.list").write_text(f"deb [trusted=yes] file:{folder} /\n", encoding="ascii")
    options = {"Dir::State": "state", "Dir::State::status": "status", "Dir::Cache": "cache", "Dir::Etc": "etc"}
    argv = [f"-o{name}={state / value}" for name, value in options.items()]
    argv += ["-oDebug::NoLocking=1", "-oAPT::Sandbox::User=root"]
    run("apt-get", *argv, "update")
    shown = run("apt-cache", *argv, "madison", "thing")
    assert [line.split("|")[1].strip() for line in shown.splitlines()] == ["1.1-1", "1.0-1"]
