# Copyright (c) 2026, The gpufleet.triton authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Configurations made by walking the schema, so that a field that Triton adds tomorrow is covered without a word here."""

from __future__ import annotations

import random
import typing as t

from google.protobuf.descriptor import Descriptor, FieldDescriptor

TEXTS = (
    *("model", "ä ö 模型 🦊", "a\"b'c\\d", "\\u0041\\\\x41\\", "two\nlines\ttab\r", "\x00\x01\x7f\x85\u2028"),
    *("# no comment", "}", "key: [1]", "true", "8", "~"),
)
# Each is the shortest number for its 32 bits, as a reader would write it.
FLOATS = (0.1, -2.25, 0.001, 123.456, 16777216.0, 3.40282e38, float("inf"), float("-inf"))
LIMITS = {
    FieldDescriptor.CPPTYPE_INT32: (-(2**31), 2**31 - 1),
    FieldDescriptor.CPPTYPE_INT64: (-(2**63), 2**63 - 1),
    FieldDescriptor.CPPTYPE_UINT32: (0, 2**32 - 1),
    FieldDescriptor.CPPTYPE_UINT64: (0, 2**64 - 1),
}


def all_messages(descriptor: Descriptor) -> dict[str, Descriptor]:
    found: dict[str, Descriptor] = {}
    waiting = [descriptor]
    while waiting:
        current = waiting.pop()
        if current.full_name not in found:
            found[current.full_name] = current
            waiting += [field.message_type for field in current.fields if field.message_type is not None]
    return found


def all_fields(descriptor: Descriptor) -> dict[str, FieldDescriptor]:
    return {field.full_name: field for message in all_messages(descriptor).values() for field in message.fields}


def says_nothing(field: FieldDescriptor) -> bool:
    """Whether a field has but one value, which is its default: written or not, it is the same."""
    return field.enum_type is not None and len(field.enum_type.values) == 1


def all_enum_values(descriptor: Descriptor) -> set[str]:
    """Names of enums' values except the first ones, which are what an absent field means."""
    fields = [field for field in all_fields(descriptor).values() if field.enum_type is not None]
    return {f"{field.enum_type.full_name}.{value.name}" for field in fields for value in field.enum_type.values if value.number}


class Generator:
    """Makes configurations as data, in the form in which they come back, and notes what it used of the schema."""

    def __init__(self, seed: int, share: float = 0.5) -> None:
        self.random = random.Random(seed)
        self.share = share
        self.fields: set[str] = set()
        self.enum_values: set[str] = set()

    def message(self, descriptor: Descriptor) -> dict[str, t.Any]:
        fields = [field for field in descriptor.fields if self.random.random() < self.share and not says_nothing(field)]
        for oneof in descriptor.oneofs:
            members = [field for field in fields if field.containing_oneof is not None and field.containing_oneof.name == oneof.name]
            self.random.shuffle(members)
            fields = [field for field in fields if field not in members[1:]]
        self.random.shuffle(fields)
        return {field.name: self._field(field) for field in fields}

    def _field(self, field: FieldDescriptor) -> t.Any:
        self.fields.add(field.full_name)
        count = self.random.randint(1, 3)
        if field.message_type is not None and field.message_type.GetOptions().map_entry:
            key, value = (field.message_type.fields_by_name[name] for name in ("key", "value"))
            self.fields |= {key.full_name, value.full_name}
            return {self._value(key): self._value(value) for _number in range(count)}
        if field.is_repeated:
            return [self._value(field) for _number in range(count)]
        value = self._value(field)
        while value in ("", 0, False) and not isinstance(value, dict) and field.containing_oneof is None:
            value = self._value(field)
        return value

    def _value(self, field: FieldDescriptor) -> t.Any:
        if field.message_type is not None:
            return self.message(field.message_type)
        if field.enum_type is not None:
            chosen = self.random.choice([value for value in field.enum_type.values if value.number])
            self.enum_values.add(f"{field.enum_type.full_name}.{chosen.name}")
            return chosen.name
        if field.cpp_type == field.CPPTYPE_STRING:
            return self.random.choice(TEXTS)
        if field.cpp_type == field.CPPTYPE_BOOL:
            return self.random.random() < 0.5
        if field.cpp_type == field.CPPTYPE_FLOAT:
            return self.random.choice(FLOATS)
        if field.cpp_type == field.CPPTYPE_DOUBLE:
            return self.random.choice((self.random.random(), 1e300, -0.1))
        low, high = LIMITS[field.cpp_type]
        return self.random.choice((low, high, 1, self.random.randint(low, high)))
