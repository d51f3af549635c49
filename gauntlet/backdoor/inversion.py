"""Trigger inversion: for each goal the smallest change, the same for all images, that reaches it.

Neural Cleanse (Wang et al., IEEE S&P 2019, section IV) with what was mended later: the change is held to the pixel
range, its weight follows the success rate in both directions, all goals are searched at once in the same compiled
call, and beside patches there are small perturbations of the whole image, which is what blended and sinusoidal
triggers and warps leave behind (universal perturbations towards a class, Moosavi-Dezfooli et al., CVPR 2017).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import TYPE_CHECKING, ClassVar

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from gauntlet.backdoor.triggers import Found, Goals, Victims, class_goals, reached
from gauntlet.progress import Progress, silent
from gauntlet.threat import Images, Labels

if TYPE_CHECKING:
    from gauntlet.models.classifier import WhiteBox

Floats = NDArray[np.float32]
FIRST, DECAY = 0.5, 0.9
"""Of Adam, as Neural Cleanse sets it: short memories, since the weight of the size keeps changing."""
SMOOTH = 0.9
"""How much of the success rate so far is kept when a batch's is added."""
OPEN = 0.1
"""Where a mask starts: nearly open everywhere, so that every pixel has a gradient."""


class Inversion(BaseModel):
    """How triggers are searched for."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    steps: int = Field(160, ge=10, le=10_000, description="Gradient steps for each goal")
    batch: int = Field(12, ge=1, le=4_096, description="Images of a step, for each goal")
    every: int = Field(10, ge=1, description="Steps from one look at the success rate to the next")
    looked: int = Field(48, ge=1, le=4_096, description="Images of a look, for each goal")
    success: float = Field(0.95, gt=0, le=1, description="Share of the images that a trigger must send to a class")
    learning_rate: float = Field(0.1, gt=0, description="Of Adam, for patches; a fifth for perturbations")
    weight: float = Field(0.01, gt=0, description="Of the trigger's size in the loss, to begin with")
    change: float = Field(1.1, gt=1, le=10, description="By which factor a step changes that weight")


SMALLEST = 1e-6
"""Of the largest size: smaller triggers count as this large. A model that gives one class to everything needs none."""


class Form(ABC):
    """A kind of trigger with g candidates, one for each goal, whose numbers a search may move freely."""

    kind: ClassVar[str]
    unit: ClassVar[str]
    pace: ClassVar[float] = 1.0
    """Of the learning rate."""

    @abstractmethod
    def parts(self) -> tuple[Floats, Floats]:
        """Mask (g, h, w, 1) and pattern (g, h, w, c) of the candidates."""

    @abstractmethod
    def show(self, x: Images) -> Images:
        """Images (g, b, h, w, c) with each goal's candidate."""

    @abstractmethod
    def slopes(self, x: Images, gradient: Images, weight: Floats) -> list[Floats]:
        """The loss's slope by each of the free numbers, the size's own with its `weight` (g,) included."""

    @abstractmethod
    def sizes(self) -> NDArray[np.float64]:
        """(g,)"""

    free: list[Floats]
    """The arrays that are moved, each (g, ...)."""
    largest: float
    """Size of a trigger that hides the whole image."""


class Patches(Form):
    """A mask that mixes a pattern into the image; its size is the mask's sum: pixels, where it is 0 or 1."""

    kind, unit = "patch", "pixels"

    def __init__(self, n: int, shape: tuple[int, ...], bounds: tuple[float, float], rng: np.random.Generator) -> None:
        """`n` candidates; `shape` (h, w, c) of the images; patterns start at random."""
        low, high = bounds
        self._low, self._range = np.float32(low), np.float32(high - low)
        self.largest = float(shape[0] * shape[1])
        opened = np.full((n, *shape[:2], 1), np.arctanh(2 * OPEN - 1), np.float32)
        self.free = [opened, rng.uniform(-1, 1, (n, *shape)).astype(np.float32)]

    def parts(self) -> tuple[Floats, Floats]:
        """Both squashed into their ranges."""
        mask, pattern = ((np.tanh(one) / 2 + 0.5).astype(np.float32) for one in self.free)
        return mask, self._low + self._range * pattern

    def show(self, x: Images) -> Images:
        """Mixed in."""
        mask, pattern = self.parts()
        mixed: Images = x + mask[:, None] * (pattern[:, None] - x)
        return mixed

    def slopes(self, x: Images, gradient: Images, weight: Floats) -> list[Floats]:
        """By the chain rule."""
        mask, pattern = self.parts()
        by_mask = (gradient * (pattern[:, None] - x)).mean(axis=1).sum(axis=-1, keepdims=True)
        by_mask = by_mask + weight[:, None, None, None]
        by_pattern = gradient.mean(axis=1) * mask * self._range
        squashed = [(1 - np.tanh(one) ** 2) / 2 for one in self.free]
        return [by_mask * squashed[0], by_pattern * squashed[1]]

    def sizes(self) -> NDArray[np.float64]:
        """Sums of the masks."""
        total: NDArray[np.float64] = self.parts()[0].sum(axis=(1, 2, 3), dtype=np.float64)
        return total


class Perturbations(Form):
    """A small change of every pixel, clipped to the range; its size is its L2 norm."""

    kind, unit, pace = "perturbation", "L2", 0.2

    def __init__(self, n: int, shape: tuple[int, ...], bounds: tuple[float, float], rng: np.random.Generator) -> None:
        """`n` candidates; `shape` (h, w, c) of the images; each starts near nothing."""
        self._bounds = bounds
        self.largest = float((bounds[1] - bounds[0]) * np.sqrt(np.prod(shape)))
        self.free = [rng.normal(0, 0.01, (n, *shape)).astype(np.float32)]

    def parts(self) -> tuple[Floats, Floats]:
        """Nothing is replaced."""
        (delta,) = self.free
        return np.zeros((*delta.shape[:3], 1), np.float32), delta

    def show(self, x: Images) -> Images:
        """Added."""
        return np.clip(x + self.free[0][:, None], *self._bounds)

    def slopes(self, x: Images, gradient: Images, weight: Floats) -> list[Floats]:
        """As if nothing were clipped where that leads back into the range."""
        (delta,) = self.free
        away = (x + delta[:, None] - np.clip(x + delta[:, None], *self._bounds)) * gradient < 0
        norm = np.maximum(np.sqrt((delta**2).sum(axis=(1, 2, 3), keepdims=True)), 1e-6)
        return [np.where(away, 0, gradient).mean(axis=1) + weight[:, None, None, None] * delta / norm]

    def sizes(self) -> NDArray[np.float64]:
        """L2 norms."""
        (delta,) = self.free
        return np.sqrt((delta.astype(np.float64) ** 2).sum(axis=(1, 2, 3)))


FORMS: dict[str, Callable[..., Form]] = {one.kind: one for one in (Patches, Perturbations)}


def invert(
    model: WhiteBox,
    form: str,
    train: tuple[Images, Labels],
    held_out: tuple[Images, Labels],
    settings: Inversion,
    seed: int = 0,
    progress: Progress = silent,
    goals: Goals | None = None,
) -> Found:
    """The smallest trigger of each goal by gradients on `train`, where it still works on `held_out`; both (x, y).

    Without `goals`, of every class and any other.
    """
    rng = np.random.default_rng(seed)
    goals = class_goals(model.nb_classes) if goals is None else goals
    candidates = FORMS[form](len(goals.target), model.input_shape, model.clip_values, rng)
    victims, looked = Victims(*train, goals, rng), Victims(*held_out, goals, rng).draw(settings.looked)
    search = _Search(candidates, goals, model.nb_classes, settings)
    for step in range(1, settings.steps + 1):
        search.step(model, *victims.draw(settings.batch))
        if step % settings.every == 0 or step == settings.steps:
            search.look(model, *looked)
            progress(f"{form}: step {step} of {settings.steps}", step / settings.steps)
    return search.found()


class _Search:
    """Adam on all candidates; the weight of the size rises while a candidate works and falls while it does not."""

    def __init__(self, candidates: Form, goals: Goals, k: int, settings: Inversion) -> None:
        self._form, self._goals, self._settings, self._step = candidates, goals, settings, 0
        self._moments = [(np.zeros_like(one), np.zeros_like(one)) for one in candidates.free]
        g = len(goals.target)
        self._weight = np.full(g, settings.weight, np.float32)
        self._success = np.zeros(g)
        self._sizes = np.full(g, np.inf)
        self._class = goals.target < k
        # a trigger of a class leaves that class's images where they are, which is no success of any other class
        self._wanted = settings.success * np.where(self._class, 1, 1 - 1 / k)
        self._parts = [part.copy() for part in candidates.parts()]

    def step(self, model: WhiteBox, x: Images, y: Labels) -> None:
        """One step on images (g, b, h, w, c) with true labels (g, b)."""
        g, b = y.shape
        shown = self._form.show(x).reshape(g * b, *x.shape[2:])
        sign = np.where(np.repeat(self._class, b), 1, -1)  # towards a class, or away from the image's own
        aimed = np.where(sign > 0, np.repeat(self._goals.target, b), y.ravel())
        seen = model.look(shown, aimed, "ce-targeted", aimed)
        odds = sign * seen.loss
        # the loss is a class's log-odds: cross-entropy's slope is the same times what is missing of the probability
        missing = sign / (1 + np.exp(np.clip(odds, -50, 50)))
        gradient = -(missing.astype(np.float32)[:, None, None, None] * seen.gradient).reshape(x.shape)
        self._move(self._form.slopes(x, gradient, self._weight))
        self._weigh((odds > 0).reshape(g, b).mean(axis=1))

    def _move(self, slopes: list[Floats]) -> None:
        self._step += 1
        for free, slope, (mean, square) in zip(self._form.free, slopes, self._moments, strict=True):
            mean += (1 - FIRST) * (slope - mean)
            square += (1 - DECAY) * (slope**2 - square)
            corrected = np.sqrt(square / (1 - DECAY**self._step)) + 1e-8
            free -= self._form.pace * self._settings.learning_rate * mean / (1 - FIRST**self._step) / corrected

    def _weigh(self, success: NDArray[np.float64]) -> None:
        self._success = SMOOTH * self._success + (1 - SMOOTH) * success
        works = self._success >= self._wanted
        self._weight *= np.where(works, self._settings.change, 1 / self._settings.change).astype(np.float32)

    def look(self, model: WhiteBox, x: Images, y: Labels) -> None:
        """Keep the candidates that are smaller than what was kept and work on images (g, b, h, w, c)."""
        sizes = self._form.sizes()
        better = np.flatnonzero((self._success >= self._wanted) & (sizes < self._sizes))
        shown = self._form.show(x)[better].reshape(-1, *x.shape[2:])
        said = model.labels(shown).reshape(len(better), -1) if len(better) else ()
        for goal, predicted in zip(better, said, strict=True):
            there = reached(predicted, y[goal], int(self._goals.target[goal]), model.nb_classes)
            if there.mean() >= self._wanted[goal]:
                self._sizes[goal] = sizes[goal]
                for kept, now in zip(self._parts, self._form.parts(), strict=True):
                    kept[goal] = now[goal]

    def found(self) -> Found:
        """The smallest that worked; of a goal without one, the first."""
        form = self._form
        values = np.log(np.clip(self._sizes, SMALLEST * form.largest, form.largest))
        mask, pattern = self._parts
        return Found(form.kind, form.unit, self._sizes, values, mask, pattern, self._goals)
