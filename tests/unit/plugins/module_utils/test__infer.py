# Copyright (c) 2026, The gpufleet.triton authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import base64
import io
import json
import math
import struct
import typing as t
from pathlib import Path

import numpy
import pytest
from ansible_collections.gpufleet.triton.plugins.module_utils._client import (
    AccessError,
    InferError,
    NotLoadedError,
    NotTritonError,
    StatusError,
    TritonClient,
)
from ansible_collections.gpufleet.triton.plugins.module_utils._infer import (
    FileMissingError,
    Inference,
    InferOptionsError,
    explain_refusal,
    percentile,
    summary,
)
from ansible_collections.gpufleet.triton.tests.unit.plugins.module_utils.scripted import RESTRICTED, TRITON, Call, Script, error

INFER = "/v2/models/m/infer"
MODEL = "/v2/models/m"
METADATA = {
    "name": "m",
    "versions": ["1"],
    "inputs": [{"name": "A", "datatype": "FP32", "shape": [-1, 2]}, {"name": "B", "datatype": "INT64", "shape": [1]}],
    "outputs": [{"name": "SUM", "datatype": "FP32", "shape": [-1, 2]}],
}
PARAMS: dict[str, t.Any] = {
    "model": "m",
    "version": None,
    "inputs": [],
    "outputs": None,
    "binary": "auto",
    "parameters": {},
    "expect": [],
    "max_latency_ms": None,
    "latency_percentile": "p95",
    "repeat": 1,
    "warmup": 0,
    "max_elements": 1000,
}
A = {"name": "A", "datatype": "FP32", "shape": [1, 2], "data": [1, 2]}


def out(*tensors: tuple[str, str, list[int], list[t.Any]]) -> dict[str, t.Any]:
    rows = [{"name": name, "datatype": datatype, "shape": shape, "data": data} for name, datatype, shape, data in tensors]
    return {"model_name": "m", "model_version": "3", "outputs": rows}


def binary_out(*tensors: tuple[str, str, list[int], bytes]) -> dict[str, t.Any]:
    """An answer as Triton gives it: it leaves the header out where no byte follows."""
    rows = [
        {"name": name, "datatype": datatype, "shape": shape, "parameters": {"binary_data_size": len(raw)}}
        for name, datatype, shape, raw in tensors
    ]
    head = json.dumps({"model_name": "m", "model_version": "3", "outputs": rows}).encode()
    tail = b"".join(raw for _name, _datatype, _shape, raw in tensors)
    headers = {"Inference-Header-Content-Length": str(len(head))} if tail else {}
    return {"answer": head + tail, "headers": headers}


SUM = out(("SUM", "FP32", [1, 2], [3.0, 4.0]))


def infer(script: Script, **params: t.Any) -> dict[str, t.Any]:
    found = Inference({**PARAMS, **params}).run(TritonClient(script))
    script.finish()
    return found


def refused(**params: t.Any) -> list[dict[str, str]]:
    with pytest.raises(InferOptionsError) as caught:
        Inference({**PARAMS, **params})
    return [problem.as_dict() for problem in caught.value.problems]


def sent(script: Script, path: str = INFER) -> tuple[dict[str, t.Any], bytes]:
    """Take a request apart, as a server does."""
    length = script.headers[path].get("Inference-Header-Content-Length")
    body = script.bodies[path]
    end = len(body) if length is None else int(length)
    assert script.headers[path].get("Content-Type") == (None if length is None else "application/octet-stream")
    return json.loads(body[:end]), body[end:]


# --- requests


def test_a_request_as_json() -> None:
    script = Script(Call("POST", INFER, answer=SUM))
    found = infer(script, inputs=[A], binary="false", parameters={"priority": 1}, outputs=["SUM"])
    assert sent(script) == (
        {
            "inputs": [{"name": "A", "datatype": "FP32", "shape": [1, 2], "data": [1.0, 2.0]}],
            "outputs": [{"name": "SUM", "parameters": {"binary_data": False}}],
            "parameters": {"priority": 1},
        },
        b"",
    )
    assert (found["model_name"], found["model_version"], found["problems"]) == ("m", "3", [])
    assert found["outputs"][0]["data"] == [3.0, 4.0]


def test_a_request_in_binary_form() -> None:
    script = Script(Call("POST", "/v2/models/m/versions/3/infer", **binary_out(("SUM", "FP16", [2], struct.pack("<2e", 3, 4)))))
    text = {"name": "T", "datatype": "BYTES", "data": ["ä"], "shape": [1]}
    found = infer(script, inputs=[A, text], binary="true", version=3)
    head, tail = sent(script, "/v2/models/m/versions/3/infer")
    assert head == {
        "inputs": [
            {"name": "A", "datatype": "FP32", "shape": [1, 2], "parameters": {"binary_data_size": 8}},
            {"name": "T", "datatype": "BYTES", "shape": [1], "parameters": {"binary_data_size": 6}},
        ],
        "parameters": {"binary_data_output": True},
    }
    assert tail == struct.pack("<2f", 1, 2) + b"\x02\0\0\0\xc3\xa4"
    assert found["outputs"][0]["data"] == [3.0, 4.0]


def test_auto_sends_what_a_person_can_read_and_json_can_carry() -> None:
    script = Script(Call("POST", INFER, answer=SUM))
    inputs = [
        A,
        {"name": "HALF", "datatype": "FP16", "shape": [1], "data": [1]},
        {"name": "NAN", "datatype": "FP32", "shape": [1], "data": ["NaN"]},
        {"name": "LONG", "datatype": "UINT8", "shape": [257], "data": [1] * 257},
        {"name": "TEXT", "datatype": "BYTES", "shape": [1], "data": ["x"]},
        {"name": "RAW", "shape": [1], "data_base64": ["/w=="]},
    ]
    infer(script, inputs=inputs)
    head, tail = sent(script)
    assert [row["name"] for row in head["inputs"] if "data" in row] == ["A", "TEXT"]
    assert len(tail) == 2 + 4 + 257 + 5
    assert head["parameters"] == {"binary_data_output": True}


@pytest.mark.parametrize(
    ("entry", "words"),
    [
        ({"datatype": "FP16", "data": [1]}, "FP16 data cannot travel as JSON"),
        ({"datatype": "BF16", "data": [1]}, "BF16 data cannot travel as JSON"),
        ({"datatype": "FP32", "data": ["nan"]}, "FP32 data cannot travel as JSON"),
        ({"data_base64": ["/w=="]}, "BYTES data cannot travel as JSON"),
    ],
)
def test_what_json_cannot_carry_is_refused(entry: dict[str, t.Any], words: str) -> None:
    inference = Inference({**PARAMS, "inputs": [{"name": "A", "shape": [1], **entry}], "binary": "false"})
    with pytest.raises(InferOptionsError, match=words) as caught:
        inference.run(TritonClient(Script()))
    assert caught.value.remedy == "set binary to auto or true"


def test_what_is_not_given_comes_from_the_model() -> None:
    script = Script(Call("GET", MODEL, answer=METADATA), Call("POST", INFER, answer=SUM))
    infer(script, inputs=[{"name": "A", "data": [1, 2, 3, 4]}, {"name": "B", "data": 7}])
    head, _tail = sent(script)
    assert [(row["datatype"], row["shape"], row["data"]) for row in head["inputs"]] == [
        ("FP32", [2, 2], [1.0, 2.0, 3.0, 4.0]),
        ("INT64", [1], [7]),
    ]


def test_the_model_is_asked_only_if_need_be() -> None:
    script = Script(Call("POST", INFER, answer=SUM))
    infer(script, inputs=[{"name": "A", "datatype": "FP32", "data": [[1, 2]]}])
    assert sent(script)[0]["inputs"][0]["shape"] == [1, 2]


def test_an_input_that_the_model_has_not() -> None:
    script = Script(Call("GET", MODEL, answer=METADATA))
    with pytest.raises(InferOptionsError, match="model 'm' has no such input") as caught:
        infer(script, inputs=[{"name": "a", "data": [1]}])
    assert caught.value.remedy == "write A"
    assert caught.value.why == "it takes A (FP32 [-1, 2]), B (INT64 [1])"


def test_all_that_is_wrong_with_the_data_is_told_at_once() -> None:
    script = Script(Call("GET", MODEL, answer=METADATA))
    with pytest.raises(InferOptionsError) as caught:
        infer(script, inputs=[{"name": "A", "data": [1, 2, 3]}, {"name": "B", "data": [0.5]}])
    first, second = caught.value.problems
    assert first.what == "Cannot use input 'A': its shape cannot be told: 3 elements for a model that takes [-1, 2]"
    assert second.what == "Cannot use input 'B': at [0] wanted an integer, got 0.5"


# --- files


def test_files(tmp_path: Path) -> None:
    stream = io.BytesIO()
    numpy.save(stream, numpy.asfortranarray(numpy.array([[1, 2], [3, 4]], dtype=">f8")))
    (tmp_path / "a.npy").write_bytes(stream.getvalue())
    (tmp_path / "b.json").write_text('{"datatype": "INT64", "shape": [1], "data": [7]}')
    (tmp_path / "c.json").write_text("[[true, false]]")
    (tmp_path / "d.bin").write_bytes(struct.pack("<2H", 1, 2))
    (tmp_path / "e.jpg").write_bytes(b"\xff\xd8")
    script = Script(Call("POST", INFER, answer=SUM))
    inputs = [
        {"name": "A", "file": str(tmp_path / "a.npy")},
        {"name": "A32", "file": str(tmp_path / "a.npy"), "datatype": "FP32"},
        {"name": "B", "file": str(tmp_path / "b.json")},
        {"name": "C", "file": str(tmp_path / "c.json"), "datatype": "BOOL"},
        {"name": "D", "file": str(tmp_path / "d.bin"), "datatype": "UINT16", "shape": [2]},
        {"name": "E", "file": str(tmp_path / "e.jpg"), "datatype": "BYTES", "shape": [1, 1], "format": "raw"},
    ]
    infer(script, inputs=inputs, binary="true")
    head, tail = sent(script)
    assert [(row["datatype"], row["shape"]) for row in head["inputs"]] == [
        ("FP64", [2, 2]),
        ("FP32", [2, 2]),
        ("INT64", [1]),
        ("BOOL", [1, 2]),
        ("UINT16", [2]),
        ("BYTES", [1, 1]),
    ]
    assert tail == (
        struct.pack("<4d", 1, 2, 3, 4)
        + struct.pack("<4f", 1, 2, 3, 4)
        + struct.pack("<q", 7)
        + b"\x01\x00"
        + struct.pack("<2H", 1, 2)
        + b"\x02\0\0\0\xff\xd8"
    )


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("a.npy", b"hello", "cannot be used: it is no npy file"),
        ("a.json", b"{", "cannot be used: it is not JSON"),
        ("a.json", b'{"x": 1}', "cannot be used: its object has no data"),
        ("a.json", b'{"data": [1], "shape": 1}', "cannot be used: its shape is 1"),
        ("a.json", b'{"data": [1], "datatype": "float"}', "datatype 'float' is unknown"),
        ("a.json", b"[[1, 2], [3]]", "the lists of its data are uneven"),
    ],
)
def test_files_that_cannot_be_used(tmp_path: Path, name: str, content: bytes, words: str) -> None:
    (tmp_path / name).write_bytes(content)
    problem = refused(inputs=[{"name": "A", "file": str(tmp_path / name)}])[0]
    assert problem["what"].startswith("Cannot use input 'A'")
    assert words in problem["what"]


def test_a_raw_file_of_another_size(tmp_path: Path) -> None:
    (tmp_path / "a.bin").write_bytes(b"12345")
    entry = {"name": "A", "file": str(tmp_path / "a.bin"), "datatype": "FP32", "shape": [1]}
    with pytest.raises(InferOptionsError, match="its 5 bytes are no whole number of FP32"):
        infer(Script(), inputs=[entry])
    (tmp_path / "a.bin").write_bytes(b"12345678")
    with pytest.raises(InferOptionsError, match=r"its shape \[1\] has 1 elements, its data have 2"):
        infer(Script(), inputs=[entry])


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(FileMissingError, match="cannot be read"):
        Inference({**PARAMS, "inputs": [{"name": "A", "file": str(tmp_path / "no.npy")}]})
    # Whatever else is wrong comes first.
    entries = [{"name": "A", "file": str(tmp_path / "no.npy")}, {"name": "B", "file": str(tmp_path)}]
    with pytest.raises(InferOptionsError) as caught:
        Inference({**PARAMS, "inputs": entries})
    assert not isinstance(caught.value, FileMissingError)
    assert len(caught.value.problems) == 2


# --- options


@pytest.mark.parametrize(
    ("params", "words"),
    [
        ({"inputs": [A, A]}, "Cannot use input 'A' twice"),
        ({"inputs": [{**A, "datatype": "float32"}]}, "input 'A': datatype 'float32' is unknown"),
        ({"inputs": [{**A, "shape": [-1, 2]}]}, "input 'A': shape [-1, 2] has a negative dimension"),
        ({"inputs": [{**A, "data": [[1], 2]}]}, "input 'A': the lists of its data are uneven"),
        ({"inputs": [{"name": "A", "datatype": "FP32", "data_base64": ["AA=="]}]}, "input 'A': it has data_base64 for FP32"),
        ({"inputs": [{"name": "A", "data_base64": ["?"]}]}, "input 'A': at [0] wanted base64"),
        ({"expect": [{"name": "X"}]}, "expectation 'X': nothing is expected of it"),
        ({"expect": [{"name": "X", "data": [1], "shape": [2]}]}, "expectation 'X': its shape [2] has 2 elements, its data have 1"),
        ({"expect": [{"name": "X", "data": [1], "tolerance": -1}]}, "expectation 'X': its absolute tolerance is -1"),
        ({"expect": [{"name": "X", "data": [1]}], "outputs": ["Y"]}, "Cannot check output 'X': it is expected, and not asked for"),
        ({"parameters": {"binary_data_output": False}}, "Cannot set the parameter 'binary_data_output'"),
        ({"parameters": {"p": [1]}}, "Cannot send the parameter 'p' with the value [1]"),
        ({"parameters": {"p": math.nan}}, "Cannot send the parameter 'p'"),
        ({"repeat": 0}, "Cannot use repeat=0"),
        ({"warmup": -1}, "Cannot use warmup=-1"),
        ({"max_elements": -1}, "Cannot use max_elements=-1"),
        ({"version": 0}, "Cannot use version=0"),
        ({"max_latency_ms": 0.0}, "Cannot use max_latency_ms=0"),
    ],
)
def test_bad_options(params: dict[str, t.Any], words: str) -> None:
    assert words in refused(**params)[0]["what"]


# --- answers


def test_an_answer_in_both_forms() -> None:
    rows = [
        {"name": "J", "datatype": "INT32", "shape": [2], "data": [1, 2]},
        {"name": "B", "datatype": "BYTES", "shape": [2], "parameters": {"binary_data_size": 10}},
        {"name": "F", "datatype": "BF16", "shape": [1], "parameters": {"binary_data_size": 2}},
    ]
    head = json.dumps({"model_name": "m", "model_version": "3", "outputs": rows}).encode()
    tail = b"\x01\0\0\0\xff" + b"\x01\0\0\0a" + b"\x80\x3f"
    headers = {"Inference-Header-Content-Length": str(len(head))}
    script = Script(Call("POST", INFER, answer=head + tail, headers=headers))
    found = infer(script, outputs=["F", "B", "J"])["outputs"]
    assert [row["name"] for row in found] == ["F", "B", "J"]
    assert (found[0]["data"], found[1]["data"], found[2]["data"]) == ([1.0], None, [1, 2])
    assert [base64.b64decode(text) for text in found[1]["data_base64"]] == [b"\xff", b"a"]


def test_an_empty_answer_in_binary_form_has_no_header() -> None:
    found = infer(Script(Call("POST", INFER, **binary_out(("SUM", "FP32", [0, 4], b"")))))
    assert (found["outputs"][0]["shape"], found["outputs"][0]["data"]) == ([0, 4], [])


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        ({"answer": "[]"}, "it has no list of outputs"),
        ({"answer": {"model_name": "m"}}, "cannot be read: 'outputs'"),
        ({"answer": out(("SUM", "FP31", [1], [1]))}, "datatype 'FP31' is unknown"),
        ({"answer": out(("SUM", "FP32", [3], [1.0]))}, "takes 12 bytes, the data have 4"),
        ({"answer": {"outputs": [{"name": "SUM", "datatype": "FP32", "shape": [1]}]}}, "KeyError: 'data'"),
        ({"answer": b'{"outputs":[{"name":"T","datatype":"BYTES","shape":[1],"data":["\xff"]}]}'}, "set binary to auto or true"),
        ({"answer": binary_out(("SUM", "FP32", [1], b"1234"))["answer"]}, "cannot be read"),
        (
            {
                "answer": b'{"outputs":[{"name":"S","datatype":"FP32","shape":[2],"parameters":{"binary_data_size":8}}]}1234',
                "headers": {"Inference-Header-Content-Length": "92"},
            },
            "it is cut off",
        ),
    ],
)
def test_answers_that_make_no_sense(answer: dict[str, t.Any], words: str) -> None:
    script = Script(Call("POST", INFER, **answer), Call("GET", "/v2", answer=TRITON))
    with pytest.raises(StatusError) as caught:
        infer(script)
    assert words in caught.value.why


def test_something_else_answers() -> None:
    with pytest.raises(NotTritonError):
        infer(Script(Call("POST", INFER, answer="<html>"), Call("GET", "/v2", answer="<html>")))
    with pytest.raises(NotTritonError):  # the metrics port
        infer(Script(Call("POST", INFER, 405, error("Method Not Allowed")), Call("GET", "/v2")))


@pytest.mark.parametrize(
    ("status", "text"),
    [
        (404, "Request for unknown model: 'm' is not found"),
        (400, "Request for unknown model: 'm' has no available versions"),
        (404, "Request for unknown model: 'm' version 3 is not found"),
    ],
)
def test_a_model_that_is_not_loaded(status: int, text: str) -> None:
    with pytest.raises(NotLoadedError, match="HTTP 40") as caught:
        infer(Script(Call("POST", INFER, status, error(text))), inputs=[A])
    assert text in caught.value.what
    assert "triton_model (name: m)" in caught.value.remedy
    with pytest.raises(NotLoadedError, match="model 'm' is not loaded"):
        infer(Script(Call("GET", MODEL, 404, error("Request for unknown model: 'm' is not found"))), inputs=[{"name": "A", "data": [1]}])
    gone = Call("GET", "/v2/models/m/versions/9", 404, error("Request for unknown model: 'm' version 9 is not found"))
    with pytest.raises(NotLoadedError, match="version 9 of model 'm' is not loaded"):
        infer(Script(gone), inputs=[{"name": "A", "data": [1]}], version=9)


@pytest.mark.parametrize(
    ("inputs", "outputs", "text", "why", "remedy"),
    [
        ([{**A, "name": "a"}], None, "unexpected inference input 'a'", "the model has no input 'a'; it takes A (FP32 [-1, 2])", "write A"),
        ([{**A, "name": "zzzz"}], None, "unexpected inference input 'zzzz'", "the model has no input 'zzzz'", "write one of those"),
        ([{**A, "datatype": "FP64"}], None, "data-type is", "input 'A' takes FP32, FP64 was sent", "set the datatype of A to FP32"),
        ([{**A, "shape": [2]}], None, "unexpected shape", "takes shape [-1, 2], where -1 is any size, [2] was sent", "correct the shape"),
        ([A], None, "missing required input(s) ['B']", "input B is missing", "add it to inputs"),
        ([A], ["Sum"], "unexpected inference output", "the model has no output 'Sum'; it gives SUM (FP32 [-1, 2])", "write SUM"),
        ([A], None, "the weights are on strike", "so it failed by itself", "look at the server's log"),
    ],
)
def test_a_refusal_is_explained(inputs: list[t.Any], outputs: list[str] | None, text: str, why: str, remedy: str) -> None:
    script = Script(Call("POST", INFER, 400, error(text)), Call("GET", MODEL, answer=METADATA))
    with pytest.raises(InferError) as caught:
        infer(script, inputs=inputs, outputs=outputs)
    script.finish()
    assert caught.value.what == f"POST http://127.0.0.1:8000{INFER}: HTTP 400: {text}"
    assert why in caught.value.why
    assert remedy in caught.value.remedy


def test_a_refusal_without_metadata() -> None:
    script = Script(Call("POST", INFER, 500, error("oops")), Call("GET", MODEL, 403, RESTRICTED))
    with pytest.raises(InferError, match="HTTP 500: oops") as caught:
        infer(script, inputs=[A])
    assert caught.value.remedy == "look at the server's log"
    assert explain_refusal({}, [], [], "oops") == ("", "")


def test_an_output_that_json_cannot_carry() -> None:
    text = "sending FP16 data via JSON is not supported. Please use the binary data format for output"
    with pytest.raises(InferError) as caught:
        infer(Script(Call("POST", INFER, 400, error(text))), inputs=[A], binary="false")
    assert caught.value.remedy == "set binary to auto or true"


def test_access() -> None:
    with pytest.raises(AccessError):
        infer(Script(Call("POST", INFER, 403, RESTRICTED)), inputs=[A])


# --- expectations


@pytest.mark.parametrize(
    "expectation",
    [
        {"data": [3, 4]},
        {"data": [[3, 4]]},
        {"data": [3, 4], "shape": [1, 2], "datatype": "FP32"},
        {"data": [3.5, 4], "tolerance": 0.5},
        {"data": [3.3, 4], "tolerance": {"relative": 0.1}},
        {"shape": [1, 2]},
        {"datatype": "FP32"},
    ],
)
def test_expectations_that_are_met(expectation: dict[str, t.Any]) -> None:
    found = infer(Script(Call("POST", INFER, answer=SUM)), inputs=[A], expect=[{"name": "SUM", **expectation}])
    assert found["problems"] == []


def test_what_is_expected_is_rounded_as_the_output_is() -> None:
    tenth = struct.unpack("<f", struct.pack("<f", 0.1))[0]
    answer = out(("SUM", "FP32", [2], [tenth, 3.0]))
    assert infer(Script(Call("POST", INFER, answer=answer)), expect=[{"name": "SUM", "data": [0.1, 3]}])["problems"] == []


@pytest.mark.parametrize(
    ("expectation", "what", "why"),
    [
        ({"data": [3, 9]}, "at [0, 1] wanted 9.0, got 4.0", "1 of 2 elements differ, by 5 at most (tolerance: absolute 0, relative 0)"),
        ({"data": [1, 9], "tolerance": 0.1}, "at [0, 0] wanted 1.0, got 3.0", "2 of 2 elements differ, by 5 at most"),
        ({"data": ["nan", 4]}, "at [0, 0] wanted nan, got 3.0", "1 of 2 elements differ (tolerance"),
        ({"data": [3]}, "has the wrong size: wanted 1 elements, got 2", "its shape is [1, 2]"),
        ({"data": [[3], [4]]}, "has the wrong shape: wanted [2, 1], got [1, 2]", ""),
        ({"shape": [2]}, "has the wrong shape: wanted [2], got [1, 2]", ""),
        ({"datatype": "FP64"}, "has the wrong datatype: wanted FP64, got FP32", ""),
        ({"data": ["x", 4]}, "is FP32, and what is expected is not: at [0, 0] wanted a number, got 'x'", ""),
    ],
)
def test_expectations_that_are_missed(expectation: dict[str, t.Any], what: str, why: str) -> None:
    found = infer(Script(Call("POST", INFER, answer=SUM)), inputs=[A], expect=[{"name": "SUM", **expectation}])
    (problem,) = found["problems"]
    assert problem["what"].startswith("Output 'SUM' of model 'm' ")
    assert what in problem["what"]
    assert why in problem["why"]
    assert found["outputs"][0]["data"] == [3.0, 4.0]


def test_text_that_is_not_as_expected() -> None:
    answer = binary_out(("T", "BYTES", [2], b"\x01\0\0\0a\x01\0\0\0\xff"))
    found = infer(Script(Call("POST", INFER, **answer)), expect=[{"name": "T", "data_base64": ["Yg==", "/w=="]}])
    (problem,) = found["problems"]
    assert "at [0] wanted 'b', got 'a'" in problem["what"]
    assert problem["why"] == "1 of 2 elements differ"


def test_an_output_that_does_not_come() -> None:
    found = infer(Script(Call("POST", INFER, answer=SUM)), inputs=[A], expect=[{"name": "sum", "data": [1]}])
    (problem,) = found["problems"]
    assert problem["what"] == "Output 'sum' of model 'm' is expected and did not come"
    assert (problem["why"], problem["remedy"]) == ("the model gave SUM", "write SUM")


def test_each_repetition_is_checked() -> None:
    bad = out(("SUM", "FP32", [1, 2], [3.0, 5.0]))
    good = Call("POST", INFER, answer=SUM, times=3)
    script = Script(good, Call("POST", INFER, answer=bad, times=2))
    found = infer(script, inputs=[A], expect=[{"name": "SUM", "data": [3, 4]}], warmup=1, repeat=4)
    (problem,) = found["problems"]
    assert "inference 3, is not as expected: at [0, 1] wanted 4.0, got 5.0" in problem["what"]
    assert found["outputs"][0]["data"] == [3.0, 5.0]
    assert found["latency"]["count"] == 4


# --- latencies


def ticking(*seconds: float) -> t.Callable[[], float]:
    """A clock that is looked at before and after each inference."""
    times = iter([value for number, second in enumerate(seconds) for value in (float(number), number + second)])
    return lambda: next(times)


@pytest.mark.parametrize(
    ("which", "limit", "got"),
    [("p50", 10.0, None), ("p95", 10.0, 100.0), ("p99", 10.0, 100.0), ("max", 99.9, 100.0), ("max", 100.0, None), ("mean", 30.0, 32.5)],
)
def test_latencies(which: str, limit: float, got: float | None) -> None:
    script = Script(Call("POST", INFER, answer=SUM, times=4))
    params = {**PARAMS, "inputs": [A], "repeat": 4, "max_latency_ms": limit, "latency_percentile": which}
    found = Inference(params, clock=ticking(0.1, 0.01, 0.01, 0.01)).run(TritonClient(script))
    assert found["latency"] == {"count": 4, "min": 10.0, "mean": 32.5, "p50": 10.0, "p95": 100.0, "p99": 100.0, "max": 100.0}
    if got is None:
        assert found["problems"] == []
    else:
        (problem,) = found["problems"]
        assert problem["what"] == f"Model 'm' is too slow: wanted at most {limit:g} ms, got {got:g} ms ({which} of 4 inferences)"


def test_percentiles_are_times_that_were_seen() -> None:
    times = [float(number) for number in range(1, 101)]
    assert [percentile(times, percent) for percent in (50, 95, 99, 100)] == [50.0, 95.0, 99.0, 100.0]
    for size in (1, 2, 3, 19, 20, 21, 200):
        ordered = sorted(numpy.random.default_rng(size).random(size))
        for percent in (50.0, 95.0, 99.0, 100.0):
            assert percentile(ordered, percent) == numpy.percentile(ordered, percent, method="inverted_cdf")
    assert summary([2.0])["p99"] == 2.0


def test_an_error_in_the_middle_ends_it() -> None:
    script = Script(Call("POST", INFER, answer=SUM), Call("POST", INFER, 500, error("oops")), Call("GET", MODEL, answer=METADATA))
    with pytest.raises(InferError, match="oops"):
        infer(script, inputs=[A], repeat=3)
