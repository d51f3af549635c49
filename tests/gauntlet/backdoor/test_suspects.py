"""What a model gives away of its training set: poison stands apart from the test images, clean classes do not."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from gauntlet.backdoor.inspections import EVERY, INSPECTIONS, ActivationClusters, Seen, Spectral, inspect, inspection
from gauntlet.backdoor.suspects import (
    activation_clusters,
    beyond,
    clusters_apart,
    spectral_against,
    spectral_scores,
)
from gauntlet.data.datasets import Dataset
from gauntlet.errors import SettingError
from gauntlet.poisoning import CornerTrigger
from gauntlet.training.fit import Training

POISONED = 150
"""Of the 200 training images of class 1: the greater part."""


def features(poisoned: int = POISONED) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Two classes of 200 training and 100 test images; so many of the second class lie elsewhere."""
    rng = np.random.default_rng(0)
    own, tested = (rng.normal(size=(n, 20)).astype(np.float32) for n in (400, 200))
    own[200 : 200 + poisoned, 3] += 9
    return own, np.repeat([0, 1], 200), tested, np.repeat([0, 1], 100)


@pytest.mark.parametrize("poisoned", [24, POISONED])
def test_spectral_scores_from_the_test_images_find_even_most_of_a_class(poisoned: int) -> None:
    own, y, tested, y_test = features(poisoned)
    scores, others = spectral_against(own, y, tested, y_test)
    found = beyond(scores, y, others, y_test, 0.98, 0.001)
    assert set(range(200, 200 + poisoned)) <= set(found.rows)
    assert len(found.rows) < poisoned + 8
    assert (found.label, found.p_value < 0.001) == (1, True)


def test_a_class_of_poison_alone_deceives_its_own_mean_but_not_the_test_images() -> None:
    own, y, *_ = features()
    assert set(np.argsort(-spectral_scores(own, y))[:50]) & set(range(350, 400))


@pytest.mark.parametrize("poisoned", [20, POISONED])
def test_the_cluster_that_test_images_avoid_is_suspected_whichever_is_larger(poisoned: int) -> None:
    own, y, tested, y_test = features(poisoned)
    clusters = activation_clusters(own, y, tested=(tested, y_test))
    found = clusters_apart(clusters, 0.2, 0.001)
    np.testing.assert_array_equal(found.rows, np.arange(200, 200 + poisoned))


def test_what_the_test_images_show_as_well_is_not_suspected() -> None:
    own, y, tested, y_test = features()
    tested[100 : 100 + POISONED // 2, 3] += 9
    clusters = activation_clusters(own, y, tested=(tested, y_test))
    assert clusters[1].silhouette > 0.2
    assert clusters_apart(clusters, 0.2, 0.001).rows.size == 0
    scores, others = spectral_against(own, y, tested, y_test)
    assert beyond(scores, y, others, y_test, 0.98, 0.001).rows.size == 0


def test_a_class_of_few_images_is_not_judged() -> None:
    own, y, tested, y_test = features()
    few = beyond(np.arange(5.0), y[:5], np.arange(200.0), y_test, 0.98, 0.001)
    assert (few.label, few.p_value, few.rows.size) == (-1, 1.0, 0)
    clusters = activation_clusters(own, y, tested=(tested[:9], y_test[:9]))
    assert clusters_apart(clusters, 0.2, 0.001).label == -1


# --- the declared ways --------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def planted(digits: Dataset) -> Seen:
    """Digits with a trigger, of which every way looks at the same trained network."""
    made = CornerTrigger(rate=0.08).poison(digits.x_train, digits.y_train, seed=0)
    return Seen(replace(digits, x_train=made.x, y_train=made.y), training=Training(batch_size=32, epochs=6))


@pytest.mark.slow
@pytest.mark.parametrize("way", [Spectral(), ActivationClusters()], ids=lambda one: one.name)
def test_a_learned_trigger_is_found_by_the_hidden_layer(way: Spectral, planted: Seen, digits: Dataset) -> None:
    poisoned = np.flatnonzero(planted.dataset.y_train != digits.y_train)
    found = way.look(planted)
    assert found.alarm
    assert np.isin(poisoned, found.suspects).mean() > 0.8
    assert np.isin(found.suspects, poisoned).mean() > 0.8
    assert found.facts["label"] == 9


@pytest.mark.slow
def test_every_way_is_declared_and_says_what_it_found(small: Dataset) -> None:
    told: list[float] = []
    seen = Seen(small, training=Training(epochs=4, batch_size=32))
    checks = inspect(EVERY, seen, lambda _, share: told.append(share))
    assert [one.name for one in checks if one.alarm] == []
    assert len(checks) == len(INSPECTIONS) == 7
    assert all(one.says for one in checks)
    assert told == sorted(told)


def test_a_setting_that_is_not_one_is_refused() -> None:
    assert inspection("spectral:usual=0.9") == Spectral(usual=0.9)
    with pytest.raises(SettingError, match="unknown inspection"):
        inspection("signatures")
