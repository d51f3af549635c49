"""The replay bank of a night is chosen before it starts, and takes no side."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from gauntlet.attacks import Fgsm
from gauntlet.evaluation.outcome import Attacked
from tasks.context import Context
from tasks.replay import bank_of, deposit, deposits, frozen
from tasks.store import connection, tracking


@pytest.fixture
def where(tmp_path: Path) -> Context:
    return Context(dataset="digits", tracking_uri=f"sqlite:///{tmp_path / 'mlflow.db'}")


def _attack(where: Context, weights: str, value: float, n: int) -> str:
    """An attack whose images, of one grey, fooled the model of these weights."""
    dataset = where.load()
    index, ones = np.arange(n), np.ones(n, bool)
    images = np.full((n, *dataset.input_shape), value, np.float32)
    with tracking.run("attack", where, dataset, name="attack") as run:
        facts = {"labels": dataset.y_test[:n], "predictions": dataset.y_test[:n] + 1, "losses": np.ones(n)}
        result = _result(index, ones, images, **facts)
        deposit(run, where, dataset, [result], weights)
    return run.id


def _result(index: np.ndarray, ones: np.ndarray, images: np.ndarray, **facts: np.ndarray) -> Attacked:
    from unittest.mock import Mock

    made = Mock(spec=Attacked)
    made.attack, made.eps, made.index, made.images, made.broken = Fgsm(), 0.1, index, images, ones
    made.configure_mock(**facts)
    return made


def test_what_was_made_against_either_side_is_left_out(where: Context) -> None:
    connection.connect(where.tracking_uri)
    first, second, third = (_attack(where, name, 0.1 * i, 10 * i) for i, name in enumerate("abc", 1))
    assert set(deposits(where)) == {first, second, third}
    assert frozen(where, ()) == (tuple(sorted((first, second, third))), 60)
    assert frozen(where, {"a", "c"}) == ((second,), 20)
    assert len(bank_of(frozen(where, {"b"})[0], where.load().input_shape)) == 40
    assert frozen(where, {"a", "b", "c"}) == ((), 0)


def test_what_is_known_is_not_kept_again(where: Context) -> None:
    connection.connect(where.tracking_uri)
    _attack(where, "a", 0.5, 10)
    _attack(where, "b", 0.5, 12)
    assert frozen(where, {"a"})[1] == 2
