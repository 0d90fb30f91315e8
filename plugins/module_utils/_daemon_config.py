# Copyright (c) 2026, The gpufleet.triton authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Docker's daemon.json on a host: read, edit, validate by dockerd itself, write. Private to the collection; knows nothing of
AnsibleModule.

_daemon_json is the text, _files the writing, _dockerd the engine that runs; here they meet.
"""

from __future__ import annotations

import dataclasses
import json
import os
import typing as t

from ansible_collections.gpufleet.triton.plugins.module_utils import _daemon_json, _dockerd, _files
from ansible_collections.gpufleet.triton.plugins.module_utils._proc import CommandResult

NONE = "none"
RELOAD = "reload"
RESTART = "restart"

# Before 23.0.
_NO_VALIDATE = "unknown flag: --validate"
_FLAG_CONFLICT = "specified both as a flag and in the configuration file"

Run = t.Callable[..., CommandResult]


class ConfigError(Exception):
    """Something that the caller must put right; the text says what and how."""


@dataclasses.dataclass
class Options:
    """What is wanted of the file."""

    path: str
    state: str = "present"
    settings: dict[str, t.Any] | None = None
    keys: list[str] | None = None
    backup: bool = True
    follow: bool = False
    validate: bool = True
    pidfile: str = "/var/run/docker.pid"
    unit: str = "docker.service"
    pending_file: str | None = None


@dataclasses.dataclass
class Outcome:
    """What was done, or would be."""

    plan: _files.Plan
    keys: list[str] = dataclasses.field(default_factory=list)
    restart_keys: list[str] = dataclasses.field(default_factory=list)
    pending: str = NONE
    pending_keys: list[str] = dataclasses.field(default_factory=list)
    validated: bool = False
    notes: list[str] = dataclasses.field(default_factory=list)

    @property
    def created(self) -> bool:
        return any(step.spec.state == "file" and step.action == _files.CREATED for step in self.plan.steps)

    @property
    def backup_file(self) -> str | None:
        return next((step.backup_file for step in self.plan.steps if step.backup_file), None)


@dataclasses.dataclass
class Pending:
    """What a dockerd that runs has not taken yet. It is kept in a file, so that the next play finishes what one left undone."""

    restart: list[str] = dataclasses.field(default_factory=list)
    reload: list[str] = dataclasses.field(default_factory=list)

    @classmethod
    def read(cls, path: str, engine: _dockerd.Engine) -> Pending:
        try:
            with open(path, encoding="utf-8") as handle:
                noted = json.load(handle)
            # An engine that was started since has read the file.
            if noted["engine"] == engine.identity:
                return cls(list(map(str, noted[RESTART])), list(map(str, noted[RELOAD])))
        except (OSError, ValueError, KeyError, TypeError):
            pass
        return cls()

    def add(self, restart: list[str], reload: list[str]) -> None:
        self.restart = list(dict.fromkeys([*self.restart, *restart]))
        self.reload = list(dict.fromkeys([*self.reload, *reload]))

    def content(self, engine: _dockerd.Engine) -> str:
        return json.dumps({"engine": engine.identity, RESTART: self.restart, RELOAD: self.reload}) + "\n"

    @property
    def state(self) -> str:
        return RESTART if self.restart else RELOAD if self.reload else NONE


class _Validator:
    """Runs dockerd on the new file; keeps secrets out of what it says, and bears with one that cannot validate."""

    def __init__(self, run: Run) -> None:
        self.run = run
        self.unable = False

    def __call__(self, argv: list[str], limit: float, folder: str) -> CommandResult:
        result = self.run(argv, limit, folder)
        if not result.ok and _NO_VALIDATE in result.stdout + result.stderr:
            self.unable = True
            return CommandResult(0, "", "")
        return CommandResult(result.rc, _daemon_json.mask(result.stdout), _daemon_json.mask(result.stderr))


def _paths_to_remove(options: Options) -> list[_daemon_json.Path]:
    try:
        return [*map(_daemon_json.parse_path, options.keys or []), *_daemon_json.leaves(options.settings or {})]
    except _daemon_json.DaemonJsonError as exc:
        raise ConfigError(f"Cannot use 'keys': {exc}.") from exc


def _edit(options: Options, text: str) -> str:
    if options.state == "absent":
        return _daemon_json.remove(text, _paths_to_remove(options))
    try:
        _daemon_json.check_settings(options.settings or {})
    except _daemon_json.DaemonJsonError as exc:
        raise ConfigError(f"Cannot use 'settings': {exc}.") from exc
    return _daemon_json.merge(text, options.settings or {})


def _with_folder(spec: _files.FileSpec) -> list[_files.FileSpec]:
    """The entry, and one for its folder where that is missing."""
    folder = os.path.dirname(_files.normalise(spec))
    return [spec] if os.path.lexists(folder) else [_files.FileSpec(folder, state="directory", mode="0755"), spec]


def _arguments(options: Options, engine: _dockerd.Engine | None, run: Run, path: str) -> list[str]:
    """The arguments that dockerd runs with, or would: what they name must not be in the file as well."""
    arguments = engine.arguments if engine else _dockerd.unit_arguments(run, options.unit)
    other = _dockerd.config_file(arguments)
    if other is not None and os.path.realpath(other) != os.path.realpath(path):
        raise ConfigError(
            f"Cannot set anything of Docker in {path}: dockerd on this host reads {other} instead (--config-file among its arguments). "
            f"Set 'path' to {other}, or take that argument out of {options.unit}."
        )
    return _dockerd.without_config_file(arguments)


def _validate(outcome: Outcome, argv: list[str], run: Run, check_mode: bool, tmpdir: str | None) -> None:
    validator = _Validator(run)
    try:
        _files.validate(outcome.plan, validator, check_mode, tmpdir)
    except _files.FilesError as exc:
        remedy = ""
        if _FLAG_CONFLICT in str(exc):
            remedy = (
                " dockerd does not start with a setting that is in the file and among its arguments: leave it out of the settings, or "
                "take the argument out of the unit with a drop-in ('systemctl edit docker.service')."
            )
        raise ConfigError(str(exc) + remedy) from exc
    outcome.validated = not validator.unable
    if validator.unable:
        outcome.notes.append(f"The new content was not validated: {argv[0]} is older than 23.0 and has no --validate.")


def _note_pending(options: Options, outcome: Outcome, engine: _dockerd.Engine | None, check_mode: bool) -> None:
    """Tell what the engine still has to take; written down before the file is replaced, so that it can't be lost."""
    if engine is None:
        return
    pending = Pending.read(options.pending_file, engine) if options.pending_file else Pending()
    pending.add(outcome.restart_keys, [key for key in outcome.keys if key not in outcome.restart_keys])
    outcome.pending, outcome.pending_keys = pending.state, pending.restart + pending.reload
    if options.pending_file and outcome.keys and not check_mode:
        _files.apply(_files.plan(_with_folder(_files.FileSpec(options.pending_file, content=pending.content(engine), mode="0644"))))


def configure(options: Options, run: Run, dockerd: str | None, check_mode: bool = False, tmpdir: str | None = None) -> Outcome:
    """Bring the file to what is wanted. Nothing is written before everything is known to be right."""
    spec = _files.FileSpec(options.path, backup=options.backup, follow=options.follow)
    path = _files.normalise(spec)
    current = _files.look(path, with_content=True)
    if current.kind not in ("file", "absent"):
        # Says what is in the way.
        _files.plan([spec], check_mode)
    try:
        text = _daemon_json.decode(current.content or b"")
        before = _daemon_json.parse(text).value
    except _daemon_json.DaemonJsonError as exc:
        raise ConfigError(
            f"Cannot read the settings in {path}: {exc}. The file was left as it is. Correct it by hand, then run this again."
        ) from exc
    spec.content = _edit(options, text)
    after = _daemon_json.parse(spec.content).value
    changed = _daemon_json.changed_paths(before, after)
    outcome = Outcome(
        plan=_files.plan(_with_folder(spec) if changed else [], check_mode),
        keys=[_daemon_json.show_path(key) for key in changed],
        restart_keys=[_daemon_json.show_path(key) for key in changed if _daemon_json.needs_restart(key, after)],
    )
    outcome.notes += outcome.plan.notes
    engine = _dockerd.running(options.pidfile)
    if changed:
        arguments = _arguments(options, engine, run, path)
        if options.validate and dockerd is None:
            outcome.notes.append("The new content was not validated: there is no dockerd on this host.")
        elif options.validate and dockerd is not None:
            spec.validate = [dockerd, *arguments, "--validate", "--config-file", "%s"]
            _validate(outcome, spec.validate, run, check_mode, tmpdir)
    _note_pending(options, outcome, engine, check_mode)
    if not check_mode:
        _files.apply(outcome.plan)
    return outcome


def diff(outcome: Outcome) -> list[dict[str, str]]:
    """What changes, without secrets."""
    return [{key: _daemon_json.mask(text) for key, text in part.items()} for part in _files.diff(outcome.plan)]
