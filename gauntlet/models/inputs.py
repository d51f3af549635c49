"""How large the images are that a model takes, told by its file's description alone."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from gauntlet.models.container import Copy, copied

SHAPES = ("batch_shape", "batch_input_shape")
"""What Keras 3 and Keras 2 call the shape of an input."""
COLOURS = (1, 3)


def size_of(path: Path) -> tuple[int, int] | None:
    """(height, width) in pixels of the images that a Keras or ONNX file takes; None where it does not say.

    A file that cannot be read says nothing here: whoever loads it tells what is wrong with it.
    """
    try:
        with copied(path) as copy:
            return _sides(_shape(copy))
    except Exception:  # a stranger's file, which parsers may stumble over in any way
        return None


def _shape(copy: Copy) -> Sequence[Any]:
    """The input's shape without the batch; empty where it is not told."""
    if copy.kind in ("keras", "h5"):
        from gauntlet.models.kerasfiles import config_of

        return _first(config_of(copy))[1:]
    if copy.kind == "onnx":
        import onnx

        from gauntlet.models.onnx.convert import dims_of, inputs_of

        shapes = [dims_of(one)[1:] for one in inputs_of(onnx.load(str(copy.path), load_external_data=False))]
        return next(filter(_sides, shapes), ())
    return ()


def _first(node: Any) -> list[Any]:
    """The first shape of an input in Keras' description."""
    if isinstance(node, dict):
        if shape := next((node[key] for key in SHAPES if isinstance(node.get(key), list)), None):
            return shape
        node = list(node.values())
    return next(filter(None, map(_first, node)), []) if isinstance(node, list) else []


def _sides(shape: Sequence[Any]) -> tuple[int, int] | None:
    """Of (h, w, c), (c, h, w) or (h, w)."""
    if len(shape) not in (2, 3) or not all(isinstance(side, int) and side > 0 for side in shape):
        return None
    if len(shape) == 3:
        shape = shape[1:] if shape[0] in COLOURS and shape[2] not in COLOURS else shape[:2]
    return shape[0], shape[1]
