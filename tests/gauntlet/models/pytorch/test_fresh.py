"""A PyTorch network trained afresh learns, leaves the model alone, and its weights can be kept."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from gauntlet.backdoor import references
from gauntlet.backdoor.inversion import Inversion
from gauntlet.backdoor.scan import ModelScan, parts
from gauntlet.errors import ModelError
from gauntlet.models.adapter import Expects
from tests.gauntlet.backdoor.planted import CLASSES, SIDE, blocks
from tests.torches import torch

adapter = pytest.importorskip("gauntlet.models.pytorch.adapter")
box = pytest.importorskip("gauntlet.models.pytorch.classifier")
fresh = pytest.importorskip("gauntlet.models.pytorch.fresh")
graph = pytest.importorskip("gauntlet.models.pytorch.graph")
network = pytest.importorskip("gauntlet.models.pytorch.network")
script = pytest.importorskip("gauntlet.models.pytorch.script")


def module() -> Any:
    """Two dense layers with a batch normalisation between them."""
    torch.manual_seed(0)
    nn = torch.nn
    return nn.Sequential(
        nn.Flatten(), nn.Linear(SIDE * SIDE, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Linear(16, CLASSES)
    ).eval()


def classifier(form: str) -> Any:
    """The module, as it is given or as a program."""
    made = network.of_module(module())
    if form == "program":
        made = graph.exported(made, torch.zeros(2, 1, SIDE, SIDE), "output")
    name = "0" if form == "program" and "output" not in made.sizes(torch.zeros(2, 1, SIDE, SIDE)) else "output"
    return box.TorchClassifier(box.Logits(made, name, Expects("0..1", "chw")), (SIDE, SIDE, 1), CLASSES)


@pytest.mark.parametrize("form", ["module", "program"])
def test_a_fresh_network_learns_and_the_model_stays_as_it_is(form: str) -> None:
    like, data, epochs = classifier(form), blocks(600), []
    digest, before = like.digest(), like.predict(data.x_test)
    one = fresh.Fresh(like, seed=1)
    one.fit(data.x_train, data.y_train, 20, 32, 0.02, epochs.append)
    made = one.classifier(data.x_test)
    assert epochs == list(range(20))
    assert (made.labels(data.x_test) == data.y_test).mean() > 0.95
    assert like.digest() == digest
    np.testing.assert_array_equal(like.predict(data.x_test), before)
    again = fresh.Fresh(like, seed=2)
    assert not np.array_equal(again.weights()[0], one.weights()[0])
    again.set_weights(one.weights())
    np.testing.assert_array_equal(again.classifier(data.x_test).predict(data.x_test), made.predict(data.x_test))


def test_references_of_a_pytorch_model_are_of_its_own_architecture(
    tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GAUNTLET_STATE", str(tmp_path))
    monkeypatch.setattr(references, "RATE", 0.02)
    model, data = classifier("module"), blocks(600)
    settings = ModelScan(inversion=Inversion(steps=10), references=2)
    known = references.reference_models(model, data, parts(data, settings, 0), settings)
    assert known.basis == "same architecture"
    assert {kind: rows.shape for kind, rows in known.values.items()} == {
        "patch": (2, CLASSES + 1),
        "perturbation": (2, CLASSES + 1),
        "probe": (2, CLASSES + 1),
        "pair": (2, CLASSES * (CLASSES - 1)),
    }


def test_torchscript_cannot_be_trained_and_gets_a_stand_in() -> None:
    with pytest.warns(DeprecationWarning, match="torch.jit"):
        traced = torch.jit.trace(module(), torch.zeros(2, 1, SIDE, SIDE))
    made = script.of_script(traced)
    with pytest.raises(ModelError, match="the weights are part of the program"):
        made.copied()
    like = box.TorchClassifier(box.Logits(made, "output", Expects("0..1", "chw")), (SIDE, SIDE, 1), CLASSES)
    assert references.recipe(like, blocks()).basis == "another architecture"
