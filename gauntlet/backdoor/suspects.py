"""Training images that a model trained on them gives away: they share a class and not what the class is learned by.

Both look at the last hidden layer of a model trained on the suspected set. What they find and miss is in
docs/backdoors.md; they need a model that has learned the backdoor, and some but not most of a class to be poisoned.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from gauntlet.threat import Labels

Features = NDArray[np.float32]
COMPONENTS = 10
"""Dimensions that activations are reduced to before they are clustered (Chen et al. 2018, section 4)."""
FEWEST = 10
"""Images of a class below which nothing is said of it."""


@dataclass(frozen=True)
class Clusters:
    """The images of one class in two clusters."""

    silhouette: float
    """How well they are apart, in [-1, 1] (Rousseeuw 1987)."""
    share: float
    """Of the smaller cluster."""
    smaller: NDArray[np.int64] = field(repr=False)
    """Positions of its images."""


def spectral_scores(features: Features, y: Labels) -> NDArray[np.float64]:
    """How far each image (n, d) lies from its class's mean along the class's first singular vector: (n,).

    Spectral signatures (Tran, Li, Madry, NeurIPS 2018, algorithm 1), in the features' units: the largest of a
    class are its suspects.
    """
    scores = np.zeros(len(y))
    for k in np.unique(y):
        rows = np.flatnonzero(y == k)
        centred = features[rows].astype(np.float64) - features[rows].mean(axis=0)
        scores[rows] = np.abs(centred @ np.linalg.svd(centred, full_matrices=False)[2][0])
    return scores


def activation_clusters(features: Features, y: Labels, seed: int = 0) -> dict[int, Clusters]:
    """The images of each class in two clusters (Chen et al. 2018), judged by their silhouette.

    The paper's rule of sizes flags one cluster of every class, clean ones included.
    """
    from sklearn.cluster import KMeans
    from sklearn.decomposition import PCA
    from sklearn.metrics import silhouette_score

    found = {}
    for k in np.unique(y):
        rows = np.flatnonzero(y == k)
        if len(rows) < FEWEST:
            continue
        reduced = PCA(min(COMPONENTS, len(rows), features.shape[1]), random_state=seed).fit_transform(features[rows])
        label = KMeans(2, n_init=5, random_state=seed).fit_predict(reduced)
        few = int(np.bincount(label, minlength=2).argmin())
        apart = silhouette_score(reduced, label, sample_size=min(len(rows), 2_000), random_state=seed)
        found[int(k)] = Clusters(float(apart), float((label == few).mean()), rows[label == few])
    return found


def clustered(features: Features, y: Labels, seed: int, silhouette: float, share: float) -> NDArray[np.int64]:
    """Positions in the smaller clusters of the classes whose clusters are so far apart and that small."""
    found = activation_clusters(features, y, seed).values()
    chosen = [one.smaller for one in found if one.silhouette >= silhouette and one.share <= share]
    return np.sort(np.concatenate([np.zeros(0, np.int64), *chosen]))
