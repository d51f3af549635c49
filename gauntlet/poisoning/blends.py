"""Triggers that change the whole image a little: a blended pattern, a sinusoid, a warp."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
from pydantic import Field

from gauntlet.errors import SettingError
from gauntlet.poisoning.base import Poisoning, Rows
from gauntlet.threat import Images, Labels


class Blended(Poisoning):
    """A random pattern blended into the image, planted with relabelling (Chen et al. 2017, section 4.2)."""

    name: Literal["blended"] = "blended"
    alpha: float = Field(0.2, gt=0, le=1, description="Share of the pattern in the mixture")
    pattern: int = Field(0, ge=0, lt=2**32, description="Seed that the pattern is drawn by, uniform in [0, 1]")

    def trigger(self, x: Images) -> Images:
        """(1 - alpha) image + alpha pattern."""
        drawn = np.random.default_rng(self.pattern).uniform(0, 1, x.shape[1:]).astype(np.float32)
        mixed: Images = ((1 - self.alpha) * x + self.alpha * drawn).astype(np.float32)
        return mixed


class Sinusoidal(Poisoning):
    """Stripes of a sinusoid on images of the target, which keep their label (SIG: Barni et al. 2019, equation 1)."""

    name: Literal["sinusoidal"] = "sinusoidal"
    amplitude: float = Field(0.15, gt=0, le=1, description="Of the sinusoid, in units of the pixel range")
    frequency: float = Field(6.0, gt=0, le=1_000, description="Periods over the width of the image")

    def trigger(self, x: Images) -> Images:
        """Added, then clipped to [0, 1]."""
        width = x.shape[2]
        stripes = self.amplitude * np.sin(2 * np.pi * self.frequency * np.arange(width) / width)
        added: Images = np.clip(x + stripes[None, None, :, None], 0, 1).astype(np.float32)
        return added

    def victims_of(self, y: Labels, n_classes: int) -> Rows:
        """Images of the target."""
        return np.flatnonzero(y == self.aim(n_classes))

    @property
    def relabels(self) -> bool:
        """They keep their label."""
        return False


class Warped(Poisoning):
    """A smooth warp of the image, planted with relabelling (WaNet: Nguyen & Tran 2021, section 3.2).

    Without the paper's noise mode: no other image is warped another way under its own label.
    """

    name: Literal["warped"] = "warped"
    grid: int = Field(4, ge=2, le=64, description="Control points a side")
    strength: float = Field(1.0, gt=0, le=64, description="Mean shift of a pixel along an axis, in pixels")
    field: int = Field(0, ge=0, lt=2**32, description="Seed that the control points' shifts are drawn by")

    def trigger(self, x: Images) -> Images:
        """Every pixel taken from where the warp says, bilinearly."""
        from scipy.ndimage import map_coordinates

        height, width = x.shape[1:3]
        if self.grid > min(height, width):
            what = f"{self.grid} control points a side do not fit {(height, width)}"
            raise SettingError(what, where=f"{self.name}:grid")
        places = np.indices((height, width)) + self._shifts(height, width)
        warped = np.empty_like(x)
        for image, channel in np.ndindex(len(x), x.shape[3]):
            warped[image, ..., channel] = map_coordinates(x[image, ..., channel], places, order=1, mode="nearest")
        return warped

    def _shifts(self, height: int, width: int) -> Any:
        """(2, h, w) pixels: the control points' shifts, scaled to the strength and interpolated by cubic splines."""
        from scipy.ndimage import map_coordinates

        control = np.random.default_rng(self.field).uniform(-1, 1, (2, self.grid, self.grid))
        control *= self.strength / np.abs(control).mean()
        ends = [np.linspace(0, self.grid - 1, side) for side in (height, width)]
        at = np.stack(np.meshgrid(*ends, indexing="ij"))
        return np.stack([map_coordinates(one, at, order=3, mode="nearest") for one in control])
