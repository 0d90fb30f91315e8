# Copyright (c) 2026, The gpufleet.triton authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The controller's part of publishing models: from a task's options to a request that a host can carry out.

All models of a task are prepared and checked together before anything is sent. Knows no Ansible beyond its argument specs:
what it needs of a host comes in as functions. Private to this collection.
"""

from __future__ import annotations

import contextlib
import difflib
import fcntl
import hashlib
import json
import os
import re
import typing as t
from dataclasses import dataclass, field
from pathlib import Path

from ansible.module_utils.common.arg_spec import ArgumentSpecValidator
from ansible_collections.gpufleet.triton.plugins.module_utils import _repository_options as spec
from ansible_collections.gpufleet.triton.plugins.module_utils._client import NameRefusedError, check_name
from ansible_collections.gpufleet.triton.plugins.module_utils._content import config_text
from ansible_collections.gpufleet.triton.plugins.module_utils._http import shown_url
from ansible_collections.gpufleet.triton.plugins.module_utils._manifest import (
    CONFIG,
    PARAMETER,
    FileEntry,
    HashCache,
    RepositoryError,
    check_layout,
    digest_of,
    entries_from,
    is_config_text,
    is_digest,
    path_problem,
    rows_from,
    scan,
)
from ansible_collections.gpufleet.triton.plugins.plugin_utils import _pbtxt
from ansible_collections.gpufleet.triton.plugins.plugin_utils._model_check import check

if t.TYPE_CHECKING:
    from google.protobuf.message import Message

    Find = t.Callable[[str], str | None]

ERROR, WARNING = "error", "warning"
SIGNATURE = "model.sig"

_SHA256 = re.compile(r"(?:sha256:)?(?P<hex>[0-9a-f]{64})", re.IGNORECASE)
_PREFIX = re.compile(r"(?:sha256:)?[0-9a-f]{8,64}")
_SIZE = re.compile(r"(?P<number>[0-9]+(?:\.[0-9]+)?)\s*(?P<unit>[kmgtp]?)i?b?", re.IGNORECASE)
_SCHEME = re.compile(r"(?P<scheme>[A-Za-z][A-Za-z0-9+.-]*)://")
_FILE_KEYS = ("url", "checksum", "headers")


@dataclass(frozen=True)
class Problem:
    """What speaks against publishing. An error stops it; a warning is said."""

    model: str
    what: str
    why: str = ""
    remedy: str = ""
    severity: str = ERROR

    def as_dict(self) -> dict[str, str]:
        return {"model": self.model, "severity": self.severity, "what": self.what, "why": self.why, "remedy": self.remedy}

    def __str__(self) -> str:
        # What is wrong may begin with a field or a path, which stay as they are written.
        rest = [part[0].upper() + part[1:] for part in (self.why, self.remedy) if part]
        text = " ".join(part if part.endswith(("?", ".")) else f"{part}." for part in (self.what, *rest))
        return f"{self.model}: {text}" if self.model else text


class RefusedError(Exception):
    """The task cannot be done as it is written. Carries all that is known to be wrong, not only the first of it."""

    def __init__(self, problems: t.Sequence[Problem], models: int = 0) -> None:
        self.problems = sorted(problems, key=lambda problem: problem.severity != ERROR)
        refused = list(dict.fromkeys(problem.model for problem in problems if problem.severity == ERROR and problem.model))
        head = "Cannot use the options" if not refused else f"Cannot publish {_listed(refused)}"
        if refused and models > len(refused):
            head += f" ({len(refused)} of {models} models)"
        head += "; nothing was sent or changed."
        super().__init__("\n".join([head, *(f"- {problem}" for problem in self.problems)]))


def _listed(names: t.Sequence[str]) -> str:
    return ", ".join(names[:10]) + (f" and {len(names) - 10} more" if len(names) > 10 else "")


@dataclass
class Model:
    """One model of the task, and what is known of it so far."""

    name: str
    state: str
    #: Where the content comes from: folder (on the controller), remote (the host gets it), or nothing for other states.
    kind: str = ""
    src: str = ""
    folder: str = ""
    digest: str | None = None
    config: dict[str, t.Any] | None = None
    signature: str | None = None
    headers: dict[str, str] | None = None
    fetch_on: str = "host"
    #: Archive, folder, rclone and files as the host's side takes them.
    remote: dict[str, t.Any] = field(default_factory=dict)
    identity: str | None = None
    source: dict[str, t.Any] = field(default_factory=dict)
    #: Of a controller's folder before anything is merged; what a signature covers.
    base: list[FileEntry] | None = None
    #: The content to publish. None while it is not known.
    entries: list[FileEntry] | None = None
    texts: dict[str, str] = field(default_factory=dict)
    #: Where contents lie on the controller, by checksum.
    paths: dict[str, str] = field(default_factory=dict)
    message: Message | None = None
    fetched: str | None = None
    host_identity: str | None = None
    findings: list[Problem] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @property
    def files(self) -> dict[str, dict[str, t.Any]]:
        return self.remote.get("files") or {}

    @property
    def fetched_here(self) -> bool:
        """Whether the controller gets what is not in a folder: the host need not reach it, nor have the programs for it."""
        return self.fetch_on == "controller" and not self.remote.get("folder")

    @property
    def open_files(self) -> list[str]:
        """Files by URL beside a folder of the controller, of which only the checksum is known."""
        return sorted(self.files) if self.kind == "folder" else []

    @property
    def complete(self) -> bool:
        """Whether every size and checksum is known."""
        return self.entries is not None and all(entry.size >= 0 for entry in self.entries)

    def add(self, what: str, why: str = "", remedy: str = "", severity: str = ERROR) -> None:
        problem = Problem(self.name, what, why, remedy, severity)
        if problem not in self.findings:
            self.findings.append(problem)

    @property
    def refused(self) -> bool:
        return any(problem.severity == ERROR for problem in self.findings)

    @property
    def config_name(self) -> str:
        """What errors call its configuration."""
        return os.path.join(self.folder, CONFIG) if self.folder else f"{self.name}/{CONFIG}"


def rows_of(entries: t.Iterable[FileEntry]) -> list[list[t.Any]]:
    """Rows as the host takes them; a size that is not known yet is null."""
    return [[row[0], None if row[1] < 0 else row[1], *row[2:]] for row in rows_from(entries)]


# Options


def read_options(args: t.Mapping[str, t.Any]) -> dict[str, t.Any]:
    """The task's options with their defaults and types. Raises RefusedError."""
    problems = list(_unknown(args, spec.public_options(), ""))
    entries = args.get("models")
    for entry in entries if isinstance(entries, list) else []:
        if isinstance(entry, t.Mapping):
            known = spec.public_options()["models"]["options"]
            problems += _unknown(entry, known, str(entry.get("name") or ""))
    if problems:
        raise RefusedError(problems)
    validator = ArgumentSpecValidator(
        spec.public_options(), mutually_exclusive=spec.MUTUALLY_EXCLUSIVE, required_one_of=spec.REQUIRED_ONE_OF
    )
    result = validator.validate(dict(args))
    if result.error_messages:
        raise RefusedError([Problem("", message) for message in result.error_messages])
    return result.validated_parameters


def _unknown(given: t.Mapping[str, t.Any], known: t.Mapping[str, t.Any], model: str) -> t.Iterator[Problem]:
    for key in given:
        if key not in known and not str(key).startswith("_ansible_"):
            near = difflib.get_close_matches(str(key), list(known), n=1)
            hint = f"Did you mean '{near[0]}'?" if near else f"Use one of {', '.join(sorted(known))}."
            yield Problem(model, f"There is no option '{key}'", "", hint)


def size_of(text: str) -> int | None:
    """The bytes of a size such as 100G; None when it is none."""
    match = _SIZE.fullmatch(text.strip())
    if not match:
        return None
    return int(float(match["number"]) * 1024 ** " kmgtp".index(match["unit"].lower() or " "))


class Settings(t.NamedTuple):
    """What all models of a task share."""

    exclude: tuple[str, ...]
    context: dict[str, t.Any]
    #: Models that are about to be served no more.
    leaving: frozenset[str]
    strict: bool
    require_signature: bool
    public_key: str | None
    certificates: tuple[str, ...]
    timeout: float
    validate_certs: bool
    ca_path: str | None
    max_unpacked: int

    @property
    def remote(self) -> dict[str, t.Any]:
        """What the host's side, or the controller in its place, needs to fetch anything."""
        return {
            "timeout": self.timeout,
            "ca_path": self.ca_path,
            "validate_certs": self.validate_certs,
            "max_unpacked": self.max_unpacked,
            "exclude": list(self.exclude),
        }


def settings_of(params: t.Mapping[str, t.Any], find: Find) -> Settings:
    """Raises RefusedError."""
    problems: list[Problem] = []
    max_unpacked = size_of(params["max_unpacked"])
    if not max_unpacked:
        problems.append(Problem("", f"Cannot use max_unpacked={params['max_unpacked']!r}", "", "Wanted a size, such as 200G."))
    for name, low in (("keep", 0), ("timeout", 0.001), ("lock_timeout", 0)):
        if not low <= params[name] < 10**9:
            problems.append(Problem("", f"Cannot use {name}={params[name]:g}", "", f"Wanted a number from {low:g} on."))
    keys: dict[str, list[str]] = {}
    for option in ("signature_public_key", "signature_certificates"):
        given = params[option] or []
        keys[option] = []
        for path in [given] if isinstance(given, str) else given:
            found = find(path)
            if found is None:
                problems.append(Problem("", f"Cannot find {option} {path} on the controller", "", "Correct the path."))
            else:
                keys[option].append(found)
    if params["require_signature"] and not (params["signature_public_key"] or params["signature_certificates"]):
        why = "A signature says nothing without the key that it must be made with."
        problems.append(Problem("", "Cannot verify signatures", why, "Set signature_public_key or signature_certificates."))
    if problems:
        raise RefusedError(problems)
    context = dict(params["context"] or {})
    leaving = context.pop("leaving", None) or ()
    return Settings(
        exclude=tuple(params["exclude"]),
        context=context,
        leaving=frozenset(map(str, leaving)),
        strict=params["strict"],
        require_signature=params["require_signature"],
        public_key=keys["signature_public_key"][0] if keys["signature_public_key"] else None,
        certificates=tuple(keys["signature_certificates"]),
        timeout=params["timeout"],
        validate_certs=params["validate_certs"],
        ca_path=params["ca_path"],
        max_unpacked=max_unpacked or 0,
    )


def models_of(params: t.Mapping[str, t.Any], settings: Settings, find: Find) -> list[Model]:
    """The models of a task with their sources; what is wrong with an entry is among its findings."""
    entries = params["models"] if params["models"] is not None else [dict(params, state=None)]
    models = []
    for entry in entries:
        merged = {**entry, "state": entry["state"] or params["state"]}
        for option in ("fetch_on", "rclone_config"):
            merged[option] = entry[option] or params[option]
        models.append(_model_of(merged, settings, find))
    seen: dict[str, Model] = {}
    for model in models:
        if model.name in seen:
            model.add(f"'{model.name}' is named twice", "each would take the place of the other", "name each model once")
        seen[model.name] = model
    return models


def _model_of(entry: t.Mapping[str, t.Any], settings: Settings, find: Find) -> Model:
    model = Model(
        name=entry["name"],
        state=entry["state"],
        digest=entry["digest"] or None,
        config=entry["config"],
        signature=entry["signature"] or None,
        headers=entry["headers"],
        fetch_on=entry["fetch_on"] or "host",
    )
    try:
        check_name(model.name)
    except NameRefusedError as error:
        model.add(error.what, error.why, error.remedy)
    # A release may be named by the beginning of its digest, as long as that is unique.
    short = model.state == "rolled_back" and _PREFIX.fullmatch(model.digest or "")
    if model.digest and not short and not is_digest(model.digest):
        model.add(f"Cannot use the digest {model.digest!r}", "", "wanted sha256: and 64 hexadecimal digits")
    if model.state == "present":
        _source(model, entry, settings, find)
    return model


def _source(model: Model, entry: t.Mapping[str, t.Any], settings: Settings, find: Find) -> None:
    """Understand where a model's content comes from."""
    src = (entry["src"] or "").strip()
    model.src = src
    model.remote = {"archive": None, "folder": None, "rclone": None, "files": _files(model, entry["files"] or {}), **settings.remote}
    scheme = _SCHEME.match(src)
    archive = False
    if scheme and scheme["scheme"].lower() in ("https", "http"):
        archive = True
        _archive(model, src, entry["checksum"])
    elif scheme:
        model.add(
            f"Cannot get {shown_url(src)}",
            f"{scheme['scheme']}:// is no source that this module knows",
            "write it as rclone:<remote>:<path> with a remote of rclone's configuration, or as an https URL",
        )
    elif src.startswith("rclone:"):
        _rclone(model, src[len("rclone:") :], entry["rclone_config"])
    elif src.startswith("host:") or entry["remote_src"]:
        path = src[len("host:") :] if src.startswith("host:") else src
        if not path.startswith("/"):
            model.add(f"Cannot use {src!r} as a folder of the host", "it is not absolute", "write the whole path: host:/srv/models/x")
        model.kind, model.remote["folder"] = "remote", path
        model.source = {"type": "host", "path": path}
    elif src:
        _folder(model, src, find)
    elif model.files:
        model.kind, model.source = "remote", {"type": "files"}
    else:
        model.add("There is nothing to publish", "neither src nor files is set", "set src to the model's folder or archive")
    if entry["checksum"] and not archive:
        model.add("Cannot use a checksum here", "it is that of an archive, and src is none", "use digest to fix the content of a folder")
    if model.files:
        model.source["files"] = {path: shown_url(each["url"]) for path, each in model.files.items()}
    if model.kind == "folder":
        refused = [path for path in model.files if is_config_text(path)]
        for path in refused:
            model.add(f"Cannot take {path} from a URL", "src is a folder of the controller", "put it into that folder")


def _archive(model: Model, src: str, checksum: str | None) -> None:
    model.kind = "remote"
    sha256 = _sha256(checksum)
    if not checksum:
        model.add(f"Cannot get {shown_url(src)}", "there is no checksum to know it by", "set checksum to sha256:... of the archive")
    elif sha256 is None:
        model.add(f"Cannot use the checksum {checksum!r}", "", "wanted sha256: and 64 hexadecimal digits")
    model.remote["archive"] = {"url": src, "sha256": sha256, "headers": dict(model.headers or {})}
    model.source = {"type": "archive", "url": shown_url(src), "sha256": sha256}


def _rclone(model: Model, remote: str, config: str | None) -> None:
    model.kind = "remote"
    if ":" not in remote or remote.startswith("-"):
        remedy = "write rclone:<remote>:<path>, such as rclone:s3:bucket/models/x"
        model.add(f"Cannot use 'rclone:{remote}'", "there is no remote in it", remedy)
    model.remote["rclone"] = {"remote": remote, "config": config}
    model.source = {"type": "rclone", "remote": remote}


def _folder(model: Model, src: str, find: Find) -> None:
    model.kind = "folder"
    model.source = {"type": "folder", "path": src}
    found = find(src)
    if found is None:
        model.add(
            f"Cannot find the folder {src} on the controller",
            "" if src.startswith("/") else "it was looked for beside the role and the playbook, and beside the inventory",
            "correct src, or write host:/path for a folder of the host",
        )
    elif not os.path.isdir(found):
        model.add(f"Cannot publish {found}", "it is a file, wanted a model's folder", "unpack it, or serve it over https with a checksum")
    else:
        model.folder = found


def _files(model: Model, given: t.Mapping[str, t.Any]) -> dict[str, dict[str, t.Any]]:
    files = {}
    for path, value in ((str(key), given[key]) for key in given):
        what = f"Cannot use files[{path!r}]"
        why = path_problem(path) or ("it is a folder" if path.endswith("/") else "")
        if why:
            model.add(what, why, "write the file's path in the model, such as 1/model.onnx")
            continue
        if not isinstance(value, t.Mapping):
            model.add(what, f"it is {type(value).__name__}", "write {url: ..., checksum: ...}")
            continue
        for key in value:
            if key not in _FILE_KEYS:
                near = difflib.get_close_matches(str(key), _FILE_KEYS, n=1)
                model.add(f"{what}: there is no option '{key}'", "", f"use {near[0] if near else ', '.join(_FILE_KEYS)}")
        url, sha256 = str(value.get("url") or ""), _sha256(value.get("checksum"))
        scheme = _SCHEME.match(url)
        if not scheme or scheme["scheme"].lower() not in ("https", "http"):
            model.add(f"{what}: {shown_url(url)!r} is no URL to get a file from", "", "write url: https://...")
        if sha256 is None:
            model.add(f"{what}: there is no checksum to know it by", "", "set checksum to sha256: and 64 hexadecimal digits")
        headers = value.get("headers")
        if headers is not None and not isinstance(headers, t.Mapping):
            model.add(f"{what}: headers is {type(headers).__name__}", "", "write a mapping of header names to values")
            headers = None
        own = {str(name): str(text) for name, text in headers.items()} if headers is not None else dict(model.headers or {})
        files[path] = {"url": url, "sha256": sha256, "headers": own}
    return files


def _sha256(checksum: t.Any) -> str | None:
    match = _SHA256.fullmatch(str(checksum or "").strip())
    return match["hex"].lower() if match else None


# Content


@contextlib.contextmanager
def cached_hashes(folder: str | None = None) -> t.Iterator[HashCache]:
    """The controller's cache of checksums. One process at a time: ten hosts of a play need not hash the same weights ten times."""
    base = Path(folder) if folder else cache_folder()
    try:
        base.mkdir(mode=0o700, parents=True, exist_ok=True)
        lock = os.open(base / "hashes.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError:
        # It only saves time, and a home may be read-only.
        yield HashCache(None)
        return
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        cache = HashCache(str(base / "hashes.json"))
        try:
            yield cache
        finally:
            cache.save()
    finally:
        os.close(lock)


def cache_folder() -> Path:
    base = os.environ.get("XDG_CACHE_HOME", "")
    return (Path(base) if base.startswith("/") else Path.home() / ".cache") / "gpufleet"


def read_folder(model: Model, cache: HashCache, settings: Settings) -> None:
    """Look at a model's folder on the controller: what is in it, and the text of its configurations."""
    refused: list[RepositoryError] = []
    try:
        model.base = scan(model.folder, cache, settings.exclude, problems=refused)
        for entry in model.base:
            path = os.path.join(model.folder, entry.path)
            model.paths.setdefault(entry.sha256, path)
            if is_config_text(entry.path):
                # Settled for as long as it is refused.
                model.texts[entry.path] = ""
                model.texts[entry.path] = config_text(path, entry)
    except RepositoryError as error:
        refused.append(error)
    except OSError as error:
        refused.append(RepositoryError(f"Cannot read the folder {model.folder}", str(error), "correct its permissions"))
    for problem in refused:
        model.add(problem.what, problem.why, problem.remedy)


def _place(model: Model, path: str) -> str:
    return os.path.join(model.folder or model.name, path)


def settle(model: Model, base: t.Sequence[FileEntry]) -> None:
    """Make the content to publish of the source's: merge what the entry says over the configuration, and read the schema."""
    entries = {entry.path: entry for entry in base}
    for path, each in model.files.items() if model.kind == "folder" else ():
        entries[path] = FileEntry(path, -1, each["sha256"] or "")
    if model.config:
        try:
            model.texts[CONFIG] = _pbtxt.merge(model.texts.get(CONFIG, ""), model.config, model.config_name)
        except _pbtxt.PbtxtError as error:
            text = str(error)
            what = text if error.line else f"config: {text}"
            model.add(what, "", "correct the option config" if not error.line else "correct the file")
            model.texts.setdefault(CONFIG, "")
    for path, text in model.texts.items():
        raw = text.encode()
        before = entries.get(path)
        entries[path] = FileEntry(path, len(raw), hashlib.sha256(raw).hexdigest(), before.executable if before else False)
    # An empty configuration is no content: publishing makes one where there is none.
    if not model.texts.get(CONFIG, "x"):
        del model.texts[CONFIG], entries[CONFIG]
    # A file by URL may lie in a folder that was empty.
    parents = {parent for path in entries for parent in _parents(path.rstrip("/"))}
    model.entries = sorted(entry for entry in entries.values() if not (entry.is_folder and entry.path.rstrip("/") in parents))
    if not model.refused:
        _read_schema(model)


def _parents(path: str) -> t.Iterator[str]:
    while "/" in path:
        path = path.rpartition("/")[0]
        yield path


def _read_schema(model: Model) -> None:
    for path, text in sorted(model.texts.items()):
        try:
            message = _pbtxt.parse(text, _place(model, path))
        except _pbtxt.PbtxtError as error:
            model.add(str(error), "", "correct it: Triton would refuse the model")
            continue
        if PARAMETER in message.parameters:
            model.add(
                f"{_place(model, path)} sets the parameter {PARAMETER} itself",
                "publishing adds that parameter, and what is served is told by it",
                "take it out of the file",
            )
        if path == CONFIG:
            model.message = message
    if CONFIG not in model.texts and not model.findings:
        model.message = _pbtxt.parse("", model.config_name)


def check_digest(model: Model) -> None:
    """Compare the content with the digest that the entry fixes, once all of it is known."""
    if not model.digest or not model.complete or model.refused:
        return
    found = digest_of(model.entries or [])
    if found != model.digest:
        model.add(
            f"The content has the digest {found}, wanted {model.digest}",
            "the source, what is excluded, or the option config is not what the digest was made of",
            "correct the source, or the digest",
        )


# Semantics


def step_names(model: Model) -> list[str]:
    if model.message is None:
        return []
    return sorted({step.model_name for step in model.message.ensemble_scheduling.step if step.model_name})


def unknown_steps(models: t.Iterable[Model], context: t.Mapping[str, t.Any]) -> list[str]:
    """Models that ensembles of the task need and that only the host may know."""
    known = {model.name for model in models if model.message is not None} | set(context.get("models") or {})
    return sorted({name for model in models for name in step_names(model)} - known)


def check_models(
    models: t.Sequence[Model],
    settings: Settings,
    others: t.Mapping[str, t.Any] | None = None,
    certain: bool = True,
) -> None:
    """Check each model whose configuration is known against its files, its host and the other models.

    :param others: configurations of models that are on the host already; None before the host was asked.
    :param certain: whether a model that is neither here nor there will be missing. Not so in check mode.
    """
    gone = {model.name for model in models if model.state == "absent"}
    known = {name: config for name, config in (settings.context.get("models") or {}).items() if name not in gone}
    known.update({name: config for name, config in (others or {}).items() if name not in gone})
    known.update({model.name: model.message for model in models if model.message is not None})
    # A model whose content only the host knows may turn out to be anything.
    pending = {model.name for model in models if model.state == "present" and model.message is None}
    for model in models:
        if model.message is None:
            continue
        missing = set(step_names(model)) - set(known)
        sure = others is not None or "models" in settings.context
        complete = not missing or (sure and certain and not missing & pending)
        context = {**settings.context, "models": known if complete else None}
        _check_model(model, context, settings.strict)


def check_steps(model: Model, steps: t.Iterable[str], leaving: t.Collection[str]) -> None:
    """Refuse an ensemble that stays while a model that it runs goes: the unload of that takes it down."""
    for name in steps if model.name not in leaving else ():
        if name in leaving:
            model.add(
                f"The ensemble needs the model '{name}', which is to be unloaded or removed",
                "Triton takes an ensemble down with any of its steps",
                f"keep '{name}' loaded, or let '{model.name}' go with it",
            )


def _check_model(model: Model, context: t.Mapping[str, t.Any], strict: bool) -> None:
    if model.message is None or model.entries is None:
        return
    paths = [entry.path for entry in model.entries]
    message: t.Any = model.message
    layout = check_layout(model.name, paths, message.backend, message.default_model_filename)
    for problem in layout:
        model.add(**problem)
    try:
        findings = check(message, paths, model.name, context)
    except (_pbtxt.PbtxtError, ValueError, TypeError) as error:
        model.add(f"Cannot use the option context: {error}", "", "correct it")
        return
    for finding in findings:
        if any(_same_matter(finding, problem) for problem in layout):
            continue
        severity = finding["severity"] if strict else WARNING
        what = f"{finding['field']}: {finding['what']}"
        model.add(what, finding["why"], finding["remedy"], severity)


def _same_matter(finding: t.Mapping[str, str], problem: t.Mapping[str, str]) -> bool:
    """Whether a finding of the check says what the layout's check, which knows no schema, has said already."""
    what = problem["what"]
    if finding["field"] == "version_policy":
        return "no version" in finding["what"].lower() and what.endswith("it has no version")
    if finding["field"] == "default_model_filename":
        folder, _slash, name = finding["what"].partition("'")[2].partition("'")[0].partition("/")
        return what.endswith(f"its version {folder} has no {name}")
    if finding["field"] == "name":
        return "as the name of a model" in what and "is no name" in finding["what"]
    return what.endswith(f"with the folder {finding['field']!r}")


# Signatures


def signature_wanted(model: Model, settings: Settings) -> str | None:
    """The signature that a model must have: a path in it, or of the controller."""
    return model.signature or (SIGNATURE if settings.require_signature else None)


Verify = t.Callable[..., None]


def check_signature(model: Model, base: t.Sequence[FileEntry], settings: Settings, find: Find, text: str | None, verify: Verify) -> None:
    """Verify the signature of a source, before anything is merged over it.

    :param text: the signature, where it lies in a source that only the host has.
    """
    wanted = signature_wanted(model, settings)
    if not wanted or model.refused:
        return
    if not (settings.public_key or settings.certificates):
        why = "a signature says nothing without the key that it must be made with"
        model.add("Cannot verify the signature", why, "set signature_public_key or signature_certificates")
        return
    inside = wanted in {entry.path for entry in base}
    try:
        if inside and text is not None:
            raw = text.encode()
        elif inside and not model.folder:
            model.add(f"Cannot read the signature {wanted}", "it is longer than 16 MiB, or not text", "have the model signed again")
            return
        elif inside:
            raw = Path(model.folder, wanted).read_bytes()
        else:
            path = find(wanted)
            if path is None:
                model.add(
                    f"There is no signature {wanted}",
                    "it is neither in the model nor on the controller" if model.signature else "the option require_signature is set",
                    "sign the model, or name its signature in the option signature",
                )
                return
            raw = Path(path).read_bytes()
    except OSError as error:
        model.add(f"Cannot read the signature {wanted}", str(error), "correct its permissions")
        return
    try:
        certificates = list(settings.certificates) or None
        verify(list(base), raw, public_key=settings.public_key, certificates=certificates, exclude=settings.exclude)
    except Exception as error:
        if not hasattr(error, "remedy"):
            raise
        model.add(str(getattr(error, "what", error)), str(getattr(error, "why", "")), str(error.remedy))


# Identity


def identity_of(model: Model, settings: Settings) -> str | None:
    """The controller's key of a source whose content is fixed by checksums, so that a host can tell it without fetching it.

    A folder of the controller needs none: what is in it is known.
    """
    if model.kind != "remote" and not model.files:
        return None
    archive = model.remote.get("archive")
    parts = {
        "archive": archive["sha256"] if archive else None,
        "folder": model.remote.get("folder"),
        "rclone": model.remote["rclone"]["remote"] if model.remote.get("rclone") else None,
        "files": {path: each["sha256"] for path, each in model.files.items()},
        "base": rows_from(model.base or []),
        "config": model.config or None,
        "exclude": sorted(settings.exclude),
        "signature": _signature_identity(model, settings),
    }
    return hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest()


def _signature_identity(model: Model, settings: Settings) -> t.Any:
    """So that content which was published unverified is looked at again once a signature, or another one, is asked for."""
    wanted = signature_wanted(model, settings)
    if not wanted:
        return None
    keys = [path for path in (settings.public_key, *settings.certificates) if path]
    return [wanted, *(hashlib.sha256(Path(path).read_bytes()).hexdigest() for path in keys)]


# Requests


def plan_row(model: Model) -> dict[str, t.Any]:
    return {
        "name": model.name,
        "state": model.state,
        "digest": model.digest,
        "identity": model.identity,
        "files": rows_of(model.entries) if model.entries is not None else None,
        "steps": step_names(model),
        "remote": model.remote if model.state == "present" and not model.fetched_here else None,
        "source": model.source,
    }


def publish_row(model: Model) -> dict[str, t.Any]:
    return {
        "name": model.name,
        "state": model.state,
        "digest": digest_of(model.entries) if model.entries is not None else model.digest,
        "files": rows_of(model.entries) if model.entries is not None else None,
        "texts": model.texts,
        "steps": step_names(model),
        "identity": model.identity,
        "host_identity": model.host_identity,
        "source": model.source,
        "folder": model.fetched,
        "remote": {"exclude": model.remote["exclude"]} if model.fetched else plan_row(model)["remote"] if model.entries is None else None,
    }


def fetch_row(model: Model, settings: Settings) -> dict[str, t.Any]:
    remote = dict(model.remote)
    if model.kind == "folder":
        remote.update({"archive": None, "folder": None, "rclone": None})
    wanted = signature_wanted(model, settings)
    return {"name": model.name, "remote": remote, "texts": [wanted] if wanted and not path_problem(wanted) else []}


def take_sizes(model: Model, sizes: t.Mapping[str, int]) -> None:
    """Fill in the sizes of files by URL that the host has already."""
    model.entries = [
        FileEntry(entry.path, sizes.get(entry.sha256, entry.size), entry.sha256, entry.executable) if entry.size < 0 else entry
        for entry in model.entries or []
    ]


def take_fetched(model: Model, answer: t.Mapping[str, t.Any]) -> list[FileEntry]:
    """Take in what the host fetched; return the content of the source, which a signature covers."""
    model.fetched = answer["folder"]
    model.host_identity = answer.get("host_identity")
    got = entries_from(answer["files"])
    for path in answer.get("lfs") or []:
        model.add(
            f"{path} is a Git LFS pointer and not the file itself", "the source was made without Git LFS", "fetch it with 'git lfs pull'"
        )
    if model.kind == "folder":
        take_sizes(model, {entry.sha256: entry.size for entry in got})
        return [*(model.base or []), *got]
    for path, text in (answer.get("texts") or {}).items():
        if is_config_text(path):
            model.texts[path] = text
    return got
