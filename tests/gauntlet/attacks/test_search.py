"""The walk that every iterative attack of ours takes, on a search whose answers are written down."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gauntlet.attacks.search import Search, State, direction, margin, random_in_ball, walk
from gauntlet.attacks.streams import Rows, Streams
from gauntlet.threat import ThreatModel, lengths


class Answer(NamedTuple):
    logits: np.ndarray


class Told(Search):
    """The gap of image i in run r after s steps is `gaps[i][r][s]`; its point is the number 100 i + 10 r + s."""

    def __init__(self, gaps: list[list[list[float]]], **settings: Any) -> None:
        n, runs, steps = np.shape(gaps)
        self.gaps = np.array(gaps, np.float32)
        self.batches: list[list[tuple[int, int, int]]] = []
        clean = np.full((n, 1, 1, 1), -1, np.float32)
        streams = Streams(0, np.arange(n))
        super().__init__(None, clean, np.zeros(n, np.int64), None, ThreatModel(eps=1), streams, steps - 1, runs)
        self.aims = settings.get("aims")

    def start(self, rows: Rows, run: Rows) -> State:
        return {"x": (100 * rows + 10 * run).reshape(-1, 1, 1, 1).astype(np.float32)}

    def ask(self, state: State) -> Answer:
        at = state["row"], state["run"], state["step"]
        self.batches.append(list(zip(*(part.tolist() for part in at), strict=True)))
        gaps = self.gaps[at]
        return Answer(np.stack([gaps, np.zeros_like(gaps)], axis=1))

    def move(self, state: State, answer: Answer) -> None:
        state["x"] = state["x"] + 1


def found(search: Told, size: int = 10, early_stop: bool = True) -> tuple[list[float], list[int]]:
    crafted = walk(search, size, early_stop)
    return crafted.images.ravel().tolist(), crafted.calls.tolist()


def test_the_best_point_is_kept_not_the_last() -> None:
    assert found(Told([[[3, 1, 2]]])) == ([1], [3])


def test_the_best_of_all_runs_is_kept() -> None:
    assert found(Told([[[3, 2], [5, 1], [4, 4]]])) == ([11], [6])


def test_a_fooled_image_leaves_and_is_not_started_again() -> None:
    assert found(Told([[[1, -1, -9], [-9, -9, -9]]])) == ([1], [2])


def test_only_images_that_are_not_fooled_start_again() -> None:
    search = Told([[[1, -1], [1, 1]], [[1, 1], [1, -1]], [[1, 1], [1, 1]]])
    assert found(search)[1] == [2, 4, 4]
    assert {(row, run) for batch in search.batches for row, run, _ in batch} == {(0, 0), (1, 0), (1, 1), (2, 0), (2, 1)}


def test_without_an_early_stop_the_latest_success_is_kept() -> None:
    images, calls = found(Told([[[1, -5, -1, 2], [-9, -9, -9, -9]]]), early_stop=False)
    assert (images, calls) == ([2], [4])


def test_who_leaves_makes_room_for_who_waits() -> None:
    gaps = [[[1.0, -1.0, -1.0] if row % 2 else [1.0, 1.0, 1.0]] for row in range(9)]
    search = Told(gaps)
    assert found(search, size=4)[1] == [3, 2, 3, 2, 3, 2, 3, 2, 3]
    sizes = [len(batch) for batch in search.batches]
    assert max(sizes) == 4
    waiting = [9 - len({row for batch in search.batches[: n + 1] for row, _, _ in batch}) for n in range(len(sizes))]
    assert all(size == 4 for size, left in zip(sizes, waiting, strict=True) if left)
    assert sum(sizes) == 4 * 2 + 5 * 3


def test_a_target_counts_when_it_is_hit_alone() -> None:
    # The gap is of class 0: aimed at, it is hit where it is above 0.
    assert found(Told([[[-2, -1, 1, 5]]], aims=np.array([0]))) == ([2], [3])
    assert found(Told([[[-2, -1, -3, -5]]], aims=np.array([0]))) == ([1], [4])


@given(
    st.integers(1, 12), st.integers(1, 3), st.integers(1, 5), st.integers(1, 9), st.booleans(), st.integers(0, 2**31)
)
def test_the_size_of_the_batches_changes_nothing(
    n: int, runs: int, steps: int, size: int, early_stop: bool, seed: int
) -> None:
    gaps = np.random.default_rng(seed).normal(0.8, 1, (n, runs, steps)).tolist()
    assert found(Told(gaps), size, early_stop) == found(Told(gaps), 100, early_stop)


def test_margins_are_above_zero_where_the_class_is_predicted() -> None:
    logits = np.array([[3, 1, 2], [3, 1, 2]], np.float32)
    np.testing.assert_array_equal(margin(logits, np.array([0, 2])), [1, -1])
    np.testing.assert_array_equal(logits, [[3, 1, 2], [3, 1, 2]])


@pytest.mark.parametrize("norm", ["inf", "2"])
def test_directions_have_length_one_but_for_no_gradient(norm: Any) -> None:
    gradient = np.random.default_rng(0).normal(size=(5, 4, 4, 1)).astype(np.float32)
    gradient[2] = 0
    towards = direction(gradient, norm)
    np.testing.assert_allclose(lengths(towards, norm), [1, 1, 0, 1, 1], rtol=1e-6)
    assert ((towards * gradient).sum(axis=(1, 2, 3)) >= 0).all()
    assert towards.dtype == np.float32


@pytest.mark.parametrize("norm", ["inf", "2"])
def test_random_points_fill_the_ball(norm: Any) -> None:
    rows = np.arange(400)
    drawn = random_in_ball(Streams(0, rows), rows, (2, 1, 1), 0.5, norm)
    sizes = lengths(drawn, norm)
    assert sizes.max() <= 0.5 + 1e-6
    # In two dimensions a quarter of the ball's area lies within half its radius.
    assert (sizes < 0.25).mean() == pytest.approx(0.25, abs=0.06)
    assert drawn.dtype == np.float32
