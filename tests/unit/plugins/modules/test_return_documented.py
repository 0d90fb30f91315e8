# Copyright (c) 2026, The gpufleet.triton authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a module returns is what its RETURN documents: no key more, in no result, and none less, in all results together."""

from __future__ import annotations

import importlib
import typing as t

import pytest
import yaml
from ansible_collections.gpufleet.triton.plugins.module_utils import _container
from ansible_collections.gpufleet.triton.plugins.module_utils._http import HttpConnectError
from ansible_collections.gpufleet.triton.tests.unit.plugins.module_utils.scripted import (
    RESTRICTED,
    TRITON,
    Call,
    Script,
    encode,
    error,
    index,
    load,
    ready,
    row,
    served,
)
from ansible_collections.gpufleet.triton.tests.unit.plugins.modules.runner import Runner

#: What Ansible itself adds or treats, and documents for all modules.
COMMON = {"changed", "failed", "msg", "diff", "exception", "warnings", "deprecations"}
TYPES: dict[str, tuple[type, ...]] = {
    "bool": (bool,),
    "dict": (dict,),
    "float": (float,),
    "int": (int,),
    "list": (list,),
    "str": (str,),
    "raw": (bool, int, float, str),
}
REFUSED = HttpConnectError("GET: connection refused", "nothing listens there", "start it")
IDENTITY = ("GET", "/v2", 200, TRITON)


def model_results(run: Runner) -> t.Iterator[dict[str, t.Any]]:
    calls = index(row("m")), load("m"), index(ready("m")), served("m", "sha256:a")
    yield run("triton_model", {"name": "m"}, Script(*calls), diff=True)
    script = Script(index(ready("m")), served("m", "sha256:a"))
    yield run("triton_model", {"name": "m", "digest": "sha256:b"}, script, check=True)
    failed = load("m", 400, error("load failed for model 'm': no weights"))
    calls = index(row("m")), failed, index(row("m", 1, "UNAVAILABLE", "no weights"))
    yield run("triton_model", {"name": "m", "container": "triton"}, Script(*calls))
    lost = Call("POST", "/v2/repository/index", error=REFUSED)
    yield run("triton_model", {"name": "m", "container": "triton"}, Script(index(row("m")), load("m"), lost))
    yield run("triton_model", {"name": "m", "container": "triton"}, Script(Call("POST", "/v2/repository/index", error=REFUSED)))


def health_results(run: Runner) -> t.Iterator[dict[str, t.Any]]:
    answers = Call(*IDENTITY), Call("GET", "/v2/health/live"), Call("GET", "/v2/health/ready")
    args = {"models": [{"name": "m"}], "wait_timeout": 0.01, "container": "triton"}
    yield run("triton_health", args, Script(*answers, index(ready("m")), served("m", "sha256:a")))
    refused = Call("GET", "/v2/health/live", error=REFUSED, times=2)
    yield run("triton_health", args, Script(refused))
    yield run("triton_health", args, Script(Call("GET", "/v2/health/live", error=REFUSED)), check=True)
    yield run("triton_health", args, Script(Call("GET", "/v2/health/live", 403, RESTRICTED)))
    yield run("triton_health", {"models": [{"name": "a/b"}]}, Script())


def info_results(run: Runner) -> t.Iterator[dict[str, t.Any]]:
    failed = row("b", 1, "UNAVAILABLE", "no weights")
    script = Script(
        Call(*IDENTITY),
        Call("GET", "/v2/health/live"),
        Call("GET", "/v2/health/ready", 400),
        index(ready("m"), failed, row("c")),
        served("m", "sha256:a"),
        Call("GET", "/v2/models/stats", answer={"model_stats": [{"name": "m", "version": "1"}]}),
    )
    yield run("triton_info", {"gather": ["config", "statistics"]}, script)
    yield run("triton_info", {}, Script(Call("GET", "/v2", error=REFUSED)))


def infer_results(run: Runner) -> t.Iterator[dict[str, t.Any]]:
    rows = [
        {"name": "OUT", "datatype": "FP32", "shape": [1], "data": [1.5]},
        {"name": "BYTES", "datatype": "BYTES", "shape": [1], "parameters": {"binary_data_size": 5}},
    ]
    head = encode({"model_name": "m", "model_version": "1", "outputs": rows})
    headers = {"Inference-Header-Content-Length": str(len(head))}
    path = "/v2/models/m/infer"
    args = {"model": "m", "expect": [{"name": "OUT", "data": [1]}]}
    yield run("triton_infer", {"model": "m"}, Script(Call("POST", path, answer=head + b"\x01\0\0\0\xff", headers=headers)))
    yield run("triton_infer", args, Script(Call("POST", path, answer=head + b"\x01\0\0\0\xff", headers=headers)))
    yield run("triton_infer", args, Script(Call("POST", path, error=REFUSED)), check=True)
    yield run("triton_infer", args, Script(Call("POST", path, error=REFUSED)))
    yield run("triton_infer", {"model": "m", "repeat": 0})


def compare(value: t.Any, spec: dict[str, t.Any], place: str, seen: set[str]) -> None:
    """Check one value by its entry in RETURN, and note which entries have shown up with a value."""
    if value is None:
        return
    seen.add(place)
    assert type(value) in TYPES[spec["type"]], f"{place} is {value!r}, documented as {spec['type']}"
    items = value if spec["type"] == "list" else [value]
    for item in items:
        if "contains" in spec:
            fields(item, spec["contains"], place + ".", seen)
        elif spec["type"] == "list":
            assert type(item) in TYPES[spec["elements"]], f"{place} has {item!r}, documented as {spec['elements']}"


def fields(value: dict[str, t.Any], specs: dict[str, t.Any], prefix: str, seen: set[str]) -> None:
    assert set(value) <= set(specs), f"not in RETURN: {prefix}{set(value) - set(specs)}"
    for name, spec in specs.items():
        if spec["returned"] == "always" and prefix:
            assert name in value, f"{prefix}{name} is documented as always returned"
        if name in value:
            compare(value[name], spec, prefix + name, seen)


def documented(specs: dict[str, t.Any], prefix: str = "") -> t.Iterator[str]:
    for name, spec in specs.items():
        yield prefix + name
        yield from documented(spec.get("contains", {}), f"{prefix}{name}.")


class FakeContainer:
    """The container of a server that failed, without an engine."""

    attrs: t.ClassVar[dict[str, t.Any]] = {"State": {"Status": "exited", "ExitCode": 1}, "RestartCount": 1}

    def logs(self, **_options: t.Any) -> bytes:
        return b"last words"


@pytest.mark.parametrize(
    ("name", "results"),
    [
        ("triton_model", model_results),
        ("triton_health", health_results),
        ("triton_info", info_results),
        ("triton_infer", infer_results),
    ],
)
def test_results_are_documented(
    run: Runner,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    results: t.Callable[[Runner], t.Iterator[dict[str, t.Any]]],
) -> None:
    monkeypatch.setattr(_container.Container, "_get", lambda *_args: FakeContainer())
    module = importlib.import_module(f"ansible_collections.gpufleet.triton.plugins.modules.{name}")
    specs = yaml.safe_load(module.RETURN)
    seen: set[str] = set()
    for number, result in enumerate(results(run)):
        values = {key: value for key, value in result.items() if key not in COMMON}
        for key, spec in specs.items():
            if spec["returned"] == "always" or (spec["returned"] == "success" and not result.get("failed")):
                assert key in values, f"{name}: {key} is missing in result {number}"
        fields(values, specs, "", seen)
    assert set(documented(specs)) - seen == set(), "documented, and in no result"
