"""People's models: what they expect is detected, and logits come out whatever they gave."""

from __future__ import annotations

import re
from collections.abc import Callable

import keras
import numpy as np
import pytest

from gauntlet.data.datasets import Dataset
from gauntlet.errors import ModelError
from gauntlet.models.adapter import RANGES, Expects, Fit, _scores, adapt, find_way, fit
from gauntlet.models.classifier import CompiledClassifier
from gauntlet.models.digest import digest
from gauntlet.models.layout import channels_last
from tests.gauntlet.models.bench import Bench


def log_softmax(logits: np.ndarray) -> np.ndarray:
    return logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))


# --- outputs ------------------------------------------------------------------------------------------------


def test_logits_stay_as_they_are(bench: Bench) -> None:
    network = bench.network()
    adapted = adapt(network, bench.x, bench.y, 10)
    assert adapted.model is network
    assert (adapted.input_range, adapted.outputs) == ("0..1", "logits")


SOFTMAX: dict[str, Callable[[Bench], keras.Model]] = {
    "activation of the last layer": lambda bench: bench.network(activation="softmax"),
    "activation layer": lambda bench: bench.network([keras.layers.Activation("softmax")]),
    "softmax layer": lambda bench: bench.network([keras.layers.Softmax()]),
}


@pytest.mark.parametrize("make", SOFTMAX.values(), ids=SOFTMAX)
def test_a_softmax_is_removed(make: Callable[[Bench], keras.Model], bench: Bench) -> None:
    detected, outputs, logits = bench.adapt(make(bench))
    assert (detected, outputs) == ("0..1", "probabilities")
    np.testing.assert_allclose(logits, bench.logits, atol=1e-3)


@pytest.mark.parametrize("make", SOFTMAX.values(), ids=SOFTMAX)
def test_the_given_model_still_gives_probabilities(make: Callable[[Bench], keras.Model], bench: Bench) -> None:
    network = make(bench)
    before, name = network(bench.x).numpy(), digest(network)
    first, second = bench.adapt(network), bench.adapt(network)
    np.testing.assert_array_equal(network(bench.x).numpy(), before)
    assert digest(network) == name
    assert first[:2] == second[:2]


def test_probabilities_of_zero_have_a_finite_logarithm(bench: Bench) -> None:
    sure = bench.network([keras.layers.Rescaling(1000.0), keras.layers.Softmax()])
    nested = keras.Sequential([keras.Input((28, 28, 1)), sure])
    assert np.isfinite(bench.adapt(nested)[2]).all()


def test_stated_outputs_are_not_doubted(bench: Bench) -> None:
    network = bench.network(activation="softmax")
    _, outputs, scores = bench.adapt(network, outputs="logits")
    assert outputs == "logits"
    np.testing.assert_allclose(scores.sum(axis=1), 1, atol=1e-5)
    assert bench.adapt(network, outputs="probabilities")[1] == "probabilities"


# --- inputs -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("activation", [None, "softmax"])
@pytest.mark.parametrize("pixels", RANGES)
def test_the_range_that_a_model_was_trained_on_is_found(pixels: str, activation: str | None, bench: Bench) -> None:
    detected, _, logits = bench.adapt(bench.network(activation=activation, pixels=pixels))
    assert detected == pixels
    np.testing.assert_allclose(logits, bench.logits, atol=1e-3)


@pytest.mark.parametrize("pixels", RANGES)
def test_a_stated_range_is_used_whatever_fits_better(pixels: str, bench: Bench) -> None:
    scale, offset = RANGES[pixels]
    detected, _, logits = bench.adapt(bench.network(), input_range=pixels)
    assert detected == pixels
    expected = (bench.x.reshape(200, -1) * scale + offset) @ bench.weights + bench.bias
    np.testing.assert_allclose(logits, expected, rtol=1e-3, atol=1e-2)


@pytest.mark.parametrize("activation", [None, "softmax"])
@pytest.mark.parametrize("shape", [(784,), (28, 28), (1, 28, 28)], ids=str)
def test_images_are_brought_into_the_models_shape(shape: tuple[int, ...], activation: str | None, bench: Bench) -> None:
    network = bench.network(activation=activation, shape=shape)
    adapted = adapt(network, bench.x, bench.y, 10)
    assert adapted.model.input_shape == (None, 28, 28, 1)
    np.testing.assert_allclose(adapted.model(bench.x, training=False).numpy(), bench.logits, atol=1e-3)


def test_a_flat_model_inside_a_model_loses_its_softmax(bench: Bench) -> None:
    inner = bench.network(activation="softmax", shape=(784,))
    _, outputs, logits = bench.adapt(keras.Sequential([keras.Input((784,)), inner]))
    assert outputs == "probabilities"
    np.testing.assert_allclose(logits, bench.logits, atol=1e-3)


# --- refusals -----------------------------------------------------------------------------------------------


def any_size(channels: int) -> keras.Model:
    """A model for images of any size."""
    pooled = [keras.layers.Conv2D(4, 3), keras.layers.GlobalAveragePooling2D(), keras.layers.Dense(10)]
    return keras.Sequential([keras.Input((None, None, channels)), *pooled])


@pytest.mark.parametrize("shape", [(32, 32, 1), (28, 28, 3), (100,)], ids=str)
def test_a_model_for_other_images_is_refused(shape: tuple[int, ...], bench: Bench) -> None:
    network = keras.Sequential([keras.Input(shape), keras.layers.Flatten(), keras.layers.Dense(10)])
    with pytest.raises(ModelError, match=r"takes images of shape \(.*\), the data set has \(28, 28, 1\)"):
        adapt(network, bench.x, bench.y, 10)


def test_a_model_of_any_size_for_other_channels_is_refused(bench: Bench) -> None:
    with pytest.raises(ModelError, match=r"takes images of shape \(None, None, 3\), the data set has \(28, 28, 1\)"):
        adapt(any_size(3), bench.x, bench.y, 10)


def test_a_model_with_two_outputs_is_refused(bench: Bench) -> None:
    network = bench.network()
    twice = keras.Model(network.inputs[0], [network.outputs[0], network.outputs[0]])
    with pytest.raises(ModelError, match=r"the model has 2 outputs, 0 \(10\), 1 \(10\); expected one of 10 scores"):
        adapt(twice, bench.x, bench.y, 10)


def test_a_model_for_other_classes_is_refused(bench: Bench) -> None:
    with pytest.raises(ModelError, match="the model has 10 outputs, the data set 7 classes"):
        adapt(bench.network(), bench.x, bench.y, 7)


def test_one_score_is_not_enough_for_ten_classes(bench: Bench) -> None:
    single = keras.Sequential([keras.Input((28, 28, 1)), keras.layers.Flatten(), keras.layers.Dense(1)])
    with pytest.raises(ModelError, match=r"1 outputs, the data set 10 classes .one score tells two classes apart"):
        adapt(single, bench.x, bench.y, 10)


@pytest.mark.parametrize("shape", [(28, 28, 1), (None, None, 1)], ids=["of one size", "of any size"])
def test_a_model_at_chance_is_refused_with_what_was_tried(shape: tuple[int | None, ...], bench: Bench) -> None:
    keras.utils.set_random_seed(0)
    flat = keras.Sequential([keras.Input(shape), keras.layers.Flatten(), keras.layers.Dense(10)]) if shape[0] else None
    with pytest.raises(ModelError) as caught:
        adapt(flat or any_size(1), bench.x, bench.y, 10)
    message = str(caught.value)
    assert re.search(r"at chance level on 200 clean images \(balanced accuracy \d+\.\d %\): ", message)
    assert all(f" % at {pixels}" in message for pixels in ("[0, 1]", "[0, 255]", "[-1, 1]"))
    assert "check the label order" in message
    assert "\n" not in message


def test_labels_in_another_order_are_refused_with_the_cause(bench: Bench) -> None:
    right = 100 * (bench.logits.argmax(axis=1) == bench.y).mean()
    with pytest.raises(ModelError, match=f"the classes look reordered: {right:.1f} % are right in another order"):
        adapt(bench.network(), bench.x, (bench.y + 1) % 10, 10)


def test_one_image_is_too_few_to_say_that_the_classes_are_in_another_order(bench: Bench) -> None:
    with pytest.raises(ModelError, match=r"at chance level on 1 clean images .* would tell nothing at their best"):
        adapt(bench.network(), bench.x[:1], bench.y[:1], 10)


@pytest.mark.parametrize(("stated", "said"), [("0..1", "[0, 1]"), ("-1..1", "[-1, 1]")])
def test_a_stated_range_at_chance_is_refused_with_the_one_that_works(stated: str, said: str, bench: Bench) -> None:
    # all bias at a 255th of the pixels it was made for
    network = bench.network(pixels="0..255")
    network.layers[-1].bias.assign_add(np.eye(10)[3] * 5)
    with pytest.raises(ModelError) as caught:
        adapt(network, bench.x, bench.y, 10, stated)  # type: ignore[arg-type]
    found = re.search(r"at chance level on 200 clean images \(.*\), input looks like 0..255: (.*)", str(caught.value))
    assert found, str(caught.value)
    assert re.match(
        rf"\d+\.\d % at {re.escape(said)}, \d\d\.\d % at \[0, 255\] \(give --input-range 0..255\)", found[1]
    )


def test_a_stated_range_that_fits_worse_is_kept_and_doubted(bench: Bench) -> None:
    network = bench.network(pixels="0..255")
    network.layers[-1].set_weights([bench.weights / 255 / 20, bench.bias / 50 / 20])  # 46 % at [0, 1], 84 % at [0, 255]
    adapted = adapt(network, bench.x, bench.y, 10, "0..1")
    assert (adapted.input_range, adapted.better_range) == ("0..1", "0..255")
    assert adapt(network, bench.x, bench.y, 10, "0..1", doubt=False).better_range is None


@pytest.mark.parametrize("pixels", ["0..255", "auto"])
def test_what_fits_best_is_not_doubted(pixels: str, bench: Bench) -> None:
    adapted = adapt(bench.network(pixels="0..255"), bench.x, bench.y, 10, pixels)  # type: ignore[arg-type]
    assert (adapted.input_range, adapted.better_range) == ("0..255", None)


def test_more_images_right_count_more_than_a_lower_loss() -> None:
    # an overconfident network trained on pixels to 255: wrong, it is wrong by far
    ways = [Expects(pixels, "hwc") for pixels in RANGES]
    y = np.arange(360) % 10
    fits = {
        way: Fit(*seen, y, True, np.full(360, seen[0]))
        for way, seen in zip(ways, ((0.7, 0.81), (1.5, 0.92), (9.0, 0.1)), strict=True)
    }
    assert find_way(fits.__getitem__, ways, [], y, 10) == (ways[1], None)
    assert find_way(fits.__getitem__, ways[:1], ways[1:], y, 10) == (ways[0], "0..255")
    fits[ways[0]] = Fit(0.7, 0.91, y, True, np.full(360, 0.7))
    assert find_way(fits.__getitem__, ways, [], y, 10) == (ways[0], None)
    assert find_way(fits.__getitem__, ways[:1], ways[1:], y, 10) == (ways[0], None)


@pytest.mark.parametrize("pixels", ["0..1", "-1..1", "0..255"])
def test_a_few_images_do_not_mislead(pixels: str, model: keras.Model, digits: Dataset) -> None:
    """Fed pixels 255 times too large the network is sure of every image, and right on as many of twelve."""
    scale, offset = RANGES[pixels]
    wanted = keras.Sequential([keras.Input((28, 28, 1)), keras.layers.Rescaling(1 / scale, -offset / scale), model])
    every = {each: _scores(wanted, digits.x_test, Expects(each, "hwc")) for each in RANGES}
    wrong = 0
    for seed in range(40):
        few = np.random.default_rng(seed).choice(len(digits.y_test), 12, replace=False)
        fits = {Expects(each, "hwc"): fit(scores[few], digits.y_test[few]) for each, scores in every.items()}
        wrong += find_way(fits.__getitem__, list(fits), [], digits.y_test[few], 10).expects.input_range != pixels
    assert wrong <= 3


def test_a_keras_model_gives_scores_not_labels(bench: Bench) -> None:
    with pytest.raises(ModelError, match="outputs: a Keras model is attacked through its scores"):
        adapt(bench.network(), bench.x, bench.y, 10, outputs="labels")


# --- layouts ------------------------------------------------------------------------------------------------


class Coloured:
    """The digits in three channels that are not alike, and linear models that read them in any layout."""

    def __init__(self, bench: Bench, centroids: tuple[np.ndarray, np.ndarray]) -> None:
        self.x, self.y = np.concatenate([bench.x, bench.x**2, 0 * bench.x], axis=-1), bench.y
        weights = np.zeros((28, 28, 3, 10), np.float32)
        weights[:, :, 0] = centroids[0].reshape(28, 28, 10)
        self.weights, self.logits = weights, bench.logits

    def network(self, layout: str, shape: tuple[int, ...]) -> keras.Model:
        weights = self.weights.transpose(2, 0, 1, 3) if layout == "chw" else self.weights
        dense = keras.layers.Dense(10)
        network = keras.Sequential([keras.Input(shape), keras.layers.Flatten(), dense])
        dense.set_weights([weights.reshape(-1, 10), self.bias])
        return network

    @property
    def bias(self) -> np.ndarray:
        return np.asarray(self.logits[0] - self.x[0].ravel() @ self.weights.reshape(-1, 10))


@pytest.fixture(scope="module")
def coloured(bench: Bench, centroids: tuple[np.ndarray, np.ndarray]) -> Coloured:
    return Coloured(bench, centroids)


@pytest.mark.parametrize("layout", ["auto", "stated"])
@pytest.mark.parametrize(
    ("order", "shape"), [("hwc", (28, 28, 3)), ("chw", (3, 28, 28)), ("flat", (2352,))], ids=["hwc", "chw", "flat"]
)
def test_the_layout_is_found_or_stated(order: str, shape: tuple[int, ...], layout: str, coloured: Coloured) -> None:
    stated = "auto" if layout == "auto" else order
    network = coloured.network(order, shape)
    adapted = adapt(network, coloured.x, coloured.y, 10, layout=stated)  # type: ignore[arg-type]
    assert (adapted.layout, adapted.input_range) == (order, "0..1")
    assert adapted.model.input_shape == (None, 28, 28, 3)
    np.testing.assert_allclose(adapted.model(coloured.x, training=False).numpy(), coloured.logits, atol=1e-3)


@pytest.mark.parametrize("order", ["hwc", "chw"])
def test_a_shape_that_could_be_either_is_told_by_what_it_knows(order: str, bench: Bench) -> None:
    # 28 x 28 x 28: the digit in the first channel of 28, which are the first rows of the other layout
    x = np.concatenate([bench.x, np.zeros((200, 28, 28, 27), np.float32)], axis=-1)
    kernel = np.zeros((28, 28, 28, 10), np.float32)
    kernel[:, :, 0] = bench.weights.reshape(28, 28, 10)
    kernel = kernel.transpose(2, 0, 1, 3) if order == "chw" else kernel
    dense = keras.layers.Dense(10)
    network = keras.Sequential([keras.Input((28, 28, 28)), keras.layers.Flatten(), dense])
    dense.set_weights([kernel.reshape(-1, 10), bench.bias])
    adapted = adapt(network, x, bench.y, 10)
    assert adapted.layout == order
    np.testing.assert_allclose(adapted.model(x, training=False).numpy(), bench.logits, atol=1e-3)


def test_a_layout_that_the_model_does_not_take_is_refused(coloured: Coloured) -> None:
    network = coloured.network("chw", (3, 28, 28))
    with pytest.raises(ModelError, match=r"takes images of shape \(3, 28, 28\).* \(28, 28, 3\) in layout hwc"):
        adapt(network, coloured.x, coloured.y, 10, layout="hwc")


def test_channels_first_convolutions_run_on_any_processor(coloured: Coloured) -> None:
    first = [
        keras.layers.Conv2D(4, 3, data_format="channels_first"),
        keras.layers.MaxPooling2D(data_format="channels_first"),
    ]
    inner = keras.Sequential([keras.Input((3, 28, 28)), *first])
    network = keras.Sequential([keras.Input((3, 28, 28)), inner, keras.layers.Flatten(), keras.layers.Dense(10)])
    made = channels_last(network)
    made.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    made.fit(coloured.x.transpose(0, 3, 1, 2), coloured.y, epochs=3, batch_size=20, verbose=0)
    network.set_weights(made.get_weights())
    adapted = adapt(network, coloured.x, coloured.y, 10)
    assert adapted.layout == "chw"
    gradient = CompiledClassifier(adapted.model).look(coloured.x[:4], coloured.y[:4]).gradient
    assert gradient.any(axis=(1, 2, 3)).all()
    assert channels_last(adapted.model) is adapted.model


@pytest.mark.parametrize(
    ("expected", "got", "says"),
    [
        ((28, 28, 3), (28, 28, 1), "--channels rgb"),
        ((3, 28, 28), (28, 28, 1), "--channels rgb"),
        ((28, 28), (28, 28, 3), "--channels grey"),
        ((32, 48, 1), (28, 28, 1), "--image-size 32x48"),
        ((32, 32, 3), (28, 28, 1), "--image-size 32x32 --channels rgb"),
    ],
)
def test_images_that_do_not_fit_are_refused_with_the_flags_that_help(
    expected: tuple[int, ...], got: tuple[int, ...], says: str
) -> None:
    model = keras.Sequential([keras.layers.Input(expected), keras.layers.Flatten(), keras.layers.Dense(10)])
    x, y = np.zeros((20, *got), np.float32), np.arange(20) % 10
    with pytest.raises(ModelError, match=rf"takes images of shape .* \({says}\)"):
        adapt(model, x, y, 10)


def test_a_model_of_more_classes_than_the_data_is_told_the_flag() -> None:
    model = keras.Sequential([keras.layers.Input((4, 4, 1)), keras.layers.Flatten(), keras.layers.Dense(100)])
    with pytest.raises(ModelError, match=r"100 outputs, the data set 10 classes \(--classes 100 if"):
        adapt(model, np.zeros((20, 4, 4, 1), np.float32), np.arange(20) % 10, 10)
