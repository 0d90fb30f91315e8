# Copyright (c) 2026, The gpufleet.triton authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Triton's model configuration (config.pbtxt) as text, as a message and as plain data.

The schema is Triton's own: the protobuf module that comes with the Python package tritonclient. Runs on the controller
only. Private to this collection.
"""

from __future__ import annotations

import base64
import binascii
import difflib
import functools
import importlib.util
import math
import re
import struct
import typing as t
import warnings
from pathlib import Path

if t.TYPE_CHECKING:
    from google.protobuf.descriptor import Descriptor, EnumDescriptor, FieldDescriptor
    from google.protobuf.message import Message

REQUIREMENT = "tritonclient[grpc]"
DEFAULT_NAME = "config.pbtxt"

# As Google's text format reads them: a comment runs to the end of the line, a string ends on the line where it began.
_TOKEN = re.compile(
    r"""(?P<space>\s+)
    | (?P<comment>\#[^\n]*)
    | (?P<string>"(?:[^"\n\\]|\\.)*"|'(?:[^'\n\\]|\\.)*')
    | (?P<word>[A-Za-z_][0-9A-Za-z_+-]*|[0-9+-][0-9A-Za-z_.+-]*)
    | (?P<mark>.)""",
    re.VERBOSE | re.DOTALL,
)
_NO_FIELD = re.compile(r'Message type "(?P<type>[^"]+)" has no field named "(?P<name>[^"]*)"')
_NO_ENUM = re.compile(r'Enum type "(?P<type>[^"]+)" has no value named (?P<name>\S+?)\.?$')
_POSITION = re.compile(r"^\d+:\d+ : ")
_SURROGATE = re.compile("[\ud800-\udfff]")
_DIGITS = re.compile(r"-?[0-9]{1,20}")
# What Triton's reader takes after a backslash. Python's keeps what it does not know as it is, with a warning.
_ESCAPE = re.compile(r"""\\(?:[abfnrtv\\'"]|(?![4-7][0-7]{2})[0-7]|x[0-9A-Fa-f]|u[0-9A-Fa-f]{4}|U[0-9A-Fa-f]{8}|(?P<wrong>))""")
_OPENING = {"{": "}", "<": ">", "[": "]"}


class PbtxtError(Exception):
    """What is wrong with a configuration, and where: a place in a text, or a path in data."""

    def __init__(self, message: str, *, name: str = "", line: int = 0, column: int = 0, path: str = "") -> None:
        place = ":".join([name, *(str(number) for number in (line, column) if number)]) if name else path
        super().__init__(f"{place}: {message}" if place else message)
        self.name, self.line, self.column, self.path = name, line, column, path


class SchemaError(PbtxtError):
    """The schema cannot be had on this controller."""


class _Runtime(t.NamedTuple):
    text_format: t.Any
    config: type[Message]


@functools.cache
def _runtime() -> _Runtime:
    """Load protobuf and the schema, without the rest of tritonclient.grpc, which would want grpcio as well."""
    try:
        from google.protobuf import text_format
    except ImportError as error:
        raise SchemaError(
            f"Cannot read a model configuration: wanted the Python package protobuf on the controller, got '{error}'. "
            f"Install '{REQUIREMENT}' for the Python that runs Ansible."
        ) from error
    package = importlib.util.find_spec("tritonclient")
    for folder in (package and package.submodule_search_locations) or []:
        path = Path(folder) / "grpc" / "model_config_pb2.py"
        if path.is_file():
            return _Runtime(text_format, _load(path))
    raise SchemaError(
        "Cannot read a model configuration: wanted Triton's schema, which the Python package tritonclient brings, but the "
        f"controller does not have it. Install '{REQUIREMENT}' for the Python that runs Ansible."
    )


def _load(path: Path) -> type[Message]:
    spec = importlib.util.spec_from_file_location("_gpufleet_triton_model_config_pb2", path)
    if spec is None or spec.loader is None:
        raise SchemaError(f"Cannot load Triton's schema from {path}.")
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except (ImportError, TypeError, AttributeError, RuntimeError) as error:
        # A protobuf that is older than the code made with it says so here.
        raise SchemaError(
            f"Cannot load Triton's schema from {path}: {error}. Install '{REQUIREMENT}' for the Python that runs Ansible: it "
            "brings a protobuf that fits."
        ) from error
    return module.ModelConfig


def config_class() -> type[Message]:
    """The class of Triton's message ModelConfig."""
    return _runtime().config


# Text to message and back


def parse(text: str | bytes, name: str = DEFAULT_NAME) -> Message:
    """Read a configuration as Triton does.

    :raises PbtxtError: with the file's name, the line, the column and the nearest right name.
    """
    runtime = _runtime()
    text = _decoded(text, name)
    message = runtime.config()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Wrong escapes, which are refused below.
            runtime.text_format.Parse(text, message)
    except runtime.text_format.ParseError as error:
        if "codec" in str(error):
            _refuse_wrong_escapes(text, name)
        line = error.GetLine() or 1
        what = _plain_words(str(error), message.DESCRIPTOR, text.split("\n")[line - 1])
        raise PbtxtError(what, name=name, line=line, column=error.GetColumn() or 1) from error
    except (ValueError, TypeError, OverflowError, RecursionError) as error:
        raise PbtxtError(f"is not in protobuf's text format: {error}", name=name, line=1, column=1) from error
    _refuse_wrong_escapes(text, name)
    _refuse_unknown_enums(message, text, name)
    return message


def _decoded(text: str | bytes, name: str) -> str:
    if isinstance(text, bytes):
        try:
            text = text.decode("utf-8")
        except UnicodeDecodeError as error:
            before = text[: error.start]
            column = error.start - (before.rfind(b"\n") + 1) + 1
            raise PbtxtError("is not UTF-8.", name=name, line=before.count(b"\n") + 1, column=column) from error
    if not isinstance(text, str):
        raise PbtxtError(f"wanted text, got {_kind(text)}.", name=name)
    surrogate = _SURROGATE.search(text)
    if surrogate:
        raise PbtxtError("has a character that UTF-8 cannot hold.", name=name, **_place(text, surrogate.start()))
    if text.startswith("\ufeff"):
        raise PbtxtError("begins with a byte order mark: save the file without it.", name=name, line=1, column=1)
    return text


def _plain_words(text: str, descriptor: Descriptor, line: str) -> str:
    # Place and line are said by other means, and a line may be long.
    text = _POSITION.sub("", text)
    text = text[len(line) + 4 :] if text.startswith(f"'{line}': ") else text
    match = _NO_FIELD.search(text)
    if match:
        known = descriptor.file.pool.FindMessageTypeByName(match["type"])
        return f"{_short(known)} has no field '{match['name']}'.{_nearest(match['name'], [field.name for field in known.fields])}"
    match = _NO_ENUM.search(text)
    if match:
        enum = descriptor.file.pool.FindEnumTypeByName(match["type"])
        return f"{_short(enum)} has no value '{match['name']}'.{_nearest(match['name'], [value.name for value in enum.values])}"
    return f"{text.replace('inference.', '')[:300].rstrip('.')}."


def _place(text: str, position: int) -> dict[str, int]:
    before = text[:position]
    return {"line": before.count("\n") + 1, "column": position - (before.rfind("\n") + 1) + 1}


def _refuse_wrong_escapes(text: str, name: str) -> None:
    for token in _TOKEN.finditer(text):
        for escape in _ESCAPE.finditer(token.group()) if token.lastgroup == "string" else ():
            if escape["wrong"] is not None:
                position = token.start() + escape.start()
                what = f"Triton does not know the escape {ascii(text[position : position + 2])[1:-1]!r} in a string."
                raise PbtxtError(f"{what} Write a backslash as two.", name=name, **_place(text, position))


def _refuse_unknown_enums(message: Message, text: str, name: str) -> None:
    """The text format lets any number pass for an enum. Such a value has no name, and Triton no use for it."""
    for field, number in _unknown_enums(message):
        match = re.search(rf"\b{field.name}\s*:\s*(?P<value>{number})\b", text)
        names = ", ".join(value.name for value in field.enum_type.values)
        raise PbtxtError(
            f"{_short(field.enum_type)} has no value {number} (field '{field.name}'). Use one of {names}.",
            name=name,
            **_place(text, match.start("value") if match else 0),
        )


def _unknown_enums(message: Message) -> t.Iterator[tuple[FieldDescriptor, int]]:
    for field, value in message.ListFields():
        if field.enum_type is not None:
            for number in value if _repeated(field) else [value]:
                if number not in field.enum_type.values_by_number:
                    yield field, number
        elif field.message_type is not None:
            for inner in _messages(field, value):
                yield from _unknown_enums(inner)


def _messages(field: FieldDescriptor, value: t.Any) -> t.Iterable[Message]:
    if _is_map(field):
        return value.values() if field.message_type.fields_by_name["value"].message_type is not None else ()
    return value if _repeated(field) else [value]


def dump(message: Message) -> str:
    """The canonical text of a message: fields in the schema's order, keys of maps sorted, two spaces, UTF-8."""
    return _runtime().text_format.MessageToString(message, as_utf8=True)


# Message to data and back


def to_dict(message: Message) -> dict[str, t.Any]:
    """A message as plain data.

    Names are those of the schema, enums are names, all integers are integers, maps are dictionaries. What has its default is
    left out, except where it was set and being set matters: a member of a oneof, a message without content.
    """
    data: dict[str, t.Any] = {}
    for field, value in message.ListFields():
        if _is_map(field):
            of_values = field.message_type.fields_by_name["value"]
            data[field.name] = {key: _plain(of_values, value[key]) for key in sorted(value)}
        elif _repeated(field):
            data[field.name] = [_plain(field, item) for item in value]
        else:
            data[field.name] = _plain(field, value)
    return data


def _plain(field: FieldDescriptor, value: t.Any) -> t.Any:
    if field.message_type is not None:
        return to_dict(value)
    if field.enum_type is not None:
        return field.enum_type.values_by_number[value].name
    if field.type == field.TYPE_FLOAT:
        return _short_float(value)
    if field.type == field.TYPE_BYTES:
        return base64.b64encode(value).decode("ascii")
    return value


def _short_float(value: float) -> float:
    """The shortest number that is the same in 32 bits: 0.1 shall come back as 0.1, not as 0.10000000149011612."""
    if not math.isfinite(value):
        return value
    for digits in range(6, 9):
        short = float(f"{value:.{digits}g}")
        try:
            if struct.unpack("<f", struct.pack("<f", short))[0] == value:
                return short
        except OverflowError:  # Rounded up beyond the largest number that 32 bits hold.
            continue
    return value


def from_dict(data: t.Mapping[str, t.Any], message: Message | None = None) -> Message:
    """Plain data as a message, without any guess.

    :param message: what to fill; a new ModelConfig when None.
    :raises PbtxtError: with the path, such as ``instance_group[0].knd``, what was wanted and what it got.
    """
    if message is None:
        message = config_class()()
    _fill(message, data, "")
    return message


def _fill(message: Message, data: t.Any, path: str) -> None:
    descriptor = message.DESCRIPTOR
    if not isinstance(data, t.Mapping):
        raise PbtxtError(f"wanted a mapping ({_short(descriptor)}), got {_kind(data)}.", path=path or _short(descriptor))
    chosen: dict[str, str] = {}
    for key, value in data.items():
        field = _field(descriptor, key, path)
        where = _join(path, field.name)
        oneof = field.containing_oneof
        if oneof is not None:
            other = chosen.setdefault(oneof.name, field.name)
            if other != field.name:
                raise PbtxtError(f"'{field.name}' and '{other}' exclude each other: keep one.", path=where)
        if _is_map(field):
            _fill_map(message, field, value, where)
        elif _repeated(field):
            if isinstance(value, (str, bytes, t.Mapping)) or not isinstance(value, t.Sequence):
                raise PbtxtError(f"wanted a list of {_wanted(field)}, got {_kind(value)}.", path=where)
            for index, item in enumerate(value):
                target = getattr(message, field.name)
                if field.message_type is not None:
                    _fill(target.add(), item, f"{where}[{index}]")
                else:
                    target.append(_scalar(field, item, f"{where}[{index}]"))
        elif field.message_type is not None:
            target = getattr(message, field.name)
            target.SetInParent()
            _fill(target, value, where)
        else:
            setattr(message, field.name, _scalar(field, value, where))


def _fill_map(message: Message, field: FieldDescriptor, data: t.Any, path: str) -> None:
    of_values = field.message_type.fields_by_name["value"]
    if not isinstance(data, t.Mapping):
        raise PbtxtError(f"wanted a mapping to {_wanted(of_values)}, got {_kind(data)}.", path=path)
    target = getattr(message, field.name)
    for key, value in data.items():
        where = f"{path}[{_clip(key)}]"
        exact = _map_key(field, key, where)
        if of_values.message_type is not None:
            _fill(target[exact], value, where)
        else:
            target[exact] = _scalar(of_values, value, where)


def _map_key(field: FieldDescriptor, key: t.Any, path: str) -> t.Any:
    of_keys = field.message_type.fields_by_name["key"]
    if of_keys.cpp_type != of_keys.CPPTYPE_STRING and isinstance(key, str) and _DIGITS.fullmatch(key):
        key = int(key)  # JSON knows no other keys than strings.
    return _scalar(of_keys, key, path)


def _scalar(field: FieldDescriptor, value: t.Any, path: str) -> t.Any:
    def wrong() -> PbtxtError:
        return PbtxtError(f"wanted {_wanted(field)}, got {_kind(value)}.{_remedy(field, value)}", path=path)

    if field.enum_type is not None:
        if not isinstance(value, str):
            raise wrong()
        # Plain dictionaries: those of protobuf break on text that UTF-8 cannot hold.
        known = {each.name: each for each in field.enum_type.values}
        if value not in known:
            near = _nearest(value, list(known)) or f" Use one of {', '.join(known)}."
            raise PbtxtError(f"{_short(field.enum_type)} has no value {_clip(value)}.{near}", path=path)
        return known[value].number
    if field.cpp_type == field.CPPTYPE_BOOL:
        if not isinstance(value, bool):
            raise wrong()
        return bool(value)
    if field.type == field.TYPE_BYTES:
        return _bytes(value, wrong)
    if field.cpp_type == field.CPPTYPE_STRING:
        if not isinstance(value, str):
            raise wrong()
        try:
            str(value).encode("utf-8")
        except UnicodeEncodeError as error:
            raise PbtxtError(f"wanted text that UTF-8 can hold, got {ascii(str(value))[:80]}.", path=path) from error
        return str(value)
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise wrong()
    if field.cpp_type in (field.CPPTYPE_FLOAT, field.CPPTYPE_DOUBLE):
        return _real(field, value, wrong)
    low, high = _limits(field)
    if not isinstance(value, int) or not low <= value <= high:
        raise wrong()
    return int(value)


def _bytes(value: t.Any, wrong: t.Callable[[], PbtxtError]) -> bytes:
    if isinstance(value, bytes):
        return value
    try:
        return base64.b64decode(value, validate=True)
    except (binascii.Error, TypeError, ValueError) as error:
        raise wrong() from error


def _real(field: FieldDescriptor, value: float, wrong: t.Callable[[], PbtxtError]) -> float:
    try:
        number = float(value)
        if field.cpp_type == field.CPPTYPE_FLOAT:
            struct.pack("<f", number)
    except OverflowError as error:
        raise wrong() from error
    return number


def _limits(field: FieldDescriptor) -> tuple[int, int]:
    return {
        field.CPPTYPE_INT32: (-(2**31), 2**31 - 1),
        field.CPPTYPE_INT64: (-(2**63), 2**63 - 1),
        field.CPPTYPE_UINT32: (0, 2**32 - 1),
        field.CPPTYPE_UINT64: (0, 2**64 - 1),
    }[field.cpp_type]


# Merge


def merge_dicts(current: t.Mapping[str, t.Any], override: t.Mapping[str, t.Any]) -> dict[str, t.Any]:
    """Lay an override over a configuration, both as data.

    Messages and maps merge key by key and as deep as they go; lists and plain values replace; null removes. What belongs to
    a choice (a oneof, such as ``dynamic_batching`` and ``sequence_batching``) takes the place of the other choices.

    :raises PbtxtError: where the override names a field that Triton does not have.
    """
    return _merge_message(config_class().DESCRIPTOR, current, override, "")


def _merge_message(descriptor: Descriptor, current: t.Any, override: t.Any, path: str) -> t.Any:
    if not isinstance(override, t.Mapping):
        raise PbtxtError(f"wanted a mapping ({_short(descriptor)}), got {_kind(override)}.", path=path or "override")
    merged = dict(current) if isinstance(current, t.Mapping) else {}
    chosen: dict[str, str] = {}
    for key, value in override.items():
        field = _field(descriptor, key, path)
        where = _join(path, field.name)
        if value is None:
            merged.pop(field.name, None)
            continue
        if field.containing_oneof is not None:
            other = chosen.setdefault(field.containing_oneof.name, field.name)
            if other != field.name:
                raise PbtxtError(f"'{field.name}' and '{other}' exclude each other: keep one.", path=where)
            for member in field.containing_oneof.fields:
                if member.name != field.name:
                    merged.pop(member.name, None)
        if _is_map(field):
            merged[field.name] = _merge_map(field, merged.get(field.name), value, where)
        elif field.message_type is not None and not _repeated(field):
            merged[field.name] = _merge_message(field.message_type, merged.get(field.name), value, where)
        else:
            merged[field.name] = value
    return merged


def _merge_map(field: FieldDescriptor, current: t.Any, override: t.Any, path: str) -> t.Any:
    of_values = field.message_type.fields_by_name["value"]
    if not isinstance(override, t.Mapping):
        raise PbtxtError(f"wanted a mapping to {_wanted(of_values)}, got {_kind(override)}.", path=path)
    merged = dict(current or {})
    for key, value in override.items():
        where = f"{path}[{_clip(key)}]"
        exact = _map_key(field, key, where)
        if value is None:
            merged.pop(exact, None)
        elif of_values.message_type is not None:
            merged[exact] = _merge_message(of_values.message_type, merged.get(exact), value, where)
        else:
            merged[exact] = value
    return merged


class _Entry(t.NamedTuple):
    """One field at the top level of a text: its name, where it begins and ends, and the comma or semicolon that it ends with."""

    name: str
    start: int
    end: int
    separator: str


def merge(text: str | bytes, override: t.Mapping[str, t.Any], name: str = DEFAULT_NAME) -> str:
    """Lay an override over the text of a configuration; see :func:`merge_dicts` for what that means.

    The text is edited, not written anew: what the override does not change keeps its place, its form and its comments. A field
    that changes is written where it first stood, a new one at the end, a removed one goes with the comment on its line. In
    maps (``parameters``) the unit is the single entry. When nothing changes, the text comes back byte for byte.

    :raises PbtxtError: when the text or the override is wrong.
    """
    text = _decoded(text, name)
    current = parse(text, name)
    merged = from_dict(merge_dicts(to_dict(current), override))
    edits: list[tuple[int, int, str]] = []
    entries: dict[str, list[_Entry]] = {}
    for entry in _entries(text):
        entries.setdefault(entry.name, []).append(entry)
    tail = []
    for field in merged.DESCRIPTOR.fields:
        before, after = _only(current, field), _only(merged, field)
        if _same(before, after):
            continue
        here = entries.get(field.name, [])
        if _is_map(field):
            edits += _map_edits(text, here, field, after, tail, name)
            continue
        wanted = _rendered(after, field, override)
        if not here:
            tail.append(wanted)
            continue
        edits += [_removal(text, entry) for entry in here[1:]]
        edits.append(_replacement(here[0], wanted) if wanted else _removal(text, here[0]))
    edited = _apply(text, edits, tail)
    if not _same(parse(edited, name), merged):
        raise PbtxtError("cannot be merged without being written anew. Put what the override says into the file.", name=name)
    return edited


def _entries(text: str) -> list[_Entry]:
    """The fields at the top level of a text that has been parsed, and so is known to be well formed."""
    tokens = [match for match in _TOKEN.finditer(text) if match.lastgroup not in ("space", "comment")]
    entries, at = [], 0
    while at < len(tokens):
        first, at = tokens[at], at + 1
        if at < len(tokens) and tokens[at].group() == ":":
            at += 1
        at = _after_value(tokens, at)
        separator = ""
        if at < len(tokens) and tokens[at].group() in (",", ";"):
            separator, at = tokens[at].group(), at + 1
        entries.append(_Entry(first.group(), first.start(), tokens[at - 1].end(), separator))
    return entries


def _after_value(tokens: list[re.Match[str]], at: int) -> int:
    if at >= len(tokens):
        return at
    if tokens[at].group() in _OPENING:
        depth = 0
        while at < len(tokens):
            mark = tokens[at].group()
            depth += (mark in _OPENING) - (mark in _OPENING.values())
            at += 1
            if depth == 0:
                break
        return at
    if tokens[at].lastgroup == "string":
        while at < len(tokens) and tokens[at].lastgroup == "string":
            at += 1
        return at
    return at + (2 if tokens[at].group() == "-" else 1)


def _map_edits(
    text: str, entries: list[_Entry], field: FieldDescriptor, after: Message, tail: list[str], name: str
) -> list[tuple[int, int, str]]:
    wanted = getattr(after, field.name)
    parts = [parse(text[entry.start : entry.end], name) for entry in entries]
    known = {key for part in parts for key in getattr(part, field.name)}
    missing = dump(_with_keys(after, field, [key for key in wanted if key not in known])).rstrip("\n")
    if missing and not entries:
        tail.append(missing)
    edits: list[tuple[int, int, str]] = []
    for entry, part in zip(entries, parts):
        fitting = _with_keys(after, field, [key for key in getattr(part, field.name) if key in wanted])
        new = dump(fitting).rstrip("\n")
        kept = _same(part, fitting)
        if entry is entries[-1] and missing:
            if kept:
                end = _line_end(text, entry.end)
                edits.append((end, end, f"\n{missing}"))
                continue
            new = f"{new}\n{missing}".lstrip("\n")
        elif kept:
            continue
        edits.append(_replacement(entry, new) if new else _removal(text, entry))
    return edits


def _line_end(text: str, position: int) -> int:
    """Where the line ends that goes on at a position, if nothing but a comment follows there; else the position."""
    end = text.find("\n", position)
    rest = text[position : len(text) if end < 0 else end].rstrip()
    return position + len(rest) if not rest or rest.lstrip().startswith("#") else position


def _with_keys(message: Message, field: FieldDescriptor, keys: t.Collection[t.Any]) -> Message:
    part = type(message)()
    part.CopyFrom(message)
    for key in [key for key in getattr(part, field.name) if key not in keys]:
        del getattr(part, field.name)[key]
    return part


def _rendered(part: Message, field: FieldDescriptor, override: t.Mapping[str, t.Any]) -> str:
    text = dump(part).rstrip("\n")
    if not text and field.message_type is None and not _repeated(field) and override.get(field.name) is not None:
        # The schema's default, asked for by name: say it, rather than have it vanish from the file.
        value = getattr(part, field.name)
        return f"{field.name}: " + ('""' if value == "" else str(value).lower())
    return text


def _replacement(entry: _Entry, new: str) -> tuple[int, int, str]:
    # The separator may be all that parts a number from the name behind it.
    return entry.start, entry.end, new + entry.separator


def _removal(text: str, entry: _Entry) -> tuple[int, int, str]:
    start = text.rfind("\n", 0, entry.start) + 1
    line_end = text.find("\n", entry.end)
    line_end = len(text) if line_end < 0 else line_end + 1
    rest = text[entry.end : line_end].strip()
    alone = not text[start : entry.start].strip()
    if alone and (not rest or rest.startswith("#")):
        return start, line_end, ""
    return entry.start, entry.end, ""


def _apply(text: str, edits: list[tuple[int, int, str]], tail: list[str]) -> str:
    newline = "\r\n" if "\r\n" in text else "\n"
    for start, end, new in sorted(edits, key=lambda edit: edit[:2], reverse=True):
        text = text[:start] + new.replace("\n", newline) + text[end:]
    if tail:
        text += newline if text and not text.endswith("\n") else ""
        text += "".join(f"{entry}\n" for entry in tail).replace("\n", newline)
    return text


def _only(message: Message, field: FieldDescriptor) -> Message:
    part = type(message)()
    part.CopyFrom(message)
    for other, _value in message.ListFields():
        if other.name != field.name:
            part.ClearField(other.name)
    return part


def _same(one: Message, other: Message) -> bool:
    # Not `==`, to which a number that is none (nan) differs from itself.
    return one.SerializeToString(deterministic=True) == other.SerializeToString(deterministic=True)


# Words


def _repeated(field: FieldDescriptor) -> bool:
    return field.is_repeated if hasattr(field, "is_repeated") else field.label == field.LABEL_REPEATED


def _is_map(field: FieldDescriptor) -> bool:
    return field.message_type is not None and field.message_type.GetOptions().map_entry


def _field(descriptor: Descriptor, key: t.Any, path: str) -> FieldDescriptor:
    known = {field.name: field for field in descriptor.fields}
    if not isinstance(key, str) or key not in known:
        raise PbtxtError(f"{_short(descriptor)} has no such field.{_nearest(str(key), list(known))}", path=_join(path, str(key)[:80]))
    return known[key]


def _join(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name


def _short(descriptor: Descriptor | EnumDescriptor) -> str:
    return descriptor.full_name.partition(".")[2] or descriptor.full_name


def _nearest(name: str, known: t.Sequence[str]) -> str:
    """A hint, if any name is near: first as written, then as a piece of a longer name (FP32 for TYPE_FP32)."""
    folded = {other.lower(): other for other in known}
    near = difflib.get_close_matches(name.lower(), folded, n=1)
    if not near and len(name) > 1:
        near = [other for other in folded if name.lower() in other][:1]
    return f" Did you mean '{folded[near[0]]}'?" if near else ""


def _wanted(field: FieldDescriptor) -> str:
    if field.message_type is not None:
        return f"a mapping ({_short(field.message_type)})"
    if field.enum_type is not None:
        return f"a name of {_short(field.enum_type)}"
    if field.type == field.TYPE_BYTES:
        return "bytes, or text in base64"
    if field.cpp_type == field.CPPTYPE_STRING:
        return "text"
    if field.cpp_type == field.CPPTYPE_BOOL:
        return "true or false"
    if field.cpp_type == field.CPPTYPE_FLOAT:
        return "a number that fits into 32 bits"
    if field.cpp_type == field.CPPTYPE_DOUBLE:
        return "a number"
    low, high = _limits(field)
    return f"a whole number from {low} to {high}"


def _kind(value: t.Any) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return f"the truth value {str(value).lower()}"
    if isinstance(value, int):
        return f"the number {value}" if abs(value) < 10**30 else "a number too large to print"
    if isinstance(value, float):
        return f"the number {value}"
    if isinstance(value, str):
        return f"the text {_clip(value)}"
    if isinstance(value, t.Mapping):
        return "a mapping"
    return "a list" if isinstance(value, t.Sequence) and not isinstance(value, bytes) else type(value).__name__


def _remedy(field: FieldDescriptor, value: t.Any) -> str:
    if field.cpp_type in (field.CPPTYPE_STRING, field.CPPTYPE_ENUM):
        return "" if isinstance(value, str) or value is None else " Quote it, if it is meant as text."
    if isinstance(value, str) and field.cpp_type == field.CPPTYPE_BOOL:
        return " Take the quotes away, or end the template with '| bool'."
    if isinstance(value, str):
        return " Take the quotes away, or end the template with '| int' or '| float'."
    return ""


def _clip(value: t.Any) -> str:
    text = ascii(str(value)) if isinstance(value, str) else str(value)
    return text if len(text) <= 80 else f"{text[:77]}..."
