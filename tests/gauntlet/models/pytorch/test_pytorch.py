"""A PyTorch network is attacked as its Keras twin is: the same logits, gradients and broken images up to rounding."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import pytest

from gauntlet.attacks import Attack, Pgd
from gauntlet.data.datasets import Dataset
from gauntlet.errors import ModelError
from gauntlet.models.adapter import Expects
from gauntlet.models.architectures import ARCHITECTURES
from gauntlet.models.classifier import CompiledClassifier, WhiteBox
from gauntlet.models.losses import LOSSES
from gauntlet.models.pixels import Channels
from tests.gauntlet.attacking import CASES, alone, fooled, name_of, usual
from tests.torches import torch, twin

adapter = pytest.importorskip("gauntlet.models.pytorch.adapter")
box = pytest.importorskip("gauntlet.models.pytorch.classifier")
network = pytest.importorskip("gauntlet.models.pytorch.network")
N = 16


def boxed(module: Any, shape: tuple[int, ...] = (28, 28, 1), classes: int = 10, **facts: Any) -> Any:
    """A module of logits, attackable as it is."""
    way = facts.pop("way", Expects("0..1", "chw"))
    return box.TorchClassifier(box.Logits(network.of_module(module), "output", way, **facts), shape, classes)


@pytest.fixture(scope="module")
def pair(model: keras.Model, classifier: CompiledClassifier) -> tuple[WhiteBox, WhiteBox]:
    """The digits' network in Keras and in PyTorch."""
    return classifier, boxed(twin(model))


@pytest.mark.parametrize("name", [name for name in ARCHITECTURES if name.startswith("cnn")])
@pytest.mark.parametrize("shape", [(28, 28, 1), (32, 32, 3)], ids=str)
def test_an_architecture_gives_the_same_in_both(name: str, shape: tuple[int, int, int]) -> None:
    keras.utils.set_random_seed(0)
    made = ARCHITECTURES[name].build(shape, 10)
    one, other = CompiledClassifier(made), boxed(twin(made), shape)
    rng = np.random.default_rng(0)
    x, y = rng.uniform(size=(N, *shape)).astype(np.float32), np.arange(N) % 10
    np.testing.assert_allclose(other.predict(x), one.predict(x), atol=1e-5)
    ours, theirs = other.look(x, y), one.look(x, y)
    np.testing.assert_allclose(ours.loss, theirs.loss, atol=1e-5)
    # a unit that is zero but for rounding may count on one side and not on the other: its image then differs
    alike = np.isclose(ours.gradient, theirs.gradient, atol=1e-5).all(axis=(1, 2, 3))
    assert (~alike).sum() <= 1
    attack, eps = Pgd(max_iter=5), 0.1
    assert (fooled(other, attack, x, y, eps) != fooled(one, attack, x, y, eps)).sum() <= 1


@pytest.mark.parametrize("loss", LOSSES)
def test_losses_and_gradients_are_the_same(loss: Any, pair: tuple[WhiteBox, WhiteBox], digits: Dataset) -> None:
    x, y = digits.x_test[:150], digits.y_test[:150]
    theirs, ours = (one.look(x, y, loss, (y + 1) % 10) for one in pair)
    for ours_, theirs_ in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(ours_, theirs_, rtol=1e-3, atol=1e-3)
    assert np.abs(theirs.gradient).max() > 0.1


def test_arts_gradients_are_the_same(pair: tuple[WhiteBox, WhiteBox], digits: Dataset) -> None:
    x, y = digits.x_test[:N], digits.y_test[:N]
    theirs, ours = (one.loss_gradient(x, y) for one in pair)
    np.testing.assert_allclose(ours, theirs, atol=1e-4)
    theirs, ours = (one.class_gradient(x, 3) for one in pair)
    np.testing.assert_allclose(ours, theirs, atol=1e-4)


@pytest.mark.parametrize("case", CASES, ids=name_of)
def test_every_attack_breaks_the_same_images(case: Attack, pair: tuple[WhiteBox, WhiteBox], digits: Dataset) -> None:
    x, y = digits.x_test[:N], digits.y_test[:N]
    theirs, ours = (fooled(one, case, x, y, usual(case)) for one in pair)
    assert (ours != theirs).sum() <= (1 if alone(case) else 3)  # an image at the very border may fall on either side


def test_temperature_and_normalisation_are_part_of_the_gradient(
    pair: tuple[WhiteBox, WhiteBox], model: keras.Model, digits: Dataset
) -> None:
    x, y = digits.x_test[:N], digits.y_test[:N]
    way = Expects("0..1", "chw", Channels((0.5,), (0.25,)))
    undone = torch.nn.Sequential(_Scaled(0.25, 0.5), twin(model))
    other = boxed(undone, way=way, temperature=2.0)
    np.testing.assert_allclose(2 * other.predict(x), pair[0].predict(x), atol=1e-4)
    towards = (y + 1) % 10
    theirs, ours = (one.look(x, y, "difference", towards).gradient for one in (pair[0], other))
    np.testing.assert_allclose(2 * ours, theirs, atol=1e-3)


class _Scaled(torch.nn.Module):  # type: ignore[misc]
    def __init__(self, scale: float, offset: float) -> None:
        super().__init__()
        self.scale, self.offset = scale, offset

    def forward(self, x: Any) -> Any:
        return x * self.scale + self.offset


# --- what it gives and expects ----------------------------------------------------------------------------------


def adapted(module: Any, data: Dataset, **facts: Any) -> Any:
    return adapter.adapt_network(network.of_module(module), data.x_test, data.y_test, data.n_classes, **facts)


@pytest.mark.parametrize(
    ("last", "kind"),
    [
        ([], "logits"),
        ([torch.nn.Softmax(1)], "probabilities"),
        ([torch.nn.LogSoftmax(1)], "log-probabilities"),
        ([torch.nn.Sigmoid()], "sigmoid"),
        ([_Scaled(0.1, 0.0), torch.nn.Tanh()], "tanh"),
        ([_Scaled(0.5, 0.0), torch.nn.Softmax(1)], "probabilities"),
    ],
    ids=["logits", "softmax", "log-softmax", "sigmoid", "tanh", "softmax of half"],
)
def test_a_squashing_is_removed(last: list[Any], kind: str, model: keras.Model, digits: Dataset) -> None:
    found = adapted(torch.nn.Sequential(twin(model), *last), digits)
    assert (found.outputs, found.layout, found.input_range) == (kind, "chw", "0..1")
    scores = found.classifier.predict(digits.x_test[:N]) * found.temperature
    expected = model.predict(digits.x_test[:N], verbose=0)
    shift = (scores - expected).mean(axis=1, keepdims=True) if kind == "log-probabilities" else 0
    np.testing.assert_allclose(scores - shift, expected, atol=1e-3)


class _Named(torch.nn.Module):  # type: ignore[misc]
    """A network that gives its features as well, by name or place."""

    def __init__(self, inner: Any, kind: type) -> None:
        super().__init__()
        self.inner, self.kind = inner, kind

    def forward(self, x: Any) -> Any:
        logits = self.inner(x)
        return {"doubled": 2 * logits, "logits": logits} if self.kind is dict else (2 * logits, logits)


@pytest.mark.parametrize(("kind", "output"), [(dict, "logits"), (tuple, "1")], ids=["dict", "tuple"])
def test_an_output_is_chosen_by_its_name(kind: type, output: str, model: keras.Model, digits: Dataset) -> None:
    module = _Named(twin(model), kind)
    with pytest.raises(ModelError, match="name it with --output"):
        adapted(module, digits)
    with pytest.raises(ModelError, match="no output 'scores'"):
        adapted(module, digits, output="scores")
    found = adapted(module, digits, output=output)
    scores = found.classifier.predict(digits.x_test[:N]) * found.temperature
    np.testing.assert_allclose(scores, model.predict(digits.x_test[:N], verbose=0), atol=1e-3)


@pytest.mark.parametrize("wrap", [torch.compile, torch.nn.DataParallel], ids=["compiled", "parallel"])
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of what PyTorch imports to compile
def test_what_only_speeds_up_a_module_is_taken_off(wrap: Any, model: keras.Model) -> None:
    module = twin(model)
    assert network.of_module(wrap(module)).module is module


def test_a_network_whose_graph_cannot_be_read_is_inverted(model: keras.Model, digits: Dataset) -> None:
    class Branching(torch.nn.Module):  # type: ignore[misc]
        def __init__(self, inner: Any) -> None:
            super().__init__()
            self.inner = inner

        def forward(self, x: Any) -> Any:
            return torch.softmax(self.inner(x), 1) if float(x.sum().item()) > -1e9 else x

    found = adapted(Branching(twin(model)), digits)
    assert found.outputs == "probabilities (inverted)"
    assert (found.classifier.labels(digits.x_test) == digits.y_test).mean() > 0.9


def test_training_mode_is_left(model: keras.Model, digits: Dataset) -> None:
    module = twin(model).train()
    scores = boxed(module).predict(digits.x_test[:N])
    np.testing.assert_allclose(scores, model.predict(digits.x_test[:N], verbose=0), atol=1e-4)


# --- digests ----------------------------------------------------------------------------------------------------


def test_a_digest_is_of_graph_weights_and_what_stands_around(model: keras.Model) -> None:
    base = boxed(twin(model)).digest()
    assert boxed(twin(model)).digest() == base
    changed = twin(model)
    with torch.no_grad():
        changed[0].weight[0, 0, 0, 0] += 1e-3
    others = [
        boxed(changed),
        boxed(torch.nn.Sequential(*twin(model), torch.nn.ReLU())),
        boxed(twin(model), temperature=2.0),
        boxed(twin(model), way=Expects("0..255", "chw")),
    ]
    digests = {base, *(one.digest() for one in others)}
    assert len(digests) == 5


def test_a_network_that_flattens_by_view_takes_grey_images(digits: Dataset) -> None:
    class Viewed(torch.nn.Module):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.convolution = torch.nn.Conv2d(1, 4, 3, padding=1)
            self.dense = torch.nn.Linear(4 * 28 * 28, 10)

        def forward(self, x: Any) -> Any:
            return self.dense(torch.relu(self.convolution(x)).view(-1, 4 * 28 * 28))

    x, y = digits.x_test[:32], digits.y_test[:32]
    adapted = adapter.adapt_network(network.of_module(Viewed()), x, y, 10, accept_chance=True)
    assert adapted.layout == "chw"
    assert adapted.classifier.look(x, y).gradient.any()
