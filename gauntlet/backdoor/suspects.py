"""Training images that a model trained on them gives away: they share a class and not what the class is learned by.

Two look at the last hidden layer of a model trained on the suspected set, the third at how early an image is learned.
All are held against the test set, which is taken to be clean: what the test images of a class show as well is how the
class is. What they find and miss is in docs/backdoors.md; they need a model that has learned the backdoor.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from gauntlet.models.outputs import cross_entropies
from gauntlet.progress import Progress, silent
from gauntlet.threat import Labels
from gauntlet.training.fit import Training, train

if TYPE_CHECKING:
    from gauntlet.data.datasets import Dataset

Features = NDArray[np.float32]
Numbers = NDArray[np.float64]
Rows = NDArray[np.int64]
COMPONENTS = 10
"""Dimensions that activations are reduced to before they are clustered (Chen et al. 2018, section 4)."""
FEWEST = 10
"""Images of a class below which nothing is said of it."""
FACTOR = 2
"""How many times the test images' share stands out: training and test sets of clean data differ a little, too."""


@dataclass(frozen=True)
class Clusters:
    """The images of one class in two clusters."""

    silhouette: float
    """How well they are apart, in [-1, 1] (Rousseeuw 1987)."""
    share: float
    """Of the smaller cluster."""
    smaller: Rows = field(repr=False)
    """Positions of its images."""
    larger: Rows = field(repr=False)
    tested: tuple[int, int] | None = None
    """Test images of the class nearer to the smaller, and to the larger cluster."""


class Apart(NamedTuple):
    """What stands apart from the test images: positions, and of the clearest class its number and p-value."""

    rows: Rows
    label: int
    p_value: float
    """Corrected (Bonferroni) over the classes; 1 where no class has enough images."""


# --- last hidden layer --------------------------------------------------------------------------------------


def spectral_scores(features: Features, y: Labels) -> Numbers:
    """How far each image (n, d) lies from its class's mean along the class's first singular vector: (n,).

    Spectral signatures (Tran, Li, Madry, NeurIPS 2018, algorithm 1), in the features' units: the largest of a
    class are its suspects.
    """
    return spectral_against(features, y, features, y)[0]


def spectral_against(features: Features, y: Labels, tested: Features, y_test: Labels) -> tuple[Numbers, Numbers]:
    """The same, but from the mean of the class's test images: scores of training (n,) and of test images (m,).

    A class whose larger half is poison has a mean that is the poison's own.
    """
    scores, scores_test = np.zeros(len(y)), np.zeros(len(y_test))
    for k in np.unique(y):
        rows, rows_test = np.flatnonzero(y == k), np.flatnonzero(y_test == k)
        if not len(rows_test):
            continue
        centred = features[rows].astype(np.float64) - features[rows].mean(axis=0)
        first = np.linalg.svd(centred, full_matrices=False)[2][0]
        mean = tested[rows_test].mean(axis=0, dtype=np.float64)
        scores[rows] = np.abs((features[rows] - mean) @ first)
        scores_test[rows_test] = np.abs((tested[rows_test] - mean) @ first)
    return scores, scores_test


def activation_clusters(
    features: Features, y: Labels, seed: int = 0, tested: tuple[Features, Labels] | None = None
) -> dict[int, Clusters]:
    """The images of each class in two clusters (Chen et al. 2018), judged by their silhouette.

    The paper's rule of sizes flags one cluster of every class, clean ones included. With test images it is also told
    how many of them lie in each cluster.
    """
    found = {}
    for k in np.unique(y):
        rows = np.flatnonzero(y == k)
        if len(rows) >= FEWEST:
            others = None if tested is None else tested[0][tested[1] == k]
            found[int(k)] = _clusters(features, rows, others, seed)
    return found


def _clusters(features: Features, rows: Rows, tested: Features | None, seed: int) -> Clusters:
    from sklearn.cluster import KMeans
    from sklearn.decomposition import PCA
    from sklearn.metrics import silhouette_score

    project = PCA(min(COMPONENTS, len(rows), features.shape[1]), random_state=seed)
    reduced = project.fit_transform(features[rows])
    halves = KMeans(2, n_init=5, random_state=seed).fit(reduced)
    label = halves.labels_
    few = int(np.bincount(label, minlength=2).argmin())
    apart = silhouette_score(reduced, label, sample_size=min(len(rows), 2_000), random_state=seed)
    found = Clusters(float(apart), float((label == few).mean()), rows[label == few], rows[label != few])
    if tested is None or not len(tested):
        return found
    near = int((halves.predict(project.transform(tested)) == few).sum())
    return replace(found, tested=(near, len(tested) - near))


def clustered(features: Features, y: Labels, seed: int, silhouette: float, share: float) -> Rows:
    """Positions in the smaller clusters of the classes whose clusters are so far apart and that small."""
    found = activation_clusters(features, y, seed).values()
    chosen = [one.smaller for one in found if one.silhouette >= silhouette and one.share <= share]
    return np.sort(np.concatenate([np.zeros(0, np.int64), *chosen]))


def clusters_apart(found: dict[int, Clusters], silhouette: float, p_value: float) -> Apart:
    """The clusters that hold more of the training than of the test images: Fisher's exact test, one-sided.

    A cluster that is half of a clean class holds half of its test images too, however far apart the clusters are.
    """
    judged = {}
    for k, one in found.items():
        if one.tested is None or sum(one.tested) < FEWEST or one.silhouette < silhouette:
            continue
        few, many = one.tested
        p = _excess(len(one.smaller), len(one.larger), few, many), _excess(len(one.larger), len(one.smaller), many, few)
        judged[k] = (p[0], one.smaller) if p[0] <= p[1] else (p[1], one.larger)
    return _apart(judged, p_value)


# --- losses -------------------------------------------------------------------------------------------------


def early_losses(
    dataset: Dataset, training: Training, steps: int, floor: float = 0.0, progress: Progress = silent
) -> tuple[Numbers, Numbers]:
    """Cross-entropy of training (n,) and of test images (m,) in a network after about so many steps, in whole epochs.

    Anti-backdoor learning (Li et al., NeurIPS 2021, section 3.2): what is planted is learned first. Where the mean
    loss of a batch is below `floor` (nats), the step goes uphill (the paper's local gradient ascent): clean images stay
    at the floor, and planted ones shall not.
    """
    import tensorflow as tf

    from gauntlet.models.classifier import CompiledClassifier

    def floored(model: Any, x: Any, y: Any, _: Any) -> tuple[Any, Any]:
        logits = model(x, training=True)
        loss = tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(y, logits))
        return tf.sign(loss - floor) * loss, logits

    epochs = max(1, round(steps * training.batch_size / len(dataset.y_train)))
    short = training.model_copy(update={"epochs": epochs, "validation_share": 0.0})
    trained = train(dataset, short, objective=floored if floor else None, progress=progress)
    model = CompiledClassifier(trained.model, dataset.bounds)
    sides = (dataset.x_train, dataset.y_train), (dataset.x_test, dataset.y_test)
    own, tested = (cross_entropies(model.predict(x), y) for x, y in sides)
    return own, tested


# --- against the test set -----------------------------------------------------------------------------------


def beyond(scores: Numbers, y: Labels, tested: Numbers, y_test: Labels, usual: float, p_value: float) -> Apart:
    """Images that score above the share `usual` of their class's test images, where too many of the class do.

    Scores of training (n,) and test images (m,), high for suspects; Fisher's exact test, one-sided, for each class.
    """
    judged = {}
    for k in np.unique(y):
        rows, others = np.flatnonzero(y == k), tested[y_test == k]
        if min(len(rows), len(others)) < FEWEST:
            continue
        limit = np.quantile(others, usual)
        high, above = rows[scores[rows] > limit], int((others > limit).sum())
        judged[int(k)] = _excess(len(high), len(rows) - len(high), above, len(others) - above), high
    return _apart(judged, p_value)


def _excess(inside: int, outside: int, tested: int, rest: int) -> float:
    """p-value of so many training images inside, by the test images that are; 1 where the share is not twice theirs."""
    from scipy.stats import fisher_exact

    if inside * (tested + rest) < FACTOR * tested * (inside + outside):
        return 1.0
    return float(fisher_exact([[inside, outside], [tested, rest]], alternative="greater").pvalue)


def _apart(judged: dict[int, tuple[float, Rows]], p_value: float) -> Apart:
    corrected = {k: min(1.0, p * len(judged)) for k, (p, _) in judged.items()}
    chosen = [judged[k][1] for k, p in corrected.items() if p < p_value]
    label = min(corrected, key=corrected.__getitem__, default=-1)
    return Apart(np.sort(np.concatenate([np.zeros(0, np.int64), *chosen])), label, corrected.get(label, 1.0))
