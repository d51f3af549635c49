"""Attacks of other libraries, in batches of ours."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from gauntlet.attacks.base import Crafted
from gauntlet.attacks.streams import Rows
from gauntlet.errors import SettingError
from gauntlet.threat import Images, Labels

if TYPE_CHECKING:
    from gauntlet.models.classifier import WhiteBox

Library = Literal["art", "foolbox"]


def foolbox_images(
    kind: str | Callable[..., Any],
    model: WhiteBox,
    x: Images,
    aims: Labels,
    eps: float | None,
    *,
    seed: int = 0,
    repeats: int = 1,
    targeted: bool = False,
    **settings: Any,
) -> Crafted:
    """Images of Foolbox's attack `kind`, chunk by chunk: it takes tensors and keeps all it is given in memory.

    `aims` are the true classes, or the classes aimed at if `targeted`; without `eps` the smallest perturbation found.
    """
    import tensorflow as tf

    foolbox = import_foolbox()
    # The classifier's own compiled function: a fresh one would be traced again for every shard of images.
    counted = _Counted(model._logits)
    wrapped = foolbox.TensorFlowModel(counted, bounds=model.clip_values)
    attack = (getattr(foolbox.attacks, kind) if isinstance(kind, str) else kind)(**settings)
    attack = attack if repeats == 1 else attack.repeat(repeats)
    goal = foolbox.TargetedMisclassification if targeted else foolbox.Misclassification
    # Its starts come from TensorFlow's global generator.
    tf.random.set_seed(seed)
    images, calls = np.empty_like(x), np.zeros(len(x), np.int64)
    for rows in _chunks(len(x)):
        before = counted.calls
        labels = goal(tf.constant(aims[rows], tf.int64))
        made = attack(wrapped, tf.constant(x[rows]), labels, epsilons=eps)[1]
        images[rows], calls[rows] = made.numpy(), counted.calls - before
    return Crafted(images, calls)


class _Counted:
    """Logits, and how often they were asked for; a gradient asks once."""

    def __init__(self, logits: Callable[[Any], Any]) -> None:
        self._logits, self.calls = logits, 0

    def __call__(self, x: Any) -> Any:
        self.calls += 1
        return self._logits(x)


def _chunks(n: int) -> list[Rows]:
    """`n` rows in chunks, each filled up with its first row: see `MULTIPLE`."""
    from gauntlet.models.classifier import CHUNK, MULTIPLE

    chunks = [np.arange(start, min(start + CHUNK, n)) for start in range(0, n, CHUNK)]
    return [np.concatenate([rows, np.full(-len(rows) % MULTIPLE, rows[0])]) for rows in chunks]


def import_foolbox() -> Any:
    """Foolbox; `SettingError` where it is not installed."""
    try:
        import foolbox
    except ImportError as error:
        fix = "pip install -r requirements.txt -c constraints.txt"
        raise SettingError("Foolbox is not installed", where="library", fix=fix) from error
    return foolbox
