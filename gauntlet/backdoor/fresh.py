"""Networks that are trained afresh: what a reference needs of them, and those of Keras."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

import numpy as np

from gauntlet.threat import Images, Labels

if TYPE_CHECKING:
    import keras

    from gauntlet.models.classifier import WhiteBox


class Fresh(Protocol):
    """A network with weights of its own that can be trained."""

    def weights(self) -> list[np.ndarray]:
        """As arrays."""

    def set_weights(self, weights: list[np.ndarray]) -> None:
        """Those that `weights` gave."""

    def fit(self, x: Images, y: Labels, epochs: int, batch: int, rate: float, begin: Callable[[int], None]) -> None:
        """Adam on the cross-entropy; `begin` is called with each epoch's number."""

    def classifier(self, x: Images) -> WhiteBox:
        """To be scanned, its logits at the usual scale by clean images."""


class KerasFresh:
    """A Keras network that was built without weights."""

    def __init__(self, build: Callable[[], keras.Model], seed: int, bounds: tuple[float, float]) -> None:
        """Its first weights, and the order of its training images, come from `seed`."""
        import keras

        keras.utils.set_random_seed(seed)
        self._model, self._bounds = build(), bounds

    def weights(self) -> list[np.ndarray]:
        """As Keras gives them."""
        arrays: list[np.ndarray] = self._model.get_weights()
        return arrays

    def set_weights(self, weights: list[np.ndarray]) -> None:
        """As Keras takes them."""
        self._model.set_weights(weights)

    def fit(self, x: Images, y: Labels, epochs: int, batch: int, rate: float, begin: Callable[[int], None]) -> None:
        """Compiled for it."""
        import keras

        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        said = keras.callbacks.LambdaCallback(on_epoch_begin=lambda epoch, _: begin(epoch))
        self._model.compile(keras.optimizers.Adam(rate), loss)
        self._model.fit(x, y, batch_size=batch, epochs=epochs, callbacks=[said], verbose=0)

    def classifier(self, x: Images) -> WhiteBox:
        """Compiled."""
        from gauntlet.models.classifier import CompiledClassifier
        from gauntlet.models.scale import divided, temperature

        divisor = temperature(CompiledClassifier(self._model, self._bounds).predict(x))
        return CompiledClassifier(divided(self._model, divisor), self._bounds)
