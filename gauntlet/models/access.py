"""What an attacker sees of a model, and the one interface that every attacked model has."""

from __future__ import annotations

from typing import Any, Literal, Protocol

from gauntlet.threat import Images, Labels

Access = Literal["gradients", "scores", "labels"]
"""From most to least: logits with their gradients, a score per class, the predicted class alone."""
ORDER: tuple[Access, ...] = ("labels", "scores", "gradients")


class Target(Protocol):
    """A model under attack: images (n, h, w, c) within `clip_values` in, scores (n, nb_classes) out."""

    access: Access
    nb_classes: int
    input_shape: tuple[int, ...]
    clip_values: tuple[float, float]

    def predict(self, x: Images, **_: Any) -> Images:
        """Scores, float32 (n, nb_classes): the largest is the predicted class."""

    def labels(self, x: Images) -> Labels:
        """Predicted classes, int64 (n,)."""


def suffices(has: Access, needs: Access) -> bool:
    """Whether a model that shows `has` can be attacked by what needs `needs`."""
    return ORDER.index(has) >= ORDER.index(needs)
