"""A variational autoencoder of images, and a classifier of its reconstructions.

The saved model consists of plain Keras layers, so that it loads without this package.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from gauntlet.progress import Progress, silent
from gauntlet.threat import Images
from gauntlet.training.loop import run_epochs

if TYPE_CHECKING:
    import keras

    from gauntlet.training.loop import Step

Sampling = Literal["mean", "average"]


class Autoencoder:
    """Pixels, hidden, latent, hidden, pixels; a Gaussian code (Kingma & Welling 2014, appendix C.2).

    Weights come from Keras' global generator: seed it before.
    """

    def __init__(self, input_shape: tuple[int, int, int], hidden: int, latent: int) -> None:
        """Untrained, for float32 images (n, *input_shape) in [0, 1]."""
        import keras
        from keras import layers as nn

        self.input_shape, self.latent = input_shape, latent
        self._encode = nn.Dense(hidden, activation="relu", name="encode")
        self._mean = nn.Dense(latent, name="mean")
        # The deviation itself: its logarithm would need an exponential that no plain layer has.
        self._deviation = nn.Dense(latent, activation="exponential", name="deviation")
        self._decode = nn.Dense(hidden, activation="relu", name="decode")
        self._pixels = nn.Dense(int(np.prod(input_shape)), activation="sigmoid", name="pixels")
        images, code = keras.Input(input_shape), keras.Input((latent,))
        self.encoder = keras.Model(images, self._code(images), name="encoder")
        self.decoder = keras.Model(code, self._image(code), name="decoder")

    def _code(self, images: Any) -> tuple[Any, Any]:
        """Mean and standard deviation of the code, (n, latent) each."""
        from keras import layers as nn

        hidden = self._encode(nn.Flatten(name="flatten")(images))
        return self._mean(hidden), self._deviation(hidden)

    def _image(self, code: Any) -> Any:
        """Flat pixels (..., h * w * c) of codes (..., latent)."""
        return self._pixels(self._decode(code))

    def fit(
        self,
        x: Images,
        *,
        epochs: int,
        batch_size: int,
        learning_rate: float,
        kl_weight: float = 1.0,
        seed: int,
        progress: Progress = silent,
    ) -> dict[str, list[float]]:
        """Train on images (n, h, w, c): squared error summed over pixels plus `kl_weight` times the divergence.

        With a weight of 1 that is the bound of a Gaussian decoder of variance 1/2 (Kingma & Welling 2014, eq. 10).
        Returns `loss` and its two parts, one value an epoch.
        """
        settings: dict[str, Any] = {"epochs": epochs, "batch_size": batch_size, "seed": seed, "progress": progress}
        return run_epochs(self._step(learning_rate, kl_weight), x, **settings)

    def _step(self, learning_rate: float, kl_weight: float) -> Step:
        """One compiled step of Adam."""
        import keras
        import tensorflow as tf

        variables = self.encoder.trainable_variables + self.decoder.trainable_variables
        optimizer = keras.optimizers.Adam(learning_rate)
        optimizer.build(variables)
        images, seed = tf.TensorSpec((None, *self.input_shape), tf.float32), tf.TensorSpec((2,), tf.int64)

        @tf.function(input_signature=[images, seed])
        def step(x: Any, seed: Any) -> dict[str, Any]:
            with tf.GradientTape() as tape:
                error, divergence = self._losses(x, seed)
                loss = error + kl_weight * divergence
            optimizer.apply(tape.gradient(loss, variables), variables)
            return {"loss": loss, "reconstruction_loss": error, "kl_loss": divergence}

        return step

    def _losses(self, x: Any, seed: Any) -> tuple[Any, Any]:
        """Squared error and divergence from the prior, each summed in an image and averaged over images."""
        import tensorflow as tf

        mean, deviation = self.encoder(x, training=True)
        code = mean + deviation * tf.random.stateless_normal(tf.shape(mean), seed)
        error = tf.square(tf.reshape(x, (tf.shape(x)[0], -1)) - self.decoder(code, training=True))
        divergence = 0.5 * (tf.square(mean) + tf.square(deviation) - 1 - 2 * tf.math.log(deviation))
        return tf.reduce_mean(tf.reduce_sum(error, axis=1)), tf.reduce_mean(tf.reduce_sum(divergence, axis=1))

    def reconstruction(self, sampling: Sampling = "mean", samples: int = 1, seed: int = 0) -> keras.Model:
        """Images (n, h, w, c) to images: of the code's mean, or the average over `samples` drawn codes.

        The draws are made here, once: the model is deterministic, and who attacks it white-box knows them.
        """
        import keras
        from keras import layers as nn

        images = keras.Input(self.input_shape)
        mean, deviation = self._code(images)
        if sampling == "mean":
            pixels = self._image(mean)
        else:
            pixels = nn.GlobalAveragePooling1D(name="average")(self._image(self._draws(mean, deviation, samples, seed)))
        return keras.Model(images, nn.Reshape(self.input_shape, name="images")(pixels), name="reconstruction")

    def _draws(self, mean: Any, deviation: Any, samples: int, seed: int) -> Any:
        """Codes (n, samples, latent): each draw is a diagonal block of a plain layer's fixed weights."""
        from keras import layers as nn

        noise = np.random.default_rng(seed).standard_normal((samples, self.latent)).astype(np.float32)
        spread = nn.Dense(samples * self.latent, use_bias=False, trainable=False, name="draws")
        scattered = nn.Reshape((samples, self.latent), name="codes")(spread(deviation))
        spread.set_weights([np.concatenate([np.diag(draw) for draw in noise], axis=1)])
        return nn.Add(name="drawn")([nn.RepeatVector(samples, name="means")(mean), scattered])


def behind(reconstruction: keras.Model, classifier: keras.Model) -> keras.Model:
    """Images, their reconstruction, logits: one model, whose gradient passes through both parts.

    The classifier is copied, the given one stays as it is.
    """
    import keras

    copy = keras.models.clone_model(classifier)
    copy.set_weights(classifier.get_weights())
    images = keras.Input(reconstruction.input_shape[1:])
    return keras.Model(images, copy(reconstruction(images)), name="vae_reconstruction")
