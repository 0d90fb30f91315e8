# Copyright (c) 2026, The gpufleet.triton authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import copy
from pathlib import Path

import pytest
from ansible_collections.gpufleet.triton.plugins.plugin_utils._model_check import check
from ansible_collections.gpufleet.triton.plugins.plugin_utils._pbtxt import PbtxtError, from_dict, parse
from ansible_collections.gpufleet.triton.tests.unit.plugins.plugin_utils.generator import Generator

EXAMPLES = Path(__file__).resolve().parents[4] / "examples" / "fleet" / "models"

X = {"name": "x", "data_type": "TYPE_FP32", "dims": [3, -1]}
Y = {"name": "y", "data_type": "TYPE_INT64", "dims": [1]}
TENSORS = {"input": [X], "output": [Y]}
ONNX = {"name": "m", "backend": "onnxruntime", "max_batch_size": 8, **TENSORS}
PYTHON = {"name": "m", "backend": "python", "max_batch_size": 8, **TENSORS}
TORCH = {"name": "m", "platform": "pytorch_libtorch", **TENSORS}
PLAN = {"name": "m", "platform": "tensorrt_plan", "max_batch_size": 8}
CUSTOM = {"name": "m", "backend": "custom", **TENSORS}
STEP = {"model_name": "first", "input_map": {"a": "x"}, "output_map": {"b": "middle"}}
LAST = {"model_name": "last", "input_map": {"a": "middle"}, "output_map": {"b": "y"}}
ENSEMBLE = {"name": "m", "platform": "ensemble", "max_batch_size": 4, **TENSORS, "ensemble_scheduling": {"step": [STEP, LAST]}}
MODELS = {
    "first": {
        "backend": "onnxruntime",
        "max_batch_size": 8,
        "input": [{"name": "a", "data_type": "TYPE_FP32", "dims": [-1, -1]}],
        "output": [{"name": "b", "data_type": "TYPE_FP16", "dims": [7]}],
    },
    "last": {
        "backend": "onnxruntime",
        "input": [
            {"name": "a", "data_type": "TYPE_FP16", "dims": [-1, 7]},
            {"name": "c", "data_type": "TYPE_BOOL", "dims": [1], "optional": True},
        ],
        "output": [{"name": "b", "data_type": "TYPE_INT64", "dims": [-1, 1]}],
    },
}
FILES = {"onnxruntime": "1/model.onnx", "python": "1/model.py", "tensorrt_plan": "1/model.plan", "pytorch_libtorch": "1/model.pt"}


def files_of(config: dict) -> list[str]:
    return ["config.pbtxt", FILES.get(config.get("backend") or config.get("platform"), "1/")]


def found(config: dict, files: list[str] | None = None, folder: str = "m", **context) -> list[tuple[str, str]]:
    before = copy.deepcopy(config)
    findings = check(config, files_of(config) if files is None else files, folder, context)
    assert config == before
    for finding in findings:
        assert list(finding) == ["severity", "field", "what", "why", "remedy"]
        assert all(isinstance(word, str) and word for word in finding.values())
        assert all(finding[key].endswith((".", "?")) and "\n" not in finding[key] for key in ("what", "why", "remedy"))
    assert sorted(findings, key=lambda finding: finding["severity"] != "error") == findings
    return [(finding["severity"], finding["field"]) for finding in findings]


def changed(config: dict, *names: str, **fields) -> dict:
    return {key: value for key, value in {**config, **fields}.items() if key not in names}


@pytest.mark.parametrize("config", [ONNX, PYTHON, TORCH, PLAN, CUSTOM])
def test_a_model_in_order_has_no_findings(config) -> None:
    assert found(config, gpus=1, release="26.08", backends=["onnxruntime", "python", "tensorrt", "pytorch", "custom"]) == []
    assert found(config) == []
    assert check(from_dict(config), files_of(config), "m") == []


def test_an_ensemble_in_order_has_no_findings() -> None:
    assert found(ENSEMBLE, ["config.pbtxt", "1/"], models=MODELS, gpus=0, backends=[]) == []
    assert found(ENSEMBLE, ["config.pbtxt", "1/"]) == []


@pytest.mark.parametrize("folder", sorted(EXAMPLES.iterdir()), ids=lambda folder: folder.name)
def test_the_examples_have_no_findings(folder) -> None:
    files = [path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()]
    assert check(parse((folder / "config.pbtxt").read_text()), files, folder.name, {"gpus": 0, "backends": ["python"]}) == []


@pytest.mark.parametrize("folder", [{}, {"name": ""}])
@pytest.mark.parametrize(
    "file", ["1/model.onnx", "1/model.onnx/part.bin", "1/model.plan", "1/model.xml", "3/model.savedmodel/saved_model.pb"]
)
def test_an_empty_configuration_is_completed_from_the_file(file, folder) -> None:
    assert found(folder, [file], release="25.02") == []


E, W = "error", "warning"


def several(value: str) -> dict:
    return {"enable_multi_device": {"string_value": value}}


@pytest.mark.parametrize(
    ("config", "context", "wanted"),
    [
        # Name, platform and backend
        (changed(ONNX, name="n"), {}, [(E, "name")]),
        (changed(ONNX, "name"), {}, []),
        (changed(ONNX, "backend", platform="onnx"), {}, [(E, "platform")]),
        (changed(CUSTOM, "backend"), {}, [(E, "backend")]),
        (changed(ONNX, platform="onnxruntime_onnx"), {}, []),
        (changed(ONNX, platform="tensorrt_plan"), {}, [(E, "platform")]),
        (changed(CUSTOM, platform="whatever"), {}, []),
        (changed(ENSEMBLE, backend="python"), {}, [(E, "backend")]),
        (changed(ENSEMBLE, platform="python"), {}, [(E, "platform")]),
        (changed(ENSEMBLE, "ensemble_scheduling"), {}, [(E, "ensemble_scheduling.step")]),
        (
            changed(
                ENSEMBLE,
                instance_group=[{}],
                optimization={},
                model_warmup=[{"batch_size": 1, "inputs": {"x": {"data_type": "TYPE_FP32", "dims": [3, 1], "zero_data": True}}}],
            ),
            {},
            [(E, "instance_group"), (E, "optimization"), (E, "model_warmup")],
        ),
        # The image
        (ONNX, {"backends": ["python"]}, [(E, "backend")]),
        (ONNX, {"backends": []}, [(E, "backend")]),
        (TORCH, {"backends": ["python"]}, [(E, "platform")]),
        ({"platform": "tensorflow_savedmodel"}, {"backends": ["python"]}, [(E, "platform"), (E, "default_model_filename")]),
        (
            {"platform": "tensorflow_savedmodel", "default_model_filename": "model.onnx"},
            {"release": "25.03"},
            [(E, "platform"), (E, "default_model_filename")],
        ),
        # Inputs and outputs
        (changed(TORCH, "input"), {}, [(E, "input")]),
        (changed(TORCH, "input", "output"), {}, [(E, "input"), (E, "output")]),
        (changed(PYTHON, "output"), {}, [(W, "output")]),
        (changed(ONNX, "input", "output"), {}, []),
        (changed(ONNX, "input", "output"), {"auto_complete": False}, [(E, "input"), (E, "output")]),
        (changed(PLAN), {"auto_complete": False}, [(E, "input"), (E, "output")]),
        (changed(CUSTOM, "input", "output"), {}, []),
        (
            changed(ENSEMBLE, "input"),
            {},
            [(E, "input"), (E, "ensemble_scheduling.step"), (E, "ensemble_scheduling.step"), (E, "output[0]")],
        ),
        (changed(TORCH, input=[changed(X, "name")]), {}, [(E, "input[0].name")]),
        (
            changed(TORCH, input=[changed(X, "dims"), changed(X, "data_type", name="z")]),
            {},
            [(E, "input[0].dims"), (E, "input[1].data_type")],
        ),
        (changed(ONNX, input=[changed(X, "dims")]), {}, []),
        (changed(ONNX, input=[changed(X, "dims")]), {"auto_complete": False}, [(E, "input[0].dims")]),
        (changed(ONNX, input=[changed(X, dims=[3, 0])]), {}, [(E, "input[0].dims")]),
        (changed(ONNX, input=[X, X]), {}, [(E, "input[1].name")]),
        (changed(ONNX, output=[changed(Y, dims=[2, -1, 6], reshape={"shape": [1, 2, -1, 3, 2]})]), {}, []),
        (changed(ONNX, output=[changed(Y, dims=[2, -1, 6], reshape={"shape": [12, -1]})]), {}, [(E, "output[0].reshape")]),
        (changed(ONNX, output=[changed(Y, dims=[1], reshape={})]), {}, []),
        (changed(ONNX, output=[changed(Y, dims=[1], reshape={})], max_batch_size=0), {}, [(E, "output[0].reshape")]),
        (changed(ONNX, input=[changed(X, format="FORMAT_NHWC")]), {}, [(E, "input[0].format")]),
        (changed(ONNX, input=[changed(X, is_shape_tensor=True)]), {}, [(E, "input[0].is_shape_tensor")]),
        (changed(PLAN, input=[changed(X, is_shape_tensor=True)], output=[Y]), {}, []),
        (changed(ONNX, batch_input=[{"data_type": "TYPE_FP32", "source_input": ["x"]}]), {}, []),
        (
            changed(ONNX, batch_input=[{"data_type": "TYPE_FP64", "source_input": ["q", "x"]}]),
            {},
            [(E, "batch_input[0].source_input"), (E, "batch_input[0].source_input"), (E, "batch_input[0].data_type")],
        ),
        (changed(ONNX, batch_output=[{"target_name": ["q"], "source_input": ["x"]}]), {}, [(E, "batch_output[0].target_name")]),
        # Batches
        (changed(ONNX, max_batch_size=-1), {}, [(E, "max_batch_size")]),
        (changed(ONNX, dynamic_batching={"preferred_batch_size": [4, 8]}), {}, []),
        (changed(ONNX, dynamic_batching={"preferred_batch_size": [0, 16]}), {}, [(E, "dynamic_batching.preferred_batch_size")] * 2),
        (changed(ONNX, "max_batch_size", dynamic_batching={}), {}, [(W, "dynamic_batching")]),
        (
            changed(TORCH, dynamic_batching={"preferred_batch_size": [4]}),
            {},
            [(E, "dynamic_batching.preferred_batch_size"), (W, "dynamic_batching")],
        ),
        (changed(ONNX, dynamic_batching={"priority_levels": 2}), {}, [(E, "dynamic_batching.default_priority_level")]),
        (
            changed(ONNX, dynamic_batching={"priority_levels": 2, "default_priority_level": 1, "priority_queue_policy": {"3": {}}}),
            {},
            [(E, "dynamic_batching.priority_queue_policy")],
        ),
        (
            changed(ONNX, dynamic_batching={"priority_levels": 2, "default_priority_level": 1, "preserve_ordering": True}),
            {},
            [(E, "dynamic_batching.preserve_ordering")],
        ),
        (
            changed(
                ONNX,
                dynamic_batching={
                    "preserve_ordering": True,
                    "default_queue_policy": {"timeout_action": "DELAY", "default_timeout_microseconds": 1},
                },
            ),
            {},
            [(E, "dynamic_batching.preserve_ordering")],
        ),
        (
            changed(ONNX, sequence_batching={"oldest": {"preferred_batch_size": [9]}}),
            {},
            [(E, "sequence_batching.oldest.preferred_batch_size")],
        ),
        (
            changed(ONNX, sequence_batching={"direct": {"minimum_slot_utilization": 1.5}}),
            {},
            [(E, "sequence_batching.direct.minimum_slot_utilization")],
        ),
        # Cache
        (changed(ONNX, response_cache={"enable": True}), {}, []),
        (changed(ONNX, response_cache={"enable": True}, sequence_batching={}), {}, [(E, "response_cache")]),
        (changed(ONNX, response_cache={"enable": True}, model_transaction_policy={"decoupled": True}), {}, [(E, "response_cache")]),
        # Instances
        (changed(ONNX, instance_group=[{"kind": "KIND_GPU"}]), {"gpus": 0}, [(E, "instance_group[0].kind")]),
        (changed(ONNX, instance_group=[{"kind": "KIND_GPU"}]), {"gpus": None}, []),
        (changed(ONNX, instance_group=[{"kind": "KIND_GPU", "gpus": [0, 2]}]), {"gpus": 2}, [(E, "instance_group[0].gpus")]),
        (changed(ONNX, instance_group=[{}, {"gpus": [1]}]), {"gpus": 0}, [(W, "instance_group[1].gpus")]),
        (changed(ONNX, instance_group=[{"kind": "KIND_CPU", "gpus": [0]}]), {"gpus": 1}, [(E, "instance_group[0].gpus")]),
        (changed(ONNX, instance_group=[{"profile": ["1"]}]), {}, [(E, "instance_group[0].profile")]),
        (changed(PLAN, instance_group=[{"kind": "KIND_CPU"}]), {"gpus": 0}, [(E, "instance_group[0].kind")]),
        (changed(PLAN, instance_group=[{"kind": "KIND_MODEL"}]), {}, [(E, "instance_group[0].kind")]),
        (changed(PLAN, instance_group=[{"kind": "KIND_MODEL"}], parameters=several("True")), {"gpus": 2}, []),
        (changed(PLAN, instance_group=[{"kind": "KIND_MODEL"}], parameters=several("0")), {}, [(E, "instance_group[0].kind")]),
        (changed(PLAN, instance_group=[{"kind": "KIND_CPU"}], parameters=several("1")), {}, [(E, "instance_group[0].kind")]),
        (PLAN, {"gpus": 0}, [(E, "backend")]),
        # Metrics
        (
            changed(ONNX, model_metrics={"metric_control": [{}]}),
            {},
            [
                (E, "model_metrics.metric_control[0].metric_identifier.family"),
                (E, "model_metrics.metric_control[0].histogram_options.buckets"),
            ],
        ),
    ],
)
def test_findings_of_the_configuration(config, context, wanted) -> None:
    assert found(config, **context) == wanted


def warmup(*samples: dict) -> dict:
    return {"model_warmup": list(samples)}


def sample(**fields) -> dict:
    return {"data_type": "TYPE_FP32", "dims": [3, 1], "zero_data": True, **fields}


@pytest.mark.parametrize(
    ("config", "wanted"),
    [
        (changed(ONNX, **warmup({"batch_size": 8, "inputs": {"x": sample()}})), []),
        (changed(ONNX, **warmup({"inputs": {"x": sample()}})), [(W, "model_warmup[0].batch_size")]),
        (changed(ONNX, **warmup({"batch_size": 9, "inputs": {"x": sample()}})), [(E, "model_warmup[0].batch_size")]),
        (changed(TORCH, **warmup({"batch_size": 2, "inputs": {"x": sample()}})), [(E, "model_warmup[0].batch_size")]),
        (changed(TORCH, **warmup({"batch_size": 1, "inputs": {"x": sample()}})), []),
        (changed(ONNX, **warmup({"batch_size": 1, "inputs": {"x": sample(dims=[3, -1])}})), [(E, "model_warmup[0].inputs['x'].dims")]),
        (
            changed(ONNX, **warmup({"batch_size": 1, "inputs": {"x": sample(data_type="TYPE_FP16")}})),
            [(E, "model_warmup[0].inputs['x'].data_type")],
        ),
        (
            changed(ONNX, **warmup({"batch_size": 1, "inputs": {"x": {"data_type": "TYPE_FP32", "dims": [1]}}})),
            [(E, "model_warmup[0].inputs['x']")],
        ),
        (changed(ONNX, **warmup({"batch_size": 1})), [(E, "model_warmup[0].inputs")]),
        (changed(ONNX, **warmup({"batch_size": 1, "inputs": {"x": sample(), "z": sample()}})), [(E, "model_warmup[0].inputs['z']")]),
        (
            changed(
                ONNX,
                **warmup({"batch_size": 1, "inputs": {"x": sample(), "start": sample()}}),
                sequence_batching={"control_input": [{"name": "start"}]},
            ),
            [],
        ),
    ],
)
def test_findings_of_warmup(config, wanted) -> None:
    assert found(config) == wanted


UNTYPED = changed(X, "data_type")


@pytest.mark.parametrize("backend", ["python", "tensorrt", "openvino", "tensorflow", "dali"])
def test_what_a_backend_may_add_is_no_error(backend) -> None:
    """model.py has auto_complete_config, the others read the model: what is written need not be all of it."""
    config = changed(PYTHON, backend=backend, input=[UNTYPED], **warmup({"batch_size": 1, "inputs": {"x": sample(), "z": sample()}}))
    files = ["1/model.py", "1/model.plan", "1/model.xml"]
    assert found(config, files, backends=[backend]) == [(W, "model_warmup[0].inputs['z']")]
    assert (E, "model_warmup[0].inputs['z']") in found(config, files, backends=[backend], auto_complete=False)
    assert (E, "model_warmup[0].inputs['x'].data_type") in found(config, files, backends=[backend], auto_complete=False)


@pytest.mark.parametrize("config", [ONNX, TORCH])
def test_what_a_backend_takes_as_it_is_written_is_an_error(config) -> None:
    config = changed(config, input=[UNTYPED], **warmup({"batch_size": 1, "inputs": {"x": sample(), "z": sample()}}))
    findings = found(config)
    assert (E, "model_warmup[0].inputs['z']") in findings
    assert (E, "model_warmup[0].inputs['x'].data_type") in findings


@pytest.mark.parametrize(
    ("config", "wanted"),
    [
        (PYTHON, [(W, "model_warmup[0].batch_size")]),
        (changed(PYTHON, "max_batch_size"), [(W, "model_warmup[0].batch_size")]),
        (changed(PYTHON, "max_batch_size", backend="dali"), [(W, "model_warmup[0].batch_size")]),
        (ONNX, [(E, "model_warmup[0].batch_size")]),
        (changed(ONNX, "max_batch_size"), []),
    ],
)
def test_a_largest_batch_that_model_py_may_set(config, wanted) -> None:
    config = changed(config, **warmup({"batch_size": 9, "inputs": {"x": sample()}}))
    files = ["1/model.py", "1/model.onnx"]
    assert found(config, files) == wanted
    assert found(config, files, auto_complete=False) == [(E, "model_warmup[0].batch_size")]


def test_an_empty_sample_has_a_size() -> None:
    assert found(changed(ONNX, **warmup({"batch_size": 1, "inputs": {"x": sample(dims=[3, 0])}}))) == []


AGENTS = {"model_repository_agents": {"agents": [{"name": "checksum"}, {"name": "decrypt"}]}}


@pytest.mark.parametrize(
    ("config", "files", "context", "fields"),
    [
        ({}, ["1/model.enc"], {}, ["backend"]),
        (ONNX, ["1/model.onnx.enc"], {}, ["default_model_filename"]),
        (ONNX, ["model.tar"], {}, ["version_policy"]),
        (changed(ONNX, version_policy={"specific": {"versions": [3]}}), ["1/model.onnx"], {}, ["version_policy.specific.versions"]),
        (ONNX, ["1/model.onnx", "2.tmp/"], {}, ["2.tmp"]),
        (CUSTOM, ["1/x"], {"backends": ["python"]}, ["backend"]),
        (changed(ONNX, output=[changed(Y, label_filename="labels.txt")]), ["1/model.onnx"], {}, ["output[0].label_filename"]),
        (changed(PLAN, cc_model_filenames={"8.0": "a"}), ["1/a"], {"compute_capabilities": ["7.5"]}, ["cc_model_filenames"]),
    ],
)
def test_an_agent_may_bring_another_folder(config, files, context, fields) -> None:
    assert found(config, files, **context) == [(E, field) for field in fields]
    assert found({**config, **AGENTS}, files, **context) == [(W, field) for field in fields]


def test_an_agent_brings_no_other_configuration() -> None:
    assert found({**changed(ONNX, max_batch_size=-1), **AGENTS}) == [(E, "max_batch_size")]


def specific(*versions: int) -> dict:
    return {"specific": {"versions": list(versions)}}


@pytest.mark.parametrize(
    ("config", "files", "wanted"),
    [
        (ONNX, [], [(E, "version_policy")]),
        (ONNX, ["config.pbtxt"], [(E, "version_policy")]),
        (ONNX, ["1/model.onnx", "2/model.onnx"], []),
        (ONNX, ["1/other.onnx", "2/model.onnx"], []),
        (ONNX, ["1/model.onnx", "2/other.onnx"], [(E, "default_model_filename")]),
        (ONNX, ["9/other.onnx", "10/model.onnx"], []),
        (ONNX, ["1/model.onnx/model.bin"], []),
        (changed(ONNX, version_policy={"all": {}}), ["1/a", "2/b"], [(E, "default_model_filename")] * 2),
        (changed(ONNX, version_policy={"latest": {"num_versions": 2}}), ["1/a", "2/model.onnx", "3/model.onnx"], []),
        (changed(ONNX, version_policy={"latest": {}}), ["1/model.onnx"], [(E, "version_policy")]),
        (changed(ONNX, version_policy=specific(1)), ["1/model.onnx", "2/b"], []),
        (changed(ONNX, version_policy=specific(1, 3)), ["1/model.onnx"], [(E, "version_policy.specific.versions")]),
        (changed(ONNX, version_policy=specific(3)), ["1/model.onnx"], [(E, "version_policy.specific.versions")]),
        (changed(ONNX, version_policy=specific()), ["1/model.onnx"], [(E, "version_policy")]),
        # Folders that Triton takes for something else
        (ONNX, ["1/model.onnx", "2.tmp/"], [(E, "2.tmp")]),
        (ONNX, ["1/model.onnx", "3_old/model.onnx"], [(E, "3_old")]),
        (ONNX, ["1/model.onnx", "20240101-backup/x"], [(E, "20240101-backup")]),
        (ONNX, ["1/model.onnx", "01/model.onnx"], [(E, "01")]),
        (ONNX, ["1/model.onnx", "-2/model.onnx"], [(E, "-2")]),
        (ONNX, ["1/model.onnx", "99999999999999999999/x"], [(E, "99999999999999999999")]),
        (ONNX, ["0/model.onnx"], [(W, "0")]),
        (ONNX, ["1/model.onnx", ".2.tmp/x", "docs/x", "v2/x", "configs/h100.pbtxt", "warmup/x", "initial_state/x", "2"], []),
        # Files that the configuration names
        (changed(ONNX, default_model_filename="other.onnx"), ["1/model.onnx"], [(E, "default_model_filename")]),
        (changed(CUSTOM, default_model_filename="weights.bin"), ["1/x"], [(E, "default_model_filename")]),
        (PYTHON, ["1/weights.npz"], [(E, "default_model_filename")]),
        (changed(PYTHON, default_model_filename="main.py"), ["1/main.py"], []),
        (changed(TORCH, runtime="model.py"), ["1/model.py"], []),
        (changed(TORCH, platform="torch_aoti"), ["1/model.pt2"], []),
        (changed(ONNX, output=[changed(Y, label_filename="labels.txt")]), ["1/model.onnx"], [(E, "output[0].label_filename")]),
        (changed(ONNX, output=[changed(Y, label_filename="./labels.txt")]), ["1/model.onnx", "labels.txt"], []),
        (
            changed(ONNX, output=[changed(Y, label_filename="../labels.txt")]),
            ["1/model.onnx", "labels.txt"],
            [(E, "output[0].label_filename")],
        ),
        (changed(ONNX, output=[changed(Y, label_filename="a/../labels.txt")]), ["1/model.onnx", "labels.txt", "a/b"], []),
        (
            changed(ONNX, output=[changed(Y, label_filename="a/../../labels.txt")]),
            ["1/model.onnx", "labels.txt", "a/b"],
            [(E, "output[0].label_filename")],
        ),
        (
            changed(
                ONNX, **warmup({"batch_size": 1, "inputs": {"x": {"data_type": "TYPE_FP32", "dims": [1], "input_data_file": "x.raw"}}})
            ),
            ["1/model.onnx", "x.raw"],
            [(E, "model_warmup[0].inputs['x'].input_data_file")],
        ),
        (
            changed(
                ONNX, **warmup({"batch_size": 1, "inputs": {"x": {"data_type": "TYPE_FP32", "dims": [1], "input_data_file": "x.raw"}}})
            ),
            ["1/model.onnx", "warmup/x.raw"],
            [],
        ),
        (
            changed(ONNX, sequence_batching={"state": [{"initial_state": [{"data_file": "s.raw"}]}]}),
            ["1/model.onnx"],
            [(E, "sequence_batching.state[0].initial_state[0].data_file")],
        ),
        (
            changed(PYTHON, parameters={"EXECUTION_ENV_PATH": {"string_value": "$$TRITON_MODEL_DIRECTORY/env.tar.gz"}}),
            ["1/model.py"],
            [(E, "parameters['EXECUTION_ENV_PATH']")],
        ),
        (changed(PYTHON, parameters={"EXECUTION_ENV_PATH": {"string_value": "/opt/env.tar.gz"}}), ["1/model.py"], []),
        (
            changed(
                ONNX, model_repository_agents={"agents": [{"name": "checksum", "parameters": {"MD5:1/model.onnx": "0", "SHA256:x": "0"}}]}
            ),
            ["1/model.onnx"],
            [(E, "model_repository_agents.agents[0].parameters['SHA256:x']")] * 2,
        ),
        (changed(CUSTOM, backend="custom"), ["1/libtriton_custom.so"], []),
    ],
)
def test_findings_of_the_folder(config, files, wanted) -> None:
    assert found(config, files) == wanted


@pytest.mark.parametrize("library", ["libtriton_custom.so", "1/libtriton_custom.so"])
def test_a_model_may_bring_its_backend(library) -> None:
    assert found(CUSTOM, ["1/", library], backends=["python"]) == []
    assert found(CUSTOM, ["1/"], backends=["python"]) == [(E, "backend")]


@pytest.mark.parametrize(
    ("release", "wanted"), [("25.02", []), ("25.03", [(E, "backend")]), ("26.08", [(E, "backend")]), ("", [(W, "backend")])]
)
def test_tensorflow_left_the_images(release, wanted) -> None:
    config = {"backend": "tensorflow", "platform": "tensorflow_savedmodel"}
    assert found(config, ["1/model.savedmodel/saved_model.pb"], release=release) == wanted
    (finding,) = check(config, ["1/model.savedmodel/x"], "m", {"backends": ["onnxruntime"], "release": release})
    assert "TensorFlow" in finding["why"] and "25.03" in finding["why"]
    assert found(config, ["1/model.savedmodel/saved_model.pb"], backends=["tensorflow"], release="26.08") == []


@pytest.mark.parametrize(
    ("names", "files", "capabilities", "wanted"),
    [
        ({}, ["1/model.plan"], ["8.0"], []),
        ({}, ["1/model.plan"], ["8.0", "8.0"], []),
        ({}, ["1/model.plan"], ["8.0", "9.0"], [(W, "cc_model_filenames")]),
        ({"8.0": "a.plan", "9.0": "h.plan"}, ["1/a.plan", "1/h.plan"], ["8.0", "9.0"], []),
        ({"8.0": "a.plan", "9.0": "h.plan"}, ["1/a.plan"], ["8.0"], [(E, "cc_model_filenames['9.0']")]),
        ({"8.0": "a.plan"}, ["1/a.plan"], ["7.5"], [(E, "cc_model_filenames")]),
        ({"8.0": "a.plan"}, ["1/a.plan", "1/model.plan"], ["7.5"], []),
        ({"8.0": "a.plan"}, ["1/a.plan", "1/model.plan"], ["7.5", "8.0"], [(W, "cc_model_filenames")]),
        ({"8": "a.plan"}, ["1/a.plan"], None, [(E, "cc_model_filenames['8']")]),
        ({"8.0": "a.plan"}, ["1/a.plan"], None, []),
    ],
)
def test_plans_per_compute_capability(names, files, capabilities, wanted) -> None:
    assert found(changed(PLAN, cc_model_filenames=names), files, compute_capabilities=capabilities) == wanted


def ensemble(*steps: dict, **fields) -> dict:
    return changed(ENSEMBLE, ensemble_scheduling={"step": list(steps)}, **fields)


def model(name: str, **fields) -> dict:
    return {**MODELS, name: changed(MODELS.get(name, {}), **fields)}


STEPS = "ensemble_scheduling.step"
A, B = MODELS["last"]["input"][0], MODELS["last"]["output"][0]


@pytest.mark.parametrize(
    ("config", "models", "wanted"),
    [
        (ensemble(), None, [(E, STEPS)]),
        (ENSEMBLE, {"first": MODELS["first"]}, [(E, f"{STEPS}[1].model_name")]),
        (ENSEMBLE, {}, [(E, f"{STEPS}[0].model_name"), (E, f"{STEPS}[1].model_name")]),
        (ensemble({}, STEP, LAST), None, [(E, f"{STEPS}[0].model_name"), (E, f"{STEPS}[0].input_map"), (E, f"{STEPS}[0].output_map")]),
        # Where tensors come from and go to
        (ensemble(STEP), None, [(E, "output[0]"), (E, f"{STEPS}[0].output_map")]),
        (ensemble(LAST), None, [(E, STEPS), (E, "input[0]"), (E, "output[0]")]),
        (ensemble(changed(STEP, input_map={"a": "z"}), LAST), None, [(E, STEPS), (E, STEPS), (E, "input[0]"), (E, "output[0]")]),
        (ensemble(STEP, changed(LAST, output_map={"b": "middle"})), None, [(E, f"{STEPS}[1].output_map"), (E, "output[0]")]),
        (
            ensemble(STEP, changed(LAST, input_map={"a": "middle", "c": "loop"}, output_map={"b": "y", "d": "loop"})),
            None,
            [(E, STEPS), (E, "output[0]")],
        ),
        # Against the models
        (ENSEMBLE, model("first", max_batch_size=2), [(E, "max_batch_size")]),
        (ENSEMBLE, model("first", output=[{"name": "b", "data_type": "TYPE_FP32", "dims": [7]}]), [(E, f"{STEPS}[1].input_map")]),
        (ENSEMBLE, model("first", output=[{"name": "b", "data_type": "TYPE_FP16", "dims": [8]}]), [(E, f"{STEPS}[1].input_map")]),
        (ENSEMBLE, model("first", output=[{"name": "q", "data_type": "TYPE_FP16", "dims": [7]}]), [(E, f"{STEPS}[0].output_map")]),
        (ENSEMBLE, model("first", input=[{"name": "q", "data_type": "TYPE_FP32", "dims": [-1, -1]}]), [(E, f"{STEPS}[0].input_map")] * 2),
        (ENSEMBLE, model("first", input=[], output=[]), []),
        (ENSEMBLE, model("last", input=[A, {"name": "c", "data_type": "TYPE_BOOL", "dims": [1]}]), [(E, f"{STEPS}[1].input_map")]),
        (ENSEMBLE, model("last", output=[changed(B, data_type="TYPE_INT32")]), [(E, f"{STEPS}[1].output_map")]),
        (changed(ENSEMBLE, input=[changed(X, dims=[6], reshape={"shape": [2, 3]})]), MODELS, []),
        # In a circle
        (ensemble(changed(STEP, model_name="m"), LAST), MODELS, None),
        (ENSEMBLE, model("last", platform="ensemble", ensemble_scheduling={"step": [{"model_name": "m"}]}), [(E, STEPS)]),
        (ENSEMBLE, model("last", platform="ensemble", ensemble_scheduling={"step": [{"model_name": "last"}, {"model_name": "first"}]}), []),
    ],
)
def test_findings_of_ensembles(config, models, wanted) -> None:
    findings = found(config, ["1/"], models=models)
    assert (E, STEPS) in findings if wanted is None else findings == wanted


@pytest.mark.parametrize(("backend", "severity"), [("python", W), ("tensorrt", W), ("", W), ("onnxruntime", E), ("pytorch", E)])
def test_a_step_whose_tensors_may_become_more(backend, severity) -> None:
    step = {"backend": backend, "max_batch_size": 8, "input": [dict(MODELS["first"]["input"][0], optional=True, name="q")]}
    fields = [f"{STEPS}[0].input_map", f"{STEPS}[0].output_map"]
    config = {**step, "output": [dict(MODELS["first"]["output"][0], name="q")]}
    assert found(ENSEMBLE, ["1/"], models={**MODELS, "first": config}) == [(severity, field) for field in fields]
    assert found(ENSEMBLE, ["1/"], models={**MODELS, "first": config}, auto_complete=False) == [(E, field) for field in fields]


@pytest.mark.parametrize(("backend", "severity"), [("python", W), ("tensorrt", E), ("onnxruntime", E)])
def test_a_step_whose_largest_batch_may_grow(backend, severity) -> None:
    assert found(ENSEMBLE, ["1/"], models=model("first", max_batch_size=2, backend=backend)) == [(severity, "max_batch_size")]


def test_a_circle_is_named() -> None:
    models = {
        "a": {"platform": "ensemble", "ensemble_scheduling": {"step": [{"model_name": "b"}]}},
        "b": {"platform": "ensemble", "ensemble_scheduling": {"step": [{"model_name": "m"}]}},
    }
    config = {"platform": "ensemble", "ensemble_scheduling": {"step": [{"model_name": "a"}]}}
    assert "The ensemble needs itself: m -> a -> b -> m." in [finding["what"] for finding in check(config, ["1/"], "m", {"models": models})]


@pytest.mark.parametrize("folder", ["", " ", "..", "a/b"])
def test_names_that_triton_refuses(folder) -> None:
    assert (E, "name") in found(changed(ONNX, "name"), folder=folder)


def test_near_names_are_hinted() -> None:
    (finding,) = check(changed(ONNX, backend="onnxruntim"), ["1/"], "m", {"backends": ["onnxruntime", "python"]})
    assert finding["remedy"] == "Did you mean 'onnxruntime'?"


def test_what_does_not_fit_the_schema_is_an_error_not_a_finding() -> None:
    with pytest.raises(PbtxtError, match=r"instance_group\[0\]\.knd"):
        check({"instance_group": [{"knd": 1}]}, ["1/"], "m")
    with pytest.raises(PbtxtError, match="max_batch_size"):
        check(ENSEMBLE, ["1/"], "m", {"models": {"first": {"max_batch_size": "1"}}})


def test_an_unknown_context_is_refused() -> None:
    with pytest.raises(ValueError, match=r"wanted a context of .*gpus.*, got gpu"):
        check(ONNX, ["1/model.onnx"], "m", {"gpu": 1})


def test_any_configuration_is_checked() -> None:
    """Whatever the schema allows, the check says something about and does not break."""
    descriptor = type(from_dict({})).DESCRIPTOR
    names = ["1/", "2.tmp/", "01/x", "model", "warmup/x", "\u0661/x", "99999999999999999999999999999999999999999/x"]
    for seed in range(300):
        generator = Generator(seed)
        config, other = generator.message(descriptor), generator.message(descriptor)
        context = {"gpus": seed % 3, "backends": ["model"], "models": {"model": other, "8": config}, "compute_capabilities": ["8.0", "9.0"]}
        found(config, names[: seed % 8], folder=("model", "8")[seed % 2], release="26.08", auto_complete=bool(seed % 2), **context)
