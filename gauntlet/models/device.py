"""Which processor computes: the machine's own, or a GPU that TensorFlow or PyTorch sees.

A GPU is hidden from both at once, and from every process that is started later, by what CUDA reads when it starts.
"""

from __future__ import annotations

import importlib.util
import os
import sys
from typing import Annotated

from pydantic import Field

from gauntlet.errors import SettingError
from gauntlet.models.pytorch.library import import_torch
from gauntlet.quiet import load_tensorflow

Device = Annotated[str, Field(pattern=r"^(auto|cpu|gpu(:[0-9]{1,2})?)$")]
"""`auto`: a GPU where one is seen; `cpu`: none; `gpu`: one must be; `gpu:N`: this one alone, as nvidia-smi counts."""
VISIBLE, ORDER = "CUDA_VISIBLE_DEVICES", "CUDA_DEVICE_ORDER"
NONE = "-1"
"""What hides every GPU."""


def choose(device: str) -> str:
    """Hide all GPUs but those meant, before TensorFlow and PyTorch look for them; returns what is worth a note.

    Raises `SettingError` when a GPU is asked for that neither of them sees, or when it is too late to hide one.
    """
    if device == "auto":
        return ""
    _show(device)
    if device == "cpu":
        if {"tensorflow", "torch"} & set(sys.modules) and any(seen().values()):
            fix = f"start anew with {VISIBLE}={NONE}"
            raise SettingError("this process has taken a GPU already", where="device cpu", fix=fix)
        return ""
    return _checked(device, seen())


def _show(device: str) -> None:
    """Tell CUDA; `SettingError` for a GPU that whoever started this process has hidden."""
    kind, _, number = device.partition(":")
    before = os.environ.get(VISIBLE)
    if kind == "cpu":
        os.environ[VISIBLE] = NONE
    elif number:
        if before is not None and number not in before.split(","):
            raise SettingError(f"it is hidden by {VISIBLE}={before[:100]}", where=f"device {device}", fix="give gpu")
        os.environ[VISIBLE] = number
        os.environ.setdefault(ORDER, "PCI_BUS_ID")


def _checked(device: str, gpus: dict[str, list[str]]) -> str:
    """A note where one framework alone sees the GPU."""
    if not any(gpus.values()):
        fix = "give cpu or auto, or install the drivers and builds that compute on it"
        raise SettingError(f"no GPU is seen by {' or '.join(gpus)}", where=f"device {device}", fix=fix)
    without = [name for name, names in gpus.items() if not names]
    return f"{without[0]} sees no GPU: its models are computed by the processor" if without else ""


def seen() -> dict[str, list[str]]:
    """The names of the GPUs that each framework sees; both are imported."""
    load_tensorflow()
    if importlib.util.find_spec("torch") is not None:
        import_torch()
    return _of_loaded()


def used() -> str:
    """What the frameworks that are loaded compute on, by name: `cpu`, or `TensorFlow: NVIDIA A100`; empty without."""
    gpus = _of_loaded()
    names = [f"{framework}: {', '.join(names)}" for framework, names in gpus.items() if names]
    return "; ".join(names) or ("cpu" if gpus else "")


def _of_loaded() -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    if tf := sys.modules.get("tensorflow"):
        details = tf.config.experimental.get_device_details
        found["TensorFlow"] = [details(gpu).get("device_name", "GPU") for gpu in tf.config.list_physical_devices("GPU")]
    if torch := sys.modules.get("torch"):
        found["PyTorch"] = [torch.cuda.get_device_name(place) for place in range(torch.cuda.device_count())]
    return found
