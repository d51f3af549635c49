"""Search for many images at once: solved images are replaced by waiting ones.

An iterative attack is a `Search`: a state with one row per image, and a step that uses the model's answer at the
current point. The walk keeps the batches full, keeps the best point of every image and not just the last one, starts
images again that were not fooled, and counts the calls.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gauntlet.attacks.base import Crafted
from gauntlet.attacks.streams import Rows, Streams
from gauntlet.threat import Images, Labels, Norm, ThreatModel, lengths

State = dict[str, np.ndarray]
"""Arrays with a row per image: `row` points into the images, `run` and `step` count, `x` is what to ask about next."""


@dataclass
class Search(ABC):
    """One attack on the images `clean` (n, h, w, c) with true labels `y` (n,)."""

    model: Any
    clean: Images
    y: Labels
    aims: Labels | None
    """The classes aimed at, (n,); None for any wrong one."""
    threat: ThreatModel
    streams: Streams
    steps: int
    """Answers that a run may take in, after the one at its start."""
    runs: int = 1
    """Runs of an image that is not fooled: restarts, or targets."""

    @abstractmethod
    def start(self, rows: Rows, run: Rows) -> State:
        """The state of images `rows` at the start of their run number `run`; holds at least `x`."""

    @abstractmethod
    def ask(self, state: State) -> Any:
        """The model's answer at `x`; holds `logits` (n, n_classes)."""

    @abstractmethod
    def move(self, state: State, answer: Any) -> None:
        """Take in the answer, and set `x` to the next point."""

    def fooled(self, state: State, logits: Images) -> NDArray[np.bool_]:
        """Which rows have got there."""
        predicted, row = logits.argmax(axis=1), state["row"]
        return predicted != self.y[row] if self.aims is None else predicted == self.aims[row]

    def gap(self, state: State, logits: Images) -> NDArray[np.float32]:
        """How far in logits a row is from getting there."""
        row = state["row"]
        return margin(logits, self.y[row]) if self.aims is None else -margin(logits, self.aims[row])


def walk(search: Search, size: int, early_stop: bool = True) -> Crafted:
    """Search every image; `size` images are asked about at once."""
    best, calls = search.clean.copy(), np.zeros(len(search.clean), np.int64)
    closest = np.full(len(best), np.inf, np.float32)
    waiting, state = deque((row, 0) for row in range(len(best))), State()
    while waiting or len(state["row"]):
        state = _filled(state, waiting, search, size)
        answer, row = search.ask(state), state["row"]
        calls[row] += 1
        hit = search.fooled(state, answer.logits)
        gap = np.where(hit, -np.inf, search.gap(state, answer.logits))
        # Without an early stop the latest success is the strongest.
        better = (gap < closest[row]) | hit
        best[row[better]], closest[row[better]] = state["x"][better], gap[better]
        leaving = (state["step"] >= search.steps) | (hit & early_stop)
        again = leaving & (closest[row] > -np.inf) & (state["run"] + 1 < search.runs)
        waiting.extend((int(r), int(n) + 1) for r, n in zip(row[again], state["run"][again], strict=True))
        search.move(state, answer)
        state["step"] += 1
        state = take(state, ~leaving) if leaving.any() else state
    return Crafted(best, calls)


def take(state: State, rows: NDArray[Any]) -> State:
    """The rows of a state."""
    return {name: column[rows] for name, column in state.items()}


def _filled(state: State, waiting: deque[tuple[int, int]], search: Search, size: int) -> State:
    """The state with its free places taken by waiting images."""
    free = size - len(state["row"]) if state else size
    if not waiting or free <= 0:
        return state
    rows, run = _columns(waiting.popleft() for _ in islice(range(len(waiting)), free))
    fresh = search.start(rows, run) | {"row": rows, "run": run, "step": np.zeros(len(rows), np.int64)}
    return {name: np.concatenate([state[name], fresh[name]]) for name in fresh} if state else fresh


def _columns(pairs: Iterable[tuple[int, int]]) -> tuple[Rows, Rows]:
    first, second = np.array(list(pairs), np.int64).T
    return first, second


def margin(logits: Images, classes: Labels) -> NDArray[np.float32]:
    """Logit of a class less the largest of the others, (n,): above 0 the class is predicted."""
    others = logits.copy()
    at = np.arange(len(logits)), classes
    others[at] = -np.inf
    return logits[at] - others.max(axis=1)


def direction(gradient: Images, norm: Norm) -> Images:
    """The steepest direction of length one in a norm: the sign, or the gradient over its length."""
    if norm == "inf":
        return np.sign(gradient)
    # By the largest first: the squares of a confident model's gradients vanish.
    largest = np.abs(gradient).max(axis=(1, 2, 3), keepdims=True)
    scaled = np.divide(gradient, largest, out=np.zeros_like(gradient), where=largest > 0)
    return np.asarray(scaled / np.maximum(lengths(scaled, "2"), 1e-12).reshape(-1, 1, 1, 1), np.float32)


def random_in_ball(streams: Streams, rows: Rows, shape: tuple[int, ...], eps: float, norm: Norm) -> Images:
    """Perturbations drawn uniformly from the ball of radius `eps`: (len(rows), *shape)."""
    if norm == "inf":
        return streams.uniform(rows, -eps, eps, shape)
    towards = direction(streams.normal(rows, shape), "2")
    radius = eps * streams.uniform(rows, 0, 1) ** (1 / math.prod(shape))
    return np.asarray(radius.reshape(-1, 1, 1, 1) * towards, np.float32)
