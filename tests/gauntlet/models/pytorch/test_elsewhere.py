"""Nothing assumes that a network is on the processor: PyTorch's device without memory refuses what is not on it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from gauntlet.models.adapter import Expects
from gauntlet.models.pixels import Channels
from tests.torches import torch

box = pytest.importorskip("gauntlet.models.pytorch.classifier")
fresh = pytest.importorskip("gauntlet.models.pytorch.fresh")
graph = pytest.importorskip("gauntlet.models.pytorch.graph")
library = pytest.importorskip("gauntlet.models.pytorch.library")
network = pytest.importorskip("gauntlet.models.pytorch.network")
script = pytest.importorskip("gauntlet.models.pytorch.script")
SHAPE = (1, 8, 8)


def module() -> Any:
    """A convolution and a dense layer."""
    torch.manual_seed(0)
    nn = torch.nn
    return nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.ReLU(), nn.Flatten(), nn.Linear(72, 10)).eval()


def of_program() -> Any:
    """A program that was exported on the processor."""
    return graph.of_program(torch.export.export(module(), (torch.zeros(1, *SHAPE),)))


FORMS: dict[str, Callable[[], Any]] = {"module": lambda: network.of_module(module()), "program": of_program}


@pytest.fixture
def elsewhere(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Another device than the processor; what comes back from it is zeros, since it keeps no numbers."""
    device = torch.device("meta")
    for room in (network, graph):
        monkeypatch.setattr(room, "place", lambda: device)
    for room in (network, box, fresh):
        monkeypatch.setattr(room, "array", lambda one: np.zeros(one.shape, np.float32))
    return device


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("squashed", ["", "probabilities", "tanh"])
def test_a_network_is_attacked_where_it_is(form: str, squashed: str, elsewhere: Any) -> None:
    made = FORMS[form]()
    name = next(iter(made.sizes(torch.zeros(2, *SHAPE, device=elsewhere))))
    way = Expects("-1..1", "chw", Channels((0.5,), (0.2,)))
    one = box.TorchClassifier(box.Logits(made, name, way, squashed, 2.0), (8, 8, 1), 10)
    x, y = np.zeros((3, 8, 8, 1), np.float32), np.arange(3)
    assert made.device == elsewhere
    assert one.predict(x).shape == (3, 10)
    assert one.look(x, y).gradient.shape == x.shape
    assert made.choose(x.transpose(0, 3, 1, 2), 10, None) == name
    assert made.arrays(name, x.transpose(0, 3, 1, 2)).shape == (3, 10)
    made.ask(2)


def test_a_network_is_trained_where_it_is(elsewhere: Any) -> None:
    like = box.TorchClassifier(box.Logits(FORMS["module"](), "output", Expects("0..1", "chw")), (8, 8, 1), 10)
    one = fresh.Fresh(like, seed=0)
    one.fit(np.zeros((4, 8, 8, 1), np.float32), np.arange(4), 1, 2, 0.1, lambda _: None)
    one.set_weights(one.weights())
    assert {state.device for state in one._logits.network.state.values()} == {elsewhere}


def test_a_module_stays_on_the_device_that_it_is_on() -> None:
    assert network.of_module(module().to("meta")).device.type == "meta"
    assert network.of_module(module()).device == library.place()
