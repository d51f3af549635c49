"""Descriptions that Keras 2 wrote, in the words of Keras 3: the same layers, called as they are called now."""

from __future__ import annotations

from typing import Any

SHAPE = "batch_input_shape"
GONE = {"DepthwiseConv2D": ("groups",), "InputLayer": ("sparse", "ragged"), "SeparableConv2D": ("groups",)}
"""Settings that Keras 3 lacks, and that say nothing where they stand: a layer that works by channels has one group."""
RENAMED = {"LeakyReLU": {"alpha": "negative_slope"}}


def modern(config: Any) -> Any:
    """A description that Keras 3 reads; computed in float32, whatever it was trained in."""
    if isinstance(config, list):
        return [modern(each) for each in config]
    if not isinstance(config, dict):
        return config
    made = {key: modern(value) for key, value in config.items()}
    if isinstance(made.get("config"), dict) and isinstance(made.get("class_name"), str):
        kind = made["class_name"]
        made["config"] = _layer(kind, made["config"])
        if isinstance(made["config"].get("layers"), list):
            made["config"] = made["config"] | {"layers": _one_shape(made["config"]["layers"], kind)}
    return made


def _layer(kind: str, settings: dict[str, Any]) -> dict[str, Any]:
    """One layer's settings."""
    words = RENAMED.get(kind, {})
    made = {words.get(key, key): value for key, value in settings.items() if key not in GONE.get(kind, ())}
    if kind == "BatchNormalization" and isinstance(made.get("axis"), list) and len(made["axis"]) == 1:
        made["axis"] = made["axis"][0]
    if kind == "InputLayer" and SHAPE in made:
        made["batch_shape"] = made.pop(SHAPE)
    if "dtype" in made:
        made["dtype"] = "float32"
    return made


def _one_shape(layers: list[Any], kind: str) -> list[Any]:
    """Keras 2 wrote the input's shape on the first layer too, which Keras 3 takes for one more axis."""
    if not layers or not all(isinstance(layer, dict) and isinstance(layer.get("config"), dict) for layer in layers):
        return layers
    shape = layers[0]["config"].get(SHAPE)
    lacks_input = kind == "Sequential" and shape and layers[0].get("class_name") != "InputLayer"
    first = {"class_name": "InputLayer", "config": {"batch_shape": shape, "dtype": "float32", "name": "input"}}
    bare = [layer | {"config": {k: v for k, v in layer["config"].items() if k != SHAPE}} for layer in layers]
    return [first, *bare] if lacks_input else bare
