"""PyTorch itself: an extra, imported only for such a model; arrays go to the device of a network and come back."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

import numpy as np

from gauntlet.errors import ModelError

if TYPE_CHECKING:
    import torch

INSTALL = "pip install -r requirements-torch.txt --extra-index-url https://download.pytorch.org/whl/cpu"


def import_torch() -> Any:
    """PyTorch; `ModelError` where it is not installed, with the line that installs it."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of what it finds on this machine
            import torch
    except ImportError as error:
        raise ModelError("PyTorch is not installed", where="model", fix=INSTALL) from error
    return torch


def place() -> torch.device:
    """Where networks are put: the first GPU that PyTorch sees, else the processor."""
    import torch

    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def tensor(array: np.ndarray, device: torch.device) -> torch.Tensor:
    """A copy of an array, on a device."""
    import torch

    return torch.from_numpy(np.array(array, order="C")).to(device)


def array(numbers: torch.Tensor) -> np.ndarray:
    """A tensor's numbers, wherever they are."""
    made: np.ndarray = numbers.detach().cpu().numpy()
    return made
