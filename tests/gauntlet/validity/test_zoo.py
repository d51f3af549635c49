"""A quick part of the zoo: frozen honest networks are VALID, and what hides its gradients is not."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest

import gauntlet
from benchmarks import zoo_models as zoo
from gauntlet.validity import probes
from gauntlet.validity.canaries import behind
from gauntlet.validity.known import known

if TYPE_CHECKING:
    import keras

    from gauntlet.data.datasets import Dataset

BATTERY = ("noise-uniform", "fgsm", "pgd", "apgd-ce:max_iter=50")
HONEST: dict[str, Callable[[], keras.Model]] = {
    "dense": lambda: known("dense").model,
    "deep, tiny logits": lambda: behind(known("deep").model, lambda logits: 1e-3 * logits),
    "maxima, huge logits": lambda: behind(known("maxima").model, lambda logits: 1e3 * logits),
}
BROKEN: dict[str, Callable[[zoo.Home], keras.Model]] = {
    "committee": lambda home: zoo.committee_of([home.base], known("dense").model),
    "detector that rejects": zoo.rejecting,
    "random resize": zoo.random_resize,
}


@pytest.fixture(autouse=True)
def _little_probing(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, number in {"GRADIENTS": 4_000, "SAMPLE": 64, "RETRIED": 64, "EXPOSED": 32, "QUERIES": 100}.items():
        monkeypatch.setattr(probes, name, number)


@pytest.fixture(scope="module")
def home(digits: Dataset, model: keras.Model) -> zoo.Home:
    """The digits, and the frozen network in place of one to be trained."""
    made = zoo.Home(digits)
    made.__dict__["base"] = model
    return made


def judged(model: Any, x: Any, y: Any, eps: float) -> tuple[str, tuple[str, ...]]:
    """The verdict, and why."""
    report = gauntlet.evaluate(model, x, y, eps, attacks=BATTERY, n_classes=10)
    return report.verdict, report.reasons


@pytest.mark.slow
@pytest.mark.parametrize("name", HONEST)
def test_an_honest_frozen_network_is_valid(name: str) -> None:
    truth = known("dense")
    assert judged(HONEST[name](), truth.x, truth.y, truth.eps[1]) == ("VALID", ())


@pytest.mark.slow
@pytest.mark.parametrize("name", BROKEN)
def test_what_hides_its_gradients_is_not_valid(name: str, home: zoo.Home) -> None:
    verdict, reasons = judged(BROKEN[name](home), home.dataset.x_test[:100], home.dataset.y_test[:100], 0.1)
    assert verdict != "VALID"
    assert reasons
