"""A PyTorch network with weights drawn anew, which can be trained."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from gauntlet.models.pytorch.classifier import TorchClassifier, predicted
from gauntlet.models.pytorch.library import array, tensor
from gauntlet.models.scale import temperature
from gauntlet.threat import Images, Labels

if TYPE_CHECKING:
    import torch


class Fresh:
    """The network of a classifier, trained from other weights than the classifier's, which stay as they are."""

    def __init__(self, like: TorchClassifier, seed: int) -> None:
        """Weights drawn by `seed`; `ModelError` when the network cannot be copied."""
        self._like, network = like, like.logits.network.copied()
        self._logits = replace(like.logits, network=network, temperature=1.0)
        self._state = {name: one for name, one in network.state.items() if one.dtype.is_floating_point}
        draw(self._state, seed)

    def weights(self) -> list[np.ndarray]:
        """As arrays, in an order that is the network's."""
        return [array(one) for one in self._state.values()]

    def set_weights(self, weights: list[np.ndarray]) -> None:
        """Those that `weights` gave."""
        import torch

        with torch.no_grad():
            for one, values in zip(self._state.values(), weights, strict=True):
                one.copy_(tensor(values, one.device))

    def fit(self, x: Images, y: Labels, epochs: int, batch: int, rate: float, begin: Callable[[int], None]) -> None:
        """Adam on the cross-entropy of images (n, h, w, c) in [0, 1]; `begin` is called with each epoch's number."""
        import torch

        learned = [one.requires_grad_() for one in self._state.values() if isinstance(one, torch.nn.Parameter)]
        optimizer, order = torch.optim.Adam(learned, rate), np.random.default_rng(len(x))
        for epoch in range(epochs):
            begin(epoch)
            for rows in np.array_split(order.permutation(len(x)), max(1, len(x) // batch)):
                optimizer.zero_grad()
                images, classes = (tensor(part[rows], self._logits.network.device) for part in (x, y))
                torch.nn.functional.cross_entropy(self._logits(images), classes).backward()
                optimizer.step()
        for one in learned:
            one.requires_grad_(False)

    def classifier(self, x: Images) -> TorchClassifier:
        """To be attacked, its logits at the usual scale by clean images `x`."""
        logits = replace(self._logits, temperature=temperature(predicted(self._logits, x)))
        like = self._like
        return TorchClassifier(logits, like.input_shape, like.nb_classes, like.clip_values)


def draw(state: Mapping[str, torch.Tensor], seed: int) -> None:
    """PyTorch's usual first weights: uniform by the number of inputs; ones and zeros for scales and shifts."""
    import torch

    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, one in state.items():
            if one.ndim > 1:
                bound = (len(one) / one.numel()) ** 0.5
                one.copy_(torch.empty(one.shape).uniform_(-bound, bound, generator=generator))  # alike on any device
            else:
                one.fill_(1.0 if name.endswith(("weight", "var")) else 0.0)
