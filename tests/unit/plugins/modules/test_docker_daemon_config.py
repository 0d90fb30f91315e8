# Copyright (c) 2026, The gpufleet.triton authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import json
import os
import stat
import typing as t
from pathlib import Path

import pytest
import yaml
from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.testing import patch_module_args
from ansible_collections.gpufleet.triton.plugins.module_utils import _dockerd
from ansible_collections.gpufleet.triton.plugins.modules import docker_daemon_config
from ansible_collections.gpufleet.triton.tests.unit.plugins.modules.runner import Runner

DOCUMENTED = yaml.safe_load(docker_daemon_config.RETURN)
FOREIGN = '{\n    "runtimes": {"kata": {"path": "/usr/bin/kata"}},\n    "mtu": 1450\n}\n'
ROTATION = {"log-driver": "json-file", "log-opts": {"max-size": "10m", "max-file": "3"}}

# A dockerd that refuses what a real one refuses, in its words, and notes with which words it was called.
DOCKERD = r"""#!/bin/sh
echo "$*" >>"$(dirname "$0")/calls"
for file; do :; done
refuse() { echo "unable to configure the Docker daemon with file $file: $1" >&2; exit 1; }
grep -q bogus "$file" && refuse "the following directives don't match any configuration option: bogus"
grep -q '"hosts"' "$file" && case "$*" in *"-H fd://"*)
  refuse "the following directives are specified both as a flag and in the configuration file: hosts: (from flag: [fd://])";;
esac
grep -q 'ftp:' "$file" && refuse "invalid mirror: $(grep ftp: "$file")"
echo "configuration OK"
"""


class Host:
    """A host with a file, a dockerd on it, and one that runs or not."""

    def __init__(self, run: Runner, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.run, self.folder, self.monkeypatch = run, folder, monkeypatch
        self.file = folder / "docker/daemon.json"
        self.pending = folder / "run/gpufleet/pending"
        self.dockerd = folder / "bin/dockerd"
        self.dockerd.parent.mkdir()
        self.pending.parent.parent.mkdir()
        self.install(DOCKERD)
        self.engine(None)

    def install(self, script: str | None) -> None:
        if script is not None:
            self.dockerd.write_text(script)
            self.dockerd.chmod(0o755)
        path = None if script is None else str(self.dockerd)
        self.monkeypatch.setattr(AnsibleModule, "get_bin_path", lambda *_args, **_kwargs: path)

    def engine(self, identity: str | None, *arguments: str) -> None:
        engine = None if identity is None else _dockerd.Engine(identity, list(arguments))
        self.monkeypatch.setattr(_dockerd, "running", lambda _pidfile: engine)

    def write(self, text: str) -> None:
        self.file.parent.mkdir(exist_ok=True)
        self.file.write_text(text)

    def calls(self) -> list[str]:
        path = self.dockerd.parent / "calls"
        return path.read_text().splitlines() if path.exists() else []

    def __call__(
        self, settings: dict[str, t.Any] | None = None, check: bool = False, diff: bool = False, **args: t.Any
    ) -> dict[str, t.Any]:
        given = {"path": str(self.file), "unit": "none.service", **args}
        if settings is not None:
            given["settings"] = settings
        return self.run("docker_daemon_config", given, check=check, diff=diff)

    def state(self) -> dict[str, tuple[bytes, int, int]]:
        paths = [path for path in self.folder.rglob("*") if path.is_file() and path.name != "calls"]
        return {str(path): (path.read_bytes(), path.stat().st_ino, path.stat().st_mtime_ns) for path in paths}


@pytest.fixture
def host(run: Runner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Host:
    return Host(run, tmp_path, monkeypatch)


def test_a_new_file(host: Host) -> None:
    before = host.state()
    predicted = host(ROTATION, check=True, diff=True)
    assert host.state() == before and not host.file.parent.exists()
    done = host(ROTATION, diff=True)
    assert done == predicted
    assert (done["changed"], done["created"], done["validated"], done["notes"]) == (True, True, True, [])
    assert json.loads(host.file.read_text()) == ROTATION
    assert stat.S_IMODE(host.file.stat().st_mode) == 0o644
    assert stat.S_IMODE(host.file.parent.stat().st_mode) == 0o755
    assert any(part["after"] == host.file.read_text() for part in done["diff"])
    assert "backup_file" not in done
    before = host.state()
    again = host(ROTATION)
    assert (again["changed"], again["changed_keys"], again["restart_needed"], again["reload_enough"]) == (False, [], False, False)
    assert host.state() == before


def test_a_file_of_somebody_else_is_kept(host: Host) -> None:
    host.write(FOREIGN)
    host.file.chmod(0o640)
    done = host(ROTATION)
    assert host.file.read_text().startswith(FOREIGN.rstrip("}\n"))
    assert stat.S_IMODE(host.file.stat().st_mode) == 0o640
    backup = Path(done["backup_file"])
    assert backup.parent == host.file.parent and backup.read_text() == FOREIGN
    assert done["changed_keys"] == ["log-driver", "log-opts.max-size", "log-opts.max-file"]
    assert done["restart_keys"] == done["changed_keys"]
    gone = host(ROTATION, state="absent", backup=False)
    assert gone["changed"] and "backup_file" not in gone
    assert host.file.read_text() == FOREIGN
    assert host(ROTATION, state="absent")["changed"] is False


def test_keys_are_removed_by_path(host: Host) -> None:
    host.write('{"runtimes": {"a.b": {"path": "x"}, "c": {"path": "y"}}, "debug": true}')
    args = {"state": "absent", "keys": ['runtimes."a.b"', "debug", "log-opts.max-size"]}
    predicted = host(check=True, **args)
    done = host(**args)
    assert {key: done[key] for key in predicted} == predicted
    assert host.file.read_text() == '{"runtimes": {"c": {"path": "y"}}}'
    assert done["changed_keys"] == ['runtimes."a.b".path', "debug"]
    # One runtime less is reloaded; a debug that is gone is not.
    assert done["restart_keys"] == ["debug"]


def test_absent_makes_no_file(host: Host) -> None:
    assert host(state="absent", keys=["debug"])["changed"] is False
    assert host({})["changed"] is False
    assert not host.file.parent.exists()


@pytest.mark.parametrize(
    ("settings", "reload", "restart"),
    [
        ({"live-restore": True, "runtimes": {"nvidia": {"path": "x"}}, "default-runtime": "nvidia"}, True, False),
        ({"live-restore": True, "features": {"cdi": True}}, False, True),
        ({"mtu": 1450}, False, False),
    ],
)
def test_whether_a_reload_is_enough(host: Host, settings: dict[str, t.Any], reload: bool, restart: bool) -> None:
    host.write(FOREIGN)
    done = host(settings)
    assert (done["reload_enough"], done["restart_needed"]) == (reload, restart)


@pytest.mark.parametrize("state", ["present", "absent"])
@pytest.mark.parametrize(
    ("text", "place"),
    [
        ('{\n  "debug": true, // for now\n}\n', "line 2, column 18: there is a comment"),
        ("{", "line 1, column 2"),
        ("[]\n", "line 1, column 1: wanted an object"),
        ('{"debug": true, "debug": false}', "line 1, column 17: the key 'debug' is there a second time"),
    ],
)
def test_a_file_that_cannot_be_read_is_left(host: Host, text: str, place: str, state: str) -> None:
    host.write(text)
    before = host.state()
    for check in (True, False):
        refused = host({"debug": True}, state=state, check=check)
        assert refused["failed"] is True
        assert f"{host.file}: {place}" in refused["msg"]
        assert "left as it is" in refused["msg"]
    assert host.state() == before


def test_dockerd_has_the_last_word_before_anything_is_written(host: Host) -> None:
    host.write(FOREIGN)
    before = host.state()
    for check in (True, False):
        refused = host({"bogus": 1}, check=check)
        assert refused["failed"] is True
        assert f"with file {host.file}: the following directives don't match any configuration option: bogus" in refused["msg"]
    assert host.state() == before
    assert host({"bogus": 1}, validate=False)["validated"] is False


def test_the_arguments_of_the_engine_count(host: Host) -> None:
    settings = {"hosts": ["unix:///run/docker.sock"]}
    host.engine("1:1", "-H", "fd://", f"--config-file={host.file}")
    refused = host(settings)
    assert "hosts: (from flag: [fd://])" in refused["msg"]
    assert "systemctl edit docker.service" in refused["msg"]
    words = host.calls()[-1].split()
    assert words[:4] == ["-H", "fd://", "--validate", "--config-file"] and len(words) == 5
    host.engine(None)
    assert host(settings)["changed"] is True
    assert host.calls()[-1].startswith("--validate --config-file")


def test_an_engine_that_reads_another_file(host: Host) -> None:
    host.engine("1:1", "--config-file", "/srv/docker.json")
    refused = host({"debug": True})
    assert "reads /srv/docker.json instead" in refused["msg"]
    assert not host.file.exists()


def test_a_host_without_dockerd(host: Host) -> None:
    host.install(None)
    done = host({"bogus": 1})
    assert (done["changed"], done["validated"]) == (True, False)
    assert "there is no dockerd on this host" in done["notes"][0]


def test_a_dockerd_that_cannot_validate(host: Host) -> None:
    host.install("#!/bin/sh\necho 'Status: unknown flag: --validate, Code: 125' >&2\nexit 1\n")
    done = host({"debug": True})
    assert (done["changed"], done["validated"]) == (True, False)
    assert "older than 23.0" in done["notes"][0]


def test_a_link_is_followed_only_if_asked_to(host: Host) -> None:
    host.write(FOREIGN)
    target = host.file.rename(host.folder / "real.json")
    host.file.symlink_to(target)
    assert "it is a symbolic link" in host({"debug": True})["msg"]
    assert target.read_text() == FOREIGN
    assert host({"debug": True}, follow=True)["file"] == str(target)
    assert host.file.is_symlink() and json.loads(target.read_text())["debug"] is True


def test_what_the_engine_has_not_taken_is_known_to_the_next_call(host: Host) -> None:
    pending = {"pending_file": str(host.pending)}
    host.engine("1:1")
    done = host({"log-driver": "local"}, **pending)
    assert (done["pending"], done["pending_keys"]) == ("restart", ["log-driver"])
    # The play was cut off here. The next one changes something else, and one after it nothing.
    done = host({"log-driver": "local", "debug": True}, **pending)
    assert (done["restart_needed"], done["reload_enough"]) == (False, True)
    assert (done["pending"], done["pending_keys"]) == ("restart", ["log-driver", "debug"])
    for check in (True, False):
        done = host({"log-driver": "local"}, check=check, **pending)
        assert (done["changed"], done["pending"], done["pending_keys"]) == (False, "restart", ["log-driver", "debug"])
    # An engine that was started since has read the file.
    host.engine("1:2")
    assert host({"log-driver": "local"}, **pending)["pending"] == "none"
    assert host({"debug": False}, **pending)["pending"] == "reload"
    assert host({"debug": False})["pending"] == "none"
    host.engine(None)
    assert host({"log-driver": "journald"}, **pending)["pending"] == "none"


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"engine": "1:1"}', '{"engine": "1:1", "restart": 1, "reload": []}'])
def test_a_note_that_cannot_be_read_is_none(host: Host, text: str) -> None:
    host.engine("1:1")
    host.pending.parent.mkdir()
    host.pending.write_text(text)
    assert host({}, pending_file=str(host.pending))["pending"] == "none"


def test_check_mode_notes_nothing(host: Host) -> None:
    host.engine("1:1")
    assert host({"log-driver": "local"}, check=True, pending_file=str(host.pending))["pending"] == "restart"
    assert not host.pending.parent.exists()


@pytest.mark.parametrize(
    ("args", "words"),
    [
        ({}, "settings"),
        ({"state": "absent"}, "settings, keys"),
        ({"settings": {"debug": True}, "keys": ["debug"]}, "Set 'state: absent'"),
        ({"settings": {"log-opts": {"max-size": None}}}, "log-opts.max-size has no value"),
        ({"state": "absent", "keys": ["a..b"]}, "'a..b' is no path of a setting"),
        ({"settings": {}, "path": "/daemon.json/../x"}, "'..'"),
    ],
)
def test_options_that_cannot_be_right(host: Host, args: dict[str, t.Any], words: str) -> None:
    refused = host(**args)
    assert refused["failed"] is True and words in refused["msg"]


def test_the_result_has_the_documented_keys(host: Host) -> None:
    host.write(FOREIGN)
    result = host({"debug": True}, diff=True)
    assert set(result) - {"changed"} == set(DOCUMENTED)
    assert set(result["diff"][0]) == set(DOCUMENTED["diff"]["contains"])


SECRETS = {
    "proxies": {"http-proxy": "http://bob:hush@proxy.example.com:3128"},
    "log-opts": {"splunk-token": "hush"},
    "registry-mirrors": ["https://bob:hush@mirror.example.com"],
}


@pytest.mark.parametrize("other", [{}, {"registry-mirrors": ["ftp://bob:hush@mirror"]}], ids=["success", "refused by dockerd"])
def test_a_secret_is_in_no_output_and_no_log(
    host: Host, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], other: dict[str, t.Any]
) -> None:
    logged: list[str] = []
    monkeypatch.setattr(docker_daemon_config.DockerDaemonConfigModule, "log", lambda _module, message, **_kwargs: logged.append(message))
    host.write(json.dumps({**SECRETS, "mtu": 1}))
    args = {
        "path": str(host.file),
        "settings": {**SECRETS, "mtu": 2, **other},
        "_ansible_diff": True,
        "_ansible_verbosity": 4,
        "_ansible_inject_invocation": True,
    }
    with patch_module_args(args), pytest.raises(SystemExit):
        docker_daemon_config.main()
    out = capsys.readouterr().out
    assert "bob" not in out and "hush" not in out and "hush" not in " ".join(logged)
    assert bool(json.loads(out).get("failed")) == bool(other)
    assert str(host.file) in " ".join(logged)
    assert other or "hush" in host.file.read_text()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
def test_the_owner_stays(host: Host) -> None:
    host.write(FOREIGN)
    os.chown(host.file, 12345, 12346)
    assert host({"debug": True})["changed"] is True
    assert (host.file.stat().st_uid, host.file.stat().st_gid) == (12345, 12346)
