"""Epochs over images for networks whose compiled step is their own: the same order and noise for the same seed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from gauntlet.progress import Progress, silent
from gauntlet.threat import Images

Step = Callable[[Any, Any], Mapping[str, Any]]
"""(images (b, h, w, c), the step's own seed, int64 (2,)) to losses by name: tensors, one compiled function."""


def run_epochs(
    step: Step, x: Images, *, epochs: int, batch_size: int, seed: int, progress: Progress = silent
) -> dict[str, list[float]]:
    """Call `step` on shuffled batches of `x` (n, h, w, c); each loss as a mean over images, one value an epoch."""
    rng, history = np.random.default_rng(seed), {}  # type: ignore[var-annotated]
    starts = range(0, len(x), batch_size)
    report = max(1, len(starts) // 20)
    for epoch in range(epochs):
        order, totals = rng.permutation(len(x)), {}  # type: ignore[var-annotated]
        for number, start in enumerate(starts, 1):
            batch = x[order[start : start + batch_size]]
            losses = step(batch, np.array([seed, epoch * len(starts) + number], np.int64))
            totals = {name: totals.get(name, 0.0) + len(batch) * float(loss) for name, loss in losses.items()}
            if number % report == 0 or number == len(starts):
                values = ", ".join(f"{name.replace('_', ' ')} {float(loss):.3f}" for name, loss in losses.items())
                progress(f"epoch {epoch + 1}/{epochs}, {values}", (epoch + number / len(starts)) / epochs)
        for name, total in totals.items():
            history.setdefault(name, []).append(total / len(x))
    return history
