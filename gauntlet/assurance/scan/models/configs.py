"""What a Keras configuration would build: Lambda layers, bytecode, objects by module, files read on loading."""

from __future__ import annotations

import builtins
import json
from collections.abc import Iterator, Mapping
from typing import Any

from gauntlet.assurance.scan.models.objects import is_dangerous
from gauntlet.assurance.scan.models.rules import Look, escapes

_KERAS = ("keras", "tf_keras", "tensorflow.keras", "tensorflow.python.keras")
_GADGETS = {
    "enable_unsafe_deserialization", "set_global_attribute", "load_model", "load_weights", "get_file", "func_load",
    "model_from_json", "deserialize_keras_object", "clone_model", "extract_archive", "SafeModeScope",
}  # fmt: skip
"""Functions of Keras that a configuration has no business with."""
_OWN_FUNCTIONS = {
    "binary_accuracy", "binary_crossentropy", "binary_focal_crossentropy", "categorical_accuracy",
    "categorical_crossentropy", "categorical_focal_crossentropy", "categorical_generalized_cross_entropy",
    "categorical_hinge", "celu", "circle", "concordance_correlation", "cosine_similarity", "ctc", "dice", "elu",
    "exponential", "gelu", "glu", "hard_shrink", "hard_sigmoid", "hard_silu", "hard_swish", "hard_tanh", "hinge",
    "huber", "kl_divergence", "leaky_relu", "linear", "log_cosh", "log_sigmoid", "log_softmax",
    "mean_absolute_error", "mean_absolute_percentage_error", "mean_squared_error", "mean_squared_logarithmic_error",
    "mish", "pearson_correlation", "poisson", "relu", "relu6", "selu", "sigmoid", "silu", "soft_shrink", "softmax",
    "softplus", "softsign", "sparse_categorical_accuracy", "sparse_categorical_crossentropy", "sparse_plus",
    "sparse_sigmoid", "sparse_top_k_categorical_accuracy", "sparsemax", "squared_hinge", "squareplus", "swish",
    "tanh", "tanh_shrink", "threshold", "top_k_categorical_accuracy", "tversky",
}  # fmt: skip
"""Losses, metrics and activations of Keras: it files them under `builtins`, like a function of somebody's own."""
_LOOKUPS = {"StringLookup", "IntegerLookup", "TextVectorization"}
_LOADERS = {"TFSMLayer", "TorchModuleWrapper", "JaxLayer", "FlaxLayer"}
"""Layers around another framework's model: loading them loads or builds that."""


def scan_text(text: str | bytes, file: str, where: str, look: Look) -> None:
    """Note what a JSON configuration holds; `where` is its place in the file."""
    if len(text) > look.limits.text_bytes:
        look.error(file, f"{where} is larger than {look.limits.text_bytes:,} bytes")
        return
    try:
        config = json.loads(text)
    except (ValueError, RecursionError) as error:
        look.error(file, f"{where} is not JSON that can be read: {type(error).__name__}")
        return
    scan_config(config, file, where, look)


def scan_config(config: Any, file: str, where: str, look: Look) -> None:
    """Note what a configuration holds, however deep: layers lie within layers, losses within compile settings."""
    for entry in mappings(config):
        _code(entry, file, where, look)
        _object(entry, file, where, look)
        _files(entry, file, where, look)


def mappings(config: Any) -> Iterator[Mapping[str, Any]]:
    """Every mapping at any depth; a stack, since a stranger chooses the depth."""
    left = [config]
    while left:
        node = left.pop()
        if isinstance(node, dict):
            yield node
            left.extend(node.values())
        elif isinstance(node, list):
            left.extend(node)


def _code(entry: Mapping[str, Any], file: str, where: str, look: Look) -> None:
    """Lambda layers, and functions that are stored as bytecode."""
    settings = entry.get("config")
    if entry.get("class_name") == "Lambda":
        function = settings.get("function") if isinstance(settings, dict) else None
        look.hit("GM001", file, f"{where}: layer {_name(entry)!r}, {_function(function)}")
    if entry.get("class_name") == "__lambda__" or "__lambda__" in entry:
        look.hit("GM002", file, f"{where}: __lambda__")
    for key in ("function_type", "output_shape_type", "mask_type"):
        if entry.get(key) in ("lambda", "raw"):
            look.hit("GM002", file, f"{where}: layer {_name(entry)!r}, {key} {entry[key]}")


def _function(function: Any) -> str:
    """What a Lambda layer runs, in words."""
    if isinstance(function, dict):
        if function.get("class_name") == "__lambda__":
            return "bytecode"
        return f"function {function.get('module')}.{_called(function)}"
    return f"function {function!r}" if isinstance(function, str) else "bytecode"


def _object(entry: Mapping[str, Any], file: str, where: str, look: Look) -> None:
    """An object by the module it comes from."""
    module, name = entry.get("module"), _called(entry)
    if isinstance(module, str) and name:
        is_builtin_function = module == "builtins" and entry.get("class_name") == "function"
        if any(module == own or module.startswith(f"{own}.") for own in _KERAS):
            if name in _GADGETS:
                look.hit("GM005", file, f"{where}: {module}.{name}")
        elif is_dangerous(module, name) and (hasattr(builtins, name) or not is_builtin_function):
            look.hit("GM003", file, f"{where}: {module}.{name}")
        elif module != "builtins" or (is_builtin_function and name not in _OWN_FUNCTIONS):
            look.hit("GM004", file, f"{where}: {module}.{name}")
    registered = entry.get("registered_name")
    package = registered if isinstance(registered, str) else entry.get("class_name")
    # An object of no module is one that the reader must bring; older files write `package>name` for a class.
    is_brought = "module" in entry and module is None and isinstance(registered, str)
    if isinstance(package, str) and (is_brought or ">" in package):
        look.hit("GM004", file, f"{where}: registered as {package}")


def _files(entry: Mapping[str, Any], file: str, where: str, look: Look) -> None:
    """Layers that read a file or another model, and names that are made into paths."""
    settings, kind = entry.get("config"), entry.get("class_name")
    settings = settings if isinstance(settings, dict) else {}
    if kind in _LOADERS:
        look.hit("GM006", file, f"{where}: layer {_name(entry)!r} is a {kind} of {settings.get('filepath', '?')!r}")
    for key in ("vocabulary", "idf_weights"):
        if kind in _LOOKUPS and isinstance(settings.get(key), str):
            look.hit("GM006", file, f"{where}: {key} of {_name(entry)!r} is the file {settings[key]!r}")
    if "class_name" in entry and escapes(_name(entry)):
        look.hit("GM007", file, f"{where}: a layer is named {_name(entry)!r}")


def _called(entry: Mapping[str, Any]) -> str:
    """The class, or the function where the entry is one."""
    name = entry.get("config") if entry.get("class_name") in ("function", "__typespec__") else entry.get("class_name")
    name = entry.get("spec_name") if entry.get("class_name") == "__typespec__" else name
    return name if isinstance(name, str) else ""


def _name(entry: Mapping[str, Any]) -> str:
    settings = entry.get("config")
    inner = settings.get("name") if isinstance(settings, dict) else None
    return str(inner or entry.get("name") or "")
