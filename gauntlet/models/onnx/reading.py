"""An ONNX file: a Keras model that agrees with ONNX Runtime, else a function that asks ONNX Runtime."""

from __future__ import annotations

import math
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from gauntlet.errors import ModelError
from gauntlet.models.onnx.convert import Converted, convert, dims_of, inputs_of
from gauntlet.models.onnx.values import UnknownOperatorError, plain
from gauntlet.threat import Images

if TYPE_CHECKING:
    import keras

TOLERANCE = 1e-4
"""By which outputs may differ from ONNX Runtime's, of the largest output where that is above 1."""
CHECKED = 8
"""Random images on which they are compared."""


def read(path: Path) -> keras.Model | Runtime:
    """The model of a file that was inspected: white-box where every operator is known, else said not to be."""
    import onnx

    proto = onnx.load(str(path))  # with the weights beside it, which were copied as well
    runtime = Runtime.of(proto)
    try:
        converted = convert(proto)
    except UnknownOperatorError as error:
        if len(runtime.dims) > 1:
            raise ModelError(f"of {len(runtime.dims)} inputs, and {error} has no counterpart in Keras") from error
        print(f"note: {error} has no counterpart in Keras: the model is asked through ONNX Runtime, without gradients",
              file=sys.stderr)  # fmt: skip
        return runtime
    check(converted, proto, runtime)
    return converted.model


@dataclass(frozen=True)
class Runtime:
    """A model that ONNX Runtime runs, as a function of images: outputs by name."""

    session: Any
    dims: dict[str, tuple[int, ...]]
    """Of each input, as declared; 0 for any length."""
    dtypes: dict[str, Any]

    @classmethod
    def of(cls, proto: Any) -> Runtime:
        """The model in ONNX Runtime; `ModelError` when that cannot run it."""
        import onnxruntime

        settings = onnxruntime.SessionOptions()
        settings.log_severity_level = 4
        try:
            session = onnxruntime.InferenceSession(
                proto.SerializeToString(), settings, providers=["CPUExecutionProvider"]
            )
        except Exception as error:  # its errors have no common kind
            raise ModelError(f"ONNX Runtime cannot run it: {str(error).splitlines()[0][:200]}") from error
        kind = {"tensor(float16)": np.float16, "tensor(double)": np.float64}
        dtypes = {one.name: kind.get(one.type, np.float32) for one in session.get_inputs()}
        return cls(session, {one.name: tuple(dims_of(one)) for one in inputs_of(proto)}, dtypes)

    def __call__(self, x: Images) -> dict[str, Any]:
        """All outputs for images (n, ...): of the declared shape, or of as many numbers in a row."""
        ((name, dims),) = self.dims.items()
        wanted = dims[1:]
        if len(wanted) != x.ndim - 1 and math.prod(wanted) == math.prod(x.shape[1:]) and x.ndim == 2:
            x = x.reshape(len(x), *wanted)
        return self.answers({name: x})

    def answers(self, given: dict[str, Images]) -> dict[str, Any]:
        """All outputs for a batch of each input, of its declared shape."""
        n = len(next(iter(given.values())))
        size = next(iter(self.dims.values()))[0] or n
        filled = {name: np.concatenate([x, np.repeat(x[:1], -n % size, axis=0)]) for name, x in given.items()}
        parts = [self._run({name: x[at : at + size] for name, x in filled.items()}) for at in range(0, n, size)]
        return {name: np.concatenate([part[name] for part in parts])[:n] for name in parts[0]}

    def _run(self, given: dict[str, Images]) -> dict[str, Any]:
        names = [one.name for one in self.session.get_outputs()]
        answers = self.session.run(names, {name: x.astype(self.dtypes[name]) for name, x in given.items()})
        return dict(zip(names, answers, strict=True))

    def ask(self, n: int) -> None:
        """Run it once on `n` grey images."""
        shapes = {name: (n, *(size or 32 for size in dims[1:])) for name, dims in self.dims.items()}
        self.answers({name: np.full(shape, 0.5, np.float32) for name, shape in shapes.items()})


# --- does it agree? -------------------------------------------------------------------------------------------


def check(converted: Converted, proto: Any, runtime: Runtime) -> None:
    """`ModelError` that names the first operator where Keras and ONNX Runtime differ, if any does."""
    images = _images(runtime.dims)
    expected = runtime.answers(images)
    names = [out.name for out in proto.graph.output]
    if _differing(_ours(converted, names, images), expected):
        raise ModelError(
            f"read into Keras it gives other outputs, first at {_first(converted, proto, images)}: refused"
        )


def _images(inputs: dict[str, tuple[int, ...]]) -> dict[str, Images]:
    """Pixels in [0, 1] for each input, as the model declares them."""
    rng = np.random.default_rng(0)
    return {name: rng.uniform(size=(CHECKED, *dims[1:])).astype(np.float32) for name, dims in inputs.items()}


def _ours(converted: Converted, names: list[str], images: dict[str, Images]) -> dict[str, Any]:
    """Values of the graph, in ONNX's order."""
    import keras

    tensors = {name: plain(converted.values[name]).tensor for name in names}
    inputs = [(value, images[name]) for name, value in converted.inputs.items()]
    given = [x.transpose(0, 2, 3, 1) if value.form == "turned" else x for value, x in inputs]
    answers = keras.Model([value.tensor for value, _ in inputs], tensors)(given, training=False)
    return {name: np.asarray(answers[name]) for name in tensors}


def _differing(ours: dict[str, Any], theirs: dict[str, Any]) -> list[str]:
    differing = []
    for name, expected in theirs.items():
        allowed = TOLERANCE * max(1.0, float(np.abs(expected).max(initial=0)))
        got = ours[name].reshape(expected.shape) if ours[name].size == expected.size else None
        if got is None or not np.allclose(got, expected, rtol=0, atol=allowed):
            differing.append(name)
    return differing


def _first(converted: Converted, proto: Any, images: dict[str, Images]) -> str:
    """The first operator whose value differs."""
    import onnx

    whole = onnx.ModelProto()
    whole.CopyFrom(proto)
    names = [name for node in proto.graph.node for name in node.output if name in converted.values]
    del whole.graph.output[:]
    whole.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names)
    theirs, ours = Runtime.of(whole).answers(images), _ours(converted, names, images)
    return next((converted.made_by[name] for name in names if _differing(ours, {name: theirs[name]})), "its outputs")
