"""Scan a training set for signs of poisoned data before anything is trained on it.

Four checks of images and labels. Where possible, each compares with a reference that needs no manual tuning:
the test set.

class balance   training labels against uniform and against the test set's (χ²): relabelling moves counts
duplicates      the same image twice, with another label, or in the test set too
labels          confident learning: images whose neighbours agree on another class (Northcutt et al. 2021)
patches         a window that is identical in many images of one class, and has nothing similar elsewhere

Checks that need a model are in `gauntlet/backdoor/suspects.py`; all are listed in `gauntlet/backdoor/inspections.py`.
What they find and miss of our own poisonings is measured in docs/privacy.md.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from gauntlet.progress import Progress, silent
from gauntlet.threat import Images, Labels

Rows = NDArray[np.int64]
NONE: Rows = np.zeros(0, np.int64)


class DataScan(BaseModel):
    """How a training set is scanned, and from where on a check alarms."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    neighbours: int = Field(10, ge=3, le=1_000, description="Images that vote on a label")
    components: int = Field(50, ge=2, le=1_000, description="Principal components in which neighbours are near")
    sizes: tuple[int, ...] = Field((2, 3, 4, 5), min_length=1, description="Sides of the windows, in pixels")
    levels: int = Field(16, ge=2, le=256, description="Grey levels that are told apart in a window")
    fewest: int = Field(5, ge=2, description="Images that must share a window")
    patch_score: float = Field(1.0, gt=0, description="Patches alarm from this score on; clean MNIST reaches 0.4")
    p_value: float = Field(0.001, gt=0, lt=1, description="Class balance and labels alarm below it")


@dataclass(frozen=True)
class Check:
    """What one check found; `suspects` are positions in the training set, `facts` plain numbers."""

    name: str
    alarm: bool
    suspects: Rows = field(repr=False)
    facts: dict[str, float]
    says: str


@dataclass(frozen=True)
class Window:
    """A patch that many images of one class share, and how odd that is."""

    score: float
    """Its images of that class, over 1 + its images of others + images that nearly have it."""
    size: int
    row: int
    column: int
    label: int
    count: int
    elsewhere: int
    similar: int
    images: Rows = field(repr=False)


def suspects(checks: Sequence[Check]) -> Rows:
    """Positions that any check suspects, ascending."""
    return np.unique(np.concatenate([NONE, *(check.suspects for check in checks)]))


# --- class balance ------------------------------------------------------------------------------------------


def check_balance(y: Labels, y_test: Labels, n_classes: int, settings: DataScan) -> Check:
    """χ² of the training labels against uniform and, what alarms, of homogeneity with the test set's."""
    from scipy.stats import chi2_contingency, chisquare

    counts, tested = (np.bincount(labels, minlength=n_classes) for labels in (y, y_test))
    seen = (counts + tested) > 0
    pair = np.stack([counts, tested])[:, seen]
    uniform = float(chisquare(counts[seen]).pvalue)
    same = float(chi2_contingency(pair, correction=False).pvalue) if seen.sum() > 1 else 1.0
    expected = pair.sum(axis=0) * pair.sum(axis=1, keepdims=True) / pair.sum()
    most = int(np.flatnonzero(seen)[np.argmax((pair - expected)[0] / np.sqrt(expected[0]))])
    excess = float(counts[most] / counts.sum() - tested[most] / tested.sum())
    facts = {"p_uniform": uniform, "p_test": same, "imbalance": float(counts[seen].max() / max(1, counts[seen].min()))}
    says = f"against the test set's labels p = {same:.2g}, against uniform p = {uniform:.2g}"
    alarm = same < settings.p_value
    if alarm:
        says += f"; class {most} has {100 * excess:+.1f} points more than in the test set"
    return Check("class balance", alarm, NONE, facts | {"most_class": most, "most_excess": excess}, says)


# --- duplicates ---------------------------------------------------------------------------------------------


def check_duplicates(x: Images, y: Labels, x_test: Images) -> Check:
    """Images (as 8-bit pixels) that come twice, twice with different labels (which alarms), or in the test set too."""
    keys, tested = _keys(x), _keys(x_test)
    _, first, group, count = np.unique(keys, return_index=True, return_inverse=True, return_counts=True)
    group = group.reshape(-1)
    low, high = np.full(len(count), y.max() + 1), np.full(len(count), -1)
    np.minimum.at(low, group, y)
    np.maximum.at(high, group, y)
    contradicting = np.flatnonzero((low < high)[group])
    copies, leaked = len(x) - len(first), int(np.isin(keys, tested).sum())
    facts = {"duplicates": float(copies), "contradicting": float(len(contradicting)), "leaked": float(leaked)}
    says = (
        f"{copies:,} copies of another image, {len(contradicting):,} images with two labels, {leaked:,} in the test set"
    )
    return Check("duplicates", bool(len(contradicting)), contradicting, facts, says)


def _keys(x: Images) -> NDArray[np.void]:
    """An image's 8-bit pixels as one value, (n,)."""
    flat = np.ascontiguousarray(np.rint(255 * x).astype(np.uint8).reshape(len(x), -1))
    return flat.view(f"V{flat.shape[1]}").ravel()


# --- labels -------------------------------------------------------------------------------------------------


def check_labels(x: Images, y: Labels, x_test: Images, y_test: Labels, settings: DataScan, seed: int) -> Check:
    """Labels that an image's nearest neighbours, itself left out, confidently contradict.

    Confident learning (Northcutt, Jiang, Chuang, J. Artif. Intell. Res. 70, 2021, section 3.1): an image labelled i
    counts as j where its probability of j reaches the mean that images labelled j have of j. Clean sets have such
    images too: it alarms when their share exceeds that of the test set, judged by the same neighbours
    (Fisher's exact test, one-sided).
    """
    from scipy.stats import fisher_exact

    inside, outside = neighbour_votes(x, y, x_test, settings, seed)
    own = inside[np.arange(len(y)), y]
    usual = np.array([own[y == k].mean() if (y == k).any() else 1.0 for k in range(inside.shape[1])])
    bad, bad_test = _contradicted(inside, y, usual), _contradicted(outside, y_test, usual)
    count, tested = int(bad.sum()), int(bad_test.sum())
    table = [[count, len(y) - count], [tested, len(y_test) - tested]]
    p = float(fisher_exact(table, alternative="greater").pvalue)
    facts = {
        "suspects": float(count),
        "share": count / len(y),
        "test_share": tested / len(y_test),
        "p_value": p,
    }
    says = f"{count:,} of {len(y):,} ({100 * count / len(y):.2f} %), of the test set {100 * tested / len(y_test):.2f} %"
    return Check("labels", p < settings.p_value, np.flatnonzero(bad), facts, f"{says}, p = {p:.2g}")


def neighbour_votes(x: Images, y: Labels, x_test: Images, settings: DataScan, seed: int) -> tuple[Any, Any]:
    """The classes' shares among the neighbours of training (n, k) and of test images (m, k)."""
    from sklearn.decomposition import PCA
    from sklearn.neighbors import NearestNeighbors

    flat, flat_test = x.reshape(len(x), -1), x_test.reshape(len(x_test), -1)
    project = PCA(min(settings.components, *flat.shape), random_state=seed).fit(flat)
    k = min(settings.neighbours, len(x) - 1)
    near = NearestNeighbors(n_neighbors=k, algorithm="brute").fit(project.transform(flat).astype(np.float32))
    one_hot = np.eye(int(max(y.max(), 0)) + 1)[y]
    asked = (None, project.transform(flat_test).astype(np.float32))
    inside, outside = (one_hot[near.kneighbors(points, return_distance=False)].mean(axis=1) for points in asked)
    return inside, outside


def _contradicted(votes: Any, y: Labels, usual: Any) -> NDArray[np.bool_]:
    """Which images have another class than theirs at or above what is usual for it, and above their own."""
    known = y < votes.shape[1]
    own = np.where(known, votes[np.arange(len(y)), np.where(known, y, 0)], 0.0)
    return ((votes >= usual) & (votes > own[:, None])).any(axis=1) & known


# --- patches ------------------------------------------------------------------------------------------------

NEAR = 0.25
"""Mean absolute difference of pixels in [0, 1] up to which a window is like another."""
TOP = 3
"""Most frequent windows that are looked at in each place."""


def check_patches(x: Images, y: Labels, settings: DataScan, progress: Progress = silent) -> Check:
    """Windows that are the same in many images of one class, with nothing like them anywhere: planted triggers."""
    windows = find_patches(x, y, settings, progress)
    alarming = [window for window in windows if window.score >= settings.patch_score]
    carriers = np.unique(np.concatenate([NONE, *(window.images for window in alarming)]))
    best = windows[0] if windows else None
    facts = {"patch_score": best.score if best else 0.0, "carriers": float(len(carriers))}
    says = "no window is shared by enough images of one class"
    if best:
        where = f"{best.size} × {best.size} at row {best.row}, column {best.column}"
        says = f"score {best.score:.1f}: {where} is the same in {best.count:,} images of class {best.label}"
        says += f", in {best.elsewhere:,} of others, and like {best.similar:,} more"
        facts |= {name: float(getattr(best, name)) for name in ("size", "row", "column", "label", "count")}
    return Check("patches", bool(alarming), carriers, facts, says)


def find_patches(x: Images, y: Labels, settings: DataScan, progress: Progress = silent) -> list[Window]:
    """The shared windows of all sizes and places, the oddest first; copies of an image count once."""
    keep = np.sort(np.unique(_keys(x), return_index=True)[1])
    x, y = x[keep], y[keep]
    levels = np.rint((settings.levels - 1) * x).astype(np.uint8)
    background = int(np.bincount(levels.ravel()).argmax())
    windows: list[Window] = []
    sizes = [size for size in settings.sizes if size <= min(x.shape[1:3])]
    for number, size in enumerate(sizes):
        progress(f"windows of {size} × {size}", number / len(sizes))
        windows += _of_size(x, y, levels, background, size, settings)
    windows = [replace(window, images=keep[window.images]) for window in windows]
    return sorted(windows, key=lambda window: (-window.score, -window.size, window.row, window.column))


def _of_size(x: Images, y: Labels, levels: Any, background: int, size: int, settings: DataScan) -> Iterator[Window]:
    """Windows of one size that at least `fewest` images of one class share."""
    random = np.random.default_rng(size).integers(1, 2**63, (size, size, x.shape[3]), dtype=np.uint64) | np.uint64(1)
    for row in range(x.shape[1] - size + 1):
        hashes, filled = _hashes(levels[:, row : row + size], background, size, random)
        for column in range(hashes.shape[1]):
            rows = np.flatnonzero(filled[:, column])
            for images in _most_frequent(rows, hashes[rows, column], settings.fewest):
                yield from _judged(x, y, images, (size, row, column), settings.fewest)


def _hashes(band: Any, background: int, size: int, random: Any) -> tuple[Any, Any]:
    """Of each window of a band (n, size, w, c) a 64-bit hash, and whether at most half of it is background."""
    wide = band.shape[2] - size + 1
    hashes = np.zeros((len(band), wide), np.uint64)
    empty = np.zeros((len(band), wide), np.int32)
    for i, j, channel in np.ndindex(random.shape):
        pixels = band[:, i, j : j + wide, channel]
        hashes += pixels.astype(np.uint64) * random[i, j, channel]
        empty += pixels == background
    return hashes, 2 * empty <= random.size


def _most_frequent(rows: Rows, hashes: Any, fewest: int) -> Iterator[Rows]:
    """The images of the few most frequent windows."""
    values, counts = np.unique(hashes, return_counts=True)
    for place in np.argsort(-counts, kind="stable")[:TOP]:
        if counts[place] >= fewest:
            yield rows[hashes == values[place]]


def _judged(x: Images, y: Labels, images: Rows, where: tuple[int, int, int], fewest: int) -> Iterator[Window]:
    """The window that these images share, if enough of them are of one class."""
    size, row, column = where
    counts = np.bincount(y[images])
    label, elsewhere = int(counts.argmax()), int(len(images) - counts.max())
    count = int(counts.max())
    if count < fewest or count <= elsewhere:
        return
    window = x[:, row : row + size, column : column + size]
    away = np.abs(window - window[images[0]]).mean(axis=(1, 2, 3))
    similar = int((away <= NEAR).sum()) - len(images)
    score = count / (1 + elsewhere + max(0, similar))
    yield Window(score, size, row, column, label, count, elsewhere, max(0, similar), images[y[images] == label])
