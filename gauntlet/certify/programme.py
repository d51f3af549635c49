"""The image, the budget and the network as a mixed-integer linear program, solved by HiGHS through SciPy.

Tjeng, Xiao, Tedrake, Evaluating Robustness of Neural Networks with Mixed Integer Programming, ICLR 2019, section 4: a
unit whose sign follows from the bounds is linear; every other unit needs a variable that is 0 or 1.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any, NamedTuple

import numpy as np
import scipy.sparse as sp
import tensorflow as tf
from numpy.typing import NDArray
from scipy.optimize import Bounds as VariableBounds
from scipy.optimize import LinearConstraint, milp

from gauntlet.certify.bounds import Bounds
from gauntlet.certify.network import PADDING, Network, Step
from gauntlet.quiet import no_standard_output

Floats = NDArray[np.float64]

ROOM = 1e-4
"""Margin that a proof demands beyond rounding: HiGHS meets constraints to 1e-7 of a variable's scale only."""
SLACK = 1e-9
"""By which bounds of float64 are widened, relative to their size."""
ROWS = 256
"""Columns of a step's matrix that are found at once: bounds the memory."""
INFEASIBLE = 2
"""SciPy's status of a programme without a solution."""


class Affine(NamedTuple):
    """An affine step as matrices of its inputs, sparse (units, units of the input), and a constant (units,)."""

    matrices: list[Any]
    constant: Floats


class Sum(NamedTuple):
    """Values in terms of the variables v: `weights @ v + constant`; sparse (units, variables), and (units,)."""

    weights: Any
    constant: Floats

    def at(self, rows: Floats | NDArray[np.int64]) -> Sum:
        """Of some units only."""
        return Sum(self.weights[rows], self.constant[rows])

    def scaled(self, factors: Floats) -> Sum:
        """Each unit times a number."""
        return Sum(sp.diags(factors) @ self.weights, factors * self.constant)


def matrices(network: Network) -> list[Affine | None]:
    """The affine steps of a network as matrices, None of the others."""
    return [_matrices(network, step) if step.kind == "affine" else None for step in network.steps]


def _matrices(network: Network, step: Step) -> Affine:
    assert step.apply is not None  # nosec B101: of every affine step
    shapes = [network.steps[i].shape for i in step.inputs]
    zeros = [tf.zeros((1, *shape), tf.float64) for shape in shapes]
    constant = np.asarray(step.apply(*zeros)).ravel()
    return Affine([_matrix(step, zeros, place, constant) for place in range(len(shapes))], constant)


def _matrix(step: Step, zeros: list[Any], place: int, constant: Floats) -> Any:
    """Of one input: what each of its units adds to the outputs."""
    shape = zeros[place].shape[1:]
    size, parts = prod(shape), []
    for start in range(0, size, ROWS):
        unit = np.eye(min(ROWS, size - start), size, start).reshape(-1, *shape)
        given = [tf.repeat(zero, len(unit), axis=0) for zero in zeros]
        given[place] = tf.constant(unit)
        parts.append(sp.csr_matrix(np.asarray(step.apply(*given)).reshape(len(unit), -1) - constant))  # type: ignore[misc]
    return sp.vstack(parts, format="csr").T.tocsr()


class Programme:
    """All values that the network of one image can take within the budget; constraints are `low <= weights @ v`."""

    def __init__(self, network: Network, affine: Sequence[Affine | None], bounds: Sequence[Bounds]) -> None:
        """`bounds` are those of every step, of one image."""
        self.low, self.high, self.whole = list[Floats](), list[Floats](), list[bool]()
        self.rows: list[tuple[Any, Floats]] = []
        self.pixels = prod(network.steps[0].shape)
        boxes = [_wider(np.asarray(one.low).ravel(), np.asarray(one.high).ravel()) for one in bounds]
        sums = [self._variables(*boxes[0])]
        for number, step in enumerate(network.steps[1:], start=1):
            sums.append(
                self._step(step, affine[number], [sums[i] for i in step.inputs], [boxes[i] for i in step.inputs])
            )
        self.scores = sums[-1]

    @property
    def binaries(self) -> int:
        """Variables that are 0 or 1."""
        return sum(self.whole)

    def scores_of(self, x: Floats) -> Floats | None:
        """What the programme makes of an image (pixels,), (n_classes,); None when its constraints exclude the image."""
        low, high = np.concatenate(self.low), np.concatenate(self.high)
        low[: self.pixels] = high[: self.pixels] = x
        weights = sp.vstack([self._wide(rows) for rows, _ in self.rows], format="csr")
        known = LinearConstraint(weights, np.concatenate([low for _, low in self.rows]), np.inf)
        whole, nothing = np.array(self.whole, int), np.zeros(len(low))
        solution = _solved(nothing, integrality=whole, bounds=VariableBounds(low, high), constraints=known)
        return self._wide(self.scores.weights) @ solution.x + self.scores.constant if solution.success else None

    def reached(self, label: int, other: int, room: float, seconds: float) -> tuple[Floats | None, bool]:
        """Pixels where `label` leads `other` by at most `room`, if such were found; whether there are none.

        The least lead is searched for, for at most so many seconds.
        """
        lead = self._wide(self.scores.weights[label] - self.scores.weights[other])
        constant = self.scores.constant[label] - self.scores.constant[other]
        weights = sp.vstack([*(self._wide(rows) for rows, _ in self.rows), -lead], format="csr")
        low = np.concatenate([*(low for _, low in self.rows), [constant - room - ROOM]])
        solution = _solved(
            lead.toarray().ravel(),
            integrality=np.array(self.whole, int),
            bounds=VariableBounds(np.concatenate(self.low), np.concatenate(self.high)),
            constraints=LinearConstraint(weights, low, np.inf),
            options={"time_limit": seconds},
        )
        return (None if solution.x is None else solution.x[: self.pixels]), solution.status == INFEASIBLE

    def _step(self, step: Step, affine: Affine | None, given: list[Sum], boxes: list[tuple[Floats, Floats]]) -> Sum:
        if affine:
            weights = sum(matrix @ self._wide(one.weights) for matrix, one in zip(affine.matrices, given, strict=True))
            added = sum(matrix @ one.constant for matrix, one in zip(affine.matrices, given, strict=True))
            return Sum(sp.csr_matrix(weights), affine.constant + added)
        low, high = boxes[0]
        if step.kind == "max":
            return self._larger(given[0], given[1], boxes[1][0] - high, boxes[1][1] - low, boxes)
        steep = np.full(len(low), step.slope)
        bent = given[0].scaled(steep)
        lines = [boxes[0], (step.slope * low, step.slope * high)]
        return self._larger(given[0], bent, (step.slope - 1) * high, (step.slope - 1) * low, lines)

    def _larger(self, a: Sum, b: Sum, least: Floats, most: Floats, boxes: list[tuple[Floats, Floats]]) -> Sum:
        """The larger of two, whose difference b - a lies between `least` and `most`.

        m >= a, m >= b, m <= a + most (1 - s), m <= b - least s, with s = 1 where a is the larger.
        """
        open_ = np.flatnonzero((least < 0) & (most > 0))
        made = self._variables(*(np.maximum(*(box[end][open_] for box in boxes)) for end in (0, 1)))
        first = self._variables(np.zeros(len(open_)), np.ones(len(open_)), whole=True)
        a, b, made = (Sum(self._wide(one.weights), one.constant) for one in (a, b, made))
        down, up, m = a.at(open_), b.at(open_), made.weights
        for one in (down, up):
            self.rows.append((m - one.weights, one.constant))
        over, under = most[open_], least[open_]
        self.rows.append((down.weights - m - sp.diags(over) @ first.weights, -down.constant - over))
        self.rows.append((up.weights - m - sp.diags(under) @ first.weights, -up.constant))
        keep = [((most <= 0).astype(float), a), (((least >= 0) & (most > 0)).astype(float), b)]
        place = sp.csr_matrix((np.ones(len(open_)), (open_, np.arange(len(open_)))), (len(least), len(open_)))
        weights = sum((sp.diags(mask) @ one.weights for mask, one in keep), start=place @ m)
        return Sum(weights, np.sum([mask * one.constant for mask, one in keep], axis=0))

    def _variables(self, low: Floats, high: Floats, *, whole: bool = False) -> Sum:
        """New variables within bounds."""
        first, count = len(self.whole), len(low)
        self.low.append(low)
        self.high.append(high)
        self.whole += [whole] * count
        at = np.arange(count)
        return Sum(sp.csr_matrix((np.ones(count), (at, first + at)), (count, first + count)), np.zeros(count))

    def _wide(self, weights: Any) -> Any:
        """The same sums, of all variables that there are by now."""
        weights = sp.csr_matrix(weights)
        shape = weights.shape[0], len(self.whole)
        return sp.csr_matrix((weights.data, weights.indices, weights.indptr), shape)


def _solved(*objective: Any, **programme: Any) -> Any:
    """SciPy's `milp`; HiGHS prints lines of its own whatever it is told."""
    with no_standard_output():
        return milp(*objective, **programme)


def _wider(low: Floats, high: Floats) -> tuple[Floats, Floats]:
    """With room for float64's rounding; what stands beyond the edges of a pooling is a constant and needs none."""
    room = [np.where(np.abs(end) < -PADDING / 2, SLACK * (1 + np.abs(end)), 0.0) for end in (low, high)]
    return low - room[0], high + room[1]
