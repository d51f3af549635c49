"""The ART classifiers everything is attacked through: chunked predictions and gradients, one code for every network.

ART's own `TensorFlowV2Classifier` differentiates eagerly and predicts the whole array at once. Compiling the few
functions its attacks call speeds up all of them, and chunks bound the memory; `benchmarks/attacks.py` measures it.
A network of another framework (`pytorch/`) takes part as a function of tensors that brings its own gradient.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import keras
import numpy as np
import tensorflow as tf

from gauntlet import limits
from gauntlet.errors import ModelError
from gauntlet.models.access import Access
from gauntlet.models.adapter import check_finite
from gauntlet.models.digest import digest
from gauntlet.models.losses import LOSSES, Loss
from gauntlet.quiet import load_art

load_art()

from art.estimators.classification import TensorFlowV2Classifier  # noqa: E402

if TYPE_CHECKING:
    from collections.abc import Callable

ZERO = tf.UnconnectedGradients.ZERO
CHUNK = 128
"""Images per compiled call; ART's default of 32 is slower, 256 no faster, and memory stays flat."""
MULTIPLE = 16
"""Batches are filled up to a multiple of this: fewer shapes are compiled, and an image's numbers depend on its batch by
rounding alone. With oneDNN and AVX-512 they do not depend on it at all; no processor is promised to do so."""

INSIDE, LOST = 1e-6, 0.1
"""Of the pixel range: so far inside the bounds are gradients taken of a model that has none at the bounds for a tenth
of the pixels there. A ReLU on the images cuts off at 0, a square root's slope is infinite there."""


class Seen(NamedTuple):
    """What a gradient attack sees of a batch: float32 arrays (n, n_classes), (n,) and (n, h, w, c)."""

    logits: np.ndarray
    loss: np.ndarray
    gradient: np.ndarray


class WhiteBox(TensorFlowV2Classifier):
    """A network of logits as ART sees it; gradients are of the summed cross-entropy, dropout off.

    Takes no pre- or postprocessing: what stands before or behind the network belongs into the model, where the
    gradient sees it.
    """

    access: Access = "gradients"

    def __init__(
        self, model: Any, input_shape: tuple[int, ...], nb_classes: int, bounds: tuple[float, float] = (0.0, 1.0)
    ) -> None:
        """`model(x, training=False)` maps float32 images (n, *input_shape) in `bounds` to logits (n, nb_classes)."""
        super().__init__(
            model=model,
            nb_classes=nb_classes,
            input_shape=tuple(input_shape),
            loss_object=keras.losses.CategoricalCrossentropy(from_logits=True),
            clip_values=bounds,
        )
        images = tf.TensorSpec((None, *self.input_shape), tf.float32)
        weights = tf.TensorSpec((None, self.nb_classes), tf.float32)
        self._logits = self._prepared(lambda x: model(x, training=False), images)
        self._scores = self._logits
        self._loss_grad = self._prepared(self._cross_entropy_gradient, images, weights)
        self._logit_grad = self._prepared(self._weighted_logit_gradient, images, weights)
        self._looks: dict[Loss, Callable[..., Any]] = {}
        self._ends: bool | None = None

    def _prepared(self, function: Callable[..., Any], *signature: tf.TensorSpec) -> Callable[..., Any]:
        """A function of tensors, as quick as the network's framework lets it be."""
        return function

    def digest(self) -> str:
        """SHA-256 (hex) of all that decides what the network computes: its graph and its weights."""
        raise NotImplementedError

    def look(self, x: np.ndarray, y: np.ndarray, loss: Loss = "ce", target: np.ndarray | None = None) -> Seen:
        """Logits, `loss` of each image and its gradient in one pass; `target` are the classes (n,) aimed at."""
        if loss not in self._looks:
            self._looks[loss] = self._look(loss)
        target = y if target is None else target
        return Seen(*_chunked(self._looks[loss], CHUNK, self.inside(x), y, target))

    def inside(self, x: Any) -> Any:
        """Images (n, h, w, c), arrays or tensors; of a model without gradients at the bounds, moved off them."""
        if self._ends is None:
            self._ends = self._ends_at_bounds(np.asarray(x[:MULTIPLE], np.float32))
        return self._moved(x) if self._ends else x

    def _ends_at_bounds(self, x: np.ndarray) -> bool | None:
        """Whether pixels at the bounds have no gradient, and have one beside; None where there are no such pixels."""
        low, high = self.clip_values
        weights = np.random.default_rng(0).normal(size=(len(x), self.nb_classes))
        here, there = (_chunked(self._logit_grad, CHUNK, each, weights) for each in (x, self._moved(x)))
        beside = ((x <= low) | (x >= high)) & (there != 0)
        lost = ~np.isfinite(here[beside]) | (here[beside] == 0)
        return bool(lost.mean() > LOST) if len(lost) else None

    def _moved(self, x: Any) -> Any:
        low, high = map(float, self.clip_values)
        first, last = low + INSIDE * (high - low), high - INSIDE * (high - low)
        where = tf.where if tf.is_tensor(x) else np.where
        return where((x >= low) & (x < first), first, where((x <= high) & (x > last), last, x))

    def _look(self, loss: Loss) -> Callable[..., Any]:
        def look(x: tf.Tensor, y: tf.Tensor, target: tf.Tensor) -> tuple[tf.Tensor, ...]:
            with tf.GradientTape() as tape:
                tape.watch(x)
                logits = self._model(x, training=False)
                each = LOSSES[loss](logits, y, target)
            return logits, each, tape.gradient(each, x, unconnected_gradients=ZERO)

        labels = tf.TensorSpec((None,), tf.int64)
        return self._prepared(look, tf.TensorSpec((None, *self.input_shape), tf.float32), labels, labels)

    def _cross_entropy_gradient(self, x: tf.Tensor, y: tf.Tensor) -> tf.Tensor:
        with tf.GradientTape() as tape:
            tape.watch(x)
            loss = tf.nn.softmax_cross_entropy_with_logits(y, self._model(x, training=False))
        return tape.gradient(loss, x, unconnected_gradients=ZERO)

    def _weighted_logit_gradient(self, x: tf.Tensor, weights: tf.Tensor) -> tf.Tensor:
        with tf.GradientTape() as tape:
            tape.watch(x)
            total = tf.reduce_sum(self._model(x, training=False) * weights)
        return tape.gradient(total, x, unconnected_gradients=ZERO)

    def predict(self, x: np.ndarray, batch_size: int = CHUNK, **_: Any) -> np.ndarray:
        """Logits (n, n_classes) of images (n, h, w, c); `ModelError` for other shapes.

        TensorFlow refuses those too, but never gives back the lock that it took: the next thread would wait for ever.
        """
        if not tf.TensorShape(x.shape[1:]).is_compatible_with(self.input_shape):
            raise ModelError(f"expected images of shape {self.input_shape}, got {tuple(x.shape[1:])}")
        scores = np.asarray(_chunked(self._scores, batch_size, x))
        check_finite(scores)
        return scores

    def labels(self, x: np.ndarray) -> np.ndarray:
        """Predicted classes, int64 (n,)."""
        return self.predict(x).argmax(axis=1).astype(np.int64)

    def loss_gradient(self, x: Any, y: Any, training_mode: bool = False, **_: Any) -> Any:
        """Gradient of each image's cross-entropy; (n, h, w, c), a tensor for a tensor, an array for an array."""
        if training_mode:
            raise ModelError("gradients with dropout on understate an attack: training_mode is not served")
        y = self._one_hot(y)
        return _chunked(self._loss_grad, CHUNK, self.inside(x), y)

    def class_gradient(self, x: np.ndarray, label: Any = None, training_mode: bool = False, **_: Any) -> np.ndarray:
        """Gradients of logits: (n, n_classes, h, w, c), or (n, 1, h, w, c) for one label or a label per image."""
        if training_mode:
            raise ModelError("gradients with dropout on understate an attack: training_mode is not served")
        labels = range(self.nb_classes) if label is None else [label]
        one_hot = np.eye(self.nb_classes, dtype=np.float32)
        rows = [np.broadcast_to(one_hot[np.asarray(k)], (len(x), self.nb_classes)) for k in labels]
        x = self.inside(x)
        return np.stack([np.asarray(_chunked(self._logit_grad, CHUNK, x, weights)) for weights in rows], axis=1)

    def _one_hot(self, y: Any) -> Any:
        if len(y.shape) == 2:
            return y
        return tf.one_hot(y, self.nb_classes) if tf.is_tensor(y) else np.eye(self.nb_classes, dtype=np.float32)[y]


class CompiledClassifier(WhiteBox):
    """A Keras model of logits, compiled."""

    def __init__(self, model: keras.Model, bounds: tuple[float, float] = (0.0, 1.0)) -> None:
        """`model` maps float32 images (n, h, w, c) within `bounds` to logits (n, n_classes)."""
        if len(model.input_shape) != 4 or len(model.output_shape) != 2:
            raise ModelError(f"expected images in, logits out; got {model.input_shape} to {model.output_shape}")
        super().__init__(model, model.input_shape[1:], model.output_shape[-1], bounds)

    def _prepared(self, function: Callable[..., Any], *signature: tf.TensorSpec) -> Callable[..., Any]:
        return tf.function(function, input_signature=signature)

    def digest(self) -> str:
        """SHA-256 (hex) of graph and weights (`digest.digest`)."""
        return digest(self.model)


def _chunked(function: Callable[..., Any], size: int, *arrays: Any) -> Any:
    """`function` over slices of `size` rows; tensors in, tensors out, arrays in, arrays out."""
    if len(arrays[0]) <= size:
        return _filled(function, *arrays)
    starts = range(0, len(arrays[0]), size)
    parts = [_filled(function, *(a[start : start + size] for a in arrays)) for start in starts]
    if isinstance(parts[0], tuple):
        return tuple(np.concatenate(column) for column in zip(*parts, strict=True))
    return tf.concat(parts, axis=0) if tf.is_tensor(arrays[0]) else np.concatenate(parts)


def _filled(function: Callable[..., Any], *arrays: Any) -> Any:
    """`function` of one batch, filled up to a multiple of `MULTIPLE` rows with its first row."""
    limits.check()
    n = len(arrays[0])
    if missing := -n % MULTIPLE if n else 0:
        # In NumPy where it can be: TensorFlow's own functions cost as much as a small network.
        arrays = tuple(_lengthened(a, missing) for a in arrays)
    tensors = [_tensor(a) for a in arrays]
    results = function(*tensors)
    if isinstance(results, tuple):
        return tuple(result.numpy()[:n] for result in results)
    return results[:n] if tf.is_tensor(arrays[0]) else results.numpy()[:n]


def _lengthened(array: Any, by: int) -> Any:
    """With so many copies of its first row at the end."""
    if tf.is_tensor(array):
        return tf.concat([array, tf.repeat(array[:1], by, axis=0)], axis=0)
    return np.concatenate([array, np.repeat(array[:1], by, axis=0)])


def _tensor(array: Any) -> tf.Tensor:
    """Labels stay whole numbers; everything else is float32. Arrays are converted by NumPy, which is quicker."""
    labels = array.ndim == 1
    if tf.is_tensor(array):
        return tf.cast(array, tf.int64 if labels else tf.float32)
    return tf.constant(np.asarray(array, np.int64 if labels else np.float32))
