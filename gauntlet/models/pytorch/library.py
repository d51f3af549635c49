"""PyTorch itself: an extra, imported only for such a model."""

from __future__ import annotations

import warnings
from typing import Any

from gauntlet.errors import ModelError

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
