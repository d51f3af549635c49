"""Build the model of a file that was checked, by its format."""

from __future__ import annotations

from typing import Any

from gauntlet.models import kerasfiles
from gauntlet.models.container import Copy


def build(copy: Copy, *, trust: bool = False) -> Any:
    """A `keras.Model`, a `pytorch.Network`, or a function of images; with `trust` a Keras file's own code is run."""
    if copy.kind in ("keras", "h5"):
        return kerasfiles.read(copy, trust=trust)
    if copy.kind == "onnx":
        from gauntlet.models.onnx.reading import read as read_onnx

        return read_onnx(copy.path)
    if copy.kind == "savedmodel":
        from gauntlet.models.savedmodel import read as read_saved

        return read_saved(copy.path)
    if copy.kind == "tflite":
        from gauntlet.models.tflite import read as read_tflite

        return read_tflite(copy.path)
    from gauntlet.models.pytorch.files import read as read_torch

    return read_torch(copy)
