"""What a model gives, brought to logits: one float32 score a class, larger for a likelier class, not squashed.

A last step that keeps the order of the scores (softmax, sigmoid, tanh, clip, a temperature, a rounding) changes no
decision, but it hides the gradient: saturated scores look like robustness (Carlini & Wagner 2016). Where the step is
part of a Keras graph it is removed, however it is written; where it is not, its values are inverted.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from gauntlet.errors import ModelError

if TYPE_CHECKING:
    import keras

Scores = NDArray[np.floating[Any]]

LOGITS, PROBABILITIES, LOGARITHMS, SIGMOID, TANH = "logits", "probabilities", "log-probabilities", "sigmoid", "tanh"
"""What scores are by their values: unbounded, rows that sum to one, their logarithms, within [0, 1], within [-1, 1]."""
LABELS = "labels"
STEPS = 16
"""Last steps that are removed at most."""
SATURATED = 0.5
"""What the scores of a tanh reach, near or far from the data."""
CHANGED = 0.005
"""Share of decisions that a removal may change: where clipped scores tie, the first class wins, whichever is larger."""
EDGE = 6e-8
"""The distance from 0 and 1 (float32's own) at which squashed values are cut before they are inverted."""


def kind_of(scores: Sequence[Scores]) -> str:
    """What scores (n, k) are, by all values seen: on clean images and on images far from any data.

    Far from the data unbounded scores leave [0, 1] and [-1, 1], squashed ones cannot; and a tanh comes near its bounds
    there, where logits that are very small do not.
    """
    low, high = min(float(each.min()) for each in scores), max(float(each.max()) for each in scores)
    sums = np.concatenate([each.astype(np.float64).sum(axis=-1) for each in scores])
    if low == high:  # constant: nothing can be told
        return LOGITS
    if low >= 0 and np.allclose(sums, 1, atol=2e-3):
        return PROBABILITIES
    if high <= 0 and all(np.allclose(np.exp(each.astype(np.float64)).sum(axis=-1), 1, atol=2e-3) for each in scores):
        return LOGARITHMS
    if low >= 0 and high <= 1:
        return SIGMOID
    return TANH if low >= -1 and high <= 1 and max(-low, high) >= SATURATED else LOGITS


def inverted(scores: Scores, kind: str) -> Scores:
    """Squashed scores (n, k) as logits: the logarithm of probabilities, log-odds of sigmoids, atanh of tanhs."""
    if kind == PROBABILITIES:
        return np.log(np.maximum(scores, np.finfo(scores.dtype).tiny))
    edge = np.finfo(scores.dtype).epsneg
    share = scores if kind == SIGMOID else (scores + 1) / 2
    if kind not in (SIGMOID, TANH):
        return scores
    share = np.clip(share, edge, 1 - edge)
    return np.asarray(np.log(share) - np.log1p(-share))


def cross_entropies(logits: Scores, y: NDArray[np.integer[Any]]) -> NDArray[np.float64]:
    """Of each image's true class `y` (n,) by logits (n, k), in nats, (n,)."""
    from scipy.special import log_softmax

    return -np.asarray(log_softmax(logits.astype(np.float64), axis=1))[np.arange(len(y)), y]


# --- Keras --------------------------------------------------------------------------------------------------


def as_graph(model: keras.Model, shape: tuple[int, ...]) -> keras.Model:
    """The model with inputs and outputs as symbols; one without (subclassed) is called on images of `shape`."""
    import keras

    if getattr(model, "inputs", None):
        return model
    images = keras.Input(shape)
    try:
        answer = model(images)
    except Exception as error:
        lines = str(error).strip().splitlines() or [type(error).__name__]
        raise ModelError(f"the model cannot be called on images of shape {shape}: {lines[0][:200]}") from error
    return keras.Model(images, answer)


def one_output(model: keras.Model, n_classes: int, output: str | None = None) -> keras.Model:
    """The model with one output (n, n_classes), or (n, 1) for two classes; `ModelError` that says what it gives."""
    import keras

    sizes = {name: int(np.prod([n or 1 for n in tensor.shape[1:]])) for name, tensor in _named(model).items()}
    name = chosen(sizes, n_classes, output)
    scores = _named(model)[name]
    if len(scores.shape) != 2:
        scores = keras.layers.Reshape((sizes[name],))(scores)
    same = (
        len(model.outputs) == 1 and scores is model.outputs[0] and not isinstance(getattr(model, "output", None), dict)
    )
    return model if same else keras.Model(model.inputs if len(model.inputs) > 1 else model.inputs[0], scores)


def _named(model: keras.Model) -> dict[str, Any]:
    output = getattr(model, "output", None)
    names = list(output) if isinstance(output, dict) else list(getattr(model, "output_names", ()))
    unique = names if len(set(names)) == len(model.outputs) else range(len(model.outputs))
    return {str(name): tensor for name, tensor in zip(unique, model.outputs, strict=True)}


def chosen(sizes: dict[str, int], n_classes: int, output: str | None = None) -> str:
    """The name of the output that holds the scores, by the numbers an image that each gives; `ModelError` else."""
    if output is not None and output not in sizes:
        raise ModelError(f"it has no output {output!r}", where="output", fix=f"one of {', '.join(sizes)}")
    wanted = {n_classes, 1} if n_classes == 2 else {n_classes}
    fitting = [name for name, size in sizes.items() if size in wanted and output in (None, name)]
    if len(fitting) != 1:
        alone = next(iter(sizes.values())) if len(sizes) == 1 else n_classes
        fix = "name it with --output" if len(fitting) > 1 else other_classes(alone, n_classes)
        raise ModelError(_misfit(sizes, n_classes), where="model", fix=fix)
    return fitting[0]


def other_classes(outputs: int, n_classes: int) -> str:
    """What to do where a model knows more or fewer classes than the data."""
    if outputs > n_classes:
        return f"--classes {outputs} if the data lack images of some classes"
    if outputs == 1:
        return "one score tells two classes apart, no more"
    return "--labels map if labels start at 1 or leave out numbers" if outputs < n_classes else ""


def _misfit(sizes: dict[str, int], n_classes: int) -> str:
    if len(sizes) == 1:
        return f"the model has {next(iter(sizes.values()))} outputs, the data set {n_classes} classes"
    outputs = ", ".join(f"{name} ({size})" for name, size in sizes.items())
    return f"the model has {len(sizes)} outputs, {outputs}; expected one of {n_classes} scores"


def unsquashed(model: keras.Model, near: Any, far: Any) -> tuple[keras.Model, str, bool]:
    """The model with logits out, what it gave before, and whether squashed values had to be inverted.

    `near` and `far` are inputs as the model takes them: clean images, and points far from any. The decisions on
    `near` are the same afterwards. One score for two classes becomes (0, score).
    """
    import keras

    kind = kind_of([run(model, near), run(model, far)])
    peeled = _peeled(model, near)
    left = kind_of([run(peeled, near), run(peeled, far)])
    scores = peeled.outputs[0]
    if len(scores.shape) != 2:
        scores = keras.layers.Flatten()(scores)
    scores = keras.ops.cast(scores, "float32") if scores.dtype != "float32" else scores
    if left in (PROBABILITIES, SIGMOID, TANH):
        scores = _inverted(scores, left)
    if scores.shape[-1] == 1:
        scores = keras.ops.concatenate([keras.ops.zeros_like(scores), scores], axis=-1)
    squashed = left in (PROBABILITIES, SIGMOID, TANH)
    return (peeled if scores is peeled.outputs[0] else keras.Model(peeled.inputs[0], scores)), kind, squashed


def _inverted(scores: Any, kind: str) -> Any:
    """`inverted` as part of the graph."""
    from keras import ops

    if kind == PROBABILITIES and scores.shape[-1] > 1:
        return ops.log(ops.maximum(scores, 1e-30))
    share = ops.clip((scores + 1) / 2 if kind == TANH else scores, EDGE, 1 - EDGE)
    return ops.log(share) - ops.log(1 - share)


def _peeled(model: keras.Model, near: Any) -> keras.Model:
    """Without its last steps, as long as each keeps the order of the scores and the decisions on `near`."""
    import keras

    decided = decisions(run(model, near))
    for _ in range(STEPS):
        before = _before(model.outputs[0])
        if before is None:
            break
        shorter = keras.Model(model.inputs[0], before)
        if (decisions(run(shorter, near)) != decided).mean() > CHANGED:
            break
        model = shorter
    return model


def _before(tensor: Any) -> Any:
    """The scores before the last step, if that keeps their order; else None."""
    import keras

    operation, index, place = tensor._keras_history
    node = operation._inbound_nodes[index]
    if hasattr(operation, "shorter"):  # a layer that is a whole graph
        layer = operation.shorter(place)
        return None if layer is None else layer(list(node.input_tensors))
    if isinstance(operation, keras.Model):
        return _before_in(operation, node)
    given = _source(node.input_tensors, tensor)
    if given is None:
        return None
    activation = getattr(operation, "activation", None)
    if activation is not None and not isinstance(operation, keras.layers.Activation):
        return None if activation is keras.activations.linear else _kept(activation, tensor.shape, operation)
    if None in given.shape[1:] or np.prod(given.shape[1:]) != np.prod(tensor.shape[1:]):
        return None
    step = keras.Function([given], [tensor])
    return given if keeps_order(_of_arrays(lambda scores: step([scores])[0]), given.shape) else None


def _source(given: Sequence[Any], tensor: Any) -> Any:
    """What a step is made from: its input, or of several the one that the others come from, as z in `z / norm(z)`."""
    if len(given) == 1:
        return given[0]
    return next((one for one in given if one.shape == tensor.shape and _alone(one, tensor)), None)


def _alone(given: Any, tensor: Any) -> bool:
    """Whether a tensor of a graph can be computed from one other."""
    import keras

    try:
        keras.Function([given], [tensor])
    except ValueError:  # not connected
        return False
    return True


def _kept(activation: Callable[[Any], Any], shape: tuple[int, ...], layer: keras.Layer) -> Any:
    return _without_activation(layer) if keeps_order(_of_arrays(activation), shape) else None


def _of_arrays(step: Callable[[Any], Any]) -> Callable[[Any], Any]:
    import tensorflow as tf

    return lambda scores: step(tf.constant(scores))


def _before_in(nested: keras.Model, node: Any) -> Any:
    """The same for a model inside a model."""
    import keras

    if len(getattr(nested, "outputs", None) or ()) != 1 or len(node.input_tensors) != 1:
        return None
    before = _before(nested.outputs[0])
    return None if before is None else keras.Model(nested.inputs[0], before)(node.input_tensors[0])


def _without_activation(layer: keras.Layer) -> Any:
    """What `layer` computes before its activation, from a copy of it: the given model stays as it is."""
    copy = type(layer).from_config(layer.get_config() | {"activation": "linear"})
    scores = copy(layer.input)
    copy.set_weights(layer.get_weights())
    return scores


def keeps_order(step: Callable[[Any], Any], shape: tuple[int | None, ...]) -> bool:
    """Whether a step keeps the order of random scores of any size; of one score, on which side of the middle it is.

    `step` maps an array (64, *shape[1:]) to one of as many numbers.
    """
    if None in shape[1:]:
        return False
    sizes = np.repeat([0.01, 0.1, 1.0, 10.0], 16).reshape(-1, *[1] * (len(shape) - 1))
    given = (np.random.default_rng(0).normal(size=(64, *shape[1:])) * sizes).astype(np.float32)  # type: ignore[arg-type]
    try:
        made = np.asarray(step(given), np.float64).reshape(64, -1)
    except Exception:  # it may be anyone's
        return False
    if made.shape != given.reshape(64, -1).shape or not np.isfinite(made).all():
        return False
    if made.shape[1] == 1:
        return bool(np.array_equal(decisions(made), decisions(given.reshape(64, 1)))) and len(np.unique(made)) > 2
    ordered = np.take_along_axis(made, given.reshape(64, -1).argsort(axis=1), axis=1)
    rising = np.diff(ordered, axis=1)
    return bool((rising >= -1e-6).all() and (rising[32:] > 0).any())


def decisions(scores: Scores) -> NDArray[np.intp]:
    """The class of each row; one score stands for two classes, whose border is the middle of what it can be."""
    if scores.shape[-1] > 1:
        return scores.argmax(axis=-1)
    middle = 0.5 if kind_of([scores]) in (SIGMOID, PROBABILITIES) else 0.0
    return (scores[:, 0] > middle).astype(np.intp)


def run(model: keras.Model, images: Any) -> Scores:
    """The scores, float32 (n, k), that a model of one output gives for images of its own shape, dropout off."""
    with warnings.catch_warnings():  # made with a list of one input, a model warns unless it is given a list
        warnings.filterwarnings("ignore", "The structure of `inputs`")
        scores = np.asarray(model(images, training=False))
    return scores.astype(np.float32).reshape(len(scores), -1)
