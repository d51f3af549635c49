"""PyTorch twins of Keras networks: the same layers with the same weights, channels first."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

if TYPE_CHECKING:
    import keras

torch: Any = pytest.importorskip("torch", reason="PyTorch is not installed: make test-all installs it")


def twin(model: keras.Model) -> Any:
    """The same network of convolutions, poolings, dropouts and dense layers, in evaluation mode."""
    parts: list[Any] = []
    for layer in model.layers:
        parts += _part(layer)
    return torch.nn.Sequential(*parts).eval()


def _part(layer: Any) -> list[Any]:
    nn, kind = torch.nn, type(layer).__name__
    if kind == "Conv2D":
        kernel, bias = layer.get_weights()
        made = nn.Conv2d(kernel.shape[2], kernel.shape[3], kernel.shape[:2], padding=layer.padding)
        return [_filled(made, kernel.transpose(3, 2, 0, 1), bias), *_activation(layer)]
    if kind == "Dense":
        kernel, bias = layer.get_weights()
        return [_filled(nn.Linear(*kernel.shape), kernel.T, bias), *_activation(layer)]
    if kind == "Flatten":
        return [_ChannelsLast(), nn.Flatten()]
    return {"MaxPooling2D": [nn.MaxPool2d(2)], "Dropout": [nn.Dropout(0.5)], "InputLayer": []}[kind]


def _filled(made: Any, weight: np.ndarray, bias: np.ndarray) -> Any:
    with torch.no_grad():
        made.weight.copy_(torch.from_numpy(np.ascontiguousarray(weight)))
        made.bias.copy_(torch.from_numpy(bias))
    return made


def _activation(layer: Any) -> list[Any]:
    return {"relu": [torch.nn.ReLU()], "linear": []}[layer.activation.__name__]


class _ChannelsLast(torch.nn.Module):  # type: ignore[misc]
    """Maps in the order in which Keras flattens them."""

    def forward(self, x: Any) -> Any:
        return x.permute(0, 2, 3, 1)
