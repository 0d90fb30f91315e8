# Copyright (c) 2026, The gpufleet.triton authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""NumPy and Triton's own client are the independent readings; neither is there on a target."""

from __future__ import annotations

import base64
import io
import json
import math
import random
import struct
import typing as t

import numpy
import pytest
from ansible_collections.gpufleet.triton.plugins.module_utils._tensors import (
    BINARY_ONLY,
    DATATYPES,
    FLOATS,
    Difference,
    Tensor,
    TensorError,
    Tolerance,
    bf16_bits,
    checked_datatype,
    checked_shape,
    checked_size,
    checked_tolerance,
    compare,
    decode_base64,
    fit_shape,
    flatten,
    json_values,
    pack,
    parse_npy,
    place,
    unpack,
    visible,
)
from tritonclient import utils as client_utils
from tritonclient.grpc import InferResult, service_pb2

NUMPY = {
    "BOOL": numpy.bool_,
    "UINT8": numpy.uint8,
    "UINT16": numpy.uint16,
    "UINT32": numpy.uint32,
    "UINT64": numpy.uint64,
    "INT8": numpy.int8,
    "INT16": numpy.int16,
    "INT32": numpy.int32,
    "INT64": numpy.int64,
    "FP16": numpy.float16,
    "FP32": numpy.float32,
    "FP64": numpy.float64,
}
VALUES: dict[str, list[t.Any]] = {
    "BOOL": [True, False, True],
    **{f"UINT{bits}": [0, 1, 2**bits - 1] for bits in (8, 16, 32, 64)},
    **{f"INT{bits}": [-(2 ** (bits - 1)), -1, 2 ** (bits - 1) - 1] for bits in (8, 16, 32, 64)},
    "FP16": [0.0, -1.5, 65504.0, 6e-8],
    "BF16": [0.0, -1.5, 3.3895313892515355e38, 9.183549615799121e-41],
    "FP32": [0.0, -1.5, 3.4028234663852886e38, 1.401298464324817e-45],
    "FP64": [0.1, -1.5, 1.7976931348623157e308, 5e-324],
    "BYTES": ["", "text", "äö\n\x00 ", "x" * 300],
}


def read_by_triton(datatype: str, raw: bytes, shape: t.Sequence[int]) -> t.Any:
    """Decode with Triton's own client, as an answer over gRPC."""
    answer = service_pb2.ModelInferResponse(raw_output_contents=[raw])
    answer.outputs.add(name="OUT", datatype=datatype, shape=shape)
    return InferResult(answer).as_numpy("OUT")


@pytest.mark.parametrize("datatype", DATATYPES)
def test_round_trip_in_binary_form(datatype: str) -> None:
    raw = pack(datatype, VALUES[datatype])
    found = unpack(datatype, raw)
    wanted = [value.encode() for value in VALUES[datatype]] if datatype == "BYTES" else VALUES[datatype]
    if datatype == "FP16":
        wanted = [float(numpy.float16(value)) for value in wanted]
    assert found == wanted
    assert pack(datatype, found) == raw
    assert unpack(datatype, raw, 2) == wanted[:2]


@pytest.mark.parametrize("datatype", [datatype for datatype in DATATYPES if datatype not in BINARY_ONLY])
def test_round_trip_as_json(datatype: str) -> None:
    raw = pack(datatype, VALUES[datatype])
    assert pack(datatype, json.loads(json.dumps(json_values(datatype, raw), allow_nan=False))) == raw


@pytest.mark.parametrize("datatype", NUMPY)
def test_the_binary_form_is_that_of_numpy_and_tritons_client(datatype: str) -> None:
    array = numpy.array(VALUES[datatype], dtype=NUMPY[datatype])
    raw = pack(datatype, VALUES[datatype])
    assert raw == array.astype(array.dtype.newbyteorder("<")).tobytes()
    assert client_utils.np_to_triton_dtype(array.dtype) == datatype
    assert numpy.array_equal(read_by_triton(datatype, raw, array.shape), array)


def test_bytes_are_those_of_tritons_client() -> None:
    values = VALUES["BYTES"]
    raw = pack("BYTES", values)
    assert raw == client_utils.serialize_byte_tensor(numpy.array(values, dtype=numpy.object_)).item()
    assert [value.decode() for value in read_by_triton("BYTES", raw, [len(values)])] == values


def test_bf16_is_that_of_tritons_client() -> None:
    bf16 = client_utils.triton_to_np_dtype("BF16")
    # From FP32, as theirs is made.
    plain = numpy.random.default_rng(2).standard_normal(5000) * 10.0 ** numpy.arange(-40, 10).repeat(100)
    values = numpy.concatenate([plain, VALUES["BF16"], [-0.0, math.inf, -math.inf]]).astype(numpy.float32)
    raw = pack("BF16", [float(value) for value in values])
    assert raw == values.astype(bf16).tobytes()
    assert read_by_triton("BF16", raw, values.shape).tobytes() == raw
    assert unpack("BF16", raw) == [float(value) for value in values.astype(bf16)]


def test_every_bf16_comes_back() -> None:
    raw = struct.pack("<65536H", *range(65536))
    for bits, value in enumerate(unpack("BF16", raw)):
        if not math.isnan(value):
            assert bf16_bits(value) == bits
        else:
            assert bf16_bits(value) & 0x7FFF == 0x7FC0


def test_bf16_rounds_to_the_nearest() -> None:
    generator = random.Random(16)
    finite = unpack("BF16", struct.pack("<32640H", *range(0x7F80)))
    for _number in range(5000):
        at = generator.randrange(len(finite) - 1)
        low, high = finite[at], finite[at + 1]
        value = low + (high - low) * generator.random()
        wanted = at if value - low < high - value else at + 1
        if value - low != high - value:
            assert bf16_bits(value) == wanted
            assert bf16_bits(-value) == 0x8000 | wanted
        # Halfway to the even neighbour. FP32 in between would round the second up to the tie, and then to even.
        assert bf16_bits((low + high) / 2) == (at if at % 2 == 0 else at + 1)
    assert bf16_bits(1 + 2**-8 + 2**-40) == 0x3F81
    assert bf16_bits(1 + 2**-8) == 0x3F80


def test_every_fp16_comes_back() -> None:
    raw = struct.pack("<65536H", *range(65536))
    array = numpy.frombuffer(raw, dtype="<f2")
    assert numpy.array_equal(numpy.array(unpack("FP16", raw), dtype=numpy.float16), array, equal_nan=True)


@pytest.mark.parametrize("datatype", FLOATS)
@pytest.mark.parametrize("words", [["NaN", "Infinity", "-Infinity"], ["nan", "inf", "-inf"], [math.nan, math.inf, -math.inf]])
def test_numbers_that_are_not_finite(datatype: str, words: list[t.Any]) -> None:
    raw = pack(datatype, words)
    found = unpack(datatype, raw)
    assert math.isnan(found[0])
    assert found[1:] == [math.inf, -math.inf]
    assert json_values(datatype, raw) is None
    assert visible(Tensor("OUT", datatype, (3,), raw), 10)["data"] == ["NaN", "Infinity", "-Infinity"]


@pytest.mark.parametrize(
    ("datatype", "values", "words"),
    [
        ("INT8", [1, 128], "at [1] wanted -128 to 127, got 128"),
        ("UINT8", [-1], "at [0] wanted 0 to 255, got -1"),
        ("UINT64", [2**64], "wanted 0 to 18446744073709551615"),
        ("INT32", [1.5], "wanted an integer, got 1.5"),
        ("INT32", [True], "wanted an integer, got True"),
        ("INT32", ["x"], "wanted an integer, got 'x'"),
        ("INT32", [None], "wanted an integer, got None"),
        ("INT32", [math.inf], "wanted an integer, got inf"),
        ("BOOL", [2], "wanted true or false, got 2"),
        ("BOOL", ["yes"], "wanted true or false, got 'yes'"),
        ("FP32", [1e39], "1e+39 is too large for FP32"),
        ("FP16", [65520], "65520.0 is too large for FP16"),
        ("BF16", [3.4e38], "3.4e+38 is too large for BF16"),
        ("FP64", [10**400], "is too large for FP64"),
        ("FP64", [True], "wanted a number, got True"),
        ("FP64", ["one"], "wanted a number, got 'one'"),
        ("BYTES", [1], "wanted text, got 1"),
        ("BYTES", ["\udcff"], "wanted text"),
    ],
)
def test_values_that_do_not_fit(datatype: str, values: list[t.Any], words: str) -> None:
    with pytest.raises(TensorError) as caught:
        pack(datatype, values)
    assert words in caught.value.what
    assert caught.value.remedy


def test_text_of_templates_is_read() -> None:
    assert unpack("INT16", pack("INT16", ["-7", 2.0])) == [-7, 2]
    assert unpack("BOOL", pack("BOOL", ["True", "false", 0, 1])) == [True, False, False, True]
    assert unpack("FP64", pack("FP64", ["1.5", 2])) == [1.5, 2.0]


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("fp32", "FP32"),
        ("float32", "FP32"),
        ("float", "FP32"),
        ("TYPE_FP16", "FP16"),
        ("np.float64", "FP64"),
        ("double", "FP64"),
        ("bfloat16", "BF16"),
        ("int", "INT32"),
        ("uint_8", "UINT8"),
        ("TYPE_STRING", "BYTES"),
        ("str", "BYTES"),
        ("boolean", "BOOL"),
        ("BYTE", "UINT8"),
    ],
)
def test_an_unknown_datatype_names_the_right_one(name: str, meant: str) -> None:
    with pytest.raises(TensorError) as caught:
        checked_datatype(name)
    assert caught.value.remedy == f"write {meant}"


def test_a_datatype_like_no_other() -> None:
    with pytest.raises(TensorError, match="'qqqqq' is unknown") as caught:
        checked_datatype("qqqqq")
    assert "BYTES" in caught.value.why
    assert [checked_datatype(datatype) for datatype in DATATYPES] == list(DATATYPES)


@pytest.mark.parametrize(
    ("data", "values", "shape"),
    [
        (5, [5], ()),
        ([1, 2], [1, 2], (2,)),
        ([[1, 2], [3, 4], [5, 6]], [1, 2, 3, 4, 5, 6], (3, 2)),
        ([[["a"]]], ["a"], (1, 1, 1)),
        ([], [], (0,)),
        ([[], []], [], (2, 0)),
    ],
)
def test_nested_lists(data: t.Any, values: list[t.Any], shape: tuple[int, ...]) -> None:
    assert flatten(data) == (values, shape)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        ([[1, 2], [3]], "at [1] wanted a list of 2 elements, got 1 elements"),
        ([[1, 2], 3], "at [1] wanted a list of 2 elements, got 3"),
        ([[[1], [2]], [[3], 4]], "at [1, 1] wanted a list of 1 elements, got 4"),
        ([1, [2]], "at [1] wanted a single value, got [2]"),
        ([[1, {}]], "at [0, 1] wanted a single value, got {}"),
    ],
)
def test_uneven_lists(data: t.Any, words: str) -> None:
    with pytest.raises(TensorError) as caught:
        flatten(data)
    assert words in caught.value.what


def test_places_and_shapes() -> None:
    assert [place(number, (2, 3)) for number in (0, 4, 5)] == ["[0, 0]", "[1, 1]", "[1, 2]"]
    assert place(0, ()) == "[]"
    assert checked_shape([0, 2]) == (0, 2)
    with pytest.raises(TensorError, match="negative dimension"):
        checked_shape([-1, 4])


@pytest.mark.parametrize(
    ("count", "nested", "wanted", "shape"),
    [
        (8, (8,), (-1, 4), (2, 4)),
        (4, (4,), (-1, 4), (1, 4)),
        (4, (4,), (4,), (4,)),
        (3, (3,), (4,), (3,)),
        (6, (2, 3), (-1, -1), (2, 3)),
        (6, (2, 3), (-1, 2, 3), (1, 2, 3)),
        (6, (2, 3), (-1,), (2, 3)),
        (1, (), (1,), (1,)),
        (1, (), (-1, -1), (1, 1)),
        (1, (), (), ()),
        (0, (0,), (-1, 4), (0, 4)),
    ],
)
def test_a_shape_that_is_not_given(count: int, nested: tuple[int, ...], wanted: tuple[int, ...], shape: tuple[int, ...]) -> None:
    assert fit_shape(count, nested, wanted) == shape


@pytest.mark.parametrize(("count", "wanted"), [(6, (-1, -1)), (5, (-1, 4)), (5, (2, 2)), (0, (-1, 0)), (4, (-1, -1, 4))])
def test_a_shape_that_cannot_be_told(count: int, wanted: tuple[int, ...]) -> None:
    with pytest.raises(TensorError, match="cannot be told") as caught:
        fit_shape(count, (count,), wanted)
    assert "option shape" in caught.value.remedy


def test_sizes_are_checked() -> None:
    checked_size("FP32", (2, 1), bytes(8))
    checked_size("BYTES", (2,), pack("BYTES", ["a", "b"]))
    for datatype, shape, raw in (("FP32", (2,), bytes(7)), ("BYTES", (1,), pack("BYTES", ["a", "b"])), ("BYTES", (1,), b"\x05\0\0\0abc")):
        with pytest.raises(TensorError):
            checked_size(datatype, shape, raw)
    with pytest.raises(TensorError, match="cut off"):
        unpack("BYTES", b"\x01\0")


def test_base64() -> None:
    assert decode_base64([base64.b64encode(b"\xff\x00").decode(), ""]) == [b"\xff\x00", b""]
    with pytest.raises(TensorError, match=r"At \[1\] wanted base64"):
        decode_base64(["", "not base64"])


# --- npy


def saved(array: t.Any, **options: t.Any) -> bytes:
    stream = io.BytesIO()
    numpy.save(stream, array, **options)
    return stream.getvalue()


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("endian", ["<", ">"])
@pytest.mark.parametrize("datatype", NUMPY)
def test_npy(datatype: str, endian: str, order: t.Any) -> None:
    plain = (numpy.arange(24) % 2 if datatype == "BOOL" else numpy.arange(24)).reshape(2, 3, 4)
    array = numpy.array(plain, dtype=numpy.dtype(NUMPY[datatype]).newbyteorder(endian), order=order)
    found, shape, raw = parse_npy(saved(array))
    assert (found, shape) == (datatype, (2, 3, 4))
    assert raw == plain.astype(numpy.dtype(NUMPY[datatype]).newbyteorder("<")).tobytes()


@pytest.mark.parametrize("shape", [(), (0,), (0, 3), (1,), (5,), (2, 1, 2, 1, 3)])
@pytest.mark.parametrize("order", ["C", "F"])
def test_npy_shapes(shape: tuple[int, ...], order: t.Any) -> None:
    array = numpy.asarray(numpy.random.default_rng(1).random(shape), order=order)
    assert parse_npy(saved(array)) == ("FP64", shape, array.tobytes("C"))


@pytest.mark.parametrize("dtype", ["S", "U", "<U", ">U"])
@pytest.mark.parametrize("order", ["C", "F"])
def test_npy_text(dtype: str, order: t.Any) -> None:
    words = [["a", "bcd"], ["", "e f"]] if dtype == "S" else [["ä", "bcd"], ["", "😀"]]
    found, shape, raw = parse_npy(saved(numpy.array(words, dtype=dtype, order=order)))
    assert (found, shape) == ("BYTES", (2, 2))
    assert [value.decode() for value in unpack("BYTES", raw)] == [word for row in words for word in row]


@pytest.mark.parametrize("version", [(1, 0), (2, 0), (3, 0)])
def test_npy_versions(version: tuple[int, int]) -> None:
    stream = io.BytesIO()
    numpy.lib.format.write_array(stream, numpy.arange(3, dtype="<i4"), version=version)
    assert parse_npy(stream.getvalue()) == ("INT32", (3,), struct.pack("<3i", 0, 1, 2))


def damaged(change: t.Callable[[bytes], bytes]) -> bytes:
    return change(saved(numpy.arange(3, dtype="<i4")))


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "no npy file"),
        (b"hello world", "no npy file"),
        (b"PK\x03\x04", "archive of arrays"),
        (damaged(lambda content: content[:-1]), "11 bytes follow"),
        (damaged(lambda content: content + b"x"), "13 bytes follow"),
        (damaged(lambda content: content[:30]), "header cannot be read"),
        (damaged(lambda content: content[:6] + b"\x09" + content[7:]), "version 9"),
        (damaged(lambda content: content.replace(b"False", b"Falsy")), "header cannot be read"),
        (damaged(lambda content: content.replace(b"(3,)", b"(-3,")), "header cannot be read"),
        (damaged(lambda content: content.replace(b"(3,)", b"'3' ")), "header cannot be read"),
        (damaged(lambda content: content.replace(b"'descr'", b"'other'")), "header cannot be read"),
        (saved(numpy.array([1j])), "has no datatype of the protocol"),
        (saved(numpy.array(["2026-01-01"], dtype="M8[D]")), "has no datatype of the protocol"),
        (saved(numpy.zeros(1, dtype=[("a", "i4")])), "has no datatype of the protocol"),
        (saved(numpy.array([{}], dtype=object), allow_pickle=True), "pickled Python objects"),
    ],
)
def test_npy_files_that_cannot_be_used(content: bytes, words: str) -> None:
    with pytest.raises(TensorError) as caught:
        parse_npy(content)
    assert words in caught.value.what
    assert caught.value.remedy


# --- what is shown


def test_large_outputs_are_cut() -> None:
    raw = pack("INT32", range(5000))
    found = visible(Tensor("OUT", "INT32", (5000,), raw), 3)
    assert (found["data"], found["truncated"], found["elements"]) == ([0, 1, 2], True, 5000)
    assert found["sha256"] == visible(Tensor("OUT", "INT32", (5000,), raw), 5000)["sha256"]
    text = visible(Tensor("OUT", "BYTES", (3,), pack("BYTES", ["a" * 10, "b" * 10, "c"])), 9, characters=15)
    assert (text["data"], text["truncated"]) == (["a" * 10], True)


def test_bytes_that_are_no_text_are_shown_in_base64() -> None:
    found = visible(Tensor("OUT", "BYTES", (2,), pack("BYTES", [b"\xff", b"a"])), 9)
    assert (found["data"], found["data_base64"]) == (None, ["/w==", "YQ=="])


# --- comparing


@pytest.mark.parametrize(
    ("wanted", "got", "tolerance", "same"),
    [
        ([1.0], [1.0], Tolerance(), True),
        ([1.0], [1.1], Tolerance(), False),
        ([1.0], [1.1], Tolerance(absolute=0.2), True),
        ([100.0], [101.0], Tolerance(relative=0.01), True),
        ([100.0], [101.5], Tolerance(relative=0.01), False),
        ([100.0], [101.5], Tolerance(absolute=0.5, relative=0.01), True),
        ([math.nan], [math.nan], Tolerance(), True),
        ([math.nan], [1.0], Tolerance(absolute=9e9), False),
        ([1.0], [math.nan], Tolerance(absolute=9e9), False),
        ([math.inf], [math.inf], Tolerance(), True),
        ([math.inf], [-math.inf], Tolerance(absolute=9e9, relative=1), False),
        ([math.inf], [1.0], Tolerance(relative=1), False),
        ([1.0], [math.inf], Tolerance(absolute=9e9), False),
        ([0.0], [-0.0], Tolerance(), True),
        ([2**64 - 1], [2**64 - 2], Tolerance(), False),
        ([7], [8], Tolerance(absolute=1), True),
        ([True], [False], Tolerance(absolute=1), False),
        ([b"a"], [b"a"], Tolerance(), True),
        ([b"a"], [b"A"], Tolerance(absolute=99), False),
    ],
)
def test_comparing(wanted: list[t.Any], got: list[t.Any], tolerance: Tolerance, same: bool) -> None:
    assert (compare(wanted, got, tolerance) is None) is same


def test_a_difference_is_described() -> None:
    found = compare([1.0, 2.0, math.nan, 4.0], [1.0, 2.5, 3.0, 2.0], Tolerance())
    assert found == Difference(first=1, wanted=2.0, got=2.5, count=3, largest=2.0)
    assert compare([math.inf], [1.0], Tolerance()) == Difference(0, math.inf, 1.0, 1, None)
    assert compare([b"a"], [b"b"], Tolerance()) == Difference(0, b"a", b"b", 1, None)


def test_comparing_agrees_with_numpy() -> None:
    generator = random.Random(7)
    choices = [0.0, -0.0, 1.0, 1.01, -1.0, 1e6, 1e6 + 1, math.nan, math.inf, -math.inf]
    for _number in range(2000):
        want, got = generator.choice(choices), generator.choice(choices)
        tolerance = Tolerance(generator.choice([0.0, 0.1, 5.0]), generator.choice([0.0, 1e-6, 0.1]))
        same = numpy.isclose(got, want, rtol=tolerance.relative, atol=tolerance.absolute, equal_nan=True)
        assert tolerance.allows(want, got) == bool(same), (want, got, tolerance)


@pytest.mark.parametrize(
    ("value", "found"),
    [
        (None, Tolerance()),
        (0.5, Tolerance(0.5)),
        ("0.5", Tolerance(0.5)),
        (1, Tolerance(1.0)),
        ({"relative": 0.1}, Tolerance(0.0, 0.1)),
        ({"absolute": 1, "relative": "1e-3"}, Tolerance(1.0, 0.001)),
    ],
)
def test_tolerances(value: t.Any, found: Tolerance) -> None:
    assert checked_tolerance(value) == found


@pytest.mark.parametrize("value", [-1, "x", math.nan, math.inf, True, [1], {"rel": 1}, {"absolute": None}])
def test_tolerances_that_are_none(value: t.Any) -> None:
    with pytest.raises(TensorError, match="tolerance"):
        checked_tolerance(value)
