# Copyright (c) 2026, The gpufleet.triton authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is wrong with a model beyond its configuration's schema: against its folder, its host and the other models.

Triton finds these out when it loads the model, some only in its log, and a few by hanging. Private to this collection.

Source: src/model_config_utils.cc, src/ensemble_scheduler/ensemble_utils.cc, src/backend_model_instance.cc and
src/model_repository_manager/model_lifecycle.cc of Triton's core, and build.py of its server for what the images hold.
"""

from __future__ import annotations

import difflib
import re
import typing as t

from ansible_collections.gpufleet.triton.plugins.plugin_utils._pbtxt import from_dict, to_dict

if t.TYPE_CHECKING:
    from google.protobuf.message import Message

    Finding = dict[str, str]
    Config = t.Mapping[str, t.Any]

ENSEMBLE = "ensemble"

# The platforms that go with the backends that Triton's core knows by name. Any other backend takes any platform.
PLATFORMS: dict[str, tuple[str, ...]] = {
    "tensorflow": ("tensorflow_graphdef", "tensorflow_savedmodel"),
    "tensorrt": ("tensorrt_plan",),
    "onnxruntime": ("onnxruntime_onnx",),
    "pytorch": ("pytorch_libtorch", "libtorch", "torch_aoti"),
}

# What a backend loads from a version's folder when the configuration names no file; by this Triton also guesses a backend.
DEFAULT_FILES: dict[str, str] = {
    "tensorrt": "model.plan",
    "onnxruntime": "model.onnx",
    "openvino": "model.xml",
    "pytorch": "model.pt",
    "python": "model.py",
}
PLATFORM_FILES = {
    "tensorflow_graphdef": "model.graphdef",
    "tensorflow_savedmodel": "model.savedmodel",
    "torch_aoti": "model.pt2",
}

# Backends that read inputs and outputs from the model itself. The python backend does where model.py says how.
COMPLETES = frozenset({"tensorflow", "tensorrt", "onnxruntime", "openvino"})

# Backends that take a list of inputs or outputs as it is written. Others add to it what the model has, or its missing types.
TAKES_LISTS = frozenset({"onnxruntime", "pytorch"})

# Release 25.02 is the last whose build.py builds the TensorFlow backend.
WITHOUT_TENSORFLOW = "25.03"

# Folders beside the versions that Triton itself uses.
_OTHER_FOLDERS = frozenset({"warmup", "initial_state", "configs"})
_VERSION = re.compile(r"[1-9][0-9]*")
# std::stoll stops at the first character that is no digit, and takes what it has.
_STOLL = re.compile(r"[ \t\n\v\f\r]*(?P<number>[+-]?[0-9]+)")
_CAPABILITY = re.compile(r"[0-9]{1,2}\.[0-9]")
_RELEASE = re.compile(r"[0-9]{2}\.[0-9]{2}")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]+")
_HERE = "$$TRITON_MODEL_DIRECTORY/"

_CONTEXT = frozenset({"gpus", "backends", "models", "compute_capabilities", "release", "auto_complete"})


def check(config: Config | Message, files: t.Iterable[str], folder: str, context: t.Mapping[str, t.Any] | None = None) -> list[Finding]:
    """Say what is wrong with a model.

    :param config: the configuration, as data or as a message.
    :param files: what is in the model's folder, relative to it, with ``/``. A folder ends with ``/`` and needs to be listed
        only where it is empty.
    :param folder: the folder's name, which is the model's.
    :param context: what is known beyond the folder; what is absent or None is not checked. ``gpus``: how many the host has.
        ``backends``: names of those that the image has. ``models``: the configurations of the repository's models by name.
        ``compute_capabilities``: of the GPUs, such as ``8.0``. ``release``: Triton's, such as ``26.08``. ``auto_complete``:
        False where the server runs with ``--disable-auto-complete-config``.
    :raises PbtxtError: when a configuration does not fit the schema.
    :returns: findings, errors first, each with ``severity`` (error: Triton would not serve this, or not as it says; warning:
        it may be meant), ``field``, ``what``, ``why`` and ``remedy``. Empty when all is well.
    """
    known = dict(context or {})
    unknown = sorted(set(known) - _CONTEXT)
    if unknown:
        raise ValueError(f"Cannot check model '{folder}': wanted a context of {', '.join(sorted(_CONTEXT))}, got {', '.join(unknown)}.")
    if known.get("models") is not None:
        known["models"] = {name: _strict(model) for name, model in known["models"].items()}
    found = _Check(_strict(config), list(files), folder, known).run()
    return sorted(found, key=lambda finding: finding["severity"] != "error")


def _strict(config: Config | Message) -> dict[str, t.Any]:
    """Plain data that the schema has seen, so that whatever is in it has its type."""
    return to_dict(from_dict(config) if isinstance(config, t.Mapping) else config)


class _Check:
    def __init__(self, config: Config, files: list[str], folder: str, context: dict[str, t.Any]) -> None:
        self.config = config
        self.folder = folder
        self.context = context
        self.findings: list[Finding] = []
        self.paths = _with_parents(files)
        # Folders at the top, of which Triton takes some for versions.
        self.folders = sorted({path.partition("/")[0] for path in self.paths if "/" in path})
        self.versions = [int(name) for name in self.folders if _VERSION.fullmatch(name) and len(name) < 19]
        self.platform = config.get("platform", "")
        self.backend = self._backend()
        self.completes = context.get("auto_complete") is not False
        self.ensemble = _is_ensemble(config)
        self.max_batch_size = config.get("max_batch_size", 0)
        agents = config.get("model_repository_agents", {}).get("agents", [])
        # Any other agent than that of checksums may give Triton another folder than this one to load: decrypted, or put together.
        self.replaced = any(agent.get("name") != "checksum" for agent in agents)

    def run(self) -> list[Finding]:
        self._name()
        self._platform()
        self._image()
        self._tensors_present()
        self._tensors()
        self._batch_tensors()
        self._batching()
        self._sequences()
        self._cache()
        self._warmup()
        self._instances()
        self._versions()
        self._files()
        self._capabilities()
        self._metrics()
        if self.ensemble:
            self._ensemble()
        return self.findings

    def error(self, field: str, what: str, why: str, remedy: str) -> None:
        self._add("error", field, what, why, remedy)

    def warning(self, field: str, what: str, why: str, remedy: str) -> None:
        self._add("warning", field, what, why, remedy)

    def file_finding(self, *words: str) -> None:
        """What is wrong with the folder, and with the backend that goes by it."""
        (self.warning if self.replaced else self.error)(*words)

    def _add(self, severity: str, *words: str) -> None:
        # Names come from files, and a finding is one line.
        clean = (_CONTROL.sub(" ", word) for word in words)
        self.findings.append({"severity": severity, **dict(zip(("field", "what", "why", "remedy"), clean))})

    # What the model is

    def _backend(self) -> str:
        """The backend that Triton would take, by its own rules: from the platform, a file's name, or what lies in the folder."""
        named = self.config.get("backend", "")
        if named or _is_ensemble(self.config):
            return named
        if self.platform:
            return _named_backend(self.config)
        files = {PLATFORM_FILES[platform]: "tensorflow" for platform in PLATFORMS["tensorflow"]}
        files.update({name: backend for backend, name in DEFAULT_FILES.items()})
        files[PLATFORM_FILES["torch_aoti"]] = "pytorch"
        wanted = self.config.get("default_model_filename")
        if wanted:
            return files.get(wanted, "")
        inside = {path.split("/")[1] for path in self.paths if path.count("/") >= 1 and _VERSION.fullmatch(path.partition("/")[0])}
        found = next((backend for name, backend in files.items() if name in inside), "")
        return found or self.folder.partition(".")[2]

    def _name(self) -> None:
        if not self.folder.strip() or self.folder.strip() == ".." or "/" in self.folder:
            self.error(
                "name",
                f"'{self.folder}' is no name for a model.",
                "Triton refuses names that are empty or that lead out of the repository.",
                "Name the folder plainly.",
            )
        name = self.config.get("name", "")
        if name and name != self.folder:
            self.error(
                "name",
                f"The configuration says '{name}', the folder is '{self.folder}'.",
                "Triton loads a model by its folder's name and refuses a configuration that says another.",
                f'Write name: "{self.folder}", leave the name out, or rename the folder.',
            )

    def _platform(self) -> None:
        config, platform = self.config, self.platform
        if self.ensemble:
            self._ensemble_platform()
            return
        if not self.backend:
            what = f"'{platform}' is no platform that Triton knows." if platform else "There is neither a backend nor a platform."
            self.file_finding(
                "platform" if platform else "backend",
                what,
                "Triton can tell the backend from the platform or from a file such as model.onnx, and here from neither.",
                f'Write backend: "...", for example one of {", ".join(sorted(DEFAULT_FILES))}.',
            )
        known = PLATFORMS.get(config.get("backend", ""))
        if known and platform and platform not in known:
            self.error(
                "platform",
                f"The platform '{platform}' does not go with the backend '{self.backend}'.",
                "Triton refuses pairs that contradict each other.",
                f"Leave the platform out, or write {' or '.join(known)}.",
            )

    def _ensemble_platform(self) -> None:
        config = self.config
        if self.platform != ENSEMBLE:
            self.error(
                "platform",
                f"ensemble_scheduling is set, the platform is '{self.platform}'.",
                "Only a model of the platform 'ensemble' can have it.",
                'Write platform: "ensemble", or take ensemble_scheduling away.',
            )
        if config.get("backend"):
            self.error(
                "backend",
                f"An ensemble has the backend '{config['backend']}'.",
                "An ensemble has no backend of its own.",
                "Take the backend away.",
            )
        for field in ("instance_group", "optimization", "model_warmup"):
            if field in config:
                self.error(field, f"An ensemble has {field}.", "Triton refuses it: the steps have their own.", f"Take {field} away.")

    def _image(self) -> None:
        backend = self.backend
        if not backend or self.ensemble or self._brings_backend():
            return
        backends, release = self.context.get("backends"), self.context.get("release") or ""
        field = "backend" if self.config.get("backend") else "platform" if self.platform else "backend"
        if backends is not None and backend not in backends:
            near = difflib.get_close_matches(backend, list(backends), n=1)
            why = f"The image has {', '.join(sorted(backends)) or 'none'}."
            remedy = f"Did you mean '{near[0]}'?" if near else "Use an image that has it, or put it into an extra backends folder."
            if backend == "tensorflow":
                why += f" Triton's images are built without TensorFlow from release {WITHOUT_TENSORFLOW} on."
                remedy = "Convert the model to ONNX, or build the backend yourself."
            self.file_finding(field, f"The image does not have the backend '{backend}'.", why, remedy)
        elif backend == "tensorflow" and backends is None and not (_RELEASE.fullmatch(release) and release < WITHOUT_TENSORFLOW):
            (self.file_finding if _RELEASE.fullmatch(release) else self.warning)(
                field,
                "The model needs the backend 'tensorflow'.",
                f"Triton's images are built without TensorFlow from release {WITHOUT_TENSORFLOW} on.",
                "Convert the model to ONNX, build the backend yourself, or stay with an older image.",
            )

    def _brings_backend(self) -> bool:
        """Whether the model's own folder holds the backend's library, which Triton takes before the image's."""
        library = self.config.get("runtime") or f"libtriton_{self.backend}.so"
        return library in self.paths or any(f"{version}/{library}" in self.paths for version in self.versions)

    # Tensors

    def _tensors_present(self) -> None:
        missing = [field for field in ("input", "output") if not self.config.get(field)]
        if not missing or not (self.backend or self.ensemble):
            return
        for field in missing:
            what = f"There is no {field}."
            remedy = f"Add {field} with name, data_type and dims."
            if self.ensemble:
                self.error(field, what, "An ensemble is what leads from its inputs through its steps to its outputs.", remedy)
            elif not self.completes and self.backend in {*DEFAULT_FILES, *PLATFORMS}:
                self.error(field, what, "The server runs with --disable-auto-complete-config and completes nothing.", remedy)
            elif self.backend == "pytorch" and self.platform != "torch_aoti":
                self.error(field, what, "The pytorch backend cannot read them from the model.", remedy)
            elif self.backend == "python":
                self.warning(field, what, "That works only where model.py has auto_complete_config, which says them.", remedy)

    def _tensors(self) -> None:
        completed = self.completes and self.backend not in ("pytorch", "") and not self.ensemble
        for field in ("input", "output"):
            seen: set[str] = set()
            for index, tensor in enumerate(self.config.get(field, [])):
                self._tensor(f"{field}[{index}]", tensor, completed)
                name = tensor.get("name", "")
                if name and name in seen:
                    self.error(f"{field}[{index}].name", f"'{name}' stands twice.", "Tensors are told apart by name.", "Name each once.")
                seen.add(name)

    def _tensor(self, path: str, tensor: Config, completed: bool) -> None:
        if not tensor.get("name"):
            self.error(f"{path}.name", "The tensor has no name.", "Triton maps tensors by name.", "Add a name.")
        for field in () if completed else ("data_type", "dims"):
            if not tensor.get(field) or tensor[field] == "TYPE_INVALID":
                self.error(f"{path}.{field}", f"There is no {field}.", "Nothing else says it for this backend.", f"Add {field}.")
        dims, shape = tensor.get("dims", []), tensor.get("reshape", {}).get("shape", [])
        for field, sizes in (("dims", dims), ("reshape.shape", shape)):
            wrong = [size for size in sizes if size < 1 and size != -1]
            if wrong:
                self.error(
                    f"{path}.{field}",
                    f"{wrong[0]} is no size.",
                    "A dimension is at least 1, or -1 where it varies.",
                    "Write the size, or -1.",
                )
        if "reshape" in tensor and dims and not _reshapes(dims, shape):
            self.error(
                f"{path}.reshape",
                f"{dims} does not reshape into {shape}.",
                "Both must have the same number of elements, and the same between sizes that vary.",
                "Mend either.",
            )
        if "reshape" in tensor and not shape and not self.max_batch_size:
            self.error(
                f"{path}.reshape",
                "The new shape is empty and the model does not batch.",
                "Triton does not support tensors without any dimension.",
                "Give the shape a dimension.",
            )
        if tensor.get("format", "FORMAT_NONE") != "FORMAT_NONE" and len(dims) != 3:
            self.error(f"{path}.format", f"{tensor['format']} with {len(dims)} dims.", "Image formats have 3.", "Give 3 dims.")
        for field in ("is_shape_tensor", "is_non_linear_format_io"):
            if tensor.get(field) and self.backend != "tensorrt":
                self.error(f"{path}.{field}", f"{field} is set.", "Only TensorRT models have such tensors.", "Take it away.")

    def _batch_tensors(self) -> None:
        inputs = [tensor.get("name") for tensor in self.config.get("input", [])]
        outputs = [tensor.get("name") for tensor in self.config.get("output", [])]
        if not inputs or not outputs:
            return
        for field in ("batch_input", "batch_output"):
            for index, tensor in enumerate(self.config.get(field, [])):
                path, sources = f"{field}[{index}]", tensor.get("source_input", [])
                if len(sources) != 1:
                    self.error(f"{path}.source_input", f"{len(sources)} are given.", "Each kind takes one.", "Name one input.")
                self._known(f"{path}.source_input", sources, inputs, "input")
                if field == "batch_output":
                    self._known(f"{path}.target_name", tensor.get("target_name", []), outputs, "output")
                elif tensor.get("data_type") not in ("TYPE_INT32", "TYPE_FP32"):
                    self.error(
                        f"{path}.data_type",
                        f"It is {tensor.get('data_type', 'not given')}.",
                        "Triton makes these tensors itself, as TYPE_INT32 or TYPE_FP32.",
                        "Write either.",
                    )

    def _may_add(self, backend: str, config: Config) -> bool:
        """Whether the backend may add to the inputs and outputs of a configuration, or to what is said of them."""
        return self.completes and backend not in TAKES_LISTS and not _is_ensemble(config)

    def _may_raise(self, backend: str, config: Config) -> bool:
        """Whether the backend may set a larger max_batch_size than is written. Those that read it from the model fill in none but 0."""
        return self._may_add(backend, config) and backend not in COMPLETES

    def _unknown(self, backend: str, config: Config, *words: str) -> None:
        """Say that a configuration does not have a tensor, as far as one can tell."""
        (self.warning if self._may_add(backend, config) else self.error)(*words)

    def _known(self, path: str, names: t.Iterable[str], known: list[t.Any], kind: str) -> None:
        for name in names:
            if name not in known:
                what, why = f"There is no {kind} '{name}'.", f"It must be one of {known}."
                self._unknown(self.backend, self.config, path, what, why, "Name one of them.")

    # Scheduling

    def _batching(self) -> None:
        if self.max_batch_size < 0:
            self.error("max_batch_size", f"It is {self.max_batch_size}.", "It cannot be negative.", "Write 0 for a model without batches.")
        batching = self.config.get("dynamic_batching")
        if batching is None:
            return
        if self.max_batch_size <= 0:
            where = "" if self.backend not in COMPLETES else ", unless the backend completes max_batch_size"
            self.warning(
                "dynamic_batching",
                f"dynamic_batching is set, max_batch_size is {self.max_batch_size}.",
                f"A model that takes no batches runs one request at a time{where}.",
                "Set max_batch_size to at least 1, or take dynamic_batching away.",
            )
        self._preferred("dynamic_batching.preferred_batch_size", batching)
        self._priorities(batching)

    def _preferred(self, path: str, batcher: Config) -> None:
        for size in batcher.get("preferred_batch_size", []):
            if size <= 0 or size > self.max_batch_size:
                self.error(
                    path,
                    f"{size} is preferred, max_batch_size is {self.max_batch_size}.",
                    "Triton refuses sizes below 1 and above the largest batch.",
                    "Raise max_batch_size or drop the size." if size > 0 else "Drop the size.",
                )

    def _priorities(self, batching: Config) -> None:
        path, levels = "dynamic_batching", batching.get("priority_levels", 0)
        policies = batching.get("priority_queue_policy", {})
        if levels:
            wrong = [("default_priority_level", batching.get("default_priority_level", 0))]
            wrong += [("priority_queue_policy", level) for level in policies]
            for field, level in wrong:
                if not 1 <= level <= levels:
                    self.error(f"{path}.{field}", f"Level {level} is given.", f"There are levels 1 to {levels}.", "Name one of them.")
        if not batching.get("preserve_ordering"):
            return
        if levels > 1:
            self.error(
                f"{path}.preserve_ordering",
                f"Order is to be kept, with {levels} priority levels.",
                "Requests that overtake each other cannot be answered in the order in which they came.",
                "Have one level, or give up preserve_ordering.",
            )
        for policy in (batching.get("default_queue_policy", {}), *policies.values()):
            if policy.get("default_timeout_microseconds") and policy.get("timeout_action") == "DELAY":
                self.error(
                    f"{path}.preserve_ordering",
                    "Order is to be kept, and a queue delays requests that are late.",
                    "A delayed request loses its place.",
                    "Use timeout_action REJECT, or give up preserve_ordering.",
                )

    def _sequences(self) -> None:
        batching = self.config.get("sequence_batching", {})
        self._preferred("sequence_batching.oldest.preferred_batch_size", batching.get("oldest", {}))
        share = batching.get("direct", {}).get("minimum_slot_utilization", 0)
        if not 0 <= share <= 1:
            path = "sequence_batching.direct.minimum_slot_utilization"
            self.error(path, f"It is {share}.", "It is a share of the slots.", "Write a number from 0 to 1.")

    def _cache(self) -> None:
        if not self.config.get("response_cache", {}).get("enable"):
            return
        why = ""
        if "sequence_batching" in self.config:
            why = "Answers within a sequence depend on what came before, and Triton refuses to cache them."
        elif self.config.get("model_transaction_policy", {}).get("decoupled"):
            why = "A decoupled model may give any number of answers, and Triton refuses to cache them."
        if why:
            self.error("response_cache", "The response cache is on.", why, "Take response_cache away.")

    def _warmup(self) -> None:
        inputs = {tensor.get("name"): tensor for tensor in self.config.get("input", [])}
        controls = {control.get("name") for control in self.config.get("sequence_batching", {}).get("control_input", [])}
        for index, sample in enumerate(self.config.get("model_warmup", [])):
            path, size = f"model_warmup[{index}]", sample.get("batch_size", 0)
            largest = max(self.max_batch_size, 1)
            if size == 0:
                self.warning(f"{path}.batch_size", "It is 0 or missing.", "Triton skips such a sample without a word.", "Write 1 or more.")
            elif size > largest and not (self.max_batch_size == 0 and self.completes and self.backend in COMPLETES):
                (self.warning if self._may_raise(self.backend, self.config) else self.error)(
                    f"{path}.batch_size",
                    f"It is {size}, max_batch_size is {self.max_batch_size}.",
                    "The sample would be a batch larger than the model takes.",
                    f"Write at most {largest}, or raise max_batch_size.",
                )
            given = sample.get("inputs", {})
            for name, tensor in given.items():
                self._warmup_input(f"{path}.inputs[{name!r}]", tensor, inputs.get(name))
                if inputs and name not in inputs and name not in controls:
                    near = difflib.get_close_matches(name, [str(known) for known in inputs], n=1)
                    hint = f"Did you mean '{near[0]}'?" if near else "Name an input of the model."
                    what, why = "The model has no such input.", f"It has {', '.join(map(str, inputs))}."
                    self._unknown(self.backend, self.config, f"{path}.inputs[{name!r}]", what, why, hint)
            for name, tensor in inputs.items():
                if name and name not in given and not tensor.get("optional"):
                    self.error(f"{path}.inputs", f"The input '{name}' is missing.", "The sample would not be a request.", "Add it.")

    def _warmup_input(self, path: str, tensor: Config, declared: Config | None) -> None:
        if any(size < 0 for size in tensor.get("dims", [])):
            self.error(f"{path}.dims", f"They are {tensor['dims']}.", "A sample has a size, even where the model's varies.", "Write sizes.")
        if not {"zero_data", "random_data", "input_data_file"} & set(tensor):
            self.error(path, "There is no data.", "Triton wants to know what to send.", "Set zero_data, random_data or input_data_file.")
        self._wants_file(f"{path}.input_data_file", "warmup/", tensor.get("input_data_file", ""))
        if declared is None:
            return
        wanted, given = (each.get("data_type", "TYPE_INVALID") for each in (declared, tensor))
        if wanted != given and not (wanted == "TYPE_INVALID" and self._may_add(self.backend, self.config)):
            self.error(
                f"{path}.data_type",
                f"It is {tensor.get('data_type', 'missing')}, the input's is {declared.get('data_type', 'missing')}.",
                "The sample would not be a request that the model takes.",
                "Give both the same.",
            )

    def _instances(self) -> None:
        if self.ensemble:
            return
        gpus, groups = self.context.get("gpus"), self.config.get("instance_group", [])
        for index, group in enumerate(groups):
            path, kind, listed = f"instance_group[{index}]", group.get("kind", "KIND_AUTO"), group.get("gpus", [])
            if kind in ("KIND_CPU", "KIND_MODEL") and listed:
                self.error(f"{path}.gpus", f"{kind} with GPUs {listed}.", "Triton refuses the pair.", "Take gpus away, or use KIND_GPU.")
            if kind == "KIND_GPU" and gpus == 0:
                self.error(
                    f"{path}.kind",
                    "It is KIND_GPU, and the host has no GPU.",
                    "Triton refuses to load the model there.",
                    "Use KIND_AUTO, which takes GPUs where there are any, or KIND_CPU.",
                )
            absent = [number for number in listed if gpus is not None and not 0 <= number < gpus]
            if absent and gpus and kind == "KIND_GPU":
                self.error(f"{path}.gpus", f"There is no GPU {absent[0]}.", f"The host has {gpus}, numbered from 0.", "Name those.")
            if absent and kind == "KIND_AUTO":
                self.warning(
                    f"{path}.gpus",
                    f"There is no GPU {absent[0]}.",
                    "With KIND_AUTO the instances then run on the CPU, without a word.",
                    "Name GPUs that the host has, or use KIND_GPU to be told.",
                )
            if group.get("profile") and self.backend != "tensorrt":
                self.error(f"{path}.profile", "A profile is given.", "Only TensorRT models have profiles.", "Take it away.")
            if self.backend == "tensorrt" and (kind == "KIND_CPU" or (kind == "KIND_MODEL" and not self._on_several_gpus())):
                self.error(f"{path}.kind", f"It is {kind}.", "A TensorRT plan runs on a GPU only.", "Use KIND_GPU.")
        if self.backend == "tensorrt" and gpus == 0 and all(group.get("kind", "KIND_AUTO") == "KIND_AUTO" for group in groups):
            self.error("backend", "The host has no GPU.", "A TensorRT plan runs on a GPU only.", "Serve the model where there is one.")

    def _on_several_gpus(self) -> bool:
        """Whether one instance of a TensorRT model takes several GPUs, which it names itself."""
        value = self.config.get("parameters", {}).get("enable_multi_device", {}).get("string_value", "")
        return value.lower() in ("true", "1")

    # What is on disk

    def _versions(self) -> None:
        for name in self.folders:
            if name not in _OTHER_FOLDERS and not (_VERSION.fullmatch(name) and len(name) < 19):
                self._misread(name)
        if not self.versions and "0" not in self.folders:
            self.file_finding(
                "version_policy",
                "There is no version.",
                "Triton serves numbered folders within the model's, even for an ensemble, whose may be empty.",
                "Add a folder 1.",
            )
            return
        policy = self.config.get("version_policy", {})
        absent = [number for number in policy.get("specific", {}).get("versions", []) if number not in self._on_disk()]
        if absent:
            self.file_finding(
                "version_policy.specific.versions",
                f"There is no version {', '.join(map(str, absent))}.",
                f"On disk are {', '.join(map(str, self._on_disk()))}. Triton serves the rest, and says so in its log alone.",
                "Publish the version, or take it out of the policy.",
            )
        elif not self._served():
            self.file_finding("version_policy", "It asks for no version.", "The model would not be served.", "Ask for at least one.")

    def _misread(self, name: str) -> None:
        if len(name) > 1 and name.startswith("0"):
            self.file_finding(name, f"The folder '{name}' begins with 0.", "Triton does not see such a version.", "Write it without zeros.")
            return
        if name == "0":
            self.warning(name, "There is a version 0.", "Triton's documentation says that it is ignored; it is not.", "Count from 1.")
            return
        match = _STOLL.match(name)
        if not match:
            return
        number = int(match["number"]) if len(match["number"]) < 30 else 2**63
        if not -(2**63) <= number < 2**63:
            self.file_finding(name, f"The number of folder '{name}' is too large.", "Triton cannot read it.", "Use a smaller one.")
        else:
            self.file_finding(
                name,
                f"The folder '{name}' is no version, and Triton takes it for version {number}.",
                "It reads the digits in front and ignores what follows, so a copy or a half-written folder gets loaded.",
                "Move it out of the model's folder.",
            )

    def _on_disk(self) -> list[int]:
        return sorted({*self.versions, *([0] if "0" in self.folders else [])})

    def _served(self) -> list[int]:
        """The versions that Triton would load."""
        policy, present = self.config.get("version_policy", {}), self._on_disk()
        if "specific" in policy:
            return [number for number in present if number in policy["specific"].get("versions", [])]
        if "all" in policy:
            return present
        count = policy["latest"].get("num_versions", 0) if "latest" in policy else 1
        return present[-count:] if count else []

    def _files(self) -> None:
        for index, tensor in enumerate(self.config.get("output", [])):
            self._wants_file(f"output[{index}].label_filename", "", tensor.get("label_filename", ""))
        for index, state in enumerate(self.config.get("sequence_batching", {}).get("state", [])):
            for number, initial in enumerate(state.get("initial_state", [])):
                path = f"sequence_batching.state[{index}].initial_state[{number}].data_file"
                self._wants_file(path, "initial_state/", initial.get("data_file", ""))
        environment = self.config.get("parameters", {}).get("EXECUTION_ENV_PATH", {}).get("string_value", "")
        if environment.startswith(_HERE):
            self._wants_file("parameters['EXECUTION_ENV_PATH']", "", environment[len(_HERE) :])
        for index, agent in enumerate(self.config.get("model_repository_agents", {}).get("agents", [])):
            for key in agent.get("parameters", {}) if agent.get("name") == "checksum" else ():
                algorithm, _colon, file = key.partition(":")
                path = f"model_repository_agents.agents[{index}].parameters[{key!r}]"
                if algorithm != "MD5":
                    self.error(path, f"The algorithm is '{algorithm}'.", "The checksum agent knows only MD5.", "Write MD5:<file>.")
                self._wants_file(path, "", file)
        if not self.ensemble:
            self._model_files()

    def _wants_file(self, field: str, folder: str, name: str) -> None:
        if name and _plain(folder + name) not in self.paths:
            self.file_finding(
                field,
                f"The file '{folder}{name}' is missing.",
                "The configuration names it, and Triton would not load the model without.",
                "Add the file, or correct the name.",
            )

    def _model_files(self) -> None:
        by_capability = self.config.get("cc_model_filenames", {})
        for key, name in by_capability.items():
            for version in self._served():
                self._wants_file(f"cc_model_filenames[{key!r}]", f"{version}/", name)
        named = self.config.get("default_model_filename", "")
        wanted = named or PLATFORM_FILES.get(self.platform) or DEFAULT_FILES.get(self.backend, "")
        if not wanted or (by_capability and not named) or (self.config.get("runtime") and not named):
            return
        for version in self._served():
            path = f"{version}/{wanted}"
            if _plain(path) in self.paths:
                continue
            why = f"The {self.backend} backend loads it."
            if self.backend == "python":
                why = "A python model without it stays in LOADING for ever, and unloading does not help."
            self.file_finding("default_model_filename", f"The file '{path}' is missing.", why, "Add it, or name the one that is there.")

    def _capabilities(self) -> None:
        by_capability = self.config.get("cc_model_filenames", {})
        for key in by_capability:
            if not _CAPABILITY.fullmatch(key):
                self.error(
                    f"cc_model_filenames[{key!r}]",
                    f"'{key}' is no compute capability.",
                    "Triton looks for the GPU's as <major>.<minor>, and would never find this.",
                    "Write it as 8.0.",
                )
        capabilities = sorted({str(each) for each in self.context.get("compute_capabilities") or []})
        unmapped = [each for each in capabilities if each not in by_capability]
        if self.backend != "tensorrt" or not unmapped:
            return
        fallback = self.config.get("default_model_filename") or DEFAULT_FILES["tensorrt"]
        present = all(f"{version}/{fallback}" in self.paths for version in self._served())
        if by_capability and not present:
            self.file_finding(
                "cc_model_filenames",
                f"There is no plan for compute capability {', '.join(unmapped)}.",
                f"It has plans for {', '.join(sorted(by_capability))}, and no '{fallback}' for the rest.",
                "Build a plan on such a GPU and name it here.",
            )
        elif len(capabilities) > 1:
            self.warning(
                "cc_model_filenames",
                f"GPUs of compute capability {', '.join(unmapped)} would all load '{fallback}'.",
                "A plan is made for one compute capability, unless it was built to be compatible with more.",
                "Build a plan for each and name it in cc_model_filenames.",
            )

    def _metrics(self) -> None:
        for index, control in enumerate(self.config.get("model_metrics", {}).get("metric_control", [])):
            path = f"model_metrics.metric_control[{index}]"
            if not control.get("metric_identifier", {}).get("family"):
                self.error(f"{path}.metric_identifier.family", "It is missing.", "It says which metric is meant.", "Name the metric.")
            if not control.get("histogram_options", {}).get("buckets"):
                self.error(f"{path}.histogram_options.buckets", "There are none.", "They are all that can be set.", "Give the buckets.")

    # Ensembles

    def _ensemble(self) -> None:
        steps = self.config.get("ensemble_scheduling", {}).get("step", [])
        if not steps:
            why = "An ensemble is nothing but its steps."
            self.error("ensemble_scheduling.step", "There is no step.", why, "Add the steps.")
            return
        self._data_flow(steps)
        models = self.context.get("models")
        if models is None:
            return
        models = {**models, self.folder: self.config}
        tensors = self._own_tensors()
        for index, step in enumerate(steps):
            path, name = f"ensemble_scheduling.step[{index}]", step.get("model_name", "")
            if name and name not in models:
                near = difflib.get_close_matches(name, list(models), n=1)
                self.error(
                    f"{path}.model_name",
                    f"There is no model '{name}'.",
                    "Triton loads an ensemble after its steps, and none of it without one of them.",
                    f"Did you mean '{near[0]}'?" if near else "Add the model to the repository.",
                )
            elif name:
                self._step(path, step, models[name], tensors)
        circle = _circle(self.folder, models)
        if circle:
            self.error(
                "ensemble_scheduling.step",
                f"The ensemble needs itself: {' -> '.join(circle)}.",
                "Each would have to be loaded before the other.",
                "Break the circle.",
            )

    def _own_tensors(self) -> dict[str, tuple[str, _Shape]]:
        """The tensors of the ensemble itself: who says so, and what they are."""
        tensors: dict[str, tuple[str, _Shape]] = {}
        for field in ("input", "output"):
            for tensor in self.config.get(field, []):
                dims = tensor["reshape"].get("shape", []) if "reshape" in tensor else tensor.get("dims", [])
                shape = _Shape(tensor.get("data_type", ""), dims, self.max_batch_size > 0)
                tensors.setdefault(tensor.get("name", ""), ("the ensemble", shape))
        return tensors

    def _step(self, path: str, step: Config, model: Config, tensors: dict[str, tuple[str, _Shape]]) -> None:
        name, size = step["model_name"], model.get("max_batch_size", 0)
        backend = _named_backend(model)
        if size and size < self.max_batch_size:
            (self.warning if self._may_raise(backend, model) else self.error)(
                "max_batch_size",
                f"It is {self.max_batch_size}, and {size} for the step '{name}'.",
                "A batch of the ensemble would be too large for its step.",
                f"Write at most {size}, or raise the step's.",
            )
        for field, kind in (("input_map", "input"), ("output_map", "output")):
            declared = {tensor.get("name", ""): tensor for tensor in model.get(kind, [])}
            if not declared:
                continue  # The backend completes them, so what they are is known only once the step is loaded.
            mapped = step.get(field, {})
            for inner, outer in mapped.items():
                if inner not in declared:
                    near = difflib.get_close_matches(inner, list(declared), n=1)
                    hint = f"Did you mean '{near[0]}'?" if near else f"Use one of {', '.join(declared)}."
                    what = f"The model '{name}' has no {kind} '{inner}'."
                    self._unknown(backend, model, f"{path}.{field}", what, "A map leads from its names.", hint)
                else:
                    shape = _Shape(declared[inner].get("data_type", ""), declared[inner].get("dims", []), size > 0)
                    self._fits(f"{path}.{field}", outer, f"'{inner}' of '{name}'", shape, tensors)
            for inner, tensor in declared.items():
                if kind == "input" and inner not in mapped and not tensor.get("optional"):
                    self.error(
                        f"{path}.{field}", f"The input '{inner}' of '{name}' gets nothing.", "It is not optional.", "Map a tensor to it."
                    )

    def _fits(self, path: str, tensor: str, who: str, shape: _Shape, tensors: dict[str, tuple[str, _Shape]]) -> None:
        other, known = tensors.setdefault(tensor, (who, shape))
        if known.data_type and shape.data_type and known.data_type != shape.data_type:
            self.error(
                path,
                f"The tensor '{tensor}' is {known.data_type} for {other}, and {shape.data_type} for {who}.",
                "A tensor has one type on all its ways.",
                "Have the models agree, or convert in a step between them.",
            )
        elif known.dims and shape.dims and not known.fits(shape):
            self.error(
                path,
                f"The tensor '{tensor}' is {known.full} for {other}, and {shape.full} for {who}.",
                "The shapes cannot be the same.",
                "Have the models agree, or reshape in a step between them.",
            )

    def _data_flow(self, steps: list[Config]) -> None:
        """Whether each tensor comes from somewhere and goes somewhere, as Triton checks before it looks at any step's model."""
        inputs = [tensor.get("name", "") for tensor in self.config.get("input", [])]
        outputs = [tensor.get("name", "") for tensor in self.config.get("output", [])]
        made: dict[str, int] = {}
        used: set[str] = set()
        for index, step in enumerate(steps):
            path = f"ensemble_scheduling.step[{index}]"
            for field in ("model_name", "input_map", "output_map"):
                if not step.get(field):
                    self.error(f"{path}.{field}", f"The step has no {field}.", "Triton refuses a step without.", f"Add {field}.")
            used.update(step.get("input_map", {}).values())
            for tensor in step.get("output_map", {}).values():
                if tensor in made:
                    self.error(f"{path}.output_map", f"'{tensor}' is made twice.", f"Step {made[tensor]} makes it, too.", "Rename one.")
                made.setdefault(tensor, index)
        ready, before = set(inputs), -1
        while len(ready) != before:
            before = len(ready)
            for step in steps:
                if ready.issuperset(step.get("input_map", {}).values()):
                    ready.update(step.get("output_map", {}).values())
        path = "ensemble_scheduling.step"
        for tensor in sorted(used - ready):
            if tensor in made:
                self.error(
                    path,
                    f"The tensor '{tensor}' never comes.",
                    "What makes it waits for it, or for another that never comes.",
                    "Break the circle, or feed it from an input.",
                )
            else:
                near = difflib.get_close_matches(tensor, [*inputs, *made], n=1)
                hint = f"Did you mean '{near[0]}'?" if near else "Make it in a step, or declare it as an input."
                self.error(path, f"Nothing makes the tensor '{tensor}'.", "It is neither an input nor the output of a step.", hint)
        for index, name in enumerate(inputs):
            if name not in used:
                self.error(f"input[{index}]", f"No step uses the input '{name}'.", "Triton refuses what is of no use.", "Use or drop it.")
        for index, name in enumerate(outputs):
            if name not in ready:
                self.error(f"output[{index}]", f"Nothing makes the output '{name}'.", "No step that can run has it.", "Map a step to it.")
        for tensor, index in made.items():
            if tensor not in used and tensor not in outputs:
                self.error(
                    f"{path}[{index}].output_map",
                    f"Nothing uses the tensor '{tensor}'.",
                    "Triton refuses what is of no use.",
                    "Take it out of the map.",
                )


def _is_ensemble(config: Config) -> bool:
    return config.get("platform") == ENSEMBLE or "ensemble_scheduling" in config


def _named_backend(config: Config) -> str:
    """The backend as far as a configuration alone says it."""
    platform = config.get("platform", "")
    return config.get("backend") or next((backend for backend, platforms in PLATFORMS.items() if platform in platforms), "")


class _Shape(t.NamedTuple):
    data_type: str
    dims: t.Sequence[int]
    batching: bool

    @property
    def full(self) -> list[int]:
        return [*([-1] if self.batching else []), *self.dims]

    def fits(self, other: _Shape) -> bool:
        # With the batch's dimension for a model without batches that takes it as one of its own.
        return _like(self.dims, other.dims) or _like(self.full, other.full)


def _like(one: t.Sequence[int], other: t.Sequence[int]) -> bool:
    return len(one) == len(other) and all(a == b or -1 in (a, b) for a, b in zip(one, other))


def _reshapes(dims: t.Sequence[int], shape: t.Sequence[int]) -> bool:
    """Whether both have as many elements, in each run of sizes between those that vary."""
    return _runs(dims) == _runs(shape)


def _runs(sizes: t.Sequence[int]) -> list[int]:
    runs = [1]
    for size in sizes:
        if size == -1:
            runs.append(1)
        else:
            runs[-1] *= size
    return runs


def _circle(start: str, models: t.Mapping[str, Config]) -> list[str]:
    """The way from an ensemble through steps that are ensembles back to itself, if there is one."""
    stack, seen = [[start]], set()
    while stack:
        way = stack.pop()
        for step in models.get(way[-1], {}).get("ensemble_scheduling", {}).get("step", []):
            name = step.get("model_name", "")
            if name == start:
                return [*way, start]
            if name not in seen:
                seen.add(name)
                stack.append([*way, name])
    return []


def _plain(path: str) -> str:
    """A path without its detours. One that leads out of the model still begins with '..'."""
    parts: list[str] = []
    for part in path.split("/"):
        if part == ".." and parts and parts[-1] != "..":
            parts.pop()
        elif part not in ("", "."):
            parts.append(part)
    return "/".join(parts)


def _with_parents(files: t.Iterable[str]) -> frozenset[str]:
    """Files and all folders above them; a folder that is listed for itself ends with a slash, and keeps one at the top."""
    paths = set()
    for file in files:
        parts = _plain(file).split("/")
        paths.update("/".join(parts[:count]) for count in range(1, len(parts) + 1))
        if file.endswith("/"):
            paths.add(f"{_plain(file)}/")
    return frozenset(paths)
