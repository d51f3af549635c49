"""PyTorch's files, after they were inspected: exported programs, TorchScript, weights for a factory."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from gauntlet.errors import ModelError
from gauntlet.models.container import Copy
from gauntlet.models.pytorch.library import import_torch, place
from gauntlet.models.pytorch.network import Network, of_module

NESTED = ("state_dict", "model_state_dict", "model", "net")
"""Where training scripts keep a network's weights in a checkpoint."""
PREFIXES = ("module.", "_orig_mod.", "model.")
"""What wrappers put in front of every weight's name."""


def read(copy: Copy) -> Network:
    """The network of a `.pt2` or TorchScript that was inspected."""
    torch = import_torch()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of formats that are deprecated, or newer than this PyTorch
        if copy.kind == "exported":
            from gauntlet.models.pytorch.graph import of_program

            return of_program(torch.export.load(copy.path))
        from gauntlet.models.pytorch.script import of_script

        return of_script(torch.jit.load(copy.path, map_location=place()))


def read_weights(copy: Copy) -> dict[str, Any]:
    """The tensors of a checkpoint by name; nothing is unpickled but tensors and plain values."""
    torch = import_torch()
    if copy.kind == "safetensors":
        from safetensors.torch import load_file

        return dict(load_file(copy.path))
    weights = torch.load(copy.path, map_location="cpu", weights_only=True)
    while isinstance(weights, Mapping) and (
        inner := next((key for key in NESTED if _is_state(weights.get(key))), None)
    ):
        weights = weights[inner]
    if not _is_state(weights):
        raise ModelError("it holds no weights by name", fix="save model.state_dict() with torch.save")
    return {str(name): tensor for name, tensor in weights.items()}


def _is_state(weights: Any) -> bool:
    return isinstance(weights, Mapping) and bool(weights) and all(hasattr(value, "dtype") for value in weights.values())


def filled(module: Any, weights: Mapping[str, Any], where: Path) -> Network:
    """A module with the weights of a file, by name and shape; `ModelError` names the first that differs."""
    if not isinstance(module, import_torch().nn.Module):
        raise ModelError(f"the factory gives a {type(module).__name__}, not a torch.nn.Module", where="model")
    wanted = {name: tuple(tensor.shape) for name, tensor in module.state_dict().items()}
    given = {_bare(name, wanted): tensor for name, tensor in weights.items()}
    counters = {name for name in wanted if name.endswith("num_batches_tracked")}  # older checkpoints lack them
    if lacking := [name for name in wanted if name not in given and name not in counters]:
        raise ModelError(f"lacks {lacking[0]} and {len(lacking) - 1} more weights", where=str(where))
    if others := [name for name in given if name not in wanted]:
        raise ModelError(f"holds {others[0]} and {len(others) - 1} more that the network lacks", where=str(where))
    for name, tensor in given.items():
        if tuple(tensor.shape) != wanted[name]:
            what = f"{name} has shape {tuple(tensor.shape)}, the network's {wanted[name]}"
            raise ModelError(what, where=str(where))
    module.load_state_dict(given, strict=False)
    return of_module(module)


def _bare(name: str, wanted: Mapping[str, Any]) -> str:
    """A weight's name without what a wrapper put in front of it."""
    for prefix in PREFIXES:
        if name not in wanted and name.startswith(prefix):
            name = name.removeprefix(prefix)
    return name
