"""Functions of images: what they take and give is found out, and whatever does not fit is refused in one line."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest
from art.estimators.classification import BlackBoxClassifier
from scipy.special import log_softmax, softmax
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression

from gauntlet.attacks import Pgd, Square
from gauntlet.data.datasets import Dataset
from gauntlet.errors import ModelError, SettingError
from gauntlet.models.adapter import RANGES
from gauntlet.models.blackbox import CHUNK, BlackBox, Opened, open_blackbox
from gauntlet.threat import Images, Labels

Function = Callable[[Images], Any]


class Bench:
    """A linear model (n, 784) to (n, 10) that knows its digits, and 300 images."""

    def __init__(self, digits: Dataset) -> None:
        self.x, self.y = digits.x_test[:300], digits.y_test[:300]
        flat = digits.x_train.reshape(-1, 784)
        means = np.stack([flat[digits.y_train == k].mean(axis=0) for k in range(10)])
        self.weights, self.bias = means.T * 0.5, -0.25 * (means**2).sum(axis=1)
        self.logits = self.x.reshape(300, -1) @ self.weights + self.bias

    def scores(self, x: Images, pixels: str = "0..1") -> np.ndarray:
        """Logits of flat images whose pixels are in the given range."""
        scale, offset = RANGES[pixels]
        return (x.reshape(len(x), -1) - offset) / scale @ self.weights + self.bias

    def open(self, function: Function, **stated: Any) -> Opened:
        return open_blackbox(function, self.x, self.y, 10, **stated)


@pytest.fixture(scope="module")
def bench(digits: Dataset) -> Bench:
    return Bench(digits)


@pytest.fixture(scope="module")
def logistic(digits: Dataset) -> LogisticRegression:
    """Trained on rows of 784 pixels from 0 to 255, as people do."""
    x = digits.x_train[:600].reshape(600, -1) * 255
    return LogisticRegression(max_iter=50, tol=0.1).fit(x, digits.y_train[:600])


@pytest.fixture(scope="module")
def forest(digits: Dataset) -> RandomForestClassifier:
    """As above; its thresholds lie between 0 and 255, so that at [0, 1] it sees next to nothing."""
    x = digits.x_train[:600].reshape(600, -1) * 255
    return RandomForestClassifier(30, random_state=0).fit(x, digits.y_train[:600])


def refusal(bench: Bench, function: Function, **stated: Any) -> str:
    """The one line that refuses it."""
    with pytest.raises(ModelError) as caught:
        bench.open(function, **stated)
    assert "\n" not in str(caught.value)
    return str(caught.value)


# --- what scikit-learn gives --------------------------------------------------------------------------------


def test_probabilities_of_flat_pixels_to_255(logistic: LogisticRegression, bench: Bench) -> None:
    box = bench.open(logistic.predict_proba)
    assert (box.input_range, box.layout, box.outputs) == ("0..255", "flat", "probabilities")
    assert (box.classifier.access, box.better_range) == ("scores", None)
    scores = box.classifier.predict(bench.x)
    assert scores.dtype == np.float32
    np.testing.assert_allclose(scores, logistic.predict_log_proba(bench.x.reshape(300, -1) * 255), rtol=1e-3, atol=1e-3)


def test_labels_of_flat_pixels_to_255(forest: RandomForestClassifier, bench: Bench) -> None:
    box = bench.open(forest.predict)
    assert (box.input_range, box.layout, box.outputs) == ("0..255", "flat", "labels")
    assert box.classifier.access == "labels"
    expected = forest.predict(bench.x.reshape(300, -1) * 255)
    np.testing.assert_array_equal(box.classifier.labels(bench.x), expected)
    np.testing.assert_array_equal(box.classifier.predict(bench.x), np.eye(10)[expected])


def test_decisions_are_logits(logistic: LogisticRegression, bench: Bench) -> None:
    box = bench.open(logistic.decision_function)
    assert (box.input_range, box.layout, box.outputs) == ("0..255", "flat", "logits")


# --- what is found ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("pixels", RANGES)
@pytest.mark.parametrize("kind", ["logits", "probabilities", "labels"])
def test_range_and_outputs_are_found(kind: str, pixels: str, bench: Bench) -> None:
    after = {"logits": np.asarray, "probabilities": lambda s: softmax(s, axis=1), "labels": lambda s: s.argmax(axis=1)}
    box = bench.open(lambda x: after[kind](bench.scores(x, pixels)))
    assert (box.outputs, box.layout, box.better_range) == (kind, "hwc", None)
    assert box.input_range == pixels
    expected = {"logits": bench.logits, "probabilities": log_softmax(bench.logits, axis=1)}
    scores = expected.get(kind, np.eye(10)[bench.logits.argmax(axis=1)])
    np.testing.assert_allclose(box.classifier.predict(bench.x), scores, atol=1e-3)


def coloured(bench: Bench) -> Images:
    return np.concatenate([0 * bench.x, bench.x, bench.x**2], axis=-1)


def second_channel(bench: Bench, layout: str) -> Function:
    """A function that reads the second channel of the right layout only, and anything of the others."""
    at = {"hwc": np.s_[..., 1], "chw": np.s_[:, 1], "flat": np.s_[:, 1::3]}[layout]
    shape = {"hwc": (28, 28, 3), "chw": (3, 28, 28), "flat": (2352,)}[layout]
    return lambda x: bench.scores(x.reshape(len(x), *shape)[at])


@pytest.mark.parametrize("layout", ["hwc", "chw"])
def test_the_layout_with_the_lowest_loss_is_taken(layout: str, bench: Bench) -> None:
    box = open_blackbox(second_channel(bench, layout), coloured(bench), bench.y, 10)
    assert box.layout == layout
    np.testing.assert_allclose(box.classifier.predict(coloured(bench)), bench.logits, atol=1e-3)


@pytest.mark.parametrize("layout", ["hwc", "chw", "flat"])
def test_layouts_that_raise_are_dropped(layout: str, bench: Bench) -> None:
    shape = {"hwc": (28, 28, 3), "chw": (3, 28, 28), "flat": (2352,)}[layout]

    def strict(x: Images) -> np.ndarray:
        if x.shape[1:] != shape:
            raise ValueError(f"expected {shape}, got {x.shape[1:]}")
        return np.asarray(second_channel(bench, layout)(x))

    box = open_blackbox(strict, coloured(bench), bench.y, 10)
    assert box.layout == layout
    np.testing.assert_allclose(box.classifier.predict(coloured(bench)), bench.logits, atol=1e-3)


def test_rows_of_a_single_one_are_labels(bench: Bench) -> None:
    box = bench.open(lambda x: np.eye(10)[bench.scores(x).argmax(axis=1)])
    assert (box.outputs, box.classifier.access) == ("labels", "labels")


def test_labels_that_hardly_tell_ranges_apart_are_of_0_to_1(bench: Bench) -> None:
    # right everywhere, and at [0, 255] in one image more
    def scale_free(x: Images) -> Labels:
        scores = bench.scores(x / x.max(axis=(1, 2, 3), keepdims=True))
        return np.where(np.arange(len(x)) == 1, 0, scores.argmax(axis=1)) if x.max() <= 1 else scores.argmax(axis=1)

    box = open_blackbox(scale_free, bench.x, bench.y, 10, layout="hwc")
    assert box.input_range == "0..1"


class Tensor:
    """What a PyTorch tensor looks like from outside."""

    def __init__(self, array: np.ndarray, attached: bool = True) -> None:
        self.array, self.attached = array, attached

    def detach(self) -> Tensor:
        return Tensor(self.array, False)

    def cpu(self) -> Tensor:
        return self

    def __array__(self, dtype: Any = None, copy: Any = None) -> np.ndarray:
        if self.attached:
            raise RuntimeError("call detach() first")
        return self.array


FORMS: dict[str, Callable[[np.ndarray], Any]] = {
    "list": np.ndarray.tolist,
    "frame": pd.DataFrame,
    "tensor": Tensor,
    "named": lambda s: {"output": s},
    "several named": lambda s: {"label": s.argmax(axis=1), "scores": s, "map": [{0: 1.0}] * len(s)},
    "whole numbers": lambda s: (1000 * s).astype(np.int32),
    "squeezed": np.squeeze,
}


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
def test_scores_come_in_any_form(form: Callable[[np.ndarray], Any], bench: Bench) -> None:
    box = bench.open(lambda x: form(bench.scores(x)))
    assert box.outputs == "logits"
    np.testing.assert_array_equal(box.classifier.labels(bench.x[:1]), bench.logits[:1].argmax(axis=1))


@pytest.mark.parametrize("form", [lambda y: y[:, None], lambda y: y.astype(float), pd.Series, np.squeeze, list])
def test_labels_come_in_any_form(form: Callable[[np.ndarray], Any], bench: Bench) -> None:
    box = bench.open(lambda x: form(bench.scores(x).argmax(axis=1)))
    assert box.outputs == "labels"
    np.testing.assert_array_equal(box.classifier.labels(bench.x[:1]), bench.logits[:1].argmax(axis=1))


# --- what is stated -----------------------------------------------------------------------------------------


def test_what_is_stated_is_used(bench: Bench) -> None:
    box = bench.open(lambda x: softmax(bench.scores(x), axis=1), input_range="0..1", layout="flat", outputs="labels")
    assert (box.input_range, box.layout, box.outputs) == ("0..1", "flat", "labels")
    np.testing.assert_array_equal(box.classifier.predict(bench.x), np.eye(10)[bench.logits.argmax(axis=1)])
    box = bench.open(lambda x: softmax(bench.scores(x), axis=1), outputs="logits")
    np.testing.assert_allclose(box.classifier.predict(bench.x), softmax(bench.logits, axis=1), atol=1e-5)


def test_a_better_range_than_the_stated_one_is_told(bench: Bench) -> None:
    def to_255(x: Images) -> np.ndarray:
        return np.asarray(x.reshape(len(x), -1) / 255 @ bench.weights + bench.bias / 50) / 20  # 46 % at [0, 1]

    box = bench.open(to_255, input_range="0..1")
    assert (box.input_range, box.better_range) == ("0..1", "0..255")
    box = bench.open(lambda x: to_255(x).argmax(axis=1), input_range="0..1")
    assert (box.input_range, box.better_range) == ("0..1", "0..255")
    assert bench.open(to_255, input_range="0..255").better_range is None


@pytest.mark.parametrize("kind", ["logits", "probabilities"])
def test_labels_are_no_scores_whatever_is_stated(kind: str, bench: Bench) -> None:
    line = refusal(bench, lambda x: bench.scores(x).argmax(axis=1), outputs=kind)
    assert line == f"outputs: the model gives labels, not {kind} (labels or auto)"


def test_logits_are_no_probabilities_whatever_is_stated(bench: Bench) -> None:
    assert "outputs: a probability of -" in refusal(bench, bench.scores, outputs="probabilities")


# --- refusals -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["predict", "predict_proba"])
def test_a_stated_range_at_chance_is_refused_with_the_one_that_works(
    method: str, forest: RandomForestClassifier, bench: Bench
) -> None:
    line = refusal(bench, getattr(forest, method), input_range="0..1")
    pattern = r"300 clean images \(.*\), input looks like 0\.\.255: \d+\.\d % at \[0, 1\], \d\d\.\d % at \[0, 255\]"
    assert re.search(pattern, line), line
    assert line.endswith("(give --input-range 0..255)")


def test_a_stated_layout_at_chance_is_refused_with_the_one_that_works(bench: Bench) -> None:
    def blind(x: Images) -> np.ndarray:
        return second_channel(bench, "chw")(x) if x.shape[1] == 3 else np.zeros((len(x), 10))

    with pytest.raises(ModelError, match=r"input looks like chw: \d+\.\d % as hwc, \d\d\.\d % as chw \(give --layout"):
        open_blackbox(blind, coloured(bench), bench.y, 10, layout="hwc")


def test_chance_level_is_refused_with_all_that_was_tried(bench: Bench) -> None:
    def noise(x: Images) -> np.ndarray:
        return np.random.default_rng(len(x)).normal(size=(len(x), 10))

    line = refusal(bench, noise)
    assert all(f" % at {pixels}" in line for pixels in ("[0, 1]", "[0, 255]", "[-1, 1]"))
    assert "check the label order" in line
    assert " as hwc" in refusal(bench, lambda x: noise(x) + x.shape[-1])


def test_labels_in_another_order_are_refused_with_the_cause(bench: Bench) -> None:
    line = refusal(bench, lambda x: (bench.scores(x).argmax(axis=1) + 1) % 10)
    assert re.search(r"the classes look reordered: \d\d\.\d % are right in another order", line), line


def nan_in_some(scores: np.ndarray) -> np.ndarray:
    scores[1::2, 3] = np.nan
    return scores


WRONG: dict[str, tuple[Callable[[np.ndarray], Any], str]] = {
    "NaN": (nan_in_some, r"NaN or infinite scores for \d+ of \d+ images"),
    "infinite": (lambda s: s / np.zeros(1), "NaN or infinite scores"),
    "fewer classes": (lambda s: s[:, :7], "7 scores, the data set has 10 classes .--labels map if labels start"),
    "fewer rows": (lambda s: s[:-1], r"the model gives \d+ rows for \d+ images"),
    "labels from 1": (lambda s: s.argmax(axis=1) + 1, r"gives labels from 1 to 10, the data set has 0 to 9"),
    "negative labels": (lambda s: -s.argmax(axis=1), "gives labels from -9 to 0"),
    "one score": (lambda s: s[:, :1], "one number that is no class, expected 10 scores or one class an image"),
    "names": (lambda s: s.argmax(axis=1).astype(str), "the model gives no numbers, expected 10 scores"),
    "nothing": (lambda _: None, "the model gives no numbers"),
    "maps": (lambda s: np.stack([s, s], axis=1), "gives 20 scores"),
    "uneven": (lambda _: [[1.0], [1.0, 2.0]], "a list of uneven rows"),
    "two outputs": (lambda s: {"a": s, "b": s}, "outputs named a, b"),
}


@pytest.mark.filterwarnings("ignore:divide by zero:RuntimeWarning")
@pytest.mark.parametrize(("spoil", "says"), WRONG.values(), ids=WRONG)
def test_answers_that_do_not_fit_are_refused(spoil: Callable[[np.ndarray], Any], says: str, bench: Bench) -> None:
    line = refusal(bench, lambda x: spoil(bench.scores(x)))
    assert re.search(says, line), line


def test_a_function_that_always_raises_is_refused_with_its_first_words(bench: Bench) -> None:
    def broken(_: Images) -> np.ndarray:
        raise RuntimeError("no weights\nat line 3")

    assert refusal(bench, broken) == "model: the model cannot be run: RuntimeError: no weights"


def test_a_function_that_raises_at_every_layout_is_refused_with_each_reason(bench: Bench) -> None:
    def picky(x: Images) -> np.ndarray:
        raise ValueError(f"what are {x.ndim} axes?" if x.shape[-1] != 1 else "")

    line = refusal(bench, picky)
    assert "ValueError as hwc; ValueError: what are 4 axes? as chw; ValueError: what are 2 axes? as flat" in line


# --- as attacks see it --------------------------------------------------------------------------------------


@pytest.fixture
def counted(bench: Bench) -> tuple[BlackBox, list[int]]:
    sizes: list[int] = []

    def function(x: Images) -> np.ndarray:
        sizes.append(len(x))
        x *= 0.5  # its own copy
        return bench.scores(2 * x)

    return BlackBox(function, (28, 28, 1), 10), sizes


def test_predictions_are_chunked_and_leave_the_images_alone(counted: tuple[BlackBox, list[int]], bench: Bench) -> None:
    model, sizes = counted
    before = bench.x.copy()
    np.testing.assert_allclose(model.predict(bench.x), bench.logits, atol=1e-4)
    assert sizes == [CHUNK, CHUNK, 300 - 2 * CHUNK]
    np.testing.assert_array_equal(bench.x, before)
    assert model.predict(bench.x[:0]).shape == (0, 10)
    assert model.labels(bench.x[:3]).dtype == np.int64


def test_art_knows_it(counted: tuple[BlackBox, list[int]]) -> None:
    model, _ = counted
    assert isinstance(model, BlackBoxClassifier)
    assert (model.nb_classes, model.input_shape, tuple(model.clip_values)) == (10, (28, 28, 1), (0.0, 1.0))


def test_what_breaks_later_is_one_line_too(bench: Bench) -> None:
    def moody(x: Images) -> np.ndarray:
        if len(x) == 5:
            raise MemoryError
        return bench.scores(x)

    model = bench.open(moody).classifier
    with pytest.raises(ModelError, match=r"cannot be run on images of shape \(5, 28, 28, 1\): MemoryError"):
        model.predict(bench.x[:5])


def test_square_fools_it_and_pgd_is_refused(logistic: LogisticRegression, bench: Bench) -> None:
    model = bench.open(logistic.predict_proba).classifier
    right = model.labels(bench.x) == bench.y
    x, y = bench.x[right][:20], bench.y[right][:20]
    made = Square(max_iter=100).run(model, x, y, 0.3, seed=0)
    assert (model.labels(made.images) != y).mean() > 0.5
    assert np.abs(made.images - x).max() <= 0.3 + 1e-6
    with pytest.raises(SettingError, match="pgd needs gradients, the model shows only scores"):
        Pgd().run(model, x, y, 0.3, seed=0)


def test_square_is_refused_where_only_labels_are_seen(logistic: LogisticRegression, bench: Bench) -> None:
    model = bench.open(logistic.predict).classifier
    with pytest.raises(SettingError, match="square needs scores, the model shows only labels"):
        Square(max_iter=100).run(model, bench.x[:2], bench.y[:2], 0.3, seed=0)
