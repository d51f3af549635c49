"""How a model does unattacked, and how a share is counted."""

from __future__ import annotations

import keras
import numpy as np
import pytest

from gauntlet.evaluation.clean import evaluate, inference_ms, loss_metrics, share, tables
from gauntlet.models.classifier import CompiledClassifier


def bright() -> CompiledClassifier:
    """Class 1 for images brighter than 0.5 on the average, else class 0."""
    network = keras.Sequential([keras.Input((2, 2, 1)), keras.layers.Flatten(), keras.layers.Dense(2)])
    network.set_weights([np.array([[0, 0.25]] * 4, np.float32), np.array([0.5, 0], np.float32)])
    return CompiledClassifier(network)


@pytest.mark.parametrize(("hits", "n"), [(0, 10), (3, 10), (10, 10), (1, 1)])
def test_a_share_lies_in_its_interval(hits: int, n: int) -> None:
    measured = share(np.arange(n) < hits, model="m", condition="clean")
    assert measured.value == hits / n
    assert 0 <= measured.low <= measured.value <= measured.high <= 1
    assert measured.high - measured.low > 0.2


def test_the_interval_is_wilsons() -> None:
    measured = share(np.arange(10) < 3, model="m", condition="clean")
    assert (measured.low, measured.high) == (pytest.approx(0.1078, abs=1e-4), pytest.approx(0.6032, abs=1e-4))


def test_more_images_narrow_the_interval() -> None:
    few, many = (share(np.arange(n) < n // 2, model="m", condition="clean") for n in (10, 1000))
    assert many.high - many.low < few.high - few.low


# --- unattacked ---------------------------------------------------------------------------------------------


def test_tables_have_a_row_for_every_class() -> None:
    confusion, report = tables(np.array([0, 0, 2]), np.array([0, 2, 2]), ("a", "b", "c"))
    assert confusion.tolist() == [[1, 0, 1], [0, 0, 0], [0, 0, 1]]
    assert report["a"]["recall"] == 0.5
    assert report["b"]["support"] == 0


def test_evaluation_counts_and_weighs() -> None:
    x, y = np.stack([np.full((2, 2, 1), v, np.float32) for v in (0.1, 0.9, 0.9)]), np.array([0, 1, 0])
    clean = evaluate(bright(), x, y, ("dark", "light"))
    assert clean.predictions.tolist() == [0, 1, 1]
    assert clean.correct.tolist() == [True, True, False]
    assert clean.confusion.tolist() == [[1, 1], [0, 1]]
    logits = np.stack([np.full(3, 0.5), x.mean(axis=(1, 2, 3))], axis=1)
    expected = np.log(np.exp(logits).sum(axis=1)) - logits[np.arange(3), y]
    assert clean.losses == pytest.approx(expected, abs=1e-6)


def test_a_mean_loss_has_an_interval_of_its_logarithm() -> None:
    """Losses 1, 2, 3: mean 2, standard error 1 / √3; relative to the mean 0.2887, times 1.96 0.5658."""
    metrics = loss_metrics("clean/loss", np.array([1.0, 2.0, 3.0]))
    assert metrics == pytest.approx(
        {"clean/loss": 2.0, "clean/loss_low": 2 * np.exp(-0.56579), "clean/loss_high": 2 * np.exp(0.56579)}, rel=1e-4
    )
    assert set(loss_metrics("x", np.zeros(5)).values()) == {0.0}
    assert all(np.isfinite(list(loss_metrics("x", np.array([0.0] * 9_999 + [1e-300])).values())))
    with pytest.raises(ValueError, match="at least one"):
        loss_metrics("x", np.zeros(0))


def test_inference_takes_time_on_few_images_and_on_many() -> None:
    seen: list[int] = []
    x = np.zeros((2_500, 1, 1, 1), np.float32)
    assert inference_ms(lambda images: seen.append(len(images)), x, passes=3) > 0
    assert seen == [2_000] * 4
    assert inference_ms(np.sin, x[:1]) > 0
