"""What a Keras configuration would build: Lambda layers, bytecode, objects by module, files read on loading."""

from __future__ import annotations

import builtins
import json
from collections.abc import Iterator, Mapping
from typing import Any

from gauntlet.assurance.scan.models import allowed
from gauntlet.assurance.scan.models.objects import is_dangerous
from gauntlet.assurance.scan.models.rules import Look, escapes

_GADGETS = {
    "enable_unsafe_deserialization", "set_global_attribute", "load_model", "load_weights", "get_file", "func_load",
    "model_from_json", "deserialize_keras_object", "clone_model", "extract_archive", "SafeModeScope",
}  # fmt: skip
"""Functions of Keras that a configuration has no business with."""
_LOOKUPS = {"StringLookup", "IntegerLookup", "IndexLookup", "TextVectorization"}
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
        _nodes(entry, file, where, look)


def mappings(config: Any) -> Iterator[Mapping[str, Any]]:
    """Every mapping at any depth; with a stack, because the depth is untrusted."""
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
    """An object by its name and module: both must be allowed, and of a function its own name, too."""
    kind, module, name = entry.get("class_name"), entry.get("module"), _called(entry)
    shown = f"{where}: {module}.{name}" if module is not None else f"{where}: {name}"
    if isinstance(kind, str) and kind not in allowed.VALUES and ("config" in entry or "module" in entry):
        known = name in allowed.COMPILED or name in (allowed.FUNCTIONS if kind == "function" else allowed.CLASSES)
        place = module is None or (isinstance(module, str) and allowed.is_module(module))
        if not (known and place) and kind not in (*_LOADERS, *_LOOKUPS, "Lambda", "__lambda__"):
            look.hit(_rule(module, name), file, shown)
    registered = entry.get("registered_name")
    package = registered if isinstance(registered, str) else kind
    # An object of no module is one that the reader must bring; older files write `package>name` for a class.
    is_brought = "module" in entry and module is None and isinstance(registered, str)
    if isinstance(package, str) and (is_brought or ">" in package):
        look.hit("GM004", file, f"{where}: registered as {package}")


def _rule(module: Any, name: str) -> str:
    """How bad an object is that is not allowed."""
    if not isinstance(module, str):
        return "GM004"
    if any(module == own or module.startswith(f"{own}.") for own in allowed.ROOTS):
        return "GM005" if name in _GADGETS or name[:1].islower() or name in _CALLING else "GM004"
    return "GM003" if is_dangerous(module, name) and (module != "builtins" or hasattr(builtins, name)) else "GM004"


_CALLING = {"AssociativeScan", "Cond", "ForiLoop", "Map", "Scan", "Switch", "VectorizedMap", "WhileLoop"}
"""Operations that call functions they are given, past safe mode."""


def _nodes(entry: Mapping[str, Any], file: str, where: str, look: Look) -> None:
    """A layer of a graph without a tensor as its input is called while the graph is built, on values of its choice."""
    if not isinstance(entry.get("layers"), list) or "input_layers" not in entry:
        return
    for layer in entry["layers"]:
        if isinstance(layer, dict) and layer.get("class_name") != "InputLayer" and "inbound_nodes" in layer:
            nodes = layer["inbound_nodes"]
            if not isinstance(nodes, list) or not nodes or not all(_has_tensor(node) for node in nodes):
                look.hit(
                    "GM005", file, f"{where}: {layer.get('class_name')} {_name(layer)!r} has no tensor as its input"
                )


def _has_tensor(node: Any) -> bool:
    """Whether a node refers to a layer's output: `keras_history`, or in older files `[name, node, tensor, ...]`."""
    left = [node]
    while left:
        part = left.pop()
        if isinstance(part, dict):
            if "keras_history" in part:
                return True
            left.extend(part.values())
        elif isinstance(part, list):
            if len(part) >= 3 and isinstance(part[0], str) and all(isinstance(each, int) for each in part[1:3]):
                return True
            left.extend(part)
    return False


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
