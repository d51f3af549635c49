"""TensorFlow Lite: asked through TensorFlow's own interpreter, which has no gradients."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from gauntlet.errors import ModelError
from gauntlet.models.pixels import in_shape
from gauntlet.quiet import no_standard_error
from gauntlet.threat import Images


@dataclass(frozen=True)
class Interpreter:
    """A model as a function of images: outputs by name. Quantised numbers are turned into fractions and back."""

    interpreter: Any

    def __call__(self, x: Images) -> dict[str, Any]:
        """All outputs for images (n, ...): of the model's shape, or of as many numbers in a row."""
        (given,) = self.interpreter.get_input_details()
        x = in_shape(x, [int(n) if n > 0 else None for n in given["shape_signature"][1:]])
        if tuple(given["shape"]) != x.shape:
            self.interpreter.resize_tensor_input(given["index"], x.shape)
            self.interpreter.allocate_tensors()
        self.interpreter.set_tensor(given["index"], _quantised(x, given))
        self.interpreter.invoke()
        outputs = self.interpreter.get_output_details()
        return {one["name"]: _fractions(self.interpreter.get_tensor(one["index"]), one) for one in outputs}

    def ask(self, n: int) -> None:
        """Run it once on `n` grey images."""
        (given,) = self.interpreter.get_input_details()
        self(np.full((n, *(size if size > 0 else 32 for size in given["shape_signature"][1:])), 0.5, np.float32))


def read(path: Path) -> Interpreter:
    """The model of a `.tflite` file; `ModelError` when it cannot be run, or takes several inputs."""
    import tensorflow as tf

    with warnings.catch_warnings(), no_standard_error():
        warnings.simplefilter("ignore")  # the interpreter will move to a package of its own
        try:
            interpreter = tf.lite.Interpreter(model_content=path.read_bytes())
            interpreter.allocate_tensors()
        except (ValueError, RuntimeError) as error:
            reason = str(error).strip().splitlines()[0][:200]
            raise ModelError(f"not a readable TensorFlow Lite model: {reason}") from error
    if (n := len(interpreter.get_input_details())) != 1:
        raise ModelError(f"the model has {n} inputs, expected one of images", where="model")
    return Interpreter(interpreter)


def _quantised(x: Images, details: dict[str, Any]) -> np.ndarray:
    """Numbers of the type that a tensor has."""
    dtype, (scale, zero) = details["dtype"], details["quantization"]
    if np.dtype(dtype).kind == "f" or not scale:
        return x.astype(dtype)
    info = np.iinfo(dtype)
    return np.clip(np.rint(x / scale + zero), info.min, info.max).astype(dtype)


def _fractions(values: np.ndarray, details: dict[str, Any]) -> np.ndarray:
    scale, zero = details["quantization"]
    if values.dtype.kind == "f" or not scale:
        return values
    return np.asarray((values.astype(np.float32) - zero) * scale, np.float32)
