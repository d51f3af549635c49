"""Training for certificates: the loss of the worst logits that interval bounds allow, inside the compiled step."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from gauntlet.certify.base import refused
from gauntlet.defenses.base import Attacked
from gauntlet.progress import Progress, silent
from gauntlet.training.fit import Trained, Training, train

if TYPE_CHECKING:
    from gauntlet.data.datasets import Dataset
    from gauntlet.models.classifier import CompiledClassifier


class IbpTraining(Attacked):
    """Train on the worst logits within an L∞ budget (Gowal et al. 2018, section 3, equations 12 and 13).

    The budget rises from 0 after a warm-up, and the weight of the clean loss falls from 1 to `kappa` with it, linearly;
    then both stay. Takes networks of Dense, Conv2D, ReLU, pooling, Flatten and Dropout.
    """

    name: Literal["ibp-training"] = "ibp-training"
    epochs: int | None = Field(None, ge=1, le=10_000, description="Passes; five for each of the classifier's")
    kappa: float = Field(0.5, ge=0, le=1, description="Weight of the clean loss at the end")
    warm_up: float = Field(0.1, ge=0, lt=1, description="Share of the steps on clean images alone")
    ramp: float = Field(0.5, gt=0, le=1, description="Share of the steps in which the budget rises")

    def apply(
        self, dataset: Dataset, training: Training, baseline: CompiledClassifier, progress: Progress = silent
    ) -> Trained:
        """One fit from fresh weights, at a budget that rises."""
        usual = training.resolved(len(dataset.x_train))
        longer = usual.model_copy(update={"epochs": self.epochs or 5 * (usual.epochs or 1), "precision": "float32"})
        steps = -(-len(dataset.x_train) // usual.batch_size) * (longer.epochs or 1)
        eps, bounds = self.budget(dataset), dataset.bounds

        def objective(network: Any, x: Any, y: Any, step: Any) -> Any:
            import tensorflow as tf

            risen = tf.clip_by_value((tf.cast(step, tf.float32) / steps - self.warm_up) / self.ramp, 0.0, 1.0)
            clean = network(x, training=True)
            low, high = (tf.clip_by_value(x + sign * risen * eps, *bounds) for sign in (-1.0, 1.0))
            kept = 1 - risen * (1 - self.kappa)
            return kept * _loss(y, clean) + (1 - kept) * _loss(y, worst_logits(network, low, high, y)), clean

        return train(dataset, longer, objective=objective, progress=progress)


def _loss(y: Any, logits: Any) -> Any:
    import tensorflow as tf

    return tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(tf.cast(y, tf.int64), logits))


def worst_logits(network: Any, low: Any, high: Any, y: Any) -> Any:
    """The largest that each logit can be above the true one, (n, n_classes), for images between `low` and `high`.

    By intervals up to the last layer, whose differences are bounded as one ("elision"). `network` is Sequential and
    ends in a Dense layer; raises `ModelError` for a layer that has no bounds here.
    """
    import tensorflow as tf

    *layers, last = network.layers
    for layer in layers:
        low, high = _interval(layer, low, high)
    apart = tf.gather(last.kernel, y, axis=1)[:, :, None] - last.kernel[:, None, :]  # (features, n, classes)
    middle = tf.einsum("nf,fnk->nk", (low + high) / 2, apart)
    radius = tf.einsum("nf,fnk->nk", (high - low) / 2, tf.abs(apart))
    return radius - middle - tf.gather(last.bias, y)[:, None] + last.bias


def _interval(layer: Any, low: Any, high: Any) -> tuple[Any, Any]:
    """Bounds of a layer's values, as tensors that its weights can be trained through."""
    import tensorflow as tf
    from keras import layers as nn

    if isinstance(layer, nn.Dropout):
        return low, high
    if isinstance(layer, nn.Flatten | nn.MaxPooling2D | nn.AveragePooling2D | nn.ReLU):
        return layer(low), layer(high)
    if not isinstance(layer, nn.Dense | nn.Conv2D) or layer.activation.__name__ not in ("relu", "linear"):
        raise refused(layer, "ibp-training has no bounds for it")

    def applied(x: Any, kernel: Any) -> Any:
        if isinstance(layer, nn.Dense):
            return tf.matmul(x, kernel)
        return tf.nn.conv2d(x, kernel, layer.strides, layer.padding.upper(), dilations=layer.dilation_rate)

    middle = applied((low + high) / 2, layer.kernel) + layer.bias
    radius = applied((high - low) / 2, tf.abs(layer.kernel))
    return layer.activation(middle - radius), layer.activation(middle + radius)
