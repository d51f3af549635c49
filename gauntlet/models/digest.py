"""What a Keras model is: its whole graph and its weights, in one digest."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import keras

LEFT_OUT = ("build_config", "compile_config")
"""Parts of a description that do not change what the model computes."""


def digest(model: keras.Model) -> str:
    """SHA-256 (hex) over the graph and the weights' bytes: every operation counts, the file and the names do not.

    Keras numbers names by what else the process has built, so they are replaced by their places in the description.
    """
    sha = hashlib.sha256(json.dumps(graph(model), sort_keys=True, default=str).encode())
    for weights in model.get_weights():
        sha.update(f"{weights.dtype}{weights.shape}".encode())
        sha.update(weights.tobytes())
    return sha.hexdigest()


def graph(model: keras.Model) -> Any:
    """The description of a model as plain data, its names normalised; of a subclassed one, of its layers."""
    try:
        config = {"class_name": _kind(model), "config": model.get_config()}
    except NotImplementedError:
        config = {"class_name": _kind(model), "config": {"layers": [_layer(layer) for layer in model.layers]}}
    return _normalised(config, {})


def _layer(layer: keras.Layer) -> dict[str, Any]:
    return {"class_name": type(layer).__name__, "config": layer.get_config()}


def _kind(model: keras.Model) -> str:
    """Functional models are called `Model` or `Functional`, depending on where they come from."""
    return type(model).__name__.replace("Functional", "Model")


def _normalised(node: Any, names: dict[str, str]) -> Any:
    """A description whose layers are called by their places; only where a layer's name stands is it replaced.

    A string elsewhere, such as an activation or a dtype, may be spelt like a layer's name.
    """
    if isinstance(node, list | tuple):
        return [_normalised(each, names) for each in node]
    if not isinstance(node, dict):
        return node
    if isinstance(node.get("layers"), list):
        return _model(node, names)
    return {key: _value(key, value, names) for key, value in node.items() if key not in LEFT_OUT}


def _model(config: dict[str, Any], names: dict[str, str]) -> dict[str, Any]:
    """The description of a model: layers are called `#0`, `#1`, ..., and the model itself by who holds it."""
    names = names | {_name_of(layer): f"#{place}" for place, layer in enumerate(config["layers"])}
    rest = {key: _value(key, value, names) for key, value in config.items() if key not in (*LEFT_OUT, "layers", "name")}
    return rest | {"layers": [_placed(layer, f"#{place}", names) for place, layer in enumerate(config["layers"])]}


def _placed(layer: Any, place: str, names: dict[str, str]) -> Any:
    """One layer, called by its place."""
    made = _normalised(layer, names)
    if isinstance(made, dict):
        made |= {"name": place} if "name" in made else {}
        if isinstance(made.get("config"), dict):
            made["config"] = made["config"] | {"name": place}
    return made


def _name_of(layer: Any) -> str:
    config = layer.get("config") if isinstance(layer, dict) else None
    return str(layer.get("name") or config.get("name")) if isinstance(config, dict) else ""


def _value(key: str, value: Any, names: dict[str, str]) -> Any:
    """What stands under a key: references to layers' outputs, or a part of the description."""
    if key == "keras_history" and isinstance(value, list | tuple) and value:
        return [names.get(str(value[0]), str(value[0])), *value[1:]]
    return _references(value, names) if key in ("input_layers", "output_layers") else _normalised(value, names)


def _references(value: Any, names: dict[str, str]) -> Any:
    """`[name, node, tensor]`, alone, in lists or by key."""
    if isinstance(value, dict):
        return {key: _references(each, names) for key, each in value.items()}
    if isinstance(value, list | tuple):
        if value and isinstance(value[0], str):
            return [names.get(value[0], value[0]), *value[1:]]
        return [_references(each, names) for each in value]
    return value
