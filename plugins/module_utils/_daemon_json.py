# Copyright (c) 2026, The gpufleet.triton authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The text of Docker's daemon.json: read, merge into, take out of. Private to the collection; knows nothing of AnsibleModule.

The file belongs to whoever wrote it, so its text is edited where something differs and nowhere else: the order of the keys,
the indentation, numbers and escapes stay as they were, and what was merged in and is taken out again leaves no trace.
"""

from __future__ import annotations

import dataclasses
import json
import re
import typing as t

# The names that lead to a value, from the outermost one on.
Path = tuple[str, ...]

# What dockerd takes on SIGHUP: "Configuration reload behavior" in Docker's documentation of dockerd. A reload of most of
# these only looks at what the file has, so a key that left the file keeps its old value until dockerd is started again.
RELOADED_WHEN_SET = frozenset(
    {
        "allow-nondistributable-artifacts",
        "debug",
        "default-runtime",
        "insecure-registries",
        "labels",
        "live-restore",
        "registry-mirrors",
        "runtimes",
        "shutdown-timeout",
    }
)
RELOADED_ALWAYS = frozenset({"authorization-plugins", "max-concurrent-downloads", "max-concurrent-uploads", "max-download-attempts"})
# A reload takes 'features' as well, but most of them (cdi, containerd-snapshotter) are looked at only when dockerd starts.
RELOADED_FEATURES = frozenset({"buildkit"})

_MARK = "\ufeff"
_SPACE = re.compile(r"[ \t\r\n]*")
_LITERAL = re.compile(r'["0-9tfn-]')
# In the text of the file, where a slash may be escaped and a string ends with its quote; and in a value by itself.
_CREDENTIALS = re.compile(r'(:(?:\\?/){2})(?:[^"\\\n]|\\.)*@')
_CREDENTIALS_OF_VALUE = re.compile(r"(://).*@", re.DOTALL)
_SECRET_NAME = re.compile(r"token|password|secret", re.IGNORECASE)
_SECRET_MEMBER = re.compile(r'("[^"]*(?:token|password|secret)[^"]*"\s*:\s*)"(?:[^"\\]|\\.)*"', re.IGNORECASE)
_PLAIN_NAME = re.compile(r'[^."]+')
_MASK = "****"


class DaemonJsonError(Exception):
    """A text that cannot be read, or a setting that cannot be in it; the message says where and why."""


@dataclasses.dataclass
class Node:
    """A value and where it stands; C(members) is None for everything but an object."""

    start: int
    end: int
    value: t.Any
    members: list[Member] | None = None

    def member(self, key: str) -> Member | None:
        return next((member for member in self.members or [] if member.key == key), None)


@dataclasses.dataclass
class Member:
    """One key of an object with its value."""

    key: str
    start: int
    key_end: int
    node: Node


def _refuse_constant(name: str) -> t.NoReturn:
    raise ValueError(f"{name} is no JSON")


_DECODER = json.JSONDecoder(parse_constant=_refuse_constant)


class _Parser:
    """Strict JSON that remembers where each member of each object stands."""

    def __init__(self, text: str) -> None:
        self.text = text

    def fail(self, at: int, reason: str) -> t.NoReturn:
        if self.text.startswith(("//", "/*", "#"), at):
            reason = "there is a comment, which JSON does not have and dockerd does not read"
        line = self.text.count("\n", 0, at) + 1
        column = at - (self.text.rfind("\n", 0, at) + 1) + 1
        raise DaemonJsonError(f"line {line}, column {column}: {reason}")

    def skip(self, at: int) -> int:
        match = _SPACE.match(self.text, at)
        return match.end() if match else at

    def found(self, at: int) -> str:
        return repr(self.text[at]) if at < len(self.text) else "the end of the file"

    def document(self) -> Node:
        start = self.skip(len(_MARK) if self.text.startswith(_MARK) else 0)
        if start == len(self.text):
            return Node(start, start, {}, [])
        try:
            node = self.value(start)
        except RecursionError:
            self.fail(start, "it is nested too deeply")
        if node.members is None:
            self.fail(start, "wanted an object, which begins with '{'")
        end = self.skip(node.end)
        if end < len(self.text):
            self.fail(end, f"wanted nothing more after the last '}}', got {self.found(end)}")
        return node

    def value(self, at: int) -> Node:
        if self.text.startswith("{", at):
            return self.object(at)
        if self.text.startswith("[", at):
            return self.array(at)
        if not _LITERAL.match(self.text, at):
            self.fail(at, f"wanted a value, got {self.found(at)}")
        try:
            value, end = _DECODER.raw_decode(self.text, at)
        except json.JSONDecodeError as exc:
            self.fail(exc.pos, exc.msg)
        except ValueError as exc:
            self.fail(at, str(exc))
        return Node(at, end, value)

    def object(self, start: int) -> Node:
        members: list[Member] = []
        at = self.skip(start + 1)
        while not (self.text.startswith("}", at) and not members):
            if not self.text.startswith('"', at):
                self.fail(at, f"wanted a key in double quotes, got {self.found(at)}")
            name = self.value(at)
            if any(member.key == name.value for member in members):
                self.fail(at, f"the key {name.value!r} is there a second time, and only one of them can be meant")
            colon = self.skip(name.end)
            if not self.text.startswith(":", colon):
                self.fail(colon, f"wanted ':' after the key {name.value!r}, got {self.found(colon)}")
            node = self.value(self.skip(colon + 1))
            members.append(Member(name.value, at, name.end, node))
            at = self.skip(node.end)
            if self.text.startswith("}", at):
                break
            if not self.text.startswith(",", at):
                self.fail(at, f"wanted ',' or '}}' after the value of {name.value!r}, got {self.found(at)}")
            at = self.skip(at + 1)
        return Node(start, at + 1, {member.key: member.node.value for member in members}, members)

    def array(self, start: int) -> Node:
        values: list[t.Any] = []
        at = self.skip(start + 1)
        while not (self.text.startswith("]", at) and not values):
            node = self.value(at)
            values.append(node.value)
            at = self.skip(node.end)
            if self.text.startswith("]", at):
                break
            if not self.text.startswith(",", at):
                self.fail(at, f"wanted ',' or ']', got {self.found(at)}")
            at = self.skip(at + 1)
        return Node(start, at + 1, values)


def parse(text: str) -> Node:
    """The object that a text holds. A text without a word is an empty object, as it is to dockerd."""
    return _Parser(text).document()


def decode(content: bytes) -> str:
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError as exc:
        line = content.count(b"\n", 0, exc.start) + 1
        column = exc.start - (content.rfind(b"\n", 0, exc.start) + 1) + 1
        raise DaemonJsonError(f"line {line}, column {column}: wanted text in UTF-8, got the byte 0x{content[exc.start]:02x}") from exc


# ------------------------------------------------------------------------------------------------------------ paths


def show_path(path: Path) -> str:
    """A path as text: names with dots between them, a name that has a dot itself in double quotes."""
    return ".".join(name if _PLAIN_NAME.fullmatch(name) else json.dumps(name, ensure_ascii=False) for name in path)


def parse_path(text: str) -> Path:
    names = []
    at = 0
    while True:
        plain = _PLAIN_NAME.match(text, at)
        if plain:
            names.append(plain.group())
            at = plain.end()
        else:
            try:
                name, at = _DECODER.raw_decode(text, at)
            except ValueError:
                name = None
            if not isinstance(name, str):
                raise DaemonJsonError(
                    f"{text!r} is no path of a setting: wanted names with a dot between them, such as log-opts.max-size, and a "
                    'name that has a dot itself in double quotes, such as runtimes."io.containerd.kata.v2"'
                )
            names.append(name)
        if at == len(text):
            return tuple(names)
        if text[at] != ".":
            raise DaemonJsonError(f"{text!r} is no path of a setting: wanted a dot after {names[-1]!r}, got {text[at]!r}")
        at += 1


def leaves(settings: t.Mapping[str, t.Any], prefix: Path = ()) -> list[Path]:
    """The paths of all values that are no object, or an empty one."""
    found: list[Path] = []
    for key, value in settings.items():
        path = (*prefix, key)
        found += leaves(value, path) if isinstance(value, dict) and value else [path]
    return found


def check_settings(settings: t.Mapping[str, t.Any], prefix: Path = ()) -> None:
    for key, value in settings.items():
        path = (*prefix, key)
        if value is None:
            raise DaemonJsonError(
                f"{show_path(path)} has no value. Give it one, or take the key out of the file with 'state: absent' and 'keys'"
            )
        if isinstance(value, dict):
            check_settings(value, path)


# ---------------------------------------------------------------------------------------------------------- editing


@dataclasses.dataclass
class _Style:
    """How the text is written: C(indent) is None where everything stands on one line."""

    newline: str
    indent: str | None
    colon: str

    @classmethod
    def of(cls, text: str, document: Node) -> _Style:
        newline = "\r\n" if "\r\n" in text else "\n"
        if not document.members:
            return cls(newline, "  ", ": ")
        first = document.members[0]
        lead = _lead(text, first)
        colon = text[first.key_end : first.node.start]
        return cls(newline, _indentation(lead) if "\n" in lead else None, ": " if "\n" in colon else colon)

    def render(self, value: t.Any, indentation: str | None) -> str:
        """A value as text; C(indentation) is that of the line that it begins in, or None to put all of it on one line."""
        if indentation is None:
            comma = ", " if self.colon.endswith(" ") else ","
            return json.dumps(value, ensure_ascii=False, separators=(comma, self.colon))
        unit = "  " if self.indent is None else self.indent
        lines = json.dumps(value, ensure_ascii=False, indent=unit, separators=(",", self.colon)).split("\n")
        return (self.newline + indentation).join(lines)

    def member(self, key: str, value: t.Any, indentation: str | None) -> str:
        return json.dumps(key, ensure_ascii=False) + self.colon + self.render(value, indentation)


def _lead(text: str, member: Member) -> str:
    """The white space before a member."""
    start = len(text[: member.start].rstrip(" \t\r\n"))
    return text[start : member.start]


def _indentation(lead: str) -> str:
    return lead[lead.rfind("\n") + 1 :]


def _line_indentation(text: str, at: int) -> str:
    line = text[text.rfind("\n", 0, at) + 1 : at].lstrip(_MARK)
    return line[: len(line) - len(line.lstrip(" \t"))]


def _splice(text: str, start: int, end: int, new: str) -> str:
    return text[:start] + new + text[end:]


def _insert(text: str, document: Node, node: Node, key: str, value: t.Any) -> str:
    """Add a member at the end of an object, written as its others are."""
    style = _Style.of(text, document)
    if node.members:
        last = node.members[-1]
        lead = _lead(text, last)
        if len(node.members) == 1 and "\n" not in lead:
            # What stands before the only member is no separator.
            lead = " " if style.colon.endswith(" ") else ""
        member = style.member(key, value, _indentation(lead) if "\n" in lead else None)
        return _splice(text, last.node.end, last.node.end, f",{lead}{member}")
    if style.indent is None:
        return _splice(text, node.start, node.end, "{" + style.member(key, value, None) + "}")
    outer = _line_indentation(text, node.start)
    inner = outer + style.indent
    block = "{" + style.newline + inner + style.member(key, value, inner) + style.newline + outer + "}"
    # A text without a word has not even an object.
    return _splice(text, node.start, node.end, block if node.start < node.end else block + style.newline)


def _replace(text: str, document: Node, member: Member, value: t.Any) -> str:
    style, old = _Style.of(text, document), member.node
    lead = _lead(text, member)
    on_one_line = "\n" not in lead or (old.value and isinstance(old.value, (dict, list)) and "\n" not in text[old.start : old.end])
    return _splice(text, old.start, old.end, style.render(value, None if on_one_line else _indentation(lead)))


def same(left: t.Any, right: t.Any) -> bool:
    """Whether two values are one to dockerd: 1, 1.0 and true are not."""
    if isinstance(left, dict) and isinstance(right, dict):
        return left.keys() == right.keys() and all(same(value, right[key]) for key, value in left.items())
    if isinstance(left, list) and isinstance(right, list):
        return len(left) == len(right) and all(same(*pair) for pair in zip(left, right))
    return type(left) is type(right) and bool(left == right)


def _find(document: Node, path: Path) -> Node:
    node = document
    for key in path:
        member = node.member(key)
        if member is None:
            raise KeyError(key)
        node = member.node
    return node


def merge(text: str, settings: t.Mapping[str, t.Any], prefix: Path = ()) -> str:
    """The text with these settings in it. Objects are merged key by key, everything else (lists too) is replaced."""
    for key, wanted in settings.items():
        # Each edit moves what comes after it, so the text is read again; such a file is a few lines.
        document = parse(text)
        node = _find(document, prefix)
        member = node.member(key)
        if member is None:
            text = _insert(text, document, node, key, wanted)
        elif isinstance(wanted, dict) and member.node.members is not None:
            text = merge(text, wanted, (*prefix, key))
        elif not same(member.node.value, wanted):
            text = _replace(text, document, member, wanted)
    return text


def _cut(text: str, node: Node, member: Member) -> str:
    members = node.members or []
    at = members.index(member)
    if len(members) == 1:
        return _splice(text, node.start, node.end, "{}")
    if at == len(members) - 1:
        return _splice(text, members[at - 1].node.end, member.node.end, "")
    return _splice(text, member.start, members[at + 1].start, "")


def remove(text: str, paths: t.Iterable[Path]) -> str:
    """The text without these keys, and without the objects that are empty because of it."""
    for path in paths:
        node = parse(text)
        steps: list[tuple[Node, Member]] = []
        for key in path:
            member = node.member(key)
            if member is None:
                break
            steps.append((node, member))
            node = member.node
        if len(steps) < len(path):
            continue
        while len(steps) > 1 and len(steps[-1][0].members or []) == 1:
            steps.pop()
        text = _cut(text, *steps[-1])
    return text


# ---------------------------------------------------------------------------------------------------------- effects


def changed_paths(before: t.Mapping[str, t.Any], after: t.Mapping[str, t.Any], prefix: Path = ()) -> list[Path]:
    """The paths of all values that differ."""
    found: list[Path] = []
    for key in [*before, *(key for key in after if key not in before)]:
        path = (*prefix, key)
        if key in before and key in after and same(before[key], after[key]):
            continue
        old, new = before.get(key, {}), after.get(key, {})
        inner = changed_paths(old, new, path) if isinstance(old, dict) and isinstance(new, dict) else []
        found += inner or [path]
    return found


def needs_restart(path: Path, after: t.Mapping[str, t.Any]) -> bool:
    """Whether dockerd takes a changed value only when it starts."""
    name = path[0]
    if name == "features":
        return len(path) < 2 or path[1] not in RELOADED_FEATURES
    return name not in RELOADED_ALWAYS and not (name in RELOADED_WHEN_SET and name in after)


# ---------------------------------------------------------------------------------------------------------- secrets


def mask(text: str) -> str:
    """A text without the credentials in its URLs and without the values of tokens."""
    return _CREDENTIALS.sub(rf"\1{_MASK}@", _SECRET_MEMBER.sub(rf'\1"{_MASK}"', text))


def mask_value(value: t.Any, name: str = "") -> t.Any:
    """The same for a value that was not made text yet."""
    if isinstance(value, dict):
        return {key: mask_value(inner, str(key)) for key, inner in value.items()}
    if isinstance(value, list):
        return [mask_value(inner, name) for inner in value]
    if isinstance(value, str):
        return _MASK if _SECRET_NAME.search(name) else _CREDENTIALS_OF_VALUE.sub(rf"\1{_MASK}@", value)
    return value
