# Copyright (c) 2026, The gpufleet.triton authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import json
import math
import random
import re
import subprocess
import sys
import typing as t
from pathlib import Path

import pytest
import yaml
from ansible_collections.gpufleet.triton.plugins.plugin_utils import _pbtxt
from ansible_collections.gpufleet.triton.plugins.plugin_utils._pbtxt import (
    PbtxtError,
    SchemaError,
    config_class,
    dump,
    from_dict,
    merge,
    merge_dicts,
    parse,
    to_dict,
)
from ansible_collections.gpufleet.triton.tests.unit.plugins.plugin_utils.generator import (
    Generator,
    all_enum_values,
    all_fields,
    says_nothing,
)
from google.protobuf import text_format, wrappers_pb2
from tritonclient.grpc import model_config_pb2

CHECKOUT = Path(__file__).resolve().parents[4]
EXAMPLES = sorted((CHECKOUT / "examples").rglob("config.pbtxt"))
SCHEMA = config_class().DESCRIPTOR

FULL = """\
# The model of the month.
name: "month"  # as the folder
platform: "onnxruntime_onnx"

max_batch_size: 8  # measured
input [ { name: "x" data_type: TYPE_FP32 dims: [ 3, -1 ] } ]  # pixels
output {
  name: "y"  # labels
  data_type: TYPE_INT64
  dims: 1
}
dynamic_batching { }
# Two for each.
instance_group [ { kind: KIND_GPU count: 2 } ]
parameters { key: "a" value { string_value: "1" } }  # one
parameters { key: "b" value { string_value: "2" } }  # two
"""


# Round trips


def test_each_field_comes_back_the_same() -> None:
    """Data to message to text and back, the text read by Triton's own schema as well, and the data through YAML and JSON."""
    fields: set[str] = set()
    enum_values: set[str] = set()
    for seed in range(300):
        generator = Generator(seed)
        data = generator.message(SCHEMA)
        fields |= generator.fields
        enum_values |= generator.enum_values
        message = from_dict(data)
        text = dump(message)
        assert to_dict(parse(text)) == data
        assert to_dict(message) == data
        assert text_format.Parse(text, model_config_pb2.ModelConfig()).SerializeToString(deterministic=True) == message.SerializeToString(
            deterministic=True
        )
        assert to_dict(from_dict(yaml.safe_load(yaml.safe_dump(data, allow_unicode=True)))) == data
        assert to_dict(from_dict(json.loads(json.dumps(data)))) == data
        assert dump(from_dict(to_dict(parse(text)))) == text
    silent = {name for name, field in all_fields(SCHEMA).items() if says_nothing(field)}
    assert fields == set(all_fields(SCHEMA)) - silent
    assert enum_values == all_enum_values(SCHEMA)
    # Those can be written, too, and change nothing.
    assert silent == {"inference.BatchOutput.kind", "inference.ModelInstanceGroup.SecondaryDevice.kind"}
    data = {
        "batch_output": [{"kind": "BATCH_SCATTER_WITH_INPUT_SHAPE"}],
        "instance_group": [{"secondary_devices": [{"kind": "KIND_NVDLA"}]}],
    }
    assert to_dict(from_dict(data)) == {"batch_output": [{}], "instance_group": [{"secondary_devices": [{}]}]}


def test_what_is_set_to_its_default_comes_back_where_being_set_matters() -> None:
    data = {
        "dynamic_batching": {},
        "model_warmup": [{"inputs": {"x": {"zero_data": False}, "y": {"input_data_file": ""}, "z": {}}}],
        "version_policy": {"all": {}},
        "parameters": {"empty": {}},
        "input": [{}],
        "metric_tags": {"": ""},
    }
    assert to_dict(parse(dump(from_dict(data)))) == data
    assert to_dict(from_dict({"max_batch_size": 0, "name": "", "response_cache": {"enable": False}})) == {"response_cache": {}}


def test_numbers_that_are_none_and_the_largest_of_32_bits_come_back() -> None:
    data = to_dict(parse("sequence_batching { direct { minimum_slot_utilization: nan } }"))
    assert math.isnan(data["sequence_batching"]["direct"]["minimum_slot_utilization"])
    largest = 3.4028234663852886e38
    text = "sequence_batching { direct { minimum_slot_utilization: 3.40282346638528859e+38 } }"
    assert to_dict(parse(text))["sequence_batching"]["direct"]["minimum_slot_utilization"] == pytest.approx(largest)
    assert parse(dump(from_dict(to_dict(parse(text))))) == parse(text)


def test_bytes_are_base64() -> None:
    message = wrappers_pb2.BytesValue(value=b"\xff\x00")
    assert to_dict(message) == {"value": "/wA="}
    assert from_dict({"value": "/wA="}, wrappers_pb2.BytesValue()) == message
    assert from_dict({"value": b"\xff\x00"}, wrappers_pb2.BytesValue()) == message
    with pytest.raises(PbtxtError, match="value: wanted bytes, or text in base64"):
        from_dict({"value": "?"}, wrappers_pb2.BytesValue())


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.parent.name)
def test_the_configurations_of_the_examples_come_back(path) -> None:
    text = path.read_text()
    assert from_dict(to_dict(parse(text))) == parse(text)
    assert merge(text, to_dict(parse(text))) == text


# Errors of texts


@pytest.mark.parametrize(
    ("text", "line", "column", "words"),
    [
        ('nme: "x"', 1, 1, ["ModelConfig has no field 'nme'", "Did you mean 'name'?"]),
        ("name: 'a'\ninput [\n  {dim: 3}\n]", 3, 4, ["ModelInput has no field 'dim'", "Did you mean 'dims'?"]),
        ("# c\ninput {\n  data_type: TYPE_FP3\n}", 3, 14, ["DataType has no value 'TYPE_FP3'", "Did you mean 'TYPE_FP32'?"]),
        ("input {\n  data_type: FP32\n}", 2, 14, ["DataType has no value 'FP32'", "Did you mean 'TYPE_FP32'?"]),
        ("input { data_type: 99 }", 1, 20, ["DataType has no value 99", "TYPE_BF16"]),
        ("instance_group {\n  kind: gpu }", 2, 9, ["ModelInstanceGroup.Kind has no value 'gpu'", "Did you mean 'KIND_GPU'?"]),
        ("dynamic_batching {\n}\nsequence_batching { }", 3, 1, ["sequence_batching", "dynamic_batching", "oneof"]),
        ("dynamic_batching { preferred_batchsize: 1 }", 1, 20, ["Did you mean 'preferred_batch_size'?"]),
        ('parameters { key: "a" vale { } }', 1, 23, ["Did you mean 'value'?"]),
        ('max_batch_size: "a"', 1, 17, ["parse integer"]),
        ("max_batch_size: 99999999999", 1, 17, ["out of range"]),
        ("max_batch_size: " + "9" * 5000, 1, 17, ["integer"]),
        ("name: x", 1, 7, ["Expected string"]),
        ('name: "x', 1, 7, ["ending quote"]),
        ('name "x"', 1, 6, ["Expected"]),
        ('name: "a"\nname: "b"', 2, 7, ["multiple"]),
        ("input {", 1, 7, ["Expected"]),
        ("}", 1, 1, ["Expected identifier"]),
        ("[foo.bar] {}", 1, 6, ["extensions"]),
        ('# c\nname: "a\\#b"', 2, 9, ["escape", "Write a backslash as two"]),
        ('name: "\\N{DASH}"', 1, 8, ["escape"]),
        ('name: "\\N{EM DASH}"', 1, 8, ["escape"]),
        ('name: "\\777"', 1, 8, ["escape"]),
        ('name: "\\xff"', 1, 13, ["utf-8"]),
        ('\ufeffname: "x"', 1, 1, ["byte order mark"]),
        (b'name: "x"\nplatform: "\xff"', 2, 12, ["not UTF-8"]),
    ],
)
def test_errors_of_a_text_say_where_and_what(text, line, column, words) -> None:
    with pytest.raises(PbtxtError) as caught:
        parse(text, "models/m/config.pbtxt")
    error = caught.value
    assert (error.name, error.line, error.column) == ("models/m/config.pbtxt", line, column), str(error)
    assert str(error).startswith(f"models/m/config.pbtxt:{line}:{column}: ")
    assert len(str(error)) < 400
    for word in words:
        assert word in str(error)
    with pytest.raises(PbtxtError):
        merge(text, {"name": "y"})


@pytest.mark.parametrize("text", ["", "\n", "# nothing\n", b""])
def test_an_empty_configuration_is_one(text) -> None:
    assert to_dict(parse(text)) == {}


# Errors of data


@pytest.mark.parametrize(
    ("data", "path", "words"),
    [
        ({"instance_group": [{"knd": "KIND_GPU"}]}, "instance_group[0].knd", ["Did you mean 'kind'?"]),
        ({"instance_group": [{}, {"kind": "GPU"}]}, "instance_group[1].kind", ["no value 'GPU'", "Did you mean 'KIND_GPU'?"]),
        ({"instance_group": [{"kind": "qq"}]}, "instance_group[0].kind", ["Use one of KIND_AUTO, KIND_GPU"]),
        ({"instance_group": [{"kind": 1}]}, "instance_group[0].kind", ["wanted a name of", "the number 1"]),
        ({"instance_group": {"kind": "KIND_GPU"}}, "instance_group", ["wanted a list of a mapping (ModelInstanceGroup)", "got a mapping"]),
        ({"instance_group": "KIND_GPU"}, "instance_group", ["wanted a list", "the text 'KIND_GPU'"]),
        ({"instance_group": [None]}, "instance_group[0]", ["wanted a mapping", "got null"]),
        ({"max_batch_size": "8"}, "max_batch_size", ["wanted a whole number", "the text '8'", "| int"]),
        ({"max_batch_size": 8.0}, "max_batch_size", ["the number 8.0"]),
        ({"max_batch_size": True}, "max_batch_size", ["the truth value true"]),
        ({"max_batch_size": 2**31}, "max_batch_size", ["2147483647", "2147483648"]),
        ({"max_batch_size": 10**5000}, "max_batch_size", ["too large"]),
        ({"max_batch_size": None}, "max_batch_size", ["null"]),
        ({"name": 3}, "name", ["wanted text", "the number 3", "Quote it"]),
        ({"name": "\ud800"}, "name", ["UTF-8"]),
        ({"response_cache": {"enable": "yes"}}, "response_cache.enable", ["true or false", "the text 'yes'", "| bool"]),
        ({"input": [{"dims": [1, "2"]}]}, "input[0].dims[1]", ["the text '2'"]),
        ({"input": [{"dims": 3}]}, "input[0].dims", ["wanted a list of a whole number", "the number 3"]),
        ({"parameters": {"a": "b"}}, "parameters['a']", ["wanted a mapping (ModelParameter)", "the text 'b'"]),
        ({"parameters": {"a": {"stringvalue": "b"}}}, "parameters['a'].stringvalue", ["Did you mean 'string_value'?"]),
        ({"parameters": {1: {}}}, "parameters[1]", ["wanted text", "the number 1"]),
        ({"parameters": [1]}, "parameters", ["wanted a mapping", "a list"]),
        ({"dynamic_batching": {}, "sequence_batching": {}}, "sequence_batching", ["exclude each other"]),
        ({"dynamic_batching": {"priority_queue_policy": {"one": {}}}}, "dynamic_batching.priority_queue_policy['one']", ["whole number"]),
        (
            {"sequence_batching": {"direct": {"minimum_slot_utilization": 1e300}}},
            "sequence_batching.direct.minimum_slot_utilization",
            ["wanted a number that fits into 32 bits", "1e+300"],
        ),
        ({7: 1}, "7", ["no such field"]),
        ({"": 1}, "", ["no such field"]),
        ([], "ModelConfig", ["wanted a mapping", "a list"]),
    ],
)
def test_errors_of_data_say_path_wanted_and_got(data, path, words) -> None:
    with pytest.raises(PbtxtError) as caught:
        from_dict(data)
    assert caught.value.path == path
    assert str(caught.value).startswith(f"{path}: " if path else "")
    for word in words:
        assert word in str(caught.value)


# Merge


def lines_changed(before: str, after: str) -> tuple[list[str], list[str]]:
    return (
        [line for line in before.splitlines() if line not in after.splitlines()],
        [line for line in after.splitlines() if line not in before.splitlines()],
    )


@pytest.mark.parametrize(
    ("override", "gone", "come"),
    [
        ({"max_batch_size": 16}, ["max_batch_size: 8  # measured"], ["max_batch_size: 16  # measured"]),
        ({"max_batch_size": 0}, ["max_batch_size: 8  # measured"], ["max_batch_size: 0  # measured"]),
        ({"max_batch_size": None}, ["max_batch_size: 8  # measured"], []),
        ({"platform": ""}, ['platform: "onnxruntime_onnx"'], ['platform: ""']),
        ({"backend": "python"}, [], ['backend: "python"']),
        ({"dynamic_batching": {"preserve_ordering": True}}, ["dynamic_batching { }"], ["dynamic_batching {", "  preserve_ordering: true"]),
        ({"sequence_batching": {}}, ["dynamic_batching { }"], ["sequence_batching {"]),
        ({"dynamic_batching": None}, ["dynamic_batching { }"], []),
        (
            {"parameters": {"b": {"string_value": "3"}}},
            ['parameters { key: "b" value { string_value: "2" } }  # two'],
            ["parameters {", '  key: "b"', "  value {", '    string_value: "3"', "}  # two"],
        ),
        ({"parameters": {"a": None}}, ['parameters { key: "a" value { string_value: "1" } }  # one'], []),
        ({"parameters": {"c": {"string_value": "3"}}}, [], ["parameters {", '  key: "c"', "  value {", '    string_value: "3"']),
        (
            {"parameters": None},
            ['parameters { key: "a" value { string_value: "1" } }  # one', 'parameters { key: "b" value { string_value: "2" } }  # two'],
            [],
        ),
    ],
)
def test_merge_changes_only_what_the_override_says(override, gone, come) -> None:
    merged = merge(FULL, override)
    assert to_dict(parse(merged)) == merge_dicts(to_dict(parse(FULL)), override) or override in ({"max_batch_size": 0}, {"platform": ""})
    before, after = lines_changed(FULL, merged)
    assert before == gone
    assert [line for line in after if line.strip() != "}"] == come
    kept = [line for line in FULL.splitlines() if line not in gone]
    assert [line for line in merged.splitlines() if line in kept and line != "}"] == [line for line in kept if line != "}"]


@pytest.mark.parametrize(
    ("text", "override", "wanted"),
    [
        ("", {"name": "a"}, 'name: "a"\n'),
        ("# only a comment", {"name": "a"}, '# only a comment\nname: "a"\n'),
        ('name: "a"\r\nmax_batch_size: 1\r\n', {"max_batch_size": 2, "backend": "b"}, 'name: "a"\r\nmax_batch_size: 2\r\nbackend: "b"\r\n'),
        ('max_batch_size:8,name:"x"', {"max_batch_size": 4}, 'max_batch_size: 4,name:"x"'),
        ('max_batch_size:8;name:"x"', {"max_batch_size": None}, 'name:"x"'),
        ('name:"a""b"platform:\'c\'', {"name": "d"}, "name: \"d\"platform:'c'"),
        ('name: "#no" # yes: "{"\nbackend: "}"', {"name": "n"}, 'name: "n" # yes: "{"\nbackend: "}"'),
        ("input { dims: 1 }\n# between\ninput { dims: 2 }", {"input": [{"dims": [3]}]}, "input {\n  dims: 3\n}\n# between\n"),
        ("input < dims: [1] >", {"input": []}, ""),
        ("input: [{ dims: [1] }, { dims: 2 }] # c\nname: 'n'", {"input": None}, "name: 'n'"),
        (
            "dynamic_batching { max_queue_delay_microseconds: 5 }",
            {"dynamic_batching": {"preferred_batch_size": [4]}},
            "dynamic_batching {\n  preferred_batch_size: 4\n  max_queue_delay_microseconds: 5\n}",
        ),
        (
            "parameters [{ key: 'a' value { string_value: 'x' } }, { key: 'b' }]",
            {"parameters": {"b": None}},
            'parameters {\n  key: "a"\n  value {\n    string_value: "x"\n  }\n}',
        ),
        (
            "metric_tags { key: 'a' value: '1' }  # c\nname: 'n'",
            {"metric_tags": {"a": None, "b": "2"}},
            'metric_tags {\n  key: "b"\n  value: "2"\n}  # c\nname: \'n\'',
        ),
        (
            "metric_tags { key: 'a' value: '1' }  # c\nname: 'n'",
            {"metric_tags": {"b": "2"}},
            "metric_tags { key: 'a' value: '1' }  # c\nmetric_tags {\n  key: \"b\"\n  value: \"2\"\n}\nname: 'n'",
        ),
        (
            "version_policy { latest { num_versions: 2 } }",
            {"version_policy": {"specific": {"versions": [1]}}},
            "version_policy {\n  specific {\n    versions: 1\n  }\n}",
        ),
        (
            "dynamic_batching { priority_queue_policy { key: 1 value { } } }",
            {"dynamic_batching": {"priority_queue_policy": {"1": None}}},
            "dynamic_batching {\n}",
        ),
    ],
)
def test_merge_to_the_byte(text, override, wanted) -> None:
    assert merge(text, override) == wanted


@pytest.mark.parametrize(
    "override",
    [
        {},
        {"max_batch_size": 8},
        {"backend": None},
        {"backend": ""},
        {"dynamic_batching": {}},
        {"parameters": {"a": {"string_value": "1"}, "z": None}},
        {"instance_group": [{"kind": "KIND_GPU", "count": 2}]},
    ],
)
@pytest.mark.parametrize("text", [FULL, FULL.replace("\n", "\r\n"), FULL.rstrip("\n"), f"\n\n\t{FULL}  \n\n"])
def test_merge_of_nothing_new_gives_the_text_back_byte_for_byte(text, override) -> None:
    assert merge(text, override) == text


@pytest.mark.parametrize(
    ("override", "path", "words"),
    [
        ({"maxbatchsize": 1}, "maxbatchsize", ["Did you mean 'max_batch_size'?"]),
        ({"maxbatchsize": None}, "maxbatchsize", ["no such field"]),
        ({"dynamic_batching": {"prefered_batch_size": None}}, "dynamic_batching.prefered_batch_size", ["preferred_batch_size"]),
        ({"dynamic_batching": 1}, "dynamic_batching", ["wanted a mapping"]),
        ({"dynamic_batching": {}, "sequence_batching": {}}, "sequence_batching", ["exclude"]),
        ({"parameters": {"a": 1}}, "parameters['a']", ["wanted a mapping"]),
        ({"parameters": 1}, "parameters", ["wanted a mapping"]),
        ({"max_batch_size": "1"}, "max_batch_size", ["| int"]),
        ([], "override", ["wanted a mapping"]),
    ],
)
def test_a_wrong_override_is_refused(override, path, words) -> None:
    with pytest.raises(PbtxtError) as caught:
        merge(FULL, override)
    assert caught.value.path == path
    for word in words:
        assert word in str(caught.value)


def written_by_hand(data: dict, choice: random.Random) -> tuple[str, list[str]]:
    """A text of many forms with a comment at each field; and those comments."""
    text, comments = "", []
    for number, name in enumerate(data):
        part = from_dict({name: data[name]})
        comment = f"# about {name} {number}"
        comments.append(comment)
        form = {"as_one_line": choice.random() < 0.5, "use_short_repeated_primitives": choice.random() < 0.5}
        body = text_format.MessageToString(part, as_utf8=True, **form).strip()
        text += f"{comment}\n{body}{choice.choice(['', ',', ';'])}{choice.choice([chr(10), chr(10) * 3, ' # end' + chr(10)])}"
    return text, comments


def test_any_override_merges_into_any_text() -> None:
    for seed in range(300):
        generator = Generator(seed, share=0.3)
        current, override = generator.message(SCHEMA), generator.message(SCHEMA)
        for name in list(current)[::4]:
            override[name] = None
        text, comments = written_by_hand(current, generator.random)
        assert to_dict(parse(text)) == current
        merged = merge(text, override)
        assert to_dict(parse(merged)) == to_dict(from_dict(merge_dicts(current, override)))
        assert merge(merged, override) == merged
        # Comments on lines of their own outlive everything.
        assert [line for line in merged.splitlines() if line in comments] == comments
        assert to_dict(parse(merge("", {key: value for key, value in override.items() if value is not None}))) == to_dict(
            from_dict({key: value for key, value in override.items() if value is not None})
        )
        assert to_dict(parse(merge(text, dict.fromkeys(current)))) == {}


# Whatever comes


def mutated(text: str, choice: random.Random) -> str:
    pieces = (*"{}[]<>:,;#\"'\\\n\x00-", "nan", "9" * 30, "name", "input", "é", "\ud800")
    characters = list(text)
    for _number in range(choice.randint(1, 3)):
        at = choice.randrange(len(characters) + 1)
        action = choice.random()
        if action < 0.4:
            characters[at:at] = choice.choice(pieces)
        elif action < 0.7:
            del characters[at : at + choice.randint(1, 12)]
        else:
            other = choice.randrange(len(characters) + 1)
            characters[at:at] = characters[other : other + choice.randint(1, 40)]
    return "".join(characters)


def check_merge(data: str | bytes, override: dict[str, t.Any]) -> bool:
    """Whether a text is read. It must be merged rightly then, or else be refused with the place of what is wrong."""
    try:
        merged = merge(data, override)
    except PbtxtError as error:
        assert re.match(r"config\.pbtxt:\d+:\d+: .", str(error), re.DOTALL), str(error)
        return False
    assert to_dict(parse(merged)) == to_dict(from_dict(merge_dicts(to_dict(parse(data)), override)))
    return True


def test_whatever_comes_is_read_or_refused_by_our_own_error() -> None:
    """`make soak` runs more of it."""
    texts = [FULL, *(dump(from_dict(Generator(seed, share=0.25).message(SCHEMA))) for seed in range(20))]
    good = 0
    for seed in range(2000):
        choice = random.Random(seed)
        text = mutated(choice.choice(texts), choice)
        data = text.encode("utf-8", "surrogatepass") if seed % 5 == 0 else text
        good += check_merge(data, Generator(seed, share=0.1).message(SCHEMA))
    assert 100 < good < 1900


# The schema


def test_only_protobuf_is_loaded() -> None:
    """grpcio may be missing on the controller."""
    code = """
import sys
sys.modules["grpc"] = None
from ansible_collections.gpufleet.triton.plugins.plugin_utils._pbtxt import parse, to_dict
assert to_dict(parse('name: "x"')) == {"name": "x"}
assert "tritonclient.grpc" not in sys.modules and "numpy" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", code], check=True, env={"PYTHONPATH": str(CHECKOUT / ".build/collections")})


@pytest.fixture
def fresh():
    _pbtxt._runtime.cache_clear()
    yield
    _pbtxt._runtime.cache_clear()


def test_without_protobuf_the_error_names_the_package(fresh, monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "google.protobuf", None)
    with pytest.raises(SchemaError, match=r"wanted the Python package protobuf.*Install 'tritonclient\[grpc\]'"):
        parse("")


@pytest.mark.parametrize("content", [None, "raise RuntimeError('too old')", "import missing_module_of_nobody"])
def test_without_a_schema_that_loads_the_error_names_the_package(fresh, monkeypatch, tmp_path, content) -> None:
    package = tmp_path / "tritonclient"
    (package / "grpc").mkdir(parents=True)
    (package / "__init__.py").touch()
    if content:
        (package / "grpc" / "model_config_pb2.py").write_text(content)
    monkeypatch.syspath_prepend(tmp_path)
    for name in [name for name in sys.modules if name.partition(".")[0] == "tritonclient"]:
        monkeypatch.delitem(sys.modules, name)
    with pytest.raises(SchemaError, match=r"Install 'tritonclient\[grpc\]'"):
        parse("")
