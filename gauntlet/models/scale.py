"""The scale of logits: it changes no decision, and it must not change what an attack finds.

Cross-entropy weighs the wrong classes by softmax(logits). With tiny logits all classes weigh the same, with huge ones
the true class's share is rounded to one and the gradient to nothing (Carlini & Wagner 2016). Dividing all logits by one
temperature, fixed on clean images before any attack, makes a model and its scaled copy the same model.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from gauntlet.threat import Labels

if TYPE_CHECKING:
    import keras

GAP = 8.0
"""The median gap between the two largest logits of clean images that every model is brought to. Trained networks come
with 5 to 20; gradient attacks are strongest there."""
STEPS = 10
"""Temperatures a decade: models within 12 % of `GAP`, most trained ones, stay as they are."""


def temperature(logits: np.ndarray) -> float:
    """What to divide logits (n, k) of clean images by, one of ten steps a decade; 1 where no two differ."""
    runner_up, best = np.partition(logits.astype(np.float64), -2, axis=1)[:, -2:].T
    gap = float(np.median(best - runner_up))
    if not gap > 0:
        return 1.0
    return float(10 ** (round(STEPS * np.log10(gap / GAP)) / STEPS))


def divided(model: keras.Model, temperature: float) -> keras.Model:
    """`model` with its logits divided by `temperature`."""
    import keras

    if temperature == 1.0:
        return model
    return keras.Model(model.inputs[0], keras.layers.Rescaling(1 / temperature)(model.outputs[0]))


def calibrated(scores: np.ndarray, y: Labels) -> NDArray[np.float64]:
    """Cross-entropies in nats, (n,), of scores (n, k) at the temperature of the lowest mean (Guo et al. 2017, 4.2)."""
    from scipy.optimize import minimize_scalar
    from scipy.special import logsumexp

    wide = scores.astype(np.float64)
    relative = wide - wide[np.arange(len(y)), y][:, None]
    unit = float(np.abs(relative).mean()) or 1.0

    def losses(power: float) -> NDArray[np.float64]:
        return np.asarray(logsumexp(relative / unit * np.exp(power), axis=1))

    best = minimize_scalar(lambda power: float(losses(power).mean()), bounds=(-10, 10), method="bounded")
    return losses(best.x)
