"""Training images moved and mirrored at random, a batch at a time, inside the compiled step."""

from __future__ import annotations

from typing import Any, Literal

Augmentation = Literal["none", "shift", "flip-shift"]
REACH = 8
"""Images move by up to this fraction of their side, 1 / REACH, in both directions: 4 of 32 pixels (He et al. 2016)."""


def augmented(x: Any, kind: Augmentation) -> Any:
    """Images (b, h, w, c), each moved by whole pixels, its edge reflected; `flip-shift` mirrors half of them too.

    Mirrored photographs stay what they are, mirrored digits and letters do not.
    """
    import tensorflow as tf

    if kind == "none":
        return x
    n, height, width = (tf.shape(x)[place] for place in range(3))
    down, right = _steps(n, height), _steps(n, width)
    mirrored = tf.cast(tf.random.uniform((n,)) < 0.5, tf.float32) * float(kind == "flip-shift")
    last = tf.cast(width - 1, tf.float32)
    none, one = tf.zeros((n,)), tf.ones((n,))
    # from a place in the new image to the place it is taken from
    rows = [one - 2 * mirrored, none, right + last * mirrored, none, one, down, none, none]
    return tf.raw_ops.ImageProjectiveTransformV3(
        images=x,
        transforms=tf.stack(rows, axis=1),
        output_shape=tf.stack([height, width]),
        fill_value=0.0,
        interpolation="NEAREST",
        fill_mode="REFLECT",
    )


def _steps(n: Any, side: Any) -> Any:
    """A whole number of pixels for each image."""
    import tensorflow as tf

    most = side // REACH
    return tf.cast(tf.random.uniform((n,), -most, most + 1, tf.int32), tf.float32)
