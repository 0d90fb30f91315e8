# Copyright (c) 2026, The gpufleet.triton authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This file is private to the gpufleet.triton collection: it may change at any time.

"""One inference or many: from options to a request, from answers to outputs, latencies and what is wrong with them."""

from __future__ import annotations

import difflib
import json
import math
import time
import typing as t
from dataclasses import dataclass

from ansible_collections.gpufleet.triton.plugins.module_utils._client import (
    HEADER_LENGTH,
    InferError,
    NotLoadedError,
    TritonClient,
    check_name,
)
from ansible_collections.gpufleet.triton.plugins.module_utils._http import HttpError, Response
from ansible_collections.gpufleet.triton.plugins.module_utils._state import Problem
from ansible_collections.gpufleet.triton.plugins.module_utils._tensors import (
    BINARY_ONLY,
    Difference,
    Tensor,
    TensorError,
    Tolerance,
    are_sizes,
    checked_datatype,
    checked_shape,
    checked_size,
    checked_tolerance,
    compare,
    count_of,
    decode_base64,
    fit_shape,
    flatten,
    json_values,
    pack,
    parse_npy,
    place,
    show,
    show_shape,
    unpack,
    visible,
)

PERCENTILES = {"p50": 50.0, "p95": 95.0, "p99": 99.0, "max": 100.0}
#: What O(binary=auto) sends as JSON at most: a request that a person can still read.
READABLE = 256
#: Parameters of a request that other options set.
_RESERVED = {"binary_data_output": "binary", "binary_data": "binary", "classification": "expect"}


class InferOptionsError(HttpError):
    """Options that no request can be made from, all that are wrong at once."""

    transient = False

    def __init__(self, problems: list[Problem]) -> None:
        super().__init__(problems[0].what, problems[0].why, problems[0].remedy)
        self.problems = problems


class FileMissingError(InferOptionsError):
    """A file of an input is not there: in check mode, a task before may only have pretended to write it."""


@dataclass(frozen=True)
class Source:
    """The data of one tensor, before its datatype and shape are known for sure."""

    name: str
    #: One of them: elements as YAML has them, or the binary form with the datatype that it has.
    values: list[t.Any] | None
    raw: bytes | None
    #: Datatype and shape as given, by an option or by a file.
    datatype: str | None
    shape: tuple[int, ...] | None
    #: What the nesting of lists tells.
    nested: tuple[int, ...] = ()
    #: The datatype of `raw`, where the file tells it.
    raw_datatype: str | None = None

    def tensor(self, takes: tuple[str, tuple[int, ...]] | None) -> Tensor:
        """Return the tensor; `takes` are the datatype and shape in the model's metadata, where nothing else tells them."""
        datatype = self.datatype or self.raw_datatype or (takes[0] if takes else None)
        if datatype is None:
            raise TensorError("its datatype is not known", "the model has no input of that name", "correct the name, or give datatype")
        values, raw = self.values, self.raw
        if raw is not None and self.raw_datatype not in (None, datatype):
            values, raw = unpack(str(self.raw_datatype), raw), None
        count = len(values) if values is not None else _count_raw(datatype, raw or b"")
        shape = self.shape
        if shape is None:
            shape = self.nested if takes is None else fit_shape(count, self.nested, takes[1])
        if count_of(shape) != count:
            raise TensorError(
                f"its shape {show_shape(shape)} has {count_of(shape)} elements, its data have {count}",
                "",
                "correct the shape or the data",
            )
        if values is not None:
            raw = pack(datatype, values, shape)
        return Tensor(self.name, datatype, shape, raw or b"")

    @property
    def needs_metadata(self) -> bool:
        """Whether the model must be asked: for the datatype, or whether a flat list is a row of a batch."""
        return (self.datatype or self.raw_datatype) is None or (self.shape is None and len(self.nested) < 2)


@dataclass(frozen=True)
class Expectation:
    name: str
    values: list[t.Any] | None
    nested: tuple[int, ...]
    shape: tuple[int, ...] | None
    datatype: str | None
    tolerance: Tolerance


def _count_raw(datatype: str, raw: bytes) -> int:
    if datatype == "BYTES":
        return len(unpack(datatype, raw))
    size = len(pack(datatype, [0]))
    if len(raw) % size:
        raise TensorError(f"its {len(raw)} bytes are no whole number of {datatype}, which take {size} each", "", "correct datatype or file")
    return len(raw) // size


# --- options


def read_input(entry: t.Mapping[str, t.Any]) -> Source:
    """Turn an entry of the option inputs into data. TensorError or OSError if it cannot be."""
    datatype = checked_datatype(entry["datatype"]) if entry.get("datatype") else None
    shape = checked_shape(entry["shape"]) if entry.get("shape") is not None else None
    name = entry["name"]
    if entry.get("file"):
        return _read_file(name, entry["file"], entry.get("format") or "auto", datatype, shape)
    values, nested = _data(entry, datatype)
    if entry.get("data_base64") is not None:
        datatype = "BYTES"
    return Source(name, values, None, datatype, shape, nested)


def _data(entry: t.Mapping[str, t.Any], datatype: str | None) -> tuple[list[t.Any], tuple[int, ...]]:
    if entry.get("data_base64") is not None:
        if datatype not in (None, "BYTES"):
            raise TensorError(f"it has data_base64 for {datatype}", "those are elements of BYTES", "use data, or a file with format: raw")
        return list(decode_base64(entry["data_base64"])), (len(entry["data_base64"]),)
    return flatten(entry["data"])


def _read_file(name: str, path: str, form: str, datatype: str | None, shape: tuple[int, ...] | None) -> Source:
    with open(path, "rb") as stream:
        content = stream.read()
    if form == "auto":
        ending = path.rpartition(".")[2].lower()
        form = ending if ending in ("npy", "json") else "raw"
    try:
        if form == "npy":
            found, told, raw = parse_npy(content)
            return Source(name, None, raw, datatype, shape or told, told, found)
        if form == "json":
            return _read_json(name, content, datatype, shape)
    except TensorError as error:
        raise TensorError(f"its file {path} cannot be used: {error.what}", error.why, error.remedy) from None
    if datatype == "BYTES":
        # A picture or a sound: a file is one element.
        return Source(name, [content], None, datatype, shape, (1,))
    return Source(name, None, content, datatype, shape)


def _read_json(name: str, content: bytes, datatype: str | None, shape: tuple[int, ...] | None) -> Source:
    try:
        found = json.loads(content.decode("utf-8"))
    except (ValueError, RecursionError) as error:
        raise TensorError("it is not JSON", str(error), "correct the file, or set format") from None
    if isinstance(found, dict):
        if "data" not in found:
            has = ", ".join(found) or "nothing"
            raise TensorError("its object has no data", f"it has {has}", "write {datatype, shape, data} or a list")
        told = found.get("shape")
        if shape is None and told is not None:
            if not isinstance(told, list) or not are_sizes(told):
                raise TensorError(f"its shape is {show(told)}", "wanted a list of sizes", "correct the file")
            shape = tuple(told)
        datatype = datatype or (checked_datatype(str(found["datatype"])) if "datatype" in found else None)
        found = found["data"]
    values, nested = flatten(found)
    return Source(name, values, None, datatype, shape, nested)


def read_expectation(entry: t.Mapping[str, t.Any]) -> Expectation:
    datatype = checked_datatype(entry["datatype"]) if entry.get("datatype") else None
    shape = checked_shape(entry["shape"]) if entry.get("shape") is not None else None
    values: list[t.Any] | None = None
    nested: tuple[int, ...] = ()
    if entry.get("data") is not None or entry.get("data_base64") is not None:
        values, nested = _data(entry, datatype)
    if values is None and shape is None and datatype is None:
        raise TensorError("nothing is expected of it", "", "give data, shape or datatype")
    if values is not None and shape is not None and count_of(shape) != len(values):
        raise TensorError(f"its shape {show_shape(shape)} has {count_of(shape)} elements, its data have {len(values)}", "", "correct one")
    return Expectation(entry["name"], values, nested, shape, datatype, checked_tolerance(entry.get("tolerance")))


def _twice(entries: t.Iterable[t.Mapping[str, t.Any]], word: str) -> list[Problem]:
    names = [entry["name"] for entry in entries]
    again = sorted({name for name in names if names.count(name) > 1})
    return [Problem(f"Cannot use {word} {name!r} twice", "", "name each once") for name in again]


def _parameter_problems(parameters: t.Mapping[str, t.Any]) -> list[Problem]:
    problems = []
    for name, value in parameters.items():
        if name in _RESERVED:
            problems.append(Problem(f"Cannot set the parameter {name!r}", f"the option {_RESERVED[name]} is for that", "remove it"))
        elif not isinstance(value, (str, bool, int, float)) or (isinstance(value, float) and not math.isfinite(value)):
            why = "Triton takes text, true or false, integers and floats"
            problems.append(Problem(f"Cannot send the parameter {name!r} with the value {show(value)}", why, "correct it"))
    return problems


class Inference:
    """Everything that triton_infer does, without Ansible. Reads the options at once: wrong ones raise InferOptionsError."""

    def __init__(self, params: t.Mapping[str, t.Any], clock: t.Callable[[], float] = time.perf_counter) -> None:
        self.clock = clock
        self.model: str = check_name(params["model"])
        self.version: int | None = params["version"]
        self.outputs: list[str] = params["outputs"] or []
        self.binary: str = params["binary"]
        self.parameters: dict[str, t.Any] = params["parameters"] or {}
        self.max_latency: float | None = params["max_latency_ms"]
        self.percentile: str = params["latency_percentile"]
        self.repeat: int = params["repeat"]
        self.warmup: int = params["warmup"]
        self.max_elements: int = params["max_elements"]
        self.sources: list[Source] = []
        self.expected: list[Expectation] = []
        self._read(params["inputs"] or [], params["expect"] or [])

    def _read(self, inputs: list[dict[str, t.Any]], expect: list[dict[str, t.Any]]) -> None:
        problems = [*_twice(inputs, "input"), *_twice(expect, "expectation"), *_parameter_problems(self.parameters)]
        missing = []
        for entry in inputs:
            try:
                self.sources.append(read_input(entry))
            except TensorError as error:
                problems.append(_problem("input", entry["name"], error))
            except OSError as error:
                what = f"Cannot use input {entry['name']!r}: its file {entry['file']} cannot be read"
                remedy = "give a file on the target that the task's user can read"
                (missing if isinstance(error, FileNotFoundError) else problems).append(Problem(what, str(error), remedy))
        for entry in expect:
            try:
                self.expected.append(read_expectation(entry))
            except TensorError as error:
                problems.append(_problem("expectation", entry["name"], error))
            if self.outputs and entry["name"] not in self.outputs:
                what = f"Cannot check output {entry['name']!r}: it is expected, and not asked for"
                problems.append(Problem(what, f"outputs has {', '.join(self.outputs)}", "add it to outputs, or leave outputs out"))
        for name, value, low, high in (
            ("repeat", self.repeat, 1, 1000000),
            ("warmup", self.warmup, 0, 1000000),
            ("max_elements", self.max_elements, 0, 1000000),
            ("version", 1 if self.version is None else self.version, 1, 2**63 - 1),
        ):
            if not low <= value <= high:
                problems.append(Problem(f"Cannot use {name}={value}", f"wanted a number from {low} to {high}", "correct it"))
        if self.max_latency is not None and not 0 < self.max_latency < math.inf:
            problems.append(Problem(f"Cannot use max_latency_ms={self.max_latency:g}", "wanted milliseconds, more than 0", "correct it"))
        if problems:
            raise InferOptionsError([*problems, *missing])
        if missing:
            raise FileMissingError(missing)

    # --- the request

    def run(self, client: TritonClient) -> dict[str, t.Any]:
        """Infer, as often as wanted, and return outputs, latencies and problems."""
        tensors = self.tensors(client)
        body, header_length = self.request(tensors)
        for _number in range(self.warmup):
            self._infer(client, tensors, body, header_length)
        latencies: list[float] = []
        seen: set[tuple[bytes, str]] = set()
        first: dict[str, Tensor] = {}
        problems: list[Problem] = []
        answered = ("", "")
        for number in range(self.repeat):
            start = self.clock()
            answer = self._infer(client, tensors, body, header_length)
            latencies.append(1000 * (self.clock() - start))
            # Mostly each answer is the same: it is read once.
            key = (answer.body, answer.headers.get(HEADER_LENGTH, ""))
            if key in seen or problems:
                continue
            if len(seen) < 8:
                seen.add(key)
            who, outputs = read_answer(client, answer, self.outputs)
            problems = self.missed(outputs, number)
            if not number or problems:
                first, answered = outputs, who
        latency = summary(latencies)
        problems.extend(self.too_slow(latency))
        return {
            "inferred": True,
            "model_name": answered[0],
            "model_version": answered[1],
            "outputs": [visible(tensor, self.max_elements) for tensor in first.values()],
            "latency": latency,
            "problems": [problem.as_dict() for problem in problems],
        }

    def tensors(self, client: TritonClient) -> list[Tensor]:
        """Return the inputs, with what is not given taken from the model's metadata."""
        takes: dict[str, tuple[str, tuple[int, ...]]] = {}
        if any(source.needs_metadata for source in self.sources):
            metadata = client.metadata(self.model, self.version)
            if metadata is None:
                asked = f"model {self.model!r}" if self.version is None else f"version {self.version} of model {self.model!r}"
                raise NotLoadedError(
                    f"Cannot infer: {asked} is not loaded",
                    "the server has no metadata of it",
                    f"load it with triton_model (name: {self.model}), or correct the name; triton_info shows what is there",
                )
            takes = declared(metadata, "inputs")
        problems = []
        tensors = []
        for source in self.sources:
            if takes and source.name not in takes and source.needs_metadata:
                what = f"Cannot use input {source.name!r}: model {self.model!r} has no such input"
                problems.append(Problem(what, f"it takes {listed(takes)}", _nearest(source.name, takes)))
                continue
            try:
                tensor = source.tensor(takes.get(source.name))
                if self.binary == "false" and json_values(tensor.datatype, tensor.raw) is None:
                    why = f"Triton takes {tensor.datatype} in binary form only"
                    if tensor.datatype not in BINARY_ONLY:
                        why = "JSON has no NaN, no infinity, and no bytes that are not UTF-8"
                    raise TensorError(f"its {tensor.datatype} data cannot travel as JSON", why, "set binary to auto or true")
                tensors.append(tensor)
            except TensorError as error:
                problems.append(_problem("input", source.name, error))
        if problems:
            raise InferOptionsError(problems)
        return tensors

    def request(self, tensors: list[Tensor]) -> tuple[bytes, int | None]:
        """Return the body of the request, and where its JSON ends if binary tensors follow."""
        inputs = []
        tail = []
        for tensor in tensors:
            entry: dict[str, t.Any] = {"name": tensor.name, "datatype": tensor.datatype, "shape": list(tensor.shape)}
            readable = self.binary == "false" or (self.binary == "auto" and tensor.count <= READABLE)
            values = json_values(tensor.datatype, tensor.raw) if readable else None
            if values is None:
                entry["parameters"] = {"binary_data_size": len(tensor.raw)}
                tail.append(tensor.raw)
            else:
                entry["data"] = values
            inputs.append(entry)
        request: dict[str, t.Any] = {"inputs": inputs}
        # Outputs come in binary form unless refused: Triton has no other for FP16 and BF16, and it is exact for all.
        in_binary = self.binary != "false"
        parameters = dict(self.parameters)
        if self.outputs:
            request["outputs"] = [{"name": name, "parameters": {"binary_data": in_binary}} for name in self.outputs]
        elif in_binary:
            parameters["binary_data_output"] = True
        if parameters:
            request["parameters"] = parameters
        head = json.dumps(request, allow_nan=False).encode("ascii")
        return b"".join([head, *tail]), len(head) if tail else None

    def _infer(self, client: TritonClient, tensors: list[Tensor], body: bytes, header_length: int | None) -> Response:
        try:
            return client.infer(self.model, self.version, body, header_length)
        except NotLoadedError:
            raise
        except InferError as error:
            if error.reason and "via JSON is not supported" in error.reason:
                raise InferError(error.what, "", "set binary to auto or true", error.reason) from error
            try:
                metadata = client.metadata(self.model, self.version)
            except HttpError:
                metadata = None
            why, remedy = explain_refusal(metadata or {}, tensors, self.outputs, error.reason)
            raise InferError(error.what, why, remedy or error.remedy, error.reason) from error

    # --- judging

    def missed(self, outputs: dict[str, Tensor], number: int = 0) -> list[Problem]:
        """Return what is not as expected; `number` is that of the repetition."""
        problems = []
        for expectation in self.expected:
            tensor = outputs.get(expectation.name)
            label = f"Output {expectation.name!r} of model {self.model!r}" + (f", inference {number + 1}," if self.repeat > 1 else "")
            if tensor is None:
                what = f"{label} is expected and did not come"
                close = _nearest(expectation.name, outputs)
                problems.append(Problem(what, f"the model gave {', '.join(outputs) or 'nothing'}", close))
                continue
            problem = differs(label, tensor, expectation)
            if problem is not None:
                problems.append(problem)
        return problems

    def too_slow(self, latency: dict[str, t.Any]) -> list[Problem]:
        got = latency[self.percentile]
        if self.max_latency is None or got <= self.max_latency:
            return []
        of = f"{self.percentile} of {latency['count']} inferences"
        spread = ", ".join(f"{name} {latency[name]:g}" for name in ("min", "p50", "p95", "p99", "max"))
        return [
            Problem(
                f"Model {self.model!r} is too slow: wanted at most {self.max_latency:g} ms, got {got:g} ms ({of})",
                f"in ms: {spread}",
                "see the queue and compute times in triton_info (gather: [statistics]), use warmup for a model that was just loaded,"
                " or raise max_latency_ms",
            )
        ]


def _problem(word: str, name: str, error: TensorError) -> Problem:
    return Problem(f"Cannot use {word} {name!r}: {error.what}", error.why, error.remedy)


def _nearest(name: str, known: t.Iterable[str]) -> str:
    known = list(known)
    lower = {item.lower(): item for item in known}
    close = difflib.get_close_matches(name.lower(), lower, 1, 0.5)
    return f"write {lower[close[0]]}" if close else "write one of those" if known else ""


def declared(metadata: t.Mapping[str, t.Any], kind: str) -> dict[str, tuple[str, tuple[int, ...]]]:
    """Return datatype and shape of the inputs or outputs in a model's metadata."""
    rows = metadata.get(kind)
    return {
        row["name"]: (str(row.get("datatype")), tuple(int(size) for size in row.get("shape") or ()))
        for row in (rows if isinstance(rows, list) else [])
        if isinstance(row, dict) and isinstance(row.get("name"), str)
    }


def listed(tensors: t.Mapping[str, tuple[str, tuple[int, ...]]]) -> str:
    return ", ".join(f"{name} ({datatype} {show_shape(shape)})" for name, (datatype, shape) in tensors.items()) or "nothing"


def _fits(shape: t.Sequence[int], takes: t.Sequence[int]) -> bool:
    return len(shape) == len(takes) and all(want in (-1, got) for got, want in zip(shape, takes))


def explain_refusal(metadata: t.Mapping[str, t.Any], tensors: t.Iterable[Tensor], outputs: t.Iterable[str], reason: str) -> tuple[str, str]:
    """Compare what was sent with what the model takes: why it was refused, and what to do."""
    takes, gives = declared(metadata, "inputs"), declared(metadata, "outputs")
    if not takes and not gives:
        return "", ""
    why: list[str] = []
    remedies: list[str] = []
    sent = {tensor.name: tensor for tensor in tensors}
    for name, tensor in sent.items():
        if name not in takes:
            why.append(f"the model has no input {name!r}; it takes {listed(takes)}")
            remedies.append(_nearest(name, takes))
            continue
        datatype, shape = takes[name]
        if tensor.datatype != datatype:
            why.append(f"input {name!r} takes {datatype}, {tensor.datatype} was sent")
            remedies.append(f"set the datatype of {name} to {datatype}")
        if not _fits(tensor.shape, shape):
            why.append(f"input {name!r} takes shape {show_shape(shape)}, where -1 is any size, {show_shape(tensor.shape)} was sent")
            remedies.append(f"correct the shape of {name}")
    absent = [name for name in takes if name not in sent and f"'{name}'" in reason]
    if absent:
        why.append(f"input {', '.join(absent)} is missing; the model takes {listed(takes)}")
        remedies.append("add it to inputs")
    for name in outputs:
        if name not in gives:
            why.append(f"the model has no output {name!r}; it gives {listed(gives)}")
            remedies.append(_nearest(name, gives))
    if not why:
        return "names, datatypes and shapes are as the model takes them, so it failed by itself", "look at the server's log"
    return "; ".join(why), "; ".join(dict.fromkeys(remedy for remedy in remedies if remedy))


def differs(label: str, tensor: Tensor, expectation: Expectation) -> Problem | None:
    """Return how a tensor is not as expected."""
    remedy = "look at the model and its weights, or correct the expectation"
    if expectation.datatype not in (None, tensor.datatype):
        return Problem(f"{label} has the wrong datatype: wanted {expectation.datatype}, got {tensor.datatype}", "", remedy)
    shape = expectation.shape
    if shape is None and len(expectation.nested) > 1:
        shape = expectation.nested
    if shape is not None and shape != tensor.shape:
        return Problem(f"{label} has the wrong shape: wanted {show_shape(shape)}, got {show_shape(tensor.shape)}", "", remedy)
    if expectation.values is None:
        return None
    if len(expectation.values) != tensor.count:
        what = f"{label} has the wrong size: wanted {len(expectation.values)} elements, got {tensor.count}"
        return Problem(what, f"its shape is {show_shape(tensor.shape)}", remedy)
    try:
        # What is wanted is rounded as the model's own result is: 0.1 in YAML is another number than 0.1 in FP32.
        wanted = unpack(tensor.datatype, pack(tensor.datatype, expectation.values, tensor.shape))
    except TensorError as error:
        return Problem(f"{label} is {tensor.datatype}, and what is expected is not: {error.what}", error.why, error.remedy)
    difference = compare(wanted, unpack(tensor.datatype, tensor.raw), expectation.tolerance)
    return None if difference is None else _difference(label, tensor, expectation.tolerance, difference)


def _difference(label: str, tensor: Tensor, tolerance: Tolerance, found: Difference) -> Problem:
    where = place(found.first, tensor.shape)
    why = f"{found.count} of {tensor.count} elements differ"
    if found.largest is not None:
        why += f", by {found.largest:.6g} at most"
    if tensor.datatype not in ("BYTES", "BOOL"):
        why += f" (tolerance: absolute {tolerance.absolute:g}, relative {tolerance.relative:g})"
    remedy = "look at the model and its weights, correct the expectation, or widen its tolerance"
    if tensor.datatype in ("BYTES", "BOOL"):
        remedy = "look at the model and its weights, or correct the expectation"
    return Problem(f"{label} is not as expected: at {where} wanted {_said(found.wanted)}, got {_said(found.got)}", why, remedy)


def _said(value: t.Any) -> str:
    """Show text as text, and bytes that are none as bytes."""
    try:
        return show(value.decode("utf-8") if isinstance(value, bytes) else value)
    except UnicodeDecodeError:
        return show(value)


# --- the answer


def read_answer(client: TritonClient, answer: Response, wanted: t.Sequence[str] = ()) -> tuple[tuple[str, str], dict[str, Tensor]]:
    """Return who answered (name and version) and the outputs, each as JSON or in binary form, as the server pleases."""
    length = answer.headers.get(HEADER_LENGTH, "")
    end = int(length) if length.isdigit() else len(answer.body)
    try:
        found = json.loads(answer.body[:end].decode("utf-8"))
        rows = found["outputs"] if isinstance(found, dict) else None
        if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
            raise ValueError("it has no list of outputs")
    except UnicodeDecodeError as error:
        raise client.no_inference(answer, f"an output has bytes that are no text: set binary to auto or true ({error})") from None
    except (ValueError, KeyError) as error:
        raise client.no_inference(answer, f"the answer cannot be read: {error}") from None
    outputs: dict[str, Tensor] = {}
    tail = answer.body[end:]
    for row in rows:
        try:
            name, datatype, shape = row["name"], checked_datatype(row["datatype"]), checked_shape(row["shape"])
            size = (row.get("parameters") or {}).get("binary_data_size")
            if size is None:
                values, _nested = flatten(row["data"])
                raw = pack(datatype, values)
            elif size > len(tail):
                raise TensorError("it is cut off", f"{len(tail)} bytes are left, wanted {size}")
            else:
                raw, tail = tail[:size], tail[size:]
            checked_size(datatype, shape, raw)
            outputs[name] = Tensor(name, datatype, shape, raw)
        except TensorError as error:
            raise client.no_inference(answer, f"output {row.get('name')!r} cannot be read: {error.what}; {error.why}") from None
        except (KeyError, TypeError) as error:
            raise client.no_inference(answer, f"an output cannot be read: {type(error).__name__}: {error}") from None
    # The server gives them in an order of its own.
    order = [name for name in wanted if name in outputs] + [name for name in outputs if name not in wanted]
    return (str(found.get("model_name", "")), str(found.get("model_version", ""))), {name: outputs[name] for name in order}


# --- latencies


def percentile(ordered: t.Sequence[float], percent: float) -> float:
    """Return the smallest value that at least that part of all is not above (nearest rank): a time that was really seen."""
    return ordered[max(1, math.ceil(percent / 100 * len(ordered))) - 1]


def summary(latencies: t.Sequence[float]) -> dict[str, t.Any]:
    ordered = sorted(latencies)
    found: dict[str, t.Any] = {"count": len(ordered), "min": round(ordered[0], 3), "mean": round(sum(ordered) / len(ordered), 3)}
    found.update((name, round(percentile(ordered, percent), 3)) for name, percent in PERCENTILES.items())
    return found
