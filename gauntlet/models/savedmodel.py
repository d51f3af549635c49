"""A SavedModel folder: its serving signature as one graph of constants, which has gradients and a last step to remove.

Whoever saved it, TensorFlow 1 or 2 or Keras, a signature is a function of tensors by name. With its variables as
constants and its functions in place it is a plain graph; where that cannot be made, the signature is asked for scores.
"""

from __future__ import annotations

import base64
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from gauntlet.errors import ModelError
from gauntlet.models.pixels import in_shape
from gauntlet.quiet import no_standard_error
from gauntlet.threat import Images

SIGNATURE = "serving_default"
LAST = ("Identity", "Softmax", "LogSoftmax", "Sigmoid", "Tanh")
"""Operations that keep shape and order of the scores; of a softmax over the last axis, which is the classes'."""
CHECKED = 4
"""Random images on which graph and signature are compared."""
TOLERANCE = 1e-4
"""By which they may differ, of the largest output where that is above 1."""
SIDE = 32
"""Pixels of a side that a signature leaves open, while it is tried."""


def read(path: Path) -> keras.Model | Signature:
    """The model of a folder that was inspected: white-box where its graph has gradients, else said not to be."""
    with no_standard_error():
        loaded = tf.saved_model.load(str(path))
    signature = Signature(loaded, _chosen(loaded.signatures))
    signature.check()
    try:
        with no_standard_error():
            model = _model(signature.function)
            _compare(model, signature)
    except Exception as error:  # of an operation without a gradient, a table, a graph that cannot be turned round
        if len(signature.specs) > 1:
            raise ModelError(f"of {len(signature.specs)} inputs, and its graph has no gradients") from error
        print("note: the graph of this SavedModel has no gradients: it is asked for its scores", file=sys.stderr)
        return signature
    return model


def _chosen(signatures: Mapping[str, Any]) -> Any:
    """The serving signature, or the only one."""
    if SIGNATURE in signatures or len(signatures) == 1:
        return signatures.get(SIGNATURE, next(iter(signatures.values())))
    names = ", ".join(sorted(signatures)) or "none"
    fix = "save it with signatures, or by model.export(FOLDER)"
    raise ModelError(f"it has no signature {SIGNATURE}, its signatures: {names}", fix=fix)


@dataclass(frozen=True)
class Signature:
    """A signature as a function of images: outputs by name."""

    loaded: Any
    """Keeps the variables."""
    function: Any

    @property
    def specs(self) -> dict[str, tf.TensorSpec]:
        """Its inputs, by name."""
        return dict(self.function.structured_input_signature[1])

    def check(self) -> None:
        """`ModelError` for inputs that are no images."""
        for name, spec in self.specs.items():
            if not (spec.dtype.is_floating or spec.dtype.is_integer or spec.dtype.is_bool):
                raise ModelError(f"its input {name} is {spec.dtype.name}, no pixels", fix="save it with one of pixels")
            if spec.shape.rank is None or spec.shape.rank < 1:
                raise ModelError(f"it does not say the shape of its input {name}")
            if spec.shape[0] not in (None, 1):
                raise ModelError(f"its input {name} takes batches of {spec.shape[0]} alone")

    def __call__(self, x: Images) -> dict[str, Any]:
        """All outputs for images (n, ...), which become numbers of its own type."""
        ((name, spec),) = self.specs.items()
        return self.answers({name: in_shape(x, list(spec.shape[1:]))})  # another shape ends the process

    def answers(self, given: Mapping[str, Images]) -> dict[str, Any]:
        """All outputs for a batch of each input; images one by one where it takes no more."""
        specs = self.specs
        tensors = {name: tf.constant(_of_type(x, specs[name].dtype)) for name, x in given.items()}
        if all(spec.shape[0] is None for spec in specs.values()):
            parts = [self.function(**tensors)]
        else:
            n = len(next(iter(tensors.values())))
            parts = [self.function(**{name: x[at : at + 1] for name, x in tensors.items()}) for at in range(n)]
        return {name: np.concatenate([part[name].numpy() for part in parts]) for name in parts[0]}

    def example(self, n: int) -> dict[str, Images]:
        """Random pixels in [0, 1] for each input."""
        rng = np.random.default_rng(0)
        shapes = {name: (n, *(size or SIDE for size in spec.shape[1:])) for name, spec in self.specs.items()}
        return {name: rng.uniform(size=shape).astype(np.float32) for name, shape in shapes.items()}

    def ask(self, n: int) -> None:
        """Run it once on `n` random images."""
        self.answers(self.example(n))


def _of_type(x: Images, dtype: tf.DType) -> np.ndarray:
    """Pixels of a type; whole numbers are rounded, not cut off."""
    return (np.rint(x) if dtype.is_integer else x).astype(dtype.as_numpy_dtype)


# --- as a graph -----------------------------------------------------------------------------------------------


class Frozen(keras.layers.Layer):
    """A graph of constants from named tensors to others."""

    def __init__(self, graph: str, feeds: Sequence[str], fetches: Sequence[str], single: bool = False, **more: Any):
        """`graph` is a GraphDef in base 64; `single`: it takes one image at a time."""
        super().__init__(**more)
        self.graph, self.feeds, self.fetches, self.single = graph, list(feeds), list(fetches), single
        self._definition = tf.compat.v1.GraphDef.FromString(base64.b64decode(graph))
        self._function = _function(self._definition, self.feeds, self.fetches)
        self._outputs = self._function.outputs[: len(self.fetches)]  # constants follow

    def call(self, inputs: Sequence[Any]) -> Any:
        """The outputs for a batch of each input; one output by itself."""
        types = [tensor.dtype for tensor in self._function.inputs]
        given = [tf.cast(x, dtype) for x, dtype in zip(inputs, types, strict=True)]
        return self._one_by_one(given) if self.single else _alone(self._function(*given))

    def _one_by_one(self, given: list[tf.Tensor]) -> Any:
        types = [tensor.dtype for tensor in self._outputs]

        def one(images: list[tf.Tensor]) -> list[tf.Tensor]:
            return [answer[0] for answer in self._function(*(image[None] for image in images))]

        return _alone(tf.map_fn(one, given, fn_output_signature=types))

    def compute_output_spec(self, *inputs: Any, **_: Any) -> Any:
        """As the graph declares them."""
        return _alone([keras.KerasTensor((None, *one.shape[1:]), one.dtype.name) for one in self._outputs])

    def shorter(self, place: int) -> Frozen | None:
        """To the tensor before the last step of an output, where that keeps the order of its numbers; else None."""
        nodes = {node.name: node for node in self._definition.node}
        last = nodes[self.fetches[place].partition(":")[0]]
        if last.op not in LAST:
            return None
        before = last.input[0] if ":" in last.input[0] else f"{last.input[0]}:0"
        return Frozen(self.graph, self.feeds, [before], self.single)

    def get_config(self) -> dict[str, Any]:
        """All of it: the graph holds the weights."""
        more = {"graph": self.graph, "feeds": self.feeds, "fetches": self.fetches, "single": self.single}
        return super().get_config() | more


def _alone(answers: Sequence[Any]) -> Any:
    return answers[0] if len(answers) == 1 else list(answers)


def _function(definition: Any, feeds: Sequence[str], fetches: Sequence[str]) -> Any:
    """A graph as a function of these tensors."""
    whole = tf.compat.v1.wrap_function(lambda: tf.graph_util.import_graph_def(definition, name=""), [])
    return whole.prune(*([whole.graph.as_graph_element(name) for name in names] for names in (feeds, fetches)))


def _model(signature: Any) -> keras.Model:
    """A signature as a Keras model with inputs and outputs by its names."""
    from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

    frozen = convert_variables_to_constants_v2(signature)
    specs = signature.structured_input_signature[1]
    graph = base64.b64encode(frozen.graph.as_graph_def().SerializeToString(deterministic=True)).decode()
    single = any(spec.shape[0] == 1 for spec in specs.values())
    layer = Frozen(graph, [one.name for one in frozen.inputs], [one.name for one in frozen.outputs], single)
    keys = signature._arg_keywords
    inputs = [keras.Input(specs[key].shape[1:], name=re.sub(r"\W", "_", key)) for key in keys]
    answers = layer(inputs)
    outputs = answers if isinstance(answers, list) else [answers]
    named = dict(zip(sorted(signature.structured_outputs), outputs, strict=True))
    return keras.Model(inputs if len(inputs) > 1 else inputs[0], named if len(named) > 1 else outputs[0])


def _compare(model: keras.Model, signature: Signature) -> None:
    """Raise unless the graph gives what the signature gives, and its gradient can be taken."""
    given = signature.example(CHECKED)
    expected = signature.answers(given)
    tensors = [tf.constant(given[name]) for name in signature.function._arg_keywords]
    with tf.GradientTape() as tape:
        tape.watch(tensors)
        answers = model(tensors if len(tensors) > 1 else tensors[0], training=False)
        answers = answers if isinstance(answers, dict) else dict.fromkeys(expected, answers)
        total = tf.add_n([tf.reduce_sum(tf.cast(one, tf.float32)) for one in answers.values()])
    if all(one is None for one in tape.gradient(total, tensors)):
        raise ValueError("no gradient")
    for name, scores in expected.items():
        allowed = TOLERANCE * max(1.0, float(np.abs(scores).max(initial=0)))
        if not np.allclose(answers[name].numpy(), scores, rtol=0, atol=allowed):
            raise ValueError("the graph gives other scores")
