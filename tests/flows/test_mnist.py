"""Real MNIST: trained and attacked once."""

from __future__ import annotations

from pathlib import Path

import pytest

from flows.attack import attack
from flows.train import train


@pytest.mark.mnist
@pytest.mark.slow
def test_mnist_is_learned_in_an_epoch_and_broken_by_pgd(mnist_dir: Path, store: str) -> None:
    data = {"dataset": "mnist", "data_dir": str(mnist_dir), "tracking_uri": store}
    trained = train(**data, epochs=1)
    assert trained["metrics"]["clean/accuracy"] > 0.97
    broken = attack(**data, model=trained["model_uri"], attack=["fgsm", "pgd:max_iter=10"], eps=[0.3], n=200)
    fgsm, pgd = (row["robust_accuracy"] for row in broken["results"])
    assert pgd <= fgsm < 0.5
    assert pgd < 0.05
