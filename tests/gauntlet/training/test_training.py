"""Training: the same seed gives the same weights, and the best weights are the ones kept."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from pydantic import ValidationError

from gauntlet.data.datasets import Dataset
from gauntlet.data.splits import stratified_split
from gauntlet.errors import SettingError
from gauntlet.models.architectures import ARCHITECTURES, architecture
from gauntlet.training.fit import Training, computes_in_bfloat16, train, usual_epochs

every_architecture = pytest.mark.parametrize("name", ARCHITECTURES)


@pytest.fixture(scope="module")
def tiny(small: Dataset) -> Dataset:
    """200 training images of 14 × 14 pixels: enough to see that something is learnt."""
    return replace(
        small,
        x_train=small.x_train[:200, ::2, ::2],
        y_train=small.y_train[:200],
        x_test=small.x_test[:, ::2, ::2],
    )


def weights(dataset: Dataset, *, perturb: Any = None, **settings: Any) -> list[np.ndarray]:
    training = Training(**{"epochs": 1, "batch_size": 50} | settings)
    return train(dataset, training, perturb=perturb).model.get_weights()


def same(left: list[np.ndarray], right: list[np.ndarray]) -> bool:
    return all(np.array_equal(a, b) for a, b in zip(left, right, strict=True))


@pytest.fixture(scope="module")
def usual(tiny: Dataset) -> list[np.ndarray]:
    """The weights that seed 0 gives."""
    return weights(tiny, seed=0)


# --- architectures ------------------------------------------------------------------------------------------


@every_architecture
@pytest.mark.parametrize(("shape", "n_classes"), [((28, 28, 1), 10), ((32, 32, 3), 7)])
def test_an_architecture_gives_logits(name: str, shape: tuple[int, int, int], n_classes: int) -> None:
    network = architecture(name).build(shape, n_classes)
    scores = network(np.random.default_rng(0).random((3, *shape), dtype=np.float32)).numpy()
    assert scores.shape == (3, n_classes)
    assert not np.allclose(scores.sum(axis=1), 1, atol=1e-3)  # probabilities would
    assert scores.min() < 0


def test_the_5x5_network_has_the_published_size() -> None:
    assert architecture("cnn5x5").build((28, 28, 1), 10).count_params() == 3_274_634


def test_the_residual_network_is_small_and_its_blocks_have_a_way_past_them() -> None:
    network = architecture("resnet-small").build((32, 32, 3), 10)
    assert 200_000 < network.count_params() <= 300_000
    assert sum(type(layer).__name__ == "Add" for layer in network.layers) == 3


def test_an_unknown_architecture_is_refused_with_the_known_ones() -> None:
    with pytest.raises(SettingError, match=r"architecture: unknown architecture 'vgg' \(one of cnn3x3, "):
        architecture("vgg")


# --- settings -----------------------------------------------------------------------------------------------


@every_architecture
def test_what_is_not_given_is_the_architectures_own(name: str) -> None:
    resolved, own = Training(architecture=name, seed=3).resolved(60_000), ARCHITECTURES[name]
    assert None not in resolved.model_dump().values()
    assert (resolved.optimizer, resolved.learning_rate) == (own.optimizer, own.learning_rate)
    assert (resolved.momentum, resolved.validation_share) == (own.momentum, own.validation_share)
    assert (resolved.schedule, resolved.augment) == (own.schedule, own.augment)
    assert (resolved.epochs, resolved.seed) == (3, 3)


def test_what_is_given_stands() -> None:
    given = Training(
        architecture="cnn5x5",
        epochs=1,
        learning_rate=0.5,
        momentum=0.0,
        validation_share=0.3,
        optimizer="sgd",
        schedule="cosine",
        augment="shift",
        precision="float32",
    )
    assert given.resolved(60_000) == given
    deep = Training(architecture="cnn3x3-deep", validation_share=0.0)
    assert deep.resolved(60_000).validation_share == 0.0


def test_another_optimizer_does_not_inherit_the_learning_rate() -> None:
    adam = Training(architecture="cnn5x5", optimizer="adam").resolved(60_000)
    assert (adam.learning_rate, adam.momentum) == (0.001, 0.0)
    assert Training(architecture="cnn3x3", optimizer="sgd").resolved(60_000).learning_rate == 0.01


@pytest.mark.parametrize(("n", "epochs"), [(60_000, 3), (1_000_000, 3), (20_000, 9)])
def test_small_sets_are_passed_more_often(n: int, epochs: int) -> None:
    assert usual_epochs(n) == epochs


def test_no_set_is_passed_without_end() -> None:
    assert 9 < usual_epochs(1_437) == usual_epochs(1) <= 30


@pytest.mark.parametrize(
    "wrong",
    [
        {"epochs": 0},
        {"batch_size": 0},
        {"learning_rate": 0},
        {"momentum": 1},
        {"validation_share": 1},
        {"seed": -1},
        {"architecture": "vgg"},
        {"optimizer": "lion"},
        {"lr": 0.1},
    ],
    ids=str,
)
def test_a_setting_out_of_range_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError, match=next(iter(wrong))):
        Training(**wrong)


# --- fitting ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=[pytest.mark.slow] * (name in ("resnet-small", "cnn3x3-deep")))
        for name in ARCHITECTURES
    ],
)
def test_the_same_seed_gives_the_same_weights_bit_for_bit(name: str, tiny: Dataset) -> None:
    first = weights(tiny, architecture=name)
    keras.utils.set_random_seed(99)  # what happened before does not matter
    assert same(first, weights(tiny, architecture=name))


def test_another_seed_gives_other_weights(tiny: Dataset, usual: list[np.ndarray]) -> None:
    assert not same(weights(tiny, seed=1), usual)


def test_training_learns_and_its_history_says_so(tiny: Dataset) -> None:
    trained = train(tiny, Training(epochs=8, batch_size=20, validation_share=0.0))
    assert list(trained.history) == ["accuracy", "loss"]
    assert len(trained.history["loss"]) == len(trained.history["accuracy"]) == 8
    assert trained.history["loss"][-1] < trained.history["loss"][0]
    assert trained.seconds > 0
    predicted = trained.model.predict(tiny.x_test, verbose=0).argmax(axis=1)
    assert (predicted == tiny.y_test).mean() > 0.5


def test_other_images_take_the_place_of_the_training_set(tiny: Dataset) -> None:
    only_threes = np.full_like(tiny.y_train, 3)
    trained = train(tiny, Training(epochs=3, batch_size=50), x=tiny.x_train, y=only_threes)
    assert (trained.model.predict(tiny.x_test, verbose=0).argmax(axis=1) == 3).all()


def test_the_weights_of_the_best_validation_loss_are_kept(tiny: Dataset) -> None:
    steps = tf.Variable(0)

    def spoil(_: Any, x: Any, __: Any) -> Any:
        """Real images for three epochs of 5 steps, then their negatives: the validation loss rises again."""
        return tf.cond(steps.assign_add(1) > 15, lambda: 1 - x, lambda: x)

    trained = train(tiny, Training(epochs=5, batch_size=32, validation_share=0.2), perturb=spoil)
    losses = trained.history["val_loss"]
    assert min(losses) < losses[-1]
    _, held = stratified_split(tiny.y_train, 0.2, 0)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    kept = float(loss(tiny.y_train[held], trained.model.predict(tiny.x_train[held], verbose=0)))
    assert kept == pytest.approx(min(losses), rel=1e-3)


@pytest.mark.parametrize("n", [164, 7], ids=["many steps, of which some are told", "fewer images than a batch"])
def test_progress_rises_to_one(n: int, tiny: Dataset) -> None:
    cut = replace(tiny, x_train=tiny.x_train[:n], y_train=tiny.y_train[:n])
    told: list[tuple[str, float]] = []
    train(cut, Training(epochs=2, batch_size=4 if n > 100 else 8), progress=lambda *news: told.append(news))
    shares = [share for _, share in told]
    assert shares == sorted(shares)
    assert shares[0] > 0
    assert shares[-1] == pytest.approx(1)
    assert 2 <= len(told) <= 2 * 40
    assert told[0][0].startswith("epoch 1/2, loss ")
    assert told[-1][0].startswith("epoch 2/2, loss ")


def test_a_perturbation_is_what_is_trained_on(tiny: Dataset, usual: list[np.ndarray]) -> None:
    start = architecture("cnn3x3")
    keras.utils.set_random_seed(0)
    untrained = start.build(tiny.input_shape, tiny.n_classes).get_weights()
    black = weights(tiny, perturb=lambda _, x, __: tf.zeros_like(x))
    # black images give the first kernels no gradient; real ones do
    np.testing.assert_array_equal(black[0], untrained[0])
    assert not np.array_equal(usual[0], untrained[0])


def test_a_perturbation_that_changes_nothing_changes_nothing(tiny: Dataset, usual: list[np.ndarray]) -> None:
    assert same(weights(tiny, perturb=lambda _, x, __: x), usual)


def test_a_perturbation_gets_the_network_that_is_trained_and_the_labels(tiny: Dataset) -> None:
    seen: list[tuple[Any, Any, Any]] = []

    def spy(network: Any, x: Any, y: Any) -> Any:
        seen.append((network, x.shape[1:], y.dtype))
        return x

    # in bfloat16 the trained network is copied to a float32 one at the end
    trained = train(tiny, Training(epochs=1, batch_size=50, precision="float32"), perturb=spy)
    assert all(entry == (trained.model, (14, 14, 1), tf.int64) for entry in seen)
    assert seen


NO_KERNELS = pytest.mark.skipif(not computes_in_bfloat16(), reason="this processor has no bfloat16 kernels")


@pytest.mark.parametrize("precision", ["float32", pytest.param("bfloat16", marks=NO_KERNELS)])
def test_the_precision_is_of_the_training_and_not_of_the_model(tiny: Dataset, precision: str) -> None:
    trained = train(tiny, Training(epochs=1, precision=precision))
    assert {array.dtype for array in trained.model.get_weights()} == {np.dtype("float32")}
    assert all(layer.compute_dtype == "float32" for layer in trained.model.layers)


def test_the_precision_is_chosen_and_recorded() -> None:
    chosen = Training().resolved(60_000).precision
    assert chosen == ("bfloat16" if computes_in_bfloat16() else "float32")


# --- augmentation and schedule ------------------------------------------------------------------------------


def test_augmented_images_are_the_same_moved_by_whole_pixels_some_of_them_mirrored() -> None:
    from gauntlet.training.augment import augmented

    tf.random.set_seed(0)
    image = np.arange(16 * 24, dtype=np.float32).reshape(1, 16, 24, 1)
    moved = augmented(np.repeat(image, 200, axis=0), "flip-shift").numpy()
    padded = np.pad(image[0, :, :, 0], ((2, 2), (3, 3)), mode="symmetric")
    ways = {
        (padded[top : top + 16, left : left + 24][:, ::step]).tobytes()
        for top in range(5)
        for left in range(7)
        for step in (1, -1)
    }
    seen = {one[:, :, 0].tobytes() for one in moved}
    assert seen <= ways
    assert len(seen) > 50  # of 70
    shifted = {one[:, :, 0].tobytes() for one in augmented(np.repeat(image, 200, axis=0), "shift").numpy()}
    assert all(np.diff(np.frombuffer(one, np.float32).reshape(16, 24), axis=1)[:, 12].min() > 0 for one in shifted)
    assert np.array_equal(augmented(image, "none"), image)


@pytest.mark.parametrize("perturbed", [False, True])
def test_a_fit_on_augmented_images_learns_and_repeats(perturbed: bool, tiny: Dataset) -> None:
    seen: list[float] = []

    def same(_network: Any, x: Any, _y: Any) -> Any:
        seen.append(float(x.shape[1]))
        return x

    settings = Training(epochs=6, batch_size=20, augment="shift", schedule="cosine")
    first, second = (train(tiny, settings, perturb=same if perturbed else None) for _ in range(2))
    assert first.history["loss"][-1] < first.history["loss"][0]
    assert bool(seen) == perturbed
    pairs = zip(first.model.get_weights(), second.model.get_weights(), strict=True)
    assert all(np.array_equal(one, other) for one, other in pairs)
