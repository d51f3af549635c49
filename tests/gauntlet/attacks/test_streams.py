"""Every image has its own random numbers."""

from __future__ import annotations

import numpy as np
import pytest

from gauntlet.attacks.streams import Streams

ROWS = np.arange(6)


def drawn(streams: Streams, rows: np.ndarray) -> list[np.ndarray]:
    return [streams.uniform(rows, -1, 1, (3, 2)), streams.normal(rows, (4,)), streams.seeds(rows)]


def test_an_image_draws_the_same_in_whatever_batch_it_stands() -> None:
    whole = drawn(Streams(0, ROWS, "pgd"), ROWS)
    some = drawn(Streams(0, np.array([4, 1]), "pgd"), np.arange(2))
    for all_rows, two_rows in zip(whole, some, strict=True):
        np.testing.assert_array_equal(all_rows[[4, 1]], two_rows)


def test_the_order_of_rows_does_not_matter() -> None:
    ahead, back = Streams(0, ROWS), Streams(0, ROWS)
    np.testing.assert_array_equal(ahead.uniform(ROWS, 0, 1), back.uniform(ROWS[::-1], 0, 1)[::-1])


def test_drawing_for_some_rows_leaves_the_others_alone() -> None:
    one, other = Streams(0, ROWS), Streams(0, ROWS)
    one.normal(ROWS[:3], (5,))
    np.testing.assert_array_equal(one.uniform(ROWS[3:], 0, 1), other.uniform(ROWS[3:], 0, 1))
    assert not np.array_equal(one.uniform(ROWS[:3], 0, 1), other.uniform(ROWS[:3], 0, 1))


@pytest.mark.parametrize("other", [Streams(1, ROWS, "pgd"), Streams(0, ROWS + 6, "pgd"), Streams(0, ROWS, "fab")])
def test_seed_position_and_purpose_set_draws_apart(other: Streams) -> None:
    assert not np.isin(Streams(0, ROWS, "pgd").uniform(ROWS, 0, 1), other.uniform(ROWS, 0, 1)).any()


def test_numbers_are_of_the_kind_that_was_asked_for() -> None:
    streams, rows = Streams(0, np.arange(50)), np.arange(50)
    uniform, normal = streams.uniform(rows, -2, 3, (40,)), streams.normal(rows, (40,))
    assert len(streams) == 50
    assert uniform.shape == normal.shape == (50, 40)
    assert uniform.dtype == normal.dtype == np.float32
    assert (uniform.min() >= -2, uniform.max() < 3) == (True, True)
    assert uniform.mean() == pytest.approx(0.5, abs=0.1)
    assert normal.std() == pytest.approx(1, abs=0.05)
    seeds = streams.seeds(rows)
    assert (seeds.min() >= 0, seeds.max() < 2**31, len(set(seeds.tolist()))) == (True, True, 50)


def test_no_rows_draw_nothing() -> None:
    assert Streams(0, ROWS).uniform(np.zeros(0, np.int64), 0, 1, (2, 2)).shape == (0, 2, 2)
