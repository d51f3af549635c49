"""A PyTorch network under attack: TensorFlow keeps the losses, PyTorch the network, gradients cross between them.

Losses and libraries see a function of tensors that brings its own gradient, so that there is one of each. What crosses
is a batch of images and a batch of logits: copies that cost next to nothing beside the network.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import tensorflow as tf

from gauntlet.models.adapter import Expects
from gauntlet.models.classifier import WhiteBox
from gauntlet.models.losses import LOSSES, Loss
from gauntlet.models.outputs import EDGE, PROBABILITIES, SIGMOID, TANH
from gauntlet.models.pytorch.library import array, tensor
from gauntlet.models.pytorch.network import Network
from gauntlet.threat import Images

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class Logits:
    """Images (n, h, w, c) in [0, 1] to logits (n, k): the network, and what stands before and behind it."""

    network: Network
    output: str
    way: Expects
    squashed: str = ""
    """How the scores are still squashed, so that they are inverted: probabilities, sigmoid or tanh."""
    temperature: float = 1.0

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        """For images and their gradient."""
        import torch

        scores = self.network.scores(self.given(x), self.output)
        scores = _inverted(scores, self.squashed) / self.temperature
        return torch.cat([torch.zeros_like(scores), scores], dim=1) if scores.shape[1] == 1 else scores

    def given(self, x: torch.Tensor) -> torch.Tensor:
        """Images (n, h, w, c) in [0, 1] as the network takes them."""
        scale, offset = (tensor(part, x.device) for part in self.way.channels.scaling(self.way.input_range))
        x = (x.flip(-1) if self.way.channels.bgr else x) * scale + offset
        x = x.permute(0, 3, 1, 2) if self.way.layout == "chw" else x
        return x.flatten(1) if self.way.layout == "flat" else x.contiguous()

    def digest(self) -> str:
        """SHA-256 (hex) over the network and all that stands around it."""
        around = f"{self.output} {self.way} {self.squashed} {self.temperature!r}"
        return hashlib.sha256(f"{self.network.digest()} {around}".encode()).hexdigest()


def _inverted(scores: torch.Tensor, kind: str) -> torch.Tensor:
    """`outputs.inverted`, with its gradient."""
    if kind == PROBABILITIES and scores.shape[1] > 1:
        return scores.clamp(min=1e-30).log()
    if kind not in (PROBABILITIES, SIGMOID, TANH):
        return scores
    share = ((scores + 1) / 2 if kind == TANH else scores).clamp(EDGE, 1 - EDGE)
    return share.log() - (1 - share).log()


class TorchClassifier(WhiteBox):
    """A PyTorch network of logits; it runs eagerly, where its weights are."""

    def __init__(
        self, logits: Logits, input_shape: tuple[int, ...], nb_classes: int, bounds: tuple[float, float] = (0.0, 1.0)
    ) -> None:
        """`logits` maps float32 images (n, *input_shape) within `bounds` to (n, nb_classes)."""
        self.logits = logits
        super().__init__(_Differentiable(logits), input_shape, nb_classes, bounds)
        self._scores = lambda x: tf.constant(predicted(logits, x.numpy()))

    def _look(self, loss: Loss) -> Callable[..., Any]:
        """The loss and its slope by the logits are compiled; the network is asked once."""
        slope = tf.function(_slope(loss), reduce_retracing=True)

        def look(x: tf.Tensor, y: tf.Tensor, target: tf.Tensor) -> tuple[tf.Tensor, ...]:
            answer = _Answer(self.logits, x.numpy())
            each, towards = slope(answer.scores, y, target)
            return answer.scores, each, tf.constant(answer.pulled(towards.numpy()))

        return look

    def digest(self) -> str:
        """SHA-256 (hex) of graph or code, weights, and what stands around the network."""
        return self.logits.digest()


def _slope(loss: Loss) -> Callable[..., Any]:
    def slope(logits: tf.Tensor, y: tf.Tensor, target: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        with tf.GradientTape() as tape:
            tape.watch(logits)
            each = LOSSES[loss](logits, y, target)
        return each, tape.gradient(each, logits)

    return slope


def predicted(logits: Logits, x: Images) -> Images:
    """Logits (n, k) of images (n, h, w, c), without gradients."""
    import torch

    with torch.no_grad():
        return array(logits(tensor(x, logits.network.device)))


class _Answer:
    """Logits of a batch, from which gradients can be pulled back to the images."""

    def __init__(self, logits: Logits, x: Images) -> None:
        import torch

        self._images = tensor(x, logits.network.device).requires_grad_()
        with torch.enable_grad():
            self._scores = logits(self._images)
        self.scores = tf.constant(array(self._scores))

    def pulled(self, towards: Images) -> Images:
        """The gradient (n, h, w, c) of the logits weighted by `towards` (n, k); zeros where nothing connects them."""
        import torch

        gradient = None
        if self._scores.requires_grad:
            given = tensor(towards, self._scores.device)
            (gradient,) = torch.autograd.grad(self._scores, self._images, given, retain_graph=True, allow_unused=True)
        return np.zeros(self._images.shape, np.float32) if gradient is None else array(gradient)


class _Differentiable:
    """A network as a function of TensorFlow's tensors that brings its gradient, for those who differentiate it."""

    def __init__(self, logits: Logits) -> None:
        self._logits = logits

    def __call__(self, x: tf.Tensor, training: bool = False) -> tf.Tensor:
        @tf.custom_gradient
        def crossing(x: tf.Tensor) -> Any:
            answer = _Answer(self._logits, x.numpy())
            return answer.scores, lambda towards: tf.constant(answer.pulled(towards.numpy()))

        logits: tf.Tensor = crossing(x)
        return logits
