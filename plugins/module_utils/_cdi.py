# Copyright (c) 2026, The gpufleet.triton authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""CDI specifications of a host, and what they name that is not there. Private to the collection; knows nothing of AnsibleModule.

Specifications are YAML or JSON, and the standard library reads no YAML. So there is a reader here of the part of YAML that
nvidia-ctk writes and people write by hand: mappings, lists, both in braces too, and texts on one line. It refuses the rest.

Sources: SPEC.md of container-device-interface; specifications that nvidia-ctk 1.20.0 wrote, and one that Docker 26.1.5 took.
"""

from __future__ import annotations

import json
import os
import re
import typing as t

FOLDERS = ("/etc/cdi", "/var/run/cdi")
SPEC_LIMIT = 4 * 1024 * 1024
MISSING_LIMIT = 20

_KEY = re.compile(r"""("(?:[^"\\]|\\.)*"|'[^']*'|[^\s"'\[\]{},#&*!|>%@`-][^\s:]*)\s*:(?:\s+(.*))?\Z""")
_COMMENT = re.compile(r"(?:\A|\s+)#.*\Z")
_QUOTED = re.compile(r"""(?:"(?:[^"\\]|\\.)*"|'(?:[^']|'')*')""")
# What a driver's libraries are called: the version is the driver's.
_DRIVER_LIBRARY = re.compile(r"/lib(?:cuda|nvidia-ml)\.so\.(\d{3,}\.\d+(?:\.\d+)?)\Z")


class SpecError(ValueError):
    """The text is not a specification that can be read here."""


# --- The part of YAML --------------------------------------------------------------------------------------------------


class _Flow:
    """Values on one line: texts, and lists and mappings in brackets. Numbers and truth values stay texts."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.at = 0

    def whole(self) -> t.Any:
        value = self._value("")
        rest = _COMMENT.sub("", self.text[self.at :]).strip()
        if rest:
            raise SpecError(f"cannot read {self.text!r}")
        return value

    def _peek(self) -> str:
        while self.text[self.at : self.at + 1].isspace():
            self.at += 1
        return self.text[self.at : self.at + 1]

    def _take(self, mark: str) -> None:
        if self._peek() != mark:
            raise SpecError(f"wanted {mark!r} in {self.text!r}")
        self.at += 1

    def _value(self, ends: str) -> t.Any:
        first = self._peek()
        if first == "[":
            return self._list()
        if first == "{":
            return self._mapping()
        quoted = _QUOTED.match(self.text, self.at)
        if quoted:
            self.at = quoted.end()
            return _unquote(quoted.group())
        if first in ("&", "*", "!", "|", ">", "%", "@", "`"):
            raise SpecError(f"cannot read {self.text!r}: only plain texts, lists and mappings are understood")
        start = self.at
        while self.at < len(self.text) and self.text[self.at] not in ends:
            self.at += 1
        return _COMMENT.sub("", self.text[start : self.at]).strip()

    def _list(self) -> list[t.Any]:
        items = []
        self._take("[")
        while self._peek() != "]":
            items.append(self._value(",]"))
            if self._peek() != "]":
                self._take(",")
        self._take("]")
        return items

    def _mapping(self) -> dict[str, t.Any]:
        found = {}
        self._take("{")
        while self._peek() != "}":
            key = self._value(":")
            self._take(":")
            found[key] = self._value(",}")
            if self._peek() != "}":
                self._take(",")
        self._take("}")
        return found


def _unquote(text: str) -> str:
    return t.cast(str, json.loads(text)) if text[0] == '"' else text[1:-1].replace("''", "'")


class _Block:
    """Lines whose indentation says what belongs to what."""

    def __init__(self, text: str) -> None:
        lines = (line.rstrip() for line in text.splitlines())
        kept = (line for line in lines if line.strip() and not line.lstrip().startswith("#") and line not in ("---", "..."))
        self.lines = [(len(line) - len(line.lstrip(" ")), line.lstrip(" ")) for line in kept]
        self.at = 0

    def whole(self) -> t.Any:
        value = self._block(self.lines[0][0]) if self.lines else None
        if self.at < len(self.lines):
            raise SpecError(f"cannot read the line {self.lines[self.at][1]!r}")
        return value

    def _here(self, indent: int) -> str | None:
        """The line to read next, if it stands at this indentation."""
        if self.at < len(self.lines) and self.lines[self.at][0] == indent:
            return self.lines[self.at][1]
        return None

    def _block(self, indent: int) -> t.Any:
        line = self._here(indent) or ""
        if _is_item(line):
            return self._list(indent)
        if _KEY.match(line):
            return self._mapping(indent)
        self.at += 1
        return _Flow(line).whole()

    def _list(self, indent: int) -> list[t.Any]:
        items = []
        line = self._here(indent)
        while line is not None and _is_item(line):
            rest = line[1:].lstrip(" ")
            if rest:
                # What follows the dash is a block of its own, at the place where it begins.
                inner = indent + len(line) - len(rest)
                self.lines[self.at] = (inner, rest)
                items.append(self._block(inner))
            else:
                self.at += 1
                items.append(self._below(indent))
            line = self._here(indent)
        return items

    def _mapping(self, indent: int) -> dict[str, t.Any]:
        found = {}
        line = self._here(indent)
        while line is not None and not _is_item(line):
            match = _KEY.match(line)
            if match is None:
                raise SpecError(f"cannot read the line {line!r}: wanted 'key: value'")
            self.at += 1
            key = _Flow(match.group(1)).whole()
            value = _COMMENT.sub("", match.group(2) or "")
            # A list may stand at the indentation of its key.
            item = _is_item(self._here(indent) or "")
            found[key] = _Flow(match.group(2)).whole() if value else self._list(indent) if item else self._below(indent)
            line = self._here(indent)
        return found

    def _below(self, indent: int) -> t.Any:
        deeper = self.at < len(self.lines) and self.lines[self.at][0] > indent
        return self._block(self.lines[self.at][0]) if deeper else None


def _is_item(line: str) -> bool:
    return line == "-" or line.startswith("- ")


def parse(text: str) -> t.Any:
    """The data of a JSON or YAML text; SpecError where it has more than is understood here."""
    try:
        return json.loads(text)
    except ValueError:
        return _Block(text).whole()


# --- Specifications ----------------------------------------------------------------------------------------------------


def _rows(value: t.Any) -> list[dict[str, t.Any]]:
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []


def _paths(edits: t.Sequence[t.Any], key: str, names: t.Sequence[str]) -> list[str]:
    """The host's paths of all device nodes or mounts, each once, in their order."""
    found: dict[str, None] = {}
    for edit in edits:
        for row in _rows(edit.get(key) if isinstance(edit, dict) else None):
            path = next((row[name] for name in names if isinstance(row.get(name), str)), None)
            if path is not None:
                found[path] = None
    return list(found)


def under(root: str, path: str) -> str:
    """A path of the host, as it is reached from here."""
    return os.path.join(root, path.lstrip("/"))


def spec_facts(path: str, root: str = "/") -> dict[str, t.Any]:
    """One specification: what it offers, and what it names that the host does not have."""
    row: dict[str, t.Any] = {
        "path": path,
        "kind": None,
        "version": None,
        "devices": [],
        "driver": None,
        "missing_nodes": [],
        "missing_files": [],
        "error": None,
    }
    try:
        with open(under(root, path), encoding="utf-8") as handle:
            data = parse(handle.read(SPEC_LIMIT))
        if not isinstance(data, dict) or not isinstance(data.get("kind"), str):
            raise SpecError("it has no kind")
    except OSError as exc:
        row["error"] = f"cannot read it: {exc.strerror}"
        return row
    except (ValueError, RecursionError) as exc:
        row["error"] = f"it is no CDI specification: {exc}"
        return row
    devices = _rows(data.get("devices"))
    edits = [data.get("containerEdits"), *(device.get("containerEdits") for device in devices)]
    nodes = _paths(edits, "deviceNodes", ("hostPath", "path"))
    files = _paths(edits, "mounts", ("hostPath",))
    drivers = [match.group(1) for match in map(_DRIVER_LIBRARY.search, files) if match]
    row["kind"] = data["kind"]
    row["version"] = str(data.get("cdiVersion") or "") or None
    row["devices"] = [str(device.get("name")) for device in devices]
    row["driver"] = drivers[0] if drivers else None
    row["missing_nodes"] = [node for node in nodes if not os.path.exists(under(root, node))][:MISSING_LIMIT]
    row["missing_files"] = [name for name in files if not os.path.exists(under(root, name))][:MISSING_LIMIT]
    return row


def specs(folders: t.Sequence[str] = FOLDERS, root: str = "/") -> list[dict[str, t.Any]]:
    """Every specification in the folders. Of two with the same device, the one in the later folder counts."""
    found = []
    for folder in folders:
        try:
            names = sorted(os.listdir(under(root, folder)))
        except OSError:
            continue
        found += [spec_facts(os.path.join(folder, name), root) for name in names if name.endswith((".yaml", ".json"))]
    return found
