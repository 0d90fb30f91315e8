# Copyright (c) 2026, The gpufleet.triton authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This file is private to the gpufleet.triton collection: it may change at any time.

"""Tensors of the v2 protocol, from and to what YAML and JSON can say. Pure, and without NumPy, which targets need not have.

A tensor's content is kept in the protocol's binary form: row by row, little endian, each element of BYTES behind its length.
"""

from __future__ import annotations

import ast
import base64
import binascii
import difflib
import hashlib
import itertools
import math
import struct
import typing as t
from dataclasses import dataclass

from ansible_collections.gpufleet.triton.plugins.module_utils._problem import ProblemError

#: Size in bytes and format character of the elements. BYTES have no size of their own, BF16 no format character.
_FORMATS: dict[str, tuple[int, str]] = {
    "BOOL": (1, "?"),
    "UINT8": (1, "B"),
    "UINT16": (2, "H"),
    "UINT32": (4, "I"),
    "UINT64": (8, "Q"),
    "INT8": (1, "b"),
    "INT16": (2, "h"),
    "INT32": (4, "i"),
    "INT64": (8, "q"),
    "FP16": (2, "e"),
    "BF16": (2, ""),
    "FP32": (4, "f"),
    "FP64": (8, "d"),
    "BYTES": (0, ""),
}
DATATYPES = tuple(_FORMATS)
FLOATS = ("FP16", "BF16", "FP32", "FP64")
#: Triton refuses to take or give these as JSON.
BINARY_ONLY = ("FP16", "BF16")
_ALIASES = {
    "BOOLEAN": "BOOL",
    "STRING": "BYTES",
    "STR": "BYTES",
    "TEXT": "BYTES",
    "OBJECT": "BYTES",
    "FLOAT": "FP32",
    "DOUBLE": "FP64",
    "HALF": "FP16",
    "INT": "INT32",
    "LONG": "INT64",
    "BYTE": "UINT8",
    "CHAR": "INT8",
    "BFLOAT16": "BF16",
}
_NPY_KINDS = {
    "b1": "BOOL",
    "u1": "UINT8",
    "u2": "UINT16",
    "u4": "UINT32",
    "u8": "UINT64",
    "i1": "INT8",
    "i2": "INT16",
    "i4": "INT32",
    "i8": "INT64",
    "f2": "FP16",
    "f4": "FP32",
    "f8": "FP64",
}
_NPY_MAGIC = b"\x93NUMPY"
_NPY_REMEDY = "write it with numpy.save, as an array of booleans, integers, floats or text"


class TensorError(ProblemError):
    """Data that cannot be a tensor. The tensor's name is added by who knows it."""


@dataclass(frozen=True)
class Tensor:
    name: str
    datatype: str
    shape: tuple[int, ...]
    raw: bytes

    @property
    def count(self) -> int:
        return count_of(self.shape)

    def sha256(self) -> str:
        return hashlib.sha256(self.raw).hexdigest()


def count_of(shape: t.Iterable[int]) -> int:
    return math.prod(shape)


def show_shape(shape: t.Iterable[int]) -> str:
    return "[" + ", ".join(str(size) for size in shape) + "]"


def show(value: t.Any, limit: int = 60) -> str:
    text = repr(value)
    return text if len(text) <= limit else text[:limit] + "..."


def checked_datatype(name: str) -> str:
    """Return the name of a datatype, or raise with the one that was probably meant."""
    if name in _FORMATS:
        return name
    plain = name.strip().upper()
    for prefix in ("TYPE_", "NUMPY.", "NP.", "TORCH."):
        plain = plain[len(prefix) :] if plain.startswith(prefix) else plain
    meant = _ALIASES.get(plain) or plain.replace("FLOAT", "FP").replace("_", "")
    close = difflib.get_close_matches(meant, DATATYPES, 1, 0.5)
    raise TensorError(
        f"datatype {name!r} is unknown",
        f"wanted one of {', '.join(DATATYPES)}",
        f"write {close[0]}" if close else "write one of those",
    )


def are_sizes(shape: t.Iterable[t.Any]) -> bool:
    return all(isinstance(size, int) and not isinstance(size, bool) and size >= 0 for size in shape)


def checked_shape(shape: t.Sequence[int]) -> tuple[int, ...]:
    if any(size < 0 for size in shape):
        raise TensorError(
            f"shape {show_shape(shape)} has a negative dimension",
            "-1 is for the configuration of a model, a request has sizes",
            "write the sizes, or leave shape out where the data tell it",
        )
    return tuple(shape)


def flatten(data: t.Any) -> tuple[list[t.Any], tuple[int, ...]]:
    """Return the elements of nested lists, row by row, and the shape that the nesting tells."""
    shape: list[int] = []
    items = [data]
    while items and isinstance(items[0], (list, tuple)):
        size = len(items[0])
        for number, item in enumerate(items):
            if not isinstance(item, (list, tuple)) or len(item) != size:
                got = f"{len(item)} elements" if isinstance(item, (list, tuple)) else show(item)
                raise TensorError(
                    f"the lists of its data are uneven: at {place(number, shape)} wanted a list of {size} elements, got {got}",
                    "a tensor is rectangular",
                    "make all lists of one level equally long, or give a flat list and the shape",
                )
        shape.append(size)
        items = list(itertools.chain.from_iterable(items))
    for number, item in enumerate(items):
        if isinstance(item, (list, tuple, dict)):
            raise TensorError(
                f"the lists of its data are uneven: at {place(number, shape)} wanted a single value, got {show(item)}",
                "a tensor is rectangular",
                "make all lists of one level equally deep, or give a flat list and the shape",
            )
    return items, tuple(shape)


def place(number: int, shape: t.Sequence[int]) -> str:
    """Return an element's index, from its number in a flat list."""
    index = []
    for size in reversed(shape):
        number, rest = divmod(number, size) if size else (0, 0)
        index.append(rest)
    return show_shape(reversed(index))


def _bool(value: t.Any) -> bool:
    if value is True or value is False:
        return value
    if value in (0, 1):
        return bool(value)
    if isinstance(value, str) and value.strip().lower() in ("true", "false"):
        return value.strip().lower() == "true"
    raise TensorError(f"wanted true or false, got {show(value)}", "", "write true or false")


def _integer(value: t.Any, datatype: str, low: int, high: int) -> int:
    found: t.Any = value
    if isinstance(value, str):
        # A template of an old Ansible leaves a text behind.
        try:
            found = int(value)
        except ValueError:
            found = None
    elif isinstance(value, float) and value.is_integer():
        found = int(value)
    if isinstance(found, bool) or not isinstance(found, int):
        raise TensorError(f"wanted an integer, got {show(value)}", "", f"write integers, or use another datatype than {datatype}")
    if not low <= found <= high:
        raise TensorError(
            f"wanted {low} to {high}, got {found}",
            f"{datatype} holds no other, and a server may cut it off without a word",
            "correct the number, or use a larger datatype if the model takes one",
        )
    return found


def _float(value: t.Any, datatype: str) -> float:
    found: float | None = None
    if isinstance(value, str):
        try:
            found = float(value)  # it knows NaN and Infinity too
        except ValueError:
            found = None
    elif isinstance(value, (int, float)) and not isinstance(value, bool):
        try:
            found = float(value)
        except OverflowError:
            raise _too_large(value, datatype) from None
    if found is None:
        raise TensorError(f"wanted a number, got {show(value)}", "", "write numbers, NaN, Infinity or -Infinity")
    return found


def _bytes(value: t.Any) -> bytes:
    if isinstance(value, bytes):
        return value
    if not isinstance(value, str):
        raise TensorError(f"wanted text, got {show(value)}", "YAML takes words like 1 and true for something else than text", "quote it")
    try:
        return value.encode("utf-8")
    except UnicodeEncodeError:
        raise TensorError(f"wanted text, got {show(value)}", "it has characters that UTF-8 has not", "give it in data_base64") from None


def _too_large(value: t.Any, datatype: str) -> TensorError:
    return TensorError(f"{show(value)} is too large for {datatype}", "", "correct the number, or write Infinity if that is meant")


def _convert(datatype: str, value: t.Any) -> t.Any:
    if datatype == "BYTES":
        return _bytes(value)
    if datatype == "BOOL":
        return _bool(value)
    if datatype in FLOATS:
        return _float(value, datatype)
    bits = 8 * _FORMATS[datatype][0]
    return _integer(value, datatype, *((0, 2**bits - 1) if datatype[0] == "U" else (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)))


def bf16_bits(value: float) -> int:
    """Round to the nearest BF16, ties to even, in one step: rounding to FP32 first would be wrong now and then."""
    sign = 0x8000 if math.copysign(1.0, value) < 0 else 0
    if math.isnan(value):
        return sign | 0x7FC0
    if math.isinf(value):
        return sign | 0x7F80
    if value == 0:
        return sign
    exponent = max(math.frexp(value)[1] - 1, -126)
    # Eight bits of significand: 128 to 256 steps for normal numbers, fewer below the smallest of them. 256 carries.
    steps = round(math.ldexp(abs(value), 7 - exponent))
    bits = steps + ((exponent + 126) << 7)
    if bits >= 0x7F80:
        raise OverflowError
    return sign | bits


def _pack_one(datatype: str, value: t.Any) -> bytes:
    if datatype == "BYTES":
        return struct.pack("<I", len(value)) + value
    try:
        if datatype == "BF16":
            return struct.pack("<H", bf16_bits(value))
        return struct.pack("<" + _FORMATS[datatype][1], value)
    except OverflowError:
        raise _too_large(value, datatype) from None


def pack(datatype: str, values: t.Sequence[t.Any], shape: t.Sequence[int] | None = None) -> bytes:
    """Return the binary form of values as YAML and JSON give them; `shape` is for the message of an error."""
    parts = []
    for number, value in enumerate(values):
        try:
            parts.append(_pack_one(datatype, _convert(datatype, value)))
        except TensorError as error:
            where = place(number, [len(values)] if shape is None else shape)
            raise TensorError(f"at {where} {error.what}", error.why, error.remedy) from None
    return b"".join(parts)


def unpack(datatype: str, raw: bytes, limit: int | None = None) -> list[t.Any]:
    """Return the elements of a binary form, or the first of them. Those of BYTES are bytes."""
    if datatype == "BYTES":
        return list(itertools.islice(_elements(raw), limit))
    size, letter = _FORMATS[datatype]
    count = len(raw) // size if limit is None else min(limit, len(raw) // size)
    part = raw[: count * size]
    if datatype == "BF16":
        # The upper half of an FP32.
        wide = bytearray(2 * len(part))
        wide[2::4] = part[0::2]
        wide[3::4] = part[1::2]
        part, letter = bytes(wide), "f"
    return list(struct.unpack(f"<{count}{letter}", part))


def _elements(raw: bytes) -> t.Iterator[bytes]:
    offset = 0
    while offset < len(raw):
        if offset + 4 > len(raw):
            raise TensorError("the length of an element of BYTES is cut off", f"{len(raw) - offset} bytes are left, wanted 4")
        (size,) = struct.unpack_from("<I", raw, offset)
        offset += 4
        if offset + size > len(raw):
            raise TensorError("an element of BYTES is cut off", f"{len(raw) - offset} bytes are left, wanted {size}")
        yield raw[offset : offset + size]
        offset += size


def checked_size(datatype: str, shape: t.Sequence[int], raw: bytes) -> None:
    """Raise unless the binary form has as many elements as the shape wants."""
    wanted = count_of(shape)
    if datatype == "BYTES":
        got = sum(1 for _element in _elements(raw))
        if got != wanted:
            raise TensorError(f"shape {show_shape(shape)} has {wanted} elements, the data have {got}")
    elif len(raw) != wanted * _FORMATS[datatype][0]:
        raise TensorError(f"shape {show_shape(shape)} of {datatype} takes {wanted * _FORMATS[datatype][0]} bytes, the data have {len(raw)}")


def decode_base64(texts: t.Sequence[str]) -> list[bytes]:
    found = []
    for number, text in enumerate(texts):
        try:
            found.append(base64.b64decode(text, validate=True))
        except (binascii.Error, ValueError) as error:
            raise TensorError(f"at [{number}] wanted base64, got {show(text)}", str(error), "use the filter b64encode") from None
    return found


def json_values(datatype: str, raw: bytes) -> list[t.Any] | None:
    """Return the elements as JSON carries them, or None where it cannot carry them exactly."""
    if datatype in BINARY_ONLY:
        return None
    values = unpack(datatype, raw)
    if datatype == "BYTES":
        try:
            return [value.decode("utf-8") for value in values]
        except UnicodeDecodeError:
            return None
    if datatype in FLOATS and not all(map(math.isfinite, values)):
        return None
    return values


def _word(value: t.Any) -> t.Any:
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    return value


def visible(tensor: Tensor, limit: int, characters: int = 65536) -> dict[str, t.Any]:
    """Return a tensor as the result of a module shows it: the first elements as a flat list, and the digest of all."""
    values = unpack(tensor.datatype, tensor.raw, limit)
    encoded: list[str] | None = None
    if tensor.datatype == "BYTES":
        room = characters
        kept: list[bytes] = []
        for value in values:
            room -= len(value)
            if room < 0:
                break
            kept.append(value)
        values = kept
        try:
            shown: list[t.Any] | None = [value.decode("utf-8") for value in values]
        except UnicodeDecodeError:
            shown, encoded = None, [base64.b64encode(value).decode("ascii") for value in values]
    else:
        shown = [_word(value) for value in values]
    found: dict[str, t.Any] = {
        "name": tensor.name,
        "datatype": tensor.datatype,
        "shape": list(tensor.shape),
        "elements": tensor.count,
        "truncated": len(values) < tensor.count,
        "sha256": tensor.sha256(),
        "data": shown,
    }
    if encoded is not None:
        found["data_base64"] = encoded
    return found


# --- shapes that are not given


def fit_shape(count: int, nested: t.Sequence[int], wanted: t.Sequence[int]) -> tuple[int, ...]:
    """Return the shape of data by the nesting of their lists and by what the model takes, where -1 is any size."""
    if len(nested) == len(wanted) and len(nested) != 1:
        return tuple(nested)
    if len(nested) > 1:
        # One level less is one element of a batch, without the batch's own brackets.
        if len(nested) == len(wanted) - 1 and wanted[0] == -1:
            return (1, *nested)
        return tuple(nested)
    if len(wanted) == 1 and nested:
        return tuple(nested)
    free = [number for number, size in enumerate(wanted) if size < 0]
    fixed = count_of(size for size in wanted if size >= 0)
    shape = list(wanted)
    if len(free) == 1 and fixed and count % fixed == 0:
        shape[free[0]] = count // fixed
    elif len(free) > 1 and count == fixed == 1:
        shape = [1 if size < 0 else size for size in wanted]
    if any(size < 0 for size in shape) or count_of(shape) != count:
        raise TensorError(
            f"its shape cannot be told: {count} elements for a model that takes {show_shape(wanted)}",
            "more than one size is open" if len(free) > 1 else "they do not fill it evenly",
            "give the option shape, or nest the lists of the data as deep as the tensor is",
        )
    return tuple(shape)


# --- files of numpy.save


def parse_npy(content: bytes) -> tuple[str, tuple[int, ...], bytes]:
    """Return datatype, shape and binary form of what numpy.save wrote. Pickled objects are refused: they are programs."""
    if content[:2] == b"PK":
        raise TensorError("it is an archive of arrays (npz)", "wanted one array", "save each array with numpy.save")
    if content[:6] != _NPY_MAGIC or len(content) < 10:
        raise TensorError("it is no npy file", f"it begins with {show(content[:6])}", _NPY_REMEDY)
    version = content[6]
    if version not in (1, 2, 3):
        raise TensorError(f"its npy format has version {version}", "known are 1, 2 and 3", _NPY_REMEDY)
    start = 10 if version == 1 else 12
    (size,) = struct.unpack_from("<H" if version == 1 else "<I", content.ljust(12, b"\0"), 8)
    header = content[start : start + size]
    try:
        if len(header) != size:
            raise ValueError("it is cut off")
        fields = ast.literal_eval(header.decode("utf-8" if version == 3 else "latin-1").strip())
        descr, fortran, shape = fields["descr"], fields["fortran_order"], fields["shape"]
        if not isinstance(fortran, bool) or not isinstance(shape, tuple) or not are_sizes(shape):
            raise ValueError("fortran_order or shape is not valid")
    except (ValueError, SyntaxError, KeyError, TypeError, MemoryError, RecursionError) as error:
        raise TensorError("its npy header cannot be read", f"{type(error).__name__}: {error}", _NPY_REMEDY) from None
    kind, width, order = _npy_type(descr)
    data = content[start + size :]
    if len(data) != count_of(shape) * width:
        raise TensorError(
            f"its npy header tells {count_of(shape)} elements of {width} bytes, and {len(data)} bytes follow",
            "the file is cut off or damaged",
            "write it again",
        )
    if fortran and len(shape) > 1:
        data = _rows_first(data, width, shape)
    if kind == "S":
        return "BYTES", shape, pack("BYTES", [item.rstrip(b"\0") for item in _split(data, width)])
    if kind == "U":
        codec = "utf-32-be" if order == ">" else "utf-32-le"
        try:
            return "BYTES", shape, pack("BYTES", [item.decode(codec).rstrip("\0") for item in _split(data, width)])
        except UnicodeDecodeError as error:
            raise TensorError("its text cannot be read", str(error), _NPY_REMEDY) from None
    if order == ">" and width > 1:
        letter = {2: "H", 4: "I", 8: "Q"}[width]
        count = len(data) // width
        data = struct.pack(f"<{count}{letter}", *struct.unpack(f">{count}{letter}", data))
    return _NPY_KINDS[kind], shape, data


def _npy_type(descr: t.Any) -> tuple[str, int, str]:
    """Return kind, bytes of an element and byte order of a dtype's description."""
    if isinstance(descr, str) and len(descr) > 1 and descr[0] in "<>|=":
        order, kind = descr[0], descr[1:]
        if kind in _NPY_KINDS:
            return kind, int(kind[1:]), order
        if kind[0] in "SU" and kind[1:].isdigit():
            return kind[0], int(kind[1:]) * (4 if kind[0] == "U" else 1), order
        if kind[0] == "O":
            raise TensorError(
                "its elements are pickled Python objects",
                "reading those would run what is in them",
                "save text with the dtype S or U (array.astype('U')), or use a json file",
            )
    known = ", ".join([*_NPY_KINDS, "S", "U"])
    raise TensorError(f"its dtype {show(descr)} has no datatype of the protocol", f"known are {known}", _NPY_REMEDY)


def _split(data: bytes, width: int) -> list[bytes]:
    return [data[start : start + width] for start in range(0, len(data), width)] if width else []


def _rows_first(data: bytes, width: int, shape: t.Sequence[int]) -> bytes:
    """Bring elements that were written column by column (Fortran's order) into the order of the protocol."""
    offsets = [0]
    stride = width
    strides = []
    for size in shape:
        strides.append(stride)
        stride *= size
    for size, step in zip(shape, strides):
        offsets = [offset + number * step for offset in offsets for number in range(size)]
    return b"".join(data[offset : offset + width] for offset in offsets)


# --- comparing


@dataclass(frozen=True)
class Tolerance:
    absolute: float = 0.0
    relative: float = 0.0

    def allows(self, wanted: float, got: float) -> bool:
        if wanted == got:
            return True
        if math.isnan(wanted) or math.isnan(got):
            return math.isnan(wanted) and math.isnan(got)
        if math.isinf(wanted) or math.isinf(got):
            return False
        return abs(got - wanted) <= self.absolute + self.relative * abs(wanted)


@dataclass(frozen=True)
class Difference:
    """How two lists of elements differ. `largest` is None where a difference has no size: text, NaN or infinity."""

    first: int
    wanted: t.Any
    got: t.Any
    count: int
    largest: float | None


def checked_tolerance(value: t.Any) -> Tolerance:
    """Read the option: a number, which is absolute, or a dictionary."""
    entries = value if isinstance(value, dict) else {"absolute": 0.0 if value is None else value}
    unknown = sorted(set(entries) - {"absolute", "relative"})
    if unknown:
        raise TensorError(f"its tolerance has {', '.join(map(str, unknown))}", "", "give a number, or absolute and relative")
    found = {}
    for key, entry in entries.items():
        try:
            number = float("nan") if isinstance(entry, bool) else float(entry)
        except (TypeError, ValueError):
            number = math.nan
        if not 0 <= number < math.inf:
            raise TensorError(f"its {key} tolerance is {show(entry)}", "wanted a number from 0 on", "correct it")
        found[key] = number
    return Tolerance(**found)


def compare(wanted: t.Sequence[t.Any], got: t.Sequence[t.Any], tolerance: Tolerance) -> Difference | None:
    """Compare equally many elements. NaN equals NaN, infinity only itself, and text only the same bytes."""
    first: int | None = None
    count = 0
    largest: float | None = None
    for number, (want, have) in enumerate(zip(wanted, got)):
        plain = isinstance(want, (bytes, bool))
        if want == have if plain else tolerance.allows(want, have):
            continue
        first = number if first is None else first
        count += 1
        if not plain and math.isfinite(want) and math.isfinite(have):
            largest = max(abs(have - want), largest or 0.0)
    if first is None:
        return None
    return Difference(first, wanted[first], got[first], count, largest)
