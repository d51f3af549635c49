"""What is done to the pixels of an image before a model sees them: range, order and normalisation of channels.

The budget of an attack is always in units of [0, 1]: all of this stands between the attacked image and the network.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gauntlet.errors import SettingError
from gauntlet.threat import Images

RANGES: dict[str, tuple[float, float]] = {"0..1": (1.0, 0.0), "0..255": (255.0, 0.0), "-1..1": (2.0, -1.0)}
"""Scale and offset that bring pixels from [0, 1] to what a model expects."""
KNOWN = {"imagenet": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))}
"""Means and standard deviations by name; those of torchvision's models, for pixels in [0, 1]."""
FORM = "imagenet, or means/deviations such as 0.49,0.48,0.45/0.25,0.24,0.26"


@dataclass(frozen=True)
class Channels:
    """How a model takes the channels of an image: their order, then (x - mean) / std of each."""

    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    bgr: bool = False
    """Blue first; `mean` and `std` are in that order."""

    def scaling(self, input_range: str) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Scale and offset, one number or one a channel, that bring pixels from [0, 1] to what the model expects."""
        scale, offset = RANGES[input_range]
        mean, std = np.asarray(self.mean or 0.0), np.asarray(self.std or 1.0)
        return np.asarray(scale / std, np.float32), np.asarray((offset - mean) / std, np.float32)

    def fit(self, channels: int) -> None:
        """Raise `SettingError` unless images of so many channels can be brought into this form."""
        if len(self.mean) not in (0, 1, channels):
            raise SettingError(f"{len(self.mean)} means for images of {channels} channels", where="normalize", fix=FORM)
        if self.bgr and channels != 3:
            raise SettingError(f"the images have {channels} channels, not red, green and blue", where="bgr")


AS_THEY_ARE = Channels()
"""Red first, not normalised."""


def channels(normalize: str | None = None, *, bgr: bool = False) -> Channels:
    """The channels of `--normalize TEXT`, see `FORM`; `SettingError` for anything else.

    >>> channels("imagenet").std
    (0.229, 0.224, 0.225)
    >>> channels("0.1307/0.3081").mean
    (0.1307,)
    """
    if normalize is None:
        return Channels(bgr=bgr)
    mean, std = KNOWN.get(normalize) or _numbers(normalize)
    return Channels(mean, std, bgr)


def _numbers(text: str) -> tuple[tuple[float, ...], tuple[float, ...]]:
    try:
        mean, std = (tuple(float(number) for number in part.split(",")) for part in text.split("/"))
    except ValueError as error:
        raise SettingError(f"{text[:80]!r} is no normalisation", where="normalize", fix=FORM) from error
    if len(mean) != len(std) or not np.isfinite([*mean, *std]).all() or min(std) <= 0:
        raise SettingError("a mean and a deviation above 0 for each channel are needed", where="normalize", fix=FORM)
    return mean, std


def ordered(x: Any, how: Channels) -> Any:
    """Images (n, h, w, c) with their channels in the model's order."""
    return x[..., ::-1] if how.bgr else x


def plain(values: NDArray[np.float32]) -> float | Sequence[float]:
    """A number, or a number a channel, as Python's own."""
    result: float | Sequence[float] = values.tolist()
    return result


def in_shape(x: Images, wanted: Sequence[int | None]) -> Images:
    """Images (n, ...) in the shape without the batch that a model wants, None for any length.

    A row of as many numbers is reshaped; `ValueError` for another shape.
    """
    if x.ndim == 2 and len(wanted) > 1 and None not in wanted and math.prod(map(int, wanted)) == x.shape[1]:  # type: ignore[arg-type]
        x = x.reshape(len(x), *wanted)
    if len(wanted) != x.ndim - 1 or any(n not in (None, m) for n, m in zip(wanted, x.shape[1:], strict=True)):
        raise ValueError(f"the model takes images of shape {tuple(wanted)}, got {x.shape[1:]}")
    return x
