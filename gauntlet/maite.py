"""Adapters to and from the protocols of MAITE, which the JATIC tools for test and evaluation use: image classification.

The protocols are structural, so nothing here imports `maite`. MAITE's images are (c, h, w), its
targets and answers vectors (k,), its batches sequences; here images are (n, h, w, c) in [0, 1] and labels (n,).

>>> data = Data(x, y, ["cat", "dog"])  # doctest: +SKIP
>>> maite.tasks.evaluate(model=Model(report.loaded.classifier.predict), metric=Accuracy(), dataset=data)
... # doctest: +SKIP
>>> gauntlet.evaluate(function(theirs), *arrays(their_data), eps=8/255)  # doctest: +SKIP
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from gauntlet.errors import DataError, ModelError
from gauntlet.evaluation.clean import share

if TYPE_CHECKING:
    from gauntlet.api import Report
    from gauntlet.threat import Images, Labels


class Data:
    """Images (n, h, w, c) and labels (n,) as a data set of MAITE's: image (c, h, w), one-hot target (k,), id."""

    def __init__(self, x: Images, y: Labels, class_names: Sequence[str], name: str = "arrays") -> None:
        """`class_names` are those of the labels 0 to k - 1. Raises `DataError` when the arrays do not fit them."""
        if np.ndim(x) != 4 or np.shape(y) != (len(x),):
            what = f"images {np.shape(x)} and labels {np.shape(y)}, expected (n, h, w, c) and (n,)"
            raise DataError(what, where=name)
        if len(y) and not 0 <= np.min(y) <= np.max(y) < len(class_names):
            raise DataError(f"labels from {np.min(y)} to {np.max(y)}, {len(class_names)} classes", where=name)
        self._x, self._y, self._k = x, y, len(class_names)
        self.metadata = {"id": name, "index2label": dict(enumerate(class_names))}

    def __len__(self) -> int:
        return len(self._x)

    def __getitem__(self, ind: int, /) -> tuple[np.ndarray, np.ndarray, dict[str, int]]:
        """Image (c, h, w), target (k,) and `{"id": place}`; `IndexError` beyond the last."""
        image, place = np.moveaxis(self._x[ind], -1, 0), range(len(self))[ind]
        return image, _one_hot(self._y[place], self._k), {"id": place}


class Model:
    """A function of images (n, h, w, c) that gives scores (n, k) as a model of MAITE's."""

    def __init__(self, predict: Callable[[Images], Any], name: str = "model") -> None:
        """Of a report it is `report.loaded.classifier.predict`, which takes pixels in [0, 1] and gives logits."""
        self._predict, self.metadata = predict, {"id": name}

    def __call__(self, batch: Sequence[Any], /) -> list[np.ndarray]:
        """Scores (k,) of each image (c, h, w), floats in [0, 1] or whole numbers up to their type's largest."""
        return list(np.asarray(self._predict(_unit(_stacked(batch, "batch")))))


class Accuracy:
    """Share of images whose largest score is that of the target, with its 95 % Wilson interval, for MAITE's tools."""

    def __init__(self) -> None:
        self.metadata = {"id": "accuracy"}
        self.reset()

    def reset(self) -> None:
        """Forget every batch."""
        self._hits: list[bool] = []

    def update(self, pred_batch: Sequence[Any], target_batch: Sequence[Any], metadata_batch: Sequence[Any], /) -> None:
        """Count a batch: answers and targets (k,) each."""
        pairs = zip(pred_batch, target_batch, strict=True)
        self._hits += [int(np.argmax(np.asarray(p))) == int(np.argmax(np.asarray(t))) for p, t in pairs]

    def compute(self) -> dict[str, float]:
        """`accuracy`, `accuracy_low`, `accuracy_high` in [0, 1] and `n`; `DataError` before the first image."""
        if not self._hits:
            raise DataError("no image was counted", where="accuracy", fix="update it with a batch")
        one = share(np.array(self._hits), model="model", condition="clean")
        return {
            "accuracy": one.value,
            "accuracy_low": one.low,
            "accuracy_high": one.high,
            "n": one.n,
        }


def arrays(dataset: Any) -> tuple[np.ndarray, Labels]:
    """Images (n, h, w, c) and labels (n,) of a data set of MAITE's; `DataError` when they are not of one shape."""
    rows = [dataset[place] for place in range(len(dataset))]
    name = str(dataset.metadata["id"])
    targets = [np.asarray(row[1]) for row in rows]
    if odd := [target.shape for target in targets if target.ndim != 1]:
        raise DataError(f"a target of shape {odd[0]}, expected (k,)", where=name)
    return _stacked([row[0] for row in rows], name), np.array([int(target.argmax()) for target in targets], np.int64)


def function(model: Any) -> Callable[[Images], np.ndarray]:
    """A model of MAITE's as a function of images (n, h, w, c) that gives scores (n, k): a black box to attack."""

    def predict(x: Images) -> np.ndarray:
        answers = [np.asarray(answer) for answer in model(list(np.moveaxis(x, -1, 1)))]
        if len(answers) != len(x) or any(answer.ndim != 1 for answer in answers):
            shapes = sorted({answer.shape for answer in answers})
            what = f"{len(answers)} answers of shapes {shapes} for {len(x)} images, expected one (k,) for each"
            raise ModelError(what, where=str(model.metadata["id"]))
        return np.stack(answers)

    return predict


def measure(metric: Any, report: Report) -> dict[str, Mapping[str, Any]]:
    """What a metric of MAITE's says of the clean images and of every attack at every budget, by condition.

    The answers it is given are one-hot: a report keeps which class was predicted, not the scores.
    """
    clean = report.clean
    answers = {"clean": (clean.predictions, clean.labels, np.arange(len(clean.labels)))}
    for result in report.results:
        answers[result.accuracy(report.name).label] = result.predictions, result.labels, result.index
    values: dict[str, Mapping[str, Any]] = {}
    k = report.loaded.classifier.nb_classes
    for condition, (predictions, labels, index) in answers.items():
        metric.reset()
        metric.update(list(_one_hot(predictions, k)), list(_one_hot(labels, k)), [{"id": int(i)} for i in index])
        values[condition] = dict(metric.compute())
    return values


def _one_hot(labels: Any, n_classes: int) -> np.ndarray:
    """Labels (n,) as (n, k), one label as (k,); float32."""
    return np.eye(n_classes, dtype=np.float32)[labels]


def _stacked(images: Sequence[Any], where: str) -> np.ndarray:
    """Images (c, h, w) of one shape as (n, h, w, c)."""
    arrays = [np.asarray(image) for image in images]
    shapes = sorted({image.shape for image in arrays})
    if len(shapes) != 1 or len(shapes[0]) != 3:
        what = f"images of shapes {shapes[:3]}, expected one shape (c, h, w)"
        raise DataError(what, where=where, fix="resize them to one size")
    return np.moveaxis(np.stack(arrays), 1, -1)


def _unit(x: np.ndarray) -> Images:
    """Pixels as float32 in [0, 1]."""
    largest = np.iinfo(x.dtype).max if x.dtype.kind in "iu" else 1
    return (x / largest).astype(np.float32)
