"""The models of `benchmarks/zoo.py`: honest ones in every dress, and ones that hide what breaks them."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from gauntlet.data.datasets import Dataset
from gauntlet.defenses.training import defense
from gauntlet.models.classifier import CompiledClassifier
from gauntlet.threat import Images, Labels
from gauntlet.validity import canaries
from gauntlet.validity.canaries import before, behind

nn, ops = keras.layers, keras.ops
DENSE, CONVOLUTIONS = 0.05, 0.1
"""L∞ budgets at which a good share of such networks' images is broken, and a good share is not."""
EPOCHS = 6
"""Of 3,000 images and more; as many steps on fewer."""
HOT = 20.0
"""Temperature of the distillation (Papernot et al. 2016)."""


@dataclass(frozen=True)
class Home:
    """A data set, and the honest network that several models are made of."""

    dataset: Dataset

    @cached_property
    def base(self) -> keras.Model:
        """A small convolutional network."""
        return self.fit(convolutional())

    def fit(self, layers: Sequence[keras.Layer], loss: Any = None, y: Any = None, scale: float = 1.0) -> keras.Model:
        """Train a stack of layers and a last one of the classes' scores; cross-entropy where no loss is given."""
        data = self.dataset
        keras.utils.set_random_seed(0)
        stack = [keras.Input(data.input_shape), *layers, nn.Dense(data.n_classes)]
        model = keras.Sequential(stack)
        fitted = model if scale == 1 else keras.Sequential([model, nn.Rescaling(scale)])
        fitted.compile("adam", loss or keras.losses.SparseCategoricalCrossentropy(from_logits=True))
        epochs = max(EPOCHS, round(EPOCHS * 3_000 / len(data.x_train)))
        labels = data.y_train if y is None else y
        fitted.fit(data.x_train, labels, batch_size=64, epochs=epochs, verbose=0)
        return model

    @property
    def one_hot(self) -> Images:
        """Labels as rows (n, classes)."""
        return np.eye(self.dataset.n_classes, dtype=np.float32)[self.dataset.y_train]


@dataclass(frozen=True)
class Entry:
    """A model of the zoo, the budget that it is judged at, and what the judgement must be."""

    make: Callable[[Home], keras.Model]
    eps: float
    honest: bool = True
    bare: Callable[[Home], keras.Model] | None = None
    """The same model with gradients that lead somewhere, for the far stronger attack; None where its own do."""
    home: Callable[[Dataset], Dataset] | None = None
    """Another data set, made of the usual one."""
    stated: Mapping[str, Any] = field(default_factory=dict)
    """What is said of the model, and wrong."""


# --- honest ---------------------------------------------------------------------------------------------------


def convolutional(activation: str = "relu") -> list[keras.Layer]:
    """Two convolutions, and one dense layer."""
    first, second = (nn.Conv2D(width, 3, strides=2, activation=activation) for width in (16, 32))
    return [first, second, nn.Flatten(), nn.Dense(64, activation)]


def dense(width: int, depth: int, activation: str = "relu", sparse: float = 0.0) -> list[keras.Layer]:
    """Dense layers; with `sparse`, the weight of their activity in the loss, only few units are active."""
    penalty = keras.regularizers.L1(sparse) if sparse else None
    return [nn.Flatten(), *(nn.Dense(width, activation, activity_regularizer=penalty) for _ in range(depth))]


def squared_error(depth: int, sparse: float) -> Callable[[Home], keras.Model]:
    """784–256×depth–10, trained with squared error on one-hot labels: outputs like 0.98, 0.01."""
    return lambda home: home.fit(dense(256, depth, sparse=sparse), "mse", home.one_hot)


def batch_norm(home: Home) -> keras.Model:
    """Normalised after each convolution."""
    body = [nn.Conv2D(16, 3, strides=2), nn.BatchNormalization(), nn.ReLU()]
    return home.fit([*body, nn.Conv2D(32, 3, strides=2), nn.BatchNormalization(), nn.ReLU(), nn.Flatten()])


def scaled(factor: float) -> Callable[[Home], keras.Model]:
    """The base with logits of another size."""
    return lambda home: behind(home.base, lambda logits: factor * logits)


def smoothed_labels(home: Home) -> keras.Model:
    """Trained with a tenth of the label spread over all classes (Szegedy et al. 2016)."""
    loss = keras.losses.CategoricalCrossentropy(from_logits=True, label_smoothing=0.1)
    return home.fit(convolutional(), loss, home.one_hot)


def distilled(home: Home) -> keras.Model:
    """Defensive distillation at temperature 20, used at 1: logits twenty times as large (Papernot et al. 2016)."""
    teacher = home.fit(convolutional(), scale=1 / HOT)
    soft = tf.nn.softmax(teacher.predict(home.dataset.x_train, verbose=0) / HOT).numpy()
    return home.fit(convolutional(), keras.losses.CategoricalCrossentropy(from_logits=True), soft, 1 / HOT)


def trained_by(text: str) -> Callable[[Home], keras.Model]:
    """The data set's usual network of a defense."""
    from gauntlet.training.fit import Training, train

    def make(home: Home) -> keras.Model:
        training = Training(architecture="cnn5x5", batch_size=64, epochs=EPOCHS)
        start = CompiledClassifier(train(home.dataset, training).model)
        return defense(text).apply(home.dataset, training, start).model

    return make


def two_classes(data: Dataset) -> Dataset:
    """Threes and fives alone."""

    def cut(x: Images, y: Labels) -> tuple[Images, Labels]:
        rows = np.isin(y, (3, 5))
        return x[rows], (y[rows] == 5).astype(np.int64)

    return _with(data, cut, ("3", "5"))


def hundred_classes(data: Dataset) -> Dataset:
    """Two digits side by side, the left one the tens."""

    def pair(x: Images, y: Labels) -> tuple[Images, Labels]:
        n = 10_000 if len(x) >= 1_000 else 1_000
        left, right = np.random.default_rng(0).integers(len(x), size=(2, n))
        return np.concatenate([x[left], x[right]], axis=2), 10 * y[left] + y[right]

    return _with(data, pair, tuple(str(k) for k in range(100)))


def _with(data: Dataset, change: Callable[[Images, Labels], tuple[Images, Labels]], names: tuple[str, ...]) -> Dataset:
    train, test = change(data.x_train, data.y_train), change(data.x_test, data.y_test)
    return replace(data, x_train=train[0], y_train=train[1], x_test=test[0], y_test=test[1], class_names=names)


def binarised(home: Home) -> keras.Model:
    """Trained on black and white images, behind a step that makes every image so: its gradient is zero."""
    data = home.dataset
    black = Home(replace(data, x_train=np.round(data.x_train), x_test=np.round(data.x_test)))
    return before(black.base, lambda x: ops.cast(x > 0.5, "float32") + 0.0 * x)


def binarised_bare(home: Home) -> keras.Model:
    """The same with the gradient let straight through (Bengio et al. 2013; Athalye et al. 2018, BPDA)."""
    inner = binarised(home).layers[-1]
    return before(inner, lambda x: x + ops.stop_gradient(ops.cast(x > 0.5, "float32") - x))


# --- broken ---------------------------------------------------------------------------------------------------


def sign_bare(model: keras.Model) -> keras.Model:
    """`canaries.sign_activation` with the slope of a tanh."""
    hidden = model.layers[-1].input
    soft = ops.tanh(hidden)
    return keras.Model(model.inputs[0], model.layers[-1](soft + ops.stop_gradient(ops.sign(hidden) - soft)))


class Winners(keras.Layer):
    """k-winners-take-all (Xiao et al. 2020): all but the largest tenth of the units are zero."""

    def __init__(self, share: float = 0.1, *, bare: bool = False) -> None:
        super().__init__()
        self.share, self.bare = share, bare

    def call(self, x: Any) -> Any:
        """With `bare`, the gradient reaches the losers as well."""
        units = math.prod(x.shape[1:])
        flat, k = ops.reshape(x, (-1, units)), max(1, round(self.share * units))
        least = tf.math.top_k(flat, k).values[:, -1:]
        kept = flat * ops.stop_gradient(ops.cast(flat >= least, flat.dtype))
        return ops.reshape(flat + ops.stop_gradient(kept - flat) if self.bare else kept, (-1, *x.shape[1:]))


def winners(home: Home, *, bare: bool = False) -> keras.Model:
    """Such a layer after each convolution and the dense layer."""
    first, second = (nn.Conv2D(width, 3, strides=2) for width in (16, 32))
    model = home.fit([first, Winners(), second, Winners(), nn.Flatten(), nn.Dense(64), Winners()])
    if not bare:
        return model
    layers = [Winners(bare=True) if isinstance(layer, Winners) else layer for layer in model.layers]
    return keras.Sequential([keras.Input(home.dataset.input_shape), *layers])


def random_resize(home: Home) -> keras.Model:
    """Shown at a random size and place (Xie et al. 2018)."""

    def resized(x: Any) -> Any:
        height, width = x.shape[1:3]
        size = tf.random.uniform((), height - 6, height + 1, tf.int32)
        small = tf.image.resize(x, (size, size + width - height))
        top, left = (tf.random.uniform((), 0, height - size + 1, tf.int32) for _ in range(2))
        return tf.ensure_shape(tf.image.pad_to_bounding_box(small, top, left, height, width), x.shape)

    return before(home.base, resized)


def committee(home: Home) -> keras.Model:
    """Three networks that hide their gradients and decide, and one that shows a gradient and hardly counts."""
    return committee_of([home.fit(convolutional(name)) for name in ("relu", "elu", "tanh")], home.fit(dense(32, 1)))


def committee_of(members: Sequence[keras.Model], decoy: keras.Model) -> keras.Model:
    """Three times each member's scores, without a gradient, and a hundredth of the decoy's."""
    shape = decoy.input_shape[1:]
    images = keras.Input(shape)
    hidden = nn.Lambda(ops.stop_gradient, output_shape=shape)(images)
    return keras.Model(images, nn.Add()([*(3.0 * member(hidden) for member in members), 0.01 * decoy(images)]))


def committee_bare(home: Home) -> keras.Model:
    """Those three as they are."""
    images = keras.Input(home.dataset.input_shape)
    return keras.Model(images, nn.Add()([home.fit(convolutional(name))(images) for name in ("relu", "elu", "tanh")]))


def saturated(home: Home) -> keras.Model:
    """The mean of three networks' probabilities, each so sure that its softmax has no gradient in float32."""
    images = keras.Input(home.dataset.input_shape)
    others = [home.fit(convolutional(name)) for name in ("relu", "elu", "tanh")]
    return keras.Model(images, nn.Average()([nn.Softmax()(100.0 * other(images)) for other in others]))


def _roughness(x: Any) -> Any:
    """The mean squared difference of neighbours, (n, 1)."""
    down, right = x[:, 1:] - x[:, :-1], x[:, :, 1:] - x[:, :, :-1]
    return ops.mean(down**2, axis=(1, 2)) + ops.mean(right**2, axis=(1, 2))


def detector(home: Home) -> keras.Model:
    """Images rougher than clean ones are rejected: the answer is that of the image made smooth and black and white."""
    limit = float(np.quantile(_roughness(home.dataset.x_train[:1_000]).numpy().max(axis=-1), 0.99))
    images = keras.Input(home.dataset.input_shape)

    def seen(x: Any) -> Any:
        calm = ops.cast(ops.average_pool(x, 3, 1, "same") > 0.45, "float32")
        rough = ops.max(_roughness(x), axis=-1)[:, None, None, None] > limit
        return ops.where(rough, ops.stop_gradient(calm), x)

    return keras.Model(images, home.base(nn.Lambda(seen, output_shape=home.dataset.input_shape)(images)))


def rejecting(home: Home) -> keras.Model:
    """The same detector, which answers with the scores of no image at all: no gradient, and always one class."""
    limit = float(np.quantile(_roughness(home.dataset.x_train[:1_000]).numpy().max(axis=-1), 0.99))
    images, k = keras.Input(home.dataset.input_shape), home.dataset.n_classes

    def answered(given: Any) -> Any:
        x, logits = given
        rough = ops.max(_roughness(x), axis=-1)[:, None] > limit
        return ops.where(rough, 10 * ops.one_hot(ops.zeros_like(logits[:, 0], dtype="int32"), k), logits)

    return keras.Model(images, nn.Lambda(answered, output_shape=(k,))([images, home.base(images)]))


def _base(home: Home) -> keras.Model:
    return home.base


def _canary(name: str) -> Callable[[Home], keras.Model]:
    return lambda home: canaries.CANARIES[name].build(home.base)


STATED = {"outputs": "logits", "input_range": "0..1"}
HONEST: dict[str, Entry] = {
    "convolutional": Entry(_base, CONVOLUTIONS),
    "squared-error-256x2": Entry(squared_error(2, 0.0), DENSE),
    "squared-error-256x2-sparse": Entry(squared_error(2, 1e-4), DENSE),
    "squared-error-256x6-sparse": Entry(squared_error(6, 3e-5), DENSE),
    "sigmoid": Entry(lambda home: home.fit(dense(128, 2, "sigmoid")), DENSE),
    "tanh": Entry(lambda home: home.fit(convolutional("tanh")), DENSE),
    "batch-norm": Entry(batch_norm, DENSE),
    "logits-x-0.001": Entry(scaled(1e-3), CONVOLUTIONS),
    "logits-x-1000": Entry(scaled(1e3), CONVOLUTIONS),
    "label-smoothing": Entry(smoothed_labels, CONVOLUTIONS),
    "distilled": Entry(distilled, CONVOLUTIONS),
    "ibp-trained": Entry(trained_by("ibp-training:eps=0.1"), CONVOLUTIONS),
    "pgd-trained": Entry(trained_by("pgd-training:eps=0.1"), CONVOLUTIONS),
    "two-classes": Entry(_base, CONVOLUTIONS, home=two_classes),
    "hundred-classes": Entry(lambda home: home.fit(dense(256, 2)), DENSE / 2, home=hundred_classes),
    "binarising-at-0.05": Entry(binarised, 0.05, bare=binarised_bare),
}
BROKEN: dict[str, Entry] = {
    **{name: Entry(_canary(name), CONVOLUTIONS, False, _base, stated=STATED) for name in canaries.CANARIES},
    "sign-activation": Entry(_canary("sign-activation"), CONVOLUTIONS, False, lambda home: sign_bare(home.base)),
    "binarising-at-0.45": Entry(binarised, 0.45, False, binarised_bare),
    "k-winners": Entry(winners, CONVOLUTIONS, False, lambda home: winners(home, bare=True)),
    "random-resize": Entry(random_resize, CONVOLUTIONS, False, _base),
    "committee": Entry(committee, CONVOLUTIONS, False, committee_bare),
    "saturated-committee": Entry(saturated, CONVOLUTIONS, False, committee_bare),
    "detector-that-smooths": Entry(detector, CONVOLUTIONS, False, _base),
    "detector-that-rejects": Entry(rejecting, CONVOLUTIONS, False, _base),
}
