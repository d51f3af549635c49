"""Attacks of other libraries, in batches of ours."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from gauntlet.errors import SettingError
from gauntlet.threat import Images, Labels

if TYPE_CHECKING:
    from gauntlet.classifier import CompiledClassifier

Library = Literal["art", "foolbox"]


def foolbox_images(
    kind: str,
    model: CompiledClassifier,
    x: Images,
    aims: Labels,
    eps: float | None,
    *,
    seed: int = 0,
    repeats: int = 1,
    targeted: bool = False,
    **settings: Any,
) -> Images:
    """Images of Foolbox's attack `kind`, chunk by chunk: it takes tensors and keeps all it is given in memory.

    `aims` are the true classes, or the classes aimed at if `targeted`; without `eps` the smallest perturbation found.
    """
    import tensorflow as tf

    from gauntlet.classifier import CHUNK

    foolbox = _import_foolbox()
    # The classifier's own compiled function: a fresh one would be traced again for every shard of images.
    wrapped = foolbox.TensorFlowModel(model._logits, bounds=model.clip_values)
    attack = getattr(foolbox.attacks, kind)(**settings)
    attack = attack if repeats == 1 else attack.repeat(repeats)
    goal = foolbox.TargetedMisclassification if targeted else foolbox.Misclassification
    # Its starts come from TensorFlow's global generator.
    tf.random.set_seed(seed)
    made = []
    for start in range(0, len(x), CHUNK):
        images = tf.constant(x[start : start + CHUNK])
        labels = tf.constant(aims[start : start + CHUNK], tf.int64)
        made.append(attack(wrapped, images, goal(labels), epsilons=eps)[1].numpy())
    return np.concatenate(made)


def _import_foolbox() -> Any:
    try:
        import foolbox
    except ImportError as error:
        fix = "pip install -r requirements.txt -c constraints.txt"
        raise SettingError("Foolbox is not installed", where="library", fix=fix) from error
    return foolbox
